"""Rehearses a lesson's exercises, for those who write them: does each mistake get its name?

    python -m snn_course.teaching.rehearsal 07              tasks and mistakes on their small inputs
    python -m snn_course.teaching.rehearsal 07 --chapters   and the check's chapters with the own solution

The lesson's own solution must hold, the untouched file must be called unwritten, and each known wrong
version must be named. The exit code is 1 where one is not so.
"""

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from snn_course.runs import scripts
from snn_course import ROOT, UsageError
from snn_course.teaching import composed, exercises, instruments, mistakes, scaffold
from snn_course.teaching.probes import Probes
from snn_course.teaching.tasks import Exercises
from snn_course.teaching.trials import FAILS, HOLDS, UNWRITTEN, Trials, Verdict

Row = tuple[bool, str]
"""Whether it is as it should be, and a line that says so."""


def rehearse(wanted: Exercises, chapters: bool) -> Iterator[Row]:
    """Try own solution, untouched file and all wrong versions of a lesson."""
    probes = Probes(wanted)
    own = Trials(wanted, _defined_by(wanted, wanted.source), "", probes=probes)
    yield from (_row("own solution", verdict, HOLDS) for verdict in own.tasks())
    cut = scaffold.cut(wanted, "python3 course.py")
    untouched = Trials(wanted, _defined_by(wanted, cut), "", probes=probes)
    yield from (_row("untouched file", verdict, UNWRITTEN) for verdict in untouched.tasks())
    for mistake in wanted.mistakes:
        wrong = Trials(wanted, vars(probes.wrong_module(mistake)), "", probes=probes)
        verdict = wrong.task(wanted.task(mistake.task))
        right = verdict.state == FAILS and verdict.mistake == mistake.name
        kind = "typical" if mistake.name in mistakes.TYPICAL else "own"
        named = verdict.mistake or f"no name; {verdict.state} {verdict.says}"
        yield right, f"{kind} mistake of {mistake.task}: {mistake.name} -> {named}"
    if chapters:
        for verdict, seconds in _timed(own.chapters()):
            claims = f"{len(verdict.claims)} claims, {seconds:.1f} s of work"
            yield verdict.state == HOLDS, f"chapter {verdict.name}: {verdict.state}, {claims} {verdict.says}"


def _defined_by(wanted: Exercises, source: str) -> dict[str, object]:
    """Run a file as a module, and give what it defines of the exercises."""
    names = vars(composed.module(wanted.script.path, source))
    return {name: names[name] for name in wanted.names if name in names}


def _row(what: str, verdict: Verdict, state: str) -> Row:
    says = f" ({verdict.mistake} {verdict.says})" if verdict.state != state else ""
    return verdict.state == state, f"{what}, task {verdict.name}: {verdict.state}{says}"


def _timed(verdicts: Iterator[Verdict]) -> Iterator[tuple[Verdict, float]]:
    began = time.process_time()
    for verdict in verdicts:
        yield verdict, time.process_time() - began
        began = time.process_time()


def main(names: list[str]) -> int:
    """Rehearse the lessons named, else all that have exercises. Returns: 0, or 1 where something is amiss."""
    chapters = "--chapters" in names
    found = scripts.find(ROOT)
    chosen = [name for name in names if name != "--chapters"]
    amiss = 0
    for script in scripts.pick(chosen, found) if chosen else exercises.there(found):
        print(script.stem)
        with instruments.installed():
            for right, line in rehearse(exercises.load(script), chapters):
                amiss += not right
                print(f"  {'ok   ' if right else 'AMISS'} {line}", flush=True)
    return min(amiss, 1)


if __name__ == "__main__":
    try:
        with tempfile.TemporaryDirectory() as scratch:
            os.environ["SNN_RESULTS"] = scratch
            code = main(sys.argv[1:])
        sys.exit(code)
    except UsageError as error:
        print(f"{Path(__file__).stem}: {error}", file=sys.stderr)
        sys.exit(2)
