"""The GPU, played by doubles: each way to have none that works has a sentence of its own."""

import os
import platform
import sys
import warnings
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from snn_course.machine import gpu_probe, graphics, installed
from snn_course.machine.graphics import Card
from snn_course.machine.probes import Line
from tests.machine.doubles import ask, fake

import pytest

TORCH = """
class version:
    hip, cuda = {hip!r}, {cuda!r}
class _Properties:
    name, total_memory, multi_processor_count = "AMD Radeon RX 7900 XTX", 24 * 2**30, 48
class cuda:
    is_available = staticmethod(lambda: {available})
    device_count = staticmethod(lambda: 1)
    get_device_properties = staticmethod(lambda index: _Properties)
    init = staticmethod(lambda: None)
class ones:
    def __init__(self, *shape, device): pass
    def __matmul__(self, other): return self
    def sum(self): return {total}
"""


@pytest.mark.parametrize(
    ("values", "status", "said"),
    [
        ({"hip": "7.2.1", "cuda": None}, "ok", "AMD Radeon RX 7900 XTX, 24.0 GB, ROCm, HIP 7.2.1"),
        ({"hip": None, "cuda": "12.8"}, "ok", "AMD Radeon RX 7900 XTX, 24.0 GB, CUDA 12.8"),
        ({"hip": "7.2.1", "cuda": None, "total": 1}, "fail", "computes 1.0 where 262144 is right"),
    ],
)
def test_rocm_is_told_apart_from_cuda(
    values: dict[str, Any], status: str, said: str, script: ModuleType, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    fake(tmp_path, "torch", TORCH.format(**{"available": True, "total": 64**3} | values))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    line = ask(script, "GPU")
    assert line.status == status
    assert said in line.detail


# ---------------------------------------------------------------------- in this process, with any cards

XTX = Card("AMD", "AMD Radeon RX 7900 XTX", False)
INSIDE = Card("AMD", "AMD Radeon(TM) Graphics", True)
GEFORCE = Card("NVIDIA", "NVIDIA GeForce RTX 3060", False)
ROCM, CUDA, CPU = ("7.2.1", None), (None, "12.8"), (None, None)


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A Windows machine without a graphics card and without a variable that hides one."""
    for name in ("HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(platform, "system", lambda: "Windows")
    monkeypatch.setattr(platform, "release", lambda: "11")
    monkeypatch.setattr(gpu_probe.shutil, "which", lambda _: None)
    monkeypatch.setattr(gpu_probe, "ROCM_GPU", tmp_path / "kfd")
    monkeypatch.setattr(gpu_probe, "WSL_GPU", tmp_path / "dxg")


def ones_double(fault: str) -> type:
    """Give ``torch.ones``, whose matrices are right, or cannot be made: ``fault`` says why."""

    class Ones:
        def __init__(self, *_: int, device: str) -> None:
            if fault:
                raise RuntimeError(fault)

        def __matmul__(self, other: "Ones") -> "Ones":
            return self

        def sum(self) -> int:
            return 64**3

    return Ones


def cuda_double(seen: tuple[tuple[str, int], ...], warning: str, error: str) -> SimpleNamespace:
    """Give ``torch.cuda`` that sees these devices, warns of something, and fails for a reason."""

    def available() -> bool:
        if warning:
            warnings.warn(warning, stacklevel=1)
        return bool(seen)

    def init() -> None:
        if error:
            raise RuntimeError(error)

    devices = [
        SimpleNamespace(name=name, multi_processor_count=count, total_memory=2**34) for name, count in seen
    ]
    return SimpleNamespace(
        is_available=available, init=init, device_count=lambda: len(devices),
        get_device_properties=devices.__getitem__,
    )  # fmt: skip


@pytest.fixture
def look(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Give the probe's line for a build, cards, what PyTorch sees and says, and how its matrices fare."""

    def probe(
        build: tuple[str | None, str | None],
        cards: tuple[Card, ...] = (),
        seen: tuple[tuple[str, int], ...] = (),
        warning: str = "",
        error: str = "",
        computes: str = "",
    ) -> Line:
        torch = SimpleNamespace(
            cuda=cuda_double(seen, warning, error),
            version=SimpleNamespace(hip=build[0], cuda=build[1]),
            ones=ones_double(computes),
        )
        monkeypatch.setitem(sys.modules, "torch", torch)
        monkeypatch.setattr(graphics, "cards", lambda *_: list(cards))
        (line,) = gpu_probe.gpu()
        return line

    return probe


def test_no_gpu_at_all(look: Any) -> None:
    for build, name in ((CUDA, "CUDA 12.8"), (ROCM, "ROCm, HIP 7.2.1"), (CPU, "built for the CPU only")):
        line = look(build, error="Found no NVIDIA driver on your system.")
        assert (line.status, line.fix) == ("skip", "")
        assert line.detail == f"PyTorch sees none ({name}); lessons run at --scale cpu"


# Wording: pytorch/pytorch#162531, TheRock#3392 and #5543, ROCm#5668, pytorch/pytorch#51213.
TOO_OLD = (
    "CUDA initialization: The NVIDIA driver on your system is too old (found version 11040). Please update "
    "your GPU driver by downloading and installing a new version from the URL: "
    "http://www.nvidia.com/Download/index.aspx Alternatively, go to: https://pytorch.org to install a "
    "PyTorch version that has been compiled with your version of the CUDA driver."
)
NO_CODE = (
    "HIP error: device kernel image is invalid\nSearch for `hipErrorInvalidImage' in https://docs.nvidia.com/"
    "cuda for more information.\nHIP kernel errors might be asynchronously reported at some other API call, "
    "so the stacktrace below might be incorrect.\nFor debugging consider passing AMD_SERIALIZE_KERNEL=3\n"
    "Compile with `TORCH_USE_HIP_DSA` to enable device-side assertions."
)


@pytest.mark.parametrize("where", ["warning", "error"])
def test_a_driver_of_nvidia_that_is_too_old(look: Any, where: str) -> None:
    line = look(CUDA, (GEFORCE,), **{where: TOO_OLD})
    assert line.status == "skip"
    assert "found version 11040" in line.detail
    assert line.detail.endswith("the NVIDIA driver is too old for this PyTorch (CUDA 12.8)")
    assert "nvidia.com/drivers" in line.fix


def test_a_driver_of_nvidia_that_is_missing(look: Any) -> None:
    line = look(
        CUDA, (GEFORCE,), error="Found no NVIDIA driver on your system. Please check that you have an"
    )
    assert line.detail == "PyTorch (CUDA 12.8) finds no NVIDIA driver, though NVIDIA GeForce RTX 3060 is here"


@pytest.mark.parametrize(
    "said", ["HIP driver version is insufficient for HIP runtime version", "hipErrorInsufficientDriver"]
)
def test_a_driver_of_amd_that_is_too_old(look: Any, said: str) -> None:
    line = look(ROCM, (XTX,), error=said)
    assert "the AMD driver is too old for this PyTorch" in line.detail
    assert "Adrenalin" in line.fix
    line = look(ROCM, (XTX,), error="No HIP GPUs are available")
    assert line.detail.endswith("though AMD Radeon RX 7900 XTX is here: its driver is too old or missing")


def test_a_pytorch_for_the_cpu_beside_an_amd_card_on_windows(look: Any) -> None:
    line = look(CPU, (INSIDE, XTX))
    said = "AMD Radeon RX 7900 XTX is here, but this PyTorch has no ROCm (built for the CPU only)"
    assert (line.status, line.detail) == ("skip", said)
    assert "README.md, 'Windows 11 with an AMD Radeon RX 7900 XTX', step 3" in line.fix
    assert look(CPU, (INSIDE,)).fix == "", "ROCm has no use for the GPU inside a processor"


def test_a_pytorch_for_the_cpu_beside_an_nvidia_card(look: Any) -> None:
    line = look(CPU, (GEFORCE,))
    assert line.detail == "an NVIDIA GPU is here, but this PyTorch has no CUDA"
    assert line.fix == installed.torch_for_cuda()


def test_wsl_without_its_device(look: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    for release in ("6.6.87.2-microsoft-standard-WSL2", "4.4.0-19041-Microsoft"):
        monkeypatch.setattr(platform, "release", lambda release=release: release)
        line = look(CUDA, error="Found no NVIDIA driver on your system.")
        assert line.detail == "WSL without /dev/dxg: Windows hands no GPU on to it"
        assert "wsl --update" in line.fix
    gpu_probe.WSL_GPU.touch()
    assert "WSL" not in look(CUDA).detail


def test_the_first_gpu_is_the_one_inside_the_processor(look: Any) -> None:
    seen = (("AMD Radeon(TM) Graphics", 1), ("AMD Radeon RX 7900 XTX", 48))
    line = look(ROCM, (INSIDE, XTX), seen)
    assert line.status == "fail"
    assert "first GPU, AMD Radeon(TM) Graphics; the larger AMD Radeon RX 7900 XTX is number 1" in line.detail
    assert "HIP_VISIBLE_DEVICES" in line.fix
    assert "1" in line.fix
    assert look(ROCM, (INSIDE, XTX), seen[::-1]).status == "ok"
    assert "CUDA_VISIBLE_DEVICES" in look(CUDA, (), (("GT 710", 1), ("RTX 3060", 28))).fix


@pytest.mark.parametrize(
    "said",
    [
        NO_CODE,
        "HIP error: invalid device function\nHIP kernel errors might be asynchronously reported",
        "rocBLAS error: Cannot read C:\\lib\\TensileLibrary.dat: No such file for GPU arch : gfx1036",
        '"hipErrorNoBinaryForGpu: Unable to find code object for all current devices!"',
    ],
)
def test_a_gpu_inside_the_processor_that_rocm_has_no_code_for(look: Any, said: str) -> None:
    seen = (("AMD Radeon RX 7900 XTX", 48), ("AMD Radeon(TM) Graphics", 1))
    line = look(ROCM, (INSIDE, XTX), seen, computes=said)
    assert line.status == "fail"
    assert said.splitlines()[0] in line.detail
    assert "the GPU inside the processor is in the way (AMD Radeon(TM) Graphics, AMD Radeon RX" in line.detail
    assert "HIP_VISIBLE_DEVICES" in line.fix
    alone = look(ROCM, (XTX,), seen[:1], computes=said)
    assert alone.detail.endswith("this PyTorch has no code for this GPU")
    assert "--device cpu" in alone.fix


@pytest.mark.parametrize("how", ["killed by SIGSEGV", "ended with code 0xc0000005"])
def test_pytorch_that_dies_beside_two_gpus_of_amd(
    how: str, script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wording and crash: TheRock#5543, where hiding the integrated GPU mended both."""
    monkeypatch.setattr(graphics, "cards", lambda *_: [INSIDE, XTX])
    monkeypatch.setattr(installed, "version_of", {"torch": "2.9.1+rocm7.2.1"}.get)
    monkeypatch.setattr(
        script.contained, "run", lambda *_, **__: SimpleNamespace(how=how, code=1, last_line="")
    )
    for name in ("PyTorch", "GPU"):
        line = ask(script, name)
        assert line.detail.startswith(f"{how}: the GPU inside the processor is in the way")
        assert "HIP_VISIBLE_DEVICES" in line.fix
    assert "HIP" not in ask(script, "TensorFlow").fix
    monkeypatch.setattr(graphics, "cards", lambda *_: [XTX])
    assert ask(script, "PyTorch").detail == how


def test_a_variable_that_hides_the_gpu(look: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    line = look(CUDA, (GEFORCE,))
    assert "CUDA_VISIBLE_DEVICES=-1 is set, which may hide one" in line.detail
    assert "CUDA_VISIBLE_DEVICES" in line.fix


def test_a_device_of_rocm_that_is_not_open(look: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu_probe.ROCM_GPU.touch()
    monkeypatch.setattr(os, "access", lambda *_: False)
    line = look(ROCM, (XTX,), error="No HIP GPUs are available")
    assert "not open to this user" in line.detail
    assert "usermod -aG render,video" in line.fix


# ---------------------------------------------------------------------- what is plugged in


def test_cards_of_a_windows_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names as Windows gives them: ROCm#5448."""
    names = "Parsec Virtual Display Adapter\r\nAMD Radeon(TM) Graphics\r\nAMD Radeon RX 7900 XTX\r\n"
    names += "NVIDIA GeForce RTX 4090\r\nIntel(R) UHD Graphics 770\r\nAMD Radeon 890M Graphics\r\n"
    monkeypatch.setattr(graphics.shutil, "which", lambda _: "powershell")
    monkeypatch.setattr(graphics.subprocess, "run", lambda *_, **__: SimpleNamespace(stdout=names.encode()))
    found = graphics.cards()
    assert [card.maker for card in found] == ["", "AMD", "AMD", "NVIDIA", "Intel", "AMD"]
    assert [card.integrated for card in found] == [False, True, False, False, True, True]
    assert [len(cards) for cards in graphics.amd()] == [1, 2]


@pytest.mark.parametrize("fault", [OSError("blocked"), graphics.subprocess.TimeoutExpired("x", 15)])
def test_a_windows_that_does_not_answer(fault: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise fault

    monkeypatch.setattr(graphics.shutil, "which", lambda _: "powershell")
    monkeypatch.setattr(graphics.subprocess, "run", refuse)
    assert graphics.cards() == []


def test_cards_of_a_linux_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    assert graphics.cards(tmp_path) == []
    bus = tmp_path / "sys/bus/pci/devices"
    for address, kind, vendor, memory in (
        ("03", "0x030000", "0x1002", f"{24 * 2**30}"),
        ("04", "0x040300", "0x1002", ""),  # its sound
        ("05", "0x030200", "0x10de", ""),
        ("12", "0x030000", "0x1002", f"{512 * 2**20}"),
    ):
        (bus / address).mkdir(parents=True)
        (bus / address / "class").write_text(f"{kind}\n")
        (bus / address / "vendor").write_text(f"{vendor}\n")
        if memory:
            (bus / address / "mem_info_vram_total").write_text(f"{memory}\n")
    separate, integrated = graphics.amd(tmp_path)
    assert [card.name for card in separate] == ["AMD GPU at 03, 24.0 GB"]
    assert [card.name for card in integrated] == ["AMD GPU at 12, 0.5 GB"]
    assert [card.maker for card in graphics.cards(tmp_path)] == ["AMD", "NVIDIA", "AMD"]
