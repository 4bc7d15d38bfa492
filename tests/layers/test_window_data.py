from .table import Bad, suite
from .test_data import data, shapes


def windows(fields="", transform=""):
    return data(fields, transform, "WindowData", "window_data_param")


def test_shapes():
    assert shapes(windows("batch_size: 5", "crop_size: 7")) == [(5, 3, 7, 7), (5,)]
    assert shapes(windows("batch_size: 5 crop_size: 11 fg_fraction: 0.5")) == [(5, 3, 11, 11), (5,)]
    assert shapes(windows("batch_size: 5", "crop_size: 7"), data=(2, 1, 3, 11)) == [(2, 1, 3, 11), (2,)]


BAD = [
    Bad("no crop", windows("batch_size: 5"), [], "does not tell the shape of top 0", tops=2),
    Bad("one top", windows("batch_size: 5", "crop_size: 7"), [], "the wrong number of tops"),
]
_, _, test_bad = suite([], BAD)
