"""Lava, Intel's framework for Loihi 2, as another reader of a graph: its simulator runs a chain (lesson 17).

lava-nc 0.10.0 wants Python 3.10 and numpy below 2, so it lives in an environment of its own, whose Python the
variable SNN_LAVA names:

    uv venv --python 3.10 lava
    uv pip install --python lava lava-nc==0.10.0
    SNN_LAVA=lava/bin/python python lessons/17_energy_and_export.py

What goes there are weights, biases, betas, thresholds and spikes; what comes back are spikes. Two things of
Lava's are taken into account: a spike reaches the next process one step later, so layer k lags k steps behind
(the record is shifted back by as many); and a bias would be there before the first spike is, so it comes as a
spike train of its own, as late as the layer's input.

Source: lava-nc 0.10.0, proc/lif/models.py (PyLifModelFloat: the current decays by du, the membrane by dv, a
spike where it is above vth, then it is 0), proc/dense/models.py, proc/io.
"""

import io
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from snn_course.nir import graphs

import nir
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

PATIENCE = 300.0
"""Seconds that Lava may take."""
Array = npt.NDArray[np.float64]


class Unreadable(ValueError):
    """The graph is not a chain of weights and of leaky neurons that reset to zero."""


@dataclass(frozen=True)
class Layer:
    """Weights [N, M], biases [N], and the neurons that follow: one decay per step and threshold for all."""

    weights: Array
    bias: Array
    beta: float
    threshold: float


def python() -> Path | None:
    """Give the Python that has Lava, if SNN_LAVA names one."""
    named = os.environ.get("SNN_LAVA")
    return Path(named).expanduser() if named else None


def layers_of(graph: nir.NIRGraph, dt: float) -> list[Layer]:
    """Read a chain of Affine or Linear and LIF nodes. Raises: Unreadable for anything else."""
    order = [graph.nodes[name] for name in graphs.wired(graph).order]
    inner = order[1:-1]
    if len(graph.edges) != len(order) - 1 or not inner or len(inner) % 2:
        raise Unreadable("Lava runs here only chains, of weights and neurons in turn")
    pairs = zip(inner[::2], inner[1::2], strict=True)
    return [_layer(weights, neurons, dt) for weights, neurons in pairs]


def _layer(weights: object, neurons: object, dt: float) -> Layer:
    if not isinstance(weights, nir.Affine | nir.Linear) or not isinstance(neurons, nir.LIF):
        kinds = f"{type(weights).__name__} and {type(neurons).__name__}"
        raise Unreadable(f"Lava's LIF resets to 0, so it runs here Affine and LIF, not {kinds}")
    if neurons.v_leak.any() or neurons.v_reset.any() or not np.allclose(neurons.r * dt, neurons.tau):
        raise Unreadable("a LIF of Lava has neither v_leak nor v_reset, and r = tau / dt")
    bias = weights.bias if isinstance(weights, nir.Affine) else np.zeros(len(weights.weight))
    beta = _same("beta", 1 - dt / neurons.tau)
    return Layer(weights.weight, bias, beta, _same("threshold", neurons.v_threshold))


def _same(name: str, values: Array) -> float:
    """Give the one value of all neurons of a layer."""
    if np.ptp(values):
        raise Unreadable(f"each neuron has a {name} of its own, and a LIF of Lava one for all")
    return float(values.flat[0])


def spikes(layers: list[Layer], x: Tensor, interpreter: Path) -> Tensor:
    """Run a chain in Lava's simulator, one sample after the other.

    Args:
        layers: as ``layers_of`` gives them.
        x: input spikes or currents [T, B, M].
        interpreter: a Python that has Lava.

    Returns: spikes of the last layer [T, B, N].
    Raises: RuntimeError with Lava's last line where it fails, or takes longer than PATIENCE.
    """
    sent = {"x": x.double().numpy()}
    for number, layer in enumerate(layers):
        sent[f"weights{number}"] = layer.weights
        sent[f"bias{number}"] = layer.bias
        sent[f"numbers{number}"] = np.array([layer.beta, layer.threshold])
    file = io.BytesIO()
    np.savez(file, **sent)
    answered = _call([str(interpreter), "-c", DRIVER], file.getvalue())
    return torch.from_numpy(np.load(io.BytesIO(answered)))


def _call(command: list[str], asked: bytes) -> bytes:
    try:
        done = subprocess.run(command, input=asked, capture_output=True, timeout=PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"Lava took longer than {PATIENCE:.0f} s") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise RuntimeError((said or ["it ended without a word"])[-1])
    return done.stdout


DRIVER = """
import io
import sys

answer_to = sys.stdout.buffer
sys.stdout = sys.stderr  # what Lava prints is no answer

import numpy as np
from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.proc.dense.process import Dense
from lava.proc.io.sink import RingBuffer as Sink
from lava.proc.io.source import RingBuffer as Source
from lava.proc.lif.process import LIF

asked = np.load(io.BytesIO(sys.stdin.buffer.read()))
x = asked["x"]  # [T, B, M]
count = sum(name.startswith("weights") for name in asked.files)


def run(sample):  # [T, M] -> [T, N]
    steps = len(sample) + count  # each layer lags one step behind
    data = np.zeros((sample.shape[1], steps))
    data[:, : len(sample)] = sample.T
    at = Source(data=data).s_out
    for number in range(count):
        beta, threshold = asked[f"numbers{number}"]
        weights, bias = asked[f"weights{number}"], asked[f"bias{number}"]
        cur = Dense(weights=weights, num_message_bits=24)  # 0 would take all that is not 0 for a spike
        constant = Dense(weights=bias[:, None])
        ones = np.ones((1, steps))
        ones[:, :number] = 0  # the layer's input is that late
        lif = LIF(shape=bias.shape, du=1.0, dv=1 - beta, vth=threshold)
        at.connect(cur.s_in)
        Source(data=ones).s_out.connect(constant.s_in)
        cur.a_out.connect(lif.a_in)
        constant.a_out.connect(lif.a_in)
        at = lif.s_out
    sink = Sink(shape=bias.shape, buffer=steps)
    at.connect(sink.a_in)
    lif.run(condition=RunSteps(steps), run_cfg=Loihi2SimCfg(select_tag="floating_pt"))
    record = sink.data.get()  # [N, T]
    lif.stop()
    return record[:, count:].T


np.save(answer_to, np.stack([run(x[:, sample]) for sample in range(x.shape[1])], axis=1))
"""
"""What the other Python runs."""
