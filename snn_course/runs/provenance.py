"""Where a run's numbers come from: what was run, with which settings and versions, on what machine."""

import dataclasses
import importlib.metadata
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snn_course import ROOT, workspace_dir
from snn_course.runs.command import command
from snn_course.runs.scripts import card_of

if TYPE_CHECKING:
    from snn_course.runs.settings import Config

    import torch

SHARED = "SNN_SHARED"
"""The variable that tells a script: others run beside it, so it takes one core, and its times are rough."""
PACKAGES = ("torch", "snntorch", "numpy", "torchvision", "tonic", "nir", "akida", "tensorflow", "gymnasium")


def is_shared() -> bool:
    """Say whether other scripts of the course run beside this one."""
    return os.environ.get(SHARED) == "1"


def name_of(config: "Config", script: Path) -> str:
    """Name a run as its results folder is called: the script's stem, and the part that runs.

    A learner's own script gets ``_own``: it may have the name of the course's, whose results stay beside.
    """
    own = "own" if is_own(script) else ""
    return "_".join(filter(None, (script.stem, config.part, own)))


def is_own(script: Path) -> bool:
    """Say whether a script is the learner's: it lies in the workspace."""
    return script.resolve().parent == workspace_dir().resolve()


def stamp_of(scale: str, data: Iterable[Mapping[str, Any]]) -> str:
    """Say in one line what a figure was made from: ``quick scale; MNIST, 2000 of 60000 training images``."""
    return "; ".join([f"{scale} scale", *(entry["as_used"] for entry in data)])


def describe(config: "Config", script: Path, device: "torch.device") -> dict[str, Any]:
    """Give the entries of metrics.json that say what was run, with what, and where."""
    card = card_of(script)
    return {
        "schema": 1,
        "lesson": name_of(config, script),
        "title": ": ".join(filter(None, (card["title"], config.part))),
        "question": card["question"],
        "scale": config.scale,
        "seed": config.seed,
        "seeds": config.seeds,
        "command": command(config, script),
        "config": {k: str(v) if isinstance(v, Path) else v for k, v in dataclasses.asdict(config).items()},
        "commit": _commit(),
        "device": str(device),
        "hardware": _hardware(device),
        "versions": {"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in PACKAGES if name in sys.modules},
    }


def _commit() -> str | None:
    """Name the commit that ran; ``-changed`` says that a Python file differs from it."""
    try:
        head = _git("rev-parse", "--short", "HEAD")
        if head.returncode:
            return None
        changed = _git("diff", "--quiet", "HEAD", "--", "*.py").returncode
    except (OSError, subprocess.TimeoutExpired):
        return None
    return head.stdout.strip() + ("-changed" if changed else "")


def _git(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["git", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=10, check=False
    )


def _hardware(device: "torch.device") -> str:
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpu = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.exists():
        cpu = model_of(info.read_text(encoding="utf-8")) or cpu
    beside = ", beside other scripts" if is_shared() else ""
    threads = torch.get_num_threads()
    used = f"{threads} thread{'s' * (threads > 1)}"
    return f"{cpu or platform.machine()}, {os.cpu_count()} cores, {used}{beside}"


def model_of(cpuinfo: str) -> str | None:
    """Find the processor's name in Linux's words, or a Raspberry Pi's own; None where there is neither."""
    found = re.search(r"^(?:model name|Model)\s*:\s*(.+)", cpuinfo, re.MULTILINE)
    return found[1] if found else None
