"""The fused leaky scan and time-batched layers of lesson 08: what ``snn.Leaky`` computes, many times faster.

    spk, mem = leaky(cur, beta=0.9)                    # cur, spk, mem: [T, B, N]; time is axis 0
    spk, mem = leaky(more, beta=0.9, mem=mem[-1])      # the same sequence goes on
    spk, mem = leaky(cur, beta=0.9, num_steps=25)      # a still current [B, N], the same in each step

A network without recurrence can be computed layer by layer: all time steps of a layer before the next layer.
Weights know nothing of time, so ``TimeBatched`` hands a layer all steps as one large batch. Neurons do, so
``leaky`` walks through the steps. It is fast since autograd sees one operation, not six a step; each step is
written in place, into memory asked for once; and the backward pass needs only the recorded membrane.

The recurrences, forward and backward, are in ``leaky_scan.py``. They also run compiled on a CPU, in Triton on
a GPU, with equal results: ``twins.py`` says when. The libraries differ in the reset: see ``RESETS``.

A single step of few neurons, with no gradient asked for, is what an agent computes at each frame. It takes a
short way past rows, autograd and twins: see ``SHORT``.
"""

from typing import Any

from snn_course.networks import from_snntorch
from snn_course.networks.leaky_scan import RESETS, LeakyScan, Reset, leaky_forward
from snn_course.networks.surrogates import ATAN, Surrogate, atan, derivative, fast_sigmoid

import torch
from torch import nn

__all__ = [
    "ATAN",
    "RESETS",
    "Leaky",
    "Reset",
    "Surrogate",
    "TimeBatched",
    "atan",
    "fast_sigmoid",
    "leaky",
    "still",
]

SHORT = 2**15
"""Neurons up to which one step without gradients goes the short way: its calls cost more than its numbers."""


def leaky(
    cur: torch.Tensor,
    beta: float | torch.Tensor,
    threshold: float | torch.Tensor = 1.0,
    reset: Reset = "subtract",
    surrogate: Surrogate = ATAN,
    mem: torch.Tensor | None = None,
    num_steps: int | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Run leaky integrate-and-fire neurons over all time steps.

    Args:
        cur: input current [T, ...], with any shape behind the time axis: [T, B, N], [T, B, C, H, W].
        beta: share of the membrane that stays after a step, clipped to 0..1: a number, or a tensor that
            broadcasts to one step of cur: [N] has one beta per neuron, [C, 1, 1] one per channel.
        threshold: a neuron fires while its membrane is above it: a number, or a tensor as beta.
        reset: what a spike does to the membrane one step later: one of ``RESETS`` (leaky_scan.py).
        surrogate: derivative of the spike, or a spike function such as snnTorch's; for the backward pass.
        mem: membrane before the first step, [...] or what broadcasts to it; None stands for zero.
        num_steps: T, for a still current: cur is then [...], without a time axis, and the same in each step.

    Returns:
        Spikes 0 or 1 [T, ...], in cur's type, and membranes [T, ...], in float32 or wider; mem[-1] is all the
        state. Gradients flow into cur, beta (``_Clip``: also where it is outside 0..1), threshold and mem.

    Raises: ValueError or TypeError: an unknown reset, a faulty surrogate, wrong shapes, what is no current.
    """
    check_reset(reset)
    cur, steps = as_steps(cur, num_steps)
    state_type, slope = torch.promote_types(cur.dtype, torch.float32), derivative(surrogate)
    decay = _Clip.apply(torch.as_tensor(beta, dtype=state_type, device=cur.device))
    level = torch.as_tensor(threshold, dtype=state_type, device=cur.device)
    start = cur.new_zeros((), dtype=state_type) if mem is None else mem.to(state_type)
    check_shapes(cur.shape[1:], beta=decay, threshold=level, mem=start)
    if steps == 1 and cur.numel() <= SHORT and not torch.is_grad_enabled():
        return leaky_forward(cur, decay, level, start.expand(cur.shape[1:]), reset)
    layout = _Layout(cur)
    rows = [layout.to_row(x) for x in (decay, level, start)]  # [M] each
    spk, mem = LeakyScan.apply(layout.to_rows(cur), *rows, steps, reset, slope)
    return layout.to_steps(spk), layout.to_steps(mem)  # [T, ...]


def check_reset(reset: str) -> None:
    """Raise a ValueError for a word that is no reset."""
    if callable(reset):  # snn.Leaky's third argument
        raise ValueError("a surrogate goes by its name: surrogate=... or spike_grad=...")
    if reset not in RESETS:
        raise ValueError(f"reset must be one of {', '.join(RESETS)}, not {reset!r}")


def as_steps(cur: Any, num_steps: int | None) -> tuple[torch.Tensor, int]:
    """Give currents [T, ...] and T; of a still current [...] one row [1, ...], and ``num_steps``.

    Raises: TypeError or ValueError for what is no current.
    """
    if not isinstance(cur, torch.Tensor) or not cur.is_floating_point():
        kind = cur.dtype if isinstance(cur, torch.Tensor) else type(cur).__name__
        raise TypeError(f"currents are a tensor of floating-point numbers, not {kind}")
    if num_steps is not None and num_steps < 0:
        raise ValueError(f"num_steps is a number of steps, not {num_steps}")
    if num_steps is None and cur.dim() == 0:
        raise ValueError("currents are [T, ...], time first; with num_steps one step [...] will do")
    return (cur, len(cur)) if num_steps is None else (cur[None], num_steps)


def check_shapes(step: torch.Size, **settings: torch.Tensor) -> None:
    """Raise a ValueError for a setting that does not broadcast to one step of the currents."""
    for name, value in settings.items():
        try:
            value.expand(step)
        except RuntimeError:
            raise ValueError(
                f"{name} {list(value.shape)} does not fit one step of the currents, {list(step)}"
            ) from None


class _Clip(torch.autograd.Function):
    """Clips beta to 0..1 without losing it: outside, a gradient passes if descent along it leads back.

    ``clamp`` gives no gradient at all outside, so that a beta which one step took there stays there for ever.
    Inside, beta is its own parameter, as in ``snn.Leaky``, and its gradient the same.
    """

    @staticmethod
    def forward(ctx: Any, beta: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(beta)
        return beta.clamp(0, 1)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        (beta,) = ctx.saved_tensors
        further_out = (beta < 0) & (grad > 0) | (beta > 1) & (grad < 0)
        return grad.masked_fill(further_out, 0)


class _Layout:
    """Turns steps [T, ...] into rows [T, M] and back, in the order in which ``cur`` lies in memory.

    So no copy is made, neither of a plain tensor nor of one in channels_last.
    """

    def __init__(self, cur: torch.Tensor) -> None:
        self.step = cur.shape[1:]
        self.order = sorted(range(1, cur.dim()), key=cur.stride, reverse=True)

    def to_row(self, x: torch.Tensor) -> torch.Tensor:
        """Spread what broadcasts to one step over the M neurons of a row [M]."""
        return x.expand(self.step).permute([axis - 1 for axis in self.order]).reshape(-1)

    def to_rows(self, x: torch.Tensor) -> torch.Tensor:
        return x.permute(0, *self.order).reshape(len(x), self.step.numel())

    def to_steps(self, rows: torch.Tensor) -> torch.Tensor:
        back = [self.order.index(axis) + 1 for axis in range(1, len(self.step) + 1)]
        return rows.view(len(rows), *(self.step[axis - 1] for axis in self.order)).permute(0, *back)


class Leaky(nn.Module):
    """A layer of leaky neurons over all time steps: ``leaky`` with its settings.

    It keeps no state between two calls, so there is nothing to reset: a call without ``mem`` starts at zero.
    The ``state_dict`` of a ``snn.Leaky`` loads into it; ``to_snntorch`` has the way back.

    Args:
        beta: 0..1, a number, or a tensor that broadcasts to one step: [N] for one beta per neuron.
        threshold: a neuron fires while its membrane is above this: a number, or a tensor as beta.
        reset: one of ``RESETS``. A read-out that only adds up takes "none" and uses mem.
        surrogate: derivative of the spike, such as ``fast_sigmoid(slope=25)``, or snnTorch's spike function.
        learn_beta: make beta a parameter. It is its own parameter: what is learned is beta itself, and the
            forward pass clips it to 0..1. Outside, it gets the gradient that leads back.
        learn_threshold: make the threshold a parameter.
        snntorch: ``snn.Leaky``'s other options by its names; those without a meaning here are refused, each
            in one sentence. ``reset_delay=False`` costs a loop over the steps (``from_snntorch.at_once``).

    Raises:
        ValueError: for a beta outside 0..1, an unknown reset, a threshold of nan, or a refused option.
    """

    beta: torch.Tensor
    threshold: torch.Tensor

    def __init__(
        self,
        beta: float | torch.Tensor = 0.9,
        threshold: float | torch.Tensor = 1.0,
        reset: Reset = "subtract",
        surrogate: Surrogate | None = None,
        learn_beta: bool = False,
        learn_threshold: bool = False,
        **snntorch: Any,
    ) -> None:
        super().__init__()
        options = from_snntorch.translate(snntorch)
        from_snntorch.check_twice(options, reset=reset, surrogate=surrogate)
        for name, value, learned in (("beta", beta, learn_beta), ("threshold", threshold, learn_threshold)):
            tensor = torch.as_tensor(value, dtype=torch.get_default_dtype()).detach().clone()
            if learned:
                self.register_parameter(name, nn.Parameter(tensor))
            else:
                self.register_buffer(name, tensor)
        self.reset: Reset = options.get("reset", reset)
        self.surrogate = derivative(surrogate or options.get("surrogate") or ATAN)
        self.reset_delay: bool = options.get("reset_delay", True)
        from_snntorch.check_beta(self.beta)
        check_reset(self.reset)
        if self.threshold.isnan().any():
            raise ValueError("threshold is nan: no membrane is above it, so no neuron would fire")

    def forward(
        self, cur: torch.Tensor, mem: torch.Tensor | None = None, num_steps: int | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Give spikes and membranes [T, ...] of currents [T, ...]; ``mem`` [...] is the state before them.

        With ``num_steps``, cur [...] is still: the same in each step.
        """
        settings = self.beta, self.threshold, self.reset, self.surrogate
        if self.reset_delay:
            return leaky(cur, *settings, mem, num_steps)
        cur, steps = as_steps(cur, num_steps)
        cur = cur.expand(steps, *cur.shape[1:])
        check_shapes(cur.shape[1:], beta=self.beta, threshold=self.threshold)
        if mem is not None:
            check_shapes(cur.shape[1:], mem=mem)
        return from_snntorch.at_once(cur, *settings, mem)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        self.reset = from_snntorch.adapt(state_dict, prefix, self)
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def extra_repr(self) -> str:
        """Show the settings when the network is printed."""
        shown = []
        for name, value in (("beta", self.beta), ("threshold", self.threshold)):
            shown.append(f"{name}={value.item():g}" if value.numel() == 1 else f"{name}={tuple(value.shape)}")
        return f"{', '.join(shown)}, reset={self.reset}"


def still(cur: torch.Tensor, num_steps: int) -> torch.Tensor:
    """Give a current [...] that is the same at each step, [T, ...]: ``cur.expand``, with a faster gradient.

    The gradient keeps the layout of ``cur``. That of ``expand`` is plain, and where ``cur`` is channels_last,
    the pooling or batch norm before it takes four to six times as long to go back.
    """
    shown: torch.Tensor = _Still.apply(cur, num_steps)
    return shown


class _Still(torch.autograd.Function):
    """Shows one step T times; its gradient is the sum over time."""

    @staticmethod
    def forward(ctx: Any, cur: torch.Tensor, num_steps: int) -> torch.Tensor:
        return cur.expand(num_steps, *cur.shape)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
        total = torch.empty_like(grad[0])  # in the layout that the steps have
        return torch.sum(grad, 0, out=total), None


class TimeBatched(nn.Module):
    """A layer without memory (linear, convolution, norm, pooling), applied to all time steps at once.

    [T, B, ...] is folded to [T * B, ...], goes through the layer, and is unfolded. A batch norm then takes
    its mean and variance over all steps, as it should. An input that is the same in each step need not go
    through here T times: apply the layer to [B, ...] once, and show its result at each step (``still``).
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Give the layer's output [T, B, ...] for an input [T, B, ...]."""
        return self.layer(x.flatten(0, 1)).unflatten(0, x.shape[:2])  # [T * B, ...] and back
