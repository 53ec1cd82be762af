"""Lesson 09: training with backpropagation through time.

Question: How does an error at the output find its way back through spikes and time, and what does that cost?
Reading:  Eshraghian et al. (2023) sec. IV; Werbos (1990); snnTorch tutorial 5.
Run:      python lessons/09_training_bptt.py
Expect:   98.5 % read by spike counts (ce_count), 98.4 % by the membrane, in 33 CPU seconds each; one epoch
          as in snnTorch's tutorial: 94.8 ± 0.9 and 96.4 ± 0.2 % (the tutorial prints 93.87). 3 seeds,
          8 CPU minutes.
"""

# %% [markdown]
# Lesson 07 gave a spike a slope, lesson 08 put neurons into layers. Now the network learns.
# You know how an ordinary network is trained: forward, a loss, `backward()`, a step of the
# optimiser. All of that stays. What is new is that an answer at the last time step hangs on
# membranes and spikes of all the steps before, so the error must find its way back through
# time as well as through layers.
#
# In this lesson you
#
# 1. train a network with a plain loop, every line in sight,
# 2. follow one error back through time, by hand,
# 3. choose what counts as an answer: six losses, and when each answer can be read,
# 4. see how sensitive the learning rate is, and what no learning rate mends,
# 5. pay for it: memory that grows with every time step,
# 6. cut the walk back (truncated BPTT), where that costs little, and where it costs
#    everything.

# %%
import sys
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

sys.path.insert(0, str(Path(globals().get("__file__", "any.py")).resolve().parents[1]))  # where snn_course is

from snn_course.runs import figures, lesson
from snn_course import UsageError, data
from snn_course.costs.memory import keep_freed
from snn_course.networks import neurons
from snn_course.networks.watch import Watch

import numpy as np
import snntorch as snn
import torch
from snntorch import functional as snntorch_losses
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss, one_hot


@dataclass(frozen=True)
class Config(lesson.Config):
    dataset: str = "mnist"
    """Set of images: mnist, fashion-mnist, cifar10, emnist, kmnist, cifar100, or a folder that holds a folder
    of pictures for each class."""

    images: Annotated[int, lesson.Range(2000, 60_000)] = 60_000
    """Number of training images; all, where there are fewer."""

    epochs: Annotated[int, lesson.Range(1, 100)] = 5
    """Passes over the training images."""

    num_steps: Annotated[int, lesson.Range(2, 200)] = 10
    """Time steps for which the network sees an image."""


SCALES: lesson.Scales = {
    "quick": {"images": 4000, "epochs": 2},
    "cpu": {"seeds": 3},
    "gpu": {"seeds": 3, "epochs": 10},
}
# Network, batch and time steps of snnTorch's tutorial 5.
HIDDEN = 1000
BETA = 0.95
BATCH = 128
LONG = 25
Run = lesson.Run
Pair = tuple[Tensor, Tensor]  # images [B, 784] and labels [B]
Records = tuple[Tensor, Tensor, Tensor]  # spikes [T, B, H] and [T, B, 10], membranes [T, B, 10]


@dataclass(frozen=True)
class Digits:
    """Images as bytes [N, 784], 0 to 255, their labels [N], and how many classes there are."""

    x: Tensor
    y: Tensor
    classes: int = 10

    def batch(self, rows: Tensor) -> Pair:
        """Give pixels [B, 784] from 0 to 1, and labels [B]."""
        return self.x[rows] / 255, self.y[rows]

    def part(self, rows: slice) -> "Digits":
        """Give some of the images, as a set of its own."""
        return Digits(self.x[rows], self.y[rows], self.classes)


# %% [markdown]
# ## 1. A plain training loop
#
# The network of lesson 08: 784 pixels, 1000 hidden neurons, 10 output neurons, one for each
# digit. An image is shown at every step; the membranes remember from step to step. Weights
# live in `fc1` and `fc2`, time lives in `lif1` and `lif2`.
#
# Look at what `forward` gives back. It is not only the answer but the whole story: the
# spikes of both layers and the output membranes at each step, stacked along axis 0. The
# loss decides later which part of it counts. And look at where the membranes begin: at zero
# in each call. A batch holds other images than the last one, so nothing may be left of it.
# (The neurons are handed their membranes at every step, so what they keep by themselves is
# never used: no `utils.reset` is needed here.)


# %%
class Net(nn.Module):
    """784 pixels, HIDDEN neurons, 10 classes."""

    def __init__(self, num_hidden: int = HIDDEN, num_classes: int = 10) -> None:
        super().__init__()
        self.fc1 = nn.Linear(784, num_hidden)
        self.fc2 = nn.Linear(num_hidden, num_classes)
        self.lif1 = snn.Leaky(beta=BETA)
        self.lif2 = snn.Leaky(beta=BETA)

    def forward(self, x: Tensor, num_steps: int) -> Records:
        """Show images x [B, 784]. Returns: spikes of both layers and membranes of the output, [T, B, N]."""
        mem1 = self.lif1.init_leaky()  # reset here: each batch starts with empty membranes
        mem2 = self.lif2.init_leaky()
        spk1_rec, spk2_rec, mem2_rec = [], [], []
        for _ in range(num_steps):  # time is axis 0
            cur1 = self.fc1(x)  # [B, H]
            spk1, mem1 = self.lif1(cur1, mem1)  # [B, H]
            cur2 = self.fc2(spk1.to(x.dtype))  # [B, 10]; the spikes of snnTorch are always float32
            spk2, mem2 = self.lif2(cur2, mem2)  # [B, 10]
            spk1_rec.append(spk1)
            spk2_rec.append(spk2)
            mem2_rec.append(mem2)
        return torch.stack(spk1_rec), torch.stack(spk2_rec), torch.stack(mem2_rec)


# %% [markdown]
# The loop below is what snnTorch's tutorial 5 does. Forward through all steps; a loss;
# backward; a step of the optimiser. The loss asks the membrane of the right output neuron
# to be the highest, at every step (`cross_entropy` turns ten numbers into probabilities and
# punishes a small one at the right place). One call of `loss.backward()` walks back through
# all steps: *backpropagation through time*, BPTT.
#
# Why at every step, and not at the end alone? An error at step 3 then need not come from
# step 25: each step has one of its own. The mean over the steps keeps the size of the loss
# the same for any number of steps. A network that guesses gives each of ten digits the
# probability 0.1, so its loss is $-\ln 0.1 = 2.30$ *nats* (the unit of a natural
# logarithm). Compare where the curve of the figure begins. It is ragged because each point
# is another batch of 128 images; what to look for is that its level falls, and where it
# becomes flat.
#
# Note the order of the three lines at the end. `zero_grad` empties the gradients of the
# last batch, `backward` fills them, `step` uses them. PyTorch *adds* gradients, and that is
# useful here: `fc1` is used 25 times in one forward pass, and its 25 gradients add up.


# %%
def train_plainly(config: Config, run: Run, train: Digits, test: Digits) -> None:
    """Train with snn.Leaky and a plain loop on a fifth of the images, and draw the loss."""
    torch.manual_seed(run.seed)
    net = Net(num_classes=train.classes).to(run.device)
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-4)
    order = torch.randperm(len(train.y) // 5)
    batches = order.split(BATCH)
    losses = []
    for rows in run.progress(batches, "plain loop"):
        x, y = train.batch(rows)
        # exercise: one training step, with the loss at each time step
        _, _, mem_rec = net(x, LONG)  # [T, B, 10]
        loss = torch.zeros((), device=run.device)
        for mem in mem_rec:
            loss = loss + cross_entropy(mem, y) / LONG
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        # end
        losses.append(loss.item())
    accuracy = evaluate(net, test, LONG)["count"]
    draw_loss(run, losses, accuracy)
    run.measure("plain loop, a fifth of the images: accuracy", accuracy, "%")
    run.say(
        f"{len(losses)} batches are enough for {accuracy:.1f} % on images that it never saw, read by "
        "counting the output spikes."
    )


def draw_loss(run: Run, losses: list[float], accuracy: float) -> None:
    """Draw the loss of each batch."""
    first = losses[0]
    last = losses[-1]
    fig, (ax,) = figures.new(
        f"{len(losses)} steps: the loss goes from {first:.2f} to {last:.2f}, "
        f"{accuracy:.1f} % of test images are right"
    )
    ax.plot(losses)
    ax.set(xlabel="training step", ylabel="cross-entropy, nats")
    ax.set_ylim(0, None)
    run.figure(fig, "loss_curve")


# %% [markdown]
# ### The same network, faster
#
# Every experiment below trains this network, so it should be quick. Two tricks of lesson
# 08: a still image is multiplied with the weights once, not at each step; and
# `neurons.leaky` runs a layer of neurons over all steps as one operation with its own
# backward pass. `run_fast` gives the same spikes and the same gradients as `Net.forward`,
# which is proven, and the gain is measured.
#
# How do you prove that two ways are the same? Give both the same network and the same
# batch, and compare the gradient of the weights that lie deepest, `fc1`: all that could
# differ, spikes, slopes, sums over steps, ends up in it. Why in float64? Two ways add the
# same numbers in another order, and so round them differently. A membrane that lies within
# this rounding of its threshold would fire in one way and not in the other, and that is a
# whole spike. With 16 digits the rounding is so small that none lies there.


# %%
def run_fast(net: Net, x: Tensor, num_steps: int) -> Records:
    """Do what ``net(x, num_steps)`` does: spikes of both layers and membranes of the output, [T, B, N]."""
    cur1 = net.fc1(x)  # [B, H]: multiplied once, shown at each step
    spk1, _ = neurons.leaky(cur1, BETA, num_steps=num_steps)  # [T, B, H]
    spk2, mem2 = neurons.leaky(net.fc2(spk1), BETA)  # [T, B, 10]
    return spk1, spk2, mem2


def compare_speed(config: Config, run: Run, batch: Pair) -> None:
    """Prove that both ways give the same gradient, and time a training step of each."""
    x, y = batch
    exact = x.double()
    small = Net(100).to(run.device).double()  # in float64, rounding moves no spike
    plain = gradient_of_fc1(small, small(exact, config.num_steps), y)
    fast = gradient_of_fc1(small, run_fast(small, exact, config.num_steps), y)
    run.proof("gradient of fused scan = of loop", off_by(fast, plain))
    net = Net().to(run.device)
    optimizer = torch.optim.Adam(net.parameters(), fused=True)  # fused: the same Adam, faster

    def slow_step() -> None:
        train_step(optimizer, net(x, LONG), y)

    def fast_step() -> None:
        train_step(optimizer, run_fast(net, x, LONG), y)

    ways = {"plain loop": slow_step, "this lesson": fast_step}
    race = lesson.load(8).race  # that of lesson 08: each way in turn, on one thread
    spent = race(run, f"Training step, T {LONG}, with Adam", ways)
    gain = min(spent["plain loop"]) / min(spent["this lesson"])
    goal = {"quick": 2, "cpu": 5}
    run.measure("training step: gain over the tutorial", gain, "x", at_least=goal, speed=True)


def train_step(optimizer: torch.optim.Optimizer, records: Records, y: Tensor) -> None:
    """Take one step with the tutorial's loss."""
    _, spk, mem = records
    optimizer.zero_grad()
    every_step(spk, mem, y).backward()
    optimizer.step()


def off_by(gradient: Tensor, true: Tensor) -> float:
    """Give the length of the difference of two gradients, as a share of the true one."""
    return (torch.dist(gradient, true) / true.norm()).item()


def gradient_of_fc1(net: Net, records: Records, y: Tensor) -> Tensor:
    """Give the gradient of the first layer's weights for the loss on spike counts."""
    _, spk, mem = records
    loss = ce_count(spk, mem, y)
    return torch.autograd.grad(loss, net.fc1.weight)[0]


# %% [markdown]
# ## 2. What BPTT computes
#
# Unroll the loop over time, and it is a deep network: step $t$ is a layer, fed by its input
# and by the membrane of step $t - 1$, and all these layers share their weights. (A
# recurrent network, an RNN, is trained in the same way. Two things differ. The state is the
# membrane, which a fixed $\beta < 1$ carries on where an RNN has a learnt matrix: so through
# time an error fades by the same factor at each step, where a matrix may also make it
# explode. And a spike stands between the layers, whose slope is a surrogate.) The chain
# rule then runs from the last step to the first.
#
# Take one layer, $U[t] = \beta U[t-1] + W x[t] - S[t-1]\,U_{thr}$, with the reset detached.
# Let $g[t]$ be the gradient of the loss by $U[t]$, along all paths. $U[t]$ acts in two
# ways: through its own spike, with the surrogate slope $h$ of lesson 07, and through the
# next membrane. So
#
# $$g[t] = \frac{\partial L}{\partial S[t]}\,h(U[t] - U_{thr}) + \beta\,g[t+1],$$
#
# $$\frac{\partial L}{\partial W} = \sum_t g[t]\,x[t]^T .$$
#
# Read the first formula from the end: an error at step $t + k$ reaches step $t$ with the
# factor $\beta^k$. Written out, $g[t] = \sum_k \beta^k\,e[t+k]$, where $e$ is the first
# term. With $\beta = 0.95$, half of it is left after 14 steps. (`neurons.ATAN` is the
# surrogate slope $h$, atan with $k = 2$.)
#
# The second formula has no time in it but a sum. The weights are the same at each step, so
# each step's share is its error times its input, and the shares are added. What must be
# remembered from the forward pass? The inputs $x[t]$ and the membranes $U[t]$, for every
# $t$: chapter 5 counts what that costs.
#
# Below, these two formulas as a loop, compared with what PyTorch's autograd gives for
# `snn.Leaky`. `grad_mem` is $g$. When the loop reaches step $t$, it still holds $g[t+1]$;
# one line makes $g[t]$ of it, the next adds this step's share.


# %%
def bptt_by_hand(x: Tensor, mem_rec: Tensor, grad_spk: Tensor, beta: float, threshold: float) -> Tensor:
    """Walk back through time in one layer of snn.Leaky.

    Args:
        x: inputs [T, B, I].
        mem_rec: membranes of the forward pass [T, B, N].
        grad_spk: gradient of the loss by each spike [T, B, N].
        beta: decay of the membrane per step.
        threshold: of the neurons.

    Returns:
        The gradient of the loss by the weights [N, I].
    """
    grad_mem = torch.zeros_like(mem_rec[0])  # g of the step after the last: nothing
    grad_weight = torch.zeros_like(grad_mem.T @ x[0])  # [N, I]
    for t in reversed(range(len(x))):
        # exercise: g[t] from g[t + 1], and this step's share of the weights' gradient
        slope = neurons.ATAN(mem_rec[t] - threshold)
        grad_mem = grad_spk[t] * slope + beta * grad_mem  # [B, N]
        grad_weight += grad_mem.T @ x[t]
        # end
    return grad_weight


# %% [markdown]
# The loop looks short, so it is worth asking what each factor is for. We leave out one at a
# time, and compare the *direction* of what comes out with the true gradient: its length
# hardly matters, for Adam divides it away. Without the way through time (`beta` 0 on the
# way back) each step only hears of its own error. Without the slope every neuron is told of
# every error, as if a push of its membrane always changed its spike. Both give numbers of
# the right shape, and no error message tells you; only the comparison does.
#
# To get the true gradient of *any* loss, we need not choose one: the loss acts on the layer
# only through $\partial L / \partial S[t]$, one number for each spike. So we draw these
# numbers at random (`grad_spk`), and the loss whose slopes they are is the sum of all
# spikes times them.


# %%
def compare_by_hand(config: Config, run: Run) -> None:
    """Compare the loop above with autograd; and two ways to get it wrong."""
    x = (torch.rand(LONG, 16, 50) < 0.2).double()  # [T, B, I]: random spikes
    weight = 0.4 * torch.randn(20, 50, dtype=torch.float64)
    weight.requires_grad_()
    lif = snn.Leaky(beta=BETA)
    mem = torch.zeros(16, 20, dtype=torch.float64)
    spk_rec, mem_rec = [], []
    for x_t in x.unbind(0):
        spk, mem = lif(x_t @ weight.T, mem)
        spk_rec.append(spk.double())
        mem_rec.append(mem)
    spk = torch.stack(spk_rec)  # [T, B, N]
    mems = torch.stack(mem_rec).detach()
    grad_spk = torch.randn_like(spk)  # any loss: these are its slopes
    loss = (spk * grad_spk).sum()
    (true,) = torch.autograd.grad(loss, weight)
    own = bptt_by_hand(x, mems, grad_spk, BETA, 1.0)
    run.proof("BPTT by hand = autograd", off_by(own, true))

    no_time = bptt_by_hand(x, mems, grad_spk, 0.0, 1.0)  # beta 0: no step hears of a later one
    no_slope = bptt_without_slope(x, grad_spk)
    without_time = cosine(no_time, true)
    without_slope = cosine(no_slope, true)
    rows = [
        ["no way back through time", without_time],
        ["no surrogate slope", without_slope],
    ]
    run.table("Catch: two shortcuts", ["left out", "cosine to the true gradient"], rows)
    run.measure("catch: cosine without the way through time", without_time, at_most=0.9)
    run.say(
        "A cosine of 1 means the same direction, 0 means unrelated. Without the way through time it is "
        f"{without_time:.2f}, without the slope {without_slope:.2f}."
    )


def bptt_without_slope(x: Tensor, grad_spk: Tensor) -> Tensor:
    """Treat a spike as if it were its membrane."""
    grad_mem = torch.zeros_like(grad_spk[0])
    grad_weight = torch.zeros_like(grad_mem.T @ x[0])  # [N, I]
    for t in reversed(range(len(x))):
        grad_mem = grad_spk[t] + BETA * grad_mem
        grad_weight += grad_mem.T @ x[t]
    return grad_weight


def cosine(one: Tensor, other: Tensor) -> float:
    """Give the cosine of the angle between two gradients: 1 for the same direction."""
    return torch.cosine_similarity(one.flatten(), other.flatten(), dim=0).item()


# %% [markdown]
# How far back does an error reach in the whole network? We give each step weights of its
# own, all with the same values. Two things can then be seen. The gradients of all steps add
# up to what BPTT gives for the shared weights: that is why BPTT may sum. And for an error
# at the last step alone, the size of each step's gradient shows how far it reaches. What to
# expect? There are two leaky layers in a row. The error decays in each, and there are $k +
# 1$ ways to share $k$ steps between them: about $(k + 1)\,\beta^k$.
#
# The figure reads from right to left in time: $k = 0$ is the last step, where the error is,
# and each step to the right lies one step earlier. The dotted line is what one leaky layer
# would leave, the dashed one what two would; each curve is drawn as a share of its largest
# value. Is the largest gradient that of the last step? If not, why would an earlier input
# matter more? (An input needs time to charge two membranes, one after the other. For
# $\beta = 0.95$ the dashed curve is highest at $k = 18$ and $19$, and only then falls.)


# %%
def follow_one_error(config: Config, run: Run, batch: Pair) -> None:
    """Unroll the first layer by hand, with weights of its own for each step."""
    x = batch[0].double()
    y = batch[1]
    net = Net(100).to(run.device).double()
    shared = gradient_of_fc1(net, net(x, LONG), y)
    weights = net.fc1.weight.detach().repeat(LONG, 1, 1)  # [T, 100, 784]
    weights.requires_grad_()
    cur1 = x @ weights.mT + net.fc1.bias  # [T, B, 100]
    spk1, _ = neurons.leaky(cur1, BETA)  # [T, B, 100]
    spk2, mem2 = neurons.leaky(net.fc2(spk1), BETA)  # [T, B, 10]
    loss = ce_count(spk2, mem2, y)
    (each,) = torch.autograd.grad(loss, weights, retain_graph=True)  # the graph serves once more below
    run.proof("sum of gradients of all steps = BPTT", off_by(each.sum(0), shared))

    at_the_end = cross_entropy(mem2[-1], y)  # an error at the last step alone
    (last,) = torch.autograd.grad(at_the_end, weights)
    sizes = last.norm(dim=(1, 2)).cpu().flip(0)  # [T], the last step first
    older = sizes[5:].sum() / sizes.sum()
    percent = 100 * older.item()
    run.measure("last step's error: share 5 or more steps back", percent, "%")
    draw_reach(run, sizes, percent)
    peak = int(sizes.argmax())
    run.say(
        f"The gradient is largest {peak} steps before the last, {sizes[peak] / sizes[0]:.1f} times as large "
        "as at the last step itself."
    )


def draw_reach(run: Run, sizes: Tensor, older: float) -> None:
    """Draw the size [T] of each step's gradient, the last step first, and what decay alone would leave."""
    back = np.arange(len(sizes))
    one = BETA**back
    two = (back + 1) * one
    fig, (ax,) = figures.new(f"{older:.0f} % of the last step's error lands 5 or more steps back")
    ax.plot(sizes / sizes.max(), "o-", label="gradient of each step's weights")
    ax.plot(one, ":", color=figures.GREY, label=r"one layer: $\beta^k$")
    ax.plot(two / two.max(), "--", color=figures.GREY, label=r"two layers: $(k + 1)\,\beta^k$")
    ax.set(xlabel="k, steps before the last", ylabel="size, share of the largest")
    ax.set_ylim(0, None)
    ax.legend()
    run.figure(fig, "reach")


# %% [markdown]
# ## 3. What is an answer? Six losses
#
# Ten output neurons fire over ten steps. What should be asked of them? An ordinary network
# gives ten numbers, and there is no choice. Here there are a hundred spikes and a hundred
# membranes for each image, and each loss below makes ten numbers of them in its own way.
# All but one end in `cross_entropy`; what differs is which numbers go in.
#
# *Rate* losses count spikes. `ce_rate` asks the right neuron to fire at *each* step
# (cross-entropy, CE, of every step; with scores of 0 and 1 it is never below $\ln(e + 9) -
# 1 = 1.46$, so it never stops pushing). `ce_count` asks it to fire more often than the
# others (CE of counts; not of their means, for of scores from 0 to 1 a softmax can never
# become sure). `mse_count` asks for a set share of steps: the right one at 80 %, the others
# at 20 %. Many spikes vote, so one spike matters little; but the vote is complete only at
# the end. (Why 20 % and not 0? A neuron that never fires sits far below its threshold,
# where the surrogate's slope is small. It would be hard to wake.)
#
# The *latency* loss asks the right neuron to fire *first* (CE of minus the first spike
# times). The answer hangs on a single spike, but the network may stop as soon as it has
# come. (First is not soon: where all neurons fire, a step more for all of them leaves this
# loss as it is.) How can a gradient know about a first spike? Write it as a product:
# $\prod_{s \le t} (1 - S[s])$ is 1 as long as no spike has come and 0 afterwards, so its
# sum over $t$ counts the silent steps. PyTorch knows the slope of a product, and the
# surrogate the slope of each $S[s]$. So a neuron that never fires is told at each of its
# steps, and one that has fired hears nothing of the steps after that.
#
# *Membrane* losses look at real numbers: the mean membrane over all steps, or the membrane
# of the last step alone. (snnTorch also has its maximum over time, `ce_max_membrane_loss`.)
# Such a loss passes no output spike on the way back, but it is NOT a spike output: a chip
# that sends nothing but spikes cannot give that answer.


# %%
def first_spike(spk: Tensor) -> Tensor:
    """Give the steps before each neuron's first spike, T if it never fires: [T, B, N] -> [B, N]."""
    return (1 - spk).cumprod(0).sum(0)  # the product is 1 before the first spike, and 0 from it on


def ce_rate(spk: Tensor, mem: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy of every step's spikes."""
    each_step = spk.flatten(0, 1)  # [T * B, 10]
    return cross_entropy(each_step, y.repeat(len(spk)))


def ce_count(spk: Tensor, mem: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy of the spike counts."""
    return cross_entropy(spk.sum(0), y)


def mse_count(spk: Tensor, mem: Tensor, y: Tensor) -> Tensor:
    """Squared distance of the counts from 80 % and 20 % of the steps, over T."""
    wanted = 0.2 + 0.6 * one_hot(y, spk.shape[2])
    return len(spk) * mse_loss(spk.mean(0), wanted)  # (count - T wanted)^2 / T = T (count / T - wanted)^2


def latency(spk: Tensor, mem: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy of minus the first spike times."""
    return cross_entropy(-first_spike(spk), y)


def membrane(spk: Tensor, mem: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy of the mean membrane."""
    return cross_entropy(mem.mean(0), y)


def last_membrane(spk: Tensor, mem: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy of the membrane at the last step."""
    return cross_entropy(mem[-1], y)


def every_step(spk: Tensor, mem: Tensor, y: Tensor) -> Tensor:
    """The tutorial's loss: cross-entropy of the membrane at every step."""
    each_step = mem.flatten(0, 1)  # [T * B, 10]
    return cross_entropy(each_step, y.repeat(len(mem)))


Loss = Callable[[Tensor, Tensor, Tensor], Tensor]  # of output spikes and membranes [T, B, 10], labels [B]
LOSSES: dict[str, Loss] = {
    "ce_rate": ce_rate,
    "ce_count": ce_count,
    "mse_count": mse_count,
    "latency": latency,
    "membrane": membrane,
    "last membrane": last_membrane,
}


# %% [markdown]
# snnTorch has the three rate losses in `snntorch.functional`. You would use those; ours
# stand above to show what is inside. So they must be equal, in value and in gradient.


# %%
def equal_to_snntorch(run: Run) -> None:
    """Compare each rate loss and its gradient with snnTorch's."""
    spk = (torch.rand(LONG, 64, 10) < 0.2).float()  # [T, B, 10]
    spk.requires_grad_()
    labels = torch.randint(10, (64,))
    theirs = {
        "ce_rate": snntorch_losses.ce_rate_loss(),
        "ce_count": snntorch_losses.ce_count_loss(),
        "mse_count": snntorch_losses.mse_count_loss(correct_rate=0.8, incorrect_rate=0.2),
    }
    for name, their_loss in theirs.items():
        own = LOSSES[name](spk, spk, labels)
        their = their_loss(spk, labels)
        (own_grad,) = torch.autograd.grad(own, spk)
        (their_grad,) = torch.autograd.grad(their, spk)
        error = torch.dist(own, their) + torch.dist(own_grad, their_grad)
        run.proof(f"{name} and its gradient = snnTorch's", error.item())


# %% [markdown]
# Training and reading are two things. Each trained network is read in three ways: by
# counts, by who fires first, by the mean membrane. And *when* can an answer be read? A loss
# on first spikes, people say, gives it earlier. We do not take that on trust: each network
# is stopped after 1, 2, 3... steps and asked for its answer so far, by its own read-out.
#
# A *read-out* gives each class a score, `[T, B, 10]` to `[B, 10]`, and the highest score is
# the answer. Unlike a loss it needs no label and no gradient: it is what the finished
# network does. Which of the four below could be read from a chip that sends only spikes?


# %%
def by_count(spk: Tensor, mem: Tensor) -> Tensor:
    """Score each class by its spikes."""
    return spk.sum(0)


def by_first_spike(spk: Tensor, mem: Tensor) -> Tensor:
    """Score each class by how early it fires; a tie goes to the lower class."""
    return -first_spike(spk)


def by_membrane(spk: Tensor, mem: Tensor) -> Tensor:
    """Score each class by its mean membrane: no spike output."""
    return mem.mean(0)


def by_last_membrane(spk: Tensor, mem: Tensor) -> Tensor:
    """Score each class by its membrane now: no spike output."""
    return mem[-1]


Scores = dict[str, Any]  # what was measured on a trained network, by name
ReadOut = Callable[[Tensor, Tensor], Tensor]  # the highest score answers
READ_OUTS: dict[str, ReadOut] = {
    "count": by_count,
    "first spike": by_first_spike,
    "membrane": by_membrane,
}
OWN: dict[str, ReadOut] = {  # what a loss trains, if not the count
    "latency": by_first_spike,
    "membrane": by_membrane,
    "last membrane": by_last_membrane,
}


@torch.no_grad()
def evaluate(net: Net, test: Digits, num_steps: int, own: ReadOut = by_count) -> Scores:
    """Read a network in all ways.

    Returns: the accuracy in % of each read-out and of its own; that after each step; spikes per image.
    """
    right = dict.fromkeys(READ_OUTS, 0)
    after = torch.zeros(num_steps, dtype=torch.float64)  # right answers if one stops after a step [T]
    spikes = 0
    for rows in torch.arange(len(test.y)).split(1000):
        x, y = test.batch(rows)
        hidden, spk, mem = run_fast(net, x, num_steps)
        spikes += int(hidden.sum() + spk.sum())
        for name, read_out in READ_OUTS.items():
            right[name] += count_right(read_out(spk, mem), y)
        for seen in range(1, num_steps + 1):
            so_far = own(spk[:seen], mem[:seen])
            after[seen - 1] += count_right(so_far, y)
    count = len(test.y)
    scores: Scores = {}
    for name, answers in right.items():
        scores[name] = 100 * answers / count
    scores["after"] = (100 * after / count).tolist()
    scores["own"] = scores["after"][-1]
    scores["spikes"] = spikes / count
    return scores


def count_right(scores: Tensor, y: Tensor) -> int:
    """Count the rows of [B, 10] whose highest score is that of the label."""
    return int((scores.argmax(1) == y).sum())


# %% [markdown]
# Now the training that all experiments share. One thing is more than the loop of chapter 1:
# the learning rate is not constant. It rises for the first 30 % of the updates, so that the
# first gradients, of random weights, do not throw the neurons far from their threshold, and
# falls to 0 at the end, so that the last batches do not decide. (The tutorial's rate is
# constant, so its network is trained with `start` equal to `rate`.) All networks begin with
# the same weights and see the same batches: what differs in the table comes from the loss.
#
# After each epoch the network and the optimiser are saved. Who stops the lesson and starts
# it again goes on from there, and gets the same result as without the stop.


# %%
RATE = 2e-3  # highest learning rate of Adam; chosen, like the epochs, on held-out training images


@dataclass(frozen=True)
class Training:
    """How a network is trained: its loss, its time steps and epochs, its learning rate, its window.

    The rate goes from ``start`` to ``rate`` in the first 30 % of the updates, and back to ``start``.
    """

    name: str
    loss: Loss
    num_steps: int
    epochs: int = 1
    rate: float = RATE
    start: float = 0.0
    window: int | None = None
    """Steps of a window of truncated BPTT (chapter 6); None walks back through all steps."""

    def learning_rate(self, done: float) -> float:
        """Give the rate when a share of the updates is done, 0 to 1."""
        rates = (self.start, self.rate, self.start)
        return float(np.interp(done, (0, 0.3, 1), rates))


def leave_gradients(net: Net, x: Tensor, y: Tensor, training: Training) -> None:
    """Show still images [B, 784], and leave the gradients of BPTT in the parameters."""
    if training.window is None:
        _, spk, mem = run_fast(net, x, training.num_steps)
        loss = training.loss(spk, mem, y)
        lesson.finite(loss, net).backward()
    else:
        truncated(net, x, y, training)


def train(run: Run, training: Training, digits: Digits, test: Digits) -> Scores:
    """Train a network, each epoch kept in case of a stop. Returns: scores of ``evaluate``, CPU seconds."""
    torch.manual_seed(run.seed)  # each training starts from the same weights, with the same batches
    net = Net(num_classes=digits.classes).to(run.device)
    optimizer = torch.optim.Adam(net.parameters(), lr=training.rate, fused=True)
    if known := run.load(f"{training.name}, scores"):  # trained before the run was cut off
        return known
    kept = run.load(training.name, net=net, optimizer=optimizer)  # this training was cut off: go on
    kept = kept or {"epoch": 0, "seconds": 0.0}
    seconds = kept["seconds"]
    for epoch in range(kept["epoch"], training.epochs):
        begun = time.process_time()
        train_epoch(run, net, optimizer, training, digits, epoch)
        seconds += time.process_time() - begun
        state = {
            "epoch": epoch + 1,
            "seconds": seconds,
            "net": net.state_dict(),
            "optimizer": optimizer.state_dict(),
        }
        run.save(training.name, state)
    own = OWN.get(training.name, by_count)
    scores = evaluate(net, test, training.num_steps, own)
    scores["CPU s"] = seconds
    run.save(f"{training.name}, scores", scores)
    return scores


def train_epoch(run: Run, net: Net, optimizer: Any, training: Training, digits: Digits, epoch: int) -> None:
    """Go through all images once."""
    order = torch.randperm(len(digits.y))
    batches = order.split(BATCH)
    shown = run.progress(batches, f"{training.name}, epoch {epoch + 1}")
    for number, rows in enumerate(shown):
        done = (epoch + number / len(batches)) / training.epochs
        optimizer.param_groups[0]["lr"] = training.learning_rate(done)
        optimizer.zero_grad()
        leave_gradients(net, *digits.batch(rows), training)
        optimizer.step()


# %% [markdown]
# How to read the table: a row is a trained network, `own read-out` is what its loss trained
# it for, and the three columns after it read the *same* network in other ways. (The row
# `tutorial` trains membranes and reads counts, as the tutorial does.) Compare
# along a row: which networks can only be read as they were trained? Compare the last column
# down: which answers are cheap? Spikes are what a neuromorphic chip spends energy on. In
# the figure a curve that is high on the left gives its answer early. Where it has become
# flat, more steps only cost. (The table and the figure come from the first seed. With
# further seeds, three of these networks are trained again, and give the spread of the
# measures below them: `ce_count`, `membrane` and `tutorial`.)


# %%
def compare_losses(config: Config, run: Run, digits: Digits, test: Digits) -> None:
    """Train with each loss, and once as the tutorial does; read each network in all ways."""
    scores: dict[str, Scores] = {}
    for name in LOSSES:
        scores[name] = train_with(name, config, run, digits, test)
    curves = {name: score["after"] for name, score in scores.items()}
    scores["tutorial"] = train_as_tutorial(run, digits, test)
    rows = []
    for name, score in scores.items():
        rows.append([name, score["own"], *all_read_outs(score), score["spikes"]])
    columns = ["loss", "own read-out", *READ_OUTS, "spikes"]
    run.table("Test accuracy in % by read-out; spikes per image", columns, rows)
    judge(config, run, scores)
    tell_read_outs(run, scores)
    draw_answers(config, run, curves)


def train_with(name: str, config: Config, run: Run, digits: Digits, test: Digits) -> Scores:
    """Train with one of the six losses."""
    training = Training(name, LOSSES[name], config.num_steps, config.epochs)
    return train(run, training, digits, test)


def train_as_tutorial(run: Run, digits: Digits, test: Digits) -> Scores:
    """Train as the tutorial does: its loss, its steps, one epoch, and a rate that stays."""
    training = Training("tutorial", every_step, LONG, rate=5e-4, start=5e-4)
    return train(run, training, digits, test)


def train_again(config: Config, run: Run, digits: Digits, test: Digits) -> None:
    """Train with a further seed only what the head of this script gives a spread for."""
    scores = {"tutorial": train_as_tutorial(run, digits, test)}
    for name in ("ce_count", "membrane"):
        scores[name] = train_with(name, config, run, digits, test)
    judge(config, run, scores)


def tell_read_outs(run: Run, scores: dict[str, Scores]) -> None:
    """Say for one loss of each kind what its answer costs in spikes, and what a read-out by counts loses."""
    told = []
    for name in ("ce_count", "latency", "membrane"):
        score = scores[name]
        lost = score["own"] - score["count"]
        told.append(
            f"{name} {score['own']:.1f} % with {score['spikes']:.0f} spikes an image "
            f"(by counts {lost:.1f} points less)"
        )
    run.say("Read as trained: " + "; ".join(told) + ".")


def all_read_outs(score: Scores) -> list[float]:
    """Give the accuracy of each read-out, in the order of READ_OUTS."""
    return [score[read_out] for read_out in READ_OUTS]


def judge(config: Config, run: Run, scores: dict[str, Scores]) -> None:
    """Hold two networks against their goals, which are those of MNIST; the tutorial's stands beside them."""
    goal = {"quick": 88.5, "cpu": 98.3, "gpu": 98.3}
    bound = goal if config.dataset == "mnist" else None
    judged = {"spike counts": scores["ce_count"], "membrane, no spike output": scores["membrane"]}
    for name, score in judged.items():
        run.measure(f"{name}: accuracy", score["own"], "%", at_least=bound, headline=True)
        run.measure(f"{name}: training", score["CPU s"], "CPU s")
    for read_out in ("count", "membrane"):
        run.measure(f"tutorial, by {read_out}: accuracy", scores["tutorial"][read_out], "%")


def steps_to_answer(after: list[float]) -> int:
    """Give the first step after which the accuracy stays within a point of its last value."""
    ready = 1
    for step, accuracy in enumerate(after, start=1):
        if accuracy < after[-1] - 1:
            ready = step + 1  # not there yet
    return ready


def draw_answers(config: Config, run: Run, after: dict[str, list[float]]) -> None:
    """Draw the accuracy of an answer that is read after each step, and say when it can be read."""
    fig, (ax,) = figures.new("")
    ready = {}
    for marker, (name, curve) in zip("osD^vx", after.items(), strict=True):
        ready[name] = steps_to_answer(curve)
        seen = range(1, len(curve) + 1)
        ax.plot(seen, curve, f"{marker}-", ms=4, label=f"{name}: {ready[name]} steps")
    figures.retitle(
        fig,
        "Steps until the answer stays within a point of its last accuracy: "
        f"latency loss {ready['latency']}, ce_count {ready['ce_count']}",
    )
    ax.set(xlabel="steps seen when the answer is read", ylabel="test accuracy, %")
    ax.set_ylim(0, 100)
    figures.legend_outside(ax)
    run.figure(fig, "when_to_read")
    rows = [[name, float(steps)] for name, steps in ready.items()]
    run.table("Steps until the answer is there", ["loss", "steps"], rows)
    earliest = min(ready, key=ready.__getitem__)
    run.say(
        f"Earliest is {earliest}, after {ready[earliest]} of {config.num_steps} steps; the latency loss, "
        f"which asks the right neuron to be first, needs {ready['latency']}."
    )


# %% [markdown]
# ## 4. The learning rate
#
# Spiking networks are sensitive to it. Why? A step that is too large throws neurons far
# from their threshold: silent for every image, or firing nearly always. There the
# surrogate's slope is small, so hardly any gradient calls them back: at the large end of
# the table the spikes show it. At the small end nothing is broken; the updates are too
# small for so few batches. (Images held out from the training set judge here, not the test
# set. The rate of chapter 3 was chosen in the same way.)
#
# Both panels of the figure have the learning rate on a logarithmic axis, from 0.0001 to
# 0.1: a factor of 1000. On the left, look for how wide the flat top is: within which factor
# can you miss the best rate and lose hardly anything? On the right, look at the spikes at
# the rates where the accuracy falls. They tell a network that learns too slowly from one
# that was thrown out of its working range, which the accuracy alone does not.


# %%
RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)


def sweep_rates(run: Run, digits: Digits) -> None:
    """Train for one pass over a fifth at each learning rate, judged on another fifth."""
    fifth = len(digits.y) // 5
    part = digits.part(slice(fifth))
    held_out = digits.part(slice(-fifth, None))
    accuracies = []
    spikes = []
    rows: list[list[Any]] = []
    for rate in RATES:
        training = Training(f"rate {rate:g}", ce_count, 10, rate=rate)
        score = train(run, training, part, held_out)
        accuracies.append(score["count"])
        spikes.append(score["spikes"])
        rows.append([f"{rate:g}", score["count"], score["spikes"]])
    columns = ["learning rate", "held-out accuracy, %", "spikes"]
    run.table("ce_count, one pass over a fifth", columns, rows)
    draw_rates(run, accuracies, spikes)


def draw_rates(run: Run, accuracies: list[float], spikes: list[float]) -> None:
    """Draw accuracy and spikes against the learning rate, and say what the largest rate does."""
    best = int(np.argmax(accuracies))
    highest = accuracies[best]
    fig, (left, right) = figures.new(
        f"Best at {RATES[best]:g}: {highest:.1f} %; at {RATES[-1]:g}: {accuracies[-1]:.1f} %",
        columns=2,
        size=(9.5, 3.6),
    )
    left.plot(RATES, accuracies, "o-")
    left.axvline(RATE, color=figures.GREY, ls=":", label="used here")
    left.set_ylabel("held-out accuracy, %")
    left.legend()
    right.plot(RATES, spikes, "o-", color=figures.ORANGE)
    right.set_ylabel("spikes per image")
    right.set_ylim(0, None)
    for ax in (left, right):
        ax.set(xscale="log", xlabel="learning rate")
    run.figure(fig, "learning_rate")
    near = [rate for rate, accuracy in zip(RATES, accuracies, strict=True) if accuracy >= highest - 1]
    run.say(
        f"Within a point of the best lie the rates from {min(near):g} to {max(near):g}. "
        f"From the best rate to the largest the accuracy goes from {highest:.1f} to "
        f"{accuracies[-1]:.1f} %, the spikes of an image from {spikes[best]:.0f} to {spikes[-1]:.0f}."
    )


# %% [markdown]
# ### When it does not learn
#
# Three failures are behind most spiking networks that do not learn: neurons that *never
# fire*, so that nothing of the image gets through; neurons that *always fire*, so that
# their spikes say nothing; and spikes that *vanish with depth*. None of them is an error
# message, and no learning rate mends them. So look at the spikes of each layer first.
# `Watch` does so during one training step, and `training.fit`, with which later lessons
# train, looks in this way once an epoch. It also names a gradient that vanishes, one that
# is cut off (a spike without a surrogate, a `detach` too many), and the layer in which a
# nan first appears.
#
# Here a stack of layers is broken in three ways. Which of the three failures is each?
#
# - *Pixels divided by 255 twice.* Many data loaders have done it once already.
# - *First weights from 0 to 1.* `torch.rand` where `torch.randn` was meant: no weight is
#   negative, so 784 of them add up.
# - *Eight layers.* Each layer passes fewer spikes on than it got. The cure is an old one,
#   batch normalisation, which gives the currents of each layer the same spread.
#
# For each, the watch looks at the broken network and at the mended one. It must name the
# first and stay silent on the second: an alarm that always rings is none.


# %%
class Stack(nn.Module):
    """Layers of 100 neurons, as many as ``depth``, and one of 10; without biases."""

    def __init__(self, depth: int, normed: bool = False) -> None:
        super().__init__()
        hidden = depth * [100]
        sizes = [784, *hidden, 10]
        self.fc = nn.ModuleList()
        self.lif = nn.ModuleList()
        for before, after in pairwise(sizes):
            weights = nn.Linear(before, after, bias=False)
            norm = nn.BatchNorm1d(after) if normed else nn.Identity()
            self.fc.append(nn.Sequential(weights, norm))
            self.lif.append(snn.Leaky(beta=BETA))

    def forward(self, x: Tensor) -> Tensor:
        """Show images x [B, 784] for LONG steps. Returns: spike counts [B, 10]."""
        empty = torch.zeros(1, device=x.device)
        mems = len(self.lif) * [empty]  # each batch starts with empty membranes
        counts = torch.zeros(len(x), 10, device=x.device)
        for _ in range(LONG):
            spk = x
            for layer, lif in enumerate(self.lif):
                cur = self.fc[layer](spk)
                spk, mems[layer] = lif(cur, mems[layer])
            counts = counts + spk
        return counts


def all_positive(net: Stack) -> Stack:
    """Draw the first weights as ``torch.rand`` does, where a mix of signs was meant."""
    nn.init.uniform_(next(net.parameters()), 0, 1)
    return net


def watch_broken_nets(run: Run, batch: Pair) -> None:
    """Break a network in three ways, mend it, and let the watch say what it sees."""
    torch.manual_seed(run.seed)
    x, y = batch
    faults = {
        "pixels divided by 255 twice": (Stack(1), x / 255, Stack(1)),
        "first weights from 0 to 1": (all_positive(Stack(1)), x, Stack(1)),
        "eight layers": (Stack(8), x, Stack(8, normed=True)),
    }
    named = 0
    rows: list[list[Any]] = []
    for fault, (broken, seen, mended) in faults.items():
        kind, line = watched_step(broken, seen, y)
        after, _ = watched_step(mended, x, y)
        rows.append([fault, kind or "nothing", after or "nothing"])
        named += bool(kind) and not after
        run.say(f"{fault.capitalize()}: {line}")
    run.table("What the watch finds", ["fault", "broken", "mended"], rows)
    run.measure("faults that the watch names, and finds gone", named, at_least=len(faults))


def watched_step(net: Stack, x: Tensor, y: Tensor) -> tuple[str, str]:
    """Take one training step under the watch. Returns: the kind of its finding and a line on it."""
    net.to(x.device)
    with Watch(net) as watch:
        cross_entropy(net(x), y).backward()
    return watch.finding()


# %% [markdown]
# ## 5. What it costs: memory
#
# To walk back, each step must still be known: the slope $h$ needs every membrane, the
# weights' gradient every spike. So all of them are kept until the backward pass, and memory
# (VRAM on a GPU) grows *linearly with the number of steps*. For this network, a step needs
# the spikes and membranes of the hidden layer and the membranes of the output: $4\,B\,(2H +
# 10)$ bytes with 4-byte numbers and a batch of $B$. Half the steps save as much as half the
# batch. (This is what `run_fast` keeps; the plain loop keeps a little more.) On a GPU the
# run measures the VRAM as well. To watch it during a training of your own, ask
# `torch.cuda.max_memory_allocated()` (also with ROCm, as on a 7900 XTX), or run `nvidia-smi`
# or `rocm-smi --showmeminfo vram` in a second terminal.
#
# We ask autograd itself what it keeps, and compare it with this formula. PyTorch calls a
# hook for each tensor that a backward pass will need (`saved_tensors_hooks`): `keep` below
# is that hook. It notes the tensor without holding it (a *weak* set forgets what nobody
# else holds), and adds up the pieces of memory that are alive at that moment. Two tensors
# may be views of one piece; it must count once.
#
# In the figure, look at the *slope* of each line, not at its height: the slope is what one
# more time step costs. The second line belongs to chapter 6: there time is cut into
# windows, and it should be flat.


# %%
LENGTHS = (10, 25, 50, 100)  # num_steps for which memory is measured
Numbers = Sequence[float] | np.ndarray[Any, Any]


def graph_bytes(work: Callable[[], None]) -> tuple[int, int]:
    """Give the most bytes that autograd keeps at a time, and the most that a GPU's allocator gave out."""
    alive = weakref.WeakSet[Tensor]()  # autograd alone holds what it keeps
    most = 0

    def keep(tensor: Tensor) -> Tensor:
        nonlocal most
        kept = tensor.detach()
        alive.add(kept)
        pieces = {}
        for one in alive:
            memory = one.untyped_storage()
            pieces[memory.data_ptr()] = memory.nbytes()  # each piece of memory once
        most = max(most, sum(pieces.values()))
        return kept

    def give_back(kept: Tensor) -> Tensor:
        return kept

    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with torch.autograd.graph.saved_tensors_hooks(keep, give_back):
        work()
    return most, torch.cuda.max_memory_allocated()


def measure_memory(run: Run, batch: Pair) -> None:
    """Measure what the graph keeps in MB, by num_steps, and compare its line with the shapes."""
    net = Net().to(run.device)
    whole: list[float] = []
    windows: list[float] = []
    vram = []
    for num_steps in LENGTHS:
        graph, _ = memory_of(net, batch, num_steps, None)
        whole.append(graph)
        graph, peak = memory_of(net, batch, num_steps, 5)
        windows.append(graph)
        vram.append(peak)
    per_step = slope_of_line(LENGTHS, whole)
    in_windows = slope_of_line(LENGTHS, windows)
    shapes = 4 * BATCH * (2 * HIDDEN + 10) / 1e6  # MB
    run.proof("memory per step / (4 B (2 H + 10)) - 1", abs(per_step / shapes - 1))
    run.measure("memory per step, fused scan", per_step, "MB")
    run.measure("memory per step, windows of 5", round(in_windows, 9) + 0, "MB")  # + 0 turns -0 into 0
    if run.device.type == "cuda":
        run.measure("VRAM per step", slope_of_line(LENGTHS, vram), "MB")
    fig, (ax,) = figures.new(
        f"Memory for one step more: {per_step:.2f} MB; in windows of 5 steps {abs(in_windows):.2f} MB"
    )
    ax.plot(LENGTHS, whole, "o-", label="all steps")
    ax.plot(LENGTHS, windows, "o-", label="windows of 5")
    ax.set(xlabel="num_steps", ylabel="memory of the graph, MB")
    ax.set_ylim(0, None)
    ax.legend()
    run.figure(fig, "memory")


def memory_of(net: Net, batch: Pair, num_steps: int, window: int | None) -> tuple[float, float]:
    """Give what one backward pass keeps, and the most that a GPU gave out, in MB."""
    x, y = batch
    training = Training("memory", ce_count, num_steps, window=window)
    graph, peak = graph_bytes(partial(leave_gradients, net, x, y, training))
    return graph / 1e6, peak / 1e6


def slope_of_line(x: Numbers, y: Numbers) -> float:
    """Give the slope of the straight line that fits best."""
    return float(np.polyfit(x, y, 1)[0])


# %% [markdown]
# ## 6. Cutting the walk: truncated BPTT
#
# *Truncated* BPTT cuts time into windows. The membranes are handed from window to window as
# plain numbers, but no error crosses a cut. So memory for one window is enough, however
# long the sequence. What does it cost? (Two other ways out: *checkpointing*,
# `torch.utils.checkpoint`, keeps a few steps and computes the rest anew on the way back:
# the same gradient, for more time. And rules that carry their traces *forward* in time need
# no way back at all: lesson 15.)
#
# In code a cut is one word, `detach()`: the value goes on, the path back ends. `backward`
# is called once a window, which leaves its gradients and frees its graph. The gradients of
# all windows add up in the parameters, as those of all steps did in chapter 1, and only
# then comes one step of the optimiser. (`leaf` below is a trick for speed: still images
# need `fc1` once, so its gradients are collected at its output and sent through once.)
#
# The first column of the table is the direction of the gradient before any training,
# against that of full BPTT. Then each network is trained, and read in three ways. A window
# of 1 has no way back through time left at all. What would you expect of it on still
# images, which show the same at each step?


# %%
def truncated(net: Net, x: Tensor, y: Tensor, training: Training) -> None:
    """Leave the gradients of truncated BPTT: no error leaves its window of steps."""
    window = training.window or training.num_steps
    cur1 = net.fc1(x)  # [B, H]
    leaf = cur1.detach().requires_grad_()  # collects the gradients of all windows, for one pass through fc1
    mem1 = torch.zeros(1, device=x.device)
    mem2 = torch.zeros(1, device=x.device)
    for _ in range(0, training.num_steps, window):
        spk1, mem1_rec = neurons.leaky(leaf, BETA, mem=mem1, num_steps=window)  # [W, B, H]
        spk2, mem2_rec = neurons.leaky(net.fc2(spk1), BETA, mem=mem2)  # [W, B, 10]
        loss = training.loss(spk2, mem2_rec, y) * window / training.num_steps
        lesson.finite(loss).backward()  # frees this window's graph
        mem1 = mem1_rec[-1].detach().clone()  # the cut: a value, no path
        mem2 = mem2_rec[-1].detach().clone()
    cur1.backward(leaf.grad)


def truncate_still_images(run: Run, digits: Digits, test: Digits, batch: Pair) -> None:
    """Cut BPTT into windows on still images: what is left of the gradient, and of each read-out."""
    fifth = len(digits.y) // 5
    part = digits.part(slice(fifth))
    torch.manual_seed(run.seed)
    net = Net().to(run.device)
    rows = []
    scores = []
    full = torch.zeros(0)
    for window in (LONG, 5, 1):
        training = Training(f"window {window}", every_step, LONG, window=window)
        net.zero_grad()
        leave_gradients(net, *batch, training)
        grad = net.fc1.weight.grad
        assert grad is not None
        if window == LONG:
            full = grad.clone()
        direction = cosine(grad, full)
        score = train(run, training, part, test)
        scores.append(score)
        rows.append([f"{window}", direction, *all_read_outs(score)])
    columns = ["window", "cosine to full gradient"]
    for name in READ_OUTS:
        columns.append(f"by {name}, %")
    run.table(f"Truncated BPTT on still images, {LONG} steps", columns, rows)
    by_mem = scores[-1]["membrane"] - scores[0]["membrane"]
    by_spikes = scores[-1]["count"] - scores[0]["count"]
    run.say(
        f"Read by the membrane, window 1 changes the accuracy by {by_mem:+.1f} points, by "
        f"spike counts by {by_spikes:+.1f}."
    )


# %% [markdown]
# Still images are no test of memory. They show the same at each step, and each step has an
# error of its own: what a short window misses, the next step tells again. So the gradient
# keeps its direction, as the cosines show. Yet small differences add up over a training:
# the membrane, which this loss trains, hardly notices, and the spike counts may lose
# points.
#
# Here is a task that needs memory: a *cue*, spikes on the left or on the right half of 20
# inputs for five steps, then 35 steps of noise, then the question which side it was. One
# layer of two leaky integrators ($\beta = 0.97$; no spikes, so that only the way back
# matters) can hold it. But the weights that must learn are those that saw the cue, and the
# error comes at the last step, 35 steps later. Only the last window has an error. What will
# a window of 1 learn? Of 20? Of 40?
#
# The point of the task is the difference between the two directions of time. *Forward*,
# nothing is cut: with any window the membrane at the end still holds $0.97^{35} = 34\,\%$
# of what the cue put there. The network could answer, if its weights were right.
# *Backward*, the gradient of a short window only ever meets noise. So a network that
# guesses here has had the answer in its membrane, and was never told. The dotted line in
# the figure marks how far back the cue lies.


# %%
CUE_STEPS = 5
TASK_STEPS = 40
SLOW = 0.97  # beta of the slow membranes
WINDOWS = (1, 5, 20, 40)


def cues(batch: int, generator: torch.Generator) -> Pair:
    """Give spikes [T, B, 20] with a cue on the left or the right at the start, and the side [B]."""
    side = torch.randint(2, (batch,), generator=generator)
    chance = torch.full((TASK_STEPS, batch, 20), 0.02)  # noise everywhere
    left = torch.arange(20) < 10
    shown = torch.where(side[:, None] == 0, left, ~left)  # [B, 20]
    chance[:CUE_STEPS] += 0.5 * shown
    spikes = torch.rand(chance.shape, generator=generator) < chance
    return spikes.float(), side


def learn_cues(window: int, seed: int) -> float:
    """Train one layer to tell the side from its membrane at the end. Returns: test accuracy in %."""
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    layer = nn.Linear(20, 2)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.01)
    for _ in range(300):
        x, side = cues(100, generator)
        mem = torch.zeros(100, 2)
        for start in range(0, TASK_STEPS, window):
            mem = mem.detach()  # the cut
            for x_t in x[start : start + window]:
                mem = SLOW * mem + layer(x_t)
        optimizer.zero_grad()
        cross_entropy(mem, side).backward()
        optimizer.step()
    x, side = cues(5000, generator)
    powers = SLOW ** torch.arange(TASK_STEPS - 1, -1, -1)  # the membrane at the end is a weighted sum
    with torch.no_grad():
        weighted = powers[:, None, None] * layer(x)  # [T, B, 2]
    return 100 * count_right(weighted.sum(0), side) / len(side)


def truncate_a_memory_task(run: Run) -> None:
    """Cut BPTT into windows on a task that needs memory."""
    accuracies = []
    rows: list[list[Any]] = []
    for window in WINDOWS:
        accuracy = learn_cues(window, run.seed)
        accuracies.append(accuracy)
        rows.append([f"{window}", accuracy])
    run.table("Truncated BPTT on the cue task", ["window", "accuracy, %"], rows)
    run.measure("cue task, full BPTT: accuracy", accuracies[-1], "%", at_least=90)
    run.measure("cue task, window 1: accuracy", accuracies[0], "%", at_most=70)
    ago = TASK_STEPS - CUE_STEPS
    fig, (ax,) = figures.new(
        f"A cue {ago} steps ago: window 1 has {accuracies[0]:.0f} %, "
        f"window {WINDOWS[-1]} {accuracies[-1]:.0f} % (guessing: 50 %)"
    )
    ax.plot(WINDOWS, accuracies, "o-")
    ax.axhline(50, color=figures.GREY, ls="--", label="guessing")
    ax.axvline(ago, color=figures.GREY, ls=":", label="steps since the cue")
    ax.set(xlabel="window, steps", ylabel="test accuracy, %")
    ax.set_ylim(40, 101)
    ax.legend(loc="center left")
    run.figure(fig, "windows")
    run.say(
        "From a window that does not reach back to the cue, no gradient tells of it: "
        f"{accuracies[0]:.0f} % with 1 step, {accuracies[2]:.0f} % with {WINDOWS[2]} (what lies off 50 % was "
        f"not learnt from the cue), {accuracies[-1]:.0f} % with all {TASK_STEPS}."
    )


# %% [markdown]
# ## Going deeper: a loop that is quadratic
#
# **A catch.** You have the currents of all steps, `cur` $[T, B, N]$, and loop over them:
# `for t in range(T): lif(cur[t], mem)`. The results are right. But training with 784 steps
# takes forever. Which experiment would tell you why?
#
# Double $T$ and time the backward pass. The gradient of one `cur[t]` is a whole $[T, B, N]$
# of zeros but for one step, and $T$ of them are added: $T^2$. `cur.unbind(0)` takes all
# steps out at once, and puts their gradients together once.
#
# Both axes of the figure are logarithmic. There a time that grows as $T^p$ is a straight
# line, and $p$ is its slope: 1 for twice the time with twice the steps, 2 for four times.
# We fit that line to the measured times. Do not expect exactly 2 and 1: these are single
# measurements of a few hundredths of a second, and they scatter.


# %%
CATCH = (50, 100, 200, 400)  # num_steps


def catch_index(run: Run) -> None:
    """Time the backward pass of a loop over cur[t], and of one over cur.unbind(0)."""
    lif = snn.Leaky(beta=BETA)
    indexed: list[float] = []
    unbound: list[float] = []
    for num_steps in CATCH:
        cur = torch.rand(num_steps, 64, 128, requires_grad=True)
        one_by_one = [cur[t] for t in range(num_steps)]
        indexed.append(backward_seconds(lif, cur, one_by_one))
        unbound.append(backward_seconds(lif, cur, cur.unbind(0)))
    steps = np.log(CATCH)
    power_indexed = slope_of_line(steps, np.log(indexed))
    power_unbound = slope_of_line(steps, np.log(unbound))
    run.measure("backward pass, cur[t]: time ~ T to the", power_indexed)
    run.measure("backward pass, unbind: time ~ T to the", power_unbound)
    fig, (ax,) = figures.new(
        f"Backward pass: cur[t] takes T^{power_indexed:.1f}, unbind T^{power_unbound:.1f}"
    )
    ax.plot(CATCH, indexed, "o-", label="cur[t]")
    ax.plot(CATCH, unbound, "s--", label="unbind")
    ax.set(xlabel="num_steps T", ylabel="CPU seconds")
    ax.set(xscale="log", yscale="log")
    ax.set_xticks(CATCH, [str(steps) for steps in CATCH])
    ax.minorticks_off()
    ax.legend()
    run.figure(fig, "quadratic")
    ratio = indexed[-1] / unbound[-1]
    run.measure(f"catch: cur[t] / unbind, T {CATCH[-1]}", ratio, "x", at_least=3, speed=True)


def backward_seconds(lif: snn.Leaky, cur: Tensor, steps: Any) -> float:
    """Run neurons over the steps of a current, and time the way back to it."""
    mem = lif.init_leaky()
    total = torch.zeros(())
    for cur_t in steps:
        spk, mem = lif(cur_t, mem)
        total = total + spk.sum()
    begun = time.process_time()
    total.backward()
    return time.process_time() - begun


# %% [markdown]
# What is left is the data. Images stay bytes, one for each pixel, and become numbers from 0
# to 1 batch by batch: that is a quarter of the memory of 4-byte numbers.
#
# With `--dataset` the networks are trained on other images: `kmnist`, `emnist`,
# `fashion-mnist`, `cifar10`, `cifar100`, or a folder of your own that holds a folder of
# pictures for each class. All become 28 by 28 grey pixels; the goals are those of MNIST,
# and do not apply then. The experiments on single steps, such as the race and the memory,
# take one batch of MNIST whatever was chosen, so their numbers can be compared.


# %%
def load_digits(config: Config, run: Run) -> tuple[Digits, Digits]:
    """Give the images to train on and to test on: MNIST, or what was chosen, as 28 x 28 grey pixels."""
    train = read_digits(run, config.dataset, "train", config.images)
    test = read_digits(run, config.dataset, "test", config.images // 2)
    least = 5 * BATCH  # a batch in each fifth
    if len(train.y) < least:
        raise UsageError(f"{len(train.y)} training images are too few: this lesson needs {least}.")
    return train, test


def read_digits(run: Run, dataset: str, split: str, count: int) -> Digits:
    """Read at most ``count`` images of a set, and note in the run that it uses them."""
    whole = data.load(dataset, split)
    images = whole.subset(count).shaped(channels=1, size=28)
    run.uses(images)
    pixels = images.images.flatten(1).to(run.device)
    labels = images.labels.to(run.device)
    return Digits(pixels, labels, len(images.classes))


def one_batch(config: Config, run: Run, digits: Digits) -> Pair:
    """Give a batch of MNIST for what looks at single steps: speed, gradients, faults, memory."""
    if config.dataset != "mnist":
        digits = read_digits(run, "mnist", "train", BATCH)
    return digits.batch(torch.arange(BATCH))


def main(config: Config, run: Run) -> None:
    keep_freed()  # what one step frees, the next one takes: a step takes 0.8 of the time
    digits, test = load_digits(config, run)
    batch = one_batch(config, run, digits)
    if run.is_first_seed:  # the first seed trains everything
        train_plainly(config, run, digits, test)
    compare_speed(config, run, batch)
    compare_by_hand(config, run)
    follow_one_error(config, run, batch)
    equal_to_snntorch(run)
    if run.is_first_seed:
        compare_losses(config, run, digits, test)
        sweep_rates(run, digits)
    else:
        train_again(config, run, digits, test)
    watch_broken_nets(run, batch)
    measure_memory(run, batch)
    truncate_still_images(run, digits, test, batch)
    truncate_a_memory_task(run)
    catch_index(run)  # going deeper


if __name__ == "__main__":
    lesson.start(main, Config, SCALES)
