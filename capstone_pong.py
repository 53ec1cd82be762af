"""Capstone A: Pong on silicon.

Question: How well does a spiking agent play Pong on a neuromorphic chip, and what does a decision cost?
Reading:  Gallici et al. (2025), PQN; Mnih et al. (2015), DQN; Tan et al. (2021) and Chen et al. (2022),
          spiking DQN; Tang et al. (2020), PopSAN; your journal of lessons 10, 14, 16 and 19.
Run:      python capstone_pong.py
Expect:   with sticky actions 18.9 ± 0.2 of 21 points as levels, in 100 episodes (its teacher 19.5 ± 0.1;
          three trainings of a teacher 19.3 ± 0.2, where 19.9 is the aim). In the first 30 of them levels
          and Akida's simulator get 18.8 ± 0.3, free-running spikes 18.3 ± 0.3 with T = 4, 17.7 ± 0.3 with
          T = 2. Without sticky actions 21 of 21. A decision takes 1 ms on the simulator. As levels it
          takes 13,400 MACs (multiplications whose result is added, zeros left out), as spikes with T = 4
          2,300 of them, for the picture, and 27,600 additions. 8 to 15 minutes on two cores.

Without a step, the agent that comes with the course plays on each execution that this machine has, and
nothing is trained. The steps that made it, each resumable, in this order:

  train       a conventional Q-network learns to play (--learner pqn, or dqn) and goes on with its last
              action known (--learner aware); the best one teaches
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

# %% [markdown]
# All that the course has taught comes together here: a spiking network (lessons 07 to 09)
# with convolutions (10) learns a task that goes on in time, gets few bits (19) and few
# spikes (14), and runs on a chip. The task is the Atari game Pong: two paddles, a ball, and
# the first side with 21 points wins. The *reward* of an episode (its *return*, or score) is the
# points won minus the points lost, from -21 to 21.
#
# How does a network play? It sees the last four pictures (some networks also see what they
# did last) and tells three numbers, one for each action: stay, up, down. Such a number,
# $Q(s, a)$, is the reward that may be expected when action $a$ is taken in the situation
# $s$. The agent takes the action with the highest Q. That is all of its *policy*.
#
# In this capstone you
#
# 1. meet one network in three executions: levels, spikes, the chip,
# 2. let a conventional network learn to play: the teacher,
# 3. judge a player honestly: by episodes that chose nothing,
# 4. turn the teacher into spikes without training, and with some,
# 5. train spikes with surrogate gradients, under the teacher's eye and alone,
# 6. give the agent another eye: the events of an event camera,
# 7. take away its bits, until the chip can hold it,
# 8. put a price on its spikes,
# 9. measure it: reward, operations, latency, energy,
# 10. watch it play.

# %%
from dataclasses import dataclass, replace
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
    executions,
    imitate,
    judging,
    network,
    pqn,
    write_up,
)
from snn_course.pong import watch as film
from snn_course.pong.spikes import FloatQ, IfNet, LevelNet, free_running, highest_level
from snn_course.runs.compute import seed_all
from snn_course.runs.measures import aim

import torch
from torch import Tensor, nn
from tyro.conf import Positional

Step = Literal["train", "convert", "spike", "perceive", "quantise", "sparsify", "judge", "benchmark", "watch"]


@dataclass(frozen=True)
class Config(lesson.Config):
    """Settings of the capstone."""

    step: Positional[Step] = "benchmark"
    """What to do."""

    learner: Literal["pqn", "dqn", "aware"] = "pqn"
    """Of train: from many games at once, without a replay buffer; the classic way, with one; or PQN's player
    learns on, aware of its last action. With --seeds 3 the second and third seed train that player, too."""

    decisions: Annotated[int, lesson.Range(2_000, 100_000_000)] = 5_000_000
    """Of train: decisions (4 frames each) to learn from."""

    imitated: Annotated[int, lesson.Range(1_024, 100_000_000)] = 400_000
    """Of quantise and sparsify: decisions of each student under the teacher's eye; half of them for the one
    with T = 8, a quarter for the others."""

    alone: Annotated[int, lesson.Range(1_024, 100_000_000)] = 4_000_000
    """Of spike: decisions of the spiking network that learns by itself."""

    episodes: Annotated[int, lesson.Range(1, 1000)] = 100
    """Episodes by which an agent is reported, where the figure is a headline."""

    trials: Annotated[int, lesson.Range(1, 1000)] = 30
    """Episodes that choose, that compare executions, or have no sticky actions."""

    first: Annotated[int, lesson.Range(40_000, 69_000)] = 40_000
    """Seed of the first episode that is reported. Those that nobody has looked at begin at 42000."""

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
        """The step, with its learner or agent where there are several; the benchmark is the script itself."""
        if self.step == "train":
            return f"train_{self.learner}"
        if self.step in ("benchmark", "watch") and self.agent != "sparse":
            return f"{self.step}_{self.agent}"
        return "" if self.step == "benchmark" else self.step


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
    "gpu": {"decisions": 20_000_000, "imitated": 2_000_000, "alone": 10_000_000},
}
TIMES = accounts.TIMES  # T of the executions that spike
STRENGTHS = (4.0, 8.0, 12.0)  # price of a thousand spikes in the loss of a decision, rising
FREE = 4  # T of free-running spikes while prices rise: 2 bits are 3 levels
Run = lesson.Run

# %% [markdown]
# ## 1. One network, three executions
#
# The network has 113,000 weights: three 3 x 3 convolutions with stride 2, a dense layer of
# 128 neurons, and three Q. It has no batch norm and no other kernels than the chip has, so
# that what learns is what the chip computes.
#
# What makes it one network in three forms is its *activation*. A ReLU gives any number from
# 0 up. Here the input $u$ is measured in levels of a threshold $\theta$ and floored,
#
# $$\text{level} = \lfloor L\,u / \theta + \tfrac12 \rfloor, \text{ clipped to } 0 \ldots L,$$
#
# and $L = 2^b - 1$ with $b$ bits: 15 with four bits, 3 with two.
#
# - **Levels**: compute just that. It is an ANN with few bits.
# - **Spikes**: an integrate-and-fire (IF) neuron gets $u$ at each of $T$ steps, fires when its
#   membrane passes $\theta$, and loses $\theta$ then. It begins with $\theta / 2$, which is
#   the one half in the formula. With $T = L$ its number of spikes is the level, provided that
#   it *waits*: takes in all steps before it fires (lesson 16). A *free-running* neuron
#   answers at once, and now and then sends a spike that later input would have taken back.
# - **The chip** computes with these levels as integers.
#
# Where do thresholds come from? From activations on pictures of play: $\theta$ is so high
# that all but a small share of them lie below. A high one wastes levels on rare values, a
# low one clips what is common.


# %%
def with_weights(teacher: nn.Module, x: Tensor, share: float) -> FloatQ:
    """Give the teacher's weights to a network whose thresholds leave out 1 - share of its activations."""
    net = FloatQ(channels=x.shape[1])
    net.body.load_state_dict(teacher.state_dict())
    conversion.balance(net, x[:500], share)
    return net


def as_spikes(net: FloatQ, num_steps: int, wait: int = 0) -> FloatQ:
    """Run a network with IF neurons from here on; they wait for so many steps before they may fire."""
    net.num_steps = num_steps
    conversion.run_as(net, "spikes", wait=wait)
    return net


def seen_by(config: Config, run: Run, agent: agents.Agent) -> emulator.Frames:
    """Give pictures of games that an agent plays, to compare executions on."""
    games = 20
    seed = judging.CHOICE[run.seed % (len(judging.CHOICE) - games)]
    return emulator.pictures(agent.policy, config.pictures, seed, games)


def same_actions(net: nn.Module, x: Tensor, q: Tensor) -> float:
    """Give in how many percent of the pictures x [B, C, H, W] a network chooses as Q [B, 3] do."""
    same, _ = compare.hop(compare.answers(net, x), q)
    return same


# %% [markdown]
# ## 2. Judging a player
#
# An agent that earns 20 points in one episode and 16 in the next has no score, it has a
# mean: over $N$ episodes with the standard deviation $s$ it is known to $s / \sqrt{N}$, the
# *standard error*. With $s = 2$ that is 0.37 points for 30 episodes and 0.2 for 100. So what
# is a headline here rests on 100 episodes, what is only compared on 30.
#
# There is a second trap. Choose the best of five agents by some episodes, and tell what it
# earned in them: that is too high, since the best was lucky on these too. So each seed of an
# episode has one purpose (`judging.py`). Seeds from 10,000 on *choose*: which of the teachers
# teaches, which price on spikes is kept, how high a threshold is set. Seeds from 40,000 on are
# *reported*, and choose nothing (README tells the one time that they did, and what was earned
# in fresh ones). No game that trains has a seed of either. A `Report` cannot even hold seeds of
# the other kind.
#
# And the rules of the game must be told. Here the emulator repeats the last action with a
# chance of 0.25 in place of the new one, anew at each of the four frames of a decision (*sticky
# actions*, Machado et al. 2018). So the paddle obeys a third of a frame late on average, and a
# whole decision late in one of 256: no agent can play by heart, and some points are lost by bad
# luck. Many published scores are of games without it, so the benchmark keeps two tables that
# never mix.


# %%
def reported(config: Config, policy: emulator.Policy) -> judging.Report:
    """Judge an agent by as many episodes as a comparison needs."""
    return judging.report(policy, config.trials, config.longest, first=config.first)


def headline(config: Config, policy: emulator.Policy) -> judging.Report:
    """Judge an agent by as many episodes as a headline needs."""
    return judging.report(policy, config.episodes, config.longest, first=config.first)


def chosen_by(config: Config, policy: emulator.Policy) -> judging.Choice:
    """Judge an agent by the episodes that choose."""
    return judging.choose(policy, config.trials, config.longest)


def reward(run: Run, name: str, report: judging.Report, **bounds: Any) -> float:
    """Record the mean reward of some episodes with its standard error. Returns: the mean."""
    run.measure(f"{name}: reward", report.mean, note=report.note, **bounds)
    return report.mean


def keep(
    config: Config,
    run: Run,
    name: str,
    net: nn.Module,
    curve: pqn.History,
    eyes: agents.Eyes,
    before: float = 0,
    choice: judging.Choice | None = None,
) -> judging.Report:
    """Judge an agent and keep it; a teacher gets episodes by which it may be chosen, too.

    ``before`` are the decisions of the player from which it went on, if there was one; ``choice`` is what
    chose the agent, if it was one of several.
    """
    policy = agents.policy(net, eyes)
    report = headline(config, policy)
    card: dict[str, Any] = {"curve": curve, "eyes": eyes, "reports": [report.told()]}
    if before:
        card["before"] = before
    if name in agents.TEACHERS:
        choice = chosen_by(config, policy)
    if choice:
        card["choice"] = choice.told()
    checkpoints.keep(run, name, net, card)
    return report


# %% [markdown]
# ## 3. A teacher learns to play
#
# A spiking network can learn Pong by itself, and chapter 5 lets one try. But a conventional
# network learns it in an hour or two on one core, and can then tell students what it would do.
# So the road begins without spikes.
#
# *Q-learning* corrects each Q towards what came afterwards: the reward $r$, and the best Q of
# the next situation, discounted by $\gamma = 0.99$,
#
# $$G[t] = r[t] + \gamma\,(1 - d[t])\left((1 - \lambda)\max_a Q(s[t+1], a) + \lambda\,G[t+1]\right).$$
#
# $\lambda = 0.8$ mixes in what came later still, and $d = 1$ where a point was made: a new
# rally begins there, and nothing of it belongs to the old one. The loss is the square of
# $G - Q$. At first all decisions are random, later hardly any (*epsilon-greedy*): who never
# tries another action learns nothing about it. That is *PQN*, the parallelised Q-network: 32
# games run side by side, and what they saw is learnt twice and thrown away (`pqn.py`). *DQN*,
# the deep Q-network of 2015, looks three rewards ahead in place of $\lambda$. It keeps 100,000
# pictures (a *replay buffer*) and a second, older network (`dqn.py`).
#
# Four pictures do not tell all. The paddle answers late: what an action does shows one to two
# decisions after it was taken, so the pictures alone do not say where the paddle is going.
# That is known to the one who moves it. So a third learner, *aware*, goes on where PQN's player
# stopped, and also sees its last action: two more planes, in which the paddle's columns are lit
# if it last went up, or down. Their weights begin at 0: at first it plays as before.
#
# Two emulators are used: a vector of games in C++ for training, twice as fast, and
# Gymnasium's, one game at a time, in which everyone is judged. The first line proves that
# both show the same pictures.


# %%
@dataclass(frozen=True)
class Begun:
    """What a learner begins with."""

    net: ab.QuantNet
    eyes: agents.Eyes
    decisions: float
    """From which its weights have learnt already."""


def begin(config: Config, run: Run) -> Begun:
    """Give a learner a new network, or PQN's player with wider eyes."""
    if config.learner == "aware":
        player, learnt = pqn_player(config, run)
        return Begun(network.wider(player), "known", learnt)
    return Begun(untrained(), "levels", 0)


def untrained() -> ab.QuantNet:
    """Draw a new network."""
    net = network.q_network()
    network.start(net.parts[:-1])
    return net


def pqn_player(config: Config, run: Run) -> tuple[nn.Module, float]:
    """Give PQN's player and from how many decisions it learnt. With several seeds each trains its own."""
    if run.is_first_seed:
        player = agents.load("pqn", config.scale)
        return player.net, checkpoints.decisions(checkpoints.card(player.path))
    net = untrained()
    history = by_pqn(config, run, net)
    return net, history[-1]["steps"]


def by_pqn(config: Config, run: Run, net: nn.Module) -> pqn.History:
    """Let PQN train a network from pictures alone. Returns: its learning curve."""
    return pqn.learn(run, "pqn", net, pqn.Recipe(steps=config.decisions))


def train(config: Config, run: Run) -> None:
    """Train a conventional Q-network, a teacher for all that follows."""
    run.proof("frames and rewards of both emulators, 300 decisions", emulator.difference(300, run.seed), 0)
    begun = begin(config, run)
    net = begun.net
    goal = None
    if config.learner == "pqn":
        history = by_pqn(config, run, net)
    elif config.learner == "aware":
        recipe = pqn.Recipe(steps=config.decisions, rate=2.5e-4, first=0.0, last=0.0)
        history = pqn.learn(run, "aware", net, recipe, emulator.known)
        goal = aim(19.9)
    else:
        start = min(5_000, config.decisions // 4)  # else a short training would not train at all
        history = dqn.learn(run, "dqn", net, dqn.Recipe(steps=config.decisions, start=start))
    report = keep(config, run, config.learner, net, history, begun.eyes, begun.decisions)
    reward(run, config.learner, report, at_least=goal, headline=True)
    last = history[-1]
    run.measure("best episode", max(report.rewards))
    run.measure("decisions", last["steps"])
    minutes = last["seconds"] / 60
    run.measure("training", minutes, "CPU min", at_most={"cpu": 180}, speed=True)
    others = curves.of_cards(agents.TEACHERS, config.scale)
    own = config.learner.upper()
    others.pop(own, None)
    curves.draw_curves(run, {own: curves.Learnt(history, report, begun.decisions)} | others)


# %% [markdown]
# All students below learn from this teacher in the same way. The student plays, the teacher
# says at each picture what its own Q would be, and the student is corrected (*DAgger*, Ross
# et al. 2011). Why does the student play, and not the teacher? After its first mistake the
# student is where the teacher never was, and there it must know what to do. The loss
# (`imitate.py`) asks for the teacher's choice, weighs each wrong choice by what it costs, and
# keeps the student's Q in the teacher's units.


# %%
def student(
    config: Config,
    run: Run,
    name: str,
    net: nn.Module,
    recipe: imitate.Recipe,
    eyes: agents.Eyes,
    loss: imitate.Loss | None = None,
) -> pqn.History:
    """Let a network learn from the teacher. Returns: its learning curve."""
    teacher = agents.teacher(config.scale)
    return imitate.imitate(run, name, net, teacher.answers, recipe, agents.EYES[eyes], loss)


def student_recipe(config: Config) -> imitate.Recipe:
    """Give the recipe of a student with float weights that learns without time steps."""
    return imitate.Recipe(decisions=config.imitated // 4)


# %% [markdown]
# ## 4. From the teacher to spikes: convert
#
# First without any training: the teacher's weights, thresholds from its activations, IF
# neurons. How often does it choose as the teacher does, and how does that grow with $T$? The
# Q of Pong's three actions differ by a few hundredths, so a small *error of Q* (the mean
# distance between the Q of two networks) is another action.
#
# Then with training. Clipped and floored activations with 4, 8 and 15 levels learn from the
# teacher as an ANN: quick, since there is no time in it. Their weights then run as spikes
# with $T$ as many steps. Neurons that wait give the ANN's actions, which is proven; those
# that run freely do not, and the last columns of the table tell what that costs.


# %%
def convert(config: Config, run: Run) -> None:
    """Turn the teacher into spikes: its weights as they are, and after training with levels."""
    teacher = agents.teacher(config.scale)
    x = teacher.see(seen_by(config, run, teacher))
    convert_at_once(config, run, teacher, x)
    rows = []
    found = []
    for levels in (4, 8, agents.LEVELS):
        row, drawn = train_with_levels(config, run, teacher, x, levels)
        rows.append(row)
        found.append(drawn)
    columns = ["levels", "reward", "like teacher", "by layers", "free", "free: reward"]
    run.table("Trained with levels; same actions, %; IF neurons with T = levels", columns, rows)
    charts.draw_conversion(run, found)


def convert_at_once(config: Config, run: Run, teacher: agents.Agent, x: Tensor) -> None:
    """Run the teacher's weights as spikes, without training, for three thresholds and five T."""
    q = compare.answers(teacher.net, x)
    rows = []
    for share in (0.99, 0.999, 1.0):
        net = with_weights(teacher.net, x, share)
        row: list[Any] = [f"{100 * share:g} % below threshold"]
        for num_steps in TIMES:
            as_spikes(net, num_steps)
            row.append(same_actions(net, x, q))
        rows.append(row)
    columns = ["", *(f"T {num_steps}" for num_steps in TIMES)]
    run.table("No training: same actions as the teacher, %", columns, rows)
    net = as_spikes(with_weights(teacher.net, x, 0.999), 15)
    reward(run, "no training, T 15", reported(config, agents.policy(net, teacher.eyes)))


def train_with_levels(
    config: Config, run: Run, teacher: agents.Agent, x: Tensor, levels: int
) -> tuple[list[Any], charts.Converted]:
    """Train with clipped and floored activations, then run the same weights with spikes.

    Returns: a row of the table; what the figure shows of it.
    """
    net = with_weights(teacher.net, x, 0.999)
    conversion.run_as(net, "levels", levels=levels)
    curve = student(config, run, f"levels{levels}", net, student_recipe(config), teacher.eyes)
    if levels == agents.LEVELS:
        report = keep(config, run, "levels", net, curve, teacher.eyes)
        reward(run, "15 levels", report, headline=True)
    else:
        report = reported(config, agents.policy(net, teacher.eyes))
    q = compare.answers(net, x)
    like_teacher = same_actions(teacher.net, x, q)
    as_spikes(net, levels, wait=levels - 1)
    by_layers = same_actions(net, x, q)
    as_spikes(net, levels)
    at_once = same_actions(net, x, q)
    free = reported(config, agents.policy(net, teacher.eyes))
    run.proof(f"{levels} levels, T {levels}, layer by layer: other actions, %", 100 - by_layers, at_most=0.1)
    row = [levels, report.mean, like_teacher, by_layers, at_once, free.mean]
    return row, charts.Converted(levels, report, free)


# %% [markdown]
# ## 5. Spikes that learn: spike
#
# The other road: the spiking network itself is trained, with surrogate gradients through all
# its steps (lessons 07 and 09). One student begins as the converted teacher with $T = 8$ and
# learns from it. What it earns before and after says what training adds to conversion.
#
# A second network learns without a teacher. It draws its weights; thresholds are set, on
# pictures of the teacher's games, so that its neurons fire at all; and it learns by PQN, as
# the teacher did: spiking Q-learning. Each decision costs $T$ passes and their gradients, so
# $T$ is 4 and the decisions are fewer.


# %%
def spike(config: Config, run: Run) -> None:
    """Train spiking networks with surrogate gradients: one from the teacher, one by itself."""
    teacher = agents.teacher(config.scale)
    frames = seen_by(config, run, teacher)
    learnt = spikes_from_teacher(config, run, teacher, teacher.see(frames))
    alone = spikes_alone(config, run, emulator.levels(frames))
    curves.draw_curves(run, {"from the teacher": learnt, "by itself": alone})


def spikes_from_teacher(config: Config, run: Run, teacher: agents.Agent, x: Tensor) -> curves.Learnt:
    """Go on teaching the converted teacher, as spikes."""
    steps = agents.STEPS["clone"]
    net = as_spikes(with_weights(teacher.net, x, 0.99), steps)
    before = reported(config, agents.policy(net, teacher.eyes))
    # T steps make each training step dear: half as many for a decision, and more decisions.
    recipe = imitate.Recipe(decisions=config.imitated // 2, passes=3)
    curve = student(config, run, "clone", net, recipe, teacher.eyes)
    report = keep(config, run, "clone", net, curve, teacher.eyes)
    reward(run, f"T {steps}, converted", before)
    reward(run, f"T {steps}, learnt from the teacher", report, at_least=aim(15.0), headline=True)
    q = compare.answers(teacher.net, x)
    same, error = compare.hop(compare.answers(net, x), q)
    run.measure("same actions as the teacher", same, "%")
    run.measure("error of Q", error)
    return curves.Learnt(curve, report)


def spikes_alone(config: Config, run: Run, x: Tensor) -> curves.Learnt:
    """Let a spiking network learn to play by itself."""
    seed_all(run.seed)  # so that it owes nothing to what was drawn for the first network
    steps = agents.STEPS["direct"]
    net = FloatQ(steps)
    network.start(net.body.parts[:-1])
    conversion.balance(net, x[:500], 0.99)  # else most neurons would be silent, and learn nothing
    conversion.run_as(net, "spikes")
    explore = min(200_000, config.alone // 2)
    recipe = pqn.Recipe(steps=config.alone, explore=explore)
    history = pqn.learn(run, "direct", net, recipe, emulator.levels)
    report = keep(config, run, "direct", net, history, "levels")
    reward(run, f"T {steps}, learnt by itself", report, at_least=aim(17.0))
    run.measure("decisions by itself", history[-1]["steps"])
    return curves.Learnt(history, report)


# %% [markdown]
# ## 6. What the agent sees: perceive
#
# An event camera (lesson 04) sends only what changes. That suits a ball on an empty court:
# hardly any value is other than 0. But a paddle that waits is invisible, and this network
# remembers nothing between decisions. Two students with the same training say which matters
# more. They keep the teacher's weights but for the first layer, which is new to both.


# %%
def perceive(config: Config, run: Run) -> None:
    """Let one student see pictures, one the events of an event camera; all else is equal."""
    teacher = agents.teacher(config.scale)
    frames = seen_by(config, run, teacher)
    q = compare.answers(teacher.net, teacher.see(frames))
    rows = []
    points = {}
    students: dict[str, agents.Eyes] = {"pictures": "levels", "events": "events"}
    for name, eyes in students.items():
        x = agents.EYES[eyes](frames)
        net = with_new_eyes(teacher.net, channels=x.shape[1])
        curve = student(config, run, name, net, student_recipe(config), eyes)
        report = keep(config, run, name, net, curve, eyes)
        points[name] = reward(run, name, report, headline=name == "events")
        same = same_actions(net, x, q)
        active = (x > 0).sum((1, 2, 3))  # of each picture
        mean = active.double().mean().item()
        share = 100 * mean / x[0].numel()
        rows.append([name, points[name], same, mean, share])
    columns = ["seen", "reward", "like teacher, %", "values not 0", "of all, %"]
    run.table("Two ways of seeing, the same budget", columns, rows)
    charts.draw_views(run, frames, points)


def with_new_eyes(teacher: nn.Module, channels: int) -> ab.QuantNet:
    """Give the teacher's weights to a network with another first layer, drawn anew."""
    net = network.q_network(channels=channels)
    weights = net.state_dict()
    for key, value in teacher.state_dict().items():
        if not key.startswith("layers.0."):
            weights[key] = value
    net.load_state_dict(weights)
    network.start(net.parts[:1])
    return net


# %% [markdown]
# ## 7. Bits for the chip: quantise
#
# The AKD1000 computes with integers. Training sees them: the forward pass rounds weights and
# activations as the chip will, the backward pass takes the slope of what was rounded
# (lesson 19). Each network goes on from the one before: 4 bits, then 2-bit activations,
# whose neurons have three levels, then 2-bit weights, which are -1, 0 or 1. The row "before
# training" says what rounding alone does.


# %%
def quantise(config: Config, run: Run) -> None:
    """Train with the chip's integers, fewer bits step by step, and write the chip's files."""
    teacher = agents.teacher(config.scale)
    plain = reward(run, "teacher, float", headline(config, teacher.policy))
    x = teacher.see(seen_by(config, run, teacher))
    q = compare.answers(teacher.net, x)
    rows = []
    told: curves.Curves = {}
    start, before = teacher.net, 0.0
    goals = {"four": aim(plain - 0.5), "two": aim(17.0)}
    for name in ("four", "two", "ternary"):
        net = with_bits(start, name, x)
        shown = "{}-bit activations, {}-bit weights".format(*agents.BITS[name])
        rounded = same_actions(net, x, q)
        recipe = imitate.Recipe(decisions=config.imitated)
        curve = student(config, run, name, net, recipe, teacher.eyes)
        report = keep(config, run, name, net, curve, teacher.eyes, before)
        told[shown] = curves.Learnt(curve, report, before)
        reward(run, shown, report, at_least=goals.get(name), headline=name == "four")
        after, error = compare.hop(compare.answers(net, x), q)
        rows.append([shown, rounded, after, error])
        on_chip(run, name, net, x)
        start, before = net, before + curve[-1]["steps"]
    columns = ["", "before training", "after", "error of Q"]
    run.table("Same actions as the float teacher, %", columns, rows)
    curves.draw_curves(run, told)


def with_bits(start: nn.Module, name: str, x: Tensor) -> ab.QuantNet:
    """Give the weights of a network to one with an agent's bits, and set the steps of its levels."""
    net = network.q_network(*agents.BITS[name], channels=x.shape[1])
    weights = net.state_dict()
    for key, value in start.state_dict().items():
        if not key.endswith("_extra_state"):  # it tells the bits of the network before
            weights[key] = value
    net.load_state_dict(weights)
    net.calibrate(x[:500])
    return net


# %% [markdown]
# Now the claim of chapter 1 is proven for each agent, on pictures of play: levels are the
# chip's integers, spikes of neurons that wait are the levels, and Akida (the card, or its
# simulator) gives the same Q, all to the last bit. And all layers must lie on the chip at once
# (one pass over its mesh of neural processors): else it would be loaded again within a decision.


# %%
def on_chip(run: Run, name: str, net: ab.QuantNet, x: Tensor) -> tuple[float, float]:
    """Prove that chip, levels and spikes agree; map the network, and write the chip's file.

    Returns: of spikes layer by layer against levels the same actions in %, and the error of Q.
    """
    integers = net.to_integers()
    steps = highest_level(integers)
    q = compare.answers(LevelNet(integers), x)
    apart = q - compare.answers(integers.logits, x)
    error = apart.abs().max().item()
    run.proof(f"{name}: levels unlike the chip's integers", error, at_most=0)
    waiting = IfNet(integers, steps, wait=None, dtype=torch.float64)
    by_layers = compare.hop(compare.answers(waiting, x), q)
    run.proof(f"{name}: spikes layer by layer, other actions, %", 100 - by_layers[0], 0)
    if ab.backend() == "absent":
        return by_layers
    model = ab.to_akida(net)
    apart = ab.predict(model, x) - q
    run.proof(f"{name}: Akida's Q - own", apart.abs().max().item(), 0)
    run.measure(f"{name}: passes over the mesh", ab.map_model(model).passes, at_most=1)
    if run.is_first_seed:  # as the weights that are kept
        ab.save(model, run.folder / f"{name}.fbz")
    return by_layers


# %% [markdown]
# ## 8. A price on spikes: sparsify
#
# On the chip silence is free: an activation of 0 sends nothing. What is not 0 is sent as one
# *event* with its bits; as *spikes* it is as many as its level (an activation of 3: one event,
# three spikes). The 2-bit agent is taught once more, and pays. With $S$ spikes a decision and
# the price $p$ of a thousand, the loss is
#
# $$L = L_{\text{teacher}} + p\,\frac{S}{1000}.$$
#
# And one more thing is asked. An agent that was trained as levels alone plays worse as
# free-running spikes (the row "2 bits"), since no training step has seen one. So the loss
# takes turns: one step as levels, which pay; the next as free-running spikes with $T = 4$. The
# same weights must serve both. The price counts spikes; `fewer events` tells what the chip saves.


# %%
class Both:
    """The loss of two executions in turn: levels, which pay for each thousand spikes; free-running spikes."""

    def __init__(self, strength: float) -> None:
        self.strength = strength
        self.turns = 0

    def __call__(self, net: nn.Module, seen: Tensor, told: Tensor) -> Tensor:
        """Give the loss for inputs [B, C, rows, columns] and the teacher's Q [B, 3]."""
        assert isinstance(net, ab.QuantNet)
        self.turns += 1
        if self.turns % 2 == 0:
            half = len(seen) // 2  # T steps cost T passes: half a batch is enough
            free = free_running(net, seen[:half], FREE)
            return imitate.distance(free, told[:half])
        sent: list[Tensor] = []  # by each layer
        hooks = [
            part.register_forward_hook(lambda _part, _given, out: sent.append(out[0].sum()))
            for part in net.parts[:-1]
        ]
        apart = imitate.distance(net(seen), told)
        for hook in hooks:
            hook.remove()  # else it would listen on, while the agent plays
        spikes = torch.stack(sent).sum() / len(seen)
        return apart + self.strength * spikes / 1000


# %% [markdown]
# Three prices give three agents, each going on from the one before, beside the 4-bit and
# 2-bit ones. Those that no other one beats in both, reward and spikes, are the *Pareto front*.
# Which one is kept? Of those that lose at most a point of their teacher's, the one with the
# fewest spikes. But the cheapest of several that seem good enough is easily one that was lucky:
# on other episodes it loses more. So a reward counts here less its standard error. Free-running
# spikes are the harder execution: as these the agent may lose two points, error left aside. It
# is chosen by episodes that choose, and then judged by others.


# %%
@dataclass
class Point:
    """An agent of the front: episodes as levels, mean reward as free-running spikes; spikes and events."""

    name: str
    net: ab.QuantNet
    curve: pqn.History
    levels: judging.Choice
    free: float
    spikes: float
    events: float
    before: float = 0
    """Decisions of the agents from which it went on."""

    @property
    def worst(self) -> float:
        """The lower reward of both: levels less their error; free-running spikes may lose a point more."""
        return min(self.levels.mean - self.levels.error, self.free + 1)

    @property
    def spot(self) -> charts.Spot:
        """What the figure shows."""
        return charts.Spot(self.name, self.spikes, self.levels.mean, self.levels.error, self.free)


def sparsify(config: Config, run: Run) -> None:
    """Teach the 2-bit agent to play with few spikes, as levels and free-running; keep the best."""
    start = agents.load("four", config.scale)
    x = start.see(seen_by(config, run, start))
    points = []
    for name, agent in {"4 bits": "four", "2 bits": "two"}.items():
        net = agents.chip(agents.load(agent, config.scale))
        points.append(point_of(config, run, name, net, start.eyes, x, []))
    before = checkpoints.decisions(checkpoints.card(checkpoints.find("two", config.scale)))
    for strength in STRENGTHS:
        name = f"price {strength:g}"
        net = network.q_network(*agents.BITS["sparse"], channels=x.shape[1])
        net.load_state_dict(points[-1].net.state_dict())  # each goes on from the one before
        recipe = imitate.Recipe(decisions=config.imitated)
        curve = student(config, run, name, net, recipe, start.eyes, Both(strength))
        point = point_of(config, run, name, net, start.eyes, x, curve)
        points.append(replace(point, before=before))
        before += curve[-1]["steps"]
    tell_front(run, points)
    teacher = agents.teacher(config.scale)
    least = chosen_by(config, teacher.policy).mean - 1
    plain = points[0]
    best = cheapest(points[2:], least)
    report = keep(config, run, "sparse", best.net, best.curve, start.eyes, best.before, best.levels)
    reward(run, "kept agent", report)
    judged = {"levels": headline(config, teacher.policy).rewards, "kept agent": report.rewards}
    lost, error = accounts.lost(judged, "kept agent")
    fewer = plain.spikes / best.spikes
    run.measure("fewer spikes", fewer, "x", at_least=aim(5.0), headline=True, note=best.name)
    run.measure("fewer events", plain.events / best.events, "x", note=best.name)
    run.measure("reward lost", lost, at_most=aim(1.0), note=f"+- {error:.2f}")
    on_chip(run, "sparse", best.net, x)
    spots = [point.spot for point in points]
    charts.draw_front(run, spots, plain.spot, best.spot, least, f"free-running, T {FREE}")


def point_of(
    config: Config,
    run: Run,
    name: str,
    net: ab.QuantNet,
    eyes: agents.Eyes,
    x: Tensor,
    curve: pqn.History,
) -> Point:
    """Measure an agent of the front, by the episodes that choose."""
    integers = net.to_integers()
    found = compare.events(LevelNet(integers), x)
    events = sum(layer[0] for layer in found)
    spikes = sum(layer[1] for layer in found)
    levels = chosen_by(config, agents.policy(LevelNet(integers), eyes))
    free = chosen_by(config, agents.policy(IfNet(integers, FREE), eyes))
    run.console.print(f"  {name}: {levels.mean:.2f}, free {free.mean:.2f}, {spikes:.0f} spikes")
    return Point(name, net, curve, levels, free.mean, spikes, events)


def cheapest(points: list[Point], least: float) -> Point:
    """Give the agent with the fewest spikes that earns at least so much; the best player if none does."""
    good = [point for point in points if point.worst >= least]
    if good:
        return min(good, key=lambda point: point.spikes)
    return max(points, key=lambda point: point.levels.mean)


def tell_front(run: Run, points: list[Point]) -> None:
    """Tabulate the front."""
    rows = []
    for p in points:
        rows.append([p.name, p.levels.mean, p.levels.error, p.spikes, p.events, p.free])
    columns = ["agent", "reward", "error", "spikes", "events", f"free, T {FREE}"]
    run.table("Spikes (T = levels) and events of a decision; rewards", columns, rows)


# %% [markdown]
# ## 9. What it earns, and what it costs
#
# `judge` lets every agent play the episodes that are reported, and writes them on its card: the
# first seed, how many episodes, each reward, with sticky actions and without. (Of an agent that
# came with the course the card stays; a copy of it lies in the results folder.) What you tried
# you have looked at, so judge anew at the end, with `--first 42000`: the card keeps these
# episodes beside the old ones. The last column has the mean of the episodes that chose, where
# any did. Compare both: if the second is higher more often than not, choosing has been lucky.


# %%
def judge(config: Config, run: Run) -> None:
    """Let every agent play the episodes that are reported, and write them on its card.

    The card of an agent that came with the course stays as it is: the new one lies in the results folder.
    """
    cards = checkpoints.cards(agents.NAMES, config.scale)
    points = {name: (config, name) for name in cards}
    found = parallel.run_points(run, "judge_one", points, config.workers)
    rows = []
    for name, told in found.items():
        sticky, calm = judging.reports_of(told)
        checkpoints.judged(run.folder, name, config.scale, judging.with_reports(cards[name], sticky, calm))
        reward(run, name, sticky, headline=name in ("aware", "four", "sparse"))
        chosen = judging.choice_of(cards[name])
        before = chosen.mean if chosen else "-"
        rows.append([name, sticky.mean, sticky.error, calm.mean, before])
    columns = ["agent", "reward", "error", "not sticky", "on episodes that chose"]
    run.table(f"{config.episodes} episodes; {config.trials} without sticky actions", columns, rows)


def judge_one(config: Config, name: str) -> dict[str, Any]:
    """Judge one agent, in whatever process. Returns: its reports with and without sticky actions."""
    memory.keep_freed()
    policy = agents.load(name, config.scale).policy
    sticky = headline(config, policy)
    calm = judging.report(policy, config.trials, config.longest, sticky=0.0, first=config.first)
    return {"reports": [sticky.told(), calm.told()]}


# %% [markdown]
# The benchmark takes one agent, `sparse`, and asks what each execution earns and costs.
#
# - **Reward**, in two tables, with sticky actions and without. Beside ours stand players that
#   learn nothing and the published ones *of the same protocol*, with the frames from which
#   they learnt.
# - **Hops**: what changes from the teacher to levels, to spikes, to the chip.
# - **Operations**: a weight other than 0 that meets a value other than 0 counts; a level
#   costs a multiplication, a spike an addition (lesson 17).
# - **Latency** of a whole decision of a live game, from the screen to the action, part by
#   part, at half of the decisions and at the slowest hundredth.
# - **Energy**, by whatever meters this machine has, and from published tables.
#
# The figures show how the agents learnt (by their cards), reward against spikes, where the
# time of a decision goes, what each execution earns, and what more steps buy.


# %%
def benchmark(config: Config, run: Run) -> None:
    """Play, count, time and weigh an agent on every execution that this machine has."""
    agent = agents.load(config.agent, config.scale)
    run.say(agent.origin)
    net = agents.chip(agent)
    frames = seen_by(config, run, agent)
    x = agent.see(frames)
    by_layers = on_chip(run, "agent", net, x)
    rewards, q = executions.play_all(config, run, accounts.names(), x)
    accounts.rewards(run, config.agent, config.longest, rewards, config.first)
    teacher = agents.teacher(config.scale)
    accounts.hops(run, by_layers, q, compare.answers(teacher.net, teacher.see(frames)), rewards)
    integers = net.to_integers()
    steps = accounts.shortest(highest_level(integers))
    levels = LevelNet(integers)
    spiking = IfNet(integers, steps)
    some = x[torch.randperm(len(x))[:500]]  # of whole games, not of their openings
    spent = accounts.operations(run, levels, spiking, some)
    model = accounts.mapped(net)
    timed = accounts.latencies(run, levels, spiking, model, agent.eyes, config.timed)
    accounts.energy(run, levels, model, spent, x)
    curves.draw_cards(run)
    charts.draw_front_of_cards(run, frames)
    charts.draw_latency(run, timed)
    charts.draw_rewards(run, rewards, steps)
    charts.draw_steps(run, rewards, q)
    run.analysis(write_up.page(config.scale, agent.origin, run.record.entries()))


def play_one(config: Config, name: str, device: str, x: Tensor) -> dict[str, Any]:
    """Play the episodes of one execution, in whatever process; see ``executions.play``."""
    memory.keep_freed()
    return executions.play(config, name, device, x)


# %% [markdown]
# ## 10. Watch it
#
# The clip shows a rally: the screen, the pictures as the network sees them, and each layer's
# levels. Most of it is dark most of the time. That is what the chip does not compute.


# %%
def watch(config: Config, run: Run) -> None:
    """Draw a rally of an agent, with each layer's levels beside the screen."""
    agent = agents.load(config.agent, config.scale)
    run.say(agent.origin)
    net = agents.chip(agent).to_integers()
    most = highest_level(net)
    path = run.file(f"rally.{config.clip}", f"A rally, and the spikes of each decision, T = {most}")
    seconds = 1.0 if config.scale == "quick" else 8.0
    seed = judging.CHOICE.start
    clip = film.record(path, LevelNet(net).outputs, seed, seconds, title="The spiking agent", eyes=agent.eyes)
    run.measure("decisions drawn", len(clip.moments), headline=True)


# %%
def main(config: Config, run: Run) -> None:
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
