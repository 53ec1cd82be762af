"""The mistakes that people typically make, and how what an instrument saw, or an error, gives them away."""

import re
from typing import NamedTuple

from snn_course.teaching.instruments import Facts

TYPICAL = (
    "missing reset",
    "T and B swapped",
    "beta in the wrong place",
    "x[t]",
    "pixels 0..255",
    "labels from test data",
    "threshold too high",
    "spikes detached",
    "softmax on counts",
    "one step of many",
    "learning rate too high",
    "weights transposed",
)
"""Their names, as ``exercises/`` writes them."""


SILENCE = "Not one neuron fires: is a threshold out of the membrane's reach, or does no current arrive?"


class Found(NamedTuple):
    """A mistake, and the sentence that names it."""

    name: str
    says: str


def seen(own: Facts, right: Facts) -> Found | None:
    """Name the mistake that a solution's facts show, beside those of the lesson's own solution."""
    return next((found for sign in SIGNS if (found := sign(own, right))), None)


def _softmax(own: Facts, right: Facts) -> Found | None:
    if not own.probabilities or right.probabilities:
        return None
    return Found(
        "softmax on counts",
        "What goes into cross_entropy are probabilities already. It takes the softmax itself; a second one "
        "flattens all differences, and the network hardly learns.",
    )


def _axes(own: Facts, right: Facts) -> Found | None:
    known = {tuple(sorted(shape)) for shape in right.loss_shapes}
    turned = own.loss_shapes - right.loss_shapes
    if not turned or not all(tuple(sorted(shape)) in known for shape in turned):
        return None
    return Found(
        "T and B swapped",
        "The loss sees the axes in another order than the lesson: time is axis 0, the batch axis 1.",
    )


def _labels(own: Facts, right: Facts) -> Found | None:
    if not right.classes or own.classes <= right.classes:
        return None
    return Found(
        "labels from test data",
        "The loss is told labels that the training images do not have: whose are they?",
    )


def _rate(own: Facts, right: Facts) -> Found | None:
    if not right.rate or own.rate < 30 * right.rate:
        return None
    return Found(
        "learning rate too high",
        f"The learning rate is {own.rate:g}, {own.rate / right.rate:.0f} times that of the lesson: one step "
        "throws the neurons far from their threshold.",
    )


def _pixels(own: Facts, right: Facts) -> Found | None:
    if own.largest_input <= 100 or not 0 < 50 * right.largest_input <= own.largest_input:
        return None
    return Found(
        "pixels 0..255",
        f"The first layer is given numbers up to {own.largest_input:g}. Pixels are bytes from 0 to 255: "
        "bring them to 0..1 first.",
    )


def one_step(own: Facts, right: Facts) -> Found | None:
    """Say that scores are bits, where the lesson's are counts. A network that never learns has such, too."""
    if not own.losses or own.losses > own.steps or own.bits < own.losses or right.bits == right.losses:
        return None
    return Found(
        "one step of many",
        "Each score that the loss is given is 0 or 1, as if a single time step were read. A count adds up "
        "the spikes of all steps.",
    )


def silence(own: Facts, right: Facts) -> Found | None:
    """Say that no neuron fires, where the lesson's own do. It may have other causes, so it comes last."""
    if not right.spikes or not own.layers or own.spikes:
        return None
    return Found("threshold too high", SILENCE)


def _deaf(own: Facts, right: Facts) -> Found | None:
    if not own.steps or own.deaf < own.steps or right.deaf:
        return None
    return Found(
        "spikes detached",
        "The gradient of the first layer is 0: somewhere on the way back something is detached, rounded or "
        "compared, and has no slope.",
    )


def _cut(own: Facts, right: Facts) -> Found | None:
    if not own.graphs or own.rootless < own.graphs or right.rootless:
        return None
    return Found(
        "spikes detached",
        "The way back comes to no weight: somewhere between them and the loss a tensor is detached, or made "
        "anew from bare numbers.",
    )


def _indexed(own: Facts, right: Facts) -> Found | None:
    if own.single_steps < max(10, 5 * right.single_steps):
        return None
    return Found(
        "x[t]",
        f"{own.single_steps} times one step is taken out of a whole tensor, by x[t], x[t:t+1], narrow or the "
        "like. The numbers are right, but each costs a tensor of zeros on the way back. Take all steps out "
        "at once: x.unbind(0).",
    )


SIGNS = (_softmax, _axes, _labels, _rate, _pixels, _deaf, _cut, _indexed)
"""In the order of how sure they are."""


def of_error(kind: str, message: str) -> Found | None:
    """Name the mistake behind an error of PyTorch, where its shapes give it away."""
    if match := re.search(r"cannot be multiplied \((\d+)x(\d+) and (\d+)x(\d+)\)", message):
        _, inner, rows, columns = match.groups()
        if inner == columns and rows != columns:
            return Found(
                "weights transposed",
                f"Two shapes do not go together, and would if the second one, {rows} x {columns}, were "
                "turned round: weights are [outputs, inputs].",
            )
    if match := re.search(r"batch_size \((\d+)\) to match target batch_size \((\d+)\)", message):
        return Found(
            "T and B swapped",
            f"The loss was given {match[1]} rows and {match[2]} labels: which axis is time, which the batch?",
        )
    if "does not require grad" in message:
        return Found(
            "spikes detached",
            "The loss does not hang on any weight: somewhere between them a tensor is detached, rounded, "
            "compared, or made anew.",
        )
    return None
