"""The student learns from the oracle: cloning of behaviour, with DAgger (Ross, Gordon and Bagnell 2011).

The student plays, the oracle says at each frame what it would have done. So the student is taught in the
situations that its own mistakes lead to. The oracle reads the game's state, the student sees events alone.
To make it ready for browsers, a key takes effect up to two steps late, frames get lost, the runner stands
farther left or right, and games begin at any speed.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from snn_course.gameworld import oracle
from snn_course.gameworld.network import Spiking, State
from snn_course.gameworld.retina import SHAPE, Events, Eye
from snn_course.gameworld.twin import Twin
from snn_course.runs.divergence import finite
from snn_course.runs.run import Run

import numpy as np
import torch
from torch import nn

DELAY = 1
"""Steps, expected, from a decision to what the key does."""
RISE, LEAST, MOST = 0.25, -1.0, 1.75
"""Of the wanted membrane: its rise with each step towards the jump, and its bounds."""
UNTAUGHT = float("nan")
LED = 0.2
"""Share of the games in which the oracle plays, after the first round."""
STARTS = ((0, 400), (0, 7000), (2400, 7000), (2400, 7000))
"""Steps that a game is ahead when it begins, drawn from one of these: often at speed, where birds fly."""
LOST = 0.04
"""Share of frames that get lost."""
HOLD = 1 / 6
"""Seconds for which the key of a jump stays down: a jump is at its full height before."""
AIMED = 8
"""``left`` of an eye that is aimed at the course's runner."""


def wanted(state: oracle.State) -> float:
    """Give the membrane that the last neuron should have at this frame: above 1 where a press is due.

    It rises with each step towards the best moment, so the student is told how far that is, not only when it
    has come; in the air, too, for at speed the next jump may be due on landing. Where no jump can help any
    more, there is nothing to teach: nan.
    """
    found = oracle.window(state)
    if found is None:
        return LEAST
    if found[0] > found[1]:
        return UNTAUGHT
    steps = oracle.best(found, state) - DELAY
    return min(MOST, max(LEAST, 1 + RISE / 2 - RISE * steps))


def label(state: oracle.State) -> bool:
    """Tell whether the oracle presses at this frame."""
    return wanted(state) > 1


class Scene:
    """A game that the student plays, with an eye before it."""

    def __init__(self, random: np.random.Generator) -> None:
        self.random = random
        self.begin()

    def begin(self) -> None:
        """Start a game of a new seed, at any speed and with any delay of the key."""
        seed = int(self.random.integers(2**31)) | 2**31  # seeds below 2**31 judge, and teach nothing
        self.twin = Twin(seed, delay=int(self.random.integers(3)))
        self.eye = Eye(AIMED + int(self.random.integers(-1, 2)))
        begin, end = STARTS[int(self.random.integers(len(STARTS)))]
        self.twin.game.skip(int(self.random.integers(begin, end)))

    def look(self) -> Events:
        """Give the events since the last look. Sometimes a frame was lost before it."""
        if self.random.random() < LOST:
            self.twin.step()
        return self.eye.see(self.twin.observe().picture)


@dataclass(frozen=True)
class Recipe:
    """How to learn."""

    rounds: int = 24
    """Rounds of play and training."""
    games: int = 24
    """Games side by side."""
    frames: int = 256
    """Frames of each game in a round."""
    kept: int = 8
    """Rounds that are remembered."""
    updates: int = 60
    """Training steps of a round."""
    batch: int = 16
    """Pieces of play of a training step."""
    length: int = 32
    """Frames of a piece; the first ``warm`` only fill the membranes."""
    warm: int = 8
    rate: float = 3e-3
    """Learning rate of Adam at the start; it falls to 0."""


@dataclass
class Memory:
    """What a round has seen. events [frames, games, 2, rows, columns]; said [frames, games], ``wanted``."""

    events: torch.Tensor
    said: torch.Tensor
    crashes: int = 0
    hard: list[tuple[int, int]] = field(default_factory=list)
    """Frame and game where the student was wrong, or where a jump was due."""


def play(net: Spiking, scenes: Sequence[Scene], frames: int, lead: float) -> Memory:
    """Let the student play; in a share ``lead`` of the games the oracle holds the key."""
    count = len(scenes)
    led = np.arange(count) < lead * count
    events = torch.zeros(frames, count, *SHAPE, dtype=torch.uint8)
    said = torch.zeros(frames, count)
    state: State | None = None
    crashes, hard = 0, list[tuple[int, int]]()
    for frame in range(frames):
        for number, scene in enumerate(scenes):
            events[frame, number] = torch.from_numpy(scene.look())
            said[frame, number] = wanted(oracle.state_of(scene.twin.game))
        with torch.no_grad():
            mem, state = net(events[frame : frame + 1].float(), state)
        hard += [(frame, int(number)) for number in wrong(mem[0], said[frame]).nonzero()[:, 0]]
        pressed = np.where(led, said[frame] > 1, mem[0] > 1)
        for number, scene in enumerate(scenes):
            if pressed[number]:
                scene.twin.press(HOLD)
            if scene.twin.game.crashed:
                crashes += 1
                scene.begin()
                for mem in state:
                    mem[number] = 0
    return Memory(events, said, crashes, hard)


def learn(
    run: Run, name: str, net: Spiking, recipe: Recipe, there: Sequence[Memory] = ()
) -> list[dict[str, float]]:
    """Teach a network on the course's own game, or go on where a killed run stopped: round by round.

    What rounds have seen is not kept on disk. So a resumed run has forgotten it: it trains on fewer rounds
    until it has seen ``Recipe.kept`` new ones, and ends otherwise than a run in one go.

    Args:
        run: keeps the state, shows the progress, gives the seed.
        name: of the kept state.
        net: the student.
        recipe: how to learn.
        there: what was seen in another place; a third of what it trains on is from there.

    Returns: for each round the frames played so far, CPU "seconds", the "loss", and the mean length of a life
    in the student's games, "steps".
    """
    optimizer = torch.optim.Adam(net.parameters(), lr=recipe.rate)
    kept, curve = list[Memory](), list[dict[str, float]]()
    begun = time.process_time()
    if (state := run.load(name, net=net, optimizer=optimizer)) is not None:
        curve = state["curve"]
        begun -= curve[-1]["seconds"]
    for number in run.progress(range(len(curve), recipe.rounds), name):
        random = np.random.default_rng((run.seed, number))
        optimizer.param_groups[0]["lr"] = recipe.rate * (1 - number / recipe.rounds)
        scenes = [Scene(random) for _ in range(recipe.games)]
        seen = play(net, scenes, recipe.frames, LED if number or there else 1.0)
        kept = [*kept, seen][-recipe.kept :]
        loss = train(net, optimizer, [kept, kept, there] if there else [kept], recipe)
        told = {"frames": float((number + 1) * recipe.games * recipe.frames), "loss": loss}
        told["seconds"] = time.process_time() - begun
        told["steps"] = recipe.games * recipe.frames / max(1, seen.crashes)
        curve.append(told)
        run.save(name, {"net": net.state_dict(), "optimizer": optimizer.state_dict(), "curve": curve})
    return curve


def train(
    net: Spiking, optimizer: torch.optim.Optimizer, sets: Sequence[Sequence[Memory]], recipe: Recipe
) -> float:
    """Train on pieces that are drawn evenly from several sets of what was seen. Returns: the mean loss."""
    losses = []
    hard = [[(memory, spot) for memory in kept for spot in memory.hard] for kept in sets]
    for _ in range(recipe.updates):
        pieces = []
        for number in range(recipe.batch):
            which = number % len(sets)
            spots = hard[which] if number % 4 < 2 else []  # half of all pieces, of each set
            pieces.append(_hard_piece(spots, recipe.length) if spots else _piece(sets[which], recipe.length))
        events = torch.stack([events for events, _ in pieces], dim=1).float()  # [T, B, 2, rows, columns]
        said = torch.stack([said for _, said in pieces], dim=1)
        mem, _ = net(events)
        loss = cost(mem[recipe.warm :], said[recipe.warm :])
        optimizer.zero_grad()
        finite(loss, net).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.detach())
    return torch.stack(losses).mean().item()


Piece = tuple[torch.Tensor, torch.Tensor]


def _piece(kept: Sequence[Memory], length: int) -> Piece:
    """Draw a piece of one game: every frame of all memories is as likely to begin it."""
    starts = torch.tensor([(len(memory.said) - length + 1) * memory.said.shape[1] for memory in kept])
    memory = kept[int(torch.multinomial(starts.clamp(min=0).float(), 1))]
    frames, games = memory.said.shape
    return _cut(memory, int(torch.randint(frames - length + 1, ())), int(torch.randint(games, ())), length)


def _hard_piece(spots: Sequence[tuple[Memory, tuple[int, int]]], length: int) -> Piece:
    """Draw a piece that has a hard frame in its second half."""
    memory, (frame, game) = spots[int(torch.randint(len(spots), ()))]
    begin = frame - int(torch.randint(length // 2, length, ()))
    return _cut(memory, min(max(0, begin), len(memory.said) - length), game, length)


def _cut(memory: Memory, begin: int, game: int, length: int) -> Piece:
    return memory.events[begin : begin + length, game], memory.said[begin : begin + length, game]


def wrong(mem: torch.Tensor, said: torch.Tensor) -> torch.Tensor:
    """Tell where membranes lie on the wrong side of the threshold, and clearly so: a jump at a wrong time."""
    return ((mem > 1) != (said > 1)) & ((said - 1).abs() > RISE)


def cost(mem: torch.Tensor, said: torch.Tensor) -> torch.Tensor:
    """Give the loss of membranes [T, B] against the wanted ones; near a jump it weighs more.

    What lies on the wrong side of the threshold weighs most.
    """
    taught = ~said.isnan()
    target = said.nan_to_num(LEAST)
    weight = taught * (1 + 4 * (target > LEAST) + 8 * wrong(mem, target))
    each = nn.functional.smooth_l1_loss(mem, target, reduction="none", beta=0.5)
    return (each * weight).sum() / weight.sum().clamp(min=1)
