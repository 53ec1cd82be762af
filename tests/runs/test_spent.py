"""What a run has cost: on the clock and of the processor, over all starts of a run that was cut off."""

import time

from snn_course.runs.spent import Spent


def work(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_it_counts_both_clocks():
    account = Spent()
    account.begin(0)
    work(0.1)
    time.sleep(0.5)
    total = account.total()
    assert total["seconds"] >= 0.6
    assert 0.1 <= total["cpu_seconds"] < 0.5


def test_a_second_start_goes_on_with_what_the_first_has_kept():
    account = Spent()
    account.begin(0)
    account.resume((50, 40))
    account.resume([70, 60])  # what a later state says
    account.resume((50, 40))
    work(0.1)
    clock, core = account.so_far()
    assert 70.1 <= clock < 75
    assert 60.1 <= core < 65


def test_each_seed_has_an_account_and_the_total_is_of_all():
    account = Spent()
    work(0.05)  # before the first seed begins
    for seed in (3, 4):
        account.begin(seed)
        account.resume((10, 10))
        work(0.05)
    assert 10.05 <= account.so_far()[1] < 15
    assert 20.15 <= account.total()["cpu_seconds"] < 25
