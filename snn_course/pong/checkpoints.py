"""Trained agents: found where the learner made one, else among those that came with the course.

Each step of the capstone keeps its agent in its results folder, with a card that says how it was made:
command, seed, commit, CPU seconds, the learning curve (``runs.checkpoints``), and the episodes that chose and
judged it, with their seeds (``judging``). Both can be copied to ``checkpoints/``.
"""

import contextlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from snn_course.runs import checkpoints
from snn_course import ROOT, UsageError
from snn_course.runs.checkpoints import card, keep, load, origin, write_card

__all__ = ["SCRIPT", "SHIPPED", "card", "cards", "decisions", "find", "judged", "keep", "load", "origin"]

SCRIPT = "capstone_pong"
SHIPPED = ROOT / "checkpoints"


def find(name: str, scale: str) -> Path:
    """Give the path of an agent's weights: the learner's own at this scale, else the shipped ones.

    Raises: UsageError when there are neither.
    """
    return checkpoints.find(name, scale, SCRIPT, SHIPPED)


def cards(names: Iterable[str], scale: str) -> dict[str, dict[str, Any]]:
    """Read the cards of several agents, by name; those that are missing or damaged are left out."""
    found = {}
    for name in names:
        with contextlib.suppress(UsageError):
            found[name] = card(find(name, scale))
    return found


def decisions(card: Mapping[str, Any]) -> float:
    """Give the decisions from which an agent has learnt, with those of the agent from which it went on."""
    return card.get("before", 0) + card["curve"][-1]["steps"]


def judged(folder: Path, name: str, scale: str, card: dict[str, Any]) -> None:
    """Write the card of an agent that was judged: beside the learner's own weights, else into a folder."""
    place = find(name, scale).parent
    write_card(folder if place == SHIPPED else place, name, card)
