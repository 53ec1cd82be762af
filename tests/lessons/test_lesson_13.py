"""Lesson 13: fused layers equal snnTorch's neurons and the ALIF written out, and wrong ones are caught."""

from dataclasses import replace

from snn_course.runs import lesson
from snn_course import UsageError
from snn_course.networks import neurons, recurrent

import pytest
import torch

L = lesson.load(13)
ALIF = recurrent.alif


@pytest.fixture
def config():
    return L.Config(scale="quick", device="cpu", delays=(5, 10))


def other_surrogate(*args):
    return ALIF(*args[:-1], neurons.atan())


def turned_weights(cur, beta, rho, jump, weight, *more):
    return ALIF(cur, beta, rho, jump, None if weight is None else weight.T, *more)


def no_adaptation(cur, beta, rho, jump, *more):
    return ALIF(cur, beta, rho, None if jump is None else 0 * jump, *more)


def no_reset(cur, beta, rho, jump, weight, *more):
    num = cur.shape[-1]
    weight = torch.zeros(num, num).to(cur) if weight is None else weight
    return ALIF(cur, beta, rho, jump, weight + torch.eye(num).to(cur), *more)  # gives back what is taken


def attached_reset(cur, beta, rho, jump, weight, threshold, surrogate):
    """Let the gradient flow through the reset, too: a recurrent weight of -threshold onto itself."""
    num = cur.shape[-1]
    pull = -threshold * torch.eye(num).to(cur)
    lifted = ALIF(cur, beta, rho, jump, (pull if weight is None else weight + pull), threshold, surrogate)
    right = ALIF(cur, beta, rho, jump, weight, threshold, surrogate)
    return tuple(r.detach() + w - w.detach() for r, w in zip(right, lifted, strict=True))


WRONG = [other_surrogate, turned_weights, no_adaptation, no_reset, attached_reset]


def test_proofs_hold_for_any_seed(run):
    for seed in range(10):
        torch.manual_seed(seed)
        L.prove_equal(run)


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_scan_is_caught(wrong, run, monkeypatch):
    monkeypatch.setattr(recurrent, "alif", wrong)
    with pytest.raises(lesson.ProofMissed):
        L.prove_equal(run)


def test_wrong_lstm_is_caught(run, monkeypatch):
    monkeypatch.setattr(L, "LSTM_THRESHOLD", 0.1)
    right = recurrent.Layer.forward

    def forward(layer, cur):
        return right(layer, cur if layer.lstm is None else 1.1 * cur)

    monkeypatch.setattr(recurrent.Layer, "forward", forward)
    with pytest.raises(lesson.ProofMissed):
        L.prove_equal(run)


def test_catches_meet_their_goals(run):
    for seed in range(5):
        torch.manual_seed(seed)
        L.catch_slstm(run)
    assert all(measure.judged(True)["met"] for measure in run.record.measures.values())


# ---------------------------------------------------------------------- the objects


def test_what_is_left_of_an_input_is_beta_to_the_k(run):
    L.forgetting(run)


def test_a_neuron_that_forgets_otherwise_is_caught(run, monkeypatch):
    other = L.snn.Leaky
    monkeypatch.setattr(L.snn, "Leaky", lambda beta: other(beta=beta - 1e-4))
    with pytest.raises(lesson.ProofMissed):
        L.forgetting(run)


def test_ring_keeps_one_spike_going(run):
    circle = L.run_ring(1.5)
    assert circle[2:].sum(1).eq(1).all()  # one spike at each step from the input on
    assert torch.equal(circle[2:5], torch.eye(3))
    assert L.run_ring(0.0).sum() == 1
    L.ring(run)
    assert run.record.measures["ring: spikes after one input"].judged(True)["met"]


@pytest.mark.parametrize("kind", L.PLAIN)
def test_idiomatic_network_is_the_fused_one(kind):
    torch.manual_seed(0)
    plain, fused = L.PLAIN[kind](5, 12), L.Net(kind, [5, 12, 10], 9, 9)
    plain.fc1, plain.fc2 = fused.fc[0], fused.out
    own = fused.hidden[0]
    if kind == "RLeaky":
        plain.lif1.recurrent = own.recurrent
    else:
        for name, weights in own.lstm.named_parameters():
            setattr(plain.lstm1.lstm_cell, name.removesuffix("_l0"), weights)
    x = 3 * torch.rand(9, 4, 5)
    torch.testing.assert_close(plain(x), fused(x), atol=1e-4, rtol=1e-4)
    assert fused.spikes(x).sum() > 0


@pytest.mark.parametrize("kind", L.PLAIN)
def test_plain_loop_learns(run, kind):
    torch.manual_seed(0)
    x = torch.zeros(512, 1, 28, 28, dtype=torch.uint8)
    y = torch.randint(2, (512,))
    x[y == 1, :, 5:9] = 255
    net = L.PLAIN[kind](28, 32)
    losses = L.train_plainly(run, net, (x, y), 28)
    assert len(losses) == 16
    assert L.right_answers(net, (x, y), 28) > 95


def test_alif_answers_less_after_a_strong_input(run):
    L.one_alif(run)
    _, (ax,) = L.figures.new("")
    assert L.draw_alif(ax, 0.6, "") < L.draw_alif(ax, 0.0, "")


def test_tamed_gradients_are_short_and_finite():
    grad = torch.tensor([3.0, 4.0])
    torch.testing.assert_close(L.tame(grad), grad / 5)
    assert torch.equal(L.tame(grad / 10), grad / 10)
    assert L.tame(torch.tensor([float("inf"), 1.0])).abs().max() < 1e-30
    assert L.tame(torch.tensor([float("nan"), 0.5])).tolist() == [0.0, 0.5]


# ---------------------------------------------------------------------- gradients


@pytest.fixture
def digits():
    torch.manual_seed(0)
    images = torch.randint(0, 256, (8, 1, 28, 28), dtype=torch.uint8)
    return images * (torch.rand(8, 1, 28, 28) < 0.2), torch.randint(10, (8,))


def test_gradient_of_leaky_is_beta_to_the_lag(run, digits):
    norms = L.gradient_by_lag(run, *digits)
    assert norms["Leaky"][43] > 0.01 > norms["Leaky"][44]  # 0.9^44 = 0.0097
    assert norms["SLSTM"][200] < norms["ALIF"][200] < norms["slow Leaky"][200]


def test_wrong_gradient_is_caught(run, digits, monkeypatch):
    monkeypatch.setattr(recurrent, "alif", attached_reset)
    with pytest.raises(lesson.ProofMissed):
        L.gradient_by_lag(run, *digits)


# ---------------------------------------------------------------------- networks


def test_rows_and_pixels_come_in_reading_order():
    images = torch.arange(2 * 784, dtype=torch.int64).remainder(256).byte().view(2, 1, 28, 28)
    rows, single = L.unroll(images, 28), L.unroll(images, 784)
    assert rows.shape == (28, 2, 28)
    assert single.shape == (784, 2, 1)
    torch.testing.assert_close(rows[3, 1], images[1, 0, 3] * (3 / 255))
    torch.testing.assert_close(single[3 * 28 + 5, 1, 0], images[1, 0, 3, 5] * (3 / 255))


def test_read_out_sees_the_last_steps_alone(monkeypatch):
    net = L.Net("Leaky", [4, 6, 3], 20, 5)
    spk = torch.zeros(20, 2, 6)
    spk[:15] = 1
    monkeypatch.setattr(net, "spikes", lambda x: spk)
    torch.testing.assert_close(net(spk), net.out.bias.expand(2, -1))


@pytest.mark.parametrize("kind", L.KINDS)
def test_network_starts_from_zero_at_each_call(kind):
    torch.manual_seed(0)
    net, x = L.Net(kind, [4, 16, 3], 20, 20, 2), torch.rand(20, 5, 4)
    first = net(x)
    net(torch.rand(20, 5, 4))
    assert torch.equal(net(x), first)
    assert net.spikes(x).shape == net.spikes(x, 1).shape == (20, 5, 16)
    assert torch.equal(net.spikes(x, 2), net.spikes(x))
    assert not torch.equal(net.spikes(x, 1), net.spikes(x))


def test_training_learns_store_recall_and_goes_on_after_a_kill(run, monkeypatch):
    torch.manual_seed(0)
    x, asked = recurrent.store_recall(3000, 5)
    sets, save = ((255 * x[:2500], asked[:2500]), (255 * x[2500:], asked[2500:])), run.save

    def trained(name):
        return L.train(run, name, L.make(run, "RLeaky", [9, 32, 8], 320, 5), sets, 15, 3)

    def save_and_die(name, state):
        save(name, state)
        raise KeyboardInterrupt

    whole = trained("whole")
    assert whole[-1]["check"] > 80
    monkeypatch.setattr(run, "save", save_and_die)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            trained("cut")
    cut = trained("cut")
    assert [entry["check"] for entry in cut] == [entry["check"] for entry in whole]


def test_gradient_that_overflows_leaves_the_weights_finite(run):
    net = L.make(run, "Leaky", [9, 8, 8], 320, 5)
    x, asked = recurrent.store_recall(128, 5)
    L.train(run, "hooks", net, ((255 * x, asked), (255 * x, asked)), 15)  # leaves the hooks in place
    (net.out.weight * torch.tensor(float("inf"))).sum().backward()
    assert torch.isfinite(net.out.weight.grad).all()


def test_settings_are_checked():
    with pytest.raises(UsageError, match="delays"):
        L.Config(delays=(0, 5))
    with pytest.raises(UsageError, match="hidden"):
        L.Config(hidden=2)


def test_depth_starts_from_the_one_layer_of_before(run, config, monkeypatch):
    asked = []

    def once(run, kind, delay, sets, depth):
        asked.append((delay, depth))
        return 100.0 if delay == 5 else 20.0 * depth

    monkeypatch.setattr(L, "recall_once", once)
    monkeypatch.setitem(L.DEPTHS, run.scale, (2, 3))
    L.recall_by_depth(config, run, [100.0, 20.0])
    assert asked == [(5, 2), (5, 3), (10, 2), (10, 3)]
    ends = [run.record.measures[f"horizon by depth, RLeaky x {depth}"].values[0] for depth in (1, 2, 3)]
    assert 5 < ends[0] < ends[1] < ends[2] == 10


@pytest.mark.parametrize(("delays", "expected"), [((20, 80, 160), [20, 80]), ((100, 200), [100])])
def test_depth_asks_no_delay_over_80(run, monkeypatch, delays, expected):
    asked = []

    def once(run, kind, delay, sets, depth):
        asked.append(delay)
        return 90.0

    monkeypatch.setattr(L, "recall_once", once)
    config = L.Config(scale="quick", device="cpu", delays=delays)
    L.recall_by_depth(config, run, [90.0] * len(delays))
    assert asked == expected


def test_further_seeds_train_what_has_a_spread(run, config, monkeypatch):
    trained = []

    def train(run, name, net, sets, *options, **more):
        trained.append(name)
        return [{"check": 50.0, "seconds": 1.0}]

    monkeypatch.setattr(L, "train", train)
    images = torch.zeros(500, 1, 28, 28, dtype=torch.uint8), torch.zeros(500, dtype=torch.int64)
    monkeypatch.setattr(L, "load_digits", lambda config, run: (images, images))
    monkeypatch.setattr(run, "seed", 1)
    L.main(config, run)
    recalled = [f"recall {kind} {delay}" for delay in (5, 10) for kind in ("Leaky", "RLeaky", "ALIF")]
    assert trained == ["rows RLeaky", "rows SLSTM", *recalled]
    told = [measure for measure in run.record.measures if measure.startswith(("by", "horizon"))]
    assert told == [
        "by rows, RLeaky: accuracy",
        "by rows, SLSTM: accuracy",
        "horizon, Leaky",
        "horizon, RLeaky",
        "horizon, ALIF",
    ]


def test_a_kind_that_is_lost_is_not_tried_with_longer_delays(run, config, monkeypatch):
    """What is left out changes no horizon: the curve has fallen below half before."""
    scores = {"Leaky": [60.0, 20.0, 15.0], "ALIF": [90.0, 80.0, 30.0]}
    delays = (5, 10, 20)
    asked = []

    def once(run, kind, delay, sets):
        asked.append((kind, delay))
        return scores[kind][delays.index(delay)]

    monkeypatch.setattr(L, "recall_once", once)
    curves = L.recall_curves(replace(config, delays=delays), run, ("Leaky", "ALIF"))
    assert asked == [("Leaky", 5), ("ALIF", 5), ("Leaky", 10), ("ALIF", 10), ("ALIF", 20)]
    assert curves == {"Leaky": [60.0, 20.0], "ALIF": [90.0, 80.0, 30.0]}
    for kind, whole in scores.items():
        found = run.record.measures[f"horizon, {kind}"].values
        assert found == [recurrent.horizon(delays, whole, L.HALF)]
    assert L.filled(curves["Leaky"], delays) == [60.0, 20.0, "-"]


def test_price_of_recurrence():
    row = L.priced("a", {"check": 50.0, "seconds": 2.0}, 7, 1000, 3000)
    assert row[:5] == ["a", 50.0, 7, 1, 3]
    assert row[5:] == [pytest.approx((900 + 13_800) / 1000), 2.0]


def test_pixels_are_drawn_as_measured(run, monkeypatch):
    curves = {kind: [20.0, 30.0] for kind in L.KINDS} | {"ALIF": [40.0, 50.0], "RLeaky": [20.0, 10.0]}
    assert L.title_of_pixels(curves, 64) == "784 pixels, 64 images: ALIF 50 % right, RLeaky 10 %"
    drawn = []
    monkeypatch.setattr(L.figures.Axes, "plot", lambda ax, *args, **options: drawn.append(args))
    monkeypatch.setattr(L.figures, "legend_outside", lambda ax: None)
    L.draw_pixels(run, curves, 64)
    assert [list(passes) for passes, *_ in drawn] == [[1, 2]] * 7  # no point before the first pass


def test_titles_say_what_was_measured():
    title = L.title_of_horizons({"Leaky": 300.0, "ALIF": 10.0}, 300)
    assert title == "Horizon in steps, first seed: Leaky 300+, ALIF 10"
