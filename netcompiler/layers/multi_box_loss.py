"""MultiBoxLoss."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ..errors import NetError
from ..graph import Shapes, dims
from ..text import Msg
from .base import Layer, at_least, layer, normalization, normalizer, refuse_gradient
from .boxes import areas, by_score, from_priors, iou, nms, to_priors
from .detection_output import blank, predictions_fit, prior_count
from .softmax_with_loss import LOG_FLT_MIN

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    Whole = NDArray[np.int64]
    Flags = NDArray[np.bool_]

LEAST_OVERLAP = 1e-6  # less is none
LEAST_AREA = 1e-5  # smaller boxes are not mined where there is an nms_param
FREE, OUTSIDE = -1, -2  # in place of a truth's index: matched to none; not to be matched
FIELDS = 8  # of a row of ground truth: item, label, instance, x1, y1, x2, y2, difficult


@dataclass(frozen=True, slots=True)
class Truth:
    """The ground truth of one item: boxes G x 4, and their labels."""

    boxes: Tensor
    labels: Whole


@dataclass(slots=True)
class Matches:
    """Which truth each prior is for, of one item and one of the classes that have boxes of their own.

    index: P, FREE and OUTSIDE beside indices.  overlap: P, with its truth, or the largest with any.
    """

    index: Whole
    overlap: NDArray[Any]


@layer("MultiBoxLoss")
@dataclass(frozen=True, slots=True)
class MultiBoxLoss(Layer):
    """SSD's loss: (loc_weight loss of the codes of matched priors + loss of scores) / n, by n of `normalization`.

    bottom[0]: N x 4 P (N x 4 P num_classes where share_location is false), codes      bottom[1]: N x P num_classes, scores
    bottom[2]: 1 x 2 x 4 P, priors and variances; bottom[3]: 1 x 1 x G x 8, ground truth: item (-1: no row), label,
    instance, x1, y1, x2, y2, difficult (left out unless use_difficult_gt)      top[0]: the loss, a scalar
    RefineDet's second step: bottom[4]: N x 2 P, scores of the first; only priors whose second is objectness_score at least
    are mined. bottom[5], if there is one: N x 4 P, its codes; the boxes that they make of the priors are matched, and what
    codes of those boxes are wanted (HARD_EXAMPLE looks at those of the priors). Its first step has objectness_score too:
    with num_classes 2 labels from 2 on count as 1.
    Matching, for each item: the pair of a prior and a truth that overlap most, then of those left, and so on; with
    match_type PER_PREDICTION then each prior left with the truth that it overlaps most, from overlap_threshold on.
    use_prior_for_matching false: the decoded boxes in place of the priors. ignore_cross_boundary_bbox: not those that
    reach out of 0 .. 1. share_location false: each class has boxes of its own, for truths with its label.
    Codes: sum of d^2 / 2 (L2) or of SmoothL1 (d^2 / 2 below 1, else |d| - 1/2); d is the code less that of the truth (see
    boxes.to_priors; with encode_variance_in_target both are divided by the variance after). bp_inside: only of the
    corners that lie in 0 .. 1.
    Scores, of mining_type NONE all: the SOFTMAX loss with the truth's label (map_object_to_agnostic: background + 1), or
    background_label_id; LOGISTIC: the sigmoid cross-entropy with 1 at the label.
    MAX_NEGATIVE: those matched, and of the free ones below neg_overlap the neg_pos_ratio times as many with the largest
    loss. HARD_EXAMPLE: the sample_size with the largest loss of both kinds; what is not among them is not matched.
    nms_param: of these only such as overlap no better one; top_k, 0 by default, is how many are looked at.
    n: FULL N P; VALID the number matched; BATCH_SIZE N; NONE 1; at least 1. A part whose propagate_down is false is 0.
    Items without truth count with mining_type NONE only.
    Quirks: LOGISTIC's other targets are background_label_id; with mining_type NONE those of item i start at place i P. Of
    bottom[3] only the third axis and the first values count. A label of the background is an error, but in a box without
    area, which SSD stops at too: a batch of zeros is one without truth.
    Source: SSD, src/caffe/layers/multibox_loss_layer.cpp, src/caffe/util/bbox_util.cpp; the same of sfzhang15/RefineDet.
    """

    category = "loss"
    n_bottom = (4, 6)
    is_loss = True
    anonymous_tops = True
    no_gradient = (2, 3, 4, 5)

    num_classes: int
    loc_loss_type: str = "SMOOTH_L1"
    conf_loss_type: str = "SOFTMAX"
    loc_weight: float = 1.0
    share_location: bool = True
    match_type: str = "PER_PREDICTION"
    overlap_threshold: float = 0.5
    use_prior_for_matching: bool = True
    background_label_id: int = 0
    use_difficult_gt: bool = True
    neg_pos_ratio: float = 3.0
    neg_overlap: float = 0.5
    code_type: str = "CORNER"
    encode_variance_in_target: bool = False
    map_object_to_agnostic: bool = False
    ignore_cross_boundary_bbox: bool = False
    bp_inside: bool = False
    mining_type: str = "MAX_NEGATIVE"
    nms_threshold: float = 0.0  # 0: none
    top_k: int = 0
    sample_size: int = 64
    use_prior_for_nms: bool = False
    normalization: str | float = "VALID"
    objectness_score: float = 0.01
    two_kinds: bool = False  # any label from 2 on is 1
    parts: tuple[bool, ...] = field(default=(True, True), repr=False)

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.multiboxloss_param if msg.has("multiboxloss_param") else msg.multibox_loss_param  # MyCaffe's name
        p.has("ignore_difficult_gt")  # NVCaffe's: looked at, and without effect
        q = msg.loss_param
        q.has("ignore_label")  # the same
        nms_param = p.nms_param
        nms_param.has("eta")  # the same
        found = cls(
            p.num_classes,
            p.enum("loc_loss_type"),
            p.enum("conf_loss_type"),
            p.loc_weight,
            p.share_location,
            p.enum("match_type"),
            p.overlap_threshold,
            p.use_prior_for_matching,
            p.background_label_id,
            p.use_difficult_gt,
            p.neg_pos_ratio,
            p.neg_overlap,
            p.enum("code_type"),
            p.encode_variance_in_target,
            p.map_object_to_agnostic,
            p.ignore_cross_boundary_bbox,
            p.bp_inside,
            p.enum("mining_type"),
            max(nms_param.nms_threshold, 0.0) if p.has("nms_param") else 0.0,
            nms_param.top_k,
            p.sample_size,
            p.use_prior_for_nms,
            normalization(q),
            p.objectness_score,
            p.has("objectness_score") and p.num_classes == 2,
            tuple(msg.propagate_down)[:2] or (True, True),
        )
        found.check(p)
        if len(bottoms) > 4 and found.nms_threshold:
            raise NetError("nms_param does not go with a first step", at=p.at("nms_param"), expected="four bottoms")
        if len(bottoms) > 5 and not found.share_location:
            raise NetError("boxes of a first step need share_location", at=p.at("share_location"))
        return found

    def check(self, p: Msg) -> None:
        """Raises: NetError for settings that exclude each other."""
        if not self.num_classes:
            raise NetError("num_classes is missing", at=p.at("num_classes") or "multibox_loss_param")
        mining = self.mining_type != "NONE"
        if p.has("do_neg_mining") and p.do_neg_mining != mining:
            what, hint = "do_neg_mining and mining_type contradict each other", "leave out do_neg_mining"
            raise NetError(what, at=p.at("do_neg_mining"), got=f"mining_type {self.mining_type}", hint=hint)
        if mining and not self.share_location:
            what = f"{self.mining_type} needs one box for all classes"
            raise NetError(what, at=p.at("share_location"), expected="share_location: true, or mining_type: NONE")
        if self.map_object_to_agnostic and self.num_classes != 2:
            what = "map_object_to_agnostic leaves two classes"
            raise NetError(what, at=p.at("num_classes"), expected=2, got=self.num_classes)
        if self.conf_loss_type == "SOFTMAX" and self.background_label_id >= self.num_classes:
            what, expected = "background_label_id is no class", f"0 to {self.num_classes - 1}"
            raise NetError(what, at=p.at("background_label_id"), expected=expected, got=self.background_label_id)
        if self.mining_type == "HARD_EXAMPLE" and self.sample_size < 1:
            raise NetError("sample_size must be positive", at=p.at("sample_size"), got=self.sample_size)

    def tops(self, bottoms: Shapes) -> Shapes:
        priors = prior_count(bottoms)
        where = 1 if self.share_location else self.num_classes
        predictions_fit(bottoms, [priors * where * 4, priors * self.num_classes])
        at_least(3, bottoms, 3)
        truth = bottoms[3]
        if prod(truth) < truth[2] * FIELDS:
            raise NetError("bottom 3 holds no ground truth", expected="1 x 1 x G x 8", got=dims(truth))
        for i, (bottom, each) in enumerate(zip(bottoms[4:], (2, 4), strict=False), 4):
            if prod(bottom) != bottoms[0][0] * priors * each:
                expected = f"{bottoms[0][0]} x {priors * each}"
                raise NetError(f"bottom {i} has the wrong shape", expected=expected, got=dims(bottom))
        return ((),)

    def brief(self) -> str:
        return f"{self.num_classes} classes"

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        import torch

        exact = torch.promote_types(bottoms[0].dtype, torch.float32)
        codes, scores = (b.to(exact) for b in bottoms[:2])
        n, device = codes.shape[0], codes.device
        prior, variance = bottoms[2].detach().to("cpu", exact)[0].reshape(-1, 4).chunk(2)
        count = len(prior)
        codes, scores = codes.reshape(n, count, -1, 4), scores.reshape(n, count, self.num_classes)
        rows = bottoms[3].detach().reshape(-1)[: bottoms[3].shape[2] * FIELDS]
        truths = self.truths(rows.to("cpu", exact).reshape(-1, FIELDS), n)
        plain_codes, plain_scores = (t.detach().cpu() for t in (codes, scores))
        first = [b.detach().to("cpu", exact).reshape(n, count, -1) for b in bottoms[4:]]
        refined = [self.decoded(prior, variance, first[1][i]) if len(first) > 1 else prior for i in range(n)]

        matched: list[tuple[int, int, Whole, Whole]] = []  # item, slot, priors, their truths
        negative: list[tuple[int, Whole]] = []  # item, priors
        for i, truth in truths.items():
            matches = self.matches(truth, refined[i], prior, variance, plain_codes[i])
            if self.mining_type != "NONE":
                found = matches[0]
                sure = first[0][i, :, 1] >= self.objectness_score if first else None
                worst = self.mined(found, truth, prior, variance, plain_codes[i], plain_scores[i], sure)
                if self.mining_type == "HARD_EXAMPLE":
                    found.index[(found.index >= 0) & ~worst] = FREE
                negative.append((i, np.flatnonzero(worst & (found.index == FREE))))
            for c, found in matches.items():
                places = np.flatnonzero(found.index >= 0)
                matched.append((i, c, places, found.index[places]))

        def joined(parts: list[Whole]) -> Tensor:
            return torch.from_numpy(np.concatenate([np.zeros(0, np.int64), *parts]))

        item = joined([np.full(len(places), i) for i, _, places, _ in matched])
        slot = joined([np.full(len(places), c) for _, c, places, _ in matched])
        place = joined([places for _, _, places, _ in matched])
        label = joined([self.named(truths[i].labels[index]) for i, _, _, index in matched])
        boxes = torch.cat([prior[:0], *(truths[i].boxes[index] for i, _, _, index in matched)])

        total = codes.new_zeros(())
        if self.parts[0]:
            chosen = codes[item.to(device), place.to(device), slot.to(device)]
            starts = torch.stack(refined)[item, place] if n else prior[place]
            off = self.offsets(chosen, starts, variance[place], boxes)
            total = total + self.loc_weight * self.distance(off).sum()
        if self.parts[1]:
            if self.mining_type == "NONE":
                total = total + self.loss_of_all(scores, item, place, label)
            else:
                others = joined([np.full(len(places), i) for i, places in negative])
                item = torch.cat((item, others))
                place = torch.cat((place, joined([places for _, places in negative])))
                label = torch.cat((label, torch.full_like(others, self.background_label_id)))
                total = total + self.loss_of(scores[item.to(device), place.to(device)], label.to(device)).sum()
        count_matched = torch.tensor(len(boxes), device=device)
        loss = total / normalizer(self.normalization, n, count, count_matched)
        for b in bottoms[2:4]:
            loss = refuse_gradient(loss, b, "MultiBoxLoss passes no gradient to its priors and labels")
        return loss

    def truths(self, rows: Tensor, n: int) -> dict[int, Truth]:
        """The ground truth of each item that has any. Raises: NetError for a label that is no class."""
        keep = rows[:, 0].long() != -1
        if not self.use_difficult_gt:
            keep &= rows[:, 7] == 0
        keep &= ~blank(rows, self.background_label_id)
        rows = rows[keep]
        labels = rows[:, 1].long()
        labels = labels.clamp(max=1) if self.two_kinds else labels
        for label in labels.tolist():
            if not 0 <= label < (1 << 31 if self.map_object_to_agnostic else self.num_classes):
                expected = f"0 to {self.num_classes - 1}"
                raise NetError("a label of the ground truth is out of range", expected=expected, got=label)
            if label == self.background_label_id:
                raise NetError("a label of the ground truth is the background's", got=label)
        items = rows[:, 0].long()
        found = {i: items == i for i in sorted(set(items.tolist())) if 0 <= i < n}
        return {i: Truth(rows[held, 3:7], labels[held].numpy()) for i, held in found.items()}

    def named(self, labels: Whole) -> Whole:
        """The classes that truths with these labels count as."""
        return np.full_like(labels, self.background_label_id + 1) if self.map_object_to_agnostic else labels

    def matches(
        self, truth: Truth, refined: Tensor, prior: Tensor, variance: Tensor, codes: Tensor
    ) -> dict[int, Matches]:
        """The matches of one item for each class with boxes of its own; for 0 alone where they share.

        refined: what a first step made of the priors.
        """
        if self.share_location:
            boxes = refined if self.use_prior_for_matching else self.decoded(prior, variance, codes[:, 0])
            return {0: self.match(truth.boxes, boxes)}
        slots = [c for c in range(self.num_classes) if c != self.background_label_id]
        if self.use_prior_for_matching:
            shared = self.match(truth.boxes, prior)
            labels = np.append(truth.labels, -1)[shared.index]
            return {
                c: Matches(np.where((shared.index >= 0) & (labels == c), shared.index, -1), shared.overlap)
                for c in slots
            }
        found = {}
        for c in slots:
            own = np.flatnonzero(truth.labels == c)
            matches = self.match(truth.boxes[own], self.decoded(prior, variance, codes[:, c]))
            held = matches.index >= 0
            matches.index[held] = own[matches.index[held]]
            found[c] = matches
        return found

    def match(self, truths: Tensor, boxes: Tensor) -> Matches:
        """The matches of boxes P x 4 with truths G x 4."""
        index = np.full(len(boxes), FREE)
        if not len(truths):
            return Matches(index, np.zeros(len(boxes)))
        overlaps = iou(boxes, truths).numpy()
        overlaps = np.where(overlaps > LEAST_OVERLAP, overlaps, 0)
        if self.ignore_cross_boundary_bbox:
            outside = ((boxes < 0) | (boxes > 1)).any(1).numpy()
            index[outside], overlaps[outside] = OUTSIDE, 0
        largest = overlaps.max(1)
        left = overlaps.copy()
        for _ in range(len(truths)):
            i, j = divmod(int(left.argmax()), len(truths))
            if not left[i, j]:
                break
            index[i], largest[i] = j, left[i, j]
            left[i], left[:, j] = 0, 0
        if self.match_type == "PER_PREDICTION":
            best = overlaps.argmax(1)
            value = overlaps[np.arange(len(boxes)), best]
            more = (index == FREE) & (value > 0) & (value >= self.overlap_threshold)
            index[more], largest[more] = best[more], value[more]
        return Matches(index, largest)

    def mined(
        self,
        found: Matches,
        truth: Truth,
        prior: Tensor,
        variance: Tensor,
        codes: Tensor,
        scores: Tensor,
        sure: Tensor | None,
    ) -> Flags:
        """Which priors of an item are picked for their loss: of the free ones, or with HARD_EXAMPLE of all.

        sure: those that a first step leaves.
        """
        import torch

        held = found.index >= 0
        labels = torch.full((len(prior),), self.background_label_id)
        labels[torch.from_numpy(held)] = torch.from_numpy(self.named(truth.labels[found.index[held]]))
        loss = self.loss_of(scores, labels, mined=True).reshape(len(prior), -1).sum(1)
        if self.mining_type == "HARD_EXAMPLE":
            eligible = np.full(len(prior), True)
            most = self.sample_size
            places = torch.from_numpy(np.flatnonzero(held))
            boxes = truth.boxes[found.index[held]]
            off = self.offsets(codes[places, 0], prior[places], variance[places], boxes)
            loss[places] += self.distance(off).sum(1)
        else:
            eligible = (found.index == FREE) & (found.overlap < self.neg_overlap)
            most = int(np.float32(held.sum()) * np.float32(self.neg_pos_ratio))
        eligible = eligible if sure is None else eligible & sure.numpy()
        places = torch.from_numpy(np.flatnonzero(eligible))
        places = places[by_score(loss[places])]
        if self.nms_threshold > 0:
            boxes = prior if self.use_prior_for_nms else self.decoded(prior, variance, codes[:, 0])
            places = places[: self.top_k] if self.top_k > -1 else places
            places = places[areas(boxes[places]) >= LEAST_AREA]
            places = places[nms(boxes[places], self.nms_threshold)]
        picked = np.full(len(prior), False)
        picked[places[: max(most, 0)].numpy()] = True
        return picked

    def decoded(self, prior: Tensor, variance: Tensor, codes: Tensor) -> Tensor:
        """The boxes P x 4 that predicted codes stand for."""
        return from_priors(prior, 1.0 if self.encode_variance_in_target else variance, codes, self.code_type)

    def offsets(self, codes: Tensor, prior: Tensor, variance: Tensor, boxes: Tensor) -> Tensor:
        """How far predicted codes M x 4 are off those of the boxes to be found."""
        wanted = to_priors(prior, 1.0 if self.encode_variance_in_target else variance, boxes, self.code_type)
        off = codes - wanted.to(codes.device)
        if self.encode_variance_in_target:
            off = off / variance.to(codes.device)
        if self.bp_inside:
            at = prior if self.use_prior_for_matching else self.decoded(prior, variance, codes.detach().cpu())
            off = off * ((at >= 0) & (at <= 1)).to(codes)
        return off

    def distance(self, off: Tensor) -> Tensor:
        """The loss of each number of a code."""
        if self.loc_loss_type == "L2":
            return off.square() / 2
        size = off.abs()
        return (off.square() / 2).where(size < 1, size - 0.5)

    def loss_of(self, scores: Tensor, labels: Tensor, *, mined: bool = False) -> Tensor:
        """The loss of scores M x C with these labels, M x 1, or M x C for LOGISTIC.

        mined: as mining takes it, whose other targets are 0.
        """
        import torch
        import torch.nn.functional as F

        if self.conf_loss_type == "SOFTMAX":
            chosen = scores.log_softmax(1).gather(1, labels[:, None])
            # Below FLT_MIN only the value stays: x - x is 0 and keeps the gradient.
            return -torch.where(chosen < LOG_FLT_MIN, chosen - chosen.detach() + LOG_FLT_MIN, chosen)
        targets = torch.full_like(scores, 0.0 if mined else self.background_label_id)
        known = (labels < self.num_classes)[:, None]  # a background beyond the classes has no score
        rest = labels.clamp(max=self.num_classes - 1)[:, None]
        targets.scatter_(1, rest, targets.gather(1, rest).masked_fill(known, 1.0))
        return F.binary_cross_entropy_with_logits(scores, targets, reduction="none")

    def loss_of_all(self, scores: Tensor, item: Tensor, place: Tensor, label: Tensor) -> Tensor:
        """The loss of all scores N x P x C, of which those at item and place have a label."""
        import torch
        import torch.nn.functional as F

        n, count, classes = scores.shape
        if self.conf_loss_type == "SOFTMAX":
            labels = np.full((n, count), self.background_label_id)
            labels[item.numpy(), place.numpy()] = (
                label.numpy()
            )  # of several for one place the last stays, as numpy has it
            flat = torch.from_numpy(labels).reshape(-1).to(scores.device)
            return self.loss_of(scores.reshape(-1, classes), flat).sum()
        targets = torch.full((scores.numel(),), float(self.background_label_id), dtype=scores.dtype)
        targets[item * count + place * classes + label] = 1
        targets = targets.reshape(scores.shape).to(scores.device)
        return F.binary_cross_entropy_with_logits(scores, targets, reduction="sum")
