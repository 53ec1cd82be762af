"""Files that others wrote, and damaged ones: read, or refused with the file, the node and its type."""

from snn_course.nir import files
from snn_course.nir.interpreter import Interpreter
from snn_course.nir.nodes import Unreadable

import h5py
import nir
import numpy as np
import pytest
import torch

ONE = np.ones(5)


@pytest.fixture
def path(tmp_path):
    """A file with a graph in a graph."""
    inner = nir.NIRGraph.from_list(nir.Affine(np.ones((5, 5)), ONE), nir.LIF(ONE, ONE, ONE, ONE))
    nodes = {"in": nir.Input(np.array([5])), "block": inner, "out": nir.Output(np.array([5]))}
    nir.write(tmp_path / "net.nir", nir.NIRGraph(nodes, [("in", "block"), ("block", "out")]))
    return tmp_path / "net.nir"


def test_what_nir_reads_is_read_alike(path):
    x = torch.rand(20, 2, 5)
    assert torch.equal(Interpreter(files.read(path), 0.25)(x), Interpreter(nir.read(path), 0.25)(x))


def test_metadata_is_kept(tmp_path):
    graph = nir.NIRGraph.from_list(nir.Scale(ONE))
    graph.metadata = {"dt": 1e-4}
    nir.write(tmp_path / "net.nir", graph)
    assert files.read(tmp_path / "net.nir").metadata["dt"] == 1e-4


CONVOLUTIONS = {
    "groups": (nir.Conv2d(None, np.ones((4, 1, 3, 3)), 1, 1, 1, 4, np.zeros(4)), (4, 8, 8)),
    "an oblong kernel": (nir.Conv2d(None, np.ones((2, 4, 3, 5)), 1, 0, 1, 1, np.zeros(2)), (2, 6, 4)),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions_of_which_nir_has_the_shape_wrong(name, tmp_path):
    node, shape = CONVOLUTIONS[name]
    node.input_shape = (8, 8)
    nodes = {"in": nir.Input(np.array([4, 8, 8])), "conv": node, "out": nir.Output(np.array(shape))}
    graph = nir.NIRGraph(nodes, [("in", "conv"), ("conv", "out")], type_check=False)
    nir.write(tmp_path / "net.nir", graph)
    with pytest.raises(ValueError, match="type mismatch"):
        nir.read(tmp_path / "net.nir")
    assert Interpreter(files.read(tmp_path / "net.nir"), 1e-4)(torch.ones(3, 2, 4, 8, 8)).shape[2:] == shape


def renamed(file):
    file["node/nodes/block/nodes/lif/type"][()] = b"FancyLIF"


def without(key):
    def damage(file):
        del file[key]

    return damage


def replaced(key, value):
    def damage(file):
        del file[key]
        file[key] = value

    return damage


DAMAGES = {
    "a kind of node that is not known": (renamed, r"'block/lif' \(FancyLIF\): nir knows no such node"),
    "a number is missing": (without("node/nodes/block/nodes/lif/tau"), r"'block/lif' \(LIF\): .*tau"),
    "no type": (without("node/nodes/block/nodes/lif/type"), "'block/lif' has no type"),
    "another shape": (replaced("node/nodes/block/nodes/lif/tau", np.ones(3)), r"'block/lif' \(LIF\)"),
    "a node that is a number": (replaced("node/nodes/block/nodes/lif", 3), "'block/lif' has no type"),
    "no nodes": (replaced("node/nodes/block/nodes", 3), "the graph 'block' has no nodes"),
    "edges that are numbers": (replaced("node/edges", np.ones(3)), "the edges of the graph are no pairs"),
    "no graph": (without("node"), "cannot be read as a NIR file"),
    "one node only": (replaced("node/type", b"LIF"), "holds no graph, but 'LIF'"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_file_is_named_with_the_node(name, path):
    damage, reason = DAMAGES[name]
    with h5py.File(path, "a") as file:
        damage(file)
    with pytest.raises(Unreadable, match=f"net.nir.*{reason}"):
        files.read(path)


@pytest.mark.parametrize("kept", [0, 10, 600, -100])
def test_a_truncated_file_is_named(kept, path):
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(Unreadable, match=r"net\.nir cannot be read as a NIR file"):
        files.read(path)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(Unreadable, match=r"there is no file .*net\.nir"):
        files.read(tmp_path / "net.nir")
    with pytest.raises(Unreadable, match="there is no file"):
        files.read(tmp_path)


def test_an_edge_to_nowhere_in_a_graph_inside_the_graph_is_named_with_its_path(path):
    graph = files.read(path)
    graph.nodes["block"].edges.append(("lif2", "output"))
    with pytest.raises(Unreadable, match="an edge names 'block/lif2', and there is no such node"):
        Interpreter(graph, 0.25)
