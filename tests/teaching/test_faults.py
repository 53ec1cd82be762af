"""A learner's file that hangs, prints without end, kills, forks or deletes: one clear line, and no harm."""

import subprocess
import sys
import time

from snn_course import ROOT
from snn_course.teaching import check, workspace

import psutil
import pytest

BEFORE = "    fired = (mem > threshold).to(mem.dtype)  # it fired on the last step, so: reset now\n"
FORBIDDEN = "a file that is checked may not"
STOPPED = "The check stopped:"
INSIDE = "snn_course.teaching.inside"


def put(script, code="", top=""):
    """Make lesson 01 the learner's file, with more lines in its second task, or at its top."""
    source = script.path.read_text(encoding="utf-8")
    assert source.count(BEFORE) == 1
    lines = "".join(f"    {line}\n" for line in code.splitlines())
    path = workspace.path_for(script)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(top + source.replace(BEFORE, lines + BEFORE), encoding="utf-8")
    return source.splitlines().index(BEFORE.rstrip("\n")) + 1


def running(file):
    """Find the processes that run a learner's file, and their forks, whoever has become their parent."""
    found = []
    for one in psutil.process_iter(["cmdline"]):
        words = one.info["cmdline"] or []
        if INSIDE in words and str(file.absolute()) in words:
            found.append(one.pid)
    return found


FAULTS = {
    "hangs": ("while True: pass", "it is not through: it is in line {line}."),
    "prints": ("while True: print('x' * 100)", "it prints without end."),
    "ends the interpreter": ("import os; os._exit(0)", "it ended the interpreter (exit code 0)."),
    "deletes": (
        "import shutil; shutil.rmtree({victim!r}, ignore_errors=True)",
        f"{FORBIDDEN} delete the folder",
    ),
    "forks": ("import os\nwhile True: os.fork()", f"{FORBIDDEN} start another"),
}
MORE = {
    "waits": ("import time; time.sleep(1000)", "it only waits: it is in line {line}."),
    "exits": ("import sys; sys.exit(0)", "It ends the program, by exit() or the like."),
    "interrupts": ("raise KeyboardInterrupt", "It ends with KeyboardInterrupt."),
    "kills itself": ("import os; os.kill(os.getpid(), 9)", "the interpreter was killed (signal 9)."),
    "kills its parent": ("import os; os.kill(os.getppid(), 9)", f"{FORBIDDEN} end another"),
    "starts a program": ("import subprocess; subprocess.run(['touch', 'x'])", f"{FORBIDDEN} start another"),
    "deletes its own folder": ("import shutil, os; shutil.rmtree(os.getcwd())", "does not hold"),
    "deletes itself": ("import pathlib; pathlib.Path(__file__).unlink()", f"{FORBIDDEN} delete"),
    "eats memory": ("keep = []\nwhile True: keep.append(torch.ones(10_000_000))", "3 GB of memory"),
    "fills the disk": (
        "with open('big', 'wb') as big:\n    while True: big.write(bytes(10_000_000))",
        "it has written more than 1 GB: it is in line",
    ),
    "wants a huge piece": ("keep = bytearray(10**14)", "It ends with MemoryError."),
    "uses the network": (
        "import urllib.request as u; u.urlopen('http://localhost:9')",
        f"{FORBIDDEN} use the",
    ),
    "calls itself": ("return lif_step(cur, mem, beta, threshold, reset)", "RecursionError"),
    "crashes": ("import ctypes; ctypes.string_at(0)", "the interpreter was killed (signal 11)."),
    "asks": ("input('number? ')", "EOFError"),
}
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in MORE]


@pytest.mark.parametrize("name", [*FAULTS, *SLOW])
@pytest.mark.skipif(sys.platform == "win32", reason="signals and forks are those of POSIX")
def test_a_fault_ends_in_one_clear_line_and_harms_nothing(script, name, tmp_path):
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "file").write_text("still here")
    code, told = (FAULTS | MORE)[name]
    line = put(script("01"), code.replace("{victim!r}", repr(str(victim))))
    text = workspace.path_for(script("01")).read_text(encoding="utf-8")
    passed, lines = check.check(script("01"), "python3 course.py", seconds=10)
    said = " ".join(" ".join(lines).split())
    assert not passed
    assert told.format(line=line) in said
    assert len(lines) < 30
    assert (victim / "file").read_text() == "still here"
    assert workspace.path_for(script("01")).read_text(encoding="utf-8") == text
    assert running(workspace.path_for(script("01"))) == []


@pytest.mark.parametrize(
    ("top", "told"),
    [
        ("import nothing_of_that_name\n", "No module named 'nothing_of_that_name' (line 1 of your file)."),
        ("def broken(:\n", "Python cannot read it: invalid syntax (line 1 of your file)."),
        ("import sys; sys.exit()\n", "it ends the program (line 1 of your file)."),
    ],
)
def test_a_file_that_cannot_be_loaded_names_its_line(script, top, told):
    put(script("01"), top=top)
    passed, lines = check.check(script("01"), "python3 course.py")
    assert not passed
    assert f"{STOPPED} " in " ".join(" ".join(lines).split())
    assert told in " ".join(" ".join(lines).split())
    assert lines[-1] == "Mend that first, and check again."


def test_what_a_file_prints_is_shown(script):
    put(script("01"), "print('the membrane', mem.shape)")
    passed, lines = check.check(script("01"), "python3 course.py")
    assert passed
    assert any("the membrane torch.Size(" in line for line in lines)


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_nothing_outlives_a_killed_terminal(script):
    put(script("01"), "import time; time.sleep(1000)")
    code = "import sys; sys.path.insert(0, sys.argv[1])\n"
    code += "from snn_course.runs import scripts; from snn_course.teaching import check\n"
    code += "check.check(scripts.pick(['01'], scripts.find(check.workspace.exercises.ROOT))[0], '')"
    process = subprocess.Popen([sys.executable, "-c", code, str(ROOT)])
    deadline = time.monotonic() + 60
    family = []
    while not any("inside" in " ".join(one.cmdline()) for one in family) and time.monotonic() < deadline:
        time.sleep(0.1)
        family = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(family, timeout=20)
    assert alive == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "left",
    [
        "import atexit, os; atexit.register(os._exit, 3)\n",
        "import threading, time; threading.Thread(target=time.sleep, args=(1000,)).start()\n",
    ],
)
def test_what_a_right_file_leaves_behind_does_not_make_it_wrong(script, left):
    put(script("01"), top=left)
    passed, lines = check.check(script("01"), "python3 course.py")
    assert passed, lines
