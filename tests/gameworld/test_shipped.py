"""What came with the course: the shipped agents, their cards, and the page that tells their story."""

from types import SimpleNamespace

from snn_course.runs import checkpoints, lesson, metrics_file, steps
from snn_course import UsageError
from snn_course.gameworld import agents, watch, write_up

import pytest
import torch


@pytest.fixture(autouse=True)
def nothing_of_the_learners_own(tmp_path, monkeypatch):
    monkeypatch.setenv("SNN_RESULTS", str(tmp_path))


@pytest.mark.parametrize(("name", "step"), [("course", "train"), ("dino", "adapt")])
def test_each_agent_loads_and_tells_where_it_comes_from(name, step):
    agent = agents.load(name, "cpu")
    mem, state = agent.net(torch.zeros(3, 2, 2, 32, 96))
    assert mem.shape == (3, 2)
    assert len(state) == 5
    card = checkpoints.card(agent.path)
    assert card["command"].startswith(f"python capstone_gameworld.py {step} ")
    assert card["commit"]
    assert not card["commit"].endswith("-changed")
    assert len(card["scores"]) == 10


def test_all_that_is_shipped_is_small_and_whole():
    assert sum(path.stat().st_size for path in agents.SHIPPED.iterdir()) < 4e6
    for path in agents.SHIPPED.glob("*.metrics.json"):
        assert path.name.removesuffix(".metrics.json") in write_up.PARTS
        assert metrics_file.read(path)["scale"] == "cpu"


def test_a_missing_and_a_damaged_agent_are_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(agents, "SHIPPED", tmp_path / "shipped")
    with pytest.raises(UsageError, match="There is no agent 'dino'"):
        agents.load("dino", "cpu")
    (tmp_path / "shipped").mkdir()
    (tmp_path / "shipped" / "dino.pt").write_bytes(b"no weights")
    with pytest.raises(UsageError, match=r"dino\.pt is damaged"):
        agents.load("dino", "cpu")


def test_the_learners_own_agent_comes_first(tmp_path):
    folder = tmp_path / "capstone_gameworld_adapt" / "cpu"
    folder.mkdir(parents=True)
    own = agents.build("cpu")
    torch.save(own.state_dict(), folder / "dino.pt")
    agent = agents.load("dino", "cpu")
    assert agent.path == folder / "dino.pt"
    assert agents.load("dino", "gpu").path == agents.SHIPPED / "dino.pt"


def test_an_agent_of_gpu_scale_has_the_size_of_its_weights(tmp_path):
    """`adapt` at gpu scale goes on from the shipped agent, which is small."""
    folder = tmp_path / "capstone_gameworld_adapt" / "gpu"
    folder.mkdir(parents=True)
    for scale in ("cpu", "gpu"):
        own = agents.build(scale)
        torch.save(own.state_dict(), folder / "dino.pt")
        agent = agents.load("dino", "gpu")
        assert torch.equal(agent.net.synapses[-1].layer.weight, own.synapses[-1].layer.weight)
        assert agent.origin == f"The agent 'dino' is your own: {folder / 'dino.pt'}."
    torch.save([1], folder / "dino.pt")
    with pytest.raises(UsageError, match="is of another network"):
        agents.load("dino", "gpu")


def test_an_agent_that_crashes_at_once_is_drawn_all_the_same(tmp_path):
    net = agents.load("dino", "cpu").net
    for part in net.parameters():
        part.zero_()  # it never jumps
    moments = watch.play(net, 10_000, 60)
    assert 0 < len(moments) < 120
    assert len(watch.record(tmp_path / "run.gif", net, 10_000, 1.0)) == -(-len(moments) // watch.SHOWN)


def test_the_page_tells_what_was_measured_and_names_what_was_not(tmp_path, monkeypatch):
    monkeypatch.setattr(write_up, "SHIPPED", tmp_path / "none")
    table = {"title": "Rows", "columns": ["", "x"], "rows": [["a", "7.5"]]}
    page = write_up.page("cpu", "It is mine.", {"measures": [], "tables": [table]})
    assert "**This run.** It is mine.\n\n| Rows" in page
    assert "| Rows | x |\n| --- | ---: |\n| a | 7.5 |" in page
    assert "Not measured: train, adapt, benchmark, runtime." in page
    blank = {"unit": "", "values": [1.0], "std": None, "at_most": None, "headline": False, "note": ""}
    loop = {"name": "loop", "kind": "goal", "mean": 59.0, "at_least": 60.0, "met": False, "speed": True}
    points = {"name": "points", "kind": "goal", "mean": 90.0, "at_least": 80.0, "met": True, "speed": False}
    told = {"measures": [blank | loop, blank | points], "tables": [table]}
    monkeypatch.setattr(steps.Steps, "found", lambda *_: {"train": steps.Measured(told, own=True)})
    page = write_up.page("cpu", "", {"measures": [], "tables": []})
    assert "**Where the network held.** points (train) 90." in page
    assert "**Where it broke.** loop (train) 59, aim >= 60." in page
    page = write_up.page("cpu", "", {"measures": [blank | points | {"met": False}], "tables": []})
    assert "**Where it broke.** points (this run) 90, aim >= 80; loop (train) 59, aim >= 60." in page
    assert "**Where the network held.** points (train) 90." in page


@pytest.mark.parametrize("name", ["dino", "course"])
def test_a_clip_is_of_the_agent_that_is_asked_for_and_says_whose_it_is(tmp_path, monkeypatch, name):
    capstone, drawn, said = lesson.load("capstone_gameworld"), [], []
    monkeypatch.setattr(capstone.film, "record", lambda _path, net, *_: drawn.append(net) or [])
    run = SimpleNamespace(say=said.append, file=lambda *_: tmp_path, measure=lambda *_, **__: None)
    capstone.watch(capstone.Config(step="watch", agent=name), run)
    assert said == [f"The agent '{name}' came with the course."]
    shipped = agents.load(name, "cpu").net
    assert torch.equal(drawn[0].synapses[-1].layer.weight, shipped.synapses[-1].layer.weight)


def test_the_benchmark_is_of_the_agent_that_is_asked_for(tmp_path, monkeypatch):
    capstone, played, said = lesson.load("capstone_gameworld"), [], []
    monkeypatch.setattr(capstone.scoreboard, "runtime", lambda _run, net, *_: played.append(net))
    own = agents.build("cpu")
    (folder := tmp_path / "capstone_gameworld_train" / "cpu").mkdir(parents=True)
    torch.save(own.state_dict(), folder / "course.pt")
    capstone.benchmark(capstone.Config(agent="course", gameworld=tmp_path), SimpleNamespace(say=said.append))
    assert said == [f"The agent 'course' is your own: {folder / 'course.pt'}."]
    assert torch.equal(played[0].synapses[-1].layer.weight, own.synapses[-1].layer.weight)


def test_a_clip_is_drawn_and_ends_in_gif_or_mp4(tmp_path):
    net = agents.load("dino", "cpu").net
    moments = watch.record(tmp_path / "run.gif", net, 10_000, 0.5)
    assert len(moments) == 10
    assert (tmp_path / "run.gif").stat().st_size > 5000
    assert sum(float(moment.spikes[0].sum()) for moment in moments) > 0
    with pytest.raises(UsageError, match=r"ends in \.gif or \.mp4"):
        watch.record(tmp_path / "run.png", net, 10_000, 0.5)
