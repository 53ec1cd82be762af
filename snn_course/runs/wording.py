"""How measured values are written and printed: numbers, spreads, goals, tables."""

import math
import statistics
from collections.abc import Iterable
from typing import Any

from snn_course.runs.measures import deviation


def merged(title: str, table: dict[str, Any]) -> dict[str, Any]:
    """Give one table for all seeds: floats become mean ± standard deviation, constants stay what they are."""
    rows = []
    for same_row in zip(*table["runs"], strict=True):
        rows.append([_merged_cell(cells) for cells in zip(*same_row, strict=True)])
    chapter = table.get("chapter", "")
    return {"title": title, "columns": table["columns"], "rows": rows, "chapter": chapter}


def _merged_cell(cells: tuple[Any, ...]) -> str:
    if not all(isinstance(cell, float) for cell in cells):
        return str(cells[0])
    mean = number(statistics.fmean(cells))
    return mean if len(set(cells)) == 1 else f"{mean} ± {spread(deviation(cells))}"


def number(value: float) -> str:
    """Write a number with about four digits: 0.9783, 97.83, 1234, 1.2e-08."""
    if not math.isfinite(value) or value == 0:
        return f"{value:g}"
    if not 1e-3 <= abs(value) < 1e6:
        return f"{value:.1e}"
    return f"{value:.4g}" if abs(value) < 1000 else f"{value:.0f}"


def spread(std: float) -> str:
    """Write a standard deviation with two digits: what comes after them is noise itself."""
    return number(float(f"{std:.2g}"))


def markdown_row(cells: Iterable[object]) -> str:
    """Write a row of a Markdown table: each cell on one line, and no bar in it that would end it."""
    return "| " + " | ".join(" ".join(str(cell).split()).replace("|", "\\|") for cell in cells) + " |"


def line(name: str, value: float, unit: str) -> str:
    """Say one measured value, as it is printed while further seeds are still to come."""
    return f"{name}: {number(value)} {unit}".rstrip()


def name_of(measure: dict[str, Any]) -> str:
    """Name a measure; of a proof, the number is an error."""
    return f"proof: {measure['name']}" if measure["kind"] == "proof" else str(measure["name"])


def plain_value_of(measure: dict[str, Any]) -> str:
    """Write the value of a measure with its spread: ``97.83 ± 0.07``; of a proof the largest error."""
    if measure["kind"] == "proof":  # it must hold for each seed, so the worst one counts, not the mean
        return number(max(measure["values"], key=lambda error: (math.isnan(error), error)))
    deviation = "" if measure["std"] is None else f" ± {spread(measure['std'])}"
    return number(measure["mean"]) + deviation


def value_of(measure: dict[str, Any]) -> str:
    """Write a measure of metrics.json with its spread and unit: ``97.83 ± 0.07 %``."""
    return f"{plain_value_of(measure)} {measure['unit']}".rstrip()


def goal_of(measure: dict[str, Any]) -> str:
    """Write the bound of a measure: ``>= 97.5``, or nothing."""
    low, high = measure["at_least"], measure["at_most"]
    bounds = [] if low is None else [f">= {number(low)}"]
    return ", ".join(bounds if high is None else [*bounds, f"<= {number(high)}"])


def duration(seconds: float) -> str:
    """Write a time as a reader would: ``8.1 s``, ``14 min``, ``2.5 h``."""
    if seconds < 90:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


def verdict_of(measure: dict[str, Any]) -> str:
    """Say how a measure stands to its goal: met, missed, slower, suspended; nothing where there is none."""
    if not goal_of(measure):
        return ""
    if measure["met"] is None:
        return "suspended"
    if measure["met"]:
        return "met"
    return "slower" if measure["speed"] else "MISSED"


def status_of(measures: list[dict[str, Any]]) -> str:
    """Say in few words how a run ended: what is worst first."""
    told = {verdict_of(measure) for measure in measures}
    return next((status for verdict, status in _STATUS.items() if verdict in told), "all met")


_STATUS = {
    "MISSED": "missed",
    "suspended": "goals suspended: stand-in data",
    "slower": "met, but slower than the goal",
}


def endings(measures: list[dict[str, Any]]) -> list[str]:
    """Say how a run ended: what was slower than its goal, what was suspended, and last what was missed."""
    lines = []
    for verdict, ending in _ENDINGS.items():
        names = [_told(m) for m in measures if verdict_of(m) == verdict]
        if names:
            lines.append(ending.format("; ".join(names)))
    return lines or ["All proofs and goals met."]


_ENDINGS = {
    "slower": "Slower than the goal: {}, on this machine, now.",
    "suspended": "Goals suspended, since the data are a stand-in: {}",
    "MISSED": "Missed: {}",
}


def _told(measure: dict[str, Any]) -> str:
    """Name a measure; one of speed with its value, which another run may change."""
    if not measure["speed"] or measure["met"] is None:
        return str(measure["name"])
    return f"{measure['name']} {value_of(measure)} (goal {goal_of(measure)})"
