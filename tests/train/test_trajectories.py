"""Whole trajectories beside loops in numpy: every field of a solver that changes the numbers, alone and together.

The net is linear with a Euclidean loss, so that its gradient can be written down: E = |x w' + b - y|^2 / (2 N), w shared by
two layers in one of the cases. Names and formulas are those of Caffe's documentation of SolverParameter.
"""

from math import exp, sqrt

import numpy as np
import pytest

from netcompiler.train.solver import Solver
from netcompiler.upgrade import parse_solver

ITERATIONS = 14
N, INPUTS, OUTPUTS = 3, 4, 2
FIRST = {"base_lr": 0.1, "lr_policy": "fixed", "random_seed": 2, "max_iter": 40}
DEFAULTS = {"momentum": 0.0, "momentum2": 0.999, "rms_decay": 0.99, "delta": 1e-8, "weight_decay": 0.0}
LAYER = """layer {{ name: "{name}" type: "InnerProduct" bottom: "x" top: "{name}" {params}
  inner_product_param {{ num_output: 2 weight_filler {{ type: "gaussian" std: 1 }}
                        bias_filler {{ type: "constant" value: 0.3 }} }} }}
layer {{ name: "loss_{name}" type: "EuclideanLoss" bottom: "{name}" bottom: "y" top: "loss_{name}" loss_weight: {weight} }}
"""
HEAD = """layer { name: "in" type: "Input" top: "x" top: "y"
  input_param { shape { dim: 3 dim: 4 } shape { dim: 3 dim: 2 } } }
"""


class Feed:
    """Batches by position."""

    shapes = {"x": (N, INPUTS), "y": (N, OUTPUTS)}

    def __init__(self):
        self.position = 0

    def next(self):
        self.position += 1
        return batch(self.position - 1)

    def skip(self, batches):
        self.position += batches

    def state(self):
        return {"position": self.position}

    def restore(self, state):
        self.position = state["position"]

    def close(self):
        pass


def batch(position):
    draw = np.random.default_rng(position)
    return {name: draw.normal(size=shape) for name, shape in Feed.shapes.items()}


def rate(s, t):
    """The learning rate at iteration t."""
    base, gamma, power, size = s["base_lr"], s.get("gamma", 0), s.get("power", 0), s.get("stepsize", 0)
    policy = s["lr_policy"]
    if policy == "multistep":
        passed, step = 0, 0
        for i in range(t + 1):  # one value in an iteration at most
            if step < len(s["stepvalue"]) and i >= s["stepvalue"][step]:
                passed, step = passed + 1, step + 1
        return base * gamma**passed
    return {
        "fixed": lambda: base,
        "step": lambda: base * gamma ** (t // size),
        "exp": lambda: base * gamma**t,
        "inv": lambda: base * (1 + gamma * t) ** -power,
        "poly": lambda: base * (1 - t / s["max_iter"]) ** power,
        "sigmoid": lambda: base / (1 + exp(-gamma * (t - size))),
    }[policy]()


class Param:
    """A blob with what its rule keeps."""

    def __init__(self, value, lr_mult=1.0, decay_mult=1.0):
        self.value, self.lr_mult, self.decay_mult = value.astype(np.float64), lr_mult, decay_mult
        self.h, self.k = np.zeros_like(self.value), np.zeros_like(self.value)

    def update(self, s, g, lr, t):
        """One step by the rule, number by number."""
        momentum, delta, second, kind = s["momentum"], s["delta"], s["momentum2"], s.get("type", "SGD")
        decay = s["weight_decay"] * self.decay_mult
        for i in np.ndindex(*self.value.shape):
            w, d = self.value[i], g[i]
            if decay:
                d += decay * (np.sign(w) if s.get("regularization_type") == "L1" else w)
            local = lr * self.lr_mult
            if kind == "SGD":
                self.h[i] = u = momentum * self.h[i] + local * d
            elif kind == "Nesterov":
                before = self.h[i]
                self.h[i] = momentum * before + local * d
                u = (1 + momentum) * self.h[i] - momentum * before
            elif kind == "AdaGrad":
                self.h[i] += d * d
                u = local * d / (sqrt(self.h[i]) + delta)
            elif kind == "RMSProp":
                share = s["rms_decay"]
                self.h[i] = share * self.h[i] + (1 - share) * d * d
                u = local * d / (sqrt(self.h[i]) + delta)
            elif kind == "AdaDelta":
                self.h[i] = momentum * self.h[i] + (1 - momentum) * d * d
                v = d * sqrt((self.k[i] + delta) / (self.h[i] + delta))
                self.k[i] = momentum * self.k[i] + (1 - momentum) * v * v
                u = local * v
            else:
                self.h[i] = momentum * self.h[i] + (1 - momentum) * d
                self.k[i] = second * self.k[i] + (1 - second) * d * d
                right = sqrt(1 - second ** (t + 1)) / (1 - momentum ** (t + 1))
                u = local * right * self.h[i] / (sqrt(self.k[i]) + delta)
            self.value[i] -= u


def naive(s, layers, blobs, params):
    """Losses, and the blobs after each iteration. layers: (weight blob, bias blob, loss weight) of each."""
    held = [Param(value, *param) for value, param in zip(blobs, params, strict=True)]
    losses, seen, size = [], [], s.get("iter_size", 1)
    for t in range(ITERATIONS):
        grads, total = [np.zeros_like(p.value) for p in held], 0.0
        for part in range(size):
            b = batch(t * size + part)
            for w, c, weight in layers:
                off = b["x"] @ held[w].value.T + held[c].value - b["y"]
                total += weight * (off**2).sum() / (2 * N)
                grads[w] += weight * off.T @ b["x"] / N
                grads[c] += weight * off.sum(0) / N
        grads = [g * bool(p.lr_mult) for g, p in zip(grads, held, strict=True)]  # Caffe computes none for a frozen blob
        norm, most = sqrt(sum((g**2).sum() for g in grads)), s.get("clip_gradients", -1)
        for p, g in zip(held, grads, strict=True):
            p.update(s, (g * most / norm if 0 <= most < norm else g) / size, rate(s, t), t)
        losses.append(total / size)
        seen.append([p.value.copy() for p in held])
    return losses, seen


RULES = {
    "SGD": {"momentum": 0.9},
    "Nesterov": {"momentum": 0.95},
    "AdaGrad": {"delta": 1e-4},
    "RMSProp": {"rms_decay": 0.8, "delta": 1e-3},
    "AdaDelta": {"momentum": 0.95, "delta": 1e-3, "base_lr": 2.0},
    "Adam": {"momentum": 0.8, "momentum2": 0.95, "delta": 1e-3},
}
POLICIES = {
    "fixed": {},
    "step": {"gamma": 0.5, "stepsize": 5},
    "exp": {"gamma": 0.9},
    "inv": {"gamma": 0.2, "power": 0.75},
    "multistep": {"gamma": 0.3, "stepvalue": [2, 2, 9]},
    "poly": {"power": 1.5},
    "sigmoid": {"gamma": 0.4, "stepsize": 6},
}
MORE = {
    "L2": {"weight_decay": 0.1},
    "L1": {"weight_decay": 0.1, "regularization_type": "L1"},
    "clipped": {"clip_gradients": 0.3},
    "clipped to nothing": {"clip_gradients": 0.0, "weight_decay": 0.1},
    "never clipped": {"clip_gradients": 1e6},
    "iter_size": {"iter_size": 3},
    "all": {"iter_size": 2, "clip_gradients": 0.7, "weight_decay": 0.05},
    "all with L1": {"iter_size": 2, "clip_gradients": 0.7, "weight_decay": 0.05, "regularization_type": "L1"},
}
CASES = {f"{rule}, {policy}": {"type": rule, "lr_policy": policy, **RULES[rule], **POLICIES[policy]}
         for rule in RULES for policy in POLICIES if rule == "SGD" or policy in ("step", "inv")}  # fmt: skip
CASES |= {f"{rule}, {more}": {"type": rule, **RULES[rule], **MORE[more]} for rule in RULES for more in MORE}
CASES |= {
    f"{rule} without more": {"type": rule} for rule in RULES if rule not in ("AdaDelta", "Adam")
}  # SGD without momentum
CASES |= {"Adam by its defaults": {"type": "Adam", "weight_decay": 0.01}}


def start(s, net):
    fields = {**FIRST, **s}
    words = []
    for name, value in fields.items():
        for one in value if isinstance(value, list) else [value]:
            words.append(f"{name}: '{one}'" if isinstance(one, str) and name != "snapshot_format" else f"{name}: {one}")
    msg = parse_solver(f"{' '.join(words)} net_param {{ {HEAD} {net} }}")
    return Solver(msg, feeds=Feed(), device="cpu", dtype="float64"), fields


def check(s, net, layers, params, order, again_at=None, folder=None):
    """Losses and weights of each iteration; with `again_at`, by another solver from a snapshot on."""
    given, fields = start(s, net)
    fields = {
        k: float(np.float32(v)) if isinstance(v, float) else v for k, v in (DEFAULTS | fields).items()
    }  # as in protobuf
    first = given.net.caffe_params()
    losses, seen = naive(fields, layers, [first[name][i] for name, i in order], params)
    for t in range(ITERATIONS):
        if t == again_at:
            _, state = given.snapshot()
            given, _ = start(s, net)
            given.restore(state)
        given._losses.clear()  # so that what step gives is this loss alone
        assert given.step() == pytest.approx(losses[t], rel=1e-9), f"loss of iteration {t}"
        blobs = given.net.caffe_params()
        for (name, i), want in zip(order, seen[t], strict=True):
            np.testing.assert_allclose(blobs[name][i], want, rtol=1e-8, atol=1e-10, err_msg=f"{name} {i} at {t}")


@pytest.mark.parametrize("case", CASES)
def test_trajectory(case):
    """A layer with multipliers, so that each blob has a rate and a decay of its own."""
    params = "param { lr_mult: 1 decay_mult: 1 } param { lr_mult: 2 decay_mult: 0.5 }"
    net = LAYER.format(name="a", params=params, weight=1)
    check(CASES[case], net, [(0, 1, 1.0)], [(1, 1), (2, 0.5)], [("a", 0), ("a", 1)])


@pytest.mark.parametrize("rule", RULES)
def test_frozen_shared_and_weighted(rule):
    """Two losses of different weights on layers that share their weights; one bias is frozen, one has no decay."""
    s = {"type": rule, **RULES[rule], "weight_decay": 0.1, "clip_gradients": 2.0, "iter_size": 2}
    own = 'param {{ name: "w" lr_mult: 0.5 }} param {{ {} }}'
    net = LAYER.format(name="a", params=own.format("lr_mult: 0"), weight=1)
    net += LAYER.format(name="b", params=own.format("decay_mult: 0").replace("lr_mult: 0.5 ", ""), weight=2.5)
    order = [("a", 0), ("a", 1), ("b", 1)]
    check(s, net, [(0, 1, 1.0), (0, 2, 2.5)], [(0.5, 1), (0, 1), (1, 0)], order)


@pytest.mark.parametrize("format", ["BINARYPROTO", "HDF5"])
@pytest.mark.parametrize("at", [2, 3, 9, 10])
@pytest.mark.parametrize("case", ["SGD, multistep", "SGD, step", "Adam, inv", "AdaDelta, all", "Nesterov, all with L1"])
def test_goes_on_at_any_step(case, at, format, tmp_path):
    """From a snapshot before, at and behind a step of the rate."""
    s = {**CASES[case], "snapshot_prefix": str(tmp_path / "s"), "snapshot_format": format}
    net = LAYER.format(name="a", params="", weight=1)
    check(s, net, [(0, 1, 1.0)], [(1, 1), (1, 1)], [("a", 0), ("a", 1)], again_at=at)
