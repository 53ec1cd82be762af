"""Counts and summaries that many lessons report. Statistics of spike trains are taught in lesson 03."""

import statistics
from collections.abc import Sequence

import numpy as np
import torch


def spikes_per_sample(spk: torch.Tensor) -> float:
    """Give the mean number of spikes that one sample costs.

    Args:
        spk: spikes [T, B, ...]; every value other than 0 is a spike.

    Raises:
        ValueError: there is no batch axis, or no sample.
    """
    if spk.dim() < 2 or spk.shape[1] == 0:
        raise ValueError(f"spikes must be [T, B, ...] with at least one sample, not {list(spk.shape)}")
    return int(spk.count_nonzero()) / spk.shape[1]


def sparsity(spk: torch.Tensor) -> float:
    """Give the share of zeros, 0 to 1, in spikes of any shape. Raises: ValueError when there is no value."""
    if spk.numel() == 0:
        raise ValueError("there are no spikes to count: the tensor is empty")
    return 1 - int(spk.count_nonzero()) / spk.numel()


def mean_std(values: Sequence[float]) -> tuple[float, float]:
    """Give mean and sample standard deviation (n - 1); the latter is nan for one value.

    Raises: ValueError (``statistics.StatisticsError``) when there is no value.
    """
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else float("nan")


def latency_percentiles(seconds: Sequence[float]) -> tuple[float, float, float]:
    """Give p50, p95 and p99 in ms: the times that 50, 95 and 99 % of the calls stay below.

    Raises: ValueError when there is no value.
    """
    if len(seconds) == 0:
        raise ValueError("there are no latencies to summarise")
    p50, p95, p99 = np.percentile(np.asarray(seconds, dtype=float) * 1000, [50, 95, 99])
    return float(p50), float(p95), float(p99)
