"""Who may know whom: lessons know the helper, the helper knows no lesson, and lessons meet by number alone.

The order of the wings is held by import-linter (``lint-imports``), whose contracts are in pyproject.toml.
This file also says how long a module and a function may be, and who may write files.
"""

import ast
import tomllib

from snn_course import ROOT

import pytest

HELPER = sorted((ROOT / "snn_course").rglob("*.py"))
SCRIPTS = sorted([*ROOT.glob("*.py"), *(ROOT / "lessons").glob("*.py"), *(ROOT / "solutions").glob("m*.py")])
NAMES = {script.stem for script in SCRIPTS}


def calls_of_load(tree: ast.AST) -> list[int]:
    """Lines in which a lesson is loaded: ``lesson.load(…)``, or ``load(…)`` with a literal."""
    lines = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("lesson.load", "load"):
            lines += [node.lineno for argument in node.args if isinstance(argument, ast.Constant)]
    return lines


def imported(tree: ast.AST) -> set[str]:
    """Give the first part of each imported module's name."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").split(".")[0])
    return names


@pytest.mark.parametrize("file", HELPER, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_the_helper_knows_no_lesson(file) -> None:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    assert calls_of_load(tree) == []
    assert not imported(tree) & (NAMES | {"lessons", "tests"})


@pytest.mark.parametrize("file", SCRIPTS, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_scripts_meet_through_load_alone(file) -> None:
    assert not imported(ast.parse(file.read_text(encoding="utf-8"))) & (NAMES | {"lessons", "tests"})


def test_each_wing_says_what_it_holds_and_is_in_the_contract() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    layers = " ".join(contracts["contracts"][0]["layers"])
    for init in sorted((ROOT / "snn_course").glob("*/__init__.py")):
        assert ast.get_docstring(ast.parse(init.read_text(encoding="utf-8"))), init
        assert init.parent.name in layers


LINES_OF_A_MODULE = 300
LINES_OF_A_FUNCTION = 40
"""From its ``def`` to its last line: the docstring counts, decorators do not."""


def long_functions(tree: ast.AST) -> list[str]:
    """Name the functions that are too long, each with its lines: ``fit: 41``."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = node.end_lineno - node.lineno + 1
            if lines > LINES_OF_A_FUNCTION:
                found.append(f"{node.name}: {lines}")
    return found


@pytest.mark.parametrize("file", HELPER, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_a_module_of_the_helper_holds_one_idea(file) -> None:
    lines = len(file.read_text(encoding="utf-8").splitlines())
    assert lines <= LINES_OF_A_MODULE


@pytest.mark.parametrize("file", [*HELPER, *SCRIPTS], ids=lambda file: file.relative_to(ROOT).as_posix())
def test_a_function_can_be_seen_at_once(file) -> None:
    assert long_functions(ast.parse(file.read_text(encoding="utf-8"))) == []


def test_a_long_function_is_known_when_it_is_seen() -> None:
    inner = "    async def much():\n" + "        step()\n" * 40
    assert long_functions(ast.parse("@cached\ndef enough():\n" + "    step()\n" * 39)) == []
    assert long_functions(ast.parse("class Some:\n" + inner)) == ["much: 41"]


# Who may write, rename or replace a file without ``safe_write.write`` or ``aside``, and why.
WRITERS = {
    "snn_course/safe_write.py": "it is the place",
    "snn_course/journal/exchange.py": "keeps the file that it replaces",
    "snn_course/journal/file.py": "goes by exchange",
    "snn_course/runs/unfinished.py": "renames what is damaged",
    "snn_course/schedule/side_by_side.py": "catches what a script prints",
    "snn_course/akida_bridge/keras_twin.py": "prints to nowhere",
    "snn_course/teaching/workspace.py": "never replaces a file of the learner's",
    "snn_course/teaching/apart.py": "catches what a learner's file prints",
    "snn_course/teaching/inside.py": "reports line by line, so that a killed check has said what it found",
}


PACKAGES = {"mimwrite", "savefig", "savez", "np.save", "torch.save", "first.save"}
"""Functions of packages that write to a path; all that ``safe_write`` has to do with one is called so."""
GIVEN = {"part", "file", "drawn"}


def writes(call: ast.Call) -> bool:
    """Say whether a call writes to, or moves, a file in another way than ``safe_write`` does."""
    whole = ast.unparse(call.func)
    owner, _, name = whole.rpartition(".")
    given = [*call.args, *(keyword.value for keyword in call.keywords)]
    if name == "rename" or (name == "replace" and len(given) == 1):
        return True
    if {name, whole} & PACKAGES:
        return not GIVEN & {ast.unparse(argument) for argument in given}
    modes = [str(argument.value) for argument in given if isinstance(argument, ast.Constant)]
    opened = name == "open" and any(len(mode) < 4 and set(mode) & set("wax") for mode in modes)
    return owner not in GIVEN and (opened or name in ("write_text", "write_bytes"))


@pytest.mark.parametrize("file", [*HELPER, *SCRIPTS], ids=lambda file: file.relative_to(ROOT).as_posix())
def test_one_place_writes_files(file) -> None:
    if file.relative_to(ROOT).as_posix() not in WRITERS:
        calls = [n for n in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if isinstance(n, ast.Call)]
        assert [ast.unparse(call) for call in calls if writes(call)] == []


def test_a_writing_call_is_known_when_it_is_seen() -> None:
    wrong = ["path.write_text(x)", "path.open('w')", "open(p, mode='xb')", "one.replace(two)", "a.rename(b)"]
    wrong += ["part.replace(path)", "fig.savefig(path)", "np.save(path, x)"]
    right = [
        "part.write_bytes(x)",
        "part.open('wb')",
        "path.open('rb')",
        "text.replace(a, b)",
        "open('a.md')",
    ]
    right += ["fig.savefig(drawn)", "np.save(part, x)", "run.save('net', x)"]
    assert all(writes(ast.parse(call).body[0].value) for call in wrong)
    assert not any(writes(ast.parse(call).body[0].value) for call in right)
