"""The memory of a training at gpu scale: predicted from shapes, as a CPU measures it, and 20 GB at most."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NoReturn

from snn_course.runs import lesson
from snn_course.costs import memory
from snn_course.costs.shapes import DEVICE, Shapes
from snn_course.gameworld import agents
from snn_course.gameworld import imitate as gameworld
from snn_course.gameworld.retina import SHAPE
from snn_course.networks import budget, leaky_scan, training, twins
from snn_course.pong import network as pong
from snn_course.pong import pqn
from tests import fake_device

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

CPU = torch.device("cpu")
MOST = 20e9
"""Bytes that a script may take at gpu scale, of the 24 GB of a large card at home."""
UNTOLD = ("lesson 09, counts", "lesson 09, membrane", "lesson 14", "milestone", "Pong")
"""Trainings whose scripts do not say what they take, so it must be little."""


@dataclass
class Case:
    """A network of the gpu scale, and a step of it for some samples on a device."""

    net: nn.Module
    step: Callable[[nn.Module, torch.device, int], object]
    batch: int
    """Samples of a step at gpu scale."""
    measured: int = 4
    """Samples with which a CPU measures it."""
    mkldnn: bool = True
    """Off for an LSTM: mkldnn's keeps four times as much as PyTorch's own."""
    close: float = 0.1
    """How far the prediction may be off, as a share; more for the capstones, which train on the CPU at each
    scale: mkldnn makes the gradient of a convolution's input twice, in two orders, unseen from outside."""


# ---------------------------------------------------------------------- measure on a CPU


def allocations(event: Any) -> list[tuple[int, int]]:
    """Give time and bytes (below 0: freed) of each allocation in a tree of the profiler's events."""
    found = []
    if event.tag == torch._C._profiler._EventType.Allocation:
        found.append((event.start_time_ns, event.extra_fields.alloc_size))
    for child in event.children:
        found += allocations(child)
    return found


def measure(work: Callable[[], object]) -> int:
    """Give the most bytes that PyTorch's allocator has handed out at a time while ``work`` runs."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        work()
    found: list[tuple[int, int]] = []
    for root in seen.profiler.kineto_results.experimental_event_tree():
        found += allocations(root)
    now = most = 0
    for _, size in sorted(found):
        now += size
        most = max(most, now)
    return most


def test_the_measure_sees_what_is_allocated_and_what_is_freed() -> None:
    def work() -> None:
        torch.zeros(10**6)
        kept = torch.zeros(2 * 10**6)
        kept + 1

    assert measure(work) == pytest.approx(16e6, rel=1e-3)


# ---------------------------------------------------------------------- the networks of the gpu scale


def load(number: int | str) -> tuple[Any, Any]:
    """Give a script and its settings at gpu scale."""
    script = lesson.load(number)
    return script, lesson.at_scale(script.Config, "gpu", script.SCALES)


def images(*shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    made = fake_device.images(64, *shape)
    return made.images, made.labels


def on_cpu() -> Any:
    return fake_device.run("gpu", CPU)


class Caught(Exception):
    """A script has called ``training.fit``, with these arguments."""


def caught(patch: pytest.MonkeyPatch, function: Callable[..., object], *arguments: Any, **more: Any) -> Case:
    """Let a script's function run up to ``training.fit``. Returns: what it would train."""

    def fit(run: Any, name: str, net: Any, x: Any, y: Any, recipe: Any, check: Any = None) -> NoReturn:
        raise Caught(net, x, y, recipe)

    patch.setattr(training, "fit", fit)
    with pytest.raises(Caught) as stopped:
        function(*arguments, **more)
    net, x, y, recipe = stopped.value.args
    recipe.at_epoch(recipe.epochs - 1)

    def step(net: nn.Module, device: torch.device, batch: int) -> object:
        shown = x[:1].to(device).expand(batch, *x.shape[1:]).contiguous()
        labels = y[:1].to(device).expand(batch)
        return training.leave_gradients(net, replace(recipe, bf16=False), shown, labels)

    return Case(net, step, recipe.batch)


def lesson_09(loss: str, patch: pytest.MonkeyPatch) -> Case:
    script, config = load(9)
    plan = script.Training(loss, script.LOSSES[loss], config.num_steps)

    def step(net: nn.Module, device: torch.device, batch: int) -> None:
        x, y = torch.zeros(batch, 784, device=device), torch.zeros(batch, dtype=torch.int64, device=device)
        script.leave_gradients(net, x, y, plan)

    return Case(script.Net(), step, script.BATCH, 32)


def lesson_10(patch: pytest.MonkeyPatch) -> Case:
    script, config = load(10)
    sets = fake_device.images(64, 3, 32, 32), fake_device.images(64, 3, 32, 32)
    return replace(caught(patch, script.train, config, on_cpu(), sets), measured=8)


def lesson_11(patch: pytest.MonkeyPatch) -> Case:
    script, config = load(11)
    x = torch.zeros(2, config.bins, 2, 32, 32, dtype=torch.uint8)
    y = torch.zeros(2, dtype=torch.int64)
    return replace(caught(patch, script.train, on_cpu(), "", config, (x, y), classes=5), measured=8)


def lesson_13_rows(patch: pytest.MonkeyPatch) -> Case:
    script, config = load(13)
    sets = images(1, 28, 28), images(1, 28, 28)
    return replace(caught(patch, script.by_rows, config, on_cpu(), sets), mkldnn=False, measured=32)


def lesson_13_pixels(kind: str, patch: pytest.MonkeyPatch) -> Case:
    script, config = load(13)
    net = script.make(on_cpu(), kind, (1, config.hidden // 2, 10), 784, 784)
    sets = images(1, 28, 28), images(1, 28, 28)
    return caught(patch, script.train, on_cpu(), kind, net, sets, 784, 1, 256)


class NoOptimizer:
    """Leaves weights and gradients as they are."""

    def zero_grad(self) -> None:
        pass

    def step(self) -> None:
        pass


def lesson_14(patch: pytest.MonkeyPatch) -> Case:
    script, config = load(14)

    def step(net: nn.Module, device: torch.device, batch: int) -> None:
        x = torch.zeros(batch, 784, dtype=torch.uint8, device=device)
        y = torch.zeros(batch, dtype=torch.int64, device=device)
        script.learn(net, NoOptimizer(), x, y, script.PLAIN, 0.0, 0.0)

    return Case(script.Net(config.num_steps), step, script.BATCH, 32)


def lesson_16(function: str, patch: pytest.MonkeyPatch) -> Case:
    script, config = load(16)
    train = getattr(script, function)
    return replace(caught(patch, train, config, on_cpu(), script.Pictures(*images(3, 32, 32))), measured=32)


def lesson_18(patch: pytest.MonkeyPatch) -> Case:
    script, config = load(18)
    x, y = images(3, 32, 32)
    return caught(patch, script.train_both, config, on_cpu(), script.Pictures(x, y, x, y))


def lesson_20(patch: pytest.MonkeyPatch) -> Case:
    script, config = load(20)
    return caught(patch, script.compare_outputs, config, on_cpu(), {"train": images(1, 28, 28)})


def milestone(patch: pytest.MonkeyPatch) -> Case:
    script, config = load("milestone_a_fashion_mnist")
    split = script.Split(*images(1, 28, 28), tuple("0123456789"), "made up")

    def step(net: nn.Module, device: torch.device, batch: int) -> None:
        output, _ = net(torch.zeros(batch, 1, 28, 28, dtype=torch.uint8, device=device))
        y = torch.zeros(batch, dtype=torch.int64, device=device)
        nn.functional.cross_entropy(output.float(), y, label_smoothing=0.05).backward()

    net = script.Net(config, script.Splits(split, split, split, 73, 90))
    return Case(net.to(memory_format=torch.channels_last), step, config.batch_size, 16)


def capstone_pong(patch: pytest.MonkeyPatch) -> Case:
    def step(net: nn.Module, device: torch.device, batch: int) -> None:
        q = net(torch.zeros(batch, *pong.SHAPE, dtype=torch.uint8, device=device))
        nn.functional.mse_loss(q[:, 0], torch.zeros(batch, device=device)).backward()

    return Case(pong.q_network(), step, pqn.Recipe().batch, 64, close=0.3)


def capstone_gameworld(patch: pytest.MonkeyPatch) -> Case:
    recipe = gameworld.Recipe()

    def step(net: nn.Module, device: torch.device, batch: int) -> None:
        mem, _ = net(torch.zeros(recipe.length, batch, *SHAPE, device=device))
        said = torch.zeros(recipe.length - recipe.warm, batch, device=device)
        gameworld.cost(mem[recipe.warm :], said).backward()

    return Case(agents.build("gpu"), step, recipe.batch, close=0.3)


CASES: dict[str, Callable[[pytest.MonkeyPatch], Case]] = {
    "lesson 09, counts": partial(lesson_09, "ce_count"),
    "lesson 09, membrane": partial(lesson_09, "membrane"),
    "lesson 10": lesson_10,
    "lesson 11": lesson_11,
    "lesson 13, by rows": lesson_13_rows,
    "lesson 13, RLeaky": partial(lesson_13_pixels, "RLeaky"),
    "lesson 13, RALIF": partial(lesson_13_pixels, "RALIF"),
    "lesson 13, SLSTM": partial(lesson_13_pixels, "chrono SLSTM"),
    "lesson 14": lesson_14,
    "lesson 16, ANN": partial(lesson_16, "train_relu"),
    "lesson 16, directly": partial(lesson_16, "train_directly"),
    "lesson 18": lesson_18,
    "lesson 20": lesson_20,
    "milestone": milestone,
    "Pong": capstone_pong,
    "GameWorld": capstone_gameworld,
}
LONG = "lesson 13, SLSTM"
"""It is the network by rows, for 28 times as many steps."""
MEASURED = sorted(set(CASES) - {LONG})


def predict(case: Case, batch: int) -> budget.Need:
    def step(net: nn.Module) -> object:
        return case.step(net, DEVICE, batch)

    return budget.need(case.net, step)


@pytest.mark.parametrize("name", MEASURED)
def test_the_prediction_is_what_a_cpu_measures(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = CASES[name](monkeypatch)
    need = predict(case, case.measured)
    net, weights = copy.deepcopy(case.net), sum(weight.nbytes for weight in case.net.parameters())
    monkeypatch.setattr(leaky_scan, "BLOCK", leaky_scan.GPU_BLOCK)  # in pieces as on a GPU
    with twins.forced(False), torch.backends.mkldnn.flags(enabled=case.mkldnn):  # type: ignore[no-untyped-call]
        measured = measure(partial(case.step, net, CPU, case.measured))
    assert need.more - 2 * weights == pytest.approx(measured, rel=case.close)


@pytest.mark.parametrize("name", [*MEASURED, pytest.param(LONG, marks=pytest.mark.slow)])
def test_each_network_fits_into_a_card_at_its_gpu_scale(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = CASES[name](monkeypatch)
    need = predict(case, case.batch)
    assert need.held + need.more <= (1.1e9 if name in UNTOLD else MOST)


def test_the_largest_evaluation_fits_too() -> None:
    """Lesson 10 records each layer's spikes of 500 images over 8 steps."""
    script, config = load(10)
    test = fake_device.images(500, 3, 32, 32)
    with Shapes():
        net = script.Net(config.width, config.blocks).to(DEVICE)
        compare = partial(script.compare_steps, config, fake_device.run(), net, test, accuracy=0.0)
        assert memory.peak_bytes(compare) <= 8e9  # as README says
