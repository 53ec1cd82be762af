"""Surrogate gradients (lesson 07): what stands in for the slope of a spike; own and foreign ones.

    neurons.leaky(cur, 0.9, surrogate=fast_sigmoid(25))                        # the course's own, compiled
    neurons.leaky(cur, 0.9, surrogate=snntorch.surrogate.fast_sigmoid(25))     # the same gradients

The course asks for the derivative h(x) itself, at x = mem - threshold. Other libraries write a spike
function: forward it gives 0 or 1, and autograd finds h on its way back. ``derivative`` takes both.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

Surrogate = Callable[[torch.Tensor], torch.Tensor]
"""Gives d spk / d mem at x = mem - threshold, element by element. It may overwrite x."""


@dataclass(frozen=True)
class Atan:
    """The derivative  alpha / 2 / (1 + (pi / 2 alpha x)^2)."""

    alpha: float = 2.0

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Overwrite x by the derivative."""
        _, a, b = formula(self)
        return x.mul_(a).square_().add_(b).reciprocal_()


@dataclass(frozen=True)
class FastSigmoid:
    """The derivative  1 / (1 + slope |x|)^2."""

    slope: float = 25.0

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Overwrite x by the derivative."""
        return x.abs_().mul_(self.slope).add_(1).square_().reciprocal_()


def atan(alpha: float = 2.0) -> Atan:
    """Give the derivative of ``snntorch.surrogate.atan``."""
    return Atan(alpha)


def fast_sigmoid(slope: float = 25.0) -> FastSigmoid:
    """Give the derivative of ``snntorch.surrogate.fast_sigmoid``."""
    return FastSigmoid(slope)


ATAN = atan()


def formula(surrogate: Surrogate) -> tuple[str, float, float]:
    """Give the kind of a derivative's formula, and the two numbers in it, as loops compute it.

    "atan": 1 / ((a x)^2 + b), an operation fewer than in ``Atan``. "fast sigmoid": 1 / (a |x| + 1)^2.
    "given": anything else, which PyTorch alone computes.
    """
    if isinstance(surrogate, Atan):
        return "atan", math.pi * math.sqrt(surrogate.alpha / 2), 2 / surrogate.alpha
    if isinstance(surrogate, FastSigmoid):
        return "fast sigmoid", surrogate.slope, 0.0
    return "given", 0.0, 0.0


def derivative(surrogate: Surrogate) -> Surrogate:
    """Give the derivative h(x) of a spike function of another library; a derivative comes back as it is.

    A spike function is known by what it does: it gives 1 where x > 0, else 0, and autograd can go back
    through it. So snnTorch's and SpikingJelly's objects work, and a learner's own ``autograd.Function``.

    Raises:
        ValueError: for what is neither, or has a parameter to be learned: the slope is held fixed.
    """
    if isinstance(surrogate, Atan | FastSigmoid) or getattr(surrogate, "func", None) is _slope:
        return surrogate
    if isinstance(surrogate, nn.Module) and any(one.requires_grad for one in surrogate.parameters()):
        raise ValueError("a surrogate with parameters to learn is not taken: nothing would learn them here")
    x = torch.tensor([-2.0, -0.5, 0.5, 2.0], requires_grad=True)
    try:
        with torch.enable_grad():
            y = surrogate(x.clone())
        spikes = torch.equal(y.detach(), (x > 0).to(y.dtype))
    except Exception as error:
        raise ValueError(f"surrogate {surrogate!r} cannot take x = mem - threshold: {error}") from error
    if not (spikes and y.requires_grad):
        return surrogate
    try:
        torch.autograd.grad(y, x, torch.ones_like(y))
    except Exception as error:
        raise ValueError(f"surrogate {surrogate!r} has no way back to x: {error}") from error
    return partial(_slope, spike=surrogate)


def _slope(x: torch.Tensor, spike: Surrogate) -> torch.Tensor:
    """Ask autograd for the slope that a spike function claims at x."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        y = spike(x)
    return torch.autograd.grad(y, x, torch.ones_like(y))[0]


class _Fire(torch.autograd.Function):
    """See ``fire``."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, surrogate: Surrogate) -> torch.Tensor:
        ctx.save_for_backward(x)
        ctx.surrogate = surrogate
        return (x > 0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        return grad * ctx.surrogate(ctx.saved_tensors[0].clone()), None


def fire(x: torch.Tensor, surrogate: Surrogate) -> torch.Tensor:
    """Give 1 where x > 0, else 0; in the backward pass, the surrogate stands in for the slope."""
    return _Fire.apply(x, surrogate)
