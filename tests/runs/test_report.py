"""The table of README.md."""

import re

from snn_course.runs import report, wording
from snn_course import UsageError
from tests.runs.laid_down import put, small_course
from tests.runs.test_metrics_file import METRICS

import pytest

BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "ROOT", tmp_path)
    return small_course(tmp_path)


@pytest.mark.parametrize(
    ("seconds", "shown"), [(3.14, "3.1 s"), (59.6, "60 s"), (600, "10 min"), (7200, "2.0 h")]
)
def test_times_are_for_readers(seconds, shown):
    assert wording.duration(seconds) == shown


def test_the_table_has_each_script_and_no_quick_run(root):
    put(root, scale="quick")
    put(root, lesson="02_spike_encoding", seconds=600.0)
    missed = METRICS["measures"][0] | {"met": False}
    put(root, lesson="02_spike_encoding", scale="gpu", status="missed", measures=[missed])
    put(root, lesson="capstone_pong").write_text("{", "utf-8")
    rows = report.readme_table(root / "results").splitlines()
    assert len(rows) == 6
    assert rows[2].startswith("| [01_lif_neuron](lessons/01_lif_neuron.py) | What \\| is")
    assert rows[2].endswith("| not measured yet |")
    assert (
        "accuracy **97.6 ± 0.1 %**<br>2 seeds, MNIST, 10 images, cpu scale | ≥ 97 | 10 min | all met |"
        in rows[3]
    )
    assert rows[4].endswith("| missed |")
    assert rows[5].endswith("| damaged (cpu scale) |")
    assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) == 1


def test_the_table_replaces_only_what_is_between_the_markers(root):
    readme = root / "README.md"
    readme.write_text(f"head\n{BEGIN}\nold\n{END}\ntail\n", "utf-8")
    for _ in range(2):
        report.update_readme(readme, "| new |\n")
        assert readme.read_text("utf-8") == f"head\n{BEGIN}\n| new |\n{END}\ntail\n"
    for text in ("none", BEGIN, f"{END}{BEGIN}"):
        readme.write_text(text, "utf-8")
        with pytest.raises(UsageError, match="lacks the lines"):
            report.update_readme(readme, "x")
        assert readme.read_text("utf-8") == text
