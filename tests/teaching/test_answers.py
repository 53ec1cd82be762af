"""Answers in a form that can be compared: kinds of numbers, named parts, silence, and the words for them."""

from snn_course.teaching import answers
from snn_course.teaching.answers import difference, is_silent, plain, same

import numpy as np
import pytest
import torch

SPIKES = torch.tensor([0.0, 1.0, 1.0])


@pytest.mark.parametrize("wrong", [SPIKES > 0, SPIKES.int()])
def test_bools_and_whole_numbers_are_no_floats_and_the_message_says_so(wrong):
    assert not same(plain(wrong), plain(SPIKES))
    said = difference(plain(wrong), plain(SPIKES))
    assert said.startswith("The values are right, but they are ")
    assert "Tensor.to" in said


@pytest.mark.parametrize("wrong", [SPIKES < 1, (1 - SPIKES).int()])
def test_a_wrong_value_comes_before_a_wrong_kind(wrong):
    said = difference(plain(wrong), plain(SPIKES))
    assert said == "On a small input it gives 1 at [0] where 0 belongs (3 of 3 numbers differ)."


def test_floats_may_stand_where_the_lesson_has_whole_numbers_and_python_numbers_are_all_alike():
    assert same(plain(SPIKES), plain(SPIKES.long()))
    assert same(plain(SPIKES > 0), plain(SPIKES > 0))
    assert same(plain([7, True]), plain([7.0, 1]))
    assert same(plain(np.float32(0.5)), plain(0.5))


@pytest.mark.parametrize("make", [torch.tensor, np.array, lambda values: values[0]])
def test_the_imaginary_part_counts(make):
    right = plain(make([1 + 2j, 3j]))
    assert same(right, plain(make([1 + 2j, 3j])))
    assert not same(plain(make([1 + 1j, 3j])), right)
    assert "1+2j" in difference(plain(make([1 + 1j, 3j])), right)


def test_a_named_part_is_named():
    right = plain({"trace of pre": SPIKES, "change": torch.ones(2)})
    wrong = plain({"change": torch.ones(2), "trace of pre": SPIKES + 1})
    said = difference(wrong, right)
    assert said == "Trace of pre: on a small input it gives 1 at [0] where 0 belongs (3 of 3 numbers differ)."
    assert difference(plain({"change": torch.ones(2)}), right) == "It does not give 'trace of pre'."
    assert difference(plain({**wrong, **right, "more": 1}), right).endswith("belongs there: more.")


def test_not_one_neuron_fires_only_where_all_are_silent():
    right = plain([SPIKES, {"spikes": SPIKES, "membrane": 0.4 * SPIKES}])
    assert is_silent(plain([0 * SPIKES, {"spikes": 0 * SPIKES, "membrane": 0.4 * SPIKES}]), right)
    assert not is_silent(plain([SPIKES, {"spikes": 0 * SPIKES, "membrane": 0.4 * SPIKES}]), right)
    assert not is_silent(plain([0.4 * SPIKES]), plain([0.4 * SPIKES]))
    assert not is_silent(plain(0 * SPIKES), plain(SPIKES[:2]))


def test_too_few_results_are_counted():
    said = difference(plain([1.0]), plain([1.0, 2.0]))
    assert said == "On a small input it gives 1 result where 2 results belong."
    assert difference(None, plain(1.0)).startswith("It gives nothing back")
    assert difference(answers.Raised(("ValueError", "no")), plain(1.0)) == "It ends with ValueError: no"
