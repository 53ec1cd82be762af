"""What the learner has done, in progress.json: read, changed under a lock, and never lost."""

import json
import subprocess
import sys
from datetime import date, timedelta

from snn_course import ROOT, UsageError, progress_file
from snn_course.teaching import progress

import pytest

STEM = "07_surrogate_gradients"


def test_at_first_there_is_nothing_and_no_file_is_made():
    assert progress.read() == {"scripts": {}}
    assert not progress_file().exists()
    progress_file().write_text("", encoding="utf-8")
    assert progress.read() == {"scripts": {}}


def test_what_is_noted_is_read_back():
    progress.note_check(STEM, False)
    assert not progress.has_passed_check(progress.read(), STEM)
    progress.note_check(STEM, True, "2026-11-29T10:00:00+00:00")
    progress.note_check(STEM, False)  # an experiment afterwards takes nothing away
    progress.note_quiz(STEM, 0.55, "marginal", ["dead", "ste"])
    progress.note_quiz(STEM, 0.8, "pass", [])
    progress.note_hunt(STEM, "reset", False, 3)
    progress.note_hunt(STEM, "sign", True, 1)
    progress.note_hunt(STEM, "sign", False, 5)
    record = progress.read()
    check = {"passed": True, "when": "2026-11-29T10:00:00+00:00", "tries": 3}
    assert record["scripts"][STEM]["check"] == check
    assert progress.best_score(record, STEM) == 0.8
    assert progress.best_score(record, "01_lif_neuron") is None
    assert progress.has_passed_quiz(record, STEM)
    assert progress.found_bugs(record, STEM) == {"sign"}


def test_the_seed_is_drawn_once():
    assert progress.seed() == progress.seed() > 0


def test_what_this_version_does_not_know_stays():
    progress_file().write_text('{"scripts": {"x": {"later": [1]}}, "name": "Ä"}', encoding="utf-8")
    progress.note_check(STEM, True)
    record = json.loads(progress_file().read_text(encoding="utf-8"))
    assert record["scripts"]["x"] == {"later": [1]}
    assert record["name"] == "Ä"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{\n"seed": 3,\n"scripts": }', "line 3 is no JSON"),
        (b"[" * 100_000, "is no JSON"),
        (b"\xff\xfe{", "it is not UTF-8"),
        (b"[]", "has not the shape"),
        (b'{"scripts": []}', "has not the shape"),
        (b'{"scripts": {"x": {"quiz": {"sittings": [3]}}}}', "has not the shape"),
        (b'{"scripts": {"x": {"hunts": {"y": 3}}}}', "has not the shape"),
        (b'{"seed": "a"}', "has not the shape"),
        (b'{"scripts": {"x": {"quiz": {"sittings": [{"score": "all"}]}}}}', "has not the shape"),
        (b'{"scripts": {"x": {"quiz": {"questions": {"q": {"asked": "no"}}}}}}', "has not the shape"),
        (b'{"scripts": {"x": {"check": {"tries": null}}}}', "has not the shape"),
    ],
)
def test_a_damaged_file_is_named_and_left_as_it_is(content, said):
    progress_file().write_bytes(content)
    for action in (progress.read, lambda: progress.note_check(STEM, True)):
        with pytest.raises(UsageError, match=said) as caught:
            action()
        assert str(progress_file()) in str(caught.value)
    assert progress_file().read_bytes() == content


def test_a_folder_in_its_place_is_one_line():
    progress_file().mkdir()
    with pytest.raises(UsageError, match="a folder stands in its place"):
        progress.read()


def test_many_terminals_lose_nothing():
    code = (
        "from snn_course.teaching import progress\n"
        "import sys\n"
        "for n in range(10): progress.note_hunt('x', f'{sys.argv[1]}-{n}', True, 1)"
    )
    started = [subprocess.Popen([sys.executable, "-c", code, str(n)], cwd=ROOT) for n in range(4)]
    assert [process.wait(60) for process in started] == [0, 0, 0, 0]
    assert len(progress.found_bugs(progress.read(), "x")) == 40


def asked(points, review=False):
    progress.change(lambda record: progress.note_question(record, STEM, "q", points, review))
    return progress.read()["scripts"][STEM]["quiz"]["questions"]["q"].get("due")


def test_what_was_missed_comes_again_after_1_3_7_and_21_days(monkeypatch):
    day = date(2026, 11, 29)
    monkeypatch.setattr(progress, "today", lambda: day)
    assert asked(1.0) is None  # never missed: it does not come again
    for days in (1, 3, 7, 21):
        wanted = (day + timedelta(days=days)).isoformat()
        assert asked(0.5 if days == 1 else 1.0, review=days > 1) == wanted
        assert progress.due(progress.read(), day) == []
        assert progress.next_due(progress.read()) == wanted
        day += timedelta(days=days)
        assert progress.due(progress.read(), day) == [(wanted, STEM, "q")]
    assert asked(0.0, review=True) == (day + timedelta(days=1)).isoformat()  # forgotten: from the start
    for _ in range(4):
        last = asked(1.0, review=True)
    assert last is None  # learnt
