"""The helpers of lesson 15's first half: spikes of pixels, snnTorch's learner, layers, pictures."""

from pathlib import Path

from snn_course.runs import lesson
from snn_course.rules import plasticity

import pytest
import torch

L = lesson.load(15)


@pytest.fixture
def config():
    return L.Config(scale="quick", device="cpu", images=1000)


def test_pixel_spikes_follow_the_pixels():
    torch.manual_seed(0)
    image = torch.zeros(1, 784, dtype=torch.uint8)
    image[0, :100] = 200
    image[0, 100:200] = 100
    spk = plasticity.pixel_spikes(image, 2000)
    assert spk.shape == (2000, 1, 784)
    assert set(spk.unique().tolist()) == {0.0, 1.0}
    rates = spk[:, 0].mean(0)
    assert rates[200:].max() == 0
    assert rates[:100].mean() / rates[100:200].mean() == pytest.approx(2, rel=0.02)


def test_dark_and_bright_images_send_as_many_spikes():
    torch.manual_seed(0)
    image = (torch.rand(784) < 0.2).byte()
    both = plasticity.pixel_spikes(torch.stack([image * 60, image * 240]), 500)
    dark, bright = both.sum((0, 2)).tolist()
    assert dark == pytest.approx(bright, rel=0.03)


def test_a_black_image_is_silent():
    assert plasticity.pixel_spikes(torch.zeros(2, 784, dtype=torch.uint8), 5).sum() == 0


def test_snntorch_window():
    pre, post = torch.zeros(10, 1), torch.zeros(10, 1)
    pre[2] = post[5] = 1
    change = plasticity.snntorch_stdp(pre, post, tau_pre=4.0, tau_post=4.0, grow=2.0, shrink=1.0)
    assert change.item() == pytest.approx(2 * 0.75**3)
    change = plasticity.snntorch_stdp(post, pre, tau_pre=4.0, tau_post=4.0, grow=2.0, shrink=1.0)
    assert change.item() == pytest.approx(-(0.75**3))
    change = plasticity.snntorch_stdp(pre, pre, tau_pre=4.0, tau_post=4.0, grow=2.0, shrink=1.0)
    assert change.item() == pytest.approx(1)  # both ways


def test_class_images_are_weighted_means():
    weight = torch.eye(3, 784)
    fires = torch.zeros(10, 3)
    fires[4, 0], fires[4, 1], fires[6, 2], fires[1, 0] = 3.0, 1.0, 2.0, 1.0
    images = plasticity.class_images(weight, fires)
    torch.testing.assert_close(images[4], 0.75 * weight[0] + 0.25 * weight[1])
    torch.testing.assert_close(images[6], weight[2])
    assert images[1].sum() == 0  # neuron 0 fires for it, but is named 4


def test_own_class_counts_matches():
    torch.manual_seed(0)
    means = torch.rand(10, 784)
    assert plasticity.own_class(2 * means + 1, means) == 10
    assert plasticity.own_class(means.roll(1, 0), means) == 0
    assert (
        plasticity.own_class(torch.cat([means[:9], torch.zeros(1, 784)]), means) == 9
    )  # a blank is no match


def test_mosaic_keeps_images_whole():
    images = torch.arange(1.0, 5)[:, None].expand(4, 784).clone()
    images[2, :28] = 0  # first row of pixels of the third image
    picture = plasticity.mosaic(images, 2)
    assert picture.shape == (56, 56)
    assert picture[28, :28].sum() == 0
    assert picture[29:, :28].min() == 1
    assert plasticity.mosaic(images[:3], 2).shape == (28, 56)  # only full rows


def test_accuracy_is_in_percent():
    assert plasticity.accuracy(torch.tensor([1, 2, 3, 4]), torch.tensor([1, 2, 3, 0])) == 75


def test_digits_come_as_bytes_and_are_reported(run):
    train, test = plasticity.digits(run, 1000)
    assert train[0].shape[1:] == (784,)
    assert train[0].dtype == torch.uint8
    assert len(train[0]) == len(train[1]) == 1000
    assert len(test[0]) == 166


def test_an_unfinished_layer_is_taken_over(config, run, monkeypatch):
    x = plasticity.digits(run, 1000)[0][0][:200]
    first, second = L.Winners(10), L.Winners(10)
    seconds = plasticity.show_once(run, "layer", first, x, 10, 0.05)
    again = lesson.Run(config, Path(L.__file__))
    again.begin(0)
    monkeypatch.setattr(L.Winners, "__call__", None)
    assert plasticity.show_once(again, "layer", second, x, 10, 0.05) == seconds
    assert torch.equal(first.weight, second.weight)
    assert torch.equal(first.threshold, second.threshold)


def test_an_unfinished_layer_of_another_size_is_set_aside(config, run, capsys):
    x = plasticity.digits(run, 1000)[0][0][:200]
    plasticity.show_once(run, "layer", L.Winners(20), x, 10, 0.05)
    layer, again = L.Winners(10), lesson.Run(config, Path(L.__file__))
    again.begin(0)
    plasticity.show_once(again, "layer", layer, x, 10, 0.05)
    assert layer.weight.shape[0] == 10
    printed = " ".join(capsys.readouterr().out.split())
    assert "is damaged (a tensor of shape (20, 784) instead of (10, 784))" in printed


def test_count_does_not_depend_on_how_images_are_split(monkeypatch):
    monkeypatch.setattr(plasticity, "pixel_spikes", lambda x, steps: (x > 128).float().expand(steps, -1, -1))
    torch.manual_seed(0)
    layer, x = L.Winners(10), (255 * (torch.rand(300, 784) < 0.1)).byte()
    layer.threshold.fill_(5.0)
    counts = plasticity.count(layer, x, 10)
    assert counts.shape == (300, 10)
    assert counts.sum() > 0
    torch.testing.assert_close(counts[:20], plasticity.count(layer, x[:20], 10))
