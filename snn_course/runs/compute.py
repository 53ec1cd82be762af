"""Where the tensors of a run live, and where its random numbers start."""

import os
from typing import TYPE_CHECKING

from snn_course import COMMAND, UsageError

if TYPE_CHECKING:
    from snn_course.runs.settings import Config

    import torch


def device_of(config: "Config") -> "torch.device":
    """Give the device of a run, and let PyTorch have its threads. Raises: UsageError without that GPU."""
    import torch

    torch.set_num_threads(config.threads)
    available = torch.cuda.is_available()
    if config.device == "cuda" and not available:
        raise UsageError(f"--device cuda: PyTorch sees no GPU here; '{COMMAND} env' says why.")
    if available:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))  # torchrun: one GPU for each process
    return torch.device("cuda" if available and config.device != "cpu" else "cpu")


def seed_all(seed: int) -> None:
    """Seed every generator: Python's, NumPy's, PyTorch's."""
    import random

    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed)  # packages that lessons call still draw from it
    torch.manual_seed(seed)
