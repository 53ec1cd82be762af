"""What all tests share: results, journal and progress go to a scratch folder, never into the learner's.

Side by side (pytest-xdist, ``-n 2``) the tests of a file share a process, with two exceptions:

- Files whose tests start a browser follow each other in one process: the games keep real time, and two
  browsers are more than two cores can draw. They come first, for no other group takes longer.
- Each script at quick scale is a group of its own. These come last: a process that has nothing else to do
  takes the next one, so all end at about the same time.
"""

import os
import signal
from pathlib import Path
from typing import Any

from snn_course.runs import lesson

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # each process, and those it starts, keeps to one core
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # in the background of a shell that ignores Ctrl-C:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what is tested would inherit that

BROWSERS = (
    "tests/gameworld/test_browser.py",
    "tests/gameworld/test_benchmark.py",
    "tests/gameworld/test_runner.py",
    "tests/teaching/test_book_live.py",
    "tests/teaching/test_book_look.py",
    "tests/course/test_scripts.py::test_quick_scale[capstone_gameworld]",
)
"""Files, and one test, that start a browser."""
LONG: tuple[str, ...] = ()
"""Other files whose tests take long, the longest first."""
SCRIPTS = "tests/course/test_scripts.py::test_quick_scale["


def group_of(test: str) -> str:
    """Name what shares one process with a test: all tests with a browser, one script, or a file."""
    if test.startswith(BROWSERS):
        return "browser"
    return test if test.startswith(SCRIPTS) else test.split("::", maxsplit=1)[0]


def place_of(test: str) -> int:
    """Give the place of a test's group among the others."""
    group = group_of(test)
    order = ["browser", *LONG]
    if group in order:
        return order.index(group)
    return len(order) + group.startswith(SCRIPTS)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the groups in order, where this process is one of several."""
    if hasattr(config, "workerinput"):
        items.sort(key=place_of_item)


def place_of_item(item: pytest.Item) -> int:
    """Give the place of a test's group."""
    return place_of(item.nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Hand out groups in order, where the command line asks for no other way. Called by pytest-xdist."""
    from xdist.scheduler import LoadScopeScheduling

    class InGroups(LoadScopeScheduling):
        """Hands out our groups."""

        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

    if config.getoption("dist") != "load":
        return None
    config.option.loadscopereorder = False
    return InGroups(config, log)


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep each test's results, journal and progress to itself."""
    monkeypatch.setenv("SNN_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("SNN_JOURNAL", str(tmp_path / "journal.md"))
    monkeypatch.setenv("SNN_PROGRESS", str(tmp_path / "progress.json"))
    monkeypatch.setenv("SNN_WORKSPACE", str(tmp_path / "workspace"))


@pytest.fixture
def run(request: pytest.FixtureRequest, config: lesson.Config) -> lesson.Run:
    """Give a begun run of the lesson ``L`` that the test file has loaded, with its fixture ``config``."""
    made = lesson.Run(config, Path(request.module.L.__file__))
    made.begin(0)
    return made
