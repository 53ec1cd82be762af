"""What every lesson shares: its settings as a command line, and ``start``, which runs and records it.

A lesson script defines ``Config`` (its settings), ``SCALES`` (their values at each scale) and
``main(config, run)``, and ends with ``lesson.start(main, Config, SCALES)``. Nothing heavy is imported
here before it is needed, so that ``--help`` answers at once.
"""

import ast
import contextlib
import dataclasses
import importlib.util
import io
import re
import sys
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from snn_course.runs import endings, notebook
from snn_course import COMMAND, PYTHON, ROOT, UsageError, check_places, reader_is_gone
from snn_course.runs.divergence import finite
from snn_course.runs.run import ProofMissed, Run
from snn_course.runs.scripts import SOLUTIONS
from snn_course.runs.settings import Config, Range, Scale, Scales, at_scale

__all__ = ["Config", "ProofMissed", "Range", "Run", "Scales", "execute", "finite", "load", "start"]


def start(main: Callable[[Any, Run], None], config_class: type[Config], scales: Scales) -> None:
    """Run a lesson from the command line, and exit; in a notebook, run it at quick scale and come back.

    0: all was met. 1: something was missed, or a training diverged. 2: wrong use, or too little memory.
    """
    if notebook.is_here():
        _start_in_notebook(main, at_scale(config_class, "quick", scales))
        return
    script = Path(sys.argv[0]).resolve()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a console that lacks a character shows "?" instead
            stream.reconfigure(errors="replace", line_buffering=True)
    try:
        config = _parse(config_class, scales, sys.argv[1:], script, sys.modules["__main__"].__doc__)
        metrics = execute(main, config, script)
    except (Exception, KeyboardInterrupt) as error:
        ending = endings.of(error)
        if ending is None:
            raise
        code, line = ending
        if line:
            print(f"{script.name}: {line}", file=sys.stderr)
        sys.exit(code)
    sys.exit(0 if metrics["status"] == "ok" else 1)


def _start_in_notebook(main: Callable[[Any, Run], None], config: Config) -> None:
    """Run a lesson in a kernel, which goes on whatever happens."""
    try:
        execute(main, config, notebook.script())
    except Exception as error:
        ending = endings.of(error)
        if ending is None:
            raise
        print(ending[1], file=sys.stderr)


def execute(main: Callable[[Any, Run], None], config: Config, script: Path) -> dict[str, Any]:
    """Call ``main`` once for each seed, then write results and journal. Returns: the metrics.json dict."""
    check_places()
    run = Run(config, script)
    try:
        for seed in range(config.seed, config.seed + config.seeds):
            if not run.resumed(seed):
                run.begin(seed)
                main(dataclasses.replace(config, seed=seed), run)
                run.finish_seed()
    except ProofMissed:
        pass  # recorded by the run; a lesson whose mathematics fails must not go on
    finally:
        run.end_chapter()  # cut off or not: what was measured is shown
    return run.finish()


def load(lesson: int | str) -> ModuleType:
    """Give the module of a lesson (by number or by file stem), so that a later one can use what it defines.

    Raises: UsageError when there is no such script.
    """
    pattern = f"lessons/{lesson:02d}_*.py" if isinstance(lesson, int) else f"{lesson}.py"
    places = [ROOT / SOLUTIONS, ROOT / "lessons", ROOT]  # a worked answer before its brief
    scripts = [script for place in places for script in sorted(place.glob(pattern))]
    if not scripts:
        raise UsageError(f"There is no lesson {lesson}; '{COMMAND} list' shows those there are.")
    name = "snn_lesson_" + scripts[0].stem
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, scripts[0])
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]


def _parse(
    config_class: type[Config], scales: Scales, arguments: Sequence[str], script: Path, doc: str | None
) -> Any:
    """Command line to settings: the chosen scale's values are the defaults. Raises: UsageError."""
    import tyro

    scale = _scale_of(arguments)
    if scale not in typing.get_args(Scale):
        raise UsageError(f"--scale must be quick, cpu or gpu, not {scale!r}.")
    default = at_scale(config_class, scale, scales)
    printed = io.StringIO()
    try:
        with contextlib.redirect_stderr(printed):
            return tyro.cli(
                config_class,
                prog=f"{PYTHON} {_shown(script)}",
                description=re.sub(r"\n(?=[A-Z]\w+: )", "\n\n", doc or ""),  # one card line a paragraph
                args=arguments,
                default=default,
                config=(tyro.conf.FlagCreatePairsOff,),
            )
    except SystemExit as stop:
        if stop.code:
            raise UsageError(_one_line(printed.getvalue())) from None
        raise


def _scale_of(arguments: Sequence[str]) -> str:
    """Find the scale that was asked for last, else the one that fits this machine: gpu where there is one."""
    for word, after in reversed([*zip(arguments, [*arguments, None][1:], strict=True)]):
        if word.startswith("--scale="):
            return word.split("=", 1)[1]
        if word == "--scale" and after is not None:
            return after
    if "torch" not in sys.modules:  # only the early help comes here: it must not wait for torch
        return "cpu"
    import torch

    return "gpu" if torch.cuda.is_available() else "cpu"


def _one_line(box: str) -> str:
    """Turn tyro's framed message into one line: title, rule, message, rule, advice.

    On a console without line characters the title is a section of its own, else it is part of the frame.
    """
    text = "\n".join(line.strip("│ ") for line in box.splitlines() if not line.startswith(("╭", "╰")))
    sections = re.split(r"^[─-]+$", text, flags=re.MULTILINE)
    message, *advice = sections if "│" in box else sections[1:]
    guess = re.search(r"Perhaps you meant:\s+(--[\w-]+)", " ".join(advice))
    return " ".join(message.split()).rstrip(".") + (
        f". Did you mean {guess[1]}?" if guess else ". --help lists the options."
    )


def _shown(script: Path) -> str:
    return script.relative_to(ROOT).as_posix() if script.is_relative_to(ROOT) else script.name


def _defines(node: ast.stmt) -> set[str]:
    """Give the names that a statement at the top of a script assigns, or that of its class."""
    if isinstance(node, ast.ClassDef):
        return {node.name}
    targets = node.targets if isinstance(node, ast.Assign) else []
    targets = [node.target] if isinstance(node, ast.AnnAssign) else targets
    return {target.id for target in targets if isinstance(target, ast.Name)}


def check_packages(script: Path) -> None:
    """Look whether this Python has the course's packages. Raises: UsageError naming the one that has."""
    if importlib.util.find_spec("torch") is None or importlib.util.find_spec("tyro") is None:
        command = f"{PYTHON} {_shown(script)}"
        advice = f"in the course's folder write '{command}'; '{COMMAND} env' makes what it needs"
        raise UsageError(f"this Python ({sys.executable}) has not the course's packages: {advice}.")


def _before_heavy_imports() -> None:
    """Answer ``--help``, and notice a Python without the course's packages, before a script imports torch.

    Lessons import this module first. With --help on the command line, the script's light imports, its
    ``Config`` and its ``SCALES`` are read from its source and shown; its other lines never run.
    """
    main = sys.modules["__main__"]
    script = Path(getattr(main, "__file__", None) or "-").resolve()
    if not script.is_relative_to(ROOT) or not script.is_file():
        return
    is_lesson = script.parent != ROOT and script.parent.name in _OF_SCRIPTS
    if is_lesson or script.stem.startswith("capstone_"):
        try:
            check_packages(script)
        except UsageError as error:
            print(f"{script.name}: {error}", file=sys.stderr)
            sys.exit(2)
    if {"-h", "--help"} & set(sys.argv[1:]):
        _show_help(main, script)


_OF_SCRIPTS = ("lessons", SOLUTIONS, "workspace")
"""Folders of scripts that need the packages. A brief and course.py do without."""


def _show_help(main: ModuleType, script: Path) -> None:
    body = ast.parse(script.read_bytes()).body  # as bytes: an editor may begin the file with a mark
    used = {"Config", "SCALES"}
    settings: list[ast.stmt] = []
    for node in reversed(body):  # from the last line up: what a setting needs stands above it
        if isinstance(node, ast.ImportFrom):
            node.names = [name for name in node.names if (name.asname or name.name) in used]
            if node.names:
                settings.insert(0, node)
        elif _defines(node) & used:
            used |= {name.id for name in ast.walk(node) if isinstance(name, ast.Name)}
            settings.insert(0, node)
    names = vars(main)
    exec(compile(ast.Module(settings, type_ignores=[]), str(script), "exec"), names)
    try:
        if "Config" in names:
            _parse(names["Config"], names["SCALES"], ["--help"], script, main.__doc__)
    except OSError as error:
        if not reader_is_gone(error):
            raise
        sys.exit(0)


_before_heavy_imports()
