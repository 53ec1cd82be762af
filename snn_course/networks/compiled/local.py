"""The twins of lesson 15's loops: winners that compete, and the traces of STDP.

They stand here, not beside the rules, since they are loops over neurons and steps like the other twins.
"""

from snn_course.networks.compiled.tools import Row, Rows, array, kernel

import numpy as np
import torch


@kernel
def _currents(spk: Rows, weight: Rows, cur: Rows) -> None:
    """Add up, for each row, the weights [P, N] of what is not 0 in it: four rows of weights at a time."""
    where = np.empty(spk.shape[1], np.int64)
    for r in range(len(spk)):
        s = spk[r]
        c = cur[r]
        count = 0
        for p in range(len(s)):
            where[count] = p
            count += s[p] != 0
        c[:] = 0
        fours = count - count % 4
        for k in range(0, fours, 4):
            p, q, u, v = where[k], where[k + 1], where[k + 2], where[k + 3]
            _add_four(c, weight[p], weight[q], weight[u], weight[v], s[p], s[q], s[u], s[v])
        for k in range(fours, count):
            w = weight[where[k]]
            x = s[where[k]]
            for j in range(len(c)):
                c[j] += x * w[j]


@kernel
def _add_four(c: Row, w0: Row, w1: Row, w2: Row, w3: Row, x0: float, x1: float, x2: float, x3: float) -> None:
    for j in range(len(c)):
        c[j] += (x0 * w0[j] + x1 * w1[j]) + (x2 * w2[j] + x3 * w3[j])


def currents(spk: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Give ``spk @ weight.T`` [T, B, N] for few spikes [T, B, P]; sums are made in another order."""
    cur = spk.new_empty(*spk.shape[:2], len(weight))
    _currents(array(spk.contiguous().flatten(0, 1)), array(weight.T.contiguous()), array(cur.flatten(0, 1)))
    return cur


@kernel
def _sums_at_spikes(out: Rows, trace: Rows, total: Rows) -> None:
    for r in range(len(out)):
        s = out[r]
        x = trace[r]
        for n in range(len(s)):
            if s[n] != 0:
                row = total[n]
                for p in range(len(x)):
                    row[p] += s[n] * x[p]


def sums_at_spikes(out: torch.Tensor, trace: torch.Tensor) -> torch.Tensor:
    """Give the sum [N, P] of traces [T, B, P] over the few spikes [T, B, N] of each neuron."""
    total = trace.new_zeros(out.shape[2], trace.shape[2])
    _sums_at_spikes(*(array(x.contiguous().flatten(0, 1)) for x in (out, trace)), array(total))
    return total


@kernel
def _compete(
    cur: np.ndarray, mem: Rows, threshold: Row, beta: float, gain: float, due: float, out: np.ndarray
) -> None:
    one = mem.dtype.type(1)
    wins = np.empty_like(threshold)
    for t in range(len(cur)):
        wins[:] = 0
        for b in range(len(mem)):
            m = mem[b]
            x = cur[t, b]
            for j in range(len(m)):
                m[j] = m[j] * beta + x[j]
            winner = 0
            for j in range(1, len(m)):
                if m[j] - threshold[j] > m[winner] - threshold[winner]:
                    winner = j
            if m[winner] - threshold[winner] > 0:
                out[t, b, winner] = one
                wins[winner] += one
                m[:] = 0
        for j in range(len(threshold)):
            threshold[j] += gain * (wins[j] - due)


def compete(cur: torch.Tensor, threshold: torch.Tensor, beta: float, gain: float, due: float) -> torch.Tensor:
    """Let neurons compete in each step: at most one spike for each sample, then all are at rest.

    Args:
        cur: currents [T, B, N].
        threshold: [N], raised by ``gain`` for each own spike, lowered by ``gain * due`` a step, in place.
        beta: share of the membrane that stays after a step.
        gain: see threshold.
        due: spikes a step that are a neuron's share.

    Returns: spikes [T, B, N].
    """
    out = torch.zeros_like(cur)
    numbers = [cur.numpy().dtype.type(x) for x in (beta, gain, due)]
    _compete(array(cur.contiguous()), array(torch.zeros_like(cur[0])), array(threshold), *numbers, array(out))
    return out


@kernel
def _peak_traces(spk: Rows, decay: float, trace: Rows) -> None:
    for t in range(len(spk)):
        x = spk[t]
        now = trace[t]
        if t > 0:
            old = trace[t - 1]
            for j in range(len(x)):
                now[j] = max(old[j] * decay, x[j])
        else:
            now[:] = x


def peak_traces(spk: torch.Tensor, decay: float) -> torch.Tensor:
    """Give traces [T, B, P] of spikes: set to 1 by a spike, then decaying."""
    trace = torch.empty_like(spk, memory_format=torch.contiguous_format)
    number = spk.numpy().dtype.type(decay)
    _peak_traces(array(spk.contiguous().flatten(1)), number, array(trace.flatten(1)))
    return trace
