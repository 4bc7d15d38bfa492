import pytest

import netcompiler
from netcompiler.errors import NetError


def shapes(kind, fields, tops, **options):
    names = " ".join(f'top: "t{i}"' for i in range(tops))
    graph = netcompiler.build(netcompiler.parse(f'layer {{ name: "d" type: "{kind}" {names} {fields} }}'), **options)
    return [v.shape for v in graph.nodes[0].tops]


@pytest.mark.parametrize("kind", ["ImageSegData", "WindowSegData"])
def test_image_seg_data(kind):
    fields = 'image_data_param { batch_size: 2 new_height: 7 new_width: 9 label_type: PIXEL source: "x" }'
    assert shapes(kind, fields, 3) == [(2, 3, 7, 9), (2, 1, 7, 9), (2, 1, 1, 2)]
    fields = "image_data_param { batch_size: 2 is_color: false } transform_param { crop_size: 5 mirror: true }"
    assert shapes(kind, fields, 2) == [(2, 1, 5, 5), (2, 1, 5, 5)]


def test_dense_image_data():
    fields = "dense_image_data_param { batch_size: 4 new_height: 6 new_width: 8 label_divide_factor: 2 }"
    assert shapes("DenseImageData", fields, 2) == [(4, 3, 6, 8), (4, 1, 6, 8)]
    fields = "dense_image_data_param { batch_size: 4 crop_height: 3 crop_width: 5 new_height: 6 new_width: 8 is_color: false }"
    assert shapes("DenseImageData", fields, 2) == [(4, 1, 3, 5), (4, 1, 3, 5)]


def test_a_given_shape_is_followed_by_the_labels():
    fields = "dense_image_data_param { batch_size: 4 }"
    with pytest.raises(NetError, match="does not tell the shape of top 0"):
        shapes("DenseImageData", fields, 2)
    assert shapes("DenseImageData", fields, 2, inputs={"t0": (2, 3, 4, 5)}) == [(2, 3, 4, 5), (2, 1, 4, 5)]


def test_one_side_alone():
    with pytest.raises(NetError, match="new_height and new_width go together"):
        shapes("DenseImageData", "dense_image_data_param { batch_size: 4 new_height: 6 }", 2)


def test_image_labelmap_data():
    fields = 'image_data_param { batch_size: 1 source: "x" shuffle: true new_height: 6 new_width: 7 }'
    assert shapes("ImageLabelmapData", fields, 2) == [(1, 3, 6, 7), (1, 1, 6, 7)]
    fields = "image_data_param { batch_size: 1 }"
    assert shapes("ImageLabelmapData", fields, 2, inputs={"t0": (1, 3, 4, 5)}) == [(1, 3, 4, 5), (1, 1, 4, 5)]
