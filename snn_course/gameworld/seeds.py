"""Games of the course's own runner without a browser: many seeds at once, and what must hold for each."""

from collections.abc import Sequence

from snn_course.gameworld import oracle, retina
from snn_course.gameworld.imitate import HOLD, label
from snn_course.gameworld.network import Spiking, State
from snn_course.gameworld.players import SETTLED, Finger, Policy
from snn_course.gameworld.twin import Twin

import numpy as np
import torch


@torch.inference_mode()
def play(net: Spiking, seeds: Sequence[int], points: int) -> list[int]:
    """Let the spiking agent play a game of each seed, side by side, until it crashes or has the points.

    It decides as ``players.Spiker`` does; only the games share each pass through the network.
    """
    twins = [Twin(seed) for seed in seeds]
    eyes = [retina.Eye() for _ in seeds]
    fingers = [Finger() for _ in seeds]
    state: State | None = None
    pictures = 0
    while alive := [n for n, twin in enumerate(twins) if _goes_on(twin, points)]:
        pictures += 1
        events = np.zeros((len(seeds), *retina.SHAPE), np.float32)
        for number in alive:
            picture = twins[number].observe().picture
            if pictures <= SETTLED:
                eyes[number] = retina.Eye(retina.aim(picture))
            else:
                events[number] = eyes[number].see(picture)
        if pictures <= SETTLED:
            continue
        mem, state = net(torch.from_numpy(events)[None], state)
        for number in alive:
            if fingers[number].presses(bool(mem[0, number] > 1)):
                twins[number].press(HOLD)
    return [twin.game.score for twin in twins]


def play_policy(policy: Policy, seed: int, points: int) -> int:
    """Let a policy play the game of a seed. Returns: its points."""
    twin, finger = Twin(seed), Finger()
    policy.begin()
    while _goes_on(twin, points):
        if finger.presses(policy.decide(twin.observe().picture)):
            twin.press(HOLD)
    return twin.game.score


def play_oracle(seed: int, points: int) -> int:
    """Let the teacher play the game of a seed: the ceiling. Returns: its points."""
    twin = Twin(seed)
    while _goes_on(twin, points):
        twin.step()
        if label(oracle.state_of(twin.game)):
            twin.press(HOLD)
    return twin.game.score


def _goes_on(twin: Twin, points: int) -> bool:
    return not twin.game.crashed and twin.game.score < points


def difference(seed: int, steps: int = 600) -> int:
    """Play one seed twice with the same random keys. Returns: blocks of all pictures that differ."""
    one, other = Twin(seed), Twin(seed)
    random = np.random.default_rng(seed)
    differ = 0
    for _ in range(steps):
        if random.random() < 0.05:
            one.press(HOLD)
            other.press(HOLD)
        differ += int((one.observe().picture != other.observe().picture).sum())
    return differ
