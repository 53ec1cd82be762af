"""Other packages that read NIR: how they are called, and what their answers are taken for.

Those that are not installed are skipped; README tells how to get them.
"""

import importlib.util
import itertools

from snn_course.runs import lesson
from snn_course import ROOT
from snn_course.nir import conventions, course_networks, peers, prepared, snntorch_trip, writer
from snn_course.nir.interpreter import Interpreter
from snn_course.nir.nodes import STATEFUL

import nir
import numpy as np
import pytest
import snntorch as snn
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

DT = 1e-4
PEERS = {peer.package: peer for peer in peers.PEERS}


def installed(package):
    absent = importlib.util.find_spec(package) is None
    reason = f"{package} is not installed; README, Optional, tells how to"
    return pytest.param(package, marks=pytest.mark.skipif(absent, reason=reason))


each_package = pytest.mark.parametrize("package", [installed(name) for name in PEERS])


def spikes(*shape):
    return (torch.rand(*shape) < 0.4).double()


def judge(package, graph, x, dt=DT):
    return peers.verdict(PEERS[package], graph, x, dt, Interpreter(graph, dt)(x))


# ---------------------------------------------------------------------- random graphs


def rounded(rng, *shape):
    """Random numbers that float32 holds: some packages keep weights in it."""
    return rng.normal(size=shape).astype(np.float32).astype(np.float64)


@st.composite
def networks(draw, kinds=("LIF", "IF", "CubaLIF"), skips=True):
    """Up to three layers, with loops and skips, of numbers and names other than usual; dt a power of 2."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    called = draw(st.sampled_from(["n", "7", "the neurons ", "\u03c0_"]))
    dt = draw(st.sampled_from([2.0**-13, 2.0**-10, 0.5]))
    sizes = draw(st.lists(st.integers(1, 6), min_size=2, max_size=4))
    nodes = {"in": nir.Input(np.array(sizes[:1]))}
    edges, at, seen = [], "in", {}
    for number, (before, size) in enumerate(itertools.pairwise(sizes)):
        weights, neurons = f"w{number}", f"{called}{number}"
        nodes[weights] = nir.Affine(2 * rounded(rng, size, before), rounded(rng, size))
        nodes[neurons] = draw(neuron(kinds, size, dt))
        edges += [(at, weights), (weights, neurons)]
        if draw(st.booleans()):
            nodes[f"b{number}"] = nir.Linear(rounded(rng, size, size))
            edges += [(neurons, f"b{number}"), (f"b{number}", neurons)]
        if skips and draw(st.booleans()):
            start = draw(st.sampled_from([name for name in nodes if name in ("in", *seen)]))
            width = sizes[0] if start == "in" else seen[start]
            nodes[f"s{number}"] = nir.Linear(rounded(rng, size, width))
            edges += [(start, f"s{number}"), (f"s{number}", neurons)]
        seen[neurons] = size
        at = neurons
    nodes["out"] = nir.Output(np.array(sizes[-1:]))
    x = torch.tensor(rounded(rng, 12, 3, sizes[0]))
    listed = draw(st.permutations([*edges, (at, "out")]))
    return nir.NIRGraph(nodes, listed, type_check=False), x, dt


@st.composite
def neuron(draw, kinds, size, dt):
    """One layer: a number for all of its neurons, since SpikingJelly and snnTorch take no others."""
    one = np.ones(size)
    tau = one * dt * draw(st.sampled_from([2, 4, 16]))
    r = one * draw(st.sampled_from([0.5, 2, 8]))
    threshold, low = one * draw(st.sampled_from([0.75, 1.5])), one * draw(st.sampled_from([-0.5, 0, 0.25]))
    kind = draw(st.sampled_from(kinds))
    if kind == "IF":
        return nir.IF(r / dt, threshold, low)
    if kind == "CubaLIF":  # of which packages take v_leak = 0 alone, and reset to 0
        syn = one * dt * draw(st.sampled_from([2, 4]))
        return nir.CubaLIF(syn, tau, r, 0 * one, threshold, 0 * one, w_in=2 * r)
    return nir.LIF(tau, r, one * draw(st.sampled_from([-0.25, 0, 0.5])), threshold, low)


TAKES = {
    "snntorch": ("LIF", "CubaLIF"),
    "spikingjelly": ("LIF", "IF", "CubaLIF"),
    "norse": ("LIF", "IF", "CubaLIF"),
    "sinabs": ("LIF", "IF"),
}


@each_package
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_random_graphs_are_read_as_here_or_differ_by_a_known_convention(package, data):
    graph, x, dt = data.draw(networks(TAKES[package]))
    verdict = judge(package, graph, x, dt)
    broken = package == "snntorch" and "'GraphModule' object" in verdict.why  # a loop among several layers
    assert verdict.kind in ("equal", "by convention") or broken, verdict


@settings(max_examples=40, deadline=None)
@given(data=st.data(), package=st.sampled_from(sorted(PEERS)))
def test_a_prepared_graph_computes_the_same(package, data):
    graph, x, dt = data.draw(networks(TAKES[package]))
    ready, _ = prepared.prepared(graph, dt, PEERS[package].wish)
    if package == "sinabs":  # of its tau only exp(-1 / tau) is known to it
        for node in ready.nodes.values():
            if isinstance(node, nir.LIF):
                node.r = node.tau = 1 / (1 - np.exp(-1 / node.tau))
    steps = {"snntorch": 1e-4, "spikingjelly": dt}.get(package, 1.0)
    assert snntorch_trip.changed(Interpreter(ready, steps)(x), Interpreter(graph, dt)(x)) <= 1e-3


def test_random_graphs_fire():
    rates = []

    @settings(max_examples=40, deadline=None, database=None, derandomize=True)
    @given(network=networks())
    def collect(network):
        graph, x, dt = network
        rates.append(Interpreter(graph, dt)(x).mean().item())

    collect()
    assert 0.05 < np.median(rates) < 0.95


# ---------------------------------------------------------------------- verdicts


def dense(reset, beta=0.9375, **options):
    torch.manual_seed(0)
    layers = {"fc1": nn.Linear(6, 20), "lif1": snn.Leaky(beta, reset_mechanism=reset, **options)}
    layers |= {"fc2": nn.Linear(20, 5), "lif2": snn.Leaky(beta, reset_mechanism=reset, **options)}
    return writer.write_chain(layers, (6,), DT), 5 * spikes(40, 8, 6)


def lif(size=20, **numbers):
    one = np.ones(size)
    given = {"tau": 16 * DT, "r": 16, "v_leak": 0, "v_threshold": 1, "v_reset": 0} | numbers
    return nir.LIF(**{name: value * one for name, value in given.items()})


def behind_weights(node):
    rng = np.random.default_rng(0)
    return nir.NIRGraph.from_list(nir.Affine(rounded(rng, 20, 6), np.zeros(20)), node)


READS = {
    "snntorch": ("equal", ""),
    "spikingjelly": ("equal", ""),
    "norse": ("equal", "r folded into the weights"),
    "sinabs": ("by convention", "subtracts, for each threshold reached a spike"),
}


@each_package
def test_reset_to_zero(package):
    verdict = judge(package, *dense("zero"))
    assert (verdict.kind, verdict.why) == READS[package]


@each_package
def test_reset_by_subtraction_has_nodes_that_no_package_takes(package):
    verdict = judge(package, *dense("subtract"))
    lacks = "Scale, Threshold" if package == "sinabs" else "LI, Scale, Threshold"
    assert (verdict.kind, verdict.why) == ("cannot read", f"takes no {lacks}")


@each_package
def test_a_spiking_resnet_has_nodes_that_no_package_takes(package):
    torch.manual_seed(0)
    net = lesson.load(10).Net(width=4).double().eval()
    pictures = torch.randn(2, 3, 32, 32).double()
    graph = course_networks.write_conv(net, pictures[:1], DT)
    verdict = judge(package, graph, pictures.expand(2, -1, -1, -1, -1))
    assert verdict.kind == "cannot read"
    assert "Scale, Threshold" in verdict.why


OWN_WAYS = {
    "snntorch": {"v_reset": "resets to 0"},
    "spikingjelly": {"v_reset": "starts at v_reset"},
    "norse": {"v_reset": "resets to 0", "v_leak": "starts at v_leak"},
    "sinabs": {},
}


@each_package
@pytest.mark.parametrize("what", ["v_reset", "v_leak", "r"])
def test_which_convention_is_another(package, what):
    verdict = judge(package, behind_weights(lif(**{what: 0.5 if what != "r" else 3})), 5 * spikes(40, 8, 6))
    expected = OWN_WAYS[package].get(what)
    if package == "sinabs":
        assert verdict.why == READS["sinabs"][1]
    elif expected:
        assert (verdict.kind, verdict.why) == ("by convention", expected)
        assert verdict.changed > 0
    else:
        assert verdict.kind == "equal"
        assert "folded" in verdict.why


@each_package
def test_convolutions(package):
    torch.manual_seed(0)
    layers = {"c": nn.Conv2d(2, 4, 3, stride=2, padding=1)}
    layers |= {"l": snn.Leaky(0.9375, threshold=0.2, reset_mechanism="zero"), "f": nn.Flatten()}
    layers |= {"fc": nn.Linear(64, 10), "l2": snn.Leaky(0.9375, threshold=0.1, reset_mechanism="zero")}
    verdict = judge(package, writer.write_chain(layers, (2, 8, 8), DT), 3 * spikes(20, 3, 2, 8, 8))
    expected = ("cannot read", "takes no LIF of pictures") if package == "sinabs" else ("equal", verdict.why)
    assert (verdict.kind, verdict.why) == expected


@each_package
def test_a_recurrent_layer(package):
    rng = np.random.default_rng(0)
    nodes = {"input": nir.Input(np.array([6])), "fc": nir.Affine(rounded(rng, 20, 6), np.zeros(20))}
    nodes |= {"lif": lif(), "back": nir.Affine(0.3 * rounded(rng, 20, 20), rounded(rng, 20))}
    nodes |= {"output": nir.Output(np.array([20]))}
    edges = [("input", "fc"), ("fc", "lif"), ("lif", "back"), ("back", "lif"), ("lif", "output")]
    verdict = judge(package, nir.NIRGraph(nodes, edges), 2 * spikes(40, 8, 6))
    at_first = "brings no bias round a loop at the first step"
    ways = {
        "snntorch": "sends what enters a loop through its weights",
        "sinabs": f"{READS['sinabs'][1]}, {at_first}",
    }
    assert (verdict.kind, verdict.why) == ("by convention", ways.get(package, at_first))


@each_package
def test_v_leak_goes_into_weights_that_are_not_round_a_loop(package):
    """Whatever comes first in the list of edges: round a loop, its bias would be lost at the first step."""
    rng = np.random.default_rng(0)
    nodes = {"input": nir.Input(np.array([6])), "fc": nir.Linear(rounded(rng, 6, 6))}
    nodes |= {"lif": lif(6, v_leak=0.5, v_reset=0), "back": nir.Linear(0.3 * rounded(rng, 6, 6))}
    edges = [("back", "lif"), ("input", "fc"), ("lif", "back"), ("fc", "lif")]
    graph = nir.NIRGraph(nodes, edges, type_check=False)
    ready, _ = prepared.prepared(graph, DT, prepared.of_spikingjelly)
    assert isinstance(ready.nodes["fc"], nir.Affine)
    assert isinstance(ready.nodes["back"], nir.Linear)
    nodes["output"] = nir.Output(np.array([6]))
    whole = nir.NIRGraph(nodes, [*edges, ("lif", "output")], type_check=False)
    assert judge(package, whole, 2 * spikes(40, 8, 6)).kind in ("equal", "by convention")


@pytest.mark.parametrize("package", [installed("snntorch")])
def test_a_recurrent_layer_before_one_that_does_not_leak(package):
    """Two conventions at once: how a loop is wired, and IF, whose r means something else to snnTorch."""
    rng = np.random.default_rng(0)
    one = np.ones(20)
    nodes = {"input": nir.Input(np.array([6])), "fc": nir.Affine(rounded(rng, 20, 6), np.zeros(20))}
    nodes |= {"lif": lif(), "back": nir.Linear(0.3 * rounded(rng, 20, 20))}
    nodes |= {"fc2": nir.Linear(rounded(rng, 20, 20)), "if": nir.IF(one / DT, one), "output": nir.Output(one)}
    edges = [("input", "fc"), ("fc", "lif"), ("lif", "back"), ("back", "lif"), ("lif", "fc2")]
    graph = nir.NIRGraph(nodes, [*edges, ("fc2", "if"), ("if", "output")], type_check=False)
    verdict = judge(package, graph, 2 * spikes(40, 8, 6))
    assert verdict.kind == "by convention"
    assert "lets IF leak 10 % a step, and subtract, sends what enters a loop" in verdict.why


@pytest.mark.parametrize("package", [installed("sinabs")])
def test_a_loop_of_neurons_that_decay_within_a_step(package):
    """To sinabs their time constant is less than one step, which is no reason to refuse it."""
    rng = np.random.default_rng(0)
    nodes = {"input": nir.Input(np.array([6])), "back": nir.Linear(0.3 * rounded(rng, 6, 6))}
    nodes |= {"lif": lif(6, tau=1.5 * DT, r=2), "output": nir.Output(np.array([6]))}
    edges = [("input", "lif"), ("lif", "back"), ("back", "lif"), ("lif", "output")]
    for order in (edges, edges[::-1]):
        graph = nir.NIRGraph(dict(nodes), order, type_check=False)
        assert judge(package, graph, 2 * spikes(40, 8, 6)).kind == "by convention"


@pytest.mark.parametrize("package", [installed("sinabs")])
def test_a_node_that_a_package_leaves_out_in_silence_is_named(package):
    one = np.ones(20)
    node = nir.CubaLIF(4 * DT * one, 16 * DT * one, 16 * one, 0 * one, one, 0 * one, w_in=4 * one)
    verdict = judge(package, behind_weights(node), 5 * spikes(40, 8, 6))
    assert (verdict.kind, verdict.why) == ("cannot read", "leaves out CubaLIF")
    assert verdict.changed > 0


@pytest.mark.parametrize("package", [installed("snntorch"), installed("spikingjelly")])
def test_neurons_that_are_not_alike_are_told_from_a_kind_that_is_not_taken(package):
    node = lif(v_threshold=np.linspace(0.5, 1.5, 20))
    verdict = judge(package, behind_weights(node), 5 * spikes(40, 8, 6))
    assert (verdict.kind, verdict.why) == ("cannot read", "takes no LIF with a number for each neuron")


@each_package
def test_branches_that_meet(package):
    rng = np.random.default_rng(0)
    nodes = {"input": nir.Input(np.array([6])), "fc": nir.Affine(rounded(rng, 20, 6), np.zeros(20))}
    nodes |= {"lif": lif(), "skip": nir.Linear(0.5 * rounded(rng, 20, 20)), "last": lif()}
    nodes |= {"fc2": nir.Linear(0.5 * rounded(rng, 20, 20)), "output": nir.Output(np.array([20]))}
    edges = [("input", "fc"), ("fc", "lif"), ("lif", "fc2"), ("fc2", "last"), ("last", "output")]
    edges += [("lif", "skip"), ("skip", "last")]
    verdict = judge(package, nir.NIRGraph(nodes, edges), 3 * spikes(40, 8, 6))
    if package in ("norse", "sinabs"):
        assert verdict.kind == "by convention"
        assert verdict.why.endswith("visits nodes before all that feed them are known")
    else:
        assert verdict.kind == "equal"


@pytest.mark.parametrize("package", [installed("sinabs")])
def test_sinabs_told_to_reset_to_zero_gives_the_same_spikes(package):
    import sinabs.nir
    from sinabs.activation import MembraneReset, SingleSpike

    graph, x = dense("zero")
    ready, _ = prepared.prepared(graph, DT, prepared.of_sinabs)
    net = sinabs.nir.from_nir(ready, batch_size=8)
    for layer in net.modules():
        if isinstance(layer, sinabs.layers.LIF):
            layer.spike_fn, layer.reset_fn = SingleSpike, MembraneReset()
    spk, _ = net(x.float().transpose(0, 1).flatten(0, 1))
    assert torch.equal(spk.unflatten(0, (8, 40)).transpose(0, 1).double(), Interpreter(graph, DT)(x))


def test_integrate_and_fire_leaks_in_snntorch():
    verdict = judge("snntorch", *dense("zero", beta=1.0))
    assert (verdict.kind, verdict.why) == ("by convention", "lets IF leak 10 % a step, and subtract")


def test_absent_packages_and_unknown_errors_are_results():
    graph, x = dense("zero")
    absent = peers.Peer("no_such_package", prepared.of_norse, peers.by_norse)
    assert peers.verdict(absent, graph, x, DT, x).kind == "not installed"

    def broken(graph, x, dt):
        if len(graph.nodes) > 3:
            raise KeyError("lif1")
        return Interpreter(graph, dt)(x)

    verdict = peers.verdict(peers.Peer("nir", lambda node, dt: None, broken), graph, x, DT, x)
    assert (verdict.kind, verdict.why) == ("cannot read", "KeyError: 'lif1'")


def test_spikes_that_nothing_explains_are_not_explained(monkeypatch):
    graph, x = dense("zero")
    monkeypatch.setitem(conventions.FACTS, "nir", conventions.FACTS["norse"])

    def random_spikes(graph, x, dt):
        return spikes(*Interpreter(graph, dt)(x).shape)

    noise = peers.Peer("nir", lambda node, dt: None, random_spikes)
    assert judge("snntorch", graph, x).kind == "equal"
    verdict = peers.verdict(noise, graph, x, DT, Interpreter(graph, DT)(x))
    assert (verdict.kind, verdict.why) == ("differs", "no known convention explains it")


def test_a_silent_network_has_lost_all_spikes():
    spk = spikes(40, 8, 5)
    assert snntorch_trip.changed(torch.zeros_like(spk), spk) == 100
    assert snntorch_trip.changed(spk, torch.zeros_like(spk)) == 100
    assert snntorch_trip.changed(spk, spk) == 0
    assert snntorch_trip.changed(0 * spk, 0 * spk) == 0
    assert snntorch_trip.changed(torch.tensor([1.0, 1, 0]), torch.tensor([1.0, 0, 1])) == pytest.approx(
        200 / 3
    )


def test_weights_cannot_take_over_different_factors_of_one_channel():
    graph = nir.NIRGraph.from_list(
        nir.Conv2d((4, 4), np.ones((1, 1, 1, 1)), 1, 0, 1, 1, np.zeros(1)),
        nir.LIF(*(np.arange(1, 17).reshape(1, 4, 4) * DT * np.ones((1, 4, 4)) for _ in range(4))),
    )
    with pytest.raises(prepared.CannotPrepare, match="one factor a channel"):
        prepared.prepared(graph, DT, prepared.of_norse)


def test_readme_tells_how_to_install_the_packages():
    assert peers.INSTALL in (ROOT / "README.md").read_text("utf-8")


# ---------------------------------------------------------------------- snnTorch's own trip


def test_gaps_of_snntorch():
    gaps = {name: found for name, *found, _ in snntorch_trip.gaps(lambda g, x: Interpreter(g, DT)(x))}
    assert gaps["one beta for a layer"] == ["ValueError", "ValueError"]  # the exporter gives up
    assert gaps["convolution, Flatten"] == ["RuntimeError", 0]
    assert gaps["IF, which does not leak"] == ["AssertionError", 0]
    assert min(gaps["recurrent layer"]) > 10


def test_a_recurrent_layer_that_resets_to_zero_throws_away_its_input():
    """So the exporter's graph, whose LIF does not, says something else than the neuron does."""

    def forgetful(n, x, v, dt):
        v = torch.zeros_like(x) if v is None else v
        fired = v > n.v_threshold
        v = torch.where(fired, 0 * v, (1 - dt / n.tau) * v + x)
        return (v > n.v_threshold).to(x.dtype), v

    graph, x, expected = snntorch_trip._recurrent()
    hidden = Interpreter(graph, DT, stateful={**STATEFUL, nir.LIF: forgetful})(x, "1.lif")
    assert hidden.sum() > 50
    last = nir.NIRGraph.from_list(graph.nodes["2"], graph.nodes["3"], type_check=False)
    assert torch.equal(Interpreter(last, DT)(hidden).float(), expected)


def test_snntorch_changes_the_reset_of_its_own_network():
    torch.manual_seed(0)
    for reset, same in (("zero", True), ("subtract", False)):
        net = snntorch_trip.chain([nn.Linear(6, 20), reset, nn.Linear(20, 5), reset], 0.9375)
        x = 5 * spikes(40, 8, 6).float()
        graph = snntorch_trip.export(net, x[0])
        again = snntorch_trip.play(snntorch_trip.read(graph), x)
        assert torch.equal(again, snntorch_trip.play(net, x)) == same
