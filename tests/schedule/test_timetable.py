"""Which script begins when, and how long the whole course takes."""

import ast
import re

from snn_course.runs import scripts
from snn_course import ROOT
from snn_course.schedule import timetable

import pytest
from hypothesis import given
from hypothesis import strategies as st

SCRIPTS = scripts.find(ROOT)
LESSONS = [script for script in SCRIPTS if script.number]


def test_the_timetable_names_every_script():
    assert set(timetable.TIMETABLE) == {script.stem for script in SCRIPTS}


CLOCKS = ("time.perf_counter", "time.monotonic", "ab.latency", "ab.report", "energy.measure")
STOPWATCHES = ("timeit", "repeat")
"""These read the clock on the wall unless they are given another timer."""


def reads_the_clock(source):
    """Say whether a script measures time on the wall: by itself, or through a helper that does."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            called, keywords = ast.unparse(node.func), {keyword.arg for keyword in node.keywords}
            stopwatch = called in STOPWATCHES and "number" in keywords and "timer" not in keywords
            if called in CLOCKS or stopwatch:
                return True
    return "time.perf_counter" in source


@pytest.mark.parametrize("script", SCRIPTS[1:], ids=lambda script: script.stem)
def test_a_script_that_reads_the_clock_says_so_in_the_timetable(script):
    declared = timetable.entry(script.stem).clock != ""
    if script.number is None and script.stem.startswith("capstone_"):  # their clocks are in their wings
        assert declared
        return
    assert declared == reads_the_clock(script.path.read_text(encoding="utf-8"))


def test_the_readme_tells_which_run_alone_and_which_are_rough():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    told = text.partition("- **Threads.**")[2].partition("- **Data.**")[0]
    alone, beside = (
        told.partition("run alone")[0],
        told.partition("run alone")[2].partition("`course.py run")[0],
    )
    for clock, sentence in (("alone", alone), ("beside", beside)):
        numbers = [script.label for script in LESSONS if timetable.entry(script.stem).clock == clock]
        assert re.findall(r"\b\d\d\b", sentence) == numbers


def on_two_cores(scale):
    """Predict the seconds of the whole course on two cores."""
    column = timetable.Entry._fields.index(scale)
    turns = []
    for script in SCRIPTS:
        known = timetable.entry(script.stem)
        turns.append(timetable.Turn(script, known[column], known.clock == "alone"))
    turns.sort(key=lambda turn: (not turn.alone, -turn.seconds))
    return timetable.predict(turns, at_once=2)


def test_the_course_at_quick_scale_takes_at_most_its_goal():
    assert on_two_cores("quick") <= 5 * 60


def test_the_course_at_cpu_scale_takes_at_most_its_goal():
    assert on_two_cores("cpu") <= 160 * 60


def test_those_that_measure_time_begin_alone_and_then_the_longest(monkeypatch, tmp_path):
    monkeypatch.setenv("SNN_RESULTS", str(tmp_path))
    turns = timetable.turns(SCRIPTS, "cpu", None)
    assert [turn.script.stem for turn in turns[:3]] == [
        "00_environment_test",
        "04_event_cameras_v2e",
        "06_synaptic_currents",
    ]
    others = [turn.seconds for turn in turns if not turn.alone]
    assert others == sorted(others, reverse=True)
    assert {turn.script for turn in turns} == set(SCRIPTS)


@pytest.mark.parametrize(
    ("kept", "expected"),
    [
        ('{"seconds": 90, "seeds": 3}', 60),
        ("{}", timetable.TIMETABLE["01_lif_neuron"].quick),
        ('{"seconds": 90, "seeds": 0}', timetable.TIMETABLE["01_lif_neuron"].quick),
        ('{"seconds": "x", "seeds": 1}', timetable.TIMETABLE["01_lif_neuron"].quick),
        ("[", timetable.TIMETABLE["01_lif_neuron"].quick),
        ("[1]", timetable.TIMETABLE["01_lif_neuron"].quick),
    ],
)
def test_what_the_last_run_took_is_expected_again(monkeypatch, tmp_path, kept, expected):
    monkeypatch.setenv("SNN_RESULTS", str(tmp_path))
    script = SCRIPTS[1]
    (tmp_path / script.stem / "quick").mkdir(parents=True)
    (tmp_path / script.stem / "quick" / "metrics.json").write_text(kept, encoding="utf-8")
    assert timetable.seconds(script, "quick", 2) == expected
    assert timetable.seconds(script, "cpu", 2) == timetable.TIMETABLE[script.stem].cpu


def test_an_own_script_has_a_place_too(tmp_path):
    assert timetable.entry("21_my_own") == timetable.UNKNOWN


@given(st.lists(st.floats(0.1, 100), min_size=1, max_size=30), st.integers(1, 8))
def test_the_prediction_is_that_of_a_schedule(lengths, at_once):
    """No place is idle while a script waits, so the end is within Graham's bound of the best one."""
    longest_first = sorted(lengths, reverse=True)
    total = timetable.together(longest_first, at_once)
    least = max(longest_first[0], sum(lengths) / at_once)
    assert least <= total * (1 + 1e-9)
    assert total <= sum(lengths) / at_once + longest_first[0]


def test_scripts_that_run_already_keep_their_places():
    assert timetable.together([10], 2, begun=[5, 3]) == 13
    assert timetable.together([], 2, begun=[5]) == 5
    assert timetable.together([1, 1], 4, begun=[0.5]) == 1
