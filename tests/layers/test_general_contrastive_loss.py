import numpy as np
import pytest
import torch

import netcompiler

from .table import Bad, Row, labels, prototxt, suite


def contrastive(fields=""):
    return f'type: "GeneralContrastiveLoss" general_contrastive_loss_param {{ {fields} }}'


def triplet(fields=""):
    return f'type: "GeneralTripletLoss" general_triplet_loss_param {{ {fields} }}'


def contrast(pm=0.0, nm=1.0, pw=1.0, nw=1.0, norm=None, most=4.0, only=False):
    """The loss, the mean distances, and the gradient."""

    def want(x, truth, *weights):
        n, classes = x.shape
        value, slope, pos, neg = np.zeros_like(x), np.zeros_like(x), 0.0, 0.0
        for i in range(n):
            for j in range(classes):
                if j == truth[i]:
                    far = min(most, max(0.0, x[i, j] - pm))
                    pos, value[i, j] = pos + far, far * pw
                    slope[i, j] = pw * (pm < x[i, j] < most)
                elif x[i, j] < nm:
                    neg, value[i, j] = neg + nm - x[i, j], (nm - x[i, j]) * nw
                    slope[i, j] = -nw
        own = [value[i, int(t)] for i, t in enumerate(truth)]
        for i in range(n) if only else ():
            others = [-1.0 if j == truth[i] else value[i, j] for j in range(classes)]
            for j in range(classes):
                if j != truth[i] and j != int(np.argmax(others)):
                    value[i, j] = slope[i, j] = 0
                if j == truth[i] and i != int(np.argmin(own)):
                    value[i, j] = 0
        is_own = truth[:, None] == np.arange(classes)
        if norm is not None:
            excess = abs(slope[~is_own].sum()) / norm / n
            slope[~is_own] /= excess if excess > pw else 1
        if weights:
            slope *= weights[0].reshape(n, 1) / weights[0].mean()
        return abs(value).sum() / n, np.array([pos / n, neg / n / (classes - 1)]), slope / n

    return want


def three(margin=0.2, center=True, hardest=False, pw=1.0, nw=1.0):
    def want(x, truth, *weights):
        n, classes = x.shape
        value, slope = np.zeros_like(x), np.zeros_like(x)
        pos = neg = 0.0
        for i, t in enumerate(truth.astype(int)):
            same, pos = x[i, t], pos + x[i, t]
            for j in range(classes):
                if j != t:
                    value[i, j], neg = max(0, same + margin - x[i, j]) * nw, neg + x[i, j]
                    slope[i, j] = -nw * (same + margin > x[i, j])
            if hardest:
                worst = int(np.argmax(value[i]))
                keep = np.arange(classes) == worst
                value[i] *= keep
                slope[i] = -nw * keep
            if center or hardest or slope[i].any():
                slope[i, t] = pw
        if weights:
            slope *= weights[0].reshape(n, 1)
        return abs(value).sum() / n, np.array([pos / n, neg / n / (classes - 1)]), slope / n

    return want


def distances(rng, shape):
    return rng.uniform(0, 3, shape)


def weights(rng, shape):
    return rng.uniform(0.5, 2, shape)


SOME = "positive_margin: 0.3 negative_margin: 2 positive_weight: 0.5 negative_weight: 2 positive_outlier_thresh: 1.5"
CASES = {
    "contrastive": (contrastive(), contrast(), 2),
    "contrastive, set": (contrastive(SOME), contrast(0.3, 2, 0.5, 2, None, 1.5), 3),
    "contrastive, normalised": (contrastive(f"{SOME} normalize_negative: 2"), contrast(0.3, 2, 0.5, 2, 2, 1.5), 2),
    "contrastive, hardest": (contrastive("negative_margin: 2 max_negative_only: true"), contrast(nm=2, only=True), 2),
    "triplet": (triplet(), three(), 3),
    "triplet, set": (
        triplet("margin: 1 positive_weight: 3 negative_weight: 0.5 add_center_loss: false"),
        three(1, False, False, 3, 0.5),
        2,
    ),
    "triplet, hardest": (triplet("hardest_only: true margin: 2"), three(2, True, True), 2),
}
FED = {0: distances, 1: labels(4), 2: weights}
SHAPES = [(6, 4), (6,), (6, 1)]
ROWS = [
    Row(name, layer, SHAPES[:count], [(), (2,)], lambda *b, want=want: want(*b)[:2], feed=FED, gradient=False)
    for name, (layer, want, count) in CASES.items()
]
BAD = [
    Bad("labels", contrastive(), [(6, 4), (5,)], "bottom 1 has the wrong shape"),
    Bad("weights", triplet(), [(6, 4), (6,), (6, 4)], "bottom 2 has the wrong shape"),
    Bad("one class", triplet(), [(6, 1), (6,)], "there is one class only"),
    Bad("a later setting", contrastive("square: true"), SHAPES[:2], "square is not supported", at="square"),
    Bad("another", triplet("positive_first: true"), SHAPES[:2], "positive_first is not supported", at="positive_first"),
    Bad(
        "norm", contrastive("normalize_negative: 0"), SHAPES[:2], "normalize_negative must be positive", at="normalize"
    ),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)


@pytest.mark.parametrize("name", CASES)
def test_the_gradient(name):
    layer, want, count = CASES[name]
    text = prototxt(layer, SHAPES[:count], 1)
    net = netcompiler.compile(netcompiler.parse(text), optimize=False, device="cpu", dtype="float64")
    rng = np.random.default_rng(3)
    bottoms = [FED[i](rng, s) for i, s in enumerate(SHAPES[:count])]
    x = torch.tensor(bottoms[0], requires_grad=True)
    net(x, *bottoms[1:])["t0"].backward()
    np.testing.assert_allclose(x.grad, want(*bottoms)[2], atol=1e-12)
