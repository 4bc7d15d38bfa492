"""The rules against loops over single numbers, and in a loop of one's own beside torch.optim."""

from math import sqrt

import numpy as np
import pytest
import torch

from netcompiler import NetError
from netcompiler.train import policies, rules
from netcompiler.train.settings import load_settings

RATES = [0.1, 0.1, 0.03, 0.7]


def naive(kind, w, grads, *, momentum=0.0, momentum2=0.999, rms_decay=0.99, delta=1e-8):
    """One weight by one rule over some gradients; the weight after each."""
    h = k = 0.0
    seen = []
    for t, (g, rate) in enumerate(zip(grads, RATES, strict=True), 1):
        if kind == "SGD":
            h = momentum * h + rate * g
            u = h
        elif kind == "Nesterov":
            old, h = h, momentum * h + rate * g
            u = (1 + momentum) * h - momentum * old
        elif kind == "AdaGrad":
            h += g * g
            u = rate * g / (sqrt(h) + delta)
        elif kind == "RMSProp":
            h = rms_decay * h + (1 - rms_decay) * g * g
            u = rate * g / (sqrt(h) + delta)
        elif kind == "AdaDelta":
            h = momentum * h + (1 - momentum) * g * g
            v = g * sqrt((k + delta) / (h + delta))
            k = momentum * k + (1 - momentum) * v * v
            u = rate * v
        else:
            h = momentum * h + (1 - momentum) * g
            k = momentum2 * k + (1 - momentum2) * g * g
            u = rate * sqrt(1 - momentum2**t) / (1 - momentum**t) * h / (sqrt(k) + delta)
        w -= u
        seen.append(w)
    return seen


CASES = [
    ("SGD", {"momentum": 0.9}),
    ("SGD", {}),
    ("Nesterov", {"momentum": 0.9}),
    ("AdaGrad", {"delta": 1e-3}),
    ("RMSProp", {"rms_decay": 0.9}),
    ("AdaDelta", {"momentum": 0.9, "delta": 1e-4}),
    ("Adam", {"momentum": 0.8, "momentum2": 0.99, "delta": 1e-6}),
]


def run(optimizer, params, grads):
    seen = []
    for t, rate in enumerate(RATES):
        for group in optimizer.param_groups:
            group["lr"] = rate
        for p, g in zip(params, grads, strict=True):
            p.grad = None if g is None else torch.tensor(g[t], dtype=torch.float64)
        optimizer.step()
        seen.append([p.detach().clone() for p in params])
    return seen


@pytest.mark.parametrize("kind, own", CASES)
def test_rule(kind, own):
    rng = np.random.default_rng(0)
    shapes = [(2, 3), (5,), ()]
    params = [torch.nn.Parameter(torch.from_numpy(np.asarray(rng.normal(size=s)))) for s in shapes]
    starts = [p.detach().clone().numpy() for p in params]
    grads = [rng.normal(size=(len(RATES), *s)) for s in shapes]
    seen = run(rules.RULES[kind][0](params, lr=1.0, **own), params, grads)
    for i, shape in enumerate(shapes):
        for place in np.ndindex(*shape):
            want = naive(kind, starts[i][place], [g[place] for g in grads[i]], **own)
            np.testing.assert_allclose([float(step[i][place]) for step in seen], want, rtol=1e-12)


def test_sgd_in_one_pass():
    """float32 takes PyTorch's fused kernel; the numbers are those of float64 in steps."""
    torch.manual_seed(0)
    start, grads = torch.randn(3, 1000), torch.randn(len(RATES), 3, 1000)
    ends, histories = [], []
    for dtype in (torch.float32, torch.float64):
        p = torch.nn.Parameter(start.to(dtype, copy=True))
        optimizer = rules.SGD([p], lr=1.0, momentum=0.9, weight_decay=0.05, clip_gradients=20, iter_size=2)
        for rate, g in zip(RATES, grads, strict=True):
            optimizer.param_groups[0]["lr"], p.grad = rate, g.to(dtype, copy=True)
            optimizer.step()
        ends.append(p.detach().double())
        histories.append(optimizer.history([p])[0].double())
    torch.testing.assert_close(*ends, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(*histories, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["L1", "L2"])
def test_clipped_then_divided_then_decayed(kind):
    """Caffe's order: the norm is that of the sums over iter_size, before decay."""
    w, g = np.array([3.0, -2.0, 0.0]), np.array([3.0, 4.0, 12.0])  # norm 13
    p = torch.nn.Parameter(torch.from_numpy(w.copy()))
    p.grad = torch.from_numpy(g.copy())
    rules.SGD([p], lr=0.5, weight_decay=0.1, clip_gradients=1.3, iter_size=4, regularization_type=kind).step()
    decay = w if kind == "L2" else np.sign(w)
    np.testing.assert_allclose(p.detach(), w - 0.5 * (g * 0.1 / 4 + 0.1 * decay), rtol=1e-12)


def test_clipping_looks_at_all_groups():
    a, b = (torch.nn.Parameter(torch.zeros(1)) for _ in range(2))
    a.grad, b.grad = torch.tensor([3.0]), torch.tensor([4.0])
    rules.SGD([{"params": [a]}, {"params": [b], "lr_mult": 2.0}], lr=1.0, clip_gradients=1.0).step()
    assert [a.item(), b.item()] == pytest.approx([-0.6, -1.6])


@pytest.mark.parametrize("kind", rules.RULES)
def test_multipliers(kind):
    """lr_mult and decay_mult are those of a group; lr_mult 0 leaves the weight as it is."""
    groups = [
        {"params": [torch.nn.Parameter(torch.ones(2))], "lr_mult": 2.0, "decay_mult": 0.5},
        {"params": [torch.nn.Parameter(torch.ones(2))], "lr_mult": 0.0},
    ]
    plain = torch.nn.Parameter(torch.ones(2))
    optimizer = rules.RULES[kind][0](groups, lr=0.1, weight_decay=0.2)
    other = rules.RULES[kind][0]([plain], lr=0.2, weight_decay=0.1)
    for _ in range(3):
        groups[0]["params"][0].grad = plain.grad = None
        groups[0]["params"][0].grad, plain.grad = torch.full((2,), 0.3), torch.full((2,), 0.3)
        optimizer.step()
        other.step()
    assert torch.equal(groups[0]["params"][0], plain) and not torch.equal(plain, torch.ones(2))
    assert torch.equal(groups[1]["params"][0], torch.ones(2))


def test_without_gradient_momentum_still_moves():
    p = torch.nn.Parameter(torch.zeros(1))
    optimizer = rules.SGD([p], lr=1.0, momentum=0.5)
    p.grad = torch.ones(1)
    optimizer.step()
    p.grad = None
    optimizer.step()
    assert p.item() == -1.5


def test_beside_torch_sgd():
    """With a fixed rate, Caffe's momentum and PyTorch's are the same."""
    torch.manual_seed(0)
    ours, theirs = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    theirs.load_state_dict(ours.state_dict())
    a = rules.SGD(ours.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
    b = torch.optim.SGD(theirs.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
    x = torch.randn(5, 3)
    for _ in range(6):
        for net, optimizer in ((ours, a), (theirs, b)):
            optimizer.zero_grad()
            loss = net(x).square().sum()
            loss.backward()
            optimizer.step()
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(p, q)


@pytest.mark.parametrize("kind", rules.RULES)
def test_state_dict_goes_round(kind):
    torch.manual_seed(0)
    ends = []
    for stop in (False, True):
        p = torch.nn.Parameter(torch.ones(3))
        optimizer = rules.RULES[kind][0]([p], lr=0.1)
        for t in range(6):
            if stop and t == 3:
                held, fresh = optimizer.state_dict(), torch.nn.Parameter(p.detach().clone())
                optimizer, p = rules.RULES[kind][0]([fresh], lr=0.1), fresh
                optimizer.load_state_dict(held)
            p.grad = torch.full((3,), 0.1 * (t + 1))
            optimizer.step()
        ends.append(p.detach())
    assert torch.equal(*ends)


def test_closure():
    p = torch.nn.Parameter(torch.ones(1))

    def closure():
        p.grad = None
        loss = (p * p).sum()
        loss.backward()
        return loss

    assert rules.SGD([p], lr=0.25).step(closure).item() == 1 and p.item() == 0.5


def test_bad_arguments():
    p = torch.nn.Parameter(torch.ones(1))
    for wrong in ({"regularization_type": "L3"}, {"iter_size": 0}):
        with pytest.raises(NetError):
            rules.SGD([p], lr=1.0, **wrong)


def settings(folder, text):
    (folder / "s.prototxt").write_text(f'net: "n" base_lr: 0.5 max_iter: 20 {text}')
    return load_settings(folder / "s.prototxt")


POLICIES = [  # settings, the rate by iteration in words of our own, and the scheduler
    ("lr_policy: 'fixed'", lambda t: 0.5, lambda o: policies.Fixed(o)),
    ("lr_policy: 'step' gamma: 0.1 stepsize: 7", lambda t: 0.5 * 0.1 ** (t // 7), lambda o: policies.Step(o, 7, 0.1)),
    ("lr_policy: 'exp' gamma: 0.9", lambda t: 0.5 * 0.9**t, lambda o: policies.Exp(o, 0.9)),
    (
        "lr_policy: 'inv' gamma: 0.1 power: 0.75",
        lambda t: 0.5 / (1 + 0.1 * t) ** 0.75,
        lambda o: policies.Inv(o, 0.1, 0.75),
    ),
    (
        "lr_policy: 'multistep' gamma: 0.5 stepvalue: 3 stepvalue: 11",
        lambda t: 0.5 if t < 3 else 0.25 if t < 11 else 0.125,
        lambda o: policies.MultiStep(o, [3, 11], 0.5),
    ),
    ("lr_policy: 'poly' power: 2", lambda t: 0.5 * (1 - t / 20) ** 2, lambda o: policies.Poly(o, 20, 2)),
    (
        "lr_policy: 'sigmoid' gamma: 0.5 stepsize: 8",
        lambda t: 0.5 / (1 + np.exp(-0.5 * (t - 8))),
        lambda o: policies.Sigmoid(o, 0.5, 8),
    ),
]


@pytest.mark.parametrize("text, want, scheduler", POLICIES, ids=[text for text, _, _ in POLICIES])
def test_policy(text, want, scheduler, tmp_path):
    s = settings(tmp_path, text)
    optimizer = rules.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.5)
    schedule = scheduler(optimizer)
    for t in range(20):
        assert policies.rate(s, t) == pytest.approx(want(t), rel=1e-6)
        assert optimizer.param_groups[0]["lr"] == pytest.approx(want(t), rel=1e-6)
        optimizer.step()
        schedule.step()


def test_poly_stays_at_0_behind_its_end(tmp_path):
    assert policies.rate(settings(tmp_path, "lr_policy: 'poly' power: 0.5"), 21) == 0


def test_extremes(tmp_path):
    assert policies.rate(settings(tmp_path, "lr_policy: 'exp' gamma: 10"), 10**6) == float("inf")
    assert policies.rate(settings(tmp_path, "lr_policy: 'sigmoid' gamma: 100 stepsize: 900"), 0) == 0
    assert policies.rate(settings(tmp_path, "lr_policy: 'sigmoid' gamma: 100 stepsize: 1"), 900) == 0.5


def test_multistep_passes_one_value_in_an_iteration(tmp_path):
    s = settings(tmp_path, "lr_policy: 'multistep' gamma: 0.5 stepvalue: 5 stepvalue: 2")
    assert [policies.steps(s, t) for t in range(8)] == [0, 0, 0, 0, 0, 1, 2, 2]


def test_schedulers_resume():
    ends = []
    for stop in (False, True):
        optimizer = rules.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
        schedule = policies.Exp(optimizer, 0.5)
        for t in range(4):
            if stop and t == 2:
                held = optimizer.state_dict(), schedule.state_dict()
                optimizer = rules.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
                schedule = policies.Exp(optimizer, 0.5)
                optimizer.load_state_dict(held[0])
                schedule.load_state_dict(held[1])
            optimizer.step()
            schedule.step()
        ends.append(optimizer.param_groups[0]["lr"])
    assert ends == [1 / 16, 1 / 16]
