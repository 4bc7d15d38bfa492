import numpy as np

from .table import Bad, Row, suite


def outside(x, edge):
    return (x + edge if x < -edge else x - edge if x > edge else 0) ** 2 / 2


def places(theta):
    total = 0.0
    for t in theta.reshape(len(theta), 2, 3):
        for h in range(3):
            for w in range(4):
                at = t @ [h * 2 / 3 - 1, w * 2 / 4 - 1, 1]
                total += outside(at[0], 1) + outside(at[1], 1)
    return total / len(theta) / 12


LOC, ST = (
    'type: "LocLoss" loc_loss_param { threshold: 0.6 }',
    'type: "STLoss" st_loss_param { output_H: 3 output_W: 4 }',
)
ROWS = [
    Row("places", ST, [(5, 6)], [()], places),
    Row("theta as a picture", ST, [(2, 2, 3, 1)], [()], places),
    Row("values", LOC, [(4, 3)], [()], lambda x: np.mean([outside(v, 0.6) for v in x.ravel()])),
]
BAD = [
    Bad("theta", ST, [(5, 4)], "theta has the wrong shape"),
    Bad("size", ST.replace("3", "0"), [(5, 6)], "output_H must be positive", at="output_H"),
    Bad("threshold", LOC.replace("0.6", "0"), [(5, 6)], "threshold must be positive", at="threshold"),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)
