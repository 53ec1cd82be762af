"""The time of one whole decision, from the emulator's picture to the action, in parts.

    preprocess   the last two grey screens [210, 160] -> their maximum -> [84, 84]
    stack        -> the latest four and the last action -> levels uint8 [1, 6, rows, columns]
    encode       -> what the network takes: a tensor on its device, bytes in the chip's order, time steps
    network      -> Q of the three actions
    decode       -> the best action -> ALE's number

A live game gives one picture at a time, so all is timed at batch 1: a large batch would tell how many
decisions a second a machine makes, not how long one takes. The emulation of the frames, up to the grey
screens, is not in it: that is the game's time, not the agent's. The frames are those of a real game, which
the timed agent plays.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from snn_course import UsageError
from snn_course.akida_bridge.chip import to_frames
from snn_course.costs import latency as costs
from snn_course.pong.emulator import ACTIONS, SIDE, STACK, STICKY, See, levels, single

import cv2
import numpy as np
import numpy.typing as npt
import torch

PARTS = ("preprocess", "stack", "encode", "network", "decode")
WHOLE = "whole decision"

Picture = npt.NDArray[np.uint8]
Screens = tuple[Picture, Picture]
"""The last two grey screens [210, 160] of the emulator, the latest first."""
Seconds = npt.NDArray[np.float64]

# ---------------------------------------------------------------------- what all agents share


def preprocess(screens: Screens) -> Picture:
    """Turn two screens into a picture [84, 84], as Gymnasium's AtariPreprocessing does.

    The maximum of two: the Atari draws some things in every other frame only (Mnih et al. 2015, methods).
    """
    return cv2.resize(np.maximum(*screens), (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.uint8)


class Stack:
    """The latest four pictures, a game starts with three of zeros; and what was done last."""

    def __init__(self, see: See = levels) -> None:
        self.see = see
        self.frames = np.zeros((1, STACK + 1, SIDE, SIDE), np.uint8)

    def push(self, picture: Picture, last: int) -> torch.Tensor:
        """Take the latest picture [84, 84] and ALE's number of the last action. Returns: what is seen."""
        pictures = self.frames[0, :STACK]
        pictures[:-1] = pictures[1:]
        pictures[-1] = picture
        self.frames[0, STACK] = last
        return self.see(self.frames)


class Game:
    """Pong frame by frame, without Gymnasium's wrappers, so that an agent's own work can be timed.

    Raises: UsageError where ale-py or the ROM is missing.
    """

    def __init__(self, seed: int, sticky: float = STICKY) -> None:
        self.env = single(sticky, noop_max=0).unwrapped
        self.start(seed)

    def start(self, seed: int | None = None) -> None:
        """Start an episode: one screen, and nothing before it."""
        self.env.reset(seed=seed)
        self.over, latest = False, self.env.ale.getScreenGrayscale()
        self.screens: Screens = latest, np.zeros_like(latest)

    def step(self, action: int) -> None:
        """Play four frames with ALE's ``action`` and keep the screens of the last two."""
        for _ in range(4):
            _, _, ended, cut, _ = self.env.step(action)
            self.screens = self.env.ale.getScreenGrayscale(), self.screens[0]
            self.over = self.over or ended or cut


# ---------------------------------------------------------------------- backends


@dataclass(frozen=True)
class Backend:
    """One way to compute Q. ``measure`` times the three parts apart.

    encode: from levels uint8 [1, C, rows, columns] to what ``network`` takes. network: to the values of the
    actions; it returns when they are there. decode: to ALE's number of the best action.
    """

    name: str
    encode: Callable[[torch.Tensor], Any]
    network: Callable[[Any], Any]
    decode: Callable[[Any], int]


def torch_backend(name: str, net: torch.nn.Module, device: torch.device | str = "cpu") -> Backend:
    """Run a module, from levels float32 [1, C, rows, columns] to Q [1, 3], on a device; it is moved there."""
    place = torch.device(device)
    net.to(place).eval()

    def wait(x: torch.Tensor) -> torch.Tensor:
        if place.type == "cuda":
            torch.cuda.synchronize(place)  # else we would time how fast work is queued
        return x

    def network(x: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return wait(net(x))

    return Backend(name, lambda x: wait(x.to(place, torch.float32)), network, _best_of_tensor)


def akida_backend(name: str, model: Any) -> Backend:
    """Run an akida.Model, from ``akida_bridge.to_akida``; on a card the mapped one.

    Without a card this is akida's simulator: its time is the host's and says nothing about the chip.
    """
    return Backend(name, to_frames, model.predict, _best_of_array)


def _best_of_tensor(q: torch.Tensor) -> int:
    return int(ACTIONS[int(q.argmax())])


def _best_of_array(q: npt.NDArray[np.float32]) -> int:
    return int(ACTIONS[int(q.argmax())])


# ---------------------------------------------------------------------- measure


def measure(
    backend: Backend,
    decisions: int = 300,
    warm_up: int = 20,
    seed: int = 0,
    see: See = levels,
) -> dict[str, Seconds]:
    """Time the decisions of a live game, after some that do not count.

    Args:
        backend: what decides.
        decisions: how many are timed.
        warm_up: how many come before; the first ones allocate memory and load code.
        seed: of the game.
        see: from frames [1, 5, 84, 84] to what it takes.

    Returns: for each part, and for the whole decision, seconds [decisions].
    Raises: UsageError when there is nothing to time, or ale-py or the ROM is missing.
    """
    if decisions < 1 or warm_up < 0:
        raise UsageError("give at least one decision to time, and no fewer than 0 to warm up")
    game, stack, clock = Game(seed), Stack(see), []
    action = 0
    for _ in range(warm_up + decisions):
        action, marks = _decide(backend, stack, game.screens, action)
        clock.append(marks)
        game.step(action)
        if game.over:
            game.start()
            stack, action = Stack(see), 0
    times = np.array(clock[warm_up:])  # [decisions, parts + 1]
    found = dict(zip(PARTS, np.diff(times).T, strict=True))
    return found | {WHOLE: times[:, -1] - times[:, 0]}


def _decide(backend: Backend, stack: Stack, screens: Screens, last: int) -> tuple[int, list[float]]:
    """Take one decision after the ``last`` action.

    Returns: ALE's action; the time before the first part and after each one.
    """
    now = time.perf_counter
    marks = [now()]
    picture = preprocess(screens)
    marks.append(now())
    seen = stack.push(picture, last)
    marks.append(now())
    given = backend.encode(seen)
    marks.append(now())
    q = backend.network(given)
    marks.append(now())
    action = backend.decode(q)
    marks.append(now())
    return action, marks


Row = tuple[str, float, float, float]


def percentiles(parts: Mapping[str, Seconds]) -> list[Row]:
    """Summarise what ``measure`` gave: (part, p50, p95, p99) in ms, the whole decision last.

    The parts' medians add up to the whole's only roughly: their slow moments need not coincide.
    """
    return [(name, *costs.percentiles(list(seconds))) for name, seconds in parts.items()]
