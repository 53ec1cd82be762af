"""Watch the agent play: the screen, its events, each layer's spikes, and the membrane that jumps."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snn_course.runs import figures
from snn_course import UsageError, safe_write
from snn_course.gameworld import retina
from snn_course.gameworld.imitate import HOLD
from snn_course.gameworld.network import Spiking, State
from snn_course.gameworld.players import SETTLED, Finger
from snn_course.gameworld.runner import STEPS_A_SECOND, Picture
from snn_course.gameworld.twin import Twin

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw, ImageFont

WIDTH, HEIGHT = 720, 400
"""Size of a picture, pixels. Even, as video codecs want it."""
SHOWN = 3
"""Every third frame is drawn: 20 a second."""
RIGHT = 400
"""Where the right column begins."""
DARK, PALE = "#202020", "#D8D8D8"
LOW, HIGH = -1.5, 2.0
"""Bounds of the membrane that is drawn."""
FAST_FROM = 3500
"""Steps that the speed of the clip's game is ahead: 9.5 pixels a step, and birds fly."""
FONT = ImageFont.load_default(13)


@dataclass(frozen=True)
class Moment:
    """One frame: ink [150, 600], events [2, 32, 96], spikes of each layer, the last membrane, the score."""

    ink: Picture
    events: npt.NDArray[Any]
    spikes: list[npt.NDArray[Any]]
    membrane: float
    score: int


def record(path: Path, net: Spiking, seed: int, seconds: float) -> list[Moment]:
    """Let the agent play a seed of the course's game, and keep some seconds of it as a GIF or MP4.

    Returns: what was drawn. Raises: UsageError for another ending.
    """
    if path.suffix.lower() not in {".gif", ".mp4"}:
        raise UsageError(f"{path}: a clip ends in .gif or .mp4.")
    moments = play(net, seed, round(seconds * STEPS_A_SECOND))
    shown = range(0, len(moments), SHOWN)
    membranes = [moment.membrane for moment in moments]
    pictures = [_picture(moments[at], membranes[max(0, at - 120) : at + 1]) for at in shown]
    with safe_write.aside(path) as part:
        _write(part, pictures)
    return [moments[at] for at in shown]


@torch.inference_mode()
def play(net: Spiking, seed: int, frames: int, wait: int = 150) -> list[Moment]:
    """Play a game at speed, and give its frames after ``wait`` of them; all, where it crashes before."""
    twin = Twin(seed)
    twin.game.skip(FAST_FROM)
    eye, finger = retina.Eye(), Finger()
    state: State | None = None
    moments = list[Moment]()
    for number in range(wait + frames):
        picture = twin.observe().picture
        if number < SETTLED:
            eye = retina.Eye(retina.aim(picture))
            continue
        events = eye.see(picture)
        layers = net.layers(torch.from_numpy(events)[None, None], state)
        state = [mem[-1] for _, mem in layers]
        membrane = float(layers[-1][1])
        if finger.presses(membrane > 1):
            twin.press(HOLD)
        spikes = [spk[0, 0].numpy() for spk, _ in layers[:-1]]
        moments.append(Moment(twin.game.ink(), events, spikes, membrane, twin.game.score))
        if twin.game.crashed:
            break
    return moments[wait - SETTLED :] or moments


# ====================================================================== drawing


def _picture(moment: Moment, past: list[float]) -> Picture:
    image = Image.new("RGB", (WIDTH, HEIGHT), "white")
    pen = ImageDraw.Draw(image)
    _text(pen, (8, 4), "A spiking network plays the course's runner from its pixels")
    _text(pen, (WIDTH - 8, 4), f"{moment.score:,} points", anchor="ra")
    screen = Image.fromarray(255 - moment.ink).convert("RGB").resize((WIDTH, 180), Image.Resampling.BOX)
    image.paste(screen, (0, 24))
    _text(pen, (8, 208), "It sees events:")
    _text(pen, (104, 208), "ON", colour=figures.BLUE)
    _text(pen, (132, 208), "OFF", colour=figures.ORANGE)
    _text(pen, (392, 208), "last membrane: above the line it jumps", anchor="ra", colour=figures.RED)
    image.paste(Image.fromarray(_eye(moment.events)), (8, 226))
    pen.rectangle((7, 225, 8 + 384, 226 + 128), outline=PALE)
    _membrane(pen, past)
    y = 208
    for number, spikes in enumerate(moment.spikes, 1):
        count = int(spikes.sum())
        kind = "convolution" if spikes.ndim == 3 else "dense layer"
        _text(pen, (RIGHT, y), f"Layer {number}, {kind}: {count} of {spikes.size:,} neurons fire")
        tiles = _tiles(spikes)
        image.paste(Image.fromarray(tiles), (RIGHT, y + 17))
        y += 17 + len(tiles) + 6
    return np.asarray(image)


def _eye(events: npt.NDArray[Any]) -> Picture:
    """Draw events [2, 32, 96] four times as large."""
    on, off = events[..., None] > 0
    drawn = np.where(on, _rgb(figures.BLUE), np.where(off, _rgb(figures.ORANGE), _rgb("#F6F6F6")))
    return drawn.repeat(4, axis=0).repeat(4, axis=1)


def _tiles(spikes: npt.NDArray[Any]) -> Picture:
    """Draw the spikes of a layer, [C, rows, columns] or [N], as dark dots on pale tiles."""
    if spikes.ndim == 1:
        grid = np.pad(spikes, (0, -len(spikes) % 64)).reshape(-1, 64).repeat(5, axis=0).repeat(5, axis=1)
        return np.where(grid[..., None] > 0, _rgb(figures.RED), _rgb("#EEEEEE"))
    across = 3 if spikes.shape[2] > 30 else 6
    side = 4 if spikes.shape[2] < 20 else 2
    count = min(len(spikes), 2 * across)
    big = spikes[:count].repeat(side, axis=1).repeat(side, axis=2)
    big = np.pad(big, ((0, 2 * across - count), (0, 2), (0, 2)), constant_values=2)
    rows = big.reshape(2, across, *big.shape[1:]).swapaxes(1, 2).reshape(2 * big.shape[1], -1)
    shades = np.stack([_rgb("#EEEEEE"), _rgb(figures.RED), _rgb("#FFFFFF")])
    return shades[rows.astype(int)]


def _membrane(pen: ImageDraw.ImageDraw, past: list[float]) -> None:
    """Draw the last two seconds of the membrane under the events."""
    top, bottom, left = 358, 398, 8

    def height(value: float) -> float:
        return bottom - (bottom - top) * (min(HIGH, max(LOW, value)) - LOW) / (HIGH - LOW)

    pen.line((left, height(1), left + 384, height(1)), fill=figures.RED)
    points = [(left + 384 * (120 - len(past) + at) / 120, height(value)) for at, value in enumerate(past)]
    if len(points) > 1:
        pen.line(points, fill=DARK, width=2)


def _rgb(colour: str) -> Picture:
    return np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)], dtype=np.uint8)


def _text(
    pen: ImageDraw.ImageDraw, at: tuple[float, float], line: str, anchor: str = "la", colour: str = DARK
) -> None:
    pen.text(at, line, colour, font=FONT, anchor=anchor)


def _write(part: Path, pictures: list[Picture]) -> None:
    if part.suffix.lower() == ".mp4":
        import imageio.v2 as imageio

        imageio.mimwrite(part, [*pictures], fps=STEPS_A_SECOND / SHOWN, macro_block_size=2)
        return
    palette = Image.fromarray(pictures[len(pictures) // 2]).quantize(64, dither=Image.Dither.NONE)
    first, *rest = (Image.fromarray(p).quantize(palette=palette, dither=Image.Dither.NONE) for p in pictures)
    first.save(part, save_all=True, append_images=rest, duration=50, loop=0, optimize=True)
