"""Wrong solutions that no list knows: each fails, and a typical mistake in another dress is named."""

from dataclasses import replace

from snn_course.teaching import composed, exercises, regions
from snn_course.teaching.probes import Probes
from snn_course.teaching.trials import FAILS, HOLDS, Trials

import pytest

pytestmark = [pytest.mark.usefixtures("watched"), pytest.mark.slow]

LOOP = "    for cur_t in cur.unbind(0):  # time is axis 0; under autograd never cur[t]\n"
STEP = "            counts = spk_rec.sum(0)  # [B, 10]\n"
LOSS = "            loss = nn.functional.cross_entropy(counts, labels[rows])\n"
WRONG = [
    # lesson, task, a text of the lesson, what stands there by mistake, the name that the check must give
    ("01", "loop", "        mem_rec.append(mem)", "        mem_rec.append(spk)", ""),
    ("01", "loop", "for cur_t in cur:", "for cur_t in cur[1:]:", ""),
    ("01", "loop", "leaky(cur_t, mem)\n", "leaky(cur_t, mem + cur_t)\n", ""),
    ("01", "loop", "    mem = leaky.init_leaky()  # 0", "    mem = torch.ones(())", ""),
    (
        "01",
        "resets",
        "        mem = beta * mem + cur - fired * threshold",
        "        mem = beta * mem - fired",
        "",
    ),
    ("01", "resets", "mem = beta * mem * (1 - fired) + cur", "mem = cur * (1 - fired)", ""),
    ("01", "resets", "    else:\n        mem = beta * mem + cur", "    else:\n        mem = mem + cur", ""),
    ("01", "closed form", "/ math.log(beta)", "/ math.log2(beta)", ""),
    ("01", "closed form", "(settled - start)) /", "(settled + start)) /", ""),
    ("02", "rate", "device=x.device) < x", "device=x.device) < x**2", ""),
    ("02", "rate", "spk = torch.rand(", "spk = 0.5 * torch.rand(", ""),
    ("02", "latency", "(last * (1 - x))", "(last * (1 - x) ** 2)", ""),
    ("03", "verdict", "rate < SILENT", "rate < 0.001", ""),
    ("04", "address", "row = streams.HEIGHT - 1 - y", "row = streams.WIDTH - 1 - y", ""),
    ("05", "population vector", "preferred.cos(), preferred.sin()", "preferred.sin(), preferred.cos()", ""),
    ("06", "synaptic step", "config.alpha * syn + cur", "config.alpha * syn - cur", ""),
    (
        "01",
        "resets",
        "    fired = (mem > threshold).to(mem.dtype)",
        "    cur, fired = (1 - beta) * cur, (mem > threshold).to(mem.dtype)",
        "beta in the wrong place",
    ),
    ("07", "backward", "grads[0] * ctx.slope(x)", "grads[0] + ctx.slope(x)", ""),
    (
        "07",
        "lif",
        "BETA * mem + cur_t - reset",
        "(mem + cur_t) * BETA - BETA * reset",
        "beta in the wrong place",
    ),
    ("07", "lif", "BETA * mem + cur_t - reset", "mem - reset + cur_t * BETA", "beta in the wrong place"),
    ("07", "training step", STEP, "            counts = spk_rec[4]\n", "one step of many"),
    ("07", "training step", STEP, "            counts = spk_rec.unbind(0)[2]\n", "one step of many"),
    ("07", "training step", STEP, "            counts = spk_rec.mean(0)\n", ""),
    (
        "07",
        "training step",
        STEP,
        "            counts = torch.tensor(spk_rec.sum(0).tolist(), requires_grad=True)\n",
        "spikes detached",
    ),
    ("07", "lif", "mem = BETA * mem + cur_t - reset", "mem = BETA * mem + cur_t + reset", ""),
    ("07", "lif", LOOP, "    for t in range(cur.shape[0]):\n        cur_t = cur[t, :, :]\n", "x[t]"),
    ("07", "lif", "spk_rec.append(spk)", "spk_rec.append(spk.data)", "spikes detached"),
    ("07", "lif", "spike(mem - 1.0)", "(mem > 1.0).to(mem.dtype)", "spikes detached"),
    ("07", "lif", "spike(mem - 1.0)", "spike(mem - 40.0)", "threshold too high"),
    (
        "07",
        "training step",
        LOSS,
        LOSS.replace("(counts,", "((counts / 2).softmax(-1),"),
        "softmax on counts",
    ),
    ("07", "training step", LOSS, LOSS.replace("(counts,", "(counts.exp() / counts.exp().sum(1, True),"), ""),
    ("07", "training step", STEP, "            counts = spk_rec[3:4].sum(0)\n", ""),
    ("07", "training step", STEP, "            counts = spk_rec.round().sum(0)\n", "spikes detached"),
    ("07", "training step", "images[rows]", "(images[rows] * 200).round()", "pixels 0..255"),
    ("07", "training step", "lr=RATE", "lr=0.3", "learning rate too high"),
    ("07", "training step", "labels[rows])", "labels[rows.flip(0)])", ""),
    ("07", "training step", "labels[rows])", "test_labels[rows.flip(0)])", "labels from test data"),
    (
        "09",
        "training step",
        "cross_entropy(mem, y)",
        "cross_entropy(mem.sigmoid().softmax(1), y)",
        "softmax on counts",
    ),
    ("09", "training step", "net(x, LONG)", "net(x * 255, LONG)", "pixels 0..255"),
    ("09", "training step", "lr=5e-4", "lr=2e-2", "learning rate too high"),
    ("09", "training step", "for mem in mem_rec:", "for mem in mem_rec.permute(1, 0, 2):", "T and B swapped"),
    ("09", "walk back", "grad_mem.T @ x[t]", "(x[t].T @ grad_mem)", "weights transposed"),
    ("09", "walk back", "+ beta * grad_mem", "- beta * grad_mem", ""),
    (
        "09",
        "walk back",
        "grad_spk[t] * slope + beta * grad_mem",
        "grad_mem + slope * (beta * grad_spk[t])",
        "beta in the wrong place",
    ),
    ("01", "loop", "leaky(cur_t, mem)\n", "leaky(cur, mem)\n", ""),
    ("01", "resets", "    spk = (mem > threshold).to(mem.dtype)", "    spk = mem > threshold", ""),
    ("01", "resets", "    spk = (mem > threshold).to(mem.dtype)", "    spk = (mem > threshold).int()", ""),
    (
        "01",
        "resets",
        "    spk = (mem > threshold).to(mem.dtype)",
        "    spk = (mem.abs() > threshold).to(mem.dtype)",
        "",
    ),
    ("01", "resets", "beta * mem * (1 - fired) + cur", "beta * (mem * (1 - fired) + cur)", ""),
    ("01", "closed form", "/ math.log(beta)", "/ (beta - 1)", ""),
    ("07", "lif", LOOP, "    for t in range(len(cur)):\n        cur_t = cur[t : t + 1].squeeze(0)\n", "x[t]"),
    (
        "07",
        "lif",
        LOOP,
        "    for t in range(len(cur)):\n        cur_t = cur.narrow(0, t, 1).squeeze(0)\n",
        "x[t]",
    ),
    (
        "07",
        "training step",
        "num_steps, detach)\n            counts",
        "num_steps, True)\n            counts",
        "",
    ),
    ("07", "training step", "            optimizer.step()\n", "", ""),
    ("08", "forward", "x.unbind(0)", "(x[t : t + 1].squeeze(0) for t in range(len(x)))", "x[t]"),
    ("09", "training step", "in mem_rec:", "in (mem_rec.narrow(0, t, 1)[0] for t in range(LONG)):", "x[t]"),
    ("13", "walk back", "GAIN * last", "last", ""),
    ("15", "STDP", "post_trace.T @ pre_t", "post_trace.T @ pre_trace", ""),
    ("15", "STDP", "math.exp(-1 / TAU_POST)", "math.exp(-1 / TAU_PRE)", ""),
    ("15", "competition", "fires = (over > 0)", "fires = (over > -1e-9)", "fires at the threshold"),
    ("15", "competition", "(mem - threshold).max(1)", "(mem / threshold.mean() - 1).max(1)", ""),
    ("15", "competition", " * fires[:, None]", " * fires[:, None].long()", ""),
    ("15", "eligibility", "ALPHA * arrived + pre_t", "KAPPA * arrived + pre_t", ""),
    ("15", "e-prop", "state[-1].softmax(1)", "state[-1].sigmoid()", ""),
]
KNOWN = {}


def trial_of(script, lesson, task_id, old, new):
    """Try the lesson with one text exchanged."""
    if lesson not in KNOWN:
        wanted = exercises.load(script(lesson))
        KNOWN[lesson] = wanted, Probes(wanted)
    wanted, probes = KNOWN[lesson]
    region = wanted.task(task_id).region
    assert regions.around(wanted.source, region).count(old) == 1
    source = regions.swapped(wanted.source, region, old, new)
    mine = vars(composed.module(wanted.script.path, source))
    return Trials(wanted, mine, "", probes=probes).task(wanted.task(task_id))


@pytest.mark.parametrize(("lesson", "task", "old", "new", "name"), WRONG)
def test_it_fails_and_a_typical_mistake_is_named(script, lesson, task, old, new, name):
    verdict = trial_of(script, lesson, task, old, new)
    assert verdict.state == FAILS
    assert verdict.says
    assert not name or verdict.mistake == name


def test_a_lesson_that_fails_on_its_own_input_is_no_measure(script):
    wanted = exercises.load(script("01"))
    task = replace(wanted.tasks[0], probe="one_neuron(config)")
    with pytest.raises(RuntimeError, match="the lesson's own loop ends with TypeError"):
        Probes(wanted).right(task)


RIGHT = [
    (
        "01",
        "loop",
        "    for cur_t in cur:\n",
        "    for step in range(len(cur)):\n        cur_t = cur[step]\n",
    ),
    (
        "01",
        "resets",
        "mem = beta * mem * (1 - fired) + cur",
        "mem = torch.where(fired > 0, cur, beta * mem + cur)",
    ),
    ("01", "closed form", "/ math.log(beta)", "* 1 / math.log(beta)"),
    (
        "02",
        "rate",
        "torch.rand(num_steps, *x.shape, device=x.device) < x",
        "torch.bernoulli(x.expand(num_steps, *x.shape))",
    ),
    ("02", "latency", ".round().long().clamp(0, last)", ".add(0.49999).floor().clamp(0, last).long()"),
    ("05", "votes", "spk.unflatten(1, (10, -1)).sum(2)", "spk.view(len(spk), 10, -1).sum(-1)"),
    ("07", "lif", "mem = BETA * mem + cur_t - reset", "mem = (cur_t - reset) + mem * BETA"),
    ("07", "training step", STEP, "            counts = 1.0 * torch.stack(list(spk_rec)).sum(dim=0)\n"),
    ("09", "training step", "cross_entropy(mem, y) / LONG", "nn.CrossEntropyLoss()(mem, y) * (1 / LONG)"),
    ("09", "walk back", "grad_mem.T @ x[t]", 'torch.einsum("bn,bi->ni", grad_mem, x[t])'),
    ("01", "loop", "leaky(cur_t, mem)\n", "leaky(cur_t)\n"),  # snn.Leaky has kept its membrane
    ("01", "closed form", "(settled - start)) / math.log(beta)", "(settled - start), beta)"),
    ("07", "training step", LOSS, "            loss = nn.NLLLoss()(counts.log_softmax(1), labels[rows])\n"),
    ("08", "fold", "    return weights(folded).unflatten(0, x.shape[:2])", "    return weights(x)"),
    ("08", "reset", "    net(first)\n", "    net(first, reset=False)\n"),
    ("15", "competition", "(mem - threshold).max(1)", "torch.max(mem - threshold[None], dim=-1)"),
    ("15", "STDP", "A_PLUS * post_t.T @ pre_trace", 'A_PLUS * torch.einsum("bq,bp->qp", post_t, pre_trace)'),
]


@pytest.mark.parametrize(("lesson", "task", "old", "new"), RIGHT)
def test_another_way_to_the_same_result_holds(script, lesson, task, old, new):
    verdict = trial_of(script, lesson, task, old, new)
    assert verdict.state == HOLDS, verdict.says
