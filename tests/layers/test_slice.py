from .table import Bad, Row, suite


def cut(axis, *points):
    def parts(x):
        places = [slice(a, b) for a, b in zip((0, *points), (*points, None), strict=True)]
        return [x[(slice(None),) * axis + (p,)] for p in places]

    return parts


def sliced(fields: str = "") -> str:
    return f'type: "Slice" slice_param {{ {fields} }}'


MYCAFFE = "freeze_learning: false "  # a field of its own
X = [(2, 6, 5)]
ROWS = [
    Row("equal parts", sliced(), X, [(2, 2, 5)] * 3, cut(1, 2, 4)),
    Row("points", sliced("slice_point: 1 slice_point: 4"), X, [(2, 1, 5), (2, 3, 5), (2, 2, 5)], cut(1, 1, 4)),
    Row("axis 0", sliced("axis: 0"), X, [(1, 6, 5)] * 2, cut(0, 1)),
    Row("from the back", sliced("axis: -1 slice_point: 2"), X, [(2, 6, 2), (2, 6, 3)], cut(2, 2)),
    Row("slice_dim", sliced("slice_dim: 2 slice_point: 3"), X, [(2, 6, 3), (2, 6, 2)], cut(2, 3)),
    Row("one top", sliced(), X, X, cut(1)),
    Row(
        "MyCaffe's both", MYCAFFE + sliced("axis: 1 slice_dim: 2 slice_point: 3"), X, [(2, 6, 3), (2, 6, 2)], cut(2, 3)
    ),
    Row("MyCaffe's 0", MYCAFFE + sliced("axis: 2 slice_dim: 0 slice_point: 3"), X, [(2, 6, 3), (2, 6, 2)], cut(2, 3)),
]
BAD = [
    Bad("unequal parts", sliced(), X, "the parts are not equal", tops=4),
    Bad("too few points", sliced("slice_point: 2"), X, "the wrong number of slice_point", tops=3, at="slice_point"),
    Bad("points fall", sliced("slice_point: [4, 2]"), X, "must grow", tops=3),
    Bad("point 0", sliced("slice_point: 0"), X, "must grow", tops=2, at="slice_point"),
    Bad("past the end", sliced("slice_point: 6"), X, "past the end", tops=2, at="slice_point"),
    Bad("axis", sliced("axis: 3"), X, "axis is out of range", tops=2, at="axis"),
    Bad("slice_dim", sliced("slice_dim: 3"), X, "slice_dim is out of range", tops=2, at="slice_dim"),
    Bad("both", sliced("axis: 1 slice_dim: 1"), X, "both given", tops=2, at="slice_dim"),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)
