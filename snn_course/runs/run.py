"""One run of a script: what a lesson records results with, and how they are printed, kept and stored."""

import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from snn_course.runs import (
    chapters,
    compute,
    metrics_file,
    notebook,
    progress,
    provenance,
    record,
    spent,
    unfinished,
)
from snn_course import UsageError, journal_file, results_dir, safe_write
from snn_course.journal import blocks as journal
from snn_course.runs.measures import Bound, Measure, ProofMissed, UsedData

if TYPE_CHECKING:
    from snn_course.runs.settings import Config

    import torch
    from matplotlib.figure import Figure

Item = TypeVar("Item")


class Run:
    """What a lesson's ``main`` measures with: it prints results chapter by chapter, and stores them all.

    A chapter is the function that ``main`` called. Its measures stand in one table, printed when the next
    chapter begins; with several seeds each value has a line, and the tables of all seeds come at the end.
    """

    device: "torch.device"
    """Where this run's tensors live."""

    def __init__(self, config: "Config", script: Path) -> None:
        from rich.console import Console

        self.config = config
        self.script = script
        self.scale: str = config.scale
        self.seed = config.seed
        self.first = os.environ.get("RANK", "0") == "0"  # under torchrun, process 0 alone writes results
        self._stored = results_dir() / provenance.name_of(config, script) / config.scale
        self._scratch = None if self.first else tempfile.TemporaryDirectory()
        self.folder = Path(self._scratch.name) if self._scratch else self._stored
        self.console: Console = Console(  # text in a notebook, too: there rich would make HTML of its own
            highlight=False, soft_wrap=False, quiet=not self.first, force_jupyter=False
        )
        self.device = compute.device_of(config)
        self._printer = chapters.Printer(self.console)
        self._chapter = ""
        self._unprinted: dict[str, Measure] = {}  # measures of this chapter that are in no table yet
        self.record = record.Record()
        self._started = datetime.now(UTC).isoformat(timespec="seconds")
        place = self._stored / "unfinished"
        self._unfinished = unfinished.Unfinished(place, config, script, self._print, writes=self.first)
        self._spent = spent.Spent()
        safe_write.check_folder(self.folder)
        self._unfinished.prepare(fresh=config.fresh and self.first)

    # ------------------------------------------------------------------ what a lesson calls

    @property
    def is_first_seed(self) -> bool:
        """Whether this is the first of several seeds, or the only one: it alone draws and says."""
        return self.seed == self.config.seed

    def proof(self, name: str, error: float, at_most: float = 1e-6) -> None:
        """Record the error of an equality or closed form; above its bound the lesson ends here."""
        self._add(Measure(name, "proof", at_most=at_most), float(error))
        if not error <= at_most:
            raise ProofMissed(name)

    def measure(
        self,
        name: str,
        value: float,
        unit: str = "",
        at_least: Bound = None,
        at_most: Bound = None,
        headline: bool = False,
        note: str = "",
        speed: bool = False,
    ) -> None:
        """Record a measured value. Bounds are goals: one number, or one for each scale.

        A goal on ``speed`` (a time, or a ratio of times) warns when it is missed, and fails nothing: a
        machine that is busy with other work is slower.
        """
        low, high = self._bound(at_least), self._bound(at_most)
        kind = "value" if low is None and high is None else "goal"
        self._add(Measure(name, kind, unit, low, high, headline, note, speed), float(value))

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Record a table. Floats are averaged over the seeds; other cells are those of the first seed."""
        self.record.add_table(title, columns, rows, self._enter())
        if self.config.seeds == 1:
            self._printer.table(self._chapter, self.record.table(title))

    def tables(self) -> list[dict[str, Any]]:
        """Give the tables so far, as metrics.json will have them: title, columns, rows."""
        return [self.record.table(title) for title in self.record.tables]

    def say(self, sentence: str) -> None:
        """Say in one plain sentence what a table or figure shows, with the measured values. First seed only.

        What the chapter has measured so far is printed above it.
        """
        chapter = self._enter()
        if not self.is_first_seed:
            return
        text = " ".join(sentence.split())
        self.record.sentences.append({"text": text, "chapter": chapter})
        if self.config.seeds == 1:
            self._print_measures()
            self._printer.sentence(chapter, text)

    def figure(self, fig: "Figure", name: str) -> None:
        """Save a matplotlib figure as ``name``.png, stamped with scale and data. First seed only.

        Its title is its own, as ``figures.new`` set it.
        """
        from snn_course.runs import figures

        import matplotlib.pyplot as plt

        if self.is_first_seed:
            path = self.file(f"{name}.png", fig.get_suptitle() or name)
            self.stamp(fig)
            drawn = figures.as_png(fig)
            safe_write.write(path, drawn)
            if notebook.is_here():
                notebook.show(drawn, self.record.figures[path.name]["title"])
        plt.close(fig)

    def stamp(self, fig: "Figure") -> None:
        """Write scale and data on a figure, as ``figure`` does; for one that the lesson saves itself."""
        from snn_course.runs import figures

        figures.stamp(fig, provenance.stamp_of(self.scale, self.record.data.values()), self.record.stand_in())

    def analysis(self, text: str) -> None:
        """Write a page (Markdown) of analysis from measured numbers into the journal. First seed only."""
        if self.is_first_seed:
            self.record.analysis = text

    def keep(self, name: str, state: dict[str, Any]) -> None:
        """Keep trained weights as ``name``.pt in the results folder. First seed only."""
        import torch

        if self.is_first_seed:
            with safe_write.aside(self.folder / f"{name}.pt") as part:
                torch.save(state, part)

    def file(self, name: str, title: str) -> Path:
        """Announce a picture that the lesson writes itself (a GIF), and give the path for it."""
        whole = ". ".join(filter(None, (" ".join(title.split()), self.record.stand_in())))
        self.record.figures[name] = {"title": whole, "chapter": self._enter()}
        return self.folder / name

    def uses(self, images: UsedData) -> None:
        """Name the data that the results come from. A stand-in suspends the goals."""
        self.record.add_data(images)

    def progress(self, items: Sequence[Item] | Iterable[Item], label: str) -> Iterator[Item]:
        """Iterate with a progress bar; without a terminal, with a line now and then."""
        yield from progress.shown(self.console, items, label)

    def save(self, name: str, state: dict[str, Any]) -> None:
        """Keep the state of an unfinished training, so that a kill loses only what came after it.

        The state may hold tensors, numbers, strings, lists and dicts. The random state is kept with it.
        """
        import torch

        random = unfinished.Random().state_dict()
        kept = {"state": state, "random": random, "spent": self._spent.so_far()}
        self._unfinished.keep(f"{name}-seed{self.seed}.pt", partial(torch.save, kept))

    def load(self, name: str, **parts: "unfinished.Part") -> dict[str, Any] | None:
        """Give back what ``save`` kept when the same run, with the same script, was cut off; else None.

        A network, an optimizer or a tensor in ``parts`` gets the state's entry of that name; in a damaged
        state, or one that does not fit them, they stay as they are, and the state before it is taken.
        """
        import torch

        def read(path: Path) -> Any:
            kept = torch.load(path, map_location=self.device, weights_only=True)
            unfinished.fill({**parts, "": unfinished.Random()}, kept["state"] | {"": kept["random"]})
            self._spent.resume(kept.get("spent", spent.NOTHING))
            return kept["state"]

        state = self._unfinished.find(f"{name}-seed{self.seed}.pt", read)
        if state is not None:
            self._print(f"  {name}: resumed")
        return state

    # ------------------------------------------------------------------ what lesson.execute calls

    def begin(self, seed: int) -> None:
        """Seed every generator for one repetition."""
        self.seed = seed
        self._spent.begin(seed)
        self.record.begin_seed()
        compute.seed_all(seed)
        if self.config.seeds > 1:
            self.console.print(f"[bold]seed {seed}[/bold]")

    def finish_seed(self) -> None:
        """Store what this seed measured, so that a run over several seeds resumes after it."""
        if self.config.seeds > 1:
            kept = {**self.record.of_seed(), "spent": self._spent.so_far()}
            text = json.dumps(kept).encode()
            self._unfinished.keep(f"seed{self.seed}.json", lambda part: part.write_bytes(text))

    def resumed(self, seed: int) -> bool:
        """Take over a seed that an earlier, unfinished start has measured already."""
        kept = self._unfinished.find(f"seed{seed}.json", record.read)
        if kept is None:
            return False
        self._spent.begin(seed)
        self._spent.resume(kept["spent"])
        self.record.take(kept)
        self.console.print(f"[bold]seed {seed}[/bold]: measured before the last stop")
        return True

    def finish(self) -> dict[str, Any]:
        """Write metrics.json and the journal's block, print the summary. Returns: the metrics."""
        self.end_chapter()
        entries = self.record.entries()
        missed = [m["name"] for m in entries["measures"] if m["met"] is False and not m["speed"]]
        metrics = provenance.describe(self.config, self.script, self.device) | {
            "status": "missed" if missed else "ok",
            **self._spent.total(),
            "started": self._started,
            **entries,
        }
        if not self.first:
            return metrics
        metrics_file.write(self.folder / "metrics.json", metrics)
        try:
            key = f"{provenance.name_of(self.config, self.script)} {self.scale}"
            body = "\n\n".join(part for part in (journal.block_of(metrics), self.record.analysis) if part)
            warning = journal.write_block(journal_file(), key, body)
        except UsageError as error:  # the results are safe: say it, and end as they deserve
            warning = f"Not in the journal: {error}"
        self._unfinished.clear()
        if self.config.seeds > 1:
            self._printer.everything(metrics, self.record.chapters)
        self._printer.summary(metrics, self.folder, warning)
        return metrics

    def end_chapter(self) -> None:
        """Print what was measured and is in no table yet; also when the lesson is cut off."""
        self._print_measures()
        self._chapter = ""

    # ------------------------------------------------------------------ parts

    def _add(self, measure: Measure, value: float) -> None:
        """Add this seed's value to the measure of that name, and print it, now or in a table."""
        measure.chapter = self._enter()
        measure = self.record.add(measure, value)
        if self.config.seeds > 1:
            self._printer.line(measure.name, value, measure.unit)
        else:
            self._unprinted[measure.name] = measure

    def _enter(self) -> str:
        """Name the chapter that calls; when it is a new one, end the one before."""
        chapter = chapters.calling()
        if chapter != self._chapter:
            self.end_chapter()
            self._chapter = chapter
            self.record.chapters.setdefault(chapter)
        return chapter

    def _print_measures(self) -> None:
        measures = self.record.judged(self._unprinted.values())
        self._unprinted = {}
        if measures:
            self._printer.measures(self._chapter, measures)

    def _print(self, line: str) -> None:
        self.console.print(line, markup=False, soft_wrap=True)  # one line, however long a path is

    def _bound(self, bound: Bound) -> float | None:
        return bound.get(self.scale) if isinstance(bound, Mapping) else bound
