"""The compiled twins give what the PyTorch scans give, bit for bit; numba comes only when needed."""

import importlib
import os
import subprocess
import sys
from typing import Any

from snn_course.runs import lesson, report
from snn_course import ROOT, UsageError
from snn_course.networks import neurons, recurrent, state_space, twins
from snn_course.networks.neurons import RESETS
from snn_course.rules import fast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

L15, L20 = lesson.load(15), lesson.load(20)
numba = pytest.importorskip("numba", reason="numba is not installed")
SURROGATES = {
    "atan": neurons.atan(3.0),
    "fast sigmoid": neurons.fast_sigmoid(10.0),
    "triangle": lambda x: (1 - x.abs()).clamp(min=0),  # one that the twins do not know
}
LOSSES = {
    "spikes": lambda spk, mem, weight: (spk * weight).sum(),
    "membranes": lambda spk, mem, weight: (mem * weight).sum(),
    "both": lambda spk, mem, weight: (spk * weight).sum() + mem.square().sum(),
    "count": lambda spk, mem, weight: (spk.sum(0) * weight[0]).sum(),  # the same gradient in each step
}


def both(compute: Any) -> tuple[Any, Any]:
    """Give what is computed in PyTorch, and what is computed compiled."""
    results = []
    for choice in (False, True):
        with twins.forced(choice):
            results.append(compute())
    return results[0], results[1]


def assert_equal(compute: Any) -> None:
    for own, expected in zip(*both(compute), strict=True):
        assert torch.equal(own, expected)


def assert_near(compute: Any, at_most: float) -> None:
    """Compare the largest difference with the largest value."""
    for own, expected in zip(*both(compute), strict=True):
        assert (own - expected).abs().max() <= at_most * expected.abs().max()


@st.composite
def problems(draw: st.DrawFn) -> dict[str, Any]:
    torch.manual_seed(draw(st.integers(0, 2**31)))
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    steps = draw(st.sampled_from([0, 1, 2, 17, 40]))
    step = draw(st.sampled_from([(1,), (3, 5), (2, 3, 4, 4), (0, 3), (3, 1500), (2, 64)]))
    still = draw(st.booleans())
    cur = 0.3 + 0.6 * torch.randn(*(step if still else (steps, *step)), dtype=dtype)
    if not still and len(step) > 1:  # a layout that is not contiguous
        cur = cur.transpose(1, -1).contiguous().transpose(1, -1) if draw(st.booleans()) else cur
    if dtype == torch.float32 and draw(st.booleans()):  # as under autocast: the state stays in float32
        cur = cur.bfloat16()
    return {
        "cur": cur.requires_grad_(),
        "beta": torch.rand(step[-1:] if draw(st.booleans()) else (), dtype=dtype).requires_grad_(),
        "threshold": 0.5 + torch.rand(step[-1:] if draw(st.booleans()) else (), dtype=dtype),
        "mem": torch.rand(step, dtype=dtype).requires_grad_(),
        "reset": draw(st.sampled_from(RESETS)),
        "surrogate": SURROGATES[draw(st.sampled_from(sorted(SURROGATES)))],
        "num_steps": steps if still else None,
    }


@given(problems(), st.sampled_from(sorted(LOSSES)))
@settings(max_examples=120, deadline=None)
def test_leaky_is_equal_bit_for_bit(problem: dict[str, Any], loss: str) -> None:
    inputs = [problem[name] for name in ("cur", "beta", "mem")]
    if loss == "count" and 0 in (problem["num_steps"], len(problem["cur"])):
        return

    def compute() -> list[torch.Tensor]:
        spk, mem = neurons.leaky(**problem)
        torch.manual_seed(0)
        return [spk, mem, *torch.autograd.grad(LOSSES[loss](spk, mem, torch.randn_like(spk)), inputs)]

    assert_equal(compute)


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("surrogate", sorted(SURROGATES))
@pytest.mark.parametrize("loss", ["spikes", "both", "count"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(20, 3, 40), (2, 3, 1500), (1, 2, 2100)])  # of less and more than a block
def test_neurons_that_are_all_alike_are_equal_bit_for_bit(
    reset: Any, surrogate: str, loss: str, dtype: torch.dtype, shape: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    cur, weight = torch.randn(shape).to(dtype).requires_grad_(), torch.randn(shape).to(dtype)

    def compute() -> list[torch.Tensor]:
        spk, mem = neurons.leaky(cur, 0.9, 0.7, reset, SURROGATES[surrogate])
        return [spk, mem, *torch.autograd.grad(LOSSES[loss](spk, mem, weight), cur)]

    assert_equal(compute)


@pytest.mark.parametrize("reset", RESETS)
def test_learned_thresholds_are_equal_but_for_the_order_of_a_sum(reset: Any) -> None:
    torch.manual_seed(0)
    cur, threshold = torch.randn(30, 4, 50), (0.5 + torch.rand(50)).requires_grad_()

    def compute() -> torch.Tensor:
        spk, mem = neurons.leaky(cur, 0.9, threshold, reset)
        return torch.autograd.grad(spk.sum() + mem.sum(), threshold)[0]

    torch.testing.assert_close(*both(compute), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("steps", [1, 15, 16, 17, 100, 256, 300])
def test_the_gradient_of_a_still_current_is_summed_as_torch_sums(steps: int) -> None:
    torch.manual_seed(0)
    cur, weight = torch.rand(4, 64, requires_grad=True), torch.randn(steps, 4, 64)
    assert_equal(
        lambda: torch.autograd.grad((neurons.leaky(cur, 0.9, num_steps=steps)[0] * weight).sum(), cur)
    )


@given(
    st.sampled_from([(1, 2, 3), (30, 4, 17), (12, 8, 300), (0, 2, 3), (20, 0, 3)]),
    st.sampled_from([torch.float32, torch.float64]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["atan", "fast sigmoid", "triangle"]),
    st.sampled_from(["spikes", "membranes", "both"]),
)
@settings(max_examples=120, deadline=None)
def test_alif_is_equal_bit_for_bit(
    shape: tuple[int, ...], dtype: Any, learned: bool, adaptive: bool, recurs: bool, surrogate: str, loss: str
) -> None:
    torch.manual_seed(0)
    size = shape[2]
    cur = (0.3 + 0.5 * torch.randn(shape, dtype=dtype)).requires_grad_()
    beta, rho, jump = (torch.rand(size, dtype=dtype).requires_grad_() for _ in range(3))
    beta.requires_grad_(learned)  # else a layer without adaptation has a shorter way back
    weight = (torch.randn(size, size, dtype=dtype) / size**0.5).requires_grad_()
    options = {"rho": rho, "jump": jump} if adaptive else {}
    options |= {"weight": weight} if recurs else {}
    inputs = [x for x in (cur, beta, *options.values()) if x.requires_grad]
    factor = torch.randn(shape, dtype=dtype)

    def compute() -> list[torch.Tensor]:
        spk, mem = recurrent.alif(cur, beta, **options, threshold=0.8, surrogate=SURROGATES[surrogate])
        return [spk, mem, *torch.autograd.grad(LOSSES[loss](spk, mem, factor), inputs)]

    assert_equal(compute)


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("recorded", [False, True])
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 2, 5), (28, 16, 9), (100, 3, 1)])
def test_lstm_is_equal_to_rounding(shape: tuple[int, ...], recorded: bool, before: bool) -> None:
    torch.manual_seed(0)
    x = torch.randn(shape, dtype=torch.double).requires_grad_(recorded)
    linear = torch.nn.Linear(shape[2], 6).double() if before else None
    cell = torch.nn.LSTM(6 if before else shape[2], 13).double()
    factor = torch.randn(*shape[:2], 13, dtype=torch.double)
    learned = [*cell.parameters(), *(linear.parameters() if linear else ()), *([x] if recorded else ())]

    def compute() -> list[torch.Tensor]:
        h = recurrent.lstm(x, cell, linear)
        with torch.no_grad():
            again = recurrent.lstm(x, cell, linear)
        return [h, again, *torch.autograd.grad((h * factor).sum(), learned)]

    for own, expected in zip(*reversed(both(compute)), strict=True):
        assert torch.dist(own, expected) <= 1e-12 * expected.norm()


def test_lstm_over_many_steps_in_single_precision() -> None:
    torch.manual_seed(0)
    x, cell, linear = torch.rand(784, 4, 1), torch.nn.LSTM(16, 16), torch.nn.Linear(1, 16)
    expected, own = both(lambda: recurrent.lstm(x, cell, linear))
    assert torch.is_grad_enabled()
    torch.testing.assert_close(own, expected, atol=2e-6, rtol=0)
    grads = [torch.autograd.grad(h.square().mean(), list(cell.parameters())) for h in (expected, own)]
    for one, other in zip(*grads, strict=True):
        assert torch.dist(one, other) <= 1e-5 * one.norm()


def test_lstm_of_another_type_or_of_nothing_is_left_to_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    cell = torch.nn.LSTM(3, 4)
    asked = []

    def forward(x: torch.Tensor) -> tuple[torch.Tensor]:  # itself, few CPUs run it in bfloat16
        asked.append(x.dtype)
        return (x,)

    with twins.forced(True):
        assert recurrent.lstm(torch.zeros(5, 0, 3), cell).shape == (5, 0, 4)
        monkeypatch.setattr(cell, "forward", forward)
        x = torch.zeros(5, 2, 3)
        with torch.autocast("cpu", torch.bfloat16):
            assert recurrent.lstm(x, cell) is x
        recurrent.lstm(x.bfloat16(), cell)
        recurrent.lstm(x, cell)
    assert asked == [torch.float32, torch.bfloat16]


def linear_states(a: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
    """Run x = a x + u over u [T, B, N], step by step. Returns: the state before each step [T, B, N]."""
    x = torch.zeros_like(u[0])
    states = []
    for u_t in u.unbind(0):
        states.append(x)
        x = a * x + u_t
    return torch.stack(states)


@pytest.mark.parametrize("shape", [(3, 2, 16, 25), (1, 1, 1, 4), (2, 8, 784, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_walking_states_are_equal_but_for_rounding(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    width, modes, blocks, batch = shape
    hop = torch.polar(*(torch.rand(width, modes, 1, dtype=dtype) for _ in range(2)))
    added = torch.randn(width, 2, modes, blocks, batch, dtype=dtype)
    by_starts = torch.randn(width, 2 * modes, blocks * batch, dtype=dtype)

    def compute() -> list[torch.Tensor]:
        starts = state_space.carry(hop, added)
        return [starts, *state_space.carry_back(hop, starts, by_starts, batch)]

    assert_near(compute, 1e-6 if dtype == torch.float32 else 1e-14)


def test_walking_states_and_their_gradients_are_those_of_the_recurrence() -> None:
    torch.manual_seed(0)
    hop = torch.polar(torch.rand(1, 3, 1).double(), torch.randn(1, 3, 1).double())
    added, factor = torch.randn(2, 1, 2, 3, 40, 5, dtype=torch.float64).unbind(0)  # [H, 2, N, K, B]
    a, u, weight = (x.requires_grad_() for x in (hop[0, :, 0], as_steps(added), as_steps(factor)))
    expected = linear_states(a, u)
    grads = torch.autograd.grad((expected * weight.conj()).real.sum(), (a, u))
    with twins.forced(True):
        starts = state_space.carry(hop, added)
        by_added, by_hop = state_space.carry_back(hop, starts, factor.flatten(1, 2).flatten(2), 5)
    torch.testing.assert_close(as_steps(starts.view_as(added)), expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(by_hop[0, :, 0], grads[0], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(as_steps(by_added.view_as(added)), grads[1], rtol=0, atol=1e-12)


def as_steps(x: torch.Tensor) -> torch.Tensor:
    """Bring parts [1, 2, N, K, B] into the order of time, complex [K, B, N]."""
    return torch.complex(x[0, 0], x[0, 1]).permute(1, 2, 0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_layer_of_states_learns_the_same(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    ssm = L20.SSM(4, 3).to(dtype)
    u = torch.randn(4, 49, 16 * 5, dtype=dtype).requires_grad_()
    learned = [u, *ssm.parameters()]

    def compute() -> list[torch.Tensor]:
        mem = ssm(u, 5)
        return [mem, *torch.autograd.grad(mem.square().sum(), learned)]

    assert_near(compute, 1e-6 if dtype == torch.float32 else 1e-14)


@pytest.mark.parametrize("size", [1, 7, 100])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_winners_have_equal_spikes_and_thresholds_and_weights_but_for_rounding(size: int, dtype: Any) -> None:
    def compute() -> list[torch.Tensor]:
        torch.manual_seed(0)
        layer = L15.Winners(size)
        layer.weight = layer.weight.to(dtype)
        layer.threshold = torch.full((size,), 5.0, dtype=dtype)
        spk = (torch.rand(20, 6, 784) < 0.1).to(dtype)
        results = [layer(spk, 0.05).clone() for _ in range(3)]
        return [*results, layer.threshold, layer.traces(spk), layer.weight]

    (*exact, weight), (*expected, own) = both(compute)
    for one, other in zip(exact, expected, strict=True):
        assert torch.equal(one, other)
    assert exact[0].sum() > 0
    torch.testing.assert_close(weight, own, rtol=0, atol=1e-6 if dtype == torch.float32 else 1e-14)


@given(
    st.sampled_from([(1, 1, 1, 1), (3, 2, 9, 5), (2, 3, 40, 7), (4, 0, 3, 2), (2, 2, 0, 3)]),
    st.sampled_from([0.0, 0.1, 1.0]),
    st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_sums_over_few_spikes_are_matrix_products(
    shape: tuple[int, ...], chance: float, swapped: bool
) -> None:
    torch.manual_seed(0)
    steps, batch, pixels, size = shape
    layout = (steps, pixels, batch) if swapped else (steps, batch, pixels)
    spk = (torch.rand(layout) < chance).double()
    spk = spk.transpose(1, 2) if swapped else spk  # a layout that is not contiguous
    graded = spk * torch.rand(steps, batch, pixels, dtype=torch.float64)  # values other than 0 and 1
    weight = torch.rand(size, pixels, dtype=torch.float64)
    out = (torch.rand(steps, batch, size) < chance).double()
    for compute in (
        lambda: fast.currents(spk, weight),
        lambda: fast.currents(graded, weight),
        lambda: fast.sums_at_spikes(out, graded),
    ):
        expected, own = both(compute)
        assert own.shape == expected.shape
        torch.testing.assert_close(own, expected, rtol=0, atol=1e-12)


@st.composite
def eprop_problems(draw: st.DrawFn) -> tuple[Any, ...]:
    """Draw a network, a batch with a silence, and the way back of its errors."""
    torch.manual_seed(draw(st.integers(0, 2**31)))
    steps = draw(st.sampled_from([1, 2, 17, 60]))
    lift = draw(st.sampled_from([0.0, 0.3]))
    chance = draw(st.sampled_from([0.0, 0.1, 0.5]))  # of an error
    x = (torch.rand(steps, 4, 12) < 0.3).double()
    x[steps // 3 : steps // 2] = 0
    net = L15.Net(12, 5, 14, 0.97, lift, recurrent=draw(st.booleans()), like=x)
    when = torch.rand(steps).double() * (torch.rand(steps) < chance)
    back = torch.randn_like(net.out) if draw(st.booleans()) else None
    return net, x, torch.randint(5, (4,)), when, back


def gradients_of_eprop(way: Any, net: Any, *batch: Any) -> tuple[torch.Tensor, ...]:
    net.weight.grad = net.out.grad = None
    answer = way(net, *batch)
    return answer, net.out.grad, net.weight.grad


@given(eprop_problems())
@settings(max_examples=60, deadline=None)
def test_eprop_in_two_pieces_is_eprop(problem: tuple[Any, ...]) -> None:
    own = gradients_of_eprop(L15.eprop, *problem)
    with twins.forced(True):
        found = gradients_of_eprop(L15.eprop_in_two_pieces, *problem)
    assert torch.equal(found[0], own[0])
    assert torch.equal(found[1], own[1])
    torch.testing.assert_close(found[2], own[2], rtol=1e-11, atol=1e-13)


def test_eprop_in_two_pieces_in_the_precision_of_the_training() -> None:
    torch.manual_seed(0)
    net, back = L15.Net(28, 10, 100, rho=0.95, lift=0.2), torch.randn(10, 100)
    x, when = (torch.rand(100, 16, 28) < 0.2).float(), torch.tensor([0.0, 0.0, 0.0, 0.04] * 25)
    batch = (x, torch.randint(10, (16,)), when, back)
    own = gradients_of_eprop(L15.eprop, net, *batch)[2]
    with twins.forced(True):
        found = gradients_of_eprop(L15.eprop_in_two_pieces, net, *batch)[2]
    assert found.dtype == torch.float32
    assert (found - own).abs().max() <= 2e-6 * own.abs().max()


def test_eprop_in_pytorch_is_the_one_that_the_lesson_writes_out() -> None:
    net = L15.Net(3, 2, 4, rho=0.9, lift=0.1)
    batch = (torch.rand(5, 2, 3), torch.tensor([0, 1]), torch.ones(5))
    with twins.forced(False):
        assert fast.eprop(net, batch, L15.ALPHA, L15.KAPPA) is None
        assert net.weight.grad is None
        found = gradients_of_eprop(L15.eprop_in_two_pieces, net, *batch)
    for one, other in zip(found, gradients_of_eprop(L15.eprop, net, *batch), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_share_the_neurons(threads: int) -> None:
    cur, before = torch.rand(5, 7000, requires_grad=True), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert_equal(
            lambda: [
                *neurons.leaky(cur, 0.9),
                torch.autograd.grad(sum(neurons.leaky(cur, 0.9)).sum(), cur)[0],
            ]
        )
    finally:
        torch.set_num_threads(before)


def test_half_precision_and_autocast() -> None:
    cur = torch.randn(20, 3, 40).bfloat16().requires_grad_()

    def compute() -> list[torch.Tensor]:
        spk, mem = neurons.leaky(cur, 0.9)
        assert (spk.dtype, mem.dtype) == (torch.bfloat16, torch.float32)
        return [spk, mem, *torch.autograd.grad(spk.float().sum() + mem.sum(), cur)]

    assert_equal(compute)


def test_gradients_are_rounded_to_half_precision_as_torch_rounds() -> None:
    tools = importlib.import_module("snn_course.networks.compiled.tools")
    special = torch.tensor([0.0, -0.0, 1.0, 1 + 2**-8, 1 + 3 * 2**-8, 3.4e38, 1e-45, torch.inf, -torch.inf])
    values = torch.cat([special, torch.tensor([torch.nan]), torch.randn(5000)])
    rounded = torch.empty_like(values, dtype=torch.bfloat16)
    tools.narrow(tools.array(values[None]), tools.array(rounded[None]), 0, len(values))
    assert torch.equal(rounded.nan_to_num(-1), values.bfloat16().nan_to_num(-1))
    assert rounded.isnan().sum() == 1


def test_a_recorded_membrane_that_was_changed_is_an_error() -> None:
    with twins.forced(True):
        spk, mem = neurons.leaky(torch.rand(5, 3, requires_grad=True), 0.9)
    mem.detach().zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        spk.sum().backward()


# ---------------------------------------------------------------------- when


def python(code: str, **variables: str) -> str:
    """Run code in a fresh interpreter. Returns: what it printed."""
    environment = {name: value for name, value in os.environ.items() if name != "SNN_COMPILED"} | variables
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    ).stdout.strip()


IMPORTED = "import sys; print('numba' in sys.modules)"


def test_numba_is_not_imported_with_the_neurons_nor_for_little_work() -> None:
    code = "import torch; from snn_course.networks import neurons, recurrent, state_space;"
    assert python(f"{code} neurons.leaky(torch.rand(25, 128, 100), 0.9); {IMPORTED}") == "False"


def test_numba_is_imported_when_asked_for() -> None:
    code = "import torch; from snn_course.networks import neurons; neurons.leaky(torch.rand(2, 3), 0.9);"
    assert python(code + IMPORTED, SNN_COMPILED="1") == "True"


def test_it_compiles_once_there_was_enough_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SNN_COMPILED", raising=False)
    monkeypatch.setattr(twins, "_done", 0.0)
    row = torch.zeros(1000)
    each = 100 * (1000 + twins.STEP)
    answers = [twins.compiled(row, 100) is not None for _ in range(int(twins.PATIENCE / each) + 2)]
    assert answers[0] is False
    assert answers[-1] is True
    assert answers == sorted(answers)  # once compiled, always compiled


def test_never_is_never_and_other_words_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(twins, "_done", 1e12)
    monkeypatch.setenv("SNN_COMPILED", "0")
    assert twins.compiled(torch.zeros(3), 5) is None
    monkeypatch.setenv("SNN_COMPILED", "1")
    assert twins.compiled(torch.zeros(3, device="meta"), 5) is None
    assert twins.compiled(torch.zeros(3, dtype=torch.float16), 5) is None
    monkeypatch.setenv("SNN_COMPILED", "yes")
    with pytest.raises(UsageError, match="SNN_COMPILED must be 0"):
        twins.compiled(torch.zeros(3), 5)


def test_without_numba_pytorch_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> Any:
        raise ImportError("No module named 'numba'")

    monkeypatch.setattr(twins.importlib, "import_module", absent)
    monkeypatch.setattr(twins, "_done", 1e12)
    monkeypatch.delenv("SNN_COMPILED", raising=False)
    assert twins.compiled(torch.zeros(3), 5) is None
    monkeypatch.setenv("SNN_COMPILED", "1")
    with pytest.raises(UsageError, match="needs numba"):
        twins.compiled(torch.zeros(3), 5)


def test_forced_leaves_the_variable_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SNN_COMPILED", "0")
    with twins.forced(True):
        assert os.environ["SNN_COMPILED"] == "1"
    assert os.environ["SNN_COMPILED"] == "0"
    monkeypatch.delenv("SNN_COMPILED")
    with twins.forced(False):
        pass
    assert "SNN_COMPILED" not in os.environ


def test_machine_code_is_kept_on_disk(tmp_path: Any) -> None:
    code = (
        "import torch; from snn_course.networks import neurons; neurons.leaky(torch.rand(2, 3), 0.9);"
        "from snn_course.networks.compiled import leaky; print(sum(leaky._forward.stats.cache_hits.values()))"
    )
    folder = {"SNN_COMPILED": "1", "NUMBA_CACHE_DIR": str(tmp_path)}
    assert [python(code, **folder) for _ in range(2)] == ["0", "1"]
    assert list(tmp_path.rglob("*.nbi"))


def test_machine_code_counts_until_a_source_of_its_folder_changes(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from snn_course.networks.compiled import tools

    import numba

    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    namespace: dict[str, Any] = {}
    script = tmp_path / "double.py"
    script.write_text("def double(x):\n    return 2 * x\n", encoding="utf-8")
    exec(compile(script.read_text(encoding="utf-8"), str(script), "exec"), namespace)

    def hits() -> int:
        double = tools.kernel(namespace["double"])
        assert double(3) == 6
        return sum(double.stats.cache_hits.values())

    assert [hits(), hits()] == [0, 1]
    monkeypatch.setattr(tools, "sources", lambda: "others")
    assert [hits(), hits()] == [0, 1]


def test_a_checkout_that_cannot_be_written_to_keeps_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from snn_course.networks.compiled import tools

    from numba.core import caching

    def refused(self: Any) -> None:
        raise OSError("read-only")

    monkeypatch.setattr(caching._CacheLocator, "ensure_cache_path", refused)
    double = tools.kernel(lambda x: 2 * x)
    assert double(3) == 6


def test_the_benchmark_writes_what_it_measured_into_the_readme(tmp_path: Any) -> None:
    scans = lesson.load("benchmarks/scans")
    passes = {
        "[5, 2, 3]": {"compiled": 2.0, "course, PyTorch": 5.0, "memory": 1.5},
        "[1, 1, 1]": {"compiled": 0.5, "course, PyTorch": 5.0, "memory": 0.1},
    }
    step = {"products": 10.0, "compiled": 19.0, "course, PyTorch": 22.0}
    readme = tmp_path / "README.md"
    readme.write_text("<!-- results:begin -->\n<!-- scans:begin -->\nold\n<!-- scans:end -->\nmine", "utf-8")
    report.update_readme(readme, scans.as_markdown(passes, step, {"LSTM": 1.26, "e-prop": 9}), "scans")
    text = readme.read_text("utf-8")
    assert "| [5, 2, 3] | 2.0 | 2.50 | 0.75 |\n" in text
    assert "takes 1.90 times\nas long as its matrix products alone; in PyTorch 2.20 times. Where" in text
    assert "a pass takes\nat most 1.33 times as long (the aim is 1.3).\nCompiled, the other" in text
    assert "at the sizes of their lessons:\nLSTM 1.3, e-prop 9.0.\n<!-- scans" in text
    assert text.startswith(
        "<!-- results:begin -->\n<!-- scans:begin -->\n| [T, B, N] | compiled, ms | course, Py"
    )
    assert text.endswith("<!-- scans:end -->\nmine")
    assert "old" not in text


def test_the_benchmark_runs_each_twin_and_its_pytorch_form(monkeypatch: Any) -> None:
    """Wherever the twins are asked for, they answer in the one pass and are silent in the other."""
    scans = lesson.load("benchmarks/scans")
    asked, real = [], twins.compiled

    def compiled(row: torch.Tensor, steps: int) -> Any:
        found = real(row, steps)
        asked.append(found is not None)
        return found

    monkeypatch.setattr(twins, "compiled", compiled)
    for work in (scans.adaptive() | scans.gates_and_states() | scans.local_rules()).values():
        for choice in (True, False):
            asked.clear()
            scans.with_twins(choice, work)
            assert set(asked) == {choice}


def test_wrong_use_of_the_benchmark_is_one_clear_line(monkeypatch: Any, capsys: Any) -> None:
    scans = lesson.load("benchmarks/scans")
    monkeypatch.setattr(sys, "argv", ["scans.py", "--rounds", "0"])
    with pytest.raises(SystemExit, match=r"^2$"):
        scans.main()
    assert "--rounds must be at least 1, not 0" in capsys.readouterr().err

    def missing(rounds: int) -> None:
        raise UsageError("There is no numba.")

    monkeypatch.setattr(scans, "leaky_neurons", missing)
    monkeypatch.setattr(sys, "argv", ["scans.py"])
    assert scans.main() == 2
    assert capsys.readouterr().err == "There is no numba.\n"
