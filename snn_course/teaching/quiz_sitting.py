"""A sitting of a quiz, from the draw to the score, as it stands in ``progress.json``.

    "open": {"begun": "...", "seed": 3, "parts": [
        {"questions": ["ste", ...], "answers": {"ste": 1.0, ...}, "hinted": ["ste"]},
        {...}]}                      # the follow-up questions, after a marginal sitting

Each function here works on a record that ``progress.change`` holds locked, so that two terminals in one
quiz share its sitting: a question that one of them has answered is not asked, or not counted, in the other.
"""

import random
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from snn_course.teaching import progress
from snn_course.teaching.progress import Record
from snn_course.teaching.questions import Bank, Question

PASS, MARGINAL = 0.7, 0.5
FOLLOW_UPS = (3, 5)
"""Fewest and most questions that follow a marginal sitting."""


@dataclass(frozen=True)
class Outcome:
    """How a sitting ended."""

    score: float
    verdict: str
    """ "pass", "marginal", "re-read", or "not asked" where no question could be."""
    weak: Sequence[str] = ()
    """Short names of the topics with less than a pass."""
    missed: Sequence[Question] = ()
    follow_up: float | None = None
    follows: bool = False
    """Whether follow-up questions come now; then nothing has ended yet."""


# ---------------------------------------------------------------------- drawing


def seed_of(*names: object) -> int:
    """Make a seed of names and numbers, the same on each machine."""
    return zlib.crc32(" ".join(map(str, names)).encode()) % 100_000


def fresh_first(questions: Sequence[Question], history: Mapping[str, Record], seed: int) -> list[Question]:
    """Sort: first what was never asked, last what was asked most often or just now; else by chance."""
    rng = random.Random(seed)

    def rank(question: Question) -> tuple[int, str, float]:
        entry = history.get(question.id, {})
        return int(entry.get("asked", 0)), str(entry.get("when", "")), rng.random()

    return sorted(questions, key=rank)


def draw(bank: Bank, history: Mapping[str, Record], seed: int) -> list[Question]:
    """Draw a sitting: each topic is met, as evenly as it goes, and what was never asked comes first."""
    left = fresh_first(bank.questions, history, seed)
    met = dict.fromkeys(bank.topics, 0)
    drawn: list[Question] = []
    while left and len(drawn) < bank.sitting:
        fewest = min(met[question.topic] for question in left)
        question = next(question for question in left if met[question.topic] == fewest)
        met[question.topic] += 1
        left.remove(question)
        drawn.append(question)
    random.Random(seed).shuffle(drawn)
    first = next((question for question in drawn if not question.code), drawn[0])
    # While that one is asked, the numbers of the others are computed.
    return sorted(drawn, key=lambda question: question is not first)


def follow_ups(bank: Bank, part: Record, history: Mapping[str, Record], seed: int) -> list[Question]:
    """Choose three to five questions on the weak topics: others, or where there are few missed ones, too."""
    weak = weak_topics(bank, part)
    least, most = FOLLOW_UPS
    wanted = min(most, max(least, 2 * len(weak)))
    others = [question for question in bank.questions if question.id not in part["questions"]]
    others = [question for question in others if question.topic in weak]
    chosen = fresh_first(others, history, seed)[:wanted]
    lacking = max(0, least - len(chosen))
    return chosen + missed(bank, part)[:lacking]


# ---------------------------------------------------------------------- on the record


def _quiz(record: Record, stem: str) -> Record:
    quiz: Record = progress.of_script(record, stem).setdefault("quiz", {})
    return quiz


def _part(questions: Sequence[Question]) -> Record:
    return {"questions": [question.id for question in questions], "answers": {}, "hinted": []}


def take_up(record: Record, bank: Bank, learner: int) -> Record:
    """Give the open sitting of a quiz; begin one where there is none, or where its questions are gone."""
    quiz = _quiz(record, bank.stem)
    opened = quiz.get("open")
    if opened is not None and _is_sound(opened, bank):
        return dict(opened)
    seed = seed_of(learner, bank.stem, len(quiz.get("sittings", [])))
    drawn = draw(bank, quiz.get("questions", {}), seed)
    quiz["open"] = {"begun": progress.now(), "seed": seed, "parts": [_part(drawn)]}
    return dict(quiz["open"])


def _is_sound(opened: Record, bank: Bank) -> bool:
    """Say whether an open sitting can go on: the course may have changed its questions meanwhile."""
    try:
        ids: set[str] = set()
        for part in opened["parts"]:
            ids |= {*part["questions"], *part["answers"], *part["hinted"]}
        return bool(ids) and ids <= set(bank.by_id) and isinstance(opened["seed"], int)
    except (KeyError, TypeError):
        return False


def unanswered(opened: Record) -> list[str]:
    """Give the ids that are still to be asked, in their order."""
    part = opened["parts"][-1]
    return [name for name in part["questions"] if name not in part["answers"]]


def wants(record: Record, stem: str, begun: str, question: str) -> bool:
    """Say whether the sitting that began then still wants an answer to this question."""
    opened = _quiz(record, stem).get("open")
    if opened is None or opened["begun"] != begun:
        return False
    return question in unanswered(opened)


def note_hint(record: Record, stem: str, question: str) -> None:
    """Remember that the hint was given, so that stopping here does not undo it."""
    opened = _quiz(record, stem).get("open")
    if opened and question not in opened["parts"][-1]["hinted"]:
        opened["parts"][-1]["hinted"].append(question)


def enter(record: Record, stem: str, begun: str, question: str, points: float | None) -> bool:
    """Enter the points of a question; None where it could not be asked.

    Returns: False, and nothing is changed, when another terminal has been faster.
    """
    if not wants(record, stem, begun, question):
        return False
    opened = _quiz(record, stem)["open"]
    opened["parts"][-1]["answers"][question] = points if points is None else round(points, 3)
    if points is not None:
        progress.note_question(record, stem, question, points)
    return True


def close(record: Record, bank: Bank, begun: str) -> Outcome | None:
    """End a sitting whose questions are all answered, or add the follow-up questions that it needs.

    Returns: None when another terminal has ended it.
    """
    quiz = _quiz(record, bank.stem)
    opened = quiz.get("open")
    if not opened or opened["begun"] != begun or unanswered(opened):
        return None
    outcome = judged(bank, *opened["parts"])
    if outcome.verdict == "marginal" and len(opened["parts"]) == 1:
        history = quiz.get("questions", {})
        following = follow_ups(bank, opened["parts"][0], history, opened["seed"])
        if following:
            opened["parts"].append(_part(following))
            return replace(outcome, follows=True)
    del quiz["open"]
    if outcome.verdict != "not asked":
        progress.enter_sitting(record, bank.stem, vars(outcome))
    return outcome


# ---------------------------------------------------------------------- scores


def known(part: Record) -> dict[str, float]:
    """Give the points of the questions that could be asked."""
    return {name: points for name, points in part["answers"].items() if points is not None}


def mean(points: Iterable[float]) -> float:
    """Give the mean, rounded so that 0.7 is 0.7; 0 of nothing."""
    values = list(points)
    return round(sum(values) / len(values), 6) if values else 0.0


def missed(bank: Bank, part: Record) -> list[Question]:
    """Give the questions that brought less than a pass."""
    return [bank.by_id[name] for name, points in known(part).items() if points < PASS]


def weak_topics(bank: Bank, *parts: Record) -> list[str]:
    """Name the topics whose questions brought less than a pass."""
    by_topic: dict[str, list[float]] = {}
    for part in parts:
        for name, points in known(part).items():
            by_topic.setdefault(bank.by_id[name].topic, []).append(points)
    return [topic for topic in bank.topics if topic in by_topic and mean(by_topic[topic]) < PASS]


def judged(bank: Bank, first: Record, later: Record | None = None) -> Outcome:
    """Judge a sitting. A marginal one is made good by its follow-up questions."""
    points = known(first).values()
    score = mean(points)
    if later is None:
        verdict = verdict_on(score) if points else "not asked"
        return Outcome(score, verdict, weak_topics(bank, first), missed(bank, first))
    again = mean(known(later).values())
    verdict = "pass" if again >= PASS else verdict_on(score)
    return Outcome(score, verdict, weak_topics(bank, first, later), missed(bank, first), again)


def verdict_on(score: float) -> str:
    """Say what a score means."""
    if score >= PASS:
        return "pass"
    return "marginal" if score >= MARGINAL else "re-read"
