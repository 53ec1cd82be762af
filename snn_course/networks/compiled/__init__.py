"""The scans of this folder as machine code for a CPU: plain loops, which numba compiles at their first call.

Import it through ``twins.compiled``, since numba takes time. Each twin computes the same operations in the
same order as the PyTorch scan of the same name, so that results are equal, mostly to the last bit. What it
saves are passes over memory: PyTorch goes through all neurons once for each operation, these loops once for
each step, in blocks that stay in the cache from one step to the next.
"""

from snn_course.networks.compiled.alif import alif_backward, alif_forward
from snn_course.networks.compiled.eprop import eprop_gradient
from snn_course.networks.compiled.leaky import leaky_forward
from snn_course.networks.compiled.leaky_back import leaky_backward
from snn_course.networks.compiled.local import compete, currents, peak_traces, sums_at_spikes
from snn_course.networks.compiled.lstm import lstm
from snn_course.networks.compiled.slopes import knows
from snn_course.networks.compiled.states import walk

__all__ = [
    "alif_backward",
    "alif_forward",
    "compete",
    "currents",
    "eprop_gradient",
    "knows",
    "leaky_backward",
    "leaky_forward",
    "lstm",
    "peak_traces",
    "sums_at_spikes",
    "walk",
]
