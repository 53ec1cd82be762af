"""The twin of ``leaky_scan.leaky_backward``: block by block, in one pass back over the steps."""

from typing import Any

from snn_course.networks.compiled.leaky import RESETS, SUBTRACT_FIRST, ZERO, alike
from snn_course.networks.compiled.slopes import (
    ATAN,
    FAST_SIGMOID,
    GIVEN,
    SILENT,
    at_spikes,
    back_at_once,
    formula,
)
from snn_course.networks.compiled.tools import (
    BLOCK,
    SUM_GROUP,
    Row,
    Rows,
    block_of,
    each_block,
    fma,
    kernel,
    narrow,
    row_of,
    rows,
    sum_over_time,
    widened,
)
from snn_course.networks.surrogates import Surrogate

import numpy as np
import torch


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
def _back_step(
    g: Row, later: Row, m: Row, beta: Row, level: Row, reset: int, to_beta: Row, to_level: Row
) -> None:
    """Add to dL/dmem g what comes back from the step after, and what beta and threshold get there."""
    if len(to_level) and reset <= SUBTRACT_FIRST:
        _to_threshold(to_level, later, m, beta, level, reset)
    if len(to_beta):
        _to_beta(to_beta, later, m, level, reset)
    _from_later(g, later, m, beta, level, reset)


# ---------------------------------------------------------------------- a block through all steps


@kernel
def _arriving(grads: Rows, t: int, left: int, right: int, space: Row) -> Row:
    """Give what arrives at a block at step t; if that is the same at each step, there is one row of it."""
    return widened(grads[t if len(grads) > 1 else 0, left:right], space)


@kernel
def _back_alike(
    left: int,
    right: int,
    mem: Rows,
    grad_spk: Rows,
    beta: Row,
    level: Row,
    slope: int,
    a: float,
    b: float,
    work: Rows,
    at: int,
) -> None:
    """Do what ``_back_through`` does, where ``back_at_once`` can: neurons are alike, nothing learns."""
    space = np.empty(BLOCK, mem.dtype)
    last = len(mem) - 1
    one_beta, one_level = beta[0], level[0]
    later = work[last, at : at + right - left]
    gs = _arriving(grad_spk, last, left, right, space)
    at_spikes(later, mem[last, left:right], gs, level, slope, a, b)
    for t in range(last - 1, -1, -1):
        g = work[t, at : at + right - left]
        gs = _arriving(grad_spk, t, left, right, space)
        back_at_once(g, later, mem[t, left:right], gs, one_beta, one_level, slope, a, b)
        later = g


@kernel
def _back_through(
    left: int,
    right: int,
    mem: Rows,
    grad_spk: Rows,
    grad_mem: Rows,
    beta: Row,
    level: Row,
    reset: int,
    slope: int,
    a: float,
    b: float,
    work: Rows,
    at: int,
    to_beta: Row,
    to_level: Row,
) -> None:
    """Take a block of neurons back; dL/dmem are written to the columns at ... of ``work``."""
    space = np.empty(BLOCK, mem.dtype)
    later = work[0, :0]
    for t in range(len(mem) - 1, -1, -1):
        m = mem[t, left:right]
        g = work[t, at : at + right - left]
        if slope == SILENT:
            g[:] = 0
        else:
            gs = _arriving(grad_spk, t, left, right, space)
            at_spikes(g, m, gs, level, slope, a, b)
        if len(to_level):
            to_level -= g
        if len(grad_mem):
            g += _arriving(grad_mem, t, left, right, space)
        if len(later):
            _back_step(g, later, m, beta, level, reset, to_beta, to_level)
        later = g


@kernel
def _backward(
    first: int,
    last: int,
    mem: Rows,
    grad_spk: Rows,
    grad_mem: Rows,
    at_once: bool,
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
    work = np.empty((len(mem), BLOCK), mem.dtype) if apart else grad
    for left in range(first, last, BLOCK):
        right = min(left + BLOCK, last)
        at = 0 if apart else left
        beta, level = block_of(decay, left, right), block_of(threshold, left, right)
        if at_once:
            _back_alike(left, right, mem, grad_spk, beta, level, slope, a, b, work, at)
        else:
            law = beta, level, reset, slope, a, b
            learned = by_decay[left:right], by_threshold[left:right]
            _back_through(left, right, mem, grad_spk, grad_mem, *law, work, at, *learned)
        if len(grad_first):
            grad_first[left:right] = work[0, at : at + right - left]
        narrow(work, grad_half, left, right)
        if apart and len(grad_half) == 0:  # of a still current, only the sum over time is kept
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
        at_once = plain and fixed and alike(back.decay, back.threshold)
        numbers = [mem.numpy().dtype.type(x) for x in (a, b)]
        settings = (at_once, *row, RESETS[back.reset], slope, *numbers)
        results = grad, grad_half, grad_first, *learned
        each_block(_backward, mem.shape[1], mem, *arriving, *settings, *results)
    first = grad_first if first_apart or not len(grad) else grad[0]
    if half:
        return grad_half, first
    return grad.sum(0, keepdim=True) if still and not summed else grad, first
