"""How a NIR graph is wired: graphs inside it opened, an order in which to visit its nodes, and its loops.

    wiring = wired(graph)
    wiring.order                        # names of the nodes, each after those that feed it
    wiring.arriving["lif1"]             # the wires that end there: Wire(source, late)

A node of a graph inside the graph goes by a path: "block/lif". The result depends on what is connected, not
on the order in which nodes and edges are listed.

A node can only be computed after those that feed it; so in a loop one wire has to wait for the next step. It
is "late". The rule which one that is:

1. A loop is a set of nodes of which each can be reached from each (a strongly connected component).
2. A signal enters a loop at the nodes to which a wire from outside the loop leads. If there is none, at its
   nodes with a state; if these are missing, too, at all of its nodes.
3. The wires inside the loop that lead to such an entrance close it: they are late.
4. Without these wires, what is left of the loop may hold smaller loops. They are treated in the same way.

So each loop has a late wire, and no wire outside a loop is late. This is the loop nesting of compilers
(Steensgaard 1993). Graphs may be as deep and as long as they like: nothing here is recursive.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import Any

from snn_course.nir.nodes import STATEFUL, Unreadable

import networkx
import nir

Edge = tuple[str, str]


@dataclass(frozen=True)
class Wire:
    """What brings a node the output of another one."""

    source: str
    late: bool
    """It closes a loop: it delivers what its source put out one step ago."""


@dataclass(frozen=True)
class Wiring:
    """A graph without graphs inside it."""

    nodes: dict[str, Any]
    arriving: dict[str, list[Wire]]
    """For each node the wires that end there, sorted by their sources."""
    order: list[str]
    """All nodes, each after those that feed it through wires that are not late."""
    inputs: list[str]
    outputs: list[str]


def wired(graph: nir.NIRGraph) -> Wiring:
    """Take a graph apart. Raises: Unreadable for an edge that leads nowhere, or a graph without input."""
    nodes, edges = opened(graph)
    late = closing(nodes, edges)
    arriving: dict[str, list[Wire]] = {name: [] for name in nodes}
    sorter: TopologicalSorter[str] = TopologicalSorter(dict.fromkeys(sorted(nodes), ()))
    for source, target in sorted(edges):
        arriving[target].append(Wire(source, (source, target) in late))
        if (source, target) not in late:
            sorter.add(target, source)
    inputs, outputs = list(graph.inputs), list(graph.outputs)
    if not inputs or not outputs:
        raise Unreadable(f"the graph has no {'Output' if inputs else 'Input'} node")
    return Wiring(nodes, arriving, list(sorter.static_order()), inputs, outputs)


def opened(graph: nir.NIRGraph) -> tuple[dict[str, Any], list[Edge]]:
    """Give nodes and edges of a graph and of all graphs inside it, by their paths."""
    nodes: dict[str, Any] = {}
    edges: list[Edge] = []
    waiting: list[tuple[str, nir.NIRGraph]] = [("", graph)]
    while waiting:
        path, inner = waiting.pop()
        for name, node in inner.nodes.items():
            if not isinstance(name, str):
                raise Unreadable(f"a node ({type(node).__name__}) is called {name!r}, which is no string")
            if isinstance(node, nir.NIRGraph):
                waiting.append((f"{path}{name}/", node))
            elif path + name in nodes:
                raise Unreadable(f"two nodes are called {path + name!r}")
            else:
                nodes[path + name] = node
        for edge in inner.edges:
            if len(edge) != 2 or not all(isinstance(name, str) for name in edge):
                raise Unreadable(f"an edge is two names, not {edge!r}")
            source, target = edge
            leaves = end_of_wire(path, inner, source, "outputs")
            arrives = end_of_wire(path, inner, target, "inputs")
            edges.append((leaves, arrives))
    return nodes, edges


def end_of_wire(path: str, graph: nir.NIRGraph, name: str, ports: str) -> str:
    """Give the path of the node at which an edge of a graph ends that names ``name``.

    The name is that of a node, of a graph inside the graph that has one port, or "graph.port".

    Args:
        path: where the graph is.
        ports: which ports count, "inputs" or "outputs".
    """
    node = graph.nodes.get(name)
    whole = path + name
    if isinstance(node, nir.NIRGraph):
        found = list(getattr(node, ports))
        if len(found) != 1:
            raise Unreadable(f"an edge names {whole!r} (NIRGraph), which has {len(found)} {ports}: say which")
        return f"{whole}/{found[0]}"
    if node is not None:
        return whole
    for inner, port in split_names(name):
        if port in getattr(graph.nodes.get(inner), ports, ()):
            return f"{path}{inner}/{port}"
    raise Unreadable(f"an edge names {whole!r}, and there is no such node")


def split_names(name: str) -> Iterator[Edge]:
    """Split "a.b.c" at each dot in turn: a and b.c, a.b and c."""
    parts = name.split(".")
    for cut in range(1, len(parts)):
        yield ".".join(parts[:cut]), ".".join(parts[cut:])


def closing(nodes: dict[str, Any], edges: Iterable[Edge]) -> set[Edge]:
    """Find the edges that close a loop, by the rule at the top of this module."""
    found: set[Edge] = set()
    waiting = [networkx.DiGraph(edges)]
    while waiting:
        part = waiting.pop()
        for loop in networkx.strongly_connected_components(part):
            if len(loop) == 1 and not any(part.has_edge(name, name) for name in loop):
                continue  # one node that does not feed itself is none
            inside = networkx.DiGraph(part.subgraph(loop))
            doors = entrances(nodes, part, loop)
            late = [(source, target) for source, target in inside.edges if target in doors]
            found.update(late)
            inside.remove_edges_from(late)
            waiting.append(inside)
    return found


def entrances(nodes: dict[str, Any], part: Any, loop: set[str]) -> set[str]:
    """Give the nodes at which a signal enters a loop: rule 2."""
    from_outside = {target for source, target in part.in_edges(loop) if source not in loop}
    with_state = {name for name in loop if type(nodes[name]) in STATEFUL}
    return from_outside or with_state or loop
