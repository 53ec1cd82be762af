"""The leaky scan for a GPU: the two loops of ``leaky_scan.py`` as two kernels, written in Triton.

    scan = twins.leaky(row, steps)             # this module, where Triton works with the GPU of ``row``

PyTorch starts several kernels in each time step, and a small one takes less time than its start. Here one
kernel walks through all steps. Each program has a block of neurons, one for each thread, and keeps their
membranes in registers. So each current is read once, each membrane and each spike written once.

The operations are those of the PyTorch scan, in its order, each rounded by itself (``enable_fp_fusion``): so
membranes and spikes are equal. Gradients are equal but for rounding.

Triton has an interpreter, which runs kernels on a CPU, slowly: ``TRITON_INTERPRET=1``, set before Triton is
imported. The tests use it. The kernels have not run on a GPU yet.
"""

from types import SimpleNamespace
from typing import Any

from snn_course.networks.surrogates import ATAN, Surrogate, formula

import torch
import triton
import triton.language as tl

IN_PYTORCH = "given", 0.0, 0.0
"""The slope's formula where PyTorch computes it: in float64, too, for Triton takes numbers as float32."""
BLOCK = 128
"""Neurons of a program: one for each thread of Triton's four warps."""


# ---------------------------------------------------------------------- forward


@triton.jit
def _block(
    decay: tl.tensor, threshold: tl.tensor, neurons: tl.tensor, BLOCK: tl.constexpr
) -> tuple[tl.tensor, tl.tensor, tl.tensor, tl.tensor]:
    """Give the neurons of this program, which of them are there, and their betas and thresholds."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    here = at < neurons
    return at, here, tl.load(decay + at, mask=here), tl.load(threshold + at, mask=here)


@triton.jit
def _forward(
    cur: tl.tensor,
    decay: tl.tensor,
    threshold: tl.tensor,
    start: tl.tensor,
    mem: tl.tensor,
    spk: tl.tensor,
    steps: tl.tensor,
    cur_stride: tl.tensor,
    neurons: tl.tensor,
    RESET: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """Take one block of neurons through all steps. Tensors arrive as pointers to their first element."""
    at, here, beta, level = _block(decay, threshold, neurons, BLOCK)
    m = tl.load(start + at, mask=here)
    for _ in range(steps):
        x = tl.load(cur + at, mask=here).to(m.dtype)
        fired = m > level  # one step before
        if RESET == "zero":
            m = tl.where(fired, 0.0, m)
        if RESET == "subtract first":
            m = tl.where(fired, m - level, m)
        m = m * beta + x
        if RESET == "subtract":
            m = tl.where(fired, m - level, m)
        tl.store(mem + at, m, mask=here)
        tl.store(spk + at, tl.where(m > level, 1.0, 0.0), mask=here)
        cur += cur_stride  # to the next step; 0 for a still current
        mem += neurons
        spk += neurons


def leaky_forward(
    cur: torch.Tensor, decay: torch.Tensor, threshold: torch.Tensor, start: torch.Tensor, reset: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Do what ``leaky_scan.leaky_forward`` does."""
    mem = start.new_empty(cur.shape)  # [T, M]
    spk = cur.new_empty(cur.shape)
    if mem.numel() == 0:
        return spk, mem
    cur = _rows(cur)
    row = [x.contiguous() for x in (decay, threshold, start)]  # [M] each
    sizes = len(mem), cur.stride(0), mem.shape[1]
    _launch(_forward, mem, cur, *row, mem, spk, *sizes, RESET=reset)
    return spk, mem


def _rows(x: torch.Tensor) -> torch.Tensor:
    """Let the neurons of each step [T, M] lie side by side; what is the same in each step stays one row."""
    if x.stride(0) == 0:
        return x[:1].contiguous().expand(x.shape)
    return x.contiguous()


def _launch(kernel: Any, like: torch.Tensor, *arguments: Any, **settings: Any) -> None:
    """Start a kernel for all neurons of ``like`` [T, M], on its GPU."""
    programs = triton.cdiv(like.shape[1], BLOCK)
    with torch.cuda.device_of(like):
        kernel[(programs,)](*arguments, **settings, BLOCK=BLOCK, enable_fp_fusion=False)


# ---------------------------------------------------------------------- backward


@triton.jit
def _at_spikes(
    grad_spk: tl.tensor,
    at: tl.tensor,
    here: tl.tensor,
    x: tl.tensor,
    a: tl.tensor,
    b: tl.tensor,
    SLOPE: tl.constexpr,
) -> tl.tensor:
    """Give dL/dspk times the slope of the spike at x = mem - threshold; "given" was multiplied before."""
    g = _arriving(grad_spk, at, here, x)
    if SLOPE == "atan":
        x = x * a
        g = g / (x * x + b)
    if SLOPE == "fast sigmoid":
        x = tl.abs(x) * a + 1
        g = g / (x * x)
    return g


@triton.jit
def _arriving(grad: tl.tensor, at: tl.tensor, here: tl.tensor, like: tl.tensor) -> tl.tensor:
    """Give a gradient from outside, in the type of ``like``; 0 where None is."""
    g = tl.zeros_like(like)
    if grad is not None:
        g = tl.load(grad + at, mask=here).to(like.dtype)
    return g


@triton.jit
def _through_reset(
    later: tl.tensor, m: tl.tensor, beta: tl.tensor, level: tl.tensor, RESET: tl.constexpr
) -> tuple[tl.tensor, tl.tensor, tl.tensor]:
    """Give dL/dmem of the step after as the reset lets it through; what the reset took; what beta found."""
    fired = m > level
    taken = tl.zeros_like(m)
    found = m
    if RESET == "zero":
        later = tl.where(fired, 0.0, later)
    if RESET == "subtract":
        taken = tl.where(fired, later, 0.0)
    if RESET == "subtract first":
        taken = tl.where(fired, later * beta, 0.0)
        found = tl.where(fired, m - level, m)
    return later, taken, found


@triton.jit
def _keep(pointer: tl.tensor, at: tl.tensor, here: tl.tensor, x: tl.tensor) -> None:
    """Store a result, if it is wanted."""
    if pointer is not None:
        tl.store(pointer + at, x, mask=here)


@triton.jit
def _backward(
    mem: tl.tensor,
    grad_spk: tl.tensor,
    grad_mem: tl.tensor,
    decay: tl.tensor,
    threshold: tl.tensor,
    grad: tl.tensor,
    grad_first: tl.tensor,
    by_decay: tl.tensor,
    by_threshold: tl.tensor,
    steps: tl.tensor,
    spk_stride: tl.tensor,
    mem_stride: tl.tensor,
    neurons: tl.tensor,
    a: tl.tensor,
    b: tl.tensor,
    RESET: tl.constexpr,
    SLOPE: tl.constexpr,
    STILL: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """Take one block of neurons back through all steps. Tensors arrive as pointers; None is not there."""
    at, here, beta, level = _block(decay, threshold, neurons, BLOCK)
    later = tl.zeros_like(beta)  # dL/dmem of the step after this one
    total, to_beta, to_level = later, later, later  # of it, over time; dL/dbeta, dL/dthreshold
    for ago in range(steps):
        t = tl.cast(steps - 1 - ago, tl.int64)
        m = tl.load(mem + t * neurons + at, mask=here)
        g = _at_spikes(grad_spk, t * spk_stride + at, here, m - level, a, b, SLOPE)
        later, taken, found = _through_reset(later, m, beta, level, RESET)
        to_level = to_level - g - taken
        to_beta += later * found
        later = later * beta + (g + _arriving(grad_mem, t * mem_stride + at, here, m))
        total += later
        _keep(None if STILL else grad, t * neurons + at, here, later)
    _keep(grad if STILL else None, at, here, total)
    _keep(grad_first, at, here, later)
    _keep(by_decay, at, here, to_beta)
    _keep(by_threshold, at, here, to_level)


def leaky_backward(
    mem: torch.Tensor,
    grad_spk: torch.Tensor | None,
    grad_mem: torch.Tensor | None,
    surrogate: Surrogate,
    back: Any,
    still: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Do what ``leaky_scan.leaky_backward`` does."""
    grad = mem.new_zeros(1, mem.shape[1]) if still else torch.empty_like(mem)
    grad_first = mem.new_zeros(mem.shape[1])
    if mem.numel() == 0:
        return grad, grad_first
    slope, a, b = formula(surrogate) if mem.dtype == torch.float32 else IN_PYTORCH
    if grad_spk is not None and slope == "given":
        grad_spk = surrogate(mem - back.threshold) * grad_spk
    arriving = [None if g is None else _rows(g) for g in (grad_spk, grad_mem)]
    strides = [0 if g is None else g.stride(0) for g in arriving]
    row = back.decay.contiguous(), back.threshold.contiguous()
    results = grad, grad_first, back.by_decay, back.by_threshold
    sizes = len(mem), *strides, mem.shape[1]
    settings = {"RESET": back.reset, "SLOPE": slope, "STILL": still}
    _launch(_backward, mem, mem, *arriving, *row, *results, *sizes, a, b, **settings)
    return grad, grad_first


# ---------------------------------------------------------------------- does it work here?


def check(device: torch.device) -> None:
    """Try both ways on one neuron whose numbers are known: membranes 1, 1.5 and 0.5, a spike at step 1.

    Raises: RuntimeError for other numbers; whatever Triton raises where it cannot compile for this GPU.
    """
    cur = torch.ones(3, 1, device=device)
    beta, level = torch.full((1,), 0.5, device=device), torch.full((1,), 1.25, device=device)
    spk, mem = leaky_forward(cur, beta, level, torch.zeros_like(beta), "subtract")
    back = SimpleNamespace(decay=beta, threshold=level, reset="subtract", by_decay=None, by_threshold=None)
    grad, _ = leaky_backward(mem, None, cur, ATAN, back, still=False)
    found = torch.cat((mem, spk, grad), 1).tolist()  # a row for each step
    if found != [[1.0, 0.0, 1.75], [1.5, 1.0, 1.5], [0.5, 0.0, 1.0]]:
        raise RuntimeError(f"membranes, spikes and gradients came out wrong: {found}")
