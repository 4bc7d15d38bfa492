import numpy as np
import pytest
import torch

import netcompiler
from netcompiler import NetError

from .table import Bad, prototxt, suite

LOSS = 'type: "MemoryLoss"'
_, _, test_bad = suite([], [Bad("axes", LOSS, [(3,)], "bottom 0 has too few axes")])


@pytest.mark.parametrize(
    ("fields", "shapes", "count"),
    [
        ("", [(2, 3, 4, 5)], 40),
        ("loss_param { normalization: BATCH_SIZE }", [(2, 3)], 2),
        ("loss_param { normalization: NONE }", [(2, 3)], 1),
        ("", [(2, 3), (2, 3)], 2),
        ("", [(2, 3), (2, 4)], 1),
    ],
)
def test_the_callers_loss(fields, shapes, count):
    text = prototxt(f"{LOSS} {fields}", shapes, 1)
    net = netcompiler.compile(netcompiler.parse(text), optimize=False, device="cpu", dtype="float64")
    rng = np.random.default_rng(0)
    bottoms = [torch.tensor(rng.standard_normal(s), requires_grad=True) for s in shapes]
    with pytest.raises(NetError, match="nobody tells how to compute this loss"):
        net(*bottoms)
    net.get_submodule(net.attributes[-1]).get_loss = lambda *x: sum(b.square().sum() for b in x)
    loss = net.loss(net(*bottoms))
    loss.backward()
    assert float(loss) == pytest.approx(sum(float((b.detach() ** 2).sum()) for b in bottoms) / count)
    for b in bottoms:
        np.testing.assert_allclose(b.grad, 2 * b.detach() / count)
