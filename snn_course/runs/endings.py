"""How a run ends that does not come to its end: the exit code, and the line that says why and what to do."""

import sys

from snn_course import UsageError, reader_is_gone, reason_of
from snn_course.runs.divergence import Diverged

GPU = "close what else uses it, set SNN_GPU_GB to half of the GB that it has, or take --device cpu"
COMPUTER = "close other programs"


def of(error: BaseException) -> tuple[int, str] | None:
    """Give exit code and line, which may be empty; None for an error of the program itself."""
    if isinstance(error, UsageError):
        return 2, str(error)
    if isinstance(error, Diverged):  # nothing of it is recorded; what was there before stays
        return 1, str(error)
    if isinstance(error, KeyboardInterrupt):
        return 130, f"stopped. {same_command()} resumes it."
    if isinstance(error, OSError) and reader_is_gone(error):  # such as `| head`, which has read enough
        return 1, ""
    if lacks_memory(error):
        return 2, _of_memory(error)
    return None


def same_command() -> str:
    """Name the command that goes on: ``--fresh`` would begin anew."""
    return "The same command" + (" without --fresh" if "--fresh" in sys.argv else "")


def lacks_memory(error: BaseException) -> bool:
    """Say whether memory ran out, on a GPU or in the computer; PyTorch has several ways to say so."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    said = str(error)
    return isinstance(error, RuntimeError) and ("out of memory" in said or "not enough memory" in said)


def _of_memory(error: BaseException) -> str:
    on_cpu = isinstance(error, MemoryError) or "CPU" in str(error)
    where, advice = ("computer", COMPUTER) if on_cpu else ("GPU", GPU)
    said = reason_of(error).rstrip(".") if isinstance(error, Exception) else ""
    return (
        f"the {where} ran out of memory ({said}): {advice}. "
        f"{same_command()} goes on from the last epoch that was kept."
    )
