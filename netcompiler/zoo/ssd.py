"""SSD300: a detector in one pass, with boxes of several sizes and shapes at each place of six maps.

Source: Liu, Anguelov, Erhan, Szegedy, Reed, Fu, Berg, "SSD: Single Shot MultiBox Detector", ECCV 2016 (arXiv
1512.02325). Names and settings are those of the authors' published models for Caffe (github.com/weiliu89/caffe,
branch ssd, VGG_VOC0712_SSD_300x300).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..spec import Top
from ..text import Msg
from .parts import MEAN_BGR, TWO_RATES, XAVIER, Net, solving
from .vgg import CONVOLUTIONS, trunk

SIDE = 300
VARIANCE = (0.1, 0.1, 0.2, 0.2)


@dataclass(frozen=True, slots=True)
class Map:
    """Where boxes are looked for: smallest and largest side in pixels, ratios of the sides, and pixels from place to
    place.
    """

    min_size: int
    max_size: int
    ratios: tuple[int, ...]
    step: int

    @property
    def boxes(self) -> int:
        """At each place: two squares, and two for each ratio, upright and lying."""
        return 2 + 2 * len(self.ratios)


MAPS = {
    "conv4_3_norm": Map(30, 60, (2,), 8),
    "fc7": Map(60, 111, (2, 3), 16),
    "conv6_2": Map(111, 162, (2, 3), 32),
    "conv7_2": Map(162, 213, (2, 3), 64),
    "conv8_2": Map(213, 264, (2,), 100),
    "conv9_2": Map(264, 315, (2,), 300),
}


def deploy(classes: int = 21) -> Msg:
    """data 1 x 3 x 300 x 300 (B, G, R, mean subtracted) to detection_out, rows of image, class, score, x1, y1, x2, y2
    in 0 to 1.
    """
    net = _Net("VGG_VOC0712_SSD_300x300_deploy", train=False)
    net.detections(net.predictions(net.image(3, SIDE), classes), classes)
    return net.message()


def train_val(
    classes: int = 21,
    *,
    train_source: str = "examples/VOC0712/VOC0712_trainval_lmdb",
    val_source: str = "examples/VOC0712/VOC0712_test_lmdb",
    label_map: str = "data/VOC0712/labelmap_voc.prototxt",
    train_batch: int = 32,
    val_batch: int = 8,
) -> Msg:
    """TRAIN: mbox_loss, on pictures that are distorted, widened and cut at random. TEST: detections, and which of
    them are right.
    """
    net = _Net("VGG_VOC0712_SSD_300x300", train=True)
    for phase, source, batch in (("TRAIN", train_source, train_batch), ("TEST", val_source, val_batch)):
        data, label = net.AnnotatedData(
            name="data",
            top=("data", "label"),
            include={"phase": phase},
            transform_param=_transform(phase == "TRAIN"),
            data_param={"source": source, "batch_size": batch, "backend": "LMDB"},
            annotated_data_param={
                "batch_sampler": _samplers() if phase == "TRAIN" else None,
                "label_map_file": label_map,
            },
        )
    found = net.predictions(data, classes)
    test = {"phase": "TEST"}
    net.MultiBoxLoss(
        *found,
        label,
        name="mbox_loss",
        include={"phase": "TRAIN"},
        propagate_down=[True, True, False, False],
        loss_param={"normalization": "VALID"},
        multibox_loss_param={
            "loc_loss_type": "SMOOTH_L1",
            "conf_loss_type": "SOFTMAX",
            "loc_weight": 1,
            "num_classes": classes,
            "share_location": True,
            "match_type": "PER_PREDICTION",
            "overlap_threshold": 0.5,
            "use_prior_for_matching": True,
            "background_label_id": 0,
            "use_difficult_gt": True,
            "neg_pos_ratio": 3,
            "neg_overlap": 0.5,
            "code_type": "CENTER_SIZE",
            "ignore_cross_boundary_bbox": False,
            "mining_type": "MAX_NEGATIVE",
        },
    )
    out = net.detections(found, classes, include=test)
    settings = {
        "num_classes": classes,
        "background_label_id": 0,
        "overlap_threshold": 0.5,
        "evaluate_difficult_gt": False,
    }
    net.DetectionEvaluate(out, label, name="detection_eval", include=test, detection_evaluate_param=settings)
    return net.message()


def solver(*, net: str = "") -> Msg:
    """The authors': SGD, 32 pictures to a step, rate 0.001 divided by 10 at 80,000 and 100,000 of 120,000 steps."""
    return solving(
        "SSD300",
        net,
        test_iter=619,
        test_interval=10_000,
        display=10,
        average_loss=10,
        base_lr=0.001,
        lr_policy="multistep",
        gamma=0.1,
        stepvalue=[80_000, 100_000, 120_000],
        max_iter=120_000,
        weight_decay=5e-4,
        snapshot=80_000,
        eval_type="detection",
        ap_version="11point",
    )


def _transform(train: bool) -> dict[str, Any]:
    modes = ("LINEAR", "AREA", "NEAREST", "CUBIC", "LANCZOS4")
    settings: dict[str, Any] = {"mirror": True if train else None, "mean_value": MEAN_BGR}
    resize = {"prob": 1, "resize_mode": "WARP", "height": SIDE, "width": SIDE}
    settings["resize_param"] = resize | {"interp_mode": modes if train else "LINEAR"}
    if train:
        settings["emit_constraint"] = {"emit_type": "CENTER"}
        settings["expand_param"] = {"prob": 0.5, "max_expand_ratio": 4}
        settings["distort_param"] = {
            "brightness_prob": 0.5,
            "brightness_delta": 32,
            "contrast_prob": 0.5,
            "contrast_lower": 0.5,
            "contrast_upper": 1.5,
            "hue_prob": 0.5,
            "hue_delta": 18,
            "saturation_prob": 0.5,
            "saturation_lower": 0.5,
            "saturation_upper": 1.5,
            "random_order_prob": 0,
        }
    return settings


def _samplers() -> list[dict[str, Any]]:
    """The whole picture, or a part that overlaps an object by so much at least, or any part."""
    part = {"min_scale": 0.3, "max_scale": 1, "min_aspect_ratio": 0.5, "max_aspect_ratio": 2}
    limits = [{"min_jaccard_overlap": least} for least in (0.1, 0.3, 0.5, 0.7, 0.9)] + [{"max_jaccard_overlap": 1.0}]
    parts = [{"sampler": part, "sample_constraint": limit, "max_sample": 1, "max_trials": 50} for limit in limits]
    return [{"max_sample": 1, "max_trials": 1}, *parts]


class _Net(Net):
    filler = XAVIER
    bias_value = 0
    rates = TWO_RATES

    def predictions(self, data: Top, classes: int) -> tuple[Top, Top, Top]:
        """mbox_loc, mbox_conf and mbox_priorbox: codes and scores of all boxes, and the boxes."""
        x = self.pool(trunk(self, data, CONVOLUTIONS[16], pools=4), "pool5", 3, 1, 1)
        x = self.conv_relu(x, "fc6", "relu6", 1024, 3, dilation=6)
        x = self.conv_relu(x, "fc7", "relu7", 1024)
        for i, width in ((6, 256), (7, 128), (8, 128), (9, 128)):
            x = self.conv_relu(x, f"conv{i}_1", f"conv{i}_1_relu", width)
            stride, pad = (2, 1) if i < 8 else (1, 0)
            x = self.conv_relu(x, f"conv{i}_2", f"conv{i}_2_relu", 2 * width, 3, stride=stride, pad=pad)
        norm = {"across_spatial": False, "scale_filler": {"type": "constant", "value": 20}, "channel_shared": False}
        self.Normalize(self["conv4_3"], name="conv4_3_norm", norm_param=norm)
        loc, conf, prior = [], [], []
        for name, at in MAPS.items():
            loc.append(self.flat(self[name], f"{name}_mbox_loc", 4 * at.boxes))
            conf.append(self.flat(self[name], f"{name}_mbox_conf", classes * at.boxes))
            settings = {
                "min_size": at.min_size,
                "max_size": at.max_size,
                "aspect_ratio": at.ratios,
                "flip": True,
                "clip": False,
                "variance": VARIANCE,
                "step": at.step,
                "offset": 0.5,
            }
            prior.append(self.PriorBox(self[name], data, name=f"{name}_mbox_priorbox", prior_box_param=settings))
        found = ((loc, "loc", 1), (conf, "conf", 1), (prior, "priorbox", 2))
        a, b, c = (self.Concat(*tops, name=f"mbox_{name}", axis=axis) for tops, name, axis in found)
        return a, b, c

    def flat(self, x: Top, name: str, width: int) -> Top:
        """width numbers for each place, box after box."""
        x = self.Permute(self.conv(x, name, width, 3), name=f"{name}_perm", order=[0, 2, 3, 1])
        top: Top = self.Flatten(x, name=f"{name}_flat", axis=1)
        return top

    def detections(self, found: tuple[Top, Top, Top], classes: int, **fields: Any) -> Top:
        loc, conf, prior = found
        x = self.Reshape(conf, name="mbox_conf_reshape", shape={"dim": [0, -1, classes]}, **fields)
        x = self.Softmax(x, name="mbox_conf_softmax", axis=2, **fields)
        x = self.Flatten(x, name="mbox_conf_flatten", axis=1, **fields)
        settings = {
            "num_classes": classes,
            "share_location": True,
            "background_label_id": 0,
            "nms_param": {"nms_threshold": 0.45, "top_k": 400},
            "code_type": "CENTER_SIZE",
            "keep_top_k": 200,
            "confidence_threshold": 0.01,
        }
        top: Top = self.DetectionOutput(loc, x, prior, name="detection_out", detection_output_param=settings, **fields)
        return top
