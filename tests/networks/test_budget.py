"""A training that does not fit into a GPU takes its batches in pieces, and says so; its pace is told once."""

import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

from snn_course.runs import lesson
from snn_course import UsageError
from snn_course.costs import shapes
from snn_course.networks import budget, training

import pytest
import torch
from torch import nn

CARD = torch.device("cuda", 0)
RECIPE = training.Recipe(epochs=2, batch=32, rate=1e-2, bf16=False, decay=0.0)


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(108, 50), nn.ReLU(), nn.Linear(50, 4))


@pytest.fixture
def images() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.randint(0, 256, (96, 3, 6, 6), dtype=torch.uint8), torch.arange(96) % 4


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def run(told: list[str]) -> Any:
    """Give what a budget asks of a run on a GPU."""

    def note(line: str, markup: bool) -> None:
        told.append(line)

    return SimpleNamespace(device=CARD, scale="gpu", console=SimpleNamespace(print=note))


# ---------------------------------------------------------------------- what is free


def has(monkeypatch: pytest.MonkeyPatch, free: float, reserved: float = 0, taken: float = 0) -> None:
    """Pretend that there is a GPU: this much of its memory is free; PyTorch keeps and uses so much."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (int(free), 0))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: int(reserved))
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: int(taken))


def test_what_pytorch_keeps_but_does_not_use_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    has(monkeypatch, 8e9, reserved=3e9, taken=1e9)
    assert budget.free(CARD) == 10_000_000_000
    monkeypatch.setenv("SNN_GPU_GB", "4.5")
    assert budget.free(CARD) == 3_500_000_000
    monkeypatch.setenv("SNN_GPU_GB", "24")
    assert budget.free(CARD) == 10_000_000_000
    assert budget.free(torch.device("cpu")) is None


def test_a_driver_that_does_not_tell_counts_as_one_without_other_programs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    has(monkeypatch, 0, reserved=3e9, taken=1e9)
    card = SimpleNamespace(total_memory=24_000_000_000)
    monkeypatch.setattr(
        torch.cuda, "mem_get_info", MagicMock(side_effect=RuntimeError("hipErrorNotSupported"))
    )
    monkeypatch.setattr(torch.cuda, "get_device_properties", MagicMock(return_value=card))
    assert budget.free(CARD) == 23_000_000_000


@pytest.mark.parametrize("wrong", ["much", "0", "-3", "nan", "inf"])
def test_a_limit_that_is_no_number_of_gb_is_one_line(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SNN_GPU_GB", wrong)
    with pytest.raises(UsageError, match=re.escape(f"such as 8, not {wrong!r}")):
        budget.free(torch.device("cpu"))


# ---------------------------------------------------------------------- what is needed


def test_the_need_of_a_network_counted_by_hand(images: Any) -> None:
    x, y = images
    weights = 4 * (109 * 50 + 51 * 4)
    need = training.need(net(), x, y, replace(RECIPE, augment=torch.clone), fast=False)
    assert need.held == weights + x.nbytes + y.nbytes
    # at the worst moment, the first layer's: Adam's means, all gradients, pixels, the gradient at its output
    least = 2 * weights + weights + 4 * 32 * (108 + 50)
    assert least <= need.more <= 1.1 * least


def test_bfloat16_halves_what_a_product_gives(images: Any) -> None:
    wide = nn.Sequential(nn.Flatten(), nn.Linear(108, 4000), nn.Linear(4000, 4))
    slow, fast = (
        training.need(wide, *images, replace(RECIPE, bf16=None, batch=4096), fast) for fast in (0, 1)
    )
    assert fast.more < 0.75 * slow.more


def test_a_prediction_leaves_network_and_random_numbers_alone(images: Any) -> None:
    made, before = net(), torch.get_rng_state()
    made(torch.rand(2, 108)).sum().backward()
    before, grads = torch.get_rng_state(), [weight.grad.clone() for weight in made.parameters()]
    training.need(made, *images, RECIPE, fast=True)
    assert torch.equal(torch.get_rng_state(), before)
    for weight, grad in zip(made.parameters(), grads, strict=True):
        assert weight.device.type == "cpu"
        assert torch.equal(weight.grad, grad)


# ---------------------------------------------------------------------- what fits


def needed(parts: int) -> budget.Need:
    return budget.Need(10**9, 6 * 10**9 // parts + 10**8)


def test_what_fits_stays_whole_and_is_told(
    run: Any, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    has(monkeypatch, 20e9)
    assert budget.parts(run, "net", 64, needed) == 1
    assert told == ["  net: a step of 64 takes 7.1 GB of the GPU's memory, 20 GB are free"]


def test_what_does_not_fit_is_halved_until_it_does(
    run: Any, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    has(monkeypatch, 2e9)  # a quarter needs 1.6 GB, and a tenth to spare
    assert budget.parts(run, "net", 64, needed) == 4
    assert told == [
        "  net: a step of 64 takes 7.1 GB of the GPU's memory, 2 GB are free: "
        "4 pieces of 16, one by one, gradients added up"
    ]


def test_what_never_fits_is_one_line(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    has(monkeypatch, 1e8)
    with pytest.raises(UsageError, match=r"0\.1 GB free, and training needs 1\.\d GB even sample by sample"):
        budget.parts(run, "net", 64, needed)


def test_a_need_that_cannot_be_predicted_stops_nobody(
    run: Any, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(parts: int) -> budget.Need:
        raise NotImplementedError("no shapes for this operator\nand more")

    has(monkeypatch, 2e9)
    assert budget.parts(run, "net", 64, fail) == 1
    assert told == ["  net: its memory cannot be predicted: no shapes for this operator"]


def test_elsewhere_nothing_is_predicted(run: Any, told: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    has(monkeypatch, 1)
    for device, scale in ((torch.device("cpu"), "gpu"), (CARD, "cpu")):
        elsewhere = SimpleNamespace(device=device, scale=scale, console=run.console)
        assert budget.parts(elsewhere, "net", 64, needed) == 1
    assert not told


# ---------------------------------------------------------------------- a training in pieces


def trained(name: str, images: Any, recipe: training.Recipe) -> tuple[list[float], nn.Module]:
    config = lesson.Config(scale="quick", device="cpu")
    run, made = lesson.Run(config, Path(__file__)), net()
    run.begin(0)
    return [entry["loss"] for entry in training.fit(run, name, made, *images, recipe)], made


@pytest.mark.parametrize("parts", [2, 5])
def test_pieces_train_as_the_whole_batch_does(parts: int, images: Any) -> None:
    whole, one = trained("whole", images, RECIPE)
    pieces, other = trained("pieces", images, replace(RECIPE, parts=parts))
    assert pieces == pytest.approx(whole, rel=1e-5)
    for weight, wanted in zip(other.parameters(), one.parameters(), strict=True):
        torch.testing.assert_close(weight, wanted, rtol=1e-4, atol=1e-5)


def test_pieces_take_less_memory(images: Any) -> None:
    need = partial(training.need, net(), *images, fast=False)
    whole, cut = need(replace(RECIPE, batch=4096)), need(replace(RECIPE, batch=4096, parts=4))
    assert cut.more < 0.5 * whole.more


def test_fit_asks_the_budget(images: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A card without much memory, played by the CPU; what it needs is asked in the last epoch's state."""
    asked, epochs, sizes = [], [], []

    class Sees(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if x.device != shapes.DEVICE:
                sizes.append(len(x))
            return self.net(x)

    def parts(run: Any, name: str, batch: int, needed: Any) -> int:
        asked.append((name, batch, needed(1).more > 0))
        return 2

    monkeypatch.setattr(budget, "parts", parts)
    run = lesson.Run(lesson.Config(scale="quick", device="cpu"), Path(__file__))
    run.begin(0)
    training.fit(run, "net", Sees(), *images, replace(RECIPE, at_epoch=epochs.append))
    assert asked == [("net", 32, True)]
    assert epochs == [1, 0, 1]
    assert sizes == [16] * 12


# ---------------------------------------------------------------------- time


def test_the_pace_is_told_once_and_again_when_it_changes(
    run: Any, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(budget.time, "perf_counter", lambda: now[0])
    pace = budget.Pace(run, "net", 1000)
    for step, seconds in ((0, 9.0), (20, 2.0), (40, 2.2), (60, 2.0), (80, 6.0), (100, 6.0)):
        now[0] += seconds
        pace.look(step)
    assert told == [
        "  net: 100 ms a step, so about 2 min for the 980 that are left",
        "  net: 300 ms a step, so about 5 min for the 920 that are left",
    ]


def test_at_other_scales_the_pace_is_not_told(run: Any, told: list[str]) -> None:
    run.scale = "cpu"
    pace = budget.Pace(run, "net", 1000)
    pace.look(0)
    pace.look(20)
    assert not told


def test_fit_tells_its_pace_at_gpu_scale(
    images: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = lesson.Config(scale="gpu", device="cpu")
    run = lesson.Run(config, Path(__file__))
    run.begin(0)
    training.fit(run, "net", net(), *images, RECIPE)
    assert re.search(r"net: \S+ ms a step, so about \S+ s for the 3 that are left", capsys.readouterr().out)
