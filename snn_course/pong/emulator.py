"""Atari Pong, and what an agent sees of it.

Pictures come as the Atari literature has them (Mnih et al. 2015; Machado et al. 2018): every fourth frame,
the maximum of the last two, grey, 84x84, the latest four stacked; at each frame, with probability 0.25, the
last action goes on instead of the new one ("sticky"). Two emulators give the same pictures: Gymnasium's
wrappers, one game at a time, in which every agent is judged; and ale-py's vector of games in C++, twice as
fast, for training.

What the network gets is smaller, and made for the chip (``levels``): the court without score and walls, which
say nothing about the ball and would send events in every frame, at half the resolution, in 4 bits.

A network may also be told what it did last (``known``). The paddle answers late: an action shows one to two
decisions after it was taken, so pictures alone do not tell where the paddle is going. Frames therefore have a
fifth plane, the number of the last action.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from snn_course import COMMAND, UsageError

import numpy as np
import numpy.typing as npt
import torch

ACTIONS = np.array([0, 2, 3])
"""ALE's numbers for stay, up and down. Pong's other three do the same with the fire button."""
NAMES = ("stay", "up", "down")
STICKY = 0.25
STACK, SIDE = 4, 84
COURT = slice(14, 76)
"""Rows of the 84x84 picture between the walls."""
LONGEST = 27_000
"""Decisions of an episode at most: half an hour of play."""
POOL = (2, 2)
"""Rows and columns of the picture whose mean becomes one value for the network."""
SHAPE = (STACK, (COURT.stop - COURT.start) // POOL[0], SIDE // POOL[1])
"""Shape of the pictures that the network sees, (frames, rows, columns); the latest frame is the last."""
KNOWN = (STACK + 2, *SHAPE[1:])
"""Shape of all that a network may know: the pictures, "I went up" and "I went down"."""
PADDLE = slice(36, 38)
"""Columns, as the network sees them, in which its own paddle moves."""
FULL = 15
"""The highest level."""
GREY, GREYS_A_LEVEL = 87, 4
"""Grey of the empty court, and greys for one level."""

Frames = npt.NDArray[np.uint8]
Policy = Callable[[Frames], npt.NDArray[np.int64]]
"""From frames [B, 5, 84, 84] to actions [B], 0 .. 2."""
See = Callable[[Frames], torch.Tensor]
"""From frames [B, 5, 84, 84] to the input of a network."""


def levels(frames: Frames) -> torch.Tensor:
    """Give the pictures of frames [..., 5, 84, 84] as the network sees them: uint8 [..., 4, rows, columns].

    level = clip((mean of the pooled pixels - 87) / 4, rounded, 0, 15), in integers: the mean is a sum of n.
    """
    court, (down, across) = frames[..., :STACK, COURT, :].astype(np.int16), POOL
    rows = functools.reduce(np.add, [court[..., row::down, :] for row in range(down)])
    total = functools.reduce(np.add, [rows[..., column::across] for column in range(across)])
    n = down * across
    above = total - n * GREY + n * GREYS_A_LEVEL // 2  # half a level more, so that the floor below rounds
    return torch.from_numpy((above // (n * GREYS_A_LEVEL)).clip(0, FULL).astype(np.uint8))


def known(frames: Frames) -> torch.Tensor:
    """Give all that the network knows of frames [B, 5, 84, 84]: uint8 [B, 6, rows, columns].

    These are ``levels``, and two planes: the paddle's columns are lit in one if the agent last went up, in
    the other if it went down.
    """
    last = torch.from_numpy(frames[:, STACK, 0, 0].astype(np.int64))  # ALE's number
    up_or_down = torch.from_numpy(ACTIONS[1:])
    lit = (last[:, None] == up_or_down).to(torch.uint8) * FULL  # [B, 2]
    planes = torch.zeros(len(frames), 2, *SHAPE[1:], dtype=torch.uint8)
    planes[..., PADDLE] = lit[:, :, None, None]
    return torch.cat([levels(frames), planes], 1)


def with_last(pictures: Frames, action: npt.NDArray[Any]) -> Frames:
    """Add to pictures [B, 4, 84, 84] a plane with ALE's number of the last action [B]."""
    plane = np.broadcast_to(action[:, None, None, None], (len(pictures), 1, SIDE, SIDE))
    return np.concatenate([pictures, plane.astype(np.uint8)], 1)


class Games:
    """ale-py's vector of games, whose frames have the plane of the last action."""

    def __init__(self, env: Any) -> None:
        self.env = env

    def reset(self, seed: int) -> Frames:
        """Begin all games; nothing was done yet, which is ALE's action 0. Returns: frames [B, 5, 84, 84]."""
        pictures, _ = self.env.reset(seed=seed)
        return with_last(pictures, np.zeros(len(pictures)))

    def step(self, action: npt.NDArray[np.int64]) -> tuple[Any, ...]:
        """Take ALE's actions [B]. Returns: frames, points, what ended, what was cut off, and more."""
        pictures, points, dead, cut, more = self.env.step(action)
        return with_last(pictures, np.where(dead | cut, 0, action)), points, dead, cut, more

    def close(self) -> None:
        """Close the games."""
        self.env.close()


class Game:
    """One game of Gymnasium, whose frames have the plane of the last action."""

    def __init__(self, env: Any) -> None:
        self.env, self.unwrapped = env, env.unwrapped

    def reset(self, seed: int | None = None) -> tuple[Frames, Any]:
        """Begin a game. Returns: frames [5, 84, 84], and more."""
        pictures, more = self.env.reset(seed=seed)
        return with_last(pictures[None], np.zeros(1))[0], more

    def step(self, action: int) -> tuple[Any, ...]:
        """Take ALE's action. Returns: frames, the point, whether it ended or was cut off, and more."""
        pictures, *told = self.env.step(action)
        return with_last(pictures[None], np.array([action]))[0], *told

    def render(self) -> Any:
        """Give the screen."""
        return self.env.render()

    def close(self) -> None:
        """Close the game."""
        self.env.close()


def many(count: int, seed: int, sticky: float = STICKY, noop_max: int = 30) -> tuple[Games, Frames]:
    """Start a vector of games for training; a finished one starts again in the same step.

    The games share the threads that PyTorch has; how many these are changes nothing in what they show.

    Returns: the games, whose ``step`` takes ALE's actions [count]; frames [count, 5, 84, 84].
    Raises: UsageError where ale-py or the ROM is missing.
    """
    _require_rom()
    from ale_py.vector_env import AtariVectorEnv
    from gymnasium.vector import AutoresetMode

    env = AtariVectorEnv(
        "pong",
        count,
        repeat_action_probability=sticky,
        noop_max=noop_max,
        use_fire_reset=False,
        num_threads=torch.get_num_threads(),
        autoreset_mode=AutoresetMode.SAME_STEP,
    )
    games = Games(env)
    return games, games.reset(seed)


def single(sticky: float = STICKY, noop_max: int = 30, render: bool = False) -> Game:
    """Make one game from Gymnasium's wrappers; frames are arrays [5, 84, 84].

    Raises: UsageError where ale-py or the ROM is missing.
    """
    _require_rom()
    import ale_py
    import gymnasium
    from gymnasium.wrappers import AtariPreprocessing, FrameStackObservation

    gymnasium.register_envs(ale_py)
    game = gymnasium.make(
        "ALE/Pong-v5",
        frameskip=1,  # AtariPreprocessing skips the frames: both would skip 16
        repeat_action_probability=sticky,
        obs_type="grayscale",  # nobody looks at it: AtariPreprocessing asks for the screens itself
        render_mode="rgb_array" if render else None,
        disable_env_checker=True,  # ALE's own tests cover it; here it costs time
    )
    seen = AtariPreprocessing(game, noop_max=noop_max, frame_skip=4, screen_size=SIDE)
    return Game(FrameStackObservation(seen, STACK, padding_type="zero"))


class Played(NamedTuple):
    """One episode: its seed, the reward (points won minus points lost, -21 .. 21), decisions it took."""

    seed: int
    reward: float
    decisions: int


def play(policy: Policy, seeds: Sequence[int], most: int = LONGEST, sticky: float = STICKY) -> list[Played]:
    """Play one episode for each seed, side by side, through Gymnasium's wrappers.

    The seed decides the number of idle frames at the start (1 to 30) and at which frames the old action
    goes on, each with the chance ``sticky``. After ``most`` decisions an episode ends as it stands.
    """
    games = [single(sticky) for _ in seeds]
    frames = [game.reset(seed=seed)[0] for game, seed in zip(games, seeds, strict=True)]
    played, running = [Played(seed, 0.0, 0) for seed in seeds], list(range(len(games)))
    while running:
        chosen = ACTIONS[policy(np.stack([frames[i] for i in running]))]
        still = []
        for i, action in zip(running, chosen, strict=True):
            frames[i], reward, ended, cut, _ = games[i].step(int(action))
            played[i] = Played(played[i].seed, played[i].reward + float(reward), played[i].decisions + 1)
            still += [] if ended or cut or played[i].decisions == most else [i]
        running = still
    return played


def pictures(policy: Policy, count: int, seed: int, games: int) -> Frames:
    """Let an agent play, one decision in twenty at random. Returns: what it saw, [count, 5, 84, 84]."""
    rng = np.random.default_rng(seed)
    env, frames = many(games, seed)
    seen: list[Frames] = []
    while games * len(seen) < count:
        seen.append(frames.copy())
        action = np.where(rng.random(games) < 0.05, rng.integers(len(ACTIONS), size=games), policy(frames))
        frames, *_ = env.step(ACTIONS[action])
    env.close()
    return np.concatenate(seen)[:count]


def difference(decisions: int, seed: int) -> float:
    """Give the largest difference of frames and rewards between both emulators, for the same actions.

    Sticky actions and idle steps at the start are off: each emulator draws its own.
    """
    rng = np.random.default_rng(seed)
    (env, frames), game = many(1, seed, sticky=0.0, noop_max=0), single(sticky=0.0, noop_max=0)
    found = [np.abs(frames[0].astype(int) - game.reset(seed=seed)[0]).max()]
    for action in ACTIONS[rng.integers(len(ACTIONS), size=decisions)]:
        frames, points, *_ = env.step(np.array([action]))
        picture, point, ended, cut, _ = game.step(int(action))
        found += [np.abs(frames[0].astype(int) - picture).max(), abs(points[0] - point)]
        if ended or cut:
            break
    env.close()
    game.close()
    return float(max(found))


def _require_rom() -> None:
    """Raise UsageError, with the remedy, unless Pong can be played."""
    try:
        from ale_py import ALEInterface, LoggerMode, roms

        ALEInterface.setLoggerMode(LoggerMode.Error)  # else each start tells the emulator's version
        found = roms.get_rom_path("pong")
    except ImportError:
        raise UsageError(f"ale-py is not installed: '{COMMAND} env' mends it.") from None
    except OSError:  # a ROM that is missing, or has another digest
        found = None
    if found is None or not found.is_file():
        raise UsageError("Pong's ROM is missing: reinstall it with 'pip install --force-reinstall ale-py'.")
