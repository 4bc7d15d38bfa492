import numpy as np

import netcompiler

from .table import Bad, Row, suite


def indicator(fields):
    return f'type: "ContinuationIndicator" continuation_indicator_param {{ {fields} }}'


def flags(steps, batch):
    return lambda *_: np.repeat([[0.0], *[[1.0]] * (steps - 1)], batch, 1)


ROWS = [
    Row("batch of a bottom", indicator("time_step: 7"), [(5, 3, 2)], [(7, 5)], flags(7, 5), gradient=False),
    Row("axis", indicator("time_step: 2 axis: -2"), [(5, 3, 2)], [(2, 3)], flags(2, 3), gradient=False),
]
BAD = [
    Bad("no steps", indicator("axis: 0"), [(5, 3)], "time_step must be positive"),
    Bad("axis", indicator("time_step: 2 axis: 2"), [(5, 3)], "axis is out of range", at="axis"),
    Bad("both", indicator("time_step: 2 batch_size: 3"), [(5, 3)], "both given", at="batch_size"),
    Bad("no batch", indicator("time_step: 2"), [], "the batch is not told"),
    Bad("axis of nothing", indicator("time_step: 2 batch_size: 3 axis: 1"), [], "there is none", at="axis"),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)


def test_without_a_bottom_it_makes_its_top():
    text = f'layer {{ name: "c" top: "c" {indicator("time_step: 4 batch_size: 3")} }}'
    net = netcompiler.compile(netcompiler.parse(text), device="cpu")
    np.testing.assert_array_equal(net()["c"], flags(4, 3)())
