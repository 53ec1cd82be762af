"""Lesson x mistake: own solutions hold, untouched files are unwritten, each known mistake gets its name."""

from snn_course import ROOT
from snn_course.teaching import exercises, mistakes, rehearsal

import pytest

TABLE = {
    "01_lif_neuron": {"missing reset", "beta in the wrong place", "threshold too high"},
    "02_spike_encoding": {"T and B swapped", "pixels 0..255", "threshold too high"},
    "03_spike_visualization": {"T and B swapped", "one step of many"},
    "04_event_cameras_v2e": {"missing reset", "threshold too high"},
    "05_population_coding": {"T and B swapped", "weights transposed", "spikes detached"},
    "06_synaptic_currents": {"missing reset", "beta in the wrong place", "one step of many"},
    "07_surrogate_gradients": {*mistakes.TYPICAL} - {"weights transposed"},
    "09_training_bptt": {*mistakes.TYPICAL} - {"missing reset", "threshold too high"},
    "08_feedforward_snn": {
        "missing reset",
        "T and B swapped",
        "x[t]",
        "spikes detached",
        "one step of many",
        "weights transposed",
    },
    "10_convolutional_snn": {
        "missing reset",
        "T and B swapped",
        "x[t]",
        "spikes detached",
        "one step of many",
    },
    "11_neuromorphic_data_tonic": set(),  # its tasks make frames and splits, and have no neuron
    "12_hardware_deep_dive": {
        "missing reset",
        "T and B swapped",
        "beta in the wrong place",
        "pixels 0..255",
        "threshold too high",
        "one step of many",
        "weights transposed",
    },
    "13_recurrent_snn": {
        "missing reset",
        "T and B swapped",
        "beta in the wrong place",
        "x[t]",
        "threshold too high",
        "spikes detached",
        "softmax on counts",
        "one step of many",
        "weights transposed",
    },
    "14_loss_and_regularization": {
        "T and B swapped",
        "pixels 0..255",
        "spikes detached",
        "softmax on counts",
        "one step of many",
    },
    "15_stdp_online_learning": {
        "missing reset",
        "beta in the wrong place",
        "threshold too high",
        "one step of many",
        "weights transposed",
    },
    "16_ann_to_snn": {
        "missing reset",
        "T and B swapped",
        "threshold too high",
        "one step of many",
        "weights transposed",
    },
    "17_energy_and_export": {
        "missing reset",
        "T and B swapped",
        "beta in the wrong place",
        "one step of many",
        "weights transposed",
    },
    "18_spiking_transformers": {
        "T and B swapped",
        "one step of many",
        "spikes detached",
        "threshold too high",
        "weights transposed",
    },
    "19_akida_deployment": {"spikes detached"},
    "20_spiking_mamba_ssm": {
        "T and B swapped",
        "beta in the wrong place",
        "spikes detached",
        "one step of many",
    },
}
"""For each lesson those of the twelve that can be made in its tasks; without a row it must know one."""
NAMES = [path.stem for path in sorted((ROOT / "exercises").glob("*.toml"))]
QUICK = (1, 7, 9)
"""Lessons whose mistakes are all tried by default; those of the others take minutes together."""


def tried(name):
    """Mark a lesson whose rehearsal takes long."""
    return name if int(name[:2]) in QUICK else pytest.param(name, marks=pytest.mark.slow)


def test_the_table_has_all_twelve():
    assert set(TABLE) <= set(NAMES)
    assert set().union(*TABLE.values()) == set(mistakes.TYPICAL)


@pytest.mark.parametrize("name", NAMES)
def test_a_lesson_knows_the_mistakes_of_its_row(script, name):
    wanted = exercises.load(script(name))
    known = {mistake.name for mistake in wanted.mistakes} & set(mistakes.TYPICAL)
    assert known == TABLE.get(name, known)
    assert known or name in TABLE


@pytest.mark.parametrize("name", map(tried, NAMES))
@pytest.mark.usefixtures("watched")
def test_each_mistake_is_called_by_its_name(script, name):
    rows = list(rehearsal.rehearse(exercises.load(script(name)), chapters=False))
    assert [line for right, line in rows if not right] == []
    assert len(rows) > 6
