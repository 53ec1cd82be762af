"""A script as a reader sees it: the card at its top, then cells of prose and cells of code.

Scripts are in the percent format of VS Code and Jupytext: ``# %% [markdown]`` begins prose, ``# %%`` code.
A script without such marks is one cell of code, cut at its ruled headings (``# ===== model``).
Nothing is imported or run.
"""

import ast
import inspect
import re
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

_CELL = re.compile(r"# %%(?P<kind>.*)")
_RULED = re.compile(r"# ={10,} (?P<title>\S.*)")
_FIELD = re.compile(r"(?P<name>[A-Z]\w+): +(?P<text>.*)")


@dataclass(frozen=True)
class Cell:
    """A piece of a script."""

    kind: Literal["prose", "code"]
    text: str
    """Markdown, or source."""
    line: int
    """Number of its first line in the script, from 1."""


@dataclass
class Card:
    """What the docstring at the top of a script says."""

    title: str = ""
    fields: dict[str, str] = field(default_factory=dict)
    """Question, Reading, Run and Expect, each as one line; Run with a further line for each option."""
    prose: str = ""
    """All that stands below, as Markdown."""


@dataclass
class Text:
    """A whole script."""

    card: Card
    cells: list[Cell]
    problem: str = ""
    """Why it cannot run, as one line: a learner is in the middle of an edit."""


def read(source: str) -> Text:
    """Take a script apart."""
    lines = source.splitlines()
    problem, card, after = "", Card(), 0
    try:
        card, after = _card(ast.parse(source))
    except (SyntaxError, ValueError) as error:
        place = f", line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        problem = f"This script has a syntax error{place}."
    return Text(card, _cells(lines, after), problem)


def _card(tree: ast.Module) -> tuple[Card, int]:
    """Read the docstring. Returns: what it says, and the number of its last line."""
    first = tree.body[0] if tree.body else None
    doc = ast.get_docstring(tree, clean=False)
    if first is None or doc is None:
        return Card(), 0
    title, *paragraphs = re.split(r"\n\s*\n", inspect.cleandoc(doc))
    title, _, more = title.partition("\n")
    card = Card(title.split(": ", 1)[-1].rstrip("."))
    prose = [more] if more else []
    for paragraph in paragraphs:
        fields = _fields(paragraph)
        card.fields.update(fields)
        if not fields:
            prose.append(_laid_out(paragraph))
    card.prose = "\n\n".join(prose)
    return card, first.end_lineno or 0


def _laid_out(paragraph: str) -> str:
    """Make a paragraph that is indented, such as a list of commands, a block of code of Markdown's."""
    lines = paragraph.splitlines()
    return "\n".join(f"    {line}" for line in lines) if all(line[:1] == " " for line in lines) else paragraph


def _fields(paragraph: str) -> dict[str, str]:
    """Read the lines "Name: text", each with its continuing lines; nothing where another line begins."""
    fields: dict[str, str] = {}
    name = ""
    for line in paragraph.splitlines():
        begins = _FIELD.fullmatch(line)
        if begins:
            name = begins["name"]
            fields[name] = begins["text"].strip()
        elif name and line.startswith(" "):
            fields[name] += ("\n" if name == "Run" else " ") + line.strip()  # options have a line each
        else:
            return {}
    return fields


def _cells(lines: list[str], after: int) -> list[Cell]:
    """Cut the lines below the docstring into cells."""
    cells: list[Cell] = []
    kind: Literal["prose", "code"] = "code"
    begin = after

    def close(end: int) -> None:
        cells.extend(_cell(kind, lines[begin:end], begin + 1))

    for number, line in enumerate(lines[after:], after):
        mark, ruled = _CELL.fullmatch(line), _RULED.fullmatch(line)
        if mark is None and ruled is None:
            continue
        close(number)
        begin = number + 1
        if mark is not None:
            kind = "prose" if "[markdown]" in mark["kind"] or "[md]" in mark["kind"] else "code"
        elif ruled is not None:
            kind = "code"
            title = ruled["title"]
            cells.append(Cell("prose", f"## {title[:1].upper()}{title[1:]}", number + 1))
    close(len(lines))
    return cells


def _cell(kind: Literal["prose", "code"], lines: list[str], line: int) -> list[Cell]:
    """Make a cell without the empty lines around it; none of no lines."""
    while lines and not lines[0].strip():
        lines, line = lines[1:], line + 1
    while lines and not lines[-1].strip():
        lines = lines[:-1]
    if kind == "prose":
        return [
            Cell("prose", text, line + begin) for begin, text in _by_heading([_bare(line) for line in lines])
        ]
    return [Cell("code", "\n".join(lines), line)] if lines else []


def _bare(line: str) -> str:
    """Take the comment sign off a line of prose."""
    return re.sub(r"^# ?", "", line)


def _by_heading(lines: list[str]) -> list[tuple[int, str]]:
    """Cut prose where a chapter begins. Returns: for each part the place of its first line, and its text."""
    heads = [number for number, line in enumerate(lines) if line.startswith("## ")]
    bounds = sorted({0, *heads, len(lines)})
    parts = []
    for begin, end in pairwise(bounds):
        parts.append((begin, "\n".join(lines[begin:end]).rstrip()))
    return parts
