"""How fast the leaky scan is on a GPU, in PyTorch and in Triton, beside SpikingJelly: ratios within one run.

    python benchmarks/gpu_scans.py                 # at most 8 minutes; exit code 2 where there is no GPU
    python benchmarks/gpu_scans.py --rounds 100

A pass is forward and backward, from currents to their gradient. All run in turn, round after round, between
two events of the GPU's own clock, and the fewest milliseconds of each count. A first pass, which compiles, is
not timed. First, spikes and gradients in Triton are compared with those in PyTorch, for each reset.
SpikingJelly subtracts before the decay, and is compared with the course's neuron of that convention: in
PyTorch, and with its kernels in CuPy and Triton, where it has them and they run.

Nobody has run this on a GPU yet: what it prints there is news.
"""

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # where snn_course is

from snn_course import reason_of
from snn_course.networks import neurons, twins

import torch

SHAPES = ((25, 128, 1000), (100, 64, 256), (784, 64, 128), (10, 256, 4096), (1000, 1, 64))  # [T, B, N]
BETA = 0.9
LIMIT = 7 * 60
"""Seconds after which no further shape is begun."""
PYTORCH, TRITON = "course, PyTorch", "course, Triton"
Forward = Callable[[torch.Tensor], torch.Tensor]


# ---------------------------------------------------------------------- what is compared


def own(cur: torch.Tensor, fast: bool, reset: Any = "subtract first") -> torch.Tensor:
    """Run the course's neuron: in Triton, or in PyTorch."""
    with twins.forced(fast):
        return neurons.leaky(cur, BETA, reset=reset)[0]


def spikingjelly(backend: str) -> Forward:
    """Give SpikingJelly's neuron with one of its backends.

    Raises: ImportError without SpikingJelly; what SpikingJelly raises for a backend that it lacks.
    """
    from spikingjelly.activation_based import functional, neuron, surrogate

    settings: dict[str, Any] = {"detach_reset": True, "step_mode": "m", "backend": backend}
    lif = neuron.LIFNode(1 / (1 - BETA), False, 1.0, None, surrogate.ATan(), **settings)

    def run(cur: torch.Tensor) -> torch.Tensor:
        spk = lif(cur)
        functional.reset_net(lif)  # reset here
        return spk

    return run


def rivals(device: torch.device) -> dict[str, Forward]:
    """Give what runs here, by name; print one line for each that does not."""
    found: dict[str, Forward] = {PYTORCH: partial(own, fast=False)}
    if twins.leaky(torch.zeros(1, device=device), 1):
        found[TRITON] = partial(own, fast=True)
    else:
        print(f"{TRITON}: not measured, Triton is not here or does not work")
    for backend in ("torch", "cupy", "triton"):
        name = f"SpikingJelly, {backend}"
        try:
            forward = spikingjelly(backend)
            differentiate(forward, torch.rand(4, 2, 3, device=device, requires_grad=True))
            found[name] = forward
        except Exception as error:  # not installed, or a backend that it lacks or that fails here
            print(f"{name}: not measured, {reason_of(error)}")
    return found


# ---------------------------------------------------------------------- measure


def differentiate(forward: Forward, cur: torch.Tensor) -> torch.Tensor:
    """Go from currents to spikes and, with a gradient of ones, back. Returns: the gradient."""
    spk = forward(cur)
    return torch.autograd.grad(spk, cur, torch.ones_like(spk))[0]


def fewest(forwards: dict[str, Forward], cur: torch.Tensor, rounds: int) -> dict[str, float]:
    """Give the fewest milliseconds of each, of some rounds in turn after one to warm up."""
    best = dict.fromkeys(forwards, float("inf"))
    for number in range(rounds + 1):
        for name, forward in forwards.items():
            begun, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begun.record()
            differentiate(forward, cur)
            ended.record()
            ended.synchronize()
            if number:
                best[name] = min(best[name], begun.elapsed_time(ended))
    return best


def compare(device: torch.device) -> bool:
    """Print how far Triton's numbers are from PyTorch's, for each reset. Returns: all are equal enough."""
    print("Triton beside PyTorch: spikes that differ, and the largest difference of a gradient (goal 1e-5)")
    equal = True
    for reset in neurons.RESETS:
        torch.manual_seed(0)
        cur = torch.randn(100, 64, 256, device=device, requires_grad=True)
        slow, fast = (partial(own, fast=choice, reset=reset) for choice in (False, True))
        wrong = int((slow(cur) != fast(cur)).sum())
        apart = (differentiate(slow, cur) - differentiate(fast, cur)).abs().max().item()
        print(f"    {reset:<22}{wrong:>10}{apart:12.2g}")
        equal = equal and wrong == 0 and apart < 1e-5
    return equal


def table(forwards: dict[str, Forward], device: torch.device, rounds: int) -> None:
    """Print milliseconds of each, and in brackets how many times as long as the fastest of the course."""
    begun = time.perf_counter()
    print("Leaky neurons, forward and backward: ms, and in brackets over the course's fastest")
    for shape in SHAPES:
        if time.perf_counter() - begun > LIMIT:
            print(f"  {list(shape)}: not measured, {LIMIT / 60:.0f} minutes are over")
            continue
        cur = (0.4 * torch.rand(shape, device=device)).requires_grad_()
        best = fewest(forwards, cur, rounds)
        course = min(best[name] for name in (PYTORCH, TRITON) if name in best)
        print(f"  {list(shape)}")
        for name, spent in best.items():
            print(f"    {name:<22}{spent:10.3f} ({spent / course:.2f})")


def main() -> int:
    """Print all comparisons. Returns: 0; 1 if Triton's numbers are wrong; 2 without a GPU."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("--rounds", type=int, default=20, help="timed rounds of each comparison, at least 1")
    rounds = parser.parse_args().rounds
    if rounds < 1:
        parser.error(f"--rounds must be at least 1, not {rounds}")
    if not torch.cuda.is_available():
        print("not measured: no GPU", file=sys.stderr)
        return 2
    device = torch.device("cuda", torch.cuda.current_device())
    print(f"{torch.cuda.get_device_name(device)}, PyTorch {torch.__version__}")
    forwards = rivals(device)
    equal = compare(device) if TRITON in forwards else True
    table(forwards, device, rounds)
    return 0 if equal else 1


if __name__ == "__main__":
    raise SystemExit(main())
