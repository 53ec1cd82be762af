"""Lesson 18: spiking self-attention by additions alone, its twin with softmax, and the cost of both."""

from pathlib import Path

from snn_course.runs import lesson
from snn_course import UsageError, data
from snn_course.costs.operations import Operations, count
from snn_course.networks import neurons, training

import pytest
import torch

L = lesson.load(18)


@pytest.fixture
def config():
    return L.Config(scale="quick", device="cpu", heads=2, epochs=1)


@pytest.fixture
def run(config):
    torch.manual_seed(0)
    return lesson.Run(config, Path(L.__file__))


@pytest.fixture(scope="module")
def images():
    return data.load("cifar10", "test").subset(64)


@pytest.fixture(scope="module")
def pictures(images):
    return L.Pictures(images.images, images.labels, images.images, images.labels)


@pytest.fixture
def net(config, images):
    """Give a network whose batch norms have seen images, and that nobody trained."""
    torch.manual_seed(0)
    with torch.no_grad():
        return L.settle(L.Net(config, spiking=True), images.images)


def spikes(*shape, rate=0.2):
    return (torch.rand(shape) < rate).double()


# ---------------------------------------------------------------------- four tokens


def test_four_tokens_as_worked_out_in_the_text():
    sums, spk = L.tiny_ssa(L.TINY_Q, L.TINY_K, L.TINY_V)
    assert sums.tolist() == [[4, 2, 2], [1, 2, 0], [2, 3, 1], [3, 1, 1]]
    assert spk.tolist() == [[1, 0, 0], [0, 0, 0], [0, 1, 0], [1, 0, 0]]


def test_softmax_attention_is_pytorchs():
    q, k, v = torch.randn(3, 1, 2, 2, 8, L.FEATURES)
    wanted = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    torch.testing.assert_close(L.softmax_attention(q, k, v), wanted)
    torch.testing.assert_close(L.Attention(64).mix(q, k, v), wanted)


def test_by_additions_is_matmul_and_counts_what_add_up_counts():
    torch.manual_seed(0)
    spk, values = spikes(5, 7).float(), torch.randn(7, 4)
    values[2, 1] = 0
    total, additions = L.by_additions(spk, values)
    torch.testing.assert_close(total, spk @ values)
    assert additions == L.add_up(spk[None], values[None])[1]


# ---------------------------------------------------------------------- the model


@pytest.mark.parametrize("spiking", [True, False])
def test_shapes(config, images, spiking):
    net = L.Net(config, spiking)
    x = training.pixels(images.images[:4])
    assert net.split(x, net.num_steps).shape == (2 if spiking else 1, 4, 64, 64)
    assert net(x).shape == (4, 10)
    layer, tokens = net.first_attention(images.images[:4])
    q, k, v = layer.heads(tokens)
    assert q.shape == k.shape == v.shape == (net.num_steps, 4, 2, 64, L.FEATURES)
    assert layer(tokens).shape == tokens.shape


def test_heads_are_cut_and_put_together_in_the_same_order():
    cur = torch.arange(2 * 64 * 3.0).view(1, 1, 2, 192)  # [T, B, N, 3 D]
    q, k, v = L.split_heads(cur)
    for part, wanted in zip((q, k, v), cur.chunk(3, dim=-1), strict=True):
        assert torch.equal(L.join_heads(part), wanted)


def test_ssa_is_the_papers_formula():
    q, k, v = spikes(3, 2, 3, 2, 16, L.FEATURES, rate=0.3)
    wanted, _ = neurons.leaky(q @ k.mT @ v * 0.125, 0.5, 1.0)
    assert torch.equal(L.SSA(64).mix(q, k, v), wanted)
    assert 0.1 < wanted.mean() < 0.9


def test_constants_are_the_authors_in_our_units():
    """Theirs: scale 0.125, tau 2, threshold 0.5, input halved: the first spike needs a sum of 8."""
    assert (L.SCALE, L.BETA) == (0.125, 1 - 1 / 2)
    sums = torch.arange(16.0)[None]  # [T, N]
    theirs = L.authors_neuron(L.SCALE * sums, threshold=0.5)
    assert theirs[0].nonzero()[0].item() == 8
    ours, _ = neurons.leaky(L.SCALE * sums, L.BETA, L.THRESHOLD)
    assert ours[0].nonzero()[0].item() == 9  # above, not at


def test_both_networks_have_the_same_parameters(config):
    shapes = [
        {name: p.shape for name, p in L.Net(config, spiking).named_parameters()} for spiking in (True, False)
    ]
    assert shapes[0] == shapes[1]


def test_all_layers_of_the_spiking_net_but_two_see_spikes(net, images):
    """The first sees pixels, the last a mean."""
    layers = count(net, training.pixels(images.images[:8]), 8)
    assert {o.name for o in layers if o.macs} == {"split.stem.0", "head"}
    assert all(o.acs > 0 for o in layers if o.name not in {"split.stem.0", "head"})


def test_spikes_on_the_shortcut_are_no_spikes_after_it(net, images):
    """What the lesson says of Spikformer's own shortcut: 1 + 1 = 2."""
    layer, spk = net.first_attention(images.images[:8])
    total = spk + neurons.leaky(layer(spk), L.BETA)[0]
    assert total.max() == 2
    assert Operations.sum(count(layer, total, 8)).macs > 0


def test_gradients_reach_every_weight(config, images):
    net = L.Net(config, spiking=True)
    training.smooth_cross_entropy(net(training.pixels(images.images)), images.labels).backward()
    assert all(p.grad.abs().sum() > 0 for p in net.parameters())


def test_the_built_network_fires_and_its_proof_holds(config, run, images):
    L.build_it(config, run, images.images[:8])


def test_the_proof_of_snntorch_catches_another_threshold(config, run, images, monkeypatch):
    monkeypatch.setattr(L.SSA, "mix", lambda self, q, k, v: self.fire(q @ k.mT @ v))  # the scale forgotten
    with pytest.raises(lesson.ProofMissed):
        L.build_it(config, run, images.images[:8])


# ---------------------------------------------------------------------- additions


@pytest.mark.parametrize("lead", [(1,), (3,), (2, 3), (2, 2, 2)])
def test_add_up_is_matmul(lead):
    torch.manual_seed(0)
    spk, values = spikes(*lead, 5, 7), torch.randn(*lead, 7, 4, dtype=torch.double)
    total, added = L.add_up(spk, values)
    torch.testing.assert_close(total, spk @ values)
    assert added == int(spk.sum()) * 4  # no value is 0


def test_add_up_without_spikes_adds_nothing():
    total, added = L.add_up(torch.zeros(1, 3, 5), torch.randn(1, 5, 2))
    assert added == 0
    assert torch.equal(total, torch.zeros(1, 3, 2))


def test_add_up_does_not_count_zeros():
    spk, values = torch.ones(1, 2, 3), torch.tensor([[[1.0, 0.0], [0.0, 0.0], [2.0, 3.0]]])
    assert L.add_up(spk, values)[1] == 2 * 3


def test_proofs_hold(run, net, images):
    L.prove_additions(run, net, images.images[:8])


@pytest.mark.parametrize("name", ["graded spikes", "a row too many", "scale forgotten", "map by softmax"])
def test_proofs_catch_a_wrong_attention(name, run, net, images, monkeypatch):
    if name == "graded spikes":  # a layer norm or softmax before Q, K and V leaves numbers between 0 and 1
        monkeypatch.setattr(L.Fire, "forward", lambda self, cur: cur.sigmoid())
    elif name == "a row too many":
        monkeypatch.setattr(L, "add_up", lambda spk, values: (spk @ values + 1, 0))
    elif name == "scale forgotten":
        net.blocks[0].attention.scale = 1.0
    else:
        monkeypatch.setitem(L.WAYS, "Q (K^T V)", L.WAYS["softmax(Q K^T) V"])
    with pytest.raises(lesson.ProofMissed):
        L.prove_additions(run, net, images.images[:8])


# ---------------------------------------------------------------------- the mask, and chips


def test_mask_keeps_queries_of_features_that_spiked_together():
    """As in the authors' code, whose first step opens it for a single pair: threshold 0.5, input halved."""
    q, k, v = torch.ones(3, 8, 3)
    k[1:, 1] = v[:, 2] = 0  # feature 0 in common 8 times, 1 once, 2 never
    assert L.WAYS["mask"](q, k, v)[0].tolist() == [1, 1, 0]
    together = (k * v).sum(0, keepdim=True)[None]  # [T, 1, d]
    assert L.authors_neuron(together, threshold=0.5)[0, 0].tolist() == [1, 1, 0]


def test_mask_of_neurons_is_the_mask():
    torch.manual_seed(0)
    q, k, v = spikes(3, 2, 3, 8, 16, rate=0.25)
    assert torch.equal(L.mask_of_neurons(q, k, v), L.masked(q, k, v))
    assert 0 < L.masked(q, k, v).mean() < q.mean()


def test_a_mask_of_neurons_with_another_threshold_is_caught(run, net, images, monkeypatch):
    real = L.neuron_layer
    monkeypatch.setattr(L, "neuron_layer", lambda cur, threshold: real(cur, 0.5))  # OR in place of AND
    with pytest.raises(lesson.ProofMissed):
        L.build_from_neurons(run, net, images.images[:8])


def test_the_authors_neuron_is_ours_at_twice_the_threshold(run, monkeypatch):
    L.compare_neurons(run)
    monkeypatch.setattr(L, "BETA", 0.6)
    with pytest.raises(lesson.ProofMissed):
        L.compare_neurons(run)


# ---------------------------------------------------------------------- experiments


def test_catch_scale_more_current_more_spikes(config, run, net, pictures):
    found = L.catch_scale(config, run, net, pictures)
    for name in ("fire, untrained", "fire, trained"):
        assert found[name] == sorted(found[name])
    assert found["fire, untrained"][-1] > 85
    assert [m.scale for m in net.modules() if isinstance(m, L.SSA)] == [L.SCALE] * L.DEPTH  # as it was


def test_costs_of_the_twins(config, run, images):
    spiking, ann = (
        L.measure_costs(run, L.Net(config, kind), images.images[:16], images.labels[:16])
        for kind in (True, False)
    )
    for costs in (spiking, ann):
        macs, acs = costs["MACs"], costs["ACs"]
        assert macs + acs <= costs["dense"]
        assert 0 < costs["to mix Q, K, V"] < macs + acs
        assert costs["uJ"] == pytest.approx(4.6 * macs + 0.9 * acs)
        assert costs["uJ with reads"] == pytest.approx(9.6 * macs + 5.9 * acs)
    assert spiking["ACs"] > 0
    assert ann["ACs"] == 0


def test_training_starts_with_one_step(run, pictures, monkeypatch):
    seen = []
    forward = L.Net.forward
    monkeypatch.setattr(L.Net, "forward", lambda self, x: seen.append(self.num_steps) or forward(self, x))
    longer = L.Config(scale="quick", device="cpu", heads=1, epochs=4, num_steps=3)
    net = L.Net(longer, spiking=True)
    L.train(longer, run, "Spikformer", net, pictures.some(16, 16), batch=8)
    assert seen == [1] * 6 + [3] * 2  # two batches an epoch
    assert net.num_steps == 3
    seen.clear()
    L.train(longer, run, "ANN", L.Net(longer, spiking=False), pictures.some(16, 16), batch=8)
    assert set(seen) == {1}


def test_a_further_seed_trains_the_two_networks_alone(config, run, pictures, monkeypatch):
    trained = []

    def train(config, run, name, net, *rest):
        trained.append(name)
        net.eval()
        return 1.0

    monkeypatch.setattr(L, "train", train)
    monkeypatch.setattr(L, "load_pictures", lambda config, run: pictures)
    monkeypatch.setattr(run, "seed", 1)
    L.main(config, run)
    assert trained == ["Spikformer", "ANN"]
    told = set(run.record.measures)
    assert {"Spikformer: test accuracy", "ANN of equal size: test accuracy"} < told
    assert {"evenness of SSA, first layer", "evenness of softmax, first layer"} < told
    assert "lost by spikes, mean of three mixings" not in told


def test_steps_are_tried_on_a_copy(run, net, pictures):
    assert len(L.by_steps(run, net, pictures)) == len(L.STEPS)
    assert net.num_steps == 2


def test_evenness():
    assert L.evenness(torch.ones(3, 8)) == pytest.approx(1)
    assert L.evenness(torch.eye(8)) == pytest.approx(0, abs=1e-6)
    half = torch.tensor([[1.0, 1, 0, 0], [0, 0, 0, 0]])  # a query that looks nowhere does not count
    assert L.evenness(half) == pytest.approx(0.5)


@pytest.mark.parametrize("spiking", [True, False])
@pytest.mark.parametrize("mixing", L.MIXINGS)
def test_variants_mix_as_they_say(config, images, spiking, mixing):
    torch.manual_seed(0)
    net = L.variant(config, spiking, mixing)
    weights = L.weights_of(L.Net(L.Config(scale="quick", heads=1), spiking))
    assert L.weights_of(net) == weights
    with torch.no_grad():
        L.settle(net, images.images)
        layer, x = net.first_attention(images.images[:2])
        moved = x.clone()
        moved[:, :, 0] = 1 - moved[:, :, 0]  # another first token
        others = (layer(moved) - layer(x))[:, :, 1:].abs().max().item()
    assert (others > 0) == (mixing != "none")
    binary = all(L.from_bits(part) == 0 for part in layer.heads(x))
    assert binary == spiking


def test_causes_are_means_of_differences():
    by_spikes, by_mixing = L.causes([60.0, 50.0, 40.0], [45.0, 43.0, 32.0])
    assert by_spikes == pytest.approx((15 + 7 + 8) / 3)
    assert by_mixing == pytest.approx((10 + 2) / 2)


@pytest.mark.parametrize(
    ("relu", "spikes", "wanted"),
    [
        ([40.0, 40.0, 40.0], [35.0, 35.0, 35.0], "spikes"),
        ([40.0, 35.0, 40.0], [40.0, 35.0, 40.0], "the missing softmax"),
        ([40.0, 35.0, 40.0], [35.0, 30.0, 35.0], "spikes and the missing softmax"),
        ([40.0, 45.0, 40.0], [38.1, 43.1, 38.1], "neither, as far as one can tell"),
        ([19.0, 14.0, 19.0], [10.0, 10.0, 10.0], "unknown, since the best net has learnt no more than 19 %"),
    ],
)
def test_a_culprit_costs_more_than_two_standard_errors(relu, spikes, wanted):
    assert L.culprit({"ReLU": relu, "spikes": spikes}, error=1.0) == wanted


def test_standard_error():
    assert L.standard_error(50.0, 2500) == pytest.approx(1)


def test_attention_ratio_and_its_inverse():
    """All inputs firing at one step: the price of a MAC over that of an addition, for many more features."""
    assert L.attention_ratio(1, 10_000, 1, 1.0) == pytest.approx(4.6 / 0.9, rel=1e-3)
    rate = L.rate_for(87.2, 196, 768, 4)
    assert L.attention_ratio(196, 768, 4, rate) == pytest.approx(87.2)
    assert 0.01 < rate < 0.03


def test_published_figures_are_of_different_counts():
    same = [claim for claim in L.PUBLISHED if claim.net == "Spikformer-8-768"]
    assert len(same) == 2
    assert same[0].accuracy == same[1].accuracy
    assert same[1].millijoules / same[0].millijoules == pytest.approx(1.49, abs=0.01)


def test_settings_are_checked():
    with pytest.raises(UsageError, match="heads"):
        L.Config(heads=0)


def test_titles_say_what_was_measured():
    title = L.title_of_ways({"Q (K^T V)": [1.0, 2000.0], "mask": [3.0, 3.0]})
    assert title == "32 times the tokens take this many times the time: Q (K^T V) 2000, mask 1"
