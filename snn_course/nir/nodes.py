"""What each kind of NIR node computes in one time step: a function for each, listed in two tables.

    y = STATELESS[nir.Affine](n, x)                      # x [B, ...] -> y [B, ...]
    y, state = STATEFUL[nir.LIF](n, x, state, dt)        # state None: before the first step

``n`` holds the node's numbers (``numbers_of``). NIR says what is computed, not how, and leaves some things
open. What is added here:

- Time goes in steps dt, by forward Euler: v <- v + dt dv/dt, with the input of the same step. If a neuron has
  a current, it moves first, and the membrane sees the new current (as in snnTorch, Norse and SpikingJelly).
- Membranes, currents and delay lines are 0 before the first step, whatever v_leak and v_reset are.
- A neuron fires where v > v_threshold, once a step, and v_reset replaces v at once.
- An average pool divides by the size of its kernel, zeros of the padding included.

Source: the definitions in the nir package, 1.0.8; Pedersen et al. (2024), table 1.
"""

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import nir
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

Numbers = SimpleNamespace
"""The numbers of a node by their names: tensors; sizes such as a stride as ints or tuples of ints."""
SIZES = ("kernel_size", "stride", "padding", "dilation", "groups", "start_dim", "end_dim")
NO_NUMBERS = ("input_type", "output_type", "input_shape", "metadata")
TIME_CONSTANTS = ("tau", "tau_syn", "tau_mem")


class Unreadable(ValueError):
    """A graph, or one of its nodes, cannot be run; the message names it."""


# ---------------------------------------------------------------------- nodes without a state


def identity(n: Numbers, x: Tensor) -> Tensor:
    """Input and Output only mark where a graph begins and ends."""
    return x


def affine(n: Numbers, x: Tensor) -> Tensor:
    """y = W x + b; Linear has no b. Axes of W before the last two count maps side by side."""
    bias = getattr(n, "bias", None)
    if n.weight.dim() == 2:
        return F.linear(x, n.weight, bias)
    y = (n.weight @ x[..., None])[..., 0]
    return y if bias is None else y + bias


def scale(n: Numbers, x: Tensor) -> Tensor:
    """Multiply each element by a number of its own."""
    return x * n.scale


def threshold(n: Numbers, x: Tensor) -> Tensor:
    """Give 1 where x > threshold, else 0."""
    return (x > n.threshold).to(x.dtype)


def flatten(n: Numbers, x: Tensor) -> Tensor:
    """Axes start_dim to end_dim become one. NIR does not count the batch; -1 is the last axis."""
    axes = range(1, x.dim())
    return x.flatten(axes[n.start_dim], axes[n.end_dim])


def average_pool(n: Numbers, x: Tensor) -> Tensor:
    """Mean over each window [C, H, W]."""
    return F.avg_pool2d(x, n.kernel_size, n.stride, n.padding)


def sum_pool(n: Numbers, x: Tensor) -> Tensor:
    """Sum over each window [C, H, W]."""
    return F.avg_pool2d(x, n.kernel_size, n.stride, n.padding, divisor_override=1)


def convolve_1d(n: Numbers, x: Tensor) -> Tensor:
    """Convolution of [C, N]; the padding is a number, "same" or "valid"."""
    return F.conv1d(x, n.weight, n.bias, n.stride, n.padding, n.dilation, n.groups)


def convolve_2d(n: Numbers, x: Tensor) -> Tensor:
    """Convolution of [C, H, W]; the padding is one or two numbers, "same" or "valid"."""
    return F.conv2d(x, n.weight, n.bias, n.stride, n.padding, n.dilation, n.groups)


Stateless = Callable[[Numbers, Tensor], Tensor]
STATELESS: dict[type, Stateless] = {
    nir.Input: identity,
    nir.Output: identity,
    nir.Affine: affine,
    nir.Linear: affine,
    nir.Scale: scale,
    nir.Threshold: threshold,
    nir.Flatten: flatten,
    nir.AvgPool2d: average_pool,
    nir.SumPool2d: sum_pool,
    nir.Conv1d: convolve_1d,
    nir.Conv2d: convolve_2d,
}

# ---------------------------------------------------------------------- nodes with a state
# Each gives what the node puts out, and its state after the step.

Step = tuple[Tensor, Any]


def delay(n: Numbers, x: Tensor, past: Any, dt: float) -> Step:
    """y(t) = x(t - delay), each element by a delay of its own; 0 where that is before the first step.

    The past [P, B, ...] begins now, and is as long as the longest delay asks for, or as there were steps.
    """
    steps = (n.delay / dt).round().long()
    longest = int(steps.max())
    past = x[None] if past is None else torch.cat([x[None], past[:longest]])
    steps = steps.expand_as(x)  # [B, ...]
    known = steps < len(past)
    delayed = past.gather(0, (steps * known)[None])[0]
    return delayed * known, past


def integrator(n: Numbers, x: Tensor, v: Any, dt: float) -> Step:
    """I: dv/dt = r x."""
    v = torch.zeros_like(x) if v is None else v
    v = v + dt * n.r * x
    return v, v


def leaky_integrator(n: Numbers, x: Tensor, v: Any, dt: float) -> Step:
    """LI: tau dv/dt = (v_leak - v) + r x."""
    v = torch.zeros_like(x) if v is None else v
    change = (n.v_leak - v) + n.r * x
    v = v + dt / n.tau * change
    return v, v


def current_and_integrator(n: Numbers, x: Tensor, state: Any, dt: float) -> Step:
    """CubaLI: tau_syn dI/dt = -I + w_in x, then tau_mem dv/dt = (v_leak - v) + r I."""
    zero = torch.zeros_like(x)
    current, v = (zero, zero) if state is None else state
    current = current + dt / n.tau_syn * (n.w_in * x - current)
    change = (n.v_leak - v) + n.r * current
    v = v + dt / n.tau_mem * change
    return v, (current, v)


def fire(n: Numbers, v: Tensor) -> Step:
    """Give the spikes of membranes v, and the membranes after them."""
    spk = v > n.v_threshold
    return spk.to(v.dtype), torch.where(spk, n.v_reset, v)


def integrate_and_fire(n: Numbers, x: Tensor, v: Any, dt: float) -> Step:
    """IF: the membrane of I, which fires."""
    return fire(n, integrator(n, x, v, dt)[0])


def leaky_integrate_and_fire(n: Numbers, x: Tensor, v: Any, dt: float) -> Step:
    """LIF: the membrane of LI, which fires."""
    return fire(n, leaky_integrator(n, x, v, dt)[0])


def current_and_fire(n: Numbers, x: Tensor, state: Any, dt: float) -> Step:
    """CubaLIF: the current and the membrane of CubaLI, which fires."""
    v, (current, _) = current_and_integrator(n, x, state, dt)
    spk, v = fire(n, v)
    return spk, (current, v)


Stateful = Callable[[Numbers, Tensor, Any, float], Step]
STATEFUL: Mapping[type, Stateful] = {
    nir.Delay: delay,
    nir.I: integrator,
    nir.LI: leaky_integrator,
    nir.CubaLI: current_and_integrator,
    nir.IF: integrate_and_fire,
    nir.LIF: leaky_integrate_and_fire,
    nir.CubaLIF: current_and_fire,
}

# ---------------------------------------------------------------------- a node's numbers


def named(name: str, node: Any) -> str:
    """Name a node as messages do: 'lif1' (LIF)."""
    return f"{name!r} ({type(node).__name__})"


def numbers_of(name: str, node: Any, dtype: torch.dtype, device: torch.device) -> Numbers:
    """Give a node's numbers as tensors, its sizes as ints, tuples of ints or names. Raises: Unreadable."""
    found: dict[str, Any] = {}
    for field, value in vars(node).items():
        if field in NO_NUMBERS:
            continue
        if value is None and field != "bias":
            raise Unreadable(f"{named(name, node)}: {field} is missing")
        try:
            found[field] = size(value) if field in SIZES else as_numbers(value)
        except (TypeError, ValueError) as error:
            raise Unreadable(f"{named(name, node)}: {field}: {error}") from None
    for field, value in found.items():
        if isinstance(value, Tensor):
            found[field] = value.to(device, dtype)
    if isinstance(node, nir.Conv1d | nir.Conv2d):
        found.setdefault("bias", None)
    return Numbers(**found)


def as_numbers(value: Any) -> Tensor | None:
    """Give numbers of any kind as a tensor. Raises: TypeError for words and complex numbers."""
    if value is None:
        return None
    tensor = torch.as_tensor(value).detach()
    if tensor.is_complex():
        raise TypeError("complex numbers")
    return tensor


def size(value: Any) -> Any:
    """Turn 2, [2], [2, 3] or "same", of whatever package, into an int, a tuple of ints, or a name."""
    if isinstance(value, str | bytes):
        return value if isinstance(value, str) else value.decode()
    flat = [int(number) for number in np.asarray(value).ravel()]
    return flat[0] if len(flat) == 1 else tuple(flat)


def shape_of(node: Any) -> tuple[int, ...] | None:
    """Give the shape of one sample that a node takes; None if it does not tell.

    That of a convolution is left out: nir 1.0.8 counts the channels of one group only.
    """
    kinds = node.input_type or {}
    shape = next(iter(kinds.values()), None)
    if shape is None or isinstance(node, nir.Conv1d | nir.Conv2d):
        return None
    return tuple(int(number) for number in np.asarray(shape).ravel())


def check(name: str, node: Any, n: Numbers, dt: float) -> None:
    """Refuse numbers with which a node cannot run in steps dt. Raises: Unreadable."""
    for field, value in vars(n).items():
        if isinstance(value, Tensor) and not value.isfinite().all():
            raise Unreadable(f"{named(name, node)}: {field} has values that are nan or infinite")
        if field in TIME_CONSTANTS and (value < dt * (1 - 1e-6)).any():
            raise Unreadable(f"{named(name, node)}: {field} {float(value.min()):g} s is below dt {dt:g} s")
    if isinstance(node, nir.Delay):
        steps = n.delay / dt
        whole = torch.allclose(steps, steps.round(), rtol=1e-6, atol=1e-6)
        if not whole or (steps < 0).any():
            raise Unreadable(f"{named(name, node)}: a delay is no whole number of steps of {dt:g} s")
