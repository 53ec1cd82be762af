"""Event cameras (lesson 04): the course's own model of a DVS pixel, and v2e behind the same interface."""

import dataclasses
import importlib
import logging
import math
from collections.abc import Iterable
from typing import Annotated, Any, Literal, Protocol

from snn_course import COMMAND, UsageError
from snn_course.events.streams import DTYPE, Stream, make
from snn_course.runs.settings import Range, check

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Engine = Literal["auto", "builtin", "v2e"]
DARK = 20.0  # light (white: 255) below which the log gives way to a straight line


@dataclasses.dataclass(frozen=True)
class Pixel:
    """Parameters of a DVS pixel. Thresholds are steps of the natural log of the light: 0.2 is 22 %.

    The ranges are wider than those of sensors that exist, and narrow enough for the model to stay finite.
    """

    threshold_on: Annotated[float, Range(0.01, 5)] = 0.2
    """Step up of the log that makes an ON event."""
    threshold_off: Annotated[float, Range(0.01, 5)] = 0.2
    """Step down of the log that makes an OFF event."""
    mismatch: Annotated[float, Range(0, 1)] = 0.03
    """Standard deviation of the thresholds from pixel to pixel."""
    cutoff_hz: Annotated[float, Range(0, 3000)] = 300.0
    """Bandwidth in full light (255), Hz; it falls with the light. 0: no limit."""
    leak_hz: Annotated[float, Range(0, 100)] = 0.1
    """ON events per pixel and second from leakage."""
    shot_noise_hz: Annotated[float, Range(0, 100)] = 0.1
    """Noise events per pixel and second in the dark; a quarter of that in full light."""
    refractory: Annotated[float, Range(0, 1)] = 0.0001
    """Time for which a pixel is deaf after an event, s."""

    def __post_init__(self) -> None:
        check(self, "--pixel.")  # where it stands on a command line
        if 0 < self.cutoff_hz < 0.01:
            said = f"must be 0, for no limit, or at least 0.01, not {self.cutoff_hz}"
            raise UsageError(f"--pixel.cutoff-hz {said}.")


IDEAL = Pixel(mismatch=0.0, cutoff_hz=0.0, leak_hz=0.0, shot_noise_hz=0.0, refractory=0.0)


class Camera(Protocol):
    """What turns frames into events."""

    def step(self, frame: Array, time: float) -> Stream:
        """Take a frame [H, W], light with white at 255, and its time in s. Returns: the events since."""


def make_camera(pixel: Pixel, engine: Engine = "auto", seed: int = 0) -> Camera:
    """Give an event camera: v2e, builtin (``DvsCamera``), or for auto v2e where it can be imported.

    The seed is that of mismatch and noise. Raises: UsageError for v2e where it cannot be imported.
    """
    wanted = engine == "v2e" or (engine == "auto" and not v2e_missing())
    return V2eCamera(pixel, seed) if wanted else DvsCamera(pixel, seed)


def record(camera: Camera, frames: Iterable[npt.NDArray[Any]], fps: float) -> Stream:
    """Show frames [H, W] to a camera, ``fps`` a second. Returns: all events. Raises: ValueError."""
    if not 0 < fps < np.inf:
        raise ValueError(f"fps is a number of frames a second, not {fps}")
    return record_at(camera, ((number / fps, frame) for number, frame in enumerate(frames)))


def record_at(camera: Camera, shown: Iterable[tuple[float, npt.NDArray[Any]]]) -> Stream:
    """Show frames to a camera, each a pair of its time in s and its light [H, W]. Returns: all events."""
    parts = [camera.step(frame, time) for time, frame in shown]
    return np.concatenate([np.empty(0, dtype=DTYPE), *parts])


def check_frame(frame: npt.NDArray[Any], before: tuple[int, ...]) -> None:
    """Raise ValueError for what is no light [H, W], or has not the shape of the frame before ((): none)."""
    if frame.ndim != 2:
        raise ValueError(f"a frame is light [H, W], grey; this one is {list(frame.shape)}")
    if before and frame.shape != before:
        raise ValueError(f"a frame of {list(frame.shape)} pixels cannot follow one of {list(before)}")
    if not (frame >= 0).all() or not np.isfinite(frame).all():
        raise ValueError("a frame has light that is below 0, nan or infinite")


def lin_log(light: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Photoreceptor: the log of the light; below DARK, the line from 0 to log(DARK)."""
    line = light * (math.log(DARK) / DARK)
    return np.where(light <= DARK, line, np.log(np.maximum(light, DARK))).astype(np.float32)


class DvsCamera:
    """A sensor of DVS pixels. Light, voltages and times are arrays [N], N = H * W pixels, row by row.

    Source: Hu, Liu and Delbruck (2021), "v2e: From Video Frames to Realistic DVS Events". In equal settings
    it gives as many events as v2e's emulator within 1 %, for mismatch, leak and shot noise at any rate. What
    differs, with sizes measured on lesson 04's clip at 30 frames a second, 160 x 120 pixels, in brackets with
    346 x 260, where edges are wider:

    - Time of an event. Here the voltage is a line from frame to frame, and an event comes when that crosses
      the threshold. In v2e the n-th events of all pixels share one time: 16 ms off in the mean, 33 at most.
    - Refractory period. Here a pixel starts again from the voltage at the end of it, since the reset switch
      is closed until then. In v2e it makes up for what it missed: 1.4 % fewer events here at 0.1 ms (1.5 %),
      12 % at 1 ms (14 %), 35 % at 10 ms.
    - Bandwidth. Here the low-pass filter makes one exact step; v2e makes one of Euler's, and no step larger
      than the whole way: 5 % fewer events here at 30 Hz (0.3 %), 2 % at 120 frames a second, 0.5 % at 480.
    - Leak. Here its rate differs from pixel to pixel; in v2e from frame to frame, too: no size measurable.
    - Shot noise. Here at any time after the pixel's other events, and not while it is deaf; in v2e at the
      time of the frame: as many events.
    - Only in v2e, where they have to be asked for: noise of the photoreceptor in place of shot noise, pixels
      with a high-pass filter (SCIDVS) or a surround (CSDVS).
    """

    def __init__(self, pixel: Pixel, seed: int = 0) -> None:
        self.pixel, self.rng = pixel, np.random.default_rng(seed)
        self.now = -np.inf  # time of the last frame, s
        self.shape: tuple[int, ...] = ()  # of the last frame

    def step(self, frame: npt.NDArray[Any], time: float) -> Stream:
        """See ``Camera``. Raises: ValueError for what is no frame, or not later than the one before."""
        check_frame(frame, self.shape)
        self.shape = frame.shape
        light = frame.reshape(-1).astype(np.float32)  # [N]
        if self.now == -np.inf:
            return self._start(light, time)
        if time <= self.now:
            raise ValueError(f"a frame at {time} s cannot follow one at {self.now} s")
        rise = self._photoreceptor(light, time - self.now) + self.leak * np.float32(time - self.now)  # [N]
        parts = [self._comparator(rise, time), self._shot_noise(light, time)]
        self.now = time
        number, at, on = (np.concatenate(part) for part in zip(*parts, strict=True))  # [E] events
        y, x = np.divmod(number, frame.shape[1])
        return make(x, y, np.rint(at * 1e6), on)

    def _start(self, light: Array, time: float) -> Stream:
        spread = self.rng.standard_normal((3, len(light)), dtype=np.float32)  # no two pixels are alike
        self.on = np.maximum(self.pixel.threshold_on + self.pixel.mismatch * spread[0], 0.01)
        self.off = np.maximum(self.pixel.threshold_off + self.pixel.mismatch * spread[1], 0.01)
        self.leak = self.pixel.leak_hz * self.on * 10 ** (0.1 * spread[2])  # log units per second
        self.volts = lin_log(light)  # output of the photoreceptor
        self.moved = np.zeros_like(light)  # by how much that has moved since the pixel's last event
        self.deaf_until = np.full(len(light), time)  # s
        self.now = time
        return np.empty(0, dtype=DTYPE)

    def _photoreceptor(self, light: Array, dt: float) -> Array:
        """Move the photoreceptor towards the light. Returns: by how much it moved, [N]."""
        gap = lin_log(light) - self.volts
        if self.pixel.cutoff_hz:
            bandwidth = self.pixel.cutoff_hz * (light + 20) / 275  # Hz; the 20 is what it keeps in the dark
            gap *= 1 - np.exp(-2 * np.pi * dt * bandwidth)  # one exact step of a low-pass, as in lesson 01
        self.volts += gap
        return gap

    def _comparator(self, rise: Array, time: float) -> tuple[Array, Array, Array]:
        """Fire at each threshold that is crossed. Returns: pixel, time in s, polarity (True: ON), [E]."""
        dt, before = time - self.now, self.moved
        awake = np.clip((time - self.deaf_until) / dt, 0, 1).astype(np.float32)  # share of the interval
        self.moved = before + rise * awake
        due = 1 - 1e-4  # rounding must not swallow an event that is just due
        up = (rise > 0) & (self.moved >= due * self.on)
        down = (rise < 0) & (self.moved <= -due * self.off)
        hit = np.flatnonzero(up | down)  # [F] pixels that fire
        on = up[hit]
        threshold = np.where(on, self.on[hit], self.off[hit])
        speed = np.abs(rise[hit].astype(np.float64)) / dt  # log units per second
        way = threshold - np.where(on, before[hit], -before[hit])  # to the first event
        first = np.minimum(time, np.maximum(self.now, self.deaf_until[hit]) + way / speed)
        period = self.pixel.refractory + threshold / speed  # deaf, then once more from zero to the threshold
        count = 1 + np.floor((time - first) / period + 1e-4).astype(np.int64)  # several in one interval
        self.deaf_until[hit] = first + (count - 1) * period + self.pixel.refractory
        self.moved[hit] = np.where(on, speed, -speed) * np.maximum(0, time - self.deaf_until[hit])
        nth = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)  # 0, 1, .. within a pixel
        at = np.repeat(first, count) + nth * np.repeat(period, count)
        return np.repeat(hit, count), np.clip(at, self.now, time), np.repeat(on, count)

    def _shot_noise(self, light: Array, time: float) -> tuple[Array, Array, Array]:
        """Fire at random, at most once an interval. Returns: as the comparator."""
        draw = self.rng.random(len(light), dtype=np.float32)
        mean = 1 - 0.75 * np.minimum((light + 20) / 275, 1)  # less noise in bright light
        mean *= self.pixel.shot_noise_hz / 2 * (time - self.now)  # events of each polarity, [N]
        on = draw < mean * self.pixel.threshold_on / self.on  # noise crosses a low threshold more often
        off = draw > 1 - mean * self.pixel.threshold_off / self.off
        hit = np.flatnonzero((on | off) & (self.deaf_until <= time))  # all but those that are deaf to the end
        awake = np.maximum(self.now, self.deaf_until[hit])  # after the events of this interval, if any
        at = self.rng.uniform(awake, time)
        self.moved[hit] = 0
        self.deaf_until[hit] = at + self.pixel.refractory
        return hit, at, on[hit]


def v2e_missing() -> str | None:
    """Say why v2e, which is installed from its repository, cannot be imported; None if it can."""
    try:
        importlib.import_module("v2ecore.emulator")
    except Exception as error:  # any of its many dependencies may fail in its own way
        return f"{type(error).__name__}: {error}"
    return None


class V2eCamera:
    """v2e's emulator, on the CPU, behind the same interface. Raises: UsageError if it cannot be imported."""

    def __init__(self, pixel: Pixel, seed: int = 0) -> None:
        if why := v2e_missing():
            raise UsageError(f"v2e does not import ({why}); '{COMMAND} env' says how to get it.")
        logging.getLogger("v2ecore").setLevel(logging.ERROR)  # it warns at each frame without events
        self.emulator = importlib.import_module("v2ecore.emulator").EventEmulator(
            pos_thres=pixel.threshold_on,
            neg_thres=pixel.threshold_off,
            sigma_thres=pixel.mismatch,
            cutoff_hz=pixel.cutoff_hz,
            leak_rate_hz=pixel.leak_hz,
            shot_noise_rate_hz=pixel.shot_noise_hz,
            refractory_period_s=pixel.refractory,
            seed=seed + 1,  # v2e takes 0 for "no seed"
            device="cpu",
        )

    def step(self, frame: Array, time: float) -> Stream:
        """See ``Camera``. The n-th events of all pixels since the last frame share one time."""
        rows = self.emulator.generate_events(frame, time)  # t in s, x, y, +1 or -1; or None
        t, x, y, sign = np.zeros((4, 0)) if rows is None else np.asarray(rows, dtype=np.float64).T
        return make(x, y, np.rint(t * 1e6), sign > 0)
