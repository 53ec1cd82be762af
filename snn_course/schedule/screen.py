"""Shows how a run of several scripts goes: plain lines, or below them a table that changes, on a terminal."""

import os
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from snn_course.runs import wording
from snn_course.schedule import overview, timetable
from snn_course.schedule.side_by_side import Job, Running

if TYPE_CHECKING:
    from rich.table import Table

LAST_LINES, LINES_OF_FAILED = 20, 60
"""Lines of a script's output that are shown when it has ended."""
TAIL_BYTES = 20_000
REFRESH_SECONDS = 0.5


class Screen(AbstractContextManager["Screen"]):
    """Plain lines: one when a script begins, one when it ends, and then its last lines."""

    def __init__(self, names: Sequence[str]) -> None:
        self.places = {name: f"[{place}/{len(names)}]" for place, name in enumerate(names, start=1)}
        self.rows: dict[str, overview.Row] = {}
        self.codes: dict[str, int] = {}
        self._before: dict[str, overview.Stamps] = {}

    def __exit__(self, *_: object) -> None:
        pass

    def say(self, line: str) -> None:
        """Print a line."""
        print(line)

    def began(self, job: Job) -> None:
        """Say that a script has begun."""
        self._before[job.name] = overview.stamps(job.name)
        if job.output is None:  # its own lines follow
            self.say(f"\n{self.places[job.name]} {job.name}")
        else:
            self.say(f"{self.places[job.name]} {job.name} begins" + ", alone" * job.alone)

    def ended(self, job: Job, code: int, seconds: float) -> None:
        """Say what a script has measured, and show the end of its output."""
        row = overview.row_of(job.name, code, self._before[job.name], seconds)
        self.rows[job.name], self.codes[job.name] = row, code
        if job.output is None:
            return
        measured = ", ".join(cell for cell in row[1:4] if cell.strip("-"))
        ended = f"{self.places[job.name]} {job.name} ended, {wording.duration(seconds)}: {measured}"
        self.say(overview.cut(ended, overview.width()))
        for line in last_lines(job.output, LINES_OF_FAILED if code else LAST_LINES):
            self.say(f"    {line}")
        self.say(f"    (all of it: {job.output})")

    def waits(self, running: Sequence[Running], left: Sequence[Job]) -> None:
        """Show nothing: a log does not move."""

    def table(self) -> list[str]:
        """Give the final table of the scripts that have ended, in the order of the course."""
        return overview.table([self.rows[name] for name in self.places if name in self.rows])


class LiveScreen(Screen):
    """The same lines, and below them what runs now: for how long, and the last line that it said."""

    def __init__(self, names: Sequence[str], at_once: int) -> None:
        from rich.live import Live

        super().__init__(names)
        self.at_once = at_once
        self._live = Live(auto_refresh=False, transient=True)
        self._drawn = 0.0

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def say(self, line: str) -> None:
        """Print a line above the table."""
        self._live.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def waits(self, running: Sequence[Running], left: Sequence[Job]) -> None:
        """Draw the table anew, twice a second, unless a script has the terminal for itself."""
        due = time.monotonic() - self._drawn > REFRESH_SECONDS
        if due and all(one.job.output for one in running):
            self._live.start()
            self._live.update(self._table(running, left), refresh=True)
            self._drawn = time.monotonic()

    def _table(self, running: Sequence[Running], left: Sequence[Job]) -> "Table":
        from rich.table import Table
        from rich.text import Text

        table = Table(title=self._progress(running, left), title_justify="left", box=None, pad_edge=False)
        # A full line would let a ^C that the terminal shows begin another one, which is not wiped out.
        table.width = self._live.console.width - len("^C") - 1
        for heading, width in (("running", 26), ("for", 6), ("expected", 8)):
            table.add_column(heading, min_width=width, max_width=width, no_wrap=True)
        table.add_column("last line", ratio=1, no_wrap=True, overflow="ellipsis")
        for one in running:
            said = last_lines(one.job.output, 1) if one.job.output else []
            cells = [one.job.name, wording.duration(one.seconds), wording.duration(one.job.seconds), *said]
            table.add_row(*[Text(cell.strip()) for cell in cells])
        return table

    def _progress(self, running: Sequence[Running], left: Sequence[Job]) -> str:
        """Say in one line how far the run is."""
        failed = sum(code != 0 for code in self.codes.values())
        ended = f"{len(self.codes)} of {len(self.places)} ended" + (f", {failed} failed" if failed else "")
        return f"{ended}, about {wording.duration(seconds_left(running, left, self.at_once))} left"


def make(names: Sequence[str], at_once: int) -> Screen:
    """Give the screen that fits where the output goes."""
    if at_once == 1 or not sys.stdout.isatty() or os.environ.get("TERM") == "dumb":
        return Screen(names)
    try:
        return LiveScreen(names, at_once)
    except ImportError:  # a damaged environment: its test is among the scripts, and will say so
        return Screen(names)


def seconds_left(running: Sequence[Running], left: Sequence[Job], at_once: int) -> float:
    """Predict when the last script ends."""
    begun = [max(0.0, one.job.seconds - one.seconds) for one in running]
    alone = sum(job.seconds for job in left if job.alone)
    return alone + timetable.together([job.seconds for job in left if not job.alone], at_once, begun)


def last_lines(file: Path, most: int) -> list[str]:
    """Read the last lines of a script's output that say something, without what would move a cursor."""
    try:
        with file.open("rb") as stream:
            stream.seek(0, os.SEEK_END)
            stream.seek(max(0, stream.tell() - TAIL_BYTES))
            text = stream.read().decode("utf-8", errors="replace")
    except OSError:
        return []
    lines = [_printable(line).rstrip() for line in text.split("\n")]
    return [line for line in lines if line][-most:]


def _printable(line: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in line)
