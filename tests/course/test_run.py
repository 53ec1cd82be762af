"""course.py run: what is started, in which order, what is shown, and how all of it ends."""

import os
import shlex
import signal
import subprocess
import sys
import time

from snn_course.journal import blocks as journal

import psutil
import pytest

WAITS = "pathlib.Path(__file__ + '.pid').write_text(str(os.getpid()))\n"
SAVES = WAITS + "try:\n    time.sleep(60)\nexcept KeyboardInterrupt:\n    print('saved'); sys.exit(130)"
CHILD = WAITS + (
    "import subprocess\n"
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
    "pathlib.Path(__file__ + '.child').write_text(str(child.pid))\n"
)
DEAF = "import signal\n" + "".join(
    f"signal.signal(signal.{name}, signal.SIG_IGN)\n" for name in ("SIGINT", "SIGTERM")
)
no_signals = pytest.mark.skipif(os.name == "nt", reason="a test cannot send Ctrl-C to one console process")


def pid_of(small, stem, kind="pid"):
    """Wait until a lesson runs, and give its process number."""
    file = small.root / "lessons" / f"{stem}.py.{kind}"
    deadline = time.monotonic() + 20
    while not (file.exists() and file.read_text()):
        assert time.monotonic() < deadline, "the lesson does not run"
        time.sleep(0.05)
    return int(file.read_text())


def all_end(pids, seconds):
    """Wait until no process of these is left."""
    deadline = time.monotonic() + seconds
    while any(psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def rows(text):
    """Give the lines of the final table."""
    return text.split("lesson                    measured")[1].splitlines()[1:]


# ---------------------------------------------------------------------- what is started and shown


def test_all_scripts_run_and_the_run_ends_with_a_table_and_a_page(small):
    (small.root / "00_environment_test.py").write_text("print('checked')", encoding="utf-8")
    small.lesson("capstone_pong", folder=".")
    ended = small.start("run", "--scale", "quick", "--jobs", "2")
    assert ended.returncode == 0, ended.stderr
    begun = [line for line in ended.stdout.splitlines() if line.startswith("[") and "ended" not in line]
    assert begun[0] == "[1/4] 00_environment_test"  # first and alone, each line as it comes
    assert begun[1] == "[4/4] capstone_pong begins, alone"
    assert set(begun[2:]) == {"[2/4] 01_first begins", "[3/4] 02_second begins"}
    assert ended.stdout.index("checked") < ended.stdout.index("capstone_pong begins")
    assert "[2/4] 01_first ended, " in ended.stdout
    assert (
        " s: a measure w.. 97.6 ± 0.1 %, >= 97, met\n    running 01_first ['--scale', 'quick']"
        in ended.stdout
    )
    table = rows(ended.stdout)
    assert [row.split()[0] for row in table[:4]] == [
        "00_environment_test",
        "01_first",
        "02_second",
        "capstone_pong",
    ]
    assert table[1] == "01_first                  a measure w.. 97.6 ± 0.1 % >= 97       met          2"
    assert all(len(row) < 80 for row in table[:4])
    assert (small.results / "index.html").exists()
    assert "running 01_first" in (small.results / "01_first" / "output.txt").read_text("utf-8")
    assert "\x1b" not in ended.stdout + ended.stderr


def test_one_after_the_other_each_script_shows_its_lines_as_they_come(small):
    small.lesson("capstone_pong", folder=".")
    ended = small.start("run", "--scale", "quick", "--jobs", "1")
    assert ended.returncode == 0, ended.stderr
    heads = [line for line in ended.stdout.splitlines() if line.startswith("[")]
    assert heads == ["[1/3] 01_first", "[2/3] 02_second", "[3/3] capstone_pong"]
    assert "[1/3] 01_first\nrunning 01_first ['--scale', 'quick']\n" in ended.stdout


def test_a_script_beside_others_has_one_thread_and_knows_that_it_is_not_alone(small):
    tells = "print('env', os.environ.get('OMP_NUM_THREADS'), os.environ.get('SNN_SHARED'))"
    for stem, folder in (("01_first", "lessons"), ("02_second", "lessons"), ("capstone_pong", ".")):
        small.lesson(stem, before=tells, folder=folder)
    said = small.start("run", "--jobs", "2", "--scale", "cpu", OMP_NUM_THREADS="7").stdout
    assert said.count("env 1 1\n") == 2
    assert said.count("env 1 None\n") == 1  # the capstone measures time, so it ran alone
    said = small.start("run", "--jobs", "1", "--scale", "cpu", OMP_NUM_THREADS="7").stdout
    assert said.count("env 7 None\n") == 3


def test_a_goal_that_a_stand_in_suspends_is_called_suspended(small):
    small.lesson("01_first", met=None)
    assert " suspended " in rows(small.start("run", "01").stdout)[0]
    assert "(goal >= 97, suspended)" in small.start("list").stdout


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_failed_lesson_stops_none_of_the_others(small, jobs):
    small.lesson("01_first", code=1, met=False)
    small.lesson("02_second", before="raise RuntimeError('boom')")
    small.lesson("03_third")
    ended = small.start("run", "--jobs", jobs)
    assert ended.returncode == 1
    first, second, third, *_ = rows(ended.stdout)
    assert "MISSED" in first
    assert "FAILED" in second
    assert "exit code 1" in second
    assert " met " in third
    assert "RuntimeError: boom" in ended.stdout + ended.stderr


def test_a_killed_script_is_named_so(small):
    small.lesson("01_first", before="os.kill(os.getpid(), 9)" if os.name != "nt" else "os._exit(3)")
    ended = small.start("run", "--jobs", "2")
    assert ended.returncode == 1
    assert ("killed by signal 9" if os.name != "nt" else "exit code 3") in rows(ended.stdout)[0]
    assert " met " in rows(ended.stdout)[1]


def test_an_old_result_is_not_taken_for_that_of_a_lesson_that_crashed(small):
    assert small.start("run", "01").returncode == 0
    small.lesson("01_first", before="sys.exit(2)")
    ended = small.start("run", "1")
    assert ended.returncode == 1
    assert "ended with exit code 2" in ended.stdout


def test_names_pick_scripts_and_options_may_stand_anywhere(small):
    ended = small.start("run", "02", "--scale", "quick", "01_fi", "--seeds", "3", "--fresh", "--jobs", "1")
    assert ended.returncode == 0, ended.stderr
    assert "[1/2] 01_first" in ended.stdout
    assert "running 02_second ['--scale', 'quick', '--seeds', '3', '--fresh']" in ended.stdout


def test_results_go_where_the_environment_says_from_any_folder(small, tmp_path):
    ended = small.start("run", "01", cwd=tmp_path, SNN_RESULTS="here")
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "here" / "01_first" / "cpu" / "metrics.json").exists()
    assert (tmp_path / "here" / "index.html").exists()


def test_a_results_folder_that_cannot_be_is_one_line_before_anything_starts(small, tmp_path):
    (tmp_path / "file").touch()
    ended = small.start("run", "--jobs", "2", SNN_RESULTS=str(tmp_path / "file"))
    assert ended.returncode == 2
    assert "Set SNN_RESULTS" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert "begins" not in ended.stdout


def test_two_scripts_that_end_at_once_both_land_in_the_journal_in_its_order(small, tmp_path):
    writes = (
        "from snn_course import journal_file\nfrom snn_course.journal import blocks as journal\n"
        "for turn in range(6):\n    journal.write_block(journal_file(), stem + ' cpu', f'{stem} {turn}')"
    )
    stems = ("02_spike_encoding", "03_spike_visualization", "01_lif_neuron")
    for old in ("01_first", "02_second"):
        (small.root / "lessons" / f"{old}.py").unlink()
    for stem in stems:
        small.lesson(stem, before=writes)
    log = tmp_path / "journal.md"
    log.write_text(journal.template().replace("- Discoveries", "- Mine\n- Discoveries", 1), encoding="utf-8")
    ended = small.start("run", "--jobs", "3", SNN_JOURNAL=str(log))
    assert ended.returncode == 0, ended.stdout
    text = log.read_text(encoding="utf-8")
    places = [text.index(f"{stem} 5\n") for stem in sorted(stems)]
    assert places == sorted(places)
    assert text.count("measured:begin") == 3
    assert "- Mine\n" in text


# ---------------------------------------------------------------------- how it ends


@no_signals
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_ctrl_c_lets_the_lesson_save_and_says_how_to_resume(small, jobs):
    small.lesson("02_second", before=SAVES)
    small.lesson("03_third", before="time.sleep(60)" if jobs == "2" else "")
    process = small.begin("run", "--scale", "quick", "--fresh", "--jobs", jobs)
    pid_of(small, "02_second")
    time.sleep(1)
    began = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)  # what a terminal does
    seen = process.communicate(timeout=30)[0]
    assert time.monotonic() - began < 5
    assert process.returncode == 130
    if jobs == "1":
        assert "saved" in seen
        assert "running 03_third" not in seen
    else:
        assert "saved" in (small.results / "02_second" / "output.txt").read_text("utf-8")
    assert [row.split()[0] for row in rows(seen)[:1]] == ["01_first"]
    again = next(
        line for line in seen.splitlines() if line.endswith(f"run 02 03 --scale quick --jobs {jobs}")
    )
    small.lesson("02_second")
    small.lesson("03_third")
    resumed = subprocess.run(
        [sys.executable, *shlex.split(again)[1:]],
        cwd=small.root.parent,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert [row.split()[0] for row in rows(resumed.stdout)[:2]] == ["02_second", "03_third"]


@no_signals
@pytest.mark.parametrize(("sent", "deaf"), [("SIGTERM", ""), ("SIGTERM", DEAF), ("SIGINT", DEAF)])
def test_a_signal_to_course_py_ends_the_whole_tree(small, sent, deaf):
    """Lessons that listen, and lessons that do not, with processes of their own."""
    for stem in ("01_first", "02_second"):
        small.lesson(stem, before=deaf + CHILD + "child.wait()")
    process = small.begin("run", "--jobs", "2")
    pids = [pid_of(small, stem, kind) for stem in ("01_first", "02_second") for kind in ("pid", "child")]
    began = time.monotonic()
    process.send_signal(getattr(signal, sent))
    seen = process.communicate(timeout=30)[0]
    assert time.monotonic() - began < 5
    assert process.returncode == 130
    assert all_end(pids, 1)
    assert "course.py' run --jobs 2\n" in seen  # all are left: none needs to be named
    assert "Traceback (most recent call last)" not in seen.split("Stopped.")[1]


@no_signals
def test_a_second_ctrl_c_waits_for_nobody(small):
    small.lesson("01_first", before=DEAF + SAVES)
    process = small.begin("run", "01")
    pid = pid_of(small, "01_first")
    began = time.monotonic()
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
    process.communicate(timeout=30)
    assert time.monotonic() - began < 1.4
    assert all_end([pid], 1)


@no_signals
@pytest.mark.parametrize("command", [("run", "--jobs", "2"), ("run", "--jobs", "1"), ("env",)])
def test_nothing_outlives_a_killed_course(small, command):
    """After kill -9, course.py can tell nobody: its guard ends the scripts, and what they have started."""
    name = "00_environment_test" if command == ("env",) else "01_first"
    small.lesson(name, before=DEAF + CHILD + "child.wait()", folder="lessons")
    if command == ("env",):
        (small.root / "lessons" / f"{name}.py").rename(small.root / f"{name}.py")
        (small.root / "lessons" / f"{name}.py.pid").symlink_to(small.root / f"{name}.py.pid")
        (small.root / "lessons" / f"{name}.py.child").symlink_to(small.root / f"{name}.py.child")
    process = small.begin(*command)
    pids = {pid_of(small, name, kind) for kind in ("pid", "child")}
    family = {one.pid for one in psutil.Process(process.pid).children(recursive=True)}
    process.kill()
    process.wait()
    assert pids <= family
    assert all_end(family, 5)


@no_signals
def test_a_run_whose_reader_goes_away_ends_quietly(small):
    small.lesson("01_first", before=WAITS + "time.sleep(2)")
    small.lesson("02_second", before=WAITS + "time.sleep(60)")
    with subprocess.Popen(
        [sys.executable, str(small.root / "course.py"), "run", "--jobs", "2"],
        env=small.environment({}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    ) as process:
        pid = pid_of(small, "02_second")
        process.stdout.close()  # as `| head` does; the next line meets nobody
        assert "Traceback" not in process.stderr.read()
        assert process.wait(20) == 0
    assert all_end([pid], 1)
