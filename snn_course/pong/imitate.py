"""One agent learns from another: cloning of behaviour, with DAgger (Ross, Gordon and Bagnell 2011).

The student plays, the teacher says what it would have done. So the student is taught in the situations that
its own mistakes lead to, which a recording of the teacher would not hold. What was seen is kept for a round
and trained on again. The teacher tells its Q, and the student's loss has three parts: the cross-entropy
between what both would choose, what the student's choices cost by the teacher's Q (AggreVaTeD, Sun et al.
2017), and, so that the student's Q keep the teacher's units, the mean square between both,

    p = softmax(Q / tau),    loss = - sum_a p_t[a] log p_s[a]
                                    + 20 sum_a p_s[a] (max_b Q_t[b] - Q_t[a]) / tau
                                    + mean((Q_s - Q_t)^2) / (100 tau^2)

with tau = 0.03: the Q of Pong's actions differ by a few hundredths, for only the last one before the ball
counts. The second part tells a student that cannot copy everything, since its bits are few, what matters.
Another ``loss`` may ask for more: that spikes are few, or that two executions of one network agree.
"""

from collections.abc import Callable
from dataclasses import dataclass

from snn_course.pong import pqn
from snn_course.pong.emulator import Frames, See, many
from snn_course.pong.judging import to_train
from snn_course.runs.divergence import finite
from snn_course.runs.run import Run

import numpy as np
import torch
from torch import nn

Loss = Callable[[nn.Module, torch.Tensor, torch.Tensor], torch.Tensor]
TAU, REGRET = 0.03, 20.0
ROUND = 64
"""Updates between two stored states. A round starts new games and a new memory: so a resumed run equals an
unbroken one."""


@dataclass(frozen=True)
class Recipe:
    """How to learn."""

    decisions: int = 200_000
    """Decisions that the student takes in all."""
    games: int = 32
    """Games side by side."""
    horizon: int = 32
    """Decisions of each game between two updates."""
    batch: int = 256
    """Decisions of a training step."""
    passes: int = 6
    """Training steps of an update, in batches that its own decisions would fill."""
    rate: float = 1e-3
    """Learning rate of Adam at the start; it falls linearly to 0."""
    random: float = 0.02
    """Share of random decisions, for variety."""


def imitate(
    run: Run,
    name: str,
    student: nn.Module,
    teacher: Callable[[Frames], torch.Tensor],
    recipe: Recipe,
    see: See,
    loss: Loss | None = None,
) -> pqn.History:
    """Train ``student`` to choose as ``teacher`` does, or go on where a killed run of this ``name`` stopped.

    Args:
        run: keeps the state, shows the progress, gives the seed.
        name: of the kept state.
        student: from what ``see`` gives to Q [B, 3].
        teacher: from frames [B, 5, 84, 84] to Q [B, 3].
        recipe: how to learn.
        see: from frames [B, 5, 84, 84] to the student's input.
        loss: of the student, its inputs [B, ...] and the teacher's Q [B, 3]; None: ``plain``.

    Returns: for each round decisions ("steps"), CPU "seconds", "reward" as in PQN, "loss", and
    "agreement": the share of decisions that were the teacher's, in %.
    """
    optimizer = torch.optim.Adam(student.parameters(), lr=recipe.rate)
    lesson = _Lesson(student, teacher, optimizer, recipe, see, loss or plain)
    updates = max(1, recipe.decisions // (recipe.games * recipe.horizon))
    return pqn.in_rounds(
        run,
        name,
        {"student": student, "optimizer": optimizer},
        updates,
        ROUND,
        lambda part: lesson.round(run, name, part, updates),
    )


@dataclass
class _Lesson:
    """What the rounds of one training share."""

    student: nn.Module
    teacher: Callable[[Frames], torch.Tensor]
    optimizer: torch.optim.Optimizer
    recipe: Recipe
    see: See
    loss: Loss

    def round(self, run: Run, name: str, updates: range, total: int) -> dict[str, float]:
        """Start new games, and play and train for some updates."""
        recipe = self.recipe
        self.seen, self.told = list[torch.Tensor](), list[torch.Tensor]()
        env, frames = many(recipe.games, to_train(2_000_003 * (run.seed + 1) + updates.start))
        losses, same, won, lost = list[float](), list[float](), 0, 0
        for update in run.progress(updates, name):
            self.optimizer.param_groups[0]["lr"] = recipe.rate * (1 - update / total)
            told = list[torch.Tensor]()

            def see_both(frames: Frames, told: list[torch.Tensor] = told) -> torch.Tensor:
                told.append(self.teacher(frames))
                return self.see(frames)

            memory = pqn.play(env, frames, self.student, recipe.horizon, recipe.random, see_both)
            frames = memory.frames
            won, lost = won + int((memory.reward > 0).sum()), lost + int((memory.reward < 0).sum())
            wanted = torch.stack(told[:-1])  # [horizon, games, actions]; the last is of the frames to come
            same.append((wanted.argmax(-1) == memory.q[:-1].argmax(-1)).double().mean().item())
            self.seen.append(memory.seen)
            self.told.append(wanted)
            losses.append(self._train())
        env.close()
        return {
            "steps": float(updates.stop * recipe.games * recipe.horizon),
            "reward": pqn.expected(won, lost),
            "points": float(won + lost),
            "loss": float(np.mean(losses)),
            "agreement": 100 * float(np.mean(same)),
        }

    def _train(self) -> float:
        """Train on batches that are drawn from all that this round has seen. Returns: the mean loss."""
        recipe, losses = self.recipe, []
        one = recipe.games * recipe.horizon  # decisions of one update
        for _ in range(recipe.passes * one // recipe.batch):
            update = torch.randint(len(self.seen), (4,))  # a batch from four updates
            rows = torch.randint(one, (4, recipe.batch // 4))
            seen, told = (
                torch.cat([kept[u].flatten(0, 1)[r] for u, r in zip(update.tolist(), rows, strict=True)])
                for kept in (self.seen, self.told)
            )
            loss = self.loss(self.student, seen, told)
            self.optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.student.parameters(), 10.0)
            self.optimizer.step()
            losses.append(loss.detach())
        return finite(torch.stack(losses).mean(), self.student).item()


def plain(student: nn.Module, seen: torch.Tensor, told: torch.Tensor) -> torch.Tensor:
    """Give the loss of a student's Q for its inputs."""
    return distance(student(seen), told)


def distance(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Give the loss for the Q [B, actions] of student and teacher."""
    ours, theirs = student / TAU, teacher / TAU
    apart = -(theirs.softmax(1) * ours.log_softmax(1)).sum(1).mean()
    regret = (ours.softmax(1) * (theirs.max(1, keepdim=True).values - theirs)).sum(1).mean()
    return apart + REGRET * regret + (ours - theirs).square().mean() / 100
