"""The way back to snnTorch: what ``Leaky`` learned, as ``snn.Leaky`` 1.0 stores it.

    theirs.load_state_dict(to_snntorch.state_dict(net))

snnTorch's network has to have the same names, and neurons made with the same reset_mechanism and reset_delay:
``snn.Leaky`` does not take these from a ``state_dict``. (The way in is ``load_state_dict`` alone.)
"""

from snn_course.networks.from_snntorch import MECHANISMS
from snn_course.networks.neurons import Leaky

import torch
from torch import nn


def state_dict(net: nn.Module) -> dict[str, torch.Tensor]:
    """Give a network's ``state_dict`` with what ``snn.Leaky`` stores besides, for each of its ``Leaky``.

    Raises: ValueError: for the reset "subtract first", which ``snn.Leaky`` does not have.
    """
    stored = dict(net.state_dict())
    for name, lif in net.named_modules():
        if not isinstance(lif, Leaky):
            continue
        if lif.reset not in MECHANISMS:
            raise ValueError(f"snn.Leaky has no reset {lif.reset!r}, which {name or 'this neuron'} has")
        prefix = f"{name}." if name else ""
        stored[f"{prefix}reset_mechanism_val"] = torch.tensor(MECHANISMS.index(lif.reset))
        stored[f"{prefix}graded_spikes_factor"] = torch.ones(())
    return stored
