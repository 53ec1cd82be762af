"""What ``course.py`` alone shows: a bar, a line for each script, what waits, and what is next. 79 columns.

Nothing is imported or run for it, and only the standard library is needed.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from snn_course import UsageError
from snn_course.events import cache
from snn_course.runs.scripts import Script
from snn_course.schedule import overview, standing
from snn_course.schedule.standing import Standing
from snn_course.teaching import hunts_planted, progress, questions, way
from snn_course.teaching.progress import Record
from snn_course.teaching.quiz_terminal import percent

BAR = 30
"""Characters of the bar."""
NOT_YET = "-"
WORTH_A_WORD = 1e6
"""Bytes of the disk cache from which it is told."""
COLUMNS = (32, 10, 9, 13, 8)
HEAD = ("script", "measured", "check", "quiz", "bugs")


@dataclass(frozen=True)
class Row:
    """One script: the words for its table row, and its steps, each done or not."""

    cells: Sequence[str]
    steps: Sequence[bool]


def lines(everything: Sequence[Script], command: str) -> Iterator[str]:
    """Give what is shown; ``command`` is how course.py is called."""
    now = standing.now(everything)
    record, damage = _record()
    following = way.script_next(everything, now, record)
    rows = {script.stem: _row(script, now, record) for script in everything}
    yield from _bar([step for row in rows.values() for step in row.steps])
    yield ""
    is_wide = overview.width() >= overview.WIDTH
    yield from [_laid_out("", HEAD)] if is_wide else []
    for script in everything:
        mark = ">" if script == following else ""
        cells = rows[script.stem].cells
        yield from [_laid_out(mark, cells)] if is_wide else _in_words(mark, cells)
    yield ""
    yield from overview.filled(damage, "  ") if damage else []
    notes = [*standing.notes(now), *_cached()]
    yield from [*notes, ""] if notes else []
    yield from way.lines(everything, record, command)
    yield ""
    yield from overview.filled(f"{command} --help shows all commands.", "")


def _record() -> tuple[Record, str]:
    """Read what the learner has done. Returns: it, or nothing and what is wrong with the file."""
    try:
        return progress.read(), ""
    except UsageError as error:
        return {"scripts": {}}, str(error)


def _cached() -> list[str]:
    """Say how large the disk cache of frames is, once it is worth a word."""
    size = cache.size()
    if size < WORTH_A_WORD:
        return []
    text = f"{size / 1e6:,.0f} MB of frames made of recordings; lesson 11 with --fresh clears them"
    return overview.filled(f"{'cache':11} {text}", "  ", " " * 14)


def _bar(steps: Sequence[bool]) -> list[str]:
    done = sum(steps)
    share = done / max(1, len(steps))
    filled = int(BAR * share)
    bar = "#" * filled + "." * (BAR - filled)
    words = f"{percent(share)}: {done} of {len(steps)} runs, checks and quizzes"
    return overview.filled(f"[{bar}] {words}", "")


def _laid_out(mark: str, cells: Sequence[str]) -> str:
    columns = [overview.cut(cell, width).ljust(width) for cell, width in zip(cells, COLUMNS, strict=True)]
    return f"{mark or ' '} {' '.join(columns)}".rstrip()


def _in_words(mark: str, cells: Sequence[str]) -> list[str]:
    """Tell a row of the table where that is too wide for the terminal."""
    stem, *others = cells
    said = [
        f"{name} {cell}" for name, cell in zip(HEAD[1:], others, strict=True) if cell not in ("", NOT_YET)
    ]
    return overview.filled(f"{mark or ' '} {stem}" + ": " * bool(said) + ", ".join(said), "", "    ")


# ---------------------------------------------------------------------- one script


def _row(script: Script, now: Standing, record: Record) -> Row:
    """Say of a script what is done; what it does not have stays empty, and is no step."""
    has_run = standing.has_run(script, now)
    cells = [script.stem, _scale(script, now) if has_run else NOT_YET, "", "", ""]
    steps = [has_run]
    if way.has_check(script):
        steps.append(progress.has_passed_check(record, script.stem))
        cells[2] = _check(record, script.stem)
    if questions.path_of(script.stem).is_file():
        steps.append(progress.has_passed_quiz(record, script.stem))
        cells[3] = _quiz(record, script.stem)
    if hunts_planted.path_of(script.stem).is_file():
        found = len(progress.found_bugs(record, script.stem))
        cells[4] = f"{found} found" if found else NOT_YET
    return Row(cells, steps)


def _scale(script: Script, now: Standing) -> str:
    if script.stem in now.missed:
        return "missed"
    return "quick" if script in now.at_quick_scale else "yes"


def _check(record: Record, stem: str) -> str:
    if progress.has_passed_check(record, stem):
        return "passed"
    return "begun" if "check" in record["scripts"].get(stem, {}) else NOT_YET


def _quiz(record: Record, stem: str) -> str:
    best = progress.best_score(record, stem)
    if best is None:
        return "begun" if record["scripts"].get(stem, {}).get("quiz", {}).get("open") else NOT_YET
    return f"{percent(best)}, passed" if progress.has_passed_quiz(record, stem) else percent(best)
