import numpy as np
import pytest
import torch

import netcompiler
from netcompiler import NetError

from .table import Bad, Row, prototxt, suite


def smooth(d, sigma=1.0):
    return 0.5 * (sigma * d) ** 2 if abs(d) < 1 / sigma**2 else abs(d) - 0.5 / sigma**2


def naive(sigma=1.0, per_item=False, count=len):
    def loss(x, t, inside=None, outside=None):
        errors = np.zeros(x.shape)
        for k in np.ndindex(x.shape):
            d = (x[k] - t.reshape(x.shape)[k]) * (1 if inside is None else inside.reshape(x.shape)[k])
            errors[k] = smooth(d, sigma) * (1 if outside is None else outside.reshape(x.shape)[k])
        total = errors.sum() / count(x)
        four = errors.reshape(*errors.shape, *(1,) * (4 - errors.ndim))
        return [total, four.sum(1, keepdims=True)] if per_item else total

    return loss


def plain(fields=""):
    return f'type: "SmoothL1Loss" loss_weight: 1 {fields}'


def mined(fields="", weights="loss_weight: 1"):
    return f'type: "SmoothL1LossOHEM" {weights} {fields}'


IMAGE, ROWS_OF_8 = (3, 4, 2, 3), (5, 8)
ROWS = [
    Row("two bottoms", plain(), [IMAGE] * 2, [()], naive()),
    Row("rows", plain(), [ROWS_OF_8] * 2, [()], naive()),
    Row("other axes", plain(), [(5, 8, 1, 1), ROWS_OF_8], [()], naive()),
    Row("weights, sigma 3", plain("smooth_l1_loss_param { sigma: 3 }"), [IMAGE] * 4, [()], naive(3.0)),
    Row("weights", plain(), [ROWS_OF_8] * 4, [()], naive()),
    Row("inside weights alone", plain(), [ROWS_OF_8] * 3, [()], naive(), gradient=False),
    Row("items", plain("loss_weight: 0"), [IMAGE] * 4, [(), (3, 1, 2, 3)], naive(per_item=True)),
    Row("mined", mined(), [IMAGE] * 2, [()], naive(count=lambda x: 18)),
    Row("mined, weighted", mined(), [ROWS_OF_8] * 3, [()], naive(), gradient=False),
    Row(
        "mined, items",
        mined(weights="loss_weight: 1 loss_weight: 0"),
        [(7, 8)] * 3,
        [(), (7, 1, 1, 1)],
        naive(per_item=True),
        gradient=False,
    ),
    Row("mined, BATCH_SIZE", mined("loss_param { normalization: BATCH_SIZE }"), [IMAGE] * 2, [()], naive()),
    Row("mined, NONE", mined("loss_param { normalization: NONE }"), [IMAGE] * 2, [()], naive(count=lambda x: 1)),
    Row(
        "mined, PRE_FIXED",
        mined("loss_param { normalization: PRE_FIXED pre_fixed_normalizer: 6.5 }"),
        [IMAGE] * 2,
        [()],
        naive(count=lambda x: 6.5),
    ),
    Row("mined, normalize", mined("loss_param { normalize: false }"), [IMAGE] * 2, [()], naive()),
]
BAD = [
    Bad("batch", plain(), [(3, 4), (4, 3)], "the bottoms must have the same shape"),
    Bad("count", plain(), [(3, 4), (3, 4), (3, 5), (3, 4)], "3 x 5 at bottom 2"),
    Bad("scalar", plain(), [(), ()], "too few axes"),
    Bad("five", plain(), [(3, 4)] * 5, "the wrong number of bottoms"),
    Bad("mined, four", mined(), [(3, 4)] * 4, "the wrong number of bottoms"),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)


def compiled(body, shapes, dialect=None, dtype="float64"):
    net = netcompiler.parse(prototxt(body, shapes, 1))
    return netcompiler.compile(net, optimize=False, device="cpu", dtype=dtype, dialect=dialect)


@pytest.mark.parametrize("body", [plain(), mined()])
def test_gradient_without_the_weights(body):
    """Three bottoms: the derivative is taken of the weighted difference, and not weighted again."""
    x, t, w = torch.randn(3, 5, 6, dtype=torch.float64)
    x.requires_grad_(), t.requires_grad_()
    compiled(body, [(5, 6)] * 3)(x, t, 2 * w)["t0"].backward()
    want = (2 * w * (x - t)).detach().clamp(-1, 1) / 5
    torch.testing.assert_close(x.grad, want)
    torch.testing.assert_close(t.grad, -want)


@pytest.mark.parametrize("body", [plain(), mined()])
def test_weights_take_no_gradient(body):
    w = torch.ones(5, 6, requires_grad=True)
    with pytest.raises(NetError, match="no gradient for its weights"):
        compiled(body, [(5, 6)] * 3, dtype="float32")(torch.zeros(5, 6), torch.ones(5, 6), w)["t0"].backward()


@pytest.mark.parametrize(
    ("dialect", "bottoms", "fields", "weight"),
    [
        (None, 2, "", 1),
        ("ssd", 2, "", 1),
        ("bvlc", 2, "smooth_l1_loss_param { sigma: 1 }", 0),
        ("bvlc", 4, "", 0),
        ("fast-rcnn", 2, "", 0),
        ("intel", 2, "", 0),
        ("rfcn", 4, "", 0),
        ("mscnn", 2, "", 0),
    ],
)
def test_weight_that_is_not_written(dialect, bottoms, fields, weight):
    net = compiled(f'type: "SmoothL1Loss" {fields}', [(5, 6)] * bottoms, dialect)
    assert net.graph.nodes[-1].loss_weights == (weight,)


def test_bfloat16_has_a_float32_loss():
    net = compiled(plain(), [(5, 6)] * 2, dtype="bfloat16")
    assert net(torch.rand(5, 6).bfloat16(), torch.rand(5, 6).bfloat16())["t0"].dtype == torch.float32
