"""Highway Networks: layers with gates that learn how much to pass on unchanged.

Source: Srivastava, Greff, Schmidhuber, "Highway Networks", 2015 (arXiv 1505.00387), and "Training Very Deep
Networks", NIPS 2015 (arXiv 1507.06228): y = H(x) T(x) + x (1 - T(x)), with a gate T whose bias starts negative. Fully
connected, on handwritten digits: a first layer, depth - 1 highway layers of 50 units, and the classifier. Layer names
are ours.
"""

from __future__ import annotations

from typing import Unpack

from ..errors import NetError
from ..spec import Top
from ..text import Msg
from .parts import MSRA, Classifier, Sources, mnist, solving

SIDE = 28


def deploy(depth: int = 50, classes: int = 10, *, width: int = 50) -> Msg:
    """data 1 x 1 x 28 x 28, 0 to 1, to prob. depth: layers before the classifier; the paper's are 10, 20, 50 and 100."""
    return _Net(depth, width, train=False).deployed(SIDE, classes, channels=1)


def train_val(depth: int = 50, classes: int = 10, *, width: int = 50, **sources: Unpack[Sources]) -> Msg:
    """The net that trains on MNIST."""
    return _Net(depth, width, train=True).trained(mnist(), classes, top5=False, **sources)


def solver(depth: int = 50, *, net: str = "") -> Msg:
    """SGD with momentum, 400 passes over the digits, and a rate that falls by a factor. The paper searched it: these
    are ours.
    """
    _check(depth, 1)
    return solving(
        f"Highway-{depth}",
        net,
        test_iter=100,
        test_interval=1000,
        base_lr=0.05,
        lr_policy="step",
        gamma=0.5,
        stepsize=40_000,
        max_iter=375_000,
    )


def _check(depth: int, width: int) -> None:
    if depth < 2 or width < 1:
        got = f"{depth} layers of {width} units"
        raise NetError("no such highway net", expected="2 layers or more of 1 unit or more", got=got)


class _Net(Classifier):
    filler = MSRA

    def __init__(self, depth: int, width: int, *, train: bool) -> None:
        _check(depth, width)
        self.depth, self.width = depth, width
        super().__init__(f"Highway-{depth}", train=train)

    def scores(self, data: Top, classes: int) -> Top:
        x = self.relu(self.fc(data, "ip1", self.width), "relu1")
        for i in range(2, self.depth + 1):
            x = self.highway(x, i)
        return self.fc(x, f"ip{self.depth + 1}", classes)

    def highway(self, x: Top, i: int) -> Top:
        """x + (H - x) T needs two sums and a product; this is the same as H T + x (1 - T)."""
        h = self.relu(self.fc(x, f"ip{i}", self.width), f"relu{i}")
        gate = self.fc(x, f"gate{i}", self.width, filler={"type": "xavier"}, bias_value=-1 - self.depth // 25)
        t = self.Sigmoid(gate, name=f"sigmoid{i}", in_place=True)
        change = self.Eltwise(h, x, name=f"change{i}", coeff=[1, -1])
        carried = self.Eltwise(change, t, name=f"gated{i}", operation="PROD")
        top: Top = self.Eltwise(x, carried, name=f"highway{i}")
        return top
