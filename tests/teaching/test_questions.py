"""What is wrong in a bank is named with its file and line."""

import re
from pathlib import Path

from snn_course import ROOT, UsageError
from snn_course.teaching import hunts_planted, questions
from tests.teaching import small_bank

import pytest

GOOD = small_bank.bank(
    small_bank.question("a"), small_bank.question("b", kind="number", rest=small_bank.NUMBER)
)


FIELDS = {"sitting", *questions.ANY_FIELD, *hunts_planted.BUG}


def test_a_good_bank_is_read(tmp_path):
    path = tmp_path / "02_small.toml"
    path.write_text(GOOD, encoding="utf-8")
    bank = questions.read(path)
    assert [question.key for question in bank.questions] == ["02_small/a", "02_small/b"]
    assert bank.by_id["a"].right == ("the right one",)
    assert [question.form for question in bank.questions] == ["choice", "number"]


def line_with(text, words, after=""):
    lines = text.split("\n")
    start = next(n for n, line in enumerate(lines) if after in line)
    return next(n for n, line in enumerate(lines[start:], start + 1) if words in line)


@pytest.mark.parametrize(
    ("old", "new", "said", "at"),
    [
        ('id = "b"', 'id = "b', "this is no TOML", ('id = "b', "")),
        ('id = "b"', 'id = "a"', "the id 'a' is taken already", ('id = "a"', "and then")),
        ('id = "b"', "id = 3", "'id' must be a text, not 3", ("id = 3", "")),
        ('hint = "think of b"', "", "lacks the field 'hint'", ("[[question]]", "and then")),
        ('hint = "think of b"', 'hnit = "x"', "no field 'hnit' here; did you mean 'hint'?", ("hnit", "")),
        (
            'more = "and then?"',
            'more = "x"\nmroe = "y"',
            "no field 'mroe' here; did you mean 'more'?",
            ("mroe", ""),
        ),
        ('kind = "choice"', 'kind = "chioce"', "must be one of choice, several", ("chioce", "")),
        ('topic = "one"', 'topic = "three"', "question 'a': 'three' is none of the topics", ("three", "")),
        ("answer = 2 * width", "answer = = 2", "'code' is no Python", ("code = '''", "")),
        ("answer = 2 * width", "x = 1\n" * 12, "more than 12 lines", ("code = '''", "")),
        (
            "tolerance = 0.1",
            "tolerance = 0.1\nrelative = 1",
            "either 'tolerance' or 'relative'",
            ("number", ""),
        ),
        ("tolerance = 0.1", "tolerance = 0", "'tolerance'", ("tolerance = 0", "")),
        ('"a wrong one"', '"the right one"', "two choices are the same", ("right = ", "")),
        ('text = "a wrong one", ', "", "wrong.0 lacks the field 'text'", ("wrong = [", "")),
        ("sitting = 4", "sitting = 0", "'sitting'", ("sitting", "")),
        ("sitting = 4", "", "lacks the field 'sitting'", ("", "")),
        ('"Topic one"', "1", "'one' must be a text", ("one = 1", "")),
        ('ask = "a?"', 'ask = ""', "'ask' has 0 characters; at least 1", ("ask", "")),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path, old, new, said, at):
    text = GOOD.replace(old, new, 1) if old in GOOD else pytest.fail(old)
    path = tmp_path / "02_small.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        questions.read(path)
    message = str(caught.value)
    assert said in message
    assert message.startswith(f"{tmp_path.name}/02_small.toml, line ")
    number = int(message.split("line ")[1].split(":", maxsplit=1)[0])
    assert number == line_with(text, *at), message


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\xff\xfe\x00", "not saved as UTF-8"),
        (b"", "line 1: it lacks the field 'sitting'"),
        (b"a = [" + b"[" * 100_000, "no TOML"),
        (b"question = 3\nsitting = 1\n[topics]\na = 'x'", "line 1: 'question' must be a list"),
        (b"sitting = 1\nquestion = [3]\n[topics]\na = 'x'", "line 2: 'question.0' must be a table"),
    ],
)
def test_a_file_that_is_no_bank_is_one_line(tmp_path, content, said):
    path = tmp_path / "02_small.toml"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="02_small") as caught:
        questions.read(path)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_folder_in_its_place_is_one_line(tmp_path):
    with pytest.raises(UsageError, match="Cannot read"):
        questions.read(tmp_path)


@pytest.mark.parametrize(
    ("read", "name"),
    [
        (questions.read, "quizzes/07_surrogate_gradients.toml"),
        (hunts_planted.read, "hunts/07_surrogate_gradients.toml"),
    ],
)
def test_each_misspelt_field_of_a_real_file_is_named_with_its_line(tmp_path, read, name):
    """Of the first tables; also a field within a list, such as the ``why`` of a wrong choice."""
    path = tmp_path / Path(name).name
    lines = (ROOT / name).read_text(encoding="utf-8").split("\n")
    tried = 0
    for number, line in enumerate(lines[:60], start=1):
        field = re.match(r"(\w+)(?= = )", line) or re.match(r"    {.*, (why)(?= = )", line)
        if field and (field[1] in FIELDS or field[1] == "why"):
            tried += 1
            wrong = line[: field.start(1)] + f"{field[1]}y" + line[field.end(1) :]
            path.write_text("\n".join([*lines[: number - 1], wrong, *lines[number:]]), encoding="utf-8")
            with pytest.raises(UsageError) as refused:
                read(path)
            message = str(refused.value)
            assert message.startswith(f"{tmp_path.name}/{path.name}, line {number}: "), line
            assert f"'{field[1]}y'" in message
    assert tried > 15
