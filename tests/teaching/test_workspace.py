"""The learner's files are written once, and nothing of theirs is ever lost."""

import os
import subprocess
import sys

from snn_course import ROOT, UsageError, workspace_dir
from snn_course.teaching import workspace

import pytest


def start(script, again=False):
    return "\n".join(workspace.start(script, again, "python3 course.py"))


def test_it_is_written_and_said_where_to_begin(script):
    said = start(script("01"))
    path = workspace.path_for(script("01"))
    assert path.is_file()
    assert "1. loop (line " in said
    assert "python3 course.py check 01" in said
    assert max(len(line) for line in said.splitlines()) <= 79 + len(str(path))


def test_it_is_never_overwritten(script):
    start(script("01"))
    path = workspace.path_for(script("01"))
    path.write_text("mine")
    assert "left as it is" in start(script("01"))
    assert path.read_text() == "mine"


def test_again_keeps_each_older_one_under_a_number(script):
    path = workspace.path_for(script("01"))
    for text in ("first", "second"):
        start(script("01"), again=True)
        path.write_text(text)
    said = start(script("01"), again=True)
    assert "01_lif_neuron.2.py" in said
    kept = [path.with_name(f"01_lif_neuron.{number}.py").read_text() for number in (1, 2)]
    assert kept == ["first", "second"]
    assert "Task 1 of 3" in path.read_text(encoding="utf-8")


def test_a_drive_without_links_serves_too(script, monkeypatch):
    def no_links(*_):
        raise OSError(95, "not supported")

    monkeypatch.setattr(os, "link", no_links)
    start(script("01"))
    path = workspace.path_for(script("01"))
    path.write_text("mine")
    start(script("01"), again=True)
    assert path.with_name("01_lif_neuron.1.py").read_text() == "mine"
    assert "Task 1 of 3" in path.read_text(encoding="utf-8")


def test_a_file_in_the_folders_place_is_one_line(script):
    workspace_dir().parent.mkdir(parents=True, exist_ok=True)
    workspace_dir().write_text("a file")
    with pytest.raises(UsageError, match="a file stands where a folder belongs"):
        start(script("01"))


def test_two_terminals_at_once_write_it_once(script):
    code = "import sys; sys.path.insert(0, sys.argv[1])\n"
    code += "from snn_course.runs import scripts; from snn_course.teaching import workspace\n"
    code += "(one,) = scripts.pick(['01'], scripts.find(workspace.exercises.ROOT))\n"
    code += "print('yours now' in ' '.join(workspace.start(one, False, 'course.py')))"
    both = [
        subprocess.Popen([sys.executable, "-c", code, str(ROOT)], stdout=subprocess.PIPE) for _ in range(2)
    ]
    said = sorted(process.communicate()[0].decode().strip() for process in both)
    assert said == ["False", "True"]
    assert [path.name for path in workspace_dir().iterdir()] == ["01_lif_neuron.py"]


def test_results_of_ones_own_version_stay_beside_those_of_the_lesson(script):
    from snn_course.runs import provenance, settings

    config = settings.Config()
    own = workspace.path_for(script("01")).resolve()
    assert provenance.name_of(config, own) == "01_lif_neuron_own"
    assert provenance.name_of(config, script("01").path) == "01_lif_neuron"
