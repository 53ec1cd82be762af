"""A script as a notebook: its cells in a real kernel, as VS Code and Jupytext run them."""

import sys
from pathlib import Path
from types import SimpleNamespace

from snn_course.runs import metrics_file, notebook
from snn_course import ROOT

import pytest

jupytext = pytest.importorskip("jupytext")
nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

LESSON = ROOT / "lessons" / "01_lif_neuron.py"


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run cells in a kernel of this Python, in the folder where Jupyter would. Returns: the notebook."""
    monkeypatch.setenv("SNN_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("SNN_JOURNAL", str(tmp_path / "journal.md"))
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "jupyter"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))

    def call(book, folder=LESSON.parent):
        from jupyter_client import AsyncKernelManager, kernelspec

        manager = AsyncKernelManager()
        manager._kernel_spec = kernelspec.KernelSpec(
            argv=[sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"], language="python"
        )
        client = nbclient.NotebookClient(
            book, km=manager, timeout=300, resources={"metadata": {"path": str(folder)}}
        )
        client.execute()
        return book

    return call


def printed(book):
    outputs = [output for cell in book.cells for output in cell.get("outputs", [])]
    return "".join(output.get("text", "") for output in outputs)


def pictures(book):
    outputs = [output for cell in book.cells for output in cell.get("outputs", [])]
    return [output for output in outputs if "image/png" in output.get("data", {})]


@pytest.mark.slow
def test_a_lesson_runs_in_a_kernel_at_quick_scale_with_its_figures_in_place(run, tmp_path):
    book = jupytext.read(LESSON)
    kinds = [cell.cell_type for cell in book.cells]
    assert kinds.count("markdown") > 8
    assert kinds.count("code") > 8
    run(book)
    metrics = metrics_file.read(tmp_path / "results" / LESSON.stem / "quick" / "metrics.json")
    assert metrics["status"] == "ok"
    assert metrics["command"] == "python lessons/01_lif_neuron.py --scale quick"
    assert {measure["chapter"] for measure in metrics["measures"]} >= {"firing_rate", "beyond_lif"}
    shown = pictures(book)
    assert [output["metadata"]["image/png"]["alt"] for output in shown] == [
        figure["title"] for figure in metrics["figures"]
    ]
    assert "All proofs and goals met." in printed(book)
    assert all(not output.get("ename") for cell in book.cells for output in cell.get("outputs", []))


def test_what_jupytext_writes_back_is_the_script():
    """A notebook may be edited and saved."""
    text = LESSON.read_text("utf-8")
    back = jupytext.writes(jupytext.reads(text, "py:percent"), "py:percent")
    assert back.split() == ["#", "%%", *text.split()]  # the docstring is a cell of its own


SMALL = """import sys
sys.path.insert(0, {root!r})
from dataclasses import dataclass
from snn_course.runs import lesson
@dataclass(frozen=True)
class Config(lesson.Config):
    pass
def main(config, run):
    {body}
"""


def cells(*sources):
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])


def test_wrong_use_and_a_missed_goal_leave_the_kernel_alive(run, tmp_path):
    code = SMALL.format(root=str(ROOT), body="run.measure('x', 1.0, at_least=2)")
    start = "lesson.start(main, Config, {})"
    script = tmp_path / "77_small.py"
    script.write_text('"""Lesson 77: small.\n\nQuestion: Does it?\n"""\n', "utf-8")
    book = run(cells(code, start, f"__file__ = {str(script)!r}", start, "print('still here')"))
    text = printed(book)
    assert "Which script is this?" in text
    assert "Missed: x" in text
    assert text.rstrip().endswith("still here")
    assert (tmp_path / "results" / "77_small" / "quick" / "metrics.json").is_file()


def test_points_of_a_sweep_know_what_the_cells_define(run):
    """In a process of its own, a point could not read settings whose class a cell defines."""
    point = "def point(config): return {'scale': config.scale}\n"
    sweep = (
        "from snn_course.runs import parallel; found = parallel.run_points(run, 'point', {'a': (config,)})"
    )
    code = point + SMALL.format(root=str(ROOT), body=sweep + "; print('found', found['a']['scale'])")
    docstring = jupytext.read(LESSON).cells[0].source  # by it, Jupyter's kernel tells which script this is
    book = run(cells(docstring, code, "lesson.start(main, Config, {})"))
    assert "found quick" in printed(book)


def test_there_is_no_kernel_in_a_test_nor_in_a_shell_of_ipython(monkeypatch):
    assert not notebook.is_here()
    IPython = pytest.importorskip("IPython")
    monkeypatch.setattr(IPython, "get_ipython", object)
    assert not notebook.is_here()


@pytest.mark.parametrize("path", sorted(LESSON.parent.glob("*.py")), ids=lambda path: path.stem)
def test_each_lesson_finds_the_helper_from_the_folder_of_a_notebook(path, monkeypatch):
    (line,) = [line for line in path.read_text("utf-8").splitlines() if "where snn_course is" in line]
    monkeypatch.chdir(path.parent)
    names = {"sys": SimpleNamespace(path=[]), "Path": Path}
    exec(line, names)
    assert names["sys"].path == [str(ROOT)]
