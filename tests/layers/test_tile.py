import numpy as np

from .table import Bad, Row, suite


def tiled(axis, tiles):
    return lambda x: np.concatenate([x] * tiles, axis)


def tile(fields: str = "") -> str:
    return f'type: "Tile" tile_param {{ {fields} }}'


X = [(2, 3, 5)]
ROWS = [
    Row("channels", tile("tiles: 3"), X, [(2, 9, 5)], tiled(1, 3)),
    Row("batch", tile("tiles: 2 axis: 0"), X, [(4, 3, 5)], tiled(0, 2)),
    Row("from the back", tile("tiles: 2 axis: -1"), X, [(2, 3, 10)], tiled(2, 2)),
    Row("once", tile("tiles: 1"), X, X, tiled(1, 1)),
]
BAD = [
    Bad("none", tile(), X, "tiles must be positive"),
    Bad("zero", tile("tiles: 0"), X, "tiles must be positive", at="tiles"),
    Bad("negative", tile("tiles: -1"), X, "tiles must be positive", at="tiles"),
    Bad("axis", tile("tiles: 2 axis: 3"), X, "axis is out of range", at="axis"),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)
