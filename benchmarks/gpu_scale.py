"""The gpu scale in 8 minutes: lessons 09, 10, 13, 18 and Pong's training, shortened, beside predictions.

    python benchmarks/gpu_scale.py                 # 8 minutes; exit code 2 where there is no GPU
    python benchmarks/gpu_scale.py --minutes 20 --only 10 18
    python benchmarks/gpu_scale.py --device cpu --scale quick --minutes 1     # to see that it works

Each training has its script's network, batch and time steps, those of its last epochs, and as many training
steps as its share of the time allows: a few are timed first. So the result is that of a short training, and
lower than the script's. The last column tells what a whole training takes at that pace; lessons 10 and 18
show fewer time steps at first, and take less. Memory is what comes on top of weights and data, predicted from
shapes and measured by PyTorch, without what libraries take for themselves. Pong trains on the CPU at each
scale. Results and journal of the course stay as they are.

Nobody has run this on a GPU yet: what it prints there is news.
"""

import argparse
import copy
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # where snn_course is

from snn_course.runs import lesson, wording
from snn_course import UsageError, reason_of
from snn_course.costs import shapes
from snn_course.networks import budget, training

import torch

FIT = training.fit
EVALUATED = 2000
"""Test images by which a short training is judged."""


@dataclass
class Row:
    """What one training was predicted to take, and what it took."""

    name: str
    score: str = "-"
    steps: int = 0
    whole: int = 0
    """Steps of the script's own training."""
    seconds: float = 0.0
    """Predicted from the first steps."""
    took: float = 0.0
    more: int | None = None
    """Bytes on top of weights and data, predicted."""
    peak: int | None = None
    """The same, measured; None where there is no GPU."""

    def cells(self) -> list[str]:
        """Give the columns of the table."""
        whole = wording.duration(self.seconds / max(1, self.steps) * self.whole)
        memory = [f"{size / 1e9:.2f}" if size is not None else "-" for size in (self.more, self.peak)]
        return [
            self.name,
            self.score,
            f"{self.steps} of {self.whole}",
            f"{self.seconds:.1f}",
            f"{self.took:.1f}",
            *memory,
            whole,
        ]


HEAD = ["training", "result", "steps", "s, predicted", "s", "GB, predicted", "GB", "whole"]


# ---------------------------------------------------------------------- shorten a training


class Shortened:
    """Takes the place of ``training.fit``: trains for some seconds only, and fills in a row."""

    def __init__(self, row: Row, seconds: float, pilot: int) -> None:
        self.row, self.left, self.pilot = row, seconds, pilot

    def __call__(
        self, run: Any, name: str, net: Any, images: Any, labels: Any, recipe: Any, check: Any = None
    ) -> Any:
        """Time a few steps of a copy, then train ``net`` for as many as there is time for."""
        images, labels = images.to(run.device), labels.to(run.device)
        each = len(labels) // recipe.batch
        self.row.whole = each * recipe.epochs
        recipe.at_epoch(recipe.epochs - 1)  # some show more time steps at the end
        short = replace(recipe, epochs=1, at_epoch=as_it_is)
        pace = self._pace(run, name, copy.deepcopy(net), images, labels, short)
        epochs, steps = self.plan(pace, each)
        used = steps * recipe.batch
        need = training.need(net, images, labels, recipe, training.has_bf16(run.device))
        self.row.more = need.more
        before = start_memory(run.device)
        begun = time.perf_counter()
        history = FIT(run, name, net, images[:used], labels[:used], replace(short, epochs=epochs), check)
        wait_for(run.device)
        self.row.took = time.perf_counter() - begun
        self.row.peak = peak_memory(run.device, before)
        return history

    def plan(self, pace: float, each: int) -> tuple[int, int]:
        """Give epochs, and steps of each, for the seconds that are left; an epoch has at most ``each``."""
        steps = min(self.row.whole, max(1, int(self.left / pace)))
        epochs, steps = max(1, steps // each), min(steps, each)
        self.row.steps = epochs * steps
        self.row.seconds = self.row.steps * pace
        return epochs, steps

    def _pace(self, run: Any, name: str, net: Any, images: Any, labels: Any, short: Any) -> float:
        """Give the seconds of a step, after some that are not timed: they load and compile."""
        spent = 0.0
        for timed in ("before", "timed"):
            begun = time.perf_counter()
            used = self.pilot * short.batch
            FIT(run, f"{name}, {timed}", net, images[:used], labels[:used], short)
            wait_for(run.device)
            spent = time.perf_counter() - begun
            self.left -= spent
        return spent / self.pilot


def as_it_is(epoch: int) -> None:
    """Leave the network as it is."""


def wait_for(device: torch.device) -> None:
    """Let a GPU finish."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def start_memory(device: torch.device) -> int:
    """Forget the most that was taken so far. Returns: bytes taken now."""
    if device.type != "cuda":
        return 0
    torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.memory_allocated(device)


def peak_memory(device: torch.device, before: int) -> int | None:
    """Give the most bytes taken since then on top of those of ``before``; None without a GPU."""
    return torch.cuda.max_memory_allocated(device) - before if device.type == "cuda" else None


# ---------------------------------------------------------------------- the trainings


def few(images: Any) -> Any:
    """Give at most EVALUATED of them."""
    return images.subset(min(EVALUATED, len(images)))


def lesson_09(script: Any, config: Any, run: Any, row: Row, short: Shortened) -> None:
    """Train by counts; this lesson has a loop of its own, so its epochs are timed."""
    train, test = script.load_digits(config, run)
    plan = script.Training("pilot", script.LOSSES["ce_count"], config.num_steps)
    each = len(train.y) // script.BATCH
    row.whole = each * config.epochs
    some = train.part(slice(short.pilot * script.BATCH))
    few_digits = test.part(slice(EVALUATED))
    for name in ("before", "timed"):
        begun = time.perf_counter()
        script.train(run, replace(plan, name=name), some, few_digits.part(slice(10)))
        pace = (time.perf_counter() - begun) / short.pilot
        short.left -= time.perf_counter() - begun
    epochs, steps = short.plan(pace, each)
    used = train.part(slice(steps * script.BATCH))

    def step(net: Any) -> None:
        x = torch.zeros(script.BATCH, 784, device=shapes.DEVICE)
        script.leave_gradients(net, x, torch.zeros_like(x[:, 0], dtype=torch.int64), plan)

    row.more = budget.need(script.Net(), step).more
    before = start_memory(run.device)
    begun = time.perf_counter()
    scores = script.train(run, replace(plan, name="ce_count", epochs=epochs), used, few_digits)
    row.took, row.peak = time.perf_counter() - begun, peak_memory(run.device, before)
    row.score = f"{scores['own']:.1f} %"


def lesson_10(script: Any, config: Any, run: Any, row: Row, short: Shortened) -> None:
    """Train the network of the headline."""
    train, test = script.load_images(config, run)
    test = few(test)
    net, _ = script.train(config, run, (train, test))
    row.score = f"{training.evaluate(net, test.images, test.labels):.1f} %"


def lesson_13(script: Any, config: Any, run: Any, row: Row, short: Shortened) -> None:
    """Train the network with the highest goal on pixels one by one, 784 steps."""
    (x, y), (test_x, test_y) = script.load_digits(config, run)
    sets = (x[: config.pixel_images], y[: config.pixel_images]), (test_x[:EVALUATED], test_y[:EVALUATED])
    net = script.make(run, "chrono SLSTM", (1, config.hidden // 2, 10), 784, 784)
    batch = 256 if run.scale == "gpu" else 64
    history = script.train(run, "chrono SLSTM", net, sets, 784, 2 * config.epochs, batch)
    row.score = f"{history[-1]['check']:.1f} %"


def lesson_18(script: Any, config: Any, run: Any, row: Row, short: Shortened) -> None:
    """Train the Spikformer."""
    pictures = script.load_pictures(config, run)
    net = script.Net(config, spiking=True).to(run.device)
    script.train(config, run, "Spikformer", net, pictures, script.BATCH)
    right = training.evaluate(net, pictures.test_x[:EVALUATED], pictures.test_y[:EVALUATED])
    row.score = f"{right:.1f} %"


def pong(script: Any, config: Any, run: Any, row: Row, short: Shortened) -> None:
    """Train the teacher; a step is a decision, on the CPU."""
    from snn_course.pong import network, pqn

    one = pqn.Recipe().games * pqn.Recipe().horizon  # decisions of an update
    row.whole = config.decisions
    net = network.q_network()
    network.start(net.parts[:-1])
    begun = time.perf_counter()
    pqn.learn(run, "pilot", copy.deepcopy(net), pqn.Recipe(steps=one))
    spent = time.perf_counter() - begun
    row.steps = min(row.whole, one * max(1, int((short.left - spent) / spent)))
    row.seconds = spent * row.steps / one
    begun = time.perf_counter()
    history = pqn.learn(run, "pqn", net, pqn.Recipe(steps=row.steps))
    row.took, row.score = time.perf_counter() - begun, f"reward {history[-1]['reward']:.1f}"


TRAININGS: dict[str, tuple[str, int | str, Callable[..., None]]] = {
    "09": ("09, by counts", 9, lesson_09),
    "10": ("10, SEW network", 10, lesson_10),
    "13": ("13, SLSTM by pixels", 13, lesson_13),
    "18": ("18, Spikformer", 18, lesson_18),
    "pong": ("Pong, PQN (CPU)", "capstone_pong", pong),
}


# ---------------------------------------------------------------------- all of it


def measure(which: str, options: argparse.Namespace, seconds: float) -> Row:
    """Run one shortened training. Returns: its row; where it failed, the row says why."""
    name, script_name, function = TRAININGS[which]
    row = Row(name)
    short = Shortened(row, seconds, options.pilot)
    training.fit = short
    try:
        script = lesson.load(script_name)
        config = lesson.at_scale(script.Config, options.scale, script.SCALES)
        run = lesson.Run(replace(config, device=options.device, seeds=1), Path(str(script.__file__)))
        run.begin(0)
        function(script, run.config, run, row, short)
    except Exception as error:  # the others shall run all the same
        row.score = f"failed: {reason_of(error)[:60]}"
    finally:
        training.fit = FIT
    return row


def table(rows: list[Row]) -> str:
    """Lay out the table as Markdown, ready for notes."""
    lines = [HEAD, ["---"] * len(HEAD)]
    lines += [row.cells() for row in rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def parse() -> argparse.Namespace:
    """Read the command line."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("--minutes", type=float, default=8.0, help="for all trainings together")
    parser.add_argument("--only", nargs="+", choices=TRAININGS, default=list(TRAININGS), help="some of them")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--scale", choices=("quick", "cpu", "gpu"), default="gpu")
    parser.add_argument("--pilot", type=int, default=10, help="steps that are timed first")
    options = parser.parse_args()
    if not options.minutes > 0 or options.pilot < 1:
        parser.error("--minutes must be above 0, --pilot at least 1")
    return options


def main() -> int:
    """Print a table of all. Returns: 0; 1 if one of them failed; 2 without a GPU."""
    options = parse()
    if options.device == "cuda" and not torch.cuda.is_available():
        print("not measured: no GPU", file=sys.stderr)
        return 2
    on_gpu = options.device == "cuda"
    where = torch.cuda.get_device_name() if on_gpu else "CPU"
    seconds = 60 * options.minutes / len(options.only)
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"SNN_RESULTS": folder, "SNN_JOURNAL": str(Path(folder) / "journal.md")}
        rows = [measure(which, options, seconds) for which in options.only]
    print(f"\n{where}, PyTorch {torch.__version__}, {options.scale} scale\n\n{table(rows)}")
    return int(any(row.score.startswith("failed") for row in rows))


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except UsageError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None
