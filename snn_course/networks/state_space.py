"""The fast twin of lesson 20: its state space model by blocks of steps, and the baseline with leaky neurons.

    mem = to_steps(block_scan(a, c, to_blocks(u), B), B)    # u and mem are [T, B, H]; time is axis 0

It gives what the lesson's recurrence gives, 2 to 3 times faster on a CPU than its convolution by FFT.

The block scan cuts the T steps into blocks of 49. Within a block the membrane is a matrix product, since it
is linear in the inputs of the block and in the state x at its start; so is what the block adds to the state.
Only the state has to walk, from block to block, in 16 hops for 784 steps (on a CPU compiled, once that pays:
see ``twins``):

    mem[block]           = within u[block] + leave x[start of block]
    x[start of the next] = a^49 x[start of block] + enter u[block]

``block_scan`` takes and gives "blocks" [H, 49, T / 49 * B]: one matrix for each neuron, whose columns are
the blocks of all sequences. A network that stays in this order copies nothing between its layers.

Source: Dao and Gu (2024), Mamba-2: the block scan.
"""

import math
from typing import Any

from snn_course.networks import neurons, twins

import torch
from torch import nn

BLOCK = 49
"""Steps of a block: 16 blocks make the 784 pixels of an image."""


def to_blocks(u: torch.Tensor) -> torch.Tensor:
    """Bring steps [T, B, H] into the order of the block scan, [H, 49, T / 49 * B].

    Raises: ValueError for a number of steps that is no multiple of 49.
    """
    if len(u) % BLOCK:
        raise ValueError(f"the block scan takes a multiple of {BLOCK} steps, not {len(u)}")
    return u.unflatten(0, (-1, BLOCK)).permute(3, 1, 0, 2).flatten(2)


def to_steps(u: torch.Tensor, batch: int) -> torch.Tensor:
    """Bring blocks [H, 49, T / 49 * B] back into the order of time, [T, B, H]."""
    return u.unflatten(2, (-1, batch)).permute(2, 1, 3, 0).flatten(0, 1)


def block_scan(a: torch.Tensor, c: torch.Tensor, u: torch.Tensor, batch: int) -> torch.Tensor:
    """Give the membranes of blocks u [H or 1, 49, T / 49 * B], in the same order.

    a and c are those of one step, complex [H, N].
    """
    power = powers(a, BLOCK + 1)  # a^0 ... a^49 [H, N, 50]
    kernel = (c[..., None] * power[..., :-1]).sum(1).real  # [H, 49]
    steps = torch.arange(BLOCK, device=u.device)
    lag = steps[:, None] - steps
    within = kernel[:, lag.clamp(min=0)] * (lag >= 0)  # what a step does to later ones of its block
    enter = power[..., :-1].flip(2)  # what a step leaves in the state at the end of its block [H, N, 49]
    leave = c[..., None] * power[..., 1:]  # what the state at the start adds to each step [H, N, 49]
    entering = torch.cat((enter.real, enter.imag), 1)  # [H, 2 N, 49]
    leaving = torch.cat((leave.real, -leave.imag), 1)
    return _Blocks.apply(u.expand(len(c), -1, -1), within, entering, leaving, power[..., -1:], batch)


def powers(a: torch.Tensor, count: int) -> torch.Tensor:
    """Give a^0, a^1, ... [..., count], by doubling: a tenth of the time of ``a ** steps`` for complex a."""
    power = torch.stack((torch.ones_like(a), a), -1)
    while power.shape[-1] < count:
        further = power * (power[..., -1:] * a[..., None])
        power = torch.cat((power, further), -1)
    return power[..., :count]


class _Blocks(torch.autograd.Function):
    """The matrix products of ``block_scan``; its way back is written out, since autograd's copies a lot."""

    @staticmethod
    def forward(
        ctx: Any,
        u: torch.Tensor,
        within: torch.Tensor,
        entering: torch.Tensor,
        leaving: torch.Tensor,
        hop: torch.Tensor,
        batch: int,
    ) -> torch.Tensor:
        added = torch.bmm(entering, u)  # [H, 2 N, T / 49 * B]
        starts = carry(hop, added.view(len(hop), 2, hop.shape[1], -1, batch))
        ctx.save_for_backward(u, within, entering, leaving, hop, starts)
        ctx.batch = batch
        return torch.bmm(within, u).baddbmm_(leaving.mT, starts)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        u, within, entering, leaving, hop, starts = ctx.saved_tensors
        by_added, by_hop = carry_back(hop, starts, torch.bmm(leaving, grad), ctx.batch)
        by_u = None
        if ctx.needs_input_grad[0]:
            by_u = torch.bmm(within.mT, grad).baddbmm_(entering.mT, by_added)
        by_within = torch.bmm(grad, u.mT)
        by_entering = torch.bmm(by_added, u.mT)
        return by_u, by_within, by_entering, torch.bmm(starts, grad.mT), by_hop, None


def carry(hop: torch.Tensor, added: torch.Tensor) -> torch.Tensor:
    """Walk over the blocks of added [H, 2, N, T / 49, B]. Returns: the state at the start of each."""
    return walk(hop, added).flatten(1, 2).flatten(2)  # [H, 2 N, T / 49 * B]


def carry_back(
    hop: torch.Tensor, starts: torch.Tensor, by_starts: torch.Tensor, batch: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Walk back over the blocks, from the gradient of what ``carry`` gave.

    Returns: the gradients of added [H, 2 N, T / 49 * B] and of hop [H, N, 1].
    """
    shape = (len(hop), 2, hop.shape[1], -1, batch)
    parts = walk(hop.conj(), by_starts.view(shape), back=True)
    by_added, x = (torch.complex(*part.view(shape).unbind(1)) for part in (parts, starts))  # [H, N, K, B]
    by_hop = (by_added * x.conj()).sum((2, 3)).unsqueeze(2)
    return parts.flatten(1, 2).flatten(2), by_hop


def walk(hop: torch.Tensor, added: torch.Tensor, back: bool = False) -> torch.Tensor:
    """Give x of the recurrence x[k + 1] = hop x[k] + added[k] from x[0] = 0, for K blocks.

    Args:
        hop: complex, [H, N, 1].
        added: real and imaginary parts, [H, 2, N, K, B].
        back: begin at the last block, and end at the first.

    Returns: x in parts, as ``added``.
    """
    blocks = range(added.shape[3])[:: -1 if back else 1]
    if twin := twins.compiled(added[:, :, :, 0], len(blocks)):
        return twin.walk(hop, added, blocks)
    more = torch.complex(*added.unbind(1))
    x = torch.empty_like(more)
    now = torch.zeros_like(hop).expand_as(more[:, :, 0])
    for block in blocks:  # 16 hops, not 784 steps
        x[:, :, block] = now
        now = hop * now + more[:, :, block]  # [H, N, B]
    return torch.stack((x.real, x.imag), 1)


def atan_slope(mem: torch.Tensor) -> torch.Tensor:
    """Give 1 / (1 + (pi mem)^2), lesson 07's slope, in two passes over memory; written out it takes six."""
    return torch.addcmul(mem.new_ones(()), mem, mem, value=math.pi**2).reciprocal_()


class PlainLIF(nn.Module):
    """The baseline: lesson 20's network, with leaky neurons (one real state, and a reset) for the SSM."""

    def __init__(self, width: int, beta: float, gain: float) -> None:
        super().__init__()
        self.first, self.mix = nn.Linear(1, width, bias=False), nn.Linear(width, width, bias=False)
        self.norm1, self.norm2, self.out = nn.BatchNorm1d(width), nn.BatchNorm1d(width), nn.Linear(width, 10)
        self.beta, self.gain = beta, gain

    def record(self, x: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Run sequences x [T, B]. Returns: both layers' spikes [T, B, H], scores [T / 49, B, 10]."""
        cur1 = self.norm1(self.first(x[..., None]).flatten(0, 1)).unflatten(0, x.shape)  # [T, B, H]
        spk1, _ = neurons.leaky(cur1, self.beta)
        cur2 = self.norm2(self.mix(spk1).flatten(0, 1)).unflatten(0, x.shape)
        spk2, _ = neurons.leaky(cur2, self.beta)
        total = spk2.unflatten(0, (-1, BLOCK)).sum(1).cumsum(0)  # [T / 49, B, H]
        seen = BLOCK * torch.arange(1, len(total) + 1, device=x.device)
        return [spk1, spk2], self.out(self.gain * total / seen[:, None, None])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Give the scores [B, 10] after the last step."""
        return self.record(x)[1][-1]
