"""The agents of the capstone by name: how to build each one, and what it sees."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from snn_course import UsageError
from snn_course.akida_bridge import QuantNet
from snn_course.networks import conversion
from snn_course.pong import checkpoints, emulator, judging, network, perception
from snn_course.pong.spikes import FloatQ

import torch
from torch import nn

Eyes = Literal["levels", "known", "events"]
EYES: dict[Eyes, emulator.See] = {
    "levels": emulator.levels,
    "known": emulator.known,
    "events": perception.events,
}
"""What an agent may see of the frames: four pictures, the same and its last action, or events."""
CHANNELS: dict[Eyes, int] = {
    "levels": emulator.SHAPE[0],
    "known": emulator.KNOWN[0],
    "events": len(perception.CHANNELS),
}
TEACHERS = ("pqn", "dqn", "aware")
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
    eyes: Eyes

    def see(self, frames: emulator.Frames) -> torch.Tensor:
        """Give what the network gets of frames [B, 5, 84, 84]."""
        return EYES[self.eyes](frames)

    @property
    def policy(self) -> emulator.Policy:
        """The best action of each decision."""
        return policy(self.net, self.eyes)

    @property
    def origin(self) -> str:
        """Say in a sentence whose it is."""
        return checkpoints.origin(self.name, self.path, checkpoints.SHIPPED)

    def answers(self, frames: emulator.Frames) -> torch.Tensor:
        """Give Q [B, 3] of frames [B, 5, 84, 84]."""
        return self.net(self.see(frames))


def policy(net: Callable[[torch.Tensor], torch.Tensor], eyes: Eyes = "levels") -> emulator.Policy:
    """Play a network's best action, for what it sees of the frames."""
    return lambda frames: network.greedy(net, EYES[eyes](frames))


def build(name: str, eyes: Eyes) -> nn.Module:
    """Make the untrained network of an agent's name, in the mode in which its weights were kept."""
    channels = CHANNELS[eyes]
    if name in ("levels", "clone", "direct"):
        net = FloatQ(STEPS.get(name, 1), channels)
        conversion.run_as(net, "levels" if name == "levels" else "spikes", levels=LEVELS)
        return net
    bits, weight_bits = BITS.get(name, (4, None))
    return network.q_network(bits, weight_bits, channels)


def eyes_of(name: str, card: Mapping[str, Any]) -> Eyes:
    """Read from an agent's card what it sees; older cards do not tell, and their agents saw no action."""
    return card.get("eyes") or ("events" if name == "events" else "levels")


def load(name: str, scale: str) -> Agent:
    """Load an agent: the learner's own of this scale, else the shipped one. Raises: UsageError."""
    path = checkpoints.find(name, scale)
    eyes = eyes_of(name, checkpoints.card(path))
    net = build(name, eyes)
    checkpoints.load(net, path)
    if isinstance(net, QuantNet) and net.quantised != (name in BITS):
        kind = "whole numbers" if name in BITS else "float weights"
        raise UsageError(f"{path} is of another network: the agent '{name}' has {kind}.")
    return Agent(name, net.eval().requires_grad_(requires_grad=False), path, eyes)


def best_teacher(scale: str) -> str:
    """Name the best of the conventional players, by the episodes that choose."""
    found = []
    for name, card in checkpoints.cards(TEACHERS, scale).items():
        told = judging.choice_of(card)
        found.append((told.mean if told else float("-inf"), name))
    return max(found)[1] if found else TEACHERS[0]


def teacher(scale: str) -> Agent:
    """Load the best of the conventional players."""
    return load(best_teacher(scale), scale)


def chip(agent: Agent) -> QuantNet:
    """Give an agent's network, which must be one of the chip's integers."""
    assert isinstance(agent.net, QuantNet)
    assert agent.net.quantised
    return agent.net
