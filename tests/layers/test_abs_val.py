import numpy as np

from .table import Bad, Row, suite

ROWS = [Row("plain", 'type: "AbsVal"', [(2, 3, 5)], [(2, 3, 5)], lambda x: np.where(x < 0, -x, x))]
BAD = [Bad("two bottoms", 'type: "AbsVal"', [(2, 3), (2, 3)], "the wrong number of bottoms")]
test_row, test_gradient, test_bad = suite(ROWS, BAD)
