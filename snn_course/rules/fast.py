"""The loops of lesson 15 over many neurons, made fast. The lesson writes each out, and proves it equal.

On a CPU they run compiled once that pays (see ``networks.twins``); elsewhere, and before, in PyTorch.
"""

from typing import Any

from snn_course.networks import twins
from snn_course.rules.eprop_tasks import Batch

import torch
from torch.nn.functional import one_hot

Seen = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""What has arrived at synapses [T, B, J]; slopes of the spikes, and learning signals [T, B, N]."""


def currents(spk: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Give the currents [T, B, N] that spikes [T, B, P] send through weights [N, P].

    Compiled, only the weights of spikes are added; that is another order of the sums than PyTorch's.
    """
    if twin := twins.compiled(spk[0], len(spk)):
        return twin.currents(spk, weight)
    return spk @ weight.T


def sums_at_spikes(out: torch.Tensor, trace: torch.Tensor) -> torch.Tensor:
    """Give the sum [N, P] of the traces [T, B, P] that each neuron finds when it fires, from [T, B, N].

    The order of the sums differs as in ``currents``.
    """
    if twin := twins.compiled(trace[0], len(trace)):
        return twin.sums_at_spikes(out, trace)
    return out.flatten(0, 1).T @ trace.flatten(0, 1)


def compete(cur: torch.Tensor, threshold: torch.Tensor, beta: float, gain: float, due: float) -> torch.Tensor:
    """Let neurons compete: in each step and sample, the one that is highest above its threshold fires alone.

    Args:
        cur: currents [T, B, N].
        threshold: [N]; in each step, ``gain`` times (own wins - ``due``) is added, in place.
        beta: share of the membrane that stays after a step; a win takes all membranes of its sample to 0.
        gain: see threshold.
        due: wins in a step that are a neuron's share.

    Returns: spikes [T, B, N].
    """
    if twin := twins.compiled(cur[0], len(cur)):
        return twin.compete(cur, threshold, beta, gain, due)
    mem = torch.zeros_like(cur[0])  # [B, N]
    out = torch.zeros_like(cur)
    for cur_t, out_t in zip(cur.unbind(0), out.unbind(0), strict=True):
        mem = beta * mem + cur_t
        over, winner = (mem - threshold).max(1)
        fired = (over > 0)[:, None].to(mem.dtype)
        out_t.scatter_(1, winner[:, None], fired)
        mem *= 1 - fired
        threshold += gain * (out_t.sum(0) - due)
    return out


def peak_traces(spk: torch.Tensor, decay: float) -> torch.Tensor:
    """Give the traces [T, ...] of spikes [T, ...]: 1 at a spike, then decaying."""
    if twin := twins.compiled(spk[0], len(spk)):
        return twin.peak_traces(spk, decay)
    trace = torch.zeros_like(spk[0])
    traces = []
    for spk_t in spk.unbind(0):
        trace = torch.maximum(decay * trace, spk_t)
        traces.append(trace)
    return torch.stack(traces)


@torch.no_grad()
def eprop(
    net: Any, batch: Batch, alpha: float, kappa: float, back: torch.Tensor | None = None
) -> torch.Tensor | None:
    """Do what lesson 15's ``eprop`` does in two pieces: first the network, then the traces of its synapses.

    Of each step it holds, for each sample, what has arrived at J synapses, and a slope and a signal for each
    of N neurons: so its memory grows with T. The traces, N x J of them, are made one neuron after another.

    Args:
        net: its ``weight`` [N, J] and ``out`` [K, N] get their gradients, up to rounding those of ``eprop``.
        batch: inputs [T, B, I], labels [B], and what each step's error counts [T].
        alpha: share of a membrane that stays after a step.
        kappa: the same for the read-out.
        back: carries errors back [K, N], in place of ``net.out``.

    Returns:
        The mean answer [B, K]. None, with nothing done, where the traces shall not run compiled.
    """
    x = batch[0]
    each = net.weight.expand(x.shape[1], *net.weight.shape)  # size of a step's traces: [B, N, J]
    twin = twins.compiled(each, len(x))
    if twin is None:
        return None
    answer, seen = _seen_by_synapses(net, batch, alpha, kappa, net.out if back is None else back)
    net.weight.grad = twin.eprop_gradient(*seen, net.lift, net.rho, kappa)
    return answer


def _seen_by_synapses(
    net: Any, batch: Batch, alpha: float, kappa: float, way: torch.Tensor
) -> tuple[torch.Tensor, Seen]:
    """Run the network, and learn its read-out. Returns: mean answer, and what each step tells synapses."""
    x, y, when = batch
    state = net.start(x)
    target = one_hot(y, len(net.out)).to(x.dtype)
    arrived = x.new_zeros(*x.shape[:2], net.weight.shape[1])
    slopes = x.new_zeros(*x.shape[:2], len(net.weight))
    signals = torch.zeros_like(slopes)
    now = x.new_zeros(arrived.shape[1:])
    sent = torch.zeros_like(state[0])  # spikes, as the read-out smooths them [B, N]
    answer = torch.zeros_like(state[-1])
    net.out.grad = torch.zeros_like(net.out)
    for t, share in enumerate(when.tolist()):
        state, pre, slopes[t] = net.step(x[t], state)
        now.mul_(alpha).add_(pre)
        arrived[t] = now
        sent = kappa * sent + state[2]
        if share > 0:
            error = share * (state[-1].softmax(1) - target) / len(y)  # d loss / d out of this step [B, K]
            signals[t] = error @ way
            net.out.grad += error.T @ sent
            answer += share * state[-1]
    return answer, (arrived, slopes, signals)
