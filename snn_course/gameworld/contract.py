"""The contract track: one screenshot in, one action out, at most 100 steps, and the world does not wait.

This is GameWorld's loop in real time: the window as a PNG; the agent's answer, however long it takes; the
action, which blocks while its key is down; 0.05 s of sleep. A crash starts the game again within the same 100
steps, and the best score counts.
"""

import time
from dataclasses import dataclass, field
from typing import Protocol

from snn_course.gameworld import imagine, retina
from snn_course.gameworld.environment import Status
from snn_course.gameworld.network import Spiking
from snn_course.gameworld.runner import STEPS_A_SECOND, Picture
from snn_course.gameworld.sight import Sight

import numpy as np

MOST_STEPS = 100
HOLD = 0.25
"""Seconds for which GameWorld's jump keeps its key down."""
SLEEP = 0.05
PAUSE = 0.3
"""Seconds of a wait, where nothing is due within the 0.7 s that were imagined."""
AGE = 0.03
"""Seconds, about, by which a screenshot is old when it arrives."""
FLIGHT = 0.56
"""Seconds of a jump; in the air a key does nothing."""
STILL = 0.3
"""Mean change of ink below which nothing has moved."""


@dataclass(frozen=True)
class Action:
    """Press the jump key for so many seconds, or wait so long."""

    press: bool
    seconds: float


class Answerer(Protocol):
    """Someone who is shown one screenshot and gives one action."""

    def act(self, png: bytes) -> Action:
        """Answer; the time that it takes passes in the game, too."""


class Gazer:
    """The spiking agent: its first spike says when, and it keeps its answer until then."""

    def __init__(self, net: Spiking) -> None:
        self.net, self.sight, self.odometer = net, Sight(), imagine.Odometer()
        self.left: int | None = None
        self.last: Picture | None = None
        self.lands = 0.0
        self.thinking: list[float] = []
        self.waiting: list[float] = []

    def act(self, png: bytes) -> Action:
        """Look, and answer when the moment has come. A world that stands still is started with a press."""
        arrived = time.perf_counter()
        ink = self.sight.ink(png)
        if ink is None:
            return Action(press=False, seconds=PAUSE)
        still = self.last is not None and np.abs(ink.astype(int) - self.last).mean() < STILL
        if self.left is None or still:
            self.left = retina.aim(retina.pooled(ink))
        begins = still or self.last is None
        self.last = ink
        speed = self.odometer.read(ink, arrived)
        if begins:
            return self._press(arrived)
        frames = imagine.first_spike(self.net, ink, self.left, speed)
        self.thinking.append(time.perf_counter() - arrived)
        if frames is None:
            return Action(press=False, seconds=PAUSE)
        return self._press(max(arrived - AGE + frames / STEPS_A_SECOND, self.lands))

    def _press(self, moment: float) -> Action:
        """Wait for the moment, which is not before the runner has landed."""
        left = max(0.0, moment - time.perf_counter())
        self.waiting.append(left)
        time.sleep(left)
        self.lands = time.perf_counter() + FLIGHT
        return Action(press=True, seconds=HOLD)


class Always:
    """Gives the same action, whatever it sees."""

    def __init__(self, press: bool) -> None:
        self.action = Action(press, HOLD)

    def act(self, _png: bytes) -> Action:
        """Answer at once."""
        return self.action


class Slow:
    """Another answerer with added think time: it looks, thinks, and answers too late."""

    def __init__(self, answerer: Answerer, seconds: float) -> None:
        self.answerer, self.seconds = answerer, seconds

    def act(self, png: bytes) -> Action:
        """Answer as the other would, after the think time; what it would hold back counts towards it."""
        begun = time.perf_counter()
        action = self.answerer.act(png)
        time.sleep(max(0.0, self.seconds - (time.perf_counter() - begun)))
        return action


class Window(Protocol):
    """A game that can be shown as a screenshot."""

    def reset(self) -> None:
        """Start anew."""

    def screenshot(self) -> bytes:
        """Give the window as a PNG."""

    def hold(self, seconds: float) -> None:
        """Keep the jump key down for so long."""

    def status(self) -> Status:
        """Read score and crash: for the evaluator."""


@dataclass
class Task:
    """One run of a task: GameWorld's measures, and what each step took in seconds, without a new start."""

    best: int = 0
    steps: int = 0
    attempts: int = 1
    seconds: float = 0.0
    step: list[float] = field(default_factory=list)
    shot: list[float] = field(default_factory=list)


def run_task(
    game: Window, agent: Answerer, target: int, most: int = MOST_STEPS, longest: float = 600.0
) -> Task:
    """Run one task: until the target is reached, or the steps (or ``longest`` seconds) are used up."""
    game.reset()
    task, begun = Task(), time.perf_counter()
    while task.steps < most and task.best < target and task.seconds < longest:
        at = time.perf_counter()
        png = game.screenshot()
        task.shot.append(time.perf_counter() - at)
        action = agent.act(png)
        if action.press:
            game.hold(action.seconds)
        else:
            time.sleep(action.seconds)
        status = game.status()
        task.steps += 1
        task.best = max(task.best, status.score)
        took = time.perf_counter() - at
        if status.crashed and task.best < target:
            task.attempts += 1
            game.reset()  # how long a page takes for it says nothing about the agent
        time.sleep(SLEEP)
        task.step.append(took + SLEEP)
        task.seconds = time.perf_counter() - begun
    return task
