"""What the STDP half of lesson 15 needs beside its rule: spikes of pixels, snnTorch's learner, pictures."""

import time
from typing import TYPE_CHECKING, Any

from snn_course import data

import torch
from snntorch.functional.stdp_learner import STDPLearner
from torch import nn

if TYPE_CHECKING:
    from snn_course.runs.run import Run

Pair = tuple[torch.Tensor, torch.Tensor]
"""Images [N, 784] as bytes, and labels [N]."""


def pixel_spikes(pixels: torch.Tensor, num_steps: int, rate: float = 0.5) -> torch.Tensor:
    """Rate code of images whose brightness was made equal: every image sends about as many spikes.

    Diehl and Cook (2015, sec. 2.6) show an image again, brighter, until five output spikes came. Here each
    image is scaled once, to the length (root of the sum of squares) that is usual for MNIST.

    Args:
        pixels: [B, P], bytes 0 to 255.
        num_steps: T.
        rate: chance of a spike per step of a pixel of value 1.

    Returns:
        Spikes 0 or 1 [T, B, P], in float32.
    """
    x = pixels.float()
    x = x * (9.2 * rate / x.norm(dim=1, keepdim=True).clamp(min=1e-9))  # 9.2: mean length over MNIST
    return torch.rand(num_steps, *x.shape, device=x.device).lt_(x)  # in place: 1 where it is below


# ---------------------------------------------------------------------- snnTorch's learner


def snntorch_stdp(
    pre: torch.Tensor, post: torch.Tensor, tau_pre: float, tau_post: float, grow: float, shrink: float
) -> torch.Tensor:
    """Give the change of weights [Q, P] that ``snntorch.functional.stdp_learner`` 1.0 makes.

    Its traces lose 1 / tau of themselves in a step, and a spike of pre and one of post at the same step
    count as a pair both ways. It watches modules, so spikes are sent through two of them here. Its
    ``reset()`` fails (it calls one that ``nn.Module`` does not have): take a new learner for new data.

    Args:
        pre: spikes [T, P].
        post: spikes [T, Q].
        tau_pre: time constant of the trace of pre, in steps.
        tau_post: time constant of the trace of post, in steps.
        grow: change by one pair in which pre came first, at gap 0.
        shrink: change by one pair in which post came first, at gap 0, as a positive number.
    """
    synapse = nn.Linear(pre.shape[1], post.shape[1], bias=False, device=pre.device, dtype=pre.dtype)
    neuron = nn.Identity()
    learner = STDPLearner(synapse, neuron, tau_pre, tau_post, lambda _: shrink, lambda _: grow)
    with torch.no_grad():
        for pre_t, post_t in zip(pre.unbind(0), post.unbind(0), strict=True):
            synapse(pre_t[None])  # [1, P]: the learner wants a batch axis
            neuron(post_t[None])
        return learner.step(on_grad=False)


# ---------------------------------------------------------------------- layers that learn digits


def show_once(run: "Run", name: str, layer: Any, x: torch.Tensor, num_steps: int, rate: float) -> float:
    """Show a layer each image [N, 784] once, 32 at a time; its learning rate goes down to a tenth.

    Returns: CPU seconds. The layer's tensors are kept until the lesson ends.
    """
    kept = run.load(name, weight=layer.weight, threshold=layer.threshold)
    if kept is None:
        begun, batches = time.process_time(), torch.randperm(len(x)).split(32)
        for number, rows in enumerate(run.progress(batches, name)):
            layer(pixel_spikes(x[rows], num_steps), rate * (1 - 0.9 * number / len(batches)))
        kept = vars(layer) | {"seconds": time.process_time() - begun}
        run.save(name, kept)
    return kept["seconds"]


def digits(run: "Run", images: int) -> tuple[Pair, Pair]:
    """Give MNIST to train on, and a sixth as many images to test on, as the set has it."""
    pairs = []
    for split, size in (("train", images), ("test", images // 6)):
        part = data.load("mnist", split).subset(size)
        run.uses(part)
        pairs.append((part.images.flatten(1).to(run.device), part.labels.to(run.device)))
    return pairs[0], pairs[1]


def class_images(weight: torch.Tensor, fires: torch.Tensor) -> torch.Tensor:
    """Read a picture of each class [10, P] back out of weights [N, P].

    It is the mean of the weights of the neurons that are named after the class, each weighted by its mean
    spikes for the class, from ``fires`` [10, N]. It is blank for a class after which no neuron is named.
    """
    own = fires * (fires == fires.amax(0))
    return own / own.sum(1, keepdim=True).clamp(min=1e-9) @ weight


def own_class(pictures: torch.Tensor, means: torch.Tensor) -> int:
    """Count the pictures [K, P] that correlate most with their own class, of all mean images [K, P]."""
    alike = torch.corrcoef(torch.cat([pictures, means]))[: len(means), len(means) :]  # [K, K]
    return int((alike.argmax(1).cpu() == torch.arange(len(means))).sum())


def count(layer: Any, x: torch.Tensor, num_steps: int) -> torch.Tensor:
    """Give the spikes [B, N] of a layer that does not learn, for images [B, 784]."""
    return torch.cat([layer(pixel_spikes(part, num_steps)).sum(0) for part in x.split(250)])


def accuracy(answers: torch.Tensor, y: torch.Tensor) -> float:
    """Give the share in % of answers [B] that are the labels [B]."""
    return 100 * (answers == y).double().mean().item()


# ---------------------------------------------------------------------- pictures


def mosaic(images: torch.Tensor, columns: int) -> torch.Tensor:
    """Lay images [N, 784] out in full rows, as one picture [28 rows, 28 columns]; each is 1 at most."""
    images = images[: len(images) // columns * columns]
    images = images / images.amax(1, keepdim=True).clamp(min=1e-9)
    return images.reshape(-1, columns, 28, 28).permute(0, 2, 1, 3).reshape(-1, 28 * columns)
