"""The Python layers of py-faster-rcnn, without their code."""

import numpy as np
import pytest
import torch

import netcompiler
from netcompiler import NetError

from .table import Bad, prototxt, suite
from .test_boxes import overlap
from .test_proposal import anchors, feeds, naive


def python(module, name, text=""):
    param = f'param_str: "{text}"' if text else ""
    return f'type: "Python" python_param {{ module: "{module}" layer: "{name}" {param} }}'


def proposal(text="'feat_stride': 16"):
    return python("rpn.proposal_layer", "ProposalLayer", text)


def anchor_target(text="'feat_stride': 16"):
    return python("rpn.anchor_target_layer", "AnchorTargetLayer", text)


def proposal_target(text="'num_classes': 4"):
    return python("rpn.proposal_target_layer", "ProposalTargetLayer", text)


def compiled(body, shapes, tops, dtype="float64", **options):
    net = netcompiler.parse(prototxt(body, shapes, tops))
    return netcompiler.compile(net, optimize=False, device="cpu", dtype=dtype, **options)


BASE = anchors((0.5, 1, 2), (8, 16, 32))


def test_base_anchors():
    """The nine that the paper's code prints."""
    want = [
        [-84, -40, 99, 55],
        [-176, -88, 191, 103],
        [-360, -184, 375, 199],
        [-56, -56, 71, 71],
        [-120, -120, 135, 135],
        [-248, -248, 263, 263],
        [-36, -80, 51, 95],
        [-80, -168, 95, 183],
        [-168, -344, 183, 359],
    ]
    np.testing.assert_array_equal(BASE, want)


@pytest.mark.parametrize("phase", ["TEST", "TRAIN"])
@pytest.mark.parametrize(
    ("text", "scales"), [("'feat_stride': 16", (8, 16, 32)), ("{'feat_stride': 16, 'scales': [2, 4]}", (2, 4))]
)
def test_proposals(text, scales, phase):
    base = anchors((0.5, 1, 2), scales)
    bottoms = feeds(len(base), 13, 17, info=(208.0, 270.0, 1.5))
    limits = {"TEST": (6000, 300), "TRAIN": (12000, 2000)}[phase]
    net = compiled(proposal(text), [b.shape for b in bottoms], 2, phase=phase)
    assert [v.shape for v in net.graph.nodes[-1].tops] == [(limits[1], 5), (limits[1], 1)]
    tops = net(*bottoms)
    info = (208.0, 270.0, 1.5, 1.5)
    rows = naive(bottoms[0][0], bottoms[1][0], info, base, 16, 16, limits[0], 0.7, limits[1], True)
    assert 20 < len(rows) < 0.8 * len(base) * 13 * 17
    np.testing.assert_allclose(tops["t0"][:, 1:], rows[:, :4], atol=1e-9)
    np.testing.assert_allclose(tops["t1"][:, 0], rows[:, 4])


OBJECTS = np.array([[20.0, 10, 160, 120, 3], [100, 60, 290, 200, 1], [5, 150, 60, 180, 2]])


def test_anchor_targets():
    h, w, height, width = 30, 40, 480.0, 640.0
    shapes = [(1, 18, h, w), (3, 5), (1, 3), (1, 3, 480, 640)]
    net = compiled(anchor_target(), shapes, 4)
    assert [v.shape for v in net.graph.nodes[-1].tops] == [(1, 1, 9 * h, w), *[(1, 36, h, w)] * 3]
    torch.manual_seed(1)
    feeds = np.zeros(shapes[0]), OBJECTS, np.array([[height, width, 1.0]]), np.zeros(shapes[3])
    labels, deltas, inside, outside = (t.numpy() for t in net(*feeds).values())
    labels = labels.reshape(9, h, w)
    table = {}
    for a, y, x in np.ndindex(9, h, w):
        box = BASE[a] + 16 * np.array([x, y, x, y])
        if (box >= 0).all() and box[2] < width and box[3] < height:
            table[a, y, x] = box, [overlap(box, o, 1.0) for o in OBJECTS]
    most = np.max([shares for _, shares in table.values()], 0)
    wanted = np.full((9, h, w), -1.0)
    for place, (_, shares) in table.items():
        best = max(shares)
        wanted[place] = (
            1 if best >= 0.7 or any(s == m for s, m in zip(shares, most, strict=True)) else 0 if best < 0.3 else -1
        )
    assert (wanted == 1).sum() < 128 < (wanted == 0).sum()  # so the objects stay, and backgrounds are drawn
    np.testing.assert_array_equal(labels == 1, wanted == 1)
    assert ((labels == 0) <= (wanted == 0)).all()
    assert (labels >= 0).sum() == min(256, (wanted >= 0).sum())
    parts = [part.reshape(9, 4, h, w) for part in (deltas, inside, outside)]
    np.testing.assert_array_equal(parts[1], np.broadcast_to((labels == 1)[:, None], parts[1].shape))
    np.testing.assert_allclose(parts[2], np.broadcast_to((labels >= 0)[:, None] / (labels >= 0).sum(), parts[2].shape))
    for place, (box, shares) in table.items():
        a, y, x = place
        gt, size = OBJECTS[int(np.argmax(shares))][:4], box[2:] - box[:2] + 1
        grown = gt[2:] - gt[:2] + 1
        move = (gt[:2] + grown / 2 - box[:2] - size / 2) / size
        np.testing.assert_allclose(parts[0][a, :, y, x], [*move, *np.log(grown / size)], atol=1e-9)


def test_anchors_beyond_the_image():
    shapes = [(1, 18, 4, 4), (1, 5), (1, 3)]
    feeds = np.zeros(shapes[0]), np.array([[0.0, 0, 40, 40, 1]]), np.array([[64.0, 64, 1]])
    none = compiled(anchor_target(), shapes, 4)(*feeds)["t0"]
    some = compiled(anchor_target("'feat_stride': 16, 'allowed_border': 100"), shapes, 4)(*feeds)["t0"]
    assert (none == -1).all() and (some == 1).any() and (some == 0).any()


def test_image_without_objects():
    shapes = [(1, 18, 20, 20), (1, 5), (1, 3)]
    tops = compiled(anchor_target(), shapes, 4)(np.zeros(shapes[0]), np.zeros((0, 5)), np.array([[320.0, 320, 1]]))
    assert (tops["t0"] == 1).sum() == 0 and (tops["t0"] == 0).sum() == 256 and not tops["t1"].any()


def test_proposal_targets():
    rng = np.random.default_rng(2)
    near = OBJECTS[rng.integers(0, 3, 200), :4] + rng.normal(0, 12, (200, 4))
    far = rng.uniform(0, 300, (150, 4))
    boxes = np.concatenate([near, far])
    boxes = np.concatenate([np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])], 1)
    rois = np.concatenate([np.zeros((350, 1)), boxes], 1)
    net = compiled(proposal_target(), [(350, 5), (3, 5)], 5)
    assert [v.shape for v in net.graph.nodes[-1].tops] == [(128, 5), (128,), *[(128, 16)] * 3]
    torch.manual_seed(3)
    chosen, labels, deltas, inside, outside = (t.numpy() for t in net(rois, OBJECTS).values())
    assert chosen.shape == (128, 5) and (labels[:32] > 0).all() and not labels[32:].any()
    candidates = {tuple(r) for r in rois} | {(0.0, *o[:4]) for o in OBJECTS}
    assert len({tuple(r) for r in chosen}) == 128 and {tuple(r) for r in chosen} <= candidates
    assert (inside == outside).all()
    for row, label, delta, weight in zip(
        chosen, labels, deltas.reshape(128, 4, 4), inside.reshape(128, 4, 4), strict=True
    ):
        shares = [overlap(row[1:], o, 1.0) for o in OBJECTS]
        o = OBJECTS[int(np.argmax(shares))]
        assert label == (o[4] if max(shares) >= 0.5 else 0)
        want = np.zeros((4, 4))
        if label:
            size, grown = row[3:] - row[1:3] + 1, o[2:4] - o[:2] + 1
            move = (o[:2] + grown / 2 - row[1:3] - size / 2) / size
            want[int(label)] = np.array([*move, *np.log(grown / size)]) / [0.1, 0.1, 0.2, 0.2]
        np.testing.assert_allclose(delta, want, atol=1e-9)
        np.testing.assert_array_equal(
            weight, (want != 0) | ((want == 0) & (np.arange(4) == label)[:, None] & (label > 0))
        )


def test_classes_share_deltas_when_there_are_two():
    net = compiled(proposal_target("'num_classes': 2"), [(1, 5), (3, 5)], 5)
    tops = net(np.zeros((0, 5)), OBJECTS)
    assert sorted(tops["t1"].tolist()) == [1, 2, 3]
    assert (tops["t3"].reshape(3, 2, 4).numpy() == np.array([0, 1])[:, None]).all()
    with pytest.raises(NetError, match="class of an object is out of range"):
        compiled(proposal_target("'num_classes': 3"), [(1, 5), (3, 5)], 5)(np.zeros((0, 5)), OBJECTS)


def test_four_axes_for_rfcn():
    net = compiled(proposal_target(), [(1, 5), (3, 5)], 5, dialect="rfcn")
    shapes = [(128, 5, 1, 1), (128, 1, 1, 1), *[(128, 16, 1, 1)] * 3]
    assert [v.shape for v in net.graph.nodes[-1].tops] == shapes
    assert [tuple(t.shape) for t in net(np.zeros((0, 5)), OBJECTS).values()] == [(3, *s[1:]) for s in shapes]


def test_samples_follow_the_seed():
    net = compiled(proposal_target(), [(500, 5), (3, 5)], 5)
    rois = torch.rand(500, 5) * 300
    rois[:, 0] = 0
    found = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        found.append(net(rois, OBJECTS)["t0"])
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])


@pytest.mark.parametrize(
    ("names", "shapes"),
    [
        ("data im_info gt_boxes", [(1, 3, 600, 1000), (1, 3), (1, 5)]),
        ("data rois labels", [(2, 3, 600, 1000), (128, 5), (128,)]),
        ("data rois labels targets weights", [(2, 3, 600, 1000), (128, 5), (128,), (128, 84), (128, 84)]),
        ("data rois labels targets i o", [(2, 3, 600, 1000), (128, 5), (128,), (128, 84), (128, 84), (128, 84)]),
    ],
)
def test_data(names, shapes):
    tops = " ".join(f'top: "{n}"' for n in names.split())
    body = python("roi_data_layer.layer", "RoIDataLayer", "'num_classes': 21")
    graph = netcompiler.build(netcompiler.parse(f'layer {{ name: "data" {tops} {body} }}'))
    assert {v.blob: v.shape for v in graph.inputs()} == dict(zip(names.split(), shapes, strict=True))


SHAPES = [(1, 18, 5, 6), (1, 36, 5, 6), (1, 3)]
BAD = [
    Bad("no stride", proposal(""), SHAPES, "feat_stride is missing"),
    Bad("no mapping", proposal("nothing"), SHAPES, "param_str cannot be read", at="param_str"),
    Bad("code", proposal("'feat_stride': __import__('os')"), SHAPES, "param_str cannot be read", at="param_str"),
    Bad("unknown", proposal("'feat_stride': 16, 'ratio': 2"), SHAPES, 'unknown setting "ratio"', at="param_str"),
    Bad("type", proposal("'feat_stride': [1]"), SHAPES, "feat_stride in param_str has a wrong value", at="param_str"),
    Bad("bottoms", proposal(), SHAPES[:2], "the wrong number of bottoms"),
    Bad("tops", proposal(), SHAPES, "the wrong number of tops", tops=3),
    Bad("images", proposal(), [(2, 18, 5, 6), (2, 36, 5, 6), (1, 3)], "only one image at a time"),
    Bad("scores", proposal(), [(1, 16, 5, 6), (1, 36, 5, 6), (1, 3)], "do not fit the anchors"),
    Bad("objects", anchor_target(), [(1, 18, 5, 6), (1, 4), (1, 3)], "bottom 1 has no rows of 5", tops=4),
    Bad("no classes", proposal_target(""), [(1, 5), (1, 5)], "num_classes is missing", tops=5),
    Bad("regions", proposal_target(), [(1, 4), (1, 5)], "bottom 0 has no rows of 5", tops=5),
    Bad("another class", python("rpn.proposal_layer", "Other"), SHAPES, "runs code named by the net"),
]
_, _, test_bad = suite([], BAD)


@pytest.mark.parametrize(
    "text",
    ["feat_stride: 16", "'feat_stride': 16 \\n'scales': !!python/tuple [4, 8]", "{feat_stride: 16, scales: [4, 8]}"],
)
def test_spellings_of_settings(text):
    count = 18 if "scales" not in text else 12
    shapes = [(1, count, 5, 6), (1, 2 * count, 5, 6), (1, 3)]
    layer = netcompiler.build(netcompiler.parse(prototxt(proposal(text), shapes, 1))).nodes[-1].layer
    assert layer.feat_stride == 16 and layer.scales == ((8, 16, 32) if count == 18 else (4, 8))
    assert layer.kind == "Python" and layer.brief() == "ProposalLayer, s16, 6000/300, iou 0.7"


def test_the_nets_own_code_runs_where_it_is_allowed_and_there(tmp_path, monkeypatch):
    (tmp_path / "rpn").mkdir()
    (tmp_path / "rpn" / "__init__.py").write_text("")
    (tmp_path / "rpn" / "proposal_layer.py").write_text(
        "import caffe\nclass ProposalLayer(caffe.Layer):\n    def reshape(self, bottom, top): top[0].reshape(7, 5)\n"
    )
    net = netcompiler.parse(prototxt(proposal(), SHAPES, 1))
    assert netcompiler.build(net, allow_python=True).nodes[-1].tops[0].shape == (300, 5)
    monkeypatch.chdir(tmp_path)
    assert netcompiler.build(net).nodes[-1].tops[0].shape == (300, 5)
    assert netcompiler.build(net, allow_python=True).nodes[-1].tops[0].shape == (7, 5)
