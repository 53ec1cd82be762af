"""Milestone and capstones: what the learner does alone. There is nothing to fill in; there is a brief.

``start`` shows the brief, the docstring of the script in the course's folder. ``check`` says of a milestone
what the newest run of the learner's own script has met so far, and notes it; it runs nothing.
"""

import ast
import re
from collections.abc import Iterator, Sequence

from snn_course.runs import own_work
from snn_course import PYTHON, UsageError, results_dir
from snn_course.runs.scripts import Script
from snn_course.schedule.overview import filled
from snn_course.teaching import workspace

MARKS = "MARKS"
"""How a brief names its marks, a dict of words and percents."""


def is_one(script: Script) -> bool:
    """Tell whether a script is a project: a milestone or a capstone."""
    return script.number is None


def marks_of(script: Script) -> dict[str, float]:
    """Read the marks that a brief names, without running it; of a capstone there are none."""
    tree = ast.parse(script.front.read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == MARKS:
            marks: dict[str, float] = ast.literal_eval(node.value)
            return marks
    return {}


def has_check(script: Script) -> bool:
    """Tell whether a script is a project that is checked: a milestone."""
    return is_one(script) and bool(marks_of(script))


def begin(script: Script, command: str) -> Iterator[str]:
    """Give the brief of a project, and how to go on."""
    tree = ast.parse(script.front.read_text(encoding="utf-8"))
    yield ast.get_docstring(tree) or script.stem
    yield ""
    if marks_of(script):
        path = workspace.shown(workspace.path_for(script))
        yield from filled(f"Write {path}, and run it:", "")
        yield f"    {PYTHON} {script.front.name}"
        yield "What it has met so far:"
        yield f"    {command} check {script.label}"
    else:
        words = "Do its steps in their order; each of them measures itself. A review of the design:"
        yield from filled(words, "")
        yield f"    {command} quiz {script.label}"


def no_hints(script: Script, command: str) -> UsageError:
    """Say that a project has no hints, and what helps."""
    start, quiz = (f"{command} {name} {script.label}" for name in ("start", "quiz"))
    return UsageError(
        f"{script.stem} has no hints: it is yours to do. '{start}' shows its brief, '{quiz}' asks about "
        "the design."
    )


def check(script: Script, command: str) -> tuple[bool, list[str]]:
    """Say what the learner's own run of a milestone has met, and note it in progress and journal.

    Returns: whether it has passed, and lines.
    Raises: UsageError for a capstone, or when there is nothing of the learner's yet.
    """
    marks = marks_of(script)
    if not marks:
        raise UsageError(
            f"{script.stem} has no check: its steps measure themselves, and '{command} quiz {script.label}' "
            "reviews the design."
        )
    path = workspace.path_for(script)
    if not path.is_file():
        raise UsageError(
            f"{workspace.shown(path)} is not there yet: you write it. '{command} start {script.label}' shows "
            "the brief."
        )
    metrics = own_work.newest(results_dir() / f"{script.stem}_own")
    passed = metrics is not None and bool(own_work.reached(metrics, marks))
    lines = list(own_work.told(script.stem, marks))
    return passed, [*lines, *_noted(script, passed, lines)]


def _noted(script: Script, passed: bool, lines: Sequence[str]) -> Iterator[str]:
    """Note a check. Returns: warnings."""
    from snn_course.teaching import check as checks

    found = [line.strip() for line in lines if re.match(r" \d\. ", line)]
    verdict = "passed" if passed else "not through yet"

    def text(when: str) -> str:
        return f"**My own solution**{when}: {verdict}.\n\n" + "\n".join(found)

    yield from checks.noted(script.stem, passed, text)
