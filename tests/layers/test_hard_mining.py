import numpy as np

from .table import Bad, Row, suite


def mining(per_image, images):
    return f'type: "HardMining" hard_mining_param {{ num_roi_per_image: {per_image} num_image: {images} }}'


def kept(per_image, images):
    def want(scores, rois, *others):
        found, left = [], []
        pairs = [(s, i) for i, s in enumerate(scores.ravel())]
        for image in range(images):
            own = sorted((p for p in pairs if int(rois[p[1]].ravel()[0]) == image), reverse=True)
            found += own[:per_image]
            left += own[per_image:]
        room = min(len(rois), per_image * images) - len(found)
        rows = sorted(i for _, i in found + sorted(left, reverse=True)[: max(room, 0)])
        return [b[rows].reshape(len(rows), *(*b.shape[1:], 1, 1, 1)[:3]) for b in (rois, *others)]

    return want


def regions(*images):
    return lambda rng, shape: np.concatenate(
        (np.array(images, float)[:, None], rng.random((len(images), 4))), 1
    ).reshape(shape)


def few(rng, shape):
    return rng.integers(0, 3, shape).astype(float)


S, R = (7,), (7, 5)
EVEN, UNEVEN = regions(0, 1, 0, 1, 0, 0, 1), regions(0, 1, 0, 0, 0, 0, 0)
ROWS = [
    Row(
        "each",
        mining(2, 2),
        [S, R, (7, 2, 3)],
        [(4, 5, 1, 1), (4, 2, 3, 1)],
        kept(2, 2),
        feed={1: EVEN},
        gradient=False,
    ),
    Row("equal scores", mining(2, 2), [S, R], [(4, 5, 1, 1)], kept(2, 2), feed={0: few, 1: EVEN}, gradient=False),
    Row("filled up", mining(2, 2), [(7, 1), R], [(4, 5, 1, 1)], kept(2, 2), feed={1: UNEVEN}, gradient=False),
    Row("all", mining(9, 2), [S, (7, 5, 1, 1)], [(7, 5, 1, 1)], kept(9, 2), feed={1: EVEN}, gradient=False),
]
BAD = [
    Bad("none", mining(0, 2), [S, R], "num_roi_per_image must be positive", at="num_roi"),
    Bad("tops", mining(2, 2), [S, R], "the wrong number of tops", tops=2),
    Bad("regions", mining(2, 2), [S, (7, 4)], "bottom 1 has no rows of 5"),
    Bad("counts", mining(2, 2), [S, R, (6, 2)], "bottom 2 has the wrong shape", tops=2),
    Bad("scores", mining(2, 2), [(7, 2), R], "bottom 0 has the wrong shape"),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)
