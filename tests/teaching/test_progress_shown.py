"""What course.py alone shows: a bar, a line for each script, and what is next."""

import re

from snn_course.runs import scripts, wording
from snn_course import ROOT, progress_file, results_dir
from snn_course.schedule import timetable
from snn_course.teaching import exercises, hunts_planted, progress, progress_shown, projects, questions
from tests.schedule.test_standing import environment_was_tested, measured

import pytest

SCRIPTS = scripts.find(ROOT)
STEM = "01_lif_neuron"


@pytest.fixture(autouse=True)
def one_quiz(tmp_path, monkeypatch):
    """Let lesson 01 alone have a quiz, exercises and bugs."""
    for folder in ("quizzes", "exercises", "hunts"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{STEM}.toml").touch()
    monkeypatch.setattr(questions, "path_of", lambda stem: tmp_path / "quizzes" / f"{stem}.toml")
    monkeypatch.setattr(hunts_planted, "path_of", lambda stem: tmp_path / "hunts" / f"{stem}.toml")
    monkeypatch.setattr(exercises, "path_for", lambda script: tmp_path / "exercises" / f"{script.stem}.toml")
    monkeypatch.setattr(projects, "has_check", lambda _script: False)


def said():
    shown = list(progress_shown.lines(SCRIPTS, "python3 course.py"))
    assert max(map(len, shown)) < 80
    assert all(line == line.rstrip() and line.isascii() for line in shown if not line.startswith("    "))
    return "\n".join(shown)


def row(stem=STEM):
    return re.search(rf"^([> ]) {stem}(.*)$", said(), re.MULTILINE)


def test_at_first_nothing_is_done_and_the_machine_is_checked():
    assert said().startswith(f"[{'.' * 30}] 0 %: 0 of {len(SCRIPTS) + 2} runs")
    assert row("00_environment_test")[1] == ">"
    assert row()[2].split() == ["-"] * 4
    assert row("02_spike_encoding")[2].split() == ["-"]
    assert "\n    python3 course.py env\n" in said()


def test_each_step_shows_in_its_row_and_in_the_bar():
    environment_was_tested()
    measured(STEM, "quick")
    assert row()[2].split() == ["quick", "-", "-", "-"]
    progress.note_check(STEM, False)
    progress.note_quiz(STEM, 0.6, "marginal", ["x"])
    progress.note_hunt(STEM, "a", True, 1)
    assert row()[2].split() == ["quick", "begun", "60", "%", "1", "found"]
    assert f" {round(100 * 2 / 26)} %: 2 of 26 runs" in said()
    measured(STEM)
    progress.note_check(STEM, True)
    progress.note_quiz(STEM, 0.75, "pass", [])
    assert row()[2].split() == ["yes", "passed", "75", "%,", "passed", "1", "found"]
    assert "[####" in said()
    assert "4 of 26 runs" in said()
    assert row("02_spike_encoding")[1] == ">"
    assert "python3 course.py run 02\n" in said()


def test_the_check_of_a_milestone_is_a_step(monkeypatch):
    stem = "milestone_a_fashion_mnist"
    monkeypatch.setattr(projects, "has_check", lambda script: script.stem == stem)
    assert row(stem)[2].split() == ["-", "-"]
    assert f"0 of {len(SCRIPTS) + 3} runs" in said()
    progress.note_check(stem, True)
    assert row(stem)[2].split() == ["-", "passed"]


def test_what_waits_is_said(monkeypatch):
    progress.change(lambda record: progress.note_question(record, STEM, "q", 0.0))
    assert "--review" not in said()
    tomorrow = progress.today() + progress.timedelta(days=1)
    monkeypatch.setattr(progress, "today", lambda: tomorrow)
    assert (
        "And a question that you missed may be asked again:\n    python3 course.py quiz --review\n" in said()
    )


def test_a_damaged_record_is_said_and_no_obstacle():
    progress_file().write_text("{", encoding="utf-8")
    text = " ".join(said().split())
    assert "line 1 is no JSON: mend it by hand" in text
    assert row()[2].split() == ["-"] * 4


def test_a_script_is_run_written_and_asked_before_the_next_one():
    environment_was_tested()
    card = SCRIPTS[1].card()
    assert f"Next: read lessons/{STEM}.py ({card['title']})" in " ".join(said().split())
    assert "python3 course.py run 01\n" in said()
    for step, command in (
        (lambda: measured(STEM), "start 01"),
        (lambda: progress.note_check(STEM, True), "quiz 01"),
        (lambda: progress.note_quiz(STEM, 0.6, "marginal", []), "quiz 01"),
        (lambda: progress.note_quiz(STEM, 0.8, "pass", []), "run 02"),
    ):
        step()
        assert f"    python3 course.py {command}\n" in said()


def test_what_was_begun_or_cut_off_comes_first():
    environment_was_tested()
    measured(STEM)
    state = results_dir() / STEM / "cpu" / "unfinished" / "0123456789ab"
    state.mkdir(parents=True)
    (state / "train-seed0.pt").touch()
    assert f"Next: go on with {STEM}." in said()
    assert row()[1] == ">"


def test_after_all_those_that_ran_at_quick_scale_alone_and_then_the_page():
    environment_was_tested()
    progress.note_check(STEM, True)
    progress.note_quiz(STEM, 0.8, "pass", [])
    for script in SCRIPTS[1:]:
        measured(script.stem, "quick" if script.stem == "05_population_coding" else "cpu")
    takes = wording.duration(timetable.entry("05_population_coding").cpu)
    assert f"So far it ran at quick scale alone. About {takes} on a laptop." in said()
    assert "python3 course.py run 05\n" in said()
    assert row("05_population_coding")[1] == ">"
    measured("05_population_coding")
    assert "All is done." in said()
    assert "100 %" in said()
    assert "python3 course.py report\n" in said()


def test_a_large_cache_of_frames_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("SNN_DATA", str(tmp_path))
    folder = tmp_path / "DVSGesture" / "cache"
    folder.mkdir(parents=True)
    assert progress_shown._cached() == []
    (folder / "0_0.hdf5").write_bytes(bytes(3_000_000))
    said = progress_shown._cached()
    assert "3 MB" in said[0]
    assert "--fresh" in " ".join(said)
    assert max(map(len, said)) < 80
