"""A run and data on the device that computes shapes alone: it takes a GPU's part where there is none."""

from collections.abc import Iterator
from typing import Any
from unittest.mock import MagicMock

from snn_course.costs.shapes import DEVICE, Autocast, Shapes

import torch

__all__ = ["DEVICE", "Autocast", "Shapes", "images", "run"]


def run(scale: str = "gpu", device: torch.device = DEVICE) -> Any:
    """Give a run that keeps nothing, and of each pass shows the first batch alone."""

    def progress(batches: Any, *_: Any) -> Iterator[Any]:
        yield from list(batches)[:1]

    fake = MagicMock(device=device, seed=0, scale=scale)
    fake.load.return_value = None
    fake.progress.side_effect = progress
    return fake


def images(count: int, *shape: int, classes: int = 10) -> Any:
    """Give bytes [count, *shape] and labels [count] on the CPU, as a data set lies on disk."""
    made = torch.randint(0, 256, (count, *shape), dtype=torch.uint8)
    return MagicMock(
        images=made, labels=torch.arange(count) % classes, classes=[str(c) for c in range(classes)]
    )
