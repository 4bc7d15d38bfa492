"""DetectionOutput."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from math import inf, prod
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError, NetWarning
from ..graph import Shapes, dims
from ..text import Msg
from ..windows import Windows
from .base import Layer, at_least, layer, refuse_gradient
from .boxes import by_score, from_priors, nms, not_exported

if TYPE_CHECKING:
    from torch import Tensor

PICTURE = ("visualize", "visualize_threshold", "save_file", "transform_param")


@layer("DetectionOutput")
@dataclass(frozen=True, slots=True)
class DetectionOutput(Layer):
    """SSD's detections: predictions decoded by their priors, and of each class those that no better one overlaps.

    bottom[0]: N x 4 P, or N x 4 P num_classes where share_location is false: codes, classes within priors
    bottom[1]: N x P num_classes, scores, classes within priors      bottom[2]: 1 x 2 x 4 P, priors and their variances
    top[0]: 1 x 1 x R x 7: image, class, score, x1, y1, x2, y2; by image, class, and within it from the best score down.
    R is known only when it runs: the shape rule says 1, as Caffe's. Where nothing is found, there are N rows of
    image, -1, -1, ..
    For each class but background_label_id (-1: there is none): of the scores above confidence_threshold the best top_k,
    and of these all that overlap no better one that stays by more than nms_threshold; eta below 1 makes a threshold above
    0.5 smaller with each that stays. Then the best keep_top_k of the image. Boxes are not clipped.
    code_type and variance_encoded_in_target (the variance counts as 1): see boxes.from_priors.
    RefineDet's: bottom[3]: N x 2 P, scores of a first step; priors whose second is below objectness_score have the scores
    1, 0, 0, ..      bottom[4]: N x 4 P, codes of the first step, whose boxes are the priors of the second.
    Any other bottom[3] is the picture for `visualize`, which is not shown; nor is anything saved.
    No gradient. Compared on the CPU.
    Quirk: SSD stops at background_label_id -1 with share_location.
    Source: SSD, src/caffe/layers/detection_output_layer.cpp, src/caffe/util/bbox_util.cpp; RefineDet, the same files.
    """

    n_bottom = (3, 5)
    no_gradient = (2, 3, 4)
    ignored = frozenset({"engine", *PICTURE})

    num_classes: int
    share_location: bool = True
    background_label_id: int = 0
    code_type: str = "CORNER"
    variance_encoded_in_target: bool = False
    keep_top_k: int = -1
    confidence_threshold: float = -inf
    nms_threshold: float = 0.3
    top_k: int = -1
    eta: float = 1.0
    objectness_score: float = 0.01

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.detection_output_param
        if not p.num_classes:
            raise NetError("num_classes is missing", at=p.at("num_classes") or "detection_output_param")
        q = p.nms_param
        if q.nms_threshold < 0:
            got = f"{q.nms_threshold:g}"
            raise NetError("nms_threshold is negative", at=q.at("nms_threshold"), expected="0 or more", got=got)
        if not 0 < q.eta <= 1:
            raise NetError("eta is out of range", at=q.at("eta"), expected="above 0, up to 1", got=f"{q.eta:g}")
        _not_saved(msg, p.save_output_param)
        lowest = p.confidence_threshold if p.has("confidence_threshold") else -inf
        return cls(
            p.num_classes,
            p.share_location,
            p.background_label_id,
            p.enum("code_type"),
            p.variance_encoded_in_target,
            p.keep_top_k,
            lowest,
            q.nms_threshold,
            q.top_k if q.has("top_k") else -1,
            q.eta,
            p.objectness_score,
        )

    def tops(self, bottoms: Shapes) -> Shapes:
        priors = prior_count(bottoms)
        where = 1 if self.share_location else self.num_classes
        sizes = [priors * where * 4, priors * self.num_classes, None, None, priors * 4]
        if len(bottoms) == 5:
            sizes[3] = priors * 2
        predictions_fit(bottoms, sizes)
        return ((1, 1, 1, 7),)

    def windows(self, bottoms: Shapes, tops: Shapes, bottom: int, top: int) -> Windows | None:
        return None

    def brief(self) -> str:
        return f"{self.num_classes} classes"

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        import torch

        not_exported(self.kind)
        x = bottoms[0]
        exact = torch.promote_types(x.dtype, torch.float32)
        codes, scores, priors, *first = (b.detach().to("cpu", exact) for b in bottoms)
        n, classes = codes.shape[0], self.num_classes
        prior, variance = priors[0].reshape(-1, 4).chunk(2)
        count = len(prior)
        spread: Tensor | float = 1.0 if self.variance_encoded_in_target else variance
        scores = scores.reshape(n, count, classes)
        if first and first[0].numel() == n * count * 2:
            poor = first[0].reshape(n, count, 2)[:, :, 1] < self.objectness_score
            only = torch.zeros(classes, dtype=exact)
            only[0] = 1
            scores = torch.where(poor[:, :, None], only, scores)
        if len(first) > 1:
            prior = from_priors(prior, spread, first[1].reshape(n, count, 4), self.code_type)[:, :, None]
        else:
            prior = prior[:, None]
        spread = spread if isinstance(spread, float) else spread[:, None]
        boxes = from_priors(prior, spread, codes.reshape(n, count, -1, 4), self.code_type).expand(n, -1, -1, -1)
        rows = [self.found(i, boxes[i], scores[i]) for i in range(n)]
        top = torch.cat([row for row in rows if len(row)] or [_nothing(n, exact)])[None, None].to(x.device)
        for b in bottoms[:2]:
            top = refuse_gradient(top, b, "DetectionOutput has no gradient")
        return top

    def found(self, image: int, boxes: Tensor, scores: Tensor) -> Tensor:
        """The rows of one image, of its boxes P x 1 or classes x 4, and scores P x classes."""
        import torch

        labels: list[Tensor] = []
        places: list[Tensor] = []
        for label in range(self.num_classes):
            if label == self.background_label_id:
                continue
            some = (scores[:, label] > self.confidence_threshold).nonzero()[:, 0]
            some = some[by_score(scores[some, label], self.top_k if self.top_k >= 0 else None)]
            where = boxes[some, 0 if self.share_location else label]
            some = some[nms(where, self.nms_threshold, eta=self.eta)]
            labels.append(torch.full_like(some, label))
            places.append(some)
        if not labels:
            return scores.new_empty(0, 7)
        of, at = torch.cat(labels), torch.cat(places)
        if -1 < self.keep_top_k < len(of):
            best = by_score(scores[at, of], self.keep_top_k)
            kept = torch.zeros(len(of), dtype=torch.bool)
            kept[best] = True
            of, at = of[kept], at[kept]  # as they were: by class, and there by score
        box = boxes[at, 0 if self.share_location else of]
        head = torch.stack((torch.full_like(of, image), of), 1).to(box.dtype)
        return torch.cat((head, scores[at, of][:, None], box), 1)


def _nothing(n: int, kind: Any) -> Tensor:
    """The rows that stand for none."""
    import torch

    rows = torch.full((n, 7), -1, dtype=kind)
    rows[:, 0] = torch.arange(n)
    return rows


def _not_saved(msg: Msg, p: Msg) -> None:
    """A warning where SSD would write its detections to files."""
    wanted = all(getattr(p, name) for name in ("output_directory", "label_map_file", "name_size_file"))
    for field, _ in p.raw.ListFields():
        p.has(field.name)  # looked at, and without effect
    if wanted:
        where = p.output_directory
        warnings.warn(f'layer "{msg.name}": detections are not written to "{where}"', NetWarning, stacklevel=2)


def blank(truth: Tensor, background: int) -> Tensor:
    """Which rows of ground truth are of the background, and without area: what zeros in place of labels say."""
    return (truth[:, 1].long() == background) & (truth[:, 5:7] <= truth[:, 3:5]).any(1)


def prior_count(bottoms: Shapes) -> int:
    """How many priors bottom 2 has. Raises: NetError where it is not 1 x 2 x 4 P."""
    at_least(3, bottoms, 2)
    shape = bottoms[2]
    if shape[1] != 2 or shape[2] % 4 or prod(shape[3:]) != 1:
        raise NetError("bottom 2 holds no priors", expected="1 x 2 x 4 P, as PriorBox's top", got=dims(shape))
    return shape[2] // 4


def predictions_fit(bottoms: Shapes, sizes: list[int | None]) -> None:
    """Raises: NetError unless each bottom has one batch, and as many values an item as `sizes` says (None: any)."""
    for i, (shape, size) in enumerate(zip(bottoms, sizes, strict=False)):
        if size is None:
            continue
        at_least(2, bottoms, i)
        if shape[0] != bottoms[0][0]:
            raise NetError("the batches differ", expected=bottoms[0][0], got=f"{shape[0]} at bottom {i}")
        if prod(shape[1:]) != size:
            what = f"bottom {i} does not fit the priors"
            raise NetError(what, expected=f"{size} values an item", got=f"{prod(shape[1:])} ({dims(shape)})")
