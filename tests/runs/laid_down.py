"""A course of three scripts, and results of theirs, for tests of what is made from them."""

import copy

from snn_course.runs import metrics_file
from tests.runs.test_metrics_file import METRICS

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154"
    "789c6360606060000000050001a5f645400000000049454e44ae426082"
)


def small_course(root):
    """Write three scripts and the environment test. Returns: the course's folder."""
    (root / "lessons").mkdir()
    for stem in ("01_lif_neuron", "02_spike_encoding"):
        text = f'"""Lesson {stem[:2]}: {stem[3:]}.\n\nQuestion: What | is <b>{stem}</b>?\n"""\n'
        (root / "lessons" / f"{stem}.py").write_text(text, "utf-8")
    (root / "capstone_pong.py").write_text('"""Capstone: Pong."""\n', "utf-8")
    (root / "00_environment_test.py").write_text('"""Lesson 00: environment test."""\n', "utf-8")
    return root


def put(root, lesson="01_lif_neuron", scale="cpu", **changes):
    """Lay down the results of one run, with its figure. Returns: the path of its metrics.json."""
    metrics = copy.deepcopy(METRICS) | {"lesson": lesson, "scale": scale} | changes
    path = root / "results" / lesson / scale / "metrics.json"
    metrics_file.write(path, metrics)
    for figure in metrics["figures"]:
        (path.parent / figure["file"]).write_bytes(PNG)
    return path
