"""The capstone's page in the journal, written from what the steps have measured (``runs.steps``)."""

from collections.abc import Mapping
from typing import Any

from snn_course.runs import steps
from snn_course.gameworld.agents import SCRIPT, SHIPPED

PARTS = {
    "train": "Learning on the course's own game",
    "adapt": "From there to chrome://dino",
    "benchmark": "The whole benchmark, which came with the agents",
    "runtime": "GameWorld's own runtime",
}
CHANGED = """\
**What changed from Pong.** Pong's emulator waits for an answer, a browser does not: so the agent decides once
a frame, and the age of its pixels and the way of its key count. Pong's agent sees four pictures and forgets
them after each decision. This one sees the events between two frames, and its only memory is its membranes.
Pong was learnt from reward. Here a script that reads the game's state is the teacher (DAgger), on a twin of
the game that runs faster than real time, made harder by late keys and lost frames. Night, when the page
inverts its colours, is no change to an eye that reads ink."""
LOST = """\
**Where the models still win.** They are shown a game that they have never seen, and a sentence that says what
to do. This network plays one runner, whose rules a script could write down; a new look took new play with
labels. Its teacher reads the state: without one there would be nothing to imitate. On other genres of
GameWorld, which ask for plans, it would have nothing to offer."""


def page(scale: str, who: str, run: Mapping[str, Any]) -> str:
    """Give the page (Markdown): what changed, what each step measured, and this run.

    Args:
        scale: of the learner's results.
        who: a sentence that says which agent has played.
        run: the "measures" and "tables" of this run, as in metrics.json.
    """
    known = steps.Steps(SCRIPT, SHIPPED, PARTS)
    found = known.found(scale)
    held, broke = steps.goals({"this run": steps.Measured(run, own=True)} | found, speed=True)
    parts = [CHANGED, *known.paragraphs(found), f"**This run.** {who}", *map(steps.markdown, run["tables"])]
    parts += [f"**Where the network held.** {held}.", f"**Where it broke.** {broke}.", LOST]
    return "\n\n".join(parts + known.missing(found))
