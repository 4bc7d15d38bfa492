"""YoloSeg and SegmentationEvaluate, of MobileNet-YOLO."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..graph import Shapes, dims
from ..text import Msg
from ..windows import Windows
from .base import Layer, at_least, exactly, layer, refuse_gradient

if TYPE_CHECKING:
    from torch import Tensor


@layer("YoloSeg")
@dataclass(frozen=True, slots=True)
class YoloSeg(Layer):
    """loss = 1/N sum of (s (sigmoid(x) - t))^2, s being object_scale.

    bottom[0]: x, N x C x H x W      bottom[1]: t, as many values      top[0]: a scalar, float32 at least
    dx = s (sigmoid(x) - t) / N. The other settings have no effect, in the fork neither.
    Source: MobileNet-YOLO, src/caffe/layers/yolo_seg.cpp.
    """

    category = "loss"
    n_bottom = (2, 2)
    is_loss = True
    anonymous_tops = True
    no_gradient = (1,)
    ignored = frozenset({"engine", "num_class", "class_scale", "use_logic_gradient", "use_hardsigmoid", "loss_param"})

    object_scale: float = 5.0

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        return cls(msg.yolo_seg_param.object_scale)

    def tops(self, bottoms: Shapes) -> Shapes:
        at_least(1, bottoms)
        if prod(bottoms[1]) != prod(bottoms[0]):
            raise NetError("bottom 1 has the wrong shape", expected=dims(bottoms[0]), got=dims(bottoms[1]))
        return ((),)

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        import torch

        x = bottoms[0].to(torch.promote_types(bottoms[0].dtype, torch.float32))
        off = self.object_scale * (x.detach().sigmoid() - bottoms[1].detach().reshape(x.shape).to(x.dtype))
        steered = (off * x).sum()  # its gradient is the fork's
        loss = (off.square().sum() + (steered - steered.detach())) / len(x)
        return refuse_gradient(loss, bottoms[1], "YoloSeg passes no gradient to its labels")


@layer("SegmentationEvaluate")
@dataclass(frozen=True, slots=True)
class SegmentationEvaluate(Layer):
    """The intersection over union of each class's pixels, those above the threshold, in the first picture.

    bottom[0]: found, N x C x H x W, in 0 .. 1      bottom[1]: true, the same      top[0]: 1 x 1 x 1 x C
    0 where no pixel is right. No gradient. The fork also takes bottoms of different sizes, and resizes the first one with
    OpenCV; that is refused here.
    Source: MobileNet-YOLO, src/caffe/layers/segmentation_evaluate_layer.cpp.
    """

    category = "loss"
    n_bottom = (2, 2)
    no_gradient = (0, 1)
    ignored = frozenset({"engine", "num_classes"})

    threshold: float = 0.5

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        return cls(msg.segmentation_evaluate_param.threshold)

    def tops(self, bottoms: Shapes) -> Shapes:
        exactly(4, bottoms)
        exactly(4, bottoms, 1)
        if bottoms[0][:2] != bottoms[1][:2]:
            raise NetError("bottom 1 has the wrong shape", expected=dims(bottoms[0]), got=dims(bottoms[1]))
        return ((1, 1, 1, bottoms[1][1]),)

    def windows(self, bottoms: Shapes, tops: Shapes, bottom: int, top: int) -> Windows | None:
        return None

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        import torch

        found, true = (b.detach()[0].flatten(1) > self.threshold for b in bottoms)
        if bottoms[0].shape != bottoms[1].shape:
            got = f"{dims(tuple(bottoms[0].shape))} and {dims(tuple(bottoms[1].shape))}"
            raise NetError("the two must be of one size here", expected="an Interp layer before bottom 0", got=got)
        both, either = (found & true).sum(1), (found | true).sum(1)
        share = both / either.clamp(min=1)
        return share.to(torch.promote_types(bottoms[0].dtype, torch.float32))[None, None, None]
