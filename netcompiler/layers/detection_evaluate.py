"""DetectionEvaluate."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ..errors import NetError, NetWarning
from ..graph import Shapes, dims
from ..text import Msg
from ..windows import Windows
from .base import Layer, at_least, layer, refuse_gradient
from .boxes import by_score, iou, not_exported
from .detection_output import blank

if TYPE_CHECKING:
    from torch import Tensor

DETECTION, TRUTH, ROW = 7, 8, 5
Size = tuple[int, int]  # height, width


@dataclass(frozen=True, slots=True)
class Resize:
    """How pictures were brought to the size of a net's input. scales: of boxes, for FIT_SMALL_SIZE; 0 where not given."""

    mode: str
    size: Size
    scales: Size

    @classmethod
    def read(cls, p: Msg) -> Self:
        for name in ("prob", "pad_mode", "pad_value", "interp_mode"):
            p.has(name)  # looked at, and without effect on boxes
        if not p.height or not p.width:
            raise NetError("resize_param needs a size", at=p.at(), expected="height and width")
        return cls(p.enum("resize_mode"), (p.height, p.width), (p.height_scale, p.width_scale))


@layer("DetectionEvaluate")
@dataclass(frozen=True, slots=True)
class DetectionEvaluate(Layer):
    """What of detections is right: the rows that an average precision is counted from.

    bottom[0]: 1 x 1 x D x 7, detections, as DetectionOutput's      bottom[1]: 1 x 1 x G x 8, ground truth, as MultiBoxLoss's
    top[0]: 1 x 1 x R x 5: for each class but background_label_id: -1, class, number of truths, -1, -1; then for each
    detection, by image and class: image, class, score, 1 if right, 1 if wrong
    Right is the best detection whose largest overlap is with this truth of its class, and at least overlap_threshold.
    Unless evaluate_difficult_gt, difficult truths do not count, and what finds one is neither right nor wrong.
    R is the number of classes and detections, known only when it runs: the shape rule counts all D.
    Detections are put in order by score where their class has truth in the image, and stay as they come else. The ground
    truth ends at its first row of item -1; see MultiBoxLoss for those of the background. No gradient. Compared on the CPU.
    Boxes are compared in parts of the picture; where name_size_file (lines of name, height, width) is there, in pixels, with
    the last row and column, the pictures taken one after the other as they have detections; resize_param tells how they
    were brought to the net's size. Where the file is missing, SSD stops; here a warning tells it.
    Source: SSD, src/caffe/layers/detection_evaluate_layer.cpp.
    """

    category = "loss"
    n_bottom = (2, 2)
    no_gradient = (0, 1)
    remembers = ("place",)

    num_classes: int
    background_label_id: int = 0
    overlap_threshold: float = 0.5
    evaluate_difficult_gt: bool = True
    name_size_file: str = ""
    resize: Resize | None = field(default=None, repr=False)

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.detection_evaluate_param
        if not p.num_classes:
            raise NetError("num_classes is missing", at=p.at("num_classes") or "detection_evaluate_param")
        if p.overlap_threshold <= 0:
            got = f"{p.overlap_threshold:g}"
            raise NetError("overlap_threshold must be positive", at=p.at("overlap_threshold"), got=got)
        file = str(p.name_size_file)
        if file and not os.path.isfile(file):
            what = f'layer "{msg.name}": boxes are compared in parts of the picture: "{file}" is not there'
            warnings.warn(what, NetWarning, stacklevel=2)
            file = ""
        resize = Resize.read(p.resize_param) if p.has("resize_param") and file else None
        rest = p.background_label_id, p.overlap_threshold, p.evaluate_difficult_gt
        return cls(p.num_classes, *rest, file, resize)

    def tops(self, bottoms: Shapes) -> Shapes:
        for i, (what, width) in enumerate((("detections", DETECTION), ("ground truth", TRUTH))):
            at_least(4, bottoms, i)
            if bottoms[i][:2] != (1, 1) or bottoms[i][3:] != (width,):
                expected, got = f"1 x 1 x any x {width}", dims(bottoms[i])
                raise NetError(f"bottom {i} holds no {what}", expected=expected, got=got)
        return ((1, 1, len(self.classes()) + bottoms[0][2], ROW),)

    def classes(self) -> list[int]:
        return [c for c in range(self.num_classes) if c != self.background_label_id]

    def windows(self, bottoms: Shapes, tops: Shapes, bottom: int, top: int) -> Windows | None:
        return None

    def brief(self) -> str:
        return f"{self.num_classes} classes"

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        import torch

        not_exported(self.kind)
        exact = torch.promote_types(bottoms[0].dtype, torch.float32)
        found, truth = (b.detach().to("cpu", exact) for b in bottoms)
        found, truth = found.reshape(-1, DETECTION), truth.reshape(-1, TRUTH)
        ends = (truth[:, 0].long() == -1).nonzero()
        truth = truth[: int(ends[0])] if len(ends) else truth
        truth = truth[~blank(truth, self.background_label_id)]
        for rows, what in ((found[found[:, 0].long() != -1], "detections"), (truth, "ground truth")):
            if (rows[:, 1].long() == self.background_label_id).any():
                raise NetError(f"the {what} have the background's label", got=self.background_label_id)
        counted = truth[:, 1].long()
        if not self.evaluate_difficult_gt:
            counted = counted[truth[:, 7] == 0]
        classes = torch.tensor(self.classes(), dtype=torch.long)
        head = torch.full((len(classes), ROW), -1, dtype=exact)
        head[:, 1] = classes
        head[:, 2] = (counted[:, None] == classes).sum(0)

        images = sorted(set(found[:, 0].long().tolist()) - {-1})
        sizes = dict(zip(images, self.next_sizes(m, len(images)), strict=True))
        some = (found[:, 0].long() != -1) & (found[:, 1].long() != -1)
        keys = found[some, :2].long()
        parts = [head]
        for key in sorted(set(map(tuple, keys.tolist()))):
            pair = torch.tensor(key)
            own = found[some][(keys == pair).all(1)]
            parts.append(self.judged(own, truth[(truth[:, :2].long() == pair).all(1)], sizes[key[0]]))
        listed = int((found[:, 1] != -1).sum()) + len(head)
        top = torch.cat(parts)
        top = torch.cat((top, top.new_zeros(listed - len(top), ROW)))[None, None].to(bottoms[0].device)
        for b in bottoms:
            top = refuse_gradient(top, b, "DetectionEvaluate has no gradient")
        return top

    def next_sizes(self, m: Any, count: int) -> list[Size | None]:
        """The sizes of the pictures of a batch, which come one after the other, from call to call."""
        if not self.name_size_file:
            return [None] * count
        if "sizes" not in m.__dict__:
            m.sizes, m.place = _sizes(self.name_size_file), 0
        start, m.place = m.place, (m.place + count) % len(m.sizes)
        return [m.sizes[(start + i) % len(m.sizes)] for i in range(count)]

    def judged(self, found: Tensor, truth: Tensor, size: Size | None) -> Tensor:
        """The rows for detections of one class in one image, whose truths of that class these are."""
        import torch

        right, wrong = np.zeros(len(found)), np.ones(len(found))
        if len(truth):
            found = found[by_score(found[:, 2])]
            boxes, goals = found[:, 3:7], truth[:, 3:7]
            if size is not None:
                boxes, goals = (in_pixels(b, size, self.resize) for b in (boxes, goals))
            overlaps = iou(boxes, goals, 0 if size is None else 1).numpy()
            best = overlaps.argmax(1)
            hit = overlaps.max(1) >= self.overlap_threshold
            if not self.evaluate_difficult_gt:
                difficult = truth[:, 7].numpy() != 0
                wrong[hit & difficult[best]] = 0
                hit &= ~difficult[best]
            places = np.flatnonzero(hit)
            first = places[np.unique(best[places], return_index=True)[1]]
            right[first], wrong[first] = 1, 0
        return torch.cat((found[:, :3], torch.from_numpy(np.stack((right, wrong), 1)).to(found)), 1)


def in_pixels(boxes: Tensor, size: Size, resize: Resize | None) -> Tensor:
    """Boxes n x 4 in parts of a net's input as pixels of the picture, of this size, that it was made of."""
    import torch

    (height, width), scale = size, torch.tensor([size[1], size[0]] * 2, dtype=boxes.dtype)
    if resize is None or resize.mode == "WARP" or (resize.mode == "FIT_SMALL_SIZE" and 0 in resize.scales):
        return boxes.clamp(0, 1) * scale
    if resize.mode == "FIT_SMALL_SIZE":
        scaled = boxes * torch.tensor([resize.scales[1], resize.scales[0]] * 2, dtype=boxes.dtype)
        return torch.minimum(scaled.clamp(min=0), scale)
    high, wide = resize.size
    aspect = width / height
    if aspect > wide / high:
        part = (high - wide / aspect) / 2 / high
        low, top = torch.tensor([0, part], dtype=boxes.dtype), torch.tensor([1, 1 - part], dtype=boxes.dtype)
    else:
        part = (wide - high * aspect) / 2 / wide
        low, top = torch.tensor([part, 0], dtype=boxes.dtype), torch.tensor([1 - part, 1], dtype=boxes.dtype)
    inside = ((boxes[:, :2] < top) & (boxes[:, 2:] > low)).all(1, keepdim=True)  # others stay as they are
    moved = (boxes - low.repeat(2)) / (top - low).repeat(2)
    return moved.where(inside, boxes).clamp(0, 1) * scale


def _sizes(path: str) -> tuple[Size, ...]:
    """The heights and widths in a file of lines `name height width`. Raises: NetError for any other file."""
    try:
        with open(path, encoding="utf-8") as file:
            words = file.read().split()
        found = tuple(zip(map(int, words[1::3]), map(int, words[2::3]), strict=True))
    except (OSError, ValueError) as e:
        raise NetError(f"the sizes cannot be read: {e}", at=path, expected="lines of name, height and width") from e
    if not found or len(words) % 3:
        raise NetError("the sizes cannot be read", at=path, expected="lines of name, height and width")
    return found
