"""Hints: for each task a question, the place, the idea; one more each time, and never the answer."""

import hashlib
from collections.abc import Iterator

from snn_course import UsageError, one_line
from snn_course.runs.scripts import Script
from snn_course.schedule.overview import filled
from snn_course.teaching import exercises, progress
from snn_course.teaching.progress import Record
from snn_course.teaching.tasks import HINTS, Exercises, Task

TIERS = ("A question", "The place", "The idea")


def of(record: Record, stem: str) -> Record:
    """Give what is recorded of a lesson's exercise: the open task, and how many hints were told of each."""
    part: Record = progress.of_script(record, stem).setdefault("exercise", {})
    part.setdefault("told", {})
    return part


def told(record: Record, wanted: Exercises, task: Task) -> int:
    """Say how many hints of a task were told."""
    number = of(record, wanted.script.stem)["told"].get(task.id, 0)
    return min(number, HINTS) if isinstance(number, int) else 0


def tell_first(wanted: Exercises, task: Task) -> str:
    """Give the first hint of a task that does not hold, and remember that it is told and that task open."""
    open_task(wanted, task, at_least=1)
    return task.hints[0]


def open_task(wanted: Exercises, task: Task, at_least: int = 0) -> None:
    """Note which task does not hold, and how many of its hints are told at least."""

    def noted(record: Record) -> None:
        part = of(record, wanted.script.stem)
        part["told"][task.id] = max(at_least, told(record, wanted, task))
        part["open"] = task.id

    progress.change(noted)


def close(wanted: Exercises) -> None:
    """Note that all tasks hold."""

    def noted(record: Record) -> None:
        of(record, wanted.script.stem).pop("open", None)

    progress.change(noted)


def is_news(wanted: Exercises, text: str) -> bool:
    """Say whether a check found another thing than the one before, and remember what."""
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]

    def noted(record: Record) -> bool:
        part = of(record, wanted.script.stem)
        before = part.get("found")
        part["found"] = digest
        return bool(before != digest)

    return progress.change(noted)


def following(script: Script, name: str, command: str) -> Iterator[str]:
    """Tell the next hint of a task: the one named, else the open one. Raises: UsageError for another name."""
    wanted = exercises.load(script)

    def taken(record: Record) -> tuple[Task, int]:
        task = _chosen(record, wanted, name)
        count = told(record, wanted, task)
        of(record, wanted.script.stem)["told"][task.id] = min(count + 1, HINTS)
        return task, count

    task, count = progress.change(taken)
    yield from filled(f"Task {task.number} of {len(wanted.tasks)}, {task.id}: {task.region.words}.", "")
    yield ""
    if count >= HINTS:
        yield "All three hints were told. Here they are again:"
        for tier, hint in zip(TIERS, task.hints, strict=True):
            yield from _hint(tier, hint)
        yield from _others(wanted, task, command)
        return
    yield from _hint(TIERS[count], task.hints[count])
    left = HINTS - count - 1
    if left:
        yield f"{left} more: the same command again."


def _hint(tier: str, hint: str) -> list[str]:
    return filled(f"{tier}: {hint}", "  ", "    ")


def _others(wanted: Exercises, task: Task, command: str) -> Iterator[str]:
    others = [other for other in wanted.tasks if other is not task]
    if others:
        yield f"On another task, such as {others[0].id}:"
        yield f"    {command} hint {wanted.script.label} {others[0].number}"


def _chosen(record: Record, wanted: Exercises, name: str) -> Task:
    """Choose the task named, else the open one, else the first with a hint that was not told."""
    if name:
        for task in wanted.tasks:
            if name in (task.id, str(task.number)):
                return task
        known = ", ".join(task.id for task in wanted.tasks)
        raise UsageError(
            f"There is no task '{one_line(name, 40)}' in {wanted.script.stem}; there are: {known}."
        )
    for task in wanted.tasks:
        if task.id == of(record, wanted.script.stem).get("open"):
            return task
    untold = [task for task in wanted.tasks if told(record, wanted, task) < HINTS]
    return untold[0] if untold else wanted.tasks[0]
