"""YoloDetectionOutput and Yolov3DetectionOutput."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..graph import Shapes, dims
from ..text import Msg
from ..windows import Windows
from .base import ANY, Layer, exactly, layer, refuse_gradient
from .boxes import by_score, nms, not_exported

if TYPE_CHECKING:
    from torch import Tensor

COORDS = 5  # x, y, w, h and objectness, before the classes
Numbers = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Heads(Layer):
    """Boxes of one or more feature maps whose channels are, for each anchor: x, y, w, h, objectness, classes."""

    n_bottom = (1, ANY)
    ignored = frozenset({"engine", "label_map_file"})

    num_classes: int
    num_box: int
    confidence_threshold: float
    nms_threshold: float
    biases: Numbers = field(repr=False)

    def tops(self, bottoms: Shapes) -> Shapes:
        channels = self.num_box * (COORDS + self.num_classes)
        for i, shape in enumerate(bottoms):
            exactly(4, bottoms, i)
            if shape[1] != channels:
                expected = f"{channels}, {COORDS} + {self.num_classes} for each of {self.num_box} boxes"
                raise NetError(f"bottom {i} has the wrong number of channels", expected=expected, got=dims(shape))
        return ((1, 1, 1, 7),)

    def windows(self, bottoms: Shapes, tops: Shapes, bottom: int, top: int) -> Windows | None:
        return None

    def brief(self) -> str:
        return f"{self.num_classes} classes"

    def anchors(self, bottom: int) -> list[tuple[float, float]]:
        """The widths and heights of one bottom's anchors."""
        raise NotImplementedError(type(self))

    def sides(self, bottom: int, rows: int, columns: int) -> tuple[float, float]:
        """What the widths and heights of anchors are parts of."""
        raise NotImplementedError(type(self))

    def scored(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of values N x H x W x anchors x channels: the places of detections in it, M x 4, their classes, their scores."""
        raise NotImplementedError(type(self))

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        import torch

        not_exported(self.kind)
        exact = torch.promote_types(bottoms[0].dtype, torch.float32)
        parts = []
        for i, bottom in enumerate(bottoms):
            n, _, rows, columns = bottom.shape
            x = bottom.detach().to("cpu", exact).reshape(n, self.num_box, -1, rows, columns).permute(0, 3, 4, 1, 2)
            places, label, score = self.scored(x)
            item, row, column, anchor = places.unbind(1)
            raw = x[item, row, column, anchor, :4]
            anchors = torch.tensor(self.anchors(i), dtype=exact)
            high, wide = self.sides(i, rows, columns)
            centre = (torch.stack((column, row), 1) + raw[:, :2].sigmoid()) / torch.tensor([columns, rows])
            half = raw[:, 2:].exp() * anchors[anchor] / torch.tensor([wide, high], dtype=exact) / 2
            head = torch.stack((torch.zeros_like(score), (label + 1).to(exact), score), 1)
            parts.append(torch.cat((head, centre - half, centre + half), 1))
        found = torch.cat(parts)
        found = found[by_score(found[:, 2])]
        found = found[nms(found[:, 3:], self.nms_threshold, equal=True)]
        if not len(found):
            n = len(bottoms[-1])
            found = torch.full((n, 7), -1, dtype=exact)
            found[:, 0] = torch.arange(n)
        top = found[None, None].to(bottoms[0].device)
        for b in bottoms:
            top = refuse_gradient(top, b, f"{self.kind} has no gradient")
        return top


@layer("YoloDetectionOutput")
@dataclass(frozen=True, slots=True)
class YoloDetectionOutput(Heads):
    """YOLOv2's detections: the best class of each box, and of all boxes those that no better one overlaps.

    bottom[i]: N x num_box (5 + num_classes) x H x W      top[0]: 1 x 1 x R x 7: 0, class + 1, score, x1, y1, x2, y2, from the
    best score down; R is known only when it runs: the shape rule says 1, as Caffe's. Where nothing is found, there are N
    rows of image, -1, -1, ..
    Centre: (column + sigmoid x) / W, (row + sigmoid y) / H; sides exp(w) biases[2 a] / W and exp(h) biases[2 a + 1] / H for
    anchor a. Score: sigmoid(objectness) softmax(classes), from confidence_threshold on.
    Boxes that overlap by nms_threshold or more are one, whatever their classes and images, and all say image 0.
    `side` has no effect, and label_map_file is not read. No gradient. Compared on the CPU.
    Source: MobileNet-YOLO, src/caffe/layers/yolo_detection_output_layer.cpp.
    """

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.yolo_detection_output_param
        p.has("side")  # looked at, and without effect
        if p.coords != 4:
            raise NetError("coords must be 4", at=p.at("coords"), got=p.coords)
        biases = enough(p, "biases", 2 * p.num_box, "two for each box")
        return cls(p.num_classes, p.num_box, p.confidence_threshold, p.nms_threshold, biases)

    def anchors(self, bottom: int) -> list[tuple[float, float]]:
        return list(zip(self.biases[::2], self.biases[1::2], strict=True))[: self.num_box]

    def sides(self, bottom: int, rows: int, columns: int) -> tuple[float, float]:
        return rows, columns

    def scored(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        best, label = x[..., COORDS:].softmax(-1).max(-1)
        score = best * x[..., 4].sigmoid()
        held = score >= self.confidence_threshold
        return held.nonzero(), label[held], score[held]


@layer("Yolov3DetectionOutput")
@dataclass(frozen=True, slots=True)
class Yolov3DetectionOutput(Heads):
    """YOLOv3's detections: all classes of each box, and of all of them those that no better one overlaps.

    bottom[i]: N x num_box (5 + num_classes) x H x W      top[0]: 1 x 1 x R x 7, as YoloDetectionOutput's
    As there, but: score sigmoid(objectness) sigmoid(class), above confidence_threshold, so that a box may be found as
    several classes, of which the overlap leaves the best; and sides exp(w) biases[2 a] / (W anchors_scale[i]), H likewise,
    with a the mask's entry for this anchor; mask_group_num is the number of bottoms, which share `mask` evenly. With OpenVINO's
    names num_boxes and masks it need not be told.
    gaussian_box is refused: the fork's code for the CPU reads an objectness there that it does not compute.
    Source: MobileNet-YOLO, src/caffe/layers/yolov3_detection_output_layer.cpp.
    """

    anchors_scale: Numbers = field(repr=False)
    mask: tuple[int, ...] = field(repr=False)

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p, groups = msg.yolov3_detection_output_param, len(bottoms)
        if not p.has("num_classes"):
            raise NetError("num_classes is missing", at="yolov3_detection_output_param")
        if p.gaussian_box:
            what = "boxes with a variance of their own are not supported here"
            raise NetError(what, at=p.at("gaussian_box"), expected="gaussian_box: false")
        if p.mask_group_num != groups and not p.has("masks"):
            at = p.at("mask_group_num") or "yolov3_detection_output_param"
            raise NetError("mask_group_num is the number of bottoms", at=at, expected=groups, got=p.mask_group_num)
        scale = enough(p, "anchors_scale", groups, "one for each bottom")[:groups]
        biases = tuple(p.biases)
        boxes = p.num_boxes if p.has("num_boxes") else p.num_box
        name = "masks" if p.has("masks") else "mask"
        mask = tuple(getattr(p, name))
        for i, anchor in enumerate(mask):
            if 2 * anchor + 1 >= len(biases):
                expected = f"below {len(biases) // 2}, the pairs of biases"
                raise NetError(f"{name} names no anchor", at=p.at(name, i), expected=expected, got=anchor)
        if (groups - 1) * (len(mask) // groups) + boxes > len(mask):
            expected = f"{boxes * groups}, {boxes} for each of {groups} bottoms"
            at = p.at(name) or "yolov3_detection_output_param"
            raise NetError(f"the wrong number of {name}", at=at, expected=expected, got=len(mask))
        return cls(p.num_classes, boxes, p.confidence_threshold, p.nms_threshold, biases, scale, mask)

    def anchors(self, bottom: int) -> list[tuple[float, float]]:
        start = bottom * (len(self.mask) // len(self.anchors_scale))
        return [(self.biases[2 * a], self.biases[2 * a + 1]) for a in self.mask[start : start + self.num_box]]

    def sides(self, bottom: int, rows: int, columns: int) -> tuple[float, float]:
        return rows * self.anchors_scale[bottom], columns * self.anchors_scale[bottom]

    def scored(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        scores = x[..., COORDS:].sigmoid() * x[..., 4:5].sigmoid()
        held = scores > self.confidence_threshold
        places = held.nonzero()
        return places[:, :4], places[:, 4], scores[held]


def enough(p: Msg, name: str, count: int, what: str) -> Numbers:
    """The values of a repeated field. Raises: NetError for fewer than `count`."""
    values = tuple(getattr(p, name))
    if len(values) < count:
        at = p.at(name) or p.at()
        raise NetError(f"the wrong number of {name}", at=at, expected=f"{count}, {what}", got=len(values))
    return values
