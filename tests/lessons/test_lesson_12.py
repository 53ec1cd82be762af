"""Lesson 12: one network in two executions, two counters, the mesh, lesson 10's chain, and the ledger."""

from types import SimpleNamespace

from snn_course.runs import figures, lesson
from snn_course import akida_bridge as ab
from snn_course.costs import energy as meters
from snn_course.costs import neurobench, operations

import pytest
import torch
from torch import nn

L = lesson.load(12)


@pytest.fixture
def config():
    return L.Config(scale="quick", width=4, counted=3, timed=5)


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    made = L.network(4)
    made.calibrate(torch.randint(0, 256, (32, 3, 32, 32)))
    return made.eval()


@pytest.fixture(scope="module")
def integers(net):
    return net.to_integers()


def pictures(n=3):
    return torch.randint(0, 256, (n, 3, 32, 32), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("stride", [1, 2])
def test_padding_is_akidas(kernel, stride):
    torch.manual_seed(0)
    spec = ab.InputConv(4, kernel=kernel, stride=stride)
    layer = ab.IntLayer(spec, torch.randint(-7, 8, (4, 3, kernel, kernel)), torch.zeros(4), torch.ones(4))
    x = pictures()
    pad, conv = ab.connections(layer)
    found = conv(pad(x.float()))
    assert found.shape[2:] == (32 // stride, 32 // stride)
    net = ab.IntNet((spec, ab.Dense(2, act_bits=None)), (3, 32, 32), [layer])
    levels = ab.akida_activation(found.long(), torch.zeros(1), torch.ones(1), 4)
    assert torch.equal(net.outputs(x)[0], levels)


# ---------------------------------------------------------------------- clock and events


@pytest.mark.parametrize("density", [0.0, 0.02, 0.3, 1.0])
def test_events_give_the_spikes_of_the_clock(density):
    for seed in range(5):
        torch.manual_seed(seed)
        spikes = (torch.rand(60, 12) < density).float()
        weight = torch.randn(7, 12)
        by_clock, products = L.clock_driven(spikes, weight)
        by_event, additions = L.event_driven(spikes, weight)
        assert torch.equal(by_clock, by_event)
        assert products.sum() == 60 * 7 * 12
        assert additions.sum() == 7 * spikes.sum()


def test_strong_input_makes_several_spikes_in_a_row_without_further_events():
    spikes = torch.zeros(5, 1)
    spikes[0] = 1
    weight = torch.tensor([[9.0]])
    by_event, _ = L.event_driven(spikes, weight)
    assert by_event.flatten().tolist() == [1, 1, 0, 0, 0]  # 9, 3.5, 0.75: the neuron wakes itself
    assert torch.equal(by_event, L.clock_driven(spikes, weight)[0])


def test_tiny_layer_is_what_the_prose_says(run):
    L.count_by_hand(run)
    assert run.record.measures["tiny layer: products by the clock"].values == [96]
    assert run.record.measures["tiny layer: additions by events"].values == [15]
    assert L.synaptic_operations(L.SPIKES, L.WEIGHT) == (96, 14)
    L.count_tiny(run)


def test_events_that_miss_a_leak_are_caught(run, monkeypatch):
    right = L.event_driven

    def without_leak(spikes, weight):
        monkeypatch.setattr(L, "BETA", 1.0)
        found = right(spikes, weight)
        monkeypatch.setattr(L, "BETA", 0.5)
        return found

    monkeypatch.setattr(L, "event_driven", without_leak)
    with pytest.raises(lesson.ProofMissed):
        L.count_by_hand(run)


@pytest.mark.parametrize(
    ("ratios", "low", "high"),
    [
        ([2.0] * 7, 0.1, 0.1),
        ([0.5] * 7, 100, 100),
        ([0.1, 0.1, 0.1, 0.1, 0.5, 2.0, 9.0], 10, 30),
        ([0.1, 1.0, 2.0, 2.0, 2.0, 2.0, 2.0], 0.299, 0.301),
    ],
)
def test_crossing(ratios, low, high):
    assert low <= L.crossing(ratios) <= high


# ---------------------------------------------------------------------- two executions


def test_frames_equal_the_integers(net, integers):
    x = pictures(8)
    with torch.no_grad():
        assert torch.equal(L.frames(integers).double()(x.double()).long(), net.integers(x))


def test_spikes_are_spikes_and_forget_the_last_image(integers):
    spikes, x = L.Spikes(integers).double(), pictures().double()
    seen = []
    for neuron in spikes.neurons:
        neuron.register_forward_hook(lambda _, __, spk: seen.append(spk.unique()))
    with torch.no_grad():
        first, again = L.stepped(spikes, x), L.stepped(spikes, x)
    assert torch.equal(first, again)
    assert all(set(values.tolist()) <= {0, 1} for values in seen)
    assert len(seen) == 2 * L.STEPS * len(spikes.neurons)


def test_counters_agree(run, integers):
    found = L.count(run, integers, pictures())
    assert found["spikes"]["effective ACs"] > 0
    assert found["frames"]["effective ACs"] == 0


def test_a_counter_that_forgets_zero_weights_is_caught(run, integers, monkeypatch):
    monkeypatch.setattr(operations, "_fan_out", _every_weight(operations._fan_out))
    with pytest.raises(lesson.ProofMissed):
        L.count(run, integers, pictures())


def _every_weight(fan_out):
    return lambda module, one, mask: fan_out(module, one, torch.ones_like(mask))


def test_neurobench_takes_sequences_and_images(integers):
    x = pictures(2).double()
    frames = neurobench.neurobench(L.execution("frames", integers).double(), x, L.Levels)
    steps = L.execution("spikes", integers).double()
    counted = neurobench.neurobench(steps, x.expand(4, -1, -1, -1, -1), L.Levels)
    assert counted["dense operations"] == 4 * frames["dense operations"]


# ---------------------------------------------------------------------- the mesh


def test_mesh_shows_every_np_of_the_report(run, net):
    found = L.place(run, net, pictures(6))
    if found is None:
        pytest.skip("the akida package is not installed")
    mapping = found.mapping
    assert {name: len(places) for name, places in mapping.places.items()} == mapping.nps
    taken = [place for places in mapping.places.values() for place in places]
    assert len(set(taken)) == len(taken)
    assert set(taken) <= set(mapping.mesh)
    assert len(mapping.mesh) == 78
    _, (ax,) = figures.new("")
    ab.draw_mesh(ax, mapping)
    assert len(ax.patches) == 78
    first, *_ = ax.get_legend().get_texts()
    assert first.get_text() == f"free: {78 - len(taken)}"
    assert 0 < run.record.measures["fewest NPs that hold it"].values[0] < len(taken)


def test_without_akida_the_mapping_says_so(run, net, monkeypatch):
    monkeypatch.setattr(ab, "backend", lambda: "absent")
    assert L.place(run, net, pictures(2)) is None
    L.ask_the_chip(run)
    L.draw_ledger(run, [["a", 1.0, ""]])


def test_the_chip_refuses_a_block_with_a_way_around(run):
    if ab.backend() == "absent":
        pytest.skip("the akida package is not installed")
    L.ask_the_chip(run)
    answers = dict(run.record.tables["Can the AKD1000 take SEW?"]["runs"][0])
    assert "exactly 1 inbound layer" in answers["two ways in"]
    assert "IP version" in answers["Add, v1"]
    assert L.answer_to(L.small_model) == "accepted"


# ---------------------------------------------------------------------- lesson 10's network as a chain


@pytest.fixture
def sew():
    torch.manual_seed(0)
    made = L.L10.Net(4, blocks=1, num_steps=1)
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):  # as after some training
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
            nn.init.normal_(module.weight, 1.5, 1.0)  # some of them negative
            nn.init.normal_(module.bias, 0.3, 0.3)
    return made.eval()


@torch.no_grad()
def test_chain_is_lesson_10s_network(run, sew):
    L.prove_chain(run, sew, pictures(6))
    spikes = L.run_chain(L.chain(sew), L.unit_pixels(pictures(6)))
    assert spikes.shape == (6, 32, 4, 4)
    assert set(spikes.unique().tolist()) == {0, 1}


@torch.no_grad()
def test_chain_whose_copies_read_the_branch_is_caught(run, sew, monkeypatch):
    right = L.reading
    monkeypatch.setattr(L, "reading", lambda weight, branch, around: right(weight, 1, 0))
    with pytest.raises(lesson.ProofMissed):
        L.prove_chain(run, sew, pictures(6))


@torch.no_grad()
def test_whole_numbers_are_the_chain_of_rounded_weights(sew):
    whole = L.to_whole_numbers(sew)
    kernels = L.chain(sew)
    rounded = []
    for kernel, layer in zip(kernels, whole.layers, strict=False):
        top = 127 if kernel is kernels[0] else 7
        scale = (kernel.weight.flatten(1).abs().amax(1) / top).view(-1, 1, 1, 1)
        rounded.append(L.Kernel(L.turned(layer.weights) * scale, kernel.bias, kernel.stride))
    spikes = L.run_chain([L.Kernel(k.weight.double(), k.bias.double(), k.stride) for k in rounded],
                         L.unit_pixels(pictures(6)).double())  # fmt: skip
    found = L.turned(whole.outputs(L.turned(pictures(6)))[-2])
    assert torch.equal(found, spikes.long())
    assert 0 < spikes.mean() < 1


@torch.no_grad()
def test_chain_of_whole_numbers_runs_on_akida(run, sew):
    if ab.backend() == "absent":
        pytest.skip("the akida package is not installed")
    L.draw_lesson_10(run, L.to_whole_numbers(sew), L.turned(pictures(4)))
    assert run.record.measures["lesson 10's SEW net: NPs in use"].values[0] <= 78


# ---------------------------------------------------------------------- the ledger


COUNTS = {
    "frames": {"dense operations": 1e6, "effective MACs": 5e5},
    "spikes": {"effective MACs": 0.0, "effective ACs": 1e6},
}


@pytest.mark.parametrize("reading", [None, meters.Reading(20.0, 1.0, "a meter")])
@pytest.mark.parametrize("energy", [None, ab.Energy("n", "s", True, 900, 950, 1000)])
def test_ledger(run, integers, monkeypatch, reading, energy):
    monkeypatch.setattr(meters, "measure", lambda work, device: reading)
    found = SimpleNamespace(energy=energy)
    rows = {name: value for name, value, _ in L.ledger(run, integers, COUNTS, pictures(4), found)}
    assert rows["45 nm, dense float32 MACs"] == pytest.approx(4.6e-3)  # 4.6 uJ
    assert rows["45 nm, spikes, 15 steps"] == pytest.approx(0.9e-3)
    assert rows["this cpu, batches of 100"] == ("-" if reading is None else pytest.approx(20e3 / 20 / 4))
    told = run.record.tables["Energy of one frame, mJ"]["runs"][0][-1]
    assert told[1:] == ["-", ab.NOT_MEASURED] if energy is None else told[1] == pytest.approx(0.05)


def test_catch_tells_macs_from_additions(run):
    mixed = {"spikes": {"effective MACs": 1e6, "effective ACs": 1e6}}
    L.catch_billing(run, mixed)
    (ratio,) = run.record.measures["catch: energy / all operations billed as additions"].values
    assert ratio == pytest.approx((4.6 + 0.9) / 1.8)


def test_floor_is_power_over_rate(run):
    least = L.floor_by_rate(run)
    rows = run.record.tables["Published board power, spread over frames"]["runs"][0]
    small, large = ab.PUBLISHED[:2]
    assert rows[1][2] == pytest.approx(small.floor / 30)
    assert least == pytest.approx(100 * large.floor / (large.floor + 30 * large.dynamic_per_frame))


def test_titles_say_what_was_measured():
    energies = {"45 nm, effective MACs": 0.5, "45 nm, spikes": 9.0, "AKD1000 board": 7.0}
    assert L.title_of_hardware(energies) == "mJ a frame at 45 nm: effective MACs 0.5, spikes 9"
    title = L.title_of_mesh({"conv1": 0, "conv2": 4, "conv3": 11}, 78)
    assert title == "15 of 78 NPs in use, up to 11 for one layer"
