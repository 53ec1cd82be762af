"""The Pong agent's executions, its teaching and its steps: equal where they claim it, else told apart."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

from snn_course.runs import command, figures, lesson
from snn_course import ROOT, UsageError
from snn_course import akida_bridge as ab
from snn_course.akida_bridge.integers import sums
from snn_course.costs import energy as meters
from snn_course.journal import blocks as journal
from snn_course.networks import conversion, neurons
from snn_course.pong import (
    accounts,
    agents,
    charts,
    checkpoints,
    compare,
    curves,
    dqn,
    emulator,
    imitate,
    judging,
    network,
    pqn,
    spikes,
)
from snn_course.pong.spikes import LevelNet

import numpy as np
import pytest
import torch
from torch import nn

capstone = lesson.load("capstone_pong")
SCRIPT = ROOT / "capstone_pong.py"
FIRST = SimpleNamespace(is_first_seed=True)  # all that a learner's start asks of a run


def seen(count: int, seed: int, channels: int = 4) -> torch.Tensor:
    """Nearly empty pictures, as Pong's are: levels 0 .. 15."""
    made = torch.Generator().manual_seed(seed)
    x = torch.randint(0, 16, (count, channels, *emulator.SHAPE[1:]), generator=made, dtype=torch.uint8)
    return x * (torch.rand(x.shape, generator=made) < 0.1)


def lively(net: nn.Module, seed: int) -> nn.Module:
    """Give random weights to a network, under which no layer is silent."""
    torch.manual_seed(seed)
    for layer in net.parts:
        network.start([layer])
        layer.bias.data.normal_(0, 0.1)
    return net


def chip(bits: int, seed: int) -> tuple[ab.QuantNet, torch.Tensor]:
    """Give a calibrated network with random weights, and pictures."""
    net, x = lively(network.q_network(bits), seed), seen(20, seed)
    net.calibrate(x)
    return net, x


# ---------------------------------------------------------------------- the chip's integers


@pytest.mark.parametrize("bits", [4, 2])
@pytest.mark.parametrize("seed", [0, 1])
def test_levels_equal_the_chips_integers(bits, seed):
    net, x = chip(bits, seed)
    integers = net.to_integers()
    *levels, q = spikes.LevelNet(integers).outputs(x)
    for found, expected in zip(levels, integers.outputs(x), strict=False):
        assert expected.unique().tolist() == list(range(2**bits))
        assert torch.equal(found.long(), expected)
    assert torch.equal(q, integers.logits(x))
    assert torch.equal(net(x), q)


def wrong_counts(integers: ab.IntNet, x: torch.Tensor, dtype: torch.dtype, ties: float = 1.0) -> list[int]:
    """Count the neurons of each layer whose spikes, layer by layer, are not the level.

    ``ties`` is the share of 1/32 that stays in the currents.
    """
    most = 2 ** integers.layers[0].spec.act_bits - 1
    net = spikes.IfNet(integers, most, wait=None, dtype=dtype)
    for layer, source in zip(net.layers, integers.layers, strict=False):
        whole = most * source.act_step.double() * 2 ** (4 - source.spec.act_bits)
        layer.bias += ((1 - ties) / 32 / whole).view(layer.bias.shape).to(dtype)
    *found, q = net.outputs(x)
    wrong = [
        int((spk.sum(0).long() != level).sum())
        for spk, level in zip(found, integers.outputs(x), strict=False)
    ]
    assert (sum(wrong) == 0) == torch.equal(q, integers.logits(x))
    return wrong


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("bits", [4, 2])
@pytest.mark.parametrize("seed", [0, 1])
def test_spikes_layer_by_layer_equal_the_levels(dtype, bits, seed):
    net, x = chip(bits, seed)
    assert wrong_counts(net.to_integers(), x, dtype) == [0, 0, 0, 0]


@pytest.mark.parametrize("bits", [4, 2])
def test_neither_half_a_threshold_nor_the_tie_break_may_go(bits, monkeypatch):
    net, x = chip(bits, 0)
    integers = net.to_integers()
    assert all(wrong_counts(integers, x, torch.float64, ties=0))  # rounding decides the ties
    assert all(wrong_counts(integers, x, torch.float64, ties=-1))  # each tie fires
    real = neurons.leaky
    monkeypatch.setattr(neurons, "leaky", lambda *given, mem: real(*given, mem=0 * mem))
    assert all(wrong_counts(integers, x, torch.float64))


@pytest.mark.parametrize("way", [spikes.LevelNet, lambda net: spikes.IfNet(net, 3)])
def test_all_of_an_execution_moves_to_another_device(way):
    net, x = chip(4, 0)
    moved = way(net.to_integers()).to("meta")  # a device that takes no tensor of another one
    assert [out.device.type for out in moved.outputs(x.to("meta"))] == 5 * ["meta"]
    moved.to_empty(device="cpu")
    assert {out.device.type for out in moved.outputs(x)} == {"cpu"}


@pytest.mark.skipif(ab.backend() == "absent", reason="akida is not installed here")
@pytest.mark.parametrize("bits", [4, 2])
def test_akida_gives_the_same_q(bits):
    net, x = chip(bits, 3)
    integers, model = net.to_integers(), ab.to_akida(net)
    levels = spikes.LevelNet(integers)
    assert torch.equal(ab.predict(model, x), levels(x))
    assert torch.equal(ab.potentials(model, x), integers.integers(x))
    levels.layers[0].weights.weight.data[0, 0, 1, 1] += 1
    assert not torch.equal(ab.predict(model, x), levels(x))


def test_free_running_neurons_come_closer_with_time():
    same, error = np.zeros(2), np.zeros(2)
    for seed in range(3):
        net, x = chip(4, seed)
        integers = net.to_integers()
        q = spikes.LevelNet(integers)(x)
        found = [compare.hop(compare.answers(spikes.IfNet(integers, t), x), q) for t in (4, 60)]
        same, error = same + [f[0] for f in found], error + [f[1] for f in found]
    assert same[1] > same[0] + 20
    assert error[1] < error[0] / 2
    assert same[1] / 3 > 85


# ---------------------------------------------------------------------- free-running, with gradients


@torch.no_grad()
def whole_thresholds(bits: int, seed: int, ties: float = 1.0) -> tuple[ab.QuantNet, torch.Tensor]:
    """Give a network whose thresholds and steps are whole numbers before they are rounded.

    A weight is worth 2**-4, a step d such weights (d even), and a bias d / 2 - threshold - 1/32 of them:
    1/32 is what the spikes of the integers take off, and so little that it is rounded away in a threshold.
    """
    torch.manual_seed(seed)
    net, x, high, most = network.q_network(bits), seen(20, seed), 2 ** (bits - 1) - 1, 2**bits - 1
    step, level = torch.tensor(1 / 15), x.float()
    for layer in net.parts:
        weights = torch.randint(-high, high + 1, layer.weight.shape).float()
        weights.flatten(1)[:, 0] = high  # so 2**-4 is each filter's scale
        layer.weight.copy_(weights / 16)
        p, unit = sums(layer.spec, level, weights), step / 16
        if layer.spec.act_bits is None:
            break
        d = 2 * (p.std() * 1.5 / most).round().clamp(min=1)
        threshold = torch.randint(-int(d) - 5, int(d) + 5, layer.bias.shape).float()
        layer.bias.copy_((d / 2 - threshold - ties / 32) * unit)
        layer.log_step.copy_((d * unit).log())
        level = ((p - threshold.view(-1, *[1] * (p.dim() - 2))) / d).ceil().clamp(0, most)
        step = layer.step
    net.quantised = True
    return net, x


@pytest.fixture
def listen(monkeypatch):
    """Give a function that calls another one: the spikes of its neurons, and what it returns."""
    real, found = neurons.leaky, []

    def leaky(*given, **more):
        spk, mem = real(*given, **more)
        found.append(spk.detach())
        return spk, mem

    def listen(function, *given):
        found.clear()
        with torch.no_grad():
            q = function(*given)
        return list(found), q

    monkeypatch.setattr(neurons, "leaky", leaky)
    return listen


@pytest.mark.parametrize("bits", [4, 2])
@pytest.mark.parametrize("steps", [4, 8, 15])
def test_free_running_with_gradients_equals_the_integers(bits, steps, listen):
    net, x = whole_thresholds(bits, 0)
    mine, q = listen(spikes.IfNet(net.to_integers(), steps), x)
    for ours, theirs in zip(mine, listen(spikes.free_running, net, x, steps)[0], strict=True):
        assert 0.1 < ours.mean() < 0.5
        assert torch.equal(ours, theirs)
    assert spikes.free_running(net, x, steps).detach() == pytest.approx(q, rel=1e-5, abs=1e-4)
    shorter, other = listen(spikes.free_running, net, x, steps - 1)
    for ours, theirs in zip(mine, shorter, strict=True):
        assert (ours.sum(0) != theirs.sum(0)).float().mean() > 0.1
    assert (other - q).abs().max() > 0.005


@pytest.mark.parametrize("bits", [4, 2])
def test_gradients_reach_every_layer(bits):
    net, x = chip(bits, 0)
    q = spikes.free_running(net, x, 8)
    assert compare.hop(q, spikes.IfNet(net.to_integers(), 8)(x))[1] < 0.5 * q.std()
    q.square().sum().backward()
    for layer in net.parts:
        for values in (layer.weight, layer.bias):
            assert values.grad.isfinite().all()
            assert (values.grad != 0).float().mean() > 0.2


# ---------------------------------------------------------------------- float weights


def test_relu_with_the_teachers_weights_is_the_teacher():
    teacher, net, x = lively(network.q_network(), 0), spikes.FloatQ(), seen(20, 0)
    net.body.load_state_dict(teacher.state_dict())
    *acts, q = net.outputs(x)
    assert 0.1 < max(act.max() for act in acts) < 6
    assert q.detach() == pytest.approx(teacher(x).detach(), abs=1e-5)
    for large in (net.body, teacher):
        large.parts[0].weight.data *= 20
    assert max(act.max() for act in net.outputs(x)) > 6  # the teacher's activations are clipped there
    assert (net(x) - teacher(x)).abs().max() > 0.1


@torch.no_grad()
@pytest.mark.parametrize("levels", [4, 15])
def test_float_spikes_layer_by_layer_equal_levels(levels):
    net, x = spikes.FloatQ(levels), seen(20, 1)
    lively(net.body, 1)
    conversion.balance(net, x, 0.99)
    conversion.run_as(net, "levels", levels=levels)
    expected = net.outputs(x)

    def unlike(wait: int) -> tuple[list[float], float]:
        conversion.run_as(net, "spikes", wait=wait)
        found = net.outputs(x)
        pairs = zip(found[:-1], expected[:-1], strict=True)
        different = [((f.mean(0) - e[0]).abs() > 1e-4).double().mean().item() for f, e in pairs]
        return different, (found[-1] - expected[-1]).abs().max().item()

    different, error = unlike(levels - 1)
    assert max(different) < 1e-3  # floats may break a tie
    assert error < 1e-2
    different, error = unlike(0)
    assert min(different[1:]) > 0.02
    assert error > 0.05


# ---------------------------------------------------------------------- one learns from another


@pytest.fixture(scope="module")
def teacher() -> ab.QuantNet:
    """A network that plays nonsense, but another action now and then."""
    net = lively(network.q_network(), 7)
    frames = emulator.pictures(lambda f: np.zeros(len(f), int), 200, seed=1, games=4)
    q = compare.answers(net, emulator.levels(frames[40:]))
    net.parts[-1].weight.data /= 10 * q.std()
    net.parts[-1].bias.data -= q.mean(0)
    net.parts[-1].bias.data -= compare.answers(net, emulator.levels(frames[40:])).mean(0)
    return net.requires_grad_(requires_grad=False)


class Killed(Exception):
    pass


@pytest.fixture
def teach(monkeypatch, tmp_path, teacher):
    """Give a function that teaches in a folder, and may be killed in the middle of a round."""

    def teach(folder: str, recipe: imitate.Recipe, killed_at: int = 10**6, size: int = 2, **options):
        monkeypatch.setattr(imitate, "ROUND", size)
        monkeypatch.setenv("SNN_RESULTS", str(tmp_path / folder))
        run = lesson.Run(lesson.Config(scale="quick", seed=5), Path(__file__))
        run.begin(5)
        student = lively(network.q_network(), 3)

        def asked(frames):
            return teacher(emulator.levels(frames))

        def progress(items, label):
            for item in items:
                if item == killed_at:
                    raise Killed
                yield item

        monkeypatch.setattr(run, "progress", progress)
        told = imitate.imitate(run, "student", student, asked, recipe, emulator.levels, **options)
        return student.state_dict(), [{k: v for k, v in entry.items() if k != "seconds"} for entry in told]

    return teach


TINY = imitate.Recipe(decisions=96, games=2, horizon=8, batch=8, passes=2)
"""Three rounds of two updates."""


def same(one: dict, other: dict) -> bool:
    return all(torch.equal(w, other[k]) for k, w in one.items() if isinstance(w, torch.Tensor))


def comparable(told: list[dict]) -> str:
    return repr(told)  # nan (no episode ended) equals itself there


def test_a_resumed_student_equals_an_unbroken_one(teach, tmp_path, monkeypatch):
    weights, told = teach("unbroken", TINY)
    assert [entry["steps"] for entry in told] == [32, 64, 96]
    with pytest.raises(Killed):
        teach("killed", TINY, killed_at=5)
    shutil.copytree(tmp_path / "killed", tmp_path / "forgetful")
    resumed, retold = teach("killed", TINY)
    assert comparable(retold) == comparable(told)
    assert same(resumed, weights)
    assert comparable(teach("unbroken", TINY)[1]) == comparable(told)  # a finished one is only read
    monkeypatch.setattr(torch, "set_rng_state", lambda _: None)
    assert not same(teach("forgetful", TINY)[0], weights)


def test_the_student_comes_to_choose_as_the_teacher_does(teach):
    told = teach("learning", imitate.Recipe(decisions=2048, games=8, horizon=16, batch=64), size=4)[1]
    loss, agreement = ([entry[name] for entry in told] for name in ("loss", "agreement"))
    assert len(told) == 4
    assert loss[-1] < 0.5 * loss[0]
    assert agreement[-1] > agreement[0] + 10
    assert agreement[-1] > 55


def test_another_loss_gets_what_student_and_teacher_saw(teach, teacher):
    calls = []

    def loss(student, x, told):
        calls.append((x.shape, torch.allclose(teacher(x), told, atol=1e-5), told.unique(dim=0).numel()))
        return student(x).square().mean()

    told = teach("silent", TINY, loss=loss)[1]
    assert len(calls) == 6 * 2 * 16 // 8  # updates, passes, batches
    assert all(shape == (8, *emulator.SHAPE) and equal for shape, equal, _ in calls)
    assert max(different for *_, different in calls) > 3
    assert told[-1]["loss"] < told[0]["loss"]
    weights = teach("silent", TINY, loss=loss)[0]  # a finished one is only read
    assert not same(weights, teach("plain", TINY)[0])


def test_the_loss_by_hand_and_what_it_asks_for():
    theirs = imitate.TAU * torch.tensor([[0.0, np.log(4)]])
    by_hand = -(torch.tensor([0.2, 0.8]) * torch.tensor([0.5, 0.5]).log()).sum() + np.log(4) ** 2 / 200
    found = imitate.distance(torch.zeros(1, 2), theirs)
    assert float(found) == pytest.approx(float(by_hand) + 20 * 0.5 * np.log(4), rel=1e-5)
    torch.manual_seed(0)
    q = torch.randn(50, 3) * 0.02
    least = imitate.distance(q, q)
    others = [q + size * torch.randn_like(q) for size in (0.02, 0.1, 1.0)]
    others += [q + 0.01, q - 0.01, q * 0.9, -q, q.flip(1)]  # a shift changes no action, but the units
    assert all(imitate.distance(other, q) > least for other in others)
    costly, cheap = torch.tensor([[0.3, 0.0]]), torch.tensor([[0.003, 0.0]])
    slope = []
    for told in (costly, cheap):  # the same mistake, where much and where little depends on it
        student = torch.tensor([[0.0, 0.01]], requires_grad=True)
        imitate.distance(student, told).backward()
        slope.append(float(student.grad[0, 1]))
    assert slope[0] > 20 * slope[1] > 0


def test_two_executions_take_turns_and_levels_pay_for_spikes():
    net, x = chip(2, 0)
    told = torch.randn(20, 3) * 0.02
    priced = {strength: capstone.Both(strength) for strength in (0.0, 2.0)}
    loss = {strength: both(net, x, told) for strength, both in priced.items()}
    assert loss[0.0].item() == pytest.approx(imitate.distance(net(x), told).item(), rel=1e-5)
    free = imitate.distance(spikes.free_running(net, x[:10], capstone.FREE), told[:10])
    for both in priced.values():
        assert both(net, x, told).item() == pytest.approx(free.item(), rel=1e-5)
    sent = sum(layer[1] for layer in compare.events(spikes.LevelNet(net.to_integers()), x))
    assert (loss[2.0] - loss[0.0]).item() == pytest.approx(2 * sent / 1000, rel=1e-2)
    (loss[2.0] - loss[0.0]).backward()
    for layer in net.parts[:-1]:
        assert layer.weight.grad.abs().max() > 0
        assert not layer._forward_hooks  # what listened on would keep each decision that it plays


# ---------------------------------------------------------------------- comparisons


def test_hop_and_errors_by_hand():
    ours = torch.tensor([[1.0, 2, 3], [3, 2, 1], [0, 5, 0], [1, 0, 0]])
    theirs = torch.tensor([[1.0, 2, 4], [0, 2, 1], [0, 5, 0], [1, 0, -2]])
    assert compare.hop(ours, theirs) == (75.0, 0.5)
    assert compare.hop(ours, ours) == (100.0, 0.0)
    assert compare.mean_and_error([1, 2, 3, 4]) == (2.5, pytest.approx((5 / 3) ** 0.5 / 2))
    assert compare.mean_and_error([20.0]) == (20.0, 0.0)


def by_hand(weights: list[list[int]], threshold: list[int], step: float, bits: int | None) -> ab.IntLayer:
    """A dense layer of integers, whose inputs lie in a row."""
    spec = ab.Dense(len(weights), act_bits=bits)
    rows = torch.tensor(weights)[:, None, None, :] if bits else torch.tensor(weights)[:, :, None, None]
    return ab.IntLayer(spec, rows, torch.tensor(threshold), torch.full((len(weights),), step))


def test_events_of_a_network_by_hand():
    first = by_hand([[1, 0], [0, -2], [3, 1]], [0, 0, 3], 2.0, 4)
    layers = [first, by_hand([[1, 0, 0]] * 3, [0] * 3, 1.0, None)]
    net = spikes.LevelNet(ab.IntNet([ab.InputData(4)], (1, 1, 2), layers))
    x = torch.tensor([[4, 1], [0, 0], [15, 15], [1, 0]]).view(4, 1, 1, 2)
    # Potentials 4 -2 13, 0 0 0, 15 -30 60, 1 0 3; levels ceil((p - threshold) / 2), at most 15:
    expected = [[2, 0, 5], [0, 0, 0], [8, 0, 15], [1, 0, 0]]
    assert net.outputs(x)[0].tolist() == expected
    ((sent, spikes_, silent),) = compare.events(net, x)
    assert (sent, spikes_, silent) == pytest.approx((5 / 4, 31 / 4, 7 / 12))


def fan_out(x: torch.Tensor, weights: torch.Tensor) -> int:
    """Count the weights other than 0 that values of x [C, H, W] meet, with stride 2 and padding "same"."""
    if weights.shape[2] != 3:  # a dense layer
        return sum(int((weights[:, c, row, col] != 0).sum()) for c, row, col in x.nonzero().tolist())
    rows, columns = ((side + 1) // 2 for side in x.shape[1:])
    up, left = (0 if side % 2 == 0 else 1 for side in x.shape[1:])
    met = 0
    for c, row, col in x.nonzero().tolist():
        for i in range(3):
            for j in range(3):
                down, right = row + up - i, col + left - j
                hits = down % 2 == right % 2 == 0 and 0 <= down < 2 * rows and 0 <= right < 2 * columns
                met += int((weights[:, c, i, j] != 0).sum()) if hits else 0
    return met


def test_operations_equal_a_count_by_hand():
    net, _ = chip(4, 0)
    integers = net.to_integers()
    levels, free = spikes.LevelNet(integers), spikes.IfNet(integers, 6)
    weights = [layer.weights for layer in integers.layers]
    assert all((w == 0).any() for w in weights)
    for place in ((0, 0, 0), (2, 30, 41), (1, 12, 17), (3, 7, 8)):
        x = torch.zeros(1, *emulator.SHAPE, dtype=torch.uint8)
        x[0][place] = 5
        first = fan_out(x[0], weights[0])
        inputs = [x[0], *(out[0] for out in levels.outputs(x)[:-1])]
        expected = [fan_out(flat(given, w), w) for given, w in zip(inputs, weights, strict=True)]
        found = compare.operations(levels, x)
        assert [ops.macs + ops.acs for ops in found] == expected
        assert (found[0].macs, found[0].acs) == (first, 0)
        assert 0 < first < found[0].dense
        added = [
            sum(fan_out(flat(spk[t, 0], w), w) for t in range(6))
            for spk, w in zip(free.outputs(x)[:-1], weights[1:], strict=True)
        ]
        found = compare.operations(free, x)
        assert (found[0].macs, found[0].acs) == (first, 0)  # a still picture: one pass
        assert [(ops.macs, ops.acs) for ops in found[1:]] == [(0, a) for a in added]
        assert all(added)


def flat(values: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Give a layer's inputs the axes that its weights have: [C, H, W], or what a dense layer gets of them."""
    return values.reshape(weights.shape[1:]) if weights.shape[2] != 3 else values


# ---------------------------------------------------------------------- agents


def eyes_of(name: str) -> agents.Eyes:
    """Let one agent see events, one its last action too, and the others pictures."""
    return {"events": "events", "aware": "known"}.get(name, "levels")


def trained(name: str) -> nn.Module:
    """Give an agent as it is when it is kept."""
    net = agents.build(name, eyes_of(name))
    channels = agents.CHANNELS[eyes_of(name)]
    lively(getattr(net, "body", net), 0)
    if name in agents.BITS:
        net.calibrate(seen(20, 0))
    elif isinstance(net, spikes.FloatQ):
        conversion.balance(net, seen(20, 0, channels), 0.99)
    return net


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """An empty folder in place of the agents that come with the course."""
    monkeypatch.setattr(checkpoints, "SHIPPED", tmp_path / "shipped")
    checkpoints.SHIPPED.mkdir()
    return checkpoints.SHIPPED


def put(folder: Path, name: str, net: nn.Module, rewards: str = "[1.0]") -> None:
    torch.save(net.state_dict(), folder / f"{name}.pt")
    eyes = f', "eyes": "{eyes_of(name)}"' if eyes_of(name) == "known" else ""  # older cards do not tell
    (folder / f"{name}.json").write_text(f'{{"rewards": {rewards}{eyes}}}', encoding="utf-8")


@pytest.mark.parametrize("name", agents.NAMES)
def test_each_agent_comes_back_and_plays(name, shipped):
    net = trained(name).eval()
    put(shipped, name, net)
    agent = agents.load(name, "quick")
    frames = np.random.default_rng(0).integers(80, 160, (6, 5, 84, 84), dtype=np.uint8)
    frames[:, -1] = np.array([0, 2, 3, 2, 3, 0])[:, None, None]  # the last actions
    x = agent.see(frames)
    assert torch.equal(agent.net(x), net(x).detach())
    assert agent.policy(frames).tolist() == net(x).argmax(1).tolist()
    assert agent.eyes == eyes_of(name)
    assert not torch.equal(agents.build(name, agent.eyes)(x), agent.net(x))
    assert torch.equal(agent.answers(frames), agent.net(x))
    assert not any(p.requires_grad for p in agent.net.parameters())
    if name in agents.BITS:
        assert agents.chip(agent) is agent.net
        spec = agent.net.to_integers().layers[0].spec
        assert (spec.act_bits, spec.weight_bits) == agents.BITS[name]


def test_the_best_player_teaches(shipped):
    put(shipped, "pqn", network.q_network(), "[20, 18]")
    put(shipped, "dqn", network.q_network(), "[21, 10]")
    assert agents.teacher("quick").name == "pqn"
    put(shipped, "dqn", network.q_network(), "[19.5]")
    assert agents.teacher("quick").name == "dqn"
    put(shipped, "aware", network.wider(network.q_network()), "[20]")
    assert agents.teacher("quick").name == "aware"
    (shipped / "aware.pt").unlink()
    (shipped / "pqn.pt").unlink()
    put(shipped, "dqn", network.q_network(), "[-21]")
    assert agents.teacher("quick").name == "dqn"
    (shipped / "dqn.pt").unlink()
    with pytest.raises(UsageError, match=r"^There is no agent 'pqn'"):
        agents.teacher("quick")


@pytest.mark.parametrize(
    ("name", "foreign"),
    [
        ("events", "pqn"),
        ("pqn", "events"),
        ("levels", "pqn"),
        ("four", "clone"),
        ("four", "pqn"),
        ("two", "four"),
        ("ternary", "two"),
    ],
)
def test_weights_of_another_architecture_are_one_clear_line(name, foreign, shipped):
    put(shipped, name, trained(foreign))
    with pytest.raises(UsageError) as caught:
        agents.load(name, "quick")
    assert len(str(caught.value).splitlines()) == 1
    assert f"{name}.pt" in str(caught.value)


def test_an_agent_says_whose_it_is(shipped, tmp_path):
    put(shipped, "pqn", network.q_network())
    assert agents.load("pqn", "quick").origin == "The agent 'pqn' came with the course."
    own = tmp_path / "results" / "capstone_pong_train_pqn" / "quick"
    own.mkdir(parents=True)
    put(own, "pqn", network.q_network())
    assert agents.load("pqn", "quick").origin == f"The agent 'pqn' is your own: {own / 'pqn.pt'}."


def test_weights_without_their_card_are_one_clear_line(shipped):
    torch.save(trained("sparse").state_dict(), shipped / "sparse.pt")
    with pytest.raises(UsageError, match=r"sparse\.json is missing or damaged\.$"):
        agents.load("sparse", "quick")


def test_a_judged_card_lies_beside_the_learners_own_weights_alone(shipped, tmp_path):
    put(shipped, "pqn", network.q_network())
    before = (shipped / "pqn.json").read_bytes()
    checkpoints.judged(tmp_path / "judge", "pqn", "quick", {"rewards": [2.0]})
    assert (shipped / "pqn.json").read_bytes() == before
    assert checkpoints.card(tmp_path / "judge" / "pqn.pt") == {"rewards": [2.0]}
    own = tmp_path / "results" / "capstone_pong_train_pqn" / "quick"
    own.mkdir(parents=True)
    put(own, "pqn", network.q_network())
    checkpoints.judged(tmp_path / "judge", "pqn", "quick", {"rewards": [3.0]})
    assert checkpoints.cards(["pqn"], "quick") == {"pqn": {"rewards": [3.0]}}
    assert checkpoints.card(tmp_path / "judge" / "pqn.pt") == {"rewards": [2.0]}


# ---------------------------------------------------------------------- the benchmark's tables


def test_what_is_lost_is_the_mean_difference_of_the_same_episodes():
    found = {"levels": [20.0, 18.0, 16.0, -10.0], "x": [19.0, 15.0, 16.0]}
    mean, error = accounts.lost(found, "x")
    assert mean == pytest.approx(4 / 3)
    assert error == pytest.approx(np.std([1, 3, 0], ddof=1) / 3**0.5)


def test_the_goal_of_spikes_is_judged_at_the_steps_that_were_chosen_before():
    told, notes = {}, {}

    def measure(name, value, note="", **_):
        told[name], notes[name] = value, note

    run = SimpleNamespace(measure=measure)
    found = {"levels": [19.0, 19.0], "spikes, T 2": [20.0, 20.0], "spikes, T 4": [17.0, 18.0]}
    accounts.measure_rewards(run, "sparse", 300, found)
    assert notes["levels: reward"] == "2 episodes from seed 40000, +- 0.00, cut after 300 decisions"
    assert notes["spikes, T 4: reward lost"] == "+- 0.50"
    accounts.measure_rewards(run, "sparse", 300, found, first=42_000)
    assert notes["levels: reward"].startswith("2 episodes from seed 42000, ")
    assert {name: value for name, value in told.items() if "lost" in name} == {
        "spikes, T 4: reward lost": 1.5
    }


def test_an_agent_is_no_relative_of_its_own(shipped):
    for name, reward in {"four": 19.0, "sparse": 18.0}.items():
        put(shipped, name, trained(name))
        card = {"reports": [judging.Report([reward], judging.REPORT.start).told()]}
        (shipped / f"{name}.json").write_text(json.dumps(card), encoding="utf-8")
    run = SimpleNamespace(config=capstone.Config(scale="quick"))
    for agent, other in {"four": 18.0, "sparse": 19.0}.items():
        assert [row[1] for row in accounts.relatives(run, agent, emulator.STICKY)] == [other]


@pytest.mark.parametrize("energy", [None, ab.Energy("n", "s", True, 900, 950, 1000)])
def test_the_card_tells_its_energy_where_there_is_one(energy, monkeypatch):
    asked = []
    monkeypatch.setattr(ab, "energy", lambda _, x, repeats: asked.append(len(x) * repeats) or energy)
    monkeypatch.setattr(meters, "measure", lambda *_: None)
    tables = {}
    run = SimpleNamespace(
        device=torch.device("cpu"), table=lambda title, _, rows: tables.update({title: rows})
    )
    accounts.energy(run, nn.Identity(), "model", {"levels": (1e6, 0.0)}, torch.zeros(300, 4, 3, 3))
    (rows,) = tables.values()
    assert asked[0] >= 10_000  # the power meter must see a second of work
    assert rows[-1] == [
        "AKD1000, this agent",
        *(["-", ab.unmeasured()] if energy is None else [50, rows[-1][2]]),
    ]
    accounts.energy(run, nn.Identity(), None, {}, torch.zeros(300, 4, 3, 3))
    assert len(asked) == 1  # nothing to measure on


# ---------------------------------------------------------------------- steps of the script


def test_without_a_step_the_script_is_the_benchmark():
    assert capstone.Config().step == "benchmark"
    assert capstone.Config().part == ""
    assert capstone.Config(step="train").part == "train_pqn"
    assert capstone.Config(agent="four").part == "benchmark_four"  # it leaves the other's results as they are
    assert (capstone.Config(step="watch").part, capstone.Config(step="watch", agent="two").part) == (
        "watch",
        "watch_two",
    )


@pytest.mark.parametrize(("name", "float_weights"), [("levels", False), (accounts.TEACHER, True)])
def test_episodes_without_sticky_actions_are_those_that_are_reported(name, float_weights, monkeypatch):
    asked = {}

    def play(policy, seeds, most, sticky):
        asked.update(q=policy(np.zeros((1, 5, 84, 84), np.uint8)), seeds=[*seeds], sticky=sticky)
        return [emulator.Played(seed, 21.0, 9) for seed in seeds]

    def policy(net, eyes):
        asked["float"] = not isinstance(net, LevelNet)
        return lambda frames: network.greedy(net, agents.EYES[eyes](frames))

    monkeypatch.setattr(emulator, "play", play)
    monkeypatch.setattr(agents, "policy", policy)
    found = capstone.play_one(capstone.Config(trials=3), name + accounts.CALM, "cpu", torch.zeros(1))
    assert found == {"played": [(40_000 + n, 21.0, 9) for n in range(3)]}
    assert (asked["seeds"], asked["sticky"]) == ([40_000, 40_001, 40_002], 0.0)
    assert asked["float"] == float_weights


@pytest.mark.parametrize(
    ("name", "count"), [("levels", 5), ("spikes, T 4", 3), (f"spikes, T {accounts.TIMES[-1]}", 0)]
)
def test_levels_play_the_most_episodes_and_the_others_the_first_of_them(name, count, monkeypatch):
    monkeypatch.setattr(
        emulator, "play", lambda _policy, seeds, _most: [emulator.Played(seed, 21.0, 9) for seed in seeds]
    )
    x = agents.load("sparse", "quick").see(np.zeros((1, 5, 84, 84), np.uint8))
    for first in (40_000, 42_000):
        found = capstone.play_one(capstone.Config(episodes=5, trials=3, first=first), name, "cpu", x)
        assert [seed for seed, *_ in found["played"]] == [first + n for n in range(count)]
        assert found["q"].shape == (1, 3)


def test_each_step_has_a_name_and_a_command_line():
    steps = [step for step in capstone.Step.__args__ if step not in ("benchmark", "train")]
    assert [capstone.Config(step=step).part for step in steps] == steps
    assert len(steps) == 7
    config = capstone.Config(step="train", learner="dqn", decisions=3000)
    assert config.part == "train_dqn"
    words = ["train", "--scale", "cpu", "--learner", "dqn", "--decisions", "3000"]
    assert command.words(config) == words
    assert lesson._parse(capstone.Config, capstone.SCALES, words, SCRIPT, "") == config


def test_results_and_journal_of_a_step_have_their_own_place(tmp_path):
    config = capstone.Config(scale="quick", step="train", learner="dqn", decisions=2000)
    metrics = lesson.execute(lambda _, run: run.measure("reward", 20.5), config, SCRIPT)
    folder = tmp_path / "results" / "capstone_pong_train_dqn" / "quick"
    assert (folder / "metrics.json").is_file()
    assert metrics["lesson"] == "capstone_pong_train_dqn"
    assert "capstone_pong.py train --scale quick --learner dqn --decisions 2000" in metrics["command"]
    text = (tmp_path / "journal.md").read_text(encoding="utf-8")
    begin, end, here = (
        text.index(f"<!-- measured:{mark}")
        for mark in (
            "begin capstone_pong_train_dqn quick ",
            "end capstone_pong_train_dqn quick ",
            "here capstone_pong -->",
        )
    )
    assert begin < end < here
    assert "measured:here" not in text[begin:here]


def test_a_steps_block_goes_to_the_capstones_place_alone():
    foreign = (b"capstone_gameworld", b"capstone_po", b"19_sensors")
    others = [b"<!-- measured:here " + name + b" -->" for name in foreign]
    own, key = b"<!-- measured:here capstone_pong -->", "capstone_pong_train_pqn cpu"
    old = b"\n\n".join([*others, own, b"my words"])
    found, warning = journal.with_block(old, key, "reward 20.5")
    assert warning is None
    before, after = found.split(b"reward 20.5")
    assert re.sub(rb"\s+", b" ", after).startswith(
        b" <!-- measured:end capstone_pong_train_pqn cpu --> <!-- measured:here capstone_pong -->"
    )
    assert before.startswith(b"\n\n".join(others))
    assert after.endswith(b"my words")
    again, _ = journal.with_block(found, key, "reward 21")
    assert again.count(b"measured:begin") == 1
    elsewhere, _ = journal.with_block(b"\n\n".join(others), key, "reward 20.5")
    assert elsewhere.startswith(b"\n\n".join(others))  # no place of its own: the end


def test_an_unknown_step_is_one_clear_line():
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "nonsense"],
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert "nonsense" in done.stderr


@pytest.mark.parametrize(
    ("step", "agent"), [("watch", capstone.Config().agent), ("sparsify", "four"), ("convert", "pqn")]
)
def test_a_step_without_its_agent_is_one_clear_line(step, agent, shipped, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), step, "--scale", "quick"])
    with pytest.raises(SystemExit) as stop:
        lesson.start(capstone.main, capstone.Config, capstone.SCALES)
    told = capsys.readouterr()
    assert stop.value.code == 2
    assert len(told.err.splitlines()) == 1
    assert f"There is no agent '{agent}'" in told.err
    assert str(shipped) in told.err


def test_titles_say_what_was_measured():
    assert curves.title_of_curves({"PQN": -21.0, "DQN": 3.0}) == "Points at the end: PQN -21.0, DQN 3.0"
    title = charts.title_of_conversion(4, -20.0, 20.0)
    assert title == "4 levels: -20.0 points as an ANN, 20.0 as free-running spikes"
    assert charts.title_of_views({"pictures": -3.0, "events": 9.0}) == "Points: pictures -3.0, events 9.0"
    plain = charts.Spot("4 bits", 10.0, 9.0, 0.1)
    best = charts.Spot("price 1", 50.0, 2.0, 0.1)
    title = charts.title_of_front(plain, best)
    assert title == "4 bits: 9.0 points with 10 spikes; price 1: 2.0 with 50"
    title = charts.title_of_steps({2: -3.0, 15: 9.0}, {2: 50.0, 30: 75.0})
    assert title == "T = 2: -3.0 points, T = 15: 9.0; T = 30 chooses as the levels do in 75.0 %"
    title = charts.title_of_benchmark(-3.0, 8.0, 4)
    assert title == "-3.0 of 21 points as levels, 8.0 as free-running spikes, T = 4"
    title = charts.title_of_latency("chip", 0.25, 12.0)
    assert title == "chip: half of the decisions take 0.25 ms at most, 99 % of them 12 ms"


def test_the_front_holds_whom_no_other_beats_in_both():
    spots = [charts.Spot(str(n), spikes, reward, 0.1) for n, (spikes, reward) in enumerate(FOUR)]
    assert [spot.name for spot in charts.front(spots)] == ["3", "1", "0"]
    assert charts.front([]) == []


FOUR = [(500.0, 18.0), (300.0, 17.0), (400.0, 16.0), (200.0, -3.0), (500.0, 17.5)]


def test_a_short_last_round_is_left_out():
    curve = [{"steps": 100.0}, {"steps": 200.0}, {"steps": 240.0}]
    assert curves.rounds(curve) == curve[:2]
    curve[-1]["steps"] = 260.0
    assert curves.rounds(curve) == curve
    assert (curves.rounds(curve[:1]), curves.rounds([])) == (curve[:1], [])


def test_who_goes_on_has_learnt_from_all_frames_before():
    card = {"curve": [{"steps": 500_000.0}, {"steps": 1e6}]}
    assert accounts.frames_of(card) == 4.0
    assert accounts.frames_of(card | {"before": 5e6}) == 24.0
    assert accounts.frames_of({}) == "-"


def test_the_aware_learner_begins_as_pqns_player_plays(shipped):
    net = lively(network.q_network(), 0)
    put(shipped, "pqn", net)
    card = json.loads((shipped / "pqn.json").read_text(encoding="utf-8"))
    (shipped / "pqn.json").write_text(json.dumps(card | {"curve": [{"steps": 7.0}]}), encoding="utf-8")
    begun = capstone.begin(capstone.Config(scale="quick", step="train", learner="aware"), FIRST)
    assert (begun.eyes, begun.decisions) == ("known", 7.0)
    x = seen(5, 1, channels=6)
    assert torch.equal(begun.net(x), net(x[:, :4]))
    new = capstone.begin(capstone.Config(scale="quick", step="train"), FIRST)
    assert (new.eyes, new.decisions) == ("levels", 0)


def test_a_further_seed_of_the_aware_learner_trains_its_own_pqn_player(monkeypatch):
    learnt = []

    def learn(run, name, net, recipe):
        learnt.append((run.seed, name, recipe.steps, net))
        return [{"steps": 1000.0}, {"steps": 3000.0}]

    monkeypatch.setattr(pqn, "learn", learn)
    config = capstone.Config(scale="quick", step="train", learner="aware", decisions=3000)
    begun = capstone.begin(config, SimpleNamespace(is_first_seed=False, seed=7))
    [(*told, player)] = learnt
    assert told == [7, "pqn", 3000]
    assert (begun.eyes, begun.decisions) == ("known", 3000.0)
    x = seen(5, 1, channels=6)
    assert torch.equal(begun.net(x), player(x[:, :4]))


class Asked(Exception):
    pass


@pytest.mark.parametrize(("decisions", "start"), [(2_000, 500), (600_000, 5_000)])
def test_a_short_dqn_trains_too(decisions, start, monkeypatch):
    def learn(run, name, net, recipe):
        raise Asked(recipe.start)

    monkeypatch.setattr(dqn, "learn", learn)
    monkeypatch.setattr(emulator, "difference", lambda *_: 0.0)
    config = capstone.Config(scale="quick", step="train", learner="dqn", decisions=decisions)
    with pytest.raises(Asked, match=f"^{start}$"):
        capstone.train(config, SimpleNamespace(seed=0, proof=lambda *_: None))


def test_a_curve_goes_on_where_the_player_before_stopped(monkeypatch):
    drawn = []
    monkeypatch.setattr(figures, "legend_outside", lambda ax: drawn.append(ax.figure))
    curve = [{"steps": 1e6, "seconds": 60.0, "reward": 3.0, "points": 9.0}]
    report = judging.Report([5.0], judging.REPORT.start)
    curves.draw_curves(SimpleNamespace(figure=lambda *_: None), {"AWARE": curves.Learnt(curve, report, 5e6)})
    (line,) = drawn[0].axes[0].lines
    assert line.get_xdata().tolist() == [6.0]


def test_a_curve_tells_whether_it_counts_points_or_episodes():
    assert curves.is_by_episodes([{"steps": 1.0, "episodes": 3.0}])
    assert not curves.is_by_episodes([{"steps": 1.0, "points": 3.0}])
    assert not curves.is_by_episodes([])
