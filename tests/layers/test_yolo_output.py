import numpy as np
import pytest
import torch

import netcompiler

from .table import Bad, prototxt, suite
from .test_detection_output import overlap

N, CLASSES, ANCHORS = 2, 3, 2
SHAPES = [(N, ANCHORS * (5 + CLASSES), 3, 5), (N, ANCHORS * (5 + CLASSES), 6, 2)]
BIASES = [1.5, 2, 4, 3, 2.5, 1]


def listed(name, values):
    return " ".join(f"{name}: {v}" for v in values)


def v2(fields="", biases=BIASES[:4]):
    body = f"num_classes: {CLASSES} num_box: {ANCHORS} {listed('biases', biases)} {fields}"
    return f'type: "YoloDetectionOutput" yolo_detection_output_param {{ {body} }}'


def v3(fields="", mask=(2, 0, 1, 2), groups=2, scale=(4, 2)):
    body = f"num_classes: {CLASSES} num_box: {ANCHORS} {listed('biases', BIASES)} {listed('mask', mask)} {fields}"
    body += f" {listed('anchors_scale', scale)} mask_group_num: {groups}"
    return f'type: "Yolov3DetectionOutput" yolov3_detection_output_param {{ {body} }}'


BAD = [
    Bad("channels", v2(), [(N, 8, 3, 5)], "wrong number of channels"),
    Bad("biases", v2(biases=BIASES[:3]), SHAPES[:1], "wrong number of biases", at="biases"),
    Bad("coords", v2("coords: 5"), SHAPES[:1], "coords must be 4", at="coords"),
    Bad("groups", v3(), SHAPES[:1], "mask_group_num is the number of bottoms", at="mask_group_num"),
    Bad("scales", v3(scale=(4,)), SHAPES, "wrong number of anchors_scale", at="anchors_scale"),
    Bad("mask", v3(mask=(0, 1, 2, 3)), SHAPES, "mask names no anchor", at="mask: 3"),
    Bad("short mask", v3(mask=(0, 1)), SHAPES, "wrong number of mask", at="mask"),
    Bad("variances", v3("gaussian_box: true"), SHAPES, "are not supported here", at="gaussian_box"),
    Bad("no classes", 'type: "Yolov3DetectionOutput"', SHAPES, "num_classes is missing"),
]
_, _, test_bad = suite([], BAD)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def want(*bottoms, third, lowest=0.01, threshold=0.45, mask=(2, 0, 1, 2), scale=(4, 2)):
    """Box by box."""
    found = []
    for t, x in enumerate(bottoms):
        rows, columns = x.shape[2:]
        for n, i, j, a in np.ndindex(N, rows, columns, ANCHORS):
            v = x[n, a * (5 + CLASSES) : (a + 1) * (5 + CLASSES), i, j]
            anchor, across, down = (
                (mask[2 * t + a], columns * scale[t], rows * scale[t]) if third else (a, columns, rows)
            )
            centre = (j + sigmoid(v[0])) / columns, (i + sigmoid(v[1])) / rows
            w, h = np.exp(v[2]) * BIASES[2 * anchor] / across, np.exp(v[3]) * BIASES[2 * anchor + 1] / down
            box = [centre[0] - w / 2, centre[1] - h / 2, centre[0] + w / 2, centre[1] + h / 2]
            if third:
                scores = sigmoid(v[4]) * sigmoid(v[5:])
                found += [(s, c, box) for c, s in enumerate(scores) if s > lowest]
            else:
                scores = np.exp(v[5:]) / np.exp(v[5:]).sum() * sigmoid(v[4])
                found += [(scores.max(), int(scores.argmax()), box)] * int(scores.max() >= lowest)
    kept = []
    for s, c, box in sorted(found, key=lambda f: -f[0]):
        if all(overlap(box, other) < threshold for *_, other in kept):
            kept.append((s, c, box))
    rows = [[0, c + 1, s, *box] for s, c, box in kept] or [[n, *[-1] * 6] for n in range(N)]
    return np.array(rows)[None, None]


def draw(seed, count):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(s) for s in SHAPES[:count]]


def run(text, arrays):
    net = netcompiler.parse(prototxt(text, [a.shape for a in arrays], 1))
    return netcompiler.compile(net, optimize=False, device="cpu", dtype="float64")(*arrays)["t0"].numpy()


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize(
    ("fields", "options"),
    [
        ("", {}),
        ("confidence_threshold: 0.4 nms_threshold: 0.2", {"lowest": 0.4, "threshold": 0.2}),
        ("confidence_threshold: 1", {"lowest": 1}),
    ],
)
def test_finds(count, fields, options):
    arrays = draw(count, count)
    np.testing.assert_allclose(run(v2(f"side: 9 {fields}"), arrays), want(*arrays, third=False, **options), atol=1e-6)
    text = v3(fields, (2, 0, 1, 2)[: 2 * count], count, (4, 2)[:count])
    np.testing.assert_allclose(run(text, arrays), want(*arrays, third=True, **options), atol=1e-6)


def test_openvinos_names():
    """masks, num_boxes; mask_group_num need not be told."""
    arrays, text = draw(2, 2), v3().replace("mask:", "masks:").replace("num_box:", "num_boxes:")
    text = text.replace("mask_group_num: 2", "")
    np.testing.assert_allclose(run(text, arrays), want(*arrays, third=True), atol=1e-6)
    with pytest.raises(netcompiler.NetError, match="the wrong number of masks") as caught:
        run(text.replace("masks: 2", ""), arrays)
    assert caught.value.expected == "4, 2 for each of 2 bottoms" and caught.value.at.excerpt[
        caught.value.at.column - 1 :
    ].startswith("masks")


def test_shape_rule_is_caffes():
    node = netcompiler.build(netcompiler.parse(prototxt(v3(), SHAPES, 1))).nodes[-1]
    assert node.top_shapes == ((1, 1, 1, 7),)


def test_no_gradient():
    arrays = [torch.from_numpy(a).requires_grad_() for a in draw(0, 2)]
    net = netcompiler.compile(netcompiler.parse(prototxt(v3(), SHAPES, 1)), device="cpu", dtype="float64")
    with pytest.raises(netcompiler.NetError, match="Yolov3DetectionOutput has no gradient"):
        net(*arrays)["t0"].sum().backward()
