"""course.py quiz and hunt, and course.py alone, as a learner starts them."""

import json
import os
import subprocess
import sys

from tests.teaching import small_bank


def start(small, *arguments, typed=""):
    """Run course.py of a small course with lines as answers."""
    return subprocess.run(
        [sys.executable, str(small.root / "course.py"), *arguments],
        cwd=small.root,
        env=small.environment({}),
        input=typed,
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )


def test_a_quiz_is_listed_held_and_remembered(small):
    assert start(small, "quiz").stdout == "There are no quizzes yet.\n"
    text = small_bank.choices(8).replace('ask = "q', 'ask = "Ä ± q')
    (small.root / "quizzes").mkdir()
    (small.root / "quizzes" / "01_first.toml").write_text(text, encoding="utf-8")
    ended = start(small, "quiz", "1", typed="1\n1\n")
    assert ended.returncode == 0, ended.stderr
    assert "Question 3 of 4" in ended.stdout
    assert ended.stdout.count("Ä ± q") == 3
    assert "Stopped." in ended.stdout
    record = json.loads((small.root / "progress.json").read_text(encoding="utf-8"))
    assert len(record["scripts"]["01_first"]["quiz"]["open"]["parts"][0]["answers"]) == 2
    assert "It goes on: 2 of 4 questions are left." in start(small, "quiz", "01", typed="h\n").stdout
    assert "(unfinished)" in start(small, "quiz").stdout
    assert "begun" in start(small).stdout
    assert start(small, "quiz", "--review").returncode == 0


def test_what_is_typed_may_be_any_bytes_and_the_input_may_be_closed(small):
    (small.root / "quizzes").mkdir()
    (small.root / "quizzes" / "01_first.toml").write_text(small_bank.choices(8), encoding="utf-8")
    command = [sys.executable, str(small.root / "course.py"), "quiz", "01"]
    closed = ["sh", "-c", '"$@" <&-', "sh", *command]
    cases = [(command, b"\xff\xfe\n\0\n\x1b[2J\n")]
    cases += [(closed, b"")] if os.name == "posix" else []
    for start_as, typed in cases:
        ended = subprocess.run(
            start_as, cwd=small.root, env=small.environment({}), input=typed, capture_output=True, check=False
        )
        assert ended.returncode == 0, ended.stderr
        assert ended.stderr == b""
        assert b"Stopped." in ended.stdout
        assert b"\x1b" not in ended.stdout


def test_a_bug_is_hunted(small):
    assert start(small, "hunt").stdout == "There are no hunts yet.\n"
    lesson = small.root / "lessons" / "01_first.py"
    lesson.write_text('"""Lesson 01: first."""\n\n\ndef add(a, b):\n    return a + b\n', encoding="utf-8")
    (small.root / "hunts").mkdir()
    lines = ["[[bug]]", "id = 'minus'", "function = ['add']", "before = '    return a + b'"]
    lines += ["after = '    return a - b'", "shows = '2 and 1'", "number = 'answer = lesson.add(2, 1)'"]
    lines += ["why_it_hides = 'w'", "hints = ['h', 'i']"]
    (small.root / "hunts" / "01_first.toml").write_text("\n".join(lines), encoding="utf-8")
    ended = start(small, "hunt", "01", typed="1\nh\ng\n")
    assert ended.returncode == 0, ended.stderr
    assert "2 and 1: 1 with the bug, 3 in the lesson" in ended.stdout
    assert (small.root / "workspace" / "hunts" / "01_first_bug1.py").exists()
    assert "It was line" in ended.stdout


def test_wrong_use_is_one_line(small):
    (small.root / "quizzes").mkdir()
    (small.root / "quizzes" / "02_second.toml").write_text("sitting = [", encoding="utf-8")
    for arguments, said in (
        (["quiz", "01"], "There is no quiz on 01_first yet"),
        (["quiz", "02"], "02_second.toml, line 1: this is no TOML"),
        (["quiz", "01", "02"], "One quiz at a time"),
        (["quiz", "9"], "There is no lesson '9'"),
        (["hunt", "01"], "There is no hunt on 01_first yet"),
        (["hunt", "--again"], "unrecognized arguments"),
    ):
        ended = start(small, *arguments)
        assert ended.returncode == 2, arguments
        assert said in ended.stderr
        assert ended.stderr.count("\n") == 1
