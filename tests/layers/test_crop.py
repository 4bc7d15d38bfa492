from .table import Bad, Row, suite


def crop(fields: str = "") -> str:
    return f'type: "Crop" crop_param {{ {fields} }}'


X, SIZE = (2, 3, 11, 13), (2, 3, 5, 7)
ROWS = [
    Row("corner", crop(), [X, SIZE], [SIZE], lambda x, _: x[:, :, :5, :7]),
    Row("one offset", crop("offset: 2"), [X, SIZE], [SIZE], lambda x, _: x[:, :, 2:7, 2:9]),
    Row("two offsets", crop("offset: 1 offset: 6"), [X, SIZE], [SIZE], lambda x, _: x[:, :, 1:6, 6:13]),
    Row("last axis", crop("axis: -1 offset: 3"), [X, SIZE], [(2, 3, 11, 7)], lambda x, _: x[..., 3:10]),
    Row(
        "channels too",
        crop("axis: 1 offset: [1, 2, 3]"),
        [X, (7, 2, 5, 3)],
        [(2, 2, 5, 3)],
        lambda x, _: x[:, 1:3, 2:7, 3:6],
    ),
    Row("size with more axes", crop(), [X, (*SIZE, 17)], [SIZE], lambda x, _: x[:, :, :5, :7]),
]
BAD = [
    Bad("too far", crop("offset: 1 offset: 7"), [X, SIZE], "past the end of axis 3", at="offset"),
    Bad("too large", crop(), [SIZE, X], "past the end of axis 2"),
    Bad("three offsets", crop("offset: 1 offset: 1 offset: 1"), [X, SIZE], "the wrong number of offset", at="offset"),
    Bad("axis", crop("axis: 4"), [X, SIZE], "axis is out of range", at="axis"),
    Bad("size with fewer axes", crop(), [X, (2, 3, 5)], "bottom 1 has too few axes"),
    Bad("one bottom", crop(), [X], "the wrong number of bottoms"),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)
