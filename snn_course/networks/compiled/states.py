"""The twin of ``state_space.walk``: complex states that walk from block to block, in one pass.

    x[first] = 0,      x[next k] = hop x[k] + added[k]

A block may be of one step: then x are the states of all steps. PyTorch goes through memory once for each
operation, and again to take complex numbers apart and together. Here real and imaginary parts stay where the
matrix products of the block scan leave them: arrays [H, 2, N, K, B], of H neurons with N modes and K blocks.

Each product and each sum is rounded as PyTorch rounds it, so results are equal. The block scan of lesson 20
uses it.
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
def _walk(hop: np.ndarray, added: np.ndarray, x: np.ndarray, first: int, last: int, stride: int) -> None:
    """Fill x from the first block to the last; hop is [H, N, 2]."""
    for h in range(len(hop)):
        for n in range(hop.shape[1]):
            a, b = hop[h, n, 0], hop[h, n, 1]
            re, im = x[h, 0, n], x[h, 1, n]  # [K, B]
            more_re, more_im = added[h, 0, n], added[h, 1, n]
            re[first] = 0
            im[first] = 0
            for k in range(first, last, stride):
                _times_plus(re, k + stride, re, im, more_re, k, a, -b)
                _times_plus(im, k + stride, im, re, more_im, k, a, b)


def walk(hop: torch.Tensor, added: torch.Tensor, blocks: range) -> torch.Tensor:
    """Give x in parts [H, 2, N, K, B], from hop [H, N, 1] and what is added, in the order of ``blocks``."""
    x = torch.empty_like(added, memory_format=torch.contiguous_format)
    parts = torch.view_as_real(hop[..., 0].resolve_conj().contiguous())  # [H, N, 2]
    if x.numel():
        _walk(array(parts), array(added.contiguous()), array(x), blocks[0], blocks[-1], blocks.step)
    return x
