"""What there is for the book: the scripts of the course, in its order, each with its runs."""

from dataclasses import dataclass, field
from pathlib import Path

from snn_course.runs import metrics_file, report, scripts
from snn_course import ROOT
from snn_course.runs.scripts import Script
from snn_course.teaching.book import findings
from snn_course.teaching.book.findings import Finding


@dataclass
class Page:
    """All that is known of one script."""

    stem: str
    label: str
    title: str
    question: str = ""
    path: str = ""
    """Of the script, in the course's folder."""
    source: str | None = None
    runs: list[Finding] = field(default_factory=list)
    parts: list[Finding] = field(default_factory=list)
    """Runs of one part of the script alone, such as a step of a capstone."""
    number: int | None = None

    @property
    def file(self) -> str:
        """Name of the page in its folder."""
        return f"{self.stem}.html"

    @property
    def name(self) -> str:
        """How course.py takes it."""
        return self.stem if self.number is None else f"{self.number:02d}"

    @property
    def shown(self) -> Finding | None:
        """The last run, whose results stand beside the code."""
        return findings.newest(self.runs)

    @property
    def others(self) -> list[Finding]:
        """All other runs that can be read."""
        return [run for run in [*self.runs, *self.parts] if run is not self.shown and run.run]

    @property
    def damaged(self) -> list[Finding]:
        """Results that cannot be read."""
        return [run for run in [*self.runs, *self.parts] if run.problem]

    @property
    def is_environment_test(self) -> bool:
        """The environment test measures the machine, and has no runs like the others."""
        return self.stem == scripts.ENVIRONMENT_TEST


def collect(results: Path) -> list[Page]:
    """Give a page for each script in the order of the course, and for results that no script owns."""
    pages = {script.stem: _page(script) for script in scripts.find(ROOT)}
    for result in report.in_order(metrics_file.all_results(results)):
        run = findings.of(result)
        owner = _owner(run.stem, pages)
        page = pages.setdefault(owner, Page(owner, "", owner))
        (page.runs if run.stem == owner else page.parts).append(run)
    return list(pages.values())


def _page(script: Script) -> Page:
    card = script.card()
    title = card["title"]
    return Page(
        script.stem,
        _label(script),
        title[:1].upper() + title[1:],
        card["question"],
        script.front.relative_to(ROOT).as_posix(),
        script.front.read_text(encoding="utf-8", errors="replace"),
        number=script.number,
    )


def _label(script: Script) -> str:
    if script.number is not None:
        return f"Lesson {script.number:02d}"
    return "Milestone" if script.stem.startswith("milestone") else "Capstone"


def _owner(stem: str, pages: dict[str, Page]) -> str:
    """Name the script that a results folder belongs to: ``capstone_pong_train`` is of ``capstone_pong``."""
    owners = [known for known in pages if stem == known or stem.startswith(f"{known}_")]
    return max(owners, key=len, default=stem)
