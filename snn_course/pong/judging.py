"""By which episodes an agent is chosen, and by which it is reported: never by the same ones.

Of several agents the best on some episodes is kept. It plays well, and it was lucky on just these episodes:
on others it earns less. So each seed of an episode serves one purpose. ``choose`` plays seeds of ``CHOICE``
and gives a ``Choice``; ``report`` plays seeds of ``REPORT`` and gives a ``Report``. What picks an agent takes
a ``Choice``, what tells how good one is takes a ``Report``, and neither can hold seeds of the other.

An agent's card keeps both, with the first seed and the number of episodes:

    "choice":  {"first_seed": 10000, "episodes": 30, "sticky": 0.25, "rewards": [...], ...}
    "reports": [{"first_seed": 40000, "episodes": 100, "sticky": 0.25, "rewards": [...], ...}, ...]
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from snn_course.pong import compare, emulator

CHOICE = range(10_000, 40_000)
"""Seeds of the episodes that choose: the teacher, a price, or what its author looks at while he tries."""
REPORT = range(40_000, 70_000)
"""Seeds of the episodes that are reported. They choose nothing (README tells of the one time that they did),
and training uses none of them."""
TRAINING = range(100_000, 2_000_100_000)
"""Seeds of the games that train: none of those above, and none that ALE cannot hold (it has 31 bits)."""


@dataclass(frozen=True)
class Judged:
    """Rewards of the episodes with the seeds ``first``, ``first + 1``, ...

    Raises: ValueError when there are none, or when a seed is of another purpose.
    """

    rewards: Sequence[float]
    first: int
    sticky: float = emulator.STICKY
    """Chance with which an action is repeated in place of the new one, at each frame."""
    longest: int = emulator.LONGEST
    """Decisions after which an episode ended as it stood."""
    allowed: ClassVar[range]

    def __post_init__(self) -> None:
        """Refuse seeds of another purpose."""
        last = self.first + len(self.rewards) - 1
        if not self.rewards or self.first not in self.allowed or last not in self.allowed:
            raise ValueError(f"{type(self).__name__}: {len(self.rewards)} episodes from seed {self.first}")

    @property
    def mean(self) -> float:
        """The mean reward."""
        return compare.mean_and_error(self.rewards)[0]

    @property
    def error(self) -> float:
        """The standard error of the mean."""
        return compare.mean_and_error(self.rewards)[1]

    @property
    def note(self) -> str:
        """How many episodes with which seeds, and the error; and where they were cut."""
        last = self.first + len(self.rewards) - 1
        told = f"{len(self.rewards)} episodes, seeds {self.first} to {last}, +- {self.error:.2f}"
        return told + cut_after(self.longest)

    def told(self) -> dict[str, Any]:
        """Give what a card keeps."""
        head = {"first_seed": self.first, "episodes": len(self.rewards), "sticky": self.sticky}
        return head | {"longest": self.longest, "rewards": list(self.rewards)}

    @classmethod
    def read(cls, told: Mapping[str, Any]) -> Self:
        """Read what a card has kept; older cards are of whole games, and do not say so."""
        longest = told.get("longest", emulator.LONGEST)
        return cls(told["rewards"], told["first_seed"], told["sticky"], longest)


def cut_after(longest: int) -> str:
    """Give the end of a note, for episodes that were cut: their rewards are none of whole games."""
    return "" if longest == emulator.LONGEST else f", cut after {longest} decisions"


class Choice(Judged):
    """Rewards by which an agent may be chosen."""

    allowed = CHOICE


class Report(Judged):
    """Rewards that may be reported."""

    allowed = REPORT


def to_train(wanted: int) -> int:
    """Give the seed of games that train: the wanted one, or another where ``TRAINING`` does not have it."""
    return TRAINING[(wanted - TRAINING.start) % len(TRAINING)]


def choose(policy: emulator.Policy, episodes: int, longest: int = emulator.LONGEST) -> Choice:
    """Play the first episodes of those that choose, each of at most ``longest`` decisions."""
    played = emulator.play(policy, CHOICE[:episodes], longest)
    return Choice([one.reward for one in played], CHOICE.start, longest=longest)


def report(
    policy: emulator.Policy,
    episodes: int,
    longest: int = emulator.LONGEST,
    sticky: float = emulator.STICKY,
    first: int = REPORT.start,
) -> Report:
    """Play episodes that are reported, from the seed ``first`` on, each of at most ``longest`` decisions."""
    played = emulator.play(policy, range(first, first + episodes), longest, sticky)
    return Report([one.reward for one in played], first, sticky, longest)


def choice_of(card: Mapping[str, Any]) -> Choice | None:
    """Read from a card by what an agent may be chosen; None when nothing was kept.

    A card from before seeds had a purpose has ``rewards`` alone. They have chosen, so they are no report.
    """
    if "choice" in card:
        return Choice.read(card["choice"])
    return Choice(card["rewards"], CHOICE.start) if "rewards" in card else None


def reports_of(card: Mapping[str, Any]) -> list[Report]:
    """Read all that may be reported of an agent from its card."""
    return [Report.read(told) for told in card.get("reports", [])]


def with_reports(card: Mapping[str, Any], *reports: Report) -> dict[str, Any]:
    """Add reports to a card. One of the same first seed and rule is replaced; lower seeds stand first."""
    kept = {(one.first, one.sticky): one for one in (*reports_of(card), *reports)}
    ordered = sorted(kept.values(), key=lambda one: one.first)
    return {**card, "reports": [one.told() for one in ordered]}


def report_of(card: Mapping[str, Any], sticky: float = emulator.STICKY) -> Report | None:
    """Read from a card what may be reported of an agent, with or without sticky actions; None: not judged."""
    for told in reports_of(card):
        if told.sticky == sticky:
            return told
    return None
