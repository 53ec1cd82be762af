"""The questions of a script, read from ``quizzes/NN_name.toml`` and checked.

``QUESTION`` and ``FIELDS`` say which fields there are. All who ask, test or print questions read them here.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from snn_course import ROOT, UsageError
from snn_course.runs.scripts import Script
from snn_course.teaching.quiz_toml import Schema, Source, items, table, text

KINDS = ("choice", "several", "order", "number", "short", "raster", "prints")
CODE_LINES = 12

_WRONG = table({"text": text(400), "why": text(600)})
_SLIP = table({"code": text(200), "why": text(600)})
_POSITIVE: Schema = {"type": "number", "exclusiveMinimum": 0}
_CODE: Mapping[str, Schema] = {"code": text(2000)}
_CHOICES: Mapping[str, Schema] = {"right": text(400), "wrong": items(_WRONG, 2, 4)}
_NUMBER: Mapping[str, Schema] = {
    "unit": text(40, 0),
    "tolerance": _POSITIVE,
    "relative": _POSITIVE,
    "slips": items(_SLIP, 0, 6),
}

QUESTION: Mapping[str, Schema] = {
    "id": text(60),
    "topic": text(40),
    "kind": {"enum": list(KINDS)},
    "ask": text(600),
    "hint": text(600),
    "explain": text(1000),
    "reading": text(300),
    "more": text(600),
    "links": items(text(60)),
}
"""What each question has."""
FIELDS: Mapping[str, tuple[Mapping[str, Schema], Mapping[str, Schema]]] = {
    "choice": (_CHOICES, {}),
    "several": ({"right": items(text(400), 1, 5), "wrong": items(_WRONG, 2, 5)}, {}),
    "order": ({"right": items(text(200), 3, 6), "why": text(600)}, {}),
    "number": (_CODE, _NUMBER),
    "short": ({"model": text(800), "marks": items(text(300), 3, 3)}, {}),
    "raster": (_CODE, {**_CHOICES, **_NUMBER}),
    "prints": ({**_CODE, "wrong": items(_WRONG, 2, 4)}, {}),
}
"""What a kind has besides: required and optional fields."""
ANY_FIELD = sorted(set(QUESTION).union(*itertools.chain.from_iterable(FIELDS.values())))
"""The names of all fields that some question has."""
_OF_ANY_KIND = table({"kind": QUESTION["kind"]}, {name: {} for name in ANY_FIELD if name != "kind"})


@dataclass(frozen=True)
class Wrong:
    """A wrong choice, and what one who takes it has mixed up."""

    text: str
    why: str


@dataclass(frozen=True)
class Slip:
    """A wrong number that people get: code that computes it, and what they have mixed up."""

    code: str
    why: str


@dataclass(frozen=True)
class Question:
    """One question of a bank."""

    stem: str
    """Script to which it belongs."""
    id: str
    topic: str
    about: str
    """The topic in words."""
    kind: str
    ask: str
    hint: str
    explain: str
    reading: str
    more: str
    links: Sequence[str]
    right: Sequence[str] = ()
    wrong: Sequence[Wrong] = ()
    why: str = ""
    code: str = ""
    unit: str = ""
    tolerance: float = 0.0
    relative: float = 0.0
    slips: Sequence[Slip] = ()
    model: str = ""
    marks: Sequence[str] = ()

    @property
    def key(self) -> str:
        """Name it among the questions of all scripts."""
        return f"{self.stem}/{self.id}"

    @property
    def form(self) -> str:
        """How it is answered: choice, several, order, number or short."""
        if self.kind == "raster":
            return "choice" if self.wrong else "number"
        return "choice" if self.kind == "prints" else self.kind

    def margin(self, answer: float) -> float:
        """Give how far a number may lie from the right one."""
        return self.tolerance or self.relative * abs(answer)


@dataclass(frozen=True)
class Bank:
    """The questions of one script."""

    stem: str
    sitting: int
    topics: Mapping[str, str]
    questions: Sequence[Question]

    @cached_property
    def by_id(self) -> Mapping[str, Question]:
        """Find a question by its id."""
        return {question.id: question for question in self.questions}


def path_of(stem: str) -> Path:
    """Give the place of a script's questions."""
    return ROOT / "quizzes" / f"{stem}.toml"


def of_script(script: Script) -> Bank:
    """Read the questions of a script. Raises: UsageError when there are none, or something is wrong."""
    path = path_of(script.stem)
    if not path.exists():
        raise UsageError(f"There is no quiz on {script.stem} yet; 'course.py quiz' lists those there are.")
    return read(path)


def read(path: Path) -> Bank:
    """Read and check a bank. Raises: UsageError naming file and line."""
    source = Source(path)
    entries = source.data.get("question")
    heads: dict[str, Schema] = {"sitting": {"type": "integer", "minimum": 1}, "topics": {"type": "object"}}
    any_entry = items({"type": "object"}, 1, 500)
    source.check(source.data, table({**heads, "question": any_entry}))
    source.check(source.data["topics"], {"additionalProperties": text(200), "minProperties": 1})
    questions: list[Question] = []
    for index, entry in enumerate(entries or []):
        _check(source, index, entry)
        if entry["id"] in [question.id for question in questions]:
            raise source.wrong(f"the id '{entry['id']}' is taken already.", "question", index, "id")
        questions.append(_question(path.stem, source.data["topics"], entry))
    return Bank(path.stem, source.data["sitting"], source.data["topics"], questions)


def _check(source: Source, index: int, entry: Mapping[str, Any]) -> None:
    """Check one question by itself. Raises: UsageError."""
    kind = {"properties": {"kind": QUESTION["kind"]}} if "kind" in entry else _OF_ANY_KIND
    source.check(entry, kind, "question", index)
    required, optional = FIELDS[entry["kind"]]
    source.check(entry, table({**QUESTION, **required}, optional), "question", index)

    def wrong(message: str, field: str) -> UsageError:
        return source.wrong(f"question '{entry['id']}': {message}", "question", index, field)

    if entry["topic"] not in source.data["topics"]:
        raise wrong(f"'{entry['topic']}' is none of the topics.", "topic")
    is_number = entry["kind"] == "number" or (entry["kind"] == "raster" and "wrong" not in entry)
    if is_number and ("tolerance" in entry) == ("relative" in entry):
        raise wrong("it needs either 'tolerance' or 'relative'.", "kind")
    if entry["kind"] == "raster" and ("wrong" in entry) != ("right" in entry):
        raise wrong("'right' and 'wrong' go together.", "kind")
    texts = choices(entry)
    if len(set(texts)) < len(texts):
        raise wrong("two choices are the same.", "right")
    for code in [entry.get("code", ""), *(slip["code"] for slip in entry.get("slips", []))]:
        _check_code(code, wrong)


def _check_code(code: str, wrong: Any) -> None:
    if len(code.strip().splitlines()) > CODE_LINES:
        raise wrong(f"'code' has more than {CODE_LINES} lines.", "code")
    try:
        compile(code, "code", "exec")
    except (SyntaxError, ValueError) as error:
        raise wrong(f"'code' is no Python: {error}.", "code") from None


def choices(entry: Mapping[str, Any]) -> list[str]:
    """List what a question, as the file has it, offers to choose from."""
    right = entry.get("right", [])
    rights = [right] if isinstance(right, str) else right
    return [*rights, *(wrong["text"] for wrong in entry.get("wrong", []))]


def _question(stem: str, topics: Mapping[str, str], entry: Mapping[str, Any]) -> Question:
    fields = dict(entry)
    right = fields.get("right", [])
    fields["right"] = (right,) if isinstance(right, str) else tuple(right)
    fields["wrong"] = tuple(Wrong(**wrong) for wrong in entry.get("wrong", []))
    fields["slips"] = tuple(Slip(**slip) for slip in entry.get("slips", []))
    return Question(stem=stem, about=topics[entry["topic"]], **fields)
