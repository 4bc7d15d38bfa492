import pytest

import netcompiler
from netcompiler import NetError

from .test_data import settings


def shapes(kind, tops, param, fields, **inputs):
    names = " ".join(f'top: "t{i}"' for i in range(tops))
    text = f'layer {{ name: "d" type: "{kind}" {names} {param} {{ {fields} }} }}'
    return [v.shape for v in netcompiler.build(netcompiler.parse(text), inputs=inputs).nodes[0].tops]


GT = "batch_size: 2 resize_height: 60 resize_width: 80"
HEADS = "field_h: 4 field_h: 5 field_w: 4 field_w: 5"


def test_image_gt_data():
    fields = f"{GT} downsample_rate: 8 downsample_rate: 16 {HEADS}"
    maps = [(2, 6, 8, 10), (2, 6, 4, 5)]
    assert shapes("ImageGtData", 3, "image_gt_data_param", fields) == [(2, 3, 60, 80), *maps]
    more = f"{fields} output_gt_boxes: true crop_height: 48 crop_width: 48"
    found = shapes("ImageGtData", 4, "image_gt_data_param", more)
    assert found == [(2, 3, 48, 48), (2, 6, 6, 6), (2, 6, 3, 3), (1, 7, 1, 1)]
    more = f"{fields} output_gt_boxes: true append_3d_info: true output_projection_matrix: true"
    found = shapes("ImageGtData", 6, "image_gt_data_param", more)
    assert found == [(2, 3, 60, 80), *maps, (1, 14, 1, 1), (2, 6, 1, 1), (2, 16, 1, 1)]


def test_detection_data():
    fields = f"batch_size: 2 stride: 8 stride: 16 {HEADS} output_gt_boxes: true"
    for size in (
        "resize_height: 60 resize_width: 80",
        "short_size: 80 long_size: 60",
        "crop_height: 60 crop_width: 80",
    ):
        found = shapes("DetectionData", 4, "detection_data_param", f"{fields} {size}")
        assert found == [(2, 3, 60, 80), (2, 6, 8, 10), (2, 6, 4, 5), (1, 8, 1, 1)]
    assert shapes("DetectionData", 1, "detection_data_param", GT) == [(2, 3, 60, 80)]


def test_eval_data():
    assert shapes("EvalData", 3, "eval_data_param", GT) == [(2, 3, 60, 80), (1, 8, 1, 1), (2, 2, 1, 1)]
    assert shapes("EvalData", 2, "eval_data_param", "batch_size: 1 short_size: 4 long_size: 6")[0] == (1, 3, 6, 4)


def test_a_given_shape_is_followed_by_the_maps():
    fields = "batch_size: 2 stride: 8 field_h: 4 field_w: 4"
    with pytest.raises(NetError, match="does not tell the shape of top 0"):
        shapes("DetectionData", 2, "detection_data_param", fields)
    found = shapes("DetectionData", 2, "detection_data_param", fields, t0=(1, 3, 16, 24))
    assert found == [(1, 3, 16, 24), (1, 6, 2, 3)]


def test_all_settings_are_taken():
    fields = settings("EvalDataParameter")
    assert shapes("EvalData", 2, "eval_data_param", fields)[1] == (1, 8, 1, 1)


@pytest.mark.parametrize(
    ("fields", "tops", "error"),
    [
        ("batch_size: 1", 1, "downsample_rate is missing"),
        (f"{GT} downsample_rate: 8 field_h: 4", 2, "field_w has the wrong number of values"),
        (f"{GT} downsample_rate: 0 field_h: 4 field_w: 4", 2, "downsample_rate must be positive"),
        (f"{GT} downsample_rate: 8 field_h: 4 field_w: 4", 3, "the wrong number of tops"),
    ],
)
def test_bad(fields, tops, error):
    with pytest.raises(NetError, match=error):
        shapes("ImageGtData", tops, "image_gt_data_param", fields)
