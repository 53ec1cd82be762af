"""The book's pages: one for each script, and the front page that leads through them."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from snn_course.runs import metrics_file, report, scripts
from snn_course import COMMAND, PYTHON, ROOT, UsageError, safe_write
from snn_course.runs.scripts import Script
from snn_course.teaching import hunts_planted, progress, questions, regions
from snn_course.teaching.book import cells, findings, listing, live, pitfalls, printed_quiz
from snn_course.teaching.book.findings import Finding, Made
from snn_course.teaching.book.prose import Writer

import jinja2
from markupsafe import Markup

TEMPLATES = Path(__file__).with_name("templates")
FOLDER = "book"
"""Of the pages, in the results folder."""
PARTS = (
    ("One neuron and its spikes", range(6)),
    ("How a spiking network learns", range(6, 10)),
    ("Depth, real recordings, hardware", range(10, 13)),
    ("Recurrence, other rules, other networks, the chip", range(13, 100)),
    ("Projects", ()),
)
"""The way through the course; a milestone stands in the part of the lesson before it."""


@dataclass
class Block:
    """A piece of a page: prose, code, or what a function of the run produced."""

    kind: str
    html: Markup | None = None
    piece: listing.Piece | None = None
    made: Made | None = None
    moving: live.Figure | None = None


@dataclass
class Section:
    """Blocks of one kind of reading: the main path, or what goes deeper."""

    deeper: bool
    blocks: list[Block] = field(default_factory=list)


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


def write(results: Path) -> Path:
    """Write all pages into the results folder. Returns: the front page. Raises: UsageError."""
    pages, machine = collect(results), findings.machine(results)
    engine = _engine()
    safe_write.write(results / FOLDER / "book.css", (TEMPLATES / "book.css").read_text(encoding="utf-8"))
    for place, page in enumerate(pages):
        neighbours = {
            "before": pages[place - 1] if place else None,
            "after": pages[place + 1] if place + 1 < len(pages) else None,
        }
        text = engine.get_template("page.html.j2").render(
            page=page, machine=machine, **neighbours, **_content(page)
        )
        safe_write.write(results / FOLDER / page.file, text)
    warnings = engine.get_template("pitfalls.html.j2").render(
        rows=pitfalls.rows({page.stem: page.shown for page in pages}),
        titles={page.stem: f"{page.label}: {page.title}" for page in pages},
    )
    safe_write.write(results / FOLDER / pitfalls.NAME, warnings)
    front = engine.get_template("front.html.j2").render(
        pages=pages, parts_of_course=_parts(pages), machine=machine, **_progress(pages, machine)
    )
    safe_write.write(results / "index.html", front)
    return results / "index.html"


def _engine() -> jinja2.Environment:
    engine = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    engine.globals["course"] = COMMAND
    return engine


def _as_typed(source: str) -> str:
    """Spell the commands in a script's text as a person types them here: any "python" will not do."""
    return _CALLED.sub(lambda _: f"{PYTHON} ", source)


_CALLED = re.compile(r"(?<![\w/.])(?:\.venv/bin/)?python (?=lessons/|solutions/|capstone_|milestone_)")


# ---------------------------------------------------------------------- what there is


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


# ---------------------------------------------------------------------- one page


def _content(page: Page) -> dict[str, Any]:
    """Lay out the sections of a page, its contents, its exercise and its quiz."""
    writer = Writer()
    text = cells.read(_as_typed(page.source or ""))
    tasks = _tasks(page.source or "")
    sections = _sections(page, text, writer, tasks)
    placed = {block.made.chapter for section in sections for block in section.blocks if block.made}
    return {
        "card": {name: Markup(writer.line(line)) for name, line in text.card.fields.items()},
        "opening": Markup(writer.html(text.card.prose)),
        "problem": text.problem,
        "sections": sections,
        "unplaced": [made for made in _made(page.shown) if made.chapter not in placed],
        "tasks": [(Markup(writer.line(task.words)), task) for task in tasks],
        "quiz": printed_quiz.read(questions.path_of(page.stem)),
        "commands": _commands(page),
        "live_shared": live.shared() if live.of(page.stem) else "",
        "contents": [heading for heading in writer.headings if heading.level == 2],
    }


def _sections(page: Page, text: cells.Text, writer: Writer, tasks: list[regions.Region]) -> list[Section]:
    """Put prose, code and results in order; a heading "Going deeper" begins a section of its own."""
    made = {one.chapter: one for one in _made(page.shown)}
    figures = live.of(page.stem)
    sections = [Section(deeper=False)]
    for cell in text.cells:
        if cell.kind == "prose":
            deeper = cell.text.startswith("## Going deeper")
            if cell.text.startswith("## ") and deeper != sections[-1].deeper:
                sections.append(Section(deeper))
            sections[-1].blocks.append(Block("prose", Markup(writer.html(cell.text))))
            continue
        for piece in listing.pieces(cell, {*made, *figures}):
            if piece.kind == "main" and sections[-1].deeper:
                sections.append(Section(deeper=False))
            html = Markup(listing.html(piece, tasks))
            sections[-1].blocks.append(Block("code", html, piece=piece))
            if piece.function and piece.function in made:
                sections[-1].blocks.append(Block("made", made=made[piece.function]))
            if piece.function in figures:
                sections[-1].blocks.append(Block("live", moving=figures[piece.function]))
    return sections


def _made(run: Finding | None) -> list[Made]:
    return [run.made_by(chapter) for chapter in run.chapters()] if run else []


def _tasks(source: str) -> list[regions.Region]:
    """Find what the exercise of a script leaves to the learner; nothing in one that is being edited."""
    try:
        return regions.find(source)
    except (SyntaxError, ValueError):
        return []


def _commands(page: Page) -> set[str]:
    """Name the commands of course.py that have something for this script."""
    files = {
        "start": ROOT / "exercises" / f"{page.stem}.toml",
        "quiz": questions.path_of(page.stem),
        "hunt": hunts_planted.path_of(page.stem),
    }
    return {command for command, file in files.items() if file.is_file()}


# ---------------------------------------------------------------------- the front page


def _parts(pages: list[Page]) -> list[tuple[str, list[Page]]]:
    """Give the parts of the way through the course, each with its pages."""
    parts: list[tuple[str, list[Page]]] = [(title, []) for title, _ in PARTS]
    place = 0
    for page in pages:
        if page.number is not None:
            place = next(place for place, (_, numbers) in enumerate(PARTS) if page.number in numbers)
        elif page.label != "Milestone":  # a milestone stays in the part of the lesson before it
            place = len(PARTS) - 1
        parts[place][1].append(page)
    return [(title, chosen) for title, chosen in parts if chosen]


def _progress(pages: list[Page], machine: dict[str, Any] | None) -> dict[str, Any]:
    """Say how much of the course is measured, and what comes next."""
    scripts_there = [page for page in pages if page.source is not None and not page.is_environment_test]
    measured = [page for page in scripts_there if page.shown]
    left = [page for page in scripts_there if not page.shown]
    if machine is None:
        left = [page for page in pages if page.is_environment_test] + left
    return {
        "measured": len(measured),
        "of": len(scripts_there),
        "following": left[0] if left else None,
        "done": _done(pages),
    }


def _done(pages: list[Page]) -> dict[str, list[str]]:
    """Say for each script what the learner has done; nothing when the record cannot be read."""
    try:
        record = progress.read()
    except UsageError:
        return {}
    done: dict[str, list[str]] = {}
    for page in pages:
        words = done.setdefault(page.stem, [])
        if progress.has_passed_check(record, page.stem):
            words.append("exercise passed")
        score = progress.best_score(record, page.stem)
        if score is not None:
            words.append(f"quiz {100 * score:.0f} %")
        bugs = len(progress.found_bugs(record, page.stem))
        if bugs:
            words.append(f"{bugs} bug{'s' if bugs > 1 else ''} found")
    return done
