"""What a learner brings from snnTorch works as it does there, or is refused in one sentence."""

import os
from typing import Any

from snn_course.networks import neurons, to_snntorch
from snn_course.networks.from_snntorch import MECHANISMS
from snn_course.networks.neurons import Leaky, leaky

import pytest
import snntorch as snn
import torch
from snntorch import surrogate as snn_surrogate

NETS = int(os.environ.get("SNN_RANDOM_NETS", "30"))
"""Random networks that are compared; tried once with 1,000."""

THEIRS = {
    "atan": snn_surrogate.atan(),
    "fast_sigmoid": snn_surrogate.fast_sigmoid(slope=10),
    "sigmoid": snn_surrogate.sigmoid(slope=5),
    "triangular": snn_surrogate.triangular(),
    "straight_through": snn_surrogate.straight_through_estimator(),
    "heaviside": snn_surrogate.heaviside(),
    "spike_rate_escape": snn_surrogate.spike_rate_escape(),
    "SFS": snn_surrogate.SFS(slope=10, B=1),
    "custom": snn_surrogate.custom_surrogate(lambda x, grad, spk: grad / (1 + x.abs())),
}


def by_steps(lif: snn.Leaky, cur: torch.Tensor, mem: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    record = []
    for cur_t in cur.unbind(0):
        spk, mem = lif(cur_t, mem)
        record.append((spk.to(cur.dtype), mem))
    spk_rec, mem_rec = zip(*record, strict=True)
    return torch.stack(spk_rec), torch.stack(mem_rec)


def assert_same(own: Any, theirs: Any, inputs: list[list[torch.Tensor]], within: float = 1e-6) -> None:
    """Compare spikes, membranes, and the gradients that arrive at both kinds of inputs."""
    assert torch.equal(own[0], theirs[0])
    torch.testing.assert_close(own[1], theirs[1], rtol=1e-12, atol=1e-12)
    weight = torch.randn(own[0].shape, dtype=torch.float32).double()  # snnTorch's spikes are float32
    for (spk, mem), leaves in zip((own, theirs), inputs, strict=True):
        for leaf in leaves:
            leaf.grad = None
        ((spk * weight).sum() + (mem * mem * weight).sum()).backward()
    for mine, wanted in zip(*inputs, strict=True):
        torch.testing.assert_close(mine.grad, wanted.grad, rtol=within, atol=within)


@pytest.mark.parametrize("name", THEIRS)
@pytest.mark.parametrize("reset", MECHANISMS)
def test_surrogate_objects_give_their_gradients(name: str, reset: Any) -> None:
    torch.manual_seed(0)
    cur = (0.3 + 0.6 * torch.randn(30, 2, 5, dtype=torch.float64)).requires_grad_()
    twin, mem = cur.detach().clone().requires_grad_(), torch.zeros(2, 5, dtype=torch.float64)
    theirs = snn.Leaky(0.9, spike_grad=THEIRS[name], reset_mechanism=reset).double()
    own = Leaky(0.9, spike_grad=THEIRS[name], reset_mechanism=reset).double()
    assert_same(own(cur), by_steps(theirs, twin, mem), [[cur], [twin]])


def test_a_spike_function_of_ones_own_is_told_from_a_derivative() -> None:
    class Spike(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return (x > 0).float()

        @staticmethod
        def backward(ctx, grad):
            return 3 * grad

    cur = torch.rand(1, 5, requires_grad=True)
    for surrogate, slope in ((Spike.apply, 3), (lambda x: (x > 0).float(), 0), (torch.ones_like, 1)):
        (grad,) = torch.autograd.grad(leaky(cur, 0.9, surrogate=surrogate)[0].sum(), cur)
        assert grad.unique().tolist() == [slope]


def test_a_surrogate_that_cannot_be_called_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot take x"):
        Leaky(0.9, surrogate=lambda x, y: x)
    with pytest.raises(ValueError, match="cannot take x"):  # snnTorch 1.0 calls its own function wrongly
        Leaky(0.9, surrogate=snn_surrogate.LSO())


def random_net(seed: int) -> tuple[dict[str, Any], torch.Tensor, torch.Tensor]:
    """Draw options of a layer, its currents [T, B, N] and its first membrane [B, N]."""
    torch.manual_seed(seed)
    steps, batch, size = (int(torch.randint(1, most, ())) for most in (40, 4, 8))
    each = size if seed % 2 else ()
    options = {
        "beta": torch.rand(each, dtype=torch.float64),
        "threshold": (0.2 + torch.rand(size if seed % 3 else ())).double(),  # snnTorch rounds it to float32
        "learn_beta": True,
        "learn_threshold": True,
        "reset_mechanism": MECHANISMS[seed % len(MECHANISMS)],
        "spike_grad": list(THEIRS.values())[seed % len(THEIRS)],
        "reset_delay": seed % 5 > 0,
    }
    cur = torch.rand(()) + torch.rand(()) * torch.randn(steps, batch, size, dtype=torch.float64)
    return options, cur.requires_grad_(), torch.rand(batch, size, dtype=torch.float64).requires_grad_()


@pytest.mark.parametrize("first", range(0, NETS, 10))
def test_random_networks_equal_snntorch_in_spikes_and_every_gradient(first: int) -> None:
    drawn = [random_net(seed) for seed in range(first, first + 10)]
    torch.set_default_dtype(torch.float64)
    try:
        for options, cur, mem in drawn:
            theirs, own = (kind(**options) for kind in (snn.Leaky, Leaky))
            twins = [x.detach().clone().requires_grad_() for x in (cur, mem)]
            inputs = [[cur, mem, own.beta, own.threshold], [*twins, theirs.beta, theirs.threshold]]
            within = 1e-5  # its spikes are float32, and so are some of its surrogates' products
            assert_same(own(cur, mem), by_steps(theirs, *twins), inputs, within)
    finally:
        torch.set_default_dtype(torch.float32)


def test_thresholds_may_be_learned_per_neuron() -> None:
    lif = Leaky(0.9, torch.tensor([0.5, 1.0]), learn_threshold=True)
    spk, _ = lif(torch.full((50, 1, 2), 0.3))
    assert spk.sum(0)[0, 0] > spk.sum(0)[0, 1]
    spk.sum().backward()
    assert (lif.threshold.grad < 0).all()  # a higher threshold, fewer spikes
    assert "threshold=(2,)" in repr(lif)


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("reset", MECHANISMS)
def test_state_dict_of_snntorch_loads(learned: bool, reset: Any) -> None:
    theirs = snn.Leaky(torch.rand(3), torch.rand(3), reset_mechanism=reset, learn_beta=learned)
    own, cur = Leaky(torch.zeros(3), torch.ones(3), learn_beta=learned), torch.rand(20, 2, 3)
    own.load_state_dict(theirs.state_dict())
    assert own.reset == reset
    assert torch.equal(own(cur)[0], by_steps(theirs, cur, torch.zeros(2, 3))[0])


def test_state_dict_within_a_network_loads_and_so_does_one_from_before_thresholds_were_stored() -> None:
    theirs = torch.nn.Sequential(torch.nn.Linear(2, 3), snn.Leaky(0.7, reset_mechanism="zero"))
    own = torch.nn.Sequential(torch.nn.Linear(2, 3), Leaky(0.9))
    own.load_state_dict(theirs.state_dict())
    assert own[1].beta.item() == pytest.approx(0.7)
    assert own[1].reset == "zero"
    lif = Leaky(0.9, 2.0)
    lif.load_state_dict({"beta": torch.tensor(0.5)})
    assert (lif.beta.item(), lif.threshold.item()) == (0.5, 2.0)


@pytest.mark.parametrize("reset", MECHANISMS)
def test_state_dict_goes_back_to_snntorch(reset: Any) -> None:
    own = torch.nn.Sequential(torch.nn.Linear(3, 3), Leaky(torch.rand(3), torch.rand(3), reset=reset))
    theirs = torch.nn.Sequential(
        torch.nn.Linear(3, 3), snn.Leaky(torch.rand(3), threshold=torch.ones(3), reset_mechanism=reset)
    )
    theirs.load_state_dict(to_snntorch.state_dict(own))
    x = 3 * torch.rand(20, 2, 3)
    with torch.no_grad():
        spk, _ = by_steps(theirs[1], theirs[0](x), torch.zeros(2, 3))
        assert torch.equal(own(x)[0], spk)
    assert set(to_snntorch.state_dict(own[1])) == set(theirs[1].state_dict())  # a neuron alone, too
    assert "1.reset_mechanism_val" not in own.state_dict()  # what is stored here stays as it was


def test_a_reset_that_snntorch_has_not_does_not_go_back() -> None:
    with pytest.raises(ValueError, match=r"snn.Leaky has no reset 'subtract first', which 0 has"):
        to_snntorch.state_dict(torch.nn.Sequential(Leaky(0.9, reset="subtract first")))


@pytest.mark.parametrize("name", ["beta", "threshold"])
def test_numbers_of_each_neuron_do_not_load_into_one_for_all(name: str) -> None:
    """PyTorch takes the first of them, without a word."""
    each = {"beta": torch.tensor(0.5), "threshold": torch.tensor(1.0)} | {name: torch.tensor([0.3, 0.6])}
    with pytest.raises(ValueError, match=rf"one {name} and cannot load \[2\]: make it with torch.ones"):
        Leaky(0.9).load_state_dict(snn.Leaky(**each).state_dict())
    one = {"beta": torch.tensor(0.5), "threshold": torch.tensor(1.0)} | {name: torch.tensor([0.3])}
    lif = Leaky(0.9)
    lif.load_state_dict(snn.Leaky(**one).state_dict())
    assert getattr(lif, name).item() == pytest.approx(0.3)


def test_graded_spikes_in_a_state_dict_are_refused() -> None:
    with pytest.raises(ValueError, match="multiply the spikes"):
        Leaky().load_state_dict(snn.Leaky(0.9, graded_spikes_factor=2.0).state_dict())


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("init_hidden", True, "keeps no state"),
        ("output", True, "always gives spikes and membranes"),
        ("inhibition", True, "do not see one another"),
        ("state_quant", torch.round, "not rounded"),
        ("surrogate_disable", True, "detach"),
        ("graded_spikes_factor", 2.0, "multiply"),
        ("graded_spikes_factor", torch.tensor([1.0, 2.0]), "multiply"),
        ("learn_graded_spikes_factor", True, "parameter of your own"),
    ],
)
def test_options_without_a_meaning_are_refused_in_one_sentence(option: str, value: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says) as refused:
        Leaky(0.9, **{option: value})
    assert option in str(refused.value)
    assert "\n" not in str(refused.value)


def test_options_at_their_usual_values_are_taken() -> None:
    plain = {"init_hidden": False, "output": False, "state_quant": False, "graded_spikes_factor": 1.0}
    assert repr(Leaky(0.5, **plain, reset_delay=True)) == repr(Leaky(0.5))
    assert repr(Leaky(0.5, graded_spikes_factor=torch.ones(3))) == repr(Leaky(0.5))
    with pytest.raises(TypeError, match="no option 'spike_grads'"):
        Leaky(0.5, spike_grads=None)


def test_one_thing_by_two_names_is_refused() -> None:
    with pytest.raises(ValueError, match="surrogate and spike_grad are two names"):
        Leaky(0.5, surrogate=neurons.atan(), spike_grad=snn_surrogate.atan())
    with pytest.raises(ValueError, match="reset and reset_mechanism are two names"):
        Leaky(0.5, reset="none", reset_mechanism="zero")
    assert Leaky(0.5, reset="zero", reset_mechanism="zero").reset == "zero"


def test_a_surrogate_in_the_place_of_the_reset_is_told_its_name() -> None:
    with pytest.raises(ValueError, match="spike_grad="):
        Leaky(0.5, 1.0, snn_surrogate.atan())  # snn.Leaky's third argument


def test_a_surrogate_that_is_learned_is_refused() -> None:
    class Learned(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.slope = torch.nn.Parameter(torch.ones(()))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return snn_surrogate.fast_sigmoid(25)(x) * self.slope

    with pytest.raises(ValueError, match="parameters to learn"):
        Leaky(0.5, surrogate=Learned())
    Leaky(0.5, surrogate=Learned().requires_grad_(False))


def test_a_faulty_way_back_is_refused_at_construction() -> None:
    class Forgets(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return (x > 0).float()  # and x is not saved

        @staticmethod
        def backward(ctx, grad):
            (x,) = ctx.saved_tensors
            return grad * x

    with pytest.raises(ValueError, match="has no way back to x"):
        Leaky(0.5, surrogate=Forgets.apply)


def test_a_threshold_of_nan_is_refused_and_one_without_end_is_not() -> None:
    with pytest.raises(ValueError, match="threshold is nan"):
        Leaky(0.5, threshold=float("nan"))
    assert Leaky(0.5, threshold=float("inf"))(torch.rand(5, 2))[0].sum() == 0


@pytest.mark.parametrize("reset_delay", [True, False])
@pytest.mark.parametrize("name", ["beta", "threshold", "mem"])
def test_a_shape_that_does_not_fit_is_named(name: str, reset_delay: bool) -> None:
    settings = {"beta": 0.9, "threshold": 1.0} | ({name: torch.full((4,), 0.5)} if name != "mem" else {})
    mem = torch.zeros(2, 5) if name == "mem" else None  # of the batch before, say
    with pytest.raises(ValueError, match=rf"{name} \[.*\] does not fit one step of the currents, \[3, 5\]"):
        Leaky(**settings, reset_delay=reset_delay)(torch.rand(6, 3, 5), mem)


@pytest.mark.parametrize("reset_delay", [True, False])
@pytest.mark.parametrize(
    "cur", [torch.ones(6, 3, dtype=torch.int64), torch.ones(6, 3) > 0, [0.5, 0.5], torch.ones(6, 3).numpy()]
)
def test_what_are_no_currents_is_refused(cur: Any, reset_delay: bool) -> None:
    with pytest.raises(TypeError, match="currents are a tensor of floating-point numbers, not"):
        Leaky(0.9, reset_delay=reset_delay)(cur)


def test_numbers_of_steps() -> None:
    still = torch.rand(3, 5)
    assert leaky(still, 0.9, num_steps=0)[0].shape == leaky(torch.rand(0, 3, 5), 0.9)[0].shape == (0, 3, 5)
    with pytest.raises(ValueError, match="num_steps is a number of steps, not -1"):
        leaky(still, 0.9, num_steps=-1)
    with pytest.raises(ValueError, match="time first"):
        leaky(torch.tensor(0.5), 0.9)
    assert leaky(torch.tensor(0.5), 0.9, num_steps=4)[0].tolist() == [0, 0, 1, 0]


@pytest.mark.parametrize("beta", [20.0, -0.1, float("nan"), torch.tensor([0.5, 1.5])])
def test_a_beta_that_is_no_share_is_refused(beta: Any) -> None:
    with pytest.raises(ValueError, match="0 to 1, not"):
        Leaky(beta)


def test_reset_delay_goes_with_snntorchs_resets() -> None:
    lif = Leaky(0.9, reset="subtract first", reset_delay=False)
    with pytest.raises(ValueError, match="reset_delay=False"):
        lif(torch.rand(3, 2))


def test_reset_without_delay_is_the_reset_before_the_decay_while_currents_are_small() -> None:
    torch.manual_seed(0)
    cur = torch.rand(200, 5, 20, dtype=torch.float64)  # no membrane reaches 2
    at_once = Leaky(0.8, reset_delay=False).double()(cur)[0]
    assert torch.equal(at_once, neurons.leaky(cur, torch.tensor(0.8).double(), reset="subtract first")[0])
    assert not torch.equal(at_once, neurons.leaky(cur, torch.tensor(0.8).double())[0])
