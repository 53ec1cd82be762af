"""What the learner has done: ``progress.json``, readable, and theirs.

    {"seed": 52711, "scripts": {"07_surrogate_gradients": {
        "check": {"passed": true, "when": "2026-11-29T10:00:00+00:00", "tries": 4},
        "quiz": {"sittings": [...], "questions": {...}, "open": {...}},
        "hunts": {"reset-missing": {"found": true, "when": "...", "tries": 2}},
        "hunting": {"bug": "...", "tries": 1}}}}

It lies beside the journal, not in ``results/``: who throws results away to measure anew has still passed.
``SNN_PROGRESS`` names another file. Two terminals may write at once: each change reads the file, changes it
and writes it under a lock, whole or not at all. What this module does not know stays in the file.
"""

import copy
import json
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from snn_course import UsageError, progress_file, safe_write

Answer = TypeVar("Answer")
Record = dict[str, Any]
"""A part of the file, as JSON has it."""

LOCK_SECONDS = 30.0
"""Longest wait for another terminal that is writing."""
DAYS = (1, 3, 7, 21)
"""A question that was missed comes again after so many days, and after each right answer a step later."""
MISSED = 0.7
"""Points of a question, 0 to 1, below which it counts as missed."""

# ---------------------------------------------------------------------- reading and writing


def read() -> Record:
    """Give all that is recorded; what an empty or missing file stands for has no scripts.

    Raises: UsageError naming file and line, when it cannot be read.
    """
    path = progress_file()
    try:
        text = safe_write.patiently(lambda: path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        text = ""
    except (OSError, UnicodeDecodeError) as error:
        reason = safe_write.cause(error) if isinstance(error, OSError) else "it is not UTF-8"
        raise UsageError(f"Cannot read {path}: {reason}.") from None
    if not text.strip():
        return {"scripts": {}}
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        line = f" line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise _damaged(path, f"{line} is no JSON") from None
    if not _is_sound(found):
        raise _damaged(path, " has not the shape of a record")
    return found


def _damaged(path: Path, what: str) -> UsageError:
    return UsageError(f"{path}{what}: mend it by hand, or move it away to begin a new one.")


def _is_sound(found: Any) -> bool:
    """Say whether all that this module reads has the kind that it writes."""
    if not isinstance(found, dict) or not isinstance(found.get("seed", 0), int):
        return False
    scripts = found.setdefault("scripts", {})
    if not isinstance(scripts, dict):
        return False
    return all(isinstance(script, dict) and _is_script(script) for script in scripts.values())


def _is_script(script: Record) -> bool:
    check, quiz, hunts = (script.get(name, {}) for name in ("check", "quiz", "hunts"))
    if not all(isinstance(part, dict) for part in (check, quiz, hunts)):
        return False
    held, questions = quiz.get("sittings", []), quiz.get("questions", {})
    if not isinstance(held, list) or not isinstance(questions, dict):
        return False
    return all(map(_is_entry, [check, *held, *questions.values(), *hunts.values()]))


_NUMBER = (int, float)
_KINDS: dict[str, type | tuple[type, ...]] = {
    "when": str,
    "tries": int,
    "score": _NUMBER,
    "follow_up": _NUMBER,
    "verdict": str,
    "weak": list,
    "asked": int,
    "points": _NUMBER,
    "step": int,
    "due": str,
}


def _is_entry(entry: Any) -> bool:
    """Say whether the fields that are read have their kinds."""
    if not isinstance(entry, dict):
        return False
    return all(isinstance(value, _KINDS.get(name, object)) for name, value in entry.items())


def change(action: Callable[[Record], Answer]) -> Answer:
    """Change the record in place, under a lock, and write it if it is another one then.

    Returns: what the action returns. Raises: UsageError when the file cannot be read, locked or written.
    """
    with _locked(progress_file()):
        record = read()
        before = copy.deepcopy(record)
        answer = action(record)
        if record != before:
            safe_write.write(progress_file(), json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    return answer


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    import filelock

    with safe_write.reported(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(path.with_name(f".{path.name}.lock"), timeout=LOCK_SECONDS)
        try:
            lock.acquire()
        except filelock.Timeout:
            raise UsageError(f"{path}: another program has held its lock for {LOCK_SECONDS:.0f} s.") from None
    try:
        yield
    finally:
        lock.release()


def of_script(record: Record, stem: str) -> Record:
    """Give the part of a script, which is made where it is missing."""
    part: Record = record["scripts"].setdefault(stem, {})
    return part


def now() -> str:
    """Give the present time, as it is recorded."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def today() -> date:
    """Give the day where the learner is: reviews are due by days."""
    return datetime.now().astimezone().date()


def seed() -> int:
    """Give the learner's own seed, drawn once: it shuffles choices and makes the numbers of the questions."""

    def drawn(record: Record) -> int:
        return int(record.setdefault("seed", random.SystemRandom().randrange(1, 100_000)))

    return change(drawn)


# ---------------------------------------------------------------------- notes


def note_check(stem: str, passed: bool, when: str = "") -> None:
    """Record a check of the learner's own solution. Once passed, it stays passed."""

    def noted(record: Record) -> None:
        part = of_script(record, stem)
        old = part.get("check", {})
        if old.get("passed") and not passed:
            old["tries"] = old.get("tries", 0) + 1
        else:
            part["check"] = {"passed": passed, "when": when or now(), "tries": old.get("tries", 0) + 1}

    change(noted)


def note_quiz(stem: str, score: float, verdict: str, weak: Sequence[str], when: str = "") -> None:
    """Record a finished sitting: its score from 0 to 1, "pass", "marginal" or "re-read", the weak topics."""
    outcome = {"score": score, "verdict": verdict, "weak": weak}
    change(lambda record: enter_sitting(record, stem, outcome, when))


def enter_sitting(record: Record, stem: str, outcome: Record, when: str = "") -> None:
    """Enter a finished sitting; ``follow_up`` in it is the score of the questions after a marginal one."""
    sitting = {"when": when or now(), "score": round(outcome["score"], 3)}
    if outcome.get("follow_up") is not None:
        sitting["follow_up"] = round(outcome["follow_up"], 3)
    sitting |= {"verdict": outcome["verdict"], "weak": list(outcome["weak"])}
    of_script(record, stem).setdefault("quiz", {}).setdefault("sittings", []).append(sitting)


def note_question(record: Record, stem: str, question: str, points: float, review: bool = False) -> None:
    """Enter the answer to a question, and when it comes again: soon if it was missed, later each time."""
    questions = of_script(record, stem).setdefault("quiz", {}).setdefault("questions", {})
    entry = questions.setdefault(question, {"asked": 0})
    entry |= {"asked": entry.get("asked", 0) + 1, "points": round(points, 3), "when": now()}
    if points < MISSED:
        step = 0
    elif "due" in entry:
        step = entry.get("step", 0) + review  # asked in a sitting before its day, it keeps its step
    else:
        return
    entry.pop("due", None)
    if step < len(DAYS):
        entry |= {"step": step, "due": (today() + timedelta(days=DAYS[step])).isoformat()}


def note_hunt(stem: str, bug: str, found: bool, tries: int, when: str = "") -> None:
    """Record how the hunt for a bug ended. Once found, it stays found."""

    def noted(record: Record) -> None:
        part = of_script(record, stem)
        part.pop("hunting", None)
        hunts = part.setdefault("hunts", {})
        if found or not hunts.get(bug, {}).get("found"):
            hunts[bug] = {"found": found, "when": when or now(), "tries": tries}

    change(noted)


# ---------------------------------------------------------------------- reading back


def has_passed_check(record: Record, stem: str) -> bool:
    """Say whether the learner's own solution has passed."""
    return bool(record["scripts"].get(stem, {}).get("check", {}).get("passed"))


def sittings(record: Record, stem: str) -> list[Record]:
    """Give the finished sittings of a quiz, the oldest first."""
    found: list[Record] = record["scripts"].get(stem, {}).get("quiz", {}).get("sittings", [])
    return found


def best_score(record: Record, stem: str) -> float | None:
    """Give the best score of a quiz, from 0 to 1; None before the first sitting has ended."""
    scores = [float(sitting.get("score", 0)) for sitting in sittings(record, stem)]
    return max(scores, default=None)


def has_passed_quiz(record: Record, stem: str) -> bool:
    """Say whether a sitting of the quiz was passed."""
    return any(sitting.get("verdict") == "pass" for sitting in sittings(record, stem))


def found_bugs(record: Record, stem: str) -> set[str]:
    """Name the bugs that were found."""
    hunts = record["scripts"].get(stem, {}).get("hunts", {})
    return {bug for bug, entry in hunts.items() if entry.get("found")}


def due(record: Record, day: date) -> list[tuple[str, str, str]]:
    """Give the questions whose day has come: day, script and id, those that wait longest first."""
    waiting = []
    for stem, part in record["scripts"].items():
        for question, entry in part.get("quiz", {}).get("questions", {}).items():
            if "due" in entry and str(entry["due"]) <= day.isoformat():
                waiting.append((str(entry["due"]), stem, question))
    return sorted(waiting)


def next_due(record: Record) -> str | None:
    """Give the first day on which a question comes again."""
    return min((day for day, _, _ in due(record, date.max)), default=None)
