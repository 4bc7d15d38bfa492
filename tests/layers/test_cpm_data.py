import pytest

from netcompiler import NetError

from .test_image_seg_data import shapes

FIELDS = "data_param { batch_size: 2 } cpm_transform_param { stride: 8 crop_size_x: 96 crop_size_y: 64 num_parts: 56 }"


def test_shapes():
    assert shapes("CPMData", FIELDS, 2) == [(2, 4, 64, 96), (2, 114, 8, 12)]
    assert shapes("CPMData", "data_param { batch_size: 3 }", 1) == [(3, 4, 368, 368)]
    assert shapes("CPMData", FIELDS, 2, inputs={"t0": (1, 6, 32, 40)}) == [(1, 6, 32, 40), (1, 114, 4, 5)]


def test_bad():
    with pytest.raises(NetError, match="stride must be positive"):
        shapes("CPMData", FIELDS.replace("stride: 8", "stride: 0"), 2)
    with pytest.raises(NetError, match="does not tell the shape of top 0"):
        shapes("CPMData", "", 2)
