"""The page of pitfalls: what it names is there, and it prints what was measured."""

import ast
import json
import re

from snn_course.runs import scripts
from snn_course import ROOT
from snn_course.teaching.book import pages, pitfalls

import pytest

SOURCES = {script.stem: script.path.read_text(encoding="utf-8") for script in scripts.find(ROOT)}


@pytest.mark.parametrize("pitfall", pitfalls.read(), ids=lambda pitfall: pitfall.name)
def test_what_a_pitfall_names_is_there(pitfall):
    source = SOURCES[pitfall.script]
    functions = {node.name for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)}
    assert not pitfall.chapter or pitfall.chapter in functions
    for name in pitfall.show:
        words = [word for word in re.findall(r"[a-zA-Z]{4,}", name) if word not in ("window", "steps")]
        assert all(word in source for word in words), name


def test_the_page_prints_the_last_run(tmp_path):
    stem, name = "09_training_bptt", "cue task, window 1: accuracy"
    folder = tmp_path / stem / "quick"
    folder.mkdir(parents=True)
    measure = {
        "name": name,
        "kind": "value",
        "unit": "%",
        "at_least": None,
        "at_most": 70,
        "headline": True,
        "note": "",
        "speed": False,
        "chapter": "truncate_a_memory_task",
        "values": [41.5],
        "mean": 41.5,
        "std": None,
        "met": True,
    }
    kept = json.loads((ROOT / "checkpoints" / "train_pqn.metrics.json").read_text(encoding="utf-8"))
    kept |= {"measures": [measure], "tables": [], "figures": [], "sentences": [], "scale": "quick"}
    (folder / "metrics.json").write_text(json.dumps(kept), encoding="utf-8")
    pages.write(tmp_path)
    text = (tmp_path / "book" / "pitfalls.html").read_text(encoding="utf-8")
    assert re.search(r"cue task, window 1: accuracy: <strong>41\.5", text)
    assert text.count("not measured yet") == sum(bool(p.show) for p in pitfalls.read()) - 1
    assert "pitfalls.html" in (tmp_path / "index.html").read_text(encoding="utf-8")
