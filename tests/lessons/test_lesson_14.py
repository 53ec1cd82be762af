"""Lesson 14: regularisers, the Pareto front and its knee, the count of dead neurons."""

from dataclasses import replace
from types import SimpleNamespace

from snn_course.runs import lesson

import pytest
import torch

L = lesson.load(14)


@pytest.fixture
def config():
    return L.Config(scale="quick", images=1000, epochs=1, num_steps=4)


def point(spikes, accuracy, kind="L1"):
    shares = {"accuracy": accuracy, "chosen by": accuracy, "dead": 0, "synops": 10.0 * spikes}
    return {"kind": kind, "strength": 1.0, "spikes": spikes, **shares}


def test_penalties_are_proven(run):
    L.prove_penalties(run)


@pytest.mark.parametrize("kind", ["L1", "L2", "budget"])
def test_a_penalty_with_a_wrong_slope_is_caught(run, monkeypatch, kind):
    right = L.penalty
    monkeypatch.setattr(L, "penalty", lambda k, s, rate: right(k, s, rate) * (2 if k == kind else 1))
    with pytest.raises(lesson.ProofMissed, match=kind):
        L.prove_penalties(run)


def test_synops_are_proven_and_a_wrong_fan_out_is_caught(run, config, monkeypatch):
    L.prove_synops(config, run)
    monkeypatch.setattr(L.operations.Counter, "_layer", lambda self, module, x: (1, int(x.sum())))
    with pytest.raises(lesson.ProofMissed):
        L.prove_synops(config, run)


def test_front_drops_what_another_beats():
    points = [point(100, 98), point(50, 97), point(60, 96), point(10, 90), point(10, 80)]
    assert [p["spikes"] for p in L.front(points)] == [10, 50, 100]


def test_knee_is_the_corner():
    points = [point(10, 50), point(20, 90), point(40, 96), point(400, 98), point(4000, 98.5)]
    assert (
        L.knee(points)["spikes"] == 40
    )  # by hand: highest above the line from (log 10, 50) to (log 4000, 98.5)
    assert L.knee(points[:1]) is points[0]


def test_judge_takes_the_cheapest_point_within_one_point(run):
    found = {"plain": point(1000, 98, "plain"), "L1 1": point(200, 97.2), "L1 2": point(100, 96.9)}
    found["budget 0.1"] = point(50, 97.1, "budget")
    found["L1 9"] = point(0, 10)
    _, _, cheap = L.judge(run, found)
    assert cheap["spikes"] == 50
    assert run.record.measures["fewer spikes, at most 1 point lost"].values == [20]


def test_a_half_dead_network_does_not_bend_the_knee(run):
    """It would be the end of the front, and drag the knee to the point beside it."""
    found = {"plain": point(4000, 98.5, "plain"), "a": point(400, 98), "b": point(100, 96)}
    found["c"] = point(40, 90)
    _, alone, _ = L.judge(run, found)
    found["L1 9"] = {**point(10, 11), "dead": L.HIDDEN + 1}
    best, sweet, _ = L.judge(run, found)
    assert sweet is alone
    assert all(one["dead"] <= L.HIDDEN for one in best)
    found["L1 9"]["dead"] = L.HIDDEN
    assert L.judge(run, found)[0][0] is found["L1 9"]


def test_a_further_seed_trains_the_points_from_which_one_is_chosen(config, monkeypatch):
    asked = []

    def trained(run, function, points, *places):
        asked.extend(points)
        return {name: {} for name in points}

    monkeypatch.setattr(L.parallel, "run_points", trained)
    run = SimpleNamespace(scale="cpu", seed=1, is_first_seed=False, device=torch.device("cpu"))
    L.sweep(config, run, {})
    assert asked == ["plain", "L1 10", "L1 30", "L2 100", "L2 1000"]
    for kind, strengths in L.AGAIN.items():
        assert set(strengths) < set(L.STRENGTHS[kind])
    run.scale = "quick"
    assert L.strengths_to_try(run) is L.QUICK


def test_what_is_left_out_is_never_chosen(run):
    """The front and its knee need the weak strengths; the cheapest within a point does not."""
    found = {"plain": point(1000, 98, "plain"), "weak": point(300, 98.2), "strong": point(80, 97.4, "L2")}
    alone = L.choose(run, {name: found[name] for name in ("plain", "strong")})
    assert L.judge(run, found)[2] is alone is found["strong"]


def test_patterns_compare_the_points_most_alike():
    found = {"plain": point(1000, 98, "plain"), "a": point(500, 97), "b": point(100, 96)}
    found |= {"c": point(450, 97, "L2"), "d": point(20, 80, "L2"), "e": point(0, 10, "L2")}
    assert [p["spikes"] for p in L.most_alike(found)] == [500, 450]


def test_share_of_the_busiest_tenth():
    assert L.share_of_busiest({"rates": [0.0] * 10 + [1.0] * 9 + [11.0]}) == pytest.approx(100 * 12 / 20)


def test_every_point_goes_on_from_the_trained_network(config):
    few = replace(config, more_epochs=1)
    base = L.train_base(few, "cpu")
    trained, fresh = L.Net(4), L.Net(4)
    trained.load_state_dict(base)
    shown = L.images(few)["test"]
    assert L.measure(trained, shown)["accuracy"] > 2 * L.measure(fresh, shown)["accuracy"]
    found = L.train_point(few, L.PLAIN, 0.0, base)
    assert found["accuracy"] >= L.measure(trained, shown)["accuracy"] - 3
    assert found["spikes"] == pytest.approx(sum(found["rates"]) * 4)
    assert len(found["noisy"]) == len(L.NOISES)
    assert L.under_noise(trained, shown, (0.0,)) == [L.measure(trained, shown)["accuracy"]]


def test_the_plain_network_has_as_many_weights_as_the_spiking_one():
    sizes = [sum(weight.numel() for weight in net.parameters()) for net in (L.Net(4), L.Plain())]
    assert sizes[0] == sizes[1]


def test_the_dead_wake_by_the_tail_of_the_surrogate(config):
    base = L.train_base(config, "cpu")
    killed, after = L.try_to_wake(config, base, L.window, "cpu")
    assert killed > 0.9 * 2 * L.HIDDEN
    assert after == killed
    killed, after = L.try_to_wake(config, base, L.neurons.ATAN, "cpu")
    assert after < 0.5 * killed


def test_dead_neurons_are_those_that_never_fire(config):
    net = L.Net(4)
    with torch.no_grad():
        net.fc1.weight.zero_()
        net.fc1.bias.fill_(-1)
        net.fc1.bias[:7] = 2
    found = L.measure(net, L.images(config)["test"].subset(50))
    assert found["by layer"][0] == 7 * 4
    assert found["dead"] >= L.HIDDEN - 7


def test_a_budget_gives_fewer_spikes_than_none(config):
    few = replace(config, images=2000)
    base = L.train_base(few, "cpu")
    plain, lean = L.train_point(few, L.PLAIN, 0, base), L.train_point(few, "budget", 0.02, base)
    assert lean["spikes"] < plain["spikes"] / 2


def test_images_to_choose_with_are_never_trained_on(config):
    sets = L.images(replace(config, images=55_000))
    if len(sets["train"]) < 50_000:
        pytest.skip("needs the real MNIST")
    seen = {bytes(image.numpy()) for image in sets["train"].images}
    chosen = [bytes(image.numpy()) in seen for image in sets["held out"].images]
    assert sum(chosen) <= 2  # MNIST has a few twins of its own


def test_titles_say_what_was_measured():
    plain, cheap = {"spikes": 50.0, "accuracy": 90.0}, {"spikes": 60.0, "accuracy": 80.0}
    assert L.title_of_front(plain, cheap) == "Plain: 90.0 % with 50 spikes; chosen: 80.0 % with 60"
    shown = {"plain": {"spikes": 5.0, "rates": [0.1, 0.2]}, "L1 1": {"spikes": 9.0, "rates": [0.5, 0.0]}}
    title = L.title_of_patterns(shown)
    assert (
        title
        == "Spikes an image, and the rate of the busiest neuron: plain 5 spikes, 0.20; L1 1 9 spikes, 0.50"
    )
    title = L.title_of_penalties({"L1": 5.0, "L2": 1.0}, {"L1": 5.0, "L2": 0.5})
    assert title == "Pull at a neuron of rate 0.02, and of 0.2: L1 5 and 5, L2 1 and 0.5"
