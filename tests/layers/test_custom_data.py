import pytest

from netcompiler import NetError

from .test_image_seg_data import shapes


def test_shapes_must_be_given():
    fields = "data_param { batch_size: 2 backend: LMDB slice_point: 3 slice_point: 6 encoding: UINT16FLOW rand_permute: true }"
    with pytest.raises(NetError, match="does not tell the shape of top 0"):
        shapes("CustomData", fields, 3)
    given = {"t0": (2, 3, 8, 9), "t1": (2, 3, 8, 9), "t2": (2, 1, 8, 9)}
    assert shapes("CustomData", fields, 3, inputs=given) == list(given.values())
    with pytest.raises(NetError, match="the wrong number of tops"):
        shapes("CustomData", fields, 5)
