"""Run by test_triton_scan.py, in a process of its own: Triton's interpreter is chosen when it is imported."""

import os
from typing import Any

os.environ["TRITON_INTERPRET"] = "1"

from snn_course.networks import neurons, triton_scan, twins
from snn_course.networks.neurons import RESETS

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

SURROGATES = {
    "atan": neurons.atan(3.0),
    "fast sigmoid": neurons.fast_sigmoid(10.0),
    "triangle": lambda x: (1 - x.abs()).clamp(min=0),  # one that the kernels do not know
}


@pytest.fixture
def interpreted(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Give a function that says whether scans shall run in Triton or in PyTorch."""

    def choose(wanted: bool) -> None:
        monkeypatch.setattr(twins, "leaky", lambda row, steps: triton_scan if wanted else None)

    return choose


def both(choose: Any, problem: dict[str, Any], loss: str) -> list[list[torch.Tensor]]:
    """Give spikes, membranes and gradients, in PyTorch and in Triton."""
    results = []
    learned = [x for x in problem.values() if isinstance(x, torch.Tensor) and x.requires_grad]
    for wanted in (False, True):
        choose(wanted)
        spk, mem = neurons.leaky(**problem)
        weight = torch.linspace(-1, 1, spk.numel(), dtype=mem.dtype).view(spk.shape)
        losses = {
            "spikes": (spk * weight).sum(),
            "membranes": (mem * weight).sum(),
            "both": (spk * weight).sum() + mem.square().sum(),
            "count": spk.sum(),  # the same gradient for each spike: one number, no tensor in memory
        }
        results.append([spk, mem, *torch.autograd.grad(losses[loss], learned)])
    return results


def assert_equal(choose: Any, problem: dict[str, Any], loss: str) -> None:
    expected, found = both(choose, problem, loss)
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])
    for own, reference in zip(found[2:], expected[2:], strict=True):
        largest = max(reference.abs().flatten().tolist(), default=0.0)
        torch.testing.assert_close(own, reference, rtol=1e-6, atol=1e-6 * (1 + largest))


@st.composite
def problems(draw: st.DrawFn) -> dict[str, Any]:
    torch.manual_seed(draw(st.integers(0, 2**31)))
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    steps = draw(st.sampled_from([1, 2, 9]))
    step = draw(st.sampled_from([(1,), (3, 5), (2, 3, 2, 2), (2, 70)]))
    still = draw(st.booleans())
    cur = 0.3 + 0.6 * torch.randn(*(step if still else (steps, *step)), dtype=dtype)
    if not still and len(step) > 1:  # a layout that is not contiguous
        cur = cur.transpose(1, -1).contiguous().transpose(1, -1) if draw(st.booleans()) else cur
    learned = draw(st.booleans())
    return {
        "cur": cur.requires_grad_(),
        "beta": torch.rand(step[-1:] if draw(st.booleans()) else (), dtype=dtype).requires_grad_(learned),
        "threshold": (0.5 + torch.rand(step[-1:], dtype=dtype)).requires_grad_(learned),
        "mem": torch.rand(step, dtype=dtype).requires_grad_(),
        "reset": draw(st.sampled_from(RESETS)),
        "surrogate": SURROGATES[draw(st.sampled_from(sorted(SURROGATES)))],
        "num_steps": steps if still else None,
    }


def test_random_nets(interpreted: Any) -> None:
    @given(problems(), st.sampled_from(["spikes", "membranes", "both", "count"]))
    @settings(max_examples=40, deadline=None, derandomize=True)
    def equal(problem: dict[str, Any], loss: str) -> None:
        assert_equal(interpreted, problem, loss)

    equal()


@pytest.mark.parametrize("surrogate", sorted(SURROGATES))
@pytest.mark.parametrize("reset", RESETS)
def test_each_reset_with_each_surrogate(interpreted: Any, reset: str, surrogate: str) -> None:
    torch.manual_seed(0)
    problem = {"cur": 0.3 + torch.randn(8, 2, 5), "beta": torch.rand(5), "threshold": 0.5 + torch.rand(5)}
    for x in problem.values():
        x.requires_grad_()
    assert_equal(interpreted, {**problem, "reset": reset, "surrogate": SURROGATES[surrogate]}, "both")


@pytest.mark.parametrize("shape", [(0, 3), (4, 0, 3)])
@pytest.mark.parametrize("still", [False, True])
def test_nothing_to_do(interpreted: Any, shape: tuple[int, ...], still: bool) -> None:
    problem = {"cur": torch.rand(shape).requires_grad_(), "beta": 0.9, "num_steps": 5 if still else None}
    assert_equal(interpreted, problem, "spikes")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(interpreted: Any, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    cur = torch.randn(6, 3, 10).to(dtype).requires_grad_()
    expected, found = both(interpreted, {"cur": cur, "beta": 0.9}, "both")
    assert (found[0].dtype, found[1].dtype) == (dtype, torch.float32)
    assert torch.equal(found[0], expected[0])
    torch.testing.assert_close(found[2], expected[2], rtol=1e-2, atol=1e-6)


def test_the_try_on_one_neuron_succeeds() -> None:
    triton_scan.check(torch.device("cpu"))


def test_the_try_on_one_neuron_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    forward = triton_scan.leaky_forward

    def wrong(*arguments: Any) -> Any:
        spk, mem = forward(*arguments)
        return spk, mem + 1e-6

    monkeypatch.setattr(triton_scan, "leaky_forward", wrong)
    with pytest.raises(RuntimeError, match="came out wrong"):
        triton_scan.check(torch.device("cpu"))
