"""A training whose loss or weights are no numbers any more stops: what it would report means nothing."""

import math
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from torch import nn

Loss = TypeVar("Loss")
"""A tensor, or a float."""


class Diverged(Exception):
    """A loss or a weight became nan or infinite. The message is one line; the exit code is 1."""


def finite(loss: Loss, net: "nn.Module | None" = None, what: str = "the loss") -> Loss:
    """Give back a loss (or any tensor) whose values are all finite, as are the weights of ``net``.

    One step with a nan makes all weights nan, and every step after it. The network still answers, always
    with the same class; and since a neuron with a nan for its membrane is silent, a loss that counts spikes
    is still a number: then only the weights tell. To look at them is to wait for a GPU, so a long loop does
    it now and then.

    Raises: Diverged, which names ``what`` or the weight, and says what to try.
    """
    if not _is_finite(loss):
        raise Diverged(_said(what))
    for name, weight in net.named_parameters() if net is not None else ():
        if not _is_finite(weight):
            raise Diverged(_said(f"a weight, {name},"))
    return loss


def _is_finite(values: Any) -> bool:
    if not hasattr(values, "isfinite"):  # no tensor
        return math.isfinite(values)
    if values.detach().sum().isfinite():  # then each term is; it takes a thirtieth of a look at each
        return True
    return bool(values.isfinite().all())  # large numbers may have an infinite sum


def _said(what: str) -> str:
    return (
        f"{what} became nan or infinite: the training has diverged, and stops here. "
        "Try a lower learning rate, another --seed or, on a GPU, --device cpu."
    )
