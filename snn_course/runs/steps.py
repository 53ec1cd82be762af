"""What the steps of a capstone have measured, as paragraphs for its page in the journal.

Numbers come from the steps' ``metrics.json``: the learner's own ones of this scale, else those that came with
the agents, which the page says. A step that was not run is named, and left out.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snn_course.runs import metrics_file, wording
from snn_course import UsageError, results_dir

Table = Mapping[str, Any]


@dataclass(frozen=True)
class Measured:
    """What one step has measured, and whether the learner's own run did."""

    metrics: Mapping[str, Any]
    own: bool


@dataclass(frozen=True)
class Steps:
    """The steps of a capstone: its script's name, where the shipped files lie, and each part's title."""

    script: str
    shipped: Path
    titles: Mapping[str, str]

    def measured(self, part: str, scale: str) -> Measured | None:
        """Read what a step measured: the learner's own run of this scale, else the shipped one, else None."""
        own = results_dir() / f"{self.script}_{part}" / scale / "metrics.json"
        for path in (own, self.shipped / f"{part}.metrics.json"):
            try:
                return Measured(metrics_file.read(path), path == own)
            except UsageError:
                continue
        return None

    def found(self, scale: str) -> dict[str, Measured]:
        """Read all steps that were measured, by part."""
        read = {part: self.measured(part, scale) for part in self.titles}
        return {part: measured for part, measured in read.items() if measured is not None}

    def paragraphs(self, found: Mapping[str, Measured]) -> list[str]:
        """Tell each step's values that are no proofs, and its tables."""
        parts = []
        for part, measured in found.items():
            told = [m for m in measured.metrics["measures"] if m["kind"] != "proof"]
            values = "; ".join(value_and_note(m) for m in told)
            whose = "" if measured.own else " (These figures came with the course.)"
            parts.append(f"**{self.titles[part]}.** {values}.{whose}")
            parts += map(markdown, measured.metrics["tables"])
        return parts

    def missing(self, found: Mapping[str, Measured]) -> list[str]:
        """Name the steps that were not measured, as they are called: ``train --learner pqn``."""
        left = [part.replace("_", " --learner ") for part in self.titles if part not in found]
        return [f"Not measured: {', '.join(left)}."] if left else []


def value_and_note(measure: dict[str, Any]) -> str:
    """Tell one measure, and what it rests on: ``reward 17.0 (100 episodes, ...)``."""
    note = f" ({measure['note']})" if measure["note"] else ""
    return f"{measure['name']} {wording.value_of(measure)}{note}"


def goals(found: Mapping[str, Measured], speed: bool) -> tuple[str, str]:
    """Tell the goals of all steps that were met, and those that were missed; on ``speed`` too, or not."""
    met, missed = [], []
    for part, measured in found.items():
        whose = part if measured.own else f"{part}, the course's"
        for m in measured.metrics["measures"]:
            told = f"{m['name']} ({whose}) {wording.value_of(m)}"
            if m["kind"] == "goal" and m["met"]:
                met.append(told)
            elif m["kind"] == "goal" and m["met"] is False and (speed or not m["speed"]):
                missed.append(f"{told}, aim {wording.goal_of(m)}")
    worked = "; ".join(met) or "No goal was measured"
    return worked, "; ".join(missed) or "Every goal of these steps was met"


def markdown(table: Table) -> str:
    """Write a table with its title in the first cell."""
    first, *others = table["columns"]
    head = [f"{table['title']}: {first}".rstrip(": "), *others]
    lines = [head, ["---", *["---:"] * len(others)], *table["rows"]]
    return "\n".join(map(wording.markdown_row, lines))
