"""Before a training begins on a GPU: does it fit into the card's memory, and how long will it take?

    parts = budget.parts(run, "net", 64, need)    # prints: net: a step of 64 takes 3.1 GB of the GPU, ...
    pace = budget.Pace(run, "net", steps=4000)
    for step in range(4000):
        ...
        pace.look(step)                           # prints once: net: 31 ms a step, so about 2 min ...

Memory is not measured but predicted, from shapes (``costs/shapes.py``): one step of the training's own
network is walked through on a device that computes nothing. What counts is the worst moment: weights, their
gradients, the two means that Adam keeps for each weight, and all that autograd keeps for the way back. Only
the last part grows with the batch. So a batch that does not fit is cut in two, again and again: gradients of
the pieces add up to that of the whole. (Batch norm alone notices: it sees a piece at a time.)

    SNN_GPU_GB=8 python lessons/10_convolutional_snn.py     # take at most 8 GB (10^9 bytes) of the card
"""

import copy
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from snn_course.runs import wording
from snn_course import UsageError, reason_of
from snn_course.costs import memory, shapes
from snn_course.networks import twins

import torch
from torch import nn

LIMIT = "SNN_GPU_GB"
SPARE = 1.1
"""What must be free over what is needed: libraries take some for themselves, and gaps stay empty."""
NEWS = 1.5
"""A pace that differs from the one that was told by this factor is told again."""


# ---------------------------------------------------------------------- memory


@dataclass(frozen=True)
class Need:
    """Bytes of a training: what lies on the card before the first step, and what comes on top of it."""

    held: int
    """Weights and data."""
    more: int
    """Adam's means, and what a step holds at its worst moment."""

    def __str__(self) -> str:
        return f"{(self.held + self.more) / 1e9:.2g} GB"


def need(net: nn.Module, step: Callable[[nn.Module], object], *data: torch.Tensor) -> Need:
    """Predict what training ``net`` with Adam takes.

    Args:
        net: the network, on any device; it stays as it is.
        step: forward, loss and backward of a network that lies on ``shapes.DEVICE``, as its inputs must.
        data: what else lies on the card.
    """
    copied = copy.deepcopy(net).to(shapes.DEVICE)
    copied.zero_grad()
    with torch.random.fork_rng(devices=[]), twins.forced(False), shapes.Shapes():
        peak = memory.peak_bytes(partial(step, copied))
    weights = _bytes([weight for weight in net.parameters() if weight.requires_grad])
    held = _bytes([*net.parameters(), *net.buffers(), *data])
    return Need(held, 2 * weights + peak)


def _bytes(tensors: list[torch.Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)


def free(device: torch.device) -> int | None:
    """Give the bytes of a GPU that this process may still take; None for a CPU.

    Raises: UsageError: SNN_GPU_GB is no number above 0.
    """
    limit = _limit()
    if device.type != "cuda":
        return None
    taken, reserved = torch.cuda.memory_allocated(device), torch.cuda.memory_reserved(device)
    left = _of_card(device, reserved) + reserved - taken
    return left if limit is None else min(left, limit - taken)


def _of_card(device: torch.device, reserved: int) -> int:
    """Give what no process has taken; where a driver does not tell, what this process has not taken."""
    try:
        return torch.cuda.mem_get_info(device)[0]
    except RuntimeError:
        return torch.cuda.get_device_properties(device).total_memory - reserved


def _limit() -> int | None:
    """Give the bytes that SNN_GPU_GB allows; None where it is not set."""
    given = os.environ.get(LIMIT)
    if not given:
        return None
    try:
        limit = int(1e9 * float(given))
    except (ValueError, OverflowError):
        limit = 0
    if limit <= 0:
        raise UsageError(f"{LIMIT} must be the GB of the GPU's memory to use, such as 8, not {given!r}.")
    return limit


def parts(run: Any, name: str, batch: int, needed: Callable[[int], Need]) -> int:
    """Choose into how many pieces each batch is cut, so that a training fits; at gpu scale, say it in a line.

    Args:
        run: gives device, scale and console.
        name: of the training.
        batch: how many samples a step takes.
        needed: what the training needs if a batch is cut into that many pieces.

    Returns: 1, 2, 4, ...; 1 on a CPU, at other scales, and where the need cannot be predicted.
    Raises: UsageError: it does not even fit sample by sample.
    """
    left = free(run.device)
    if left is None or run.scale != "gpu":
        return 1
    try:
        whole, found = _halved(batch, left, needed)
    except UsageError:
        raise
    except Exception as error:  # a network that no shape can stand in for: train it and see
        run.console.print(f"  {name}: its memory cannot be predicted: {reason_of(error)}", markup=False)
        return 1
    told = f"  {name}: a step of {batch} takes {whole} of the GPU's memory, {left / 1e9:.2g} GB are free"
    if found > 1:
        told += f": {found} pieces of {-(-batch // found)}, one by one, gradients added up"
    run.console.print(told, markup=False)
    return found


def _halved(batch: int, left: int, needed: Callable[[int], Need]) -> tuple[Need, int]:
    """Halve a batch until it fits. Returns: what the whole one needs, and the number of pieces."""
    pieces, whole = 1, needed(1)
    now = whole
    while SPARE * now.more > left:
        pieces *= 2
        if pieces > batch:
            raise UsageError(
                f"the GPU has {left / 1e9:.2g} GB free, and training needs {now} even sample by sample: "
                f"close what else uses the GPU, or take --device cpu."
            )
        now = needed(pieces)
    return whole, pieces


# ---------------------------------------------------------------------- time


class Pace:
    """Says how long a training will take, from the first steps that are timed on this machine."""

    def __init__(self, run: Any, name: str, steps: int) -> None:
        self.run, self.name, self.steps = run, name, steps
        self.told = 0.0
        self.last: tuple[int, float] | None = None

    def look(self, step: int) -> None:
        """Note the time when ``step`` of all ``steps`` is done, and the GPU waits for nothing.

        The first step is left out: it loads and compiles kernels. At gpu scale the pace between the first two
        looks is told, and a later one that is another.
        """
        now = time.perf_counter()
        if self.last is not None and step > self.last[0] and self.run.scale == "gpu":
            pace = (now - self.last[1]) / (step - self.last[0])
            if not self.told / NEWS <= pace <= self.told * NEWS:
                self.told = pace
                self._tell(self.steps - step)
        self.last = step, now

    def _tell(self, left: int) -> None:
        shown = wording.duration(left * self.told)
        line = (
            f"  {self.name}: {1000 * self.told:.3g} ms a step, so about {shown} for the {left} that are left"
        )
        self.run.console.print(line, markup=False)
