"""DQN: Q-learning from a replay of old decisions (Mnih et al. 2015), with two later improvements.

16 games play side by side. After each of their steps the network trains on 128 decisions, drawn from the last
100,000. A decision's target is what the next n = 3 rewards bring, and then the Q that is expected,

    G = r[t] + gamma r[t+1] + ... + gamma^n Q'(s[t+n], argmax Q(s[t+n])).

The present network Q chooses the action, and an older copy Q' says its worth: what both overrate is rare
(double Q-learning, van Hasselt et al. 2016). Three rewards bring the news of a point three decisions back at
once (Hessel et al. 2018). A point ends the sum, as in PQN: what follows is a new rally.

The replay has one picture for each decision, and puts the four of a stack together when they are drawn: a
quarter of the memory. It belongs to the kept state, so a resumed run draws what an unbroken one does.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from snn_course.pong.emulator import ACTIONS, SHAPE, levels, many
from snn_course.pong.judging import to_train
from snn_course.pong.network import GAMMA
from snn_course.pong.pqn import History, Kept, epsilon, expected, in_rounds
from snn_course.runs.divergence import finite
from snn_course.runs.run import Run

import numpy as np
import torch
from torch import nn
from torch.nn.functional import smooth_l1_loss

ROUND = 4096
"""Steps of all games between two stored states. Each round starts new games, as in PQN."""
BACK = SHAPE[0] - 1
"""Pictures in a stack before the newest."""


@dataclass(frozen=True)
class Recipe:
    """How to learn."""

    steps: int = 1_000_000
    """Decisions in all; each is 4 frames."""
    games: int = 16
    """Games side by side."""
    batch: int = 128
    """Decisions of a training step."""
    rate: float = 5e-4
    """Learning rate of Adam at the start; it falls linearly to 0."""
    ahead: int = 3
    """n: rewards in a target before Q takes over."""
    capacity: int = 100_000
    """Decisions in the replay."""
    start: int = 5_000
    """Decisions before the first training step."""
    copy: int = 500
    """Training steps for which the older network stays the same."""
    explore: int = 100_000
    """Decisions in which the share of random ones falls from ``first`` to ``last``."""
    first: float = 1.0
    """Share of random decisions at the start."""
    last: float = 0.01
    """Share of random decisions in the end."""


def learn(run: Run, name: str, net: nn.Module, recipe: Recipe) -> History:
    """Train ``net`` to play, or go on where a killed run of this ``name`` stopped.

    Args:
        run: keeps the state of each round, shows the progress, gives the seed.
        name: of the kept state.
        net: from levels [B, 4, rows, columns] to Q [B, 3].
        recipe: how to learn.

    Returns: for each round decisions ("steps"), CPU "seconds", the "reward" of an episode with this share of
    points won (``expected``), the number of "points", the loss
    (0 before the first training step) and the mean Q.
    """
    learner = Learner(net, recipe)
    steps = max(1, recipe.steps // recipe.games)
    kept = {"learner": learner}
    return in_rounds(run, name, kept, steps, ROUND, lambda part: _round(run, name, learner, part))


class Replay:
    """The latest decisions of some games, in a ring: step s of all games lies in row s mod rows.

    Args:
        rows: steps that it holds.
        games: games side by side.
    """

    def __init__(self, rows: int, games: int) -> None:
        self.steps = 0
        self.pictures = torch.zeros(rows, games, *SHAPE[1:], dtype=torch.uint8)
        self.action = torch.zeros(rows, games, dtype=torch.int64)
        self.reward = torch.zeros(rows, games)
        self.age = torch.zeros(rows, games, dtype=torch.uint8)
        self.new_games()

    def new_games(self) -> None:
        """Say that the next pictures are the first of their games."""
        self._next_age = torch.zeros(self.age.shape[1], dtype=torch.uint8)

    def add(
        self, picture: torch.Tensor, action: torch.Tensor, reward: torch.Tensor, over: torch.Tensor
    ) -> None:
        """Take one step of all games: their newest pictures [games, rows, columns], and who ended."""
        row = self.steps % len(self.age)
        self.pictures[row], self.action[row], self.reward[row] = picture, action, reward
        self.age[row] = self._next_age
        self._next_age = torch.where(over, 0, self._next_age.clamp(max=254) + 1).to(torch.uint8)
        self.steps += 1

    def stacks(self, step: torch.Tensor, game: torch.Tensor) -> torch.Tensor:
        """Give what games [B] saw at steps [B]: uint8 [B, 4, rows, columns], 0 before a game's start."""
        back = torch.arange(BACK, -1, -1)
        rows = (step[:, None] - back) % len(self.age)
        begun = back <= self.age[rows[:, -1], game][:, None]
        return self.pictures[rows, game[:, None]] * begun[:, :, None, None]

    def draw(self, count: int, ahead: int) -> "Batch":
        """Draw decisions at random, each with the rewards of its next ``ahead`` steps.

        The three oldest steps lack pictures, the newest ones lack rewards. Decisions whose game was given up
        within these steps are left out, so that there can be fewer than ``count``.
        """
        oldest = max(0, self.steps - len(self.age) + BACK)
        step = torch.randint(oldest, self.steps - ahead, (count,))
        game = torch.randint(self.age.shape[1], (count,))
        rows = (step[:, None] + torch.arange(ahead + 1)) % len(self.age)
        reward, age = self.reward[rows[:, :-1], game[:, None]], self.age[rows[:, 1:], game[:, None]]
        given_up = ((age == 0) & rally(reward)[:, 1:]).any(1)
        step, game, rows, reward = (x[~given_up] for x in (step, game, rows, reward))
        after = self.stacks(step + ahead, game)
        return Batch(self.stacks(step, game), self.action[rows[:, 0], game], reward, after)

    def state_dict(self) -> dict[str, Any]:
        """Give all of it."""
        tensors = {name: getattr(self, name) for name in ("pictures", "action", "reward", "age")}
        return tensors | {"steps": self.steps}

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        """Take over a kept state of the same size, from any device."""
        self.steps = state["steps"]
        for name in ("pictures", "action", "reward", "age"):
            getattr(self, name).copy_(state[name])


@dataclass
class Batch:
    """Drawn decisions: what was seen [B, 4, rows, columns], done [B], earned [B, n], and seen after that."""

    seen: torch.Tensor
    action: torch.Tensor
    reward: torch.Tensor
    after: torch.Tensor


class Learner:
    """What changes while it learns: the network, its older copy, the optimizer and the replay."""

    def __init__(self, net: nn.Module, recipe: Recipe) -> None:
        self.net, self.older, self.recipe = net, copy.deepcopy(net), recipe
        self.optimizer = torch.optim.Adam(net.parameters(), lr=recipe.rate)
        self.replay = Replay(recipe.capacity // recipe.games, recipe.games)
        self.trained = 0
        self._parts: dict[str, Kept] = {"net": net, "older": self.older}
        self._parts |= {"optimizer": self.optimizer, "replay": self.replay}

    def train(self) -> float:
        """Do one training step. Returns: the loss. Raises: Diverged."""
        if self.trained % self.recipe.copy == 0:
            self.older.load_state_dict(self.net.state_dict())
        self.trained += 1
        batch = self.replay.draw(self.recipe.batch, self.recipe.ahead)
        target = targets(self.net, self.older, batch.reward, batch.after)
        seen = batch.seen.contiguous(memory_format=torch.channels_last)  # a third faster backwards
        q = self.net(seen).gather(1, batch.action[:, None])[:, 0]
        loss = smooth_l1_loss(q, target)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.net.parameters(), 10.0)
        self.optimizer.step()
        return finite(loss).item()

    def state_dict(self) -> dict[str, Any]:
        """Give all of it."""
        states = {name: part.state_dict() for name, part in self._parts.items()}
        return states | {"trained": self.trained}

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        """Take over a kept state."""
        for name, part in self._parts.items():
            part.load_state_dict(state[name])
        self.trained = state["trained"]


def _round(run: Run, name: str, learner: Learner, steps: range) -> dict[str, float]:
    """Start new games, and play and train for some steps."""
    recipe, replay = learner.recipe, learner.replay
    env, frames = many(recipe.games, to_train(1_000_003 * (run.seed + 1) + steps.start))
    replay.new_games()
    losses, values, won, lost = list[float](), list[float](), 0, 0
    for step in run.progress(steps, name):
        done = step * recipe.games
        learner.optimizer.param_groups[0]["lr"] = recipe.rate * (1 - done / recipe.steps)
        seen = levels(frames)
        random = epsilon(done, recipe.explore, recipe.first, recipe.last)
        action, value = _decide(learner.net, seen, random)
        frames, points, dead, cut, _ = env.step(ACTIONS[action.numpy()])
        replay.add(seen[:, -1], action, torch.from_numpy(points).float(), torch.from_numpy(dead | cut))
        won, lost = won + int((points > 0).sum()), lost + int((points < 0).sum())
        values.append(value)
        if done >= recipe.start:
            losses.append(learner.train())
    env.close()
    return {
        "steps": float(steps.stop * recipe.games),
        "reward": expected(won, lost),
        "points": float(won + lost),
        "loss": float(np.mean(losses)) if losses else 0.0,
        "q": float(np.mean(values)),
    }


@torch.no_grad()
def _decide(net: nn.Module, seen: torch.Tensor, random: float) -> tuple[torch.Tensor, float]:
    """Give the present network's actions [B], some of them random, and the mean of its best Q."""
    best, action = net(seen).max(1)
    other = torch.randint(len(ACTIONS), (len(seen),))
    return torch.where(torch.rand(len(seen)) < random, other, action), best.mean().item()


def rally(reward: torch.Tensor) -> torch.Tensor:
    """Say for rewards [B, n] whether the rally still goes on before each and after the last: [B, n + 1]."""
    before = torch.zeros_like(reward[:, :1], dtype=torch.int64)
    return torch.cat([before, (reward != 0).cumsum(1)], 1) == 0


@torch.no_grad()
def targets(
    net: Callable[[torch.Tensor], torch.Tensor],
    older: Callable[[torch.Tensor], torch.Tensor],
    reward: torch.Tensor,
    after: torch.Tensor,
) -> torch.Tensor:
    """Give the targets G [B] of n rewards [B, n], and of what is seen after them; a point ends the sum."""
    n, on = reward.shape[1], rally(reward).float()
    got = (GAMMA ** torch.arange(n) * on[:, :-1] * reward).sum(1)
    chosen = net(after).argmax(1, keepdim=True)
    return got + GAMMA**n * on[:, -1] * older(after).gather(1, chosen)[:, 0]
