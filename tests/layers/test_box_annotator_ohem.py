import numpy as np

from .table import Bad, Row, suite


def naive(limit, ignored=-1):
    def annotate(rois, losses, labels, weights):
        n, c = weights.shape[:2]
        images = rois.reshape(n, 5, -1)[:, 0].reshape(-1).astype(int)
        losses, flat = losses.reshape(-1), labels.reshape(-1)
        spatial = len(losses) // n
        kept = np.zeros(len(losses), bool)
        for image in set(images.tolist()):
            mine = [k for k in range(len(losses)) if images[k] == image]
            kept[sorted(mine, key=lambda k: -losses[k])[:limit]] = True
        chosen = np.where(kept, flat, ignored)
        shown = weights.reshape(n, c, spatial) * kept.reshape(n, 1, spatial)
        four = (*weights.shape, 1, 1)[:4]
        return [chosen.reshape(n, 1, *four[2:]), shown.reshape(four)]

    return annotate


def annotator(fields):
    return f'type: "BoxAnnotatorOHEM" box_annotator_ohem_param {{ {fields} }}'


def rois(rng, shape):
    rows = rng.uniform(0, 50, shape)
    rows[:, 0] = rng.integers(0, 3, rows[:, 0].shape)
    return rows


def losses(rng, shape):
    return rng.permutation(int(np.prod(shape))).reshape(shape).astype(float)


def bottoms(n, c, *image):
    return [(n, 5, *image), (n, 1, *image), (n, 1, *image), (n, c, *image)]


FEED = {0: rois, 1: losses}
ROWS = [
    Row(
        "rows",
        annotator("roi_per_img: 3"),
        bottoms(11, 8, 1, 1),
        [(11, 1, 1, 1), (11, 8, 1, 1)],
        naive(3),
        feed=FEED,
        gradient=False,
    ),
    Row(
        "two axes",
        annotator("roi_per_img: 2 ignore_label: 7"),
        [(9, 5), (9,), (9, 1), (9, 4)],
        [(9, 1, 1, 1), (9, 4, 1, 1)],
        naive(2, 7),
        feed=FEED,
        gradient=False,
    ),
    Row(
        "maps",
        annotator("roi_per_img: 4"),
        bottoms(3, 2, 3, 4),
        [(3, 1, 3, 4), (3, 2, 3, 4)],
        naive(4),
        feed=FEED,
        gradient=False,
    ),
    Row(
        "more than there are",
        annotator("roi_per_img: 99"),
        bottoms(5, 2, 1, 1),
        [(5, 1, 1, 1), (5, 2, 1, 1)],
        naive(99),
        feed=FEED,
        gradient=False,
    ),
]
BAD = [
    Bad("none", annotator(""), bottoms(5, 2, 1, 1), "roi_per_img must be positive", tops=2),
    Bad("regions", annotator("roi_per_img: 1"), [(5, 4), (5, 1), (5, 1), (5, 2)], "bottom 0 does not fit", tops=2),
    Bad("losses", annotator("roi_per_img: 1"), [(5, 5), (4, 1), (5, 1), (5, 2)], "bottom 1 does not fit", tops=2),
    Bad("weights", annotator("roi_per_img: 1"), [(5, 5), (5, 1), (5, 1), (5, 2, 2)], "bottom 3 does not fit", tops=2),
    Bad("one top", annotator("roi_per_img: 1"), bottoms(5, 2, 1, 1), "the wrong number of tops"),
]
test_row, _, test_bad = suite(ROWS, BAD)
