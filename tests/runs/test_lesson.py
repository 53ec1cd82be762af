"""The lesson contract: command line, seeds, proofs and goals, exit codes, resuming."""

import contextlib
import io
import json
import os
import runpy
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Annotated

from snn_course.runs import lesson, metrics_file, provenance, wording
from snn_course import PYTHON, ROOT, UsageError

import pytest
import torch


@dataclass(frozen=True)
class Config(lesson.Config):
    beta: Annotated[float, lesson.Range(0, 1)] = 0.9
    """Decay per step."""

    sizes: Annotated[tuple[int, ...], lesson.Range(1)] = (1, 2)
    """Sizes."""


SCRIPT = """
    '''Lesson 77: a test.

    Question: Does it
              work?
    '''
    import sys
    from dataclasses import dataclass
    from typing import Annotated

    sys.path.insert(0, {root!r})

    from snn_course.runs import lesson

    import torch

    @dataclass(frozen=True)
    class Config(lesson.Config):
        beta: Annotated[float, lesson.Range(0, 1)] = 0.9
        '''Decay per step, 0 to 1.'''

    SCALES = {{"quick": {{"beta": 0.5}}, "cpu": {{}}, "gpu": {{}}}}

    def main(config, run):
        {body}

    if __name__ == "__main__":
        lesson.start(main, Config, SCALES)
"""


@pytest.fixture
def script(tmp_path: Path):
    """Write a small lesson whose main has the given body."""

    def write(body: str = "run.measure('beta', config.beta)") -> Path:
        text = textwrap.dedent(SCRIPT).format(root=str(ROOT), body=body)
        path = tmp_path / "77_test.py"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def call(path: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run the script as the main module, in this process: torch is imported once for all tests."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [str(path), *arguments])
        for name, value in environment.items():
            patch.setenv(name, value)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                runpy.run_path(str(path), run_name="__main__")
            except SystemExit as stop:
                code = int(stop.code or 0)
    return subprocess.CompletedProcess(sys.argv, code, out.getvalue(), err.getvalue())


def metrics_of(path: Path, scale: str = "quick") -> dict:
    return metrics_file.read(Path(os.environ["SNN_RESULTS"]) / path.stem / scale / "metrics.json")


def last_line(done: "subprocess.CompletedProcess[str]") -> str:
    return done.stdout.strip().splitlines()[-1]


# ------------------------------------------------------------------ settings


@pytest.mark.parametrize(
    ("low", "high", "inside", "outside", "said"),
    [
        (0, 1, (0, 0.5, 1), (-0.1, 1.1), "from 0 to 1"),
        (1, None, (1, 10**9), (0,), "at least 1"),
        (None, 5, (-7, 5), (6,), "at most 5"),
    ],
)
def test_range(low, high, inside, outside, said):
    allowed = lesson.Range(low, high)
    assert all(value in allowed for value in inside)
    assert not any(value in allowed for value in outside)
    assert str(allowed) == said


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"seed": -1}, "--seed must be"),
        ({"seeds": 0}, "--seeds must be"),
        ({"beta": 1.5}, "--beta must be from 0 to 1, not 1.5"),
        ({"beta": float("nan")}, "--beta must be"),
        ({"sizes": (3, 0)}, "--sizes must be at least 1, not 0"),
        ({"sizes": ()}, "--sizes needs at least one value"),
    ],
)
def test_values_out_of_range_are_refused(wrong, said):
    with pytest.raises(UsageError, match=said):
        Config(**wrong)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--bta", "0.5"], "Did you mean --beta?"),
        (["--beta", "high"], "--beta"),
        (["--beta", "7"], "--beta must be from 0 to 1, not 7.0."),
        (["--seed", "-1"], "--seed must be"),
        (["--scale", "huge"], "--scale must be quick, cpu or gpu, not 'huge'."),
        (["--device", "tpu"], "--device"),
        (["surplus"], "surplus"),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(script, arguments, said):
    done = call(script(), *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stdout == ""


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, so --device cuda is right here")
def test_a_missing_gpu_is_one_line(script):
    done = call(script(), "--device", "cuda")
    assert done.returncode == 2
    assert "PyTorch sees no GPU" in done.stderr


def test_a_results_folder_that_cannot_be_written_is_one_line(script, tmp_path):
    (tmp_path / "blocked").write_text("a file where the folder should be")
    done = call(script(), SNN_RESULTS=str(tmp_path / "blocked"))
    assert done.returncode == 2
    assert "a file stands where a folder belongs" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_scale_gives_the_defaults_and_options_win(script):
    path = script()
    assert call(path, "--scale", "quick").returncode == 0
    assert metrics_of(path)["config"]["beta"] == 0.5
    assert call(path, "--scale=quick", "--beta", "0.7").returncode == 0
    assert metrics_of(path)["config"]["beta"] == 0.7
    assert call(path, "--scale", "cpu", "--scale", "quick").returncode == 0  # the last one counts
    assert metrics_of(path)["config"]["beta"] == 0.5


@pytest.mark.skipif(os.name == "nt", reason="no head on Windows")
@pytest.mark.parametrize("arguments", [["--help"], []], ids=str)
def test_a_reader_that_goes_away_ends_a_script_without_a_word(script, arguments):
    reader, writer = os.pipe()
    os.close(reader)  # as `| head` does, only sooner
    command = [sys.executable, str(script()), *arguments]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert done.stderr == b""


@pytest.mark.parametrize("name", ["lessons/01_lif_neuron.py", "capstone_pong.py"])
@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_a_python_without_the_packages_is_told_in_one_line(name, arguments):
    command = [sys.executable, "-S", str(ROOT / name), *arguments]  # -S: without what is installed
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f"has not the course's packages: in the course's folder write '{PYTHON} {name}'" in done.stderr


def test_help_of_a_file_that_begins_with_a_mark(script, capsys):
    path = script()
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    with pytest.raises(SystemExit, match=r"^0$"):
        lesson._show_help(ModuleType("__main__"), path)
    assert "--beta" in capsys.readouterr().out


def test_help_comes_before_the_heavy_imports():
    script = ROOT / "lessons" / "01_lif_neuron.py"
    done = subprocess.run(
        [sys.executable, "-X", "importtime", str(script), "--help"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert "--threshold" in done.stdout
    assert "membrane potential" in done.stdout
    imported = {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines() if "|" in line}
    assert "tyro" in imported
    assert "torch" not in imported


# ------------------------------------------------------------------ proofs, goals, seeds


def test_exit_code_0_and_a_schema_checked_record(script):
    path = script(
        "run.proof('equal', 0.0)\n    run.measure('beta', config.beta, at_least=0.4, headline=True)"
    )
    done = call(path, "--scale", "quick")
    metrics = metrics_of(path)
    assert done.returncode == 0
    assert last_line(done) == "All proofs and goals met."
    assert metrics["title"] == "a test"
    assert metrics["question"] == "Does it work?"
    assert [m["met"] for m in metrics["measures"]] == [True, True]
    assert "77_test quick" in Path(os.environ["SNN_JOURNAL"]).read_text(encoding="utf-8")


def test_a_missed_goal_is_named_last_and_gives_exit_code_1(script):
    path = script("run.measure('accuracy', 0.3, at_least={'quick': 0.5, 'cpu': 0.9})")
    done = call(path, "--scale", "quick")
    assert done.returncode == 1
    assert last_line(done) == "Missed: accuracy"
    assert metrics_of(path)["status"] == "missed"


def test_a_missed_proof_ends_the_run(script):
    path = script("run.proof('equal', 1e-3)\n    run.measure('after', 1.0)")
    done = call(path, "--scale", "quick")
    assert done.returncode == 1
    assert last_line(done) == "Missed: equal"
    assert [m["name"] for m in metrics_of(path)["measures"]] == ["equal"]


@pytest.mark.parametrize("error", ["float('nan')", "float('inf')"])
def test_a_proof_without_a_number_is_missed(script, error):
    path = script(f"run.proof('equal', {error})")
    assert call(path, "--scale", "quick").returncode == 1
    assert metrics_of(path)["measures"][0]["met"] is False


def test_goals_rest_on_a_stand_in_but_proofs_do_not(script):
    body = (
        "from types import SimpleNamespace\n"
        "    run.uses(SimpleNamespace(name='x', as_used='x (stand-in)', stand_in=True))\n"
        "    run.measure('accuracy', 0.1, at_least=0.9)\n"
        "    run.proof('equal', {error})"
    )
    path = script(body.format(error="0.0"))
    done = call(path, "--scale", "quick")
    assert done.returncode == 0
    assert "stand-in" in done.stdout
    assert metrics_of(path)["measures"][0]["met"] is None
    assert call(script(body.format(error="1.0")), "--scale", "quick").returncode == 1


def test_seeds_give_mean_and_standard_deviation(script):
    path = script(
        "run.measure('seed', float(config.seed))\n"
        "    run.table('t', ['text', 'number'], [['a', float(config.seed)]])"
    )
    assert call(path, "--scale", "quick", "--seed", "4", "--seeds", "3").returncode == 0
    metrics = metrics_of(path)
    measure = metrics["measures"][0]
    assert measure["values"] == [4, 5, 6]
    assert (measure["mean"], measure["std"]) == (5, 1)
    assert metrics["tables"][0]["rows"] == [["a", "5 ± 1"]]


def test_a_seed_without_a_number_leaves_the_others(script):
    path = script(
        "value = float(config.seed) if config.seed else float('nan')\n"
        "    run.measure('seed', value)\n"
        "    run.table('t', ['text', 'number'], [['a', value]])"
    )
    assert call(path, "--scale", "quick", "--seeds", "3").returncode == 0
    metrics = metrics_of(path)
    (measure,) = metrics["measures"]
    assert [str(value) for value in measure["values"]] == ["nan", "1.0", "2.0"]
    assert str(measure["mean"]) == "nan"
    assert metrics["tables"][0]["rows"] == [["a", "nan ± nan"]]


def test_the_same_seed_gives_the_same_draw(script):
    path = script("run.measure('draw', torch.rand(1).item() + __import__('numpy').random.rand())")
    call(path, "--scale", "quick", "--seed", "3")
    first = metrics_of(path)["measures"][0]["values"]
    call(path, "--scale", "quick", "--seed", "3")
    assert metrics_of(path)["measures"][0]["values"] == first


# ------------------------------------------------------------------ resuming

TRAINING = (
    "from pathlib import Path\n"
    "    state = run.load('net') or {{'epoch': 0, 'draws': []}}\n"
    "    for epoch in range(state['epoch'], 4):\n"
    "        state['draws'].append(torch.rand(1).item())\n"
    "        state['epoch'] = epoch + 1\n"
    "        run.save('net', state)\n"
    "        if epoch == 1 and Path({flag!r}).exists(): raise KeyboardInterrupt\n"
    "    run.measure('epochs here', float(len(state['draws'])))\n"
    "    run.measure('sum', sum(state['draws']))"
)
"""A training that draws random numbers, and is cut off after its second epoch while a certain file exists."""


def cut_off(flag: Path) -> str:
    """Body of a lesson that is cut off while ``flag`` exists; its text stays the same, so that it resumes."""
    return TRAINING.format(flag=str(flag))


def test_a_cut_off_training_resumes_with_its_random_state(script, tmp_path):
    flag = tmp_path / "cut"
    path = script(cut_off(flag))
    assert call(path, "--scale", "quick").returncode == 0
    whole = metrics_of(path)["measures"]
    flag.touch()
    done = call(path, "--scale", "quick")
    assert done.returncode == 130
    assert "resumes" in done.stderr
    flag.unlink()
    done = call(path, "--scale", "quick")
    assert "net: resumed" in done.stdout
    assert [m["values"] for m in metrics_of(path)["measures"]] == [m["values"] for m in whole]


def test_fresh_and_other_settings_do_not_resume(script, tmp_path):
    flag = tmp_path / "cut"
    path = script(cut_off(flag))
    for arguments in (["--fresh"], ["--beta", "0.6"]):
        flag.touch()
        assert call(path, "--scale", "quick").returncode == 130
        flag.unlink()
        done = call(path, "--scale", "quick", *arguments)
        assert done.returncode == 0
        assert "resumed" not in done.stdout


def test_an_edited_script_does_not_resume(script, tmp_path):
    flag = tmp_path / "cut"
    flag.touch()
    path = script(cut_off(flag))
    assert call(path, "--scale", "quick").returncode == 130
    flag.unlink()
    path.write_text(path.read_text(encoding="utf-8") + "# edited\n", encoding="utf-8")
    assert "resumed" not in call(path, "--scale", "quick").stdout


def test_seeds_that_were_measured_are_not_measured_again(script, tmp_path):
    flag = tmp_path / "cut"
    flag.touch()
    body = (
        "run.measure('seed', float(config.seed))\n"
        "    from pathlib import Path\n"
        f"    if config.seed == 2 and Path({str(flag)!r}).exists(): raise KeyboardInterrupt"
    )
    path = script(body)
    assert call(path, "--scale", "quick", "--seeds", "4").returncode == 130
    flag.unlink()
    done = call(path, "--scale", "quick", "--seeds", "4")
    assert done.stdout.count("measured before the last stop") == 2
    assert metrics_of(path)["measures"][0]["values"] == [0, 1, 2, 3]
    assert not list(Path(os.environ["SNN_RESULTS"]).rglob("seed*.json"))


# ------------------------------------------------------------------ parts


def test_load_gives_one_module_and_names_a_missing_lesson():
    first = lesson.load(1)
    assert lesson.load("01_lif_neuron") is first
    with pytest.raises(UsageError, match="no lesson 99"):
        lesson.load(99)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.97834, "0.9783"),
        (97.834, "97.83"),
        (123456.0, "123456"),
        (1.2e-8, "1.2e-08"),
        (0.0, "0"),
        (float("nan"), "nan"),
        (-0.5, "-0.5"),
        (3e7, "3.0e+07"),
    ],
)
def test_numbers_are_written_short(value, text):
    assert wording.number(value) == text


def test_a_figure_is_a_file_with_a_title(tmp_path):
    from snn_course.runs import figures

    def main(config, run):
        fig, axes = figures.new("A finding", 1, 2)
        axes[0].plot([0, 1])
        figures.raster(axes[1], torch.eye(3))
        run.figure(fig, "shape")

    path = tmp_path / "77_figure.py"
    path.write_text('"""Lesson 77: x."""', encoding="utf-8")
    metrics = lesson.execute(main, Config(scale="quick"), path)
    assert metrics["figures"] == [{"file": "shape.png", "title": "A finding", "chapter": "main"}]
    written = Path(os.environ["SNN_RESULTS"]) / "77_figure" / "quick"
    assert (written / "shape.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((written / "metrics.json").read_text(encoding="utf-8"))["figures"] == metrics["figures"]


def in_the_way(kind: str, path: Path) -> None:
    """Put something at a journal's place that is no journal."""
    if kind == "it is a folder":
        path.mkdir()
    elif kind == "which does not exist":
        path.symlink_to("nowhere.md")
    elif kind == "not a regular file":
        path.symlink_to("/dev/null")
    else:
        path.write_bytes("notes".encode("utf-16"))
        if kind == "read-only":
            path.chmod(0o444)


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
@pytest.mark.parametrize(
    "kind", ["it is a folder", "which does not exist", "not a regular file", "UTF-16", "read-only"]
)
def test_a_journal_that_cannot_be_written_is_one_warning(tmp_path, monkeypatch, capsys, kind):
    path = tmp_path / "my journal.md"
    in_the_way(kind, path)
    monkeypatch.setenv("SNN_JOURNAL", str(path))
    (tmp_path / "77_test.py").write_text('"""Lesson 77: a test."""', encoding="utf-8")
    metrics = lesson.execute(
        lambda _, run: run.measure("x", 1.0), Config(scale="quick", device="cpu"), tmp_path / "77_test.py"
    )
    assert metrics["status"] == "ok"
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "Not in the journal" in line]
    assert line.startswith(f"Not in the journal: cannot write the journal {path}: ")
    assert kind in line
    assert not (tmp_path / "nowhere.md").exists()


def test_a_journal_that_cannot_be_written_does_not_lose_the_results(script, tmp_path):
    (tmp_path / "folder").mkdir()
    path = script()
    done = call(path, "--scale", "quick", SNN_JOURNAL=str(tmp_path / "folder"))
    assert done.returncode == 0
    assert "Not in the journal" in done.stdout
    assert metrics_of(path)["status"] == "ok"


def test_what_the_first_seed_alone_measured_counts_once_after_a_cut(tmp_path):
    made = [
        lesson.Run(Config(scale="quick", seeds=2, device="cpu"), tmp_path / "77_test.py") for _ in range(2)
    ]
    (tmp_path / "77_test.py").write_text("", encoding="utf-8")
    for seed in range(2):
        made[0].begin(seed)
        made[0].measure("each", seed)
        if seed == 0:
            made[0].measure("once", 5)
            made[0].table("once, too", ["a"], [[1.0]])
        made[0].finish_seed()
    assert all(made[1].resumed(seed) for seed in range(2))
    assert made[1].record.measures["each"].values == [0, 1]
    assert made[1].record.measures["once"].values == [5]
    assert len(made[1].record.tables["once, too"]["runs"]) == 1


def test_a_script_beside_others_says_that_its_times_are_rough(script):
    path = script()
    assert "beside other scripts" not in call(path, "--scale", "quick").stdout
    assert "beside other scripts" not in metrics_of(path)["hardware"]
    done = call(path, "--scale", "quick", SNN_SHARED="1")
    assert "beside other scripts, so all times are rough" in " ".join(done.stdout.split())
    assert metrics_of(path)["hardware"].endswith(" cores, 1 thread, beside other scripts")
    assert "beside other scripts" in Path(os.environ["SNN_JOURNAL"]).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("told", "model"),
    [
        ("processor\t: 0\nmodel\t\t: 1\nmodel name\t: AMD EPYC\nflags\t: fpu\n", "AMD EPYC"),
        (
            "processor\t: 0\nCPU part\t: 0xd0b\n\nModel\t\t: Raspberry Pi 5 Model B\n",
            "Raspberry Pi 5 Model B",
        ),
        ("processor\t: 0\n", None),
    ],
)
def test_the_machine_is_named_as_linux_names_it(told, model):
    assert provenance.model_of(told) == model
