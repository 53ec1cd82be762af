"""The benchmark's tables and sentences: each figure is of the player that is named beside it."""

from types import SimpleNamespace

from snn_course.gameworld import agents, arena, contract, players, published, scoreboard, tracks

import pytest

POINTS = {players.Spiker: 801, players.Idle: 42, players.Jumper: 87}
THOUGHTFUL = {2.4: 300, 6.4: 60}


class Told:
    """A run that keeps what it is told."""

    def __init__(self):
        self.said, self.measured, self.tables = [], {}, {}
        self.say = self.said.append

    def measure(self, name, value, *_, **__):
        self.measured[name] = value

    def table(self, title, _columns, rows):
        self.tables[title] = rows


@pytest.fixture
def net():
    return agents.build("cpu")


def points_of(player):
    for kind in (players.Thinker, contract.Slow):
        if isinstance(player, kind):
            return THOUGHTFUL[player.seconds]
    if isinstance(player, contract.Always):
        return POINTS[players.Jumper if player.action.press else players.Idle]
    return POINTS[players.Spiker if isinstance(player, contract.Gazer) else type(player)]


def test_on_the_streaming_track_each_figure_is_of_the_player_that_is_named(net, monkeypatch):
    """Whatever stands in which row of the table."""

    def lives(_place, policy, count):
        life = tracks.Life(points_of(policy), frames=2)
        life.age, life.inference, life.work, life.loop = ([0.01, 0.01] for _ in range(4))
        return [life] * count, []

    in_order = scoreboard._policies
    for policies in (in_order, lambda net: dict(reversed(in_order(net).items()))):
        monkeypatch.setattr(scoreboard, "_policies", policies)
        monkeypatch.setattr(arena, "lives", lives)
        run = Told()
        scoreboard.streaming(run, SimpleNamespace(version="1"), net, 1)
        assert run.said[0] == (
            "On chrome://dino the agent gets 801 points of the 800 asked for. "
            "With 2.4 s of added think time, the same network gets 300."
        )
        assert run.measured["streaming: Success Rate"] == 100


@pytest.mark.parametrize("lost", [0, 2])
def test_on_the_contract_track_too_and_lost_browsers_are_told(net, monkeypatch, lost):
    def run_task(_game, agent, *_, **__):
        return contract.Task(points_of(agent), 10, 1, 1.0, [0.1], [0.1])

    monkeypatch.setattr(contract, "run_task", run_task)
    run, place = Told(), SimpleNamespace(lost=lost, dino=lambda work: work(None))
    scoreboard.contract_track(run, place, net, 1)
    progress = [tracks.rates([points])[1] for points in (801, *THOUGHTFUL.values(), 42)]
    assert run.said == [
        "With one screenshot a step the agent gets {:.0f} % Progress; with 2.4 s of think time {:.0f} %, "
        "with 6.4 s {:.0f} %. Doing nothing gets {:.0f} %.".format(*progress)
    ]
    assert run.measured["contract: Progress"] == 100
    assert run.measured.get("browsers lost and replaced", 0) == lost
    rows = run.tables["Contract track in real time, chrome://dino: targets 100 .. 800"]
    assert [row[0] for row in rows[3:]] == [f"agent, {seconds} s of think time" for seconds in (2.4, 6.4)]
    assert published.THINKING == (2.4, 6.4)
