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


def open_task(wanted: Exercises, task: Task, at_least: int = 0) -> None:
    """Note which task does not hold, and how many of its hints are told at least."""

    def noted(record: Record) -> None:
        part = of(record, wanted.script.stem)
        part["told"][task.id] = max(at_least, told(record, wanted, task))
        part["open"] = task.id
        part.pop("held", None)

    progress.change(noted)


def close(wanted: Exercises) -> None:
    """Note that all tasks hold."""

    def noted(record: Record) -> None:
        part = of(record, wanted.script.stem)
        part.pop("open", None)
        part["held"] = True

    progress.change(noted)


def is_news(stem: str, text: str) -> bool:
    """Say whether a check found another thing than the one that was noted last."""
    return bool(of(progress.read(), stem).get("found") != _digest(text))


def note_news(stem: str, text: str) -> None:
    """Remember what a check has found."""

    def noted(record: Record) -> None:
        of(record, stem)["found"] = _digest(text)

    progress.change(noted)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def following(script: Script, name: str, command: str) -> Iterator[str]:
    """Tell the next hint of a task: the one named, else the open one. Raises: UsageError for another name.

    When all tasks held at the last check, no hint is told before one is named.
    """
    wanted = exercises.load(script)
    if not name and of(progress.read(), script.stem).get("held"):
        words = "All tasks held at the last check, so none is open. The hints of one all the same:"
        yield from filled(words, "")
        yield from (f"    {command} hint {script.label} {task.number}    {task.id}" for task in wanted.tasks)
        return

    def taken(record: Record) -> tuple[Task, int]:
        task = _chosen(record, wanted, name)
        count = told(record, wanted, task)
        of(record, wanted.script.stem)["told"][task.id] = min(count + 1, HINTS)
        return task, count

    task, count = progress.change(taken)
    yield from filled(f"Task {task.number} of {len(wanted.tasks)}, {task.id}: {task.region.words}.", "")
    yield ""
    if count >= HINTS:
        yield from filled("All three hints were told. Here they are again:", "")
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
