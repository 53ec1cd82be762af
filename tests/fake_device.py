"""A device that computes shapes alone, and takes a GPU's part on a machine that has none.

    with fake_device.FakeDevice():
        net = Net().to(fake_device.DEVICE)      # any size: no numbers are kept, none are computed

It is PyTorch's "meta" device, made as strict as a GPU: an operation on tensors of two devices is an error. A
GPU allows copies, indices that lie on the CPU, and a single number, so those are allowed. What is read off it
is one, or zeros: so a training loop that looks at its loss goes on.
"""

from collections.abc import Iterator
from typing import Any
from unittest.mock import MagicMock

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = torch.device("meta")
aten = torch.ops.aten
COPIES = {aten._to_copy.default, aten.copy_.default, aten.lift_fresh.default, aten.lift.default}
INDEXED = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}


def on_cpu(x: Any) -> bool:
    return isinstance(x, torch.Tensor) and x.device.type == "cpu"


def on_fake(x: Any) -> bool:
    return isinstance(x, torch.Tensor) and x.device == DEVICE


def read(func: Any, args: Any, kwargs: Any) -> Any:
    """Give what an operation reads off the device; NotImplemented for one that reads nothing."""
    if func == aten._local_scalar_dense.default:  # item(), bool(), int(), float()
        return torch.ones((), dtype=args[0].dtype).item()
    if func == aten.equal.default:
        return True
    if func == aten.nonzero.default:  # nothing is found
        return args[0].new_zeros(0, args[0].dim(), dtype=torch.int64)
    if func == aten._to_copy.default and str(kwargs.get("device")) == "cpu":
        return torch.zeros(args[0].shape, dtype=kwargs.get("dtype") or args[0].dtype)
    if func == aten.copy_.default and on_cpu(args[0]):
        return args[0]
    return NotImplemented


class FakeDevice(TorchDispatchMode):
    """Within it, tensors on DEVICE behave as on a GPU."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        leaves = tree_leaves((args, kwargs))
        if not any(map(on_fake, leaves)):
            return func(*args, **kwargs)
        if (value := read(func, args, kwargs)) is not NotImplemented:
            return value
        strangers = [x for x in leaves if on_cpu(x) and x.dim() > 0]
        if strangers and func not in COPIES:
            if func not in INDEXED or on_cpu(args[0]):
                shapes = [
                    f"{list(x.shape)} on {x.device.type}" for x in leaves if isinstance(x, torch.Tensor)
                ]
                raise RuntimeError(f"{func} takes tensors of two devices: {', '.join(shapes)}")
            args = tree_map(lambda x: x.to(DEVICE) if on_cpu(x) else x, args)
        return func(*args, **kwargs)


IN_BF16 = {
    torch.nn.functional.linear,
    torch.conv2d,
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
    """Multiplies matrices in bfloat16, as ``torch.autocast`` does, which knows no "meta" device."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in IN_BF16:
            args, kwargs = tree_map(narrow, (args, kwargs or {}))
        return func(*args, **(kwargs or {}))


def narrow(x: Any) -> Any:
    return x.bfloat16() if on_fake(x) and x.dtype == torch.float32 else x


def run(scale: str = "gpu") -> Any:
    """Give a run on the fake device that keeps nothing, and of each pass shows the first batch alone."""

    def progress(batches: Any, *_: Any) -> Iterator[Any]:
        yield from list(batches)[:1]

    fake = MagicMock(device=DEVICE, seed=0, scale=scale)
    fake.load.return_value = None
    fake.progress.side_effect = progress
    return fake


def images(count: int, *shape: int, classes: int = 10) -> Any:
    """Give bytes [count, *shape] and labels [count] on the CPU, as a data set lies on disk."""
    made = torch.randint(0, 256, (count, *shape), dtype=torch.uint8)
    return MagicMock(
        images=made, labels=torch.arange(count) % classes, classes=[str(c) for c in range(classes)]
    )
