"""Runs any NIR graph step by step: what lesson 17's short interpreter does for a few kinds of node, for all.

    play = Interpreter(files.read("net.nir"), dt=1e-4)
    out = play(x)                        # x [T, B, ...] -> what the output gets at each step [T, B, ...]
    spk = play(x, watch="lif1")          # what a node puts out; in a graph inside the graph: "block/lif1"

What a node computes is in ``nodes``, how a graph is wired in ``graphs``. Where several wires meet, they add
up. A wire that closes a loop delivers one step later; at the first step, what a network at rest puts out: no
spike, membranes of 0, and what layers between make of that, such as their biases. A node to which no wire
leads gets zeros.

What cannot be run is refused before the first step, with the name of the node and its type (``Unreadable``):
unknown kinds of node, shapes that do not fit, a time constant below dt, a delay that is no whole number of
steps, nan and infinity. Shapes are tried by a rehearsal, one step of zeros.
"""

from collections.abc import Callable, Mapping
from typing import Any

from snn_course import reason_of
from snn_course.nir import graphs
from snn_course.nir.nodes import (
    STATEFUL,
    STATELESS,
    Stateful,
    Unreadable,
    check,
    named,
    numbers_of,
    shape_of,
)

import nir
import torch
from torch import Tensor

Signals = Any
"""A tensor or an array; of several inputs a mapping of these, by their names."""
Moment = dict[str, Tensor]
"""Values of one step [B, ...], by the names of nodes."""


class Interpreter:
    """A NIR graph that can be run.

    Args:
        graph: as ``files.read`` or ``nir.read`` gives it, or made in Python.
        dt: time step in seconds; NIR has no place for it.
        dtype: torch.float64, in which rounding moves next to no spike, or torch.float32.
        device: where to run.
        stateful: functions for the kinds of node that have a state; another package's, to compare with it.
        rest: a late wire brings at the first step what a network at rest puts out; if not, nothing.
        wired: gives the order of nodes, and which wires are late.

    Raises:
        Unreadable: for a graph that cannot be run; the message names the node and its type.
    """

    def __init__(
        self,
        graph: nir.NIRGraph,
        dt: float,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
        stateful: Mapping[type, Stateful] = STATEFUL,
        rest: bool = True,
        wired: Callable[[nir.NIRGraph], graphs.Wiring] = graphs.wired,
    ) -> None:
        if dtype not in (torch.float32, torch.float64):
            raise ValueError(f"dtype must be torch.float32 or torch.float64, not {dtype}")
        if not dt > 0:
            raise ValueError(f"dt must be a time above 0 s, not {dt}")
        self.dt, self.dtype, self.device = dt, dtype, torch.device(device)
        self.stateful, self.rest = stateful, rest
        self.wiring = wired(graph)
        self.numbers = {}
        for name, node in self.wiring.nodes.items():
            self.numbers[name] = self._known(name, node)
        self._rehearse()

    def __call__(self, x: Signals, watch: str | None = None) -> Any:
        """Run the graph from zero.

        Args:
            x: the input's signal [T, B, ...], a tensor or an array; of several inputs a dict, by their names.
            watch: name of a node, whose output is wanted instead of the graph's.

        Returns:
            What the output gets at each step [T, B, ...]; of several outputs a dict, by their names.

        Raises:
            ValueError: for signals that do not fit the inputs, or an unknown name.
        """
        wanted = [watch] if watch is not None else self.wiring.outputs
        if wanted[0] not in self.wiring.nodes:
            raise ValueError(f"there is no node {watch!r}; there are {', '.join(sorted(self.wiring.nodes))}")
        record: dict[str, list[Tensor]] = {name: [] for name in wanted}
        moments = self._moments(x)
        silence = {name: torch.zeros_like(signal) for name, signal in moments[0].items()}
        out = self._rest(silence)
        state: dict[str, Any] = {}
        for moment in moments:
            out = self._step(moment, out, state)
            for name in wanted:
                record[name].append(out[name])
        signals = {name: torch.stack(steps) for name, steps in record.items()}
        return signals if len(wanted) > 1 else signals[wanted[0]]

    # ------------------------------------------------------------------ one step

    def _step(self, given: Moment, before: Moment, state: dict[str, Any]) -> Moment:
        """Compute all nodes once. ``before`` is what they put out one step ago; ``state`` is brought on."""
        out: Moment = {}
        for name in self.wiring.order:
            x = self._arriving(name, given, before, out)
            out[name], state[name] = self._compute(name, x, state.get(name))
        return out

    def _rest(self, silence: Moment) -> Moment:
        """Give what all nodes put out before the first step, where the inputs are ``silence`` [B, ...]."""
        out: Moment = {}
        for name in self.wiring.order if self.rest else ():
            out[name] = self._arriving(name, silence, {}, out)
            if type(self.wiring.nodes[name]) in STATELESS:
                out[name], _ = self._compute(name, out[name], None)
            else:
                out[name] = torch.zeros_like(out[name])
        return out

    def _arriving(self, name: str, given: Moment, before: Moment, out: Moment) -> Tensor:
        """Add up what a node gets: from outside, and by wires from nodes that are computed already."""
        signals = [given[name]] if name in given else []
        for wire in self.wiring.arriving[name]:
            sent = before if wire.late else out
            if wire.source in sent:
                signals.append(sent[wire.source])
        if signals:
            return self._sum(name, signals)
        batch = len(next(iter(given.values())))
        return self._silence(name, batch)

    def _sum(self, name: str, signals: list[Tensor]) -> Tensor:
        """Add up what arrives at a node. Raises: Unreadable if it has not one shape, or not the node's."""
        node = self.wiring.nodes[name]
        declared = None if isinstance(node, nir.Output) else shape_of(node)  # an Output computes nothing
        wanted = declared or tuple(signals[0].shape[1:])  # numbers without a shape are those of all neurons
        for signal in signals:
            if tuple(signal.shape[1:]) != wanted:
                raise Unreadable(f"{named(name, node)} takes {list(wanted)}, not {list(signal.shape[1:])}")
        return sum(signals[1:], signals[0])

    def _silence(self, name: str, batch: int) -> Tensor:
        """Give the input of a node at which nothing arrives: zeros [B, ...]."""
        node = self.wiring.nodes[name]
        shape = shape_of(node)
        if shape is None:
            raise Unreadable(
                f"{named(name, node)}: nothing arrives, and nothing tells the shape of its input"
            )
        return torch.zeros(batch, *shape, dtype=self.dtype, device=self.device)

    def _compute(self, name: str, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Give what a node makes of x [B, ...], and its next state."""
        node, n = self.wiring.nodes[name], self.numbers[name]
        try:
            if type(node) in STATELESS:
                return STATELESS[type(node)](n, x), None
            return self.stateful[type(node)](n, x, state, self.dt)
        except (RuntimeError, TypeError, IndexError, ValueError) as error:
            where = f"{named(name, node)}, for input {list(x.shape[1:])}"
            raise Unreadable(f"{where}: {reason_of(error)}") from None

    # ------------------------------------------------------------------ before the first step

    def _known(self, name: str, node: Any) -> Any:
        """Give a node's numbers. Raises: Unreadable for a kind or for numbers that cannot be run."""
        if type(node) not in STATELESS and type(node) not in self.stateful:
            raise Unreadable(f"{named(name, node)}: this reader knows no such node")
        n = numbers_of(name, node, self.dtype, self.device)
        check(name, node, n, self.dt)
        return n

    def _rehearse(self) -> None:
        """Run one step of zeros. An input of unknown shape is left to the call."""
        if any(shape_of(self.wiring.nodes[name]) is None for name in self.wiring.inputs):
            return
        given = {name: self._silence(name, 1) for name in self.wiring.inputs}
        with torch.no_grad():
            self._step(given, self._rest(given), {})

    def _moments(self, x: Signals) -> list[Moment]:
        """Split signals [T, B, ...] into steps, each by the name of its input."""
        inputs = self.wiring.inputs
        signals = x if isinstance(x, Mapping) else {inputs[0]: x}
        if set(signals) != set(inputs):
            raise ValueError(f"the inputs are {', '.join(inputs)}; given were {', '.join(signals)}")
        given = {name: torch.as_tensor(signal) for name, signal in signals.items()}
        sizes = {signal.shape[:2] for signal in given.values()}
        if len(sizes) > 1 or 0 in next(iter(sizes)):
            raise ValueError("signals are [T, B, ...], with one T and one B, neither of them 0")
        for name, signal in given.items():
            shape = shape_of(self.wiring.nodes[name])
            if shape is not None and tuple(signal.shape[2:]) != shape:
                wanted = ", ".join(["T", "B", *map(str, shape)])
                raise ValueError(f"{name!r} takes [{wanted}], not {list(signal.shape)}")
            if not signal.isfinite().all():
                raise ValueError(f"the signal of {name!r} has values that are nan or infinite")
        steps = []
        for signal in given.values():
            steps.append(signal.to(self.device, self.dtype).unbind(0))
        return [dict(zip(given, moment, strict=True)) for moment in zip(*steps, strict=True)]
