"""The regions of a lesson that a learner writes, found in the lesson's own source.

    # exercise: the three resets
    ...
    # end

Nothing is kept twice: exercise and answer are cut from one text, which is run and tested. Standard library
only.
"""

import ast
import functools
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_BEGIN = re.compile(r"^(?P<indent> *)# exercise: (?P<words>.+)$")
_END = re.compile(r"^ *# end$")
Definition = ast.FunctionDef | ast.ClassDef


@dataclass(frozen=True)
class Region:
    """One region: where it is, what it asks for in a few words, and what the lesson has there."""

    number: int
    """1 for the first one of a lesson."""
    words: str
    first: int
    """Line of the beginning mark, from 1 on."""
    last: int
    """Line of the end mark."""
    indent: str
    name: str
    """Name of the function or class at the top of the lesson that holds it."""
    path: tuple[str, ...]
    """The way to it, as ``("Spike", "backward")``."""
    code: str
    """The lesson's own lines, without indent."""

    @property
    def within(self) -> str:
        """The function that holds it, as a learner would call it: ``Spike.backward``."""
        return ".".join(self.path)


class RegionError(ValueError):
    """A mark without its counterpart, or a region outside every function; the message names the line."""


@functools.lru_cache(maxsize=4)
def tree_of(source: str) -> ast.Module:
    """Parse a lesson, once for all the questions about it; nobody changes the tree. Raises: SyntaxError."""
    return ast.parse(source)


def find(source: str) -> list[Region]:
    """Find the regions of a lesson, from top to bottom. Raises: RegionError, SyntaxError."""
    lines = source.splitlines()
    tree = tree_of(source)
    found: list[Region] = []
    begun: tuple[int, re.Match[str]] | None = None
    for number, line in enumerate(lines, start=1):
        if begins := _BEGIN.match(line):
            if begun:
                raise RegionError(f"line {number}: a region begins within another one")
            begun = number, begins
        elif begun and _END.match(line):
            found.append(_region(len(found) + 1, begun, number, lines, tree))
            begun = None
    if begun:
        raise RegionError(f"line {begun[0]}: this region has no end")
    return found


def _region(
    number: int, begun: tuple[int, re.Match[str]], last: int, lines: Sequence[str], tree: ast.Module
) -> Region:
    first, mark = begun
    path = _path_to(tree.body, first)
    if not path:
        raise RegionError(f"line {first}: this region is in no function")
    code = textwrap.dedent("\n".join(lines[first : last - 1])) + "\n"
    names = tuple(node.name for node in path)
    return Region(number, mark["words"], first, last, mark["indent"], names[0], names, code)


def _path_to(body: Sequence[ast.stmt], line: int) -> list[Definition]:
    """Give the class and functions around a line, the outermost first."""
    for node in body:
        if isinstance(node, Definition) and node.lineno <= line <= (node.end_lineno or 0):
            return [node, *_path_to(node.body, line)]
    return []


def definition(tree: ast.Module, path: Sequence[str]) -> Definition:
    """Find a function or class by its path. Raises: KeyError."""
    body: Sequence[ast.stmt] = tree.body
    node = None
    for name in path:
        node = next((one for one in body if isinstance(one, Definition) and one.name == name), None)
        if node is None:
            raise KeyError(".".join(path))
        body = node.body
    assert node is not None
    return node


def first_line(node: Definition) -> int:
    """Give the line where a definition begins, its decorators among it."""
    return min([node.lineno, *(one.lineno for one in node.decorator_list)])


def replaced(source: str, codes: Mapping[int, str]) -> str:
    """Put other lines in the place of regions, named by their numbers; the marks go, too."""
    lines = source.splitlines()
    for region in reversed(find(source)):
        if region.number in codes:
            code = textwrap.dedent(codes[region.number]).strip("\n")
            lines[region.first - 1 : region.last] = textwrap.indent(code, region.indent).splitlines()
    return "\n".join(lines) + "\n"


def around(source: str, region: Region) -> str:
    """Give the text of the function or class at the top of the lesson that holds a region."""
    node = definition(tree_of(source), region.path[:1])
    return "\n".join(source.splitlines()[first_line(node) - 1 : node.end_lineno]) + "\n"


def swapped(source: str, region: Region, old: str, new: str) -> str:
    """Put a text in the place of another one, once, within the definition that holds a region."""
    text = around(source, region)
    return source.replace(text, text.replace(old, new, 1), 1)
