"""Tests side by side: what must share a process does, and long groups begin first."""

import re

from snn_course import ROOT
from tests import conftest

MARK = re.compile(r"^(?:@|pytestmark = )pytest\.mark\.browser$", re.MULTILINE)


def test_the_files_with_a_browser_are_those_that_are_named():
    marked = []
    for path in (ROOT / "tests").rglob("test_*.py"):
        if MARK.search(path.read_text(encoding="utf-8")):
            marked.append(path.relative_to(ROOT).as_posix())
    named = [name for name in conftest.BROWSERS if name.endswith(".py")]
    assert sorted(named) == sorted(marked)


def test_what_is_named_is_there():
    for name in (*conftest.BROWSERS, *conftest.LONG):
        assert (ROOT / name.split("::")[0]).is_file()


def test_a_file_is_a_group_and_so_is_each_script():
    a_file = "tests/runs/test_report.py"
    script = "tests/course/test_scripts.py::test_quick_scale[01_lif_neuron]"
    assert conftest.group_of(f"{a_file}::test_a[x::y]") == conftest.group_of(f"{a_file}::test_b") == a_file
    assert conftest.group_of(script) == script
    game = "tests/course/test_scripts.py::test_quick_scale[capstone_gameworld]"
    assert conftest.group_of(game) == conftest.group_of(f"{conftest.BROWSERS[0]}::test_a")


def test_browsers_come_first_and_scripts_last():
    script = "tests/course/test_scripts.py::test_quick_scale[01_lif_neuron]"
    order = [f"{conftest.BROWSERS[0]}::test_a", *conftest.LONG, "tests/runs/test_report.py::test_a", script]
    mixed = order[::-1]
    assert sorted(mixed, key=conftest.place_of) == order
