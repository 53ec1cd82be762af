"""A watch on a training: which layer never fires, always fires, loses spikes or gradient, or gives nan.

    with Watch(net) as watch:
        one_training_step()              # forward, backward; the gradients stay until they are looked at
    print(watch.finding())               # ("", "") or a kind and a line: which layer, what usually helps

Three failures are those that everyone meets: neurons that never fire learn little, neurons that always fire
say nothing, and spikes that get fewer from layer to layer do not reach the end. And two concern the way back:
the gradient fades with depth, or it is cut off, by a spike without a surrogate or by ``detach``. A nan is
named where it first appears. One look costs one pass over what the layers gave; ``training.fit`` looks once
an epoch.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

NEVER = 1e-4
"""A layer in which fewer entries than this are spikes is dead: it tells later layers nothing."""
ALWAYS = 0.95
"""A layer in which more entries than this are spikes is saturated."""
FADED = 1e-5
"""A gradient at the first weights that is less than this share of the one at the last has vanished."""
HELPS = {
    "nan": "a lower learning rate; no nan in the input; no root, logarithm or division of what may be 0",
    "never": "a lower threshold, or a larger input: scale it, or take batch norm before the neurons",
    "always": "a higher threshold, a smaller input, or a penalty on spikes (lesson 14)",
    "depth": "residual connections (lesson 10), or batch norm before the neurons",
    "answers": "a larger input, a lower threshold, or more time steps",
    "cut": "a surrogate gradient for each spike (lesson 07), and no detach() or no_grad() on the way",
    "gradient": "residual connections (lesson 10), a wider surrogate (lesson 07), or batch norm",
}
"""What usually helps, by the kind of a finding."""
PLAIN = (nn.Linear, nn.modules.conv._ConvNd, nn.modules.batchnorm._NormBase, nn.LayerNorm)
"""Layers with weights that are no neurons, also where what they give is 0."""


@dataclass
class Seen:
    """Spikes of a layer, over all of its calls in one pass."""

    spikes: float = 0.0
    entries: int = 0
    recorded: bool = False
    """Autograd recorded them: then a backward pass tells whether anything depends on them."""
    asked: bool = False
    """A gradient arrived at them."""

    @property
    def rate(self) -> float:
        """Share of entries that are spikes."""
        return self.spikes / max(1, self.entries)


class Watch:
    """Sees each layer that makes spikes: its output is 0 or 1 everywhere, and its input is not.

    Where the input is 0 or 1, too, a module with weights or with a threshold counts. Of nested modules the
    innermost counts. So any neuron is seen, of this course, of snnTorch in a loop over the steps, or a
    learner's own, as long as it is a module.
    """

    def __init__(self, net: nn.Module) -> None:
        self.net = net
        self.layers: dict[str, Seen] = {}
        self.used: set[str] = set()
        self.nan = ""
        self.answers: torch.Tensor | None = None
        self._handles: list[Any] = []

    def __enter__(self) -> "Watch":
        for name, module in self.net.named_modules():
            handle = module.register_forward_hook(partial(self._note, name), with_kwargs=True)
            self._handles.append(handle)
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _note(self, name: str, module: nn.Module, inputs: Any, named_inputs: Any, output: Any) -> None:
        x, y = _first_tensor([*inputs, *named_inputs.values()]), _first_tensor(output)
        self.used.add(name)
        if not name:
            self.answers = y
        if y is not None and not self.nan and y.isnan().any():
            self.nan = name or type(module).__name__
        inside = f"{name}." if name else ""
        nested = any(other.startswith(inside) and other != name for other in self.layers)
        if x is None or y is None or nested or not _is_binary(y):
            return
        if not _is_binary(x) or _may_be_neurons(module, x):
            self._add(name or type(module).__name__, y)

    def _add(self, name: str, spk: torch.Tensor) -> None:
        """Count spikes, and ask autograd to tell when a gradient arrives at them."""
        seen = self.layers.setdefault(name, Seen())
        seen.spikes += spk.detach().float().sum().item()
        seen.entries += spk.numel()

        def arrived(grad: torch.Tensor) -> None:
            seen.asked = True

        if spk.requires_grad:
            seen.recorded = True
            spk.register_hook(arrived)

    def finding(self) -> tuple[str, str]:
        """Give the kind of what is wrong with the watched step, and one line on what usually helps."""
        for look in (self._of_nan, self._of_rates, self._of_answers, self._of_gradients):
            kind, line = look()
            if kind:
                return kind, f"{line}. Usually helps: {HELPS[kind]}."
        return "", ""

    def _of_nan(self) -> tuple[str, str]:
        if self.nan:
            return "nan", f"{self.nan} gives nan"
        for name, weight in self.net.named_parameters():
            if weight.grad is not None and not weight.grad.isfinite().all():
                return "nan", f"the gradient at {name} is nan or infinite"
        return "", ""

    def _of_rates(self) -> tuple[str, str]:
        """Look at the spikes on which something depends: a read-out may use its membrane alone."""
        went_back = any(seen.asked for seen in self.layers.values())
        rates = {}
        for name, seen in self.layers.items():
            idle = went_back and seen.recorded and not seen.asked
            if not idle:
                rates[name] = seen.rate
        return _silent_or_loud(rates)

    def _of_answers(self) -> tuple[str, str]:
        """Compare the answers [B, ...], or [T, B, ...] over time, of the first sample with the others."""
        y = self.answers
        if y is None or y.dim() not in (2, 3):
            return "", ""
        samples = y if y.dim() == 2 else y.transpose(0, 1)
        if len(samples) > 1 and bool((samples == samples[:1]).all()):
            return "answers", "the answers are the same for every input, so nothing of it gets through"
        return "", ""

    def _of_gradients(self) -> tuple[str, str]:
        sizes = {}
        for name, weight in self._weights():
            if weight.grad is None:
                return "cut", f"no gradient arrives at {name}"
            sizes[name] = weight.grad.square().mean().sqrt().item()
        if len(sizes) < 2:
            return "", ""
        first, *_, last = sizes
        if sizes[first] >= FADED * sizes[last]:
            return "", ""
        share = sizes[first] / sizes[last]
        return "gradient", f"the gradient vanishes with depth: at {first} it is {share:.0e} of that at {last}"

    def _weights(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Give the weights to be learned that took part: they have a gradient, or their layer was called."""
        went_back = any(weight.grad is not None for weight in self.net.parameters())
        for name, weight in self.net.named_parameters():
            owner = name.rpartition(".")[0]
            called = owner in self.used and isinstance(self.net.get_submodule(owner), PLAIN)
            took_part = weight.grad is not None or (went_back and called)
            if weight.dim() > 1 and weight.requires_grad and took_part:
                yield name, weight


class Look:
    """Takes a training step with a ``Watch`` on it, and says what was found; each finding once."""

    def __init__(self, net: nn.Module, say: Callable[[str], Any], name: str = "net") -> None:
        self.net, self.say, self.name = net, say, name
        self.told: set[str] = set()

    def __call__(self, take: Callable[[], torch.Tensor]) -> torch.Tensor:
        """Give what the step gives."""
        with Watch(self.net) as watch:
            loss = take()
        kind, finding = watch.finding()
        if kind and kind not in self.told:
            self.told.add(kind)
            self.say(f"  Watch, {self.name}: {finding}")
        return loss


def _silent_or_loud(rates: dict[str, float]) -> tuple[str, str]:
    """Find the first layer that always or never fires; it is the cause of what is wrong after it."""
    before: list[float] = []
    for name, rate in rates.items():
        percent = f"{100 * rate:.3g} % of its steps"
        if rate > ALWAYS:
            return "always", f"{name} fires in {percent}, nearly always, so its spikes say nothing"
        if rate < NEVER and len(before) > 1 and before == sorted(before, reverse=True):
            shown = " -> ".join(f"{100 * share:.2g} %" for share in [*before, rate])
            return "depth", f"spikes vanish with depth, {shown}, and {name} is silent"
        if rate < NEVER:
            return "never", f"{name} never fires ({percent})"
        before.append(rate)
    return "", ""


def _first_tensor(values: Any) -> torch.Tensor | None:
    """Give what a module takes or gives first, if that is a tensor of floating-point numbers."""
    value = values[0] if isinstance(values, tuple | list) and values else values
    return value if isinstance(value, torch.Tensor) and value.is_floating_point() else None


def _is_binary(x: torch.Tensor) -> bool:
    """Say whether all entries are 0 or 1. A first row of other numbers spares a pass over the rest."""
    first = x
    while first.dim() > 1 and len(first):
        first = first[0]
    return _all_bits(first) and _all_bits(x)


def _all_bits(x: torch.Tensor) -> bool:
    return bool(((x == 0) | (x == 1)).all())


def _may_be_neurons(module: nn.Module, x: torch.Tensor) -> bool:
    """Tell a layer that makes spikes of spikes from one that hands them on, such as a pool or dropout."""
    if hasattr(module, "threshold") or hasattr(module, "v_threshold"):
        return True
    weights = any(weight.dim() > 1 for weight in module.parameters())
    return weights and not isinstance(module, PLAIN) and bool(x.any())  # of nothing, weights make nothing
