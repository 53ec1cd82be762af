"""Lesson 01: the neuron, its closed form and the other models are right, and wrong ones are caught."""

import math
from pathlib import Path

from snn_course.runs import lesson

import numpy as np
import pytest
import torch

L = lesson.load(1)
RIGHT_STEP = L.lif_step


@pytest.fixture
def config():
    return L.Config(scale="quick", device="cpu", num_steps=100, duration=300.0)


@pytest.fixture
def run(config):
    torch.manual_seed(0)
    return lesson.Run(config, Path(L.__file__))


def values(run):
    return {measure.name: measure.values for measure in run.record.measures.values()}


# ---------------------------------------------------------------------- the neuron


@pytest.mark.parametrize("seed", range(3))
def test_proofs_hold_for_any_seed(config, run, seed):
    torch.manual_seed(seed)
    L.equal_to_snntorch(config, run)
    L.firing_rate(config, run)
    L.where_beta_comes_from(config, run)


def wrong_step(change):
    """Give a neuron whose step has one mistake."""

    def step(cur, mem, beta, threshold, reset):
        if change == "fires at the threshold":
            _, mem = RIGHT_STEP(cur, mem, beta, threshold, reset)
            return (mem > threshold - 0.05).to(mem.dtype), mem
        if change == "reset before the decay":
            fired = (mem > threshold).to(mem.dtype)
            mem = beta * (mem - fired * threshold) + cur if reset == "subtract" else beta * mem + cur
            return (mem > threshold).to(mem.dtype), mem
        return RIGHT_STEP(cur, mem, beta, threshold, "none")

    return step


@pytest.mark.parametrize("change", ["fires at the threshold", "reset before the decay", "no reset"])
def test_a_wrong_neuron_is_caught(config, run, change, monkeypatch):
    monkeypatch.setattr(L, "lif_step", wrong_step(change))
    with pytest.raises(lesson.ProofMissed, match=r"snn\.Leaky"):
        L.equal_to_snntorch(config, run)
    with pytest.raises(lesson.ProofMissed, match="closed form"):
        L.firing_rate(config, run)


def test_a_wrong_beta_is_caught(config, run, monkeypatch):
    right = math.exp
    monkeypatch.setattr(L.math, "exp", lambda x: 1 + x if x < 0 else right(x))  # Euler's step
    with pytest.raises(lesson.ProofMissed, match="circuit"):
        L.where_beta_comes_from(config, run)


def test_refractory_neurons_are_deaf_for_their_period():
    spk, mem = L.simulate(torch.full((30, 1), 2.0), 0.9, reset="zero", refractory=5)
    assert spk[:, 0].nonzero().flatten().tolist() == [0, 6, 12, 18, 24]
    assert (mem[1:6] == 0).all()


def test_memory_is_the_time_to_1_over_e():
    for beta in (0.5, 0.9, 0.99):
        assert beta ** L.memory(beta) == pytest.approx(1 / math.e)


def test_keeping_beta_doubles_the_rate_and_its_root_does_not(config, run):
    L.catch_another_step(config, run)
    rows = run.record.tables["Catch: one current, three simulations"]["runs"][0]
    assert rows[1][2] == pytest.approx(2, abs=0.1)
    assert rows[2][2] == pytest.approx(1, abs=0.05)


def test_the_other_convention_is_beta_times_the_threshold():
    cur = torch.full((50, 1), 0.5)
    mem, spikes = 0.0, 0
    for _ in range(50):
        mem = 0.5 * (mem - (mem > 0.9)) + 0.5
        spikes += mem > 0.9
    assert L.spikes_with_reset_before_decay(cur, 0.5, 0.9) != int(L.simulate(cur, 0.5, 0.9)[0].sum())
    assert L.spikes_with_reset_before_decay(torch.zeros(9, 1), 0.5, 1.0) == 0


def test_membranes_smooth_noise_as_predicted(config, run):
    L.measure_smoothing(config, run)
    assert values(run)["spread of a membrane under noise / closed form"][0] == pytest.approx(1, abs=0.1)


def test_the_drawn_neuron_is_the_loop_over_leaky(config, run, monkeypatch):
    drawn = []
    monkeypatch.setattr(L, "draw_one_neuron", lambda *given: drawn.append(given))
    L.one_neuron(config, run)
    _, _, cur, spk, mem = drawn[0]
    own_spk, own_mem = L.simulate(cur[:, None], config.beta, config.threshold)
    assert torch.equal(own_spk[:, 0], spk)
    assert torch.allclose(own_mem[:, 0], mem)


# ---------------------------------------------------------------------- beyond LIF


def test_adaptation_index_by_hand():
    assert L.adaptation_index(np.array([10.0, 10.0, 10.0])) == 0
    assert L.adaptation_index(np.array([10.0, 30.0])) == pytest.approx(0.5)


def test_a_gate_goes_to_its_target_whatever_the_step():
    gate = L.gate_step(0.2, opens=3.0, closes=1.0, step_ms=100.0)
    assert gate == pytest.approx(0.75)
    two = L.gate_step(L.gate_step(0.2, 3.0, 1.0, 0.1), 3.0, 1.0, 0.1)
    assert two == pytest.approx(L.gate_step(0.2, 3.0, 1.0, 0.2))


def test_hodgkin_huxley_rests_and_fires_at_its_known_rate():
    rest = L.hodgkin_huxley(np.zeros(5000), 0.01)
    assert abs(rest[-1] + 65) < 0.5
    time = np.arange(0, 300, 0.01)
    isi = L.intervals(L.hodgkin_huxley(10.0 * (time >= 20), 0.01), 0.01)
    assert isi[-1] == pytest.approx(14.6, abs=0.2)  # 68 Hz at 10 uA/cm2


def test_adex_slows_down_and_lif_does_not(config, run):
    L.beyond_lif(config, run)
    found = values(run)
    assert found["adaptation index of LIF"][0] < 0.001
    assert found["adaptation index of AdEx"][0] > 0.02
