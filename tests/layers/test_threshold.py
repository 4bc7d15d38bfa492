import numpy as np
import pytest
import torch

import netcompiler
from netcompiler import NetError

from .table import Bad, Row, prototxt, suite

ABOVE = 'type: "Threshold" threshold_param { threshold: 0.5 }'
ROWS = [
    Row("plain", 'type: "Threshold"', [(2, 3, 5)], [(2, 3, 5)], lambda x: np.where(x > 0, 1.0, 0.0), gradient=False),
    Row("above 0.5", ABOVE, [(7, 11)], [(7, 11)], lambda x: np.where(x > 0.5, 1.0, 0.0), gradient=False),
]
BAD = [Bad("two tops", ABOVE, [(2, 3)], "the wrong number of tops", tops=2)]
test_row, test_gradient, test_bad = suite(ROWS, BAD)


def test_the_threshold_itself_is_not_above_and_a_gradient_is_refused():
    net = netcompiler.compile(netcompiler.parse(prototxt(ABOVE, [(3,)], 1)), optimize=False, device="cpu")
    x = torch.tensor([0.25, 0.5, 0.75], requires_grad=True)
    y = net(x)["t0"]
    assert y.tolist() == [0, 0, 1]
    with pytest.raises(NetError, match="Threshold passes no gradient"):
        y.sum().backward()
