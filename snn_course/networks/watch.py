"""A watch on a training: which layer never fires, always fires, or loses spikes or gradient with depth.

    with Watch(net) as watch:
        one_training_step()              # forward, backward; the gradients stay until they are looked at
    print(watch.finding())               # ("", "") or a kind and a line: which layer, what usually helps

The three failures are those that everyone meets: neurons that never fire learn little, neurons that always
fire say nothing, and spikes that get fewer from layer to layer do not reach the end. One look costs one pass
over what the layers gave; ``training.fit`` looks once an epoch.
"""

from collections.abc import Callable
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
    "never": "a lower threshold, or a larger input: scale it, or take batch norm before the neurons",
    "always": "a higher threshold, a smaller input, or a penalty on spikes (lesson 14)",
    "depth": "residual connections (lesson 10), or batch norm before the neurons",
    "answers": "a larger input, a lower threshold, or more time steps",
    "gradient": "residual connections (lesson 10), a wider surrogate (lesson 07), or batch norm",
}
"""What usually helps, by the kind of a finding."""


@dataclass
class Seen:
    """Spikes of a layer, over all of its calls in one pass."""

    spikes: float = 0.0
    entries: int = 0

    @property
    def rate(self) -> float:
        """Share of entries that are spikes."""
        return self.spikes / max(1, self.entries)


class Watch:
    """Sees each layer that makes spikes: its output is 0 or 1 everywhere, its input is not.

    Of nested modules the innermost counts. So any neuron is seen, of this course, of snnTorch in a loop over
    the steps, or a learner's own, as long as it is a module.
    """

    def __init__(self, net: nn.Module) -> None:
        self.net = net
        self.layers: dict[str, Seen] = {}
        self.answers: torch.Tensor | None = None
        self._handles: list[Any] = []

    def __enter__(self) -> "Watch":
        for name, module in self.net.named_modules():
            self._handles.append(module.register_forward_hook(partial(self._note, name)))
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _note(self, name: str, module: nn.Module, inputs: Any, output: Any) -> None:
        x, y = (_first_tensor(value) for value in (inputs, output))
        if not name:
            self.answers = y
        inside = f"{name}." if name else ""
        nested = any(other.startswith(inside) and other != name for other in self.layers)
        if x is None or y is None or nested or _is_binary(x) or not _is_binary(y):
            return
        seen = self.layers.setdefault(name or type(module).__name__, Seen())
        seen.spikes += y.detach().float().sum().item()
        seen.entries += y.numel()

    def finding(self) -> tuple[str, str]:
        """Give the kind of what is wrong with the watched step, and one line on what usually helps."""
        rates = {name: seen.rate for name, seen in self.layers.items()}
        found = _of_rates(rates)
        if not found[0] and self._same_answers():
            found = "answers", "the answers are the same for every input, so nothing of it gets through"
        if not found[0]:
            found = self._of_gradients()
        kind, line = found
        return (kind, f"{line}. Usually helps: {HELPS[kind]}.") if kind else ("", "")

    def _same_answers(self) -> bool:
        y = self.answers
        return y is not None and y.dim() == 2 and len(y) > 1 and bool((y == y[:1]).all())

    def _of_gradients(self) -> tuple[str, str]:
        sizes = {
            name: weight.grad.square().mean().sqrt().item()
            for name, weight in self.net.named_parameters()
            if weight.grad is not None and weight.dim() > 1
        }
        if len(sizes) < 2:
            return "", ""
        first, *_, last = sizes
        if sizes[first] >= FADED * sizes[last]:
            return "", ""
        share = sizes[first] / sizes[last]
        return "gradient", f"the gradient vanishes with depth: at {first} it is {share:.0e} of that at {last}"


class Look:
    """Takes a training step with a ``Watch`` on it, and says what was found; each finding once."""

    def __init__(self, net: nn.Module, say: Callable[[str], Any]) -> None:
        self.net, self.say = net, say
        self.told: set[str] = set()

    def __call__(self, take: Callable[[], torch.Tensor]) -> torch.Tensor:
        """Give what the step gives."""
        with Watch(self.net) as watch:
            loss = take()
        kind, finding = watch.finding()
        if kind and kind not in self.told:
            self.told.add(kind)
            self.say(f"  Watch: {finding}")
        return loss


def _of_rates(rates: dict[str, float]) -> tuple[str, str]:
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
