"""The gpu scale on a CPU: each script's network, batch and length go through one step, on a fake device."""

import dataclasses
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from snn_course.runs import lesson
from snn_course.networks import training

import pytest
import torch

spec = importlib.util.spec_from_file_location("fake_device", Path(__file__).parents[1] / "fake_device.py")
assert spec is not None
assert spec.loader is not None
fake_device = importlib.util.module_from_spec(spec)
spec.loader.exec_module(fake_device)
DEVICE = fake_device.DEVICE
FIT = training.fit


def load(number: int | str) -> tuple[Any, Any]:
    """Give a script and its settings at gpu scale."""
    script = lesson.load(number)
    return script, lesson.at_scale(script.Config, "gpu", script.SCALES)


@contextmanager
def autocast(device: torch.device, bf16: bool | None = None) -> Iterator[None]:
    """Multiply in bfloat16 unless it is refused, as on a card that can."""
    with nullcontext() if bf16 is False else fake_device.Autocast():
        yield


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Give a run on the fake device, where ``training.fit`` trains for one step of the last epoch."""

    def one_step(
        run: Any, name: str, net: Any, images: Any, labels: Any, recipe: Any, check: Any = None
    ) -> Any:
        def at_epoch(epoch: int) -> None:
            recipe.at_epoch(recipe.epochs - 1)

        return FIT(
            run, name, net, images, labels, dataclasses.replace(recipe, epochs=1, at_epoch=at_epoch), check
        )

    monkeypatch.setattr(training, "fit", one_step)
    monkeypatch.setattr(training, "autocast", autocast)
    optimizers = sys.modules[torch.optim.Optimizer.__module__]
    known = optimizers._get_fused_kernels_supported_devices()
    monkeypatch.setattr(optimizers, "_get_fused_kernels_supported_devices", lambda: [*known, DEVICE.type])
    with fake_device.FakeDevice():
        yield fake_device.run()


def test_the_fake_device_finds_a_tensor_that_stayed_behind(device: Any) -> None:
    weight = torch.zeros(3, 4, device=DEVICE)
    with pytest.raises(RuntimeError, match=r"two devices: \[3, 4\] on meta, \[4\] on cpu"):
        weight + torch.zeros(4)
    with pytest.raises(RuntimeError, match="two devices"):
        torch.zeros(3)[torch.zeros(2, dtype=torch.int64, device=DEVICE)]
    assert weight[torch.tensor([0, 2])].shape == (2, 4)  # a GPU takes indices that lie on the CPU
    assert (weight + torch.tensor(1.0)).device == DEVICE
    assert weight.sum().item() == 1


def test_the_fake_device_finds_a_shape_that_does_not_fit(device: Any) -> None:
    with pytest.raises(RuntimeError, match="reduction dim"):
        torch.zeros(3, 4, device=DEVICE) @ torch.zeros(3, 4, device=DEVICE)


def test_the_fake_device_multiplies_in_bfloat16(device: Any) -> None:
    layer, x = torch.nn.Linear(4, 3, device=DEVICE), torch.zeros(2, 4, device=DEVICE)
    with training.autocast(DEVICE):
        assert layer(x).dtype == torch.bfloat16
    with training.autocast(DEVICE, False):
        assert layer(x).dtype == torch.float32


def test_lesson_10(device: Any) -> None:
    script, config = load(10)
    sets = fake_device.images(64, 3, 32, 32), fake_device.images(64, 3, 32, 32)
    net, history = script.train(config, device, sets)
    assert len(history) == 1
    assert net.num_steps == config.num_steps
    script.judge(config, device, net, sets[1])


def pair(count: int, *shape: int, classes: int = 10) -> Any:
    """Give bytes and labels that lie on the device."""
    made = fake_device.images(count, *shape, classes=classes)
    return made.images.to(DEVICE), made.labels.to(DEVICE)


def test_lesson_09(device: Any) -> None:
    script, config = load(9)
    x, y = pair(2 * script.BATCH, 784)
    digits = script.Digits(x, y)
    for name, loss in script.LOSSES.items():
        scores = script.train(
            device, script.Training(name, loss, config.num_steps, config.epochs), digits, digits
        )
        assert len(scores["after"]) == config.num_steps
    script.train_plainly(config, device, digits, digits)


def test_lesson_13_by_rows(device: Any) -> None:
    script, config = load(13)
    sets = pair(script.BATCH, 1, 28, 28), pair(20, 1, 28, 28)
    script.by_rows(config, device, sets)


@pytest.mark.parametrize("kind", ["RLeaky", "RALIF", "chrono SLSTM"])
def test_lesson_13_by_pixels(device: Any, kind: str) -> None:
    script, config = load(13)
    sets = pair(256, 1, 28, 28), pair(20, 1, 28, 28)
    net = script.make(device, kind, (1, config.hidden // 2, 10), 784, 784)
    assert len(script.train(device, kind, net, sets, 784, 1, 256)) == 1


def test_lesson_18(device: Any) -> None:
    script, config = load(18)
    x, y = pair(script.BATCH, 3, 32, 32)
    pictures = script.Pictures(x, y, x, y)
    nets, _ = script.train_both(config, device, pictures)
    assert nets["Spikformer"].num_steps == config.num_steps


def test_lesson_20(device: Any) -> None:
    script, config = load(20)
    sets = {"train": pair(script.BATCH, 1, 28, 28), "test": pair(30, 1, 28, 28)}
    nets, curves = script.compare_outputs(config, device, sets)
    assert nets["deterministic"].out.in_features == config.width
    assert all(len(curve) == 16 for curve in curves.values())
