"""What an unfinished run has reached: kept in two generations, so that a damaged file costs one step.

Each file ends with a seal, the SHA-256 of what stands before it. A file that was cut off, emptied, exchanged
or written by another program does not bear its seal: it is named, set aside as ``….damaged``, and the run
goes on from the generation before it, or from the beginning where there is none.
"""

import copy
import dataclasses
import errno
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

from snn_course import safe_write
from snn_course.runs.endings import lacks_memory

if TYPE_CHECKING:
    from snn_course.runs.settings import Config

    import torch

    Part: TypeAlias = "Stateful | torch.Tensor"

SAME_RUN = ("seed", "seeds", "fresh", "threads", "workers", "cluster")
"""Settings that may differ when an unfinished run is resumed."""
FORGOTTEN_AFTER = 30 * 24 * 3600.0
"""Seconds after which what other settings have left unfinished is removed."""
_SEAL = "\nsha256 {}\n"
_SEAL_BYTES = len(_SEAL.format(hashlib.sha256().hexdigest()))
Found = TypeVar("Found")


class Stateful(Protocol):
    """A network, an optimizer, or whatever else can give its state and take it over."""

    def state_dict(self) -> dict[str, Any]: ...  # noqa: D102
    def load_state_dict(self, state: dict[str, Any], /) -> Any: ...  # noqa: D102


class Random:
    """The state of PyTorch's random numbers."""

    def state_dict(self) -> dict[str, Any]:
        """Give it."""
        import torch

        return {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all()}

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        """Take it over, for as many GPUs as there are now."""
        import torch

        torch.set_rng_state(state["cpu"].cpu())
        for number in range(min(len(state["cuda"]), torch.cuda.device_count())):
            torch.cuda.set_rng_state(state["cuda"][number].cpu(), number)


class Unfinished:
    """The kept files of one run: of these settings and this script.

    Args:
        home: folder of what all runs of a script have left unfinished.
        config: the run's settings.
        script: the run's script.
        say: prints a line.
        writes: False in a process that only reads what another one keeps.
    """

    def __init__(
        self, home: Path, config: "Config", script: Path, say: Callable[[str], None], writes: bool = True
    ) -> None:
        self.home = home
        self.config = config
        self.script = script
        self.say = say
        self.writes = writes

    @cached_property
    def folder(self) -> Path:
        """Where this very run keeps its files."""
        told = {key: v for key, v in dataclasses.asdict(self.config).items() if key not in SAME_RUN}
        text = json.dumps(told, sort_keys=True, default=str).encode() + self.script.read_bytes()
        return self.home / hashlib.sha256(text).hexdigest()[:12]

    def prepare(self, fresh: bool) -> None:
        """Forget an earlier start if ``fresh``. Raises: UsageError for a file in the folder's place."""
        with safe_write.reported(self.home):
            if self.home.exists() and not self.home.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if fresh:
            self._remove_own()

    def keep(self, name: str, write: Callable[[Path], object]) -> None:
        """Keep what ``write`` writes to a path; what was kept before becomes the older generation.

        Raises: UsageError when the file cannot be written.
        """
        if not self.writes:
            return
        path = self.folder / _as_file_name(name)
        with safe_write.aside(path) as part:
            write(part)
            _seal(part)
            if path.exists():
                safe_write.patiently(lambda: path.replace(_older(path)))

    def find(self, name: str, read: Callable[[Path], Found]) -> Found | None:
        """Give what ``read`` makes of the newest sound file of that name; None where there is none.

        A file that is damaged, or that ``read`` can make nothing of, is set aside.
        """
        newest = self.folder / _as_file_name(name)
        for path in (newest, _older(newest)):
            if os.path.lexists(path):
                try:
                    safe_write.patiently(lambda path=path: _check_seal(path))  # type: ignore[misc]
                    return read(path)
                except Exception as error:  # torch, json and a state that does not fit: a dozen kinds
                    if lacks_memory(error):
                        raise
                    more = path == newest and _older(newest).exists()
                    self._set_aside(path, error, "the state before it" if more else "the beginning")
        return None

    def clear(self) -> None:
        """Forget this run, which is finished, but for damaged files, and what others left long ago."""
        self._remove_own()
        for folder in self.home.glob("*"):
            with suppress(OSError):
                if time.time() - folder.stat().st_mtime > FORGOTTEN_AFTER:
                    shutil.rmtree(folder, ignore_errors=True)
                folder.rmdir()  # if it is empty
        with suppress(OSError):
            self.home.rmdir()

    def _remove_own(self) -> None:
        for path in self.folder.glob("*"):
            if ".damaged" not in path.name:
                with suppress(OSError):
                    path.unlink()

    def _set_aside(self, path: Path, error: Exception, go_on: str) -> None:
        """Rename a damaged file, or a folder in its place, and say from where the run goes on."""
        reason = " ".join(str(error).split())[:100] or type(error).__name__
        aside = next(free for n in range(1, 10_000) if not os.path.lexists(free := _aside(path, n)))
        if self.writes:
            with safe_write.reported(path):
                safe_write.patiently(lambda: path.rename(aside))
        self.say(f"  {path} is damaged ({reason}). It is now {aside.name}; going on from {go_on}.")


def body(path: Path) -> bytes:
    """Give what stands before the seal of a kept file."""
    return path.read_bytes()[:-_SEAL_BYTES]


def fill(parts: "Mapping[str, Part]", state: Mapping[str, Any]) -> None:
    """Give each part the entry of its name: all of them, or, where one does not fit, none.

    Raises: whatever a part raises; KeyError for a missing entry; ValueError for a tensor of another shape.
    """
    before = {name: copy.deepcopy(_state_of(part)) for name, part in parts.items()}
    try:
        for name, part in parts.items():
            _fill_one(part, state[name])
    except Exception:
        for name, part in parts.items():
            _fill_one(part, before[name])
        raise


def _state_of(part: "Part") -> Any:
    return part.state_dict() if hasattr(part, "state_dict") else part.detach()


def _fill_one(part: "Part", state: Any) -> None:
    if hasattr(part, "load_state_dict"):
        part.load_state_dict(state)
    elif part.shape != state.shape:
        raise ValueError(f"a tensor of shape {tuple(state.shape)} instead of {tuple(part.shape)}")
    else:
        part.detach().copy_(state)


def _seal(part: Path) -> None:
    with part.open("rb+") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        file.write(_SEAL.format(digest).encode())


def _check_seal(path: Path) -> None:
    """Raise ValueError for what is no file, or one without its seal; OSError for what cannot be read."""
    if path.is_dir():
        raise ValueError("a folder in its place")
    left, digest = path.stat().st_size - _SEAL_BYTES, hashlib.sha256()
    with path.open("rb") as file:
        while left > 0 and (piece := file.read(min(left, 1 << 20))):
            digest.update(piece)
            left -= len(piece)
        if left or file.read() != _SEAL.format(digest.hexdigest()).encode():
            raise ValueError("cut off, or changed by another program")


def _as_file_name(name: str) -> str:
    """Give a name that each system takes for a file's; two names never become one."""
    safe = re.sub(r"[^\w .,+=-]", "-", name)
    return safe if safe == name else f"{hashlib.sha256(name.encode()).hexdigest()[:6]} {safe}"


def _older(path: Path) -> Path:
    return path.with_name(f"{path.stem}.before{path.suffix}")


def _aside(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.damaged{number if number > 1 else ''}")
