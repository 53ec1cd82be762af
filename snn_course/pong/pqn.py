"""PQN: Q-learning without a replay buffer, from many games at once (Gallici et al. 2025, algorithm 1).

32 games play 32 steps with the present network. Each decision's target is its lambda-return: the rewards that
came, and ever less of the Q that the network expects further on,

    G[t] = r[t] + gamma (1 - d[t]) ((1 - lambda) max Q(s[t+1]) + lambda G[t+1]),

and the network is trained on these 1,024 decisions, twice over; then they are thrown away. Where a DQN keeps
100,000 pictures and a second, older network, there is nothing here but the games. A point ends the return
(d = 1): what follows is a new rally. The learning rate falls to 0 to the end, which is worth about 4 points.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from snn_course.pong.emulator import ACTIONS, Frames, See, levels, many
from snn_course.pong.judging import to_train
from snn_course.pong.network import GAMMA
from snn_course.runs.divergence import finite
from snn_course.runs.run import Run

import numpy as np
import torch
from torch import nn
from torch.nn.functional import mse_loss

ROUND = 128
"""Updates between two stored states. Each round starts new games: so a resumed run equals an unbroken one."""


@dataclass(frozen=True)
class Recipe:
    """How to learn."""

    steps: int = 6_000_000
    """Decisions in all; each is 4 frames."""
    games: int = 32
    """Games side by side."""
    horizon: int = 32
    """Decisions of each game between two updates."""
    batch: int = 128
    """Decisions of a training step."""
    epochs: int = 2
    """Passes over the decisions of an update."""
    rate: float = 5e-4
    """Learning rate of RAdam at the start; it falls linearly to 0."""
    trace: float = 0.8
    """lambda: 0 looks one step ahead, 1 waits for the point."""
    explore: int = 200_000
    """Decisions in which the share of random ones falls from ``first`` to ``last``."""
    first: float = 1.0
    """Share of random decisions at the start."""
    last: float = 0.005
    """Share of random decisions in the end."""


History = list[dict[str, float]]


def learn(run: Run, name: str, net: nn.Module, recipe: Recipe, see: See = levels) -> History:
    """Train ``net`` to play, or go on where a killed run of this ``name`` stopped.

    Args:
        run: keeps the state of each round, shows the progress, gives the seed.
        name: of the kept state.
        net: from what it sees [B, C, rows, columns] to Q [B, 3].
        recipe: how to learn.
        see: what the network sees of the frames.

    Returns: for each round decisions ("steps"), CPU "seconds", the "reward" of an episode with this share of
    points won (``expected``), the number of "points", the loss and the mean Q.
    """
    optimizer = torch.optim.RAdam(net.parameters(), lr=recipe.rate)
    updates = max(1, recipe.steps // (recipe.games * recipe.horizon))
    return in_rounds(
        run,
        name,
        {"net": net, "optimizer": optimizer},
        updates,
        ROUND,
        lambda part: _round(run, name, net, see, optimizer, recipe, part),
    )


class Kept(Protocol):
    """What changes while it learns, and can be stored."""

    def state_dict(self) -> dict[str, Any]:
        """Give all of it."""
        ...

    def load_state_dict(self, state_dict: dict[str, Any], /) -> Any:
        """Take it over."""
        ...


def in_rounds(
    run: Run,
    name: str,
    kept: Mapping[str, Kept],
    count: int,
    size: int,
    play: Callable[[range], dict[str, float]],
) -> History:
    """Learn round by round, keep the state after each, and go on where a killed run of this ``name`` stopped.

    Args:
        run: keeps the state.
        name: of the kept state.
        kept: all that changes, by name.
        count: updates in all.
        size: updates of a round.
        play: does the updates of one round; it tells "steps", "reward" and "points" of it.

    Returns: what each round told, and the CPU "seconds" so far.
    """
    state = run.load(name, **kept) or {"history": []}
    history: History = state["history"]
    for first in range(len(history) * size, count, size):
        begun = time.process_time()
        told = play(range(first, min(first + size, count)))
        told["seconds"] = time.process_time() - begun + (history[-1]["seconds"] if history else 0)
        history.append(told)
        run.save(name, {"history": history} | {key: one.state_dict() for key, one in kept.items()})
        agreed = f"{told['agreement']:.1f} % agree, " if "agreement" in told else ""
        run.console.print(
            f"  {name}: {told['steps'] / 1e6:.2f} M decisions, {told['seconds']:.0f} s, "
            f"{agreed}reward {told['reward']:.1f} ({told['points']:.0f} points)"
        )
    return history


def _round(
    run: Run,
    name: str,
    net: nn.Module,
    see: See,
    optimizer: torch.optim.Optimizer,
    recipe: Recipe,
    updates: range,
) -> dict[str, float]:
    """Start new games, and play and train for some updates."""
    env, frames = many(recipe.games, to_train(1_000_003 * (run.seed + 1) + updates.start))
    losses, values, won, lost = list[float](), list[float](), 0, 0
    for update in run.progress(updates, name):
        done = update * recipe.games * recipe.horizon
        optimizer.param_groups[0]["lr"] = recipe.rate * (1 - done / recipe.steps)
        random = epsilon(done, recipe.explore, recipe.first, recipe.last)
        memory = play(env, frames, net, recipe.horizon, random, see)
        frames = memory.frames
        won, lost = won + int((memory.reward > 0).sum()), lost + int((memory.reward < 0).sum())
        target = returns(memory.q, memory.reward, recipe.trace)
        losses.append(_train(net, optimizer, recipe, memory, target))
        values.append(float(memory.q.max(-1).values.mean()))
    env.close()
    return {
        "steps": float((updates.stop) * recipe.games * recipe.horizon),
        "reward": expected(won, lost),
        "points": float(won + lost),
        "loss": float(np.mean(losses)),
        "q": float(np.mean(values)),
    }


def epsilon(done: int, explore: int, first: float, last: float) -> float:
    """Give the share of random decisions after ``done`` ones: *epsilon-greedy*, whose epsilon falls.

    It falls linearly from ``first`` to ``last`` within ``explore`` decisions, and stays there.
    """
    return max(last, first - (first - last) * done / explore)


@dataclass
class Memory:
    """What some games have seen and done: [horizon, games, ...]; q has one entry more, of the last frames."""

    seen: torch.Tensor
    action: torch.Tensor
    reward: torch.Tensor
    q: torch.Tensor
    frames: Frames


@torch.no_grad()
def play(
    env: Any,
    frames: Frames,
    net: nn.Module,
    horizon: int,
    random: float,
    see: See = levels,
) -> Memory:
    """Let the present network play on from ``frames``, with a share of ``random`` decisions.

    ``see`` turns frames [games, 5, 84, 84] into the network's input.
    """
    seen, action, reward, q = [], [], [], []
    for _ in range(horizon):
        seen.append(see(frames))
        q.append(net(seen[-1]))
        other = torch.randint(len(ACTIONS), (len(frames),))
        action.append(torch.where(torch.rand(len(frames)) < random, other, q[-1].argmax(1)))
        frames, points, *_ = env.step(ACTIONS[action[-1].numpy()])
        reward.append(torch.from_numpy(points).float())
    q.append(net(see(frames)))
    stack = torch.stack
    return Memory(stack(seen), stack(action), stack(reward), stack(q), frames)


def expected(won: int, lost: int) -> float:
    """Give the reward of an episode to 21 points with this share of points won.

    A round of training is too short to count whole episodes: only the short ones would end in it.
    """
    share = (won + 0.5) / (won + lost + 1)  # without any point: a half
    return 21 - 21 * (1 - share) / share if share > 0.5 else 21 * share / (1 - share) - 21


def returns(q: torch.Tensor, reward: torch.Tensor, trace: float) -> torch.Tensor:
    """Give the lambda-returns G [T, B] of q [T + 1, B, actions] and rewards [T, B]; a point ends a return."""
    best = q.max(-1).values  # [T + 1, B]
    found, ahead = [], best[-1]
    for r, following in zip(reward.flip(0), best[1:].flip(0), strict=True):
        goes_on = (r == 0).float()
        ahead = r + GAMMA * goes_on * ((1 - trace) * following + trace * ahead)
        found.append(ahead)
    return torch.stack(found[::-1])


def _train(
    net: nn.Module, optimizer: torch.optim.Optimizer, recipe: Recipe, memory: Memory, target: torch.Tensor
) -> float:
    """Train on the decisions of one update. Returns: the mean loss."""
    seen, action, target = memory.seen.flatten(0, 1), memory.action.flatten(), target.flatten()
    losses = []
    for _ in range(recipe.epochs):
        for rows in torch.randperm(len(target)).split(recipe.batch):
            q = net(seen[rows]).gather(1, action[rows, None])[:, 0]
            loss = mse_loss(q, target[rows])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 10.0)
            optimizer.step()
            losses.append(loss.detach())
    return finite(torch.stack(losses).mean(), net).item()
