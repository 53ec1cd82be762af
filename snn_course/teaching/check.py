"""Checks the learner's file of a lesson, and says what holds, what does not yet, and a hint for the first."""

from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from snn_course import UsageError, journal_file
from snn_course.journal import blocks
from snn_course.runs.scripts import Script
from snn_course.schedule.overview import filled, width
from snn_course.teaching import apart, exercises, hints, progress, watching, workspace
from snn_course.teaching.apart import Found
from snn_course.teaching.limits import Limits
from snn_course.teaching.tasks import Exercises, Task

HOLDS, UNWRITTEN = "holds", "unwritten"


def run(script: Script, watch: bool, seconds: float, command: str) -> int:
    """Check once, or after each save, and print. Returns: 0 when all holds, 1 when not.

    Raises: UsageError, KeyboardInterrupt.
    """

    def checked() -> bool:
        passed, lines = check(script, command, seconds)
        print("\n".join(lines), flush=True)
        return passed

    if not watch:
        return 0 if checked() else 1
    watching.watch(workspace.path_for(script), checked, print)
    return 0


def check(script: Script, command: str, seconds: float = Limits.seconds) -> tuple[bool, list[str]]:
    """Check the learner's file, and note it in journal and progress. Returns: whether it passed, and lines.

    Where it cannot be noted, as on a full disk, the lines say so at their end.
    Raises: UsageError when there is no exercise, or no file yet.
    """
    wanted = exercises.load(script)
    path = workspace.path_for(script)
    start = f"{command} start {script.label}"
    if path.is_dir():
        raise UsageError(f"{workspace.shown(path)} is a folder: '{start} --again' puts it aside.")
    if not path.is_file():
        raise UsageError(f"{workspace.shown(path)} is not there yet: '{start}' writes it.")
    found = apart.run(script.stem, path.absolute(), Limits(seconds))
    for event in found.of("usage"):
        raise UsageError(event["says"])
    report = Report(wanted, path, found, command)
    warnings = noted(script.stem, report.passed, report.for_journal, report.note_hints)
    return report.passed, [*report.lines(), *warnings]


def noted(
    stem: str, passed: bool, text: Callable[[str], str], more: Callable[[], None] | None = None
) -> Iterator[str]:
    """Note a check in progress and journal, and do what ``more`` does.

    ``text`` is handed date and time, and gives the block of the journal. Returns: warnings, when it cannot
    be noted, too; what was found is shown whatever they are.
    """
    try:
        progress.note_check(stem, passed)
        if more:
            more()
        warning = _into_journal(stem, text)
    except UsageError as error:
        yield from ("", *filled(f"This check could not be noted: {error}", "", "  "))
        return
    yield from [warning] if warning else []


def _into_journal(stem: str, text: Callable[[str], str]) -> str | None:
    """Write the block of a check, unless the last one found the same. Returns: a line of warning, or None.

    Raises: UsageError when it cannot be written.
    """
    if not hints.is_news(stem, text("")):
        return None
    when = datetime.now().astimezone().strftime(", %Y-%m-%d %H:%M")
    warning = blocks.write_block(journal_file(), f"{stem} check", text(when))
    hints.note_news(stem, text(""))
    return warning


class Report:
    """What a check has found, in words."""

    def __init__(self, wanted: Exercises, path: Path, found: Found, command: str) -> None:
        self.wanted = wanted
        self.path = path
        self.found = found
        self.command = command
        self.tasks = {event["name"]: event for event in found.of("task")}
        self.chapters = found.of("chapter")
        self.text = path.read_text(encoding="utf-8", errors="replace")

    @property
    def broken(self) -> str:
        """Why the check did not come through; nothing when it did."""
        for event in self.found.of("broken"):
            return self._at(event["says"], event["line"])
        for event in self.found.of("fault"):
            return f"a fault of the check, not of your file ({event['says']})"
        return self.found.ended

    @property
    def passed(self) -> bool:
        """Whether all holds."""
        states = [event["state"] for event in [*self.tasks.values(), *self.chapters]]
        return not self.broken and len(self.tasks) == len(self.wanted.tasks) and set(states) == {HOLDS}

    @property
    def first_open(self) -> Task | None:
        """The first task that does not hold."""
        for task in self.wanted.tasks:
            if self.tasks.get(task.id, {}).get("state") != HOLDS:
                return task
        return None

    # ------------------------------------------------------------------ on the screen

    def lines(self) -> Iterator[str]:
        """Give all lines, in 79 columns, or in those of a narrow terminal."""
        yield f"Check of {workspace.shown(self.path)}"
        yield ""
        if self.tasks or not self.broken:
            yield from self._tasks()
        for chapter in self.chapters:
            yield from self._chapter(chapter)
        if self.broken:
            yield from filled(f"The check stopped: {self.broken}.", "  ", "    ")
        for event in self._tried():
            yield from filled(f"Your file tried to {event['says']}; the check did not let it.", "  ", "    ")
        if self.found.printed:
            yield "  Your file printed:"
            yield from (f"    {line[: width() - 4]}" for line in self.found.printed)
        if self.broken and not self.tasks:
            yield from ("", "Mend that first, and check again.")
            return
        yield ""
        yield from self._end()

    def _tried(self) -> list[dict[str, Any]]:
        """Give what the file was kept from, where no task tells of it."""
        told = " ".join(event["says"] for event in self.tasks.values())
        return [event for event in self.found.of("tried") if event["says"] not in told]

    def _tasks(self) -> Iterator[str]:
        for task in self.wanted.tasks:
            event = self.tasks.get(task.id)
            head = f"Task {task.number} of {len(self.wanted.tasks)}, {task.id}: "
            if event is None:
                yield from filled(f"{head}not looked at", "  ", "    ")
            elif event["state"] == HOLDS:
                yield from filled(f"{head}holds", "  ", "    ")
            elif event["state"] == UNWRITTEN:
                yield from filled(f"{head}not written yet{self._place(task, event)}", "  ", "    ")
                yield from filled(event["says"], "      ")
            else:
                yield from filled(f"{head}does not hold{self._place(task, event)}", "  ", "    ")
                if event["mistake"]:
                    yield from filled(f"A known mistake: {event['mistake']}.", "      ")
                yield from filled(event["says"], "      ")

    def _place(self, task: Task, event: dict[str, Any]) -> str:
        line = event["line"] or workspace.line_of(task.number, self.text)
        return f" (line {line})" if line else ""

    def _chapter(self, event: dict[str, Any]) -> Iterator[str]:
        claims = event["claims"]
        if event["state"] == HOLDS:
            many = "a proof or goal holds" if len(claims) == 1 else f"{len(claims)} proofs and goals hold"
            yield from filled(f"{event['name']}: {many if claims else 'runs'}", "  ", "    ")
            return
        yield f"  {event['name']}:"
        yield from filled(self._at(event["says"], event["line"]), "      ")

    @staticmethod
    def _at(says: str, line: int | None) -> str:
        return f"{says} (line {line} of your file)" if line else says

    def _end(self) -> Iterator[str]:
        label = self.wanted.script.label
        if self.passed:
            words = "Compare with the lesson's own answer, and write in your journal what you would tell"
            yield from filled(f"All holds. {words} someone who starts. Then:", "")
            yield f"    {self.command} next"
            return
        if any(event["state"] == UNWRITTEN for event in self.tasks.values()):
            yield from self._first_words()
        task = self.first_open
        if task is None:
            if not self.broken:
                words = "Each task by itself holds, and the lesson with them does not"
                yield from filled(f"{words}: what do they do together?", "")
            return
        if self.tasks.get(task.id, {}).get("state") != UNWRITTEN:
            yield from filled(f"A question: {task.hints[0]}", "", "  ")
        yield from filled(f"{self.command} hint {label} helps with task {task.number}.", "")

    def _first_words(self) -> Iterator[str]:
        """Say what to do first, when the first open task is unwritten."""
        task = self.first_open
        if task is not None and self.tasks.get(task.id, {}).get("state") == UNWRITTEN:
            line = workspace.line_of(task.number, self.text)
            where = f"line {line}" if line else f"as {task.region.within}"
            name = workspace.shown(self.path)
            yield from filled(f"Write task {task.number} first: {name}, {where}.", "")
            yield from filled(task.words, "  ")

    def note_hints(self) -> None:
        """Remember which task is open, and that the first hint of one that does not hold is told."""
        task = self.first_open
        if task is None:
            hints.close(self.wanted)
        elif self.tasks:
            unwritten = self.tasks.get(task.id, {}).get("state") == UNWRITTEN
            hints.open_task(self.wanted, task, at_least=0 if unwritten else 1)

    # ------------------------------------------------------------------ in the journal

    def for_journal(self, when: str) -> str:
        """Give the block for the journal."""
        held = [task.id for task in self.wanted.tasks if self.tasks.get(task.id, {}).get("state") == HOLDS]
        claims = sum(len(event["claims"]) for event in self.chapters)
        if self.passed:
            return (
                f"**My own solution**{when}: passed. {len(held)} of {len(self.wanted.tasks)} tasks, and "
                f"{claims} proofs and goals of the lesson hold with it."
            )
        of_all = f"{len(held)} of {len(self.wanted.tasks)} tasks hold"
        lines = [f"**My own solution**{when}: not through yet; {of_all}."]
        if self.broken:
            lines.append(f"- The check stopped: {self.broken}.")
        for event in [*self.tasks.values(), *self.chapters]:
            if event["state"] != HOLDS:
                says = event["mistake"] or event["says"] or "not written yet"
                lines.append(f"- {event['name']}: {says}")
        return "\n".join(lines)
