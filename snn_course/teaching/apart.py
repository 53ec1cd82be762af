"""Runs the inside of a check as a process apart, in a folder of its own, within bounds, whatever it does."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from snn_course.runs import orphans
from snn_course import ROOT, UsageError, data_dir, one_line, safe_write
from snn_course.machine import foreign
from snn_course.teaching.limits import Limits

TICK = 0.1
"""Seconds between two looks."""
GRACE = 10.0
"""Seconds of work after which a process is ended that did not end itself."""
OUTPUT = 2_000_000
"""Bytes that it may print."""
ENDLESS = "it prints without end"
ROOM = 20e6
"""Bytes that must be free where a check runs."""
SHOWN = 10
"""Lines of its own output that are shown."""


@dataclass
class Found:
    """What a check has told, and how its process ended."""

    events: list[dict[str, Any]] = field(default_factory=list)
    printed: list[str] = field(default_factory=list)
    ended: str = ""
    """In words, when it was not through."""

    def of(self, event: str) -> list[dict[str, Any]]:
        """Give what was told under a name."""
        return [one for one in self.events if one["event"] == event]


def run(stem: str, file: Path, limits: Limits) -> Found:
    """Check a file. Whatever it does, this comes back with what was found.

    Raises: UsageError without room for it on the disk, KeyboardInterrupt.
    """
    _check_room()
    with tempfile.TemporaryDirectory(prefix="snn-check-", ignore_cleanup_errors=True) as name:
        home = Path(name)
        work = home / "work"
        work.mkdir()
        report = home / "report"
        report.touch()
        module = "snn_course.teaching.inside"
        command = [sys.executable, "-m", module, stem, str(file), str(report), str(limits.seconds)]
        ended = _watched(command, home, limits)
        found = Found(list(_events(report)), _last_lines(home / "printed"), ended)
    if found.of("done"):
        found.ended = ""
    for event in found.of("stopped"):
        found.ended = event["says"]
    if found.ended == ENDLESS:
        found.printed = found.printed[-2:]
    return found


def _check_room() -> None:
    """Look for room for a check; without it a right file would fail, or its verdict be lost."""
    try:
        folder = tempfile.gettempdir()
        disk = shutil.disk_usage(folder)
    except OSError as error:
        raise UsageError(f"There is no folder for temporary files: {safe_write.cause(error)}.") from None
    if disk.total and disk.free < ROOM:  # some network drives do not tell their size
        left, needed = disk.free / 1e6, ROOM / 1e6
        advice = "make room there, or set TMPDIR to another folder"
        raise UsageError(f"{folder} has {left:.0f} MB left, and a check needs {needed:.0f}: {advice}.")


def _watched(command: list[str], home: Path, limits: Limits) -> str:
    """Run the process, and look at it until it ends or is ended. Returns: how, in words."""
    printed = home / "printed"
    with printed.open("wb") as output, _started(command, home, output) as process:
        began = time.monotonic()
        while process.poll() is None:
            time.sleep(TICK)
            if printed.stat().st_size > OUTPUT:
                return ENDLESS
            late = time.monotonic() - began > limits.at_most + GRACE
            if late or _work(process.pid) > limits.seconds + GRACE:
                return f"after {limits.seconds:.0f} s it is not through"
        return _end_in_words(process.returncode)


@contextmanager
def _started(command: list[str], home: Path, output: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Start a process that ends with this one, and with the ``with``, and all that it has started."""
    environment = _environment(home)
    with orphans.Guard(foreign.environment_for_children()) as guard:
        process = subprocess.Popen(
            command,
            cwd=home / "work",
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=os.name == "posix",
        )
        guard.began(process.pid)
        try:
            yield process
        finally:
            orphans.kill(orphans.family(process.pid))
            with suppress(OSError):
                process.kill()
            with suppress(subprocess.TimeoutExpired):
                process.wait(10)
            guard.ended(process.pid)


def _environment(home: Path) -> Mapping[str, str]:
    """Give the variables: its results and journal are thrown away, and it starts no downloads."""
    return foreign.environment_for_children() | {
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "SNN_RESULTS": str(home / "work" / "results"),
        "SNN_JOURNAL": str(home / "work" / "journal.md"),
        "SNN_PROGRESS": str(home / "work" / "progress.json"),
        "SNN_DATA": str(data_dir().absolute()),
        "SNN_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "TMPDIR": str(home / "work"),
        "TEMP": str(home / "work"),
        "TMP": str(home / "work"),
    }


def _work(pid: int) -> float:
    """Give the seconds that a process has worked."""
    import psutil

    with suppress(psutil.Error):
        times = psutil.Process(pid).cpu_times()
        return float(times.user + times.system)
    return 0.0


def _events(report: Path) -> Iterator[dict[str, Any]]:
    for line in report.read_text(encoding="utf-8").splitlines():
        with suppress(ValueError):  # cut off in the middle of a line
            yield json.loads(line)


def _last_lines(path: Path) -> list[str]:
    """Give the last lines that were printed, shortened, without what would move a cursor."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 8192))
        text = file.read().decode("utf-8", errors="replace")
    lines = [one_line(line.replace("\t", "    ").rstrip(), 200) for line in text.splitlines()]
    return [line for line in lines if line.strip()][-SHOWN:]


def _end_in_words(code: int) -> str:
    if code < 0:
        return f"the interpreter was killed (signal {-code})"
    if code > 255:  # Windows names a crash by a large number
        return f"the interpreter crashed ({hex(code)})"
    return f"it ended the interpreter (exit code {code})"
