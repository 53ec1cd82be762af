"""Tests that need a browser are skipped where there is none, and say which command installs one."""

from snn_course import UsageError
from snn_course.gameworld import browser

import pytest


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("browser"):
        try:
            browser.find()
        except UsageError as missing:
            pytest.skip(str(missing))


@pytest.fixture(scope="session")
def chromium():
    """A headless browser of Playwright."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=browser.find(), args=["--no-sandbox"])
        yield running
        running.close()
