"""A lesson with some of its definitions exchanged: for those of a learner, or for a known wrong version."""

import ast
import itertools
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from snn_course.runs import lesson
from snn_course.teaching.regions import Definition, tree_of

_numbers = itertools.count(1)


def module(path: Path, source: str, exchanged: Mapping[str, object] | None = None) -> ModuleType:
    """Run a lesson's source as a module of its own, with other objects in the place of definitions.

    They stand where the definitions stood, so that tables and classes below are made with them.
    """
    made = ModuleType(f"snn_lesson_{path.stem}_{next(_numbers)}")
    made.__file__ = str(path)
    made.__dict__["_exchanged"] = dict(exchanged or {})
    body = list(tree_of(source).body)
    for position, node in enumerate(body):
        if isinstance(node, Definition) and exchanged and node.name in exchanged:
            body[position] = _fetch(node)
    tree = ast.Module(body, type_ignores=[])
    sys.modules[made.__name__] = made  # dataclasses look their module up
    exec(compile(tree, str(path), "exec"), made.__dict__)
    return made


def _fetch(node: Definition) -> ast.stmt:
    """Give the statement that takes an object of that name from those handed in."""
    (statement,) = ast.parse(f"{node.name} = _exchanged[{node.name!r}]").body
    for part in ast.walk(statement):
        if isinstance(part, ast.stmt | ast.expr):
            part.lineno, part.end_lineno = node.lineno, node.lineno
    return statement


def definitions(names: Mapping[str, Any], path: Path) -> dict[str, object]:
    """Give the functions and classes that a file defines itself."""
    tree = ast.parse(path.read_text(encoding="utf-8-sig"))  # some editors of Windows begin with a mark
    own = [node.name for node in tree.body if isinstance(node, Definition)]
    return {name: names[name] for name in own if name in names}


def tie(names: dict[str, Any], given: ModuleType, whole: ModuleType) -> None:
    """Let a learner's file use the lesson with its own definitions in it, where it used that given."""
    for name, value in list(names.items()):
        if value is vars(given).get(name) and name in vars(whole) and not name.startswith("__"):
            names[name] = vars(whole)[name]
    vars(given).update((name, value) for name, value in vars(whole).items() if not name.startswith("__"))


def start(given: ModuleType, names: dict[str, Any]) -> None:
    """Run a lesson as its own script would, with what a learner's file defines in its place."""
    path = Path(str(given.__file__))
    mine = definitions(names, Path(str(names["__file__"])))
    whole = module(path, path.read_text(encoding="utf-8"), mine)
    tie(names, given, whole)
    lesson.start(whole.main, whole.Config, whole.SCALES)
