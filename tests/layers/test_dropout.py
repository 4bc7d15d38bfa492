import pytest
import torch

import netcompiler

from .table import Bad, Row, prototxt, suite


def drop(ratio):
    return f'type: "Dropout" dropout_param {{ dropout_ratio: {ratio} }}'


ROWS = [
    Row("TEST", drop(0.3), [(2, 3, 5)], [(2, 3, 5)], lambda x: x),
    Row("ratio 0 in TRAIN", drop(0), [(2, 3, 5)], [(2, 3, 5)], lambda x: x, phase="TRAIN"),
    Row("unscaled, TEST", drop("0.3 scale_train: false"), [(2, 3, 5)], [(2, 3, 5)], lambda x: 0.7 * x),
    Row("a seed of NVCaffe", 'type: "Dropout" dropout_param { random_seed: 5 }', [(2, 3)], [(2, 3)], lambda x: x),
]
BAD = [
    Bad("ratio 1", drop(1), [(2, 3)], "dropout_ratio is out of range", at="dropout_ratio"),
    Bad("below 0", drop(-0.5), [(2, 3)], "0 <= dropout_ratio < 1", at="dropout_ratio"),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)


@pytest.mark.parametrize("ratio", [0.25, 0.5, 0.9])
def test_train(ratio):
    """A share of `ratio` becomes 0, the rest is scaled to keep the mean; the gradient has the same mask and scale."""
    torch.manual_seed(5)
    net = netcompiler.compile(netcompiler.parse(prototxt(drop(ratio), [(200, 300)], 1)), phase="TRAIN", device="cpu")
    x = (torch.rand(200, 300) + 1).requires_grad_()
    top = net(x)["t0"]
    kept = top != 0
    assert abs(kept.float().mean() - (1 - ratio)) < 0.01
    torch.testing.assert_close(top[kept], x[kept] / (1 - ratio))
    top.sum().backward()
    torch.testing.assert_close(x.grad, kept / (1 - ratio))
    assert not torch.equal(net(x)["t0"] != 0, kept)  # a new mask for each call
    net.eval()
    assert (net(x)["t0"] == 0).any()  # the phase is the layer's, not the module's mode


def test_train_without_scale():
    """Fast R-CNN's fork can scale in TEST instead."""
    torch.manual_seed(5)
    text = prototxt(drop("0.3 scale_train: false"), [(200, 300)], 1)
    net = netcompiler.compile(netcompiler.parse(text), phase="TRAIN", device="cpu")
    x = torch.rand(200, 300) + 1
    top = net(x)["t0"]
    assert abs((top != 0).float().mean() - 0.7) < 0.01
    torch.testing.assert_close(top, x * (top != 0))
    assert not netcompiler.build(netcompiler.parse(text)).nodes[-1].layer.is_identity()


def test_weights_are_sampled_in_test_too():
    """SegNet's fork can draw in TEST, to tell how sure the net is."""
    torch.manual_seed(5)
    text = prototxt(drop("0.25 sample_weights_test: true"), [(200, 300)], 1)
    net = netcompiler.compile(netcompiler.parse(text), device="cpu")
    top = net(torch.ones(200, 300))["t0"]
    assert abs((top != 0).float().mean() - 0.75) < 0.01
    torch.testing.assert_close(top[top != 0], torch.full_like(top[top != 0], 4 / 3))
