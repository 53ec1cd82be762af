"""The benchmark's tables: rewards, hops, operations, latency and energy of every execution."""

from collections.abc import Mapping, Sequence
from typing import Any

from snn_course import akida_bridge as ab
from snn_course.costs import energy as meters
from snn_course.costs.operations import PICOJOULES_AC, PICOJOULES_MAC, Operations
from snn_course.pong import agents, checkpoints, compare, emulator, judging, latency, players
from snn_course.pong.spikes import IfNet, LevelNet
from snn_course.runs.measures import aim
from snn_course.runs.run import Run

import torch
from torch import nn

Rewards = Mapping[str, Sequence[float]]
TIMES = (2, 4, 8, 15, 30)
"""T of the executions that spike; the last one is compared, and plays no episodes."""
SPIKES, RANDOM, MIRROR = "spikes, T ", "random player", "opponent's rule, from RAM"
TEACHER, CALM = "teacher", ", no sticky actions"
"""``CALM`` ends the names of those who play without sticky actions."""


def on_akida() -> str:
    """Name the execution on the card, or in the simulator."""
    return f"Akida {ab.backend()}"


def headlines(agent: str) -> list[str]:
    """Name whose rewards stand in the course's table: levels, the chip, spikes, and calm games."""
    return ["levels", on_akida(), spikes_of(agent), "levels" + CALM, TEACHER + CALM]


def spikes_of(agent: str) -> str:
    """Name an agent's execution with the fewest steps in which spikes can tell each level."""
    return f"{SPIKES}{shortest(2 ** agents.BITS[agent][0] - 1)}"


def mapped(net: ab.QuantNet) -> Any:
    """Give the chip's model of a network, on the card or in the simulator; None where there is neither."""
    return None if ab.backend() == "absent" else ab.map_model(ab.to_akida(net)).runner


def shortest(highest: int) -> int:
    """Give the shortest T in which spikes can tell every level up to ``highest``."""
    return min(steps for steps in TIMES if steps >= highest)


def names() -> list[str]:
    """Name all that plays in the benchmark: executions, calm games, and players that learn nothing."""
    spiking = [f"{SPIKES}{steps}" for steps in TIMES]
    akida = [on_akida()] if ab.backend() != "absent" else []
    return ["levels", *spiking, *akida, "levels" + CALM, TEACHER + CALM, RANDOM, MIRROR]


def rewards(run: Run, agent: str, longest: int, found: Rewards, first: int = judging.REPORT.start) -> None:
    """Tabulate and measure the rewards of an agent's executions, of its relatives, and of published players.

    The executions have played episodes from the seed ``first`` on, of at most ``longest`` decisions.
    There are two tables, one for each protocol: what sticky actions cost is no difference between players.
    """
    ours = frames_of(checkpoints.cards([agent], run.config.scale).get(agent, {}))
    for sticky in (emulator.STICKY, 0.0):
        rows = played(found, ours, sticky)
        if sticky:
            rows += [] if ab.backend() == "hardware" else [["AKD1000", ab.NOT_MEASURED, "-", "-", "-"]]
            rows += [] if run.device.type == "cuda" else [["GPU", "not measured: no GPU", "-", "-", "-"]]
        rows += [*relatives(run, agent, sticky), *published(sticky)]
        rule = f"with sticky actions ({sticky:g})" if sticky else "without sticky actions"
        run.table(f"Reward {rule}, -21 .. 21", ["player", "mean", "+-", "episodes", "M frames"], rows)
    compare_with_published(run)
    measure_rewards(run, agent, longest, found, first)


def played(found: Rewards, frames: float | str, sticky: float) -> list[list[Any]]:
    """Give a row for each execution that was played by one protocol; ``frames`` are those of the agent."""
    rows: list[list[Any]] = []
    for name, told in found.items():
        if name.endswith(CALM) == bool(sticky):
            continue
        own = name not in (RANDOM, MIRROR) and not name.startswith(TEACHER)
        learnt = frames if own else "-"
        rows.append([name.removesuffix(CALM), *compare.mean_and_error(told), len(told), learnt])
    return rows


def relatives(run: Run, agent: str, sticky: float) -> list[list[Any]]:
    """Give a row for each other agent whose card tells a report of this protocol."""
    rows: list[list[Any]] = []
    for name, card in checkpoints.cards(RELATIVES, run.config.scale).items():
        told = judging.report_of(card, sticky)
        if told is not None and name != agent:
            shown = f"{RELATIVES[name]} (its card)"
            rows.append([shown, told.mean, told.error, len(told.rewards), frames_of(card)])
    return rows


def published(sticky: float) -> list[list[Any]]:
    """Give a row for each published player of this protocol."""
    rows: list[list[Any]] = []
    for one in players.PUBLISHED:
        if one.sticky == bool(sticky):
            rows.append([f"{one.name} (published)", one.mean, one.spread or "-", "-", one.frames or "-"])
    return rows


def frames_of(card: Mapping[str, Any]) -> float | str:
    """Give the millions of frames from which an agent learnt, its teacher's left out; or "-".

    An agent that goes on where another one stopped has learnt from what that one saw, too ("before").
    """
    return round(4 * checkpoints.decisions(card) / 1e6, 1) if card.get("curve") else "-"


def compare_with_published(run: Run) -> None:
    """Say how the teacher stands beside the best published players, by the same rules, after which frames."""
    name = agents.best_teacher(run.config.scale)
    card = checkpoints.cards([name], run.config.scale).get(name, {})
    told = judging.report_of(card)
    if told is None:
        return
    best = [players.best_published(frames, sticky=True) for frames in (20, 40, 200)]
    others = ", ".join(f"{one.mean} after {one.frames:.0f} M ({one.name})" for one in best)
    run.say(
        f"With sticky actions the teacher earns {told.mean:.1f} ± {told.error:.1f} after {frames_of(card)} M "
        f"frames; the best published ones {others}. They took one action in a hundred at random. Frames of a "
        "student are those that it has seen itself: those of its teacher come on top. +- is the standard "
        "error over episodes; of a published player, the standard deviation over runs or episodes."
    )


def measure_rewards(
    run: Run, agent: str, longest: int, found: Rewards, first: int = judging.REPORT.start
) -> None:
    """Record the reward of each execution, and what spikes and the chip lose against the levels."""
    cut = judging.cut_after(longest)
    for name, told in found.items():
        mean, error = compare.mean_and_error(told)
        note = f"{len(told)} episodes from seed {first}, +- {error:.2f}" + cut
        if name not in (RANDOM, MIRROR):
            least = aim(21.0) if name == TEACHER + CALM else None
            shown = name in headlines(agent)
            run.measure(f"{name}: reward", mean, at_least=least, headline=shown, note=note)
    run.measure("best episode", max(found["levels"]))
    for name in (spikes_of(agent), on_akida()):
        if name in found:
            mean, error = lost(found, name)
            run.measure(f"{name}: reward lost", mean, at_most=aim(1.0), note=f"+- {error:.2f}")


def lost(found: Rewards, name: str) -> tuple[float, float]:
    """Give the reward that an execution loses against the levels, and its standard error.

    It is the mean difference of the episodes that both have played.
    """
    pairs = zip(found["levels"], found[name], strict=False)  # levels have played some more
    return compare.mean_and_error([plain - other for plain, other in pairs])


RELATIVES = {
    "aware": "PQN, last action known, float",
    "pqn": "PQN, float",
    "dqn": "DQN, float",
    "levels": "15 levels, float",
    "four": "4 bits",
    "two": "2 bits, weights 4",
    "ternary": "2 bits, all",
    "sparse": "2 bits, few spikes",
    "clone": f"spikes, T {agents.STEPS['clone']}, learnt",
    "direct": f"spikes, T {agents.STEPS['direct']}, by itself",
    "pictures": "pictures again, float",
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
    q = found["levels"]
    rows: list[list[Any]] = [
        ["teacher -> levels", *compare.hop(q, teacher), "-", "-"],
        ["levels -> spikes, by layers", *by_layers, 0.0, 0.0],
    ]
    for name, answered in found.items():
        if name != "levels":
            less, error = lost(rewards, name) if name in rewards else (None, "-")
            change = "-" if less is None else -less
            rows.append([f"levels -> {name}", *compare.hop(answered, q), change, error])
    columns = ["hop", "same actions, %", "error of Q", "change of reward", "+-"]
    run.table(f"Hops, {len(q)} decisions", columns, rows)


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
    run.measure(f"MACs of the picture, {name}", totals[name].macs)
    return {key: (ops.macs, ops.acs) for key, ops in totals.items()}


METERED = 10_000
"""Decisions for the card's power meter, which needs a second or more of work."""
LAYERS = ("conv 1", "conv 2", "conv 3", "dense", "Q")


def latencies(
    run: Run, levels: LevelNet, spiking: IfNet, model: Any, eyes: agents.Eyes, timed: int
) -> dict[str, list[latency.Row]]:
    """Time the decisions of live games, part by part."""
    device = run.device
    backends = [
        latency.torch_backend(f"levels, {device.type}", levels, device),
        latency.torch_backend(f"{SPIKES}{spiking.num_steps}, {device.type}", spiking, device),
    ]
    if model is not None:
        backends.append(latency.akida_backend(on_akida(), model))
    found = {b.name: latency.percentiles(latency.measure(b, timed, see=agents.EYES[eyes])) for b in backends}
    rows = [[name, part, *times] for name, parts in found.items() for part, *times in parts]
    run.table("Latency, ms, one decision at a time", ["on", "part", "p50", "p95", "p99"], rows)
    name, whole = backends[-1].name, found[backends[-1].name][-1]
    run.measure(f"{name}: whole decision, p50", whole[1], "ms", at_most={"cpu": 5.0}, speed=True)
    run.measure(f"{name}: whole decision, p99", whole[3], "ms", at_most={"cpu": 20.0}, speed=True)
    return found


def energy(
    run: Run, levels: nn.Module, model: Any, spent: Mapping[str, tuple[float, float]], x: torch.Tensor
) -> None:
    """Tell the energy of a decision in each way there is (lesson 12).

    Args:
        run: where the table goes.
        levels: the network as levels.
        model: the chip's, or None.
        spent: MACs and ACs of each execution.
        x: inputs [B, C, H, W].
    """
    rows: list[list[Any]] = []
    for name, (macs, acs) in spent.items():
        picojoules = macs * PICOJOULES_MAC + acs * PICOJOULES_AC
        rows.append([f"45 nm, {name}", picojoules * 1e-6, "arithmetic alone, zeros left out"])
    batch = x[: compare.BATCH].to(run.device)
    levels.to(run.device)
    reading = meters.measure(lambda: [compare.answers(levels, batch) for _ in range(80)], run.device)
    rows.append(
        [f"this {run.device.type}, batches of {len(batch)}", *meters.cells(reading, 80 * len(batch), 1e6)]
    )
    told = ab.PUBLISHED[0]
    rows.append(["AKD1000 board, a small CNN", 1000 * told.dynamic_per_frame, "published: what it adds"])
    rows.append(["AKD1000 board, floor", 1000 * told.floor_per_frame, f"published, {told.fps:.0f} frames/s"])
    enough = -(-METERED // len(x))
    card = None if model is None else ab.energy(model, x, repeats=enough)
    here = [1000 * card.dynamic_per_frame, "measured here: what it adds"] if card else ["-", ab.unmeasured()]
    rows.append(["AKD1000, this agent", *here])
    run.table("Energy of a decision, microjoules", ["told by", "uJ", "what is in it"], rows)
