"""The book in a browser: the course's own pages, on a phone and a desktop, light and dark, and on paper."""

import shutil

from snn_course.teaching.book import pages
from tests.runs.laid_down import put
from tests.runs.test_metrics_file import METRICS

import pytest

pytestmark = pytest.mark.browser
LONG = "a measure whose name goes on " * 4
WIDE = {"title": "Wide", "columns": [f"column {n}" for n in range(25)], "rows": [["x" * 12] * 25]}
LOOKED_AT = {
    "light": ("", "01_lif_neuron", "capstone_pong"),
    "dark": ("", "01_lif_neuron", "00_environment_test", "10_convolutional_snn"),
}


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    """The course's pages, with results that try their frame: long names, a wide table, a damaged file."""
    root = tmp_path_factory.mktemp("book")
    tries = {
        "measures": [METRICS["measures"][0] | {"name": LONG, "note": "n" * 90, "chapter": "compare_resets"}],
        "tables": [WIDE | {"chapter": "compare_resets"}],
        "hardware": "h" * 200,
        "command": "python " + "c" * 150,
    }
    put(root, **tries)
    put(root, scale="quick", **tries)
    put(root, lesson="capstone_pong_train")
    put(root, lesson="10_convolutional_snn").write_text("{", "utf-8")
    pages.write(root / "results")
    yield root / "results"
    shutil.rmtree(root)


def address(book, stem):
    return (book / "book" / f"{stem}.html" if stem else book / "index.html").as_uri()


def opened(chromium, width=1280, scheme="light"):
    """A window that keeps what a page complains of."""
    window = chromium.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    window.complaints = []
    window.on("console", lambda said: window.complaints.append(f"{window.url}: {said.text}"))
    window.on("pageerror", lambda error: window.complaints.append(f"{window.url}: {error}"))
    window.on("requestfailed", lambda request: window.complaints.append(f"{window.url}: {request.url}"))
    return window


def unfold(window):
    window.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")


def thin_out(window):
    """Keep three coloured words of each kind in the code, and make plain text of the others.

    A page has 5,000 of them in some 20 colours; axe takes a quarter of a minute to look at all.
    """
    kept = window.evaluate(
        """() => {
            const met = {};
            for (const word of document.querySelectorAll('pre span')) {
                if (word.children.length) continue;
                met[word.className] = (met[word.className] || 0) + 1;
                if (met[word.className] > 3) word.replaceWith(word.textContent);
            }
            return Object.keys(met).length;
        }"""
    )
    assert kept < 60


@pytest.mark.parametrize("width", [360, 1280])
def test_no_page_is_wider_than_its_window_nor_complains(chromium, book, width):
    window = opened(chromium, width)
    for path in [book / "index.html", *sorted((book / "book").glob("*.html"))]:
        window.goto(path.as_uri())
        unfold(window)
        assert window.evaluate("document.documentElement.scrollWidth") <= width, path.name
        images = window.evaluate("[...document.images].map(image => image.alt)")
        assert all(images), path.name
    assert not window.complaints
    window.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(chromium, book, scheme):
    """Among much else: contrast, names of controls and regions, what a keyboard can reach."""
    axe_playwright_python = pytest.importorskip("axe_playwright_python.sync_playwright")
    window = opened(chromium, 360 if scheme == "light" else 1280, scheme)
    for stem in LOOKED_AT[scheme]:
        window.goto(address(book, stem))
        unfold(window)
        thin_out(window)
        axe = axe_playwright_python.Axe()
        found = axe.run(window, options={"resultTypes": ["violations"], "preload": False}).response
        assert found["passes"] or found["violations"]
        serious = [
            (stem, fault["id"], [node["html"][:80] for node in fault["nodes"][:3]])
            for fault in found["violations"]
            if fault["impact"] in ("moderate", "serious", "critical")
        ]
        assert not serious
    window.close()


def test_the_scheme_of_the_reader_decides_the_colours(chromium, book):
    pages_of = {}
    for scheme in ("light", "dark"):
        window = opened(chromium, scheme=scheme)
        window.goto(address(book, "01_lif_neuron"))
        pages_of[scheme] = window.evaluate("getComputedStyle(document.body).backgroundColor")
        window.close()
    assert pages_of["light"] != pages_of["dark"]


def test_lines_of_prose_are_about_70_letters_long(chromium, book):
    window = opened(chromium)
    window.goto(address(book, "01_lif_neuron"))
    letters = window.evaluate(
        """() => {
            const paragraph = document.querySelector('.prose p');
            const range = document.createRange();
            range.selectNodeContents(paragraph);
            const lines = new Set([...range.getClientRects()].map(box => Math.round(box.bottom / 8)));
            return paragraph.textContent.length / lines.size;
        }"""
    )
    assert 50 <= letters <= 85
    window.close()


def test_a_keyboard_reaches_the_text_first_and_unfolds_what_is_folded(chromium, book):
    window = opened(chromium)
    window.goto(address(book, "01_lif_neuron"))
    window.keyboard.press("Tab")
    assert window.evaluate("document.activeElement.textContent") == "Skip to the content"
    window.keyboard.press("Enter")
    assert window.url.endswith("#content")
    folded = window.locator("details.folded").first
    folded.locator("summary").focus()
    window.keyboard.press("Enter")
    assert folded.evaluate("part => part.open")
    window.close()


def test_a_page_prints(chromium, book):
    window = opened(chromium, 794, "dark")  # the width of A4
    window.emulate_media(media="print")
    window.goto(address(book, "01_lif_neuron"))
    assert window.evaluate("document.documentElement.scrollWidth") <= 794
    assert not window.locator("header.top").is_visible()
    ink = "({color, backgroundColor}) => [color, backgroundColor]"
    assert window.evaluate(f"({ink})(getComputedStyle(document.body))") == [
        "rgb(0, 0, 0)",
        "rgb(255, 255, 255)",
    ]
    assert window.locator("figure img").first.evaluate("image => getComputedStyle(image).filter") == "none"
    assert window.pdf().startswith(b"%PDF")
    window.close()
