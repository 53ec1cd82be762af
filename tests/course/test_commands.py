"""What course.py says: where one is, the list, the report, and one line for each wrong use."""

import os
import shutil
import subprocess
import sys

from snn_course import ROOT
from tests.course.small_course import SmallCourse

import pytest


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """Give a course without an environment, for commands that need none, and must not make one."""
    return SmallCourse(tmp_path_factory.mktemp("bare") / "a course", has_environment=False)


NO_BACKEND = "module://matplotlib_inline.backend_inline"  # what a notebook hands down

# ---------------------------------------------------------------------- list, report, env, test


def test_list_shows_questions_and_results_and_imports_nothing(small):
    assert small.start("run", "01", "--scale", "quick").returncode == 0
    broken = small.root / "lessons" / "02_second.py"
    broken.write_text('"""Lesson 02: broken."""\nraise SystemExit(9)', "utf-8")
    (small.root / "lessons" / "03_edit.py").write_text("def f(:", "utf-8")
    damaged = small.results / "02_second" / "cpu" / "metrics.json"
    damaged.parent.mkdir(parents=True)
    damaged.write_text('{"measures": 3}', "utf-8")
    shutil.rmtree(small.root / ".venv")  # not needed either
    ended = small.start("list", cwd=small.root / "lessons")
    assert ended.returncode == 0, ended.stderr
    assert "01_first: first\n    Does first work?\n" in ended.stdout
    assert "97.6 ± 0.1 % (goal >= 97, met), quick" in ended.stdout
    assert "02_second: broken\n    its metrics.json is damaged" in ended.stdout
    assert "03_edit" in ended.stdout
    assert max(map(len, ended.stdout.splitlines())) < 80


def test_what_only_looks_imports_nothing_heavy(bare):
    """So `list` answers in 0.3 s, and `course.py` in 0.15 s of work."""
    heavy = {"numpy", "torch", "matplotlib", "rich", "tyro", "jsonschema", "psutil", "filelock", "jinja2"}
    for command in ([], ["list"]):
        look = f"import sys, course; course.main({command}); print([*{heavy} & set(sys.modules)])"
        start = [sys.executable, "-c", look]
        ended = subprocess.run(start, cwd=bare.root, capture_output=True, encoding="utf-8", check=False)
        assert ended.stdout.splitlines()[-1] == "[]", ended.stderr


def test_report_renews_the_table_in_the_readme(small):
    readme = small.root / "README.md"
    readme.write_text("a\n<!-- results:begin -->\nold\n<!-- results:end -->\nb\n", "utf-8")
    assert small.start("run", "01").returncode == 0
    ended = small.start("report", "--readme")
    assert ended.returncode == 0, ended.stderr
    text = readme.read_text("utf-8")
    assert text.startswith("a\n<!-- results:begin -->\n| lesson")
    assert text.endswith("<!-- results:end -->\nb\n")
    assert "**97.6 ± 0.1 %**" in text
    assert "old" not in text
    readme.write_text("no markers", "utf-8")
    assert small.start("report", "--readme").returncode == 2


def test_the_environment_test_and_the_tests_get_their_options(small):
    environment_test = small.root / "00_environment_test.py"
    environment_test.write_text("import sys; print(sys.argv[1:]); sys.exit(1)", "utf-8")
    ended = small.start("env", "--profile", "pi")
    assert (ended.returncode, ended.stdout) == (1, "['--profile', 'pi']\n")
    write_tests(small)
    assert small.start("test", "-q", "-k", "test_a").returncode == 0
    assert small.start("test", "-q").returncode == 1


def write_tests(small):
    (small.root / "tests").mkdir()
    shutil.copy(ROOT / "pyproject.toml", small.root)
    text = "import numpy\ndef test_a(): pass\ndef test_b(): assert 0"
    (small.root / "tests" / "test_one.py").write_text(text, "utf-8")


@pytest.mark.skipif(os.name == "nt", reason="no head on Windows")
@pytest.mark.parametrize("command", [["list"], [], ["--help"], ["run", "--help"], ["report"]], ids=str)
def test_a_reader_that_goes_away_is_no_error(small, command):
    start = [sys.executable, str(small.root / "course.py"), *command]
    reader, writer = os.pipe()
    os.close(reader)  # as `| head` does, only sooner
    ended = subprocess.run(
        start, stdout=writer, stderr=subprocess.PIPE, env=small.environment({}), check=False
    )
    os.close(writer)
    assert ended.stderr == b""
    assert ended.returncode == 0


def test_the_help_fits_a_terminal_and_names_every_command(small):
    text = small.start("--help").stdout
    assert max(map(len, text.splitlines())) < 80
    for command in ("run", "report", "start", "check", "hint", "hunt", "quiz", "next", "list", "env", "test"):
        assert f"course.py {command}" in text


# ---------------------------------------------------------------------- wrong use


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "01_frist"], "There is no lesson '01_frist'. Did you mean 01_first?"),
        (["run", "secnd"], "Did you mean 02_second?"),
        (["run", "01", "77"], "There is no lesson '77'."),
        (["run", "9" * 5000], "There is no lesson '999"),
        (["run", "-7"], "There is no lesson '-7'."),
        (["run", "01\n02"], r"There is no lesson '01\n02'."),
        (["run", "01\x1b[31m\r\x07"], r"There is no lesson '01\x1b[31m\r\x07'."),
        (["run", "\u202e01"], r"There is no lesson '\u202e01'."),
        (["run", ""], "A name is empty"),
        (["run", "01", " "], "A name is empty"),
        (["run", "01", "02", "1"], "01_first is named twice (01 and 1)"),
        (["run", "first.py", "x/first.py"], "There is no lesson 'first.py'. Did you mean 01_first?"),
        (["run", "--scale", "big"], "invalid choice: 'big'"),
        (["run", "--scale", "b\nig" * 500], r"invalid choice: 'b\nigb\nig"),
        (["run", "--scale"], "--scale: expected one argument"),
        (["run", "--skale", "quick"], "unrecognized arguments: --skale"),
        (["run", "--seed", "3"], "unrecognized arguments: --seed"),  # no short form of --seeds
        (["run", "--new\nline"], r"unrecognized arguments: --new\nline"),
        *[
            (["run", option, value], f"argument {option}: '{value}' is no whole number from 1")
            for option in ("--seeds", "--jobs")
            for value in ("0", "-1", "abc", "1.5", "", "1e3", "٣", "nan", "+2")
        ],
        (["run", "--seeds", "1" * 5000], "argument --seeds: '111"),
        (["run", "--jobs", "1" * 5000], "argument --jobs: '111"),
        (["run", "--seeds", "101"], "--seeds must be from 1 to 100, not 101."),
        (["run", "--fresh=yes"], "argument --fresh: ignored explicit argument 'yes'"),
        (["rum"], "There is no command 'rum'. Did you mean run?"),
        (["x" * 5000], "There is no command 'xxx"),
        (["ru\nn"], r"There is no command 'ru\nn'. Did you mean run?"),
        ([""], "There is no command ''."),
        (["--verbose"], "There is no command '--verbose'."),
        (["list", "x"], "unrecognized arguments: x"),
        (["list", "--al\nl"], r"unrecognized arguments: --al\nl"),
        (["report", "--readmee"], "unrecognized arguments: --readmee"),
        (["report", "--read"], "unrecognized arguments: --read"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_wrong_use_is_one_line_and_exit_code_2_before_anything_starts(bare, arguments, said):
    ended = bare.start(*arguments)
    assert said in ended.stderr
    assert ended.returncode == 2
    assert len(ended.stderr.splitlines()) == 1
    assert ended.stderr.rstrip("\n").isprintable()
    assert len(ended.stderr) < 400
    assert ended.stdout == ""
    assert not (bare.root / ".venv").exists()


NO_HOME = pytest.mark.skipif(os.name == "nt", reason="Windows looks up no other users")


@NO_HOME
@pytest.mark.parametrize("variable", ["SNN_DATA", "SNN_RESULTS", "SNN_JOURNAL"])
@pytest.mark.parametrize("command", [[], ["list"], ["run"], ["test"], ["env"], ["report"]], ids=str)
def test_a_home_that_nobody_has_is_one_line_for_each_command(bare, variable, command):
    ended = bare.start(*command, **{variable: "~nouser/x"})
    assert_no_home(ended, variable)


@NO_HOME
@pytest.mark.parametrize("variable", ["SNN_DATA", "SNN_RESULTS", "SNN_JOURNAL"])
@pytest.mark.parametrize("script", ["lessons/01_lif_neuron.py", "00_environment_test.py", "capstone_pong.py"])
def test_a_home_that_nobody_has_is_one_line_for_each_script(variable, script):
    start = [sys.executable, str(ROOT / script), *["--scale", "quick"] * script.startswith(("l", "c"))]
    environment = os.environ | {variable: "~nouser/x"}
    ended = subprocess.run(start, env=environment, capture_output=True, encoding="utf-8", check=False)
    assert_no_home(ended, variable)


def assert_no_home(ended, variable):
    assert ended.returncode == 2
    assert f"{variable} is ~nouser/x, and this computer knows no such home folder" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


# ---------------------------------------------------------------------- what children inherit


@pytest.fixture
def broken_packages(tmp_path):
    """Give a folder with a numpy that cannot be imported, and a plug-in of pytest that cannot be loaded."""
    folder = tmp_path / "foreign"
    (folder / "plugin-1.0.dist-info").mkdir(parents=True)
    (folder / "plugin-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: plugin\nVersion: 1.0\n"
    )
    (folder / "plugin-1.0.dist-info" / "entry_points.txt").write_text("[pytest11]\nplugin = plugin\n")
    (folder / "plugin.py").write_text("def pytest_no_such_hook(): pass\nraise ImportError('plugin')")
    (folder / "numpy.py").write_text("raise ImportError('foreign numpy')")
    return folder


FOREIGN = {
    "MPLBACKEND": NO_BACKEND,
    "PYTHONSTARTUP": "no_such_file.py",
    "PYTHONWARNINGS": "error",
    "PYTHONOPTIMIZE": "2",
    "PYTHONSAFEPATH": "1",
    "PYTEST_ADDOPTS": "--no-such-option",
    "PYTEST_PLUGINS": "no_such_plugin",
}


def test_children_inherit_nothing_foreign_and_it_is_said_once(small, broken_packages):
    write_tests(small)
    small.lesson("01_first", before="import numpy, matplotlib.pyplot; assert numpy.__version__")
    (small.root / "00_environment_test.py").write_text("import numpy; assert numpy.__version__", "utf-8")
    given = FOREIGN | {"PYTHONPATH": str(broken_packages)}
    for command in (["run", "00", "01"], ["test", "-q", "-k", "test_a"], ["env"], ["report"]):
        ended = small.start(*command, **given)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        said = [line for line in ended.stderr.splitlines() if "not passed on" in line]
        names = ", ".join(sorted(given))
        assert said == [f"course.py: not passed on to the scripts: {names}"]
    assert "not passed on" not in small.start("list", **given).stderr
    assert "not passed on" not in small.start("report").stderr
