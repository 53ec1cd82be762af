"""Lesson 06: synaptic currents.

Question: What changes when an input spike no longer jolts the membrane, but opens a current that fades?
Reading:  Neuronal Dynamics ch. 3; snnTorch tutorial 4.
Run:      python lessons/06_synaptic_currents.py
Expect:   own neurons = snnTorch's; each answer to one spike (its shape, its peak, its gain) = its formula;
          what 20 inputs scatter in time shrinks to 1 / sqrt(20) + 3 %; a step of Synaptic takes 1.2 times as
          long as one of Leaky, of Alpha 2.1. Three seeds in half a minute on two CPU cores; no data needed.
"""

# %% [markdown]
# The neuron of lesson 01 takes an input spike as a jolt: in one step the membrane jumps,
# then it decays. A real synapse is slower. In this lesson you
#
# 1. watch one input spike arrive, in three neurons of snnTorch,
# 2. learn where the synaptic current comes from,
# 3. write the neurons yourself, and their answers as formulas,
# 4. see them as filters in time: what `alpha` and `beta` do,
# 5. measure what slowness costs and gains: precise spike times, computing time; and choose,
# 6. catch two swapped numbers that no look at a single spike can reveal.

# %%
import math
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

sys.path.insert(0, str(Path(globals().get("__file__", "any.py")).resolve().parents[1]))  # where snn_course is

from snn_course.runs import figures, lesson
from snn_course import UsageError

import snntorch as snn
import torch
from torch import Tensor


@dataclass(frozen=True)
class Config(lesson.Config):
    alpha: Annotated[float, lesson.Range(0.01, 0.999)] = 0.9
    """Share of the synaptic current that stays after one step; above beta, as snn.Alpha asks."""

    beta: Annotated[float, lesson.Range(0.01, 0.999)] = 0.8
    """Share of the membrane potential that stays after one step."""

    num_steps: Annotated[int, lesson.Range(100, 100_000)] = 1000
    """Length of the simulations with random input, in steps."""

    volleys: Annotated[int, lesson.Range(100, 1_000_000)] = 10_000
    """Volleys of input spikes whose jitter is measured."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.alpha <= self.beta:
            raise UsageError(f"--alpha must be more than --beta, not {self.alpha} beside {self.beta}.")


SCALES: lesson.Scales = {
    "quick": {"num_steps": 300, "volleys": 2000},
    "cpu": {"seeds": 3},
    "gpu": {"seeds": 3, "volleys": 100_000},
}

# %% [markdown]
# ## 1. One input spike, three neurons
#
# What the membrane does after one input spike is called the *postsynaptic potential* (PSP).
#
# `snn.Leaky` has one state, the membrane. `snn.Synaptic` has two: an input spike is added
# to a *synaptic current* `syn`, which fades with the factor `alpha`; the membrane adds up
# this current, and leaks with `beta`. `snn.Alpha` makes a PSP of that shape, too, but as
# the sum of two currents, one that pushes up (`syn_exc`, excitatory) and one that pulls
# down (`syn_inh`, inhibitory).
#
# In the figure, look for the step at which each membrane is highest, and what the currents
# do at that step.
#
# Each call takes one step. It returns the spike first, then all states, and wants these
# states back on the next call: one for Leaky, two for Synaptic, three for Alpha. The reset
# is switched off (`reset_mechanism="none"`), so that a PSP is seen to its end.


# %%
NEURONS = ("Leaky", "Synaptic", "Alpha")  # with 1, 2 and 3 states


def one_input_spike(config: Config, run: lesson.Run) -> None:
    """Send one spike to snn.Leaky, snn.Synaptic and snn.Alpha, and draw current and membrane."""
    spikes = torch.zeros(40)
    spikes[5] = 1
    # exercise: run the three neurons over the spikes, and record the states that are drawn below
    leaky = snn.Leaky(beta=config.beta, reset_mechanism="none")
    synaptic = snn.Synaptic(alpha=config.alpha, beta=config.beta, reset_mechanism="none")
    alpha = snn.Alpha(alpha=config.alpha, beta=config.beta, reset_mechanism="none")
    leaky_mem = leaky.init_leaky()
    syn, mem = synaptic.init_synaptic()
    exc, inh, alpha_mem = alpha.init_alpha()
    record = []
    for spike in spikes:
        _, leaky_mem = leaky(spike, leaky_mem)
        _, syn, mem = synaptic(spike, syn, mem)
        _, exc, inh, alpha_mem = alpha(spike, exc, inh, alpha_mem)
        record.append(torch.stack([leaky_mem, syn, mem, exc, inh, alpha_mem]))
    # end
    draw_one_spike(config, run, torch.stack(record))  # [T, 6]


def draw_one_spike(config: Config, run: lesson.Run, record: Tensor) -> None:
    """Draw synaptic currents and membranes [T, 6] of the three neurons."""
    leaky_mem, syn, mem, exc, inh, alpha_mem = record.T
    peak = int(mem.argmax()) - 5  # the input comes at step 5
    fig, axes = figures.new(
        f"One input spike: the membrane of snn.Synaptic peaks {peak} steps later",
        columns=3,
        size=(10.5, 3.4),
        sharex=True,
    )
    left, middle, right = axes
    middle.plot(syn, "--", color=figures.ORANGE, label="synaptic current")
    right.plot(exc, "--", color=figures.ORANGE, label="excitatory")
    right.plot(inh, "--", color=figures.RED, label="inhibitory")
    for ax, membrane in zip(axes, (leaky_mem, mem, alpha_mem), strict=True):
        ax.plot(membrane, color=figures.BLUE, label="membrane")
    for ax, name in zip(axes, NEURONS, strict=True):
        ax.set(title=f"snn.{name}", xlabel="time, steps")
        ax.legend()
    left.set_ylabel("value, in units of the input")
    run.figure(fig, "one_spike")
    run.say(
        "snn.Leaky is highest at once and then only falls. The membrane of snn.Synaptic is highest "
        f"{peak} steps later: the current is still there, and goes on adding up."
    )


# %% [markdown]
# ## 2. Where the current comes from
#
# When a spike arrives at a synapse, molecules (a *neurotransmitter*) cross the gap and open
# channels in the membrane of the receiving cell. Through open channels flows a current
#
# $$I(t) = g(t)\,(E - U(t)) .$$
#
# $g$ is the *conductance*, how many channels are open; $E$ is the voltage at which nothing
# would flow (about 0 mV for an excitatory synapse, -75 mV for an inhibitory one). The
# channels close one after the other, so $g$ fades exponentially, with a time constant from
# a few milliseconds (AMPA receptors) to a tenth of a second (NMDA). That is the second time
# constant. A neuron with such a synapse is called *second-order*: two states in a row, the
# current and the membrane that it feeds. Only with two can a PSP rise and then fall: in
# `snn.Leaky` it falls from the first step on, whatever `beta` is.
#
# Channels do not open all at once, either: $g$ also takes time to rise, less than to fall.
# `snn.Synaptic` takes the rise for a jump. A curve that rises and then falls is made as the
# difference of two exponentials; `snn.Alpha` makes its PSP like that (chapter 3).
#
# Nearly all spiking networks leave out the factor $(E - U)$ and let the *current* itself
# fade. This is right while $U$ stays far from $E$: an AMPA synapse drives with 65 to 50 mV
# between rest (-65 mV) and threshold (-50 mV). The run measures how much that matters: one
# synapse with conductance, beside one with current, from rest to threshold.
#
# For inhibition it matters more. With $E = -75$ mV the pull is 10 mV at rest and 25 mV at
# the threshold: it grows as it is needed, which no current does. And where $E$ is at rest,
# an open synapse does nothing by itself. It only takes from what others do, like one more
# leak (*shunting inhibition*).
#
# The two differ in a single term of the code below: the drive $(E - U)$ is taken with the
# membrane as it is now, or with the membrane at rest. A step is a step of `snn.Synaptic`,
# in mV: a share `beta` of what the membrane is above rest is kept, and the current is
# added.


# %%
REST = -65.0  # mV, where a membrane without input stays
FIRE = -50.0  # mV, the threshold
EXCITATORY = 0.0  # mV, E of an excitatory synapse


def peak_of_synapse(conductance: float, config: Config, linear: bool) -> float:
    """Open a synapse once, and give the highest membrane potential that follows, in mV above rest.

    With ``linear``, the current ignores the membrane: its drive is that at rest, whatever U is.
    """
    volts = peak = REST
    opened = conductance  # g: the share of the drive that is added in a step
    for _ in range(60):
        drive = EXCITATORY - (REST if linear else volts)  # E - U
        kept = config.beta * (volts - REST)
        volts = REST + kept + opened * drive
        opened = config.alpha * opened  # channels close
        peak = max(peak, volts)
    return peak - REST


def conductance_or_current(config: Config, run: lesson.Run) -> None:
    """Open a synapse wider and wider: where do conductance and current part?"""
    rows: list[list[Any]] = []
    for conductance in (0.001, 0.01, 0.03, 0.1):
        peak = peak_of_synapse(conductance, config, linear=False)
        linear_peak = peak_of_synapse(conductance, config, linear=True)
        rows.append([f"{conductance:g}", peak, linear_peak, linear_peak / peak])
    columns = ["conductance", "peak, mV", "peak with a current, mV", "ratio"]
    run.table("One synapse: conductance against current, above rest", columns, rows)
    _, small, _, small_ratio = rows[0]
    _, large, _, large_ratio = rows[-1]
    run.measure("current / conductance, strongest synapse", large_ratio)
    run.say(
        f"A PSP of {small:.1f} mV comes out {small_ratio:.3f} times as large with a current, one of "
        f"{large:.0f} mV {large_ratio:.2f} times (from rest to threshold are {FIRE - REST:.0f} mV)."
    )


# %% [markdown]
# ## 3. The neurons written out
#
# `alpha` and `beta` are shares that stay after a step: $\alpha = e^{-1/\tau_{syn}}$ and
# $\beta = e^{-1/\tau_{mem}}$, with both time constants in steps. `snn.Synaptic` is
#
# $$I[t] = \alpha\,I[t-1] + X[t], \qquad U[t] = \beta\,U[t-1] + I[t] - S[t-1] .$$
#
# $X$ is the input, spikes times weights. $S[t-1]$ is 1 if the neuron fired on the step
# before, and 1 is the threshold that the reset takes away.
#
# Look at the reset: it takes from the membrane alone. The current is left as it is, and
# pushes on. So one strong input can make several spikes.


# %%
RESETS = ("none", "subtract", "zero")
States = tuple[Tensor, ...]


def synaptic_step(cur: Tensor, syn: Tensor, mem: Tensor, config: Config, reset: str) -> States:
    """Advance ``snn.Synaptic``, threshold 1, by one step; all tensors are [N]. Returns: spk, syn, mem."""
    fired = (mem > 1).to(mem.dtype)  # on the last step, so: reset now
    # exercise: the two recurrences; an input counts on the step it comes
    syn = config.alpha * syn + cur
    mem = config.beta * mem + syn
    # end
    if reset == "zero":
        mem = mem * (1 - fired)  # the current of this step goes, too; snn.Leaky keeps its input
    elif reset == "subtract":
        mem = mem - fired
    return (mem > 1).to(mem.dtype), syn, mem  # no reset touches syn


# %% [markdown]
# `snn.Alpha` gets its PSP from two currents that start alike and fade at different speeds:
#
# $$A[t] = \alpha\,A[t-1] + X[t], \qquad B[t] = \beta\,B[t-1] - X[t], \qquad
# U[t] = c\,(A[t] + B[t]) .$$
#
# $A$ is `exc`, $B$ is `inh`. On the step of an input they cancel, so $U$ starts at 0. Then
# $B$ fades sooner, and what is left of $A$ shows. The factor $c = \tau_\alpha /
# (\tau_\alpha - \tau_\beta)$ scales the difference, with the time constant $\tau = -1 / \ln$
# of each decay. The membrane is a sum of two states here, and no state of its own; so a
# reset has to change the currents. How it does is snnTorch's choice, followed line by line
# below.


# %%
def alpha_step(
    cur: Tensor,
    exc: Tensor,
    inh: Tensor,
    mem: Tensor,
    config: Config,
    reset: str,
) -> States:
    """Advance ``snn.Alpha``, threshold 1, by one step; all tensors are [N]. Returns: spk, exc, inh, mem."""
    fired = (mem > 1).to(mem.dtype)
    inh_before = inh
    exc = config.alpha * exc + cur  # up
    inh = config.beta * inh - cur  # down: they cancel at first, then inh fades sooner
    mem = alpha_factor(config.alpha, config.beta) * (exc + inh)  # a sum of the two, not a state of its own
    if reset == "zero":
        exc = exc * (1 - fired)  # with this step's input
        inh = inh * (1 - fired)
        mem = mem * (1 - fired)
    elif reset == "subtract":  # not the threshold from mem, as in the other neurons
        exc = exc - fired
        inh = inh * (1 - fired)
        mem = mem + fired * inh_before
    return (mem > 1).to(mem.dtype), exc, inh, mem


def alpha_factor(alpha: float, beta: float) -> float:
    """Give the factor of ``snn.Alpha``: tau_alpha / (tau_alpha - tau_beta), with tau = -1 / log(decay)."""
    log_alpha = math.log(alpha)
    log_beta = math.log(beta)
    return log_beta / (log_beta - log_alpha)


# %% [markdown]
# Now the same neurons from snnTorch. Two habits are worth copying. The decays are given in
# double precision (float64): whether a membrane of 0.9999999 or of 1.0000001 fires is then
# the model's doing, not that of rounding. And each simulation starts from rest, since a
# neuron of snnTorch keeps its states from one call to the next.
#
# Then both run over the same noisy currents, once for each reset. Spikes and membranes must
# agree at every step: one spike more or less is an error of 1, and no rounding is that
# large.


# %%
def build(name: str, alpha: float, beta: float, **options: Any) -> Any:
    """Make a neuron of snnTorch in float64; options are its own, such as ``threshold``."""
    decays = torch.tensor([alpha, beta], dtype=torch.float64)
    if name == "Leaky":
        return snn.Leaky(decays[1], **options)
    return getattr(snn, name)(*decays, **options)


def without_reset(name: str, alpha: float, beta: float, **options: Any) -> Any:
    """Make a neuron whose membrane goes on as if it had never fired: a linear filter."""
    return build(name, alpha, beta, reset_mechanism="none", **options)


def time_axis(num_steps: int) -> Tensor:
    """Number the steps: 0, 1, ... [T], in float64."""
    return torch.arange(num_steps, dtype=torch.float64)


def one_spike(num_steps: int) -> Tensor:
    """Give the current of a spike at step 0 to one neuron, [T, 1]."""
    cur = torch.zeros(num_steps, 1, dtype=torch.float64)
    cur[0] = 1
    return cur


def simulate(neuron: Any, cur: Tensor) -> tuple[Tensor, Tensor]:
    """Run a neuron of snnTorch from rest over currents [T, N]. Returns: spk_rec and mem_rec, [T, N]."""
    neuron.to(cur.device).reset_mem()
    spk_rec = []
    mem_rec = []
    for cur_t in cur.unbind(0):  # time is axis 0
        spk, *_, mem = neuron(cur_t)
        spk_rec.append(spk)
        mem_rec.append(mem)
    return torch.stack(spk_rec), torch.stack(mem_rec)  # [T, N]


def simulate_own(name: str, cur: Tensor, config: Config, reset: str) -> tuple[Tensor, Tensor]:
    """Run the steps above from rest over currents [T, N]. Returns: spk_rec and mem_rec, [T, N]."""
    rest = torch.zeros_like(cur[0])  # [N]
    syn = exc = inh = mem = rest
    spk_rec = []
    mem_rec = []
    for cur_t in cur:
        if name == "Synaptic":
            spk, syn, mem = synaptic_step(cur_t, syn, mem, config, reset)
        else:
            spk, exc, inh, mem = alpha_step(cur_t, exc, inh, mem, config, reset)
        spk_rec.append(spk)
        mem_rec.append(mem)
    return torch.stack(spk_rec), torch.stack(mem_rec)


def equal_to_snntorch(config: Config, run: lesson.Run) -> None:
    """Compare the two steps above with snnTorch on noisy currents, for each reset."""
    noise = torch.randn(config.num_steps, 100, dtype=torch.float64, device=run.device)
    cur = 0.1 + 0.3 * noise  # [T, N]
    for name in ("Synaptic", "Alpha"):
        error = 0.0
        for reset in RESETS:
            neuron = build(name, config.alpha, config.beta, reset_mechanism=reset)
            spk_rec, mem_rec = simulate(neuron, cur)
            own_spk, own_mem = simulate_own(name, cur, config, reset)
            wrong_spikes = (own_spk - spk_rec).abs()
            apart = wrong_spikes + (own_mem - mem_rec).abs()
            error = max(error, apart.max().item())
        run.proof(f"own step = snn.{name}, every reset", error)


# %% [markdown]
# ### The answer to one spike, as a formula
#
# Without its reset, a neuron is a *linear filter*: inputs add up, and its *impulse
# response*, the PSP, says all about it. For `snn.Synaptic`, the current after $k$ steps is
# $\alpha^k$, and each share decays with $\beta$ from then on:
#
# $$h[n] = \sum_{k=0}^{n} \alpha^k \beta^{n-k} = \frac{\alpha^{n+1} - \beta^{n+1}}{\alpha - \beta} .$$
#
# $\alpha$ and $\beta$ enter in the same way: swap them, and nothing changes. Remember that
# for the catch. If they are equal, the quotient is 0 / 0, but the sum has $n + 1$ equal
# terms: $h[n] = (n + 1)\,\alpha^n$. In continuous time that is $t\,e^{-t/\tau}$, the *alpha
# function*. `snn.Alpha` has its name from it, not from the decay `alpha`.
#
# Where is the PSP highest? At the first step $n$ after which it no longer rises, $h[n+1]
# \le h[n]$. Put in the formula, and with `alpha` above `beta` this is
#
# $$\left(\frac{\alpha}{\beta}\right)^{n+1} \ge \frac{1 - \beta}{1 - \alpha} .$$
#
# Take logarithms on both sides and solve for $n$; the result is rounded up, to a whole
# step.


# %%
def response(name: str, step: Tensor, alpha: float, beta: float) -> Tensor:
    """Give the membrane at each step after an input of 1 at step 0, in closed form."""
    if name == "Leaky":
        return beta**step
    if name == "Synaptic":
        return (alpha ** (step + 1) - beta ** (step + 1)) / (alpha - beta)
    return alpha_factor(alpha, beta) * (alpha**step - beta**step)  # the textbook's PSP, sampled


def time_to_peak(name: str, alpha: float, beta: float) -> int:
    """Give the step of the highest membrane after an input at step 0: the first n with h[n + 1] <= h[n]."""
    if name == "Leaky":
        return 0
    slower = (1 - beta) / (1 - alpha)
    rise = math.ceil(math.log(slower) / math.log(alpha / beta))
    return rise - 1 if name == "Synaptic" else rise  # Alpha starts at 0, so it peaks a step later


# %% [markdown]
# ## 4. A filter in time
#
# A slow synapse smooths. How much? Send a sine into a neuron without reset: a sine comes
# out, smaller. The ratio of the two is the *gain* at that frequency. It is the size of the
# Fourier transform of the PSP,
#
# $$|H(\omega)| = \frac{1}{|1 - \beta e^{-i\omega}|}$$
#
# for Leaky, and for Synaptic
#
# $$|H(\omega)| = \frac{1}{|1 - \alpha e^{-i\omega}|} \cdot \frac{1}{|1 - \beta e^{-i\omega}|} .$$
#
# Two factors: two filters in a row. The run feeds real sines through snnTorch's neurons and
# compares.
#
# How to read the figure: on the left the PSPs, each divided by its peak, so that their
# shapes compare. On the right the gain, on two logarithmic axes: flat means "passes", and
# where a line bends down, faster sines begin to be lost. A second filter bends it down
# again.
#
# To measure a gain, the output is multiplied with $e^{i\omega t}$ and averaged: all that
# does not turn with $\omega$ averages out, and the size of the sine is left. Two things
# must be right for that. The average is taken over whole cycles (1000 steps), and it starts
# only when nothing is left of the beginning, when the sine was switched on.


# %%
def gain(name: str, omega: Tensor, alpha: float, beta: float) -> Tensor:
    """Give |H| at angular frequencies in radians per step: the Fourier transform of ``response``."""
    slow = 1 / (1 - alpha * torch.exp(-1j * omega))
    fast = 1 / (1 - beta * torch.exp(-1j * omega))
    if name == "Leaky":
        return fast.abs()
    if name == "Synaptic":
        return (slow * fast).abs()
    return (alpha_factor(alpha, beta) * (slow - fast)).abs()


CYCLES = (1, 2, 5, 10, 20, 50, 100, 200, 350, 500)  # in 1000 steps
OMEGA = 2 * torch.pi * torch.tensor(CYCLES).double() / 1000  # [F], radians per step


@dataclass(frozen=True)
class Measured:
    """What a neuron answers: to one spike, and to sines."""

    psp: Tensor  # [T]
    gain: Tensor  # [F], at each frequency of OMEGA


def measured_gain(neuron: Any, longest: int) -> Tensor:
    """Feed real sines into a neuron, and compare sizes once ``longest`` steps are over. Returns: [F]."""
    step = time_axis(longest + 1000)[:, None]  # [T, 1]
    wave = (OMEGA * step).cos()  # [T, F]
    _, mem = simulate(neuron, wave)
    settled = slice(longest, None)  # whole cycles of each sine
    turned = mem[settled] * torch.exp(1j * OMEGA * step[settled])  # one term of a Fourier transform
    power = wave[settled].square().mean(0)
    return turned.mean(0).abs() / power


def prove_filters(config: Config, run: lesson.Run) -> dict[str, Measured]:
    """Compare PSP and gain of each neuron with their closed forms. Returns: what was measured, by neuron."""
    alpha = config.alpha
    beta = config.beta
    longest = math.ceil(-20 / math.log(alpha))  # steps until nothing is left of an input
    num_steps = longest + 1000
    found: dict[str, Measured] = {}
    for name in NEURONS:
        neuron = without_reset(name, alpha, beta)
        _, mem = simulate(neuron, one_spike(num_steps))
        psp = mem[:, 0]  # [T]
        error = psp - response(name, time_axis(num_steps), alpha, beta)
        worst = error.abs().max().item()
        run.proof(f"PSP of {name} = closed form", worst, at_most=1e-5)
        share = measured_gain(neuron, longest)
        error = share / gain(name, OMEGA, alpha, beta) - 1
        worst = error.abs().max().item()
        run.proof(f"gain of {name} = |H|", worst, at_most=1e-5)
        found[name] = Measured(psp, share)
    prove_alpha_is_synaptic(run, found)
    return found


def prove_alpha_is_synaptic(run: lesson.Run, found: dict[str, Measured]) -> None:
    """Compare two PSPs: that of Alpha is that of Synaptic, a step late and scaled."""
    psp = found["Alpha"].psp
    scale = psp[1]
    expected = scale * found["Synaptic"].psp[:-1]
    apart = psp[1:] - expected
    run.proof("Alpha = Synaptic, a step late, scaled", apart.abs().max().item())


def title_of_filters(peaks: dict[str, int], gains: dict[str, float]) -> str:
    """Say when each PSP peaks, and what is left of a fast sine."""
    rise = ", ".join(f"{name} {step}" for name, step in peaks.items())
    left = ", ".join(f"{name} {share:.2g}" for name, share in gains.items())
    return f"PSP peaks at step: {rise};\nleft of a sine of half a cycle per step: {left}"


def filters(config: Config, run: lesson.Run) -> None:
    """Prove PSP and gain, and draw them."""
    found = prove_filters(config, run)
    peaks: dict[str, int] = {}
    gains: dict[str, float] = {}
    for name, measured in found.items():
        peaks[name] = int(measured.psp.argmax())
        slowest, fastest = measured.gain[[0, -1]].tolist()
        gains[name] = fastest / slowest
    title = title_of_filters(peaks, gains)
    fig, (left, right) = figures.new(title, columns=2, size=(10.5, 3.8))
    for name, measured in found.items():
        psp = measured.psp
        left.plot(psp[:50] / psp.max(), ".-", ms=4, lw=0.8)
        draw_gain(right, name, measured.gain, config)
    left.set(xlabel="steps after the input", ylabel="membrane / its peak")
    right.set(xlabel="frequency, cycles per step", ylabel="gain / gain of a constant", title="dots: measured")
    figures.legend_outside(right)
    run.figure(fig, "filters")
    run.say(
        f"Compared with the slowest sine, {gains['Leaky']:.2g} of the fastest is left in snn.Leaky and "
        f"{gains['Synaptic']:.2g} in snn.Synaptic."
    )


def draw_gain(ax: "figures.Axes", name: str, measured: Tensor, config: Config) -> None:
    """Draw the gain of one neuron: the closed form as a line, what was measured [F] as dots."""
    cycles = torch.logspace(-3, math.log10(0.5), 200, dtype=torch.float64)  # per step
    line = gain(name, 2 * torch.pi * cycles, config.alpha, config.beta)
    style = "--" if name == "Alpha" else "-"  # it lies on Synaptic
    constant = line[0]  # the lowest frequency is as good as none
    (curve,) = ax.loglog(cycles, line / constant, style, label=f"snn.{name}")
    colour = curve.get_color()
    frequency = OMEGA / (2 * torch.pi)
    ax.plot(frequency, measured / constant, "o", ms=4, color=colour)


# %% [markdown]
# How do `alpha` and `beta` act together? Late after an input only the slower of the two is
# left, so the *larger* sets how long the PSP lasts. The smaller moves the peak most: the
# larger it is, the later the peak. Area and corner frequency (where half of the power is
# gone) depend on both. The table takes pairs with `alpha` above `beta`; swapped, it would be
# the same.
#
# Read two rows that share their `alpha`: as `beta` grows, the peak comes later, the area
# grows and the corner moves to lower frequencies. A long memory and a wide band cannot be
# had together.
#
# Mind the area, $1 / ((1 - \alpha)(1 - \beta))$: it is how much one input spike adds in all.
# With 0.9 and 0.8 it is 50, where `snn.Leaky` with 0.8 has $1 / (1 - 0.8) = 5$. Who puts
# `snn.Synaptic` in the place of `snn.Leaky` and keeps the weights drives it ten times as
# hard, so make the weights smaller by the factor $1 - \alpha$.


# %%
DECAYS = (0.5, 0.8, 0.9, 0.95)


def numbers_of_psp(alpha: float, beta: float) -> list[int | str]:
    """Give peak, height and area of the PSP of ``snn.Synaptic``, and its corner frequency."""
    psp = response("Synaptic", time_axis(600)[:, None], alpha, beta)
    omega = torch.linspace(0, torch.pi, 10_000, dtype=torch.float64)
    share = gain("Synaptic", omega, alpha, beta)
    half_power = share[0] / math.sqrt(2)  # power is the square of the gain
    first = omega[share < half_power][0].item()
    corner = first / (2 * math.pi)
    return [int(psp.argmax()), f"{psp.max():.2f}", f"{psp.sum():.1f}", f"{corner:.4f}"]


def sweep_alpha_and_beta(run: lesson.Run) -> None:
    """Compare the step of the peak with its formula, and show what alpha and beta do to a PSP."""
    rows = []
    wrong = 0
    for alpha in DECAYS:
        for beta in DECAYS:
            if alpha <= beta:
                continue
            for name in NEURONS:
                _, mem = simulate(without_reset(name, alpha, beta), one_spike(600))
                peak = int(mem.argmax())
                wrong += peak != time_to_peak(name, alpha, beta)
            rows.append([f"{alpha}, {beta}", *numbers_of_psp(alpha, beta)])
    run.proof("time to peak = formula, wrong steps", wrong, at_most=0)
    columns = ["alpha, beta", "peak, step", "height", "area", "corner, cycles/step"]
    run.table("snn.Synaptic: response to an input of 1", columns, rows)


# %% [markdown]
# ## 5. When is a slow synapse worth it?
#
# **Spike times.** Twenty neurons send a spike at about the same time, each a little early
# or late: a *volley*. That spread is *jitter*, the standard deviation of a spike time. The
# threshold is half of what twenty spikes at once would reach. A neuron that jumps with each
# input (`snn.Leaky`) fires with about the eleventh of them, whenever that comes. One that
# adds them up slowly averages over all twenty: its jitter goes towards $1/\sqrt{20}$ of
# theirs. But a slow membrane crosses its threshold at a low slope, so noise moves the
# crossing: by (noise of the membrane) / (slope). So slowness helps against the one kind of
# jitter, and adds the other.
#
# The two are measured apart: volleys that come spread in time, without noise, and as many
# that come all at once, into a noisy current. The neuron has no reset, so its *first* spike
# is what counts. In the figure, the broken lines are predictions and the marks were
# measured. Where does the prediction for noise begin to hold? (From about `tau_syn` 10 on:
# spike times are whole steps, so what is far below a step cannot be measured well.)


# %%
# A step is 0.1 ms here. tau_syn 0 stands for snn.Leaky, which has no synaptic current.
TAU_MEM = 100  # steps
TAU_SYN = (0, 2, 5, 10, 20, 50)  # steps
INPUTS = 20  # spikes in a volley
JITTER = 10.0  # steps, of each input
NOISE = 0.1  # standard deviation of the current
ARRIVAL = 400  # step at which a volley comes, in the mean
NUM_STEPS = 600
Jitters = dict[str, list[float]]


def spread_volleys(volleys: int) -> Tensor:
    """Draw volleys whose input spikes come a little early or late. Returns: currents [T, B]."""
    apart = JITTER * torch.randn(INPUTS, volleys)
    times = (ARRIVAL + apart).round().long()  # [INPUTS, B]
    ones = torch.ones(times.shape, dtype=torch.float64)
    silent = torch.zeros(NUM_STEPS, volleys, dtype=torch.float64)
    return silent.scatter_add_(0, times, ones)  # spikes of one step add up


def noisy_volleys(volleys: int) -> Tensor:
    """Draw volleys whose input spikes all come at once, into a noisy current. Returns: currents [T, B]."""
    cur = NOISE * torch.randn(NUM_STEPS, volleys, dtype=torch.float64)
    cur[ARRIVAL] += INPUTS
    return cur


def measure_jitter(config: Config, run: lesson.Run) -> Jitters:
    """Send volleys of input spikes to neurons that fire at half of the highest PSP, and time their spikes."""
    noisy = noisy_volleys(config.volleys).to(run.device)
    spread = spread_volleys(config.volleys).to(run.device)
    found: Jitters = {}
    rows = []
    for tau in TAU_SYN:
        one = jitter_of(tau, spread, noisy)
        rows.append([f"{tau}", *one.values()])
        for name, value in one.items():
            found.setdefault(name, []).append(value)
    run.table("Output spikes, in steps (tau_syn 0: Leaky)", ["tau_syn", *found], rows)
    name = f"jitter out / in x sqrt({INPUTS})"
    leaky = found["jitter out / in"][0] * math.sqrt(INPUTS)
    slowest = found["jitter out / in"][-1] * math.sqrt(INPUTS)
    run.measure(f"{name}, Leaky", leaky, at_least=1.15)
    run.measure(f"{name}, tau_syn 50", slowest, at_least=0.9, at_most=1.15, headline=True)
    noise = found["by noise"][-2] / found["predicted"][-2]  # more than a step, so measured well
    run.measure("jitter by noise / predicted, tau_syn 20", noise, at_least=0.85, at_most=1.15)
    return found


def jitter_of(tau: int, spread: Tensor, noisy: Tensor) -> dict[str, float]:
    """Time the spike of one neuron for volleys that are spread in time, and for noisy ones [T, B]."""
    name = "Synaptic" if tau else "Leaky"
    alpha = math.exp(-1 / max(tau, 1))  # Leaky does not use it
    beta = math.exp(-1 / TAU_MEM)
    psp = INPUTS * response(name, time_axis(2000), alpha, beta)  # of a volley without jitter
    threshold = psp.max().item() / 2
    neuron = without_reset(name, alpha, beta, threshold=threshold)
    late = first_spike(neuron, spread)
    blurred = first_spike(neuron, noisy)
    noise = NOISE * (psp / INPUTS).norm().item()  # of the membrane: shares of all past noise
    return {
        "delay": late.mean().item() - ARRIVAL,
        "jitter out / in": late.std().item() / JITTER,
        "by noise": blurred.std().item(),
        "predicted": noise / slope_at(threshold, psp),
    }


def first_spike(neuron: Any, cur: Tensor) -> Tensor:
    """Give the step of each neuron's first spike, [B], for currents [T, B]."""
    spk, _ = simulate(neuron, cur)
    return spk.argmax(0).double()


def slope_at(threshold: float, psp: Tensor) -> float:
    """Give by how much a PSP [T] rises on the step that crosses the threshold; inf for a jump at step 0."""
    above = (psp > threshold).double()
    cross = int(above.argmax())
    if cross == 0:
        return math.inf
    return (psp[cross] - psp[cross - 1]).item()


def title_of_jitter(found: Jitters) -> str:
    """Say how the output's jitter, from inputs and from noise, changes with the time constant."""
    inputs, noise = found["jitter out / in"], found["by noise"]
    return (
        f"tau_syn {TAU_SYN[0]} to {TAU_SYN[-1]}: jitter by inputs {JITTER * inputs[0]:.2f} to "
        f"{JITTER * inputs[-1]:.2f} steps, by noise {noise[0]:.2f} to {noise[-1]:.2f}"
    )


def spike_times(config: Config, run: lesson.Run) -> None:
    """Measure jitter against the time constant of the synapse, and draw it."""
    found = measure_jitter(config, run)
    by_noise = found["by noise"]
    by_inputs = []
    for ratio in found["jitter out / in"]:
        by_inputs.append(JITTER * ratio)
    fig, (ax,) = figures.new(title_of_jitter(found), size=(8.0, 3.8))
    ax.plot(TAU_SYN, by_inputs, "o-", label="from jittered inputs")
    best = JITTER / math.sqrt(INPUTS)
    ax.axhline(best, color="black", ls="--", lw=0.8, label="jitter / sqrt(inputs)")
    ax.plot(TAU_SYN, by_noise, "s-", label="from noise")
    ax.plot(TAU_SYN, found["predicted"], ":", color="black", label="noise / slope")
    ax.set(xlabel="tau_syn, steps (0: snn.Leaky)", ylabel="jitter of the output, steps")
    figures.legend_outside(ax)
    run.figure(fig, "jitter")
    later = found["delay"][-1] - found["delay"][0]
    run.say(
        f"Inputs with a jitter of {JITTER:g} steps come out with {by_inputs[0]:.2f} from snn.Leaky and "
        f"{by_inputs[-1]:.2f} from the slowest synapse, {later:.0f} steps later. "
        f"Jitter by noise goes the other way, {by_noise[0]:.2f} to {by_noise[-1]:.2f}."
    )


# %% [markdown]
# **Computing time and memory.** Each state is one more tensor to update, and in training
# one more to keep for the way back (lesson 09): 1 for Leaky, 2 for Synaptic, 3 for Alpha.
# The time grows less than the number of states, since a call also has fixed costs. The run
# times the forward pass.
#
# So which neuron when?
#
# - **Leaky**: still images, deep networks, anything where speed counts. The default.
# - **Synaptic**: inputs in time (event cameras, sound), where a spike should act for a
#   while, or where jitter of the inputs must be averaged away. Its two time constants can
#   be trained apart.
# - **Alpha**: when the shape of a PSP is to be as in a textbook: it starts at 0 and is
#   scaled. The dearest of the three, and it breaks where `alpha` meets `beta` (below).


# %%
def measure_cost(run: lesson.Run) -> None:
    """Time a step of each neuron: the best of 200 turns, beside ``snn.Leaky``."""
    cur = torch.rand(6, 32, 200, device=run.device)  # [T, B, N]
    best = dict.fromkeys(NEURONS, math.inf)
    for name in NEURONS * 200:  # in turns and short, so that a busy machine spares some of each
        neuron = build(name, 0.9, 0.8)
        begun = time.perf_counter()
        spk, _ = simulate(neuron, cur)
        spk.sum().item()  # item waits for the device
        seconds = time.perf_counter() - begun
        best[name] = min(best[name], seconds)
    for name in ("Synaptic", "Alpha"):
        run.measure(f"time of a step, {name} / Leaky", best[name] / best["Leaky"])


# %% [markdown]
# ## 6. A catch: alpha and beta swapped
#
# The PSP is symmetric in `alpha` and `beta`. So if you pass them in the wrong order, a test
# of the PSP passes. What is left to tell them apart? Think of what happens *at a spike*.
#
# The reset lowers the membrane, not the current. If the slow state is the current (a large
# `alpha`), it pushes on after the reset, and the neuron fires again and again. If the slow
# state is the membrane, the reset lowers just what is slow, and the neuron pauses. Which of
# the two you want depends on what you model; what you must not do is get the other one by
# accident. (`snn.Synaptic` takes either order; only `snn.Alpha` insists on `alpha` above
# `beta`.)
#
# The run gives both neurons the same random input, and counts. In the figure, look at what
# each membrane does right after a spike: does it start again from far below, or is it back
# at the threshold a few steps later?


# %%
@dataclass(frozen=True)
class Behaviour:
    """What ``snn.Synaptic`` does with one pair of decays."""

    name: str
    psp: Tensor  # [T, 1], after one spike
    spk: Tensor  # [T, N], under random input
    mem: Tensor  # [T, N]


def behaviour(alpha: float, beta: float, cur: Tensor) -> Behaviour:
    """Test a neuron twice: its PSP without reset, and its spikes under currents [T, N]."""
    _, psp = simulate(without_reset("Synaptic", alpha, beta), one_spike(100))
    spk, mem = simulate(build("Synaptic", alpha, beta), cur)
    return Behaviour(f"alpha {alpha}, beta {beta}", psp, spk, mem)


def catch_swapped(config: Config, run: lesson.Run) -> None:
    """Catch: run the same neuron with alpha and beta swapped: same PSP, other spikes."""
    inputs = torch.rand(config.num_steps, 50) < 0.1  # one spike in ten steps
    cur = 0.3 * inputs.double()  # [T, N]
    right = behaviour(0.5, 0.95, cur)
    wrong = behaviour(0.95, 0.5, cur)
    apart = (wrong.psp - right.psp).abs().max().item()
    more = wrong.spk.sum() / right.spk.sum()
    run.measure("catch: difference of the PSPs", apart, at_most=1e-12)
    run.measure("catch: spikes swapped / right", more.item(), at_least=2)
    spikes = [int(right.spk.sum()), int(wrong.spk.sum())]
    draw_catch(run, [right, wrong], title_of_catch(apart, spikes))


def title_of_catch(apart: float, spikes: list[int]) -> str:
    """Say by how much the two PSPs differ, and how often each neuron fires."""
    return f"Alpha and beta swapped: PSPs differ by {apart:.1g}; {spikes[0]} spikes, swapped {spikes[1]}"


def draw_catch(run: lesson.Run, found: list[Behaviour], title: str) -> None:
    """Draw membrane and spikes of one neuron, right and swapped."""
    fig, axes = figures.new(title, columns=2, size=(9.5, 3.2), sharey=True)
    for ax, one in zip(axes, found, strict=True):
        spk = one.spk[:150, 0]  # of the first neuron
        times = spk.nonzero()[:, 0]
        ax.plot(one.mem[:150, 0])
        ax.vlines(times, 1.85, 2.15, color="black", lw=1)
        ax.axhline(1, color=figures.RED, lw=0.8, ls="--")
        ax.set(xlabel="time, steps", title=f"{one.name}: {len(times)} spikes")
    axes[0].set_ylabel("membrane (threshold 1)")
    run.figure(fig, "catch")


# %% [markdown]
# ## Going deeper: where snnTorch leaves the textbook
#
# Three things to know about snnTorch 1.0.0 before you train with these neurons. *Subtract*
# does not lower the membrane of `snn.Alpha` by the threshold: under a steady current it can
# even lift it above a neuron without reset. *Zero* takes an input that comes on the step of
# the reset with it: `snn.Alpha` loses all of it, `snn.Synaptic` only what this step brought
# to the membrane (the current keeps the rest), `snn.Leaky` nothing. And `snn.Alpha` divides
# by the difference of its time constants: where training brings `alpha` and `beta`
# together, the membrane becomes "not a number" (nan).
#
# Each of the three is measured, since a later version may behave otherwise. For *subtract*,
# a steady current runs through a neuron with that reset and one without: a reset that works
# keeps the membrane below, so the lift is 0. For *zero*, two neurons get the same strong
# spike, and one of them a small input on the very step of its reset: how much of it is
# missing later, in the sum over all steps?


# %%
def odd_resets(config: Config, run: lesson.Run) -> None:
    """Measure what the resets do in each neuron, and what Alpha does where alpha meets beta."""
    rows = []
    settled = math.floor(-20 / math.log(config.alpha))  # steps until nothing is left of the beginning
    num_steps = 300 + settled
    for name in NEURONS:
        lift = lifted_by_subtract(name, config, num_steps)
        lost = lost_by_zero(name, config, num_steps)
        rows.append([f"snn.{name}", f"{lift:.2f}", f"{lost:.0f}"])
    run.table("Resets", ["neuron", "subtract: mem lifted by", "zero: input lost, %"], rows)
    neuron = build("Alpha", config.alpha, config.beta)
    neuron.beta = neuron.alpha  # training can do that: only the constructor checks it
    steady = torch.ones(10, 1, dtype=torch.float64)
    _, mem = simulate(neuron, steady)
    broken = mem.isnan().double().mean().item()
    run.measure("Alpha with beta = alpha: mem is nan", 100 * broken, "%")


def area_of_psp(name: str, config: Config) -> float:
    """Give the sum of a PSP: the gain of a constant, which is a sine of frequency 0."""
    constant = torch.zeros(1, dtype=torch.float64)
    return gain(name, constant, config.alpha, config.beta).item()


def lifted_by_subtract(name: str, config: Config, num_steps: int) -> float:
    """Give by how much the reset subtract lifts the membrane at most, above a neuron without reset."""
    steady = 5 / area_of_psp(name, config)  # would lift the membrane to 5 thresholds
    cur = torch.full((num_steps, 2), steady, dtype=torch.float64)
    free = without_reset(name, config.alpha, config.beta)
    subtracting = build(name, config.alpha, config.beta, reset_mechanism="subtract")
    _, free_mem = simulate(free, cur)
    _, mem = simulate(subtracting, cur)
    return (mem - free_mem).max().item()


def lost_by_zero(name: str, config: Config, num_steps: int) -> float:
    """Give how much of a small input is lost, in %, that comes on the step of a reset to zero."""
    psp = response(name, torch.arange(num_steps), config.alpha, config.beta)
    neuron = build(name, config.alpha, config.beta, reset_mechanism="zero")
    cur = torch.zeros(num_steps, 2, dtype=torch.float64)  # [T, N]
    cur[0] = 1.05 / psp.max()  # enough for one spike
    spk, _ = simulate(neuron, cur)
    reset = int(spk[:, 0].argmax()) + 1  # the step after the spike
    cur[reset, 1] = 0.01  # for the second neuron alone
    _, mem = simulate(neuron, cur)
    arrived = mem.diff(dim=1).sum().item()  # second neuron less first
    expected = 0.01 * area_of_psp(name, config)
    return 100 * (1 - arrived / expected)


# %% [markdown]
# ## The lesson as a whole
#
# `main` is the table of contents. Read it after a run, and find each chapter's figure in
# `results/`.


# %%
def main(config: Config, run: lesson.Run) -> None:
    one_input_spike(config, run)
    conductance_or_current(config, run)
    equal_to_snntorch(config, run)
    filters(config, run)
    sweep_alpha_and_beta(run)
    spike_times(config, run)
    measure_cost(run)
    catch_swapped(config, run)
    odd_resets(config, run)  # going deeper


if __name__ == "__main__":
    lesson.start(main, Config, SCALES)
