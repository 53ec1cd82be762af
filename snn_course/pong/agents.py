"""The agents of the capstone by name: how to build each one, and what it sees."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from snn_course import UsageError
from snn_course.akida_bridge import QuantNet
from snn_course.networks import conversion
from snn_course.pong import checkpoints, emulator, judging, network, perception
from snn_course.pong.spikes import FloatQ

import torch
from torch import nn

TEACHERS = ("pqn", "dqn")
NAMES = (*TEACHERS, "levels", "clone", "direct", "pictures", "events", "four", "two", "ternary", "sparse")
"""All agents, in the order of the steps that make them."""
BITS = {"four": (4, 4), "two": (2, 4), "ternary": (2, 2), "sparse": (2, 4)}
"""Bits of activations and of weights. These agents have whole numbers, for the chip; the others are float."""
LEVELS = 15
"""Of the float network with levels: as 4 bits have."""
STEPS = {"clone": 8, "direct": 4}
"""T of the networks that learn with spikes. The one that learns alone needs many decisions: T is short."""


@dataclass(frozen=True)
class Agent:
    """A trained network, and from which file it came."""

    name: str
    net: nn.Module
    path: Path
    see: Callable[[emulator.Frames], torch.Tensor] = emulator.levels

    @property
    def policy(self) -> emulator.Policy:
        """The best action of each decision."""
        return policy(self.net, self.see)


def policy(
    net: Callable[[torch.Tensor], torch.Tensor],
    see: Callable[[emulator.Frames], torch.Tensor] = emulator.levels,
) -> emulator.Policy:
    """Play a network's best action, for what it sees of the frames."""
    return lambda frames: network.greedy(net, see(frames))


def build(name: str) -> nn.Module:
    """Make the untrained network of an agent's name, in the mode in which its weights were kept."""
    if name in TEACHERS:
        return network.q_network()
    if name in ("levels", "clone", "direct"):
        net = FloatQ(STEPS.get(name, 1))
        conversion.run_as(net, "levels" if name == "levels" else "spikes", levels=LEVELS)
        return net
    if name == "events":
        return network.q_network(channels=len(perception.CHANNELS))
    return network.q_network(*BITS.get(name, ()))


def load(name: str, scale: str) -> Agent:
    """Load an agent: the learner's own of this scale, else the shipped one. Raises: UsageError."""
    path = checkpoints.find(name, scale)
    net = build(name)
    checkpoints.load(net, path)
    if isinstance(net, QuantNet) and net.quantised != (name in BITS):
        kind = "whole numbers" if name in BITS else "float weights"
        raise UsageError(f"{path} is of another network: the agent '{name}' has {kind}.")
    see = perception.events if name == "events" else emulator.levels
    return Agent(name, net.eval().requires_grad_(requires_grad=False), path, see)


def teacher(scale: str) -> Agent:
    """Load the better of the two conventional players, by the episodes that choose."""
    found = []
    for name, card in checkpoints.cards(TEACHERS, scale).items():
        told = judging.choice_of(card)
        found.append((told.mean if told else float("-inf"), name))
    return load(max(found)[1] if found else TEACHERS[0], scale)


def chip(agent: Agent) -> QuantNet:
    """Give an agent's network, which must be one of the chip's integers."""
    assert isinstance(agent.net, QuantNet)
    assert agent.net.quantised
    return agent.net
