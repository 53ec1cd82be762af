"""Which scripts are measured, what was missed or cut off, and where the journal lacks the learner's words."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from snn_course.runs import metrics_file
from snn_course import journal_file, results_dir
from snn_course.journal import text as journal_text
from snn_course.runs.metrics_file import Metrics
from snn_course.runs.scripts import Script
from snn_course.schedule import overview

_MARK = re.compile(r"<!--\s*measured:(?:here|begin) (\w+)")
_BLOCK = re.compile(r"<!--\s*measured:begin .*?<!--\s*measured:end .*?-->", re.DOTALL)


@dataclass
class Standing:
    """The scripts of the course, by what has become of them."""

    missed: dict[str, Metrics] = field(default_factory=dict)
    """Those whose newest run missed a proof or a goal, with that run."""
    measured: list[Script] = field(default_factory=list)
    """All that were measured."""
    at_quick_scale: list[Script] = field(default_factory=list)
    """Those of them that were measured at quick scale alone."""
    cut_off: list[Script] = field(default_factory=list)
    """Those with an unfinished run."""
    unwritten: list[Script] = field(default_factory=list)
    """Those that were measured, with no word of the learner's in their part of the journal."""


def now(scripts: Sequence[Script]) -> Standing:
    """Look at the results and at the journal."""
    standing, written, found = Standing(), _written(), _found()
    for script in scripts:
        runs = found.get(script.stem, [])
        if runs:
            standing.measured.append(script)
            newest = max(runs, key=lambda metrics: metrics["started"])
            if newest["status"] == "missed":
                standing.missed[script.stem] = newest
            if all(metrics["scale"] == "quick" for metrics in runs):
                standing.at_quick_scale.append(script)
            if script.stem not in written:
                standing.unwritten.append(script)
        if any(map(_is_cut_off, results_dir().glob(f"{script.stem}/*/unfinished/*/*"))):
            standing.cut_off.append(script)
    return standing


def _is_cut_off(state: Path) -> bool:
    """Whether a kept state waits for its run: neither damaged, nor older than a run that came to its end."""
    try:
        kept = state.stat().st_mtime_ns
        ended = (state.parents[2] / "metrics.json").stat().st_mtime_ns
    except OSError:  # no run at this scale has ended yet, or the state has just gone
        ended = kept = 0
    return ".damaged" not in state.name and kept >= ended


def has_run(script: Script, standing: Standing) -> bool:
    """Say whether a script was measured; of the environment test, whether it has looked at the machine."""
    if script.is_environment_test:
        return any(results_dir().glob(f"{script.stem}/environment.json"))
    return script in standing.measured


def _found() -> dict[str, list[Metrics]]:
    """Read what each script has left behind, at each scale; what is damaged does not count."""
    found: dict[str, list[Metrics]] = {}
    for result in metrics_file.all_results(results_dir(), check=False):
        if result.metrics and {"started", "status", "scale", "measures"} <= set(result.metrics):
            found.setdefault(result.path.parent.parent.name, []).append(result.metrics)
    return found


def _written() -> set[str]:
    """Name the scripts in whose part of the journal something stands that a person wrote."""
    try:
        text = journal_file().read_text(encoding="utf-8", errors="replace")
    except OSError:
        return set()
    given = {line.strip() for line in journal_text.template().splitlines()}
    stems: set[str] = set()
    for part in re.split(r"(?m)^## ", text)[1:]:
        own_lines = _BLOCK.sub("", part).splitlines()[1:]  # without the heading
        if any(line.strip() not in given and not _MARK.search(line) for line in own_lines):
            stems.update(_MARK.findall(part))
    return stems


# ---------------------------------------------------------------------- in words


def notes(standing: Standing) -> Iterator[str]:
    """Say, in 79 columns, what was missed or cut off, and where the journal lacks the learner's words."""
    for stem, metrics in standing.missed.items():
        yield from _entry("missed", f"{stem}, {metrics['scale']} scale: {_first_missed(metrics)}")
    if standing.cut_off:
        yield from _entry("unfinished", f"{_labels(standing.cut_off)}: the next run goes on where it was")
    if standing.unwritten:
        yield from _entry("journal", f"no words of yours yet on {_labels(standing.unwritten)}")


def _entry(label: str, text: str) -> list[str]:
    return overview.filled(f"{label:11} {text}", "  ", " " * 14)


def _labels(scripts: Sequence[Script]) -> str:
    return " ".join(script.label for script in scripts)


def _first_missed(metrics: Metrics) -> str:
    row = overview.measured(metrics)
    return f"{row[0]}, goal {row[1]}"
