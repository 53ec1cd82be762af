"""Capstone A: Pong on silicon.

Question: How well does a spiking agent play Pong on a neuromorphic chip, and what does a decision cost?
Reading:  Gallici et al. (2025), PQN; Mnih et al. (2015), DQN; Tan et al. (2021) and Chen et al. (2022),
          spiking DQN; Tang et al. (2020), PopSAN; your journal of lessons 10, 14, 16 and 19.
Run:      python capstone_pong.py
Expect:   18.1 ± 0.4 of 21 points (30 episodes) as levels, on Akida's simulator, and as free-running spikes
          with T = 15; 18.2 ± 0.4 with T = 4, 15.5 ± 0.6 with T = 2. Without sticky actions it wins every
          point (21 of 21). A decision takes 0.2 ms on the simulator, and 11,000 effective MACs, or 21,000
          additions (T = 4). 5 minutes on two CPU cores.

Without a step, the agent that comes with the course plays 30 episodes on each execution that this machine
has, and nothing is trained. The steps that made it, each resumable, in this order:

  train       a conventional Q-network learns to play (--learner pqn, or dqn); the better one teaches
  convert     the teacher becomes spikes: at once, and after some training with levels
  spike       a spiking network learns with surrogate gradients: from the teacher (DAgger), and by itself
  perceive    the same agent sees the events of an event camera instead of grey pictures
  quantise    4 bits for the chip, then 2-bit activations, then 2-bit weights
  sparsify    fewer spikes, for as little reward as possible
  judge       episodes that chose nothing, for the card of each agent
  benchmark   reward, operations, latency and energy, on every execution (this is the default)
  watch       a clip of a rally, with each layer's activity beside the screen

What others have built, to read before you design your own agent:

  spiking DQN   Tan et al. (2021, arXiv 2009.14456) convert a trained DQN, as `convert` does, and give a
                decision 500 steps. Liu et al. (2022, arXiv 2201.07211) and Chen et al. (2022, arXiv
                2201.09754) train the spiking network itself with surrogate gradients, as `spike` does; Chen
                et al. read Q as the highest membrane of neurons that do not fire. All play Atari games.
  PopSAN        Tang et al. (2020, arXiv 2010.09635) steer robots: actions are real numbers there, and each
                observation and each action is a population of neurons (lesson 05). A critic without spikes
                trains the spiking actor. On Loihi an inference took 140 times less energy than on a Jetson
                TX2, by its authors' measurement. Pong has three actions, so here each has its Q instead.

An agent is one network: three convolutions and two dense layers that fit the AKD1000. Its activations are
clipped and floored to a few levels: 15 with 4 bits, 3 with 2. So it is an ANN with few bits; it is a spiking
network of IF neurons that count to 15, or to 3; and it is what the chip computes: one network, three
executions.
"""

import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from snn_course.runs import lesson, parallel
from snn_course import akida_bridge as ab
from snn_course.costs import memory
from snn_course.networks import conversion
from snn_course.pong import (
    accounts,
    agents,
    charts,
    checkpoints,
    compare,
    curves,
    dqn,
    emulator,
    imitate,
    judging,
    network,
    players,
    pqn,
    write_up,
)
from snn_course.pong import perception as dvs
from snn_course.pong import watch as film
from snn_course.pong.spikes import FloatQ, IfNet, LevelNet, free_running, highest_level

import torch
from torch import nn
from tyro.conf import Positional

# ====================================================================== settings

Step = Literal["train", "convert", "spike", "perceive", "quantise", "sparsify", "judge", "benchmark", "watch"]


@dataclass(frozen=True)
class Config(lesson.Config):
    """Settings of the capstone."""

    step: Positional[Step] = "benchmark"
    """What to do."""

    learner: Literal["pqn", "dqn"] = "pqn"
    """Of train: from many games at once, without a replay buffer; or the classic way, with one."""

    decisions: Annotated[int, lesson.Range(2_000, 100_000_000)] = 5_000_000
    """Of train: decisions (4 frames each) to learn from."""

    imitated: Annotated[int, lesson.Range(1_024, 100_000_000)] = 200_000
    """Of quantise and sparsify: decisions of each student under the teacher's eye; half for other steps."""

    alone: Annotated[int, lesson.Range(1_024, 100_000_000)] = 1_200_000
    """Of spike: decisions of the spiking network that learns by itself."""

    episodes: Annotated[int, lesson.Range(1, 1000)] = 100
    """Episodes by which an agent is reported, where the figure is a headline."""

    trials: Annotated[int, lesson.Range(1, 1000)] = 30
    """Episodes that choose, that compare executions, or have no sticky actions."""

    longest: Annotated[int, lesson.Range(10, 27_000)] = 27_000
    """Decisions after which an episode ends, as it stands (27,000: half an hour of play, the usual limit)."""

    workers: Annotated[int, lesson.Range(0, 256)] = 0
    """Of judge and benchmark: agents or executions that play side by side; 0: one for each core."""

    pictures: Annotated[int, lesson.Range(100, 1_000_000)] = 10_000
    """Decisions on which two executions are compared."""

    timed: Annotated[int, lesson.Range(10, 100_000)] = 500
    """Decisions of a live game that are timed."""

    agent: Literal["sparse", "four", "two", "ternary"] = "sparse"
    """Of benchmark and watch: who plays. sparse learnt in both executions; the others as levels alone."""

    clip: Literal["gif", "mp4"] = "gif"
    """Of watch: kind of file."""

    @property
    def part(self) -> str:
        """The step, and the learner where there are two; the benchmark is the script itself."""
        return {"benchmark": "", "train": f"train_{self.learner}"}.get(self.step, self.step)


SCALES: lesson.Scales = {
    "quick": {
        "decisions": 10_000,
        "imitated": 2_048,
        "alone": 1_024,
        "episodes": 2,
        "trials": 2,
        "longest": 300,
        "workers": 1,
        "pictures": 300,
        "timed": 50,
    },
    "cpu": {},
    "gpu": {"decisions": 20_000_000, "imitated": 1_000_000, "alone": 10_000_000},
}
TIMES = accounts.TIMES
STRENGTHS = (0.5, 1.0, 8.0)  # price of a thousand spikes in the loss of a decision, rising
FREE = 4  # T of free-running spikes while prices rise: 2 bits are 3 levels

# ====================================================================== what all steps share


def reported(config: Config, policy: emulator.Policy) -> judging.Report:
    """Judge an agent by as many episodes as a comparison needs."""
    return judging.report(policy, config.trials, config.longest)


def reward(run: lesson.Run, name: str, report: judging.Report, **bounds: Any) -> float:
    """Record the mean reward of some episodes with its standard error. Returns: the mean."""
    run.measure(f"{name}: reward", report.mean, note=report.note, **bounds)
    return report.mean


def seen_by(config: Config, run: lesson.Run, agent: agents.Agent) -> emulator.Frames:
    """Give pictures of games that an agent plays, to compare executions on."""
    return emulator.pictures(agent.policy, config.pictures, seed=judging.CHOICE.start + run.seed)


def student(
    config: Config, run: lesson.Run, name: str, net: nn.Module, recipe: imitate.Recipe, **options: Any
) -> pqn.History:
    """Let a network learn from the teacher."""
    return imitate.imitate(run, name, net, agents.teacher(config.scale).net, recipe, **options)


def lessons(config: Config, spiking: bool = False) -> imitate.Recipe:
    """Give the recipe of a student; where time steps make each pass dear, there are three instead of six."""
    return imitate.Recipe(decisions=config.imitated // 2, passes=3 if spiking else 6)


def keep(config: Config, run: lesson.Run, name: str, net: nn.Module, curve: pqn.History) -> judging.Report:
    """Judge an agent and keep it; a teacher gets episodes by which it may be chosen, too."""
    policy = agents.policy(net, dvs.events if name == "events" else emulator.levels)
    report = judging.report(policy, config.episodes, config.longest)
    card: dict[str, Any] = {"reports": [report.told()], "curve": curve}
    if name in agents.TEACHERS:
        card["choice"] = judging.choose(policy, config.trials, config.longest).told()
    checkpoints.keep(run, name, net, card)
    return report


# ====================================================================== train


def train(config: Config, run: lesson.Run) -> None:
    """Train a conventional Q-network, a teacher for all that follows."""
    run.proof("frames and rewards of both emulators, 300 decisions", emulator.difference(300, run.seed), 0)
    net = network.q_network()
    network.start(net.parts[:-1])
    if config.learner == "pqn":
        history = pqn.learn(run, "pqn", net, pqn.Recipe(steps=config.decisions))
    else:
        history = dqn.learn(run, "dqn", net, dqn.Recipe(steps=config.decisions))
    report = keep(config, run, config.learner, net, history)
    goal = {"cpu": 20.0} if config.learner == "pqn" else None
    reward(run, config.learner, report, at_least=goal, headline=True)
    run.measure("best episode", max(report.rewards))
    run.measure("decisions", history[-1]["steps"])
    run.measure("training", history[-1]["seconds"] / 60, "CPU min", at_most={"cpu": 180}, speed=True)
    told: curves.Curves = {config.learner.upper(): (history, report)}
    for name, card in checkpoints.cards(agents.TEACHERS, config.scale).items():
        if (known := judging.report_of(card)) is not None:
            told.setdefault(name.upper(), (card["curve"], known))
    curves.draw_curves(run, told)


# ====================================================================== convert


def with_weights(teacher: nn.Module, x: torch.Tensor, share: float, num_steps: int = 1) -> FloatQ:
    """Give the teacher's weights to a network whose thresholds leave out 1 - share of its activations."""
    net = FloatQ(num_steps)
    net.body.load_state_dict(teacher.state_dict())
    conversion.balance(net, x[:500], share)
    return net


def as_spikes(net: FloatQ, num_steps: int, wait: int = 0) -> FloatQ:
    """Run a network with IF neurons from here on."""
    net.num_steps = num_steps
    conversion.run_as(net, "spikes", wait=wait)
    return net


def convert(config: Config, run: lesson.Run) -> None:
    """Turn the teacher into spikes: its weights as they are, and after training with levels."""
    teacher = agents.teacher(config.scale)
    x = emulator.levels(seen_by(config, run, teacher))
    q = compare.answers(teacher.net, x)
    rows = []
    for share in (0.99, 0.999, 1.0):
        net = with_weights(teacher.net, x, share)
        same = [compare.hop(compare.answers(as_spikes(net, t), x), q)[0] for t in TIMES]
        rows.append([f"{100 * share:g} % below threshold", *same])
    run.table("No training: same actions as the teacher, %", ["", *(f"T {t}" for t in TIMES)], rows)
    net = as_spikes(with_weights(teacher.net, x, 0.999), 15)
    reward(run, "no training, T 15", reported(config, agents.policy(net)))
    found = [row_of_levels(config, run, teacher, x, levels) for levels in (4, 8, agents.LEVELS)]
    rows = [row for row, _ in found]
    columns = ["levels", "reward", "like teacher", "by layers", "free", "free: reward"]
    run.table("Trained with levels; same actions, %; IF neurons with T = levels", columns, rows)
    charts.draw_conversion(run, [drawn for _, drawn in found])


def row_of_levels(
    config: Config, run: lesson.Run, teacher: agents.Agent, x: torch.Tensor, levels: int
) -> tuple[list[Any], charts.Converted]:
    """Train with clipped and floored activations, then run the same weights with spikes.

    Returns: a row of the table; what the figure shows of it.
    """
    net = with_weights(teacher.net, x, 0.999)
    conversion.run_as(net, "levels", levels=levels)
    curve = student(config, run, f"levels{levels}", net, lessons(config))
    if levels == agents.LEVELS:
        report = keep(config, run, "levels", net, curve)
        reward(run, "15 levels", report, headline=True)
    else:
        report = reported(config, agents.policy(net))
    q, like = (compare.answers(part, x) for part in (net, teacher.net))
    agreed = [compare.hop(compare.answers(as_spikes(net, levels, wait), x), q)[0] for wait in (levels - 1, 0)]
    free = reported(config, agents.policy(net))
    run.proof(f"{levels} levels, T {levels}, layer by layer: other actions, %", 100 - agreed[0], at_most=0.1)
    row = [levels, report.mean, compare.hop(q, like)[0], *agreed, free.mean]
    return row, charts.Converted(levels, report, free)


# ====================================================================== spike


def spike(config: Config, run: lesson.Run) -> None:
    """Train spiking networks with surrogate gradients: one from the teacher, one by itself."""
    teacher = agents.teacher(config.scale)
    frames = seen_by(config, run, teacher)
    x = emulator.levels(frames)
    steps = agents.STEPS["clone"]
    net = as_spikes(with_weights(teacher.net, x, 0.99), steps)
    before = reported(config, agents.policy(net))
    curve = student(config, run, "clone", net, lessons(config, spiking=True))
    report = keep(config, run, "clone", net, curve)
    reward(run, f"T {steps}, converted", before)
    goal = {"cpu": 15.0}
    reward(run, f"T {steps}, learnt from the teacher", report, at_least=goal, headline=True)
    same, error = compare.hop(compare.answers(net, x), compare.answers(teacher.net, x))
    run.measure("same actions as the teacher", same, "%")
    run.measure("error of Q", error)
    steps = agents.STEPS["direct"]
    alone = FloatQ(steps)
    network.start(alone.body.parts[:-1])
    conversion.balance(alone, x[:500], 0.99)  # else most neurons would be silent, and learn nothing
    conversion.run_as(alone, "spikes")
    recipe = pqn.Recipe(steps=config.alone, explore=min(200_000, config.alone // 2))
    history = pqn.learn(run, "direct", alone, recipe)
    own = keep(config, run, "direct", alone, history)
    reward(run, f"T {steps}, learnt by itself", own)
    run.measure("decisions by itself", history[-1]["steps"])
    curves.draw_curves(run, {"from the teacher": (curve, report), "by itself": (history, own)})


# ====================================================================== perceive


def perceive(config: Config, run: lesson.Run) -> None:
    """Let one student see pictures, one the events of an event camera; all else is equal."""
    teacher = agents.teacher(config.scale)
    frames = seen_by(config, run, teacher)
    rows, points = [], dict[str, float]()
    for name, see in {"pictures": emulator.levels, "events": dvs.events}.items():
        x = see(frames)
        net = network.q_network(channels=x.shape[1])
        own, theirs = net.state_dict(), teacher.net.state_dict()
        kept = {key: value for key, value in theirs.items() if not key.startswith("layers.0.")}
        net.load_state_dict(own | kept)  # the first layer is new to both
        network.start(net.parts[:1])
        curve = student(config, run, name, net, lessons(config), see=see)
        report = keep(config, run, name, net, curve)
        mean = reward(run, name, report, headline=name == "events")
        same, _ = compare.hop(compare.answers(net, x), compare.answers(teacher.net, emulator.levels(frames)))
        active = (x > 0).sum((1, 2, 3)).double().mean().item()
        rows.append([name, mean, same, active, 100 * active / x[0].numel()])
        points[name] = mean
    columns = ["seen", "reward", "like teacher, %", "values not 0", "of all, %"]
    run.table("Two ways of seeing, the same budget", columns, rows)
    charts.draw_views(run, frames, points)


# ====================================================================== quantise


def quantise(config: Config, run: lesson.Run) -> None:
    """Train with the chip's integers, fewer bits step by step, and write the chip's files."""
    teacher = agents.teacher(config.scale)
    plain = reward(run, "teacher, float", judging.report(teacher.policy, config.episodes, config.longest))
    x = emulator.levels(seen_by(config, run, teacher))
    q, rows, told, start = compare.answers(teacher.net, x), [], curves.Curves(), teacher.net
    for name, least in {"four": plain - 1, "two": 17.0, "ternary": None}.items():
        bits = agents.BITS[name]
        net = network.q_network(*bits)
        taught = {key: value for key, value in start.state_dict().items() if not key.endswith("_extra_state")}
        net.load_state_dict(net.state_dict() | taught)  # each goes on from the one before
        net.calibrate(x[:500])
        before, _ = compare.hop(compare.answers(net, x), q)
        recipe = imitate.Recipe(decisions=config.imitated)
        curve = student(config, run, name, net, recipe)
        report = keep(config, run, name, net, curve)
        shown = "{}-bit events, {}-bit weights".format(*bits)
        told[shown] = (curve, report)
        reward(run, shown, report, at_least={"cpu": least} if least else None, headline=name == "four")
        rows.append([shown, before, *compare.hop(compare.answers(net, x), q)])
        on_chip(run, name, net, x)
        start = net
    columns = ["", "before training", "after", "error of Q"]
    run.table("Same actions as the float teacher, %", columns, rows)
    curves.draw_curves(run, told)


def on_chip(run: lesson.Run, name: str, net: ab.QuantNet, x: torch.Tensor) -> tuple[float, float]:
    """Prove that chip, levels and spikes agree; map the network, and write the chip's file.

    Returns: of spikes layer by layer against levels the same actions in %, and the error of Q.
    """
    integers = net.to_integers()
    levels, steps = LevelNet(integers), highest_level(integers)
    q = compare.answers(levels, x)
    error = (q - compare.answers(integers.logits, x)).abs().max().item()
    run.proof(f"{name}: levels unlike the chip's integers", error, at_most=0)
    by_layers = compare.hop(compare.answers(IfNet(integers, steps, wait=None, dtype=torch.float64), x), q)
    run.proof(f"{name}: spikes layer by layer, other actions, %", 100 - by_layers[0], 0)
    if ab.backend() == "absent":
        return by_layers
    model = ab.to_akida(net)
    run.proof(f"{name}: Akida's Q - own", (ab.predict(model, x) - q).abs().max().item(), 0)
    run.measure(f"{name}: passes over the mesh", ab.map_model(model).passes, at_most=1)
    ab.save(model, run.folder / f"{name}.fbz")
    return by_layers


# ====================================================================== sparsify


def sparsify(config: Config, run: lesson.Run) -> None:
    """Teach the 2-bit agent to play with few spikes, as levels and free-running; keep the best.

    It is chosen by some episodes and judged by others: the best of several has been lucky, too.
    """
    start = agents.load("four", config.scale)
    x = emulator.levels(seen_by(config, run, start))
    points = [
        point_of(config, run, name, agents.chip(agents.load(agent, config.scale)), x, [])
        for name, agent in {"4 bits": "four", "2 bits": "two"}.items()
    ]
    for strength in STRENGTHS:
        name, net = f"price {strength:g}", network.q_network(*agents.BITS["sparse"])
        net.load_state_dict(points[-1].net.state_dict())  # each goes on from the one before
        recipe = imitate.Recipe(decisions=config.imitated)
        curve = student(config, run, name, net, recipe, loss=Both(net, strength))
        points.append(point_of(config, run, name, net, x, curve))
    rows = [[p.name, p.reward, p.error, p.spikes, p.events, p.free] for p in points]
    columns = ["agent", "reward", "error", "spikes", "events", f"free, T {FREE}"]
    run.table("Spikes (T = levels) and events of a decision; rewards", columns, rows)
    plain = points[0]
    good = [p for p in points[2:] if min(p.reward, p.free + 1) >= plain.reward - 1]
    best = min(good, key=lambda p: p.spikes) if good else max(points[2:], key=lambda p: p.reward)
    report = keep(config, run, "sparse", best.net, best.curve)
    known = judging.report(start.policy, config.episodes, config.longest)
    lost = known.mean - reward(run, best.name, report)
    run.measure("fewer spikes", plain.spikes / best.spikes, "x", at_least={"cpu": 5.0}, headline=True)
    run.measure("reward lost", lost, at_most={"cpu": 1.0})
    on_chip(run, "sparse", best.net, x)
    spots = {p.name: charts.Spot(p.name, p.spikes, p.reward, p.error, p.free) for p in points}
    free = f"free-running, T {FREE}"
    charts.draw_front(run, [*spots.values()], spots[plain.name], spots[best.name], free)


@dataclass
class Point:
    """An agent of the front: mean reward as levels with its error, and free-running; spikes and events."""

    name: str
    net: ab.QuantNet
    curve: pqn.History
    reward: float
    error: float
    free: float
    spikes: float
    events: float


def point_of(
    config: Config, run: lesson.Run, name: str, net: ab.QuantNet, x: torch.Tensor, curve: pqn.History
) -> Point:
    """Measure an agent of the front."""
    integers = net.to_integers()
    found = compare.events(LevelNet(integers), x)
    events, spikes, _ = (sum(layer) for layer in zip(*found, strict=True))
    levels, free = (
        judging.choose(agents.policy(way), config.trials, config.longest)
        for way in (LevelNet(integers), IfNet(integers, FREE))
    )
    point = Point(name, net, curve, levels.mean, levels.error, free.mean, spikes, events)
    run.console.print(f"  {name}: {point.reward:.2f}, free {point.free:.2f}, {spikes:.0f} spikes")
    return point


class Both:
    """The loss of two executions in turn: free-running spikes; levels, which pay for each thousand spikes."""

    def __init__(self, net: ab.QuantNet, strength: float) -> None:
        self.strength, self.levels, self.turns = strength, list[torch.Tensor](), itertools.count()
        for part in net.parts[:-1]:
            part.register_forward_hook(lambda _, __, out: self.levels.append(out[0]))

    def __call__(self, net: nn.Module, seen: torch.Tensor, told: torch.Tensor) -> torch.Tensor:
        """Give the loss for inputs [B, 4, rows, columns] and the teacher's Q [B, 3]."""
        assert isinstance(net, ab.QuantNet)
        if next(self.turns) % 2:
            half = len(seen) // 2  # T steps cost T passes: half a batch is enough
            return imitate.distance(free_running(net, seen[:half], FREE), told[:half])
        self.levels.clear()
        apart = imitate.distance(net(seen), told)
        spikes = torch.stack([out.sum() for out in self.levels]).sum() / len(seen)
        return apart + self.strength * spikes / 1000


# ====================================================================== judge


def judge(config: Config, run: lesson.Run) -> None:
    """Let every agent play the episodes that are reported, and write them on its card.

    The cards lie in the results folder; beside the weights of an agent they replace its old card.
    """
    cards = checkpoints.cards(agents.NAMES, config.scale)
    points = {name: (config, name) for name in cards}
    found = parallel.run_points(run, "judge_one", points, config.workers)
    rows: list[list[Any]] = []
    for name, told in found.items():
        sticky, calm = (judging.Report.read(part) for part in told["reports"])
        checkpoints.write_card(run.folder, name, cards[name] | told)
        reward(run, name, sticky, headline=name in ("pqn", "four", "sparse"))
        chosen = judging.choice_of(cards[name])
        rows.append([name, sticky.mean, sticky.error, calm.mean, chosen.mean if chosen else "-"])
    columns = ["agent", "reward", "error", "not sticky", "on episodes that chose"]
    run.table(f"{config.episodes} episodes; {config.trials} without sticky actions", columns, rows)


def judge_one(config: Config, name: str) -> dict[str, Any]:
    """Judge one agent, in whatever process. Returns: its reports with and without sticky actions."""
    memory.keep_freed()
    policy = agents.load(name, config.scale).policy
    sticky = judging.report(policy, config.episodes, config.longest)
    calm = judging.report(policy, config.trials, config.longest, sticky=0.0)
    return {"reports": [sticky.told(), calm.told()]}


# ====================================================================== benchmark


def benchmark(config: Config, run: lesson.Run) -> None:
    """Play, count, time and weigh the shipped agent on every execution that this machine has."""
    agent = agents.load(config.agent, config.scale)
    net = agents.chip(agent)
    x = emulator.levels(seen_by(config, run, agent))
    by_layers = on_chip(run, "agent", net, x)
    akida = [accounts.on_akida()] if ab.backend() != "absent" else []
    names = ["levels", *(f"{accounts.SPIKES}{steps}" for steps in TIMES), *akida]
    calm = [name + accounts.CALM for name in ("levels", accounts.TEACHER)]
    rewards, q = play_all(config, run, [*names, *calm, accounts.RANDOM, accounts.MIRROR], x)
    accounts.rewards(run, config.agent, rewards)
    accounts.hops(run, by_layers, q, compare.answers(agents.teacher(config.scale).net, x), rewards)
    integers = net.to_integers()
    steps = min(t for t in TIMES if t >= highest_level(integers))
    levels, spiking = LevelNet(integers), IfNet(integers, steps)
    spent = accounts.operations(run, levels, spiking, x[:500])
    model = ab.map_model(ab.to_akida(net)).runner if akida else None
    timed = accounts.latencies(run, levels, spiking, model, config.timed)
    accounts.energy(run, levels, spent, x)
    curves.draw_cards(run)
    charts.draw_front_of_cards(run, x)
    charts.draw_latency(run, timed)
    charts.draw_rewards(run, rewards, steps)
    charts.draw_steps(run, rewards, q)
    run.analysis(write_up.page(config.scale, run.tables()))


def play_all(
    config: Config, run: lesson.Run, names: list[str], x: torch.Tensor
) -> tuple[dict[str, list[float]], dict[str, torch.Tensor]]:
    """Let each execution play its episodes and answer x, side by side on the cores there are.

    A card serves one process, so there the Akida plays in this one. Returns: rewards, and Q [B, 3], by name.
    """
    here = [accounts.on_akida()] if ab.backend() == "hardware" else []
    points = {name: (config, name, run.device.type, x) for name in names if name not in here}
    longest_first = dict(sorted(points.items(), key=lambda point: -steps_of(point[0])))
    found = parallel.run_points(run, "play_one", longest_first, config.workers)
    found |= {name: play_one(config, name, run.device.type, x) for name in here}
    episodes = {name: [emulator.Played(*played) for played in found[name]["played"]] for name in names}
    rows = [players.Episode(config.agent, name, *one) for name, played in episodes.items() for one in played]
    players.write_csv(run.folder / "episodes.csv", rows)
    rewards = {name: [one.reward for one in played] for name, played in episodes.items() if played}
    return rewards, {name: found[name]["q"] for name in names if "q" in found[name]}


def steps_of(name: str) -> int:
    """Give T of an execution that spikes, else 0."""
    return int(name.removeprefix(accounts.SPIKES)) if name.startswith(accounts.SPIKES) else 0


def play_one(config: Config, name: str, device: str, x: torch.Tensor) -> dict[str, Any]:
    """Play the episodes of one execution, in whatever process, and give its Q for the inputs x [B, 4, H, W].

    Returns: "played", what each ``emulator.Played`` holds; and "q" [B, 3] of executions of the agent.
    """
    memory.keep_freed()
    seeds, answered = judging.REPORT[: config.trials], dict[str, Any]()
    if name.endswith(accounts.CALM):
        way = execution(config, name.removesuffix(accounts.CALM), device)
        played = emulator.play(agents.policy(way), seeds, config.longest, sticky=0.0)
    elif name == accounts.MIRROR:  # its rallies are long: a tenth of the episodes
        played = players.play_mirror(seeds[: -(-len(seeds) // 10)], most=config.longest)
    elif name == accounts.RANDOM:
        played = emulator.play(players.random_player(config.seed), seeds, config.longest)
    else:
        way = execution(config, name, device)
        if steps_of(name) == TIMES[-1]:
            seeds = seeds[:0]  # the slowest is only compared
        if name in accounts.headlines(config.agent):
            seeds = judging.REPORT[: config.episodes]  # the others are compared with the first of these
        played = emulator.play(agents.policy(way), seeds, config.longest)
        answered["q"] = compare.answers(way, x)
    return {"played": [tuple(one) for one in played]} | answered


def execution(config: Config, name: str, device: str) -> Callable[[torch.Tensor], torch.Tensor]:
    """Give the agent in one execution, or its teacher, from levels [B, 4, H, W] to Q [B, 3]."""
    if name == accounts.TEACHER:
        return agents.teacher(config.scale).net
    net = agents.chip(agents.load(config.agent, config.scale))
    if name == accounts.on_akida():
        return functools.partial(ab.predict, ab.map_model(ab.to_akida(net)).runner)
    integers, steps = net.to_integers(), steps_of(name)
    return (IfNet(integers, steps) if steps else LevelNet(integers)).to(device)


# ====================================================================== watch


def watch(config: Config, run: lesson.Run) -> None:
    """Draw a rally of the shipped agent, with each layer's levels beside the screen."""
    net = agents.chip(agents.load(config.agent, config.scale)).to_integers()
    most = highest_level(net)
    path = run.file(f"rally.{config.clip}", f"A rally, and the spikes of each decision, T = {most}")
    seconds = 1.0 if config.scale == "quick" else 8.0
    clip = film.record(path, LevelNet(net).outputs, judging.CHOICE.start, seconds, title="The spiking agent")
    run.measure("decisions drawn", len(clip.moments), headline=True)


# ====================================================================== main


def main(config: Config, run: lesson.Run) -> None:
    """Do the step that the command line names."""
    memory.keep_freed()
    steps = {
        "train": train,
        "convert": convert,
        "spike": spike,
        "perceive": perceive,
        "quantise": quantise,
        "sparsify": sparsify,
        "judge": judge,
        "benchmark": benchmark,
        "watch": watch,
    }
    steps[config.step](config, run)


if __name__ == "__main__":
    lesson.start(main, Config, SCALES)
