import numpy as np

from .table import Bad, Row, labels, suite

OUT = 'type: "ParseOutput"'
EVAL = 'type: "ParseEvaluate" parse_evaluate_param { num_labels: 4 ignore_label: 255 ignore_label: 2 }'
X, ONE = (2, 4, 3, 5), (2, 1, 3, 5)


def true_ones(rng, shape):
    return np.where(rng.random(shape) < 0.2, 255, rng.integers(0, 4, shape)).astype(float)


def counts(predicted, true):
    found = np.zeros((1, 4, 1, 3))
    for p, t in zip(predicted.ravel().astype(int), true.ravel().astype(int), strict=True):
        if t not in (2, 255):
            found[0, t, 0, 0] += p == t
            found[0, t, 0, 1] += 1
            found[0, p, 0, 2] += 1
    return found


ROWS = [
    Row("classes", OUT, [X], [ONE], lambda x: x.argmax(1)[:, None], gradient=False),
    Row("and scores", OUT, [X], [ONE, ONE], lambda x: (x.argmax(1)[:, None], x.max(1)[:, None]), gradient=False),
    Row("counts", EVAL, [ONE, ONE], [(1, 4, 1, 3)], counts, feed={0: labels(4), 1: true_ones}, gradient=False),
]
BAD = [
    Bad("axes", OUT, [(2, 3)], "bottom 0 has the wrong number of axes"),
    Bad("num_labels", 'type: "ParseEvaluate"', [ONE, ONE], "num_labels is missing"),
    Bad("scores", EVAL, [X, ONE], "bottom 0 has the wrong shape"),
    Bad("sizes", EVAL, [ONE, (2, 1, 5, 3)], "bottom 1 has the wrong shape"),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)
