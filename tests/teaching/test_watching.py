"""``check --watch`` checks again when the file is saved whole, and ends with Ctrl-C."""

import threading
import time

from snn_course.teaching import watching

import pytest


@pytest.fixture(autouse=True)
def quick_looks(monkeypatch):
    monkeypatch.setattr(watching, "LOOK", 0.02)


def test_a_save_is_seen_also_by_an_editor_that_takes_the_file_away(tmp_path):
    path = tmp_path / "file.py"
    path.write_text("one")
    before = watching.stamp(path)

    def save():
        time.sleep(0.1)
        path.unlink()
        time.sleep(0.1)
        path.write_text("two, and longer")

    thread = threading.Thread(target=save)
    thread.start()
    after = watching.until_changed(path, before)
    thread.join()
    assert after == watching.stamp(path) != before


def test_each_save_is_one_check_until_ctrl_c(tmp_path):
    path = tmp_path / "file.py"
    path.write_text("a")
    seen = []

    def check():
        seen.append(path.read_text())
        if len(seen) == 3:
            raise KeyboardInterrupt
        threading.Timer(0.1, lambda: path.write_text("a" * (len(seen) + 1))).start()

    said = []
    with pytest.raises(KeyboardInterrupt):
        watching.watch(path, check, said.append)
    assert seen == ["a", "aa", "aaa"]
    assert "Ctrl-C" in said[1]
