"""How many bytes of tensors a piece of work holds at its worst moment, on any device."""

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
