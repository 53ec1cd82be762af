"""Reads a NIR file, or says in one sentence which file, which node and which type it stops at.

    graph = read("net.nir")                     # then: Interpreter(graph, dt=1e-4)

``nir.read`` reads the same files, with two differences. At a kind of node that it does not know, or numbers
that do not make a node, it stops without the node's name. And its check of shapes (nir 1.0.8) counts the
channels of one group of a convolution only, and takes each kernel for a square: it refuses graphs that are
right. Here shapes are left to the interpreter, which tries them.

nir's files are HDF5: a group for each node, in it its ``type`` and its numbers; those of a graph inside the
graph in groups of their own.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from snn_course import reason_of
from snn_course.nir.nodes import Unreadable

import h5py
import nir
import numpy as np
from nir import serialization


def read(path: str | Path) -> nir.NIRGraph:
    """Read a graph from a file.

    Raises:
        Unreadable: for a file that is no NIR graph, or a node in it that cannot be made.
    """
    if not Path(path).is_file():
        raise Unreadable(f"there is no file {path}")
    try:
        with h5py.File(path, "r") as file:
            content = serialization.hdf2dict(file["node"])
    except (OSError, KeyError, ValueError, RuntimeError) as error:  # what h5py makes of a damaged file
        raise Unreadable(f"{path} cannot be read as a NIR file: {reason_of(error)}") from None
    if content.get("type") != "NIRGraph":
        raise Unreadable(f"{path} holds no graph, but {content.get('type')!r}")
    try:
        return _graph("", content)
    except Unreadable as error:
        raise Unreadable(f"{path}: {error}") from None


def _graph(path: str, content: Mapping[str, Any]) -> nir.NIRGraph:
    """Make a graph, and all that is in it, of what a file holds."""
    nodes: dict[str, Any] = {}
    listed = content.get("nodes")
    if not isinstance(listed, Mapping):
        raise Unreadable(f"{_called(path)} has no nodes")
    for name, inner in listed.items():
        where = path + name
        is_graph = isinstance(inner, Mapping) and inner.get("type") == "NIRGraph"
        nodes[name] = _graph(f"{where}/", inner) if is_graph else _node(where, inner)
    return nir.NIRGraph(nodes, _edges(path, content), content.get("metadata", {}), type_check=False)


def _edges(path: str, content: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Give a graph's edges, which lie in the file as names in bytes [E, 2]."""
    pairs = np.asarray(content.get("edges", ()))
    if pairs.size and (pairs.ndim != 2 or pairs.shape[1] != 2):
        raise Unreadable(f"the edges of {_called(path)} are no pairs of names")
    edges = []
    for source, target in pairs.reshape(-1, 2):
        edges.append((_text(source), _text(target)))
    return edges


def _called(path: str) -> str:
    return f"the graph {path.removesuffix('/')!r}" if path else "the graph"


def _node(path: str, content: Any) -> Any:
    """Make one node. Raises: Unreadable with its path and its type."""
    kind = content.get("type") if isinstance(content, Mapping) else None
    if not isinstance(kind, str):
        raise Unreadable(f"{path!r} has no type")
    try:
        make = nir.str2NIRNode(kind)
    except AssertionError:
        raise Unreadable(f"{path!r} ({kind}): nir knows no such node") from None
    try:
        return make.from_dict(dict(content))
    except Exception as error:  # whatever the numbers of a damaged file do to it
        raise Unreadable(f"{path!r} ({kind}): {reason_of(error)}") from None


def _text(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)
