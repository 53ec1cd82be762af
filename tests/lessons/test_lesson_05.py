"""Lesson 05: the information is the right one, decoders reach it, damage and the wrap-around show."""

import math

from snn_course.runs import lesson
from snn_course import data

import pytest
import snntorch as snn
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

L = lesson.load(5)
TUNING, FISHER, RMSE, ML = L.tuning, L.fisher_information, L.rmse, L.maximum_likelihood


@pytest.fixture
def config():
    return L.Config(scale="quick", device="cpu", trials=1500, train_images=1000)


def value(run, name):
    return run.record.measures[name].values[-1]


# ---------------------------------------------------------------------- proofs


@pytest.mark.parametrize("settings", [{}, {"kappa": 0.5}, {"kappa": 20.0}, {"peak": 200.0, "baseline": 30.0}])
def test_proofs_hold_for_other_settings(run, settings):
    L.prove_fisher_information(L.Config(**settings), run)


def slope(angle, preferred, config):
    return (
        -config.kappa
        * (angle[:, None] - preferred).sin()
        * (TUNING(angle, preferred, config) - config.baseline)
    )


WRONG = {
    "not divided by f": ("fisher_information", lambda a, p, c: slope(a, p, c) ** 2),
    "divided by f^2": ("fisher_information", lambda a, p, c: slope(a, p, c) ** 2 / TUNING(a, p, c) ** 2),
    "slope without kappa": ("fisher_information", lambda a, p, c: FISHER(a, p, c) / c.kappa**2),
    "baseline in the slope": (
        "fisher_information",
        lambda a, p, c: (c.kappa * (a[:, None] - p).sin() * TUNING(a, p, c)) ** 2 / TUNING(a, p, c),
    ),
    "Gaussian that does not wrap": (
        "tuning",
        lambda a, p, c: c.baseline + c.peak * torch.exp(-c.kappa / 2 * (a[:, None] - p) ** 2),
    ),
    "ML off by half a grid step": ("maximum_likelihood", lambda *args: ML(*args) + math.pi / L.GRID),
    "vector of x and y swapped": ("population_vector", lambda n, p: torch.atan2(n @ p.cos(), n @ p.sin())),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_formula_is_caught(name, run, config, monkeypatch):
    monkeypatch.setattr(L, *WRONG[name])
    with pytest.raises(lesson.ProofMissed):
        L.prove_fisher_information(config, run)


def test_information_is_what_the_likelihood_curves_by(config):
    """A third way to the same number: minus the mean second derivative of log P, by autograd."""
    preferred = L.circle(16)
    angle = torch.tensor([1.3], dtype=torch.float64, requires_grad=True)
    mean = TUNING(angle.detach(), preferred, config)
    log_p = (mean * TUNING(angle, preferred, config).log() - TUNING(angle, preferred, config)).sum()
    (first,) = torch.autograd.grad(log_p, angle, create_graph=True)
    (second,) = torch.autograd.grad(first, angle)
    assert -second.item() == pytest.approx(FISHER(angle.detach(), preferred, config).sum().item(), rel=1e-9)


# ---------------------------------------------------------------------- decoders


@given(st.floats(0, 2 * math.pi), st.sampled_from([8, 16, 64]))
@settings(deadline=None)
def test_decoders_are_exact_without_noise(angle, size):
    """Fed the mean counts, the vector points at the stimulus, and ML peaks there (summit of a parabola)."""
    config, preferred = L.Config(), L.circle(size)
    mean = TUNING(torch.tensor([angle], dtype=torch.float64), preferred, config)
    truth = torch.tensor([angle], dtype=torch.float64)
    assert RMSE(ML(mean, TUNING(L.circle(L.GRID), preferred, config)), truth) < 1e-3
    assert RMSE(L.population_vector(mean, preferred), truth) < (1 if size == 8 else 1e-4)


def test_dead_neurons_that_ml_is_told_of_change_nothing_else(config):
    """ML told of dead neurons = ML of the population that never had them."""
    preferred, angle = L.circle(32), 6.28 * torch.rand(50, dtype=torch.float64)
    counts, curves = (
        torch.poisson(TUNING(angle, preferred, config)),
        TUNING(L.circle(L.GRID), preferred, config),
    )
    alive = torch.ones_like(counts)
    alive[:, ::3] = 0
    kept = alive[0] > 0
    told, smaller = ML(counts * alive, curves, alive), ML(counts[:, kept], curves[:, kept])
    assert RMSE(told, smaller) < 1e-6


def test_a_trial_without_any_spike_gives_a_number(config):
    preferred, none = L.circle(8), torch.zeros(3, 8, dtype=torch.float64)
    curves = TUNING(L.circle(L.GRID), preferred, config)
    assert torch.isfinite(ML(none, curves)).all()
    assert torch.isfinite(ML(none, curves, torch.zeros_like(none))).all()
    assert torch.isfinite(L.population_vector(none, preferred)).all()


@given(st.floats(-50, 50), st.floats(-50, 50))
def test_rmse_goes_the_short_way(first, second):
    error = RMSE(torch.tensor([first], dtype=torch.float64), torch.tensor([second], dtype=torch.float64))
    short = abs((first - second + math.pi) % (2 * math.pi) - math.pi)
    assert error == pytest.approx(math.degrees(short), abs=1e-6)
    assert error <= 180 + 1e-9


@given(st.integers(2, 16), st.integers(0, 1000))
def test_quantise_has_that_many_levels(bits, seed):
    weights = torch.randn(200, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    rounded = L.quantise(weights, bits)
    assert len(rounded.unique()) <= 2**bits - 1
    assert rounded.abs().max() == pytest.approx(weights.abs().max().item())
    assert (rounded - weights).abs().max() <= weights.abs().max() / (2 ** (bits - 1) - 1) / 2 + 1e-12
    assert torch.allclose(L.quantise(weights, 64), weights)


# ---------------------------------------------------------------------- experiments


def test_ml_reaches_the_bound_and_not_more(run, config):
    error = L.measure_precision(config, run)
    assert 0.9 < value(run, "ML error / bound, worst of N >= 64") < 1.1
    assert error["vector"][4] > 1.1 * error["ML"][4]
    assert error["most active"][-1] > 5 * error["ML"][-1]


def test_lif_counts_keep_to_the_bound_of_their_own(run, config):
    error = L.measure_lif(config, run)
    assert 0.9 < value(run, "LIF error / twin / sqrt(F), N = 64") < 1.1
    assert 0.9 < value(run, "LIF error / predicted, N = 64") < 1.1
    assert 0.9 < value(run, "twin error / its bound, N = 64") < 1.1
    assert 0.95 < value(run, "LIF error / its bound, N = 64") < 1.4
    assert error["bound"][4] < 0.6 * error["bound of twin"][4]  # two bounds, for two kinds of counts


def test_a_curve_of_poisson_counts_has_the_bound_of_poisson_counts(config):
    """Fed Poisson counts, slope^2 / variance is the Fisher information, and nothing is lost by Poisson ML."""
    grid = L.circle(L.GRID)
    mean = TUNING(grid, grid[:1], config).T.expand(4000, -1)  # [trial, G]
    curve = L.measure_curve(torch.poisson(mean))
    right = L.bound(FISHER(grid, L.circle(64), config))
    assert L.bound(L.of_all(curve.slope**2 / curve.variance, 64)) == pytest.approx(right, rel=0.03)
    assert L.predicted_error(curve, 64) == pytest.approx(right, rel=0.03)


def test_an_overdispersed_population_is_predicted_to_err_by_the_root_of_its_fano_factor(config):
    grid = L.circle(L.GRID)
    mean = TUNING(grid, grid[:1], config)[:, 0]
    slope = (mean.roll(-1) - mean.roll(1)) / (4 * math.pi / L.GRID)
    once, four = (L.Curve(mean, slope, fano * mean) for fano in (1, 4))
    assert L.predicted_error(four, 16) == pytest.approx(2 * L.predicted_error(once, 16), rel=1e-9)
    least = L.bound(L.of_all(slope**2 / (4 * mean), 16))
    assert L.predicted_error(four, 16) == pytest.approx(least, rel=1e-9)  # v = F f: nothing is lost


def test_motor_cortex_and_place_cells(run, config):
    error = L.motor_cortex(config, run)
    assert error["even"][0] < 1.3 * error["even"][1]
    assert error["uneven"][0] > 5 * error["uneven"][1]
    medians = L.place_cells(run)
    assert medians[0] > medians[1] > medians[2]


def test_place_cells_fire_in_their_place_and_positions_fill_the_arena():
    centre = torch.zeros(1, 2, dtype=torch.float64)
    away = torch.tensor([[0.0, 0.0], [L.FIELD, 0.0], [0.0, 1000.0]], dtype=torch.float64)
    rates = L.place_rates(away, centre)[:, 0] / L.WINDOW
    assert rates.tolist() == pytest.approx([15.5, 0.5 + 15 * math.exp(-0.5), 0.5])
    inside = L.scatter_in_arena(4000).norm(dim=1)
    assert inside.max() <= L.RADIUS
    assert (inside < L.RADIUS / 2).double().mean().item() == pytest.approx(0.25, abs=0.03)


def test_shared_noise_is_not_averaged_away(run, config):
    L.shared_noise(config, run)
    assert value(run, "shared noise: error at the largest N") > L.TREMBLE


def test_new_figures_change_no_random_number_of_the_rest(run, config):
    """The chapters that were added draw in a fork of the random numbers."""
    torch.manual_seed(3)
    L.one_neuron(config, run)
    L.one_trial(config, run)
    L.brain(config, run)
    after = torch.rand(1)
    torch.manual_seed(3)
    assert torch.equal(after, torch.rand(1))


OFF_THE_BOUND = {
    "told the angle": ("rmse", lambda guess, angle: 1e-3),
    "grid of 16 angles": (
        "maximum_likelihood",
        lambda n, f: (ML(n, f) / (math.pi / 8)).round() * math.pi / 8,
    ),
    "curves without baseline": ("maximum_likelihood", lambda n, f: ML(n, (f - 0.99).clamp(min=1e-3))),
}


@pytest.mark.parametrize("name", OFF_THE_BOUND)
def test_decoder_off_the_bound_misses_the_goal(name, run, config, monkeypatch):
    monkeypatch.setattr(L, "SIZES", (64, 256))
    monkeypatch.setattr(L, *OFF_THE_BOUND[name])
    L.measure_precision(config, run)
    measure = run.record.measures["ML error / bound, worst of N >= 64"]
    assert not measure.at_least <= measure.values[0] <= measure.at_most


def test_damage_and_catch(run, config):
    L.measure_damage(config, run)
    L.catch_wrap_around(config, run)
    assert value(run, "30 % dead: ML told / bound") < 1.1
    assert value(run, "30 % dead: ML not told / told") > 1.3
    assert value(run, "catch: plain mean / vector, at 0 deg") > 30
    assert value(run, "catch: plain mean / vector, at 180 deg") < 2


def test_only_who_is_told_of_the_dead_loses_as_little_as_size_allows(run, config, monkeypatch):
    goal = "30 % dead: ML told / intact, N = 256"
    L.damage_by_size(config, run)
    measure = run.record.measures[goal]
    assert measure.at_least <= value(run, goal) <= measure.at_most
    assert value(run, "30 % dead: ML told / intact, N = 8") > 1.5 * value(run, goal)
    monkeypatch.setattr(L, "maximum_likelihood", lambda counts, curves, alive=None: ML(counts, curves))
    L.damage_by_size(config, run)
    assert value(run, goal) > measure.at_most


# ---------------------------------------------------------------------- read-out


def test_read_out_is_one_step_of_leaky():
    torch.manual_seed(1)
    net, pixels = L.ReadOut(5, L.RECIPES["lesson"].fire), torch.rand(20, 784)
    for layer in (net.fc1, net.fc2):
        torch.nn.init.normal_(layer.weight, std=0.1)
    spk = pixels
    for layer in (net.fc1, net.fc2):
        cur = layer(spk)
        spk, _ = snn.Leaky(beta=0.3)(cur, torch.zeros_like(cur))
    assert spk.sum() > 0
    assert torch.equal(net(pixels), spk.reshape(20, 10, 5).sum(2))


def test_loss_is_proven_and_a_wrong_one_is_caught(run, monkeypatch):
    L.prove_vote_loss(run)
    right = L.vote_loss
    monkeypatch.setattr(L, "vote_loss", lambda votes, labels, pool: right(votes, labels, 1))
    with pytest.raises(lesson.ProofMissed):
        L.prove_vote_loss(run)


def blobs(count, seed=0):
    """Ten easy classes: another block of 78 pixels is bright in each."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 10
    images = torch.randint(0, 60, (count, 784), generator=generator)
    for label in range(10):
        images[labels == label, 78 * label : 78 * (label + 1)] += 190
    shape = images.to(torch.uint8).reshape(count, 1, 28, 28)
    return data.Images(shape, labels, "blobs", "train", data.DIGITS, "made here", False, count)


def test_read_out_learns_and_the_pool_survives_damage(run):
    train, test = blobs(3000), blobs(500, seed=1)
    net = L.train_read_out(train, 20, "lesson", run)
    accuracy, ties, dead, four_bits = L.assess_read_out(net, test, run)
    assert accuracy > 95
    assert ties < 5
    assert dead > 95
    assert four_bits > 90


def test_one_neuron_a_class_loses_the_classes_of_its_dead(run):
    net = L.train_read_out(blobs(3000), 1, "lesson", run)
    accuracy, _, dead, _ = L.assess_read_out(net, blobs(500, seed=1), run)
    assert dead <= min(accuracy, 80)  # 3 of 10 classes have no neuron; ties may still name one of them


def test_titles_say_what_was_measured():
    title = L.title_of_precision({"ML": [2.0, 3.0, 9.0], "bound": [1.0, 1.0, 1.5]})  # more neurons are worse
    assert title == "4 to 256 neurons: error of ML 2.0 to 9.0 degrees, bound 1.0 to 1.5"
    title = L.title_of_read_outs({"digits": [[90.0, 0.0, 80.0, 0.0], [70.0, 0.0, 10.0, 0.0]]})
    assert title == "1 to 50 neurons a class, intact and 30 % dead:\ndigits 90 to 70 %, dead 80 to 10 %"
    title = L.title_of_damage({(0, 64): [0, 1.0, 0, 0], (0.3, 64): [0, 2.0, 5.0, 0]})
    assert title == "30 % of 64 neurons dead: ML is 2.0 degrees off, if told which 5.0; before 1.0"
    title = L.title_of_brain({"even": [1.0, 1.0], "uneven": [2.0, 9.0]}, [1.0, 2.0, 3.0])
    assert title == "Uneven directions: vector 2.0 degrees off, ML 9.0; 8 to 136 place cells: 1.0 to 3.0 cm"
