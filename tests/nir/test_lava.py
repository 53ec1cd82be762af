"""Lava as a reader of graphs: what it is given, what it gives back, and what it is not asked.

Lava itself needs another Python, which SNN_LAVA names; without it, a double stands in at the boundary.
"""

import sys
from pathlib import Path

from snn_course.nir import lava, peers, writer
from snn_course.nir.interpreter import Interpreter

import pytest
import snntorch as snn
import torch
from torch import nn

DT = 1e-4
DOUBLE = """
import io, sys
import numpy as np
asked = np.load(io.BytesIO(sys.stdin.buffer.read()))
spk = asked["x"]
for number in range(sum(name.startswith("weights") for name in asked.files)):
    beta, threshold = asked[f"numbers{number}"]
    cur = spk @ asked[f"weights{number}"].T + asked[f"bias{number}"]
    mem, spk = 0, np.zeros_like(cur)
    for t in range(len(cur)):
        mem = beta * mem + cur[t]
        spk[t] = mem > threshold
        mem = mem * (1 - spk[t])
np.save(sys.stdout.buffer, spk)
"""


def network(reset="zero", **options):
    torch.manual_seed(0)
    return {
        "fc1": nn.Linear(20, 15),
        "lif1": snn.Leaky(0.9, reset_mechanism=reset, **options),
        "fc2": nn.Linear(15, 4),
        "lif2": snn.Leaky(0.8, threshold=0.5, reset_mechanism=reset),
    }


def graph_of(net):
    return writer.write_chain(net, (20,), DT)


@pytest.fixture
def x():
    return 2 * (torch.rand(30, 3, 20) < 0.4).double()


def judge(graph, x):
    return peers.verdict_of_lava(graph, x, DT, Interpreter(graph, DT)(x))


@pytest.mark.skipif(lava.python() is None, reason="SNN_LAVA names no Python with Lava; README tells how")
def test_lava_gives_the_same_spikes(x):
    graph = graph_of(network())
    assert Interpreter(graph, DT)(x).sum() > 50
    verdict = judge(graph, x)
    assert (verdict.kind, verdict.changed) == ("equal", 0)


@pytest.fixture
def double(monkeypatch):
    monkeypatch.setenv("SNN_LAVA", sys.executable)
    monkeypatch.setattr(lava, "DRIVER", DOUBLE)


def test_what_lava_is_given_is_the_network(x, double):
    verdict = judge(graph_of(network()), x)
    assert (verdict.kind, verdict.changed) == ("equal", 0)
    assert "2 samples" in verdict.why


def test_other_spikes_are_seen(x, double, monkeypatch):
    monkeypatch.setattr(lava, "DRIVER", DOUBLE.replace("mem > threshold", "mem > 2 * threshold"))
    verdict = judge(graph_of(network()), x)
    assert verdict.kind == "differs"
    assert verdict.changed > 5


def test_without_lava_it_is_not_installed(x, monkeypatch):
    monkeypatch.delenv("SNN_LAVA", raising=False)
    assert judge(graph_of(network()), x).kind == "not installed"


@pytest.mark.parametrize(
    ("net", "why"),
    [
        (network("subtract"), "chain"),
        (network("none"), "resets to 0"),
        (network(threshold=torch.linspace(1, 2, 15)), "threshold of its own"),
    ],
)
def test_what_lava_has_not_is_refused(x, double, net, why):
    verdict = judge(graph_of(net), x)
    assert verdict.kind == "cannot read"
    assert why in verdict.why


@pytest.mark.parametrize(
    ("driver", "why"),
    [
        ("raise SystemExit('no module named lava')", "no module named lava"),
        ("raise SystemExit(3)", "ended without a word"),
        ("import time; time.sleep(60)", "longer than"),
    ],
)
def test_a_lava_that_fails_is_a_result(x, double, monkeypatch, driver, why):
    monkeypatch.setattr(lava, "DRIVER", driver)
    monkeypatch.setattr(lava, "PATIENCE", 2.0)
    verdict = judge(graph_of(network()), x)
    assert verdict.kind == "cannot read"
    assert why in verdict.why


def test_a_python_that_is_not_there_is_a_result(x, monkeypatch):
    monkeypatch.setenv("SNN_LAVA", str(Path("nowhere", "python")))
    assert judge(graph_of(network()), x).kind == "cannot read"
