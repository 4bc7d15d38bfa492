import numpy as np
import pytest

import netcompiler
from netcompiler import NetError

from .test_data import net, settings


def shapes(fields="batch_size: 5", transform="", more="", tops=2, **inputs):
    layer = f'type: "AnnotatedData" data_param {{ {fields} }} transform_param {{ {transform} }} {more}'
    return [v.shape for v in netcompiler.build(net(layer, tops), inputs=inputs).inputs()]


RESIZED = "resize_param { height: 30 width: 40 }"
YOLO = "annotated_data_param { yolo_data_type: 1 }"


@pytest.mark.parametrize(
    ("transform", "image"),
    [
        (RESIZED, (3, 30, 40)),
        ("crop_size: 7", (3, 7, 7)),
        (f"crop_h: 7 crop_w: 9 {RESIZED}", (3, 7, 9)),
        (f"force_gray: true {RESIZED}", (1, 30, 40)),
        (f"mean_value: 127.5 {RESIZED}", (3, 30, 40)),
    ],
)
def test_shapes(transform, image):
    assert shapes(transform=transform) == [(5, *image), (1, 1, 1, 8)]
    assert shapes(transform=transform, tops=1) == [(5, *image)]


def test_yolos_labels():
    assert shapes(transform=RESIZED, more=YOLO) == [(5, 3, 30, 40), (5, 1, 300, 5)]
    assert shapes(more=YOLO, data=(2, 3, 8, 9)) == [(2, 3, 8, 9), (2, 1, 300, 5)]


def test_a_given_shape_wins():
    assert shapes(transform=RESIZED, data=(2, 3, 8, 9), label=(1, 1, 4, 8)) == [(2, 3, 8, 9), (1, 1, 4, 8)]


@pytest.mark.parametrize("transform", ["", "resize_param { resize_mode: FIT_SMALL_SIZE height: 30 width: 40 }"])
def test_a_size_that_is_not_told(transform):
    with pytest.raises(NetError, match="does not tell the shape of top 0"):
        shapes(transform=transform)


def test_all_settings_are_taken():
    fields = settings("AnnotatedDataParameter")
    assert shapes(transform=RESIZED, more=f"annotated_data_param {{ {fields} }}")[0] == (5, 3, 30, 40)
    assert shapes(settings("DataParameter"), settings("TransformationParameter"))[0][1:] == (3, 1, 1)


def test_batches_of_any_number_of_boxes():
    text = """layer { name: "d" type: "AnnotatedData" top: "data" top: "label"
      data_param { batch_size: 2 } transform_param { resize_param { height: 4 width: 4 } } }
    layer { name: "p" type: "Power" bottom: "label" top: "p" }"""
    run = netcompiler.compile(netcompiler.parse(text), outputs=["p"], device="cpu")
    for count in (1, 7):
        assert run(label=np.zeros((1, 1, count, 8), np.float32))["p"].shape == (1, 1, count, 8)


def others(kind, fields, tops, **inputs):
    graph = netcompiler.build(net(f'type: "{kind}" {fields}', tops), inputs=inputs)
    return [v.shape for v in graph.nodes[0].tops]


@pytest.mark.parametrize(
    ("segmented", "map_shape"),
    [("", (4, 5)), ("seg_scales: 4", (8, 10)), ("seg_resize_width: 9 seg_resize_height: 6", (6, 9))],
)
def test_lane_data(segmented, map_shape):
    fields = "data_param { batch_size: 2 } transform_param { resize_param { height: 32 width: 40 } } "
    fields += f"annotated_data_param {{ {segmented} }}"
    assert others("LaneData", fields, 3) == [(2, 3, 32, 40), (2, 5, 64, 3), (2, 1, *map_shape)]
    assert others("LaneData", fields, 1) == [(2, 3, 32, 40)]


def test_lanes_follow_the_pictures():
    assert others("LaneData", "data_param { batch_size: 2 }", 2, data=(1, 3, 8, 8)) == [(1, 3, 8, 8), (1, 5, 64, 3)]


def test_box_data():
    fields = "data_param { batch_size: 2 side: 13 } transform_param { crop_size: 26 }"
    assert others("BoxData", fields, 2) == [(2, 3, 26, 26), (2, 7 * 169)]
    assert others("BoxData", "data_param { batch_size: 2 }", 2, data=(1, 3, 8, 8)) == [(1, 3, 8, 8), (1, 343)]
    with pytest.raises(NetError, match="the wrong number of tops"):
        others("BoxData", fields.replace("side: 13", "side: 13 side: 7"), 2)
