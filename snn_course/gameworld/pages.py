"""Games in a browser's page: chrome://dino, and the course's own runner."""

import base64
import time
from contextlib import suppress
from typing import Any

from snn_course.gameworld.browser import Chromium
from snn_course.gameworld.environment import Frame, Lost, Status
from snn_course.gameworld.oracle import Box, State
from snn_course.gameworld.retina import COLUMNS, ROWS

import numpy as np

NEXT_FRAME = """() => new Promise((done) => requestAnimationFrame(() => {
  const drawn = performance.timeOrigin + performance.now();
  const picture = window.retina(document.querySelector("canvas"));
  done([picture, drawn, window.__frames, STATE]);
}))"""


class _PageGame:
    """What both games in a page share: pictures from its canvas, and a key that comes up by itself."""

    def __init__(self, chromium: Chromium) -> None:
        self.chromium = chromium
        self.up_at: float | None = None
        self.pressed: list[float] = []

    def observe(self) -> Frame:
        """Wait for the next frame, and read the ink of its canvas."""
        if self.up_at is not None and time.time() >= self.up_at:
            self.release()
        return self._frame(NEXT_FRAME.replace("STATE", "null"))[0]

    def _frame(self, script: str) -> tuple[Frame, Any]:
        text, drawn, number, state = self.chromium.ask(script)
        picture = np.frombuffer(base64.b64decode(text), np.uint8).reshape(ROWS, COLUMNS)
        return Frame(picture, drawn / 1000, number), state

    def press(self, hold: float) -> None:
        """Press Space; ``observe`` releases it when its time is over."""
        self.release()
        self.pressed.append(time.time())
        self.chromium.call(lambda: self.chromium.page.keyboard.down("Space"))
        self.up_at = time.time() + hold

    def release(self) -> None:
        """Let the key go if it is down: of one that comes up, a crashed game would start anew."""
        if self.up_at is not None:
            self.up_at = None
            self.chromium.call(lambda: self.chromium.page.keyboard.up("Space"))

    def hold(self, seconds: float) -> None:
        """Keep the key down for so long, and wait."""
        self.press(seconds)
        time.sleep(seconds)
        self.release()

    def screenshot(self) -> bytes:
        """Give the whole window as a PNG: what the contract of one screenshot a step shows."""
        return self.chromium.call(lambda: self.chromium.page.screenshot(type="png"))

    def forget_keys(self) -> None:
        """Forget what was pressed so far."""
        self.key_times()

    def key_times(self) -> list[tuple[float, float, float]]:
        """Give for each press: when it was made, heard by the page, and followed by a frame. Seconds."""
        heard = self.chromium.ask("() => window.__keys.splice(0)")
        pressed, self.pressed = self.pressed, []
        return [(at, keys[0] / 1000, keys[1] / 1000) for at, keys in zip(pressed, heard, strict=False)]

    def close(self) -> None:
        """Close the browser."""
        self.chromium.close()


class CoursePage(_PageGame):
    """The course's runner in a browser: the obstacles of a seed, at 60 steps a second."""

    def __init__(self, chromium: Chromium, url: str, seed: int = 1) -> None:
        super().__init__(chromium)
        self.seed = seed
        chromium.call(lambda: chromium.page.goto(f"{url}?seed={seed}"))
        chromium.call(lambda: chromium.page.wait_for_function("() => window.course && course.ready"))

    def reset(self) -> None:
        """Start the game of the seed again."""
        self.release()
        self.chromium.ask("(seed) => gameAPI.reset({seed})", self.seed)
        self.chromium.ask("() => { course.started = true; }")

    def status(self) -> Status:
        """Read the contract's state."""
        state = self.chromium.ask("() => gameAPI.getState()")
        return Status(state["game_state"]["score"], state["terminal"]["isTerminal"])


RUNNER = "() => { try { return Boolean(Runner.getInstance()); } catch { return false; } }"
CRASHED = "() => Runner.getInstance().crashed"
RESTART = "() => Runner.getInstance().restart()"
SCORE = """() => {
  const game = Runner.getInstance();
  return [game.distanceMeter.getActualDistance(game.distanceRan), game.crashed];
}"""
ORACLE = """(() => {
  const { tRex, horizon, currentSpeed } = Runner.getInstance();
  const obstacles = horizon.obstacles.map((one) =>
    [one.xPos, one.width, one.yPos, one.typeConfig.height, currentSpeed + one.speedOffset]);
  return { x: tRex.xPos, y: tRex.yPos, velocity: tRex.jumpVelocity, jumping: tRex.jumping,
    speed: currentSpeed, obstacles };
})()"""
GROUND, BODY, EDGE = 93, (6, 4, 32, 41), 3
"""The dinosaur's place when it runs, its box, and how much of an obstacle's edges may be touched. Pixels."""


class Dino(_PageGame):
    """The game that Chromium shows when it is offline; ``reset`` starts each game."""

    def __init__(self, chromium: Chromium) -> None:
        super().__init__(chromium)
        from playwright.sync_api import Error

        with suppress(Error):  # the page is there, though it says ERR_INTERNET_DISCONNECTED
            chromium.page.goto("chrome://dino")
        self._await(RUNNER)
        chromium.call(lambda: chromium.page.keyboard.press("Space"))
        self._await("() => Runner.getInstance().playing")
        self._await(CRASHED)  # the first run updates twice a frame, any later one once: nobody plays it
        self.forget_keys()

    def _await(self, script: str) -> None:
        """Wait until the page says yes. Until it has settled, it may drop a question."""
        end = time.monotonic() + self.chromium.limit
        while time.monotonic() < end:
            with suppress(Lost):
                if self.chromium.ask(script):
                    return
            if not self.chromium.alive:
                break
            time.sleep(0.05)
        raise Lost(f"chrome://dino did not show its game within {self.chromium.limit:g} s.")

    def reset(self) -> None:
        """Start a new game."""
        self.release()
        self._await(CRASHED)  # ended by force, it would go on beside the new one
        self.chromium.ask(RESTART)
        self._await("() => Runner.getInstance().playing && !Runner.getInstance().crashed")

    def status(self) -> Status:
        """Read score and crash from the page's own objects."""
        score, crashed = self.chromium.ask(SCORE)
        return Status(int(score), bool(crashed))

    def observe_both(self) -> tuple[Frame, State]:
        """Wait for the next frame; give what the agent sees, and what the oracle reads at that moment."""
        frame, told = self._frame(NEXT_FRAME.replace("STATE", ORACLE))
        x, y, wide, high = BODY
        boxes = []
        for left, width, top, tall, speed in told["obstacles"]:
            boxes.append(Box(left + EDGE, left + width - EDGE, top + EDGE, top + tall - EDGE, speed))
        state = State(
            left=told["x"] + x,
            right=told["x"] + x + wide,
            top=GROUND + y,
            bottom=GROUND + y + high,
            speed=told["speed"],
            height=GROUND - told["y"],
            velocity=told["velocity"],
            jumping=told["jumping"],
            boxes=tuple(boxes),
        )
        return frame, state
