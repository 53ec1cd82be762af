"""The exercises of a lesson: its regions, and what ``exercises/NN_name.toml`` says about each of them.

The file holds words, hints, wrong solutions and the sizes of the check; never a right solution, which is in
the lesson alone. Standard library only.
"""

from collections.abc import Sequence
from pathlib import Path

from snn_course import ROOT, UsageError
from snn_course.runs.scripts import Script
from snn_course.teaching import exercises_toml, questions
from snn_course.teaching.tasks import Exercises

FOLDER = "exercises"


def path_for(script: Script) -> Path:
    """Where the exercises of a script are."""
    return ROOT / FOLDER / f"{script.stem}.toml"


def there(scripts: Sequence[Script]) -> list[Script]:
    """Give the scripts that have exercises."""
    return [script for script in scripts if path_for(script).is_file()]


def load(script: Script) -> Exercises:
    """Read a lesson's exercises. Raises: UsageError naming file and line, or that there are none yet."""
    path = path_for(script)
    if not path.is_file():
        further = ", and go on with its quiz" if questions.path_of(script.stem).is_file() else ""
        raise UsageError(f"{script.stem} has no exercise: read it, run it{further}.")
    return read(script, path.read_text(encoding="utf-8"), path.name)


def read(script: Script, text: str, name: str) -> Exercises:
    """Make exercises of a TOML text; ``name`` is that of its file. Raises: UsageError."""
    return exercises_toml.read(script, text, f"{FOLDER}/{name}")
