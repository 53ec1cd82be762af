"""What stands in a lesson and what needs what, read from its source. Standard library only."""

import ast
import dis
from collections.abc import Iterable, Sequence
from functools import cached_property
from types import CodeType

from snn_course.teaching.regions import Definition, tree_of

_LOOKS_UP = {"LOAD_NAME", "LOAD_GLOBAL"}
"""Steps of Python's compiled code that take a name from the top of a file."""


class Outline:
    """A lesson's definitions by name, and the chapters that its ``main`` calls."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.tree = tree_of(source)

    @cached_property
    def top(self) -> dict[str, ast.stmt]:
        """What the lesson defines or assigns at its top, by name; no imports."""
        found: dict[str, ast.stmt] = {}
        for node in self.tree.body:
            for name in _names_defined(node):
                found.setdefault(name, node)
        return found

    @cached_property
    def uses(self) -> dict[str, set[str]]:
        """For each name at the top, those that its code names; a local variable of that name is none."""
        return {name: _globals_used(node) & set(self.top) for name, node in self.top.items()}

    def reached(self, names: Iterable[str]) -> set[str]:
        """Give the names and all that they use, directly or through others."""
        found: set[str] = set()
        waiting = list(names)
        while waiting:
            name = waiting.pop()
            if name not in found:
                found.add(name)
                waiting += self.uses.get(name, set())
        return found

    def used_by(self, names: Sequence[str]) -> list[str]:
        """Give what these definitions use of the lesson beside themselves, in the order of the lesson."""
        used = set().union(*(self.uses[name] for name in names)) - set(names)
        return [name for name in self.top if name in used]

    # ------------------------------------------------------------------ chapters

    @cached_property
    def main(self) -> list[ast.stmt]:
        """The statements of ``main``."""
        node = self.top.get("main")
        return list(node.body) if isinstance(node, ast.FunctionDef) else []

    @cached_property
    def called(self) -> list[str]:
        """The functions of the lesson that ``main`` calls, each once, in their order."""
        called = [name for statement in self.main for name in _names_called(statement) if name in self.top]
        return list(dict.fromkeys(called))

    def fields_of(self, name: str) -> list[str]:
        """Name the fields that a class of the lesson gives a type."""
        node = self.top.get(name)
        body = node.body if isinstance(node, ast.ClassDef) else []
        annotated = [one.target for one in body if isinstance(one, ast.AnnAssign)]
        return [target.id for target in annotated if isinstance(target, ast.Name)]

    def chapters(self, names: Sequence[str]) -> list[str]:
        """Name the functions that ``main`` calls and that need one of these definitions, in their order."""
        wanted = set(names)
        return [name for name in self.called if self.reached([name]) & wanted]

    def statements(self, chapter: str) -> list[ast.stmt]:
        """Give the statements of ``main`` that a chapter needs: those that make what it is handed, and it.

        Raises: KeyError for a chapter that ``main`` does not call.
        """
        position = next((n for n, one in enumerate(self.main) if chapter in _names_called(one)), None)
        if position is None:
            raise KeyError(chapter)
        needed = [self.main[position]]
        wanted = _names_used(self.main[position])
        for statement in reversed(self.main[:position]):
            stored = _names_stored(statement)
            if stored & wanted:
                needed.insert(0, statement)
                wanted |= _names_used(statement)
        return needed

    def claims(self, chapters: Sequence[str]) -> list[str]:
        """Name the proofs and goals that these chapters and their functions hold up."""
        found: dict[str, None] = {}
        for name in self.top:
            if name in self.reached(chapters):
                for call in ast.walk(self.top[name]):
                    if isinstance(call, ast.Call) and _is_claim(call):
                        found.setdefault(_text(call.args[0]))
        return list(found)


def _is_claim(call: ast.Call) -> bool:
    """Tell whether this is a proof, or a measure with a bound."""
    if not isinstance(call.func, ast.Attribute) or not call.args:
        return False
    bounded = {keyword.arg for keyword in call.keywords} & {"at_least", "at_most"}
    return call.func.attr == "proof" or (call.func.attr == "measure" and bool(bounded))


def _text(node: ast.expr) -> str:
    """Write the name of a measure; what is put in when it runs becomes three dots."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "..." for part in node.values)
    return "..."


def _names_defined(node: ast.stmt) -> list[str]:
    if isinstance(node, Definition):
        return [node.name]
    return sorted(_names_stored(node)) if isinstance(node, ast.Assign | ast.AnnAssign) else []


def _names_used(node: ast.AST) -> set[str]:
    loaded = (one for one in ast.walk(node) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Load))
    return {one.id for one in loaded}


def _globals_used(node: ast.stmt) -> set[str]:
    """Name what a statement at the top of a lesson looks up at the top, now or when it is called.

    Which names of a function are local only its whole text tells, so Python's own compiler is asked.
    """
    found: set[str] = set()
    waiting = [compile(ast.Module([node], type_ignores=[]), "<lesson>", "exec")]
    while waiting:
        code = waiting.pop()
        waiting += [part for part in code.co_consts if isinstance(part, CodeType)]
        found |= {step.argval for step in dis.get_instructions(code) if step.opname in _LOOKS_UP}
    return found


def _names_stored(node: ast.AST) -> set[str]:
    stored = (one for one in ast.walk(node) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store))
    return {one.id for one in stored}


def _names_called(node: ast.AST) -> list[str]:
    calls = [one.func for one in ast.walk(node) if isinstance(one, ast.Call)]
    return [function.id for function in calls if isinstance(function, ast.Name)]


def names_passed_on(before: Sequence[ast.stmt], after: Sequence[ast.stmt]) -> list[str]:
    """Give the names that earlier statements set and later ones use before they set them anew."""
    known: set[str] = set().union(*map(_names_stored, before))
    needed: set[str] = set()
    for statement in after:
        needed |= _names_used(statement) & known
        known -= _names_stored(statement)
    return sorted(needed)
