"""Asks one question: shows it, judges the answer, explains it."""

from collections.abc import Callable

from snn_course.teaching import quiz_judge
from snn_course.teaching.questions import Question
from snn_course.teaching.quiz_judge import HALF, Option, Unclear, Verdict
from snn_course.teaching.quiz_numbers import Computed, Numbers
from snn_course.teaching.quiz_terminal import clean, filled, raster, rule, say, typed


class Asking:
    """One question, as it is asked: its words with their numbers, its choices in their order."""

    def __init__(
        self, question: Question, computed: Computed, seed: int, on_hint: Callable[[], None]
    ) -> None:
        self.question = question
        self.computed = computed
        self.offered: list[Option] = []
        if question.form in ("choice", "several", "order"):
            self.offered = quiz_judge.options(question, computed, seed)
        self.marks = quiz_judge.marks(self.offered) if self.offered else []
        self.hinted = False
        self.earned = 0.0
        """Points of the answer before the hint was taken off."""
        self._on_hint = on_hint

    def words(self, text: str) -> str:
        """Put this question's numbers into one of its texts."""
        return filled(text, self.computed.names)

    def ask(self) -> Verdict:
        """Ask until there is an answer. Raises: Stopped."""
        self.show()
        while True:
            answer = typed()
            if answer.lower() in ("h", "hint"):
                self.hint()
            elif answer:
                try:
                    return self.judged(answer)
                except Unclear as unclear:
                    say(f"{unclear} (h: a hint, q: stop here)")

    def show(self) -> None:
        """Print the question and what there is to choose from."""
        question = self.question
        say(self.words(question.ask))
        if question.kind == "prints":
            print()
            say(f"```\n{question.code.strip()}\n```")
        if self.computed.spikes:
            print("\n" + "\n".join(raster(self.computed.spikes)))
        print()
        for mark, option in zip(self.marks, self.offered, strict=True):
            _show_option(mark, option)
        if self.offered:
            print()
        say(f"({self.how()}; h: a hint for half the point, q: stop here)")

    def how(self) -> str:
        """Say what is to be typed."""
        form, unit = self.question.form, self.question.unit
        first, second, third, *_ = [*self.marks, "1", "2", "3"]
        last = self.marks[-1] if self.marks else ""
        return {
            "choice": f"{first} to {last}",
            "several": f"all that are right, such as {first} {third}",
            "order": f"all of them in the right order, such as {second} {first} {third}",
            "number": f"a number{f', in {unit}' if unit else ''}",
            "short": "a sentence or more; an empty line ends it",
        }[form]

    def hint(self) -> None:
        """Give the hint. From now on a right answer is worth half."""
        if not self.hinted:
            self.hinted = True
            self._on_hint()
        say(self.words(self.question.hint), "  Hint: ", "  ")

    def judged(self, answer: str) -> Verdict:
        """Judge what was typed, the hint taken off. Raises: Unclear, Stopped."""
        verdict = self._judged(answer)
        self.earned = verdict.points
        return Verdict(verdict.points * HALF, verdict.whys) if self.hinted else verdict

    def _judged(self, answer: str) -> Verdict:
        question = self.question
        if question.form == "choice":
            return quiz_judge.choice(answer, self.offered)
        if question.form == "several":
            return quiz_judge.several(answer, self.offered)
        if question.form == "order":
            return quiz_judge.order(answer, self.offered, question.right, question.why)
        if question.form == "number":
            return quiz_judge.number(answer, question, self.computed)
        return self._own_judgement()

    def _own_judgement(self) -> Verdict:
        """Let the learner write on, then compare with a model answer, mark by mark."""
        while typed("  "):
            pass
        say(self.question.model, "  A good answer: ", "  ")
        say("Does yours say this? y or n, honestly: nobody else sees it.")
        return quiz_judge.short([_yes(f"  {mark} ") for mark in self.question.marks])

    def explain(self, verdict: Verdict) -> None:
        """Say whether it was right, what was mixed up, what is right and why, and where it goes on."""
        print()
        said = {1.0: "Right.", 0.0: "Not right."}.get(self.earned, f"{self.earned:.2g} of 1 point.")
        print(f"{said} The hint halves it." if self.hinted and self.earned else said)
        for why in verdict.whys:
            say(self.words(why), "  ")
        if self.earned < 1 and self.question.form != "short":
            self._show_answer()
        say(self.words(self.question.explain), "  ")
        say(f"Topic: {self.question.about}", "  ", "    ")  # before the answer it might give that away
        say(f"Read: {self.question.reading}", "  ", "    ")
        say(self.words(self.question.more), "  More: ", "    ")
        if self.question.links:
            say(f"See also: lesson {', '.join(self.question.links)}", "  ")

    def _show_answer(self) -> None:
        if self.question.form == "number":
            assert self.computed.answer is not None
            say(f"The answer: {self.computed.answer:.4g} {self.question.unit}".rstrip(), "  ")
        elif self.question.form == "order":
            texts = [option.text for option in self.offered]
            places = [self.marks[texts.index(text)] for text in self.question.right]
            say(f"The order: {' '.join(places)}", "  ")
        else:
            rights = [mark for mark, option in zip(self.marks, self.offered, strict=True) if option.right]
            say(f"The answer: {' '.join(rights)}", "  ")


def _show_option(mark: str, option: Option) -> None:
    """Print a choice; one of several lines, such as what a program prints, keeps them."""
    if "\n" in option.text.strip():
        print(f"  {mark}  " + "\n     ".join(clean(line) for line in option.text.strip().split("\n")))
    else:
        say(option.text, f"  {mark}  ", "     ")


def _yes(question: str) -> bool:
    """Ask for yes or no. Raises: Stopped."""
    while True:
        say(question, "  ", "    ")
        answer = typed("  y/n > ").lower()
        if answer in ("y", "yes", "n", "no"):
            return answer.startswith("y")


# ---------------------------------------------------------------------- asked and recorded


class Book:
    """Where the answers are entered, and the hints that were given."""

    def hint(self, question: Question) -> None:
        """Remember that the hint was given."""
        raise NotImplementedError

    def enter(self, question: Question, points: float | None) -> bool:
        """Enter the points; None where the question could not be asked.

        Returns: False when another terminal has been faster.
        """
        raise NotImplementedError


def ask(head: str, question: Question, seed: int, numbers: Numbers, book: Book, hinted: bool = False) -> None:
    """Ask a question, record the answer, explain it. Raises: Stopped."""
    print(f"\n{rule()}")
    say(head)
    print()
    computed = _computed(question, numbers)
    if computed.error:
        say(f"This question cannot be asked here, and does not count: {computed.error}.")
        book.enter(question, None)
        return
    asked = Asking(question, computed, seed, lambda: book.hint(question))
    asked.hinted = hinted
    if hinted:
        say("(You have seen the hint.)")
    verdict = asked.ask()
    if not book.enter(question, verdict.points):
        say("(Answered in another terminal before; this answer does not count.)")
    asked.explain(verdict)


def _computed(question: Question, numbers: Numbers) -> Computed:
    if not question.code:
        return Computed()
    if not numbers.is_ready(question.key):
        print("(computing the numbers of this question ...)", flush=True)
    return numbers.of(question.key)
