"""What the tests of the teaching wing share: a quiz through a pipe, a browser, scripts, instruments."""

import io

from snn_course.runs import scripts
from snn_course import ROOT, UsageError
from snn_course.gameworld import browser
from snn_course.teaching import instruments, questions, quiz

import pytest


class Typed(io.StringIO):
    """Lines as if through a pipe; a hook may be called before each of them is read."""

    before = staticmethod(lambda: None)

    def readline(self, size=-1):
        self.before()
        return super().readline(size)


@pytest.fixture
def hold(tmp_path, monkeypatch, capsys):
    """Give a function that holds a quiz with these lines as answers. Returns: what was printed."""
    monkeypatch.setattr(questions, "path_of", lambda stem: tmp_path / "quizzes" / f"{stem}.toml")

    def held(chosen, *lines, everything=None, review=False, before=None):
        answers = Typed("".join(f"{line}\n" for line in lines))
        if before:
            answers.before = before
        monkeypatch.setattr("sys.stdin", answers)
        code = quiz.run(chosen, everything or chosen, review, "course.py")
        assert code == 0
        said = capsys.readouterr().out
        assert max(map(len, said.splitlines())) < 80
        assert all(letter.isprintable() or letter == "\n" for letter in said)
        return said

    return held


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("browser"):
        try:
            browser.find()
        except UsageError as missing:
            pytest.skip(str(missing))


@pytest.fixture(scope="module")
def chromium():
    """A headless browser of Playwright, which ends with a file: its loop of asyncio lets no other one run."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=browser.find(), args=["--no-sandbox"])
        yield running
        running.close()


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
