"""One training in several processes, on one machine or on more that share the results folder.

    torchrun --nproc-per-node 2 lessons/10_convolutional_snn.py

torchrun starts the script several times and numbers the processes (``RANK`` of ``WORLD_SIZE``). Each draws
the same random numbers, takes its own slice of each batch, and the gradients are averaged
(DistributedDataParallel): the loss curve is that of one process, but for rounding. Batch norm would spoil
this, since each process knows its slice alone. ``nn.SyncBatchNorm`` needs GPUs, so here each batch norm takes
mean and variance over all processes (``joint_norm``), on any device. Process 0 alone writes.
"""

import atexit
import os
from functools import partial
from typing import Any

from snn_course import UsageError

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel


def world() -> int:
    """Say how many processes share the training: 1 without torchrun."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """Give the number of this process, from 0."""
    return int(os.environ.get("RANK", "0"))


def joined(net: nn.Module, device: torch.device) -> nn.Module:
    """Give the network itself or, under torchrun, one that shares its gradients with the other processes.

    Raises: UsageError: several processes, and a PyTorch that cannot join them.
    """
    if world() == 1:
        return net
    if not dist.is_available():
        raise UsageError("This PyTorch cannot train in several processes; start the script without torchrun.")
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        atexit.register(dist.destroy_process_group)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
            module.forward = partial(joint_norm, module)  # type: ignore[method-assign]
    return DistributedDataParallel(net, broadcast_buffers=False)


def joint_norm(norm: Any, x: torch.Tensor) -> torch.Tensor:
    """Normalise x [N, C, ...] as ``norm`` does, with mean and variance over the slices of all processes."""
    if not norm.training:
        return type(norm).forward(norm, x)
    axes, shape = [axis for axis in range(x.dim()) if axis != 1], [-1, *[1] * (x.dim() - 2)]
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    mean = all_reduce(wide.mean(axes)) / world()  # [C]
    centred = wide - mean.view(shape)
    var = all_reduce(centred.square().mean(axes)) / world()  # [C]
    count = world() * x.numel() / x.shape[1]
    norm.running_mean.lerp_(mean.detach(), norm.momentum)
    norm.running_var.lerp_(var.detach() * count / (count - 1), norm.momentum)  # unbiased, as PyTorch keeps it
    norm.num_batches_tracked += 1
    scale = (var + norm.eps).rsqrt() * norm.weight
    return (centred * scale.view(shape) + norm.bias.view(shape)).to(x.dtype)


def all_reduce(x: torch.Tensor) -> torch.Tensor:
    """Add up x over all processes; its gradient, too."""
    from torch.distributed.nn import functional  # not in AMD's PyTorch for Windows, which has one process

    return functional.all_reduce(x)


def mean(losses: list[torch.Tensor]) -> float:
    """Give the mean of the losses of all steps, over all processes."""
    total = torch.stack(losses).double().mean()
    if world() > 1:
        dist.all_reduce(total)
    return total.item() / world()
