"""Video in: films of constant and variable rate, slow motion, folders of pictures, and sizes of all kinds."""

import subprocess
import sys

from snn_course import ROOT, UsageError
from snn_course.events import video

import cv2
import imageio_ffmpeg
import numpy as np
import pytest

SIZE = (346, 260)


@pytest.fixture
def clip(tmp_path):
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 20, (80, 64))
    for shade in range(40):
        writer.write(np.full((64, 80, 3), 5 * shade, dtype=np.uint8))
    writer.release()
    return path


def pictures(folder, names, size=(8, 6)):
    folder.mkdir()
    for number, name in enumerate(names):
        cv2.imwrite(str(folder / name), np.full(size[::-1], 20 * number, dtype=np.uint8))
    return folder


def test_frames_are_grey_and_fit(clip):
    frames, times = video.read(clip, 1.0, *SIZE)
    assert times == pytest.approx(np.arange(21) / 20)  # one second: 20 intervals
    assert frames.shape == (21, 64, 80)
    assert frames.dtype == np.uint8
    assert np.abs(frames.mean(axis=(1, 2)) - 5 * np.arange(21)).max() < 3
    assert video.read(clip, 9.0, 40, 260).frames.shape == (40, 32, 40)
    assert video.read(clip, 9.0, 346, 16).frames.shape == (40, 16, 20)


def test_slow_motion_has_the_cameras_rate(clip):
    slow = video.read(clip, 9.0, *SIZE, fps=240)
    assert slow.times == pytest.approx(np.arange(40) / 240)
    assert slow.seconds == pytest.approx(39 / 240)
    assert len(video.read(clip, 0.1, *SIZE, fps=240).frames) == 25


def test_a_variable_rate_is_kept(tmp_path):
    """Phones film so: the frames of this film last 80 to 280 ms."""
    pictures(tmp_path / "p", [f"{number}.png" for number in range(5)])
    lasting = [0.12, 0.04, 0.28, 0.04, 0.08]
    lines = [f"file 'p/{number}.png'\nduration {each}" for number, each in enumerate(lasting)]
    (tmp_path / "list.txt").write_text("\n".join(lines), encoding="utf-8")
    film = tmp_path / "film.mkv"
    options = ["-loglevel", "error", "-f", "concat", "-i", "list.txt", "-fps_mode", "vfr"]
    subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), *options, str(film)], check=True, cwd=tmp_path)
    times = video.read(film, 9.0, *SIZE).times
    assert times == pytest.approx(np.cumsum([0, *lasting[:-1]]), abs=0.002)


def test_stamps_that_stand_still_give_way_to_the_rate(clip, monkeypatch):
    class NoStamps:
        def __init__(self, name):
            self.real = REAL(name)

        def get(self, which):
            return 0.0 if which == cv2.CAP_PROP_POS_MSEC else self.real.get(which)

        def __getattr__(self, name):
            return getattr(self.real, name)

    monkeypatch.setattr(cv2, "VideoCapture", NoStamps)
    assert video.read(clip, 1.0, *SIZE).times == pytest.approx(np.arange(21) / 20)


REAL = cv2.VideoCapture


def test_a_folder_is_shown_in_the_order_of_its_numbers(tmp_path):
    folder = pictures(tmp_path / "p", ["2.png", "10.png", "1.PNG"])
    (folder / "notes.txt").write_text("not a picture", encoding="utf-8")
    frames, times = video.read(folder, 9.0, *SIZE)
    assert frames[:, 0, 0].tolist() == [40, 0, 20]
    assert times == pytest.approx([0, 1 / 30, 2 / 30])
    assert video.read(folder, 9.0, *SIZE, fps=5).times == pytest.approx([0, 0.2, 0.4])


def test_hidden_files_are_no_pictures_and_names_may_have_any_digits(tmp_path):
    folder = pictures(tmp_path / "p", ["x\u00b23.png", "x\u00b210.png", "1.png"])  # x squared
    (folder / "._1.png").write_bytes(b"Mac OS X")
    assert video.read(folder, 9.0, *SIZE).frames[:, 0, 0].tolist() == [40, 0, 20]


@pytest.mark.parametrize("size", [(4000, 4), (4, 4000), (1, 1), (2, 3), (346, 260), (347, 261)])
def test_any_size(tmp_path, size):
    frames = video.read(pictures(tmp_path / "p", ["1.png", "2.png"], size), 9.0, *SIZE).frames
    height, width = frames.shape[1:]
    assert 1 <= width <= min(346, size[0])
    assert 1 <= height <= min(260, size[1])


def test_a_film_as_thin_as_a_line(tmp_path):
    writer = cv2.VideoWriter(str(tmp_path / "t.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 20, (4000, 4))
    for shade in range(5):
        writer.write(np.full((4, 4000, 3), 40 * shade, dtype=np.uint8))
    writer.release()
    assert video.read(tmp_path / "t.avi", 9.0, *SIZE).frames.shape == (5, 1, 346)


def test_folders_that_are_no_film(tmp_path):
    with pytest.raises(UsageError, match="no moving pictures"):
        video.read(pictures(tmp_path / "none", []), 1.0, *SIZE)
    with pytest.raises(UsageError, match="one picture in its first 1 s"):
        video.read(pictures(tmp_path / "one", ["1.png"]), 1.0, *SIZE)
    with pytest.raises(UsageError, match="one picture in its first 1 s"):
        video.read(pictures(tmp_path / "slow", ["1.png", "2.png"]), 1.0, *SIZE, fps=0.5)
    mixed = pictures(tmp_path / "mixed", ["1.png"])
    cv2.imwrite(str(mixed / "2.png"), np.zeros((9, 9), dtype=np.uint8))
    with pytest.raises(UsageError, match="another size"):
        video.read(mixed, 1.0, *SIZE)
    for name in ("empty.png", "damaged.png", "folder.png"):
        bad = pictures(tmp_path / f"bad-{name}", ["1.png"])
        (bad / name).mkdir() if name == "folder.png" else (bad / name).write_bytes(name[:-4].encode()[7:])
        with pytest.raises(UsageError, match=f"cannot read {name}"):
            video.read(bad, 1.0, *SIZE)


def test_memory_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(video, "MOST", 3)
    folder = pictures(tmp_path / "p", [f"{number}.png" for number in range(5)])
    with pytest.raises(UsageError, match="fewer --seconds"):
        video.read(folder, 9.0, *SIZE)
    assert len(video.read(folder, 2 / 30, *SIZE).frames) == 3


@pytest.mark.parametrize("name", ["missing.mp4", "text.mp4", "empty.avi"])
def test_a_film_that_cannot_be_read_is_one_line(tmp_path, name):
    (tmp_path / "text.mp4").write_text("no film", encoding="utf-8")
    (tmp_path / "empty.avi").touch()
    with pytest.raises(UsageError, match=r"^--video .+\.$") as error:
        video.read(tmp_path / name, 1.0, *SIZE)
    assert "\n" not in str(error.value)


def test_opencv_adds_no_lines_of_its_own(tmp_path):
    (tmp_path / "text.mp4").write_text("no film", encoding="utf-8")
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "1.png").write_bytes(b"\x89PNG\r\n\x1a\n no picture")
    read = (
        "import sys, pathlib; from snn_course.events import video\n"
        "try: video.read(pathlib.Path(sys.argv[1]), 1, 9, 9)\n"
        "except video.UsageError as error: print(error)"
    )
    for name in ("text.mp4", "p"):
        command = [sys.executable, "-c", read, str(tmp_path / name)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
        assert done.stdout.startswith("--video")
        assert done.stderr == ""
