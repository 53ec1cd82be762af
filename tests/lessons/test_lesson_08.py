"""Lesson 08: its proofs hold for right code and miss broken code, and its timing says what was timed."""

import dataclasses
from collections.abc import Iterator
from functools import partial
from typing import Any

from snn_course.runs import lesson
from snn_course import data
from snn_course.networks import neurons

import pytest
import torch

L = lesson.load(8)
SMALL = L.Config(scale="quick", num_steps=8, num_hidden=12, batch_size=5, images=500)


class Notes:
    """Stands in for a Run: keeps what is measured, and ends at a missed proof as a Run does."""

    scale = "quick"
    device = torch.device("cpu")
    seed = 0

    def __init__(self) -> None:
        self.values: dict[str, float] = {}
        self.tables: dict[str, list[list[Any]]] = {}
        self.figures: dict[str, Any] = {}
        self.sentences: list[str] = []

    def proof(self, name: str, error: float, at_most: float = 1e-6) -> None:
        self.values[name] = error
        if not error <= at_most:
            raise lesson.ProofMissed(name)

    def measure(self, name: str, value: float, unit: str = "", **_bounds: Any) -> None:
        self.values[name] = value

    def table(self, title: str, columns: list[str], rows: list[list[Any]]) -> None:
        assert all(len(row) == len(columns) for row in rows)
        self.tables[title] = rows

    def figure(self, fig: Any, name: str) -> None:
        fig.canvas.draw()
        self.figures[name] = fig

    def say(self, sentence: str) -> None:
        self.sentences.append(sentence)

    def progress(self, items: Any, _label: str) -> Iterator[Any]:
        return iter(items)


@pytest.fixture
def run() -> Notes:
    torch.manual_seed(0)
    return Notes()


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = 3 * torch.rand(5, 784, generator=generator)  # brighter than pixels, so that many neurons fire
    return images.expand(SMALL.num_steps, -1, -1), torch.arange(5)


def test_shapes_hold_for_other_sizes(run: Notes) -> None:
    L.show_shapes(SMALL, run)
    assert run.values == {"lines of another shape": 0}
    (rows,) = run.tables.values()
    assert rows[0][1:] == ["[5, 12]", "9420 weights, no state"]
    assert rows[-1][1] == "[5]"


def test_shapes_of_a_net_that_stacks_along_the_batch_are_caught(
    run: Notes, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = L.Net.forward

    def stacked_along_the_batch(net: Any, x: torch.Tensor) -> Any:
        return [record.transpose(0, 1) for record in right(net, x)]

    monkeypatch.setattr(L.Net, "forward", stacked_along_the_batch)
    with pytest.raises(lesson.ProofMissed, match="shape"):
        L.show_shapes(SMALL, run)


def test_all_ways_through_the_network_are_equal(run: Notes, batch: Any) -> None:
    L.prove_equal(SMALL, run, *batch)
    assert len(run.values) == 9


def no_reset_at_all(lif: Any, cur: torch.Tensor) -> Any:
    return neurons.leaky(cur, lif.beta, reset="none")


def no_gradient_through_spikes(lif: Any, cur: torch.Tensor) -> Any:
    """Right spikes, wrong gradients: none goes back through the spikes."""
    spk, mem = neurons.leaky(cur, lif.beta, reset=lif.reset_mechanism)
    return spk.detach() + 0 * mem, mem


@pytest.mark.parametrize("broken", [no_reset_at_all, no_gradient_through_spikes])
def test_a_broken_scan_is_caught(
    run: Notes, batch: Any, broken: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(L, "fused", broken)
    with pytest.raises(lesson.ProofMissed):
        L.prove_equal(SMALL, run, *batch)


def test_a_broken_rung_is_caught(run: Notes, batch: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def blurred(net: Any, x: torch.Tensor) -> Any:
        return L.unbound_layers(net, x + torch.rand(len(x), 1, 1))

    monkeypatch.setitem(L.LADDER, "static input hoisted", blurred)
    with pytest.raises(lesson.ProofMissed, match="all rungs"):
        L.prove_equal(SMALL, run, *batch)


def test_a_gradient_that_is_not_a_number_is_caught(batch: Any) -> None:
    def poisoned(net: Any, x: torch.Tensor) -> Any:
        spk1, spk2, mem2 = net(x)
        return spk1, spk2, mem2 + 0 * (mem2 - mem2).sqrt()  # value 0, slope infinite times 0

    net = L.Net(12, 0.9).double()
    spikes, error = L.compare(net, [L.LADDER[L.LAST], poisoned], batch[0].double(), batch[1])
    assert spikes == 0
    assert not error <= 1e-5


def test_hoisting_an_input_that_moves_is_caught(batch: Any) -> None:
    x = torch.rand(8, 5, 784, dtype=torch.float64)
    spikes, error = L.compare(L.Net(12, 0.9).double(), [L.LADDER[L.LAST]], x, batch[1])
    assert spikes > 0 or error > 1e-5


def test_reset_makes_samples_independent_and_its_absence_shows(run: Notes) -> None:
    L.prove_reset(dataclasses.replace(SMALL, num_steps=25), run)
    proof, none, parent, other = run.values.values()
    assert proof == 0
    assert none == parent > 1
    assert other == 0  # snnTorch 1.0.0 empties the neurons of all networks


def test_a_reset_that_does_nothing_is_caught(run: Notes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(L.utils, "reset", lambda net: None)
    with pytest.raises(lesson.ProofMissed, match="reset"):
        L.prove_reset(SMALL, run)


def test_a_second_training_step_without_a_reset_meets_the_known_error(run: Notes, batch: Any) -> None:
    L.second_backward(SMALL, run, batch)
    rows = {row[0]: row[1:] for row in run.tables["Two training steps"]}
    assert "backward through the graph a second time" in rows["nothing"][1]
    assert "runs" not in rows["retain_graph=True"][1]
    assert rows["detach"][1] == rows["utils.reset(net)"][1] == "runs"
    assert float(rows["detach"][0]) > 0
    assert float(rows["utils.reset(net)"][0]) == 0
    assert run.values["catch: no reset: errors of two training steps"] == 1


def test_hidden_state_gives_what_the_step_loop_gives(batch: Any) -> None:
    torch.manual_seed(0)
    net = L.sequential(SMALL)
    twin = L.Net(SMALL.num_hidden, SMALL.beta)
    twin.fc1.load_state_dict(net[0].state_dict())
    twin.fc2.load_state_dict(net[2].state_dict())
    L.utils.reset(net)
    spk = torch.stack([net(x_t)[0] for x_t in batch[0]])
    assert torch.equal(spk, twin(batch[0])[1])


def test_step_loop_goes_on_where_it_stopped_unless_reset() -> None:
    net, x = L.Net(12, 0.9), 3 * torch.rand(10, 5, 784)
    whole = net(x)[2]
    halves = torch.cat([net(x[:4])[2], net(x[4:], reset=False)[2]])
    assert torch.equal(whole, halves)
    assert not torch.equal(whole, torch.cat([net(x[:4])[2], net(x[4:])[2]]))


def test_race_times_each_work_and_names_the_absent(run: Notes, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    threads = torch.get_num_threads()
    clock = iter(range(1000))
    monkeypatch.setattr(L.time, "process_time", lambda: next(clock) / 1000)
    monkeypatch.setattr(L.time, "perf_counter", lambda: next(clock) / 1000)
    works = {"slow": partial(calls.append, "slow"), "fast": partial(calls.append, "fast"), "none": None}
    spent = L.race(run, "title", works)
    assert calls == ["slow", "fast"] * 4  # in turn, one round to warm up
    assert spent == {"slow": pytest.approx([1] * 3), "fast": pytest.approx([1] * 3)}
    assert torch.get_num_threads() == threads
    assert [row[0] for row in run.tables["title, forward + backward"]] == ["slow", "fast", "none"]
    assert run.tables["title, forward + backward"][-1][1] == "not installed"


def test_gain_is_the_median_of_the_rounds() -> None:
    assert L.gain([10.0, 20.0, 900.0], [5.0, 5.0, 5.0]) == 4


def test_ladder_and_neurons_are_timed(run: Notes, batch: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(L.SHAPES, "quick", ((5, 2, 3), (6, 2, 3)))
    monkeypatch.setattr(L, "peers", lambda beta: {"here 1.0": lambda cur: 2 * cur, "away": None})
    medians = L.climb(SMALL, run, *batch)
    L.time_neurons(dataclasses.replace(SMALL, peers=True), run)
    assert list(medians) == list(L.LADDER)
    assert all(value > 0 for value in run.values.values())
    assert [name for name in run.values if "peer" in name] == [
        f"gain over the fastest peer, T {t}" for t in (5, 6)
    ]
    assert run.tables["Neurons alone, (5, 2, 3), forward + backward"][-1] == ["away", "not installed", ""]


def test_peers_are_compared_in_their_own_convention(run: Notes, monkeypatch: pytest.MonkeyPatch) -> None:
    def theirs(cur: torch.Tensor) -> torch.Tensor:
        return neurons.leaky(cur, torch.tensor(0.9, dtype=cur.dtype), reset="subtract first")[0]

    monkeypatch.setattr(L, "peers", lambda beta: {"here 1.0": theirs, "away": None})
    assert L.compare_peers(run) == {"here 1.0": theirs, "away": None}
    assert run.values == {"here 1.0: spikes unlike ours, same convention": 0}
    here, away = run.tables["Spikes that differ from the course's neuron"]
    assert here[1] == 0 < here[2]
    assert away == ["away", "not installed", ""]


def test_a_compiled_scan_with_wrong_gradients_is_caught(
    run: Notes, batch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(lif: Any, cur: torch.Tensor, num_steps: int | None = None) -> Any:
        still = num_steps is not None
        return no_gradient_through_spikes(lif, cur.expand(num_steps, *cur.shape) if still else cur)

    monkeypatch.setattr(L, "compiled", broken)
    with pytest.raises(lesson.ProofMissed):
        L.prove_equal(SMALL, run, *batch)


def digits(n: int) -> data.Images:
    """Give images that any right network can learn: class k has its own block of bright pixels."""
    labels = torch.arange(n) % 10
    images = torch.zeros(n, 1, 28, 28, dtype=torch.uint8)
    for row, label in enumerate(labels.tolist()):
        images[row, 0, 2 * label : 2 * label + 3] = 255
    return data.Images(images, labels, "blocks", "train", data.DIGITS, "made here", False, n)


def test_training_learns_and_mistakes_cost(run: Notes) -> None:
    config = dataclasses.replace(SMALL, num_steps=10, num_hidden=50)
    net = L.train(config, run, L.shown(config, run, digits(2000)))
    tests = L.shown(config, run, digits(500))
    L.show_spikes(run, net, tests)
    swapped = L.swap_time_and_batch(run, net, tests)
    right = L.read_counts(run, net, tests)
    L.carry_over(run, net, tests, right, swapped)
    assert run.values["accuracy, spike count"] > 90
    assert run.values["catch: no reset: points lost"] > 3
    assert run.values["catch: T and B swapped: accuracy"] < 40
    assert len(right) == len(swapped) == 10
    assert set(run.figures) == {"spikes", "reading", "mistakes"}


def test_training_starts_from_the_seed(run: Notes) -> None:
    shown = L.shown(SMALL, run, digits(500))
    weights = [L.train(SMALL, run, shown).fc1.weight for _ in range(2)]
    assert torch.equal(*weights)


def test_the_network_is_drawn_with_its_sizes(run: Notes) -> None:
    L.draw_network(SMALL, run)
    title = run.figures["network"].get_suptitle()
    weights = sum(parameter.numel() for parameter in L.Net(12, 0.9).parameters())
    assert title.startswith(f"{weights} weights")
    assert f"{5 * 22} membranes" in title


def test_static_input_is_the_same_in_each_step(run: Notes) -> None:
    x, labels = L.shown(SMALL, run, digits(20)).batch(torch.arange(3))
    assert x.shape == (8, 3, 784)
    assert x.stride(0) == 0  # shown, not copied
    assert x.max() == 1
    assert labels.tolist() == [0, 1, 2]


def test_answers_are_counted_up_to_each_step() -> None:
    spk = torch.zeros(3, 2, 10)  # [T, N, 10]
    spk[0, 0, 4] = 1
    spk[1:, 0, 7] = 1
    spk[2, 1, 2] = 1
    assert L.accuracy_by_step(spk, torch.tensor([7, 2])) == [0, 0, 100]
    assert L.share_tied(spk.cumsum(0)).tolist() == [50, 100, 0]


def test_first_step_is_that_of_the_first_spike() -> None:
    spk = torch.zeros(5, 3)
    assert L.first_step(spk) == 6
    spk[2:, 1] = 1
    assert L.first_step(spk) == 3


@pytest.mark.parametrize(
    "wrong", [{"num_steps": 1}, {"batch_size": 1}, {"beta": 1.0}, {"images": 100}, {"num_hidden": 0}]
)
def test_settings_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(lesson.UsageError, match="must be"):
        L.Config(**wrong)


def test_nothing_but_linear_layers_has_weights() -> None:
    names = [name for name, _ in L.Net(12, 0.9).named_parameters()]
    assert names == ["fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"]


def test_titles_say_what_was_measured() -> None:
    assert (
        L.title_of_ladder({L.FIRST: 1.0, L.LAST: 2.0})
        == "The last of 2 ways takes 200 % of the first one's time"
    )
    curves = {"right": [0.0, 50.0], "no reset": [0.0, 60.0]}
    assert L.title_of_mistakes(curves) == "Accuracy: right 50 %, no reset 60 %"
    assert L.title_of_reading([10.0, 20.0, 15.0]) == "Right by counts: 10 % after step 1, 15 % after step 3"
    counts = torch.zeros(1, 10)
    counts[0, 3] = 4
    assert L.title_of_spikes([7], counts) == "a 7: output neuron 3 fires most, 4 times"
