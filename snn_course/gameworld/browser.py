"""A headless Chromium with one page, through Playwright; it always ends, and never keeps a caller waiting.

    with browser.Chromium() as chromium:
        game = pages.Dino(chromium)

Playwright is imported here alone, and only when a browser is started. Each call to the browser has a time
limit: a watcher kills a browser that hangs, and the call ends with ``Lost``. The browser reaches nothing but
this machine.
"""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Self, TypeVar

from snn_course.runs import notebook
from snn_course import UsageError, reason_of
from snn_course.gameworld.environment import Lost
from snn_course.gameworld.runner import PAGE
from snn_course.machine import probes

import psutil

FLAGS = (
    "--no-sandbox",  # a container's root may not have one; the browser sees this machine alone
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-background-timer-throttling",
    "--disable-renderer-backgrounding",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
SIZE = {"width": 1280, "height": 720}
LIMIT = 10.0
"""Seconds that a call may take."""
COUNT_FRAMES = """
window.__frames = 0;
window.__keys = [];
const tick = () => { window.__frames += 1; requestAnimationFrame(tick); };
requestAnimationFrame(tick);
addEventListener("keydown", (event) => {
  if (event.repeat) return;
  const heard = performance.timeOrigin + performance.now();
  requestAnimationFrame(() => window.__keys.push([heard, performance.timeOrigin + performance.now()]));
}, true);
"""
"""Runs in each page: counts frames, and notes when a key was heard and the next frame came."""
Answer = TypeVar("Answer")


def find() -> str | None:
    """Give the path of an installed Chromium, Chrome or Edge; None for the one that Playwright keeps.

    Raises: UsageError where there is none, with the command that installs one; and in a notebook, whose loop
        leaves none to Playwright.
    """
    if notebook.is_here():
        raise UsageError("A notebook starts no browser: run the script in a terminal for that.")
    (line,) = probes.browser()
    if line.status != "ok":
        raise UsageError(f"There is no Chromium, Chrome or Edge here. This installs one: {line.fix}")
    path = Path(line.detail)
    if path.suffix == ".app":  # macOS: the program is inside the folder
        path = path / "Contents" / "MacOS" / path.stem
    return str(path) if path.is_file() else None


class Chromium:
    """A headless browser with one page. Ends with the block, with Ctrl-C, and with this process.

    Raises: UsageError without a browser, ``Lost`` when it does not start.
    """

    def __init__(self, limit: float = LIMIT) -> None:
        from playwright.sync_api import Error, sync_playwright

        self.limit, self.hung = limit, False
        self._deadline: float | None = None
        self._closed = threading.Event()
        executable = find()
        before = _children()
        try:
            self._playwright = sync_playwright().start()
        except Error as error:
            raise Lost(f"No browser can be started: {reason_of(error)}.") from None
        threading.Thread(target=self._watch, daemon=True).start()
        self._processes = _children() - before
        try:
            launch = self._playwright.chromium.launch
            self.browser = self.call(
                lambda: launch(executable_path=executable, headless=True, args=[*FLAGS], handle_sigint=False),
                3 * limit,
            )
            self.page = self.call(lambda: self.browser.new_page(viewport=SIZE))  # type: ignore[arg-type]
            self.page.set_default_timeout(1000 * limit)
            self.call(lambda: self.page.add_init_script(COUNT_FRAMES))
            self.call(lambda: self.page.add_init_script(path=PAGE / "retina.js"))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def version(self) -> str:
        """Version of the browser."""
        return self.browser.version

    @property
    def alive(self) -> bool:
        """Whether the browser still runs."""
        return not self.hung and self.browser.is_connected()

    def call(self, work: Callable[[], Answer], limit: float | None = None) -> Answer:
        """Do something that talks to the browser. Raises: ``Lost`` when it fails or takes too long."""
        from playwright.sync_api import Error

        self._deadline = time.monotonic() + (limit or self.limit)
        try:
            return work()
        except Error as error:
            late = f"it did not answer for {limit or self.limit:g} s"
            reason = late if self.hung else reason_of(error)
            raise Lost(f"The browser is lost: {reason}.") from None
        finally:
            self._deadline = None

    def ask(self, script: str, argument: Any = None, limit: float | None = None) -> Any:
        """Evaluate a function in the page."""
        return self.call(lambda: self.page.evaluate(script, argument), limit)

    def close(self) -> None:
        """End the browser, if need be by force; Playwright's helper process ends with it."""
        from playwright.sync_api import Error

        mine = self._tree()
        self._deadline = time.monotonic() + self.limit
        with suppress(Error, AttributeError):
            self.browser.close()
        with suppress(Error):
            self._playwright.stop()
        self._closed.set()
        _kill(mine)

    # ------------------------------------------------------------------ the watcher

    def _watch(self) -> None:
        """Kill the browser when a call is overdue: then the call ends, with an error."""
        while not self._closed.wait(0.2):
            deadline = self._deadline
            if deadline is not None and time.monotonic() > deadline:
                self.hung = True
                _kill(self._tree() - self._processes)
                self._deadline = None

    def _tree(self) -> set[psutil.Process]:
        """Give the processes of this browser: Playwright's helper, and what it has started."""
        found = set(self._processes)
        for process in self._processes:
            with suppress(psutil.Error):
                found |= set(process.children(recursive=True))
        return found


def _children() -> set[psutil.Process]:
    return set(psutil.Process().children())


def _kill(processes: set[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(processes, timeout=5)
