"""Judges answers: what was typed, against what is right. Nothing is printed or kept here.

Points go from 0 to 1. A choice is right or wrong. Of several choices one may be amiss, of an order two
neighbours may have changed places: that is half a point.
"""

import math
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

from snn_course.teaching.questions import Question
from snn_course.teaching.quiz_numbers import Computed

HALF = 0.5
NAME = 12
"""Letters of a choice up to which it is a name such as "neuron 2"."""


class Unclear(Exception):
    """What was typed is no answer; the message says what would be one."""


@dataclass(frozen=True)
class Option:
    """Something to choose: why it is wrong, where it is."""

    text: str
    right: bool
    why: str = ""


@dataclass(frozen=True)
class Verdict:
    """The points of an answer, and what is to be said about the mistakes in it."""

    points: float
    whys: Sequence[str] = ()


def options(question: Question, computed: Computed, seed: int) -> list[Option]:
    """Shuffle what there is to choose from; the same seed shuffles in the same way."""
    rights = [computed.printed] if question.kind == "prints" else list(question.right)
    offered = [Option(text, right=True) for text in rights]
    offered += [Option(wrong.text, right=False, why=wrong.why) for wrong in question.wrong]
    shuffled = random.Random(f"{seed} {question.key}").sample(offered, len(offered))
    if question.kind == "order" and [option.text for option in shuffled] == rights:
        return shuffled[1:] + shuffled[:1]  # it must not lie there finished
    return shuffled


def marks(offered: Sequence[Option]) -> list[str]:
    """Give what stands before each choice: numbers, or letters where a choice is called by a number itself.

    "2" could else mean the second choice, or the choice "neuron 2".
    """
    most = len(offered)
    number = re.compile(rf"(?<![\d.])[1-{most}](?![\d.])")
    if any(len(option.text) <= NAME and number.search(option.text) for option in offered):
        return list("abcdefg"[:most])
    return [str(place) for place in range(1, most + 1)]


def _kind(known: Sequence[str]) -> str:
    return "letter" if known[0] == "a" else "number"


def places_in(typed: str, offered: Sequence[Option]) -> list[int]:
    """Read places such as "1 3" or "1,3", from 1 on. Raises: Unclear."""
    known = marks(offered)
    words = [word.lower().lstrip("0") for word in re.split(r"[\s,;.]+", typed.strip(" ,;.\t"))]
    kind = _kind(known)
    if not all(word in known for word in words):
        raise Unclear(f"Please type {kind}s from {known[0]} to {known[-1]}.")
    places = [known.index(word) + 1 for word in words]
    if len(set(places)) < len(places):
        raise Unclear(f"Each {kind} once, please.")
    return places


def choice(typed: str, offered: Sequence[Option]) -> Verdict:
    """Judge one place. Raises: Unclear."""
    places = places_in(typed, offered)
    if len(places) > 1:
        raise Unclear(f"One {_kind(marks(offered))}, please: one choice is right.")
    chosen = offered[places[0] - 1]
    return Verdict(1.0) if chosen.right else Verdict(0.0, [chosen.why])


def several(typed: str, offered: Sequence[Option]) -> Verdict:
    """Judge all right places; one amiss costs half. Raises: Unclear."""
    places = places_in(typed, offered)
    whys = []
    for place, (mark, option) in enumerate(zip(marks(offered), offered, strict=True), start=1):
        if place in places and not option.right:
            whys.append(f"{mark}: {option.why}")
        if option.right and place not in places:
            whys.append(f"{mark} is right, too.")
    return Verdict({0: 1.0, 1: HALF}.get(len(whys), 0.0), whys)


def order(typed: str, offered: Sequence[Option], right: Sequence[str], why: str) -> Verdict:
    """Judge an order of places; two neighbours exchanged cost half. Raises: Unclear."""
    places = places_in(typed, offered)
    if len(places) < len(offered):
        raise Unclear(f"All {len(offered)} {_kind(marks(offered))}s, please, in their order.")
    ranks = [right.index(offered[place - 1].text) for place in places]
    for n in range(len(ranks) - 1):
        exchanged = [*ranks]
        exchanged[n], exchanged[n + 1] = ranks[n + 1], ranks[n]
        if exchanged == sorted(ranks):
            return Verdict(HALF, [why])
    return Verdict(1.0) if ranks == sorted(ranks) else Verdict(0.0, [why])


def number(typed: str, question: Question, computed: Computed) -> Verdict:
    """Judge a number, with its tolerance. A slip that people make is explained. Raises: Unclear."""
    assert computed.answer is not None
    given = _number(typed, question.unit)
    margin = question.margin(computed.answer) * (1 + 1e-9)
    if abs(given - computed.answer) <= margin:
        return Verdict(1.0)
    for slip, wrong in zip(question.slips, computed.slips, strict=True):
        if abs(given - wrong) <= margin:
            return Verdict(0.0, [slip.why])
    return Verdict(0.0)


def _number(typed: str, unit: str) -> float:
    text = typed.strip().removesuffix(unit).strip().removesuffix("%").strip()
    fraction = re.fullmatch(r"([-+]?\d{1,9})\s*/\s*(\d{1,9})", text, re.ASCII)
    if fraction and int(fraction[2]):
        return int(fraction[1]) / int(fraction[2])
    plain = text.replace(",", ".").replace("\N{MINUS SIGN}", "-")
    if re.fullmatch(r"[-+]?(\d{1,30}\.?\d{0,30}|\.\d{1,30})([eE][-+]?\d{1,3})?", plain, re.ASCII):
        value = float(plain)
        if math.isfinite(value):
            return value
    raise Unclear("Please type a number, such as 12, 0.75, 3/4 or 2e-3.")


def short(said: Sequence[bool]) -> Verdict:
    """Give a point for all of the things that a good answer says, and a share for some of them."""
    return Verdict(sum(said) / len(said))
