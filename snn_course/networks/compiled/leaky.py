"""The twins of ``leaky_scan``: the same recurrences, block by block, in one pass over the steps each way."""

from typing import Any

from snn_course.networks import surrogates
from snn_course.networks.compiled.tools import (
    BLOCK,
    Row,
    Rows,
    block_of,
    each_block,
    fma,
    kernel,
    narrow,
    row_of,
    rows,
    widened,
)
from snn_course.networks.surrogates import Surrogate

import numpy as np
import torch

SUM_GROUP = 64
"""``torch.sum`` adds whole groups of so many columns in the order of ``sum_over_time``, others in another."""
SUBTRACT, SUBTRACT_FIRST, ZERO, NONE = range(4)
RESETS = {"subtract": SUBTRACT, "subtract first": SUBTRACT_FIRST, "zero": ZERO, "none": NONE}
GIVEN, ATAN, FAST_SIGMOID, SILENT = range(4)  # formulas of the slope; SILENT: no gradient arrives at spikes
SPIKE_IN_BFLOAT16 = 0x3F80
"""The bits of 1.0."""
FORMULAS = {"given": GIVEN, "atan": ATAN, "fast sigmoid": FAST_SIGMOID}


# ---------------------------------------------------------------------- forward


@kernel
def _advance(m: Row, old: Row, x: Row, beta: Row, level: Row, reset: int) -> None:
    """Write the membranes of one step into m, from those of the step before and the currents x."""
    zero = m.dtype.type(0)
    if reset == SUBTRACT:
        for j in range(len(m)):
            v = old[j] * beta[j] + x[j]
            m[j] = v - level[j] if old[j] > level[j] else v
    elif reset == SUBTRACT_FIRST:
        for j in range(len(m)):
            m[j] = (old[j] - level[j] if old[j] > level[j] else old[j]) * beta[j] + x[j]
    elif reset == ZERO:
        for j in range(len(m)):
            m[j] = (zero if old[j] > level[j] else old[j]) * beta[j] + x[j]
    else:
        for j in range(len(m)):
            m[j] = old[j] * beta[j] + x[j]


@kernel
def _compare(s: Row, m: Row, level: Row, one: Any) -> None:
    """Write the spikes of one step into s; ``one`` is a spike in its type."""
    zero = s.dtype.type(0)
    for j in range(len(s)):
        s[j] = one if m[j] > level[j] else zero


@kernel
def _advance_alike(m: Row, s: Row, old: Row, x: Row, beta: float, level: float, reset: int, one: Any) -> None:
    """Write membranes and spikes of one step, of neurons that have one beta and one threshold."""
    zero, none = m.dtype.type(0), s.dtype.type(0)
    if reset == SUBTRACT:
        for j in range(len(m)):
            v = old[j] * beta + x[j]
            v = v - level if old[j] > level else v
            m[j] = v
            s[j] = one if v > level else none
    else:
        for j in range(len(m)):
            left = old[j]
            if reset == SUBTRACT_FIRST:
                left = left - level if left > level else left
            elif reset == ZERO:
                left = zero if left > level else left
            v = left * beta + x[j]
            m[j] = v
            s[j] = one if v > level else none


@kernel
def _forward(
    first: int,
    last: int,
    cur: Rows,
    alike: bool,
    decay: Row,
    threshold: Row,
    start: Row,
    reset: int,
    mem: Rows,
    spk: Rows,
    one: Any,
) -> None:
    space = np.empty(BLOCK, mem.dtype)
    for left in range(first, last, BLOCK):
        right = min(left + BLOCK, last)
        beta = block_of(decay, left, right)
        level = block_of(threshold, left, right)
        old = block_of(start, left, right)
        for t in range(len(mem)):
            x = widened(cur[t if len(cur) > 1 else 0, left:right], space)  # a still current is one row
            m = mem[t, left:right]
            s = spk[t, left:right]
            if alike:
                _advance_alike(m, s, old, x, decay[0], threshold[0], reset, one)
            else:
                _advance(m, old, x, beta, level, reset)
                _compare(s, m, level, one)
            old = m


def leaky_forward(
    cur: torch.Tensor, decay: torch.Tensor, threshold: torch.Tensor, start: torch.Tensor, reset: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Do what ``leaky_scan.leaky_forward`` does."""
    mem = start.new_empty(cur.shape)
    half = cur.dtype == torch.bfloat16
    spk = torch.empty_like(mem, dtype=cur.dtype if half else None)
    one = np.uint16(SPIKE_IN_BFLOAT16) if half else mem.numpy().dtype.type(1)
    row = [row_of(x) for x in (decay, threshold, start)]
    settings = (_alike(decay, threshold), *row, RESETS[reset])
    each_block(_forward, mem.shape[1], rows(cur, mem), *settings, mem, spk, one)
    return spk.to(cur.dtype), mem


def _alike(decay: torch.Tensor, threshold: torch.Tensor) -> bool:
    """Say whether all neurons have one beta and one threshold: then fewer numbers are read."""
    return decay.stride(0) == threshold.stride(0) == 0


# ---------------------------------------------------------------------- backward


@kernel
def at_spikes(g: Row, m: Row, gs: Row, level: Row, slope: int, a: float, b: float) -> None:
    """Write dL/dspk gs times the slope of the spike into g; GIVEN was written there before."""
    one = m.dtype.type(1)
    if slope == ATAN:
        for j in range(len(g)):
            x = (m[j] - level[j]) * a
            g[j] = one / (x * x + b) * gs[j]
    elif slope == FAST_SIGMOID:
        for j in range(len(g)):
            x = abs(m[j] - level[j]) * a + one
            g[j] = one / (x * x) * gs[j]


@kernel
def _back_alike(
    g: Row, later: Row, m: Row, gs: Row, beta: float, level: float, slope: int, a: float, b: float
) -> None:
    """Do what ``at_spikes`` and ``_from_later`` do, at once: where nothing is learned and no reset cuts."""
    one = m.dtype.type(1)
    if slope == ATAN:
        for j in range(len(g)):
            x = (m[j] - level) * a
            g[j] = fma(later[j], beta, one / (x * x + b) * gs[j])
    else:
        for j in range(len(g)):
            x = abs(m[j] - level) * a + one
            g[j] = fma(later[j], beta, one / (x * x) * gs[j])


@kernel
def _to_beta(total: Row, later: Row, m: Row, level: Row, reset: int) -> None:
    """Add dL/dmem[t+1] times the membrane that beta found at step t."""
    zero = m.dtype.type(0)
    for j in range(len(total)):
        fired = m[j] > level[j]
        found = m[j] - level[j] if reset == SUBTRACT_FIRST and fired else m[j]
        total[j] = fma(zero if reset == ZERO and fired else later[j], found, total[j])


@kernel
def _to_threshold(total: Row, later: Row, m: Row, beta: Row, level: Row, reset: int) -> None:
    """Subtract what the reset of step t took from the membrane of step t + 1."""
    zero = m.dtype.type(0)
    for j in range(len(total)):
        taken = later[j] * beta[j] if reset == SUBTRACT_FIRST else later[j]
        total[j] -= taken if m[j] > level[j] else zero


@kernel
def _from_later(g: Row, later: Row, m: Row, beta: Row, level: Row, reset: int) -> None:
    """Add what comes back over the step after this one, through decay and reset."""
    zero = m.dtype.type(0)
    if reset == ZERO:
        for j in range(len(g)):
            g[j] = fma(zero if m[j] > level[j] else later[j], beta[j], g[j])
    else:
        for j in range(len(g)):
            g[j] = fma(later[j], beta[j], g[j])


@kernel
def sum_over_time(x: Rows, total: Row) -> None:
    """Sum [T, N] in the order of ``torch.sum``: groups of 16 steps, then groups of 16 such groups, ..."""
    power = 4
    while 2 ** (4 * power) < len(x):
        power += 1
    levels = np.zeros((4, len(total)), total.dtype)
    for t in range(1, len(x) + 1):
        levels[0] += x[t - 1]
        upper = 1
        while upper < 4 and t % 2 ** (upper * power) == 0:  # a group is full
            levels[upper] += levels[upper - 1]
            levels[upper - 1] = 0
            upper += 1
    total[:] = levels[0] + levels[1] + levels[2] + levels[3]


@kernel
def _backward(
    first: int,
    last: int,
    mem: Rows,
    grad_spk: Rows,
    grad_mem: Rows,
    alike: bool,
    decay: Row,
    threshold: Row,
    reset: int,
    slope: int,
    a: float,
    b: float,
    grad: Rows,
    grad_half: Rows,
    grad_first: Row,
    by_decay: Row,
    by_threshold: Row,
) -> None:
    apart = len(grad) < len(mem)  # float32 is not what is kept
    still = apart and len(grad_half) == 0  # of a still current, only the sum over time is kept
    work = np.empty((len(mem), BLOCK), mem.dtype) if apart else grad
    space = np.empty(BLOCK, mem.dtype)
    for left in range(first, last, BLOCK):
        right = min(left + BLOCK, last)
        beta = block_of(decay, left, right)
        level = block_of(threshold, left, right)
        at = 0 if apart else left
        g = work[0, at : at + right - left]
        for t in range(len(mem) - 1, -1, -1):
            later = g
            m = mem[t, left:right]
            g = work[t, at : at + right - left]
            if alike and t < len(mem) - 1:
                gs = widened(grad_spk[t if len(grad_spk) > 1 else 0, left:right], space)
                _back_alike(g, later, m, gs, decay[0], threshold[0], slope, a, b)
                continue
            if slope == SILENT:
                g[:] = 0
            else:
                gs = widened(grad_spk[t if len(grad_spk) > 1 else 0, left:right], space)
                at_spikes(g, m, gs, level, slope, a, b)
            if len(by_threshold):
                by_threshold[left:right] -= g
            if len(grad_mem):
                g += grad_mem[t if len(grad_mem) > 1 else 0, left:right]
            if t < len(mem) - 1:
                if len(by_threshold) and reset <= SUBTRACT_FIRST:
                    _to_threshold(by_threshold[left:right], later, m, beta, level, reset)
                if len(by_decay):
                    _to_beta(by_decay[left:right], later, m, level, reset)
                _from_later(g, later, m, beta, level, reset)
        if len(grad_first):
            grad_first[left:right] = g
        narrow(work, grad_half, left, right)
        if still:
            sum_over_time(work[:, : right - left], grad[0, left:right])


def leaky_backward(
    mem: torch.Tensor,
    grad_spk: torch.Tensor | None,
    grad_mem: torch.Tensor | None,
    surrogate: Surrogate,
    back: Any,
    still: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Do what ``leaky_scan.leaky_backward`` does; gradients of thresholds are summed in another order."""
    slope, a, b = formula(surrogate) if grad_spk is not None else (SILENT, 0.0, 0.0)
    summed = still and slope != GIVEN and mem.shape[1] % SUM_GROUP == 0
    half = grad_spk is not None and grad_spk.dtype == torch.bfloat16 and slope != GIVEN and not still
    nothing = mem.new_empty(0)
    grad = torch.empty_like(mem[:0] if half else mem[:1] if summed else mem)
    grad_half = torch.empty_like(mem if half else mem[:0], dtype=torch.bfloat16)
    first_apart = back.wanted and (summed or half or not len(mem))
    grad_first = mem.new_zeros(mem.shape[1]) if first_apart else nothing
    if len(mem):
        if slope == GIVEN and grad_spk is not None:  # a derivative that only PyTorch knows
            torch.mul(surrogate(mem - back.threshold), grad_spk, out=grad)
        arriving = [mem.new_empty(0, 0) if g is None else rows(g, mem) for g in (grad_spk, grad_mem)]
        learned = [nothing if total is None else total for total in (back.by_decay, back.by_threshold)]
        row = [row_of(x) for x in (back.decay, back.threshold)]
        plain = slope in (ATAN, FAST_SIGMOID) and back.reset != "zero" and grad_mem is None
        fixed = back.by_decay is None and back.by_threshold is None
        alike = plain and fixed and _alike(back.decay, back.threshold)
        numbers = [mem.numpy().dtype.type(x) for x in (a, b)]
        settings = (alike, *row, RESETS[back.reset], slope, *numbers)
        results = grad, grad_half, grad_first, *learned
        each_block(_backward, mem.shape[1], mem, *arriving, *settings, *results)
    first = grad_first if first_apart or not len(grad) else grad[0]
    if half:
        return grad_half, first
    return grad.sum(0, keepdim=True) if still and not summed else grad, first


def formula(surrogate: Surrogate) -> tuple[int, float, float]:
    """Give the number of the slope's formula, and the two numbers in it."""
    kind, a, b = surrogates.formula(surrogate)
    return FORMULAS[kind], a, b
