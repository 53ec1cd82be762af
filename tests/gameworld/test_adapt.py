"""Play that is recorded elsewhere: whose turn it is, what counts, and that nothing of it is lost."""

from contextlib import nullcontext
from types import SimpleNamespace

from snn_course.runs import checkpoints, lesson
from snn_course import UsageError
from snn_course.gameworld import adapt, arena, oracle, players
from snn_course.gameworld.twin import Twin

import numpy as np
import pytest
import torch

capstone = lesson.load("capstone_gameworld")


def lived(seconds: float, led: bool, most: int = 200) -> adapt.Life:
    game = Twin(10_000)
    return adapt.live(
        game, lambda: (game.observe(), oracle.state_of(game.game)), players.Idle(), seconds, led, most
    )


def test_a_life_ends_by_itself_or_by_the_clock():
    crashed, reached, cut = lived(60, led=False), lived(60, led=True), lived(1e-6, led=False)
    assert crashed.whole
    assert crashed.score < 60
    assert reached.whole
    assert reached.score >= 200
    assert (cut.whole, len(cut.pictures)) == (False, 1)
    kept = adapt.joined(adapt.joined(adapt.NOTHING | {"left": 600.0}, cut), reached)
    assert kept["left"] == 600 - cut.seconds - reached.seconds
    assert [life["whole"] for life in kept["lives"]] == [False, True]
    (memory,), told = adapt.unpacked(kept)  # one frame is nothing to learn from
    assert memory.events.shape == (len(reached.pictures) - players.SETTLED, 1, 2, 32, 96)
    assert told == kept["lives"]
    assert adapt.NOTHING == {"events": [], "said": [], "lives": []}


def test_what_was_recorded_comes_to_the_cpu_where_the_student_learns():
    class OnGpu(torch.Tensor):
        def cpu(self):
            return self.as_subclass(torch.Tensor)

    events, said = (torch.zeros(40, 1).as_subclass(OnGpu) for _ in range(2))
    (memory,), _ = adapt.unpacked({"events": [events], "said": [said], "lives": []})
    assert type(memory.events) is type(memory.said) is torch.Tensor


class Recorded:
    """A run and a browser's place: each life takes 100 s, and the one of that number is interrupted."""

    is_first_seed = True

    def __init__(self, folder, monkeypatch, stop_at=99):
        self.folder, self.stop_at, self.states, self.turns = folder, stop_at, {}, []
        self.load, self.save = self.states.get, self.states.__setitem__
        monkeypatch.setattr(arena, "open_place", lambda: nullcontext(SimpleNamespace(browser=True)))
        monkeypatch.setattr(arena, "record", self.record)

    def record(self, _place, _net, _left, led):
        if len(self.turns) == self.stop_at:
            self.stop_at = 99
            raise KeyboardInterrupt
        self.turns.append(led)
        return adapt.Life([np.zeros((36, 150), np.uint8)] * 70, [0.0] * 70, len(self.turns), led, 100.0, True)

    def keep(self, name, state):
        torch.save(state, self.folder / f"{name}.pt")


def test_ctrl_c_costs_one_life_and_a_second_run_no_earlier_one(tmp_path, monkeypatch):
    config, run = capstone.Config(step="adapt", minutes=4), Recorded(tmp_path, monkeypatch, stop_at=2)
    with pytest.raises(KeyboardInterrupt):
        capstone.recorded(config, run, None)
    kept = capstone.recorded(config, run, None)  # 240 s: three lives, two of which were there
    assert run.turns == [False, True, False]  # the student begins
    assert [life["score"] for life in kept["lives"]] == [1, 2, 3]
    assert capstone.recorded(config, run, None) == kept  # with nothing left to record
    first = checkpoints.read(tmp_path / "lives.pt")
    run = Recorded(tmp_path, monkeypatch)
    capstone.recorded(config, run, None)
    assert checkpoints.read(tmp_path / "lives.1.pt")["lives"] == first["lives"]
    more = capstone.Config(step="adapt", minutes=1, again=True)
    kept = capstone.recorded(more, Recorded(tmp_path, monkeypatch), None)
    assert [life["score"] for life in kept["lives"]] == [1, 2, 3, 1]
    assert not (tmp_path / "lives.2.pt").exists()  # all of it is in the new file


def test_the_student_begins_each_time_and_only_its_new_whole_lives_count(tmp_path, monkeypatch):
    first = capstone.Config(step="adapt", minutes=4)
    capstone.recorded(first, Recorded(tmp_path, monkeypatch), None)  # three lives: the student's was the last
    run = Recorded(tmp_path, monkeypatch)
    kept = capstone.recorded(capstone.Config(step="adapt", minutes=2, again=True), run, None)
    assert run.turns == [False, True]
    assert kept["earlier"] == 3  # another agent played them
    kept["lives"][3]["whole"] = False
    assert adapt.points_alone(kept["lives"]) == [1, 3]
    assert adapt.points_alone(kept["lives"][kept["earlier"] :]) == []


def test_what_was_recorded_is_kept_though_the_run_stops_just_before(tmp_path, monkeypatch):
    config, run = capstone.Config(step="adapt", minutes=4), Recorded(tmp_path, monkeypatch)
    (tmp_path / "lives.pt").write_bytes(b"damaged")
    keep, stops = run.keep, iter([KeyboardInterrupt])

    def cut_off(name, state):
        for stop in stops:
            raise stop
        keep(name, state)

    run.keep = cut_off
    with pytest.raises(KeyboardInterrupt):
        capstone.recorded(config, run, None)
    capstone.recorded(config, run, None)
    assert len(run.turns) == 3
    assert len(checkpoints.read(tmp_path / "lives.pt")["lives"]) == 3
    assert (tmp_path / "lives.1.pt").read_bytes() == b"damaged"
    names = sorted(path.name for path in tmp_path.iterdir())
    capstone.recorded(config, run, None)  # it is there: nothing is set aside
    assert sorted(path.name for path in tmp_path.iterdir()) == names


def test_the_figure_of_the_lives_marks_those_that_the_clock_cut():
    drawn = []
    run = SimpleNamespace(figure=lambda fig, _name: drawn.append(fig))
    lived = [{"score": 42, "led": False, "whole": True}, {"score": 300, "led": True, "whole": False}]
    capstone.draw_lives(run, lived)
    capstone.draw_lives(run, lived[:1])
    one, other = drawn
    assert one.get_suptitle() == "2 lives recorded on chrome://dino, 1 cut by the clock"
    assert [line.get_label() for line in one.axes[0].lines] == ["cut by the clock"]
    assert one.axes[0].lines[0].get_xydata().tolist() == [[2, 300]]
    assert other.get_suptitle() == "1 life recorded on chrome://dino, 0 cut by the clock"
    assert other.axes[0].get_legend_handles_labels()[1] == ["student"]
    assert list(other.axes[0].lines) == []


def test_going_on_from_one_agent_takes_one_seed():
    with pytest.raises(UsageError, match="it takes one seed"):
        capstone.adapt(capstone.Config(step="adapt", again=True, seeds=3), None)
