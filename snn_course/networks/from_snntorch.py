"""What learners bring from ``snn.Leaky`` 1.0: its options, its ``state_dict``, its reset without a delay.

    Leaky(beta=0.9, spike_grad=surrogate.atan(), reset_mechanism="zero")     # its names are understood
    Leaky().load_state_dict(torch.load("lif.pt"))                            # so is what it stored

What has no meaning for neurons that take all time steps at once is refused, in one sentence.
"""

from typing import Any

from snn_course.networks.surrogates import Surrogate, fire

import torch

NAMES = {"spike_grad": "surrogate", "reset_mechanism": "reset"}
"""Options that have another name here."""

USUAL = {
    "init_hidden": False,
    "output": False,
    "inhibition": False,
    "state_quant": False,
    "surrogate_disable": False,
    "graded_spikes_factor": 1.0,
    "learn_graded_spikes_factor": False,
}
"""Options that are taken at the value that changes nothing, and refused at others."""

REFUSED = {
    "init_hidden": "it keeps no state: it takes all time steps [T, B, ...] at once",
    "output": "it always gives spikes and membranes",
    "inhibition": "its neurons do not see one another; use snn.Leaky in a loop over the steps",
    "state_quant": "its membrane is not rounded; use snn.Leaky in a loop over the steps",
    "surrogate_disable": "detach the spikes instead",
    "graded_spikes_factor": "multiply the spikes that it gives by the factor",
    "learn_graded_spikes_factor": "multiply the spikes that it gives by a parameter of your own",
}

MECHANISMS = ("subtract", "zero", "none")
"""``reset_mechanism_val`` 0, 1, 2 of a stored ``snn.Leaky``."""


def translate(options: dict[str, Any]) -> dict[str, Any]:
    """Give ``snn.Leaky``'s options by this course's names.

    Raises:
        ValueError: an option that the course's neuron does not have.
        TypeError: a word that is no option of either.
    """
    found = {}
    for name, value in options.items():
        if name in NAMES:
            found[NAMES[name]] = value
        elif name == "reset_delay":
            found[name] = bool(value)
        elif name not in USUAL:
            raise TypeError(f"Leaky has no option {name!r}")
        elif _is_other(value, USUAL[name]):
            raise ValueError(f"Leaky does not take {name}={value}: {REFUSED[name]}")
    return found


def _is_other(value: Any, usual: Any) -> bool:
    return bool((value != usual).any()) if isinstance(value, torch.Tensor) else value != usual


def check_twice(options: dict[str, Any], reset: str, surrogate: Any) -> None:
    """Raise a ValueError for a setting that is given by both of its names."""
    if surrogate is not None and options.get("surrogate") is not None:
        raise ValueError("surrogate and spike_grad are two names for one thing: give one of them")
    if reset != "subtract" and options.get("reset", reset) != reset:
        raise ValueError("reset and reset_mechanism are two names for one thing: give one of them")


def check_beta(beta: torch.Tensor) -> None:
    """Raise a ValueError for a beta outside 0..1, which often is a time constant."""
    if not ((beta >= 0) & (beta <= 1)).all():
        wrong = beta[~((beta >= 0) & (beta <= 1))][0].item() if beta.dim() else beta.item()
        raise ValueError(
            f"beta is the share of the membrane that stays after a step, 0 to 1, not {wrong:g}; "
            "of a time constant tau in steps it is exp(-1 / tau)"
        )


def adapt(state_dict: dict[str, Any], prefix: str, lif: Any) -> Any:
    """Turn what ``snn.Leaky`` stored into what ``lif`` stores. Returns: the reset that it names, or lif's.

    Raises:
        ValueError: spikes were stored with a factor other than 1, or a number for each neuron, where lif has
            one for all (PyTorch would take the first of them).
    """
    for name in ("beta", "threshold"):
        stored = state_dict.get(f"{prefix}{name}", torch.ones(()))
        if stored.numel() > 1 and getattr(lif, name).dim() == 0:
            shape = list(stored.shape)
            raise ValueError(
                f"Leaky has one {name} and cannot load {shape}: make it with torch.ones({shape})"
            )
    factor = state_dict.pop(f"{prefix}graded_spikes_factor", torch.ones(()))
    if (factor != 1).any():
        why = REFUSED["graded_spikes_factor"]
        raise ValueError(f"Leaky cannot load graded_spikes_factor={factor}: {why}")
    state_dict.setdefault(f"{prefix}threshold", lif.threshold.detach())  # files of before it was a tensor
    mechanism = state_dict.pop(f"{prefix}reset_mechanism_val", None)
    return lif.reset if mechanism is None else MECHANISMS[int(mechanism)]


def at_once(
    cur: torch.Tensor,
    beta: torch.Tensor,
    threshold: torch.Tensor,
    reset: str,
    surrogate: Surrogate,
    mem: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Give what ``snn.Leaky(reset_delay=False)`` gives: a spike resets the membrane in its own step.

    Its gradient goes through that reset. It costs several operations a step, as in snnTorch. The membrane
    that is recorded is the one after the reset, so with "subtract" this is ``leaky``'s "subtract first", seen
    after the reset, as long as no membrane reaches twice the threshold.

    Args and returns: as ``neurons.leaky``.
    Raises: ValueError: for the reset "subtract first", which has no delay to leave out.
    """
    if reset not in MECHANISMS:
        raise ValueError(f"reset_delay=False goes with the resets {', '.join(MECHANISMS)}, not {reset!r}")
    beta, last = beta.clamp(0, 1), torch.zeros_like(cur[0]) if mem is None else mem
    record = []
    for cur_t in cur.unbind(0):
        fired = (last > threshold).to(cur.dtype)  # a membrane may still be above it
        left = last * (1 - fired) if reset == "zero" else last
        before = beta * left + cur_t - (fired * threshold if reset == "subtract" else 0)
        spk = fire(before - threshold, surrogate)
        taken = {"subtract": threshold, "zero": before, "none": 0 * before}[reset]
        last = before - (spk - fired) * taken
        record.append((spk, last))
    spk_rec, mem_rec = zip(*record, strict=True)
    return torch.stack(spk_rec), torch.stack(mem_rec)  # [T, ...]
