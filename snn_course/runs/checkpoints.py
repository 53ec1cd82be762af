"""Trained weights on disk, each file with a card that tells how they were made.

A script keeps ``<name>.pt`` and ``<name>.json`` in its results folder. Both can be copied to the folder of
what comes with the course, from where they serve everybody.
"""

import itertools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snn_course.runs import provenance
from snn_course import UsageError, reason_of, results_dir, safe_write
from snn_course.runs.run import Run

if TYPE_CHECKING:
    import torch


def keep(run: Run, name: str, net: "torch.nn.Module", card: dict[str, Any]) -> None:
    """Keep weights and card in the run's folder, each whole or not at all. First seed only.

    Other weights of that name, from an earlier run, stay beside them with a number: ``<name>.1.pt``.
    """
    if not run.is_first_seed:
        return
    set_aside(run, name, net)
    run.keep(name, net.state_dict())
    told = provenance.describe(run.config, run.script, run.device)
    shown = {key: told[key] for key in ("command", "commit", "scale", "hardware", "versions", "config")}
    write_card(run.folder, name, shown | {"seed": run.seed} | card)


def set_aside(run: Run, name: str, net: "torch.nn.Module") -> None:
    """Copy the agent that lies in the run's folder, unless it is this one: a trial costs no long training."""
    path = run.folder / f"{name}.pt"
    if path.is_file() and not _is_kept(net, path):
        run.console.print(f"  {name} of an earlier run stays as {copy_aside(path).name}")


def copy_aside(path: Path) -> Path:
    """Copy what lies at ``path``, and its card, to names with a free number. Returns: the new path."""
    name = path.stem
    number = next(n for n in itertools.count(1) if not path.with_name(f"{name}.{n}.pt").exists())
    for old in (path, path.with_suffix(".json")):
        if old.is_file():
            safe_write.write(path.with_name(f"{name}.{number}{old.suffix}"), old.read_bytes())
    return path.with_name(f"{name}.{number}.pt")


def _is_kept(net: "torch.nn.Module", path: Path) -> bool:
    """Whether a file holds just these weights."""
    import torch

    new = net.state_dict()
    try:
        old = read(path)
        return old.keys() == new.keys() and all(
            torch.equal(old[key], value.cpu()) if torch.is_tensor(value) else old[key] == value
            for key, value in new.items()
        )
    except Exception:  # damaged, or no such weights: it is another agent
        return False


def write_card(folder: Path, name: str, card: dict[str, Any]) -> None:
    """Write the card of an agent into a folder."""
    text = json.dumps(card, indent=1, default=str)
    safe_write.write(folder / f"{name}.json", text + "\n")


def find(name: str, scale: str, script: str, shipped: Path) -> Path:
    """Give the path of an agent's weights: the learner's own at this scale, else the shipped ones.

    Args:
        name: of the agent.
        scale: of the learner's run.
        script: whose results are looked through; its steps have folders that begin so.
        shipped: folder of what came with the course.

    Raises: UsageError when there are neither.
    """
    own = sorted(results_dir().glob(f"{script}*/{scale}/{name}.pt"))
    if own:
        return own[-1]
    if (shipped / f"{name}.pt").is_file():
        return shipped / f"{name}.pt"
    raise UsageError(f"There is no agent '{name}': neither in {results_dir()} nor in {shipped}.")


def origin(name: str, path: Path, shipped: Path) -> str:
    """Say in a sentence whose the agent at ``path`` is."""
    if path.parent == shipped:
        return f"The agent '{name}' came with the course."
    return f"The agent '{name}' is your own: {path}."


def card(path: Path) -> dict[str, Any]:
    """Read the card beside the weights at ``path``. Raises: UsageError where it is missing or damaged."""
    try:
        found = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict):
        raise UsageError(f"{path.with_suffix('.json')} is missing or damaged.")
    return found


def load(net: "torch.nn.Module", path: Path) -> None:
    """Fill a network with kept weights. Raises: UsageError for a missing, damaged or foreign file."""
    weights = read(path)
    try:
        net.load_state_dict(weights)
    except Exception as error:  # it is not even a dict, or does not fit
        raise UsageError(f"{path} is of another network: {_short(error)}") from None


def read(path: Path) -> Any:
    """Read what a run has kept. Raises: UsageError for a missing or damaged file."""
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UsageError(f"{path} is missing.") from None
    except Exception as error:  # torch raises a dozen kinds for a damaged file
        raise UsageError(f"{path} is damaged: {_short(error)}") from None


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:100] or reason_of(error)
