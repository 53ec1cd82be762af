"""The quiz of a script, for reading: each question with its answer folded away.

Numbers and rasters are drawn anew for each learner; those questions ``course.py quiz`` asks.
"""

import random
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from snn_course.teaching.book.prose import Writer

PRINTED = ("choice", "several", "order", "short", "prints")
"""Kinds of questions that can stand in a book."""


@dataclass
class Question:
    """One question; all texts are HTML."""

    kind: str
    ask: str
    code: str = ""
    options: list[str] = field(default_factory=list)
    answer: str = ""
    wrong: list[tuple[str, str]] = field(default_factory=list)
    """Wrong choices, each with what one who chose it has mixed up."""
    hint: str = ""
    marks: list[str] = field(default_factory=list)
    """What a good short answer says."""
    explain: str = ""
    more: str = ""
    reading: str = ""


@dataclass
class Quiz:
    """The questions of one script."""

    questions: list[Question] = field(default_factory=list)
    drawn: int = 0
    """How many more there are whose numbers are drawn for each learner."""
    problem: str = ""


def read(path: Path) -> Quiz | None:
    """Read a bank of questions; None where there is none. A damaged one is named, and no error."""
    try:
        bank = tomllib.loads(path.read_text(encoding="utf-8"))
        questions = bank["question"]
        printed = [question for question in questions if question["kind"] in PRINTED]
        return Quiz([_question(entry) for entry in printed], len(questions) - len(printed))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return Quiz(problem=f"{path.name} cannot be read ({' '.join(str(error).split())}).")


def _question(entry: dict[str, Any]) -> Question:
    write = Writer()
    question = Question(entry["kind"], write.html(entry["ask"]), entry.get("code", ""))
    right = entry.get("right", [])
    rights = [right] if isinstance(right, str) else list(right)
    for choice in entry.get("wrong", []):
        question.wrong.append((write.line(choice["text"]), write.line(choice["why"])))
    question.options = [write.line(text) for text in rights] + [text for text, _ in question.wrong]
    random.Random(entry["id"]).shuffle(question.options)  # the same on each page that is made
    question.answer = _answer(entry, [write.line(text) for text in rights])
    question.marks = [write.line(mark) for mark in entry.get("marks", [])]
    question.hint = write.line(entry.get("hint", ""))
    question.explain = write.html(" ".join(filter(None, (entry.get("why", ""), entry.get("explain", "")))))
    question.more = write.html(entry.get("more", ""))
    question.reading = write.line(entry.get("reading", ""))
    return question


def _answer(entry: dict[str, Any], rights: list[str]) -> str:
    if entry["kind"] == "short":
        return Writer().line(entry["model"])
    if entry["kind"] == "prints":
        return "Run these lines: what they print is the answer."
    return "; then ".join(rights) if entry["kind"] == "order" else "; ".join(rights)
