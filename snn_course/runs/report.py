"""What was measured, for reading: the page ``results/index.html`` and the table in README.md."""

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from snn_course.runs import scripts, wording
from snn_course import ROOT, UsageError, reader_is_gone, results_dir, safe_write
from snn_course.runs.metrics_file import Metrics, Result, all_results, headlines

TEMPLATE = Path(__file__).with_name("report.html.j2")
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
README_SCALES = ("cpu", "gpu")
"""A quick run shows that a script works; its numbers stand for nothing else."""

# ---------------------------------------------------------------------- the page


def write_html(results: Path) -> Path:
    """Write ``index.html`` into the results folder: one page, with figures by relative path, no script.

    Damaged results are shown as damaged. Returns: the page's path. Raises: UsageError when it cannot be
    written.
    """
    import jinja2

    page = jinja2.Environment(autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined)
    text = page.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        entries=entries(results),
        environment=environment(results),
    )
    path = results / "index.html"
    safe_write.write(path, text)
    return path


def entries(results: Path) -> list[dict[str, Any]]:
    """All runs in the order of the course, and in their places the scripts that were not measured."""
    found = in_order(all_results(results))
    shown, measured = [entry(result, results) for result in found], {_stem(result) for result in found}
    places = _places()
    for script in scripts.find(ROOT):
        if not script.is_environment_test and script.stem not in measured:
            shown.append({"stem": script.stem, "scale": "", "run": None})
    return sorted(
        shown, key=lambda entry: places.get(entry["stem"], len(places))
    )  # keeps the order of scales


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


def entry(result: Result, results: Path) -> dict[str, Any]:
    """What the page shows of one run."""
    stem, scale, run = _stem(result), result.path.parent.name, result.metrics
    shown = {"stem": stem, "scale": scale, "anchor": f"{stem}-{scale}", "run": run, "problem": result.problem}
    if run is None:
        return shown
    number = stem.partition("_")[0]
    return shown | {
        "label": f"Lesson {number}" if number.isdecimal() else stem.partition("_")[0].capitalize(),
        "measures": [_readable(measure) for measure in run["measures"]],
        "headlines": [_readable(measure) for measure in headlines(run)],
        "status": wording.status_of(run["measures"]),
        "time": wording.duration(run["seconds"]),
        "figures": [
            figure
            | {
                "there": (result.path.parent / figure["file"]).is_file(),
                "link": quote((result.path.parent / figure["file"]).relative_to(results).as_posix()),
            }
            for figure in run["figures"]
        ],
    }


def _readable(measure: dict[str, Any]) -> dict[str, Any]:
    words = {"shown": wording.value_of(measure), "verdict": wording.verdict_of(measure)}
    return measure | words | {"goal": _signs(wording.goal_of(measure))}


def _signs(goal: str) -> str:
    return goal.replace(">=", "≥").replace("<=", "≤")


def environment(results: Path) -> dict[str, Any] | None:
    """What the environment test found, or None when it did not run."""
    path = results / scripts.ENVIRONMENT_TEST / "environment.json"
    if not path.exists():
        return None
    try:
        findings = json.loads(path.read_text(encoding="utf-8"))
        lines = [
            {key: str(line[key]) for key in ("name", "status", "detail", "fix")} for line in findings["lines"]
        ]
        return {
            "problem": "",
            "summary": ", ".join(f"{number} {status}" for status, number in findings["counts"].items()),
            "failed": findings["failed"],
            "remarkable": [line for line in lines if line["status"] != "ok"],
            "fine": [line for line in lines if line["status"] == "ok"],
            "note": findings["note"],
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {"problem": f"{path} is damaged: run 00_environment_test.py again.", "summary": ""}


def _stem(result: Result) -> str:
    return result.path.parent.parent.name


# ---------------------------------------------------------------------- README.md


def readme_table(results: Path) -> str:
    """Give a Markdown table of the cpu and gpu runs, in the order of the course.

    A script that was not measured at one of these scales says so.
    """
    found = [r for r in in_order(all_results(results)) if r.path.parent.name in README_SCALES]
    lines = ["| lesson | question | result | goal | run time | status |", "|---|---|---|---|---:|---|"]
    for script in scripts.find(ROOT):
        if script.is_environment_test:
            continue
        link = f"[{script.stem}]({quote(script.front.relative_to(ROOT).as_posix())})"
        mine = [result for result in found if _stem(result) == script.stem]
        for result in mine:
            lines.append(_markdown_row([link, script.card()["question"], *_measured(result)]))
        if not mine:
            lines.append(_markdown_row([link, script.card()["question"], "", "", "", "not measured yet"]))
    return "\n".join(lines) + "\n"


def _measured(result: Result) -> list[str]:
    """Cells of one run: result, goal, run time, status."""
    run = result.metrics
    if run is None:
        return ["", "", "", f"damaged ({result.path.parent.name} scale)"]
    chosen = headlines(run)
    values = [f"{measure['name']} **{wording.value_of(measure)}**" for measure in chosen]
    how = ", ".join([_seeds(run), *(_data(run)), f"{run['scale']} scale"])
    goals = [_signs(wording.goal_of(measure)) for measure in chosen]
    status = wording.status_of(run["measures"])
    return ["<br>".join([*values, how]), "<br>".join(goals), wording.duration(run["seconds"]), status]


def _seeds(run: Metrics) -> str:
    return f"{run['seeds']} seeds" if run["seeds"] > 1 else "1 seed"


def _data(run: Metrics) -> list[str]:
    return [data["as_used"] for data in run["data"]]


def _markdown_row(cells: list[str]) -> str:
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"


def update_readme(readme: Path, table: str) -> None:
    """Put the table between the two markers of a README. Raises: UsageError when they are not there."""
    try:
        text = readme.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"Cannot read {readme}: {error.strerror}.") from None
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not (begin and end):
        raise UsageError(f"{readme} lacks the lines {BEGIN} and {END}, between which the table goes.")
    safe_write.write(readme, f"{head}{BEGIN}\n{table}{END}{tail}")


def main(arguments: list[str]) -> int:
    """Write the page, and with ``--readme`` the table. Returns: the exit code."""
    try:
        print(f"All results: {write_html(results_dir())}")
        if "--readme" in arguments:
            update_readme(ROOT / "README.md", readme_table(results_dir()))
            print("The table in README.md is up to date.")
        sys.stdout.flush()
    except UsageError as error:
        print(f"course.py report: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if not reader_is_gone(error):
            raise
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
