"""How a finished run is described, and how its results are printed."""

import dataclasses
import importlib.metadata
import inspect
import math
import os
import platform
import re
import statistics
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snn_course import ROOT

if TYPE_CHECKING:
    from snn_course.lesson import Config

    import torch
    from rich.console import Console

PACKAGES = ("torch", "snntorch", "numpy", "torchvision", "tonic", "nir", "akida", "tensorflow", "gymnasium")


def name_of(config: "Config", script: Path) -> str:
    """Name a run as its results folder is called: the script's stem, and the part that runs."""
    return "_".join(filter(None, (script.stem, config.part)))


def describe(config: "Config", script: Path, device: "torch.device") -> dict[str, Any]:
    """Give the entries of metrics.json that say what was run, with what, and where."""
    card = card_of(script)
    shown = script.relative_to(ROOT).as_posix() if script.is_relative_to(ROOT) else script.name
    changed = [
        f"--{field.name.replace('_', '-')} {getattr(config, field.name)}"
        for field in dataclasses.fields(config)
        if field.name in ("seed", "seeds", "device", "threads")
        and getattr(config, field.name) != field.default
    ]
    return {
        "schema": 1,
        "lesson": name_of(config, script),
        "title": ": ".join(filter(None, (card["title"], config.part))),
        "question": card["question"],
        "scale": config.scale,
        "seed": config.seed,
        "seeds": config.seeds,
        "command": " ".join(["python", shown, *config.words, "--scale", config.scale, *changed]),
        "config": {k: str(v) if isinstance(v, Path) else v for k, v in dataclasses.asdict(config).items()},
        "commit": _commit(),
        "device": str(device),
        "hardware": _hardware(device),
        "versions": {"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in PACKAGES if name in sys.modules},
    }


def card_of(script: Path) -> dict[str, str]:
    """Read title and question from the docstring at the top of a script, without running it."""
    import ast

    doc = inspect.cleandoc(ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))) or script.stem)
    title = doc.splitlines()[0].split(": ", 1)[-1].rstrip(".")
    question = re.search(r"^Question:\s*(.+?)(?=^\S|\n\s*\n|\Z)", doc, re.MULTILINE | re.DOTALL)
    return {"title": title, "question": " ".join(question[1].split()) if question else ""}


def merged(title: str, table: dict[str, Any]) -> dict[str, Any]:
    """Give one table for all seeds: floats become mean ± standard deviation."""
    rows = []
    for same_row in zip(*table["runs"], strict=True):
        rows.append([_merged_cell(cells) for cells in zip(*same_row, strict=True)])
    return {"title": title, "columns": table["columns"], "rows": rows}


def _merged_cell(cells: tuple[Any, ...]) -> str:
    if not all(isinstance(cell, float) for cell in cells):
        return str(cells[0])
    mean = number(statistics.fmean(cells))
    return f"{mean} ± {spread(statistics.stdev(cells))}" if len(cells) > 1 else mean


def number(value: float) -> str:
    """Write a number with about four digits: 0.9783, 97.83, 1234, 1.2e-08."""
    if not math.isfinite(value) or value == 0:
        return f"{value:g}"
    if not 1e-3 <= abs(value) < 1e6:
        return f"{value:.1e}"
    return f"{value:.4g}" if abs(value) < 1000 else f"{value:.0f}"


def spread(std: float) -> str:
    """Write a standard deviation with two digits: what comes after them is noise itself."""
    return number(float(f"{std:.2g}"))


def line(name: str, value: float, unit: str, kind: str) -> str:
    """Say one measured value, as it is printed while the lesson runs."""
    shown = f"{number(value)} {unit}".rstrip()
    return f"proof: {name}: error {shown}" if kind == "proof" else f"{name}: {shown}"


def value_of(measure: dict[str, Any]) -> str:
    """Write a measure of metrics.json with its spread and unit: ``97.83 ± 0.07 %``."""
    deviation = "" if measure["std"] is None else f" ± {spread(measure['std'])}"
    return f"{number(measure['mean'])}{deviation} {measure['unit']}".rstrip()


def goal_of(measure: dict[str, Any]) -> str:
    """Write the bound of a measure: ``>= 97.5``, or nothing."""
    low, high = measure["at_least"], measure["at_most"]
    bounds = [] if low is None else [f">= {number(low)}"]
    return ", ".join(bounds if high is None else [*bounds, f"<= {number(high)}"])


def show(console: "Console", metrics: dict[str, Any], folder: Path, warning: str | None) -> None:
    """Print tables, measures and where they were stored; the last line names what was missed."""
    from rich.text import Text

    for entry in metrics["tables"]:
        _print_table(console, entry["title"], entry["columns"], entry["rows"])
    verdict = {True: "met", False: "MISSED", None: ""}
    rows = [[m["name"], value_of(m), goal_of(m), verdict[m["met"]]] for m in metrics["measures"]]
    _print_table(
        console, f"{metrics['title']}, scale {metrics['scale']}", ["measure", "value", "goal", ""], rows
    )
    for entry in metrics["data"]:
        note = " (stand-in: goals for the real data do not apply)" if entry["stand_in"] else ""
        console.print(Text(f"Data: {entry['as_used']}{note}"))
    console.print(Text(f"{metrics['seconds']:.1f} s on {metrics['device']}. Figures and metrics.json:"))
    console.print(Text(str(folder)), soft_wrap=True)  # one line, so that it can be copied
    if warning:
        console.print(Text(warning))
    missed = [m["name"] for m in metrics["measures"] if m["met"] is False]
    console.print(Text(f"Missed: {'; '.join(missed)}" if missed else "All proofs and goals met."))


def _print_table(console: "Console", title: str, columns: list[str], rows: list[list[str]]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for position, column in enumerate(columns):
        table.add_column(Text(column), justify="left" if position == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))
    console.print()
    console.print(Text(title, style="bold"))
    console.print(table)


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
        model = re.search(r"model name\s*:\s*(.+)", info.read_text(encoding="utf-8"))
        cpu = model[1] if model else cpu
    return f"{cpu or platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"
