"""Lesson 15: STDP and e-prop.

Question: What can a synapse learn from what it sees by itself, at once, without the way back through time?
Reading:  Neuronal Dynamics ch. 19; Diehl and Cook (2015); Bellec et al. (2020); Frenkel's eprop-PyTorch.
Run:      python lessons/15_stdp_online_learning.py
Expect:   no labels: 88.5 ± 1.0 % with 100 neurons, 93.1 ± 0.2 % with 400 (Diehl and Cook: 82.9, 87.0). Rows:
          e-prop 88.3 ± 0.9 %, BPTT 91.1 ± 0.5. Cues: e-prop 98.3 ± 0.8 %. 3 seeds, 8 minutes, two CPU cores.

BPTT needs every step of the past and the error of every later neuron: no synapse in a brain, or on a chip,
has them. A local rule uses what is there: the neuron before the synapse (pre), and the one behind it (post).

Spike-timing-dependent plasticity (STDP) is Hebb's rule with a clock. Pre fires first: it may have helped, the
weight grows by A+ exp(-gap / tau). Post fires first: pre cannot have helped, the weight shrinks. With the
signs swapped (anti-Hebbian), a synapse unlearns what drives its neuron. No list of past spikes is needed:
each neuron keeps a trace that jumps by 1 at a spike, then decays. That is the same sum.

Digits without labels: all neurons see all pixels, the first to fire silences the others (winner takes all),
and its weights move towards what it has just seen. Homeostasis, a threshold that each own spike raises and
that sinks meanwhile, gives each neuron its share of wins. Last, a neuron is named after the class of TRAINING
images for which it fires most. Named on the test images themselves, the accuracy is a cheat.

e-prop splits BPTT's gradient into (error signal at the neuron, now) x (eligibility trace of the synapse). The
trace is how far the synapse has moved its own neuron up to now; it runs forward in time. Left out is what a
spike does to other neurons: without recurrent weights e-prop is BPTT, with them it is close. An ALIF neuron
is LIF with a threshold that each own spike lifts for long: that is a memory, and the trace knows it.
"""

import math
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

sys.path.insert(0, str(Path(globals().get("__file__", "any.py")).resolve().parents[1]))  # where snn_course is

from snn_course.runs import lesson
from snn_course.costs import memory
from snn_course.networks import twins
from snn_course.rules import eprop_tasks, plasticity

import numpy as np
import torch
from torch.nn.functional import cross_entropy, one_hot

# ====================================================================== settings


@dataclass(frozen=True)
class Config(lesson.Config):
    images: Annotated[int, lesson.Range(1000, 60_000)] = 60_000
    """MNIST training images, for the unsupervised layers and for the row-wise task."""

    neurons: Annotated[tuple[int, ...], lesson.Range(10, 10_000)] = (100, 400)
    """Sizes of the unsupervised layers."""

    num_steps: Annotated[int, lesson.Range(5, 1000)] = 30
    """Time steps for which an unsupervised layer sees an image."""

    batches: Annotated[tuple[int, ...], lesson.Range(10, 100_000)] = (800, 120)
    """Batches of 64 for each training with e-prop or BPTT: of images in rows, and of cue trials."""


SCALES: lesson.Scales = {
    "quick": {"images": 3000, "neurons": (50,), "batches": (60, 12)},
    "cpu": {"seeds": 3},
    "gpu": {"seeds": 3, "neurons": (100, 400, 1600), "batches": (5000, 1000)},
}
TAU_PRE, TAU_POST, A_PLUS, A_MINUS = 20.0, 30.0, 1.0, 0.8  # in steps; change of a weight by a pair of spikes
PRE, POST = 0, 1  # sides of a synapse
WINS, RATE, LIFT, TRACE, BETA = 5.0, 0.05, 1.0, 0.8, 0.9  # of the winners; tried on held-out training images
ALPHA, KAPPA, THRESHOLD, SLOPE, STEP = 0.9, 0.9, 0.6, 0.3, 5e-3  # of e-prop's network; STEP: learning rate
BATCH, LABELLED, HIDDEN = 64, 10_000, 100  # a batch; training images that name neurons; recurrent neurons
GAPS, LENGTHS = torch.arange(-60, 61).double(), (28, 100, 300, 1000)  # steps: of the window, of sequences
GOALS = {n: {"cpu": hits, "gpu": hits} for n, hits in {100: 82.9, 400: 87.0, 1600: 91.9}.items()}  # D&C, %
Pair = plasticity.Pair  # images [N, 784] as bytes, labels [N]
Curves = dict[str, Any]

# ====================================================================== model: STDP


def window(gap: torch.Tensor) -> torch.Tensor:
    """Give the change of a weight by one pair of spikes, for gap = t_post - t_pre in steps."""
    grow, shrink = A_PLUS * torch.exp(-gap / TAU_PRE), -A_MINUS * torch.exp(gap / TAU_POST)
    return torch.where(gap > 0, grow, shrink) * (gap != 0)  # at the same step: neither caused the other


def pairwise(pre: torch.Tensor, post: torch.Tensor) -> torch.Tensor:
    """Add up the window over all pairs of spikes: pre [T, P], post [T, Q] -> change of weights [Q, P]."""
    now = torch.arange(len(pre), dtype=pre.dtype)
    return post.T @ window(now[:, None] - now) @ pre


def traced(pre: torch.Tensor, post: torch.Tensor) -> torch.Tensor:
    """Give the same change [Q, P] step by step, from two traces in place of the past."""
    change = pre.new_zeros(post.shape[1], pre.shape[1])
    pre_trace, post_trace = torch.zeros_like(pre[0]), torch.zeros_like(post[0])
    for pre_t, post_t in zip(pre.unbind(0), post.unbind(0), strict=True):
        pre_trace, post_trace = pre_trace * math.exp(-1 / TAU_PRE), post_trace * math.exp(-1 / TAU_POST)
        change += A_PLUS * torch.outer(post_t, pre_trace)  # a post spike reads the trace of pre: grow
        change -= A_MINUS * torch.outer(post_trace, pre_t)  # a pre spike reads the trace of post: shrink
        pre_trace, post_trace = pre_trace + pre_t, post_trace + post_t
    return change


def event_driven(events: list[tuple[int, int, int]], size: tuple[int, int]) -> torch.Tensor:
    """Give the same change [Q, P] from events (step, PRE or POST, neuron), one at a time, in order of time.

    Between events nothing is computed: a trace is decayed when it is read, by the time since its last spike.
    """
    change, tau = torch.zeros(size, dtype=torch.float64), (TAU_PRE, TAU_POST)
    value = [torch.zeros(n, dtype=torch.float64) for n in reversed(size)]  # right after the last spike
    last = [torch.full((n,), -1.0, dtype=torch.float64) for n in reversed(size)]
    for now, side, neuron in events:
        other = 1 - side
        seen = value[other] - (last[other] == now).double()  # a spike of this very step does not count
        seen = seen * torch.exp((last[other] - now) / tau[other])
        if side == POST:
            change[neuron] += A_PLUS * seen
        else:
            change[:, neuron] -= A_MINUS * seen
        value[side][neuron] = 1 + value[side][neuron] * math.exp((last[side][neuron] - now) / tau[side])
        last[side][neuron] = now
    return change


class Winners:
    """A layer of neurons that compete for images and learn without labels (after Diehl and Cook 2015)."""

    def __init__(self, neurons: int, pixels: int = 784, device: Any = None) -> None:
        self.weight = self.normal(torch.rand(neurons, pixels, device=device))
        self.threshold = torch.full((neurons,), 20.0, device=device)

    def normal(self, weight: torch.Tensor) -> torch.Tensor:
        """Scale each neuron's weights to the sum of Diehl and Cook: a tenth of the number of pixels."""
        return weight * (weight.shape[1] / 10 / weight.sum(1, keepdim=True))

    def __call__(self, spk: torch.Tensor, rate: float = 0.0) -> torch.Tensor:
        """Give the spikes [T, B, N] for spikes of pixels [T, B, P]; learn if rate is above 0."""
        cur = spk @ self.weight.T  # [T, B, N]; the weights change after the batch
        due = WINS * spk.shape[1] / len(spk) / len(self.weight)  # wins per step that are a neuron's share
        out = self.compete(cur, LIFT * rate / RATE, due)
        if rate:
            self.learn(spk, out, rate)
        return out

    def compete(self, cur: torch.Tensor, gain: float, due: float) -> torch.Tensor:
        """Give the spikes [T, B, N] of currents: the strongest neuron alone fires, above threshold."""
        if twin := twins.compiled(cur[0], len(cur)):  # the same, as machine code
            return twin.compete(cur, self.threshold, BETA, gain, due)
        mem, out = torch.zeros_like(cur[0]), torch.zeros_like(cur)
        for cur_t, out_t in zip(cur.unbind(0), out.unbind(0), strict=True):
            mem = BETA * mem + cur_t  # [B, N]
            over, winner = (mem - self.threshold).max(1)
            fired = (over > 0)[:, None].float()
            out_t.scatter_(1, winner[:, None], fired)  # at most one spike per step and image
            mem *= 1 - fired  # the winner is reset, and inhibits all others down to rest
            self.threshold += gain * (out_t.sum(0) - due)  # homeostasis
        return out

    def learn(self, spk: torch.Tensor, out: torch.Tensor, rate: float) -> None:
        """Move the weights of each winner towards the traces [P] that it saw: w += rate (trace - w).

        STDP read at post spikes alone: a pixel with spikes just before grows, one without shrinks. The spikes
        of a batch share the weights, as in BindsNET; n steps of size rate towards their mean are one step.
        """
        wins = out.sum((0, 1))[:, None]  # [N, 1]
        seen = out.flatten(0, 1).T @ self.traces(spk).flatten(0, 1) / wins.clamp(min=1)  # [N, P]: mean trace
        self.weight = self.normal(self.weight + (1 - (1 - rate) ** wins) * (seen - self.weight))

    @staticmethod
    def traces(spk: torch.Tensor) -> torch.Tensor:
        """Give for each step the traces [T, B, P] of the pixels: 1 at a spike, then decaying."""
        if twin := twins.compiled(spk[0], len(spk)):  # the same, as machine code
            return twin.peak_traces(spk, TRACE)
        trace, traces = torch.zeros_like(spk[0]), []
        for spk_t in spk.unbind(0):
            trace = torch.maximum(TRACE * trace, spk_t)  # [B, P]
            traces.append(trace)
        return torch.stack(traces)


def responses(counts: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Give each neuron's mean spikes for each class [10, N], from counts [B, N] and labels [B]."""
    members = one_hot(y, 10).to(counts.dtype)  # [B, 10]
    return members.T @ counts / members.sum(0).clamp(min=1)[:, None]


def vote(counts: torch.Tensor, names: torch.Tensor) -> torch.Tensor:
    """Give the class [B] whose neurons, by their names [N], fire most on average, from counts [B, N]."""
    groups = one_hot(names, 10).to(counts.dtype)  # [N, 10]
    return (counts @ groups / groups.sum(0).clamp(min=1)).argmax(1)


# ====================================================================== model: e-prop


class Net(eprop_tasks.AdaptiveWeights):
    """Recurrent neurons, half LIF and half ALIF, with a leaky read-out (Bellec et al. 2020, eq. 6 to 11)."""

    def step(self, x: torch.Tensor, state: Any, cut: bool = False) -> tuple[Any, torch.Tensor, torch.Tensor]:
        """Take input [B, I]. Returns: state, what reaches the synapses [B, I + N], slope of spikes [B, N].

        With ``cut``, no gradient follows a spike to other neurons. That is what e-prop leaves out.
        """
        mem, ada, spk, out = state
        pre = torch.cat([x, spk.detach() if cut else spk], 1) if self.recurrent else x
        ada = self.rho * ada + spk  # of ALIF neurons, for which lift is above 0
        mem = ALPHA * mem + pre @ self.weight.T - THRESHOLD * spk.detach()  # reset here
        over = mem - THRESHOLD - self.lift * ada
        slope = SLOPE / THRESHOLD * (1 - over.detach().abs() / THRESHOLD).clamp(min=0)  # the surrogate
        spk = (over > 0).to(over.dtype) + slope * (over - over.detach())  # 0 or 1, with the surrogate's slope
        return (mem, ada, spk, KAPPA * out + spk @ self.out.T), pre, slope


def bptt(net: Net, x: torch.Tensor, y: torch.Tensor, when: torch.Tensor, cut: bool = False) -> torch.Tensor:
    """Leave BPTT's gradients in the network; step t's error counts when[t]. Returns: mean answer [B, K]."""
    out = net.outputs(x, cut)  # [T, B, K]
    errors = cross_entropy(out.flatten(0, 1), y.repeat(len(x)), reduction="none").view(len(x), -1)  # [T, B]
    (when @ errors).mean().backward()
    return (when[:, None, None] * out.detach()).sum(0)


def advance_traces(
    arrived: Any, adapted: Any, trace: Any, smooth: Any, slope: Any, lift: Any, rho: float
) -> None:
    """Take the eligibility traces one step on, in place: four lines, for each synapse by itself."""
    if twin := twins.compiled(adapted, 1):  # the same, as machine code
        twin.eligibility(arrived, adapted, trace, smooth, slope, lift, rho, KAPPA)
        return
    adapted.mul_(rho).add_(trace)  # the spike of the last step lifted the threshold
    torch.mul(adapted, -lift[:, None, None], out=trace).add_(arrived).mul_(slope.T[:, :, None])
    smooth.mul_(KAPPA).add_(trace)


@torch.no_grad()
def eprop(net: Net, x: torch.Tensor, y: torch.Tensor, when: torch.Tensor, back: Any = None) -> torch.Tensor:
    """Leave e-prop's gradients, made on the way forward. back [K, N] carries errors in place of net.out."""
    state, target = net.start(x), one_hot(y, len(net.out)).to(x.dtype)
    arrived = x.new_zeros(x.shape[1], net.weight.shape[1])  # d mem / d w: for all neurons the same [B, I + N]
    adapted = x.new_zeros(len(net.weight), *arrived.shape)  # d ada / d w [N, B, I + N]
    trace, smooth = adapted.clone(), adapted.clone()  # d spk / d w, and the same as the read-out smooths it
    sent, answer = torch.zeros_like(state[0]), torch.zeros_like(state[-1])
    net.weight.grad, net.out.grad = torch.zeros_like(net.weight), torch.zeros_like(net.out)
    for x_t, share in zip(x.unbind(0), when, strict=True):
        state, pre, slope = net.step(x_t, state)
        arrived.mul_(ALPHA).add_(pre)
        advance_traces(arrived, adapted, trace, smooth, slope, net.lift, net.rho)
        sent = KAPPA * sent + state[2]
        if share > 0:
            error = share * (state[-1].softmax(1) - target) / len(y)  # d loss / d out of this step [B, K]
            signal = error @ (net.out if back is None else back)  # each neuron's learning signal [B, N]
            net.weight.grad += (signal.T[:, None] @ smooth)[:, 0]  # signal times trace, summed over the batch
            net.out.grad += error.T @ sent
            answer += share * state[-1]
    return answer


# ====================================================================== experiments


def prove_stdp(run: lesson.Run) -> torch.Tensor:
    """Compare the forms of STDP with one another and with snnTorch's. Returns: the measured window."""
    pre, post = torch.zeros(len(GAPS), 1).double(), torch.eye(len(GAPS)).double()  # post neuron t fires at t
    pre[len(GAPS) // 2] = 1
    measured = traced(pre, post)[:, 0]  # [gap]
    run.proof("measured window = exponentials", (measured - window(GAPS)).abs().max().item())
    pre, post = ((torch.rand(500, n) < 0.05).double() for n in (20, 10))
    clocked, together = traced(pre, post), post.T @ pre
    run.proof("traces = sum over all pairs", (clocked - pairwise(pre, post)).abs().max().item())
    events = sorted((t, side, i) for side, spk in enumerate((pre, post)) for t, i in spk.nonzero().tolist())
    run.proof("one event at a time = clocked", (event_driven(events, (10, 20)) - clocked).abs().max().item())
    run.measure("events / (steps x neurons)", len(events) / (pre.numel() + post.numel()))
    theirs = partial(plasticity.snntorch_stdp, pre, post, grow=A_PLUS, shrink=A_MINUS)
    own = clocked + (A_PLUS - A_MINUS) * together  # spikes of one step are a pair there, both ways
    taus = [1 / (1 - math.exp(-1 / tau)) for tau in (TAU_PRE, TAU_POST)]  # its traces lose 1 / tau a step
    run.proof("own STDP = snnTorch's, tau converted", (theirs(*taus) - own).abs().max().item())
    off = (theirs(TAU_PRE, TAU_POST) - own).norm() / own.norm()
    run.measure("snnTorch's, tau not converted: off by", 100 * off.item(), "%")
    return measured


def unsupervised(config: Config, run: lesson.Run, train: Pair, test: Pair) -> tuple[list[Any], Any]:
    """Train layers, name their neurons, score them. Returns: row and pictures of the first layer."""
    (x, y), (test_x, test_y), rows, shown = train, test, [], []
    count = partial(plasticity.count, num_steps=config.num_steps)
    for neurons in config.neurons:
        torch.manual_seed(run.seed)
        layer = Winners(neurons, device=run.device)
        seconds = plasticity.show_once(run, f"{neurons} winners", layer, x, config.num_steps, RATE)
        fires = responses(count(layer, x[:LABELLED]), y[:LABELLED])  # [10, N], on training images
        names, counts = fires.argmax(0), count(layer, test_x)
        hits = plasticity.accuracy(vote(counts, names), test_y)
        run.measure(f"STDP, {neurons} neurons", hits, "%", GOALS.get(neurons, {"quick": 65}), headline=True)
        cheat = responses(counts[:1000], test_y[:1000]).argmax(0)  # the bug: named on what is scored
        wrong, right = (plasticity.accuracy(vote(counts[:1000], n), test_y[:1000]) for n in (cheat, names))
        run.measure(f"catch: named on test images, {neurons}", wrong - right, "points")
        rows.append([f"{neurons}", hits, counts.sum(1).mean().item(), seconds])
        shown.append([layer.weight[names.argsort()], plasticity.class_images(layer.weight, fires)])
    run.table("Digits without labels", ["neurons", "accuracy, %", "spikes per image", "CPU s"], rows)
    right = plasticity.own_class(shown[0][1], responses(x.float(), y))  # means of each class [10, 784]
    run.measure("class images most like their own class", right, "of 10", at_least=9)
    return rows[0], shown[0]


def prove_eprop(run: lesson.Run) -> Curves:
    """Compare e-prop's gradient of each weight with BPTT's. Returns: both, with recurrence and without."""
    x = (torch.rand(50, 16, 20, device=run.device) < 0.2).double()  # [T, B, I]
    y, when, grads = torch.randint(5, (16,)).to(run.device), x.new_full((50,), 1 / 50), {}
    kinds = {"no recurrence": (False, False), "BPTT cut at spikes": (True, True), "recurrent": (True, False)}
    for name, (recurrent, cut) in kinds.items():
        net = Net(20, 5, 40, rho=0.97, lift=0.2, recurrent=recurrent, like=x)
        bptt(net, x, y, when, cut)
        exact: Any = net.weight.grad  # e-prop leaves new tensors
        eprop(net, x, y, when)
        grads[name] = exact.flatten(), net.weight.grad.flatten()
        if name != "recurrent":
            run.proof(f"e-prop = BPTT, {name}", torch.dist(*grads[name], math.inf).item())
        run.measure(f"cosine to BPTT, {name}", torch.cosine_similarity(*grads[name], dim=0).item())
    return grads


def supervised(run: lesson.Run, name: str, task: eprop_tasks.Task) -> tuple[Curves, list[Any]]:
    """Train the same network with each rule. Returns: accuracy while it learns; rule, accuracy, seconds."""
    curves, rows = {}, []
    for rule in task.rules:
        torch.manual_seed(run.seed)  # the same weights and batches for all
        net = Net(*task.sizes, HIDDEN, task.rho, 0 if "LIF" in rule else task.lift, like=task.when)
        back = torch.randn_like(net.out) if "random" in rule else None  # errors come back another way
        learn = bptt if rule == "BPTT" else partial(eprop, back=back)
        curves[rule], seconds = eprop_tasks.fit(run, f"{name}, {rule}", net, learn, task, STEP)
        hits = eprop_tasks.test(net, task)
        run.measure(f"{name}, {rule}", hits, "%", task.goals.get(rule), headline=rule == "e-prop")
        rows.append([rule, hits, seconds])
    run.table(f"{name}: {task.batches} batches of {BATCH}", ["rule", "accuracy, %", "CPU s"], rows)
    return curves, rows


def compare_rules(run: lesson.Run, stdp: list[Any], rows: list[Any]) -> Curves:
    """Measure what each rule holds for one sequence, in kB, by T, and set it beside accuracy and updates."""
    net, kept = Net(28, 10, HIDDEN, rho=0.95, lift=0.2), Curves({"STDP": [], "e-prop": [], "BPTT": []})
    for steps in LENGTHS:
        x, batch = torch.rand(steps, 28), (torch.tensor([3]), torch.ones(steps))
        stdp_way = partial(traced, x, torch.ones(steps, HIDDEN))
        ways = stdp_way, *(partial(way, net, x[:, None], *batch) for way in (eprop, bptt))
        for sizes, way in zip(kept.values(), ways, strict=True):
            net.weight.grad = net.out.grad = None
            sizes.append(memory.peak_bytes(way) / 1000)
    for rule, sizes in kept.items():
        run.measure(f"memory per step, {rule}", np.polyfit(LENGTHS, sizes, 1)[0].round(6) + 0, "kB")
    run.proof("e-prop's memory: longest - shortest T", kept["e-prop"][-1] - kept["e-prop"][0], at_most=0)
    table = [["STDP, digits", stdp[1], *kept["STDP"][::3], f"{784 * stdp[2]:.0f}", "no"]]
    for rule, hits, _ in rows:  # e-prop can act at each step that counts, BPTT at the end
        updates = (1 if rule == "BPTT" else 8) * (net.weight.numel() + net.out.numel())
        table.append([f"{rule}, rows", hits, *kept[rule.split(",")[0]][::3], f"{updates}", "yes"])
    columns = ["rule, MNIST as", "accuracy, %", "kB, T 28", "kB, T 1000", "updates", "labels"]
    run.table("Three rules (kB: 28 inputs, 100 neurons; updates: weights changed per image)", columns, table)
    return kept


# ====================================================================== main


def main(config: Config, run: lesson.Run) -> None:
    train, test = plasticity.digits(run, config.images)
    measured = prove_stdp(run)
    stdp, (fields, classes) = unsupervised(config, run, train, test)
    plasticity.draw_stdp(run, GAPS, measured, window(GAPS), fields, classes, stdp[1])
    grads = prove_eprop(run)
    rows, results = supervised(run, "rows", eprop_tasks.row_task(train, test, BATCH, config.batches[0]))
    cues, _ = supervised(run, "cues", eprop_tasks.cue_task(BATCH, config.batches[-1], run.device))
    kept = compare_rules(run, stdp, results)
    eprop_tasks.draw_eprop(run, grads, LENGTHS, kept, {"rows": rows, "cues": cues})


if __name__ == "__main__":
    lesson.start(main, Config, SCALES)
