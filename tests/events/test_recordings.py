"""Files of events in seven formats: read right, or named with file and reason in one line."""

import importlib.util
from pathlib import Path

from snn_course import UsageError
from snn_course.events import recordings, streams

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import savemat

AEDAT4 = Path(__file__).parent / "data" / "sixty_events.aedat4"  # 60 events, written by dv-processing 2.0.4
X, Y, T, P = [3, 30, 33, 0], [5, 20, 33, 0], [40_000, 10_000, 99_000, 20_000], [1, 0, 1, 1]  # T unsorted
SORTED = [(30, 20, 10_000, False), (0, 0, 20_000, True), (3, 5, 40_000, True), (33, 33, 99_000, True)]


def gesture_file(path, x=X, y=Y, t=T, p=P, kind=np.int64):
    milliseconds = np.asarray(t, dtype=float) / 1000
    np.save(path, np.stack([np.asarray(c).astype(kind) for c in (x, y, p, milliseconds)], 1))


def nmnist_file(path, x=X, y=Y, t=T, p=P):
    rows = [[a, b, d << 7 | c >> 16, c >> 8 & 255, c & 255] for a, b, c, d in zip(x, y, t, p, strict=True)]
    path.write_bytes(bytes(np.array(rows, dtype=np.uint8)))


def prophesee_file(
    path, x=X, y=Y, t=T, p=P, header=b"% Version 2\n% Width 304\n% Height 240\n", shifts=(14, 28)
):
    words = [(c, a | b << shifts[0] | d << shifts[1]) for a, b, c, d in zip(x, y, t, p, strict=True)]
    path.write_bytes(header + b"\x0c\x08" + np.array(words, dtype="<u4").tobytes())


def ear_file(path, seconds=([0.5, 0.25],), units=([699, 26],), dtype=np.float16):
    with h5py.File(path, "w") as file:
        numbers, times = h5py.vlen_dtype(np.uint16), h5py.vlen_dtype(dtype)
        spikes = file.create_group("spikes")
        spikes.create_dataset("times", (len(seconds),), times)
        spikes.create_dataset("units", (len(units),), numbers)
        for number, (when, which) in enumerate(zip(seconds, units, strict=True)):
            spikes["times"][number], spikes["units"][number] = when, which


def tactile_file(path, events=((7, 0.5, 1), (93, 0.25, -1))):
    table = np.zeros((101, len(events)))
    for column, (sensor, seconds, sign) in enumerate(events):
        table[sensor, column], table[100, column] = sign, seconds
    savemat(path, {"spiketrain": table})


# ---------------------------------------------------------------------- right


@pytest.mark.parametrize(
    ("ending", "write", "sensor"),
    [
        (".npy", gesture_file, (128, 128, 2)),
        (".bin", nmnist_file, (34, 34, 2)),
        (".dat", prophesee_file, (304, 240, 2)),
    ],
)
def test_events_come_in_order_of_time(tmp_path, ending, write, sensor):
    path = tmp_path / f"one{ending}"
    write(path)
    stream, found = recordings.read(path)
    assert stream.tolist() == SORTED
    assert stream.dtype == streams.DTYPE
    assert found == sensor


@pytest.mark.parametrize("kind", [np.int16, np.int32, np.uint32, np.float32, np.float64])
def test_numbers_of_any_kind(tmp_path, kind):
    gesture_file(tmp_path / "one.npy", kind=kind)
    assert recordings.read(tmp_path / "one.npy").stream.tolist() == SORTED


def test_milliseconds_that_overflow_32_bits_as_microseconds(tmp_path):
    gesture_file(tmp_path / "long.npy", [1], [2], [3_000_000_000], [1], np.int32)
    assert recordings.read(tmp_path / "long.npy").stream["t"].tolist() == [3_000_000_000]


def test_an_ear_in_float16(tmp_path):
    ear_file(tmp_path / "shd.h5", ([0.5, 0.25], [1.369]), ([699, 26], [0]))
    stream, sensor = recordings.read(tmp_path / "shd.h5")
    assert stream.tolist() == [(1, 1, 250_000, False), (24, 27, 500_000, False)]
    assert sensor == (25, 28, 1)
    late = recordings.read(tmp_path / "shd.h5", 1).stream["t"][0]
    assert late == pytest.approx(1.369e6, abs=1000)  # float16 has steps of 1 ms there
    with pytest.raises(UsageError, match=r"recording 2 of .*shd.h5: it has 2 recordings"):
        recordings.read(tmp_path / "shd.h5", 2)


@pytest.mark.parametrize(
    ("does", "reason"),
    [("while True: pass", "HDF5 gave up: no answer in time"), ("import os; os.abort()", "HDF5 gave up")],
)
def test_a_foreign_ear_in_which_hdf5_hangs_or_crashes(tmp_path, monkeypatch, does, reason):
    monkeypatch.setattr(recordings, "TRY_HDF5", does)
    monkeypatch.setattr(recordings, "PATIENCE", 0.5 if "while" in does else 60)
    ear_file(tmp_path / "shd.h5")
    with pytest.raises(UsageError, match=rf"recording 0 of .*shd.h5: {reason}"):
        recordings.read(tmp_path / "shd.h5", foreign=True)
    assert len(recordings.read(tmp_path / "shd.h5").stream) == 2  # of a set: read at once


def test_a_foreign_ear_is_read_or_named_as_any_other(tmp_path):
    ear_file(tmp_path / "shd.h5")
    assert len(recordings.read(tmp_path / "shd.h5", foreign=True).stream) == 2
    ear_file(tmp_path / "shd.h5", units=([700, 26],))
    with pytest.raises(UsageError, match="y = 28"):
        recordings.read(tmp_path / "shd.h5", foreign=True)
    (tmp_path / "shd.h5").write_bytes(b"no ear")
    with pytest.raises(UsageError, match=r"shd.h5: Unable"):
        recordings.read(tmp_path / "shd.h5", foreign=True)


def test_a_skin(tmp_path):
    tactile_file(tmp_path / "seven.mat")
    stream, sensor = recordings.read(tmp_path / "seven.mat")
    assert stream.tolist() == [(3, 9, 250_000, False), (7, 0, 500_000, True)]
    assert sensor == (10, 10, 2)


def test_the_first_version_of_dat(tmp_path):
    path = tmp_path / "old.DAT"  # endings count in any case
    prophesee_file(path, header=b"% Version 1\n", shifts=(9, 17))
    assert recordings.read(path).stream.tolist() == SORTED


def test_lesson_4s_file(tmp_path):
    stream = streams.make([300], [259], [7], [True])
    streams.save(tmp_path / "clip.aedat", stream)
    assert recordings.read(tmp_path / "clip.aedat").stream.tolist() == stream.tolist()


def test_an_aedat_2_file_of_another_camera_is_named_once(tmp_path):
    path = tmp_path / "other.aedat"
    path.write_bytes(b"#!AER-DAT2.0\r\n# another camera\r\n" + bytes(16))
    with pytest.raises(UsageError, match="not an event file of this course") as error:
        recordings.read(path)
    assert str(error.value).count(str(path)) == 1


@pytest.mark.skipif(not importlib.util.find_spec("aedat"), reason="the package aedat is not installed")
def test_aedat4(tmp_path):
    stream, sensor = recordings.read(AEDAT4)
    assert sensor == (64, 48, 2)
    assert len(stream) == 60
    assert stream[0].tolist() == (53, 33, 0, True)
    assert stream[1].tolist() == (24, 42, 131, False)
    damaged = bytearray(AEDAT4.read_bytes())
    damaged[900:] = bytes(len(damaged) - 900)
    (tmp_path / "damaged.aedat4").write_bytes(damaged)
    with pytest.raises(UsageError, match=r"damaged.aedat4: the decoder gave up"):
        recordings.read(tmp_path / "damaged.aedat4")


def test_aedat4_without_its_decoder(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="package aedat, which is not installed"):
        recordings.read(AEDAT4)


# ---------------------------------------------------------------------- named


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"x": [3, 128, 33, 0]}, "event 1 has x = 128"),
        ({"x": [3, 65_536 + 5, 33, 0]}, "event 1 has x = 65541"),  # 5, if it were cast to 16 bits
        ({"y": [5, -1, 33, 0]}, "event 1 has y = -1"),
        ({"p": [1, 7, 0, 1]}, "event 1 has p = 7"),
        ({"t": [0, -5000, 3, 4]}, "event 1 has t = -5000"),
        ({"t": [0, 10**15, 3, 4]}, "more than a day"),
        ({"t": [0, np.nan, 3, 4], "kind": np.float64}, "event 1 has t = nan"),
        ({"t": [0, np.inf, 3, 4], "kind": np.float64}, "event 1 has t = inf"),
        ({"x": [0, np.nan, 3, 4], "kind": np.float64}, "event 1 has x = nan"),
        ({"x": [0, 1.5, 3, 4], "kind": np.float64}, "event 1 has x = 1.5"),
        ({"x": [], "y": [], "t": [], "p": []}, "no events"),
    ],
)
def test_a_wrong_number_is_named_before_a_cast_hides_it(tmp_path, change, reason):
    path = tmp_path / "3.npy"
    gesture_file(path, **change)
    with pytest.raises(UsageError, match=reason) as error:
        recordings.read(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("seconds", [np.nan, np.inf, -0.5])
@pytest.mark.parametrize("write", [ear_file, tactile_file])
def test_a_wrong_time_in_an_ear_or_a_skin(tmp_path, seconds, write):
    path = tmp_path / ("e.h5" if write is ear_file else "s.mat")
    write(path, ([seconds, 0.1],), ([1, 2],)) if write is ear_file else write(path, ((7, seconds, 1),))
    with pytest.raises(UsageError, match=r"has t = "):
        recordings.read(path)


def test_a_channel_that_no_ear_has(tmp_path):
    ear_file(tmp_path / "e.h5", units=([700, 26],))
    with pytest.raises(UsageError, match="y = 28"):
        recordings.read(tmp_path / "e.h5")


@pytest.mark.parametrize("keep", [0, 1, 7, -1, -3, -9])
@pytest.mark.parametrize(
    ("ending", "write"),
    [
        (".npy", gesture_file),
        (".bin", nmnist_file),
        (".dat", prophesee_file),
        (".h5", ear_file),
        (".mat", tactile_file),
    ],
)
def test_a_cut_off_file_is_named(tmp_path, ending, write, keep):
    path = tmp_path / f"one{ending}"
    write(path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UsageError, match=rf"one\{ending}") as error:
        recordings.read(path)
    assert "\n" not in str(error.value)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([".npy", ".bin", ".dat", ".mat"]), st.binary(max_size=80))
def test_any_bytes_are_read_or_named(tmp_path_factory, ending, raw):
    path = tmp_path_factory.mktemp("any") / f"one{ending}"
    path.write_bytes(raw)
    try:
        stream, (width, height, _) = recordings.read(path)
    except UsageError as error:
        said = str(error)
    else:
        said = path.name
        assert len(streams.check(stream, width, height))
    assert path.name in said
    assert "\n" not in said


@pytest.mark.parametrize(
    ("name", "reason"),
    [("no.npy", "no such file"), ("folder.npy", "no such file"), ("film.mp4", "known are .npy")],
)
def test_what_is_no_recording(tmp_path, name, reason):
    (tmp_path / "folder.npy").mkdir()
    (tmp_path / "film.mp4").touch()
    with pytest.raises(UsageError, match=reason):
        recordings.read(tmp_path / name)


def test_tables_of_another_shape(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((5, 3)))
    np.save(tmp_path / "b.npy", np.array([{}, []], dtype=object))
    savemat(tmp_path / "c.mat", {"spiketrain": np.zeros((100, 4))})
    savemat(tmp_path / "d.mat", {"other": 1})
    for path in tmp_path.iterdir():
        with pytest.raises(UsageError, match="cannot read"):
            recordings.read(path)
