"""Runs a task's small input through a solution, the lesson's own or a wrong one, and tells what it gives."""

import dataclasses
import traceback
from collections.abc import Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any, NamedTuple

from snn_course.runs import chapters as printing
from snn_course.runs import compute
from snn_course.runs.measures import ProofMissed
from snn_course.runs.run import Item, Run
from snn_course.runs.settings import at_scale
from snn_course.teaching import answers, composed, instruments, regions
from snn_course.teaching.tasks import Exercises, Mistake, Task

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from rich.console import Console


class TrialRun(Run):
    """A run that prints nothing, draws nothing, keeps nothing, and remembers all its numbers."""

    def __init__(self, config: Any, script: Any) -> None:
        super().__init__(config, script)
        self.console = Console(quiet=True)
        self._printer = printing.Printer(self.console)
        self.drawn: list[Any] = []

    def figure(self, fig: Figure, name: str) -> None:
        """Remember the lines and marks of a figure instead of saving it."""
        for ax in fig.axes:
            self.drawn += [np.asarray(line.get_ydata(), dtype=float) for line in ax.get_lines()]
            for marks in ax.collections:
                places = marks.get_segments() if isinstance(marks, LineCollection) else marks.get_offsets()
                self.drawn.append(np.array(places, dtype=float))
        plt.close(fig)

    def progress(self, items: Sequence[Item] | Any, label: str) -> Iterator[Item]:
        """Iterate without a bar."""
        yield from items

    def save(self, name: str, state: dict[str, Any]) -> None:
        """Keep nothing: a check has nothing to resume."""

    def load(self, name: str, **parts: Any) -> None:
        """Find nothing."""

    @property
    def numbers(self) -> list[Any]:
        """All that was measured, tabulated and drawn so far."""
        tables = [table["runs"] for table in self.record.tables.values()]
        return [[measure.values for measure in self.record.measures.values()], tables, self.drawn]

    def judged(self) -> list[dict[str, Any]]:
        """Give all measures so far, as metrics.json would have them."""
        return self.record.judged(self.record.measures.values())


class Given(NamedTuple):
    """What a solution gives on a task's small input."""

    answer: Any
    """Plain, see ``answers``; an error is one, too."""
    facts: instruments.Facts
    line: int | None
    """Of the learner's file, where an error came from it."""


class Probes:
    """The probes of a lesson's tasks; what the lesson and known wrong versions give is found out once."""

    def __init__(self, exercises: Exercises) -> None:
        self.exercises = exercises
        self._right: dict[str, Given] = {}
        self._wrong: dict[int, Given] = {}

    def right(self, task: Task) -> Given:
        """Give what the lesson's own solution gives. Raises: RuntimeError when that fails."""
        if task.id not in self._right:
            given = self.give(task, self.module({}))
            if isinstance(given.answer, answers.Raised):
                # With it as the measure, whoever makes the same error would be right, and nobody else.
                raise RuntimeError(f"the lesson's own {task.id} ends with {': '.join(given.answer)}")
            self._right[task.id] = given
        return self._right[task.id]

    def wrong(self, mistake: Mistake) -> Given:
        """Give what a known wrong version gives."""
        task = self.exercises.task(mistake.task)
        if id(mistake) not in self._wrong:
            self._wrong[id(mistake)] = self.give(task, self.wrong_module(mistake))
        return self._wrong[id(mistake)]

    def module(self, exchanged: Mapping[str, object]) -> ModuleType:
        """Make the lesson with other objects in the place of definitions."""
        return composed.module(self.exercises.script.path, self.exercises.source, exchanged)

    def wrong_module(self, mistake: Mistake) -> ModuleType:
        """Make the lesson with a known wrong version in it."""
        task = self.exercises.task(mistake.task)
        source = self.exercises.source
        if mistake.swap:
            old, new = mistake.swap
            source = regions.swapped(source, task.region, old, new)
        else:
            source = regions.replaced(source, {task.number: mistake.code})
        return composed.module(self.exercises.script.path, source)

    def give(self, task: Task, module: ModuleType, file: str = "") -> Given:
        """Run a task's probe in a module; ``file`` is the learner's, as its code objects name it."""
        run = self.run(module)
        names = {**vars(module), "config": run.config, "run": run, "torch": torch, "np": np}
        compute.seed_all(0)
        line = None
        with instruments.watching() as facts:
            try:
                exec(compile(task.probe, f"<probe of {task.id}>", "exec"), names)
                answer = answers.plain(names.get("answer", run.numbers))
            except ProofMissed:
                answer = answers.plain(run.numbers)
            except BaseException as error:  # whatever a learner raises is theirs
                answer = answers.Raised(in_words(error))
                line = line_of(error, file)
        plt.close("all")
        return Given(answer, facts, line)

    def run(self, module: ModuleType) -> TrialRun:
        """Begin a run with the settings of the check."""
        settings = at_scale(module.Config, "quick", module.SCALES)
        changes = {name: _as_setting(value) for name, value in self.exercises.settings.items()}
        config = dataclasses.replace(settings, seeds=1, device="cpu", threads=1, **changes)
        run = TrialRun(config, self.exercises.script.path)
        run.begin(config.seed)
        return run


def in_words(error: BaseException) -> tuple[str, str]:
    """Give kind and message of an error, on one line."""
    return type(error).__name__, " ".join(str(error).split())[:300]


def line_of(error: BaseException, file: str) -> int | None:
    """Give the last line of a file on the way to an error."""
    stack = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in stack if frame.filename == file]
    return lines[-1] if lines else None


def _as_setting(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
