"""A picture of the chip's mesh, and of which layer sits where."""

from snn_course.runs import figures
from snn_course.akida_bridge.chip import Mapping

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

COLOURS = ("lightgrey", *figures.COLOURS, "black", "saddlebrown", "pink", figures.GREY)
"""Of the NPs that are free, and of those of each layer."""


def draw_mesh(ax: Axes, mapping: Mapping) -> None:
    """Draw the nodes of the mesh, four NPs in each, in the colour of the layer that they compute."""
    used = {place for places in mapping.places.values() for place in places}
    free = [place for place in mapping.mesh if place not in used]
    for number, (name, places) in enumerate({"free": free, **mapping.places}.items()):
        colour = COLOURS[number % len(COLOURS)]
        for column, row, part in places:
            corner = column + 0.45 * (part % 2), row + 0.45 * (part // 2)
            ax.add_patch(Rectangle(corner, 0.42, 0.42, color=colour))
        if places:
            ax.scatter([], [], marker="s", color=colour, label=f"{name}: {len(places)}")
    ax.set(xlim=(0.8, 6.1), ylim=(0.8, 6.1), xlabel="column of the mesh", ylabel="row of the mesh")
    ax.set(aspect="equal", title=f"NPs of each layer, {mapping.device}")
    ax.grid(visible=False)
    figures.legend_outside(ax)
