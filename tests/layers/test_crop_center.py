from .table import Bad, Row, suite


def crop(fields):
    return f'type: "CropCenter" crop_center_param {{ {fields} }}'


X = (2, 3, 7, 9)
ROWS = [
    Row("one for both", crop("crop_size: 2"), [X], [(2, 3, 3, 5)], lambda x: x[:, :, 2:5, 2:7]),
    Row("one for each", crop("crop_size: 0 crop_size: 3"), [X], [(2, 3, 7, 3)], lambda x: x[:, :, :, 3:6]),
]
BAD = [
    Bad("nothing left", crop("crop_size: 4"), [X], "the crop leaves nothing", at="crop_size"),
    Bad("none", crop(""), [X], "the wrong number of crop_size"),
    Bad("three", crop("crop_size: 1 crop_size: 1 crop_size: 1"), [X], "the wrong number of crop_size", at="crop_size"),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)
