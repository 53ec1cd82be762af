"""Instruments that watch a training from inside: what goes into the loss, the optimiser, the first layer.

``with installed()`` puts them into PyTorch, snnTorch and the course's neurons; ``with watching() as facts``
then notes what happens. The same is noted for the lesson's own solution, so
that only a difference counts.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

from snn_course.networks import neurons

import torch
from snntorch import SpikingNeuron
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook
from torch.optim.optimizer import register_optimizer_step_pre_hook

MANY_NODES = 20_000
"""Nodes of a graph that are looked at."""


@dataclass
class Facts:
    """What was seen."""

    losses: int = 0
    """Calls of a cross-entropy."""
    probabilities: int = 0
    """Those of them whose input rows are probabilities already."""
    bits: int = 0
    """Those whose scores are 0 or 1, each of them, as the spikes of a single step are."""
    loss_shapes: set[tuple[int, ...]] = field(default_factory=set)
    classes: set[int] = field(default_factory=set)
    """Labels that the losses were given."""
    rate: float = 0.0
    """The highest learning rate."""
    largest_input: float = 0.0
    """Largest number that a layer was given as data, not by another layer."""
    steps: int = 0
    """Steps of an optimiser."""
    deaf: int = 0
    """Those of them on which the gradient of the first parameter was 0 everywhere."""
    layers: int = 0
    """Calls of a neuron layer."""
    spikes: float = 0.0
    graphs: int = 0
    """Ways back that were walked."""
    rootless: int = 0
    """Those of them that come to no parameter."""
    single_steps: int = 0
    """Parts of a graph that take one step out of a tensor, as x[t] or narrow: each costs one of zeros."""


_current: Facts | None = None


@contextmanager
def watching() -> Iterator[Facts]:
    """Note what happens until the end of the ``with``."""
    global _current  # noqa: PLW0603
    before, _current = _current, Facts()
    try:
        yield _current
    finally:
        _current = before


@contextmanager
def installed() -> Iterator[None]:
    """Put the instruments in, before a lesson or a learner's file imports what they watch."""
    functions = nn.functional
    places: list[tuple[Any, str, Callable[..., Any]]] = [
        (functions, "cross_entropy", _told(functions.cross_entropy, _loss)),
        (functions, "linear", _told(functions.linear, _layer)),
        (functions, "conv2d", _told(functions.conv2d, _layer)),
        (neurons, "leaky", _told_after(neurons.leaky)),
        (torch.Tensor, "backward", _told(torch.Tensor.backward, _graph)),
        (torch.autograd, "grad", _told(torch.autograd.grad, _graphs)),
    ]
    before = [getattr(place, name) for place, name, _ in places]
    hooks = [register_optimizer_step_pre_hook(_step), register_module_forward_hook(_neuron)]
    for place, name, watched in places:
        setattr(place, name, watched)
    try:
        yield
    finally:
        for (place, name, _), old in zip(places, before, strict=True):
            setattr(place, name, old)
        for hook in hooks:
            hook.remove()


def _told(function: Callable[..., Any], note: Callable[..., None]) -> Callable[..., Any]:
    """Give a function that notes its arguments first."""

    @wraps(function)
    def watched(*arguments: Any, **named: Any) -> Any:
        if _current is not None:
            with torch.no_grad():
                note(_current, *arguments, **named)
        return function(*arguments, **named)

    return watched


def _told_after(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a function that notes the spikes that it returns first."""

    @wraps(function)
    def watched(*arguments: Any, **named: Any) -> Any:
        results = function(*arguments, **named)
        if _current is not None:
            _spikes(_current, results[0])
        return results

    return watched


def _loss(facts: Facts, scores: Any = None, target: Any = None, *_: Any, **named: Any) -> None:
    scores = named.get("input", scores)
    target = named.get("target", target)
    facts.losses += 1
    if not isinstance(scores, Tensor) or not isinstance(target, Tensor):
        return
    facts.loss_shapes.add(tuple(scores.shape))
    if scores.ndim > 1 and scores.numel():
        sums = scores.double().sum(1)
        whole = torch.allclose(sums, torch.ones_like(sums), atol=1e-4)
        spikes = ((scores == 0) | (scores == 1)).all()  # one spike in each row is no softmax
        facts.probabilities += bool(whole and (scores >= 0).all() and not spikes)
        facts.bits += bool(spikes)
    if not target.is_floating_point():
        facts.classes |= set(target.flatten().tolist())


def _layer(facts: Facts, values: Any = None, *_: Any, **named: Any) -> None:
    values = named.get("input", values)
    if isinstance(values, Tensor) and values.grad_fn is None and values.numel():
        facts.largest_input = max(facts.largest_input, float(values.abs().max()))


def _step(optimizer: torch.optim.Optimizer, *_: Any) -> None:
    if _current is None:
        return
    _current.steps += 1
    groups = optimizer.param_groups
    _current.rate = max(_current.rate, *(float(group["lr"]) for group in groups))
    gradient = groups[0]["params"][0].grad
    _current.deaf += gradient is not None and not bool(gradient.any())


def _neuron(module: nn.Module, _: Any, output: Any) -> None:
    if _current is not None and isinstance(module, SpikingNeuron):
        _spikes(_current, output[0] if isinstance(output, tuple) else output)


def _spikes(facts: Facts, spk: Any) -> None:
    if isinstance(spk, Tensor):
        facts.layers += 1
        facts.spikes += float(spk.detach().sum())


def _graphs(facts: Facts, outputs: Any = None, *_: Any, **named: Any) -> None:
    outputs = named.get("outputs", outputs)
    for output in [outputs] if isinstance(outputs, Tensor) else outputs or []:
        _graph(facts, output)


def _takes_one_step(node: Any) -> bool:
    """Say whether a part of a graph takes a single step out of a tensor: x[t], x[t:t+1], x[[t]] and so on."""
    kind = type(node).__name__
    if kind == "SelectBackward0":
        return bool(node._saved_self_sym_sizes[node._saved_dim] > 1)
    if kind == "SliceBackward0":
        size = int(node._saved_self_sym_sizes[node._saved_dim])
        bounds = (_signed(node._saved_start), _signed(node._saved_end), node._saved_step)
        return size > 1 and len(range(*slice(*bounds).indices(size))) == 1
    if kind == "IndexSelectBackward0":
        return bool(node._saved_index.numel() == 1)
    if kind == "IndexBackward0":
        return any(index is not None and _chosen(index) == 1 for index in node._saved_indices)
    return False


def _chosen(index: Tensor) -> int:
    """Count what an index takes: the places of a mask that are true, else all its numbers."""
    return int(index.sum()) if index.dtype == torch.bool else index.numel()


def _signed(number: int) -> int:
    """Read a number of 64 bits that PyTorch tells without its sign."""
    return number - 2**64 if number >= 2**63 else number


def _graph(facts: Facts, loss: Tensor, *_: Any, **__: Any) -> None:
    """Walk through the graph behind a loss, once for each node."""
    waiting: list[Any] = [loss.grad_fn]
    seen: set[Any] = {None}
    count = parameters = 0
    while waiting and len(seen) < MANY_NODES:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        count += _takes_one_step(node)
        parameters += isinstance(getattr(node, "variable", None), nn.Parameter)
        waiting += [following for following, _ in node.next_functions]
    facts.single_steps = max(facts.single_steps, count)
    facts.graphs += 1
    facts.rootless += not waiting and not parameters
