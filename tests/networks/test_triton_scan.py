"""The Triton twin gives what PyTorch gives, in Triton's interpreter; it is chosen where it works alone."""

import importlib.util
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from snn_course.runs import lesson
from snn_course import ROOT
from snn_course.networks import twins

import pytest
import torch

needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="no Triton here")
FORWARD = "cur decay threshold start mem spk"
BACKWARD = "mem grad_spk grad_mem decay threshold grad grad_first by_decay by_threshold"


@needs_triton
def test_it_gives_what_pytorch_gives_in_the_interpreter() -> None:
    tests = Path(__file__).with_name("triton_interpreted.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tests)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def compiled_for(target: Any, kernel: Any, pointers: str, constants: dict[str, Any]) -> str:
    """Compile a kernel for a GPU that need not be there. Returns: what the GPU's assembler gets."""
    import triton
    from triton.compiler import ASTSource

    kinds = dict.fromkeys(pointers.split(), "*fp32") | dict.fromkeys("ab", "fp32")
    signature = {name: kinds.get(name, "i32") for name in kernel.arg_names}
    signature |= dict.fromkeys(constants, "constexpr")
    source = ASTSource(kernel, signature, constants)
    result = triton.compile(source, target=target, options={"enable_fp_fusion": False})
    return result.asm["ptx" if target.backend == "cuda" else "amdgcn"]


@needs_triton
@pytest.mark.parametrize("card", [("cuda", 80, 32), ("hip", "gfx1100", 32)], ids=["NVIDIA", "AMD"])
@pytest.mark.parametrize("reset", ["subtract first", "zero"])
def test_both_kernels_compile_for_a_gpu(
    card: tuple[Any, ...], reset: str, tmp_path: Any, monkeypatch: Any
) -> None:
    from snn_course.networks import triton_scan

    from triton.backends.compiler import GPUTarget

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    target, fixed = GPUTarget(*card), {"RESET": reset, "BLOCK": 128}
    code = compiled_for(target, triton_scan._forward, FORWARD, fixed)
    assert "fma" not in code.lower()  # each operation is rounded by itself, as in PyTorch
    absent = {"grad_mem": None, "by_threshold": None}
    for slope in ("atan", "fast sigmoid", "given"):
        more = absent if slope == "given" else {}
        settings = {**fixed, "SLOPE": slope, "STILL": slope == "given", **more}
        assert compiled_for(target, triton_scan._backward, BACKWARD, settings)


class _Card:
    """A row of a state that lies on a GPU; there is none here."""

    device = torch.device("cuda", 0)
    dtype = torch.float32


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Give a row on a GPU, and a fresh memory of whether Triton works there."""
    monkeypatch.delenv("SNN_COMPILED", raising=False)
    twins._triton.cache_clear()
    yield _Card()
    twins._triton.cache_clear()


def pretend(monkeypatch: pytest.MonkeyPatch, check: Any) -> Any:
    scan = SimpleNamespace(check=check)
    monkeypatch.setattr(twins.importlib, "import_module", lambda name: scan)
    return scan


def test_where_triton_works_it_is_taken_and_tried_once(card: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[torch.device] = []
    scan = pretend(monkeypatch, tried.append)
    assert twins.leaky(card, 5) is scan
    assert twins.leaky(card, 5) is scan
    assert tried == [card.device]


def test_never_is_never_on_a_gpu_too(card: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, lambda device: None)
    monkeypatch.setenv("SNN_COMPILED", "0")
    assert twins.leaky(card, 5) is None


def test_where_triton_is_broken_one_line_says_so_and_pytorch_computes(
    card: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(device: torch.device) -> None:
        raise RuntimeError("Failed to find C compiler.\nand much more")

    pretend(monkeypatch, broken)
    with pytest.warns(
        UserWarning, match=r"Triton does not work on cuda:0: Failed to find C compiler\."
    ) as seen:
        assert twins.leaky(card, 5) is None
    assert twins.leaky(card, 5) is None
    assert len(seen) == 1
    assert "\n" not in str(seen[0].message)


def test_without_triton_pytorch_computes_and_nothing_is_said(
    card: Any, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    def absent(name: str) -> Any:
        raise ImportError("No module named 'triton'")

    monkeypatch.setattr(twins.importlib, "import_module", absent)
    assert twins.leaky(card, 5) is None
    assert not recwarn.list


def test_a_half_installed_triton_is_told_and_pytorch_computes(
    card: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(name: str) -> Any:
        raise RuntimeError("0 active drivers ([]). There should only be one.")

    monkeypatch.setattr(twins.importlib, "import_module", half)
    with pytest.warns(UserWarning, match="0 active drivers"):
        assert twins.leaky(card, 5) is None


def test_other_types_and_the_alif_scan_stay_in_pytorch(card: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, lambda device: None)
    assert twins.compiled(card, 5) is None
    card.dtype = torch.float16
    assert twins.leaky(card, 5) is None


def test_triton_is_not_imported_on_a_cpu() -> None:
    code = (
        "import sys, torch; from snn_course.networks import neurons; neurons.leaky(torch.rand(5, 3), 0.9);"
        "print('triton' in sys.modules)"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, env=dict(os.environ), capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


class _Event:
    """An event of the GPU's clock, on a machine without a GPU."""

    def __init__(self, enable_timing: bool) -> None:
        self.seconds = 0.0

    def record(self) -> None:
        self.seconds = time.perf_counter()

    def synchronize(self) -> None:
        pass

    def elapsed_time(self, later: Any) -> float:
        return 1000 * (later.seconds - self.seconds)


@pytest.fixture
def benchmark() -> Any:
    return lesson.load("benchmarks/gpu_scans")


def test_the_benchmark_says_in_one_line_that_there_is_no_gpu(
    benchmark: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu_scans.py"])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert benchmark.main() == 2
    assert capsys.readouterr() == ("", "not measured: no GPU\n")


def test_the_benchmark_prints_its_tables(
    benchmark: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SNN_COMPILED", "0")  # else, after much work in this process, there is a twin for CPUs
    monkeypatch.setattr(torch.cuda, "Event", _Event)
    monkeypatch.setattr(benchmark, "SHAPES", ((5, 2, 3),))
    device = torch.device("cpu")
    forwards = benchmark.rivals(device)
    assert benchmark.compare(device)
    benchmark.table(forwards, device, rounds=1)
    printed = capsys.readouterr().out
    assert "course, Triton: not measured" in printed
    assert re.search(r"\[5, 2, 3\]\n +course, PyTorch +[0-9.]+ \(1\.00\)", printed)
