"""Unfinished states: each kind of damage is named, set aside, and costs one step of the run, not the run."""

import io
import os
import pickle
import re
import shutil
import subprocess
import time
from functools import partial
from pathlib import Path

from snn_course.runs import lesson, unfinished
from snn_course import UsageError, results_dir
from snn_course.networks import training

import pytest
import torch
from torch import nn


class Dangerous:
    """A pickle that runs code when it is read."""

    def __reduce__(self):
        return Path.touch, (Path(os.environ["SNN_RESULTS"], "code_ran"),)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def put_a_folder(path: Path) -> None:
    path.unlink()
    (path / "full").mkdir(parents=True)


def link_to_nowhere(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def torch_file(content) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


RANDOM = {"cpu": torch.get_rng_state(), "cuda": []}
DAMAGES = {
    "truncated": truncate,
    "one byte short": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "one byte long": lambda path: path.write_bytes(path.read_bytes() + b"\n"),
    "one bit": flip_a_bit,
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("not a state"),
    "a folder": put_a_folder,
    "wrong keys": lambda path: path.write_bytes(torch_file({"epochs": 3})),
    "wrong state": lambda path: path.write_bytes(torch_file({"state": {"a": 1}, "random": RANDOM})),
    "a list": lambda path: path.write_bytes(torch_file([1, 2])),
    "foreign pickle": lambda path: path.write_bytes(pickle.dumps(Dangerous())),
    "JSON": lambda path: path.write_text('{"measures": {}}'),
}
if os.name == "posix":
    DAMAGES["link to nowhere"] = link_to_nowhere


# ------------------------------------------------------------------ the files


@pytest.fixture
def kept(tmp_path):
    """Give the kept files of a run, and what was said."""
    script, said = tmp_path / "77_test.py", []
    script.write_text("")
    made = unfinished.Unfinished(tmp_path / "unfinished", lesson.Config(), script, said.append)
    made.said = said
    return made


def keep(kept, name: str, text: str) -> None:
    kept.keep(name, partial(Path.write_text, data=text))


def find(kept, name: str) -> str | None:
    return kept.find(name, lambda path: unfinished.body(path).decode())


def test_two_generations_are_kept(kept):
    assert find(kept, "net.pt") is None
    for text in ("one", "two", "three"):
        keep(kept, "net.pt", text)
        assert find(kept, "net.pt") == text
    assert {path.name for path in kept.folder.iterdir()} == {"net.pt", "net.before.pt"}
    assert kept.said == []


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_gives_way_to_the_one_before(kept, damage):
    keep(kept, "net.pt", "one")
    keep(kept, "net.pt", "two")
    damage(kept.folder / "net.pt")
    assert find(kept, "net.pt") == "one"
    (line,) = kept.said
    assert re.search(
        r"net\.pt is damaged \(.+\)\. It is now net\.pt\.damaged; going on from the state before", line
    )
    damage(kept.folder / "net.before.pt")
    assert find(kept, "net.pt") is None
    assert "going on from the beginning" in kept.said[1]
    names = {path.name for path in kept.folder.iterdir()}
    assert names == {"net.pt.damaged", "net.before.pt.damaged"}
    keep(kept, "net.pt", "three")
    assert find(kept, "net.pt") == "three"


def test_damaged_files_do_not_replace_each_other(kept):
    for _ in range(3):
        keep(kept, "net.pt", "one")
        truncate(kept.folder / "net.pt")
        assert find(kept, "net.pt") is None
    names = {path.name for path in kept.folder.iterdir()}
    assert names == {"net.pt.damaged", "net.pt.damaged2", "net.pt.damaged3"}


def test_a_kill_between_two_generations_loses_neither(kept):
    keep(kept, "net.pt", "one")
    keep(kept, "net.pt", "two")
    (kept.folder / "net.pt").replace(kept.folder / "net.before.pt")
    assert find(kept, "net.pt") == "two"
    assert kept.said == []


def test_lack_of_memory_is_no_damage(kept):
    def greedy(_):
        raise MemoryError

    keep(kept, "net.pt", "one")
    with pytest.raises(MemoryError):
        kept.find("net.pt", greedy)
    assert find(kept, "net.pt") == "one"


@pytest.mark.parametrize("name", ["a/b", "tiny {'beta': 0.5}", "L1 0.1", "..", "größer", "x:y|z?"])
def test_any_name_can_be_kept(kept, name):
    keep(kept, f"{name}.pt", name)
    keep(kept, f"{name.replace('/', '-')}.pt", "other")
    assert find(kept, f"{name}.pt") == (name if "/" in name else "other")
    assert len(list(kept.folder.parent.iterdir())) == 1


def test_only_this_run_is_forgotten(kept, tmp_path):
    keep(kept, "net.pt", "one")
    others = {name: kept.home / name for name in ("new", "old")}
    for folder in others.values():
        folder.mkdir()
        (folder / "net.pt").write_text("hours of work")
    os.utime(others["old"], (0, 0))
    kept.clear()
    assert list(kept.home.iterdir()) == [others["new"]]
    shutil.rmtree(others["new"])
    kept.clear()
    assert not kept.home.exists()


def test_damaged_files_stay_when_the_run_is_finished(kept):
    keep(kept, "net.pt", "one")
    truncate(kept.folder / "net.pt")
    find(kept, "net.pt")
    keep(kept, "net.pt", "two")
    kept.clear()
    assert [path.name for path in kept.folder.iterdir()] == ["net.pt.damaged"]


# ------------------------------------------------------------------ parts that do not fit


def test_parts_are_filled_all_or_none():
    torch.manual_seed(0)
    net, tensor = nn.Linear(2, 3), torch.zeros(4)
    weight = net.weight.detach().clone()
    good = {"net": {"weight": torch.ones(3, 2), "bias": torch.ones(3)}, "tensor": torch.ones(4)}
    wrong = [
        {"net": good["net"]},
        good | {"tensor": torch.ones(1)},  # would be spread over all four
        good | {"net": {"weight": torch.ones(3, 2)}},
        good | {"net": {"weight": torch.ones(3, 2), "bias": torch.ones(4)}},
    ]
    for state in wrong:
        with pytest.raises((KeyError, ValueError, RuntimeError)):
            unfinished.fill({"net": net, "tensor": tensor}, state)
        assert torch.equal(net.weight, weight)
        assert not tensor.any()
    unfinished.fill({"net": net, "tensor": tensor}, good)
    assert net.weight.eq(1).all()
    assert tensor.eq(1).all()


class Killed(Exception):
    pass


RECIPE = training.Recipe(epochs=3, batch=8, rate=1e-2)


def fit(killed_after: int | None = None, width: int = 4) -> tuple[list[float], str]:
    """Train in a run of its own, as a new process does. Returns: losses, and what was printed."""
    run = lesson.Run(lesson.Config(scale="quick", device="cpu"), Path(__file__))
    run.begin(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, width), nn.ReLU(), nn.Linear(width, 4))
    labels = torch.arange(32) % 4
    images = (torch.randint(60, (32, 1, 4, 4)) + 50 * labels.view(-1, 1, 1, 1)).to(torch.uint8)
    save, saved = run.save, []

    def save_and_die(name, state):
        save(name, state)
        saved.append(name)
        if len(saved) == killed_after:
            raise Killed

    run.save = save_and_die
    with run.console.capture() as printed:
        history = training.fit(run, "net", net, images, labels, RECIPE)
    return [entry["loss"] for entry in history], printed.get()


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("lost", ["newest", "both"])
def test_a_training_goes_on_from_the_state_before(lost, damage):
    whole, _ = fit()
    shutil.rmtree(results_dir())
    with pytest.raises(Killed):
        fit(killed_after=2)
    for path in results_dir().rglob("net-seed0*.pt"):
        if lost == "both" or "before" not in path.name:
            damage(path)
    losses, printed = fit()
    assert losses == whole
    assert printed.count("is damaged") == (2 if lost == "both" else 1)
    assert printed.count("net: resumed") == (0 if lost == "both" else 1)
    assert not (results_dir() / "code_ran").exists()


def test_a_sound_state_that_does_not_fit_leaves_the_network_as_it_was():
    whole, _ = fit()
    shutil.rmtree(results_dir())
    with pytest.raises(Killed):
        fit(killed_after=2, width=5)  # as an older version of the course may have kept it
    losses, printed = fit()
    assert losses == whole
    assert printed.count("is damaged") == 2
    assert "size mismatch" in printed


# ------------------------------------------------------------------ whole runs


def draw(cut: bool, config: lesson.Config, run: lesson.Run) -> None:
    """A lesson. If it is to be cut off, then seed 0 in its first epoch, seed 1 in its second."""
    state = run.load("net") or {"draws": []}
    for epoch in range(len(state["draws"]), 3):
        state["draws"].append(torch.rand(1).item())
        run.save("net", state)
        if cut and epoch == config.seed:
            raise KeyboardInterrupt
    run.measure("sum", sum(state["draws"]))


@pytest.fixture
def start(tmp_path, capsys):
    """Give a function that runs the lesson as a new process does. Returns: the sums, what was printed."""
    script = tmp_path / "77_test.py"
    script.write_text('"""Lesson 77: a test."""')

    def start(cut: bool = False, **settings) -> tuple[list[float], str]:
        config = lesson.Config(scale="quick", device="cpu", **settings)
        try:
            metrics = lesson.execute(partial(draw, cut), config, script)
        except KeyboardInterrupt:
            assert cut
            return [], capsys.readouterr().out
        return metrics["measures"][0]["values"], capsys.readouterr().out

    return start


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_run_over_seeds_goes_on_whatever_was_damaged(start, damage):
    whole, _ = start(seeds=2)
    start(cut=True, seeds=2)
    start(cut=True, seeds=2)
    kept = {path.name for path in results_dir().rglob("unfinished/*/*")}
    assert kept == {f"net-seed{n}{old}.pt" for n in (0, 1) for old in ("", ".before")} | {"seed0.json"}
    for name in ("net-seed1.pt", "seed0.json"):
        damage(next(results_dir().rglob(f"unfinished/*/{name}")))
    sums, printed = start(seeds=2)
    assert sums == whole
    lines = [line for line in printed.splitlines() if "is damaged" in line]
    assert len(lines) == 2
    assert all(".damaged; going on from " in line for line in lines)  # a whole line each, however long
    assert not (results_dir() / "code_ran").exists()
    left = {path.name for path in results_dir().rglob("unfinished/*/*")}
    assert left == {"net-seed1.pt.damaged", "seed0.json.damaged"}


def test_the_time_of_an_earlier_start_counts(tmp_path):
    script = tmp_path / "77_test.py"
    script.write_text('"""Lesson 77: a test."""')

    def slow(config: lesson.Config, run: lesson.Run) -> None:
        if run.load("net") is None:
            end = time.process_time() + 0.5
            while time.process_time() < end:
                pass
            run.save("net", {})
            raise KeyboardInterrupt
        run.measure("nothing", 0)

    config = lesson.Config(scale="quick", device="cpu")
    with pytest.raises(KeyboardInterrupt):
        lesson.execute(slow, config, script)
    before = time.process_time()
    metrics = lesson.execute(slow, config, script)
    assert metrics["cpu_seconds"] >= 0.5 > time.process_time() - before


def test_a_state_from_before_it_told_its_cost_is_taken(start, monkeypatch):
    whole, _ = start()
    save = torch.save

    def save_as_before(kept, path):
        save({name: kept[name] for name in ("state", "random")}, path)

    monkeypatch.setattr(torch, "save", save_as_before)
    start(cut=True)
    sums, printed = start()
    assert sums == whole
    assert "net: resumed" in printed
    assert "is damaged" not in printed


def test_fresh_forgets_an_earlier_start(start):
    start(cut=True)
    assert "resumed" not in start(fresh=True)[1]
    assert not list(results_dir().rglob("unfinished"))


# ------------------------------------------------------------------ the results folder


def put_folder(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir(parents=True)


def put_file(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("in the way")


def lock(path: Path) -> None:
    path.write_text("{}")
    path.chmod(0o444)


BLOCKED = {
    "metrics.json is a folder": ("77_test/quick/metrics.json", put_folder),
    "a figure is a folder": ("77_test/quick/raster.png", put_folder),
    "unfinished is a file": ("77_test/quick/unfinished", put_file),
    "the scale's folder is a file": ("77_test/quick", put_file),
    "the script's folder is a file": ("77_test", put_file),
    "metrics.json is read-only": ("77_test/quick/metrics.json", lock),
}


def stopped(start, capsys, **settings) -> str:
    """Start a run that is refused before its work begins. Returns: the reason."""
    with pytest.raises(UsageError) as caught:
        start(**settings)
    assert capsys.readouterr().out == ""
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("where", BLOCKED)
@pytest.mark.parametrize("fresh", [False, True])
def test_what_stands_in_the_way_is_told_before_the_work_starts(start, capsys, where, fresh):
    path, block = BLOCKED[where]
    if "77_test/quick/" in path:
        start()
    block(results_dir() / path)
    assert path.rsplit("/", 1)[-1] in stopped(start, capsys, fresh=fresh)
    assert not [name for name in results_dir().rglob("*") if ".part" in name.name]


def test_the_results_folder_is_a_file(start, capsys):
    put_file(results_dir())
    assert "a file stands where a folder belongs" in stopped(start, capsys)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="root alone may mount")
@pytest.mark.parametrize("state", ["full", "read-only"])
def test_a_disk_that_takes_nothing(start, capsys, state):
    results_dir().mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=100k", "none", results_dir()]
    if subprocess.run(mount, check=False).returncode:
        pytest.skip("this system lets nobody mount a small disk")
    try:
        if state == "full":
            (results_dir() / "filler").write_bytes(bytes(60_000))
        else:
            subprocess.run(["mount", "-o", "remount,ro", results_dir()], check=True)
        assert state in stopped(start, capsys)
    finally:
        subprocess.run(["umount", "-l", results_dir()], check=True)


def test_a_disk_that_fills_up_in_the_middle_keeps_the_state_before(start, tmp_path, monkeypatch):
    run = lesson.Run(lesson.Config(scale="quick", device="cpu"), Path(__file__))
    run.begin(0)
    run.save("net", {"epoch": 1})

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UsageError, match="the disk is full"):
        run.save("net", {"epoch": 2})
    monkeypatch.undo()
    monkeypatch.setenv("SNN_RESULTS", str(tmp_path / "results"))
    assert run.load("net") == {"epoch": 1}
    assert not [path for path in (tmp_path / "results").rglob("*") if ".part" in path.name]
