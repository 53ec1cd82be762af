"""A check from start to end: own solutions pass, untouched files say what to do first."""

import shutil

from snn_course import ROOT, UsageError, journal_file, safe_write
from snn_course.teaching import check, exercises, hints, progress, workspace

import pytest

NAMES = [path.stem for path in sorted((ROOT / "exercises").glob("*.toml"))]
SLOW = [pytest.param(name, marks=[] if name.startswith("01") else pytest.mark.slow) for name in NAMES]


def checked(script):
    passed, lines = check.check(script, "python3 course.py")
    return passed, "\n".join(lines)


def put(script, old="", new=""):
    """Make the lesson itself the learner's file, with something wrong in it."""
    path = workspace.path_for(script)
    path.parent.mkdir(parents=True, exist_ok=True)
    source = script.path.read_text(encoding="utf-8")
    assert source.count(old) == 1 or not old
    path.write_text(source.replace(old, new, 1) if old else source, encoding="utf-8")


@pytest.mark.parametrize("name", SLOW)
def test_the_own_solution_passes(script, name):
    put(script(name))
    passed, said = checked(script(name))
    assert passed, said
    assert "All holds." in said
    assert progress.has_passed_check(progress.read(), name)
    assert "**My own solution**" in journal_file().read_text(encoding="utf-8")
    assert "passed. " in journal_file().read_text(encoding="utf-8")


@pytest.mark.parametrize("name", SLOW)
def test_the_untouched_file_fails_and_says_what_to_do_first(script, name):
    one = script(name)
    list(workspace.start(one, False, "python3 course.py"))
    passed, said = checked(one)
    assert not passed
    assert said.count("not written yet") == len(exercises.load(one).tasks)
    assert "Write task 1 first: " in said
    assert f"python3 course.py hint {one.label} helps with task 1." in said
    assert not progress.has_passed_check(progress.read(), name)


def test_a_mistake_gets_its_name_its_line_is_79_columns_and_the_first_hint_is_told(script):
    one = script("01")
    put(one, "mem = beta * mem + cur - fired * threshold", "mem = beta * (mem + cur) - fired * threshold")
    passed, said = checked(one)
    assert not passed
    assert "Task 2 of 3, resets: does not hold" in said
    task = exercises.load(one).task("resets")
    assert task.hints[0].split()[-1] in said
    path = workspace.shown(workspace.path_for(one))
    assert max(len(line.replace(path, "")) for line in said.splitlines()) <= 79
    assert hints.told(progress.read(), exercises.load(one), task) == 1
    told = "\n".join(hints.following(one, "", "python3 course.py"))
    assert told.count("The place:") == 1
    assert "- resets: " in journal_file().read_text(encoding="utf-8")


def test_nothing_is_said_twice_in_the_journal(script):
    put(script("01"), "math.log(beta)\n    # end", "1\n    # end")
    checked(script("01"))
    before = journal_file().stat().st_mtime_ns
    checked(script("01"))
    assert journal_file().stat().st_mtime_ns == before


def test_a_full_disk_does_not_hide_what_was_found(script, monkeypatch):
    def full(path, content):
        raise UsageError(f"Cannot write {path}: the disk is full; make room.")

    put(script("01"), "math.log(beta)\n    # end", "1\n    # end")
    with monkeypatch.context() as patch:
        patch.setattr(safe_write, "write", full)
        passed, said = checked(script("01"))
        assert not passed
        assert "Task 3 of 3, closed form: does not hold" in said
        assert "This check could not be noted: Cannot write " in said
        assert " full; make" in " ".join(said.split())
    assert not progress.read()["scripts"]
    _, said = checked(script("01"))
    assert "could not be noted" not in said
    assert "- closed form: " in journal_file().read_text(encoding="utf-8")


def test_what_the_journal_refused_is_written_the_next_time(script, monkeypatch):
    put(script("01"), "math.log(beta)\n    # end", "1\n    # end")
    monkeypatch.setenv("SNN_JOURNAL", str(workspace.path_for(script("01")).parent))
    _, said = checked(script("01"))
    assert "This check could not be noted: cannot write the journal" in said
    monkeypatch.setenv("SNN_JOURNAL", str(workspace.path_for(script("01")).with_name("journal.md")))
    checked(script("01"))
    assert "- closed form: " in journal_file().read_text(encoding="utf-8")


def test_without_room_for_a_check_it_is_not_begun(script, monkeypatch):
    put(script("01"))
    room = shutil.disk_usage("/")._replace(free=5_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: room)
    with pytest.raises(UsageError, match=r" has 5 MB left, and a check needs 20: make room there"):
        checked(script("01"))


def test_an_error_in_the_lesson_names_the_line_that_could_not_use_what_a_task_gave(script):
    own = "    spk = (mem > threshold).to(mem.dtype)\n    # end"
    put(script("01"), own, own.replace(" # end", " spk = spk[:50] if len(spk) == 100 else spk\n    # end"))
    passed, said = checked(script("01"))
    said = " ".join(said.split())
    assert not passed
    assert said.count(": holds") == 3
    assert "equal_to_snntorch: It ends with RuntimeError: " in said
    number = int(said.split("In line ")[1].split()[0])
    line = script("01").path.read_text(encoding="utf-8").splitlines()[number - 1]
    assert f"In line {number} of the lesson: {line.strip()}" in said


def test_without_a_file_the_command_that_writes_it_is_named(script):
    with pytest.raises(UsageError, match="start 01' writes it"):
        checked(script("01"))


def test_a_folder_in_the_place_of_the_file_is_called_one(script):
    workspace.path_for(script("01")).mkdir(parents=True)
    with pytest.raises(UsageError, match=r"is a folder: .*--again. puts it aside"):
        checked(script("01"))
    list(workspace.start(script("01"), True, "python3 course.py"))
    assert workspace.path_for(script("01")).is_file()
