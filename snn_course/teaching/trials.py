"""Tries a learner's definitions: task by task on a small input, then chapter by chapter in the lesson itself.

Runs in the check's own process.
"""

import ast
import dataclasses
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import ModuleType
from typing import Any

from snn_course.runs import chapters as printing
from snn_course.runs import compute, lesson, wording
from snn_course import UsageError
from snn_course.runs.divergence import Diverged
from snn_course.runs.measures import ProofMissed
from snn_course.runs.run import Item, Run
from snn_course.runs.settings import at_scale
from snn_course.teaching import answers, composed, instruments, mistakes, regions, scaffold
from snn_course.teaching.exercises import Exercises, Mistake, Task
from snn_course.teaching.outline import Outline

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from rich.console import Console

HOLDS, FAILS, UNWRITTEN = "holds", "fails", "unwritten"


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
        tables = [table["runs"] for table in self._tables.values()]
        return [[measure.values for measure in self._measures.values()], tables, self.drawn]

    def judged(self) -> list[dict[str, Any]]:
        """Give all measures so far, as metrics.json would have them."""
        return self._judged(self._measures.values())


@dataclass
class Verdict:
    """What became of a task or a chapter."""

    name: str
    state: str
    says: str = ""
    mistake: str = ""
    line: int | None = None
    claims: list[str] = field(default_factory=list)
    """Proofs and goals of a chapter that hold."""


class Trials:
    """All trials of one learner's file.

    Args:
        exercises: those of the lesson.
        mine: what the file defines.
        file: its path, as its code objects name it.
        names: all names of the file as a module, where it is one.
    """

    def __init__(
        self,
        exercises: Exercises,
        mine: Mapping[str, object],
        file: str,
        names: dict[str, Any] | None = None,
    ) -> None:
        self.exercises = exercises
        self.mine = mine
        self.file = file
        self.names = names
        self.outline = Outline(exercises.source)
        self.done: list[ast.stmt] = []
        """Statements of ``main`` that have run."""

    # ------------------------------------------------------------------ tasks

    def tasks(self) -> Iterator[Verdict]:
        """Try the tasks one after the other, each with the lesson's own solution of the others."""
        for task in self.exercises.tasks:
            yield self.task(task)

    def task(self, task: Task) -> Verdict:
        """Try one task on its small input."""
        name = task.region.name
        if name not in self.mine:
            kind = "class" if isinstance(self.outline.top[name], ast.ClassDef) else "function"
            return Verdict(task.id, UNWRITTEN, f"There is no {kind} {name} in your file yet.")
        answer, facts, line = self._probe(task, self._module({name: self.mine[name]}))
        if isinstance(answer, answers.Raised) and scaffold.MARK in answer[1]:
            return Verdict(task.id, UNWRITTEN, line=line)
        right, right_facts, _ = self._right(task)
        found = self._mistake(task, answer, right) or mistakes.seen(facts, right_facts)
        if found is None and isinstance(answer, answers.Raised):
            found = mistakes.of_error(*answer)
        if found:
            return Verdict(task.id, FAILS, found.says, found.name, line)
        if isinstance(answer, answers.Raised) or (task.exact and not answers.same(answer, right)):
            return Verdict(task.id, FAILS, answers.difference(answer, right), line=line)
        return Verdict(task.id, HOLDS)

    def _right(self, task: Task) -> tuple[Any, instruments.Facts, int | None]:
        return self._probe(task, self._module({}))

    def _mistake(self, task: Task, answer: Any, right: Any) -> mistakes.Found | None:
        """Name the known wrong version that gives the same answer."""
        if answers.same(answer, right):
            return None
        for mistake in self.exercises.mistakes:
            if mistake.task == task.id and answers.same(answer, self.answer_of(mistake)):
                return mistakes.Found(mistake.name, mistake.says)
        return None

    def answer_of(self, mistake: Mistake) -> Any:
        """Give what a known wrong version answers."""
        task = self.exercises.task(mistake.task)
        return self._probe(task, self.wrong_module(mistake))[0]

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

    def _module(self, exchanged: Mapping[str, object]) -> ModuleType:
        return composed.module(self.exercises.script.path, self.exercises.source, exchanged)

    def _probe(self, task: Task, module: ModuleType) -> tuple[Any, instruments.Facts, int | None]:
        """Run a task's probe. Returns: the plain answer, what the instruments saw, the line of an error."""
        run = self._run(module)
        names = {**vars(module), "config": run.config, "run": run, "torch": torch, "np": np}
        compute.seed_all(0)
        line = None
        with instruments.watching() as facts:
            try:
                exec(compile(task.probe, f"<probe of {task.id}>", "exec"), names)
                answer = answers.plain(names.get("answer", run.numbers))
            except ProofMissed:
                answer = answers.plain(run.numbers)
            except (Exception, SystemExit) as error:
                answer = answers.Raised(_in_words(error))
                line = self.line_of(error)
        plt.close("all")
        return answer, facts, line

    def line_of(self, error: BaseException) -> int | None:
        """Give the last line of the learner's file on the way to an error."""
        stack = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in stack if frame.filename == self.file]
        return lines[-1] if lines else None

    # ------------------------------------------------------------------ chapters

    def _run(self, module: ModuleType) -> TrialRun:
        settings = at_scale(module.Config, "quick", module.SCALES)
        changes = {name: _as_setting(value) for name, value in self.exercises.settings.items()}
        config = dataclasses.replace(settings, seeds=1, device="cpu", threads=1, **changes)
        run = TrialRun(config, self.exercises.script.path)
        run.begin(config.seed)
        return run

    @cached_property
    def chapter_names(self) -> Sequence[str]:
        """The chapters that the check runs."""
        return self.exercises.chapters or self.outline.chapters(self.exercises.names)

    def chapters(self) -> Iterator[Verdict]:
        """Run the lesson's chapters with the learner's definitions; the first that fails is the last."""
        module = self._module({name: self.mine[name] for name in self.exercises.names})
        if self.names is not None:
            composed.tie(self.names, lesson.load(self.exercises.script.stem), module)
        run = self._run(module)
        names = {**vars(module), "config": run.config, "run": run}
        for chapter in self.chapter_names:
            verdict = self._chapter(chapter, run, names)
            yield verdict
            if verdict.state != HOLDS:
                return

    def _chapter(self, chapter: str, run: TrialRun, names: dict[str, Any]) -> Verdict:
        before = len(run.judged())
        compute.seed_all(run.config.seed)
        *needed, last = self.outline.statements(chapter)
        new = [one for one in needed if one not in self.done] + [last]
        self.done += new
        statements = ast.Module(new, type_ignores=[])
        try:
            exec(compile(statements, str(self.exercises.script.path), "exec"), names)
        except ProofMissed:
            pass  # it is the last measure
        except Diverged as error:
            return Verdict(chapter, FAILS, f"The training diverged: {error}")
        except UsageError:
            raise
        except (Exception, SystemExit) as error:
            return Verdict(chapter, FAILS, answers.raised(*_in_words(error)), line=self.line_of(error))
        finally:
            plt.close("all")
        return self._judge(chapter, run.judged()[before:])

    def _judge(self, chapter: str, measures: Sequence[dict[str, Any]]) -> Verdict:
        """Look at what a chapter measured; a goal of the check alone counts as one of the lesson."""
        held: list[str] = []
        for measure in measures:
            for goal in self.exercises.goals:
                if goal.measure == measure["name"]:
                    measure |= {"at_least": goal.at_least, "at_most": goal.at_most}
                    low = -np.inf if goal.at_least is None else goal.at_least
                    high = np.inf if goal.at_most is None else goal.at_most
                    measure["met"] = bool(low <= measure["mean"] <= high)
            if measure["met"] is False and not measure["speed"]:
                value, bound = wording.value_of(measure), wording.goal_of(measure)
                says = f"{wording.name_of(measure)} is {value}; asked for is {bound}."
                return Verdict(chapter, FAILS, says, claims=held)
            if measure["met"]:
                held.append(wording.name_of(measure))
        return Verdict(chapter, HOLDS, claims=held)


def _in_words(error: BaseException) -> tuple[str, str]:
    return type(error).__name__, " ".join(str(error).split())[:300]


def _as_setting(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
