"""No figure of the course has a title that was written before anything was measured."""

import ast
from pathlib import Path

from snn_course import ROOT

import pytest

DRAWING = [
    path
    for path in sorted(
        [
            *ROOT.glob("*.py"),
            *ROOT.glob("lessons/*.py"),
            *ROOT.glob("solutions/*.py"),
            *ROOT.glob("snn_course/**/*.py"),
        ]
    )
    if "figures.new(" in path.read_text(encoding="utf-8")
]


def literal(value: ast.expr, known: dict[str, ast.expr]) -> str:
    """Give the text of a title that is typed as it stands, also by way of a variable; else nothing."""
    if isinstance(value, ast.Name):
        value = known.get(value.id, value)
    return value.value if isinstance(value, ast.Constant) and isinstance(value.value, str) else ""


@pytest.mark.parametrize("path", DRAWING, ids=lambda path: path.stem)
def test_titles_are_computed(path: Path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
        known: dict[str, ast.expr] = {}
        for node in ast.walk(function):
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                known[node.targets[0].id] = node.value
        for node in ast.walk(function):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "figures.new":
                assert literal(node.args[0], known) == "", f"{path.name}, line {node.lineno}"
