"""The probes of the environment test. Each runs in a process of its own, so it may hang or crash.

A probe returns lines, and what it raises becomes a failed line. Packages are imported inside the probes, so
that this module itself needs the standard library only.
"""

from __future__ import annotations

import dataclasses
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from snn_course import ROOT, data_dir, journal_file
from snn_course.machine import causes, foreign, installed

EVERY_LESSON = {"filelock", "matplotlib", "numpy", "rich", "snntorch", "torch", "tyro"}
"""Packages without which not even lesson 01 starts: all that the profile `any` asks for."""

IDX_FILES = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
IDX = [f"raw/{name}-ubyte" for name in IDX_FILES]
WHOLE = {
    "MNIST": IDX,
    "FashionMNIST": IDX,
    "cifar-10-batches-py": [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"],
}
"""Files of the image sets, by the name of their folder."""


@dataclasses.dataclass(frozen=True)
class Line:
    """What a probe found. `status` is ok, fail, skip, or amiss: fail where it is required, else skip."""

    status: str
    detail: str
    name: str = ""
    fix: str = ""
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)
    required: bool | None = None


class NotHereError(Exception):
    """The check makes no sense on this host; the message says why."""


def answer(probe: Callable[..., list[Line]], *arguments: str) -> list[Line]:
    """Run one probe, and turn whatever it raises into a line."""
    try:
        return probe(*arguments)
    except NotHereError as reason:
        return [Line("skip", str(reason))]
    except ModuleNotFoundError as error:
        missing = (error.name or "").split(".")[0]
        if missing and absent(missing):
            return [Line("amiss", f"{missing} is not installed", facts={"missing": missing})]
        return [_failed(error)]
    except BaseException as error:  # SystemExit too: a package may do anything when it is imported
        return [_failed(error)]


def absent(module: str) -> bool:
    """Tell whether a module is not installed, without importing it."""
    try:
        return find_spec(module) is None
    except (ImportError, ValueError):
        return False


def _failed(error: BaseException) -> Line:
    """Name what was raised, and what mends it where the cause is known."""
    cause = causes.known(str(error))
    return Line("fail", causes.told(error), fix=cause.fix if cause else "")


# ====================================================================== host and packages


def host() -> list[Line]:
    """Operating system, processor, cores."""
    facts = {"system": platform.system(), "release": platform.release(), "machine": platform.machine()}
    cores = os.cpu_count() or 1
    return [Line("ok", f"{' '.join(facts.values())}, {cores} cores", facts=facts | {"cores": cores})]


def interpreter() -> list[Line]:
    """Python 3.11 or 3.12, 64 bit: what all pinned wheels exist for."""
    bits = 64 if sys.maxsize > 2**32 else 32
    said = f"{platform.python_version()}, {bits} bit"
    if sys.version_info[:2] in ((3, 11), (3, 12)) and bits == 64:
        return [Line("ok", said)]
    return [Line("fail", f"{said}; the course needs 3.11 or 3.12, 64 bit", fix="uv venv --python 3.12 .venv")]


def variables() -> list[Line]:
    """Variables that another program left in the environment."""
    found = foreign.found()
    if not found:
        return [Line("ok", "no variable of another program is in the way")]
    return [
        Line(
            "fail",
            f"{name}={value} is set: {foreign.FOREIGN[name]}; course.py and this test leave it out",
            fix=foreign.unset(name),
        )
        for name, value in found
    ]


def packages(profile: str) -> list[Line]:
    """Installed against pinned version: a line for each direct dependency, one for all the others."""
    file = installed.requirements_file(profile)
    if not file.is_file():
        return [Line("fail", f"{file.name} is missing", fix=f"git checkout -- {file.name}")]
    pins, strange = installed.parse(file.read_text(encoding="utf-8"))
    lines = [Line("fail", f"not a pinned package in {file.name}: {text}") for text in strange]
    compared = [(pin, line) for pin in pins if (line := _compare(pin, profile))]
    lines += [
        line for pin, line in compared if pin.direct or (line.status != "ok" and line.facts["installed"])
    ]
    return [*lines, _indirect([line for pin, line in compared if not pin.direct], profile, file)]


def _indirect(lines: list[Line], profile: str, file: Path) -> Line:
    """Sum up the packages that no lesson imports by itself; a wrong version has a line of its own."""
    right = sum(line.status == "ok" for line in lines)
    missing = [line.facts["package"] for line in lines if not line.facts["installed"]]
    if not missing:
        return Line("ok", f"{right} more, which those need, have their pinned version")
    names = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
    said = f"not installed, but needed: {names}"
    facts = {"missing_packages": missing}
    return Line("amiss", said, fix=installed.all_packages(file), facts=facts, required=profile != "any")


def _compare(pin: installed.Pin, profile: str) -> Line | None:
    """Compare one pin with what is installed; None where the pin is not for this host."""
    applies = installed.applies(pin.marker)
    if applies is False or installed.excused(pin.name):
        return None
    have = installed.version_of(pin.name)
    required = profile != "any" or pin.name in EVERY_LESSON
    about: dict[str, Any] = {"name": f"package {pin.name}", "required": required}
    facts = {"package": pin.name, "installed": have, "pinned": pin.version, "direct": pin.direct}
    if applies is None:
        return Line(
            "skip", f"cannot judge '{pin.marker}' without the package packaging", **about, facts=facts
        )
    if have is None:
        return Line("amiss", f"not installed, pinned {pin.version}", **about, facts=facts)
    if not installed.same_version(have, pin.version):
        return Line("amiss", f"{have} installed, pinned {pin.version}", **about, facts=facts)
    return Line("ok", f"{have} (pinned {pin.version})", **about, facts=facts)


# ====================================================================== PyTorch and what stands on it


def pytorch() -> list[Line]:
    """PyTorch starts, and for which kind of GPU it was built."""
    import torch

    return [Line("ok", f"{torch.__version__}, {build_of(torch)}")]


def build_of(torch: Any) -> str:
    """Say what a PyTorch was built for. ROCm answers to the name cuda, so only `hip` tells the two apart."""
    if torch.version.hip:
        return f"ROCm, HIP {torch.version.hip}"
    return f"CUDA {torch.version.cuda}" if torch.version.cuda else "built for the CPU only"


def neuron() -> list[Line]:
    """Three steps of a snnTorch Leaky neuron on the device that the lessons will use."""
    import snntorch
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    leaky = snntorch.Leaky(beta=0.9, threshold=1.0)
    mem, spikes = torch.zeros(1, device=device), []
    for _ in range(3):
        spk, mem = leaky(torch.full((1,), 0.6, device=device), mem)
        spikes.append(int(spk.item()))
    # By hand: 0.6; 0.54 + 0.6 = 1.14, a spike; 1.026 + 0.6 - 1 = 0.626.
    right = spikes == [0, 1, 0] and abs(float(mem) - 0.626) < 1e-5
    said = f"Leaky on {device}, spikes {spikes}, mem {float(mem):.3f}"
    return [Line("ok", said) if right else Line("fail", f"{said}; right is [0, 1, 0], 0.626")]


def tonic_sets() -> list[Line]:
    """Tonic's data set classes."""
    from tonic import datasets

    names = sorted(name for name, kind in vars(datasets).items() if isinstance(kind, type))
    lacking = sorted({"DVSGesture", "NMNIST", "SHD"} - set(names))
    if lacking:
        return [Line("fail", f"no class {', '.join(lacking)} in tonic.datasets")]
    return [Line("ok", f"{len(names)} data set classes, among them DVSGesture, NMNIST, SHD")]


def nir_graph() -> list[Line]:
    """A NIR graph of one neuron, and the two packages between PyTorch and NIR."""
    import nir
    import nirtorch  # noqa: F401
    import numpy as np

    one = np.ones(1)
    graph = nir.NIRGraph.from_list(
        nir.Linear(weight=one[None]), nir.LIF(tau=one, r=one, v_leak=0 * one, v_threshold=one)
    )
    return [Line("ok", f"a graph of {len(graph.nodes)} nodes, {len(graph.edges)} edges")]


def pong() -> list[Line]:
    """One hundred frames of Pong in the Arcade Learning Environment."""
    import ale_py
    import gymnasium

    gymnasium.register_envs(ale_py)
    env = gymnasium.make("ALE/Pong-v5")
    env.action_space.seed(0)
    frame, _ = env.reset(seed=0)
    for _ in range(100):
        frame, _, ended, cut, _ = env.step(env.action_space.sample())
        if ended or cut:
            env.reset()
    env.close()
    return [Line("ok", f"ALE/Pong-v5 stepped 100 frames of {frame.shape}")]


# ====================================================================== what a few lessons like to have


def v2e() -> list[Line]:
    """The video-to-event converter of lesson 04, which the lesson can do without."""
    if absent("v2ecore"):
        reason = "not installed; lesson 04 uses its own pixel model"
        return [Line("skip", reason, fix=installed.v2e())]
    from v2ecore.emulator import EventEmulator

    return [Line("ok", f"{EventEmulator.__name__} starts")]


def browser() -> list[Line]:
    """A Chromium, Chrome or Edge for the browser games of Capstone B: found, not started."""
    for name in ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge"):
        if path := shutil.which(name):
            return [Line("ok", path)]
    for path_ in _usual_browsers():
        return [Line("ok", str(path_))]
    fix = f"{installed.python()} -m playwright install chromium"
    return [Line("skip", "no Chromium, Chrome or Edge; only Capstone B needs it", fix=fix)]


def _usual_browsers() -> Iterator[Path]:
    """List browsers in places that are not on the PATH: Playwright's own, Windows' and macOS' folders."""
    home = Path.home()
    own = os.environ.get("PLAYWRIGHT_BROWSERS_PATH")
    caches = [Path(own)] if own else [home / ".cache", home / "Library/Caches", home / "AppData/Local"]
    for cache in caches:
        yield from (cache if own else cache / "ms-playwright").glob("chromium-*")
    for variable in ("PROGRAMFILES", "PROGRAMFILES(X86)", "LOCALAPPDATA"):
        for program in ("Google/Chrome/Application/chrome.exe", "Microsoft/Edge/Application/msedge.exe"):
            if (file := Path(os.environ.get(variable) or "/nowhere", program)).is_file():
                yield file
    for program in ("Chromium", "Google Chrome", "Microsoft Edge"):
        if (file := Path(f"/Applications/{program}.app")).exists():
            yield file


def data_sets() -> list[Line]:
    """Data sets that are here already; the lessons fetch what they need."""
    folder = data_dir()
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    names = [path.name for path in found if path.name != "cache" and _is_whole(path)]
    if not names:
        return [Line("skip", "none yet; the lessons fetch what they need")]
    shown = folder.relative_to(ROOT) if folder.is_relative_to(ROOT) else folder
    return [Line("ok", f"{', '.join(names)} in {shown}", facts={"folder": str(folder), "sets": names})]


def _is_whole(folder: Path) -> bool:
    """Say whether a set's files are there: its folder alone, or a part of them, is no set."""
    wanted = WHOLE.get(folder.name)
    if wanted is None:
        return any(file.is_file() and file.stat().st_size for file in folder.rglob("*"))
    return all(any((folder / f"{name}{end}").is_file() for end in ("", ".gz")) for name in wanted)


def journal() -> list[Line]:
    """Write the block that arrives on standard input into the learner's journal."""
    from snn_course.journal.blocks import write_block

    warning = write_block(journal_file(), "00_environment_test", sys.stdin.read())
    return [Line("fail" if warning else "ok", warning or "written")]
