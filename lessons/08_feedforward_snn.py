"""Lesson 08: feedforward SNN.

Question: How do weights and neurons become one network, and what must be right about time?
Reading:  Eshraghian et al. (2023) sec. II (neurons in a network) and III (reading their spikes); snnTorch
          tutorial 3 (architecture and forward pass).
Run:      python lessons/08_feedforward_snn.py [--peers]
Expect:   six ways, equal spikes and gradients, the last more than 5 times faster than the first; 94.8 ± 0.9 %
          of MNIST after one epoch, 25 ± 3 points less without a reset. 3 seeds, 4 min on two CPU cores.
"""

# %% [markdown]
# Lesson 01 built a neuron, lesson 07 gave its spike a slope. Now neurons are put into
# layers, with weights between them. Almost everything is plain PyTorch. What is new is
# *time*: the network runs once for each time step, and its neurons remember.
#
# In this lesson you
#
# 1. build the network, run it on digits, and look at its spikes,
# 2. follow the shapes, and see what happens when time and batch are mixed up,
# 3. read an answer out of spikes,
# 4. reset, and meet the two things that happen to those who forget it,
# 5. make the same network several times faster, without changing one spike.

# %%
import os
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Annotated, Any

sys.path.insert(0, str(Path(globals().get("__file__", "any.py")).resolve().parents[1]))  # where snn_course is

from snn_course.runs import figures, lesson
from snn_course import data
from snn_course.networks import neurons, twins
from snn_course.networks.peers import peers

import snntorch as snn
import torch
from matplotlib.axes import Axes
from snntorch import utils
from torch import Tensor, nn
from torch.nn.functional import cross_entropy


@dataclass(frozen=True)
class Config(lesson.Config):
    num_steps: Annotated[int, lesson.Range(2, 500)] = 25
    """Time steps for which the network sees an image."""

    num_hidden: Annotated[int, lesson.Range(10, 10_000)] = 1000
    """Neurons in the hidden layer."""

    batch_size: Annotated[int, lesson.Range(2, 500)] = 128
    """Images that are computed together. Best unlike num_steps, so that swapped axes show."""

    beta: Annotated[float, lesson.Range(0.05, 0.999)] = 0.95
    """Share of the membrane potential that stays after one step, 0 to 1."""

    images: Annotated[int, lesson.Range(500, 60_000)] = 60_000
    """Training images, each seen once."""

    peers: bool = False
    """Also compare SpikingJelly, Norse and sinabs (if installed): their reset makes a different neuron."""


SCALES: lesson.Scales = {
    "quick": {"num_hidden": 200, "batch_size": 32, "images": 5000},
    "cpu": {"seeds": 3},
    "gpu": {"seeds": 3},
}
Run = lesson.Run

# %% [markdown]
# ## 1. The network
#
# A *feedforward* network: spikes go from layer to layer, and never back. The layers take
# turns. A layer of **weights**, `nn.Linear`, turns the spikes of the layer before into
# currents. A layer of **neurons**, `snn.Leaky`, turns these currents into spikes. For the
# second pair of layers, at time step $t$:
#
# $$I_2[t] = W_2\,S_1[t] + b_2$$
#
# $$U_2[t] = \beta\,U_2[t-1] + I_2[t] - S_2[t-1]\,U_{thr}, \qquad S_2[t] = 1 \text{ if } U_2[t] > U_{thr}$$
#
# Look at the time indices. In the first line all is at $t$: **weights know nothing of
# time**. They are learnt, and are the same at each step and for each image. (So is the bias
# $b_2$: a small constant current at every step, spikes or none.) In the second line there
# is a $t-1$: **the dynamics live in the neurons**. A neuron layer has no weights. It has a
# state, the membrane `mem`, one number for each neuron *and each image*, and nothing else
# of the past is kept.
#
# So where an ordinary network has an activation function such as ReLU, this one has
# neurons; and where an ordinary network runs once, this one runs `num_steps` times. That is
# the *temporal loop*. Here the image is shown at each step, as a constant current (lesson
# 02: direct coding). Only from the first neurons on there are spikes. And on the way back a
# neuron has the surrogate slope of lesson 07: `snn.Leaky` takes `surrogate.atan()` if it is
# given no other `spike_grad`.
#
# Which of two things comes first, the next layer or the next step? In `forward` below the
# loop over time is outside, and the layers are inside. So a spike of layer 1 reaches layer
# 2 *in the same step* (the formula has $S_1[t]$, not $S_1[t-1]$), and only membranes wait
# for the next one. `snn.Leaky` takes a current and a membrane, and gives a spike and the
# new membrane. It also keeps the membrane, in `lif.mem`; there `forward` looks for it at
# the beginning. After a reset that is a mere 0, which takes the shape of the first current,
# `[B, H]`.


# %%
Records = tuple[Tensor, Tensor, Tensor]  # spikes [T, B, H] and [T, B, 10], membranes [T, B, 10]


class Net(nn.Module):
    """784 pixels, hidden neurons, 10 classes: weights live in fc1 and fc2, dynamics in lif1 and lif2."""

    def __init__(self, num_hidden: int, beta: float, mechanism: str = "subtract") -> None:
        super().__init__()
        self.fc1 = nn.Linear(784, num_hidden)
        self.lif1 = snn.Leaky(beta=beta, reset_mechanism=mechanism)
        self.fc2 = nn.Linear(num_hidden, 10)
        self.lif2 = snn.Leaky(beta=beta, reset_mechanism=mechanism)

    def forward(self, x: Tensor, reset: bool = True) -> Records:
        """Step through time; x is [T, B, 784]. Without ``reset``, go on where the last call stopped."""
        if reset:
            utils.reset(self)  # reset here: a new batch begins, so all membranes are 0 (chapter 4)
        mem1 = self.lif1.mem
        mem2 = self.lif2.mem
        spk1_rec, spk2_rec, mem2_rec = [], [], []
        # exercise: at each step through both layers of weights and both of neurons; record what is returned
        for x_t in x.unbind(0):  # time is axis 0; x_t [B, 784]
            cur1 = self.fc1(x_t)  # [B, H]
            spk1, mem1 = self.lif1(cur1, mem1)  # [B, H]
            cur2 = self.fc2(spk1.to(x.dtype))  # [B, 10]; the spikes of snnTorch are always float32
            spk2, mem2 = self.lif2(cur2, mem2)  # [B, 10]
            spk1_rec.append(spk1)
            spk2_rec.append(spk2)
            mem2_rec.append(mem2)
        # end
        return torch.stack(spk1_rec), torch.stack(spk2_rec), torch.stack(mem2_rec)  # [T, B, N]


# %% [markdown]
# The drawing below is this class: blue boxes have weights, orange ones have a state, which
# goes round from step to step.


# %%
ARROW = {"arrowstyle": "->", "lw": 1.5}
MIDDLE: dict[str, Any] = {"ha": "center", "va": "center"}


def draw_network(config: Config, run: Run) -> None:
    """Draw the layers in a row, and what passes between them in one time step."""
    hidden = config.num_hidden
    steps = config.num_steps
    weights = 785 * hidden + (hidden + 1) * 10
    states = config.batch_size * (hidden + 10)
    fig, (ax,) = figures.new(
        f"{weights} weights for all steps and images; {states} membranes, one for each neuron and image",
        size=(10.5, 2.9),
    )
    box(ax, 0, "image x_t\n(the same\nat each step)", figures.GREY)
    box(ax, 1, f"fc1\nnn.Linear\n784 x {hidden}", figures.BLUE)
    box(ax, 2, "lif1\nsnn.Leaky\nno weights", figures.ORANGE)
    box(ax, 3, f"fc2\nnn.Linear\n{hidden} x 10", figures.BLUE)
    box(ax, 4, "lif2\nsnn.Leaky\nno weights", figures.ORANGE)
    box(ax, 5, "sum over\nall steps:\nspike counts", figures.GREY)
    arrow(ax, 0, "[B, 784]")
    arrow(ax, 1, f"cur1\n[B, {hidden}]")
    arrow(ax, 2, f"spk1\n[B, {hidden}]")
    arrow(ax, 3, "cur2\n[B, 10]")
    arrow(ax, 4, "spk2\n[B, 10]")
    loop(ax, 2, "mem1, to the next step")
    loop(ax, 4, "mem2, to the next step")
    ax.hlines(-0.42, 0.65, 4.35, color=figures.GREY)
    ax.text(2.5, -0.46, f"this runs {steps} times, once a step", ha="center", va="top")
    ax.set_xlim(-0.4, 5.4)
    ax.set_ylim(-0.65, 0.85)
    ax.axis("off")
    run.figure(fig, "network")


def box(ax: Axes, place: float, text: str, colour: str) -> None:
    """Draw a layer at a place in the row."""
    frame = {"boxstyle": "round,pad=0.5", "fc": "white", "ec": colour, "lw": 2}
    ax.text(place, 0, text, bbox=frame, fontsize=8.5, **MIDDLE)


def arrow(ax: Axes, place: float, text: str) -> None:
    """Draw an arrow to the next place, and what it carries."""
    begin = place + 0.28
    end = place + 0.72
    ax.annotate("", (end, 0), (begin, 0), arrowprops=ARROW)
    ax.text(place + 0.5, 0.06, text, ha="center", fontsize=8)


def loop(ax: Axes, place: float, text: str) -> None:
    """Draw an arrow from a layer back to itself: its state."""
    bow = ARROW | {"connectionstyle": "arc3,rad=1.3", "color": figures.ORANGE}
    begin = place + 0.12
    end = place - 0.12
    ax.annotate("", (end, 0.3), (begin, 0.3), arrowprops=bow)
    ax.text(place, 0.68, text, ha="center", fontsize=8)


# %% [markdown]
# With random weights the network has nothing to say, so it is trained first, for one pass
# over the images. *How* it learns is lesson 09; take `train` as given. (Its loss asks, at
# each step, for the highest membrane at the right output neuron: a membrane says by how
# much, a spike only yes or no. It runs through the network in the fast way of chapter 5,
# which gives the same spikes and gradients.)


# %%
Pair = tuple[Tensor, Tensor]
Rung = Callable[[Net, Tensor], Records]  # a way through the network, x [T, B, 784]; chapter 5 has a ladder
Gradients = list[Any]  # one for each of the network's parameters


@dataclass(frozen=True)
class Digits:
    """Images as bytes [N, 784], 0 to 255, and their labels [N]; how they are shown."""

    x: Tensor
    y: Tensor
    num_steps: int
    batch_size: int

    def batch(self, rows: Tensor) -> Pair:
        """Show images at each step, as numbers 0..1 [T, B, 784]; and give their labels [B]."""
        still = self.x[rows] / 255  # [B, 784]
        shown = still.expand(self.num_steps, -1, -1)  # [T, B, 784]
        return shown, self.y[rows]


def gradients(net: Net, way: Rung, x: Tensor, labels: Tensor) -> tuple[Records, Gradients]:
    """Go forward and backward, with the loss of snnTorch's tutorial 5. Returns: records, gradients."""
    records = way(net, x)
    scores = records[2].flatten(0, 1)  # membranes of the output [T * B, 10]
    wanted = labels.repeat(len(x))  # [T * B]
    net.zero_grad()
    loss = cross_entropy(scores, wanted)
    lesson.finite(loss).backward()
    return records, [parameter.grad for parameter in net.parameters()]


def train(config: Config, run: Run, digits: Digits) -> Net:
    """Train for one pass over static images."""
    torch.manual_seed(run.seed)
    net = Net(config.num_hidden, config.beta).to(run.device)
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-4)
    order = torch.randperm(len(digits.y))
    batches = order.split(config.batch_size)
    for rows in run.progress(batches, "training"):
        gradients(net, compiled_layers, *digits.batch(rows))
        optimizer.step()
    return net


# %% [markdown]
# Now look at it at work, on two digits that it never saw. From left to right: the image;
# the spikes of the hidden layer in a *raster* (a row for each neuron, a mark for each
# spike; lesson 03); those of the ten output neurons; and how many spikes each of these sent
# in all. Read it along the time axis: how many steps pass until the first output spike?
# Does each hidden neuron fire? Is there an output neuron that fires for the wrong digit? Do
# the layers wait for each other? (The axis counts steps from 0, the sentence below from 1.)
# The image stands still, and yet its spikes are spread over time: a neuron with a strong
# current fires often, one with a weak current charges up for some steps first, and one with
# a negative current never fires.


# %%
SHOWN = 80  # hidden neurons in a raster


@torch.no_grad()
def show_spikes(run: Run, net: Net, digits: Digits) -> None:
    """Draw the spikes of both layers for the first image, and for the first one of another class."""
    unlike = digits.y != digits.y[0]
    other = int(unlike.int().argmax())
    x, labels = digits.batch(torch.tensor([0, other]))
    hidden, output, _ = net(x)  # [T, 2, H] and [T, 2, 10]
    count = output.sum(0)  # [2, 10]
    fig, axes = figures.new(
        title_of_spikes(labels.tolist(), count),
        rows=2,
        columns=4,
        size=(11, 5.2),
        width_ratios=(1, 2.4, 2.4, 1),
    )
    for row, label in enumerate(labels.tolist()):
        picture, *others = axes[4 * row : 4 * row + 4]
        picture.imshow(x[0, row].view(28, 28).cpu(), cmap="gray_r")
        picture.set(xticks=[], yticks=[], title=f"a {label}")
        draw_layers(others, hidden[:, row].cpu(), output[:, row].cpu())
    run.figure(fig, "spikes")
    fired = hidden.sum(0) > 0  # [2, H]
    share = 100 * fired.double().mean()
    first = first_step(output[:, 0])
    second = first_step(output[:, 1])
    run.say(
        f"{share:.0f} % of the hidden neurons fire at all for such an image. "
        f"The first output spikes come at step {first} and {second} "
        f"of {len(x)}: before that there is no answer to be read."
    )


def draw_layers(axes: list[Axes], hidden: Tensor, output: Tensor) -> None:
    """Draw the spikes [T, H] and [T, 10] of both layers for one image, and the counts of the output."""
    left, right, bars = axes
    figures.raster(left, hidden[:, :SHOWN], size=9)
    left.set_title(f"hidden: {SHOWN} of {hidden.shape[1]} neurons")
    left.set_xlabel("time, steps")
    figures.raster(right, output, colour=figures.RED, size=60)
    right.set_title("output: 10 neurons")
    right.set(xlabel="time, steps", yticks=range(10))
    bars.barh(range(10), output.sum(0), color=figures.RED)
    bars.set_title("spike counts")
    bars.set(xlabel="spikes", yticks=range(10))
    bars.set_ylim(right.get_ylim())


def first_step(spk: Tensor) -> int:
    """Give the number of the step with the first of the spikes [T, N], from 1; T + 1 if there is none."""
    fired = spk.sum(1).cumsum(0)  # spikes so far [T]
    return int((fired == 0).sum()) + 1


def title_of_spikes(labels: list[int], counts: Tensor) -> str:
    """Say for each image who fires most, from spike counts [B, 10]."""
    told = []
    for label, count in zip(labels, counts, strict=True):
        most = int(count.argmax())
        told.append(f"a {label}: output neuron {most} fires most, {int(count[most])} times")
    return "; ".join(told)


# %% [markdown]
# ## 2. Shapes: time is axis 0
#
# Every record has the shape `[num_steps, batch, features]`, for short `[T, B, N]`. Images
# and convolutions (lesson 10) have more behind it: `[T, B, C, H, W]`, channels, rows,
# columns. So an SNN's input looks like that of any other network, with one more axis in
# front. SpikingJelly and Norse have the same order; sinabs wants the batch first, and
# Intel's Lava (for the Loihi chip) has time last. The first thing to check with a new
# library is where it keeps time.
#
# Time and batch look alike: two numbers in front of the features. They are opposites. Along
# the batch nothing may pass from one entry to the next: images are strangers to each other.
# Along time everything passes, through the membranes, and in one direction. No shape says
# which of the two axes is which. Only the loop does.
#
# `run` walks through the network once, line by line, and compares each shape with the one
# that is expected. In the right column, note again who has weights and who has a state.


# %%
def show_shapes(config: Config, run: Run) -> None:
    """Walk through the network once, and compare the shape of each line with the one it should have."""
    steps, batch, hidden = config.num_steps, config.batch_size, config.num_hidden
    net = Net(hidden, config.beta).to(run.device)
    x = torch.rand(steps, batch, 784, device=run.device)
    cur1 = net.fc1(x.unbind(0)[0])
    _, mem1 = net.lif1(cur1, net.lif1.reset_mem())  # reset_mem empties the membrane, and gives it
    cur2 = net.fc2(torch.zeros_like(mem1))
    _, mem2 = net.lif2(cur2, net.lif2.reset_mem())
    _, spk2_rec, _ = net(x)
    count = spk2_rec.sum(0)
    guess = count.argmax(1)
    lines: list[tuple[str, Tensor, list[int], str]] = [
        ("cur1 = fc1(x_t)", cur1, [batch, hidden], f"{785 * hidden} weights, no state"),
        ("spk1, mem1 = lif1(cur1, ..)", mem1, [batch, hidden], f"no weights, {mem1.numel()} mem"),
        ("cur2 = fc2(spk1)", cur2, [batch, 10], f"{10 * hidden + 10} weights, no state"),
        ("spk2, mem2 = lif2(cur2, ..)", mem2, [batch, 10], f"no weights, {mem2.numel()} mem"),
        ("spk2_rec = stack(spk2, ..)", spk2_rec, [steps, batch, 10], "spikes of all steps"),
        ("count = spk2_rec.sum(0)", count, [batch, 10], "time is summed away"),
        ("guess = count.argmax(1)", guess, [batch], "a class for each sample"),
    ]
    rows = []
    wrong = 0
    for line, result, expected, holds in lines:
        shape = list(result.shape)
        wrong += shape != expected
        rows.append([line, str(shape), holds])
    run.table(f"Shapes, T {steps}, B {batch}, H {hidden}", ["line", "shape", "what it has"], rows)
    run.proof("lines of another shape", wrong, at_most=0)


# %% [markdown]
# **A catch.** Someone's data loader gives `[B, T, N]`, batch first, and they feed it as it
# is. PyTorch does not mind: the loop takes axis 0, whatever it is. Which number would tell
# you?
#
# The loop now walks over *images*, one a step, and the membranes carry each image into the
# next. The "batch" are the time steps of the same images. Losses are finite, shapes are
# plausible, and if $T = B$ even the shape of the answer is right. The accuracy tells: it is
# near chance, 10 %. So choose `batch_size` and `num_steps` that differ; then the shapes
# give you away at once. (`answers` feeds all test images. For the swap it takes batches of
# $T$ images, so that nothing else complains.)


# %%
Curve = list[float]  # accuracy in % after each step


@torch.no_grad()
def answers(net: Net, digits: Digits, reset: bool = True, swap: bool = False) -> Pair:
    """Show images in batches, right or with a mistake. Returns: output spikes [T, N, 10], labels [N]."""
    size = digits.num_steps if swap else digits.batch_size
    batches = torch.arange(len(digits.y)).split(size)
    batches = batches[:-1]  # of one size: at another, snn.Leaky starts anew
    spk_rec, label_rec = [], []
    for number, rows in enumerate(batches):
        x, labels = digits.batch(rows)  # [T, B, 784]
        shown = x.transpose(0, 1) if swap else x
        _, spk2_rec, _ = net(shown, reset=reset or number == 0)
        spk_rec.append(spk2_rec)
        label_rec.append(labels)
    return torch.cat(spk_rec, 1), torch.cat(label_rec)


def swap_time_and_batch(run: Run, net: Net, digits: Digits) -> Curve:
    """Catch: feed [B, T, 784]. Returns: accuracy in % after each step."""
    spk_rec, labels = answers(net, digits, swap=True)
    curve = accuracy_by_step(spk_rec, labels)
    run.measure("catch: T and B swapped: accuracy", curve[-1], "%", at_most=25)
    return curve


# %% [markdown]
# ## 3. Reading the answer
#
# The output is a list of spikes, `spk2_rec` $[T, B, 10]$. An answer is one class for each
# image. The usual read-out counts: sum over time, and the output neuron with the most
# spikes names the class.
#
# $$\text{count}_k = \sum_t S_{2,k}[t], \qquad \text{guess} = \arg\max_k \text{count}_k$$
#
# This is a *rate code* (lesson 02). Two things to know. A count is a small whole number, so
# two classes can *tie*, and `argmax` then takes the lower class, which is no decision. And
# an answer can be asked for after each step: the counts so far. (Lesson 09 compares other
# read-outs: who fires first, or the membrane itself.)
#
# An example with four classes and three steps: the spikes of an image are `[0 1 0 1]`,
# `[0 1 0 1]` and `[0 0 0 1]`. After step 2 the counts are `[0 2 0 2]`: classes 1 and 3 tie,
# and `argmax` says 1. After step 3 they are `[0 2 0 3]`, and the answer is 3.
#
# A common slip is to read one step out of many: `spk2_rec[-1].argmax(1)`. It gives an
# answer of the right shape. At a single step a neuron sends one spike or none, so many
# images tie.
#
# In the figure, left: the counts of one image as they grow. Right: after how many steps is
# there nothing more to win, and what do the ties do meanwhile?


# %%
def accuracy_by_step(spk_rec: Tensor, labels: Tensor) -> Curve:
    """Count spikes [T, N, 10] up to each step. Returns: accuracy in % if one reads after it [T]."""
    # exercise: the counts after each step, the guesses [T, N], and how many of them are right
    count = spk_rec.cumsum(0)  # [T, N, 10]
    guess = count.argmax(-1)  # [T, N]
    right = (guess == labels).double().mean(1)  # [T]
    # end
    return (100 * right).tolist()


def share_tied(count: Tensor) -> Tensor:
    """Give for counts [..., N, 10] in % how many images share their highest count among classes: [...]."""
    highest = count == count.amax(-1, keepdim=True)
    tied = highest.sum(-1) > 1  # [..., N]
    return 100 * tied.double().mean(-1)


def read_counts(run: Run, net: Net, digits: Digits) -> Curve:
    """Read the test images' answers after each step. Returns: the accuracies in %."""
    spk_rec, labels = answers(net, digits)
    curve = accuracy_by_step(spk_rec, labels)
    ties = share_tied(spk_rec.cumsum(0)).tolist()  # [T]
    last_step = accuracy_by_step(spk_rec[-1:], labels)[0]
    goal = {"quick": 75, "cpu": 91}
    run.measure("accuracy, spike count", curve[-1], "%", at_least=goal)
    run.measure("accuracy, last step alone", last_step, "%")
    run.measure("images that tie, all steps counted", ties[-1], "%")
    alone = share_tied(spk_rec[-1]).item()
    run.measure("images that tie, last step alone", alone, "%")
    draw_reading(run, curve, ties, spk_rec[:, 0].cpu(), int(labels[0]))
    run.say(
        f"Counted over all {len(curve)} steps, {curve[-1]:.1f} % are right; by the last step alone "
        f"{last_step:.1f} %. After the first step {ties[0]:.0f} % of the images tie, at the end "
        f"{ties[-1]:.1f} %."
    )
    return curve


def title_of_reading(curve: Curve) -> str:
    """Say the accuracy by spikes counted up to an early step and to the last one."""
    early = max(1, len(curve) // 3)
    first = f"{curve[early - 1]:.0f} % after step {early}"
    return f"Right by counts: {first}, {curve[-1]:.0f} % after step {len(curve)}"


def draw_reading(run: Run, curve: Curve, ties: Curve, spk: Tensor, label: int) -> None:
    """Draw the counts of one image [T, 10] as they grow; accuracy and ties after each step."""
    steps = range(1, len(curve) + 1)
    title = title_of_reading(curve)
    fig, (left, right) = figures.new(title, columns=2, size=(10, 3.6))
    for neuron, count in enumerate(spk.cumsum(0).T):
        if neuron == label:
            left.step(steps, count, where="post", color=figures.RED, lw=3)
        else:
            left.step(steps, count, where="post", color=figures.GREY)
    left.set_title(f"One image, a {label} (thick line: its neuron)")
    left.set(xlabel="steps counted", ylabel="spikes of each output neuron")
    right.plot(steps, curve, label="right")
    right.plot(steps, ties, "--", label="tie")
    right.set_title("All test images")
    right.set(xlabel="steps counted", ylabel="images, %", ylim=(0, 101))
    right.legend()
    run.figure(fig, "reading")


# %% [markdown]
# ## 4. Reset
#
# The weights may see image after image. The membranes must not: when a new image begins,
# each still holds what the image before has left. `snn.Leaky` keeps its membrane in
# `lif.mem` from call to call and does not know that a new image has begun. You must say so,
# **before each batch**:
#
# ```
# utils.reset(net)     # snntorch.utils: every membrane to 0, and cut off from the old graph
# ```
#
# Our `Net.forward` does it in its first line. What if that line is missing? Two different
# things can happen, and which of them depends on whether you train.
#
# **While testing: nothing visible.** The next image is judged with the rest of the last one
# in the membranes. No error, a finite loss, and wrong answers. The figure shows it: an
# output neuron that was right about the image before starts the next one with what is left
# over, and fires for it until it is gone. (Each place in the batch has its own membranes: the
# third image of a batch inherits from the third image of the batch before.)
#
# In the left half, do not be surprised by a membrane far above the threshold. A reset by
# subtraction takes away one threshold a step and no more. An output neuron whose current
# exceeds that fires at every step, and what it cannot get rid of piles up. It is that pile
# which the next image inherits. (Reset *zero* throws away what exceeds the threshold, so
# nothing piles up, and nothing of it counts later: lesson 01.)
#
# In the right half of the figure, look at the first steps: with nothing but a few steps
# counted, the old image speaks louder than the new one. The longer the new image is shown,
# the more of the old one has leaked or been fired away. Showing images for longer hides the
# mistake; it does not mend it.


# %%
@torch.no_grad()
def carry_over(run: Run, net: Net, digits: Digits, right: Curve, swapped: Curve) -> None:
    """Show a batch after another, with and without a reset between them; compare accuracies."""
    kept = accuracy_by_step(*answers(net, digits, reset=False))
    lost = right[-1] - kept[-1]
    goal = {"quick": 3, "cpu": 10}
    run.measure("catch: no reset: points lost", lost, at_least=goal)
    curves = {"right": right, "no reset": kept, "T and B swapped": swapped}
    title = title_of_mistakes(curves)
    fig, (left, other) = figures.new(title, columns=2, size=(11, 3.8))
    mem, fired, clean = draw_carry_over(left, net, digits)
    steps = range(1, len(right) + 1)
    for (name, curve), style in zip(curves.items(), ("-", "--", ":"), strict=True):
        other.plot(steps, curve, style, label=name)
    other.set_xlabel("steps counted")
    other.set(ylabel="test images that are right, %", ylim=(0, 101))
    figures.legend_outside(other)
    run.figure(fig, "mistakes")
    run.say(
        f"Without a reset the drawn neuron begins the next image with a membrane of {mem:.1f} thresholds, "
        f"and fires {fired} times for it; after a reset {clean} times. Over all images {lost:.1f} points of "
        "accuracy are lost, and nothing has complained."
    )


def title_of_mistakes(curves: dict[str, Curve]) -> str:
    """Say the accuracy at the end, without and with each mistake."""
    told = [f"{name} {curve[-1]:.0f} %" for name, curve in curves.items()]
    return "Accuracy: " + ", ".join(told)


def draw_carry_over(ax: Axes, net: Net, digits: Digits) -> tuple[float, int, int]:
    """Draw an output membrane through two images, where most is left over.

    Returns: what is left; the neuron's spikes for the second image without a reset, and with one.
    """
    size = digits.batch_size
    rows = torch.arange(size)
    first, before = digits.batch(rows)
    second, after = digits.batch(rows + size)
    _, _, mem = net(first)  # [T, B, 10]
    _, kept_spk, kept = net(second, reset=False)
    _, clean_spk, clean = net(second)
    of_old = mem[-1, rows, before]  # [B]: of the neurons that are right about the first image
    of_old[before == after] = -1  # not one that is right about both
    image = int(of_old.argmax())
    neuron = int(before[image])
    for name, now in {"no reset": kept, "reset": clean}.items():
        line = torch.cat([mem, now])[:, image, neuron]  # [2 T]
        ax.plot(line.cpu(), "-" if now is clean else "--", label=name)
    ax.axvline(digits.num_steps - 0.5, color=figures.GREY, label="next image")
    ax.axhline(1, color=figures.RED, ls=":", lw=1)
    ax.legend()
    title = f"Output neuron {neuron}: first a {neuron}, then a {int(after[image])}"
    ax.set(title=title, xlabel="time, steps", ylabel="membrane (threshold 1)")
    fired = int(kept_spk[:, image, neuron].sum())
    after_reset = int(clean_spk[:, image, neuron].sum())
    return mem[-1, image, neuron].item(), fired, after_reset


# %% [markdown]
# One line says whether a reset works: the second batch must give the same spikes as if it
# had come first. (`reset=False` stops `Net.forward` from resetting a second time.) And two
# surprises of `utils.reset` in snnTorch 1.0.0. It looks for neurons among the *direct
# children* of what it is given: pass a network that holds your network, and it does
# nothing, without a word. If it does find one, it empties *every* `snn.Leaky` of the
# program, those of other networks too. Both are measured.


# %%
def spikes_changed(net: Net, samples: Tensor, cleared: nn.Module) -> float:
    """Show a sample, reset ``cleared``, show another: give the % of hidden spikes that changed.

    samples [2, T, B, 784].
    """
    first, second = samples
    # exercise: the hidden spikes of the second sample alone; and after the first one and a reset
    alone = net(second)[0]  # [T, B, H]
    net(first)
    utils.reset(cleared)  # reset here
    after = net(second, reset=False)[0]
    # end
    changed = after != alone
    return 100 * changed.double().mean().item()


def prove_reset(config: Config, run: Run) -> None:
    """Show two samples to neurons that keep their state; only a reset makes the second independent."""
    net = Net(100, config.beta).to(run.device)
    samples = 2 * torch.rand(2, config.num_steps, 8, 784, device=run.device)  # bright: many neurons fire
    with_reset = spikes_changed(net, samples, net)
    nothing = spikes_changed(net, samples, nn.Identity())
    parent = spikes_changed(net, samples, nn.Sequential(net))
    run.proof("reset: spikes that an earlier sample changed", with_reset, at_most=0)
    run.measure("catch: no reset: spikes changed", nothing, "%", at_least=1)
    run.measure("catch: reset(parent): spikes changed", parent, "%", at_least=1)
    net(samples[0])
    utils.reset(Net(10, config.beta))  # another network
    left = net.lif1.mem.abs().sum().item()
    run.measure("catch: reset(another network): membrane left here", left)


# %% [markdown]
# **While training: an error that does not name its cause.** `loss.backward()` walks back
# from the loss through all that made it (the *graph*), and frees the graph as it goes. If a
# membrane came over from the last batch, its graph leads back into that batch, whose part
# is freed already. PyTorch then says *Trying to backward through the graph a second time*.
# It sounds as if you had called `backward` twice. You did not: you forgot to reset.
#
# ```
# batch 1:   mem 0 (new)  -> mem -> mem -> loss 1     backward: walked, and freed
# batch 2:   mem of batch 1 -> mem -> mem -> loss 2   backward: walks on into batch 1
# ```
#
# PyTorch's message also proposes `retain_graph=True`. Try it? Below, a network in the other
# style that you will meet: `init_hidden=True` lets the neurons keep `mem` to themselves, so
# that the layers fit into `nn.Sequential`. It takes two training steps, with four things
# done in between. Only one is right. Which of the others is the worst: the two that stop
# you, or the one that does not?


# %%
def sequential(config: Config) -> nn.Sequential:
    """Make the network of chapter 1 with neurons that hide their state."""
    return nn.Sequential(
        nn.Linear(784, config.num_hidden),
        snn.Leaky(beta=config.beta, init_hidden=True),
        nn.Linear(config.num_hidden, 10),
        snn.Leaky(beta=config.beta, init_hidden=True, output=True),  # gives spikes and membrane
    )


Between = Callable[[nn.Module], Any]  # what is done between two batches


def two_training_steps(
    net: nn.Sequential, batch: Pair, between: Between, retain: bool = False
) -> tuple[str, float]:
    """Train on one batch twice. Returns: what the error says, "" without one; membrane left in between."""
    x, labels = batch
    utils.reset(net)  # whatever ran before
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    left = 0.0
    for _ in range(2):
        loss = torch.zeros((), device=x.device)
        for x_t in x.unbind(0):
            _, mem = net(x_t)  # one time step
            loss = loss + cross_entropy(mem, labels) / len(x)
        optimizer.zero_grad()
        try:  # to go on after an error, which is what we want to see
            loss.backward(retain_graph=retain)
        except RuntimeError as error:
            return str(error), left
        optimizer.step()
        between(net)
        hidden: Any = net[1]
        left = hidden.mem.abs().mean().item()
    return "", left


def do_nothing(net: nn.Module) -> None:
    """Forget the reset."""


def detach(net: nn.Module) -> None:
    """Cut all membranes off from the graph, and keep their values."""
    snn.Leaky.detach_hidden()


def second_backward(config: Config, run: Run, batch: Pair) -> None:
    """Catch: take two training steps with different things done in between."""
    net = sequential(config).to(run.device)
    results = {
        "nothing": two_training_steps(net, batch, do_nothing),
        "retain_graph=True": two_training_steps(net, batch, do_nothing, retain=True),
        "detach": two_training_steps(net, batch, detach),
        "utils.reset(net)": two_training_steps(net, batch, utils.reset),
    }
    rows = []
    for name, (error, left) in results.items():
        said = error.split(" (")[0] or "runs"
        short = textwrap.shorten(said, 50, placeholder=" ...")
        rows.append([name, f"{left:.2g}", short])
    run.table("Two training steps", ["in between", "mem left", "second backward()"], rows)
    forgotten, _ = results["nothing"]
    run.measure("catch: no reset: errors of two training steps", int("second time" in forgotten), at_least=1)
    _, left = results["utils.reset(net)"]
    run.measure("reset: mean membrane left", left, at_most=0)
    _, kept = results["detach"]
    run.say(
        f"Detaching makes the error go away and leaves a mean hidden membrane of {kept:.2g} to the next "
        f"batch. After utils.reset it is {left:g}."
    )


# %% [markdown]
# So: `retain_graph=True` keeps the old graph, and fails all the same, since the optimiser
# has changed the weights that it needs. `detach` silences the error and lets the batch
# before speak on; it has a use where the sequence really goes on (truncated BPTT, lesson
# 09). The reset is right.
#
# ## 5. The same network, faster
#
# The loop of chapter 1 is clear, and slow: each step is many small operations, and autograd
# remembers each. Six ways to compute the same thing, each a *rung* of a ladder:
#
# 1. **The step loop** of chapter 1. A module that takes one step at a time, as all of
#    snnTorch's do, works in *single-step mode*.
# 2. **Layer by layer.** In a feedforward network no spike goes back to an earlier layer. So
#    all steps of a layer can be computed before the next layer. Weights know nothing of
#    time, so time can be folded into the batch: `[T, B, N]` becomes `[T * B, N]`, one large
#    matrix product. A module that takes all steps at once works in *multi-step mode*
#    (SpikingJelly lets you choose: `step_mode="s"` or `"m"`). Neurons still loop.
# 3. **`unbind` for `cur[t]`.** The gradient of one `cur[t]` is a whole `[T, B, N]` of zeros
#    but for one step; `unbind` puts those of all steps together once (lesson 09 measures
#    it).
# 4. **Static input hoisted.** The image is the same at each step, and so is its product
#    with the weights. Compute it once.
# 5. **Fused scan.** (A *scan* is a loop that hands a state from step to step.) A layer of
#    neurons over all steps as *one* operation, with a backward pass of its own:
#    `neurons.leaky`. Autograd sees one operation where it saw several at each step.
# 6. **Compiled scan.** The same loop as machine code for this CPU. `neurons.leaky` takes it
#    where it can; `twins.forced` says which of the two it shall take here.
#
# How can the fused scan have a backward pass of its own? It walks the steps in reverse, and
# needs nothing but the recorded membranes: the slope of each spike follows from its
# membrane, and the error of a step is that of the next step times beta, plus its own.
# Lesson 09 writes these two lines down.
#
# And why should hoisting save much? Count the products of weights and inputs. For one image
# the first layer has 784 x 1000 of them at each step, 784,000; the second has 1000 x 10,
# 10,000. So of the 25 steps' 19.9 million products the first layer's repetitions are 18.8
# million, and all of them give what the first step gave. The second layer cannot be
# hoisted: its input is spikes, and they differ from step to step.


# %%
Scan = Callable[[snn.Leaky, Tensor], Pair]  # from currents [T, B, N] to spikes and membranes


def layer_by_layer(net: Net, x: Tensor, scan: Scan, hoist: bool = False) -> Records:
    """Compute all steps of a layer before the next one; ``hoist`` is for an x that is the same in each."""
    through = hoisted if hoist else fold
    cur1 = through(net.fc1, x)  # [T, B, H]
    spk1, _ = scan(net.lif1, cur1)  # [T, B, H]
    cur2 = fold(net.fc2, spk1)  # [T, B, 10]
    spk2, mem2 = scan(net.lif2, cur2)  # [T, B, 10]
    return spk1, spk2, mem2


def fold(weights: nn.Linear, x: Tensor) -> Tensor:
    """Send all steps [T, B, N] through weights as one batch. Returns: [T, B, N2]."""
    # exercise: fold time into the batch, apply the weights, and take the steps apart again
    folded = x.flatten(0, 1)  # [T * B, N]
    return weights(folded).unflatten(0, x.shape[:2])
    # end


def hoisted(weights: nn.Linear, x: Tensor) -> Tensor:
    """Send the first step alone through weights, and show the result [B, N2] T times: [T, B, N2]."""
    cur = weights(x[0])  # [B, N2]
    return cur.expand(len(x), -1, -1)


def by_index(lif: snn.Leaky, cur: Tensor) -> Pair:
    """Run ``snn.Leaky`` over currents [T, B, N], taking cur[t] at each step."""
    steps = [cur[t] for t in range(len(cur))]
    return step_by_step(lif, steps)


def by_unbind(lif: snn.Leaky, cur: Tensor) -> Pair:
    """Run ``snn.Leaky`` over currents [T, B, N], all steps taken out at once."""
    return step_by_step(lif, cur.unbind(0))


def step_by_step(lif: snn.Leaky, steps: Any) -> Pair:
    """Run ``snn.Leaky`` over T currents [B, N]. Returns: spikes and membranes [T, B, N]."""
    mem = lif.reset_mem()  # reset here
    spk_rec, mem_rec = [], []
    for cur_t in steps:
        spk, mem = lif(cur_t, mem)
        spk_rec.append(spk)
        mem_rec.append(mem)
    spikes = torch.stack(spk_rec).to(mem.dtype)
    return spikes, torch.stack(mem_rec)


def fused(lif: snn.Leaky, cur: Tensor) -> Pair:
    """Run all steps as one operation. It keeps no state: without one it starts at zero."""
    with twins.forced(False):  # in PyTorch
        return neurons.leaky(cur, lif.beta, lif.threshold, lif.reset_mechanism)


def compiled(lif: snn.Leaky, cur: Tensor, num_steps: int | None = None) -> Pair:
    """Run the same operation as machine code (on a CPU); with ``num_steps``, cur [B, N] is still."""
    with twins.forced(True):
        return neurons.leaky(cur, lif.beta, lif.threshold, lif.reset_mechanism, num_steps=num_steps)


# %% [markdown]
# With these parts each rung is a line or a few. Read them from the first to the last: what
# has changed from one to the next? All give the same three records.


# %%
def step_loop(net: Net, x: Tensor) -> Records:
    """Rung 1."""
    return net(x)


def indexed_layers(net: Net, x: Tensor) -> Records:
    """Rung 2."""
    return layer_by_layer(net, x, by_index)


def unbound_layers(net: Net, x: Tensor) -> Records:
    """Rung 3."""
    return layer_by_layer(net, x, by_unbind)


def hoisted_layers(net: Net, x: Tensor) -> Records:
    """Rung 4, for a still input, as all from here on."""
    return layer_by_layer(net, x, by_unbind, hoist=True)


def fused_layers(net: Net, x: Tensor) -> Records:
    """Rung 5."""
    return layer_by_layer(net, x, fused, hoist=True)


def compiled_layers(net: Net, x: Tensor) -> Records:
    """Rung 6: the current of a still input is handed over once, not T times."""
    cur1 = net.fc1(x[0])  # [B, H]
    spk1, _ = compiled(net.lif1, cur1, num_steps=len(x))  # [T, B, H]
    cur2 = fold(net.fc2, spk1)  # [T, B, 10]
    spk2, mem2 = compiled(net.lif2, cur2)  # [T, B, 10]
    return spk1, spk2, mem2


FIRST, FUSED, LAST = "step loop (tutorial)", "fused scan", "compiled scan"
LADDER: dict[str, Rung] = {
    FIRST: step_loop,
    "layer by layer, cur[t]": indexed_layers,
    "unbind for cur[t]": unbound_layers,
    "static input hoisted": hoisted_layers,
    FUSED: fused_layers,
    LAST: compiled_layers,
}

# %% [markdown]
# Faster is worth nothing if it computes something else. So first the proof: the same
# spikes, to the last one, and the same gradients, for each reset, for an image that moves
# (other spikes at each step, where nothing may be hoisted) and for one that stands still.
# In float64, since a sum in another order differs in its last bit, which in float32 may
# move a spike.


# %%
MECHANISMS = ("subtract", "zero", "none")  # resets that snn.Leaky has


def fused_moving(net: Net, x: Tensor) -> Records:
    """Rung 5 for an input that moves."""
    return layer_by_layer(net, x, fused)


def compiled_moving(net: Net, x: Tensor) -> Records:
    """Rung 6 for an input that moves."""
    return layer_by_layer(net, x, compiled)


def prove_equal(config: Config, run: Run, x: Tensor, labels: Tensor) -> None:
    """Compare spikes and gradients of each way through the network with those of the step loop."""
    chance = torch.rand(x.shape, device=run.device)
    moving = (chance < x).double()  # rate code: other spikes in each step
    ways: list[Rung] = [unbound_layers, fused_moving, compiled_moving]
    for mechanism in MECHANISMS:
        net = Net(config.num_hidden, config.beta, mechanism)
        net.to(run.device).double()
        spikes, error = compare(net, ways, moving, labels)
        run.proof(f"loop = layers = fused = compiled, {mechanism}: spikes", spikes, at_most=0)
        run.proof(f"loop = layers = fused = compiled, {mechanism}: gradient", error, at_most=1e-5)
    net = Net(config.num_hidden, config.beta)
    net.to(run.device).double()
    ways = list(LADDER.values())
    spikes, error = compare(net, ways, x.double(), labels)
    run.proof("all rungs, static input: spikes", spikes, at_most=0)
    run.proof("all rungs, static input: gradient", error, at_most=1e-5)
    spikes, _ = compare(net.float(), [LADDER[LAST]], x, labels)
    run.measure("float32: spikes that the ladder moves", spikes)


def spikes_apart(mine: Tensor, theirs: Tensor) -> int:
    """Count the places in which two records differ."""
    differ = mine != theirs
    return int(differ.sum())


def compare(net: Net, ways: list[Rung], x: Tensor, labels: Tensor) -> tuple[int, float]:
    """Give by how many spikes, and which relative error of the gradient, ways are off the step loop."""
    loop, wanted = gradients(net, step_loop, x, labels)
    spikes = 0
    errors = []
    for way in ways:
        records, grads = gradients(net, way, x, labels)
        for mine, true in zip(records[:2], loop[:2], strict=True):
            spikes += spikes_apart(mine, true)
        for grad, true in zip(grads, wanted, strict=True):
            error = (grad - true).abs().max()
            errors.append(error / true.abs().max())
    return spikes, torch.stack(errors).max().item()  # nan stays nan


# %% [markdown]
# Then the race. Each way runs once a round, in turn, so that a busy moment of the machine
# meets all of them; the median of the rounds counts. (CPU time of one thread where the
# system counts it finely.) In the figure, which rung saves most? The first ones move work
# about; hoisting removes work; the fused scan removes what is not work at all: the
# bookkeeping of thousands of tiny operations.


# %%
ROUNDS = {"quick": 3, "cpu": 7, "gpu": 21}  # timed runs of each variant
Work = Callable[[], Any]
Works = dict[str, Work | None]  # None: not installed
Spent = dict[str, list[float]]  # ms of each round, by name


def race(run: Run, title: str, works: Works) -> Spent:
    """Time each work once a round, in turn.

    One thread, and its CPU time where the system counts that finely: other programs hardly show.

    Returns: ms of each round, by name.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    spent: Spent = {}
    for _ in range(ROUNDS[run.scale] + 1):
        for name, work in works.items():
            if work:
                took = milliseconds(run, work)
                spent.setdefault(name, []).append(took)
    torch.set_num_threads(threads)
    rows: list[list[Any]] = []
    slowest = next(iter(spent.values()))
    for name in works:
        if name not in spent:
            rows.append([name, "not installed", ""])
            continue
        times = spent[name]
        del times[0]  # the first round warms up
        faster = gain(slowest, times)
        rows.append([name, median(times), faster])
    run.table(f"{title}, forward + backward", ["", "ms", "gain"], rows)
    return spent


def milliseconds(run: Run, work: Work) -> float:
    """Time one call."""
    fine = run.device.type == "cpu" and os.name == "posix"
    clock = time.process_time if fine else time.perf_counter
    begun = clock()
    work()
    if run.device.type == "cuda":
        torch.cuda.synchronize()
    return 1000 * (clock() - begun)


def gain(slow: list[float], fast: list[float]) -> float:
    """Give how many times faster the second is: the median over the rounds."""
    ratios = [before / after for before, after in zip(slow, fast, strict=True)]
    return median(ratios)


def climb(config: Config, run: Run, x: Tensor, labels: Tensor) -> dict[str, float]:
    """Time forward and backward pass of each rung, on a batch of static images. Returns: ms of each."""
    net = Net(config.num_hidden, config.beta).to(run.device)
    works: Works = {}
    for name, rung in LADDER.items():
        works[name] = partial(gradients, net, rung, x, labels)
    title = f"784-{config.num_hidden}-10, T {len(x)}, B {len(labels)}"
    spent = race(run, title, works)
    ratio = gain(spent[FIRST], spent[LAST])
    run.measure(
        "whole ladder: gain",
        ratio,
        "x",
        at_least={"quick": 1.5, "cpu": 5},
        headline=True,
        speed=True,
    )
    medians = {name: median(spans) for name, spans in spent.items()}
    draw_ladder(run, medians)
    saved = {}
    for before, after in pairwise(medians):
        saved[after] = medians[before] - medians[after]
    most = max(saved, key=saved.__getitem__)
    whole = medians[FIRST] - medians[LAST]
    run.say(f"Of the {whole:.1f} ms that the ladder saves, {saved[most]:.1f} are saved by one rung: {most}.")
    return medians


def title_of_ladder(medians: dict[str, float]) -> str:
    """Say the time of the last rung."""
    share = 100 * medians[LAST] / medians[FIRST]
    return f"The last of {len(medians)} ways takes {share:.0f} % of the first one's time"


def draw_ladder(run: Run, medians: dict[str, float]) -> None:
    """Draw the time of each rung."""
    title = title_of_ladder(medians)
    fig, (ax,) = figures.new(title, size=(7.5, 3))
    for name, spent in medians.items():
        colour = figures.BLUE if name == LAST else figures.GREY
        bar = ax.barh(name, spent, color=colour)
        ax.bar_label(bar, fmt="%.1f", padding=3)
    ax.margins(x=0.15)
    ax.invert_yaxis()
    ax.set_xlabel("forward and backward pass of a batch, ms")
    run.figure(fig, "ladder")


# %% [markdown]
# ## What to keep
#
# - Weights: `nn.Linear`, learnt, the same at each step. Dynamics: `snn.Leaky`, no weights,
#   a membrane for each neuron and image.
# - The forward pass is a loop over time; spikes go up through all layers within a step,
#   membranes go on to the next step.
# - A reset by subtraction takes one threshold a step. Under a strong current a membrane
#   climbs above it, and what has piled up is there when the next image comes.
# - Shapes are `[num_steps, batch, features]`. Let the three numbers differ while you test.
# - Read the answer from all steps: `spk2_rec.sum(0).argmax(1)`.
# - `utils.reset(net)` before each batch, on the module whose direct children the neurons
#   are. Does the second batch give the same as if it came first?
# - *Trying to backward through the graph a second time*: a membrane of the last batch is
#   still there. Reset; do not retain the graph.
# - Fast: all steps of a layer at once, nothing still computed twice, one operation for the
#   neurons.
#
# ## Going deeper: neurons alone, and other libraries
#
# How much of the gain is the neurons'? Here they run alone, from currents to gradients, for
# short and long sequences. The longer a sequence, the more `cur[t]` costs on the way back:
# each of its $T$ gradients has the size of all $T$ steps, which makes $T^2$.
#
# With `--peers` the neurons of SpikingJelly, Norse and sinabs run beside them, where they
# are installed. **They compute a different neuron.** snnTorch takes the threshold away
# *after* the decay, so a spike leaves the same hole whatever `beta` is; the three others
# before it (lesson 01):
#
# $$\text{snnTorch: } U[t] = \beta\,U[t-1] + I[t] - S[t-1]\,U_{thr}$$
#
# $$\text{the others: } U[t] = \beta\,(U[t-1] - S[t-1]\,U_{thr}) + I[t]$$
#
# Neither is wrong. But weights trained with one do not give the same spikes in the other.
# `neurons.leaky` knows both (`reset="subtract first"` is the second), so each library is
# compared with the course's neuron of either convention: with its own it must agree to the
# last spike.


# %%
Shape = tuple[int, int, int]  # [T, B, N] of timed neurons
SMALL: list[Shape] = [(25, 32, 200), (100, 16, 64)]
FULL: list[Shape] = [(25, 128, 1000), (100, 64, 256), (784, 64, 128)]
SHAPES = {"quick": SMALL, "cpu": FULL, "gpu": FULL}
Forwards = dict[str, Any]  # ways from currents to spikes, by name; None: not installed
LIKE_PEERS = "compiled scan, reset before the decay"


def like_peers(lif: snn.Leaky, cur: Tensor) -> Pair:
    """Run compiled neurons that subtract the threshold before the decay."""
    with twins.forced(True):
        return neurons.leaky(cur, lif.beta, lif.threshold, "subtract first")


def differentiate(forward: Callable[[Tensor], Any], cur: Tensor) -> None:
    """Go forward and back; forward gives spikes and membranes, or as other libraries do the spikes alone."""
    spk = forward(cur)
    if isinstance(spk, tuple):
        spk, _ = spk
    arriving = cur.detach()  # a gradient for each spike: one number for all would be read only once
    torch.autograd.grad(spk, cur, arriving)


def time_neurons(config: Config, run: Run) -> None:
    """Time neurons alone, from currents [T, B, N] to their gradients, and other libraries beside them."""
    lif = snn.Leaky(beta=0.9).to(run.device)
    forwards: Forwards = {
        "snn.Leaky, cur[t]": partial(by_index, lif),
        "snn.Leaky, unbind": partial(by_unbind, lif),
        FUSED: partial(fused, lif),
        LAST: partial(compiled, lif),
    }
    others = compare_peers(run) if config.peers else {}
    if others:
        forwards[LIKE_PEERS] = partial(like_peers, lif)
        forwards |= others
    for shape in SHAPES[run.scale]:
        race_neurons(run, shape, forwards, others)


def race_neurons(run: Run, shape: Shape, forwards: Forwards, others: Forwards) -> None:
    """Time neurons on currents of one shape."""
    cur = 0.4 * torch.rand(shape, device=run.device)
    cur.requires_grad_()
    works: Works = {}
    for name, forward in forwards.items():
        works[name] = forward and partial(differentiate, forward, cur)
    spent = race(run, f"Neurons alone, {shape}", works)
    for name in (FUSED, LAST):
        ratio = gain(spent["snn.Leaky, unbind"], spent[name])
        run.measure(f"{name}: gain over snn.Leaky, T {shape[0]}", ratio, "x")
    ahead = []
    for name in others:
        if name in spent:
            ratio = gain(spent[name], spent[LIKE_PEERS])
            ahead.append(ratio)
    if ahead:
        name = f"gain over the fastest peer, T {shape[0]}"
        goal = {"cpu": 4 if shape[0] == 25 else 8}
        run.measure(name, min(ahead), "x", at_least=goal, speed=True)


def compare_peers(run: Run) -> Forwards:
    """Count the spikes of other libraries that differ from the course's. Returns: their forward passes.

    In float64, where rounding moves no spike.
    """
    cur = 0.4 * torch.rand(100, 16, 64, device=run.device)  # [T, B, N]
    cur = cur.double()
    beta = torch.tensor(0.9, dtype=torch.float64)
    first, _ = neurons.leaky(cur, beta, reset="subtract first")
    after, _ = neurons.leaky(cur, beta, reset="subtract")
    forwards = peers(0.9)
    rows: list[list[Any]] = []
    for name, forward in forwards.items():
        if forward is None:
            rows.append([name, "not installed", ""])
            continue
        theirs = forward(cur).double()
        same = spikes_apart(theirs, first)
        other = spikes_apart(theirs, after)
        run.measure(f"{name}: spikes unlike ours, same convention", same)
        rows.append([name, same, other])
    columns = ["library", "reset before the decay", "reset after it (snnTorch)"]
    run.table("Spikes that differ from the course's neuron", columns, rows)
    apart = spikes_apart(first, after)
    run.say(
        f"On the same currents snn.Leaky's neuron sends {int(after.sum())} spikes, the one that resets "
        f"before the decay {int(first.sum())}; they differ in {apart} places. That is what a change of "
        "library costs where the weights stay."
    )
    return forwards


# %%
def load_digits(config: Config, run: Run) -> tuple[Digits, Digits]:
    """Give MNIST to train on and to test on."""
    found = []
    tests = max(1000, config.images // 6)
    for split, size in {"train": config.images, "test": tests}.items():
        images = data.load("mnist", split).subset(size)
        run.uses(images)
        found.append(shown(config, run, images))
    return found[0], found[1]


def shown(config: Config, run: Run, images: data.Images) -> Digits:
    """Put images on the device, to be shown as the settings say."""
    x = images.images.flatten(1).to(run.device)
    y = images.labels.to(run.device)
    return Digits(x, y, config.num_steps, config.batch_size)


def main(config: Config, run: Run) -> None:
    digits, tests = load_digits(config, run)
    batch = digits.batch(torch.arange(config.batch_size))
    draw_network(config, run)
    net = train(config, run, digits)
    show_spikes(run, net, tests)
    show_shapes(config, run)
    swapped = swap_time_and_batch(run, net, tests)
    right = read_counts(run, net, tests)
    carry_over(run, net, tests, right, swapped)
    prove_reset(config, run)
    second_backward(config, run, batch)
    prove_equal(config, run, *batch)
    climb(config, run, *batch)
    time_neurons(config, run)  # going deeper


if __name__ == "__main__":
    lesson.start(main, Config, SCALES)
