"""The twin of e-prop's traces in lesson 15: a whole batch at once, and work at events alone.

An event is a step in which the slope of a neuron's spike is not 0. In all other steps the trace of its
synapses is 0, and all that it leaves behind only decays. So the two numbers of a synapse that remember it
wait for the next event, and then decay by a power: rho^s and kappa^s for s steps. Learning signals need the
smooth trace in each step. Since the last event that is one row times kappa^s: so what they are worth adds up
to a single number, and the row is read once, at the next event. No sum over steps is left out.
"""

from snn_course.networks.compiled.tools import Row, Rows, array, kernel

import numpy as np
import torch


@kernel
def _pay(total: Row, smooth: Row, owed: float) -> None:
    """Add to a neuron's gradient [J] what its signals are worth since the last event."""
    for j in range(len(total)):
        total[j] += owed * smooth[j]


@kernel
def _meet(smooth: Row, arrived: Row, slope: float, kept: float) -> None:
    """Take the synapses of a LIF neuron to an event: all rows [J]; ``kept`` is kappa^s."""
    for j in range(len(smooth)):
        smooth[j] = smooth[j] * kept + slope * arrived[j]


@kernel
def _meet_lifted(
    rows: Rows, arrived: Row, slope: float, lift: float, kept: float, adapted_kept: float, trace_kept: float
) -> None:
    """Do the same for an ALIF neuron; its rows are smooth trace, adaptation, and last trace [3, J]."""
    smooth, adapted, trace = rows[0], rows[1], rows[2]
    for j in range(len(smooth)):
        a = adapted[j] * adapted_kept + trace[j] * trace_kept
        e = slope * (arrived[j] - lift * a)
        adapted[j] = a
        trace[j] = e
        smooth[j] = smooth[j] * kept + e


@kernel
def _gradient(
    arrived: np.ndarray,
    slope: np.ndarray,
    signal: np.ndarray,
    lift: Row,
    of_rho: Row,
    of_kappa: Row,
    total: Rows,
) -> None:
    rows = np.zeros((3, arrived.shape[2]), arrived.dtype)
    nothing = arrived.dtype.type(0)
    for b in range(arrived.shape[1]):
        for n in range(len(total)):
            rows[:] = 0
            owed = nothing
            last = 0  # the step of the last event
            for t in range(len(arrived)):
                h = slope[t, b, n]
                if h != 0:
                    if owed != 0:
                        _pay(total[n], rows[0], owed)
                        owed = nothing
                    s = t - last
                    x = arrived[t, b]
                    if lift[n] == 0:
                        _meet(rows[0], x, h, of_kappa[s])
                    else:  # the last trace reached the adaptation one step after its event
                        _meet_lifted(rows, x, h, lift[n], of_kappa[s], of_rho[s], of_rho[max(s - 1, 0)])
                    last = t
                owed += signal[t, b, n] * of_kappa[t - last]
            if owed != 0:
                _pay(total[n], rows[0], owed)


def eprop_gradient(
    arrived: torch.Tensor,
    slope: torch.Tensor,
    signal: torch.Tensor,
    lift: torch.Tensor,
    rho: float,
    kappa: float,
) -> torch.Tensor:
    """Give e-prop's gradient of all synapses [N, J], summed over the batch.

    Sums are made in another order than step by step.

    Args:
        arrived: d mem / d w in each step, the same for all neurons [T, B, J].
        slope: of the spikes [T, B, N].
        signal: what each neuron is told in each step [T, B, N].
        lift: what an own spike adds to a neuron's threshold [N].
        rho: share of the adaptation that stays after a step.
        kappa: share of the read-out that stays after a step.
    """
    total = arrived.new_zeros(len(lift), arrived.shape[2])
    arrays = [array(x.contiguous()) for x in (arrived, slope, signal, lift)]
    ago = np.arange(len(arrived) + 1.0)
    powers = [(share**ago).astype(arrays[0].dtype) for share in (rho, kappa)]
    _gradient(*arrays, *powers, array(total))
    return total
