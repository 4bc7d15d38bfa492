import numpy as np

import netcompiler

from .table import Bad, Row, labels, prototxt, suite


def seg(fields=""):
    return f'type: "SegAccuracy" seg_accuracy_param {{ {fields} }}'


def each(fields=""):
    return f'type: "EltwiseAccuracy" eltwise_accuracy_param {{ {fields} }}'


def measures(ignored=()):
    def want(scores, truth):
        c = scores.shape[1]
        matrix = np.zeros((c, c))
        for n, _, i, j in np.ndindex(truth.shape):
            label = int(truth[n, 0, i, j])
            if label not in ignored:
                matrix[label, int(scores[n, :, i, j].argmax())] += 1
        recalls = [matrix[k, k] / matrix[k].sum() for k in range(c) if matrix[k].sum()]
        unions = [matrix[k].sum() + matrix[:, k].sum() - matrix[k, k] for k in range(c)]
        jaccard = [1 if u == matrix[k, k] else matrix[k, k] / u for k, u in enumerate(unions)]
        values = np.trace(matrix) / max(matrix.sum(), 1), np.mean(recalls) if recalls else 0, np.mean(jaccard)
        return np.array(values).reshape(1, 1, 1, 3)

    return want


def share(k=1, ignored=None):
    def want(scores, truth):
        right = count = 0
        for n, _, i, j in np.ndindex(truth.shape):
            if truth[n, 0, i, j] == ignored:
                continue
            order = sorted(((v, c) for c, v in enumerate(scores[n, :, i, j])), reverse=True)
            right += int(truth[n, 0, i, j]) in [c for _, c in order[:k]]
            count += 1
        return np.array(right / count).reshape(1, 1, 1, 1)

    return want


def tied(rng, shape):
    return rng.integers(0, 3, shape).astype(float)


def strange(rng, shape):
    return rng.choice([0.0, 1, 255], shape)


X, T = (2, 4, 5, 3), (2, 1, 5, 3)
TIED = {0: tied, 1: labels(4)}
ROWS = [
    Row("three measures", seg(), [X, T], [(1, 1, 1, 3)], measures(), feed=TIED, gradient=False),
    Row(
        "ignored",
        seg("ignore_label: 255 ignore_label: 0"),
        [X, T],
        [(1, 1, 1, 3)],
        measures((255, 0)),
        feed={1: strange},
        gradient=False,
    ),
    Row(
        "nothing left",
        seg("ignore_label: 0 ignore_label: 1"),
        [(1, 2, 3, 1), (1, 1, 3, 1)],
        [(1, 1, 1, 3)],
        measures((0, 1)),
        feed={1: labels(2)},
        gradient=False,
    ),
    Row("top 1", each(), [X, T], [(1, 1, 1, 1)], share(), feed=TIED, gradient=False),
    Row("top 2", each("top_k: 2 ignore_label: 3"), [X, T], [(1, 1, 1, 1)], share(2, 3), feed=TIED, gradient=False),
]
BAD = [
    Bad("labels", seg(), [X, (2, 1, 5, 4)], "bottom 1 has the wrong shape"),
    Bad("rank", seg(), [(2, 4), (2, 1)], "the wrong number of axes"),
    Bad("no classes", each(""), [(), T], "bottom 0 has too few axes"),
    Bad("top_k", each("top_k: 5"), [X, T], "top_k is out of range", at="top_k"),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)


def test_all_forwards_together():
    net = netcompiler.compile(netcompiler.parse(prototxt(seg("reset: false"), [X, T], 1)), device="cpu")
    rng = np.random.default_rng(0)
    scores, truth = rng.standard_normal((2, *X)), rng.integers(0, 4, (2, *T))
    net(scores[0], truth[0])
    got = net(scores[1], truth[1])["t0"]
    np.testing.assert_allclose(got, measures()(np.concatenate(scores), np.concatenate(truth)), rtol=1e-6)
