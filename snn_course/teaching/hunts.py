"""``course.py hunt``: one bug in a copy of a lesson's piece, and the number that gives it away."""

import random
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from snn_course import UsageError, journal_file, safe_write, workspace_dir
from snn_course.journal import blocks
from snn_course.runs.scripts import Script
from snn_course.schedule import overview
from snn_course.teaching import hunts_planted, progress, quiz_terminal, workspace
from snn_course.teaching.hunts_planted import Bug, Piece
from snn_course.teaching.progress import Record
from snn_course.teaching.quiz_numbers import Job, Numbers
from snn_course.teaching.quiz_sitting import seed_of
from snn_course.teaching.quiz_terminal import say, typed, until_stopped

SHOWN = 60
"""Lines up to which a piece is printed, too."""


def run(chosen: Sequence[Script], everything: Sequence[Script], called: str) -> int:
    """Do what the command line says; ``called`` is how course.py is called. Returns: the exit code.

    Raises: UsageError.
    """
    if not chosen:
        print("\n".join(listed(everything, called)))
        return 0
    if len(chosen) > 1:
        raise UsageError("One hunt at a time; without a name, 'course.py hunt' lists them.")
    (script,) = chosen
    command = f"{called} hunt {script.label}"
    return until_stopped(lambda: _hunt(script, called), "The hunt goes on with", command)


def listed(scripts: Sequence[Script], called: str) -> list[str]:
    """List the scripts in which bugs can be hunted."""
    record = progress.read()
    room = min(34, overview.width() - 14)
    shown = [f"{'hunt':{room}} {'bugs':>5}  {'found':>5}"]
    for script in scripts:
        if hunts_planted.path_of(script.stem).exists():
            bugs = {bug.id for bug in hunts_planted.of_script(script)}
            found = bugs & progress.found_bugs(record, script.stem)
            shown.append(f"{overview.cut(script.stem, room):{room}} {len(bugs):>5}  {len(found):>5}")
    if len(shown) == 1:
        return ["There are no hunts yet."]
    words = f"{called} hunt NUMBER hides a bug in a copy of a lesson's piece."
    return [*shown, "", *overview.filled(words, "")]


# ---------------------------------------------------------------------- one hunt


@dataclass
class Hunt:
    """A hunt that is going on."""

    script: Script
    bug: Bug
    piece: Piece
    path: Path
    tries: int = 0
    hints: list[str] = field(default_factory=list)


def _hunt(script: Script, called: str) -> None:
    """Hide a bug, show its number, ask for its line. Raises: Stopped, UsageError."""
    bugs = hunts_planted.of_script(script)
    learner = progress.seed()
    bug = progress.change(lambda record: take_up(record, script.stem, bugs, learner))
    try:
        lesson = script.path.read_text(encoding="utf-8")
        piece = hunts_planted.piece_of(bug, lesson)
        planted = bug.planted(lesson)
    except (OSError, UnicodeDecodeError, SyntaxError, ValueError) as error:
        raise UsageError(f"This hunt does not fit {script.path.name}: {error}.") from None
    print("(measuring ...)", flush=True)
    wrong, right = measured(script, bug, planted)
    numbers = f"{bug.shows}: {wrong:.4g} with the bug, {right:.4g} in the lesson"
    piece = piece.below(_head(script, numbers, called))
    place = "hunts", f"{script.stem}_bug{bugs.index(bug) + 1}"
    path = _written(workspace_dir().joinpath(*place), "\n".join(piece.lines) + "\n")
    hunt = Hunt(script, bug, piece, path, progress.read()["scripts"][script.stem]["hunting"]["tries"])
    _show(hunt, numbers)
    _ask(hunt)
    warning = write_journal(script, bugs)
    if warning:
        say(warning)


def take_up(record: Record, stem: str, bugs: Sequence[Bug], learner: int) -> Bug:
    """Give the bug that is being hunted; else draw one, first of those that were not found yet."""
    part = progress.of_script(record, stem)
    by_id = {bug.id: bug for bug in bugs}
    known = part.get("hunting")
    if isinstance(known, dict) and known.get("bug") in by_id and isinstance(known.get("tries"), int):
        return by_id[known["bug"]]
    found = progress.found_bugs(record, stem)
    hunted = part.get("hunts", {})
    rng = random.Random(seed_of(learner, stem, len(hunted)))
    ranks = {bug.id: (bug.id in found, hunted.get(bug.id, {}).get("when", ""), rng.random()) for bug in bugs}
    bug = min(bugs, key=lambda bug: ranks[bug.id])
    part["hunting"] = {"bug": bug.id, "tries": 0}
    return bug


def measured(script: Script, bug: Bug, planted: str) -> tuple[float, float]:
    """Measure the number that gives a bug away, with and without it. Raises: UsageError."""
    jobs = [Job("wrong", script.stem, bug.number, 0, text=planted), Job("right", script.stem, bug.number, 0)]
    answers = []
    with Numbers(jobs) as numbers:
        for job in jobs:
            computed = numbers.of(job.key)
            if computed.answer is None:
                reason = computed.error or "its code sets no answer"
                raise UsageError(f"The number of this hunt cannot be measured here: {reason}.")
            answers.append(computed.answer)
    return answers[0], answers[1]


def _head(script: Script, numbers: str, called: str) -> list[str]:
    """Give the lines above the piece."""
    text = [f"Bug hunt: a piece of {script.path.name} with one bug in it.", "", numbers, ""]
    text.append(f"Which line is it? Answer in the terminal: {called} hunt {script.label}")
    lines = [line for part in text for line in quiz_terminal.lines(part, columns=overview.WIDTH - 2)]
    return [*(f"# {line}".rstrip() for line in lines), "", ""]


def _written(stem: Path, text: str) -> Path:
    """Write the piece. A file of that name that is another one, with the learner's notes, stays."""
    for number in count(1):
        path = stem.with_name(stem.name + (f"_{number}" if number > 1 else "") + ".py")
        if not path.exists():
            safe_write.write(path, text)
            return path
        if path.is_file() and path.read_bytes() == text.encode():
            return path
    raise AssertionError


def _show(hunt: Hunt, numbers: str) -> None:
    print()
    say(f"One line of this piece of {hunt.script.path.name} is wrong. It runs, and nothing crashes, but")
    say(numbers, "  ")
    print()
    lines = hunt.piece.lines
    first = next(number for number, line in enumerate(lines, start=1) if line and not line.startswith("#"))
    if len(lines) - first < SHOWN:
        for number, line in enumerate(lines[first - 1 :], start=first):
            print("\n".join(_parts(line, f"{number:4}  ")))
    print(f"\nAlso in your editor: {workspace.shown(hunt.path)}")


def _parts(line: str, first: str) -> list[str]:
    """Break a line of code that is too long for the terminal."""
    room = overview.width() - len(first)
    cut = textwrap.wrap(line, room, drop_whitespace=False, break_on_hyphens=False) or [""]
    rest = ": ".rjust(len(first))
    return [f"{first}{cut[0]}".rstrip(), *(rest + part.lstrip() for part in cut[1:])]


def _ask(hunt: Hunt) -> None:
    """Ask for the line until it is found or given up. Raises: Stopped."""
    say("Which line? (its number; h: a hint, g: give up, q: stop here)")
    while True:
        answer = typed("line > ").lower()
        if answer in ("h", "hint"):
            _hint(hunt)
        elif answer in ("g", "give up"):
            _end(hunt, found=False)
            return
        elif answer.isascii() and answer.isdigit() and 1 <= int(answer[:9]) <= len(hunt.piece.lines):
            hunt.tries += 1
            if int(answer) in hunt.piece.guilty:
                _end(hunt, found=True)
                return
            _note_try(hunt)
            say(f"Line {int(answer)} is as it should be. (h: a hint)")
        elif answer:
            say(f"Please type the number of a line, 1 to {len(hunt.piece.lines)}.")


def _hint(hunt: Hunt) -> None:
    if len(hunt.hints) == len(hunt.bug.hints):
        print("There are no more hints. (g: give up)")
        return
    hunt.hints.append(hunt.bug.hints[len(hunt.hints)])
    say(hunt.hints[-1], "  Hint: ", "  ")


def _note_try(hunt: Hunt) -> None:
    """Remember a wrong line, so that the tries are counted over a stop."""

    def noted(record: Record) -> None:
        known = progress.of_script(record, hunt.script.stem).get("hunting", {})
        if known.get("bug") == hunt.bug.id:
            known["tries"] = hunt.tries

    progress.change(noted)


def _end(hunt: Hunt, found: bool) -> None:
    """Record the hunt, show both versions, and say why the bug hides."""
    progress.note_hunt(hunt.script.stem, hunt.bug.id, found, hunt.tries)
    tries = "the first try" if hunt.tries == 1 else f"{hunt.tries} tries"
    lines = " or ".join(map(str, sorted(hunt.piece.guilty)))
    print(f"\nFound, with {tries}." if found else f"\nIt was line {lines}.")
    _show_version("here", hunt.bug.after)
    _show_version("in the lesson", hunt.bug.before)
    say(hunt.bug.why_it_hides, "  Why it hides: ", "  ")


def _show_version(name: str, code: str) -> None:
    print(f"  {name}:")
    for line in code.split("\n") if code else ["    (nothing)"]:
        print("\n".join(_parts(line, "    ")))


# ---------------------------------------------------------------------- the journal


def write_journal(script: Script, bugs: Sequence[Bug]) -> str | None:
    """Write the block of a script's hunts. Returns: a warning, or None."""
    hunted = progress.read()["scripts"].get(script.stem, {}).get("hunts", {})
    found = [bug.id for bug in bugs if hunted.get(bug.id, {}).get("found")]
    rows = [f"**Bug hunt: {len(found)} of {len(bugs)} found**", ""]
    rows += ["| bug | date | found | tries |", "|---|---|---|---:|"]
    for bug in bugs:
        if bug.id in hunted:
            entry = hunted[bug.id]
            cells = [bug.id, str(entry.get("when", ""))[:10], "yes" if entry.get("found") else "given up"]
            rows.append(f"| {' | '.join(cells)} | {entry.get('tries', '')} |")
    try:
        return blocks.write_block(journal_file(), f"{script.stem} hunt", "\n".join(rows))
    except UsageError as error:  # it is safe in progress.json
        return f"Not in the journal: {error}"
