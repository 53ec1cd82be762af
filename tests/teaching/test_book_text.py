"""Scripts as prose and code: cells, formulas, headings, pieces of code."""

import itertools
import re

from snn_course.runs import scripts
from snn_course import ROOT
from snn_course.teaching import regions
from snn_course.teaching.book import cells, listing, prose

import pytest

SCRIPT = '''"""Lesson 77: a test of cells.

Question: Does it work, and
          on two lines?
Run:      python lessons/77_test.py
          --fast   in a hurry

What stands below the card is *prose*.
"""

import sys

# %% [markdown]
# Before.
#
# ## 1. First
#
# Text with `code`.

# %%
def first(x):
    return x


def draw_first(x):
    return x


# %% [markdown]
# ## Going deeper
# More.

# %%
def main():
    first(1)
'''
ALL = [script.path for script in scripts.find(ROOT)]


def test_a_script_is_a_card_and_cells():
    text = cells.read(SCRIPT)
    assert text.card.title == "a test of cells"
    assert text.card.fields == {
        "Question": "Does it work, and on two lines?",
        "Run": "python lessons/77_test.py\n--fast   in a hurry",
    }
    assert text.card.prose == "What stands below the card is *prose*."
    assert [cell.kind for cell in text.cells] == ["code", "prose", "prose", "code", "prose", "code"]
    assert text.cells[1].text == "Before."
    assert text.cells[2].text == "## 1. First\n\nText with `code`."
    lines = SCRIPT.splitlines()
    for cell in text.cells:
        assert lines[cell.line - 1].removeprefix("# ") == cell.text.splitlines()[0]


def test_a_script_without_cells_is_cut_at_its_ruled_headings():
    text = cells.read('"""Lesson 77: old."""\n\nimport os\n\n# ========== model of it\n\nx = 1\n')
    assert [cell.text for cell in text.cells] == ["import os", "## Model of it", "x = 1"]


@pytest.mark.parametrize(
    "source", ["def (:\n", "x = '\0'", '"""a\n', "# %% [markdown]\n# Text.\n# %%\nif:\n"]
)
def test_a_script_in_the_middle_of_an_edit_is_shown_as_far_as_it_goes(source):
    text = cells.read(source)
    assert "syntax error" in text.problem
    assert text.cells
    for cell in text.cells:
        assert listing.pieces(cell, []) or cell.kind == "prose"


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_each_line_of_a_script_is_in_the_book_once(path):
    """Nothing of a script is lost on its page, but empty lines, marks and rules."""
    source = path.read_text("utf-8")
    shown = {}
    for cell in cells.read(source).cells:
        parts = listing.pieces(cell, ["main"]) if cell.kind == "code" else [cell]
        for part in parts:
            text = part.source if cell.kind == "code" else part.text
            for number, line in enumerate(text.splitlines(), part.line):
                assert number not in shown
                shown[number] = line
    lines = source.splitlines()
    begin = source[: source.index('"""', 3) + 3].count("\n") + 1
    for number, line in enumerate(lines[begin:], begin + 1):
        if line.strip() not in ("", "#") and not re.match(r"# (%%|={10})", line):
            assert shown[number] in (line, line.removeprefix("# "))


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_every_formula_is_drawn(path):
    text = cells.read(path.read_text("utf-8"))
    writer = prose.Writer()
    for markdown in [text.card.prose, *(cell.text for cell in text.cells if cell.kind == "prose")]:
        page = writer.html(markdown)
        assert "undrawn" not in page, markdown
        assert "$" not in re.sub(r"<code.*?</code>", "", page, flags=re.DOTALL), markdown
    anchors = [heading.anchor for heading in writer.headings]
    assert len(set(anchors)) == len(anchors)


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_no_number_at_the_beginning_of_a_line_makes_a_list_of_a_sentence(path):
    """A list begins after an empty line. Within a sentence, "1. " is a number before a full stop."""
    for cell in cells.read(path.read_text("utf-8")).cells:
        lines = cell.text.splitlines() if cell.kind == "prose" else []
        for before, line in itertools.pairwise(lines):
            begins = re.match(r"\d+\. |[-*+] ", line)
            assert not begins or before == "" or re.match(r"\d+\. |[-*+] |  ", before), line


def test_formulas_become_mathml_and_a_broken_one_is_shown_as_written():
    page = prose.Writer().html(r"The share $\beta^2$ and" + "\n\n$$x = \\frac{1}{2} .$$\n")
    assert page.count("<math") == 2
    assert 'display="inline"' in page
    assert "<mfrac>" in page
    assert prose.formula(r"\left( x < 1", block=False) == '<code class="undrawn">\\left( x &lt; 1</code>'
    for words in (r"\text{<b>}", r"\text{<b></b>}", r"\text{a & b}"):
        assert "undrawn" in prose.formula(words, block=True)


def test_text_is_shown_as_text():
    page = prose.Writer().html("a <b>bold</b> < c & d\n\n## A <i>head</i>")
    assert "<b>" not in page
    assert "<i>" not in page
    assert "&lt; c &amp; d" in page


def test_headings_of_one_name_have_anchors_of_their_own():
    writer = prose.Writer()
    writer.html("## Catch\n\n## Catch\n\n## $x$ ?")
    assert [heading.anchor for heading in writer.headings] == ["catch", "catch-2", "x"]


def test_code_is_cut_after_the_functions_that_have_results():
    source = (
        "import os\n\nX = 1\n\n\n# About it.\ndef one():\n    pass\n\n\ndef two():\n    pass\n\n\n"
        "def draw_it():\n    pass\n\n\ndef main():\n    pass\n"
    )
    found = listing.pieces(cells.Cell("code", source, 10), ["one", "draw_it"])
    assert [(piece.kind, piece.function, piece.line, piece.last_line) for piece in found] == [
        ("imports", "", 10, 10),
        ("code", "one", 12, 17),
        ("code", "", 20, 21),
        ("drawing", "draw_it", 24, 25),
        ("main", "", 28, 29),
    ]


def test_the_lines_that_a_learner_writes_are_found_and_marked():
    source = "def f(x):\n    # exercise: add one\n    y = x + 1\n    # end\n    return y\n"
    (task,) = regions.find(source)
    assert (task.words, task.first, task.last) == ("add one", 2, 4)
    page = listing.html(listing.Piece("code", source.rstrip(), 1), [task])
    assert page.count('<span class="own">') == 3
    assert len(re.sub(r"<[^>]*>", "", page).splitlines()) == 5
