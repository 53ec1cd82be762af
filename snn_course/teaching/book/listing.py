"""Code to HTML, in pieces, so that results can stand right below the function that made them."""

import ast
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from snn_course.teaching.book.cells import Cell
from snn_course.teaching.regions import Region

import pygments
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

Kind = Literal["code", "imports", "drawing", "main"]


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


def html(piece: Piece, own: Iterable[Region] = ()) -> str:
    """Highlight a piece; the lines that a learner writes are marked."""
    text = pygments.highlight(
        piece.source + "\n", PythonLexer(stripnl=False), HtmlFormatter(nowrap=True, classprefix="py-")
    )
    marked: set[int] = set()
    for region in own:
        marked |= set(range(region.first, region.last + 1))
    rows = []
    for number, row in enumerate(text.rstrip("\n").split("\n"), piece.line):
        rows.append(f'<span class="own">{row}\n</span>' if number in marked else f"{row}\n")
    return "".join(rows)
