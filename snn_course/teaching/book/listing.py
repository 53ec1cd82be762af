"""Code to HTML, in pieces, so that results can stand right below the function that made them."""

import ast
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from snn_course.teaching.book.cells import Cell

import pygments
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

Kind = Literal["code", "imports", "drawing", "main"]
_TASK = re.compile(r"\s*# exercise: (?P<task>.+)")
_TASK_ENDS = re.compile(r"\s*# end\b.*")


@dataclass(frozen=True)
class Piece:
    """Code that is shown in one block."""

    kind: Kind
    """Imports, and functions that only draw, are folded: a reader seldom wants them."""
    source: str
    line: int
    """Number of its first line in the script."""
    function: str = ""
    """The function that ends it, when results belong below it."""

    @property
    def last_line(self) -> int:
        """Number of its last line in the script."""
        return self.line + self.source.count("\n")


@dataclass(frozen=True)
class Task:
    """Lines that a learner writes in the exercise of a lesson."""

    words: str
    line: int
    last_line: int


def pieces(cell: Cell, cut_after: Iterable[str]) -> list[Piece]:
    """Cut a cell of code into pieces: after each function named in ``cut_after``, and where a kind changes.

    A cell that cannot be parsed is one piece.
    """
    lines = cell.text.splitlines()
    try:
        nodes = ast.parse(cell.text).body
    except (SyntaxError, ValueError):
        return [Piece("code", cell.text, cell.line)]
    found: list[Piece] = []
    begin = 0
    for place, node in enumerate(nodes):
        end = node.end_lineno or 0
        following = nodes[place + 1] if place + 1 < len(nodes) else None
        name = node.name if isinstance(node, ast.FunctionDef) and node.name in set(cut_after) else ""
        last = following is None or kind_of(following) != kind_of(node)
        if name or last:
            end = len(lines) if following is None else end
            found += _piece(kind_of(node), lines[begin:end], cell.line + begin, name)
            begin = end
    found += _piece("code", lines[begin:], cell.line + begin, "")  # comments alone
    return found


def kind_of(node: ast.stmt) -> Kind:
    """Tell what a statement is for."""
    if isinstance(node, ast.Import | ast.ImportFrom) or _is_path(node):
        return "imports"
    if isinstance(node, ast.FunctionDef) and node.name.startswith("draw_"):
        return "drawing"
    if (isinstance(node, ast.FunctionDef) and node.name == "main") or isinstance(node, ast.If):
        return "main"
    return "code"


def _is_path(node: ast.stmt) -> bool:
    """Tell whether a statement is the ``sys.path.insert(...)`` among the imports."""
    return isinstance(node, ast.Expr) and ast.unparse(node).startswith("sys.path.")


def _piece(kind: Kind, lines: list[str], line: int, function: str) -> list[Piece]:
    while lines and not lines[0].strip():
        lines, line = lines[1:], line + 1
    text = "\n".join(lines).rstrip()
    return [Piece(kind, text, line, function)] if text else []


def tasks(source: str) -> list[Task]:
    """Find the parts of a script that its exercise leaves to the learner."""
    found = []
    words, begin = "", 0
    for number, line in enumerate(source.splitlines(), 1):
        opens = _TASK.fullmatch(line)
        if opens:
            words, begin = opens["task"], number
        elif begin and _TASK_ENDS.fullmatch(line):
            found.append(Task(words, begin, number))
            begin = 0
    return found


def html(piece: Piece, own: Iterable[Task] = ()) -> str:
    """Highlight a piece; the lines that a learner writes are marked."""
    text = pygments.highlight(
        piece.source + "\n", PythonLexer(stripnl=False), HtmlFormatter(nowrap=True, classprefix="py-")
    )
    marked = set()
    for task in own:
        marked |= set(range(task.line, task.last_line + 1))
    rows = []
    for number, row in enumerate(text.rstrip("\n").split("\n"), piece.line):
        rows.append(f'<span class="own">{row}\n</span>' if number in marked else f"{row}\n")
    return "".join(rows)
