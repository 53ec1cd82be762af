"""Milestone A: its brief, and the worked answer: its network, its splits, and the page it writes."""

import json
import os
import subprocess
import sys
from types import SimpleNamespace

from snn_course.runs import lesson, own_work, scripts
from snn_course import ROOT, UsageError, data
from snn_course.journal.blocks import template, write_block

import numpy as np
import pytest
import torch
from PIL import Image

M = lesson.load("milestone_a_fashion_mnist")


def splits(channels=1, size=28, classes=data.ARTICLES):
    """Some random images of a shape."""
    images = torch.randint(0, 256, (12, channels, size, size), dtype=torch.uint8)
    split = M.Split(images, torch.arange(12) % len(classes), classes, "noise")
    return M.Splits(split, split, split, 73, 90)


@pytest.fixture
def net():
    torch.manual_seed(0)
    return M.Net(M.Config(width=4, num_steps=3), splits())


@pytest.fixture
def images():
    return torch.randint(
        0, 256, (6, 1, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )


class Proofs:
    """Stands for a Run: keeps the errors of proofs."""

    def __init__(self) -> None:
        self.met: dict[str, bool] = {}

    def proof(self, name, error, at_most=1e-6):
        self.met[name] = error <= at_most


def test_shapes_and_binary_spikes(net, images):
    output, spikes = net(images)
    assert output.shape == (6, 10)
    assert [tuple(spk.shape) for spk in spikes] == [
        (3, 6, 4, 28, 28),
        (3, 6, 8, 14, 14),
        (3, 6, 16, 7, 7),
        (3, 6, 256),
    ]
    assert all(set(spk.unique().tolist()) <= {0.0, 1.0} for spk in spikes)


def test_the_proof_holds_and_a_wrong_neuron_is_caught(net, images):
    run = Proofs()
    M.prove_equal_to_snntorch(net, images, run)
    assert all(run.met.values())
    net.beta = 0.7  # the step loop now leaks less than the network
    M.prove_equal_to_snntorch(net, images, run)
    assert not all(run.met.values())


def test_every_weight_gets_a_gradient(net, images):
    net(images)[0].square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())


def test_augmentation_moves_pixels_and_adds_none(images):
    torch.manual_seed(0)
    moved = M.augmented(images)
    assert moved.shape == images.shape
    assert not torch.equal(moved, images)
    assert torch.equal(moved.sum(3), images.sum(3))  # each row keeps its pixels


def test_validation_images_are_no_training_images():
    used: list[str] = []
    run = SimpleNamespace(device=torch.device("cpu"), uses=lambda images: used.append(images.as_used))
    found = M.load_splits(M.Config(num_images=600), run)
    train, validation, test = found.train, found.validation, found.test
    assert (len(train.labels), len(validation.labels)) == (550, 50)
    seen = {image.numpy().tobytes() for image in train.images}
    assert not any(image.numpy().tobytes() in seen for image in validation.images)
    assert len(used) == 2
    assert len(test.labels) == 1000
    if "stand-in" not in test.name:
        assert (found.mean, found.deviation) == (73, 90)


def test_confusion_is_in_percent_of_the_true_class():
    labels, predicted = torch.tensor([0, 0, 0, 1]), torch.tensor([0, 0, 2, 1])
    table = M.confusion(predicted, labels, 10)
    assert table[0, 0] == pytest.approx(200 / 3)
    assert M.worst_confusion(table) == (0, 2, pytest.approx(100 / 3))
    assert table[5].sum() == 0  # a class without images


def test_the_cheapest_setting_stays_within_one_point():
    points = [
        M.Point(0.8, 2, 91.0, 500.0),
        M.Point(1.0, 2, 90.5, 400.0),
        M.Point(1.5, 2, 89.6, 200.0),
        M.Point(2.0, 2, 80.0, 50.0),
    ]
    assert M.cheapest(points) is points[2]


def test_the_page_quotes_what_was_measured():
    points = [M.Point(1.0, 2, 90.5, 400.0), M.Point(1.5, 2, 89.6, 200.0)]
    table = 90 * np.eye(10)
    table[6, 0] = 10
    score = M.Score(91.23, torch.tensor([]), torch.tensor([300.0, 60, 30, 10]))
    page = M.analysis(score, [20.0, 15.0, 10.0, 5.0], table, points, data.ARTICLES)
    for text in (
        "91.23 %",
        "conv 1 (75 %)",
        "10 % of Shirt are taken for T-shirt/top",
        "2.00 times fewer",
        "falls",
    ):
        assert text in " ".join(page.split())


def test_the_choices_name_the_best_number_of_steps(net):
    history = [{"loss": 1.0, "accuracy": 80.0}, {"loss": 0.5, "accuracy": 90.5}]
    points = [M.Point(1.0, 2, 90.5, 400.0), M.Point(1.0, 4, 91.0, 800.0), M.Point(1.5, 2, 99.0, 1.0)]
    page = " ".join(M.choices(M.Config(), net, history, points).split())
    assert "The best of these is 4; the network was trained with 2." in page
    assert "from 80.00 % after the first epoch to 90.50 % after epoch 2 of 2" in page


def test_titles_say_what_was_measured_and_name_the_classes_of_the_data():
    assert (
        M.title_of_training([80.0, 70.0])
        == "Validation accuracy: 80.0 % after the first epoch, 80.0 % at best"
    )
    title = M.title_of_spikes({"conv1": 0, "hidden": 9}, 20)
    assert title == "Spikes for one test image in 20 steps, 9: conv1 0, hidden 9"
    table = np.eye(10) * 100
    table[3, 8] = 30
    split = M.Split(torch.zeros(1), torch.zeros(1), data.DIGITS, "MNIST, 1000 test images")
    assert M.title_of_confusion(table, split) == "MNIST, 1000 test images: 30 % of 3 are taken for 8"
    assert M.mistake(np.eye(10) * 100, data.DIGITS) == "none is taken for another class"
    points = [M.Point(1.0, 2, 74.0, 9000.0), M.Point(2.0, 2, 75.0, 3000.0)]  # fewer spikes are better
    assert (
        M.title_of_sparsity(points)
        == "As trained 74.0 % with 9000 spikes an image; fewest: 75.0 % with 3000; best: 75.0 % with 3000"
    )


@pytest.mark.parametrize(("channels", "size", "count"), [(3, 32, 3), (1, 28, 47), (3, 32, 100)])
def test_the_network_fits_other_images_and_numbers_of_classes(channels, size, count):
    other = splits(channels, size, tuple(f"class {number}" for number in range(count)))
    output, spikes = M.Net(M.Config(width=4, num_steps=2), other)(other.test.images)
    assert output.shape == (12, count)
    assert all(set(spk.unique().tolist()) <= {0.0, 1.0} for spk in spikes)


@pytest.mark.parametrize("width", [4, 9, 40])
def test_maps_show_the_busiest_channels_whole(width):
    spk = torch.zeros(5, width, 7, 7)
    spk[:, 1] = 1  # this channel alone fires
    _, (ax,) = M.figures.new("")
    M.draw_maps(ax, spk, "conv")
    shown = ax.images[0].get_array()
    assert np.nansum(shown) == 49
    assert shown[1:8, 1:8].sum() == 49  # it comes first


# ---------------------------------------------------------------------- the brief, and one's own script

BRIEF = ROOT / "milestone_a_fashion_mnist.py"
OWN = '''
import sys
from dataclasses import dataclass
sys.path.insert(0, {root!r})
from snn_course.runs import lesson, figures
from snn_course import data

@dataclass(frozen=True)
class Config(lesson.Config):
    """Mine."""

def main(config, run):
    run.uses(data.load("fashion-mnist", "test"))
    for number in range(3):
        run.figure(figures.new("mine")[0], f"figure {{number}}")
    run.measure("test accuracy", {accuracy}, "%", headline=True)

if __name__ == "__main__":
    lesson.start(main, Config, {{}})
'''


def call(*arguments, **places):
    return subprocess.run(
        [sys.executable, str(BRIEF), *arguments],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env=os.environ | {name: str(place) for name, place in places.items()},
        check=False,
    )


def test_without_a_script_of_ones_own_the_brief_is_shown_on_one_screen(tmp_path):
    done = call(SNN_WORKSPACE=tmp_path)
    lines = done.stdout.splitlines()
    assert done.returncode == 0
    assert len(lines) <= 33
    assert max(map(len, lines)) <= 80
    assert [line[:3] for line in lines if line[:3].strip().rstrip(".").isdecimal()] == [
        f" {n}." for n in range(1, 8)
    ]
    assert "workspace/milestone_a_fashion_mnist.py" in done.stdout
    assert not (tmp_path / "results").exists()  # nothing ran


def test_ones_own_script_runs_and_is_told_what_is_met(tmp_path):
    (tmp_path / BRIEF.name).write_text(OWN.format(root=str(ROOT), accuracy=90.5), encoding="utf-8")
    done = call("--scale", "quick", "--seed", "3", SNN_WORKSPACE=tmp_path)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "results" / "milestone_a_fashion_mnist_own" / "quick"
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["seed"] == 3
    mark = "no mark" if metrics["data"][0]["stand_in"] else "merit"
    assert f" 5. test accuracy 90.50 %: {mark}" in done.stdout
    assert " 6. 3 figures." in done.stdout
    assert " 7. 0 words under Analysis" in done.stdout
    assert not (tmp_path / "results" / "milestone_a_fashion_mnist").exists()  # the course's own results stay
    assert "measured:begin milestone_a_fashion_mnist_own quick" in (tmp_path / "journal.md").read_text(
        "utf-8"
    )
    assert call("--brief", SNN_WORKSPACE=tmp_path).stdout.startswith("Milestone A: Fashion-MNIST.")


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("import sys; sys.exit(3)", 3, "nothing yet"),
        ("import sys; sys.exit('no')", 1, "nothing yet"),
        ("pass", 0, "nothing yet: end your script with lesson.start"),
    ],
)
def test_the_exit_code_is_that_of_ones_own_script(text, code, said, tmp_path):
    (tmp_path / BRIEF.name).write_text(text, encoding="utf-8")
    done = call(SNN_WORKSPACE=tmp_path)
    assert done.returncode == code
    assert said in done.stdout


def test_an_error_in_ones_own_script_is_shown_as_python_shows_it(tmp_path):
    (tmp_path / BRIEF.name).write_text("1 / 0", encoding="utf-8")
    done = call(SNN_WORKSPACE=tmp_path)
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr


def test_a_folder_in_the_place_of_ones_own_script_is_one_line(tmp_path):
    (tmp_path / BRIEF.name).mkdir()
    done = call(SNN_WORKSPACE=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1


def test_the_course_measures_the_worked_answer_and_shows_the_brief():
    (script,) = scripts.pick(["milestone_a"], scripts.find(ROOT))
    assert script.path == ROOT / "solutions" / BRIEF.name
    assert script.front == BRIEF
    assert script.stem == BRIEF.stem
    assert script.card() == scripts.card_of(script.path)  # one title, one question


def measured(accuracy, stand_in=False):
    entry = {"as_used": "Fashion-MNIST, 10000 test images", "stand_in": stand_in}
    return {"measures": [{"name": "Test accuracy, mine", "mean": accuracy}], "data": [entry]}


@pytest.mark.parametrize(
    ("accuracy", "mark"),
    [(85.0, "not yet pass"), (85.01, "pass"), (90.0, "pass"), (92.0, "merit"), (99.0, "distinction")],
)
def test_marks_are_for_more_than_their_bound(accuracy, mark):
    marks = {"pass": 85.0, "merit": 90.0, "distinction": 93.0}
    said = own_work.judged(measured(accuracy), marks)
    assert said == f"test accuracy {accuracy:.2f} %: {mark} (Fashion-MNIST, 10000 test images)."
    assert "no mark" in own_work.judged(measured(accuracy, stand_in=True), marks)
    assert own_work.judged(measured(float("nan")), marks) == "test accuracy is not a number."


def test_only_the_learners_words_make_the_page(tmp_path):
    journal = tmp_path / "journal.md"
    journal.write_text(template(), encoding="utf-8")
    assert own_work.page(journal, BRIEF.stem) == 0
    question = "(One page: how does sparsity change from layer to layer? What does a point of accuracy cost?)"
    assert question in template()
    write_block(journal, f"{BRIEF.stem}_own cpu", "Many measured words that are not mine.")
    text = journal.read_text(encoding="utf-8").replace(question, "Sparsity falls from 19 to 5 %.")
    journal.write_text(text, encoding="utf-8")
    assert own_work.page(journal, BRIEF.stem) == 7
    assert own_work.page(tmp_path / "none.md", BRIEF.stem) == 0


def test_own_pictures_take_the_place_of_fashion_mnist(tmp_path):
    for name in ("cat", "dog", "emu"):
        (tmp_path / name).mkdir()
        for number in range(20):
            Image.new("RGB", (9, 7), (number, 0, 0)).save(tmp_path / name / f"{number}.png")
    run = SimpleNamespace(device=torch.device("cpu"), uses=lambda images: None)
    found = M.load_splits(M.Config(dataset=str(tmp_path)), run)
    assert found.train.classes == ("cat", "dog", "emu")
    assert (len(found.train.labels), len(found.validation.labels), len(found.test.labels)) == (44, 4, 12)
    assert M.Net(M.Config(width=4), found)(found.test.images)[0].shape == (12, 3)


def test_too_few_pictures_are_one_line(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for number in range(5):
            Image.new("RGB", (9, 7)).save(tmp_path / name / f"{number}.png")
    run = SimpleNamespace(device=torch.device("cpu"), uses=lambda images: None)
    with pytest.raises(UsageError, match="8 training images are too few"):
        M.load_splits(M.Config(dataset=str(tmp_path)), run)
