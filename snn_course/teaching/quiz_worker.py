"""The process that runs the code of questions and of bug hunts, so that it may hang, crash or print.

It reads jobs as one line of JSON, and answers each with a line of JSON. It ends by itself when a job takes
too long, and when the process that asked is gone: then the pipe from which it has read comes to its end.
"""

import contextlib
import faulthandler
import io
import json
import math
import os
import random
import sys
import threading
import types
from typing import IO, Any

from snn_course.runs import lesson

Job = dict[str, Any]
Answer = dict[str, Any]

PLAIN = (bool, int, float, str)


def module_of(job: Job) -> types.ModuleType:
    """Load the lesson of a job, or the changed text of it that the job brings along."""
    module = lesson.load(job["stem"])
    if not job.get("text"):
        return module
    # The changed one has the place of the original, so that it finds what lies beside it.
    changed = types.ModuleType("snn_hunted")
    changed.__file__ = module.__file__
    sys.modules[changed.__name__] = changed  # dataclasses look there
    exec(compile(job["text"], str(module.__file__), "exec"), vars(changed))
    return changed


def names_for(job: Job) -> dict[str, Any]:
    """Give what the code finds: lesson, seed, rng, math, and torch, seeded."""
    seed = job["seed"]
    names: dict[str, Any] = {"seed": seed, "rng": random.Random(seed), "math": math}
    whole = " ".join([job["code"], *job.get("slips", [])])
    if "lesson" in whole:
        names["lesson"] = module_of(job)
    if "torch" in whole or "lesson" in whole or job.get("spikes"):
        import torch

        names["torch"] = torch
        torch.manual_seed(seed)
    return names


def answer(job: Job) -> Answer:
    """Run a job's code. Returns: its plain names, its answer, its slips, its spikes, what it printed."""
    printed = io.StringIO()
    names = names_for(job)
    with contextlib.redirect_stdout(printed):
        exec(compile(job["code"], "code", "exec"), names)
        slips = [float(eval(slip, names)) for slip in job.get("slips", [])]
    plain = {name: names[name] for name in names if isinstance(names[name], PLAIN)}
    found: Answer = {"names": plain, "slips": slips, "printed": printed.getvalue().strip("\n")}
    if "answer" in names:
        found["answer"] = float(names["answer"])
    if job.get("spikes"):
        found["spikes"] = names["torch"].as_tensor(names["spikes"]).int().tolist()
    return found


def answered(job: Job) -> Answer:
    """Run a job's code; what it raises becomes a line of words."""
    try:
        return answer(job)
    except BaseException as error:
        said = " ".join(str(error).split())
        return {"error": f"{type(error).__name__}: {said}"[:300]}


def end_with(stdin: IO[str]) -> None:
    """End this process when the one that asked is gone."""
    stdin.read()
    os._exit(0)


def main() -> None:
    """Be the process."""
    jobs = json.loads(sys.stdin.readline())
    threading.Thread(target=end_with, args=(sys.stdin,), daemon=True).start()
    # Answers go out by a way of their own: a package may print what it likes.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 1)
    for job in jobs:
        faulthandler.dump_traceback_later(job["limit"], exit=True, file=nowhere)
        print(json.dumps({"key": job["key"], **answered(job)}), file=out, flush=True)
    os._exit(0)  # some packages crash while the interpreter shuts down


if __name__ == "__main__":
    main()
