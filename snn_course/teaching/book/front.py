"""What the front page tells: the way through the course, how much is measured, what the learner has done."""

from typing import Any

from snn_course import UsageError
from snn_course.teaching import progress
from snn_course.teaching.book.inventory import Page

PARTS = (
    ("One neuron and its spikes", range(6)),
    ("How a spiking network learns", range(6, 10)),
    ("Depth, real recordings, hardware", range(10, 13)),
    ("Recurrence, other rules, other networks, the chip", range(13, 100)),
    ("Projects", ()),
)
"""The way through the course; a milestone stands in the part of the lesson before it."""


def parts(pages: list[Page]) -> list[tuple[str, list[Page]]]:
    """Give the parts of the way through the course, each with its pages."""
    filled: list[tuple[str, list[Page]]] = [(title, []) for title, _ in PARTS]
    place = 0
    for page in pages:
        if page.number is not None:
            place = next(place for place, (_, numbers) in enumerate(PARTS) if page.number in numbers)
        elif page.label != "Milestone":  # a milestone stays in the part of the lesson before it
            place = len(PARTS) - 1
        filled[place][1].append(page)
    return [(title, chosen) for title, chosen in filled if chosen]


def standing(pages: list[Page], machine: dict[str, Any] | None) -> dict[str, Any]:
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
