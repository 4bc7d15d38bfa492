import numpy as np
import pytest

import netcompiler
from netcompiler import NetError

from .table import Bad, Row, labels, prototxt, suite


def decode(fields=""):
    return f'type: "Decode" decode_param {{ {fields} }}'


def distances(x, truth, centroids, status, counts):
    return ((x[:, None] - centroids[None, :, :, 0, 0]) ** 2).sum(2)[:, :, None, None]


def accuracy(x, truth):
    right = [np.argmin(row) == t for row, t in zip(x.reshape(len(x), -1), truth.reshape(len(x), -1)[:, 0], strict=True)]
    return np.mean(right)


ENC, DEC = 'type: "AccuracyEncoding"', 'type: "AccuracyDecode"'
X, T = (5, 3), (5, 2)
BLOBS = {"centroids": (4, 3, 1, 1), "status": (4, 1, 1, 1), "counts": (4, 1, 1, 1)}
ROWS = [
    Row("test", decode("pregen_label_count: 4"), [X, T], [(5, 4, 1, 1)], distances, BLOBS, gradient=False),
    Row("decoded", DEC, [(9, 4, 1, 1), (9, 2)], [()], accuracy, feed={1: labels(4)}, gradient=False),
]
BAD = [
    Bad("target", decode("target: KNN"), [X, T], "this target is not supported", at="target"),
    Bad("cache", decode("cache_size: 0"), [X, T], "cache_size must be positive", at="cache_size"),
    Bad("labels", decode(), [X, (4,)], "bottom 1 has the wrong shape"),
    Bad("top_k", f"{ENC} accuracy_param {{ top_k: 2 }}", [X, T], "top_k must be 1", at="top_k"),
    Bad("axis", f"{DEC} accuracy_param {{ axis: 2 }}", [X, T], "axis must be 1", at="axis"),
    Bad("labels of an accuracy", DEC, [X, (4,)], "bottom 1 has the wrong shape"),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)


def moving(batches, n_labels, cache):
    """The means after each item, one item after another."""
    centroids, counts = np.zeros((n_labels, 3)), np.zeros(n_labels, int)
    for x, truth in batches:
        limit, rows = len(x) * cache, []
        share = 1 / limit
        for row, label in zip(x, truth, strict=True):
            if counts[label] == 0:
                centroids[label] = share * row
            else:
                if counts[label] < limit:
                    share = 1 / (counts[label] + 1)
                centroids[label] = share * row + (1 - share) * centroids[label]
            counts[label] += 1
            rows.append(((row - centroids) ** 2).sum(1))
        yield np.array(rows), centroids.copy(), counts.copy(), limit


def compiled(layer, tops, phase):
    text = prototxt(layer, [X, T], tops)
    return netcompiler.compile(netcompiler.parse(text), phase=phase, optimize=False, device="cpu", dtype="float64")


def data():
    rng = np.random.default_rng(1)
    truth = [np.array(t) for t in ([0, 1, 1, 2, 1], [2, 2, 1, 0, 1], [0, 0, 1, 2, 2])]
    return [(rng.standard_normal((5, 3)), t) for t in truth]


def test_training_moves_the_means():
    net = compiled(decode("pregen_label_count: 3 cache_size: 1 centroid_output_iteration: 2"), 2, "TRAIN")
    for i, ((x, truth), want) in enumerate(zip(data(), moving(data(), 3, 1), strict=True)):
        found = net(x, np.stack([truth, 9 - truth], 1).astype(float))
        rows, centroids, counts, limit = want
        np.testing.assert_allclose(found["t0"][:, :, 0, 0], rows)
        held = net.caffe_params()["it"]
        np.testing.assert_allclose(held[0][:, :, 0, 0], centroids)
        assert (held[2].ravel() == counts).all()
        assert (held[1].ravel() == (counts > limit)).all()
        shown = centroids if i >= 2 and (counts > limit).all() else 0 * centroids
        np.testing.assert_allclose(found["t1"][:, :, 0, 0], shown)


def test_a_larger_label_makes_room():
    net = compiled(decode(), 1, "TRAIN")
    x, truth = data()[0]
    assert net(x, np.stack([truth, truth], 1).astype(float))["t0"].shape == (5, 3, 1, 1)
    assert net.caffe_params()["it"][0].shape == (3, 3, 1, 1)


def test_training_needs_labels():
    with pytest.raises(NetError, match="TRAIN needs the labels"):
        netcompiler.build(netcompiler.parse(prototxt(decode(), [X], 1)), phase="TRAIN")


def test_the_nearest_mean_of_all_encodings():
    net = compiled(ENC, 1, "TEST")
    for (x, truth), (rows, *_) in zip(data(), moving(data(), 3, 100), strict=True):
        found = net(x, np.stack([truth, 9 - truth], 1).astype(float))["t0"]
        assert float(found) == pytest.approx((rows.argmin(1) == truth).mean())


def test_ignored_labels_do_not_count():
    text = prototxt(f"{DEC} accuracy_param {{ ignore_label: 1 }}", [(3, 2), (3,)], 1)
    net = netcompiler.compile(netcompiler.parse(text), optimize=False, device="cpu")
    x = np.array([[0, 1], [0, 1], [1, 0]], np.float32)
    assert float(net(x, np.array([0, 1, 0], np.float32))["t0"]) == 0.5
