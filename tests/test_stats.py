"""Figures against sums done by hand; receptive fields are tested in test_fields.py."""

import os
from pathlib import Path

import pytest

import netcompiler
from netcompiler import stats

CORPUS = os.environ.get("NETCOMPILER_CORPUS", "")

NET = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 dim: 7 dim: 5 } } }
layer { name: "a" type: "Convolution" bottom: "x" top: "a" convolution_param { num_output: 11 kernel_size: 3 } }
layer { name: "r" type: "ReLU" bottom: "a" top: "a" }
layer { name: "b" type: "Convolution" bottom: "x" top: "b" param { name: "w" }
        convolution_param { num_output: 13 kernel_size: 1 bias_term: false } }
layer { name: "c" type: "Convolution" bottom: "x" top: "c" param { name: "w" }
        convolution_param { num_output: 13 kernel_size: 1 bias_term: false } }
"""


def figures(text=NET):
    graph = netcompiler.build(netcompiler.parse(text))
    return graph, {n.name: f for n, f in zip(graph.nodes, stats.figures(graph), strict=True)}


def test_each_layer():
    _, by_name = figures()
    weight = 11 * 3 * 9 + 11
    x, top = 2 * 3 * 35, 2 * 11 * 5 * 3
    field = stats.Field("x", (3, 3), (1, 1), (1, 1))
    assert by_name["a"] == stats.Figures(weight, top * 27, 4 * weight, 4 * top, 4 * weight, 4 * (x + top), (field,))
    assert by_name["r"] == stats.Figures(0, 0, 0, 0, 0, 4 * 2 * top, (field,))  # in place
    assert by_name["b"].params == 39
    assert by_name["c"].params == by_name["c"].weight_bytes == 0  # the same array
    assert by_name["c"].moved_weight_bytes == 4 * 39
    assert by_name["c"].macs == by_name["b"].macs == 2 * 13 * 35 * 3


def layer(kind, settings, bottom="x"):
    return f'layer {{ name: "y" type: "{kind}" bottom: "{bottom}" top: "y" {settings} }}'


# Over x, 2 x 4 x 7 x 5: the layer, its parameters, its multiply-accumulates, and whether these count in totals.
BY_HAND = {
    "conv": (
        layer("Convolution", "convolution_param { num_output: 6 kernel_size: 3 }"),
        6 * 4 * 9 + 6,
        2 * (5 * 3) * 6 * 4 * 9,
    ),
    "strided, padded": (
        layer("Convolution", "convolution_param { num_output: 6 kernel_size: 3 stride: 2 pad: 1 bias_term: false }"),
        6 * 4 * 9,
        2 * (4 * 3) * 6 * 4 * 9,
    ),
    "grouped": (
        layer("Convolution", "convolution_param { num_output: 6 kernel_size: 3 group: 2 }"),
        6 * 2 * 9 + 6,
        2 * (5 * 3) * 6 * 2 * 9,
    ),
    "depthwise": (
        layer("Convolution", "convolution_param { num_output: 4 kernel_size: 3 group: 4 }"),
        4 * 9 + 4,
        2 * (5 * 3) * 4 * 9,
    ),
    "dilated": (
        layer("Convolution", "convolution_param { num_output: 6 kernel_size: 3 dilation: 2 pad: 1 }"),
        6 * 4 * 9 + 6,
        2 * (5 * 3) * 6 * 4 * 9,
    ),
    "transposed": (
        layer("Deconvolution", "convolution_param { num_output: 6 kernel_size: 4 stride: 2 pad: 1 }"),
        4 * 6 * 16 + 6,
        2 * (7 * 5) * 4 * 6 * 16,  # each pixel of the bottom, not of the top
    ),
    "transposed, grouped": (
        layer(
            "Deconvolution", "convolution_param { num_output: 6 kernel_size: 4 stride: 2 group: 2 bias_term: false }"
        ),
        4 * 3 * 16,
        2 * (7 * 5) * 4 * 3 * 16,
    ),
    "fully connected": (layer("InnerProduct", "inner_product_param { num_output: 9 }"), 9 * 140 + 9, 2 * 9 * 140),
    "lstm": (
        'layer { name: "c" type: "Input" top: "c" input_param { shape { dim: 2 dim: 4 } } }'
        'layer { name: "y" type: "LSTM" bottom: "x" bottom: "c" top: "y" recurrent_param { num_output: 3 } }',
        4 * 3 * 35 + 4 * 3 + 4 * 3 * 3,
        2 * 4 * (4 * 3 * 35 + 4 * 3 * 3),
    ),
    "scale": (layer("Scale", "scale_param { bias_term: true }"), 4 + 4, 2 * 4 * 35),
    "prelu": (layer("PReLU", ""), 4, 2 * 4 * 35),
    "batch norm": (layer("BatchNorm", ""), 0, 2 * 4 * 35),
    "pooling": (layer("Pooling", "pooling_param { kernel_size: 2 }"), 0, 0),
}
COUNTED = ("Convolution", "Deconvolution", "InnerProduct", "LSTM")


@pytest.mark.parametrize("name", BY_HAND)
def test_by_hand(name):
    text, params, macs = BY_HAND[name]
    head = 'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 4 dim: 7 dim: 5 } } }'
    graph, by_name = figures(head + text)
    node = graph.nodes[-1]
    assert node.layer.macs(node.bottom_shapes, node.top_shapes) == macs
    assert by_name["y"].params == params
    assert by_name["y"].macs == (macs if node.layer.kind in COUNTED else 0)
    assert stats.totals(graph).macs == by_name["y"].macs


def test_intensity():
    """Two operations per multiply-accumulate, over the bytes of weights, bottoms and tops."""
    graph, by_name = figures()
    x, a, b = 4 * 2 * 3 * 35, 4 * 2 * 11 * 15, 4 * 2 * 13 * 35
    assert by_name["a"].intensity == 2 * by_name["a"].macs / (4 * 308 + x + a)
    assert by_name["r"].intensity == 0
    moved = x + (4 * 308 + x + a) + 2 * a + 2 * (4 * 39 + x + b)
    assert stats.totals(graph).intensity == 2 * stats.totals(graph).macs / moved


def test_per_image():
    """As if it were built for a batch of one."""
    many, by_name = figures()
    one, single = figures(NET.replace("dim: 2", "dim: 1"))
    rows = list(by_name.values())
    totals = stats.totals(many)
    assert totals.images == 2
    for name, row in single.items():
        share = stats.per_image(by_name[name], totals.images)
        assert (share.macs, share.activation_bytes, share.intensity) == (row.macs, row.activation_bytes, row.intensity)
    want = stats.totals(one)
    share = stats.totals_per_image(totals, rows)
    assert (share.macs, share.activation_bytes) == (want.macs, want.activation_bytes)
    assert (share.intensity, share.peak_activation_bytes) == (want.intensity, want.peak_activation_bytes)


IMAGES = [  # the inputs' shapes, and how many images that is
    ("label: 4; data: 8 3 5 5", 8),
    ("info: 1 3; data: 2 3 5 5; rois: 300 5", 2),
    ("data: 10 7; label: 10", 10),
    ("scalar:", 1),
]


@pytest.mark.parametrize(("inputs", "count"), IMAGES)
def test_images(inputs, count):
    text = ""
    for part in inputs.split("; "):
        name, _, sizes = part.partition(":")
        dims = "".join(f"dim: {d} " for d in sizes.split())
        text += f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ {dims}}} }} }}\n'
    assert stats.totals(netcompiler.build(netcompiler.parse(text))).images == count


def test_totals():
    graph, by_name = figures()
    found = stats.totals(graph)
    x, a, b = 2 * 3 * 35, 2 * 11 * 15, 2 * 13 * 35
    assert found.layers == 5
    assert found.params == 11 * 28 + 39
    assert found.macs == sum(f.macs for f in by_name.values())
    assert found.activation_bytes == 4 * (x + a + 2 * b)
    assert found.peak_activation_bytes == 4 * (x + a + 2 * b)  # x is read to the end, the others are outputs


def test_peak_frees_what_is_read():
    names = "xabc"
    text = 'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 7 } } }'
    text += "".join(
        f'layer {{ name: "{t}" type: "ReLU" bottom: "{b}" top: "{t}" }}' for b, t in zip(names, names[1:], strict=False)
    )
    assert stats.totals(netcompiler.build(netcompiler.parse(text))).peak_activation_bytes == 4 * 2 * 7


def test_statistics_are_held_but_not_learned():
    text = NET + 'layer { name: "n" type: "BatchNorm" bottom: "b" top: "b" }'
    _, by_name = figures(text)
    assert by_name["n"].params == 0
    assert by_name["n"].weight_bytes == 4 * (13 + 13 + 1)


def test_views_take_no_memory():
    """Split, Flatten and Reshape look at their bottom: it stays until the last of them was read."""
    text = """
    layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 5 dim: 7 } } }
    layer { name: "f" type: "Flatten" bottom: "x" top: "f" }
    layer { name: "s" type: "Split" bottom: "f" top: "s" top: "t" }
    layer { name: "a" type: "TanH" bottom: "s" top: "a" }
    layer { name: "b" type: "TanH" bottom: "a" top: "b" }
    layer { name: "e" type: "Eltwise" bottom: "b" bottom: "t" top: "e" }
    """
    graph, by_name = figures(text)
    assert by_name["f"].activation_bytes == by_name["s"].activation_bytes == 0
    assert stats.totals(graph).activation_bytes == 4 * 35 * 4  # x, a, b, e
    assert stats.totals(graph).peak_activation_bytes == 4 * 35 * 3  # x, a, b; or x, b, e


def test_what_is_not_known_is_not_zero():
    text = (
        NET
        + """
    layer { name: "odd" type: "Strange" bottom: "b" top: "odd" }
    layer { name: "after" type: "ReLU" bottom: "odd" top: "odd" }
    layer { name: "end" type: "Stranger" bottom: "a" }
    """
    )
    graph = netcompiler.build(netcompiler.parse(text), partial=True)
    rows = stats.figures(graph)
    assert [r.known for r in rows] == [True] * 5 + [False] * 3
    assert rows[5] == stats.Figures(fields=(None,))
    assert rows[5].macs is rows[5].params is rows[5].intensity is None
    assert stats.per_image(rows[5], 2) == stats.PerImage(None, None, None)
    whole, found = stats.totals(figures()[0]), stats.totals(graph)
    assert (found.layers, found.unknown) == (8, 3)
    assert (found.params, found.macs, found.activation_bytes) == (whole.params, whole.macs, whole.activation_bytes)
    assert found.peak_activation_bytes <= whole.peak_activation_bytes


# depth -> multiply-accumulates of Convolution, of InnerProduct, of Scale; parameters; these with means and variances
AUTHORS = {
    50: (3_855_925_248, 2_048_000, 3.8686e9, 25_557_096, 25_610_216),
    101: (7_568_146_432, 2_048_000, 7.5859e9, 44_549_160, 44_654_504),
    152: (11_280_367_616, 2_048_000, 11.3044e9, 60_192_808, 60_344_232),
}


@pytest.mark.parametrize("depth", AUTHORS)
@pytest.mark.skipif(not CORPUS, reason="NETCOMPILER_CORPUS names no folder with the published prototxts")
def test_the_authors_resnets(depth):
    path = next(Path(CORPUS).rglob(f"nets/**/*deep-residual-networks*ResNet-{depth}-deploy.prototxt"))
    graph = netcompiler.build(netcompiler.load(path))
    conv, dense, scaled, params, held = AUTHORS[depth]
    macs = dict.fromkeys(("Convolution", "InnerProduct", "Scale"), 0)
    for node in graph:
        if node.layer.kind in macs:
            macs[node.layer.kind] += node.layer.macs(node.bottom_shapes, node.top_shapes)
    assert (macs["Convolution"], macs["InnerProduct"]) == (conv, dense)
    assert sum(macs.values()) == pytest.approx(scaled, rel=2e-5)
    totals = stats.totals(graph)
    assert (totals.macs, totals.params) == (conv + dense, params)
    norms = sum(node.layer.kind == "BatchNorm" for node in graph)
    assert totals.weight_bytes == 4 * (held + norms)  # and one scale factor each


KNOWN = [  # file, parameters, multiply-accumulates of one image: as the literature has them
    ("alexnet/BVLC--caffe__models__bvlc_alexnet__deploy", 60_965_224, 724_406_816),
    ("caffenet/BVLC--caffe__models__bvlc_reference_caffenet__deploy", 60_965_224, 724_406_816),
    ("googlenet/BVLC--caffe__models__bvlc_googlenet__deploy", 6_998_552, 1_582_671_872),
    ("vgg/ethereon--netscope__presets__vgg-16", 138_357_544, 15_470_264_320),
    ("squeezenet/forresti--SqueezeNet__SqueezeNet_v1.0__deploy", 1_248_424, 861_339_936),
    ("squeezenet/forresti--SqueezeNet__SqueezeNet_v1.1__deploy", 1_235_496, 387_747_520),
]


@pytest.mark.parametrize(("file", "params", "macs"), KNOWN)
@pytest.mark.skipif(not CORPUS, reason="NETCOMPILER_CORPUS names no folder with the published prototxts")
def test_known_nets(file, params, macs):
    totals = stats.totals(netcompiler.build(netcompiler.load(Path(CORPUS) / "nets" / f"{file}.prototxt")))
    share = totals.macs / totals.images
    assert (totals.params, share) == (params, macs)
