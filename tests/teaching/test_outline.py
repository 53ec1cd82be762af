"""What a lesson's definitions need of each other."""

from snn_course.teaching.outline import Outline

SOURCE = """
Pair = tuple[int, int]
LIMIT = 3


def train(x):
    return x


def first(x):
    return x


class Digits:
    limit = LIMIT

    def read(self, first: Pair) -> Pair:
        return first


def loss(x, train, *, size=LIMIT):
    first = x
    return [first for train in range(size)]


def whole(x):
    def inner():
        return first(x)

    return inner()


def main(config, run):
    train = Digits()
    loss(1, train)
    whole(train)
"""


def test_a_local_variable_that_is_called_like_a_function_is_no_use_of_it():
    outline = Outline(SOURCE)
    assert outline.used_by(["loss"]) == ["LIMIT"]
    assert outline.used_by(["Digits"]) == ["Pair", "LIMIT"]
    assert outline.used_by(["whole"]) == ["first"]
    assert outline.reached(["loss"]) == {"loss", "LIMIT"}


def test_chapters_are_those_that_main_calls_and_that_need_a_name():
    outline = Outline(SOURCE)
    assert outline.called == ["Digits", "loss", "whole"]
    assert outline.chapters(["first"]) == ["whole"]
    assert outline.chapters(["train"]) == []
    assert outline.fields_of("Digits") == []
