"""The trained agents by name: how to build one, and where its weights are."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snn_course.runs import checkpoints
from snn_course import ROOT
from snn_course.gameworld.network import Spiking

SCRIPT = "capstone_gameworld"
SHIPPED = ROOT / "checkpoints" / "gameworld"
DEEPER = (32, 64, 64, 64)
"""Filters at gpu scale."""


@dataclass(frozen=True)
class Agent:
    """A trained network, and from which file it came."""

    name: str
    net: Spiking
    path: Path

    @property
    def origin(self) -> str:
        """Say in a sentence whose it is."""
        return checkpoints.origin(self.name, self.path, SHIPPED)


def build(scale: str) -> Spiking:
    """Make the untrained network; at gpu scale a deeper one."""
    return Spiking(DEEPER, 256) if scale == "gpu" else Spiking()


def load(name: str, scale: str) -> Agent:
    """Load an agent, "course" or "dino": the learner's own of this scale, else the shipped one.

    Raises: UsageError.
    """
    path = checkpoints.find(name, scale, SCRIPT, SHIPPED)
    net = build("gpu" if _are_deep(checkpoints.read(path)) else "cpu")
    checkpoints.load(net, path)
    return Agent(name, net.eval().requires_grad_(requires_grad=False), path)


def _are_deep(weights: Any) -> bool:
    """Tell weights of the deeper network; an agent of gpu scale may have begun as the shipped, small one."""
    tensors = weights.values() if isinstance(weights, dict) else ()
    return sum(getattr(tensor, "ndim", 0) == 4 for tensor in tensors) == len(DEEPER)
