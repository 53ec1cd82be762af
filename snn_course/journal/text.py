"""The words of the journal: its template, and the Markdown of one measured block."""

import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from snn_course import journal_file, results_dir

_HEAD = """\
# Journal

My log of the course: what the scripts measured, and what I made of it.

- **Scripts write** the measured blocks, and only those. Each stands between two marker comments, which the
  rendered page does not show. A new run replaces its block where it stands.
- **I write** everything else, anywhere: before, between and after the blocks.
- Notes typed inside a block are not lost: the script keeps that block and puts its next one below it.
- A line such as `measured:here 01_lif_neuron`, as a comment, is the place where that lesson's blocks appear.
  Move it, and new blocks appear there; delete it, and they go to the end of this file.

## My machines

| | PC | Raspberry Pi |
|---|---|---|
| Model, processor | | |
| Memory | | |
| GPU and its memory | | none |
| Operating system, kernel | | |
| Python, torch, snnTorch | | |
| Akida (card or simulator) | | |
| Notes | | |
"""

_LESSON = """
## {title}

<!-- measured:here {stem} -->

- Reading done:
- Quiz score:
- Weak areas:
- Code I changed or wrote:
- Key insight, in one sentence:
- Discoveries and open questions:
"""

_PROJECT = """
## {title}

<!-- measured:here {stem} -->

- Reading done:
- Quiz score:
- Weak areas:
- Choices and why ({choices}):
- What worked, what did not:
- Key insight, in one sentence:
- Discoveries and open questions:

### Analysis

({analysis})
"""

_TAIL = """
## Side quests

Experiments of my own, newest first: the question, the command, what came out.
"""

_PARTS: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    (
        "# Part 1: spikes",
        (
            ("00_environment_test", "Lesson 00: what works on this machine"),
            ("01_lif_neuron", "Lesson 01: the leaky integrate-and-fire neuron"),
            ("02_spike_encoding", "Lesson 02: turning data into spikes"),
            ("03_spike_visualization", "Lesson 03: reading spike trains"),
            ("04_event_cameras_v2e", "Lesson 04: event cameras"),
            ("05_population_coding", "Lesson 05: many noisy neurons, one precise answer"),
        ),
    ),
    (
        "# Part 2: training",
        (
            ("06_synaptic_currents", "Lesson 06: synapses with a time constant"),
            ("07_surrogate_gradients", "Lesson 07: a gradient for a step function"),
            ("08_feedforward_snn", "Lesson 08: a network of spiking layers"),
            ("09_training_bptt", "Lesson 09: training through time"),
            ("milestone_a_fashion_mnist", "Milestone A: my own network on Fashion-MNIST"),
        ),
    ),
    (
        "# Part 3: scale and hardware",
        (
            ("10_convolutional_snn", "Lesson 10: convolutions and residual connections"),
            ("11_neuromorphic_data_tonic", "Lesson 11: recorded events with Tonic"),
            ("12_hardware_deep_dive", "Lesson 12: clocked processors against the event-driven chip"),
        ),
    ),
    (
        "# Part 4: the field",
        (
            ("13_recurrent_snn", "Lesson 13: recurrence and longer memory"),
            ("14_loss_and_regularization", "Lesson 14: fewer spikes for the same answer"),
            ("15_stdp_online_learning", "Lesson 15: STDP, e-prop and local learning"),
            ("16_ann_to_snn", "Lesson 16: converting a trained network"),
            ("17_energy_and_export", "Lesson 17: counting operations, exporting to NIR"),
            ("18_spiking_transformers", "Lesson 18: attention made of spikes"),
            ("19_akida_deployment", "Lesson 19: low-bit weights on the Akida chip"),
            ("20_spiking_mamba_ssm", "Lesson 20: spiking state space models"),
        ),
    ),
    (
        "# Capstones",
        (
            ("capstone_pong", "Capstone A: Pong on silicon"),
            ("capstone_gameworld", "Capstone B: one browser game in real time"),
        ),
    ),
)

_PROJECTS = {
    "milestone_a_fashion_mnist": (
        "neuron, encoding, layers, loss",
        "One page: how does sparsity change from layer to layer? What does a point of accuracy cost?",
    ),
    "capstone_pong": (
        "perception, policy, training, quantisation",
        "Reward against spikes, where the latency goes, what each ablation changed, what failed and why.",
    ),
    "capstone_gameworld": (
        "game, perception, policy, training",
        "What changed from Pong to a browser game, where the network held up, where it broke, where it lost.",
    ),
}


def template() -> str:
    """Return the journal of a learner who has not started yet. The committed `journal.md` equals it."""
    sections = [
        f"\n{heading}\n" + "".join(_section(stem, title) for stem, title in lessons)
        for heading, lessons in _PARTS
    ]
    return _HEAD + "".join(sections) + _TAIL


def _section(stem: str, title: str) -> str:
    if stem not in _PROJECTS:
        return _LESSON.format(title=title, stem=stem)
    choices, analysis = _PROJECTS[stem]
    return _PROJECT.format(title=title, stem=stem, choices=choices, analysis=analysis)


def block_of(metrics: Mapping[str, Any]) -> str:
    """Return the Markdown of a measured block from the content of a `metrics.json`.

    Figures are linked relative to the journal's folder, so the links work on GitHub and in an editor.
    """
    parts = ["  \n".join([_headline(metrics), *_data(metrics["data"])])]
    sentences = [f"- {_cell(sentence['text'])}" for sentence in metrics.get("sentences", [])]
    if sentences:
        parts.append("\n".join(sentences))
    if metrics["measures"]:
        parts.append(_table(metrics["measures"]))
    notes = [f"- {_cell(m['name'])}: {_cell(m['note'])}" for m in metrics["measures"] if m["note"]]
    if notes:
        parts.append("\n".join(notes))
    if metrics["figures"]:
        links = [f"- {_link(metrics, figure)}" for figure in metrics["figures"]]
        parts.append("\n".join(["Figures:", *links]))
    return "\n\n".join(parts)


def _headline(metrics: Mapping[str, Any]) -> str:
    seeds = int(metrics["seeds"])
    facts = [
        f"**{metrics['started'][:10]}, scale {metrics['scale']}**",
        f"seed {metrics['seed']}" if seeds == 1 else f"{seeds} seeds from {metrics['seed']}",
        f"{_number(metrics['seconds'])} s on {_cell(metrics['device'])} ({_cell(metrics['hardware'])})",
        f"commit {metrics['commit']}" if metrics["commit"] else "no commit",
    ]
    return ", ".join(facts)


def _data(data: Iterable[Mapping[str, Any]]) -> list[str]:
    lines = []
    for used in data:
        label = "Stand-in data, so goals are suspended" if used["stand_in"] else "Data"
        lines.append(f"{label}: {_cell(used['as_used'])}")
    return lines


def _table(measures: Iterable[Mapping[str, Any]]) -> str:
    rows = ["| measure | value | goal | met |", "|---|---:|---:|---|"]
    for measure in measures:
        name = f"**{_cell(measure['name'])}**" if measure["headline"] else _cell(measure["name"])
        cells = (name, _value(measure), _goal(measure), _met(measure))
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def _value(measure: Mapping[str, Any]) -> str:
    if measure["mean"] is None:
        return "not measured"
    if measure["kind"] == "proof":  # it must hold for each seed: the worst error counts, not the mean
        worst = max(measure["values"], key=lambda error: (math.isnan(error), error))
        return f"{_number(worst)} {_cell(measure['unit'])}".rstrip()
    text = _number(measure["mean"])
    if measure["std"] is not None:
        text += f" ± {measure['std']:.2g}"
    return f"{text} {_cell(measure['unit'])}".rstrip()


def _goal(measure: Mapping[str, Any]) -> str:
    signs = (("≥", measure["at_least"]), ("≤", measure["at_most"]))
    return ", ".join(f"{sign} {_number(bound)}" for sign, bound in signs if bound is not None)


def _met(measure: Mapping[str, Any]) -> str:
    if measure["met"] is None:
        return "suspended" if _goal(measure) else ""
    if measure["met"]:
        return "yes"
    return "slower, on this machine, then" if measure.get("speed") else "**no**"


def _link(metrics: Mapping[str, Any], figure: Mapping[str, Any]) -> str:
    file = (results_dir() / metrics["lesson"] / metrics["scale"] / figure["file"]).resolve()
    try:
        address = quote(Path(os.path.relpath(file, journal_file().resolve().parent)).as_posix())
    except ValueError:  # on Windows, another drive has no relative path
        address = file.as_uri()
    return f"[{_cell(figure['title']).translate(_BRACKETS)}]({address})"


_BRACKETS = str.maketrans({"[": r"\[", "]": r"\]"})


def _number(value: float) -> str:
    """Four significant digits, without an exponent for the numbers of daily life."""
    if abs(value) < 1e15 and value == int(value):
        return str(int(value))
    return f"{value:.0f}" if 1000 <= abs(value) < 1e9 else f"{value:.4g}"


def _cell(text: object) -> str:
    """Text for one cell of a Markdown table: one line, no column break."""
    return " ".join(str(text).split()).replace("|", r"\|")
