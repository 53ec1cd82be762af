"""How neurons of other packages differ from NIR's, as data with which the interpreter runs (lesson 17).

    neuron = Convention(start="v_reset", at_threshold=True)
    Interpreter(graph, dt, stateful=neuron.stateful())(x)       # what SpikingJelly makes of the graph

A ``Fact`` is one difference, in words and as something to run. Which facts explain what a package gives is
found by trying: the fewest with which the interpreter gives the same spikes.
"""

import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from snn_course.nir import graphs, prepared
from snn_course.nir.interpreter import Interpreter
from snn_course.nir.nodes import STATEFUL, Numbers, Stateful, Step, Unreadable

import nir
import torch
from torch import Tensor

NO_STEP = 1e-30
"""The dt of time constants that are in steps: a decay may take less than one."""


@dataclass(frozen=True)
class Convention:
    """What LIF and IF do where NIR leaves it open, or where a package does something else."""

    start: str = "0"
    """The membrane before the first step: "0", "v_leak" or "v_reset"."""
    at_threshold: bool = False
    """Fires where the membrane is at the threshold, too."""
    reset: str = "v_reset"
    """What a spike leaves: "v_reset", "0", or "subtract", the membrane less the threshold."""
    many: bool = False
    """Fires for each threshold that the membrane has reached, and subtracts as many."""
    floor: bool = False
    """The membrane of IF goes no lower than minus the threshold."""
    exact: bool = False
    """v <- exp(-1 / tau) v + x, with tau in steps, and without r: what the equation does between inputs."""

    def step(self, n: Numbers, x: Tensor, v: Any, dt: float) -> Step:
        """One step of LIF or IF."""
        if v is None:
            v = getattr(n, self.start, 0 * n.r).expand_as(x)
        leaks = hasattr(n, "tau")
        v = self._charged(n, x, v, dt)
        spk = self._spikes(n, v)
        left = {"v_reset": n.v_reset, "0": 0 * n.r, "subtract": v - spk * n.v_threshold}[self.reset]
        v = torch.where(spk > 0, left, v)
        return spk, torch.maximum(v, -n.v_threshold) if self.floor and not leaks else v

    def _charged(self, n: Numbers, x: Tensor, v: Tensor, dt: float) -> Tensor:
        leaks = hasattr(n, "tau")
        if self.exact:
            return v * torch.exp(-1 / n.tau) + x if leaks else v + x
        return v + dt / n.tau * ((n.v_leak - v) + n.r * x) if leaks else v + dt * n.r * x

    def _spikes(self, n: Numbers, v: Tensor) -> Tensor:
        if self.many:
            return (v / n.v_threshold).trunc().clamp(min=0)
        return (v >= n.v_threshold if self.at_threshold else v > n.v_threshold).to(v.dtype)

    def integrate(self, n: Numbers, x: Tensor, v: Any, dt: float) -> Step:
        """One step of LI."""
        v = self._charged(n, x, torch.zeros_like(x) if v is None else v, dt)
        return v, v

    def stateful(self) -> dict[type, Stateful]:
        """Give the functions of all nodes with a state, for the interpreter."""
        return {**STATEFUL, nir.LIF: self.step, nir.IF: self.step, nir.LI: self.integrate}


@dataclass(frozen=True)
class Fact:
    """One thing that a package does in a way of its own."""

    words: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    """Fields of ``Convention``."""
    kinds: Mapping[type, Stateful] = field(default_factory=dict)
    """Functions for kinds of node."""
    wired_as: Callable[[nir.NIRGraph], nir.NIRGraph] | None = None
    """The graph as the package wires it, made from what it was given."""
    rest: bool = True
    """Whether a late wire brings at the first step what a network at rest puts out, or nothing."""
    order: Callable[[nir.NIRGraph], graphs.Wiring] | None = None
    """The order in which the package visits nodes."""


@dataclass(frozen=True)
class Given:
    """A graph, its time step, and the same as a package was given them."""

    graph: nir.NIRGraph
    dt: float
    ready: nir.NIRGraph
    ready_dt: float
    exact: bool
    """The package's tau is that of ``Convention.exact``."""


def explanations(facts: tuple[Fact, ...], given: Given, x: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Run a graph with each choice of facts, the smallest first. Gives: their words, and the output."""
    for count in range(1, len(facts) + 1):
        for chosen in itertools.combinations(facts, count):
            with contextlib.suppress(Unreadable):  # a time constant that is another one to the package
                yield ", ".join(fact.words for fact in chosen), run_with(chosen, given, x)


def run_with(facts: tuple[Fact, ...], given: Given, x: Tensor) -> Tensor:
    """Run a graph as a package would of which these facts are true."""
    graph, dt = given.graph, given.dt
    order: Callable[[nir.NIRGraph], graphs.Wiring] = graphs.wired
    convention = Convention()
    kinds: dict[type, Stateful] = {}
    for fact in facts:
        convention = replace(convention, **fact.fields)
        kinds.update(fact.kinds)
        if fact.wired_as or fact.order:  # then it matters what the package was given
            graph, dt = given.ready, NO_STEP if given.exact else given.ready_dt
            convention = replace(convention, exact=given.exact)
        if fact.wired_as:
            graph = fact.wired_as(graph)
        order = fact.order or order
    stateful = {**convention.stateful(), **kinds}
    rest = all(fact.rest for fact in facts)
    return Interpreter(graph, dt, stateful=stateful, rest=rest, wired=order)(x)


# ---------------------------------------------------------------------- snnTorch 1.0.0


def integrate_with_a_leak(n: Numbers, x: Tensor, v: Any, dt: float) -> Step:
    """IF as ``import_from_nir`` makes it: ``snn.Leaky`` with beta 0.9 that subtracts without a delay.

    What is left above the threshold is subtracted again at the next step, and given back if no spike follows.
    """
    v = torch.zeros_like(x) if v is None else v
    again = (v > n.v_threshold).to(x.dtype)
    v = 0.9 * v + dt * n.r * x - again * n.v_threshold
    spk = (v > n.v_threshold).to(x.dtype)
    return spk, v - (spk - again) * n.v_threshold


def through_recurrent_weights(graph: nir.NIRGraph) -> nir.NIRGraph:
    """Wire as ``import_from_nir`` does: what enters a recurrent neuron goes to its recurrent weights."""
    nodes, edges = graphs.opened(graph)
    pairs = {
        (neuron, weights)
        for neuron, weights in edges
        if (weights, neuron) in edges
        and isinstance(nodes[neuron], nir.LIF | nir.CubaLIF)
        and isinstance(nodes[weights], nir.Affine | nir.Linear)
    }
    back = dict(pairs)
    wires = [(a, back[b]) if b in back and back[b] != a else (a, b) for a, b in edges]
    for name, node in nodes.items():
        if isinstance(node, nir.IF):  # its r of 1 means that a step takes in the whole input, whatever dt
            nodes[name] = nir.IF(node.r / prepared.SNNTORCH_DT, node.v_threshold, node.v_reset)
    return nir.NIRGraph(nodes, wires, type_check=False)


# ---------------------------------------------------------------------- nirtorch 2.6, under Norse and sinabs


def walked(graph: nir.NIRGraph) -> graphs.Wiring:
    """Visit nodes in the order of a walk, depth first, as nirtorch's GraphExecutor does.

    A node is computed when the walk comes to it, whether or not all that feed it have been: what comes from
    a node further on in the walk is a step late. The answer is what the last node puts out.
    """
    nodes, edges = graphs.opened(graph)
    order: list[str] = []
    waiting = list(graph.inputs)
    while waiting:
        name = waiting.pop()
        if name not in order:
            order.append(name)
            waiting += [target for source, target in reversed(edges) if source == name]
    place = {name: number for number, name in enumerate(order)}
    arriving: dict[str, list[graphs.Wire]] = {name: [] for name in order}
    for source, target in edges:
        arriving[target].append(graphs.Wire(source, place[source] >= place[target]))
    return graphs.Wiring(nodes, arriving, order, list(graph.inputs), order[-1:])


# ---------------------------------------------------------------------- what is true of each package

NOTHING_AT_FIRST = Fact("brings no bias round a loop at the first step", rest=False)
WALKS = Fact("visits nodes before all that feed them are known", rest=False, order=walked)

FACTS = {
    "snntorch": (
        Fact("resets to 0", {"reset": "0"}),
        Fact("lets IF leak 10 % a step, and subtract", kinds={nir.IF: integrate_with_a_leak}),
        Fact("sends what enters a loop through its weights", wired_as=through_recurrent_weights),
        NOTHING_AT_FIRST,
    ),
    "spikingjelly": (
        Fact("starts at v_reset", {"start": "v_reset"}),
        Fact("fires at the threshold, too", {"at_threshold": True}),
        NOTHING_AT_FIRST,
    ),
    "norse": (
        Fact("resets to 0", {"reset": "0"}),
        Fact("starts at v_leak", {"start": "v_leak"}),
        NOTHING_AT_FIRST,
        WALKS,
    ),
    "sinabs": (
        Fact("subtracts the threshold", {"reset": "subtract"}),
        Fact("subtracts, for each threshold reached a spike", {"reset": "subtract", "many": True}),
        Fact("keeps IF above minus the threshold", {"floor": True}),
        NOTHING_AT_FIRST,
        WALKS,
    ),
}
