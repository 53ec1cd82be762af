"""What was measured, for reading: the order of the results, and the table in README.md."""

from pathlib import Path
from urllib.parse import quote

from snn_course.runs import scripts, wording
from snn_course import ROOT, UsageError, safe_write
from snn_course.runs.metrics_file import Metrics, Result, all_results, headlines

README_SCALES = ("cpu", "gpu")
"""A quick run shows that a script works; its numbers stand for nothing else."""


def _places() -> dict[str, int]:
    return {script.stem: place for place, script in enumerate(scripts.find(ROOT))}


def in_order(found: list[Result]) -> list[Result]:
    """Sort results as the course goes, and the scales of one script from quick to gpu."""
    places = _places()
    scales = {"quick": 0, "cpu": 1, "gpu": 2}

    def place(result: Result) -> tuple[int, str, int]:
        stem, scale = _stem(result), result.path.parent.name
        return places.get(stem, len(places)), stem, scales.get(scale, len(scales))

    return sorted(found, key=place)


def signs(goal: str) -> str:
    """Write a goal with the signs that a reader expects: ``≥ 97``."""
    return goal.replace(">=", "≥").replace("<=", "≤")


def _stem(result: Result) -> str:
    return result.path.parent.parent.name


# ---------------------------------------------------------------------- README.md


def readme_table(results: Path) -> str:
    """Give a Markdown table of the cpu and gpu runs, in the order of the course.

    A script that was not measured at one of these scales says so.
    """
    found = [r for r in in_order(all_results(results)) if r.path.parent.name in README_SCALES]
    columns = ["lesson", "question", "result", "goal", "core time", "status"]
    lines = [wording.markdown_row(columns), "|---|---|---|---|---:|---|"]
    for script in scripts.find(ROOT):
        if script.is_environment_test:
            continue
        link = f"[{script.stem}]({quote(script.front.relative_to(ROOT).as_posix())})"
        mine = [result for result in found if _stem(result) == script.stem]
        for result in mine:
            lines.append(wording.markdown_row([link, script.card()["question"], *_measured(result)]))
        if not mine:
            blank = ["", "", "", "not measured yet"]
            lines.append(wording.markdown_row([link, script.card()["question"], *blank]))
    return "\n".join(lines) + "\n"


def _measured(result: Result) -> list[str]:
    """Cells of one run: result, goal, time of a core (in older results: on the clock), status."""
    run = result.metrics
    if run is None:
        return ["", "", "", f"damaged ({result.path.parent.name} scale)"]
    chosen = headlines(run)
    values = [f"{measure['name']} **{wording.value_of(measure)}**" for measure in chosen]
    how = ", ".join([_seeds(run), *(_data(run)), f"{run['scale']} scale"])
    goals = [signs(wording.goal_of(measure)) for measure in chosen]
    status = wording.status_of(run["measures"])
    time = wording.duration(run["cpu_seconds"] if "cpu_seconds" in run else run["seconds"])
    return ["<br>".join([*values, how]), "<br>".join(goals), time, status]


def _seeds(run: Metrics) -> str:
    return f"{run['seeds']} seeds" if run["seeds"] > 1 else "1 seed"


def _data(run: Metrics) -> list[str]:
    return [data["as_used"] for data in run["data"]]


def update_readme(readme: Path, table: str, name: str = "results") -> None:
    """Put the table between two markers of a README, which bear its name. Raises: UsageError without them."""
    try:
        text = readme.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"Cannot read {readme}: {error.strerror}.") from None
    first, last = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    head, begin, rest = text.partition(first)
    _, end, tail = rest.partition(last)
    if not (begin and end):
        raise UsageError(f"{readme} lacks the lines {first} and {last}, between which the table goes.")
    safe_write.write(readme, f"{head}{first}\n{table}{last}{tail}")
