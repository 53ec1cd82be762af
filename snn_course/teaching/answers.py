"""What a solution gives on a small input, in a form that can be compared."""

from typing import Any

import numpy as np
import torch

CLOSE = 1e-4
"""Relative difference up to which two numbers are the same: rounding differs with the order of a sum."""


class Raised(tuple[str, str]):
    """An error in the place of an answer: its kind and its message."""


def plain(value: Any) -> Any:
    """Turn an answer into nested tuples of arrays and texts. True becomes 1, None stays."""
    if isinstance(value, Raised | str) or value is None:
        return value
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", torch.float64).numpy().copy()
    if isinstance(value, np.ndarray | np.generic | int | float):
        array = np.asarray(value)
        return array.astype(float) if array.dtype.kind in "biuf" else str(array.tolist())
    if isinstance(value, dict):
        return tuple((plain(key), plain(item)) for key, item in value.items())
    if isinstance(value, list | tuple):
        return tuple(plain(item) for item in value)
    return repr(type(value))


def same(one: Any, other: Any) -> bool:
    """Say whether two plain answers are the same."""
    if isinstance(one, Raised) or isinstance(other, Raised):
        return type(one) is type(other) and one == other
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return one.shape == other.shape and bool(np.allclose(one, other, CLOSE, 1e-7, equal_nan=True))
    return bool(type(one) is type(other) and one == other)


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
    if isinstance(own, tuple) and isinstance(right, tuple):
        if len(own) != len(right):
            return f"On a small input it gives {len(own)} results where {len(right)} belong."
        pairs = zip(own, right, strict=True)
        return next((difference(a, b) for a, b in pairs if not same(a, b)), "")
    if isinstance(own, np.ndarray) and isinstance(right, np.ndarray):
        return _of_arrays(own, right)
    return f"On a small input it gives {_short(own)} where {_short(right)} belongs."


def is_silent(own: Any, right: Any) -> bool:
    """Say whether spikes, an array of 0 and 1, are all 0 where the right ones are not."""
    if isinstance(own, tuple) and isinstance(right, tuple) and len(own) == len(right):
        return any(is_silent(a, b) for a, b in zip(own, right, strict=True))
    if not isinstance(own, np.ndarray) or not isinstance(right, np.ndarray) or right.size < 2:
        return False
    spikes = bool(np.isin(right, (0, 1)).all() and right.any())
    return spikes and own.shape == right.shape and not own.any()


def _of_arrays(own: np.ndarray, right: np.ndarray) -> str:
    if own.shape != right.shape:
        return f"On a small input it gives shape {list(own.shape)} where {list(right.shape)} belongs."
    if np.isnan(own).sum() > np.isnan(right).sum():
        return "On a small input it gives nan: something was divided by 0, or grew without end."
    apart = ~np.isclose(own, right, CLOSE, 1e-7, equal_nan=True)
    first = tuple(int(index) for index in np.argwhere(apart)[0]) if own.ndim else ()
    where = f" at {list(first)}" if first else ""
    many = f" ({apart.sum()} of {apart.size} numbers differ)" if own.ndim else ""
    return f"On a small input it gives {own[first]:.4g}{where} where {right[first]:.4g} belongs{many}."


def _short(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"numbers of shape {list(value.shape)}" if value.ndim else f"{float(value):.4g}"
    if isinstance(value, tuple):
        return f"{len(value)} results"
    return f"'{value}'" if isinstance(value, str) else str(value)
