"""Computes what questions and bug hunts need, in a process of its own, while the first question is read."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import Future, TimeoutError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from snn_course import ROOT
from snn_course.teaching.questions import Question

LIMIT = 60.0
"""Seconds for one job; the first one also loads torch and the lesson, on whatever machine this is."""


@dataclass(frozen=True)
class Computed:
    """What the code of a question has given."""

    names: dict[str, Any] = field(default_factory=dict)
    """Its numbers and texts, by name, which the words of the question may show."""
    answer: float | None = None
    slips: Sequence[float] = ()
    spikes: Sequence[Sequence[int]] = ()
    """[T][N], 0 or 1."""
    printed: str = ""
    error: str = ""
    """Why there is none of this; empty when all went well."""


@dataclass(frozen=True)
class Job:
    """Code to be run for a script, with a seed of its own."""

    key: str
    stem: str
    code: str
    seed: int
    slips: Sequence[str] = ()
    spikes: bool = False
    """Whether the code sets spikes."""
    text: str = ""
    """The lesson's text with a change in it; empty: the lesson as it is."""
    limit: float = field(default_factory=lambda: LIMIT)


def job_of(question: Question, seed: int) -> Job:
    """Give the job of a question that has code."""
    slips = [slip.code for slip in question.slips]
    return Job(question.key, question.stem, question.code, seed, slips, question.kind == "raster")


class Numbers:
    """Runs jobs one after the other, in their order. Leaving its ``with`` statement ends the process."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._results: dict[str, Future[Computed]] = {job.key: Future() for job in jobs}
        self._process: subprocess.Popen[str] | None = None
        self._ended = threading.Event()
        self._lock = threading.Lock()
        threading.Thread(target=self._work, args=(list(jobs),), daemon=True).start()

    def __enter__(self) -> "Numbers":
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        with self._lock:
            process = self._process
        if process is not None:
            process.kill()
            with suppress(OSError, subprocess.TimeoutExpired):
                process.wait(5)

    def of(self, key: str) -> Computed:
        """Wait for the result of a job; nothing but Ctrl-C ends the wait before it."""
        while True:
            with suppress(TimeoutError):  # a wait without an end would not hear Ctrl-C on Windows
                return self._results[key].result(0.2)

    def is_ready(self, key: str) -> bool:
        """Say whether there is nothing to wait for."""
        return self._results[key].done()

    def _work(self, jobs: list[Job]) -> None:
        """Start the process as often as it takes: a job that ends it costs itself, and no other."""
        while jobs and not self._ended.is_set():
            done = 0
            for found in self._answers(jobs):
                self._results[found.pop("key")].set_result(Computed(**found))
                done += 1
            jobs = jobs[done:]
            if jobs:
                said = f"its code ended the process, or took more than {jobs[0].limit:g} s"
                self._results[jobs[0].key].set_result(Computed(error=said))
                jobs = jobs[1:]

    def _answers(self, jobs: list[Job]) -> Any:
        """Start a process, give it the jobs, and give its answers as they come."""
        with self._lock:
            if self._ended.is_set():
                return
            self._process = subprocess.Popen(
                [sys.executable, "-m", "snn_course.teaching.quiz_worker"],
                cwd=ROOT,
                env={"OMP_NUM_THREADS": "1", **os.environ, "PYTHONUTF8": "1"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                encoding="utf-8",
                start_new_session=os.name == "posix",  # Ctrl-C is for the one who asks
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(OSError, ValueError):  # it was ended meanwhile
            self._process.stdin.write(json.dumps([vars(job) for job in jobs]) + "\n")
            self._process.stdin.flush()
            for line in self._process.stdout:
                yield json.loads(line)
        self._process.kill()
        self._process.wait()
