"""Files of recorded events (lesson 11): each format in one short reader, each fault in one line.

    recording = recordings.read(Path("car.dat"))        # .stream in the course's dtype, .sensor (W, H, P)

``.npy``: DVS128 Gesture as Tonic stores it. ``.bin``: N-MNIST. ``.h5``: SHD and SSC. ``.aedat``: lesson 04.
``.aedat4``: what DV records, through Tonic. ``.dat``: N-Cars (Prophesee). ``.mat``: ST-MNIST. Tonic read the
last two up to version 1.6; since then it has no reader for them.
"""

import importlib.util
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from snn_course import UsageError
from snn_course.events import streams
from snn_course.machine import contained

import numpy as np
import numpy.typing as npt

Sensor = tuple[int, int, int]
"""Width, height and polarities."""
BAND = 25  # the 700 ear channels of SHD are laid out as lines of 25: 25 x 28 "pixels" for a convolution
GESTURE, NMNIST, TACTILE, NCARS = (128, 128, 2), (34, 34, 2), (10, 10, 2), (304, 240, 2)
EAR = (BAND, 700 // BAND, 1)


READ_AEDAT4 = """
import sys, aedat, numpy, tonic.io
path, target = sys.argv[1:]
kinds = aedat.Decoder(path).id_to_stream()
first = min(number for number, stream in kinds.items() if stream["type"] == "events")
size = [kinds[first]["width"], kinds[first]["height"]]
numpy.savez(target, events=tonic.io.read_aedat4(path), size=size)
"""
TRY_HDF5 = """
import sys, h5py
with h5py.File(sys.argv[1], "r") as file:
    file["spikes/times"][int(sys.argv[2])], file["spikes/units"][int(sys.argv[2])]
"""
PATIENCE = 60.0  # s, for HDF5 to come to an end with a file


class Recording(NamedTuple):
    """One recording and the sensor that made it."""

    stream: streams.Stream
    sensor: Sensor


def read(path: Path, number: int = 0, foreign: bool = False) -> Recording:
    """Read one recording, in order of time.

    Args:
        path: the file. Its ending tells the format.
        number: which recording of a file that holds several (.h5).
        foreign: nothing vouches for the file, as a check sum does for a set's. An .h5 file is then tried
            in a process of its own first: in some damaged ones HDF5 searches for ever, or crashes.

    Raises: UsageError, one line with file and reason, for a missing, foreign, cut off or damaged file, an
    event outside the sensor, a time that is negative, no number or a day off, and a file without events.
    """
    if not path.is_file():
        raise UsageError(f"{path}: there is no such file.")
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise UsageError(f"{path}: no recording of events ends in that; known are {', '.join(READERS)}.")
    try:
        if foreign and reader is heidelberg:
            _try_hdf5(path, number)
        return reader(path, number)
    except UsageError:  # it names the file already
        raise
    except Exception as error:  # each format's library fails in its own way
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        which = f"recording {number} of {path}" if path.suffix == ".h5" else path
        raise UsageError(f"cannot read {which}: {reason}.") from None


def _of(columns: tuple[Any, Any, Any, Any], sensor: Sensor) -> Recording:
    return Recording(streams.from_numbers(*columns, *sensor[:2]), sensor)


def gesture(path: Path, number: int = 0) -> Recording:
    """Read DVS128 Gesture as Tonic stores it: an array of numbers [E, 4], x, y, polarity, time in ms."""
    table = np.load(path)
    if table.ndim != 2 or table.shape[1] != 4:
        raise ValueError(f"it holds {table.shape} numbers, not x, y, polarity and time of each event")
    if table.dtype.kind in "iu":
        table = table.astype(np.int64)  # 1000 times a time in ms may not fit into 32 bits
    x, y, p, milliseconds = table.T
    return _of((x, y, 1000 * milliseconds, p), GESTURE)


def nmnist(path: Path, number: int = 0) -> Recording:
    """Read N-MNIST: 5 bytes an event."""
    import tonic.io

    if path.stat().st_size % 5:
        raise ValueError("it is cut off within an event")
    kind = np.dtype([("x", int), ("y", int), ("t", int), ("p", int)])
    table = tonic.io.read_mnist_file(path, dtype=kind)
    return _of((table["x"], table["y"], table["t"], table["p"]), NMNIST)


def heidelberg(path: Path, number: int = 0) -> Recording:
    """Read one recording of SHD or SSC: times in s, often as float16, and channels 0 to 699 of an ear."""
    import h5py

    with h5py.File(path, "r") as file:
        total = len(file["spikes/times"])
        if not 0 <= number < total:
            raise ValueError(f"it has {total} recordings, and no number {number}")
        seconds = file["spikes/times"][number].astype(np.float64)
        channel = file["spikes/units"][number].astype(np.int64)
    return _of((channel % BAND, channel // BAND, 1e6 * seconds, 0), EAR)


def _try_hdf5(path: Path, number: int) -> None:
    """Raise ValueError where HDF5 crashes on a file, or finds no end. What else it says, ``read`` sees."""
    command = [sys.executable, "-c", TRY_HDF5, str(path), str(number)]
    ended = contained.run(command, PATIENCE)
    if ended.code not in (0, 1):  # 1: an exception
        raise ValueError(f"HDF5 gave up: {ended.how}")


def davis(path: Path, number: int = 0) -> Recording:
    """Read what lesson 04 wrote."""
    stream = streams.read(path)
    sensor = (streams.WIDTH, streams.HEIGHT, 2)
    return _of((stream["x"], stream["y"], stream["t"], stream["p"]), sensor)


def aedat4(path: Path, number: int = 0) -> Recording:
    """Read an AEDAT 4 file, which iniVation's cameras and DV write. Times count from the first event.

    A process of its own reads it: the decoder below Tonic ends its process on some damaged files.
    """
    if importlib.util.find_spec("aedat") is None:
        raise ValueError("Tonic reads AEDAT 4 with the package aedat, which is not installed")
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "events.npz")
        ended = contained.run([sys.executable, "-c", READ_AEDAT4, str(path), str(target)], limit=600)
        if ended.code != 0:
            raise ValueError(f"the decoder gave up: {ended.last_line or ended.how}")
        with np.load(target) as found:
            table, (width, height) = found["events"], found["size"].tolist()
    since = table["t"] - min(table["t"], default=0)  # they count from 1970
    return _of((table["x"], table["y"], since, table["on"]), (width, height, 2))


def prophesee(path: Path, number: int = 0) -> Recording:
    """Read a .dat file: lines of text, kind and size of an event, then time and address, 4 bytes each."""
    raw, start, header = path.read_bytes(), 0, dict[str, int]()
    while raw[start : start + 1] == b"%":
        end = raw.index(b"\n", start) + 1
        words = raw[start:end].decode(errors="replace").split()
        if len(words) == 3 and words[2].isdigit():  # % Width 304
            header[words[1]] = int(words[2])
        start = end
    if raw[start + 1 : start + 2] != b"\x08":
        raise ValueError("its events do not have 8 bytes")
    body = raw[start + 2 :]
    if len(body) % 8:
        raise ValueError("it is cut off within an event")
    t, address = np.frombuffer(body, dtype="<u4").reshape(-1, 2).T
    bits = 14 if header.get("Version", 2) >= 2 else 9
    x, y, p = address & (2**bits - 1), address >> bits & (2**14 - 1), address >> 28
    if bits == 9:  # the first version: 9 bits, 8 bits, 1 bit
        y, p = address >> 9 & 255, address >> 17
    sensor = (header.get("Width", NCARS[0]), header.get("Height", NCARS[1]), 2)
    return _of((x, y, t, p & 1), sensor)


def tactile(path: Path, number: int = 0) -> Recording:
    """Read ST-MNIST: [101, E], the 100 sensors of a skin with 1 for a press, -1 for a release; times in s."""
    from scipy.io import loadmat

    table: npt.NDArray[Any] = loadmat(path)["spiketrain"]
    if table.ndim != 2 or table.shape[0] != 101:
        raise ValueError(f"its spiketrain is {table.shape}, not 100 sensors and the time")
    number_of, sensor_of = np.nonzero(table[:-1].T)  # in order of time
    y, x = np.divmod(sensor_of, TACTILE[0])
    return _of((x, y, 1e6 * table[-1][number_of], table[sensor_of, number_of]), TACTILE)


READERS: dict[str, Callable[[Path, int], Recording]] = {
    ".npy": gesture,
    ".bin": nmnist,
    ".h5": heidelberg,
    ".aedat": davis,
    ".aedat4": aedat4,
    ".dat": prophesee,
    ".mat": tactile,
}
