"""What an event camera would see of Pong, instead of grey pictures.

``emulator.levels`` shows the network four pictures. Here each pair of neighbours among the four goes through
the DVS pixels of lesson 04, and the network gets the counts of their events: 3 pairs, 2 polarities. The
pixels are without noise and all alike, and each pair stands alone: the camera starts anew on the pair's
first picture. So a pixel's answer depends on two greys only,

    events = floor(|log(after) - log(before)| / threshold),  ON if it got brighter, else OFF,

and all 256 x 256 answers are looked up in a table that lesson 04's camera fills once (``answers``).

What this view leaves out: a ball or paddle that rests sends nothing, so where the own paddle waits is not in
it; the remainder below a threshold is lost with each pair; and the camera is only as fast as the pictures, 15
a second, where a real one would follow the ball between them. At the start of a game the stack is padded with
black pictures: then the whole court lights up and sends 15, the most; that pair is shown for three decisions.
"""

import functools

from snn_course.events import camera as dvs
from snn_course.pong.emulator import COURT, POOL, SHAPE, STACK, Frames

import numpy as np
import numpy.typing as npt
import torch

PAIRS = STACK - 1
CHANNELS = ("oldest ON", "oldest OFF", "middle ON", "middle OFF", "latest ON", "latest OFF")
"""Order of the channels: pair after pair, in each ON before OFF; the latest pair is the last."""
PIXEL = dvs.IDEAL
"""No mismatch, noise, low-pass or refractory period: nothing is left over from before a pair."""
MOST = 15
"""Largest count: the chip takes 4 bits."""


@functools.cache
def answers(pixel: dvs.Pixel) -> npt.NDArray[np.int16]:
    """Give a pixel's events for each two greys, int16 [256, 256], [before, after]: ON counts > 0, OFF < 0.

    One camera of 256 x 256 pixels sees them all: row r turns from grey r to each of the other greys.
    """
    after, before = np.meshgrid(np.arange(256), np.arange(256))
    stream = dvs.record(dvs.DvsCamera(pixel), (before, after), fps=15)
    table = np.zeros((256, 256), dtype=np.int16)
    np.add.at(table, (stream["y"], stream["x"]), np.where(stream["p"], 1, -1))
    return table


def events(frames: Frames, pixel: dvs.Pixel = PIXEL) -> torch.Tensor:
    """Give the events of frames [B, 5, 84, 84] as the network sees them: uint8 [B, 6, rows, columns], 0..15.

    Counts of the court's pixels, pooled as the pictures are and clipped; channels as in ``CHANNELS``.

    Args:
        frames: four grey pictures, the latest last; the plane of the last action is not looked at.
        pixel: its thresholds; the rest of it should be that of ``PIXEL``, or a pair does not stand alone.
    """
    court = np.ascontiguousarray(frames[:, :STACK, COURT])
    before, after = court[:, :-1].ravel(), court[:, 1:].ravel()
    moved = np.flatnonzero(before != after)  # few: most of the court is at rest
    count = answers(pixel)[before[moved], after[moved]]
    shape = (len(frames) * PAIRS, *court.shape[2:])
    pair, y, x = np.unravel_index(moved, shape)  # game b has the pairs number 3 b, 3 b + 1 and 3 b + 2
    rows, columns = SHAPE[1:]
    channel = 2 * pair + (count < 0)
    place = (channel * rows + y // POOL[0]) * columns + x // POOL[1]
    size = len(frames) * 2 * PAIRS * rows * columns
    binned = np.bincount(place, weights=np.abs(count), minlength=size)  # exact: sums of small integers
    seen = np.minimum(binned, MOST).astype(np.uint8)
    return torch.from_numpy(seen.reshape(len(frames), 2 * PAIRS, rows, columns))
