"""The pictures of the Pong capstone, but for the learning curves: views, fronts, rewards and times.

Each title is made from the values that are drawn.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from snn_course.runs import figures
from snn_course.pong import agents, checkpoints, compare, emulator, judging, latency
from snn_course.pong import perception as dvs
from snn_course.pong.accounts import CALM, SPIKES, Rewards
from snn_course.runs.run import Run

import torch
from matplotlib.ticker import LogLocator, NullFormatter

MOST = 21
"""Points that win an episode."""

# ---------------------------------------------------------------------- conversion and views


def title_of_conversion(levels: int, as_ann: float, as_free: float) -> str:
    """Say what the most levels earn, as an ANN and as spikes."""
    return f"{levels} levels: {as_ann:.1f} points as an ANN, {as_free:.1f} as free-running spikes"


@dataclass(frozen=True)
class Converted:
    """A network that was trained with so many levels: judged as an ANN, and as free-running spikes."""

    levels: int
    as_ann: judging.Report
    as_free: judging.Report


def draw_conversion(run: Run, found: Sequence[Converted]) -> None:
    """Draw reward against levels, as ANN and as free-running spikes."""
    last = found[-1]
    title = title_of_conversion(last.levels, last.as_ann.mean, last.as_free.mean)
    fig, (ax,) = figures.new(title, size=(6.5, 3.4))
    levels = [one.levels for one in found]
    ways = {
        "ANN with levels,\nand spikes layer by layer": ("o-", [one.as_ann for one in found]),
        "free-running spikes": ("s--", [one.as_free for one in found]),
    }
    for label, (style, reports) in ways.items():
        means = [report.mean for report in reports]
        errors = [report.error for report in reports]
        ax.errorbar(levels, means, errors, fmt=style, capsize=3, label=label)
    ax.set(xlabel="levels of an activation, and T", ylabel="reward of an episode", xticks=levels)
    figures.legend_outside(ax)
    run.figure(fig, "conversion")


def title_of_views(points: Mapping[str, float]) -> str:
    """Say what each way of seeing earns."""
    told = [f"{seen} {mean:.1f}" for seen, mean in points.items()]
    return "Points: " + ", ".join(told)


def draw_views(run: Run, frames: emulator.Frames, points: Mapping[str, float]) -> None:
    """Draw one moment as both networks see it."""
    sent = dvs.events(frames)[:, -2:].flatten(1).long().sum(1)
    moving = int(sent.where(sent < 400, 0).argmax())  # more: a game begins, and the whole court lights up
    moment = frames[moving : moving + 1]
    fig, axes = figures.new(title_of_views(points), columns=2, size=(7.5, 3.4))
    axes[0].imshow(emulator.levels(moment)[0, -1], vmin=0, vmax=15)
    seen = dvs.events(moment)[0, -2:].float()
    limit = float(seen.max())
    shown = axes[1].imshow(seen[0] - seen[1], cmap="coolwarm", vmin=-limit, vmax=limit)
    for ax, name in zip(axes, ("latest picture, levels", "latest pair's events, ON minus OFF"), strict=True):
        ax.set(title=name, xlabel="column", ylabel="row")
        ax.grid(visible=False)
    fig.colorbar(shown, ax=axes[1], shrink=0.7, label="events")
    run.figure(fig, "views")


# ---------------------------------------------------------------------- reward against spikes


@dataclass(frozen=True)
class Spot:
    """An agent of the front: spikes of a decision, mean reward as levels with its error, and free-running."""

    name: str
    spikes: float
    reward: float
    error: float
    free: float | None = None


def title_of_front(plain: Spot, best: Spot) -> str:
    """Say spikes and points of the agent that others are held against, and of the one that is kept."""
    return (
        f"{plain.name}: {plain.reward:.1f} points with {plain.spikes:.0f} spikes; "
        f"{best.name}: {best.reward:.1f} with {best.spikes:.0f}"
    )


def front(spots: Sequence[Spot]) -> list[Spot]:
    """Give the agents that no other one beats in both, fewer spikes and more reward, by their spikes."""
    kept: list[Spot] = []
    for spot in sorted(spots, key=lambda spot: (spot.spikes, -spot.reward)):
        if not kept or spot.reward > kept[-1].reward:
            kept.append(spot)
    return kept


def draw_front(
    run: Run, spots: Sequence[Spot], plain: Spot, best: Spot, least: float, free: str = ""
) -> None:
    """Draw reward against spikes.

    Args:
        run: where the figure goes.
        spots: all agents.
        plain: which of them the others are held against.
        best: which of them is kept.
        least: a point below the reward of the teacher: who is kept should not earn less.
        free: label of the free-running ones, where there are some.
    """
    fig, (ax,) = figures.new(title_of_front(plain, best), size=(8.5, 3.8))
    unbeaten = front(spots)
    ax.plot([s.spikes for s in unbeaten], [s.reward for s in unbeaten], "-", lw=1, color=figures.GREY)
    for spot, colour in zip(spots, figures.COLOURS, strict=False):
        ax.errorbar(spot.spikes, spot.reward, spot.error, fmt="o", capsize=3, color=colour, label=spot.name)
        if spot.free is not None:
            ax.plot(spot.spikes, spot.free, "s", mfc="none", color=colour)
    ax.plot(best.spikes, best.reward, "o", ms=14, mfc="none", color="black", ls="none", label="kept")
    if free:
        ax.plot([], [], "s", mfc="none", color=figures.GREY, label=free)
    ax.plot([], [], "-", color=figures.GREY, label="Pareto front")
    ax.axhline(least, color=figures.GREY, ls=":", label="a point below the teacher")
    ax.set(xlabel="spikes of a decision (T: 15 with 4 bits, 3 with 2)", ylabel="reward of an episode")
    ax.set_xlim(left=0)
    figures.legend_outside(ax)
    run.figure(fig, "pareto")


def draw_front_of_cards(run: Run, frames: emulator.Frames) -> None:
    """Draw the front of the chip's agents: rewards by their cards, spikes counted on frames."""
    scale = run.config.scale
    teacher = agents.best_teacher(scale)
    cards = checkpoints.cards((teacher, *agents.BITS), scale)
    told = {name: judging.report_of(card) for name, card in cards.items()}
    asked = told.pop(teacher, None)
    spots = {}
    for name, report in told.items():
        if report is not None:
            agent = agents.load(name, scale)
            spikes = compare.spikes_of(agents.chip(agent), agent.see(frames))
            spots[name] = Spot(name, spikes, report.mean, report.error)
    if asked is not None and {"four", "sparse"} <= set(spots):
        draw_front(run, list(spots.values()), spots["four"], spots["sparse"], asked.mean - 1)


# ---------------------------------------------------------------------- the benchmark


def title_of_steps(kept: Mapping[int, float], same: Mapping[int, float]) -> str:
    """Say which reward the fewest and the most steps keep, and how often the most choose as the levels do."""
    fewest = min(kept)
    most = max(kept)
    share = same[max(same)]
    return (
        f"T = {fewest}: {kept[fewest]:.1f} points, T = {most}: {kept[most]:.1f}; "
        f"T = {max(same)} chooses as the levels do in {share:.1f} %"
    )


def draw_steps(run: Run, found: Rewards, q: Mapping[str, torch.Tensor]) -> None:
    """Draw what more steps of a decision buy: reward, and how often spikes choose as the levels do."""
    names = {int(name.removeprefix(SPIKES)): name for name in q if name.startswith(SPIKES)}
    same = {steps: compare.hop(q[name], q["levels"])[0] for steps, name in names.items()}
    played = {steps: found[name] for steps, name in names.items() if name in found}
    both = min(len(told) for told in played.values())  # episodes that all of them have played
    kept = {steps: compare.mean_and_error(told[:both]) for steps, told in played.items()}
    means = {steps: mean for steps, (mean, _) in kept.items()}
    errors = [error for _, error in kept.values()]
    plain, error = compare.mean_and_error(found["levels"][:both])
    fig, (left, right) = figures.new(title_of_steps(means, same), columns=2, size=(9, 3.4))
    left.errorbar([*means], [*means.values()], errors, fmt="o-", capsize=3, label="free-running spikes")
    left.axhspan(plain - error, plain + error, color=figures.GREY, alpha=0.3, label="levels")
    left.set(xlabel="T, steps of a decision", ylabel="reward of an episode", xticks=[*means])
    left.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)
    right.plot([*same], [*same.values()], "o-")
    right.set(xlabel="T, steps of a decision", ylabel="same actions as the levels, %", xticks=[*same])
    run.figure(fig, "steps")


def title_of_benchmark(as_levels: float, as_spikes: float, steps: int) -> str:
    """Say what the agent earns as levels and as spikes."""
    return f"{as_levels:.1f} of 21 points as levels, {as_spikes:.1f} as free-running spikes, T = {steps}"


def draw_rewards(run: Run, found: Rewards, steps: int) -> None:
    """Draw rewards with their errors; the title tells those of T = ``steps``."""
    told = {name: compare.mean_and_error(rewards) for name, rewards in found.items()}
    means = [mean for mean, _ in told.values()]
    errors = [error for _, error in told.values()]
    colours = [figures.ORANGE if name.endswith(CALM) else figures.BLUE for name in told]
    title = title_of_benchmark(told["levels"][0], told[f"{SPIKES}{steps}"][0], steps)
    fig, (ax,) = figures.new(title, size=(8, 4))
    ax.barh([*told], means, xerr=errors, color=colours, capsize=3)
    ax.set(xlabel="reward of an episode, with standard error", xlim=(-21.5, 22.5))
    ax.axvline(MOST, color=figures.GREY, ls=":")
    ax.invert_yaxis()
    run.figure(fig, "benchmark")


def title_of_latency(name: str, middle: float, late: float) -> str:
    """Say how long a decision takes where it is fastest, and one in a hundred."""
    return f"{name}: half of the decisions take {middle:.2g} ms at most, 99 % of them {late:.2g} ms"


def draw_latency(run: Run, timed: Mapping[str, Sequence[latency.Row]]) -> None:
    """Draw where the time of a decision goes, and how late the late ones are."""
    fastest = min(timed, key=lambda name: timed[name][-1][1])
    _, middle, _, late = timed[fastest][-1]
    fig, axes = figures.new(title_of_latency(fastest, middle, late), columns=2, size=(11, 3.2), sharey=True)
    start = [0.0] * len(timed)
    for number, part in enumerate(latency.PARTS):
        wide = [rows[number][1] for rows in timed.values()]
        axes[0].barh([*timed], wide, left=start, label=part)
        start = [before + more for before, more in zip(start, wide, strict=True)]
    axes[0].set(xlabel="median time of a decision, ms, in parts")
    axes[0].legend(loc="upper center", bbox_to_anchor=(0.5, -0.22), ncols=5, fontsize=8)
    for column, (label, marker) in enumerate({"p50": "o", "p95": "s", "p99": "D"}.items(), start=1):
        whole = [rows[-1][column] for rows in timed.values()]
        axes[1].plot(whole, [*timed], marker, label=label)
    axes[1].set(xlabel="time of a whole decision, ms", xscale="log")
    axes[1].xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes[1].xaxis.set_major_formatter("{x:g}")
    axes[1].xaxis.set_minor_formatter(NullFormatter())
    axes[1].legend(loc="upper center", bbox_to_anchor=(0.5, -0.22), ncols=3, fontsize=8)
    axes[0].invert_yaxis()
    run.figure(fig, "latency")
