"""The inside of a check: the process in which a learner's file runs. ``check`` starts it.

    python -m snn_course.teaching.inside LESSON FILE REPORT SECONDS

It tells what it finds line by line in JSON, each as soon as it is known: whatever then happens to the
process, what was found so far is known outside.
"""

import dataclasses
import json
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from snn_course.runs import scripts
from snn_course import ROOT, UsageError
from snn_course.teaching import composed, exercises, limits
from snn_course.teaching.tasks import Exercises

Tell = Callable[..., None]


def main(stem: str, file: Path, report: Path, seconds: float) -> None:
    """Check a file, and tell."""
    lines = report.open("a", encoding="utf-8")

    def tell(event: str, **more: Any) -> None:
        lines.write(json.dumps({"event": event, **more}) + "\n")
        lines.flush()

    limits.watch(limits.Limits(seconds), str(file), lambda reason: tell("stopped", says=reason))
    try:
        _check(stem, file, tell)
    except UsageError as error:
        tell("usage", says=str(error))
    except Broken as error:
        tell("broken", says=str(error), line=error.line)
    except Exception as error:
        traceback.print_exc()
        tell("fault", says=f"{type(error).__name__}: {error}")
    tell("done")


class Broken(Exception):
    """A file that cannot be loaded; with the line, where it is known."""

    def __init__(self, message: str, line: int | None) -> None:
        super().__init__(message)
        self.line = line


def _check(stem: str, file: Path, tell: Tell) -> None:
    (script,) = scripts.pick([stem], scripts.find(ROOT))
    wanted = exercises.load(script)
    from snn_course.runs import lesson
    from snn_course.teaching import instruments

    import matplotlib as mpl

    mpl.use("Agg")
    with instruments.installed():
        lesson.load(stem)  # its packages are loaded before the fence stands
        fence = limits.Fence([Path.cwd(), Path(os.environ["SNN_RESULTS"]), Path(mpl.get_cachedir())])
        fence.install()
        _try(wanted, file, tell)
    if fence.tried:
        tell("tried", says=fence.tried)


def _try(wanted: Exercises, file: Path, tell: Tell) -> None:
    """Try the tasks, and when all hold, the chapters."""
    from snn_course.teaching import trials

    names = _names(file)
    trial = trials.Trials(wanted, composed.definitions(names, file), str(file), names)
    states = []
    for verdict in trial.tasks():
        states.append(verdict.state)
        tell("task", **dataclasses.asdict(verdict))
    if set(states) == {trials.HOLDS}:
        for verdict in trial.chapters():
            tell("chapter", **dataclasses.asdict(verdict))


def _names(file: Path) -> dict[str, object]:
    """Run a learner's file as a module, and give all its names. Raises: Broken."""
    module = ModuleType("snn_lesson_own")
    module.__file__ = str(file)
    sys.modules[module.__name__] = module
    try:
        source = file.read_text(encoding="utf-8-sig")
        exec(compile(source, str(file), "exec"), module.__dict__)
        return module.__dict__
    except SyntaxError as error:
        raise Broken(f"Python cannot read it: {error.msg}", error.lineno) from None
    except UnicodeDecodeError:
        raise Broken("it is not stored as UTF-8", None) from None
    except BaseException as error:
        stack = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in stack if frame.filename == str(file)]
        what = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        if isinstance(error, SystemExit):
            what = "it ends the program"
        raise Broken(what, lines[-1] if lines else None) from None


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), float(sys.argv[4]))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # all is told: a thread or an exit hook that the file has left says nothing more
