"""DetectionLoss and DetectionAccuracy of MS-CNN."""

from __future__ import annotations

from dataclasses import dataclass
from math import log, sqrt
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..graph import Shapes, dims
from ..text import Msg
from .base import Layer, exactly, layer, refuse_gradient
from .boxes import iou
from .decode_bbox import PLAIN, Four, normalised
from .softmax_with_loss import LOG_FLT_MIN

if TYPE_CHECKING:
    from torch import Tensor

MODES = ("random", "bootstrap", "mixture")  # all others: every background counts
LEAST_SIDE = 2.0


@layer("DetectionLoss")
@dataclass(frozen=True, slots=True)
class DetectionLoss(Layer):
    """The loss of a detection head: of its classes at each place, and of its boxes at objects (MS-CNN).

    bottom[0]: N x (K + 4) x H x W: scores of K classes, background first, and dx, dy, dw, dh
    bottom[1]: N x 6 x H x W: class, centre x, y, width, height, and the largest overlap of a background with an object
    top: 1 x 1 x 1 x 2: the loss (weighted 1 unless the net says otherwise), and lambda times the boxes' part, which has
    no gradient
    loss = -1/n sum of w log(max(p, FLT_MIN)) + lambda / (4 m) sum of f(d - wanted). The first over the m objects and the
    backgrounds that are sampled, n in all, p being the softmax of the place's class; the second over the four numbers of
    objects: wanted is the centre's way from the place, in fields, and the logarithm of the side (2 at least) in fields,
    less mean, by std; d is kept within the bounds of BoxOutput, mean and std being averaged there, and its gradient passes
    all the same. f is smooth L1 (d^2 / 2 up to 1, then |d| - 1/2), or d^2 / 2 with bb_smooth false.
    objectness: all classes but the background count as class 1. Positions labelled ignore_label add nothing.
    sample_mode: backgrounds below bg_threshold, "random": drawn with replacement, bg_multiple for each of the image's
    objects, 4 (K - 1) at least; "bootstrap": for each class the bg_multiple with the largest scores for each of its
    objects, 4 at least; "mixture": half of each; all others: every one.
    w is 1; with iou_weighted the last channel at objects; with pos_neg_weighted objects and backgrounds are scaled to
    weigh 1 : bg_multiple together.
    The forks that have YOLO's layers mean something else by the name.
    Source: zhaoweicai/mscnn, src/caffe/layers/detection_loss_layer.cpp.
    """

    category = "loss"
    n_bottom = (2, 2)
    is_loss = True
    anonymous_tops = True
    no_gradient = (1,)

    cls_num: int
    field: tuple[float, float]
    stride: float
    lambda_: float = 1
    bb_smooth: bool = True
    field_whr: float = 2
    field_xyr: float = 2
    bg_threshold: float = 0.5
    bg_multiple: int = 4
    sample_mode: str = "random"
    objectness: bool = False
    iou_weighted: bool = False
    pos_neg_weighted: bool = False
    ignore_label: int | None = None
    mean: Four = PLAIN[0]
    std: Four = PLAIN[1]

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.detection_loss_param
        checked(p)
        mean, std = normalised(msg)
        return cls(
            p.cls_num,
            (float(p.field_w), float(p.field_h)),
            float(p.downsample_rate),
            float(getattr(p, "lambda")),
            p.bb_smooth,
            float(p.field_whr),
            float(p.field_xyr),
            float(p.bg_threshold),
            p.bg_multiple,
            p.sample_mode,
            p.objectness,
            p.iou_weighted,
            p.pos_neg_weighted,
            msg.loss_param.ignore_label if msg.loss_param.has("ignore_label") else None,
            mean,
            std,
        )

    def tops(self, bottoms: Shapes) -> Shapes:
        check_head(bottoms, self.cls_num)
        return ((1, 1, 1, 2),)

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        import torch

        head, known = bottoms[0], bottoms[1].detach()
        head = head.to(torch.promote_types(head.dtype, torch.float32))
        truth, overlap = known[:, 0].long(), known[:, -1]
        drawn = self.sampled(head.detach(), truth, overlap)
        kinds = truth.clamp(max=1) if self.objectness else truth
        valid = (
            kinds != self.ignore_label if self.ignore_label is not None else torch.ones_like(kinds, dtype=torch.bool)
        )
        counts = valid & ((kinds != 0) | drawn)
        logs = head[:, : self.cls_num].log_softmax(1).gather(1, kinds.clamp(0, self.cls_num - 1)[:, None])[:, 0]
        logs = torch.where(logs < LOG_FLT_MIN, logs - logs.detach() + LOG_FLT_MIN, logs)
        weights = self.weights(truth, overlap.to(head.dtype), drawn)
        classes = -(logs * weights * counts).sum() / counts.sum().clamp(min=1)
        objects = (truth != 0) & self.kept(truth)
        away = self.away(head[:, self.cls_num :], known[:, 1:5].to(head.dtype)) * objects[:, None]
        squares = away * away / 2
        errors = squares.where(away.abs() < 1, away.abs() - 0.5) if self.bb_smooth else squares
        boxes = self.lambda_ * errors.sum() / (4 * objects.sum()).clamp(min=1)
        top = torch.stack((classes + boxes, boxes.detach())).reshape(1, 1, 1, 2)
        return refuse_gradient(top, bottoms[1], "DetectionLoss passes no gradient to its labels")

    def kept(self, labels: Tensor) -> Tensor:
        """Which labels are not ignored."""
        import torch

        return torch.ones_like(labels, dtype=torch.bool) if self.ignore_label is None else labels != self.ignore_label

    def sampled(self, head: Tensor, truth: Tensor, overlap: Tensor) -> Tensor:
        """Which backgrounds count: N x H x W."""
        import torch

        free = (truth == 0) & (overlap < self.bg_threshold)
        if self.sample_mode not in MODES:
            return free
        share = 0.5 if self.sample_mode == "mixture" else 1.0
        kinds = truth.clamp(max=1) if self.objectness else truth
        drawn = torch.zeros_like(free).flatten(1)
        for i, place in enumerate(free.flatten(1)):
            own = kinds[i].flatten()
            if self.sample_mode != "bootstrap":
                count = max(int(int((own != 0).sum()) * self.bg_multiple * share), 4 * (self.cls_num - 1))
                drawn[i, torch.randint(len(place), (count,), device=place.device)] = True
            for k in range(1, self.cls_num if self.sample_mode != "random" else 1):
                count = max(4, int(int((own == k).sum()) * self.bg_multiple * share))
                scores = head[i, k].flatten().masked_fill(~place, -torch.inf)
                drawn[i, scores.topk(min(count, int(place.sum()))).indices] = True
        return drawn.reshape(free.shape) & free

    def weights(self, truth: Tensor, overlap: Tensor, drawn: Tensor) -> Tensor:
        """What each place's class weighs: N x H x W."""
        import torch

        weights = torch.ones_like(overlap)
        objects = truth != 0
        if self.iou_weighted:
            weights = overlap.where(objects, weights)
        if self.pos_neg_weighted:
            total, rest = (weights * objects).sum(), (weights * (drawn & ~objects)).sum()
            share, count = 1 / (1 + self.bg_multiple), drawn.sum() + objects.sum()
            of_rest = (1 - share) * count / rest.where(rest > 0, 1)  # without any, nothing is weighed by it
            scale = torch.where(objects, share * count / total.where(total > 0, 1), of_rest)
            weights = weights * scale.where(total != 0, 1)
        return weights

    def away(self, deltas: Tensor, box: Tensor) -> Tensor:
        """How far the deltas are from those wanted, N x 4 x H x W; the bounds leave the gradient as it is."""
        import torch

        field = deltas.new_tensor(self.field)[:, None, None]
        move = (box[:, :2] - centres(deltas, self.stride)) / field
        wanted = torch.cat((move, (box[:, 2:].clamp(min=LEAST_SIDE) / field).log()), 1)
        mean, std = (deltas.new_tensor(v)[:, None, None] for v in (self.mean, self.std))
        low, high = [], []
        for k, most in ((0, 1 / self.field_xyr), (2, log(self.field_whr))):
            middle, spread = (self.mean[k] + self.mean[k + 1]) / 2, sqrt(self.std[k] * self.std[k + 1])
            low += [(-most - middle) / spread] * 2
            high += [(most - middle) / spread] * 2
        ends = (deltas.new_tensor(v)[:, None, None] for v in (low, high))
        kept = deltas.detach().clamp(*ends)
        return deltas - deltas.detach() + kept - (wanted - mean) / std


@layer("DetectionAccuracy")
@dataclass(frozen=True, slots=True)
class DetectionAccuracy(Layer):
    """How often a detection head is right, and how well its boxes fit (MS-CNN).

    bottom[0]: N x (K + 4) x H x W: scores of K classes, background first, and dx, dy, dw, dh
    bottom[1]: N x 6 x H x W: class, centre x, y, width, height, and the largest overlap of a background with an object
    top[0]: 1 x 1 x 1 x 2: the share of places whose class is among the top_k of largest score, and that of objects
    top[1], if named: 1 x 1 x 1 x 1, the mean overlap of objects with their boxes.  -1 where there is nothing to count.
    Backgrounds with an overlap of bg_threshold or more, and positions labelled ignore_label, do not count. objectness: all
    classes but the background count as class 1. Deltas are bounded as in BoxOutput, without mean and deviation.
    Source: zhaoweicai/mscnn, src/caffe/layers/detection_accuracy_layer.cpp.
    """

    category = "loss"
    n_bottom = (2, 2)
    n_top = (1, 2)
    no_gradient = (0, 1)
    ignored = frozenset({"engine", "bbox_reg_param"})

    cls_num: int
    field: tuple[float, float]
    stride: float
    top_k: int = 1
    field_whr: float = 2
    field_xyr: float = 4
    bg_threshold: float = 0.5
    objectness: bool = False
    ignore_label: int | None = None
    overlap: bool = False

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.detection_accuracy_param
        checked(p)
        if not 1 <= p.top_k <= p.cls_num:
            raise NetError("top_k is out of range", at=p.at("top_k"), expected=f"1 to {p.cls_num}", got=p.top_k)
        return cls(
            p.cls_num,
            (float(p.field_w), float(p.field_h)),
            float(p.downsample_rate),
            p.top_k,
            float(p.field_whr),
            float(p.field_xyr),
            float(p.bg_threshold),
            p.objectness,
            msg.loss_param.ignore_label if msg.loss_param.has("ignore_label") else None,
            len(msg.top) > 1,
        )

    def tops(self, bottoms: Shapes) -> Shapes:
        check_head(bottoms, self.cls_num)
        return ((1, 1, 1, 2), (1, 1, 1, 1))[: 1 + self.overlap]

    def forward(self, m: Any, *bottoms: Tensor) -> tuple[Tensor, ...]:
        import torch

        exact = torch.promote_types(bottoms[0].dtype, torch.float32)
        head, known = (b.detach().to(exact) for b in bottoms)
        truth = known[:, 0].long()
        kinds = truth.clamp(max=1) if self.objectness else truth
        counts = (kinds != 0) | (known[:, -1] < self.bg_threshold)
        objects = truth != 0
        if self.ignore_label is not None:
            counts, objects = counts & (kinds != self.ignore_label), objects & (truth != self.ignore_label)
        scores = head[:, : self.cls_num]
        own = scores.gather(1, kinds.clamp(0, self.cls_num - 1)[:, None])
        place = torch.arange(self.cls_num, device=head.device)[:, None, None]
        before = ((scores > own) | ((scores == own) & (place > kinds[:, None]))).sum(
            1
        )  # of equals the last comes first
        right = counts & (before < self.top_k) & (kinds < self.cls_num)
        tops = [torch.stack((share_of(right, counts), share_of(right & (kinds != 0), counts & (kinds != 0))))]
        if self.overlap:
            field = head.new_tensor(self.field)[:, None, None]
            most, grown = 1 / self.field_xyr, log(self.field_whr)
            deltas = head[:, self.cls_num :]
            centre = deltas[:, :2].clamp(-most, most) * field + centres(deltas, self.stride)
            size = deltas[:, 2:].clamp(-grown, grown).exp() * field
            boxes = torch.cat((centre - size / 2, centre + size / 2), 1)
            wanted = torch.cat((known[:, 1:3] - known[:, 3:5] / 2, known[:, 1:3] + known[:, 3:5] / 2), 1)
            first, second = (b.permute(0, 2, 3, 1).reshape(-1, 1, 4) for b in (boxes, wanted))
            tops.append(share_of(iou(first, second).reshape(truth.shape) * objects, objects)[None])
        return tuple(t.reshape(1, 1, 1, -1) for t in tops)


def share_of(found: Tensor, of: Tensor) -> Tensor:
    """The sum of one over the count of the other; -1 where that is 0."""
    import torch

    count = of.sum()
    share = found.sum() / count.clamp(min=1)
    return torch.where(count > 0, share, -1.0).to(torch.promote_types(found.dtype, torch.float32))


def centres(deltas: Tensor, stride: float) -> Tensor:
    """x and y of the middle of each place in the image: 2 x H x W."""
    import torch

    h, w = deltas.shape[2:]
    down, right = ((torch.arange(n, dtype=deltas.dtype, device=deltas.device) + 0.5) * stride for n in (h, w))
    return torch.stack((right.expand(h, w), down[:, None].expand(h, w)))


def checked(p: Msg) -> None:
    """Raises: NetError for settings of a head that make no sense."""
    for name in ("cls_num", "field_h", "field_w", "downsample_rate", "field_whr", "field_xyr"):
        if getattr(p, name) <= 0:
            what = f"{name} must be positive" if p.has(name) else f"{name} is missing"
            raise NetError(what, at=p.at(name))
    if p.coord_num != 4:
        raise NetError("coord_num must be 4", at=p.at("coord_num"), got=p.coord_num)
    if p.objectness and p.cls_num != 2:
        raise NetError("objectness is for two classes", at=p.at("objectness"), expected="cls_num: 2", got=p.cls_num)


def check_head(bottoms: Shapes, classes: int) -> None:
    """Raises: NetError unless bottom 0 has scores and deltas, and bottom 1 the labels, of the same places."""
    for i, channels in enumerate((classes + 4, 6)):
        exactly(4, bottoms, i)
        n, _, h, w = bottoms[0]
        if bottoms[i] != (n, channels, h, w):
            raise NetError(f"bottom {i} does not fit", expected=dims((n, channels, h, w)), got=dims(bottoms[i]))
