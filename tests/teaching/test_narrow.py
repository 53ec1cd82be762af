"""A terminal of 40 columns: what is said is broken to its width; a command stays whole."""

from snn_course.runs import scripts
from snn_course import ROOT
from snn_course.schedule import overview
from snn_course.teaching import hints, progress, progress_shown, quiz, quiz_terminal, way, workspace
from tests.teaching import small_bank

import pytest

EVERYTHING = scripts.find(ROOT)
COMMAND = "python3 course.py"


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")


def too_wide(lines):
    """Give the lines that do not fit, but for commands, paths and code, which cannot be broken."""
    whole = (f"    {COMMAND}", "    .venv", "/")
    return [line for line in lines if len(line) > 39 and not line.startswith(whole)]


def test_the_width_is_that_of_the_terminal_and_never_more_than_79(monkeypatch):
    assert overview.width() == 39
    for columns, width in {"200": 79, "80": 79, "10": overview.NARROWEST, "0": 79}.items():
        monkeypatch.setenv("COLUMNS", columns)
        assert overview.width() == width


def test_the_way_and_the_hints_fit(script):
    progress.note_check("01_lif_neuron", passed=True)
    progress.note_quiz("01_lif_neuron", 0.9, "pass", [])
    shown = list(progress_shown.lines(EVERYTHING, COMMAND))
    assert too_wide(shown) == []
    assert "  01_lif_neuron: check passed, quiz 90" in shown
    assert too_wide(way.lines(EVERYTHING, progress.read(), COMMAND)) == []
    assert too_wide(hints.following(script("07"), "2", COMMAND)) == []
    assert too_wide(quiz.listed(EVERYTHING, COMMAND)) == []
    assert too_wide(workspace.start(script("01"), False, COMMAND)) == []


def test_a_quiz_fits(tmp_path, hold):
    (tmp_path / "quizzes").mkdir()
    (tmp_path / "quizzes" / "01_lif_neuron.toml").write_text(small_bank.choices(4), encoding="utf-8")
    said = hold([script for script in EVERYTHING if script.label == "01"], "h", "1", "2", "1", "q")
    assert too_wide(said.splitlines()) == []
    assert "-" * 39 in said


@pytest.mark.parametrize(("steps", "parts"), [(30, 1), (31, 2), (70, 3)])
def test_a_raster_is_cut_in_time_at_a_ten(steps, parts):
    spikes = [[int(step % 7 == 0), int(step == steps - 1)] for step in range(steps)]
    lines = quiz_terminal.raster(spikes)
    assert too_wide(lines) == []
    assert lines.count("neuron") == parts
    rows = ["".join(line.split()[1] for line in lines if line.split()[0] == str(n)) for n in (0, 1)]
    assert rows == ["".join(".|"[step[n]] for step in spikes) for n in (0, 1)]
    starts = [int(line.split()[1]) for line in lines if line.startswith("   step")]
    assert starts == [30 * part for part in range(parts)]
