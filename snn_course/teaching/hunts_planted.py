"""Bugs that are planted in a copy of a lesson: read from ``hunts/NN_name.toml``, put in, and found again.

A bug is a few whole lines of the lesson and what stands in their place. The learner gets the functions around
them; the number that gives the bug away is measured with the whole lesson, changed in this one place.
"""

import ast
import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snn_course import ROOT, UsageError
from snn_course.runs.scripts import Script
from snn_course.teaching.quiz_toml import Schema, Source, items, table, text

BUG: Mapping[str, Schema] = {
    "id": text(60),
    "function": items(text(60), 1, 5),
    "before": text(1000),
    "after": text(1000, 0),
    "shows": text(200),
    "number": text(2000),
    "why_it_hides": text(800),
    "hints": items(text(400), 2, 4),
}
"""What each bug has."""
_MARK = re.compile(r" *# (exercise: .*|end)")


@dataclass(frozen=True)
class Bug:
    """A wrong version of some lines of a lesson, and what there is to say about it."""

    id: str
    function: Sequence[str]
    """Functions and classes of the lesson that the learner gets to see, the bug in one of them."""
    before: str
    after: str
    shows: str
    """What the number is."""
    number: str
    """Code that measures it, with the lesson as ``lesson``: it sets ``answer``."""
    why_it_hides: str
    hints: Sequence[str]

    def start(self, lesson: str) -> int:
        """Find the line of a lesson on which the bug begins, counted from 0. Raises: ValueError."""
        lines, wanted = without_marks(lesson), self.before.split("\n")
        starts = [n for n in range(len(lines)) if lines[n : n + len(wanted)] == wanted]
        if len(starts) != 1:
            raise ValueError(f"the lines of 'before' stand {len(starts)} times in it")
        return starts[0]

    def planted(self, lesson: str) -> str:
        """Give the text of the lesson with the bug in it. Raises: ValueError when its place is not clear."""
        lines = without_marks(lesson)
        start = self.start(lesson)
        lines[start : start + len(self.before.split("\n"))] = self._wrong
        return "\n".join(lines)

    def guilty(self, lesson: str) -> set[int]:
        """Give the lines of the planted text that count as found, from 1 on.

        Where lines are missing, they are those above and below the gap.
        """
        first = self.start(lesson) + 1
        found: set[int] = set()
        matcher = difflib.SequenceMatcher(None, self.before.split("\n"), self._wrong, autojunk=False)
        for kind, _, _, begin, end in matcher.get_opcodes():
            if kind == "delete":
                found |= {first + begin - 1, first + begin}
            elif kind != "equal":
                found |= {first + n for n in range(begin, end) if _is_code(self._wrong[n])}
        return found

    @property
    def _wrong(self) -> list[str]:
        return self.after.split("\n") if self.after else []


@dataclass(frozen=True)
class Piece:
    """What the learner gets: lines of code, and which of them count as found. Numbers begin with 1."""

    lines: Sequence[str]
    guilty: frozenset[int]

    def below(self, head: Sequence[str]) -> "Piece":
        """Put lines above it."""
        moved = frozenset(number + len(head) for number in self.guilty)
        return Piece([*head, *self.lines], moved)


def _is_code(line: str) -> bool:
    """Tell code from words that were changed so that they do not give the bug away."""
    return not line.strip().startswith(("#", '"""'))


def without_marks(lesson: str) -> list[str]:
    """Give the lines of a lesson without the marks of its exercises, which would point at the bug."""
    return [line for line in lesson.split("\n") if not _MARK.fullmatch(line)]


def piece_of(bug: Bug, lesson: str) -> Piece:
    """Cut the functions of a bug out of the planted text."""
    planted = bug.planted(lesson)
    guilty = bug.guilty(lesson)
    lines = planted.split("\n")
    shown: list[str] = []
    hits: set[int] = set()
    for start, end in _places(planted, bug.function):
        shown += ["", ""] if shown else []
        for number in range(start, end + 1):
            shown.append(lines[number - 1])
            hits |= {len(shown)} if number in guilty else set()
    return Piece(shown, frozenset(hits))


def _places(planted: str, names: Sequence[str]) -> list[tuple[int, int]]:
    """Find first and last line of functions and classes, in their order in the file. Raises: ValueError."""
    places = {}
    for node in ast.parse(planted).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name in names:
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            places[node.name] = (first, node.end_lineno or first)
    missing = [name for name in names if name not in places]
    if missing:
        raise ValueError(f"there is no {missing[0]} in the lesson")
    return sorted(places.values())


# ---------------------------------------------------------------------- reading


def path_of(stem: str) -> Path:
    """Give the place of a script's bugs."""
    return ROOT / "hunts" / f"{stem}.toml"


def of_script(script: Script) -> list[Bug]:
    """Read the bugs of a script. Raises: UsageError when there are none, or something is wrong."""
    path = path_of(script.stem)
    if not path.exists():
        raise UsageError(f"There is no hunt on {script.stem} yet; 'course.py hunt' lists those there are.")
    return read(path)


def read(path: Path) -> list[Bug]:
    """Read and check a file of bugs. Raises: UsageError naming file and line."""
    source = Source(path)
    source.check(source.data, table({"bug": items({"type": "object"}, 1, 50)}))
    bugs: list[Bug] = []
    for index, entry in enumerate(source.data["bug"]):
        source.check(entry, table(BUG), "bug", index)
        if entry["id"] in [bug.id for bug in bugs]:
            raise source.wrong(f"the id '{entry['id']}' is taken already.", "bug", index, "id")
        if entry["before"].strip() == entry["after"].strip():
            raise source.wrong("'before' and 'after' are the same.", "bug", index, "after")
        try:
            compile(entry["number"], "number", "exec")
        except (SyntaxError, ValueError) as error:
            raise source.wrong(f"'number' is no Python: {error}.", "bug", index, "number") from None
        bugs.append(_bug(entry))
    return bugs


def _bug(entry: Mapping[str, Any]) -> Bug:
    trimmed = {name: entry[name].rstrip().strip("\n") for name in ("before", "after")}
    return Bug(**{**entry, **trimmed})
