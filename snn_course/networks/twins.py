"""When a scan runs compiled: for long work on a CPU, once what it saves is more than what it costs to start.

    SNN_COMPILED=1 python lessons/08_feedforward_snn.py    # from the first step on
    SNN_COMPILED=0 python lessons/08_feedforward_snn.py    # never: PyTorch alone
    python lessons/08_feedforward_snn.py                   # when it pays

The scans of this folder are written in PyTorch: that is what the lessons teach, and what a GPU runs. Each has
a twin in ``compiled/`` with equal results. It needs numba, whose import takes half a second, and, the first
time on a machine, some seconds in which the twin becomes machine code; that is kept on disk. So PyTorch does
the first ``PATIENCE`` of a process, which takes it about a second, and the twin the rest. That rule looks at
sizes alone, not at the clock: so a run that is repeated switches at the same place.

On a GPU the leaky scan has a twin in Triton (``triton_scan.py``), from the first step on, where Triton is
installed and works: PyTorch brings it on Linux. Elsewhere, as on Windows with an AMD card, PyTorch computes.
That it works is tried once in a process, on one neuron; if not, one line says why.
"""

import functools
import importlib
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from snn_course import UsageError, reason_of

import torch

PATIENCE = 2.5e8
"""Neuron-steps that a process computes before it compiles."""
STEP = 4000
"""Neurons that a step costs in PyTorch however few there are: calling it takes as long."""

_done = 0.0


def compiled(row: torch.Tensor, steps: int) -> ModuleType | None:
    """Give the module of the twins, if this scan shall run compiled; None stands for PyTorch.

    Args:
        row: a row [M] of the state, for its size, type and device.
        steps: T.

    Raises:
        UsageError: SNN_COMPILED is neither 0 nor 1, or is 1 and numba cannot be imported.
    """
    global _done  # noqa: PLW0603
    choice = _choice()
    if choice == "0" or row.device.type != "cpu" or row.dtype not in (torch.float32, torch.float64):
        return None
    _done += steps * (row.numel() + STEP)
    return _module(asked=choice == "1") if choice == "1" or _done > PATIENCE else None


def leaky(row: torch.Tensor, steps: int) -> ModuleType | None:
    """Do what ``compiled`` does, for a leaky scan: on a GPU it may run in Triton."""
    if row.device.type == "cuda" and row.dtype in (torch.float32, torch.float64) and _choice() != "0":
        return _triton(row.device)
    return compiled(row, steps)


def _choice() -> str:
    """Give what SNN_COMPILED says. Raises: UsageError for a word that it does not know."""
    choice = os.environ.get("SNN_COMPILED", "")
    if choice not in ("", "0", "1"):
        raise UsageError(
            f"SNN_COMPILED must be 0 (never), 1 (always) or not set (if it pays), not {choice!r}"
        )
    return choice


@functools.cache
def _triton(device: torch.device) -> ModuleType | None:
    """Give the module of Triton's twins, if it is installed and gives right numbers on this GPU."""
    try:
        scan = importlib.import_module("snn_course.networks.triton_scan")
        scan.check(device)
    except ImportError:  # not installed: nothing to say
        return None
    except Exception as error:  # half installed, no compiler, an unknown card: PyTorch can compute
        why = f"Triton does not work on {device}: {reason_of(error)}. PyTorch computes instead."
        warnings.warn(why, stacklevel=2)
        return None
    return scan


def _module(asked: bool) -> ModuleType | None:
    try:
        return importlib.import_module("snn_course.networks.compiled")
    except ImportError as error:
        if asked:
            raise UsageError(f"SNN_COMPILED=1 needs numba, which cannot be imported: {error}") from error
        return None


@contextmanager
def forced(choice: bool) -> Iterator[None]:
    """Within this block, every scan runs compiled (True), or none does: to compare the two."""
    before = os.environ.get("SNN_COMPILED")
    os.environ["SNN_COMPILED"] = str(int(choice))
    try:
        yield
    finally:
        os.environ.pop("SNN_COMPILED")
        if before is not None:
            os.environ["SNN_COMPILED"] = before
