"""The twins of ``recurrent.alif``: all steps at once, or, with recurrent weights, all but the matrix product.

A recurrent layer multiplies a matrix in each step, which PyTorch does; the loops here do what is around it.
"""

from typing import Any

from snn_course.networks.compiled.slopes import at_spikes, back_at_once, formula
from snn_course.networks.compiled.tools import BLOCK, Row, Rows, array, each_block, fma, kernel
from snn_course.networks.surrogates import Surrogate

import torch

# ---------------------------------------------------------------------- forward


@kernel
def _take_reset(m: Row, fired: Row, threshold: float) -> None:
    """Subtract the threshold where a neuron fired one step before."""
    for j in range(len(m)):
        m[j] -= fired[j] * threshold


@kernel
def _adapt(a: Row, old: Row, decay: Row, fired: Row) -> None:
    """Write the adaptation of one step, from that of the step before and its spikes."""
    for j in range(len(a)):
        a[j] = fma(old[j], decay[j], fired[j])


@kernel
def _decay(after: Row, m: Row, b: Row, x: Row) -> None:
    """Write what is left of the membrane, and the current, into that of the step after."""
    for j in range(len(m)):
        after[j] = fma(m[j], b[j], x[j])


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
                _take_reset(m, spk[t - 1, here], threshold)
            a = m[:0]
            if len(adapt):
                a = adapt[t, here]
                if t > 0:
                    _adapt(a, adapt[t - 1, here], rho[here], spk[t - 1, here])
                else:
                    a[:] = 0
            _fire(spk[t, here], m, a, jump[here], threshold)
            if t + 1 < len(mem):
                _decay(mem[t + 1, here], m, beta[here], cur[t + 1, here])


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
    law: Rows,
    numbers: Row,
    slope: int,
    grad: Rows,
    work: Rows,
    sums: Rows,
    learn_beta: bool,
) -> None:
    """Go back from step end - 1 to step begin; ``back`` is what comes through the weights, or empty.

    Rows of ``law``: beta, rho, jump; of ``sums``: their gradients. ``numbers``: threshold, two of the slope.
    Rows of ``work``: dL/dspk, then dL/dx; x; dL/dadapt of the step after; a row of zeros.
    """
    by_beta = sums[0] if learn_beta else sums[0, :0]
    for left in range(first, last, BLOCK):
        here = slice(left, min(left + BLOCK, last))
        by_x = work[0, here]
        x = work[1, here]
        for t in range(end - 1, begin - 1, -1):
            _at_threshold(by_x, x, mem, adapt, t, here, law[2], numbers[0])
            if len(back):
                by_x += back[here]
            if len(grad_spk):
                by_x += grad_spk[t, here]
            if len(adapt):
                by_x += work[2, here]
            at_spikes(by_x, x, by_x, work[3, here], slope, numbers[1], numbers[2])  # was dL/dspk
            if len(adapt):
                _through_adaptation(by_x, adapt, t, here, law, work[2, here], sums)
            _through_membrane(by_x, mem, grad_mem, t, here, law[0], grad, by_beta)


@kernel
def _plain_backward(
    first: int,
    last: int,
    begin: int,
    end: int,
    mem: Rows,
    grad_spk: Rows,
    back: Row,
    law: Rows,
    numbers: Row,
    slope: int,
    grad: Rows,
    work: Rows,
) -> None:
    """Do what ``_backward`` does, in fewer passes, where nothing adapts and only spikes have gradients."""
    threshold, c, d = numbers[0], numbers[1], numbers[2]
    for left in range(first, last, BLOCK):
        here = slice(left, min(left + BLOCK, last))
        b = law[0, here]
        for t in range(end - 1, begin - 1, -1):
            by_spk = grad_spk[t, here]
            if len(back):
                by_spk = work[0, here]
                by_spk[:] = back[here] + grad_spk[t, here]
            later = grad[t + 1, here] if t + 1 < len(mem) else work[3, here]  # zeros
            back_at_once(grad[t, here], later, mem[t, here], by_spk, b, threshold, slope, c, d)


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
def _through_adaptation(by_x: Row, adapt: Rows, t: int, here: Any, law: Rows, now: Row, sums: Rows) -> None:
    """Take dL/dx to the adaptation ``now``, and what it gives rho and jump."""
    a = adapt[t, here]
    total = sums[2, here]
    for j in range(len(a)):
        total[j] = fma(-by_x[j], a[j], total[j])
    lift = law[2, here]
    decay = law[1, here]
    for j in range(len(a)):
        now[j] = fma(-by_x[j], lift[j], now[j] * decay[j])
    if t > 0:
        old = adapt[t - 1, here]
        total = sums[1, here]
        for j in range(len(a)):
            total[j] = fma(now[j], old[j], total[j])


@kernel
def _through_membrane(
    by_x: Row, mem: Rows, grad_mem: Rows, t: int, here: Any, beta: Row, grad: Rows, by_beta: Row
) -> None:
    """Write dL/dmem of step t, and add what it gives beta, if there is where to add it."""
    g = grad[t, here]
    if t + 1 < len(mem):
        later = grad[t + 1, here]
        b = beta[here]
        for j in range(len(g)):
            g[j] = fma(later[j], b[j], by_x[j])
    else:
        g[:] = by_x
    if len(grad_mem):
        g += grad_mem[t, here]
    if t > 0 and len(by_beta):
        total = by_beta[here]
        old = mem[t - 1, here]
        for j in range(len(g)):
            total[j] = fma(g[j], old[j], total[j])


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
        slope, *of_slope = formula(surrogate)
        law = torch.stack([_row(x, mem) for x in (beta, rho, jump)])
        parts = [_flat(x if x is None else x.contiguous(), mem) for x in (adapt, grad_spk, grad_mem)]
        numbers = mem.new_tensor([threshold, *of_slope])
        settings: list[Any] = [law, numbers, slope, _flat(grad), mem.new_zeros(4, row)]
        function = _backward
        if adapt is None and grad_mem is None and grad_spk is not None and not learn_beta:
            function = _plain_backward
            parts = parts[1:2]
        else:
            settings += [sums, learn_beta]
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
