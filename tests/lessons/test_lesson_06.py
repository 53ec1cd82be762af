"""Lesson 06: closed forms hold for any decay, wrong ones are caught, snnTorch's quirks are as described."""

import math

from snn_course.runs import lesson
from snn_course import UsageError

import pytest
import snntorch as snn
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

L = lesson.load(6)
SYNAPTIC, ALPHA, RESPONSE, GAIN, PEAK = (
    L.synaptic_step,
    L.alpha_step,
    L.response,
    L.gain,
    L.time_to_peak,
)
DECAY = st.floats(0.05, 0.97)


@pytest.fixture
def config():
    return L.Config(scale="quick", device="cpu", num_steps=200, volleys=500)


def value(run, name):
    return run.record.measures[name].values[-1]


def impulse(steps, height=1.0):
    return height * (torch.arange(steps) == 0).double()[:, None]


# ---------------------------------------------------------------------- proofs


@pytest.mark.parametrize(("alpha", "beta"), [(0.9, 0.8), (0.95, 0.1), (0.5, 0.49), (0.99, 0.98), (0.3, 0.01)])
def test_proofs_hold_for_other_decays(run, alpha, beta):
    config = L.Config(scale="quick", device="cpu", num_steps=100, alpha=alpha, beta=beta)
    L.equal_to_snntorch(config, run)
    found = L.prove_filters(config, run)
    assert set(found) == {"Leaky", "Synaptic", "Alpha"}


def test_time_to_peak_holds(run):
    L.sweep_alpha_and_beta(run)


def synaptic_with_delay(cur, syn, mem, config, reset):
    """The Euler step of the textbook: the membrane sees the current of the step before."""
    spk, new, late = SYNAPTIC(cur, syn, mem, config, reset)
    return spk, new, late - new + syn


def synaptic_that_empties_the_current(cur, syn, mem, config, reset):
    return SYNAPTIC(cur, syn * (mem <= 1) if reset == "zero" else syn, mem, config, reset)


def synaptic_reset_at_once(cur, syn, mem, config, reset):
    spk, syn, mem = SYNAPTIC(cur, syn, mem, config, "none")
    return spk, syn, mem - spk if reset == "subtract" else mem


def alpha_minus_threshold(cur, exc, inh, mem, config, reset):
    spk, exc, inh, new = ALPHA(cur, exc, inh, mem, config, "none" if reset == "subtract" else reset)
    return spk, exc, inh, new - (mem > 1).double() if reset == "subtract" else new


def alpha_by_its_docstring(cur, exc, inh, mem, config, reset):
    """Take the factor from the text: log(alpha) / log(beta) - log(alpha) + 1."""
    a, b = math.log(config.alpha), math.log(config.beta)
    spk, exc, inh, mem = ALPHA(cur, exc, inh, mem, config, reset)
    return spk, exc, inh, mem * (a / b - a + 1) / L.alpha_factor(config.alpha, config.beta)


WRONG_STEPS = {
    "synaptic_step": (synaptic_with_delay, synaptic_that_empties_the_current, synaptic_reset_at_once),
    "alpha_step": (alpha_minus_threshold, alpha_by_its_docstring),
}


@pytest.mark.parametrize(("name", "wrong"), [(name, f) for name, fs in WRONG_STEPS.items() for f in fs])
def test_wrong_step_is_caught(name, wrong, run, config, monkeypatch):
    monkeypatch.setattr(L, name, wrong)
    with pytest.raises(lesson.ProofMissed):
        L.equal_to_snntorch(config, run)


WRONG_FILTERS = {
    "PSP a step late": ("response", lambda name, n, a, b: RESPONSE(name, n - 1, a, b)),
    "PSP without its factor": ("response", lambda name, n, a, b: RESPONSE(name, n, a, b) / (1 - b)),
    "alpha for beta in Leaky": ("response", lambda name, n, a, b: RESPONSE(name, n, b, a)),
    "power for gain": ("gain", lambda name, w, a, b: GAIN(name, w, a, b) ** 2),
    "cycles for radians": ("gain", lambda name, w, a, b: GAIN(name, w / (2 * torch.pi), a, b)),
    "gain of the continuous filter": ("gain", lambda name, w, a, b: ((1 - b) ** 2 + w**2) ** -0.5),
}


@pytest.mark.parametrize("name", WRONG_FILTERS)
def test_wrong_filter_is_caught(name, run, config, monkeypatch):
    monkeypatch.setattr(L, *WRONG_FILTERS[name])
    with pytest.raises(lesson.ProofMissed):
        L.prove_filters(config, run)


WRONG_PEAKS = {
    "rounded down": lambda name, a, b: max(0, PEAK(name, a, b) - 1),
    "continuous": lambda name, a, b: round(math.log(math.log(b) / math.log(a)) / math.log(a / b)),
    "Alpha as Synaptic": lambda name, a, b: PEAK("Synaptic" if name == "Alpha" else name, a, b),
}


@pytest.mark.parametrize("name", WRONG_PEAKS)
def test_wrong_time_to_peak_is_caught(name, run, monkeypatch):
    monkeypatch.setattr(L, "time_to_peak", WRONG_PEAKS[name])
    with pytest.raises(lesson.ProofMissed):
        L.sweep_alpha_and_beta(run)


# ---------------------------------------------------------------------- model


@given(DECAY, DECAY, st.sampled_from(["Synaptic", "Alpha"]))
@settings(deadline=None)
def test_time_to_peak_is_where_the_closed_form_peaks(first, second, name):
    alpha, beta = max(first, second), min(first, second)
    assume(alpha - beta > 1e-3)
    psp = RESPONSE(name, torch.arange(3000, dtype=torch.float64), alpha, beta)
    top = psp.sort(descending=True).values
    assume(top[0] - top[1] > 1e-12)  # two steps equally high: rounding decides
    assert PEAK(name, alpha, beta) == int(psp.argmax())


@given(DECAY, DECAY, st.floats(0, math.pi))
def test_gain_is_symmetric_but_for_leaky(first, second, omega):
    assume(abs(first - second) > 1e-3)
    at = torch.tensor([omega], dtype=torch.float64)
    assert GAIN("Synaptic", at, first, second).item() == pytest.approx(
        GAIN("Synaptic", at, second, first).item()
    )
    assert GAIN("Leaky", at, first, second).item() == pytest.approx(GAIN("Leaky", at, 0.99, second).item())


def test_gain_of_a_constant_is_the_area_of_the_psp():
    for name in L.NEURONS:
        area = RESPONSE(name, torch.arange(2000, dtype=torch.float64), 0.9, 0.7).sum()
        assert GAIN(name, torch.zeros(1, dtype=torch.float64), 0.9, 0.7).item() == pytest.approx(area.item())


def test_alpha_samples_the_psp_of_the_continuous_neuron():
    """tau_m dU/dt = -U + q, q after an exponential of area 1: a finely stepped Euler solution agrees."""
    tau_mem, tau_syn, dt = 10.0, 4.0, 1e-4
    times = torch.arange(0, 20, dt, dtype=torch.float64)
    current, mem, found = torch.exp(-times / tau_syn) / tau_syn * tau_mem, 0.0, []
    for n, q in enumerate(current.tolist()):
        if n % round(1 / dt) == 0:
            found.append(mem)
        mem += dt * (-mem + q) / tau_mem
    expected = RESPONSE(
        "Alpha", torch.arange(20, dtype=torch.float64), math.exp(-1 / tau_mem), math.exp(-1 / tau_syn)
    )
    assert torch.tensor(found, dtype=torch.float64) == pytest.approx(expected, abs=1e-3)


def test_simulate_starts_from_rest_each_time():
    neuron = L.build("Synaptic", 0.9, 0.8)
    first = L.simulate(neuron, impulse(30, 2.0))
    second = L.simulate(neuron, impulse(30, 2.0))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])


@pytest.mark.parametrize(("alpha", "beta"), [(0.8, 0.8), (0.5, 0.9)])
def test_alpha_not_above_beta_is_wrong_use(alpha, beta):
    with pytest.raises(ValueError, match="alpha must be greater"):
        snn.Alpha(alpha, beta)
    with pytest.raises(UsageError, match="--alpha must be more than --beta"):
        L.Config(alpha=alpha, beta=beta)


# ---------------------------------------------------------------------- experiments


def test_jitter_averages_out_and_noise_comes_in(run, config):
    found = L.measure_jitter(config, run)
    assert found["jitter out / in"] == sorted(found["jitter out / in"], reverse=True)
    assert found["by noise"] == sorted(found["by noise"])
    assert found["delay"] == sorted(found["delay"])
    for measure in run.record.measures.values():
        assert measure.judged(bounded=True)["met"] is not False, measure.name


def test_jitter_goals_see_a_filter_that_is_not_there(run, config, monkeypatch):
    """With the current left out, every tau behaves as Leaky does."""
    build = L.build
    monkeypatch.setattr(
        L, "build", lambda name, alpha, beta, **options: build("Leaky", alpha, beta, **options)
    )
    L.measure_jitter(config, run)
    assert run.record.measures["jitter by noise / predicted, tau_syn 20"].judged(bounded=True)["met"] is False


def test_quirks_of_snntorch_are_as_the_lesson_says(run, config):
    L.odd_resets(config, run)
    (table,) = (t for title, t in run.record.tables.items() if title == "Resets")
    assert table["runs"][0] == [
        ["snn.Leaky", "0.00", "0"],
        ["snn.Synaptic", "0.00", "10"],
        ["snn.Alpha", "1.62", "100"],
    ]
    assert value(run, "Alpha with beta = alpha: mem is nan") == 100


def test_catch(run, config):
    L.catch_swapped(config, run)
    assert value(run, "catch: difference of the PSPs") < 1e-12
    assert value(run, "catch: spikes swapped / right") > 2


def test_a_current_overstates_a_large_psp_and_hardly_a_small_one(run, config):
    L.conductance_or_current(config, run)
    rows = run.record.tables["One synapse: conductance against current, above rest"]["runs"][0]
    ratios = [row[3] for row in rows]
    assert ratios == sorted(ratios)
    assert ratios[0] < 1.01
    assert ratios[-1] > 1.1


def test_one_input_makes_a_slow_current_fire_more_than_once():
    slow, _ = L.simulate(L.build("Synaptic", 0.9, 0.5), impulse(100, 4.0))
    quick, _ = L.simulate(L.build("Synaptic", 0.5, 0.9), impulse(100, 4.0))
    assert slow.sum() > 2 * quick.sum() > 0


def test_cost_is_measured_for_both(run):
    L.measure_cost(run)
    assert 0.3 < value(run, "time of a step, Synaptic / Leaky") < 10
    assert value(run, "time of a step, Alpha / Leaky") > 0.3


def test_titles_say_what_was_measured():
    title = L.title_of_filters({"Leaky": 7, "Alpha": 0}, {"Leaky": 0.01, "Alpha": 0.5})
    peaks, left = title.splitlines()
    assert peaks == "PSP peaks at step: Leaky 7, Alpha 0;"
    assert left == "left of a sine of half a cycle per step: Leaky 0.01, Alpha 0.5"
    found = {"jitter out / in": [0.5, 0.7, 0.9], "by noise": [3.0, 2.0, 1.0]}  # slow synapses are worse
    low, high = 0.5 * L.JITTER, 0.9 * L.JITTER
    assert f"jitter by inputs {low:.2f} to {high:.2f} steps, by noise 3.00 to 1.00" in L.title_of_jitter(
        found
    )
    assert L.title_of_catch(0.25, [9, 9]) == "Alpha and beta swapped: PSPs differ by 0.2; 9 spikes, swapped 9"
