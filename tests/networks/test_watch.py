"""The watch names the layer that is broken, and is silent on networks that are not."""

from pathlib import Path

from snn_course.runs import lesson
from snn_course.networks import training
from snn_course.networks.neurons import Leaky, TimeBatched, leaky
from snn_course.networks.recurrent import Layer
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


# ---------------------------------------------------------------------- networks of other shapes

STEPS = 12


def find_over_time(net: nn.Module, x: torch.Tensor) -> tuple[str, str]:
    """Watch a step of a network that gives spikes, or spikes and membranes, [T, B, 4]."""
    with Watch(net) as watch:
        answer = net(x)
        answer = answer[0] if isinstance(answer, tuple) else answer
        nn.functional.cross_entropy(answer.sum(0), torch.arange(len(x)) % 4).backward()
    return watch.finding()


class Tutorial(nn.Module):
    """As snnTorch's tutorials write it, without biases: a loop over the steps, recurrent or not."""

    def __init__(self, recurrent: bool, threshold: float = 1.0, last: float = 1.0) -> None:
        super().__init__()
        self.recurrent = recurrent
        self.fc1, self.fc2 = nn.Linear(16, 16, bias=False), nn.Linear(16, 4, bias=False)
        self.lif1 = snn.Leaky(0.9, threshold=threshold)
        if recurrent:
            self.lif1 = snn.RLeaky(0.9, linear_features=16, threshold=threshold)
        self.lif2 = snn.Leaky(0.9, threshold=last)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        spk1, mem1, mem2 = torch.zeros(1), torch.zeros(1), torch.zeros(1)
        record = []
        for _ in range(STEPS):
            cur = 6 * self.fc1(x)
            spk1, mem1 = self.lif1(cur, spk1, mem1) if self.recurrent else self.lif1(cur, mem1)
            record.append(self.lif2(6 * self.fc2(spk1), mem2))
            mem2 = record[-1][1]
        spk_rec, mem_rec = zip(*record, strict=True)
        return torch.stack(spk_rec), torch.stack(mem_rec)


class Convolutional(nn.Module):
    """Convolution, pool, read-out neurons; all steps at once, without biases."""

    def __init__(self, threshold: float = 1.0, last: float = 1.0) -> None:
        super().__init__()
        self.conv = TimeBatched(nn.Conv2d(1, 8, 3, padding=1, bias=False))
        self.lif1, self.pool = Leaky(0.9, threshold), TimeBatched(nn.MaxPool2d(2))
        self.fc, self.lif2 = nn.Linear(128, 4, bias=False), Leaky(0.9, last)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        cur = 3 * self.conv(x.expand(STEPS, *x.shape))
        spk = self.pool(self.lif1(cur=cur)[0])
        return self.lif2(6 * self.fc(spk.flatten(2)))[0]


class Functional(nn.Module):
    """Neurons as plain functions, which no hook sees."""

    def __init__(self, threshold: float = 1.0) -> None:
        super().__init__()
        self.first, self.last, self.threshold = nn.Linear(16, 16), nn.Linear(16, 4), threshold

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        spk, _ = leaky(4 * self.first(x), 0.9, self.threshold, num_steps=STEPS)
        return leaky(2 * self.last(spk), 0.9)[0]


class Block(nn.Module):
    """Weights and neurons in one module, which takes spikes."""

    def __init__(self, threshold: float = 1.0) -> None:
        super().__init__()
        self.fc, self.threshold = nn.Linear(16, 16), threshold

    def forward(self, spk: torch.Tensor) -> torch.Tensor:
        return leaky(6 * self.fc(spk), 0.9, self.threshold)[0]


class Blocks(nn.Module):
    """Two blocks and a read-out."""

    def __init__(self, threshold: float = 1.0) -> None:
        super().__init__()
        self.block1, self.block2, self.out = Block(), Block(threshold), nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.block2(self.block1(x.expand(STEPS, *x.shape))))


class Recurrent(nn.Module):
    """The course's recurrent layer."""

    def __init__(self, threshold: float = 1.0) -> None:
        super().__init__()
        self.fc, self.hidden = nn.Linear(16, 16), Layer(16, 20, recurrent=True, threshold=threshold)
        self.out = nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.hidden(6 * self.fc(x.expand(STEPS, *x.shape))))


PICTURES, ROWS = torch.rand(32, 1, 8, 8), torch.rand(32, 16)
HEALTHY = {
    "snnTorch": (lambda: Tutorial(False), ROWS),
    "snnTorch, recurrent": (lambda: Tutorial(True), ROWS),
    "snnTorch, on spikes": (lambda: Tutorial(False), (ROWS < 0.4).float()),
    "convolution": (Convolutional, PICTURES),
    "functions": (Functional, ROWS),
    "blocks": (Blocks, ROWS),
    "blocks, on spikes": (Blocks, (ROWS < 0.4).float()),
    "recurrent": (Recurrent, ROWS),
}
BROKEN = {
    "snnTorch, dead": (lambda: Tutorial(False, 1e3), ROWS, "never", "lif1 never fires"),
    "snnTorch, recurrent, dead": (lambda: Tutorial(True, 1e3), ROWS, "never", "lif1 never fires"),
    "snnTorch, silent outputs": (lambda: Tutorial(False, last=1e3), ROWS, "never", "lif2 never fires"),
    "snnTorch, no input": (lambda: Tutorial(False), 0 * ROWS, "never", "lif1 never fires"),
    "convolution, dead": (lambda: Convolutional(1e3), PICTURES, "never", "lif1 never fires"),
    "convolution, silent outputs": (lambda: Convolutional(last=1e3), PICTURES, "never", "lif2 never fires"),
    "convolution, no input": (Convolutional, 0 * PICTURES, "never", "lif1 never fires"),
    "convolution, saturated": (lambda: Convolutional(-9.0), PICTURES, "always", "lif1 fires in 100 %"),
    "functions, dead": (lambda: Functional(1e3), ROWS, "answers", "the same for every input"),
    "blocks, dead": (lambda: Blocks(1e3), ROWS, "never", "block2 never fires"),
    "blocks, on spikes, dead": (lambda: Blocks(1e3), (ROWS < 0.4).float(), "never", "block2 never fires"),
    "recurrent, dead": (lambda: Recurrent(1e3), ROWS, "never", "hidden never fires"),
    "nan in the input": (lambda: Tutorial(False), ROWS.log() * 0 / 0, "nan", "fc1 gives nan"),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_networks_of_any_shape_are_not_complained_of(name: str) -> None:
    make, x = HEALTHY[name]
    assert find_over_time(make(), x) == ("", "")


@pytest.mark.parametrize("name", BROKEN)
def test_broken_networks_of_any_shape_are_named_in_one_line(name: str) -> None:
    make, x, kind, words = BROKEN[name]
    found, line = find_over_time(make(), x)
    assert found == kind
    assert words in line
    assert "\n" not in line


def test_a_read_out_by_membranes_may_be_silent() -> None:
    """No gradient arrives at its spikes: nothing depends on them."""

    class ByMembrane(Tutorial):
        def forward(self, x: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
            return super().forward(x)[1]

    assert find_over_time(ByMembrane(False, last=1e9), ROWS) == ("", "")
    assert find_over_time(ByMembrane(False, 1e3, last=1e9), ROWS)[0] == "never"


def test_a_gradient_that_is_cut_off_is_named_with_the_weights_that_get_none() -> None:
    class Detached(Blocks):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.out(self.block2(self.block1(x.expand(STEPS, *x.shape)).detach()))

    kind, line = find_over_time(Detached(), ROWS)
    assert kind == "cut"
    assert "no gradient arrives at block1.fc.weight" in line
    assert "detach()" in line
    frozen = Detached()
    frozen.block1.requires_grad_(False)
    assert find_over_time(frozen, ROWS) == ("", "")
    spare = Blocks()
    spare.spare = nn.Linear(16, 4)  # is never called
    assert find_over_time(spare, ROWS) == ("", "")


def test_a_gradient_that_is_nan_is_named() -> None:
    class Root(Blocks):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            spk = self.block1(x.expand(STEPS, *x.shape))
            return self.out((spk - spk).sqrt() + spk)  # the slope of a root is infinite at 0

    kind, line = find_over_time(Root(), ROWS)
    assert kind == "nan"
    assert "the gradient at block1.fc.weight is nan or infinite" in line


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
