"""Layers run in one go while training: the same values, gradients and statistics, and only where nobody sees it."""

import numpy as np
import pytest
import torch

import netcompiler
from netcompiler.train.fuse import fuse

HEAD = 'layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 3 dim: 5 dim: 7 dim: 7 } } }\n'
CONV = """
layer { name: "c" type: "Convolution" bottom: "x" top: "c"
  convolution_param { num_output: 11 kernel_size: 3 weight_filler { type: "msra" } } }
"""
NORM = 'layer { name: "n" type: "BatchNorm" bottom: "c" top: "n" }\n'
SCALE = """
layer { name: "s" type: "Scale" bottom: "n" top: "s"
  scale_param { bias_term: true filler { type: "gaussian" } bias_filler { type: "gaussian" } } }
"""
RELU = 'layer { name: "r" type: "ReLU" bottom: "s" top: "s" }\n'
TWO = """
layer { name: "d" type: "Convolution" bottom: "t" top: "d"
  convolution_param { num_output: 11 kernel_size: 3 weight_filler { type: "msra" } } }
layer { name: "g" type: "Sigmoid" bottom: "d" top: "g" }
layer { name: "sum" type: "Eltwise" bottom: "g" bottom: "s" top: "sum" }
layer { name: "r2" type: "ReLU" bottom: "sum" top: "sum" }
"""
SUM = """
layer { name: "sum" type: "Eltwise" bottom: "s" bottom: "c" top: "sum" }
layer { name: "r2" type: "ReLU" bottom: "sum" top: "sum" }
"""


def compiled(net):
    return netcompiler.compile(netcompiler.parse(HEAD + net), phase="TRAIN", optimize=False, seed=1)


def fused(net):
    made = compiled(net)
    fuse(made)
    kinds = {}
    for node, attribute in zip(made.graph.nodes, made.attributes, strict=True):
        module = getattr(made, attribute)
        kind = type(module).__name__
        kinds[node.name] = f"Added {module.into}" if kind == "Added" else kind
    return made, {name: kind for name, kind in kinds.items() if kind != "LayerModule"}


def results(net, x):
    tops = [y for _, y in sorted(net(x=x).items())]
    sum((y * torch.arange(y.numel()).view(y.shape).sin()).sum() for y in tops).backward()
    params = net.caffe_params()
    return [y.detach().numpy() for y in tops], net.caffe_grads(), params


@pytest.mark.parametrize(
    "net, what",
    [
        (CONV + NORM + SCALE + RELU, {"n": "Norm", "s": "Done", "r": "Clipped"}),
        (CONV + NORM + SCALE.replace("bias_term: true", "") + RELU, {"n": "Norm", "s": "Done", "r": "Clipped"}),
        (CONV + NORM + SCALE + RELU + SUM, {"n": "Norm", "s": "Done", "r": "Clipped", "r2": "Clipped"}),
        (CONV + NORM + SCALE.replace("bias_term: true", "min_value: 0.01") + RELU, {"r": "Clipped"}),
        (CONV + RELU.replace('"s"', '"c"'), {"r": "Clipped"}),
        (
            CONV + NORM + SCALE + 'layer { name: "t" type: "TanH" bottom: "x" top: "t" }\n' + TWO,
            {"n": "Norm", "s": "Done", "sum": "Added 1", "r2": "Clipped"},
        ),
    ],
)
def test_same_numbers(net, what):
    x = torch.randn(3, 5, 7, 7, generator=torch.Generator().manual_seed(0))
    plain = compiled(net)
    other, kinds = fused(net)
    assert kinds == what
    for _ in range(2):
        plain.zero_grad()
        other.zero_grad()
        for a, b in zip(results(plain, x), results(other, x), strict=True):
            flat = [a, b] if isinstance(a, list) else [[v for held in d.values() for v in held] for d in (a, b)]
            for got, want in zip(*flat, strict=True):
                np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


WITHOUT = {
    "n is an output": CONV + NORM + SCALE + 'layer { name: "k" type: "Silence" bottom: "n" }\n',
    "n has two readers": CONV + NORM + SCALE + 'layer { name: "e" type: "Exp" bottom: "n" top: "e" }\n',
    "no gradient flows": CONV + NORM + SCALE.replace('bottom: "n"', 'bottom: "n" propagate_down: false'),
    "another axis": CONV + NORM + SCALE.replace("bias_term: true", "axis: 2"),
    "several axes": CONV + NORM + SCALE.replace("bias_term: true", "num_axes: 3"),
    "a scale from outside": CONV + NORM + 'layer { name: "s" type: "Scale" bottom: "n" bottom: "x2" top: "s" }',
    "norm has a scale": CONV + NORM.replace('top: "n"', 'top: "n" batch_norm_param { scale_bias: true }') + SCALE,
    "leaky": CONV + 'layer { name: "r" type: "ReLU" bottom: "c" top: "c" relu_param { negative_slope: 0.1 } }',
    "sigmoid's top is looked at": CONV
    + 'layer { name: "g" type: "Sigmoid" bottom: "c" top: "g" }\nlayer { name: "r" type: "ReLU" bottom: "g" top: "r" }',
    "c has two readers": CONV + RELU.replace('"s"', '"c"').replace('top: "c"', 'top: "r"') + NORM,
    "norm clips": CONV
    + NORM.replace('top: "n"', 'top: "n" batch_norm_param { relu: true }')
    + 'layer { name: "r" type: "ReLU" bottom: "n" top: "n" }',
    "convolution clips": CONV.replace("num_output: 11", "num_output: 11 relu: true")
    + 'layer { name: "r" type: "ReLU" bottom: "c" top: "c" }',
    "twice the same": CONV + 'layer { name: "e" type: "Eltwise" bottom: "c" bottom: "c" top: "e" }',
    "with factors": CONV
    + 'layer { name: "g" type: "Sigmoid" bottom: "x" top: "g" }\nlayer { name: "h" type: "Sigmoid" bottom: "g" top: "h" }\n'
    + 'layer { name: "e" type: "Eltwise" bottom: "g" bottom: "h" top: "e" eltwise_param { coeff: 1 coeff: 2 } }',
    "a product": CONV
    + 'layer { name: "p" type: "Eltwise" bottom: "c" bottom: "c" top: "p" eltwise_param { operation: PROD } }\n'
    + 'layer { name: "r" type: "ReLU" bottom: "p" top: "r" }',
}


@pytest.mark.parametrize("why", WITHOUT)
def test_left_alone(why):
    net = WITHOUT[why]
    if "x2" in net:
        net = (
            HEAD.replace('"in"', '"in2"').replace('"x"', '"x2"').replace("dim: 3 dim: 5 dim: 7 dim: 7", "dim: 3") + net
        )
        net = net.replace('top: "s" }', 'top: "s" scale_param { axis: 0 } }')
    assert fused(net)[1] == {}
