"""The learner's file: valid Python, all tasks in it, none of the answers."""

import ast
import dataclasses

from snn_course import ROOT
from snn_course.teaching import exercises, scaffold, workspace
from snn_course.teaching.tasks import Exercises

import pytest

NAMES = [path.stem for path in sorted((ROOT / "exercises").glob("*.toml"))]


class AtStage(Exercises):
    """Exercises of a lesson, cut as those of another stage."""

    stage = ""


def at_stage(wanted, stage):
    fields = {field.name: getattr(wanted, field.name) for field in dataclasses.fields(wanted)}
    made = AtStage(**fields)
    object.__setattr__(made, "stage", stage)
    return made


@pytest.mark.parametrize("name", NAMES)
def test_the_file_is_python_and_holds_no_answer(script, name):
    wanted = exercises.load(script(name))
    text = scaffold.cut(wanted, "python3 course.py")
    ast.parse(text)
    own = {line.strip() for line in text.splitlines()}
    for task in wanted.tasks:
        if wanted.stage in ("lines", "skeletons"):
            assert workspace.line_of(task.number, text)
        answer = {line.strip() for line in task.region.code.splitlines() if len(line.strip()) > 30}
        assert not {line for line in answer & own if wanted.source.count(line) == 1}
    assert max(len(line) for line in text.splitlines()) <= 112


@pytest.mark.parametrize("stage", ["lines", "skeletons", "words", "objective"])
def test_each_stage_leaves_less_than_the_one_before(script, stage):
    stages = ["lines", "skeletons", "words", "objective"]
    wanted = exercises.load(script("09"))
    sizes = [len(scaffold.cut(at_stage(wanted, one), "python3 course.py")) for one in stages]
    assert sizes == sorted(sizes, reverse=True)
    text = scaffold.cut(at_stage(wanted, stage), "python3 course.py")
    ast.parse(text)
    defines = {node.name for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)}
    assert ("bptt_by_hand" in defines) == (stage in ("lines", "skeletons"))
    assert ("compare_losses" in defines) == (stage == "lines")
    assert ("What must hold with it:" in text) == (stage == "objective")
    assert "BPTT by hand = autograd" in text or stage != "objective"


def test_a_task_in_a_loop_keeps_the_lines_around_it(script):
    text = scaffold.cut(exercises.load(script("09")), "python3 course.py")
    assert "for t in reversed(range(len(x))):\n        # Task 2 of 2" in text
    assert "return grad_weight" in text


def test_a_task_that_is_the_function_leaves_signature_docstring_and_what_comes_after(script):
    text = scaffold.cut(exercises.load(script("07")), "python3 course.py")
    assert "mem = torch.zeros_like(cur[0])" not in text
    assert "# What stands below needs: spk_rec.\n" in text
    assert "return torch.stack(spk_rec)" in text


def test_a_file_elsewhere_finds_the_course(script, tmp_path, monkeypatch):
    monkeypatch.setenv("SNN_WORKSPACE", str(tmp_path / "elsewhere"))
    text = scaffold.cut(exercises.load(script("01")), "python3 course.py")
    assert f"sys.path.insert(0, {str(ROOT)!r})" in text
