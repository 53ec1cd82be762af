"""What a quiz leaves in the journal: one block for each script, and never a word of the learner's own."""

from collections.abc import Sequence

from snn_course import UsageError, journal_file
from snn_course.journal import blocks
from snn_course.teaching import progress
from snn_course.teaching.progress import Record
from snn_course.teaching.questions import Bank
from snn_course.teaching.quiz_terminal import percent

ROWS = 10
"""Sittings that the block shows, the newest first."""


def block(bank: Bank, sittings: Sequence[Record]) -> str:
    """Give the Markdown of a script's block."""
    newest = sittings[-1]
    head = f"**Quiz, {newest['when'][:10]}: {percent(newest['score'])}, {newest['verdict']}**"
    rows = ["| date | score | follow-up | result | weak topics |", "|---|---:|---:|---|---|"]
    for sitting in list(reversed(sittings))[:ROWS]:
        again = percent(sitting["follow_up"]) if "follow_up" in sitting else ""
        weak = "; ".join(bank.topics.get(topic, topic) for topic in sitting["weak"])
        cells = [sitting["when"][:10], percent(sitting["score"]), again, sitting["verdict"], weak]
        rows.append("| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |")
    return "\n".join([head, "", *rows])


def write(bank: Bank) -> str | None:
    """Write the block of a script, from all of its sittings. Returns: a warning, or None."""
    sittings = progress.sittings(progress.read(), bank.stem)
    if not sittings:
        return None
    try:
        return blocks.write_block(journal_file(), f"{bank.stem} quiz", block(bank, sittings))
    except UsageError as error:  # the score is safe in progress.json
        return f"Not in the journal: {error}"
