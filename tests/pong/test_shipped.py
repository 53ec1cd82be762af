"""What came with the course: the shipped agents, their cards, and the page that tells their story."""

import json
import re

from snn_course.runs import lesson, metrics_file
from snn_course import ROOT
from snn_course.pong import agents, checkpoints, emulator, judging, write_up
from snn_course.pong.spikes import LevelNet

import numpy as np
import pytest
import torch

SHIPPED = sorted(path.stem for path in checkpoints.SHIPPED.glob("*.pt"))


@pytest.fixture(autouse=True)
def nothing_of_the_learners_own(tmp_path, monkeypatch):
    monkeypatch.setenv("SNN_RESULTS", str(tmp_path))


def test_the_agent_and_its_teacher_are_there():
    assert {"pqn", "dqn", "four", "two", "ternary", "sparse"} <= set(SHIPPED)
    assert sum(path.stat().st_size for path in checkpoints.SHIPPED.iterdir()) < 12e6


@pytest.mark.parametrize("name", SHIPPED)
def test_each_agent_loads_and_tells_where_it_comes_from(name):
    agent = agents.load(name, "cpu")
    channels = agents.CHANNELS[agent.eyes]
    assert agent.net(torch.zeros(2, channels, *emulator.SHAPE[1:], dtype=torch.uint8)).shape == (2, 3)
    card = checkpoints.card(agent.path)
    assert card["command"].startswith("python capstone_pong.py ")
    assert card["commit"]
    assert not card["commit"].endswith("-changed")
    assert len(judging.choice_of(card).rewards) == 30
    assert card["curve"]
    assert all(told["seconds"] > 0 for told in card["curve"])


def test_readme_tells_what_the_cards_tell():
    """Reported with sticky actions and without, and on the episodes that chose, each from the card."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)`[^|]*\|([^|]*)\|([^|]*)\|([^|]*)\|", text, re.MULTILINE)
    told = {name: [cell.strip() for cell in cells] for name, *cells in rows}
    assert set(told) == set(agents.NAMES)
    for name, cells in told.items():
        path = checkpoints.SHIPPED / f"{name}.pt"
        card = checkpoints.card(path) if path.is_file() else {}
        known = (judging.report_of(card), judging.report_of(card, 0.0), judging.choice_of(card))
        assert cells == [f"{one.mean:.1f} ± {one.error:.1f}" if one else "-" for one in known]


def test_readme_tells_what_was_earned_in_episodes_that_nobody_had_looked_at():
    """And what the chip's agents lose of their teacher's points, over the same episodes."""
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    known, fresh = {}, {}
    for name in ("aware", "four", "sparse"):
        known[name], _, fresh[name] = judging.reports_of(checkpoints.card(checkpoints.SHIPPED / f"{name}.pt"))
        assert (known[name].first, fresh[name].first, len(fresh[name].rewards)) == (40_000, 41_000, 100)
        assert f"`{name}` {fresh[name].mean:.1f} ± {fresh[name].error:.1f}" in text
    for name in ("four", "sparse"):
        for played in (known, fresh):
            lost = np.subtract(played["aware"].rewards, played[name].rewards)
            assert f"{lost.mean():.2f} ± {lost.std(ddof=1) / len(lost) ** 0.5:.2f}" in text


def test_the_agent_wins_points_at_once():
    agent = agents.load(lesson.load("capstone_pong").Config().agent, "cpu")
    shipped, blank = LevelNet(agents.chip(agent).to_integers()), agents.build("pqn", agent.eyes)
    good, bad = (emulator.play(agents.policy(net, agent.eyes), [1, 2], 400) for net in (shipped, blank))
    assert sum(p.reward for p in good) > sum(p.reward for p in bad) + 4


def metrics(part, measures, tables=()):
    blank = {"unit": "", "values": [1.0], "std": None, "at_most": None, "headline": False, "note": ""}
    return {
        **{"schema": 1, "lesson": f"capstone_pong_{part}", "title": "t", "question": "q?", "scale": "cpu"},
        **{"seed": 0, "seeds": 1, "command": "c", "config": {}, "status": "ok", "seconds": 1.0},
        **{"started": "2026-01-01T00:00:00+00:00", "commit": None, "device": "cpu", "hardware": "h"},
        **{"versions": {}, "data": [], "figures": [], "tables": list(tables)},
        "measures": [blank | measure for measure in measures],
    }


NOTHING = {"measures": [], "tables": []}


def goal(name, mean, met):
    return {"name": name, "kind": "goal", "mean": mean, "at_least": 5.0, "met": met}


def test_the_page_tells_own_measures_and_names_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(write_up, "SHIPPED", tmp_path / "shipped")
    table = {"title": "Rows", "columns": ["", "x"], "rows": [["a", "7.5"]]}
    folder = tmp_path / "capstone_pong_sparsify" / "cpu"
    folder.mkdir(parents=True)
    found = metrics("sparsify", [goal("fewer spikes", 6.25, True), goal("reward", 1.5, False)], [table])
    metrics_file.write(folder / "metrics.json", found)
    speed = {"title": "Speed", "columns": ["on", "ms"], "rows": [["chip", "0.2"]]}
    page = write_up.page(
        "cpu", "It is yours.", metrics("benchmark", [goal("levels: reward", 18.5, True)], [speed])
    )
    assert "113,299 weights and biases" in page  # 592 + 4640 + 9248 + 98432 + 387
    assert "| Rows | x |\n| --- | ---: |\n| a | 7.5 |" in page
    assert "**The benchmark.** It is yours.\n\n| Speed: on | ms |" in page
    assert "**Reward against spikes.** fewer spikes 6.25; reward 1.5.\n" in page
    assert "**What worked.** levels: reward (this run) 18.5; fewer spikes (sparsify) 6.25." in page
    assert "**What did not.** reward (sparsify) 1.5, aim >= 5." in page
    learners = "train --learner pqn, train --learner dqn, train --learner aware"
    assert f"Not measured: {learners}, convert, spike, perceive, quantise." in page


def test_shipped_measures_serve_where_there_are_no_own_ones_and_the_page_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(write_up, "SHIPPED", tmp_path)
    metrics_file.write(tmp_path / "spike.metrics.json", metrics("spike", [goal("reward", 9.0, True)]))
    page = write_up.page("cpu", "", NOTHING)
    assert "and alone.** reward 9. (These figures came with the course.)" in page
    assert "**What worked.** reward (spike, the course's) 9." in page
    (tmp_path / "spike.metrics.json").write_text("{", encoding="utf-8")
    assert "Spikes that learn" not in write_up.page("cpu", "", NOTHING)


@pytest.mark.parametrize(
    ("events", "told", "verdict"),
    [([12.0, 16.0], "+1.0 ± 2.8", "no reason to leave"), ([18.0, 18.0], "+5.0 ± 2.0", "the better choice")],
)
def test_the_page_argues_for_what_the_agent_sees(events, told, verdict, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "SHIPPED", tmp_path)
    assert "**Perception.**" not in write_up.page("cpu", "", NOTHING)
    for name, rewards in {"pictures": [11.0, 15.0], "events": events}.items():
        (tmp_path / f"{name}.pt").touch()
        card = {"reports": [judging.Report(rewards, judging.REPORT.start).told()]}
        (tmp_path / f"{name}.json").write_text(json.dumps(card), encoding="utf-8")
    (line,) = [
        line for line in write_up.page("cpu", "", NOTHING).splitlines() if line.startswith("**Perception.**")
    ]
    assert told in line
    assert verdict in line


MEASURED = {
    "pqn": ("train_pqn", "pqn: reward"),
    "dqn": ("train_dqn", "dqn: reward"),
    "aware": ("train_aware", "aware: reward"),
    "levels": ("convert", "15 levels: reward"),
    "clone": ("spike", "T 8, learnt from the teacher: reward"),
    "direct": ("spike", "T 4, learnt by itself: reward"),
    "pictures": ("perceive", "pictures: reward"),
    "events": ("perceive", "events: reward"),
    "four": ("quantise", "4-bit activations, 4-bit weights: reward"),
    "two": ("quantise", "2-bit activations, 4-bit weights: reward"),
    "ternary": ("quantise", "2-bit activations, 2-bit weights: reward"),
    "sparse": ("sparsify", "kept agent: reward"),
}
"""Of each agent: the step whose file tells its reward, and as what."""


@pytest.mark.parametrize("name", agents.NAMES)
def test_a_shipped_measure_is_of_the_agent_beside_it(name):
    """Of its report, where it has one; the first value is that of the first seed, whose weights are kept."""
    part, shown = MEASURED[name]
    measures = metrics_file.read(checkpoints.SHIPPED / f"{part}.metrics.json")["measures"]
    (told,) = [m for m in measures if m["name"] == shown]
    card = checkpoints.card(checkpoints.SHIPPED / f"{name}.pt")
    known = judging.report_of(card) or judging.choice_of(card)
    assert told["values"][0] == pytest.approx(known.mean)
    assert f"seeds {known.first} to " in told["note"]


def test_no_shipped_reward_is_of_episodes_that_choose():
    for path in checkpoints.SHIPPED.glob("*.metrics.json"):
        for measure in metrics_file.read(path)["measures"]:
            if measure["name"].endswith(": reward"):
                firsts = re.findall(r"seeds (\d+) to ", measure["note"])  # one for each training
                assert len(firsts) == len(measure["values"]), (path.name, measure["name"])
                assert all(int(first) in judging.REPORT for first in firsts), (path.name, measure["name"])


def test_each_of_the_chips_agents_has_learnt_from_the_decisions_of_the_one_before():
    """The sparse one goes on from `two`, too: of three prices the first one was kept."""
    learnt = [checkpoints.decisions(checkpoints.card(checkpoints.SHIPPED / f"{name}.pt")) for name in CHIP]
    own = [checkpoints.card(checkpoints.SHIPPED / f"{name}.pt")["curve"][-1]["steps"] for name in CHIP]
    assert learnt == [own[0], own[0] + own[1], sum(own[:3]), own[0] + own[1] + own[3]]


CHIP = ("four", "two", "ternary", "sparse")


def test_every_shipped_measure_is_whole():
    for path in checkpoints.SHIPPED.glob("*.metrics.json"):
        assert metrics_file.read(path)["lesson"].startswith("capstone_pong")
        assert json.loads(path.read_text(encoding="utf-8"))["scale"] == "cpu"
    assert set(write_up.PARTS) >= {
        p.name.removesuffix(".metrics.json") for p in checkpoints.SHIPPED.glob("*.metrics.json")
    }
