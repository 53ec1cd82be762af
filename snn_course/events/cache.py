"""The disk cache of frames (lesson 11): how large it is, how to clear it, when it is out of date.

Frames of a data set lie in a folder ``cache`` beside its recordings. Only the standard library is imported
here, numpy when it is needed: ``course.py`` asks how large the cache is, with any Python.
"""

from __future__ import annotations

import hashlib
import inspect
import shutil
from typing import TYPE_CHECKING, Any

from snn_course import data_dir

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from snn_course.events import streams


def folders() -> Iterator[Path]:
    """Give each folder of cached frames: beside a set, or beside synthetic gestures."""
    for pattern in ("*/cache", "*/*/cache"):
        yield from (path for path in data_dir().glob(pattern) if path.is_dir())


def size() -> int:
    """Give the bytes that cached frames take."""
    total = 0
    for folder in folders():
        total += sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return total


def clear(folder: Path) -> None:
    """Remove the frames in a folder of the cache; what another program holds open stays."""
    shutil.rmtree(folder, ignore_errors=True)


def fingerprint(to_frames: Callable[[streams.Stream], Any], sensor: tuple[int, int, int]) -> str:
    """Give a short name of what a transform does, which changes when its code does.

    It is made of the transform's source text, and of the frames that it gives of a fixed stream: so a change
    in a function that it calls, in a constant or in Tonic counts, too, as soon as it changes a frame.
    """
    source = inspect.unwrap(to_frames) if inspect.isroutine(to_frames) else type(to_frames)
    digest = hashlib.sha256()
    try:
        digest.update(inspect.getsource(source).encode())
    except (OSError, TypeError):  # typed into a prompt: then its frames alone speak for it
        digest.update(repr(source).encode())
    import numpy as np

    frames = np.asarray(to_frames(probe(sensor)))
    digest.update(repr((frames.dtype.str, frames.shape)).encode() + frames.tobytes())
    return digest.hexdigest()[:12]


def probe(sensor: tuple[int, int, int], events: int = 6000) -> streams.Stream:
    """Make a stream that a change of a transform shows on: a moving edge, and noise, for two seconds."""
    from snn_course.events import streams

    import numpy as np

    rng = np.random.default_rng(0)
    width, height, polarities = sensor
    t = np.sort(rng.integers(0, 2_000_000, events))
    edge = (t / 2e6 * width + rng.normal(0, 1, events)).astype(int) % width
    x = np.where(rng.random(events) < 0.7, edge, rng.integers(0, width, events))
    y, p = rng.integers(0, height, events), rng.integers(0, polarities, events)
    return streams.make(x, y, t, p)
