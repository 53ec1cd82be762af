"""The agent's network: a spiking CNN that takes one step a frame and remembers in its membranes.

    events [2, 32, 96] -> conv 16 -> conv 32 -> conv 32 -> dense 128 -> one neuron, whose spike is a jump

All neurons are leaky; each layer learns its beta. Between two frames nothing is reset: what the membranes
keep is the agent's only memory. Spikes pass all layers within one step, so depth costs no time.
"""

from collections.abc import Sequence

from snn_course.gameworld.retina import SHAPE
from snn_course.networks.neurons import Leaky, Reset, TimeBatched

import torch
from torch import nn

State = list[torch.Tensor]
"""The membranes [B, ...] of each layer."""


class Spiking(nn.Module):
    """Layers of synapses, each with leaky neurons behind it, over time.

    Args:
        filters: of the convolutions.
        hidden: neurons of the dense layer.
        shape: of the input of one step, [C, rows, columns].
        beta: of all layers before they learn.
    """

    def __init__(
        self,
        filters: Sequence[int] = (16, 32, 32),
        hidden: int = 128,
        shape: tuple[int, int, int] = SHAPE,
        beta: float = 0.7,
    ) -> None:
        super().__init__()
        channels, rows, columns = shape
        synapses: list[nn.Module] = []
        for number, wide in enumerate(filters):
            side, down = (5, 4) if number == 0 else (3, 2)  # heights matter less than distances
            synapses.append(nn.Conv2d(channels, wide, side, stride=(down, 2), padding=side // 2))
            channels, rows, columns = wide, -(-rows // down), -(-columns // 2)
        synapses.append(nn.Sequential(nn.Flatten(), nn.Linear(channels * rows * columns, hidden)))
        synapses.append(nn.Linear(hidden, 1))
        self.synapses = nn.ModuleList(TimeBatched(part) for part in synapses)
        self.neurons = nn.ModuleList()
        for synapse in synapses:  # nothing resets the last neuron: its membrane may stay high
            reset: Reset = "none" if synapse is synapses[-1] else "subtract"
            self.neurons.append(Leaky(beta, reset=reset, learn_beta=True))
        self._start()

    def _start(self) -> None:
        """Draw weights so that sparse events still make the deeper layers fire."""
        for part in self.synapses.modules():
            if isinstance(part, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
                if part.bias is not None:
                    nn.init.zeros_(part.bias)

    def forward(self, x: torch.Tensor, state: State | None = None) -> tuple[torch.Tensor, State]:
        """Run over frames [T, B, C, rows, columns] from a state; None: at rest.

        Args:
            x: the frames.
            state: what an earlier call returned.

        Returns: the last neuron's membrane [T, B], above 1 where it spikes; the state after the last step.
        """
        *_, (_, mem) = layers = self.layers(x, state)
        return mem[..., 0], [mem[-1] for _, mem in layers]

    def layers(self, x: torch.Tensor, state: State | None = None) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Give spikes and membranes [T, B, ...] of each layer."""
        found = []
        for number, (synapse, neuron) in enumerate(zip(self.synapses, self.neurons, strict=True)):
            cur = synapse(x)
            spk, mem = neuron(cur, None if state is None else state[number])
            found.append((spk, mem))
            x = spk
        return found
