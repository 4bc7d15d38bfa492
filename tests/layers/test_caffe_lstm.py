import numpy as np
import torch

import netcompiler

from .table import Bad, Row, prototxt, suite


def lstm(fields):
    return f'type: "Lstm" lstm_param {{ {fields} }}'


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def naive(n, num_output, with_axis=False):
    """Quirks and all: flags clip[t + n], and the recurrent product of sequence 0 for every sequence."""

    def want(x, clip=None, *, weight_x, weight_h, bias):
        flat = x.reshape(-1, weight_x.shape[1])
        steps = len(flat) // n
        h, c, out = np.zeros((n, num_output)), np.zeros((n, num_output)), []
        for t in range(steps):
            product = weight_h @ h[0]
            h, old = np.zeros_like(h), c
            c = np.zeros_like(c)
            for s in range(n):
                kept = t > 0 if clip is None else clip.ravel()[t + s] != 0
                gates = weight_x @ flat[t * n + s] + bias + (product if kept else 0)
                i, f, o, g = np.split(gates, 4)
                c[s] = sigmoid(i) * np.tanh(g) + (sigmoid(f) * old[s] if kept else 0)
                h[s] = sigmoid(o) * np.tanh(c[s])
            out.append(h)
        out = np.stack(out)
        return out if with_axis else out.reshape(-1, num_output)

    return want


def flags(rng, shape):
    return (rng.random(shape) < 0.6).astype(float)


BLOBS = {"weight_x": (12, 5), "weight_h": (12, 3), "bias": (12,)}
ROWS = [
    Row("one sequence", lstm("num_output: 3"), [(7, 5)], [(7, 3)], naive(1, 3), BLOBS, 672, gradient=True),
    Row("an image a step", lstm("num_output: 3"), [(4, 5, 1, 1)], [(4, 3)], naive(1, 3), BLOBS, 384),
    Row(
        "two sequences",
        lstm("num_output: 3 batch_size: 2"),
        [(6, 5)],
        [(6, 3)],
        naive(2, 3),
        BLOBS,
        576,
        gradient=False,
    ),
    Row(
        "clip",
        lstm("num_output: 3"),
        [(7, 5), (7,)],
        [(7, 3)],
        naive(1, 3),
        BLOBS,
        672,
        feed={1: flags},
        gradient=False,
    ),
    Row(
        "two with clip",
        lstm("num_output: 3 batch_size: 2"),
        [(6, 5), (6,)],
        [(6, 3)],
        naive(2, 3),
        BLOBS,
        576,
        feed={1: flags},
        gradient=False,
    ),
]
BAD = [
    Bad("no output", lstm("batch_size: 1"), [(6, 5)], "num_output must be positive"),
    Bad("batch", lstm("num_output: 3 batch_size: 4"), [(6, 5)], "batch_size does not fit", at="batch_size"),
    Bad("zero", lstm("num_output: 3 batch_size: 0"), [(6, 5)], "batch_size must be positive", at="batch_size"),
    Bad("nothing", lstm("num_output: 3"), [(6, 5, 0)], "nothing in it"),
    Bad("clip", lstm("num_output: 3"), [(6, 5), (5,)], "clip has the wrong shape"),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)


def net(fields, bottoms, dialect=None):
    msg = netcompiler.parse(prototxt(lstm(fields), bottoms, 1))
    n = netcompiler.compile(msg, optimize=False, device="cpu", dtype="float64", dialect=dialect)
    rng = np.random.default_rng(5)
    n.load_caffe_params({"it": [rng.standard_normal(a.shape) for a in n.caffe_params()["it"]]})
    return n


def test_ctpn_has_an_axis_for_the_sequences():
    n = net("num_output: 3", [(4, 2, 5)], "ctpn")
    x = np.random.default_rng(1).standard_normal((4, 2, 5))
    blobs = dict(zip(BLOBS, n.caffe_params()["it"], strict=True))
    np.testing.assert_allclose(n(x)["t0"].detach(), naive(2, 3, True)(x, **blobs))


def test_the_state_goes_on_where_clip_says_so():
    n, whole = (net("num_output: 3", [(k, 5), (k,)]) for k in (3, 6))
    x, clip = np.random.default_rng(2).standard_normal((6, 5)), np.array([0.0, 1, 1, 1, 1, 1])
    parts = [n(x[k : k + 3], clip[k : k + 3])["t0"].detach() for k in (0, 3)]
    np.testing.assert_allclose(torch.cat(parts), whole(x, clip)["t0"].detach())


def test_clipping_threshold_clamps_the_gradient_of_the_gates():
    free, tight = net("num_output: 3", [(1, 5)]), net("num_output: 3 clipping_threshold: 0.01", [(1, 5)])
    x = np.random.default_rng(2).standard_normal((1, 5))
    grads = []
    for n in (free, tight):
        n(x)["t0"].sum().backward()
        grads.append(n.caffe_grads()["it"][2])
    assert np.abs(grads[0]).max() > 0.01
    np.testing.assert_allclose(grads[1], np.clip(grads[0], -0.01, 0.01))
