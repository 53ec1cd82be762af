"""Lesson 12: hardware deep dive.

Question: What does one and the same network cost on a processor, as spikes, and on a neuromorphic chip?
Reading:  Yik et al. (2025), NeuroBench; Akida documentation; Open Neuromorphic's framework benchmarks.
Run:      python lessons/12_hardware_deep_dive.py
Expect:   77.3 ± 0.1 % of CIFAR-10 on Akida, on all 78 NPs, with 5 million MACs; as spikes in 15 steps
          76.1 ± 0.5 %, with 15 million additions and 8 million MACs. NeuroBench counts the same.
          3 seeds, 40 CPU minutes. Quick scale, one seed: lesson 10's SEW network, trained with
          1000 pictures, as a chain on 69 NPs gets 27.3 % right, in float 27.7 %.
"""

# %% [markdown]
# Lessons 08 to 11 ran spiking networks on a processor or a GPU (graphics processor). There
# is hardware built for spikes. This course aims at one: BrainChip's AKD1000, an *NPU*
# (neural processing unit). In this lesson you
#
# 1. look at the chip: a mesh of small processors, and a network laid out on it,
# 2. run a tiny layer in two ways, by the clock and by events, and count every operation by
#    hand; then find out from which activity on events no longer pay,
# 3. run one trained network in two ways: a frame at once, or spikes in 15 time steps,
# 4. learn what to report about it (NeuroBench's metrics),
# 5. put lesson 10's own network onto the mesh, which first refuses it,
# 6. measure time, and see why four honest people report four energies,
# 7. choose: when a GPU, when an NPU, and which one.
#
# No chip is needed: BrainChip's simulator computes the same numbers. What only a card can
# measure is then said to be not measured.

# %%
import copy
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

sys.path.insert(0, str(Path(globals().get("__file__", "any.py")).resolve().parents[1]))  # where snn_course is

from snn_course.runs import figures, lesson
from snn_course import akida_bridge as ab
from snn_course import data
from snn_course.costs import energy, neurobench
from snn_course.costs.latency import percentiles
from snn_course.costs.operations import PICOJOULES_AC, PICOJOULES_MAC
from snn_course.networks import training

import numpy as np
import snntorch as snn
import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, cross_entropy, embedding_bag


@dataclass(frozen=True)
class Config(lesson.Config):
    images: Annotated[int, lesson.Range(500, 50_000)] = 50_000
    """Number of CIFAR-10 training images."""

    epochs: Annotated[int, lesson.Range(1, 200)] = 4
    """Passes over them with float weights; one more follows with the chip's integers."""

    batch: Annotated[int, lesson.Range(1, 1000)] = 128
    """Images of a training step."""

    width: Annotated[int, lesson.Range(4, 32)] = 32
    """Channels of the first stage: 16x16 pixels; 8x8 and 4x4 have twice and four times as many."""

    sew_images: Annotated[int, lesson.Range(500, 50_000)] = 50_000
    """The first of the training images, for lesson 10's own network."""

    counted: Annotated[int, lesson.Range(1, 1000)] = 50
    """Test images for which operations are counted."""

    timed: Annotated[int, lesson.Range(5, 10_000)] = 200
    """Single frames that are timed."""


SCALES: lesson.Scales = {
    "quick": {
        "images": 4000,
        "epochs": 3,
        "batch": 32,
        "width": 8,
        "sew_images": 1000,
        "counted": 8,
        "timed": 20,
    },
    "cpu": {"seeds": 3, "sew_images": 20_000},
    "gpu": {"seeds": 3, "epochs": 40, "timed": 1000},
}
RATE, QAT_RATE = 3e-3, 1e-3  # learning rates, for float weights and for whole numbers
L10 = lesson.load(10)  # its Net, with its parts Block and Layer


# %% [markdown]
# ## 1. The chip is a mesh
#
# A processor has a few strong cores and one large memory far away. Every weight travels
# from there to a core, each time it is used. A neuromorphic chip has many weak cores, and
# each keeps its own weights right beside its adders: nothing but events travels.
#
# The AKD1000 is such a chip. It has 20 *nodes*, connected as a mesh, with 4 *neural
# processors* (NPs) each. That makes 80; a network can have 78 of them. (Its maker's "20
# NPUs" are these nodes.) Each NP holds about 43 kB of inputs and 45 kB of weights. The
# first layer sees bytes and has a unit of its own beside the mesh; Akida's reports call it
# *HRC*.
#
# *Mapping* puts layers onto NPs. A layer gets at least as many NPs as its weights and
# inputs need. It may get more: then each NP computes a part of the filters or of the
# picture, and the layer is done sooner. All layers work at once, as at a conveyor belt:
# while layer 5 sees one picture, layer 4 has the next one already. If a network does not
# fit, it is run in several *passes*, and the weights are loaded anew for each of them.
#
# What the chip computes is simpler than a spiking neuron. A layer adds up its weights for
# the events that come in, compares with a threshold, and sends a whole number of 4 bits, 0
# to 15. It does so once for each picture. There is no membrane that lives on, and no leak.
#
# First a network within the chip's limits: lesson 10's plain network, trained with float
# weights, then with the chip's whole numbers (lesson 19 explains how). It has *8/4/4 bits*:
# weights of 8 bits in the first layer and of 4 in the others, and signals of 4 bits. Fewer
# bits make each memory and each adder smaller; accuracy pays for them.


# %%
def network(width: int) -> ab.QuantNet:
    """Lesson 10's plain network within Akida's limits, at 8/4/4 bits; the chip has no way around a block."""
    layers: list[Any] = [ab.InputConv(width, kernel=5, stride=2)]
    layers.append(ab.Conv(width))
    layers.append(ab.Conv(width))
    for wide in (2 * width, 4 * width):
        layers.append(ab.Conv(wide, stride=2))
        layers.append(ab.Conv(wide))
        layers.append(ab.Conv(wide))
    layers.append(ab.Dense(10, act_bits=None))
    return ab.QuantNet(layers, (3, 32, 32))


def train(config: Config, run: lesson.Run, images: data.Images) -> ab.QuantNet:
    """Train with float weights, then with the chip's integers."""
    net = network(config.width).to(run.device)
    recipe = training.Recipe(config.epochs, config.batch, RATE, loss=cross_entropy, prepare=Tensor.float)
    training.fit(run, "float", net, images.images, images.labels, recipe)
    net.calibrate(images.images[:500].to(run.device))  # from here on in whole numbers, scaled for these
    recipe = training.Recipe(1, config.batch, QAT_RATE, loss=cross_entropy, prepare=Tensor.float)
    training.fit(run, "integers", net, images.images, images.labels, recipe)
    return net.eval()


# %% [markdown]
# Now the mesh, with this network on it. Every small square is an NP, four of them are a
# node. Which layers get most of them? In the table, *events* are the values other than zero
# that a layer sends for a picture: only these travel, and only these cost work. A *MAC*
# (multiply-accumulate) is one product, added to a sum; the column counts them as if no
# input were zero. Two rows have no NPs: *input* is the picture itself, *conv1* sits on the
# HRC.
#
# Two numbers are worth comparing in the output: the fewest NPs that hold the network's
# weights, and the NPs that the mapper takes when it may have all. The rest buys speed: at a
# conveyor belt the slowest station sets the pace, so it pays to split the layer with most
# work. The *program* is what is sent to the chip once, weights and wiring. After that,
# pictures go in and answers come out, and no weight is ever moved again.


# %%
def place(run: lesson.Run, net: ab.QuantNet, x: Tensor) -> ab.Report | None:
    """Map the network: which layer sits on which NPs, what travels between them, and what it weighs."""
    if ab.backend() == "absent":
        run.table("Mapping", ["layer", "NPs"], [["all", "not measured: no akida package"]])
        return None
    model = ab.to_akida(net)
    found = ab.report(model, x, timed=5, repeats=20)  # its times are not used: chapter 6 measures them
    counted = ab.macs(net.specs, net.input_shape)
    rows = []
    for name, nps, events, zeros in found.rows():
        rows.append([name, nps, counted.get(name, 0) / 1e3, events, zeros])
    run.table(f"On the {found.mapping.device}", ["layer", "NPs", "1000 MACs", "events", "zeros"], rows)
    used = sum(found.mapping.nps.values())
    fewest = fewest_nps(model)
    run.measure("NPs in use, of 78", used)
    run.measure("fewest NPs that hold it", fewest)
    run.measure("program on the chip", found.mapping.program_bytes / 1024, "KiB")
    run.measure("passes over the mesh for a frame", found.mapping.passes, at_most=1)
    draw_mapping(run, found.mapping)
    run.say(
        f"{fewest} NPs would hold the weights. The mapper takes {used}, to share the work of a layer: "
        f"all of it in {found.mapping.passes} pass, with a program of "
        f"{found.mapping.program_bytes / 1024:.0f} KiB."
    )
    return found


def fewest_nps(model: Any) -> int:
    """Count the NPs that a model takes when no layer gets more than it needs."""
    import akida

    layers = akida.Model(layers=model.layers)  # a copy: on a card, the model stays as it is mapped
    layers.map(akida.AKD1000(), hw_only=True, mode=akida.MapMode.Minimal)
    parts = layers.component_count
    return sum(count for kind, count in parts.items() if kind.name != "HRC")


def title_of_mesh(nps: dict[str, int], mesh: int) -> str:
    """Say how full the mesh is, and how much of it one layer takes."""
    counts = nps.values()
    return f"{sum(counts)} of {mesh} NPs in use, up to {max(counts)} for one layer"


def draw_mapping(run: lesson.Run, mapping: ab.Mapping) -> None:
    """Draw the mesh of the chip with the layers on it."""
    title = title_of_mesh(mapping.nps, len(mapping.mesh))
    fig, (ax,) = figures.new(title, size=(7.0, 4.8))
    ab.draw_mesh(ax, mapping)
    run.figure(fig, "mesh")


# %% [markdown]
# ## 2. By the clock, or by events
#
# A GPU is *clock-driven*. At each time step it multiplies the whole weight matrix with the
# whole input, zeros included, and updates every neuron. Work is the same whatever comes in.
# For $T$ time steps, $N_{in}$ inputs and $N_{out}$ neurons:
#
# $$\text{operations} = T \cdot N_{in} \cdot N_{out} .$$
#
# A neuromorphic chip is *event-driven*. Nothing happens until an event arrives. Then the
# weights of that one input are added to the membranes:
#
# $$\text{additions} = \text{events} \cdot N_{out} .$$
#
# And the leak, which goes on at every step? It is caught up with when it is needed: if the
# last update is $g$ steps ago, a membrane is multiplied once, with $\beta^g$. A neuron that
# fired is woken once more, on the next step, for its reset. (This catching up is one
# product a neuron. The formula leaves it out, and so does the count below, on both sides.)
#
# Here is a layer small enough to count by hand: 4 inputs, 3 neurons, 8 steps, $\beta =
# 0.5$. Take a pencil before you read on. How many products does the clock ask for? How many
# additions do the 5 events ask for?


# %%
BETA = 0.5
EVENTS = ((0, 1), (1, 0), (1, 3), (5, 2), (6, 0))  # (step, input)
SPIKES = torch.zeros(8, 4)  # [T, I]
for step, source in EVENTS:
    SPIKES[step, source] = 1
FIRST = (0.8, 0.6, 0.5, 0.4)  # weights of the first neuron
SECOND = (0.3, 0.0, 0.9, 0.2)
THIRD = (0.7, 0.9, 0.4, 0.6)
WEIGHT = torch.tensor([FIRST, SECOND, THIRD])  # [N, I]


def clock_driven(spikes: Tensor, weight: Tensor) -> tuple[Tensor, np.ndarray]:
    """Run snn.Leaky by the clock. Returns: spikes [T, N], products in each step [T]."""
    neurons = snn.Leaky(beta=BETA)
    mem = neurons.init_leaky()
    record = []
    work = np.zeros(len(spikes))
    for t, spk in enumerate(spikes):
        out, mem = neurons(weight @ spk, mem)  # all weights, whatever spk holds
        record.append(out)
        work[t] = weight.numel()
    return torch.stack(record), work


def event_driven(spikes: Tensor, weight: Tensor) -> tuple[Tensor, np.ndarray]:
    """Run the same neurons by events. Returns: spikes [T, N], additions in each step [T]."""
    # exercise: sleep; catch up with the leak, reset who fired, add the weights of each event, count
    mem = torch.zeros(len(weight))
    fired = torch.zeros(len(weight))
    record = torch.zeros(len(spikes), len(weight))
    work = np.zeros(len(spikes))
    last = 0  # the step of the last update
    for t, spk in enumerate(spikes):
        sources = spk.nonzero().flatten()
        if len(sources) == 0 and not fired.any():
            continue  # asleep: no operation at all
        mem = BETA ** (t - last) * mem - fired
        for source in sources:
            mem = mem + weight[:, source]
            work[t] += len(weight)
        fired = (mem > 1).to(mem.dtype)
        record[t] = fired
        last = t
    return record, work
    # end


# %% [markdown]
# (On a computer the function above still looks at each step, to see whether something came.
# A chip need not even do that: an event that arrives is what starts the work.)


# %%
def count_by_hand(run: lesson.Run) -> None:
    """Run the tiny layer both ways: the same spikes, and how many operations."""
    by_clock, products = clock_driven(SPIKES, WEIGHT)
    by_event, additions = event_driven(SPIKES, WEIGHT)
    run.proof("tiny layer: spikes, clock - events", (by_clock - by_event).abs().sum().item(), at_most=0)
    many = (torch.rand(200, 30) < 0.05).float()  # [T, I]: and a larger one
    weight = torch.rand(20, 30)
    apart = clock_driven(many, weight)[0] - event_driven(many, weight)[0]
    run.proof("larger layer: spikes, clock - events", apart.abs().sum().item(), at_most=0)
    run.measure("tiny layer: products by the clock", products.sum())
    run.measure("tiny layer: additions by events", additions.sum())
    fig, axes = figures.new(
        f"The same {int(by_clock.sum())} output spikes: {products.sum():.0f} products by the clock, "
        f"{additions.sum():.0f} additions by events",
        rows=3,
        size=(7.5, 4.8),
        sharex=True,
    )
    figures.raster(axes[0], SPIKES, "black", size=60)
    axes[0].set(title="input spikes", ylabel="input", yticks=range(4))
    draw_work(axes[1], products, "clock-driven")
    draw_work(axes[2], additions, "event-driven")
    axes[2].set_xlabel("time step")
    run.figure(fig, "by_hand")
    run.say(
        f"The clock asks for {len(SPIKES)} steps x 12 weights = {products.sum():.0f} products, the "
        f"{len(EVENTS)} events for 3 additions each: {additions.sum():.0f}."
    )


def draw_work(ax: "figures.Axes", work: np.ndarray, title: str) -> None:
    """Draw how many operations each step takes [T]."""
    ax.bar(range(len(work)), work, color=figures.BLUE)
    ax.set(title=title, ylabel="operations", ylim=(0, 13))


# %% [markdown]
# So events always win? Count once more what one event costs. Its weights lie somewhere in
# memory and must be fetched for this event alone. A matrix product reads a weight once and
# uses it for a hundred pictures of a batch; it runs in long, regular rows that a GPU has
# thousands of multipliers for. So an event is dear, and a product in a batch is cheap. At
# which share of active inputs do the two cost the same?
#
# That can be measured on any machine. `x @ weight` is the clock. `embedding_bag` is the
# event: it fetches the rows that a list names, and adds them up, nothing else.


# %%
LAYER = 1024  # inputs, and outputs
ACTIVE = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)  # shares of inputs with an event
BATCHES = (1, 100)


def seconds_of(work: Callable[[], Any], device: torch.device) -> float:
    """Give the least time that one call takes; a GPU is waited for."""
    spent = []
    for _ in range(8):
        begun = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        spent.append(time.perf_counter() - begun)
    return min(spent)


@torch.no_grad()
def compare_ways(share: float, batch: int, device: torch.device) -> tuple[float, float]:
    """Time one step of a layer by the clock, and by events, in s; the sums are the same."""
    weight = torch.randn(LAYER, LAYER, device=device)  # [I, N]: the row of an input is what its event adds
    active = max(1, round(share * LAYER))
    sources = torch.rand(batch, LAYER).argsort(1)[:, :active].to(device)  # [B, active]
    x = torch.zeros(batch, LAYER, device=device).scatter_(1, sources, 1.0)  # [B, I]

    def clock() -> Tensor:
        return x @ weight

    def events() -> Tensor:
        return embedding_bag(sources, weight, mode="sum")

    assert torch.allclose(clock(), events(), atol=1e-2)
    return seconds_of(clock, device), seconds_of(events, device)


def crossing(ratios: list[float]) -> float:
    """Give the share of active inputs, in %, at which events take as long as the clock: ratio 1.

    Between two shares that were measured, logarithms are interpolated. Beyond all of them: the last.
    """
    if max(ratios) < 1:
        return 100 * ACTIVE[-1]
    first = int(np.argmax(np.array(ratios) >= 1))
    if first == 0:
        return 100 * ACTIVE[0]
    low, high = np.log(ratios[first - 1]), np.log(ratios[first])
    part = -low / (high - low)
    return 100 * ACTIVE[first - 1] * (ACTIVE[first] / ACTIVE[first - 1]) ** part


def when_events_pay(run: lesson.Run) -> dict[int, float]:
    """Time both ways over the share of active inputs. Returns: where they cross, in %, by batch."""
    fig, (ax,) = figures.new("")
    ends = {}
    with torch.random.fork_rng():
        for batch in BATCHES:
            ratios = []
            for share in ACTIVE:
                clock, events = compare_ways(share, batch, run.device)
                ratios.append(events / clock)
            ends[batch] = crossing(ratios)
            run.measure(f"events are cheaper, batch {batch}: up to", ends[batch], "% active")
            ax.plot(100 * np.array(ACTIVE), ratios, "o-", label=f"batch {batch}")
    figures.retitle(
        fig, f"Events are cheaper up to {ends[1]:.3g} % (batch 1), up to {ends[100]:.3g} % (batch 100)"
    )
    ax.axhline(1, color=figures.GREY, ls=":")
    ax.set(xscale="log", yscale="log", xlabel="inputs with an event, %", ylabel="time by events / by clock")
    ax.legend()
    run.figure(fig, "crossing")
    run.say(
        f"One picture at a time, events are cheaper on this {run.device.type} up to {ends[1]:.3g} % active "
        f"inputs; in batches of 100 up to {ends[100]:.3g} %."
    )
    return ends


# %% [markdown]
# Why do the two batches differ? A single picture makes the processor wait for memory: by
# the clock it fetches the whole matrix, by events only the rows that it needs. In a batch
# the matrix is fetched once for all pictures, and then arithmetic is the limit, at which
# regular rows win. A chip with its weights beside the adders is never in the second case:
# for it, each event costs the same, in a batch or alone.
#
# So there are three reasons why spiking networks are slow on a GPU. It multiplies zeros. It
# cannot batch over time, since step $t$ needs the membrane of step $t - 1$; a network of 15
# steps is run 15 times. And every membrane is read and written in every step. A chip that
# is built for events pays less for each of the three: zeros never arrive, time passes by
# itself, and a sleeping neuron is free. What the AKD1000 cannot do is train such a network:
# it has no backward pass, and no float. (It has a learning rule of its own, for a last
# layer of 1-bit weights alone.)
#
# (The software matters as much: in Open Neuromorphic's benchmark, one layer of spiking
# neurons on one GPU takes from 0.05 to 3 seconds, depending on the framework.)
#
# ## 3. One network, executed twice
#
# Our trained network sends numbers from 0 to 15. Is that still a spiking network? Lesson 16
# shows that it is one in disguise: an *integrate-and-fire* neuron (IF, no leak) that is fed
# for 15 steps counts to the same number. So there are two executions with the same weights:
#
# - **frames**: one pass, each activation a number from 0 to 15, as on the AKD1000;
# - **spikes**: 15 steps of IF neurons, each signal a 0 or a 1, as on a chip with membranes.
#
# The activation of a frame is
#
# $$a = \mathrm{clip}\Big(\Big\lceil \frac{p - \theta}{d} \Big\rceil, 0, 15\Big)$$
#
# with the potential $p$ (the weighted sum), and a threshold $\theta$ and a step $d$ for
# each filter.


# %%
STEPS = 15  # as many as 4 bits have levels above 0


class Levels(nn.Module):
    """The chip's activation, 0..15."""

    threshold: Tensor
    step: Tensor

    def __init__(self, layer: ab.IntLayer) -> None:
        super().__init__()
        self.register_buffer("threshold", layer.threshold.float().view(-1, 1, 1))
        self.register_buffer("step", layer.act_step.view(-1, 1, 1))

    def forward(self, potential: Tensor) -> Tensor:
        """Give levels [B, C, H, W] of potentials."""
        # exercise: the formula of the activation
        return ((potential - self.threshold) / self.step).ceil().clamp(0, STEPS)
        # end


def frames(net: ab.IntNet) -> nn.Sequential:
    """The network with one pass for each frame, and 4-bit activations [B, C, H, W]."""
    parts: list[nn.Module] = []
    for layer in net.layers:
        parts.extend(ab.connections(layer))
        if layer.spec.act_bits is not None:
            parts.append(Levels(layer))
    return nn.Sequential(*parts)


# %% [markdown]
# The spiking execution feeds 1/15 of the picture in each step. An IF neuron rounds down
# where the chip rounds up, so each membrane gets one step $d$ more: half of it at the
# start, the other half over time. (All at the start, and neurons would fire too early; all
# over time, too late.)
#
# One thing makes the two differ. Within the 15 steps a neuron can fire too early, from
# inputs that later ones would have taken back, and a spike that is sent is sent. So the
# counts agree mostly, not always.


# %%
class Spikes(nn.Module):
    """The same weights with IF neurons, one time step at a time: x [B, C, H, W], spikes 0 or 1 in between."""

    def __init__(self, net: ab.IntNet) -> None:
        super().__init__()
        self.weights = nn.ModuleList(nn.Sequential(*ab.connections(layer)) for layer in net.layers)
        self.levels = nn.ModuleList(Levels(layer) for layer in net.layers[:-1])
        self.neurons = nn.ModuleList(
            snn.Leaky(beta=1.0, threshold=levels.step, init_hidden=True) for levels in self.levels
        )
        self.steps_done = 0

    def reset(self) -> None:
        """Put all neurons to rest: else a second image would start with the membranes of the first."""
        self.steps_done = 0
        for neuron in self.neurons:
            neuron.reset_mem()  # type: ignore[operator]

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        """Give the output's share of the potential [B, 10] at this step; NeuroBench wants a pair."""
        x = x / STEPS  # the image is fed in equal parts
        first = self.steps_done == 0
        self.steps_done += 1
        for number, neuron in enumerate(self.neurons):
            levels: Any = self.levels[number]
            half = levels.step / 2
            cur = self.weights[number](x) + (half - levels.threshold) / STEPS
            spk = neuron(cur + half * first)  # reset by subtraction
            x = spk.to(x.dtype)
        return self.weights[-1](x), None


WAYS = ("frames", "spikes")


def execution(way: str, net: ab.IntNet) -> Any:
    """Build one of the two executions, fresh."""
    return frames(net) if way == "frames" else Spikes(net)


def stepped(net: Spikes, x: Tensor) -> Tensor:
    """Run the spiking network for all its steps: images [B, C, H, W] -> potentials [B, 10]."""
    net.reset()
    total, _ = net(x)
    for _ in range(STEPS - 1):
        total = total + net(x)[0]
    return total


def logits(potentials: Tensor, last: ab.IntLayer) -> Tensor:
    """Give the scores [B, 10] of output potentials: (potential - threshold) / step."""
    return (potentials.cpu() - last.threshold) / last.act_step


def accuracy(scores: Tensor, labels: Tensor) -> float:
    """Give the share of right answers in %."""
    return 100 * (scores.argmax(1) == labels).double().mean().item()


# %% [markdown]
# Three programs must give the same potentials for frames, to the last unit: PyTorch's
# float32, whole numbers, and Akida's own simulator. Then the answers of both executions.


# %%
def in_parts(work: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Run images through a network, 100 at a time."""
    return torch.cat([work(part) for part in images.split(100)])


@torch.no_grad()
def compare(run: lesson.Run, net: ab.QuantNet, test: data.Images) -> None:
    """One network, two executions: their answers."""
    integers = net.to_integers()
    last = integers.layers[-1]
    plain = frames(integers)
    spikes = Spikes(integers)
    few = test.images[: len(test) // 5]
    labels = test.labels[: len(few)]
    own = in_parts(lambda part: plain(part.float()).long(), test.images)
    error = (own[: len(few)] - in_parts(integers.integers, few)).abs().max()
    run.proof("frames: potentials unlike the integers'", error.item(), at_most=0)
    if ab.backend() != "absent":
        chip = ab.potentials(ab.to_akida(net), few)
        error = (own[: len(few)] - chip).abs().max()
        run.proof("frames: potentials unlike Akida's", error.item(), at_most=0)
    goal = {"quick": 25, "cpu": 65, "gpu": 75}
    whole = accuracy(logits(own, last), test.labels)
    run.measure("Akida, 8/4/4 bits: accuracy", whole, "%", goal, headline=True)
    frame_scores = logits(own[: len(few)], last)
    spike_scores = logits(in_parts(lambda part: stepped(spikes, part.float()), few), last)
    by_frames = accuracy(frame_scores, labels)
    by_spikes = accuracy(spike_scores, labels)
    same = accuracy(spike_scores, frame_scores.argmax(1))
    run.measure(f"Akida, {len(few)} images: accuracy", by_frames, "%")
    run.measure(f"spikes, {STEPS} steps, {len(few)} images: accuracy", by_spikes, "%")
    run.measure("spikes: same answers as Akida", same, "%")
    run.say(
        f"Of {len(few)} pictures, frames get {by_frames:.1f} % right and spikes {by_spikes:.1f} %; they give "
        f"the same answer to {same:.1f} %."
    )


# %% [markdown]
# ## 4. What to report: NeuroBench
#
# Two papers that each say "efficient" may mean different things. NeuroBench (Yik et al.
# 2025) names what to count, so that the numbers can be compared:
#
# - **footprint**: bytes of all weights and states;
# - **connection sparsity**: share of weights that are zero;
# - **activation sparsity**: share of neuron outputs that are zero, over all steps;
# - **synaptic operations** for one input: *dense* ones, as if nothing were zero; *effective
#   MACs* (multiply-accumulates: neither input nor weight is zero); *effective ACs*
#   (accumulates, where every input is a spike and there is nothing to multiply). ACs are
#   the *SynOps* of other papers;
# - and beside these, accuracy, and how often the model runs each second.
#
# Sparse means idle, so on an event-driven chip sparse *activations* save: what is zero is
# not sent. A weight of zero saves only where a chip leaves it out; an event for 3 weights
# makes 3 additions, whatever they are. On a GPU neither changes anything.
#
# Count chapter 2's tiny layer: 12 weights of 4 bytes, one of them zero. 8 steps make 96
# dense operations. 5 events meet 3 weights each; one of these 15 weights is the zero. So 14
# effective ACs. The lines below do what you just did.


# %%
def synaptic_operations(spikes: Tensor, weight: Tensor) -> tuple[float, float]:
    """Count dense and effective operations of a linear layer for spikes [T, I] and weights [N, I]."""
    # exercise: count all products; then those of an input and a weight that are both not zero
    dense = len(spikes) * weight.numel()
    arrived = (spikes != 0).sum(0)  # [I]: events from each input
    reached = (weight != 0).sum(0)  # [I]: weights that an event from there meets
    effective = (arrived * reached).sum().item()
    return dense, effective
    # end


class Tiny(nn.Module):
    """Chapter 2's layer as NeuroBench wants a model: one step a call, and a reset."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 3, bias=False)
        self.fc.weight.data = WEIGHT.double()
        self.neurons = snn.Leaky(beta=BETA, init_hidden=True)

    def reset(self) -> None:
        """Put the neurons to rest."""
        self.neurons.reset_mem()

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        """Take the spikes [B, 4, 1, 1] of one step."""
        return self.neurons(self.fc(x.flatten(1))), None


def count_tiny(run: lesson.Run) -> None:
    """Let NeuroBench count the tiny layer, and compare."""
    dense, effective = synaptic_operations(SPIKES, WEIGHT)
    x = SPIKES.double().view(8, 1, 4, 1, 1)  # [T, B, C, H, W]
    theirs = neurobench.neurobench(Tiny(), x, Levels)  # Levels: beside neurons, what counts as activation
    out, _ = clock_driven(SPIKES, WEIGHT)
    silent = 1 - out.mean().item()
    run.proof("tiny layer: dense operations, NeuroBench - own", theirs["dense operations"] - dense, 0)
    run.proof("tiny layer: effective ACs, NeuroBench - own", theirs["effective ACs"] - effective, 0)
    apart = abs(theirs["activation sparsity"] - silent)
    run.proof("tiny layer: activation sparsity, NeuroBench - own", apart)
    run.say(
        f"Tiny layer: {dense} dense operations, {effective} effective ACs, {100 * silent:.0f} % of the "
        "outputs are zero; NeuroBench's own package counts the same."
    )


# %% [markdown]
# Now both executions of the trained network, counted twice: by this course's counter
# (`costs/operations.py`), which later lessons use, and by the neurobench package. They must
# agree to the last operation. Which execution will have fewer operations? Spikes replace
# multiplications by additions. But there are 15 steps.


# %%
Counts = dict[str, dict[str, float]]  # metrics of each execution


@torch.no_grad()
def count(run: lesson.Run, net: ab.IntNet, x: Tensor) -> Counts:
    """Count both executions with both counters, which must agree to the last operation."""
    found: Counts = {}
    for way in WAYS:
        shown = x.double()
        if way == "spikes":
            shown = shown.expand(STEPS, -1, -1, -1, -1)  # [T, B, C, H, W]
        own = neurobench.own(execution(way, net).double(), shown, Levels)
        theirs = neurobench.neurobench(execution(way, net).double(), shown, Levels)
        apart = [abs(theirs[metric] - value) for metric, value in own.items()]
        run.proof(f"{way}: six metrics, NeuroBench - own", max(apart), at_most=1e-6)
        found[way] = own
    plain = found["frames"]
    spikes = found["spikes"]
    rows = [[metric, plain[metric], spikes[metric]] for metric in plain]
    run.table("NeuroBench's metrics, per image", ["metric", *WAYS], rows)
    ratio = (spikes["effective MACs"] + spikes["effective ACs"]) / plain["effective MACs"]
    run.say(
        f"Zeros: {100 * spikes['activation sparsity']:.0f} % of the spiking execution's signals, "
        f"{100 * plain['activation sparsity']:.0f} % of the frames'. Effective operations: {ratio:.1f} times "
        f"as many with spikes, in {STEPS} steps, with a first layer that sees no spikes."
    )
    return found


# %% [markdown]
# ## 5. Lesson 10's own network meets the mesh
#
# The network above is lesson 10's *plain* one. Lesson 10 found that blocks with a way
# around them (SEW) train better. Can the chip take that network as it is? We ask it. In
# each line below, Akida is asked for one thing that lesson 10's network needs, and what it
# says is printed:
#
# - *two ways out*: the stem feeds the block and a second layer, the way around it;
# - *two ways in*: a layer takes the block's output and the stem's;
# - *Add, v1*: the layer that adds them, in a model for the AKD1000 ("Akida 1.0");
# - *Add, v2*: the same in a model for the next generation, laid onto an AKD1000.


# %%
def small_model() -> Any:
    """Build the start of lesson 10's network for Akida 1.0: the stem, and a block's two convolutions."""
    import akida

    model = akida.Model()
    shape = (32, 32, 3)
    model.add(akida.InputConvolutional(shape, (5, 5), 16, kernel_stride=(2, 2), name="stem"))
    model.add(akida.Convolutional((3, 3), 16, name="first"))
    model.add(akida.Convolutional((3, 3), 16, name="second"))
    return model


def ask_for_two_ways_out() -> None:
    """Send the stem's output to two layers, and map that."""
    import akida

    model = small_model()
    stem = model.layers[0]
    model.add(akida.Convolutional((3, 3), 16, name="around"), [stem])
    model.map(akida.AKD1000(), hw_only=True)


def ask_for_two_ways_in() -> None:
    """Let a layer read the stem's output and the block's."""
    import akida

    model = small_model()
    stem, _, second = model.layers
    model.add(akida.Convolutional((3, 3), 16, name="next"), [stem, second])


def ask_for_add() -> None:
    """Join the stem's output and the block's by adding."""
    import akida

    model = small_model()
    stem, _, second = model.layers
    model.add(akida.Add(name="join"), [stem, second])


def ask_for_add_v2() -> None:
    """Join them in a model of the second generation, and map it onto an AKD1000."""
    import akida

    model = akida.Model()
    shape = (32, 32, 3)
    model.add(akida.InputConv2D(shape, 16, kernel_size=5, kernel_stride=2, name="stem"))
    model.add(akida.Conv2D(16, kernel_size=3, name="first"))
    model.add(akida.Conv2D(16, kernel_size=3, name="second"))
    stem, _, second = model.layers
    model.add(akida.Add(name="join"), [stem, second])
    model.map(akida.AKD1000(), hw_only=True)


def answer_to(question: Callable[[], None]) -> str:
    """Give Akida's own words, or "accepted"."""
    try:
        question()
    except (RuntimeError, ValueError) as error:
        return " ".join(str(error).split())
    return "accepted"


def ask_the_chip(run: lesson.Run) -> None:
    """Ask Akida for the layers of a SEW block, and print what it says."""
    columns = ["asked for", "Akida's answer"]
    if ab.backend() == "absent":
        run.table("Can the AKD1000 take SEW?", columns, [["all", "not measured: no akida package"]])
        return
    rows = [
        ["two ways out", answer_to(ask_for_two_ways_out)],
        ["two ways in", answer_to(ask_for_two_ways_in)],
        ["Add, v1", answer_to(ask_for_add)],
        ["Add, v2", answer_to(ask_for_add_v2)],
    ]
    run.table("Can the AKD1000 take SEW?", columns, rows)
    refused = 0
    for _, answer in rows:
        refused += answer != "accepted"
    run.measure("requests refused, of 4", refused, at_least=4)
    run.say(
        f"{refused} of 4 are refused. A layer has exactly one layer before it, the only end of a model is "
        "its last layer, and there is no adder: a network on this chip is a chain."
    )


# %% [markdown]
# Two more things stand in the way: the chip has no membrane that lasts from one time step
# to the next, and SEW's sums are 2 where a spike met a spike. Give up? Look closely, and
# everything has a way out.
#
# **Time.** With a single time step a membrane starts empty, takes its current, and fires if
# that is above 1. So `snn.Leaky` at `num_steps=1` is a threshold, and a threshold is what
# the chip has: an activation of *one bit*.
#
# **The fork and the sum.** After the join comes a convolution, and a convolution is linear:
#
# $$W * (\text{branch} + \text{around}) = [W, W] * [\text{branch}, \text{around}] .$$
#
# (The brackets put channels side by side.) On the right there is no sum of signals, only a
# layer with twice the input channels. So the way around can travel *inside* the chain, as
# channels that do nothing but copy: a kernel that is 1 in its middle and 0 elsewhere. No 2
# is ever sent.
#
# So lesson 10's network becomes a chain, and it is the same function. Each block's layers
# get twice the filters, half of them copies. Batch norm is folded into the weights: what it
# does to a sum is to multiply and to shift it.


# %%
@dataclass(frozen=True)
class Kernel:
    """One layer of the chain: a filter fires where weight * x + bias is above 1."""

    weight: Tensor  # [F, C, k, k]
    bias: Tensor  # [F]
    stride: int


def fold(layer: Any) -> Kernel:
    """Fold the batch norm of one of lesson 10's layers into its weights."""
    norm = layer.norm
    gain = norm.weight / (norm.running_var + norm.eps).sqrt()  # [F]
    weight = layer.conv.weight * gain.view(-1, 1, 1, 1)
    return Kernel(weight, norm.bias - norm.running_mean * gain, layer.conv.stride[0])


def reading(weight: Tensor, branch: int, around: int) -> Tensor:
    """Let weights [F, C, k, k] read the branch, the way around, or both (1 or 0 each): [F, 2 C, k, k]."""
    halves = [branch * weight, around * weight]
    return torch.cat(halves, 1)


def with_copies(kernel: Kernel, copies: Tensor) -> Kernel:
    """Give a layer more filters, which copy spikes: 1 + 0.5 is above the threshold, 0.5 is not."""
    half = torch.full((len(copies),), 0.5)
    weight = torch.cat([kernel.weight, copies])
    bias = torch.cat([kernel.bias, half])
    return Kernel(weight, bias, kernel.stride)


@torch.no_grad()
def chain(net: Any) -> list[Kernel]:
    """Write lesson 10's SEW network, at one time step and with one block a stage, as a chain."""
    kernels = [fold(net.stem)]
    for part in net.body:
        if not isinstance(part, L10.Block):
            down = fold(part)  # after a block: it reads both ways
            kernels.append(Kernel(reading(down.weight, 1, 1), down.bias, down.stride))
            continue
        channels = part.first.conv.in_channels
        copy_all = torch.zeros(channels, channels, 3, 3)
        copy_all[:, :, 1, 1] = torch.eye(channels)
        second = fold(part.second)
        second = Kernel(reading(second.weight, 1, 0), second.bias, second.stride)
        kernels.append(with_copies(fold(part.first), copy_all))
        kernels.append(with_copies(second, reading(copy_all, 0, 1)))
    return kernels


# %% [markdown]
# Whole numbers next. Every filter gets its own scale, so that its largest weight becomes 7
# (4 bits), or 127 in the first layer (8 bits). The chip fires where a whole-numbered
# potential $p$ is above $\theta$; in float that is $s\,p + b > 1$, with the scale $s$ and
# the bias $b$ of the filter. So $\theta = \lfloor (1 - b) / s \rfloor$. (The first layer
# reads bytes: there 255 stands for 1, and $s$ is the scale times 1/255.)
#
# One detail costs a day if nobody tells you: where a stride of 2 meets an even picture,
# PyTorch pads one pixel above and to the left, Akida below and to the right. Turn picture
# and kernels by 180 degrees, and the two agree.


# %%
def to_layer(kernel: Kernel, bits: int, unit: float) -> ab.IntLayer:
    """Round one layer to whole numbers; ``unit`` is the value of an input of 1."""
    # exercise: a scale for each filter, whole weights, and the threshold of the formula above
    filters, _, size, _ = kernel.weight.shape
    top = 2 ** (bits - 1) - 1
    largest = kernel.weight.flatten(1).abs().amax(1)
    scale = largest.clamp(min=1e-9) / top  # [F]
    weight = (kernel.weight / scale.view(-1, 1, 1, 1)).round()
    threshold = ((1 - kernel.bias) / (scale * unit)).floor()
    make = ab.InputConv if bits == 8 else ab.Conv
    spec = make(filters, kernel=size, stride=kernel.stride, act_bits=1)
    return ab.IntLayer(spec, turned(weight).long(), threshold.long(), torch.ones(filters))
    # end


@torch.no_grad()
def to_whole_numbers(net: Any) -> ab.IntNet:
    """Give lesson 10's network as a chain of whole numbers for the AKD1000."""
    stem, *others = chain(net)
    layers = [to_layer(stem, 8, 1 / 255)]
    for kernel in others:
        layers.append(to_layer(kernel, 4, 1))
    layers.append(readout_layer(net.readout))
    specs = [layer.spec for layer in layers]
    return ab.IntNet(specs, (3, 32, 32), layers)


def readout_layer(readout: nn.Linear) -> ab.IntLayer:
    """Round the read-out: a mean over 4 x 4 places becomes a sixteenth of the weight at each of them."""
    both = reading(readout.weight, 1, 1)  # [10, 2 C]
    weight = both[:, :, None, None].expand(-1, -1, 4, 4) / 16
    scale = weight.abs().max() / 7  # one for all, so that the outputs can be compared
    whole = (weight / scale).round()
    threshold = (-readout.bias / scale).round()
    step = (1 / scale).expand(10)
    return ab.IntLayer(ab.Dense(10, act_bits=None), whole.long(), threshold.long(), step)


def turned(x: Tensor) -> Tensor:
    """Turn pictures or kernels [..., H, W] by 180 degrees."""
    return x.flip(-2, -1)


def run_chain(kernels: list[Kernel], x: Tensor) -> Tensor:
    """Run the chain in float on pictures 0..1 [B, 3, 32, 32]. Returns: the spikes of its last layer."""
    for kernel in kernels:
        padding = kernel.weight.shape[-1] // 2
        cur = conv2d(x, kernel.weight.to(x), kernel.bias.to(x), kernel.stride, padding)
        x = (cur > 1).to(x.dtype)
    return x


# %% [markdown]
# The chain must send, spike by spike, what lesson 10's network sends: branch and way
# around, added up, are its last block's output. (The network is trained here once more,
# with one step, and with pixels from 0 to 1: the border that a convolution adds is 0, and
# on the chip 0 is black. Lesson 10 itself feeds pixels from -2 to 2, where 0 is grey.) Then
# it goes onto the mesh. What did the rounding cost, and what did giving up time?


# %%
def unit_pixels(x: Tensor) -> Tensor:
    """Turn bytes into 0..1: the border that a convolution adds is black, as on the chip."""
    return x.float() / 255


def train_sew(config: Config, run: lesson.Run, images: data.Images) -> Any:
    """Train lesson 10's SEW network with one time step."""
    torch.manual_seed(run.seed)
    net = L10.Net(config.width, blocks=1, num_steps=1).to(run.device)
    recipe = training.Recipe(config.epochs, config.batch, 5e-3, prepare=unit_pixels)
    shown = images.images[: config.sew_images]
    training.fit(run, "SEW", net, shown, images.labels[: config.sew_images], recipe)
    return net.cpu().eval()


def prove_chain(run: lesson.Run, net: Any, images: Tensor) -> None:
    """Compare the chain with lesson 10's network, spike by spike, in float64."""
    exact = copy.deepcopy(net).double()
    x = unit_pixels(images).double()
    branch, around = run_chain(chain(exact), x).chunk(2, dim=1)  # [B, C, 4, 4] each
    expected = exact.body(exact.stem(x, 1))[0]
    apart = (branch + around - expected).abs().sum().item()
    run.proof("chain - lesson 10's SEW network: spikes", apart, at_most=0)


@torch.no_grad()
def map_lesson_10(config: Config, run: lesson.Run, images: data.Images, test: data.Images) -> None:
    """Write lesson 10's network as a chain, and put it onto the mesh."""
    with torch.enable_grad():
        net = train_sew(config, run, images)
    prove_chain(run, net, test.images[:20])
    whole = to_whole_numbers(net)
    found = {}
    for num_steps in (1, 2):
        net.num_steps = num_steps
        scores = training.predict(net, test.images, unit_pixels, batch=125)  # few: they stay in the cache
        found[f"num_steps {num_steps}"] = accuracy(scores, test.labels)
    chip = in_parts(whole.logits, turned(test.images))
    found["on the chip"] = accuracy(chip, test.labels)
    for name, value in found.items():
        run.measure(f"lesson 10's SEW net, {name}: accuracy", value, "%")
    draw_lesson_10(run, whole, turned(test.images[:200]))
    one, two, whole_numbers = found.values()
    run.say(
        f"With one step lesson 10's network gets {one:.1f} % right, as a chain of 4-bit numbers "
        f"{whole_numbers:.1f} %. Shown for two steps, which the chip cannot do, it gets {two:.1f} %."
    )


def draw_lesson_10(run: lesson.Run, whole: ab.IntNet, x: Tensor) -> None:
    """Map the chain, compare the simulator with whole numbers in PyTorch, and draw the mesh."""
    if ab.backend() == "absent":
        return
    model = ab.to_akida(whole)
    apart = ab.potentials(model, x) - whole.integers(x)
    run.proof("chain: Akida's potentials - PyTorch's", apart.abs().max().item(), at_most=0)
    mapping = ab.map_model(model)
    run.measure("lesson 10's SEW net: fewest NPs", fewest_nps(model))
    run.measure("lesson 10's SEW net: NPs in use", sum(mapping.nps.values()))
    title = title_of_mesh(mapping.nps, len(mapping.mesh))
    fig, (ax,) = figures.new(f"Lesson 10's network: {title}", size=(7.0, 4.8))
    ab.draw_mesh(ax, mapping)
    run.figure(fig, "lesson_10")


# %% [markdown]
# The copies are the price: about half of the filters in a block compute nothing. A chip
# with an adder in its mesh, as Akida's second generation has, does not pay it.
#
# ## 6. Time and energy
#
# **Latency** is how long one answer takes; **throughput** is how many answers a second. In
# a batch a processor shares the fetched weights over many pictures, so throughput is more
# than 1 / latency. A camera does not deliver batches. And a mean hides the slow answers:
# p95 is the time that 95 % of the answers stay below. A robot that must brake cares for
# p99, not for the mean.
#
# *Memory* was counted above: the footprint, which holds weights and states. A processor
# takes it from its main memory. On the chip it must fit into the NPs, in the program's
# size; a network that does not fit runs in passes, and pays for each of them in time.
#
# The table has both executions on this machine's processor (or GPU), and Akida's model in
# the simulator, or on the card where there is one.


# %%
Rows = list[list[Any]]
Shot = Callable[[Tensor], Any]  # one frame [1, 3, 32, 32] to its answer


@torch.no_grad()
def timed(work: Shot, x: Tensor) -> float:
    """Give the seconds that one call takes; a GPU is waited for, else only the order would be timed."""
    start = time.perf_counter()
    work(x)
    if x.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start


def best_of_three(work: Shot, x: Tensor) -> float:
    """Give the frames a second of a batch."""
    spent = [timed(work, x) for _ in range(3)]
    return len(x) / min(spent)


def simulated(runner: Any) -> Shot:
    """Give Akida's model as a function of frames."""

    def potentials(x: Tensor) -> Tensor:
        return ab.potentials(runner, x)

    return potentials


def shots(net: ab.IntNet, device: torch.device) -> dict[str, Shot]:
    """Give both executions on a device, ready to be called with frames."""
    plain = frames(net).to(device)
    spikes = Spikes(net).to(device)

    def by_spikes(x: Tensor) -> Tensor:
        return stepped(spikes, x)

    return {"frames": plain, "spikes": by_spikes}


def time_frames(config: Config, run: lesson.Run, net: ab.QuantNet, x: Tensor) -> dict[str, list[float]]:
    """Time single frames, as a camera delivers them, and batches of 100, as a data centre does.

    Returns: p50 in ms and frames a second in batches, of frames and of spikes.
    """
    rows: Rows = []
    found = {}
    batch = x[:100].float().to(run.device)
    for name, shot in shots(net.to_integers(), run.device).items():
        single = x[: config.timed].float().to(run.device).split(1)
        seconds = [timed(shot, frame) for frame in single]
        p50, p95, p99 = percentiles(seconds[3:])  # ms; the first three warm up
        in_batches = best_of_three(shot, batch)
        rows.append([f"{name}, {run.device.type}", p50, p95, p99, in_batches])
        found[name] = [p50, in_batches]
    if run.device.type == "cpu":
        rows.append(["frames, GPU", "not measured: no GPU", "-", "-", "-"])
    if ab.backend() != "absent":
        runner = ab.map_model(ab.to_akida(net)).runner
        chip = ab.latency(runner, x[: config.timed])
        in_batches = best_of_three(simulated(runner), x[:100])
        rows.append([f"Akida {chip.backend}", chip.p50, chip.p95, chip.p99, in_batches])
    if ab.backend() != "hardware":
        rows.append(["AKD1000", ab.NOT_MEASURED, "-", "-", "-"])
    run.table("One frame at a time: ms; 100 at once: frames/s", ["on", "p50", "p95", "p99", "frames/s"], rows)
    slower = found["spikes"][0] / found["frames"][0]
    gain = found["frames"][0] * found["frames"][1] / 1000
    run.say(
        f"On this {run.device.type} the spiking execution takes {slower:.0f} times as long as the one by "
        f"frames. In batches of 100, frames come {gain:.1f} times as fast as one by one. (The simulator's "
        "times are those of this machine, not of the chip.)"
    )
    return found


# %% [markdown]
# **Energy** is told in ways that lie far apart (the run says how far), and none is a lie:
#
# - *Counted*: operations times the energy of an arithmetic unit. In 45 nm silicon a float32
#   MAC takes 4.6 pJ, an addition 0.9 pJ (Horowitz 2014). Memory, wires and clocks, the
#   larger part, are left out.
# - *NeuroBench*: no joules at all, but operations and sparsity, for whoever knows the chip.
# - *A meter on the processor*: everything that is on it, also other programs.
# - *The board's power*: the AKD1000's board draws about 0.9 W before it computes at all,
#   the *floor*. A network adds a little, the *dynamic* part. Who reports the dynamic part
#   alone leaves most of the bill out: the last table of this chapter says how much.
#
# **A catch.** Papers multiply: "SynOps x 0.9 pJ". Our spiking execution has two kinds of
# operations in its table above. Which number there tells you that this formula is wrong for
# it, and in which direction? (The effective MACs are not 0: the first layer sees pixels,
# not spikes, and at each step again.)


# %%
PJ = 1e-9  # mJ


def arithmetic(macs: float, acs: float = 0) -> float:
    """Give the energy of operations at 45 nm, in mJ."""
    return (macs * PICOJOULES_MAC + acs * PICOJOULES_AC) * PJ


def counted_energy(counts: Counts) -> Rows:
    """Give the energy of the arithmetic alone, in mJ, for three ways to count."""
    plain = counts["frames"]
    spikes = counts["spikes"]
    dense = arithmetic(plain["dense operations"])
    effective = arithmetic(plain["effective MACs"])
    spiking = arithmetic(spikes["effective MACs"], spikes["effective ACs"])
    return [
        ["45 nm, dense float32 MACs", dense, "arithmetic alone"],
        ["45 nm, effective MACs", effective, "zeros left out"],
        [f"45 nm, spikes, {STEPS} steps", spiking, "first layer: MACs, each step"],
    ]


def published_energy() -> Rows:
    """Give what others measured on AKD1000 boards, in mJ a frame, floor and dynamic part apart."""
    rows: Rows = []
    for entry in ab.PUBLISHED[:2]:
        short = entry.network.split(" on ")[0].split(",")[0]
        name = f"AKD1000 board, {short}"
        rows.append([f"{name}: dynamic", entry.dynamic_per_frame, f"published, {entry.fps:.0f} frames/s"])
        rows.append([f"{name}: floor", entry.floor_per_frame, "published: the idle board"])
    return rows


def ledger(run: lesson.Run, net: ab.IntNet, counts: Counts, x: Tensor, found: ab.Report | None) -> Rows:
    """Tell the energy of one frame in each way there is, in mJ. Returns: the rows of the table."""
    rows = counted_energy(counts)
    plain = frames(net).to(run.device)
    batch = x[:100].float().to(run.device)

    def work() -> None:
        for _ in range(20):
            timed(plain, batch)

    meter = energy.measure(work, run.device)
    per_frame = energy.cells(meter, 20 * len(batch), 1e3)  # mJ a frame and which meter, or that there is none
    rows.append([f"this {run.device.type}, batches of 100", *per_frame])
    rows += published_energy()
    card = found.energy if found else None
    told = [card.dynamic_per_frame, "measured here"] if card else ["-", ab.unmeasured()]
    last = ["AKD1000: this network", *told]
    run.table("Energy of one frame, mJ", ["told by", "mJ", "what is in it"], [*rows, last])
    return rows


def catch_billing(run: lesson.Run, counts: Counts) -> None:
    """Catch: every operation of a spiking network billed as an addition."""
    macs = counts["spikes"]["effective MACs"]
    acs = counts["spikes"]["effective ACs"]
    right = arithmetic(macs, acs)
    wrong = arithmetic(0, macs + acs)
    run.measure("catch: energy / all operations billed as additions", right / wrong, "x", at_least=1.5)
    run.say(
        f"Billed as additions, the spiking execution seems to need {wrong / right:.2f} of what its "
        "arithmetic takes."
    )


def title_of_hardware(energies: dict[str, float]) -> str:
    """Say what the arithmetic of this network costs; the boards' published figures are of other networks."""
    own = []
    for name, mj in energies.items():
        if name.startswith("45 nm"):
            own.append(f"{name.removeprefix('45 nm, ')} {mj:.2g}")
    return f"mJ a frame at 45 nm: {', '.join(own)}"


def draw_ledger(run: lesson.Run, rows: Rows) -> None:
    """Draw the energies that are known."""
    told = {name: value for name, value, _ in rows if not isinstance(value, str)}
    fig, (ax,) = figures.new(title_of_hardware(told), size=(9.0, 4.2))
    ax.barh(list(told), list(told.values()))
    ax.set(xscale="log", xlabel="energy of one frame, mJ")
    ax.invert_yaxis()
    run.figure(fig, "hardware")
    apart = max(told.values()) / min(told.values())
    run.say(f"The largest of these energies of one frame is {apart:.0f} times the smallest.")


# %% [markdown]
# Why do they disagree? The counted lines are of arithmetic units, without anything around
# them. The board's lines are of everything on it: regulators, memory, the PCIe link, the
# chip's own clock. And the floor is divided by the frame rate. The same board at fewer
# frames a second has more floor in every frame: that is measured power, not a property of
# the network.
#
# So before you believe a factor between two devices, ask four questions. Is the idle part
# in both numbers, or in neither? Is it the chip, the board, or the whole computer? At how
# many frames a second? And is it the same network, with the same accuracy?
#
# The table spreads the published floors over three frame rates: one frame a second, a
# camera's 30, and the highest rate that was reached.


# %%
def floor_by_rate(run: lesson.Run) -> float:
    """Spread published floors over frames. Returns: the smaller share of the bill at 30 frames/s, in %."""
    rows = []
    at_30 = []
    for board in ab.PUBLISHED[:2]:
        for rate in (1.0, 30.0, board.fps):
            floor = board.floor / rate  # mW / (frames/s) = mJ
            dynamic = board.dynamic_per_frame
            share = 100 * floor / (floor + dynamic)
            short = board.network.split(",")[0].split(" on ")[0]
            rows.append([short, f"{rate:.0f}", floor, dynamic, f"{share:.2f}"])
            if rate == 30:
                at_30.append(share)
    columns = ["network", "frames/s", "floor, mJ", "dynamic, mJ", "floor, %"]
    run.table("Published board power, spread over frames", columns, rows)
    least = min(at_30)
    run.say(f"At 30 frames a second the idle board makes {least:.1f} to {max(at_30):.3f} % of the bill.")
    return least


# %% [markdown]
# ## 7. Which hardware when?
#
# There are more chips than the AKD1000. Three families, and what they are for:
#
# - *Event-driven digital* chips. **Loihi 2** (Intel, research): 128 cores, up to a million
#   neurons whose behaviour can be programmed, learning rules on the chip. **SpiNNaker 2**
#   (Dresden): 152 small ARM processors, so any model that can be programmed; for brain
#   simulation. **AKD1000** (BrainChip, for sale): convolutional networks of 1 to 4 bits,
#   without membranes that last.
# - *Analog*: **BrainScaleS-2** (Heidelberg). A membrane is a real capacitor, a thousand
#   times faster than biology; 512 neurons that all differ a little, so the chip is part of
#   the training loop.
# - *Dense, with memory beside the arithmetic*: **NorthPole** (IBM). No spikes and no
#   events: 256 cores with all weights on the chip, for 8-bit to 2-bit networks. Its energy
#   comes from what event-driven chips also have: no trips to a far memory.
#
# The table's powers were measured by different people on different things, as it says: chip
# or board, idle part in or out, one network or another. They tell orders of magnitude.


# %%
def hardware_table(run: lesson.Run) -> None:
    """Print which hardware for what, its power, of what that is the power, and who says so."""
    board, large = ab.PUBLISHED[:2]
    akida = f"{board.floor:.0f} idle to {large.average:.0f}"
    loihi = 2_600_000 / 1152  # mW: Hala Point has 1152 chips, and takes at most 2.6 kW
    northpole = 672_000 / 16  # mW: 16 cards that run a language model
    rows = [
        ["GPU (RX 7900 XTX)", "355000", "board limit; [1]", "training, batches"],
        ["NorthPole", f"{northpole:.0f}", "card; [2]", "dense nets, 8 to 2 bits"],
        ["SpiNNaker 2", "2000 to 5000", "chip; [3]", "any model, large brains"],
        ["Loihi 2", f"1000 to {loihi:.0f}", "chip; [3], [4]", "events, learning there"],
        ["BrainScaleS-2", "below 200", "chip; [5]", "analog, 1000 x faster"],
        ["AKD1000", akida, "board; [6]", "4-bit CNNs, by frame"],
    ]
    run.table("Which hardware when", ["hardware", "power, mW", "of what", "take it for"], rows)


# %% [markdown]
# Sources:
#
# 1. Its maker's specification of the board's power.
# 2. Appuswamy et al. (2024), HPEC: 672 W for 16 cards, with a language model of 3 billion
#    parameters. Modha et al. (2023), Science 382: 25 times as many frames a joule as a GPU
#    of the same 12 nm process.
# 3. Open Neuromorphic, hardware pages. Also Arfa et al. (2025), arXiv:2504.06748: 0.46 J
#    for one gesture on SpiNNaker 2.
# 4. Intel (2024), Hala Point: 1152 Loihi 2 chips, at most 2600 W.
# 5. Cramer et al. (2022), PNAS 119: up to 85,000 pictures a second, less than 200 mW.
# 6. The boards of the ledger: idle, and with AkidaNet.
#
# A GPU has a floor as well, which its limit hides; without a GPU and a meter it is not
# measured here.
#
# Now the plain answer, beside what this run has measured. A GPU wins where work is dense and
# can be batched, and it is the only one of the two that trains. An NPU wins where answers
# are needed one at a time, soon, from few events, on little power. In between, measure.
# Both are often used: trained on a GPU, then deployed on an NPU, as in this course.


# %%
@dataclass(frozen=True)
class Found:
    """What the chapters before have measured, for the answer."""

    ends: dict[int, float]  # up to which share of active inputs, in %, events are cheaper, by batch
    counts: Counts
    times: dict[str, list[float]]  # p50 in ms, frames a second in batches
    floor: float  # %


def gpu_or_npu(run: lesson.Run, found: Found) -> None:
    """Say from the measured numbers when to take a GPU and when an NPU."""
    by_frames = 100 * (1 - found.counts["frames"]["activation sparsity"])
    by_spikes = 100 * (1 - found.counts["spikes"]["activation sparsity"])
    p50, in_batches = found.times["frames"]
    gain = p50 * in_batches / 1000
    rows = [
        ["training", "backward pass, floats", "GPU"],
        ["many at once", f"{gain:.1f} x the frames/s in batches", "GPU"],
        ["dense activity", f"events pay up to {found.ends[100]:.3g} % in batches", "GPU"],
        ["one at a time", f"events pay up to {found.ends[1]:.3g} %", "NPU"],
        ["few events", f"here {by_frames:.0f} % (frames), {by_spikes:.0f} % (spikes)", "NPU"],
        ["long waits", f"floor {found.floor:.0f} % and more at 30/s", "lowest floor"],
    ]
    run.table("GPU or NPU?", ["you have", "measured here, or published", "take"], rows)
    run.say(
        "The last column is advice, by the argument of this lesson: a GPU to train, and to answer many "
        "questions at once; an NPU for one frame at a time with few events. If it waits most of the time, "
        "look at the floor first, not at the network."
    )


# %%
def main(config: Config, run: lesson.Run) -> None:
    images = data.load("cifar10", "train").subset(config.images)
    test = data.load("cifar10", "test").subset(300 if run.scale == "quick" else 10_000)
    for used in (images, test):
        run.uses(used)
    net = train(config, run, images).cpu()
    if not run.is_first_seed:
        compare(run, net, test)  # a further seed gives the accuracies their spread, no more
        return
    integers = net.to_integers()
    found = place(run, net, test.images[:500])
    count_by_hand(run)
    ends = when_events_pay(run)
    compare(run, net, test)
    count_tiny(run)
    counts = count(run, integers, test.images[: config.counted])
    ask_the_chip(run)
    map_lesson_10(config, run, images, test)
    times = time_frames(config, run, net, test.images)
    rows = ledger(run, integers, counts, test.images, found)
    draw_ledger(run, rows)
    catch_billing(run, counts)
    floor = floor_by_rate(run)
    hardware_table(run)
    gpu_or_npu(run, Found(ends, counts, times, floor))


if __name__ == "__main__":
    lesson.start(main, Config, SCALES)
