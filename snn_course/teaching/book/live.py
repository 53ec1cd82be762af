"""Figures that move: a slider, and the lesson's own recurrence, in the page.

Each is a few lines of plain JavaScript in ``live/``, which tests compare with the script's numbers.
"""

import functools
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

FOLDER = Path(__file__).with_name("live")


@dataclass(frozen=True)
class Figure:
    """A figure that moves."""

    name: str
    """Of its file of JavaScript."""
    title: str
    instead: str
    """A sentence for a reader whose browser runs no JavaScript."""

    @property
    def script(self) -> Markup:
        """What draws it."""
        return Markup((FOLDER / f"{self.name}.js").read_text(encoding="utf-8"))


PLACES: dict[str, dict[str, Figure]] = {}
"""By script, and by the function below which it stands."""


def of(stem: str) -> dict[str, Figure]:
    """Give the figures of a script."""
    return PLACES.get(stem, {})


@functools.cache
def shared() -> Markup:
    """Give what all of them are drawn with."""
    return Markup((FOLDER / "shared.js").read_text(encoding="utf-8"))
