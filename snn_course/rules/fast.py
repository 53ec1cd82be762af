"""The loops of lesson 15 over many neurons, made fast. The lesson writes each out, and proves it equal.

On a CPU they run compiled once that pays (see ``networks.twins``); elsewhere, and before, in PyTorch.
"""

from snn_course.networks import twins

import torch


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


def advance_eligibility(
    arrived: torch.Tensor,
    adapted: torch.Tensor,
    trace: torch.Tensor,
    smooth: torch.Tensor,
    slope: torch.Tensor,
    lift: torch.Tensor,
    rho: float,
    kappa: float,
) -> None:
    """Take e-prop's traces of all synapses one step on, in place: adapted, trace, smooth [N, B, J].

    Args:
        arrived: what has arrived at each synapse, as the membrane remembers it [B, J].
        adapted: d adaptation / d weight.
        trace: d spike / d weight.
        smooth: the same, as the read-out smooths it.
        slope: of the spikes [B, N].
        lift: what an own spike adds to a neuron's threshold [N].
        rho: share of the adaptation that stays after a step.
        kappa: share of the read-out that stays after a step.
    """
    if twin := twins.compiled(adapted, 1):
        twin.eligibility(arrived, adapted, trace, smooth, slope, lift, rho, kappa)
        return
    adapted.mul_(rho).add_(trace)
    torch.mul(adapted, -lift[:, None, None], out=trace).add_(arrived).mul_(slope.T[:, :, None])
    smooth.mul_(kappa).add_(trace)
