"""Lesson 14: loss and regularisation.

Question: How few spikes does a network need, and what does each saved spike cost in accuracy?
Reading:  Eshraghian et al. (2023) sec. III-E; Cramer et al. (2022); snntorch.functional.reg.
Run:      python lessons/14_loss_and_regularization.py
Expect:   16.4 ± 0.6 times fewer spikes, and 7.9 ± 1.2 times fewer SynOps, for 0.7 ± 0.1 points of MNIST
          accuracy; L1's busiest neuron fires 11 ± 4 times as often as L2's. 3 seeds, 14 CPU minutes. Quick
          scale: 20 seconds.
"""

# %% [markdown]
# On a neuromorphic chip a spike that does not happen costs next to nothing. Nothing in the
# losses of lesson 09 asks for few spikes, so a network fires as much as it likes. In this
# lesson you take a trained network and make it sparse. You
#
# 1. count what its spikes cost,
# 2. write three terms that ask for fewer: L1, L2, and a budget,
# 3. train the network on, with each of them in several strengths,
# 4. see whom each of them silences,
# 5. draw accuracy against spikes, and find the sweet spot,
# 6. catch a training that went too far.

# %%
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

sys.path.insert(0, str(Path(globals().get("__file__", "any.py")).resolve().parents[1]))  # where snn_course is

from snn_course.runs import figures, lesson, parallel
from snn_course import data
from snn_course.costs import operations
from snn_course.networks import neurons, training

import numpy as np
import torch
from snntorch.functional import reg
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, relu


@dataclass(frozen=True)
class Config(lesson.Config):
    images: Annotated[int, lesson.Range(1000, 55_000)] = 55_000
    """Number of MNIST training images; 5000 others choose among the points."""

    epochs: Annotated[int, lesson.Range(1, 100)] = 4
    """Passes over them that train the network."""

    more_epochs: Annotated[int, lesson.Range(1, 100)] = 3
    """Passes that train it on, for each point, with a price on spikes."""

    num_steps: Annotated[int, lesson.Range(2, 100)] = 10
    """Time steps for which the network sees an image."""

    workers: Annotated[int, lesson.Range(0, 256)] = 0
    """Points that are trained side by side on this machine; 0: one for each core."""

    cluster: str | None = None
    """Address of a Dask scheduler, such as tcp://192.168.1.10:8786, to spread the points over machines."""


SCALES: lesson.Scales = {
    "quick": {"images": 3000, "epochs": 2, "more_epochs": 2, "num_steps": 5, "workers": 1},
    "cpu": {"seeds": 3},
    "gpu": {"seeds": 3, "epochs": 15, "more_epochs": 10},
}

# %% [markdown]
# ## 1. What spikes cost
#
# A spike makes work wherever its axon ends: each connection that it meets adds a weight to
# a membrane. One such addition is a *synaptic operation* (SynOp). On neuromorphic hardware
# it stands for the fetching of a weight from memory and the adding, and much of a chip's
# energy goes there; so energy grows with SynOps. A neuron with many connections makes dear
# spikes:
#
# $$\text{SynOps} = \sum_{\text{layers}} \text{spikes of the layer} \times
# \text{connections of one neuron} .$$
#
# Two more things to know. A spike that does not happen is free only where the hardware
# skips zeros: a GPU multiplies them all. And SynOps are not all: membranes leak at every
# step, whether there are spikes or not (lesson 17 adds that up).
#
# Our network has 784 pixels, two layers of 500 hidden neurons, and 10 classes. A spike of
# the first layer costs 500 SynOps, one of the second 10. So an image that makes 900 spikes
# in the first layer and 600 in the second costs
#
# $$900 \times 500 + 600 \times 10 = 456\,000 \text{ SynOps} .$$
#
# The first layer makes nearly all of them. Two networks with as many spikes may differ
# widely in SynOps: it matters *where* a spike is saved. (The table of chapter 3 has the
# spikes of layer 1 beside the sum, for each network that is trained.)
#
# The pixels are no part of this sum. They are numbers, not spikes: what they do at the
# first layer are multiplications, once for each image, however sparse the network is.
# (Lesson 17 counts those, too.) The output neurons only add up; they never fire.


# %%
HIDDEN = 500  # neurons in each of the two hidden layers
BETA = 0.9


class Net(nn.Module):
    """784 pixels, two layers of hidden neurons, 10 classes; a still image is shown for ``num_steps``."""

    def __init__(
        self,
        num_steps: int,
        surrogate: neurons.Surrogate = neurons.ATAN,
    ) -> None:
        super().__init__()
        self.fc1 = nn.Linear(784, HIDDEN)
        self.fc2 = nn.Linear(HIDDEN, HIDDEN)
        self.fc3 = nn.Linear(HIDDEN, 10)
        self.num_steps = num_steps
        self.surrogate = surrogate

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Give the spikes [T, B, H] of both hidden layers, and the output's membrane [T, B, 10]."""
        # neurons.leaky is snn.Leaky over all steps at once (lesson 08 proves it equal)
        slope = self.surrogate
        steps = self.num_steps
        cur = self.fc1(x)  # [B, H]: a still image is multiplied once, and shown ``num_steps`` times
        spk1, _ = neurons.leaky(cur, BETA, num_steps=steps, surrogate=slope)
        cur = self.fc2(spk1)  # [T, B, H]
        spk2, _ = neurons.leaky(cur, BETA, surrogate=slope)
        cur = self.fc3(spk2)  # [T, B, 10]
        _, mem = neurons.leaky(cur, BETA, reset="none")  # the output adds up; it never fires
        return spk1, spk2, mem


# %% [markdown]
# ### Measure them
#
# `measure` shows a network all images of a set and counts. The helper's `Counter` listens
# at each layer: where a spike comes in, it counts the weights that the spike meets. That is
# an automatic count, and it should give what the formula gives by hand. `prove_synops`
# compares the two.
#
# Beside accuracy, spikes and SynOps it notes each hidden neuron's *rate*: its spikes per
# step, 0 to 1. A neuron whose rate is exactly 0, for every image of the set, is called
# *dead*.


# %%
Point = dict[str, Any]  # a trained network's name, strength, and what was measured of it
NOISES = (0.3, 0.6)  # standard deviations, of pixels 0 to 1


def parts(shown: data.Images) -> Iterator[tuple[Tensor, Tensor]]:
    """Give 500 images at a time, [B, 784] from 0 to 1, and their labels [B]."""
    images_of_parts = shown.images.split(500)
    labels_of_parts = shown.labels.split(500)
    for x, y in zip(images_of_parts, labels_of_parts, strict=True):
        yield x.flatten(1) / 255, y


def count_right(mem: Tensor, y: Tensor) -> int:
    """Count the right answers: the class with the highest mean membrane, from [T, B, 10] and labels [B]."""
    answers = mem.mean(0).argmax(1)
    return int((answers.cpu() == y).sum())


@torch.no_grad()
def measure(net: Net, shown: data.Images) -> Point:
    """Measure a network on images.

    Returns:
        Accuracy in %, mean spikes and SynOps of an image, the spikes of each layer, how many hidden neurons
        never fire, and the rate of each hidden neuron in spikes per step.
    """
    device = net.fc1.weight.device
    right = 0
    fired = torch.zeros(2 * HIDDEN, dtype=torch.float64, device=device)
    counter = operations.Counter(net)
    with counter:
        for x, y in parts(shown):
            spk1, spk2, mem = net(x.to(device))
            right += count_right(mem, y)
            fired += torch.cat([spk1.sum((0, 1)), spk2.sum((0, 1))])  # over time and images
    per_image = fired.cpu() / len(shown)  # [2 H]
    counted = operations.Operations.sum(counter.per_sample(len(shown)))  # over the layers
    first, second = per_image.split(HIDDEN)
    return {
        "accuracy": 100 * right / len(shown),
        "spikes": float(per_image.sum()),
        "synops": counted.acs,  # acs: operations that are additions
        "by layer": [float(first.sum()), float(second.sum())],
        "dead": int((per_image == 0).sum()),
        "rates": (per_image / net.num_steps).tolist(),
    }


def synops_of(spk1: Tensor, spk2: Tensor) -> float:
    """Give the SynOps of an image, as a mean over B, from the spikes [T, B, H] of both hidden layers."""
    # exercise: the spikes of each layer, times the connections of one of its neurons
    first = HIDDEN * int(spk1.sum())
    second = 10 * int(spk2.sum())
    batch = spk1.shape[1]
    return (first + second) / batch
    # end


@torch.no_grad()
def prove_synops(config: Config, run: lesson.Run) -> None:
    """Compare the helper's counter with the formula: 500 connections from layer one, 10 from layer two."""
    net = Net(config.num_steps)
    few = images(config)["test"].subset(500)
    found = measure(net, few)
    spk1, spk2, _ = net(few.images.flatten(1) / 255)
    by_hand = synops_of(spk1, spk2)
    error = abs(found["synops"] / by_hand - 1)
    run.proof("SynOps = spikes x connections, relative", error, at_most=1e-9)


# %% [markdown]
# ## 2. Three ways to ask for fewer
#
# A *regulariser* is a second term of the loss; its strength is a knob between accuracy and
# spikes. Let $r_i$ be the *rate* of hidden neuron $i$: its mean spikes per step over a
# batch. Then
#
# $$\text{L1: } s \cdot \text{mean}(r_i) \qquad \text{L2: } s \cdot \text{mean}(r_i^2)$$
#
# $$\text{budget: } 100 \cdot \text{mean}\left( (r_i - high)_+^2 + (low - r_i)_+^2 \right)$$
#
# where $(x)_+$ is $x$ if positive, else 0, and $s$ is the strength. (For the budget the knob
# is $high$ itself.) The loss of a batch is cross-entropy plus one of these.
#
# Look at their slopes. L1 pulls at each spike with the same force, whoever fires it: a
# neuron that fires rarely can be pulled to 0. L2 pulls in proportion to the rate: hard at
# the busy, hardly at the quiet. (Mind the order: the square of the *mean* rate is another
# price. It knows the sum of all spikes only, and pulls at all neurons alike, as L1 does.) A
# *budget* leaves each neuron alone between a lowest and a highest rate; above it pulls
# down, below it pulls up.
#
# An example: one neuron at rate 0.2, another at 0.02, and strength 1. L1 pulls with 1, at
# both. L2 pulls at the first with $2 \times 0.2 = 0.4$, at the second with 0.04: ten times
# less. A budget with $high$ = 0.1 pulls at the first with $100 \times 2 \times 0.1 = 20$,
# and lets the second be. (All of them divided by the number of neurons, as means are.)
#
# The gradient goes through the spikes, so by the surrogate gradient of lesson 07: the price
# reaches a weight while the membrane is *near the threshold*. That cuts both ways. A neuron
# far above threshold hears little of the price. And a neuron that has fallen silent, far
# below, hears little of anything, of the price or of the loss. Whether a dead neuron can
# come back depends on the tails of the surrogate: chapter 6 tries to wake some. The lower
# end of a budget works before that: it holds neurons back while they still hear well.
#
# `prove_penalties` compares the gradients with these slopes. Then a figure draws the pull
# against the rate: a level line, a slanted line, and one that is 0 in between and turns
# below 0 at the very left, where the budget asks for *more* spikes.


# %%
PLAIN = "plain"
LOW = 0.002  # lowest rate of the budget
PULL = 100.0  # its strength


def penalty(kind: str, strength: float, rate: Tensor) -> Tensor:
    """Give the regulariser of a batch.

    Args:
        kind: "L1", "L2" or "budget".
        strength: the factor s of L1 and L2; of a budget the highest rate that is free.
        rate: of each hidden neuron [N], in spikes per step.

    Returns:
        One number, to be added to the loss.
    """
    # exercise: L1, L2, and the budget, whose ``strength`` is its highest free rate
    if kind == "L1":
        return strength * rate.mean()
    if kind == "L2":
        return strength * rate.square().mean()
    above = relu(rate - strength)
    below = relu(LOW - rate)
    return PULL * (above.square() + below.square()).mean()
    # end


def prove_penalties(run: lesson.Run) -> None:
    """Compare the gradient of each regulariser with its slope, and L1 with snnTorch's."""
    rate = torch.tensor([0.0, LOW / 2, 0.01, 0.05, 0.3]).double().requires_grad_()
    high = 0.05
    above = (rate - high).clamp(min=0)
    below = (LOW - rate).clamp(min=0)
    wanted = {
        "L1": torch.full_like(rate, 3.0),
        "L2": 3.0 * 2 * rate,
        "budget": PULL * 2 * (above - below),
    }
    for kind, slope in wanted.items():
        strength = high if kind == "budget" else 3.0
        error = slope_of(kind, strength, rate) - slope
        worst = error.abs().max() / len(rate)  # slope_of gives N times the gradient
        run.proof(f"{kind}: gradient = derivative", worst.item())
    spk = torch.zeros(4, 8, 5)  # [T, B, N]
    spk[::2, ::3] = 1
    theirs = reg.l1_rate_sparsity(3.0 / spk.numel())  # it takes the sum where we take the mean
    own = penalty("L1", 3.0, spk.mean((0, 1)))
    error = theirs(spk) - own
    run.proof("L1 = snnTorch's l1_rate_sparsity", error.abs().item())


def slope_of(kind: str, strength: float, rate: Tensor) -> Tensor:
    """Give the pull of a regulariser on each of N neurons, for rates [N]: N times its gradient."""
    price = penalty(kind, strength, rate)
    (grad,) = torch.autograd.grad(price, rate)
    return len(rate) * grad


def title_of_penalties(quiet: dict[str, float], busy: dict[str, float]) -> str:
    """Say how hard each regulariser pulls at a quiet neuron, and at a busy one."""
    told = []
    for kind, pull in busy.items():
        told.append(f"{kind} {quiet[kind]:.3g} and {pull:.3g}")
    return "Pull at a neuron of rate 0.02, and of 0.2: " + ", ".join(told)


def draw_penalties(run: lesson.Run) -> None:
    """Draw the pull of each regulariser on a neuron, against its rate."""
    fig, (ax,) = figures.new("", size=(7.5, 3.4))
    rate = torch.linspace(0, 0.2, 401, requires_grad=True)
    strengths = {"L1": 5.0, "L2": 50.0, "budget": 0.05}
    quiet = {}
    busy = {}
    for kind, strength in strengths.items():
        pull = slope_of(kind, strength, rate)
        quiet[kind] = pull[40].item()  # at rate 0.02
        busy[kind] = pull[-1].item()
        ax.plot(rate.detach(), pull, label=f"{kind}, {strength:g}")
    ax.axhline(0, color=figures.GREY, lw=0.8)
    ax.set(xlabel="rate, spikes per step", ylabel="pull: slope of the penalty")
    figures.legend_outside(ax)
    figures.retitle(fig, title_of_penalties(quiet, busy))
    run.figure(fig, "penalties")


# %% [markdown]
# ## 3. A trained network, trained on
#
# The network is trained once, with nothing but the loss of its answers. Then each *point*
# goes on from there, with its own regulariser and strength. One point goes on without any:
# it is what the others are compared with, so that all have seen as many images. Training
# from a trained network is the usual case in practice: first it works, then it gets cheap.
#
# Three kinds of images are kept apart. Weights are trained on the first. *Held-out* images
# choose among the points. Test images tell what the chosen one is worth. (Whoever chooses
# on test images picks the luckiest network, and reports its luck.)
#
# In `train` two things change with time. The learning rate goes up for the first third, and
# down to 0 at the end. The price is multiplied with a *ramp*: it begins at 0 and is all
# there after half of the training. A full price on the first batch would push neurons far
# below their threshold, before the loss of the answers could tell which of them are needed.
#
# Where the machine can, matrices are multiplied in *bfloat16*: numbers with half the bits,
# which a processor multiplies twice as fast (lesson 10). A 0 or a 1 that goes into such a
# product is not rounded; a weight is, by at most one part in 256. The weights that Adam
# changes stay in full, and so does all that is *measured*.


# %%
BATCH = 128
LEARNING_RATE = 2e-3  # at its highest


def images(config: Config) -> dict[str, data.Images]:
    """Give the images to train on, to choose with, and to test on."""
    both = data.load("mnist", "train")
    test = data.load("mnist", "test")
    held = 5000
    if config.scale == "quick":
        held = 3000
        test = test.subset(1000)
    same_for_all = torch.Generator().manual_seed(0)
    shuffled = torch.randperm(len(both), generator=same_for_all)
    chosen_by = shuffled[:held]
    trained_on = shuffled[held : held + config.images]
    return {
        "train": take(both, trained_on),
        "held out": take(both, chosen_by),
        "test": test,
    }


def take(shown: data.Images, rows: Tensor) -> data.Images:
    """Give some images of a set, by their numbers."""
    some = shown.images[rows]
    labels = shown.labels[rows]
    return replace(shown, images=some, labels=labels)


def rates(spk1: Tensor, spk2: Tensor) -> Tensor:
    """Give the rate of each hidden neuron [2 H] in spikes [T, B, H] of the two layers."""
    first = spk1.mean((0, 1))  # [H]: over time and batch
    second = spk2.mean((0, 1))
    return torch.cat([first, second])


def learn(
    net: nn.Module,
    optimizer: torch.optim.Optimizer,
    pixels: Tensor,
    y: Tensor,
    kind: str,
    strength: float,
    ramp: float,
) -> None:
    """Take one step of training: cross entropy on the mean membrane, and a price on spikes.

    Args:
        net: the network; it gives both layers' spikes [T, B, H], and the output's membrane [T, B, 10].
        optimizer: of its weights.
        pixels: a batch of images [B, 784], as bytes.
        y: their labels [B].
        kind: the regulariser; with ``PLAIN`` spikes have no price.
        strength: of the regulariser.
        ramp: share of the price that is asked for already, 0 to 1.
    """
    # exercise: forward, the loss of the answers, the price on the rates, and the step
    spk1, spk2, mem = net(pixels / 255)
    loss = cross_entropy(mem.mean(0), y)
    if kind != PLAIN:
        loss = loss + ramp * penalty(kind, strength, rates(spk1, spk2))
    optimizer.zero_grad()
    lesson.finite(loss, net).backward()
    optimizer.step()
    # end


def train(
    net: nn.Module,
    shown: data.Images,
    epochs: int,
    kind: str = PLAIN,
    strength: float = 0.0,
) -> None:
    """Train a network with ``learn``; the learning rate rises and falls, the price rises."""
    device = next(net.parameters()).device
    optimizer = torch.optim.Adam(net.parameters(), fused=True)
    x = shown.images.flatten(1).to(device)
    y = shown.labels.to(device)
    batches: list[Tensor] = []
    for _ in range(epochs):
        batches += torch.randperm(len(y)).split(BATCH)
    for number, rows in enumerate(batches):
        done = number / len(batches)
        height = float(np.interp(done, (0, 0.3, 1), (0, 1, 0)))  # up, and down to 0
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * height
        ramp = min(1.0, 2 * done)  # the price rises over the first half, so that neurons can adapt
        with training.autocast(device):  # for one step: it keeps the rounded weights until it ends
            learn(net, optimizer, x[rows], y[rows], kind, strength, ramp)


def train_base(config: Config, device: str) -> dict[str, Tensor]:
    """Train the network from which all points go on. Returns: its weights."""
    torch.manual_seed(config.seed)
    net = Net(config.num_steps).to(device)
    train(net, images(config)["train"], config.epochs)
    weights = net.state_dict()
    return {name: weight.cpu() for name, weight in weights.items()}


def train_point(
    config: Config,
    kind: str,
    strength: float,
    base: dict[str, Tensor],
    device: str = "cpu",
) -> Point:
    """Train the base on with one regulariser, in whatever process, and measure it."""
    torch.manual_seed(config.seed)  # each point sees the same batches
    sets = images(config)
    test = sets["test"]
    net = Net(config.num_steps).to(device)
    net.load_state_dict(base)
    train(net, sets["train"], config.more_epochs, kind, strength)
    held_out = measure(net, sets["held out"])
    one_image = test.images[:1].flatten(1).to(device) / 255
    spk1, _, _ = net(one_image)
    return {
        "kind": kind,
        "strength": strength,
        "chosen by": held_out["accuracy"],
        **measure(net, test),
        "raster": spk1[:, 0].nonzero().tolist(),  # step and neuron of each spike
        "noisy": under_noise(net, test),
    }


@torch.no_grad()
def under_noise(
    net: nn.Module,
    shown: data.Images,
    strengths: tuple[float, ...] = NOISES,
) -> list[float]:
    """Give the accuracy in % for each strength of noise on the pixels; each network sees the same noise."""
    device = next(net.parameters()).device
    pixels = shown.images.flatten(1) / 255
    same_for_all = torch.Generator().manual_seed(0)
    noise = torch.randn(pixels.shape, generator=same_for_all)
    labels = shown.labels.split(500)
    found = []
    for strength in strengths:
        noisy = (pixels + strength * noise).clamp(0, 1)
        right = 0
        for x, y in zip(noisy.split(500), labels, strict=True):
            _, _, mem = net(x.to(device))
            right += count_right(mem, y)
        found.append(100 * right / len(shown))
    return found


# %% [markdown]
# ### The sweep
#
# No formula says which strength is right, so we try several of each kind, from one that
# hardly counts to one that hurts. At cpu scale each strength of L1 and L2 is some three to
# ten times the one before, and the highest free rate of the budget is halved or so; at
# quick scale a few points must do. Each point is a training of its own and needs none of
# the others, so they run side by side, in processes or on machines. One short training is
# done twice, elsewhere and here: the proof that it makes no difference.
#
# All this is done with the first seed. A further seed is there for the spread of what is
# chosen in the end, so it trains only the strengths from which that choice is made: those
# that come closest to a loss of one point. They were found with the first seed.


# %%
STRENGTHS: dict[str, tuple[float, ...]] = {
    "L1": (1.0, 3.0, 10.0, 30.0),
    "L2": (10.0, 100.0, 1000.0, 10_000.0),
    "budget": (0.05, 0.02, 0.01, 0.005),  # the highest rate that is free
}
QUICK: dict[str, tuple[float, ...]] = {  # the catch is among them
    "L1": (3.0, 300.0),
    "L2": (20.0,),
    "budget": (0.1, 0.05),
}
AGAIN: dict[str, tuple[float, ...]] = {"L1": (10.0, 30.0), "L2": (100.0, 1000.0)}  # with a further seed
BRIEF = "brief"  # the training that is done twice


def strengths_to_try(run: lesson.Run) -> dict[str, tuple[float, ...]]:
    """Give the strengths of each regulariser, for this scale and seed."""
    if run.scale == "quick":
        return QUICK
    return STRENGTHS if run.is_first_seed else AGAIN


def sweep(config: Config, run: lesson.Run, base: dict[str, Tensor]) -> dict[str, Point]:
    """Train all points side by side, resumable; tabulate what was measured on the test images."""
    device = run.device.type
    points: dict[str, tuple[Any, ...]] = {}
    points[PLAIN] = (config, PLAIN, 0.0, base, device)
    for kind, strengths in strengths_to_try(run).items():
        for strength in strengths:
            name = f"{kind} {strength:g}"
            points[name] = (config, kind, strength, base, device)
    if run.is_first_seed:
        brief = replace(config, images=1000, more_epochs=1)
        points[BRIEF] = (brief, "L1", 1.0, base, device)
    found = parallel.run_points(run, "train_point", points, config.workers, config.cluster)
    if run.is_first_seed:
        there = found.pop(BRIEF)
        here = train_point(*points[BRIEF])  # computed in this process, and in another
        apart = abs(here["spikes"] - there["spikes"])
        run.proof("a point elsewhere = the same point here", apart, at_most=0)
        tabulate(run, found)
    return found


def tabulate(run: lesson.Run, found: dict[str, Point]) -> None:
    """Tabulate what each point needs and what it knows."""
    rows = []
    for name, point in found.items():
        accuracy = point["accuracy"]
        spikes = point["spikes"]
        first, _ = point["by layer"]
        thousands = point["synops"] / 1000
        dead = float(point["dead"])
        rows.append([name, accuracy, spikes, first, thousands, dead])
    columns = ["point", "accuracy, %", "spikes", "in layer 1", "1000 SynOps", "dead neurons"]
    run.table(f"Test images; hidden neurons: {2 * HIDDEN}", columns, rows)
    plain = found[PLAIN]
    first, _ = plain["by layer"]
    run.say(
        f"Layer 1 of the plain network sends {100 * first / plain['spikes']:.0f} % of the spikes, and they "
        f"make {100 * HIDDEN * first / plain['synops']:.0f} % of the SynOps."
    )


# %% [markdown]
# ## 4. Whom does it silence?
#
# Two networks may send the same number of spikes in different patterns. Sort the neurons of
# a network by their rate, and draw the rates: L1 and L2 show their characters. The figure
# takes the two points of L1 and L2 whose spikes are most alike. Three numbers go with it:
# the highest rate of a neuron, the share of all spikes that the busiest tenth of the
# neurons sends, and the neurons that never fire.
#
# What does theory let you expect? L1 asks the same of each spike, so it leaves the busy
# neurons busy if they are useful, and takes the rare spikes first. L2 asks most of the
# busy, so it cuts the tallest rates down, and spreads the work. Look at the left end of the
# curves in the figure (the busiest neurons) and at their right end (the rarest). A rate of
# 0 has no place on a logarithmic axis: a curve plunges where the dead begin.


# %%
def most_alike(found: dict[str, Point]) -> tuple[Point, Point]:
    """Give the L1 and the L2 point whose spikes differ by the smallest factor."""
    pairs: dict[float, tuple[Point, Point]] = {}
    for one in of_kind(found, "L1"):
        for other in of_kind(found, "L2"):
            factor = one["spikes"] / other["spikes"]
            pairs[abs(np.log(factor))] = (one, other)
    return pairs[min(pairs)]


def of_kind(found: dict[str, Point], kind: str) -> list[Point]:
    """Give the points of a kind that send spikes."""
    return [point for point in firing(found) if point["kind"] == kind]


def firing(found: dict[str, Point]) -> list[Point]:
    """Give the points that send spikes at all."""
    return [point for point in found.values() if point["spikes"] > 0]


def busiest(point: Point) -> float:
    """Give the rate of the neuron that fires most."""
    return max(point["rates"])


def share_of_busiest(point: Point) -> float:
    """Give the share of all spikes, in %, that the busiest tenth of the neurons sends."""
    ordered = sorted(point["rates"], reverse=True)
    tenth = len(ordered) // 10
    return 100 * sum(ordered[:tenth]) / sum(ordered)


def patterns(run: lesson.Run, found: dict[str, Point]) -> None:
    """Compare the rates under L1 and L2, and draw them beside one image's spikes."""
    one, other = most_alike(found)
    shown = {PLAIN: found[PLAIN]}
    for point in (one, other):
        name = f"{point['kind']} {point['strength']:g}"
        shown[name] = point
    rows = []
    for name, point in shown.items():
        share = share_of_busiest(point)
        dead = float(point["dead"])
        rows.append([name, point["spikes"], busiest(point), share, dead])
    columns = ["point", "spikes", "highest rate", "busiest tenth, %", "dead"]
    run.table("Patterns", columns, rows)
    run.measure("highest rate, L1 / L2", busiest(one) / busiest(other))
    more = share_of_busiest(one) - share_of_busiest(other)
    run.measure("share of the busiest tenth, L1 - L2", more, "%")
    draw_patterns(run, shown)
    run.say(
        f"With {one['spikes']:.0f} spikes an image, L1's busiest neuron fires in {busiest(one):.2f} of "
        f"the steps and {one['dead']} neurons are dead; with {other['spikes']:.0f}, L2's fires in "
        f"{busiest(other):.2f}, and {other['dead']} are dead."
    )


def title_of_patterns(shown: dict[str, Point]) -> str:
    """Say the spikes of each network, and the highest rate of a neuron."""
    told = []
    for name, point in shown.items():
        told.append(f"{name} {point['spikes']:.0f} spikes, {busiest(point):.2f}")
    return "Spikes an image, and the rate of the busiest neuron: " + "; ".join(told)


def draw_patterns(run: lesson.Run, shown: dict[str, Point]) -> None:
    """Draw the sorted rates, and the first layer's spikes for one image."""
    title = title_of_patterns(shown)
    fig, axes = figures.new(title, columns=1 + len(shown), size=(13, 3.8))
    curves, *rasters = axes
    for ax, (name, point) in zip(rasters, shown.items(), strict=True):
        ordered = sorted(point["rates"], reverse=True)
        curves.semilogy(ordered, label=name)
        steps, places = np.array(point["raster"]).reshape(-1, 2).T
        ax.plot(steps, places, "|", ms=3)
        ax.set(title=f"{name}: {len(steps)} spikes", xlabel="step")
        ax.set_ylim(-5, HIDDEN + 5)
    curves.set_xlabel("neurons, by rate")
    curves.set_ylabel("rate, spikes per step")
    curves.set_title("all hidden neurons")
    curves.legend()
    rasters[0].set_ylabel("neuron of layer 1, one image")
    run.figure(fig, "patterns")


# %% [markdown]
# ## 5. The front, the knee, and the sweet spot
#
# Each point has an accuracy and a number of spikes. The *Pareto front* has those that no
# other point beats in both. Its *knee* is where more saving begins to cost more than
# before. The rule (Kneedle, Satopaa et al. 2011): scale both axes to 0..1, draw the line
# between the ends of the front, take the point farthest above it.
#
# An example with three points, of 10, 100 and 1000 spikes, and 80, 95 and 98 % right. The
# axis of spikes is logarithmic, so the one in the middle stands at 0.5. Its accuracy is
# 15 of the 18 points up: 0.83. It is 0.33 above the line: the knee.
#
# The ends decide where the line runs. So a network that is half dead must not be one: it
# drags the line, and the knee, down to where nobody wants to be. The knee is looked for
# among *living* networks: at least half of their hidden neurons fire for some test image.
#
# For a device at the edge the question is often simpler: I can spare one point of accuracy;
# what is the cheapest network then? It is chosen on held-out images, and reported on test
# images, so that the choice cannot flatter itself.
#
# Knee and sweet spot answer two questions, and may be two networks. The knee looks at the
# shape of the front alone. The sweet spot begins with what you can spare. It may be half
# dead, if it knows enough: then its dead neurons can be left out for good.
#
# Why spikes on the axis, and not SynOps? Spikes are what the price was on, and they are
# counted alike on every chip; what one costs differs. The run says whether SynOps would
# have chosen another network.
#
# *How to look at the figure.* On the left, far up and far left is good. The line joins the
# front; it was found on held-out images and is drawn with test accuracies, so it may dip. A
# network that lost more than 8 points lies below the panel. On the right are the same
# networks, with the neurons that never fire: which kind pays for few spikes with many dead?


# %%
def front(points: list[Point]) -> list[Point]:
    """Give the Pareto front: the points that no other beats in both spikes and accuracy.

    Args:
        points: in any order. Their accuracy is that on held-out images, ``chosen by``.

    Returns:
        The front, fewest spikes first; its accuracies rise from point to point.
    """
    # exercise: from the fewest spikes upwards, keep each point that is more accurate than all before
    kept: list[Point] = []
    for point in sorted(points, key=order):
        if not kept or point["chosen by"] > kept[-1]["chosen by"]:
            kept.append(point)
    return kept
    # end


def order(point: Point) -> tuple[float, float]:
    """Give what points are sorted by: few spikes first, among equals the more accurate."""
    return point["spikes"], -point["chosen by"]


def living(points: list[Point]) -> list[Point]:
    """Give the networks at least half of whose hidden neurons fire."""
    return [point for point in points if point["dead"] <= HIDDEN]  # of 2 * HIDDEN


def each(points: list[Point], name: str) -> list[Any]:
    """Give one of the numbers that were measured, of each point."""
    return [point[name] for point in points]


def knee(points: list[Point]) -> Point:
    """Give the point of a front farthest above the line between its ends (log spikes, both axes 0..1)."""
    if len(points) < 3:
        return points[-1]
    x = between_ends(np.log(each(points, "spikes")))
    y = between_ends(np.array(each(points, "chosen by")))
    above = y - x  # the line between the ends is y = x
    return points[int(np.argmax(above))]


def between_ends(values: Any) -> Any:
    """Scale numbers so that the first is 0 and the last is 1."""
    first = values[0]
    last = values[-1]
    return (values - first) / (last - first)


def judge(run: lesson.Run, found: dict[str, Point]) -> tuple[list[Point], Point, Point]:
    """Find front, knee, and the cheapest point within 1 point of accuracy."""
    plain = found[PLAIN]
    best = front(living(firing(found)))
    sweet = knee(best)
    cheap = choose(run, found)
    report_knee(run, plain, sweet, cheap)
    fewest = min(each(within_a_point(found), "synops"))
    run.say(
        f"Of those within a point of accuracy, the cheapest in SynOps has {fewest / 1000:.0f} thousand, the "
        f"one with the fewest spikes {cheap['synops'] / 1000:.0f} thousand."
    )
    return best, sweet, cheap


def within_a_point(found: dict[str, Point]) -> list[Point]:
    """Give the points that lose at most 1 point of accuracy, on images that are held out."""
    enough = found[PLAIN]["chosen by"] - 1
    return [point for point in firing(found) if point["chosen by"] >= enough]


def choose(run: lesson.Run, found: dict[str, Point]) -> Point:
    """Find the cheapest point within 1 point of accuracy; measure what it saves, and what it loses."""
    plain = found[PLAIN]
    cheap = min(within_a_point(found), key=order)
    fewer = plain["spikes"] / cheap["spikes"]
    goal = {"quick": 1.5, "cpu": 5.0, "gpu": 5.0}
    run.measure("fewer spikes, at most 1 point lost", fewer, "x", at_least=goal, headline=True)
    lost = plain["accuracy"] - cheap["accuracy"]
    bound = {"quick": 4, "cpu": 1.2, "gpu": 1.2}
    run.measure("points lost there, test images", lost, at_most=bound)
    run.measure("fewer SynOps there", plain["synops"] / cheap["synops"], "x")
    return cheap


def report_knee(run: lesson.Run, plain: Point, sweet: Point, cheap: Point) -> None:
    """Measure what the knee saves, and what it loses; say it beside the cheapest close point."""
    run.measure("knee: fewer spikes", plain["spikes"] / sweet["spikes"], "x")
    lost_at_knee = plain["accuracy"] - sweet["accuracy"]
    run.measure("knee: points lost, test images", lost_at_knee)
    saved = plain["spikes"] / cheap["spikes"]
    lost = plain["accuracy"] - cheap["accuracy"]
    run.say(
        f"Held-out images choose {cheap['kind']} {cheap['strength']:g}: {saved:.1f} times fewer spikes than "
        f"the plain network, for {lost:.1f} points on test images. The knee is at {sweet['kind']} "
        f"{sweet['strength']:g}."
    )


# %%
def title_of_front(plain: Point, cheap: Point) -> str:
    """Say the spikes and the accuracy of the plain network, and of the cheap one that was chosen."""
    return (
        f"Plain: {plain['accuracy']:.1f} % with {plain['spikes']:.0f} spikes; "
        f"chosen: {cheap['accuracy']:.1f} % with {cheap['spikes']:.0f}"
    )


MARKERS = {PLAIN: "*", "L1": "o", "L2": "s", "budget": "D"}


def pareto(run: lesson.Run, found: dict[str, Point]) -> Point:
    """Draw accuracy and dead neurons against spikes, the front and its knee. Returns: the chosen point."""
    best, sweet, cheap = judge(run, found)
    title = title_of_front(found[PLAIN], cheap)
    fig, (left, right) = figures.new(title, columns=2, size=(11, 4.4))
    for kind, marker in MARKERS.items():
        own = of_kind(found, kind)
        spikes = each(own, "spikes")
        left.plot(spikes, each(own, "accuracy"), marker, ms=7, label=kind)
        right.plot(spikes, each(own, "dead"), marker, ms=7, label=kind)
    draw_front(left, best, sweet, found[PLAIN]["accuracy"])
    left.set(title="Accuracy", ylabel="test accuracy, %")
    right.set(title="Dead neurons", ylabel=f"neurons that never fire, of {2 * HIDDEN}")
    right.axhline(HIDDEN, color=figures.GREY, ls=":", label="half of them")
    for ax in (left, right):
        ax.set(xscale="log", xlabel="spikes per image")
    figures.legend_outside(right)
    left.legend(loc="lower right")
    run.figure(fig, "pareto")
    return cheap


def draw_front(ax: Any, best: list[Point], sweet: Point, top: float) -> None:
    """Draw the front, its knee, and the line one point below the plain network's accuracy."""
    ax.plot(each(best, "spikes"), each(best, "accuracy"), color=figures.GREY, label="front", zorder=1)
    ax.plot(sweet["spikes"], sweet["accuracy"], "ko", ms=15, mfc="none", label="knee")
    ax.axhline(top - 1, color=figures.GREY, ls=":", label="1 point lost")
    lowest = min(top - 8, sweet["accuracy"] - 2)
    ax.set_ylim(max(0, lowest), top + 1)


# %% [markdown]
# ## 6. A catch: the cheapest network of all
#
# Someone turns the strength up. The loss falls, the penalty falls, the spikes fall: to
# zero. Energy: none. The log of the training looks fine. Which number would tell you?
#
# The *accuracy* would, and so would the number of *dead neurons*: in the table of chapter 3
# it grows while the accuracy still holds. A network without spikes answers from its biases,
# the same for each image, so it is right for about one digit in ten.
#
# So take the price away again, and train on. Do the dead wake? The loss wants them back,
# but reaches them only through the tail of the surrogate. The run tries it on a copy that a
# price of 300 has killed, with two surrogates: `atan`, whose tails never end, and a
# *window*, whose slope is exactly 0 farther than half a threshold away. What do you expect
# of each?
#
# In the table that follows, compare how many of the dead are left with each surrogate. A
# slope of exactly 0 lets no gradient through, from the loss or from anywhere else; so a
# weight of a dead neuron gets no push, however long one trains. Where a tail is left, a
# small push is enough, since Adam makes a step of usual size even of a small gradient.
#
# The cures: raise the strength slowly, as `train` does; watch the dead; give neurons a
# lowest rate; and mind the tails of the surrogate.


# %%
def catch_dead(
    config: Config,
    run: lesson.Run,
    found: dict[str, Point],
    base: dict[str, Tensor],
) -> None:
    """Catch: measure what the strongest L1 has left, and whether the dead wake when the price is gone."""
    names = [name for name in found if name.startswith("L1")]
    strongest = names[-1]
    strong = found[strongest]
    dead = 100 * strong["dead"] / (2 * HIDDEN)
    run.measure("catch: dead under the strongest L1", dead, "%")
    rows = []
    surrogates: dict[str, neurons.Surrogate] = {"atan": neurons.ATAN, "window": window}
    for name, surrogate in surrogates.items():
        killed, after = try_to_wake(config, base, surrogate, run.device.type)
        rows.append([name, float(killed), float(after)])
        still = 100 * after / max(killed, 1)
        run.measure(f"catch: dead that stay dead, {name}", still, "%")
    columns = ["surrogate", "dead", "after training on"]
    run.table("Waking the dead", columns, rows)
    run.say(
        f"{strongest}: {strong['spikes']:.1f} spikes an image, {dead:.1f} % of the neurons dead, and "
        f"{strong['accuracy']:.1f} % right. After as many epochs without a price, {rows[0][2]:.0f} of "
        f"{rows[0][1]:.0f} dead neurons are left with atan, with a window {rows[1][2]:.0f} of "
        f"{rows[1][1]:.0f}."
    )


def window(x: Tensor) -> Tensor:
    """Give a surrogate slope of 1 near the threshold, and exactly 0 farther than 0.5 away."""
    near = x.abs() < 0.5
    return near.to(x.dtype)


def try_to_wake(
    config: Config,
    base: dict[str, Tensor],
    surrogate: neurons.Surrogate,
    device: str,
) -> tuple[int, int]:
    """Kill the base with a high price, then train on without one. Returns: dead neurons, before and after."""
    torch.manual_seed(config.seed)
    sets = images(config)
    few = sets["train"].subset(1000)
    net = Net(config.num_steps, surrogate).to(device)
    net.load_state_dict(base)
    train(net, few, 5, "L1", 300.0)
    killed = measure(net, sets["test"])["dead"]
    train(net, few, 5)
    after = measure(net, sets["test"])["dead"]
    return killed, after


# %% [markdown]
# **Before you go on**, answer these without looking back:
#
# 1. Why is a spike of the first layer dearer here than one of the second?
# 2. On which hardware does a saved spike save nothing, and why?
# 3. Which of L1 and L2 silences the rare, which the busy? Where do you see it in the slope?
# 4. What does a budget do with a neuron below its lowest rate, and what is that good for?
# 5. Why does the price reach a neuron near its threshold best?
# 6. Loss, penalty and spikes fall. Which two numbers must you watch?

# %% [markdown]
# ## Going deeper: do spikes bear noise better than an ANN?
#
# "Spiking networks are robust to noise" is often said. We measure it: an ordinary network
# (ANN) with the same layers and ReLU in place of spikes, trained with the same loss, on the
# same images, for as many epochs. Both, and the sparse networks, see test images with noise
# on each pixel that none of them was trained with. Ask two questions of the table: is the
# plain spiking network ahead of the ANN? And which of the sparse ones, about equal on clean
# images, falls least under noise?
#
# A sparse network answers from fewer spikes. If noise adds or takes some, that is a larger
# part of what it has to go by. So what looks free on clean images may be paid for here.


# %%
class Plain(nn.Module):
    """The same layers with ReLU: an ordinary network, in the form of ``Net``."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(784, HIDDEN)
        self.fc2 = nn.Linear(HIDDEN, HIDDEN)
        self.fc3 = nn.Linear(HIDDEN, 10)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Give both hidden activities and the output, with one time step: [1, B, ...]."""
        first = relu(self.fc1(x[None]))
        second = relu(self.fc2(first))
        return first, second, self.fc3(second)


def noise(config: Config, run: lesson.Run, found: dict[str, Point], cheap: Point) -> None:
    """Train an ANN of equal size, and compare the accuracies under noise."""
    sets = images(config)
    torch.manual_seed(config.seed)
    net = Plain().to(run.device)
    epochs = config.epochs + config.more_epochs
    train(net, sets["train"], epochs)
    ann = under_noise(net, sets["test"], (0.0, *NOISES))
    rows = [["ANN", *ann]]
    for name, point in found.items():
        rows.append([f"SNN, {name}", *clean_and_noisy(point)])
    snn = clean_and_noisy(found[PLAIN])
    sparse = clean_and_noisy(cheap)
    names = [f"noise {strength:g}" for strength in NOISES]
    columns = ["network", "clean", *names]
    run.table("Accuracy with noise on the pixels, in %", columns, rows)
    strongest = names[-1]
    run.measure(f"{strongest}: plain SNN - ANN", snn[-1] - ann[-1], "points")
    run.measure(f"{strongest}: chosen SNN - ANN", sparse[-1] - ann[-1], "points")
    run.say(
        f"Noise of {NOISES[-1]:g} costs the ANN {ann[0] - ann[-1]:.1f} points, the plain spiking network "
        f"{snn[0] - snn[-1]:.1f}, and the chosen sparse one {sparse[0] - sparse[-1]:.1f}."
    )


def clean_and_noisy(point: Point) -> list[float]:
    """Give a point's accuracies: without noise, and with each strength of it."""
    return [point["accuracy"], *point["noisy"]]


# %%
def main(config: Config, run: lesson.Run) -> None:
    for used in images(config).values():
        run.uses(used)
    prove_synops(config, run)
    prove_penalties(run)
    draw_penalties(run)
    base = train_base(config, run.device.type)
    found = sweep(config, run, base)
    patterns(run, found)
    if not run.is_first_seed:  # the rest is measured once
        choose(run, found)
        return
    cheap = pareto(run, found)
    catch_dead(config, run, found, base)
    noise(config, run, found, cheap)  # going deeper


if __name__ == "__main__":
    lesson.start(main, Config, SCALES)
