"""Hidden layers of lesson 13: recurrent weights, adaptive thresholds (ALIF) in a fused scan, gates.

    spk, mem = alif(cur, beta=0.9, rho=0.99, jump=1.8)            # cur, spk, mem: [T, B, N]; time is axis 0
    spk, mem = alif(cur, beta=0.9, weight=recurrent.weight)       # what ``snn.RLeaky`` computes

A spike goes back into its own layer here, so each step needs the step before it: the input currents of all
steps can still be computed as one batch, the scan cannot. It is fast for the reasons given in ``neurons``.

Forward, with r = spk; each spike acts one step later, on the reset, the threshold and the other neurons:

    mem[t]   = beta mem[t-1] + cur[t] + weight r[t-1] - r[t-1] threshold
    adapt[t] = rho adapt[t-1] + r[t-1]
    r[t]     = 1 where mem[t] > threshold + jump adapt[t]

Backward, with h the surrogate derivative at x = mem - threshold - jump adapt, the reset term held constant
("detached", as in snnTorch), and gs and gm the gradients that arrive at spk and mem from outside:

    dL/dr[t]     = gs[t] + weight^T dL/dmem[t+1] + dL/dadapt[t+1]
    dL/dmem[t]   = gm[t] + h dL/dr[t] + beta dL/dmem[t+1]            (= dL/dcur[t])
    dL/dadapt[t] = - jump h dL/dr[t] + rho dL/dadapt[t+1]

Sources: Bellec et al. (2018), sec. 2, and (2020), eq. 6 to 8 (there a spike of step t acts at t + 1, too);
the membrane is that of ``snn.Leaky`` and ``snn.RLeaky`` 1.0, and checked against them.
"""

import math
from collections.abc import Sequence
from typing import Any

from snn_course.networks import twins
from snn_course.networks.surrogates import ATAN, Surrogate, derivative, fire

import torch
from torch import nn


def alif(
    cur: torch.Tensor,
    beta: float | torch.Tensor,
    rho: float | torch.Tensor = 0.0,
    jump: float | torch.Tensor | None = None,
    weight: torch.Tensor | None = None,
    threshold: float = 1.0,
    surrogate: Surrogate = ATAN,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Run adaptive, recurrent leaky neurons over all time steps, from zero; the reset subtracts.

    Args:
        cur: input current [T, B, N].
        beta: share of the membrane that stays after a step, 0..1: a number, or [N].
        rho: share of the adaptation that stays after a step, 0..1: a number, or [N].
        jump: by how much a spike lifts the neuron's threshold: a number, or [N]; None has no adaptation.
        weight: recurrent weights [N, N], row i into neuron i, as in ``nn.Linear``; None has no recurrence.
        threshold: threshold of a neuron that has not fired.
        surrogate: derivative of the spike; only the backward pass uses it.

    Returns:
        Spikes 0 or 1 and membranes, [T, B, N]. Gradients flow from both into cur, beta, rho, jump, weight.

    Raises:
        ValueError: for a cur that is not [T, B, N].
    """
    if cur.dim() != 3:
        raise ValueError(f"cur must be [T, B, N], not {list(cur.shape)}")
    decays = [torch.as_tensor(value, dtype=cur.dtype, device=cur.device) for value in (beta, rho)]
    lift = None if jump is None else torch.as_tensor(jump, dtype=cur.dtype, device=cur.device)
    return _AlifScan.apply(cur, *decays, lift, weight, threshold, derivative(surrogate))


class _AlifScan(torch.autograd.Function):
    """The recurrences at the top of this module; ``twins`` says when they run compiled."""

    @staticmethod
    def forward(
        ctx: Any,
        cur: torch.Tensor,
        beta: torch.Tensor,
        rho: torch.Tensor,
        jump: torch.Tensor | None,
        weight: torch.Tensor | None,
        threshold: float,
        surrogate: Surrogate,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        twin = twins.compiled(cur.new_empty(cur.shape[1:]), len(cur))
        forward = twin.alif_forward if twin else alif_forward
        spk, mem, adapt = forward(cur, beta, rho, jump, weight, threshold)
        ctx.save_for_backward(mem, spk, adapt, beta, rho, jump, weight)
        ctx.settings = threshold, surrogate
        ctx.back = twin.alif_backward if twin and twin.knows(surrogate) else alif_backward
        ctx.set_materialize_grads(False)  # the gradient of an unused result is None, not zeros
        return spk, mem

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_spk: torch.Tensor | None, grad_mem: torch.Tensor | None) -> Any:
        _, spk, _, beta, rho, jump, weight = saved = ctx.saved_tensors
        arriving = grad_spk, grad_mem, *ctx.settings, ctx.needs_input_grad[1]
        grad, by_beta, by_rho, by_jump = ctx.back(saved, *arriving)
        by_weight = None if weight is None else grad[1:].flatten(0, 1).T @ spk[:-1].flatten(0, 1)
        sums = [total.sum_to_size(to.shape) for total, to in ((by_beta, beta), (by_rho, rho))]
        by_lift = None if jump is None else by_jump.sum_to_size(jump.shape)
        return grad, *sums, by_lift, by_weight, None, None


def alif_forward(
    cur: torch.Tensor,
    beta: torch.Tensor,
    rho: torch.Tensor,
    jump: torch.Tensor | None,
    weight: torch.Tensor | None,
    threshold: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Give spikes, membranes and adaptations [T, B, N]. Each step is written in place."""
    mem, spk = torch.empty_like(cur), torch.empty_like(cur)
    adapt = None if jump is None else torch.empty_like(cur)
    old_mem = old_spk = old_adapt = cur.new_zeros(cur.shape[1:])  # [B, N]
    above = torch.empty_like(old_mem)  # mem without the part of the threshold that adapts
    for t, (cur_t, mem_t, spk_t) in enumerate(zip(cur, mem, spk, strict=True)):
        torch.addcmul(cur_t, old_mem, beta, out=mem_t)
        if weight is not None:
            mem_t.addmm_(old_spk, weight.T)
        mem_t.sub_(old_spk, alpha=threshold)
        if adapt is None or jump is None:
            torch.gt(mem_t, threshold, out=spk_t)
        else:
            old_adapt = torch.addcmul(old_spk, old_adapt, rho, out=adapt[t])
            torch.gt(torch.addcmul(mem_t, old_adapt, jump, value=-1, out=above), threshold, out=spk_t)
        old_mem, old_spk = mem_t, spk_t
    return spk, mem, adapt


def alif_backward(
    saved: tuple[Any, ...],
    grad_spk: torch.Tensor | None,
    grad_mem: torch.Tensor | None,
    threshold: float,
    surrogate: Surrogate,
    learn_beta: bool,
) -> tuple[torch.Tensor, ...]:
    """Give dL/dcur [T, B, N], and what beta, rho and jump get from each neuron [B, N]."""
    mem, _, adapt, beta, rho, jump, weight = saved
    grad = torch.empty_like(mem)  # dL/dmem = dL/dcur
    later, later_adapt, by_beta, by_rho, by_jump = mem.new_zeros(5, *mem.shape[1:])  # [B, N] each
    for t in reversed(range(len(mem))):
        by_spk = torch.zeros_like(later) if weight is None else later @ weight  # dL/dr[t]
        if grad_spk is not None:
            by_spk += grad_spk[t]
        distance = mem[t] - threshold
        if adapt is not None:
            by_spk += later_adapt
            distance.addcmul_(adapt[t], jump, value=-1)
        by_spk *= surrogate(distance)  # now dL/dx
        if adapt is not None:
            by_jump.addcmul_(by_spk, adapt[t], value=-1)
            later_adapt.mul_(rho).addcmul_(by_spk, jump, value=-1)
            if t:
                by_rho.addcmul_(later_adapt, adapt[t - 1])
        later = torch.addcmul(by_spk, later, beta, out=grad[t])
        if grad_mem is not None:
            later += grad_mem[t]
        if t and learn_beta:
            by_beta.addcmul_(later, mem[t - 1])
    return grad, by_beta, by_rho, by_jump


def lstm(x: torch.Tensor, cell: nn.LSTM, before: nn.Linear | None = None) -> torch.Tensor:
    """Run an LSTM of one layer over all time steps, from zero.

    ``twins`` says when it runs compiled; else ``nn.LSTM`` itself does it. Compiled, ``before`` costs nothing:
    two linear maps in a row are one, W (F x + f) + b = (W F) x + (W f + b).

    Args:
        x: inputs [T, B, I].
        cell: its weights, as ``nn.LSTM(I or features of before, H)`` holds them.
        before: a linear layer that x goes through first.

    Returns: h [T, B, H].
    """
    weight, recurrent, *biases = (part.view_as(part) for part in cell.parameters())
    twin = twins.compiled(x.new_empty(x.shape[1], len(weight)), len(x)) if x.numel() else None
    if twin is None or torch.is_autocast_enabled(x.device.type) or x.dtype != weight.dtype:
        return cell(x if before is None else before(x))[0]
    bias = biases[0] + biases[1]
    if before is not None:
        weight, bias = weight @ before.weight, weight @ before.bias + bias
    i, f, g, o = torch.cat((recurrent, weight, bias[:, None]), 1).chunk(4)
    return twin.lstm(x, torch.cat((i, f, 2 * g, o)))


def store_recall(
    num: int, delay: int, symbols: int = 8, cue: int = 5, flicker: float = 0.05
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw sequences of a memory task: a cue, a delay, and a question for what the cue was.

    In the first ``cue`` steps one of ``symbols`` channels is on, in the last ``cue`` steps the channel after
    them; during all steps each symbol's channel flickers, with probability ``flicker``.

    Returns:
        Inputs 0 or 1, bytes [num, delay + 2 cue, symbols + 1], and the symbols 0, 1, ... [num].
    """
    asked = torch.randint(symbols, (num,))
    x = torch.rand(num, delay + 2 * cue, symbols + 1) < flicker
    x[:, :, symbols] = False
    x[torch.arange(num), :cue, asked] = True
    x[:, -cue:, symbols] = True
    return x.byte(), asked


def horizon(delays: Sequence[int], scores: Sequence[float], half: float) -> float:
    """Give the delay at which the accuracy falls to ``half``, between the delays for which it was measured.

    Delays rise by factors, so their logarithms are interpolated. A score that never falls gives the last
    delay, one that is low from the start the first.
    """
    last = next((n for n, score in enumerate(scores) if score < half), 0)
    if last == 0:
        return delays[-1] if scores[0] >= half else delays[0]
    share = (scores[last - 1] - half) / (scores[last - 1] - scores[last])
    return delays[last - 1] * (delays[last] / delays[last - 1]) ** share


class Layer(nn.Module):
    """A layer of hidden neurons over all time steps, each with what it remembers by; it starts at zero.

    Args:
        num: neurons.
        span: steps to bridge. The slow time constants begin log-uniform between span / 20 and span.
        beta: share of the membrane that stays after a step.
        recurrent: spikes go back through weights [num, num] and a bias, as in ``snn.RLeaky``.
        adaptive: each spike lifts the threshold by ``jump`` (1 at first), and it sinks back with the time
            constant exp(log_tau), in steps. Both are learned, one of each for each neuron.
        gated: an LSTM instead, whose output h is compared with a threshold, as in ``snn.SLSTM``.
        slow: slow time constants for the membrane, or for the gates ("chrono", Tallec and Ollivier 2018).
        threshold: of the spikes; a gated layer needs one well below 1.
        surrogate: derivative of the spike.
    """

    beta: torch.Tensor

    def __init__(
        self,
        num: int,
        span: float,
        beta: float = 0.9,
        recurrent: bool = False,
        adaptive: bool = False,
        gated: bool = False,
        slow: bool = False,
        threshold: float = 1.0,
        surrogate: Surrogate = ATAN,
    ) -> None:
        super().__init__()
        taus = span * (-math.log(20) * torch.rand(num)).exp()  # in steps
        self.threshold, self.surrogate = threshold, derivative(surrogate)
        self.register_buffer("beta", torch.exp(-1 / taus) if slow else torch.full((num,), beta))
        self.recurrent = nn.Linear(num, num) if recurrent else None
        self.log_tau = nn.Parameter(taus.log()) if adaptive else None
        self.jump = nn.Parameter(torch.ones(num)) if adaptive else None
        self.lstm = nn.LSTM(num, num) if gated else None
        if self.lstm is not None and slow:  # forget gate f with 1 / (1 - f) = 1 + tau, input gate 1 - f
            biases = dict(self.lstm.named_parameters())
            with torch.no_grad():
                biases["bias_hh_l0"].zero_()
                biases["bias_ih_l0"][: 2 * num] = torch.cat([-taus.log(), taus.log()])

    @property
    def rho(self) -> torch.Tensor | float:
        """Share of the adaptation that stays after a step [num]; 0 without adaptation."""
        return 0.0 if self.log_tau is None else torch.exp(-1 / self.log_tau.exp())

    @property
    def bias(self) -> torch.Tensor | float:
        """What the recurrent weights add to each step's current [num]; 0 without them."""
        return 0.0 if self.recurrent is None else self.recurrent.bias

    def settings(self) -> tuple[Any, Any, Any, torch.Tensor]:
        """Give beta, rho, jump and weight, with zeros for what is not there: what a loop over steps takes."""
        weight = self.beta.new_zeros(len(self.beta), len(self.beta))
        jump = 0.0 if self.jump is None else self.jump
        return self.beta, self.rho, jump, weight if self.recurrent is None else self.recurrent.weight

    def forward(self, cur: torch.Tensor, before: nn.Linear | None = None) -> torch.Tensor:
        """Give the spikes [T, B, num] of currents [T, B, num], or of what ``before`` makes of [T, B, I]."""
        if self.lstm is not None:
            return fire(lstm(cur, self.lstm, before) - self.threshold, self.surrogate)
        if before is not None:
            cur = before(cur)
        weight = None if self.recurrent is None else self.recurrent.weight
        cur = cur if self.recurrent is None else cur + self.bias
        return alif(cur, self.beta, self.rho, self.jump, weight, self.threshold, self.surrogate)[0]
