"""The learning curves of the Pong capstone: of what has just learnt, and of all agents by their cards.

Each title is made from the values that are drawn.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from snn_course.runs import figures
from snn_course.pong import agents, checkpoints, judging
from snn_course.pong.pqn import History
from snn_course.runs.run import Run

from matplotlib.axes import Axes


class Learnt(NamedTuple):
    """How an agent has learnt, and how it was judged afterwards."""

    curve: History
    """Its rounds."""
    report: judging.Report
    before: float = 0
    """Decisions of the player from which it went on."""


Curves = dict[str, Learnt]


def of_cards(names: Iterable[str], scale: str) -> Curves:
    """Give the curves of agents that were judged, by their cards; names in capitals."""
    found: Curves = {}
    for name, card in checkpoints.cards(names, scale).items():
        report = judging.report_of(card)
        if report is not None:
            found[name.upper()] = Learnt(card["curve"], report, card.get("before", 0))
    return found


def title_of_curves(points: Mapping[str, float]) -> str:
    """Say what each agent earns in the end, where it was judged."""
    if not points:
        return "How the agents learnt; none was judged yet"
    told = [f"{name} {mean:.1f}" for name, mean in points.items()]
    return "Points at the end: " + ", ".join(told)


def rounds(curve: History) -> History:
    """Leave out a last round that is shorter than half a round: it has hardly a point to go by."""
    if len(curve) < 2:
        return curve
    whole = curve[0]["steps"]
    last = curve[-1]["steps"] - curve[-2]["steps"]
    return curve if last >= whole / 2 else curve[:-1]


def is_by_episodes(curve: History) -> bool:
    """Tell whether a curve is made of episodes that ended in a round, in place of points."""
    return bool(curve) and "points" not in curve[0]


def draw_curves(run: Run, curves: Curves) -> None:
    """Draw the learning curves against decisions and against time."""
    ends = {name: learnt.report.mean for name, learnt in curves.items()}
    fig, axes = figures.new(title_of_curves(ends), columns=2, size=(7.5, 3.2), sharey=True)
    for name, learnt in curves.items():
        kept = rounds(learnt.curve)
        rewards = [told["reward"] for told in kept]
        dashed = "o--" if is_by_episodes(learnt.curve) else "o-"
        steps = [(learnt.before + told["steps"]) / 1e6 for told in kept]
        axes[0].plot(steps, rewards, dashed, ms=3, label=name)
        axes[1].plot([told["seconds"] / 60 for told in kept], rewards, dashed, ms=3, label=name)
    axes[0].set(xlabel="decisions, millions", ylabel="reward of an episode", ylim=(-21.5, 21.5))
    axes[1].set(xlabel="CPU time of this training alone, minutes")
    figures.legend_outside(axes[1])
    run.figure(fig, "learning")


ALONE = ("pqn", "dqn", "aware", "direct")
"""Agents that learn from the game itself; the others learn under the teacher's eye."""
UNDER_THE_EYE = tuple(name for name in agents.NAMES if name not in ALONE)


def draw_cards(run: Run) -> None:
    """Draw how the agents at hand have learnt, by their cards: alone, and under the teacher's eye.

    While an agent learns it acts at random now and then, so a curve may end below what the agent earns when
    it is judged. A curve is made of the points of a round (``pqn.expected``); older cards count the episodes
    that ended in one, which are few, and those curves are dashed.
    """
    cards = checkpoints.cards(agents.NAMES, run.config.scale)
    learnt = {name: card for name, card in cards.items() if card.get("curve")}
    if not learnt:
        return
    ends: dict[str, float] = {}
    for name in ("pqn", "aware", "direct", "four", "sparse"):
        report = judging.report_of(learnt.get(name, {}))
        if report is not None:
            ends[name] = report.mean
    fig, axes = figures.new(title_of_curves(ends), columns=2, size=(11, 4.2))
    colours = iter((*figures.COLOURS, figures.GREY))
    for name in UNDER_THE_EYE:
        if name in learnt:
            draw_card(axes[1], name, learnt[name], 1e3, next(colours))
    for name, colour in zip(ALONE, figures.COLOURS, strict=False):
        if name in learnt:
            draw_card(axes[0], name, learnt[name], 1e6, colour)
    axes[0].set(title="from the game itself", xlabel="decisions, millions")
    axes[1].set(title="under the teacher's eye", xlabel="decisions, thousands")
    for ax in axes:
        ax.set(ylabel="reward of an episode", ylim=(-21.5, 21.5))
        ax.set_xlim(left=0)
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=2, fontsize=8)
    run.figure(fig, "learning")


def draw_card(ax: Axes, name: str, card: Mapping[str, Any], unit: float, colour: str) -> None:
    """Draw one learning curve; the legend tells what the agent earns when it is judged."""
    kept = rounds(card["curve"])
    steps = [(card.get("before", 0) + told["steps"]) / unit for told in kept]
    rewards = [told["reward"] for told in kept]
    report = judging.report_of(card)
    label = f"{name}: {report.mean:.1f} ± {report.error:.1f}" if report else name
    style = "o-"
    if is_by_episodes(card["curve"]):
        label += " (dashed: whole episodes)"
        style = "o--"
    ax.plot(steps, rewards, style, ms=3, color=colour, label=label)
