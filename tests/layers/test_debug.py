from .table import Bad, Row, suite

DEBUG = 'type: "Debug" debug_param { max_stored_batches: 3 }'
ROWS = [Row("same", DEBUG, [(2, 3, 4, 5), (2,)], [(2, 3, 4, 5)], lambda x, labels: x)]
BAD = [Bad("no labels", DEBUG, [(2, 3)], "the wrong number of bottoms")]
test_row, test_gradient, test_bad = suite(ROWS, BAD)
