import pytest

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
