import numpy as np

from .table import Bad, Row, suite


def triplet(fields=""):
    return f'type: "TripletLoss" triplet_loss_param {{ {fields} }}'


def want(margin):
    def loss(a, p, n, *labels):
        near, far = (((a - b) ** 2).reshape(len(a), -1).sum(1) for b in (p, n))
        return np.maximum(near - far + margin, 0).sum() / len(a) / 2

    return loss


X = (5, 3)
ROWS = [
    Row("margin", triplet(), [X] * 3, [()], want(1)),
    Row("alpha", triplet("alpha: 5 pregen_label_start: 0"), [(4, 2, 3, 1)] * 3 + [(4, 3)], [()], want(5)),
]
BAD = [
    Bad("two", triplet(), [X, X], "the wrong number of bottoms"),
    Bad("shapes", triplet(), [X, X, (5, 4)], "the bottoms must have the same shape"),
    Bad("both", triplet("margin: 1 alpha: 2"), [X] * 3, "margin and alpha are both given", at="alpha"),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)
