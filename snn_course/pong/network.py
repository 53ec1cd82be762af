"""The agent's network: one chip-shaped Q-network for all executions.

    levels 0..15 [4, rows, columns] -> conv 16 -> conv 32 -> conv 32 (3x3, stride 2) -> dense 128 -> 3 Q

It is a ``QuantNet`` of the Akida bridge: float weights and a ReLU that is clipped at 6 while it learns to
play, then the integers of the AKD1000. There are no norms: what is trained is what the chip computes.
"""

from collections.abc import Iterable
from typing import Any

from snn_course.akida_bridge import Conv, Dense, InputData, QuantNet
from snn_course.pong.emulator import KNOWN, SHAPE

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

GAMMA = 0.99
"""Discount of future reward for each decision (15 a second)."""


def q_network(bits: int = 4, weight_bits: int | None = None, channels: int = SHAPE[0]) -> QuantNet:
    """Build the untrained network.

    Args:
        bits: of activations, 4 or 2; they count once ``calibrate`` was called.
        weight_bits: of weights; None: as many.
        channels: pictures in a stack, or event counts.
    """
    wide = weight_bits or bits
    convs = [Conv(filters, stride=2, weight_bits=wide, act_bits=bits) for filters in (16, 32, 32)]
    head = [Dense(128, weight_bits=wide, act_bits=bits), Dense(3, weight_bits=wide, act_bits=None)]
    net = QuantNet([InputData(4), *convs, *head], (channels, *SHAPE[1:]), batch_norm=False)
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a third off a training step
    return net


def size(net: QuantNet) -> int:
    """Count weights and biases; the steps of the activations are not among them."""
    return sum(part.weight.numel() + part.bias.numel() for part in net.parts)


def start(layers: Iterable[Any]) -> None:
    """Draw the weights of layers anew, after He et al. (2015), equation 10.

    The pictures are nearly empty: with PyTorch's own start, what is in them would fade from layer to layer.
    """
    for layer in layers:
        drawn = torch.empty(layer.weight.shape)  # in the plain layout: a seed draws the same for any
        layer.weight.data.copy_(nn.init.kaiming_normal_(drawn, nonlinearity="relu"))


def wider(net: nn.Module) -> QuantNet:
    """Give a network that sees pictures the planes of the last action too; it plays as before.

    The new weights are 0: random ones would disturb what it has learnt.
    """
    wide = q_network(channels=KNOWN[0])
    weights = dict(net.state_dict())
    first = torch.zeros_like(wide.parts[0].weight)
    first[:, : SHAPE[0]] = weights["layers.0.weight"]
    wide.load_state_dict(weights | {"layers.0.weight": first})
    return wide


@torch.no_grad()
def greedy(net: Any, x: torch.Tensor) -> npt.NDArray[np.int64]:
    """Give the actions [B] with the highest Q for inputs [B, C, H, W]."""
    return net(x).argmax(1).cpu().numpy()
