"""The quiz of a script, for reading: each question with its answer folded away.

Numbers and rasters are drawn anew for each learner; those questions ``course.py quiz`` asks.
"""

import random
from dataclasses import dataclass, field
from pathlib import Path

from snn_course import UsageError
from snn_course.teaching import questions
from snn_course.teaching.book.prose import Writer

PRINTED = ("choice", "several", "order", "short", "prints")
"""Kinds of questions that can stand in a book."""


@dataclass
class Printed:
    """One question; all texts are HTML."""

    ask: str
    code: str
    options: list[str]
    answer: str
    wrong: list[tuple[str, str]]
    """Wrong choices, each with what one who chose it has mixed up."""
    hint: str
    marks: list[str]
    """What a good short answer says."""
    explain: str
    more: str
    reading: str


@dataclass
class Quiz:
    """The questions of one script."""

    questions: list[Printed] = field(default_factory=list)
    drawn: int = 0
    """How many more there are whose numbers are drawn for each learner."""
    problem: str = ""


def read(path: Path) -> Quiz | None:
    """Read a bank of questions; None where there is none. A damaged one is named, and no error."""
    if not path.exists():
        return None
    try:
        bank = questions.read(path)
    except UsageError as error:
        return Quiz(problem=str(error))
    printed = [question for question in bank.questions if question.kind in PRINTED]
    return Quiz([_printed(question) for question in printed], len(bank.questions) - len(printed))


def _printed(question: questions.Question) -> Printed:
    write = Writer()
    options = [*question.right, *(wrong.text for wrong in question.wrong)]
    random.Random(question.id).shuffle(options)  # the same on each page that is made
    return Printed(
        ask=write.html(question.ask),
        code=question.code,
        options=[write.line(option) for option in options],
        answer=write.line(_answer(question)),
        wrong=[(write.line(wrong.text), write.line(wrong.why)) for wrong in question.wrong],
        hint=write.line(question.hint),
        marks=[write.line(mark) for mark in question.marks],
        explain=write.html(f"{question.why} {question.explain}"),
        more=write.html(question.more),
        reading=write.line(question.reading),
    )


def _answer(question: questions.Question) -> str:
    """Give the right answer, as Markdown; what code prints is found by running it."""
    if question.kind == "prints":
        return "Run these lines: what they print is the answer."
    if question.kind == "short":
        return question.model
    return "; then ".join(question.right) if question.kind == "order" else "; ".join(question.right)
