"""Lesson 11: event data with Tonic.

Question: How does a network learn from recordings that are lists of events, of any length, and no pictures?
Reading:  Gallego et al. (2020) sec. III; Amir et al. (2017), DVS128 Gesture; Cramer et al. (2020), SHD.
Run:      python lessons/11_neuromorphic_data_tonic.py [--dataset dvsgesture|nmnist|shd|ssc] [--file FILE]
Expect:   99.3 ± 0.6 % on new people (synthetic gestures), in edge mode 93.4 ± 4.4 %.
          3 seeds, 41 CPU minutes.
"""

# %% [markdown]
# Lesson 10 classified pictures that never change. Here the input has a time of its own: it
# comes from an event camera (lesson 04) that watches people make gestures. Its pixels are
# *asynchronous*: no clock asks them all at once, each reports for itself when its light
# changes. So a *recording* is a list of events. It is irregular: thousands of events in one
# second and few in the next, and no two recordings are equally long. No table of numbers of
# a fixed size is given, and that is why one needs a library such as Tonic: it knows the
# formats of the data sets, and has the transforms that turn lists of events into something
# that a network takes.
#
# In this lesson you
#
# 1. look at a recording as it comes: a list of events,
# 2. cut it into frames, by time, by count or into equal parts,
# 3. put recordings of different lengths into one batch,
# 4. train the network of lesson 10 on gestures, and test it on people it never saw,
# 5. compare the ways to cut,
# 6. feed the network event by event, as a camera would,
# 7. make it fit for a small device,
# 8. fall for two tests that promise too much.
#
# The gestures are those of *DVS128 Gesture*: 29 people, 11 gestures, three lightings,
# filmed by a DVS of 128 x 128 pixels. The set has 1.5 GB and cannot be had everywhere, so
# by default the gestures are drawn here, as moving limbs before a DVS (lesson 04):
# `snn_course/events/gestures.py`. They are *not* DVS128 Gesture, and no result on them is.
# With `--dataset dvsgesture` Tonic loads the real set. (`nmnist` is less of a test: still
# digits before a camera that moves in the same way each time, so that its times tell
# little of the digit.)

# %%
import copy
import pickle
import sys
import time
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from timeit import timeit
from typing import Annotated, Any, Literal, NamedTuple, get_args

sys.path.insert(0, str(Path(globals().get("__file__", "any.py")).resolve().parents[1]))  # where snn_course is

from snn_course.runs import lesson
from snn_course import UsageError
from snn_course.costs.latency import percentiles
from snn_course.events import cache, drawing, gestures, recordings
from snn_course.events import frames as event_frames
from snn_course.events import sets as event_sets
from snn_course.events.frames import Pair, shifted, to_input, to_short_input
from snn_course.events.net import ManySpeeds, Recogniser, Stream, accuracy, confusion, cost, over_time
from snn_course.events.sets import EventSet
from snn_course.networks import training

import numpy as np
import tonic
import torch


@dataclass(frozen=True)
class Config(lesson.Config):
    dataset: event_sets.Name = "synthetic"
    """Which recordings; where a real set cannot be had, the synthetic gestures stand in."""

    file: Path | None = None
    """A recording of your own to look at: .aedat4, .aedat, .dat, .npy, .bin, .mat or .h5."""

    plan: gestures.Plan = field(default_factory=gestures.Plan)
    """What the synthetic gestures are like."""

    time: Annotated[float, lesson.Range(1, 1000)] = 100.0
    """Binning by time: length of a frame, ms."""

    count: Annotated[int, lesson.Range(10, 1_000_000)] = 1500
    """Binning by count: events in a frame."""

    bins: Annotated[int, lesson.Range(1, 1000)] = 15
    """Binning into equal parts: frames of each recording."""

    width: Annotated[int, lesson.Range(4, 512)] = 16
    """Channels of the network's first stage."""

    epochs: Annotated[int, lesson.Range(1, 1000)] = 4
    """Passes over the training recordings, gestures in four versions."""

    recordings: Annotated[int, lesson.Range(50, 1_000_000)] = 10_000
    """Most recordings to train on; N-MNIST has 60,000, SSC 75,466."""


FEW = gestures.Plan(train=8, test=5, lights=2, shortest=0.5, longest=0.65, fps=30.0)
SCALES: lesson.Scales = {
    "quick": {"plan": FEW, "bins": 7, "width": 8, "epochs": 1},
    "cpu": {"seeds": 3},
    "gpu": {"seeds": 3, "dataset": "dvsgesture", "width": 64, "epochs": 15},
}
SIDE = 32  # pixels of a frame, at most 32 x 32
BATCH = 8  # recordings of a training step
SLOWEST = 0.9  # largest beta
EDGE_THRESHOLD = 1.5  # of the edge mode; elsewhere 1
RATE = 6e-3  # highest learning rate of AdamW
WINDOWS = (5, 20, 50, 100, 300)  # ms
GOALS: Any = {
    "synthetic": {"quick": 30, "cpu": 95, "gpu": 95},
    "dvsgesture": {"gpu": 93.75},  # what SpikingJelly's tutorial reaches with 16 frames
}
L10 = lesson.load(10)  # its Net: stem, three stages of SEW blocks, read-out

Sets = tuple[EventSet, EventSet]  # to train on, to test on
BINNINGS = Literal["time", "count", "bins"]

# %% [markdown]
# ## 1. A recording is a list of events
#
# Each row is one event: x and y of the pixel, the time in µs, the polarity (ON or OFF). The
# figure draws x over time: a hand that goes to and fro is a wave. There is no event where
# nothing moves, and no time step anywhere. A film of the same scene would be a block of
# numbers of fixed size, most of them the same as in the frame before.
#
# | | film | recording of events |
# |---|---|---|
# | a sample is | T x H x W numbers | a list of (x, y, t, p), each list of its own length |
# | time | steps of 33 ms | microseconds |
# | what rests | fills it | is not in it |
# | into a batch | as it is | binned and padded first |
#
# So why Tonic? Each data set has a format of its own: 5 bytes an event, or a table in a
# large file; in µs, ms or seconds; with y up or down. Tonic brings all to one array, in µs,
# and its transforms work on any of them. Without it, each network would bring its own
# reader, and each reader its own mistakes. To load a set is one line,
# `tonic.datasets.DVSGesture(folder, train=True)`, and its item `[n]` is a recording and its
# label. (`event_sets.load` does this, downloads with care, and has a stand-in.)
#
# With `--file` you can look at a recording of your own: what DV writes (`.aedat4`), N-Cars
# (`.dat`), ST-MNIST (`.mat`, written by a skin instead of an eye), N-MNIST (`.bin`), SHD
# (`.h5`), or what lesson 04 wrote (`.aedat`). A file that is cut off, or an event outside
# the sensor, is named in one line.


# %%
def look_at_a_recording(config: Config, run: lesson.Run, test: EventSet) -> None:
    """Draw one recording, and tell how much recordings differ."""
    if config.file:
        stream, sensor = own_recording(config.file)
        name = config.file.name
    else:
        middle = test.labels.max() // 2  # of the gestures: an arm that circles
        number = int(np.abs(test.labels - middle).argmin())
        stream, label = test[number]
        name, sensor = test.classes[label], test.sensor
    run.figure(drawing.recording(stream, name, sensor[0]), "recording")
    rows: list[list[Any]] = []
    for *place_and_time, p in stream[:3].tolist():
        numbers = [str(number) for number in place_and_time]
        rows.append([*numbers, "ON" if p else "OFF"])
    run.table(f"The first events ({name})", ["x", "y", "t, us", "polarity"], rows)
    try:
        compare_windows(config, run, stream, sensor)
    except ValueError as error:
        raise UsageError(f"{name}: {error}") from None

    seconds, counts = [], []
    some = slice(0, None, 1 + len(test) // 40)
    for each, _ in test.take(some):
        seconds.append(duration(each))
        counts.append(len(each))
    run.say(
        f"Recordings of the test set last {min(seconds):.2f} to {max(seconds):.2f} s, and hold "
        f"{min(counts)} to {max(counts)} events."
    )


def duration(stream: np.ndarray) -> float:
    """Give the time from the first event to the last, in s."""
    return float(stream["t"][-1] - stream["t"][0]) / 1e6


def own_recording(path: Path) -> recordings.Recording:
    """Read the learner's recording, its first ten seconds."""
    stream, sensor = recordings.read(path, foreign=True)
    start = stream["t"][0]
    return recordings.Recording(stream[stream["t"] < start + 10e6], sensor)


# %% [markdown]
# ## 2. From events to frames
#
# A convolution wants pictures, so events are *binned*: a frame counts the events of each
# pixel in a piece of the recording, ON and OFF in a channel each (in one channel, as plus
# and minus, an edge that comes and goes would cancel itself). The time is quantised by
# that: within a frame no order is left. Where to cut?
#
# - **By time**: each frame lasts as long. Speed is kept: who moves faster fills more pixels
#   of a frame. A still moment gives empty frames.
# - **By count**: each frame holds as many events, so all look alike, however fast the
#   motion was. Speed is lost, and the number of frames depends on the activity.
# - **Into equal parts**: as many frames for each recording, which is easy to batch. A long
#   recording has long frames, so the same motion looks different in it.
#
# How long is a window to be? 20 to 50 ms are usual for gestures. Too short, and a frame
# holds too few events to show a shape. Too long, and the motion is smeared: an edge passes
# over a pixel and leaves it again, so that ON and OFF events of different moments meet in
# it. The table below shows both ends.
# What is best for a network depends on how far it looks back (chapter 5).
#
# Counts are not the only frames (Gallego et al., sec. III). A *time surface* holds for each
# pixel how long ago its last event was: it keeps the order, and loses how many there were.
# A *voxel grid* shares each event out to the two frames that are nearest in time, so that
# nothing jumps at a cut. Both have the shape of counts, and go into the same network.
#
# Before it is cut, a recording may be *denoised*: an event is dropped if none of its four
# neighbours had one in the 10 ms before it. A real edge goes from neighbour to neighbour;
# noise comes alone.
#
# Shrinking adds the events of 4 x 4 pixels up: 16 times fewer numbers, and a hand is still
# a hand.
#
# `ToFrames` is the whole way, by Tonic's transforms: denoise, shrink to 32 x 32, bin. Left
# to its defaults, `ToFrame` drops what comes after the last whole frame;
# `include_incomplete` keeps it.


# %%
@dataclass(frozen=True)
class ToFrames:
    """From a stream to frames of event counts, int16 [T, P, H, W]."""

    config: Config
    sensor: tuple[int, int, int]
    binning: BINNINGS = "time"
    denoise: bool = False
    keep_all: bool = True
    """False: as Tonic does if it is told nothing, without the events after the last whole frame."""

    @property
    def factor(self) -> float:
        """What x and y are multiplied with."""
        return min(1, SIDE / max(self.sensor[:2]))

    @property
    def key(self) -> str:
        """Name of a folder in the cache: another way to make frames, another folder."""
        size = getattr(self.config, self.binning)
        denoised = "-denoised" if self.denoise else ""
        return f"{self.binning}-{size:g}-{SIDE}{denoised}"

    def __call__(self, stream: np.ndarray) -> np.ndarray:
        """Make the frames. Raises: ValueError if they would be too many, or cannot hold the events."""
        # exercise: denoise, shrink, and count the events of each frame
        if self.denoise and len(stream):
            stream = tonic.transforms.Denoise(filter_time=10_000)(stream)
        shrink = tonic.transforms.Downsample(spatial_factor=self.factor)
        stream = shrink(stream)
        width, height, polarities = self.sensor
        small = np.ceil(self.factor * np.array([width, height]))
        size = (*small.astype(int), polarities)
        to_frame = tonic.transforms.ToFrame(size, **self.edges(stream))
        frames: np.ndarray = to_frame(stream)
        # end
        return event_frames.check_counts(frames, stream) if self.keep_all else frames

    def edges(self, stream: np.ndarray) -> dict[str, Any]:
        """Give ToFrame's options for where to cut. Its times are in microseconds."""
        if not self.keep_all:
            return self.careless()
        # exercise: options for each of the three binnings, so that every event is in a frame
        if self.binning == "count":
            event_frames.check_number(len(stream) / self.config.count)
            return {"event_count": self.config.count, "include_incomplete": True}
        window = 1000 * self.config.time
        first = int(stream["t"][0]) if len(stream) else 0
        end = int(stream["t"][-1]) + 1 if len(stream) else 1
        if self.binning == "bins":
            window = np.ceil((end - first) / self.config.bins)  # whole us, and the last event is in
            end = first + int(window) * self.config.bins
        event_frames.check_number((end - first) / window)
        return {
            "time_window": window,
            "start_time": first,
            "end_time": end,
            "include_incomplete": True,
        }
        # end

    def careless(self) -> dict[str, Any]:
        """Give ToFrame the least that it asks for, as one does who has not read what it drops."""
        if self.binning == "time":
            return {"time_window": 1000 * self.config.time}
        if self.binning == "count":
            return {"event_count": self.config.count}
        return {"n_time_bins": self.config.bins}


def compare_windows(
    config: Config,
    run: lesson.Run,
    stream: np.ndarray,
    sensor: tuple[int, int, int],
) -> None:
    """Cut one recording into windows of different lengths, and into the three kinds of frames."""
    rows: list[list[Any]] = []
    for window in WINDOWS:
        frames = ToFrames(replace(config, time=window), sensor)(stream)
        busy = (frames > 0).any(axis=1)  # [T, H, W]
        both = (frames > 0).all(axis=1) & (sensor[2] == 2)  # an ear has no polarities
        smeared = 100 * both.sum() / max(1, busy.sum())
        lit = 100 * busy.mean()
        events = len(stream) / len(frames)
        rows.append([f"{window} ms", len(frames), events, lit, smeared])
    columns = ["window", "frames", "events a frame", "pixels with events, %", "with ON and OFF, %"]
    run.table("One recording, windows of different lengths", columns, rows)

    ways = {}
    for binning in get_args(BINNINGS):
        ways[binning] = ToFrames(config, sensor, binning)(stream)
    run.figure(drawing.binnings(ways, "One recording", len(stream)), "frames")
    clean = ToFrames(config, sensor, denoise=True)(stream)
    dropped = 100 - 100 * clean.sum() / len(stream)
    run.say(
        f"In {rows[0][0]} a frame has {rows[0][2]:.0f} events, on {rows[0][3]:.0f} % of its pixels. In "
        f"{rows[-1][0]} it has {rows[-1][2]:.0f}, and {rows[-1][4]:.0f} % of its busy pixels saw ON and OFF. "
        f"Denoising drops {dropped:.0f} % of the events."
    )


# %% [markdown]
# ## 3. Recordings of different lengths in one batch
#
# A batch is one tensor, so all its recordings must have as many frames. Shorter ones are
# *padded* with empty frames at the end. Padding is not harmless: if the network's answer is
# the mean over all frames, empty ones vote, and a short recording is drowned by them. So
# each recording's answer is the mean over *its own* frames. A recording ends with its last
# event, so its last own frame is never empty, and its length can be read off the frames
# (`own_steps` in `snn_course/events/frames.py`).
#
# There are other ways out. Cut all to the length of the shortest, and the end of the others
# is never seen. Sort by length, so that a batch needs little padding, and the network meets
# short ones first. Draw a piece of fixed length from each, and some pieces miss the
# gesture. One recording that is much longer than the rest makes all of them long, in memory
# and time: the loader names such a file and stops, before the batch fills the memory.
#
# Each pass over the recordings would make the same frames again, so Tonic keeps them on
# disk. It does not notice when the transform changes, and would serve the old frames for
# ever; the course's cache has the transform's code in its name, and `--fresh` clears it.


# %%
def prove_frames(config: Config, run: lesson.Run, part: EventSet) -> None:
    """Count events through binning and padding; read the cache, and compare with what went in."""
    few = part.take(slice(20))
    lost, differ = 0, 0
    for binning in get_args(BINNINGS):
        to_frames = ToFrames(config, part.sensor, binning)
        frames = []
        pairs = []  # as Tonic pads them: frames, and a label
        for stream, _ in few:
            one = to_frames(stream)
            frames.append(one)
            pairs.append((torch.from_numpy(one), 0))
            lost += abs(int(one.sum()) - len(stream))
        padded = tonic.collation.PadTensors()(pairs)[0]
        wrong = event_frames.stack(frames) != padded.clamp(max=255)  # ours are bytes
        differ += int(wrong.sum())
        twice = event_frames.cached_twice(few, to_frames)  # what the cache gives at first, and from the disk
        for one, (made, read) in zip(frames, twice, strict=True):
            differ += int((one != made).sum())
            differ += int((one != read).sum())
    run.proof("binning: events lost or made", lost, at_most=0)
    run.proof("padding and disk cache: counts that differ", differ, at_most=0)


@torch.no_grad()
def prove_network(run: lesson.Run, net: Recogniser, x: torch.Tensor) -> None:
    """Compare the scores of recordings padded and alone, and with lesson 10's own mean over time."""
    exact = in_float64(net)
    few = x[:8]
    alone = []
    scores = []
    for one in event_frames.trimmed(few):
        shown = to_input(one[None])  # [T_n, 1, P, H, W]
        alone.append(shown)
        scores.append(exact(shown))
    error = largest(exact(to_input(few)) - torch.cat(scores))
    run.proof("scores: padded - alone", error, at_most=1e-5)
    error = largest(scores[0] - exact.net(alone[0].double()))
    run.proof("scores: mean of steps - lesson 10's", error, at_most=1e-5)


def in_float64(net: Recogniser) -> Recogniser:
    """Give a copy for proofs: rounded to 7 digits, another order of sums may move a spike (lesson 09)."""
    return copy.deepcopy(net).double()


def largest(difference: torch.Tensor) -> float:
    """Give the largest absolute value."""
    return difference.abs().max().item()


# %% [markdown]
# ## 4. The network of lesson 10, on gestures
#
# A split for training and one for test come with the set. Both are read by the same
# `ToFrames`, or the network would be tested on another kind of frames than it learnt.
#
# The net is that of lesson 10: a stem and three stages of spiking convolutions with SEW
# connections. Only its neurons differ. To see motion is to compare what is with what was,
# so the neurons of a layer have many speeds: from beta 0 in the first channel, which sees
# this frame alone, to 0.9 in the last, which remembers ten. The read-out takes the mean
# spikes of each frame; the answer is the mean of its scores over the recording's own
# frames. What goes in is $\log(1 + \text{count})$ (`to_input`): busy pixels have many times
# the events of quiet ones, and would drown them. Frames are kept as bytes, so a count ends
# at 255.
#
# A gesture in a mirror is a gesture again, of the other arm. A gesture run backwards is
# one, too: clockwise becomes counter-clockwise, and ON becomes OFF. So each training
# recording is used in four versions (`with_twins`), each moved by up to 3 pixels at every
# use (`shifted`). The test set holds out *people*: the network must know gestures of those
# whom it never saw.


# %%
class Trained(NamedTuple):
    """A network, and the frames it was made for."""

    net: Recogniser
    train: Pair
    test: Pair


def train(
    run: lesson.Run,
    name: str,
    config: Config,
    data: Pair,
    classes: int | None = None,
    prepare: training.Batch = to_input,
    **options: Any,
) -> Recogniser:
    """Train lesson 10's network on frames. ``options`` are those of its neurons."""
    torch.manual_seed(run.seed)
    x, labels = data
    classes = classes or int(labels.max()) + 1
    if classes == len(gestures.CLASSES):
        x, labels = event_frames.with_twins(x, labels)
    options.setdefault("slowest", SLOWEST)
    neuron = partial(ManySpeeds, **options)
    polarities = x.shape[2]
    body = L10.Net(config.width, in_channels=polarities, classes=classes, neuron=neuron)
    net = Recogniser(body)
    recipe = training.Recipe(config.epochs, BATCH, RATE, augment=shifted, prepare=prepare)
    training.fit(run, name, net.to(run.device), x, labels, recipe)
    return net.eval()


def learn(
    config: Config,
    run: lesson.Run,
    sets: Sets,
    name: str,
    way: ToFrames,
    **options: Any,
) -> Trained:
    """Make frames of both sets and train on the first."""
    data = [event_frames.load(run, part, way, way.key) for part in sets]
    classes = len(sets[0].classes)
    net = train(run, name, config, data[0], classes, **options)
    return Trained(net, *data)


def train_and_test(config: Config, run: lesson.Run, sets: Sets) -> Trained:
    """Train on frames by time, and test on recordings that the network has not seen."""
    way = ToFrames(config, sets[1].sensor)
    full = learn(config, run, sets, "time", way)
    right = accuracy(full.net, *full.test)
    goal = GOALS.get(config.dataset)
    run.measure("accuracy on the test set", right, "%", at_least=goal, headline=True)
    prove_network(run, full.net, full.test[0])
    if config.file:
        answer_to_file(config, run, full.net, sets[1])
    return full


@torch.no_grad()
def answer_to_file(config: Config, run: lesson.Run, net: Recogniser, test: EventSet) -> None:
    """Say what the network takes the learner's recording for."""
    assert config.file
    stream, sensor = own_recording(config.file)
    if sensor[2] != test.sensor[2]:
        run.say(f"{config.file.name} has another number of polarities than the network.")
        return
    frames = event_frames.stack([ToFrames(config, sensor)(stream)])
    scores = net(to_input(frames.to(run.device)))
    answer = test.classes[int(scores.argmax())]
    run.say(f"The network takes {config.file.name} for {answer}: it knows its own classes alone.")


# %% [markdown]
# ## 5. Which cut is best?
#
# Each binning keeps something and loses something. Windows of half the length double the
# steps, and the work. Ours last 100 ms, longer than what is usual (chapter 2): the network
# compares frames with one another, and what is smeared in one may be told apart by the next.
#
# The same network is trained on each kind of frames. Padding and zeros say how much of a
# batch is empty: a dense tensor pays for them, hardware that works on events does not.
# *Lost* are the events that Tonic drops when it is told nothing about the last frame. *M
# ops* are the millions of additions and products that a recording needs if zeros are left
# out (lesson 12 counts them). At quick scale, denoised frames have no part in it. By count,
# the busiest recording has several times the frames of the others. So here each batch is
# cut to its own longest recording before it goes into the network: half of the work.


# %%
def compare_binnings(
    config: Config,
    run: lesson.Run,
    sets: Sets,
    full: Trained,
) -> None:
    """Train on the other kinds of frames, and compare accuracy and sparsity."""
    sensor = sets[0].sensor
    half = replace(config, time=config.time / 2)
    ways = {
        "time": ToFrames(config, sensor),
        "time, half": ToFrames(half, sensor),
        "count": ToFrames(config, sensor, "count"),
        "bins": ToFrames(config, sensor, "bins"),
        "time, denoised": ToFrames(config, sensor, denoise=True),
    }
    if run.scale == "quick":
        del ways["time, denoised"]  # to denoise takes longest
    rows: list[list[Any]] = []
    for name, way in ways.items():
        trained = full if name == "time" else learn(config, run, sets, name, way, prepare=to_short_input)
        x, labels = trained.test
        own = event_frames.own_steps(x.transpose(0, 1)).double()  # [T, N]
        frames = own.sum(0).mean().item()
        padding = 100 * (1 - own.mean().item())
        cells = own.sum().item() * x[0, 0].numel()
        zeros = 100 * (1 - x.count_nonzero().item() / cells)
        right = accuracy(trained.net, x, labels)
        operations = cost(trained.net, x)[0]
        lost = lost_events(way, sets[1])
        rows.append([name, frames, padding, zeros, lost, right, operations])
    columns = ["binning", "frames", "padding, %", "zeros, %", "lost, %", "right, %", "M ops"]
    run.table("Binnings on the test set (lost: by Tonic's defaults)", columns, rows)
    best = max(rows, key=lambda row: row[5])
    run.say(f"Best here is {best[0]}, with {best[5]:.1f} % right and {best[1]:.0f} frames a recording.")


def lost_events(way: ToFrames, test: EventSet) -> float:
    """Give the share of the events in % that Tonic drops by its defaults."""
    careless = replace(way, keep_all=False)
    kept, whole = 0, 0
    for stream, _ in test.take(slice(0, None, 10)):
        kept += int(careless(stream).sum())
        whole += int(way(stream).sum())
    return 100 * (1 - kept / max(1, whole))


# %% [markdown]
# ## 6. Event by event
#
# A camera gives no recordings, it gives events. `Stream` (`snn_course/events/net.py`) takes
# one event after the other. It keeps the frame that is being filled, the membranes, and the
# sum of scores so far, but no list of events. When a window is over, the network makes one
# step. The answer is the same as that of the whole recording at once, and the memory does
# not grow: both are proven here. The question left is whether one CPU core keeps up.
#
# An event that comes late counts in the open window. An event of a pixel that the sensor
# does not have is refused: a negative index would silently count at the other edge.


# %%
@torch.no_grad()
def prove_stream(config: Config, run: lesson.Run, net: Recogniser, test: EventSet) -> None:
    """Compare the scores of some recordings event by event with those of all events at once."""
    way = ToFrames(config, test.sensor)
    exact = in_float64(net).cpu()
    worst = 0.0
    some = slice(0, None, 1 + len(test) // 4)
    for recording, _ in test.take(some):
        frames = event_frames.stack([way(recording)])  # [1, T, P, H, W]
        stream = Stream(exact, 1000 * config.time, way.factor, frames.shape[2:])
        for event in recording.tolist():
            stream.feed(*event)
        stream.step()  # the last window
        error = largest(stream.answer() - exact(to_input(frames))[0])
        worst = max(worst, error)
    run.proof("scores: stream - batch", worst, at_most=1e-5)


def stream_events(
    config: Config,
    run: lesson.Run,
    net: Recogniser,
    test: EventSet,
) -> None:
    """Feed recordings event by event: the same answer as all at once, with bounded memory, in time."""
    prove_stream(config, run, net, test)
    net = copy.deepcopy(net).cpu()
    way = ToFrames(config, test.sensor)
    first, _ = test[0]
    shape = way(first).shape[1:]  # of a frame, P, H, W
    lasted = 0.0
    begun = time.process_time()
    some = slice(0, None, 1 + len(test) // 12)
    for recording, _ in test.take(some):
        stream = Stream(net, 1000 * config.time, way.factor, shape)
        for event in recording.tolist():
            stream.feed(*event)
        stream.step()
        lasted += duration(recording)
    load = 100 * (time.process_time() - begun) / lasted
    before = len(pickle.dumps(stream))  # all that it holds, the weights too
    end = int(stream.end)
    for x, y, t, p in recording.tolist():  # the last recording once more
        stream.feed(x, y, end + t, p)
    growth = len(pickle.dumps(stream)) - before
    run.proof("stream: bytes more after more events", growth, at_most=16)  # longer numbers, no events
    times = [timeit(stream.step, number=1) for _ in range(100)]
    p99 = percentiles(times)[2]
    run.measure("stream: memory, weights included", before / 1e3, "kB")
    run.measure("stream: load of one core", load, "%", at_most=100, speed=True)
    run.measure("stream: time to an answer, p99", p99, "ms")
    run.say(f"Live, the network takes {load:.0f} % of one core, and {p99:.1f} ms for an answer.")


# %% [markdown]
# ## 7. Edge mode: less work on a small device
#
# A wearable has little energy and a slow core. There are two dials: windows twice as long
# (half as many steps), and a higher threshold (fewer spikes). They can be turned after
# training, or the network can be trained with them, so that it learns to do with less. A
# third way is to ask the full network earlier: half a gesture may do. The table has all
# three, with the operations of each. *Answer stays* is the mean time from which the answer
# no longer changes, right or wrong.
#
# The figure shows what each would have answered after each frame.


# %%
def edge_mode(
    config: Config,
    run: lesson.Run,
    full: Trained,
    sets: Sets,
) -> dict[str, list[float]]:
    """Fewer steps and a higher threshold. Returns: accuracy over time of two modes."""
    half = event_frames.each(full.test[0], first_half)
    higher = copy.deepcopy(full.net)
    for neuron in higher.neurons():
        neuron.threshold = EDGE_THRESHOLD
    coarse = replace(config, time=2 * config.time)
    way = ToFrames(coarse, sets[0].sensor)
    edge = learn(config, run, sets, "edge", way, threshold=EDGE_THRESHOLD)
    modes = {
        "full": (full.net, full.test, config.time),
        "full, stopped half-way": (full.net, (half, full.test[1]), config.time),
        "threshold raised later": (higher, full.test, config.time),
        "edge, trained as such": (edge.net, edge.test, coarse.time),
    }
    rows: list[list[Any]] = []
    seen = {}
    for name, (net, (x, labels), window) in modes.items():
        seen[name], settled = over_time(net, x, labels)
        own = event_frames.own_steps(x.transpose(0, 1)).double()
        steps = own.sum(0).mean().item()
        right = accuracy(net, x, labels)
        operations, milliseconds = cost(net, x)
        stays = settled * window / 1000
        rows.append([name, steps, right, operations, milliseconds, stays])
    columns = ["mode", "steps", "right, %", "M ops", "CPU ms", "answer stays, s"]
    run.table("Edge mode", columns, rows)
    run.measure("edge mode: accuracy", rows[-1][2], "%")
    saved = rows[-1][3] / rows[0][3]
    run.measure("edge mode: operations / full", saved)
    run.say(
        f"Trained for it, the edge mode is right in {rows[-1][2]:.1f} % with {saved:.2f} of the operations; "
        f"with the threshold raised later it is right in {rows[2][2]:.1f} %."
    )
    return {name: seen[name] for name in ("full", "edge, trained as such")}


def first_half(frames: torch.Tensor) -> torch.Tensor:
    """Give the first half of a recording's frames [T, P, H, W]."""
    return frames[: (len(frames) + 1) // 2]


def draw_answers(
    config: Config,
    run: lesson.Run,
    full: Trained,
    classes: tuple[str, ...],
    seen: dict[str, list[float]],
) -> None:
    """Draw accuracy over the time seen, and which classes are taken for which."""
    table = confusion(full.net, *full.test, len(classes)).numpy()
    windows = (config.time, 2 * config.time)
    run.figure(drawing.answers(seen, windows, table, classes), "accuracy")


# %% [markdown]
# ## 8. Two tests that promise too much
#
# **A network without memory.** Its neurons have beta 0 and no reset (a spike that is taken
# off one step later is a memory, too): each step stands alone, and the answer is a mean.
# Shuffle the steps, and it cannot notice. Its accuracy may look fine, since most gestures
# are told apart by *where* something moves. An arm that circles makes the same events
# clockwise and back: what differs is their order, and the polarity of its edges. A high
# accuracy is no proof that a network sees motion; shuffled time is a test.


# %%
def catch_order(config: Config, run: lesson.Run, full: Trained) -> None:
    """Shuffle the steps. Neurons without memory cannot notice, whatever their accuracy says."""
    classes = full.net.net.readout.out_features
    blind = train(run, "no memory", config, full.train, classes, slowest=0.0, reset="none")
    x, labels = full.test
    mixed = event_frames.each(x, shuffled)
    with torch.no_grad():
        exact = in_float64(blind)
        change = exact(to_input(mixed[:50])) - exact(to_input(x[:50]))
    run.proof("no memory: scores shuffled - in order", largest(change), at_most=1e-5)
    columns = ["neurons", "in order", "shuffled"]
    orders = (x, mixed)
    circles = torch.tensor(gestures.CIRCLES, device=x.device)
    turns = torch.isin(labels, circles)
    circling = classes == len(gestures.CLASSES)
    columns += ["circles, in order", "circles, shuffled"] if circling else []
    rows: list[list[Any]] = []
    for name, net in {"with memory": full.net, "without": blind}.items():
        row = [accuracy(net, part, labels) for part in orders]
        if circling:
            row += [accuracy(net, part[turns], labels[turns]) for part in orders]
        rows.append([name, *row])
    run.table("Catch: the order of the steps (accuracy in %)", columns, rows)
    lost = [row[1] - row[2] for row in rows]
    run.say(
        f"Shuffled, the network with memory loses {lost[0]:.1f} points, the one without {lost[1]:.1f}: "
        f"{rows[1][1]:.0f} % right can be had without seeing any motion."
    )


def shuffled(frames: torch.Tensor) -> torch.Tensor:
    """Give a recording's frames [T, P, H, W] in another order."""
    order = torch.randperm(len(frames), device=frames.device)
    return frames[order]


# %% [markdown]
# **A split by recordings.** Hold out recordings at random, and the same person, in the same
# clothes, is in both sets under another light. A network may then know the person and not
# the gesture, and the test promises what new people will not give. How much too good it is
# depends on the set: it is measured here with eight people, once held out by recording and
# once by person, against the people of the test set, whom neither saw. (So few recordings
# are held out that a difference of some of them is chance.)


# %%
def hold_out(
    few: np.ndarray,
    labels: np.ndarray,
    people: np.ndarray,
    rng: np.random.Generator,
) -> dict[str, np.ndarray]:
    """Choose a quarter of the recordings with the numbers ``few`` [K], by recording and by person.

    ``labels`` [N] and ``people`` [N] are those of all recordings.
    """
    # exercise: a quarter of each class, drawn by lot; all recordings of the last quarter of the people
    mixed = rng.permutation(few)
    by_class = np.argsort(labels[mixed], kind="stable")
    names = np.unique(people[few])
    last = names[-max(1, len(names) // 4) :]
    return {
        "recordings": mixed[by_class][::4],
        "people": few[np.isin(people[few], last)],
    }
    # end


def catch_split(
    config: Config,
    run: lesson.Run,
    full: Trained,
    people: np.ndarray,
) -> None:
    """Hold out recordings, then people, of the same few; compare the promise with new people."""
    x, labels = full.train
    some = np.unique(people)[:8]
    few = np.flatnonzero(np.isin(people, some))
    rng = np.random.default_rng(run.seed)
    splits = hold_out(few, labels.cpu().numpy(), people, rng)
    longer = replace(config, epochs=3 * config.epochs // 2)  # as there are fewer recordings
    classes = full.net.net.readout.out_features
    rows: list[list[Any]] = []
    for name, held in splits.items():
        kept = np.setdiff1d(few, held)
        net = train(run, f"split by {name}", longer, (x[kept], labels[kept]), classes)
        promised = accuracy(net, x[held], labels[held])
        true = accuracy(net, *full.test)
        rows.append([name, len(kept), promised, true, promised - true])
    columns = ["held out", "trained on", "right, %", "right, new people, %", "too good by"]
    run.table("Catch: what was held out (few people)", columns, rows)
    count = len(splits["recordings"])
    run.say(
        f"A split by recordings promises {rows[0][4]:+.1f} points against new people, a split by "
        f"people {rows[1][4]:+.1f}. One of the {count} recordings held out is {100 / count:.1f} points."
    )


# %% [markdown]
# ## Ears instead of eyes: SHD and SSC
#
# Events need no camera. The *Spiking Heidelberg Digits* (SHD: 10,420 recordings, the digits
# zero to nine in German and English, 20 classes, 12 speakers) and the *Spiking Speech
# Commands* (SSC: 105,829 recordings, 35 words) are spoken words. A model of the inner ear
# turns sound into spikes of 700 channels, from low tones to high ones; each channel is a
# place on the *basilar membrane*, a strip in the ear of which each tone shakes another
# part. There is no y and no polarity, and a word lasts about a second.
#
# What tells words apart there is *when* each channel fires, so these sets are the usual
# test of networks with recurrence and delays (lesson 13). Two speakers of SHD are in its
# test set only, as the people of the gestures are.
#
# `--dataset shd` and `--dataset ssc` run this lesson on them: the 700 channels are laid out
# as 28 lines of 25, so that the same convolutions see neighbouring tones as neighbours.
# Times are stored as float16, in seconds: beyond 1 s their steps are 1 ms, so windows much
# shorter than 10 ms would resolve the rounding and not the word.
#
# ## The lesson as a whole
#
# `main` is the table of contents. Read it after a run, and find each chapter's figure in
# `results/`. The comparisons of chapters 5 and 8 train seven more networks: with the first
# seed only. A further seed trains what the head of this script gives a spread for.


# %%
def main(config: Config, run: lesson.Run) -> None:
    say = run.console.print
    train_set, test_set = event_sets.load(config.dataset, config.plan, run.progress, say)
    mixed = np.random.default_rng(0).permutation(len(train_set))
    chosen = np.sort(mixed[: config.recordings])
    sets = train_set.take(chosen), test_set
    for part in sets:
        run.uses(part)
        if config.fresh and run.is_first_seed:
            cache.clear(part.cache)
    if run.is_first_seed:
        look_at_a_recording(config, run, test_set)
        prove_frames(config, run, test_set)
    full = train_and_test(config, run, sets)
    if run.is_first_seed:
        compare_binnings(config, run, sets, full)
        stream_events(config, run, full.net, test_set)
    seen = edge_mode(config, run, full, sets)
    if run.is_first_seed:
        draw_answers(config, run, full, test_set.classes, seen)
        catch_order(config, run, full)
    if run.is_first_seed and sets[0].subjects is not None:
        catch_split(config, run, full, sets[0].subjects)


if __name__ == "__main__":
    lesson.start(main, Config, SCALES)
