"""The way back over a spike, which the leaky and the adaptive scan share: the surrogates' slopes as loops."""

from typing import Any

from snn_course.networks import surrogates
from snn_course.networks.compiled.tools import Row, fma, kernel, number_of
from snn_course.networks.surrogates import Surrogate

GIVEN, ATAN, FAST_SIGMOID, SILENT = range(4)  # formulas of the slope; SILENT: no gradient arrives at spikes
FORMULAS = {"given": GIVEN, "atan": ATAN, "fast sigmoid": FAST_SIGMOID}


def formula(surrogate: Surrogate) -> tuple[int, float, float]:
    """Give the number of the slope's formula, and the two numbers in it."""
    kind, a, b = surrogates.formula(surrogate)
    return FORMULAS[kind], a, b


def knows(surrogate: Surrogate) -> bool:
    """Say whether the way back can run compiled."""
    return formula(surrogate)[0] != GIVEN


@kernel
def at_spikes(g: Row, m: Row, gs: Row, level: Row, slope: int, a: float, b: float) -> None:
    """Write dL/dspk gs times the slope of the spike into g; GIVEN was written there before."""
    one = m.dtype.type(1)
    if slope == ATAN:
        for j in range(len(g)):
            x = (m[j] - level[j]) * a
            g[j] = one / (x * x + b) * gs[j]
    elif slope == FAST_SIGMOID:
        for j in range(len(g)):
            x = abs(m[j] - level[j]) * a + one
            g[j] = one / (x * x) * gs[j]


@kernel
def back_at_once(
    g: Row, later: Row, m: Row, gs: Row, beta: Any, level: float, slope: int, a: float, b: float
) -> None:
    """Write dL/dmem of a step: what ``at_spikes`` gives, and the step after, which decays by beta.

    So it is where nothing is learned and no reset cuts. ``beta`` is a row, or one number for all.
    """
    one = m.dtype.type(1)
    if slope == ATAN:
        for j in range(len(g)):
            x = (m[j] - level) * a
            g[j] = fma(later[j], number_of(beta, j), one / (x * x + b) * gs[j])
    else:
        for j in range(len(g)):
            x = abs(m[j] - level) * a + one
            g[j] = fma(later[j], number_of(beta, j), one / (x * x) * gs[j])
