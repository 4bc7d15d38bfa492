"""The Python layers of multi-task network cascades, in TEST: what they compute, without their code."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, ClassVar, Self

from ..errors import NetError
from ..graph import Shapes, dims
from ..text import Msg
from .base import Layer, at_least
from .boxes import clip, decode
from .proposal import INFO, PIXEL, row_of
from .python import native, settings_of
from .roi_pooling import ROI
from .rpn import ProposalLayer

if TYPE_CHECKING:
    from torch import Tensor

MASK = 21  # the side of a mask
SETTINGS = {"feat_stride": 16, "use_clip": 0, "clip_base": 64, "gradient_scale": 1}


def in_test(msg: Msg) -> dict[str, Any]:
    """The settings. Raises: NetError in TRAIN, where these layers make targets."""
    if msg.enum("phase") == "TRAIN":
        what = f"{msg.python_param.layer} of {msg.python_param.module} is known for TEST only"
        raise NetError(what, at="python_param", hint="allow the net's own code: allow_python=True (--allow-python)")
    return settings_of(msg, SETTINGS)


@native(("pylayer.proposal_layer", "ProposalLayer"))
@dataclass(frozen=True, slots=True)
class CascadeProposals(ProposalLayer):
    """As py-faster-rcnn's ProposalLayer: see rpn.py.

    Source: daijifeng001/MNC, lib/pylayer/proposal_layer.py.
    """

    kind: ClassVar[str]

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        return cls(in_test(msg)["feat_stride"], scores=len(msg.top) > 1)


@native(("pylayer.mask_layer", "MaskLayer"))
@dataclass(frozen=True, slots=True)
class MaskLayer(Layer):
    """Rows of masks as maps.

    bottom: R x 441      top: R x 1 x 21 x 21
    Source: daijifeng001/MNC, lib/pylayer/mask_layer.py.
    """

    kind: ClassVar[str]
    category = "shape"

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        in_test(msg)
        return cls()

    def tops(self, bottoms: Shapes) -> Shapes:
        at_least(1, bottoms)
        if prod(bottoms[0][1:]) != MASK * MASK:
            raise NetError("bottom 0 has no masks", expected=f"R x {MASK * MASK}", got=dims(bottoms[0]))
        return ((bottoms[0][0], 1, MASK, MASK),)

    def brief(self) -> str:
        return "MaskLayer"

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        return bottoms[0].reshape(-1, 1, MASK, MASK)


@native(("pylayer.stage_bridge_layer", "StageBridgeLayer"))
@dataclass(frozen=True, slots=True)
class StageBridgeLayer(Layer):
    """Regions moved by the deltas of their most probable class, and cut at the image.

    bottom[0]: R x 5 regions: 0, x1, y1, x2, y2      bottom[1]: deltas, R x 4K      bottom[2]: scores, R x K
    bottom[3]: height and width of the image      top: R x 5. No gradient passes.
    Source: daijifeng001/MNC, lib/pylayer/stage_bridge_layer.py.
    """

    kind: ClassVar[str]
    category = "shape"
    n_bottom = (4, 4)
    no_gradient = (0, 1, 2, 3)

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        in_test(msg)
        return cls()

    def tops(self, bottoms: Shapes) -> Shapes:
        for i in range(3):
            at_least(2, bottoms, i)
        rows, classes = bottoms[2][0], prod(bottoms[2][1:])
        for i, wide in ((0, ROI), (1, 4 * classes)):
            if bottoms[i][0] != rows or prod(bottoms[i][1:]) != wide:
                raise NetError(f"bottom {i} does not fit", expected=dims((rows, wide)), got=dims(bottoms[i]))
        if row_of(bottoms[3]) < INFO - 1:
            raise NetError("bottom 3 does not tell the image", expected="height and width", got=dims(bottoms[3]))
        return ((rows, ROI),)

    def brief(self) -> str:
        return "StageBridgeLayer"

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        import torch

        rois, deltas, scores = (b.detach().flatten(1) for b in bottoms[:3])
        height, width = bottoms[3].detach().reshape(-1)[:2].to(rois.dtype)
        best = scores.argmax(1)
        chosen = deltas.reshape(len(rois), -1, 4)[torch.arange(len(rois), device=rois.device), best].to(rois.dtype)
        boxes = clip(decode(rois[:, 1:], chosen, PIXEL), height - PIXEL, width - PIXEL)
        return torch.cat((torch.zeros_like(rois[:, :1]), boxes), 1)
