"""Lesson 14: loss and regularisation.

Question: How few spikes does a network need, and what does each saved spike cost in accuracy?
Reading:  Eshraghian et al. (2023) sec. III-E; Cramer et al. (2022); snntorch.functional.reg.
Run:      python lessons/14_loss_and_regularization.py
Expect:   quick scale, one seed: 3.7 times fewer spikes, and 3.6 times fewer SynOps, for 0.4 points of MNIST
          accuracy; L1's busiest neuron fires 2.3 times as often as L2's. Two minutes on a busy CPU core.
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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

sys.path.insert(0, str(Path(globals().get("__file__", "any.py")).resolve().parents[1]))  # where snn_course is

from snn_course.runs import figures, lesson, parallel
from snn_course import data
from snn_course.costs import operations
from snn_course.networks import neurons

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
# the first layer costs 500 SynOps, one of the second 10.


# %%
HIDDEN, BETA = 500, 0.9


class Net(nn.Module):
    """784 pixels, two layers of hidden neurons, 10 classes; a still image is shown for ``num_steps``."""

    def __init__(self, num_steps: int, surrogate: neurons.Surrogate = neurons.ATAN) -> None:
        super().__init__()
        self.fc1 = nn.Linear(784, HIDDEN)
        self.fc2 = nn.Linear(HIDDEN, HIDDEN)
        self.fc3 = nn.Linear(HIDDEN, 10)
        self.num_steps = num_steps
        self.surrogate = surrogate

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Give the spikes [T, B, H] of both hidden layers, and the output's membrane [T, B, 10]."""
        # neurons.leaky is snn.Leaky over all steps at once (lesson 09 proves it equal)
        cur = self.fc1(x)  # [B, H]: a still image is multiplied once, and shown ``num_steps`` times
        spk1, _ = neurons.leaky(cur, BETA, num_steps=self.num_steps, surrogate=self.surrogate)
        spk2, _ = neurons.leaky(self.fc2(spk1), BETA, surrogate=self.surrogate)
        _, mem = neurons.leaky(self.fc3(spk2), BETA, reset="none")
        return spk1, spk2, mem


# %%
Point = dict[str, Any]  # a trained network's name, strength, and what was measured of it
NOISES = (0.3, 0.6)  # standard deviations, of pixels 0 to 1


@torch.no_grad()
def measure(net: Net, shown: data.Images) -> Point:
    """Measure accuracy in %, spikes and SynOps for an image, and the rate of each hidden neuron."""
    device = net.fc1.weight.device
    right = 0
    fired = torch.zeros(2 * HIDDEN, dtype=torch.float64, device=device)
    counter = operations.Counter(net)
    with counter:
        for x, y in zip(shown.images.split(1000), shown.labels.split(1000), strict=True):
            spk1, spk2, mem = net(x.flatten(1).to(device) / 255)
            right += int((mem.mean(0).argmax(1).cpu() == y).sum())
            fired += torch.cat([spk1, spk2], 2).sum((0, 1))  # [2 H]
    per_image = fired.cpu() / len(shown)
    return {
        "accuracy": 100 * right / len(shown),
        "spikes": float(per_image.sum()),
        "synops": operations.Operations.sum(counter.per_sample(len(shown))).acs,
        "by layer": [float(part.sum()) for part in per_image.split(HIDDEN)],
        "dead": int((per_image == 0).sum()),
        "rates": (per_image / net.num_steps).tolist(),  # spikes per step
    }


def prove_synops(config: Config, run: lesson.Run) -> None:
    """Compare the helper's counter with the formula: 500 connections from layer one, 10 from layer two."""
    net = Net(config.num_steps)
    found = measure(net, images(config)["test"].subset(500))
    first, second = found["by layer"]
    # exercise: the SynOps of an image, from the spikes of the two layers
    by_hand = HIDDEN * first + 10 * second
    # end
    run.proof("SynOps = spikes x connections, relative", abs(found["synops"] / by_hand - 1), at_most=1e-9)


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
# where $(x)_+$ is $x$ if positive, else 0. Look at their slopes. L1 pulls at each spike
# with the same force, whoever fires it: a neuron that fires rarely can be pulled to 0. L2
# pulls in proportion to the rate: hard at the busy, hardly at the quiet. A *budget* leaves
# each neuron alone between a lowest and a highest rate; above it pulls down, below it pulls
# up.
#
# The gradient goes through the spikes, so by the surrogate gradient of lesson 07: the price
# reaches a weight while the membrane is *near the threshold*. That cuts both ways. A neuron
# far above threshold hears little of the price. And a neuron that has fallen silent, far
# below, hears little of anything, of the price or of the loss. A neuron that fires for no
# image is called *dead*. How dead it is depends on the tails of the surrogate: chapter 6
# tries to wake some. The lower end of a budget works before that: it holds neurons back
# while they still hear well.


# %%
PLAIN = "plain"
LOW, PULL = 0.002, 100.0  # of the budget: lowest rate, strength


def penalty(kind: str, strength: float, rate: Tensor) -> Tensor:
    """Give the regulariser of the rates [N] of all hidden neurons, in spikes per step."""
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
    rate = torch.tensor([0.0, LOW / 2, 0.01, 0.05, 0.3], dtype=torch.float64, requires_grad=True)
    outside = (rate - 0.05).clamp(min=0) - (LOW - rate).clamp(min=0)
    wanted = {"L1": 0 * rate + 3.0, "L2": 3.0 * 2 * rate, "budget": PULL * 2 * outside}
    for kind, slope in wanted.items():
        strength = 0.05 if kind == "budget" else 3.0
        (grad,) = torch.autograd.grad(penalty(kind, strength, rate), rate)
        error = (grad - slope / len(rate)).abs().max()
        run.proof(f"{kind}: gradient = derivative", error.item())
    spk = torch.zeros(4, 8, 5)  # [T, B, N]
    spk[::2, ::3] = 1
    theirs = reg.l1_rate_sparsity(3.0 / spk.numel())  # it takes the sum where we take the mean
    error = theirs(spk) - penalty("L1", 3.0, spk.mean((0, 1)))
    run.proof("L1 = snnTorch's l1_rate_sparsity", error.abs().item())


def title_of_penalties(quiet: dict[str, float], busy: dict[str, float]) -> str:
    """Say by how much each regulariser pulls harder at a busy neuron than at a quiet one."""
    told = [f"{kind} {pull - quiet[kind]:.3g}" for kind, pull in busy.items()]
    return "Pull at rate 0.2 above that at rate 0.02: " + ", ".join(told)


def draw_penalties(run: lesson.Run) -> None:
    """Draw the pull of each regulariser on a neuron, against its rate."""
    fig, (ax,) = figures.new("", size=(7.5, 3.4))
    rate = torch.linspace(0, 0.2, 401, requires_grad=True)
    quiet = {}
    busy = {}
    for kind, strength in (("L1", 5.0), ("L2", 50.0), ("budget", 0.05)):
        (grad,) = torch.autograd.grad(penalty(kind, strength, rate), rate)
        pull = len(rate) * grad
        quiet[kind] = pull[40].item()  # at rate 0.02
        busy[kind] = pull[-1].item()
        ax.plot(rate.detach(), pull, label=f"{kind}, {strength:g}")
    ax.axhline(0, color=figures.GREY, lw=0.8)
    ax.set(xlabel="rate, spikes per step", ylabel="slope of the penalty")
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


# %%
BATCH, RATE = 128, 2e-3


def images(config: Config) -> dict[str, data.Images]:
    """Give the images to train on, to choose with, and to test on."""
    both = data.load("mnist", "train")
    test = data.load("mnist", "test")
    shuffled = torch.randperm(len(both), generator=torch.Generator().manual_seed(0))
    held = 1000 if config.scale == "quick" else 5000
    some = shuffled[held : held + config.images]
    return {
        "train": take(both, some),
        "held out": take(both, shuffled[:held]),
        "test": test.subset(1000) if config.scale == "quick" else test,
    }


def take(shown: data.Images, rows: Tensor) -> data.Images:
    """Give some images of a set, by their numbers."""
    return replace(shown, images=shown.images[rows], labels=shown.labels[rows])


def rates(spk1: Tensor, spk2: Tensor) -> Tensor:
    """Give the rate of each hidden neuron [2 H] in spikes [T, B, H] of the two layers."""
    return torch.cat([spk1.mean((0, 1)), spk2.mean((0, 1))])


def train(net: nn.Module, shown: data.Images, epochs: int, kind: str = PLAIN, strength: float = 0.0) -> None:
    """Train a network with cross entropy on the mean membrane, and a price on spikes."""
    device = next(net.parameters()).device
    optimizer = torch.optim.Adam(net.parameters(), fused=True)
    x = shown.images.flatten(1).to(device)
    y = shown.labels.to(device)
    batches: list[Tensor] = []
    for _ in range(epochs):
        batches += torch.randperm(len(y)).split(BATCH)
    for number, rows in enumerate(batches):
        done = number / len(batches)
        height = np.interp(done, (0, 0.3, 1), (0, 1, 0))  # up, and down to 0
        optimizer.param_groups[0]["lr"] = RATE * float(height)
        # exercise: the loss of the answers, and unless the point is plain the price on the rates
        spk1, spk2, mem = net(x[rows] / 255)
        loss = cross_entropy(mem.mean(0), y[rows])
        if kind != PLAIN:
            ramp = min(1.0, 2 * done)  # the price rises over the first half, so that neurons can adapt
            loss = loss + ramp * penalty(kind, strength, rates(spk1, spk2))
        # end
        optimizer.zero_grad()
        lesson.finite(loss, net).backward()
        optimizer.step()


def train_base(config: Config, device: str) -> dict[str, Tensor]:
    """Train the network from which all points go on. Returns: its weights."""
    torch.manual_seed(config.seed)
    net = Net(config.num_steps).to(device)
    train(net, images(config)["train"], config.epochs)
    return {name: weight.cpu() for name, weight in net.state_dict().items()}


def train_point(
    config: Config, kind: str, strength: float, base: dict[str, Tensor], device: str = "cpu"
) -> Point:
    """Train the base on with one regulariser, in whatever process, and measure it."""
    torch.manual_seed(config.seed)  # each point sees the same batches
    sets = images(config)
    net = Net(config.num_steps).to(device)
    net.load_state_dict(base)
    train(net, sets["train"], config.more_epochs, kind, strength)
    chosen_by = measure(net, sets["held out"])["accuracy"]
    found = measure(net, sets["test"])
    raster = net(sets["test"].images[:1].flatten(1).to(device) / 255)[0][:, 0]  # [T, H]
    extra = {"raster": raster.nonzero().tolist(), "noisy": under_noise(net, sets["test"])}
    return {"kind": kind, "strength": strength, "chosen by": chosen_by, **found, **extra}


@torch.no_grad()
def under_noise(net: nn.Module, shown: data.Images, strengths: tuple[float, ...] = NOISES) -> list[float]:
    """Give the accuracy in % for each strength of noise on the pixels; each network sees the same noise."""
    device = next(net.parameters()).device
    pixels = shown.images.flatten(1) / 255
    noise = torch.randn(pixels.shape, generator=torch.Generator().manual_seed(0))
    found = []
    for strength in strengths:
        x = (pixels + strength * noise).clamp(0, 1)
        right = 0
        for part, y in zip(x.split(1000), shown.labels.split(1000), strict=True):
            *_, out = net(part.to(device))
            right += int((out.mean(0).argmax(1).cpu() == y).sum())
        found.append(100 * right / len(shown))
    return found


# %%
STRENGTHS: dict[str, tuple[float, ...]] = {
    "L1": (0.3, 1.0, 3.0, 10.0, 30.0),
    "L2": (1.0, 10.0, 100.0, 1000.0, 10_000.0),
    "budget": (0.1, 0.05, 0.02, 0.01, 0.005),  # the highest rate that is free
}
QUICK: dict[str, tuple[float, ...]] = {  # the catch is among them
    "L1": (3.0, 300.0),
    "L2": (20.0,),
    "budget": (0.1, 0.05),
}
BRIEF = "brief"


def sweep(config: Config, run: lesson.Run, base: dict[str, Tensor]) -> dict[str, Point]:
    """Train all points side by side, resumable; tabulate what was measured on the test images."""
    device = run.device.type
    points: dict[str, tuple[Any, ...]] = {PLAIN: (config, PLAIN, 0.0, base, device)}
    for kind, strengths in (QUICK if run.scale == "quick" else STRENGTHS).items():
        for strength in strengths:
            points[f"{kind} {strength:g}"] = (config, kind, strength, base, device)
    brief = replace(config, images=1000, more_epochs=1)
    points[BRIEF] = (brief, "L1", 1.0, base, device)
    found = parallel.run_points(run, "train_point", points, config.workers, config.cluster)
    here = train_point(*points[BRIEF])  # computed in this process, and in another
    there = found.pop(BRIEF)
    run.proof("a point elsewhere = the same point here", abs(here["spikes"] - there["spikes"]), at_most=0)
    rows = []
    for name, point in found.items():
        numbers = [point["accuracy"], point["spikes"], point["synops"] / 1000, float(point["dead"])]
        rows.append([name, *numbers])
    columns = ["point", "accuracy, %", "spikes", "1000 SynOps", "dead neurons"]
    run.table(f"Test images; hidden neurons: {2 * HIDDEN}", columns, rows)
    return found


# %% [markdown]
# ## 4. Whom does it silence?
#
# Two networks may send the same number of spikes in different patterns. Sort the neurons of
# a network by their rate, and draw the rates: L1 and L2 show their characters. The figure
# takes the two points of L1 and L2 whose spikes are most alike. Three numbers go with it:
# the highest rate of a neuron, the share of all spikes that the busiest tenth of the
# neurons sends, and the neurons that never fire.


# %%
def most_alike(found: dict[str, Point]) -> tuple[Point, Point]:
    """Give the L1 and the L2 point whose spikes differ by the smallest factor."""
    factors: dict[float, tuple[Point, Point]] = {}
    for one in of_kind(found, "L1"):
        for other in of_kind(found, "L2"):
            factors[abs(np.log(one["spikes"] / other["spikes"]))] = (one, other)
    return factors[min(factors)]


def of_kind(found: dict[str, Point], kind: str) -> list[Point]:
    """Give the points of a kind that send spikes."""
    return [point for point in found.values() if point["kind"] == kind and point["spikes"] > 0]


def share_of_busiest(point: Point) -> float:
    """Give the share of all spikes, in %, that the busiest tenth of the neurons sends."""
    ordered = sorted(point["rates"], reverse=True)
    return 100 * sum(ordered[: len(ordered) // 10]) / sum(ordered)


def patterns(run: lesson.Run, found: dict[str, Point]) -> None:
    """Compare the rates under L1 and L2, and draw them beside one image's spikes."""
    one, other = most_alike(found)
    shown = {PLAIN: found[PLAIN]}
    for point in (one, other):
        shown[f"{point['kind']} {point['strength']:g}"] = point
    rows = []
    for name, point in shown.items():
        numbers = [max(point["rates"]), share_of_busiest(point), float(point["dead"])]
        rows.append([name, point["spikes"], *numbers])
    run.table("Patterns", ["point", "spikes", "highest rate", "busiest tenth, %", "dead"], rows)
    run.measure("highest rate, L1 / L2", max(one["rates"]) / max(other["rates"]))
    run.measure("share of the busiest tenth, L1 - L2", share_of_busiest(one) - share_of_busiest(other), "%")
    draw_patterns(run, shown)
    run.say(
        f"With {one['spikes']:.0f} spikes an image, L1's busiest neuron fires in {max(one['rates']):.2f} of "
        f"the steps and {one['dead']} neurons are dead; with {other['spikes']:.0f}, L2's fires in "
        f"{max(other['rates']):.2f}, and {other['dead']} are dead."
    )


def title_of_patterns(shown: dict[str, Point]) -> str:
    """Say the spikes of each network, and the highest rate of a neuron."""
    told = [f"{name} {p['spikes']:.0f} spikes, {max(p['rates']):.2f}" for name, p in shown.items()]
    return "Spikes an image, and the rate of the busiest neuron: " + "; ".join(told)


def draw_patterns(run: lesson.Run, shown: dict[str, Point]) -> None:
    """Draw the sorted rates, and the first layer's spikes for one image."""
    fig, axes = figures.new(title_of_patterns(shown), columns=1 + len(shown), size=(13, 3.8))
    for ax, (name, point) in zip(axes[1:], shown.items(), strict=True):
        axes[0].semilogy(sorted(point["rates"], reverse=True), label=name)
        steps = [step for step, _ in point["raster"]]
        places = [neuron for _, neuron in point["raster"]]
        ax.plot(steps, places, "|", ms=3)
        ax.set(title=f"{name}: {len(steps)} spikes", xlabel="step", ylim=(-5, HIDDEN + 5))
    axes[0].set(xlabel="neurons, by rate", ylabel="rate, spikes per step", title="all hidden neurons")
    axes[0].legend()
    axes[1].set_ylabel("neuron of layer 1, one image")
    run.figure(fig, "patterns")


# %% [markdown]
# ## 5. The front, the knee, and the sweet spot
#
# Each point has an accuracy and a number of spikes. The *Pareto front* has those that no
# other point beats in both. Its *knee* is where more saving begins to cost more than
# before. The rule (Kneedle, Satopaa et al. 2011): scale both axes to 0..1, draw the line
# between the ends of the front, take the point farthest above it.
#
# The ends decide where the line runs. So a network that is half dead must not be one: it
# drags the line, and the knee, down to where nobody wants to be. The knee is looked for
# among *living* networks: at least half of their hidden neurons fire for some test image.
#
# For a device at the edge the question is often simpler: I can spare one point of accuracy;
# what is the cheapest network then? It is chosen on held-out images, and reported on test
# images, so that the choice cannot flatter itself.


# %%
def front(points: list[Point]) -> list[Point]:
    """Give the Pareto front, fewest spikes first: points that no other beats in spikes and accuracy."""
    kept: list[Point] = []
    # exercise: from the fewest spikes upwards, keep each point that is more accurate than all before
    for point in sorted(points, key=order):
        if not kept or point["chosen by"] > kept[-1]["chosen by"]:
            kept.append(point)
    # end
    return kept


def order(point: Point) -> tuple[float, float]:
    """Give what points are sorted by: few spikes first, among equals the more accurate."""
    return point["spikes"], -point["chosen by"]


def living(points: list[Point]) -> list[Point]:
    """Give the networks at least half of whose hidden neurons fire."""
    return [point for point in points if point["dead"] <= HIDDEN]


def knee(points: list[Point]) -> Point:
    """Give the point of a front farthest above the line between its ends (log spikes, both axes 0..1)."""
    if len(points) < 3:
        return points[-1]
    x = np.log([point["spikes"] for point in points])
    y = np.array([point["chosen by"] for point in points])
    x = (x - x[0]) / (x[-1] - x[0])  # the ends are (0, 0) and (1, 1)
    y = (y - y[0]) / (y[-1] - y[0])
    return points[int(np.argmax(y - x))]


def judge(run: lesson.Run, found: dict[str, Point]) -> tuple[list[Point], Point, Point]:
    """Find front, knee, and the cheapest point within 1 point of accuracy."""
    plain = found[PLAIN]
    firing = [point for point in found.values() if point["spikes"] > 0]
    best = front(living(firing))
    sweet = knee(best)
    close = [p for p in firing if p["chosen by"] >= plain["chosen by"] - 1]  # on images that are held out
    cheap = min(close, key=order)
    goal = {"quick": 1.5, "cpu": 5.0, "gpu": 5.0}
    fewer = plain["spikes"] / cheap["spikes"]
    run.measure("fewer spikes, at most 1 point lost", fewer, "x", at_least=goal, headline=True)
    lost = plain["accuracy"] - cheap["accuracy"]
    run.measure("points lost there, test images", lost, at_most={"quick": 4, "cpu": 1.2, "gpu": 1.2})
    run.measure("fewer SynOps there", plain["synops"] / cheap["synops"], "x")
    run.measure("knee: fewer spikes", plain["spikes"] / sweet["spikes"], "x")
    run.measure("knee: points lost, test images", plain["accuracy"] - sweet["accuracy"])
    run.say(
        f"Held-out images choose {cheap['kind']} {cheap['strength']:g}: {fewer:.1f} times fewer spikes than "
        f"the plain network, for {lost:.1f} points on test images. The knee is at {sweet['kind']} "
        f"{sweet['strength']:g}."
    )
    return best, sweet, cheap


# %%
def title_of_front(plain: Point, cheap: Point) -> str:
    """Say the spikes and the accuracy of the plain network, and of the cheap one that was chosen."""
    return (
        f"Plain: {plain['accuracy']:.1f} % with {plain['spikes']:.0f} spikes; "
        f"chosen: {cheap['accuracy']:.1f} % with {cheap['spikes']:.0f}"
    )


def pareto(run: lesson.Run, found: dict[str, Point]) -> Point:
    """Draw accuracy and dead neurons against spikes, the front and its knee. Returns: the chosen point."""
    best, sweet, cheap = judge(run, found)
    plain = found[PLAIN]
    fig, (left, right) = figures.new(title_of_front(plain, cheap), columns=2, size=(11, 4.4))
    styles = dict(zip([PLAIN, *STRENGTHS], "*osD", strict=True))
    for kind, marker in styles.items():
        own = of_kind(found, kind)
        spikes = [point["spikes"] for point in own]
        for ax, value in ((left, "accuracy"), (right, "dead")):
            ax.plot(spikes, [point[value] for point in own], marker, ms=7, label=kind)
    x = [point["spikes"] for point in best]
    y = [point["accuracy"] for point in best]
    left.plot(x, y, color=figures.GREY, label="front", zorder=1)
    left.plot(sweet["spikes"], sweet["accuracy"], "ko", ms=15, mfc="none", label="knee")
    top = plain["accuracy"]
    left.axhline(top - 1, color=figures.GREY, ls=":", label="1 point lost")
    lowest = min(top - 8, sweet["accuracy"] - 2)
    left.set(ylim=(max(0, lowest), top + 1), ylabel="test accuracy, %")
    right.set(ylabel=f"neurons that never fire, of {2 * HIDDEN}")
    right.axhline(HIDDEN, color=figures.GREY, ls=":", label="half of them")
    for ax, name in ((left, "What spikes buy"), (right, "What silence costs")):
        ax.set(xscale="log", xlabel="spikes per image", title=name)
    figures.legend_outside(right)
    left.legend(loc="lower right")
    run.figure(fig, "pareto")
    return cheap


# %% [markdown]
# ## 6. A catch: the cheapest network of all
#
# Someone turns the strength up. The loss falls, the penalty falls, the spikes fall: to
# zero. Energy: none. The log of the training looks fine. Which number would tell you?
#
# The *accuracy* would, and so would the number of *dead neurons*, long before. A network
# without spikes answers from its biases, the same for each image.
#
# So take the price away again, and train on. Do the dead wake? The loss wants them back,
# but reaches them only through the tail of the surrogate. The run tries it on a copy that a
# price of 300 has killed, with two surrogates: `atan`, whose tails never end, and a
# *window*, whose slope is exactly 0 farther than half a threshold away. What do you expect
# of each?
#
# The cures: raise the strength slowly, as `train` does; watch the dead; give neurons a
# lowest rate; and mind the tails of the surrogate.


# %%
def catch_dead(config: Config, run: lesson.Run, found: dict[str, Point], base: dict[str, Tensor]) -> None:
    """Catch: measure what the strongest L1 has left, and whether the dead wake when the price is gone."""
    names = [name for name in found if name.startswith("L1")]
    strong = found[names[-1]]
    dead = 100 * strong["dead"] / (2 * HIDDEN)
    run.measure("catch: dead under the strongest L1", dead, "%")
    rows = []
    for name, surrogate in (("atan", neurons.ATAN), ("window", window)):
        killed, after = try_to_wake(config, base, surrogate, run.device.type)
        rows.append([name, float(killed), float(after)])
        run.measure(f"catch: dead that stay dead, {name}", 100 * after / max(killed, 1), "%")
    run.table("Waking the dead", ["surrogate", "dead", "after training on"], rows)
    run.say(
        f"{names[-1]}: {strong['spikes']:.1f} spikes an image, {dead:.1f} % of the neurons dead, and "
        f"{strong['accuracy']:.1f} % right. After as many epochs without a price, {rows[0][2]:.0f} of "
        f"{rows[0][1]:.0f} dead neurons are left with atan, with a window {rows[1][2]:.0f} of "
        f"{rows[1][1]:.0f}."
    )


def window(x: Tensor) -> Tensor:
    """Give a surrogate slope of 1 near the threshold, and exactly 0 farther than 0.5 away."""
    return (x.abs() < 0.5).to(x.dtype)


def try_to_wake(
    config: Config, base: dict[str, Tensor], surrogate: neurons.Surrogate, device: str
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
    return killed, measure(net, sets["test"])["dead"]


# %% [markdown]
# ## Going deeper: do spikes bear noise better than an ANN?
#
# "Spiking networks are robust to noise" is often said. We measure it: an ordinary network
# (ANN) with the same layers and ReLU in place of spikes, trained with the same loss, on the
# same images, for as many epochs. Both, and the sparse networks, see test images with noise
# on each pixel that none of them was trained with. Ask two questions of the table: is the
# plain spiking network ahead of the ANN? And does each way to save spikes cost as much of
# what is left under noise?


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
    train(net, sets["train"], config.epochs + config.more_epochs)
    clean = under_noise(net, sets["test"], (0.0,))
    ann = [*clean, *under_noise(net, sets["test"])]
    rows = [["ANN", *ann]]
    for name, point in found.items():
        rows.append([f"SNN, {name}", point["accuracy"], *point["noisy"]])
    snn = [found[PLAIN]["accuracy"], *found[PLAIN]["noisy"]]
    sparse = [cheap["accuracy"], *cheap["noisy"]]
    names = [f"noise {strength:g}" for strength in NOISES]
    run.table("Accuracy with noise on the pixels, in %", ["network", "clean", *names], rows)
    run.measure(f"{names[-1]}: plain SNN - ANN", snn[-1] - ann[-1], "points")
    run.measure(f"{names[-1]}: chosen SNN - ANN", sparse[-1] - ann[-1], "points")
    run.say(
        f"Noise of {NOISES[-1]:g} costs the ANN {ann[0] - ann[-1]:.1f} points, the plain spiking network "
        f"{snn[0] - snn[-1]:.1f}, and the chosen sparse one {sparse[0] - sparse[-1]:.1f}."
    )


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
    cheap = pareto(run, found)
    catch_dead(config, run, found, base)
    noise(config, run, found, cheap)  # going deeper


if __name__ == "__main__":
    lesson.start(main, Config, SCALES)
