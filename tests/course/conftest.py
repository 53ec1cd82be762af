"""What the tests of course.py share."""

from tests.course.small_course import SmallCourse

import pytest


@pytest.fixture
def small(tmp_path, monkeypatch):
    """Give a course of two lessons, whose results go to its own folder."""
    for name in ("SNN_DATA", "SNN_RESULTS", "SNN_JOURNAL", "SNN_PROGRESS", "SNN_WORKSPACE"):
        monkeypatch.delenv(name, raising=False)
    return SmallCourse(tmp_path / "a course")
