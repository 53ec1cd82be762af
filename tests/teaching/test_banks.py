"""Every bank of questions in quizzes/: its form, its balance, its numbers for ten seeds.

One bank alone: pytest tests/teaching/test_banks.py -k 07
"""

import dataclasses
import difflib
import functools
import itertools
import math
import re
from collections import Counter

from snn_course.runs import scripts
from snn_course import ROOT
from snn_course.teaching import questions, quiz_judge, quiz_numbers, quiz_sitting, quiz_terminal
from snn_course.teaching.quiz_numbers import Numbers, job_of

import pytest

SCRIPTS = scripts.find(ROOT)
BANKS = {script.stem: script for script in SCRIPTS if questions.path_of(script.stem).exists()}
DEEP = ("06", "07", "09", "13", "15", "18", "20")
SEEDS = [quiz_sitting.seed_of("test", number) for number in range(10)]
each_bank = pytest.mark.parametrize("stem", BANKS)


def kind_of(stem):
    """Give the kind of a script, which decides how many questions it needs."""
    if stem.startswith("00"):
        return "environment"
    if not stem[:2].isdigit():
        return "project"
    return "deep" if stem.startswith(DEEP) else "standard"


SITTING = {"environment": 5, "standard": 8, "deep": 12, "project": 4}
LEAST = {"environment": 6, "standard": 16, "deep": 24, "project": 8}


def bank_of(stem):
    return questions.of_script(BANKS[stem])


# ---------------------------------------------------------------------- form


def test_each_file_belongs_to_a_script():
    files = {path.stem for path in (ROOT / "quizzes").glob("*")}
    assert files <= {script.stem for script in SCRIPTS}
    assert BANKS


@each_bank
def test_there_are_enough_questions_of_enough_kinds(stem):
    bank, kind = bank_of(stem), kind_of(stem)
    kinds = Counter(question.kind for question in bank.questions)
    assert bank.sitting == SITTING[kind]
    assert len(bank.questions) >= LEAST[kind]
    assert len(kinds) >= 4
    assert kinds["short"]
    assert kinds["order"] or kind == "environment"
    if kind in ("standard", "deep"):
        assert kinds["number"] >= 2


@each_bank
def test_every_topic_is_asked_often_enough(stem):
    bank = bank_of(stem)
    asked = Counter(question.topic for question in bank.questions)
    least = 3 if kind_of(stem) == "deep" else 2
    assert {topic: asked[topic] for topic in bank.topics if asked[topic] < least} == {}
    if kind_of(stem) != "project":
        assert len(bank.topics) <= bank.sitting  # each of them is met in a sitting


@each_bank
def test_a_sitting_meets_every_topic_and_the_next_one_brings_others(stem):
    bank = bank_of(stem)
    for seed in SEEDS:
        first = quiz_sitting.draw(bank, {}, seed)
        assert len({question.id for question in first}) == len(first) == bank.sitting
        if kind_of(stem) != "project":
            assert {question.topic for question in first} == set(bank.topics)
        asked = {question.id: {"asked": 1, "when": "2026-11-29"} for question in first}
        second = quiz_sitting.draw(bank, asked, seed + 1)
        others = [question for question in second if question.id not in asked]
        fresh = len(bank.questions) - bank.sitting
        assert len(others) >= min(fresh, bank.sitting) // 2


@each_bank
def test_every_link_names_a_script(stem):
    known = {script.label for script in SCRIPTS} | {script.stem for script in SCRIPTS}
    for question in bank_of(stem).questions:
        assert set(question.links) <= known - {BANKS[stem].label}, question.id


@each_bank
def test_choices_are_worth_choosing_from(stem):
    banned = re.compile(r".*\bthe above\b.*|(all|none|both|neither) of (these|them)\W*", re.IGNORECASE)
    for question in bank_of(stem).questions:
        for text in [*question.right, *(wrong.text for wrong in question.wrong)]:
            assert not banned.fullmatch(text), question.id


ALIKE, SHARED = 0.85, 0.8
"""From here on two questions are the same: of their letters in order, of their words in any order."""


def plain(question):
    words = f"{question.ask} {' '.join(question.right)} {question.code}".lower()
    return re.sub(r"\W+", " ", words).strip()


@functools.cache
def parts(text):
    """Give the words of a text, and how often it has each letter."""
    return set(text.split()), Counter(text)


def are_alike(first, second):
    """Compare two texts: their words in any order, then their letters in order, the cheap looks first."""
    (words, letters), (others, other_letters) = parts(first), parts(second)
    if len(words & others) > SHARED * len(words | others):
        return True
    enough = ALIKE * (len(first) + len(second)) / 2
    if min(len(first), len(second)) <= enough or (letters & other_letters).total() <= enough:
        return False  # even if all letters that both have stood in one order
    return difflib.SequenceMatcher(None, first, second, autojunk=False).ratio() > ALIKE


def test_no_question_is_asked_twice_in_other_words():
    everything = [question for stem in BANKS for question in bank_of(stem).questions]
    texts = {question.key: plain(question) for question in everything}
    pairs = itertools.combinations(texts.items(), 2)
    assert [(one, other) for (one, first), (other, second) in pairs if are_alike(first, second)] == []


def test_a_question_in_other_words_is_known_when_it_is_seen():
    first = "what does beta say about the cell a tenth of its potential leaks away in each step"
    assert are_alike(
        first, "what does the beta say about a cell in each step a tenth of its potential leaks away"
    )
    assert not are_alike(
        first, "what does beta say about the current a tenth of it is added to the membrane in a step"
    )


# ---------------------------------------------------------------------- balance


@each_bank
def test_the_right_choice_is_not_the_longest(stem):
    rated = [question for question in bank_of(stem).questions if question.kind in ("choice", "raster")]
    rated = [question for question in rated if question.wrong]
    longest = []
    for question in rated:
        if len(question.right[0]) > max(len(wrong.text) for wrong in question.wrong):
            longest.append(question.id)
    assert len(longest) <= 0.4 * len(rated), longest


def test_the_right_choice_stands_at_each_place_equally_often():
    places, expected = Counter(), Counter()
    for stem in BANKS:
        for question in bank_of(stem).questions:
            if question.kind == "choice":
                for seed in SEEDS:
                    shuffled = quiz_judge.options(question, quiz_numbers.Computed(), seed)
                    places[[option.right for option in shuffled].index(True)] += 1
                    expected.update(dict.fromkeys(range(len(shuffled)), 1 / len(shuffled)))
    for place, wanted in expected.items():
        assert abs(places[place] - wanted) < 4 * math.sqrt(wanted), (places, expected)


def test_an_order_never_lies_there_finished():
    for stem in BANKS:
        for question in bank_of(stem).questions:
            if question.kind == "order":
                for seed in SEEDS:
                    shuffled = quiz_judge.options(question, quiz_numbers.Computed(), seed)
                    assert [option.text for option in shuffled] != list(question.right)


# ---------------------------------------------------------------------- code


@pytest.fixture(scope="module")
def computed(request):
    """Compute the numbers of the banks looked at, for ten seeds, in one process: torch loads once."""
    looked_at = {item.callspec.params["stem"] for item in request.session.items if needs_numbers(item)}
    jobs = {stem: jobs_of(bank_of(stem)) for stem in BANKS if stem in looked_at}
    in_order = [job for of_bank in jobs.values() for job in of_bank.values()]
    with Numbers(in_order) as numbers:
        yield lambda stem: {name: numbers.of(job.key) for name, job in jobs[stem].items()}


def needs_numbers(item):
    return item.path.name == "test_banks.py" and "computed" in item.fixturenames


def jobs_of(bank):
    """Give the jobs of a bank, by question and seed."""
    jobs = {}
    for question in bank.questions:
        for seed in SEEDS[: 1 if question.kind == "prints" else 10] if question.code else []:
            job = job_of(question, seed)
            jobs[question.id, seed] = dataclasses.replace(job, key=f"{question.key} {seed}")
    return jobs


@each_bank
def test_the_code_of_each_question_runs_for_ten_seeds(stem, computed):
    bank = bank_of(stem)
    for (name, seed), found in computed(stem).items():
        question = bank.by_id[name]
        assert found.error == "", (name, seed)
        if question.form == "number":
            assert found.answer is not None, name
            assert math.isfinite(found.answer), name
            assert question.margin(found.answer) > 0, (name, "a relative margin of an answer 0")
        if question.kind == "prints":
            assert found.printed.strip(), name
            assert found.printed not in [wrong.text.strip("\n") for wrong in question.wrong], name


@each_bank
def test_rasters_fit_and_show_something(stem, computed):
    bank = bank_of(stem)
    for (name, seed), found in computed(stem).items():
        if bank.by_id[name].kind == "raster":
            assert len(found.spikes) <= 70, name
            assert 1 <= len(found.spikes[0]) <= 12, name
            assert {value for step in found.spikes for value in step} == {0, 1}, (name, seed)
            assert max(map(len, quiz_terminal.raster(found.spikes))) < 80


@each_bank
def test_a_right_number_is_right_and_a_slip_is_another_one(stem, computed):
    bank = bank_of(stem)
    apart = Counter()
    for (name, seed), found in computed(stem).items():
        question = bank.by_id[name]
        if question.form == "number":
            right = quiz_judge.number(f"{found.answer:.6g}", question, found)
            assert right.points == 1, (name, seed)
            for place, slip in enumerate(found.slips):
                apart[name, place] += abs(slip - found.answer) > question.margin(found.answer)
    assert {slip: count for slip, count in apart.items() if count < 8} == {}


@each_bank
def test_all_numbers_that_words_name_are_there(stem, computed):
    """A name in braces that the code does not set would be shown with its braces."""
    bank = bank_of(stem)
    for (name, _), found in computed(stem).items():
        question = bank.by_id[name]
        texts = [question.ask, question.hint, question.explain, question.more]
        for text in [*texts, *(slip.why for slip in question.slips)]:
            shown = quiz_terminal.filled(text, found.names)
            assert not re.search(r"\{[a-zA-Z_]\w*(:[^{}]*)?\}", shown), (name, shown)


@each_bank
def test_words_without_code_name_no_numbers(stem):
    for question in bank_of(stem).questions:
        if not question.code:
            for text in (question.ask, question.hint, question.explain, question.more):
                assert not re.search(r"\{[a-z_]+\}", text), question.id


@each_bank
def test_most_numbers_come_from_the_lesson(stem):
    if kind_of(stem) in ("standard", "deep"):
        codes = [question.code for question in bank_of(stem).questions if question.form == "number"]
        assert sum("lesson." in code for code in codes) >= 2
