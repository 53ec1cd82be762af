"""Scripts by name, and the instruments put in for a test."""

from snn_course.runs import scripts
from snn_course import ROOT
from snn_course.teaching import instruments

import pytest


@pytest.fixture
def script():
    """Find a script by what a learner would call it."""

    def find(name):
        (found,) = scripts.pick([name], scripts.find(ROOT))
        return found

    return find


@pytest.fixture
def watched():
    """Put the instruments in, and take them out again."""
    with instruments.installed():
        yield
