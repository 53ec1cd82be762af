"""``course.py start``, ``check``, ``hint`` and ``next``, as a learner calls them, from another folder."""

import shutil

from snn_course import ROOT

import pytest


@pytest.fixture
def course(small):
    """Give a course whose first lesson is the real one, with its exercises."""
    for path in (small.root / "lessons").iterdir():
        path.unlink()
    shutil.copy(ROOT / "lessons" / "01_lif_neuron.py", small.root / "lessons")
    (small.root / "exercises").mkdir()
    shutil.copy(ROOT / "exercises" / "01_lif_neuron.toml", small.root / "exercises")
    return small


def said(ended, code=0):
    assert ended.stderr == "" or code == 2
    assert ended.returncode == code, ended.stdout + ended.stderr
    return ended.stdout


def test_from_start_to_a_passed_check(course):
    name = f"{course.root.name}/workspace/01_lif_neuron.py"
    assert f"{name} is yours now" in said(course.start("start", "01"))
    assert "left as it is" in said(course.start("start", "01"))
    assert "not written yet" in said(course.start("check", "01"), 1)
    assert "go on with task 1 (loop) in" in said(course.start("next"))
    assert "A question: " in said(course.start("hint", "01"))
    assert "The place: " in said(course.start("hint", "01"))
    shutil.copy(course.root / "lessons" / "01_lif_neuron.py", course.root / "workspace")
    assert "All holds." in said(course.start("check", "01"))
    assert "**My own solution**" in (course.root / "journal.md").read_text(encoding="utf-8")
    assert not list((course.root / "workspace").glob("*.part*"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check", "01"], "01_lif_neuron.py is not there yet: "),
        (["start"], "the following arguments are required: name"),
        (["start", "77"], "There is no lesson '77'."),
        (["hint", "01", "nothing"], "There is no task 'nothing' in 01_lif_neuron"),
        (["check", "01", "--seconds", "no"], "'no' is no whole number"),
    ],
)
def test_wrong_use_is_one_line(course, arguments, message):
    ended = course.start(*arguments)
    said(ended, 2)
    assert message in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_a_damaged_toml_is_named_by_file_and_line(course):
    path = course.root / "exercises" / "01_lif_neuron.toml"
    path.write_text("[check]\nchapters = [\n", encoding="utf-8")
    ended = course.start("start", "01")
    said(ended, 2)
    assert "exercises/01_lif_neuron.toml, line " in ended.stderr
    assert ended.stderr.count("\n") == 1
