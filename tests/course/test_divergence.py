"""Every training loop of the course looks at its loss."""

import ast
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

from snn_course.runs import lesson
from snn_course import ROOT
from snn_course.networks import training
from snn_course.pong import dqn, imitate, pqn
from snn_course.rules import eprop_tasks
from snn_course.runs.divergence import Diverged

import pytest
import torch
from torch import nn

NAN = float("nan")
SOURCES = [
    *ROOT.glob("*.py"),
    *(ROOT / "lessons").glob("*.py"),
    *(ROOT / "solutions").glob("*.py"),
    *(ROOT / "snn_course").rglob("*.py"),
]


def calls(file: Path) -> Iterator[str]:
    """Give the calls in a file, as `optimizer.step` or `finite`."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func)


def trains(file: Path) -> bool:
    return any(call.endswith(("optimizer.step", "model.fit")) for call in calls(file))


@pytest.mark.parametrize("file", filter(trains, SOURCES), ids=lambda file: file.name)
def test_each_training_loop_looks_at_its_loss(file: Path) -> None:
    assert any(call.rpartition(".")[2] == "finite" for call in calls(file))


def test_the_scan_finds_the_loops() -> None:
    assert {"training.py", "pqn.py", "keras_twin.py", "07_surrogate_gradients.py"} <= {
        file.name for file in SOURCES if trains(file)
    }


@pytest.fixture
def run() -> lesson.Run:
    made = lesson.Run(lesson.Config(scale="quick", device="cpu"), Path(__file__))
    made.begin(0)
    return made


@pytest.mark.parametrize("step", [0, 5, 11])
def test_fit_stops_and_keeps_the_epoch_before(run: lesson.Run, step: int) -> None:
    images, labels = torch.randint(256, (96, 1, 4, 4)).byte(), torch.arange(96) % 4
    seen, checks = [], []

    def loss(scores: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        seen.append(len(y))
        right = nn.functional.cross_entropy(scores.float(), y)
        return right * NAN if len(seen) > 12 + step else right

    recipe = training.Recipe(epochs=3, batch=8, loss=loss, augment=lambda x: x)
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 4))
    with pytest.raises(Diverged, match="the loss became nan or infinite"):
        training.fit(run, "net", net, images, labels, recipe, lambda: checks.append(1) or 0.0)
    assert len(checks) == 1, "no accuracy is measured of a network that has diverged"
    kept = run.load("net")
    assert kept is not None
    assert len(kept["history"]) == 1
    assert all(bool(weight.isfinite().all()) for weight in kept["net"].values())


def test_a_learning_rate_out_of_all_proportion(run: lesson.Run) -> None:
    images, labels = torch.randint(256, (96, 1, 4, 4)).byte(), torch.arange(96) % 4
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.BatchNorm1d(8), nn.Linear(8, 4))
    with pytest.raises(Diverged):
        training.fit(run, "net", net, images, labels, training.Recipe(epochs=9, batch=8, rate=1e38))


def test_learning_with_eprop_stops(run: lesson.Run) -> None:
    weights = {name: torch.ones(2, 2, requires_grad=True) for name in ("weight", "out")}
    task = SimpleNamespace(batches=5, draw=lambda: (torch.ones(1), torch.zeros(3).long(), torch.ones(1)))
    answers = iter([torch.ones(3, 2), torch.full((3, 2), NAN)])
    with pytest.raises(Diverged, match="an answer of the network"):
        eprop_tasks.fit(run, "rows", SimpleNamespace(**weights), lambda *_: next(answers), task, 1e-3)


def test_surrogate_gradients_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    L7 = lesson.load(7)
    monkeypatch.setattr(L7, "RATE", float("inf"))
    sets = (torch.rand(300, 784), torch.arange(300) % 10) * 2
    with pytest.raises(Diverged, match=r"a weight, .*, became nan or infinite"):  # spike counts stay finite
        L7.train(L7.Config(scale="quick", images=300), sets, L7.spiking("atan", 2.0))


# ---------------------------------------------------------------------- Pong


@pytest.fixture
def player() -> SimpleNamespace:
    """A network of 3 actions for inputs of 4 numbers, with its optimizer."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    return SimpleNamespace(net=net, optimizer=torch.optim.Adam(net.parameters()))


def test_pqn_stops(player: SimpleNamespace) -> None:
    memory = SimpleNamespace(seen=torch.ones(2, 2, 4), action=torch.zeros(2, 2).long())
    with pytest.raises(Diverged):
        pqn._train(player.net, player.optimizer, pqn.Recipe(), memory, torch.full((2, 2), NAN))


def test_dqn_stops(player: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dqn, "targets", lambda *_: torch.full((2,), NAN))
    seen = torch.ones(2, 4, 1, 1)
    batch = SimpleNamespace(seen=seen, action=torch.zeros(2).long(), reward=None, after=seen)
    player.older, player.trained, player.recipe = player.net, 0, dqn.Recipe()
    player.replay = SimpleNamespace(draw=lambda *_: batch)
    with pytest.raises(Diverged):
        dqn.Learner.train(player)


def test_imitation_stops(player: SimpleNamespace) -> None:
    player.recipe, player.student = imitate.Recipe(games=4, horizon=64, passes=1, batch=128), player.net
    player.seen = player.told = torch.ones(4, 64, 4, 4)
    player.loss = lambda student, seen, _: student(seen).mean() * NAN
    with pytest.raises(Diverged):
        imitate._Lesson._train(player)
