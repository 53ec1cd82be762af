"""The executions of one agent by name, each played by the episodes that are reported."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from snn_course.runs import parallel
from snn_course import akida_bridge as ab
from snn_course.pong import accounts, agents, compare, emulator, players
from snn_course.pong.accounts import CALM, MIRROR, RANDOM, SPIKES, TEACHER, TIMES
from snn_course.pong.spikes import IfNet, LevelNet
from snn_course.runs.run import Run

import torch


class Settings(Protocol):
    """What the capstone's settings say about who plays, and how much."""

    @property
    def agent(self) -> str:
        """Name of the agent."""
        ...

    @property
    def scale(self) -> str:
        """Of the run."""
        ...

    @property
    def seed(self) -> int:
        """Of the random player."""
        ...

    @property
    def episodes(self) -> int:
        """Of a headline."""
        ...

    @property
    def trials(self) -> int:
        """Of what is compared."""
        ...

    @property
    def first(self) -> int:
        """Seed of the first episode."""
        ...

    @property
    def longest(self) -> int:
        """Decisions of an episode at most."""
        ...

    @property
    def workers(self) -> int:
        """Executions that play side by side; 0: one for each core."""
        ...


def play_all(
    settings: Settings, run: Run, names: Sequence[str], x: torch.Tensor
) -> tuple[dict[str, list[float]], dict[str, torch.Tensor]]:
    """Let each execution play its episodes and answer x, side by side on the cores there are.

    The script's ``play_one`` calls ``play`` in each process. A card serves one process, so there the Akida
    plays in this one. Returns: rewards, and Q [B, 3], by name.
    """
    here = [accounts.on_akida()] if ab.backend() == "hardware" else []
    points = {name: (settings, name, run.device.type, x) for name in names if name not in here}
    longest_first = dict(sorted(points.items(), key=lambda point: -steps_of(point[0])))
    found = parallel.run_points(run, "play_one", longest_first, settings.workers)
    found |= {name: play(settings, name, run.device.type, x) for name in here}
    rows: list[players.Episode] = []
    rewards: dict[str, list[float]] = {}
    for name in names:
        episodes = [emulator.Played(*one) for one in found[name]["played"]]
        rows += [players.Episode(settings.agent, name, *one) for one in episodes]
        if episodes:
            rewards[name] = [one.reward for one in episodes]
    players.write_csv(run.folder / "episodes.csv", rows)
    return rewards, {name: found[name]["q"] for name in names if "q" in found[name]}


def steps_of(name: str) -> int:
    """Give T of an execution that spikes, else 0."""
    return int(name.removeprefix(SPIKES)) if name.startswith(SPIKES) else 0


def play(settings: Settings, name: str, device: str, x: torch.Tensor) -> dict[str, Any]:
    """Play the episodes of one execution, and give its Q for the inputs x [B, C, H, W].

    Returns: "played", what each ``emulator.Played`` holds; and "q" [B, 3] of executions of the agent.
    """
    seeds, answered = range(settings.first, settings.first + settings.trials), dict[str, Any]()
    if name.endswith(CALM):
        way, eyes = execution(settings, name.removesuffix(CALM), device)
        played = emulator.play(agents.policy(way, eyes), seeds, settings.longest, sticky=0.0)
    elif name == MIRROR:  # its rallies are long: a tenth of the episodes
        played = players.play_mirror(seeds[: -(-len(seeds) // 10)], most=settings.longest)
    elif name == RANDOM:
        played = emulator.play(players.random_player(settings.seed), seeds, settings.longest)
    else:
        way, eyes = execution(settings, name, device)
        if steps_of(name) == TIMES[-1]:
            seeds = seeds[:0]  # the slowest is only compared
        if name == "levels":  # the headline; the others are compared with the first of its episodes
            seeds = range(settings.first, settings.first + settings.episodes)
        played = emulator.play(agents.policy(way, eyes), seeds, settings.longest)
        answered["q"] = compare.answers(way, x)
    return {"played": [tuple(one) for one in played]} | answered


def execution(
    settings: Settings, name: str, device: str
) -> tuple[Callable[[torch.Tensor], torch.Tensor], agents.Eyes]:
    """Give the agent in one execution, or its teacher, from what it sees to Q [B, 3]; and its eyes."""
    if name == TEACHER:
        teacher = agents.teacher(settings.scale)
        return teacher.net, teacher.eyes
    agent = agents.load(settings.agent, settings.scale)
    net = agents.chip(agent)
    if name == accounts.on_akida():
        return functools.partial(ab.predict, ab.map_model(ab.to_akida(net)).runner), agent.eyes
    integers, steps = net.to_integers(), steps_of(name)
    return (IfNet(integers, steps) if steps else LevelNet(integers)).to(device), agent.eyes
