"""Trained weights: kept with their card, and never lost to a later run."""

import json

from snn_course.runs import checkpoints, lesson
from snn_course import ROOT, UsageError

import pytest
import torch
from torch import nn

SCRIPT = ROOT / "lessons" / "01_lif_neuron.py"


def keep(value: float) -> None:
    """Let one run keep a network whose weight has this value."""
    net = nn.Linear(1, 1)
    net.weight.data.fill_(value)
    net.bias.data.zero_()

    def main(_, run):
        run.measure("x", 1.0)
        checkpoints.keep(run, "net", net, {"value": value})

    lesson.execute(main, lesson.Config(scale="quick"), SCRIPT)


def test_the_agent_of_an_earlier_run_stays_beside_a_later_one(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SNN_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("SNN_JOURNAL", str(tmp_path / "journal.md"))
    for value in (1.0, 2.0, 2.0, 3.0):  # the same weights once more are no other agent
        keep(value)
    folder = tmp_path / "results" / "01_lif_neuron" / "quick"
    assert sorted(path.stem for path in folder.glob("net*.pt")) == ["net", "net.1", "net.2"]
    for name, value in {"net.1": 1.0, "net.2": 2.0, "net": 3.0}.items():
        assert torch.load(folder / f"{name}.pt")["weight"].item() == value
        assert json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))["value"] == value
    assert capsys.readouterr().out.count("net of an earlier run stays as net.") == 2
    with pytest.raises(UsageError, match=r"gone\.pt is missing\.$"):
        checkpoints.read(folder / "gone.pt")
    (folder / "net.pt").write_bytes(b"damaged")
    keep(3.0)
    assert (folder / "net.3.pt").read_bytes() == b"damaged"
