from .table import Bad, suite
from .test_data import data, shapes


def memory(fields):
    return data(fields, "scale: 0.5 crop_size: 3", "MemoryData", "memory_data_param")


def test_shapes():
    whole = memory("batch_size: 5 channels: 3 height: 7 width: 11")
    assert shapes(whole) == [(5, 3, 7, 11), (5,)]
    assert shapes(whole, data=(2, 3, 5, 7)) == [(2, 3, 5, 7), (2,)]


def test_mycaffes_labels():
    sizes = "batch_size: 5 channels: 3 height: 7 width: 11"
    label = f"{sizes} label_channels: 2 label_height: 1 label_width: 4"
    assert shapes(memory(label)) == [(5, 3, 7, 11), (5, 2, 1, 4)]
    assert shapes(memory(f"{label} label_type: MULTIPLE"), data=(2, 3, 5, 7)) == [(2, 3, 5, 7), (2, 2, 1, 4)]
    assert shapes(memory(f"{label} label_type: NONE"), 1) == [(5, 3, 7, 11)]


MANY = "batch_size: 5 channels: 3 height: 7 width: 11 label_channels: 2"
BAD = [
    Bad("no label", memory(f"{MANY} label_type: NONE"), [], "NONE tells no labels", tops=2, at="label_type"),
    Bad(
        "half a label", memory(f"{MANY} label_type: MULTIPLE"), [], "MULTIPLE tells no labels", tops=2, at="label_type"
    ),
    Bad("no width", memory("batch_size: 5 channels: 3 height: 7"), [], "width must be positive", tops=2),
    Bad("batch 0", memory("batch_size: 0 channels: 3"), [], "batch_size must be positive", tops=2, at="batch_size"),
    Bad("one top", memory("batch_size: 5 channels: 3 height: 7 width: 11"), [], "the wrong number of tops"),
]
_, _, test_bad = suite([], BAD)
