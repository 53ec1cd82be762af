"""Who plays: the spiking agent, and those it is compared with. All decide from one picture after the other.

A policy is given pictures and nothing else; it has no way to the game. The oracle alone reads the state, and
is no policy: ``tracks`` plays it apart.
"""

import time
from typing import Protocol

from snn_course.gameworld import retina
from snn_course.gameworld.network import Spiking, State
from snn_course.gameworld.runner import Picture

import torch

SETTLED = 30
"""Pictures after which the runner stands in its place, and the eye is aimed at it."""
REST = 1
"""Frames after a press in which there is no other. A press in the air is lost, so one that came just before
landing must be made again at once: with a rest of 4 frames the window was often over (19 of 24 games reached
2,000 points, with 1 frame 23)."""


class Finger:
    """Presses the key where it is wanted, but not in the ``REST`` frames after a press."""

    def __init__(self) -> None:
        self.since = REST  # frames since the last press

    def presses(self, wanted: bool) -> bool:
        """Take one frame. Returns: whether the key is pressed in it."""
        self.since += 1
        pressed = wanted and self.since > REST
        if pressed:
            self.since = 0
        return pressed


class Policy(Protocol):
    """Someone who sees pictures [36, 150] of ink and presses a key, or not."""

    @property
    def settled(self) -> bool:
        """Tell whether the latest picture was one to decide by; before, it only finds its place."""

    def begin(self) -> None:
        """Forget everything: a new game starts."""

    def decide(self, picture: Picture) -> bool:
        """Tell whether to press the key now."""


class Idle:
    """Does nothing."""

    settled = True

    def begin(self) -> None:
        """Nothing is remembered."""

    def decide(self, _picture: Picture) -> bool:
        """Never press."""
        return False


class Jumper(Idle):
    """Jumps all the time."""

    def decide(self, _picture: Picture) -> bool:
        """Always press."""
        return True


class Spiker:
    """The spiking agent: events in, one step of the network a picture, and a spike is a jump."""

    def __init__(self, net: Spiking) -> None:
        self.net = net
        self.begin()

    def begin(self) -> None:
        """Let all membranes rest."""
        self.pictures = 0
        self.eye = retina.Eye()
        self.state: State | None = None
        self.membrane = 0.0  # of the last neuron

    @property
    def settled(self) -> bool:
        """Tell whether the eye is aimed."""
        return self.pictures > SETTLED

    @torch.inference_mode()
    def decide(self, picture: Picture) -> bool:
        """Take a picture. Returns: whether the last neuron spikes."""
        self.pictures += 1
        if not self.settled:
            self.eye = retina.Eye(retina.aim(picture))
            return False
        events = torch.from_numpy(self.eye.see(picture))[None, None]  # [T = 1, B = 1, 2, rows, columns]
        mem, self.state = self.net(events, self.state)
        self.membrane = float(mem)
        return self.membrane > 1


class Thinker:
    """Another policy that takes its time: while it thinks about a picture, it sees none.

    Aiming an eye needs no thought. With 2.4 s for each of those 30 pictures, a life would be over before the
    first decision, whatever the agent can do.
    """

    def __init__(self, policy: Policy, seconds: float) -> None:
        self.policy, self.seconds = policy, seconds

    @property
    def settled(self) -> bool:
        """Pass it on."""
        return self.policy.settled

    def begin(self) -> None:
        """Pass it on."""
        self.policy.begin()

    def decide(self, picture: Picture) -> bool:
        """Answer as the other does, but later."""
        answer = self.policy.decide(picture)
        if self.settled:
            time.sleep(self.seconds)
        return answer
