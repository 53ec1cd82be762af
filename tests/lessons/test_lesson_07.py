"""Lesson 07: slopes and gradients through time are right, and a wrong surrogate is caught."""

import math
from dataclasses import replace
from pathlib import Path

from snn_course.runs import lesson
from snn_course import data

import pytest
import snntorch as snn
import torch
from snntorch import surrogate

L = lesson.load(7)
SHAPES, HEAVISIDE = dict(L.SHAPES), L.heaviside


@pytest.fixture
def config():
    return L.Config(scale="quick", device="cpu", images=300, epochs=1, num_steps=5, steepness=(25.0,))


@pytest.fixture
def run(config):
    torch.manual_seed(0)
    return lesson.Run(config, Path(L.__file__))


@pytest.fixture(scope="module")
def sets():
    found = []
    for split in ("train", "test"):
        part = data.load("mnist", split).subset(300)
        found += [part.images.flatten(1) / 255, part.labels]
    return found


def values(run):
    return {measure.name: measure.values for measure in run.record.measures.values()}


# ---------------------------------------------------------------------- slopes


@pytest.mark.parametrize("seed", range(3))
def test_slopes_hold_for_any_seed(config, run, seed):
    torch.manual_seed(seed)
    L.compare_slopes(replace(config, steepness=(0.01, 0.5, 3.0, 1000.0)), run)
    L.show_odd_slopes(run)
    table = run.record.tables["Odd slopes of snnTorch 1.0.0"]["runs"][0]
    assert table[0][1] == "nan"  # sigmoid() four below the threshold
    assert table[1][1:] == ["1", "1", "-1"]  # triangular() points the wrong way above the threshold


WRONG_SLOPES = {
    "atan": lambda k, x: 1 / math.pi / (1 + (math.pi / 2 * k * x) ** 2),  # as snnTorch's docstring has it
    "fast sigmoid": lambda k, x: 1 / (1 + k * x.abs()),
    "sigmoid": lambda k, x: torch.sigmoid(k * x) * torch.sigmoid(-k * x),  # k forgotten
    "triangle": lambda k, x: -k * torch.sign(x),
    "boxcar": lambda k, x: (k * x.abs() < 1).to(x.dtype),
}


@pytest.mark.parametrize("name", WRONG_SLOPES)
def test_a_wrong_slope_is_caught(config, run, name, monkeypatch):
    monkeypatch.setitem(L.SHAPES, name, (SHAPES[name][0], WRONG_SLOPES[name]))
    with pytest.raises(lesson.ProofMissed, match=f"{name}: backward"):
        L.compare_slopes(config, run)


def test_another_scale_than_that_of_snntorch_is_caught(config, run, monkeypatch):
    smooth, slope = SHAPES["fast sigmoid"]  # smooth function and slope agree, but both have area 1
    area_one = (lambda k, x: k * smooth(k, x), lambda k, x: k * slope(k, x))
    monkeypatch.setitem(L.SHAPES, "fast sigmoid", area_one)
    with pytest.raises(lesson.ProofMissed, match="own = fast_sigmoid"):
        L.compare_slopes(config, run)


@pytest.mark.parametrize("name", SHAPES)
def test_forward_is_the_step_and_at_the_threshold_silent(name):
    x = torch.cat([torch.randn(1000), torch.tensor([0.0, 1e-7, -1e-7])])
    spk = L.spiking(name, 2.0)(x)
    assert torch.equal(spk, (x > 0).float())
    assert torch.equal(spk, HEAVISIDE(x))


@pytest.mark.parametrize(("name", "height"), [("atan", 1.0), ("sigmoid", 0.5), ("triangle", 2.0)])
def test_heights_and_areas_are_those_of_the_comments(name, height):
    x = torch.linspace(-500, 500, 2_000_001, dtype=torch.float64)
    slope = L.slope_of(L.spiking(name, 2.0), x)
    assert slope.max().item() == pytest.approx(height)
    assert torch.trapezoid(slope, x).item() == pytest.approx(1, abs=2e-3)


def test_slope_at_rest():
    assert L.slope_at_rest("boxcar", 0.5) == 0  # the window ends just there
    assert L.slope_at_rest("boxcar", 0.49) == L.slope_at_rest("boxcar", 0.0) == 1
    assert L.slope_at_rest("triangle", 1.0) == 0
    assert L.slope_at_rest("fast sigmoid", 2.0) == pytest.approx(1 / 9)
    assert 0 < L.slope_at_rest("sigmoid", 100.0) < 1e-30


# ---------------------------------------------------------------------- through time


@pytest.mark.parametrize("name", SHAPES)
def test_own_lif_has_the_spikes_and_the_gradient_of_leaky(name):
    torch.manual_seed(1)
    spike = L.spiking(name, L.USUAL[name])
    cur = (0.5 * torch.randn(20, 8, 16)).requires_grad_()  # [T, B, N]
    leaky, mem, spk_rec = snn.Leaky(beta=L.BETA, spike_grad=spike), torch.zeros(8, 16), []
    for cur_t in cur.unbind(0):
        spk, mem = leaky(cur_t, mem)
        spk_rec.append(spk)
    own, theirs = L.lif(cur, spike), torch.stack(spk_rec)
    weight = torch.randn_like(own)
    gradients = [torch.autograd.grad((spk * weight).sum(), cur)[0] for spk in (own, theirs)]
    assert 0.02 < own.mean().item() < 0.5
    assert torch.equal(own, theirs)
    assert (gradients[0] - gradients[1]).abs().max().item() < 1e-5


@pytest.mark.parametrize("detach", [True, False])
@pytest.mark.parametrize("k", [1.0, 25.0])
def test_gradient_through_the_reset_has_its_closed_form(detach, k):
    """A membrane held a hair below the threshold never fires; its slope is the height h at each step."""
    num_steps, height = 30, k / 2  # of atan
    cur = torch.full((num_steps, 1, 1), 1 - L.BETA, dtype=torch.float64)
    cur[0] = 1
    cur = (cur * (1 - 1e-12)).requires_grad_()
    spk_rec = L.lif(cur, L.spiking("atan", k), detach)
    (grad,) = torch.autograd.grad(spk_rec[-1].sum(), cur)
    factor = L.BETA if detach else L.BETA - height
    assert spk_rec.sum() == 0
    assert grad[0].item() == pytest.approx(height * factor ** (num_steps - 1), rel=1e-6)


def test_flow_depends_on_the_slope_alone_and_every_layer_fires(config, sets, monkeypatch):
    fired = []
    monkeypatch.setattr(L, "lif", lambda *args, lif=L.lif: fired.append(lif(*args)) or fired[-1])
    norms = [L.flow(sets[0][:50], L.spiking(name, 25.0), 8, 10, seed=0) for name in ("atan", "boxcar")]
    assert norms[0] > 1e4 * norms[1]  # height 12.5 and its tail against height 1
    assert all(torch.equal(a, b) for a, b in zip(fired[:8], fired[8:], strict=True))
    assert all(0.02 < spk.mean().item() < 0.3 for spk in fired)


def test_detached_everywhere_misses_the_goal_of_the_catch(config, run, sets, monkeypatch):
    monkeypatch.setattr(L, "STEPS", (5, 10, 25))
    monkeypatch.setattr(L, "DEPTHS", (2,))
    L.measure_flow(config, run, sets[0][:20])
    monkeypatch.setattr(L, "lif", lambda cur, spike, detach, lif=L.lif: lif(cur, spike, True))
    L.measure_flow(config, run, sets[0][:20])
    attached, detached = values(run)["catch: gradient too large by, T 25"]
    assert attached >= 1
    assert detached == 0


# ---------------------------------------------------------------------- training


def test_the_true_slope_never_moves_the_loss(config, run, sets):
    losses = L.learn_by_heart(config, run, sets)
    assert set(losses) == {"true slope", *SHAPES}
    assert all(curve[0] == pytest.approx(losses["atan"][0]) for curve in losses.values())  # one start
    assert values(run)["loss left, worst shape"][0] < 25


@pytest.mark.parametrize("fake", [surrogate.heaviside(), L.spiking("boxcar", 0.0)], ids=["snnTorch's", "STE"])
def test_a_step_that_passes_a_gradient_is_caught(config, run, fake, monkeypatch):
    monkeypatch.setattr(L, "heaviside", fake)
    with pytest.raises(lesson.ProofMissed, match="step: largest slope"):
        L.dead_neuron(config, run)


def test_training_repeats_and_ends_at_rate_zero(config, sets):
    first, second = (L.train(config, sets, L.spiking("atan", 2.0)) for _ in range(2))
    assert first == second
    assert len(first[1]) == 3  # 300 images in batches of 100
    few = [part[:250] for part in sets]  # the last batch is not full
    assert len(L.train(replace(config, epochs=2), few, L.spiking("atan", 2.0))[1]) == 6


def test_sweep_trains_each_pair_and_keeps_what_it_has(config, run, sets, monkeypatch):
    asked = []

    def train(*args):
        asked.append(args)
        return float(len(asked)), [0.0]

    monkeypatch.setattr(L, "train", train)
    done = L.sweep(config, run, sets)
    pairs = len(SHAPES) * len({25.0, *L.USUAL.values()})
    assert len(asked) == pairs
    assert sorted(value for found in done.values() for value in found.values()) == list(range(1, pairs + 1))
    assert L.sweep(config, run, sets) == done  # after a stop: nothing is trained again
    assert len(asked) == pairs
    L.judge_sweep(config, run, sets, done)
    assert values(run)["spread over shapes"][0] > 1


def test_one_neuron_learns_with_a_surrogate_and_never_without():
    assert L.train_one_neuron(L.heaviside) == [0] * 60
    for spike in (surrogate.atan(), L.spiking("sigmoid", 2.0)):
        assert L.train_one_neuron(spike)[-1] == L.WANTED
