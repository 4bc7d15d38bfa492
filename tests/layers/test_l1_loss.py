import numpy as np
import pytest
import torch

import netcompiler

from .table import Bad, Row, prototxt, suite


def loss(fields=None):
    return 'type: "L1Loss"' + ("" if fields is None else f" l1_loss_param {{ {fields} }}")


def naive(per_location=False, scale=1, eps=1e-2, plateau=0.0):
    def want(a, b=0.0, mask=None):
        d = a - b
        valid = ~np.isnan(d)
        if mask is not None:
            valid &= (mask != 0) & ~np.isnan(mask)
        n = valid.sum() / d.shape[1]
        d = np.where(valid, d, 0)
        if per_location:
            squares = (d**2).sum(1) / (d.shape[1] if scale != 1 else 1)
            squares[squares < plateau**2] = 0
            return np.sqrt(squares + eps).sum() / n
        return np.abs(d[np.abs(d) >= plateau]).sum() / n

    return want


def holes(rng, shape):
    x = rng.standard_normal(shape)
    x[rng.random(shape) < 0.2] = np.nan
    return x


def mask(rng, shape):
    return (rng.random(shape) < 0.5).astype(float)


X = (2, 3, 4, 5)
L2 = "l2_per_location: true"
ROWS = [
    Row("nvcaffe", loss(), [X, X], [()], lambda a, b: np.abs(a - b).sum() / 2),
    Row("another shape", loss(), [X, (2, 60)], [()], lambda a, b: np.abs(a.reshape(2, 60) - b).sum() / 2),
    Row("iresnet", loss(""), [X, X], [()], naive()),
    Row("one bottom", loss(), [X], [()], naive()),
    Row("lengths", loss(L2), [X, X], [()], naive(True)),
    Row(
        "lengths by channels",
        loss(f"{L2} l2_prescale_by_channels: true epsilon: 0.5"),
        [X, X],
        [()],
        naive(True, 3, 0.5),
    ),
    Row("plateau", loss("plateau: 0.8"), [X, X], [()], naive(plateau=0.8)),
    Row("plateau of lengths", loss(f"{L2} plateau: 1.5"), [X, X], [()], naive(True, plateau=1.5)),
    Row("holes", loss("normalize_by_num_entries: true"), [X, X], [()], naive(), feed={1: holes}, gradient=False),
    Row("mask", loss(""), [X, X, X], [()], naive(), feed={2: mask}, gradient=False),
    Row("mask of lengths", loss(L2), [X, X, X], [()], naive(True), feed={2: mask}, gradient=False),
]
BAD = [
    Bad("shapes", loss(), [X, (2, 3)], "the bottoms do not match"),
    Bad("rank", loss(""), [(2, 3), (2, 3)], "the wrong number of axes"),
    Bad("mask", loss(""), [X, X, (2, 1, 4, 5)], "the same shape"),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)


def gradient(fields, a, *others):
    arrays = [a, *others]
    net = netcompiler.compile(
        netcompiler.parse(prototxt(loss(fields), [x.shape for x in arrays], 1)),
        optimize=False,
        device="cpu",
        dtype="float64",
    )
    fed = torch.tensor(a, requires_grad=True)
    net.loss(net(fed, *others)).backward()
    return fed.grad.numpy()


def test_the_gradient_is_not_divided_by_what_the_mask_leaves():
    rng = np.random.default_rng(0)
    a, b, m = rng.standard_normal(X), rng.standard_normal(X), mask(rng, X)
    np.testing.assert_allclose(gradient("", a, b, m), np.sign(a - b) * m / 40)


@pytest.mark.parametrize("by_entries", [True, False])
def test_gradient_with_holes(by_entries):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal(X), holes(rng, X)
    n = (~np.isnan(b)).sum() / 3 if by_entries else 40
    got = gradient(f"normalize_by_num_entries: {str(by_entries).lower()}", a, b)
    np.testing.assert_allclose(got, np.nan_to_num(np.sign(a - b)) / n)


def test_gradient_of_far_and_of_near_places():
    a = np.array([0.0, 0.5, -0.5, 2, -3]).reshape(1, 1, 1, 5)
    np.testing.assert_allclose(gradient("", a).ravel(), np.array([-1, 1, -1, 1, -1]) / 5)
    np.testing.assert_allclose(gradient("max_error: 1", a).ravel(), np.array([-1, 1, -1, 0, 0]) / 5)
    np.testing.assert_allclose(gradient("plateau: 1", a).ravel(), np.array([0, 0, 0, 1, -1]) / 5)
    np.testing.assert_allclose(gradient("plateau: 1 max_error: 2.5", a).ravel(), np.array([-1, -1, -1, 1, 0]) / 5)


def test_too_much_left_by_the_mask_stops_the_gradient():
    a, m = np.ones((1, 1, 2, 2)), np.array([[[[1.0, 1], [1, 0]]]])
    assert gradient("ratio: 0.75", a, 0 * a, m).any()
    assert not gradient("ratio: 0.7", a, 0 * a, m).any()
