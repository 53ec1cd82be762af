"""Players that learn nothing, what others have published, and the file of all episodes.

A reward means little alone. A random player marks the bottom; the rule of the built-in opponent, played for
our side, shows how far one gets by following the ball; ``PUBLISHED`` has people and deep networks.
"""

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from snn_course import safe_write
from snn_course.pong.emulator import ACTIONS, LONGEST, Played, Policy, single

import numpy as np
import numpy.typing as npt

# ---------------------------------------------------------------------- players


def random_player(seed: int) -> Policy:
    """Make a player that draws each action from stay, up and down; the same ones for the same seed."""
    rng = np.random.default_rng(seed)
    return lambda frames: rng.integers(len(ACTIONS), size=len(frames))


BALL, PADDLE = 54, 51
"""Bytes of the Atari's RAM: heights of the ball (0: none in play) and of our paddle, growing downwards."""
MIDDLE, DEAD_ZONE = 8, 12
"""Height of the paddle's middle above its byte, and the distance at which it stays. Both by trial."""

Ram = npt.NDArray[np.uint8]
Rule = Callable[[Ram, Ram], int]
"""From the RAM of this decision and of the one before to the action, 0 .. 2."""


def mirror(ram: Ram, before: Ram) -> int:
    """Move the paddle towards the ball's height: the built-in opponent's rule.

    Ours needs foresight, since its paddle is heavy: one decision moves it by up to 23 pixels, and it glides
    on. So the rule compares where the ball will be after two decisions with where the paddle will be after
    one. It reads in the RAM what the agents must find in pictures, so it is no fair rival, but a mark.
    """
    ball, paddle = int(ram[BALL]), int(ram[PADDLE])
    if not ball:
        return 0
    ball_moves = ball - int(before[BALL]) if before[BALL] else 0
    paddle_moves = paddle - int(before[PADDLE])
    below = (ball + 2 * ball_moves) - (paddle + paddle_moves + MIDDLE)
    if abs(below) <= DEAD_ZONE:
        return 0
    return 2 if below > 0 else 1


def play_mirror(seeds: Sequence[int], rule: Rule = mirror, most: int = LONGEST) -> list[Played]:
    """Play one episode for each seed by a rule that reads the RAM, in the game in which agents are judged.

    Args:
        seeds: as of ``emulator.play``.
        rule: what to do.
        most: decisions after which an episode ends as it stands.
    """
    game, played = single(), []
    for seed in seeds:
        game.reset(seed=seed)
        ram = before = game.unwrapped.ale.getRAM()
        total, decisions, over = 0.0, 0, False
        while decisions < most and not over:
            _, reward, ended, cut, _ = game.step(int(ACTIONS[rule(ram, before)]))
            total, decisions, over = total + float(reward), decisions + 1, ended or cut
            before, ram = ram, game.unwrapped.ale.getRAM()
        played.append(Played(seed, total, decisions))
    game.close()
    return played


# ---------------------------------------------------------------------- published


@dataclass(frozen=True)
class Published:
    """A reward that others report, and by which rules it was earned."""

    name: str
    mean: float
    spread: float | None
    """Standard deviation over runs, or over episodes where there was one run; None: not told."""
    frames: float | None
    """Frames of play to learn from, in millions: 4 a decision. None: nothing was learnt from frames."""
    sticky: bool
    """Whether an action was repeated in place of the new one with the chance 0.25, as in our games."""
    source: str


_MNIH = "Mnih et al. 2015, Nature 518, extended data table 2"
_CLEANRL = "CleanRL documentation, "
_DOPAMINE = "Dopamine (Castro et al. 2018, arXiv 1812.06110), baselines/atari/data/"
_LEGACY, _NATURE, _IMPALA = (_DOPAMINE + f"pong{name}.json" for name in ("", "_CNN", "_Impala"))
PUBLISHED = (
    Published("random", -20.7, None, None, False, _MNIH),
    Published("human tester", 9.3, None, None, False, _MNIH),
    Published("DQN", 18.9, 1.3, 200, False, _MNIH),
    Published("dqn_atari", 20.25, 0.41, 40, False, _CLEANRL + "DQN"),
    Published("ppo_atari", 20.36, 0.20, 40, False, _CLEANRL + "PPO"),
    Published("pqn_atari_envpool", 20.49, 0.11, 40, False, _CLEANRL + "PQN"),
    Published("DQN", 5.7, 10.3, 20, True, _LEGACY),
    Published("DQN, Adam", 14.3, 3.0, 20, True, _NATURE),
    Published("C51", 14.2, 2.1, 20, True, _LEGACY),
    Published("QR-DQN", 18.3, 0.5, 20, True, _NATURE),
    Published("IQN", 18.3, 0.5, 20, True, _NATURE),
    Published("Rainbow", 18.8, 0.6, 20, True, _NATURE),
    Published("Rainbow, Impala", 19.5, 0.5, 20, True, _IMPALA),
    Published("IQN, Impala", 19.9, 0.2, 20, True, _IMPALA),
    Published("DQN, Adam", 18.0, 1.0, 40, True, _NATURE),
    Published("QR-DQN", 19.1, 0.2, 40, True, _NATURE),
    Published("IQN", 19.2, 0.7, 40, True, _NATURE),
    Published("Rainbow", 19.6, 0.6, 40, True, _NATURE),
    Published("Rainbow, Impala", 19.9, 0.5, 40, True, _IMPALA),
    Published("IQN, Impala", 20.3, 0.1, 40, True, _IMPALA),
    Published("DQN", 16.6, 2.2, 199, True, _LEGACY),
    Published("DQN, Adam", 19.5, 0.2, 200, True, _NATURE),
    Published("QR-DQN", 19.6, 0.1, 200, True, _NATURE),
    Published("IQN", 19.7, 0.6, 200, True, _NATURE),
    Published("Rainbow", 20.2, 0.3, 200, True, _NATURE),
    Published("IQN, Impala", 20.5, 0.1, 200, True, _IMPALA),
)
"""Published rewards in Pong, by two protocols: one may be compared with those of its own protocol alone.

Those of Dopamine are points of its learning curves, so they are means over the episodes of training, in
which one action in a hundred is random, of the iteration that ends at these frames (1 M frames each), and
over 5 runs. "Impala" says that the network was the larger one of Espeholt et al. (2018); the others have
that of Mnih et al. (2015). We play without random actions, so ours have a little advantage.
"""


def best_published(frames: float, sticky: bool) -> Published:
    """Give the best published player of a protocol after so many millions of frames."""
    return max((p for p in PUBLISHED if (p.frames, p.sticky) == (frames, sticky)), key=lambda p: p.mean)


# ---------------------------------------------------------------------- episodes


@dataclass(frozen=True)
class Episode:
    """One episode: who played, how it was run, and how it ended."""

    agent: str
    execution: str
    seed: int
    reward: float
    decisions: int


def write_csv(path: Path, rows: Sequence[Episode]) -> None:
    """Write episodes as CSV with a head line. Raises: UsageError when the file cannot be written."""
    text = io.StringIO(newline="")  # csv ends the lines itself
    writer = csv.DictWriter(text, [field.name for field in fields(Episode)])
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    safe_write.write(path, text.getvalue())
