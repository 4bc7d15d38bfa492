"""RegionLoss and Yolov3, YOLO's losses."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..graph import Shapes, dims
from ..text import Msg
from .base import Layer, at_least, exactly, layer, refuse_gradient
from .boxes import iou
from .yolo_output import COORDS, Numbers, enough

if TYPE_CHECKING:
    from torch import Tensor

TRUTH = 5  # of a row of ground truth: class, centre x and y, width, height
WARM_UP = 12800  # pictures that are pulled to their anchors first
PULL = 0.01


@dataclass(frozen=True, slots=True)
class YoloLoss(Layer):
    """A loss that is told by its gradient: L = sum of d^2 / N, whose gradient is d / N by definition.

    bottom[0]: N x num (5 + num_class) x H x W, for each anchor x, y, w, h, objectness, classes
    bottom[1]: N x T x 5 (in any shape of 5 T an item), class, centre x and y, width, height in parts of the picture; the
    first row without a width ends them
    """

    category = "loss"
    n_bottom = (2, 2)
    is_loss = True
    anonymous_tops = True
    no_gradient = (1,)
    remembers = ("forwards",)

    num_class: int
    num: int
    object_scale: float
    class_scale: float
    coord_scale: float
    thresh: float
    biases: Numbers = field(repr=False)

    def tops(self, bottoms: Shapes) -> Shapes:
        exactly(4, bottoms)
        at_least(2, bottoms, 1)
        channels = self.num * (COORDS + self.num_class)
        if bottoms[0][1] != channels:
            expected = f"{channels}, {COORDS} + {self.num_class} for each of {self.num} boxes"
            raise NetError("bottom 0 has the wrong number of channels", expected=expected, got=dims(bottoms[0]))
        truth = bottoms[1]
        if truth[0] != bottoms[0][0] or prod(truth[1:]) % TRUTH:
            expected = f"{bottoms[0][0]} x T x {TRUTH}"
            raise NetError("bottom 1 holds no ground truth", expected=expected, got=dims(truth))
        return ((),)

    def brief(self) -> str:
        return f"{self.num_class} classes"

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        import torch

        x = bottoms[0].to(torch.promote_types(bottoms[0].dtype, torch.float32))
        n, _, rows, columns = x.shape
        truth = bottoms[1].detach().to("cpu", x.dtype).reshape(n, -1, TRUTH)
        values = x.detach().to("cpu").reshape(n, self.num, -1, rows, columns).permute(0, 1, 3, 4, 2).contiguous()
        off, pull = self.pulls(m, values, truth)
        loss = (off.square().sum() / n).to(x.device)
        flow = (x * pull.permute(0, 1, 4, 2, 3).reshape(x.shape).to(x.device)).sum() / n
        loss = loss + (flow - flow.detach())  # 0, and brings the gradient
        return refuse_gradient(loss, bottoms[1], f"{self.kind} passes no gradient to its labels")

    def pulls(self, m: Any, values: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
        """d for the loss and d for the gradient, of values N x anchors x H x W x channels."""
        raise NotImplementedError(type(self))


def boxes_of(values: Tensor, anchors: Tensor) -> Tensor:
    """The boxes x1, y1, x2, y2 of centres within their cells, and logarithms of sides in parts of anchors (parts of 1)."""
    import torch

    rows, columns = values.shape[2:4]
    cell = torch.stack(torch.meshgrid(torch.arange(columns), torch.arange(rows), indexing="xy"), -1)
    centre = (cell + values[..., :2]) / torch.tensor([columns, rows])
    half = values[..., 2:4].exp() * anchors[:, None, None] / 2
    return torch.cat((centre - half, centre + half), -1)


def corners(truth: Tensor) -> Tensor:
    """x1, y1, x2, y2 of rows of ground truth."""
    import torch

    return torch.cat((truth[:, 1:3] - truth[:, 3:5] / 2, truth[:, 1:3] + truth[:, 3:5] / 2), 1)


def until(rows: Tensor, column: int) -> Tensor:
    """The rows before the first whose entry in this column is 0."""
    ends = (rows[:, column] == 0).nonzero()
    return rows[: int(ends[0])] if len(ends) else rows


def sought(boxes: Tensor, truth: Tensor) -> Tensor:
    """The largest overlap of each box ... x 4 with ground truth; 0 without any."""
    rows = until(truth, 1)
    if not len(rows):
        return boxes.new_zeros(boxes.shape[:-1])
    return iou(boxes.reshape(-1, 4), corners(rows)).amax(1).reshape(boxes.shape[:-1])


def alike(sides: Tensor, anchors: Tensor) -> int:
    """The anchor that overlaps a box of these sides most, both around one point; of equals the first."""
    import torch

    both = torch.cat((-anchors / 2, anchors / 2), 1), torch.cat((-sides / 2, sides / 2))[None]
    overlaps: Any = iou(*both)[:, 0].numpy()
    return int(overlaps.argmax())


@layer("RegionLoss")
@dataclass(frozen=True, slots=True)
class RegionLoss(YoloLoss):
    """YOLOv2's loss: L = sum of d^2 / N over all numbers of bottom[0], whose gradient is d / N by definition.

    bottom[0]: N x num (5 + num_class) x H x W, for each anchor x, y, w, h, objectness, classes
    bottom[1]: N x T x 5 (in any shape of 5 T an item), class, centre x and y, width, height in parts of the picture; the
    first row without a width ends them      top[0]: the loss, a scalar
    With s = sigmoid, objectness o = s(.): box: centre (column + s(x)) / W, (row + s(y)) / H, sides exp(w) biases[2 a] / W, ..
    Each objectness: d = noobject_scale o o (1 - o), 0 where the box overlaps a truth by more than thresh.
    Each truth: its cell and the anchor that is most like it in size (without bias_match: the box), k = coord_scale with
    rescore, else times 2 - w h:  d = k (s(x) - x W + column) s'(x), likewise y;  d = k (w - log(truth's w W / bias)),
    likewise h;  d = object_scale (o - overlap with rescore, else 1) o (1 - o);  d = class_scale (softmax - [the class]).
    Of truths that fall together the last stays. The first 12800 pictures pull all boxes to their anchors: d = 0.01 of the
    same with the cell's centre and the anchor as truth.
    Only biases, num, num_class, the scales, thresh, bias_match and rescore have an effect. Computed on the CPU.
    Source: MobileNet-YOLO, src/caffe/layers/region_loss_layer.cpp, which counts the pictures of all its nets together.
    """

    ignored = frozenset({"engine", "side", "softmax", "jitter", "absolute", "random", "softmax_tree", "class_map"})

    noobject_scale: float
    bias_match: bool
    rescore: bool

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.region_loss_param
        if p.coords != 4:
            raise NetError("coords must be 4", at=p.at("coords"), got=p.coords)
        biases = enough(p, "biases", 2 * p.num, "two for each box")
        scales = p.object_scale, p.class_scale, p.coord_scale
        rest = p.noobject_scale, bool(p.bias_match), bool(p.rescore)
        return cls(p.num_class, p.num, *scales, p.thresh, biases, *rest)

    def pulls(self, m: Any, values: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
        import torch

        n, _, rows, columns, _ = values.shape
        size = torch.tensor([columns, rows], dtype=values.dtype)
        anchors = torch.tensor(self.biases[: 2 * self.num], dtype=values.dtype).reshape(-1, 2) / size
        known = values.clone()
        known[..., (0, 1, 4)] = values[..., (0, 1, 4)].sigmoid()
        known[..., COORDS:] = values[..., COORDS:].softmax(-1)
        boxes = boxes_of(known, anchors)
        bent = known * (1 - known)
        off = torch.zeros_like(known)
        off[..., 4] = self.noobject_scale * known[..., 4] * bent[..., 4]
        if self.seen(m) < WARM_UP // n:
            off[..., :2] = PULL * (known[..., :2] - 0.5) * bent[..., :2]
            off[..., 2:4] = PULL * known[..., 2:4]
        for b in range(n):
            off[b, ..., 4][sought(boxes[b], truth[b]) > self.thresh] = 0
            for row in until(truth[b], 3):
                at = row[1:3] * size
                i, j = int(at[0]), int(at[1])
                if not (0 <= i < columns and 0 <= j < rows):
                    raise NetError("a truth lies outside the picture", got=", ".join(f"{v:g}" for v in row.tolist()))
                sides = anchors if self.bias_match else known[b, :, j, i, 2:4].exp() * anchors
                a = alike(row[3:5], sides)
                scale = self.coord_scale * (1 if self.rescore else 2 - float(row[3] * row[4]))
                held, curve, d = known[b, a, j, i], bent[b, a, j, i], off[b, a, j, i]
                d[:2] = scale * (held[:2] - (at - torch.tensor([i, j]))) * curve[:2]
                d[2:4] = scale * (held[2:4] - (row[3:5] / anchors[a]).log())
                aim = float(iou(boxes[b, a, j, i][None], corners(row[None]))) if self.rescore else 1.0
                d[4] = self.object_scale * (held[4] - aim) * curve[4]
                d[COORDS:] = self.class_scale * (held[COORDS:] - one_hot(row[0], self.num_class, held))
        return off, off

    @staticmethod
    def seen(m: Any) -> int:
        """How many forwards went before this one."""
        count: int = m.__dict__.get("forwards", 0)
        m.forwards = count if m.again else count + 1
        return count - 1 if m.again else count


@layer("Yolov3")
@dataclass(frozen=True, slots=True)
class Yolov3(YoloLoss):
    """YOLOv3's loss: L = sum of d^2 / N over all numbers of bottom[0], whose gradient is d / N by definition.

    bottom[0]: N x num (5 + num_class) x H x W, for each anchor x, y, w, h, objectness, classes
    bottom[1]: N x T x 5 (in any shape of 5 T an item), class, centre x and y, width, height in parts of the picture; the
    first row without a width ends them      top[0]: the loss, a scalar
    With s = sigmoid: box: centre (column + s(x)) / W, (row + s(y)) / H, sides exp(w) biases[2 mask[a]] / (W anchors_scale), ..
    Each objectness: d = s(.), 0 where the box overlaps a truth by more than thresh.
    Each truth whose size is most like one of the anchors in mask, of all in biases; its cell, k = coord_scale (2 - w h):
    d = k (s(x) - x W + column), likewise y;  d = k (w - log(truth's w W anchors_scale / bias)), likewise h;  objectness:
    d = s(.) - 1, times object_scale with use_logic_gradient;  classes: d = class_scale (s(.) - [the class]).
    Of truths that fall together the last stays. With use_logic_gradient the gradient, not the loss, is times s'(.) where
    there is an s.
    `side` and noobject_scale have no effect. Computed on the CPU.
    Quirk: where a truth falls on another the classes stay, but for its own, whose d is 1 - s(.), of the wrong sign.
    Source: MobileNet-YOLO, src/caffe/layers/yolov3_layer.cpp.
    """

    ignored = frozenset({"engine", "side", "noobject_scale"})

    anchors_scale: int
    mask: tuple[int, ...] = field(repr=False)
    use_logic_gradient: bool

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.yolov3_param
        mask = enough(p, "mask", p.num, "one for each box")[: p.num]
        biases = tuple(p.biases)
        for i, anchor in enumerate(mask):
            if 2 * anchor + 1 >= len(biases):
                expected = f"below {len(biases) // 2}, the pairs of biases"
                raise NetError("mask names no anchor", at=p.at("mask", i), expected=expected, got=anchor)
        scales = p.object_scale, p.class_scale, p.coord_scale
        rest = p.anchors_scale, tuple(map(int, mask)), p.use_logic_gradient
        return cls(p.num_class, p.num, *scales, p.thresh, biases, *rest)

    def pulls(self, m: Any, values: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
        import torch

        n, _, rows, columns, _ = values.shape
        size = torch.tensor([columns, rows], dtype=values.dtype)
        whole = len(self.biases) // 2
        every = torch.tensor(self.biases[: 2 * whole], dtype=values.dtype).reshape(-1, 2) / (size * self.anchors_scale)
        anchors = every[list(self.mask)]
        known = values.sigmoid()
        known[..., 2:4] = values[..., 2:4]
        boxes = boxes_of(known, anchors)
        off = torch.zeros_like(known)
        off[..., 4] = known[..., 4]
        aimed = self.object_scale if self.use_logic_gradient else 1.0
        for b in range(n):
            off[b, ..., 4][sought(boxes[b], truth[b]) > self.thresh] = 0
            for row in until(truth[b], 3):
                at = row[1:3] * size
                i, j = int(at[0]), int(at[1])
                if not (0 <= i < columns and 0 <= j < rows):
                    raise NetError("a truth lies outside the picture", got=", ".join(f"{v:g}" for v in row.tolist()))
                best = alike(row[3:5], every)
                if best not in self.mask:
                    continue
                a = self.mask.index(best)
                scale = self.coord_scale * (2 - float(row[3] * row[4]))
                held, d = known[b, a, j, i], off[b, a, j, i]
                d[:2] = scale * (held[:2] - (at - torch.tensor([i, j])))
                d[2:4] = scale * (held[2:4] - (row[3:5] / anchors[a]).log())
                d[4] = aimed * (held[4] - 1)
                hot = one_hot(row[0], self.num_class, held)
                if d[COORDS]:
                    d[COORDS:] = d[COORDS:].where(hot == 0, 1 - held[COORDS:])
                else:
                    d[COORDS:] = self.class_scale * (held[COORDS:] - hot)
        if not self.use_logic_gradient:
            return off, off
        bent = known * (1 - known)
        bent[..., 2:4] = 1
        return off, off * bent


def one_hot(label: Tensor, classes: int, like: Tensor) -> Tensor:
    """1 at a class. Raises: NetError for a label that is none."""
    c = int(label)
    if not 0 <= c < classes:
        raise NetError("a label of the ground truth is out of range", expected=f"0 to {classes - 1}", got=c)
    hot = like.new_zeros(classes)
    hot[c] = 1
    return hot
