"""The Python layers that people train MTCNN's nets with: what they compute, without their code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, ClassVar, Self

from ..errors import NetError
from ..graph import Shape, Shapes, dims
from ..text import Msg
from ..windows import Windows
from .base import InputLayer, Layer, at_least
from .python import native

if TYPE_CHECKING:
    from torch import Tensor

MODULE = "pythonLayer"
NONE = -1  # a label, or the first number of a target, that an item does not have
TARGETS: Shapes = ((1,), (4,), (10,))  # of one item: a label, a box, five points
CLASSES = 2


@native((MODULE, "Data_Layer_train"))
@dataclass(frozen=True, slots=True)
class FaceData(InputLayer):
    """Pictures, and what is in them, which the caller feeds here; of an item, -1 stands for what is not told.

    top[0]: N x 3 x S x S      top[1]: N x 1, whether it is a face      top[2]: N x 4, the box      top[3], if named: N x 10,
    five points
    The net does not tell N and S: the shape of top 0 must be given, and the others follow it.
    Source: CongWeilin/mtcnn-caffe, 12net/pythonLayer.py.
    """

    kind: ClassVar[str]
    n_top = (3, 4)

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        return cls((None,) * len(msg.top))

    def given(self, shapes: Mapping[int, Shape]) -> Self:
        if 0 in shapes:
            follow = {i: (shapes[0][0], *target) for i, target in enumerate(TARGETS, 1)}
            shapes = {**{i: s for i, s in follow.items() if i < len(self.shapes)}, **shapes}
        return InputLayer.given(self, shapes)


@native((MODULE, "cls_Layer"), (MODULE, "cls_Layer_fc"))
@dataclass(frozen=True, slots=True)
class Labelled(Layer):
    """The scores and labels of the items that have a label, in front; 0 behind them.

    bottom[0]: N x 2 (further axes of 1), scores      bottom[1]: N labels, -1 for none
    top[0]: N x 2, of cls_Layer_fc N x 2 x 1 x 1      top[1]: N x 1
    Gradient goes back to the scores of those items. (The layer itself fails where some have a label and some not.)
    Source: CongWeilin/mtcnn-caffe, 48net/pythonLayer.py.
    """

    kind: ClassVar[str]
    category = "shape"
    n_bottom = (2, 2)
    n_top = (2, 2)
    no_gradient = (1,)

    axes: int = 2

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        return cls(4 if msg.python_param.layer.endswith("_fc") else 2)

    def tops(self, bottoms: Shapes) -> Shapes:
        at_least(1, bottoms, 1)
        scores, labels = bottoms
        if prod(labels[1:]) != 1:
            raise NetError("each item needs one label", expected=f"{labels[0]} x 1", got=dims(labels))
        if scores[:1] != labels[:1] or prod(scores[1:]) != CLASSES:
            expected = f"{labels[0]} x {CLASSES}, as bottom 1 has {labels[0]} labels"
            raise NetError("the scores do not fit the labels", expected=expected, got=dims(scores))
        return ((labels[0], CLASSES, 1, 1)[: self.axes], (labels[0], 1))

    def windows(self, bottoms: Shapes, tops: Shapes, bottom: int, top: int) -> Windows | None:
        return None

    def forward(self, m: Any, *bottoms: Tensor) -> tuple[Tensor, ...]:
        scores, labels = bottoms[0].flatten(1), bottoms[1].detach().reshape(-1, 1)
        told = labels != NONE
        order = told.logical_not().to(scores.dtype).argsort(dim=0, stable=True)[:, 0]
        tops = ((x * told.to(x.dtype)).index_select(0, order) for x in (scores, labels))
        scores, labels = tops
        return scores.reshape(*scores.shape, *(1,) * (self.axes - 2)), labels


@native((MODULE, "regression_Layer"))
@dataclass(frozen=True, slots=True)
class Regression(Layer):
    """loss = sum of (x - t)^2 / 2N, where any item has a target; else 0.

    bottom[0]: x, N x C (further axes of 1)      bottom[1]: t, N x C, first -1 in an item without target      top[0]: 1
    Quirk: items without target count as well, where others have one. dx = (x - t) / N, whatever the loss weight is.
    Source: CongWeilin/mtcnn-caffe, 48net/pythonLayer.py.
    """

    kind: ClassVar[str]
    category = "loss"
    n_bottom = (2, 2)

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        return cls()

    def tops(self, bottoms: Shapes) -> Shapes:
        at_least(2, bottoms, 1)
        if bottoms[0][:1] != bottoms[1][:1] or prod(bottoms[0]) != prod(bottoms[1]):
            got = f"{dims(bottoms[0])} and {dims(bottoms[1])}"
            raise NetError("the bottoms do not match", expected="as many values, of as many items", got=got)
        return ((1,),)

    def windows(self, bottoms: Shapes, tops: Shapes, bottom: int, top: int) -> Windows | None:
        return None

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        x, target = (b.flatten(1) for b in bottoms)
        some = (target[:, 0] != NONE).any().to(x.dtype)
        off = (x - target) * some / len(x)
        value = (off.detach() * (x - target).detach()).sum() / 2
        loss: Tensor = _steered()(value.reshape(1), x, target, off.detach())
        return loss


def _steered() -> Any:
    """A value whose gradient for x and target is `slope` and -slope, whatever its own gradient is."""
    import torch

    class Steered(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, value: Tensor, x: Tensor, target: Tensor, slope: Tensor) -> Tensor:
            ctx.save_for_backward(slope)
            return value.clone()

        @staticmethod
        def backward(ctx: Any, *grads: Tensor) -> Any:
            (slope,) = ctx.saved_tensors
            return None, slope, -slope, None

    return Steered.apply
