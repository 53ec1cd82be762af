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
    "18_spiking_transformers": {
        "T and B swapped",
        "one step of many",
        "spikes detached",
        "threshold too high",
        "weights transposed",
    },
}
"""For each lesson those of the twelve that can be made in it; one without a row must know one at least."""
NAMES = [path.stem for path in sorted((ROOT / "exercises").glob("*.toml"))]


def test_the_table_has_all_twelve():
    assert set(TABLE) <= set(NAMES)
    assert set().union(*TABLE.values()) == set(mistakes.TYPICAL)


@pytest.mark.parametrize("name", NAMES)
def test_a_lesson_knows_the_mistakes_of_its_row(script, name):
    wanted = exercises.load(script(name))
    known = {mistake.name for mistake in wanted.mistakes} & set(mistakes.TYPICAL)
    assert known == TABLE.get(name, known)
    assert known


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.usefixtures("watched")
def test_each_mistake_is_called_by_its_name(script, name):
    rows = list(rehearsal.rehearse(exercises.load(script(name)), chapters=False))
    assert [line for right, line in rows if not right] == []
    assert len(rows) > 6
