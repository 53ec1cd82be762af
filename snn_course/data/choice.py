"""What a learner may choose with ``--dataset``: the course's sets, more of torchvision's, or a folder.

    train = data.load(config.dataset, "train").shaped(channels=1, size=28)

torchvision's classes do the work: they know where a set comes from, how its files are read, what is damaged,
and which pictures a folder holds. Here their results become the course's ``Images``, and what goes wrong
becomes one line. There is no stand-in for what a learner has chosen.
"""

import difflib
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

from snn_course import UsageError, data_dir, one_line
from snn_course.data import images
from snn_course.data.download import alone
from snn_course.data.images import Images

import torch

NAMED = {"emnist": "EMNIST (balanced)", "kmnist": "KMNIST", "cifar100": "CIFAR-100"}
"""Sets beyond the course's own."""
CHOICES = (
    f"{', '.join(images.COUNTS)}, {', '.join(NAMED)} or a folder with one folder of pictures for each class"
)
"""What ``--dataset`` takes, in words."""
SIZE = 32
"""Height and width of pictures from a folder."""
FEWEST = 5
"""Pictures of a class, so that every fifth can be for the test."""

_WRONG = (OSError, RuntimeError, ValueError, AssertionError, EOFError, KeyError, BadZipFile, zlib.error)
"""What torchvision raises for a set that cannot be had, or whose files are damaged."""


def load(name: str, split: str) -> Images:
    """Load a set of the course, ``emnist``, ``kmnist``, ``cifar100``, or the pictures in a folder.

    Images are [N, 1, 28, 28] or, of CIFAR-10, CIFAR-100 and a folder, [N, 3, 32, 32]. A folder holds a
    folder of pictures for each class; or two such folders, ``train`` and ``test``. Without these, every
    fifth picture of a class is for the test.

    Raises: UsageError, one line, for an unknown name, a set that cannot be had, a folder that is no set.
    """
    if name in images.COUNTS:
        return images.load(name, split)
    if split not in ("train", "test"):
        raise UsageError(f"a data set is for train or test, not {split!r}")
    if name in NAMED:
        return _named(name, split)
    return _folder(_place(name), split)


def _named(name: str, split: str) -> Images:
    """Read one of torchvision's sets from the data folder; what is not there, torchvision downloads."""
    build = {"emnist": _emnist, "kmnist": _kmnist, "cifar100": _cifar100}[name]
    offline = os.environ.get("SNN_OFFLINE") == "1"
    try:
        with alone(data_dir(), name, images.LOCK_SECONDS):
            pixels, labels, classes = build(split == "train", not offline)
    except _WRONG as error:
        why = (
            "SNN_OFFLINE=1 forbids to download it"
            if offline
            else one_line(str(error) or type(error).__name__, 200)
        )
        raise UsageError(
            f"{NAMED[name]} cannot be had in {data_dir()} ({why}): use another --dataset"
        ) from None
    return Images(
        pixels, labels, NAMED[name], split, classes, f"torchvision, in {data_dir()}", False, len(labels)
    )


Found = tuple[
    torch.Tensor, torch.Tensor, tuple[str, ...]
]  # images [N, C, H, W], labels [N], names of classes


def _emnist(train: bool, download: bool) -> Found:
    from torchvision.datasets import EMNIST

    found = EMNIST(data_dir(), split="balanced", train=train, download=download)
    upright = found.data.mT.contiguous()  # its files hold each picture mirrored at the diagonal
    return upright.unsqueeze(1), found.targets.long(), tuple(found.classes)


def _kmnist(train: bool, download: bool) -> Found:
    from torchvision.datasets import KMNIST

    found = KMNIST(data_dir(), train=train, download=download)
    return found.data.unsqueeze(1), found.targets.long(), tuple(found.classes)


def _cifar100(train: bool, download: bool) -> Found:
    from torchvision.datasets import CIFAR100

    found = CIFAR100(data_dir(), train=train, download=download)
    pixels = torch.from_numpy(found.data).permute(0, 3, 1, 2).contiguous()
    return pixels, torch.tensor(found.targets), tuple(found.classes)


# ---------------------------------------------------------------------- a folder of pictures


def _place(name: str) -> Path:
    """Give the folder of that name. Raises: UsageError where there is none."""
    try:
        folder = Path(name).expanduser()
        if name.strip() and folder.is_dir():
            return folder
    except (OSError, RuntimeError, ValueError):  # too long for a path, an unknown home
        pass
    raise UsageError(_not_found(name))


def _folder(folder: Path, split: str) -> Images:
    """Read the pictures of a folder, as torchvision's ImageFolder finds them, each 32 x 32 in colour."""
    parted = (folder / "train").is_dir() and (folder / "test").is_dir()
    listed = _listed(folder / split if parted else folder)
    if parted and listed.classes != _listed(folder / "train").classes:
        raise UsageError(f"{folder}: train and test hold different classes")
    rows = list(range(len(listed.samples))) if parted else _rows_of(listed, split, folder)
    pixels = torch.stack([_picture(listed, row) for row in rows])
    labels = torch.tensor([listed.targets[row] for row in rows])
    name = f"pictures in {folder.resolve().name}"
    return Images(pixels, labels, name, split, tuple(listed.classes), str(folder), False, len(rows))


def _not_found(name: str) -> str:
    """Say that a name is neither a set nor a folder, and which set was perhaps meant."""
    known = [*images.COUNTS, *NAMED]
    near = difflib.get_close_matches(name[:100].lower(), known, n=1, cutoff=0.6)
    guess = f" Did you mean {near[0]}?" if near else ""
    return f"{one_line(name, 200)!r} is no data set and no folder: use {CHOICES}.{guess}"


def _listed(folder: Path) -> Any:
    """Find classes and pictures. Raises: UsageError where there are none, or a single class."""
    from torchvision.datasets import ImageFolder

    try:
        found = ImageFolder(folder)
    except (
        OSError,
        ValueError,
    ) as error:  # no class, a class without pictures, a folder that may not be read
        raise UsageError(f"{folder} is no set of pictures: {error}") from None
    if len(found.classes) < 2:
        raise UsageError(
            f"{folder} holds a single class, {found.classes[0]}: at least two are to be told apart"
        )
    return found


def _rows_of(listed: Any, split: str, folder: Path) -> list[int]:
    """Choose every fifth picture of each class for the test, the others to train."""
    targets = torch.tensor(listed.targets)
    chosen: list[int] = []
    for label, name in enumerate(listed.classes):
        mine = (targets == label).nonzero()[:, 0].tolist()
        if len(mine) < FEWEST:
            raise UsageError(f"{folder / name} holds {len(mine)} pictures: a class needs at least {FEWEST}")
        tests = mine[::FEWEST]
        chosen += tests if split == "test" else sorted({*mine} - {*tests})
    return chosen


def _picture(listed: Any, row: int) -> torch.Tensor:
    """Read a picture of any size: shrunk, and cut to its middle square. Returns: bytes [3, 32, 32]."""
    from PIL import Image
    from torchvision.transforms import v2

    fit: Callable[[Any], torch.Tensor] = v2.Compose([v2.Resize(SIZE), v2.CenterCrop(SIZE), v2.PILToTensor()])
    try:
        return fit(listed.loader(listed.samples[row][0]))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise UsageError(
            f"{listed.samples[row][0]} cannot be read as a picture: mend it, or take it away"
        ) from None
