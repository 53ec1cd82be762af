"""Lesson 13: recurrent SNN.

Question: How many steps can a spiking network look back, and what in it remembers?
Reading:  Bellec et al. (2018, 2020: ALIF); Eshraghian et al. (2023) sec. IV-D (long times);
          snnTorch regression tutorial II.
Run:      python lessons/13_recurrent_snn.py
Expect:   horizons of 9.2 ± 0.5 steps (Leaky), 32 ± 1 (RLeaky), 275 ± 42 (ALIF); MNIST by rows 96.0 ± 0.2 %
          (RLeaky), 98.4 ± 0.1 % (SLSTM). 3 seeds, 20 CPU minutes. Stacks of 1, 2, 3 RLeaky
          layers, in three runs of a seed each with --delays 10 20 40 80: 30.6 ± 1.6, 31.4 ± 3.9, 31.5 ± 1.2.
"""

# %% [markdown]
# So far the answer to an image was in the image that was still there. Now the input is gone
# when the question comes: a digit is shown row by row, or even pixel by pixel, and at the
# end the network must know what it saw. In this lesson you
#
# 1. watch a feedforward spiking network forget, and let a neuron learn how fast it does,
# 2. let spikes come back: `snn.RLeaky` and `snn.SLSTM`, each trained with a plain loop,
# 3. build a neuron that remembers by its threshold (ALIF),
# 4. make all of them fast, and prove that they compute the same,
# 5. follow an error back through 784 steps, where gradients vanish or explode,
# 6. train them on digits by rows, beside a classical LSTM, and count what each costs,
# 7. measure the *horizon* of each: over how many steps does it still answer? Then the same
#    for deeper stacks, and digits pixel by pixel.

# %%
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

sys.path.insert(0, str(Path(globals().get("__file__", "any.py")).resolve().parents[1]))  # where snn_course is

from snn_course.runs import figures, lesson
from snn_course import data
from snn_course.costs import operations
from snn_course.networks import neurons, recurrent, training

import numpy as np
import snntorch as snn
import torch
from matplotlib.ticker import MaxNLocator
from snntorch import surrogate
from torch import Tensor, nn
from torch.nn.functional import cross_entropy


@dataclass(frozen=True)
class Config(lesson.Config):
    hidden: Annotated[int, lesson.Range(8, 2048)] = 128
    """Hidden neurons of the networks that see digits."""

    images: Annotated[int, lesson.Range(500, 60_000)] = 60_000
    """Training images, by rows."""

    epochs: Annotated[int, lesson.Range(1, 100)] = 4
    """Passes over them; twice as many by pixels (at quick scale: as many)."""

    pixel_images: Annotated[int, lesson.Range(64, 60_000)] = 8000
    """Training images, by pixels."""

    delays: Annotated[tuple[int, ...], lesson.Range(1, 5000)] = (5, 10, 20, 40, 80, 160, 320)
    """Delays of store-recall, in steps, rising."""


SCALES: lesson.Scales = {
    "quick": {"hidden": 96, "images": 3000, "epochs": 2, "pixel_images": 64, "delays": (5, 30)},
    "cpu": {"seeds": 3},
    "gpu": {"seeds": 3, "hidden": 256, "epochs": 15, "pixel_images": 60_000},
}
BETA, SLOPE, LSTM_THRESHOLD = 0.9, 4.0, 0.1  # chosen, as RATE is, on images held out of the training set
DRIVE = 3.0  # inputs 0..1 become 0..3, so that a bright one makes a neuron fire
GAIN = 28.0  # the read-out sees mean rates times 28, by rows the number of spikes: 0.1 would be a faint score
RATE, BATCH = 1e-2, 128
Curves = dict[str, list[float]]
Pair = tuple[Tensor, Tensor]  # images or sequences, and labels
Sets = tuple[Pair, Pair]  # to train on, and to test on


def fire(x: Tensor) -> Tensor:
    """Give 1 where x > 0; its derivative is taken to be 1 / (1 + 4 |x|)^2."""
    return surrogate.fast_sigmoid(slope=SLOPE)(x).to(x.dtype)


# %% [markdown]
# ## 1. Why a feedforward network forgets
#
# A layer of `snn.Leaky` has one place to remember: its membranes. Each step keeps the share
# $\beta$. So $k$ steps after an input there is left of it
#
# $$\beta^k .$$
#
# One decay constant, one memory span. With $\beta = 0.9$, half is gone after 7 steps, and
# after 44 less than a hundredth is left. It gets worse: if the neuron fires, its reset
# takes away a whole threshold, and with it what the membrane held. More layers help little:
# each forgets in the same way.
#
# Why not a $\beta$ of 0.999? Such a membrane keeps everything, and adds it all up: the cue
# of 500 steps ago and all noise since. It also hardly reacts to what is new. One number
# cannot say what to keep and what to drop.
#
# The experiment is the smallest there is: one input, below the threshold, then silence.
# What is left of it, step by step, must be the formula.


# %%
def left_of_one(beta: float) -> list[float]:
    """Give snn.Leaky one input, then silence. Returns: the share that is left after 0 to 99 steps."""
    # exercise: one input of 0.9 (below the threshold), then silence; record the membrane
    leaky = snn.Leaky(beta=torch.tensor(beta).double())
    mem = torch.zeros(1).double()
    cur = torch.zeros(100, 1).double()  # [T, 1]
    cur[0] = 0.9
    left = []
    for cur_t in cur:
        _, mem = leaky(cur_t, mem)
        left.append(mem.item() / 0.9)
    return left
    # end


def forgetting(run: lesson.Run) -> None:
    """Give snn.Leaky one input, and draw what is left of it, beside beta^k."""
    fig, (ax,) = figures.new("")
    half_lives = {}
    error = 0.0
    for beta in (0.5, 0.9, 0.99):
        left = left_of_one(beta)
        formula = np.float64(np.float32(beta)) ** np.arange(100)  # snn.Leaky is given beta in float32
        error = max(error, np.abs(left - formula).max())
        half_lives[beta] = int(np.argmax(formula <= 0.5))
        ax.plot(left, label=f"beta {beta}")
    run.proof("snn.Leaky: what is left of an input = beta^k", error)
    found = ", ".join(f"{steps} (beta {beta})" for beta, steps in half_lives.items())
    figures.retitle(fig, f"Half of an input is gone after {found} steps")
    ax.set(xlabel="steps since the input", ylabel="share that is left")
    ax.legend()
    run.figure(fig, "forgetting")
    run.say(f"With beta 0.9 at most half of an input is left after {half_lives[0.9]} steps.")


# %% [markdown]
# Could training choose $\beta$? Yes: with `learn_beta=True` it is a parameter, and BPTT gives
# its gradient. Such a neuron is called PLIF, *parametric* LIF (Fang et al. 2021). So there
# are three: IF ($\beta = 1$, lesson 16), LIF (you choose $\beta$), PLIF (training does).
# Below, a PLIF neuron that begins with 0.5 is to keep as much of one input as a neuron with
# 0.9 does, over 30 steps. That frees you from a search. It is still one number for all that
# comes in, and what this chapter says of one number stays true.


# %%
def learned_leak(run: lesson.Run) -> None:
    """Let snn.Leaky learn its beta from what is to be left of one input."""
    neuron = snn.Leaky(beta=0.5, learn_beta=True)
    optimizer = torch.optim.Adam(neuron.parameters(), lr=0.02)
    wanted = BETA ** torch.arange(30)  # [T]
    cur = torch.zeros(30, 1)  # [T, 1]
    cur[0] = 0.9  # below the threshold
    for _ in range(60):
        mem = torch.zeros(1)
        mem_rec = []
        for cur_t in cur:
            _, mem = neuron(cur_t, mem)
            mem_rec.append(mem)
        left = torch.cat(mem_rec) / 0.9  # [T]
        loss = (left - wanted).square().mean()
        optimizer.zero_grad()
        lesson.finite(loss).backward()
        optimizer.step()
    found = neuron.beta.item()
    run.measure("PLIF: beta learned from 0.5, wanted 0.9", found, at_least=0.88, at_most=0.92)


# %% [markdown]
# ## 2. Spikes that come back
#
# ### snn.RLeaky
#
# Let the spikes of a layer be inputs of that same layer, one step later, through weights
# $V$ of its own:
#
# $$U[t] = \beta\,U[t-1] + W x[t] + V\,S[t-1] - S[t-1]\,U_{thr} .$$
#
# The first term is the membrane of before, the second the input, the third the spikes that
# come back, and the last the reset. Now a memory need not sit in a membrane. It can go
# round in circles: neuron 0 makes neuron 1 fire, neuron 1 makes neuron 2 fire, and neuron 2
# makes neuron 0 fire again. Below, three neurons in a ring, and *one* input spike.
# `snn.RLeaky` holds $V$ in its `recurrent` layer (a `nn.Linear`), takes current, last
# spikes and last membrane, and gives spikes and membrane.
#
# Its relatives: `snn.RSynaptic` is the same with the synaptic current of lesson 06. With
# `all_to_all=False` each neuron hears itself alone, with one weight.


# %%
def run_ring(strength: float) -> Tensor:
    """Send one spike into three neurons, each of which hears the one before it. Returns: spikes [T, 3]."""
    layer = snn.RLeaky(beta=0.5, linear_features=3)
    nn.init.zeros_(layer.recurrent.bias)
    layer.recurrent.weight.data = strength * torch.eye(3).roll(1, 0)  # row n: neuron n hears n - 1
    spk, mem = layer.init_rleaky()
    cur = torch.zeros(60, 1, 3)  # [T, B, N]
    cur[2, 0, 0] = 1.5  # above the threshold of 1
    record = []
    for cur_t in cur:
        spk, mem = layer(cur_t, spk, mem)
        record.append(spk[0].detach())
    return torch.stack(record)


def ring(run: lesson.Run) -> None:
    """Compare three neurons with and without a way back."""
    with torch.random.fork_rng():
        alone = run_ring(0.0)  # no weights: snn.Leaky
        circle = run_ring(1.5)
    few = int(alone.sum())
    many = int(circle.sum())
    title = f"Spikes after one input: {few} without a way back, {many} in {len(circle)} steps with it"
    fig, axes = figures.new(title, rows=2, size=(7.5, 3.4), sharex=True)
    top, bottom = axes
    figures.raster(top, alone, size=30)
    figures.raster(bottom, circle, size=30)
    top.set(title="snn.Leaky", yticks=range(3))
    bottom.set(title="snn.RLeaky, a ring", yticks=range(3), xlabel="time step")
    run.figure(fig, "ring")
    run.measure("ring: spikes after one input", many, at_least=50)


# %% [markdown]
# The membranes of the ring forget as fast as ever ($\beta = 0.5$). The *spikes* keep the
# memory, and they would for ever. It is a brittle memory, though: one spike lost, and it is
# gone; one too many, and two go round.
#
# Nobody wires such rings by hand. The weights $V$ are learned. That is a recurrent network
# (RNN), trained by BPTT as in lesson 09: unrolled over its steps, it is a deep network
# whose layers share their weights, and now the way from step to step has weights of its
# own. The plain loop, as snnTorch means it: states are made at the start of each batch, and
# handed on from step to step.


# %%
class RLeakyNet(nn.Module):
    """Inputs, recurrent hidden neurons, and a read-out that sees their mean rate."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(inputs, hidden)
        self.lif1 = snn.RLeaky(beta=BETA, linear_features=hidden, spike_grad=fire)
        self.fc2 = nn.Linear(hidden, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Give the scores [B, 10] of sequences x [T, B, I]: ``fc2`` of GAIN times the mean rate."""
        # exercise: carry spikes and membranes through time, add up the spikes
        spk, mem = self.lif1.init_rleaky()
        total = 0
        for x_t in x.unbind(0):  # time is axis 0; unbind, never x[t] (lesson 09)
            cur = self.fc1(x_t)  # [B, H]
            spk, mem = self.lif1(cur, spk, mem)
            total = total + spk
        return self.fc2(GAIN * total / len(x))
        # end


# %% [markdown]
# ### snn.SLSTM
#
# The classical answer to forgetting is the *LSTM* (long short-term memory; Hochreiter and
# Schmidhuber 1997). Next to its output $h$ it has a *cell* $c$, and three *gates*, numbers
# from 0 to 1 that the network computes anew at each step from input and last output:
#
# $$c[t] = f[t]\,c[t-1] + i[t]\,g[t], \qquad h[t] = o[t]\,\tanh(c[t]) .$$
#
# The forget gate $f$ says what share of the cell is kept, the input gate $i$ what share of
# the new candidate $g$ gets in, the output gate $o$ what is shown. Each has weights of its
# own, $f[t] = \sigma(W_f\,x[t] + V_f\,h[t-1])$ with the sigmoid $\sigma$, and so have $i$,
# $o$ and, with tanh, $g$: four times the weights of `snn.RLeaky`. Compare $f[t]$ with
# $\beta$: it does the same, but it is chosen at each step, by the network, for each cell. A
# gate at 1 keeps a cell for ever. A gate at 0 empties it, when a new sequence begins, say.
# `snn.Leaky` has neither choice.
#
# `snn.SLSTM` (spiking LSTM) is an LSTM whose $h$ is compared with a threshold: the layer
# above sees spikes. What goes back into the layer is $h$, not the spikes. In its call,
# `syn` is the cell $c$, and `mem` is $h$. (Its threshold of 0.1 and its two equal sizes
# below are no accident: the catch at the end of chapter 4.)


# %%
class SLSTMNet(nn.Module):
    """Inputs, a spiking LSTM, and a read-out that sees its mean rate."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(inputs, hidden)
        self.lstm1 = snn.SLSTM(hidden, hidden, threshold=LSTM_THRESHOLD, spike_grad=fire)
        self.fc2 = nn.Linear(hidden, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Give the scores [B, 10] of sequences x [T, B, I]."""
        syn, mem = self.lstm1.init_slstm()
        total = 0
        for x_t in x.unbind(0):
            cur = self.fc1(x_t)  # [B, H]
            spk, syn, mem = self.lstm1(cur, syn, mem)
            total = total + spk
        return self.fc2(GAIN * total / len(x))


# %% [markdown]
# Both are now trained on sequential MNIST: an image as 28 rows of 28 pixels, or as 784
# single pixels. One loop for all, with the gradient's length cut to 1 before each step:
# recurrent networks need that, chapter 5 shows why.
#
# By rows this is a task that a short memory can do: each row brings 28 numbers. By pixels
# the network gets one number a step, and the first stroke of the digit is hundreds of steps
# old when the last one comes. The plain loop tries both, the pixels with a handful of
# images: nothing can be learned from so few, and that is not the point. Watch what an image
# costs.


# %%
PLAIN: dict[str, Any] = {"RLeaky": RLeakyNet, "SLSTM": SLSTMNet}


def unroll(images: Tensor, steps: int) -> Tensor:
    """Show bytes 0..255 [B, ...] piece by piece, as numbers 0..3: [T, B, I]."""
    pieces = images.reshape(len(images), steps, -1)  # [B, T, I]
    return pieces.transpose(0, 1).float() * (DRIVE / 255)


def train_plainly(run: lesson.Run, net: nn.Module, images: Pair, steps: int) -> list[float]:
    """Train for one pass over images with a plain loop. Returns: the loss of each batch."""
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    x, y = images
    order = torch.randperm(len(y)).to(x.device)
    losses = []
    for rows in run.progress(order.split(32), f"{steps} steps"):
        scores = net(unroll(x[rows], steps))
        loss = cross_entropy(scores, y[rows])
        optimizer.zero_grad()
        lesson.finite(loss).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    return losses


@torch.no_grad()
def right_answers(net: nn.Module, images: Pair, steps: int) -> float:
    """Give the share of right answers in %."""
    x, y = images
    guesses = net(unroll(x, steps)).argmax(1)
    return 100 * (guesses == y).double().mean().item()


def idiomatic(config: Config, run: lesson.Run, train_set: Pair, test: Pair) -> None:
    """Train snn.RLeaky and snn.SLSTM as themselves: by rows, and a few images by pixels."""
    fig, axes = figures.new("", columns=2, size=(10, 3.6))
    left, right = axes
    fifth = len(train_set[1]) // 5
    few = min(128, config.pixel_images)
    asked = 32 if run.scale == "quick" else 500
    with torch.random.fork_rng():
        warm_up = RLeakyNet(28, 8).to(run.device)  # a first call is slow: it is not timed
        train_plainly(run, warm_up, first(train_set, 32), 28)
        sets = first(train_set, fifth), first(test, 500)
        rows = plain_loops(config, run, left, 28, sets)
        sets = first(train_set, few), first(test, asked)
        rows += plain_loops(config, run, right, 784, sets)
    columns = ["plain loop, one pass", "images", "accuracy, %", "CPU ms an image"]
    run.table("snn.RLeaky and snn.SLSTM as themselves", columns, rows)
    accuracies = [row[2] for row in rows]
    times = [row[3] for row in rows]
    ratio = times[2] / times[0]
    figures.retitle(fig, f"Plain loops, RLeaky: an image by pixels takes {ratio:.0f} times one by rows")
    run.figure(fig, "plain_loops")
    minutes = 8 * 8000 * times[2] / 60_000  # from ms
    run.say(
        f"By rows one pass over {fifth} images brings RLeaky to {accuracies[0]:.0f} % and SLSTM to "
        f"{accuracies[1]:.0f} %. By pixels an image costs RLeaky {times[2]:.0f} ms: 8 passes over 8000 "
        f"images would take {minutes:.0f} minutes."
    )


def first(images: Pair, count: int) -> Pair:
    """Give the first images and their labels."""
    x, y = images
    return x[:count], y[:count]


def plain_loops(
    config: Config, run: lesson.Run, ax: "figures.Axes", steps: int, sets: Sets
) -> list[list[Any]]:
    """Train both networks on images cut into so many steps, and draw the loss. Returns: rows of the table."""
    images, test = sets
    rows = []
    count = len(images[1])
    for name, make_net in PLAIN.items():
        torch.manual_seed(run.seed)
        net = make_net(784 // steps, config.hidden).to(run.device)
        begun = time.process_time()
        losses = train_plainly(run, net, images, steps)
        spent = time.process_time() - begun
        accuracy = right_answers(net, test, steps)
        title = f"{name}, {steps} steps"
        rows.append([title, f"{count}", accuracy, 1000 * spent / count])
        ax.plot(losses, "o-", ms=3, label=f"{name}: {accuracy:.0f} % right")
    guessing = np.log(10)
    ax.axhline(guessing, color=figures.GREY, ls=":", label="guessing")
    ax.set(xlabel="training step", ylabel="cross-entropy, nats", title=f"{steps} steps, {count} images")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    _, top = ax.get_ylim()
    ax.set_ylim(0, 1.4 * top)  # room for the legend
    ax.legend(loc="upper right")
    return rows


# %% [markdown]
# What to see: by rows the loss begins above the line of guessing ($\ln 10 = 2.30$) and
# falls below it within one pass. By pixels it hardly gets there; so few images teach
# nothing. What they show is the price: the title says how many times as much an image costs
# when its sequence is 28 times as long, step by step through Python. Chapter 4 does
# something about that.
#
# ## 3. A threshold that remembers: ALIF
#
# Many cells of the cortex tire: after some spikes they fire less for a second or so. The
# *adaptive* LIF neuron (ALIF; Bellec et al. 2018, 2020) does it with its threshold. Each
# spike lifts it by `jump`, and it sinks back slowly, with the share $\rho$ per step:
#
# $$A[t] = \rho\,A[t-1] + S[t-1], \qquad S[t] = 1 \text{ if } U[t] > U_{thr} + j\,A[t] .$$
#
# So there are two clocks in one neuron: a fast membrane ($\beta = 0.9$) that reacts, and a
# slow threshold ($\rho = 0.995$, say) that remembers. Its memory is a negative: a neuron
# that *has* fired is silent when it is asked again. Nothing is added up that noise could
# spoil, and to wait costs no spike. `jump` and `rho` are learned, one of each for each
# neuron. e-prop (lesson 15) was made for this neuron.


# %%
def alif_step(
    cur: Tensor, state: list[Tensor], beta: Any, rho: Any, jump: Any, weight: Tensor
) -> list[Tensor]:
    """Advance adaptive, recurrent neurons by one step: cur [B, N]; state: spk, mem, adapt, [B, N] each.

    A spike acts one step later: on the reset, on its own threshold and, through ``weight``, on the others.
    Source: Bellec et al. (2018), sec. 2. With jump 0 it is ``snn.RLeaky``, without weight ``snn.Leaky``.
    """
    # exercise: membrane (as snn.RLeaky, threshold 1), adaptation, spike
    spk, mem, adapt = state
    mem = beta * mem + cur + spk @ weight.T - spk.detach()  # the reset is detached
    adapt = rho * adapt + spk  # sinks back slowly, rises with each spike
    spk = fire(mem - (1 + jump * adapt))
    return [spk, mem, adapt]
    # end


def alif_loop(cur: Tensor, beta: Any, rho: Any, jump: Any, weight: Tensor) -> Tensor:
    """Run ``alif_step`` over currents [T, B, N], from zero. Returns: spk, mem and adapt [3, T, B, N]."""
    state = [torch.zeros_like(cur[0])] * 3
    record = []
    for cur_t in cur.unbind(0):
        state = alif_step(cur_t, state, beta, rho, jump, weight)
        record.append(torch.stack(state))
    return torch.stack(record, 1)


# %% [markdown]
# Look at one neuron. It gets a strong current for 20 steps, or none; then silence; then the
# same weak current, which is the question. From the spikes after the dotted line alone:
# which one had the strong input?


# %%
STRONG, ASKED = 20, 60  # steps: the end of the strong input, the start of the weak one
RHO, JUMP = 0.99, 0.3


def one_alif(run: lesson.Run) -> None:
    """Draw membrane and threshold of one ALIF neuron after a strong input, and after none."""
    fig, axes = figures.new("", rows=2, size=(8.5, 4.6), sharex=True)
    top, bottom = axes
    after = draw_alif(top, 0.6, "strong input first")
    fresh = draw_alif(bottom, 0.0, "no strong input")
    bottom.set_xlabel("time step")
    figures.retitle(fig, f"Spikes when asked: {after} after a strong input, {fresh} without")
    run.figure(fig, "alif")
    waited = ASKED - STRONG
    run.say(
        f"{waited} steps after the strong input the membrane has {BETA**waited:.3f} of it left, the "
        f"threshold {RHO**waited:.2f} of its lift. Spikes when asked: {after}, against {fresh} without it."
    )


def draw_alif(ax: "figures.Axes", strong: float, title: str) -> int:
    """Draw membrane, threshold and spikes of one neuron. Returns: its spikes from the question on."""
    cur = torch.full((200, 1, 1), 0.15)  # [T, B, N]
    cur[:ASKED] = 0.0
    cur[:STRONG] = strong
    no_weight = torch.zeros(1, 1)
    record = alif_loop(cur, BETA, RHO, JUMP, no_weight)
    spk, mem, adapt = record[:, :, 0, 0]  # [T] each
    ax.plot(mem, label="membrane")
    ax.plot(1 + JUMP * adapt, color=figures.RED, label="threshold")
    times = spk.nonzero().flatten()
    height = torch.full_like(times, 3)
    ax.plot(times, height, "|", color="black", label="spikes")
    ax.axvline(ASKED, color=figures.GREY, ls=":", label="question")
    ax.set(title=title, ylabel="potential", ylim=(-0.2, 3.3))
    figures.legend_outside(ax)
    return int(spk[ASKED:].sum())


# %% [markdown]
# What to see: long before the dotted line the membrane has forgotten the strong input, and
# the threshold has not. It still stands so high that the weak current takes long to reach
# it. So the answer "there was something" is read from spikes that are *missing*. That is
# also its limit: the neuron says that it was busy, not when, and not with what.
#
# ## 4. The same layers, fast
#
# Everything from here on trains dozens of networks. The loops above call Python for every
# step. `recurrent.Layer` runs a layer over all steps as one operation with its own backward
# pass; a gated layer runs as `nn.LSTM`, which is one operation in PyTorch, or as a compiled
# twin of it (`recurrent.lstm`). The end of this chapter measures what that gains.
#
# What can be fast here, and what cannot? In a feedforward net all *currents* of all steps
# are one large product, then the neurons scan. With recurrence the current of step $t$
# needs the spikes of step $t - 1$. The part $W x$ can still be done at once; $V S$ cannot.
# Recurrence is serial: that is its price on a GPU.
#
# The kinds of this lesson:
#
# - *Leaky*, and *slow Leaky*, whose membranes have time constants as long as ALIF's,
# - *RLeaky*, *ALIF*, and *RALIF*, which is both at once, as in Bellec et al.,
# - *SLSTM*, and *chrono SLSTM*, whose gates begin as slow as the task asks for (Tallec and
#   Ollivier 2018).
#
# Below, each kind is told by what it adds to a plain layer: `recurrent` the weights $V$,
# `adaptive` the threshold of chapter 3, `gated` the gates of an LSTM, and `slow` the long
# time constants, spread over `span` steps.


# %%
KINDS: dict[str, dict[str, bool]] = {
    "Leaky": {},
    "slow Leaky": {"slow": True},
    "RLeaky": {"recurrent": True},
    "ALIF": {"adaptive": True},
    "RALIF": {"adaptive": True, "recurrent": True},
    "SLSTM": {"gated": True},
    "chrono SLSTM": {"gated": True, "slow": True},
}


def layer(kind: str, num: int, span: int) -> recurrent.Layer:
    """Build a fused layer of one kind; its slow time constants span up to ``span`` steps."""
    threshold = LSTM_THRESHOLD if "SLSTM" in kind else 1.0
    slope = neurons.fast_sigmoid(SLOPE)
    return recurrent.Layer(num, span, BETA, **KINDS[kind], threshold=threshold, surrogate=slope)


class Net(nn.Module):
    """Layers of hidden neurons, and a read-out that sees their rates in the last ``window`` steps."""

    def __init__(
        self,
        kind: str,
        sizes: Sequence[int],
        span: int,
        window: int,
        depth: int = 1,
    ) -> None:
        super().__init__()
        inputs, hidden, classes = sizes
        below = [inputs] + (depth - 1) * [hidden]  # inputs of each layer
        self.fc = nn.ModuleList(nn.Linear(size, hidden) for size in below)
        self.hidden = nn.ModuleList(layer(kind, hidden, span) for _ in below)
        self.out = nn.Linear(hidden, classes)
        self.window = window

    def spikes(self, x: Tensor, depth: int | None = None) -> Tensor:
        """Give the spikes [T, B, H] of the last hidden layer, or of layer ``depth``, counted from 1."""
        for fc, hidden in zip(self.fc[:depth], self.hidden[:depth], strict=True):
            x = hidden(x, fc)  # what hidden(fc(x)) gives: all steps of fc at once, then the scan
        return x

    def forward(self, x: Tensor) -> Tensor:
        """Give the scores [B, classes]."""
        read = self.spikes(x)[-self.window :]  # [W, B, H]
        return self.out(GAIN * read.mean(0))


# %% [markdown]
# The slow time constants (of ALIF's threshold, of slow membranes, of chrono's gates) begin
# spread out: from a twentieth of the span to all of it, evenly on a logarithmic scale. So
# whatever the delay, some neuron of the layer has about the right one.
#
# The proof: each fused layer against snnTorch's own neuron with the same weights (for ALIF,
# which snnTorch lacks, against the loop of chapter 3). All spikes equal, all gradients
# equal to rounding.


# %%
def rleaky_loop(cell: Any, cur: Tensor) -> Tensor:
    """Step snn.RLeaky through currents [T, B, N]. Returns: spikes [T, B, N]."""
    spk = mem = torch.zeros_like(cur[0])
    record = []
    for cur_t in cur.unbind(0):
        spk, mem = cell(cur_t, spk, mem)
        record.append(spk)
    return torch.stack(record)


def as_rleaky(own: Any) -> Any:
    """Give snn.RLeaky with the weights of a fused layer: the same tensors, not copies."""
    cell = snn.RLeaky(BETA, linear_features=len(own.beta), spike_grad=fire).to(own.beta)
    cell.recurrent = own.recurrent
    return cell


def as_slstm(own: Any) -> Any:
    """Give snn.SLSTM with the weights of a fused layer: the same tensors, not copies."""
    num = len(own.beta)
    cell = snn.SLSTM(num, num, threshold=LSTM_THRESHOLD, spike_grad=fire).to(own.beta)
    for name, weights in own.lstm.named_parameters():
        setattr(cell.lstm_cell, name.removesuffix("_l0"), weights)
    return cell


def stepped(own: Any, cur: Tensor) -> Tensor:
    """Run a loop over steps with the weights of a fused layer. Returns: spikes [T, B, N]."""
    if own.lstm is not None:
        return slstm_loop(as_slstm(own), cur, len(own.beta))[0]
    if own.recurrent is not None and own.jump is None:
        return rleaky_loop(as_rleaky(own), cur)
    return alif_loop(cur + own.bias, *own.settings())[0]  # beta, rho, jump and weights, 0 where it has none


def gradients(spk: Tensor, cur: Tensor, own: nn.Module) -> tuple[Tensor, ...]:
    """Give the gradients of a sum that weighs each step otherwise, by cur and all parameters."""
    weights = torch.linspace(-1, 1, len(spk)).to(cur)
    total = (spk * weights.view(-1, 1, 1)).sum()
    return torch.autograd.grad(total, [cur, *own.parameters()])


def off_by(gradient: Tensor, true: Tensor) -> float:
    """Give the length of the difference of two gradients, as a share of the true one."""
    return (torch.dist(gradient, true) / true.norm()).item()


def prove_equal(run: lesson.Run) -> None:
    """Compare spikes and gradients of each fused layer with those of the loop."""
    cur = torch.randn(28, 8, 32, dtype=torch.float64, device=run.device)  # [T, B, N]
    cur.requires_grad_()
    for kind in ("Leaky", "RLeaky", "ALIF", "RALIF", "SLSTM"):
        own = layer(kind, 32, 28).to(cur)
        fast = own(cur)
        slow = stepped(own, cur)
        run.proof(f"{kind}: spikes that differ", (fast != slow).sum().item(), at_most=0)
        mine = gradients(fast, cur, own)
        others = gradients(slow, cur, own)
        error = max(map(off_by, mine, others))
        run.proof(f"{kind}: relative error of gradients", error, at_most=1e-5)


def make(
    run: lesson.Run,
    kind: str,
    sizes: Sequence[int],
    span: int,
    window: int,
    depth: int = 1,
) -> Net:
    """Build a network with this seed's first weights."""
    torch.manual_seed(run.seed)
    return Net(kind, sizes, span, window, depth).to(run.device)


# %% [markdown]
# **A catch.** You build `snn.SLSTM(28, 64)`, with all other options as they are, and train.
# The loss hardly moves. No error, no warning. Which two numbers would you print?
#
# First, the number of spikes. The threshold is 1 unless told otherwise, and $|h| =
# |o\,\tanh(c)|$ is always below 1: this layer cannot fire, ever.
#
# Second, what the layer feels of the past: feed two sequences that differ in all steps but
# the last, and compare the last membranes. In snnTorch 1.0 a state whose shape is not that
# of the *input* is taken for a missing one, and replaced by zeros. With 28 inputs and 64
# cells that happens at each step: an LSTM without memory. Put a `nn.Linear(28, 64)` before
# it, so that both sizes are equal, as above.


# %%
def slstm_loop(cell: Any, cur: Tensor, num: int) -> Pair:
    """Step snn.SLSTM through currents [T, B, I]. Returns: spikes and h, [T, B, num]."""
    syn = mem = cur.new_zeros(cur.shape[1], num)
    spk_rec, mem_rec = [], []
    for cur_t in cur.unbind(0):
        spk, syn, mem = cell(cur_t, syn, mem)
        spk_rec.append(spk)
        mem_rec.append(mem)
    return torch.stack(spk_rec), torch.stack(mem_rec)


@torch.no_grad()
def catch_slstm(run: lesson.Run) -> None:
    """Measure two settings with which ``snn.SLSTM`` 1.0 fails without an error."""
    first, second = 3 * torch.randn(2, 28, 64, 64)
    second[-1] = first[-1]  # two batches of sequences [T, B, N] with the same last step
    shares = []
    for threshold in (1.0, LSTM_THRESHOLD):
        spk, _ = slstm_loop(snn.SLSTM(64, 64, threshold=threshold), first, 64)
        shares.append(100 * spk.mean().item())
    felt = []
    for inputs in (28, 64):
        cell = snn.SLSTM(inputs, 64, threshold=LSTM_THRESHOLD)
        _, one = slstm_loop(cell, first[..., :inputs], 64)
        _, other = slstm_loop(cell, second[..., :inputs], 64)
        apart = torch.dist(one[-1], other[-1])
        felt.append(apart.item())
    run.measure("catch: SLSTM, threshold 1: spikes", shares[0], "%", 0, 0)
    run.measure(f"catch: SLSTM, threshold {LSTM_THRESHOLD:g}: spikes", shares[1], "%", 10, 100)
    run.measure("catch: SLSTM(28, 64): felt past", felt[0], "", 0, 0)
    run.measure("catch: SLSTM(64, 64): felt past", felt[1], "", 1, 100)
    run.say(
        f"With threshold 1 {shares[0]:.0f} % of the cells fire, with {LSTM_THRESHOLD:g} {shares[1]:.0f} %. "
        f"Of another past, SLSTM(28, 64) feels {felt[0]:.0f}, SLSTM(64, 64) {felt[1]:.0f}."
    )


# %% [markdown]
# How much faster are the fused layers, over 784 steps?


# %%
def compare_speed(config: Config, run: lesson.Run, x: Tensor, y: Tensor) -> None:
    """Time a training step by pixels of both idiomatic networks, and of their twins."""
    few = 8 if run.scale == "quick" else 32
    sequences = unroll(x[:few], 784)
    labels = y[:few]
    sizes = (1, config.hidden, 10)
    told = []
    for kind, make_net in PLAIN.items():
        torch.manual_seed(run.seed)
        loop = make_net(1, config.hidden).to(run.device)
        fused = make(run, kind, sizes, 784, 784)
        slow = cpu_seconds(loop, sequences, labels)
        gain = slow / cpu_seconds(fused, sequences, labels)
        run.measure(f"784 steps, {kind}: gain of the fused layer", gain, "x")
        told.append(f"{kind} {gain:.1f}")
    run.say(f"Speed of a training step over 784 steps, as a multiple of the loop's: {', '.join(told)}.")


def cpu_seconds(net: nn.Module, x: Tensor, y: Tensor) -> float:
    """Give the CPU time of a forward and a backward pass, the better of two."""
    spent = []
    for _ in range(2):
        begun = time.process_time()
        cross_entropy(net(x), y).backward()
        spent.append(time.process_time() - begun)
    return min(spent)


# %% [markdown]
# ## 5. Gradients that vanish, gradients that explode
#
# To learn from an input 700 steps ago, an error at the end must find its way back there. At
# each step back it is multiplied. In a feedforward layer with $\beta$: after $k$ steps
#
# $$\frac{\partial U[t]}{\partial U[t-k]} = \beta^k$$
#
# is left, the same formula as in chapter 1. What the network forgets, it cannot learn
# either. With recurrent weights the factor of a step is a matrix, $\beta + V
# \mathrm{diag}(h)$, with surrogate slopes $h$; how large it is at first, the first values
# of $V$ decide (`nn.Linear` draws them between $\pm 1/\sqrt{H}$ for $H$ neurons), and
# training may change it. If it shrinks most directions, the gradient *vanishes*, also where
# spikes could carry the memory: a membrane far from its threshold has hardly any slope. If
# it stretches some, the gradient *explodes*: a power of a number above 1. A classical RNN
# has the same trouble, with the true slopes of its tanh, at most 1. Here the slopes are our
# own choice (lesson 07), and with them how soon the product vanishes or explodes.
#
# ALIF has a second way back, through the slow threshold, with factors near $\rho$. An LSTM
# has the cell, with the factor $f[t]$: a gate at 1 is a motorway. Cutting the length of the
# gradient (*clipping*) tames an explosion. Nothing brings back what has vanished. Nor does
# truncated BPTT (lesson 09) help: it saves the memory of 784 steps, and cuts off just the
# long way back that is needed here.
#
# Measured here: an error at the last of 784 pixels, and how much of it reaches the current
# of each step before it, in networks that are not trained yet. Look at SLSTM: its gates
# begin near one half, and shrink the gradient at each step by more than Leaky's 0.9 does.
# Chrono begins with forget gates near 1, and keeps the motorway open. (Below about 1e-38 a
# float32 is 0 or nearly so: that much of an error would not even be a number in training.
# So this chapter computes in float64.)


# %%
LAGS = (10, 50, 200, 783)
COLOUR = dict(zip(KINDS, figures.COLOURS, strict=True))


def highest(values: dict[str, float]) -> str:
    """Give the name of the highest value."""
    return max(values, key=values.__getitem__)


def lowest(values: dict[str, float]) -> str:
    """Give the name of the lowest value."""
    return min(values, key=values.__getitem__)


def gradient_norms(run: lesson.Run, kind: str, x: Tensor, y: Tensor) -> list[float]:
    """Give |dL/dcur[T - 1 - lag]| over |dL/dcur[T - 1]| by lag, for an error at the last pixel."""
    net = make(run, kind, [1, 64, 10], 784, 1).double()
    pixels = unroll(x, 784).double()
    cur = net.fc[0](pixels).detach()  # [T, B, H]
    return sizes_by_lag(net, cur.requires_grad_(), y)


def sizes_by_lag(net: Net, cur: Tensor, y: Tensor) -> list[float]:
    """Walk back from the loss of the last step, from currents [T, B, H]: sizes by lag, lag 0 is 1."""
    # exercise: loss of the last step alone, its gradient by all currents, the size at each step
    last = net.hidden[0](cur)[-1]  # [B, H]
    loss = cross_entropy(net.out(GAIN * last), y)
    (grad,) = torch.autograd.grad(loss, cur)
    sizes = grad.norm(dim=(1, 2)).flip(0)  # [T], the last step first
    return (sizes / sizes[0]).tolist()
    # end


def gradient_by_lag(run: lesson.Run, x: Tensor, y: Tensor) -> Curves:
    """Measure how far an error walks back in each kind, before training. Returns: norms by kind and lag."""
    norms: Curves = {}
    rows = []
    for kind in KINDS:
        norms[kind] = gradient_norms(run, kind, x, y)
        shown = [f"{norms[kind][lag]:.0e}" for lag in LAGS]
        rows.append([kind, *shown])
    exact = np.float64(np.float32(BETA)) ** np.arange(784)  # the layer holds beta in float32
    apart = np.array(norms["Leaky"]) / exact - 1
    run.proof("Leaky: gradient / beta^lag - 1", np.abs(apart).max())
    columns = ["", *map(str, LAGS)]
    run.table("Gradient norm before training, by lag (lag 0: 1)", columns, rows)
    draw_gradients(run, norms)
    return norms


def title_of_gradients(norms: Curves, lag: int) -> str:
    """Say what is left of an error after some steps, for the kinds with most and least."""
    ends = {kind: curve[lag] for kind, curve in norms.items()}
    most = highest(ends)
    least = lowest(ends)
    return f"{lag} steps back: {ends[most]:.0e} of the error in {most}, {ends[least]:.0e} in {least}"


def draw_gradients(run: lesson.Run, norms: Curves) -> None:
    """Draw the norms by lag."""
    title = title_of_gradients(norms, 200)
    fig, (ax,) = figures.new(title, size=(8.5, 4.0))
    for kind, curve in norms.items():
        ax.plot(curve, color=COLOUR[kind], label=kind)
    ax.set(yscale="log", ylim=(1e-12, 100))
    ax.set(xlabel="lag, steps", ylabel="gradient norm; lag 0: 1")
    figures.legend_outside(ax)
    run.figure(fig, "gradients")
    run.say(
        f"Of an error 200 steps later, Leaky has {norms['Leaky'][200]:.0e} left, ALIF "
        f"{norms['ALIF'][200]:.0e}, RLeaky {norms['RLeaky'][200]:.1f}. A size says whether a gradient "
        "vanishes, not whether it points the right way: chapter 7 tries."
    )


# %% [markdown]
# ## 6. Digits by rows, and an LSTM beside them
#
# By rows a sequence has 28 steps, and all steps are read. Which price does each kind pay?
# What counts is the work of the *recurrent* weights, for $H$ neurons:
#
# - RLeaky: a spike meets $H$ weights, so $H$ additions for each spike.
# - SLSTM: each of the four gates multiplies $H$ inputs and $H$ values of $h$, all of them
#   numbers, for each of $H$ cells: $8 H^2$ products at each step, whether anything happens
#   or not.
# - LSTM (`nn.LSTM`, no spikes): the same $8 H^2$. The spikes of SLSTM save work only in the
#   layer *above* it, which sees zeros and ones.
#
# (All counts leave out the first weights, from 28 pixels to $H$ inputs, which are the same
# for each kind. The counts become energy with the price of an addition, 0.9 pJ, and of a
# product with its addition, 4.6 pJ, as in lesson 12: arithmetic alone, without memory and
# wires.)
#
# So SLSTM is the stronger learner, and RLeaky the one that an event-driven chip (lesson 12)
# can run cheaply. ALIF without recurrent weights has none of this cost at all. The LSTM has
# the same number of weights as SLSTM and no surrogate: its gradients are true ones.


# %%
ROWS = {"Leaky": 1, "RLeaky": 1, "RLeaky x 2": 2, "ALIF": 1, "RALIF": 1, "SLSTM": 1}  # layers
GOALS = {
    "by rows, RLeaky: accuracy": {"quick": 58, "cpu": 95, "gpu": 95},
    "by rows, SLSTM: accuracy": {"quick": 65, "cpu": 98, "gpu": 98},
    "horizon, RLeaky": {"quick": 14, "cpu": 20, "gpu": 20},
    "horizon, ALIF": {"quick": 25, "cpu": 100, "gpu": 100},
    "by pixels, chrono SLSTM: accuracy": {"gpu": 90},
}


def tame(grad: Tensor) -> Tensor:
    """Cut a parameter's gradient to length 1, each for itself; an exploded one (inf, nan) becomes zeros."""
    whole = grad.nan_to_num(0, 0, 0)
    length = grad.norm().clamp(min=1).nan_to_num(1)
    return whole / length


def train(
    run: lesson.Run,
    name: str,
    net: nn.Module,
    sets: Sets,
    steps: int,
    epochs: int = 1,
    batch: int = 64,
    each: bool = True,
) -> list[dict[str, float]]:
    """Train on the first of two pairs (images, labels).

    Returns: for each epoch "seconds" so far and "check", % on the second; without ``each``, that of the last.
    """
    for weights in net.parameters():
        weights.register_hook(tame)
    (x, y), (test_x, test_y) = sets

    def show(images: Tensor) -> Tensor:
        return unroll(images, steps)

    def check() -> float:
        return training.evaluate(net, test_x, test_y, prepare=show, bf16=False)

    recipe = training.Recipe(
        epochs,
        batch,
        RATE,
        decay=0,
        loss=cross_entropy,
        augment=torch.clone,
        prepare=show,
        bf16=False,
    )
    history = training.fit(run, name, net, x, y, recipe, check if each else None)
    if not each:
        history[-1]["check"] = check()
    return history


class ClassicalNet(nn.Module):
    """The same network with a classical LSTM: its h is read as it is, without spikes."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.fc = nn.Linear(28, hidden)
        self.lstm = nn.LSTM(hidden, hidden)
        self.out = nn.Linear(hidden, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Give the scores [B, 10] of sequences x [T, B, 28]."""
        h = recurrent.lstm(x, self.lstm, self.fc)  # [T, B, H]: self.lstm(self.fc(x)), faster
        return self.out(GAIN * h.mean(0))


@torch.no_grad()
def spikes_of(net: Net, images: Tensor) -> float:
    """Count the spikes of all hidden layers for an image."""
    x = unroll(images, 28)
    total = 0.0
    for depth in range(1, len(net.hidden) + 1):
        total += net.spikes(x, depth).sum().item()
    return total / len(images)


def row_of(config: Config, run: lesson.Run, name: str, sets: Sets) -> list[Any]:
    """Train one network by rows. Returns: its row of the table."""
    size = config.hidden
    kind = name.split(" x ", maxsplit=1)[0]
    net = make(run, kind, [28, size, 10], 28, 28, ROWS[name])
    history = train(run, f"rows {name}", net, sets, 28, config.epochs, BATCH, each=False)
    last = history[-1]
    title = f"by rows, {name}: accuracy"
    goal = GOALS.get(title)
    run.measure(title, last["check"], "%", goal, headline=goal is not None)
    spikes = spikes_of(net, sets[1][0][:500])
    adds = size * spikes if kind in ("RLeaky", "RALIF") else 0
    products = products_of_gates(size) if kind == "SLSTM" else 0
    return priced(name, last, spikes, adds, products)


def products_of_gates(size: int) -> int:
    """Count the products of an LSTM's gates for an image by rows."""
    return 28 * 8 * size**2


def by_rows(config: Config, run: lesson.Run, sets: Sets) -> None:
    """Train on digits shown as 28 rows of 28 pixels; count what the recurrent weights cost."""
    size = config.hidden
    with torch.random.fork_rng():
        torch.manual_seed(run.seed)
        classical = ClassicalNet(size).to(run.device)
        history = train(run, "rows LSTM", classical, sets, 28, config.epochs, BATCH, each=False)
    rows = []
    for name in ROWS:
        rows.append(row_of(config, run, name, sets))
    rows.append(priced("LSTM", history[-1], "-", 0, products_of_gates(size)))
    run.measure("by rows, LSTM: accuracy", history[-1]["check"], "%")
    columns = ["", "accuracy, %", "spikes", "1000 ACs", "1000 MACs", "nJ", "CPU s"]
    run.table("Digits by rows; operations of recurrent weights", columns, rows)
    compare_with_lstm(run, rows)


def priced(name: str, last: dict[str, float], spikes: Any, adds: float, products: float) -> list[Any]:
    """Give a row of the table; the energy is that of the arithmetic alone, at 45 nm (lesson 12)."""
    picojoules = adds * operations.PICOJOULES_AC + products * operations.PICOJOULES_MAC
    row: list[Any] = [name, last["check"], spikes]
    row += [adds / 1000, products / 1000, picojoules / 1000]
    return [*row, last["seconds"]]


def compare_with_lstm(run: lesson.Run, rows: list[list[Any]]) -> None:
    """Say what spikes and gates are worth, from the table's rows."""
    accuracy = {row[0]: row[1] for row in rows}
    energy = {row[0]: row[5] for row in rows}
    ratio = energy["SLSTM"] / energy["RLeaky"]
    deeper = accuracy["RLeaky x 2"] - accuracy["RLeaky"]
    run.say(
        f"RLeaky {accuracy['RLeaky']:.1f} %, SLSTM {accuracy['SLSTM']:.1f} %, classical LSTM "
        f"{accuracy['LSTM']:.1f} %. SLSTM's recurrent arithmetic costs {ratio:.0f} times RLeaky's. A second "
        f"RLeaky layer: {deeper:+.1f} points."
    )


# %% [markdown]
# What to see in the table: the gates buy the highest accuracies, and cost many times the
# arithmetic of RLeaky, which pays only where a spike comes. Compare SLSTM with the LSTM in
# the last line: that is the price of reading spikes in place of numbers. And ALIF has a
# memory of its own, without a single recurrent operation.
#
# ## 7. How far does each one remember?
#
# A task with a dial. *Store-recall*: one of 8 channels is on for 5 steps (the *cue*), all
# of them flicker during a *delay*, then a ninth channel asks which one it was. Only the
# spikes of the last 5 steps are read, so nothing but memory can answer. Each kind is
# trained anew for each delay.
#
# This is harder than it looks. The flicker is noise in the very channels of the cue, so a
# network that adds everything up drowns in it. And nothing is asked until the end: for all
# of the delay, no error tells the network that it is about to forget.
#
# The *horizon* is the delay at which the accuracy falls half way from 100 % to guessing
# (12.5 %), to 56 %; between two delays that were tried, the logarithms of the delays are
# interpolated. A kind that never falls so low has a horizon beyond the longest delay, and
# that delay is given. One that has fallen below 25 %, twice guessing, is not tried with
# longer delays: they cost most, and the horizon is known. Before you look: order the seven
# kinds.


# %%
UPDATES = {"quick": 90, "cpu": 300, "gpu": 300}  # of store-recall, each on 64 fresh sequences
CUE, SYMBOLS, HALF = 5, 8, 56.25  # steps of cue and question; %, half way from chance (12.5) to 100
LOST = 25.0  # %, twice chance


def store_recall_sets(run: lesson.Run, delay: int) -> Sets:
    """Draw sequences to train on and to test on, as bright as pixels."""
    pairs = []
    for count in (64 * UPDATES[run.scale], 1000):
        x, symbols = recurrent.store_recall(count, delay)
        pairs.append((255 * x, symbols))
    return pairs[0], pairs[1]


def recall_once(
    run: lesson.Run,
    kind: str,
    delay: int,
    sets: Sets,
    depth: int = 1,
) -> float:
    """Train one network on store-recall. Returns: its accuracy in %."""
    sizes = (SYMBOLS + 1, 64, SYMBOLS)
    net = make(run, kind, sizes, 320, CUE, depth)  # slow time constants up to 320 steps, for any delay
    name = f"recall {kind} {delay}" + (f" x {depth}" if depth > 1 else "")
    history = train(run, name, net, sets, delay + 2 * CUE)
    return history[-1]["check"]


def recall_curves(config: Config, run: lesson.Run, kinds: Sequence[str]) -> Curves:
    """Train each kind on store-recall, anew for each delay, until it is lost.

    Returns: accuracies in % by kind and delay; a curve ends with its first value below ``LOST``.
    """
    curves: Curves = {kind: [] for kind in kinds}
    for delay in config.delays:
        sets = store_recall_sets(run, delay)
        for kind, curve in curves.items():
            if not curve or curve[-1] >= LOST:
                curve.append(recall_once(run, kind, delay, sets))
    for kind, curve in curves.items():
        name = f"horizon, {kind}"
        at_most = 20 if kind == "Leaky" else None
        end = recurrent.horizon(config.delays, curve, HALF)
        run.measure(name, end, "steps", GOALS.get(name), at_most)
    return curves


def filled(curve: list[float], delays: Sequence[int]) -> list[Any]:
    """Give a curve as a row of a table: "-" for each delay that was not tried."""
    missing = len(delays) - len(curve)
    return curve + missing * ["-"]


def recall(config: Config, run: lesson.Run) -> list[float]:
    """Find the horizon of each kind, and draw it. Returns: RLeaky's accuracies."""
    curves = recall_curves(config, run, list(KINDS))
    rows = []
    ends = {}
    for kind, curve in curves.items():
        rows.append([kind, *filled(curve, config.delays)])
        ends[kind] = recurrent.horizon(config.delays, curve, HALF)
    columns = ["", *map(str, config.delays)]
    run.table("Store-recall: accuracy in %, by delay in steps", columns, rows)
    draw_recall(config, run, curves, ends)
    return curves["RLeaky"]


def title_of_horizons(ends: dict[str, float], longest: int) -> str:
    """Say how far each kind remembers; + where it does so over the longest delay that was tried."""
    reach = []
    for kind, end in ends.items():
        more = "+" if end == longest else ""
        reach.append(f"{kind} {end:.0f}{more}")
    return f"Horizon in steps, first seed: {', '.join(reach)}"


def draw_by_delay(ax: "figures.Axes", delays: tuple[int, ...]) -> None:
    """Set the axes of accuracy by delay."""
    ax.axhline(HALF, color=figures.GREY, ls=":", label="horizon")
    ax.axhline(100 / SYMBOLS, color=figures.GREY, ls="--", label="guessing")
    ax.set(xscale="log", xticks=delays, xticklabels=delays)
    ax.set(xlabel="delay, steps", ylabel="accuracy, %", ylim=(0, 103))
    ax.minorticks_off()
    figures.legend_outside(ax)


def draw_recall(config: Config, run: lesson.Run, curves: Curves, ends: dict[str, float]) -> None:
    """Draw the accuracy of each kind by delay."""
    delays = config.delays
    title = title_of_horizons(ends, delays[-1])
    fig, (ax,) = figures.new(title, size=(8.5, 4.4))
    for kind, curve in curves.items():
        ax.plot(delays[: len(curve)], curve, "o-", color=COLOUR[kind], label=kind)
    draw_by_delay(ax, delays)
    run.figure(fig, "horizons")
    longest = delays[len(curves["Leaky"]) - 1]  # that Leaky was tried with
    run.say(
        f"Leaky, with one decay constant, bridges {ends['Leaky']:.0f} steps, slow Leaky "
        f"{ends['slow Leaky']:.0f}, RLeaky {ends['RLeaky']:.0f}, ALIF {ends['ALIF']:.0f} of the "
        f"{delays[-1]} that were tried. Over {longest} steps Leaky gets {curves['Leaky'][-1]:.0f} % "
        f"right; guessing gets {100 / SYMBOLS}."
    )


# %% [markdown]
# So the *wrong neuron for the task* is not one that is a little worse: beyond its horizon
# it guesses. Compare *slow Leaky* with *ALIF*: both have time constants as long as the
# task. The slow membrane adds up all flicker of the delay; the threshold counts only what
# was strong enough to make the neuron fire.
#
# ### Does depth help on long sequences?
#
# One recurrent layer remembers for a while. Do two or three in a row remember longer? Two
# guesses. *Yes*: each has its own spikes going round, and the second may hold what the
# first has worked out. *No*: an error must also find its way down through all of them, and
# each layer multiplies it by surrogate slopes (lesson 07). The same task decides, with the
# same number of updates for each depth, and delays up to 80 steps: a single layer forgets
# well before. (At quick scale: one layer and two.)
#
# Watch for a layer that falls silent: if the run prints that a hidden layer never fires,
# nothing from below it is heard any more, however much is remembered there.


# %%
DEPTHS = {"quick": (2,), "cpu": (2, 3), "gpu": (2, 3)}  # layers, beside the one of before
LONGEST = 80  # steps of delay


def recall_by_depth(config: Config, run: lesson.Run, one_layer: list[float]) -> None:
    """Train stacks of two and three RLeaky layers on store-recall, beside the one layer of before."""
    count = max(1, int(np.searchsorted(config.delays, LONGEST, side="right")))
    delays = config.delays[:count]
    curves: Curves = {"RLeaky x 1": one_layer[:count]}
    for depth in DEPTHS[run.scale]:
        curves[f"RLeaky x {depth}"] = []
    for delay in delays:
        torch.manual_seed(run.seed)
        sets = store_recall_sets(run, delay)
        for depth in DEPTHS[run.scale]:
            accuracy = recall_once(run, "RLeaky", delay, sets, depth)
            curves[f"RLeaky x {depth}"].append(accuracy)
    rows = []
    ends = {}
    fig, (ax,) = figures.new("", size=(8.0, 4.0))
    for name, curve in curves.items():
        ends[name] = recurrent.horizon(delays, curve, HALF)
        run.measure(f"horizon by depth, {name}", ends[name], "steps")
        rows.append([name, *filled(curve, delays)])
        ax.plot(delays[: len(curve)], curve, "o-", label=name)
    columns = ["", *map(str, delays)]
    run.table("Depth: accuracy in %, by delay in steps", columns, rows)
    told = ", ".join(f"{end:.0f} ({name})" for name, end in ends.items())
    figures.retitle(fig, f"Horizon in steps: {told}")
    draw_by_delay(ax, delays)
    run.figure(fig, "depth")
    run.say(
        f"Horizons in steps by the number of layers: {told}. What another kind of neuron reaches with a "
        "single layer is in the table before this one."
    )


# %% [markdown]
# ### 784 pixels
#
# Back to digits. By pixels there are 784 steps, with one number at each, so the horizon
# decides. A plain leaky network is known to fail here (62 to 72 % in the literature, after
# long training, in the table of Zhang et al. 2024, TC-LIF); that is a result, not a bug.
# (At quick scale the images are too few for any kind: that run only shows that it runs.)


# %%
def by_pixels(config: Config, run: lesson.Run, sets: Sets) -> None:
    """Train on digits shown as 784 pixels, and draw the accuracy after each pass."""
    curves: Curves = {}
    sizes = (1, config.hidden // 2, 10)
    batch = 256 if run.scale == "gpu" else 64
    passes = config.epochs if run.scale == "quick" else 2 * config.epochs
    for kind in KINDS:
        net = make(run, kind, sizes, 784, 784)
        history = train(run, f"pixels {kind}", net, sets, 784, passes, batch)
        curves[kind] = [entry["check"] for entry in history]
        name = f"by pixels, {kind}: accuracy"
        run.measure(name, curves[kind][-1], "%", GOALS.get(name))
    draw_pixels(run, curves, len(sets[0][1]))
    ends = {kind: curve[-1] for kind, curve in curves.items()}
    best = highest(ends)
    worst = lowest(ends)
    run.say(
        f"By pixels {best} is best with {ends[best]:.0f} %, {worst} worst with {ends[worst]:.0f} %; guessing "
        f"gives 10 %. One test image of {len(sets[1][1])} is {100 / len(sets[1][1]):.2g} points."
    )


def title_of_pixels(curves: Curves, count: int) -> str:
    """Say which kinds are best and worst by pixels."""
    ends = {kind: curve[-1] for kind, curve in curves.items()}
    best = highest(ends)
    worst = lowest(ends)
    return f"784 pixels, {count} images: {best} {ends[best]:.0f} % right, {worst} {ends[worst]:.0f} %"


def draw_pixels(run: lesson.Run, curves: Curves, count: int) -> None:
    """Draw the accuracy of each kind after each pass."""
    title = title_of_pixels(curves, count)
    fig, (ax,) = figures.new(title, size=(8.5, 4.2))
    for kind, curve in curves.items():
        passes = range(1, len(curve) + 1)
        ax.plot(passes, curve, "o-", color=COLOUR[kind], label=kind)
    ax.axhline(10, color=figures.GREY, ls="--", label="guessing")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set(xlabel="passes over the images", ylabel="test accuracy, %", ylim=(0, None))
    figures.legend_outside(ax)
    run.figure(fig, "pixels")


# %% [markdown]
# Which one to take?
#
# - **Leaky**: the answer is in the last few steps. As in ALIF, no spike comes back, so the
#   currents of all steps are one product (chapter 4).
# - **RLeaky**: a longer memory, for additions only.
# - **ALIF**: a long wait without a spike; good where "was it there?" is the question.
#   **RALIF** where both are needed.
# - **SLSTM**: accuracy counts more than energy, and the hardware multiplies. Begin its
#   gates slow (chrono) if you know the span.
# - **LSTM**: no event-driven hardware in sight.
#
# And three habits, whichever it is: reset the states at each new sequence; clip gradients;
# and before you train for hours, draw the two pictures of this lesson, how long the network
# remembers and how far an error walks back. A network whose horizon ends before its task
# begins cannot be saved by training.
#
# Lesson 20 meets a further kind of memory: state spaces, which are linear in time, and can
# therefore be computed for all steps at once.


# %%
def load_digits(config: Config, run: lesson.Run) -> Sets:
    """Give MNIST to train on and to test on, as bytes on the device."""
    sets = []
    sizes = {"train": config.images, "test": max(500, config.images // 6)}
    for split, size in sizes.items():
        part = data.load("mnist", split).subset(size)
        run.uses(part)
        images = part.images.to(run.device)
        labels = part.labels.to(run.device)
        sets.append((images, labels))
    return sets[0], sets[1]


def main(config: Config, run: lesson.Run) -> None:
    train_set, test = load_digits(config, run)
    some = first(train_set, 32)
    long = run.is_first_seed  # the long trainings: with the first seed alone
    forgetting(run)
    learned_leak(run)
    ring(run)
    if long:
        idiomatic(config, run, train_set, test)
    one_alif(run)
    prove_equal(run)
    catch_slstm(run)
    if long:
        compare_speed(config, run, *some)
    gradient_by_lag(run, *some)
    if not long:
        train_again(config, run, (train_set, test))
        return
    by_rows(config, run, (train_set, test))
    one_layer = recall(config, run)
    recall_by_depth(config, run, one_layer)
    few = first(train_set, config.pixel_images)
    fewer = first(test, config.pixel_images // 4)
    by_pixels(config, run, (few, fewer))


def train_again(config: Config, run: lesson.Run, sets: Sets) -> None:
    """Train with a further seed only what the head of this script gives a spread for."""
    for name in ("RLeaky", "SLSTM"):
        row_of(config, run, name, sets)
    recall_curves(config, run, ("Leaky", "RLeaky", "ALIF"))


if __name__ == "__main__":
    lesson.start(main, Config, SCALES)
