"""DetectionGroupLoss and DetectionGroupAccuracy, of Cascade R-CNN."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import log, sqrt
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..graph import Shapes, dims
from ..text import Msg
from .base import Layer, exactly, layer, refuse_gradient
from .boxes import by_score
from .decode_bbox import PLAIN, Four, normalised
from .detection_loss import LEAST_SIDE, centres, share_of
from .softmax_with_loss import LOG_FLT_MIN

if TYPE_CHECKING:
    from torch import Tensor

MINING = ("random", "bootstrap", "mixture")
RANKING = ("conf_loss", "conf_prob")
DISTANCES = ("Smooth_L1", "Euclidean_L2")
TRUTH = 6  # class, x, y, width, height, overlap


@dataclass(frozen=True, slots=True)
class Group(Layer):
    """What the two share: a detection head whose places have a group of fields each.

    bottom[0]: N G x K x H x W, scores of K classes, background first      bottom[1]: N G x 4 x H x W: dx, dy, dw, dh
    bottom[2]: N G x 6 x H x W: class, centre x, y, width, height, and the largest overlap of a background with an object
    """

    category = "loss"
    n_bottom = (3, 3)

    cls_num: int
    fields: tuple[tuple[float, float], ...]
    stride: float
    bg_threshold: float = 0.5
    objectness: bool = False
    ignore_label: int | None = None
    mean: Four = PLAIN[0]
    std: Four = PLAIN[1]

    @classmethod
    def common(cls, p: Msg, msg: Msg) -> dict[str, Any]:
        """The settings that both have. Raises: NetError."""
        for name in ("cls_num", "stride"):
            if getattr(p, name) < 1:
                raise NetError(f"{name} is missing", at=p.at(name) or p.at())
        wide, high = list(p.field_w), list(p.field_h)
        if not wide or len(wide) != len(high):
            got = f"{len(wide)} and {len(high)}"
            raise NetError(
                "field_w and field_h must be as many", at=p.at("field_w") or p.at(), expected="1 or more", got=got
            )
        if 0 in (*wide, *high):
            raise NetError("a field is empty", at=p.at("field_w"), expected="positive sides")
        if p.objectness and p.cls_num != 2:
            raise NetError("objectness is for two classes", at=p.at("objectness"), expected="cls_num: 2", got=p.cls_num)
        mean, std = normalised(msg)
        return {
            "cls_num": p.cls_num,
            "fields": tuple((float(w), float(h)) for w, h in zip(wide, high, strict=True)),
            "stride": float(p.stride),
            "bg_threshold": p.bg_threshold,
            "objectness": p.objectness,
            "ignore_label": msg.loss_param.ignore_label if msg.loss_param.has("ignore_label") else None,
            "mean": mean,
            "std": std,
        }

    def fits(self, bottoms: Shapes) -> None:
        """Raises: NetError unless the bottoms are of the same places, and their first axis has whole groups."""
        exactly(4, bottoms)
        n, _, h, w = bottoms[0]
        for i, channels in enumerate((self.cls_num, 4, TRUTH)):
            if bottoms[i] != (n, channels, h, w):
                raise NetError(f"bottom {i} does not fit", expected=dims((n, channels, h, w)), got=dims(bottoms[i]))
        if n % len(self.fields):
            expected = f"a multiple of {len(self.fields)}, the fields"
            raise NetError("the batch has no whole groups", expected=expected, got=n)

    def sides(self, like: Tensor) -> Tensor:
        """Width and height of the field of each map: N G x 2 x 1 x 1."""
        count = len(like) // len(self.fields)
        return like.new_tensor(self.fields).repeat(count, 1)[:, :, None, None]

    def spread(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation, 4 x 1 x 1."""
        mean, std = (like.new_tensor(v)[:, None, None] for v in (self.mean, self.std))
        return mean, std


@layer("DetectionGroupLoss")
@dataclass(frozen=True, slots=True)
class DetectionGroupLoss(Group):
    """The loss of a detection head with groups of fields: of its classes at each place, and of its boxes at objects.

    bottoms: see Group      top: 1 x 1 x 1 x 2: the loss, and lambda times the boxes' part, which has no gradient
    loss = -1/n sum of w log(max(p, FLT_MIN)) + lambda / (4 m) sum of f(d - wanted), as DetectionLoss's, over the n sampled
    places and the m objects of them. f is smooth L1, or with bbox_loss_type "Euclidean_L2" d^2 / 2; d is kept within the
    bounds of field_xyr and field_whr only where both are given.
    Sampled, of each image: with batch_size -1 all objects and bg_multiple as many backgrounds below bg_threshold, at least
    min_num_neg; else batch_size places, one in 1 + bg_multiple of them objects. Where there are more, objects are drawn,
    backgrounds by neg_mining_type drawn ("random"), those first whose loss ("conf_prob": 1 - p of background) is largest
    ("bootstrap"), or half and half ("mixture"). Positions labelled ignore_label add nothing.
    w is 1; with pos_neg_weighted objects and backgrounds are scaled to weigh 1 : bg_multiple together.
    Source: zhaoweicai/cascade-rcnn, src/caffe/layers/detection_group_loss_layer.cpp, src/caffe/util/bbox_util.cpp.
    """

    is_loss = True
    anonymous_tops = True
    no_gradient = (2,)

    lambda_: float = 1.0
    bounds: tuple[float, float] | None = None  # field_xyr, field_whr
    bg_multiple: int = 4
    neg_mining_type: str = "random"
    neg_ranking_type: str = "conf_loss"
    min_num_neg: int = 5
    batch_size: int = -1
    pos_neg_weighted: bool = False
    bbox_loss_type: str = field(default="Smooth_L1")

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.detection_group_loss_param
        for name, known in (("neg_mining_type", MINING), ("neg_ranking_type", RANKING), ("bbox_loss_type", DISTANCES)):
            if getattr(p, name) not in known:
                raise NetError(f"unknown {name}", at=p.at(name), expected=", ".join(known), got=getattr(p, name))
        if p.batch_size == 0 or p.batch_size < -1:
            raise NetError(
                "batch_size is out of range", at=p.at("batch_size"), expected="-1 or above 0", got=p.batch_size
            )
        bounded = [p.has(name) for name in ("field_xyr", "field_whr")]
        for name in ("field_xyr", "field_whr"):
            if getattr(p, name) <= 0:
                raise NetError(f"{name} must be positive", at=p.at(name), got=f"{getattr(p, name):g}")
        return cls(
            **cls.common(p, msg),
            lambda_=float(getattr(p, "lambda")),
            bounds=(p.field_xyr, p.field_whr) if all(bounded) else None,
            bg_multiple=p.bg_multiple,
            neg_mining_type=p.neg_mining_type,
            neg_ranking_type=p.neg_ranking_type,
            min_num_neg=p.min_num_neg,
            batch_size=p.batch_size,
            pos_neg_weighted=p.pos_neg_weighted,
            bbox_loss_type=p.bbox_loss_type,
        )

    def tops(self, bottoms: Shapes) -> Shapes:
        self.fits(bottoms)
        return ((1, 1, 1, 2),)

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        import torch

        exact = torch.promote_types(bottoms[0].dtype, torch.float32)
        scores, deltas = (b.to(exact) for b in bottoms[:2])
        known = bottoms[2].detach().to(exact)
        truth = known[:, 0].long()
        kinds = truth.clamp(max=1) if self.objectness else truth
        logs = scores.log_softmax(1).gather(1, kinds.clamp(0, self.cls_num - 1)[:, None])[:, 0]
        logs = torch.where(logs < LOG_FLT_MIN, logs - logs.detach() + LOG_FLT_MIN, logs)
        kept = self.sampled(scores.detach(), -logs.detach(), truth, known[:, -1])
        counts = kept & (kinds != self.ignore_label) if self.ignore_label is not None else kept
        classes = -(logs * self.weights(truth, kept) * counts).sum() / counts.sum().clamp(min=1)
        objects = kept & (truth != 0)
        if self.ignore_label is not None:
            objects = objects & (truth != self.ignore_label)
        away = self.away(deltas, known[:, 1:5]) * objects[:, None]
        errors = away * away / 2
        if self.bbox_loss_type == "Smooth_L1":
            errors = errors.where(away.abs() < 1, away.abs() - 0.5)
        boxes = self.lambda_ * errors.sum() / (4 * objects.sum()).clamp(min=1)
        top = torch.stack((classes + boxes, boxes.detach())).reshape(1, 1, 1, 2)
        return refuse_gradient(top, bottoms[2], f"{self.kind} passes no gradient to its labels")

    def sampled(self, scores: Tensor, losses: Tensor, truth: Tensor, overlap: Tensor) -> Tensor:
        """Which places count: N G x H x W."""
        import torch

        ranks = losses if self.neg_ranking_type == "conf_loss" else 1 - scores.softmax(1)[:, 0]
        images = len(truth) // len(self.fields)
        kept = torch.zeros_like(truth, dtype=torch.bool).reshape(images, -1)
        free = ((truth == 0) & (overlap < self.bg_threshold)).reshape(images, -1)
        for i, (own, rest, rank) in enumerate(
            zip(truth.reshape(images, -1) > 0, free, ranks.reshape(images, -1), strict=True)
        ):
            objects, grounds = (which.nonzero()[:, 0] for which in (own, rest))
            count = len(objects)
            wanted = max(count * self.bg_multiple, self.min_num_neg)
            if self.batch_size > 0:
                count = min(int(self.batch_size / (1 + self.bg_multiple) + 0.5), count)
                wanted = self.batch_size - count
            if count < len(objects):
                objects = objects[torch.randperm(len(objects), device=objects.device)[:count]]
            if wanted < len(grounds):
                hard = {"random": 0, "bootstrap": wanted, "mixture": (wanted + 1) // 2}[self.neg_mining_type]
                grounds = grounds.flip(0)[by_score(rank[grounds].flip(0))]  # of equals the last comes first
                others = grounds[hard:]
                drawn = others[torch.randperm(len(others), device=others.device)[: wanted - hard]]
                grounds = torch.cat((grounds[:hard], drawn))
            kept[i, objects] = True
            kept[i, grounds] = True
        return kept.reshape(truth.shape)

    def weights(self, truth: Tensor, kept: Tensor) -> Tensor | float:
        """What each place's class weighs."""
        if not self.pos_neg_weighted:
            return 1.0
        objects, total, share = truth > 0, kept.sum(), 1 / (1 + self.bg_multiple)
        sums = (kept & objects).sum(), (kept & ~objects).sum()
        scales = (part * total / count if count else 1.0 for part, count in zip((share, 1 - share), sums, strict=True))
        of_objects, of_rest = scales
        return objects * of_objects + ~objects * of_rest

    def away(self, deltas: Tensor, box: Tensor) -> Tensor:
        """How far the deltas are from those wanted; the bounds leave the gradient as it is."""
        import torch

        side, (mean, std) = self.sides(deltas), self.spread(deltas)
        move = (box[:, :2] - centres(deltas, self.stride)) / side
        wanted = (torch.cat((move, (box[:, 2:].clamp(min=LEAST_SIDE) / side).log()), 1) - mean) / std
        if self.bounds is None:
            return deltas - wanted
        ends = []
        for most, k in ((1 / self.bounds[0], 0), (log(self.bounds[1]), 2)):
            middle, spread = (self.mean[k] + self.mean[k + 1]) / 2, sqrt(self.std[k] * self.std[k + 1])
            ends += [((-most - middle) / spread, (most - middle) / spread)] * 2
        low, high = (deltas.new_tensor(v)[:, None, None] for v in zip(*ends, strict=True))
        return deltas - deltas.detach() + deltas.detach().clamp(low, high) - wanted


@layer("DetectionGroupAccuracy")
@dataclass(frozen=True, slots=True)
class DetectionGroupAccuracy(Group):
    """How often a detection head with groups of fields is right, and how well its boxes fit.

    bottoms: see Group      top[0]: 1 x 1 x 1 x 2: the share of places whose class has the largest score, and that of objects
    top[1], if named: 1 x 1 x 1 x 1, the mean overlap of objects with their boxes.  -1 where there is nothing to count.
    Backgrounds with an overlap of bg_threshold or more, and positions labelled ignore_label, do not count. objectness: all
    classes but the background count as class 1. Deltas are bounded as in BoxOutput. Boxes that share less than a pixel
    along a side have no overlap.
    Source: zhaoweicai/cascade-rcnn, src/caffe/layers/detection_group_accuracy_layer.cpp, src/caffe/util/bbox_util.cpp.
    """

    n_top = (1, 2)
    no_gradient = (0, 1, 2)

    field_whr: float = 2.0
    field_xyr: float = 4.0
    overlap: bool = False

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.detection_group_accuracy_param
        for name in ("field_whr", "field_xyr"):
            if getattr(p, name) <= 0:
                raise NetError(f"{name} must be positive", at=p.at(name), got=f"{getattr(p, name):g}")
        return cls(**cls.common(p, msg), field_whr=p.field_whr, field_xyr=p.field_xyr, overlap=len(msg.top) > 1)

    def tops(self, bottoms: Shapes) -> Shapes:
        self.fits(bottoms)
        return ((1, 1, 1, 2), (1, 1, 1, 1))[: 1 + self.overlap]

    def forward(self, m: Any, *bottoms: Tensor) -> tuple[Tensor, ...]:
        import torch

        exact = torch.promote_types(bottoms[0].dtype, torch.float32)
        scores, deltas, known = (b.detach().to(exact) for b in bottoms)
        truth = known[:, 0].long()
        kinds = truth.clamp(max=1) if self.objectness else truth
        counts = (kinds != 0) | (known[:, -1] < self.bg_threshold)
        objects = truth != 0
        if self.ignore_label is not None:
            counts, objects = counts & (kinds != self.ignore_label), objects & (truth != self.ignore_label)
        right = counts & (scores.argmax(1) == kinds)
        tops = [torch.stack((share_of(right, counts), share_of(right & (kinds != 0), counts & (kinds != 0))))]
        if self.overlap:
            side, (mean, std) = self.sides(deltas), self.spread(deltas)
            plain, most, grown = deltas * std + mean, 1 / self.field_xyr, log(self.field_whr)
            centre = plain[:, :2].clamp(-most, most) * side + centres(deltas, self.stride)
            size = plain[:, 2:].clamp(-grown, grown).exp() * side
            middle, wanted = known[:, 1:3], known[:, 3:5]
            low = torch.maximum(centre - size / 2, middle - wanted / 2)
            common = torch.minimum(centre + size / 2, middle + wanted / 2) - low
            shared = (common * (common >= 1)).prod(1) * (wanted > 0).all(1) * (common >= 1).all(1)
            union = size.prod(1) + wanted.prod(1) - shared
            tops.append(share_of(shared / union.where(union > 0, 1) * objects, objects)[None])
        return tuple(t.reshape(1, 1, 1, -1) for t in tops)
