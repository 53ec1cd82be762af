"""Pong's emulators, learners and kept agents: equal pictures, equal returns, equal after a resume."""

import copy
import json
import shutil
import sys
from contextlib import suppress
from pathlib import Path

from snn_course.runs import lesson
from snn_course import UsageError
from snn_course.pong import checkpoints, dqn, emulator, network, pqn
from snn_course.pong.network import GAMMA
from snn_course.runs.divergence import Diverged

import numpy as np
import pytest
import torch

# ---------------------------------------------------------------------- emulators


def slow_levels(frames: np.ndarray) -> np.ndarray:
    """Level = clip(round((mean of the pool - 87) / 4)), halves upwards, pixel by pixel in floats."""
    court, (down, across) = frames[14:76].astype(float), emulator.POOL
    found = np.zeros(emulator.SHAPE[1:])
    for row, column in np.ndindex(*found.shape):
        mean = court[down * row : down * (row + 1), across * column : across * (column + 1)].mean()
        found[row, column] = np.clip(np.floor((mean - 87) / emulator.GREYS_A_LEVEL + 0.5), 0, 15)
    return found


def test_levels_equal_the_float_formula():
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (2, 4, 84, 84), dtype=np.uint8)
    frames[0] = rng.integers(80, 160, (4, 84, 84))  # where the levels lie
    found = emulator.levels(frames)
    assert found.dtype == torch.uint8
    assert found.shape == (2, *emulator.SHAPE)
    assert set(found.unique().tolist()) == set(range(16))
    for picture, frame in zip(found.flatten(0, 1), frames.reshape(-1, 84, 84), strict=True):
        assert np.array_equal(picture.numpy(), slow_levels(frame))
    floored = torch.from_numpy((frames[0, 0, 14:76].astype(int) - 87).clip(0, 63) // 4)[::2, ::2]
    assert not torch.equal(found[0, 0].long(), floored)  # one pixel of four is not their mean


def test_both_emulators_give_the_same():
    assert emulator.difference(100, seed=3) == 0


def test_difference_sees_another_picture(monkeypatch):
    single = emulator.single
    monkeypatch.setattr(emulator, "single", lambda **_: single(sticky=0.0, noop_max=30))
    assert emulator.difference(20, seed=3) > 0


@pytest.mark.parametrize(("sticky", "equal"), [(0.0, True), (emulator.STICKY, False)])
def test_without_sticky_actions_only_the_start_differs(sticky, equal):
    seen = []

    def up_and_down(frames):
        seen.append(frames)
        return np.full(len(frames), 1 + len(seen) // 5 % 2)

    emulator.play(up_and_down, [10_002, 10_018], 60, sticky)  # both have four idle frames
    assert all(np.array_equal(*frames) for frames in seen) == equal


@pytest.mark.parametrize("start", [lambda: emulator.many(1, 0), emulator.single])
def test_missing_parts_of_the_emulator_are_one_clear_line(start, monkeypatch, tmp_path):
    from ale_py import roms

    for missing in (None, tmp_path / "pong.bin"):
        monkeypatch.setattr(roms, "get_rom_path", lambda _, found=missing: found)
        with pytest.raises(UsageError, match=r"^Pong's ROM is missing: reinstall it with '.*'\.$"):
            start()
    monkeypatch.setitem(sys.modules, "ale_py", None)
    with pytest.raises(UsageError, match=r"^ale-py is not installed: '.*' mends it\.$"):
        start()


@pytest.mark.parametrize("folder", ["none", "."])
def test_a_rom_that_ale_py_cannot_open_is_one_clear_line(folder, monkeypatch, tmp_path):
    monkeypatch.setenv("ALE_ROMS_DIR", str(tmp_path / folder))
    with pytest.raises(UsageError, match=r"^Pong's ROM is missing"):
        emulator._require_rom()


# ---------------------------------------------------------------------- returns


def random_rewards(steps: int, games: int, seed: int) -> torch.Tensor:
    """Rewards of -1, 0 and 1, mostly 0."""
    torch.manual_seed(seed)
    return torch.randint(-1, 2, (steps, games)) * (torch.rand(steps, games) < 0.2).float()


def lambda_return(best: list[float], reward: list[float], trace: float, ends: bool = True) -> float:
    """Sum the n-step returns of the first decision, n = 1 .. T, each with its weight (Sutton and Barto).

    G = (1 - lambda) sum lambda^(n-1) G_n, and all that is left for the last; a point makes later ones equal.
    """
    total, n_step = 0.0, []
    for n, r in enumerate(reward, start=1):
        total += GAMMA ** (n - 1) * r
        point = ends and r != 0
        n_step.append(total + (0 if point else GAMMA**n * best[n]))
        if point:
            n_step += n_step[-1:] * (len(reward) - n)
            break
    weights = [(1 - trace) * trace**n for n in range(len(n_step) - 1)] + [trace ** (len(n_step) - 1)]
    return sum(w * g for w, g in zip(weights, n_step, strict=True))


@pytest.mark.parametrize("trace", [0.0, 0.8, 1.0])
def test_lambda_returns_are_the_weighted_sums(trace):
    reward, q = random_rewards(9, 5, 0), torch.randn(10, 5, 3)
    assert reward.abs().sum() > 3
    found, best = pqn.returns(q, reward, trace), q.max(-1).values
    expected, broken = (
        [
            [lambda_return(best[t:, b].tolist(), reward[t:, b].tolist(), trace, ends) for b in range(5)]
            for t in range(9)
        ]
        for ends in (True, False)
    )
    assert found == pytest.approx(np.array(expected), abs=1e-5)
    assert found != pytest.approx(np.array(broken), abs=1e-2)  # a point must end the return


def fixed(*rows: list[float]):
    """A network that gives the same Q, whatever it sees."""
    return lambda seen: torch.tensor(rows)[: len(seen)]


def test_n_step_targets_by_hand():
    reward = torch.tensor([[0.0, 0, 0], [0, 0, 1], [-1, 0, 1], [0, 1, -1], [0, 0, -1]])
    q = fixed(*[[1.0, 5.0, 2.0]] * 5)
    found = dqn.targets(q, q, reward, torch.zeros(5, 1)).tolist()
    assert found == pytest.approx([5 * 0.99**3, 0.99**2, -1, 0.99, -(0.99**2)])


def test_the_older_network_says_the_worth_of_what_the_present_one_chooses():
    net, older = fixed([0.0, 0.0, 1.0], [3.0, 2.0, 1.0]), fixed([9.0, 8.0, 7.0], [4.0, 5.0, 6.0])
    reward, after = torch.zeros(2, 1), torch.zeros(2, 1)
    assert dqn.targets(net, older, reward, after).tolist() == pytest.approx([0.99 * 7, 0.99 * 4])
    single = dqn.targets(older, older, reward, after)
    assert single.tolist() == pytest.approx([0.99 * 9, 0.99 * 6])  # what one network alone would overrate


# ---------------------------------------------------------------------- replay


def numbered(rows: int, steps: int, ends: tuple[int, ...] = (), points: tuple[int, ...] = ()) -> dqn.Replay:
    """A replay of one game: its picture at step s is all s + 1; it ends after some steps, with or without."""
    replay = dqn.Replay(rows, 1)
    for step in range(steps):
        picture = torch.full((1, *emulator.SHAPE[1:]), step + 1, dtype=torch.uint8)
        reward = torch.tensor([float(step in points)])
        replay.add(picture, torch.tensor([step % 3]), reward, torch.tensor([step in ends]))
    return replay


def drawn(replay: dqn.Replay, ahead: int = 3) -> dict[int, tuple[list[int], int, list[float], list[int]]]:
    """Draw often: for each step that came, its stack, action, rewards and the stack then."""
    torch.manual_seed(0)
    batch = replay.draw(3000, ahead)
    seen, after = batch.seen[:, :, 3, 5].tolist(), batch.after[:, :, 3, 5].tolist()
    every = zip(seen, batch.action.tolist(), batch.reward.tolist(), after, strict=True)
    return {s[-1] - 1: (s, a, r, f) for s, a, r, f in every}


def test_a_ring_gives_only_decisions_that_it_has_whole():
    young, old = drawn(numbered(20, 12, points=(7,))), drawn(numbered(20, 50, points=(40,)))
    assert sorted(young) == list(range(9))
    assert young[0] == ([0, 0, 0, 1], 0, [0, 0, 0], [1, 2, 3, 4])
    assert young[5] == ([3, 4, 5, 6], 2, [0, 0, 1], [6, 7, 8, 9])
    assert sorted(old) == list(range(33, 47))  # 30 to 32 have lost pictures, 47 to 49 wait for rewards
    assert old[39] == ([37, 38, 39, 40], 0, [0, 1, 0], [40, 41, 42, 43])


def test_a_decision_counts_after_a_point_but_not_after_a_game_given_up():
    found = drawn(numbered(40, 20, ends=(6, 13), points=(6,)))
    assert set(range(17)) - set(found) == {11, 12, 13}  # game 2 ends without a point
    assert found[5][2:] == ([0, 1, 0], [0, 0, 8, 9])
    assert found[7][0] == [0, 0, 0, 8]
    replay = numbered(40, 10)
    replay.new_games()
    for _ in range(10):
        replay.add(
            *(torch.ones(1, *emulator.SHAPE[1:]), torch.zeros(1), torch.zeros(1), torch.tensor([False]))
        )
    assert drawn(replay).keys() >= {6, 0}
    assert not {7, 8, 9} & set(drawn(replay))  # a round's end


@pytest.fixture(scope="module")
def games() -> tuple[dqn.Replay, list[torch.Tensor], list[int]]:
    """Random play of 2 games beyond an episode's end, and new games then: replay, stacks, steps of an end."""
    replay, seen, ends = dqn.Replay(1300, 2), [], []
    rng = np.random.default_rng(0)
    for seed, steps in ((0, 1150), (1, 400)):
        env, frames = emulator.many(2, seed)
        replay.new_games()
        for _ in range(steps):
            seen.append(emulator.levels(frames))
            chosen = rng.integers(3, size=2)
            frames, points, dead, cut, _ = env.step(emulator.ACTIONS[chosen])
            reward, over = torch.from_numpy(points).float(), torch.from_numpy(dead | cut)
            ends += [len(seen)] if over.any() else []
            assert (reward[over] != 0).all()  # a game ends with a point
            replay.add(seen[-1][:, -1], torch.from_numpy(chosen), reward, over)
        env.close()
    return replay, seen, ends


def rebuilt(replay: dqn.Replay, steps: range) -> torch.Tensor:
    """Stacks of both games at these steps, [steps, 2, 4, rows, columns]."""
    step = torch.tensor(steps).repeat_interleave(2)
    return replay.stacks(step, torch.arange(len(step)) % 2).unflatten(0, (-1, 2))


def test_stacks_from_the_ring_equal_the_emulators(games):
    replay, seen, ends = games
    steps = range(len(seen) - 1300 + 3, len(seen))  # the ring's seam lies between
    assert ends
    assert all(end in steps for end in ends)
    assert torch.equal(rebuilt(replay, steps), torch.stack(seen[steps.start :]))


def test_stacks_that_forget_a_games_start_differ(games):
    replay, seen, ends = games
    broken = copy.copy(replay)
    broken.age = torch.full_like(replay.age, 255)
    for start in (*ends, 1150):
        found = rebuilt(broken, range(start, start + 4))
        assert not torch.equal(found[0], seen[start])
        assert torch.equal(found[3], seen[start + 3])


# ---------------------------------------------------------------------- resuming

LEARNERS = {
    "pqn": (pqn, 2, pqn.Recipe(steps=96, games=2, horizon=8, batch=8, explore=50)),
    "dqn": (dqn, 16, dqn.Recipe(96, 2, batch=8, capacity=40, start=20, copy=7, explore=50)),
}
"""Module, ROUND and recipe: three rounds of 32 decisions; the ring of 40 goes round twice."""


class Killed(Exception):
    pass


@pytest.fixture
def learn(monkeypatch, tmp_path):
    """Give a function that learns in a folder, and may be killed in the middle of a round."""

    def learn(kind: str, folder: str, killed_in: int = 9, change=lambda state: None):
        module, size, recipe = LEARNERS[kind]
        monkeypatch.setattr(module, "ROUND", size)
        monkeypatch.setenv("SNN_RESULTS", str(tmp_path / folder))
        run = lesson.Run(lesson.Config(scale="quick", seed=5), Path(__file__))
        run.begin(5)
        net = network.q_network()
        if (state := run.load(kind)) is not None:
            change(state)
            run.save(kind, state)

        def progress(items, label):
            for item in items:
                if item == killed_in * size + size // 2:
                    raise Killed
                yield item

        monkeypatch.setattr(run, "progress", progress)
        told = module.learn(run, kind, net, recipe)
        return net.state_dict(), [{k: v for k, v in entry.items() if k != "seconds"} for entry in told]

    return learn


def same(one: dict, other: dict) -> bool:
    return all(torch.equal(w, other[k]) for k, w in one.items() if isinstance(w, torch.Tensor))


@pytest.mark.parametrize("kind", LEARNERS)
def test_a_resumed_training_equals_an_unbroken_one(kind, learn):
    weights, told = learn(kind, "unbroken")
    assert [entry["steps"] for entry in told] == [32, 64, 96]
    assert told[-1]["loss"] > 0
    for killed_in in (1, 2):
        with pytest.raises(Killed):
            learn(kind, "killed", killed_in)
    resumed, retold = learn(kind, "killed")
    assert retold == told
    assert same(resumed, weights)
    assert learn(kind, "unbroken")[1] == told  # a finished one is only read


def test_a_resumed_training_that_lost_a_part_differs(learn, tmp_path, monkeypatch):
    kept = learn("dqn", "unbroken")[0]
    with pytest.raises(Killed):
        learn("dqn", "killed", 2)

    def without(lost, change=lambda state: None):
        shutil.copytree(tmp_path / "killed", tmp_path / lost)
        return learn("dqn", lost, change=change)[0]

    fresh = dqn.Learner(network.q_network(), LEARNERS["dqn"][2]).state_dict()
    fresh["replay"]["steps"] = 32  # as far, but empty
    assert same(without("nothing"), kept)
    for lost in fresh:
        change = lambda state, lost=lost: state["learner"].update({lost: fresh[lost]})  # noqa: E731
        with suppress(Diverged):  # without Adam's moments it may do so, which is a difference, too
            assert not same(without(lost, change), kept)
    monkeypatch.setattr(torch, "set_rng_state", lambda _: None)
    assert not same(without("random numbers"), kept)


def test_the_older_network_is_copied_now_and_then():
    learner = dqn.Learner(network.q_network(), dqn.Recipe(batch=8, games=1, copy=3, capacity=40))
    learner.replay = numbered(40, 30, points=(9, 19))
    before = []
    for step in range(7):
        before.append(copy.deepcopy(learner.net.state_dict()))
        learner.train()
        assert same(learner.older.state_dict(), before[step - step % 3])
        assert not same(learner.older.state_dict(), learner.net.state_dict())


# ---------------------------------------------------------------------- kept agents


@pytest.fixture
def agent(tmp_path, monkeypatch):
    """A run of the capstone, and a shipped agent 'pqn'."""
    monkeypatch.setattr(checkpoints, "SHIPPED", tmp_path / "shipped")
    checkpoints.SHIPPED.mkdir()
    torch.save(network.q_network().state_dict(), checkpoints.SHIPPED / "pqn.pt")
    script = tmp_path / "capstone_pong.py"
    script.write_text('"""Capstone A: Pong.\n\nQuestion: Who wins?\n"""\n', encoding="utf-8")
    run = lesson.Run(lesson.Config(scale="quick"), script)
    run.begin(0)
    return run


def test_an_agent_comes_back_as_it_was_kept(agent):
    net, other = network.q_network(), network.q_network()
    checkpoints.keep(agent, "pqn", net, {"rewards": [20.0], "curve": []})
    path = checkpoints.find("pqn", "quick")
    checkpoints.load(other, path)
    assert same(other.state_dict(), net.state_dict())
    told = checkpoints.card(path)
    assert (told["seed"], told["rewards"], told["scale"]) == (0, [20.0], "quick")
    assert told["command"].startswith("python ")
    assert told["command"].endswith("capstone_pong.py --scale quick")  # here, a path outside the course


def test_of_several_seeds_the_first_leaves_its_weights_and_its_own_card(agent):
    first, second = network.q_network(), network.q_network()
    checkpoints.keep(agent, "pqn", first, {"rewards": [20.0]})
    agent.begin(1)
    checkpoints.keep(agent, "pqn", second, {"rewards": [10.0]})
    path, found = checkpoints.find("pqn", "quick"), network.q_network()
    checkpoints.load(found, path)
    assert same(found.state_dict(), first.state_dict())
    told = checkpoints.card(path)
    assert (told["seed"], told["rewards"]) == (0, [20.0])


def test_ones_own_agent_goes_before_the_shipped_one(agent):
    shipped = checkpoints.SHIPPED / "pqn.pt"
    assert checkpoints.find("pqn", "quick") == shipped
    checkpoints.keep(agent, "pqn", network.q_network(), {})
    assert checkpoints.find("pqn", "quick") == agent.folder / "pqn.pt"
    assert checkpoints.find("pqn", "cpu") == shipped


def one_line(function, *arguments) -> str:
    """The message of the UsageError that this call must raise."""
    with pytest.raises(UsageError) as caught:
        function(*arguments)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def test_missing_agents_and_cards_are_one_clear_line(agent, tmp_path):
    assert "There is no agent 'dqn'" in one_line(checkpoints.find, "dqn", "quick")
    assert "pqn.json is missing or damaged" in one_line(checkpoints.card, checkpoints.SHIPPED / "pqn.pt")
    damaged = tmp_path / "damaged.pt"
    damaged.write_bytes(b"no weights")
    assert "none.pt is missing" in one_line(checkpoints.load, network.q_network(), tmp_path / "none.pt")
    assert "damaged.pt is damaged" in one_line(checkpoints.load, network.q_network(), damaged)


def test_of_several_cards_those_that_can_be_read_are_given(agent):
    checkpoints.keep(agent, "pqn", network.q_network(), {"rewards": [20.0]})
    checkpoints.keep(agent, "dqn", network.q_network(), {"rewards": [10.0]})
    checkpoints.find("dqn", "quick").with_suffix(".json").write_text("{", encoding="utf-8")
    found = checkpoints.cards(("none", "dqn", "pqn"), "quick")
    assert {name: card["rewards"] for name, card in found.items()} == {"pqn": [20.0]}


def test_a_damaged_card_is_one_clear_line(agent):
    path = checkpoints.SHIPPED / "pqn.pt"
    for text in (b'{"seed": 0', b"", b"\xff\xfe"):
        path.with_suffix(".json").write_bytes(text)
        assert "pqn.json is missing or damaged" in one_line(checkpoints.card, path)
    path.with_suffix(".json").write_text(json.dumps({"seed": 1}), encoding="utf-8")
    assert checkpoints.card(path) == {"seed": 1}


def test_damaged_and_foreign_weights_are_one_clear_line(agent):
    path, net = checkpoints.SHIPPED / "pqn.pt", network.q_network()
    whole = path.read_bytes()
    checkpoints.load(net, path)
    for damaged in (b"no weights", whole[: len(whole) // 2]):
        path.write_bytes(damaged)
        assert "pqn.pt is damaged" in one_line(checkpoints.load, net, path)
    for foreign in (network.q_network(channels=2).state_dict(), torch.nn.Linear(2, 2).state_dict(), [1, 2]):
        torch.save(foreign, path)
        assert "pqn.pt is of another network" in one_line(checkpoints.load, net, path)


def test_an_empty_file_of_weights_is_one_clear_line(agent):
    (checkpoints.SHIPPED / "pqn.pt").write_bytes(b"")
    message = one_line(checkpoints.load, network.q_network(), checkpoints.SHIPPED / "pqn.pt")
    assert "pqn.pt is damaged" in message


def test_a_card_of_another_kind_is_one_clear_line(agent):
    (checkpoints.SHIPPED / "pqn.json").write_text("[]", encoding="utf-8")
    assert "pqn.json is missing or damaged" in one_line(checkpoints.card, checkpoints.SHIPPED / "pqn.pt")


# ---------------------------------------------------------------------- reward of a round


def test_the_reward_of_a_round_is_that_of_an_episode_with_its_share_of_points():
    assert pqn.expected(0, 0) == 0
    assert pqn.expected(2100, 100) == pytest.approx(20, abs=0.02)
    assert pqn.expected(100, 2100) == pytest.approx(-20, abs=0.02)
    assert pqn.expected(10**6, 0) == pytest.approx(21, abs=1e-3)
    shares = [pqn.expected(won, 40 - won) for won in range(41)]
    assert shares == sorted(shares)
