"""Milestone and capstones: their brief, and what the learner's own run has met."""

from snn_course.runs import own_work, scripts
from snn_course import ROOT, UsageError, journal_file
from snn_course.teaching import progress, projects, workspace

import pytest

FOUND = scripts.find(ROOT)
(MILESTONE,) = (script for script in FOUND if script.stem.startswith("milestone_a"))
CAPSTONES = [script for script in FOUND if script.stem.startswith("capstone_")]


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch):
    monkeypatch.setenv("SNN_WORKSPACE", str(tmp_path / "workspace"))
    monkeypatch.setenv("SNN_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("SNN_JOURNAL", str(tmp_path / "journal.md"))
    monkeypatch.setenv("SNN_PROGRESS", str(tmp_path / "progress.json"))


def ran(accuracy, stand_in=False):
    measures = [{"name": "test accuracy", "mean": accuracy}]
    return {"measures": measures, "data": [{"as_used": "images", "stand_in": stand_in}], "figures": ["a"] * 3}


def test_projects_are_told_from_lessons():
    names = [script.stem for script in FOUND if projects.is_one(script)]
    assert names == [MILESTONE.stem, *(script.stem for script in CAPSTONES)]


def test_the_brief_is_shown_and_nothing_is_written():
    told = "\n".join(projects.begin(MILESTONE, "C"))
    assert told.startswith("Milestone A: Fashion-MNIST.")
    assert "reference solution" not in told
    assert f"C check {MILESTONE.label}" in told
    assert not workspace.path_for(MILESTONE).exists()
    for capstone in CAPSTONES:
        told = "\n".join(projects.begin(capstone, "C"))
        assert "Question:" in told
        assert told.endswith(f"C quiz {capstone.label}")


def test_a_check_says_in_one_line_what_is_missing():
    with pytest.raises(UsageError, match="not there yet: you write it"):
        projects.check(MILESTONE, "C")
    with pytest.raises(UsageError, match="its steps measure themselves"):
        projects.check(CAPSTONES[0], "C")


@pytest.mark.parametrize(("accuracy", "passed"), [(85.0, False), (85.1, True), (93.5, True), (None, False)])
def test_a_milestone_is_passed_by_its_own_run_alone(accuracy, passed, monkeypatch):
    path = workspace.path_for(MILESTONE)
    path.parent.mkdir()
    path.write_text("")
    found, lines = projects.check(MILESTONE, "C")
    assert not found
    assert any("nothing yet" in line for line in lines)
    monkeypatch.setattr(own_work, "newest", lambda _folder: ran(accuracy))
    assert projects.check(MILESTONE, "C")[0] == passed
    assert progress.has_passed_check(progress.read(), MILESTONE.stem) == passed
    journal = journal_file().read_text(encoding="utf-8")
    assert f": {'passed' if passed else 'not through yet'}." in journal
    assert "6. 3 figures." in journal
    monkeypatch.setattr(own_work, "newest", lambda _folder: ran(accuracy, stand_in=True))
    assert not projects.check(MILESTONE, "C")[0]


def test_a_project_has_no_hints_and_says_what_helps():
    for script in (MILESTONE, *CAPSTONES):
        said = str(projects.no_hints(script, "C"))
        assert said.startswith(f"{script.stem} has no hints: ")
        assert f"'C start {script.label}' shows its brief" in said
        assert f"'C quiz {script.label}'" in said
