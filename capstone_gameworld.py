"""Capstone B: one browser game in real time.

Question: How well does a spiking agent play a browser game that does not wait, and how fast does it answer?
Reading:  GameWorld (2026), arXiv 2604.07429; Ross et al. (2011), DAgger; your journal of lessons 02 and 13.
Run:      python capstone_gameworld.py
Expect:   on the course's game 2,000 points in 10 of 10 games (the aim is 9), an answer in 2.0 ms (p95
          3.8 ms); on chrome://dino, streaming: 801 points, where a target of 800 ends a life, and fewer where
          a busy machine loses frames; one screenshot a step: 682 points in 100 steps. 4 minutes.

Without a step, the agent that comes with the course plays, and nothing is trained. Without a browser it plays
the course's own game, which needs none. The steps that made it, in this order:

  train       the network learns from a scripted player, on the course's own game
  adapt       it goes on learning, from a few minutes of play on chrome://dino
  benchmark   points, Success Rate, Progress and latency, on each track (this is the default)
  watch       a clip of a run, with each layer's spikes beside the screen

--agent course plays with the agent of train, which knows the course's own game alone.
--gameworld PATH plays the five tasks of the benchmark GameWorld in its own runtime, from your checkout.
"""

# %% [markdown]
# Pong waited: each decision was one step of the emulator, however long the agent took. A
# game in a browser goes on. Here time is part of the task, and an agent that thinks for two
# seconds is two seconds late. Multimodal language models play browser games that way, and
# GameWorld measures them. A spiking network needs no two seconds. This capstone asks what
# that is worth.
#
# The game is a runner: obstacles come from the right, faster and faster, and one key jumps.
# In this capstone you
#
# 1. see the game in three places, behind one small protocol,
# 2. meet the teacher: a script that reads the game's state, which no student may,
# 3. follow a picture into events, through a spiking network, to a jump,
# 4. let it learn on the course's own game, and then on Chromium's,
# 5. let the same network answer a single picture, with the *time* of its first spike,
# 6. measure both, beside players that do nothing, that jump always, and that think long.

# %%
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from snn_course.runs import checkpoints, figures, lesson
from snn_course import UsageError
from snn_course.costs import memory
from snn_course.gameworld import (
    adapt as elsewhere,
)
from snn_course.gameworld import (
    agents,
    arena,
    imagine,
    imitate,
    oracle,
    players,
    retina,
    scoreboard,
    seeds,
    twin,
    write_up,
)
from snn_course.gameworld import watch as film

import numpy as np
import torch
from tyro.conf import Positional

Step = Literal["train", "adapt", "benchmark", "watch"]


@dataclass(frozen=True)
class Config(lesson.Config):
    """Settings of the capstone."""

    step: Positional[Step] = "benchmark"
    """What to do."""

    rounds: Annotated[int, lesson.Range(1, 1000)] = 24
    """Of train and adapt: rounds of play and learning."""

    minutes: Annotated[float, lesson.Range(0.2, 120)] = 4.0
    """Of adapt: minutes of play on chrome://dino."""

    again: bool = False
    """Of adapt: go on from the adapted agent, with what was recorded before and some more."""

    games: Annotated[int, lesson.Range(1, 1000)] = 10
    """Of benchmark: games on the course's page, each with other obstacles."""

    points: Annotated[int, lesson.Range(30, 100_000)] = 2_000
    """Of benchmark: points at which such a game ends."""

    runs: Annotated[int, lesson.Range(0, 100)] = 1
    """Of benchmark: runs of each target in a browser; the course's table has 5, and takes 20 minutes."""

    agent: Literal["dino", "course"] = "dino"
    """Of benchmark and watch: who plays. course has learnt on the course's own game alone."""

    gameworld: Path | None = None
    """Of benchmark: folder of your checkout of GameWorld; its runtime then drives the agent."""

    game: str = "07_chrome-dino"
    """Of GameWorld's catalog."""

    clip: Literal["gif", "mp4"] = "gif"
    """Of watch: kind of file."""

    @property
    def part(self) -> str:
        """The step, and who plays if it is not dino; the benchmark is the script itself, but in GameWorld."""
        step = "runtime" if self.step == "benchmark" and self.gameworld else self.step
        if step in ("benchmark", "runtime", "watch") and self.agent != "dino":
            return f"{step}_{self.agent}"
        return "" if step == "benchmark" else step


SCALES: lesson.Scales = {
    "quick": {"rounds": 2, "minutes": 0.3, "games": 2, "points": 150, "runs": 0},
    "cpu": {},
    "gpu": {"rounds": 80, "minutes": 20.0},
}
JUDGES = 10_000  # the first seed of the games that judge; training draws from 2**31 on

# %% [markdown]
# ## 1. One game, three places
#
# To an agent a game is two things: pictures come out, a key goes in. So every place where
# the game runs is put behind the same five words: `reset`, `observe`, `press`, `status` and
# `close`. `observe` waits for the next frame. `status` tells score and crash, and is for
# the evaluator alone.
#
# - **The course's page** is a small runner in HTML and JavaScript. Its obstacles come from a
#   seed, its clock ticks in steps of 1/60 s: one seed, one game.
# - **Its twin** in Python needs no browser. It is equal to the page in every pixel, and runs
#   many times faster than real time: training happens here.
# - **chrome://dino** is the game that Chromium shows when it is offline.
#
# The first thing to do is to prove that the twin is one. The page is stepped by hand with
# random keys, and each picture is compared. Without a browser, the same game is played
# twice instead.


# %%
def places(config: Config, run: lesson.Run, place: arena.Place) -> None:
    """Prove that one seed gives one game: in the browser and in its twin."""
    differ = arena.difference(place, JUDGES + run.seed)
    if differ is None:
        run.proof("one seed, two games: other pixels", seeds.difference(JUDGES + run.seed), 0)
    else:
        run.proof("page and twin: other pixels", differ, 0)


# %% [markdown]
# ## 2. The teacher reads the state
#
# A jump takes 32 steps and cannot be steered. So there is little to decide: *when*. The
# teacher knows where each obstacle is, and how the runner flies. It computes for each coming
# step whether a jump that begins there clears everything. Those steps are its *window*: 10
# to 25 steps long. It jumps early in it: who lands sooner has more time for what comes next.
# But not at once. A student never hits the moment exactly, and one step before the window is
# a crash. So the teacher lets the obstacle come 80 pixels nearer first, a wide one 130. A
# good teacher leaves room for its student's mistakes: `oracle.py` says what that is worth.
#
# The teacher may read the state because it is never judged as an agent. The student may
# not: it is handed pictures, and holds nothing that leads to the game.
#
# ## 3. From pictures to a jump
#
# The agent sees the game's *ink*, averaged over blocks of 4 x 4 pixels. Ink is read from the
# canvas itself. So a page that inverts its colours, as the dinosaur's does at night, looks
# the same. An eye in front of the picture sends *events*: where a block has become darker by
# 24 grey levels there is an ON event, where brighter an OFF event, up to 7 in a frame. An
# obstacle is then an edge of ON events that moves left, with OFF events behind it; the wider
# both, the faster it is. The ground and the clouds hardly send anything.
#
# The network takes one step a frame. Its neurons are leaky integrate-and-fire, and keep
# their membranes from frame to frame: that is its only memory. The last neuron's spike is
# the jump.
#
# ## 4. Learning from the teacher
#
# In each frame the teacher can say more than yes or no: it knows how many steps $n$ are left
# until the best moment. So the student's last membrane is taught to rise towards it,
#
# $$U(n) = 1 + \tfrac{r}{2} - r\,n, \qquad r = 0.25, \text{ clipped to } [-1, 1.75],$$
#
# which crosses the threshold 1 at the right step. The student plays, the teacher labels what
# the student sees (DAgger). The games are made harder than they will be: the key acts up to
# two steps late, 4 % of the frames get lost, and games begin at any speed.
#
# The figure `membrane` shows what has come of it: the trained student's last membrane, frame
# by frame, before the first obstacles of a game, and what the teacher would have liked.


# %%
def wanted(steps: np.ndarray) -> np.ndarray:
    """Give the membrane U(n) that is wanted n steps before the best moment."""
    rise = 1 + imitate.RISE / 2 - imitate.RISE * steps
    return rise.clip(imitate.LEAST, imitate.MOST)


def steps_left(state: oracle.State) -> float:
    """Give n, the steps until the teacher's best moment; infinite: no jump is due; nan: none can help."""
    window = oracle.window(state)
    if window is None:
        return np.inf
    first, last = window
    if first > last:
        return np.nan
    return oracle.best(window, state) - imitate.DELAY


def watch_membrane(run: lesson.Run, net: Any, frames: int = 900) -> None:
    """Let the student play the start of a game, and compare its last membrane with the teacher's wish."""
    game = twin.Twin(JUDGES + run.seed)
    player = players.Spiker(net)
    finger = players.Finger()
    left: list[float] = []
    taught: list[float] = []
    has: list[float] = []
    presses: list[int] = []
    for frame in range(frames):
        picture = game.observe().picture
        state = oracle.state_of(game.game)  # the student never sees this
        left.append(steps_left(state))
        taught.append(imitate.wanted(state))
        fires = player.decide(picture)
        has.append(player.membrane)
        if finger.presses(fires):
            game.press(imitate.HOLD)
            presses.append(frame)
    wish = wanted(np.array(left))
    untaught = np.isnan(wish) & np.isnan(taught)  # nothing helps any more, and both know it
    run.proof("what is taught = U(n)", np.abs(wish - taught)[~untaught].max(), at_most=0)
    draw_membrane(run, np.array(has), wish, presses, np.array(left)[presses])


def title_of_jumps(left: np.ndarray) -> str:
    """Say how far jumps are from the teacher's moment, from the steps that were left then."""
    known = left[np.isfinite(left)]
    if not len(known):
        return f"None of {len(left)} jumps is one that the teacher would make"
    away = np.abs(known).mean()
    return f"{len(known)} of {len(left)} jumps are due, on average {away:.1f} steps from the best moment"


def draw_membrane(
    run: lesson.Run, has: np.ndarray, wish: np.ndarray, presses: list[int], left: np.ndarray
) -> None:
    """Draw the student's last membrane beside the teacher's wish, and mark the jumps."""
    seconds = np.arange(len(has)) / 60
    fig, (ax,) = figures.new(title_of_jumps(left), size=(9.0, 3.2))
    ax.plot(seconds, wish, color=figures.GREY, label="teacher's wish U(n)")
    ax.plot(seconds, has, color=figures.BLUE, lw=1, label="student's membrane")
    ax.plot(seconds[presses], has[presses], "o", ms=4, color=figures.RED, label="spike: a jump")
    ax.axhline(1, color=figures.RED, ls=":", label="threshold")
    ax.set(xlabel="time, s", ylabel="membrane, thresholds", ylim=(-2, 2.5))
    figures.legend_outside(ax)
    run.figure(fig, "membrane")


# %% [markdown]
# Now the training itself. `imitate.learn` plays and trains in turn, round by round.


# %%
def train(config: Config, run: lesson.Run) -> None:
    """Teach the network on the course's own game."""
    net = agents.build(config.scale)
    curve = imitate.learn(run, "course", net, imitate.Recipe(rounds=config.rounds))
    scores = seeds.play(net, seed_range(config), config.points)
    checkpoints.keep(run, "course", net, {"scores": scores, "curve": curve})
    run.measure("points, mean of the games", float(np.mean(scores)), headline=True)
    run.measure("training", curve[-1]["seconds"] / 60, "CPU min")
    draw_learning(run, curve, scores)
    frames, mean = curve[-1]["frames"], np.mean(scores)
    run.say(f"After {frames:,.0f} frames of play the student's games end with {mean:.0f} points.")


def seed_range(config: Config) -> range:
    """Give the seeds of the games that judge."""
    return range(JUDGES, JUDGES + config.games)


def column(rows: list[dict[str, Any]], name: str) -> np.ndarray:
    """Give one value of each row."""
    return np.array([row[name] for row in rows])


def draw_learning(run: lesson.Run, curve: list[dict[str, float]], scores: list[int]) -> None:
    """Draw how long the student's lives grow."""
    minutes = curve[-1]["seconds"] / 60
    title = f"{np.mean(scores):.0f} points a game after {minutes:.1f} CPU minutes"
    fig, (left, right) = figures.new(title, columns=2, size=(7.5, 3.0))
    frames = column(curve, "frames") / 1000
    left.plot(frames, column(curve, "loss"), "o-", ms=3)
    left.set(xlabel="frames of play, thousands", ylabel="loss", ylim=(0, None))
    right.plot(frames, column(curve, "steps") / 60, "o-", ms=3, color=figures.ORANGE)
    right.set(xlabel="frames of play, thousands", ylabel="seconds from crash to crash", ylim=(0, None))
    run.figure(fig, "learning")


# %% [markdown]
# ## 5. From our page to another
#
# chrome://dino has the same rules and other pictures, and its frames come when they come. In
# `adapt` teacher and student play there in turn, one life each, for a few minutes. Then the
# network goes on learning, a third from what was seen there, the rest from the course's game.


# %%
def adapt(config: Config, run: lesson.Run) -> None:
    """Go on teaching the network, with a few minutes of play on chrome://dino."""
    if config.again and config.seeds > 1:
        raise UsageError("--again goes on from one agent: it takes one seed.")
    start = agents.load("dino" if config.again else "course", config.scale)
    net = start.net
    kept = recorded(config, run, net)
    there, lived = elsewhere.unpacked(kept)
    net.requires_grad_(requires_grad=True)
    recipe = imitate.Recipe(rounds=config.rounds, rate=2e-3)
    curve = imitate.learn(run, "dino", net, recipe, there)
    scores = seeds.play(net, seed_range(config), config.points)
    before = checkpoints.card(start.path)
    began = {}
    for key in ("command", "commit", "curve", "began"):
        began[key] = before.get(key)
    checkpoints.keep(run, "dino", net, {"scores": scores, "curve": curve, "lives": lived, "began": began})
    alone = elsewhere.points_alone(lived[kept["earlier"] :])
    run.measure("frames recorded on chrome://dino", int(column(lived, "frames").sum()))
    if alone:
        run.measure("points there before, mean of its lives", float(np.mean(alone)))
    else:
        run.say("The time was too short for a whole life of the student.")
    run.measure("points on the course's game afterwards", float(np.mean(scores)), headline=True)
    run.measure("training", curve[-1]["seconds"] / 60, "CPU min")
    draw_learning(run, curve, scores)
    draw_lives(run, lived)


def recorded(config: Config, run: lesson.Run, net: Any) -> dict[str, Any]:
    """Record lives of student and teacher in turn; each is kept when it ends, so a kill costs one of them."""
    path = run.folder / "lives.pt"
    if (kept := run.load("lives")) is None:
        earlier = checkpoints.read(path) if config.again and path.is_file() else elsewhere.NOTHING
        kept = elsewhere.begun(earlier, 60 * config.minutes)
    if kept["left"] > 0:
        kept = record(run, net, kept)
    elsewhere.keep(run, kept)
    return kept


def record(run: lesson.Run, net: Any, kept: dict[str, Any]) -> dict[str, Any]:
    """Add lives to those that are kept, until no time is left; the student has the first one."""
    with arena.open_place() as place:
        if not place.browser:
            raise UsageError(place.missing)
        while kept["left"] > 0:
            led = (len(kept["lives"]) - kept["earlier"]) % 2 == 1
            kept = elsewhere.joined(kept, arena.record(place, net, kept["left"], led))
            run.save("lives", kept)
    return kept


def draw_lives(run: lesson.Run, lived: list[dict[str, Any]]) -> None:
    """Draw the lives that were recorded; one that the clock cut might have gone on."""
    cut = ~np.array([elsewhere.is_whole(life) for life in lived])
    lives = "life" if len(lived) == 1 else "lives"
    title = f"{len(lived)} {lives} recorded on chrome://dino, {cut.sum()} cut by the clock"
    fig, (ax,) = figures.new(title, size=(6.5, 2.8))
    points = column(lived, "score")
    led = column(lived, "led").astype(bool)
    for player, rows, colour in (("teacher", led, figures.GREY), ("student", ~led, figures.BLUE)):
        if rows.any():
            ax.bar(1 + np.flatnonzero(rows), points[rows], color=colour, label=player)
    if cut.any():
        ax.plot(1 + np.flatnonzero(cut), points[cut], "^", ms=5, color=figures.RED, label="cut by the clock")
    ax.set(xlabel="life", ylabel="points", xlim=(0.4, len(lived) + 0.6))
    ax.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    figures.legend_outside(ax)
    run.figure(fig, "lives")


# %% [markdown]
# ## 6. One picture in, one moment out
#
# GameWorld's agents get one screenshot a step and give one action. Our network sees motion
# alone, and one screenshot has none. So the agent *imagines* it. It pushes what lies before
# the runner to the left, frame by frame, at the speed of the ground. The eye turns that into
# events, the network takes its steps, and the **time of its first spike** (lesson 02) is the
# answer: so many frames from now the key is due. The agent keeps its answer back until then.
# If there is no spike within 42 imagined frames, it waits for 0.3 s and looks again.
#
# The speed comes from pixels, too: the specks on the ground are found again in the next
# screenshot, farther left. So the same weights serve both tracks, and the odd thing about
# a spiking network, that its answer has a *when*, is what the contract needs. The figure
# `moment` shows one such answer, and the window in which it is right.


# %%
def answer_one_picture(run: lesson.Run, net: Any) -> None:
    """Show the agent the picture in which a first obstacle comes near, and let it say when to jump."""
    game = twin.Twin(JUDGES + run.seed)
    while (window := oracle.window(oracle.state_of(game.game))) is None:
        game.step()
    ink = game.game.ink()
    left = retina.aim(retina.pooled(ink))
    mem = imagine.membrane(net, ink, left, game.game.speed)  # a player reads the speed off two pictures
    spike = imagine.first_above(mem)
    fig, (screen, ax) = figures.new(title_of_moment(spike, window), columns=2, size=(10.0, 2.8))
    screen.imshow(ink, cmap="Greys", aspect="auto")
    screen.set(xlabel="x, pixels", ylabel="y, pixels")
    screen.grid(visible=False)
    ax.axvspan(*window, color=figures.GREY, alpha=0.3, label="window")
    ax.plot(mem, color=figures.BLUE, label="last membrane")
    ax.axhline(1, color=figures.RED, ls=":", label="threshold")
    ax.set(xlabel="imagined frames from now", ylabel="membrane, thresholds")
    figures.legend_outside(ax)
    run.figure(fig, "moment")


def title_of_moment(spike: int | None, window: tuple[int, int]) -> str:
    """Say when the first spike comes, and which steps clear the obstacle."""
    first, last = window
    when = "There is no spike" if spike is None else f"The first spike comes {spike} frames from now"
    return f"{when}; a jump clears from {first} to {last}"


# %% [markdown]
# ## 7. The benchmark: two tracks, never in one table
#
# - **Streaming**: the agent has its own channel of 60 pictures a second, and decides at each.
# - **Contract**: one screenshot in, one action out, at most 100 steps: GameWorld's own loop.
#   The world goes on meanwhile (GameWorld-RT).
#
# GameWorld asks for 100, 200, 400, 600 and 800 points. *Success Rate* is the share of runs
# that reach their target, *Progress* the share of the way. A run here passes the lower
# targets on its way to 800, so one run counts for all five; on the streaming track a crash
# ends it, which is harder than the benchmark's rule. That track has no limit of 100 steps, which
# is easier: 800 points take some 4,000 frames, each with a decision.
#
# Language models need 2.4 to 6.4 s for a step. To see what that alone costs, the same agent
# plays with that much added think time.


# %%
def benchmark(config: Config, run: lesson.Run) -> None:
    """Measure an agent in every place that this machine has."""
    agent = agents.load(config.agent, config.scale)
    net = agent.net
    run.say(agent.origin)
    if config.gameworld:
        scoreboard.runtime(run, net, config.gameworld, config.game)
        return
    with arena.open_place() as place:
        places(config, run, place)
        watch_membrane(run, net)
        answer_one_picture(run, net)
        found = scoreboard.course(run, net, seed_range(config), config.points)
        if not place.browser or not config.runs:
            reason = place.missing or "--runs 0"
            run.say(f"Nothing was measured in real time: {reason}")
        else:
            scoreboard.streaming(run, place, net, config.runs)
            scoreboard.contract_track(run, place, net, config.runs)
    scoreboard.published_figures(run)
    scoreboard.draw(run, found)
    run.analysis(write_up.page(config.scale, agent.origin, run.record.entries()))


# %% [markdown]
# ## 8. Watch it
#
# The clip shows a stretch of the course's game at a high speed: the screen, the events that
# the agent sees, each layer's spikes, and the last membrane on its way to the threshold.


# %%
def watch(config: Config, run: lesson.Run) -> None:
    """Draw some seconds of an agent's play."""
    agent = agents.load(config.agent, config.scale)
    run.say(agent.origin)
    path = run.file(f"run.{config.clip}", "The spiking agent plays the course's runner, and its spikes")
    seconds = 1.0 if config.scale == "quick" else 6.0
    clip = film.record(path, agent.net, JUDGES, seconds)
    run.measure("frames drawn", len(clip), headline=True)


# %%
def on_one_thread(config: Config, run: lesson.Run) -> None:
    """Compute on one thread of the CPU: more would wait for each other, and a frame is 17 ms."""
    torch.set_num_threads(1)
    run.device = torch.device("cpu")
    if run.is_first_seed and (config.device == "cuda" or config.threads > 1):
        run.console.print("  --device and --threads change nothing here: one thread of the CPU is used.")


def main(config: Config, run: lesson.Run) -> None:
    """Do the step that the command line names."""
    memory.keep_freed()
    on_one_thread(config, run)
    steps = {"train": train, "adapt": adapt, "benchmark": benchmark, "watch": watch}
    steps[config.step](config, run)


if __name__ == "__main__":
    lesson.start(main, Config, SCALES)
