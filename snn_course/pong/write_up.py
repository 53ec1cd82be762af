"""The capstone's page in the journal, written from what the steps have measured.

Numbers come from the steps' ``metrics.json``: the learner's own ones of this scale, else those that came with
the agents (``checkpoints/<part>.metrics.json``). A step that was not run is named, and left out.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from snn_course.runs import metrics_file, wording
from snn_course import UsageError, results_dir
from snn_course.pong import checkpoints, judging, network
from snn_course.pong.checkpoints import SHIPPED

Table = Mapping[str, Any]
PARTS = {
    "train_pqn": "Learning to play: PQN",
    "train_dqn": "Learning to play: DQN",
    "train_aware": "Learning on: PQN, aware of the last action",
    "convert": "From the teacher to spikes: no training, and training with levels",
    "spike": "Spikes that learn: from the teacher, and alone",
    "perceive": "What the agent sees: pictures or events",
    "quantise": "Bits: 4 and 2, on the chip",
    "sparsify": "Reward against spikes",
}
CHOICES = """\
**Architecture.** One Q-network in all executions: 4 pictures of the court (31x42, 4 bits), three 3x3
convolutions with stride 2 (16, 32, 32 filters), a dense layer of 128, and Q of three actions;
{size:,} weights and biases. Who knows its last action gets 2 planes more, of 144 weights each. There are no
norms, so that what learns is what the chip computes, and no other kernels than the AKD1000 has.

**Policy.** The best Q, always. Sticky actions (0.25) stay on when an agent is judged. The benchmark has a
second table without them, beside the players that were published so.

**Training.** A conventional Q-learner comes first, then students under its eye (DAgger), whose loss weighs
each choice by what it costs. 4 bits teach 2 bits, whose 3 levels take few spikes. The agent is taught in two
executions in turn: as levels for the chip, and as free-running spikes."""


def page(scale: str, tables: Sequence[Table]) -> str:
    """Give the page (Markdown): choices, what each step measured, and the benchmark's tables.

    Args:
        scale: of the learner's results.
        tables: with title, columns and rows, as in metrics.json.
    """
    found = {part: metrics for part in PARTS if (metrics := measured(part, scale)) is not None}
    choices = CHOICES.format(size=network.size(network.q_network()))
    parts = [choices, *_perception(scale)]
    for part, metrics in found.items():
        parts += [f"**{PARTS[part]}.** {_sentences(metrics)}", *map(_markdown, metrics["tables"])]
    parts += ["**The benchmark.** The shipped agent on each execution.", *map(_markdown, tables)]
    return "\n\n".join([*parts, *_verdict(found), _missing(found)]).rstrip()


def measured(part: str, scale: str) -> Mapping[str, Any] | None:
    """Read what a step measured: the learner's own run of this scale, else the shipped one, else None."""
    for path in (
        results_dir() / f"capstone_pong_{part}" / scale / "metrics.json",
        SHIPPED / f"{part}.metrics.json",
    ):
        try:
            return metrics_file.read(path)
        except UsageError:
            continue
    return None


def _perception(scale: str) -> list[str]:
    """Argue for pictures, or not, from what two students with the same training earn."""
    cards = checkpoints.cards(("pictures", "events"), scale)
    told = [judging.report_of(card) for card in cards.values()]
    if len(told) < 2 or told[0] is None or told[1] is None:
        return []
    gain, error = told[1].mean - told[0].mean, math.hypot(told[0].error, told[1].error)
    if gain > 2 * error:
        verdict = "So events would be the better choice; all other agents see pictures, as in the literature."
    else:
        verdict = (
            "That is no reason to leave the pictures of the literature: a paddle that waits sends no events, "
            "and three pairs in two polarities are six channels, not four."
        )
    return [
        f"**Perception.** The agent sees pictures. With the same training, events earn {gain:+.1f} ± "
        f"{error:.1f} points against them. {verdict}"
    ]


def _sentences(metrics: Mapping[str, Any]) -> str:
    """Tell the measures that are neither proofs nor details of the mapping."""
    told = [m for m in metrics["measures"] if m["kind"] != "proof"]
    return "; ".join(f"{m['name']} {wording.value_of(m)}" for m in told) + "."


def _markdown(table: Table) -> str:
    first, *others = table["columns"]
    head = [f"{table['title']}: {first}".rstrip(": "), *others]
    lines = [head, ["---", *["---:"] * len(others)], *table["rows"]]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def _verdict(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Say which goals were met, and which were not."""
    goals = [(part, m) for part, metrics in found.items() for m in metrics["measures"] if m["kind"] == "goal"]
    worked = [f"{m['name']} ({part}) {wording.value_of(m)}" for part, m in goals if m["met"]]
    failed = [
        f"{m['name']} ({part}) {wording.value_of(m)}, aim {wording.goal_of(m)}"
        for part, m in goals
        if m["met"] is False and not m["speed"]
    ]
    return [
        f"**What worked.** {'; '.join(worked) or 'No goal was measured'}.",
        f"**What did not.** {'; '.join(failed) or 'Every goal of these steps was met'}.",
    ]


def _missing(found: Mapping[str, Mapping[str, Any]]) -> str:
    left = [part.replace("_", " --learner ") for part in PARTS if part not in found]
    return f"Not measured: {', '.join(left)}." if left else ""
