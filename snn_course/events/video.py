"""Video as a camera's light (lesson 04): films of any size and rate, and folders of pictures."""

import contextlib
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from snn_course import UsageError

import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[np.uint8]
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
USUAL = 30.0  # pictures a second where nothing says it
MOST = 10_000  # frames: 0.9 GB at the largest size


class Clip(NamedTuple):
    """Grey frames [T, H, W], and the time of each in s, from 0 [T]."""

    frames: Picture
    times: npt.NDArray[np.float64]

    @property
    def seconds(self) -> float:
        """Length of the clip."""
        return float(self.times[-1])


def read(path: Path, seconds: float, width: int, height: int, fps: float | None = None) -> Clip:
    """Read the start of a film or a folder of pictures, in grey, scaled down to fit into the sensor.

    Args:
        path: a film that OpenCV reads, or a folder of pictures, shown in the order of their numbers.
        seconds: how much of it, in the time of the scene.
        width: most pixels of a line.
        height: most lines.
        fps: pictures a second in the scene: for a folder, and for slow motion, which is stored at 30 a
            second whatever the camera took. Without it a film's own time stamps hold.

    Raises: UsageError for what cannot be read, one picture only, or too many.
    """
    if not path.exists():
        raise UsageError(f"--video {path}: there is no such file.")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # the one line below says enough
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    shown = _pictures(path, fps or USUAL) if path.is_dir() else _film(path, fps)
    frames, times = list[Picture](), list[float]()
    for time, picture in shown:
        if time > seconds + 1e-9:
            break
        if len(frames) == MOST:
            raise UsageError(f"--video {path}: more than {MOST} pictures; use fewer --seconds.")
        frames.append(_fitted(picture, width, height))
        times.append(time)
        if frames[-1].shape != frames[0].shape:
            raise UsageError(f"--video {path}: picture {len(frames)} has another size than the first.")
    if len(frames) == 1:
        raise UsageError(f"--video {path}: one picture in its first {seconds:g} s; a film takes two or more.")
    if not frames:
        raise UsageError(f"--video {path}: OpenCV finds no moving pictures in it; try an .mp4 or .avi file.")
    return Clip(np.stack(frames), np.array(times))


def _fitted(picture: Picture, width: int, height: int) -> Picture:
    import cv2

    scale = min(1, width / picture.shape[1], height / picture.shape[0])
    size = [max(1, round(scale * side)) for side in picture.shape[::-1]]  # a thin strip keeps a line
    fitted: Any = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    return fitted


def _film(path: Path, fps: float | None) -> Iterator[tuple[float, Picture]]:
    """Give time and picture of each frame. A frame that is not later than the one before is left out."""
    import cv2

    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    capture = cv2.VideoCapture(str(path))
    rate = capture.get(cv2.CAP_PROP_FPS)
    rate = rate if math.isfinite(rate) and rate > 0 else USUAL  # a container without a rate
    start, before, number = 0.0, -1.0, 0
    while capture.isOpened():
        found, frame = capture.read()
        if not found:
            break
        stamp = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        start = stamp if number == 0 else start
        time = number / fps if fps else stamp - start
        if number == 1 and time <= 0:  # a container without time stamps
            fps = rate
            time = 1 / rate
        number += 1
        if time > before:
            before = time
            yield time, cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)  # type: ignore[misc]
    capture.release()


def _pictures(folder: Path, fps: float) -> Iterator[tuple[float, Picture]]:
    """Give time and picture of each file: 2.png comes before 10.png."""
    import cv2

    files = []
    for path in folder.iterdir():
        hidden = path.name.startswith(".")  # such as ._1.png, which macOS leaves beside 1.png
        if path.suffix.lower() in PICTURES and not hidden:
            files.append(path)
    for number, path in enumerate(sorted(files, key=_by_number)):
        picture: Any = None
        with contextlib.suppress(OSError, cv2.error):  # a folder of that name, an empty file
            stored = np.fromfile(path, dtype=np.uint8)  # OpenCV's own reading fails on some Windows names
            picture = cv2.imdecode(stored, cv2.IMREAD_GRAYSCALE)
        if picture is None:
            raise UsageError(f"--video {folder}: OpenCV cannot read {path.name}.")
        yield number / fps, picture


def _by_number(path: Path) -> list[Any]:
    parts = re.split(r"(\d+)", path.name.lower())
    return [int(part) if part.isdecimal() else part for part in parts]  # int takes no superscripts
