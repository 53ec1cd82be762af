"""A script with a small bank of questions, for the tests of the quiz; most of it needs no torch."""

from snn_course.runs.scripts import Script

QUESTION = """
[[question]]
id = "{id}"
topic = "{topic}"
kind = "{kind}"
ask = "{id}?"
hint = "think of {id}"
explain = "because {id}"
reading = "chapter {topic}"
more = "and then?"
links = ["02"]
{rest}
"""
CHOICE = """right = "the right one"
wrong = [
    { text = "a wrong one", why = "mixed up" },
    { text = "another wrong one", why = "confused" },
]"""
NUMBER = """code = '''
width = rng.randrange(2, 9)
answer = 2 * width
'''
tolerance = 0.1
slips = [{ code = "width", why = "Twice that, for {width}." }]"""


def question(name, topic="one", kind="choice", rest=CHOICE):
    """Give the text of a question."""
    return QUESTION.format(id=name, topic=topic, kind=kind, rest="{rest}").replace("{rest}", rest)


def bank(*entries, sitting=4, topics=("one", "two")):
    """Give the text of a bank."""
    named = "\n".join(f'{topic} = "Topic {topic}"' for topic in topics)
    return f"sitting = {sitting}\n[topics]\n{named}\n" + "".join(entries)


def choices(count):
    """Give the text of a bank of choices, half of them on each of two topics."""
    return bank(*(question(f"q{number}", ("one", "two")[number % 2]) for number in range(count)))


def script(folder, text, stem="02_small"):
    """Write a script and its bank. Returns: the script."""
    (folder / "quizzes").mkdir(exist_ok=True)
    (folder / "quizzes" / f"{stem}.toml").write_text(text, encoding="utf-8")
    path = folder / f"{stem}.py"
    path.write_text('"""Lesson 02: small.\n\nQuestion: Is it?\n"""\n', encoding="utf-8")
    return Script(path)
