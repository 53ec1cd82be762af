"""What a solution gives on a small input, in a form that can be compared."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

CLOSE = 1e-4
"""Relative difference up to which two numbers are the same: rounding differs with the order of a sum."""


class Raised(tuple[str, str]):
    """An error in the place of an answer: its kind and its message."""


def plain(value: Any) -> Any:
    """Turn an answer into nested tuples and dicts of arrays and texts. True becomes 1, None stays.

    Tensors of bools or whole numbers keep their kind: later code may fail on them.
    """
    if isinstance(value, Raised | str) or value is None:
        return value
    if isinstance(value, torch.Tensor):
        return _of_tensor(value)
    if isinstance(value, np.ndarray | np.generic | int | float | complex):
        array = np.asarray(value)
        wide = {"c": complex, "b": float, "i": float, "u": float, "f": float}.get(array.dtype.kind)
        return array.astype(wide) if wide else str(array.tolist())
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return tuple(plain(item) for item in value)
    return repr(type(value))


def _of_tensor(value: torch.Tensor) -> np.ndarray:
    kept = value.detach().cpu()
    if kept.is_complex():
        kept = kept.to(torch.complex128)
    elif kept.is_floating_point():
        kept = kept.to(torch.float64)
    array: np.ndarray = kept.resolve_conj().resolve_neg().numpy().copy()
    return array


def same(one: Any, other: Any) -> bool:
    """Say whether two plain answers are the same."""
    if isinstance(one, Raised) or isinstance(other, Raised):
        return type(one) is type(other) and one == other
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in other)
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return one.shape == other.shape and not _apart(one, other).any() and not _is_coarser(one, other)
    return bool(type(one) is type(other) and one == other)


def _apart(own: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Say of each number whether it is another one."""
    return ~np.isclose(own, right, CLOSE, 1e-7, equal_nan=True)


def _is_coarser(own: np.ndarray, right: np.ndarray) -> bool:
    """Say whether one holds bools or whole numbers, where the right one has numbers with a fraction."""
    return own.dtype.kind in "biu" and right.dtype.kind in "fc"


def raised(kind: str, message: str) -> str:
    """Say with which error something ends."""
    if kind == "SystemExit":
        return "It ends the program, by exit() or the like."
    return f"It ends with {kind}: {message}" if message else f"It ends with {kind}."


def difference(own: Any, right: Any) -> str:
    """Say in one sentence where an answer differs first from the right one."""
    if isinstance(own, Raised):
        return raised(*own)
    if own is None:
        return "It gives nothing back: is a return missing, or a result that is never set?"
    if isinstance(own, tuple) and isinstance(right, tuple) and len(own) == len(right):
        pairs = zip(own, right, strict=True)
        return next((difference(a, b) for a, b in pairs if not same(a, b)), "")
    if isinstance(own, dict) and isinstance(right, dict):
        return _of_parts(own, right)
    if isinstance(own, np.ndarray) and isinstance(right, np.ndarray):
        return _of_arrays(own, right)
    verb = "belong" if isinstance(right, tuple) else "belongs"
    return f"On a small input it gives {_short(own)} where {_short(right)} {verb}."


def is_silent(own: Any, right: Any) -> bool:
    """Say whether spikes, arrays of 0 and 1, are all 0 where the right ones are not."""
    pairs = list(_arrays(own, right))
    spikes = [mine for mine, good in pairs if good.size > 1 and np.isin(good, (0, 1)).all() and good.any()]
    return bool(spikes) and not any(mine.any() for mine in spikes)


def _arrays(own: Any, right: Any) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Give the pairs of arrays of one shape in two answers, however deep they lie."""
    if isinstance(own, dict) and isinstance(right, dict):
        own = tuple(own.get(name) for name in right)
        right = tuple(right.values())
    if isinstance(own, tuple) and isinstance(right, tuple) and len(own) == len(right):
        for mine, good in zip(own, right, strict=True):
            yield from _arrays(mine, good)
    elif isinstance(own, np.ndarray) and isinstance(right, np.ndarray) and own.shape == right.shape:
        yield own, right


def _of_parts(own: dict[str, Any], right: dict[str, Any]) -> str:
    """Name the part that differs first."""
    for name, value in right.items():
        if name not in own:
            return f"It does not give '{name}'."
        if not same(own[name], value):
            says = difference(own[name], value)
            return f"{name[:1].upper()}{name[1:]}: {says[:1].lower()}{says[1:]}"
    return "It gives more than belongs there: " + ", ".join(name for name in own if name not in right) + "."


def _of_arrays(own: np.ndarray, right: np.ndarray) -> str:
    if own.shape != right.shape:
        return f"On a small input it gives shape {list(own.shape)} where {list(right.shape)} belongs."
    if np.isnan(own).sum() > np.isnan(right).sum():
        return "On a small input it gives nan: something was divided by 0, or grew without end."
    apart = _apart(own, right)
    if not apart.any():
        kind = "True and False" if own.dtype.kind == "b" else "whole numbers (int)"
        return f"The values are right, but they are {kind}: what follows computes with floats. See Tensor.to."
    first = tuple(int(index) for index in np.argwhere(apart)[0]) if own.ndim else ()
    mine, good = _number(own[first]), _number(right[first])
    where = f" at {list(first)}" if first else ""
    many = f" ({apart.sum()} of {apart.size} numbers differ)" if own.ndim else ""
    return f"On a small input it gives {mine}{where} where {good} belongs{many}."


def _number(value: Any) -> str:
    return f"{value.item() + 0:.4g}"  # of True, 1


def _short(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"numbers of shape {list(value.shape)}" if value.ndim else _number(value)
    if isinstance(value, tuple | dict):
        return "1 result" if len(value) == 1 else f"{len(value)} results"
    return f"'{value}'" if isinstance(value, str) else str(value)
