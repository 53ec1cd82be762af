"""From the course's page to another: a few minutes of play there, labelled by the oracle.

The oracle reads the page's own objects, the student sees pictures. Both play in turn, one life each: so the
student is taught in good situations and in those that its mistakes lead to. What was seen is mixed with play
on the course's own game, so that the old one is not forgotten.
"""

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from snn_course.runs import checkpoints
from snn_course import UsageError
from snn_course.gameworld import imitate, retina
from snn_course.gameworld.environment import Frame, Game
from snn_course.gameworld.oracle import State
from snn_course.gameworld.players import SETTLED, Finger, Policy
from snn_course.gameworld.runner import Picture
from snn_course.runs.run import Run

import numpy as np
import torch


@dataclass
class Life:
    """What was seen in one life: pictures [36, 150], and what the oracle said to each."""

    pictures: list[Picture] = field(default_factory=list)
    wanted: list[float] = field(default_factory=list)
    score: int = 0
    led: bool = False
    seconds: float = 0.0
    whole: bool = False
    """Whether it ended by itself, not by the clock: only then its score counts."""


def live(
    game: Game,
    look: Callable[[], tuple[Frame, State]],
    policy: Policy,
    seconds: float,
    led: bool,
    most: int = 1000,
) -> Life:
    """Play one life.

    Args:
        game: in real time.
        look: waits for the next frame; gives what the student sees, and what the oracle reads.
        policy: the student.
        seconds: after which it is cut off.
        led: the oracle holds the key, not the student.
        most: points at which the life ends.
    """
    life, begun, finger = Life(led=led), time.monotonic(), Finger()
    game.reset()
    policy.begin()
    while not life.whole and life.seconds < seconds:
        frame, state = look()
        life.pictures.append(frame.picture)
        life.wanted.append(imitate.wanted(state))
        press = policy.decide(frame.picture)
        if finger.presses(life.wanted[-1] > 1 if led else press):
            game.press(imitate.HOLD)
        if len(life.pictures) % 12 == 0:
            status = game.status()
            life.score = status.score
            life.whole = status.crashed or status.score >= most
        life.seconds = time.monotonic() - begun
    return life


NOTHING: dict[str, Any] = {"events": [], "said": [], "lives": []}
"""What ``joined`` adds to, in a form that ``Run.save`` keeps: "events" and "said", a tensor for each life
that is long enough to learn from, and "lives", what happened in each."""


def joined(kept: dict[str, Any], life: Life) -> dict[str, Any]:
    """Add a life to what was recorded before, and take its time from what is "left": seconds of play."""
    told: dict[str, Any] = {"score": life.score, "frames": len(life.pictures), "led": life.led}
    told |= {"seconds": life.seconds, "whole": life.whole}
    more: dict[str, Any] = {"lives": [*kept["lives"], told], "left": kept["left"] - life.seconds}
    if len(life.pictures) >= SETTLED + imitate.Recipe.length:
        eye = retina.Eye(retina.aim(life.pictures[SETTLED - 1]))
        seen = np.stack([eye.see(picture) for picture in life.pictures[SETTLED:]])
        events = torch.from_numpy(seen.astype(np.uint8))[:, None]  # [T, 1, 2, rows, columns]
        said = torch.tensor(life.wanted[SETTLED:], dtype=torch.float32)[:, None]
        more |= {"events": [*kept["events"], events], "said": [*kept["said"], said]}
    return kept | more


def begun(earlier: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Begin a recording of so many seconds, which goes on from an earlier one, or from ``NOTHING``.

    Returns: what ``joined`` adds to. "earlier": how many lives are from before. "recordings": their names.
    """
    names = [*earlier.get("recordings", []), secrets.token_hex(8)]
    return earlier | {"left": seconds, "earlier": len(earlier["lives"]), "recordings": names}


def keep(run: Run, kept: dict[str, Any]) -> None:
    """Keep what was recorded as ``lives.pt``. First seed only.

    Lives of an earlier recording that are not among them stay beside them: ``lives.1.pt``.
    """
    path = run.folder / "lives.pt"
    there = _recordings_of(path)
    if not run.is_first_seed or there == kept["recordings"]:  # kept already, before the last stop
        return
    if not there or there != kept["recordings"][: len(there)]:
        checkpoints.copy_aside(path)
    run.keep("lives", kept)


def _recordings_of(path: Path) -> list[str]:
    """Read the names of the recordings in a file; none where it is missing, damaged, or an older one."""
    try:
        return checkpoints.read(path)["recordings"]
    except (UsageError, KeyError, TypeError):
        return []


def is_whole(life: Mapping[str, Any]) -> bool:
    """Tell whether a life ended by itself, not by the clock; older files do not say so of any."""
    return life.get("whole", True)


def points_alone(lived: Sequence[Mapping[str, Any]]) -> list[int]:
    """Give the points of the student's own lives, without those that the clock cut."""
    return [life["score"] for life in lived if is_whole(life) and not life["led"]]


def unpacked(kept: dict[str, Any]) -> tuple[list[imitate.Memory], list[dict[str, Any]]]:
    """Give back what ``joined`` made: memories to learn from, and what happened in each life."""
    memories = []
    for events, said in zip(kept["events"], kept["said"], strict=True):
        due = [(int(frame), 0) for frame in (said[:, 0] > 0).nonzero()[:, 0]]
        memories.append(imitate.Memory(events.cpu(), said.cpu(), hard=due))  # a resumed run may have a GPU
    return memories, kept["lives"]
