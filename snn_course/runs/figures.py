"""The one figure style of the course: colour-blind safe, titles that say the finding, axes with units.

Colours: Okabe and Ito (2008), "Color Universal Design".
"""

import io
import textwrap
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

BLUE, ORANGE, GREEN, RED, PURPLE, SKY, YELLOW = COLOURS = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#CC79A7",
    "#56B4E9",
    "#F0E442",
)
GREY = "#767676"
STAMP_SIZE = 6.5  # points
STAMP_LETTERS = 20  # to an inch, at this size
STAMP_HEIGHT = 0.125  # inches a line

STYLE: Any = {
    "axes.prop_cycle": plt.cycler(color=COLOURS),
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": "medium",
    "figure.dpi": 130,
    "figure.labelsize": "medium",
    "figure.titlesize": "large",
    "figure.titleweight": "bold",
    "font.size": 9,
    "grid.alpha": 0.25,
    "image.cmap": "cividis",
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "savefig.facecolor": "white",
}


def new(
    title: str, rows: int = 1, columns: int = 1, size: tuple[float, float] = (7.5, 4.0), **options: Any
) -> tuple[Figure, npt.NDArray[Any]]:
    """Make a figure in the course's style.

    Args:
        title: the finding, in one sentence.
        rows: rows of axes.
        columns: columns of axes.
        size: width and height in inches.
        options: passed on to ``plt.subplots`` (sharex, height_ratios, ...).

    Returns:
        The figure, and its axes as an array [rows * columns], row by row.
    """
    plt.switch_backend("Agg")  # a figure is a file here, never a window: works without a screen
    plt.rcParams.update(STYLE)
    fig, axes = plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False, **options)
    retitle(fig, title)
    return fig, axes.ravel()


def retitle(fig: Figure, title: str, **options: Any) -> None:
    """Give a figure its title when what it shows is known: the finding, made from what was measured."""
    fig.suptitle(title, x=0.01, ha="left", wrap=True, **options)


def stamp(fig: Figure, origin: str, warning: str = "") -> None:
    """Write small below the axes what a figure was made from; a warning goes into the title, in red.

    Args:
        fig: the figure; its layout makes room for the line.
        origin: scale and data.
        warning: what must not be overlooked, such as stand-in data.
    """
    width, height = fig.get_size_inches()
    lines = textwrap.wrap(origin, int(width * STAMP_LETTERS))
    fig.text(0.995, 0.04 / height, "\n".join(lines), size=STAMP_SIZE, color=GREY, ha="right", va="bottom")
    layout = fig.get_layout_engine()
    if fig.get_supxlabel():  # it stands at the figure's lower edge, whatever else is there: lift it by lines
        fig.supxlabel(fig.get_supxlabel() + "\n" * len(lines))
    elif isinstance(layout, ConstrainedLayoutEngine):
        foot = (0.04 + STAMP_HEIGHT * len(lines)) / height
        layout.set(rect=(0, foot, 1, 1 - foot))
    if warning:
        title = f"{fig.get_suptitle()}\n{warning}".strip()
        retitle(fig, title, color=RED)


def as_png(fig: Figure) -> bytes:
    """Draw a figure as a PNG file: what savefig gives, without its second drawing. Fixes the layout."""
    layout = fig.get_layout_engine()
    if layout is not None:
        layout.execute(fig)
        fig.set_layout_engine("none")
    drawn = io.BytesIO()
    FigureCanvasAgg(fig).print_png(drawn)
    return drawn.getvalue()


def raster(ax: Axes, spk: Any, colour: str = BLUE, dt: float = 1.0, size: float = 4.0) -> None:
    """Draw a raster plot: one row for each neuron, one mark for each spike.

    Args:
        ax: where to draw.
        spk: spikes [T, N], 0 or 1.
        colour: of the marks.
        dt: length of a step, in the unit of the time axis.
        size: of a mark, in points.
    """
    steps, neurons = np.nonzero(np.asarray(spk))
    ax.scatter(steps * dt, neurons, s=size, c=colour, marker="|", linewidths=0.9)
    ax.set(xlim=(-0.5 * dt, len(spk) * dt - 0.5 * dt), ylim=(-0.7, spk.shape[1] - 0.3), ylabel="neuron")
    ax.grid(visible=False)


def legend_outside(ax: Axes, **options: Any) -> None:
    """Put the legend right of the axes, where it never covers data."""
    ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0.0, **options)
