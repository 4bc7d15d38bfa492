import numpy as np

import netcompiler

from .table import Bad, Row, prototxt, suite


def pad(fields):
    return f'type: "Padding" padding_param {{ {fields} }}'


def bias(fields=""):
    return f'type: "BiasChannel" bias_channel_param {{ {fields} }}'


def biased(x, labels, bg=1.0, fg=2.0, ignored=()):
    y = x.copy()
    y[:, 0] += bg
    for n, row in enumerate(labels.reshape(len(labels), -1)):
        for k in row:
            if k not in ignored:
                y[n, int(k)] += fg
    return y


def given(*rows):
    return lambda rng, shape: np.array(rows, float).reshape(shape)


X = (2, 3, 4, 5)
ROWS = [
    Row(
        "pad", pad("pad_beg: 1 pad_end: 2"), [X], [(2, 3, 7, 8)], lambda x: np.pad(x, ((0, 0), (0, 0), (1, 2), (1, 2)))
    ),
    Row("crop", pad("pad_beg: -1 pad_end: -2"), [X], [(2, 3, 1, 2)], lambda x: x[:, :, 1:2, 1:3]),
    Row("nothing", pad(""), [X], [X], lambda x: x),
    Row("bias", bias(), [X, (2, 2)], [X], biased, feed={1: given([1, 2], [2, 2])}),
    Row(
        "bias, some ignored",
        bias("bg_bias: 0.5 fg_bias: 3 ignore_label: 255 ignore_label: 0"),
        [X, (2, 3, 1, 1)],
        [X],
        lambda x, labels: biased(x, labels, 0.5, 3, (255, 0)),
        feed={1: given([1, 255, 0], [2, 1, 0])},
    ),
]
BAD = [
    Bad("signs", pad("pad_beg: -1 pad_end: 1"), [X], "must have one sign", at="pad_end"),
    Bad("nothing left", pad("pad_beg: -4"), [X], "nothing is left", at="pad_beg"),
    Bad("order", bias("bg_bias: 2 fg_bias: 1"), [X, (2, 2)], "out of order", at="fg_bias"),
    Bad("labels", bias(), [X, (3, 2)], "bottom 1 has the wrong shape"),
    Bad("no labels", bias(), [X, (2,)], "bottom 1 has the wrong shape"),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)


def test_the_background_is_no_label():
    net = netcompiler.compile(netcompiler.parse(prototxt(bias(), [X, (2, 1)], 1)), optimize=False, device="cpu")
    try:
        net(np.ones(X), np.zeros((2, 1)))
    except netcompiler.NetError as e:
        assert "out of range" in str(e)
    else:
        raise AssertionError
