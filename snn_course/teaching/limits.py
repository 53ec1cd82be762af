"""What a learner's file may do while it is checked, and for how long. For the check's own process alone.

An audit hook of Python hears of each file, process and connection before it is opened, and says no to what
leaves the check's folder. It guards against accidents, on each system the same; it is no wall against malice.
"""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROCESSES = {
    "os.exec",
    "os.fork",
    "os.forkpty",
    "os.posix_spawn",
    "os.spawn",
    "os.startfile",
    "os.system",
    "pty.spawn",
    "subprocess.Popen",
}
CONNECTIONS = {"socket.bind", "socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"}
CHANGES = {
    "os.chmod": (1, "change the rights of"),
    "os.chown": (1, "give away"),
    "os.link": (2, "make a link to"),
    "os.mkdir": (1, "make the folder"),
    "os.remove": (1, "delete"),
    "os.rename": (2, "move"),
    "os.rmdir": (1, "delete the folder"),
    "os.symlink": (2, "make a link to"),
    "os.truncate": (1, "cut off"),
    "shutil.rmtree": (1, "delete the folder"),
}
"""Events that change files: how many of their arguments are paths, and what they do."""
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
WORK = 0.5
"""Seconds of work that show that a file does not only wait."""
IDLE = 15.0
"""Seconds after which it should have done as much, on however busy a machine."""


class Forbidden(PermissionError):
    """Something that a file must not do while it is checked."""


class Fence:
    """Says no to what leaves some folders, and remembers what was tried first."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self.folders = [os.path.realpath(folder) for folder in folders]
        self.tried = ""

    def install(self) -> None:
        """Begin. It cannot be taken away again."""
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if flags & _WRITES:
                self._outside(path, -1, "write")
        elif event in CHANGES:
            count, what = CHANGES[event]
            numbers = [one for one in arguments[count:] if isinstance(one, int)]
            folder = numbers[-1] if numbers else -1  # that of a relative path; -1: the one where one is
            for path in arguments[:count]:
                self._outside(path, folder, what)
        elif event in PROCESSES:
            self._refuse("start another process")
        elif event in CONNECTIONS:
            self._refuse("use the network")
        elif event == "os.killpg" or (event == "os.kill" and arguments[0] != os.getpid()):
            self._refuse("end another process")

    def _outside(self, path: Any, folder: int, what: str) -> None:
        """Refuse a path outside; a number stands for a file that is open already."""
        if isinstance(path, int) or path is None:
            return
        name = os.fsdecode(path)
        if folder >= 0:
            name = str(Path(_folder_behind(folder), name))
        whole = os.path.realpath(name)
        inside = any(whole == home or whole.startswith(home + os.sep) for home in self.folders)
        if not inside and whole != os.devnull and "__pycache__" not in Path(whole).parts:
            self._refuse(f"{what} {whole}")

    def _refuse(self, what: str) -> None:
        self.tried = self.tried or what
        raise Forbidden(f"a file that is checked may not {what}")


def _folder_behind(handle: int) -> str:
    """Name an open folder, where the system tells; elsewhere a place that is never inside."""
    try:
        return os.readlink(f"/proc/self/fd/{handle}")  # noqa: PTH115
    except OSError:
        return os.sep


# ---------------------------------------------------------------------- time and memory


@dataclass(frozen=True)
class Limits:
    """How much a check may take."""

    seconds: float = 60.0
    """Of work; and of waiting, for a file that does nothing."""
    megabytes: float = 3000.0
    """Of memory."""
    megabytes_written: float = 1000.0
    """Of files in the check's folder."""

    @property
    def at_most(self) -> float:
        """Seconds by the clock, on however busy a machine."""
        return 8 * self.seconds


def watch(limits: Limits, own_file: str, stop: Callable[[str], None]) -> None:
    """Let a thread look at time and memory; over a limit it tells ``stop`` why and where, and ends all.

    It also ends when the process is gone that has started this one.
    """
    main = threading.main_thread().ident
    parent = os.getppid()
    thread = threading.Thread(target=_watch, args=(limits, own_file, stop, main, parent), daemon=True)
    thread.start()


def _watch(limits: Limits, own_file: str, stop: Callable[[str], None], main: int, parent: int) -> None:
    import psutil

    process = psutil.Process()
    folder = Path.cwd()
    began = last_work = time.monotonic()
    worked = 0.0
    while True:
        time.sleep(0.1)
        now = time.monotonic()
        cpu = time.process_time()
        if cpu - worked > WORK:
            worked, last_work = cpu, now
        reason = ""
        if cpu > limits.seconds or now - began > limits.at_most:
            reason = f"after {limits.seconds:.0f} s of work it is not through"
        elif now - began > limits.seconds and now - last_work > IDLE:
            reason = f"after {limits.seconds:.0f} s it only waits"
        elif process.memory_info().rss > limits.megabytes * 1e6:
            reason = f"it takes more than {limits.megabytes / 1000:.0f} GB of memory"
        elif written(folder) > limits.megabytes_written * 1e6:
            reason = f"it has written more than {limits.megabytes_written / 1000:.0f} GB"
        if reason:
            line = line_in(own_file, sys._current_frames().get(main))
            stop(reason + (f": it is in line {line}" if line else ""))
            os._exit(3)
        if os.getppid() != parent:
            os._exit(4)


def written(folder: Path) -> int:
    """Count the bytes of all files in a folder, however deep; those that are gone again count nothing."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += Path(place, name).lstat().st_size
    return total


def line_in(own_file: str, frame: Any) -> int | None:
    """Give the line of the learner's file in which a call is, however deep below it."""
    while frame is not None:
        if frame.f_code.co_filename == own_file:
            return int(frame.f_lineno)
        frame = frame.f_back
    return None
