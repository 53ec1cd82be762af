"""The course's shared helper: plumbing, and what earlier lessons have already taught.

Only the standard library is imported here, so that ``course.py`` and the environment test can use
this package before anything is installed.
"""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
"""The course's folder."""


class UsageError(Exception):
    """Bad input. The message is one line that says what is wrong and what to do; the exit code is 2."""


def data_dir() -> Path:
    """Folder of the data sets: ``SNN_DATA``, else ``data/`` in the course's folder."""
    return _from_environment("SNN_DATA", "data")


def results_dir() -> Path:
    """Folder of measured results: ``SNN_RESULTS``, else ``results/`` in the course's folder."""
    return _from_environment("SNN_RESULTS", "results")


def journal_file() -> Path:
    """The learner's log: ``SNN_JOURNAL``, else ``journal.md`` in the course's folder."""
    return _from_environment("SNN_JOURNAL", "journal.md")


def _from_environment(variable: str, default: str) -> Path:
    return Path(os.environ.get(variable) or ROOT / default).expanduser()
