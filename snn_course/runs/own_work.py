"""What a learner does alone: shows the brief, runs the learner's script, and says what is met so far.

A brief is a script whose docstring is the task. Its last lines are

    if __name__ == "__main__":
        own_work.start(__doc__, {"pass": 85.0, "merit": 90.0})

Nothing of it runs the worked answer: that has the same name in ``solutions/``, and only ``course.py run`` and
the checks look at it. Standard library only, so that the brief is there at once.
"""

import math
import re
import runpy
import sys
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from snn_course.runs import lesson, metrics_file
from snn_course import UsageError, check_places, journal_file, results_dir, workspace_dir

MEASURE = "test accuracy"
"""How the name of the measure begins that the marks are for."""
FIGURES = 3
"""Spikes, training curves, confusion matrix: fewer cannot be all."""
PAGE = 150
"""Words from which on the page is taken for written; a whole one has about 300."""


def start(brief: str, marks: Mapping[str, float]) -> typing.NoReturn:
    """Show the brief or, where there is one, run the learner's script with the same arguments; then exit.

    The exit code is the learner's script's; 2 for wrong use.
    """
    script = Path(sys.argv[0]).resolve()
    try:
        check_places()
        own = workspace_dir() / script.name
        if own.exists() and not own.is_file():
            raise UsageError(f"{own} is no file: move it away, and write your script there.")
        if "--brief" in sys.argv or not own.exists():
            print(brief.strip())
            sys.exit(0)
        code = _run(own)
        print("\n".join(told(script.stem, marks)))
    except UsageError as error:
        print(f"{script.name}: {error}", file=sys.stderr)
        sys.exit(2)
    sys.exit(code)


def _run(own: Path) -> int:
    """Run the learner's script in this process, as if it had been called itself. Returns: its exit code.

    Raises: UsageError when this Python has not the packages.
    """
    lesson.check_packages(Path(sys.argv[0]).resolve())
    sys.argv[0] = str(own.resolve())
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as stop:
        if isinstance(stop.code, str):
            print(stop.code, file=sys.stderr)
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return 0


def told(stem: str, marks: Mapping[str, float]) -> Iterator[str]:
    """Say of each task that can be looked at whether it is met so far."""
    yield ""
    yield "Tasks 1 to 4 are yours to judge. So far:"
    metrics = newest(results_dir() / f"{stem}_own")
    if metrics is None:
        yield f" 5. and 6. nothing yet: end your script with lesson.start, and measure {MEASURE!r}."
    else:
        yield f" 5. {judged(metrics, marks)}"
        figures = len(metrics["figures"])
        wanted = "" if figures >= FIGURES else f", where the task asks for {FIGURES}"
        yield f" 6. {figures} figures{wanted}."
    words = page(journal_file(), stem)
    wanted = "" if words >= PAGE else "; a page has about 300"
    yield f" 7. {words} words under Analysis in the journal{wanted}."


def newest(folder: Path) -> dict[str, Any] | None:
    """Give the metrics of the newest run in a results folder, or None."""
    found = metrics_file.all_results(folder.parent, check=False)
    mine = [result for result in found if result.path.parent.parent == folder and result.metrics]
    if not mine:
        return None
    return max(mine, key=lambda result: result.path.stat().st_mtime_ns).metrics


def judged(metrics: Mapping[str, Any], marks: Mapping[str, float]) -> str:
    """Say the accuracy of a run, on which images, and the mark for it."""
    accuracies = [m for m in metrics["measures"] if m["name"].lower().startswith(MEASURE)]
    if not accuracies:
        return f"no measure called {MEASURE!r}."
    accuracy = accuracies[0]["mean"]
    if accuracy is None or math.isnan(accuracy):  # of a training that diverged
        return f"{MEASURE} is not a number."
    images = "; ".join(entry["as_used"] for entry in metrics["data"]) or "images that it does not name"
    names = reached(metrics, marks)
    mark = names[-1] if names else f"not yet {next(iter(marks))}"
    if any(entry["stand_in"] for entry in metrics["data"]):
        mark = "no mark, since they stand in for the real ones"
    return f"{MEASURE} {accuracy:.2f} %: {mark} ({images})."


def reached(metrics: Mapping[str, Any], marks: Mapping[str, float]) -> list[str]:
    """Name the marks that a run has reached, the lowest first; on images that stand in for others, none."""
    accuracies = [m["mean"] for m in metrics["measures"] if m["name"].lower().startswith(MEASURE)]
    if not accuracies or accuracies[0] is None or any(entry["stand_in"] for entry in metrics["data"]):
        return []
    return [name for name, wanted in marks.items() if accuracies[0] > wanted]


def page(journal: Path, stem: str) -> int:
    """Count the learner's words under "Analysis" in a project's part of the journal, not measured ones."""
    try:
        text = journal.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0
    _, _, after = text.partition(f"<!-- measured:here {stem} -->")
    part = re.split(r"^##? ", after, maxsplit=1, flags=re.MULTILINE)[0]
    _, _, analysis = part.partition("### Analysis")
    analysis = re.sub(r"<!-- measured:begin.*?<!-- measured:end.*?-->", "", analysis, flags=re.DOTALL)
    analysis = re.sub(r"^\(One page: .*\)$", "", analysis, flags=re.MULTILINE)  # what the template asks
    return len(analysis.split())
