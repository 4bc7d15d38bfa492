"""Faster R-CNN: a detector that proposes its regions itself; on VGG-16 and on ResNet-50.

Source: Ren, He, Girshick, Sun, "Faster R-CNN: Towards Real-Time Object Detection with Region Proposal Networks", NIPS
2015 (arXiv 1506.01497). Names, Python layers and settings of the end-to-end training are those of
github.com/rbgirshick/py-faster-rcnn (models/pascal_voc/VGG16/faster_rcnn_end2end); on ResNet-50 as in "Deep Residual
Learning", appendix A: regions are pooled from the fourth stage, the fifth runs on each, and batch normalisation stays
as ImageNet left it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..spec import Top
from ..text import Msg
from .parts import Net, chosen
from .rcnn import HEIGHT, WIDTH, Detector, detecting, judged, roi_pooled
from .resnet import ResNet

ANCHORS = 9  # 3 sizes x 3 ratios
STRIDE = 16


def deploy(backbone: str = "VGG-16", classes: int = 21, *, height: int = HEIGHT, width: int = WIDTH) -> Msg:
    """data 1 x 3 x height x width and im_info (height, width, scale) to cls_prob and bbox_pred for each of the rois.

    backbone: VGG-16 or ResNet-50.
    """
    net = _net(backbone, train=False)
    data = net.image(3, height, width)
    info = net.Input(name="im_info", top="im_info", shape={"dim": [1, 3]})
    x = net.body(data)
    rpn, shaped, deltas = _rpn(net, x, net.hidden)
    scores, _ = judged(net, net.regions(x, _proposed(net, shaped, deltas, info, "rois")), classes)
    net.Softmax(scores, name="cls_prob")
    return net.message()


def train_val(backbone: str = "VGG-16", classes: int = 21) -> Msg:
    """Both halves at once: four losses. Pictures with their objects come from the authors' Python layer, one to a
    batch.
    """
    net = _net(backbone, train=True)
    data, info, objects = _python(
        net,
        "input-data",
        "roi_data_layer.layer",
        "RoIDataLayer",
        f"'num_classes': {classes}",
        ("data", "im_info", "gt_boxes"),
    )
    x = net.body(data)
    rpn, shaped, deltas = _rpn(net, x, net.hidden)
    words: tuple[str, ...] = ("rpn_labels", "rpn_bbox_targets", "rpn_bbox_inside_weights", "rpn_bbox_outside_weights")
    places = f"'feat_stride': {STRIDE}"
    labels, *weights = _python(
        net, "rpn-data", "rpn.anchor_target_layer", "AnchorTargetLayer", places, words, rpn, objects, info, data
    )
    net.SoftmaxWithLoss(
        shaped,
        labels,
        name="rpn_loss_cls",
        top="rpn_cls_loss",
        loss_weight=1,
        propagate_down=[True, False],
        loss_param={"ignore_label": -1, "normalize": True},
    )
    net.SmoothL1Loss(deltas, *weights, name="rpn_loss_bbox", top="rpn_loss_bbox", loss_weight=1, sigma=3)
    proposed = _proposed(net, shaped, deltas, info, "rpn_rois")
    words = ("rois", "labels", "bbox_targets", "bbox_inside_weights", "bbox_outside_weights")
    rois, labels, *weights = _python(
        net,
        "roi-data",
        "rpn.proposal_target_layer",
        "ProposalTargetLayer",
        f"'num_classes': {classes}",
        words,
        proposed,
        objects,
    )
    scores, boxes = judged(net, net.regions(x, rois), classes)
    net.SoftmaxWithLoss(scores, labels, name="loss_cls", loss_weight=1, propagate_down=[True, False])
    net.SmoothL1Loss(boxes, *weights, name="loss_bbox", loss_weight=1)
    return net.message()


def solver(backbone: str = "VGG-16", *, net: str = "") -> Msg:
    """SGD, a rate of 0.001 for 50,000 steps and 0.0001 for 20,000, of two pictures each."""
    chosen(_BODIES, backbone, "no such backbone")
    return detecting(f"Faster-R-CNN-{backbone}", net, stepsize=50_000, max_iter=70_000, iter_size=2)


class _Vgg(Detector):
    hidden = 512

    def __init__(self, *, train: bool) -> None:
        super().__init__("VGG_ILSVRC_16_layers", train=train)

    def regions(self, x: Top, rois: Top) -> Top:
        """fc7 of each region."""
        return self.roi_pool(x, rois)


class _ResNet50(ResNet):
    hidden = 512
    still = True

    def __init__(self, *, train: bool) -> None:
        super().__init__(50, train=train)

    def body(self, data: Top) -> Top:
        x = self.pool(self.start(data), "pool1", 3, 2)
        for stage in (2, 3, 4):
            x = self.stage(x, stage)
        return x

    def regions(self, x: Top, rois: Top) -> Top:
        x = self.stage(roi_pooled(self, x, rois, 14), 5)
        return self.pool(x, "pool5", 7, kind="AVE")


_BODIES: dict[str, type[_Vgg] | type[_ResNet50]] = {"VGG-16": _Vgg, "ResNet-50": _ResNet50}


def _net(backbone: str, *, train: bool) -> _Vgg | _ResNet50:
    return chosen(_BODIES, backbone, "no such backbone")(train=train)


def _python(net: Net, name: str, module: str, what: str, param_str: str, tops: Sequence[str], *bottoms: Top) -> Any:
    return net.Python(*bottoms, name=name, top=tops, module=module, layer=what, param_str=param_str)


def _rpn(net: Net, x: Top, hidden: int) -> tuple[Top, Top, Top]:
    """Scores of the anchors, the same with background and object as two channels, and deltas of their boxes."""
    small: dict[str, Any] = {"filler": {"type": "gaussian", "std": 0.01}, "bias_value": 0}
    x = net.relu(net.conv(x, "rpn_conv/3x3", hidden, 3, top="rpn/output", **small), "rpn_relu/3x3")
    scores = net.conv(x, "rpn_cls_score", 2 * ANCHORS, **small)
    deltas = net.conv(x, "rpn_bbox_pred", 4 * ANCHORS, **small)
    shaped = net.Reshape(scores, name="rpn_cls_score_reshape", shape={"dim": [0, 2, -1, 0]})
    return scores, shaped, deltas


def _proposed(net: Net, shaped: Top, deltas: Top, info: Top, top: str) -> Top:
    """The best regions, R x 5."""
    prob = net.Softmax(shaped, name="rpn_cls_prob")
    prob = net.Reshape(prob, name="rpn_cls_prob_reshape", shape={"dim": [0, 2 * ANCHORS, -1, 0]})
    places = f"'feat_stride': {STRIDE}"
    rois = _python(net, "proposal", "rpn.proposal_layer", "ProposalLayer", places, (top,), prob, deltas, info)
    found: Top = rois[0]
    return found
