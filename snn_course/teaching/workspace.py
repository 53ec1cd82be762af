"""The learner's files: one for each lesson, written once, and never over what is there.

Standard library only.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from snn_course import UsageError, safe_write, workspace_dir
from snn_course.runs.scripts import Script
from snn_course.schedule.overview import filled
from snn_course.teaching import exercises, scaffold
from snn_course.teaching.tasks import Exercises


def path_for(script: Script) -> Path:
    """Where the learner's file of a lesson is."""
    return workspace_dir() / script.path.name


def has_begun(script: Script) -> bool:
    """Say whether the learner has a file for a lesson."""
    return path_for(script).exists()


def start(script: Script, again: bool, command: str) -> Iterator[str]:
    """Write the learner's file, and say what to do. With ``again`` an older one is kept under a number.

    Raises: UsageError when it cannot be written.
    """
    wanted = exercises.load(script)
    path = path_for(script)
    text = scaffold.cut(wanted, command)
    if path.exists() and not again:
        yield from filled(f"{shown(path)} is there already, and is left as it is.", "")
        yield from filled("To begin anew (this one is kept under a number):", "")
        yield f"    {command} start {script.label} --again"
        return
    if path.exists():
        kept = _kept(path)
        yield f"{shown(path)} is kept as {kept.name}."
    if not _written(path, text):
        words = f"{shown(path)} was just written by another terminal, and is left as it is."
        yield from filled(words, "")
        return
    yield from _what_to_do(wanted, path, text, command)


def _kept(path: Path) -> Path:
    """Move a file aside under the first free number, and give its new place."""
    for number in range(1, 10_000):
        kept = path.with_name(f"{path.stem}.{number}{path.suffix}")
        with safe_write.reported(path):
            try:
                os.link(path, kept)  # never over another file, whoever makes it meanwhile
            except FileExistsError:
                continue
            except OSError:  # a drive without links
                if kept.exists():
                    continue
                safe_write.patiently(lambda kept=kept: path.rename(kept))  # type: ignore[misc]
                return kept
            safe_write.patiently(path.unlink)
            return kept
    raise UsageError(f"{path.parent} holds 9,999 older copies of {path.name}: move some away.")


def _written(path: Path, text: str) -> bool:
    """Write a new file, whole or not at all. Returns: False when there is one by now."""
    with safe_write.reported(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
        try:
            part.write_bytes(text.encode("utf-8"))
            safe_write.settle(part, like=part)
            try:
                os.link(part, path)
            except FileExistsError:
                return False
            except OSError:  # a drive without links
                if path.exists():
                    return False
                part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    return True


def _what_to_do(wanted: Exercises, path: Path, text: str, command: str) -> Iterator[str]:
    label = wanted.script.label
    count = len(wanted.tasks)
    many = "a task" if count == 1 else f"{count} tasks"
    yield from filled(f"{shown(path)} is yours now, with {many}:", "")
    yield ""
    for task in wanted.tasks:
        line = line_of(task.number, text)
        where = f"line {line}" if line else f"write {task.region.name}"
        yield from filled(f"{task.number}. {task.id} ({where}): {task.region.words}.", "  ", "     ")
    yield ""
    yield from filled("Open it in your editor, begin with task 1, save, and then:", "")
    yield f"    {command} check {label}"
    yield from filled(f"{command} hint {label} helps, a little more each time.", "")


def line_of(number: int, text: str) -> int | None:
    """Give the line of a learner's file where a task is unwritten."""
    for place, line in enumerate(text.splitlines(), start=1):
        if f'"Task {number}, ' in line and scaffold.MARK in line:
            return place
    return None


def shown(path: Path) -> str:
    """Write a path as the learner would, from the folder they are in, where that is shorter."""
    try:
        relative = os.path.relpath(path)
    except ValueError:  # on Windows, another drive
        return str(path)
    return min(relative, str(path), key=len)
