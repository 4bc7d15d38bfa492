import torch

import netcompiler

from .table import Bad, suite

SILENT = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "r" type: "ReLU" bottom: "x" top: "y" }
layer { name: "s" type: "Silence" bottom: "x" bottom: "y" }
"""
BAD = [
    Bad("a top", 'type: "Silence"', [(2, 3)], "the wrong number of tops", tops=1, at="top"),
    Bad("no bottom", 'type: "Silence"', [], "the wrong number of bottoms", tops=0),
]
_, _, test_bad = suite([], BAD)


def test_takes_blobs_off_the_outputs():
    msg = netcompiler.parse(SILENT)
    graph = netcompiler.build(msg)
    assert graph.outputs == ()
    assert graph.nodes[-1].tops == ()
    del msg.layer[-1]
    assert [v.blob for v in netcompiler.build(msg).outputs] == ["y"]


def test_runs_as_a_layer_without_tops():
    source = netcompiler.build(netcompiler.parse(SILENT))
    net = netcompiler.CompiledNet(source)
    assert "self.s(x, y)" in net.code
    assert net(torch.zeros(2, 3)) == {}


def test_gives_no_gradient():
    net = netcompiler.compile(netcompiler.parse(SILENT), outputs=["y"], optimize=False, device="cpu")
    x = torch.ones(2, 3, requires_grad=True)
    net(x)["y"].sum().backward()
    assert x.grad.tolist() == [[1] * 3] * 2
