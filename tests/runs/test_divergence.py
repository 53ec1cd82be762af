"""A loss that is no number ends a training: one line, exit code 1, nothing recorded."""

import os
import pickle
import subprocess
import sys

from snn_course.runs import lesson
from snn_course.runs.divergence import Diverged, finite

import pytest
import torch

SCRIPT = '''"""Lesson 98: a training that diverges.

Question: What happens?
Reading:  nothing.
Run:      python {name}
Expect:   one line.
"""
import sys
from dataclasses import dataclass
sys.path.insert(0, {root!r})
from snn_course.runs import lesson
import torch

@dataclass(frozen=True)
class Config(lesson.Config):
    pass

def main(config, run):
    run.measure("before", 1.0)
    weight = torch.ones(1, requires_grad=True)
    for _ in range(9):
        loss = weight.square().sum()
        lesson.finite(loss).backward()
        with torch.no_grad():
            weight -= 1e30 * weight.grad
        weight.grad = None
    run.measure("accuracy", 100 * float(weight), "%")

lesson.start(main, Config, {{}})
'''


@pytest.mark.parametrize("value", [torch.tensor(2.0), torch.zeros(3, 4), torch.tensor(5), 0.5, 1e308])
def test_a_finite_loss_comes_back_as_it_is(value):
    assert finite(value) is value


@pytest.mark.parametrize(
    "value", [torch.tensor(float("nan")), torch.tensor([1.0, float("inf")]), float("nan"), float("-inf")]
)
def test_anything_else_is_named(value):
    with pytest.raises(Diverged, match=r"^the answer became nan or infinite: .* Try a lower learning rate"):
        finite(value, what="the answer")


@pytest.mark.parametrize("values", [[3e38, 3e38], [-3e38, -3e38]])
def test_large_numbers_are_finite_though_their_sum_is_not(values):
    large = torch.tensor(values)
    assert large.sum().isinf()
    assert finite(large) is large


def test_what_cancels_in_a_sum_is_still_seen():
    with pytest.raises(Diverged):
        finite(torch.tensor([float("inf"), -float("inf"), 1.0]))


def test_a_loss_of_spike_counts_is_finite_where_the_weights_are_not():
    net = torch.nn.Linear(2, 2)
    assert finite(0.5, net) == 0.5
    net.weight.data[1, 0] = float("nan")
    with pytest.raises(Diverged, match=r"^a weight, .*weight, became nan or infinite"):
        finite(0.5, net)


def test_it_crosses_from_a_worker_process():
    error = pickle.loads(pickle.dumps(Diverged("one line")))
    assert isinstance(error, Diverged)
    assert str(error) == "one line"


def test_gradients_flow_through_it():
    x = torch.ones(2, requires_grad=True)
    finite(x.square().sum()).backward()
    assert x.grad.tolist() == [2.0, 2.0]


def test_a_script_ends_in_one_line_with_code_1(tmp_path):
    script = tmp_path / "98_diverges.py"
    script.write_text(SCRIPT.format(name=script.name, root=str(lesson.ROOT)), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, encoding="utf-8", check=False, env=os.environ
    )
    assert done.returncode == 1
    assert done.stderr.startswith("98_diverges.py: the loss became nan or infinite")
    assert len(done.stderr.splitlines()) == 1
    assert "accuracy" not in done.stdout
    assert not list(tmp_path.rglob("metrics.json"))
    assert not (tmp_path / "journal.md").exists()
