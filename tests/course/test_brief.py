"""README, the tutor's brief and the corrections: each command, path and place that they name is there."""

import ast
import functools
import re
import shlex
import subprocess
import sys

from snn_course.runs import scripts
from snn_course import ROOT

import pytest

PAGES = ("README.md", "CLAUDE.md", "AGENTS.md", "CORRECTIONS.md")
TEXT = {page: (ROOT / page).read_text(encoding="utf-8") for page in PAGES}
CALLED = re.compile(r"`(?:python3|\.venv/bin/python) ([\w./]+\.py)((?: [^`]*)?)`")
IN_A_BLOCK = re.compile(r"^python3 (course\.py)( .*)?$", re.MULTILINE)
MADE = ("results", "workspace", "data", "progress.json", "NN", "nothing.md")
"""What is made at run time."""


def commands():
    found = {}
    for page, text in TEXT.items():
        for script, rest in [*CALLED.findall(text), *IN_A_BLOCK.findall(text)]:
            found.setdefault((script, rest.strip()), page)
    return sorted(found)


def test_there_are_commands_to_try():
    named = {rest.split()[0] for script, rest in commands() if script == "course.py" and rest}
    assert named >= {"run", "test", "start", "check", "hint", "hunt", "quiz", "next", "report", "env", "list"}


@functools.cache
def help_of(command):
    """Ask a command for its help, once."""
    start = [sys.executable, str(ROOT / "course.py"), command, "--help"]
    done = subprocess.run(start, capture_output=True, text=True, check=False, cwd=ROOT, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(("script", "rest"), commands(), ids=lambda value: value.replace("/", "_") or "alone")
def test_a_command_is_understood(script, rest):
    """Ask for its help, with the same words; what is wrong with them is said before."""
    assert (ROOT / script).is_file()
    words = shlex.split(rest.replace("PATH", "."))
    if script != "course.py":
        return
    if not words:
        return
    shown = help_of(words[0])
    for option in (word for word in words[1:] if word.startswith("--")):
        assert option in shown
    for name in (word for word in words[1:] if not word.startswith("-")):
        if words[0] not in ("test",) and not name.isalpha():
            assert scripts.pick([name], scripts.find(ROOT))


@pytest.mark.parametrize("page", PAGES)
def test_a_path_is_there(page):
    lost = []
    for name in re.findall(r"`([\w./*-]+(?:/|\.md|\.py|\.toml|\.txt))`", TEXT[page]):
        first = name.split("/")[0]
        if (
            "*" in name
            or first in MADE
            or name.startswith(".venv")
            or not (name[0].isalnum() or name[0] == ".")
        ):
            continue
        places = (ROOT, ROOT / "snn_course", ROOT / "snn_course" / "pong")
        if not any((place / name).exists() for place in places):
            lost.append(name)
    assert lost == []


@pytest.mark.parametrize("page", PAGES)
def test_a_picture_and_a_link_within_the_course_are_there(page):
    for target in re.findall(r"\]\((?!https?://|#)([^)\s]+)\)", TEXT[page]):
        assert (ROOT / target).exists(), target


def test_the_brief_knows_every_lesson():
    brief = TEXT["CLAUDE.md"]
    for script in scripts.find(ROOT):
        if script.number is not None:
            assert re.search(rf"^\*\*{script.number:02d} ", brief, re.MULTILINE), script.stem
            part = brief.split(f"**{script.number:02d} ")[1].split("\n\n")[0]
            assert "*Ties*" in part
            assert "*Trap*" in part
            assert script.is_environment_test or "*Read*" in part


def test_the_reading_list_knows_every_lesson():
    listed = re.findall(r"^\| (\d\d) \| .+ \| .+ \|$", TEXT["README.md"], re.MULTILINE)
    assert listed == [f"{number:02d}" for number in range(1, 21)]


def defined(stem):
    (script,) = (script for script in scripts.find(ROOT) if script.stem.startswith(stem))
    tree = ast.parse(script.path.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, script.path


def test_a_correction_names_a_place_that_is_there():
    seen = 0
    for line in re.findall(r"^\*(Lesson .+)\*$", TEXT["CORRECTIONS.md"], re.MULTILINE):
        for number, rest in re.findall(r"[Ll]esson (\d\d)([^;]*)", line):
            functions, path = defined(f"{number}_")
            for name in re.findall(r"`(\w+)`", rest):
                assert name in functions, (number, name)
                seen += 1
            for title in re.findall(r'table "([^"]+)"', rest):
                assert title in path.read_text(encoding="utf-8")
    assert seen > 20


def test_the_two_machines_and_their_troubles_are_in_the_brief():
    brief = TEXT["CLAUDE.md"]
    for word in (
        "HIP_VISIBLE_DEVICES",
        "Simulator-only mode",
        "not measured: no AKD1000",
        "7900 XTX",
        "24 GB",
        "70 %",
    ):
        assert word in brief
    assert "never edit" in brief.lower()


@pytest.mark.parametrize(
    ("words", "place"),
    [
        ("not written yet", "snn_course/teaching/check.py"),
        ("does not hold", "snn_course/teaching/check.py"),
        ("A known mistake", "snn_course/teaching/check.py"),
        ("Each task by itself holds, and the lesson with them does not", "snn_course/teaching/check.py"),
        ("All holds", "snn_course/teaching/check.py"),
        ("It ends with", "snn_course/teaching/answers.py"),
        ("Simulator-only mode", "00_environment_test.py"),
        ("not measured: no AKD1000", "snn_course/akida_bridge/trial.py"),
        ("[FAIL]", "00_environment_test.py"),
        ("My machines", "snn_course/journal/text.py"),
        ("What you will build", "README.md"),
    ],
)
def test_what_the_brief_quotes_is_said_there(words, place):
    assert words in " ".join(TEXT["CLAUDE.md"].split())
    assert words in (ROOT / place).read_text(encoding="utf-8")


def test_what_is_recorded_as_the_learners_the_tutor_leaves_to_them():
    brief = " ".join(TEXT["CLAUDE.md"].split())
    assert "`check`, `hint`, `hunt` and `quiz` are recorded as the learner's own" in brief
