"""The course's shared helper: plumbing, and what earlier lessons have already taught.

Only the standard library is imported here, so that ``course.py`` and the environment test can use
this package before anything is installed.
"""

import errno
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
"""The course's folder."""
COMMAND = "py -3.12 course.py" if os.name == "nt" else "python3 course.py"
"""How a person calls the course's entry point, in its folder."""
PYTHON = r".venv\Scripts\python" if os.name == "nt" else ".venv/bin/python"
"""How a person calls the Python that has the course's packages, in its folder."""


class UsageError(Exception):
    """Bad input. The message is one line that says what is wrong and what to do; the exit code is 2."""

    def __str__(self) -> str:
        return one_line(super().__str__())


def one_line(text: str, longest: int = 1000) -> str:
    """Write a text so that a terminal shows one line: control characters as escapes, the middle cut out."""
    shown = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
    if len(shown) <= longest:
        return shown
    half = (longest - len(" ... ")) // 2
    return f"{shown[:half]} ... {shown[-half:]}"


def reason_of(error: Exception) -> str:
    """Give the first line of what an error of another package says, or its kind if it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__


def reader_is_gone(error: OSError) -> bool:
    """Say whether nobody reads the output any more, as after ``| head``; then nothing further is said."""
    # Windows calls it an invalid argument.
    gone = isinstance(error, BrokenPipeError) or (os.name == "nt" and error.errno == errno.EINVAL)
    if gone:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return gone


def data_dir() -> Path:
    """Folder of the data sets: ``SNN_DATA``, else ``data/`` in the course's folder."""
    return _from_environment("SNN_DATA", "data")


def results_dir() -> Path:
    """Folder of measured results: ``SNN_RESULTS``, else ``results/`` in the course's folder."""
    return _from_environment("SNN_RESULTS", "results")


def journal_file() -> Path:
    """The learner's log: ``SNN_JOURNAL``, else ``journal.md`` in the course's folder."""
    return _from_environment("SNN_JOURNAL", "journal.md")


def progress_file() -> Path:
    """What the learner has done: ``SNN_PROGRESS``, else ``progress.json`` in the course's folder."""
    return _from_environment("SNN_PROGRESS", "progress.json")


def workspace_dir() -> Path:
    """Folder of what the learner writes: ``SNN_WORKSPACE``, else ``workspace/`` in the course's folder."""
    return _from_environment("SNN_WORKSPACE", "workspace")


PLACES = {
    "SNN_DATA": data_dir,
    "SNN_RESULTS": results_dir,
    "SNN_JOURNAL": journal_file,
    "SNN_PROGRESS": progress_file,
    "SNN_WORKSPACE": workspace_dir,
}
"""The variables that move the learner's files, each with what it moves."""


def check_places() -> None:
    """Look at all variables that move files, before any work. Raises: UsageError naming a wrong one."""
    for place in PLACES.values():
        place()


def _from_environment(variable: str, default: str) -> Path:
    given = os.environ.get(variable)
    try:
        return Path(given).expanduser() if given else ROOT / default
    except RuntimeError:  # "~name" where nobody has that name, or "~" where nobody knows the home
        raise UsageError(
            f"{variable} is {given}, and this computer knows no such home folder: write the whole path."
        ) from None
