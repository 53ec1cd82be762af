"""A network that recognises recordings of events (lesson 11): all at once, or event by event.

``Recogniser`` gives lesson 10's network a score at each step, and takes recordings of different lengths.
``Stream`` runs the same network on one event after the other, and comes to the same answer.
"""

import copy
import math
import time
from timeit import timeit
from typing import Any

from snn_course.costs import operations
from snn_course.events import frames
from snn_course.events.frames import to_input
from snn_course.networks import neurons, training

import numpy as np
import torch
from torch import nn


class ManySpeeds(nn.Module):
    """Leaky neurons whose beta grows with the channel, from 0 to ``slowest``: currents to spikes.

    With ``remember``, the next call goes on where this one stopped: then a sequence may come in pieces.

    Args:
        slowest: beta of the last channel.
        threshold: a neuron fires while its membrane is above this.
        reset: "subtract", "zero" or "none"; with "none" and ``slowest`` 0, a neuron has no memory at all.
    """

    mem: torch.Tensor | None

    def __init__(self, slowest: float, threshold: float = 1.0, reset: neurons.Reset = "subtract") -> None:
        super().__init__()
        self.slowest, self.threshold, self.reset = slowest, threshold, reset
        self.remember, self.mem = False, None

    def forward(self, cur: torch.Tensor) -> torch.Tensor:
        """Give spikes [T, B, C, H, W] of currents [T, B, C, H, W]."""
        beta = torch.linspace(0, self.slowest, cur.shape[2], device=cur.device)[:, None, None]  # [C, 1, 1]
        spk, mem = neurons.leaky(cur, beta, self.threshold, self.reset, mem=self.mem)
        self.mem = mem[-1].clone() if self.remember else None  # the whole state, [B, C, H, W]
        return spk


class Recogniser(nn.Module):
    """Scores of recordings of different lengths, by a network that ends in a read-out of mean spikes.

    Args:
        net: lesson 10's Net with ``ManySpeeds`` as neurons.
    """

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net = net

    def neurons(self) -> list[ManySpeeds]:
        """Give the neurons of all layers."""
        return [module for module in self.modules() if isinstance(module, ManySpeeds)]

    def steps(self, x: torch.Tensor) -> torch.Tensor:
        """Give the scores of each step [T, B, classes] of frames [T, B, P, H, W], in the weights' type."""
        x = x.to(self.net.readout.weight.dtype)
        spk = self.net.body(self.net.stem(x))  # [T, B, C, H / 8, W / 8]
        return self.net.readout(spk.mean((3, 4)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Give the mean score of a recording's own steps [B, classes]: padding has no vote."""
        own = frames.own_steps(x)[..., None]  # [T, B, 1]
        return (self.steps(x) * own).sum(0) / own.sum(0).clamp(min=1)


class Stream:
    """Classifies event by event. It keeps one frame, the membranes and the sum of scores, and no event.

    Args:
        net: trained on frames binned by time; a copy is taken.
        window: length of a frame, us.
        factor: what x and y are multiplied with.
        shape: of a frame [P, H, W].
    """

    def __init__(self, net: Recogniser, window: float, factor: float, shape: tuple[int, ...]) -> None:
        self.net = copy.deepcopy(net).cpu().eval()
        for neuron in self.net.neurons():
            neuron.remember = True
        self.window, self.factor, self.end = window, factor, -np.inf  # end of the open window, us
        self.frame = np.zeros(shape, dtype=np.int64)
        self.total, self.number = torch.zeros(()), 0  # sum over steps [classes]; steps so far

    def feed(self, x: int, y: int, t: int, p: int) -> None:
        """Take one event; the network makes a step when its time is past the end of the window.

        An event that comes late counts in the open window. Raises: ValueError for a pixel that the sensor
        does not have, or a gap so long that the time can only be wrong.
        """
        height, width = self.frame.shape[1:]
        row, column = math.floor(self.factor * y), math.floor(self.factor * x)
        if not (0 <= row < height and 0 <= column < width):
            raise ValueError(f"an event at x = {x}, y = {y} is outside the sensor")
        if self.end < 0:
            self.end = t + self.window  # the first event opens the first window
        frames.check_number((t - self.end) / self.window)
        while t >= self.end:
            self.step()
        self.frame[int(p), row, column] += 1

    @torch.no_grad()
    def step(self) -> None:
        """Close the window: one time step of the network."""
        frame = frames.stack([self.frame[None]])  # [1, 1, P, H, W]
        self.total = self.total + self.net.steps(to_input(frame))[0, 0]
        self.frame[:] = 0
        self.end, self.number = self.end + self.window, self.number + 1

    def answer(self) -> torch.Tensor:
        """Give the mean scores so far [classes]."""
        return self.total / max(1, self.number)


# ====================================================================== measures


def accuracy(net: Recogniser, x: torch.Tensor, labels: torch.Tensor) -> float:
    """Give the share of right answers in %, for bytes [N, T, P, H, W]."""
    return training.evaluate(net, x, labels, prepare=to_input, batch=100)


@torch.no_grad()
def cost(net: Recogniser, x: torch.Tensor) -> tuple[float, float]:
    """Give a recording's effective operations in millions, and its CPU time in ms, one at a time.

    Of about 12 recordings, evenly taken from x [N, T, P, H, W].
    """
    some = [to_input(one[None]) for one in frames.trimmed(x[:: max(1, len(x) // 12)])]
    with operations.Counter(net) as counter:
        for one in some:
            net(one)
    total = operations.Operations.sum(counter.per_sample(len(some)))
    seconds = timeit(lambda: [net(one) for one in some], timer=time.process_time, number=1)
    return (total.macs + total.acs) / 1e6, 1000 * seconds / len(some)


@torch.no_grad()
def over_time(net: Recogniser, x: torch.Tensor, labels: torch.Tensor) -> tuple[list[float], float]:
    """Give the accuracy in % if asked after each step, and the mean step from which the answer stays."""
    steps = frames.own_steps(x.transpose(0, 1)).sum(0).clamp(min=1).long()  # [N]
    votes = [net.steps(to_input(part)).cumsum(0).argmax(2) for part in x.split(100)]  # of each step [T, 100]
    own = torch.arange(x.shape[1], device=x.device).clamp(max=steps[:, None] - 1)  # [N, T]
    held = torch.cat(votes, 1).T.gather(1, own)  # [N, T]: the last own vote is kept to the end
    to_change = (held != held[:, -1:]).flip(1).cumsum(1) > 0
    right = 100 * (held == labels[:, None]).double().mean(0)
    return right.tolist(), 1 + to_change.sum(1).double().mean().item()


def confusion(net: Recogniser, x: torch.Tensor, labels: torch.Tensor, classes: int) -> torch.Tensor:
    """Give the share of each answer in % [class, answer]."""
    answers = training.predict(net, x, prepare=to_input, batch=100).argmax(1)
    table = torch.zeros(classes, classes)
    table.index_put_((labels.cpu(), answers.cpu()), torch.ones(()), accumulate=True)
    return 100 * table / table.sum(1, keepdim=True).clamp(min=1)
