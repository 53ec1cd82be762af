"""The writer of NIR: a written network gives the network's spikes, or writing it is refused."""

from types import SimpleNamespace

from snn_course.runs import lesson
from snn_course.networks import neurons, recurrent
from snn_course.nir import course_networks, writer
from snn_course.nir.interpreter import Interpreter

import nir
import numpy as np
import pytest
import snntorch as snn
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

DT = 1e-4


def spikes(*shape):
    return (torch.rand(*shape) < 0.4).double()


def stepped(layers, x):
    """Run snnTorch's neurons and layers over steps [T, B, ...], from rest, in float64."""
    state = [layer.reset_mem() if isinstance(layer, snn.Leaky) else None for layer in layers]
    record = []
    for x_t in x.unbind(0):
        signal = x_t
        for position, layer in enumerate(layers):
            if isinstance(layer, snn.Leaky):
                signal, state[position] = layer(signal, state[position])
                signal = signal.to(x.dtype)
            else:
                signal = layer(signal)
        record.append(signal)
    return torch.stack(record)


def read(graph, tmp_path, dt=DT):
    nir.write(tmp_path / "net.nir", graph)
    return Interpreter(nir.read(tmp_path / "net.nir"), dt)


numbers = st.sampled_from([0.0, 0.3, 0.9375, 0.99, 1.0])
thresholds = st.sampled_from([0.25, 1.0, 2.5])


@settings(max_examples=60, deadline=None)
@given(
    reset=st.sampled_from(["subtract", "zero", "none"]),
    beta=numbers,
    threshold=thresholds,
    each=st.sampled_from(["none", "beta", "threshold", "both"]),
    still=st.booleans(),
    dt=st.sampled_from([1e-4, 1e-3, 2.0]),
    seed=st.integers(0, 10_000),
)
def test_dense_networks_equal_snntorch(tmp_path_factory, reset, beta, threshold, each, still, dt, seed):
    torch.manual_seed(seed)
    if each in ("beta", "both") and beta < 1:
        beta = beta * torch.rand(8)
    if each in ("threshold", "both"):
        threshold = threshold * (0.5 + torch.rand(8))
    lif1 = snn.Leaky(beta, threshold=threshold, reset_mechanism=reset)
    lif2 = snn.Leaky(0.5, threshold=0.3, reset_mechanism=reset)
    net = SimpleNamespace(fc1=nn.Linear(6, 8), lif1=lif1, fc2=nn.Linear(8, 4), lif2=lif2)
    layers = [layer.double() for layer in vars(net).values()]
    x = torch.rand(3, 6).double().expand(30, -1, -1) if still else 3 * spikes(30, 3, 6)
    play = read(course_networks.write_dense(net, dt), tmp_path_factory.mktemp("nir"), dt)
    with torch.no_grad():
        assert torch.equal(play(x, "lif1"), stepped(layers[:2], x))
        assert torch.equal(play(x), stepped(layers, x))


def test_networks_of_the_property_test_fire():
    torch.manual_seed(0)
    layers = [nn.Linear(6, 8).double(), snn.Leaky(1.0, threshold=1.0).double()]
    assert stepped(layers, 3 * spikes(30, 3, 6)).sum() > 50


@pytest.mark.parametrize("reset", neurons.RESETS)
@pytest.mark.parametrize("beta", [0.9, 1.0, torch.linspace(0.5, 0.9, 5)], ids=["0.9", "1", "each"])
def test_neurons_of_the_course(reset, beta, tmp_path):
    neuron = neurons.Leaky(beta, threshold=0.8, reset=reset).double()
    cur = torch.rand(50, 3, 5).double()
    graph = writer.write_chain({"lif": neuron}, (5,), DT)
    assert torch.equal(read(graph, tmp_path)(cur), neuron(cur)[0])


@pytest.mark.parametrize("reset", ["zero", "none"])
def test_a_reset_without_delay_gives_the_same_spikes(reset, tmp_path):
    neuron = neurons.Leaky(0.9, threshold=0.8, reset=reset, reset_delay=False).double()
    cur = torch.rand(50, 3, 5).double()
    graph = writer.write_chain({"lif": neuron}, (5,), DT)
    assert torch.equal(read(graph, tmp_path)(cur), neuron(cur)[0])


@pytest.mark.parametrize("kind", [snn.Leaky, neurons.Leaky])
def test_a_subtraction_without_delay_is_refused(kind):
    with pytest.raises(writer.Unwritable, match="without reset delay"):
        writer.write_chain({"lif": kind(0.9, reset_delay=False)}, (5,), DT)


def test_beta_beyond_its_range_is_clipped_as_the_neuron_does_it(tmp_path):
    neuron = snn.Leaky(1.3, reset_mechanism="zero").double()
    x = torch.rand(30, 3, 5).double()
    assert torch.equal(read(writer.write_chain({"lif": neuron}, (5,), DT), tmp_path)(x), stepped([neuron], x))


def test_subtraction_before_the_decay():
    """The other convention: beta (v - threshold), as SpikingJelly, Norse and sinabs have it."""
    beta, threshold, x, v, expected = 0.75, 0.5, torch.rand(60, 3, 5).double(), 0.0, []
    for x_t in x:
        v = beta * v + x_t
        expected.append((v > threshold).double())
        v = v - expected[-1] * threshold
    out = writer.Writer((5,), DT)
    neuron = writer.Spiking(np.array(beta), np.array(threshold), "subtract", before_decay=True)
    spk = Interpreter(out.graph(*out.neurons("lif", (5,), neuron, "input")), DT)(x)
    assert torch.equal(spk, torch.stack(expected))


def test_chain_with_convolutions_and_pools(tmp_path):
    torch.manual_seed(0)
    layers = {
        "conv": nn.Conv2d(2, 6, 3, stride=2, padding=1, bias=False),
        "lif1": snn.Leaky(0.9, threshold=0.1),
        "pool": nn.AvgPool2d(2),
        "same": nn.Conv2d(6, 4, 3, padding="same", dilation=2),
        "lif2": snn.Leaky(1.0, threshold=0.2, reset_mechanism="zero"),
        "flat": nn.Flatten(),
        "fc": nn.Linear(4 * 4 * 4, 3),
    }
    for layer in layers.values():
        layer.double()
    x = spikes(12, 3, 2, 16, 16)
    with torch.no_grad():
        expected = stepped(list(layers.values()), x)
    assert torch.allclose(read(writer.write_chain(layers, (2, 16, 16), DT), tmp_path)(x), expected)


def test_chain_of_convolutions_in_one_dimension(tmp_path):
    layers = {"conv": nn.Conv1d(2, 6, 3, stride=2, padding=2, dilation=2), "lif": snn.Leaky(0.9)}
    for layer in layers.values():
        layer.double()
    x = 3 * spikes(12, 3, 2, 16)
    with torch.no_grad():
        expected = stepped(list(layers.values()), x)
    assert torch.equal(read(writer.write_chain(layers, (2, 16), DT), tmp_path)(x), expected)


REFUSED = {
    "groups": (nn.Conv2d(2, 4, 3, groups=2), "reads back no groups"),
    "rectangle": (nn.Conv2d(2, 4, (3, 5)), "only kernels that are square"),
    "mirror": (nn.Conv2d(2, 4, 3, padding=1, padding_mode="reflect"), "pads with zeros"),
    "transposed": (nn.ConvTranspose2d(2, 4, 3), "ConvTranspose2d"),
    "max": (nn.MaxPool2d(2), "MaxPool2d"),
    "ceil": (nn.AvgPool2d(3, ceil_mode=True), "no options"),
    "batch": (nn.Flatten(0), "mix the samples of a batch"),
    "norm": (nn.BatchNorm2d(2), "BatchNorm2d"),
    "synaptic": (snn.Synaptic(0.9, 0.9), "Synaptic"),
    "at once": (snn.Leaky(0.9, reset_delay=False), "takes back some resets"),
    "graded": (snn.Leaky(0.9, graded_spikes_factor=2.0), "graded spikes"),
    "some leak": (snn.Leaky(torch.tensor([1.0, 0.9]).reshape(2, 1, 1)), "some neurons have beta 1"),
    "below 0": (snn.Leaky(0.9, threshold=-0.1), "a threshold below 0"),
    "nan": (snn.Leaky(float("nan")), "nan or infinite"),
    "adaptive": (recurrent.Layer(8, 10, adaptive=True), "thresholds that adapt"),
    "gated": (recurrent.Layer(8, 10, gated=True), "gates"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_nir_cannot_say_is_refused(name):
    layer, reason = REFUSED[name]
    with pytest.raises(writer.Unwritable, match=f"layer.*{reason}") as refused:
        writer.write_chain({"layer": layer}, (2, 8, 8), DT)
    assert "\n" not in str(refused.value)


def test_dropout_is_left_out():
    layers = {"drop": nn.Dropout(0.9), "lif": snn.Leaky(0.9), "more": nn.Identity()}
    graph = writer.write_chain(layers, (5,), DT)
    plain = writer.write_chain({"lif": snn.Leaky(0.9)}, (5,), DT)
    assert list(graph.nodes) == list(plain.nodes)
    assert graph.edges == plain.edges


def test_a_reset_of_another_name_is_refused():
    neuron = SimpleNamespace(beta=np.array(0.9), threshold=np.array(1.0), reset="sub", before_decay=False)
    with pytest.raises(writer.Unwritable, match="no reset is called 'sub'"):
        writer.Writer((5,), DT).neurons("lif", (5,), neuron, "input")


def test_shapes_that_do_not_fit_are_refused():
    out = writer.Writer((7,), DT)
    with pytest.raises(ValueError, match="mismatch"):
        out.graph(*out.weights("fc", nn.Linear(6, 2), "input"))


def test_a_name_twice_is_refused():
    out = writer.Writer((6,), DT)
    out.weights("fc", nn.Linear(6, 6), "input")
    with pytest.raises(writer.Unwritable, match="called 'fc' already"):
        out.weights("fc", nn.Linear(6, 6), "fc")


# ---------------------------------------------------------------------- the networks of lessons 10 and 13


@pytest.mark.parametrize("block", ["sew", "plain", "resnet"])
@pytest.mark.parametrize("options", [{"beta": 0.9}, {"beta": 1.0, "threshold": 0.7, "reset": "zero"}])
def test_convolutional_network(block, options, tmp_path):
    torch.manual_seed(0)
    net = lesson.load(10).Net(width=4, block=block, **options).double().eval()
    for layer in net.layers():
        nn.init.constant_(layer.norm.bias, 0.5)
    pictures = torch.randn(2, 3, 32, 32).double()
    play = read(course_networks.write_conv(net, pictures[:1], DT), tmp_path)
    with torch.no_grad():
        scores = play(pictures.expand(net.num_steps, -1, -1, -1, -1)).mean(0)
        assert torch.allclose(scores, net(pictures))
        moving = torch.randn(5, 2, 3, 32, 32).double()
        assert torch.allclose(play(moving).mean(0), net(moving))


@pytest.mark.parametrize("block", ["and", "iand"])
def test_blocks_that_multiply_are_refused(block):
    net = lesson.load(10).Net(width=4, block=block).eval()
    with pytest.raises(writer.Unwritable, match=f"joins by '{block}'"):
        course_networks.write_conv(net, torch.randn(1, 3, 32, 32), DT)


def test_a_network_without_spikes_is_refused():
    net = lesson.load(10).Net(width=4, neuron=nn.ReLU, num_steps=1).eval()
    with pytest.raises(writer.Unwritable, match="ReLU"):
        course_networks.write_conv(net, torch.randn(1, 3, 32, 32), DT)


@pytest.mark.parametrize("kind", ["Leaky", "slow Leaky", "RLeaky"])
def test_recurrent_network(kind, tmp_path):
    torch.manual_seed(0)
    lesson_13 = lesson.load(13)
    net = lesson_13.Net(kind, (6, 16, 3), span=20, window=20).double()
    x = 5 * spikes(20, 4, 6)
    play = read(course_networks.write_recurrent(net, DT, lesson_13.GAIN), tmp_path)
    with torch.no_grad():
        assert net.spikes(x).sum() > 50
        assert torch.equal(play(x, "hidden"), net.spikes(x))
        assert torch.allclose(play(x).mean(0), net(x))


def test_other_recurrent_networks_are_refused():
    lesson_13 = lesson.load(13)
    for kind, reason in {"ALIF": "adapt", "SLSTM": "gates"}.items():
        with pytest.raises(writer.Unwritable, match=reason):
            course_networks.write_recurrent(lesson_13.Net(kind, (6, 16, 3), span=20, window=20), DT)
    with pytest.raises(writer.Unwritable, match="one hidden layer, not 2"):
        course_networks.write_recurrent(lesson_13.Net("Leaky", (6, 16, 3), span=20, window=20, depth=2), DT)
