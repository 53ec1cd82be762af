"""Lesson 10: the network computes what it says, its proofs hold, and wrong blocks are caught."""

from copy import deepcopy
from functools import partial
from types import SimpleNamespace

from snn_course.runs import lesson
from snn_course import UsageError, data
from snn_course.networks import neurons, training

import pytest
import snntorch as snn
import torch
from PIL import Image
from torch import nn

L = lesson.load(10)
LEAKY = neurons.leaky


@pytest.fixture
def config():
    return L.Config(scale="quick", device="cpu", width=4, epochs=2)


@pytest.fixture(scope="module")
def sets():
    return tuple(data.load("cifar10", split).subset(200) for split in ("train", "test"))


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (64, 3, 32, 32), dtype=torch.uint8, generator=generator)
    return training.pixels(images), torch.arange(64) % 10


def measured(run, name):
    return run.record.measures[name].values[-1]


# ---------------------------------------------------------------------- network


def step_by_step(net, x):
    """Compute the scores as snnTorch's tutorials do: one time step after the other, state in snn.Leaky."""
    cells = {layer: snn.Leaky(beta=L.BETA) for layer in net.layers()}
    mems, outputs = {layer: cell.reset_mem() for layer, cell in cells.items()}, []

    def fire(layer, spk, around=0):
        out, mems[layer] = cells[layer](layer.norm(layer.conv(spk)) + around, mems[layer])
        return out.to(spk.dtype)

    for x_t in x.unbind(0):
        spk = fire(net.stem, x_t)
        for part in net.body:
            if isinstance(part, L.Block) and part.join == "resnet":
                spk = fire(part.second, fire(part.first, spk), around=spk)
            elif isinstance(part, L.Block):
                spk = L.JOINS[part.join](spk, fire(part.second, fire(part.first, spk)))
            else:
                spk = fire(part, spk)
        outputs.append(net.readout(spk.mean((2, 3))))
    return torch.stack(outputs).mean(0)


@pytest.mark.parametrize("block", [*L.JOINS, "resnet"])
def test_network_equals_the_step_loop_of_snntorch(block):
    torch.manual_seed(0)
    net = L.Net(4, 2, block, stages=2).double().eval()
    for layer in net.layers():  # currents that let neurons fire
        nn.init.constant_(layer.norm.bias, 0.8)
    x = torch.randn(5, 3, 3, 16, 16).double()
    torch.testing.assert_close(net(x), step_by_step(net, x))


@pytest.mark.parametrize("training_mode", [True, False])
def test_still_image_equals_a_sequence_of_it(training_mode, batch):
    """The hoisted convolution, in any memory order, gives the same spikes, scores and gradients."""
    torch.manual_seed(0)
    net, (x, y) = L.Net(8, num_steps=3).double().train(training_mode), batch
    x = x[:8].double()
    grads = []
    for shown in (x, x.contiguous(), x.expand(3, -1, -1, -1, -1)):
        scores, spikes = net.record(shown)
        L.step(net, shown, y[:8])
        grads.append([scores, *spikes, *(p.grad.clone() for p in net.parameters())])
    for others in grads[1:]:
        for mine, theirs in zip(grads[0], others, strict=True):
            torch.testing.assert_close(mine, theirs)


def test_shapes_and_layers(batch):
    net = L.Net(4, 2, in_channels=2, classes=7, num_steps=3)
    x = torch.randn(6, 2, 2, 32, 32)
    scores, spikes = net.record(x)
    assert scores.shape == (2, 7)
    assert len(spikes) == len(net.layers()) == 1 + 3 * 4 + 2
    assert [tuple(spk.shape[2:]) for spk in spikes[::5]] == [(4, 16, 16), (8, 8, 8), (16, 4, 4)]
    assert {len(spk) for spk in spikes} == {6}
    assert all(((spk == 0) | (spk == 1)).all() for spk in spikes)
    assert not any(layer.neuron._forward_hooks for layer in net.layers())
    _, still = net.record(x[0])
    assert {len(spk) for spk in still} == {3}


def test_no_state_is_left_between_two_calls(batch):
    net, x = L.Net(4).eval(), batch[0][:4]
    assert torch.equal(net(x), (net(2 * x), net(x))[1])


def test_ann_twin_has_the_same_weights(batch):
    net, twin = L.Net(4), L.Net(4, neuron=nn.ReLU, num_steps=1)
    twin.load_state_dict({k: v for k, v in net.state_dict().items() if not k.endswith(("beta", "threshold"))})
    assert twin(batch[0]).shape == (64, 10)


def test_threshold_and_beta_reach_the_neurons(batch):
    rates = [
        sum(spk.mean().item() for spk in L.Net(4, threshold=threshold).record(batch[0])[1])
        for threshold in (0.5, 2.0)
    ]
    assert rates[0] > 2 * rates[1]
    assert {layer.neuron.beta.item() for layer in L.Net(4, beta=0.25).layers()} == {0.25}


def test_iand_and_and_stay_binary_and_add_does_not(batch):
    torch.manual_seed(0)
    most = {}
    for block in ("sew", "iand", "and"):
        net, found = L.Net(8, 3, block, stages=1), []
        net.body.register_forward_hook(lambda _, __, spk, found=found: found.append(spk))
        net(batch[0])
        most[block] = found[0].max().item()
    assert most["sew"] > 1
    assert most["iand"] == 1
    assert most["and"] <= 1


# ---------------------------------------------------------------------- proofs


def test_identity_holds_for_any_seed(run):
    for seed in range(10):
        torch.manual_seed(seed)
        L.prove_identity(run)


WRONG_JOINS = {
    "or": ("sew", lambda spk, branch: spk + branch - 2 * spk * branch + 0.1 * (1 - spk)),
    "neuron after the sum": ("sew", lambda spk, branch: LEAKY(spk + branch, 0.5, 0.99)[0]),
    "iand the wrong way": ("iand", lambda spk, branch: branch * (1 - spk)),
    "or for and": ("and", lambda spk, branch: spk + branch - spk * branch),
}


@pytest.mark.parametrize("name", WRONG_JOINS)
def test_wrong_joins_are_caught(name, run, monkeypatch):
    join, wrong = WRONG_JOINS[name]
    monkeypatch.setitem(L.JOINS, join, wrong)
    with pytest.raises(lesson.ProofMissed):
        L.prove_identity(run)


def test_memory_is_predicted_for_any_shape(run, config, batch, monkeypatch):
    monkeypatch.setattr(L, "SIZES", ((1, 8), (2, 64), (4, 64)))
    for width, blocks in ((4, 1), (8, 2)):
        L.measure_memory(L.Config(scale="quick", width=width, blocks=blocks), run, *batch)


def test_graph_that_keeps_more_is_caught(run, config, batch, monkeypatch):
    monkeypatch.setattr(L, "SIZES", ((2, 64), (4, 64)))
    monkeypatch.setattr(neurons, "leaky", lambda cur, *rest: LEAKY(cur.sigmoid(), *rest))
    with pytest.raises(lesson.ProofMissed):
        L.measure_memory(config, run, *batch)


def gradients(net, batch):
    L.step(net, *batch)
    return [layer.conv.weight.grad.norm().item() for layer in net.layers()]


def test_narrow_surrogate_vanishes_in_the_plain_network_alone(batch):
    for seed in range(3):
        ratios = {}
        for block in ("plain", "sew"):
            torch.manual_seed(seed)
            norms = gradients(L.Net(8, 3, block, surrogate=L.SURROGATES["fast sigmoid"]), batch)
            ratios[block] = norms[0] / norms[-1]
        assert ratios["plain"] < 1e-9
        assert ratios["sew"] > 1e-4


def test_comparison_measures_what_it_names(run, config, sets, monkeypatch):
    monkeypatch.setitem(L.DEPTHS, "quick", (1, 2))
    monkeypatch.setitem(L.TRIAL_WIDTH, "quick", 4)
    monkeypatch.setitem(L.TRIAL_IMAGES, "quick", 64)
    results = L.compare_depths(config, run, sets)
    kinds = 2 * [("plain", 9), ("sew", 9), ("plain", 15), ("sew", 15)] + 2 * [("resnet", 15)]
    assert [key[1:] for key in results] == kinds
    for trial in results.values():
        assert len(trial.norms) == len(trial.fires)
        assert 0 <= min(trial.fires) <= max(trial.fires) <= 100
        assert 0 <= trial.accuracy <= 100
    plain, sew = (f"fast sigmoid, {block}, 15: gradient 1st/last" for block in ("plain", "sew"))
    assert measured(run, plain) < 1e-6
    assert measured(run, sew) > 1e-4


def test_watch_names_the_layer_of_the_plain_network_alone(run, batch):
    L.watch_depth(run, *batch)
    assert measured(run, "watch, plain: warns of the gradient") == 1
    assert measured(run, "watch, sew: warns of the gradient") == 0
    plain, sew = (sentence["text"] for sentence in run.record.sentences)
    assert "at stem.conv.weight" in plain
    assert sew.endswith("nothing found")


def test_adding_before_the_neurons_loses_what_adding_after_them_keeps(run):
    for surrogate in L.SURROGATES.values():
        ends = {}
        for name, (join, threshold, _) in L.CASES.items():
            neuron = partial(L.Leaky, L.BETA, threshold, surrogate=surrogate)
            kept, gradient = L.idle_chain(run, join, neuron)
            assert len(kept) == len(gradient) == L.CHAIN + 1
            ends[name] = kept[-1], gradient[-1]
        assert ends["sew"] == (100, 1)
        assert ends["resnet, threshold 1"][0] == 0
        assert ends["resnet, threshold 0.5"][0] == 100  # the identity forward, and yet
        assert ends["resnet, threshold 0.5"][1] < 1e-3


def test_folding_that_mixes_time_and_batch_is_caught(run, monkeypatch):
    right = L.Layer.currents
    monkeypatch.setattr(L.Layer, "currents", lambda layer, x, n=1: right(layer, x, n).flip(0))
    with pytest.raises(lesson.ProofMissed):
        L.folded_equals_loop(run)


def test_layers_are_ticked_in_whole_numbers_from_1():
    fig, (ax,) = L.figures.new("")
    L.draw_by_layer(ax, [1.0, 2.0], "-", "black")
    L.draw_by_layer(ax, [1.0, 2.0, 3.0], "-", "black")
    fig.canvas.draw()
    low, high = ax.get_xlim()
    ticks = [tick for tick in ax.get_xticks() if low <= tick <= high]
    assert ticks == [1, 2, 3]


def test_agreement_is_the_mean_cosine():
    assert L.agreement(torch.tensor([[1.0, 0.0], [2.0, 0.0]])) == pytest.approx(1)
    assert L.agreement(torch.tensor([[1.0, 0.0], [0.0, 3.0], [0.0, -1.0]])) == pytest.approx(-1 / 3)


def test_pictures_are_drawn_and_the_steps_are_put_back(run, config, sets):
    net = L.Net(4)
    L.maps_of_spikes(run, sets[1])
    L.look_inside(run, net, sets[1])
    L.steps_or_batch(run, net, sets[0])
    assert net.num_steps == 2
    assert {"maps.png", "inside.png"} <= set(run.record.figures)


def test_last_of_stages_takes_the_last_map_of_each_size():
    spikes = [torch.full((1, 1, 1, side, side), float(number)) for number, side in enumerate((8, 8, 4, 4))]
    assert [spk.max().item() for spk in L.last_of_stages(spikes)] == [1, 3]


# ---------------------------------------------------------------------- training


def test_training_ends_with_num_steps_and_resumes(run, config, sets, monkeypatch):
    shown, original = [], L.Net.forward

    def forward(net, x):
        shown.append(net.num_steps)
        return original(net, x)

    monkeypatch.setattr(L.Net, "forward", forward)
    net, history = L.train(config, run, sets)
    assert set(shown[: len(shown) // 2]) == {1}
    assert shown[-1] == config.num_steps == net.num_steps == 2
    assert len(history) == config.epochs
    again, _ = L.train(config, run, sets)
    for mine, theirs in zip(again.state_dict().values(), net.state_dict().values(), strict=True):
        assert torch.equal(mine, theirs)
    assert 0 <= L.judge(config, run, net, sets[1]) <= 100
    kept = torch.load(run.folder / "net.pt", weights_only=True)
    L.Net(kept["width"], kept["blocks"]).load_state_dict(kept["net"])


def test_judging_leaves_the_network_as_it_was_trained(run, config, sets):
    net = L.Net(4)
    before = deepcopy(net.state_dict())
    L.judge(config, run, net, sets[1])
    L.compare_steps(config, run, net, sets[1], accuracy=0.0)
    for mine, theirs in zip(net.state_dict().values(), before.values(), strict=True):
        assert torch.equal(mine, theirs)


def test_a_further_seed_is_trained_for_the_headline_alone(run, config, sets):
    table = "Trained with 2 steps"
    run.begin(1)
    L.train_and_judge(config, run, sets)
    assert run.record.measures["test accuracy, mean read-out"].values
    assert table not in run.record.tables
    run.begin(0)
    net = L.train_and_judge(config, run, sets)
    rows = run.record.tables[table]["runs"][0]
    assert [row[0] for row in rows] == ["1", "2", "4", "8"]
    assert rows[1][1] == measured(run, "test accuracy, mean read-out")
    assert rows[0][1] == L.accuracy_at(net, sets[1], num_steps=1)


def test_settings_are_checked():
    with pytest.raises(UsageError, match="num-steps"):
        L.Config(num_steps=0)


def test_titles_say_what_was_measured():
    results = {
        ("narrow", "plain", 5): L.Trial([5.0, 1.0], [], 0),
        ("narrow", "plain", 17): L.Trial([2.0, 1.0], [], 0),
    }
    assert L.title_of_depth(results) == "Gradient of layer 1 over that of layer 17: narrow, plain 2e+00"
    kept = {(2, 32): (0, 10.0), (4, 32): (0, 15.0), (2, 64): (0, 20.0)}
    assert L.title_of_memory(kept) == "Memory: times 1.50 with twice the steps, 2.00 with twice the batch"
    title = L.title_of_training(31.0, "digits for CIFAR-10", 2.0)
    assert title == "31.0 % of digits for CIFAR-10 after 2.0 minutes of training"
    assert L.title_of_joins({"resnet": 70.0, "sew": 60.0}).endswith("idle blocks: 70 % (resnet), 60 % (sew)")
    assert L.title_of_looks(["cat"], ["dog"]).endswith(": cat, taken for dog")


# ---------------------------------------------------------------------- images of one's own


def folder_of_pictures(parent, classes, count):
    folder = parent / "pets"
    for number in range(classes):
        (folder / f"class {number:02d}").mkdir(parents=True)
        for row in range(count):
            picture = Image.new("RGB", (8, 6), (20 * number, row % 256, 0))
            picture.save(folder / f"class {number:02d}" / f"{row}.png")
    return L.Config(scale="quick", device="cpu", width=4, epochs=1, dataset=str(folder))


def test_pictures_of_ones_own_are_trained_on_and_have_their_own_number_of_classes(run, tmp_path, monkeypatch):
    config = folder_of_pictures(tmp_path, classes=12, count=80)
    used = []
    monkeypatch.setattr(run, "uses", lambda images: used.append(images.as_used))
    sets = L.load_images(config, run)
    assert sets[0].images.shape == (12 * 64, 3, 32, 32)
    assert used[0] == "pictures in pets, 768 training images"
    monkeypatch.setitem(L.DEPTHS, "quick", (1, 2))
    monkeypatch.setitem(L.TRIAL_WIDTH, "quick", 4)
    monkeypatch.setitem(L.TRIAL_IMAGES, "quick", 64)
    L.compare_depths(config, run, sets)
    net = L.train_and_judge(config, run, sets)
    assert net.readout.out_features == 12
    L.look_inside(run, net, sets[1])
    L.steps_or_batch(run, net, sets[0])
    bounds = {(measure.at_least, measure.at_most) for measure in run.record.measures.values()}
    assert bounds == {(None, None)}  # the goals are those of CIFAR-10
    x, y = L.one_batch(config, run, sets[0])  # what looks at single steps keeps to CIFAR-10
    assert x.shape == (128, 3, 32, 32)
    assert int(y.max()) <= 9


def test_the_usual_set_keeps_its_goals(run, config, sets):
    L.judge(config, run, L.Net(4), sets[1])
    assert run.record.measures["test accuracy, mean read-out"].at_least is not None


def test_too_few_pictures_of_ones_own_are_one_line(tmp_path):
    config = folder_of_pictures(tmp_path, classes=2, count=10)
    run = SimpleNamespace(device=torch.device("cpu"), uses=lambda images: None)
    with pytest.raises(UsageError, match="16 training images are too few: this lesson needs 768"):
        L.load_images(config, run)


@pytest.mark.parametrize("name", ["mnist", "emnist", "kmnist"])
def test_writing_is_not_mirrored(name, batch):
    config = L.Config(dataset=name)
    assert torch.equal(L.augment_for(config)(batch[0]), batch[0])
    assert L.augment_for(L.Config()) is training.flip_and_shift


def test_grey_pictures_become_colour(run, monkeypatch):
    sets = L.load_images(L.Config(scale="quick", device="cpu", images=1000, dataset="mnist"), run)
    assert sets[0].images.shape[1:] == (3, 32, 32)


def test_scores_are_drawn_for_up_to_ten_classes():
    _, (few, many) = L.figures.new("", columns=2)
    L.draw_scores(few, torch.arange(3.0), ("a", "b", "c"))
    L.draw_scores(many, torch.arange(40.0), tuple(f"class {number}" for number in range(40)))
    assert [label.get_text() for label in few.get_yticklabels()] == ["a", "b", "c"]
    assert many.get_yticklabels()[0].get_text() == "class 30"
    assert len(many.patches) == 10
