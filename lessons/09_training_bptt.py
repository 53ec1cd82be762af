"""Lesson 09: training with backpropagation through time.

Question: How does an error at the output find its way back through spikes and time, and what does that cost?
Reading:  Eshraghian et al. (2023) sec. IV; Werbos (1990); snnTorch tutorial 5.
Run:      python lessons/09_training_bptt.py
Expect:   98.5 % read by spike counts (ce_count), 98.4 % by the membrane, in 27 CPU seconds each; one epoch
          as in snnTorch's tutorial: 94.8 ± 0.9 and 96.4 ± 0.2 % (the tutorial prints 93.87). 3 seeds,
          10 minutes on two CPU cores.
"""

# %% [markdown]
# Lesson 07 gave a spike a slope, lesson 08 put neurons into layers. Now the network learns.
# In this lesson you
#
# 1. train a network with a plain loop, every line in sight,
# 2. follow one error back through time, by hand,
# 3. choose what counts as an answer: six losses, and when each answer can be read,
# 4. see how sensitive the learning rate is, and what no learning rate mends,
# 5. pay for it: memory that grows with every time step,
# 6. cut the walk back (truncated BPTT), where that costs nothing, and where it costs
#    everything.
#
# With `--dataset` the networks are trained on other images: `kmnist`, `emnist`,
# `fashion-mnist`, `cifar10`, `cifar100`, or a folder of your own that holds a folder of
# pictures for each class. All become 28 by 28 grey pixels; the goals are those of MNIST, and
# do not apply then.

# %%
import sys
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

sys.path.insert(0, str(Path(globals().get("__file__", "any.py")).resolve().parents[1]))  # where snn_course is

from snn_course.runs import figures, lesson
from snn_course import UsageError, data
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
HIDDEN, BETA, BATCH = 1000, 0.95, 128  # network and batch of snnTorch's tutorial 5
LONG = 25  # its number of time steps


@dataclass(frozen=True)
class Digits:
    """Images as bytes [N, 784], 0 to 255, their labels [N], and how many classes there are."""

    x: Tensor
    y: Tensor
    classes: int = 10

    def batch(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Give pixels [B, 784] from 0 to 1, and labels [B]."""
        return self.x[rows] / 255, self.y[rows]


# %% [markdown]
# ## 1. A plain training loop
#
# The network of lesson 08: 784 pixels, 1000 hidden neurons, 10 output neurons, one for each
# digit. An image is shown at every step; the membranes remember from step to step. Weights
# live in `fc1` and `fc2`, time lives in `lif1` and `lif2`.


# %%
class Net(nn.Module):
    """784 pixels, HIDDEN neurons, 10 classes."""

    def __init__(self, num_hidden: int = HIDDEN, num_classes: int = 10) -> None:
        super().__init__()
        self.fc1 = nn.Linear(784, num_hidden)
        self.fc2 = nn.Linear(num_hidden, num_classes)
        self.lif1 = snn.Leaky(beta=BETA)
        self.lif2 = snn.Leaky(beta=BETA)

    def forward(self, x: Tensor, num_steps: int) -> tuple[Tensor, Tensor, Tensor]:
        """Show images x [B, 784]. Returns: spikes of both layers and membranes of the output, [T, B, N]."""
        mem1 = self.lif1.init_leaky()  # reset here: each batch starts with empty membranes
        mem2 = self.lif2.init_leaky()
        spk1_rec, spk2_rec, mem2_rec = [], [], []
        for _ in range(num_steps):  # time is axis 0
            spk1, mem1 = self.lif1(self.fc1(x), mem1)  # [B, H]
            spk2, mem2 = self.lif2(self.fc2(spk1.to(x.dtype)), mem2)  # [B, 10]
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


# %%
def train_plainly(config: Config, run: lesson.Run, train: Digits, test: Digits) -> None:
    """Train with snn.Leaky and a plain loop on a fifth of the images, and draw the loss."""
    torch.manual_seed(run.seed)
    net = Net(num_classes=train.classes).to(run.device)
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-4)
    batches = torch.randperm(len(train.y) // 5).split(BATCH)
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
    fig, (ax,) = figures.new(
        f"{len(losses)} steps: the loss goes from {losses[0]:.2f} to {losses[-1]:.2f}, "
        f"{accuracy:.1f} % of test images are right"
    )
    ax.plot(losses)
    ax.set(xlabel="training step", ylabel="cross-entropy, nats", ylim=(0, None))
    run.figure(fig, "loss_curve")
    run.measure("plain loop, a fifth of the images: accuracy", accuracy, "%")
    run.say(
        f"{len(losses)} batches are enough for {accuracy:.1f} % on images that it never saw, read by "
        "counting the output spikes."
    )


# %% [markdown]
# ### The same network, faster
#
# Every experiment below trains this network, so it should be quick. Two tricks of lesson
# 08: a still image is multiplied with the weights once, not at each step; and
# `neurons.leaky` runs a layer of neurons over all steps as one operation with its own
# backward pass. `run_fast` gives the same spikes and the same gradients as `Net.forward`,
# which is proven, and the gain is measured.


# %%
def run_fast(net: Net, x: Tensor, num_steps: int) -> tuple[Tensor, Tensor, Tensor]:
    """Do what ``net(x, num_steps)`` does: spikes of both layers and membranes of the output, [T, B, N]."""
    cur1 = net.fc1(x)  # [B, H]: multiplied once, shown at each step
    spk1, _ = neurons.leaky(cur1, BETA, num_steps=num_steps)  # [T, B, H]
    spk2, mem2 = neurons.leaky(net.fc2(spk1), BETA)  # [T, B, 10]
    return spk1, spk2, mem2


def compare_speed(config: Config, run: lesson.Run, batch: tuple[Tensor, Tensor]) -> None:
    """Prove that both ways give the same gradient, and time a training step of each."""
    x, y = batch
    small = Net(100).to(run.device).double()  # in float64, rounding moves no spike
    plain = gradient_of_fc1(small, small, x.double(), y, config.num_steps)
    fast = gradient_of_fc1(small, lambda x, steps: run_fast(small, x, steps), x.double(), y, config.num_steps)
    run.proof("gradient of fused scan = of loop", off_by(fast, plain))
    net = Net().to(run.device)
    optimizer = torch.optim.Adam(net.parameters(), fused=True)

    def slow_step() -> None:
        train_step(net, optimizer, net(x, LONG), y)

    def fast_step() -> None:
        train_step(net, optimizer, run_fast(net, x, LONG), y)

    slow_ms, fast_ms = (
        lesson.load(8)
        .race(run, f"Training step, T {LONG}, with Adam", {"plain loop": slow_step, "this lesson": fast_step})
        .values()
    )
    gain = min(slow_ms) / min(fast_ms)
    run.measure(
        "training step: gain over the tutorial", gain, "x", at_least={"quick": 2, "cpu": 5}, speed=True
    )


def train_step(net: Net, optimizer: torch.optim.Optimizer, records: tuple[Tensor, ...], y: Tensor) -> None:
    """Take one step with the tutorial's loss."""
    optimizer.zero_grad()
    every_step(records[1], records[2], y).backward()
    optimizer.step()


def off_by(gradient: Tensor, true: Tensor) -> float:
    """Give the length of the difference of two gradients, as a share of the true one."""
    return (torch.dist(gradient, true) / true.norm()).item()


def gradient_of_fc1(net: Net, forward: Callable[..., Any], x: Tensor, y: Tensor, num_steps: int) -> Tensor:
    """Give the gradient of the first layer's weights for the loss on spike counts."""
    _, spk, mem = forward(x, num_steps)
    return torch.autograd.grad(ce_count(spk, mem, y), net.fc1.weight)[0]


# %% [markdown]
# ## 2. What BPTT computes
#
# Unroll the loop over time, and it is a deep network: step $t$ is a layer, fed by its input
# and by the membrane of step $t - 1$, and all these layers share their weights. (A
# recurrent network, an RNN, is trained in the same way. Two things differ: the state is the
# membrane, which a fixed $\beta$ carries on where an RNN has a learnt matrix, so gradients
# fade evenly and do not explode; and a spike stands between the layers, whose slope is a
# surrogate.) The chain rule then runs from the last step to the first.
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
# Below, these two formulas as a loop, compared with what PyTorch's autograd gives for
# `snn.Leaky`.


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
    grad_weight = torch.zeros(mem_rec.shape[-1], x.shape[-1], dtype=x.dtype)
    for t in reversed(range(len(x))):
        # exercise: g[t] from g[t + 1], and this step's share of the weights' gradient
        slope = neurons.ATAN(mem_rec[t] - threshold)
        grad_mem = grad_spk[t] * slope + beta * grad_mem  # [B, N]
        grad_weight += grad_mem.T @ x[t]
        # end
    return grad_weight


def compare_by_hand(config: Config, run: lesson.Run) -> None:
    """Compare the loop above with autograd; and two ways to get it wrong."""
    x = (torch.rand(LONG, 16, 50) < 0.2).double()  # [T, B, I]: random spikes
    weight = (0.4 * torch.randn(20, 50, dtype=torch.float64)).requires_grad_()
    lif = snn.Leaky(beta=BETA)
    mem = torch.zeros(16, 20, dtype=torch.float64)
    spk_rec, mem_rec = [], []
    for x_t in x.unbind(0):
        spk, mem = lif(x_t @ weight.T, mem)
        spk_rec.append(spk.double())
        mem_rec.append(mem)
    spk, mems = torch.stack(spk_rec), torch.stack(mem_rec).detach()
    grad_spk = torch.randn_like(spk)  # any loss: these are its slopes
    (true,) = torch.autograd.grad((spk * grad_spk).sum(), weight)
    own = bptt_by_hand(x, mems, grad_spk, BETA, 1.0)
    run.proof("BPTT by hand = autograd", off_by(own, true))

    no_time = bptt_by_hand(x, mems, grad_spk, 0.0, 1.0)  # beta 0: no step hears of a later one
    no_slope = bptt_without_slope(x, grad_spk)
    without_time = cosine(no_time, true)
    without_slope = cosine(no_slope, true)
    rows = [["no way back through time", without_time], ["no surrogate slope", without_slope]]
    run.table("Catch: two shortcuts", ["left out", "cosine to the true gradient"], rows)
    run.measure("catch: cosine without the way through time", without_time, at_most=0.9)
    run.say(
        "A cosine of 1 means the same direction, 0 means unrelated. Without the way through time it is "
        f"{without_time:.2f}, without the slope {without_slope:.2f}."
    )


def bptt_without_slope(x: Tensor, grad_spk: Tensor) -> Tensor:
    """Treat a spike as if it were its membrane."""
    grad_mem = torch.zeros_like(grad_spk[0])
    grad_weight = torch.zeros(grad_spk.shape[-1], x.shape[-1], dtype=x.dtype)
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


# %%
def follow_one_error(config: Config, run: lesson.Run, batch: tuple[Tensor, Tensor]) -> None:
    """Unroll the first layer by hand, with weights of its own for each step."""
    x, y = batch[0].double(), batch[1]
    net = Net(100).to(run.device).double()
    steps = LONG
    shared = gradient_of_fc1(net, net, x, y, steps)
    weights = net.fc1.weight.detach().repeat(steps, 1, 1).requires_grad_()  # [T, 100, 784]
    spk1, _ = neurons.leaky(x @ weights.mT + net.fc1.bias, BETA)  # [T, B, 100]
    spk2, mem2 = neurons.leaky(net.fc2(spk1), BETA)  # [T, B, 10]
    (each,) = torch.autograd.grad(ce_count(spk2, mem2, y), weights, retain_graph=True)
    run.proof("sum of gradients of all steps = BPTT", off_by(each.sum(0), shared))

    (last,) = torch.autograd.grad(cross_entropy(mem2[-1], y), weights)  # an error at the last step alone
    sizes = last.norm(dim=(1, 2)).cpu().flip(0)  # [T], the last step first
    older = 100 * (sizes[5:].sum() / sizes.sum()).item()
    run.measure("last step's error: share 5 or more steps back", older, "%")
    fig, (ax,) = figures.new(f"{older:.0f} % of the last step's error lands 5 or more steps back")
    ax.plot(sizes / sizes.max(), "o-", label="gradient of each step's weights")
    back = np.arange(steps)
    one, two = BETA**back, (back + 1) * BETA**back
    ax.plot(one, ":", color=figures.GREY, label=r"one layer: $\beta^k$")
    ax.plot(two / two.max(), "--", color=figures.GREY, label=r"two layers: $(k + 1)\,\beta^k$")
    ax.set(xlabel="k, steps before the last", ylabel="size, share of the largest", ylim=(0, None))
    ax.legend()
    run.figure(fig, "reach")


# %% [markdown]
# ## 3. What is an answer? Six losses
#
# Ten output neurons fire over ten steps. What should be asked of them?
#
# *Rate* losses count spikes. `ce_rate` asks the right neuron to fire at *each* step
# (cross-entropy, CE, of every step). `ce_count` asks it to fire more often than the others
# (CE of counts). `mse_count` asks for a set share of steps: the right one at 80 %, the
# others at 20 %. Many spikes vote, so one spike matters little.
#
# The *latency* loss asks the right neuron to fire *first* (CE of minus the first spike
# times). The answer hangs on a single spike.
#
# *Membrane* losses look at real numbers: the mean membrane over all steps, or the membrane
# of the last step alone. They are easy to train, but they are NOT a spike output: a chip
# that sends nothing but spikes cannot give that answer.


# %%
def first_spike(spk: Tensor) -> Tensor:
    """Give the steps before each neuron's first spike, T if it never fires: [T, B, N] -> [B, N]."""
    return (1 - spk).cumprod(0).sum(0)  # the product is 1 before the first spike, and 0 from it on


def ce_rate(spk: Tensor, mem: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy of every step's spikes."""
    return cross_entropy(spk.flatten(0, 1), y.repeat(len(spk)))


def ce_count(spk: Tensor, mem: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy of the spike counts."""
    return cross_entropy(spk.sum(0), y)


def mse_count(spk: Tensor, mem: Tensor, y: Tensor) -> Tensor:
    """Squared distance of the counts from 80 % and 20 % of the steps, over T."""
    wanted = 0.2 + 0.6 * one_hot(y, spk.shape[2])
    return len(spk) * mse_loss(spk.mean(0), wanted)


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
    return cross_entropy(mem.flatten(0, 1), y.repeat(len(mem)))


Loss = Callable[[Tensor, Tensor, Tensor], Tensor]  # of output spikes and membranes [T, B, 10], labels [B]
LOSSES: dict[str, Loss] = {
    "ce_rate": ce_rate,
    "ce_count": ce_count,
    "mse_count": mse_count,
    "latency": latency,
    "membrane": membrane,
    "last membrane": last_membrane,
}


def equal_to_snntorch(run: lesson.Run) -> None:
    """Compare each rate loss and its gradient with snnTorch's."""
    spk = (torch.rand(LONG, 64, 10) < 0.2).float().requires_grad_()  # [T, B, 10]
    labels = torch.randint(10, (64,))
    theirs = {
        "ce_rate": snntorch_losses.ce_rate_loss(),
        "ce_count": snntorch_losses.ce_count_loss(),
        "mse_count": snntorch_losses.mse_count_loss(correct_rate=0.8, incorrect_rate=0.2),
    }
    for name, their_loss in theirs.items():
        own, their = LOSSES[name](spk, spk, labels), their_loss(spk, labels)
        own_grad, their_grad = torch.autograd.grad(own, spk)[0], torch.autograd.grad(their, spk)[0]
        error = torch.dist(own, their) + torch.dist(own_grad, their_grad)
        run.proof(f"{name} and its gradient = snnTorch's", error.item())


# %% [markdown]
# Training and reading are two things. Each trained network is read in three ways: by
# counts, by who fires first, by the mean membrane. And *when* can an answer be read? A loss
# that asks for early spikes should give it earlier. We do not take that on trust: each
# network is stopped after 1, 2, 3... steps and asked for its answer so far, by its own
# read-out.


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
def evaluate(net: Net, test: Digits, num_steps: int, own: ReadOut = by_count) -> dict[str, Any]:
    """Read a network in all ways.

    Returns: the accuracy in % of each read-out and of its own; that after each step; spikes per image.
    """
    right = dict.fromkeys(READ_OUTS, 0)
    after = torch.zeros(num_steps, dtype=torch.float64)  # right answers if one stops after a step [T]
    spikes = 0
    for rows in torch.arange(len(test.y)).split(1000):
        x, y = test.batch(rows)
        spk1, spk2, mem2 = run_fast(net, x, num_steps)
        spikes += int(spk1.sum() + spk2.sum())
        for name, read_out in READ_OUTS.items():
            right[name] += int((read_out(spk2, mem2).argmax(1) == y).sum())
        for t in range(num_steps):
            answer = own(spk2[: t + 1], mem2[: t + 1]).argmax(1)
            after[t] += int((answer == y).sum())
    count = len(test.y)
    scores: dict[str, Any] = {name: 100 * value / count for name, value in right.items()}
    curve = (100 * after / count).tolist()
    return scores | {"own": curve[-1], "after": curve, "spikes": spikes / count}


# %%
RATE = 2e-3  # highest learning rate of Adam; chosen, like the epochs, on held-out training images


@dataclass(frozen=True)
class Training:
    """How a network is trained: its loss, or its own way to leave gradients; steps, epochs, learning rate.

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
        return float(np.interp(done, (0, 0.3, 1), (self.start, self.rate, self.start)))


def leave_gradients(net: Net, x: Tensor, y: Tensor, training: Training) -> None:
    """Show still images [B, 784], and leave the gradients of BPTT in the parameters."""
    if training.window is None:
        _, spk, mem = run_fast(net, x, training.num_steps)
        lesson.finite(training.loss(spk, mem, y), net).backward()
    else:
        truncated(net, x, y, training)


def train(run: lesson.Run, training: Training, digits: Digits, test: Digits) -> dict[str, Any]:
    """Train a network, each epoch kept in case of a stop. Returns: scores of ``evaluate``, CPU seconds."""
    torch.manual_seed(run.seed)  # each training starts from the same weights, with the same batches
    net = Net(num_classes=digits.classes).to(run.device)
    optimizer = torch.optim.Adam(net.parameters(), lr=training.rate, fused=True)
    if known := run.load(f"{training.name}, scores"):
        return known
    kept = run.load(training.name, net=net, optimizer=optimizer)  # this training was cut off: go on
    kept = kept or {"epoch": 0, "seconds": 0.0}
    seconds = kept["seconds"]
    for epoch in range(kept["epoch"], training.epochs):
        begun = time.process_time()
        train_epoch(run, net, optimizer, training, digits, epoch)
        seconds += time.process_time() - begun
        state = {"epoch": epoch + 1, "seconds": seconds}
        run.save(training.name, state | {"net": net.state_dict(), "optimizer": optimizer.state_dict()})
    own = OWN.get(training.name, by_count)
    scores = evaluate(net, test, training.num_steps, own) | {"CPU s": seconds}
    run.save(f"{training.name}, scores", scores)
    return scores


def train_epoch(
    run: lesson.Run, net: Net, optimizer: Any, training: Training, digits: Digits, epoch: int
) -> None:
    """Go through all images once."""
    batches = torch.randperm(len(digits.y)).split(BATCH)
    for number, rows in enumerate(run.progress(batches, f"{training.name}, epoch {epoch + 1}")):
        done = (epoch + number / len(batches)) / training.epochs
        optimizer.param_groups[0]["lr"] = training.learning_rate(done)
        optimizer.zero_grad()
        leave_gradients(net, *digits.batch(rows), training)
        optimizer.step()


# %%
def compare_losses(config: Config, run: lesson.Run, digits: Digits, test: Digits) -> None:
    """Train with each loss, and once as the tutorial does; read each network in all ways."""
    trainings = [Training(name, loss, config.num_steps, config.epochs) for name, loss in LOSSES.items()]
    trainings.append(Training("tutorial", every_step, LONG, rate=5e-4, start=5e-4))
    scores = {training.name: train(run, training, digits, test) for training in trainings}
    rows = []
    for name, score in scores.items():
        rows.append([name, score["own"], *(score[read_out] for read_out in READ_OUTS), score["spikes"]])
    columns = ["loss", "own read-out", *READ_OUTS, "spikes"]
    run.table("Test accuracy in % by read-out; spikes per image", columns, rows)
    goal = {"quick": 88.5, "cpu": 98.3, "gpu": 98.3}
    for loss, name in {"ce_count": "spike counts", "membrane": "membrane, no spike output"}.items():
        bound = goal if config.dataset == "mnist" else None
        run.measure(f"{name}: accuracy", scores[loss]["own"], "%", at_least=bound, headline=True)
        run.measure(f"{name}: training", scores[loss]["CPU s"], "CPU s")
    draw_answers(config, run, {name: scores[name]["after"] for name in LOSSES})


def steps_to_answer(after: list[float]) -> int:
    """Give the first step after which the accuracy stays within a point of its last value."""
    late = [step for step, accuracy in enumerate(after, start=1) if accuracy < after[-1] - 1]
    return late[-1] + 1 if late else 1


def draw_answers(config: Config, run: lesson.Run, after: dict[str, list[float]]) -> None:
    """Draw the accuracy of an answer that is read after each step, and say when it can be read."""
    ready = {name: steps_to_answer(curve) for name, curve in after.items()}
    fig, (ax,) = figures.new(
        "Steps until the answer stays within a point of its last accuracy: "
        f"latency loss {ready['latency']}, ce_count {ready['ce_count']}"
    )
    for (name, curve), marker in zip(after.items(), "osD^vx", strict=True):
        ax.plot(range(1, len(curve) + 1), curve, f"{marker}-", ms=4, label=f"{name}: {ready[name]} steps")
    ax.set(xlabel="steps seen when the answer is read", ylabel="test accuracy, %", ylim=(0, 100))
    figures.legend_outside(ax)
    run.figure(fig, "when_to_read")
    rows = [[name, float(steps)] for name, steps in ready.items()]
    run.table("Steps until the answer is there", ["loss", "steps"], rows)
    earliest = min(ready, key=lambda name: ready[name])
    run.say(
        f"Earliest is {earliest}, after {ready[earliest]} of {config.num_steps} steps; the latency loss, "
        f"which asks for early spikes, needs {ready['latency']}."
    )


# %% [markdown]
# ## 4. The learning rate
#
# Spiking networks are sensitive to it. Why? A step that is too large throws neurons far
# from their threshold: silent for every image, or firing nearly always. There the
# surrogate's slope is small, so hardly any gradient calls them back: at the large end of
# the table the spikes show it. At the small end nothing is broken; the updates are too
# small for so few batches. (Images held out from the training set judge here, not the test
# set: they decided between rates like that of chapter 3.)


# %%
RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)


def sweep_rates(run: lesson.Run, digits: Digits) -> None:
    """Train for one pass over a fifth at each learning rate, judged on another fifth."""
    fifth = len(digits.y) // 5
    part = Digits(digits.x[:fifth], digits.y[:fifth], digits.classes)
    held_out = Digits(digits.x[-fifth:], digits.y[-fifth:], digits.classes)
    rows = []
    for rate in RATES:
        score = train(run, Training(f"rate {rate:g}", ce_count, 10, rate=rate), part, held_out)
        rows.append([f"{rate:g}", score["count"], score["spikes"]])
    run.table("ce_count, one pass over a fifth", ["learning rate", "held-out accuracy, %", "spikes"], rows)
    accuracies = [row[1] for row in rows]
    spikes = [row[2] for row in rows]
    best = int(np.argmax(accuracies))
    fig, (left, right) = figures.new(
        f"Best at {rows[best][0]}: {accuracies[best]:.1f} %; at {rows[-1][0]}: {accuracies[-1]:.1f} %",
        columns=2,
        size=(9.5, 3.6),
    )
    left.plot(RATES, accuracies, "o-")
    left.axvline(RATE, color=figures.GREY, ls=":", label="used here")
    left.set(xscale="log", xlabel="learning rate", ylabel="held-out accuracy, %")
    left.legend()
    right.plot(RATES, spikes, "o-", color=figures.ORANGE)
    right.set(xscale="log", xlabel="learning rate", ylabel="spikes per image", ylim=(0, None))
    run.figure(fig, "learning_rate")
    run.say(
        f"From the best rate to the largest the accuracy goes from {accuracies[best]:.1f} to "
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
# train, looks in this way once an epoch.
#
# Here a stack of layers is broken in three ways. Which of the three failures is each?


# %%
class Stack(nn.Module):
    """Layers of 100 neurons, as many as ``depth``, and one of 10; without biases."""

    def __init__(self, depth: int, normed: bool = False) -> None:
        super().__init__()
        sizes = [784, *(depth * [100]), 10]
        self.fc = nn.ModuleList()
        self.lif = nn.ModuleList()
        for before, after in pairwise(sizes):
            norm = nn.BatchNorm1d(after) if normed else nn.Identity()
            self.fc.append(nn.Sequential(nn.Linear(before, after, bias=False), norm))
            self.lif.append(snn.Leaky(beta=BETA))

    def forward(self, x: Tensor) -> Tensor:
        """Show images x [B, 784] for LONG steps. Returns: spike counts [B, 10]."""
        mems = [torch.zeros(1, device=x.device) for _ in self.lif]  # each batch starts with empty membranes
        counts = torch.zeros(len(x), 10, device=x.device)
        for _ in range(LONG):
            spk = x
            for layer, (fc, lif) in enumerate(zip(self.fc, self.lif, strict=True)):
                spk, mems[layer] = lif(fc(spk), mems[layer])
            counts = counts + spk
        return counts


def all_positive(net: Stack) -> Stack:
    """Draw the first weights as ``torch.rand`` does, where a mix of signs was meant."""
    nn.init.uniform_(next(net.parameters()), 0, 1)
    return net


def watch_broken_nets(run: lesson.Run, batch: tuple[Tensor, Tensor]) -> None:
    """Break a network in three ways, mend it, and let the watch say what it sees."""
    torch.manual_seed(run.seed)
    x, y = batch
    faults = {
        "pixels divided by 255 twice": (Stack(1), x / 255, Stack(1)),
        "first weights from 0 to 1": (all_positive(Stack(1)), x, Stack(1)),
        "eight layers": (Stack(8), x, Stack(8, normed=True)),
    }
    named = 0
    rows = []
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
# batch. (This is what `run_fast` keeps; the plain loop keeps a little more.)
#
# We ask autograd itself what it keeps, and compare it with this formula.


# %%
LENGTHS = (10, 25, 50, 100)  # num_steps for which memory is measured


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


def measure_memory(run: lesson.Run, batch: tuple[Tensor, Tensor]) -> None:
    """Measure what the graph keeps in MB, by num_steps, and compare its line with the shapes."""
    net = Net().to(run.device)
    x, y = batch
    kept: dict[str, list[float]] = {"all steps": [], "windows of 5": []}
    vram = []
    for num_steps in LENGTHS:
        for name, window in (("all steps", None), ("windows of 5", 5)):
            training = Training(name, ce_count, num_steps, window=window)
            graph, peak = graph_bytes(partial(leave_gradients, net, x, y, training))
            kept[name].append(graph / 1e6)
        vram.append(peak / 1e6)
    slopes = {name: np.polyfit(LENGTHS, sizes, 1)[0] for name, sizes in kept.items()}
    shapes = 4 * BATCH * (2 * HIDDEN + 10) / 1e6  # MB
    run.proof("memory per step / (4 B (2 H + 10)) - 1", abs(slopes["all steps"] / shapes - 1))
    run.measure("memory per step, fused scan", slopes["all steps"], "MB")
    run.measure("memory per step, windows of 5", round(slopes["windows of 5"], 9) + 0, "MB")
    if run.device.type == "cuda":
        run.measure("VRAM per step", np.polyfit(LENGTHS, vram, 1)[0], "MB")
    fig, (ax,) = figures.new(
        f"Memory for one step more: {slopes['all steps']:.2f} MB; in windows of 5 steps "
        f"{abs(slopes['windows of 5']):.2f} MB"
    )
    for name, sizes in kept.items():
        ax.plot(LENGTHS, sizes, "o-", label=name)
    ax.set(xlabel="num_steps", ylabel="memory of the graph, MB", ylim=(0, None))
    ax.legend()
    run.figure(fig, "memory")


# %% [markdown]
# ## 6. Cutting the walk: truncated BPTT
#
# *Truncated* BPTT cuts time into windows. The membranes are handed from window to window as
# plain numbers, but no error crosses a cut. So memory for one window is enough, however
# long the sequence. What does it cost?


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


def truncate_still_images(
    run: lesson.Run, digits: Digits, test: Digits, batch: tuple[Tensor, Tensor]
) -> None:
    """Cut BPTT into windows on still images: what is left of the gradient, and of each read-out."""
    fifth = len(digits.y) // 5
    part = Digits(digits.x[:fifth], digits.y[:fifth], digits.classes)
    torch.manual_seed(run.seed)
    net = Net().to(run.device)
    rows = []
    full = torch.zeros(0)
    for window in (LONG, 5, 1):
        training = Training(f"window {window}", every_step, LONG, window=window)
        net.zero_grad()
        leave_gradients(net, *batch, training)
        grad = net.fc1.weight.grad
        assert grad is not None
        full = grad.clone() if window == LONG else full
        score = train(run, training, part, test)
        rows.append([f"{window}", cosine(grad, full), *(score[read_out] for read_out in READ_OUTS)])
    columns = ["window", "cosine to full gradient", *(f"by {name}, %" for name in READ_OUTS)]
    run.table(f"Truncated BPTT on still images, {LONG} steps", columns, rows)
    run.say(
        f"Read by the membrane, window 1 changes the accuracy by {rows[2][4] - rows[0][4]:+.1f} points, by "
        f"spike counts by {rows[2][2] - rows[0][2]:+.1f}."
    )


# %% [markdown]
# Still images are no test of memory. So here is a task that is one: a *cue*, spikes on the
# left or on the right half of 20 inputs for five steps, then 35 steps of noise, then the
# question which side it was. One layer of two leaky integrators ($\beta = 0.97$; no spikes,
# so that only the way back matters) can hold it. But the weights that must learn are those
# that saw the cue, and the error comes at the last step, 35 steps later. Only the last
# window has an error. What will a window of 1 learn? Of 20? Of 40?


# %%
CUE_STEPS, TASK_STEPS, SLOW = 5, 40, 0.97
WINDOWS = (1, 5, 20, 40)


def cues(batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Give spikes [T, B, 20] with a cue on the left or the right at the start, and the side [B]."""
    side = torch.randint(2, (batch,), generator=generator)
    chance = torch.full((TASK_STEPS, batch, 20), 0.02)  # noise everywhere
    left = torch.arange(20) < 10
    shown = torch.where(side[:, None] == 0, left, ~left)  # [B, 20]
    chance[:CUE_STEPS] += 0.5 * shown
    return (torch.rand(chance.shape, generator=generator) < chance).float(), side


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
        mem = (powers[:, None, None] * layer(x)).sum(0)
    return 100 * (mem.argmax(1) == side).double().mean().item()


def truncate_a_memory_task(run: lesson.Run) -> None:
    """Cut BPTT into windows on a task that needs memory."""
    accuracies = [learn_cues(window, run.seed) for window in WINDOWS]
    rows = [[f"{window}", accuracy] for window, accuracy in zip(WINDOWS, accuracies, strict=True)]
    run.table("Truncated BPTT on the cue task", ["window", "accuracy, %"], rows)
    run.measure("cue task, full BPTT: accuracy", accuracies[-1], "%", at_least=90)
    run.measure("cue task, window 1: accuracy", accuracies[0], "%", at_most=70)
    fig, (ax,) = figures.new(
        f"A cue {TASK_STEPS - CUE_STEPS} steps ago: window 1 has {accuracies[0]:.0f} %, "
        f"window {WINDOWS[-1]} {accuracies[-1]:.0f} % (guessing: 50 %)"
    )
    ax.plot(WINDOWS, accuracies, "o-")
    ax.axhline(50, color=figures.GREY, ls="--", label="guessing")
    ax.axvline(TASK_STEPS - CUE_STEPS, color=figures.GREY, ls=":", label="steps since the cue")
    ax.set(xlabel="window, steps", ylabel="test accuracy, %", ylim=(40, 101))
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


# %%
CATCH = (50, 100, 200, 400)  # num_steps


def catch_index(run: lesson.Run) -> None:
    """Time the backward pass of a loop over cur[t], and of one over cur.unbind(0)."""
    lif = snn.Leaky(beta=BETA)
    spent: dict[str, list[float]] = {"cur[t]": [], "unbind": []}
    for num_steps in CATCH:
        cur = torch.rand(num_steps, 64, 128, requires_grad=True)
        spent["cur[t]"].append(backward_seconds(lif, cur, [cur[t] for t in range(num_steps)]))
        spent["unbind"].append(backward_seconds(lif, cur, cur.unbind(0)))
    fig, (ax,) = figures.new("")
    powers = {}
    for (name, times), style in zip(spent.items(), ("o-", "s--"), strict=True):
        powers[name] = np.polyfit(np.log(CATCH), np.log(times), 1)[0]
        run.measure(f"backward pass, {name}: time ~ T to the", powers[name])
        ax.plot(CATCH, times, style, label=name)
    found = f"cur[t] takes T^{powers['cur[t]']:.1f}, unbind T^{powers['unbind']:.1f}"
    figures.retitle(fig, f"Backward pass: {found}")
    ax.set(xlabel="num_steps T", ylabel="CPU seconds", xscale="log", yscale="log")
    ax.set_xticks(CATCH, [str(steps) for steps in CATCH])
    ax.minorticks_off()
    ax.legend()
    run.figure(fig, "quadratic")
    ratio = spent["cur[t]"][-1] / spent["unbind"][-1]
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


# %%
def load_digits(config: Config, run: lesson.Run) -> tuple[Digits, Digits]:
    """Give the images to train on and to test on: MNIST, or what was chosen, as 28 x 28 grey pixels."""
    found = []
    for split, size in (("train", config.images), ("test", config.images // 2)):
        images = data.load(config.dataset, split).subset(size).shaped(channels=1, size=28)
        run.uses(images)
        pixels = images.images.flatten(1).to(run.device)
        found.append(Digits(pixels, images.labels.to(run.device), len(images.classes)))
    if len(found[0].y) < 5 * BATCH:
        raise UsageError(f"{len(found[0].y)} training images are too few: this lesson needs {5 * BATCH}.")
    return found[0], found[1]


def one_batch(config: Config, run: lesson.Run, digits: Digits) -> tuple[Tensor, Tensor]:
    """Give a batch of MNIST for what looks at single steps: speed, gradients, faults, memory."""
    if config.dataset != "mnist":
        images = data.load("mnist", "train").subset(BATCH)
        run.uses(images)
        digits = Digits(images.images.flatten(1).to(run.device), images.labels.to(run.device))
    return digits.batch(torch.arange(BATCH))


def main(config: Config, run: lesson.Run) -> None:
    digits, test = load_digits(config, run)
    batch = one_batch(config, run, digits)
    train_plainly(config, run, digits, test)
    compare_speed(config, run, batch)
    compare_by_hand(config, run)
    follow_one_error(config, run, batch)
    equal_to_snntorch(run)
    compare_losses(config, run, digits, test)
    sweep_rates(run, digits)
    watch_broken_nets(run, batch)
    measure_memory(run, batch)
    truncate_still_images(run, digits, test, batch)
    truncate_a_memory_task(run)
    catch_index(run)  # going deeper


if __name__ == "__main__":
    lesson.start(main, Config, SCALES)
