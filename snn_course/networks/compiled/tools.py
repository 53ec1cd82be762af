"""What every compiled scan needs: the decorator, one exact instruction, tensors as arrays, threads.

For LLVM to use vector instructions, an inner loop touches few arrays, and those are slices: their index
starts at 0. Machine code is kept beside the source, or in the user's cache folder where that cannot be
written to; the variable ``NUMBA_CACHE_DIR`` names another folder.
"""

import functools
import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch
from numba.extending import intrinsic, overload

Row = np.ndarray
"""The neurons of one step [M], or a block of them."""
Rows = np.ndarray
"""All steps [T, M]."""
NAN = 0x7FC0
"""The bits of a nan in bfloat16."""
BLOCK = 16384
"""Neurons that go through all steps together: their rows fit into the second cache of a core. Shorter ones
would fit into the first, but each ends before memory has begun to fetch ahead."""
SHARE = 2048
"""Neurons that a thread takes at least."""
SUM_GROUP = 64
"""``torch.sum`` adds whole groups of so many columns in the order of ``sum_over_time``, others in another."""


def kernel(function: Callable[..., Any]) -> Any:
    """Compile a loop at its first call, and keep the machine code if there is a folder to keep it in."""
    try:  # error_model: 1 / 0 is infinite, as in PyTorch; nogil: threads run at the same time
        compiled: Any = numba.njit(cache=True, error_model="numpy", nogil=True)(function)
    except RuntimeError:  # numba found no folder that it can write to
        return numba.njit(error_model="numpy", nogil=True)(function)
    compiled._cache._cache_file._source_stamp = sources()
    return compiled


@functools.cache
def sources() -> str:
    """Give a digest of all files of this folder: machine code that is kept counts while they are the same.

    Numba looks at the kernel's own file alone, but its machine code holds what it calls in others.
    """
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


@intrinsic
def _fma(typing: Any, a: Any, b: Any, c: Any) -> Any:
    return a(a, b, c), lambda context, builder, signature, values: builder.fma(*values)


fma: Any = _fma
"""a b + c with one rounding, as ``addcmul`` of PyTorch computes it."""


def widened(x: Row, space: Row) -> Row:
    """Give a block of numbers as it is; of bfloat16, of which NumPy knows the bits alone, in float32.

    A bfloat16 is the upper half of a float32. ``space`` is where the float32 may be written to.
    """
    raise NotImplementedError


@overload(widened)
def _widened(x: Any, space: Any) -> Any:
    def wide(x: Any, space: Any) -> Any:
        bits = space.view(np.uint32)
        for j in range(len(x)):
            bits[j] = np.uint32(x[j]) << np.uint32(16)
        return space[: len(x)]

    def same(x: Any, space: Any) -> Any:
        return x

    return wide if x.dtype == numba.types.uint16 else same


def number_of(x: Any, j: int) -> float:
    """Give number j of a row; of a number that all neurons share, itself."""
    raise NotImplementedError


@overload(number_of)
def _number_of(x: Any, j: Any) -> Any:
    def own(x: Any, j: Any) -> Any:
        return x[j]

    def shared(x: Any, j: Any) -> Any:
        return x

    return own if isinstance(x, numba.types.Array) else shared


@kernel
def narrow(wide: Rows, half: Rows, left: int, right: int) -> None:
    """Round the steps of a block, float32, to the nearest bfloat16; halfway to the even one."""
    for t in range(len(half)):
        x = wide[t]
        bits = x.view(np.uint32)
        result = half[t, left:right]
        for j in range(len(result)):
            odd = (bits[j] >> np.uint32(16)) & np.uint32(1)
            rounded = (bits[j] + np.uint32(0x7FFF) + odd) >> np.uint32(16)
            result[j] = np.uint16(rounded if x[j] == x[j] else NAN)


@kernel
def sum_over_time(x: Rows, total: Row) -> None:
    """Sum [T, N] in the order of ``torch.sum``: groups of 16 steps, then groups of 16 such groups, ..."""
    power = 4
    while 2 ** (4 * power) < len(x):
        power += 1
    levels = np.zeros((4, len(total)), total.dtype)
    for t in range(1, len(x) + 1):
        levels[0] += x[t - 1]
        upper = 1
        while upper < 4 and t % 2 ** (upper * power) == 0:  # a group is full
            levels[upper] += levels[upper - 1]
            levels[upper - 1] = 0
            upper += 1
    total[:] = levels[0] + levels[1] + levels[2] + levels[3]


@kernel
def block_of(row: Row, left: int, right: int) -> Row:
    """Give the neurons left ... right - 1 of a row as ``row_of`` makes it."""
    return row[left:right] if len(row) > BLOCK else row[: right - left]


def row_of(x: torch.Tensor) -> torch.Tensor:
    """Give a row [M]; of one that is the same number everywhere, a block is enough."""
    return x[:BLOCK].contiguous() if x.stride(0) == 0 else x.contiguous()


def array(x: Any) -> Any:
    """Give a tensor as an array that shares its memory, of bfloat16 the bits; anything else as it is."""
    if not isinstance(x, torch.Tensor):
        return x
    return (x.view(torch.uint16) if x.dtype == torch.bfloat16 else x).detach().numpy()


def rows(x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Give [T, M] in the type of ``like``, or as bfloat16; a single row [1, M] for the same in each step."""
    if len(x) > 1 and x.stride(0) == 0:
        x = x[:1]
    half = x.dtype == torch.bfloat16
    return (x if half else x.to(like.dtype)).contiguous()


def each_block(function: Any, neurons: int, *arguments: Any) -> None:
    """Call a kernel with the first and the last neuron; with several threads, each takes its share."""
    arrays = [array(x) for x in arguments]
    threads = min(torch.get_num_threads(), neurons // SHARE)
    if threads < 2:
        function(0, neurons, *arrays)
        return
    share = -(-neurons // (threads * SHARE)) * SHARE
    with ThreadPoolExecutor(threads) as pool:
        starts = range(0, neurons, share)
        parts = [pool.submit(function, first, min(first + share, neurons), *arrays) for first in starts]
        for part in parts:
            part.result()
