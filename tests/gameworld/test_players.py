"""Who plays, and by which rules: pixels alone reach a policy, and the tracks count as GameWorld does."""

import io
import time
from types import SimpleNamespace

from snn_course.runs import lesson
from snn_course.gameworld import (
    agents,
    contract,
    imagine,
    imitate,
    oracle,
    players,
    retina,
    seeds,
    sight,
    tracks,
    twin,
)
from snn_course.gameworld.environment import Frame, Status
from snn_course.gameworld.network import Spiking
from snn_course.gameworld.twin import Twin

import numpy as np
import pytest
import torch
from PIL import Image


@pytest.fixture(scope="module")
def net() -> Spiking:
    return agents.load("dino", "cpu").net


class Spy:
    """A policy that keeps what it was given."""

    def __init__(self, game):
        self.game, self.given = game, []

    def begin(self):
        self.given.append("begin")

    def decide(self, *given):
        self.given.append(given)
        return False


def test_a_policy_is_given_one_picture_and_nothing_else():
    spy = Spy(None)
    tracks.live(Twin(3), spy)
    assert spy.given[0] == "begin"
    for (picture,) in spy.given[1:]:
        assert type(picture) is np.ndarray
        assert picture.shape == (36, 150)
        assert picture.dtype == np.uint8
        assert not picture.flags.owndata or picture.base is None  # pixels, not a view into the game


def test_what_only_the_state_knows_changes_no_decision(net):
    """The same pictures from another state: score, speed and obstacles are scrambled behind them."""
    decisions = []
    for scramble in (False, True):
        game, policy, said = Twin(3), players.Spiker(net), []
        policy.begin()
        for _ in range(260):
            picture = game.observe().picture
            kept = vars(game.game).copy()
            if scramble:
                game.game.obstacles, game.game.speed, game.game.distance = [], 99.0, 1e9
            said.append(policy.decide(picture))
            vars(game.game).update(kept)
        decisions.append(said)
    assert decisions[0] == decisions[1]
    assert any(decisions[0])


def test_the_agent_holds_no_way_to_a_game(net):
    for policy in (players.Spiker(net), contract.Gazer(net)):
        held = list(vars(policy).values())
        assert not any(isinstance(value, (Twin, oracle.State)) for value in held)
    for module in (players, imagine, sight, retina):
        assert not {"oracle", "pages", "browser", "twin", "Twin"} & set(vars(module)), module


def test_one_game_and_many_side_by_side_are_decided_alike(net):
    alone = [seeds.play_policy(players.Spiker(net), seed, 120) for seed in (10_000, 10_001)]
    assert seeds.play(net, (10_000, 10_001), 120) == alone


def test_a_finger_rests_after_a_press_and_only_then(monkeypatch):
    wanted = [True, True, True, False, False, True, True, True]
    for rest, expected in ((0, "xxx..xxx"), (1, "x.x..x.x"), (2, "x....x..")):
        monkeypatch.setattr(players, "REST", rest)
        finger = players.Finger()
        pressed = ["x" if finger.presses(one) else "." for one in wanted]
        assert "".join(pressed) == expected


def test_floors_and_the_shipped_agent():
    assert seeds.play_policy(players.Idle(), 10_000, 500) < 60
    assert seeds.play_policy(players.Jumper(), 10_000, 500) < 300
    assert min(seeds.play(agents.load("dino", "cpu").net, (20_000, 20_001), 300)) >= 200


def test_progress_and_success_count_as_gameworld_does():
    assert tracks.progress(50, 100) == 0.5
    assert tracks.progress(900, 800) == 1
    assert tracks.progress(-1, 100) == 0
    success, progress = tracks.rates([400])
    assert success == pytest.approx(60)
    assert progress == pytest.approx(100 * (3 + 400 / 600 + 400 / 800) / 5)


def test_a_life_ends_at_a_crash_and_counts_what_it_missed():
    class Late(Twin):
        def observe(self) -> Frame:
            if self.steps % 10 == 5:
                self.step()  # a frame that nobody sees
            return super().observe()

    life = tracks.live(Late(3), players.Idle())
    assert life.crashed
    assert life.score < 60
    assert life.missed == pytest.approx(life.frames / 9, rel=0.2)
    assert len(life.age) == len(life.inference) == len(life.work) == life.frames


def test_the_oracle_plays_a_life_through_the_protocol():
    game = Twin(10_000)

    def read():
        game.observe()
        return oracle.state_of(game.game)

    assert tracks.oracle_life(game, read, most=300) == (300, False)


def test_the_wanted_membrane_rises_by_a_quarter_a_step_and_crosses_at_the_moment():
    game, said = Twin(5), []
    while not said or said[-1] <= 1:
        game.step()
        said.append(imitate.wanted(oracle.state_of(game.game)))
    assert said[0] == imitate.LEAST
    assert said[-1] == pytest.approx(1 + imitate.RISE / 2)
    assert np.diff(said[-6:]) == pytest.approx(imitate.RISE)


def test_a_student_learns_in_two_rounds_that_most_frames_ask_for_nothing():
    torch.manual_seed(0)
    net = Spiking((4, 8), 16)
    recipe = imitate.Recipe(games=4, frames=64, updates=30, batch=4, length=24, warm=4)
    scenes = [imitate.Scene(np.random.default_rng(0)) for _ in range(recipe.games)]
    seen = imitate.play(net, scenes, recipe.frames, 1.0)
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    first, later = (imitate.train(net, optimizer, [[seen]], recipe) for _ in range(2))
    assert later < first


def test_training_draws_no_seed_that_judges():
    random = np.random.default_rng(0)
    assert all(imitate.Scene(random).twin.game.seed >= 2**31 for _ in range(50))


# ---------------------------------------------------------------------- one screenshot, one action


def window_of(game: Twin, night: bool = False, scale: float = 1.79) -> bytes:
    """Draw a window of 1280 x 720 as the page shows it, and give it as a PNG."""
    ink = Image.fromarray(game.game.ink()).resize((round(600 * scale), round(150 * scale)), Image.NEAREST)
    grey = np.full((720, 1280), 255, np.uint8)
    grey[72 : 72 + ink.height, 102 : 102 + ink.width] -= np.asarray(ink)
    png = io.BytesIO()
    Image.fromarray(255 - grey if night else grey).save(png, "PNG")
    return png.getvalue()


def played(frames: int, seed: int = 10_000) -> Twin:
    game = Twin(seed)
    while game.steps < frames:
        game.step()
        if imitate.label(oracle.state_of(game.game)):
            game.press(imitate.HOLD)
    return game


def test_a_screenshot_shows_the_same_by_day_and_by_night():
    game = played(400)
    day, night = (sight.Sight().ink(window_of(game, night)) for night in (False, True))
    assert day is not None
    assert night is not None
    assert (day == night).all()
    apart = np.abs(retina.pooled(day).astype(int) - retina.pooled(game.game.ink()))
    assert apart.mean() < 4
    assert abs(retina.aim(retina.pooled(day)) - retina.aim(retina.pooled(played(30).game.ink()))) <= 1


def test_where_there_is_no_ground_there_is_no_picture_and_the_agent_waits(net):
    png = io.BytesIO()
    Image.new("L", (1280, 720), 255).save(png, "PNG")
    assert sight.Sight().ink(png.getvalue()) is None
    assert contract.Gazer(net).act(png.getvalue()) == contract.Action(press=False, seconds=contract.PAUSE)


@pytest.mark.parametrize("skip", [0, 4000])
def test_the_odometer_reads_the_speed_off_the_ground(skip):
    game, odometer = Twin(10_000), imagine.Odometer()
    game.game.skip(skip)
    assert odometer.read(game.game.ink(), 0.0) == imagine.START
    for _ in range(20):
        game.step()
    assert odometer.read(game.game.ink(), 20 / 60) == pytest.approx(game.game.speed, rel=0.04)
    odometer.read(Twin(77).game.ink(), 50 / 60)  # another ground: a new run
    assert odometer.speeds == []


def test_the_first_spike_of_an_imagined_world_falls_into_the_window(net):
    """At 40 moments of play, from one still picture, up to 25 frames ahead of the jump."""
    game, inside = Twin(10_005), []
    while len(inside) < 40:
        state = oracle.state_of(game.game)
        found = oracle.window(state)
        if found and not state.jumping and 0 <= oracle.best(found, state) <= 25 and game.steps % 5 == 0:
            left = retina.aim(retina.pooled(Twin(10_005).game.ink()))
            frames = imagine.first_spike(net, game.game.ink(), left, game.game.speed)
            inside.append(frames is not None and found[0] <= frames <= found[1])
        game.step()
        if imitate.label(state):
            game.press(imitate.HOLD)
    assert np.mean(inside) > 0.85


def test_pushing_a_picture_moves_what_is_right_of_the_edge():
    ink = np.zeros((150, 600), np.uint8)
    ink[100, [60, 300, 599]] = 172
    after = imagine.moved(ink, 100, 40.4)
    assert np.flatnonzero(after[100]).tolist() == [60, 260, 559]
    back = imagine.moved(ink, 100, -40.0)
    assert np.flatnonzero(back[100]).tolist() == [60, 340]
    assert (imagine.moved(ink, 100, 0) == ink).all()


class Clock:
    """A window whose game gains a point with each look, and crashes after some."""

    def __init__(self, crash_at: int = 10**6):
        self.score = self.resets = 0
        self.crash_at = crash_at
        self.held = []

    def reset(self):
        self.score = 0
        self.resets += 1

    def screenshot(self):
        self.score += 30
        return b""

    def hold(self, seconds):
        self.held.append(seconds)

    def status(self):
        return Status(self.score, self.score >= self.crash_at)


def test_a_task_ends_at_its_target_or_after_its_steps_and_a_crash_goes_on(monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)
    reached = contract.run_task(Clock(), contract.Always(press=True), 100)
    assert (reached.best, reached.steps, reached.attempts) == (120, 4, 1)
    game = Clock(crash_at=60)
    missed = contract.run_task(game, contract.Always(press=False), 100, most=7)
    assert (missed.best, missed.steps, missed.attempts, game.resets) == (60, 7, 4, 4)
    assert game.held == []


def test_a_step_takes_as_long_as_look_answer_and_action_and_a_new_start_is_none_of_it(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))

    class Slow(Clock):
        def reset(self):
            super().reset()
            time.sleep(4.0)

    task = contract.run_task(Slow(crash_at=60), contract.Always(press=False), 100, most=4)
    assert task.step == pytest.approx([contract.HOLD + contract.SLEEP] * 4)
    assert task.attempts == 3
    assert task.seconds == pytest.approx(4 * (contract.HOLD + contract.SLEEP) + 2 * 4.0)


def test_added_think_time_is_added_and_counts_what_was_held_back():
    for think, hold in ((0.05, 0.0), (0.05, 0.03)):

        class Holding:
            def act(self, png, hold=hold):
                time.sleep(hold)
                return contract.Action(press=True, seconds=0)

        took = []
        for _ in range(5):  # on a busy machine one of them may wait for its turn
            begun = time.perf_counter()
            contract.Slow(Holding(), think).act(b"")
            took.append(time.perf_counter() - begun)
        assert think <= min(took) < think + 0.03
    begun = time.perf_counter()
    assert players.Thinker(players.Jumper(), 0.05).decide(np.zeros((36, 150), np.uint8))
    assert time.perf_counter() - begun >= 0.05


def test_think_time_is_for_decisions_and_not_for_aiming_the_eye(net, monkeypatch):
    slept = []
    monkeypatch.setattr(time, "sleep", slept.append)
    game, thinker = Twin(3), players.Thinker(players.Spiker(net), 2.4)
    for _ in range(2):  # a second life aims anew
        slept.clear()
        thinker.begin()
        for _ in range(players.SETTLED):
            assert not thinker.decide(game.observe().picture)
        assert slept == []
        thinker.decide(game.observe().picture)
        assert slept == [2.4]


def test_a_twin_feels_a_key_as_late_as_it_is_told():
    for delay in (0, 3):
        game = twin.Twin(1, delay)
        game.step()
        game.press(imitate.HOLD)
        jumped = 0
        while not game.game.jumping:
            game.step()
            jumped += 1
        assert jumped == 1 + delay


@pytest.mark.parametrize("forgets", ["the lesson", "the course", "both", "none"])
def test_what_is_taught_is_compared_in_each_frame_where_nothing_helps_both_must_say_so(
    net, monkeypatch, forgets
):
    """In the tenth frame one of them says that nothing is to be taught, the other that something is."""
    capstone, proofs = lesson.load("capstone_gameworld"), {}
    calls = {"the lesson": 0, "the course": 0}

    def late(name, right):
        def said(state):
            calls[name] += 1
            return np.nan if calls[name] == 10 and forgets in (name, "both") else right(state)

        return said

    monkeypatch.setattr(capstone, "steps_left", late("the lesson", capstone.steps_left))
    monkeypatch.setattr(imitate, "wanted", late("the course", imitate.wanted))
    run = SimpleNamespace(seed=0, figure=lambda *_: None)
    run.proof = lambda name, error, at_most: proofs.update({name: error <= at_most})
    capstone.watch_membrane(run, net, frames=40)
    assert proofs == {"what is taught = U(n)": forgets in ("both", "none")}


def test_the_title_of_the_jumps_tells_how_far_they_are_from_the_best_moment():
    title = lesson.load("capstone_gameworld").title_of_jumps
    good = title(np.array([1.0, -2.0, np.inf, np.nan]))
    assert good == "2 of 4 jumps are due, on average 1.5 steps from the best moment"
    assert title(np.array([np.inf])) == "None of 1 jumps is one that the teacher would make"
    assert title(np.array([])) == "None of 0 jumps is one that the teacher would make"


def test_the_title_of_a_moment_tells_the_spike_and_the_window():
    title = lesson.load("capstone_gameworld").title_of_moment
    assert title(30, (25, 40)) == "The first spike comes 30 frames from now; a jump clears from 25 to 40"
    assert title(None, (25, 40)) == "There is no spike; a jump clears from 25 to 40"


def test_a_player_who_thinks_long_is_asked_for_its_score_after_each_frame(monkeypatch):
    monkeypatch.setattr(tracks, "PATIENCE", 0.01)
    life = tracks.live(Twin(3), players.Thinker(players.Idle(), 0.02), most=0)
    assert life.frames == 1
    assert tracks.live(Twin(3), players.Idle(), most=0).frames > 1
