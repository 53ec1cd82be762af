"""Writes the networks of lessons 09, 10 and 13 as graphs of NIR (lesson 17).

What is no part of a graph goes into it where that changes nothing: batch norm into the convolution before it,
two biases into one. What NIR has no word for is refused (``writer.Unwritable``).
"""

from typing import TYPE_CHECKING, Any

from snn_course.nir.writer import Names, Unwritable, Writer, array, bias_of, spiking, write_chain

import numpy as np
import torch
from torch.nn.utils.fusion import fuse_conv_bn_eval

if TYPE_CHECKING:
    import nir


def write_dense(net: Any, dt: float) -> "nir.NIRGraph":
    """Write lesson 09's network: fc1, lif1, fc2, lif2."""
    layers = {name: getattr(net, name) for name in ("fc1", "lif1", "fc2", "lif2")}
    return write_chain(layers, (net.fc1.in_features,), dt)


def write_conv(net: Any, picture: torch.Tensor, dt: float) -> "nir.NIRGraph":
    """Write lesson 10's network. Batch norm, in use a scale and a shift, goes into the convolution before it.

    Args:
        net: in evaluation mode. The mean of the graph's output over the time steps are the net's scores.
        picture: an input [1, C, H, W], to find the shapes of all layers.
        dt: time step in seconds.

    Raises:
        Unwritable: for blocks that multiply spikes ("and", "iand"), which no node of NIR does.
    """
    import nir

    out = Writer(tuple(picture.shape[1:]), dt)
    shapes = [spk.shape[2:] for spk in net.record(picture)[1]]  # [C, H, W] of each layer
    names = {module: name for name, module in net.named_modules()}
    following = iter(shapes)

    def layer(module: Any, sources: Names, around: Names = ()) -> Names:
        name, conv = names[module], fuse_conv_bn_eval(module.conv, module.norm)
        cur = out.weights(f"{name}.conv", conv, *sources)
        return out.neurons(name, next(following), spiking(module.neuron), *cur, *around)

    spk = layer(net.stem, ("input",))
    for part in net.body:
        if hasattr(part, "conv"):
            spk = layer(part, spk)
            continue
        if part.join not in ("sew", "plain", "resnet"):
            raise Unwritable(f"{names[part]}: a block that joins by {part.join!r}: NIR multiplies no spikes")
        around = spk if part.join == "resnet" else ()  # added to the currents
        branch = layer(part.second, layer(part.first, spk), around)
        spk = (*spk, *branch) if part.join == "sew" else branch  # both go on, and add up there
    size = np.array(shapes[-1][1:])
    at = out.add("mean", nir.AvgPool2d(size, size, 0 * size), *spk)
    at = out.add("flatten", nir.Flatten(None, 0), *at)
    return out.graph(*out.weights("readout", net.readout, *at))


def write_recurrent(net: Any, dt: float, gain: float = 1.0) -> "nir.NIRGraph":
    """Write lesson 13's network of one hidden layer: fc, hidden neurons with weights among them, out.

    The mean of the graph's output over the time steps that the net reads are its scores, if ``gain`` is the
    number by which it multiplies rates.

    Raises:
        Unwritable: for more hidden layers, and for hidden neurons that adapt or have gates.
    """
    import nir

    if len(net.hidden) != 1:
        raise Unwritable(f"this writer takes one hidden layer, not {len(net.hidden)}")
    (fc,), (hidden,) = net.fc, net.hidden
    bias = bias_of(fc) + array(hidden.bias)
    out = Writer((fc.in_features,), dt)
    cur = out.add("fc", nir.Affine(array(fc.weight), bias), "input")
    spk = out.neurons("hidden", bias.shape, spiking(hidden), *cur)
    if hidden.recurrent is not None:
        out.add("hidden.recurrent", nir.Linear(array(hidden.recurrent.weight)), *spk)
        out.edges.append(("hidden.recurrent", "hidden.mem"))
    readout = nir.Affine(gain * array(net.out.weight), bias_of(net.out))
    return out.graph(*out.add("out", readout, *spk))
