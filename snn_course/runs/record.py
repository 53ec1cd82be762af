"""What a run has recorded: measures, tables, figures, sentences, the data it used, its page of analysis.

``Run`` adds to it while the lesson computes, and metrics.json is made from it. With several seeds it grows
seed by seed, and each seed's part can be kept (``of_seed``), read again (``read``) and taken over (``take``).
"""

import dataclasses
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from snn_course.runs import spent, unfinished, wording
from snn_course.runs.measures import Measure, UsedData


class Record:
    """All results of one run, over the seeds so far."""

    def __init__(self) -> None:
        self.measures: dict[str, Measure] = {}
        self.tables: dict[str, dict[str, Any]] = {}
        self.figures: dict[str, dict[str, str]] = {}
        self.sentences: list[dict[str, str]] = []
        self.chapters: dict[str, None] = {}  # in the order of their first result
        self.data: dict[str, dict[str, Any]] = {}
        self.analysis = ""
        self._values: dict[str, int] = {}  # how many values of each measure earlier seeds have left
        self._rows: dict[str, int] = {}  # the same for tables
        self._said = 0  # and for sentences

    def add(self, measure: Measure, value: float) -> Measure:
        """Add this seed's value to the measure of that name. Returns: the measure, with all its values."""
        measure = self.measures.setdefault(measure.name, measure)
        measure.values.append(value)
        return measure

    def add_table(
        self, title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], chapter: str
    ) -> None:
        """Add this seed's rows to the table of that title."""
        new = {"columns": list(columns), "runs": [], "chapter": chapter}
        table = self.tables.setdefault(title, new)
        # Numbers of numpy and torch become Python's own, which JSON knows.
        table["runs"].append([[c.item() if hasattr(c, "item") else c for c in row] for row in rows])

    def table(self, title: str) -> dict[str, Any]:
        """Give a table as metrics.json has it: title, columns, and rows, merged over the seeds."""
        return wording.merged(title, self.tables[title])

    def add_data(self, images: UsedData) -> None:
        """Name the data that the results come from."""
        self.data[images.as_used] = {
            "name": images.name,
            "as_used": images.as_used,
            "stand_in": images.stand_in,
        }

    def stand_in(self) -> str:
        """Say which data are not the real ones; nothing when all are."""
        names = dict.fromkeys(entry["name"] for entry in self.data.values() if entry["stand_in"])
        return f"Stand-in data: {'; '.join(names)}" if names else ""

    def judged(self, measures: Iterable[Measure]) -> list[dict[str, Any]]:
        """Judge measures by their bounds. A stand-in suspends goals, but no proof."""
        return [m.judged(bounded=m.kind == "proof" or not self.stand_in()) for m in measures]

    def entries(self) -> dict[str, Any]:
        """Give what metrics.json holds of it."""
        return {
            "data": list(self.data.values()),
            "measures": self.judged(self.measures.values()),
            "tables": [self.table(title) for title in self.tables],
            "figures": [{"file": name, **figure} for name, figure in self.figures.items()],
            "sentences": self.sentences,
        }

    # ------------------------------------------------------------------ seed by seed

    def begin_seed(self) -> None:
        """Note what is there before a seed measures: some measures and tables are made with one alone."""
        self._values = {name: len(m.values) for name, m in self.measures.items()}
        self._rows = {title: len(t["runs"]) for title, t in self.tables.items()}
        self._said = len(self.sentences)

    def of_seed(self) -> dict[str, Any]:
        """Give what this seed measured, and what else has been recorded, to be kept as JSON."""
        measures = {}
        for name, measure in self.measures.items():
            measures[name] = vars(measure) | {"values": measure.values[self._values.get(name, 0) :]}
        tables = {}
        for title, table in self.tables.items():
            tables[title] = table | {"runs": table["runs"][self._rows.get(title, 0) :]}
        return {
            "measures": measures,
            "tables": tables,
            "figures": self.figures,
            "sentences": self.sentences[self._said :],
            "chapters": list(self.chapters),
            "data": self.data,
            "analysis": self.analysis,
        }

    def take(self, kept: dict[str, Any]) -> None:
        """Take over what an earlier start kept of a seed, as ``read`` gives it."""
        for name, measure in kept["measures"].items():
            self.measures.setdefault(name, dataclasses.replace(measure, values=[])).values += measure.values
        for title, table in kept["tables"].items():
            self.tables.setdefault(title, {**table, "runs": []})["runs"] += table["runs"]
        self.figures |= kept["figures"]
        self.sentences += kept["sentences"]
        self.chapters |= dict.fromkeys(kept["chapters"])
        self.data |= kept["data"]
        self.analysis = self.analysis or kept["analysis"]


def read(path: Path) -> dict[str, Any]:
    """Read what was kept of a seed: as ``of_seed`` gives it, with Measures, and what it has "spent".

    Raises: KeyError or TypeError for what another version wrote.
    """
    kept = json.loads(unfinished.body(path))
    measures = {name: Measure(**fields) for name, fields in kept["measures"].items()}
    others = ("tables", "figures", "sentences", "chapters", "data", "analysis")
    cost = kept.get("spent", spent.NOTHING)
    return {name: kept[name] for name in others} | {"measures": measures, "spent": cost}
