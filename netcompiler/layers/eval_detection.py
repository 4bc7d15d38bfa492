"""EvalDetection."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..graph import Shapes, dims
from ..text import Msg
from .base import Layer, at_least, exactly, layer
from .boxes import by_score, iou, nms

if TYPE_CHECKING:
    from torch import Tensor

LEAST_SCORE = 0.005  # YOLO v2's
ANNOTATED = 8  # image, class + 1, instance, x1, y1, x2, y2, difficult
LISTED = 5  # class, centre x and y, width, height


@layer("EvalDetection")
@dataclass(frozen=True, slots=True)
class EvalDetection(Layer):
    """Which of YOLO's boxes are right, for the average precision over a data set.

    top: N x (C + 4 B): for each class its objects in the image, then for each box class, score, 1 where it is right, and 1
    where it is wrong; C = num_class, B = side^2 num_object, 0 where boxes are fewer. By class, in each the best first.
    YOLO v2 (biases written), K = num_object:  bottom[0]: N x K (5 + C) x side x side, for each anchor x, y, w, h,
    objectness, classes: centre (column + sigmoid x) / side, size exp(w) bias / side; sigmoid and softmax of the rest.
    bottom[1]: M x 8 rows as AnnotatedData makes them, or N x 5 T: class, centre and size, up to the first with x = 0
    YOLO v1:  bottom[0]: N x side^2 (C + 5 K): for all places classes, K scores, then K times x, y, width, height (their
    roots with `sqrt`; x and y are measured in the place with `constriant`)      bottom[1]: N x 7 side^2: difficult, object,
    class, and four numbers for each place
    A box is of its most probable class (v1: of its place's); its score is by score_type the objectness, the probability or
    their product. With nms >= 0 boxes go that overlap a better one, of any class, by nms or more; v2 then also drops scores
    below 0.005, and quirk: has no boxes at all without nms. A box is right if it overlaps an object of its class by
    threshold or more, the one it overlaps most, and no better box does; else wrong. Quirk: a box that overlaps all objects
    of its class by less is neither. No gradient passes.
    Source: intel/caffe, src/caffe/layers/eval_detection_layer.cpp; choasup/caffe-yolo9000 and yeahkun/caffe-yolo, the same.
    """

    category = "loss"
    n_bottom = (2, 2)
    no_gradient = (0, 1)

    side: int = 7
    num_class: int = 20
    num_object: int = 2
    threshold: float = 0.5
    sqrt: bool = True
    constriant: bool = True
    score_type: str = "MULTIPLY"
    nms: float = -1
    biases: tuple[float, ...] = ()

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.eval_detection_param
        for name in ("side", "num_class", "num_object"):
            if getattr(p, name) < 1:
                raise NetError(f"{name} must be positive", at=p.at(name), got=getattr(p, name))
        if p.biases and len(p.biases) != 2 * p.num_object:
            expected = f"{2 * p.num_object}, two for each of num_object"
            raise NetError(
                "biases has the wrong number of values", at=p.at("biases"), expected=expected, got=len(p.biases)
            )
        numbers = p.side, p.num_class, p.num_object, float(p.threshold), p.sqrt, p.constriant
        return cls(*numbers, p.enum("score_type"), float(p.nms), tuple(p.biases))

    def tops(self, bottoms: Shapes) -> Shapes:
        for i in range(2):
            at_least(2, bottoms, i)
        n, places = bottoms[0][0], self.side**2
        if self.biases:
            exactly(4, bottoms)
        kinds = self.num_class
        count = places * (self.num_object * (kinds + 5) if self.biases else kinds + 5 * self.num_object)
        if prod(bottoms[0][1:]) != count:
            raise NetError("bottom 0 has the wrong size", expected=f"{count} values an image", got=dims(bottoms[0]))
        known = bottoms[1]
        fits = known[0] == n and prod(known[1:]) == 7 * places
        if self.biases:
            fits = known[-1] == ANNOTATED or (known[0] == n and prod(known[1:]) % LISTED == 0)
        if not fits:
            wanted = f"rows of {ANNOTATED}, or {n} x {LISTED} T" if self.biases else f"{n} x {7 * places}"
            raise NetError("bottom 1 has no objects", expected=wanted, got=dims(known))
        return ((n, self.num_class + 4 * places * self.num_object),)

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        import torch

        exact = torch.promote_types(bottoms[0].dtype, torch.float32)
        x, known = (b.detach().to(exact) for b in bottoms)
        classes, scores, boxes = self.second(x) if self.biases else self.first(x)
        top = x.new_zeros(self.tops((tuple(x.shape), tuple(known.shape)))[0])
        for i in range(len(x)):
            labels, objects = self.objects(known, i)
            top[i, : self.num_class] = torch.bincount(labels, minlength=self.num_class)
            order = by_score(scores[i])
            if self.nms >= 0:
                order = order[nms(corners(boxes[i, order]), self.nms, equal=True)]
            if self.biases:
                order = order[scores[i, order] >= LEAST_SCORE] if self.nms >= 0 else order[:0]
            order = order[classes[i, order].argsort(stable=True)]
            kinds = classes[i, order]
            rows = torch.stack(
                (kinds.to(exact), scores[i, order], *self.judged(kinds, boxes[i, order], labels, objects)), 1
            )
            top[i, self.num_class : self.num_class + rows.numel()] = rows.flatten()
        return top

    def judged(self, kinds: Tensor, boxes: Tensor, labels: Tensor, objects: Tensor) -> tuple[Tensor, Tensor]:
        """Which boxes are right and which are wrong."""
        import torch

        if not len(objects):
            return torch.zeros_like(boxes[:, 0]), torch.ones_like(boxes[:, 0])
        same = kinds[:, None] == labels
        overlap = iou(corners(boxes), corners(objects)).masked_fill(~same, -1)
        largest, which = overlap.max(1)
        matched = (largest >= self.threshold) & same.any(1)
        claims = torch.nn.functional.one_hot(which, len(objects)) * matched[:, None]
        first = ((claims.cumsum(0) == 1) & (claims > 0)).any(1)
        return first.to(boxes.dtype), ((matched & ~first) | ~same.any(1)).to(boxes.dtype)

    def scored(self, objectness: Tensor, probability: Tensor) -> Tensor:
        """What a box is ranked by."""
        return {"OBJ": objectness, "PROB": probability, "MULTIPLY": objectness * probability}[self.score_type]

    def first(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """YOLO v1's classes, scores and boxes (centre and size): N x B (x 4), place by place."""
        import torch

        n, places, count = len(x), self.side**2, self.num_object
        flat = x.reshape(n, -1)
        classes, scale, coordinates = torch.split(
            flat, [self.num_class * places, count * places, 4 * count * places], 1
        )
        probability, kinds = classes.reshape(n, self.num_class, places).max(1)
        boxes = coordinates.reshape(n, count, 4, places).permute(0, 3, 1, 2)
        centre, size = boxes[..., :2], boxes[..., 2:]
        if self.constriant:
            centre = (centre + self.corner(x)[:, None]) / self.side
        boxes = torch.cat((centre, size.square() if self.sqrt else size), -1)
        objectness = scale.reshape(n, count, places).transpose(1, 2)
        scores = self.scored(objectness, probability[..., None].expand_as(objectness))
        return kinds[..., None].expand_as(scores).reshape(n, -1), scores.reshape(n, -1), boxes.reshape(n, -1, 4)

    def second(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """YOLO v2's."""
        import torch

        n, count = len(x), self.num_object
        rows = x.reshape(n, count, -1, self.side**2).permute(0, 3, 1, 2)  # N x places x K x (5 + C)
        centre = (rows[..., :2].sigmoid() + self.corner(x)[:, None]) / self.side
        size = rows[..., 2:4].exp() * x.new_tensor(self.biases).reshape(count, 2) / self.side
        probability, kinds = rows[..., 5:].softmax(-1).max(-1)
        scores = self.scored(rows[..., 4].sigmoid(), probability)
        return kinds.reshape(n, -1), scores.reshape(n, -1), torch.cat((centre, size), -1).reshape(n, -1, 4)

    def corner(self, x: Tensor) -> Tensor:
        """Column and row of each place: side^2 x 2."""
        import torch

        at = torch.arange(self.side, dtype=x.dtype, device=x.device)
        return torch.stack((at.expand(self.side, -1), at[:, None].expand(-1, self.side)), -1).reshape(-1, 2)

    def objects(self, known: Tensor, i: int) -> tuple[Tensor, Tensor]:
        """The classes and boxes (centre and size) of an image's objects."""
        import torch

        if not self.biases:
            _, there, label, box = torch.split(known[i].flatten(), [self.side**2] * 3 + [4 * self.side**2])
            rows = torch.cat((label[:, None], box.reshape(-1, 4)), 1)[there != 0]
        elif known.shape[-1] == ANNOTATED:
            found = known.reshape(-1, ANNOTATED)
            found = found[found[:, 0].long() == i]
            low, high = found[:, 3:5], found[:, 5:7]
            rows = torch.cat((found[:, 1:2] - 1, (low + high) / 2, high - low), 1)
        else:
            rows = known[i].reshape(-1, LISTED)
            rows = rows[(rows[:, 1] != 0).cumprod(0) > 0]
        labels = rows[:, 0].long()
        if len(labels) and (int(labels.min()) < 0 or int(labels.max()) >= self.num_class):
            got = f"{int(labels.min())} to {int(labels.max())}"
            raise NetError("the class of an object is out of range", expected=f"0 to {self.num_class - 1}", got=got)
        return labels, rows[:, 1:]


def corners(boxes: Tensor) -> Tensor:
    """x1, y1, x2, y2 of centres and sizes."""
    import torch

    return torch.cat((boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2), 1)
