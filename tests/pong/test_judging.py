"""Who chooses and who reports: no episode does both, and what is reported chooses nothing."""

import json
import typing
from types import SimpleNamespace

from snn_course.runs import lesson, measures
from snn_course import ROOT
from snn_course.pong import agents, checkpoints, dqn, emulator, imitate, judging, network, pqn

import pytest
import torch

capstone = lesson.load("capstone_pong")


def test_no_seed_has_two_purposes():
    assert not set(judging.CHOICE) & set(judging.REPORT)
    assert min(len(judging.CHOICE), len(judging.REPORT)) >= 1000  # the most that --episodes takes
    for kind, foreign in ((judging.Choice, judging.REPORT), (judging.Report, judging.CHOICE)):
        own = kind.allowed
        assert kind([1.0], own.start).mean == 1.0
        assert kind([1.0, 2.0], own.stop - 2).first == own.stop - 2
        for first, rewards in ((foreign.start, [1.0]), (own.stop - 1, [1.0, 2.0]), (own.start, [])):
            with pytest.raises(ValueError, match=f"^{kind.__name__}: {len(rewards)} episodes"):
                kind(rewards, first)


def test_each_purpose_plays_its_own_seeds(monkeypatch):
    asked = []

    def play(policy, seeds, most, sticky=emulator.STICKY):
        asked.append(([*seeds], most, sticky))
        return [emulator.Played(seed, seed % 7, 9) for seed in seeds]

    monkeypatch.setattr(emulator, "play", play)
    chosen = judging.choose(len, 3, 50)
    told = judging.report(len, 2, 60, sticky=0.0)
    fresh = judging.report(len, 1, first=69_999)
    assert asked[:2] == [([10_000, 10_001, 10_002], 50, 0.25), ([40_000, 40_001], 60, 0.0)]
    assert asked[2:] == [([69_999], emulator.LONGEST, 0.25)]
    assert fresh == judging.Report([69_999 % 7], 69_999)
    assert chosen == judging.Choice([4, 5, 6], 10_000, longest=50)
    assert told == judging.Report([2, 3], 40_000, 0.0, 60)
    assert told.note == "2 episodes, seeds 40000 to 40001, +- 0.50, cut after 60 decisions"


def test_the_last_first_seed_leaves_room_for_the_most_episodes():
    hints = typing.get_type_hints(capstone.Config, include_extras=True)
    first, episodes = hints["first"].__metadata__[0], hints["episodes"].__metadata__[0]
    assert capstone.Config().first == first.low == judging.REPORT.start
    assert first.high + episodes.high - 1 in judging.REPORT


def test_a_card_keeps_both_apart():
    choice = judging.Choice([1.0, 2.0], 10_000)
    sticky, calm = judging.Report([3.0], 40_000), judging.Report([21.0, 20.0], 40_000, 0.0)
    card = {"choice": choice.told(), "reports": [calm.told(), sticky.told()]}
    told = {"first_seed": 10_000, "episodes": 2, "sticky": 0.25, "longest": 27_000, "rewards": [1.0, 2.0]}
    assert card["choice"] == told
    assert judging.choice_of(card) == choice
    assert (judging.report_of(card), judging.report_of(card, 0.0)) == (sticky, calm)
    old = {"rewards": [5.0]}  # from before seeds had a purpose: it may choose, and is no report
    assert judging.choice_of(old) == judging.Choice([5.0], 10_000)
    assert judging.report_of(old) is None
    assert judging.choice_of({}) is None


def test_fresh_episodes_stand_beside_the_old_ones_on_a_card():
    old = [judging.Report([3.0], 40_000), judging.Report([21.0], 40_000, 0.0)]
    card = {"eyes": "known", "reports": [one.told() for one in old]}
    fresh = judging.Report([5.0], 42_000)
    told = judging.with_reports(card, fresh)
    assert told["eyes"] == "known"
    assert judging.reports_of(told) == [*old, fresh]
    assert judging.report_of(told) == old[0]  # the headline stays what it was
    again = judging.Report([4.0], 40_000)
    assert judging.reports_of(judging.with_reports(told, again)) == [again, old[1], fresh]
    assert judging.reports_of(judging.with_reports({}, fresh)) == [fresh]


class Asked(Exception):
    pass


@pytest.mark.parametrize("seed", [0, 1, 29_999, 60_000, 2_026, 2**31 - 1])
@pytest.mark.parametrize("learner", ["pqn", "dqn", "imitate"])
def test_training_meets_no_seed_that_judges(learner, seed, monkeypatch):
    module = {"pqn": pqn, "dqn": dqn, "imitate": imitate}[learner]
    games = []

    def many(count, seed):
        games.extend(range(seed, seed + count))
        raise Asked

    monkeypatch.setattr(module, "many", many)
    run = SimpleNamespace(seed=seed, load=lambda *_, **__: None, progress=lambda items, _: items)
    net = network.q_network()
    learn = {
        "pqn": lambda: pqn.learn(run, "x", net, pqn.Recipe()),
        "dqn": lambda: dqn.learn(run, "x", net, dqn.Recipe()),
        "imitate": lambda: imitate.imitate(run, "x", net, net, imitate.Recipe(), emulator.levels),
    }[learner]
    with pytest.raises(Asked):
        learn()
    assert games
    assert not set(games) & {*judging.CHOICE, *judging.REPORT}
    assert max(games) < 2**31  # the largest seed that ALE takes


def test_a_training_seed_stays_what_it_is_where_it_can():
    assert judging.to_train(1_000_003) == 1_000_003
    assert judging.to_train(judging.TRAINING.stop) == judging.TRAINING.start
    assert not set(judging.TRAINING[:100_000]) & {*judging.CHOICE, *judging.REPORT}


def test_goals_hold_wherever_whole_games_are_played():
    assert [scale for scale in capstone.SCALES if scale not in measures.aim(1.0)] == ["quick"]
    assert "longest" not in capstone.SCALES["cpu"] | capstone.SCALES["gpu"]


def test_rewards_of_games_that_were_cut_say_so():
    whole, cut = judging.Report([3.0], 40_000), judging.Report([3.0], 40_000, longest=300)
    assert "cut" not in whole.note
    assert cut.note.endswith(", cut after 300 decisions")
    assert judging.Report.read(cut.told()) == cut
    assert judging.Report.read({"rewards": [3.0], "first_seed": 40_000, "sticky": 0.25}) == whole


def put(folder, name, choice, report):
    torch.save(network.q_network().state_dict(), folder / f"{name}.pt")
    chosen, told = judging.Choice(choice, 10_000), judging.Report(report, 40_000)
    card = {"choice": chosen.told(), "reports": [told.told()]}
    (folder / f"{name}.json").write_text(json.dumps(card), encoding="utf-8")


def test_the_teacher_is_chosen_by_episodes_that_are_not_reported(tmp_path, monkeypatch):
    monkeypatch.setenv("SNN_RESULTS", str(tmp_path))
    monkeypatch.setattr(checkpoints, "SHIPPED", tmp_path)
    for best, other in (("pqn", "dqn"), ("dqn", "pqn")):
        put(tmp_path, best, [20.0], [-21.0])
        put(tmp_path, other, [19.0], [21.0])
        assert agents.teacher("quick").name == best


@pytest.mark.parametrize("lucky", [2, 3, 4])
def test_what_is_reported_of_students_chooses_none_of_them(lucky, tmp_path, monkeypatch):
    """On the episodes that choose one student is good, on those that are reported it is bad."""
    monkeypatch.setenv("SNN_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("SNN_JOURNAL", str(tmp_path / "journal.md"))
    chosen = []
    teacher = 5  # judged after two students without a price and three with one

    def play(policy, seeds, most, sticky=emulator.STICKY):
        choosing = seeds[0] in judging.CHOICE
        if choosing:
            chosen.append(seeds)
        number = (len(chosen) - 1) // 2  # each point is judged as levels, then as free-running spikes
        good = choosing and number in (lucky, teacher)
        return [emulator.Played(seed, 20.0 if good else -20.0, 9) for seed in seeds]

    monkeypatch.setattr(emulator, "play", play)
    told = {"steps": 10.0, "seconds": 1.0, "reward": 0.0, "points": 1.0}
    monkeypatch.setattr(imitate, "imitate", lambda *_, **__: [told])
    monkeypatch.setattr(capstone, "on_chip", lambda *_: None)
    config = capstone.Config(scale="quick", step="sparsify", pictures=100, **quick())
    metrics = lesson.execute(capstone.main, config, ROOT / "capstone_pong.py")
    kept = [m for m in metrics["measures"] if m["name"].endswith(": reward")]
    assert [(m["name"], m["mean"]) for m in kept] == [("kept agent: reward", -20.0)]
    (fewer,) = [m for m in metrics["measures"] if m["name"] == "fewer spikes"]
    assert fewer["note"] == f"price {(4, 8, 12)[lucky - 2]}"
    assert "seeds 40000 to 40001" in kept[0]["note"]
    card = checkpoints.card(checkpoints.find("sparse", "quick"))
    assert judging.choice_of(card).rewards == [20.0, 20.0]  # those of the one that was kept
    two = checkpoints.decisions(checkpoints.card(checkpoints.find("two", "quick")))
    assert checkpoints.decisions(card) == two + 10 * (lucky - 1)  # each price goes on from the one before


def quick():
    return {key: capstone.SCALES["quick"][key] for key in ("episodes", "trials", "longest")}


@pytest.mark.parametrize(
    ("reward", "error", "free", "kept"),
    [
        (18.9, 0.3, 18.0, "cheap"),
        (18.9, 0.5, 18.0, "dear"),  # within the point, but for its error
        (18.9, 0.3, 17.4, "dear"),  # as free-running spikes it loses more than two
        (18.4, 0.0, 18.0, "dear"),
    ],
)
def test_the_cheapest_is_kept_if_its_reward_less_its_error_is_within_the_point(reward, error, free, kept):
    dear = point("dear", 19.0, 0.2, 19.0, spikes=320.0)
    cheap = point("cheap", reward, error, free, spikes=200.0)
    assert capstone.cheapest([dear, cheap], least=18.5).name == kept
    assert capstone.cheapest([dear, cheap], least=20.0).name == "dear"


def point(name: str, reward: float, error: float, free: float, spikes: float):
    """Give an agent of the front whose two episodes as levels have this mean and this standard error."""
    levels = judging.Choice([reward - error, reward + error], judging.CHOICE.start)
    return capstone.Point(name, None, [], levels, free, spikes, 0.0)
