from .table import Bad, Row, suite

X = (2, 3, 4, 5)
AXPY = 'type: "Axpy"'
ROWS = [
    Row("rank 2", AXPY, [(2, 3), X, X], [X], lambda a, x, y: a[:, :, None, None] * x + y, macs=120),
    Row("rank 4", AXPY, [(2, 3, 1, 1), X, X], [X], lambda a, x, y: a * x + y, macs=120),
    Row("no image", AXPY, [(2, 3)] * 3, [(2, 3)], lambda a, x, y: a * x + y, macs=6),
]
BAD = [
    Bad("scale", AXPY, [(2, 4), X, X], "bottom 0 has the wrong shape"),
    Bad("scale with an image", AXPY, [X, X, X], "bottom 0 has the wrong shape"),
    Bad("y", AXPY, [(2, 3), X, (2, 3, 5, 4)], "bottom 2 has the wrong shape"),
    Bad("two bottoms", AXPY, [(2, 3), X], "the wrong number of bottoms"),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)
