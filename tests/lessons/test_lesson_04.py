"""Lesson 04: the proofs hold, and a camera with one fault, or another v2e, is caught."""

import sys
import types
from dataclasses import replace
from pathlib import Path

from snn_course.runs import lesson
from snn_course import UsageError
from snn_course.events import camera, drawing, streams, video

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

L = lesson.load(4)
lin_log, comparator, v2e_missing = camera.lin_log, camera.DvsCamera._comparator, camera.v2e_missing


@pytest.fixture
def config(monkeypatch):
    monkeypatch.setattr(camera, "v2e_missing", lambda: "not in this test")
    return L.Config(scale="quick", device="cpu", width=64, seconds=0.5)


@pytest.fixture
def run(config):
    return lesson.Run(config, Path("04_event_cameras_v2e.py"))


def value(run, name):
    return run.record.measures[name].values[-1]


# ---------------------------------------------------------------------- proofs, and cameras with one fault


def test_proofs_hold_for_any_seed(config, run):
    for seed in range(4):
        run.seed = seed
        L.prove_ramps(config, run)
        L.prove_fast_model(run, L.clip_of(config), 0.2)
        L.prove_real_pixel(config, run, L.clip_of(config))
    L.measure_latency(config, run)


@pytest.mark.parametrize(
    "pixel",
    [
        camera.Pixel(mismatch=0.0),
        camera.Pixel(mismatch=0.15),
        camera.Pixel(threshold_on=1.0, threshold_off=0.05, cutoff_hz=10.0),
        camera.Pixel(cutoff_hz=0.0, leak_hz=0.0, shot_noise_hz=0.0, refractory=0.0),
    ],
)
def test_proofs_hold_for_other_pixels(config, run, pixel):
    config = replace(config, pixel=pixel)
    L.prove_ramps(config, run)
    L.prove_real_pixel(config, run, L.clip_of(config))
    L.measure_latency(config, run)


def at_the_frame(self, rise, time):
    number, at, on = comparator(self, rise, time)
    return number, np.full_like(at, time), on


def upside_down(self, rise, time):
    number, at, on = comparator(self, rise, time)
    return number, at, ~on


def one_a_frame(self, rise, time):
    number, at, on = comparator(self, rise, time)
    first = np.unique(number, return_index=True)[1]
    return number[first], at[first], on[first]


def never_deaf(self, rise, time):
    pixel, self.pixel = self.pixel, replace(self.pixel, refractory=0.0)
    found = comparator(self, rise, time)
    self.pixel = pixel
    return found


def forgets_the_rest(self, rise, time):
    found = comparator(self, rise, time)
    self.moved[np.unique(found[0])] = 0  # as if the reset came with the frame, not with the event
    return found


@pytest.mark.parametrize("fault", [at_the_frame, upside_down, one_a_frame, never_deaf, forgets_the_rest])
def test_wrong_comparator_is_caught(fault, config, run, monkeypatch):
    monkeypatch.setattr(camera.DvsCamera, "_comparator", fault)
    with pytest.raises(lesson.ProofMissed, match="ramp"):
        L.prove_ramps(config, run)
    with pytest.raises(lesson.ProofMissed, match="RealPixel"):
        L.prove_real_pixel(replace(config, pixel=camera.Pixel(refractory=0.01)), run, L.clip_of(config))


@pytest.mark.parametrize(
    ("fault", "where"),
    [
        (lambda light: (light / 60).astype(np.float32), "log"),  # a difference of frames
        (lambda light: np.log(np.maximum(light, 1)).astype(np.float32), "dark"),
        (lambda light: np.log10(np.maximum(light, 1)).astype(np.float32), "log"),
    ],
)
def test_wrong_photoreceptor_is_caught(fault, where, config, run, monkeypatch):
    monkeypatch.setattr(camera, "lin_log", fault)
    with pytest.raises(lesson.ProofMissed, match=f"ramp, {where}"):
        L.prove_ramps(config, run)


def test_bandwidth_that_ignores_the_light_is_caught(config, run, monkeypatch):
    def constant(self, light, dt):
        gap = (lin_log(light) - self.volts) * (1 - np.exp(-2 * np.pi * dt * self.pixel.cutoff_hz))
        self.volts += gap
        return gap

    monkeypatch.setattr(camera.DvsCamera, "_photoreceptor", constant)
    with pytest.raises((lesson.ProofMissed, ValueError)):
        L.measure_latency(config, run)


def test_the_lessons_pixel_is_the_models_rule():
    times, light = np.arange(4.0), 100 * np.exp([0, 0.5, 0.5, -0.15])
    events = L.events_of_pixel(times, light, 0.2)
    assert [brighter for _, brighter in events] == [True, True, False, False]
    assert [at for at, _ in events] == pytest.approx([0.4, 0.8, 2 + 0.3 / 0.65, 2 + 0.5 / 0.65])
    assert L.events_of_pixel(times, np.full(4, 3.0), 0.2) == []


@given(st.integers(0, streams.WIDTH - 1), st.integers(0, streams.HEIGHT - 1), st.booleans())
def test_an_address_holds_an_event(x, y, p):
    assert L.unpack(L.pack(x, y, p)) == (x, y, p)
    assert 0 <= L.pack(x, y, p) < 2**31


def test_number_of_due_times_is_floor_of_contrast_over_threshold():
    for contrast in np.random.default_rng(0).uniform(0.01, 3, 200):
        assert len(L.due_times(0.2 / contrast, 0.0, 1.0)) == np.floor(contrast / 0.2)


# ---------------------------------------------------------------------- experiments


def test_a_linear_camera_does_not_see_120_decibels(config, run, monkeypatch):
    L.see_wide_range(config, run)
    assert value(run, "range of light with visible bars, events") > 110
    assert value(run, "range of light with visible bars, frame") < 60
    monkeypatch.setattr(camera, "lin_log", lambda light: (light / 1e6).astype(np.float32))
    L.see_wide_range(config, run)
    assert value(run, "range of light with visible bars, events") < 60


def test_data_rates(config, run):
    rates = L.weigh(config, run)
    assert rates == sorted(rates)
    even = value(run, "speed from which events cost more than 30 frames/s")
    below = max(speed for speed, rate in zip(L.SPEEDS, rates, strict=True) if rate <= 64 * 48 * 30 / 1e6)
    assert below <= even <= L.SPEEDS[L.SPEEDS.index(below) + 1]
    assert value(run, "static / moving (100 px/s), bytes") < 0.05


def test_events_may_cost_more_from_the_start_or_never():
    assert np.isnan(L.break_even([5.0, 6.0, 7.0], 1.0))
    assert np.isnan(L.break_even([5.0, 6.0, 7.0], 9.0))
    assert L.break_even([0.0, 1.0, 3.0], 2.0) == 15.0
    assert drawing.title_of_rates([5.0, 6.0], 1.0, np.nan).startswith("Events take more")
    assert drawing.title_of_rates([5.0, 6.0], 9.0, np.nan).startswith("Events take fewer")


def test_the_clip_survives_the_way_through_tonic(config, run):
    clip = L.clip_of(config)
    stream = L.convert_clip(config, run, clip)
    assert clip.frames.shape == (16, 48, 64)
    assert clip.times[-1] == 0.5
    assert value(run, "read back by Tonic: not bit for bit") == 0
    assert (streams.read(run.folder / "clip.aedat") == stream).all()


def test_a_still_picture_is_seen_when_it_moves(config, run):
    L.show_a_still_picture(config, run)
    rates = {row[0]: row[1] for row in run.record.tables["One still picture"]["runs"][0]}
    assert rates["at rest"] < 0.2 < rates["rotated"] < rates["flickers"]
    assert min(rates["shifted"], rates["saccades"]) > 1


def test_saccades_come_back():
    frames = L.shown(L.render(0, 64).astype(float), "saccades")
    assert frames[0] == pytest.approx(frames[-1])
    assert frames[0] != pytest.approx(frames[30])
    across = L.moved(L.render(0, 64).astype(float), 3, 0, 0.0)
    assert across[:, :-3] == pytest.approx(L.render(0, 64)[:, 3:])


def test_poisson_events_have_the_rate_of_their_brightness():
    picture = np.full((60, 60), 51.0)
    stream = L.poisson_events(picture, 2.0, 20.0, 0)
    assert len(stream) == pytest.approx(3600 * 2 * 4, rel=0.05)
    streams.check(stream, 60, 60)


def test_a_file_that_loses_a_bit_is_caught(config, run, monkeypatch):
    read = streams.read
    monkeypatch.setattr(
        streams, "read", lambda path: streams.make(*(read(path)[k] for k in "xy"), read(path)["t"] // 2, 1)
    )
    with pytest.raises(lesson.ProofMissed, match="Tonic"):
        L.convert_clip(config, run, L.clip_of(config))


def test_unsorted_events_miss_their_bins(run):
    rng = np.random.default_rng(0)
    stream = streams.make(rng.integers(0, 9, 5000), 0, rng.integers(0, 900_000, 5000), rng.random(5000) < 0.5)
    L.bin_unsorted(run, stream, 9, 1)
    assert value(run, "catch: events missing from their bin") > 20
    stream["p"] = True  # a list of ON events alone stays sorted
    L.bin_unsorted(run, stream, 9, 1)
    assert value(run, "catch: events missing from their bin") == 0


def test_scene_moves_by_parts_of_a_pixel():
    still, moved = L.render(10.0, 64).astype(int), L.render(10.4, 64).astype(int)
    assert still.shape == (48, 64)
    assert 0 < np.abs(moved - still).max() < 120  # an edge moves on by 0.4, it does not jump
    assert ((moved != still).mean(axis=0) > 0).sum() < 40  # the carpet rests


def test_video_is_one_clear_line(config, run, tmp_path):
    with pytest.raises(UsageError, match="no such file"):
        L.main(replace(config, video=tmp_path / "no.mp4"), run)


def folder_of(path, lights):
    """Make a film as a folder of pictures, each of one light."""
    path.mkdir()
    for number, light in enumerate(lights):
        cv2.imwrite(str(path / f"{number}.png"), np.full((48, 64), light, dtype=np.uint8))
    return path


def test_a_clip_in_which_nothing_moves(config, run, tmp_path):
    still = replace(config, video=folder_of(tmp_path / "still", [80] * 9), pixel=camera.IDEAL)
    with pytest.raises(UsageError, match="Nothing moves"):
        L.main(still, run)
    brighter = replace(config, video=folder_of(tmp_path / "up", range(40, 100, 10)), pixel=camera.IDEAL)
    with pytest.raises(UsageError, match="something moves"):
        L.convert_clip(brighter, run, L.clip_of(brighter))


def test_slow_motion_has_events_as_much_faster(config, run, tmp_path):
    """The same pictures at 240 a second: the same events in an eighth of the time."""
    film = folder_of(tmp_path / "p", [40, 90, 200, 90, 40, 60, 150, 30, 20])
    pixel = replace(camera.IDEAL, mismatch=0.01)
    last = {}
    for fps in (None, 240.0):
        slow = replace(config, video=film, fps=fps, pixel=pixel)
        last[fps] = L.convert_clip(slow, run, L.clip_of(slow))
    assert len(last[240.0]) == len(last[None])
    assert last[None]["t"].max() == pytest.approx(8 * last[240.0]["t"].max(), abs=10)


@pytest.mark.parametrize("size", [(4000, 4), (3, 400)])
def test_a_thin_film_runs_through_the_lesson(config, run, tmp_path, size):
    (tmp_path / "thin").mkdir()
    for number in range(8):
        stripes = np.full(size[::-1], 60, dtype=np.uint8)
        stripes[:: 1 + number % 3] = 200  # all lines, every second, every third
        stripes[:, : 50 * number] = 90
        cv2.imwrite(str(tmp_path / "thin" / f"{number}.png"), stripes)
    thin = replace(config, video=tmp_path / "thin")
    clip = L.clip_of(thin)
    L.watch_a_pixel(thin, run, clip)
    L.bin_unsorted(run, L.convert_clip(thin, run, clip), *clip.frames.shape[:0:-1])
    L.look_into_the_circuit(thin, run, clip)


# ---------------------------------------------------------------------- v2e


class Emulator:
    """A double of v2e: whole thresholds since the last event, all at the time of the frame."""

    share = 1.0

    def __init__(self, pos_thres, **other):
        self.threshold, self.base = pos_thres * self.share, None

    def generate_events(self, new_frame, t_frame):
        log = lin_log(np.asarray(new_frame, dtype=float))
        self.base = log if self.base is None else self.base
        count = np.trunc((log - self.base) / self.threshold + 1e-4 * np.sign(log - self.base)).astype(int)
        self.base = self.base + count * self.threshold
        y, x = np.nonzero(count)
        times = np.abs(count[y, x])
        rows = np.stack([np.full(len(y), t_frame), x, y, np.sign(count[y, x])], axis=1)
        return np.repeat(rows, times, axis=0) if len(rows) else None


class Louder(Emulator):
    share = 0.8


@pytest.fixture
def pretend(run, monkeypatch):
    monkeypatch.setattr(camera, "v2e_missing", v2e_missing)
    module = types.ModuleType("v2ecore.emulator")
    module.EventEmulator = Emulator
    monkeypatch.setitem(sys.modules, "v2ecore", types.ModuleType("v2ecore"))
    monkeypatch.setitem(sys.modules, "v2ecore.emulator", module)
    return module


def short_clip():
    return video.Clip(np.stack([L.render(2 * n, 64) for n in range(12)]), np.arange(12) / 30)


def test_v2e_agrees_or_the_lesson_ends(run, pretend, monkeypatch):
    config = L.Config(scale="quick", device="cpu", pixel=replace(camera.IDEAL, mismatch=0.01))
    noiseless = {"leak_hz": 0.0, "shot_noise_hz": 0.0}  # the double has none
    monkeypatch.setattr(L, "replace", lambda pixel, **other: replace(pixel, **other | noiseless))
    L.compare_with_v2e(config, run, short_clip())
    assert value(run, "events / v2e's events - 1, same model") == 0
    pretend.EventEmulator = Louder
    with pytest.raises(lesson.ProofMissed, match="v2e"):
        L.compare_with_v2e(config, run, short_clip())


def test_v2e_makes_the_clip_when_it_is_there(run, pretend):
    config = L.Config(scale="quick", device="cpu", width=64, seconds=0.5, engine="auto")
    L.convert_clip(config, run, L.clip_of(config))
    assert run.record.tables["The clip"]["runs"][0][0][0] == "v2e"


@pytest.mark.skipif(bool(v2e_missing()), reason="v2e is not installed")
@pytest.mark.parametrize("shot_noise_hz", [0.1, 1.0, 10.0])
def test_v2e_itself_agrees(config, run, monkeypatch, shot_noise_hz):
    monkeypatch.setattr(camera, "v2e_missing", v2e_missing)
    pixel = camera.Pixel(shot_noise_hz=shot_noise_hz)
    L.compare_with_v2e(replace(config, width=160, pixel=pixel), run, short_clip())


def test_titles_say_what_was_measured():
    stream = streams.make([0] * 90 + list(range(1, 11)), 0, np.linspace(0, 2e6, 100), 1)
    title = drawing.title_of_cloud(stream)
    assert title == "100 events in 2.0 s; the busiest tenth of the pixels sent 90 % of them"
    title = drawing.title_of_rates([0.1, 9.0], 0.5, 30.4)
    assert title == "Events take fewer bytes than 30 frames a second up to 30 pixels a second"
