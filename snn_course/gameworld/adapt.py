"""From the course's page to another: a few minutes of play there, labelled by the oracle.

The oracle reads the page's own objects, the student sees pictures. Both play in turn, one life each: so the
student is taught in good situations and in those that its mistakes lead to. What was seen is mixed with play
on the course's own game, so that the old one is not forgotten.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from snn_course.gameworld import imitate, retina
from snn_course.gameworld.environment import Frame, Game
from snn_course.gameworld.oracle import State
from snn_course.gameworld.players import SETTLED, Finger, Policy
from snn_course.gameworld.runner import Picture

import numpy as np
import torch


@dataclass
class Life:
    """What was seen in one life: pictures [36, 150], and what the oracle said to each."""

    pictures: list[Picture] = field(default_factory=list)
    wanted: list[float] = field(default_factory=list)
    score: int = 0
    led: bool = False


def record(
    game: Game,
    look: Callable[[], tuple[Frame, State]],
    policy: Policy,
    minutes: float,
    most: int = 1000,
) -> list[Life]:
    """Play for some minutes; the oracle holds the key in every other life.

    Args:
        game: in real time.
        look: waits for the next frame; gives what the student sees, and what the oracle reads.
        policy: the student.
        minutes: of play.
        most: points at which a life ends.
    """
    lives, end = list[Life](), time.monotonic() + 60 * minutes
    while time.monotonic() < end:
        life = Life(led=len(lives) % 2 == 0)
        game.reset()
        policy.begin()
        finger = Finger()
        while time.monotonic() < end:
            frame, state = look()
            life.pictures.append(frame.picture)
            life.wanted.append(imitate.wanted(state))
            press = policy.decide(frame.picture)
            if finger.presses(life.wanted[-1] > 1 if life.led else press):
                game.press(imitate.HOLD)
            if len(life.pictures) % 12 == 0:
                status = game.status()
                life.score = status.score
                if status.crashed or status.score >= most:
                    break
        lives.append(life)
    return lives


def packed(lives: list[Life]) -> dict[str, Any]:
    """Turn lives into what the student learns from, in a form that ``Run.save`` keeps.

    Returns: "events" and "said", a tensor for each life that was long enough; "lives", what happened in each.
    """
    events, said, told = list[torch.Tensor](), list[torch.Tensor](), list[dict[str, Any]]()
    for life in lives:
        told.append({"score": life.score, "frames": len(life.pictures), "led": life.led})
        if len(life.pictures) < 2 * SETTLED:
            continue
        eye = retina.Eye(retina.aim(life.pictures[SETTLED - 1]))
        seen = np.stack([eye.see(picture) for picture in life.pictures[SETTLED:]])
        events.append(torch.from_numpy(seen.astype(np.uint8))[:, None])  # [T, 1, 2, rows, columns]
        said.append(torch.tensor(life.wanted[SETTLED:], dtype=torch.float32)[:, None])
    return {"events": events, "said": said, "lives": told}


def unpacked(kept: dict[str, Any]) -> tuple[list[imitate.Memory], list[dict[str, Any]]]:
    """Give back what ``packed`` made: memories to learn from, and what happened in each life."""
    memories = []
    for events, said in zip(kept["events"], kept["said"], strict=True):
        due = [(int(frame), 0) for frame in (said[:, 0] > 0).nonzero()[:, 0]]
        memories.append(imitate.Memory(events, said, hard=due))
    return memories, kept["lives"]


def joined(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Add what was recorded later to what was recorded before: DAgger trains on all that it has seen."""
    return {key: [*one[key], *other[key]] for key in one}
