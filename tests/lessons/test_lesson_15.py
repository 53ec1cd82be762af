"""Lesson 15: STDP, the layer of winners and e-prop are right, and wrong ones are caught."""

import math
from functools import partial

from snn_course.runs import lesson
from snn_course import UsageError
from snn_course.networks import neurons
from snn_course.rules import eprop_tasks, plasticity

import pytest
import torch

L = lesson.load(15)
EPROP, BPTT, TRACED, EVENTS = L.eprop, L.bptt, L.traced, L.event_driven


@pytest.fixture
def config():
    return L.Config(scale="quick", device="cpu", images=1000, controls=1000, neurons=(20,), batches=(10, 10))


def trains(seed, steps=80, pre=5, post=4, chance=0.1):
    torch.manual_seed(seed)
    return ((torch.rand(steps, 1, n) < chance).double() for n in (pre, post))


def gradients(net, way, *batch, **more):
    net.weight.grad = net.out.grad = None
    way(net, *batch, **more)
    return net.weight.grad.clone(), net.out.grad.clone()


def problem(seed=0, recurrent=True, lift=0.2, steps=30):
    torch.manual_seed(seed)
    x = (torch.rand(steps, 6, 12) < 0.3).double()
    when = torch.rand(steps).double()
    net = L.Net(12, 3, 20, rho=0.95, lift=lift, recurrent=recurrent, like=x)
    return net, x, torch.randint(3, (6,)), when / when.sum()


# ---------------------------------------------------------------------- STDP


def test_window_grows_after_pre_and_shrinks_before_it():
    gaps = torch.tensor([-1e3, -1.0, 0.0, 1.0, 1e3])
    far_before, before, same, after, far_after = L.window(gaps).tolist()
    assert after == pytest.approx(L.A_PLUS * math.exp(-1 / L.TAU_PRE))
    assert before == pytest.approx(-L.A_MINUS * math.exp(-1 / L.TAU_POST))
    assert same == 0
    assert abs(far_before) < 1e-10
    assert far_after < 1e-10


@pytest.mark.parametrize("chance", [0.0, 0.02, 0.5, 1.0])
def test_three_forms_of_stdp_agree(chance):
    for seed in range(3):
        pre, post = trains(seed, chance=chance)
        events = L.events_of(pre, post)
        clocked = L.traced(pre, post)
        torch.testing.assert_close(clocked, L.pairwise(pre, post), rtol=0, atol=1e-11)
        torch.testing.assert_close(clocked, L.event_driven(events, (4, 5)), rtol=0, atol=1e-11)


def test_order_of_events_within_a_step_does_not_matter():
    events = [(0, L.POST, 0), (3, L.PRE, 0), (3, L.POST, 0), (5, L.PRE, 0)]
    swapped = [events[0], events[2], events[1], events[3]]
    assert torch.equal(L.event_driven(events, (1, 1)), L.event_driven(swapped, (1, 1)))


def test_no_events_change_nothing():
    assert torch.equal(L.event_driven([], (2, 3)), torch.zeros(2, 3, dtype=torch.float64))


def late_trace(pre, post):
    """Count spikes of the same step, which the window leaves out."""
    return TRACED(pre, post) + (L.A_PLUS - L.A_MINUS) * post[:, 0].T @ pre[:, 0]


WRONG_STDP = {
    "anti-Hebbian": ("traced", lambda pre, post: -TRACED(pre, post)),
    "pre and post swapped": ("traced", lambda pre, post: TRACED(post, pre).T),
    "same step counts": ("traced", late_trace),
    "event lost": ("event_driven", lambda events, size: EVENTS(events[1:], size)),
}


@pytest.mark.parametrize("name", WRONG_STDP)
def test_wrong_stdp_is_caught(name, config, run, monkeypatch):
    prove_stdp(config, run)
    monkeypatch.setattr(L, *WRONG_STDP[name])
    with pytest.raises(lesson.ProofMissed):
        prove_stdp(config, run)


def prove_stdp(config, run):
    L.prove_stdp(config, run)
    L.learn_from_events(config, run)
    L.compare_with_snntorch(config, run)


def test_sequences_side_by_side_add_up():
    pre, post = (torch.cat([spk, spk.flip(0)], 1) for spk in trains(4))
    each = sum(L.traced(pre[:, b : b + 1], post[:, b : b + 1]) for b in range(2))
    torch.testing.assert_close(L.traced(pre, post), each)
    torch.testing.assert_close(L.pairwise(pre, post), each)


def test_anti_hebbian_is_the_mirror_image(run):
    torch.manual_seed(0)
    spk = L.sequence(torch.arange(L.INPUTS))
    weight = torch.full((1, L.INPUTS), 0.5, dtype=torch.float64)
    _, grown = L.one_trial(spk, weight, 1e-3)
    _, shrunk = L.one_trial(spk, weight, -1e-3)
    assert (grown - weight).abs().max() > 1e-4
    torch.testing.assert_close(grown - weight, weight - shrunk)


def test_each_input_fires_once_in_the_order_that_is_asked_for():
    order = torch.randperm(L.INPUTS)
    spk = L.sequence(order)
    assert (spk.sum(0) == 1).all()
    when = spk[:, 0].argmax(0)[order]
    assert (when - L.EVERY * torch.arange(L.INPUTS)).tolist() == pytest.approx([1] * L.INPUTS, abs=1)


def test_a_neuron_that_never_fires_counts_as_the_last_step():
    spk = L.sequence(torch.arange(L.INPUTS))
    assert L.one_trial(spk, torch.zeros(1, L.INPUTS, dtype=torch.float64), 0.0)[0] == L.TRIAL


def test_order_is_learnt_by_hebb_alone(config, run):
    L.learn_the_order(config, run)
    forward, backward = {}, {}
    for name, first, after, reverse in run.tables()[-1]["rows"]:
        forward[name], backward[name] = int(first) - int(after), int(reverse) - int(after)
    assert forward["Hebbian"] >= 2
    assert forward["anti-Hebbian"] < -20
    assert backward["Hebbian"] > 20
    assert abs(backward["Hebbian, new order each trial"]) < 20


def test_the_catch_acts_on_one_gap_and_one_trace_moves_a_silent_synapse(config, run):
    L.catch_one_trace(config, run)
    right, same_step, one_trace = run.tables()[-1]["rows"]
    assert [row[1] for row in (right, same_step)] == ["120", "1"]
    assert float(right[4]) == 0
    assert float(right[3]) > 1
    assert float(one_trace[4]) > 2 * float(one_trace[3])  # it never shrinks
    pre, post = trains(5)
    wrong = L.same_step_stdp(pre, post)
    assert (wrong[(post[:, 0].T @ pre[:, 0]) == 0] == 0).all()  # no spike of the same step: no change


# ---------------------------------------------------------------------- winners


@pytest.fixture
def layer():
    torch.manual_seed(0)
    return L.Winners(10, 30)


def spikes(steps=20, batch=6, pixels=30, chance=0.9):
    return (torch.rand(steps, batch, pixels) < chance).float()


def test_one_winner_at_a_time(layer):
    layer.threshold.fill_(1.0)
    out = layer(spikes())
    assert out.sum() > 20
    assert out.sum(2).max() == 1


def test_no_learning_without_a_rate(layer):
    layer.threshold.fill_(1.0)
    weight, threshold = layer.weight.clone(), layer.threshold.clone()
    layer(spikes())
    assert torch.equal(layer.weight, weight)
    assert torch.equal(layer.threshold, threshold)


def test_only_the_winner_moves_and_towards_what_it_saw(layer):
    spk, out = torch.zeros(4, 1, 30), torch.zeros(4, 1, 10)
    spk[1, 0, :5] = spk[3, 0, 20] = 1
    out[2, 0, 7] = 1  # neuron 7 fires one step after the first five pixels, and before pixel 20
    before = layer.weight.clone()
    layer.learn(spk, out, rate=0.1)
    seen = torch.zeros(30)
    seen[:5] = L.TRACE
    expected = before[7] + 0.1 * (seen - before[7])
    torch.testing.assert_close(layer.weight[7], expected * 3 / expected.sum())  # the sum is a tenth of 30
    torch.testing.assert_close(torch.cat([layer.weight[:7], layer.weight[8:]]), before[[*range(7), 8, 9]])


def test_wins_of_a_batch_add_up_as_if_one_by_one(layer):
    """The same image twice: one batch of two, or two steps of the same size, before scaling."""
    spk = spikes(3, 1).expand(3, 2, 30)
    out = torch.zeros(3, 2, 10)
    out[2, :, 4] = 1
    trace = spk[0, 0]
    for spk_t in spk[1:, 0]:
        trace = torch.maximum(L.TRACE * trace, spk_t)
    weight = layer.weight[4]
    for _ in range(2):
        weight = weight + 0.2 * (trace - weight)
    layer.learn(spk, out, rate=0.2)
    torch.testing.assert_close(layer.weight[4], weight * 3 / weight.sum())


def test_homeostasis_spreads_the_wins(monkeypatch):
    x = plasticity.digits(FakeRun(), 1000)[0][0]
    used = {}
    for lift in (0.0, L.LIFT):
        monkeypatch.setattr(L, "LIFT", lift)
        torch.manual_seed(0)
        layer = L.Winners(20)
        counts = [layer(plasticity.pixel_spikes(part, 30), L.RATE).sum((0, 1)) for part in x.split(32)]
        used[lift] = int((torch.stack(counts[-10:]).sum(0) > 0).sum())  # neurons that won lately
    assert used[0.0] < 8
    assert used[1.0] > 15


class FakeRun:
    device = torch.device("cpu")

    def uses(self, images):
        pass


def test_neurons_are_named_by_mean_spikes_not_by_how_common_a_class_is():
    counts = torch.tensor([[3.0, 0], [3, 0], [2, 0], [2, 0], [2, 0], [0, 1]])
    y = torch.tensor([1, 1, 4, 4, 4, 5])  # neuron 0: 6 spikes for each of 1 and 4, but 3 a time for 1
    fires = L.responses(counts, y)
    assert fires.shape == (10, 2)
    assert fires.argmax(0).tolist() == [1, 5]


def test_vote_is_the_mean_of_each_group():
    names = torch.tensor([2, 2, 2, 7])
    counts = torch.tensor([[1.0, 1, 1, 2], [3, 0, 3, 1], [0, 0, 0, 0]])
    assert L.vote(counts, names).tolist() == [7, 2, 0]


def test_unsupervised_layer_is_measured(config, run):
    learnt = L.unsupervised(config, run, L.Digits(*plasticity.digits(run, 1000)))
    assert run.tables()[-1]["rows"][0][0] == "20"
    assert learnt.hits > 45
    assert learnt.layer.weight.shape == (20, 784)
    assert learnt.fires.shape == (10, 20)
    torch.testing.assert_close(learnt.layer.weight.sum(1), torch.full((20,), 78.4))


def test_layer_in_two_pieces_is_the_layer_step_by_step(config, run, monkeypatch):
    L.prove_winners(config, run)
    monkeypatch.setattr(L, "TRACE", 0.8)
    honest = L.fast.peak_traces
    monkeypatch.setattr(L.fast, "peak_traces", lambda spk, decay: honest(spk, 0.9 * decay))
    with pytest.raises(lesson.ProofMissed):
        L.prove_winners(config, run)


def test_counts_without_learning_change_nothing_step_by_step(layer):
    layer.weight = layer.weight.double()  # in float32 another order of the sums may turn a near tie
    layer.threshold = torch.ones_like(layer.threshold, dtype=torch.double)
    weight, threshold = layer.weight.clone(), layer.threshold.clone()
    spk = spikes().double()
    assert torch.equal(layer.step_by_step(spk), layer(spk).sum(0))
    assert torch.equal(layer.weight, weight)
    assert torch.equal(layer.threshold, threshold)


def test_what_is_missing_is_missing():
    torch.manual_seed(0)
    layer = L.Without(8, 12)
    spk = spikes(10, 3, 12, 0.3)
    whole = layer.traces(spk)
    layer.missing = "time reversed"
    torch.testing.assert_close(layer.traces(spk.flip(0)).flip(0), whole)
    assert not torch.equal(layer.traces(spk), whole)
    layer.missing = "no time"
    torch.testing.assert_close(layer.traces(spk)[3], whole.mean(0))
    layer.missing = "steps dealt anew"
    assert layer.traces(spk).shape == whole.shape
    assert not torch.equal(layer.traces(spk), whole)
    cur = 10 + torch.rand(10, 3, 8)
    layer.threshold.fill_(1.0)
    layer.missing = "no inhibition"
    assert layer.compete(cur, 0.0, 0.0).sum(2).max() == 8
    layer.missing = "no homeostasis"
    assert layer.compete(cur, 1.0, 0.5).sum(2).max() == 1
    assert (layer.threshold == 1).all()
    layer.missing = "untrained"
    weight = layer.weight.clone()
    layer.learn(spk, cur, 0.1)
    assert torch.equal(layer.weight, weight)


def test_growth_alone_is_the_growing_half_of_the_window(monkeypatch):
    torch.manual_seed(0)
    spk, out = spikes(15, 2, 12, 0.3), spikes(15, 2, 8, 0.2)
    changes = {}
    for missing in ("growth alone", "window of chapter 1"):
        monkeypatch.setattr(L, "A_MINUS", 0.0)
        layer = L.Without(8, 12)
        layer.missing = missing
        monkeypatch.setattr(layer, "add", lambda change, rate, name=missing: changes.update({name: change}))
        layer.learn(spk, out, 0.1)
    torch.testing.assert_close(changes["growth alone"], changes["window of chapter 1"])


def test_controls_are_measured(config, run, monkeypatch):
    monkeypatch.setattr(L, "TIMING", ("no time",))
    monkeypatch.setattr(L, "PARTS", ("no inhibition", "no homeostasis"))
    monkeypatch.setattr(L, "report_controls", lambda run, hits, active: None)
    L.what_learns(config, run, L.Digits(*plasticity.digits(run, 1000)))
    hits = {row[0]: float(row[1]) for row in run.tables()[-1]["rows"]}
    assert hits["nothing missing"] > hits["no inhibition"] + 20
    assert hits["no time"] > hits["no inhibition"] + 20


def test_contrast_falls_when_shapes_are_mixed():
    pictures = torch.zeros(3, 784)
    pictures[0, :100] = pictures[1, 100:200] = 1
    pictures[2] = (pictures[0] + pictures[1]) / 2
    sharp = L.contrast(pictures)
    assert sharp[0] == sharp[1]
    assert sharp[2] < 0.75 * sharp[0]
    assert L.contrast(torch.zeros(1, 784)) == 0


def test_recall_is_by_class():
    y = torch.tensor([0, 0, 1, 5])
    recalls = L.recalls(torch.tensor([0, 1, 1, 2]), y)
    assert recalls.tolist() == [0.5, 1, 0, 0, 0, 0, 0, 0, 0, 0]


def test_first_to_fire_is_the_first_and_none_is_minus_one():
    cur = torch.zeros(5, 3, 2)
    cur[3, 0, 0] = cur[1, 1, 1] = 2
    cur[3, 1, 0] = 9  # too late
    assert L.first_to_fire(cur, torch.ones(2)).tolist() == [0, 1, -1]


def test_read_out_learns_from_features(run):
    torch.manual_seed(0)
    y = torch.arange(10).repeat(20)
    features = torch.eye(10)[y]
    read_out = L.train_read_out(run, features, y)
    assert torch.equal(read_out(features).argmax(1), y)


def test_titles_say_what_was_measured():
    assert L.title_of_fields(100, 11.0) == "100 neurons with STDP name 11 % of the test digits"
    hits = {"nothing missing": 20.0, "no time": 90.0, "no inhibition": 30.0}
    expected = "Accuracy: 20 % with every part, 90 % without time, 30 % without inhibition"
    assert L.title_of_controls(hits) == expected
    title = L.title_of_gradients(-0.5, 0.9)
    assert title == "e-prop's cosine to BPTT: -0.50 with the usual recurrence, 0.90 with 4 x"
    title = L.title_of_memory((28, 1000), {"e-prop": [1.0, 900.0], "BPTT": [5.0, 5.0]})
    assert title == "kB held, T 28 to 1000: e-prop 1 to 900, BPTT 5 to 5"


# ---------------------------------------------------------------------- e-prop


@pytest.mark.parametrize("recurrent", [False, True])
@pytest.mark.parametrize("lift", [0.0, 0.3])
def test_eprop_is_bptt_without_the_way_through_other_neurons(recurrent, lift):
    net, *batch = problem(1, recurrent, lift)
    exact = gradients(net, BPTT, *batch, cut=recurrent)
    assert exact[0].abs().max() > 0.01
    for own, theirs in zip(gradients(net, EPROP, *batch), exact, strict=True):
        torch.testing.assert_close(own, theirs, rtol=0, atol=1e-12)


def test_eprop_gives_the_same_answers_as_bptt():
    net, *batch = problem(2)
    torch.testing.assert_close(L.eprop(net, *batch), L.bptt(net, *batch))


def test_eprop_differs_from_bptt_with_recurrence():
    net, *batch = problem(3)
    own, exact = gradients(net, EPROP, *batch)[0], gradients(net, BPTT, *batch)[0]
    assert 0.3 < torch.cosine_similarity(own.flatten(), exact.flatten(), dim=0) < 0.99


def test_random_feedback_changes_the_way_back_alone():
    net, *batch = problem(4)
    weight, out = gradients(net, EPROP, *batch)
    other, same = gradients(net, EPROP, *batch, back=torch.randn_like(net.out))
    torch.testing.assert_close(same, out)
    assert (weight - other).abs().max() > 0.01


def wrong_scale(net, *batch, **more):
    answer = EPROP(net, *batch, **more)
    net.weight.grad *= 1.001
    return answer


def forgets_adaptation(net, *batch, **more):
    answer = EPROP(net, *batch, **more)
    lift, net.lift = net.lift, 0 * net.lift
    EPROP(net, *batch, **more)
    net.lift = lift
    return answer


WRONG_EPROP = {
    "scale": ("eprop", wrong_scale),
    "no adaptation in the trace": ("eprop", forgets_adaptation),
    "random feedback": ("eprop", lambda net, *batch: EPROP(net, *batch, back=torch.randn_like(net.out))),
    "not cut": ("bptt", lambda net, x, y, when, cut: BPTT(net, x, y, when)),
}


@pytest.mark.parametrize("name", WRONG_EPROP)
def test_wrong_eprop_is_caught(name, config, run, monkeypatch):
    L.prove_eprop(config, run)
    monkeypatch.setattr(L, *WRONG_EPROP[name])
    with pytest.raises(lesson.ProofMissed):
        L.prove_eprop(config, run)


def test_step_is_the_leaky_neuron_of_the_course():
    net, x, *_ = problem(5, recurrent=False, lift=0.0)
    spk, _ = neurons.leaky(x @ net.weight.detach().T, L.ALPHA, L.THRESHOLD)
    state, own = net.start(x), []
    for x_t in x:
        state, _, _ = net.step(x_t, state)
        own.append(state[2].detach())
    assert spk.sum() > 50
    assert torch.equal(torch.stack(own), spk)


def test_adaptation_slows_a_neuron_down():
    rates = []
    for lift in (0.0, 0.5):
        net, x, *_ = problem(6, recurrent=False, lift=lift)
        net.weight.data.abs_()
        state, total = net.start(x), 0
        for x_t in x:
            state, _, _ = net.step(x_t, state)
            total = total + state[2].sum(0)
        rates.append(total)
    assert torch.equal(rates[0][:10], rates[1][:10])  # the first half has no adaptation
    assert (rates[1][10:] < rates[0][10:]).all()


def test_training_learns_and_is_measured(run):
    short = eprop_tasks.cues(200, cues=1, delay=0)
    draw = partial(eprop_tasks.cues, 32, cues=1, delay=0)
    task = eprop_tasks.Task((40, 2), 0.9, 0.1, draw, 30, [short], short[2], eprop_tasks.RULES[:2], {})
    curves, rows = L.supervised(run, "short cue", task)
    scores = {rule: hits for rule, hits, _ in rows}
    assert scores["e-prop"] > 85
    assert scores["BPTT"] > 85
    assert all(len(hits) == 30 for hits in curves.values())


def test_memory_proof_catches_an_eprop_that_keeps_the_past(config, run, monkeypatch):
    monkeypatch.setattr(L, "LENGTHS", {"quick": (5, 10, 20, 40)})
    kept = L.measure_memory(config, run)
    assert kept["BPTT"][-1] > kept["BPTT"][0]
    assert kept["winners, as they ran"][-1] > kept["winners, as they ran"][0]
    assert len(set(kept["STDP"])) == 1
    assert len(set(kept["winners, step by step"])) == 1
    monkeypatch.setattr(L, "eprop", BPTT)
    with pytest.raises(lesson.ProofMissed):
        L.measure_memory(config, run)


def test_break_even_is_where_the_lines_cross():
    lengths = (28, 100, 300, 1000)
    kept = {"e-prop": [260.0] * 4, "BPTT": [100.0 + 2 * steps for steps in lengths]}
    assert L.breaks_even(lengths, kept) == pytest.approx(80)


def test_one_synapse_is_a_part_of_the_layer(config, run, monkeypatch):
    L.prove_traces_of_a_layer(config, run)
    L.trace_of_a_synapse(config, run)
    monkeypatch.setattr(L, "KAPPA", 0.9)
    honest = L.eligibility
    monkeypatch.setattr(L, "eligibility", lambda pre, slope, lift, rho: honest(pre, slope, 0.0, rho))
    with pytest.raises(lesson.ProofMissed):
        L.prove_traces_of_a_layer(config, run)
    with pytest.raises(lesson.ProofMissed):
        L.trace_of_a_synapse(config, run)


@pytest.fixture
def compiled():
    return pytest.importorskip("snn_course.networks.compiled", reason="numba is not installed")


def spoilt_kernel(honest, name, change):
    """Give the twin's ``eprop_gradient`` with one argument changed."""
    names = ("arrived", "slope", "signal", "lift", "rho", "kappa")

    def spoilt(*given):
        arguments = dict(zip(names, given, strict=True))
        arguments[name] = change(arguments[name])
        return honest(**arguments)

    return spoilt


WRONG_KERNEL = {
    "no adaptation": ("lift", torch.zeros_like),
    "adaptation that decays too fast": ("rho", lambda rho: 0.99 * rho),
    "read-out that does not smooth": ("kappa", lambda kappa: 0.0),
    "arrived one step late": ("arrived", lambda arrived: arrived.roll(1, 0)),
    "slopes that are small left out": ("slope", lambda slope: slope * (slope > 0.01)),
    "the last signal forgotten": ("signal", lambda signal: torch.cat([signal[:-1], 0 * signal[-1:]])),
}


@pytest.mark.parametrize("name", WRONG_KERNEL)
def test_wrong_kernel_is_caught(name, compiled, config, run, monkeypatch):
    L.prove_two_pieces(config, run)
    spoilt = spoilt_kernel(compiled.eprop_gradient, *WRONG_KERNEL[name])
    monkeypatch.setattr(compiled, "eprop_gradient", spoilt)
    with pytest.raises(lesson.ProofMissed):
        L.prove_two_pieces(config, run)


def test_two_pieces_that_ignore_random_feedback_are_caught(config, run, monkeypatch):
    honest = L.fast.eprop
    monkeypatch.setattr(L.fast, "eprop", lambda net, batch, alpha, kappa, _: honest(net, batch, alpha, kappa))
    with pytest.raises(lesson.ProofMissed, match="random"):
        L.prove_two_pieces(config, run)


def test_two_pieces_hold_the_past(config, run):
    L.memory_in_two_pieces(config, run)
    (grown,) = [m.values[0] for m in run.record.measures.values() if "two pieces" in m.name]
    numbers = L.HIDDEN + 28 + 2 * L.HIDDEN  # J + 2 N
    assert grown == pytest.approx(4 * numbers / 1000, rel=0.02)


def test_what_each_rule_writes_adds_up_to_its_gradient():
    net, *batch = problem(7)
    exact, _ = gradients(net, BPTT, *batch)
    torch.testing.assert_close(L.what_it_writes("BPTT", net, *batch).sum(0), exact)
    own, _ = gradients(net, EPROP, *batch)
    torch.testing.assert_close(L.what_it_writes("e-prop", net, *batch).sum(0), own)


def test_bptt_alone_knows_the_future(config, run, monkeypatch):
    L.plausibility(config, run)
    rows = {row[0]: row for row in run.tables()[-1]["rows"]}
    assert [float(rows[rule][1]) for rule in L.RULES[:3]] == [0, 0, 0]
    assert float(rows["BPTT"][1]) > 5
    assert float(rows["STDP"][2]) == 0
    assert float(rows["e-prop"][2]) > 5
    monkeypatch.setattr(L, "written_by_stdp", lambda net, x: L.what_it_writes("BPTT", net, x, *labels(x)))
    with pytest.raises(lesson.ProofMissed):
        L.plausibility(config, run)


def labels(x):
    return torch.zeros(x.shape[1], dtype=torch.long), x.new_full((len(x),), 1 / len(x))


def test_all_traces_at_once_are_the_same_eprop(config, run, monkeypatch):
    L.compare_with_frenkel(config, run)
    honest = L.powers
    monkeypatch.setattr(L, "powers", lambda decay, steps: honest(0.99 * decay, steps))
    with pytest.raises(lesson.ProofMissed):
        L.compare_with_frenkel(config, run)


def test_operations_count_the_way_back():
    assert L.operations_of_rows("BPTT", 28, 8, 100) == 3 * 28 * 100
    assert L.operations_of_rows("e-prop", 28, 8, 100) == 5 * 28 * 100 + 800


def test_half_of_the_neurons_adapt():
    net = L.Net(7, 3, 10, 0.9, 0.2)
    assert net.weight.shape == (10, 17)
    assert net.out.shape == (3, 10)
    assert net.lift.tolist() == pytest.approx([0] * 5 + [0.2] * 5)
    assert L.Net(7, 3, 10, 0.9, 0.2, recurrent=False).weight.shape == (10, 7)
    assert L.Net(7, 3, 10, 0.9, 0.2, like=torch.zeros(1).double()).out.dtype == torch.double


def test_settings_are_checked():
    with pytest.raises(UsageError, match="images"):
        L.Config(images=10)
    with pytest.raises(UsageError, match="neurons"):
        L.Config(neurons=(3,))
