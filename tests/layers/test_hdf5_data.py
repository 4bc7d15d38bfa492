from .table import Bad, suite
from .test_data import shapes

HDF5 = 'type: "HDF5Data" hdf5_data_param { source: "list.txt" batch_size: 5 shuffle: true }'


def test_shapes_are_given():
    assert shapes(HDF5, 1, data=(5, 3)) == [(5, 3)]
    given = {"data": (5, 3, 7, 11), "label": (5,), "third": (5, 2)}
    assert shapes(HDF5, 3, **given) == list(given.values())


BAD = [
    Bad("no shapes", HDF5, [], "does not tell the shape of top 0", tops=2),
    Bad("transform", HDF5 + " transform_param { scale: 2 }", [], "does not transform", at="transform_param"),
]
_, _, test_bad = suite([], BAD)
