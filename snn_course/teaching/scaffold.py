"""Cuts the learner's file from a lesson: what is theirs to write becomes a task in words.

How much is left depends on the lesson: everything but the regions (lines), imports and the beginnings of the
functions (skeletons), names and words (words), or the objective and what will be checked (objective). From
the skeletons on the rest of the lesson is not copied: it is ``given``, the lesson itself, and runs with what
the learner has written.
"""

import ast
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path

from snn_course import ROOT, workspace_dir
from snn_course.teaching import regions
from snn_course.teaching.outline import Outline, names_passed_on
from snn_course.teaching.regions import Definition
from snn_course.teaching.tasks import Exercises, Task

WIDTH = 100
_WAY = re.compile(r"^sys\.path\.insert\(0, .*\)(?P<rest> *(#.*)?)$", re.MULTILINE)
TO_THE_COURSE = """\
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # where snn_course is
"""
"""What a lesson has before it imports the helper."""
MARK = "is still to be written"
"""What the error says that stands in the place of a region."""


def cut(exercises: Exercises, command: str) -> str:
    """Write the learner's file for a lesson; ``command`` is how course.py is called."""
    if exercises.stage == "lines":
        return _with_holes(exercises, command)
    parts = [_card(exercises, command), _imports(exercises), _given(exercises)]
    parts += _Definitions(exercises).all()
    return "\n\n\n".join(part.strip("\n") for part in [*parts, _ending(exercises)]) + "\n"


def placeholder(task: Task) -> str:
    """Give the line that stands where a task is unwritten."""
    return f'raise NotImplementedError("Task {task.number}, {task.id}, {MARK}")'


def in_words(task: Task, count: int) -> str:
    """Give a task as comment lines."""
    title = f"Task {task.number} of {count}, {task.id}: {task.region.words}."
    return _comment(title, task.words)


def _comment(*paragraphs: str) -> str:
    lines: list[str] = []
    for paragraph in paragraphs:
        lines += textwrap.wrap(paragraph, WIDTH - 10) or [""]
    return "".join(f"# {line}".rstrip() + "\n" for line in lines)


# ---------------------------------------------------------------------- everything but the lines


def _with_holes(exercises: Exercises, command: str) -> str:
    count = len(exercises.tasks)
    holes = {task.number: in_words(task, count) + placeholder(task) for task in exercises.tasks}
    source = _with_way(regions.replaced(exercises.source, holes))
    source = source.replace(f"python lessons/{exercises.script.path.name}", f"python {_file(exercises)}", 1)
    head = ast.parse(source).body[0]
    lines = source.splitlines(keepends=True)
    lines.insert(head.end_lineno or 0, "\n" + _comment(*_how(exercises, command)))
    return "".join(lines)


def _file(exercises: Exercises) -> str:
    return f"workspace/{exercises.script.path.name}"


def _how(exercises: Exercises, command: str) -> list[str]:
    """Say what the file is and what to do with it."""
    count = len(exercises.tasks)
    tasks = "one task" if count == 1 else f"{count} tasks"
    label = exercises.script.label
    place = "under it" if exercises.stage in ("words", "objective") else "in the place of the line below it"
    return [
        f"This file is yours. It is the lesson with {tasks} for you: look for the word 'Task', write what it "
        f"asks for {place}, and save.",
        f"    {command} check {label}    says what holds, and what does not yet",
        f"    {command} hint {label}     helps, a little more each time",
        "An answer is in the folder lessons. Look when the check has passed, and compare.",
    ]


# ---------------------------------------------------------------------- the head of the shorter files


def _card(exercises: Exercises, command: str) -> str:
    card = exercises.script.card()
    question = textwrap.fill(f"Question: {card['question']}", WIDTH, subsequent_indent=" " * 10)
    title = ast.get_docstring(regions.tree_of(exercises.source)) or card["title"]
    head = f'"""{title.splitlines()[0]}\n\n{question}\n"""\n\n'
    brief = [exercises.brief] if exercises.brief else []
    return head + _comment(*brief, *_how(exercises, command))


def _imports(exercises: Exercises) -> str:
    """Give the lesson's imports as they stand there, and the way to the course's folder before them."""
    lines = exercises.source.splitlines()
    kept: list[str] = []
    for node in Outline(exercises.source).tree.body:
        adds_path = isinstance(node, ast.Expr) and "sys.path" in ast.unparse(node)
        if isinstance(node, ast.Import | ast.ImportFrom) or adds_path:
            gap = lines[node.lineno - 2].strip() == "" and kept
            kept.append("\n" * bool(gap) + "\n".join(lines[node.lineno - 1 : node.end_lineno]))
    ours = [place for place, line in enumerate(kept) if "snn_course" in line]
    kept.insert(ours[-1] + 1, "from snn_course.teaching import composed")
    if "sys.path" not in "".join(kept):  # a script that lies in the course's folder itself
        kept[: ours[0]] = [*_without(kept[: ours[0]], TO_THE_COURSE), TO_THE_COURSE]
    return _with_way("# %%\n" + "\n".join(kept) + "\n")


def _without(lines: Sequence[str], block: str) -> list[str]:
    return [line for line in lines if line not in block.splitlines()]


def _with_way(text: str) -> str:
    """Name the course's folder whole, where the learner's files are not in it."""
    if workspace_dir().resolve().parent == ROOT:
        return text
    return _WAY.sub(lambda line: f"sys.path.insert(0, {str(ROOT)!r}){line['rest']}", text, count=1)


def _given(exercises: Exercises) -> str:
    """Give the names of the lesson that its own answer uses."""
    outline = Outline(exercises.source)
    number = exercises.script.number
    which = f'"{exercises.script.stem}"' if number is None else str(number)
    words = _comment(
        "The lesson itself. Its parts that you may need have names here; the others: given.NAME."
    )
    settings = ["Config", "SCALES"]
    names = settings + [name for name in outline.used_by(exercises.names) if name not in settings]
    lines = [f"{name} = given.{name}" for name in names]
    return "\n".join([words + f"given = lesson.load({which})", *lines])


def _ending(exercises: Exercises) -> str:
    words = _comment("The lesson's experiments and figures, run with what is written above.")
    return f'# %%\n{words}if __name__ == "__main__":\n    composed.start(given, globals())'


# ---------------------------------------------------------------------- what is to be written


class _Definitions:
    """The functions and classes to write, as beginnings or in words."""

    def __init__(self, exercises: Exercises) -> None:
        self.exercises = exercises
        self.outline = Outline(exercises.source)
        self.lines = exercises.source.splitlines()
        self.count = len(exercises.tasks)

    def all(self) -> list[str]:
        """Give one text for each, with the lesson's prose above it."""
        write = {"skeletons": self.skeleton}.get(self.exercises.stage, self.words)
        texts = []
        told: set[int] = set()
        for name in self.exercises.names:
            node = self.outline.top[name]
            assert isinstance(node, Definition)
            prose = self._prose_above(node, told) if self.exercises.stage != "objective" else ""
            texts.append(f"{prose}\n\n\n# %%\n{write(name, node)}")
        if self.exercises.stage == "objective":
            texts.append(self._claims())
        return texts

    def _prose_above(self, node: Definition, told: set[int]) -> str:
        """Give the last cell of prose above a definition, unless it was given before."""
        above = [number for number in range(node.lineno) if self.lines[number] == "# %% [markdown]"]
        if not above or above[-1] in told:
            return ""
        told.add(above[-1])
        end = above[-1] + 1
        while end < len(self.lines) and self.lines[end].startswith("#") and self.lines[end] != "# %%":
            end += 1
        return "\n".join(self.lines[above[-1] : end])

    def _tasks(self, path: Sequence[str]) -> list[Task]:
        return [task for task in self.exercises.tasks if task.region.path == tuple(path)]

    def skeleton(self, name: str, node: Definition) -> str:
        """Keep signature and docstring of each function with a task, and what comes after its work.

        A task within a loop or a branch leaves all lines around it.
        """
        lines = list(self.lines)
        paths = list(dict.fromkeys(task.region.path for task in self.exercises.tasks))
        for path in reversed([path for path in paths if path[0] == name]):
            function = regions.definition(self.outline.tree, path)
            first, last, text = self._hollow(function, self._tasks(path))
            lines[first:last] = text.splitlines()
        ends = [task.region.last for task in self.exercises.tasks if task.region.name == name]
        end = max(node.end_lineno or 0, *ends) + len(lines) - len(self.lines)
        return "\n".join(lines[regions.first_line(node) - 1 : end])

    def _hollow(self, function: Definition, tasks: Sequence[Task]) -> tuple[int, int, str]:
        """Give the lines that go, and those that come: the tasks, and which names the rest needs."""
        text = "".join(in_words(task, self.count) for task in tasks)
        last = max(task.region.last for task in tasks)
        body = function.body[1:] if ast.get_docstring(function) is not None else function.body
        indent = " " * function.body[0].col_offset
        if any(task.region.indent != indent for task in tasks):
            (task,) = tasks
            return task.region.first - 1, last, textwrap.indent(text + placeholder(task), task.region.indent)
        work = [node for node in body if node.lineno <= last]
        if passed_on := names_passed_on(work, body[len(work) :]):
            text += _comment(f"What stands below needs: {', '.join(passed_on)}.")
        begin = function.body[0].lineno - 1 if body is function.body else function.body[0].end_lineno
        return begin or 0, last, textwrap.indent(text + placeholder(tasks[0]), indent)

    def words(self, name: str, node: Definition) -> str:
        """Say what to write, and under which name."""
        tasks = [task for task in self.exercises.tasks if task.region.name == name]
        kind = "class" if isinstance(node, ast.ClassDef) else "function"
        text = [f"Write the {kind} {self._header(node)}."]
        if isinstance(node, ast.ClassDef):
            methods = [one for one in node.body if isinstance(one, ast.FunctionDef)]
            text += ["It has:", *(f"    {self._header(method)}" for method in methods)]
        if self.exercises.stage == "words":
            text += (ast.get_docstring(node) or "").split("\n\n")
        return _comment(*text) + "".join(in_words(task, self.count) for task in tasks)

    @staticmethod
    def _header(node: Definition) -> str:
        if isinstance(node, ast.ClassDef):
            bases = ", ".join(map(ast.unparse, node.bases))
            return f"{node.name}({bases})" if bases else node.name
        returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
        return f"{node.name}({ast.unparse(node.args)}){returns}"

    def _claims(self) -> str:
        chapters = self.exercises.chapters or self.outline.chapters(self.exercises.names)
        claims = self.outline.claims(chapters)
        return "# %%\n" + _comment("What must hold with it:", *(f"  - {claim}" for claim in claims))


def task_lines(text: str) -> list[int]:
    """Give the lines of a learner's file where a task is still unwritten."""
    return [number for number, line in enumerate(text.splitlines(), start=1) if MARK in line]


def file_for(exercises: Exercises, folder: Path) -> Path:
    """Where the learner's file is."""
    return folder / exercises.script.path.name
