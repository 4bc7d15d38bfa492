import numpy as np
import torch

import netcompiler

from .table import Bad, Row, prototxt, suite


def merge(fields=""):
    return f'type: "MergeCrop" mergecrop_param {{ {fields} }}'


def middle(b):
    return b[:, :, 1:5, 1:6]


A, B = (2, 3, 4, 5), (2, 3, 6, 8)
BOTH = "backward: true backward: true"
ROWS = [
    Row("stack", merge(BOTH), [A, B], [(2, 6, 4, 5)], lambda a, b: np.concatenate((a, middle(b)), 1)),
    Row(
        "more channels", merge(BOTH), [A, (2, 5, 6, 8)], [(2, 8, 4, 5)], lambda a, b: np.concatenate((a, middle(b)), 1)
    ),
    Row("add", merge(f"operation: ADD {BOTH}"), [A, B], [A], lambda a, b: a + middle(b)),
    Row(
        "the second alone",
        merge(f"operation: ADD forward: false {BOTH}"),
        [A, B],
        [A],
        lambda a, b: middle(b),
        gradient=False,
    ),
    Row(
        "one axis", merge(BOTH), [(2, 3, 4), (2, 3, 7)], [(2, 6, 4)], lambda a, b: np.concatenate((a, b[:, :, 1:5]), 1)
    ),
]
BAD = [
    Bad("smaller", merge(), [B, A], "the bottoms do not match"),
    Bad("channels", merge("operation: ADD"), [A, (2, 4, 6, 8)], "the bottoms do not match"),
    Bad("rank", merge(), [A, (2, 3, 6)], "the bottoms do not match"),
    Bad("three", merge("forward: true forward: true forward: true"), [A, B], "too many forward", at="forward"),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)


def test_the_second_bottom_takes_no_gradient_unless_told():
    for fields, first, second in (("", 1, 0), (BOTH, 1, 1), ("backward: false backward: true", 0, 1)):
        net = netcompiler.compile(netcompiler.parse(prototxt(merge(fields), [A, B], 1)), optimize=False, device="cpu")
        a, b = (torch.randn(s, requires_grad=True) for s in (A, B))
        net(a, b)["t0"].sum().backward()
        assert (0 if a.grad is None else float(a.grad.sum())) == 120 * first
        assert (0 if b.grad is None else float(b.grad.sum())) == 120 * second


def test_what_is_not_forwarded_still_takes_a_gradient():
    text = prototxt(merge("forward: false"), [A, B], 1)
    net = netcompiler.compile(netcompiler.parse(text), optimize=False, device="cpu")
    a = torch.randn(A, requires_grad=True)
    y = net(a, torch.randn(B))["t0"]
    assert not y[:, :3].any()
    y.sum().backward()
    assert bool((a.grad == 1).all())
