"""A device that computes shapes alone: how much memory a GPU would need is known before it starts.

    with shapes.Shapes():
        net = Net().to(shapes.DEVICE)        # any size: no numbers are kept, none are computed
        memory.peak_bytes(lambda: net(x))    # as many bytes as on a GPU

It is PyTorch's "meta" device, made as strict as a GPU: an operation on tensors of two devices is an error. A
GPU allows copies, indices that lie on the CPU, and a single number, so those are allowed. What is read off it
is one, or zeros: so a training loop that looks at its loss goes on.
"""

from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = torch.device("meta")
aten = torch.ops.aten
COPIES = {aten._to_copy.default, aten.copy_.default, aten.lift_fresh.default, aten.lift.default}
INDEXED = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}


class Shapes(TorchDispatchMode):
    """Within it, tensors on DEVICE behave as on a GPU."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        leaves = tree_leaves((args, kwargs))
        if not any(map(_is_here, leaves)):
            return func(*args, **kwargs)
        if (value := _read(func, args, kwargs)) is not NotImplemented:
            return value
        strangers = [x for x in leaves if _on_cpu(x) and x.dim() > 0]
        if strangers and func not in COPIES:
            if func not in INDEXED or _on_cpu(args[0]):
                tensors = [x for x in leaves if isinstance(x, torch.Tensor)]
                told = ", ".join(f"{list(x.shape)} on {x.device.type}" for x in tensors)
                raise RuntimeError(f"{func} takes tensors of two devices: {told}")
            args = tree_map(lambda x: x.to(DEVICE) if _on_cpu(x) else x, args)
        return func(*args, **kwargs)


def _on_cpu(x: Any) -> bool:
    return isinstance(x, torch.Tensor) and x.device.type == "cpu"


def _is_here(x: Any) -> bool:
    return isinstance(x, torch.Tensor) and x.device == DEVICE


def _read(func: Any, args: Any, kwargs: Any) -> Any:
    """Give what an operation reads off the device; NotImplemented for one that reads nothing."""
    if func == aten._local_scalar_dense.default:  # item(), bool(), int(), float()
        return torch.ones((), dtype=args[0].dtype).item()
    if func == aten.equal.default:
        return True
    if func == aten.nonzero.default:  # nothing is found
        return args[0].new_zeros(0, args[0].dim(), dtype=torch.int64)
    if func == aten._to_copy.default and str(kwargs.get("device")) == "cpu":
        return torch.zeros(args[0].shape, dtype=kwargs.get("dtype") or args[0].dtype)
    if func == aten.copy_.default and _on_cpu(args[0]):
        return args[0]
    return NotImplemented


# ---------------------------------------------------------------------- bfloat16

IN_BF16 = {
    torch.nn.functional.linear,
    torch.conv1d,
    torch.conv2d,
    torch.conv3d,
    torch.matmul,
    torch.mm,
    torch.bmm,
    torch.addmm,
    torch.baddbmm,
    torch.Tensor.matmul,
    torch.Tensor.__matmul__,
    torch.Tensor.__rmatmul__,
}


class Autocast(TorchFunctionMode):
    """Multiplies matrices in bfloat16, as ``torch.autocast`` does, which does not know this device."""

    def __init__(self) -> None:
        super().__init__()
        self.narrow: dict[torch.Tensor, torch.Tensor] = {}  # each weight is made narrow once

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in IN_BF16:
            args, kwargs = tree_map(self._narrow, (args, kwargs or {}))
        return func(*args, **(kwargs or {}))

    def _narrow(self, x: Any) -> Any:
        if not _is_here(x) or x.dtype != torch.float32:
            return x
        if not (x.is_leaf and x.requires_grad):
            return x.bfloat16()
        if x not in self.narrow:
            self.narrow[x] = x.bfloat16()
        return self.narrow[x]
