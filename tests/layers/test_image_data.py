import pytest

from netcompiler import NetError

from .table import Bad, suite
from .test_data import data, shapes


def images(fields="", transform=""):
    return data(fields, transform, "ImageData", "image_data_param")


SHAPES = [
    ("batch_size: 5 new_height: 7 new_width: 11", "", (5, 3, 7, 11)),
    ("batch_size: 5 new_height: 7 new_width: 11 is_color: false", "mean_value: 3", (5, 1, 7, 11)),
    ("batch_size: 5 new_height: 7 new_width: 11", "crop_size: 3 mean_value: 104", (5, 3, 3, 3)),
    ("batch_size: 5", "crop_size: 3", (5, 3, 3, 3)),
    ("crop_size: 3", "", (1, 3, 3, 3)),
]


@pytest.mark.parametrize(("fields", "transform", "shape"), SHAPES)
def test_shapes(fields, transform, shape):
    assert shapes(images(fields, transform)) == [shape, shape[:1]]


def test_a_given_shape_wins_and_the_label_follows():
    assert shapes(images("batch_size: 5"), data=(2, 1, 3, 11)) == [(2, 1, 3, 11), (2,)]


BAD = [
    Bad("no size", images("batch_size: 5"), [], "does not tell the shape of top 0", tops=2),
    Bad("one side", images("new_width: 5"), [], "go together", tops=2, at="new_width"),
    Bad("crop", images("new_height: 7 new_width: 3", "crop_size: 5"), [], "larger than the", tops=2, at="crop_size"),
    Bad("one top", images("new_height: 7 new_width: 3"), [], "the wrong number of tops"),
]
_, _, test_bad = suite([], BAD)


def modified(fields, tops=1, **inputs):
    return shapes(data(fields, "", "ImageDataModify", "image_data_modify_param"), tops, **inputs)


def test_without_labels():
    assert modified("batch_size: 5 new_height: 7 new_width: 11") == [(5, 3, 7, 11)]
    assert modified("batch_size: 5 crop_size: 4 is_color: false") == [(5, 1, 4, 4)]
    with pytest.raises(NetError, match="the wrong number of tops"):
        modified("batch_size: 5", 2)


def test_several_labels():
    layer = data("batch_size: 5 new_height: 7 new_width: 11", "", "MultiLabelImageData", "image_data_param")
    with pytest.raises(NetError, match="does not tell the shape of top 1"):
        shapes(layer)
    assert shapes(layer, label=(5, 10)) == [(5, 3, 7, 11), (5, 10)]
