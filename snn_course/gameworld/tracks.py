"""The streaming track: an agent watches its own channel of pictures, and decides at each frame.

A life begins with a reset and ends with a crash, or at the highest target. GameWorld's five tasks ask for 100
to 800 points; a life that passes a target has reached it. So each life is one run of each task, under a rule
that is harder than the benchmark's: there a crash is forgiven, here it ends the run. It is easier in that
there is no limit of 100 steps.

    Progress = min(1, points / target)            Success Rate = share of runs that reached their target
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from snn_course.gameworld.environment import Game
from snn_course.gameworld.imitate import HOLD, label
from snn_course.gameworld.oracle import State
from snn_course.gameworld.players import Finger, Policy

import numpy as np

TARGETS = (100, 200, 400, 600, 800)
"""Points that the tasks 07_01 to 07_05 of GameWorld ask for."""
ASKED, PATIENCE = 12, 1.0
"""Frames between two looks of the evaluator at the score; seconds, where frames take that long."""


@dataclass
class Life:
    """One life, and what its loop took. Times in seconds, one for each frame."""

    score: int = 0
    crashed: bool = False
    seconds: float = 0.0
    frames: int = 0
    missed: int = 0
    age: list[float] = field(default_factory=list)
    inference: list[float] = field(default_factory=list)
    work: list[float] = field(default_factory=list)
    loop: list[float] = field(default_factory=list)


def live(game: Game, policy: Policy, most: int = TARGETS[-1], longest: float = 300.0) -> Life:
    """Play one life.

    Args:
        game: is reset first.
        policy: is given pictures alone.
        most: points at which the life ends, uncrashed.
        longest: seconds after which it ends as it stands.
    """
    game.reset()
    policy.begin()
    life, begun = Life(), time.perf_counter()
    number, before, asked = None, begun, begun
    finger = Finger()
    while True:
        frame = game.observe()
        seen = time.perf_counter()
        life.age.append(time.time() - frame.drawn)
        press = policy.decide(frame.picture)
        decided = time.perf_counter()
        if finger.presses(press):
            game.press(HOLD)
        life.inference.append(decided - seen)
        life.work.append(life.age[-1] + time.perf_counter() - seen)
        life.loop.append(seen - before)
        life.missed += frame.number - number - 1 if number is not None else 0
        number, before = frame.number, seen
        life.frames += 1
        now = time.perf_counter()
        if life.frames % ASKED == 0 or now - asked > PATIENCE:
            asked = now
            status = game.status()
            life.score, life.crashed = status.score, status.crashed
            life.seconds = now - begun
            if status.crashed or status.score >= most or life.seconds > longest:
                return life


def progress(score: float, target: float) -> float:
    """Give GameWorld's Progress of a run that began at 0 points."""
    return min(1.0, max(0.0, score / target))


def rates(scores: Sequence[float]) -> tuple[float, float]:
    """Give Success Rate and Progress, in %, of lives over all targets."""
    reached = [score >= target for target in TARGETS for score in scores]
    covered = [progress(score, target) for target in TARGETS for score in scores]
    return 100 * float(np.mean(reached)), 100 * float(np.mean(covered))


def oracle_life(game: Game, read: Callable[[], State], most: int = TARGETS[-1]) -> tuple[int, bool]:
    """Let the oracle play one life: it reads each frame's state. Returns: score, and whether it crashed."""
    game.reset()
    while True:
        if label(read()):
            game.press(HOLD)
        status = game.status()
        if status.crashed or status.score >= most:
            return status.score, status.crashed
