"""How long scripts take, which of them measure time, and in which order they begin when several run at once.

A script that takes long begins early: at the end nobody waits for one straggler (LPT, "longest processing
time first"; Graham 1969, Bounds on Multiprocessing Timing Anomalies: at most 4/3 of the optimum).
"""

import heapq
from collections.abc import Sequence
from typing import Literal, NamedTuple

from snn_course.runs import metrics_file
from snn_course import UsageError, results_dir
from snn_course.runs.scripts import Script

Clock = Literal["", "alone", "beside"]
"""What a script has to do with time on the wall. "": nothing, or it counts its own CPU time, which others
hardly change. "alone": it measures times, so nothing runs beside it. "beside": it measures times too, but
takes so long that the other cores cannot wait; what it measured is called rough."""


class Entry(NamedTuple):
    """Seconds that a script took at two scales, cpu scale beside another one on two cores, and its clock."""

    quick: float
    cpu: float
    clock: Clock = ""


TIMETABLE = {
    "00_environment_test": Entry(16, 30, "alone"),
    "01_lif_neuron": Entry(3, 6),
    "02_spike_encoding": Entry(5, 230),
    "03_spike_visualization": Entry(8, 19),
    "04_event_cameras_v2e": Entry(3, 52, "alone"),  # seconds of a clip for each second of work
    "05_population_coding": Entry(9, 110),
    "06_synaptic_currents": Entry(5, 17, "alone"),  # a step of each neuron
    "07_surrogate_gradients": Entry(15, 160),
    "08_feedforward_snn": Entry(6, 210, "alone"),  # the ladder of five ways
    "09_training_bptt": Entry(24, 490),
    "milestone_a_fashion_mnist": Entry(7, 1200),
    "10_convolutional_snn": Entry(23, 2350),
    "11_neuromorphic_data_tonic": Entry(23, 1100, "beside"),  # from an event to an answer
    "12_hardware_deep_dive": Entry(17, 1050, "beside"),  # one frame on each device
    "13_recurrent_snn": Entry(24, 1100),
    "14_loss_and_regularization": Entry(23, 860),
    "15_stdp_online_learning": Entry(25, 390),
    "16_ann_to_snn": Entry(19, 1950),
    "17_energy_and_export": Entry(8, 230),
    "18_spiking_transformers": Entry(23, 1800, "beside"),  # attention over more and more tokens
    "19_akida_deployment": Entry(18, 830, "beside"),  # one frame on the chip or its simulator
    "20_spiking_mamba_ssm": Entry(22, 690, "beside"),  # one more token
    "capstone_pong": Entry(19, 720, "alone"),  # one decision
    "capstone_gameworld": Entry(6, 240, "alone"),  # one answer, and a game in real time
}
UNKNOWN = Entry(60, 600)
"""For a script that is not named above, such as a learner's own."""


def entry(stem: str) -> Entry:
    """Look a script up."""
    return TIMETABLE.get(stem, UNKNOWN)


def seconds(script: Script, scale: str, seeds: int | None) -> float:
    """Expect what the last run of this script and scale took, else what the timetable says."""
    try:
        metrics = metrics_file.read(results_dir() / script.stem / scale / "metrics.json", check=False)
        return float(metrics["seconds"]) * (seeds or metrics["seeds"]) / metrics["seeds"]
    except (UsageError, KeyError, TypeError, ValueError, ArithmeticError):
        known = entry(script.stem)
        return known.quick if scale == "quick" else known.cpu


class Turn(NamedTuple):
    """A script whose turn will come."""

    script: Script
    seconds: float
    alone: bool


def turns(chosen: Sequence[Script], scale: str, seeds: int | None) -> list[Turn]:
    """Put scripts in the order in which they begin: those that run alone first, then the longest ones."""
    unsorted = [
        Turn(script, seconds(script, scale, seeds), entry(script.stem).clock == "alone") for script in chosen
    ]
    alone = [turn for turn in unsorted if turn.alone]
    others = [turn for turn in unsorted if not turn.alone]
    return alone + sorted(others, key=lambda turn: -turn.seconds)


def together(lengths: Sequence[float], at_once: int, begun: Sequence[float] = ()) -> float:
    """Predict the seconds until the last of these scripts ends, if each begins as soon as a place is free.

    Args:
        lengths: seconds of each script, in the order in which they begin.
        at_once: places.
        begun: seconds that each of the scripts that run already will still take.
    """
    ends = [*begun, *[0.0] * (at_once - len(begun))]
    heapq.heapify(ends)
    for length in lengths:
        heapq.heapreplace(ends, ends[0] + length)
    return max(ends)


def predict(left: Sequence[Turn], at_once: int) -> float:
    """Predict the seconds that all turns take."""
    alone = sum(turn.seconds for turn in left if turn.alone)
    return alone + together([turn.seconds for turn in left if not turn.alone], at_once)
