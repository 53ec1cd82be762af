"""The interpreter of NIR: node by node against closed forms and PyTorch, and graphs of any shape."""

import itertools

from snn_course.nir import graphs
from snn_course.nir.interpreter import Interpreter
from snn_course.nir.nodes import Unreadable

import nir
import numpy as np
import pytest
import snntorch as snn
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

DT = 1e-4
ONE = np.ones(5)


def alone(node, shape=(5,)):
    """A graph of one node, for samples of this shape."""
    nodes = {"input": nir.Input(np.array(shape)), "node": node, "output": nir.Output(None)}
    return nir.NIRGraph(nodes, [("input", "node"), ("node", "output")], type_check=False)


def play(node, x, dt=DT):
    return Interpreter(alone(node, x.shape[2:]), dt)(x)


def graph(edges, **nodes):
    return nir.NIRGraph(nodes, list(edges), type_check=False)


def chained(*names):
    return list(itertools.pairwise(names))


def floats(*shape):
    return torch.rand(*shape, dtype=torch.float64)


def spikes(*shape):
    return (torch.rand(*shape) < 0.4).double()


# ---------------------------------------------------------------------- nodes


def test_affine_and_linear():
    w, b, x = floats(3, 5), floats(3), floats(4, 2, 5)
    assert torch.allclose(play(nir.Affine(w.numpy(), b.numpy()), x), F.linear(x, w, b))
    assert torch.allclose(play(nir.Linear(w.numpy()), x), F.linear(x, w))


def test_affine_of_several_maps_side_by_side():
    w, b, x = floats(6, 3, 5), floats(6, 3), floats(4, 2, 6, 5)
    expected = torch.einsum("moi,tbmi->tbmo", w, x)
    assert torch.allclose(play(nir.Linear(w.numpy()), x), expected)
    assert torch.allclose(play(nir.Affine(w.numpy(), b.numpy()), x), expected + b)


def test_weights_that_are_whole_numbers():
    assert play(nir.Linear(2 * np.eye(5, dtype=int)), torch.ones(1, 1, 5)).tolist() == [[[2.0] * 5]]


def test_scale_and_threshold():
    x, s = floats(4, 2, 5), floats(5)
    assert torch.equal(play(nir.Scale(s.numpy()), x), x * s)
    assert torch.equal(play(nir.Threshold(s.numpy()), x), (x > s).double())
    assert play(nir.Threshold(ONE), torch.ones(1, 1, 5)).sum() == 0  # "above": not at the threshold


@pytest.mark.parametrize(
    ("start", "end", "shape"),
    [
        (0, -1, (120,)),
        (0, 3, (120,)),
        (0, 1, (6, 4, 5)),
        (1, 2, (2, 12, 5)),
        (2, 3, (2, 3, 20)),
        (1, -1, (2, 60)),
        (1, -2, (2, 12, 5)),
        (-2, -1, (2, 3, 20)),
        (-4, -3, (6, 4, 5)),
        (2, 2, (2, 3, 4, 5)),
    ],
)
def test_flatten_in_all_dims(start, end, shape):
    x = floats(2, 7, 2, 3, 4, 5)
    node = nir.Flatten(np.array([2, 3, 4, 5]), start, end)
    assert torch.equal(play(node, x), x.reshape(2, 7, *shape))


@pytest.mark.parametrize(("start", "end"), [(0, 4), (-5, -1), (2, 1)])
def test_flatten_of_axes_that_are_not_there(start, end):
    node = nir.Flatten(None, start, end)
    with pytest.raises(Unreadable, match=r"'node' \(Flatten\)"):
        Interpreter(alone(node, (2, 3, 4, 5)), DT)


@pytest.mark.parametrize("size", [2, (2, 3), np.array([3, 2]), np.array([2])])
@pytest.mark.parametrize("padding", [0, np.array([1, 1]), np.array([0, 1])])
def test_pools(size, padding):
    x = floats(3, 2, 4, 6, 8)
    kernel = tuple(int(n) for n in np.broadcast_to(size, 2))
    pads = tuple(int(n) for n in np.broadcast_to(padding, 2))
    mean = torch.stack([F.avg_pool2d(x_t, kernel, kernel, pads) for x_t in x])
    assert torch.allclose(play(nir.AvgPool2d(size, size, padding), x), mean)
    assert torch.allclose(play(nir.SumPool2d(size, size, padding), x), mean * kernel[0] * kernel[1])


PADDINGS = [0, 1, (1, 2), np.array([2, 1]), "same", "valid", b"same"]


@pytest.mark.parametrize("padding", PADDINGS, ids=str)
@pytest.mark.parametrize("dilation", [1, (2, 1)], ids=str)
@pytest.mark.parametrize("groups", [1, 2])
def test_convolution_2d(padding, dilation, groups):
    w, b, x = floats(6, 4 // groups, 3, 5), floats(6), floats(2, 3, 4, 9, 11)
    node = nir.Conv2d(None, w.numpy(), 1, 0, dilation, groups, b.numpy())
    node.padding = padding  # nir itself knows no bytes, but files do
    named = padding.decode() if isinstance(padding, bytes) else padding
    pads = named if isinstance(named, str | int) else tuple(int(n) for n in named)
    expected = torch.stack([F.conv2d(x_t, w, b, 1, pads, dilation, groups) for x_t in x])
    assert torch.allclose(play(node, x), expected)


def test_convolution_2d_with_strides():
    w, b, x = floats(6, 4, 3, 3), floats(6), floats(2, 3, 4, 9, 11)
    node = nir.Conv2d((9, 11), w.numpy(), np.array([2, 3]), np.array([1, 0]), np.array([1, 1]), 1, b.numpy())
    assert torch.allclose(play(node, x), torch.stack([F.conv2d(x_t, w, b, (2, 3), (1, 0)) for x_t in x]))


@pytest.mark.parametrize("padding", [0, 2, "same", "valid"])
@pytest.mark.parametrize("groups", [1, 2])
def test_convolution_1d(padding, groups):
    w, b, x = floats(6, 4 // groups, 3), floats(6), floats(2, 3, 4, 20)
    node = nir.Conv1d(None, w.numpy(), 1, padding, 2, groups, b.numpy())
    expected = torch.stack([F.conv1d(x_t, w, b, 1, padding, 2, groups) for x_t in x])
    assert torch.allclose(play(node, x), expected)


def test_delay_of_each_element():
    x = floats(6, 2, 3)
    y = play(nir.Delay(np.array([0, 1, 4]) * DT), x)
    assert torch.equal(y[..., 0], x[..., 0])
    assert torch.equal(y[1:, :, 1], x[:-1, :, 1])
    assert torch.equal(y[4:, :, 2], x[:-4, :, 2])
    assert y[0, :, 1].sum() == y[:4, :, 2].sum() == 0


def test_a_delay_longer_than_the_recording_takes_no_memory():
    x = torch.ones(3, 2, 2, dtype=torch.float64)
    y = play(nir.Delay(np.array([2 * DT, 1e9])), x)  # 10,000,000,000,000 steps
    assert y[..., 0].tolist() == [[0, 0], [0, 0], [1, 1]]
    assert not y[..., 1].any()


def test_integrators():
    x, r = floats(20, 2, 5), 3 * ONE / DT
    assert torch.allclose(play(nir.I(r), x), 3 * x.cumsum(0))
    impulse = torch.eye(30)[:1].T.double().expand(30, 5)[:, None]
    tau, leak = 8 * DT * ONE, 0.5 * ONE
    steps = torch.arange(30, dtype=torch.float64)[:, None, None]
    # tau dv/dt = (v_leak - v) + r x: from 0 towards v_leak, and what an impulse of r x dt / tau leaves
    expected = 0.5 * (1 - (7 / 8) ** (steps + 1)) + 2 / 8 * (7 / 8) ** steps
    assert torch.allclose(play(nir.LI(tau, 2 * ONE, leak), impulse), expected.expand(30, 1, 5))


def test_integrate_and_fire_does_not_leak():
    x = 0.3 * torch.ones(8, 2, 5, dtype=torch.float64)
    spk = play(nir.IF(ONE / DT, ONE, 0 * ONE), x)
    assert spk[:, 0, 0].tolist() == [0, 0, 0, 1, 0, 0, 0, 1]  # 0.3, 0.6, 0.9, 1.2 > 1: back to 0


def test_reset_to_a_value():
    x = torch.full((6, 1, 5), 0.6, dtype=torch.float64)
    spk = play(nir.IF(ONE / DT, ONE, 0.5 * ONE), x)
    assert spk[:, 0, 0].tolist() == [0, 1, 1, 1, 1, 1]  # 0.6, 1.2, then 0.5 + 0.6 at each step


def test_leaky_neuron_in_numpy():
    rng = np.random.default_rng(0)
    tau, r, leak, high, low = 3 * DT + DT * rng.random((5, 5))
    x, v, expected = 40 * rng.random((50, 2, 5)), np.zeros((2, 5)), []
    leak, high, low = leak * 1e3, high * 1e4, low * 1e2
    for x_t in x:
        v = v + DT / tau * (leak - v + 1e3 * r * x_t)
        expected.append(v > high)
        v = np.where(v > high, low, v)
    spk = play(nir.LIF(tau, 1e3 * r, leak, high, low), torch.tensor(x))
    assert 0.05 < spk.mean() < 0.95
    assert np.array_equal(spk.numpy(), expected)


def cuba(kind, alpha=0.8, beta=0.9, **options):
    tau_syn, tau_mem = DT / (1 - alpha) * ONE, DT / (1 - beta) * ONE
    return kind(tau_syn, tau_mem, ONE / (1 - beta), 0 * ONE, w_in=ONE / (1 - alpha), **options)


def test_current_based_neurons_equal_snntorch():
    x = spikes(60, 4, 5)
    neuron = snn.Synaptic(0.8, 0.9, reset_mechanism="zero", reset_delay=False)
    silent = snn.Synaptic(0.8, 0.9, reset_mechanism="none")
    state, quiet, expected, membranes = neuron.reset_mem(), silent.reset_mem(), [], []
    for x_t in x.float():
        spk, *state = neuron(x_t, *state)
        _, *quiet = silent(x_t, *quiet)
        expected.append(spk)
        membranes.append(quiet[1])
    spk = play(cuba(nir.CubaLIF, v_threshold=ONE, v_reset=0 * ONE), x)
    assert torch.equal(spk.float(), torch.stack(expected))
    assert torch.allclose(play(cuba(nir.CubaLI), x).float(), torch.stack(membranes), rtol=1e-5)


def test_one_number_for_all_neurons():
    one = np.array(1.0)
    node = nir.LIF(8 * DT * one, 8 * one, 0 * one, one, 0 * one)
    each = nir.LIF(8 * DT * ONE, 8 * ONE, 0 * ONE, ONE, 0 * ONE)
    x = spikes(30, 2, 5)
    assert torch.equal(play(node, x), play(each, x))


# ---------------------------------------------------------------------- precision


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("given", [torch.float32, torch.float64, torch.bool, torch.uint8])
def test_types(dtype, given):
    x = spikes(4, 2, 5).to(given)
    play = Interpreter(alone(nir.Affine(np.eye(5), ONE)), DT, dtype)
    assert play(x).dtype == dtype
    assert torch.equal(play(x), x.to(dtype) + 1)


def test_other_types_are_refused():
    with pytest.raises(ValueError, match=r"float32 or torch\.float64"):
        Interpreter(alone(nir.Scale(ONE)), DT, torch.float16)


def test_a_time_step_that_is_none():
    with pytest.raises(ValueError, match="above 0 s"):
        Interpreter(alone(nir.Scale(ONE)), 0)


# ---------------------------------------------------------------------- wiring


def li(beta=0.75):
    one = np.ones(1)
    return nir.LI(DT / (1 - beta) * one, one / (1 - beta), 0 * one)


def lif(size=1, beta=0.75):
    one = np.ones(size)
    return nir.LIF(DT / (1 - beta) * one, one / (1 - beta), 0 * one, one)


def io(size=1):
    return {"input": nir.Input(np.array([size])), "output": nir.Output(np.array([size]))}


def test_what_meets_adds_up():
    edges = [("input", "a"), ("input", "b"), ("a", "output"), ("b", "output"), ("input", "output")]
    net = graph(edges, a=nir.Scale(2 * ONE), b=nir.Scale(3 * ONE), **io(5))
    assert Interpreter(net, DT)(torch.ones(1, 1, 5)).tolist() == [[[6.0] * 5]]


def test_an_edge_that_is_there_twice_counts_twice():
    net = graph([("input", "a"), ("input", "a"), ("a", "output")], a=nir.Scale(ONE), **io(5))
    assert Interpreter(net, DT)(torch.ones(1, 1, 5)).tolist() == [[[2.0] * 5]]


def test_any_names_and_several_inputs_and_outputs():
    net = graph(
        [("left", "sum"), ("right", "sum"), ("sum", "one"), ("left", "two")],
        left=nir.Input(np.array([5])),
        right=nir.Input(np.array([5])),
        sum=nir.Scale(2 * ONE),
        one=nir.Output(np.array([5])),
        two=nir.Output(np.array([5])),
    )
    left, right = floats(3, 2, 5), floats(3, 2, 5)
    out = Interpreter(net, DT)({"left": left, "right": right})
    assert torch.equal(out["one"], 2 * (left + right))
    assert torch.equal(out["two"], left)
    assert torch.equal(Interpreter(net, DT)({"left": left, "right": right}, watch="two"), left)
    with pytest.raises(ValueError, match="the inputs are left, right"):
        Interpreter(net, DT)(left)


def test_a_loop_delivers_one_step_later():
    net = graph([("input", "a"), ("a", "a"), ("a", "output")], a=nir.Scale(2 * np.ones(1)), **io())
    x = torch.tensor([1.0, 0, 0, 1]).reshape(4, 1, 1)
    assert Interpreter(net, DT)(x).flatten().tolist() == [2, 4, 8, 18]


def test_a_late_wire_brings_the_bias_from_the_first_step_on():
    """Of no spikes a layer makes its bias; ``snn.RLeaky`` does so, too."""
    back = nir.Affine(np.array([[-0.5]]), np.array([0.7]))
    net = graph([*chained("input", "a", "output"), *chained("a", "b", "a")], a=lif(beta=0), b=back, **io())
    # 0.4 + 0.7 > 1 fires; then 0.4 + 0.7 - 0.5 does not
    assert Interpreter(net, DT)(torch.full((4, 2, 1), 0.4)).mean(1).flatten().tolist() == [1, 0, 1, 0]


def test_reset_by_subtraction_as_a_loop():
    edges = [*chained("input", "v", "spk", "output"), *chained("spk", "reset", "v")]
    one = np.ones(1)
    net = graph(edges, v=li(0.5), spk=nir.Threshold(one), reset=nir.Scale(-one), **io())
    x = torch.full((6, 1, 1), 0.75)
    # v: 0.75, 1.125, 0.5625 + 0.75 - 1 = 0.3125, 0.90625, 1.203125, 0.3515625
    assert Interpreter(net, DT)(x).flatten().tolist() == [0, 1, 0, 0, 1, 0]


LOOPS = {
    "into the neuron": (chained("in", "a", "w", "a"), {("w", "a")}),
    "two that see the input": ([("in", "a"), ("in", "b"), *chained("a", "b", "a")], {("a", "b"), ("b", "a")}),
    "a skip inside": ([*chained("in", "a", "b", "c", "a"), ("a", "c")], {("c", "a")}),
    "two entrances": ([*chained("in", "a", "b", "c", "a"), ("in", "c")], {("c", "a"), ("b", "c")}),
    "a loop in a loop": (chained("in", "a", "b", "c", "b", "a"), {("b", "a"), ("c", "b")}),
    "itself": ([*chained("in", "a", "b"), ("b", "b")], {("b", "b")}),
    "none": ([*chained("in", "a", "b", "c"), ("in", "c"), ("a", "c")], set()),
    "nothing enters": (chained("w", "a", "w"), {("w", "a")}),
    "nothing enters, no state": (chained("w", "u", "w"), {("w", "u"), ("u", "w")}),
}


@pytest.mark.parametrize("name", LOOPS)
def test_rule_for_loops(name):
    edges, expected = LOOPS[name]
    kinds = {"in": nir.Input(np.array([1])), "w": nir.Scale(np.ones(1)), "u": nir.Scale(np.ones(1))}
    nodes = {node: kinds.get(node, lif()) for edge in edges for node in edge}
    assert graphs.closing(nodes, edges) == expected


@st.composite
def wirings(draw):
    """Edges among an input, up to six neurons and an output, with loops."""
    names = [f"n{number}" for number in range(draw(st.integers(1, 6)))]
    pairs = st.tuples(st.sampled_from(["input", *names]), st.sampled_from(names))
    edges = draw(st.lists(pairs, min_size=1, max_size=14, unique=True))
    return names, [*edges, ("input", names[0]), (names[-1], "output")]


def tangle(names, edges, shuffled=lambda items: items):
    """Neurons of three kinds with weights of their own, each behind its name's edges."""
    nodes = dict(io())
    wires = []
    for number, name in enumerate(names):
        nodes[name] = [lif, li, lambda: nir.IF(np.ones(1) / DT, np.ones(1))][number % 3]()
    for number, (source, target) in enumerate(edges):
        weight = f"w{number}"
        nodes[weight] = nir.Linear(np.array([[(-0.7) ** number * 1.5 if number else 1.0]]))
        wires += [(source, weight), (weight, target)]
    return nir.NIRGraph(dict(shuffled(list(nodes.items()))), shuffled(wires), type_check=False)


@settings(max_examples=60, deadline=None)
@given(wiring=wirings(), rng=st.randoms(use_true_random=False))
def test_order_of_nodes_and_edges_changes_nothing(wiring, rng):
    x = spikes(25, 2, 1)
    expected = Interpreter(tangle(*wiring), DT)(x)
    shuffled = tangle(*wiring, lambda items: rng.sample(items, len(items)))
    assert torch.equal(Interpreter(shuffled, DT)(x), expected)


@settings(max_examples=60, deadline=None)
@given(wiring=wirings())
def test_each_loop_has_a_late_wire_and_nothing_else_has(wiring):
    names, edges = wiring
    nodes = {name: lif() for name in ["input", *names, "output"]}
    late = graphs.closing(nodes, edges)
    reach = {name: {name} for name in nodes}
    for _, (source, target) in itertools.product(nodes, set(edges) - late):
        reach[target] |= reach[source]
    assert not [wire for wire in set(edges) - late if wire[1] in reach[wire[0]]]  # what is left has no loop
    back = {name: {name} for name in nodes}
    for _, (source, target) in itertools.product(nodes, edges):
        back[target] |= back[source]
    assert all(target in back[source] for source, target in late)


def test_input_that_goes_to_a_pair_of_neurons_in_both_orders():
    edges = [("input", "a"), ("input", "b"), ("a", "b"), ("b", "a"), ("a", "output")]
    x = 0.6 * spikes(200, 4, 1)
    results = []
    for order in itertools.permutations(edges):
        results.append(Interpreter(graph(order, b=lif(), a=lif(), **io()), DT)(x))
    assert results[0].sum() > 50
    assert all(torch.equal(result, results[0]) for result in results)


def test_a_chain_of_three_thousand_nodes():
    names = [f"n{number}" for number in range(3000)]
    nodes = {name: nir.Scale(np.ones(1)) for name in names}
    net = graph(chained("input", *names, "output"), **nodes, **io())
    assert Interpreter(net, DT)(torch.ones(1, 1, 1)).item() == 1


def test_a_loop_of_a_thousand_nodes():
    names = [f"n{number}" for number in range(1000)]
    nodes = {name: nir.Scale(np.ones(1)) for name in names}
    net = graph([*chained("input", *names, "output"), (names[-1], names[0])], **nodes, **io())
    assert Interpreter(net, DT)(torch.ones(3, 1, 1)).flatten().tolist() == [1, 2, 3]


def test_a_neuron_that_nothing_feeds_still_fires():
    node = nir.LIF(2 * DT * ONE, ONE, 3 * ONE, ONE)  # v_leak is above the threshold
    net = graph([("input", "other"), ("pace", "output")], pace=node, other=nir.Scale(ONE), **io(5))
    assert Interpreter(net, DT)(torch.zeros(4, 2, 5)).mean() == 1


def test_a_loop_that_nothing_feeds_runs_a_batch():
    start = nir.Affine(2 * np.ones((1, 1)), np.array([1.5]))
    edges = [*chained("a", "w", "a"), ("a", "output"), ("input", "other")]
    net = graph(edges, a=lif(beta=0), w=start, other=nir.Scale(np.ones(1)), **io())
    assert Interpreter(net, DT)(torch.zeros(3, 2, 1)).tolist() == [[[1.0]] * 2] * 3
    net = graph([("a", "a"), ("a", "output"), ("input", "other")], a=li(), other=lif(), **io())
    assert Interpreter(net, DT)(torch.ones(3, 2, 1)).tolist() == [[[0.0]] * 2] * 3


# ---------------------------------------------------------------------- graphs inside graphs


def doubled(depth):
    """A graph that multiplies by 2 for each level."""
    net = nir.NIRGraph.from_list(nir.Scale(2 * ONE))
    for _ in range(depth):
        nodes = {"in": nir.Input(np.array([5])), "sub": net, "s": nir.Scale(2 * ONE), "out": nir.Output(ONE)}
        net = nir.NIRGraph(nodes, chained("in", "sub", "s", "out"), type_check=False)
    return net


@pytest.mark.parametrize("depth", [1, 3, 30])
def test_nested_graphs(depth):
    x = floats(4, 2, 5)
    assert torch.allclose(Interpreter(doubled(depth), DT)(x), 2 ** (depth + 1) * x)


def test_a_node_in_a_nested_graph_can_be_watched():
    x = floats(4, 2, 5)
    assert torch.equal(Interpreter(doubled(2), DT)(x, watch="sub/s"), 4 * x)
    with pytest.raises(ValueError, match=r"no node 'sub\.s'"):
        Interpreter(doubled(2), DT)(x, watch="sub.s")


def test_a_loop_through_a_nested_graph():
    recurrent = nir.NIRGraph(
        {"x": nir.Input(np.array([1])), "lif": lif(), "y": nir.Output(np.array([1]))},
        chained("x", "lif", "y"),
    )
    back = nir.Linear(np.array([[-2.0]]))
    nested = graph(
        [*chained("input", "sub", "output"), *chained("sub", "w", "sub")], sub=recurrent, w=back, **io()
    )
    flat = graph([*chained("input", "lif", "output"), *chained("lif", "w", "lif")], lif=lif(), w=back, **io())
    x = spikes(40, 3, 1) * 0.9
    assert torch.equal(Interpreter(nested, DT)(x), Interpreter(flat, DT)(x))


def test_ports_of_nested_graphs():
    inner = nir.NIRGraph(
        {
            "a": nir.Input(np.array([5])),
            "b.b": nir.Input(np.array([5])),
            "twice": nir.Scale(2 * ONE),
            "c": nir.Output(np.array([5])),
            "d": nir.Output(np.array([5])),
        },
        [("a", "twice"), ("twice", "c"), ("b.b", "d")],
        type_check=False,
    )
    nodes = {"my.sub": inner, **io(5)}
    edges = [("input", "my.sub.a"), ("input", "my.sub.b.b"), ("my.sub.c", "output"), ("my.sub.d", "output")]
    assert Interpreter(graph(edges, **nodes), DT)(torch.ones(1, 1, 5)).tolist() == [[[3.0] * 5]]
    with pytest.raises(Unreadable, match=r"'my.sub' \(NIRGraph\), which has 2 inputs: say which"):
        Interpreter(graph([("input", "my.sub"), ("my.sub.c", "output")], **nodes), DT)


# ---------------------------------------------------------------------- what is refused


class Unknown(nir.Scale):
    """A node that no reader knows."""


def test_an_unknown_node_is_refused_at_reading():
    with pytest.raises(Unreadable, match=r"'node' \(Unknown\): this reader knows no such node"):
        Interpreter(alone(Unknown(ONE)), DT)


REFUSED = {
    "shape of a layer": (nir.Affine(np.ones((3, 4)), np.ones(3)), "takes \\[4\\], not \\[5\\]"),
    "shape of neurons": (lif(3), "takes \\[3\\], not \\[5\\]"),
    "a neuron for many": (lif(1), "takes \\[1\\], not \\[5\\]"),
    "nan": (nir.Scale(np.full(5, np.nan)), "scale has values that are nan or infinite"),
    "infinite time": (nir.LI(np.inf * ONE, ONE, ONE), "tau has values that are nan or infinite"),
    "time below dt": (nir.LI(0.9 * DT * ONE, ONE, ONE), "tau 9e-05 s is below dt 0.0001 s"),
    "half a step": (nir.Delay(1.5 * DT * ONE), "no whole number of steps"),
    "into the future": (nir.Delay(-DT * ONE), "no whole number of steps"),
    "bias": (nir.Affine(np.ones((3, 5)), np.ones(4)), "for input \\[5\\]"),
    "words": (nir.Scale(np.array(["a"] * 5)), "scale: can't convert"),
    "complex weights": (nir.Linear(1j * np.ones((3, 5))), "weight: complex numbers"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_at_reading_with_name_and_type(name):
    node, reason = REFUSED[name]
    with pytest.raises(Unreadable, match=rf"'node' \({type(node).__name__}\).*{reason}"):
        Interpreter(alone(node), DT)


def test_a_number_that_is_missing_is_refused():
    node = lif(5)
    node.r = None
    with pytest.raises(Unreadable, match=r"'node' \(LIF\): r is missing"):
        Interpreter(alone(node), DT)


def test_a_pool_that_pads_by_name_is_refused():
    size = np.array([2, 2])
    with pytest.raises(Unreadable, match=r"'node' \(SumPool2d\), for input \[2, 4, 4\]"):
        Interpreter(alone(nir.SumPool2d(size, size, "same"), (2, 4, 4)), DT)


def test_a_strided_convolution_of_the_same_size_is_refused():
    node = nir.Conv2d(None, np.ones((1, 1, 3, 3)), 2, "same", 1, 1, np.ones(1))
    with pytest.raises(Unreadable, match=r"'node' \(Conv2d\).*strided"):
        Interpreter(alone(node, (1, 8, 8)), DT)


def test_signals_that_do_not_fit_are_refused():
    net = Interpreter(alone(nir.Scale(ONE)), DT)
    with pytest.raises(ValueError, match=r"'input' takes \[T, B, 5\], not \[4, 2, 3\]"):
        net(torch.ones(4, 2, 3))
    with pytest.raises(ValueError, match="neither of them 0"):
        net(torch.ones(0, 2, 5))
    with pytest.raises(ValueError, match="the signal of 'input' has values that are nan or infinite"):
        net(torch.full((4, 2, 5), torch.nan))


def test_signals_may_be_arrays():
    net = Interpreter(alone(nir.Scale(ONE)), DT)
    assert net(np.ones((4, 2, 5), dtype=bool)).tolist() == net(torch.ones(4, 2, 5)).tolist()


def test_wires_of_two_shapes_are_refused():
    net = graph(
        [("input", "output"), ("input", "a"), ("a", "output")], a=nir.Linear(np.ones((1, 5))), **io(5)
    )
    with pytest.raises(Unreadable, match=r"'output' \(Output\) takes"):
        Interpreter(net, DT)


def test_a_graph_without_an_end_is_refused():
    with pytest.raises(Unreadable, match="no Input node"):
        Interpreter(graph([], output=nir.Output(ONE)), DT)
    with pytest.raises(Unreadable, match="no Output node"):
        Interpreter(graph([], input=nir.Input(ONE)), DT)


def test_an_edge_to_nowhere_is_refused():
    net = nir.NIRGraph(io(), [("input", "output")])
    net.edges.append(("lif", "output"))
    with pytest.raises(Unreadable, match="an edge names 'lif', and there is no such node"):
        Interpreter(net, DT)


@pytest.mark.parametrize("edge", [(b"input", b"output"), ("input", "output", "weight")])
def test_an_edge_that_is_no_pair_of_names_is_refused(edge):
    with pytest.raises(Unreadable, match="an edge is two names, not"):
        Interpreter(graph([edge], **io()), DT)


def test_a_name_that_is_no_string_is_refused():
    nodes = {**io(), 7: nir.Scale(np.ones(1))}
    with pytest.raises(Unreadable, match=r"a node \(Scale\) is called 7, which is no string"):
        Interpreter(nir.NIRGraph(nodes, [("input", 7)], type_check=False), DT)


def test_an_input_of_unknown_shape_is_tried_when_it_comes():
    net = Interpreter(
        graph(chained("input", "a", "output"), a=nir.Flatten(None, 0), **io() | {"input": nir.Input(None)}),
        DT,
    )
    assert net(torch.ones(1, 2, 3, 4)).shape == (1, 2, 12)


def test_a_file_and_back(tmp_path):
    net = nir.NIRGraph.from_list(nir.Affine(np.ones((5, 5)), ONE), lif(5))
    nir.write(tmp_path / "net.nir", net)
    x = spikes(20, 2, 5)
    assert torch.equal(Interpreter(nir.read(tmp_path / "net.nir"), DT)(x), Interpreter(net, DT)(x))
