"""The gpu scale on a CPU: each script's network, batch and length go through one step, on a fake device."""

import dataclasses
import importlib.util
import os
import re
import sys
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

from snn_course.runs import lesson
from snn_course import ROOT
from snn_course.data.images import Images
from snn_course.events import frames
from snn_course.gameworld import agents, imitate
from snn_course.gameworld.retina import SHAPE
from snn_course.networks import training
from tests import fake_device

import pytest
import torch

DEVICE = fake_device.DEVICE
FIT = training.fit


def load(number: int | str) -> tuple[Any, Any]:
    """Give a script and its settings at gpu scale."""
    script = lesson.load(number)
    return script, lesson.at_scale(script.Config, "gpu", script.SCALES)


def data_set(count: int, *shape: int) -> Images:
    """Give images as a lesson reads them from disk, on the CPU."""
    made = fake_device.images(count, *shape)
    return Images(made.images, made.labels, "made up", "train", tuple(made.classes), "a test", True, count)


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
    monkeypatch.setattr(training, "has_bf16", lambda device: True)
    optimizers = sys.modules[torch.optim.Optimizer.__module__]
    known = optimizers._get_fused_kernels_supported_devices()
    monkeypatch.setattr(optimizers, "_get_fused_kernels_supported_devices", lambda: [*known, DEVICE.type])
    with fake_device.Shapes():
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
    accuracy = script.judge(config, device, net, sets[1])
    script.compare_steps(config, device, net, sets[1], accuracy)


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
    """One kind reads 784 pixels one by one; the others eight a step, which takes an eighth of the time."""
    script, config = load(13)
    steps = 784 if kind == "RLeaky" else 98
    sets = pair(256, 1, 28, 28), pair(20, 1, 28, 28)
    net = script.make(device, kind, (784 // steps, config.hidden // 2, 10), steps, steps)
    assert len(script.train(device, kind, net, sets, steps, 1, 256)) == 1


def test_lesson_18(device: Any) -> None:
    script, config = load(18)
    x, y = pair(script.BATCH, 3, 32, 32)
    pictures = script.Pictures(x, y, x, y)
    nets, _ = script.train_both(config, device, pictures)
    assert nets["Spikformer"].num_steps == config.num_steps


def test_lesson_20(device: Any) -> None:
    script, config = load(20)
    sets = {"train": pair(script.BATCH, 1, 28, 28), "test": pair(30, 1, 28, 28)}
    nets, scores = script.compare_outputs(config, device, sets)
    assert nets["deterministic"].out.in_features == config.width
    assert all(len(score["curve"]) == 16 for score in scores.values())


def test_lesson_02(device: Any) -> None:
    script, _ = load(2)
    x, labels = pair(100, 50)
    assert script.fit_readout(x.float(), labels)(x.float()).device == DEVICE


def test_lesson_05(device: Any) -> None:
    script, _ = load(5)
    digits = data_set(200, 28, 28)
    for recipe in script.RECIPES:
        net = script.train_read_out(digits, 50, recipe, device)
        assert len(script.assess_read_out(net, digits, device)) == 4


@pytest.mark.parametrize("detach", [True, False])
def test_lesson_07(device: Any, detach: bool) -> None:
    script, config = load(7)
    sets = [*pair(script.BATCH, 784), *pair(30, 784)]
    sets[0], sets[2] = sets[0] / 255, sets[2] / 255
    spike = script.spiking("fast sigmoid", 25.0)
    _, losses = script.train(dataclasses.replace(config, epochs=1), sets, spike, detach)
    assert len(losses) == 1


def test_lesson_08(device: Any) -> None:
    script, config = load(8)
    x, y = pair(config.batch_size, 784)
    digits = script.Digits(x, y, config.num_steps, config.batch_size)
    net = script.train(config, device, digits)
    assert net(digits.batch(torch.arange(4))[0])[2].shape == (config.num_steps, 4, 10)


def test_lesson_11(device: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    script, config = load(11)
    monkeypatch.setattr(frames, "trimmed", list)  # how long a recording is, is read off its numbers
    x = torch.zeros(script.BATCH, config.bins, 2, 32, 32, dtype=torch.uint8, device=DEVICE)
    labels = torch.zeros(script.BATCH, dtype=torch.int64, device=DEVICE)
    net = script.train(device, "time", config, (x, labels), classes=11)
    script.accuracy(net, x, labels)


def test_lesson_12(device: Any) -> None:
    script, config = load(12)
    images = data_set(500, 3, 32, 32)
    net = script.train(config, device, images)
    assert training.predict(net, images.images, torch.Tensor.float).shape == (500, 10)
    script.train_sew(config, device, images)


def test_lesson_14(device: Any) -> None:
    script, config = load(14)
    images = data_set(script.BATCH, 1, 28, 28)
    net = script.Net(config.num_steps).to(DEVICE)
    for kind in script.STRENGTHS:
        script.train(net, images, 1, kind, 1.0)
    script.measure(net, images)


@pytest.mark.parametrize("size", lesson.load(15).SCALES["gpu"]["neurons"])
def test_lesson_15(device: Any, size: int) -> None:
    script, _ = load(15)
    layer = script.Winners(size, device=DEVICE)
    spk = torch.zeros(20, 6, 784, device=DEVICE)
    assert layer(spk, 0.05).shape[-1] == size


def test_lesson_16(device: Any) -> None:
    script, config = load(16)
    pictures = script.Pictures(*pair(500, 3, 32, 32))
    ann, _ = script.train_relu(config, device, pictures)
    script.accuracy_at(ann, pictures)
    script.score(script.train_directly(config, device, pictures), pictures, (1, 2))


def test_lesson_17(device: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    script, config = load(17)
    monkeypatch.setattr(script.data, "load", lambda name, split: data_set(200, 1, 28, 28))
    still = {"prepare": script.show, "loss": script.count_loss, "augment": script.unchanged, "bf16": False}
    for reset in ("subtract", "zero"):
        script.train(config, device, script.Dense(reset), "mnist", reset, **still)
    monkeypatch.setattr(script.data, "load", lambda name, split: data_set(200, 3, 32, 32))
    script.train(config, device, lesson.load(10).Net(width=16), "cifar10", "SEW")


def test_lesson_19(device: Any) -> None:
    script, config = load(19)
    train = pair(600, 1, 28, 28)
    folded = script.train_float(config, device, train, train[0][:20].float())
    assert script.accuracy(folded, *train) == 100
    net = script.network(config, device, *script.BITS["8/4/4"])
    net.load_state_dict(folded.state_dict())
    net.calibrate(train[0][:100])
    training.fit(device, "4/4", net, *train, script.recipe_of(config.qat_epochs, script.RATES["PyTorch"]))


def test_milestone_a(device: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    script, config = load("milestone_a_fashion_mnist")
    x, y = pair(config.batch_size, 1, 28, 28)
    split = script.Split(x, y, tuple("0123456789"), "made up")
    monkeypatch.setattr(script, "autocast", training.autocast)
    splits = script.Splits(split, split, split, 73, 90)
    net = script.Net(config, splits).to(DEVICE)
    net = net.to(memory_format=torch.channels_last)
    assert len(script.fit(net, splits, config, device)) == 1
    assert len(script.evaluate(net, split).spikes) == len(script.LAYERS)


def test_capstone_gameworld() -> None:
    """It trains on the CPU at each scale; at gpu scale the network is deeper."""
    net, recipe = agents.build("gpu"), imitate.Recipe()
    events = torch.rand(recipe.length, recipe.batch, *SHAPE) < 0.1
    mem, state = net(events.float())
    imitate.cost(mem[recipe.warm :], torch.rand(recipe.length - recipe.warm, recipe.batch)).backward()
    assert all(weight.grad is not None for weight in net.parameters())
    with torch.no_grad():
        assert net(events[:1].float(), state)[0].shape == (1, recipe.batch)


# ---------------------------------------------------------------------- the benchmark of the gpu scale


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Give ``benchmarks/gpu_scale.py``, and put back what it changes."""
    spec = importlib.util.spec_from_file_location("gpu_scale", ROOT / "benchmarks" / "gpu_scale.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "gpu_scale", module)
    spec.loader.exec_module(module)
    for variable in ("SNN_RESULTS", "SNN_JOURNAL"):
        monkeypatch.setenv(variable, os.environ[variable])
    monkeypatch.setattr(sys, "argv", ["gpu_scale.py"])
    return module


def data_for(which: str, script: Any) -> tuple[str, Any]:
    """Give the name of the function with which a lesson reads its data, and what it may give."""
    if which == "09":
        return "load_digits", [script.Digits(*pair(256, 784))] * 2
    if which == "10":
        return "load_images", [data_set(128, 3, 32, 32)] * 2
    if which == "13":
        return "load_digits", [pair(256, 1, 28, 28)] * 2
    return "load_pictures", script.Pictures(*pair(script.BATCH, 3, 32, 32), *pair(50, 3, 32, 32))


@pytest.mark.parametrize("which", ["09", "10", "13", "18"])
def test_the_benchmark_takes_the_networks_of_the_gpu_scale(
    which: str, device: Any, benchmark: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, number, function = benchmark.TRAININGS[which]
    script, config = load(number)
    reader, given = data_for(which, script)
    monkeypatch.setattr(script, reader, MagicMock(return_value=given))
    if which == "13":  # 20 of the 784 steps
        monkeypatch.setattr(script, "unroll", lambda images, steps: images.flatten(1).T[:20, :, None].float())
    row = benchmark.Row(which)
    short = benchmark.Shortened(row, 10, 1)
    monkeypatch.setattr(training, "fit", short)
    function(script, config, device, row, short)
    assert row.score.endswith(" %")
    assert 1 <= row.steps <= row.whole
    assert row.more > 1e7


def test_the_benchmark_prints_its_table(benchmark: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    options = "--device cpu --scale quick --minutes 0.01 --pilot 1 --only 09 pong"
    monkeypatch.setattr(sys, "argv", ["gpu_scale.py", *options.split()])
    history = [{"reward": -20.5, "steps": 1024.0}]
    monkeypatch.setattr("snn_course.pong.pqn.learn", MagicMock(return_value=history))
    assert benchmark.main() == 0
    printed = capsys.readouterr().out
    line = r"09, by counts \| \d+\.\d % \| \d+ of \d+ \| [\d.]+ \| [\d.]+ \| 0\.03 \| - \|"
    assert re.search(line, printed)
    assert "| Pong, PQN (CPU) | reward -20.5 |" in printed


def test_a_training_that_fails_does_not_stop_the_benchmark(
    benchmark: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("HIP out of memory.\nmore")

    options = "--device cpu --scale quick --only 10"
    monkeypatch.setattr(sys, "argv", ["gpu_scale.py", *options.split()])
    monkeypatch.setitem(benchmark.TRAININGS, "10", ("10, SEW network", 10, fail))
    assert benchmark.main() == 1
    assert "| failed: HIP out of memory. |" in capsys.readouterr().out
    assert training.fit is FIT


def test_the_benchmark_says_in_one_line_that_there_is_no_gpu(
    benchmark: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert benchmark.main() == 2
    assert capsys.readouterr() == ("", "not measured: no GPU\n")


def test_no_script_was_forgotten() -> None:
    """A script whose gpu scale differs from its cpu scale in what trains has a test here, or a reason."""
    tested = set(re.findall(r"def test_(\w+?)\(", Path(__file__).read_text(encoding="utf-8")))
    untrained = {
        "lesson_01": "one neuron for more steps, by hand",
        "lesson_03": "more draws of the same neurons",
        "lesson_04": "the same films as at cpu scale",
        "lesson_06": "more volleys into the same neuron",
        "capstone_pong": "the same networks as at cpu scale, for longer, on the CPU",
    }
    named = {f"lesson_{number:02d}" for number in range(1, 21)}
    named |= {"capstone_pong", "capstone_gameworld", "milestone_a"}
    covered = {name for name in named for test in tested if test.startswith(name)}
    assert covered == named - set(untrained)
