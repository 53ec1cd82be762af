"""What runs have left behind, laid out for a page: by the function that produced it."""

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from snn_course.runs import report, scripts, wording
from snn_course.runs.metrics_file import Metrics, Result, headlines

INCHES = 1.3
"""Dots of a figure for one of the page: figures are drawn with 130 dots an inch, pages have 100."""


@dataclass
class Made:
    """What one function produced in one run."""

    chapter: str
    figures: list[dict[str, Any]]
    tables: list[dict[str, Any]]
    sentences: list[str]
    measures: list[dict[str, Any]]

    @property
    def is_empty(self) -> bool:
        """Nothing was recorded."""
        return not (self.figures or self.tables or self.sentences or self.measures)


@dataclass
class Finding:
    """One run of one script, or the reason why its file cannot be shown."""

    stem: str
    scale: str
    problem: str
    run: Metrics | None
    folder: Path

    @property
    def anchor(self) -> str:
        """Where it stands on its page."""
        return f"run-{self.scale}"

    @property
    def started(self) -> str:
        """When it began, in a form that sorts by time; empty of a damaged one."""
        return str(self.run["started"]) if self.run else ""

    @property
    def status(self) -> str:
        """How it ended, in few words."""
        return wording.status_of(self.run["measures"]) if self.run else "damaged"

    @property
    def time(self) -> str:
        """How long it took."""
        return wording.duration(self.run["seconds"]) if self.run else ""

    @property
    def seeds(self) -> str:
        """With which seeds."""
        if self.run is None:
            return ""
        first, number = self.run["seed"], self.run["seeds"]
        return f"seed {first}" if number == 1 else f"seeds {first} to {first + number - 1}"

    @property
    def data(self) -> list[str]:
        """The data as they were used."""
        return [_data(used) for used in self.run["data"]] if self.run else []

    @property
    def stand_ins(self) -> list[str]:
        """Those of them that are not the real ones."""
        return [used["as_used"] for used in self.run["data"] if used["stand_in"]] if self.run else []

    @property
    def origin(self) -> str:
        """Scale, seeds and data of every number, in one line."""
        return "; ".join([f"{self.scale} scale", self.seeds, *self.data])

    @property
    def measures(self) -> list[dict[str, Any]]:
        """All measures."""
        return [readable(measure) for measure in self.run["measures"]] if self.run else []

    @property
    def headlines(self) -> list[dict[str, Any]]:
        """The measures that stand for the run."""
        return [readable(measure) for measure in headlines(self.run)] if self.run else []

    def chapters(self) -> list[str]:
        """Name the functions that produced something, in the order in which the file names them."""
        if self.run is None:
            return []
        kinds = (self.run[kind] for kind in ("measures", "tables", "sentences", "figures"))
        names = [entry.get("chapter", "") for entries in kinds for entry in entries]
        return list(dict.fromkeys(names))

    def made_by(self, chapter: str) -> Made:
        """Give what a function produced."""
        run = self.run or {"figures": [], "tables": [], "sentences": [], "measures": []}
        figures, tables, sentences, measures = (
            [entry for entry in run[kind] if entry.get("chapter", "") == chapter]
            for kind in ("figures", "tables", "sentences", "measures")
        )
        return Made(
            chapter,
            [_figure(entry, self.folder) for entry in figures],
            tables,
            [entry["text"] for entry in sentences],
            [readable(measure) for measure in measures],
        )


def of(result: Result) -> Finding:
    """Take one metrics.json, good or damaged."""
    folder = result.path.parent
    return Finding(folder.parent.name, folder.name, result.problem, result.metrics, folder)


def newest(found: list[Finding]) -> Finding | None:
    """Give the last run; None when no run can be read."""
    whole = [finding for finding in found if finding.run]
    return max(whole, key=lambda finding: finding.started) if whole else None


def readable(measure: dict[str, Any]) -> dict[str, Any]:
    """Add to a measure how it is written: its value with spread and unit, its goal, its verdict."""
    words = {"shown": wording.value_of(measure), "verdict": wording.verdict_of(measure)}
    return measure | words | {"goal": report.signs(wording.goal_of(measure))}


def _data(used: dict[str, Any]) -> str:
    return used["as_used"] + (" (stand-in)" if used["stand_in"] else "")


def _figure(figure: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Add where a picture is, seen from a page of the book, and how large it is to be shown."""
    path = folder / figure["file"]
    width, height = size_of(path)
    place = f"../{folder.parent.name}/{folder.name}/{path.name}"
    link = quote(place) if path.is_file() else ""
    title = figure["title"].strip() or figure["file"]
    return figure | {
        "title": title,
        "link": link,
        "width": round(width / INCHES),
        "height": round(height / INCHES),
    }


def size_of(picture: Path) -> tuple[int, int]:
    """Read width and height of a PNG or GIF from its first bytes; 0, 0 of anything else."""
    try:
        with picture.open("rb") as file:
            head = file.read(24)
    except OSError:
        return 0, 0
    if head[:8] == b"\x89PNG\r\n\x1a\n" and len(head) == 24:
        return struct.unpack(">II", head[16:24])
    if head[:3] == b"GIF" and len(head) >= 10:
        return struct.unpack("<HH", head[6:10])
    return 0, 0


def machine(results: Path) -> dict[str, Any] | None:
    """What the environment test found, or None when it did not run."""
    path = results / scripts.ENVIRONMENT_TEST / "environment.json"
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        lines = [
            {key: str(line[key]) for key in ("name", "status", "detail", "fix")} for line in found["lines"]
        ]
        return {
            "problem": "",
            "summary": ", ".join(f"{number} {status}" for status, number in found["counts"].items()),
            "failed": found["failed"],
            "remarkable": [line for line in lines if line["status"] != "ok"],
            "fine": [line for line in lines if line["status"] == "ok"],
            "note": found["note"],
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {"problem": f"{path} is damaged: run 00_environment_test.py again.", "summary": ""}
