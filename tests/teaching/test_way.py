"""What is next, and why: from the environment test to the last script, and nothing moves on by itself."""

from snn_course.runs import scripts
from snn_course import ROOT, results_dir
from snn_course.schedule import standing
from snn_course.teaching import progress, way, workspace

import pytest


@pytest.fixture
def measured(monkeypatch):
    """Let scripts count as measured, without running them."""
    done = set()
    monkeypatch.setattr(standing, "has_run", lambda script, _: script.stem in done)
    return done


def following():
    return list(way.lines(scripts.find(ROOT), progress.read(), "python3 course.py"))


def test_first_the_machine_then_the_first_lesson(measured):
    assert following()[-1].strip() == "python3 course.py env"
    measured.add("00_environment_test")
    assert following()[-1].strip() == "python3 course.py quiz 00"
    progress.note_quiz("00_environment_test", 1.0, "pass", [])
    assert following()[-1].strip() == "python3 course.py run 01"


def test_a_lesson_that_ran_is_written_then_checked_then_left(script, measured, monkeypatch):
    monkeypatch.setattr(way, "_has_quiz", lambda script: script.label == "01")
    measured |= {"00_environment_test", "01_lif_neuron"}
    assert following()[-1].strip() == "python3 course.py start 01"
    list(workspace.start(script("01"), False, "python3 course.py"))
    assert "    python3 course.py check 01" in following()
    progress.note_check("01_lif_neuron", passed=True)
    assert following()[-1].strip() == "python3 course.py quiz 01"
    progress.note_quiz("01_lif_neuron", 0.5, "marginal", ["reset"])
    assert "Your best score is 50%" in " ".join(following())
    progress.note_quiz("01_lif_neuron", 0.9, "pass", [])
    assert following()[-1].strip() == "python3 course.py run 02"
    assert not results_dir().exists()


def test_it_fits_in_79_columns(measured):
    for one in scripts.find(ROOT):
        assert max(len(line) for line in following()) <= 79
        measured.add(one.stem)


def test_a_milestone_is_written_alone_before_its_worked_answer_runs(measured):
    everything = scripts.find(ROOT)
    (milestone,) = (script for script in everything if script.stem.startswith("milestone_a"))
    for script in everything[: everything.index(milestone)]:
        measured.add(script.stem)
        progress.note_check(script.stem, passed=True)
        progress.note_quiz(script.stem, 1.0, "pass", [])
    assert following()[-1].strip() == f"python3 course.py start {milestone.label}"
    assert "solutions" not in " ".join(following())
    path = workspace.path_for(milestone)
    path.parent.mkdir(parents=True)
    path.write_text("")
    assert following()[-1].strip() == f"python3 course.py check {milestone.label}"
    progress.note_check(milestone.stem, passed=True)
    assert following()[-1].strip() == f"python3 course.py run {milestone.label}"
    measured.add(milestone.stem)
    assert following()[-1].strip() == f"python3 course.py quiz {milestone.label}"
