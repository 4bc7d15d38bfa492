"""Boxes that are made of shapes alone: made once for them, and as the layer makes them."""

import copy

import pytest
import torch

from netcompiler import CompiledNet
from netcompiler.kernels.grid import KeptGrid
from netcompiler.layers.prior_box import PriorBox

from .test_fuse import compiled, conv
from .test_passes import X, bound

PRIORS = """layer { name: "b" type: "PriorBox" bottom: "c" bottom: "x" top: "b"
         prior_box_param { min_size: 3 aspect_ratio: 2 flip: true } }
"""


@pytest.fixture
def made(monkeypatch):
    """The shapes that boxes are made for, one by one."""
    calls, own = [], PriorBox.forward

    def forward(self, m, *bottoms):
        calls.append(tuple(bottoms[0].shape))
        return own(self, m, *bottoms)

    monkeypatch.setattr(PriorBox, "forward", forward)
    return calls


@pytest.fixture
def net():
    net = compiled(bound(X + conv("c") + PRIORS))
    assert isinstance(net.b, KeptGrid)
    return net


def test_they_are_made_once_for_each_shape(net, made):
    plain = CompiledNet(net.source)
    for shape in ((2, 3, 7, 5), (2, 3, 7, 5), (2, 3, 9, 5), (2, 3, 9, 5), (2, 3, 7, 5)):
        made.clear()
        x = torch.randn(shape)
        assert torch.equal(net(x)["b"], plain(x)["b"])
        assert len(made) <= 2
    assert net.b.kept is not None
    made.clear()
    net(torch.randn(2, 3, 7, 5))
    assert made == []


def test_what_a_caller_does_to_them_stays_with_the_caller(net):
    first = net(torch.ones(2, 3, 7, 5))["b"]
    want = first.clone()
    first.zero_()
    assert torch.equal(net(torch.ones(2, 3, 7, 5))["b"], want)


def test_modes_types_and_copies(net, made):
    x = torch.ones(2, 3, 7, 5)
    with torch.inference_mode():
        want = net(x)["b"].clone()
    assert not net(x)["b"].is_inference()
    twin = copy.deepcopy(net)
    assert twin.b.kept is None and torch.equal(twin(x)["b"], want)
    made.clear()
    assert net.double()(x.double())["b"].dtype == torch.float64 and made == [(2, 3, 7, 5)]
