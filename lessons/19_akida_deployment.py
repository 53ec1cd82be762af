"""Lesson 19: Akida deployment.

Question: How few bits does a network need, and what becomes of it on its way onto an Akida chip?
Reading:  BrainChip's documentation (model zoo, quantizeml, cnn2snn); SpikeFit (2025); Esser et al. (2020).
Run:      python lessons/19_akida_deployment.py
Expect:   float 92.0 ± 0.2 %; trained on with 8/4/4 bits (first layer, other weights, activations) 91.9 ± 0.2,
          with 8/2/4 91.5 ± 0.1, with 8/2/2 91.0 ± 0.2; the chip's sums = PyTorch's. Keras, first seed: 92.0,
          91.2, 88.6 %, and the chip decides alike in 99.0, 98.4, 93.1 %. File 82 kB, on the chip 418 or
          216 kB. 3 seeds, 13 CPU minutes.
"""

# %% [markdown]
# So far everything ran on a computer. This lesson takes a network to a neuromorphic chip,
# BrainChip's AKD1000 (lesson 12), or to its simulator, which computes the same numbers. The
# chip has 4, 2 or 1 bits for a weight, and as many for what travels between layers. Only the
# first layer has weights of 8 bits: a unit of its own computes it, its inputs are bytes, and
# what it rounds away no later layer gets back. We write *8/4/4*: bits of the first layer's
# weights / of all other weights / of activations.
#
# In this lesson you
#
# 1. round weights to few bits, and let gradients pass through the rounding (*fake
#    quantisation*),
# 2. round a finished network (*post-training quantisation*, PTQ),
# 3. turn potentials, thresholds and steps into the chip's whole numbers,
# 4. train on with the rounding (*quantisation-aware training*, QAT), at 4, 2 and 1 bits,
# 5. write an `.fbz` file, open it, and find the weights in it,
# 6. map the model onto the chip: processors, events, latency, energy,
# 7. take BrainChip's own road (Keras, quantizeml, cnn2snn), and catch it dropping layers.
#
# Why so few bits? A chip like this keeps all weights next to its processors, and there is
# little room: 4 bits need an eighth of the memory of a float, and of the energy to move it.
# The arithmetic becomes cheaper, too: a product of two floats takes 3.7 pJ, of two whole
# numbers of 8 bits 0.2 pJ (45 nm; Horowitz 2014), of 4 bits less still.

# %%
import copy
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

sys.path.insert(0, str(Path(globals().get("__file__", "any.py")).resolve().parents[1]))  # where snn_course is

from snn_course.runs import figures, lesson
from snn_course import UsageError, data
from snn_course import akida_bridge as ab
from snn_course.akida_bridge import keras_twin
from snn_course.networks import training

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, cross_entropy


@dataclass(frozen=True)
class Config(lesson.Config):
    images: Annotated[int, lesson.Range(1000, 60_000)] = 60_000
    """Number of Fashion-MNIST training images."""

    epochs: Annotated[int, lesson.Range(1, 500)] = 5
    """Passes over the training images with float weights."""

    qat_epochs: Annotated[int, lesson.Range(1, 100)] = 1
    """Passes of quantisation-aware training for each choice of bits, on the PyTorch road."""

    keras_epochs: Annotated[int, lesson.Range(0, 100)] = 2
    """The same on the Keras road; 0 leaves it out (TensorFlow takes half a minute to start)."""

    width: Annotated[int, lesson.Range(4, 96)] = 32
    """Filters of the first convolution; the next two have twice as many."""


SCALES: lesson.Scales = {
    "quick": {"images": 3000, "epochs": 4, "keras_epochs": 0, "width": 16},
    "cpu": {"seeds": 3},
    "gpu": {
        "seeds": 3,
        "epochs": 30,
        "qat_epochs": 5,
        "keras_epochs": 5,
        "width": 64,
    },
}
BITS = {  # of weights behind the first layer, and of activations
    "8/4/4": (4, 4),
    "8/2/4": (2, 4),
    "8/2/2": (2, 2),
    "8/1/4": (1, 4),
}
KERAS_BITS = ("8/4/4", "8/2/4", "8/2/2")  # taken on the Keras road, too
FLOAT_GOAL = {"quick": 70, "cpu": 90, "gpu": 91}  # goals at each scale, %
POINTS = {"8/4/4": 1.0, "8/2/4": 6.0, "8/2/2": 6.0}  # goals: at most so many points below float
RATES = {"float": 3e-3, "PyTorch": 1e-3, "Keras": 3e-3}  # learning rates, chosen on held-out training images
CALIBRATION = 1000  # images that fit the steps
NONE = "not measured"  # where TensorFlow or akida is missing
Pair = tuple[Tensor, Tensor]  # two tensors; for data: images [N, 1, 28, 28] as bytes, and labels [N]


# %% [markdown]
# ## 1. Rounding weights, with a gradient
#
# A weight of $b$ bits is a whole number from $-m$ to $m$, with $m = 2^{b-1} - 1$: 127 for
# 8 bits, 7 for 4, and for 2 bits just $-1, 0, 1$. ($b$ bits could hold one number more; a
# grid that is the same on both sides of 0 leaves it out. One bit is an exception: 0 or 1.)
# All weights of a filter share a *scale* $s$ (filters differ in size, and on the chip each
# has a threshold and a step of its own anyway, so a scale for each is free: chapter 3). So
#
# $$w \approx s\,q, \qquad q = \mathrm{clip}\Big(\mathrm{round}\Big(\frac{w}{s}\Big),\ -m,\
# m\Big) .$$
#
# Which scale? With the largest weight at $m$, nothing is clipped; but with few levels, one
# large weight makes all others coarse. LSQ, *learned step size quantisation* (Esser et al.
# 2020), starts from $s = 2\,\overline{|w|} / \sqrt m$ with the mean size of the weights. Its
# grid ends at $s\,m = 2\,\overline{|w|} \sqrt m$, twice the mean weight for 2 bits, and clips
# what lies beyond. We take the smaller of the two scales, the finer grid.
#
# To train with rounded weights, one needs their gradient. `round` is a staircase: its
# slope is zero everywhere but at the jumps, so nothing would ever learn. The
# *straight-through estimator* (Bengio et al. 2013) rounds on the way forward and acts on
# the way back as if it had not: slope 1 where nothing was clipped, 0 where it was (a
# clipped weight that moves further out changes nothing, so it must not be pushed there).
# It is the surrogate gradient of lesson 07 for a staircase. In PyTorch this is one line:
# add the rounding error, `exact.round() - exact`, as a constant that no gradient passes.
#
# Weights that are stored as floats and rounded in each forward pass are called *fake
# quantised*: the float copy learns in small steps, the network sees whole numbers.


# %%
def quantise(weight: Tensor, bits: int, finest: float = 1e-12) -> Pair:
    """Give whole numbers for weights [F, C, H, W], with a straight-through gradient, and the scales [F].

    No scale is smaller than ``finest``: a filter of zeros has one, too, and the chip's steps have a limit.
    """
    top = max(1, 2 ** (bits - 1) - 1)  # 127, 7, 1 for 8, 4, 2 bits
    low = -top if bits > 1 else 0  # as far below 0 as above; but one bit is 0 or 1
    size = weight.detach().abs()
    if bits == 1:
        size = weight.detach().clamp(min=0)  # a weight below 0 becomes 0, whatever its size
    size = size.flatten(1)  # [F, C * H * W]
    # exercise: scale of each filter, clipping, rounding with slope 1
    reach = size.amax(1) / top  # nothing is clipped
    usual = 2 * size.mean(1) / top**0.5  # LSQ's start
    scale = torch.minimum(reach, usual).clamp(min=finest)  # [F]
    exact = (weight / per_filter(scale)).clamp(low, top)
    whole = exact + (exact.round() - exact).detach()  # forward rounded, backward as if not
    # end
    return whole, scale


def per_filter(values: Tensor) -> Tensor:
    """Shape values [F] so that they go with weights [F, C, H, W]."""
    return values.view(-1, 1, 1, 1)


def look_at_rounding(run: lesson.Run, folded: ab.QuantNet) -> None:
    """Draw one filter's weights, float and rounded, and say which weights get a gradient."""
    weight = folded.parts[1].weight.detach().clone().requires_grad_()
    rounded = (7 * weight).round()  # 7: any number will do, the slope is 0
    straight, _ = quantise(weight, 4)
    for name, whole in (("round()", rounded), ("straight-through", straight)):
        (grad,) = torch.autograd.grad(whole.sum(), weight)
        share_with = 100 * (grad != 0).double().mean().item()
        run.measure(f"weights with a gradient, {name}", share_with, "%")
    one = weight.detach().cpu()[:1]  # the first filter of conv2 [1, C, 3, 3]
    fig, (ax,) = figures.new("")
    exact = one.flatten().sort().values
    ax.plot(exact, color=figures.GREY, lw=3, label="float")
    told = []
    for bits in (4, 2, 1):
        label = f"{bits} bits" if bits > 1 else "1 bit"
        whole, scale = quantise(one, bits)
        rounded = whole * scale
        lost = torch.dist(rounded, one) / one.norm()
        told.append(f"{100 * lost:.0f} % at {label}")
        coarse = rounded.flatten().sort().values
        ax.plot(coarse, label=label)
    figures.retitle(fig, "Rounding error of a filter, share of its length: " + ", ".join(told))
    ax.set(xlabel="weights of conv2, filter 0, sorted", ylabel="weight")
    ax.legend()
    run.figure(fig, "weights")


# %% [markdown]
# ## 2. Post-training quantisation
#
# The network: three convolutions and a dense layer on Fashion-MNIST, with ReLUs that end at
# 6, because the chip has no other. First it is trained with float weights. Then its batch
# norms are folded into weights and biases (lesson 16): the chip has none.
#
# *Post-training quantisation* takes this finished network and rounds. It needs no training,
# a few pictures at most; but no weight can adapt to its neighbours' rounding. Here the
# weights alone are rounded, at 8, 4 and 2 bits.
#
# Rounding is a kind of noise: every weight is moved by up to half a level, at random, and a
# sum of many products averages much of it away. So 8 bits cost next to nothing. At 2 bits a
# level is as large as the weights themselves, and it shows.
#
# 8 bits for weights and activations, *INT8*, is also what GPUs and phones use. A GPU then
# moves a quarter of the bytes, and has more products in the same silicon. It gains nothing
# from zeros, which its units multiply like all other numbers, in large blocks; and little
# from 2 bits, for hardly a GPU has units of that width.


# %%
def network(config: Config, run: lesson.Run, weight_bits: int, act_bits: int, norm: bool = False) -> Any:
    """Make the network, 28x28 -> 14x14 -> 7x7 -> 4x4 -> 10 classes, float until it is calibrated."""
    wide = 2 * config.width
    layers = (
        ab.InputConv(config.width, stride=2, act_bits=act_bits),  # 8-bit weights
        ab.Conv(wide, pool=2, weight_bits=weight_bits, act_bits=act_bits),
        ab.Conv(wide, stride=2, weight_bits=weight_bits, act_bits=act_bits),
        ab.Dense(10, weight_bits, act_bits=None),
    )
    net: Any = ab.QuantNet(layers, (1, 28, 28), norm)
    return net.to(run.device, memory_format=torch.channels_last)


def recipe_of(epochs: int, rate: float) -> training.Recipe:
    """Say how to train: pixels stay 0..255, as the chip takes them; nothing is moved or mirrored."""
    return training.Recipe(
        epochs,
        rate=rate,
        decay=0,
        loss=cross_entropy,
        augment=as_numbers,
        prepare=as_numbers,
    )


def as_numbers(x: Tensor) -> Tensor:
    """Turn bytes into floats 0..255."""
    return x.float()


def accuracy(net: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Give in % how many images [N, 1, 28, 28] get the right answer."""
    return training.evaluate(net, images, labels, prepare=as_numbers, bf16=False)


def train_float(config: Config, run: lesson.Run, train: Pair, some: Tensor) -> ab.QuantNet:
    """Train the float network, and fold its batch norms into its weights and biases."""
    torch.manual_seed(run.seed)
    net = network(config, run, 4, 4, norm=True)
    recipe = recipe_of(config.epochs, RATES["float"])
    training.fit(run, "float", net, *train, recipe)
    folded = copy.deepcopy(net.eval())
    with torch.no_grad():
        for part in folded.parts:
            part.fold()  # gain = gamma / sqrt(var + eps): w <- gain w, b <- gain (b - mean) + beta
        difference = folded(some) - net(some)
    run.proof("logits, batch norms folded in", largest(difference), at_most=1e-3)
    return folded


def measure_rounding(run: lesson.Run, folded: ab.QuantNet, test: Pair) -> float:
    """Round weights alone, and measure what it costs. Returns: accuracy at 8 bits in %."""
    found = {}
    for bits in (2, 4, 8):
        net = copy.deepcopy(folded)
        for number, part in enumerate(net.parts):
            whole, scale = quantise(part.weight.detach(), bits if number else 8)
            part.weight.data = whole * per_filter(scale)
        found[bits] = accuracy(net, *test)
        run.measure(f"PTQ of weights alone, {bits} bits: accuracy", found[bits], "%")
    run.say(
        f"Rounding weights of a finished network: {found[8]:.1f} % with 8 bits, {found[4]:.1f} % with 4, "
        f"{found[2]:.1f} % with 2."
    )
    return found[8]


# %% [markdown]
# ## 3. The chip's whole numbers
#
# On the chip there are no floats. What travels between layers are *levels*: whole numbers
# $k$ from 0 to $2^a - 1$, with $a$ bits. A level stands for a float; let one level of the
# input be worth $u$, so that $k$ stands for $u\,k$. The weights are $s\,q$. So the
# *potential* $p = \sum q\,k$ is a whole number, and one unit of it is worth $s\,u$. With
# bias $b$, and one level of the output worth $\Delta$ (its *step*), the output should be
#
# $$\mathrm{level} = \mathrm{clip}\Big(\mathrm{round}\Big(\frac{s\,u\,p + b}{\Delta}\Big),\ 0,\
# 2^a - 1\Big)$$
#
# The chip has another form, with two numbers for each filter: it subtracts a *threshold*
# $\theta$, divides by a step, rounds up ($\lceil\ \rceil$), and clips:
#
# $$\mathrm{level} = \mathrm{clip}\Big(\Big\lceil \frac{p - \theta}{\delta\,2^{4-a}}
# \Big\rceil,\ 0,\ 2^a - 1\Big), \qquad \delta = \frac{\Delta}{s\,u}\,2^{a-4}, \quad \theta
# = \frac{\Delta}{2\,s\,u} - \frac{b}{s\,u} .$$
#
# $\delta$ is what the chip stores and calls `act_step`: the step in units of potential, for
# 4 bits. With fewer bits there are fewer and wider steps, so the chip multiplies it by
# $2^{4-a}$ again.
#
# Put in numbers: one unit of potential is worth $s\,u = 0.01$, a level $\Delta = 0.32$, the
# bias is 0.1, with 4 bits. Then a level is $\delta = 32$ units wide, and $\theta$ is 16 less
# 10, which is 6. A potential of 6 gives level 0; 7 to 38 give level 1, for their values,
# 0.17 to 0.48 with the bias, are nearest to 0.32; 39 gives level 2.
#
# Rounding up, with a threshold half a step further up, is rounding to the nearest; so both
# forms are the same, except that $\theta$ must be a whole number and $\delta$ a multiple of
# 1/16. This is the spike count of an integrate-and-fire neuron in 15 steps (lesson 16),
# sent as one event that carries it.
#
# A layer of fake quantisation therefore reads: forward the chip's form, backward the first
# formula without its rounding (`smooth`). Its slope is to be 0 where the level is clipped.
# A value rounds to one of the levels 0 to `top` if, with 0.5 added, it lies between 0 and
# `top + 1`: so `smooth` is clipped there. Written out below, and proven equal to the layer
# that the helper trains (values, and gradients of weights and bias).


# %%
def constants(bias: Tensor, unit: Tensor, step: Tensor, bits: int) -> Pair:
    """Give threshold and step of each filter [F], from bias [F], a potential unit's and a level's worth."""
    gain = 2 ** (4 - bits)
    # exercise: both formulas above, rounded as the chip needs them
    act_step = (16 * step / unit / gain).round() / 16  # four binary places
    threshold = (gain * act_step / 2 - bias / unit).round()  # a whole number
    # end
    return threshold, act_step


def layer_by_hand(x: Tensor, worth: Tensor, part: Any) -> Tensor:
    """Compute a convolution's levels, forward as the chip, backward as if nothing were rounded.

    Args:
        x: input levels [B, C, H, W], whole numbers.
        worth: of one input level.
        part: the layer: float weight, bias, step of its output. Its stride is 2, its input odd in size
            (in an even one Akida pads the other side: lesson 12).
    """
    bits = part.spec.act_bits
    top = 2**bits - 1
    whole, scale = quantise(part.weight, part.spec.weight_bits)
    potential = conv2d(x, whole, stride=2, padding=1)
    unit = (worth * scale)[:, None, None]  # [F, 1, 1]
    bias = part.bias[:, None, None]
    step = part.step
    with torch.no_grad():
        threshold, act_step = constants(bias.double(), unit.double(), step.double(), bits)
    # exercise: the chip's level, and the level without rounding for the way back
    above = potential.detach() - threshold
    width = act_step * 2 ** (4 - bits)  # of a level, in units of potential
    level = (above / width).ceil().clamp(0, top)
    exact = (unit * potential + bias) / step
    smooth = (exact + 0.5).clamp(0, top + 1)  # no slope where the level is clipped
    # end
    return smooth + (level - smooth).detach()


def prove_fake_quantisation(run: lesson.Run, net: ab.QuantNet, images: Tensor) -> None:
    """Compare a layer by hand with the same layer of the helper: levels, and gradients."""
    first, second, third = net.parts[:3]
    pixel = torch.tensor(1 / 255, device=images.device)
    with torch.no_grad():
        levels, worth = second(*first(images.float(), pixel))
    theirs, _ = third(levels, worth)
    own = layer_by_hand(levels, worth, third)
    run.proof("levels by hand = the helper's layer", largest(own - theirs))
    weights = (third.weight, third.bias)
    by_hand = torch.autograd.grad(own.square().sum(), weights)
    of_helper = torch.autograd.grad(theirs.square().sum(), weights)
    for name, mine, other in zip(("weights", "biases"), by_hand, of_helper, strict=True):
        error = (torch.dist(mine, other) / other.norm()).item()
        run.proof(f"gradient by hand = the helper's layer, {name}", error, at_most=1e-5)


# %% [markdown]
# A potential has 20 bits. What happens beyond? In a dense layer it *saturates*: it stays at
# the largest value, $2^{19} - 1$, and does not wrap around to a negative one. And weights
# of 8 bits behind the first layer are refused, here by this course's bridge to Akida.


# %%
def prove_limits(config: Config, run: lesson.Run) -> None:
    """Ask for 8-bit weights behind the first layer; then add up 15 * 7 until 20 bits are full, and on."""
    accepted = 0
    with suppress(UsageError):  # "the AKD1000 takes weight_bits 1, 2, 4, not 8"
        accepted = len(network(config, run, weight_bits=8, act_bits=4).parts)
    run.proof("8-bit weights accepted behind layer 1", accepted, at_most=0)
    rows = []
    wrong = 0
    for number in (1000, 4000, 12_000):
        total = 15 * 7 * number
        held = largest_potential(number)
        wrong += held != min(total, 2**19 - 1)
        rows.append([f"{number}", total, held])
    run.proof("20-bit sums that do not saturate", wrong, at_most=0)
    run.table("20 bits", ["inputs of 15, weights of 7", "sum", "potential"], rows)


def largest_potential(number: int) -> int:
    """Add up ``number`` inputs of 15 with weights of 7; on the simulator and in PyTorch, which must agree."""
    last = ab.Dense(1, act_bits=None)
    weights = torch.full((1, number, 1, 1), 7)
    threshold = torch.zeros(1, dtype=torch.int64)
    act_step = torch.ones(1)
    layer = ab.IntLayer(last, weights, threshold, act_step)
    specs = (ab.InputData(), last)
    net = ab.IntNet(specs, (number, 1, 1), [layer])
    x = torch.full_like(weights, 15)
    own = int(net.integers(x))
    if ab.backend() == "absent":
        return own
    theirs = int(ab.potentials(ab.to_akida(net), x))
    return own if own == theirs else -1


# %% [markdown]
# ## 4. Quantisation-aware training
#
# QAT starts where PTQ ends: the rounded network trains on, with the layer of chapter 3 in
# its forward pass. Weights, biases and steps all learn. What was lost by rounding can now
# be made up for by all others; so the fewer the bits, the more QAT gains over PTQ.
#
# Four choices of bits. With 2 bits, a weight says no more than for, against, or neither;
# with 1 bit, only 0 or 1: no weight can be negative, a neuron can only be excited, and its bias
# alone holds it back. A trained network without its negative weights has potentials that
# are all too high: every neuron sits at its ceiling, where nothing tells pictures apart and
# the gradient is zero. So for 1 bit, each bias is first moved until the mean potential is
# what it was in the float network (*bias correction*, another tool of PTQ).
#
# When PTQ, when QAT? PTQ takes seconds, needs no labels and only some pictures; it is
# enough while a level is small beside the weights (8 bits, often 4). QAT needs the training
# data and a training loop, and repays them when levels are coarse.
#
# The integers of the trained network are then computed by hand, as in chapters 1 and 3,
# and compared with those that the chip gets; and the chip's potentials (the simulator's,
# where there is no card) with PyTorch's. Nothing may differ, not by one. (The last layer
# has no levels: it gives its potentials, and the largest, minus its threshold, is the
# answer.) In the table of accuracies, 8/8/float is chapter 2's rounding of weights alone,
# at 8 bits everywhere: what a GPU could take, and the chip could not.


# %%
@dataclass
class Result:
    """One choice of bits on one road: accuracies and equal decisions in %, .fbz in bytes, and the report."""

    road: str
    bits: str
    ptq: Any = NONE
    qat: Any = NONE
    chip: Any = NONE
    same: Any = NONE
    size: int = 0
    report: Any = None


def torch_road(config: Config, run: lesson.Run, folded: Any, bits: str, train: Pair, test: Pair) -> Any:
    """Quantise, train on in the chip's integers, write them into an Akida model. Returns: result, network."""
    net = network(config, run, *BITS[bits])
    net.load_state_dict(folded.state_dict())
    if BITS[bits][0] == 1:
        move_biases(net, folded, train[0][:CALIBRATION])
    net.calibrate(train[0][:CALIBRATION])  # finds the step of each layer that loses least: PTQ
    result = Result("PyTorch", bits, ptq=accuracy(net, *test))
    name = f"PyTorch {bits}".replace("/", "-")
    recipe = recipe_of(config.qat_epochs, RATES["PyTorch"])
    training.fit(run, name, net, *train, recipe)
    prove_integers(run, net.eval(), bits)
    result.qat = accuracy(net, *test)
    if ab.backend() != "absent":
        model = ab.to_akida(net)
        own = potentials_of(net, test[0])
        theirs = ab.potentials(model, test[0])
        differ = (theirs != own).sum().item()
        run.proof(f"{bits}: potentials unlike the simulator's", differ, at_most=0)
        threshold = net.to_integers().layers[-1].threshold.cpu()
        answers = (own - threshold).argmax(1)
        decided = (theirs - threshold).argmax(1)
        deploy(run, result, model, (answers, decided), test)
    return result, net


@torch.no_grad()
def move_biases(net: ab.QuantNet, folded: ab.QuantNet, images: Tensor) -> None:
    """Change the biases of a float network so that rounded weights give the mean potentials of exact ones."""
    exact = rounded = images.float() / 255
    for number, part in enumerate(net.parts):
        target = folded.parts[number]
        trial = copy.deepcopy(part)
        whole, scale = quantise(part.weight, part.spec.weight_bits)
        trial.weight.data = whole * per_filter(scale)
        wanted = target.float_potential(exact)  # [B, F, H, W]; of the last layer [B, 10]
        missing = wanted - trial.float_potential(rounded)
        missing = missing.transpose(0, 1).flatten(1).mean(1)  # [F]
        part.bias.add_(missing)
        trial.bias.add_(missing)
        exact = target.float_activation(wanted)
        rounded = trial.float_activation(trial.float_potential(rounded))


def potentials_of(net: ab.QuantNet, images: Tensor) -> Tensor:
    """Give the exact output potentials [N, 10] in PyTorch."""
    twin = net.to_integers()
    found = []
    for part in images.split(500):
        found.append(twin.integers(part).cpu())
    return torch.cat(found)


def prove_integers(run: lesson.Run, net: ab.QuantNet, bits: str) -> None:
    """Compute weights, thresholds and steps by hand, and compare them with what the bridge gives the chip."""
    worth = torch.tensor(1 / 255, device=run.device)  # of one level of the input
    act_bits = BITS[bits][1]
    differ = 0
    for number, layer in enumerate(net.to_integers().layers[:-1]):
        part = net.parts[number]
        step = part.step.detach()
        most = 2**12 if number else 2**17  # largest act_step that the chip holds
        finest = float(step * 2.0 ** (act_bits - 4) / most / worth)
        whole, scale = quantise(part.weight, layer.spec.weight_bits, finest)
        unit = (worth * scale).double()
        threshold, act_step = constants(part.bias.double(), unit, step.double(), act_bits)
        differ += int((whole.round() != layer.weights).sum())
        differ += int((threshold != layer.threshold).sum())
        differ += int((act_step != layer.act_step).sum())
        worth = step
    run.proof(f"{bits}: own integers that differ", differ, at_most=0)


def share(found: Tensor, wanted: Tensor) -> float:
    """Give in % how many values are equal."""
    equal = (found == wanted.cpu()).double().mean().item()
    return round(100 * equal, 2)


def largest(differences: Tensor) -> float:
    """Give the largest absolute value."""
    return differences.abs().max().item()


def judge(run: lesson.Run, plain: float, eight: float, results: list[Result]) -> None:
    """Hold each network against the float one, and each chip against its network; both roads in one table."""
    rows: list[list[Any]] = [
        ["float", "both", plain, "-", "-", "-"],
        ["8/8/float", "GPU", eight, "-", "-", "-"],
    ]
    for result in results:
        name = f"{result.road} {result.bits}"
        points = POINTS.get(result.bits)
        if result.qat != NONE:
            headline = result.road == "PyTorch" and points is not None
            run.measure(f"{name}, QAT: accuracy", result.qat, "%", headline=headline)
            goal = {"quick": 5.0, "cpu": points, "gpu": points} if points else None
            run.measure(f"{name}, QAT: points below float", plain - result.qat, at_most=goal)
        if result.same != NONE:
            exact = result.road == "PyTorch" or result.bits == "8/4/4"
            least = 98 if exact else None  # with 2 bits cnn2snn's rounding shows
            run.measure(f"{name}: same decisions on the chip", result.same, "%", at_least=least)
        rows.append([result.bits, result.road, result.ptq, result.qat, result.chip, result.same])
    head = ["bits", "road", "PTQ", "QAT", "on chip", "same decisions"]
    run.table("Accuracy on the test images, % (Keras, 8/1/4: first seed)", head, rows)


def title_of_bits(plain: float, done: list[Result]) -> str:
    """Say the accuracy of the float network, and of each rounded one before and after training goes on."""
    told = []
    for result in done:
        if result.road == "PyTorch":
            told.append(f"{result.bits} bits {result.ptq:.1f} (PTQ), {result.qat:.1f} (QAT)")
    return f"Accuracy in %: float {plain:.1f}; {'; '.join(told)}"


def draw_bits(run: lesson.Run, nets: dict[str, Any], plain: float, done: list[Result]) -> None:
    """Draw accuracies by bits, and the activation of one filter as the chip computes it."""
    title = title_of_bits(plain, done)
    fig, (left, right) = figures.new(title, columns=2, size=(10, 4))
    left.axhline(plain, color=figures.GREY, ls=":", label="float")
    for road, colour in (("PyTorch", figures.BLUE), ("Keras", figures.ORANGE)):
        names = []
        before = []
        after = []
        for result in done:
            if result.road == road and result.qat != NONE:
                names.append(result.bits)
                before.append(result.ptq)
                after.append(result.qat)
        if names:
            left.plot(names, before, "x--", color=colour, label=f"{road}, PTQ")
            left.plot(names, after, "o-", color=colour, label=f"{road}, QAT")
    draw_activations(right, nets)
    left.set(ylabel="test accuracy, %", xlabel="first layer / weights / activations")
    right.set(ylabel="level / highest", xlabel="potential of conv2, filter 0", title="Activation after QAT")
    for ax in (left, right):
        ax.legend()
    run.figure(fig, "bits")


def draw_activations(ax: Any, nets: dict[str, Any]) -> None:
    """Draw the levels of one filter against its potential, from its threshold to its highest level."""
    for name, net in nets.items():
        layer = net.to_integers().layers[1]
        bits = BITS[name][1]
        threshold = layer.threshold[0].cpu()
        act_step = layer.act_step[0].cpu()
        top = 2**bits - 1
        width = act_step * 2 ** (4 - bits)
        begin, end = int(threshold), int(threshold + top * width)
        potential = torch.arange(begin - 20, end + 20)
        level = ab.akida_activation(potential, threshold, act_step, bits)
        label = f"{name}: {width:.1f} units a level"
        ax.plot(potential, level / top, drawstyle="steps", label=label)


def say_bits(run: lesson.Run, plain: float, results: list[Result]) -> None:
    """Say what QAT gained at each choice of bits."""
    told = []
    for result in results:
        told.append(f"{result.qat - result.ptq:+.1f} points at {result.bits}")
    run.say(f"Float has {plain:.1f} %. What QAT gains over PTQ: " + ", ".join(told) + ".")


# %% [markdown]
# ## 5. The `.fbz` file, opened
#
# `model.save("name.fbz")` writes everything the chip needs: for each layer its kind and
# shapes, and three arrays, `weights`, `threshold` and `act_step`. On a board one line reads
# it, `akida.Model("name.fbz")`, and `model.map(device)` makes a program of it. There is no
# Keras or PyTorch in it any more, and no float weight to train on from.
#
# What is inside? It is not made to be read by hand, but two well-known formats can be
# recognised. The file is a *FlatBuffer* (tables with offsets that can be read in place),
# packed with *Snappy*. A Snappy stream starts with the length of what was packed: 7 bits in
# a byte, the lowest first, and the 8th says whether more follow. Then come pieces. A
# piece's first byte tells its kind in two bits: 0 for plain bytes, which follow; else
# "repeat some bytes from so far back". Twenty lines unpack it, and what comes out must be
# what the model itself gives as its buffer.


# %%
def unpack(packed: bytes) -> tuple[bytes, int]:
    """Unpack a Snappy stream. Returns: what was packed, and how many bytes of the stream that took."""
    size, place = first_number(packed)
    out = bytearray()
    while len(out) < size:
        tag = packed[place]
        kind = tag & 3
        place += 1
        if kind == 0:  # plain bytes follow
            length = tag >> 2
            if length >= 60:  # a long piece: its length stands in the next 1 to 4 bytes
                width = length - 59
                length = int.from_bytes(packed[place : place + width], "little")
                place += width
            out += packed[place : place + length + 1]
            place += length + 1
            continue
        if kind == 1:  # a short repetition
            length = (tag >> 2 & 7) + 4
            back = (tag >> 5 << 8) + packed[place]
            place += 1
        else:  # a repetition from further back
            width = 2 if kind == 2 else 4
            length = (tag >> 2) + 1
            back = int.from_bytes(packed[place : place + width], "little")
            place += width
        for _ in range(length):
            out.append(out[-back])
    return bytes(out), place


def first_number(packed: bytes) -> tuple[int, int]:
    """Read a number of 7 bits a byte, the lowest first. Returns: it, and where the next byte is."""
    number = 0
    for place, byte in enumerate(packed):
        number += (byte & 127) << (7 * place)
        if byte < 128:
            return number, place + 1
    raise ValueError("no end of the number")


def deploy(run: lesson.Run, result: Result, model: Any, answers: Pair, test: Pair) -> None:
    """Save a model, read it back, map it; ``answers`` are those of its source [N], and its own [N]."""
    path = path_of(run, result)
    ab.save(model, path)
    again = ab.load(path)
    some = test[0][:1000]
    differ = (ab.predict(again, some) != ab.predict(model, some)).sum().item()
    run.proof(f"{result.road} {result.bits}: changed by its .fbz", differ, at_most=0)
    wanted, decided = answers
    result.chip = share(decided, test[1])
    result.same = share(decided, wanted)
    result.size = path.stat().st_size
    result.report = ab.report(again, test[0][:500], repeats=20)


def path_of(run: lesson.Run, result: Result) -> Path:
    """Name the .fbz file of a result."""
    return run.folder / f"{result.road}-{result.bits.replace('/', '-')}-seed{run.seed}.fbz"


def open_files(run: lesson.Run, results: list[Result]) -> None:
    """Unpack the .fbz files, and find the weights in them."""
    rows = []
    missing = 0
    unlike = 0
    for result in results:
        packed = path_of(run, result).read_bytes()
        buffer, used = unpack(packed)
        model = ab.load(path_of(run, result))
        unlike += buffer != model.to_buffer()
        count = 0
        for layer in model.layers:
            weights = layer.get_variable("weights")  # int8, whatever the bits
            count += weights.size
            for name in ("weights", "threshold", "act_step"):
                missing += layer.get_variable(name).tobytes() not in buffer
        rows.append([result.bits, len(packed), used, len(buffer), count])
    run.proof(".fbz unpacked unlike the model's own buffer", unlike, at_most=0)
    run.proof(".fbz: weights, thresholds, steps not found in it", missing, at_most=0)
    columns = ["bits", "file, bytes", "of it used", "unpacked", "weights, 1 byte each"]
    run.table("The .fbz files, opened", columns, rows)
    told = []
    sizes = set()
    for row in rows:
        told.append(f"{row[2]} bytes at {row[0]}")
        sizes.add(f"{row[1]}")
    run.say(
        f"The files have {' or '.join(sorted(sizes))} bytes: a weight takes a whole byte in them, whatever "
        "its bits, and what stands behind the stream is padding. What the packing uses tells the bits: "
        + ", ".join(told)
        + "."
    )


# %% [markdown]
# So the file's size says nothing about the memory on the chip. That is told by the
# *program*, which `map` makes. It packs the weights as its chip does, and may yet be larger
# than the file: where several processors share the picture of a layer, each gets a copy of
# the weights. The table below gives it for the most processors (fast), and for the fewest.
#
# ## 6. On the mesh
#
# Mapping gives each layer neural processors (NPs), which all work at the same time: 20
# nodes of 4, of which 78 are usable here. A layer that is too large for one NP is cut into
# pieces. What happens to a picture then:
#
# - the first layer turns pixels into levels; each level but 0 leaves as an *event*: where,
#   and how large (1 to 15 with 4 bits);
# - the mesh, a network of routers, carries events to the NPs of the next layer;
# - an NP takes an event, looks up the weights that connect it, and adds level x weight to
#   the potentials it reaches. No event, no work;
# - when a layer's input is complete, its potentials become levels (chapter 3), those become
#   events, and so on.
#
# A GPU with INT8 units works the other way: it fetches weights from memory, multiplies
# blocks of all numbers, zeros too, and is fast because thousands of products run at a time.
# It wins with large batches; the chip needs no batch, keeps its weights where they are
# used, and skips zeros. How many zeros there are is the column `zeros` below.
#
# Latency, power and energy come from the chip's own meters when a card is there. Without
# one, the latencies are this computer's, which simulates, and say nothing about the chip;
# energy is not measured, and published figures stand in its place, with their source. In
# them, look at the *floor*: the board's power when it does nothing is most of the bill. The
# *dynamic* part is what the work adds. A chip that answers once in a while pays the floor
# all the time; per frame, it is cheap only when it is busy or can be switched off in
# between.
#
# `p50`, `p95`, `p99` are percentiles of the latency: 95 of 100 pictures are faster than
# `p95`. A system that must keep a deadline is built for the slow ones, not for the median.
# *Throughput*, in frames a second, is another thing. Layers work at the same time, on
# successive pictures, so a new one can enter before the last has left: throughput is then
# more than 1 / latency. It stands beside the power, since both are measured in one long run.


# %%
def tabulate(run: lesson.Run, results: list[Result]) -> None:
    """Give what each model takes on the chip, layer by layer, and in energy."""
    rows = []
    layers = []
    for result in results:
        rows.append([result.bits, result.road, *cells_of(result)])
        if result.report and result.road == "PyTorch":
            for row in result.report.rows():
                layers.append([result.bits, *row])
    columns = ["bits", "road", ".fbz bytes", "program on NPs", "on the fewest", "p50", "p95", "p99"]
    run.table(f"Models; latency in ms, {ab.backend()} (a simulator's is this host's)", columns, rows)
    run.table("Layers, PyTorch road", ["bits", "layer", "NPs", "events", "zeros"], layers)
    tabulate_energy(run, results)


def cells_of(result: Result) -> list[Any]:
    """Give size, programs with their NPs, and latencies of a model; dashes where there is none."""
    if not result.report:
        return [NONE, "-", "-", "-", "-", "-"]
    mapped = result.report.mapping
    took = result.report.latency
    cells: list[Any] = [result.size]
    for way in (mapped, ab.map_model(mapped.runner, "Minimal")):  # the most NPs, the fewest
        cells.append(f"{way.program_bytes} on {sum(way.nps.values())}")
    for milliseconds in (took.p50, took.p95, took.p99):
        cells.append(f"{milliseconds:.2f}")
    return cells


def tabulate_energy(run: lesson.Run, results: list[Result]) -> None:
    """Give the energy that was measured here, or say that none was, and published figures."""
    here = []
    for result in results:
        if result.report and result.report.energy:
            here.append(result.report.energy)
    rows: list[list[Any]] = []
    if not here:
        rows.append(["this network", ab.unmeasured(), "-", "-", "-", "-", "-"])
    for energy in (*here, *ab.PUBLISHED):
        name = energy.network.split(",")[0]
        source = energy.source.split(",")[0]
        cells = [name, source]
        for value in (energy.fps, energy.floor, energy.dynamic):
            cells.append(f"{value:.0f}")
        for value in (energy.floor_per_frame, energy.dynamic_per_frame):
            cells.append(f"{value:.2g}")
        rows.append(cells)
    columns = ["network", "source", "frames/s", "mW", "dyn.", "mJ", "dyn."]
    run.table("AKD1000 boards: power and energy of a frame, each floor and dynamic part", columns, rows)


# %% [markdown]
# ## 7. BrainChip's own road, and a trap
#
# BrainChip documents the same way for Keras: `quantizeml.models.quantize` rounds and
# calibrates, `model.fit` on its result is QAT, `cnn2snn.convert` makes the Akida model
# (lesson 16 shows the calls). From the same float network, the accuracies of both roads can
# be compared. They differ in one place, the threshold. In the Keras model a level begins
# *at* half a step; on the chip it begins *above* the threshold. So the threshold must be
# the last whole number below half a step: 6 for 6.7. But cnn2snn rounds: 7, one unit
# too high, for every second filter. With 4 bits nobody sees it; with 2 bits, where a level
# is some ten units, decisions change. (`mend_thresholds` puts it right, and is measured
# beside it.)
#
# **A catch.** Your Keras model has a layer in front of the last one that Akida has not, a
# layer normalisation, say. `check_model_compatibility` finds nothing, `convert` gives you a
# model, it saves and runs. Which number would tell you that something is wrong?
#
# Its number of outputs. cnn2snn drops what it cannot convert *from the end of the model*,
# with a warning among many: the layer normalisation and the classifier behind it are gone.
# `argmax` over the outputs still gives answers. So count layers and outputs.
#
# (Quick scale leaves this chapter out: TensorFlow alone takes half a minute to start, and
# the tables then say *not measured*. `--keras-epochs 1` takes it in.)


# %%
def keras_road(config: Config, run: lesson.Run, twin: Any, bits: str, train: Pair, test: Pair) -> Result:
    """Quantise, train on and convert as BrainChip documents it, from the same float network."""
    some = train[0][:CALIBRATION]
    model = ab.quantise_keras(twin, some, *BITS[bits])
    answers = keras_twin.logits(model, test[0]).argmax(1)
    ptq = share(answers, test[1])
    name = f"Keras {bits}".replace("/", "-")
    keras_twin.fit(run, name, model, *train, config.keras_epochs, RATES["Keras"])
    answers = keras_twin.logits(model, test[0]).argmax(1)
    result = Result("Keras", bits, ptq, share(answers, test[1]))
    converted = ab.convert_keras(model)
    decided = ab.predict(converted, test[0]).argmax(1)
    deploy(run, result, converted, (answers, decided), test)
    mended = keras_twin.mend_thresholds(converted)
    decided = ab.predict(mended, test[0]).argmax(1)
    same = share(decided, answers)
    run.measure(f"{result.road} {result.bits}: same, thresholds mended", same, "%")
    return result


def catch_truncation(run: lesson.Run, folded: ab.QuantNet, x: Tensor) -> None:
    """Catch: a layer that Akida has not, in front of the last: BrainChip's check passes, both are dropped."""
    model = keras_twin.quantise_trap(folded, x[:100])
    left = keras_twin.convert_silently(model)  # it warns, among much else, and gives a model
    run.measure("catch: layers left of 4", len(left.layers))
    run.measure("catch: outputs in place of 10", torch.Size(left.output_shape).numel())
    accepted = 0
    with suppress(UsageError):
        accepted = len(ab.convert_keras(model).layers)
    run.proof("catch: truncated models accepted", accepted, at_most=0)


def walk_keras_road(
    config: Config, run: lesson.Run, folded: ab.QuantNet, train: Pair, test: Pair
) -> list[Result]:
    """Take the Keras road with the first seed, where it is asked for and installed: it takes minutes."""
    if not (config.keras_epochs and keras_twin.available() and run.is_first_seed):
        return [Result("Keras", bits) for bits in KERAS_BITS]
    keras_twin.start(config.threads)
    twin = keras_twin.build(folded)
    some = test[0][:500]
    theirs = keras_twin.logits(twin, some)
    own = folded(some).detach().cpu()
    run.proof("Keras: float logits unlike PyTorch's", largest(theirs - own), at_most=1e-3)
    results = []
    for bits in KERAS_BITS:
        results.append(keras_road(config, run, twin, bits, train, test))
    catch_truncation(run, folded, train[0])
    return results


# %% [markdown]
# ## Going deeper: SpikeFit, or which numbers a weight may be
#
# Two bits make four codes; a symmetric grid uses three of them, evenly spaced. Must they be
# even? **SpikeFit** (2025) makes the allowed values themselves parameters: a layer has $M$
# values, each weight takes the nearest of them, and training moves both
# (*clusterisation-aware training*). The value a weight takes depends on the values by a
# plain lookup, which has a gradient; on the float weight it depends by "the nearest", a
# staircase again: straight through. SpikeFit also prunes connections whose spikes
# contribute little (judged by Fisher information: the mean square of a gradient, which says
# how much the loss hangs on a number), so that the network fits a chip's number of
# synapses. Chips that store a table of values for each core can run such weights; the
# AKD1000 cannot: its grid is even.
#
# The first step below puts $M = 4$ values where the weights are (k-means), the second
# trains both on. Activations stay float, so compare with "PTQ of weights alone, 2 bits".


# %%
def nearest_value(weight: Tensor, values: Tensor) -> Tensor:
    """Give for each weight [...] the number of the nearest of the values [M]."""
    return (weight[..., None] - values).abs().argmin(-1)


def look_up(weight: Tensor, values: Tensor) -> Tensor:
    """Give the values [M] that the weights [...] take; gradients go to both."""
    # exercise: look the values up, and let the weight's gradient straight through
    code = nearest_value(weight.detach(), values.detach())
    return values[code] + (weight - weight.detach())
    # end


class FewValues(nn.Module):
    """Weights that take one of a few values, which are learned (the core of SpikeFit)."""

    def __init__(self, weight: Tensor, number: int) -> None:
        super().__init__()
        start = torch.linspace(0.05, 0.95, number, device=weight.device)
        values = weight.flatten().quantile(start)
        for _ in range(20):  # k-means
            nearest = nearest_value(weight, values)
            for code in range(number):
                if (nearest == code).any():
                    values[code] = weight[nearest == code].mean()
        self.values = nn.Parameter(values)

    def forward(self, weight: Tensor) -> Tensor:
        """Give the values that the weights take."""
        return look_up(weight, self.values)


def learn_values(config: Config, run: lesson.Run, folded: ab.QuantNet, train: Pair, test: Pair) -> None:
    """Let each layer but the first have 4 values: placed by k-means, then trained for the QAT's epochs."""
    torch.manual_seed(run.seed)
    net = copy.deepcopy(folded)
    for part in net.parts[1:]:
        few = FewValues(part.weight.detach(), 4)
        nn.utils.parametrize.register_parametrization(part, "weight", few)
    found = {"k-means": accuracy(net, *test)}
    optimizer = torch.optim.Adam(net.parameters(), RATES["PyTorch"])
    for _ in range(config.qat_epochs):
        batches = torch.randperm(len(train[1])).split(128)
        for rows in run.progress(batches, "learned values"):
            x = train[0][rows].float()
            loss = cross_entropy(net(x), train[1][rows])
            optimizer.zero_grad()
            lesson.finite(loss).backward()
            optimizer.step()
    found["trained"] = accuracy(net, *test)
    beyond = 0
    for part in net.parts[1:]:
        distinct = len(part.weight.unique())
        beyond = max(beyond, distinct - 4)
    run.proof("values in a layer beyond 4", beyond, at_most=0)
    for name, value in found.items():
        run.measure(f"4 values a layer, {name}: accuracy", value, "%")
    run.say(
        f"Four values of its own for each layer: {found['k-means']:.1f} % where k-means puts them, "
        f"{found['trained']:.1f} % once they and the weights have learned."
    )


# %%
def load_clothes(run: lesson.Run, split: str, size: int) -> Pair:
    """Give Fashion-MNIST's images and labels."""
    images = data.load("fashion-mnist", split).subset(size)
    run.uses(images)
    return images.images.to(run.device), images.labels.to(run.device)


def main(config: Config, run: lesson.Run) -> None:
    train = load_clothes(run, "train", config.images)
    test = load_clothes(run, "test", config.images // 3)
    folded = train_float(config, run, train, test[0][:500])
    plain = accuracy(folded, *test)
    run.measure("float: accuracy", plain, "%", at_least=FLOAT_GOAL)
    look_at_rounding(run, folded)
    eight = measure_rounding(run, folded, test)
    prove_limits(config, run)
    results = []
    nets = {}
    for bits in BITS:
        result = Result("PyTorch", bits)
        if run.is_first_seed or bits in POINTS:  # a further seed: what the head gives a spread for
            result, nets[bits] = torch_road(config, run, folded, bits, train, test)
        results.append(result)
    prove_fake_quantisation(run, nets["8/4/4"], test[0][:20])  # of chapter 3, on a trained network
    if run.is_first_seed:
        draw_bits(run, nets, plain, results)
        say_bits(run, plain, results)
    if run.is_first_seed and ab.backend() != "absent":
        open_files(run, results)
    results += walk_keras_road(config, run, folded, train, test)
    judge(run, plain, eight, results)
    if run.is_first_seed:
        tabulate(run, results)
        learn_values(config, run, folded, train, test)  # going deeper


if __name__ == "__main__":
    lesson.start(main, Config, SCALES)
