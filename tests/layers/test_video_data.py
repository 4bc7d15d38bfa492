import pytest

import netcompiler
from netcompiler.errors import NetError

CASES = {
    "c3d": ("image_data_param { batch_size: 2 crop_size: 5 new_length: 4 use_image: false }", (2, 3, 4, 5, 5)),
    "video-caffe": (
        "video_data_param { batch_size: 2 new_length: 4 new_height: 6 new_width: 7 is_color: false }",
        (2, 1, 4, 6, 7),
    ),
    "tsn": (
        "video_data_param { batch_size: 2 new_length: 2 num_segments: 3 modality: RGB } transform_param { crop_size: 5 }",
        (2, 18, 5, 5),
    ),
    "flow": (
        "video_data_param { batch_size: 2 new_length: 5 num_segments: 3 modality: FLOW } transform_param { crop_size: 5 }",
        (2, 30, 5, 5),
    ),
    "gray": ("video_data_param { batch_size: 2 grayscale: true } transform_param { crop_size: 5 }", (2, 1, 5, 5)),
    "ssd": (
        'data_param { batch_size: 3 } video_data_param { video_type: VIDEO video_file: "x" } '
        "transform_param { resize_param { height: 7 width: 8 } }",
        (3, 3, 7, 8),
    ),
}


def build(fields, tops=2, **options):
    names = " ".join(f'top: "t{i}"' for i in range(tops))
    msg = netcompiler.parse(f'layer {{ name: "d" type: "VideoData" {names} {fields} }}')
    return [v.shape for v in netcompiler.build(msg, **options).nodes[0].tops]


@pytest.mark.parametrize("case", CASES)
def test_shapes(case):
    fields, shape = CASES[case]
    assert build(fields) == [shape, shape[:1]]
    assert build(fields, 1) == [shape]


def test_the_dialect_tells_where_no_field_does():
    fields = "video_data_param { batch_size: 2 new_length: 4 } transform_param { crop_size: 5 }"
    assert build(fields, 1) == [(2, 3, 4, 5, 5)]
    assert build(fields, 1, dialect="pspnet") == [(2, 12, 5, 5)]


def test_a_shape_that_is_not_known():
    with pytest.raises(NetError, match="does not tell the shape of top 0"):
        build("video_data_param { batch_size: 2 }")
