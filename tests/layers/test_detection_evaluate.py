import numpy as np
import pytest
import torch

import netcompiler

from .table import Bad, prototxt, suite
from .test_detection_output import overlap

BOTTOMS = [(1, 1, 40, 7), (1, 1, 9, 8)]


def layer(fields="", classes=4):
    return f'type: "DetectionEvaluate" detection_evaluate_param {{ num_classes: {classes} {fields} }}'


BAD = [
    Bad("no classes", 'type: "DetectionEvaluate"', BOTTOMS, "num_classes is missing"),
    Bad(
        "threshold",
        layer("overlap_threshold: 0"),
        BOTTOMS,
        "overlap_threshold must be positive",
        at="overlap_threshold",
    ),
    Bad("detections", layer(), [(1, 1, 40, 8), BOTTOMS[1]], "bottom 0 holds no detections"),
    Bad("truth", layer(), [BOTTOMS[0], (2, 1, 9, 8)], "bottom 1 holds no ground truth"),
]
_, _, test_bad = suite([], BAD)


def want(found, truth, classes=4, background=0, threshold=0.5, difficult=True):
    """Row by row, as SSD counts."""
    found, truths = found.reshape(-1, 7), []
    for row in truth.reshape(-1, 8):
        if row[0] == -1:
            break
        truths.append(row)
    rows = []
    for c in range(classes):
        if c != background:
            rows.append([-1, c, sum(t[1] == c and (difficult or not t[7]) for t in truths), -1, -1])
    for image in sorted({r[0] for r in found if r[0] != -1}):
        for label in sorted({r[1] for r in found if r[0] == image and r[1] != -1}):
            own = [r for r in found if r[0] == image and r[1] == label]
            goals = [t for t in truths if t[0] == image and t[1] == label]
            seen = set()
            for row in sorted(own, key=lambda r: -r[2]) if goals else own:
                overlaps = [overlap(row[3:], t[3:7]) for t in goals] or [0]
                best = int(np.argmax(overlaps))
                right, wrong = 0, 1
                if overlaps[best] >= threshold:
                    if goals[best][7] and not difficult:
                        wrong = 0
                    elif best not in seen:
                        seen.add(best)
                        right, wrong = 1, 0
                rows.append([image, label, row[2], right, wrong])
    listed = classes - (0 <= background < classes) + int((found[:, 1] != -1).sum())
    return np.array(rows + [[0] * 5] * (listed - len(rows)))[None, None]


def draw(seed):
    rng = np.random.default_rng(seed)
    truth = np.zeros((9, 8))
    truth[:, 0] = [0, 0, 0, 0, 1, 1, 3, -1, 3]  # what follows a -1 does not count
    truth[:, 1] = rng.integers(1, 4, 9)
    corner, size = rng.random((9, 2)), 0.2 + rng.random((9, 2))
    truth[:, 3:7], truth[:, 7] = np.concatenate((corner, corner + size), 1), rng.integers(0, 2, 9)
    which = rng.integers(0, 9, 40)
    found = np.zeros((40, 7))
    found[:, 0], found[:, 1] = truth[which, 0], truth[which, 1]
    found[rng.integers(0, 40, 8), 0] = 2  # an image without truth
    found[found[:, 0] == -1, 1] = -1
    found[5] = [4, -1, *[-1] * 5]  # an image without detections
    found[:, 2] = rng.random(40)
    found[:, 3:] = truth[which, 3:7] + 0.15 * rng.standard_normal((40, 4))
    return found[None, None], truth[None, None]


def compiled(text):
    return netcompiler.compile(
        netcompiler.parse(prototxt(text, BOTTOMS, 1)), optimize=False, device="cpu", dtype="float64"
    )


@pytest.mark.parametrize(
    ("fields", "options"),
    [
        ("", {}),
        ("overlap_threshold: 0.7", {"threshold": 0.7}),
        ("evaluate_difficult_gt: false", {"difficult": False}),
    ],
)
def test_rows(fields, options):
    for seed in range(5):
        arrays = draw(seed)
        got = compiled(layer(fields))(*arrays)["t0"].numpy()
        np.testing.assert_allclose(got, want(*arrays, **options))
        assert {1, 0} == set(got[0, 0, 3:, 3])


def test_another_background():
    found, truth = draw(1)
    got = compiled(layer("background_label_id: 4", 5))(found, truth)["t0"].numpy()
    np.testing.assert_allclose(got, want(found, truth, 5, 4))


def test_shape_rule_counts_all():
    node = netcompiler.build(netcompiler.parse(prototxt(layer(), BOTTOMS, 1))).nodes[-1]
    assert node.top_shapes == ((1, 1, 43, 5),)


@pytest.mark.parametrize(("bottom", "what"), [(0, "detections"), (1, "ground truth")])
def test_the_background_is_not_found(bottom, what):
    arrays = draw(0)
    arrays[bottom][0, 0, 0, :2] = 0
    with pytest.raises(netcompiler.NetError, match=f"the {what} have the background's label"):
        compiled(layer())(*arrays)


def test_sizes_that_are_not_there_are_told():
    text = layer('name_size_file: "no/sizes.txt" resize_param { height: 300 width: 300 }')
    with pytest.warns(netcompiler.NetWarning, match='"no/sizes.txt" is not there'):
        netcompiler.build(netcompiler.parse(prototxt(text, BOTTOMS, 1)))


def pixels(box, size, mode=None, net=(30, 40), scales=(0, 0)):
    """SSD's way from a box of the net's input to one of the picture."""

    def clip(v, high=1, wide=1):
        return [min(max(v[0], 0), wide), min(max(v[1], 0), high), min(max(v[2], 0), wide), min(max(v[3], 0), high)]

    high, wide = size
    if mode == "FIT_SMALL_SIZE" and all(scales):
        return clip([v * scales[1 - i % 2] for i, v in enumerate(box)], high, wide)
    if mode == "FIT_LARGE_SIZE_AND_PAD":
        whole = [0, 0, 1, 1]
        if wide / high > net[1] / net[0]:
            pad = (net[0] - net[1] * high / wide) / 2 / net[0]
            whole[1], whole[3] = pad, 1 - pad
        else:
            pad = (net[1] - net[0] * wide / high) / 2 / net[1]
            whole[0], whole[2] = pad, 1 - pad
        if not (box[0] >= whole[2] or box[2] <= whole[0] or box[1] >= whole[3] or box[3] <= whole[1]):
            sides = whole[2] - whole[0], whole[3] - whole[1]
            box = [(v - whole[i % 2]) / sides[i % 2] for i, v in enumerate(box)]
    return [v * (wide, high)[i % 2] for i, v in enumerate(clip(box))]


@pytest.mark.parametrize(
    ("fields", "options"),
    [
        ("", {}),
        ("resize_param { height: 30 width: 40 prob: 1 interp_mode: LINEAR }", {"mode": "WARP"}),
        (
            "resize_param { resize_mode: FIT_LARGE_SIZE_AND_PAD height: 30 width: 40 }",
            {"mode": "FIT_LARGE_SIZE_AND_PAD"},
        ),
        ("resize_param { resize_mode: FIT_SMALL_SIZE height: 30 width: 40 }", {"mode": "FIT_SMALL_SIZE"}),
        (
            "resize_param { resize_mode: FIT_SMALL_SIZE height: 30 width: 40 height_scale: 20 width_scale: 16 }",
            {"mode": "FIT_SMALL_SIZE", "scales": (20, 16)},
        ),
    ],
)
def test_in_pixels(fields, options, tmp_path):
    """Pictures take their sizes in turn, over the calls; with pixels of their own, boxes overlap by more."""
    sizes = [(20, 10), (13, 31), (17, 17), (9, 24), (11, 7)]
    file = tmp_path / "sizes.txt"
    file.write_text("".join(f"picture{i} {h} {w}\n" for i, (h, w) in enumerate(sizes)))
    net, turn = compiled(layer(f'name_size_file: "{file}" {fields}')), 0
    for seed in range(4):
        found, truth = draw(seed)
        images = sorted(set(found[0, 0, :, 0]) - {-1})
        of = {image: sizes[(turn + i) % len(sizes)] for i, image in enumerate(images)}
        turn += len(images)
        moved = []
        for rows, first in ((found, 3), (truth, 3)):
            rows = rows.copy()
            for row in rows[0, 0]:
                if row[0] in of:
                    row[first : first + 4] = np.add(pixels(row[first : first + 4], of[row[0]], **options), [0, 0, 1, 1])
            moved.append(rows)
        np.testing.assert_allclose(net(found, truth)["t0"].numpy(), want(*moved))


def test_sizes_that_cannot_be_read(tmp_path):
    file = tmp_path / "sizes.txt"
    for text in ("a 1", "a b c", ""):
        file.write_text(text)
        with pytest.raises(netcompiler.NetError, match="the sizes cannot be read"):
            compiled(layer(f'name_size_file: "{file}"'))(*draw(0))


def test_a_resize_without_a_size(tmp_path):
    file = tmp_path / "sizes.txt"
    file.write_text("a 3 4")
    text = layer(f'name_size_file: "{file}" resize_param {{ height: 3 }}')
    with pytest.raises(netcompiler.NetError, match="resize_param needs a size"):
        netcompiler.build(netcompiler.parse(prototxt(text, BOTTOMS, 1)))
    netcompiler.build(netcompiler.parse(prototxt(layer("resize_param { height: 3 }"), BOTTOMS, 1)))


def test_no_gradient():
    found, truth = (torch.from_numpy(a) for a in draw(0))
    with pytest.raises(netcompiler.NetError, match="DetectionEvaluate has no gradient"):
        compiled(layer())(found.requires_grad_(), truth)["t0"].sum().backward()


def test_zeros_in_place_of_labels_are_no_truth():
    found, truth = draw(0)
    got = compiled(layer())(found, 0 * truth)["t0"].numpy()
    np.testing.assert_allclose(got, want(found, np.full_like(truth, -1)))
