"""How long layers take: each is there, and a slow one is seen to be slow."""

import time

import numpy as np
import pytest
import torch

import netcompiler
from netcompiler.errors import NetError
from netcompiler.timing import Ceilings, ceilings, layer_times, net_times, node_times, synthetic_feeds

NET = """\
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 8 dim: 8 } } }
layer { name: "label" type: "Input" top: "label" input_param { shape { dim: 2 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param { num_output: 4 kernel_size: 3 } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "fc" type: "InnerProduct" bottom: "conv" top: "fc" inner_product_param { num_output: 5 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
"""


def compiled(optimize=False):
    return netcompiler.compile(netcompiler.parse(NET), device="cpu", optimize=optimize)


def test_every_layer_that_runs_is_measured():
    net = compiled()
    times = layer_times(net)
    assert list(times) == ["conv", "relu", "fc", "loss"]
    assert all(0 < seconds < 5 for seconds in times.values())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules()), "nothing is left behind"


class Clock:
    """A clock that only layers under test move on."""

    def __init__(self, monkeypatch):
        self.seconds = 0.0
        monkeypatch.setattr("netcompiler.timing._now", lambda net: self.seconds)

    def slow(self, module, *seconds):
        """Let the calls of a module take so long, one after the other."""
        left, own = list(seconds), module.forward

        def forward(*bottoms):
            self.seconds += left.pop(0)
            return own(*bottoms)

        module.forward = forward


def test_the_median_counts_and_the_first_run_does_not(monkeypatch):
    net, clock = compiled(), Clock(monkeypatch)
    clock.slow(net.relu, 100, 3, 50, 4)
    clock.slow(net.fc, 100, 1, 1, 1)
    assert layer_times(net, runs=3) == {"conv": 0, "relu": 4, "fc": 1, "loss": 0}


def test_layers_of_one_name_count_together(monkeypatch):
    twins = NET.replace('"relu"', '"conv"')
    net = netcompiler.compile(netcompiler.parse(twins), device="cpu", optimize=False)
    clock = Clock(monkeypatch)
    for attribute, node in zip(net.attributes, net.graph.nodes, strict=True):
        if node.name == "conv":
            clock.slow(net.get_submodule(attribute), 100, 2)
    assert layer_times(net, runs=1)["conv"] == 4


def test_a_whole_net(monkeypatch):
    net, clock = compiled(), Clock(monkeypatch)
    clock.slow(net.relu, 100, 3, 50, 4, 0, 0)
    assert net_times(net, runs=3) == [3, 50, 4]
    assert not any(p.grad is not None for p in net.parameters())
    net_times(net, runs=1, backward=True)
    assert any(p.grad is not None and p.grad.any() for p in net.parameters())


def test_nodes_of_an_optimised_net(monkeypatch):
    net, clock = compiled(optimize=True), Clock(monkeypatch)
    clock.slow(net.conv, 100, 2, 3)
    assert [n.layer.kind for n in net.graph.nodes] == [
        "Input",
        "Input",
        "Convolution",
        "InnerProduct",
        "SoftmaxWithLoss",
    ]
    assert node_times(net, runs=2) == [[], [], [2, 3], [0, 0], [0, 0]]


def test_ceilings_bound_both_ways():
    roof = Ceilings(operations=100.0, bytes=10.0)
    assert roof.seconds(operations=200, moved=5) == 2 and roof.seconds(operations=50, moved=40) == 4


def test_ceilings_are_those_of_the_fastest_product():
    """The convolutions' own library may multiply twice as fast as torch.mm, and no layer is to be beyond its ceiling."""
    if not torch._C._has_mkldnn:
        pytest.skip("this PyTorch has no oneDNN")
    side = 512
    x, packed = torch.randn(side, side), torch.ops.mkldnn._reorder_linear_weight(torch.randn(side, side), side)
    seconds = []
    for _ in range(50):
        start = time.perf_counter()
        torch.ops.mkldnn._linear_pointwise(x, packed, None, "none", [], "")
        seconds.append(time.perf_counter() - start)
    assert ceilings(compiled()).operations > 0.6 * 2 * side**3 / min(seconds)


def test_feeds():
    net = compiled()
    feeds = synthetic_feeds(net, seed=1)
    assert feeds["data"].shape == (2, 3, 8, 8) and 30 < feeds["data"].std() < 90
    assert (feeds["label"] == 0).all() and (feeds["data"] == synthetic_feeds(net, seed=1)["data"]).all()
    layer_times(net, {"data": np.ones((2, 3, 8, 8), np.float32), "label": np.ones(2, np.float32)}, runs=1)


def test_what_cannot_be_measured():
    with pytest.raises(NetError, match="optimize=False"):
        layer_times(compiled(optimize=True))
    with pytest.raises(NetError, match="at least 1"):
        layer_times(compiled(), runs=0)


def test_a_fault_in_a_run_leaves_nothing_behind():
    net = compiled()
    with pytest.raises(NetError):
        layer_times(net, {"data": np.ones((2, 3, 8, 8), np.float32)})
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())
