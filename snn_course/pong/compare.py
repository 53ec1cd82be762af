"""One network in several executions: which actions they share, how far their Q lie apart, what they cost."""

from collections.abc import Callable

from snn_course.akida_bridge import QuantNet
from snn_course.costs.operations import Operations, count
from snn_course.pong.spikes import LevelNet

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

BATCH = 25
"""Inputs at once. With 500, T steps fill more memory than is kept for reuse: three times slower on a CPU."""


@torch.inference_mode()
def answers(net: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """Give Q [B, 3] of inputs [B, C, H, W], in batches; back from whatever device the network is on."""
    return torch.cat([net(part).cpu() for part in x.split(BATCH)])


def hop(ours: torch.Tensor, theirs: torch.Tensor) -> tuple[float, float]:
    """Compare the Q [B, 3] of two executions. Returns: same best action in %, mean |difference| of Q."""
    same = 100 * (ours.argmax(1) == theirs.argmax(1)).double().mean().item()
    return same, (ours - theirs).abs().mean().item()


@torch.inference_mode()
def events(net: LevelNet, x: torch.Tensor) -> list[tuple[float, float, float]]:
    """Count for each layer but the last its events and levels a decision, and the share of silent neurons.

    An event is a value other than 0, sent once with its bits. Spikes are as many as levels where T is the
    highest level: 15 with 4 bits, 3 with 2.
    """
    found = []
    for values in zip(*(net.outputs(part)[:-1] for part in x.split(BATCH)), strict=True):
        layer = torch.cat(values).flatten(1)
        sent = (layer > 0).double()
        found.append((sent.sum(1).mean().item(), layer.double().sum(1).mean().item(), 1 - sent.mean().item()))
    return found


def spikes_of(net: QuantNet, x: torch.Tensor) -> float:
    """Count the spikes of a decision, all layers but the last, for inputs [B, C, H, W]."""
    return sum(spikes for _, spikes, _ in events(LevelNet(net.to_integers()), x))


def operations(net: nn.Module, x: torch.Tensor) -> list[Operations]:
    """Count the operations of each layer for a decision, over inputs [B, C, H, W]."""
    return count(net, x, len(x))


def mean_and_error(values: npt.ArrayLike) -> tuple[float, float]:
    """Give mean and standard error of the mean."""
    array = np.asarray(values, float)
    return float(array.mean()), float(array.std(ddof=1) / len(array) ** 0.5) if len(array) > 1 else 0.0
