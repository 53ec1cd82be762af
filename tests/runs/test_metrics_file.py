"""The schema of metrics.json, and reading and writing it."""

import copy
import json
import math
import threading

from snn_course.runs import metrics_file
from snn_course import UsageError

import pytest

METRICS = {
    "schema": 1,
    "lesson": "01_lif_neuron",
    "title": "LIF neuron",
    "question": "When does it spike?",
    "scale": "quick",
    "seed": 0,
    "seeds": 2,
    "command": "python lessons/01_lif_neuron.py --scale quick",
    "config": {"beta": 0.9, "steps": [1, 2]},
    "status": "ok",
    "seconds": 3.1,
    "started": "2026-11-21T22:40:00+00:00",
    "commit": None,
    "device": "cpu",
    "hardware": "a CPU, 2 cores",
    "versions": {"python": "3.11.7"},
    "data": [{"name": "MNIST", "as_used": "MNIST, 10 images", "stand_in": False}],
    "measures": [
        {
            "name": "accuracy",
            "kind": "goal",
            "unit": "%",
            "values": [97.5, 97.7],
            "mean": 97.6,
            "std": 0.1,
            "at_least": 97.0,
            "at_most": None,
            "met": True,
            "headline": True,
            "note": "",
            "speed": False,
            "chapter": "compare_codes",
        }
    ],
    "tables": [{"title": "Codes", "columns": ["code", "spikes"], "rows": [["rate", "12.1"], ["latency", 3]]}],
    "figures": [{"file": "raster.png", "title": "Latency: 3 spikes; rate: 12", "chapter": "draw_codes"}],
    "sentences": [{"text": "Latency sends 3 spikes, rate 12.", "chapter": "compare_codes"}],
}


def changed(path, value):
    """The metrics with one entry, named by its path, set to another value (or removed)."""
    metrics = copy.deepcopy(METRICS)
    place = metrics
    for key in path[:-1]:
        place = place[key]
    if value is KeyError:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return metrics


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "01_lif_neuron" / "quick" / "metrics.json"
    metrics_file.write(path, METRICS)
    assert metrics_file.read(path) == METRICS
    assert [file.name for file in path.parent.iterdir()] == ["metrics.json"]


def test_files_of_earlier_versions_are_read(tmp_path):
    old = copy.deepcopy(METRICS)
    del old["sentences"], old["figures"][0]["chapter"]
    del old["measures"][0]["speed"], old["measures"][0]["chapter"]
    path = tmp_path / "metrics.json"
    path.write_text(json.dumps(old), "utf-8")
    for check in (True, False):
        metrics = metrics_file.read(path, check)
        assert metrics["sentences"] == []
        assert metrics["measures"][0]["speed"] is False


def test_a_value_that_is_no_number_survives_as_nan_in_json_that_others_can_read(tmp_path):
    metrics = changed(["measures", 0, "values"], [97.0, math.nan])
    metrics["measures"][0] |= {"mean": math.nan, "std": math.inf, "met": False}
    metrics_file.write(tmp_path / "metrics.json", metrics)
    text = (tmp_path / "metrics.json").read_text("utf-8")
    assert "NaN" not in text
    assert "Infinity" not in text
    measure = metrics_file.read(tmp_path / "metrics.json")["measures"][0]
    assert math.isnan(measure["mean"])
    assert math.isnan(measure["values"][1])
    assert measure["std"] is None


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (["schema"], 2, "schema"),
        (["commit"], KeyError, "'commit' is a required property"),
        (["scale"], "huge", "scale"),
        (["seeds"], 0, "seeds"),
        (["status"], "failed", "status"),
        (["started"], "yesterday", "started"),
        (["measures", 0, "kind"], "hope", "measures.0.kind"),
        (["measures", 0, "values"], [], "measures.0.values"),
        (["measures", 0, "met"], "yes", "measures.0.met"),
        (["measures", 0, "speed"], "fast", "measures.0.speed"),
        (["sentences", 0, "text"], KeyError, "'text' is a required property"),
        (["measures", 0, "extra"], 1, "'extra' was unexpected"),
        (["tables", 0, "rows"], [{"a": 1}], "tables.0.rows.0"),
        (["figures", 0, "file"], "../other/raster.png", "figures.0.file"),
        (["data", 0], "MNIST", "data.0"),
    ],
)
def test_what_does_not_fit_the_schema_is_named_in_one_line(tmp_path, path, value, said):
    file = tmp_path / "metrics.json"
    with pytest.raises(UsageError, match=said):
        metrics_file.write(file, changed(path, value))
    assert not file.exists()
    file.write_text(json.dumps(changed(path, value)), "utf-8")
    with pytest.raises(UsageError) as error:
        metrics_file.read(file)
    assert "\n" not in str(error.value)
    assert str(file) in str(error.value)


@pytest.mark.parametrize(
    "content", [b"", b"{", b'{"schema": 1, "les', b"\xff\xfe", b"[]", b"3", b"null", b'{"measures": ["a"]}']
)
@pytest.mark.parametrize("check", [True, False])
def test_a_damaged_file_is_named_in_one_line(tmp_path, content, check):
    file = tmp_path / "metrics.json"
    file.write_bytes(content)
    with pytest.raises(UsageError, match="is damaged") as error:
        metrics_file.read(file, check)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_said_to_be_missing(tmp_path):
    with pytest.raises(UsageError, match="run the lesson first"):
        metrics_file.read(tmp_path / "metrics.json")


def test_a_failed_write_leaves_the_old_file(tmp_path):
    file = tmp_path / "metrics.json"
    metrics_file.write(file, METRICS)
    with pytest.raises(UsageError):
        metrics_file.write(file, changed(["scale"], "huge"))
    assert metrics_file.read(file) == METRICS


def test_a_reader_never_sees_a_part(tmp_path):
    file = tmp_path / "metrics.json"
    metrics_file.write(file, METRICS)
    done = threading.Event()

    def write():
        for number in range(100):
            metrics_file.write(file, changed(["seed"], number))
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not done.is_set():
        assert metrics_file.read(file)["lesson"] == "01_lif_neuron"
    writer.join()


def test_all_results_tells_good_from_damaged(tmp_path):
    metrics_file.write(tmp_path / "01_a" / "quick" / "metrics.json", METRICS)
    for name, text in (("02_b", "{"), ("03_c", '{"measures": [1]}'), ("04_d", '{"measures": 7}')):
        (tmp_path / name / "cpu").mkdir(parents=True)
        (tmp_path / name / "cpu" / "metrics.json").write_text(text, "utf-8")
    (tmp_path / "05_e" / "cpu").mkdir(parents=True)  # unfinished: no file yet
    for check in (True, False):
        found = metrics_file.all_results(tmp_path, check)
        assert [result.metrics is None for result in found] == [False, True, True, True]
        assert all(result.problem.endswith("again.") for result in found[1:])
    assert metrics_file.all_results(tmp_path / "nothing") == []


def test_headlines_are_the_marked_ones_else_the_first_goal_else_the_first():
    def named(*measures):
        made = [{"name": n, "kind": k, "headline": h} for n, k, h in measures]
        return [measure["name"] for measure in metrics_file.headlines({"measures": made})]

    assert named(("a", "proof", False), ("b", "goal", True), ("c", "value", True)) == ["b", "c"]
    assert named(("a", "proof", False), ("b", "goal", False), ("c", "goal", False)) == ["b"]
    assert named(("a", "proof", False), ("b", "value", False)) == ["a"]
    assert named() == []
