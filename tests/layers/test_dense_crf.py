import numpy as np
import pytest

import netcompiler
from netcompiler import NetError

from .table import Bad, Row, prototxt, suite
from .test_multi_stage_meanfield import grid, mean, softmax


def crf(fields="max_iter: 2 pos_w: 2 pos_xy_std: 1.5 bi_w: 3 bi_xy_std: 4 bi_rgb_std: 2"):
    return f'type: "DenseCRF" dense_crf_param {{ {fields} }}'


def field(times, bi=True):
    def want(scores, sizes, *images):
        top = np.zeros_like(scores)
        for i, (h, w) in enumerate(sizes.reshape(len(scores), 2).astype(int)):
            if h >= scores.shape[2] and w >= scores.shape[3]:
                h, w = scores.shape[2:]
            h, w = min(h, scores.shape[2]), min(w, scores.shape[3])
            unary = np.log(softmax(scores[i, :, :h, :w].reshape(scores.shape[1], -1)))
            q = softmax(unary)
            kernels = [(2, grid(h, w) / 1.5)]
            if bi:
                kernels.append((3, np.hstack((grid(h, w) / 4, images[0][i, :, :h, :w].reshape(3, -1).T / 2))))
            for _ in range(times):
                q = softmax(unary + sum(weight * mean(f, q) for weight, f in kernels))
            top[i, :, :h, :w] = q.reshape(-1, h, w)
        return top

    return want


def sizes(*pairs):
    return lambda rng, shape: np.array(pairs, float).reshape(shape)


X, S = (2, 3, 4, 5), (2, 1, 1, 2)
FED = {1: sizes((4, 5), (3, 2))}
ROWS = [
    Row("with pictures", crf(), [X, S, X], [X], field(2), feed=FED, gradient=False),
    Row(
        "without",
        crf("max_iter: 1 pos_w: 2 pos_xy_std: 1.5"),
        [X, S],
        [X],
        field(1, False),
        feed={1: sizes((9, 9), (4, 3))},
        gradient=False,
    ),
    Row("no step", crf("max_iter: 0"), [X, S], [X], field(0, False), feed={1: sizes((4, 5), (4, 5))}, gradient=False),
]
BAD = [
    Bad("counts", crf("pos_w: 1 pos_w: 2 pos_xy_std: 3"), [X, S], "pos_w and pos_xy_std must be as many", at="pos_xy"),
    Bad("deviation", crf("pos_w: 1 pos_xy_std: 0"), [X, S], "pos_xy_std must be positive", at="pos_xy_std"),
    Bad("no bi_w", crf("pos_w: 1 pos_xy_std: 3"), [X, S, X], "bi_w is missing"),
    Bad("sizes", crf(), [X, (2, 1), X], "bottom 1 has the wrong shape"),
    Bad("picture", crf(), [X, S, (2, 3, 4, 4)], "bottom 2 has the wrong shape"),
    Bad("steps", crf("max_iter: -1"), [X, S], "max_iter is negative", at="max_iter"),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)


def test_no_gradient():
    text = prototxt(crf("pos_w: 1 pos_xy_std: 1"), [X, S], 1)
    net = netcompiler.compile(netcompiler.parse(text), optimize=False, device="cpu")
    import torch

    x = torch.rand(X, requires_grad=True)
    top = net(x, np.full(S, 9, np.float32))["t0"]
    with pytest.raises(NetError, match="DenseCRF has no gradient"):
        top.sum().backward()
