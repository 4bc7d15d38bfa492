"""Graph -> Picture: what is stacked, what it says, and that it is plain data."""

import json

import pytest

from netcompiler.drawing.model import picture
from netcompiler.layers import registry
from netcompiler.layers.base import CATEGORIES
from tests.drawing.nets import add, conv, graph, layer, relu, too_large


def boxes(text):
    return [[row.name for row in box.rows] for box in picture(graph(text)).boxes]


STACKS = [
    ("a chain in place", conv("c", "data") + layer("n", "BatchNorm", "c", "c") + relu("r", "c"), [["c", "n", "r"]]),
    ("not on data", relu("r", "data"), [["r"]]),
    ("not in place", conv("c", "data") + layer("r", "ReLU", "c"), [["c"], ["r"]]),
    ("read before", conv("c", "data") + conv("d", "c") + relu("r", "c") + conv("e", "c"), [["c"], ["d"], ["r"], ["e"]]),
    ("read after", conv("c", "data") + relu("r", "c") + conv("d", "c") + conv("e", "c"), [["c", "r"], ["d"], ["e"]]),
    (
        "of two tops",
        layer("s", "Slice", "data", "a b", "slice_param { slice_point: 3 }") + relu("r", "a"),
        [["s"], ["r"]],
    ),
    (
        "of two bottoms",
        conv("c", "data", 1) + conv("d", "data", 1) + layer("m", "Scale", "c d", "c", "scale_param { axis: 0 }"),
        [["c"], ["d"], ["m"]],
    ),
    ("an unknown one", conv("c", "data") + layer("x", "Strange", "c", "c") + relu("r", "c"), [["c", "x", "r"]]),
]


@pytest.mark.parametrize(("text", "expected"), [row[1:] for row in STACKS], ids=[row[0] for row in STACKS])
def test_in_place_layers_are_stacked(text, expected):
    assert boxes(text) == [["data"], *expected]


def test_edges_name_the_tops():
    found = picture(graph(layer("s", "Slice", "data", "a b") + add("e", "b", "a") + relu("r", "e")))
    assert [(e.source, e.top, e.target, e.bottom) for e in found.edges] == [(0, 0, 1, 0), (1, 1, 2, 0), (1, 0, 2, 1)]
    assert [(t.blob, t.shape, t.output) for t in found.boxes[1].tops] == [
        ("a", (2, 4, 32, 32), False),
        ("b", (2, 4, 32, 32), False),
    ]
    assert [t.output for t in found.boxes[2].tops] == [True]


def test_what_a_row_tells():
    text = layer(
        "c", "Convolution", "data", more="convolution_param { num_output: 6 kernel_size: 5 stride: 2 group: 2 }"
    )
    row = picture(graph(text)).boxes[1].rows[0]
    assert (row.kind, row.category, row.text) == ("Convolution", "convolution", "5×5, s2, g2, 6")
    assert row.settings["group"] == "2" and row.blobs == {"weight": (6, 4, 5, 5), "bias": (6,)}
    assert row.figures["params"] == 606 and row.figures["macs"] == 2 * 6 * 14 * 14 * 4 * 25
    assert (row.first, row.last, row.fault) == (2, 2, "")


def test_lines_of_a_layer():
    text = """layer {
        name: "c"
        type: "Convolution" bottom: "data" top: "c"
        convolution_param {
            num_output: 1 kernel_size: 1 }

    } # end
    """
    row = picture(graph(text)).boxes[1].rows[0]
    assert (row.first, row.last) == (2, 8)


def test_losses_and_labels():
    text = layer("label", "Input", "", more="input_param { shape { dim: 2 } }")
    text += layer("fc", "InnerProduct", "data", more="inner_product_param { num_output: 5 }")
    text += layer("loss", "SoftmaxWithLoss", "fc label")
    found = picture(graph(text))
    assert [box.loss for box in found.boxes] == [False, False, False, True]
    assert [(e.target, e.label) for e in found.edges] == [(2, False), (3, False), (3, True)]
    assert found.boxes[3].tops[0].shape == ()


def test_labels_of_losses_that_are_not_understood():
    text = layer("x", "Strange", "data", "x y") + layer("loss", "SoftmaxWithLoss", "x y")
    assert [(e.source, e.label) for e in picture(graph(text)).edges] == [(0, False), (1, False), (1, True)]
    assert not any(e.label for e in picture(graph(layer("loss", "SoftmaxWithLoss", "data"))).edges)


def test_what_is_not_understood():
    text = conv("c", "data") + layer("x", "Strange", "c") + conv("d", "x") + too_large("e", "data") + conv("f", "c")
    found = picture(graph(text))
    opaque = {box.name: box.opaque for box in found.boxes}
    assert opaque == {"data": False, "c": False, "x": True, "d": False, "e": True, "f": False}
    shapes = {box.name: box.tops[0].shape for box in found.boxes}
    assert shapes["x"] is shapes["d"] is shapes["e"] is None and shapes["f"] == (2, 8, 32, 32)
    assert found.boxes[2].rows[0].fault == 'unknown layer type "Strange"'
    assert "larger than the padded image" in found.boxes[4].rows[0].fault
    assert found.boxes[3].rows[0].text == "3×3, p1, 8" and found.boxes[3].category == "convolution"
    assert len(found.faults) == 2


def test_a_fault_without_a_layer_marks_that_of_its_line(tmp_path):
    from netcompiler.looking import look

    path = tmp_path / "net.prototxt"
    path.write_text(
        'layer { name: "a" type: "Input" top: "a" input_param { shape { dim: 1 } } }\n'
        + relu("r", "a")[:-3]
        + " odd: 3 }\n"
    )
    found = picture(look(path)[1])
    assert [box.opaque for box in found.boxes] == [False, True]
    assert found.boxes[1].rows[0].fault == 'LayerParameter has no field "odd"'


def test_plain_data():
    found = picture(graph(conv("c", "data") + relu("r", "c") + layer("x", "Strange", "c")))
    data = json.loads(json.dumps(found.as_json()))
    assert data["boxes"][1]["rows"][1]["name"] == "r"
    assert data["boxes"][2]["tops"] == [{"blob": "x", "shape": None, "output": True}]
    assert data["edges"][0] == {"source": 0, "top": 0, "target": 1, "bottom": 0, "label": False}
    assert data["totals"]["unknown"] == 1


def test_every_layer_has_a_category():
    assert {cls.category for cls in registry.values()} == set(CATEGORIES)
    without = {kind for kind, cls in registry.items() if cls.category == "other"}
    sinks = {"Debug", "HDF5Output", "Silence", "MatWrite", "FLOATWriter", "FLOWriter", "IMGWriter", "PFMWriter"}
    decoders = {"CTCGreedyDecoder", "DetectionOutput", "YoloDetectionOutput", "Yolov3DetectionOutput"}
    decoders |= {"Affinity", "ConnectedComponent", "Decode", "DenseCRF", "Knn", "MultiStageMeanfield", "ParseOutput"}
    others = {k for k in without if not registry[k].__module__.startswith("netcompiler.")}
    assert without <= sinks | decoders | others | {"Dropout", "SeLuDropout", "Python"}


BRIEFS = [
    ("Convolution", "convolution_param { num_output: 9 kernel_h: 3 kernel_w: 1 pad: 2 dilation: 3 }", "3×1, p2, d3, 9"),
    ("Pooling", "pooling_param { pool: AVE kernel_size: 3 stride: 2 round_mode: FLOOR }", "AVE, 3×3, s2, floor"),
    ("Pooling", "pooling_param { global_pooling: true }", "MAX, global"),
    ("LRN", "lrn_param { local_size: 3 norm_region: WITHIN_CHANNEL }", "3, within"),
    ("Dropout", "dropout_param { dropout_ratio: 0.7 }", "0.7"),
    ("InnerProduct", "inner_product_param { num_output: 9 bias_term: false }", "9"),
    ("ReLU", "relu_param { negative_slope: 0.1 }", "negative_slope 0.1"),
    ("Flatten", "", ""),
    ("Strange", "convolution_param { kernel_size: 3 num_output: 4 stride: 2 }", "3×3, s2, 4"),
    ("Strange", "pooling_param { pool: AVE kernel_h: 3 kernel_w: 2 }", "AVE, 3×2"),
    ("Strange", "lrn_param { alpha: 0.0001 norm_region: WITHIN_CHANNEL }", "alpha 0.0001, norm_region WITHIN_CHANNEL"),
]


@pytest.mark.parametrize(("kind", "settings", "text"), BRIEFS)
def test_the_settings_that_matter(kind, settings, text):
    assert picture(graph(layer("x", kind, "data", more=settings))).boxes[1].rows[0].text == text
