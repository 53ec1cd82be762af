"""Figures that move: what the page computes is what the script computes, whatever the knobs say."""

import dataclasses
import html
import json
import re

from snn_course.runs import lesson, scripts
from snn_course import ROOT
from snn_course.teaching.book import live, pages

import pytest
import torch

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    """The course's pages, before anything is measured."""
    results = tmp_path_factory.mktemp("live")
    pages.write(results)
    return results / "book"


@pytest.fixture(scope="module")
def windows(chromium, book):
    """Open each script's page once, for it is long. Gives a function; the knobs are as they were at first."""
    opened = {}

    def window_of(stem):
        if stem not in opened:
            window = chromium.new_page(viewport={"width": 800, "height": 900})
            window.complaints = []
            window.on("console", lambda said: window.complaints.append(said.text))
            window.on("pageerror", lambda error: window.complaints.append(str(error)))
            window.goto((book / f"{stem}.html").as_uri())
            opened[stem] = window, window.evaluate(KNOBS)
        window, knobs = opened[stem]
        for name, value in knobs.items():
            set_knob(window, name, value)
        return window

    yield window_of
    for window, _ in opened.values():
        window.close()


KNOBS = """() => Object.fromEntries(
    [...document.querySelectorAll('.live input, .live select')].map(
        knob => [knob.id.replace('live-', ''), knob.value]
    )
)"""


def set_knob(window, name, value):
    """Turn a knob, as a reader would."""
    window.evaluate(
        """([name, value]) => {
            const input = document.getElementById(`live-${name}`);
            input.value = value;
            input.dispatchEvent(new Event('input', { bubbles: true }));
        }""",
        [name, str(value)],
    )
    shown = window.input_value(f"#live-{name}")
    assert shown == str(value), f"the knob {name} took {shown}"


@pytest.fixture
def figure(windows):
    """Show a script's page. Gives a function that turns knobs and returns what the page computed."""
    shown = []

    def start(stem):
        window = windows(stem)
        shown.append(window)

        def turn(**knobs):
            for name, value in knobs.items():
                set_knob(window, name, value)
            return json.loads(window.locator(".live").get_attribute("data-numbers"))

        turn.window = window
        return turn

    yield start
    for window in shown:
        assert not window.complaints


def tensor(numbers):
    return torch.tensor(numbers, dtype=torch.float64)


# ---------------------------------------------------------------------- the same numbers


@pytest.mark.parametrize("reset", ["subtract", "zero", "none"])
@pytest.mark.parametrize(
    ("beta", "threshold", "current"), [(0.9, 1, 0.2), (0.5, 0.35, 1.17), (0.97, 2, 0.13)]
)
def test_the_neuron_of_lesson_01(figure, reset, beta, threshold, current):
    page = figure("01_lif_neuron")(beta=beta, threshold=threshold, current=current, reset=reset)
    cur = torch.zeros(60, 1, dtype=torch.float64)
    cur[10:45] = current
    spk, mem = lesson.load(1).simulate(cur, beta, threshold, reset)
    assert page["spikes"] == spk[:, 0].tolist()
    assert page["membrane"] == mem[:, 0].tolist()
    assert spk.any()


@pytest.mark.parametrize("steps", [2, 7, 25, 50])
@pytest.mark.parametrize("x", [0, 0.01, 0.5, 0.63, 1])
def test_the_codes_of_lesson_02(figure, monkeypatch, x, steps):
    page = figure("02_spike_encoding")(steps=steps, x=x, draw=3)
    encoding = lesson.load(2)
    pixel = tensor([[x]])
    for name in ("latency", "phase"):
        spk = getattr(encoding, name)(pixel, steps)
        assert page[name] == spk.flatten().tolist(), name
        read = getattr(encoding, f"decode_{name}")(spk).item()
        assert page["read"][name] == pytest.approx(read, abs=1e-6), name  # the lesson's worths are float32
    monkeypatch.setattr(torch, "rand", lambda *shape, **options: tensor(page["chances"]).view(shape))
    spk = encoding.rate(pixel, steps)
    assert page["rate"] == spk.flatten().tolist()
    assert page["read"]["rate"] == pytest.approx(encoding.decode_rate(spk).item(), abs=1e-12)


def test_the_draws_of_lesson_02_are_fair(figure):
    turn = figure("02_spike_encoding")
    chances = torch.cat([tensor(turn(steps=50, draw=draw)["chances"]) for draw in range(1, 51)])
    assert chances.unique().numel() > 2400
    assert chances.mean().item() == pytest.approx(0.5, abs=0.03)  # five standard errors
    assert chances.std().item() == pytest.approx(12**-0.5, abs=0.02)


@pytest.mark.parametrize("neuron", ["Leaky", "Synaptic", "Alpha"])
@pytest.mark.parametrize(
    ("alpha", "beta", "weight", "count"), [(0.8, 0.7, 0.3, 3), (0.95, 0.9, 1.45, 8), (0.9, 0.4, 2, 5)]
)
def test_the_neurons_of_lesson_06(figure, neuron, alpha, beta, weight, count):
    page = figure("06_synaptic_currents")(neuron=neuron, alpha=alpha, beta=beta, weight=weight, count=count)
    synapses = lesson.load(6)
    cur = torch.zeros(60, 1, dtype=torch.float64)
    cur[5 : 5 + 4 * count : 4] = weight
    assert page["input"] == cur[:, 0].tolist()
    if neuron == "Leaky":
        spk, mem = synapses.simulate(synapses.build("Leaky", alpha, beta), cur)
    else:
        config = dataclasses.replace(synapses.Config(), alpha=alpha, beta=beta)
        spk, mem = synapses.simulate_own(neuron, cur, config, "subtract")
    assert page["spikes"] == spk[:, 0].tolist()
    torch.testing.assert_close(tensor(page["membrane"]), mem[:, 0], rtol=0, atol=1e-12)


def test_alpha_below_beta_is_refused_in_words(figure):
    turn = figure("06_synaptic_currents")
    assert turn(neuron="Alpha", alpha=0.6, beta=0.8) is None
    assert "alpha above beta" in turn.window.locator(".live").inner_text()


@pytest.mark.parametrize("shape", ["atan", "fast sigmoid", "sigmoid", "triangle", "boxcar"])
@pytest.mark.parametrize(("k", "x"), [(2, -1), (25, 0.05), (0.5, 1.95), (0.1, 0)])
def test_the_slopes_of_lesson_07(figure, shape, k, x):
    page = figure("07_surrogate_gradients")(shape=shape, k=k, x=x)
    surrogates = lesson.load(7)
    _, slope = surrogates.SHAPES[shape]
    torch.testing.assert_close(tensor(page["slopes"]), slope(k, tensor(page["grid"])), rtol=1e-12, atol=1e-15)
    at = tensor([x]).requires_grad_()
    spike = surrogates.spiking(shape, k)(at)
    spike.backward()
    assert page["spike"] == spike.item()
    assert page["slope"] == pytest.approx(at.grad.item(), rel=1e-12, abs=1e-15)


@pytest.mark.parametrize(("before", "after", "shrink"), [(20, 30, 0.8), (5, 60, 2), (60, 2, 0)])
def test_the_window_of_lesson_15(figure, monkeypatch, before, after, shrink):
    page = figure("15_stdp_online_learning")(gap=-7, tauPre=before, tauPost=after, shrinkBy=shrink)
    rule = lesson.load(15)
    for name, value in {"TAU_PRE": before, "TAU_POST": after, "A_MINUS": shrink, "A_PLUS": 1.0}.items():
        monkeypatch.setattr(rule, name, value)
    assert page["gaps"] == rule.GAPS.tolist()
    torch.testing.assert_close(tensor(page["changes"]), rule.window(rule.GAPS), rtol=0, atol=1e-12)
    assert page["change"] == pytest.approx(rule.window(tensor([-7])).item(), abs=1e-12)


# ---------------------------------------------------------------------- a figure and its reader


@pytest.mark.parametrize("stem", live.PLACES)
def test_a_keyboard_turns_each_knob_and_hears_what_it_did(figure, stem):
    window = figure(stem).window
    section = window.locator(".live")
    for knob in section.locator("input, select").all():
        assert window.locator(f"label[for={knob.get_attribute('id')}]").inner_text().strip()
        before = section.get_attribute("data-numbers")
        knob.focus()
        for key in ("ArrowRight", "ArrowDown", "Home", "End"):
            window.keyboard.press(key)
            if section.get_attribute("data-numbers") != before:
                break
        else:
            pytest.fail(f"{knob.get_attribute('id')} does nothing")
    told = section.locator("p[aria-live=polite]").inner_text()
    assert told == section.locator("svg").get_attribute("aria-label")
    assert told.endswith(".")


@pytest.mark.parametrize("stem", live.PLACES)
def test_without_javascript_a_sentence_says_what_to_do(chromium, book, stem):
    window = chromium.new_page(java_script_enabled=False)
    window.goto((book / f"{stem}.html").as_uri())
    text = window.locator(".live").inner_text()
    (shown,) = live.of(stem).values()
    assert shown.instead in text
    window.close()


@pytest.mark.parametrize("stem", live.PLACES)
def test_the_sentence_names_settings_that_the_script_has(stem):
    (shown,) = live.of(stem).values()
    (script,) = (script for script in scripts.find(ROOT) if script.stem == stem)
    source = script.path.read_text("utf-8")
    for option in re.findall(r"--([\w-]+)", shown.instead):
        assert f"    {option.replace('-', '_')}: " in source
    for constant in re.findall(r"\b[A-Z]+_[A-Z]+\b", shown.instead):
        assert constant in source


def test_only_pages_with_a_moving_figure_have_a_script(book):
    for path in book.glob("*.html"):
        text = html.unescape(path.read_text("utf-8"))
        assert ("<script" in text) == (path.stem in live.PLACES), path.name
