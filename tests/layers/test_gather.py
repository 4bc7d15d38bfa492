from .table import Bad, Row, suite

X = (2, 3, 4)
ROWS = [Row(k, f'type: "{k}"', [X, (5,)], [X, (5,)], lambda a, b: (a, b)) for k in ("Gather", "Scatter")]
BAD = [Bad("tops", 'type: "Gather"', [X, X], "the wrong number of tops")]
test_row, test_gradient, test_bad = suite(ROWS, BAD)
