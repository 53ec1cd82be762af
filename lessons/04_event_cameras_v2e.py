"""Lesson 04: event cameras.

Question: What does a camera see whose pixels report changes of light, each on its own, and no frames?
Reading:  Gallego et al. (2020), Event-based Vision, sec. I to III; Hu, Liu and Delbruck (2021), v2e.
Run:      python lessons/04_event_cameras_v2e.py [--video FILE or FOLDER] [--fps 240] [--engine v2e|builtin]
Expect:   bars show over 119 dB of light (a ratio of 900,000), in an 8-bit frame over 48 dB (250); a still
          scene costs 2 % of a moving one; from about 90 pixels a second on (a quarter of the width), events
          cost more bytes than 30 frames a second. 1 min for 3 seeds on two CPU cores; no data.
"""

# %% [markdown]
# A frame camera reads all its pixels 30 times a second, whether they changed or not. An
# *event camera* has no frames. Each pixel watches its own light. When that has changed by a
# set ratio, the pixel sends one *event*: who it is, when, and whether it got brighter or
# darker. Lesson 02 turned pictures into spikes by a rule that we chose; its retina code was
# a copy of this pixel. Here is the hardware itself, whose output is spikes from the start.
#
# In this lesson you
#
# 1. follow one pixel: its light, its threshold, its events,
# 2. turn a clip into a stream of events, as v2e does, and see what an event is on the wire,
# 3. meet what the real circuit adds: a slow photoreceptor, a pause after each event, noise,
# 4. see where event cameras win: latency, dynamic range, power,
# 5. weigh events and frames in bytes, and find when frames are cheaper,
# 6. see where event cameras fail: a still scene, and a lamp that flickers,
# 7. fall for a list of events that is out of order.
#
# *Going deeper*, at the end, compares everything with closed forms and with v2e.
#
# The cell below holds imports and settings. Each setting is an option of the command line:
# try `python lessons/04_event_cameras_v2e.py --pixel.threshold-on 0.4`, twice the usual
# threshold for ON events. Which share of them should be left?

# %%
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

sys.path.insert(0, str(Path(globals().get("__file__", "any.py")).resolve().parents[1]))  # where snn_course is

from snn_course.runs import lesson
from snn_course import UsageError
from snn_course.events import camera, drawing, streams, video

import numpy as np
import tonic
from numpy import ndarray


@dataclass(frozen=True)
class Config(lesson.Config):
    engine: camera.Engine = "auto"
    """What makes the events: v2e, builtin (``DvsCamera``), or auto: v2e where it is installed."""

    video: Path | None = None
    """A film that OpenCV reads, or a folder of pictures, in place of the clip drawn here."""

    fps: Annotated[float | None, lesson.Range(0.1, 1_000_000)] = None
    """Pictures per second of ``--video`` in the scene, for slow motion (stored at 30) and folders."""

    width: Annotated[int, lesson.Range(48, streams.WIDTH)] = streams.WIDTH
    """Width of the sensor, pixels; three quarters of that is its height."""

    seconds: Annotated[float, lesson.Range(0.5, 60)] = 10.0
    """Length of the clip, s."""

    pixel: camera.Pixel = field(default_factory=camera.Pixel)
    """The pixel's parameters; chapter 3 explains them."""


SCALES: lesson.Scales = {
    "quick": {"width": 96, "seconds": 1.0},
    "cpu": {"seeds": 3},
    "gpu": {"seeds": 3},
}
FPS = 30.0  # frames per second of an ordinary camera
SPEEDS = (0, 10, 20, 30, 50, 100, 300, 1000)  # pixels per second
Events = list[tuple[float, bool]]  # of one pixel: time in s, and True for ON

# %% [markdown]
# ## 1. One pixel
#
# A conventional pixel collects light for a while, is read out as a number from 0 to 255,
# and starts again. It cannot say what happened in between, and it repeats itself while
# nothing happens.
#
# A pixel of an event camera (a *dynamic vision sensor*, DVS) takes the logarithm of its
# light, all the time, and remembers the level at its last event. With the threshold
# $\theta$ it fires when
#
# $$ \left| \ln I(t) - \ln I_{\text{last}} \right| \ge \theta $$
#
# The sign is the *polarity*: ON for brighter, OFF for darker. The level of that moment is
# what it remembers next. That is an integrate-and-fire neuron (lesson 01) with two
# thresholds, one above and one below. Its input is the change of the log of the light.
#
# | | conventional pixel | DVS pixel |
# |---|---|---|
# | measures | how much light there is | by what ratio it changed |
# | speaks | when the clock says so | when there is something to say |
# | sends | a number | its address: ON or OFF |
# | time | that of the whole frame | its own, to a microsecond |
#
# Why the log? It turns equal ratios into equal steps. A shadow that halves the light is a
# step of $\ln 2$ at noon and at dusk. With $\theta = 0.2$ a pixel fires whenever its light
# has grown by 22 % ($e^{0.2}$) or fallen by 18 % ($e^{-0.2}$), however bright it is. Near
# black the log would fall without end, so below 20 (white is 255) a straight line takes its
# place.
#
# A step of the log by $c$ gives $\lfloor c / \theta \rfloor$ events. So half the threshold
# gives twice the events, and shows weaker contrasts. But noise passes it more often, too.


# %%
def log_of_light(light: ndarray) -> ndarray:
    """Give the natural log of the light; in the dark, a line from 0 to log(20)."""
    dark = camera.DARK  # 20
    line = light * np.log(dark) / dark
    curve = np.log(np.maximum(light, dark))
    return np.where(light <= dark, line, curve)


# %% [markdown]
# The whole pixel is a loop: while the log is a threshold away from what is remembered,
# fire, and remember one threshold more or less. A fast change fires several times. The
# light is known at the frames only. Between two frames the log is taken to be a line, and
# an event comes when that line crosses the level.


# %%
def events_of_pixel(times: ndarray, light: ndarray, threshold: float) -> Events:
    """Give the events of one ideal pixel that sees ``light`` [T] at ``times`` [T], in s."""
    log = log_of_light(light)
    # exercise: fire at each level that the log passes, one threshold from the one before
    remembered = log[0]
    due = threshold * (1 - 1e-4)  # rounding must not swallow an event that is just due
    events: Events = []
    for step in range(1, len(times)):
        start, end = log[step - 1], log[step]
        while abs(end - remembered) >= due:
            brighter = bool(end > remembered)
            remembered += threshold if brighter else -threshold
            share = (remembered - start) / (end - start)  # where on the line
            dt = times[step] - times[step - 1]
            at = times[step - 1] + min(1.0, share) * dt  # one that is just due comes at the end
            events.append((float(at), brighter))
    # end
    return events


# %% [markdown]
# The clip that it watches is drawn here, so that everything about it is known: a dark bar
# and a bright disc move over a carpet that rests. An edge covers a pixel bit by bit, as on
# a real sensor: a pixel that is half covered has half of each light. (In the code, `inside`
# is the distance to the edge in pixels; half a pixel more, cut to 0 to 1, is the share that
# is covered.)


# %%
def render(path: float, width: int) -> ndarray:
    """Draw the scene after ``path`` pixels of motion, bytes [H, W]."""
    height = round(0.75 * width)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    carpet = np.sin(x / 5) * np.sin(y / 7)
    light = 90 + 60 * carpet

    bar = (0.95 * width - path) % width  # goes left, and comes back on the right
    inside = 0.012 * width - np.abs(x - bar)
    light += np.clip(inside + 0.5, 0, 1) * (20 - light)  # dark

    radius = 0.23 * width  # of the disc's way round the middle
    turn = path / radius  # radians
    middle_x = width / 2 + radius * np.cos(turn)
    middle_y = height / 2 + radius * np.sin(turn)
    inside = 0.06 * width - np.hypot(x - middle_x, y - middle_y)
    light += np.clip(inside + 0.5, 0, 1) * (220 - light)  # bright
    return np.rint(light).astype(np.uint8)


def clip_of(config: Config) -> video.Clip:
    """Give the learner's film, or the one drawn here: one pixel of motion a frame."""
    size = config.width, streams.HEIGHT
    if config.video:
        return video.read(config.video, config.seconds, *size, config.fps)
    numbers = np.arange(round(config.seconds * FPS) + 1)
    frames = [render(number, config.width) for number in numbers]
    return video.Clip(np.stack(frames), numbers / FPS)


# %% [markdown]
# We follow the pixel whose light changes most. In its figure, the blue line is the log of
# its light, and the orange one is what it remembers: it jumps by one threshold at each
# event. Where the light rests, nothing is sent, while a frame camera sends the same number
# again and again.


# %%
def watch_a_pixel(
    config: Config,
    run: lesson.Run,
    clip: video.Clip,
) -> None:
    """Follow the pixel of the clip whose light changes most."""
    log = log_of_light(clip.frames.astype(float))  # [T, H, W]
    steps = np.abs(np.diff(log, axis=0))
    change = steps.sum(axis=0)  # [H, W]
    y, x = divmod(int(change.argmax()), change.shape[1])
    light = clip.frames[:, y, x].astype(float)  # [T]
    log = log[:, y, x]
    threshold = config.pixel.threshold_on
    events = events_of_pixel(clip.times, light, threshold)
    if not events:
        raise UsageError("Nothing moves in the clip: no pixel gives an event. Take another.")

    figure = drawing.pixel_life(clip, (y, x), log, events, threshold)
    run.figure(figure, "pixel")
    same = int((np.diff(light) == 0).sum())
    run.say(
        f"Pixel ({x}, {y}) sends {len(events)} events in {clip.seconds:.1f} s. "
        f"A frame camera sends {len(light)} numbers for it, "
        f"{same} of them the same as the one before."
    )
    prove_fast_model(run, clip, threshold)


# %% [markdown]
# A polarity is no brightness. From the events alone one knows how the light *changed*, not
# where it started: adding up ON minus OFF, times the threshold, gives the log of the light
# up to a constant, and every error of the threshold adds up with it.
#
# One pixel in a loop is easy to read and slow. `DvsCamera`, in `snn_course/events/camera.py`,
# computes all pixels at once. Is it the same model? Here are 200 pixels of the clip, through
# both. (`camera.IDEAL` is a pixel without anything that chapter 3 adds.)


# %%
def prove_fast_model(run: lesson.Run, clip: video.Clip, threshold: float) -> None:
    """Compare the lines above with ``DvsCamera``: same pixels, times and polarities."""
    rng = np.random.default_rng(run.seed)
    light = some_pixels(clip, 200, rng)
    pixel = replace(camera.IDEAL, threshold_on=threshold, threshold_off=threshold)
    frames = light[:, None]  # a sensor of one row, [T, 1, N]
    stream = show(camera.DvsCamera(pixel), clip.times, frames)

    wrong = 0
    for number in range(light.shape[1]):
        slow = events_of_pixel(clip.times, light[:, number], threshold)
        wrong += differ(stream[stream["x"] == number], slow) > 0
    run.proof("pixels for which DvsCamera differs from these lines", wrong, at_most=0)


def some_pixels(clip: video.Clip, count: int, rng: np.random.Generator) -> ndarray:
    """Give the light of some pixels of the clip, drawn by lot, float [T, N]."""
    frames = clip.frames.reshape(len(clip.frames), -1)  # [T, H * W]
    count = min(count, frames.shape[1])
    chosen = rng.choice(frames.shape[1], count, replace=False)
    return frames[:, chosen].astype(float)


def show(sensor: camera.Camera, times: ndarray, frames: ndarray) -> ndarray:
    """Show frames [T, H, W] to a sensor. Returns: the stream of its events."""
    return camera.record_at(sensor, zip(times, frames, strict=True))


def differ(stream: ndarray, events: Events) -> int:
    """Count the events of a pixel that its stream does not have: missing, 2 ms off, or of the other sign."""
    wrong = abs(len(stream) - len(events))
    for event, (at, brighter) in zip(stream, events, strict=False):
        late = abs(event["t"] / 1e6 - at) > 2e-3
        wrong += bool(late or event["p"] != brighter)
    return wrong


# %% [markdown]
# ## 2. From video to events
#
# *v2e* (video to events) makes events of ordinary video. Each pixel's light goes through the
# model of chapter 1, with what chapter 3 adds. Frames are 33 ms apart and events have a
# resolution of 1 µs, so between two frames the log moves on a line. That is a guess: times
# are *written* to 1 µs, but what happened between two frames, nobody saw. (The full v2e
# first draws frames in between with a neural network, SuperSloMo, which guesses better; its
# model of the pixel is the same.)
#
# v2e is one object, `EventEmulator(pos_thres=0.2, neg_thres=0.2, ...)`. Its
# `generate_events(frame, time)` takes frame after frame and gives the events since the last
# one; `V2eCamera`, beside `DvsCamera`, hands it the parameters. Where v2e is installed, it
# makes the events here (`python course.py env` says how to get it), elsewhere `DvsCamera`.
#
# `--video` takes your own film or a folder of pictures. A film with a variable rate is
# read by its time stamps. Slow motion is stored at 30 frames a second whatever the camera
# took: say `--fps 240`, or all speeds are wrong by a factor of 8.
#
# On the wire an event is an *address*: x, y and polarity packed into one word. That is the
# *address-event representation* (AER). It grew up in neuromorphic chips as a bus for
# spikes: the few wires between two chips carry the number of the neuron that fires, and
# the moment at which it is sent is the moment of the spike. There is no clock: the sender
# puts an address on the wires and raises the line *request*; the receiver reads it and
# raises *acknowledge*; then both lines fall, and the bus is free.
#
# One bus serves all pixels. When two fire at once, a circuit (the *arbiter*) lets one wait.
# So a scene that makes more events than the bus can carry makes them late, or loses some.
#
# In a file the moment must be written down, in a second word. The first is, for the
# DAVIS346, a camera of 346 x 260 pixels,
#
# $$ \text{address} = \text{row} \cdot 2^{22} + \text{column} \cdot 2^{12} + p \cdot 2^{11} $$
#
# with ON as $p = 1$. Rows and columns are counted from the bottom right, where our y and x
# start at the top left. So 10 bits, 12 to 21, are left for the column, and those from 22 on
# for the row.


# %%
def pack(x: int, y: int, p: bool) -> int:
    """Put an event into the address word of a DAVIS346."""
    # exercise: turn x and y round, and shift each part to its bits
    column = streams.WIDTH - 1 - x
    row = streams.HEIGHT - 1 - y
    # end
    return row << 22 | column << 12 | int(p) << 11


def unpack(address: int) -> tuple[int, int, bool]:
    """Take x, y and polarity out of an address word."""
    row = address >> 22 & 0b1_1111_1111  # 9 bits
    column = address >> 12 & 0b11_1111_1111  # 10 bits
    on = address >> 11 & 1
    return streams.WIDTH - 1 - column, streams.HEIGHT - 1 - row, bool(on)


# %% [markdown]
# The stream is an array with a row for each event: x, y, t in µs, p. It is saved as such
# words and read back with Tonic, the library of lesson 11. Drawn over x, y and time, the
# moving edges make surfaces: the disc a spiral, the bar a tilted sheet. The carpet, which
# rests, hardly makes a point.


# %%
def convert_clip(
    config: Config,
    run: lesson.Run,
    clip: video.Clip,
) -> ndarray:
    """Make events of the clip, save them, and read them with Tonic. Returns: the events."""
    sensor = camera.make_camera(config.pixel, config.engine, run.seed)
    begun = time.perf_counter()
    stream = show(sensor, clip.times, clip.frames)
    ratio = clip.seconds / (time.perf_counter() - begun)
    if stream["p"].all() or not stream["p"].any():
        raise UsageError("The clip gives no ON and OFF events; take one in which something moves.")
    own = isinstance(sensor, camera.DvsCamera)
    goal = {"cpu": 1, "gpu": 1} if own else None
    run.measure("clip seconds per second of work", ratio, at_least=goal, speed=True)

    height, width = clip.frames.shape[1:]
    path = run.folder / "clip.aedat"
    streams.save(path, streams.check(stream, width, height))
    back = streams.read(path)  # by tonic.io.read_davis_346
    differs = stream.tobytes() != back.tobytes()
    run.proof("read back by Tonic: not bit for bit", differs, at_most=0)
    prove_addresses(run, path, stream)

    columns = ["events by", "frames", "pixels", "events", "ON share"]
    engine = "own model" if own else "v2e"
    on = f"{stream['p'].mean():.2f}"
    row = [engine, len(clip.frames), f"{width} x {height}", len(stream), on]
    run.table("The clip", columns, [row])
    run.figure(drawing.cloud(stream), "point_cloud")
    return stream


def prove_addresses(run: lesson.Run, path: Path, stream: ndarray) -> None:
    """Pack the last events by hand: the same words as in the file, and back again."""
    last = stream[-50:]
    raw = path.read_bytes()[-streams.BYTES_AN_EVENT * len(last) :]
    words = np.frombuffer(raw, dtype=">u4").reshape(-1, 2)  # 32 bits each, the highest byte first
    wrong = 0
    for event, (address, stamp) in zip(last.tolist(), words.tolist(), strict=True):
        x, y, t, p = event
        wrong += pack(x, y, p) != address
        wrong += unpack(address) != (x, y, p)
        wrong += stamp != t
    run.proof("addresses packed and unpacked by hand: wrong", wrong, at_most=0)
    sign = "ON" if p else "OFF"
    word = f"{pack(x, y, p):032b}"
    run.say(f"The last event, {sign} at ({x}, {y}) after {t} us, is the word {word} and its time.")


# %% [markdown]
# ## 3. What the real circuit adds
#
# - *Bandwidth* (`cutoff_hz`): the photoreceptor follows the light with a delay, as a leaky
#   integrator (lesson 01) does. In dim light it is slower, since a small photocurrent has
#   to charge the same capacitor.
# - *Refractory period* (`refractory`): after an event the pixel is deaf for a moment. What
#   changes meanwhile is lost. So it also limits how often a pixel can speak.
# - *Mismatch* (`mismatch`): no two transistors are alike, so each pixel has thresholds of
#   its own.
# - *Leak* (`leak_hz`): charge leaks off the remembered level, always downwards. So light
#   that rests seems to grow, and the pixel sends an ON event now and then, never an OFF.
# - *Shot noise* (`shot_noise_hz`): light comes in photons, at random. Events at random are
#   the result, most of them in the dark.
#
# (`--help` says how large each is.) Here is a pixel with the first four. The fifth comes by
# chance and is left out, so that this pixel and `DvsCamera`, which has the same stages for
# all pixels, can be compared event by event.


# %%
class RealPixel:
    """One DVS pixel with thresholds of its own. Times in s, levels in natural log."""

    def __init__(
        self,
        pixel: camera.Pixel,
        light: float,
        on: float,
        off: float,
        leak: float,
    ) -> None:
        self.pixel = pixel
        self.on = on
        self.off = off
        self.leak = leak  # log units per second
        self.photoreceptor = float(log_of_light(np.array(light)))
        self.moved = 0.0  # change of the log since the last event
        self.now = 0.0
        self.deaf_until = 0.0

    def see(self, light: float, now: float) -> Events:
        """Take the light at the time ``now``. Returns: the events since the last call."""
        dt = now - self.now
        speed = self.follow(light, dt) / dt + self.leak  # of the log, per second
        sign = 1 if speed > 0 else -1
        threshold = self.on if speed > 0 else self.off
        awake = max(self.now, self.deaf_until)
        events: Events = []
        while speed and awake < now:
            way = threshold - sign * self.moved  # still to go
            reach = abs(speed) * (now - awake)  # as far as it gets before this frame
            if reach < way - 1e-4 * threshold:  # just due is due, as above
                break
            crossing = min(now, awake + max(0.0, way) / abs(speed))
            events.append((crossing, speed > 0))
            self.moved = 0.0  # reset here, as a neuron does
            self.deaf_until = crossing + self.pixel.refractory
            awake = self.deaf_until
        self.moved += speed * max(0.0, now - awake)
        self.now = now
        return events

    def follow(self, light: float, dt: float) -> float:
        """Move the photoreceptor towards the log of the light. Returns: by how much."""
        log = float(log_of_light(np.array(light)))
        gap = log - self.photoreceptor
        if self.pixel.cutoff_hz:
            brightness = (light + 20) / 275  # 1 for white, 255; the 20 is what it keeps in the dark
            bandwidth = self.pixel.cutoff_hz * brightness  # Hz
            gap *= 1 - np.exp(-2 * np.pi * bandwidth * dt)
        self.photoreceptor += gap
        return gap


# %% [markdown]
# `see` takes the light of one frame. The photoreceptor moves part of the way (`follow`), the
# leak adds a little, and what is left is a line that may cross a threshold several times.
#
# The figure shows a slow pixel, of 20 Hz, whose light rises, rests, and falls at once. (It
# goes above 255: white is where a frame ends, not the light.) The photoreceptor rounds off
# the step, so its OFF events come late and spread out. The lowest panel is what the pixel
# compares with its two thresholds, the change since its last event: a sawtooth.


# %%
def look_into_the_circuit(
    config: Config,
    run: lesson.Run,
    clip: video.Clip,
) -> None:
    """Draw a slow pixel at work, and compare ``RealPixel`` with ``DvsCamera`` on the clip."""
    pixel = replace(config.pixel, cutoff_hz=20.0)
    on, off = pixel.threshold_on, pixel.threshold_off
    leak = pixel.leak_hz * on
    times = np.arange(0, 0.6, 0.001)  # s
    corners = [0.05, 0.25, 0.4, 0.401]
    light = np.interp(times, corners, [100, 400, 400, 120])
    real = RealPixel(pixel, light[0], on, off, leak)
    events: Events = []
    level, moved = [real.photoreceptor], [0.0]
    for step in range(1, len(times)):
        events += real.see(light[step], times[step])
        level.append(real.photoreceptor)
        moved.append(real.moved)
    figure = drawing.circuit(times, light, level, moved, events, (on, -off))
    run.figure(figure, "circuit")
    prove_real_pixel(config, run, clip)


def prove_real_pixel(config: Config, run: lesson.Run, clip: video.Clip) -> None:
    """Compare ``RealPixel`` with ``DvsCamera`` on pixels of the clip, each with its thresholds."""
    light = some_pixels(clip, 200, np.random.default_rng(run.seed))
    mismatch = max(0.01, config.pixel.mismatch)
    pixel = replace(config.pixel, shot_noise_hz=0.0, mismatch=mismatch)
    fast = camera.DvsCamera(pixel, run.seed)
    stream = show(fast, clip.times, light[:, None])

    wrong, total = 0, 0
    for number in range(light.shape[1]):
        own = np.stack([fast.on, fast.off, fast.leak])[:, number]
        slow = RealPixel(pixel, light[0, number], *own.tolist())
        events: Events = []
        for step in range(1, len(light)):
            events += slow.see(light[step, number], clip.times[step])
        wrong += differ(stream[stream["x"] == number], events)
        total += len(events)
    share = wrong / max(1, total)
    run.proof("RealPixel and DvsCamera: share of events that differ", share, at_most=2e-3)


# %% [markdown]
# ## 4. Where event cameras win
#
# **Latency.** A change waits for no frame: a pixel speaks when its photoreceptor has passed
# the threshold. At 30 frames a second a change waits 17 ms in the mean, and up to 33. The
# photoreceptor is a leaky integrator with $\tau = 1 / (2 \pi f)$ for a bandwidth $f$. After
# a step of light it has gone the share $1 - e^{-t/\tau}$ of the way. If the step is $k$
# thresholds high, the $n$-th event is due when that share is $n / k$, at
#
# $$ t_n = -\tau \ln (1 - n / k) $$


# %%
def measure_latency(config: Config, run: lesson.Run) -> None:
    """Switch the light on: the photoreceptor follows as 1 - exp(-t / tau)."""
    pixel = replace(camera.IDEAL, cutoff_hz=config.pixel.cutoff_hz or 300.0)
    k = 3.5  # three events
    contrast = k * pixel.threshold_on
    brightness = 2.0 ** np.arange(5)  # [N], from dim to bright
    light = camera.DARK * np.exp(contrast) * brightness
    bandwidth = pixel.cutoff_hz * (light + 20) / 275  # Hz
    tau = 1 / (2 * np.pi * bandwidth)  # s
    fps = 40 / tau.min()
    steps = round(3 * tau.max() * fps)
    before = light * np.exp(-contrast)  # DARK or more, where the log holds
    frames = np.stack([before] + [light] * steps)  # [T, N]
    sensor = camera.DvsCamera(pixel)
    stream = camera.record(sensor, frames[:, None], fps)

    worst = 0.0
    due = -np.log(1 - np.arange(1, 4) / k)  # of three events, in tau
    rows = []
    for number in range(5):
        own = stream[stream["x"] == number]
        at = own["t"] / 1e6  # s
        error = np.abs(at / tau[number] - due)
        worst = max(worst, error.max())
        numbers = light[number], 1e3 * tau[number], 1e3 * at[0]
        rows.append([f"{each:.2f}" for each in numbers])
    run.proof("step of light: error of a time / tau", worst, at_most=0.02)
    columns = ["light", "tau, ms", "first event, ms"]
    run.table("Bandwidth: less light, later events", columns, rows)
    run.say(
        f"The first event comes {rows[-1][2]} ms after a step of bright light, "
        f"{rows[0][2]} ms in dim light. A camera of {FPS:.0f} frames a second shows the "
        f"step after {500 / FPS:.0f} ms in the mean."
    )


# %% [markdown]
# **Dynamic range.** A frame has one exposure for all pixels: 8 bits span a ratio of 255,
# which is 48 dB ($20 \log_{10}$ of the ratio). Each DVS pixel has its own operating point,
# and only ratios count. Gallego et al. give 120 dB and more. Here a scene has bars of one
# contrast everywhere, while the light grows a million times from left to right: 120 dB,
# from moonlight to noon. Where are the bars seen? In the frame, where their contrast is
# between half and twice the true one; in the events, where a column sends between half and
# twice as many as is usual, in the median of all columns.
#
# Read the result with care. That a frame loses the bars follows from its 8 bits. But the
# model of the pixel has no upper end, so the number for events is bounded by the scene;
# where a real pixel ends, only a real sensor can say. At the far left the bars dip below
# 20, where the line is steeper than the log: there are *more* events.
#
# The picture of events adds up ON minus OFF. `np.add.at` counts a pixel as often as it
# stands in the list; `net[y, x] += sign` would count it once, however often it spoke.


# %%
def see_wide_range(config: Config, run: lesson.Run) -> None:
    """Drift bars of one contrast over light that grows by 120 dB across."""
    level = camera.DARK * 10 ** np.linspace(0, 6, config.width)  # [W]; 20 log10(10^6) = 120
    threshold = max(config.pixel.threshold_on, config.pixel.threshold_off)
    contrast = np.tanh(1.75 * threshold)  # log(bright / dark) = 3.5 thresholds
    rows = np.arange(64)[:, None] / 16  # [H, 1], in bars
    shift = np.arange(201)[:, None, None] / 100  # [T, 1, 1]: two bars in a second
    bars = np.sin(2 * np.pi * (rows - shift))
    scene = level * (1 + contrast * bars)  # [T, H, W]
    exposure = 64 / np.sqrt(level[0] * level[-1])  # for the middle
    frame = np.clip(np.rint(scene[0] * exposure), 0, 255)
    sensor = camera.make_camera(config.pixel, config.engine, run.seed)
    stream = camera.record(sensor, scene, 200)

    high = frame.max(axis=0)  # [W]
    low = frame.min(axis=0)
    in_frame = (high - low) / np.maximum(high + low, 1)
    count = np.bincount(stream["x"], minlength=config.width)
    usual = max(1.0, float(np.median(count)))
    seen = {"frame": in_frame / contrast, "events": count / usual}  # shares [W]
    dB = {}
    for name, share in seen.items():
        visible = (share > 0.5) & (share < 2)
        dB[name] = 120 * float(visible.mean())
    run.measure("range of light with visible bars, frame", dB["frame"], "dB")
    name = "range of light with visible bars, events"
    run.measure(name, dB["events"], "dB", at_least=110, headline=True)
    last = stream[stream["t"] > 9e5]  # of the last tenth of a second
    net = on_minus_off(last, frame.shape)
    run.figure(drawing.wide_range(level, frame, net, seen, dB), "dynamic_range")


def on_minus_off(stream: ndarray, shape: tuple[int, ...]) -> ndarray:
    """Give ON minus OFF events of each pixel [H, W]."""
    net = np.zeros(shape)
    sign = np.where(stream["p"], 1, -1)
    np.add.at(net, (stream["y"], stream["x"]), sign)
    return net


# %% [markdown]
# **Power.** A frame camera digitises and sends each pixel of each frame, changed or not. A
# pixel that sees no change sends nothing, so nothing has to be digitised, sent and stored.
# Most event cameras need about 10 mW, and sensor and processor together 100 mW or less
# (Gallego et al. 2020, sec. II); the DVS of 128 x 128 pixels needs 23 mW (Lichtsteiner et
# al. 2008). No camera is at hand here, so its power is *not measured*. What drives it is,
# in the next chapter: how much data a scene makes.
#
# ## 5. What events cost
#
# An event is two words, 8 bytes. A pixel of a frame is one byte. So events save bytes only
# while few pixels change. A scene that moves faster makes more events, and from some speed
# on 30 frames a second are cheaper.
#
# But at that speed those frames no longer *show* the motion: from one frame to the next,
# edges jump over pixels. To see each edge at each pixel, the frame camera needs one frame
# for each pixel of motion, and then its bytes grow with the speed, too.
#
# So which is denser in information? A frame repeats what did not change, and events repeat
# nothing, but each has to say where and when it was. While fewer than one event comes for
# eight pixels of a frame, events say it in fewer bytes, and each with its own time.
#
# Where the two cost the same depends on the scene. The carpet rests here; in a scene that is
# all texture, or seen by a camera that moves, more pixels change, and frames win earlier.
# The sensor hardly matters, if speed is counted in widths of the picture a second: a bar of
# twice as many pixels passes twice as many of them. The sentence that ends this chapter says
# from how many widths on: compare it with that of a run with `--width 96`.


# %%
def weigh(config: Config, run: lesson.Run) -> list[float]:
    """Measure data rates over the speed of the scene. Returns: MB/s of events at each speed."""
    in_events, in_frames = [], []  # MB/s
    rows = []
    pixels = config.width * round(0.75 * config.width)
    slow = pixels * FPS / 1e6  # MB/s; a byte a pixel
    for speed in SPEEDS:
        fps = max(FPS, speed)  # at most one pixel of motion a frame
        paths = speed * np.arange(61) / fps
        frames = [render(path, config.width) for path in paths]
        sensor = camera.make_camera(config.pixel, config.engine, run.seed)
        stream = camera.record(sensor, frames, fps)
        events = len(stream) * fps / 60  # a second
        in_events.append(events * streams.BYTES_AN_EVENT / 1e6)
        in_frames.append(pixels * fps / 1e6)
        known = [f"{slow:.3g}", f"{in_frames[-1]:.3g}"]
        rows.append([str(speed), events / 1e3, in_events[-1], *known])
    columns = ["px/s", "1000 events/s", "events, MB/s", "30 frames/s, MB/s", "1 px a frame, MB/s"]
    run.table("Data over the speed of the scene, uncompressed", columns, rows)

    moving = in_events[SPEEDS.index(100)]
    still = in_events[0] / max(1e-9, moving)
    run.measure("static / moving (100 px/s), bytes", still, at_most=0.05)
    even = break_even(in_events, slow)
    run.measure("speed from which events cost more than 30 frames/s", even, "px/s")
    figure = drawing.data_rates(SPEEDS, in_events, in_frames, even)
    run.figure(figure, "data_rates")
    share = 100 * in_events[-1] / in_frames[-1]
    widths = even / config.width
    run.say(
        f"From {even:.0f} pixels a second on, {widths:.2f} of the width, events cost more "
        f"bytes than {FPS:.0f} frames a second. At {SPEEDS[-1]}, where such frames jump, "
        f"events cost {share:.0f} % of the frames that would show each pixel of motion."
    )
    return in_events


def break_even(rates: list[float], limit: float) -> float:
    """Give the speed at which a rate grows above the limit, on a line between two; nan if never."""
    for step in range(1, len(rates)):
        pair = rates[step - 1 : step + 1]
        if pair[0] <= limit < pair[1]:
            speeds = SPEEDS[step - 1 : step + 1]
            return float(np.interp(limit, pair, speeds))
    return float("nan")


# %% [markdown]
# ## 6. Where event cameras fail
#
# What was an advantage turns round when nothing moves, and when everything does.
#
# Before a *still scene* an event camera is blind: nothing changes, so no pixel speaks. What
# comes is noise. Either the scene must move, or the camera. That is how still pictures were
# made into event data: for N-MNIST a DVS moved before a screen in three quick turns
# (*saccades*, as an eye makes), along a triangle. The opposite fails, too: a lamp that
# flickers changes every pixel at once, and floods the bus.
#
# A smooth wall without edges is as silent as a still one, and a slow change drowns in the
# leak: light that halves in ten minutes of dusk passes $\ln 2 / 0.2$, so 3 thresholds, while
# a leak of 0.1 Hz sends 60 events. Who needs the still picture as well takes a sensor that
# has both events and frames (a DAVIS), or adds events up over time.
#
# Here one still picture is shown in five ways: at rest, flickering, shifted, rotated, and
# by saccades. A sixth way needs no camera: *Poisson events*, each pixel at random, at a
# rate that grows with its brightness (lesson 02). They have no edges and no OFF events: a
# picture in another dress, which says nothing about motion.


# %%
def moved(picture: ndarray, across: float, down: float, turned: float) -> ndarray:
    """Give the picture [H, W] as a camera sees it that has moved by pixels, and turned by radians."""
    from scipy.ndimage import affine_transform

    cosine, sine = np.cos(turned), np.sin(turned)
    turn = np.array([[cosine, -sine], [sine, cosine]])
    middle = (np.array(picture.shape) - 1) / 2
    offset = middle - turn @ middle + [down, across]
    light: ndarray = affine_transform(picture, turn, offset, order=1, mode="nearest")
    return light


def shown(picture: ndarray, way: str) -> ndarray:
    """Show a picture [H, W] in one of five ways, 61 frames [T, H, W]."""
    part = np.arange(61) / 60  # of the time
    across, down, turned = np.zeros((3, 61))
    if way == "flickers":
        lamp = 1 + 0.5 * np.sin(2 * np.pi * 3 * part)  # up and down three times
        return lamp[:, None, None] * picture
    if way == "shifted":
        across = 6 * part
    if way == "rotated":
        turned = 0.1 * part
    if way == "saccades":  # down right, up right, and back
        corners = [0, 1 / 3, 2 / 3, 1]
        across = np.interp(part, corners, [0, 3, 6, 0])
        down = np.interp(part, corners, [0, 6, 0, 0])
    places = zip(across, down, turned, strict=True)
    return np.stack([moved(picture, *place) for place in places])


def poisson_events(
    picture: ndarray,
    seconds: float,
    highest_hz: float,
    seed: int,
) -> ndarray:
    """Let each pixel fire ON at random, the whitest at ``highest_hz``. Returns: a stream."""
    rng = np.random.default_rng(seed)
    rate = picture / 255 * highest_hz
    count = rng.poisson(rate * seconds)  # events of each pixel [H, W]
    y, x = np.nonzero(count)
    number = count[y, x]
    at = rng.uniform(0, 1e6 * seconds, number.sum())
    columns = np.repeat(x, number)
    rows = np.repeat(y, number)
    return streams.make(columns, rows, at, True)


# %% [markdown]
# The figure draws ON minus OFF events of each way; white is a pixel for which they cancel.
# Shifted and rotated, an edge is ON on its one side and OFF on the other, and an edge along
# the motion stays white: a motion shows only the edges across it. That is why N-MNIST has
# three saccades in three directions. Two panels hide what was sent: the saccades end where
# they began, and the lamp is as bright at the end as at the start. So each pixel's ON and
# OFF events nearly cancel: read how many there were in the panel's title. (Each panel has a
# scale of its own, so what is left over looks stronger than it is.)


# %%
def show_a_still_picture(config: Config, run: lesson.Run) -> None:
    """Make events of one still picture in six ways."""
    picture = render(0, config.width).astype(float)
    ideal = camera.DvsCamera(camera.IDEAL)
    silence = camera.record(ideal, [picture] * 10, FPS)
    run.proof("static scene, ideal pixels: events", len(silence), at_most=0)

    seconds = 0.3
    nets, rates, speaking = {}, {}, {}
    for way in ("at rest", "flickers", "shifted", "rotated", "saccades", "Poisson"):
        if way == "Poisson":
            stream = poisson_events(picture, seconds, 20.0, run.seed)
        else:
            sensor = camera.make_camera(config.pixel, config.engine, run.seed)
            stream = camera.record(sensor, shown(picture, way), 60 / seconds)
        places = np.unique(stream[["x", "y"]])
        nets[way] = on_minus_off(stream, picture.shape)
        rates[way] = len(stream) / picture.size / seconds
        speaking[way] = 100 * len(places) / picture.size
    rows = [[way, rates[way], speaking[way]] for way in rates]
    columns = ["shown", "events a pixel and s", "pixels that speak, %"]
    run.table("One still picture", columns, rows)
    run.measure("static scene: events a pixel and s", rates["at rest"])
    run.figure(drawing.still_pictures(nets, rates), "still_picture")
    run.say(
        f"At rest {speaking['at rest']:.0f} % of the pixels speak, by noise alone. Saccades "
        f"make {speaking['saccades']:.0f} % speak, a flicker {speaking['flickers']:.0f} %."
    )


# %% [markdown]
# ## 7. The catch: events out of order
#
# Each event has its own time, and a stream is a list in *order of time*. Say someone reads
# ON and OFF events from two files and puts one list behind the other. Nothing is lost, and
# yet the pictures are wrong: Tonic finds the edges of a time bin by binary search, which
# takes the order for granted, and says nothing. The total count is right, so a look at it
# does not help: compare the bins one by one.
#
# Sort by time, and keep the order of events of the same microsecond, as `streams.make`
# does. Files on disk need a check, too: `streams.from_numbers` names the first event with a
# pixel that the sensor does not have, or with a time that cannot be.


# %%
def bin_unsorted(run: lesson.Run, stream: ndarray, width: int, height: int) -> None:
    """List the ON events, then the OFF events, and cut both lists into bins of 100 ms."""
    on = stream["p"]
    unsorted = np.concatenate([stream[on], stream[~on]])
    to_bins = tonic.transforms.ToFrame(
        sensor_size=(width, height, 2),
        time_window=100_000,
        include_incomplete=True,
        start_time=0,
        end_time=stream["t"][-1] + 1,
    )
    right, wrong = to_bins(stream), to_bins(unsorted)  # [T, 2, H, W]
    rows = []
    for name, bins in (("sorted", right), ("ON, then OFF", wrong)):
        counts = bins.sum(axis=(1, 2, 3))  # [T]
        middle = len(counts) // 2
        numbers = counts.sum(), counts[0], counts[middle]
        rows.append([name, *(int(number) for number in numbers)])
    columns = ["order", "all bins", "first", "middle"]
    run.table("Events in Tonic's bins of 100 ms", columns, rows)
    missing = np.maximum(right - wrong, 0).sum()
    lost = 100 * missing / right.sum()
    run.measure("catch: events missing from their bin", lost, "%")
    run.say(f"Unsorted, {lost:.0f} % of the events are missing from the bin they belong to.")


# %% [markdown]
# ## Going deeper: closed forms, and v2e
#
# The log of a ramp of light moves by a contrast $c$ in one second. So a pixel fires
# $\lfloor c / \theta \rfloor$ times, at $\theta / c, 2 \theta / c, \dots$, each time later
# by the refractory periods before it. Number, polarity and times of all events are known,
# in the light, in the dark, and for pixels with mismatch.


# %%
def due_times(way: float, refractory: float, end: float) -> ndarray:
    """Give the times before ``end`` of a pixel that takes the time ``way`` for a threshold."""
    period = way + refractory
    count = 1 + np.floor((end - way) / period)
    return way + np.arange(max(0, count)) * period


def prove_ramps(config: Config, run: lesson.Run) -> None:
    """Give each pixel a ramp of its own contrast, in 8 frames."""
    rng = np.random.default_rng(run.seed)
    contrast = rng.uniform(-1.3, 1.3, (25, 40))  # change of the log [H, W]
    rise = np.linspace(0, 1, 9)[:, None, None] * contrast  # [T, H, W], over one second
    bright = 100 * np.exp(rise)
    dark = 10 + camera.DARK / np.log(camera.DARK) * rise  # on the line of chapter 1
    cases = [("log", bright, 0.0), ("dark", dark, 0.0), ("refractory", bright, 0.05)]
    alike = replace(camera.IDEAL, mismatch=config.pixel.mismatch)
    for name, light, refractory in cases:
        pixel = replace(alike, refractory=refractory)
        sensor = camera.DvsCamera(pixel, run.seed)
        stream = camera.record(sensor, light, 8)
        wrong, error = compare_ramps(stream, sensor, contrast.ravel())
        run.proof(f"ramp, {name}: wrong pixels", wrong, at_most=0)
        run.proof(f"ramp, {name}: time error / interval", error, at_most=2e-4)


def compare_ramps(
    stream: ndarray,
    sensor: camera.DvsCamera,
    contrast: ndarray,
) -> tuple[int, float]:
    """Count pixels whose events differ from the closed form. Returns: that, and the worst time."""
    wrong, worst = 0, 0.0
    thresholds = np.where(contrast > 0, sensor.on, sensor.off)
    ways = thresholds / np.abs(contrast)  # s for a threshold, [N]
    refractory = sensor.pixel.refractory
    for number, way in enumerate(ways):
        early, times, late = [due_times(way, refractory, end) for end in (0.999, 1.0, 1.001)]
        if len(early) < len(late):
            continue  # an event falls on the last frame, where rounding decides
        own = stream[stream["y"] * 40 + stream["x"] == number]
        brighter = contrast[number] > 0
        if len(own) != len(times) or any(own["p"] != brighter):
            wrong += 1
            continue
        errors = np.abs(own["t"] / 1e6 - times) / way
        worst = errors.max(initial=worst)
    return wrong, worst


# %% [markdown]
# v2e is the emulator of the DVS' inventors. Where it is installed, both models see the same
# clip. First come settings in which they are the same model, with each source of noise.
# They must agree within 1 %, beyond what chance allows: three standard errors of a count.
#
# Then come the two points in which they differ. v2e steps its low-pass filter by Euler's
# rule: $dt / \tau$ times the gap, but never more than the gap. With frames 33 ms apart that
# is soon all of it, where the exact step is the share $1 - e^{-dt/\tau}$. And a pixel of
# v2e that was deaf makes up for the change that it missed; here that is lost, as in the
# circuit, whose reset switch is closed. The docstring of `DvsCamera` lists all differences
# with their sizes.


# %%
def compare_with_v2e(
    config: Config,
    run: lesson.Run,
    clip: video.Clip,
) -> None:
    """Count the events of both engines over the clip, where the models are equal, and where not."""
    if why := camera.v2e_missing():
        run.say(f"v2e is not installed here ({why}), so its events are not compared.")
        return
    # Without mismatch, light that returns to its level sits right on a threshold, where rounding decides.
    mismatch = max(config.pixel.mismatch, 0.01)
    clean = replace(camera.IDEAL, mismatch=mismatch)
    leak = max(1.0, config.pixel.leak_hz)
    noise = max(1.0, config.pixel.shot_noise_hz)
    equal = {
        "mismatch": clean,
        "leak": replace(clean, leak_hz=leak),
        "shot noise": replace(clean, shot_noise_hz=noise),
        "same model": replace(clean, leak_hz=leak, shot_noise_hz=noise),
    }
    unequal = {
        "bandwidth 30 Hz": replace(clean, cutoff_hz=30.0),
        "refractory 1 ms": replace(clean, refractory=0.001),
        "as configured": config.pixel,
    }
    rows = []
    cases = equal | unequal
    for name, pixel in cases.items():
        own, theirs = count_events(pixel, clip, run.seed)
        ratio = own / theirs
        rows.append([name, own, theirs, ratio])
        if name in equal:
            chance = 3 * (2 / theirs) ** 0.5
            beyond = abs(ratio - 1) - chance
            run.proof(f"events / v2e's events - 1, {name}", max(0, beyond), at_most=0.01)
    run.table("Own model and v2e", ["settings", "events", "v2e's events", "ratio"], rows)
    run.measure("events / v2e's events, as configured", ratio)


def count_events(pixel: camera.Pixel, clip: video.Clip, seed: int) -> list[int]:
    """Give the number of events of the clip that our model makes, and that v2e makes."""
    counts = []
    engines: tuple[camera.Engine, ...] = ("builtin", "v2e")
    for engine in engines:
        sensor = camera.make_camera(pixel, engine, seed)
        stream = show(sensor, clip.times, clip.frames)
        counts.append(max(1, len(stream)))
    return counts


# %% [markdown]
# ## The lesson as a whole
#
# `main` is the table of contents. Read it after a run, and find each chapter's figure in
# `results/`.


# %%
def main(config: Config, run: lesson.Run) -> None:
    clip = clip_of(config)  # first: a --video that cannot be read ends the run here
    watch_a_pixel(config, run, clip)
    stream = convert_clip(config, run, clip)
    look_into_the_circuit(config, run, clip)
    measure_latency(config, run)
    see_wide_range(config, run)
    weigh(config, run)
    show_a_still_picture(config, run)
    height, width = clip.frames.shape[1:]
    bin_unsorted(run, stream, width, height)
    prove_ramps(config, run)
    compare_with_v2e(config, run, clip)


if __name__ == "__main__":
    lesson.start(main, Config, SCALES)
