"""Event streams and cameras: files survive bit for bit, faults are named, and pixels obey their physics."""

import re
import sys
import types
from dataclasses import fields, replace
from typing import get_type_hints

from snn_course import UsageError
from snn_course.events import camera as events
from snn_course.events import streams

import numpy as np
import pytest
import tonic
from hypothesis import given, settings
from hypothesis import strategies as st

SIZE = (24, 32)  # [H, W]


def random_stream(count, seed=0, width=streams.WIDTH, height=streams.HEIGHT):
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, width, count), rng.integers(0, height, count)
    return streams.make(x, y, rng.integers(0, 2**32, count), rng.random(count) < 0.5)


# ---------------------------------------------------------------------- arrays


def test_dtype_is_tonics():
    assert tonic.io.events_struct == streams.DTYPE


def test_make_sorts_and_keeps_the_order_of_equal_times():
    stream = streams.make([1, 2, 3, 4], 0, [5, 1, 5, 1], [True, False, True, False])
    assert stream["x"].tolist() == [2, 4, 1, 3]
    assert streams.check(stream, 5, 1) is stream


@pytest.mark.parametrize(
    ("stream", "fault"),
    [
        (streams.make([0], [0], [-1], [True]), "before 0"),
        (streams.make([0, 0], [0, 0], [1, 2], [True, True])[::-1], "order of time"),
        (streams.make([8], [0], [1], [True]), "x = 8 is outside 0 to 7"),
        (streams.make([0], [-1], [1], [True]), "y = -1 is outside 0 to 5"),
        (np.zeros(2, dtype=[("x", "i4"), ("t", "i8")]), "dtype"),
    ],
)
def test_check_names_the_fault(stream, fault):
    with pytest.raises(ValueError, match=fault):
        streams.check(stream, 8, 6)


# ---------------------------------------------------------------------- files


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 300), st.integers(0, 2**32))
def test_tonic_reads_back_what_was_saved(tmp_path_factory, count, seed):
    path = tmp_path_factory.mktemp("aer") / "clip.aedat"
    stream = random_stream(count, seed)
    streams.save(path, stream)
    back = streams.read(path)
    assert back.dtype == stream.dtype
    assert back.tobytes() == stream.tobytes()
    assert path.stat().st_size == len(streams.HEADER) + streams.BYTES_AN_EVENT * count
    assert [file.name for file in path.parent.iterdir()] == ["clip.aedat"]


@pytest.mark.parametrize("y", range(110, 125))
def test_a_first_event_that_looks_like_a_comment(tmp_path, y):
    stream = streams.make([3, 4], [y, 7], [1, 2], [True, False])  # for some y the first byte is "#"
    streams.save(tmp_path / "e.aedat", stream)
    assert (streams.read(tmp_path / "e.aedat") == stream).all()


@pytest.mark.parametrize(
    "stream",
    [
        streams.make([streams.WIDTH], [0], [0], [True]),
        streams.make([0], [streams.HEIGHT], [0], [True]),
        streams.make([0], [0], [2**32], [True]),
        random_stream(9)[::-1],
    ],
)
def test_save_refuses_what_the_format_cannot_hold(tmp_path, stream):
    with pytest.raises(ValueError, match=r"outside|71 minutes|order"):
        streams.save(tmp_path / "e.aedat", stream)
    assert not list(tmp_path.iterdir())


def test_read_says_what_is_wrong_with_a_file(tmp_path):
    path = tmp_path / "e.aedat"
    with pytest.raises(UsageError, match="Cannot read"):
        streams.read(path)
    path.write_bytes(b"#!AER-DAT2.0\r\n# another camera\r\n" + bytes(16))
    with pytest.raises(UsageError, match="not an event file"):
        streams.read(path)
    streams.save(path, random_stream(5))
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(UsageError, match="cut off"):
        streams.read(path)
    path.write_bytes(streams.HEADER + b"\x7f" * 8)
    with pytest.raises(UsageError, match=r"e.aedat is damaged .* outside"):
        streams.read(path)


# ---------------------------------------------------------------------- the pixel


def noisy(**other):
    return events.Pixel(**{"leak_hz": 0.0, "shot_noise_hz": 0.0, "refractory": 0.0, "cutoff_hz": 0.0} | other)


def flicker(steps, seed=0):
    return np.random.default_rng(seed).uniform(0, 255, (steps, *SIZE))


@pytest.mark.parametrize("name", [field.name for field in fields(events.Pixel)])
@pytest.mark.parametrize("wrong", [-0.2, 1e12, 1e308, float("inf"), float("-inf"), float("nan")])
def test_pixel_refuses_nonsense(name, wrong):
    option = f"--pixel.{name.replace('_', '-')}"
    with pytest.raises(UsageError, match=f"{option} must be from 0.* to .*, not {re.escape(str(wrong))}"):
        events.Pixel(**{name: wrong})


def test_pixel_refuses_a_bandwidth_of_hours():
    with pytest.raises(UsageError, match=r"--pixel\.cutoff-hz must be 0, .* or at least 0\.01, not 1e-300"):
        events.Pixel(cutoff_hz=1e-300)
    assert events.Pixel(cutoff_hz=0.01).cutoff_hz == 0.01


@pytest.mark.parametrize("end", ["low", "high"])
def test_pixel_stays_finite_at_both_ends_of_each_range(end):
    hints = get_type_hints(events.Pixel, include_extras=True)
    for name, hint in hints.items():
        pixel = events.Pixel(**{name: float(getattr(hint.__metadata__[0], end))})
        stream = events.record(events.DvsCamera(pixel), flicker(4), 30)
        assert np.all(np.diff(np.sort(stream["t"])) >= 0)
        assert stream["t"].max(initial=0) <= 100_000


def test_several_events_of_an_interval_have_interpolated_times():
    frames = [np.full((1, 1), 50.0), np.full((1, 1), 50 * np.exp(0.9))]
    stream = events.record(events.DvsCamera(events.IDEAL), frames, fps=10)
    assert stream["t"].tolist() == [22222, 44444, 66667, 88889]  # 0.2 / 0.9 of 0.1 s, ...
    assert stream["p"].all()


def test_what_goes_up_and_comes_back_makes_as_many_off_as_on_events():
    swing = np.random.default_rng(1).uniform(0.1, 1.4, (1, 500))
    frames = [100 * np.exp(swing * part) for part in (0, 0.5, 1, 0.3, 0)]
    stream = events.record(events.DvsCamera(events.IDEAL), frames, fps=30)
    on, off = (np.bincount(stream["x"][stream["p"] == p], minlength=500) for p in (True, False))
    assert (on == off).all()
    assert (on == np.floor(swing[0] / 0.2)).all()


def test_frames_and_their_rate_of_one_ramp_do_not_matter():
    ends = [
        events.record(
            events.DvsCamera(events.IDEAL), 60 * np.exp(np.linspace(0, 1.1, n))[:, None, None], n - 1
        )
        for n in (2, 5, 50)
    ]
    for stream in ends[1:]:
        assert np.abs(stream["t"] - ends[0]["t"]).max() <= 2


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([0.0, 0.002, 0.05, 0.3]), st.sampled_from([0.0, 30.0]))
def test_streams_are_sound_and_pixels_rest_after_each_event(seed, refractory, cutoff):
    pixel = events.Pixel(refractory=refractory, shot_noise_hz=5.0, leak_hz=2.0, cutoff_hz=cutoff)
    stream = events.record(events.DvsCamera(pixel, seed), flicker(12, seed), fps=30)
    streams.check(stream, SIZE[1], SIZE[0])
    assert stream["t"].max() <= 11 / 30 * 1e6 + 1
    number = stream["y"].astype(int) * SIZE[1] + stream["x"]
    order = np.lexsort((stream["t"], number))
    gaps = np.diff(stream["t"][order])[np.diff(number[order]) == 0]
    assert gaps.min(initial=10**9) >= refractory * 1e6 - 1.5  # two roundings to a microsecond


def test_an_event_that_is_just_due_in_a_slow_tail_does_not_deafen_the_pixel():
    pixel = noisy(mismatch=0.0, cutoff_hz=5.0)
    light = 100 * np.exp(0.2 * (1 - 9.8e-5))  # just due at last, while the voltage hardly moves
    frames = [np.full((1, 1), value) for value in [100.0] + [light] * 30 + [2 * light] * 30]
    stream = events.record(events.DvsCamera(pixel), frames, fps=30)
    assert len(stream) == 1 + 3  # log(2) / 0.2 = 3.5
    assert 0.5e6 < stream["t"][0] < 1.0e6 < stream["t"][1] < 1.1e6


def test_a_still_ideal_scene_is_silent_and_black_is_no_fault():
    with np.errstate(all="raise"):
        still = [flicker(1)[0]] * 20
        assert len(events.record(events.DvsCamera(events.IDEAL), still, 30)) == 0
        black = [np.zeros(SIZE, dtype=np.uint8)] * 20
        assert (
            len(events.record(events.DvsCamera(events.Pixel(leak_hz=0.0, shot_noise_hz=0.0)), black, 30)) == 0
        )


@pytest.mark.parametrize(("light", "share"), [(0, 1 - 0.75 * 20 / 275), (255, 0.25), (1e6, 0.25)])
def test_shot_noise_has_its_rate_and_no_sign(light, share):
    frames = [np.full((100, 100), light)] * 101
    stream = events.record(events.DvsCamera(noisy(shot_noise_hz=4.0, mismatch=0.0)), frames, fps=50)
    expected = 10_000 * 2.0 * 4 * share
    assert abs(len(stream) - expected) < 5 * expected**0.5
    assert abs(stream["p"].sum() - expected / 2) < 5 * (expected / 2) ** 0.5


def test_shot_noise_comes_in_pixels_that_fire_too():
    """Each pixel fires in each interval here; noise that left these out would be 0."""
    light = np.tile(np.array([80.0, 80 * np.exp(0.401)])[:, None, None], (50, 100, 100))  # [T, H, W]
    pixel = noisy(mismatch=0.0)
    quiet = events.record(events.DvsCamera(pixel), light, fps=50)
    loud = events.record(events.DvsCamera(replace(pixel, shot_noise_hz=4.0)), light, fps=50)
    share = 1 - 0.75 * (light[1:].mean() + 20) / 275
    expected = 10_000 * 4 * share * (len(light) - 1) / 50
    assert len(quiet) == 2 * 10_000 * (len(light) - 1)  # 0.401 is two thresholds, and hardly more
    assert len(loud) - len(quiet) == pytest.approx(expected, rel=0.1)


def test_leak_makes_on_events_at_its_rate():
    frames = [np.full((40, 40), 100.0)] * 301
    stream = events.record(events.DvsCamera(noisy(leak_hz=2.0)), frames, fps=30)
    assert stream["p"].all()
    assert len(stream) / 1600 / 10 == pytest.approx(2.0 * 10 ** (0.005 * np.log(10)) - 0.05, rel=0.03)


def test_a_camera_repeats_itself_for_a_seed():
    runs = [events.record(events.DvsCamera(events.Pixel(), seed), flicker(5), 30) for seed in (1, 1, 2)]
    assert runs[0].tobytes() == runs[1].tobytes() != runs[2].tobytes()


def test_time_must_go_on():
    camera = events.DvsCamera(events.Pixel())
    camera.step(flicker(1)[0], 1.0)
    with pytest.raises(ValueError, match="cannot follow"):
        camera.step(flicker(1)[0], 1.0)


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (np.zeros((4, 5, 3)), r"a frame is light \[H, W\], grey; this one is \[4, 5, 3\]"),
        (np.zeros((5, 5)), r"a frame of \[5, 5\] pixels cannot follow one of \[4, 5\]"),
        (np.full((4, 5), np.nan), "nan"),
        (np.full((4, 5), np.inf), "infinite"),
        (np.full((4, 5), -1.0), "below 0"),
    ],
)
def test_what_is_no_frame_is_refused(frame, reason):
    camera = events.DvsCamera(events.Pixel())
    camera.step(np.zeros((4, 5)), 0.0)
    with pytest.raises(ValueError, match=reason):
        camera.step(frame, 1.0)


@pytest.mark.parametrize("fps", [0, -30, float("nan"), float("inf")])
def test_what_is_no_rate_is_refused(fps):
    with pytest.raises(ValueError, match="fps is a number of frames a second, not"):
        events.record(events.DvsCamera(events.Pixel()), flicker(2), fps)


def test_state_is_single_precision():
    camera = events.DvsCamera(events.Pixel())
    for number, frame in enumerate(flicker(3)):
        camera.step(frame, number / 30)
    assert camera.volts.dtype == camera.moved.dtype == camera.on.dtype == np.float32


def test_no_frames_give_no_events():
    assert len(events.record(events.DvsCamera(events.Pixel()), [], 30)) == 0


# ---------------------------------------------------------------------- v2e


class Emulator:
    """A double of v2e's EventEmulator: fires one ON event at x = 2, y = 1 for each frame but the first."""

    def __init__(self, **arguments):
        self.arguments, self.frames = arguments, 0

    def generate_events(self, new_frame, t_frame):
        self.frames += 1
        row = [[t_frame, 2, 1, 1], [t_frame - 1e-4, 3, 0, -1]]
        return np.array(row, dtype=np.float32) if self.frames > 1 else None


def pretend_v2e(monkeypatch, emulator):
    module = types.ModuleType("v2ecore.emulator")
    module.EventEmulator = emulator
    monkeypatch.setitem(sys.modules, "v2ecore", types.ModuleType("v2ecore"))
    monkeypatch.setitem(sys.modules, "v2ecore.emulator", module)


def test_v2e_gets_the_same_pixel_and_gives_the_same_kind_of_stream(monkeypatch):
    pretend_v2e(monkeypatch, Emulator)
    camera = events.make_camera(events.Pixel(threshold_off=0.3, refractory=0.001), "auto", seed=0)
    assert isinstance(camera, events.V2eCamera)
    given_ = camera.emulator.arguments
    assert (given_["pos_thres"], given_["neg_thres"], given_["refractory_period_s"]) == (0.2, 0.3, 0.001)
    assert given_["seed"] != 0  # v2e would not set a seed
    stream = events.record(camera, flicker(3), fps=10)
    assert stream.dtype == streams.DTYPE
    first, second = stream[:2].tolist(), stream[2:].tolist()
    assert first == [(3, 0, 99900, False), (2, 1, 100000, True)]
    assert second == [(3, 0, 199900, False), (2, 1, 200000, True)]


def test_builtin_wins_when_it_is_asked_for(monkeypatch):
    pretend_v2e(monkeypatch, Emulator)
    assert isinstance(events.make_camera(events.Pixel(), "builtin"), events.DvsCamera)


@pytest.mark.parametrize("fault", [ImportError("no tkinter"), RuntimeError("no display")])
def test_a_v2e_that_does_not_import_is_absent(monkeypatch, fault):
    def fail(name):
        raise fault

    monkeypatch.setattr(events.importlib, "import_module", fail)
    assert isinstance(events.make_camera(events.Pixel(), "auto"), events.DvsCamera)
    with pytest.raises(UsageError, match=rf"{fault}.*course.py env"):
        events.make_camera(events.Pixel(), "v2e")
