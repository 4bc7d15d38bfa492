import numpy as np

import netcompiler

from .table import Bad, Row, prototxt, suite

KNN = 'type: "Knn" knn_param { num_output: 4 k: 2 max_stored_batches: 2 }'
X = [(3, 2), (3,)]
ROWS = [Row("nothing kept", KNN, X, [(3, 4, 1, 1)], lambda x, t: np.zeros((3, 4, 1, 1)), gradient=False)]
BAD = [
    Bad("no labels", KNN, X[:1], "the labels are missing"),
    Bad("labels", KNN, [(3, 2), (4,)], "bottom 1 has the wrong shape"),
    Bad("no output", KNN.replace("4", "0"), X, "num_output must be positive", at="num_output"),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)


def test_the_last_batches_count():
    nets = [
        netcompiler.compile(
            netcompiler.parse(prototxt(KNN, X, 1)), phase=phase, optimize=False, device="cpu", dtype="float64"
        )
        for phase in ("TRAIN", "TEST")
    ]
    train, test = (net.get_submodule(net.attributes[-1]) for net in nets)
    rng = np.random.default_rng(5)
    batches = [(rng.standard_normal((3, 2)), labels) for labels in ([0, 1, 7], [1, 1, 3], [3, 1, 0])]
    for x, labels in batches:
        assert not nets[0](x, np.array(labels, float))["t0"].any()
    test.stored = train.stored
    x = rng.standard_normal((3, 2))
    found = nets[1](x, np.zeros(3))["t0"].numpy()
    kept = [(row, label) for rows, labels in batches[1:] for row, label in zip(rows, labels, strict=True)]
    want = np.zeros((3, 4))
    for i, row in enumerate(x):
        means = []
        for label in (0, 1, 3):
            far = sorted(float(np.sqrt(((row - other) ** 2).sum())) for other, own in kept if own == label)
            means.append(np.mean(far[:2]))
        want[i, :3] = 1 - (np.array(means) - min(means)) / (max(means) - min(means))
    np.testing.assert_allclose(found[:, :, 0, 0], want)
