"""The fused scan equals ``snn.Leaky`` in value and gradient, keeps no state, and leaves layouts alone."""

import copy
import pickle
from functools import partial
from typing import Any

from snn_course.networks import leaky_scan, neurons, twins
from snn_course.networks.from_snntorch import MECHANISMS
from snn_course.networks.neurons import RESETS, Leaky, Reset, TimeBatched, leaky, still

import pytest
import snntorch as snn
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from snntorch import surrogate as snn_surrogate
from torch import nn

SURROGATES = {
    "atan": (neurons.atan(), snn_surrogate.atan()),
    "sharp atan": (neurons.atan(5.0), snn_surrogate.atan(alpha=5.0)),
    "fast sigmoid": (neurons.fast_sigmoid(10.0), snn_surrogate.fast_sigmoid(slope=10)),
}
every_reset = pytest.mark.parametrize("reset", RESETS)
every_mechanism = pytest.mark.parametrize("reset", MECHANISMS)  # those that snnTorch has


def snn_leaky(
    cur: torch.Tensor, beta: torch.Tensor, threshold: float, reset: str, surrogate: Any, mem: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Give what snnTorch computes, step by step; beta keeps its gradient."""
    lif = snn.Leaky(beta=0.5, threshold=threshold, spike_grad=surrogate, reset_mechanism=reset)
    lif.beta = beta
    spk_rec, mem_rec = [], []
    for cur_t in cur.unbind(0):
        spk, mem = lif(cur_t, mem)
        spk_rec.append(spk)
        mem_rec.append(mem)
    return torch.stack(spk_rec), torch.stack(mem_rec)


def currents(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> torch.Tensor:
    """Give currents that make neurons fire now and then."""
    generator = torch.Generator().manual_seed(seed)
    return (0.3 + 0.6 * torch.randn(*shape, generator=generator, dtype=torch.float64)).to(dtype)


@st.composite
def problems(draw: st.DrawFn, resets: Any = RESETS) -> dict[str, Any]:
    step = tuple(draw(st.lists(st.integers(1, 5), min_size=1, max_size=4)))
    per_neuron = draw(st.booleans())
    seed = draw(st.integers(0, 2**31))
    generator = torch.Generator().manual_seed(seed)
    beta = torch.rand(step[-1:] if per_neuron else (), generator=generator, dtype=torch.float64)
    return {
        "cur": currents(draw(st.integers(1, 12)), *step, seed=seed).requires_grad_(),
        "beta": beta.requires_grad_(),
        "threshold": draw(st.sampled_from([0.25, 0.75, 1.0, 3.0])),  # snnTorch rounds it to float32
        "reset": draw(st.sampled_from(resets)),
        "mem": currents(*step, seed=seed + 1).requires_grad_(),
    }


@given(problems(MECHANISMS), st.sampled_from(sorted(SURROGATES)), st.sampled_from(["spk", "mem", "both"]))
@settings(max_examples=150, deadline=None)
def test_equals_snntorch_in_value_and_gradient(problem: dict[str, Any], name: str, used: str) -> None:
    ours, theirs = SURROGATES[name]
    inputs = [problem["cur"], problem["beta"], problem["mem"]]
    own = leaky(**problem, surrogate=ours)
    expected = snn_leaky(**problem, surrogate=theirs)
    torch.testing.assert_close(own[0], expected[0].double(), rtol=0, atol=0)
    torch.testing.assert_close(own[1], expected[1], rtol=1e-12, atol=1e-12)
    weights = [currents(*own[0].shape, dtype=torch.float32, seed=k).double() for k in (1, 2)]
    grads = []
    for results in (own, expected):
        parts = [(x * w).sum() for x, w in zip(results, weights, strict=True)]
        loss = {"spk": parts[0], "mem": parts[1], "both": parts[0] + parts[1]}[used]
        grads.append(torch.autograd.grad(loss, inputs))
    for grad, wanted in zip(*grads, strict=True):
        torch.testing.assert_close(grad, wanted, rtol=1e-10, atol=1e-10)


@every_mechanism
@pytest.mark.parametrize("threshold", [0.7, 1.0])
def test_is_bit_for_bit_snntorch_in_float32(reset: Reset, threshold: float) -> None:
    cur, beta = currents(50, 8, 33, dtype=torch.float32), torch.tensor(0.9)
    own = leaky(cur, beta, threshold, reset)
    expected = snn_leaky(cur, beta, threshold, reset, None, torch.zeros(8, 33))
    assert torch.equal(own[0], expected[0])
    assert torch.equal(own[1], expected[1])


@given(problems(), st.data())
@settings(max_examples=50, deadline=None)
def test_a_sequence_cut_in_two_equals_the_whole(problem: dict[str, Any], data: st.DataObject) -> None:
    cur, mem = problem.pop("cur"), problem.pop("mem")
    inputs = [cur, problem["beta"], mem]
    at = data.draw(st.integers(0, len(cur)))
    whole = leaky(cur, mem=mem, **problem)
    head = leaky(cur[:at], mem=mem, **problem)
    tail = leaky(cur[at:], mem=head[1][-1] if at else mem, **problem)
    for one, two in zip(whole, zip(head, tail, strict=True), strict=True):
        assert torch.equal(one, torch.cat(two))
    grads = [
        torch.autograd.grad((spk * mem * mem).sum(), inputs)
        for spk, mem in (whole, [torch.cat(pair) for pair in zip(head, tail, strict=True)])
    ]
    for grad, wanted in zip(*grads, strict=True):
        torch.testing.assert_close(grad, wanted, rtol=1e-10, atol=1e-10)


@every_reset
def test_blocks_of_the_backward_pass_do_not_show(reset: Reset, monkeypatch: pytest.MonkeyPatch) -> None:
    cur, grads = currents(13, 2, 3).requires_grad_(), []
    for block in (1, 12, 13, 10**6):  # 1, 2, 2 and 13 steps at a time
        monkeypatch.setattr(leaky_scan, "BLOCK", block)  # on one thread
        monkeypatch.setattr(leaky_scan, "SHARED_BLOCK", block)
        grads.append(torch.autograd.grad(leaky(cur, 0.8, reset=reset)[0].sum(), cur)[0])
    assert all(torch.equal(grad, grads[0]) for grad in grads)


def channels_last(cur: torch.Tensor) -> torch.Tensor:
    return cur.flatten(0, 1).to(memory_format=torch.channels_last).unflatten(0, cur.shape[:2])


@every_reset
@pytest.mark.parametrize(
    "relaid",
    [
        channels_last,
        lambda cur: cur.transpose(0, 1).contiguous().transpose(0, 1),  # from a batch-first tensor
        lambda cur: cur.transpose(2, 4).contiguous().transpose(2, 4),
    ],
    ids=["channels last", "batch first", "columns first"],
)
def test_layout_in_memory_does_not_show(relaid: Any, reset: Reset) -> None:
    cur, beta = currents(6, 2, 3, 4, 5).requires_grad_(), torch.tensor([0.5, 0.8, 0.9])[:, None, None]
    start, weight = currents(2, 3, 4, 5, seed=1).requires_grad_(), currents(6, 2, 3, 4, 5, seed=2)
    results = []
    for form in (cur, relaid(cur)):
        spk, mem = leaky(form, beta, reset=reset, mem=start)
        results.append([spk, mem, *torch.autograd.grad((spk * weight + mem * mem).sum(), [cur, start])])
    for own, expected in zip(*results, strict=True):
        assert torch.equal(own, expected)


def test_channels_last_stays_channels_last() -> None:
    cur = channels_last(currents(6, 2, 3, 4, 5))
    spk, mem = leaky(cur, 0.9)
    assert spk.stride() == mem.stride() == cur.stride()
    assert spk.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)


def test_static_current_may_be_expanded_over_time() -> None:
    cur = currents(4, 5).requires_grad_()
    grads = []
    for form in (cur.expand(7, -1, -1), cur.repeat(7, 1, 1)):
        spk, mem = leaky(form, 0.9)
        grads.append(torch.autograd.grad((spk + mem).sum(), cur)[0])
    torch.testing.assert_close(*grads)


@pytest.mark.parametrize("shape", [(9,), (9, 4), (0, 2, 3), (5, 0, 3)])
def test_any_shape_behind_the_time_axis(shape: tuple[int, ...]) -> None:
    cur = currents(*shape).requires_grad_()
    spk, mem = leaky(cur, 0.9)
    assert spk.shape == mem.shape == shape
    (spk + mem).sum().backward()
    assert cur.grad is not None
    assert cur.grad.shape == shape


@every_reset
def test_half_precision_currents_keep_a_float32_state(reset: Reset) -> None:
    cur = currents(40, 3, 5, dtype=torch.bfloat16).requires_grad_()
    wide = cur.detach().float().requires_grad_()
    spk, mem = leaky(cur, 0.9, reset=reset)
    expected = leaky(wide, 0.9, reset=reset)
    assert (spk.dtype, mem.dtype) == (torch.bfloat16, torch.float32)
    assert torch.equal(spk.float(), expected[0])
    assert torch.equal(mem, expected[1])
    grad = torch.autograd.grad((spk.float() + mem).sum(), cur)[0]
    wanted = torch.autograd.grad((expected[0] + expected[1]).sum(), wide)[0]
    assert grad.dtype == torch.bfloat16
    assert torch.equal(grad, wanted.bfloat16())


def test_works_under_autocast() -> None:
    net, lif = TimeBatched(nn.Linear(6, 4)), Leaky(0.9, learn_beta=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        spk, mem = lif(net(torch.rand(10, 3, 6)))
        loss = (mem * mem).mean() + spk.float().mean()
    loss.backward()
    assert (spk.dtype, mem.dtype) == (torch.bfloat16, torch.float32)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in [*net.parameters(), lif.beta])


def test_beta_outside_its_range_is_clipped_and_gets_the_gradient_that_leads_back() -> None:
    cur = currents(9, 4)
    beta = torch.tensor([-0.5, 0.0, 1.0, 1.5], dtype=torch.float64, requires_grad=True)
    spk, mem = leaky(cur, beta)
    assert torch.equal(mem, leaky(cur, beta.detach().clamp(0, 1))[1])
    inside = beta.detach().clamp(0, 1).requires_grad_()
    for sign in (1, -1):  # what is asked for once pulls each beta up, once down
        (grad,) = torch.autograd.grad(sign * (spk + mem).sum(), beta, retain_graph=True)
        (wanted,) = torch.autograd.grad(sign * sum(leaky(cur, inside)).sum(), inside)
        assert torch.equal(grad[1:3], wanted[1:3])
        assert grad[0] == min(wanted[0], 0)  # descent raises the beta below 0, or leaves it
        assert grad[3] == max(wanted[3], 0)  # and lowers the one above 1


def test_a_learned_beta_comes_back_from_outside() -> None:
    torch.manual_seed(0)
    cur = 0.3 * torch.rand(40, 8, 3)
    target = leaky(cur, 0.7, reset="none")[1]
    lif = Leaky(torch.full((3,), 0.9), reset="none", learn_beta=True)
    lif.beta.data = torch.tensor([1.3, -0.4, 0.9])
    optimizer = torch.optim.Adam(lif.parameters(), 0.05)
    for _ in range(200):
        optimizer.zero_grad()
        (lif(cur)[1] - target).square().mean().backward()
        optimizer.step()
    assert ((lif.beta > 0.4) & (lif.beta < 0.95)).all()  # where clamp alone leaves two of them outside


@every_reset
@pytest.mark.parametrize("num_steps", [1, 2, 25])
def test_a_still_current_is_the_same_current_in_each_step(reset: Reset, num_steps: int) -> None:
    cur, start = currents(4, 16).requires_grad_(), currents(4, 16, seed=1)
    weight, results = currents(num_steps, 4, 16, seed=2), []
    for form, steps in ((cur, num_steps), (cur.expand(num_steps, -1, -1), None)):
        spk, mem = leaky(form, 0.9, reset=reset, mem=start, num_steps=steps)
        results.append([spk, mem, *torch.autograd.grad((spk * weight + mem * mem).sum(), cur)])
    assert all(torch.equal(own, expected) for own, expected in zip(*results, strict=True))


@every_reset
@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("compiled", [False, True])
def test_one_step_without_gradients_gives_the_same_by_the_short_way(
    reset: Reset, half: bool, compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    cur = torch.randn(1, 2, 3, 5, 7).transpose(2, 4)
    cur = cur.bfloat16() if half else cur
    settings: Any = torch.rand(7, 1, 1), torch.rand(3), reset, neurons.ATAN
    mem = torch.randn(7, 5, 1)
    monkeypatch.setattr(neurons.LeakyScan, "apply", None)  # who calls it fails
    with torch.no_grad():
        short = [*leaky(cur, *settings, mem), *leaky(cur[0], *settings, num_steps=1)]
    monkeypatch.undo()
    with twins.forced(compiled):
        long = [*leaky(cur, *settings, mem), *leaky(cur[0], *settings, num_steps=1)]
    assert 0 < short[0].sum() < short[0].numel()
    for own, expected in zip(short, long, strict=True):
        assert own.dtype == expected.dtype
        assert torch.equal(own, expected)


@pytest.mark.parametrize("num_steps", [1, 2, 5])
def test_a_shown_current_is_an_expanded_one_whose_gradient_keeps_the_layout(num_steps: int) -> None:
    laid_out = torch.randn(4, 3, 6, 5).contiguous(memory_format=torch.channels_last)
    cur = laid_out.requires_grad_()
    expanded = cur.expand(num_steps, *cur.shape)
    shown = still(cur, num_steps)
    assert torch.equal(shown, expanded)
    assert shown.stride() == expanded.stride()
    back = torch.randn(num_steps * 4, 3, 6, 5).contiguous(memory_format=torch.channels_last)
    steps = back.unflatten(0, (num_steps, 4))
    (wanted,) = torch.autograd.grad(expanded, cur, steps)
    (found,) = torch.autograd.grad(shown, cur, steps)
    torch.testing.assert_close(found, wanted)
    assert found.stride() == cur.stride()


def test_own_surrogate_may_be_any_function() -> None:
    def triangle(x: torch.Tensor) -> torch.Tensor:
        return (1 - x.abs()).clamp(min=0)

    cur = currents(1, 5).requires_grad_()
    (grad,) = torch.autograd.grad(leaky(cur, 0.9, surrogate=triangle)[0].sum(), cur)
    torch.testing.assert_close(grad, triangle(cur.detach() - 1))


def graph_size(result: torch.Tensor) -> int:
    """Count the operations that autograd would go back through."""
    nodes, queue = set(), [result.grad_fn]
    while queue:
        node = queue.pop()
        if node is not None and node not in nodes:
            nodes.add(node)
            queue += [parent for parent, _ in node.next_functions]
    return len(nodes)


def test_graph_does_not_grow_with_time_and_saves_one_membrane() -> None:
    counts = []
    for steps in (5, 50):
        saved: list[torch.Size] = []

        def keep(x: torch.Tensor, shapes: list[torch.Size] = saved) -> torch.Tensor:
            shapes.append(x.shape)
            return x

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            spk, _ = leaky(currents(steps, 4, 6).requires_grad_(), 0.9)
        assert saved.count(torch.Size([steps, 24])) == 1
        counts.append((graph_size(spk), len(saved)))
    assert counts[0] == counts[1]


def test_second_call_knows_nothing_of_the_first() -> None:
    lif, cur = Leaky(0.9), currents(20, 3, 4, dtype=torch.float32)
    first = lif(cur)
    lif(10 * cur)
    assert all(torch.equal(one, two) for one, two in zip(first, lif(cur), strict=True))


def test_changing_a_recorded_membrane_in_place_is_an_error_not_a_wrong_gradient() -> None:
    spk, mem = leaky(currents(5, 3).requires_grad_(), 0.9)
    mem.detach().zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        spk.sum().backward()


@pytest.mark.parametrize("reset", ["", "Zero", "soft"])
def test_unknown_reset_is_named(reset: Any) -> None:
    for build in (partial(leaky, torch.zeros(2, 3)), Leaky):  # the layer says so at once
        with pytest.raises(ValueError, match=f"not '{reset}'"):
            build(0.9, reset=reset)


@pytest.mark.parametrize("wrong", [{"mem": torch.zeros(2)}, {"beta": torch.full((2,), 0.9)}])
def test_state_or_beta_of_another_shape_is_an_error(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        leaky(torch.zeros(4, 5, 3), **{"beta": 0.9, **wrong})


def test_layer_hands_on_each_setting() -> None:
    surrogate, grads = neurons.fast_sigmoid(3.0), []
    cur, start = currents(20, 2, 3, dtype=torch.float32).requires_grad_(), currents(2, 3).float()
    for spk, mem in (
        Leaky(0.8, 0.5, "zero", surrogate)(cur, start),
        leaky(cur, 0.8, 0.5, "zero", surrogate, start),
    ):
        grads.append([spk, mem, *torch.autograd.grad((spk + mem).sum(), cur)])
    assert all(torch.equal(own, expected) for own, expected in zip(*grads, strict=True))


def test_layer_learns_beta_and_can_be_stored() -> None:
    lif, cur = Leaky(torch.full((3,), 0.8), learn_beta=True), currents(20, 2, 3, dtype=torch.float32)
    assert [name for name, _ in lif.named_parameters()] == ["beta"]
    assert not list(Leaky(0.8).parameters())
    before = lif.beta.detach().clone()
    lif(cur)[1].square().sum().backward()
    assert lif.beta.grad is not None
    lif.beta.data -= 1e-3 * lif.beta.grad
    assert (lif.beta < before).all()  # a smaller beta makes a smaller membrane
    other = Leaky(torch.zeros(3))
    other.load_state_dict(lif.state_dict())
    for twin in (other, copy.deepcopy(lif), pickle.loads(pickle.dumps(lif))):
        assert torch.equal(twin(cur)[0], lif(cur)[0])
    assert repr(Leaky(0.5, 2.0, "zero")) == "Leaky(beta=0.5, threshold=2, reset=zero)"
    assert "beta=(3,)" in repr(lif)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Linear(6, 4), (6,)),
        (nn.Conv2d(2, 3, 3, padding=1), (2, 5, 5)),
        (nn.AvgPool2d(2), (2, 4, 4)),
        (nn.BatchNorm2d(2).eval(), (2, 4, 4)),
        (nn.Flatten(), (2, 4)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_time_batched_layer_equals_the_layer_step_by_step(layer: nn.Module, shape: tuple[int, ...]) -> None:
    x = currents(7, 3, *shape, dtype=torch.float32).requires_grad_()
    own, expected = TimeBatched(layer)(x), torch.stack([layer(x_t) for x_t in x.unbind(0)])
    torch.testing.assert_close(own, expected)
    grads = [torch.autograd.grad(y.square().sum(), x)[0] for y in (own, expected)]
    torch.testing.assert_close(*grads)


def test_time_batched_norm_takes_its_statistics_over_all_steps() -> None:
    x = currents(5, 4, 2, 3, 3, dtype=torch.float32)
    y = TimeBatched(nn.BatchNorm2d(2, affine=False))(x)
    torch.testing.assert_close(y.mean((0, 1, 3, 4)), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(y.var((0, 1, 3, 4), correction=0), torch.ones(2), atol=1e-3, rtol=0)


@pytest.mark.gpu
@every_reset
def test_gpu_gives_what_the_cpu_gives(reset: Reset) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no GPU here")
    results = []
    for device in ("cpu", "cuda"):
        cur = currents(30, 4, 7).to(device).requires_grad_()
        spk, mem = leaky(cur, 0.9, reset=reset)
        results.append([spk, mem, *torch.autograd.grad((spk + mem * mem).sum(), cur)])
    for own, expected in zip(*results, strict=True):
        torch.testing.assert_close(own, expected.cpu() if own.device.type == "cpu" else own.cpu())
