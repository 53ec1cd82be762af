"""Every bug in hunts/: it fits its lesson, runs, and its number gives it away. And a hunt, line by line.

One lesson alone: pytest tests/teaching/test_hunts.py -k 07
"""

import ast
import re
from pathlib import Path

from snn_course.runs import scripts
from snn_course import ROOT, UsageError, journal_file, workspace_dir
from snn_course.teaching import hunts, hunts_planted, progress
from snn_course.teaching.hunts_planted import Bug
from snn_course.teaching.quiz_numbers import Computed, Job, Numbers
from tests.teaching.conftest import Typed

import pytest

SCRIPTS = scripts.find(ROOT)
HUNTED = {script.stem: script for script in SCRIPTS if hunts_planted.path_of(script.stem).exists()}
LEAST = 3
each_script = pytest.mark.parametrize("stem", HUNTED)


def lesson_of(stem):
    return HUNTED[stem].path.read_text(encoding="utf-8")


# ---------------------------------------------------------------------- every bug


def test_each_file_belongs_to_a_script():
    files = {path.stem for path in (ROOT / "hunts").glob("*")}
    assert files <= {script.stem for script in SCRIPTS}
    assert HUNTED


@each_script
def test_there_are_enough_bugs_and_each_fits_once(stem):
    bugs = hunts_planted.of_script(HUNTED[stem])
    assert len(bugs) >= LEAST
    for bug in bugs:
        ast.parse(bug.planted(lesson_of(stem)))  # it raises an error where 'before' does not stand once
        piece = hunts_planted.piece_of(bug, lesson_of(stem))
        assert 1 <= len(piece.guilty) <= 4, bug.id
        assert len(piece.lines) <= 150, bug.id
        assert not [line for line in piece.lines if "exercise:" in line]


@each_script
def test_hints_do_not_give_it_away_at_once(stem):
    for bug in hunts_planted.of_script(HUNTED[stem]):
        assert bug.before.strip() not in " ".join(bug.hints), bug.id
        assert not re.search(r"\bline \d", " ".join(bug.hints)), bug.id


@pytest.fixture(scope="module")
def shown(request):
    """Compute the numbers of the bugs that are looked at, in one process: torch loads once."""
    looked_at = {item.callspec.params["stem"] for item in request.session.items if needs_numbers(item)}
    jobs = [job for stem in HUNTED if stem in looked_at for job in jobs_of(stem)]
    with Numbers(jobs) as numbers:
        yield numbers


def needs_numbers(item):
    return item.path.name == "test_hunts.py" and "shown" in item.fixturenames


def jobs_of(stem):
    """Measure each bug of a lesson in a copy that has it, and in the lesson."""
    for bug in hunts_planted.of_script(HUNTED[stem]):
        planted = bug.planted(lesson_of(stem))
        yield Job(f"{stem} {bug.id} wrong", stem, bug.number, 0, text=planted)
        yield Job(f"{stem} {bug.id} right", stem, bug.number, 0)


@each_script
def test_the_number_gives_the_bug_away(stem, shown):
    """The copy runs to its end, and its number is another one than the lesson's, as it is shown."""
    for bug in hunts_planted.of_script(HUNTED[stem]):
        wrong, right = shown.of(f"{stem} {bug.id} wrong"), shown.of(f"{stem} {bug.id} right")
        assert wrong.error == right.error == "", bug.id
        assert right.answer is not None, bug.id
        assert right.answer == right.answer, bug.id  # not nan
        assert f"{wrong.answer:.3g}" != f"{right.answer:.3g}", (bug.id, right.answer)


# ---------------------------------------------------------------------- a hunt, line by line

LESSON = '''"""Lesson 02: small.

Question: Is it?
"""


def add(a, b):
    """Add."""
    # exercise: add them
    total = a + b
    # end
    total = total * 1
    return total


def other():
    return add(1, 2)
'''
BUG = {
    "id": "minus",
    "function": ["add"],
    "before": "    total = a + b",
    "after": "    total = a - b",
    "shows": "2 and 1 together",
    "number": "answer = lesson.add(2, 1)",
    "why_it_hides": "both are one sign",
    "hints": ["first", "second"],
}
GONE = BUG | {  # the mark of an exercise stands between its lines
    "id": "gone",
    "before": "    total = a + b\n    total = total * 1\n    return total",
    "after": "    total = a + b\n    return total",
}


@pytest.fixture
def hunt(tmp_path, monkeypatch, capsys):
    """Give a function that hunts in a small lesson with these lines as answers. Returns: what was printed."""
    path = tmp_path / "02_small.py"
    path.write_text(LESSON, encoding="utf-8")
    monkeypatch.setattr(hunts_planted, "path_of", lambda stem: path)
    monkeypatch.setattr(hunts_planted, "of_script", lambda script: [Bug(**BUG)])
    monkeypatch.setattr(hunts, "measured", lambda *_: (1.0, 3.0))

    def hunted(*lines):
        monkeypatch.setattr("sys.stdin", Typed("".join(f"{line}\n" for line in lines)))
        assert hunts.run([scripts.Script(path)], [], "course.py") == 0
        said = capsys.readouterr().out
        assert max(len(line) for line in said.splitlines() if str(tmp_path) not in line) < 80
        return said

    return hunted


def guilty_line(said):
    return re.search(r"^ *(\d+)      total = a - b$", said, re.MULTILINE)[1]


def test_a_bug_is_shown_with_its_number_and_found_by_its_line(hunt):
    said = hunt()
    assert "  2 and 1 together: 1 with the bug, 3 in the lesson\n" in said
    assert "exercise" not in said
    assert said.endswith("Stopped. The hunt goes on with\n    course.py hunt 02\n")
    line = int(guilty_line(said))
    file = workspace_dir() / "hunts" / "02_small_bug1.py"
    assert file.read_text(encoding="utf-8").split("\n")[line - 1] == "    total = a - b"
    said = hunt(line + 1, "999", "x", "h", "h", "h", line)
    assert f"Line {line + 1} is as it should be. (h: a hint)" in said
    assert said.count("Please type the number of a line") == 2
    assert "  Hint: first\n" in said
    assert "There are no more hints." in said
    assert "Found, with 2 tries." in said
    assert "  here:\n        total = a - b\n  in the lesson:\n        total = a + b\n" in said
    assert "  Why it hides: both are one sign\n" in said
    assert progress.found_bugs(progress.read(), "02_small") == {"minus"}
    text = journal_file().read_text(encoding="utf-8")
    assert "**Bug hunt: 1 of 1 found**" in text
    assert re.search(r"\| minus \| \d{4}-\d\d-\d\d \| yes \| 2 \|", text)


def test_the_copy_is_named_as_the_learner_would_from_where_they_are(hunt, monkeypatch):
    workspace_dir().mkdir(parents=True, exist_ok=True)
    monkeypatch.chdir(workspace_dir())
    (line,) = [line for line in hunt().splitlines() if line.startswith("Also in your editor: ")]
    assert not Path(line.removeprefix("Also in your editor: ")).is_absolute()


def test_tries_are_counted_over_a_stop_and_giving_up_is_no_find(hunt):
    hunt("9")
    assert progress.read()["scripts"]["02_small"]["hunting"] == {"bug": "minus", "tries": 1}
    said = hunt("g")
    assert "It was line" in said
    assert progress.found_bugs(progress.read(), "02_small") == set()
    assert progress.read()["scripts"]["02_small"]["hunts"]["minus"]["tries"] == 1


def test_notes_in_the_copy_stay(hunt):
    hunt()
    file = workspace_dir() / "hunts" / "02_small_bug1.py"
    file.write_text("mine", encoding="utf-8")
    assert "02_small_bug1_2.py" in hunt()
    assert file.read_text(encoding="utf-8") == "mine"


def test_a_missing_line_is_found_by_its_neighbours():
    piece = hunts_planted.piece_of(Bug(**GONE), LESSON)
    assert [piece.lines[number - 1] for number in sorted(piece.guilty)] == [
        "    total = a + b",
        "    return total",
    ]


def test_a_bug_that_no_longer_fits_is_one_line(hunt, monkeypatch):
    monkeypatch.setattr(hunts_planted, "of_script", lambda script: [Bug(**BUG | {"before": "x = 3"})])
    with pytest.raises(UsageError, match=r"does not fit 02_small\.py: .* stand 0 times in it"):
        hunt()


def test_those_not_found_yet_come_first(monkeypatch):
    bugs = [Bug(**BUG | {"id": name}) for name in "abc"]
    met = set()
    for _ in range(3):
        bug = progress.change(lambda record: hunts.take_up(record, "x", bugs, 5))
        assert progress.change(lambda record: hunts.take_up(record, "x", bugs, 5)) is bug
        progress.note_hunt("x", bug.id, True, 1)
        met.add(bug.id)
    assert met == {"a", "b", "c"}


def test_a_number_that_cannot_be_measured_is_one_line(monkeypatch):
    class Failing(Numbers):
        def __init__(self, jobs):
            pass

        def __exit__(self, *_):
            pass

        def of(self, key):
            return Computed(error="it broke")

    monkeypatch.setattr(hunts, "Numbers", Failing)
    script = next(iter(HUNTED.values()))
    with pytest.raises(UsageError, match="cannot be measured here: it broke"):
        hunts.measured(script, hunts_planted.of_script(script)[0], "")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("number = 'x'", "number = '= ='", "line 6: 'number' is no Python"),
        ("after = 'b'", "after = 'a'", "line 5: 'before' and 'after' are the same"),
        ("hints = ['h', 'i']", "hints = ['h']", "line 9: 'hints' has 1 entries; at least 2 are wanted"),
        ("id = 'a'\n", "", "line 1: it lacks the field 'id'"),
        ("id = 'a'", "di = 'a'", "line 2: there is no field 'di' here"),
        ("id = 'a'", "id = 'a", "line 2: this is no TOML"),
    ],
)
def test_what_is_wrong_in_a_file_is_named_with_its_line(tmp_path, old, new, said):
    lines = ["[[bug]]", "id = 'a'", "function = ['f']", "before = 'a'", "after = 'b'", "number = 'x'"]
    lines += ["shows = 's'", "why_it_hides = 'w'", "hints = ['h', 'i']"]
    path = tmp_path / "02_small.toml"
    path.write_text("\n".join(lines).replace(old, new), encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        hunts_planted.read(path)
    assert said in str(caught.value)


def test_the_list_tells_what_is_found(hunt):
    script = scripts.Script(workspace_dir().parent / "02_small.py")
    assert re.search(r"02_small +1 +0", "\n".join(hunts.listed([script], "course.py")))
    progress.note_hunt("02_small", "minus", True, 1)
    assert re.search(r"02_small +1 +1", "\n".join(hunts.listed([script], "course.py")))
