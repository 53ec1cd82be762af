"""The agent as a spiking network, in two ways: the chip's integers, and float weights that learn.

``IfNet`` runs the chip's integers by integrate-and-fire (IF) neurons. A 4-bit layer of the chip gives a level
0 .. L of its potential p, with L = 15 (``akida_bridge.integers``):

    level = clip(ceil((p - threshold) / d), 0, L)        d = act_step 2**(4 - bits)

An IF neuron tells the same by its rate of spikes over T steps: level / L. A spike of the layer before is
worth L' levels, one step of the input picture its levels themselves. In units of its own threshold, L d, it
gets

    cur[t] = (L' w s[t] - threshold + d / 2 - 1 / 32) / (L d)        in each step, and starts at 1/2.

1/2 and d/2 make the floor of integrate-and-fire the ceil of the chip; 1/32 breaks the ties as the chip does
(thresholds are whole, d is whole in sixteenths). With T = L, neurons that take in all steps before they fire
give exactly the chip's levels. Free-running ones fire as soon as they can, and cannot take a spike back when
negative current follows; ``wait`` lies between the two (lesson 16).

``FloatQ`` is the same network with the activation of lesson 16: ReLU, levels or spikes, all trainable.
"""

from typing import Any

from snn_course.akida_bridge import Dense, IntLayer, IntNet, QuantNet, connections
from snn_course.akida_bridge.integers import input_limit, same_pad, sums
from snn_course.networks import neurons
from snn_course.networks.conversion import Activation, waited
from snn_course.networks.quantisers import straight
from snn_course.pong.emulator import SHAPE
from snn_course.pong.network import q_network

import torch
from torch import nn

# ---------------------------------------------------------------------- the chip's integers as spikes


def highest_level(net: IntNet) -> int:
    """Give L, the highest level of a network's activations: 15 with 4 bits, 3 with 2."""
    return 2 ** (net.layers[0].spec.act_bits or 0) - 1


class IfNet(nn.Module):
    """IF neurons with the integers of a chip network, from levels [B, C, H, W] to Q [B, actions].

    Args:
        net: the integers; no layer may pool.
        num_steps: T, steps of a decision.
        wait: steps for which each layer takes in its current before it may fire; None: all T, layer by layer.
        dtype: of the arithmetic; float64 is exact, float32 faster.
    """

    def __init__(
        self, net: IntNet, num_steps: int, wait: int | None = 0, dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        self.num_steps, self.wait = num_steps, num_steps - 1 if wait is None else wait
        self.first = self.worth = float(input_limit(net.specs))  # levels of a step of the input
        self.layers = nn.ModuleList()
        for layer in net.layers[:-1]:
            self.layers.append(IfLayer(layer, self.worth))
            self.worth = 2.0 ** (layer.spec.act_bits or 0) - 1  # levels of a spike
        self.read_out = LastLayer(net.layers[-1], self.worth)
        self.dtype = dtype
        self.to(dtype)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Give Q [B, actions] of levels [B, C, H, W]."""
        return self.outputs(x)[-1]

    def outputs(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Give the spikes [T, B, ...] of each layer, and at the end Q [B, actions]."""
        place = self.read_out.act_step.device
        spk = (x.to(place, self.dtype) / self.first).unsqueeze(0)  # a still picture: one step is all
        found = []
        for layer in self.layers:
            cur = layer(spk)
            cur = cur.expand(self.num_steps, *cur.shape[1:])
            spk, _ = neurons.leaky(waited(cur, self.wait), 1.0, 1.0, "subtract", mem=cur.new_tensor(0.5))
            found.append(spk)
        return [*found, self.read_out(spk)]


class LevelNet(nn.Module):
    """The integers of a chip network with one pass for each picture, and levels between the layers."""

    def __init__(self, net: IntNet) -> None:
        super().__init__()
        self.layers = nn.ModuleList(LevelLayer(layer) for layer in net.layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Give Q [B, actions] of levels [B, C, H, W]."""
        return self.outputs(x)[-1]

    def outputs(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Give the levels [B, ...] of each layer, then Q [B, actions]; float32 holds them exactly."""
        x, found = x.to(next(self.buffers())).unsqueeze(0), []
        for layer in self.layers:
            x = layer(x)
            found.append(x[0])
        return found


class Connection(nn.Module):
    """A layer's whole weights with the chip's padding; in a module, so that operations can be counted."""

    def __init__(self, layer: IntLayer) -> None:
        super().__init__()
        self.spec = layer.spec
        self.weights = connections(layer)[-1]

    def each(self, values: torch.Tensor) -> torch.Tensor:
        """Shape one value per neuron or channel [N] so that it broadcasts to what the layer gives."""
        return values.view(-1) if isinstance(self.spec, Dense) else values.view(-1, 1, 1)

    def forward(self, spk: torch.Tensor) -> torch.Tensor:
        """Give the sums [T, B, ...] of spikes [T, B, ...]."""
        x = spk.flatten(0, 1)  # [T * B, ...]
        x = x.flatten(1) if isinstance(self.spec, Dense) else same_pad(x, self.spec.kernel, self.spec.stride)
        return self.weights(x).unflatten(0, spk.shape[:2])


class LevelLayer(Connection):
    """One layer's levels of the levels before it; of the last one, Q."""

    threshold: torch.Tensor
    act_step: torch.Tensor

    def __init__(self, layer: IntLayer) -> None:
        super().__init__(layer)
        self.register_buffer("threshold", self.each(layer.threshold.float()))
        self.register_buffer("act_step", self.each(layer.act_step))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Give levels, or Q, [1, B, ...] of levels [1, B, ...]."""
        x = (super().forward(x) - self.threshold) / self.act_step
        bits = self.spec.act_bits
        return x if bits is None else (x / 2 ** (4 - bits)).ceil().clamp(0, 2**bits - 1)


class IfLayer(Connection):
    """One layer's currents, in thresholds, of spikes that are ``worth`` so many levels."""

    gain: torch.Tensor
    bias: torch.Tensor

    def __init__(self, layer: IntLayer, worth: float) -> None:
        super().__init__(layer)
        assert layer.spec.act_bits is not None
        d = layer.act_step.double() * 2.0 ** (4 - layer.spec.act_bits)
        whole = (2**layer.spec.act_bits - 1) * d  # L d
        self.register_buffer("gain", self.each(worth / whole))
        self.register_buffer("bias", self.each((d / 2 - 1 / 32 - layer.threshold) / whole))

    def forward(self, spk: torch.Tensor) -> torch.Tensor:
        """Give the currents [T, B, ...] of spikes [T, B, ...]."""
        return super().forward(spk).mul_(self.gain).add_(self.bias)  # in place: T steps are large


class LastLayer(LevelLayer):
    """Q of spikes that are ``worth`` so many levels. Nothing fires: what counts is the mean over time."""

    def __init__(self, layer: IntLayer, worth: float) -> None:
        super().__init__(layer)
        self.worth = worth

    def forward(self, spk: torch.Tensor) -> torch.Tensor:
        """Give Q [B, actions] of spikes [T, B, ...]."""
        potential = Connection.forward(self, spk).sum(0) * (self.worth / len(spk))
        return ((potential - self.threshold) / self.act_step).float()


def free_running(net: QuantNet, x: torch.Tensor, num_steps: int) -> torch.Tensor:
    """Give Q [B, actions] of ``IfNet(net.to_integers(), num_steps)``, with gradients to the weights.

    Forward it has the chip's rounded thresholds and steps; the gradient takes the real bias b and step s
    (straight-through), for which a neuron's threshold is L s, and its current w L' s' spk + b. Spikes have a
    surrogate gradient. The same weights play on as levels, so both executions can be taught at once.
    """
    step = x.new_tensor(1 / input_limit(net.specs), dtype=torch.float32)
    spk, worth = x.float().unsqueeze(0), step  # [1, B, C, H, W]: a still picture
    for layer in net.parts:
        weights, scale = layer.integer_weight(layer.unit_floor(step))
        shape = (-1,) if isinstance(layer.spec, Dense) else (-1, 1, 1)
        cur = sums(layer.spec, spk.flatten(0, 1), weights * (scale * worth).view(-1, 1, 1, 1))  # [T * B, ...]
        if layer.spec.act_bits is None:
            return (cur + layer.bias).unflatten(0, spk.shape[:2]).mean(0)
        unit = (step * scale).detach()
        threshold, act_step = layer.constants(unit)
        d = act_step * 2 ** (4 - layer.spec.act_bits)
        bias = straight((d / 2 - 1 / 32 - threshold) * unit, layer.bias)
        full = straight(layer.levels * d * unit, (layer.levels * layer.step).expand(len(d)))
        cur = ((cur + bias.view(shape)) / full.view(shape)).unflatten(0, spk.shape[:2])  # [T, B, ...]
        cur = cur.expand(num_steps, *cur.shape[1:])
        spk, _ = neurons.leaky(cur, 1.0, 1.0, "subtract", mem=cur.new_tensor(0.5))
        step = layer.step
        worth = layer.levels * step
    raise AssertionError("the last layer has no activation")


# ---------------------------------------------------------------------- float weights that learn


class FloatQ(nn.Module):
    """The Q-network with the activation of lesson 16: relu, clipped, levels or spikes (``run_as``).

    Args:
        num_steps: T of mode "spikes"; the other modes know no time.
        channels: of the input.
    """

    def __init__(self, num_steps: int = 1, channels: int = SHAPE[0]) -> None:
        super().__init__()
        self.body, self.num_steps = q_network(channels=channels), num_steps
        self.acts = nn.ModuleList(Activation() for _ in self.body.parts[:-1])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Give Q [B, actions] of levels [B, C, H, W]."""
        return self.outputs(x)[-1]

    def outputs(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Give what leaves each activation, [T, B, ...] (T = 1 unless it spikes), then Q [B, actions]."""
        x, found = (x.float() / 15).unsqueeze(0), []
        for layer, act in zip(self.body.parts, self.acts, strict=False):
            cur = layer.float_potential(x.flatten(0, 1)).unflatten(0, x.shape[:2])  # [T, B, ...]
            steps: Any = self.num_steps if act.settings.mode == "spikes" else 1
            x = act(cur.expand(steps, *cur.shape[1:]))
            found.append(x)
        return [*found, self.body.parts[-1].float_potential(x.mean(0))]
