"""Memory: how many bytes of tensors a piece of work holds, and how a process keeps what it frees."""

import ctypes
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class _Meter(TorchDispatchMode):
    """Watches every operation of PyTorch, and adds up the memory of the results that are still alive."""

    def __init__(self) -> None:
        super().__init__()
        self.held: dict[int, int] = {}  # bytes of each piece of memory
        self.now = self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self._count((args, kwargs), new=False)  # what came from outside costs nothing here, nor do its views
        out = func(*args, **(kwargs or {}))
        self._count(out, new=True)
        return out

    def _count(self, tree: Any, new: bool) -> None:
        for tensor in tree_leaves(tree):
            if isinstance(tensor, torch.Tensor):
                memory = tensor.untyped_storage()
                key = memory._cdata
                if key not in self.held:
                    self.held[key] = memory.nbytes() * new
                    self.now += self.held[key]
                    self.peak = max(self.peak, self.now)
                    weakref.finalize(memory, self._free, key)

    def _free(self, key: int) -> None:
        self.now -= self.held.pop(key)


def peak_bytes(work: Callable[[], object]) -> int:
    """Give the most bytes of tensors that ``work`` holds at a time beyond what there was before it."""
    with _Meter() as meter:
        work()
    return meter.peak


M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Settings of glibc's malloc (mallopt(3)): the free bytes at which it gives some back to the system, and how
many blocks may be the system's own, which go back at once (by default each large block is one)."""


def keep_freed() -> bool:
    """Let this process keep up to 1 GB that it frees, for the next tensors, however large they are.

    Linux's malloc gives large blocks back to the system as soon as they are free, and whoever takes such a
    block again pays a page fault for each 4 kB. Networks over T steps do so all the time: on a CPU, a step of
    training the capstone's students took 1.2 to 1.5 times as long, lesson 13's LSTM over 784 steps 1.8 times,
    and spikes of 500 pictures 3 times.

    Returns: whether it could be set: on Linux with glibc. Results are the same in any case.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # musl and macOS have no mallopt, Windows no such library
        return False
    return bool(mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, 1 << 30))
