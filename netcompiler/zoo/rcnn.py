"""R-CNN and Fast R-CNN: detectors that classify proposed regions.

Source: Girshick, Donahue, Darrell, Malik, "Rich feature hierarchies for accurate object detection and semantic
segmentation", CVPR 2014 (arXiv 1311.2524). Girshick, "Fast R-CNN", ICCV 2015 (arXiv 1504.08083). Names and settings
are those of the models that were published for Caffe: models/bvlc_reference_rcnn_ilsvrc13 of BVLC's, and
github.com/rbgirshick's rcnn and fast-rcnn (VGG16).
"""

from __future__ import annotations

from ..spec import Top
from ..text import Msg
from .alexnet import CROP, CaffeNet
from .parts import MEAN_BGR, TWO_RATES, Net, solving
from .vgg import CONVOLUTIONS, head, trunk

MEAN = (102.9801, 115.9465, 122.7717)  # that the detectors' code subtracts
HEIGHT, WIDTH = 600, 1000


def deploy(classes: int = 200, *, last: str = "fc-rcnn") -> Msg:
    """R-CNN: data, warped regions 1 x 3 x 227 x 227, to scores of linear SVMs, 1 x classes, as layer `last`."""
    net = CaffeNet("CaffeNet", train=False, name="R-CNN-ilsvrc13")
    net.fc(net.features(net.image(3, CROP)), last, classes)
    return net.message()


def train_val(
    classes: int = 21,
    *,
    train_source: str = "window_file_2007_trainval.txt",
    val_source: str = "window_file_2007_test.txt",
) -> Msg:
    """R-CNN's CaffeNet, fine-tuned on windows around proposed regions: 20 classes of VOC, and background."""
    net = CaffeNet("CaffeNet", train=True, name="R-CNN-pascal")
    for phase, source in (("TRAIN", train_source), ("TEST", val_source)):
        data, label = net.WindowData(
            name="data",
            top=("data", "label"),
            include={"phase": phase},
            transform_param={"mirror": True, "crop_size": CROP, "mean_value": MEAN_BGR},
            window_data_param={
                "source": source,
                "batch_size": 128,
                "fg_threshold": 0.5,
                "bg_threshold": 0.5,
                "fg_fraction": 0.25,
                "context_pad": 16,
                "crop_mode": "warp",
            },
        )
    scores = net.fc(
        net.features(data), "fc8_pascal", classes, param=[{"lr_mult": 10}, {"lr_mult": 20, "decay_mult": 0}]
    )
    return net.judge(scores, label, top5=False)


def solver(*, net: str = "") -> Msg:
    """Fine-tuning: a rate of 0.001, tenfold for the last layer, divided by 10 each 20,000 of 100,000 steps."""
    return solving(
        "R-CNN",
        net,
        test_iter=100,
        test_interval=1000,
        base_lr=0.001,
        lr_policy="step",
        gamma=0.1,
        stepsize=20_000,
        max_iter=100_000,
        weight_decay=5e-4,
    )


def fast_deploy(classes: int = 21, *, height: int = HEIGHT, width: int = WIDTH, regions: int = 300) -> Msg:
    """Fast R-CNN: data 1 x 3 x height x width and rois (batch index, x1, y1, x2, y2) to cls_prob and bbox_pred, for
    each region.
    """
    net = Detector("VGG_ILSVRC_16_layers", train=False)
    data = net.image(3, height, width)
    rois = net.Input(name="rois", top="rois", shape={"dim": [regions, 5]})
    scores, _ = judged(net, net.roi_pool(net.body(data), rois), classes)
    net.Softmax(scores, name="cls_prob")
    return net.message()


def fast_train_val(classes: int = 21) -> Msg:
    """Fast R-CNN that trains: classes by a Softmax, boxes by a smooth L1 loss; conv1 and conv2 do not learn.

    Pictures, regions and targets come from the authors' Python layer, two pictures with 64 regions each to a batch.
    """
    net = Detector("VGG_ILSVRC_16_layers", train=True)
    names = ("data", "rois", "labels", "bbox_targets", "bbox_loss_weights")
    data, rois, labels, targets, weights = net.Python(
        name="data",
        top=names,
        module="roi_data_layer.layer",
        layer="RoIDataLayer",
        param_str=f"'num_classes': {classes}",
    )
    scores, boxes = judged(net, net.roi_pool(net.body(data), rois), classes)
    net.SoftmaxWithLoss(scores, labels, name="loss_cls", loss_weight=1)
    net.SmoothL1Loss(boxes, targets, weights, name="loss_bbox", loss_weight=1)
    return net.message()


def fast_solver(*, net: str = "") -> Msg:
    """Section 2.3: SGD, a rate of 0.001 for 30,000 steps and 0.0001 for 10,000."""
    return detecting("Fast-R-CNN-VGG-16", net, stepsize=30_000, max_iter=40_000)


def detecting(name: str, net: str, **fields: int) -> Msg:
    """The solver of the detectors."""
    return solving(
        name,
        net,
        test_iter=None,
        test_interval=None,
        test_initialization=None,
        display=20,
        base_lr=0.001,
        lr_policy="step",
        gamma=0.1,
        weight_decay=5e-4,
        **fields,
    )


def roi_pooled(net: Net, x: Top, rois: Top, side: int, top: str | None = None) -> Top:
    """Regions of an image, on x a 16th as large, as side x side values of each channel."""
    settings = {"pooled_h": side, "pooled_w": side, "spatial_scale": 1 / 16}
    pooled: Top = net.layer("ROIPooling", x, rois, name="roi_pool5", top=top, roi_pooling_param=settings)
    return pooled


class Detector(Net):
    """VGG-16 up to conv5_3, and fc6 and fc7 behind a pooling of regions."""

    filler = {"type": "gaussian", "std": 0.01}
    bias_value = 0
    rates = TWO_RATES

    def body(self, data: Top) -> Top:
        """conv5_3, a 16th of the image's height and width."""
        return trunk(self, data, CONVOLUTIONS[16], pools=4, frozen=2)

    def roi_pool(self, x: Top, rois: Top) -> Top:
        """fc7 of each region."""
        return head(self, roi_pooled(self, x, rois, 7, "pool5"))


def judged(net: Net, x: Top, classes: int) -> tuple[Top, Top]:
    """cls_score, and bbox_pred: four numbers for each class."""
    small, smaller = ({"type": "gaussian", "std": std} for std in (0.01, 0.001))
    return net.fc(x, "cls_score", classes, filler=small), net.fc(x, "bbox_pred", 4 * classes, filler=smaller)
