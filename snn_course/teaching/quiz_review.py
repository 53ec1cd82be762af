"""Asks again what was missed, after 1, 3, 7 and 21 days, across all quizzes."""

from collections.abc import Sequence

from snn_course.runs.scripts import Script
from snn_course.teaching import asking, progress, questions
from snn_course.teaching.progress import Record
from snn_course.teaching.questions import Bank, Question
from snn_course.teaching.quiz_numbers import Numbers, job_of
from snn_course.teaching.quiz_sitting import seed_of
from snn_course.teaching.quiz_terminal import rule, say, wait_for_enter

AT_ONCE = 12
"""Questions of one review."""


def hold(chosen: Sequence[Script], called: str) -> None:
    """Ask what is due today of these scripts; ``called`` is how course.py is called. Raises: Stopped."""
    waiting = due(chosen)
    if not waiting:
        _nothing_due()
        return
    asked = waiting[:AT_ONCE]
    say(f"Review: {len(asked)} question{'s' * (len(asked) > 1)} that you missed before.")
    seeds = {question.key: seed_of(progress.now(), question.key) for question in asked}
    book = Review()
    with Numbers([job_of(question, seeds[question.key]) for question in asked if question.code]) as numbers:
        for number, question in enumerate(asked, start=1):
            head = f"Review {number} of {len(asked)}: {question.stem}"
            asking.ask(head, question, seeds[question.key], numbers, book)
            if number < len(asked):
                wait_for_enter()
    print(f"\n{rule()}")
    say(f"{book.right} of {book.count} right. What was right comes again later, what was not, tomorrow.")
    if waiting[AT_ONCE:]:
        say(f"{len(waiting) - AT_ONCE} more wait today: {called} quiz --review")


class Review(asking.Book):
    """Enters the answers of a review: the day of each question moves."""

    def __init__(self) -> None:
        self.count = 0
        self.right = 0

    def hint(self, question: Question) -> None:
        """Remember nothing: who stops here is asked again."""

    def enter(self, question: Question, points: float | None) -> bool:
        """Enter the points. Returns: False when another terminal has asked it meanwhile."""
        if points is None:
            return True
        self.count += 1
        self.right += points >= progress.MISSED
        return progress.change(lambda record: _entered(record, question, points))


def _entered(record: Record, question: Question, points: float) -> bool:
    waiting = progress.due(record, progress.today())
    if (question.stem, question.id) not in [(stem, name) for _, stem, name in waiting]:
        return False
    progress.note_question(record, question.stem, question.id, points, review=True)
    return True


def due(chosen: Sequence[Script]) -> list[Question]:
    """Give the questions of these scripts that are due today, those that wait longest first."""
    banks: dict[str, Bank] = {}
    for script in chosen:
        if questions.path_of(script.stem).exists():
            banks[script.stem] = questions.of_script(script)
    waiting = []
    for _, stem, name in progress.due(progress.read(), progress.today()):
        if stem in banks and name in banks[stem].by_id:  # the course may have dropped it meanwhile
            waiting.append(banks[stem].by_id[name])
    return waiting


def _nothing_due() -> None:
    day = progress.next_due(progress.read())
    said = f" The next question comes again on {day}." if day else " No question waits to come again."
    say(f"Nothing to review today.{said}")
