"""The leaky neuron over all time steps as one operation, with a backward pass of its own.

Forward, with the reset r[t] = 1 where mem[t] > threshold (it acts one step later, as in ``snn.Leaky``):

    subtract         mem[t] = beta mem[t-1] + cur[t] - r[t-1] threshold          snnTorch
    subtract first   mem[t] = beta (mem[t-1] - r[t-1] threshold) + cur[t]        SpikingJelly, Norse, sinabs
    zero             mem[t] = beta (1 - r[t-1]) mem[t-1] + cur[t]                all of them
    none             mem[t] = beta mem[t-1] + cur[t]                             spk[t] = r[t] in each

Two libraries that both "reset by subtraction" may so compute two neurons: is it subtracted before the decay?

Backward, with L the loss, h the surrogate derivative of the spike, and r held constant ("detached"):

    dL/dcur[t] = dL/dmem[t] = gm[t] + gs[t] h(mem[t] - threshold) + dL/dmem[t+1] dmem[t+1]/dmem[t]
    dL/dbeta       = sum over t of dL/dmem[t] (mem[t-1] as beta found it, after "first" or "zero" resets)
    dL/dthreshold  = - sum over t of gs[t] h(mem[t] - threshold) + dL/dmem[t] r[t-1] (beta if "first")

where gs and gm are the gradients that arrive at spk and mem from outside. dmem[t+1]/dmem[t] is beta, for
zero beta (1 - r[t]). Source: Eshraghian et al. (2023), eq. 4 and sec. IV; checked against ``snn.Leaky`` 1.0.

A row [M] is one time step of all neurons of a batch. This is the reference, on any device. On a CPU, long
scans run compiled (``compiled/``), on a GPU in Triton (``triton_scan.py``), with equal results: ``twins.py``
says when.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from snn_course.networks import twins
from snn_course.networks.surrogates import Surrogate

import torch

Reset = Literal["subtract", "subtract first", "zero", "none"]
RESETS: tuple[Reset, ...] = ("subtract", "subtract first", "zero", "none")

BLOCK = 2**17
"""Elements that the backward pass treats at a time on a CPU: 0.5 MB, so that they stay in its cache."""
SHARED_BLOCK = 2**15 - 1
"""The same with several threads: PyTorch splits longer pieces among them, and on a busy machine they wait."""

GPU_BLOCK = 2**25
"""The same on a GPU, for its memory's sake: 134 MB, of which the surrogate makes some copies."""


class LeakyScan(torch.autograd.Function):
    """The two recurrences at the top of this module, over rows [T, M]. One row is one time step.

    A still current is one row [1, M] for all ``num_steps``; what it gets back is summed over time.
    """

    @staticmethod
    def forward(
        ctx: Any,
        cur: torch.Tensor,
        decay: torch.Tensor,
        threshold: torch.Tensor,
        start: torch.Tensor,
        num_steps: int,
        reset: Reset,
        surrogate: Surrogate,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Give spikes and membranes [T, M]; cur is [T, M] or [1, M], the other tensors [M]."""
        scan: Any = twins.leaky(start, num_steps) or sys.modules[__name__]
        spk, mem = scan.leaky_forward(cur.expand(num_steps, -1), decay, threshold, start, reset)
        ctx.save_for_backward(mem, decay, threshold, start)
        ctx.settings = scan, reset, surrogate, len(cur) < num_steps
        ctx.set_materialize_grads(False)  # the gradient of an unused result is None, not zeros
        return spk, mem

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_spk: torch.Tensor | None, grad_mem: torch.Tensor | None) -> Any:
        """Give the gradients of cur, decay, threshold and start."""
        mem, decay, threshold, start = ctx.saved_tensors
        scan, reset, surrogate, still = ctx.settings
        learned = [torch.zeros_like(start) if needed else None for needed in ctx.needs_input_grad[1:3]]
        wanted = any(ctx.needs_input_grad[1:4])
        by_decay, by_threshold = learned
        back = _Reset(decay, threshold, reset, by_decay, by_threshold, wanted)
        grad, first = scan.leaky_backward(mem, grad_spk, grad_mem, surrogate, back, still)
        before = back.through(first, start) * decay if wanted else None
        return grad, *learned, before, None, None, None


def leaky_forward(
    cur: torch.Tensor, decay: torch.Tensor, threshold: torch.Tensor, start: torch.Tensor, reset: Reset
) -> tuple[torch.Tensor, torch.Tensor]:
    """Give spikes and membranes [T, M]. Each line of the loop changes mem_t where it lies."""
    mem = cur.new_empty(cur.shape, dtype=start.dtype)
    spk = cur.new_empty(cur.shape)
    last, fired = start, (start > threshold).to(spk.dtype)
    for cur_t, mem_t, spk_t in zip(cur.unbind(0), mem.unbind(0), spk.unbind(0), strict=True):
        if reset == "zero":
            torch.addcmul(last, last, fired, value=-1, out=mem_t).mul_(decay)
        elif reset == "subtract first":
            torch.addcmul(last, threshold, fired, value=-1, out=mem_t).mul_(decay)
        else:
            torch.mul(last, decay, out=mem_t)
        mem_t.add_(cur_t)
        if reset == "subtract":
            mem_t.addcmul_(threshold, fired, value=-1)
        torch.gt(mem_t, threshold, out=spk_t)
        last, fired = mem_t, spk_t
    return spk, mem


@dataclass
class _Reset:
    """The way back through decay and reset; adds up what beta and threshold get, where they are learned."""

    decay: torch.Tensor
    threshold: torch.Tensor
    reset: Reset
    by_decay: torch.Tensor | None
    by_threshold: torch.Tensor | None
    wanted: bool = True
    """Somebody asks for dL/dmem of the first step: beta, the threshold or what came before."""

    def through(self, later: torch.Tensor, mem: torch.Tensor) -> torch.Tensor:
        """Give dL/dmem[t] / beta of the way over the step after it: ``later`` is dL/dmem[t+1] [M]."""
        if self.reset == "zero":  # what the reset wiped out had no effect on the step after
            later = later * (mem <= self.threshold)
        if self.by_threshold is not None and self.reset.startswith("subtract"):
            taken = later if self.reset == "subtract" else later * self.decay
            self.by_threshold.sub_(taken * (mem > self.threshold))
        if self.by_decay is not None:
            first = self.reset == "subtract first"
            left = mem - self.threshold * (mem > self.threshold) if first else mem
            self.by_decay.addcmul_(later, left)
        return later


def leaky_backward(
    mem: torch.Tensor,
    grad_spk: torch.Tensor | None,
    grad_mem: torch.Tensor | None,
    surrogate: Surrogate,
    back: _Reset,
    still: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Go back from what arrives at spikes and membranes [T, M].

    Returns: dL/dcur [T, M], or its sum over time [1, M] for a ``still`` current; dL/dmem of the first step
    [M], of which a twin need not make anything where it is not ``wanted``.
    """
    grad = torch.zeros_like(mem) if grad_spk is None else torch.empty_like(mem)
    later = mem.new_zeros(()).expand(mem.shape[1:])  # dL/dmem of the step after this one [M]
    for steps in _blocks(mem):
        if grad_spk is not None:
            torch.mul(surrogate(mem[steps] - back.threshold), grad_spk[steps], out=grad[steps])
            if back.by_threshold is not None:
                for grad_t in reversed(grad[steps].unbind(0)):
                    back.by_threshold.sub_(grad_t)
        if grad_mem is not None:
            grad[steps].add_(grad_mem[steps])
        for grad_t, mem_t in reversed(list(zip(grad[steps], mem[steps], strict=True))):
            later = grad_t.addcmul_(back.through(later, mem_t), back.decay)
    return grad.sum(0, keepdim=True) if still else grad, later.expand(mem.shape[1:])


def _blocks(mem: torch.Tensor) -> Iterator[slice]:
    """Cut [T, M] into pieces of successive steps, the last piece first."""
    on_cpu = BLOCK if torch.get_num_threads() == 1 else SHARED_BLOCK
    size = on_cpu if mem.device.type == "cpu" else GPU_BLOCK
    steps = max(1, size // max(1, mem.shape[1]))
    for first in reversed(range(0, len(mem), steps)):
        yield slice(first, first + steps)
