"""A terminal of 80 columns or fewer: Markdown as plain text without colours, and what is typed, by lines.

Where the answers come through a pipe, each line of it is an answer, and it is shown as if it had been typed.
"""

import re
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from snn_course import one_line
from snn_course.schedule.overview import width

LONGEST = 2000
"""Characters of a typed line that are read."""


class Stopped(Exception):
    """The learner wants to stop here, or there is no more input."""


# ---------------------------------------------------------------------- words


def say(text: str = "", indent: str = "", further: str | None = None) -> None:
    """Print Markdown as plain text: paragraphs are broken into lines, code stays as it is."""
    for line in lines(text, indent, further):
        print(line)


def lines(text: str, indent: str = "", further: str | None = None, columns: int | None = None) -> list[str]:
    """Break a text into lines; ``further`` is the indent from its second line on.

    ``columns`` is how long a line may be; else it is as long as the terminal has room for.
    """
    columns = columns or width()
    rest = indent if further is None else further
    shown: list[str] = []
    for number, part in enumerate(re.split(r"(?m)^```.*\n?", text.strip("\n"))):
        if number % 2:  # between two fences
            shown += [f"{rest}    {clean(line)}".rstrip() for line in part.rstrip("\n").split("\n")]
            continue
        for paragraph in re.split(r"\n\s*\n", part.strip("\n")):
            if shown and paragraph.strip():
                shown.append("")
            first = rest if shown else indent
            shown += _paragraph(paragraph, first, rest, columns)
    return shown or [""]


def _paragraph(text: str, first: str, rest: str, columns: int) -> list[str]:
    """Break a paragraph; items of a list begin on a line of their own."""
    shown: list[str] = []
    for item in re.split(r"\n(?=[-*] |\d+\. )", text):
        words = " ".join(clean(word) for word in item.split())
        hang = rest + "  " if re.match(r"[-*] |\d+\. ", words) else rest
        shown += textwrap.wrap(
            words,
            columns,
            initial_indent=rest if shown else first,
            subsequent_indent=hang,
            break_on_hyphens=False,
        )
    return shown


def rule() -> str:
    """Give a line across the terminal."""
    return "-" * width()


def percent(share: float) -> str:
    """Write a share of one, such as 0.75, as "75 %"."""
    return f"{100 * share:.0f} %"


def clean(text: str) -> str:
    """Take out what would move the cursor."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def filled(text: str, names: Mapping[str, Any]) -> str:
    """Put computed numbers into a text, where it has {name} or {name:.2f}; other braces stay."""

    def shown(found: re.Match[str]) -> str:
        if found[1] not in names:
            return found[0]
        return format(names[found[1]], found[2] or "")

    return re.sub(r"\{([a-zA-Z_]\w*)(?::([^{}]*))?\}", shown, text)


def raster(spikes: Sequence[Sequence[int]]) -> list[str]:
    """Draw spikes [T][N] as text: a row for each neuron, time to the right, a ruler below.

    Where a terminal is too narrow, the steps that do not fit stand below, in tens.
    """
    room = width() - len("   step  ")
    if len(spikes) <= room:
        return _part_of_raster(spikes, 0)
    room -= room % 10
    parts = [_part_of_raster(spikes[start : start + room], start) for start in range(0, len(spikes), room)]
    return [line for part in parts for line in part]


def _part_of_raster(spikes: Sequence[Sequence[int]], start: int) -> list[str]:
    rows = []
    for neuron in range(len(spikes[0])):
        marks = "".join("|" if step[neuron] else "." for step in spikes)
        rows.append(f"{neuron:>7}  {marks}")
    ruler = "".join(f"{step:<10}" for step in range(start, start + len(spikes), 10))
    return ["neuron", *rows, f"   step  {ruler}".rstrip()[: width()]]


# ---------------------------------------------------------------------- keys


def until_stopped(action: Callable[[], None], goodbye: str, command: str) -> int:
    """Ask what ``action`` asks; at a stop say goodbye, and the command that goes on. Returns: the exit code.

    No letter that is typed stops it, whatever its encoding. Raises: KeyboardInterrupt after Ctrl-C.
    """
    if hasattr(sys.stdin, "reconfigure"):  # before the first line is read
        sys.stdin.reconfigure(errors="replace")
    try:
        action()
    except (Stopped, KeyboardInterrupt) as stop:
        print()
        say(f"Stopped. {goodbye}")
        print(f"    {command}")
        if isinstance(stop, KeyboardInterrupt):
            raise
    return 0


def typed(prompt: str = "> ") -> str:
    """Read a line. Raises: Stopped at the end of the input, or for "q"."""
    if sys.stdin is None:  # it is closed
        raise Stopped
    if sys.stdin.isatty():
        try:
            line = input(prompt)
        except EOFError:
            print()
            raise Stopped from None
    else:
        print(prompt, end="", flush=True)
        line = sys.stdin.readline(LONGEST)
        print(one_line(line.strip(), 60))
        if not line:
            raise Stopped
    if line.strip().lower() in ("q", "quit"):
        raise Stopped
    return line[:LONGEST].strip()


def wait_for_enter() -> None:
    """Let a person read before it goes on; a pipe does not wait. Raises: Stopped."""
    if sys.stdin and sys.stdin.isatty() and sys.stdout.isatty():
        typed("\nEnter goes on, q stops here. ")
