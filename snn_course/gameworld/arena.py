"""Where the games run on this machine: with a browser, or without. A browser that is lost is replaced."""

import base64
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from snn_course import UsageError
from snn_course.gameworld import adapt, browser, pages, players, serve, tracks
from snn_course.gameworld.environment import Lost
from snn_course.gameworld.network import Spiking
from snn_course.gameworld.retina import COLUMNS, ROWS, pooled
from snn_course.gameworld.runner import Runner

import numpy as np

AGAIN = 3
"""Browsers that one life may use up before it is given up."""

Result = TypeVar("Result")
Keys = tuple[float, float, float]
"""When a key was pressed, heard by the page, and followed by a frame. Seconds."""


@dataclass
class Place:
    """What this machine offers. missing: why there is no browser, and the command that installs one."""

    browser: bool
    missing: str = ""
    url: str = ""
    version: str = ""
    lost: int = 0
    game: pages.Dino | None = None

    def dino(self, work: Callable[[pages.Dino], Result]) -> Result:
        """Do something with chrome://dino, in the browser that is open; where it is lost, anew in the next.

        Raises: UsageError when browsers are lost again and again.
        """
        for _ in range(AGAIN):
            try:
                return work(self._opened())
            except Lost as lost:
                self.lost += 1
                reason = str(lost)
                self.close()
        raise UsageError(f"{AGAIN} browsers were lost, one after the other. {reason}")

    def _opened(self) -> pages.Dino:
        """Give the game in its browser; open one where there is none, which takes some ten seconds."""
        if self.game is None:
            chromium = browser.Chromium()
            self.version = chromium.version
            try:
                self.game = pages.Dino(chromium)
            except BaseException:
                chromium.close()
                raise
        return self.game

    def close(self) -> None:
        """Close the browser, if one is open."""
        game, self.game = self.game, None
        if game is not None:
            game.close()


@contextmanager
def open_place() -> Iterator[Place]:
    """Look for a browser, and serve the course's page while the block runs."""
    try:
        browser.find()
    except UsageError as missing:
        yield Place(browser=False, missing=str(missing))
        return
    with serve.page() as url:
        place = Place(browser=True, url=url)
        try:
            yield place
        finally:
            place.close()


def record(place: Place, net: Spiking, seconds: float, led: bool) -> adapt.Life:
    """Record a life on chrome://dino, of teacher or student, of at most so many seconds."""
    student = players.Spiker(net)
    return place.dino(lambda game: adapt.live(game, game.observe_both, student, seconds, led))


def difference(place: Place, seed: int, steps: int = 1200) -> int | None:
    """Step the page by hand with random keys, beside its twin.

    Returns: blocks of pictures that differ. None where there is no browser, or none that starts: from then on
        the place has none.
    """
    if not place.browser:
        return None
    try:
        return _difference(place, seed, steps)
    except Lost as lost:
        place.browser, place.missing = False, str(lost)
        return None


def _difference(place: Place, seed: int, steps: int) -> int:
    random, twin, differ = np.random.default_rng(seed), Runner(seed), 0
    place.close()  # Playwright drives one browser at a time
    with browser.Chromium() as chromium:
        page = chromium.page
        chromium.call(lambda: page.goto(f"{place.url}?clock=manual&seed={seed}"))
        chromium.call(lambda: page.wait_for_function("() => window.course && course.ready"))
        for _ in range(steps // 8):
            keys = (random.random(8) < 0.1).astype(int).tolist()
            for held in keys:
                twin.advance(bool(held))
            told = base64.b64decode(chromium.ask("(keys) => course.advance(keys)", keys))
            picture = np.frombuffer(told, np.uint8).reshape(ROWS, COLUMNS)
            differ += int((picture != pooled(twin.ink())).sum())
            if twin.crashed:
                seed += 1
                twin.reset(seed)
                chromium.ask("(seed) => gameAPI.reset({seed})", seed)
    return differ


def lives(place: Place, policy: players.Policy, count: int) -> tuple[list[tracks.Life], list[Keys]]:
    """Let a policy play some lives on chrome://dino. Returns: the lives, and when its keys were felt."""
    found, keys = list[tracks.Life](), list[Keys]()
    for _ in range(count):
        life, felt = place.dino(lambda game: _one_life(game, policy))
        found.append(life)
        keys += felt
    return found, keys


def _one_life(game: pages.Dino, policy: players.Policy) -> tuple[tracks.Life, list[Keys]]:
    game.forget_keys()
    life = tracks.live(game, policy)
    return life, game.key_times()
