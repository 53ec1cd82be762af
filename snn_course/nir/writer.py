"""Writes networks of the course, and of snnTorch, as graphs of NIR: right, or refused (``Unwritable``).

    graph = write_chain({"fc1": linear, "lif1": snn.Leaky(0.9), "fc2": last}, (784,), dt=1e-4)

    out = Writer((784,), dt=1e-4)                           # or node by node, with branches and loops
    cur = out.weights("fc", linear, "input")
    spk = out.neurons("lif", (10,), spiking(snn.Leaky(0.9)), *cur)
    graph = out.graph(*spk)                                 # the nir package checks its shapes

A graph knows no time: the same one runs on a sequence and on a still input. A leaky neuron in NIR:

- beta = 1 - dt / tau and r = tau / dt. With beta = 1 nothing leaks: I and IF take the place of LI and LIF.
- Reset to zero: LIF, with v_reset = 0.
- Reset by subtraction: LIF has none. A leaky integrator, a threshold, and a wire from the spikes back to the
  integrator that brings minus the threshold one step later. It acts on what the decay has left, as in
  snnTorch; to act before the decay, it brings minus beta times the threshold.
- No reset: the same without the wire.

Source: the definitions in the nir package, 1.0.8; Pedersen et al. (2024). nir is imported when it is needed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from snn_course.networks import neurons, recurrent

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

if TYPE_CHECKING:
    import nir

Array = npt.NDArray[np.float64]
Names = tuple[str, ...]
"""Of the nodes whose outputs add up to a signal."""
RESETS = ("subtract", "zero", "none")
DOES_NOTHING = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d)
"""In inference."""


class Unwritable(ValueError):
    """NIR has no word for a part of a network, or nir 1.0.8 cannot read it back."""


@dataclass(frozen=True)
class Spiking:
    """What makes a leaky neuron: one number for all, or arrays that broadcast to the layer's shape."""

    beta: Array
    threshold: Array
    reset: str
    before_decay: bool = False
    """The reset by subtraction acts at once, so that the next step decays what it left."""


def spiking(neuron: Any) -> Spiking:
    """Read the settings of ``snn.Leaky``, or of a leaky layer of the course.

    Raises:
        Unwritable: for other neurons, and for options that NIR has no word for.
    """
    import snntorch as snn

    kind = type(neuron).__name__
    if isinstance(neuron, snn.Leaky):
        if neuron.inhibition or neuron.state_quant or (neuron.graded_spikes_factor != 1).any():
            raise Unwritable(f"{kind}: NIR has no inhibition, quantised states or graded spikes")
        _check_delay(neuron.reset_mechanism, neuron.reset_delay)
        return Spiking(array(neuron.beta), array(neuron.threshold), neuron.reset_mechanism)
    if isinstance(neuron, recurrent.Layer):
        if neuron.lstm is not None or neuron.jump is not None:
            raise Unwritable(f"{kind}: NIR has neither gates nor thresholds that adapt")
        return Spiking(array(neuron.beta), array(neuron.threshold), "subtract")
    if isinstance(neuron, neurons.Leaky):
        _check_delay(neuron.reset, neuron.reset_delay)
        first = neuron.reset == "subtract first"
        reset = "subtract" if first else neuron.reset
        return Spiking(array(neuron.beta), array(neuron.threshold), reset, before_decay=first)
    known = "weights, average pools, Flatten, snn.Leaky and the course's neurons"
    raise Unwritable(f"this writer knows no {kind}: it takes {known}")


def _check_delay(reset: str, reset_delay: bool) -> None:
    """Raise Unwritable where the spikes depend on a reset in the spike's own step."""
    if reset == "subtract" and not reset_delay:
        raise Unwritable("without reset delay, snnTorch takes back some resets by subtraction")


class Writer:
    """Collects the nodes and edges of a NIR graph. Methods give the names that the next node is wired to."""

    def __init__(self, shape: tuple[int, ...], dt: float) -> None:
        """Begin with the shape of one sample, and the time step in s, for which NIR has no place."""
        import nir

        self.nodes: dict[str, Any] = {"input": nir.Input(np.array(shape))}
        self.edges: list[tuple[str, str]] = []
        self.dt = dt

    def add(self, name: str, node: Any, *sources: str) -> Names:
        """Add a node; what several sources send to it adds up. Raises: Unwritable for a name twice."""
        if name in self.nodes:
            raise Unwritable(f"there is a node called {name!r} already")
        self.nodes[name] = node
        self.edges += [(source, name) for source in sources]
        return (name,)

    def weights(self, name: str, layer: nn.Module, *sources: str) -> Names:
        """Add the weights of an nn.Linear, nn.Conv1d or nn.Conv2d. Raises: Unwritable for other layers."""
        import nir

        if isinstance(layer, nn.Linear):
            node = nir.Affine(array(layer.weight), bias_of(layer))
            return self.add(name, node, *sources)
        if not isinstance(layer, nn.Conv1d | nn.Conv2d):
            raise Unwritable(f"{name}: no node for the weights of {type(layer).__name__}")
        if layer.padding_mode != "zeros":
            raise Unwritable(f"{name}: NIR pads with zeros, not with {layer.padding_mode!r}")
        if layer.groups != 1 or len(set(layer.kernel_size)) != 1:
            raise Unwritable(f"{name}: nir 1.0.8 reads back no groups, and only kernels that are square")
        kind = nir.Conv2d
        options: tuple[Any, ...] = (layer.stride, layer.padding, layer.dilation)
        if isinstance(layer, nn.Conv1d):  # NIR has plain numbers there
            kind = nir.Conv1d
            options = tuple(o if isinstance(o, str) else o[0] for o in options)
        node = kind(None, array(layer.weight), *options, 1, bias_of(layer))
        return self.add(name, node, *sources)

    def neurons(
        self,
        name: str,
        shape: Sequence[int],
        neuron: Spiking,
        *sources: str,
    ) -> Names:
        """Add leaky neurons of this shape. Their spikes leave from ``name``, their membrane is "name.mem"."""
        import nir

        beta, threshold = _settings(name, neuron, shape)
        zero = np.zeros_like(beta)
        if neuron.reset == "zero":
            if (beta == 1).all():
                node = nir.IF(zero + 1 / self.dt, threshold, zero)
            else:
                tau, r = self.dt / (1 - beta), 1 / (1 - beta)
                node = nir.LIF(tau, r, zero, threshold, zero)
            return self.add(name, node, *sources)
        self._membrane(f"{name}.mem", beta, *sources)
        self.add(name, nir.Threshold(threshold), f"{name}.mem")
        if neuron.reset == "subtract":
            taken = beta * threshold if neuron.before_decay else threshold
            self.add(f"{name}.reset", nir.Scale(-taken), name)
            self.edges.append((f"{name}.reset", f"{name}.mem"))
        return (name,)

    def _membrane(self, name: str, beta: Array, *sources: str) -> None:
        import nir

        zero = np.zeros_like(beta)
        if (beta == 1).all():
            node = nir.I(zero + 1 / self.dt)
        else:
            tau, r = self.dt / (1 - beta), 1 / (1 - beta)
            node = nir.LI(tau, r, zero)
        self.add(name, node, *sources)

    def graph(self, *sources: str) -> "nir.NIRGraph":
        """Close the graph. Raises: ValueError where the shapes of two nodes do not fit."""
        import nir

        self.add("output", nir.Output(None), *sources)
        graph = nir.NIRGraph(self.nodes, self.edges, {"dt": self.dt}, type_check=False)
        graph.infer_types()
        graph.check_types()
        return graph


def array(x: Any) -> Array:
    """Give a number or tensor as an array of float64, in which NIR's numbers are kept here."""
    return torch.as_tensor(x).detach().cpu().double().numpy()


def bias_of(layer: Any) -> Array:
    """Give the bias of a layer; zeros where it has none."""
    return np.zeros(len(layer.weight)) if layer.bias is None else array(layer.bias)


def _settings(name: str, neuron: Spiking, shape: Sequence[int]) -> tuple[Array, Array]:
    """Give beta and threshold for each neuron of a layer. Raises: Unwritable."""
    if neuron.reset not in RESETS:
        raise Unwritable(f"{name}: no reset is called {neuron.reset!r}; there are {', '.join(RESETS)}")
    clipped = neuron.beta.clip(0, 1)  # as the neurons do it
    beta = np.broadcast_to(clipped, tuple(shape)).copy()
    threshold = np.broadcast_to(neuron.threshold, tuple(shape)).copy()
    if not np.isfinite([beta, threshold]).all():
        raise Unwritable(f"{name}: a beta or a threshold is nan or infinite")
    if (beta == 1).any() and not (beta == 1).all():
        raise Unwritable(f"{name}: some neurons have beta 1, which is another node of NIR; make two layers")
    if (threshold < 0).any():
        raise Unwritable(f"{name}: a threshold below 0, where a neuron at rest is reset before it has fired")
    return beta, threshold


def write_chain(
    layers: Mapping[str, nn.Module],
    shape: tuple[int, ...],
    dt: float,
) -> "nir.NIRGraph":
    """Write layers that follow each other: weights, pools, flattening, leaky neurons.

    Args:
        layers: by name, nn.Linear, nn.Conv1d, nn.Conv2d, nn.AvgPool2d, nn.Flatten and what ``spiking`` reads.
            Dropout is left out: a graph is for inference.
        shape: of one sample, without time and batch.
        dt: time step in seconds.

    Raises:
        Unwritable: for another layer, or an option of one that NIR has no word for.
    """
    out = Writer(shape, dt)
    at: Names = ("input",)
    sample = torch.zeros(1, *shape)
    for name, layer in layers.items():
        if isinstance(layer, DOES_NOTHING):
            continue
        if isinstance(layer, nn.AvgPool2d):
            at = out.add(name, _pool(name, layer), *at)
        elif isinstance(layer, nn.Flatten):
            at = out.add(name, _flat(name, layer), *at)
        elif isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d):
            at = out.weights(name, layer, *at)
        else:
            at = out.neurons(name, sample.shape[1:], _spiking(name, layer), *at)
            continue  # neurons keep the shape
        with torch.no_grad():
            sample = layer(sample.to(next(layer.parameters(), sample)))
    return out.graph(*at)


def _spiking(name: str, layer: Any) -> Spiking:
    """Do as ``spiking``, and name the layer that is refused."""
    try:
        return spiking(layer)
    except Unwritable as error:
        raise Unwritable(f"{name}: {error}") from None


def _pool(name: str, layer: nn.AvgPool2d) -> Any:
    import nir

    if layer.ceil_mode or layer.divisor_override or not layer.count_include_pad:
        raise Unwritable(f"{name}: NIR's average has no options: zeros of the padding count, edges do not")
    sizes = (layer.kernel_size, layer.stride, layer.padding)
    return nir.AvgPool2d(*(np.broadcast_to(size, 2).copy() for size in sizes))


def _flat(name: str, layer: nn.Flatten) -> Any:
    """NIR does not count the batch."""
    import nir

    if layer.start_dim == 0 or layer.end_dim == 0:
        raise Unwritable(f"{name}: it would mix the samples of a batch")
    start = layer.start_dim - (layer.start_dim > 0)
    end = layer.end_dim - (layer.end_dim > 0)
    return nir.Flatten(None, start, end)
