"""Capstone A: Pong on silicon.

Question: How well does a spiking agent play Pong on a neuromorphic chip, and what does a decision cost?
Reading:  Gallici et al. (2025), PQN; Mnih et al. (2015), DQN; your journal of lessons 10, 14, 16 and 19.
Run:      python capstone_pong.py
Expect:   not measured yet.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from snn_course import figures, lesson
from snn_course.pong import checkpoints, emulator, network, pqn

from torch import nn
from tyro.conf import Positional

# ====================================================================== settings


@dataclass(frozen=True)
class Config(lesson.Config):
    """Settings of the capstone."""

    step: Positional[Literal["train"]] = "train"
    """What to do."""

    learner: Literal["pqn", "dqn"] = "pqn"
    """Of step train: without a replay buffer, from many games at once; or with one (see snn_course/pong)."""

    decisions: Annotated[int, lesson.Range(2_000, 100_000_000)] = 5_000_000
    """Decisions (of 4 frames each) to learn from in step train."""

    episodes: Annotated[int, lesson.Range(1, 1000)] = 30
    """Episodes by which an agent is judged."""

    @property
    def words(self) -> tuple[str, ...]:
        """The step as it stands on the command line."""
        return (self.step, "--learner", self.learner) if self.step == "train" else (self.step,)


SCALES: lesson.Scales = {
    "quick": {"decisions": 10_000, "episodes": 1},
    "cpu": {},
    "gpu": {"decisions": 20_000_000},
}

# ====================================================================== train


def train(config: Config, run: lesson.Run) -> None:
    """Train a conventional Q-network, a teacher for all that follows."""
    run.proof("frames and rewards of both emulators, 300 decisions", emulator.difference(300, run.seed), 0)
    net = network.q_network()
    for layer in net.parts[:-1]:  # the pictures are nearly empty: PyTorch's own start would let them fade
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    history = pqn.learn(run, "pqn", net, pqn.Recipe(steps=config.decisions))
    rewards = judge(config, lambda frames: network.greedy(net, emulator.levels(frames)))
    mean, error = network.mean_and_error(rewards)
    run.measure("reward", mean, at_least={"cpu": 20.0}, headline=True, note=f"{len(rewards)} episodes")
    run.measure("standard error of the reward", error)
    run.measure("decisions", history[-1]["steps"])
    run.measure("training", history[-1]["seconds"] / 60, "CPU min", at_most={"cpu": 180})
    checkpoints.keep(run, config.learner, net, {"rewards": rewards, "curve": history})
    draw_curves(run, {config.learner: history})


def judge(config: Config, policy: emulator.Policy) -> list[float]:
    """Give the rewards of an agent's episodes; the seeds are those of no training."""
    return emulator.play(policy, range(10_000, 10_000 + config.episodes))


def draw_curves(run: lesson.Run, curves: dict[str, pqn.History]) -> None:
    """Draw the learning curves."""
    best = {name: max(told["reward"] for told in curve) for name, curve in curves.items()}
    title = "Best round: " + ", ".join(f"{name.upper()} {reward:.1f}" for name, reward in best.items())
    fig, axes = figures.new(title, columns=2, size=(7.5, 3.2), sharey=True)
    for name, curve in curves.items():
        rewards = [told["reward"] for told in curve]
        axes[0].plot([told["steps"] / 1e6 for told in curve], rewards, "o-", ms=3, label=name.upper())
        axes[1].plot([told["seconds"] / 60 for told in curve], rewards, "o-", ms=3, label=name.upper())
    axes[0].set(xlabel="decisions, millions", ylabel="reward while learning", ylim=(-21.5, 21.5))
    axes[1].set(xlabel="CPU time, minutes")
    figures.legend_outside(axes[1])
    run.figure(fig, "learning", title)


# ====================================================================== main


def main(config: Config, run: lesson.Run) -> None:
    """Do the step that the command line names."""
    {"train": train}[config.step](config, run)


if __name__ == "__main__":
    lesson.start(main, Config, SCALES)
