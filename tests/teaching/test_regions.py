"""Regions of a lesson: found by their marks, named by the function around them, exchanged without a trace."""

from snn_course.teaching import composed, regions

import pytest

LESSON = '''"""A lesson."""


def add(a, b):
    """Add."""
    # exercise: the sum
    total = a + b
    # end
    return total


class Counter:
    def __init__(self):
        self.count = 0

    def up(self):
        for _ in range(1):
            # exercise: one more
            self.count += 1
            # end


text = """
    # exercise: this is a text, and no mark of Python's own is looked for in it
"""
'''


def whole(source):
    """Leave the text at the end away, whose line looks like a mark."""
    return source[: source.index("text = ")]


def test_a_region_knows_its_function_and_its_lines():
    first, second = regions.find(whole(LESSON))
    assert (first.words, first.within, first.code) == ("the sum", "add", "total = a + b\n")
    assert (second.name, second.within, second.indent) == ("Counter", "Counter.up", " " * 12)
    assert LESSON.splitlines()[first.first - 1].strip() == "# exercise: the sum"
    assert LESSON.splitlines()[first.last - 1].strip() == "# end"


def test_other_lines_take_its_place_with_its_indent():
    changed = regions.replaced(whole(LESSON), {2: "self.count += 2\nself.count -= 0"})
    assert "            self.count += 2\n            self.count -= 0\n" in changed
    assert "exercise: the sum" in changed
    assert "exercise: one more" not in changed
    names = {}
    exec(changed, names)
    counter = names["Counter"]()
    counter.up()
    assert counter.count == 2


def test_a_text_is_exchanged_within_its_definition_only():
    source = whole(LESSON) + "def other(a, b):\n    return a + b\n"
    changed = regions.swapped(source, regions.find(source)[0], "a + b", "a - b")
    assert "total = a - b" in changed
    assert "return a + b" in changed


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def f():\n    # exercise: a\n    pass\n", "line 2: this region has no end"),
        (
            "def f():\n    # exercise: a\n    # exercise: b\n    # end\n    pass\n",
            "line 3: a region begins within",
        ),
        ("# exercise: a\nx = 1\n# end\n", "line 1: this region is in no function"),
    ],
)
def test_a_wrong_mark_is_named_by_its_line(source, message):
    with pytest.raises(regions.RegionError, match=message):
        regions.find(source)


def test_every_lesson_has_sound_marks(script):
    from snn_course.runs import scripts
    from snn_course import ROOT

    for one in scripts.find(ROOT):
        regions.find(one.path.read_text(encoding="utf-8"))


def test_a_file_that_begins_with_a_byte_order_mark_is_read(tmp_path):
    file = tmp_path / "own.py"
    file.write_text("def one():\n    return 1\n", encoding="utf-8-sig")  # as some editors of Windows store it
    assert composed.definitions({"one": 1, "other": 2}, file) == {"one": 1}
