"""The page of pitfalls: what goes wrong in spiking networks, what helps, and what the last run measured."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snn_course.teaching.book.findings import Finding

FILE = Path(__file__).with_name("pitfalls.toml")
NAME = "pitfalls.html"


@dataclass(frozen=True)
class Pitfall:
    """One thing that goes wrong."""

    name: str
    sign: str
    cure: str
    script: str
    """Stem of the script that shows it."""
    chapter: str
    """The function in it, if the page has one place for it."""
    show: tuple[str, ...]
    """Names of the measures that show it."""

    def measured(self, run: Finding | None) -> list[dict[str, Any]]:
        """Give these measures of a run, ready to be printed; those that it lacks are left out."""
        known = {measure["name"]: measure for measure in run.measures} if run else {}
        return [known[name] for name in self.show if name in known]


def read() -> list[Pitfall]:
    """Read all of them."""
    entries = tomllib.loads(FILE.read_text(encoding="utf-8"))["pitfall"]
    return [Pitfall(**(entry | {"show": tuple(entry["show"])})) for entry in entries]


def rows(runs: Mapping[str, Finding | None]) -> list[tuple[Pitfall, list[dict[str, Any]], str]]:
    """Give each pitfall of these scripts, what the last run measured, and where that run comes from."""
    found = []
    for pitfall in read():
        if pitfall.script not in runs:
            continue
        run = runs[pitfall.script]
        found.append((pitfall, pitfall.measured(run), run.origin if run else ""))
    return found
