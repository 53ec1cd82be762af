"""Lesson 17: its short interpreter, its networks, and what breaks when one of them is wrong."""

from snn_course.runs import lesson
from snn_course.nir import course_networks, writer
from snn_course.nir.interpreter import Interpreter

import nir
import numpy as np
import pytest
import snntorch as snn
import torch
from torch import fx, nn

L = lesson.load(17)
ONE = np.ones(5)


@pytest.fixture
def config():
    return L.Config(**({"scale": "quick"} | L.SCALES["quick"]))


def spikes(*shape):
    return (torch.rand(*shape) < 0.4).double()


def measured(run):
    return {name: measure.values[0] for name, measure in run.record.measures.items()}


def test_definitions_are_proven(run):
    L.one_neuron(run)
    assert measured(run)["LIF: spikes that differ from snn.Leaky's"] == 0


@pytest.mark.parametrize("broken", ["no leak", "no reset", "fires at the threshold"])
def test_a_wrong_neuron_is_caught(run, monkeypatch, broken):
    def wrong(node, x, v, dt):
        leak = 0 if broken == "no leak" else node.v_leak - v
        v = v + dt / node.tau * (leak + node.r * x)
        if isinstance(node, nir.LI):
            return v, v
        spk = v > node.v_threshold * (0.99 if broken == "fires at the threshold" else 1)
        return spk.astype(v.dtype), v if broken == "no reset" else np.where(spk, node.v_reset, v)

    monkeypatch.setattr(L, "neuron_step", wrong)
    with pytest.raises(lesson.ProofMissed):
        L.one_neuron(run)


def test_steps_of_two_lengths():
    spikes, membranes = L.constant_input(L.DT)
    assert (spikes, len(membranes)) == (11, 200)
    assert L.constant_input(10 * L.DT)[0] == 10
    # The closed form: a spike every tau ln(3) seconds.
    assert int(L.SECONDS / (L.TAU * np.log(3))) == 11


@pytest.mark.parametrize("reset", ["subtract", "zero"])
def test_short_interpreter_equals_snntorch_and_the_full_one(reset):
    torch.manual_seed(0)
    layers = {"fc1": nn.Linear(6, 20), "lif1": snn.Leaky(0.9, threshold=0.5, reset_mechanism=reset)}
    layers |= {"fc2": nn.Linear(20, 5), "lif2": snn.Leaky(0.8, threshold=0.3, reset_mechanism=reset)}
    graph, x = writer.write_chain(layers, (6,), L.DT), 3 * spikes(40, 8, 6)
    for watch in ("lif1", "lif2", "output"):
        spk = L.interpret(graph, x, watch)
        assert spk.sum() > 100
        assert torch.equal(spk, Interpreter(graph, L.DT)(x, watch))
    cur = torch.from_numpy(x.numpy() @ graph.nodes["fc1"].weight.T + graph.nodes["fc1"].bias)
    theirs = L.stepped(layers["lif1"].double(), cur)
    assert np.array_equal(L.interpret(graph, x, "lif1").numpy(), theirs)


def test_a_node_that_the_short_interpreter_does_not_know_is_named():
    graph = nir.NIRGraph.from_list(nir.Delay(ONE))
    with pytest.raises(ValueError, match="Delay"):
        L.interpret(graph, torch.rand(2, 1, 5), "output")


@pytest.mark.parametrize("reset", ["subtract", "zero"])
def test_dense_network_takes_still_images_and_sequences(reset):
    torch.manual_seed(0)
    net = L.Dense(reset).double()
    still = torch.rand(3, 784).double()
    shown, copied = still.expand(L.T, -1, -1), still.repeat(L.T, 1, 1)
    graph = course_networks.write_dense(net, L.DT)
    with torch.no_grad():
        assert net(shown).sum() > 0
        assert torch.equal(net(shown), net(copied))
        moving = torch.rand(L.T, 3, 784).double()
        moving[0] = 0  # the first step alone would give nothing
        assert net(moving).sum() > 0
        assert torch.equal(net(moving), Interpreter(graph, L.DT)(moving))


def test_neurons_must_be_leaves_of_a_trace():
    names = [node.name for node in L.NeuronsAreLeaves().trace(L.Skip()).nodes]
    assert names == ["x", "fc1", "lif1", "fc2", "add", "lif2", "output"]
    with pytest.raises(fx.proxy.TraceError):
        fx.symbolic_trace(L.Skip())


def case(reset):
    torch.manual_seed(0)
    net = L.Dense(reset).double().eval()
    x = torch.rand(8, 784).double().expand(L.T, -1, -1)
    with torch.no_grad():
        return L.Case(net, x, torch.arange(8), net(x), course_networks.write_dense(net, L.DT), "lif2")


def test_snntorchs_trip_keeps_a_reset_to_zero_and_loses_the_other():
    for reset, same in (("zero", True), ("subtract", False)):
        found = case(reset)
        again = L.read_by_snntorch(L.exported(found, reset), found.x)
        assert found.spk.sum() > 10
        assert (L.changed(again, found.spk) <= 1e-3) == same


def test_trips_and_catches_of_small_networks(run):
    cases = {"09, subtract": case("subtract"), "09, zero": case("zero")}
    L.show_graphs(run, cases)
    L.trips(run, cases)
    L.catches(run, cases)
    found = measured(run)
    assert found["09, subtract: spikes changed by the trip"] == 0
    assert found["catch: spikes changed with the reset"] > 1


def test_a_graph_of_other_weights_is_caught(run):
    cases = {"09, subtract": case("subtract"), "09, zero": case("zero")}
    cases["09, zero"].graph.nodes["fc2"].weight = cases["09, zero"].graph.nodes["fc2"].weight + 0.1
    with pytest.raises(lesson.ProofMissed):
        L.trips(run, cases)


def test_weights_of_eight_bits(run):
    L.eight_bits(run, case("zero"))
    assert 0 < measured(run)["09, zero: spikes changed by 8-bit weights"] < 50


def test_operations_by_hand(run):
    L.costs(run, {"09, subtract": case("subtract"), "09, zero": case("zero")})
    assert measured(run)["SynOps of fc2, by hand / counted - 1"] == 0


def test_titles_say_what_was_measured():
    title = L.title_of_operations({"09": 1.0, "10, SEW": 0.99})
    assert title == "Operations left, of one for each connection: lesson 09: 100 %; 10, SEW: 99 %"
    assert L.title_of_steps({"the equation": 11, "steps of 1 ms": 9}) == (
        "Spikes in 20 ms: the equation 11, steps of 1 ms 9"
    )
    assert (
        L.title_of_graph(6, 5, 0)
        == "Lesson 09, reset by subtraction: 6 nodes, 5 wires, 0 of them a step late"
    )
