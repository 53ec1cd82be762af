"""Lesson 10: convolutional SNN.

Question: What makes a deep spiking network trainable, and what do its depth and its time steps cost?
Reading:  Fang et al. (2021), SEW-ResNet, sec. 3 and 4; snnTorch tutorial 6.
Run:      python lessons/10_convolutional_snn.py
Expect:   78.2 ± 0.3 % of CIFAR-10 after 10 to 20 CPU minutes, at 2 time steps. After 6400 images, each seen
          once for one step: 33 plain layers get 9.1 % right or, with ATan, 10.4 % (chance: 10), 33 SEW layers
          25 or 34 %, Spiking ResNet 10 % with either (one seed). 3 seeds, 33 to 67 CPU minutes.
"""

# %% [markdown]
# Lesson 08 connected each neuron with each pixel. For pictures that is wasteful: an edge
# looks the same wherever it is. A *convolution* looks at a small window of the picture with
# the same few weights everywhere. This lesson puts convolutions in front of spiking
# neurons, stacks many of them, sees the stack fail, mends it, and trains it on CIFAR-10:
# colour pictures of 32 x 32 pixels, of ten kinds of things.
#
# In this lesson you
#
# 1. turn a picture into maps of spikes with one convolution and `snn.Leaky`,
# 2. stack layers until no error reaches the first one, and measure where it is lost,
# 3. lead spikes around two layers, and see why it matters *where* they join again,
# 4. train deep networks with and without that way around,
# 5. train the network that later lessons use, and look inside,
# 6. work out how much memory `[T, B, C, H, W]` needs, and what to give up if it is too
#    much.
#
# With `--dataset` the networks are trained on other images: `cifar100`, `emnist`, `kmnist`,
# `fashion-mnist`, `mnist`, or a folder of your own that holds a folder of pictures for each
# class. All become 32 by 32 pixels in three colours. The goals are those of CIFAR-10, and
# do not apply then; what looks at single steps keeps to CIFAR-10.

# %%
import sys
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from itertools import pairwise, product
from pathlib import Path
from typing import Annotated, Any

sys.path.insert(0, str(Path(globals().get("__file__", "any.py")).resolve().parents[1]))  # where snn_course is

from snn_course.runs import figures, lesson
from snn_course import UsageError, data
from snn_course.networks import neurons, training
from snn_course.networks.watch import Watch

import snntorch as snn
import torch
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

USUAL = "cifar10"  # the set that the goals are for
WRITTEN = ("mnist", "emnist", "kmnist")  # mirrored, a letter is none


@dataclass(frozen=True)
class Config(lesson.Config):
    dataset: str = USUAL
    """Set of images: cifar10, cifar100, mnist, fashion-mnist, emnist, kmnist, or a folder that holds a folder
    of pictures for each class."""

    images: Annotated[int, lesson.Range(1000, 50_000)] = 50_000
    """Number of training images."""

    epochs: Annotated[int, lesson.Range(1, 1000)] = 12
    """Passes over the training images: the last sixth with num_steps time steps, the others with one."""

    num_steps: Annotated[int, lesson.Range(1, 32)] = 2
    """Time steps for which the network sees an image."""

    width: Annotated[int, lesson.Range(4, 1024)] = 32
    """Channels of the first stage; each stage after it has twice as many as the one before."""

    blocks: Annotated[int, lesson.Range(1, 50)] = 1
    """Blocks of two convolutions in each of the three stages."""


SCALES: lesson.Scales = {
    "quick": {"images": 2000, "epochs": 3, "width": 16},
    "cpu": {"seeds": 3},
    "gpu": {"seeds": 3, "epochs": 60, "width": 128, "blocks": 2, "num_steps": 4},
}
BETA = 0.5
Run = lesson.Run
Images = data.Images
Curve = list[float]  # a value for each layer, block or epoch
L8, L9 = lesson.load(8), lesson.load(9)  # the race of lesson 08, the memory meter of lesson 09

# %% [markdown]
# ## 1. A convolution, then neurons
#
# The pattern is that of lesson 08, with `nn.Conv2d` in place of `nn.Linear`: weights first,
# then `snn.Leaky`. A picture is $[B, C, H, W]$: batch, channels (colours), rows, columns. A
# convolution with $K$ filters gives a current to each of $K \times H \times W$ neurons, so
# the membranes are a *map* $[B, K, H, W]$ as well, and so are the spikes of a step.
#
# How do convolution and time work together? They do not meet. The convolution knows only
# space: it turns the spikes of *this* step into currents of *this* step. The neuron knows
# only time: it adds up what the filter found *here*, over the last steps. A strong edge
# makes its neuron fire at every step; a weak one needs several steps to add up.
#
# An example with $\beta = 0.5$ and threshold 1, as here. A current of 1.2 crosses the
# threshold at the first step. One of 0.7 gives 0.7, then $0.5 \cdot 0.7 + 0.7 = 1.05$: the
# neuron fires at the second step. One of 0.4 gives 0.4, 0.6, 0.7, 0.75 and so on up to 0.8,
# and never fires. (The limit is the current divided by $1 - \beta$: lesson 01.)
#
# Three filters by hand, so that you know what they look for: light, edges from dark (left)
# to light (right), edges from dark (top) to light (bottom). Each is shown with its current
# and its spikes. Where in the picture do spikes come at once, and where only at the second
# or third step? (A pixel is a number from -2, black, to 2, white. The lines along the
# border are no edges of the picture: beyond it the convolution sees zeros, medium grey.)


# %%
SIDES = torch.tensor([-1.0, 0.0, 1.0])  # left, here, right
EDGES = torch.stack([SIDES, 2 * SIDES, SIDES])  # Sobel's filter [3, 3]
FILTERS = ("light", "edges, left-right", "edges, top-bottom")


def filters_by_hand() -> nn.Conv2d:
    """Make a convolution with three filters, each the same for all colours."""
    conv = nn.Conv2d(3, len(FILTERS), kernel_size=3, padding=1, bias=False)
    with torch.no_grad():
        conv.weight[0] = 1 / 9  # adds up what is bright in 3 x 3 pixels
        conv.weight[1] = EDGES / 5
        conv.weight[2] = EDGES.T / 5
    return conv


def show_picture(conv: nn.Conv2d, lif: snn.Leaky, x: Tensor, num_steps: int) -> Tensor:
    """Show still pictures [B, C, H, W] to a convolution with K filters, and neurons.

    Returns: the spikes of all steps [T, B, K, H, W].
    """
    # exercise: at each step, currents of the pictures, then spikes; record them
    mem = lif.reset_mem()
    spk_rec = []
    for _ in range(num_steps):
        cur = conv(x)  # [B, K, H, W]: a current for each neuron of each map
        spk, mem = lif(cur, mem)
        spk_rec.append(spk)
    return torch.stack(spk_rec)
    # end


@torch.no_grad()
def maps_of_spikes(run: Run, images: Images) -> None:
    """Run one convolution and snn.Leaky over one picture, and draw currents and spikes."""
    x = training.pixels(images.images[:1]).contiguous()  # [1, 3, 32, 32], numbers -2 to 2
    conv = filters_by_hand()
    lif = snn.Leaky(beta=BETA)
    spikes = show_picture(conv, lif, x, num_steps=4)[:, 0]  # [T, 3, 32, 32]
    cur = conv(x)[0]  # [3, 32, 32]
    name = images.classes[int(images.labels[0])]
    draw_maps(run, images.images[0], name, cur, spikes)


def draw_maps(run: Run, picture: Tensor, name: str, cur: Tensor, spikes: Tensor) -> None:
    """Draw a picture, and for each filter the current [3, H, W] and the spikes of each step [T, 3, H, W]."""
    rates = 100 * spikes.mean((0, 2, 3))  # of each filter
    told = ", ".join(f"{rate:.0f} %" for rate in rates)
    fig, axes = figures.new(
        f"Three filters on a picture ({name}): they fire in {told} of neurons and steps",
        rows=len(FILTERS),
        columns=2 + len(spikes),
        size=(10.5, 5.4),
    )
    for ax in axes:
        ax.set(xticks=[], yticks=[])
    grid = axes.reshape(len(FILTERS), -1)
    for row, label in enumerate(FILTERS):
        grid[row, 0].imshow(picture.permute(1, 2, 0))
        grid[row, 0].set_ylabel(label)
        grid[row, 1].imshow(cur[row], vmin=-2, vmax=2)
        for step, spk in enumerate(spikes):
            ax = grid[row, 2 + step]
            ax.imshow(spk[row], cmap="gray_r", vmin=0, vmax=1)
    grid[0, 0].set_title("picture")
    grid[0, 1].set_title("current, -2 to 2")
    for step in range(len(spikes)):
        grid[0, 2 + step].set_title(f"spikes, step {step + 1}")
    run.figure(fig, "maps")
    early = spikes[0] > 0
    silent = spikes.sum(0) == 0
    late = ~early & ~silent
    run.say(
        f"{int(early.sum())} neurons fire at the first step; {int(late.sum())} more have a weaker current "
        f"and fire only after some steps; {int(silent.sum())} stay silent."
    )


# %% [markdown]
# Since the convolution knows nothing of time, lesson 08's trick works here too: fold time
# into the batch, $[T, B, C, H, W] \to [T \cdot B, C, H, W]$, one large convolution for all
# steps, then unfold, then the neurons. (4 steps of 64 pictures become a batch of 256. To
# the convolution they are 256 pictures that have nothing to do with each other; only the
# neurons know which of them follow one another.)
#
# `Layer` below does it, with one thing more: *batch norm* brings the currents of each
# channel to mean 0 and spread 1, so that some of them reach the threshold of 1, however
# deep the layer lies: of numbers that lie around 0 as a bell, about a sixth are above 1.
# Without it, deep layers would soon be silent. Mean and spread are taken over pictures,
# places and steps. A trained network takes those that it remembers from training; what is
# left of batch norm is then a factor and a shift for each channel, which a chip can have in
# its weights (lesson 12).
#
# A still picture $[B, C, H, W]$ is convolved once and its current shown at each step. The
# layer keeps no state between two calls: its neurons begin at 0 each time, and there is
# nothing to reset.


# %%
class Leaky(neurons.Leaky):
    """The leaky neurons of lesson 08, from currents [T, B, ...] to spikes [T, B, ...]."""

    def forward(self, cur: Tensor) -> Tensor:  # type: ignore[override]
        """Give the spikes alone, in cur's type."""
        spk, _ = super().forward(cur)
        return spk


class Layer(nn.Module):
    """Convolution, batch norm, neurons: spikes [T, B, C, H, W] -> [T, B, C2, H / stride, W / stride]."""

    def __init__(self, inputs: int, outputs: int, neuron: Any, kernel: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.neuron = neuron()

    def currents(self, x: Tensor, num_steps: int = 1) -> Tensor:
        """Give the currents of spikes [T, B, C, H, W], or of a picture [B, C, H, W] shown ``num_steps``."""
        # exercise: fold time into the batch, convolve, normalise; unfold, or show the still one T times
        folded = x.flatten(0, -4)  # all axes before C, H, W in one: [T * B, C, H, W], or [B, C, H, W]
        cur = self.norm(self.conv(folded))  # [T * B, C2, H2, W2]
        if x.dim() == 4:  # still
            return cur.expand(num_steps, *cur.shape)
        return cur.unflatten(0, x.shape[:2])
        # end

    def forward(self, x: Tensor, num_steps: int = 1) -> Tensor:
        """Give the spikes of what ``currents`` takes."""
        return self.neuron(self.currents(x, num_steps))


def folded_equals_loop(run: Run) -> None:
    """Compare a layer, all steps at once, with snnTorch step by step, on pictures that move."""
    layer = Layer(3, 8, Leaky).double().eval()
    nn.init.constant_(layer.norm.bias, 0.8)  # currents that let neurons fire
    x = torch.randn(6, 2, 3, 16, 16, dtype=torch.float64)  # [T, B, C, H, W]
    lif = snn.Leaky(beta=0.9).double()  # the beta of Leaky where none is given
    mem = lif.reset_mem()
    spk_rec = []
    for x_t in x.unbind(0):
        cur = layer.norm(layer.conv(x_t))
        spk, mem = lif(cur, mem)
        spk_rec.append(spk)
    wrong = layer(x) != torch.stack(spk_rec)
    run.proof("folded = step by step: spikes", int(wrong.sum()), at_most=0)


# %% [markdown]
# ## 2. Deep and plain
#
# Each layer sees a window of the layer before, so the deeper it lies, the more of the
# picture it sees: edges, then corners, then wheels. Depth should help. `Net` is a *stem*
# and three *stages*. The stem and each new stage halve the picture and the stages double
# the channels; in a stage there are *blocks* of two layers each. At the end stands a linear
# read-out of how often each channel fired. With `"plain"`, `join` does nothing to a block:
# the network is a simple chain of layers. What else it can do comes in chapter 3.
#
# To halve a map, the filter takes two pixels at a step (a *stride* of 2), and the neurons
# behind it send spikes as ever. snnTorch's tutorial 6 *pools* instead: the largest of four
# spikes is still 0 or 1; their mean would be 0, 1/4, ... 1, and no spike any more.
#
# With 32 channels, of a picture of 32 x 32 pixels in 3 colours:
#
# | part | map | channels | neurons |
# |---|---|---|---|
# | stem | 16 x 16 | 32 | 8192 |
# | blocks of stage 1: two layers each | 16 x 16 | 32 | 8192 a layer |
# | a layer that halves the picture | 8 x 8 | 64 | 4096 |
# | blocks of stage 2 | 8 x 8 | 64 | 4096 a layer |
# | a layer that halves the picture | 4 x 4 | 128 | 2048 |
# | blocks of stage 3 | 4 x 4 | 128 | 2048 a layer |
# | read-out of 128 firing rates | | 10 | none |
#
# So $n$ blocks a stage make $3 + 6n$ layers of neurons: 9 with one block, 33 with five.


# %%
class Block(nn.Module):
    """Two layers, the branch, and a way around them, for spikes [T, B, C, H, W]."""

    def __init__(self, channels: int, neuron: Any, join: str) -> None:
        super().__init__()
        self.first = Layer(channels, channels, neuron)
        self.second = Layer(channels, channels, neuron)
        self.join = join

    def forward(self, spk: Tensor) -> Tensor:
        """Join both ways."""
        inner = self.first(spk)
        # exercise: "resnet" adds the spikes to the second layer's currents; all others join its spikes
        if self.join == "resnet":
            return self.second.neuron(self.second.currents(inner) + spk)  # add, then fire
        return JOINS[self.join](spk, self.second(inner))  # fire, then join
        # end


class Net(nn.Module):
    """A stem and ``stages`` stages of ``blocks`` blocks; the stem and each further stage halve the picture.

    Of pictures of 32 x 32, the stages have 16 x 16, 8 x 8 and 4 x 4 neurons in each of ``width``, 2 ``width``
    and 4 ``width`` channels. ``block`` is "resnet" or one of ``JOINS``. A still image is shown for
    ``num_steps``; set it at any time. ``options`` are those of ``Leaky``: beta, threshold, surrogate.
    ``neuron`` makes others, from currents [T, B, ...] to outputs of that shape: ``nn.ReLU`` with num_steps 1
    is the ANN twin.
    """

    def __init__(
        self,
        width: int = 32,
        blocks: int = 1,
        block: str = "sew",
        stages: int = 3,
        in_channels: int = 3,
        classes: int = 10,
        num_steps: int = 2,
        neuron: Callable[[], nn.Module] | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        options.setdefault("beta", BETA)
        make = neuron or partial(Leaky, **options)
        self.num_steps = num_steps
        self.stem = Layer(in_channels, width, make, kernel=5, stride=2)
        parts: list[nn.Module] = []
        channels = width
        for stage in range(stages):
            if stage > 0:
                parts.append(Layer(channels, 2 * channels, make, stride=2))
                channels *= 2
            for _ in range(blocks):
                parts.append(Block(channels, make, block))
        self.body = nn.Sequential(*parts)
        self.readout = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Give scores [B, classes] of still images [B, C, H, W], or of sequences [T, B, C, H, W]."""
        spk = self.body(self.stem(x, self.num_steps))  # [T, B, C, H, W]
        rates = spk.mean((0, 3, 4))  # [B, C]: over time and the picture
        return self.readout(rates)

    def layers(self) -> list[Layer]:
        """Give all layers with neurons, from the input on."""
        return [module for module in self.modules() if isinstance(module, Layer)]

    def record(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Give the scores [B, classes], and the spikes [T, B, C, H, W] of each of ``layers()``."""
        spikes: list[Tensor] = []

        # A hook is called with what a module gives, each time it runs: forward stays as it is.
        def keep(module: nn.Module, inputs: Any, spk: Tensor) -> None:
            spikes.append(spk)

        hooks = [layer.neuron.register_forward_hook(keep) for layer in self.layers()]
        scores = self(x)
        for hook in hooks:
            hook.remove()
        return scores, spikes


# %% [markdown]
# Now the way back. The error passes each layer from its spikes to its currents (times the
# slope $h$ of the surrogate, lesson 07), and from its currents to the spikes before (times
# the weights). For layer 1 of $D$ layers and the loss $L$, leaving time aside:
#
# $$\frac{\partial L}{\partial S_1}
# = \Big(\prod_{l=2}^{D} W_l^T\,h(U_l - U_{thr})\Big) \frac{\partial L}{\partial S_D}$$
#
# So it is a product of many factors. If a typical factor is 0.5, ten layers leave
# $0.5^{10}$, a thousandth: the gradient **vanishes**. If it is 2, it grows a thousandfold:
# it **explodes** (lesson 07 saw that through time; the networks below show the other). An
# ordinary network with ReLU has a slope of exactly 1 where a unit is active, so with good
# weights the factor stays near 1. A surrogate has its largest slope at the threshold, here
# 1, and much less elsewhere. With the narrow one of snnTorch's tutorial 6 (fast sigmoid, $k
# = 25$) a membrane one threshold away has a slope of $1/26^2$. That is why deep *vanilla*
# SNNs, plain chains of layers, fail: forward nothing warns you, and the first layers never
# learn.
#
# We measure it: the size of each layer's weight gradient in a fresh network, for one batch.
# A ratio of 0 in the figure: the gradient was too small for a 4-byte number. (Adam divides
# each gradient by its usual size, so a small one alone would not stop it. But it adds
# $10^{-8}$ to that size, so as not to divide by 0. Beside a gradient of $10^{-14}$ this is
# large: the step is then a millionth of what the learning rate asks for.)


# %%
DEPTHS = {"quick": (1, 3), "cpu": (1, 5), "gpu": (1, 5)}  # blocks in a stage, of both networks
TRIAL_WIDTH = {"quick": 8, "cpu": 16, "gpu": 16}
TRIAL_IMAGES = {"quick": 192, "cpu": 6400, "gpu": 50_000}  # to train with, each seen once
TRIAL_TESTS = {"quick": 200, "cpu": 2000, "gpu": 2000}  # to test with
TRIAL_STEPS = 1  # time steps: the depth is what is asked for here, and a second step costs as much again
SURROGATES: dict[str, neurons.Surrogate] = {
    "fast sigmoid": neurons.fast_sigmoid(25),
    "ATan": neurons.atan(2),
}  # tutorial 6; this course


def step(net: Net, x: Tensor, y: Tensor, bf16: bool = False) -> None:
    """Leave the gradients of one batch, of still images [B, C, H, W] or of sequences, in the parameters."""
    net.zero_grad()
    with training.autocast(x.device, bf16):
        scores = net(x)
    cross_entropy(scores.float(), y).backward()


def gradient_norms(net: Net, x: Tensor, y: Tensor) -> Curve:
    """Give the size of the gradient of each layer's weights, from the first layer on."""
    step(net, x, y)
    norms = []
    for layer in net.layers():
        grad = layer.conv.weight.grad
        assert grad is not None
        norms.append(grad.norm().item())
    return norms


def fresh(run: Run, blocks: int, block: str, surrogate: str, classes: int = 10) -> Net:
    """Make an untrained network of the comparison, always from the same random numbers."""
    torch.manual_seed(run.seed)
    net = Net(
        TRIAL_WIDTH[run.scale],
        blocks,
        block,
        classes=classes,
        num_steps=TRIAL_STEPS,
        surrogate=SURROGATES[surrogate],
    )
    return net.to(run.device)


def vanishing(run: Run, x: Tensor, y: Tensor) -> None:
    """Measure the gradient of each layer in plain networks of two depths, and draw it."""
    depths = DEPTHS[run.scale]
    fig, axes = figures.new("", columns=2, size=(9.5, 3.4), sharey=True)
    told = []
    for surrogate, ax in zip(SURROGATES, axes, strict=True):
        for blocks, style in zip(depths, ("--", "-"), strict=True):
            net = fresh(run, blocks, "plain", surrogate)
            norms = gradient_norms(net, x, y)
            draw_by_layer(ax, norms, style, figures.ORANGE, f"{len(norms)} layers")
        told.append(f"{surrogate} {norms[0] / norms[-1]:.0e}")
        ax.set(yscale="log", title=surrogate, xlabel="layer")
        ax.legend()
    axes[0].set_ylabel("gradient of the weights, norm")
    title = f"Plain: gradient of layer 1 over that of layer {len(norms)}: " + "; ".join(told)
    figures.retitle(fig, title)
    run.figure(fig, "vanishing")


def draw_by_layer(ax: Axes, values: Curve, style: str, colour: str, label: str = "") -> None:
    """Draw a value for each layer; layers are counted from 1, in whole numbers."""
    layers = range(1, len(values) + 1)
    ax.plot(layers, values, style, color=colour, label=label)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    _, right = ax.get_xlim()
    ax.set_xlim(0.5, max(right, len(values) + 0.5))


# %% [markdown]
# You need not measure it by hand. `training.fit`, with which this course trains from here
# on, looks at one training step in each epoch, and prints a line if a layer never fires,
# always fires, or if spikes or gradient do not get through. Here is that look, `Watch`, on
# the deep network with the narrow surrogate, plain and with the way around of the next
# chapter. It names the layer.


# %%
def watch_depth(run: Run, x: Tensor, y: Tensor) -> None:
    """Let the watch of training.fit look at one step of deep networks."""
    depths = DEPTHS[run.scale]
    for block in ("plain", "sew"):
        net = fresh(run, depths[-1], block, "fast sigmoid")
        with Watch(net) as watch:
            step(net, x, y)
        kind, line = watch.finding()
        run.say(f"Watch, {block}, {len(net.layers())} layers: {line or 'nothing found'}")
        run.measure(f"watch, {block}: warns of the gradient", int(kind == "gradient"))


# %% [markdown]
# ## 3. A way around, and where it joins
#
# Ordinary networks (*ANNs*) met this problem in 2015 and solved it with *residual*
# connections: the input of a block also goes around it, and is added at the end. If the
# branch is idle (gives 0), the block hands its input on as it is: it is the **identity**.
# So a network with more blocks can do all that one with fewer does, and the error has a way
# back on which nothing is multiplied.
#
# For spikes there are two places to add. Let $S$ be the spikes that come in, $F(S)$ the
# currents of the branch, $SN$ a layer of neurons.
#
# $$\text{Spiking ResNet:}\quad O = SN(F(S) + S) \qquad\text{add, then fire}$$
#
# $$\text{SEW ResNet:}\quad O = SN(F(S)) + S \qquad\text{fire, then add}$$
#
# The first copies the ANN: the sum, then the activation. With ReLU that works, since
# $ReLU(S) = S$ for $S \ge 0$. A spiking neuron is no identity. A spike of 1 into a neuron
# with threshold 1 does not lift it *above* the threshold. Half of it is left at the next
# step ($\beta = 0.5$), and a second spike that comes then makes 1.5: the neuron fires, a
# step late. A spike alone is lost.
#
# With a threshold of 0.5 a spike passes at once, and even leaves nothing behind: at the
# next step 1 has decayed to 0.5, and the reset takes 0.5 away. But on the way back the
# error still passes the slope $h$ of that neuron, in each block: the product is back.
#
# SEW (*spike-element-wise*, Fang et al. 2021, sec. 3) moves the sum behind the neurons. An
# idle branch then gives $O = S$ exactly, for any neuron, and each output passes its
# gradient on to its input with a factor of exactly one. (The stem and the two layers that
# halve the picture have no way around: what comes out has another shape. So three factors
# are left, however many blocks there are.)
#
# Adding (ADD) is one way to join two spikes. With $S$ from the way around and $A$ from the
# branch, the paper has three:
#
# | join | $O$ | values | identity if the branch |
# |---|---|---|---|
# | ADD | $S + A$ | 0, 1, 2, ... | never fires |
# | IAND | $S\,(1 - A)$ | 0 and 1 | never fires |
# | AND | $S\,A$ | 0 and 1 | always fires |
#
# AND and IAND keep spikes 0 or 1. ADD makes 2s and 3s (each block can add 1), which a chip
# must be able to send. In the code ADD is called `"sew"`, as the network of this lesson
# uses it.


# %%
def add(spk: Tensor, branch: Tensor) -> Tensor:
    """ADD: sum of both."""
    return spk + branch


def and_not(spk: Tensor, branch: Tensor) -> Tensor:
    """IAND: a spike came in, and none from the branch."""
    return spk * (1 - branch)


def both(spk: Tensor, branch: Tensor) -> Tensor:
    """AND: the identity if the branch always fires."""
    return spk * branch


def branch_alone(spk: Tensor, branch: Tensor) -> Tensor:
    """No way around the branch."""
    return branch


Join = Callable[[Tensor, Tensor], Tensor]  # of the spikes that came in, and the spikes of the branch
JOINS: dict[str, Join] = {
    "sew": add,
    "iand": and_not,
    "and": both,
    "plain": branch_alone,
}
IDLE = {"sew": 0.0, "iand": 0.0, "and": 2.0, "plain": 0.0}  # current of a branch that never, or always, fires


def idle_block(run: Run, join: str, current: float, neuron: Any) -> Block:
    """Make a block whose branch gives the same current to each neuron, whatever comes in."""
    block = Block(8, neuron, join).to(run.device)
    nn.init.zeros_(block.second.norm.weight)
    nn.init.constant_(block.second.norm.bias, current)
    return block


def random_spikes(run: Run, num_steps: int) -> Tensor:
    """Draw spikes [T, 4, 8, 6, 6] that a gradient can be asked for."""
    chance = torch.rand(num_steps, 4, 8, 6, 6, device=run.device)
    return (chance < 0.3).float().requires_grad_()


def largest(error: Tensor) -> float:
    """Give the largest error, whatever its sign."""
    return error.abs().max().item()


def prove_identity(run: Run) -> None:
    """Idle branch: a SEW block hands on spikes and gradients as they are, to the last bit."""
    spk = random_spikes(run, num_steps=2)
    for join, current in IDLE.items():
        block = idle_block(run, join, current, Leaky)
        out = block(spk)
        (grad,) = torch.autograd.grad(out.sum(), spk)
        changed = largest(out - spk)
        bent = largest(grad - 1)
        if join == "plain":
            wrong = changed + bent  # no spike comes out, where 1 came in; no gradient, where it is 1
            run.measure("catch: plain, idle branch: error", wrong, at_least=2)
        else:
            run.proof(f"{join}, idle branch = identity", changed + bent, at_most=0)


# %% [markdown]
# Now both joins, drawn, and in numbers: spikes go through a chain of idle blocks. How many
# come out at the place and step where they went in, and how much of the gradient comes
# back? (A chain of idle blocks computes nothing. It is the cleanest test of a way around:
# what is lost there was lost on the way around itself, and not in a branch.)
#
# Two surrogates are tried, since the way back of `resnet` depends on their slope at the
# membrane where a spike ends up, and that of `sew` does not. In the gradient's figure, a
# straight line on the logarithmic axis is a product: the same factor at each block.
#
# **A catch.** Someone builds a Spiking ResNet with threshold 0.5 and tests it as we tested
# SEW: idle blocks hand on every spike. So it is the identity, and deep networks should
# train. Which number would tell otherwise? Find the orange line in both panels: the spikes
# are all there (it lies under the blue one), and the gradient is not. A test of the way
# forward says nothing of the way back.


# %%
CHAIN = 10  # idle blocks in a row
CASES: dict[str, tuple[str, float, str]] = {  # join and threshold
    "resnet, threshold 1": ("resnet", 1.0, figures.RED),
    "resnet, threshold 0.5": ("resnet", 0.5, figures.ORANGE),
    "sew": ("sew", 1.0, figures.BLUE),
}
WIDE = {"resnet": 4.0, "sew": 1.5}  # of lines, so that one over the other can be seen


def idle_chain(run: Run, join: str, neuron: Any) -> tuple[Curve, Curve]:
    """Send spikes through idle blocks. Returns: spikes kept in %, mean gradient, after 0, 1, 2... blocks."""
    torch.manual_seed(run.seed)
    spk = random_spikes(run, num_steps=8)
    kept = [100.0]
    gradient = [1.0]
    out = spk
    for _ in range(CHAIN):
        out = idle_block(run, join, 0.0, neuron)(out)
        (grad,) = torch.autograd.grad(out.sum(), spk, retain_graph=True)
        same = (out > 0) & (spk > 0)
        share = same.sum() / spk.sum()
        kept.append(100 * share.item())
        gradient.append(grad.mean().item())
    return kept, gradient


def compare_joins(run: Run) -> None:
    """Compare adding before and after the neurons, in idle blocks; draw both blocks and the numbers."""
    widths = (2.2, 1, 1)
    fig, axes = figures.new("", columns=3, size=(14.5, 3.8), width_ratios=widths)
    drawing, left, right = axes
    draw_blocks(drawing)
    ends: dict[str, float] = {}
    for name, (join, threshold, colour) in CASES.items():
        for surrogate, style in {"fast sigmoid": "-", "ATan": "--"}.items():
            neuron = partial(Leaky, BETA, threshold, surrogate=SURROGATES[surrogate])
            kept, gradient = idle_chain(run, join, neuron)
            case = f"{name}, {surrogate}"
            draw_after_blocks(right, gradient, style, colour, case)
            run.measure(f"{case}: gradient left", gradient[-1])
        draw_after_blocks(left, kept, "-", colour, name, width=WIDE[join])
        ends[name] = kept[-1]  # forward, the surrogate has no part
    run.measure("sew: spikes kept", ends["sew"], "%", at_least=100)
    left.set(ylabel="spikes kept, %", ylim=(-3, 103))
    right.set(ylabel="gradient, mean", yscale="log")
    figures.legend_outside(right, fontsize=7)
    figures.retitle(fig, title_of_joins(ends))
    run.figure(fig, "joins")


def title_of_joins(ends: dict[str, float]) -> str:
    """Say how many spikes each join hands on through idle blocks, in %."""
    told = ", ".join(f"{kept:.0f} % ({name})" for name, kept in ends.items())
    return f"Spikes kept after {CHAIN} idle blocks: {told}"


def draw_after_blocks(
    ax: Axes, values: Curve, style: str, colour: str, label: str, width: float = 1.5
) -> None:
    """Draw a value after 0, 1, 2... blocks."""
    ax.plot(values, style, color=colour, label=label, lw=width)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel("idle blocks")


WIRE: dict[str, Any] = {"arrowstyle": "->", "lw": 1.4}
MIDDLE: dict[str, Any] = {"ha": "center", "va": "center"}
RESNET = ("S", "conv\nnorm", "neurons", "conv\nnorm", "+", "neurons", "O")
SEW = ("S", "conv\nnorm", "neurons", "conv\nnorm", "neurons", "+", "O")


def draw_blocks(ax: Axes) -> None:
    """Draw a block of each kind, one above the other."""
    draw_chain(ax, 1.0, "Spiking ResNet: add, then fire", RESNET)
    draw_chain(ax, 0.0, "SEW: fire, then add", SEW)
    ax.set_xlim(-0.4, 6.4)
    ax.set_ylim(-0.4, 1.75)
    ax.axis("off")


def draw_chain(ax: Axes, y: float, name: str, parts: tuple[str, ...]) -> None:
    """Draw the parts of a block in a row, and the way around from S to the plus."""
    for place, part in enumerate(parts):
        colour = figures.ORANGE if part == "neurons" else figures.GREY
        frame = {"boxstyle": "round,pad=0.3", "fc": "white", "ec": colour, "lw": 1.5}
        ax.text(place, y, part, fontsize=7.5, bbox=frame, **MIDDLE)
        if place > 0:
            begin = place - 0.68
            end = place - 0.32
            ax.annotate("", (end, y), (begin, y), arrowprops=WIRE)
    plus = parts.index("+")
    around = WIRE | {"connectionstyle": "arc3,rad=-0.25", "color": figures.BLUE}
    above = y + 0.13
    ax.annotate("", (plus, above), (0, above), arrowprops=around)
    ax.text(0, y + 0.55, name, fontsize=8.5)


# %% [markdown]
# ## 4. With and without, trained
#
# Now the same comparison in training: two depths, two surrogates, one short training each,
# always with the same batches. `plain` has no way around, `sew` adds after the neurons, and
# the deep network also runs as `resnet`. (That makes ten networks, trained with the first
# seed alone. They see each picture once, for one time step: enough to tell who learns at
# all, not to tell how far they get. At quick scale, a few pictures teach none of them: look
# at the gradients alone.)
#
# In the figure, above: the gradient of each layer before training. Below: how many neurons
# fire after it. Where the gradient is gone, does the layer ever change? Two things are at
# work in plain networks: the gradient, which a wider surrogate (ATan) can save, and the
# signal itself, which many layers of spikes blur. The table tells them apart: look for a
# row with a fair gradient in the first layer that still learns little. What a gradient is
# worth depends on what the layer's spikes say, and a gradient that is there says nothing of
# that.


# %%
@dataclass(frozen=True)
class Trial:
    """One network of the comparison."""

    norms: Curve
    """Size of each layer's gradient, before training."""
    fires: Curve
    """Share of each layer's neurons that fire at a step, after training, in %."""
    accuracy: float
    """On test images, in %."""

    @property
    def share(self) -> float:
        """The first layer's gradient over the last one's."""
        return self.norms[0] / self.norms[-1]


Trials = dict[tuple[str, str, int], Trial]  # by surrogate, block, number of layers
Sets = tuple[Images, Images]  # to train on, to test on


def compare_depths(config: Config, run: Run, sets: Sets) -> Trials:
    """Train plain and residual networks of two depths, with two surrogates."""
    depths = DEPTHS[run.scale]
    cases = list(product(SURROGATES, depths, ("plain", "sew")))
    for surrogate in SURROGATES:
        cases.append((surrogate, depths[-1], "resnet"))
    train = sets[0].subset(TRIAL_IMAGES[run.scale])
    test = sets[1].subset(TRIAL_TESTS[run.scale])
    results: Trials = {}
    rows = []
    for surrogate, blocks, block in cases:
        net = fresh(run, blocks, block, surrogate, len(train.classes))
        layers = len(net.layers())
        name = f"{surrogate}, {block}, {layers}"
        trial = try_out(config, run, name, net, (train, test))
        results[surrogate, block, layers] = trial
        first, *_, last = trial.fires
        rows.append([name, trial.share, trial.accuracy, first, last])
    columns = ["surrogate, block, layers", "gradient 1st/last", "accuracy, %", "fire, 1st", "last, %"]
    chance = 100 / len(train.classes)
    run.table(f"Plain against SEW (chance: {chance:.3g} %)", columns, rows)
    judge_depths(config, run, results)
    draw_depth(run, results)
    return results


def augment_for(config: Config) -> training.Batch:
    """Choose how to change the bytes [B, C, H, W] of a batch: mirrored and shifted, or writing as it is."""
    return torch.clone if config.dataset in WRITTEN else training.flip_and_shift


def try_out(config: Config, run: Run, name: str, net: Net, sets: Sets) -> Trial:
    """Measure a network's gradient, train it for one short epoch, and test it."""
    train, test = sets
    x = training.pixels(train.images[:64].to(run.device))
    y = train.labels[:64].to(run.device)
    norms = gradient_norms(net, x, y)
    recipe = training.Recipe(epochs=1, batch=32, augment=augment_for(config))
    training.fit(run, name, net, train.images, train.labels, recipe)
    accuracy = training.evaluate(net, test.images, test.labels)
    _, spikes = net.eval().record(x)
    fires = [100 * spk.mean().item() for spk in spikes]
    return Trial(norms, fires, accuracy)


def deepest(results: Trials) -> int:
    """Give the number of layers of the deepest network."""
    return max(layers for _, _, layers in results)


def judge_depths(config: Config, run: Run, results: Trials) -> None:
    """Measure what a way around changes in the deep networks, with the first surrogate."""
    surrogate = next(iter(SURROGATES))
    layers = deepest(results)
    plain = results[surrogate, "plain", layers]
    sew = results[surrogate, "sew", layers]
    usual = config.dataset == USUAL
    lost = 1e-6 if usual else None
    kept = 1e-4 if usual else None
    points = {"cpu": 5, "gpu": 5} if usual else None
    run.measure(f"{surrogate}, plain, {layers}: gradient 1st/last", plain.share, at_most=lost)
    run.measure(f"{surrogate}, sew, {layers}: gradient 1st/last", sew.share, at_least=kept)
    better = sew.accuracy - plain.accuracy
    run.measure("points by which SEW is better there", better, at_least=points)
    told = []
    for block in ("plain", "resnet", "sew"):
        for name in SURROGATES:
            accuracy = results[name, block, layers].accuracy
            told.append(f"{block} with {name} {accuracy:.1f} %")
    run.say(f"{layers} layers: {', '.join(told)}.")


def title_of_depth(results: Trials) -> str:
    """Say for the deep networks how much smaller the first layer's gradient is than the last one's."""
    deep = deepest(results)
    told = []
    for (name, block, layers), trial in results.items():
        if layers == deep:
            told.append(f"{name}, {block} {trial.share:.0e}")
    return f"Gradient of layer 1 over that of layer {deep}: " + "; ".join(told)


BLOCK_COLOURS = {"plain": figures.ORANGE, "sew": figures.BLUE, "resnet": figures.RED}


def draw_depth(run: Run, results: Trials) -> None:
    """Draw by layer: gradient norm before training, firing rate after it."""
    fig, axes = figures.new(
        title_of_depth(results),
        rows=2,
        columns=2,
        size=(10.5, 6.8),
        sharey="row",
    )
    names = list(SURROGATES)
    for (name, block, layers), trial in results.items():
        place = names.index(name)
        upper = axes[place]
        lower = axes[2 + place]
        style = "--" if layers < 10 else "-"
        colour = BLOCK_COLOURS[block]
        label = f"{block}, {layers}: {trial.accuracy:.0f} %"
        draw_by_layer(upper, trial.norms, style, colour, label)
        draw_by_layer(lower, trial.fires, style, colour)
        upper.set_title(f"{name}: gradient of the weights, before training")
        upper.set(yscale="log", ylabel="norm")
        lower.set_title("After training")
        lower.set(xlabel="layer", ylabel="neurons that fire at a step, %")
        upper.legend(title="layers: test accuracy", fontsize=8)
    run.figure(fig, "depth")


# %% [markdown]
# ## 5. The network of this lesson
#
# Now in earnest: SEW blocks, one in each stage, on CIFAR-10. To save time, most epochs show
# a picture for *one* step, and only the last sixth for `num_steps`. The weights are the
# same; they only have to get used to neurons that remember. (At one step a neuron has
# nothing to remember: it compares its current with its threshold, and that is all. It is a
# network of zeros and ones, trained with a surrogate.) `training.fit` takes AdamW with a
# rate that rises and falls (lesson 09), mirrors and shifts the pictures (so that one is
# rarely seen twice as it was), and `channels_last` and bf16 are speed (*Going deeper*).
#
# The table then asks: trained with that many steps, what do more or fewer steps give? Each
# step more costs as many spikes again. What does it buy? (It can be asked of one trained
# network, since weights know nothing of time: lesson 08. But batch norm has learnt means of
# the steps it has seen.)


# %%
def train(config: Config, run: Run, sets: Sets) -> tuple[Net, Any]:
    """Train the network of the headline. Returns: it, and loss, CPU seconds and accuracy by epoch."""
    torch.manual_seed(run.seed)
    images, test = sets
    net = Net(config.width, config.blocks, classes=len(images.classes)).to(run.device)
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def at_epoch(epoch: int) -> None:
        net.num_steps = config.num_steps if epoch >= 5 * config.epochs // 6 else 1

    def check() -> float:  # only to watch
        return training.evaluate(net, test.images[:2000], test.labels[:2000])

    recipe = training.Recipe(
        config.epochs,
        batch=64,
        rate=5e-3,
        augment=augment_for(config),
        at_epoch=at_epoch,
    )
    history = training.fit(run, "net", net, images.images, images.labels, recipe, check)
    state = {"net": net.state_dict(), "width": config.width, "blocks": config.blocks}
    run.keep("net", state)
    return net, history


def train_and_judge(config: Config, run: Run, sets: Sets) -> Net:
    """Train the network, test it, and draw its way."""
    net, history = train(config, run, sets)
    minutes = history[-1]["seconds"] / 60
    goal = {"cpu": 20} if config.dataset == USUAL else None
    run.measure("training", minutes, "CPU min", at_most=goal, speed=True)
    accuracy = judge(config, run, net, sets[1])
    if run.is_first_seed:  # a further seed gives the headline its spread, no more
        compare_steps(config, run, net, sets[1], accuracy)
        draw_training(run, history, accuracy, sets[1].name)
    return net


def judge(config: Config, run: Run, net: Net, test: Images) -> float:
    """Measure the trained network on the test images. Returns: accuracy in %."""
    accuracy = accuracy_at(net, test, config.num_steps)
    goals = {"quick": 20, "cpu": 75, "gpu": 90} if config.dataset == USUAL else None
    run.measure("test accuracy, mean read-out", accuracy, "%", at_least=goals, headline=True)
    return accuracy


def accuracy_at(net: Net, test: Images, num_steps: int) -> float:
    """Show the test images for ``num_steps``, and leave the network so. Returns: accuracy in %."""
    net.num_steps = num_steps
    at_once = 1000 // num_steps  # pictures: those of all steps then stay in the cache
    return training.evaluate(net, test.images, test.labels, batch=at_once)


@torch.no_grad()
def compare_steps(config: Config, run: Run, net: Net, test: Images, accuracy: float) -> None:
    """Ask the trained network, of that accuracy at its own num_steps, for more and for fewer steps."""
    scores = {config.num_steps: accuracy}
    rows = []
    x = training.pixels(test.images[:500].to(run.device))
    for num_steps in sorted({1, 2, 4, 8, config.num_steps}):
        if num_steps not in scores:
            scores[num_steps] = accuracy_at(net, test, num_steps)
        net.num_steps = num_steps
        _, spikes = net.eval().record(x)  # else batch norm would take these pictures into its means
        fired = [spk.sum().item() for spk in spikes]
        rows.append([f"{num_steps}", scores[num_steps], sum(fired) / len(x)])
    columns = ["num_steps", "accuracy, %", "spikes an image"]
    run.table(f"Trained with {config.num_steps} steps", columns, rows)
    net.num_steps = config.num_steps
    run.say(
        f"From 1 step to 8 the accuracy goes from {scores[1]:.1f} to {scores[8]:.1f} %, the spikes of an "
        f"image from {rows[0][2]:.0f} to {rows[-1][2]:.0f}."
    )


def title_of_training(accuracy: float, images: str, minutes: float) -> str:
    """Say the accuracy, on which images, and how long it took."""
    return f"{accuracy:.1f} % of {images} after {minutes:.1f} minutes of training"


def draw_training(run: Run, history: Any, accuracy: float, images: str) -> None:
    """Draw the accuracy over the training."""
    minutes = []
    checks = []
    for epoch in history:
        minutes.append(epoch["seconds"] / 60)
        checks.append(epoch["check"])
    title = title_of_training(accuracy, images, minutes[-1])
    fig, (ax,) = figures.new(title, size=(7, 3.4))
    ax.plot(minutes, checks, "o-")
    ax.set(xlabel="CPU minutes of training (on a GPU: minutes)", ylabel="test accuracy after each epoch, %")
    run.figure(fig, "training")


# %% [markdown]
# What do the neurons see? Below, two test pictures on their way through the network: how
# often neurons fire at each place (mean over channels and steps) in the three stages, whose
# maps get smaller; then the raster of some neurons of the last layer; then the scores (of
# up to ten classes). How much of the picture do you recognise in the first map? How much in
# the last?


# %%
LOOKS = 8  # steps for which a picture is shown here
WIDTHS = (1, 1, 1, 1, 1.6, 1.4)  # of picture, three maps, raster, scores


@torch.no_grad()
def look_inside(run: Run, net: Net, test: Images) -> None:
    """Draw what the layers fire for two test pictures of different classes."""
    unlike = test.labels != test.labels[0]
    rows = [0, int(unlike.int().argmax())]
    chosen = test.images[rows]
    steps = net.num_steps
    net.num_steps = LOOKS
    x = training.pixels(chosen.to(run.device))
    scores, spikes = net.eval().record(x)
    net.num_steps = steps
    scores = scores.float().cpu()
    shown = last_of_stages(spikes)
    labels = [test.classes[label] for label in test.labels[rows]]
    guesses = [test.classes[guess] for guess in scores.argmax(1)]
    fig, axes = figures.new(
        title_of_looks(labels, guesses),
        rows=2,
        columns=6,
        size=(13, 5),
        width_ratios=WIDTHS,
    )
    for row, picture in enumerate(chosen):
        cells = axes[6 * row : 6 * row + 6]
        cells[0].imshow(picture.permute(1, 2, 0).cpu())
        cells[0].set(xticks=[], yticks=[], title=labels[row])
        for ax, spk in zip(cells[1:4], shown, strict=True):
            draw_rates(ax, spk[:, row].cpu())
        draw_last(cells[4], shown[-1][:, row].cpu())
        draw_scores(cells[5], scores[row], test.classes)
    run.figure(fig, "inside")


def draw_rates(ax: Axes, spk: Tensor) -> None:
    """Draw how often neurons fire at each place, from the spikes [T, C, H, W] of a picture."""
    rates = 100 * spk.mean((0, 1))  # [H, W]
    side = len(rates)
    ax.imshow(rates, vmin=0)
    ax.set_title(f"{side} x {side}, up to {rates.max():.0f} %")
    ax.set(xticks=[], yticks=[])


def draw_last(ax: Axes, spk: Tensor) -> None:
    """Draw the raster of some neurons, from the spikes [T, C, H, W] of a picture."""
    flat = spk.flatten(1)  # [T, N]
    every = flat.shape[1] // 60
    figures.raster(ax, flat[:, ::every][:, :60], size=12)  # from all channels
    ax.set_title("60 neurons of the last layer")
    ax.set_xlabel("time, steps")


def draw_scores(ax: Axes, scores: Tensor, classes: tuple[str, ...]) -> None:
    """Draw the highest scores [classes] of a picture, up to ten, in the order of the classes."""
    best = scores.topk(min(10, len(scores))).indices.sort().values
    names = [classes[label] for label in best]
    ax.barh(names, scores[best])
    ax.set_xlabel("score")


def last_of_stages(spikes: list[Tensor]) -> list[Tensor]:
    """Give of all layers' spikes [T, B, C, H, W] the last for each size of map."""
    found = {spk.shape[-1]: spk for spk in spikes}
    return list(found.values())


def title_of_looks(labels: list[str], guesses: list[str]) -> str:
    """Say what two pictures are, and what the network takes them for."""
    told = []
    for label, guess in zip(labels, guesses, strict=True):
        told.append(f"{label}, taken for {guess}")
    return "Two pictures on their way: " + "; ".join(told)


# %% [markdown]
# ## 6. Memory: the budget of [T, B, C, H, W]
#
# A tensor $[T, B, C, H, W]$ of 4-byte numbers has $4\,T B C H W$ bytes. BPTT must keep
# three of them for each layer until the way back: the layer's input, the convolution's
# result (for batch norm), and the membrane (for the slope). With a still picture, the first
# convolution is kept once, not $T$ times. An example: a layer of 32 channels of 16 x 16
# neurons has 8192 of them. A block there keeps 6 x 8192 numbers for an image and a step,
# 0.2 MB; at 4 steps and a batch of 64 this one block needs 50 MB. In sum
#
# $$\text{memory} = 4\,B\,(T\,n_{each} + n_{once}) \text{ bytes,}$$
#
# with $n_{each}$ numbers at each step, counted below from the shapes, and $n_{once}$ once.
# (In bf16, of 2 bytes, about half of it.) The weights come on top, and are small. We
# predict, then measure what autograd keeps (on a GPU also the peak of its memory, VRAM).
#
# $T$ and $B$ stand in a product: but for the part that is kept once, **twice the steps cost
# as much as twice the batch**. So if it does not fit, what do you give up?
#
# - *Steps.* Fewer steps are coarser: a rate can then only be 0, 1/T, 2/T... The table of
#   chapter 5 says what that costs.
# - *Batch.* The gradient is a mean over the batch: a small batch is noisier, and batch norm
#   sees fewer pictures. But the gradients of several small batches can be added up before
#   the optimiser's step (*accumulation*): exact, but for batch norm, and only slower.
# - *The way back.* Truncated BPTT (lesson 09) keeps a window of steps.
#
# Accumulation, for a batch of 64 in four parts of 16:
#
# ```
# optimizer.zero_grad()
# for x, y in four parts:
#     loss = cross_entropy(net(x), y) / 4      # so that the sum is the mean of all 64
#     loss.backward()                          # adds to the gradients, and frees the graph
# optimizer.step()
# ```
#
# Only one part's graph exists at a time, so memory is that of 16 pictures.


# %%
EQUAL = ((1, 64), (2, 32), (4, 16))  # num_steps, batch: of nearly equal memory
TWICE = ((2, 64), (4, 32), (8, 16))  # twice as much
SIZES = (*EQUAL, *TWICE, (4, 64))
GPU_GB = 24  # of memory, for the budget
Kept = dict[tuple[int, int], tuple[float, float]]  # MB predicted and measured, by num_steps and batch


def kept_numbers(net: Net, side: int) -> tuple[int, int]:
    """Predict how many numbers BPTT keeps of an image of side x side pixels: at each step, and once."""
    # exercise: the neurons of the stem; then for each part of the body what it adds
    size = net.stem.conv.out_channels * (side // 2) ** 2  # neurons in a layer
    each = size  # the stem's membranes
    once = net.stem.conv.in_channels * side**2 + size  # image and first convolution
    for part in net.body:
        if isinstance(part, Block):
            each += 6 * size  # two layers, of each: input, convolution and membrane
        else:
            each += 2 * size  # its input, and of the other two half as many
            size //= 2  # twice the channels, a quarter of the pixels
    # end
    return each, once


def measure_memory(config: Config, run: Run, x: Tensor, y: Tensor) -> Kept:
    """Compare the memory of the graph with what the shapes say."""
    net = Net(config.width, config.blocks).to(run.device)
    each, once = kept_numbers(net, x.shape[-1])
    kept: Kept = {}
    rows = []
    for num_steps, batch in SIZES:
        net.num_steps = num_steps
        work = partial(step, net, x[:batch], y[:batch])
        measured, vram = L9.graph_bytes(work)
        said = 4e-6 * batch * (num_steps * each + once)
        kept[num_steps, batch] = said, measured / 1e6
        rows.append([f"{num_steps}", f"{batch}", said, measured / 1e6, vram / 1e6])
    run.table("Memory in MB", ["num_steps", "batch", "shapes say", "graph", "VRAM (of a GPU)"], rows)
    _, less = kept[2, 64]
    _, more = kept[4, 64]
    grown = (more - less) / 2  # MB by one step
    error = grown / (4e-6 * 64 * each) - 1
    run.proof("memory per step / (4 B numbers) - 1", abs(error))
    steps = (GPU_GB * 1e9 / (4 * 64) - once) / each
    run.measure(f"steps that fit into {GPU_GB} GB, batch 64", steps, "steps")
    weights = sum(parameter.numel() for parameter in net.parameters())
    run.say(
        f"A step of one image keeps {4e-6 * each:.2f} MB; the weights are {4e-6 * weights:.1f} MB. {GPU_GB} "
        f"GB hold a batch of 64 for {steps:.0f} steps, one of 32 for twice as many."
    )
    return kept


def title_of_memory(kept: Kept) -> str:
    """Say what twice the steps or twice the batch do to memory."""
    _, least = kept[2, 32]
    _, steps = kept[4, 32]
    _, batch = kept[2, 64]
    return f"Memory: times {steps / least:.2f} with twice the steps, {batch / least:.2f} with twice the batch"


def draw_memory(run: Run, kept: Kept) -> None:
    """Draw the memory over the steps, predicted and measured."""
    title = title_of_memory(kept)
    fig, (ax,) = figures.new(title, size=(7, 3.4))
    for batch, style in {16: "o", 32: "s", 64: "^"}.items():
        steps = []
        said = []
        measured = []
        for (num_steps, size), (predicted, found) in kept.items():
            if size == batch:
                steps.append(num_steps)
                said.append(predicted)
                measured.append(found)
        ax.axline((steps[0], said[0]), (steps[-1], said[-1]), color=figures.GREY, ls="--")
        ax.plot(steps, measured, style, label=f"batch {batch}")
    ax.set_xlim(0, None)
    ax.set_ylim(0, None)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set(xlabel="num_steps", ylabel="graph, MB (dashed: shapes)")
    ax.legend()
    run.figure(fig, "memory")


# %% [markdown]
# The figure shows both for three batch sizes. Twice the batch, twice the slope; and the
# lines meet the axis above 0, at the part that is kept once.
#
# Steps or batch, then? Here is the trade in one number. All pairs below need nearly the
# same memory. We take the gradients of twelve batches, and the mean cosine between any two
# of them: 1 means that both say the same, 0 that they have nothing in common, so that a
# training step is mostly chance. (The cosine of two gradients is their product, with both
# brought to length 1.) In the table, which half of the product $T \cdot B$ would you rather
# give up? The steps of one still picture tell much the same again and again; other pictures
# tell something else.
#
# Read the column of the *fresh* network, before training. The longer it trains, the more
# the gradients of all pictures cancel: what is left of a batch is mostly chance, whatever
# its size, and the cosine goes to 0.


# %%
PAIRS = (*EQUAL, (8, 8))  # num_steps, batch
BATCHES = 12


def steps_or_batch(run: Run, net: Net, train: Images) -> None:
    """Compare gradients of batches, for pairs of num_steps and batch of equal memory."""
    trained = deepcopy(net).train()  # batch norm's running means change below
    fresh_net = untrained(trained)
    rows: list[list[Any]] = []
    for num_steps, size in PAIRS:
        row: list[Any] = [f"{num_steps}", f"{size}"]
        for one in (fresh_net, trained):
            one.num_steps = num_steps
            gradients = gradients_of_batches(run, one, train, size)
            row.append(agreement(gradients))
        rows.append(row)
    columns = ["num_steps", "batch", "cosine, fresh", "trained"]
    run.table("Equal memory: do batches agree?", columns, rows)
    run.say(
        f"For the same memory, batches of {PAIRS[0][1]} images at {PAIRS[0][0]} step agree to "
        f"{rows[0][2]:.2f} before training, of {PAIRS[-1][1]} images at {PAIRS[-1][0]} steps to "
        f"{rows[-1][2]:.2f}. After training it is {rows[0][3]:.2f} and {rows[-1][3]:.2f}."
    )


def untrained(net: Net) -> Net:
    """Give the same network with new random weights."""
    fresh_net = deepcopy(net)
    with torch.random.fork_rng():  # what comes after draws the same numbers with and without this
        for module in fresh_net.modules():
            if isinstance(module, nn.Conv2d | nn.BatchNorm2d | nn.Linear):
                module.reset_parameters()
    return fresh_net


def gradients_of_batches(run: Run, net: Net, train: Images, size: int) -> Tensor:
    """Give the gradients of BATCHES batches of ``size`` pictures, [BATCHES, P]."""
    gradients = []
    for begin in range(0, BATCHES * size, size):
        some = slice(begin, begin + size)
        x = training.pixels(train.images[some].to(run.device))
        y = train.labels[some].to(run.device)
        gradients.append(flat_gradient(net, x, y))
    return torch.stack(gradients)


def agreement(gradients: Tensor) -> float:
    """Give the mean cosine between any two of K gradients [K, P]."""
    unit = gradients / gradients.norm(dim=1, keepdim=True)
    count = len(unit)
    cosines = unit @ unit.T  # [K, K], each gradient with itself on the diagonal
    others = cosines.sum() - count  # without the diagonal
    return (others / (count * (count - 1))).item()


def flat_gradient(net: Net, x: Tensor, y: Tensor) -> Tensor:
    """Give the gradient of one batch as one long list of numbers."""
    step(net, x, y)
    parts = []
    for parameter in net.parameters():
        assert parameter.grad is not None
        parts.append(parameter.grad.flatten().float())
    return torch.cat(parts)


# %% [markdown]
# ## What to keep
#
# - A convolution sees space at one step; the neurons behind it see time at one place. Fold
#   time into the batch for the first, unfold for the second.
# - In a deep chain the gradient is a product of slopes and weights, one factor a layer. A
#   narrow surrogate makes it vanish. `Watch` tells you, and names the layer. A wide one
#   saves the gradient, but not the signal, which many layers of spikes blur.
# - Residual connections give the error a way on which nothing is multiplied, but only if
#   they join *after* the neurons (SEW). Added before them, the slope is back.
# - A test of the way forward says nothing of the way back: idle blocks of a Spiking ResNet
#   can hand on each spike and still lose the gradient.
# - ADD makes numbers above 1; IAND and AND stay binary.
# - A neuron that gets a still picture for one step has no use for its memory. More steps
#   buy finer rates, and each costs as many spikes again.
# - The first convolution of a still picture need be computed and kept once, not at each
#   step.
# - Memory is $4\,B\,T$ times the numbers kept a step. Steps and batch trade one for one;
#   small batches can be added up.
#
# ## Going deeper: faster
#
# One measure after the other, as in lesson 08. *Stem hoisted*: a still picture meets the
# first convolution once. *channels_last* stores the channels of a pixel side by side, as
# fast convolutions like it. *bfloat16* (bf16) has half the bits of float32, and is fast
# where a machine multiplies it in hardware. *One time step*: what most epochs of chapter 5
# do. `torchrun` spreads a training over several GPUs (`snn_course/networks/processes.py`).


# %%
def climb(config: Config, run: Run, x: Tensor, y: Tensor) -> None:
    """Time a training step with one measure after the other; x [B, C, H, W] is in channels_last."""
    steps = max(2, config.num_steps)
    still = x.contiguous()
    sequence = still.expand(steps, -1, -1, -1, -1)
    plain = Net(config.width, config.blocks, num_steps=steps)
    plain.to(run.device)
    last = Net(config.width, config.blocks, num_steps=steps)
    last.to(run.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    works = {
        "sequence, float32": partial(step, plain, sequence, y),
        "stem hoisted": partial(step, plain, still, y),
        "channels_last": partial(step, last, x, y),
        "bf16": partial(step, last, x, y, bf16=True),
        "one time step": partial(step, last, x[None], y, bf16=True),  # a sequence of one
    }
    spent = L8.race(run, f"Training step, {steps} time steps, batch {len(y)}", works)
    for before, name in pairwise(spent):
        gain = L8.gain(spent[before], spent[name])
        run.measure(f"gain by {name}", gain, "x")


# %%
def load_images(config: Config, run: Run) -> Sets:
    """Give the images to train on and to test on: CIFAR-10, or what was chosen, as [N, 3, 32, 32]."""
    found = []
    tests = max(1000, config.images // 5)
    for split, size in {"train": config.images, "test": tests}.items():
        images = data.load(config.dataset, split)
        images = images.subset(size).shaped(channels=3, size=32)
        run.uses(images)
        found.append(images)
    train, test = found
    if len(train) < BATCHES * 64:
        raise UsageError(f"{len(train)} training images are too few: this lesson needs {BATCHES * 64}.")
    return train, test


def one_batch(config: Config, run: Run, train: Images) -> tuple[Tensor, Tensor]:
    """Give a batch [128, 3, 32, 32] of CIFAR-10 for what looks at single steps, and its labels."""
    if config.dataset != USUAL:
        train = data.load(USUAL, "train").subset(128)
        run.uses(train)
    x = training.pixels(train.images[:128].to(run.device))
    return x, train.labels[:128].to(run.device)


def main(config: Config, run: Run) -> None:
    sets = load_images(config, run)
    train_set, test_set = sets
    x, y = one_batch(config, run, train_set)
    maps_of_spikes(run, test_set)
    folded_equals_loop(run)
    vanishing(run, x[:64], y[:64])
    watch_depth(run, x[:64], y[:64])
    prove_identity(run)
    compare_joins(run)
    if run.is_first_seed:
        compare_depths(config, run, sets)
    net = train_and_judge(config, run, sets)
    if not run.is_first_seed:
        return  # what follows looks at one network, and is shown for the first seed
    look_inside(run, net, test_set)
    kept = measure_memory(config, run, x, y)
    draw_memory(run, kept)
    steps_or_batch(run, net, train_set)
    climb(config, run, x, y)  # going deeper


if __name__ == "__main__":
    lesson.start(main, Config, SCALES)
