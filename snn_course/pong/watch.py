"""Watch an agent play: a clip of the screen, what the network sees of it, and what each layer answers.

    record(Path("pong.gif"), LevelNet(net.to_integers()).outputs, seed=0)

A game is played until some points are over and the ball is in play; from then on each decision is one picture
of the clip. Numpy and Pillow draw it in about 5 ms a picture; 8 seconds are 0.6 MB as a GIF.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snn_course.runs import figures
from snn_course import UsageError, safe_write
from snn_course.pong import agents
from snn_course.pong.emulator import ACTIONS, COURT, NAMES, STACK, See, single

import numpy as np
import numpy.typing as npt
import torch
from matplotlib import colormaps
from PIL import Image, ImageDraw, ImageFont

WIDTH, HEIGHT = 720, 444
"""Size of a picture, pixels. Even, as video codecs want it."""
DECISIONS_A_SECOND = 15
LEFT, TOP, ACROSS = 332, 24, 380
"""Where the right half starts, and how wide it is; the colour screen, twice its size, is on its left."""
DARK, PALE = "#202020", "#D8D8D8"
MOST = 15
"""Brightest value of what the network sees."""

Picture = npt.NDArray[np.uint8]
Layers = Callable[[torch.Tensor], list[torch.Tensor]]
"""From inputs [1, C, rows, columns] to what leaves each layer, [1, ...]; the last is Q [1, 3]."""


@dataclass(frozen=True)
class Moment:
    """One decision.

    screen: colour picture [210, 160, 3]. seen: the network's input [C, rows, columns]. activity: of each
    layer but the last, [C, H, W] or [N]. q: [3]. score: points of the opponent and of the network.
    """

    decision: int
    score: tuple[int, int]
    screen: Picture
    seen: npt.NDArray[Any]
    activity: list[npt.NDArray[Any]]
    q: npt.NDArray[Any]


@dataclass(frozen=True)
class Clip:
    """Some decisions, and how to call them."""

    moments: Sequence[Moment]
    title: str
    eyes: agents.Eyes

    @property
    def tops(self) -> list[float]:
        """Largest value of each layer in the clip; at least 1."""
        layers = zip(*(moment.activity for moment in self.moments), strict=True)
        return [max(1.0, *(float(values.max()) for values in layer)) for layer in layers]

    @property
    def gap(self) -> float:
        """Largest distance of a Q from the mean of its decision."""
        return max(float(np.abs(moment.q - moment.q.mean()).max()) for moment in self.moments)


def record(
    path: Path,
    layers: Layers,
    seed: int = 0,
    seconds: float = 8.0,
    skip: int = 2,
    title: str = "",
    eyes: agents.Eyes = "levels",
) -> Clip:
    """Play one game, greedily and with sticky actions, and keep a part of it as a GIF or MP4.

    Args:
        path: of the clip, ending in .gif or .mp4.
        layers: the network.
        seed: of the game.
        seconds: length of the clip; it is shorter where the game ends.
        skip: points to play before it starts, 0 to 20.
        title: says who plays.
        eyes: what the network sees.

    Returns: what was drawn. Raises: UsageError for another ending or number of points, or without Pong.
    """
    if path.suffix.lower() not in {".gif", ".mp4"}:
        raise UsageError(f"{path}: a clip ends in .gif or .mp4.")
    if not 0 <= skip <= 20:
        raise UsageError(f"Skip 0 to 20 points, not {skip}: the 21st may end the game.")
    count = max(1, round(seconds * DECISIONS_A_SECOND))
    clip = Clip(_play(layers, agents.EYES[eyes], seed, count, skip), title, eyes)
    pictures = draw(clip)
    with safe_write.aside(path) as part:
        _write(part, pictures)
    return clip


@torch.no_grad()
def _play(layers: Layers, see: See, seed: int, count: int, skip: int) -> list[Moment]:
    """Play until there are ``count`` moments, or the game ends. The first has the ball in play."""
    game = single(render=True)
    frames, _ = game.reset(seed=seed)
    score, decision, over = [0, 0], 0, False
    moments: list[Moment] = []
    while len(moments) < count and not over:
        x = see(frames[None])
        *activity, q = (values[0].cpu().numpy() for values in layers(x))
        ball = (frames[STACK - 1, COURT] > 150).any()  # paddles are darker
        if moments or (sum(score) >= skip and ball):
            moments.append(Moment(decision, (score[0], score[1]), game.render(), x[0].numpy(), activity, q))
        frames, reward, ended, cut, _ = game.step(int(ACTIONS[q.argmax()]))
        score[int(reward > 0)] += int(reward != 0)
        decision, over = decision + 1, ended or cut
    game.close()
    return moments


# ====================================================================== drawing


def draw(clip: Clip) -> list[Picture]:
    """Draw a clip: pictures [HEIGHT, WIDTH, 3]."""
    tops, gap = clip.tops, clip.gap
    return [_picture(moment, clip, tops, gap) for moment in clip.moments]


def titles(moment: Moment) -> list[str]:
    """Give a line for each layer: its plain name, and how much it sends for this decision."""
    convolutions = sum(values.ndim == 3 for values in moment.activity)
    lines = []
    for number, values in enumerate(moment.activity, 1):
        name = f"convolution {number}, {len(values)} filters"
        if values.ndim == 1:
            which = f" {number - convolutions}" if len(moment.activity) > convolutions + 1 else ""
            name = f"dense layer{which}, {len(values)} neurons"
        lines.append(f"{name}: {int(values.sum()):,} spikes")
    return lines


def tiles(values: npt.NDArray[Any], top: float, width: int = ACROSS) -> Picture:
    """Draw activity [C, H, W] or [N] as a grid of tiles, white lines between them, at most ``width`` wide."""
    rows = 2 if values.ndim == 3 else 4
    values = values.reshape(len(values), *values.shape[1:], *[1] * (3 - values.ndim))
    channels, high, wide = values.shape
    columns = -(-channels // rows)
    scale = max(1, (width // columns - 1) // wide)
    shown = colours(values, top).repeat(scale, axis=1).repeat(scale, axis=2)
    grid = np.full((rows * columns, high * scale + 1, wide * scale + 1, 3), 255, dtype=np.uint8)
    grid[:channels, :-1, :-1] = shown
    grid = grid.reshape(rows, columns, *grid.shape[1:]).swapaxes(1, 2)  # [rows, h, columns, w, 3]
    return grid.reshape(rows * grid.shape[1], columns * grid.shape[3], 3)


def colours(values: npt.NDArray[Any], top: float) -> Picture:
    """Give values [...] 0 .. top as colours [..., 3]: dark blue to yellow."""
    return CIVIDIS[np.clip(np.rint(values * (SHADES - 1) / top), 0, SHADES - 1).astype(int)]


def eye(seen: npt.NDArray[Any], eyes: agents.Eyes) -> Picture:
    """Draw what came last of seen [C, rows, columns]: the picture, or the events, ON before OFF."""
    if eyes != "events":
        return colours(seen[STACK - 1], MOST)
    on, off = seen[-2:, ..., None] > 0
    return np.where(on, _rgb(figures.BLUE), np.where(off, _rgb(figures.ORANGE), _rgb("#F2F2F2")))


def _rgb(colour: str) -> Picture:
    return np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)], dtype=np.uint8)


SHADES = 16
"""Colours of an activity: one for each of the 16 levels, and few, so that a GIF stays small."""
CIVIDIS = (colormaps["cividis"](np.linspace(0, 1, SHADES))[:, :3] * 255).round().astype(np.uint8)


def _picture(moment: Moment, clip: Clip, tops: list[float], gap: float) -> Picture:
    image = Image.new("RGB", (WIDTH, HEIGHT), "white")
    pen = ImageDraw.Draw(image)
    screen = Image.fromarray(moment.screen).resize((320, 420), Image.Resampling.NEAREST)
    image.paste(screen, (0, TOP))
    opponent, network = moment.score
    _text(pen, (6, 4), f"{clip.title or 'A network'} plays the green paddle", bold=True)
    _text(pen, (LEFT + ACROSS, 4), f"{opponent} : {network}, decision {moment.decision}", anchor="ra")
    _paste(image, eye(moment.seen, clip.eyes).repeat(3, axis=0).repeat(3, axis=1), (LEFT, 46))
    if clip.eyes != "events":
        _text(pen, (LEFT, 28), "The network sees")
    else:
        _text(pen, (LEFT, 28), "Events:")
        _text(pen, (LEFT + 52, 28), "ON", bold=True, colour=figures.BLUE)
        _text(pen, (LEFT + 80, 28), "OFF", bold=True, colour=figures.ORANGE)
    _bars(pen, moment.q, gap, (LEFT + 150, 28))
    y = 148
    for line, values, top in zip(titles(moment), moment.activity, tops, strict=True):
        _text(pen, (LEFT, y), line[0].upper() + line[1:])
        grid = tiles(values, top)
        _paste(image, grid, (LEFT, y + 17))
        y += 17 + len(grid) + 12
    return np.asarray(image)


def _bars(pen: ImageDraw.ImageDraw, q: npt.NDArray[Any], gap: float, at: tuple[int, int]) -> None:
    """Draw each Q as a bar to the right or left of their mean; the chosen action is orange."""
    (x, y), middle, half = at, at[0] + 132, 46
    _text(pen, at, "Q values, bars from their mean")
    for number, (name, value) in enumerate(zip(NAMES, q, strict=True)):
        row, chosen = y + 22 + 30 * number, number == q.argmax()
        end = middle + round(half * float(value - q.mean()) / max(gap, 1e-9))
        _text(pen, (x, row + 3), ("> " if chosen else "") + name, bold=chosen)
        pen.rectangle((middle - half, row, middle + half, row + 20), outline=PALE)
        ends = (min(middle, end), row + 2, max(middle, end), row + 18)
        pen.rectangle(ends, fill=figures.ORANGE if chosen else figures.SKY)
        _text(pen, (x + 230, row + 3), f"{value:z.3f}", bold=chosen, anchor="ra")


def _paste(image: Image.Image, picture: Picture, at: tuple[int, int]) -> None:
    image.paste(Image.fromarray(picture), at)


FONT = ImageFont.load_default(13)
"""The one that Pillow carries: the same on each system."""


def _text(
    pen: ImageDraw.ImageDraw,
    at: tuple[int, int],
    line: str,
    bold: bool = False,
    anchor: str = "la",
    colour: str = DARK,
) -> None:
    pen.text(at, line, colour, font=FONT, anchor=anchor, stroke_width=0.3 if bold else 0)


# ====================================================================== files


def _write(part: Path, pictures: list[Picture]) -> None:
    if part.suffix.lower() == ".mp4":
        import imageio.v2 as imageio

        imageio.mimwrite(part, [*pictures], fps=DECISIONS_A_SECOND, macro_block_size=2)
        return
    palette = _palette(pictures[0])
    first, *rest = (Image.fromarray(p).quantize(palette=palette, dither=Image.Dither.NONE) for p in pictures)
    lasts = [(70, 70, 60)[number % 3] for number in range(len(pictures))]  # ms; a GIF counts in 10
    # optimize: of each picture only the pixels that changed, a third of the size
    first.save(part, save_all=True, append_images=rest, duration=lasts, loop=0, optimize=True)


def _palette(picture: Picture) -> Image.Image:
    """Give one palette for all pictures: cividis, greys for the text, the course's colours, the screen's."""
    screen = np.unique(picture[TOP : TOP + 420, :320].reshape(-1, 3), axis=0)[:64]
    greys = np.linspace(32, 255, 16).round().astype(np.uint8)[:, None].repeat(3, axis=1)
    named = [_rgb(colour) for colour in (*figures.COLOURS, PALE, "#F2F2F2")]
    image = Image.new("P", (1, 1))
    image.putpalette(np.concatenate([CIVIDIS, greys, named, screen]).tobytes())
    return image
