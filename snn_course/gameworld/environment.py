"""What a game is to an agent: pictures come out, a key goes in. The score is for the evaluator alone."""

from dataclasses import dataclass
from typing import Protocol

from snn_course import UsageError
from snn_course.gameworld.runner import Picture


class Lost(UsageError):
    """The game has gone: its browser died, hangs, or never showed the page. The message is one line."""


@dataclass(frozen=True)
class Frame:
    """What an agent gets.

    picture: ink [36, 150]. drawn: when it was drawn, seconds (``time.time``). number: of the frame; where it
    rises by more than 1, frames were missed.
    """

    picture: Picture
    drawn: float
    number: int


@dataclass(frozen=True)
class Status:
    """What an evaluator gets, and no agent."""

    score: int
    crashed: bool


class Game(Protocol):
    """One runner game, in whatever place it runs. Each method raises ``Lost`` when the game has gone."""

    def reset(self) -> None:
        """Start anew, with the runner running."""

    def observe(self) -> Frame:
        """Wait for the next frame."""

    def press(self, hold: float) -> None:
        """Press the jump key, for ``hold`` seconds; it is released by itself."""

    def status(self) -> Status:
        """Read score and crash: for the evaluator."""

    def close(self) -> None:
        """Leave no process and no port behind."""
