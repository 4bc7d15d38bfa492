from math import sqrt

import numpy as np
import torch

import netcompiler

from .table import Bad, Row, prototxt, suite

MAP, PICTURE = (1, 4, 3, 5), (1, 3, 60, 90)


def priors(sizes, image=(60, 90), step=None, offset=0.5, clip=False, variance=(0.1,) * 4):
    """Box by box; `sizes` are widths and heights."""

    def want(x, *_):
        rows, columns = x.shape[2:]
        high, wide = step or (image[0] / rows, image[1] / columns)
        boxes, spread = [], []
        for i in range(rows):
            for j in range(columns):
                for w, h in sizes:
                    x0, y0 = (j + offset) * wide, (i + offset) * high
                    box = [
                        (x0 - w / 2) / image[1],
                        (y0 - h / 2) / image[0],
                        (x0 + w / 2) / image[1],
                        (y0 + h / 2) / image[0],
                    ]
                    boxes += [min(max(v, 0), 1) for v in box] if clip else box
                    spread += variance
        return np.array([[boxes, spread]])

    return want


def square(side):
    return (side, side)


def ratio(side, r):
    return (side * sqrt(r), side / sqrt(r))


def layer(fields, kind="PriorBox"):
    return f'type: "{kind}" prior_box_param {{ {fields} }}'


def row(name, fields, want, boxes, bottoms=(MAP, PICTURE), kind="PriorBox"):
    return Row(name, layer(fields, kind), bottoms, [(1, 2, 4 * 15 * boxes)], want, gradient=False)


ROWS = [
    row("one, cut to a whole number", "min_size: 21.7", priors([square(21)]), 1),
    row("flip without ratios", "min_size: 20 flip: true", priors([square(20)]), 1),
    row("two", "min_size: 30 max_size: 60.9", priors([square(30), square(sqrt(30 * 60))]), 2),
    row(
        "ratios",
        "min_size: 30 max_size: 60 aspect_ratio: 2 aspect_ratio: 0.5 aspect_ratio: 1 aspect_ratio: 2",
        priors([square(30), square(sqrt(1800)), ratio(30, 2), ratio(30, 0.5)]),
        4,
    ),
    row(
        "no flip, two sizes",
        "min_size: 20 min_size: 40 aspect_ratio: 3 aspect_ratio: 2 flip: false",
        priors([square(20), ratio(20, 3), ratio(20, 2), square(40), ratio(40, 3), ratio(40, 2)]),
        6,
    ),
    row(
        "all else",
        "min_size: 50 img_h: 40 img_w: 70 step_h: 9 step_w: 11 offset: 0.25 clip: true variance: 1 variance: 2 variance: 3 "
        "variance: 4",
        priors([square(50)], (40, 70), (9, 11), 0.25, True, (1, 2, 3, 4)),
        1,
        (MAP,),
    ),
    row("square picture", "min_size: 5 img_size: 80 step: 7", priors([square(5)], (80, 80), (7, 7)), 1),
    row(
        "clustered",
        "width: 10.5 width: 20 height: 30 height: 5.5 clip: true step: 16 offset: 0 variance: 0.2",
        priors([(10.5, 30), (20, 5.5)], step=(16, 16), offset=0, clip=True, variance=(0.2,) * 4),
        2,
        kind="PriorBoxClustered",
    ),
]
BAD = [
    Bad("no size", layer(""), [MAP, PICTURE], "min_size is missing"),
    Bad("size 0", layer("min_size: 0"), [MAP, PICTURE], "min_size must be positive", at="min_size"),
    Bad("no end", layer("min_size: inf"), [MAP, PICTURE], "min_size must be positive", at="min_size"),
    Bad("ratio", layer("min_size: 1 aspect_ratio: inf"), [MAP, PICTURE], "must be positive", at="aspect_ratio"),
    Bad("no number", layer("min_size: 1 max_size: nan"), [MAP, PICTURE], "must be above min_size", at="max_size"),
    Bad(
        "max sizes",
        layer("min_size: 1 min_size: 2 max_size: 5"),
        [MAP, PICTURE],
        "wrong number of max_size",
        at="max_size",
    ),
    Bad("max below", layer("min_size: 4 max_size: 4"), [MAP, PICTURE], "must be above min_size", at="max_size"),
    Bad(
        "variances",
        layer("min_size: 4 variance: 1 variance: 2"),
        [MAP, PICTURE],
        "wrong number of values",
        at="variance",
    ),
    Bad("variance 0", layer("min_size: 4 variance: 0"), [MAP, PICTURE], "variance must be positive", at="variance"),
    Bad(
        "ratio",
        layer("min_size: 4 aspect_ratio: 0"),
        [MAP, PICTURE],
        "aspect_ratio must be positive",
        at="aspect_ratio",
    ),
    Bad(
        "image twice", layer("min_size: 4 img_size: 9 img_h: 9"), [MAP], "img_size and img_h are both given", at="img_h"
    ),
    Bad("half an image", layer("min_size: 4 img_h: 9"), [MAP], "img_w must be positive", at="img_h"),
    Bad("step 0", layer("min_size: 4 step: 0"), [MAP, PICTURE], "step must be positive", at="step"),
    Bad("no picture", layer("min_size: 4"), [MAP], "the size of the picture is not known"),
    Bad("axes", layer("min_size: 4"), [(3, 5), PICTURE], "too few axes"),
    Bad("empty", layer("min_size: 4"), [(1, 4, 0, 5), PICTURE], "the feature map is empty"),
    Bad(
        "clusters", layer("width: 4 width: 5 height: 6", "PriorBoxClustered"), [MAP, PICTURE], "wrong number of height"
    ),
    Bad("no clusters", layer("", "PriorBoxClustered"), [MAP, PICTURE], "wrong number of width"),
    Bad(
        "flat", layer("width: 4 height: 0", "PriorBoxClustered"), [MAP, PICTURE], "height must be positive", at="height"
    ),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)


def test_follows_the_shapes_and_passes_no_gradient():
    net = netcompiler.compile(netcompiler.parse(prototxt(layer("min_size: 9"), [MAP, PICTURE], 1)), device="cpu")
    top = net(torch.zeros(2, 1, 2, 2, requires_grad=True), torch.zeros(2, 1, 9, 18))["t0"]
    np.testing.assert_allclose(top, priors([square(9)], (9, 18))(np.zeros((2, 1, 2, 2))), rtol=1e-6)
    assert not top.requires_grad


def test_shows_its_boxes():
    text = prototxt(layer("min_size: 30 max_size: 60"), [MAP, PICTURE], 1)
    told = netcompiler.build(netcompiler.parse(text)).nodes[-1].layer
    assert told.settings() == {"boxes": "30x30, 42.43x42.43"}
    assert told.brief() == "2 boxes a pixel"
