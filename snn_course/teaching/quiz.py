"""``course.py quiz``: lists the quizzes, holds a sitting, or asks again what was missed.

A sitting goes on where it was stopped: each answer is recorded before its explanation is shown.
"""

from collections.abc import Callable, Sequence

from snn_course import UsageError
from snn_course.runs.scripts import Script
from snn_course.schedule import overview
from snn_course.teaching import asking, progress, questions, quiz_journal, quiz_review, quiz_sitting
from snn_course.teaching.progress import Record
from snn_course.teaching.questions import Bank, Question
from snn_course.teaching.quiz_numbers import Numbers, job_of
from snn_course.teaching.quiz_sitting import Outcome, seed_of
from snn_course.teaching.quiz_terminal import percent, rule, say, until_stopped, wait_for_enter


def run(chosen: Sequence[Script], everything: Sequence[Script], review: bool, called: str) -> int:
    """Do what the command line says; ``called`` is how course.py is called. Returns: the exit code.

    Raises: UsageError.
    """
    if review:
        again = "quiz --review"
        return _with_goodbye(f"{called} {again}", lambda: quiz_review.hold(chosen or everything, called))
    if not chosen:
        print("\n".join(listed(everything, called)))
        return 0
    if len(chosen) > 1:
        raise UsageError("One quiz at a time; without a name, 'course.py quiz' lists them.")
    (script,) = chosen
    return _with_goodbye(f"{called} quiz {script.label}", lambda: _sit(script, called))


def _with_goodbye(command: str, action: Callable[[], None]) -> int:
    return until_stopped(action, "What you have answered is kept; it goes on with", command)


# ---------------------------------------------------------------------- the list


def listed(scripts: Sequence[Script], called: str) -> list[str]:
    """List the scripts that have questions, with the best score and what comes again today."""
    record = progress.read()
    waiting = [stem for _, stem, _ in progress.due(record, progress.today())]
    asked = [script for script in scripts if questions.path_of(script.stem).exists()]
    if not asked:
        return ["There are no quizzes yet."]
    is_wide = overview.width() >= overview.WIDTH
    shown = [f"{'quiz':34} {'questions':>9}  {'best':>5}  {'sittings':>8}  again today"] if is_wide else []
    for script in asked:
        shown += _row(script, record, waiting.count(script.stem), is_wide)
    more = f"{called} quiz NUMBER holds a sitting; q stops it, and it goes on later."
    again = f"{called} quiz --review asks again what was missed."
    return [*shown, "", *overview.filled(more, ""), *overview.filled(again, "")]


def _row(script: Script, record: Record, waiting: int, is_wide: bool) -> list[str]:
    """Tell of one quiz how many questions it has, the best score, the sittings, and what waits."""
    many = len(questions.of_script(script).questions)
    best = progress.best_score(record, script.stem)
    score = "-" if best is None else percent(best)
    held = len(progress.sittings(record, script.stem))
    unfinished = _unfinished(record, script.stem)
    if is_wide:
        row = f"{script.stem:34} {many:>9}  {score:>5}  {held:>8}  {waiting or ''}"
        return [row.rstrip() + unfinished]
    row = f"{script.stem}: {many} questions, best {score}, sittings {held}, again today {waiting}"
    return overview.filled(row + unfinished, "", "    ")


def _unfinished(record: Record, stem: str) -> str:
    opened = record["scripts"].get(stem, {}).get("quiz", {}).get("open")
    return "  (unfinished)" if opened else ""


# ---------------------------------------------------------------------- a sitting


def _sit(script: Script, called: str) -> None:
    """Hold a sitting, from where it is to its score. Raises: Stopped."""
    bank = questions.of_script(script)
    learner = progress.seed()
    opened = progress.change(lambda record: quiz_sitting.take_up(record, bank, learner))
    _welcome(bank, script, opened)
    while True:
        _ask_part(bank, opened)
        outcome = _closed(bank, opened["begun"])
        if outcome is None:
            say("This sitting has ended in another terminal.")
            return
        if not outcome.follows:
            _tell(bank, outcome, called)
            return
        print(f"\n{rule()}")
        say(f"{percent(outcome.score)}: nearly. {_weak(bank, outcome)} A few more questions on that:")
        opened = progress.change(lambda record: quiz_sitting.take_up(record, bank, learner))


def _closed(bank: Bank, begun: str) -> Outcome | None:
    return progress.change(lambda record: quiz_sitting.close(record, bank, begun))


def _welcome(bank: Bank, script: Script, opened: Record) -> None:
    left = len(quiz_sitting.unanswered(opened))
    of = len(opened["parts"][-1]["questions"])
    say(f"Quiz on {script.stem}: {script.card()['title']}")
    if left < of or len(opened["parts"]) > 1:
        say(f"It goes on: {left} of {of} questions are left.")
    else:
        say(f"{of} questions; {percent(quiz_sitting.PASS)} is a pass. Answer first, look things up then.")


def _ask_part(bank: Bank, opened: Record) -> None:
    """Ask what is unanswered of the sitting's last part. Raises: Stopped."""
    book = Sitting(bank.stem, opened["begun"])
    part = len(opened["parts"])
    left = [bank.by_id[name] for name in quiz_sitting.unanswered(opened)]
    seeds = {question.id: seed_of(opened["seed"], part, question.id) for question in left}
    with Numbers([job_of(question, seeds[question.id]) for question in left if question.code]) as numbers:
        for question in left:
            if not book.wants(question):
                continue
            hinted = question.id in opened["parts"][-1]["hinted"]
            asking.ask(_head(opened, question), question, seeds[question.id], numbers, book, hinted)
            if question is not left[-1]:
                wait_for_enter()


def _head(opened: Record, question: Question) -> str:
    *before, part = opened["parts"]
    kind = "Follow-up question" if before else "Question"
    number = part["questions"].index(question.id) + 1
    return f"{kind} {number} of {len(part['questions'])}"


class Sitting(asking.Book):
    """Enters the answers of a sitting."""

    def __init__(self, stem: str, begun: str) -> None:
        self.stem = stem
        self.begun = begun

    def wants(self, question: Question) -> bool:
        """Say whether a question is still to be asked: another terminal may be in the same sitting."""
        return quiz_sitting.wants(progress.read(), self.stem, self.begun, question.id)

    def hint(self, question: Question) -> None:
        """Remember that the hint was given, so that stopping here does not undo it."""
        progress.change(lambda record: quiz_sitting.note_hint(record, self.stem, question.id))

    def enter(self, question: Question, points: float | None) -> bool:
        """Enter the points. Returns: False when another terminal has been faster."""
        return progress.change(
            lambda record: quiz_sitting.enter(record, self.stem, self.begun, question.id, points)
        )


# ---------------------------------------------------------------------- its end


def _weak(bank: Bank, outcome: Outcome) -> str:
    topics = "; ".join(bank.topics[topic] for topic in outcome.weak)
    return f"Weak: {topics}." if topics else ""


def _tell(bank: Bank, outcome: Outcome, called: str) -> None:
    """Say the score, what it means, and write it into the journal."""
    print(f"\n{rule()}")
    if outcome.verdict == "not asked":
        say("No question could be asked here, so there is no score.")
        return
    again = (
        "" if outcome.follow_up is None else f", then {percent(outcome.follow_up)} of the follow-up questions"
    )
    say(f"Score: {percent(outcome.score)}{again}: {_meaning(outcome)} {_weak(bank, outcome)}")
    if outcome.verdict != "pass":
        say("Read again, then come back; you will be asked other questions:")
        for reading in dict.fromkeys(question.reading for question in outcome.missed):
            say(reading, "  - ", "    ")
    if outcome.missed:
        say(f"What you missed comes again tomorrow: {called} quiz --review")
    warning = quiz_journal.write(bank)
    if warning:
        say(warning)


def _meaning(outcome: Outcome) -> str:
    if outcome.verdict == "pass":
        return "passed."
    if outcome.verdict == "marginal":
        return "not yet: the weak topics need another look."
    return f"below {percent(quiz_sitting.MARGINAL)}: the lesson needs another reading."
