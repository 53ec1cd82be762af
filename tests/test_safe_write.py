"""The one place that writes files: whole or not at all, and one line where it cannot be done."""

import errno
import gc
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

from snn_course import ROOT, UsageError, safe_write

import numpy as np
import pytest
import torch

POSIX = pytest.mark.skipif(os.name != "posix", reason="links, devices and owners of POSIX")
ROOT_ONLY = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="root alone may mount")


def names(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()}


def one_line(action) -> str:
    """Give the message of the UsageError that an action raises."""
    with pytest.raises(UsageError) as caught:
        action()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 200 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "none", folder], check=False)
    if done.returncode:
        pytest.skip("this system lets nobody mount a small disk")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_content_is_stored_as_it_is_in_a_folder_that_is_made(tmp_path):
    path = tmp_path / "a" / "größer than.txt"
    safe_write.write(path, "one\r\ntwo\nä")
    assert path.read_bytes() == "one\r\ntwo\nä".encode()
    safe_write.write(path, b"\xff")
    assert path.read_bytes() == b"\xff"
    assert names(path.parent) == {path.name}


def test_only_the_standard_library_is_needed():
    command = [sys.executable, "-S", "-c", "import snn_course.safe_write"]
    subprocess.run(command, cwd=ROOT, check=True, timeout=60)


def test_a_body_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "net.pt"
    safe_write.write(path, "old")
    with pytest.raises(ZeroDivisionError), safe_write.aside(path) as part:
        part.write_text(f"{'half'} {1 / 0}")
    assert path.read_text() == "old"
    assert names(tmp_path) == {"net.pt"}


@pytest.mark.parametrize("moment", ["os.fsync", "Path.replace"])
def test_a_kill_leaves_the_old_file_and_the_next_write_clears_up(tmp_path, moment):
    path = tmp_path / "net.pt"
    safe_write.write(path, "old")
    die = f"import os, sys; from pathlib import Path; {moment} = lambda *_: os._exit(9)\n"
    code = die + "from snn_course import safe_write; safe_write.write(Path(sys.argv[1]), 'new')"
    done = subprocess.run([sys.executable, "-c", code, path], cwd=ROOT, check=False, timeout=60)
    assert done.returncode == 9
    assert path.read_text() == "old"
    assert len(names(tmp_path)) == 2
    if os.name == "nt":  # a killed process is told from a living one by the age of what it left
        (left,) = names(tmp_path) - {"net.pt"}
        os.utime(tmp_path / left, (0, 0))
    safe_write.write(path, "newer")
    assert names(tmp_path) == {"net.pt"}


def test_what_a_living_process_is_writing_is_left_alone(tmp_path):
    path = tmp_path / "net.pt"
    (tmp_path / f".net.{os.getppid()}-1.part.pt").write_text("half")
    safe_write.write(path, "mine")
    assert len(names(tmp_path)) == 2


def test_threads_that_write_one_file_leave_one_of_their_texts(tmp_path):
    texts = [str(number) * 100_000 for number in range(8)]
    writers = [
        threading.Thread(target=safe_write.write, args=(tmp_path / f"{n % 2}", t))
        for n, t in enumerate(texts)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert (tmp_path / "0").read_text() in texts
    assert (tmp_path / "1").read_text() in texts


# ------------------------------------------------------------------ what stands in the way


def test_a_folder_in_the_place_of_the_file(tmp_path):
    (tmp_path / "metrics.json").mkdir()
    assert "a folder stands in its place" in one_line(lambda: safe_write.write(tmp_path / "metrics.json", ""))


def test_a_file_in_the_place_of_a_folder(tmp_path):
    (tmp_path / "results").write_text("")
    for path in ("results/metrics.json", "results/deep/metrics.json"):
        message = one_line(lambda path=path: safe_write.write(tmp_path / path, ""))
        assert "a file stands where a folder belongs" in message or os.name == "nt"


def test_a_read_only_file_is_kept(tmp_path):
    path = tmp_path / "README.md"
    path.write_text("mine")
    path.chmod(0o444)
    assert "read-only" in one_line(lambda: safe_write.write(path, "yours"))
    assert path.read_text() == "mine"
    path.chmod(0o644)


@POSIX
@pytest.mark.skipif(os.name == "posix" and os.geteuid() == 0, reason="nothing is read-only for root")
def test_a_read_only_folder(tmp_path):
    (tmp_path / "locked").mkdir(mode=0o555)
    assert "read-only" in one_line(lambda: safe_write.write(tmp_path / "locked" / "a", ""))


@ROOT_ONLY
def test_a_read_only_disk(small_disk):
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    assert "read-only" in one_line(lambda: safe_write.write(small_disk / "a", ""))


@POSIX
def test_a_device_is_not_replaced():
    assert "not a regular file" in one_line(lambda: safe_write.write(Path("/dev/null"), ""))
    assert Path("/dev/null").is_char_device()


@POSIX
def test_a_link_stays_one_and_the_rights_stay(tmp_path):
    (tmp_path / "real").write_text("old")
    (tmp_path / "real").chmod(0o640)
    (tmp_path / "link").symlink_to("real")
    safe_write.write(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"
    assert (tmp_path / "real").stat().st_mode & 0o777 == 0o640


@ROOT_ONLY
def test_the_owner_stays(tmp_path):
    (tmp_path / "a").write_text("old")
    os.chown(tmp_path / "a", 12345, 54321)
    safe_write.write(tmp_path / "a", "new")
    assert ((tmp_path / "a").stat().st_uid, (tmp_path / "a").stat().st_gid) == (12345, 54321)


# ------------------------------------------------------------------ a full disk


def writes_text(part: Path) -> None:
    part.write_text("x" * 400_000)


def writes_tensors(part: Path) -> None:
    torch.save({"a": torch.rand(100_000)}, part)


def writes_array(part: Path) -> None:
    np.save(part, np.zeros(100_000))


def does_not_notice(part: Path) -> None:
    """Stand for a package that drops the system's error, and ends as if all were well."""
    with part.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 1000)
        except OSError:
            pass


@ROOT_ONLY
@pytest.mark.parametrize("body", [writes_text, writes_tensors, writes_array, does_not_notice])
def test_a_full_disk_is_one_line_and_the_old_file_stays(small_disk, body):
    path = small_disk / "net.npy"
    safe_write.write(path, "old")

    def attempt():
        with safe_write.aside(path) as part:
            body(part)

    assert "the disk is full" in one_line(attempt)
    assert path.read_text() == "old"
    assert names(small_disk) == {"net.npy"}
    gc.collect()  # the error that torch raised holds the file, which has no name any more
    safe_write.write(path, "x" * 50_000)  # there is room again


def test_a_disk_that_fills_up_at_the_last_moment(tmp_path, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    safe_write.write(tmp_path / "a", "old")
    monkeypatch.setattr(os, "fsync", full)
    assert "the disk is full" in one_line(lambda: safe_write.write(tmp_path / "a", "new"))
    assert names(tmp_path) == {"a"}
    assert (tmp_path / "a").read_text() == "old"


def test_a_drive_that_does_not_tell_its_size_is_not_full(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(total=0, used=0, free=0))
    safe_write.write(tmp_path / "a", "new")
    assert (tmp_path / "a").read_text() == "new"


# ------------------------------------------------------------------ a file that another program holds


def held(monkeypatch, seconds):
    """Let Path.replace refuse for a while, as Windows does."""
    replace, end = Path.replace, time.monotonic() + seconds

    def refusing(self, target):
        if time.monotonic() < end:
            raise PermissionError(errno.EACCES, "The process cannot access the file")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", refusing)


@pytest.mark.parametrize("seconds", [0.3, 3.0])
def test_a_file_that_is_held_for_a_moment_is_waited_for(tmp_path, monkeypatch, seconds):
    safe_write.write(tmp_path / "a", "old")
    held(monkeypatch, seconds)
    safe_write.write(tmp_path / "a", "new")
    assert (tmp_path / "a").read_text() == "new"


def test_a_file_that_is_held_for_long_is_one_line(tmp_path, monkeypatch):
    safe_write.write(tmp_path / "a", "old")
    held(monkeypatch, 60)
    monkeypatch.setattr(safe_write, "PATIENCE", 0.2)
    assert "another program holds it" in one_line(lambda: safe_write.write(tmp_path / "a", "new"))
    assert names(tmp_path) == {"a"}
    assert (tmp_path / "a").read_text() == "old"
