"""What a network sees of Pong, and what a person sees of the network: event view and clips."""

import dataclasses

from snn_course import UsageError
from snn_course.events import camera
from snn_course.pong import emulator, network, perception, watch
from snn_course.pong.spikes import LevelNet

import imageio.v3 as imageio
import numpy as np
import pytest
import torch
from PIL import Image


@pytest.fixture(scope="module")
def stacks():
    """Frames [32, 5, 84, 84] of random play: starts of games, rallies and points."""
    env, frames = emulator.many(4, seed=11)
    rng, found = np.random.default_rng(0), [frames.copy()]
    for number in range(1, 106):
        frames, *_ = env.step(emulator.ACTIONS[rng.integers(3, size=4)])
        if number % 15 == 0:
            found.append(frames.copy())
    env.close()
    return np.concatenate(found)


@pytest.fixture(scope="module")
def net(stacks):
    """An untrained network of integers, with He's weights."""
    torch.manual_seed(0)
    made = network.q_network()
    network.start(made.parts)
    made.calibrate(emulator.levels(stacks))
    return made.to_integers()


# ---------------------------------------------------------------------- the last action


def test_frames_tell_the_last_action_in_both_emulators():
    (env, frames), game = emulator.many(2, seed=1), emulator.single()
    alone = game.reset(seed=1)[0]
    for action in (0, 2, 3, 2):
        assert frames.shape == (2, 5, 84, 84)
        assert alone.shape == (5, 84, 84)
        frames, *_ = env.step(np.array([action, 3]))
        alone = game.step(action)[0]
        assert (frames[0, -1] == action).all()
        assert (frames[1, -1] == 3).all()
        assert (alone[-1] == action).all()
    for begun in (env.reset(seed=2)[0], game.reset(seed=2)[0]):
        assert not begun[-1].any()  # nothing was done in the new game
    env.close()
    game.close()


def test_the_number_of_threads_changes_nothing_in_the_games(monkeypatch):
    def played(threads):
        monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
        env, frames = emulator.many(3, seed=4)
        rng, found = np.random.default_rng(1), [frames.copy()]
        for _ in range(80):
            found.append(env.step(emulator.ACTIONS[rng.integers(3, size=3)])[0].copy())
        env.close()
        return np.stack(found)

    np.testing.assert_array_equal(played(2), played(1))


def test_a_new_game_knows_no_action_of_the_one_before():
    class Ending:
        def step(self, action):
            return (
                np.ones((3, 4, 84, 84), np.uint8),
                np.zeros(3),
                np.array([0, 1, 0]) > 0,
                np.array([0, 0, 1]) > 0,
                {},
            )

    frames, *_ = emulator.Games(Ending()).step(np.array([2, 2, 2]))
    assert frames[:, -1, 0, 0].tolist() == [2, 0, 0]


def test_the_paddles_columns_are_lit_where_the_agent_went(stacks):
    for action, lit in ((0, None), (2, 4), (3, 5)):
        frames = emulator.with_last(stacks[:, :4], np.full(len(stacks), action))
        known = emulator.known(frames)
        assert known.shape == (32, *emulator.KNOWN)
        assert torch.equal(known[:, :4], emulator.levels(frames))
        for plane in (4, 5):
            here = known[:, plane, :, emulator.PADDLE]
            assert (here == (emulator.FULL if plane == lit else 0)).all()
            assert known[:, plane].sum() == here.sum()  # and nowhere else


def test_the_agents_paddle_moves_in_its_columns(stacks):
    """Of all that moves in the right quarter, most is in these two columns: walls and score are cut off."""
    right = emulator.levels(stacks)[4:, :4, :, -10:].double().std((0, 1)).sum(0)  # [columns]
    assert sorted(right.argsort()[-2:].tolist()) == [column - 32 for column in range(36, 38)]


def test_wider_eyes_change_nothing_until_they_learn(stacks):
    torch.manual_seed(0)
    net = network.q_network()
    wide = network.wider(net)
    up = emulator.known(emulator.with_last(stacks[:, :4], np.full(len(stacks), 2)))
    assert torch.equal(wide(up), net(up[:, :4]))
    wide(up).square().sum().backward()
    assert wide.parts[0].weight.grad[:, 4].abs().max() > 0
    assert not wide.parts[0].weight.grad[:, 5].any()  # that plane is dark


# ---------------------------------------------------------------------- events


def one_camera_a_pair(frames, pixel):
    """Events as lesson 04's camera sends them, put into bins one at a time."""
    seen = np.zeros((len(frames), 6, *emulator.SHAPE[1:]), dtype=int)
    for game, stack in enumerate(frames):
        for pair in range(3):
            shown = stack[pair : pair + 2, emulator.COURT]
            stream = camera.record(camera.DvsCamera(pixel), shown, fps=15)
            for event in stream:
                seen[
                    game,
                    2 * pair + (not event["p"]),
                    event["y"] // emulator.POOL[0],
                    event["x"] // emulator.POOL[1],
                ] += 1
    return torch.from_numpy(seen.clip(0, 15).astype(np.uint8))


@pytest.mark.parametrize("threshold", [0.2, 0.07])
def test_events_are_those_of_lesson_04s_camera(stacks, threshold):
    pixel = dataclasses.replace(perception.PIXEL, threshold_on=threshold, threshold_off=1.3 * threshold)
    some = stacks[4:]  # the first four are starts of games: see below
    expected = one_camera_a_pair(some, pixel)
    assert expected[:, :, 5:-5].any()
    assert torch.equal(perception.events(some, pixel), expected)


def test_another_threshold_gives_other_events(stacks):
    wrong = dataclasses.replace(perception.PIXEL, threshold_on=0.25)
    assert not torch.equal(perception.events(stacks[4:], wrong), perception.events(stacks[4:]))


def test_shape_range_and_repetition(stacks):
    seen = perception.events(stacks)
    assert seen.shape == (32, len(perception.CHANNELS), *emulator.SHAPE[1:])
    assert seen.dtype == torch.uint8
    assert seen.max() == perception.MOST
    assert torch.equal(seen, perception.events(stacks.copy()))
    assert torch.equal(seen[5:6], perception.events(stacks[5:6]))  # a game does not depend on its neighbours
    assert network.q_network(channels=6)(seen).shape == (32, 3)


def test_a_resting_scene_sends_nothing(stacks):
    rest = np.repeat(stacks[:, 3:4], 5, axis=1)
    assert not perception.events(rest).any()


def test_channels_are_in_the_order_that_is_written():
    frames = np.full((1, 5, 84, 84), 87, dtype=np.uint8)
    frames[0, 2:, 14, 2] = 236  # a ball comes up between the second and the third picture
    frames[0, 3, 14, 2] = 87  # and is gone in the fourth
    seen = perception.events(frames)
    assert [perception.CHANNELS[c] for c in seen[0].flatten(1).any(1).nonzero()[:, 0]] == [
        "middle ON",
        "latest OFF",
    ]
    steps = int(np.log(236 / 87) / 0.2)
    assert seen[0, 2, 0, 1] == seen[0, 5, 0, 1] == steps
    assert seen.sum() == 2 * steps


def test_a_games_start_lights_up_the_whole_court(stacks):
    start = perception.events(stacks[:4])  # black, black, black, the court
    assert (start[:, 4] == perception.MOST).all()
    assert not start[:, :4].any()


# ---------------------------------------------------------------------- clips


def silent(x):
    return [torch.zeros(1, 16, 16, 21), torch.zeros(1, 128), torch.zeros(1, 3)]


def test_a_gif_has_a_picture_for_each_decision(tmp_path, net):
    path = tmp_path / "new" / "pong.gif"
    clip = watch.record(path, LevelNet(net).outputs, seed=1, seconds=2, skip=0)
    with Image.open(path) as gif:
        assert (gif.n_frames, gif.size) == (30, (watch.WIDTH, watch.HEIGHT))
    assert [m.decision for m in clip.moments] == list(
        range(clip.moments[0].decision, clip.moments[-1].decision + 1)
    )
    assert 0 < path.stat().st_size < 1_500_000 / 8 * 2
    assert [p.name for p in path.parent.iterdir()] == ["pong.gif"]
    shown, drawn = imageio.imread(path, index=20)[..., :3], watch.draw(clip)[20]
    assert np.abs(shown.astype(int) - drawn).mean() < 1  # the palette loses next to nothing


def test_a_clip_starts_after_the_points_and_repeats_itself(tmp_path, net):
    first, again = (
        watch.record(tmp_path / name, LevelNet(net).outputs, seed=2, seconds=0.4, skip=1)
        for name in ("a.gif", "b.gif")
    )
    assert sum(first.moments[0].score) == 1
    assert (tmp_path / "a.gif").read_bytes() == (tmp_path / "b.gif").read_bytes()
    assert (first.moments[0].screen == again.moments[0].screen).all()


def test_an_mp4_has_the_same_size(tmp_path):
    watch.record(tmp_path / "pong.mp4", silent, seconds=0.4, skip=0)
    assert imageio.imread(tmp_path / "pong.mp4").shape == (6, watch.HEIGHT, watch.WIDTH, 3)


def test_a_silent_network_shows_no_spikes(tmp_path, net):
    clip = watch.record(tmp_path / "silent.gif", silent, seconds=0.2, skip=0, eyes="events")
    assert watch.titles(clip.moments[0]) == [
        "convolution 1, 16 filters: 0 spikes",
        "dense layer, 128 neurons: 0 spikes",
    ]
    dark = watch.tiles(clip.moments[0].activity[0], top=1).reshape(-1, 3)
    assert set(map(tuple, dark.tolist())) == {tuple(watch.CIVIDIS[0].tolist()), (255, 255, 255)}
    loud = watch.record(tmp_path / "loud.gif", LevelNet(net).outputs, seconds=0.2, skip=0)
    assert not any(": 0 spikes" in line for line in watch.titles(loud.moments[0])[:2])


def test_the_spikes_of_a_layer_add_up():
    values = np.array([0, 3, 4])
    moment = watch.Moment(0, (0, 0), np.zeros((210, 160, 3), np.uint8), values, [values], np.zeros(3))
    assert watch.titles(moment) == ["dense layer, 3 neurons: 7 spikes"]


def test_wrong_use_is_told_in_one_line(tmp_path):
    for path, skip, told in (("pong.avi", 0, "ends in .gif or .mp4"), ("pong.gif", 21, "0 to 20 points")):
        with pytest.raises(UsageError, match=told) as caught:
            watch.record(tmp_path / path, silent, skip=skip)
        assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())
