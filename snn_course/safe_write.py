"""The one place that writes files: a reader finds the old file or the new one, never a part of one.

    safe_write.write(path, "text or bytes")
    with safe_write.aside(path) as part:  # for packages that write by name
        model.save(part)

What is new is written aside, goes to the disk, and is moved over the old file in one step; a kill or a full
disk at any moment leaves the old file as it was. A virus scanner or a cloud drive that holds the old file
for a moment is waited for. Only the standard library is needed, so ``course.py`` can use it, too.
"""

from __future__ import annotations

import errno
import glob
import os
import shutil
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from snn_course import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeVar

    Answer = TypeVar("Answer")

PATIENCE = 4.0
"""Seconds for which a file that another program holds is tried again."""
BLOCK = 4096
"""Bytes of the smallest piece that a disk gives."""
PROBE = 1 << 16
"""Bytes that a folder must take before the work starts."""
RESULTS = (".json", ".png", ".gif", ".mp4", ".pt", ".csv", ".nir", ".aedat", ".fbz")
"""Endings of the files that runs leave behind."""
LEFT_BEHIND = 3600.0
"""Age in seconds from which a half-written file is taken for that of a killed process."""

_CAUSES = {
    errno.ENOSPC: "the disk is full; make room",
    errno.EDQUOT: "your share of the disk is used up; make room",
    errno.EISDIR: "a folder stands in its place; move it away",
    errno.ENOTDIR: "a file stands where a folder belongs; move it away",
    errno.EEXIST: "a file stands where a folder belongs; move it away",
    errno.EROFS: "the disk is read-only; choose another place",
    errno.EACCES: "it or its folder is read-only, or another program holds it",
    errno.EPERM: "it or its folder is read-only, or another program holds it",
}


def write(path: Path, content: str | bytes) -> None:
    """Write a file, whole or not at all; its folder is made where it is missing. Text is stored as UTF-8.

    Raises: UsageError, one line, when that cannot be done.
    """
    with aside(path) as part:
        part.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))


@contextmanager
def aside(path: Path) -> Iterator[Path]:
    """Give a name beside ``path``, with the same ending, to write to; in the end that file becomes ``path``.

    Where the body fails, nothing is left of it. A symbolic link stays one: the file behind it is written.
    Raises: UsageError, one line, when the file cannot be written; other errors of the body as they are.
    """
    with reported(path):
        target = checked(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        writer = f"{os.getpid()}-{threading.get_ident()}"
        part = target.with_name(f".{target.stem}.{writer}.part{target.suffix}")
        _clear(target)
        try:
            yield part
            move(part, target)
        except Exception:
            _check_room(part)  # a package may name a full disk in words of its own
            raise
        finally:
            with suppress(OSError):
                part.unlink()


def check_folder(folder: Path) -> None:
    """Make a folder where it is missing, and try whether it takes files, and new ones for the results in it.

    Raises: UsageError, one line, where it does not.
    """
    probe = folder / f".{os.getpid()}.part"
    with reported(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            probe.write_bytes(bytes(PROBE))
            _check_room(probe)
        finally:
            probe.unlink(missing_ok=True)
    for path in folder.iterdir():
        if path.suffix in RESULTS:
            with reported(path):
                checked(path)


@contextmanager
def reported(path: Path) -> Iterator[None]:
    """Turn the system's refusal to write ``path`` into one line. Raises: UsageError."""
    try:
        yield
    except OSError as error:
        raise UsageError(f"Cannot write {path}: {cause(error)}.") from error


def cause(error: OSError) -> str:
    """Say in words why the system refused to write, and what helps."""
    return _CAUSES.get(error.errno or 0) or " ".join((error.strerror or str(error)).split())


def checked(path: Path) -> Path:
    """Give the file behind ``path``. Raises: OSError for a folder, a device, a read-only file.

    On Linux the system itself would replace a read-only file, or a device, without a word.
    """
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if target.exists() and not target.is_file():
        raise OSError(errno.EINVAL, "it is not a regular file")
    if target.exists() and not (target.stat().st_mode & 0o222 and os.access(target, os.W_OK)):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    return target


def move(part: Path, target: Path) -> None:
    """Move a finished file into the place of ``target``, whose rights it gets. Raises: OSError."""
    settle(part, like=target)
    _check_room(part)  # some packages do not notice that a full disk has cut off their file
    patiently(lambda: part.replace(target))
    _to_disk(target.parent)


def settle(part: Path, like: Path) -> None:
    """Send a file to the disk, and give it the rights and the owner of ``like``, where that is there."""
    with part.open("rb+") as file:
        os.fsync(file.fileno())
    with suppress(OSError):  # like is new; or only its owner may give a file away
        shutil.copymode(like, part)
        old = like.stat()
        if hasattr(os, "chown") and (old.st_uid, old.st_gid) != (os.geteuid(), os.getegid()):
            os.chown(part, old.st_uid, old.st_gid)


def patiently(action: Callable[[], Answer], patience: float | None = None) -> Answer:
    """Do what Windows refuses while another program holds the file: again and again, for some seconds.

    Raises: PermissionError when it is held for longer.
    """
    end = time.monotonic() + (PATIENCE if patience is None else patience)
    while True:
        try:
            return action()
        except PermissionError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


def _check_room(part: Path) -> None:
    """Raise OSError when the disk is full to the last block, so that ``part`` cannot be trusted."""
    disk = shutil.disk_usage(part.parent)
    if disk.total and disk.free < BLOCK:  # some network drives do not tell their size
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _clear(target: Path) -> None:
    """Remove what killed processes left half-written of this file."""
    name = f".{glob.escape(target.stem)}.*.part{glob.escape(target.suffix)}"
    for part in target.parent.glob(name):
        with suppress(OSError, ValueError):
            owner = int(part.name[len(target.stem) + 2 :].split("-")[0])
            if not _runs(owner) or time.time() - part.stat().st_mtime > LEFT_BEHIND:
                part.unlink()


def _runs(process: int) -> bool:
    """Say whether there is a process of this number; on Windows, where asking could end it, always yes."""
    if os.name == "posix":
        try:
            os.kill(process, 0)  # signal 0 does nothing but ask
        except ProcessLookupError:
            return False
        except OSError:  # it is another user's
            pass
    return True


def _to_disk(folder: Path) -> None:
    """Send a folder's list of names to the disk, where the system can."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
