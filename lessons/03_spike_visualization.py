"""Lesson 03: reading spike trains.

Question: What does a raster plot tell about a population, and which numbers tell it without eyes?
Reading:  snnbook.net, raster plots; snnTorch tutorial 3; Golomb (2007), "Neuronal synchrony measures".
Run:      python lessons/03_spike_visualization.py
Expect:   99.7 ± 0.3 % of 200 populations named right (3 seeds), 55 % by their mean rate; CV and Fano factor,
          which say how irregular a train is, within 2.4 standard errors of theory on random trains. 20 s of
          CPU time; no data needed.
"""

# %% [markdown]
# You cannot debug what you cannot see. A spiking network that does not learn often shows
# why at a glance: a layer that is silent, one that fires at every step, one in which all
# neurons do the same. In this lesson you
#
# 1. look at one neuron: its input, its membrane, its spikes,
# 2. read a raster plot, the picture of a whole population, and see how each code of lesson
#    02 looks in it,
# 3. put numbers to what the eye sees: intervals, Fano factor, synchrony,
# 4. tell healthy populations from sick ones, and learn what makes them sick and what helps,
# 5. let a rule of two numbers name 200 populations without eyes,
# 6. catch a statistic that calls every spike train random.

# %%
import math
import random
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

sys.path.insert(0, str(Path(globals().get("__file__", "any.py")).resolve().parents[1]))  # where snn_course is

from snn_course.runs import figures, lesson
from snn_course import safe_write

import numpy as np
import numpy.typing as npt
import snntorch as snn
import torch
from torch import Tensor


@dataclass(frozen=True)
class Config(lesson.Config):
    num_steps: Annotated[int, lesson.Range(1000, 20_000)] = 2000
    """Longest recording, in steps of 1 ms."""

    draws: Annotated[int, lesson.Range(6, 100_000)] = 200
    """Random populations that the rule must name."""


SCALES: lesson.Scales = {
    "quick": {"draws": 60},
    "cpu": {"seeds": 3},
    "gpu": {"seeds": 3, "draws": 1200},
}

Run = lesson.Run

# %% [markdown]
# ## 1. One neuron, watched
#
# Before a population, one neuron: `snn.Leaky` with a noisy current. Three rows, one time
# axis. The *membrane trace* tells what the spikes alone hide: whether a silent neuron was
# far from its threshold or just below it, and whether a firing one is driven by a steady
# current (it climbs evenly, fires like a clock) or by chance (it wanders, and fires when
# noise lifts it over).
#
# Currents are given in *rheobases* here: a constant current above 1 makes the neuron fire
# (lesson 01). A step stands for 1 ms, so the highest possible rate is 1000 Hz.
#
# In the figure, cover the upper two rows and look at the spikes alone: could you tell which
# neuron is driven? Then cover the lowest row: at which moments does the right membrane come
# close to the threshold, and nothing follows? Those moments are what a raster cannot show.


# %%
BETA = 0.9  # of every neuron below; a constant current of 1 - BETA, the rheobase, just makes it fire
Recording = tuple[Tensor, Tensor]  # spk_rec and mem_rec, both [T, N]


@torch.no_grad()
def simulate(cur: Tensor) -> Recording:
    """Run ``snn.Leaky`` neurons over currents [T, N], in rheobases."""
    leaky = snn.Leaky(beta=BETA).to(cur.device)
    mem = torch.zeros_like(cur[0])  # [N]
    spk_rec = []
    mem_rec = []
    for cur_t in ((1 - BETA) * cur).unbind(0):  # time is axis 0
        spk, mem = leaky(cur_t, mem)
        spk_rec.append(spk)
        mem_rec.append(mem)
    return torch.stack(spk_rec), torch.stack(mem_rec)


def watch_one_neuron(config: Config, run: Run) -> None:
    """Run two neurons: one is driven by a steady current, one is kicked by noise."""
    with torch.random.fork_rng():  # what is measured below draws the same numbers with and without this
        noisy = 0.5 + 2.5 * torch.randn(200)
    steady = torch.full((200,), 1.3)
    cur = torch.stack([steady, noisy], dim=1)  # [T, 2], in rheobases
    spk, mem = simulate(cur)
    draw_two_neurons(run, cur, spk, mem)
    isi = intervals(spk[:, 0])
    run.say(
        f"The driven neuron fires every {isi.mean():.1f} ms (standard deviation over mean: {cv(isi):.2f}). "
        "The other has a mean current of half a rheobase; noise lifts it over the threshold "
        f"{int(spk[:, 1].sum())} times."
    )


def draw_two_neurons(run: Run, cur: Tensor, spk: Tensor, mem: Tensor) -> None:
    """Draw current, membrane and spikes, [T, 2] each."""
    driven, kicked = spk.sum(0).int().tolist()
    fig, axes = figures.new(
        f"Two neurons, {driven} and {kicked} spikes in 200 ms",
        rows=3,
        columns=2,
        size=(10, 5),
        sharex=True,
        sharey="row",
        height_ratios=(1, 2, 0.5),
    )
    for column, name in enumerate(("a steady current", "noise")):
        top, middle, bottom = axes[column::2]
        top.plot(cur[:, column], color=figures.GREY, lw=0.8)
        top.set_title(name)
        middle.plot(mem[:, column])
        middle.axhline(1, color=figures.RED, ls="--", lw=1)
        times = spk[:, column].nonzero()
        bottom.vlines(times, 0, 1, color="black")
        bottom.set(xlabel="time, ms", yticks=[])
    label_rows(axes[::2], "current,\nrheobases", "membrane", "spikes")
    run.figure(fig, "one_neuron")


def label_rows(axes: Any, *labels: str) -> None:
    """Write what each row of a figure shows, left of its first axes."""
    for ax, label in zip(axes, labels, strict=True):
        ax.set_ylabel(label)


# %% [markdown]
# ## 2. The raster plot
#
# A *raster plot* has a row for each neuron and a mark for each spike; time runs to the
# right. Read it in three directions. *Along a row*: how regular is this neuron? *Down a
# column*: do many fire at the same time? (The share that fires in a column is the
# population's rate at this moment; averaged over repeats of a stimulus, this curve is the
# *PSTH*, the peri-stimulus time histogram.) *As a whole*: how dense is it, and are there
# empty rows?
#
# Each code of lesson 02 has its face. In a rate code, brighter pixels have denser rows. In
# a latency code, there is one mark a row, and the marks form a line from dim and late to
# bright and early. In a delta code, marks stand where the signal rises (with OFF spikes,
# also where it falls).
#
# snnTorch draws rasters with `spikeplot.raster`. It takes axis 0 for time, whatever it
# really is. The fourth panel shows a frequent mistake: a tensor given as [N, T]. No error
# comes; the picture is just wrong. Which sign gives it away?


# %%
def title_of_codes(ends: dict[str, int]) -> str:
    """Say at which step the last spike of the rate code stands, with time as axis 0 and with axes swapped."""
    return f"Last spike of the rate code: step {ends['[T, N]']}; given as [N, T] step {ends['[N, T]']}"


def draw_codes(run: Run) -> None:
    """Draw three codes with snnTorch's own raster plot, and one of them with its axes swapped."""
    from snntorch import spikegen, spikeplot  # here, not above: spikeplot is slow to load

    pixel = torch.linspace(0.05, 1, 40)  # one for each neuron
    time = torch.arange(100)[:, None]  # [T, 1]
    wave = torch.sin(time / 8 - 3 * pixel)  # [T, N]
    rate = spikegen.rate(pixel, 100)  # [T, N]
    panels = {
        "rate code": rate,
        "latency code": spikegen.latency(pixel, 100, normalize=True, linear=True),
        "delta code of a wave": spikegen.delta(wave, threshold=0.08),
        "rate code given as [N, T]: no error": rate.T,
    }
    ends = {"[T, N]": last_step(rate), "[N, T]": last_step(rate.T)}
    title = title_of_codes(ends)
    fig, axes = figures.new(title, rows=2, columns=2, size=(9, 5.5))
    for ax, name in zip(axes, panels, strict=True):
        spk = panels[name]
        # exercise: one call of snnTorch's raster plot
        spikeplot.raster(spk, ax, s=3, c=figures.BLUE)
        # end
        ax.set(title=name, xlabel="axis 0: step", ylabel="axis 1: neuron")
    run.figure(fig, "codes")
    run.say(
        f"100 steps were simulated. Given as [N, T], the last spike is at step {ends['[N, T]']}, since there "
        f"are only {len(pixel)} neurons: look at the end of the time axis."
    )


def last_step(spk: Tensor) -> int:
    """Give the last index on axis 0 that holds a spike."""
    return int(spk.nonzero()[:, 0].max())


# %% [markdown]
# ## 3. Numbers for what the eye sees
#
# **Along a row.** The gap between two spikes of a neuron is its *inter-spike interval*
# (ISI). The *coefficient of variation* (CV) is their standard deviation over their mean. A
# clock has CV 0. A *Poisson* train, chance alone without memory, has CV 1. Bursts, groups
# of spikes with long pauses, have more. The *Fano factor* says the same of counts: cut time
# into windows, count, and take variance over mean. Clock 0, Poisson 1, bursts more.
#
# An example: spikes at 10, 30, 50 and 70 ms have intervals of 20, 20 and 20 ms: CV 0. In
# windows of 20 ms the counts are 1, 1, 1, 1: Fano factor 0. Move two of the spikes, so that
# they come at 10, 12, 50 and 52 ms. The intervals are 2, 38 and 2 ms, with a mean of 14 and
# a standard deviation of 21: CV 1.5. The counts are 2, 0, 2, 0: Fano factor 1.3.
#
# Both numbers compare a spread with a mean, so both have no unit, and neurons with
# different rates can be compared. The Fano factor needs a window, and the choice of it
# matters (chapter 6). CV needs none, but a steady rate: ten intervals of 10 ms and then ten
# of 30 ms are two clocks, yet together their CV is 0.5.


# %%
WINDOW = 10  # ms, for synchrony and coupling: as long as a membrane remembers
LONG_WINDOW = 100  # ms, for the Fano factor: several intervals


def intervals(train: Tensor) -> Tensor:
    """Give the inter-spike intervals, in ms, of one neuron's spikes [T]."""
    return train.nonzero()[:, 0].diff().double()


def cv(isi: Tensor) -> float:
    """Give the coefficient of variation of intervals; nan for fewer than five, which say too little."""
    if len(isi) < 5:
        return math.nan
    return float(isi.std() / isi.mean())


def counts(spk: Tensor, window: int) -> Tensor:
    """Count spikes [T, N] in windows side by side, [K, N]; a rest that fills no window is left out."""
    steps, neurons = spk.shape
    whole = steps // window
    cut = spk[: whole * window].reshape(whole, window, neurons)
    return cut.sum(1, dtype=torch.float64)


def fano(count: Tensor) -> Tensor:
    """Give the Fano factor [N] of counts [K, N]; nan for a neuron that never fires."""
    return count.var(0) / count.mean(0)


def fano_of(train: Tensor, window: int) -> float:
    """Give the Fano factor of one neuron's spikes [T], counted in windows of so many steps."""
    return float(fano(counts(train[:, None], window)))


# %% [markdown]
# **Down a column.** *Synchrony* is 0 if the neurons of a population fire independently, and
# 1 if they are copies of each other. It compares how much the *mean* of all neurons varies
# with how much each varies alone: independent neurons average each other out.
#
# $$\chi^2 = \frac{\text{variance of the mean count}}{\text{mean of the variances}}$$
#
# is 1 for copies, but $1/N$ for $N$ independent neurons; $(N \chi^2 - 1) / (N - 1)$ makes
# that 0. (The name $\chi^2$ is Golomb's; the chi-square test of lesson 02 is another
# thing.) *Coupling* asks one neuron: how much does it go with all the others? It is the
# correlation of its counts with theirs, so a population of two groups shows, where one
# number for all would blur them.
#
# Both use counts in windows of `WINDOW` ms, not single steps. Two neurons that fire 2 ms
# apart fire together, as far as the next layer is concerned: its membrane still holds the
# first spike when the second comes. (With `BETA` = 0.9, $0.9^{10} = 35\,\%$ of a push is
# left after 10 ms.)
#
# How does the line of `chi2` below match the formula? `count` is `[K, N]`, a row for each
# window. `count.mean(1)` takes the mean over the neurons, and `.var()` its variance over
# the windows; `count.var(0)` takes one variance for each neuron, and `.mean()` their mean.
# So all that differs is which comes first.


# %%
def synchrony(count: Tensor) -> float:
    """Give the synchrony of counts [K, N], N >= 2: mean covariance of two neurons over mean variance.

    Golomb (2007) has chi^2 = Var(mean of the neurons) / mean of their Var, for voltages. For independent
    neurons it is 1 / N; the last line makes that 0, so that populations of any size compare.
    """
    neurons = count.shape[1]
    chi2 = count.mean(1).var() / count.var(0).mean()
    return float((neurons * chi2 - 1) / (neurons - 1))


def coupling(count: Tensor) -> Tensor:
    """Give each neuron's correlation [N] with the sum of the others' counts (after Okun et al. 2015)."""
    others = count.sum(1, keepdim=True) - count  # [K, N]; a neuron would always correlate with itself
    own = count - count.mean(0)
    others = others - others.mean(0)
    together = (own * others).sum(0)
    alone = own.norm(dim=0) * others.norm(dim=0)
    return (together / alone).nan_to_num(0)  # 0 / 0 for a silent neuron: no coupling


# %% [markdown]
# Statistics are easily wrong by a factor. So they are tried on trains for which theory
# knows the answer: those that fire with chance $p$ at each step (for $p \to 0$, Poisson
# trains). Their intervals have mean $1/p$ and variance $(1 - p)/p^2$, their counts in $w$
# steps mean $w\,p$ and variance $w\,p\,(1 - p)$. So $CV^2 = \text{Fano} = 1 - p$.
#
# The error of a measured value is known, too, so the proof counts in standard errors. For
# the CV of $n$ intervals it is $(1 - p/2) / \sqrt{n}$: the errors of mean and standard
# deviation, passed through their quotient. For the Fano factor of $K$ windows it is $(1 -
# p) \sqrt{2 / (K - 1)}$, the error of a variance (Eden and Kramer 2010).


# %%
def random_trains(num_steps: int, neurons: int, p: float) -> Tensor:
    """Draw trains [T, N] that fire with chance p at each step, whatever happened before."""
    return (torch.rand(num_steps, neurons) < p).float()


def standard_errors(p: float, isi: Tensor, count: Tensor) -> Tensor:
    """Give the standard errors [2] of CV and Fano factor of a random train."""
    error_of_cv = (1 - p / 2) / math.sqrt(len(isi))
    free = len(count) - 1  # degrees of freedom, K - 1
    error_of_fano = (1 - p) * math.sqrt(2 / free)
    return torch.tensor([error_of_cv, error_of_fano])


def prove_statistics(run: Run) -> None:
    """Compare random trains with theory: a chance p to fire on each step, which for p -> 0 is Poisson."""
    rows = []
    worst = torch.zeros(2)
    for p in (0.001, 0.03, 0.3):
        spk = random_trains(20_000 * LONG_WINDOW, 1, p)
        isi = intervals(spk[:, 0])  # [n]
        count = counts(spk, LONG_WINDOW)  # [K, 1]
        found = torch.tensor([cv(isi), float(fano(count))])
        theory = torch.tensor([math.sqrt(1 - p), 1 - p])  # CV^2 = Fano = 1 - p
        apart = (found - theory).abs() / standard_errors(p, isi, count)
        worst = worst.maximum(apart)
        found_cv, found_fano = found.tolist()
        true_cv, true_fano = theory.tolist()
        rows.append([f"{p:g}", found_cv, f"{true_cv:.4f}", found_fano, f"{true_fano:.4f}"])
    run.table("Random trains, p spikes a step", ["p", "CV", "theory", "Fano", "theory"], rows)
    run.proof("CV of random trains, standard errors", worst[0].item(), at_most=4.5)  # 7 in a million miss
    run.proof("Fano of random trains, standard errors", worst[1].item(), at_most=4.5)
    prove_synchrony(run)


def prove_synchrony(run: Run) -> None:
    """Compare the synchrony of independent neurons with 0, and that of copies with 1."""
    spk = random_trains(20_000 * WINDOW, 50, 0.02)
    count = counts(spk, WINDOW)  # [K, N]
    pairs = 50 * 49 / 2
    precision = math.sqrt(pairs * (len(count) - 1))  # each pair's correlation has variance 1 / (K - 1)
    z = synchrony(count) * precision
    run.proof("synchrony of independent, standard errors", abs(z), at_most=4.5)
    copies = count[:, :1].expand(-1, 50)
    run.proof("synchrony of copies = 1", abs(synchrony(copies) - 1))


# %% [markdown]
# ## 4. Healthy and sick populations
#
# A *healthy* population fires moderately and out of step: different neurons say different
# things. Three ways to be sick, what causes them in a network that you train, and what
# usually helps:
#
# - *Silence*: empty rows. The input is too weak, the threshold too high, the leak too
#   strong; or training has pushed weights too low. A silent neuron carries nothing, and
#   training hardly reaches it (lesson 07). Scale the input up, lower the threshold, raise
#   `beta`.
# - *Saturation*: full rows. The input is too strong or nothing leaks. The neuron says the
#   same whatever the input is. Scale the input down, raise the threshold, add a price on
#   spikes (lesson 14).
# - *Synchronous bursting*: vertical stripes. All neurons fire together and then rest, so
#   many say what one could say. Too strong excitation among the neurons, with too little
#   inhibition, or a shared input. Weaken recurrent weights, add inhibition, start neurons
#   in different states. (To fire together for a moment, when a picture appears, is healthy:
#   sick is what stays in step whatever comes in.)
#
# The third one is not put in by hand below. It *arises*, in a network in which each spike
# excites all neurons with `strength`, through a current that fades (a synapse, lesson 06):
# as `strength` grows, independent firing turns into common bursts. Then the cure is tried.
# One fifth of the neurons inhibits, four times as strongly: 0.8 x 1 = 0.2 x 4, so both
# sides balance.
#
# The current into neuron $i$, in rheobases, has four parts:
#
# $$0.6 + 2\,\xi_i[t] + \text{strength} \cdot I[t] - A_i[t] .$$
#
# The first is below the rheobase, so nothing fires by it alone; $\xi$ is noise, each
# neuron's own; $I$ is the synaptic current, which all neurons share; $A$ is tiredness
# (*adaptation*): each spike adds to it, and it fades slowly, with a factor of 0.99. It is
# there to end a burst.
#
# Look at the four rasters from left to right. From the first to the third, nothing but one
# number grows, and no neuron is told to burst: all fire at once, and then rest until they
# are less tired. (The first burst is the longest, for nobody is tired yet.) The fourth has
# the strength of the third: the only change is that ten of its 50 neurons inhibit.


# %%
def recurrent_population(strength: float, inhibitory: float, num_steps: int = 1000) -> Tensor:
    """Run 50 neurons that excite each other through slow synapses. Returns: spikes [T, N].

    A share ``inhibitory`` of them inhibits instead, four times as strongly. A neuron that fires tires: each
    spike lowers its drive for a while, so that a burst ends.
    """
    neurons = 50
    sign = torch.ones(neurons)
    sign[: round(inhibitory * neurons)] = -4
    leaky = snn.Leaky(beta=BETA)
    mem = torch.zeros(neurons)
    syn = torch.zeros(())
    tired = torch.zeros(neurons)
    spk_rec = []
    for _ in range(num_steps):
        drive = 0.6 + 2.0 * torch.randn(neurons) + strength * syn - tired  # in rheobases
        spk, mem = leaky((1 - BETA) * drive, mem)
        syn = 0.8 * syn + (sign * spk).mean()
        tired = 0.99 * tired + 2.0 * spk
        spk_rec.append(spk)
    return torch.stack(spk_rec)


@dataclass(frozen=True)
class Network:
    """A recurrent population: how strongly a spike excites all neurons, and which share inhibits."""

    name: str
    strength: float
    inhibitory: float


NETWORKS = (
    Network("no recurrence", 0.0, 0.0),
    Network("excitation 5", 5.0, 0.0),
    Network("excitation 10", 10.0, 0.0),
    Network("excitation 10, a fifth inhibits", 10.0, 0.2),
)


def bursts_arise(config: Config, run: Run) -> None:
    """Raise the recurrent excitation, then add inhibition; watch the synchrony."""
    trains = []
    with torch.random.fork_rng():
        for network in NETWORKS:
            trains.append(recurrent_population(network.strength, network.inhibitory))
    rows: list[list[Any]] = []
    synchronies = []
    for network, spk in zip(NETWORKS, trains, strict=True):
        sync = synchrony(counts(spk, WINDOW))
        rate = 1000 * spk.mean().item()
        rows.append([network.name, sync, rate])
        synchronies.append(sync)
    columns = ["population", "synchrony", "mean rate, Hz"]
    run.table("Recurrent excitation and inhibition", columns, rows)
    alone, _, strong, cured = synchronies
    run.measure("synchrony by excitation", strong, at_least=0.5)
    run.measure("synchrony with a fifth inhibitory", cured, at_most=0.2)
    run.say(
        f"Neurons that excite each other strongly have a synchrony of {strong:.2f}, without recurrence "
        f"{alone:.2f}. With a fifth of them inhibitory it is {cured:.2f}."
    )
    draw_networks(run, trains, synchronies)


def draw_networks(run: Run, trains: list[Tensor], synchronies: list[float]) -> None:
    """Draw the raster of each network."""
    alone, _, strong, cured = synchronies
    title = f"Synchrony {alone:.2f} to {strong:.2f} by excitation, {cured:.2f} with inhibition"
    fig, axes = figures.new(title, columns=4, size=(13, 3.4), sharey=True)
    for ax, network, spk, sync in zip(axes, NETWORKS, trains, synchronies, strict=True):
        figures.raster(ax, spk, size=2)
        ax.set_title(f"{network.name}\nsynchrony {sync:.2f}")
        ax.set(xlabel="time, ms", ylabel="")
    axes[0].set_ylabel("neuron")
    run.figure(fig, "bursts_arise")


# %% [markdown]
# ### Input strength and rate
#
# The curve of a neuron's rate against its current is called its *f-I curve*, frequency over
# current. It is to a spiking neuron what the graph of an activation function is to an
# ordinary one.
#
# Healthy or not is a question of the input, too. Below the rheobase a neuron without noise
# is silent; above, its rate climbs. Noise changes the start: it lifts neurons over the
# threshold that would be silent, so the curve becomes soft.
#
# For a network in training this is good news: where the curve is flat at 0, a small change
# of a weight changes nothing; where it is soft, it changes the rate a little. At its upper
# end it is flat again: from $1 / (1 - 0.9)$ = 10 rheobases on, the current of one step is a
# whole threshold, so there is a spike at every step, and more input brings no more. The
# curve is drawn on the right of the last figure, with the numbers of chapter 6.


# %%
def drive_harder(config: Config, run: Run) -> dict[str, Tensor]:
    """Measure the rate against the current. Returns: currents in rheobases [C], rates in Hz [C]."""
    cur = torch.logspace(-0.3, 1.3, 40)  # [C], 0.5 to 20
    drive = cur.repeat(20).expand(config.num_steps, -1)  # [T, 20 * C]
    noisy = drive + 2 * torch.randn_like(drive)
    both = torch.cat([drive, noisy], 1)
    spk, _ = simulate(both.to(run.device))
    rates = 1000 * spk.cpu().mean(0)
    plain, noise = rates.reshape(2, 20, -1).mean(1)  # [C], over 20 neurons each
    below = cur < 1  # the rheobase
    highest_plain = float(plain[below].max())
    highest_noise = float(noise[below].max())
    run.proof("rate below the rheobase, no noise", highest_plain, at_most=0)
    run.measure("rate just below the rheobase, noise", highest_noise, "Hz")
    full = float(cur[plain > 999][0])  # Hz; 1000 is a spike at every step
    run.say(
        f"Without noise the rate is 0 below the rheobase, and 1000 Hz from {full:.0f} rheobases on. Noise "
        f"lifts it to {highest_noise:.0f} Hz just below the rheobase."
    )
    return {"current": cur, "no noise": plain, "noise": noise}


# %% [markdown]
# ## 5. A rule that names populations
#
# Can the statistics do without eyes? Draw populations of six kinds, each with its own mean
# current, noise, size and length: healthy, silent, saturated, bursting, and two mixtures.
# The rule judges each neuron by its rate and its coupling, then counts the verdicts. Its
# limits were chosen on seeds 1000 and 1001, and are tried on others.
#
# The populations are made hard to tell apart by simple means. Half of the healthy ones
# burst, too, but each neuron at its own time, so bursts in a row prove nothing. All neurons
# of a population share a little noise, so some coupling is healthy. And rates overlap.
#
# The functions below draw the *currents*, never the spikes: mean, noise and bursts of input
# are put in, and the neurons of chapter 1 make spikes of them. So a silent population is
# not an empty tensor but neurons whose input is too weak, as it would be in a network.


# %%
@dataclass(frozen=True)
class Drive:
    """What drives a kind of neuron: ranges, from and to, in rheobases."""

    mean: tuple[float, float]
    noise: tuple[float, float]


NEURONS = {  # what a neuron can be
    "healthy": Drive(mean=(0.5, 1.2), noise=(1.5, 3.0)),
    "silent": Drive(mean=(0.0, 0.4), noise=(0.2, 0.9)),
    "saturated": Drive(mean=(7.0, 20.0), noise=(0.2, 4.0)),
    "bursting": Drive(mean=(0.0, 0.8), noise=(0.5, 2.0)),  # between two bursts
}
KINDS = (*NEURONS, "healthy + silent", "healthy + bursting")  # what a population can be

SILENT = 2.0  # Hz: a spike in half a second
SATURATED = 500.0  # Hz: a spike at every other step
COUPLED = 0.4  # a neuron above shares more than 0.4^2 = 16 % of its variance with the others
WHOLE = 0.85  # a population is of one kind if this share of its neurons is


def draw_current(kind: str, num_steps: int, neurons: int) -> Tensor:
    """Draw the current of a population, [T, N] in rheobases: mean, noise and, for some, bursts."""
    if " + " in kind:
        return draw_mixture(kind, num_steps, neurons)
    drive = NEURONS[kind]
    noise = draw_noise(num_steps, neurons)
    mean = random.uniform(*drive.mean) + 0.1 * torch.randn(neurons)
    cur = mean + random.uniform(*drive.noise) * noise
    if kind == "bursting" or (kind == "healthy" and random.random() < 0.5):  # the healthy burst out of step
        cur += draw_bursts(kind, num_steps, neurons)
    return cur


def draw_mixture(kind: str, num_steps: int, neurons: int) -> Tensor:
    """Draw the current [T, N] of two kinds side by side, 20 to 80 % of the neurons of the first."""
    first = round(random.uniform(0.2, 0.8) * neurons)
    one, other = kind.split(" + ")
    left = draw_current(one, num_steps, first)
    right = draw_current(other, num_steps, neurons - first)
    return torch.cat([left, right], 1)


def draw_noise(num_steps: int, neurons: int) -> Tensor:
    """Draw noise [T, N] that changes now and then, and of which a part is common to all neurons."""
    hold = random.randint(1, 60)  # steps for which the noise stays the same
    changes = num_steps // hold + 1
    noise = torch.randn(changes, 1 + neurons).repeat_interleave(hold, 0)
    noise = noise[:num_steps] / hold**0.4  # slow noise moves a membrane more, so it is made smaller
    shared = random.uniform(0, 0.1)  # part of the noise variance that all neurons have in common
    common = math.sqrt(shared) * noise[:, :1]
    own = math.sqrt(1 - shared) * noise[:, 1:]
    return common + own


def draw_bursts(kind: str, num_steps: int, neurons: int) -> Tensor:
    """Draw extra current [T, N] in bursts: nearly together for "bursting", out of step for "healthy"."""
    bursts = num_steps // 60 + 6  # enough, with 60 steps or more from one to the next
    pauses = torch.randint(60, 250, (bursts,))
    start = pauses.cumsum(0) - 250  # the first is before step 0
    latest = random.randint(1, 16) if kind == "bursting" else num_steps
    lag = torch.randint(latest, (neurons,))  # how late each neuron is
    step = (torch.arange(num_steps)[:, None] - lag) % num_steps  # [T, N]
    last = torch.searchsorted(start, step, right=True) - 1  # the burst that began last
    since = step - start[last]
    height = random.uniform(3, 8)
    length = random.randint(8, 25)
    return height * (since < length)


Populations = tuple[list[str], list[Tensor]]  # what each is, and its spikes [T, N]


def draw_populations(config: Config, run: Run) -> Populations:
    """Draw all kinds in turn, 20 to 100 neurons, half to all of num_steps. Returns: kinds, spikes [T, N]."""
    kinds = []
    for number in range(config.draws):
        kinds.append(KINDS[number % len(KINDS)])
    spikes: list[Tensor] = []
    for begin in range(0, len(kinds), 48):  # 48 at a time fit in memory
        part = kinds[begin : begin + 48]
        spikes += draw_spikes(part, config.num_steps, run.device)
    return kinds, spikes


def draw_spikes(kinds: list[str], num_steps: int, device: torch.device) -> list[Tensor]:
    """Simulate one population of each kind, all side by side. Returns: spikes [T, N] of each."""
    sizes = []
    currents = []
    for kind in kinds:
        neurons = random.randint(20, 100)
        sizes.append(neurons)
        currents.append(draw_current(kind, num_steps, neurons))
    cur = torch.cat(currents, 1).to(device)  # [T, all N]
    spk_rec, _ = simulate(cur)
    spikes = []
    for spk in spk_rec.cpu().split(sizes, 1):
        length = round(random.uniform(0.5, 1) * num_steps)
        spikes.append(spk[:length])
    return spikes


# %% [markdown]
# The rule has three steps. A neuron that goes with the others is *bursting*. But one that
# fires hardly ever is *silent*, and one that fires nearly always is *saturated*, whatever
# its coupling: a few spikes, or a few gaps, can go together by chance. Last, the verdicts
# are counted: the population is named after the most frequent, if nearly all agree, else
# after the two most frequent.
#
# Is the rule any good? A share of right names means little by itself. So a second rule is
# tried on the same populations, one that looks at the mean rate only, the number that one
# would print first. It is even allowed to look at the answers: it takes the kind of the
# other population with the nearest rate. (Who names six kinds by chance is right in one
# case of six, 17 %.)


# %%
def name_population(spk: Tensor) -> str:
    """Name a population by its spikes [T, N] alone: judge each neuron, then count the verdicts."""
    # exercise: a verdict for each neuron from its coupling and its rate
    rate = 1000 * spk.mean(0)  # [N], Hz
    coupled = coupling(counts(spk, WINDOW)) > COUPLED
    verdict = torch.where(coupled, 3, 0)  # [N], an index into NEURONS: bursting or healthy
    verdict[rate < SILENT] = 1
    verdict[rate > SATURATED] = 2
    # end
    share = verdict.bincount(minlength=4) / len(verdict)
    most = 1 if share.max() >= WHOLE else 2  # kinds to name
    found = sorted(share.topk(most).indices.tolist())
    names = list(NEURONS)
    return " + ".join(names[index] for index in found)


def name_populations(run: Run, kinds: list[str], spikes: list[Tensor]) -> list[str]:
    """Measure how often the rule is right, and how often the mean rate is. Returns: the rule's names."""
    names = []
    rates = []
    for spk in spikes:
        names.append(name_population(spk))
        rates.append(spk.mean())
    rate = torch.stack(rates)
    apart = (rate - rate[:, None]).abs()  # [draws, draws]
    apart.fill_diagonal_(math.inf)  # nobody is its own neighbour
    by_rate = [kinds[index] for index in apart.argmin(1)]
    right = share_right(names, kinds)
    alike = share_right(by_rate, kinds)
    goal = {"quick": 90, "cpu": 95, "gpu": 95}
    run.measure("populations named right", right, "%", at_least=goal, headline=True)
    run.measure("named right like the nearest in mean rate", alike, "%")
    run.say(
        f"The rule names {right:.1f} % right. Guessing by the mean rate alone (take the kind of the "
        f"population with the nearest rate) names {alike:.0f} % right."
    )
    return names


def share_right(names: list[str], kinds: list[str]) -> float:
    """Give the share of right names, in %."""
    right = 0
    for name, kind in zip(names, kinds, strict=True):
        right += name == kind
    return 100 * (right / len(kinds))


# %% [markdown]
# Two figures. The first has a column for each kind: its raster, its membranes and how its
# rates are spread. (The membrane's axis is linear up to 2 and logarithmic beyond, so that
# 0.5 and 10 can both be read. A dash stands where nothing can be computed: no spikes, or
# none that vary.) For *healthy* and *bursting*, look at the rates, then at the rasters:
# which of the two tells them apart? Then look at the membranes. Is the threshold of the
# silent ones far away, so that a little more input would not wake them? Do those of the
# saturated ones ever come down to it? The run gives both numbers.
#
# The second figure is a *confusion matrix*: what each population is, against what the rule
# called it. On the diagonal the rule is right; off it, look which kinds it mixes up.


# %%
def title_of_patterns(rates: dict[str, float]) -> str:
    """Say the mean rate of each kind."""
    told = [f"{kind} {rate:.0f}" for kind, rate in rates.items()]
    return "Mean rate in Hz: " + ", ".join(told)


def draw_patterns(run: Run, shown: dict[str, Recording]) -> None:
    """Draw raster, membranes and rates of one population of each kind, with its statistics on top."""
    rates = {}
    for kind, (spk, _) in shown.items():
        rates[kind] = 1000 * float(spk.mean())
    columns = len(shown)
    title = title_of_patterns(rates)
    fig, axes = figures.new(title, 3, columns, (14, 6.5), sharey="row")
    for column, kind in enumerate(shown):
        draw_pattern(axes[column::columns], kind, shown[kind])
    label_rows(axes[::columns], "neuron", "membrane", "neurons")
    figures.legend_outside(axes[2 * columns - 1])
    run.figure(fig, "patterns")
    _, silent = shown["silent"]  # membranes [T, N]
    _, saturated = shown["saturated"]
    highest = silent.max()
    lowest = saturated[50:].min()  # after its first climb
    run.say(
        f"The threshold is 1. No membrane of the silent population comes above {highest:.2f}, none of the "
        f"saturated one goes below {lowest:.2f} after its first 50 ms: a reset takes only 1 away."
    )


def draw_pattern(axes: Any, kind: str, recording: Recording) -> None:
    """Draw one population: its raster, its membranes, and how many neurons have which rate."""
    spk, mem = recording
    top, middle, bottom = axes
    figures.raster(top, spk[:600], size=2)
    top.set(title=f"{kind}\n{numbers_of(spk)}", ylabel="")
    mem = mem[:600]
    middle.plot(mem[:, ::4], color=figures.SKY, lw=0.4)  # each fourth neuron
    middle.plot(mem.mean(1), color="black", lw=1, label="mean")
    middle.axhline(1, color=figures.RED, lw=0.8, ls="--", label="threshold")
    middle.set(xlim=top.get_xlim(), xlabel="time, ms")
    middle.set(yscale="symlog", ylim=(-2, 15))
    rate = 1000 * spk.mean(0)
    bins = np.geomspace(1, 1000.1, 16)
    bottom.hist(rate.clamp(min=1), bins, rwidth=0.9)
    bottom.set(xlabel="rate, Hz (0 drawn at 1)", xscale="log")


def numbers_of(spk: Tensor) -> str:
    """Write CV, Fano factor and synchrony of spikes [T, N]; of neurons that fire."""
    cvs = []
    for train in spk.T:
        isi = intervals(train)
        cvs.append(cv(isi))
    mean_cv = torch.tensor(cvs).nanmean()
    mean_fano = fano(counts(spk, LONG_WINDOW)).nanmean()
    sync = synchrony(counts(spk, WINDOW))
    # z: a tiny negative number is written 0.00, not -0.00
    return f"CV {mean_cv:.1f}, Fano {mean_fano:.1f}, sync {sync:z.2f}".replace("nan", "-")


def title_of_confusion(wrong: int, total: int) -> str:
    """Say how often the rule errs."""
    return f"The rule errs on {wrong} of {total} populations"


def count_names(kinds: list[str], names: list[str]) -> npt.NDArray[np.int_]:
    """Count how often each kind (row) got each name (column); the last column is for other mixtures."""
    total = len(KINDS)
    table = np.zeros((total, total + 1), dtype=int)
    for kind, name in zip(kinds, names, strict=True):
        row = KINDS.index(kind)
        column = KINDS.index(name) if name in KINDS else total
        table[row, column] += 1
    return table


def draw_confusion(run: Run, kinds: list[str], names: list[str]) -> None:
    """Draw how often each kind of population got each name."""
    table = count_names(kinds, names)
    wrong = len(names) - table.trace()
    title = title_of_confusion(wrong, len(names))
    fig, (ax,) = figures.new(title, size=(7, 4.6))
    pale = 2 * table.max()  # so that the numbers stay readable
    ax.imshow(table, cmap="Blues", aspect="auto", vmax=pale)
    for (row, column), count in np.ndenumerate(table):
        ax.text(column, row, count, ha="center", va="center")
    ax.set(xlabel="named", ylabel="is")
    columns = [*KINDS, "other mixture"]
    ax.set_yticks(range(len(KINDS)), KINDS)
    ax.set_xticks(range(len(columns)), columns, rotation=30, ha="right")
    ax.grid(visible=False)
    run.figure(fig, "confusion")


# %% [markdown]
# ## 6. A catch: windows that are too short
#
# You measure the Fano factor of a neuron in windows of 1 step, get 0.96, and conclude:
# "chance, like a Poisson train". Your neuron is a clock. What went wrong?
#
# In a window of one step there are 0 or 1 spikes, with a share $p$ of ones. Their variance
# is $p(1-p)$, so the Fano factor is $1 - p$, near 1, *whatever the train is*. A window must
# be longer than several intervals. CV, which looks at the intervals themselves, tells at
# once.
#
# The run proves it for three trains that could not differ more: a clock, a Poisson train
# and a burster. (Measured variances divide by one less than the number of windows; that is
# taken out before the two are compared.) In the figure, follow the three lines from short
# windows to long ones: they start at nearly the same place. At which window do they part?
# (That the burster's falls again is no error: its *bursts* come rather evenly, and a window
# of many bursts sees little else.)


# %%
def catch_short_windows(run: Run) -> dict[str, Tensor]:
    """Catch: too short windows make each train look like Poisson; CV tells. Returns: trains [T]."""
    steps = 100 * LONG_WINDOW
    steady = 1.1 * torch.ones(steps, 1)
    cur = torch.cat([steady, draw_current("bursting", steps, 1)], 1)
    spk, _ = simulate(cur)
    poisson = random_trains(steps, 1, 0.04)[:, 0]
    clock, burster = spk.unbind(1)
    trains = {"clock": clock, "Poisson": poisson, "burster": burster}
    rows: list[list[Any]] = []
    error = 0.0
    for name, train in trains.items():
        short = fano_of(train, 1)
        long = fano_of(train, LONG_WINDOW)
        spread = cv(intervals(train))
        rows.append([name, spread, short, long])
        expected = 1 - float(train.mean())
        biased = short * (steps - 1) / steps  # var divides by steps - 1, the formula by steps
        error = max(error, abs(biased - expected))
    _, clock_cv, short, long = rows[0]
    run.proof("Fano in windows of 1 step = 1 - p, any train", error)
    run.measure("catch: Fano of a clock, windows of 1 ms", short)
    run.table("Catch: too short windows", ["train", "CV", "Fano, 1 ms", "Fano, 100 ms"], rows)
    run.say(
        f"In windows of 1 ms the clock has a Fano factor of {short:.2f}, in windows of {LONG_WINDOW} ms "
        f"{long:.2f}; its CV is {clock_cv:.2f}."
    )
    return trains


def title_of_numbers(found: dict[str, tuple[float, float, float]]) -> str:
    """Say CV and Fano factor of each train, as (CV, Fano in short windows, Fano in long ones)."""
    told = []
    for name, (spread, short, long) in found.items():
        told.append(f"{name} CV {spread:.2f}, Fano {short:.2f}, {long:.2f}")
    return f"Fano factor in windows of 1 and {LONG_WINDOW} ms: " + "; ".join(told)


BINS = range(0, 205, 5)  # of intervals, ms
WINDOWS = (1, 2, 3, 5, 7, 10, 15, 22, 32, 46, 70, 100, 150, 220, 320)  # ms


Named = dict[str, Tensor]  # spike trains or curves, by name


def draw_numbers(run: Run, trains: Named, curves: Named) -> None:
    """Draw the intervals and the Fano factor of three trains, and the rate against the current."""
    found = {}
    fig, (left, middle, right) = figures.new("", columns=3, size=(12, 3.8))
    for name, train in trains.items():
        isi = intervals(train)
        spread = cv(isi)
        found[name] = spread, fano_of(train, 1), fano_of(train, LONG_WINDOW)
        label = f"{name}: CV {spread:.2f}"
        left.hist(isi, BINS, histtype="step", lw=1.4, label=label)
        factors = [fano_of(train, window) for window in WINDOWS]
        middle.plot(WINDOWS, factors, ".-", ms=4)
    for name in ("no noise", "noise"):
        right.plot(curves["current"], curves[name], ".-", ms=4, label=name)
    left.set(xlabel="inter-spike interval, ms", ylabel="intervals", yscale="log")
    middle.set(xlabel="window, ms", ylabel="Fano factor", xscale="log")
    right.set(xlabel="mean current, rheobases", ylabel="rate, Hz", xscale="log")
    left.legend(loc="upper right")
    right.legend(loc="upper left")
    figures.retitle(fig, title_of_numbers(found))
    run.figure(fig, "numbers")


# %% [markdown]
# ## Going deeper: a raster that runs
#
# On a monitor, a raster runs like a film. `raster.gif` shows three populations, one above
# the other, 200 ms at a time. The uppermost is a mixture: which of its rows stay empty? A
# film has no future: at each moment you see what a monitor on a running network would show,
# and no more. Which of the three could you name after the first 200 ms?


# %%
def title_of_film(sync: dict[str, float]) -> str:
    """Say how much the neurons of each population fire together."""
    told = [f"{kind} {value:z.2f}" for kind, value in sync.items()]
    return "Synchrony (in step: 1): " + ", ".join(told)


def animate(run: Run, shown: dict[str, Recording]) -> None:
    """Write a raster that runs like a monitor: three populations, one above the other, 200 ms at a time."""
    from matplotlib.animation import PillowWriter

    kinds = ("healthy", "bursting", "healthy + silent")
    trains = []
    sync = {}
    for kind in kinds:
        spk, _ = shown[kind]
        trains.append(spk)
        sync[kind] = synchrony(counts(spk, WINDOW))
    title = title_of_film(sync)
    fig, (ax,) = figures.new(title, size=(6, 3.6))
    figures.raster(ax, torch.cat(trains, 1), size=8)
    ax.set(xlabel="time, ms", ylabel="")
    ax.set_yticks((20, 60, 100), kinds)  # in the middle of 40 neurons each
    run.stamp(fig)
    writer = PillowWriter(fps=10)
    film = safe_write.aside(run.file("raster.gif", title))
    with film as file, writer.saving(fig, file, dpi=75):
        for start in range(0, 600, 20):
            ax.set_xlim(start, start + 200)
            writer.grab_frame()
    figures.plt.close(fig)


# %% [markdown]
# ## The lesson as a whole
#
# `main` first measures, then draws; so its order is not quite that of the chapters, whose
# numbers stand beside.


# %%
def main(config: Config, run: Run) -> None:
    watch_one_neuron(config, run)  # chapter 1
    prove_statistics(run)  # chapter 3
    trains = catch_short_windows(run)  # chapter 6
    curves = drive_harder(config, run)  # chapter 4
    kinds, spikes = draw_populations(config, run)  # chapter 5
    names = name_populations(run, kinds, spikes)
    shown = {}
    for kind in KINDS:
        cur = draw_current(kind, 1000, 40)
        shown[kind] = simulate(cur)
    draw_codes(run)  # chapter 2
    bursts_arise(config, run)  # chapter 4
    draw_patterns(run, shown)  # chapter 5
    draw_numbers(run, trains, curves)  # chapters 4 and 6
    draw_confusion(run, kinds, names)  # chapter 5
    if run.is_first_seed:  # one film is enough for several seeds
        animate(run, shown)


if __name__ == "__main__":
    lesson.start(main, Config, SCALES)
