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
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal

from snn_course import ROOT, UsageError
from snn_course.run import ProofMissed, Run

__all__ = ["Config", "ProofMissed", "Range", "Run", "Scales", "execute", "load", "start"]

Scale = Literal["quick", "cpu", "gpu"]
Scales = Mapping[str, Mapping[str, Any]]
"""For each scale the settings that differ from the defaults of ``Config``."""


@dataclasses.dataclass(frozen=True)
class Range:
    """The legal values of a numeric setting, both ends included; ``None`` leaves an end open."""

    low: float | None
    high: float | None = None

    def __contains__(self, value: float) -> bool:
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)

    def __str__(self) -> str:
        if self.high is None:
            return f"at least {self.low}"
        return f"at most {self.high}" if self.low is None else f"from {self.low} to {self.high}"


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings that every lesson has. A lesson adds its own as further fields of a subclass."""

    scale: Scale = "cpu"
    """Size of the run: quick (seconds), cpu (minutes on a laptop) or gpu (paper-sized)."""

    seed: Annotated[int, Range(0, 2**31 - 1)] = 0
    """Seed of the first repetition."""

    seeds: Annotated[int, Range(1, 100)] = 1
    """Repetitions, with seeds seed, seed + 1, ...; the report gives mean and standard deviation."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where tensors live. A ROCm GPU is called cuda too; auto takes a GPU where there is one."""

    threads: Annotated[int, Range(1, 1024)] = 1
    """Threads of PyTorch on a CPU. More help large networks on idle cores; on busy ones they wait in turn."""

    fresh: bool = False
    """Start from the beginning, even if an unfinished run could be resumed."""

    @property
    def part(self) -> str:
        """Name of the part that runs, of a script that has several; each has results of its own."""
        return ""

    @property
    def words(self) -> tuple[str, ...]:
        """What the command line needs besides the common options to run this part again."""
        return ()

    def __post_init__(self) -> None:
        """Check each value against the ``Range`` in its annotation. Raises: UsageError."""
        hints = typing.get_type_hints(type(self), include_extras=True)
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            values = value if isinstance(value, tuple) else (value,)
            option = "--" + field.name.replace("_", "-")
            if not values:
                raise UsageError(f"{option} needs at least one value.")
            for allowed in getattr(hints[field.name], "__metadata__", ()):
                wrong = [
                    v for v in values if isinstance(allowed, Range) and v is not None and v not in allowed
                ]
                if wrong:
                    raise UsageError(f"{option} must be {allowed}, not {wrong[0]}.")


def start(main: Callable[[Any, Run], None], config_class: type[Config], scales: Scales) -> typing.NoReturn:
    """Run a lesson from the command line, and exit: 0 all met, 1 something missed, 2 wrong use."""
    script = Path(sys.argv[0]).resolve()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a console that lacks a character shows "?" instead
            stream.reconfigure(errors="replace")
    try:
        config = _parse(config_class, scales, sys.argv[1:], script, sys.modules["__main__"].__doc__)
        metrics = execute(main, config, script)
    except UsageError as error:
        print(f"{script.name}: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(f"{script.name}: stopped. The same command resumes it.", file=sys.stderr)
        sys.exit(130)
    sys.exit(0 if metrics["status"] == "ok" else 1)


def execute(main: Callable[[Any, Run], None], config: Config, script: Path) -> dict[str, Any]:
    """Call ``main`` once for each seed, then write results and journal. Returns: the metrics.json dict."""
    run = Run(config, script)
    try:
        for seed in range(config.seed, config.seed + config.seeds):
            if not run.resumed(seed):
                run.begin(seed)
                main(dataclasses.replace(config, seed=seed), run)
                run.finish_seed()
    except ProofMissed:
        pass  # recorded by the run; a lesson whose mathematics fails must not go on
    return run.finish()


def load(lesson: int | str) -> ModuleType:
    """Give the module of a lesson (by number or by file stem), so that a later one can use what it defines.

    Raises: UsageError when there is no such script.
    """
    pattern = f"lessons/{lesson:02d}_*.py" if isinstance(lesson, int) else f"{lesson}.py"
    scripts = sorted([*ROOT.glob(pattern), *(ROOT / "lessons").glob(pattern)])
    if not scripts:
        raise UsageError(f"There is no lesson {lesson}; 'python course.py list' shows those there are.")
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
    default = config_class(**{"scale": scale, **scales.get(scale, {})})
    printed = io.StringIO()
    try:
        with contextlib.redirect_stderr(printed):
            return tyro.cli(
                config_class,
                prog=f"python {_shown(script)}",
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
    """Find the scale that was asked for, else the one that fits this machine (gpu where there is one)."""
    for position, argument in enumerate(arguments):
        if argument.startswith("--scale="):
            return argument.split("=", 1)[1]
        if argument == "--scale" and position + 1 < len(arguments):
            return arguments[position + 1]
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


def _help_before_heavy_imports() -> None:
    """Answer ``--help`` from the settings part of the script alone, before it imports torch.

    Lessons import this module first. With --help on the command line, the script's light imports, its
    ``Config`` and its ``SCALES`` are read from its source and shown; its other lines never run.
    """
    main = sys.modules["__main__"]
    script = Path(getattr(main, "__file__", None) or "-").resolve()
    if not {"-h", "--help"} & set(sys.argv[1:]) or not script.is_relative_to(ROOT) or not script.is_file():
        return
    body = ast.parse(script.read_text(encoding="utf-8")).body
    light = {"collections.abc", "dataclasses", "pathlib", "snn_course", "typing", "tyro.conf"}
    settings: list[ast.stmt] = []
    for node in body:
        is_light = isinstance(node, ast.ImportFrom) and node.module in light
        is_config = isinstance(node, ast.ClassDef) and node.name == "Config"
        is_scales = (
            isinstance(node, ast.Assign | ast.AnnAssign) and "SCALES" in ast.unparse(node).split("=")[0]
        )
        if is_light or is_config or is_scales:
            settings.append(node)
    names = vars(main)
    exec(compile(ast.Module(settings, type_ignores=[]), str(script), "exec"), names)
    if "Config" in names:
        _parse(names["Config"], names["SCALES"], ["--help"], script, main.__doc__)


_help_before_heavy_imports()
