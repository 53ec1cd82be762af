"""Reads ``exercises/NN_name.toml``, and names file and line of what is wrong in it. Standard library only."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from snn_course.runs import settings
from snn_course import UsageError
from snn_course.runs.scripts import Script
from snn_course.teaching import regions
from snn_course.teaching.outline import Outline
from snn_course.teaching.quiz_toml import Source, advice
from snn_course.teaching.regions import Region
from snn_course.teaching.tasks import HINTS, Exercises, Goal, Mistake, Task

Entry = Mapping[str, Any]
FIELDS: Mapping[str, Mapping[str, type | tuple[type, ...]]] = {
    "": {"brief": str, "check": dict, "task": list, "mistake": list, "goal": list},
    "check": {"chapters": list, "settings": dict},
    "task": {"id": str, "words": str, "hints": list, "probe": str, "exact": bool},
    "mistake": {"name": str, "task": str, "says": str, "code": str, "swap": list},
    "goal": {"measure": str, "at_least": (int, float), "at_most": (int, float)},
}
"""The fields of each kind of table, the file itself among them, and what they hold."""
NEEDED: Mapping[str, Sequence[str]] = {
    "task": ("id", "words"),
    "mistake": ("name", "task", "says"),
    "goal": ("measure",),
}
"""Texts that a table cannot do without."""
_WORDS = {str: "a text", list: "a list", dict: "a table", bool: "true or false"}


def read(script: Script, text: str, name: str) -> Exercises:
    """Make exercises of a TOML text; ``name`` is how a message calls its file. Raises: UsageError."""
    source = script.path.read_text(encoding="utf-8")
    found = Source(Path(name), name, text)
    try:
        return _Reader(script, source, found, regions.find(source)).exercises()
    except (SyntaxError, regions.RegionError) as error:
        raise UsageError(f"{script.path.name} cannot be read for its exercises: {error}.") from None


class _Reader:
    """Reads one file, and knows the line of what is wrong in it."""

    def __init__(self, script: Script, lesson: str, source: Source, there: Sequence[Region]) -> None:
        self.script = script
        self.lesson = lesson
        self.source = source
        self.regions = there

    def exercises(self) -> Exercises:
        found = self.source.data
        self._fields(found, "", 0)
        check = found.get("check", {})
        self._check(check)
        entries = found.get("task", [])
        if len(entries) != len(self.regions):
            where = self.script.path.name
            many = f"{len(entries)} tasks, and {where} {len(self.regions)} regions"
            raise UsageError(f"{self.source.name} has {many}.")
        tasks: list[Task] = []
        for number, entry in enumerate(entries):
            tasks.append(self._task(number, entry, tasks))
        wrong = enumerate(found.get("mistake", []))
        mistakes = [self._mistake(number, entry, tasks) for number, entry in wrong]
        goals = [self._goal(number, entry) for number, entry in enumerate(found.get("goal", []))]
        chapters = check.get("chapters", ())
        changed = check.get("settings", {})
        brief = found.get("brief", "")
        return Exercises(self.script, self.lesson, tasks, mistakes, chapters, changed, goals, brief)

    def _check(self, check: Entry) -> None:
        """Look whether the chapters and settings of the check are those of the lesson."""
        self._fields(check, "check", 0)
        outline = Outline(self.lesson)
        for name in check.get("chapters", ()):
            if name not in outline.called:
                raise self._wrong("check", 0, f"has a chapter {name!r} that main does not call", "chapters")
        known = [field.name for field in dataclasses.fields(settings.Config)]
        known += outline.fields_of("Config")
        for name in check.get("settings", {}):
            if name not in known:
                what = f"sets '{name}', which is no setting of the lesson; {advice(name, known)}"
                raise self._wrong("check", 0, what, "settings." + name)

    def _task(self, number: int, entry: Entry, before: Sequence[Task]) -> Task:
        self._fields(entry, "task", number)
        hints = entry.get("hints", [])
        if len(hints) != HINTS or not all(isinstance(hint, str) for hint in hints):
            what = f"needs {HINTS} hints: a question, the place, the idea"
            raise self._wrong("task", number, what, "hints")
        if entry["id"] in [task.id for task in before]:
            raise self._wrong("task", number, f"has the id '{entry['id']}', which is taken", "id")
        return Task(
            entry["id"],
            self.regions[number],
            " ".join(entry["words"].split()),
            [" ".join(hint.split()) for hint in hints],
            self._code(entry, "probe", "task", number),
            entry.get("exact", True),
        )

    def _mistake(self, number: int, entry: Entry, tasks: Sequence[Task]) -> Mistake:
        self._fields(entry, "mistake", number)
        task = next((task for task in tasks if task.id == entry["task"]), None)
        if task is None:
            raise self._wrong("mistake", number, f"is of task '{entry['task']}', and there is none", "task")
        if ("code" in entry) == ("swap" in entry):
            raise self._wrong("mistake", number, "needs one of 'code' and 'swap'")
        swap = entry.get("swap", ())
        if swap and not self._fits(swap, task):
            where = task.region.name
            what = f"needs a 'swap' of two texts, the first of them once in {where}"
            raise self._wrong("mistake", number, what, "swap")
        code = self._code(entry, "code", "mistake", number)
        says = " ".join(entry["says"].split())
        return Mistake(entry["name"], entry["task"], says, code, swap)

    def _fits(self, swap: Sequence[Any], task: Task) -> bool:
        if len(swap) != 2 or not all(isinstance(text, str) for text in swap):
            return False
        return regions.around(self.lesson, task.region).count(swap[0]) == 1

    def _goal(self, number: int, entry: Entry) -> Goal:
        self._fields(entry, "goal", number)
        return Goal(**entry)

    def _code(self, entry: Entry, key: str, kind: str, number: int) -> str:
        """Give code that Python can read, within a function as it will be."""
        code: str = entry.get(key, "")
        indented = "".join(f"  {line}\n" for line in code.splitlines())
        try:
            compile(f"def _():\n for _ in ():\n{indented or '  pass'}\n", "code", "exec")
        except SyntaxError as error:
            raise self._wrong(kind, number, f"has {key} that Python cannot read: {error.msg}", key) from None
        return code

    def _fields(self, entry: Any, kind: str, number: int) -> None:
        """Look whether a table has the fields that it needs, each of its kind, and no others."""
        fields = FIELDS[kind]
        if not isinstance(entry, dict):
            raise self._wrong(kind, number, "is no table")
        for key, value in entry.items():
            if key not in fields:
                what = f"has '{key}', which is no field; {advice(key, sorted(fields))}"
                raise self._wrong(kind, number, what, key)
            wanted = fields[key]
            if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
                words = _WORDS.get(wanted, "a number") if isinstance(wanted, type) else "a number"
                raise self._wrong(kind, number, f"needs '{key}', {words}", key)
        for key in NEEDED.get(kind, ()):
            if not entry.get(key, "").strip():
                raise self._wrong(kind, number, f"needs '{key}', a text", key)

    def _wrong(self, kind: str, number: int, what: str, field: str = "") -> UsageError:
        """Name the line of a field, or of the heading over it."""
        place = (kind, number) if kind in NEEDED else ("", 0)
        line = self.source.line_of(*place, field or (kind if kind == "check" else ""))
        subject = {"": "the file", "check": "[check]"}.get(kind, f"{kind} {number + 1}")
        end = "" if what.endswith(("?", ".")) else "."
        return UsageError(f"{self.source.name}, line {line}: {subject} {what}{end}")
