"""DetectNetTransformation, of NVCaffe."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, cos, floor, radians, sin
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ..errors import NetError
from ..graph import Shapes, dims
from ..text import Msg
from ..windows import Windows
from .base import Layer, exactly, layer, not_in_place

if TYPE_CHECKING:
    from torch import Tensor

FIELDS = 16  # of a box: x, y, width, height, angle, class, and what is not used
BOX = 8  # channels of the labels before those of the classes
FULL = 255.0
LEAST = 1.1920929e-07  # FLT_EPSILON

Size = tuple[int, int]  # height, width


@dataclass(frozen=True, slots=True)
class Grid:
    """Labels of boxes on a grid of cells of `stride` pixels, over pictures of `image` height and width."""

    image: Size = (384, 1248)
    stride: int = 4
    scale_cvg: float = 0.5
    gridbox_type: str = "GRIDBOX_MAX"
    max_cvg_len: int = 50
    min_cvg_len: int = 50
    obj_norm: bool = False
    crop_bboxes: bool = True
    classes: tuple[tuple[int, int], ...] = ((1, 0),)  # the number of a class in the data, and here

    @classmethod
    def read(cls, p: Msg) -> Self:
        if not p.stride:
            raise NetError("stride must be positive", at=p.at("stride"), got=p.stride)
        image = (p.image_size_y, p.image_size_x)
        if min(image) < 1:
            raise NetError("the image has no pixels", at=p.at("image_size_y"), got=dims(image))
        classes = {c.src: c.dst for c in p.object_class} or {1: 0}
        return cls(
            image,
            p.stride,
            p.scale_cvg,
            p.enum("gridbox_type"),
            p.max_cvg_len,
            p.min_cvg_len,
            p.obj_norm,
            p.crop_bboxes,
            tuple(sorted(classes.items())),
        )

    @property
    def shape(self) -> tuple[int, int, int]:
        rows, columns = (round(s / self.stride) for s in self.image)
        return BOX + 1 + max(dst for _, dst in self.classes), rows, columns

    def labels(self, boxes: np.ndarray) -> np.ndarray:
        """The labels of boxes G x 16."""
        top = np.zeros(self.shape)
        _, rows, columns = self.shape
        named, cell = dict(self.classes), float(self.stride**2)
        for x, y, width, height, _, kind, *_ in boxes.tolist():
            left, upper, right, lower = x, y, x + width, y + height
            if self.crop_bboxes:
                left, upper = max(left, 0.0), max(upper, 0.0)
                right, lower = min(right, float(self.image[1])), min(lower, float(self.image[0]))
            width, height = right - left, lower - upper
            if int(kind) not in named or min(width, height) <= 0 or width * height < LEAST:
                continue
            half = [self.covered(width) / 2, self.covered(height) / 2]
            x1, x2 = ((left + right) / 2 + s * half[0] for s in (-1, 1))
            y1, y2 = ((upper + lower) / 2 + s * half[1] for s in (-1, 1))
            area = (x2 - x1) * (y2 - y1)
            for row in range(max(floor(y1 / self.stride), 0), min(ceil(y2 / self.stride), rows)):
                for column in range(max(floor(x1 / self.stride), 0), min(ceil(x2 / self.stride), columns)):
                    at_y, at_x = row * self.stride, column * self.stride
                    shared = (min(y2, at_y + self.stride) - max(y1, at_y)) * (
                        min(x2, at_x + self.stride) - max(x1, at_x)
                    )
                    if shared / cell <= LEAST:
                        continue
                    norm = max(0.0 if self.obj_norm else 1.0, cell / area)
                    places = (left - at_x, upper - at_y, right - at_x, lower - at_y)
                    top[:BOX, row, column] = (1, *places, 1 / width, 1 / height, norm)
                    top[BOX:, row, column] = 0
                    top[BOX + named[int(kind)], row, column] = 1
        return top

    def covered(self, length: float) -> float:
        """How long that part of a box is that counts."""
        short = length * self.scale_cvg
        if self.gridbox_type == "GRIDBOX_MAX":
            return min(self.max_cvg_len, short)
        return min(length, max(self.min_cvg_len, short))


@dataclass(frozen=True, slots=True)
class Change:
    """What happens to a picture: hue is turned, colours are pale, it is flipped, resized, turned and cut out, in this order."""

    size: Size
    hue: float = 0.0
    saturation: float = 1.0
    flip: bool = False
    rotation: float = 0.0
    offset: Size = (0, 0)


@layer("DetectNetTransformation")
@dataclass(frozen=True, slots=True)
class DetectNetTransformation(Layer):
    """Pictures of one size for DetectNet, in TRAIN changed at random, and labels of their boxes on a grid.

    bottom[0]: N x 3 x H x W, blue, green, red      bottom[1]: N x 1 x R x 16; the first row of an item tells how many rows
    of boxes follow, and 16; a row is x, y, width, height, angle, class, ...
    top[0]: N x 3 x image_size_y x image_size_x
    top[1]: N x (8 + classes) x image_size_y / stride x image_size_x / stride: 1 where there is a box, its corners from the
    cell's, 1 / width, 1 / height, the norm, then 1 for its class. Cells of a box are those that its middle part covers, of
    scale_cvg times its sides, at most max_cvg_len (GRIDBOX_MAX), or at least min_cvg_len (GRIDBOX_MIN).
    mean_value is subtracted. TEST: the picture is resized, cubic. TRAIN: each of hue_rotation, desaturation, flip, scale,
    rotation and crop by its probability; else it is cut from the middle. Random numbers are torch's. No gradient.
    Quirks: a box flips to width - x - w - 1; in TEST the labels are resized with the picture. Where a picture was turned,
    pixels that have not all of their neighbours are 0. mean_file is refused: nothing is read here.
    Source: NVIDIA/caffe, src/caffe/layers/detectnet_transform_layer.cpp, src/caffe/util/detectnet_coverage_rectangular.cpp.
    """

    category = "data"
    n_bottom = (2, 2)
    n_top = (2, 2)
    no_gradient = (0, 1)

    grid: Grid
    mean_value: tuple[float, ...] = ()
    crop_prob: float = 1.0
    shift: Size = (0, 0)
    scale_prob: float = 0.33
    scale: tuple[float, float] = (0.7, 1.0)
    flip_prob: float = 0.33
    rotation_prob: float = 0.33
    max_rotate_degree: float = 1.0
    hue_rotation_prob: float = 0.33
    hue_rotation: float = 15.0
    desaturation_prob: float = 0.33
    desaturation_max: float = 0.5
    train: bool = False

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        not_in_place(msg)
        a, t = msg.detectnet_augmentation_param, msg.transform_param
        if t.has("mean_file"):
            raise NetError("mean_file is not supported here", at=t.at("mean_file"), hint="give mean_value")
        if len(t.mean_value) not in (0, 1, 3):
            raise NetError(
                "the wrong number of mean_value", at=t.at("mean_value"), expected="1 or 3", got=len(t.mean_value)
            )
        return cls(
            Grid.read(msg.detectnet_groundtruth_param),
            tuple(t.mean_value),
            a.crop_prob,
            (a.shift_y, a.shift_x),
            a.scale_prob,
            (a.scale_min, a.scale_max),
            a.flip_prob,
            a.rotation_prob,
            a.max_rotate_degree,
            a.hue_rotation_prob,
            a.hue_rotation,
            a.desaturation_prob,
            a.desaturation_max,
            msg.enum("phase") == "TRAIN",
        )

    def tops(self, bottoms: Shapes) -> Shapes:
        exactly(4, bottoms)
        exactly(4, bottoms, 1)
        n, channels = bottoms[0][:2]
        if channels != 3:
            raise NetError("bottom 0 has the wrong number of channels", expected=3, got=channels)
        if bottoms[1][0] != n or bottoms[1][1] != 1 or bottoms[1][3] != FIELDS:
            raise NetError("bottom 1 has the wrong shape", expected=f"{n} x 1 x R x {FIELDS}", got=dims(bottoms[1]))
        return (n, 3, *self.grid.image), (n, *self.grid.shape)

    def windows(self, bottoms: Shapes, tops: Shapes, bottom: int, top: int) -> Windows | None:
        return None

    def forward(self, m: Any, *bottoms: Tensor) -> tuple[Tensor, ...]:
        import torch

        pictures, rows = bottoms[0].detach(), bottoms[1].detach().cpu().double().numpy()[:, 0]
        size = (pictures.shape[2], pictures.shape[3])
        images, labels = [], []
        for picture, (head, *boxes) in zip(pictures, rows, strict=True):
            if int(head[1]) != FIELDS or not 0 <= int(head[0]) <= len(boxes):
                expected = f"up to {len(boxes)}, and {FIELDS}"
                raise NetError("the first row of bottom 1 is wrong", expected=expected, got=f"{head[0]:g}, {head[1]:g}")
            change = self.drawn(size)
            images.append(self.changed(picture, change))
            held = np.array(boxes[: int(head[0])]).reshape(-1, FIELDS)
            labels.append(self.grid.labels(moved(held, size, change)))
        made = torch.from_numpy(np.stack(labels)) if labels else torch.zeros((0, *self.grid.shape))
        top = torch.stack(images) if images else pictures.new_zeros((0, 3, *self.grid.image))
        return top, made.to(pictures)

    def drawn(self, size: Size) -> Change:
        """How a picture of this size is to be changed."""
        import torch

        if not self.train:
            return Change(self.grid.image)

        def draw() -> float:
            return float(torch.rand(()))

        hue, saturation, scaled, rotation = 0.0, 1.0, size, 0.0
        if draw() <= self.hue_rotation_prob:
            hue = max(min((draw() - 0.5) * 2 * self.hue_rotation, 180.0), -180.0)
        if draw() <= self.desaturation_prob:
            saturation = 1 - draw() * self.desaturation_max
        flip = draw() <= self.flip_prob
        if draw() <= self.scale_prob:
            by = self.scale[0] + (self.scale[1] - self.scale[0]) * draw()
            scaled = (_rounded(size[0] * by), _rounded(size[1] * by))
        if draw() <= self.rotation_prob:
            rotation = (draw() - 0.5) * 2 * self.max_rotate_degree
        before = bounds(scaled, rotation)[0] if rotation else scaled
        at, shift = (0.5, 0.5), (0, 0)
        if draw() <= self.crop_prob:
            right = draw()
            at, shift = (draw(), right), self.shift
        ends = zip(at, before, self.grid.image, shift, strict=True)
        top, left = (_rounded(part * (a - b + s) - s // 2) for part, a, b, s in ends)
        return Change(scaled, hue, saturation, flip, rotation, (top, left))

    def changed(self, picture: Tensor, change: Change) -> Tensor:
        """A picture 3 x H x W."""
        import torch
        import torch.nn.functional as F

        x = picture / FULL
        if change.hue or change.saturation < 1:
            x = recoloured(x, change.hue, change.saturation)
        if self.mean_value:
            x = x - x.new_tensor(self.mean_value)[:, None, None] / FULL
        if change.flip:
            x = x.flip(2)
        if tuple(x.shape[1:]) != change.size:
            x = F.interpolate(x[None], change.size, mode="bicubic", align_corners=False)[0]
        if change.rotation:
            x = turned(x, change.rotation)
        top = torch.zeros((3, *self.grid.image), dtype=x.dtype, device=x.device)
        spans = []
        for offset, has, wanted in zip(change.offset, x.shape[1:], self.grid.image, strict=True):
            first, end = max(offset, 0), min(offset + wanted, has)
            spans.append((slice(first, max(end, first)), slice(first - offset, max(end, first) - offset)))
        (rows, to_rows), (columns, to_columns) = spans
        part = x[:, rows, columns]
        if part.numel():
            top[:, to_rows, to_columns] = part
        return top * FULL


def _rounded(value: float) -> int:
    """C's round: halves away from zero."""
    return floor(value + 0.5) if value >= 0 else -floor(0.5 - value)


def bounds(size: Size, degrees: float, middle: tuple[float, float] | None = None) -> tuple[Size, Size]:
    """The size of what a turned picture covers, and where it begins: OpenCV's RotatedRect.boundingRect."""
    height, width = size
    cy, cx = middle or (height // 2, width // 2)
    c, s = cos(radians(degrees)), sin(radians(degrees))
    half_x = (abs(c) * width + abs(s) * height) / 2
    half_y = (abs(s) * width + abs(c) * height) / 2
    left, top = floor(cx - half_x), floor(cy - half_y)
    return (ceil(cy + half_y) - top + 1, ceil(cx + half_x) - left + 1), (top, left)


def turning(size: Size, degrees: float) -> tuple[np.ndarray, np.ndarray]:
    """The matrix and the offset by which (x, y) of a picture goes to its place in the turned one."""
    height, width = size
    middle = np.array([width / 2, height / 2])
    _, (top, left) = bounds(size, degrees, (height / 2, width / 2))
    c, s = cos(radians(degrees)), sin(radians(degrees))
    matrix = np.array([[c, -s], [s, c]])
    return matrix, middle - np.array([left, top]) - matrix @ middle


def turned(x: Tensor, degrees: float) -> Tensor:
    """A picture 3 x H x W, turned about its middle."""
    import torch

    size = (x.shape[1], x.shape[2])
    matrix, offset = turning(size, degrees)
    (height, width), _ = bounds(size, degrees)
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    places = torch.stack((columns, rows)).to(x).flatten(1) - x.new_tensor(offset)[:, None]
    back_x, back_y = x.new_tensor(matrix.T) @ places
    left, top = back_x.floor(), back_y.floor()
    inside = (left >= 0) & (top >= 0) & (left + 1 < size[1]) & (top + 1 < size[0])
    part_x, part_y = back_x - left, back_y - top
    total = x.new_zeros((3, height * width))
    for dy, dx in ((0, 0), (0, 1), (1, 0), (1, 1)):
        at = ((top + dy).clamp(0, size[0] - 1) * size[1] + (left + dx).clamp(0, size[1] - 1)).long()
        weight = (part_y if dy else 1 - part_y) * (part_x if dx else 1 - part_x)
        total = total + x.flatten(1)[:, at] * weight
    made: Tensor = total * inside
    return made.reshape(3, height, width)


def moved(boxes: np.ndarray, size: Size, change: Change) -> np.ndarray:
    """Boxes G x 16 of a picture of this size, where they are after the change."""
    boxes = boxes.copy()
    if change.flip:
        boxes[:, 0] = size[1] - boxes[:, 0] - boxes[:, 2] - 1
    by = np.array([change.size[1] / size[1], change.size[0] / size[0]])
    boxes[:, :2] *= by
    boxes[:, 2:4] *= by
    if change.rotation:
        matrix, offset = turning(change.size, change.rotation)
        middle = boxes[:, :2] + boxes[:, 2:4] / 2
        boxes[:, :2] = middle @ matrix.T + offset - boxes[:, 2:4] / 2
    boxes[:, :2] -= change.offset[::-1]
    return boxes


def recoloured(x: Tensor, hue: float, saturation: float) -> Tensor:
    """A picture 3 x H x W of 0 .. 1, blue, green, red, by way of hue, saturation and value."""
    import torch

    blue, green, red = x
    value, span = x.amax(0), x.amax(0) - x.amin(0)
    by = 60 / (span + LEAST)
    angle = torch.where(value == green, 120 + (blue - red) * by, 240 + (red - green) * by)
    angle = torch.where(value == red, (green - blue) * by, angle)
    angle = (torch.where(angle < 0, angle + 360, angle) + hue) / 60 % 6
    pale = span / (value.abs() + LEAST) * saturation
    sector = angle.floor().clamp(max=5)
    part = angle - sector
    steps = torch.stack((value, value * (1 - pale), value * (1 - pale * part), value * (1 - pale * (1 - part))))
    order = torch.tensor([[1, 3, 0], [1, 0, 2], [3, 0, 1], [0, 2, 1], [0, 1, 3], [2, 1, 0]], device=x.device)
    made: Tensor = steps.gather(0, order[sector.long()].permute(2, 0, 1))
    return made
