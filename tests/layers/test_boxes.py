"""Overlaps and suppression, against loops over boxes."""

import numpy as np
import pytest
import torch

from netcompiler.layers import boxes


def overlap(a, b, one=0.0, over="union", meeting=False):
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if meeting and (wide < 0 or high < 0):
        return 0.0
    common = max(wide + one, 0) * max(high + one, 0)
    sizes = [max(x[2] - x[0] + one, 0) * max(x[3] - x[1] + one, 0) for x in (a, b)]
    whole = {"union": sum(sizes) - common, "smaller": min(sizes), "first": sizes[0], "second": sizes[1]}[over]
    return common / whole if common else 0.0


def suppressed(found, threshold, eta=1.0, limit=None, equal=False, **how):
    kept = []
    for i, box in enumerate(found):
        shares = [overlap(found[k], box, **how) for k in kept]
        if all(s < threshold if equal else s <= threshold for s in shares):
            kept.append(i)
            if eta < 1 and threshold > 0.5:
                threshold *= eta
        if limit and len(kept) == limit:
            break
    return kept


def some(count, seed=0):
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 40, (count, 2))
    return np.concatenate([corner, corner + rng.uniform(-2, 30, (count, 2))], 1)


HOWS = [{"one": one, "over": over, "meeting": m} for one in (0.0, 1.0) for over in boxes.OVERS for m in (False, True)]


@pytest.mark.parametrize("how", HOWS, ids=lambda h: "-".join(map(str, h.values())))
def test_iou_and_nms(how):
    a, b = some(9), some(11, 1)
    want = [[overlap(x, y, **how) for y in b] for x in a]
    np.testing.assert_allclose(boxes.iou(torch.from_numpy(a), torch.from_numpy(b), **how), want, atol=1e-12)
    found = some(120, 2)
    for threshold in (0.3, 0.7):
        assert boxes.nms(torch.from_numpy(found), threshold, **how).tolist() == suppressed(found, threshold, **how)


@pytest.mark.parametrize("options", [{"eta": 0.9}, {"limit": 5}, {"eta": 0.5, "limit": 30}, {"equal": True}])
def test_nms_options(options):
    found = some(150, 3)
    assert boxes.nms(torch.from_numpy(found), 0.8, **options).tolist() == suppressed(found, 0.8, **options)


def test_equal_to_the_threshold():
    found = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 2]])  # overlap exactly a half
    assert boxes.nms(found, 0.5).tolist() == [0, 1]
    assert boxes.nms(found, 0.5, equal=True).tolist() == [0]


def test_nothing():
    assert boxes.nms(torch.zeros(0, 4), 0.5).tolist() == []


@pytest.mark.parametrize("one", [0, 1])
def test_decode_is_the_inverse_of_encode(one):
    a, b = torch.from_numpy(some(50)), torch.from_numpy(some(50, 1))
    a[:, 2:], b[:, 2:] = a[:, :2] + 3, b[:, :2] + 7
    torch.testing.assert_close(boxes.decode(a, boxes.encode(a, b, one), one, back=one), b)


def test_by_score_keeps_the_order_of_equals():
    assert boxes.by_score(torch.tensor([1.0, 2, 1, 2, 3]), 4).tolist() == [4, 1, 3, 0]


def test_clip():
    found = boxes.clip(torch.tensor([[-3.0, 2, 50, 60]]), 20, torch.tensor(30.0))
    assert found.tolist() == [[0, 2, 30, 20]]
