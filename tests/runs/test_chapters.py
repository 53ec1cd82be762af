"""What a run prints and keeps, chapter by chapter: tables, measures, sentences, stand-ins, goals on speed."""

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

from snn_course.runs import figures, lesson, wording

import pytest
import torch

STAND_IN = SimpleNamespace(name="digits", as_used="digits for MNIST, 10 training images", stand_in=True)


@dataclass(frozen=True)
class Config(lesson.Config):
    pass


@pytest.fixture
def execute(tmp_path, capsys):
    """Run a ``main`` at quick scale. Returns: its metrics and what it printed."""
    script = tmp_path / "77_test.py"
    script.write_text('"""Lesson 77: a test.\n\nQuestion: Does it work?\n"""', encoding="utf-8")

    def call(main, **settings):
        metrics = lesson.execute(main, Config(scale="quick", device="cpu", **settings), script)
        return metrics, capsys.readouterr().out

    return call


def picture(title):
    return figures.new(title)[0]


def last_line(text: str) -> str:
    return text.rstrip().splitlines()[-1]


# ------------------------------------------------------------------ chapters


def first_chapter(run):
    run.measure("first", 1.25)
    deeper(run)


def deeper(run):
    run.measure("deeper", 2.5)


@torch.no_grad()
def wrapped_chapter(run):
    [run.measure(name, 3.75) for name in ("wrapped",)]
    sentence = lambda: run.say("Three.")  # noqa: E731
    sentence()


def test_each_result_names_the_function_that_main_called(execute):
    def main(config, run):
        first_chapter(run)
        wrapped_chapter(run)
        run.measure("of main", 5.0)
        [deeper(run) for _ in range(1)]

    metrics, _ = execute(main)
    found = {measure["name"]: measure["chapter"] for measure in metrics["measures"]}
    assert found == {
        "first": "first_chapter",
        "deeper": "first_chapter",
        "wrapped": "wrapped_chapter",
        "of main": "main",
    }
    assert metrics["sentences"] == [{"text": "Three.", "chapter": "wrapped_chapter"}]


def test_a_chapter_of_a_lesson_that_is_called_by_itself_names_itself():
    first = lesson.load(1)
    config = first.Config(scale="quick", num_steps=100, device="cpu")
    run = lesson.Run(config, Path(first.__file__))
    run.begin(0)
    first.firing_rate(config, run)
    assert {measure.chapter for measure in run.record.measures.values()} == {"firing_rate"}


def test_the_course_in_a_notebook_has_the_same_chapters(execute, tmp_path):
    cell = {"__name__": "__main__"}
    text = "def part(run):\n    run.measure('x', 1.0)\ndef main(config, run):\n    part(run)\n"
    exec(compile(text, "<ipython-input-1>", "exec"), cell)
    metrics, _ = execute(cell["main"])
    assert metrics["measures"][0]["chapter"] == "part"


# ------------------------------------------------------------------ each result once


def test_each_measure_is_printed_once_in_the_table_of_its_chapter(execute):
    def main(config, run):
        first_chapter(run)
        wrapped_chapter(run)

    _, printed = execute(main)
    assert printed.index("first_chapter") < printed.index("1.25") < printed.index("2.5")
    assert printed.index("2.5") < printed.index("wrapped_chapter") < printed.index("3.75")
    for once in ("first_chapter", "1.25", "2.5", "wrapped_chapter", "3.75", "Three."):
        assert printed.count(once) == 1


def test_columns_that_would_be_empty_are_left_out(execute):
    def main(config, run):
        run.measure("plain", 1.0)

    assert "unit" not in execute(main)[1]
    assert "goal" not in execute(main)[1].split("plain")[0]


def test_a_sentence_is_wrapped_and_stands_below_what_it_is_about(execute):
    words = "word " * 40

    def main(config, run):
        run.table("Rows", ["a", "b"], [["x", 17.5]])
        run.measure("number", 4.5)
        run.say(f"  Seen:\n  {words}end.")
        run.figure(picture("A title"), "picture")

    metrics, printed = execute(main)
    assert metrics["sentences"] == [{"text": f"Seen: {words}end.", "chapter": "main"}]
    assert printed.index("17.5") < printed.index("4.5") < printed.index("Seen:")
    assert max(map(len, printed.split("Figures and")[0].splitlines())) <= 80


def test_with_seeds_each_value_has_a_line_and_the_means_a_table(execute):
    def main(config, run):
        run.measure("alone", 7.5 + config.seed)
        later(run)

    def later(run):
        run.table("Numbers", ["what", "number", "published"], [["x", 20.5 + run.seed, 80.8]])
        run.say(f"It is {run.seed}.")

    metrics, printed = execute(main, seeds=2)
    for once in ("alone: 7.5", "alone: 8.5", "8 ± 0.71", "21 ± 0.71", "80.8", "Seed 0: It is 0."):
        assert printed.count(once) == 1
    assert "80.8 ±" not in printed  # what no seed changes has no spread
    assert [sentence["text"] for sentence in metrics["sentences"]] == ["It is 0."]
    assert printed.index("8 ± 0.71") < printed.index("21 ± 0.71")


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_a_lesson_that_is_cut_off_shows_what_it_measured(execute, capsys, error):
    def main(config, run):
        run.measure("before", 6.25)
        raise error

    with pytest.raises(error):
        execute(main)
    assert "6.25" in capsys.readouterr().out


# ------------------------------------------------------------------ verdicts


def test_a_goal_on_speed_warns_and_fails_nothing(execute):
    def main(config, run):
        run.measure("gain", 4.8, "x", at_least=5, speed=True)
        run.proof("equal", 0.0)

    metrics, printed = execute(main)
    assert metrics["status"] == "ok"
    assert metrics["measures"][0]["met"] is False
    assert last_line(printed) == "Slower than the goal: gain 4.8 x (goal >= 5), on this machine, now."
    assert "slower" in printed


def test_what_was_missed_stands_below_what_was_only_slow(execute):
    def main(config, run):
        run.measure("gain", 4.8, "x", at_least=5, speed=True)
        run.measure("accuracy", 1.0, "%", at_least=5)

    metrics, printed = execute(main)
    assert metrics["status"] == "missed"
    assert last_line(printed) == "Missed: accuracy"


def test_a_stand_in_suspends_goals_in_words_and_stands_in_each_figure(execute):
    def main(config, run):
        run.uses(STAND_IN)
        run.measure("accuracy", 1.0, "%", at_least=5)
        run.proof("equal", 0.0)
        run.figure(picture("Accuracy\n1 %"), "picture")

    metrics, printed = execute(main)
    assert metrics["status"] == "ok"
    assert "suspended" in printed.split("equal")[0]
    assert last_line(printed) == "Goals suspended, since the data are a stand-in: accuracy"
    title = metrics["figures"][0]["title"]
    assert title == "Accuracy 1 %. Stand-in data: digits"


@pytest.mark.parametrize(
    ("met", "bound", "speed", "said"),
    [
        (True, 1.0, False, "met"),
        (False, 1.0, False, "MISSED"),
        (False, 1.0, True, "slower"),
        (None, 1.0, False, "suspended"),
        (None, None, False, ""),
    ],
)
def test_verdicts(met, bound, speed, said):
    measure = {"met": met, "at_least": bound, "at_most": None, "speed": speed}
    assert wording.verdict_of(measure) == said
