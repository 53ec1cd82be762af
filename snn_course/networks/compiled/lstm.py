"""The twin of ``nn.LSTM`` (one layer, from zero): a step is one matrix product, two sigmoids, and a loop.

Forward, with z[t] = (h[t-1], x[t], 1) and the weights of all four gates in one matrix W:

    i, f, g, o = sigmoid(W z[t])            the rows of g are doubled, since tanh(y) = 2 sigmoid(2 y) - 1
    c[t] = f c[t-1] + i (2 g - 1)
    h[t] = o (2 u - 1)                      u = sigmoid(2 c[t])

Backward, with dh and dc what arrives at h[t] and c[t] from outside and from later steps:

    dc <- dc + dh o (1 - (2 u - 1)^2)
    dL/d(W z) = dc (2 g - 1) i (1 - i),  dc c[t-1] f (1 - f),  2 dc i g (1 - g),  dh (2 u - 1) o (1 - o)
    dc <- dc f                              for the step before, as dh <- W_h^T dL/d(W z)

PyTorch's own LSTM multiplies all inputs first, which writes and reads [T, B, 4 H] once more; and it sums the
gradients of the weights in passes of their own. Here that is done in blocks of steps that stay in the cache.
"""

from typing import Any

from snn_course.networks.compiled.tools import Rows, array, kernel

import numpy as np
import torch

STEPS = 8
"""Steps whose gradients are kept until they become gradients of weights, in one product."""


@kernel
def _cell(t: int, gates: Rows, c: np.ndarray, u: Rows) -> None:
    """Write c[t + 1], after step t; and u = 2 c, whose sigmoid is taken next. ``gates`` are [B, 4 H]."""
    one, two = u.dtype.type(1), u.dtype.type(2)
    num = u.shape[1]
    for b in range(len(u)):
        i = gates[b, :num]
        f = gates[b, num : 2 * num]
        g = gates[b, 2 * num : 3 * num]
        old = c[t, b]
        new = c[t + 1, b]
        double = u[b]
        for j in range(num):
            new[j] = f[j] * old[j] + i[j] * (two * g[j] - one)
        for j in range(num):
            double[j] = two * new[j]


@kernel
def _show(t: int, gates: Rows, u: Rows, z: np.ndarray) -> None:
    """Write h into what the next step sees."""
    one, two = u.dtype.type(1), u.dtype.type(2)
    num = u.shape[1]
    for b in range(len(u)):
        o = gates[b, 3 * num :]
        share = u[b]
        h = z[t + 1, b, :num]
        for j in range(num):
            h[j] = o[j] * (two * share[j] - one)


@kernel
def _back(t: int, gates: Rows, c: np.ndarray, u: Rows, dh: Rows, dc: Rows, grad: Rows) -> None:
    """Write dL/d(W z) of step t into grad [B, 4 H], and dc of the step before into dc."""
    one, two = u.dtype.type(1), u.dtype.type(2)
    num = u.shape[1]
    for b in range(len(u)):
        i = gates[b, :num]
        f = gates[b, num : 2 * num]
        g = gates[b, 2 * num : 3 * num]
        o = gates[b, 3 * num :]
        by_i = grad[b, :num]
        by_f = grad[b, num : 2 * num]
        by_g = grad[b, 2 * num : 3 * num]
        by_o = grad[b, 3 * num :]
        share = u[b]
        old = c[t, b]
        by_h = dh[b]
        by_c = dc[b]
        for j in range(num):
            by_o[j] = by_h[j] * (two * share[j] - one) * o[j] * (one - o[j])
        for j in range(num):
            shown = two * share[j] - one
            by_c[j] += by_h[j] * o[j] * (one - shown * shown)
        for j in range(num):
            by_i[j] = by_c[j] * (two * g[j] - one) * i[j] * (one - i[j])
        for j in range(num):
            by_g[j] = two * by_c[j] * i[j] * g[j] * (one - g[j])
        for j in range(num):
            by_f[j] = by_c[j] * old[j] * f[j] * (one - f[j])
        for j in range(num):
            by_c[j] *= f[j]


def lstm_forward(x: torch.Tensor, weight: torch.Tensor, keep: bool) -> tuple[torch.Tensor, ...]:
    """Run all steps of x [T, B, I] with weight [4 H, H + I + 1], gates i, f, g, o, the rows of g doubled.

    Returns: z [T + 1, B, H + I + 1], whose first H columns are h, one step late; c [T + 1, B, H]; and the
    gates [T, B, 4 H], or those of the last step alone if they are not to be kept.
    """
    steps, batch, inputs = x.shape
    num = len(weight) // 4
    z = x.new_empty(steps + 1, batch, weight.shape[1])
    z[0, :, :num] = 0
    z[:-1, :, num : num + inputs] = x
    z[:, :, -1] = 1
    c = x.new_empty(steps + 1, batch, num)
    c[0] = 0
    gates = x.new_empty(steps if keep else 1, batch, 4 * num)
    u = x.new_empty(batch, num)
    arrays = [array(tensor) for tensor in (gates, c, u, z)]
    for t, seen in enumerate(z[:-1].unbind(0)):
        at = t if keep else 0
        torch.mm(seen, weight.T, out=gates[at]).sigmoid_()
        _cell(t, arrays[0][at], *arrays[1:3])
        u.sigmoid_()
        _show(t, arrays[0][at], *arrays[2:])
    return z, c, gates


def lstm_backward(
    saved: tuple[torch.Tensor, ...], grad_h: torch.Tensor, inputs_learn: bool
) -> tuple[torch.Tensor | None, torch.Tensor]:
    """Give dL/dx, or None if no input learns, and dL/dweight, from dL/dh [T, B, H]."""
    weight, z, c, gates = saved
    steps, batch, _ = gates.shape
    num = c.shape[2]
    by_x = z.new_empty(steps, batch, weight.shape[1] - num - 1) if inputs_learn else None
    by_weight = z.new_zeros(weight.shape[1], 4 * num)
    grad = z.new_empty(STEPS, batch, 4 * num)  # of some steps
    u, dh, dc = z.new_zeros(3, batch, num).unbind(0)
    dh.copy_(grad_h[-1])
    to_h = weight[:, :num].contiguous()
    to_x = weight[:, num:-1].contiguous()
    arrays = [array(tensor) for tensor in (gates, c, u, dh, dc, grad)]
    for t in reversed(range(steps)):
        at = t % STEPS
        torch.add(c[t + 1], c[t + 1], out=u).sigmoid_()
        _back(t, arrays[0][t], *arrays[1:5], arrays[5][at])
        if t:
            torch.addmm(grad_h[t - 1], grad[at], to_h, out=dh)
        if at == 0:
            some = grad[: steps - t].flatten(0, 1)
            by_weight.addmm_(z[t : t + STEPS][: len(grad[: steps - t])].flatten(0, 1).T, some)
            if by_x is not None:
                torch.mm(some, to_x, out=by_x[t : t + STEPS].flatten(0, 1))
    return by_x, by_weight.T


class _LstmScan(torch.autograd.Function):
    """The recurrences at the top of this module, with weight as ``lstm_forward`` takes it."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        z, c, gates = lstm_forward(x, weight, keep=True)
        ctx.save_for_backward(weight, z, c, gates)
        return z[1:, :, : c.shape[2]].contiguous()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_h: torch.Tensor) -> Any:
        return lstm_backward(ctx.saved_tensors, grad_h, ctx.needs_input_grad[0])


def lstm(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Give h [T, B, H] of x [T, B, I]; the gates are kept only if autograd records."""
    if torch.is_grad_enabled():
        return _LstmScan.apply(x, weight)
    z, c, _ = lstm_forward(x, weight, keep=False)
    return z[1:, :, : c.shape[2]]
