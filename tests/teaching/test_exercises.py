"""What ``exercises/`` says: each wrong entry is named by file and line."""

import re

from snn_course.runs import scripts
from snn_course import ROOT, UsageError
from snn_course.teaching import exercises, questions, regions

import pytest

TASK = """
[[task]]
id = "loop"
words = "Write a loop."
hints = ["a question", "a place", "an idea"]

[[task]]
id = "resets"
words = "Write resets."
hints = ["a question", "a place", "an idea"]

[[task]]
id = "form"
words = "Write it."
hints = ["a question", "a place", "an idea"]
"""
MISTAKE = """
[[mistake]]
name = "missing reset"
task = "resets"
says = "No reset."
"""


def read(script, text):
    return exercises.read(script("01"), text, "01_lif_neuron.toml")


def test_tasks_and_regions_go_together(script):
    found = read(script, TASK + MISTAKE + 'swap = ["fired * threshold", "0"]')
    assert [task.region.within for task in found.tasks] == ["one_neuron", "lif_step", "steps_to_spike"]
    assert found.names == ["one_neuron", "lif_step", "steps_to_spike"]
    assert found.mistakes[0].swap == ["fired * threshold", "0"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[task]\n", "01_lif_neuron.toml, line 1: this is no TOML"),
        (TASK.replace('id = "form"', 'name = "form"'), "line 13: task 3 has 'name'"),
        (TASK.replace('id = "form"', ""), "line 12: task 3 needs 'id', a text"),
        (TASK.replace('"Write it."', '" "'), "line 14: task 3 needs 'words'"),
        (TASK.replace('["a question", "a place", "an idea"]', '["one"]', 1), "line 5: task 1 needs 3 hints"),
        (TASK.replace('id = "form"', "id = 3"), "line 13: task 3 needs 'id'"),
        (TASK.replace('"form"', '"loop"'), "line 13: task 3 has the id 'loop', which is taken"),
        (TASK + 'exact = "no"', "line 16: task 3 needs 'exact', true or false"),
        (TASK + 'probe = "answer = (1"', "line 16: task 3 has probe that Python cannot read"),
        (TASK + "probe = 1", "line 16: task 3 needs 'probe', a text"),
        (TASK[: TASK.index('[[task]]\nid = "form"')], "has 2 tasks, and 01_lif_neuron.py 3 regions"),
        (TASK + MISTAKE, "line 17: mistake 1 needs one of 'code' and 'swap'"),
        (TASK + MISTAKE + 'code = "a ="', "line 21: mistake 1 has code that Python cannot read"),
        (TASK + MISTAKE + 'swap = ["no such text", ""]', "the first of them once in lif_step"),
        (TASK + MISTAKE.replace('"resets"', '"nothing"'), "line 19: mistake 1 is of task 'nothing'"),
        (TASK + "[goals]\n", r"line 16: the file has 'goals', which is no field; did you mean 'goal'\?"),
        (TASK + "[check]\nchapter = 1\n", r"line 17: \[check\] has 'chapter'"),
        (TASK + "[check]\nchapters = 1\n", r"line 17: \[check\] needs 'chapters', a list"),
        (TASK + '[check]\nchapters = ["one"]\n', "line 17: .* a chapter 'one' that main does not call"),
        (TASK + "[check.settings]\nbeda = 1\n", "line 17: .* sets 'beda', .* did you mean 'beta'"),
        (TASK + '[[goal]]\nmeasure = "a"\nat_least = "b"\n', "line 18: goal 1 needs 'at_least', a number"),
    ],
)
def test_a_wrong_entry_is_named_by_its_line(script, text, message):
    with pytest.raises(UsageError, match=message):
        read(script, text)


def test_each_misspelt_field_of_a_real_file_is_named_with_its_line(script):
    name = "01_lif_neuron"
    lines = exercises.path_for(script(name)).read_text(encoding="utf-8").split("\n")
    tried = 0
    for number, line in enumerate(lines, start=1):
        field = re.match(r"(chapters|settings|id|words|hints|probe|name|task|says|code|swap)(?= = )", line)
        if field:
            tried += 1
            wrong = [*lines[: number - 1], line.replace(field[0], field[0] + "y", 1), *lines[number:]]
            with pytest.raises(UsageError) as refused:
                exercises.read(script(name), "\n".join(wrong), f"{name}.toml")
            assert str(refused.value).startswith(f"exercises/{name}.toml, line {number}: ")
            assert f"'{field[0]}y'" in str(refused.value)
    assert tried > 50


def test_a_script_without_an_exercise_says_so(script):
    with pytest.raises(UsageError, match="has no exercise: read it, run it, and go on with its quiz"):
        exercises.load(script("00"))


def test_without_an_exercise_a_quiz_is_named_only_where_there_is_one():
    for one in scripts.find(ROOT):
        if not exercises.path_for(one).is_file():
            with pytest.raises(UsageError) as refused:
                exercises.load(one)
            assert ("quiz" in str(refused.value)) == questions.path_of(one.stem).is_file()


@pytest.mark.parametrize("name", [path.stem for path in sorted((ROOT / "exercises").glob("*.toml"))])
def test_no_hint_and_no_words_give_the_answer(script, name):
    """A line of the answer that is more than a name, as it stands in the lesson, is in no hint."""
    wanted = exercises.load(script(name))
    for task in wanted.tasks:
        lines = [line.split("  #")[0].strip() for line in task.region.code.splitlines()]
        for line in lines:
            if len(line) > 25:
                assert line not in " ".join([task.words, *task.hints])


def test_each_marked_lesson_with_a_file_has_a_task_for_each_region():
    for one in scripts.find(ROOT):
        if exercises.path_for(one).is_file():
            count = len(regions.find(one.path.read_text(encoding="utf-8")))
            assert count == len(exercises.load(one).tasks) > 0
