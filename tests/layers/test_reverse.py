from .table import Bad, Row, suite


def transpose(*dims):
    return 'type: "Transpose" transpose_param { ' + " ".join(f"dim: {d}" for d in dims) + " }"


X = (2, 3, 4, 5)
ROWS = [
    Row("reverse", 'type: "Reverse"', [(5, 3)], [(5, 3)], lambda x: x[::-1]),
    Row("reverse channels", 'type: "Reverse" reverse_param { axis: 1 }', [X], [X], lambda x: x[:, ::-1]),
    Row("reverse columns", 'type: "Reverse" reverse_param { axis: -1 }', [X], [X], lambda x: x[..., ::-1]),
    Row("flip", 'type: "Flip"', [X], [X], lambda x: x[..., ::-1]),
    Row("mirror", 'type: "Mirror"', [X], [X], lambda x: x[..., ::-1]),
    Row("flip both", 'type: "Flip" flip_param { flip_height: true }', [X], [X], lambda x: x[:, :, ::-1, ::-1]),
    Row(
        "flip rows",
        'type: "Flip" flip_param { flip_height: true flip_width: false }',
        [X],
        [X],
        lambda x: x[:, :, ::-1],
    ),
    Row("flip nothing", 'type: "Flip" flip_param { flip_width: false }', [X], [X], lambda x: x),
    Row("transpose", transpose(3, 2, 0, 1), [X], [(5, 4, 2, 3)], lambda x: x.transpose(3, 2, 0, 1)),
    Row("transpose batch", transpose(1, 0, 2, 3), [X], [(3, 2, 4, 5)], lambda x: x.transpose(1, 0, 2, 3)),
    Row("transpose two", transpose(1, 0), [(2, 3)], [(3, 2)], lambda x: x.T),
]
BAD = [
    Bad("axis", 'type: "Reverse" reverse_param { axis: 4 }', [X], "axis is out of range", at="axis"),
    Bad("flip rank", 'type: "Flip"', [(2, 3)], "the wrong number of axes"),
    Bad("too few", transpose(1, 0), [X], "dim must name every axis", at="dim"),
    Bad("twice", transpose(0, 1, 2, 2), [X], "dim must name every axis", at="dim"),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)
