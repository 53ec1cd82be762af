"""Writes the book's pages: one for each script, the warnings, and the front page that leads to them all."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from snn_course import COMMAND, PYTHON, ROOT, safe_write
from snn_course.teaching import hunts_planted, questions, regions
from snn_course.teaching.book import cells, findings, front, inventory, listing, live, pitfalls, printed_quiz
from snn_course.teaching.book.findings import Finding, Made
from snn_course.teaching.book.inventory import Page
from snn_course.teaching.book.prose import Writer

import jinja2
from markupsafe import Markup

TEMPLATES = Path(__file__).with_name("templates")
FOLDER = "book"
"""Of the pages, in the results folder."""


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


def write(results: Path) -> Path:
    """Write all pages into the results folder. Returns: the front page. Raises: UsageError."""
    pages, machine = inventory.collect(results), findings.machine(results)
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
    first = engine.get_template("front.html.j2").render(
        pages=pages, parts_of_course=front.parts(pages), machine=machine, **front.standing(pages, machine)
    )
    safe_write.write(results / "index.html", first)
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
