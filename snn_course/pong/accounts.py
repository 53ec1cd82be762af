"""The benchmark's tables and figure: rewards, hops, operations, latency and energy of every execution."""

from collections.abc import Mapping
from typing import Any

from snn_course.runs import figures
from snn_course import akida_bridge as ab
from snn_course.costs import energy as meters
from snn_course.costs.operations import PICOJOULES_AC, PICOJOULES_MAC, Operations
from snn_course.pong import agents, checkpoints, compare, latency, players
from snn_course.pong.spikes import IfNet, LevelNet
from snn_course.runs.run import Run

import numpy as np
import torch
from torch import nn

Rewards = Mapping[str, list[float]]
SPIKES, RANDOM, MIRROR = "spikes, T ", "random player", "opponent's rule, from RAM"
TEACHER, CALM = "teacher", ", no sticky actions"
"""``CALM`` ends the names of those who play without sticky actions, as the published players do."""


def on_akida() -> str:
    """Name the execution on the card, or in the simulator."""
    return f"Akida {ab.backend()}"


def rewards(run: Run, found: Rewards) -> None:
    """Tabulate rewards: the agent's executions, its relatives by their cards, and others."""
    plain = compare.mean_and_error(found["levels"])[0]
    rows = [[name, *compare.mean_and_error(told), len(told)] for name, told in found.items()]
    for name, card in checkpoints.cards(RELATIVES, run.config.scale).items():
        told = card["rewards"]
        rows.append([f"{RELATIVES[name]} (its card)", *compare.mean_and_error(told), len(told)])
    rows += [[f"{p.name} (published)", p.mean, p.spread or "-", "-"] for p in players.PUBLISHED]
    missing = [] if ab.backend() == "hardware" else [["AKD1000", ab.NOT_MEASURED, "-", "-"]]
    missing += [] if run.device.type == "cuda" else [["GPU", "not measured: no GPU", "-", "-"]]
    run.table("Reward of an episode, -21 .. 21", ["player", "mean", "error", "episodes"], [*rows, *missing])
    short = [name for name in found if name.startswith("spikes")]
    best = max(compare.mean_and_error(found[name])[0] for name in short)
    for name, told in found.items():
        mean, error = compare.mean_and_error(told)
        note = f"{len(told)} episodes, +- {error:.2f}"
        if name not in (RANDOM, MIRROR):
            least = {"cpu": 20.5} if name == TEACHER + CALM else None
            run.measure(f"{name}: reward", mean, at_least=least, headline=name not in short[:2], note=note)
    run.measure("best episode", max(found["levels"]))
    run.measure("spikes, best T up to 15: reward lost", plain - best, at_most={"cpu": 1.0})
    if on_akida() in found:
        lost = plain - compare.mean_and_error(found[on_akida()])[0]
        run.measure(f"{on_akida()}: reward lost", lost, at_most={"cpu": 1.0})


RELATIVES = {
    "pqn": "teacher, PQN, float",
    "dqn": "DQN, float",
    "levels": "15 levels, float",
    "four": "4 bits",
    "two": "2 bits, weights 4",
    "ternary": "2 bits, all",
    "clone": f"spikes, T {agents.STEPS['clone']}, learnt",
    "direct": f"spikes, T {agents.STEPS['direct']}, by itself",
    "events": "events, float",
}


def hops(
    run: Run,
    by_layers: tuple[float, float],
    found: Mapping[str, torch.Tensor],
    teacher: torch.Tensor,
    rewards: Rewards,
) -> None:
    """Tabulate what each hop from the teacher to the chip changes.

    Args:
        run: where the table goes.
        by_layers: same actions in % and error of Q of spikes layer by layer.
        found: Q [B, 3] of each execution for the same pictures, "levels" first.
        teacher: the teacher's.
        rewards: of the executions that played.
    """
    q, plain = found["levels"], compare.mean_and_error(rewards["levels"])[0]
    rows: list[list[Any]] = [
        ["teacher -> levels", *compare.hop(q, teacher), "-"],
        ["levels -> spikes, by layers", *by_layers, 0.0],
    ]
    for name, answered in found.items():
        if name != "levels":
            change = compare.mean_and_error(rewards[name])[0] - plain if name in rewards else "-"
            rows.append([f"levels -> {name}", *compare.hop(answered, q), change])
    run.table(f"Hops, {len(q)} decisions", ["hop", "same actions, %", "error of Q", "change of reward"], rows)


def operations(run: Run, levels: LevelNet, spiking: IfNet, x: torch.Tensor) -> dict[str, tuple[float, float]]:
    """Tabulate work and silence, layer by layer. Returns: MACs and ACs of each execution."""
    name = f"{SPIKES}{spiking.num_steps}"
    counted = {"levels": compare.operations(levels, x), name: compare.operations(spiking, x)}
    sent = [*compare.events(levels, x), ("-", "-", "-")]
    rows: list[list[Any]] = []
    for layer, plain, added, (events, spikes, silent) in zip(LAYERS, *counted.values(), sent, strict=True):
        percent = 100 * silent if isinstance(silent, float) else silent
        rows.append([layer, plain.dense, plain.macs, added.macs + added.acs, events, spikes, percent])
    columns = ["layer", "dense", "MACs", f"T {spiking.num_steps}", "events", "spikes", "silent, %"]
    run.table("Operations and events of a decision", columns, rows)
    totals = {key: Operations.sum(layers) for key, layers in counted.items()}
    run.measure("effective MACs, levels", totals["levels"].macs)
    run.measure(f"additions, {name}", totals[name].acs)
    return {key: (ops.macs, ops.acs) for key, ops in totals.items()}


LAYERS = ("conv 1", "conv 2", "conv 3", "dense", "Q")


def latencies(
    run: Run, levels: LevelNet, spiking: IfNet, model: Any, timed: int
) -> dict[str, list[latency.Row]]:
    """Time the decisions of live games, part by part."""
    device = run.device
    backends = [
        latency.torch_backend(f"levels, {device.type}", levels, device),
        latency.torch_backend(f"{SPIKES}{spiking.num_steps}, {device.type}", spiking, device),
    ]
    if model is not None:
        backends.append(latency.akida_backend(on_akida(), model))
    found = {b.name: latency.percentiles(latency.measure(b, timed)) for b in backends}
    rows = [[name, part, *times] for name, parts in found.items() for part, *times in parts]
    run.table("Latency, ms, one decision at a time", ["on", "part", "p50", "p95", "p99"], rows)
    name, whole = backends[-1].name, found[backends[-1].name][-1]
    run.measure(f"{name}: whole decision, p50", whole[1], "ms", at_most={"cpu": 5.0}, speed=True)
    run.measure(f"{name}: whole decision, p99", whole[3], "ms", at_most={"cpu": 20.0}, speed=True)
    return found


def energy(run: Run, levels: nn.Module, spent: Mapping[str, tuple[float, float]], x: torch.Tensor) -> None:
    """Tell the energy of a decision in each way there is (lesson 12)."""
    rows: list[list[Any]] = []
    for name, (macs, acs) in spent.items():
        joules = macs * PICOJOULES_MAC + acs * PICOJOULES_AC
        rows.append([f"45 nm, {name}", joules * 1e-6, "arithmetic alone, zeros left out"])
    batch = x[: compare.BATCH].to(run.device)
    reading = meters.measure(lambda: [compare.answers(levels, batch) for _ in range(80)], run.device)
    rows.append(
        [f"this {run.device.type}, batches of {len(batch)}", *meters.cells(reading, 80 * len(batch), 1e6)]
    )
    for e in ab.PUBLISHED[:1]:
        rows.append(["AKD1000 board, a small CNN", 1000 * e.dynamic_per_frame, "published: what it adds"])
        rows.append(["AKD1000 board, floor", 1000 * e.floor_per_frame, f"published, {e.fps:.0f} frames/s"])
    rows.append(["AKD1000, this agent", "-", ab.NOT_MEASURED])
    run.table("Energy of a decision, microjoules", ["told by", "uJ", "what is in it"], rows)


def title_of_steps(kept: Mapping[int, float], same: Mapping[int, float]) -> str:
    """Say which reward the fewest and the most steps keep, and how often the most choose as the levels do."""
    fewest, most = min(kept), max(kept)
    share = same[max(same)]
    return (
        f"T = {fewest}: {kept[fewest]:.1f} points, T = {most}: {kept[most]:.1f}; "
        f"T = {max(same)} chooses as the levels do in {share:.1f} %"
    )


def draw_steps(run: Run, found: Rewards, q: Mapping[str, torch.Tensor]) -> None:
    """Draw what more steps of a decision buy: reward, and how often spikes choose as the levels do."""
    names = {int(name.removeprefix(SPIKES)): name for name in q if name.startswith(SPIKES)}
    same = {steps: compare.hop(q[name], q["levels"])[0] for steps, name in names.items()}
    played = {steps: compare.mean_and_error(found[name]) for steps, name in names.items() if name in found}
    kept = {steps: mean for steps, (mean, _) in played.items()}
    plain, error = compare.mean_and_error(found["levels"])
    fig, (left, right) = figures.new(title_of_steps(kept, same), columns=2, size=(9, 3.4))
    errors = [error for _, error in played.values()]
    left.errorbar([*kept], [*kept.values()], errors, fmt="o-", capsize=3, label="free-running spikes")
    left.axhspan(plain - error, plain + error, color=figures.GREY, alpha=0.3, label="levels")
    left.set(xlabel="T, steps of a decision", ylabel="reward of an episode", xticks=[*kept])
    left.legend(loc="lower right")
    right.plot([*same], [*same.values()], "o-")
    right.set(xlabel="T, steps of a decision", ylabel="same actions as the levels, %", xticks=[*same])
    run.figure(fig, "steps")


def title_of_benchmark(as_levels: float, as_spikes: float, steps: int) -> str:
    """Say what the agent earns as levels and as spikes."""
    return f"{as_levels:.1f} of 21 points as levels, {as_spikes:.1f} as free-running spikes, T = {steps}"


def draw(run: Run, found: Rewards, steps: int, timed: Mapping[str, list[latency.Row]]) -> None:
    """Draw rewards with their errors, and where the time goes; the title tells those of T = ``steps``."""
    mean, error = np.array([compare.mean_and_error(told) for told in found.values()]).T
    spiking = compare.mean_and_error(found[f"{SPIKES}{steps}"])[0]
    title = title_of_benchmark(mean[0], spiking, steps)
    fig, (left, right) = figures.new(title, columns=2, size=(11, 4))
    left.barh([*found], mean, xerr=error, color=figures.BLUE, capsize=3)
    left.set(xlabel="reward of an episode, with standard error", xlim=(-21.5, 21.5))
    left.invert_yaxis()
    start = np.zeros(len(timed))
    for number, part in enumerate(latency.PARTS):
        wide = np.array([parts[number][1] for parts in timed.values()])
        right.barh([*timed], wide, left=start, label=part)
        start += wide
    right.set(xlabel="median time of a decision, ms")
    right.invert_yaxis()
    figures.legend_outside(right)
    run.figure(fig, "benchmark")
