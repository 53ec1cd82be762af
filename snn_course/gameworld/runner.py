"""The course's runner game without a browser: the twin of ``page/runner.js``, equal in every pixel.

Rules and pictures are read from the page's own ``rules.json``; both twins count in IEEE double precision and
draw random numbers from the same 32-bit generator, so one seed gives one game, here and in the browser. Here
it runs as fast as a core allows: training needs no browser.
"""

import functools
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

PAGE = Path(__file__).parent / "page"
"""The folder that is served to a browser."""
STEPS_A_SECOND = 60

Picture = npt.NDArray[np.uint8]


@functools.cache
def rules() -> dict[str, Any]:
    """Read the rules that both twins share."""
    return json.loads((PAGE / "rules.json").read_text(encoding="utf-8"))


class Dice:
    """Seeded numbers 0 .. 1: Tommy Ettinger's mulberry32."""

    def __init__(self, seed: int) -> None:
        self.state = seed & 0xFFFFFFFF

    def next(self) -> float:
        """Draw a number from 0 to below 1."""
        self.state = (self.state + 0x6D2B79F5) & 0xFFFFFFFF
        t = (self.state ^ (self.state >> 15)) * (self.state | 1) & 0xFFFFFFFF
        t = (t + ((t ^ (t >> 7)) * (t | 61) & 0xFFFFFFFF) & 0xFFFFFFFF) ^ t
        return (t ^ (t >> 14)) / 4294967296

    def below(self, count: int) -> int:
        """Draw a whole number from 0 to below ``count``."""
        return math.floor(self.next() * count)


@dataclass
class Obstacle:
    """Something to jump over, or to run under. Pixels; ``x`` and ``y`` are its left and upper edge."""

    kind: int
    count: int
    x: float
    y: int
    width: int
    drift: float
    gap: int


class Runner:
    """One game. ``advance`` plays a step; a crash ends it."""

    def __init__(self, seed: int) -> None:
        self.rules = rules()
        self.reset(seed)

    def reset(self, seed: int) -> None:
        """Start the game of a seed."""
        ground, clouds = self.rules["ground"], self.rules["clouds"]
        self.seed = seed & 0xFFFFFFFF
        self.dice = dice = Dice(seed)
        self.step = 0
        self.distance = 0.0
        self.speed: float = self.rules["speed"]["start"]
        self.y: int = self.rules["runner"]["ground"]
        self.velocity = 0.0
        self.jumping = False
        self.held = False
        self.crashed = False
        self.obstacles: list[Obstacle] = []
        self.specks = []
        for _ in range(ground["specks"]):
            x, y = dice.below(ground["length"]), ground["top"] + dice.below(ground["rows"])
            self.specks.append((x, y, 1 + dice.below(ground["longest"])))
        self.clouds = []
        for _ in range(clouds["count"]):
            self.clouds.append((dice.below(clouds["length"]), clouds["top"] + dice.below(clouds["rows"])))
        self.kinds: list[int] = []

    def skip(self, steps: int) -> None:
        """Start with the speed and the score of so many steps later, for training."""
        speed = self.rules["speed"]
        self.speed = min(speed["most"], speed["start"] + steps * speed["gain"])
        self.distance = (speed["start"] + self.speed) / 2 * steps
        self.step = self.rules["clear_steps"] - 40

    @property
    def score(self) -> int:
        """Points: one for each 40 pixels."""
        return math.floor(self.distance * self.rules["points_per_pixel"])

    @property
    def night(self) -> bool:
        """Whether the page is shown with its colours inverted."""
        return self.score // self.rules["night_every"] % 2 == 1

    def advance(self, held: bool) -> None:
        """Play one step of 1/60 s with the jump key down, or up."""
        if self.crashed:
            return
        speed = self.rules["speed"]
        self.step += 1
        self.speed = min(speed["most"], self.speed + speed["gain"])
        self.distance += self.speed
        self._jump(held)
        for one in self.obstacles:
            one.x -= self.speed + one.drift
        self.obstacles = [one for one in self.obstacles if one.x + one.width > 0]
        if self.step >= self.rules["clear_steps"]:
            self._grow()
        self.crashed = any(self.touches(one) for one in self.obstacles)

    def _jump(self, held: bool) -> None:
        r = self.rules["runner"]
        pressed = held and not self.held  # in the air a key that goes down does nothing, then or later
        self.held = held
        if pressed and not self.jumping:
            self.jumping = True
            self.velocity = r["jump"] - self.speed * r["jump_per_speed"]
        if not self.jumping:
            return
        self.y += math.floor(self.velocity + 0.5)
        self.velocity += r["gravity"]
        ends = self.y < r["highest"] or (not held and self.y < r["shortest"])
        if ends and self.velocity < r["released"]:
            self.velocity = r["released"]
        if self.y >= r["ground"]:
            self.y = r["ground"]
            self.velocity = 0.0
            self.jumping = False

    def _grow(self) -> None:
        """Let the next obstacle appear at the right edge, once the last one has left room."""
        last = self.obstacles[-1] if self.obstacles else None
        if last and last.x + last.width + last.gap >= self.rules["width"]:
            return
        gap, kinds, dice = self.rules["gap"], self.rules["obstacles"], self.dice
        kind = dice.below(len(kinds))
        while kinds[kind]["from_speed"] > self.speed or self.kinds[-2:].count(kind) == 2:
            kind = dice.below(len(kinds))
        self.kinds.append(kind)
        rule = kinds[kind]
        count = 1 + dice.below(3)
        if self.speed < rule["groups_from"]:
            count = 1
        wide = rule["width"] * count
        y = rule["heights"][dice.below(len(rule["heights"]))]
        drift = -rule["drift"] if dice.next() < 0.5 else rule["drift"]
        least = math.floor(wide * self.speed + rule["least_gap"] * gap["coefficient"] + 0.5)
        room = least + math.floor(dice.next() * (least * gap["spread"] - least))
        self.obstacles.append(Obstacle(kind, count, self.rules["width"], y, wide, drift, room))

    def touches(self, one: Obstacle) -> bool:
        """Tell whether the runner's box overlaps an obstacle's."""
        r, rule = self.rules["runner"], self.rules["obstacles"][one.kind]
        left = one.x + rule["box"][0]
        right = left + rule["box"][2] + rule["width"] * (one.count - 1)
        top = one.y + rule["box"][1]
        x, y, wide, high = r["box"]
        apart = r["x"] + x >= right or left >= r["x"] + x + wide
        return not (apart or self.y + y >= top + rule["box"][3] or top >= self.y + y + high)

    # ------------------------------------------------------------------ drawing

    def ink(self) -> Picture:
        """Draw the canvas [150, 600]: 0 is empty, and 172 the darkest ink."""
        canvas = np.zeros((self.rules["height"], self.rules["width"]), np.uint8)
        ink, ground = self.rules["ink"], self.rules["ground"]
        self._draw_clouds(canvas)
        canvas[ground["line"]] = ink
        run = math.floor(self.distance) % ground["length"]
        for x, y, long in self.specks:
            at = (x - run) % ground["length"]
            canvas[y, at : at + long] = ink
        for one in self.obstacles:
            self._draw_obstacle(canvas, one)
        runner = self.rules["runner"]
        stands = self.jumping or self.step == 0
        legs = runner["legs"][2 if stands else self.step // runner["stride"] % 2]
        _put(canvas, runner["body"], runner["x"], self.y, ink)
        _put(canvas, legs, runner["x"], self.y, ink)
        self._draw_score(canvas)
        return canvas

    def _draw_clouds(self, canvas: Picture) -> None:
        clouds = self.rules["clouds"]
        drift = math.floor(self.distance * clouds["parallax"])
        for x, y in self.clouds:
            _put(canvas, clouds["picture"], (x - drift) % clouds["length"] - 50, y, clouds["ink"])

    def _draw_obstacle(self, canvas: Picture, one: Obstacle) -> None:
        rule = self.rules["obstacles"][one.kind]
        flap = self.step // rule["flap"] % len(rule["pictures"]) if "flap" in rule else 0
        for number in range(one.count):
            x = math.floor(one.x) + number * rule["width"]
            _put(canvas, rule["pictures"][flap], x, one.y, self.rules["ink"])

    def _draw_score(self, canvas: Picture) -> None:
        score = self.rules["score"]
        wide, high = score["block"]
        for place, digit in enumerate(f"{self.score:0{score['digits']}}"[-score["digits"] :]):
            x = score["x"] + place * score["pitch"]
            canvas[score["y"] : score["y"] + 5 * high, x : x + 3 * wide] |= _glyph(int(digit))


@functools.cache
def _glyph(digit: int) -> Picture:
    """Give a digit as ink [10, 9]."""
    score = rules()["score"]
    cells = np.array([int(cell) for cell in score["glyphs"][digit]], np.uint8).reshape(5, 3)
    wide, high = score["block"]
    return cells.repeat(high, axis=0).repeat(wide, axis=1) * np.uint8(rules()["ink"])


def _put(canvas: Picture, parts: list[list[int]], x: int, y: int, ink: int) -> None:
    """Fill rectangles [x, y, width, height], moved by (x, y) and cut at the left edge."""
    for left, top, wide, high in parts:
        begin = x + left
        canvas[y + top : y + top + high, max(0, begin) : max(0, begin + wide)] = ink
