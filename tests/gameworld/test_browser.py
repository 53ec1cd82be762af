"""Browsers that die, hang or never show the page: noticed, told in one line, and gone afterwards."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from types import SimpleNamespace
from unittest.mock import Mock, call

from snn_course.runs import lesson, notebook
from snn_course import UsageError
from snn_course.gameworld import arena, browser, pages, players, retina, serve, sight, tracks
from snn_course.gameworld.environment import Lost
from snn_course.gameworld.runner import STEPS_A_SECOND
from snn_course.machine import probes

import numpy as np
import psutil
import pytest
from playwright import sync_api

posix = pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")


def left_behind() -> list[str]:
    """Name the browser's processes that are still below this one, after a moment for them to end."""
    for _ in range(50):
        below = psutil.Process().children(recursive=True)
        alive = [p for p in below if p.status() != "zombie" and not p.name().startswith("python")]
        if not alive:
            return []
        time.sleep(0.1)
    return [process.name() for process in alive]


def renderers(chromium: browser.Chromium) -> list[psutil.Process]:
    return [p for p in chromium._tree() if "--type=renderer" in " ".join(p.cmdline())]


def test_without_a_browser_one_line_says_how_to_get_one(monkeypatch):
    fix = "python -m playwright install chromium"
    monkeypatch.setattr(probes, "browser", lambda: [probes.Line("skip", "none", fix=fix)])
    with pytest.raises(UsageError) as told:
        browser.find()
    assert str(told.value) == f"There is no Chromium, Chrome or Edge here. This installs one: {fix}"
    with arena.open_place() as place:
        assert not place.browser
        assert place.missing == str(told.value)


def test_a_notebook_has_no_browser_and_goes_on_without(monkeypatch):
    monkeypatch.setattr(notebook, "is_here", lambda: True)
    with arena.open_place() as place:
        assert not place.browser
        assert place.missing == "A notebook starts no browser: run the script in a terminal for that."


def test_a_browser_that_does_not_start_is_one_line_and_the_benchmark_goes_on(monkeypatch):
    class Broken:
        def start(self):
            raise sync_api.Error("no driver\nat all")

    monkeypatch.setattr(sync_api, "sync_playwright", Broken)
    monkeypatch.setattr(browser, "find", lambda: None)
    with pytest.raises(UsageError, match=r"^No browser can be started: .*no driver.*\.$") as told:
        browser.Chromium()
    assert "\n" not in str(told.value)
    with arena.open_place() as place:
        assert arena.difference(place, 10_000) is None
        assert not place.browser
        assert place.missing == str(told.value)


def test_a_key_that_is_not_down_does_not_come_up():
    """One that comes up starts a crashed game of chrome://dino anew."""
    keys = Mock()
    game = pages._PageGame(SimpleNamespace(call=lambda work: work(), page=SimpleNamespace(keyboard=keys)))
    game.release()
    assert keys.mock_calls == []
    game.press(0.1)
    game.release()
    game.release()
    assert keys.mock_calls == [call.down("Space"), call.up("Space")]


@pytest.mark.browser
def test_the_dinosaur_runs_at_the_usual_speed_and_is_seen():
    with browser.Chromium() as chromium:
        game = pages.Dino(chromium)
        game.reset()
        first, _ = game.observe_both()
        end = time.monotonic() + 1.5  # the first cactus comes after some four seconds
        while time.monotonic() < end:
            frame, state = game.observe_both()
        frames = frame.number - first.number
        gain = state.speed - 6.0
        assert gain < 0.002 * (frames + 90)  # once a frame, not twice
        assert frame.picture.max() > 100
        assert time.time() - frame.drawn < 1
        assert not game.status().crashed
        game.press(0.1)
        for _ in range(12):
            _, state = game.observe_both()
        assert state.jumping
        game.release()
        ((pressed, heard, seen),) = game.key_times()
        assert pressed <= heard + 0.005
        assert heard <= seen
    assert left_behind() == []


@pytest.mark.browser
def test_at_night_canvas_and_screenshot_show_the_same():
    with browser.Chromium() as chromium, serve.page() as url:
        game = pages.CoursePage(chromium, url, 3)
        chromium.call(lambda: chromium.page.goto(f"{url}?clock=manual&seed=3"))
        chromium.call(lambda: chromium.page.wait_for_function("() => window.course && course.ready"))
        chromium.ask("() => course.advance(Array(200).fill(0))")
        seen = []
        for night in (False, True):
            chromium.ask("(night) => document.documentElement.classList.toggle('night', night)", night)
            ink = sight.Sight().ink(game.screenshot())
            assert ink is not None
            seen.append((game.observe().picture, retina.pooled(ink)))
        (day, day_shot), (night_, night_shot) = seen
        assert (day == night_).all()
        assert (day_shot == night_shot).all()
        assert np.abs(day.astype(int) - day_shot).mean() < 4


@pytest.mark.browser
def test_the_course_page_keeps_real_time_and_the_contract_of_gameworld():
    with browser.Chromium() as chromium, serve.page() as url:
        game = pages.CoursePage(chromium, url, 3)
        assert chromium.ask("() => gameAPI.init({}).then(() => gameAPI.getState().status)") == "ready"
        game.reset()
        begun = time.time()
        life = tracks.live(game, players.Idle())
        assert life.crashed
        steps = chromium.ask("() => course.game.step")
        assert steps <= (time.time() - begun) * STEPS_A_SECOND + 30
        state = chromium.ask("() => gameAPI.getState()")
        assert state["terminal"] == {"isTerminal": True, "outcome": "fail"}
        assert state["game_state"]["score"] == life.score
        assert state["is_actionable"] is False
        game.hold(0.05)  # a key starts the next game
        assert chromium.ask("() => gameAPI.getState().status") == "playing"
        assert chromium.ask("() => gameAPI.getState().metrics.attempts") == state["metrics"]["attempts"] + 1


@pytest.mark.browser
@posix
@pytest.mark.parametrize("how", ["killed", "hangs"])
def test_a_browser_that_dies_or_hangs_is_noticed_and_replaced(how):
    with arena.open_place() as place:
        begun, broken = time.monotonic(), []

        def work(game: pages.Dino) -> str:
            if not broken:
                game.chromium.limit = 2
                of_pages = renderers(game.chromium)  # the page's own, and a spare one
                broken.extend(process.pid for process in of_pages)
                main = [p for p in game.chromium._tree() if "--type=" not in " ".join(p.cmdline())]
                for process in of_pages if how == "hangs" else main:
                    process.send_signal(signal.SIGSTOP if how == "hangs" else signal.SIGKILL)
            for _ in range(30):
                game.observe()
            return "played"

        assert place.dino(work) == "played"
        assert place.lost == 1
        assert time.monotonic() - begun < 60
        for pid in broken:
            assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == "zombie"
    assert left_behind() == []


@pytest.mark.browser
def test_a_page_that_never_loads_ends_with_one_line():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()  # takes the connection, and never answers
        begun = time.monotonic()
        with pytest.raises(Lost) as told, browser.Chromium(limit=3) as chromium:
            pages.CoursePage(chromium, f"http://127.0.0.1:{silent.getsockname()[1]}/index.html")
        assert time.monotonic() - begun < 30
        assert "\n" not in str(told.value)
        assert "The browser is lost" in str(told.value)
    assert left_behind() == []


@pytest.mark.browser
def test_browsers_that_are_lost_again_and_again_end_in_one_line(monkeypatch):
    monkeypatch.setattr(arena, "AGAIN", 2)  # each browser takes seconds to start
    with arena.open_place() as place:

        def work(_game: pages.Dino) -> None:
            raise Lost("The browser is lost: a test.")

        with pytest.raises(UsageError, match=r"^2 browsers were lost, one after the other\. .*a test\.$"):
            place.dino(work)
        assert place.lost == arena.AGAIN
    assert left_behind() == []


@pytest.mark.browser
def test_nothing_but_this_machine_is_reached():
    with browser.Chromium() as chromium, pytest.raises(Lost, match=r"ERR_(NAME_NOT_RESOLVED|INTERNET)"):
        chromium.call(lambda: chromium.page.goto("http://example.org/"))


PLAYING = """
from snn_course.gameworld import browser, pages
with browser.Chromium() as chromium:
    game = pages.Dino(chromium)
    print("playing", flush=True)
    while True:
        game.observe()
"""


@pytest.mark.browser
@posix
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_is_left_after_ctrl_c_and_after_a_kill(sent):
    process = subprocess.Popen(
        [sys.executable, "-c", PLAYING], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    guard = threading.Timer(90, process.kill)
    guard.start()
    assert process.stdout.readline() == "playing\n"
    below = psutil.Process(process.pid).children(recursive=True)
    assert len(below) > 3
    process.send_signal(sent)
    process.wait(20)
    guard.cancel()
    _, alive = psutil.wait_procs(below, timeout=20)
    assert [p.name() for p in alive if p.status() != "zombie"] == []


@pytest.mark.browser
def test_the_agent_on_chrome_dino_beats_the_floor():
    capstone = lesson.load("capstone_gameworld")
    player = players.Spiker(capstone.agents.load("dino", "cpu").net)
    with arena.open_place() as place:
        (idle,), no_keys = arena.lives(place, players.Idle(), 1)
        assert no_keys == []

        def play(game: pages.Dino) -> tuple[tracks.Life, list[arena.Keys]]:
            game.forget_keys()
            life = tracks.live(game, player, most=2 * idle.score + 1)  # a good life goes on for minutes
            return life, game.key_times()

        frames = seconds = 0.0
        for _ in range(5):  # its first cactus ends one life in ten, more where frames are dropped
            life, keys = place.dino(play)
            frames, seconds = frames + life.frames, seconds + life.seconds
            if life.score > 2 * idle.score:
                assert keys
                return
    if frames < 45 * seconds:
        pytest.skip(f"too busy a machine for a game in real time: {frames / seconds:.0f} pictures a second")
    pytest.fail(f"five lives ended below {2 * idle.score} points, twice of what doing nothing gets")
