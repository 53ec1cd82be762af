"""The twin of ``leaky_scan.leaky_forward``: the same recurrence, block by block, in one pass over time."""

from typing import Any

from snn_course.networks.compiled.tools import (
    BLOCK,
    Row,
    Rows,
    block_of,
    each_block,
    kernel,
    row_of,
    rows,
    widened,
)

import numpy as np
import torch

SUBTRACT, SUBTRACT_FIRST, ZERO, NONE = range(4)
RESETS = {"subtract": SUBTRACT, "subtract first": SUBTRACT_FIRST, "zero": ZERO, "none": NONE}
SPIKE_IN_BFLOAT16 = 0x3F80
"""The bits of 1.0."""


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
    shared: bool,
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
            if shared:
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
    settings = (alike(decay, threshold), *row, RESETS[reset])
    each_block(_forward, mem.shape[1], rows(cur, mem), *settings, mem, spk, one)
    return spk.to(cur.dtype), mem


def alike(decay: torch.Tensor, threshold: torch.Tensor) -> bool:
    """Say whether all neurons have one beta and one threshold: then fewer numbers are read."""
    return decay.stride(0) == threshold.stride(0) == 0
