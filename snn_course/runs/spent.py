"""What a run has cost so far: seconds on the clock, and seconds of the processor, over all its starts.

A run that was cut off goes on from a state that it kept, and its account goes on from what stands in it.
Seconds of the processor are those of this process and of the ones that it started and that have ended
(Windows does not tell the latter). Other programs that run beside it hardly change them.
"""

import os
import time
from collections.abc import Sequence

Seconds = tuple[float, float]
"""On the clock, and of the processor."""
NOTHING = 0.0, 0.0
"""Also what is taken for a state that was kept before states told what they cost."""


class Spent:
    """The account of one run, a seed at a time."""

    def __init__(self) -> None:
        self._seed: int | None = None  # before the first one begins
        self._before: dict[int | None, Seconds] = {}  # spent by earlier starts
        self._here: dict[int | None, Seconds] = {None: NOTHING}  # spent by this one
        self._mark = _clocks()

    def begin(self, seed: int) -> None:
        """Open a seed's account."""
        self._book()
        self._seed = seed
        self._here[seed] = NOTHING

    def resume(self, seconds: Sequence[float]) -> None:
        """Take over what a kept state says; of several states, what the latest one says."""
        clock, core = self._before.get(self._seed, NOTHING)
        self._before[self._seed] = max(clock, seconds[0]), max(core, seconds[1])

    def so_far(self) -> Seconds:
        """Give what this seed has cost, to be kept with its state."""
        self._book()
        return _sum([self._before.get(self._seed, NOTHING), self._here[self._seed]])

    def total(self) -> dict[str, float]:
        """Give the ``seconds`` and ``cpu_seconds`` of all seeds."""
        self._book()
        clock, core = _sum([*self._before.values(), *self._here.values()])
        return {"seconds": round(clock, 2), "cpu_seconds": round(core, 2)}

    def _book(self) -> None:
        """Count what was spent since the last time."""
        now = _clocks()
        passed = now[0] - self._mark[0], now[1] - self._mark[1]
        self._here[self._seed] = _sum([self._here[self._seed], passed])
        self._mark = now


def _clocks() -> Seconds:
    times = os.times()
    return time.perf_counter(), time.process_time() + times.children_user + times.children_system


def _sum(accounts: Sequence[Seconds]) -> Seconds:
    clocks, cores = zip(*accounts, strict=True)
    return sum(clocks), sum(cores)
