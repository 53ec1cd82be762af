"""The memory meter counts what is alive, and nothing else; a process can keep what it frees."""

import ctypes
import platform
import subprocess
import sys

from snn_course.costs import memory
from snn_course.costs.memory import peak_bytes

import pytest
import torch


def test_peak_is_what_is_held_at_the_worst_moment():
    def work():
        a = torch.rand(1000)
        b = a.exp()
        del a
        return torch.cat([b[:500], torch.rand(400)])

    assert peak_bytes(work) == 4 * (1000 + 400 + 900)  # all of b, for its view; not a any more


def test_what_was_there_before_is_free_and_so_are_its_views():
    x = torch.rand(50, 1000)
    assert peak_bytes(lambda: [row.view(10, 100) for row in x.unbind(0)]) == 0
    assert peak_bytes(lambda: x.add_(1)) == 0


def test_nothing_costs_nothing():
    assert peak_bytes(lambda: None) == 0


def test_graph_of_autograd_counts():
    weight = torch.rand(10, 10, requires_grad=True)

    def work(steps):
        x = torch.zeros(100, 10)
        for _ in range(steps):
            x = torch.tanh(x @ weight)
        return x.sum()

    held = [peak_bytes(lambda steps=steps: work(steps)) for steps in (10, 20, 30)]
    assert held[2] - held[1] == held[1] - held[0] == 10 * 100 * 10 * 4
    with torch.no_grad():
        assert peak_bytes(lambda: work(10)) == peak_bytes(lambda: work(30))


def test_two_measurements_do_not_mix():
    assert [peak_bytes(lambda: torch.rand(100)) for _ in range(3)] == [400] * 3


FAULTS = """
import ctypes, resource, sys, torch
from snn_course.costs import memory
ctypes.CDLL(None).mallopt(-3, 128 << 10)  # M_MMAP_THRESHOLD as it begins; later, luck moves it
if sys.argv[1] == "kept":
    assert memory.keep_freed()
def work():
    held = [torch.ones(megabytes * 2**18) for megabytes in (24, 24, 24, 40, 40)]
    del held
for _ in range(10):
    work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's malloc is told")
def test_a_process_keeps_what_it_frees():
    faults = {
        how: int(subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, check=True).stdout)
        for how in ("plain", "kept")
    }
    assert faults["kept"] < faults["plain"] / 10


def test_without_glibc_nothing_is_set(monkeypatch):
    def none(name):
        raise TypeError

    monkeypatch.setattr(ctypes, "CDLL", none)
    assert not memory.keep_freed()
