import numpy as np
import pytest
import torch

import netcompiler

from .table import Bad, prototxt, suite

FILTER = 'type: "Filter"'
BOTTOMS = [(5, 3, 2), (5, 7), (5, 1, 1)]
BAD = [
    Bad("tops", FILTER, BOTTOMS, "the wrong number of tops", tops=1, at="top"),
    Bad("selector", FILTER, [(5, 3), (5, 2)], "one number for each item"),
    Bad("batches", FILTER, [(5, 3), (3, 3), (5,)], "the batches differ", tops=2),
    Bad("scalar", FILTER, [(), ()], "too few axes"),
    Bad("one bottom", FILTER, [(5, 3)], "the wrong number of bottoms"),
]
_, _, test_bad = suite([], BAD)


def compiled() -> netcompiler.CompiledNet:
    net = netcompiler.parse(prototxt(FILTER, BOTTOMS, 2))
    return netcompiler.compile(net, optimize=False, device="cpu", dtype="float64")


def test_shape_rule_keeps_all():
    """How many items stay is known only at the run."""
    node = netcompiler.build(netcompiler.parse(prototxt(FILTER, BOTTOMS, 2))).nodes[-1]
    assert [v.shape for v in node.tops] == [(5, 3, 2), (5, 7)]


@pytest.mark.parametrize("selector", [(0, 1, 0, -2, 0.5), (1, 1, 1, 1, 1), (0, 0, 0, 0, 0)])
def test_keeps_items_that_are_selected(selector):
    rng = np.random.default_rng(1)
    bottoms = [rng.standard_normal(s) for s in BOTTOMS[:2]]
    tops = compiled()(*bottoms, np.reshape(selector, BOTTOMS[2])).values()
    kept = [i for i, s in enumerate(selector) if s != 0]
    for x, y in zip(bottoms, tops, strict=True):
        np.testing.assert_array_equal(y.numpy(), np.reshape([x[i] for i in kept], (len(kept), *x.shape[1:])))


def test_gradient_is_0_for_the_others():
    x = torch.ones(BOTTOMS[0], requires_grad=True, dtype=torch.float64)
    selector = torch.tensor([0.0, 1, 0, 1, 0]).reshape(BOTTOMS[2])
    (3 * compiled()(x, torch.ones(BOTTOMS[1]), selector)["t0"]).sum().backward()
    assert x.grad[:, 0, 0].tolist() == [0, 3, 0, 3, 0]


def test_gradient_of_the_selector_is_refused():
    selector = torch.ones(BOTTOMS[2], requires_grad=True)
    top = compiled()(torch.ones(BOTTOMS[0]), torch.ones(BOTTOMS[1]), selector)["t1"]
    with pytest.raises(netcompiler.NetError, match="no gradient for its selector"):
        top.sum().backward()
