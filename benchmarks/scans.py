"""How fast the scans are, beside other libraries and beside what memory allows: ratios within one run.

    python benchmarks/scans.py                 # about a minute on one core
    python benchmarks/scans.py --rounds 30     # on a busy machine
    python benchmarks/scans.py --readme        # and write the table of README.md anew

Everything runs in turn, round after round, on one thread, and the fewest CPU seconds of each count: so other
programs on the machine hardly show. A pass is forward and backward, from currents to their gradient. "Memory"
is the time that a pass needs at least: it must move six arrays (forward currents in, membranes and spikes
out; backward membranes and gradients in, gradients out), so one core copies three of that size to others.
Peers subtract before the decay, and are compared with the course's neuron of that convention. The other scans
are compared with their own PyTorch form, at sizes of the lessons that train with them.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # where snn_course is

from snn_course.runs import lesson, report, wording
from snn_course import ROOT, UsageError
from snn_course.costs import memory
from snn_course.networks import neurons, recurrent, twins
from snn_course.networks.peers import peers

import snntorch as snn
import torch
from torch import nn

SHAPES = ((25, 128, 1000), (100, 64, 256), (784, 64, 128), (10, 256, 4096), (1000, 1, 64))  # [T, B, N]
BETA = 0.9
COMPILED, PYTORCH, SNNTORCH, MEMORY = "compiled", "course, PyTorch", "snnTorch, unbind", "memory"
PRODUCTS = "products"
Work = Callable[[], Any]
Spent = dict[str, float]
"""CPU milliseconds, by name."""


def fewest(works: dict[str, Work], rounds: int) -> Spent:
    """Give the fewest CPU milliseconds of each, of some rounds in turn.

    Each is timed right after a run that is not: so the memory that it takes is at hand, whoever ran before.
    """
    best = dict.fromkeys(works, float("inf"))
    for _ in range(rounds):
        for name, work in works.items():
            work()
            begun = time.process_time()
            work()
            best[name] = min(best[name], 1000 * (time.process_time() - begun))
    return best


def differentiate(
    forward: Callable[[torch.Tensor], torch.Tensor],
    cur: torch.Tensor,
    arriving: torch.Tensor,
    wanted: Sequence[torch.Tensor] = (),
) -> None:
    """Go from currents to spikes and, with the gradient that arrives there, back to them or to ``wanted``."""
    torch.autograd.grad(forward(cur), wanted or [cur], arriving)


def own(cur: torch.Tensor, compiled: bool, reset: Any) -> torch.Tensor:
    """Run the course's neuron."""
    with twins.forced(compiled):
        return neurons.leaky(cur, BETA, reset=reset)[0]


def by_steps(cur: torch.Tensor) -> torch.Tensor:
    """Run snn.Leaky step by step."""
    lif, record = snn.Leaky(beta=BETA), []
    mem = torch.zeros_like(cur[0])
    for cur_t in cur.unbind(0):
        spk, mem = lif(cur_t, mem)
        record.append(spk)
    return torch.stack(record)


def leaky_neurons(rounds: int) -> dict[str, Spent]:
    """Compare leaky neurons alone. Returns: what each took, by shape."""
    print("Leaky neurons, forward and backward: CPU ms, and in brackets how many times slower than compiled")
    found = {name: forward for name, forward in peers(BETA).items() if forward}
    told = {}
    for shape in SHAPES:
        cur = (0.4 * torch.rand(shape)).requires_grad_()
        forwards: dict[str, Any] = {
            COMPILED: partial(own, compiled=True, reset="subtract first"),
            PYTORCH: partial(own, compiled=False, reset="subtract first"),
            SNNTORCH: by_steps,
        }
        arriving = torch.rand(shape)
        works: dict[str, Work] = {
            name: partial(differentiate, forward, cur, arriving)
            for name, forward in (forwards | found).items()
        }
        source, target = torch.rand(3, cur.numel()), torch.empty(3, cur.numel())
        works[MEMORY] = partial(target.copy_, source)
        best = told[str(list(shape))] = fewest(works, rounds)
        ahead = min(best[name] for name in (SNNTORCH, *found))
        print(f"  {list(shape)}: gain over the fastest peer {ahead / best[COMPILED]:.1f}")
        for name, spent in best.items():
            print(f"    {name:<22}{spent:10.3f} ({spent / best[COMPILED]:.2f})")
    return told


def training_step(rounds: int) -> Spent:
    """Compare a whole training step with its matrix products alone: 784-1000-10, T 25, B 128, still input.

    Returns: what each took.
    """
    steps, batch, hidden = 25, 128, 1000
    fc1, fc2 = nn.Linear(784, hidden), nn.Linear(hidden, 10)
    optimizer = torch.optim.Adam([*fc1.parameters(), *fc2.parameters()], 5e-4, fused=True)
    x, labels = torch.rand(batch, 784), torch.randint(10, (batch,)).repeat(steps)
    spikes = (torch.rand(steps * batch, hidden) < 0.15).float()
    back1, back2 = torch.randn(batch, hidden), torch.randn(steps * batch, 10)

    def step(compiled: bool) -> None:
        with twins.forced(compiled):
            spk, _ = neurons.leaky(fc1(x), 0.95, num_steps=steps)  # [T, B, H]
            _, mem = neurons.leaky(fc2(spk), 0.95)  # [T, B, 10]
        loss = nn.functional.cross_entropy(mem.flatten(0, 1), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    @torch.no_grad()
    def products() -> None:
        fc1(x)
        fc2(spikes)
        back2 @ fc2.weight
        back2.T @ spikes
        back1.T @ x

    works: dict[str, Work] = {
        PRODUCTS: products,
        COMPILED: partial(step, True),
        PYTORCH: partial(step, False),
    }
    best = fewest(works, 3 * rounds)
    print("Training step 784-1000-10, T 25, B 128, still input: CPU ms, and in brackets over its products")
    for name, spent in best.items():
        print(f"    {name:<22}{spent:10.3f} ({spent / best[PRODUCTS]:.2f})")
    return best


def other_scans(rounds: int) -> dict[str, float]:
    """Compare the other scans with their PyTorch form. Returns: gains, by name."""
    print("Other scans: CPU ms in PyTorch and compiled, gain")
    gains = {}
    for name, work in (adaptive() | gates_and_states() | local_rules()).items():
        works: dict[str, Work] = {
            form: partial(with_twins, form == COMPILED, work) for form in (PYTORCH, COMPILED)
        }
        best = fewest(works, rounds)
        gains[name] = best[PYTORCH] / best[COMPILED]
        print(f"    {name:<30}{best[PYTORCH]:10.3f}{best[COMPILED]:10.3f}{gains[name]:8.2f}")
    return gains


def with_twins(compiled: bool, work: Work) -> None:
    """Do some work, its scans compiled or in PyTorch."""
    with twins.forced(compiled):
        work()


def adaptive() -> dict[str, Work]:
    """Give passes of neurons [100, 64, 128] that adapt or recur (lesson 13), forward and backward."""
    cur = torch.randn(100, 64, 128, requires_grad=True)
    arriving = torch.rand(cur.shape)
    adapts = {"rho": torch.full((128,), 0.99), "jump": torch.ones(128)}
    recurs = {"weight": torch.randn(128, 128) / 11}
    works: dict[str, Work] = {}
    for name, options in (("ALIF", adapts), ("RLeaky", recurs), ("recurrent ALIF", adapts | recurs)):
        forward = partial(alif_spikes, **options)
        works[name] = partial(differentiate, forward, cur, arriving)
    return works


def alif_spikes(cur: torch.Tensor, **options: Any) -> torch.Tensor:
    """Give the spikes alone."""
    return recurrent.alif(cur, BETA, **options)[0]


def gates_and_states() -> dict[str, Work]:
    """Give passes of an LSTM [28, 128, 128] (lesson 13) and of a layer of SSMs [784, 25, 64] (lesson 20)."""
    rows, arriving = torch.rand(28, 128, 28), torch.rand(28, 128, 128)
    fc, cell = nn.Linear(28, 128), nn.LSTM(128, 128)
    ssm = lesson.load(20).SSM(64, 8)  # H neurons of N modes
    u = torch.randn(64, 49, 16 * 25, requires_grad=True)  # [H, 49, 16 blocks of 25 samples]
    gates, states = partial(recurrent.lstm, cell=cell, before=fc), partial(ssm, batch=25)
    return {
        "LSTM": partial(differentiate, gates, rows, arriving, [*fc.parameters(), *cell.parameters()]),
        "SSM": partial(differentiate, states, u, torch.rand(u.shape), [u, *ssm.parameters()]),
    }


def local_rules() -> dict[str, Work]:
    """Give a batch of STDP [30, 32, 400] and one of e-prop [100, 64, 100], both of lesson 15."""
    script = lesson.load(15)
    layer, spk = script.Winners(400), (torch.rand(30, 32, 784) < 0.1).float()
    net, when = script.Net(28, 10, 100, rho=0.95, lift=0.2), torch.full((100,), 0.01)
    x, labels = (torch.rand(100, 64, 28) < 0.2).float(), torch.randint(10, (64,))
    return {
        "STDP": partial(layer, spk, rate=0.05),
        "e-prop": partial(script.eprop_in_two_pieces, net, x, labels, when),
    }


def as_markdown(neurons_alone: dict[str, Spent], step: Spent, gains: dict[str, float]) -> str:
    """Write what README.md shows: times of leaky neurons over those of the compiled ones, and sentences."""
    others = [name for name in next(iter(neurons_alone.values())) if name != COMPILED]
    rows = [["[T, B, N]", f"{COMPILED}, ms", *others], ["---", *["---:"] * (1 + len(others))]]
    for shape, best in neurons_alone.items():
        ratios = [f"{best[name] / best[COMPILED]:.2f}" for name in others]
        rows.append([shape, f"{best[COMPILED]:.1f}", *ratios])
    table = "".join(f"{wording.markdown_row(row)}\n" for row in rows)
    compiled, plain = (step[form] / step[PRODUCTS] for form in (COMPILED, PYTORCH))
    large = [best[COMPILED] / best[MEMORY] for best in neurons_alone.values() if best[MEMORY] >= 1]
    return table + (
        f"\nA training step of 784-1000-10 neurons (T 25, B 128, still input) takes {compiled:.2f} times\n"
        f"as long as its matrix products alone; in PyTorch {plain:.2f} times. Where the copy takes a "
        f"millisecond or more, a pass takes\nat most {max(large):.2f} times as long (the aim is 1.3).\n"
        "Compiled, the other scans take less time by these factors, at the sizes of their lessons:\n"
        f"{', '.join(f'{name} {gain:.1f}' for name, gain in gains.items())}.\n"
    )


def main() -> int:
    """Print all comparisons. Returns: 0; 2 where nothing compiles here, or README cannot be written."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("--rounds", type=int, default=7, help="timed rounds of each comparison, at least 1")
    parser.add_argument("--readme", action="store_true", help="write the table of README.md anew")
    asked = parser.parse_args()
    if asked.rounds < 1:
        parser.error(f"--rounds must be at least 1, not {asked.rounds}")
    torch.set_num_threads(1)
    memory.keep_freed()  # as a training does: fresh pages cost more than the pass
    try:
        neurons_alone = leaky_neurons(asked.rounds)
        step = training_step(asked.rounds)
        gains = other_scans(asked.rounds)
        if asked.readme:
            report.update_readme(ROOT / "README.md", as_markdown(neurons_alone, step, gains), "scans")
    except UsageError as error:  # there is no numba, or README cannot be written
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
