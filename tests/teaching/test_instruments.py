"""What the instruments note of a training: here the ways in which a single step is taken out of a tensor."""

from snn_course.teaching import instruments

import pytest
import torch

pytestmark = pytest.mark.usefixtures("watched")
STEPS = 12
ONE_BY_ONE = {
    "x[t]": lambda x, t: x[t],
    "x[t, ...]": lambda x, t: x[t, ...],
    "x[t:t+1]": lambda x, t: x[t : t + 1],
    "from behind": lambda x, t: x[t - STEPS : (t - STEPS + 1) or None],
    "narrow": lambda x, t: x.narrow(0, t, 1).squeeze(0),
    "a slice of a slice": lambda x, t: x[t : t + 1][0],
    "index_select": lambda x, t: x.index_select(0, torch.tensor([t])),
    "a list": lambda x, t: x[[t]],
    "a mask": lambda x, t: x[torch.arange(STEPS) == t],
}
AT_ONCE = {
    "unbind": lambda x: x.unbind(0),
    "split": lambda x: x.split(1),
    "a loop over it": list,
    "windows": lambda x: [x[t : t + 3] for t in range(0, STEPS, 3)],
    "shuffled": lambda x: [x[torch.randperm(STEPS)]] * 20,
    "steps that are alone": lambda x: [one[0] for one in x.split(1)],
}


def steps_noted(take):
    x = torch.rand(STEPS, 2, 3, requires_grad=True)
    with instruments.watching() as facts:
        total = sum(part.sum() for part in take(1 * x))
        total.backward()
    return facts.single_steps


@pytest.mark.parametrize("one", ONE_BY_ONE.values(), ids=ONE_BY_ONE)
def test_each_step_that_is_taken_out_alone_is_noted_once(one):
    assert steps_noted(lambda x: [one(x, t) for t in range(STEPS)]) == STEPS


@pytest.mark.parametrize("all_steps", AT_ONCE.values(), ids=AT_ONCE)
def test_what_takes_them_out_at_once_is_not(all_steps):
    assert steps_noted(all_steps) == 0
