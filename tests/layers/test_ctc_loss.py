from itertools import groupby, product

import numpy as np
import torch

import netcompiler

from .table import Bad, Row, prototxt, suite


def ctc(fields):
    return f'type: "CtcLoss" ctc_loss_param {{ {fields} }}'


def said(path, blank, merged=True):
    path = [k for k, _ in groupby(path)] if merged else list(path)
    return [k for k in path if k != blank]


def total(blank, steps=None):
    """By adding up the paths, one by one."""

    def want(scores, truth):
        scores = scores[:steps]
        p = np.exp(scores) / np.exp(scores).sum(2, keepdims=True)
        losses = []
        for n in range(p.shape[1]):
            target = [int(k) for k in truth[n].ravel() if k != blank]
            paths = (q for q in product(range(p.shape[2]), repeat=len(p)) if said(q, blank) == target)
            likely = sum(np.prod([p[t, n, k] for t, k in enumerate(q)]) for q in paths)
            losses.append(-np.log(likely) if likely else 0)  # of more labels than fit there is no path
        return np.mean(losses)

    return want


def share(blank):
    def want(scores, truth):
        right = 0
        for n in range(len(scores)):
            best = said(scores[n].reshape(*scores.shape[1:3]).argmax(1), blank)
            right += best == [int(k) for k in truth[n].ravel() if k != blank]
        return right / len(scores)

    return want


def decoded(blank, merged=True):
    def want(scores, flags):
        steps, n, classes = scores.shape[:3]
        y = np.full((n, steps, 1, 1), -1.0)
        for s in range(n):
            length = next((t for t in range(1, steps) if flags[t, s] == 0), steps)
            best = said(scores[:length, s].argmax(1), blank % classes, merged)
            y[s, : len(best), 0, 0] = best
        return y

    return want


def given(*rows):
    return lambda rng, shape: np.array(rows, float).reshape(shape)


def few(rng, shape):
    """Scores of which sequences often say what the labels tell."""
    x = 0.1 * rng.random(shape)
    x[:, :, 0] += 0.08
    return x


FIELDS = "alphabet_size: 3 time_step: 4"
ACCURACY = 'type: "LabelsequenceAccuracy" labelsequence_accuracy_param { }'
TRUTH = given([1, 2, 0], [2, 2, 0], [1, 0, 0])
DECODER = 'type: "CTCGreedyDecoder" ctc_decoder_param { %s }'
FLAGS = given([0, 0, 1], [1, 1, 1], [1, 0, 1], [1, 1, 1], [0, 1, 1])
ROWS = [
    Row("blank 0", ctc(FIELDS), [(4, 3, 3), (3, 3)], [()], total(0), feed={1: TRUTH}, gradient=False),
    Row(
        "fill between",
        ctc(FIELDS + " blank_label: 2"),
        [(4, 2, 3), (2, 3)],
        [()],
        total(2),
        feed={1: given([2, 1, 0], [2, 0, 2])},
        gradient=False,
    ),
    Row(
        "fewer steps",
        ctc("alphabet_size: 3 time_step: 3"),
        [(5, 1, 3), (1, 2, 1, 1)],
        [()],
        total(0, 3),
        feed={1: given([1, 2])},
    ),
    Row(
        "more labels than fit",
        ctc(FIELDS),
        [(4, 2, 3), (2, 3)],
        [()],
        total(0),
        feed={1: given([1, 1, 1], [1, 2, 2])},
        gradient=False,
    ),
    Row("nothing fits", ctc(FIELDS), [(4, 1, 3), (1, 3)], [()], total(0), feed={1: given([1, 1, 1])}),
    Row("accuracy", ACCURACY, [(3, 2, 3), (3, 3)], [()], share(0), feed={1: TRUTH}, gradient=False),
    Row(
        "accuracy, some right",
        ACCURACY,
        [(40, 3, 2, 1), (40, 1)],
        [()],
        share(0),
        feed={0: few, 1: given([0, 1] * 20)},
        gradient=False,
    ),
    Row("decoder", DECODER % "", [(5, 3, 4), (5, 3)], [(3, 5, 1, 1)], decoded(-1), feed={1: FLAGS}, gradient=False),
    Row(
        "decoder, not merged",
        DECODER % "blank_index: 1 ctc_merge_repeated: false",
        [(5, 3, 4), (5, 3)],
        [(3, 5, 1, 1)],
        decoded(1, False),
        feed={1: FLAGS},
        gradient=False,
    ),
]
BAD = [
    Bad(
        "alphabet",
        ctc("alphabet_size: 4 time_step: 4"),
        [(4, 2, 3), (2, 3)],
        "alphabet_size does not fit",
        at="alphabet_size",
    ),
    Bad("no alphabet", ctc("time_step: 4"), [(4, 2, 3), (2, 3)], "alphabet_size must be positive"),
    Bad("steps", ctc("alphabet_size: 3 time_step: 5"), [(4, 2, 3), (2, 3)], "time_step does not fit", at="time_step"),
    Bad("blank", ctc(FIELDS + " blank_label: 3"), [(4, 2, 3), (2, 3)], "blank_label is out of range", at="blank_label"),
    Bad("labels", ctc(FIELDS), [(4, 2, 3), (3, 3)], "bottom 1 has the wrong shape"),
    Bad("batch", ACCURACY, [(4, 2, 3), (3, 3)], "the same first axis"),
    Bad("no label", ACCURACY, [(3, 2, 3), (3, 0)], "the bottom is empty"),
    Bad("flags", DECODER % "", [(5, 3, 4), (5, 2)], "bottom 1 has the wrong shape"),
    Bad(
        "blank index", DECODER % "blank_index: 4", [(5, 3, 4), (5, 3)], "blank_index is out of range", at="blank_index"
    ),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)


def test_the_gradient_is_that_of_the_sum():
    text = prototxt(ctc(FIELDS), [(4, 2, 3), (2, 2)], 1)
    net = netcompiler.compile(netcompiler.parse(text), optimize=False, device="cpu", dtype="float64")
    x = np.random.default_rng(0).standard_normal((4, 2, 3))
    truth = np.array([[1.0, 2], [2, 0]])
    fed = torch.tensor(x, requires_grad=True)
    net.loss(net(fed, truth)).backward()
    step = np.zeros_like(x)
    step[1, 0, 2] = 1e-6
    slope = (total(0)(x + step, truth) - total(0)(x - step, truth)) / 2e-6
    np.testing.assert_allclose(fed.grad[1, 0, 2], 2 * slope, rtol=1e-5)
