"""Lesson 20: the forms of the state space model are equal, its stream is constant, wrong ones are caught."""

import copy
import math

from snn_course.runs import lesson
from snn_course import UsageError, data
from snn_course.networks import state_space as ssms

import pytest
import torch

L = lesson.load(20)
CONVOLVE, FORWARD, ADVANCE, SCAN = L.SSM.convolve, L.SSM.forward, L.advance, L.scan


@pytest.fixture
def config():
    return L.Config(scale="quick", device="cpu", width=6, modes=3, images=500)


@pytest.fixture(scope="module")
def sets():
    used = {
        split: data.load("mnist", split).subset(size) for split, size in {"train": 500, "test": 100}.items()
    }
    return {split: (images.images, images.labels) for split, images in used.items()}


@pytest.fixture
def net():
    torch.manual_seed(0)
    net = L.Net(6, 3, "deterministic")
    net(torch.rand(784, 8))  # so that the batch norms know a mean
    return net.eval()


# ---------------------------------------------------------------------- the layer


def test_proofs_of_the_forms_hold_for_any_seed(config, run):
    for seed in range(5):
        torch.manual_seed(seed)
        L.compare_forms(config, run)


WRONG = {
    "circular": (L.SSM, "convolve", lambda self, u, padded=True: CONVOLVE(self, u, padded=False)),
    "a step late": (L.SSM, "convolve", lambda self, u, padded=True: CONVOLVE(self, u).roll(1, 0)),
    "blocks without a state": (ssms, "carry", lambda hop, added: 0 * added.flatten(1, 2).flatten(2)),
    "gradient cut": (
        L.SSM,
        "forward",
        lambda self, u, batch: FORWARD(copy.deepcopy(self), u, batch) + 0 * self.c.sum(),
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_form_is_caught(name, config, run, monkeypatch):
    where, attribute, wrong = WRONG[name]
    monkeypatch.setattr(where, attribute, wrong)
    with pytest.raises((lesson.ProofMissed, RuntimeError)):
        L.compare_forms(config, run)


def test_one_real_mode_is_a_leaky_neuron_without_reset():
    ssm = L.SSM(1, 1).double()
    with torch.no_grad():
        ssm.frequency.zero_()
    a, _ = ssm.discrete()
    cur = torch.rand(98, 4, 1, dtype=torch.double)
    mem, own = torch.zeros(4, 1), []
    for cur_t in cur.unbind(0):
        mem = a.real[0] * mem + cur_t
        own.append(mem)
    scale = ssm.discrete()[1].real.item()
    torch.testing.assert_close(ssm.convolve(cur), scale * torch.stack(own))


def test_discretisation_is_exact_for_a_held_input():
    """Half the step twice is the whole step, as no Euler step can be."""
    ssm = L.SSM(5, 4).double()
    whole = ssm.convolve(torch.ones(50, 1, 5, dtype=torch.double))
    with torch.no_grad():
        ssm.log_dt -= math.log(2)
        ssm.c /= math.sqrt(2)  # c holds 1 / sqrt(dt), which is no part of the equation
    half = ssm.convolve(torch.ones(100, 1, 5, dtype=torch.double))
    torch.testing.assert_close(half[1::2], whole)


def test_slow_neurons_are_stable_for_any_length():
    a, _ = L.SSM(50, 8).discrete()
    assert a.abs().max() < 1


@pytest.mark.parametrize("shared", [False, True])
def test_block_scan_has_the_gradients_of_the_recurrence(shared):
    torch.manual_seed(0)
    ssm = L.SSM(5, 3).double()
    u = torch.randn(3 * 49, 2, 1 if shared else 5, dtype=torch.double, requires_grad=True)
    weights = torch.randn(3 * 49, 2, 5, dtype=torch.double)
    grads = []
    for mem in (ssms.to_steps(ssm(ssms.to_blocks(u), 2), 2), ssm.recur(u)):
        grads.append(torch.autograd.grad((mem * weights).sum(), [u, *ssm.parameters()]))
    for own, expected in zip(*grads, strict=True):
        assert torch.dist(own, expected) <= 1e-12 * expected.norm()


@pytest.mark.parametrize("count", [1, 2, 3, 50])
def test_powers_are_powers(count):
    a = torch.polar(torch.rand(4, 3, dtype=torch.double), torch.randn(4, 3, dtype=torch.double))
    torch.testing.assert_close(ssms.powers(a, count), a[..., None] ** torch.arange(count))


def test_blocks_and_steps_are_inverse():
    u = torch.rand(98, 3, 5)
    blocks = ssms.to_blocks(u)
    assert blocks.shape == (5, 49, 2 * 3)
    assert torch.equal(ssms.to_steps(blocks, 3), u)
    assert torch.equal(blocks[2, 7].view(2, 3), u[[7, 49 + 7], :, 2])


def test_number_of_steps_must_fill_the_blocks():
    with pytest.raises(ValueError, match="multiple of 49 steps, not 100"):
        ssms.to_blocks(torch.rand(100, 1, 1))


def test_one_input_for_all_neurons_is_the_same_input_to_each():
    ssm, u = L.SSM(5, 2), torch.rand(98, 3, 1)
    own = ssms.to_steps(ssm(ssms.to_blocks(u), 3), 3)
    torch.testing.assert_close(own, ssm.convolve(u.expand(-1, -1, 5)))


# ---------------------------------------------------------------------- outputs and networks


def test_deterministic_spikes_have_the_slope_of_atan():
    mem = torch.linspace(-2, 2, 41).requires_grad_()
    spk = L.fired(mem)
    assert torch.equal(spk, (mem > 0).float())
    spk.sum().backward()
    torch.testing.assert_close(mem.grad, 1 / (1 + (math.pi * mem.detach()) ** 2))


def test_drawn_spikes_have_their_probability_and_its_slope():
    torch.manual_seed(0)
    mem = torch.tensor([-1.0, 0.0, 0.5]).repeat(20_000, 1).requires_grad_()
    spk = L.drawn(mem)
    assert set(spk.unique().tolist()) == {0.0, 1.0}
    chance = torch.sigmoid(2 * mem[0].detach())
    torch.testing.assert_close(spk.mean(0), chance, atol=0.02, rtol=0)
    spk.sum().backward()
    torch.testing.assert_close(mem.grad[0], 2 * chance * (1 - chance))


def test_score_of_a_pixel_knows_nothing_of_later_ones(net):
    x = torch.rand(784, 2)
    other = x.clone()
    other[490:] = 0
    with torch.no_grad():
        one, two = net.record(x)[1], net.record(other)[1]
    torch.testing.assert_close(one[:10], two[:10])  # 10 blocks of 49
    assert not torch.allclose(one[10:], two[10:])


def test_streams_equal_the_parallel_pass(run, net):
    images = torch.randint(256, (4, 1, 28, 28), dtype=torch.uint8)
    other = copy.deepcopy(net)
    other.output = "none"
    L.prove_stream(run, {"deterministic": net, "none": other}, images)  # raises where they differ


@pytest.mark.parametrize(
    "wrong", [lambda a, c, x, u: ADVANCE(a, c, 0.99 * x, u), lambda a, c, x, u: ADVANCE(a, c, x, 0.9 * u)]
)
def test_wrong_stream_is_caught(wrong, run, net, monkeypatch):
    monkeypatch.setattr(L, "advance", wrong)
    net.output = "none"
    with pytest.raises(lesson.ProofMissed):
        L.prove_stream(run, {"none": net, "deterministic": net}, torch.randint(256, (4, 1, 28, 28)))


def test_stream_remembers_a_fixed_size_and_attention_does_not(net):
    stream, attention = L.Stream(net, 2), L.Attention(6)
    for layer in attention.layers:
        layer.remember(0, room=10)
    sizes = []
    for _ in range(10):
        stream(torch.rand(2))
        attention.step(torch.rand(1))
        sizes.append((stream.nbytes(), attention.nbytes()))
    assert {size for size, _ in sizes} == {2 * 2 * 6 * 3 * 8 + 2 * 6 * 4}  # complex states, float counts
    assert [size for _, size in sizes] == [2 * 2 * 6 * 4 * tokens for tokens in range(1, 11)]


def test_attention_with_a_cache_is_attention():
    torch.manual_seed(0)
    layer, tokens = L.AttentionLayer(6), torch.rand(10, 6)
    layer.remember(0, room=10)
    with torch.no_grad():
        one_by_one = torch.stack([layer.step(token) for token in tokens])
        scores = layer.query(tokens) @ layer.key(tokens).T / math.sqrt(6)
        hidden = torch.ones(10, 10).triu(1).bool()
        share = scores.masked_fill(hidden, -math.inf).softmax(1)
        expected = tokens + layer.out(share @ layer.value(tokens))
        torch.testing.assert_close(one_by_one, expected)
        torch.testing.assert_close(layer(tokens), expected)


def test_attention_that_forgets_a_token_is_caught(run, monkeypatch):
    step = L.AttentionLayer.step

    def forgetful(self, x):
        if self.seen == 5:
            self.seen -= 1
        return step(self, x)

    monkeypatch.setattr(L.AttentionLayer, "step", forgetful)
    with pytest.raises(lesson.ProofMissed):
        L.check_attention(run, L.Attention(6))


@pytest.mark.parametrize("parameters", [500, 3594, 9226])
def test_attention_is_as_large_as_it_can_be_made(parameters):
    apart = abs(L.size_of(L.attention_of_size(parameters)) - parameters)
    assert all(abs(L.size_of(L.Attention(width)) - parameters) >= apart for width in range(1, 60))


def test_multiplications_are_those_of_the_shapes(net):
    """Count them in PyTorch's own meter, which counts two operations for each, in matrix products alone."""
    from torch.utils.flop_counter import FlopCounterMode

    attention = L.Attention(6)
    for layer in attention.layers:
        layer.remember(99, room=1)
    counter = FlopCounterMode(display=False)
    with counter:
        for layer in attention.layers:
            x = torch.rand(1, 6)
            x = layer.out(layer.value(x) + layer.key(x) + layer.query(x))
    projections = counter.get_total_flops() / 2
    assert L.multiplications_of_attention(6, 99) == 6 + projections + 2 * (2 * 99 * 6) + 60
    assert L.multiplications_of_ssm(net) == 2 * 6 * 3 * 6 + 36 + 60


def test_crossover_is_the_length_from_which_the_ssm_stays_cheaper():
    assert L.crossover((1, 2, 4), [2, 2, 2], [1, 3, 5]) == "from 2 tokens"
    assert L.crossover((1, 2, 4), [2, 2, 2], [3, 1, 5]) == "from 4 tokens"
    assert L.crossover((1, 2, 4), [2, 2, 2], [3, 3, 2]) == "not up to 4 tokens"
    assert L.crossover((1, 2, 4), [2, 2, 2], [3, 3, 3]) == "from 1 tokens"


def test_another_draw_is_compared_with_the_first(run, sets, net):
    net.output = "probabilistic"
    few = sets["test"][0][:20], sets["test"][1][:20]
    torch.manual_seed(0)
    one = L.evaluate(net, *few)
    torch.manual_seed(0)  # the same draw
    L.draw_again(run, net, few, one)
    assert run.record.measures["probabilistic: answers changed by a new draw"].values == [0.0]
    assert net.output == "probabilistic"


def test_training_learns_and_counts(config, run, sets, monkeypatch):
    monkeypatch.setattr(L, "OUTPUTS", {"deterministic": L.fired, "none": L.gelu})
    monkeypatch.setattr(L, "BATCH", 5)
    nets, scores = L.compare_outputs(config, run, sets)
    assert set(nets) == set(scores) == {"deterministic", "none", "plain LIF"}
    curve = scores["deterministic"]["curve"]
    assert len(curve) == 16
    assert curve[-1] > 20  # ten classes
    score = L.evaluate(nets["deterministic"], *sets["test"])
    assert score["answers"].shape == (100,)
    assert all(0 < spikes < 784 * 6 for spikes in score["spikes"])


def test_pixels_come_in_turn():
    images = torch.arange(2 * 784).remainder(256).to(torch.uint8).view(2, 1, 28, 28)
    x = L.in_turn(images)
    assert x.shape == (784, 2)
    assert x[29, 0] == images[0, 0, 1, 1] / 255


# ---------------------------------------------------------------------- selective


@pytest.mark.parametrize("steps", [1, 2, 3, 64, 100])
def test_scan_equals_its_loop(steps):
    a, b = torch.rand(2, steps, 5, dtype=torch.double)
    x = torch.zeros(5)
    loop = [x := a_t * x + b_t for a_t, b_t in zip(a, b, strict=True)]
    torch.testing.assert_close(L.scan(a, b), torch.stack(loop))


def test_wrong_scan_is_caught(config, run, monkeypatch):
    monkeypatch.setattr(L, "scan", lambda a, b: SCAN(a.roll(1, 0), b))
    with pytest.raises(lesson.ProofMissed):
        L.select(config, run)


def test_latch_asks_for_the_last_flagged_value():
    torch.manual_seed(0)
    x, answers = L.latch(200, 30)
    for sequence, answer in zip(x.unbind(1), answers, strict=True):
        assert sequence[sequence[:, 1] == 1][-1, 0] == answer


def test_fixed_gate_sees_no_input():
    fixed, selective = L.Gate(2, 4, False), L.Gate(2, 4, True)
    assert torch.autograd.grad(fixed(torch.rand(9, 3, 2)).sum(), fixed.gate.weight)[0].abs().max() == 0
    assert torch.autograd.grad(selective(torch.rand(9, 3, 2)).sum(), selective.gate.weight)[0].abs().max() > 0


def test_settings_are_checked():
    with pytest.raises(UsageError, match="images"):
        L.Config(images=10)


def test_titles_say_what_was_measured():
    assert L.title_of_digits({"none": [10.0, 20.0]}) == "Digits pixel by pixel: real numbers 20 %"
    times = [1.0, 1.0, 1.0, (L.WHOLE[-1] / L.WHOLE[-2]) ** 1.5]
    assert L.exponent(times) == pytest.approx(1.5)
    assert L.title_of_whole({"SSM": times}).startswith(
        f"From {L.WHOLE[-2]} to {L.WHOLE[-1]} steps: SSM T^1.5, "
    )


# ---------------------------------------------------------------------- one tiny state


def test_the_tiny_state_is_computed_in_three_equal_ways(config, run):
    L.one_tiny_state(config, run)  # raises where they differ


TINY = {
    "kernel a step late": ("convolution", lambda a, u: L.recurrence(a, u.roll(1))),
    "scan joins the wrong way": ("scan_round", lambda a, b, apart: (a, b + a * b.roll(apart))),
    "recurrence forgets": ("recurrence", lambda a, u: u),
}


@pytest.mark.parametrize("name", TINY)
def test_a_wrong_tiny_state_is_caught(name, config, run, monkeypatch):
    attribute, wrong = TINY[name]
    monkeypatch.setattr(L, attribute, wrong)
    with pytest.raises(lesson.ProofMissed):
        L.one_tiny_state(config, run)


def test_p_spikessms_sampler_fires_with_its_membrane_as_chance():
    torch.manual_seed(0)
    mem = torch.tensor([-0.5, 0.25, 0.75, 1.5]).repeat(20_000, 1).requires_grad_()
    spk = L.drawn_as_in_p_spikessm(mem)
    torch.testing.assert_close(spk.mean(0), torch.tensor([0, 0.25, 0.75, 1.0]), atol=0.02, rtol=0)
    spk.sum().backward()
    assert mem.grad[0].tolist() == [0, 1, 1, 0]
