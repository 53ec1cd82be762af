"""Rewrites a NIR graph without changing what it computes, so that a reader with fewer words takes it.

    graph, notes = prepared(graph, dt, wish)       # notes say in words what was done

Many packages ignore a neuron's resistance r, or want one value of it; some ask for v_leak = 0, or count time
in steps of their own. In a step a neuron does v <- v + dt / tau ((v_leak - v) + r x): so a factor of r may as
well stand in the weights before it, and v_leak in their bias. A ``Wish`` says what a package wants of a
neuron; the weights in front of it then take over the rest.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from snn_course.nir import graphs

import nir
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Nodes = dict[str, Any]
Edges = list[graphs.Edge]
SNNTORCH_DT = 1e-4
"""The time step in seconds that snnTorch 1.0 takes for granted when it reads or writes NIR."""
WEIGHTS = (nir.Affine, nir.Linear, nir.Conv1d, nir.Conv2d)


class CannotPrepare(ValueError):
    """The weights in front of a neuron cannot take over a factor."""


@dataclass(frozen=True)
class Wish:
    """A neuron as a package wants it, and what the weights before it have to take over."""

    node: Any
    factor: Array | float = 1.0
    """By which they are multiplied."""
    offset: Array | float = 0.0
    """What is added to the neuron's input after that."""
    notes: tuple[str, ...] = ()


def prepared(
    graph: nir.NIRGraph,
    dt: float,
    wish: Callable[[Any, float], Wish | None],
) -> tuple[nir.NIRGraph, list[str]]:
    """Give an equal graph whose nodes are as ``wish(node, dt)`` wants them, and notes on what was done.

    Graphs inside the graph are opened. A wish of None leaves a node as it is.

    Raises:
        CannotPrepare: where weights would have to be put in front of neurons that are not in a row.
    """
    nodes, edges = graphs.opened(graph)
    notes: dict[str, None] = {}
    for name in list(nodes):
        wanted = wish(nodes[name], dt)
        if wanted is None:
            continue
        nodes[name] = wanted.node
        notes |= dict.fromkeys(wanted.notes)
        if not _is(wanted.factor, 1):
            notes["r folded into the weights"] = None
        if not _is(wanted.offset, 0):
            notes["v_leak folded into the biases"] = None
        if not (_is(wanted.factor, 1) and _is(wanted.offset, 0)):
            _fold(name, wanted, nodes, edges)
    return nir.NIRGraph(nodes, edges, type_check=False), list(notes)


def _is(values: Array | float, number: float) -> bool:
    return np.allclose(values, number, rtol=1e-12, atol=1e-12)


def _fold(name: str, wanted: Wish, nodes: Nodes, edges: Edges) -> None:
    """Let the weights in front of a neuron take over the factor and, one of them, the offset.

    That one is not round a loop: there, some packages bring no bias at the first step.
    """
    sources = [source for source, target in edges if target == name]
    owned = [source for source in sources if _is_own(source, nodes, edges)]
    late = {source for source, target in graphs.closing(nodes, edges) if target == name}
    factor = np.asarray(wanted.factor)
    offset = factor * 0 + wanted.offset
    if set(sources) <= late or len(owned) < len(sources):
        _put_in_front(name, factor, offset, nodes, edges)
        return
    for source in sorted(owned, key=late.__contains__):
        nodes[source] = scaled(nodes[source], factor, offset)
        offset = 0 * offset  # once is enough


def _is_own(source: str, nodes: Nodes, edges: Edges) -> bool:
    """Tell whether a node has weights, and feeds one node alone."""
    targets = [target for start, target in edges if start == source]
    return isinstance(nodes[source], WEIGHTS) and len(targets) == 1


def _put_in_front(
    name: str,
    factor: Array,
    offset: Array,
    nodes: Nodes,
    edges: Edges,
) -> None:
    """Wire what leads to a neuron to new weights, one a neuron. Raises: CannotPrepare unless it is a row."""
    if factor.ndim != 1:
        raise CannotPrepare(f"no weights in front of {name!r} can take over its r or v_leak")
    weights = f"{name}.weights"
    nodes[weights] = nir.Affine(np.diag(factor), offset)
    for number, (source, target) in enumerate(edges):
        if target == name:
            edges[number] = source, weights
    edges.append((weights, name))


def scaled(node: Any, factor: Array, offset: Array) -> Any:
    """Give weights whose output is ``factor`` times as large, plus ``offset``. Raises: CannotPrepare."""
    if isinstance(node, nir.Conv1d | nir.Conv2d):
        factor, offset = _per_channel(factor), _per_channel(offset)
        per_kernel = factor.reshape(-1, *[1] * (node.weight.ndim - 1))
        return _with(node, weight=node.weight * per_kernel, bias=node.bias * factor + offset)
    if isinstance(node, nir.Linear) and not np.any(offset):
        return nir.Linear(node.weight * factor[:, None])
    bias = getattr(node, "bias", np.zeros(len(node.weight)))
    return nir.Affine(node.weight * factor[:, None], bias * factor + offset)


def _per_channel(values: Array) -> Array:
    """Give one number for each channel of neurons [C, ...]. Raises: CannotPrepare if it has several."""
    rows = values.reshape(len(values), -1)
    if not np.allclose(rows, rows[:, :1], rtol=1e-12):
        raise CannotPrepare("a convolution has one factor a channel, and these neurons have more")
    return rows[:, 0]


# ---------------------------------------------------------------------- what packages want


def of_spikingjelly(node: Any, dt: float) -> Wish | None:
    """v <- v + (v_leak - v) dt / tau + x, with v_leak = v_reset: import_from_nir wants r = tau / dt."""
    if isinstance(node, nir.IF):
        return Wish(_with(node, r=_ones(node) / dt), node.r * dt)
    if isinstance(node, nir.LIF):
        share = dt / node.tau
        kept = _with(node, r=1 / share, v_leak=node.v_reset)
        return Wish(kept, share * node.r, share * (node.v_leak - node.v_reset))
    if isinstance(node, nir.CubaLIF):
        kept = _with(node, w_in=node.tau_syn / dt, r=node.tau_mem / dt)
        return Wish(kept, _gain_of_current(node, dt))
    return None


def of_snntorch(node: Any, dt: float) -> Wish | None:
    """v <- beta v + x, where import_from_nir takes dt for 0.1 ms: all times are brought to steps of that."""
    step = SNNTORCH_DT
    notes = () if np.isclose(dt, step) else ("times in steps of 0.1 ms",)
    if isinstance(node, nir.IF):
        return Wish(_with(node, r=_ones(node)), node.r * dt)
    if isinstance(node, nir.LIF):
        share = dt / node.tau
        kept = _with(node, tau=step / share, r=1 / share, v_leak=0 * node.v_leak)
        return Wish(kept, share * node.r, share * node.v_leak, notes)
    if isinstance(node, nir.CubaLIF):
        syn, mem = node.tau_syn / dt, node.tau_mem / dt  # in steps
        kept = _with(node, tau_syn=syn * step, tau_mem=mem * step, w_in=syn, r=mem)
        return Wish(kept, _gain_of_current(node, dt), notes=notes)
    return _batch_counted(node)


def of_norse(node: Any, dt: float) -> Wish | None:
    """v <- v + dt / tau ((v_leak - v) + x): r is ignored; IF does v <- v + x. Times in steps: dt is 1."""
    if isinstance(node, nir.IF):
        return Wish(_with(node, r=_ones(node)), node.r * dt)
    if isinstance(node, nir.LIF):
        kept = _with(node, tau=node.tau / dt, r=_ones(node))
        return Wish(kept, node.r)
    if isinstance(node, nir.CubaLIF):
        syn, mem = node.tau_syn / dt, node.tau_mem / dt
        return Wish(_with(node, tau_syn=syn, tau_mem=mem))
    return _batch_counted(node)


def of_sinabs(node: Any, dt: float) -> Wish | None:
    """v <- exp(-1 / tau) v + x, with tau in steps. That is 1 - dt / tau of NIR's tau, by another tau."""
    if isinstance(node, nir.IF):
        return Wish(_with(node, r=_ones(node)), node.r * dt)
    if isinstance(node, nir.LI | nir.LIF):
        share = np.minimum(dt / node.tau, 1)
        with np.errstate(divide="ignore"):
            tau = np.maximum(-1 / np.log1p(-share), 1e-30)  # 0 would be a decay to nothing: nearly that
        kept = _with(node, tau=tau, r=_ones(node), v_leak=0 * node.v_leak)
        return Wish(kept, share * node.r, share * node.v_leak, ("tau in steps",))
    if isinstance(node, nir.Linear):
        bias = np.zeros(node.weight.shape[:-1])
        return Wish(nir.Affine(node.weight, bias))
    return None


def _gain_of_current(node: Any, dt: float) -> Array:
    """Give by how much an input lifts the membrane of CubaLIF in its step."""
    current = node.w_in * dt / node.tau_syn
    return current * node.r * dt / node.tau_mem


def _batch_counted(node: Any) -> Wish | None:
    """Count the batch among the axes of Flatten, for packages that hand them to PyTorch as they are."""
    if not isinstance(node, nir.Flatten):
        return None
    start = int(node.start_dim) + (node.start_dim >= 0)
    end = int(node.end_dim) + (node.end_dim >= 0)
    kept = _with(node, start_dim=start, end_dim=end)
    return Wish(kept, notes=("Flatten's axes with the batch",))


def _with(node: Any, **numbers: Any) -> Any:
    """Give a copy of a node with other numbers."""
    changed = copy.copy(node)
    for name, values in numbers.items():
        setattr(changed, name, values)
    return changed


def _ones(node: Any) -> Array:
    return np.ones_like(node.r)
