"""A small Faster R-CNN with all of its layers: it learns, and finds in TEST what it has learned."""

import numpy as np
import torch

import netcompiler
from netcompiler.layers import boxes


def layer(kind, name, bottoms, tops, body=""):
    names = [f'bottom: "{b}"' for b in bottoms.split()] + [f'top: "{t}"' for t in tops.split()]
    return f'layer {{ name: "{name}" type: "{kind}" {" ".join(names)} {body} }}\n'


def conv(name, bottom, count, kernel, stride=1):
    size = f"num_output: {count} kernel_size: {kernel} pad: {kernel // 2} stride: {stride}"
    return layer("Convolution", name, bottom, name, f'convolution_param {{ {size} weight_filler {{ type: "msra" }} }}')


def dense(name, bottom, count):
    return layer(
        "InnerProduct",
        name,
        bottom,
        name,
        f'inner_product_param {{ num_output: {count} weight_filler {{ type: "msra" }} }}',
    )


def python(module, name, bottoms, tops, text):
    return layer(
        "Python", name, bottoms, tops, f'python_param {{ module: "{module}" layer: "{name}" param_str: "{text}" }}'
    )


def reshape(name, bottom, channels):
    return layer(
        "Reshape", name, bottom, name, f"reshape_param {{ shape {{ dim: 0 dim: {channels} dim: -1 dim: 0 }} }}"
    )


STRIDE = "{'feat_stride': 8, 'scales': [2, 3]}"
SMOOTH = "loss_weight: 1 smooth_l1_loss_param { sigma: %d }"
ANCHORS = 6


def net(train):
    text = python("roi_data_layer.layer", "RoIDataLayer", "", "data im_info gt_boxes", "'num_classes': 3")
    if not train:
        text = layer(
            "Input",
            "data",
            "",
            "data im_info",
            "input_param { shape { dim: 1 dim: 3 dim: 96 dim: 128 } shape { dim: 1 dim: 3 } }",
        )
    previous = "data"
    for k in range(3):
        text += conv(f"c{k}", previous, 16, 3, 2) + layer("ReLU", f"r{k}", f"c{k}", f"c{k}")
        previous = f"c{k}"
    text += conv("rpn", "c2", 32, 3) + layer("ReLU", "rpn_relu", "rpn", "rpn")
    text += conv("score", "rpn", 2 * ANCHORS, 1) + conv("moves", "rpn", 4 * ANCHORS, 1) + reshape("pairs", "score", 2)
    if train:
        text += python(
            "rpn.anchor_target_layer", "AnchorTargetLayer", "score gt_boxes im_info data", "al at ai ao", STRIDE
        )
        text += layer(
            "SoftmaxWithLoss", "rpn_cls", "pairs al", "rpn_cls", "loss_param { ignore_label: -1 normalize: true }"
        )
        text += layer("SmoothL1Loss", "rpn_box", "moves at ai ao", "rpn_box", SMOOTH % 3)
    text += layer("Softmax", "prob", "pairs", "prob") + reshape("flat", "prob", 2 * ANCHORS)
    text += python(
        "rpn.proposal_layer", "ProposalLayer", "flat moves im_info", "proposals" if train else "rois", STRIDE
    )
    if train:
        text += python(
            "rpn.proposal_target_layer",
            "ProposalTargetLayer",
            "proposals gt_boxes",
            "rois label bt bi bo",
            "'num_classes': 3",
        )
    text += layer(
        "ROIPooling", "pool", "c2 rois", "pool", "roi_pooling_param { pooled_h: 4 pooled_w: 4 spatial_scale: 0.125 }"
    )
    text += (
        dense("fc", "pool", 64) + layer("ReLU", "fc_relu", "fc", "fc") + dense("cls", "fc", 3) + dense("box", "fc", 12)
    )
    if train:
        return (
            text
            + layer("SoftmaxWithLoss", "cls_loss", "cls label", "cls_loss")
            + layer("SmoothL1Loss", "box_loss", "box bt bi bo", "box_loss", SMOOTH % 1)
        )
    return text + layer("Softmax", "cls_prob", "cls", "cls_prob")


OBJECTS = torch.tensor([[10.0, 12, 57, 60, 1], [70, 30, 120, 85, 2]])
INFO = torch.tensor([[96.0, 128, 1]])


def picture():
    image = torch.rand(1, 3, 96, 128, generator=torch.Generator().manual_seed(1))
    for k, (x1, y1, x2, y2, _) in enumerate(OBJECTS.int().tolist()):
        image[0, k, y1 : y2 + 1, x1 : x2 + 1] += 2
    return image


def test_it_learns():
    torch.manual_seed(3)
    learner = netcompiler.compile(
        netcompiler.parse(net(True)), phase="TRAIN", inputs={"data": (1, 3, 96, 128)}, device="cpu"
    )
    optimiser = torch.optim.Adam(learner.parameters(), 2e-3)
    losses = []
    for _ in range(150):
        loss = learner.loss(learner(data=picture(), im_info=INFO, gt_boxes=OBJECTS))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert np.mean(losses[-20:]) < 0.25 * np.mean(losses[:5])
    assert all(p.grad.abs().sum() > 0 for p in learner.parameters())

    finder = netcompiler.compile(
        netcompiler.parse(net(False)), learner.caffe_params(), outputs=["rois", "cls_prob", "box"], device="cpu"
    )
    with torch.no_grad():
        found = finder(data=picture(), im_info=INFO)
    for *box, kind in OBJECTS.tolist():
        best = found["cls_prob"][:, int(kind)].argmax()
        deltas = found["box"].reshape(-1, 3, 4)[best, int(kind)] * torch.tensor([0.1, 0.1, 0.2, 0.2])
        moved = boxes.decode(found["rois"][best, 1:], deltas, 1)
        assert found["cls_prob"][best, int(kind)] > 0.8
        assert boxes.iou(moved[None], torch.tensor([box]), 1).item() > 0.6
