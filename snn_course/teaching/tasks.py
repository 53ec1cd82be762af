"""What an exercise is: tasks cut from a lesson, known mistakes, bounds of its check. Standard library."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from snn_course.runs.scripts import Script
from snn_course.teaching.regions import Region

STAGES = {"lines": range(6), "skeletons": range(6, 10), "words": range(10, 15)}
"""How much of a lesson a learner is given, by its number; where none is named, the objective alone."""
HINTS = 3
"""A question, the place, the idea."""


@dataclass(frozen=True)
class Task:
    """One region as a task."""

    id: str
    region: Region
    words: str
    hints: Sequence[str]
    probe: str = ""
    """Code that sets ``answer``: what a solution gives on a small input. Without it the run's numbers."""
    exact: bool = True
    """Whether a right solution gives the very answer of the lesson's own."""

    @property
    def number(self) -> int:
        """1 for the first one."""
        return self.region.number


@dataclass(frozen=True)
class Mistake:
    """A wrong solution of a task that people really write, and the sentence that names it to them."""

    name: str
    task: str
    says: str
    code: str = ""
    """Lines in the place of the region; or else:"""
    swap: Sequence[str] = ()
    """A piece of the lesson's function around the region, and what stands there by mistake."""


@dataclass(frozen=True)
class Goal:
    """A bound that the check alone has, for a measure that the lesson leaves without one."""

    measure: str
    at_least: float | None = None
    at_most: float | None = None


@dataclass(frozen=True)
class Exercises:
    """All tasks of a lesson."""

    script: Script
    source: str
    tasks: Sequence[Task]
    mistakes: Sequence[Mistake]
    chapters: Sequence[str] = ()
    """Functions that ``main`` calls, in the order in which the check runs them; empty: all that can tell."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the check, where quick scale is still too long."""
    goals: Sequence[Goal] = ()
    brief: str = ""

    @cached_property
    def stage(self) -> str:
        """How much a learner is given: lines, skeletons, words or objective."""
        number = self.script.number
        return next((name for name, numbers in STAGES.items() if number in numbers), "objective")

    @property
    def names(self) -> list[str]:
        """The functions and classes that a learner writes in, each once."""
        return list(dict.fromkeys(task.region.name for task in self.tasks))

    def task(self, name: str) -> Task:
        """Find a task by its id."""
        return next(task for task in self.tasks if task.id == name)
