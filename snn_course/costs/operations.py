"""Counts the operations that a network really needs: dense, effective MACs and effective ACs.

    layers = count(net, x, samples=len(x))             # one LayerCount per Linear, Conv or MatMul module
    total = Operations.sum(layers)                     # of the whole network, per sample
    print(total.dense, total.macs, total.acs, total.picojoules)

A weight is used once for each input that meets it. An input of 0 asks for nothing, and neither does a weight
of 0: what is left is *effective*. If every input of a call is -1, 0 or 1 (a spike), no multiplication is
needed: the weight is added, an accumulate (AC). Otherwise it is a multiply-accumulate (MAC). The effective
ACs are the synaptic operations (SynOps): spikes times the connections they reach. Biases are not counted.
Source: NeuroBench (Yik et al. 2025), "synaptic operations". Its package gives the same numbers, tested to the
last operation; it adds up in float32, and here the sums are exact.

What is counted is what is computed: a still image that meets its weights once, not at each time step, counts
once. Weights that a function uses outside their module's ``forward`` are reported by ``Counter.see``. They
must not change while a counter is in use.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self

import torch
from torch import nn
from torch.nn.functional import conv1d, conv2d, conv3d

PICOJOULES_MAC, PICOJOULES_AC = 4.6, 0.9
"""Energy of a float32 multiply-accumulate and of an addition, 45 nm, 0.9 V: 3.7 + 0.9 pJ (Horowitz 2014)."""

CONVOLUTIONS: dict[type, Any] = {nn.Conv1d: conv1d, nn.Conv2d: conv2d, nn.Conv3d: conv3d}


class MatMul(nn.Module):
    """The product a @ b of two activations [..., n, k] and [..., k, m], as a module so that it is counted."""

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """Give a @ b [..., n, m]."""
        return a @ b


@dataclass(frozen=True)
class Operations:
    """Operations per sample of one layer, or of several."""

    name: str
    dense: float = 0
    """All connections, whether anything flows through them or not."""
    macs: float = 0
    """Effective multiply-accumulates: neither input nor weight is 0."""
    acs: float = 0
    """Effective accumulates: the same, where every input is a spike."""

    @property
    def picojoules(self) -> float:
        """Energy of the arithmetic alone at 45 nm. Memory and control, the larger part, are not in it."""
        return self.macs * PICOJOULES_MAC + self.acs * PICOJOULES_AC

    @classmethod
    def sum(cls, layers: Iterable["Operations"], name: str = "total") -> "Operations":
        """Add up layers."""
        layers = list(layers)
        return cls(
            name, sum(o.dense for o in layers), sum(o.macs for o in layers), sum(o.acs for o in layers)
        )


class Counter:
    """Listens to the modules of a network while it runs: ``with Counter(net) as counter: net(x)``."""

    def __init__(self, net: nn.Module) -> None:
        """Prepare to count in every Linear, Conv1d to Conv3d and MatMul of ``net``."""
        counted = (nn.Linear, MatMul, *CONVOLUTIONS)
        self.layers: dict[str, Any] = {
            name or "net": m for name, m in net.named_modules() if isinstance(m, counted)
        }
        self.counts = {name: Operations(name) for name in self.layers}
        self._names = {id(module): name for name, module in self.layers.items()}
        self._fans: dict[tuple[int, torch.Size], tuple[torch.Tensor, torch.Tensor]] = {}
        self._hooks: list[torch.utils.hooks.RemovableHandle] = []

    def __enter__(self) -> Self:
        """Listen from here on."""
        self._hooks = [
            m.register_forward_pre_hook(lambda m, x: self.see(m, *x)) for m in self.layers.values()
        ]
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Stop listening; the counts stay."""
        for hook in self._hooks:
            hook.remove()

    @torch.no_grad()
    def see(self, module: nn.Module, *inputs: torch.Tensor) -> None:
        """Count one use of a module of the network with these inputs. Raises: KeyError for another module."""
        name = self._names[id(module)]
        dense, effective = _product(*inputs) if isinstance(module, MatMul) else self._layer(module, inputs[0])
        spikes = any(_is_spikes(x) for x in inputs)
        old = self.counts[name]
        self.counts[name] = replace(
            old,
            dense=old.dense + dense,
            acs=old.acs + effective * spikes,
            macs=old.macs + effective * (not spikes),
        )

    def per_sample(self, samples: int) -> list[Operations]:
        """Give the counts of each layer, in the network's order, divided by ``samples``."""
        return [
            Operations(o.name, o.dense / samples, o.macs / samples, o.acs / samples)
            for o in self.counts.values()
        ]

    def _layer(self, module: Any, x: torch.Tensor) -> tuple[int, int]:
        x = x.reshape(-1, *x.shape[x.dim() - _dims(module) :])  # [samples, ...], time and batch in one
        key = (id(module), x.shape[1:])
        if key not in self._fans:
            self._fans[key] = (
                _fan_out(module, x[:1], torch.ones_like(module.weight, dtype=torch.bool)),
                _fan_out(module, x[:1], module.weight != 0),
            )
        every, used = self._fans[key]
        active = (x != 0).sum(0, dtype=torch.int32).double()  # how often each input is not 0
        return round(float(every.sum()) * len(x)), round(float((active * used).sum()))


def count(net: nn.Module, x: torch.Tensor, samples: int) -> list[Operations]:
    """Run ``net(x)`` once without gradients, and give the operations of each layer per sample.

    Args:
        net: a network whose weights are in nn.Linear and nn.Conv modules.
        x: its input, of any shape, e.g. [T, B, N].
        samples: the number of samples in x (B).
    """
    with torch.no_grad(), Counter(net) as counter:
        net(x)
    return counter.per_sample(samples)


def _dims(module: nn.Module) -> int:
    """Axes of one sample: features, or channels and space."""
    return 1 if isinstance(module, nn.Linear) else module.weight.dim() - 1  # type: ignore[operator]


def _fan_out(module: Any, one: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Give for each input of one sample the weights of ``mask`` that it meets: d sum(layer(x)) / dx."""
    with torch.enable_grad():
        mask = mask.double()  # exact, and left alone by autocast
        x = torch.zeros_like(one, dtype=torch.float64).requires_grad_()
        if isinstance(module, nn.Linear):
            out = x @ mask.T
        else:
            out = CONVOLUTIONS[type(module)](
                x, mask, None, module.stride, module.padding, module.dilation, module.groups
            )
        return torch.autograd.grad(out.sum(), x)[0][0]


def _product(a: torch.Tensor, b: torch.Tensor) -> tuple[int, int]:
    """Each a[i, k] meets each b[k, j]."""
    lead = torch.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    left = (a != 0).sum(-2, dtype=torch.float64).expand(*lead, -1)  # [..., k]
    right = (b != 0).sum(-1, dtype=torch.float64).expand(*lead, -1)  # [..., k]
    return lead.numel() * a.shape[-2] * a.shape[-1] * b.shape[-1], round(float((left * right).sum()))


def _is_spikes(x: torch.Tensor) -> bool:
    return bool(((x == 0) | (x.abs() == 1)).all())


def sparsity(spk: torch.Tensor) -> float:
    """Give the share of zeros, 0 to 1, in spikes of any shape. Raises: ValueError when there is no value."""
    if spk.numel() == 0:
        raise ValueError("there are no spikes to count: the tensor is empty")
    return 1 - int(spk.count_nonzero()) / spk.numel()
