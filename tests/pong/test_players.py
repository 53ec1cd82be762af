"""Players that learn nothing, the file of episodes, and the time of a decision."""

import csv
import importlib.util
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from snn_course import UsageError
from snn_course import akida_bridge as ab
from snn_course.pong import emulator, latency, network, players
from snn_course.pong.emulator import ACTIONS

import numpy as np
import pytest
import torch

needs_akida = pytest.mark.skipif(
    importlib.util.find_spec("akida") is None, reason="akida is not installed here"
)
Calibrated = tuple[ab.QuantNet, torch.Tensor]
Change = Callable[[latency.Screens], latency.Screens]
EMPTY = np.zeros((5, 4, 84, 84), np.uint8)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def upside_down(ram: players.Ram, before: players.Ram) -> int:
    return (0, 2, 1)[players.mirror(ram, before)]


# ---------------------------------------------------------------------- players


def test_random_player_is_reproducible_and_uses_each_action() -> None:
    one, same, other = (players.random_player(seed) for seed in (1, 1, 2))
    drawn = [[play(EMPTY) for _ in range(40)] for play in (one, same, other)]
    assert np.shape(drawn) == (3, 40, 5)
    assert np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])
    assert set(np.unique(drawn)) == {0, 1, 2}
    assert min(np.bincount(np.ravel(drawn))) > 150  # of 600: each a third


def memory(ball: int, paddle: int) -> players.Ram:
    ram = np.zeros(128, np.uint8)
    ram[players.BALL], ram[players.PADDLE] = ball, paddle
    return ram


@pytest.mark.parametrize(
    ("ball", "paddle", "action"), [(150, 100, 2), (60, 100, 1), (108, 100, 0), (0, 100, 0), (250, 38, 2)]
)
def test_mirror_moves_towards_a_resting_ball(ball: int, paddle: int, action: int) -> None:
    assert players.mirror(memory(ball, paddle), memory(ball, paddle)) == action


def test_mirror_looks_ahead() -> None:
    assert players.mirror(memory(108, 100), memory(98, 100)) == 2  # the ball falls
    assert players.mirror(memory(108, 100), memory(118, 100)) == 1
    assert players.mirror(memory(108, 100), memory(108, 80)) == 1  # the paddle glides down
    assert players.mirror(memory(108, 100), memory(0, 100)) == 0  # a ball that was not there has no speed


def test_mirror_beats_chance_and_its_own_opposite() -> None:
    rng = np.random.default_rng(0)
    rules = {
        "mirror": players.mirror,
        "random": lambda ram, before: int(rng.integers(3)),
        "opposite": upside_down,
    }
    points = {name: players.play_mirror([3], rule, most=600)[0].reward for name, rule in rules.items()}
    assert points["mirror"] > points["random"] + 5
    assert points["mirror"] > points["opposite"] + 5


def test_one_reward_for_each_seed_and_the_same_again() -> None:
    played = players.play_mirror([1, 2, 1], upside_down, most=120)
    assert [(one.seed, one.decisions) for one in played] == [(1, 120), (2, 120), (1, 120)]
    assert played[0] == played[2]
    assert sum(one.reward for one in played) < 0


def test_published_rewards_agree_with_the_paper_s_own_percentage() -> None:
    told = {row.name: row for row in players.PUBLISHED if "Mnih" in row.source}
    dqn, human, random = (told[n].mean for n in ("DQN", "human tester", "random"))
    assert (dqn - random) / (human - random) == pytest.approx(1.320, abs=5e-4)  # 132.0 % in the table
    assert all(-21 <= row.mean <= 21 and row.source for row in players.PUBLISHED)


def test_published_rewards_are_told_by_protocol_and_frames() -> None:
    assert {row.sticky for row in players.PUBLISHED} == {True, False}
    assert all(row.sticky == ("Dopamine" in row.source) for row in players.PUBLISHED)
    keys = [(row.name, row.frames, row.sticky) for row in players.PUBLISHED]
    assert len(set(keys)) == len(keys)
    best = players.best_published(20, sticky=True)
    assert (best.name, best.mean) == ("IQN, Impala", 19.9)
    assert players.best_published(40, sticky=True).mean == 20.3  # as many as the teacher has seen
    assert players.best_published(200, sticky=False).mean == 18.9
    assert players.best_published(200, sticky=True).mean > best.mean


# ---------------------------------------------------------------------- episodes


def test_csv_round_trip(tmp_path: Path) -> None:
    rows = [
        players.Episode("pqn", "torch, GPU", 10_000, 21.0, 1650),
        players.Episode("Zürich", 'says "no"', 10_001, -21.0, 800),
    ]
    path = tmp_path / "new" / "episodes.csv"
    players.write_csv(path, rows[:1])
    players.write_csv(path, rows)  # replaces
    with path.open(encoding="utf-8", newline="") as source:
        found = list(csv.DictReader(source))
    assert list(found[0]) == ["agent", "execution", "seed", "reward", "decisions"]
    kinds = {"seed": int, "reward": float, "decisions": int}
    read = [players.Episode(**{key: kinds.get(key, str)(text) for key, text in row.items()}) for row in found]
    assert read == rows
    assert b"\r\r" not in path.read_bytes()
    assert [p.name for p in path.parent.iterdir()] == ["episodes.csv"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "episodes.csv"
    players.write_csv(path, [players.Episode("a", "b", 1, 2.0, 3)])
    before = path.read_bytes()
    path.chmod(0o444)
    with pytest.raises(UsageError, match=r"Cannot write .*episodes\.csv"):
        players.write_csv(path, [])
    assert path.read_bytes() == before


# ---------------------------------------------------------------------- latency


def differences(decisions: int, change: Change = lambda screens: screens) -> int:
    """Count the decisions in which a live agent knows something else than Gymnasium's wrappers tell."""
    game, other = latency.Game(0, sticky=0.0), emulator.single(sticky=0.0, noop_max=0)
    stack, last = latency.Stack(emulator.known), 0
    frames, wrong = other.reset(seed=0)[0], 0
    for action in ACTIONS[np.random.default_rng(0).integers(3, size=decisions)]:
        seen = stack.push(latency.preprocess(change(game.screens)), last)
        assert seen.shape == (1, *emulator.KNOWN)
        wrong += not torch.equal(seen, emulator.known(frames[None]))
        last = int(action)
        game.step(last)
        frames = other.step(last)[0]
    other.close()
    return wrong


def test_a_live_agent_sees_what_the_wrappers_show() -> None:
    assert differences(110) == 0


def test_one_screen_alone_would_be_another_picture() -> None:
    assert differences(110, lambda screens: (screens[1], screens[1])) > 20


def asleep(encode: float = 0, network: float = 0, decode: float = 0) -> latency.Backend:
    """A backend that does nothing, slowly."""

    def step(seconds: float) -> Callable[[object], int]:
        def sleep(_given: object) -> int:
            time.sleep(seconds)
            return 0

        return sleep

    return latency.Backend("asleep", step(encode), step(network), step(decode))


def test_each_part_is_timed_apart_and_the_game_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    step = latency.Game.step

    def slow(game: latency.Game, action: int) -> None:
        time.sleep(0.03)
        step(game, action)

    monkeypatch.setattr(latency.Game, "step", slow)
    parts = latency.measure(asleep(0.002, 0.008, 0.004), decisions=15, warm_up=2)
    assert list(parts) == [*latency.PARTS, latency.WHOLE]
    assert {len(seconds) for seconds in parts.values()} == {15}
    for name, least in {"encode": 0.002, "network": 0.008, "decode": 0.004, latency.WHOLE: 0.014}.items():
        assert parts[name].min() >= 0.9 * least
    middle = {name: np.median(seconds) for name, seconds in parts.items()}
    assert middle["encode"] < middle["decode"] < middle["network"]
    assert middle[latency.WHOLE] < 0.03


def test_parts_sum_to_the_whole() -> None:
    parts = latency.measure(asleep(), decisions=30, warm_up=0)
    total = np.sum([parts[name] for name in latency.PARTS], axis=0)
    assert np.allclose(total, parts[latency.WHOLE], rtol=0, atol=1e-9)
    assert (np.stack(list(parts.values())) >= 0).all()
    assert not np.allclose(total - parts["stack"], parts[latency.WHOLE], rtol=0, atol=1e-9)


def test_a_finished_game_starts_again(monkeypatch: pytest.MonkeyPatch) -> None:
    starts, step = list[bool](), latency.Game.step

    def short(game: latency.Game, action: int) -> None:
        step(game, action)
        starts.append(game.over)
        game.over = len(starts) % 5 == 0

    monkeypatch.setattr(latency.Game, "step", short)
    assert len(latency.measure(asleep(), decisions=12, warm_up=0)["network"]) == 12
    assert not any(starts)  # each new game begins as not over


@pytest.mark.parametrize("wrong", [{"decisions": 0}, {"warm_up": -1}])
def test_nothing_to_time_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="at least one decision"):
        latency.measure(asleep(), **wrong)


def test_percentiles_of_known_numbers() -> None:
    ms = np.arange(101) / 1000
    rows = latency.percentiles({"network": ms, latency.WHOLE: 2 * ms})
    assert [row[0] for row in rows] == ["network", latency.WHOLE]
    assert rows[0][1:] == pytest.approx((50, 95, 99))
    assert rows[1][1:] == pytest.approx((100, 190, 198))


# ---------------------------------------------------------------------- backends


def some_levels(count: int) -> torch.Tensor:
    """Levels [count, 4, rows, columns] of a game played at random."""
    env, frames = emulator.many(count, seed=5)
    rng = np.random.default_rng(5)
    for _ in range(60):
        frames, *_ = env.step(ACTIONS[rng.integers(3, size=count)])
    env.close()
    return emulator.levels(frames)


@pytest.fixture(scope="module")
def calibrated() -> Calibrated:
    torch.manual_seed(0)
    net = network.q_network()
    network.start(net.parts[:-1])
    x = some_levels(24)
    net.calibrate(x)
    with torch.no_grad():  # a start of its own favours one action: centre the three
        net.parts[-1].bias.sub_(net(x).mean(0))
    return net, x


def actions(backend: latency.Backend, x: torch.Tensor) -> list[int]:
    return [backend.decode(backend.network(backend.encode(one[None]))) for one in x]


def test_torch_backend_plays_the_greedy_action(calibrated: Calibrated) -> None:
    net, x = calibrated
    best = ACTIONS[network.greedy(net, x)].tolist()
    assert actions(latency.torch_backend("net", net), x) == best
    assert len(set(best)) > 1
    parts = latency.measure(latency.torch_backend("net", net), decisions=20, warm_up=3)
    assert parts["network"].min() > 0


@needs_akida
def test_akida_backend_plays_what_the_quantised_network_plays(calibrated: Calibrated) -> None:
    net, x = calibrated
    chip = latency.akida_backend("akida", ab.to_akida(net))
    best = ACTIONS[network.greedy(net, x)].tolist()
    assert actions(chip, x) == best
    assert actions(chip, x.flip(-1)) != best  # mirrored pictures are others: the test can fail
    assert latency.measure(chip, decisions=5, warm_up=1)["network"].min() > 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
def test_torch_backend_waits_for_the_gpu(calibrated: Calibrated) -> None:
    net, x = calibrated
    best = ACTIONS[network.greedy(net, x)].tolist()
    on_gpu = actions(latency.torch_backend("net", net, "cuda"), x)
    net.to("cpu")
    assert np.mean(np.array(on_gpu) == best) > 0.95
