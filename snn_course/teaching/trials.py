"""Tries a learner's definitions: task by task on a small input, then chapter by chapter in the lesson itself.

Runs in the check's own process.
"""

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from snn_course.runs import compute, lesson, wording
from snn_course import UsageError
from snn_course.runs.divergence import Diverged
from snn_course.runs.measures import ProofMissed
from snn_course.teaching import answers, composed, mistakes, scaffold
from snn_course.teaching.outline import Outline
from snn_course.teaching.probes import Given, Probes, TrialRun, in_words, line_of
from snn_course.teaching.tasks import Exercises, Task

import matplotlib.pyplot as plt
import numpy as np

HOLDS, FAILS, UNWRITTEN = "holds", "fails", "unwritten"


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
        probes: those of the lesson, where they are known already.
    """

    def __init__(
        self,
        exercises: Exercises,
        mine: Mapping[str, object],
        file: str,
        names: dict[str, Any] | None = None,
        probes: Probes | None = None,
    ) -> None:
        self.exercises = exercises
        self.mine = mine
        self.file = file
        self.names = names
        self.probes = probes or Probes(exercises)
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
        own = self.probes.give(task, self.probes.module({name: self.mine[name]}), self.file)
        failed = isinstance(own.answer, answers.Raised)
        if failed and scaffold.MARK in own.answer[1]:
            return Verdict(task.id, UNWRITTEN, line=own.line)
        right = self.probes.right(task)
        found = self._mistake(task, own, right)
        if found:
            return Verdict(task.id, FAILS, found.says, found.name, own.line)
        if failed or (task.exact and not answers.same(own.answer, right.answer)):
            return Verdict(task.id, FAILS, answers.difference(own.answer, right.answer), line=own.line)
        return Verdict(task.id, HOLDS)

    def _mistake(self, task: Task, own: Given, right: Given) -> mistakes.Found | None:
        """Name a mistake: by what an instrument saw, by a known wrong answer, by an error, by silence."""
        seen = mistakes.seen(own.facts, right.facts)
        if answers.same(own.answer, right.answer):
            return seen
        for mistake in self.exercises.mistakes:
            fits = mistake.task == task.id and (seen is None or seen.name == mistake.name)
            if fits and answers.same(own.answer, self.probes.wrong(mistake).answer):
                return mistakes.Found(mistake.name, mistake.says)
        if seen:
            return seen
        if isinstance(own.answer, answers.Raised):
            return mistakes.of_error(*own.answer)
        if answers.is_silent(own.answer, right.answer):
            return mistakes.Found("threshold too high", mistakes.SILENCE)
        return mistakes.one_step(own.facts, right.facts) or mistakes.silence(own.facts, right.facts)

    # ------------------------------------------------------------------ chapters

    @cached_property
    def chapter_names(self) -> Sequence[str]:
        """The chapters that the check runs."""
        return self.exercises.chapters or self.outline.chapters(self.exercises.names)

    def chapters(self) -> Iterator[Verdict]:
        """Run the lesson's chapters with the learner's definitions; the first that fails is the last."""
        module = self.probes.module({name: self.mine[name] for name in self.exercises.names})
        if self.names is not None:
            composed.tie(self.names, lesson.load(self.exercises.script.stem), module)
        run = self.probes.run(module)
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
        except BaseException as error:  # whatever a learner raises is theirs
            line = line_of(error, self.file)
            says = answers.raised(*in_words(error))
            return Verdict(chapter, FAILS, says if line else says + self._place_of(error), line=line)
        finally:
            plt.close("all")
        return self._judge(chapter, run.judged()[before:])

    def _place_of(self, error: BaseException) -> str:
        """Give the line of the lesson that could not use what a task gave; a learner may look it up."""
        number = line_of(error, str(self.exercises.script.path))
        lines = self.exercises.source.splitlines()
        return f" In line {number} of the lesson: {lines[number - 1].strip()}" if number else ""

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
