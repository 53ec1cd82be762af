"""The exercises of a lesson: its regions, and what ``exercises/NN_name.toml`` says about each of them.

The file holds words, hints, wrong solutions and the sizes of the check; never a right solution, which is in
the lesson alone. Standard library only.
"""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from snn_course import ROOT, UsageError
from snn_course.runs.scripts import Script
from snn_course.teaching import questions, regions
from snn_course.teaching.regions import Region

FOLDER = "exercises"
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


# ---------------------------------------------------------------------- reading


def path_for(script: Script) -> Path:
    """Where the exercises of a script are."""
    return ROOT / FOLDER / f"{script.stem}.toml"


def there(scripts: Sequence[Script]) -> list[Script]:
    """Give the scripts that have exercises."""
    return [script for script in scripts if path_for(script).is_file()]


def load(script: Script) -> Exercises:
    """Read a lesson's exercises. Raises: UsageError naming file and line, or that there are none yet."""
    path = path_for(script)
    if not path.is_file():
        further = ", and go on with its quiz" if questions.path_of(script.stem).is_file() else ""
        raise UsageError(f"{script.stem} has no exercise: read it, run it{further}.")
    return read(script, path.read_text(encoding="utf-8"), path.name)


def read(script: Script, text: str, name: str) -> Exercises:
    """Make exercises of a TOML text; ``name`` is that of its file. Raises: UsageError."""
    source = script.path.read_text(encoding="utf-8")
    try:
        found = tomllib.loads(text)
        there = regions.find(source)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{FOLDER}/{name}: {error}.") from None
    except (SyntaxError, regions.RegionError) as error:
        raise UsageError(f"{script.path.name} cannot be read for its exercises: {error}.") from None
    return _Reader(script, source, text, name, there).exercises(found)


class _Reader:
    """Reads one file, and knows the line of what is wrong in it."""

    def __init__(self, script: Script, source: str, text: str, name: str, there: Sequence[Region]) -> None:
        self.script = script
        self.source = source
        self.lines = text.splitlines()
        self.name = name
        self.regions = there

    def exercises(self, found: dict[str, Any]) -> Exercises:
        self._known(found, {"brief", "task", "mistake", "check", "goal"}, "", 0)
        check = found.get("check", {})
        self._known(check, {"chapters", "settings"}, "check", 0)
        entries = found.get("task", [])
        if len(entries) != len(self.regions):
            where = self.script.path.name
            raise UsageError(
                f"{FOLDER}/{self.name} has {len(entries)} tasks, and {where} {len(self.regions)} regions."
            )
        tasks = [self._task(number, entry) for number, entry in enumerate(entries)]
        wrong = enumerate(found.get("mistake", []))
        mistakes = [self._mistake(number, entry, tasks) for number, entry in wrong]
        goals = [self._goal(number, entry) for number, entry in enumerate(found.get("goal", []))]
        return Exercises(
            self.script,
            self.source,
            tasks,
            mistakes,
            check.get("chapters", ()),
            check.get("settings", {}),
            goals,
            found.get("brief", ""),
        )

    def _task(self, number: int, entry: dict[str, Any]) -> Task:
        self._known(entry, {"id", "words", "hints", "probe", "exact"}, "task", number)
        self._texts(entry, ("id", "words"), "task", number)
        hints = entry.get("hints")
        if not isinstance(hints, list) or len(hints) != HINTS or not all(isinstance(h, str) for h in hints):
            raise self._wrong("task", number, f"needs {HINTS} hints: a question, the place, the idea")
        return Task(
            entry["id"],
            self.regions[number],
            " ".join(entry["words"].split()),
            [" ".join(hint.split()) for hint in hints],
            self._code(entry, "probe", "task", number),
            bool(entry.get("exact", True)),
        )

    def _mistake(self, number: int, entry: dict[str, Any], tasks: Sequence[Task]) -> Mistake:
        self._known(entry, {"name", "task", "code", "swap", "says"}, "mistake", number)
        self._texts(entry, ("name", "task", "says"), "mistake", number)
        task = next((task for task in tasks if task.id == entry["task"]), None)
        if task is None:
            raise self._wrong("mistake", number, f"is of task '{entry['task']}', and there is none")
        if ("code" in entry) == ("swap" in entry):
            raise self._wrong("mistake", number, "needs one of 'code' and 'swap'")
        swap = entry.get("swap", ())
        if swap and not self._fits(swap, task):
            where = task.region.name
            what = f"needs a 'swap' of two texts, the first of them once in {where}"
            raise self._wrong("mistake", number, what)
        code = self._code(entry, "code", "mistake", number)
        says = " ".join(entry["says"].split())
        return Mistake(entry["name"], entry["task"], says, code, swap)

    def _fits(self, swap: Any, task: Task) -> bool:
        if not isinstance(swap, list) or len(swap) != 2 or not all(isinstance(text, str) for text in swap):
            return False
        return regions.around(self.source, task.region).count(swap[0]) == 1

    def _goal(self, number: int, entry: dict[str, Any]) -> Goal:
        self._known(entry, {"measure", "at_least", "at_most"}, "goal", number)
        self._texts(entry, ("measure",), "goal", number)
        return Goal(**entry)

    def _code(self, entry: dict[str, Any], key: str, kind: str, number: int) -> str:
        """Give code that Python can read, within a function as it will be."""
        code: str = entry.get(key, "")
        indented = "".join(f"  {line}\n" for line in code.splitlines())
        try:
            compile(f"def _():\n for _ in ():\n{indented or '  pass'}\n", "code", "exec")
        except SyntaxError as error:
            raise self._wrong(kind, number, f"has {key} that Python cannot read: {error.msg}") from None
        return code

    def _texts(self, entry: dict[str, Any], keys: Sequence[str], kind: str, number: int) -> None:
        for key in keys:
            if not isinstance(entry.get(key), str) or not entry[key].strip():
                raise self._wrong(kind, number, f"needs '{key}', a text")

    def _known(self, entry: Any, keys: set[str], kind: str, number: int) -> None:
        if not isinstance(entry, dict):
            raise self._wrong(kind, number, "is no table")
        for key in sorted(set(entry) - keys):
            raise self._wrong(kind, number, f"has '{key}'; known are {', '.join(sorted(keys))}")

    def _wrong(self, kind: str, number: int, what: str) -> UsageError:
        """Name the line of an entry: of the heading, which stands there so many times."""
        heading = re.compile(rf"^\s*\[+\s*{kind}\s*\]+")
        lines = [place for place, line in enumerate(self.lines, start=1) if heading.match(line)] or [1]
        line = lines[min(number, len(lines) - 1)]
        subject = f"{kind} {number + 1}" if kind else "the file"
        return UsageError(f"{FOLDER}/{self.name}, line {line}: {subject} {what}.")
