"""Lesson 03: the statistics follow theory, a wrong one is caught, and the rule names what it is shown."""

import math
import random
from pathlib import Path

from snn_course.runs import lesson

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

L = lesson.load(3)
COUNTS, COUPLING, FANO = L.counts, L.coupling, L.fano


@pytest.fixture
def config():
    return L.Config(scale="quick", device="cpu", draws=60)


@pytest.fixture
def run(config):
    made = lesson.Run(config, Path("03_spike_visualization.py"))
    made.begin(0)
    return made


@pytest.fixture(scope="module")
def populations():
    """Kinds and spikes of the draws that no test changes."""
    random.seed(5)
    torch.manual_seed(5)

    class Cpu:
        device = torch.device("cpu")

    return L.draw_populations(L.Config(draws=60), Cpu())


def bernoulli(steps, neurons, chance, seed=0):
    return (torch.rand(steps, neurons, generator=torch.Generator().manual_seed(seed)) < chance).float()


# ---------------------------------------------------------------------- proofs


@pytest.mark.parametrize("seed", range(3))
def test_proofs_hold_for_any_seed(run, seed):
    run.begin(seed)
    L.prove_statistics(run)
    L.catch_short_windows(run)


WRONG = {
    "Fano of the spread": ("fano", lambda count: count.std(0) / count.mean(0)),
    "Fano of the sum": ("fano", lambda count: count.var(0) / count.sum(0)),
    "CV of the variance": ("cv", lambda isi: float(isi.var() / isi.mean())),
    "CV of the rate": ("cv", lambda isi: float((1 / isi).std() / (1 / isi).mean())),
    "intervals one short": ("intervals", lambda train: train.nonzero()[:, 0].diff().double() - 1),
    "windows that overlap": (
        "counts",
        lambda spk, window: spk.double().unfold(0, window, max(1, window // 2)).sum(-1).cumsum(0),
    ),
    "chi^2 as it is": ("synchrony", lambda count: float(count.mean(1).var() / count.var(0).mean())),
    "variance of the sum": ("synchrony", lambda count: float(count.sum(1).var() / count.var(0).sum()) - 1),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_statistic_is_caught(name, run, monkeypatch):
    monkeypatch.setattr(L, *WRONG[name])
    with pytest.raises(lesson.ProofMissed):
        L.prove_statistics(run)


def test_theory_without_the_step_is_caught(run, monkeypatch):
    """CV = Fano = 1 is true for p -> 0 only: with p = 0.3 a step it is 13 and more standard errors off."""
    monkeypatch.setattr(L, "cv", lambda isi: 1.0)
    with pytest.raises(lesson.ProofMissed, match="CV"):
        L.prove_statistics(run)


@pytest.mark.parametrize("chance", [0.02, 0.3])
def test_standard_errors_are_the_spread_over_many_trains(chance):
    spk = bernoulli(200 * L.LONG_WINDOW, 400, chance)
    cvs = torch.tensor([L.cv(L.intervals(train)) for train in spk.T])
    intervals = float(spk.sum(0).mean()) - 1
    fanos = L.fano(L.counts(spk, L.LONG_WINDOW))
    assert float(cvs.std()) == pytest.approx((1 - chance / 2) / math.sqrt(intervals), rel=0.15)
    assert float(fanos.std()) == pytest.approx((1 - chance) * math.sqrt(2 / 199), rel=0.15)


def test_neuron_that_fires_too_easily_is_caught(config, run, monkeypatch):
    right = L.simulate
    L.drive_harder(config, run)
    monkeypatch.setattr(L, "simulate", lambda cur: right(1.05 * cur))
    with pytest.raises(lesson.ProofMissed):
        L.drive_harder(config, run)


# ---------------------------------------------------------------------- statistics


@settings(max_examples=50, deadline=None)
@given(st.lists(st.booleans(), min_size=2, max_size=80).filter(any))
def test_fano_of_single_steps_says_nothing_about_a_train(train):
    spk = torch.tensor(train).float()[:, None]
    steps, mean = len(train), float(spk.mean())
    assert float(L.fano(L.counts(spk, 1))) == pytest.approx((1 - mean) * steps / (steps - 1))


def test_clock_has_no_spread():
    clock = torch.zeros(1000)
    clock[::20] = 1
    assert L.intervals(clock).tolist() == [20.0] * 49
    assert L.cv(L.intervals(clock)) == 0
    assert float(L.fano(L.counts(clock[:, None], 100))) == 0


def test_too_few_spikes_have_no_cv():
    train = torch.zeros(100)
    assert math.isnan(L.cv(L.intervals(train)))
    train[:5] = 1
    assert math.isnan(L.cv(L.intervals(train)))
    train[5] = 1
    assert L.cv(L.intervals(train)) == 0


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 60), st.integers(1, 4), st.integers(1, 70))
def test_counts_keep_every_spike_of_whole_windows(steps, neurons, window):
    spk = bernoulli(steps, neurons, 0.5, seed=steps)
    count = L.counts(spk, window)
    assert count.shape == (steps // window, neurons)
    assert torch.equal(count.sum(0), spk[: steps // window * window].sum(0).double())


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 12), st.integers(0, 1000), st.floats(0, 3))
def test_synchrony_is_mean_covariance_over_mean_variance(neurons, seed, common):
    generator = torch.Generator().manual_seed(seed)
    count = torch.randn(50, neurons, generator=generator, dtype=torch.float64)
    count += common * torch.randn(50, 1, generator=generator, dtype=torch.float64)
    cov = count.T.cov()
    pairs = (cov.sum() - cov.trace()) / (neurons - 1)
    assert L.synchrony(count) == pytest.approx(float(pairs / cov.trace()), abs=1e-9)
    assert L.synchrony(count[:, torch.randperm(neurons)]) == pytest.approx(L.synchrony(count))


@pytest.mark.parametrize("neurons", [2, 10, 100])
def test_synchrony_does_not_grow_with_the_population(neurons):
    count = L.counts(bernoulli(20_000, neurons, 0.05), L.WINDOW)
    assert L.synchrony(count) == pytest.approx(0, abs=0.1)
    assert L.synchrony(count[:, :1].expand(-1, neurons)) == pytest.approx(1)


def test_neurons_that_take_turns_have_negative_synchrony():
    count = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).repeat(20, 1)
    assert L.synchrony(count) == pytest.approx(-1)


def test_coupling_is_to_the_others_only():
    count = L.counts(bernoulli(20_000, 4, 0.1), L.WINDOW)
    assert L.coupling(count).abs().max() < 0.1  # with itself among the others, about 0.5
    with_copy = torch.cat([count, count[:, :1]], 1)
    assert L.coupling(with_copy)[[0, 4]].min() > 0.4
    assert L.coupling(torch.cat([count, 0 * count], 1))[4:].tolist() == [0.0] * 4  # silent: 0, not nan


# ---------------------------------------------------------------------- populations and the rule


def painted(part, neurons, steps=2000, seed=1):
    """Spikes of one kind of neuron, drawn without neurons: the rule reads spikes only."""
    if part == "bursting":
        return bernoulli(steps, neurons, 0.3, seed) * (torch.arange(steps) % 150 < 15).float()[:, None]
    return bernoulli(steps, neurons, {"healthy": 0.03, "silent": 0.0, "saturated": 0.8}[part], seed)


@pytest.mark.parametrize("part", L.NEURONS)
def test_rule_names_painted_populations(part):
    assert L.name_population(painted(part, 40)) == part


@pytest.mark.parametrize("first", L.NEURONS)
@pytest.mark.parametrize("second", L.NEURONS)
def test_rule_names_any_mixture(first, second):
    spk = torch.cat([painted(first, 25), painted(second, 20, seed=2)], 1)
    named = sorted({first, second}, key=list(L.NEURONS).index)
    assert L.name_population(spk) == " + ".join(named)


def test_mixture_begins_where_a_seventh_differs():
    spk = torch.cat([painted("healthy", 85), painted("silent", 15)], 1)
    assert L.name_population(spk) == "healthy"
    assert L.name_population(spk[:, 1:]) == "healthy + silent"


def test_rule_depends_on_neither_order_nor_direction(populations):
    for spk in populations[1][:12]:
        name = L.name_population(spk)
        whole = spk[: len(spk) // L.WINDOW * L.WINDOW]
        assert L.name_population(whole.flip(0)) == L.name_population(whole)
        assert L.name_population(spk[:, torch.randperm(spk.shape[1])]) == name


def test_draws_differ_in_size_length_rate_and_mix(populations):
    kinds, spikes = populations
    assert sorted(set(kinds)) == sorted(L.KINDS)
    assert all(20 <= spk.shape[1] <= 100 and 1000 <= len(spk) <= 2000 for spk in spikes)
    assert len({len(spk) for spk in spikes}) > 30
    rates = [1000 * float(spk.mean()) for kind, spk in zip(*populations, strict=True) if kind == "healthy"]
    assert max(rates) > 2 * min(rates)
    assert all(set(spk.unique().tolist()) <= {0.0, 1.0} for spk in spikes)


def named_right(run):
    (share,) = [m for name, m in run.record.measures.items() if name == "populations named right"]
    return share.judged(bounded=True)["met"]


def test_rule_reaches_its_floor(run, populations):
    L.name_populations(run, *populations)
    assert named_right(run)


BROKEN_RULES = {
    "no coupling": ("coupling", lambda count: torch.zeros(count.shape[1])),
    "one count for all": ("coupling", lambda count: COUPLING(count).mean().expand(count.shape[1])),
    "Fano for coupling": ("coupling", lambda count: 0.2 * FANO(count).nan_to_num(0)),
    "time and neurons swapped": (
        "coupling",
        lambda count: (
            COUPLING(count.T)[: count.shape[1]] if len(count) >= count.shape[1] else COUPLING(count)
        ),
    ),
    "silence below 60 Hz": ("SILENT", 60.0),
    "silence never": ("SILENT", 0.0),
    "saturation never": ("SATURATED", 1001.0),
    "no mixtures": ("WHOLE", 0.0),
    "very long windows": ("WINDOW", 250),
}


@pytest.mark.parametrize("name", BROKEN_RULES)
def test_broken_rule_misses_the_floor(name, run, populations, monkeypatch):
    monkeypatch.setattr(L, *BROKEN_RULES[name])
    L.name_populations(run, *populations)
    assert not named_right(run)


# ---------------------------------------------------------------------- figures


def test_unforeseen_mixture_is_drawn_as_such(run):
    L.draw_confusion(run, ["healthy", "silent"], ["silent + saturated", "silent"])
    assert run.record.figures["confusion.png"]["title"] == "The rule errs on 1 of 2 populations"


def test_film_is_small_and_moves(run):
    shown = {kind: (painted("bursting", 40, 1000), None) for kind in L.KINDS}
    L.animate(run, shown)
    file = run.folder / "raster.gif"
    assert file.stat().st_size < 1_000_000
    with Image.open(file) as film:
        assert film.n_frames > 20


def test_titles_say_what_was_measured():
    assert L.title_of_codes({"[T, N]": 99, "[N, T]": 99}).endswith("step 99; given as [N, T] step 99")
    assert (
        L.title_of_patterns({"silent": 40.0, "saturated": 2.0}) == "Mean rate in Hz: silent 40, saturated 2"
    )
    title = L.title_of_numbers(
        {"clock": (1.0, 3.0, 3.0), "Poisson": (1.0, 3.0, 3.0)}
    )  # nothing tells them apart
    assert title.endswith("clock CV 1.00, Fano 3.00, 3.00; Poisson CV 1.00, Fano 3.00, 3.00")
    assert L.title_of_film({"healthy": 0.9, "bursting": 0.0}).endswith("healthy 0.90, bursting 0.00")


def test_excitation_makes_bursts_and_inhibition_cures_them():
    for seed in range(3):
        torch.manual_seed(seed)
        found = []
        for strength, inhibitory in ((0.0, 0.0), (10.0, 0.0), (10.0, 0.2)):
            found.append(L.synchrony(L.counts(L.recurrent_population(strength, inhibitory), L.WINDOW)))
        assert found[0] < 0.1
        assert found[1] > 0.5
        assert found[2] < 0.2
