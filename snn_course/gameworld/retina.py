"""What the agent sees: a small picture of the game's ink, and the events between two of them.

``page/retina.js`` gives the same pictures of a browser's canvas; a test holds both equal.
"""

from snn_course.gameworld.runner import Picture

import numpy as np
import numpy.typing as npt

BLOCK, TOP, ROWS, COLUMNS = 4, 6, 36, 150
"""A picture has the mean ink of each 4 x 4 pixels, from the canvas's row 6 on."""
SKY, FIELD = 4, 96
"""The streaming agent sees none of the first 4 rows of blocks (the score), and 96 columns: 384 pixels."""
SHAPE = (2, ROWS - SKY, FIELD)
"""Of its events: ON and OFF, rows, columns."""
CONTRAST, MOST = 24, 7
"""Ink that a block must gain or lose for each event; events of one block in one frame, at most."""

HEAD = 10
"""Column of its field in which an eye has the runner's head."""
GROUND_ROWS = slice(21, 32)
"""Rows of blocks of a runner that stands on the ground."""

Events = npt.NDArray[np.float32]


def pooled(ink: Picture) -> Picture:
    """Average ink [150, 600] over blocks: [36, 150], rounded down as the page does."""
    rows = ink[TOP : TOP + ROWS * BLOCK].astype(np.uint16)
    rows = rows[0::4] + rows[1::4] + rows[2::4] + rows[3::4]
    sums = rows[:, 0::4] + rows[:, 1::4] + rows[:, 2::4] + rows[:, 3::4]
    return (sums // BLOCK**2).astype(np.uint8)


def aim(picture: Picture) -> int:
    """Find the runner in a picture without obstacles. Returns: ``left`` for an eye that has it in its place.

    The runner's head is its darkest part, so the first dark column of blocks is where the head begins.
    """
    columns = picture[GROUND_ROWS, : COLUMNS // 3].astype(int).sum(axis=0)
    return int((columns > 0.8 * columns.max()).argmax()) - HEAD


class Eye:
    """An event camera in front of the game: it tells what has changed since the last picture it saw.

    Args:
        left: columns of blocks that lie to the left of what it sees; below 0, what is there is empty.
    """

    def __init__(self, left: int = 0) -> None:
        self.left = left
        self.last: npt.NDArray[np.int16] | None = None

    def field(self, picture: Picture) -> npt.NDArray[np.int16]:
        """Cut what lies before the eye out of a picture [36, 150]: ink [32, 96]."""
        field = np.zeros(SHAPE[1:], np.int16)
        seen = picture[SKY:, max(0, self.left) : max(0, self.left + FIELD)]
        field[:, max(0, -self.left) :][:, : seen.shape[1]] = seen
        return field

    def see(self, picture: Picture) -> Events:
        """Take a picture [36, 150]. Returns: counts of ON and OFF events [2, 32, 96]; none at the first."""
        field = self.field(picture)
        change = field - (field if self.last is None else self.last)
        self.last = field
        counts = np.stack([change, -change]).clip(0) // CONTRAST
        return counts.clip(max=MOST).astype(np.float32)
