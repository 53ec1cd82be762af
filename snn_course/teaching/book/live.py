"""Figures that move: a slider, and the lesson's own recurrence, in the page.

Each is a few lines of plain JavaScript in ``live/``, which tests compare with the script's numbers.
"""

import functools
from dataclasses import dataclass
from pathlib import Path

from snn_course import PYTHON

from markupsafe import Markup

FOLDER = Path(__file__).with_name("live")


@dataclass(frozen=True)
class Figure:
    """A figure that moves."""

    name: str
    """Of its file of JavaScript."""
    title: str
    without: str
    """What a reader does whose browser runs no JavaScript."""

    @property
    def instead(self) -> str:
        """Tell it in a sentence."""
        return f"Here a figure moves in a browser with JavaScript. Without it, {self.without}"

    @property
    def script(self) -> Markup:
        """What draws it."""
        return Markup((FOLDER / f"{self.name}.js").read_text(encoding="utf-8"))


PLACES: dict[str, dict[str, Figure]] = {
    "01_lif_neuron": {
        "simulate": Figure(
            "lif",
            "turn beta, threshold, current and reset, and watch the neuron",
            f"turn the same knobs in the script: {PYTHON} lessons/01_lif_neuron.py --beta 0.8 --threshold 2",
        )
    },
    "02_spike_encoding": {
        "decode_phase": Figure(
            "codes",
            "one pixel in three codes, for each grey value and each number of steps",
            f"the script takes the number of steps: {PYTHON} lessons/02_spike_encoding.py --num-steps 10 20",
        )
    },
    "06_synaptic_currents": {
        "alpha_factor": Figure(
            "synapse",
            "input spikes into a neuron of first and of second order",
            "turn the same knobs in the script: "
            f"{PYTHON} lessons/06_synaptic_currents.py --alpha 0.9 --beta 0.6",
        )
    },
    "07_surrogate_gradients": {
        "spiking": Figure(
            "slope",
            "the slope that the gradient meets, for each shape and steepness",
            f"the script takes the steepness: {PYTHON} lessons/07_surrogate_gradients.py --steepness 1 10",
        )
    },
    "15_stdp_online_learning": {
        "window": Figure(
            "stdp",
            "one pair of spikes, and what it does to the weight",
            "change TAU_PRE, TAU_POST and A_MINUS in the script, and run it again.",
        )
    },
}
"""By script, and by the function below which it stands."""


def of(stem: str) -> dict[str, Figure]:
    """Give the figures of a script."""
    return PLACES.get(stem, {})


@functools.cache
def shared() -> Markup:
    """Give what all of them are drawn with."""
    return Markup((FOLDER / "shared.js").read_text(encoding="utf-8"))
