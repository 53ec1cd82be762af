"""Hints come one after the other, also after a pass; a task may be chosen."""

from snn_course import UsageError
from snn_course.teaching import exercises, hints, progress

import pytest


def told(script, task=""):
    return "\n".join(hints.following(script, task, "python3 course.py"))


def test_a_question_then_the_place_then_the_idea(script):
    one = script("01")
    assert "A question: " in told(one)
    assert "The place: " in told(one)
    assert "The idea: " in told(one)


def test_then_the_next_task_and_all_of_one_that_is_told(script):
    one = script("01")
    for _ in range(3):
        told(one)
    assert told(one).startswith("Task 2 of 3, resets")
    assert "All three hints were told" in told(one, "1")
    assert told(one, "closed form").startswith("Task 3 of 3")


def test_the_open_task_comes_first_until_all_hold(script):
    wanted = exercises.load(script("01"))
    hints.open_task(wanted, wanted.tasks[1])
    assert told(script("01")).startswith("Task 2 of 3")
    hints.close(wanted)
    assert told(script("01")).startswith("All tasks held at the last check")


def test_when_all_tasks_held_a_hint_is_told_only_on_one_that_is_named(script):
    one = script("01")
    wanted = exercises.load(one)
    hints.close(wanted)
    said = told(one)
    assert "python3 course.py hint 01 2    resets" in said
    assert "A question" not in said
    assert "A question: " in told(one, "2")
    hints.open_task(wanted, wanted.tasks[2], at_least=1)
    assert "The place: " in told(one)
    assert told(one).startswith("Task 3 of 3")


def test_a_wrong_task_is_one_line(script):
    with pytest.raises(UsageError, match="no task '7' in 01_lif_neuron; there are: loop, resets"):
        told(script("01"), "7")


def test_what_another_part_recorded_stays(script):
    progress.note_quiz("01_lif_neuron", 0.9, "pass", [])
    told(script("01"))
    assert progress.has_passed_quiz(progress.read(), "01_lif_neuron")
