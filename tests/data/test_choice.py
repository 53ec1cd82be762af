"""What ``--dataset`` takes: torchvision's classes read hand-made files and folders; a wrong one is one line.

No download can be had in a test: what torchvision would fetch is a double of its class.
"""

from snn_course import UsageError, data
from snn_course.data import choice
from tests.data.handmade import idx, one_line

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import datasets


def write_idx(raw, stem, pixels, labels):
    """Write a set as torchvision reads it: two IDX files."""
    raw.mkdir(parents=True, exist_ok=True)
    (raw / f"{stem}-images-idx3-ubyte").write_bytes(idx(pixels))
    (raw / f"{stem}-labels-idx1-ubyte").write_bytes(idx(labels))


def write_pictures(folder, classes=("cat", "dog"), count=10, size=(40, 30), suffix="png"):
    """Write pictures of two colours, a folder for each class."""
    for number, name in enumerate(classes):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for row in range(count):
            colour = (200, row, 0) if number else (0, row, 100)
            Image.new("RGB", size, colour).save(folder / name / f"{row:03d}.{suffix}")
    return folder


# ---------------------------------------------------------------------- named sets


@pytest.mark.parametrize("split", ["train", "test"])
def test_kmnist_is_read_by_torchvision(folder, split):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 28, 28), np.uint8)
    labels = np.arange(20, dtype=np.uint8) % 10
    for stem in ("train", "t10k"):
        write_idx(folder / "KMNIST" / "raw", stem, pixels if stem == "train" else pixels[::-1].copy(), labels)
    found = data.load("kmnist", split)
    expected = torch.from_numpy(pixels if split == "train" else pixels[::-1].copy())
    assert torch.equal(found.images, expected.unsqueeze(1))
    assert found.labels.tolist() == labels.tolist()
    assert found.classes[0] == "o"
    assert found.as_used == f"KMNIST, 20 {'training' if split == 'train' else 'test'} images"
    assert not found.stand_in


def test_letters_of_emnist_stand_upright(folder):
    upright = np.zeros((2, 28, 28), np.uint8)
    upright[:, 3, 5] = 255  # row 3, column 5
    raw = folder / "EMNIST" / "raw"
    for split in datasets.EMNIST.splits:
        for stem in ("train", "test"):
            write_idx(
                raw, f"emnist-{split}-{stem}", upright.transpose(0, 2, 1).copy(), np.array([10, 46], np.uint8)
            )
    found = data.load("emnist", "train")
    assert found.images[0, 0].nonzero().tolist() == [[3, 5]]
    assert len(found.classes) == 47
    assert [found.classes[label] for label in found.labels] == ["A", "t"]


def test_cifar100_comes_from_torchvision(folder, monkeypatch):
    asked = []

    class Double:
        """Stands for torchvision's class: its files cannot be had, and their MD5 not be met."""

        classes = ["apple", "bear"]  # noqa: RUF012
        targets = [1, 0, 1]  # noqa: RUF012

        def __init__(self, root, train, download):
            asked.append((root, train, download))
            self.data = np.arange(3 * 32 * 32 * 3).reshape(3, 32, 32, 3).astype(np.uint8)

    monkeypatch.setattr(datasets, "CIFAR100", Double)
    monkeypatch.delenv("SNN_OFFLINE")
    found = data.load("cifar100", "test")
    assert asked == [(folder, False, True)]
    assert found.images.shape == (3, 3, 32, 32)
    assert found.images[0, :, 0, 1].tolist() == [3, 4, 5]  # red, green, blue of the second pixel
    assert found.classes == ("apple", "bear")


@pytest.mark.parametrize("name", sorted(choice.NAMED))
def test_a_set_that_cannot_be_had_is_one_line_and_no_stand_in(name, folder, monkeypatch):
    with pytest.raises(UsageError) as caught:
        data.load(name, "train")
    assert "SNN_OFFLINE=1 forbids" in one_line(caught.value)

    def unreachable(*args, **kwargs):
        raise OSError("<urlopen error [Errno -3]\nTemporary failure in name resolution>")

    monkeypatch.delenv("SNN_OFFLINE")
    monkeypatch.setattr(datasets.utils, "_urlretrieve", unreachable)
    with pytest.raises(UsageError) as caught:
        data.load(name, "train")
    assert "cannot be had" in one_line(caught.value)
    assert not list(folder.rglob("*.lock"))


def test_a_damaged_set_is_one_line(folder):
    raw = folder / "KMNIST" / "raw"
    for stem in ("train", "t10k"):
        write_idx(raw, stem, np.zeros((5, 28, 28), np.uint8), np.zeros(5, np.uint8))
    for content in (b"", b"\0\0\x08\x03", b"junk" * 50):
        (raw / "train-images-idx3-ubyte").write_bytes(content)
        with pytest.raises(UsageError) as caught:
            data.load("kmnist", "train")
        assert "KMNIST cannot be had" in one_line(caught.value)


# ---------------------------------------------------------------------- a folder


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp"])
def test_a_folder_of_pictures_is_split_by_class(tmp_path, suffix):
    pets = write_pictures(tmp_path / "pets", suffix=suffix)
    train, test = data.load(str(pets), "train"), data.load(str(pets), "test")
    assert train.images.shape == (16, 3, 32, 32)
    assert train.images.dtype == torch.uint8
    assert test.labels.tolist() == [0, 0, 1, 1]
    assert train.classes == ("cat", "dog")
    red = train.images[train.labels == 1, 0].float().mean()
    assert red == pytest.approx(200, abs=5)
    assert train.as_used == "pictures in pets, 16 training images"
    seen = {image.numpy().tobytes() for image in train.images}
    if suffix != "jpg":  # which may make two colours one
        assert not any(image.numpy().tobytes() in seen for image in test.images)
    assert torch.equal(data.load(str(pets), "train").images, train.images)


def test_train_and_test_folders_are_taken_as_they_are(tmp_path):
    write_pictures(tmp_path / "train", count=3)
    write_pictures(tmp_path / "test", count=1, size=(5, 80))
    assert len(data.load(str(tmp_path), "train")) == 6
    assert len(data.load(str(tmp_path), "test")) == 2
    write_pictures(tmp_path / "test", classes=("horse",), count=1)
    with pytest.raises(UsageError, match="different classes"):
        data.load(str(tmp_path), "test")


def empty(folder):
    (folder / "pets").mkdir()
    return "pets"


def one_class(folder):
    write_pictures(folder / "pets", classes=("cat",))
    return "holds a single class, cat"


def class_without_pictures(folder):
    write_pictures(folder / "pets")
    (folder / "pets" / "emu").mkdir()
    return "emu"


def few_pictures(folder):
    write_pictures(folder / "pets", count=4)
    return "holds 4 pictures: a class needs at least 5"


def broken_picture(folder):
    write_pictures(folder / "pets")
    (folder / "pets" / "dog" / "001.png").write_bytes(b"no picture")
    return "001.png cannot be read as a picture"


def cut_picture(folder):
    write_pictures(folder / "pets", size=(400, 300), suffix="jpg")
    path = folder / "pets" / "dog" / "001.jpg"
    path.write_bytes(path.read_bytes()[:700])
    return "001.jpg cannot be read as a picture"


def no_folder(folder):
    return "is no data set and no folder"


def a_file(folder):
    (folder / "pets").write_text("pets")
    return "is no data set and no folder"


def loose_pictures(folder):
    write_pictures(folder, classes=("pets",))
    return "pets"


WRONG = (
    empty,
    one_class,
    class_without_pictures,
    few_pictures,
    broken_picture,
    cut_picture,
    no_folder,
    a_file,
    loose_pictures,
)


@pytest.mark.parametrize("make", WRONG, ids=lambda make: make.__name__)
def test_a_wrong_folder_is_one_line(make, tmp_path):
    said = make(tmp_path)
    with pytest.raises(UsageError) as caught:
        data.load(str(tmp_path / "pets"), "train")
    assert said in one_line(caught.value)


@pytest.mark.parametrize(
    ("name", "meant"), [("emnsit", "emnist"), ("cifar-100", "cifar100"), ("MNIST", "mnist")]
)
def test_a_misspelt_name_is_guessed(name, meant, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=f"Did you mean {meant}") as caught:
        data.load(name, "train")
    assert "or a folder with one folder of pictures for each class" in one_line(caught.value)


@pytest.mark.parametrize("name", ["", "\n", "a" * 5000, "\0", "~nouser/x"])
def test_a_strange_name_is_one_line(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as caught:
        data.load(name, "train")
    assert len(one_line(caught.value)) < 600


# ---------------------------------------------------------------------- shapes


@pytest.mark.parametrize(("channels", "size"), [(1, 28), (3, 32), (1, 32), (3, 28)])
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32)])
def test_images_take_the_shape_that_a_lesson_needs(channels, size, shape, tmp_path):
    images = data.load(str(write_pictures(tmp_path)), "train")
    one = type(images)(torch.full((4, *shape), 100, dtype=torch.uint8), *list(vars(images).values())[1:])
    shaped = one.shaped(channels, size)
    assert shaped.images.shape == (4, channels, size, size)
    assert shaped.images.dtype == torch.uint8
    assert set(shaped.images.unique().tolist()) <= {99, 100}  # grey stays grey, but for rounding
    if shape == (channels, size, size):
        assert torch.equal(shaped.images, one.images)


def test_a_number_of_channels_that_no_picture_has_is_refused(tmp_path):
    with pytest.raises(ValueError, match="1 channel or 3, not 2"):
        data.load(str(write_pictures(tmp_path)), "train").shaped(2, 28)
