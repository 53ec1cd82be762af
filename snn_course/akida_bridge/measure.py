"""What a model costs: events and sparsity per layer, latency, energy; and the report of it all.

Without a card, energy stands for what others have measured on an AKD1000 board. Such a board draws about
0.9 W before it computes anything (the floor); a network adds between one and about 110 mW (the dynamic part).
Each figure therefore has both parts, and names its source.
"""

import time
from dataclasses import dataclass
from typing import Any

from snn_course import UsageError
from snn_course.akida_bridge.chip import Mapping, map_model, to_frames
from snn_course.akida_bridge.trial import NOT_MEASURED, Backend, backend, card
from snn_course.costs.latency import percentiles

import numpy as np
import torch

SETTLE = 1.0
"""Seconds that the card's power log needs after it was switched on (as akida's own command line waits)."""

# ---------------------------------------------------------------------- events


@dataclass(frozen=True)
class LayerEvents:
    """Mean number of events (values other than 0) that a layer sends per input, and the share of zeros."""

    name: str
    neurons: int
    events: float
    sparsity: float


def events_per_layer(model: Any, x: torch.Tensor) -> list[LayerEvents]:
    """Count the events of the input and of each layer with an activation.

    Events are what travels on the chip and what costs work there. The model is cut behind each layer and the
    first part is run in the simulator: the card shows its last layer only.

    Args:
        model: an akida.Model, mapped or not; it is left as it is.
        x: inputs [B, C, H, W], whole numbers.
    """
    import akida

    frames = to_frames(x)
    counted = [_counted("input", frames)]
    for number, layer in enumerate(model.layers, start=1):
        if layer.parameters.has("activation") and layer.parameters.get("activation"):
            part = akida.Model(layers=model.layers[:number])
            counted.append(_counted(layer.name, part.forward(frames)))
    return counted


def _counted(name: str, values: np.ndarray) -> LayerEvents:
    neurons = int(np.prod(values.shape[1:]))
    events = np.count_nonzero(values) / len(values)
    return LayerEvents(name, neurons, events, 1 - events / neurons)


# ---------------------------------------------------------------------- latency


@dataclass(frozen=True)
class Latency:
    """Time from a frame in host memory to its result there, in ms, one frame at a time."""

    backend: Backend
    frames: int
    p50: float
    p95: float
    p99: float


def latency(model: Any, x: torch.Tensor, warm_up: int = 5) -> Latency:
    """Time single calls of a model, one for each input [B, C, H, W], after some that do not count.

    On a card this includes the transfer over PCIe. In the simulator it is the host's speed and says nothing
    about the chip.
    """
    if not len(x):
        raise UsageError("there are no inputs to time: give at least one")
    frames = to_frames(x)
    for number in range(warm_up):
        model.forward(frames[number % len(frames)][None])
    seconds = []
    for frame in frames:
        start = time.perf_counter()
        model.forward(frame[None])
        seconds.append(time.perf_counter() - start)
    return Latency(backend(), len(frames), *percentiles(seconds))


# ---------------------------------------------------------------------- energy


@dataclass(frozen=True)
class Energy:
    """Power and energy of an AKD1000 board, floor and dynamic part apart. Powers in mW."""

    network: str
    source: str
    measured_here: bool
    floor: float
    average: float
    fps: float

    @property
    def dynamic(self) -> float:
        """Power above the floor, in mW: what the network adds."""
        return self.average - self.floor

    @property
    def floor_per_frame(self) -> float:
        """Energy in mJ that the idle board draws during one frame."""
        return self.floor / self.fps

    @property
    def dynamic_per_frame(self) -> float:
        """Energy in mJ that the network adds for one frame."""
        return self.dynamic / self.fps

    def text(self) -> str:
        """Give one line with both parts and the source."""
        return (
            f"floor {self.floor:.0f} mW + dynamic {self.dynamic:.1f} mW at {self.fps:.0f} frames/s = "
            f"{self.floor_per_frame:.3g} + {self.dynamic_per_frame:.2g} mJ a frame "
            f"({self.network}; {self.source})"
        )


PUBLISHED = (
    Energy(
        "16-16 CNN on MNIST, 96 KB", "ECE6790 student project, AKD1000 board", False, 894.26, 895.27, 1677.85
    ),
    Energy("AkidaNet 0.5, 224x224", "BrainChip documentation, AKD1000 board", False, 905.21, 981.0, 51.28),
    Energy("AkidaNet 0.5, 224x224", "Akida user guide, AKD1000 board", False, 912.23, 1021.0, 43.48),
)
"""What others measured on an AKD1000 board: a small and a large network. Floors of 0.89 to 0.91 W."""


def energy(model: Any, x: torch.Tensor, repeats: int = 1, settle: float = SETTLE) -> Energy | None:
    """Measure power and energy on the card; None where there is no card, or it has no power meter.

    Args:
        model: an akida.Model, mapped on the card (``map_model``).
        x: inputs [B, C, H, W]; they run as one batch, which should last a second or more.
        repeats: how often the inputs are run within that batch.
        settle: seconds to wait for the power log after it is switched on.

    Raises:
        UsageError: the batch was too short for the power meter.
    """
    device = card() if backend() == "hardware" else None
    soc = getattr(device, "soc", None)
    if soc is None:
        return None
    frames = np.concatenate([to_frames(x)] * repeats)
    before, soc.power_measurement_enabled = soc.power_measurement_enabled, True
    try:
        time.sleep(settle)
        floor = float(soc.power_meter.floor)
        model.forward(frames)
        found = model.statistics
    finally:
        soc.power_measurement_enabled = before
    if not found.powers or not found.fps:
        raise UsageError(f"{len(frames)} frames are too few for the power meter: raise repeats")
    return Energy("this network", "measured here", True, floor, float(found.powers["Avg"]), float(found.fps))


def unmeasured() -> str:
    """Say why ``energy`` has found nothing."""
    return "not measured: this card has no power meter" if backend() == "hardware" else NOT_MEASURED


# ---------------------------------------------------------------------- report


@dataclass(frozen=True)
class Report:
    """What is known about one model on one backend. ``energy`` is None where it was not measured."""

    mapping: Mapping
    events: list[LayerEvents]
    latency: Latency
    energy: Energy | None

    def rows(self) -> list[list[Any]]:
        """Give one row per layer: name, NPs, events per input, sparsity; for ``run.table``."""
        counted = {layer.name: (layer.events, layer.sparsity) for layer in self.events}
        nps = {"input": 0} | self.mapping.nps  # an image network's first layer is its input as well
        return [[name, nps[name], *counted.get(name, ("-", "-"))] for name in nps]

    def text(self) -> str:
        """Give the report as lines of text, every one with what ran it."""
        m, t = self.mapping, self.latency
        parts = ", ".join(f"{count} {kind}" for kind, count in m.components.items())
        lines = [
            f"backend: {m.backend}, mapped on {m.device} in {m.passes} pass(es)",
            f"components: {parts}; program {m.program_bytes} bytes",
        ]
        for name, nps, events, sparsity in self.rows():
            shown = "" if isinstance(events, str) else f", {events:.1f} events, {sparsity:.1%} zeros"
            lines.append(f"  {name}: {nps} NPs{shown}")
        where = "card and PCIe" if m.backend == "hardware" else "simulator on this host, not the chip"
        lines.append(f"latency ({where}): p50 {t.p50:.3f}, p95 {t.p95:.3f}, p99 {t.p99:.3f} ms")
        if self.energy is not None:
            return "\n".join([*lines, f"energy: {self.energy.text()}"])
        published = [f"  published: {e.text()}" for e in PUBLISHED]
        return "\n".join([*lines, f"energy: {unmeasured()}", *published])


def report(model: Any, x: torch.Tensor, timed: int = 200, repeats: int = 1) -> Report:
    """Map a model, run inputs [B, C, H, W] through it, and report.

    The first ``timed`` inputs are timed one by one; ``repeats`` is that of ``energy``.

    Raises: UsageError when akida is missing, or the model does not fit the chip.
    """
    mapping = map_model(model)
    counted = events_per_layer(model, x)
    return Report(mapping, counted, latency(mapping.runner, x[:timed]), energy(mapping.runner, x, repeats))
