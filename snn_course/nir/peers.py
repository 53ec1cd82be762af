"""Other packages that read NIR: called as their documentation asks, and what their answer means (lesson 17).

    for verdict in compare(graph, x, dt, expected):          # x [T, B, ...], expected spikes [T, B, N]
        print(verdict.package, verdict.kind, verdict.changed, verdict.why)

A verdict is one of:

- equal: the package gives the expected spikes;
- by convention: it reads the graph, but does something in a way of its own. What, is not a guess: the
  interpreter runs the graph in that way (``conventions``), and gives the package's spikes to the last one;
- differs: it reads the graph, and no known convention explains its spikes;
- cannot read: it stops with an error; the kinds of node that it does not take are named;
- not installed.

The packages are optional (``INSTALL``): one of them asks for an older nir, so that what they require is left
out. Read for this: SpikingJelly 2.0.0 (activation_based/nir_exchange), Norse 1.1.0 (torch/utils/import_nir),
sinabs 3.1.3 (nir.py, layers/lif.py), snnTorch 1.0.0 (import_nir). Lava has a Python of its own (``lava.py``).
"""

import contextlib
import copy
import importlib.util
import io
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from snn_course.nir import conventions, graphs, lava, prepared, snntorch_trip
from snn_course.nir.interpreter import Interpreter
from snn_course.nir.nodes import STATEFUL

import nir
import numpy as np
import torch
from torch import Tensor

INSTALL = (
    "python -m uv pip install --no-deps spikingjelly==2.0.0 norse==1.1.0 sinabs==3.1.3 "
    "loguru==0.7.3 scienceplots==2.2.2 pbr==7.1.3"
)
"""How to get them, with the course's Python; nothing that is there changes."""


@dataclass(frozen=True)
class Peer:
    """Another package that reads NIR."""

    package: str
    wish: Callable[[Any, float], prepared.Wish | None]
    """How it wants a node."""
    run: Callable[[nir.NIRGraph, Tensor, float], Tensor]
    """Runs a graph on x [T, B, ...], as the package's documentation asks; gives [T, B, N]."""
    dt: float | None = None
    """The time step of the graphs that it is given, if it has one of its own."""
    exact: bool = False
    """Its neurons decay by exp(-1 / tau), with tau in steps."""


@dataclass(frozen=True)
class Verdict:
    """What a package makes of a graph."""

    package: str
    kind: str
    changed: float | None = None
    """Share of spikes in % that only the package or only the expected recording has."""
    why: str = ""


# ---------------------------------------------------------------------- how packages are called


def by_snntorch(graph: nir.NIRGraph, x: Tensor, dt: float) -> Tensor:
    """Step by step; the importer knows one dt, of 0.1 ms."""
    return snntorch_trip.play(snntorch_trip.read(graph).double(), x)


def by_spikingjelly(graph: nir.NIRGraph, x: Tensor, dt: float) -> Tensor:
    """Step by step, the state handed on."""
    from spikingjelly.activation_based import nir_exchange

    return stepped(nir_exchange.import_from_nir(graph, dt=dt, dtype=torch.float64), x)


def by_norse(graph: nir.NIRGraph, x: Tensor, dt: float) -> Tensor:
    """Step by step, times in steps, the state handed on."""
    import norse.torch as norse

    return stepped(norse.from_nir(graph, dt=1.0, ignore_warnings=True).double(), x)


def by_sinabs(graph: nir.NIRGraph, x: Tensor, dt: float) -> Tensor:
    """All steps at once, as [B * T, ...]; where a wire is late, step by step, the state handed on."""
    import sinabs.nir
    from sinabs.layers import StatefulLayer

    steps, batch = x.shape[:2]
    net = sinabs.nir.from_nir(graph, batch_size=batch).double()
    for layer in net.modules():
        if isinstance(layer, StatefulLayer):  # its spikes are float32
            layer.register_forward_hook(lambda layer, inputs, spk: spk.double())
    arriving = conventions.walked(graph).arriving.values()
    if any(wire.late for wires in arriving for wire in wires):
        return stepped(net, x)
    spk, _ = net(x.transpose(0, 1).flatten(0, 1))  # [B * T, N]
    return spk.unflatten(0, (batch, steps)).transpose(0, 1)


def stepped(net: Any, x: Tensor) -> Tensor:
    """Step a module (input, state) -> (output, state) through time, from rest."""
    state, outputs = None, []
    for x_t in x.unbind(0):
        out, state = net(x_t, state)
        outputs.append(out)
    return torch.stack(outputs)


PEERS = (
    Peer("snntorch", prepared.of_snntorch, by_snntorch, dt=prepared.SNNTORCH_DT),
    Peer("spikingjelly", prepared.of_spikingjelly, by_spikingjelly),
    Peer("norse", prepared.of_norse, by_norse, dt=1.0),
    Peer("sinabs", prepared.of_sinabs, by_sinabs, exact=True),
)

LAVA_SAMPLES = 2
"""Samples that Lava is given."""

# ---------------------------------------------------------------------- verdicts

ROUNDING = 1e-3
"""Share of spikes in % that rounding may change: some packages keep numbers in float32."""


def compare(graph: nir.NIRGraph, x: Tensor, dt: float, expected: Tensor) -> list[Verdict]:
    """Run a graph in each other package.

    Args:
        graph: a NIR graph with one input and one output.
        x: its input [T, B, ...].
        dt: time step in seconds.
        expected: spikes of its output [T, B, N].

    Returns:
        A verdict for each of ``PEERS``, and for Lava.
    """
    verdicts = [verdict(peer, graph, x, dt, expected) for peer in PEERS]
    return [*verdicts, verdict_of_lava(graph, x, dt, expected)]


def verdict(peer: Peer, graph: nir.NIRGraph, x: Tensor, dt: float, expected: Tensor) -> Verdict:
    """Run a graph in one package, and say what its spikes mean."""
    if importlib.util.find_spec(peer.package) is None:
        return Verdict(peer.package, "not installed")
    try:
        ready, notes = prepared.prepared(graph, dt, peer.wish)
        with quiet():
            spk = peer.run(ready, x.double(), dt)
    except Exception as error:  # a package that fails is a result
        return Verdict(peer.package, "cannot read", why=reason(peer, graph, dt, error))
    changed = share(spk, expected.double())
    if changed <= ROUNDING:
        return Verdict(peer.package, "equal", changed, ", ".join(notes))
    given = conventions.Given(graph, dt, ready, peer.dt or dt, peer.exact)
    for words, explained in conventions.explanations(conventions.FACTS[peer.package], given, x):
        if share(spk, explained) <= ROUNDING:
            return Verdict(peer.package, "by convention", changed, words)
    if kinds := sorted(unread(peer, graph, dt)):  # it drops them, and says nothing
        return Verdict(peer.package, "cannot read", changed, f"leaves out {', '.join(kinds)}")
    return Verdict(peer.package, "differs", changed, "no known convention explains it")


def verdict_of_lava(graph: nir.NIRGraph, x: Tensor, dt: float, expected: Tensor) -> Verdict:
    """Run a graph with a few samples in Lava's simulator of Loihi 2: each takes seconds."""
    interpreter = lava.python()
    if interpreter is None:
        return Verdict("lava", "not installed")
    try:
        spk = lava.spikes(lava.layers_of(graph, dt), x[:, :LAVA_SAMPLES], interpreter)
    except (lava.Unreadable, RuntimeError, OSError) as error:
        return Verdict("lava", "cannot read", why=str(error))
    changed = share(spk, expected[:, :LAVA_SAMPLES].double())
    kind = "equal" if changed <= ROUNDING else "differs"
    return Verdict("lava", kind, changed, f"{spk.shape[1]} samples; each layer comes one step later")


def share(spk: Tensor, expected: Tensor) -> float:
    """Give the share of spikes in % that changed; 100 where they are no spikes, or of other neurons."""
    if spk.shape != expected.shape:
        return 100.0
    return min(100.0, snntorch_trip.changed(spk, expected))


def reason(peer: Peer, graph: nir.NIRGraph, dt: float, error: Exception) -> str:
    """Say why a package cannot read a graph: the kinds of node that it does not take, else its message."""
    kinds = sorted(unread(peer, graph, dt))
    if kinds:
        return f"takes no {', '.join(kinds)}"
    lines = str(error).splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:80]}"


def unread(peer: Peer, graph: nir.NIRGraph, dt: float) -> set[str]:
    """Find the kinds of node in a graph that a package does not take even alone."""
    found = set()
    for node in graphs.opened(graph)[0].values():
        shape = declared(node)
        if not shape or isinstance(node, nir.Input | nir.Output) or takes(peer, node, shape, dt):
            continue
        found.add(type(node).__name__ + _restriction(peer, node, shape, dt))
    return found


def _restriction(peer: Peer, node: Any, shape: tuple[int, ...], dt: float) -> str:
    """Say what it is about neurons that a package does not take, if it takes others of their kind."""
    if type(node) not in STATEFUL:
        return ""
    if takes(peer, row(node), declared(row(node)), dt):
        return " of pictures"
    if takes(peer, alike(node), shape, dt):
        return " with a number for each neuron"
    return ""


def takes(peer: Peer, node: Any, shape: tuple[int, ...], dt: float) -> bool:
    """Tell whether a package runs a graph of one node, and gives an output of the right shape."""
    wanted = peer.wish(node, dt)
    alone = single(wanted.node if wanted else node, shape)
    x = torch.zeros(2, 3, *shape, dtype=torch.float64)
    try:
        with quiet():
            out = peer.run(alone, x, dt)
    except Exception:  # whatever it is: the package does not take the node
        return False
    return out.shape == Interpreter(single(node, shape), dt)(x).shape


def row(node: Any) -> Any:
    """Give neurons of any shape in a row."""
    flat = copy.copy(node)
    for name, value in vars(node).items():
        if isinstance(value, np.ndarray):
            setattr(flat, name, value.ravel())
    flat.input_type = {"input": np.array([np.prod(declared(node))])}
    return flat


def alike(node: Any) -> Any:
    """Give neurons that all have the numbers of the first."""
    same = copy.copy(node)
    for name, value in vars(node).items():
        if isinstance(value, np.ndarray) and value.size:
            setattr(same, name, np.full_like(value, value.ravel()[0]))
    return same


def declared(node: Any) -> tuple[int, ...]:
    """Give the shape of a node's input, as its graph has told it; () where it has not."""
    shape = (node.input_type or {}).get("input")
    return () if shape is None else tuple(int(n) for n in np.asarray(shape).ravel())


def single(node: Any, shape: tuple[int, ...]) -> nir.NIRGraph:
    """Give a graph of one node, without a check of its types."""
    nodes = {"input": nir.Input(np.array(shape)), "node": node, "output": nir.Output(None)}
    return nir.NIRGraph(nodes, [("input", "node"), ("node", "output")], type_check=False)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep other packages from printing, from logging (also from C++), and from recording gradients."""
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        sys.stderr.flush()
        os.dup2(nowhere, 2)
        with warnings.catch_warnings(), torch.no_grad(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
