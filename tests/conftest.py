"""What all tests share: results, journal and progress go to a scratch folder, never into the learner's."""

import os
from pathlib import Path

from snn_course.runs import lesson

import pytest


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep each test's results, journal and progress to itself, and its processes to one thread."""
    monkeypatch.setenv("SNN_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("SNN_JOURNAL", str(tmp_path / "journal.md"))
    monkeypatch.setenv("SNN_PROGRESS", str(tmp_path / "progress.json"))
    monkeypatch.setenv("SNN_WORKSPACE", str(tmp_path / "workspace"))
    monkeypatch.setenv("OMP_NUM_THREADS", os.environ.get("OMP_NUM_THREADS", "1"))


@pytest.fixture
def run(request: pytest.FixtureRequest, config: lesson.Config) -> lesson.Run:
    """Give a begun run of the lesson ``L`` that the test file has loaded, with its fixture ``config``."""
    made = lesson.Run(config, Path(request.module.L.__file__))
    made.begin(0)
    return made
