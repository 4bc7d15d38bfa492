"""Boxes: areas, overlaps, the step between boxes and deltas, and greedy non-maximum suppression.

A box is x1, y1, x2, y2. `one` is 1 where the last column and row belong to the box, so that it is x2 - x1 + 1 wide, as
R-CNN and its heirs count pixels, and 0 where the numbers are mere lines, as in SSD and YOLO.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import NetError
from ..graph import Array

if TYPE_CHECKING:
    from torch import Tensor

OVERS = ("union", "smaller", "first", "second")  # what the common area of two boxes is divided by


def not_exported(kind: str) -> None:
    """Raises: NetError while a graph is exported: how many boxes a layer of this kind finds is no part of one."""
    import torch

    if torch.compiler.is_exporting():
        what = f"{kind} has as many rows as it finds, and cannot be exported: choose its bottoms as outputs"
        raise NetError(what, hint="outputs=[...], or --outputs")


def areas(boxes: Tensor, one: float = 0) -> Tensor:
    """The area of each of ... x 4 boxes; 0 where x2 or y2 comes first.

    >>> import torch
    >>> areas(torch.tensor([[0.0, 0, 2, 3], [1, 1, 0, 5]]))
    tensor([6., 0.])
    """
    sides = (boxes[..., 2:] - boxes[..., :2] + one).clamp(min=0)
    return sides[..., 0] * sides[..., 1]


def iou(a: Tensor, b: Tensor, one: float = 0, over: str = "union", meeting: bool = False) -> Tensor:
    """The overlap of each box of a (... x n x 4) with each of b (... x m x 4), ... x n x m: common area / union.

    over: "smaller", "first" and "second" divide by the smaller area, by a's and by b's. Boxes without a common area
    overlap by 0.  meeting: so do those that are less than `one` apart, although both hold the pixel between.

    >>> import torch
    >>> iou(torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([[0.0, 1, 2, 3], [5, 5, 6, 6]]))
    tensor([[0.3333, 0.0000]])
    """
    import torch

    first, second = a[..., :, None, :], b[..., None, :, :]
    sides = torch.minimum(first[..., 2:], second[..., 2:]) - torch.maximum(first[..., :2], second[..., :2])
    common = ((sides + one).clamp(min=0) * ((sides >= 0) | (not meeting))).prod(-1)
    area, other = areas(first, one), areas(second, one)
    if over == "union":
        whole = area + other - common
    else:
        whole = torch.minimum(area, other) if over == "smaller" else area if over == "first" else other
    some = common > 0
    return common / whole.where(some, 1)


def decode(boxes: Tensor, deltas: Tensor, one: float = 0, back: float = 0) -> Tensor:
    """Boxes moved by deltas dx, dy, dw, dh (both ... x 4, they broadcast): centre + d size, size exp(d).

    back: what is taken off x2 and y2 at last.

    >>> import torch
    >>> decode(torch.tensor([0.0, 0, 10, 20]), torch.tensor([0.5, 0, 0, 0]))
    tensor([ 5.,  0., 15., 20.])
    """
    import torch

    size = boxes[..., 2:] - boxes[..., :2] + one
    centre = boxes[..., :2] + 0.5 * size + deltas[..., :2] * size
    half = 0.5 * (deltas[..., 2:].exp() * size)
    return torch.cat((centre - half, centre + half - back), -1)


def encode(boxes: Tensor, wanted: Tensor, one: float = 0) -> Tensor:
    """The deltas that `decode` makes `wanted` of `boxes` with (back being 0 and wanted's x2, y2 grown by `one`).

    >>> import torch
    >>> encode(torch.tensor([0.0, 0, 10, 20]), torch.tensor([5.0, 0, 15, 20]))
    tensor([0.5000, 0.0000, 0.0000, 0.0000])
    """
    import torch

    size, other = (b[..., 2:] - b[..., :2] + one for b in (boxes, wanted))
    move = (wanted[..., :2] + 0.5 * other) - (boxes[..., :2] + 0.5 * size)
    return torch.cat((move / size, (other / size).log()), -1)


def from_priors(priors: Tensor, variance: Tensor | float, codes: Tensor, code_type: str) -> Tensor:
    """Boxes that SSD's codes stand for, all ... x 4. CORNER: prior + v code; CORNER_SIZE: v code in parts of the prior's
    sides; CENTER_SIZE: `decode` by v code.

    >>> import torch
    >>> from_priors(torch.tensor([0.0, 0, 10, 20]), 0.1, torch.tensor([5.0, 0, 0, 0]), "CORNER_SIZE")
    tensor([ 5.,  0., 10., 20.])
    """
    codes = codes * variance
    if code_type == "CENTER_SIZE":
        return decode(priors, codes)
    return priors + (codes if code_type == "CORNER" else codes * _sides(priors))


def to_priors(priors: Tensor, variance: Tensor | float, boxes: Tensor, code_type: str) -> Tensor:
    """The codes that `from_priors` makes `boxes` of.

    >>> import torch
    >>> to_priors(torch.tensor([0.0, 0, 10, 20]), 0.1, torch.tensor([5.0, 0, 10, 20]), "CORNER_SIZE")
    tensor([5., 0., 0., 0.])
    """
    if code_type == "CENTER_SIZE":
        return encode(priors, boxes) / variance
    return (boxes - priors) / (1 if code_type == "CORNER" else _sides(priors)) / variance


def _sides(boxes: Tensor) -> Tensor:
    """Width, height, width, height of each box."""
    import torch

    return torch.cat((boxes[..., 2:] - boxes[..., :2],) * 2, -1)


def clip(boxes: Tensor, height: Any, width: Any) -> Tensor:
    """Boxes pulled into 0 .. width, 0 .. height, both ends included; numbers, or tensors that broadcast."""
    import torch

    ends = torch.stack([torch.as_tensor(v, dtype=boxes.dtype, device=boxes.device) for v in (width, height)] * 2, -1)
    return torch.minimum(boxes.clamp(min=0), ends.clamp(min=0))


def away_from_zero(x: Tensor) -> Tensor:
    """Rounded to whole numbers, halves away from 0, as C's `round` does.

    >>> import torch
    >>> away_from_zero(torch.tensor([0.5, -1.5, 0.49999997, 2.4]))
    tensor([ 1., -2.,  0.,  2.])
    """
    whole = x.trunc()
    return whole + x.sign() * ((x - whole).abs() >= 0.5)


def by_score(scores: Tensor, limit: int | None = None) -> Tensor:
    """The places of the scores from the largest down, of equals the first first; at most `limit` of them."""
    order = scores.argsort(descending=True, stable=True)
    return order if limit is None else order[:limit]


def nms(
    boxes: Tensor,
    threshold: float,
    *,
    one: float = 0,
    over: str = "union",
    meeting: bool = False,
    equal: bool = False,
    eta: float = 1,
    limit: int | None = None,
) -> Tensor:
    """Which of n x 4 boxes stay, as indices: each, in the order given, that overlaps no kept one by more than `threshold`.

    over, meeting: see `iou`; the kept box is the first.  equal: an overlap that equals the threshold is too much as well.
    eta: below 1 a threshold above 0.5 shrinks by this factor with each box that stays, for all comparisons to come.
    limit: stop when so many stay. Boxes to be preferred come first: see `by_score`. The numbers are compared on the CPU.

    >>> import torch
    >>> nms(torch.tensor([[0.0, 0, 2, 2], [0, 0, 2, 2.1], [1, 0, 3, 2]]), 0.5).tolist()
    [0, 2]
    """
    import torch

    exact = torch.float64 if boxes.dtype == torch.float64 else torch.float32
    left: Array = boxes.detach().to("cpu", exact).numpy()
    sides = np.maximum(left[:, 2:] - left[:, :2] + left.dtype.type(one), 0)
    area = sides[:, 0] * sides[:, 1]
    places = np.arange(len(left))
    worst = np.full(len(left), -1, left.dtype)  # the largest overlap with a kept box so far
    most: Any = left.dtype.type(threshold)
    kept: list[int] = []
    while len(places) and (limit is None or len(kept) < limit):
        kept.append(int(places[0]))
        box, size = left[0], area[0]
        left, area, places, worst = left[1:], area[1:], places[1:], worst[1:]
        np.maximum(worst, _overlap(box, size, left, area, one, over, meeting), out=worst)
        if eta < 1 and most > 0.5:
            most *= left.dtype.type(eta)
        stays = worst < most if equal else worst <= most
        left, area, places, worst = left[stays], area[stays], places[stays], worst[stays]
    return torch.tensor(kept, dtype=torch.long, device=boxes.device)


def _overlap(box: Array, size: Any, others: Array, area: Array, one: float, over: str, meeting: bool) -> Array:
    """`iou` of one box with others, in numpy."""
    kind = others.dtype.type
    wide = np.minimum(box[2], others[:, 2]) - np.maximum(box[0], others[:, 0])
    high = np.minimum(box[3], others[:, 3]) - np.maximum(box[1], others[:, 1])
    common = np.maximum(wide + kind(one), 0) * np.maximum(high + kind(one), 0)
    if meeting:
        common *= (wide >= 0) & (high >= 0)
    whole = {"first": np.full_like(area, size), "second": area, "smaller": np.minimum(size, area)}.get(over)
    if whole is None:
        whole = size + area - common
    overlap: Array = np.divide(common, whole, out=np.zeros_like(common), where=common > 0)
    return overlap
