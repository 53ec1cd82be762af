"""Counts and summaries: they agree with plain Python for any values, and refuse to summarise nothing."""

import math
import statistics

from snn_course import metrics

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

times = st.lists(st.floats(0, 1e3), min_size=1, max_size=50)


@st.composite
def spikes(draw: st.DrawFn) -> torch.Tensor:
    """Spikes [T, B, N] of any share of ones."""
    shape = [draw(st.integers(1, 6)) for _ in range(3)]
    chance = draw(st.sampled_from([0.0, 0.1, 0.5, 1.0]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 1000)))
    return (torch.rand(shape, generator=generator) < chance).float()


@given(spikes())
def test_spikes_are_counted_per_sample(spk: torch.Tensor) -> None:
    samples = [float(sample.sum()) for sample in spk.unbind(1)]
    assert metrics.spikes_per_sample(spk) == pytest.approx(statistics.fmean(samples))
    assert metrics.spikes_per_sample(spk.bool()) == metrics.spikes_per_sample(spk)
    assert metrics.spikes_per_sample(torch.cat([spk, spk], 1)) == metrics.spikes_per_sample(spk)
    assert metrics.spikes_per_sample(torch.cat([spk, spk], 0)) == 2 * metrics.spikes_per_sample(spk)


@given(spikes())
def test_sparsity_is_the_share_of_zeros(spk: torch.Tensor) -> None:
    assert metrics.sparsity(spk) == pytest.approx(1 - float(spk.mean()), abs=1e-6)
    assert metrics.sparsity(1 - spk) == pytest.approx(1 - metrics.sparsity(spk))
    assert metrics.sparsity(-3 * spk) == metrics.sparsity(spk)  # graded spikes, and OFF spikes, count too


def test_counts_stay_exact_where_float32_does_not() -> None:
    spk = torch.ones(2**12 + 1, 1, 2**12 + 1)
    assert metrics.spikes_per_sample(spk) == (2**12 + 1) ** 2


@pytest.mark.parametrize("shape", [(5,), (5, 0), (5, 0, 3)])
def test_spikes_without_samples_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\[T, B, \.\.\.\]"):
        metrics.spikes_per_sample(torch.zeros(shape))


@given(times)
def test_mean_and_spread_are_those_of_a_sample(values: list[float]) -> None:
    mean, std = metrics.mean_std(values)
    assert mean == pytest.approx(sum(values) / len(values))
    if len(values) == 1:
        assert math.isnan(std)
    else:
        square = sum((value - mean) ** 2 for value in values) / (len(values) - 1)
        assert std == pytest.approx(math.sqrt(square), abs=1e-9)


@given(times, st.randoms())
def test_percentiles_are_ordered_and_lie_among_the_times(values: list[float], random) -> None:
    found = metrics.latency_percentiles(values)
    low, high = 1000 * min(values), 1000 * max(values)
    slack = 1e-9 * (1 + high)
    assert low - slack <= found[0] <= found[1] + slack <= found[2] + 2 * slack <= high + 3 * slack
    assert found[0] == pytest.approx(1000 * statistics.median(values))
    assert metrics.latency_percentiles(random.sample(values, len(values))) == found


def test_percentiles_are_in_ms() -> None:
    assert metrics.latency_percentiles([n / 1000 for n in range(101)]) == pytest.approx((50, 95, 99))


@pytest.mark.parametrize(
    "summary", [metrics.mean_std, metrics.latency_percentiles, lambda _: metrics.sparsity(torch.zeros(0, 3))]
)
def test_nothing_has_no_summary(summary) -> None:
    with pytest.raises(ValueError, match=r"requires at least one|no latencies|empty"):
        summary([])
