"""Scripts as notebooks: VS Code, and Jupyter through Jupytext, run their cells in a kernel.

There a script has no command line, must not end the process, and shows its figures below the cell.
"""

import sys
from pathlib import Path

from snn_course.runs import scripts
from snn_course import ROOT, UsageError


def is_here() -> bool:
    """Say whether this process is a kernel of Jupyter."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


def script() -> Path:
    """Find the script whose cells run in this kernel.

    VS Code names it in ``__file__``. Jupyter does not: there it is the script that begins with a cell that
    was run, its docstring. Raises: UsageError when neither helps.
    """
    import IPython

    names = IPython.get_ipython().user_ns
    named = Path(names.get("__file__", "-"))
    if named.is_file():
        return named.resolve()
    cells = [cell.strip() for cell in names.get("In", []) if cell.lstrip().startswith('"""')]
    for known in scripts.find(ROOT):
        text = known.path.read_text(encoding="utf-8", errors="replace")
        if any(text.startswith(cell) for cell in cells):
            return known.path
    raise UsageError('Which script is this? Run its first cell, or say: __file__ = "01_lif_neuron.py"')


def show(picture: bytes, title: str) -> None:
    """Show a PNG below the cell that runs, with words for a reader who cannot see it."""
    from IPython.display import Image, display

    display(Image(data=picture, format="png", alt=title))
