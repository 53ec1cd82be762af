"""Which scripts are measured, what was missed or cut off, and where the journal lacks words."""

import copy
import json
import os

from snn_course.runs import scripts
from snn_course import ROOT, journal_file, results_dir
from snn_course.journal import blocks as journal
from snn_course.schedule import standing
from tests.runs.test_metrics_file import METRICS

import pytest

SCRIPTS = scripts.find(ROOT)


def said():
    """Give what is said of the runs, as one text."""
    now = standing.now(SCRIPTS)
    shown = list(standing.notes(now))
    assert max(map(len, shown), default=0) < 80
    assert all(line == line.rstrip() for line in shown)
    known = " ".join(script.label for script in now.measured)
    return "\n".join([f"measured: {known}", *shown, ""])


def measured(stem, scale="cpu", started="2026-11-21T22:40:00+00:00", met=True):
    metrics = copy.deepcopy(METRICS)
    metrics |= {"lesson": stem, "scale": scale, "started": started, "status": "ok" if met else "missed"}
    metrics["measures"][0]["met"] = met
    path = results_dir() / stem / scale / "metrics.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(metrics), encoding="utf-8")


def environment_was_tested():
    path = results_dir() / "00_environment_test" / "environment.json"
    path.parent.mkdir(parents=True)
    path.write_text("{}", encoding="utf-8")


def test_what_was_cut_off_is_named():
    environment_was_tested()
    measured("01_lif_neuron")
    state = results_dir() / "10_convolutional_snn" / "cpu" / "unfinished" / "0123456789ab"
    state.mkdir(parents=True)
    assert "unfinished" not in said()  # an empty folder holds nothing
    (state / "train-seed0.pt").touch()
    assert "  unfinished  10: the next run goes on where it was\n" in said()


def test_what_an_older_start_left_is_not_cut_off():
    """A damaged state stays, and so does that of other settings: the run that has ended since is newer."""
    environment_was_tested()
    measured("01_lif_neuron")
    folder = results_dir() / "01_lif_neuron" / "cpu"
    measured("01_lif_neuron", "cpu")
    state = folder / "unfinished" / "0123456789ab" / "train-seed0.pt"
    state.parent.mkdir(parents=True)
    state.touch()
    ended = (folder / "metrics.json").stat().st_mtime
    for kept, told in ((ended - 1, False), (ended + 1, True)):
        os.utime(state, (kept, kept))
        assert ("unfinished" in said()) == told
    state.rename(state.with_name("train-seed0.damaged.pt"))
    assert "unfinished" not in said()


def test_a_missed_goal_is_named_and_the_newest_run_counts():
    environment_was_tested()
    measured("01_lif_neuron", "quick", "2026-11-20T10:00:00+00:00", met=False)
    assert "  missed      01_lif_neuron, quick scale: " in said()
    measured("01_lif_neuron", "cpu", "2026-11-21T10:00:00+00:00", met=True)
    assert "missed" not in said()


def test_the_journal_tells_where_words_are_missing():
    environment_was_tested()
    for stem in ("01_lif_neuron", "02_spike_encoding", "03_spike_visualization"):
        measured(stem)
        journal.write_block(journal_file(), f"{stem} cpu", "measured: 5")
    assert "  journal     no words of yours yet on 01 02 03\n" in said()
    text = journal_file().read_text(encoding="utf-8")
    head, found, tail = text.partition("measured:end 02_spike_encoding cpu -->")
    tail = tail.replace(
        "- Key insight, in one sentence:", "- Key insight, in one sentence: latency is short", 1
    )
    journal_file().write_text(head + found + tail, encoding="utf-8")
    assert "no words of yours yet on 01 03\n" in said()


@pytest.mark.parametrize("damage", [b"\xff\xfe\x00", b"", b"## a\n<!-- measured:begin 01_lif_neuron"])
def test_a_damaged_journal_or_result_is_no_obstacle(damage):
    environment_was_tested()
    measured("01_lif_neuron")
    journal_file().write_bytes(damage)
    for stem, text in (
        ("02_spike_encoding", "["),
        ("03_spike_visualization", '{"started": 3, "measures": []}'),
    ):
        measured(stem)
        (results_dir() / stem / "cpu" / "metrics.json").write_text(text, encoding="utf-8")
    assert "measured: 01\n" in said()
    journal_file().unlink()
    journal_file().mkdir()
    assert "no words of yours yet on 01\n" in said()
