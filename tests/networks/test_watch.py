"""The watch names the layer that is broken, and is silent on networks that are not."""

from pathlib import Path

from snn_course.runs import lesson
from snn_course.networks import training
from snn_course.networks.neurons import Leaky
from snn_course.networks.watch import Look, Watch

import pytest
import snntorch as snn
import torch
from torch import nn


class Deep(nn.Module):
    """Linear layers and leaky neurons in turn, on a still image; the read-out is linear in mean spikes."""

    def __init__(self, depth: int = 3, threshold: float = 1.0, scale: float = 4.0) -> None:
        super().__init__()
        self.weights = nn.ModuleList(nn.Linear(16, 16) for _ in range(depth))
        self.neurons = nn.ModuleList(Leaky(0.9, threshold) for _ in range(depth))
        self.out, self.scale = nn.Linear(16, 4), scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        spk = x.expand(12, *x.shape)
        for weight, neuron in zip(self.weights, self.neurons, strict=True):
            spk, _ = neuron(self.scale * weight(spk))
        return self.out(spk.mean(0))


def step(net: nn.Module, x: torch.Tensor) -> torch.Tensor:
    loss = nn.functional.cross_entropy(net(x), torch.arange(len(x)) % 4)
    net.zero_grad()
    loss.backward()
    return loss


def find(net: nn.Module, x: torch.Tensor | None = None) -> tuple[str, str]:
    with Watch(net) as watch:
        step(net, torch.rand(32, 16) if x is None else x)
    return watch.finding()


@pytest.fixture
def run():
    made = lesson.Run(lesson.Config(scale="quick", device="cpu"), Path(__file__))
    made.begin(0)
    return made


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def test_a_healthy_network_is_not_complained_of() -> None:
    net = Deep()
    assert find(net) == ("", "")
    assert all(not module._forward_hooks for module in net.modules())  # nothing is left behind


def test_a_layer_that_never_fires_is_named() -> None:
    kind, line = find(Deep(threshold=1e3))
    assert kind == "never"
    assert "neurons.0 never fires" in line
    assert "lower threshold" in line
    assert "scale" in line


def test_a_layer_that_always_fires_is_named() -> None:
    net = Deep()
    with torch.no_grad():
        net.weights[1].bias.fill_(100)
    kind, line = find(net)
    assert kind == "always"
    assert "neurons.1 fires in 100 % of its steps" in line
    assert "higher threshold" in line


def test_spikes_that_vanish_with_depth_are_told_from_a_layer_that_never_fires() -> None:
    net = Deep()
    for neuron, threshold in zip(net.neurons, (1.0, 10.0, 100.0), strict=True):
        neuron.threshold.fill_(threshold)
    kind, line = find(net)
    assert kind == "depth"
    assert " -> 0 %, and neurons.2 is silent" in line
    assert "residual" in line


def test_a_vanishing_gradient_is_named() -> None:
    net = nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 4))
    x = torch.rand(8, 16)
    with Watch(net) as watch:
        step(net, x)
    assert watch.finding() == ("", "")
    net[0].weight.grad *= 1e-9
    kind, line = watch.finding()
    assert kind == "gradient"
    assert "at 0.weight" in line
    assert "of that at 1.weight" in line


def test_answers_that_do_not_depend_on_the_input_are_named() -> None:
    net = nn.Sequential(nn.Linear(16, 4))
    nn.init.zeros_(net[0].weight)
    assert find(net)[0] == "answers"


def test_neurons_of_snntorch_in_a_loop_are_seen_and_nested_modules_count_once() -> None:
    class Loop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = nn.Sequential(nn.Linear(16, 4), snn.Leaky(0.9, threshold=1e3, init_hidden=True))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return sum(self.block(x) for _ in range(5))

    net = Loop()
    with Watch(net) as watch, torch.no_grad():
        net(torch.rand(8, 16))
    assert list(watch.layers) == ["block.1"]
    assert watch.layers["block.1"].entries == 5 * 8 * 4


def test_each_kind_of_finding_is_said_once() -> None:
    said: list[str] = []
    net, x = Deep(threshold=1e3), torch.rand(32, 16)
    look = Look(net, said.append)
    losses = [look(lambda: step(net, x)) for _ in range(3)]
    assert len(losses) == 3
    assert len(said) == 1
    assert "\n" not in said[0]


def test_fit_tells_of_a_dead_layer(run, capsys) -> None:
    labels = torch.arange(64) % 4
    images = (torch.rand(64, 16) * 255).byte()
    recipe = training.Recipe(
        epochs=2, batch=32, augment=lambda x: x, prepare=lambda x: x.float() / 255, bf16=False
    )
    training.fit(run, "dead", Deep(threshold=1e3), images, labels, recipe)
    said = " ".join(capsys.readouterr().out.split())
    assert said.count("Watch, dead: neurons.0 never fires") == 1
    training.fit(run, "healthy", Deep(), images, labels, recipe)
    assert "Watch" not in capsys.readouterr().out
