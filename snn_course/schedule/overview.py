"""What ``course.py`` prints of results: the table at the end of a run, and the list of all scripts."""

import shutil
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from snn_course.runs import metrics_file, wording
from snn_course import UsageError, results_dir
from snn_course.runs.metrics_file import Result
from snn_course.runs.scripts import Script

WIDTH = 79
"""Columns of a line, in a terminal that has as many."""
NARROWEST = 24
"""Columns below which a line is rather broken by the terminal."""
TABLE = (25, 26, 11, 9, 4)
"""Columns of the final table; with the spaces between them they fill the width."""
HEAD = ["lesson", "measured", "goal", "met", "s"]

Row = list[str]
Stamps = dict[Path, int]

# ---------------------------------------------------------------------- the table at the end


def stamps(stem: str) -> Stamps:
    """Time of each results file of a script, by which a new one is told from an old one."""
    return {path: path.stat().st_mtime_ns for path in results_dir().glob(f"{stem}/*/metrics.json")}


def row_of(stem: str, code: int, before: Stamps, seconds: float) -> Row:
    """One line of the final table: lesson, headline measure, goal, met, seconds."""
    new = [path for path, stamp in stamps(stem).items() if before.get(path) != stamp]
    took = in_four(seconds)
    if not new and code:
        how = f"ended with exit code {code}" if code > 0 else f"killed by signal {-code}"
        return [stem, how, "", "FAILED", took]
    if not new:  # as it should be for the environment test, which measures nothing
        return [stem, "", "", "ok", took]
    try:
        newest = max(new, key=lambda path: path.stat().st_mtime_ns)
        return [stem, *measured(metrics_file.read(newest, check=False))]
    except (UsageError, KeyError, TypeError):
        return [stem, "its metrics.json is damaged", "", "FAILED", took]


def measured(metrics: dict[str, Any]) -> Row:
    """Give measure, goal, met and seconds: of the first goal that was missed, else of the headline."""
    took = in_four(metrics["seconds"])
    missed = [measure for measure in metrics["measures"] if wording.verdict_of(measure) == "MISSED"]
    shown = missed[:1] or metrics_file.headlines(metrics)[:1]
    if not shown:
        return ["nothing measured", "-", "-", took]
    value = wording.value_of(shown[0])
    name = cut(shown[0]["name"], TABLE[1] - len(value) - 1)
    goal, verdict = wording.goal_of(shown[0]), wording.verdict_of(shown[0])
    return [f"{name} {value}", goal or "-", verdict or "-", took]


def in_four(seconds: float) -> str:
    """Write seconds in four characters: 9999, then 167m."""
    return f"{seconds:.0f}" if seconds < 9999.5 else f"{seconds / 60:.0f}m"


def table(rows: Sequence[Row]) -> list[str]:
    """Lay out the final table, in 79 columns."""
    return [_laid_out(row) for row in [HEAD, *rows]] if rows else []


def _laid_out(row: Row) -> str:
    *cells, seconds = [cut(cell, width) for cell, width in zip(row, TABLE, strict=True)]
    columns = [cell.ljust(width) for cell, width in zip(cells, TABLE, strict=False)]
    return " ".join([*columns, seconds.rjust(TABLE[-1])])


def cut(text: str, width: int) -> str:
    """Shorten a text to a width; two dots say that something is missing."""
    return text if len(text) <= width else text[: max(width - 2, 0)] + ".."


# ---------------------------------------------------------------------- the list of scripts


def listed(scripts: Sequence[Script]) -> Iterator[str]:
    """Give the lines of the list: each script with its question and its last headline result."""
    found = metrics_file.all_results(results_dir(), check=False)
    for script in scripts:
        card = script.card()
        yield f"{script.stem}: {card['title']}" if script.stem != card["title"] else script.stem
        if card["question"]:
            yield from filled(card["question"], "    ")
        if not script.is_environment_test:
            mine = [result for result in found if result.path.parent.parent.name == script.stem]
            yield from filled(last_result(mine), "    ", "      ")


def width() -> int:
    """Give the columns that a line may fill: 79, or fewer in a narrow terminal."""
    columns = shutil.get_terminal_size((WIDTH + 1, 24)).columns
    return max(NARROWEST, min(WIDTH, columns - 1))


def filled(text: str, indent: str, further: str | None = None) -> list[str]:
    """Break a text into indented lines; ``further`` is the indent from the second line on."""
    rest = indent if further is None else further
    return textwrap.wrap(text, width(), initial_indent=indent, subsequent_indent=rest)


def last_result(found: Sequence[Result]) -> str:
    """Say what the newest of a script's runs measured."""
    if not found:
        return "not measured yet"
    try:
        newest = max((result.metrics for result in found if result.metrics), key=lambda m: m["started"])
        shown = "; ".join(_headline(measure) for measure in metrics_file.headlines(newest))
        seeds = f"{newest['seeds']} seed" + "s" * (newest["seeds"] > 1)
        return f"{shown}, {newest['scale']} scale, {seeds}"
    except (KeyError, TypeError, ValueError, AttributeError):
        return "its metrics.json is damaged: run it again"


def _headline(measure: dict[str, Any]) -> str:
    shown = f"{measure['name']} {wording.value_of(measure)}"
    verdict = wording.verdict_of(measure)
    return f"{shown} (goal {wording.goal_of(measure)}, {verdict})" if verdict else shown


# ---------------------------------------------------------------------- before a first run on a GPU


def for_comparison(scripts: Sequence[Script]) -> list[str]:
    """Tell what scripts measured at cpu scale that have no results at gpu scale, and what is known of times.

    There is no line if all have results at gpu scale.
    """
    found = metrics_file.all_results(results_dir(), check=False)
    at_scale = {(result.path.parent.parent.name, result.path.parent.name): result for result in found}
    new = [script.stem for script in scripts if (script.stem, "gpu") not in at_scale]
    if not new:
        return []
    lines = filled("Not measured at gpu scale yet; README.md has the results at cpu scale.", "")
    known = [stem for stem in new if (stem, "cpu") in at_scale]
    if known:
        lines = ["Not measured at gpu scale yet; at cpu scale, for comparison:"]
        for stem in known:
            lines += filled(f"{stem}: {last_result([at_scale[stem, 'cpu']])}", "  ", "    ")
    return [*lines, *filled(UNKNOWN, ""), ""]


UNKNOWN = (
    "How long they take on this card is not known before they run: most trainings say it after some steps. "
    "'python benchmarks/gpu_scale.py' tries five of them, shortened, in 8 minutes."
)
