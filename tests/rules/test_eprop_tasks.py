"""The helpers of lesson 15's second half: the two tasks, training."""

from pathlib import Path

from snn_course.runs import lesson
from snn_course.rules import eprop_tasks

import pytest
import torch

L = lesson.load(15)


@pytest.fixture
def config():
    return L.Config(scale="quick", device="cpu", images=1000)


def tiny(batches=20):
    trial = eprop_tasks.cues(50, cues=1, delay=0)
    draw = lambda: eprop_tasks.cues(16, cues=1, delay=0)  # noqa: E731
    return eprop_tasks.Task((40, 2), 0.9, 0.1, draw, batches, [trial, trial], trial[2], (), {})


def test_more_cues_on_a_side_is_the_label():
    torch.manual_seed(0)
    x, y, when = eprop_tasks.cues(200, cues=5, on=6, off=2, delay=9, decide=10)
    assert x.shape == (5 * 8 + 9 + 10, 200, 40)
    assert when.sum() == pytest.approx(1)
    assert (when[:-10] == 0).all()
    left, right = x[..., :10].sum((0, 2)), x[..., 10:20].sum((0, 2))
    assert torch.equal((right > left).long(), y)  # 40 spikes a cue: the count tells
    assert x[40:, :, :20].sum() == 0  # nothing but noise in the pause
    assert x[:-10, :, 20:30].sum() == 0
    assert x[-10:, :, 20:30].mean() == pytest.approx(4 / 6, abs=0.02)
    assert x[..., 30:].mean() == pytest.approx(0.01, abs=0.002)
    assert 0.35 < y.float().mean() < 0.65


def test_a_gap_follows_each_cue():
    torch.manual_seed(0)
    x, _, _ = eprop_tasks.cues(50, cues=3, on=6, off=2)
    for cue in range(3):
        assert x[cue * 8 + 6 : cue * 8 + 8, :, :20].sum() == 0


def test_an_even_number_of_cues_has_no_answer():
    with pytest.raises(ValueError, match="odd"):
        eprop_tasks.cues(2, cues=4)


def test_rows_are_steps():
    x = torch.arange(784).remainder(256).byte().repeat(70, 1)
    y = torch.arange(70) % 10
    task = eprop_tasks.row_task((x, y), (x, y), 8, 5)
    rows, labels, when = task.draw()
    assert rows.shape == (28, 8, 28)
    assert labels.shape == (8,)
    torch.testing.assert_close(rows[3, 0], x[0, 84:112] / 255)
    assert when.sum() == 1
    assert sum(len(labels) for _, labels, _ in task.tests) == 70


def test_training_lowers_the_rate_and_gives_a_curve(run):
    rates = []

    def learn(net, x, y, when):
        answer = L.bptt(net, x, y, when)
        rates.append(float((before[0] - net.weight).detach().abs().max()))
        before[0] = net.weight.detach().clone()
        return answer

    torch.manual_seed(0)
    net = L.Net(40, 2, 10, 0.9, 0.1)
    before = [net.weight.detach().clone()]
    hits, seconds = eprop_tasks.fit(run, "short", net, learn, tiny(), 5e-3)
    assert len(hits) == 20
    assert all(0 <= value <= 100 for value in hits)
    assert seconds > 0
    assert rates[1] == pytest.approx(5e-3, rel=0.1)  # Adam's first step is the learning rate
    assert rates[-1] < 0.5 * rates[1]


def test_a_finished_training_is_taken_over(config, run):
    torch.manual_seed(0)
    first, second = L.Net(40, 2, 10, 0.9, 0.1), L.Net(40, 2, 10, 0.9, 0.1)
    hits, _ = eprop_tasks.fit(run, "again", first, L.eprop, tiny(), 5e-3)
    other = lesson.Run(config, Path(L.__file__))
    other.begin(0)
    assert eprop_tasks.fit(other, "again", second, None, tiny(), 5e-3)[0] == hits
    assert torch.equal(first.weight, second.weight)


def test_score_is_that_of_all_test_batches():
    class Constant:
        def outputs(self, x):
            out = torch.zeros(*x.shape[:2], 2)
            out[..., 1] = 1
            return out

    task = tiny()
    share = 100 * task.tests[0][1].float().mean().item()
    assert eprop_tasks.test(Constant(), task) == pytest.approx(share)
