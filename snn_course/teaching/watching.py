"""Checks again whenever the learner's file is saved, until Ctrl-C."""

import time
from collections.abc import Callable
from pathlib import Path

LOOK = 0.5
"""Seconds between two looks at the file."""
Stamp = tuple[int, int] | None
"""When a file was changed, in ns, and its size; None while an editor has it away."""


def stamp(path: Path) -> Stamp:
    """Give what changes when a file is saved. Looking works on each system and each drive."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def until_changed(path: Path, before: Stamp) -> Stamp:
    """Wait until a file is another one, and stays so for one look: saved whole. Raises: KeyboardInterrupt."""
    last = before
    while True:
        time.sleep(LOOK)
        now = stamp(path)
        if now is not None and now != before and now == last:
            return now
        last = now


def watch(path: Path, check: Callable[[], object], say: Callable[[str], None]) -> None:
    """Check now, and after each save. Raises: KeyboardInterrupt, which is how it ends."""
    while True:
        before = stamp(path)
        check()
        say("")
        say("Waiting for the file to be saved again. Ctrl-C ends this.")
        until_changed(path, before)
