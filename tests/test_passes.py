"""Each pass: what it makes of a net, that outputs stay, and a graph for every condition that forbids it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import netcompiler
from netcompiler import passes, weights
from netcompiler.passes.drop_identities import drop_identities
from netcompiler.passes.fold_batchnorm import fold_batchnorm, fold_into_next
from netcompiler.passes.pull_strides import pull_strides

X = 'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 dim: 7 dim: 5 } } }\n'
CONV = """layer { name: "c" type: "Convolution" bottom: "x" top: "c"
         convolution_param { num_output: 5 kernel_size: 3 BIAS weight_filler { type: "xavier" } } }
"""
NORM = 'layer { name: "n" type: "BatchNorm" bottom: "c" top: "c" }\n'
NVCAFFE = NORM.replace('top: "c"', 'top: "c" batch_norm_param { scale_bias: true }')
INTEL = NORM.replace('top: "c"', 'top: "c" batch_norm_param { use_weight_bias: true bias_term: false }')
BN = 'layer { name: "n" type: "BN" bottom: "c" top: "c" bn_param { HOW } }\n'
SCALE = 'layer { name: "s" type: "Scale" bottom: "c" top: "c" scale_param { bias_term: true\n} }\n'
POWER = 'layer { name: "p" type: "Power" bottom: "c" top: "c" power_param { scale: -2 shift: 3 } }\n'
RELU = 'layer { name: "r" type: "ReLU" bottom: "c" top: "c" }\n'
FULL = """layer { name: "c" type: "InnerProduct" bottom: "x" top: "c"
         inner_product_param { num_output: 5 TRANSPOSE weight_filler { type: "xavier" } } }
"""


def bound(text, phase="TEST"):
    """The graph with noise in every blob: zero defaults would hide faults."""
    graph = netcompiler.build(netcompiler.parse(text), phase)
    rng = np.random.default_rng(3)
    arrays = {}
    for node in graph.nodes:
        specs = node.layer.blobs(node.bottom_shapes).values()
        if specs:
            arrays[node.name] = [(0.5 + rng.random(s.shape)).astype(np.float32) for s in specs]
    return weights.bind(graph, arrays)


def types(graph):
    return [n.layer.kind for n in graph.nodes[1:]]


def same(before, after):
    """Both graphs give the same outputs over noise."""
    x = {v.blob: np.random.default_rng(5).standard_normal(v.shape).astype(np.float32) for v in before.inputs()}
    one, two = (netcompiler.CompiledNet(g)(**x) for g in (before, after))
    assert list(one) == list(two)
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=1e-4, atol=1e-4)


FOLDS = [
    ("conv, norm, scale", CONV + NORM + SCALE + RELU, ["Convolution", "ReLU"]),
    ("without bias", CONV.replace("BIAS", "bias_term: false") + NORM + SCALE + RELU, ["Convolution", "ReLU"]),
    ("norm alone", CONV + NORM, ["Convolution"]),
    ("scale alone", CONV + SCALE, ["Convolution"]),
    ("bias", CONV + 'layer { name: "b" type: "Bias" bottom: "c" top: "d" }', ["Convolution"]),
    ("inner product", FULL + NORM + SCALE, ["InnerProduct"]),
    ("transposed", FULL.replace("TRANSPOSE", "transpose: true") + NORM + SCALE, ["InnerProduct"]),
    ("group", CONV.replace("3 BIAS", "3 group: 1 BIAS") + NORM, ["Convolution"]),
    ("NVCaffe's norm", CONV + NVCAFFE + RELU, ["Convolution", "ReLU"]),
    ("NVCaffe's norm without bias before", CONV.replace("BIAS", "bias_term: false") + NVCAFFE, ["Convolution"]),
    ("Intel's norm without bias", CONV + INTEL, ["Convolution"]),
    ("power", CONV + POWER, ["Convolution"]),
    ("power after an inner product", FULL + POWER + SCALE, ["InnerProduct"]),
    ("SegNet's BN", CONV + BN.replace("HOW", "bn_mode: INFERENCE"), ["Convolution"]),
    ("PSPNet's BN", CONV + BN.replace("HOW", "slope_filler { value: 2 }") + SCALE + RELU, ["Convolution", "ReLU"]),
    ("CTPN's BN", CONV + BN.replace("HOW", "moving_average: true"), ["Convolution"]),
    ("GENet's norm", CONV + BN.replace('"BN"', '"CuDNNBatchNorm"').replace("bn_param { HOW }", ""), ["Convolution"]),
    ("Intel's norm and scale", CONV + INTEL.replace("bias_term: false", "") + SCALE, ["Convolution"]),
]


@pytest.mark.parametrize(("text", "kinds"), [f[1:] for f in FOLDS], ids=[f[0] for f in FOLDS])
def test_fold(text, kinds):
    before = bound(X + text.replace("BIAS", "").replace("TRANSPOSE", ""))
    after = fold_batchnorm(before).check()
    assert types(after) == kinds
    same(before, after)
    assert fold_batchnorm(after) is after


# Before a convolution: on x, which becomes y.
BEFORE = {kind: text.replace('"c"', '"x"') for kind, text in (("norm", NORM), ("scale", SCALE), ("power", POWER))}
NO_SHIFT = BEFORE["power"].replace("shift: 3", "")
ONE = CONV.replace("kernel_size: 3", "kernel_size: 1").replace("BIAS", "")
INTO_NEXT = [
    ("norm", BEFORE["norm"] + ONE, ["Convolution"]),
    ("norm and scale", BEFORE["norm"] + BEFORE["scale"] + ONE, ["Convolution"]),
    ("without bias", BEFORE["scale"] + ONE.replace("kernel_size", "bias_term: false kernel_size"), ["Convolution"]),
    ("groups", BEFORE["scale"] + ONE.replace("num_output: 5", "num_output: 6 group: 3"), ["Convolution"]),
    ("power", BEFORE["power"] + ONE, ["Convolution"]),
    ("a scaling before padding", NO_SHIFT + ONE.replace("kernel_size: 1", "kernel_size: 3 pad: 1"), ["Convolution"]),
    ("inner product", BEFORE["scale"] + FULL, ["InnerProduct"]),
    ("transposed", BEFORE["norm"] + FULL.replace("TRANSPOSE", "transpose: true"), ["InnerProduct"]),
]


@pytest.mark.parametrize(("text", "kinds"), [f[1:] for f in INTO_NEXT], ids=[f[0] for f in INTO_NEXT])
def test_fold_into_next(text, kinds):
    before = bound(X + text.replace("TRANSPOSE", ""))
    after = fold_into_next(before).check()
    assert types(after) == kinds
    same(before, after)
    assert fold_into_next(after) is after


NOT_INTO_NEXT = [
    ("a shift before padding", BEFORE["scale"] + ONE.replace("kernel_size: 1", "kernel_size: 3 pad: 1"), "TEST"),
    ("a shift before a kernel that might stick out", BEFORE["scale"] + ONE.replace("size: 1", "size: 3"), "TEST"),
    ("a second reader", BEFORE["scale"] + ONE + RELU.replace('"c"', '"x"'), "TEST"),
    ("batch statistics", BEFORE["norm"] + ONE, "TRAIN"),
    ("a power", BEFORE["power"].replace("scale: -2", "power: 2") + ONE, "TEST"),
    ("no scale", BEFORE["power"].replace("scale: -2", "scale: 0") + ONE, "TEST"),
    ("shared weights", BEFORE["scale"] + ONE.replace('top: "c"', 'top: "c" param { name: "w" }'), "TEST"),
    ("a shared scale", BEFORE["scale"].replace('top: "x"', 'top: "x" param { name: "w" }') + ONE, "TEST"),
    ("a loss", BEFORE["scale"].replace('top: "x"', 'top: "x" loss_weight: 1') + ONE, "TEST"),
    ("stopped gradient", BEFORE["scale"] + ONE.replace('bottom: "x"', 'bottom: "x" propagate_down: false'), "TEST"),
    ("weights that are scaled", BEFORE["scale"] + FULL.replace("TRANSPOSE", "normalize: true"), "TEST"),
    ("no convolution behind", BEFORE["scale"] + RELU.replace('"c"', '"x"'), "TEST"),
]


@pytest.mark.parametrize(("text", "phase"), [k[1:] for k in NOT_INTO_NEXT], ids=[k[0] for k in NOT_INTO_NEXT])
def test_fold_into_next_keeps_hands_off(text, phase):
    graph = bound(X + text, phase)
    assert fold_into_next(graph) is graph


def test_fold_into_next_keeps_an_output():
    graph = bound(X + BEFORE["scale"].replace('top: "x"', 'top: "y"') + ONE.replace('bottom: "x"', 'bottom: "y"'))
    both = graph.wanted([graph.last("y"), graph.last("c")])
    assert fold_into_next(both) is both


@pytest.mark.parametrize("norm", [NORM, NVCAFFE, INTEL], ids=["BVLC", "NVCaffe", "Intel"])
def test_fold_of_a_zero_factor_does_as_the_layer(norm):
    """Zero statistics, or, where the factor has no meaning, those that are stored."""
    graph = bound(X + CONV.replace("BIAS", "") + norm)
    arrays = {n.name: [np.array(a) for a in n.blobs] for n in graph.nodes if n.blobs}
    arrays["n"][2][:] = 0
    before = weights.bind(graph, arrays)
    same(before, fold_batchnorm(before))


KEEPS = [
    ("a second reader", CONV + NORM.replace('top: "c"', 'top: "d"') + RELU.replace('"c" top', '"c" top'), "TEST"),
    ("batch statistics", CONV + NORM, "TRAIN"),
    ("shared weights", CONV.replace('top: "c"', 'top: "c" param { name: "w" }') + NORM, "TEST"),
    ("scale over another axis", CONV + SCALE.replace("bias_term", "axis: 2 bias_term"), "TEST"),
    ("scale over two axes", CONV + SCALE.replace("bias_term", "num_axes: 2 bias_term"), "TEST"),
    (
        "two bottoms",
        CONV + SCALE.replace('bottom: "c"', 'bottom: "c" bottom: "c"').replace("bias_term", "axis: 0 #"),
        "TEST",
    ),
    ("a fused ReLU before", CONV.replace("BIAS", "relu: true") + NORM, "TEST"),
    (
        "a fused sum before",
        CONV.replace('bottom: "x"', 'bottom: "x" bottom: "x"').replace(
            "5 kernel_size: 3", "3 kernel_size: 1 fusion_type: SUM_FUSION"
        )
        + NORM,
        "TEST",
    ),
    ("weights that are scaled", FULL.replace("TRANSPOSE", "normalize: true") + NORM, "TEST"),
    ("a ReLU fused into the norm", CONV + INTEL.replace("bias_term", "relu: true bias_term"), "TEST"),
    ("stopped gradient", CONV + NORM.replace('bottom: "c"', 'bottom: "c" propagate_down: false'), "TEST"),
    ("SegNet's BN of the batch", CONV + BN.replace("HOW", "bn_mode: LEARN"), "TEST"),
    (
        "SegNet's BN that tells the mean",
        CONV + BN.replace("HOW", "bn_mode: INFERENCE").replace('top: "c"', 'top: "c" top: "m"'),
        "TEST",
    ),
    ("CTPN's BN along rows", CONV + BN.replace("HOW", "moving_average: true axis: 2"), "TEST"),
    ("not after a convolution", NORM.replace('"c"', '"x"'), "TEST"),
    ("another layer between", CONV + RELU + NORM, "TEST"),
]


@pytest.mark.parametrize(("text", "phase"), [k[1:] for k in KEEPS], ids=[k[0] for k in KEEPS])
def test_fold_keeps_hands_off(text, phase):
    graph = bound(X + text.replace("BIAS", ""), phase)
    assert fold_batchnorm(graph) is graph


def test_fold_keeps_an_output():
    graph = bound(X + CONV.replace("BIAS", "") + NORM.replace('top: "c"', 'top: "d"'))
    both = graph.wanted([graph.last("c"), graph.last("d")])
    assert fold_batchnorm(both) is both


def test_fold_moves_a_loss_weight_with_its_top():
    text = X + CONV.replace("BIAS", "") + SCALE.replace('top: "c"', 'top: "s" loss_weight: 2')
    net = netcompiler.compile(netcompiler.parse(text), device="cpu")
    assert types(net.graph) == ["Convolution"]
    outputs = net(np.random.default_rng(5).standard_normal((2, 3, 7, 5)))
    torch.testing.assert_close(net.loss(outputs), 2 * outputs["s"].sum())


def test_fold_keeps_a_loss_in_the_middle():
    text = (
        X
        + CONV.replace('top: "c"', 'top: "c" loss_weight: 2').replace("BIAS", "")
        + SCALE.replace('top: "c"', 'top: "s"')
    )
    net = netcompiler.compile(netcompiler.parse(text), outputs=["s"], device="cpu")
    assert types(net.graph) == ["Convolution", "Scale"]
    with pytest.raises(netcompiler.NetError, match="the loss c is not among the outputs"):
        net.loss(net(np.zeros((2, 3, 7, 5))))


def test_fold_tells_blobs_of_like_names_apart():
    """The second version of blob c prints as c', which is also the name of a blob here."""
    text = X + CONV.replace("BIAS", "") + SCALE + """layer { name: "p" type: "Power" bottom: "x" top: "c'" }"""
    graph = bound(text)
    after = passes.run(graph)
    assert types(after) == ["Convolution", "Power"]
    same(graph, after)


def test_fold_leaves_a_convolution_that_runs_twice():
    """Where torch.fx's own fusion goes wrong: one set of weights, two BatchNorms."""
    second = CONV.replace('name: "c"', 'name: "c2"').replace('top: "c"', 'top: "c2" param { name: "w" }')
    text = X + CONV.replace('top: "c"', 'top: "c" param { name: "w" }') + second + NORM
    graph = bound(text.replace("BIAS", ""))
    assert fold_batchnorm(graph) is graph


def test_identities_go():
    text = X + CONV.replace("BIAS", "") + 'layer { name: "d" type: "Dropout" bottom: "c" top: "c" }' + RELU
    text += 'layer { name: "p" type: "Split" bottom: "c" top: "a" top: "b" }'
    text += 'layer { name: "e" type: "Eltwise" bottom: "a" bottom: "b" top: "e" }'
    before = bound(text)
    after = drop_identities(before).check()
    assert types(after) == ["Convolution", "ReLU", "Eltwise"]
    same(before, after)


IDENTITIES_THAT_STAY = [
    ("in TRAIN", 'layer { name: "d" type: "Dropout" bottom: "x" top: "y" }' + RELU.replace('"c"', '"y"'), "TRAIN"),
    ("an output's name", 'layer { name: "d" type: "Dropout" bottom: "x" top: "y" }', "TEST"),
    ("a loss", 'layer { name: "d" type: "Dropout" bottom: "x" top: "x" loss_weight: 2 }', "TEST"),
    ("stopped gradient", 'layer { name: "d" type: "Dropout" bottom: "x" top: "x" propagate_down: false }', "TEST"),
]


@pytest.mark.parametrize(
    ("text", "phase"), [i[1:] for i in IDENTITIES_THAT_STAY], ids=[i[0] for i in IDENTITIES_THAT_STAY]
)
def test_identity_stays(text, phase):
    graph = bound(X + text, phase)
    assert drop_identities(graph) is graph


def test_an_output_in_place_keeps_its_name():
    graph = bound(X + CONV.replace("BIAS", "") + 'layer { name: "d" type: "Dropout" bottom: "c" top: "c" }')
    after = passes.run(graph)
    assert [v.blob for v in after.outputs] == ["c"]
    same(graph, after)


def test_optimised_nets_keep_caffes_weights_and_train_nets_stay():
    text = netcompiler.parse(X + CONV.replace("BIAS", "") + NORM + SCALE)
    net = netcompiler.compile(text, device="cpu")
    assert types(net.graph) == ["Convolution"] and set(net.caffe_params()) == {"c", "n", "s"}
    with pytest.raises(netcompiler.NetError, match="optimize=False"):
        net.caffe_grads()
    x = np.random.default_rng(5).standard_normal((2, 3, 7, 5)).astype(np.float32)
    params = {k: [0.5 + np.random.default_rng(9).random(a.shape) for a in v] for k, v in net.caffe_params().items()}
    net.load_caffe_params(params)
    net.caffe_params()["c"][0][:] = 0  # a copy, as that of a plain net
    assert net.caffe_params()["c"][0].all()
    plain = netcompiler.compile(text, params, device="cpu", optimize=False)
    torch.testing.assert_close(net(x)["c"], plain(x)["c"], rtol=1e-4, atol=1e-4)
    assert len(netcompiler.compile(text, phase="TRAIN", device="cpu").graph.nodes) == 4


def conv(name, bottom, kernel=1, stride=1, pad=0, more=""):
    sides = f"num_output: 3 kernel_size: {kernel} stride: {stride} pad: {pad}"
    param = f'convolution_param {{ {sides} weight_filler {{ type: "xavier" }} }}'
    return f'layer {{ name: "{name}" type: "Convolution" bottom: "{bottom}" top: "{name}" {more} {param} }}\n'


def total(name, *bottoms):
    return f'layer {{ name: "{name}" type: "Eltwise" top: "{name}" {" ".join(f"bottom: {b!r}" for b in bottoms)} }}\n'


BLOCK = conv("a", "x", 3, pad=1) + total("e", "a", "x") + RELU.replace('"c"', '"e"')
TWO = conv("p", "e", stride=2) + conv("q", "e", stride=2)
PULLED = [
    ("a block", BLOCK + TWO, {"a": 2, "x/2": 2, "p": 1, "q": 1}),
    ("a stride of its own", conv("e", "x", 3, stride=2) + TWO, {"e": 4, "p": 1, "q": 1}),
    (
        "an uneven stride",
        conv("e", "x", 3).replace("stride: 1", "stride_h: 1 stride_w: 2") + TWO,
        {"e": 4, "p": 1, "q": 1},
    ),
    ("1 x 1 between", conv("b", "x", 3) + conv("e", "b") + TWO, {"b": 2, "e": 1, "p": 1, "q": 1}),
    (
        "1 x 1 with a stride between",
        conv("b", "x", 3) + conv("e", "b", stride=2) + TWO,
        {"b": 4, "e": 1, "p": 1, "q": 1},
    ),
    ("layers between", conv("c", "x", 3) + NORM + SCALE + POWER + RELU + conv("p", "c", stride=2), {"c": 2, "p": 1}),
    (
        "a block behind a block",
        BLOCK + conv("b", "e", 3, pad=1) + total("f", "e", "b") + conv("p", "f", stride=2),
        {"a": 1, "b": 2, "e'/2": 2, "p": 1},
    ),
    (
        "a shortcut read twice",
        BLOCK + TWO + total("g", "e/2", "p").replace("e/2", "q"),
        {"a": 2, "x/2": 2, "p": 1, "q": 1},
    ),
    ("a name that is taken", BLOCK + TWO + conv("x/2", "x"), {"a": 2, "x/2": 1, "x/2'": 2, "p": 1, "q": 1}),
]


@pytest.mark.parametrize(("text", "strides"), [p[1:] for p in PULLED], ids=[p[0] for p in PULLED])
def test_pull_strides(text, strides):
    before = bound(X + text)
    after = pull_strides(before).check()
    assert {n.name: n.layer.stride[-1] for n in after.nodes if hasattr(n.layer, "stride")} == strides
    same(before, after)
    same(before, passes.run(before))
    assert pull_strides(after) is after


LEFT = [
    ("another stride", BLOCK + TWO.replace("stride: 2", "stride: 3", 1)),
    ("another kernel", BLOCK + TWO.replace("kernel_size: 1", "kernel_size: 2", 1)),
    ("padding", BLOCK + TWO.replace("pad: 0", "pad: 1", 1)),
    ("another reader", BLOCK + TWO + 'layer { name: "s" type: "Softmax" bottom: "e" top: "s" }'),
    ("two bottoms", BLOCK + TWO.replace('bottom: "e" top: "p"', 'bottom: "e" bottom: "x" top: "p" top: "p2"')),
    ("a loss", conv("e", "x", 3, more="loss_weight: 1") + TWO),
    ("no convolution before", RELU.replace('"c"', '"x"') + TWO.replace('"e"', '"x"')),
    (
        "a pooling before",
        'layer { type: "Pooling" bottom: "x" top: "e" pooling_param { kernel_size: 2 stride: 2 } }' + TWO,
    ),
    ("a softmax before", BLOCK + 'layer { type: "Softmax" bottom: "e" top: "s" }' + TWO.replace('"e"', '"s"')),
    (
        "statistics of the batch",
        conv("c", "x", 3)
        + NORM.replace("top", "batch_norm_param { use_global_stats: false } top")
        + TWO.replace('"e"', '"c"'),
    ),
    (
        "a scale for each pixel",
        conv("c", "x", 3) + SCALE.replace("bias_term", "num_axes: 3 bias_term") + TWO.replace('"e"', '"c"'),
    ),
    ("no stride", BLOCK + TWO.replace("stride: 2", "stride: 1")),
]


@pytest.mark.parametrize("text", [k[1] for k in LEFT], ids=[k[0] for k in LEFT])
def test_strides_that_stay(text):
    graph = bound(X + text)
    assert pull_strides(graph) is graph


def test_an_output_keeps_its_pixels():
    graph = bound(X + BLOCK + TWO)
    graph = replace(graph, outputs=(*graph.outputs, graph.nodes[3].tops[0]))
    assert pull_strides(graph) is graph
