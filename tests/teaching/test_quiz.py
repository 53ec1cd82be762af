"""A quiz as a learner holds it, line by line: sittings, stops, follow-ups, reviews, two terminals."""

import os
import re
import select
import signal
import subprocess
import sys
import threading
from datetime import date, timedelta

from snn_course import ROOT, UsageError, journal_file
from snn_course.teaching import asking, progress, questions, quiz, quiz_judge, quiz_sitting
from snn_course.teaching.quiz_numbers import Computed
from tests.teaching import small_bank

import psutil
import pytest

STEM = "02_small"


@pytest.fixture
def small(tmp_path):
    """Give a script with twelve choices on two topics; a sitting asks four."""
    return small_bank.script(tmp_path, small_bank.choices(12))


def opened():
    return progress.read()["scripts"][STEM]["quiz"]["open"]


def sat():
    return progress.sittings(progress.read(), STEM)


def keys(script, right):
    """Give what to type for each question of the open sitting, right or wrong."""
    bank, sitting = questions.read(questions.path_of(script.stem)), opened()
    typed = []
    for name, is_right in zip(quiz_sitting.unanswered(sitting), right, strict=False):
        seed = quiz_sitting.seed_of(sitting["seed"], len(sitting["parts"]), name)
        offered = quiz_judge.options(bank.by_id[name], Computed(), seed)
        typed.append([option.right for option in offered].index(is_right) + 1)
    return typed


# ---------------------------------------------------------------------- a sitting


def test_a_sitting_meets_each_topic_and_is_scored(small, hold):
    said = hold([small])
    assert "Question 1 of 4\n\nq" in said
    assert said.endswith("Stopped. What you have answered is kept; it goes on with\n    course.py quiz 02\n")
    topics = [int(name[1:]) % 2 for name in opened()["parts"][0]["questions"]]
    assert sorted(topics) == [0, 0, 1, 1]
    said = hold([small], *keys(small, [True, True, True, False]))
    assert "Right.\n  because q" in said
    assert "  Topic: Topic" in said
    assert "Not right.\n  " in said
    assert re.search(r"mixed up|confused", said)
    assert "Score: 75 %: passed. Weak: Topic" in said
    assert "What you missed comes again tomorrow: course.py quiz --review" in said
    assert sat()[0]["verdict"] == "pass"
    assert "open" not in progress.read()["scripts"][STEM]["quiz"]


def test_it_goes_on_at_the_question_where_it_was_stopped(small, hold):
    first = hold([small])
    said = hold([small], keys(small, [True])[0], "q")
    third = hold([small], "")
    assert "It goes on: 3 of 4 questions are left." in third
    asked = re.findall(r"^(q\d+)\?$", first + said + third, re.MULTILINE)
    assert asked == [asked[0], asked[0], asked[2], asked[2]]
    assert "Question 2 of 4" in third


def test_a_hint_costs_half_also_after_a_stop(small, hold):
    hold([small])
    assert "  Hint: think of q" in hold([small], "h")
    said = hold([small], *keys(small, [True] * 4))
    assert "(You have seen the hint.)" in said
    assert "Right. The hint halves it.\n" in said
    assert sat()[0]["score"] == 0.875


def test_a_marginal_sitting_is_followed_up_on_its_weak_topics(small, hold):
    hold([small])
    by_topic = [int(name[1:]) % 2 == 0 for name in opened()["parts"][0]["questions"]]
    said = hold([small], *keys(small, by_topic))
    assert "50 %: nearly. Weak: Topic two. A few more questions on that:" in said
    assert "Follow-up question 1 of 3\n" in said
    first, later = opened()["parts"]
    assert not set(first["questions"]) & set(later["questions"])
    said = hold([small], *keys(small, [True] * 3))
    assert "Score: 50 %, then 100 % of the follow-up questions: passed." in said
    assert sat()[0] | {"when": 0} == {
        "when": 0,
        "score": 0.5,
        "follow_up": 1.0,
        "verdict": "pass",
        "weak": ["two"],
    }


def test_follow_ups_that_are_missed_leave_it_marginal(small, hold):
    hold([small])
    hold([small], *keys(small, [True, True, False, False]))
    said = hold([small], *keys(small, [False] * 5))
    assert "then 0 % of the follow-up questions: not yet" in said
    assert sat()[0]["verdict"] == "marginal"


def test_below_half_chapters_are_named_and_other_questions_come_next(small, hold):
    hold([small])
    before = set(opened()["parts"][0]["questions"])
    said = hold([small], *keys(small, [False] * 4))
    assert "Score: 0 %: below 50 %: the lesson needs another reading." in said
    assert "  - chapter one\n" in said
    assert "  - chapter two\n" in said
    hold([small])
    assert not before & set(opened()["parts"][0]["questions"])


def test_the_journal_gets_one_block_and_keeps_the_learners_words(small, hold):
    journal_file().write_text("mine\n<!-- measured:here 02_small -->\nmine, too\n", encoding="utf-8")
    for right in ([True] * 4, [False] * 4):
        hold([small])
        hold([small], *keys(small, right))
    text = journal_file().read_text(encoding="utf-8")
    assert text.startswith("mine\n<!-- measured:begin 02_small quiz")
    assert text.endswith("mine, too\n")
    assert text.count("measured:begin") == 1
    assert "**Quiz, 20" in text
    assert re.findall(r"\| (\d+ %) \|.*\| (pass|re-read) \| (.*) \|", text) == [
        ("0 %", "re-read", "Topic one; Topic two"),
        ("100 %", "pass", ""),
    ]


def test_a_journal_that_cannot_be_written_costs_no_score(small, hold):
    journal_file().mkdir()
    hold([small])
    said = hold([small], *keys(small, [True] * 4))
    assert "Not in the journal" in said
    assert sat()[0]["score"] == 1


def test_what_is_no_answer_is_asked_again(small, hold):
    said = hold([small], "", "x", "0", "5", "1 2", "1" * 5000, "\x1b[2J", "²", "-1")
    assert said.count("> \n") >= 1
    assert said.count("Please type numbers from 1 to 3.") >= 6
    assert "One number, please" in said
    assert opened()["parts"][0]["answers"] == {}


# ---------------------------------------------------------------------- two terminals, and a changed bank


def test_two_terminals_share_a_sitting(small, hold):
    hold([small])
    answers = keys(small, [True, False, True, True])
    name = opened()["parts"][0]["questions"][1]
    done = []

    def other_terminal():
        done.append(1)
        if len(done) == 2:  # while the second question stands here, it is answered there
            begun = opened()["begun"]
            progress.change(lambda record: quiz_sitting.enter(record, STEM, begun, name, 1.0))

    said = hold([small], *answers, before=other_terminal)
    assert said.count("Answered in another terminal before") == 1
    assert "Score: 100 %" in said  # the answer of the other terminal counts


def test_a_sitting_that_ended_elsewhere_is_not_scored_twice(small, hold):
    hold([small])
    answers = keys(small, [True] * 4)

    def other_terminal():
        def finish(record):
            record["scripts"][STEM]["quiz"].pop("open", None)

        progress.change(finish)

    said = hold([small], *answers, before=other_terminal)
    assert "This sitting has ended in another terminal." in said
    assert sat() == []


def test_a_question_that_the_course_has_dropped_ends_the_open_sitting(small, hold, tmp_path):
    hold([small])
    small_bank.script(tmp_path, small_bank.bank(*(small_bank.question(f"n{number}") for number in range(8))))
    assert "Question 1 of 4" in hold([small])
    assert opened()["parts"][0]["questions"][0].startswith("n")


# ---------------------------------------------------------------------- kinds


SEVERAL = 'right = ["yes", "also"]\nwrong = [{ text = "no", why = "n" }, { text = "never", why = "v" }]'
ORDER = 'right = ["first", "second", "third"]\nwhy = "time runs on"'
SHORT = 'model = "a model"\nmarks = ["says a", "says b", "says c"]'
PRINTS = """code = '''
print(1)
print(2)
'''
wrong = [{ text = "1", why = "one" }, { text = "2", why = "two" }]"""
RASTER = "code = '''\nimport torch\nspikes = torch.eye(3)\n'''\n" + small_bank.CHOICE


@pytest.fixture
def one(tmp_path, hold):
    """Give a function that asks one question of a kind. Returns: what was printed."""

    def asked(kind, rest, *lines):
        text = small_bank.bank(small_bank.question("q", kind=kind, rest=rest), sitting=1, topics=("one",))
        return hold([small_bank.script(tmp_path, text)], *lines)

    return asked


def test_a_short_answer_is_judged_by_the_learner(one):
    said = one("short", SHORT, "a sentence", "", "y", "perhaps", "n", "yes")
    assert "  A good answer: a model\n" in said
    assert "0.67 of 1 point." in said
    assert "a sentence" not in str(progress.read())


def test_several_and_order_are_asked_by_their_numbers(one):
    assert "all that are right, such as 1 3" in one("several", SEVERAL, "q")
    said = one("order", ORDER, "1 2", "1 1 2", "1 2 3")
    assert "All 3 numbers, please" in said
    assert "Each number once, please." in said
    assert "The order: " in said or "Right." in said


def test_what_a_program_prints_is_run_to_know(one):
    said = one("prints", PRINTS, "a")
    assert "    print(1)\n    print(2)\n" in said
    assert re.search(r"  [abc]  1\n     2\n", said)


def test_a_raster_is_drawn_as_text(one):
    said = one("raster", RASTER, "1")
    assert "neuron\n      0  |..\n      1  .|.\n      2  ..|\n   step  0\n" in said


def test_a_number_comes_from_the_learners_seed(one):
    progress.change(lambda record: record.update(seed=7))
    said = one("number", small_bank.NUMBER, "1e9")
    answer = float(re.search(r"The answer: (\d+)", said)[1])
    assert answer in range(4, 18, 2)


def number(typed, answer=10.0, unit="ms"):
    slip = questions.Slip("5", "half")
    asked = questions.Question(
        "s", "q", "t", "T", "number", *[""] * 5, [], unit=unit, tolerance=0.5, slips=[slip]
    )
    return quiz_judge.number(typed, asked, Computed(answer=answer, slips=[5.0]))


@pytest.mark.parametrize("typed", ["10", "10.4", "9,5", " 10 ms", "20/2", "1e1", "+10", "10."])
def test_numbers_are_read_as_people_write_them(typed):
    assert number(typed).points == 1


@pytest.mark.parametrize(
    "typed", ["", "ten", "nan", "inf", "1e999", "1/0", "0x10", "1_0", "٣", "10 s", "--1"]
)
def test_what_is_no_number_is_said(typed):
    with pytest.raises(quiz_judge.Unclear):
        number(typed)


def test_a_slip_is_explained_unless_it_is_right():
    assert number("5").whys == ["half"]
    assert number("7").whys == ()
    assert number("5", answer=5.2).points == 1


def test_letters_stand_before_choices_that_are_called_by_numbers():
    """Who types 2 for "neuron 2" must not have chosen the second choice, "neuron 0"."""
    offered = [
        quiz_judge.Option("neuron 2", False, "It adapts."),
        quiz_judge.Option("neuron 0", True),
        quiz_judge.Option("neuron 1", False, "It chatters."),
    ]
    assert quiz_judge.marks(offered) == ["a", "b", "c"]
    with pytest.raises(quiz_judge.Unclear, match="Please type letters from a to c"):
        quiz_judge.choice("2", offered)
    assert quiz_judge.choice("B", offered).points == 1
    assert quiz_judge.choice("c", offered).whys == ["It chatters."]
    assert quiz_judge.several("a b", offered).whys == ["a: It adapts."]
    for others in (["a step of 1 ms halves it", "nothing"], ["9 6", "7 5"], ["0.2", "1.5"]):
        texts = [quiz_judge.Option(text, False) for text in others]
        assert quiz_judge.marks(texts) == ["1", "2"]


@pytest.mark.parametrize(
    ("stem", "name"), [("01_lif_neuron", "which-is-lif"), ("09_training_bptt", "first-spike-prints")]
)
def test_they_are_asked_for_and_answered_by_their_letters(capsys, stem, name):
    question = questions.read(questions.path_of(stem)).by_id[name]
    computed = Computed(printed="2") if question.kind == "prints" else Computed()
    asked = asking.Asking(question, computed, 0, lambda: None)
    asked.show()
    said = capsys.readouterr().out
    assert f"(a to {'abcd'[len(asked.offered) - 1]}; h: a hint" in said
    assert "\n  a  " in said
    right = next(place for place, option in zip("abcd", asked.offered, strict=False) if option.right)
    asked.explain(asked.judged("a" if right != "a" else "b"))
    assert f"  The answer: {right}\n" in capsys.readouterr().out


def test_one_amiss_is_half_a_point():
    offered = [
        quiz_judge.Option("a", True),
        quiz_judge.Option("b", False, "b!"),
        quiz_judge.Option("c", True),
    ]
    points = {typed: quiz_judge.several(typed, offered).points for typed in ("1 3", "1", "1,2,3", "2")}
    assert points == {"1 3": 1, "1": 0.5, "1,2,3": 0.5, "2": 0}
    for typed, wanted in {"1 2 3": 1, "2 1 3": 0.5, "1 3 2": 0.5, "3 2 1": 0, "2 3 1": 0}.items():
        assert quiz_judge.order(typed, offered, ["a", "b", "c"], "why").points == wanted


def test_code_that_hangs_crashes_or_prints_costs_its_own_question(tmp_path, hold, monkeypatch):
    monkeypatch.setattr("snn_course.teaching.quiz_numbers.LIMIT", 5.0)
    codes = {
        "hangs": "while True: pass",
        "crashes": "import os; os._exit(3)",
        "raises": "answer = 1 / 0",
        "prints": "import os; os.system('echo noise'); print('x' * 1000); answer = 5",
    }
    entries = [
        small_bank.question(name, kind="number", rest=f'code = "{code}"\ntolerance = 1')
        for name, code in codes.items()
    ]
    script = small_bank.script(tmp_path, small_bank.bank(*entries, topics=("one",)))
    said = hold([script], "5")
    assert said.count("This question cannot be asked here, and does not count") == 3
    assert "ZeroDivisionError: division by zero." in " ".join(said.split())
    assert "Score: 100 %: passed." in said


def test_where_no_question_can_be_asked_there_is_no_score(tmp_path, hold):
    rest = 'code = "answer = 1 / 0"\ntolerance = 1'
    text = small_bank.bank(small_bank.question("q", kind="number", rest=rest), sitting=1, topics=("one",))
    assert "so there is no score" in hold([small_bank.script(tmp_path, text)])
    assert sat() == []


# ---------------------------------------------------------------------- the list, the review


def test_the_list_shows_scores_and_what_is_unfinished(small, hold):
    said = hold([], everything=[small])
    assert re.search(r"02_small +12 +- +0\n", said)
    hold([small])
    assert re.search(r"02_small +12 +- +0 +\(unfinished\)", hold([], everything=[small]))
    hold([small], *keys(small, [True] * 4))
    assert re.search(r"02_small +12 +100 % +1\n", hold([], everything=[small]))


def test_a_review_asks_what_was_missed_when_its_day_has_come(small, hold, monkeypatch):
    day = date(2026, 11, 29)
    monkeypatch.setattr(progress, "today", lambda: day)
    assert "No question waits" in hold([], everything=[small], review=True)
    hold([small])
    missed = opened()["parts"][0]["questions"][0]
    hold([small], *keys(small, [False, True, True, True]))
    assert "comes again on 2026-11-30" in hold([], everything=[small], review=True)
    for days in (1, 3, 7, 21):
        day += timedelta(days=days)
        monkeypatch.setattr(quiz_sitting.progress, "now", lambda: "2026-11-29T00:00:00+00:00")
        seed = quiz_sitting.seed_of(progress.now(), f"{STEM}/{missed}")
        bank = questions.read(questions.path_of(STEM))
        offered = quiz_judge.options(bank.by_id[missed], Computed(), seed)
        place = [option.right for option in offered].index(True) + 1
        said = hold([], place, everything=[small], review=True)
        assert "Review 1 of 1: 02_small" in said
        assert f"{missed}?" in said
        assert "1 of 1 right." in said
    assert "No question waits" in hold([], everything=[small], review=True)


def test_wrong_use_is_one_line(small, hold, tmp_path):
    with pytest.raises(UsageError, match="One quiz at a time"):
        quiz.run([small, small], [], False, "course.py")
    other = small_bank.script(tmp_path, "", stem="03_other")
    questions.path_of("03_other").unlink()
    with pytest.raises(UsageError, match="There is no quiz on 03_other yet"):
        hold([other])


# ---------------------------------------------------------------------- a real terminal

DRIVER = """
import sys
from pathlib import Path
from snn_course.runs.scripts import Script
from snn_course.teaching import questions, quiz
folder = Path(sys.argv[1])
questions.path_of = lambda stem: folder / "quizzes" / f"{stem}.toml"
script = Script(folder / "02_small.py")
try:
    sys.exit(quiz.run([script], [script], False, "course.py"))
except KeyboardInterrupt:
    sys.exit(130)
"""


ENDLESS = """
import time
from snn_course.teaching.quiz_numbers import Job, Numbers
with Numbers([Job("k", "s", "import time; time.sleep(100)", 0)]) as numbers:
    while numbers._process is None:
        time.sleep(0.05)
    print(numbers._process.pid, flush=True)
    numbers.of("k")
"""


def test_the_process_that_computes_does_not_outlive_the_one_that_asked():
    asking = subprocess.Popen(
        [sys.executable, "-c", ENDLESS], cwd=ROOT, stdout=subprocess.PIPE, encoding="utf-8"
    )
    worker = psutil.Process(int(asking.stdout.readline()))
    asking.kill()
    asking.communicate()
    psutil.wait_procs([worker], timeout=30)
    assert not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE


@pytest.mark.skipif(os.name == "nt", reason="needs a pseudo-terminal")
def test_ctrl_c_in_a_terminal_keeps_what_was_answered(small, tmp_path):
    import pty

    def talk(*keys_to_send):
        pid, terminal = pty.fork()
        if pid == 0:
            os.chdir(ROOT)
            os.execve(sys.executable, [sys.executable, "-c", DRIVER, str(tmp_path)], os.environ)
        said = b""
        guard = threading.Timer(60, os.kill, (pid, signal.SIGKILL))  # else a read waits for ever
        guard.start()
        for wanted, key in keys_to_send:
            seen = len(said)
            while wanted not in said[seen:]:
                said += os.read(terminal, 65536)
            os.write(terminal, key)
        while True:
            # Between its prompt and its wait readline misses a Ctrl-C: a person presses it again.
            if not select.select([terminal], [], [], 5)[0]:
                os.write(terminal, keys_to_send[-1][1])
                continue
            try:
                more = os.read(terminal, 65536)
            except OSError:
                break
            if not more:
                break
            said += more
        guard.cancel()
        return said.decode().replace("\r\n", "\n"), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    said, code = talk((b"> ", b"1\n"), (b"Enter goes on", b"\n"), (b"> ", b"\x03"))
    assert code == 130
    assert "Stopped. What you have answered is kept" in said
    assert "Traceback" not in said
    assert "\x1b[" not in said.replace("\x1b[?2004h", "").replace("\x1b[?2004l", "")  # readline's own
    second = re.findall(r"^(q\d+)\?", said, re.MULTILINE)[1]
    said, code = talk((b"> ", b"\x04"))
    assert code == 0
    assert re.findall(r"^(q\d+)\?", said, re.MULTILINE) == [second]
