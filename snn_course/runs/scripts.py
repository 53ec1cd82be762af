"""The scripts of the course: which there are, in which order, and how a learner may name them.

They are found by looking, never imported, so that listing them is quick. Standard library only.
"""

import ast
import difflib
import re
import tokenize
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from snn_course import COMMAND, UsageError, one_line

ENVIRONMENT_TEST = "00_environment_test"
SOLUTIONS = "solutions"
"""Folder of worked answers to what a learner does alone; the brief has the same name, one folder up."""
CAPSTONES = ("capstone_pong", "capstone_gameworld")
"""In this order; one that is not named here comes after them."""
MILESTONE_AFTER = {"milestone_a": 9}
"""A milestone comes after this lesson; one that is not named here, after all lessons."""


def card_of(script: Path) -> dict[str, str]:
    """Read title and question from the docstring at the top of a script, without running it."""
    doc = _docstring(script) or script.stem
    title = doc.splitlines()[0].split(": ", 1)[-1].rstrip(".")
    question = re.search(r"^Question:\s*(.+?)(?=^\S|\n\s*\n|\Z)", doc, re.MULTILINE | re.DOTALL)
    return {"title": title, "question": " ".join(question[1].split()) if question else ""}


def _docstring(script: Path) -> str:
    """Read the string that a script begins with, and no more: to parse 24 scripts takes half a second."""
    with script.open(encoding="utf-8-sig") as file:
        try:
            for token in tokenize.generate_tokens(file.readline):
                if token.type == tokenize.STRING:
                    return ast.get_docstring(ast.parse(token.string)) or ""
                if token.type not in (tokenize.COMMENT, tokenize.NL):
                    break
        except tokenize.TokenError as error:  # such as a string that does not end
            raise SyntaxError(str(error)) from None
    return ""


@dataclass(frozen=True)
class Script:
    """One script: a lesson, a milestone, a capstone or the environment test."""

    path: Path

    @property
    def stem(self) -> str:
        """Name without folder and ending, as in ``results/<stem>``."""
        return self.path.stem

    @property
    def number(self) -> int | None:
        """Number at the start of the name; None for milestones and capstones."""
        match = re.match(r"(\d+)_", self.stem)
        return int(match[1]) if match else None

    @property
    def label(self) -> str:
        """The shortest name by which a learner may call it: the number, else the stem."""
        return self.stem if self.number is None else f"{self.number:02d}"

    @property
    def front(self) -> Path:
        """What a reader opens first: the brief of what a learner does alone, else the script itself."""
        brief = self.path.parent.parent / self.path.name
        return brief if self.path.parent.name == SOLUTIONS and brief.is_file() else self.path

    @property
    def is_environment_test(self) -> bool:
        """The environment test measures the machine; it has no scale and no metrics.json."""
        return self.stem == ENVIRONMENT_TEST

    def card(self) -> dict[str, str]:
        """Title and question from the docstring, without running the script."""
        try:
            return card_of(self.front)
        except (SyntaxError, ValueError):  # a learner in the middle of an edit
            return {"title": self.stem, "question": "(this script has a syntax error)"}


def find(root: Path) -> list[Script]:
    """Find all scripts under the course's folder, in the order in which they are taken.

    Of a milestone it is the worked answer, where there is one: the brief at the top measures nothing.
    """
    milestones = [*root.glob("milestone_*.py"), *root.glob(f"{SOLUTIONS}/milestone_*.py")]
    paths = [
        *root.glob(f"{ENVIRONMENT_TEST}.py"),
        *root.glob("lessons/[0-9][0-9]_*.py"),
        *{path.name: path for path in milestones}.values(),
        *root.glob("capstone_*.py"),
    ]
    return sorted(map(Script, paths), key=_place)


def _place(script: Script) -> tuple[float, bool, str]:
    """Sort key: by number, a milestone after its lesson, capstones last."""
    if script.number is not None:
        return script.number, False, script.stem
    if script.stem.startswith("capstone_"):
        known = script.stem in CAPSTONES
        return float("inf"), True, f"{CAPSTONES.index(script.stem) if known else 9} {script.stem}"
    after = [number for name, number in MILESTONE_AFTER.items() if script.stem.startswith(name)]
    return (after[0] if after else float("inf")), after != [], script.stem


def pick(names: Sequence[str], scripts: Sequence[Script]) -> list[Script]:
    """Choose scripts by number, by stem, or by a beginning that fits only one stem.

    Returns: the chosen ones in the order of the course; all of them when no name is given.
    Raises: UsageError naming the nearest match, or two names of one script.
    """
    if not names:
        return list(scripts)
    chosen: dict[Script, str] = {}
    for name in names:
        script = _one(name, scripts)
        if script in chosen:
            twice = name if name == chosen[script] else f"{chosen[script]} and {name}"
            raise UsageError(f"{script.stem} is named twice ({twice}): once is enough.")
        chosen[script] = name
    return [script for script in scripts if script in chosen]


def _one(name: str, scripts: Sequence[Script]) -> Script:
    wanted = Path(name).stem if name.endswith(".py") else name
    if not wanted.strip():
        raise UsageError(f"A name is empty; '{COMMAND} list' shows those there are.")
    fits = [script for script in scripts if script.stem == wanted or _is_number(wanted, script)]
    fits = fits or [script for script in scripts if script.stem.startswith(wanted)]
    if len(fits) == 1:
        return fits[0]
    shown = one_line(name, 60)
    if fits:
        raise UsageError(f"'{shown}' fits several scripts: {', '.join(script.stem for script in fits)}.")
    nearest = _nearest(wanted, scripts)
    advice = f"Did you mean {nearest}?" if nearest else f"'{COMMAND} list' shows those there are."
    raise UsageError(f"There is no lesson '{shown}'. {advice}")


def _is_number(name: str, script: Script) -> bool:
    """Compare as text: a number of 5,000 digits is no integer for Python."""
    return name.isdecimal() and (name.lstrip("0") or "0") == str(script.number)


def _nearest(name: str, scripts: Sequence[Script]) -> str | None:
    """Find the stem most like a misspelt name, whether or not the name has the number in front."""
    known = {re.sub(r"^\d+_", "", s.stem): s.stem for s in scripts} | {s.stem: s.stem for s in scripts}
    close = difflib.get_close_matches(name[:100].lower(), known, n=1, cutoff=0.5)
    return known[close[0]] if close else None
