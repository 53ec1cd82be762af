"""A run that ends early says in one line why, and what to do; an error of the program itself stays one."""

import sys
from pathlib import Path
from typing import Any

from snn_course.runs import endings, lesson
from snn_course import UsageError
from snn_course.runs.divergence import Diverged

import pytest
import torch

HIP = "HIP out of memory. Tried to allocate 3.00 GiB. GPU 0 has a total capacity of 23.98 GiB.\nSee more."
CPU = (
    "[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: not enough memory: you tried 9 bytes"
)


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (UsageError("wrong"), 2, "wrong"),
        (Diverged("nan"), 1, "nan"),
        (KeyboardInterrupt(), 130, "resumes"),
        (torch.OutOfMemoryError(HIP), 2, "GPU ran out of memory (HIP out of memory. Tried"),
        (RuntimeError("CUDA error: out of memory\nmore"), 2, "SNN_GPU_GB"),
        (RuntimeError(CPU), 2, "the computer ran out of memory"),
        (MemoryError(), 2, "close other programs"),
    ],
)
def test_what_a_person_can_act_upon_is_one_line(error: BaseException, code: int, said: str) -> None:
    ending = endings.of(error)
    assert ending is not None
    assert ending[0] == code
    assert said in ending[1]
    assert "\n" not in ending[1]


def test_a_fresh_start_is_not_what_resumes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["09.py", "--fresh"])
    assert endings.of(KeyboardInterrupt()) == (130, "stopped. The same command without --fresh resumes it.")
    ending = endings.of(MemoryError())
    assert ending is not None
    assert "The same command without --fresh goes on" in ending[1]


def test_an_error_of_the_program_is_no_ending() -> None:
    assert endings.of(RuntimeError("shapes do not fit")) is None
    assert endings.of(OSError(28, "No space left on device")) is None


def test_a_full_gpu_ends_a_script_in_one_line_and_keeps_its_state(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = Path(__file__).resolve()
    monkeypatch.setattr(sys, "argv", [str(script), "--scale", "quick", "--device", "cpu"])
    seen: list[Any] = []

    def main(config: lesson.Config, run: lesson.Run) -> None:
        state = run.load("net") or {"epochs": 0}
        seen.append(state["epochs"])
        run.save("net", {"epochs": state["epochs"] + 1})
        raise torch.OutOfMemoryError(HIP)

    for _ in range(2):
        with pytest.raises(SystemExit) as stop:
            lesson.start(main, lesson.Config, {})
        assert stop.value.code == 2
    assert seen == [0, 1]
    assert capsys.readouterr().err.count("\n") == 2


def test_an_error_of_the_program_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [str(Path(__file__).resolve()), "--scale", "quick", "--device", "cpu"])

    def main(config: lesson.Config, run: lesson.Run) -> None:
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes"):
        lesson.start(main, lesson.Config, {})
