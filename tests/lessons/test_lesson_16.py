"""Lesson 16: levels, spike counts and chip agree; balancing, waiting and the way to the chip are right."""

import copy
from dataclasses import replace

from snn_course.runs import lesson
from snn_course import akida_bridge
from snn_course.networks import conversion, quantisers
from snn_course.networks.conversion import Activation, Settings, activations, balance, run_as, waited

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

L = lesson.load(16)


@pytest.fixture
def config():
    return L.Config(scale="quick", device="cpu", width=4, pictures=20, cnn2snn=False)


@pytest.fixture
def ann(config, monkeypatch):
    """Give a small ANN whose batch norms have seen something, with balanced thresholds; all in float32."""
    monkeypatch.setattr(L.training, "has_bf16", lambda device: False)
    torch.manual_seed(0)
    net = L.L10.Net(config.width, block="plain", neuron=Activation, num_steps=1)
    for _ in range(30):
        net.train()(L.unit(pictures(64)))
    balance(net.eval(), L.unit(pictures(64)), 0.99)
    return net


def pictures(count):
    return torch.randint(256, (count, 3, 32, 32), dtype=torch.uint8)


def act(threshold=1.0, **options):
    made = Activation(**options).double()
    made.threshold.data.fill_(threshold)
    return made


# ---------------------------------------------------------------------- one activation


@given(st.integers(0, 2**31), st.integers(1, 20), st.sampled_from([0.0, 0.25, 0.5]), st.integers(0, 25))
@settings(max_examples=60, deadline=None)
def test_spikes_of_a_constant_current_are_the_levels(seed, steps, start, wait):
    torch.manual_seed(seed)
    cur = 3 * torch.randn(200, dtype=torch.float64)
    spikes = act(0.7, mode="spikes", start=start, wait=wait)(cur.expand(steps, -1))
    torch.testing.assert_close(spikes.mean(0), act(0.7, mode="levels", levels=steps, start=start)(cur))
    assert set(spikes.unique().tolist()) <= {0.0, act(0.7).threshold.item()}


@given(st.integers(0, 2**31), st.integers(1, 20))
@settings(max_examples=60, deadline=None)
def test_neurons_that_wait_for_all_know_the_sum_of_any_current(seed, steps):
    torch.manual_seed(seed)
    cur = 2 * torch.randn(steps, 200, dtype=torch.float64)
    spikes = act(1.3, mode="spikes", wait=steps)(cur)
    torch.testing.assert_close(spikes.mean(0), act(1.3, mode="levels", levels=steps)(cur.mean(0)))


def test_a_free_neuron_cannot_take_a_spike_back():
    cur = torch.tensor([1.0, 1.0, -1.0, -1.0]).double()[:, None]
    assert act(mode="spikes")(cur).sum() == 2
    assert act(mode="spikes", wait=3)(cur).sum() == 0
    assert act(mode="levels")(cur.mean(0)) == 0


def test_spikes_are_those_of_the_bridge():
    cur = torch.randn(300, dtype=torch.float64)
    spikes = act(0.9, mode="spikes", start=0.3)(cur.expand(7, -1)).ne(0).sum(0)
    assert torch.equal(spikes, akida_bridge.if_count(cur, 7, 0.9, 0.27).long())


def test_hard_reset_loses_what_is_above_the_threshold():
    cur = torch.full((10, 1), 0.901).double()  # 9.01 thresholds in 10 steps: 9 spikes, if nothing is lost
    assert act(mode="spikes", start=0.0)(cur).sum() == 9
    assert act(mode="spikes", start=0.0, reset="zero")(cur).sum() == 5


def test_modes_without_time():
    x = torch.tensor([-1.0, 0.25, 0.625, 5.0]).double()
    assert act(mode="relu")(x).tolist() == [0, 0.25, 0.625, 5]
    assert act(mode="clipped")(x).tolist() == [0, 0.25, 0.625, 1]
    assert act(mode="levels", levels=2)(x).tolist() == [0, 0.5, 0.5, 1]
    assert act(mode="levels", levels=2, start=0.0)(x).tolist() == [0, 0, 0.5, 1]


def test_waiting_keeps_the_sum_and_the_order():
    cur = torch.tensor([1.0, 2.0, 3.0, 4.0])[:, None]
    assert waited(cur, 0)[:, 0].tolist() == [1, 2, 3, 4]
    assert waited(cur, 1)[:, 0].tolist() == [3, 3, 4, 0]
    assert waited(cur, 3)[:, 0].tolist() == waited(cur, 9)[:, 0].tolist() == [10, 0, 0, 0]
    assert waited(cur.bfloat16(), 1).dtype == torch.float32


def test_only_levels_learn_their_threshold():
    for mode in ("relu", "clipped", "spikes", "levels"):
        one = Activation(mode=mode)
        assert one.threshold.requires_grad == (mode == "levels")
    one(torch.linspace(-1, 2, 50)).sum().backward()
    assert one.threshold.grad != 0


def test_gradients_reach_the_current_through_spikes():
    cur = torch.randn(4, 50, requires_grad=True)
    Activation(mode="spikes", wait=1)(cur).sum().backward()
    assert cur.grad.abs().sum() > 0


@pytest.mark.parametrize("wrong", [{"mode": "whole"}, {"levels": 0}, {"start": 1.0}, {"wait": -1}])
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ValueError, match=r"mode must be|levels >= 1"):
        Settings(**wrong)


# ---------------------------------------------------------------------- a network


def test_balance_takes_the_share_and_leaves_the_settings():
    net = nn.Sequential(nn.Identity(), Activation(mode="spikes", wait=2, start=0.25))
    x = torch.arange(-1000.0, 1001.0)[torch.randperm(2001)]
    assert balance(net, x) == [1000]
    assert balance(net, x, 0.9) == [pytest.approx(800, abs=1)]
    assert net[1].settings == Settings(mode="spikes", wait=2, start=0.25)
    assert balance(net, x.clamp(max=0) + (x == 5) * 7.0, 0.9) == [7]  # nearly silent: its largest value
    assert balance(net, -x.abs()) == [7]  # silent: nothing learned
    with pytest.raises(ValueError, match="share must be"):
        balance(net, x, 0)


def test_balance_restores_the_settings_after_an_error():
    net = nn.Sequential(Activation(mode="levels"), nn.Linear(3, 3))
    with pytest.raises(RuntimeError):
        balance(net, torch.rand(2, 5))
    assert net[0].settings.mode == "levels"
    assert not net[0]._forward_hooks


def test_run_as_changes_what_it_is_given(ann):
    run_as(ann, "spikes", wait=3)
    run_as(ann, "levels", levels=5)
    assert [act.settings for act in activations(ann)] == [Settings("levels", levels=5, wait=3)] * 9
    with pytest.raises(ValueError, match="mode must be"):
        run_as(ann, "no")


def test_conversion_leaves_the_ann_alone(ann):
    before = copy.deepcopy(ann.state_dict())
    net = L.convert(ann, "max, hard", pictures(20))
    assert activations(net)[0].settings == Settings(mode="spikes", start=0.0, reset="zero")
    assert activations(ann)[0].settings.mode == "relu"
    assert activations(net)[3].threshold > activations(ann)[3].threshold
    for name, value in ann.state_dict().items():
        assert torch.equal(value, before[name])


def test_one_run_gives_the_answers_of_all_shorter_ones(ann):
    net, x = L.convert(ann, L.QCFS, pictures(20)), pictures(5)
    scores, spikes = L.run_steps(net, x, 16)
    for steps in (1, 3, 16):
        shorter, fewer = L.run_steps(net, x, steps)
        torch.testing.assert_close(scores[steps - 1], shorter[-1], rtol=0, atol=0.02)
        assert abs(spikes[steps - 1] - fewer[-1]) <= 2  # rounding
    with torch.no_grad():
        torch.testing.assert_close(scores[-1], net(L.unit(x)), rtol=0, atol=0.02)


def test_score_counts_right_answers_and_spikes(ann):
    net, x = L.convert(ann, L.QCFS, pictures(20)), pictures(30)
    scores, spikes = L.run_steps(net, x, 4)
    labels = scores[3].argmax(1)
    found = L.score(net, L.Pictures(x, labels), (2, 4))
    assert found.at(4) > 90
    assert found.spikes[1] == pytest.approx(float(spikes[3]) / 30, rel=0.02)
    assert found.spikes[0] < found.spikes[1]
    assert L.accuracy_at(net, L.Pictures(x, labels + 10), 4) == 0


def test_one_place_of_a_curve_has_the_numbers_of_that_time():
    curve = L.Curve((1, 2, 8), [10.0, 20.0, 30.0], [1.0, 4.0, 9.0])
    assert curve.only(2) == L.Curve((2,), [20.0], [4.0])
    assert curve.only(8).at(8) == curve.at(8)


def test_small_parts_give_what_one_large_part_gives(ann):
    net, x = L.convert(ann, L.QCFS, pictures(20)), pictures(10)
    scores, spikes = L.run_steps(net, x, 128)  # score takes 512 // 128 = 4 pictures at a time
    labels = scores[-1].argmax(1)
    found = L.score(net, L.Pictures(x, labels), (128,))
    assert found.accuracy == [100]
    assert found.spikes[0] == pytest.approx(float(spikes[-1]) / 10)


def test_spikes_alone_are_trained_with_one_step_and_at_the_end_with_two(config, run, monkeypatch):
    seen = []
    learn = L.training.leave_gradients

    def note(net, *rest):
        seen.append(net.num_steps)
        return learn(net, *rest)

    monkeypatch.setattr(L.training, "leave_gradients", note)
    train = L.Pictures(pictures(128), torch.randint(10, (128,)))
    net = L.train_directly(replace(config, direct=6), run, train)
    assert seen == [1, 1, 1, 1, 1, 2]
    assert net.num_steps == 2


def test_a_further_seed_runs_each_network_once_for_all_its_times(config, run, ann, monkeypatch):
    asked = []
    score = L.score

    def note(net, test, times=(1,)):
        asked.append(times)
        return score(net, test, times)

    monkeypatch.setattr(L, "score", note)
    monkeypatch.setattr(L, "train_relu", lambda *_: (ann, 1.0))
    monkeypatch.setattr(L, "train_qcfs", lambda *_: ann)
    monkeypatch.setattr(L, "tune", lambda *_: L.convert(ann, L.QCFS, None))
    monkeypatch.setattr(L, "train_directly", lambda *_: L.L10.Net(config.width, num_steps=2).eval())
    few = L.Pictures(pictures(4), torch.arange(4))
    L.train_again(config, run, few, few)
    assert asked == [(1,), (8, 32), (4, 8), (2,), (1,), (1,)]
    free = run.record.measures["QCFS: lost at T 8, free"].values
    assert free == [score(ann, few).accuracy[0] - score(L.convert(ann, L.QCFS, None), few, (8,)).accuracy[0]]


# ---------------------------------------------------------------------- the lesson's proofs


def test_proofs_hold(config, run, ann):
    L.prove_three_worlds(run)
    L.one_neuron(run)
    L.prove_rate(run)
    L.estimate_a_relu(run)
    L.catch_early_spikes(run)
    L.balance_thresholds(run, ann, pictures(20))
    L.prove_rescaling(run, ann, pictures(8))
    L.prove_networks(config, run, ann, pictures(8))


def broken_waited(cur, wait):
    return cur


def off_by_one(x, levels):
    return quantisers.clip_floor(x + 0.5, levels)


def test_wrong_variants_are_caught(config, run, ann, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(conversion, "waited", broken_waited)
        for proof in (
            lambda: L.prove_networks(config, run, ann, pictures(8)),
            lambda: L.catch_early_spikes(run),
        ):
            with pytest.raises(lesson.ProofMissed):
                proof()
    with monkeypatch.context() as patch:
        patch.setattr(L.bridge, "clip_floor", off_by_one)
        with pytest.raises(lesson.ProofMissed):
            L.prove_three_worlds(run)
    with monkeypatch.context() as patch:
        patch.setattr(conversion, "clip_floor", off_by_one)
        with pytest.raises(lesson.ProofMissed):
            L.prove_rate(run)


def forgets_the_bias(net):
    folded = FOLD(net)
    for layer in folded.layers():
        layer.conv.bias.data.zero_()
    return folded


def keeps_the_factor(net):
    scaled = copy.deepcopy(net)
    for layer in scaled.layers():
        layer.conv.weight.data.div_(layer.neuron.threshold.item())
        layer.conv.bias.data.div_(layer.neuron.threshold.item())
        layer.neuron.threshold.data.fill_(1.0)
    return scaled


def one_place_too_low(net, x, share):
    return BALANCE(net, x, share - 0.01)


FOLD, BALANCE = L.fold, L.balance


@pytest.mark.parametrize(("name", "wrong"), [("fold", forgets_the_bias), ("rescale", keeps_the_factor)])
def test_wrong_rescaling_is_caught(run, ann, monkeypatch, name, wrong):
    monkeypatch.setattr(L, name, wrong)
    with pytest.raises(lesson.ProofMissed):
        L.prove_rescaling(run, ann, pictures(8))


def test_wrong_balancing_is_caught(run, ann, monkeypatch):
    monkeypatch.setattr(L, "balance", one_place_too_low)
    with pytest.raises(lesson.ProofMissed):
        L.balance_thresholds(run, ann, pictures(20))


def never_resets(cur, threshold=1.0, start=0.5, hard=False):
    mem = torch.zeros_like(cur[0]) + start * threshold + cur.cumsum(0)
    return (mem > threshold).to(cur.dtype)


def resets_hard(cur, threshold=1.0, start=0.5, hard=False):
    return IF_NEURON(cur, threshold, start, hard=True)


IF_NEURON = L.if_neuron


@pytest.mark.parametrize("wrong", [never_resets, resets_hard])
def test_wrong_neurons_are_caught(run, monkeypatch, wrong):
    monkeypatch.setattr(L, "if_neuron", wrong)
    for proof in (L.one_neuron, L.prove_rate, L.estimate_a_relu, L.catch_early_spikes):
        with pytest.raises(lesson.ProofMissed):
            proof(run)


# ---------------------------------------------------------------------- what the lesson writes out


def test_the_written_out_waiting_is_the_courses():
    cur = torch.randn(6, 5)
    for wait in (0, 1, 3, 5, 9):
        torch.testing.assert_close(L.waited(cur, wait), waited(cur, wait))


def test_a_random_start_is_right_on_average_and_an_empty_one_is_half_a_level_low():
    currents = (torch.arange(128).double() + 0.5) / 128
    rate = L.if_neuron(currents.expand(8, -1), start=0.0).mean(0)
    assert (rate - currents).mean().item() == pytest.approx(-1 / 16)
    starts = (torch.arange(1000).double()[:, None] + 0.5) / 1000
    rates = L.if_neuron(currents.expand(8, 1000, -1), start=starts).mean((0, 1))
    torch.testing.assert_close(rates, currents, rtol=0, atol=1e-3)


def test_slip_relu_lies_between_the_clipped_relu_and_the_staircase():
    x = torch.linspace(-1, 2, 100).double()
    torch.testing.assert_close(L.slip_relu(x, 1, 4), x.clamp(0, 1))
    torch.testing.assert_close(L.slip_relu(x, 0, 4), act(mode="levels", levels=4)(x))
    halfway = (L.slip_relu(x, 0, 4) + L.slip_relu(x, 1, 4)) / 2
    torch.testing.assert_close(L.slip_relu(x, 0.5, 4), halfway)


def test_both_orders_have_the_same_rates_and_only_time_tells_them():
    torch.manual_seed(0)
    x, began = L.halves_in_order(2000)
    assert x.shape == (L.ORDER_STEPS, 2000, 20)
    by_side = [x[:, began == side].mean((0, 1)) for side in (0, 1)]
    torch.testing.assert_close(*by_side, rtol=0, atol=0.03)
    early = x[: L.ORDER_STEPS // 2, :, :10].mean((0, 2)) > 0.25  # the left half fires first
    assert torch.equal(early, began == 0)


def test_conversion_loses_the_order(run):
    run.seed = 1
    L.lose_time(run)


def test_without_biases_nothing_is_left_when_nothing_comes_in(ann):
    net = L.drop_biases(L.fold(ann))
    assert net(torch.zeros(2, 3, 32, 32)).abs().max() == 0
    assert L.fold(ann)(torch.zeros(2, 3, 32, 32)).abs().max() > 0


# ---------------------------------------------------------------------- the chip


def chip_net(ann):
    layers = [(layer.conv, layer.norm, layer.neuron) for layer in ann.layers()]
    return akida_bridge.to_quant_net(layers, ann.readout, (3, 32, 32))


def test_the_chips_network_gives_the_same_scores_on_turned_pictures(ann):
    run_as(ann, "clipped")
    x = pictures(10)
    with torch.no_grad():
        wanted, net = ann(L.unit(x)), chip_net(ann)
        torch.testing.assert_close(net(x.flip(2, 3)), wanted, rtol=1e-4, atol=1e-5)
        assert (net(x) - wanted).abs().max() > 1e-3  # not turned


def test_the_road_to_the_chip_is_reported(config, run, ann):
    test = L.Pictures(pictures(20), torch.randint(10, (20,)))
    L.on_chip(config, run, ann, L.Pictures(pictures(100), torch.zeros(100)), test)
    (table,) = run.record.tables.values()
    names = [row[0] for row in table["runs"][0]]
    assert names[0] == "ANN, clipped"
    assert names[-1] == "cnn2snn, Akida"
    if akida_bridge.backend() != "absent":
        by_name = {row[0]: row[1] for row in table["runs"][0]}
        assert by_name["the same on Akida"] == by_name["4 bits, PyTorch road"]


def test_titles_say_what_was_measured():
    title = L.title_of_conversion(40.0, {"ANN": 40.0, "wait 7": 10.0, "wait 0": 39.0})
    assert title == "Accuracy at T 8: 39 % free, 10 % if each layer waits 7 steps; ANN 40 %"
    tuned, direct = L.Curve((4,), [31.0], [3045.0]), L.Curve((2,), [25.0], [3060.0])
    assert L.title_of_price(tuned, direct) == (
        "Trained directly, T 2: 25 % with 3060 spikes; converted and tuned, T 4: 31 % with 3045"
    )
