"""What course.py alone shows: a bar, a line for each script, and what is next."""

import re

from snn_course.runs import scripts
from snn_course import ROOT, progress_file
from snn_course.teaching import hunts_planted, progress, progress_shown, questions
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
    monkeypatch.setattr(progress_shown, "ROOT", tmp_path)


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
    assert "\nNext: 00_environment_test" in said()


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


def test_what_waits_is_said(monkeypatch):
    progress.change(lambda record: progress.note_question(record, STEM, "q", 0.0))
    assert "review" not in said()
    tomorrow = progress.today() + progress.timedelta(days=1)
    monkeypatch.setattr(progress, "today", lambda: tomorrow)
    assert "  review      1 question that you missed: python3 course.py quiz --review\n" in said()


def test_a_damaged_record_is_said_and_no_obstacle():
    progress_file().write_text("{", encoding="utf-8")
    text = " ".join(said().split())
    assert "line 1 is no JSON: mend it by hand" in text
    assert row()[2].split() == ["-"] * 4
