"""The twins of ``recurrent.alif``: all steps at once, or, with recurrent weights, all but the matrix product.

A recurrent layer multiplies a matrix in each step, which PyTorch does; the loops here do what is around it.
"""

from typing import Any

from snn_course.networks.compiled.leaky import ATAN, GIVEN, at_spikes, formula
from snn_course.networks.compiled.tools import BLOCK, Row, Rows, array, each_block, fma, kernel
from snn_course.networks.surrogates import Surrogate

import torch

# ---------------------------------------------------------------------- forward


@kernel
def _fire(s: Row, m: Row, a: Row, jump: Row, threshold: float) -> None:
    """Write the spikes of one step; ``a`` is empty without adaptation."""
    zero, one = m.dtype.type(0), m.dtype.type(1)
    if len(a):
        for j in range(len(s)):
            s[j] = one if fma(-a[j], jump[j], m[j]) > threshold else zero
    else:
        for j in range(len(s)):
            s[j] = one if m[j] > threshold else zero


@kernel
def _forward(
    first: int,
    last: int,
    begin: int,
    end: int,
    cur: Rows,
    beta: Row,
    rho: Row,
    jump: Row,
    threshold: float,
    mem: Rows,
    spk: Rows,
    adapt: Rows,
) -> None:
    """Finish steps begin ... end - 1. Before each, mem holds what decay, current and weights gave it."""
    for left in range(first, last, BLOCK):
        here = slice(left, min(left + BLOCK, last))
        for t in range(begin, end):
            m = mem[t, here]
            if t > 0:
                fired = spk[t - 1, here]
                for j in range(len(m)):
                    m[j] -= fired[j] * threshold
            a = m[:0]
            if len(adapt):
                a = adapt[t, here]
                if t > 0:
                    old = adapt[t - 1, here]
                    decay = rho[here]
                    fired = spk[t - 1, here]
                    for j in range(len(a)):
                        a[j] = fma(old[j], decay[j], fired[j])
                else:
                    a[:] = 0
            _fire(spk[t, here], m, a, jump[here], threshold)
            if t + 1 < len(mem):
                after = mem[t + 1, here]
                x = cur[t + 1, here]
                b = beta[here]
                for j in range(len(m)):
                    after[j] = fma(m[j], b[j], x[j])


def alif_forward(
    cur: torch.Tensor,
    beta: torch.Tensor,
    rho: torch.Tensor,
    jump: torch.Tensor | None,
    weight: torch.Tensor | None,
    threshold: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Do what ``recurrent.alif_forward`` does."""
    cur = cur.contiguous()
    mem, spk = torch.empty_like(cur), torch.empty_like(cur)  # [T, B, N]
    adapt = None if jump is None else torch.empty_like(cur)
    if len(cur) == 0:
        return spk, mem, adapt
    mem[0] = cur[0]
    rows = [_row(x, mem) for x in (beta, rho, jump)]
    level = mem.numpy().dtype.type(threshold)
    arguments = [_flat(cur), *rows, level, _flat(mem), _flat(spk), _flat(adapt, mem)]
    if weight is None:
        each_block(_forward, mem[0].numel(), 0, len(mem), *arguments)
    else:
        arrays = [array(x) for x in arguments]
        for t in range(len(mem)):
            if t:
                mem[t].addmm_(spk[t - 1], weight.T)
            _forward(0, mem[0].numel(), t, t + 1, *arrays)
    return spk, mem, adapt


def _flat(x: torch.Tensor | None, like: torch.Tensor | None = None) -> torch.Tensor:
    """Give [T, B, N] as rows [T, B * N]; nothing at all as an empty array of the type of ``like``."""
    return x.flatten(1) if x is not None else like.new_empty(0, 0)  # type: ignore[union-attr]


def _row(x: torch.Tensor | None, like: torch.Tensor) -> torch.Tensor:
    """Spread a value per neuron, or one for all, over a row [B * N]."""
    return like.new_zeros(like[0].numel()) if x is None else x.expand_as(like[0]).reshape(-1).contiguous()


# ---------------------------------------------------------------------- backward


@kernel
def _backward(
    first: int,
    last: int,
    begin: int,
    end: int,
    mem: Rows,
    adapt: Rows,
    grad_spk: Rows,
    grad_mem: Rows,
    back: Row,
    beta: Row,
    rho: Row,
    jump: Row,
    threshold: float,
    slope: int,
    c: float,
    d: float,
    grad: Rows,
    work: Rows,
    by_beta: Row,
    by_rho: Row,
    by_jump: Row,
) -> None:
    """Go back from step end - 1 to step begin; ``back`` is what comes through the weights, or empty.

    Rows of ``work``: dL/dspk, then dL/dx; x; dL/dadapt of the step after; a row of zeros.
    """
    for left in range(first, last, BLOCK):
        here = slice(left, min(left + BLOCK, last))
        b = beta[here]
        level = work[3, here]
        for t in range(end - 1, begin - 1, -1):
            g = grad[t, here]
            by_spk = work[0, here]
            x = work[1, here]
            _at_threshold(by_spk, x, mem, adapt, t, here, jump, threshold)
            if len(back):
                by_spk += back[here]
            if len(grad_spk):
                by_spk += grad_spk[t, here]
            if len(adapt):
                by_spk += work[2, here]
            at_spikes(by_spk, x, by_spk, level, slope, c, d)  # now dL/dx
            if len(adapt):
                _through_adaptation(by_spk, adapt, t, here, jump, rho, work[2], by_rho, by_jump)
            if t + 1 < len(mem):
                later = grad[t + 1, here]
                for j in range(len(g)):
                    g[j] = fma(later[j], b[j], by_spk[j])
            else:
                g[:] = by_spk
            if len(grad_mem):
                g += grad_mem[t, here]
            if t > 0 and len(by_beta):
                total = by_beta[here]
                old = mem[t - 1, here]
                for j in range(len(g)):
                    total[j] = fma(g[j], old[j], total[j])


@kernel
def _plain_backward(
    first: int,
    last: int,
    begin: int,
    end: int,
    mem: Rows,
    grad_spk: Rows,
    back: Row,
    beta: Row,
    threshold: float,
    slope: int,
    c: float,
    d: float,
    grad: Rows,
    work: Rows,
) -> None:
    """Do what ``_backward`` does, in fewer passes, where nothing adapts and only spikes have gradients."""
    for left in range(first, last, BLOCK):
        here = slice(left, min(left + BLOCK, last))
        b = beta[here]
        for t in range(end - 1, begin - 1, -1):
            by_spk = grad_spk[t, here]
            if len(back):
                by_spk = work[0, here]
                by_spk[:] = back[here] + grad_spk[t, here]
            later = grad[t + 1, here] if t + 1 < len(mem) else work[3, here]  # zeros
            _plain_step(grad[t, here], later, mem[t, here], by_spk, b, threshold, slope, c, d)


@kernel
def _plain_step(
    g: Row, later: Row, m: Row, by_spk: Row, b: Row, threshold: float, slope: int, c: float, d: float
) -> None:
    one = m.dtype.type(1)
    if slope == ATAN:
        for j in range(len(g)):
            x = (m[j] - threshold) * c
            g[j] = fma(later[j], b[j], one / (x * x + d) * by_spk[j])
    else:
        for j in range(len(g)):
            x = abs(m[j] - threshold) * c + one
            g[j] = fma(later[j], b[j], one / (x * x) * by_spk[j])


@kernel
def _at_threshold(
    by_spk: Row, x: Row, mem: Rows, adapt: Rows, t: int, here: Any, jump: Row, threshold: float
) -> None:
    """Write mem - threshold - jump adapt into x, and clear dL/dspk."""
    by_spk[:] = 0
    m = mem[t, here]
    for j in range(len(x)):
        x[j] = m[j] - threshold
    if len(adapt):
        a = adapt[t, here]
        lift = jump[here]
        for j in range(len(x)):
            x[j] = fma(-a[j], lift[j], x[j])


@kernel
def _through_adaptation(
    by_spk: Row, adapt: Rows, t: int, here: Any, jump: Row, rho: Row, later: Row, by_rho: Row, by_jump: Row
) -> None:
    """Take dL/dx to the adaptation, and what it gives rho and jump."""
    a = adapt[t, here]
    total = by_jump[here]
    for j in range(len(a)):
        total[j] = fma(-by_spk[j], a[j], total[j])
    lift = jump[here]
    decay = rho[here]
    now = later[here]
    for j in range(len(a)):
        now[j] = fma(-by_spk[j], lift[j], now[j] * decay[j])
    if t > 0:
        old = adapt[t - 1, here]
        total = by_rho[here]
        for j in range(len(a)):
            total[j] = fma(now[j], old[j], total[j])


def knows(surrogate: Surrogate) -> bool:
    """Say whether the way back can run compiled."""
    return formula(surrogate)[0] != GIVEN


def alif_backward(
    saved: tuple[Any, ...],
    grad_spk: torch.Tensor | None,
    grad_mem: torch.Tensor | None,
    threshold: float,
    surrogate: Surrogate,
    learn_beta: bool,
) -> tuple[torch.Tensor, ...]:
    """Do what ``recurrent.alif_backward`` does."""
    mem, _, adapt, beta, rho, jump, weight = saved
    grad, row = torch.empty_like(mem), mem.shape[1:].numel()
    sums = mem.new_zeros(3, row)  # by beta, rho and jump
    if len(mem):
        kind, *numbers = formula(surrogate)
        scalars = [mem.numpy().dtype.type(x) for x in (threshold, *numbers)]
        rows = [_row(x, mem) for x in (beta, rho, jump)]
        parts = [_flat(x if x is None else x.contiguous(), mem) for x in (adapt, grad_spk, grad_mem)]
        ends = [_flat(grad), mem.new_zeros(4, row), sums[0] if learn_beta else sums[0, :0], sums[1], sums[2]]
        settings = [*rows, scalars[0], kind, *scalars[1:], *ends]
        function = _backward
        if adapt is None and grad_mem is None and grad_spk is not None and not learn_beta:
            function = _plain_backward
            parts = parts[1:2]
            settings = [rows[0], scalars[0], kind, *scalars[1:], *ends[:2]]
        if weight is None:
            each_block(function, row, 0, len(mem), _flat(mem), *parts, mem.new_empty(0), *settings)
        else:
            before, after = ([array(x) for x in part] for part in ([_flat(mem), *parts], settings))
            back = torch.zeros_like(mem[0])
            for t in reversed(range(len(mem))):
                if t + 1 < len(mem):
                    torch.mm(grad[t + 1], weight, out=back)
                function(0, row, t, t + 1, *before, array(back.flatten()), *after)
    return grad, *(total.view(mem.shape[1:]) for total in sums)
