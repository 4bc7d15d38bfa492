"""The model zoo: files equal what the functions write, figures equal the literature's, and every net runs and learns.

ResNet-50, -101 and -152 are held against the authors' own files, if they are there; see also tests/test_nets.py.
"""

import dataclasses
import math
import os
import re
import runpy
import warnings
from pathlib import Path

import numpy as np
import pytest

import netcompiler
from netcompiler import NetError, cli, stats, zoo
from netcompiler.text import parse_message

from . import recipe

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "model_zoo"
CORPUS = os.environ.get("NETCOMPILER_CORPUS", "")
DEPTHS = pytest.mark.parametrize("depth", (50, 101, 152))
EVERY = pytest.mark.parametrize("name", zoo.MODELS)


@dataclasses.dataclass(frozen=True)
class Case:
    """A net's figures, and inputs that are small enough to run here.

    side: of the square picture that deploy takes; shapes: its inputs where there is more to give.
    train: the inputs of train_val; unset, a picture of that size, `batch` times, and labels. () where it is not run.
    more: parameters that train_val has and deploy has not.
    """

    params: int
    macs: int
    side: int = 0
    channels: int = 3
    batch: int = 2
    shapes: dict | None = None
    train: dict | tuple | None = None
    more: int = 0

    @property
    def inputs(self):
        return self.shapes or {"data": (1, self.channels, self.side, self.side)}

    @property
    def training(self):
        if self.train is not None:
            return self.train
        return {"data": (self.batch, self.channels, self.side, self.side), "label": (self.batch,)}


RESNET = {"side": 224, "batch": 1}  # pooling of 7 x 7 needs the whole picture
CIFAR = {"side": 16}
LINE = (("cont_sentence", (3, 2)), ("input_sentence", (3, 2)), ("image_features", (2, 1000)))
BOXES = {"data": (1, 3, 64, 96), "im_info": (1, 3)}
CASES = {
    "LeNet": Case(431_080, 2_293_000, 28, 1),
    "AlexNet": Case(60_965_224, 724_406_816, 67),
    "CaffeNet": Case(60_965_224, 724_406_816, 67),
    "ZFNet": Case(62_357_608, 1_168_032_896, 65),
    "VGG-16": Case(138_357_544, 15_470_264_320, 32),
    "VGG-19": Case(143_667_240, 19_632_062_464, 32),
    "GoogLeNet": Case(6_998_552, 1_582_671_872, 224, batch=1, more=6_379_728),
    "ResNet-18": Case(11_689_512, 1_814_073_344, **RESNET),
    "ResNet-34": Case(21_797_672, 3_663_761_408, **RESNET),
    "ResNet-50": Case(25_557_096, 3_857_973_248, **RESNET),
    "ResNet-101": Case(44_549_160, 7_570_194_432, **RESNET),
    "ResNet-152": Case(60_192_808, 11_282_415_616, **RESNET),
    "Plain-18": Case(11_515_688, 1_794_805_760, **RESNET),
    "Plain-34": Case(21_623_848, 3_644_493_824, **RESNET),
    "CIFAR-ResNet-20": Case(269_722, 40_551_040, **CIFAR),
    "CIFAR-ResNet-32": Case(464_154, 68_862_592, **CIFAR),
    "CIFAR-ResNet-44": Case(658_586, 97_174_144, **CIFAR),
    "CIFAR-ResNet-56": Case(853_018, 125_485_696, **CIFAR),
    "CIFAR-ResNet-110": Case(1_727_962, 252_887_680, **CIFAR),
    "CIFAR-ResNet-1202": Case(19_421_274, 2_829_238_912, 8, train=()),
    "CIFAR-Plain-20": Case(269_722, 40_551_040, **CIFAR),
    "CIFAR-Plain-56": Case(853_018, 125_485_696, **CIFAR),
    "CIFAR-PreResNet-110": Case(1_727_962, 252_887_680, **CIFAR),
    "CIFAR-PreResNet-164": Case(1_703_258, 247_646_720, **CIFAR),
    "CIFAR-PreResNet-1001": Case(10_327_706, 1_490_995_712, 8, train=()),
    "PreResNet-200": Case(64_666_152, 15_007_481_856, 32),
    "WRN-28-10": Case(36_479_194, 5_243_328_768, 8),
    "ResNeXt-50-32x4d": Case(25_028_904, 4_230_479_872, 32),
    "ResNeXt-101-32x4d": Case(44_177_704, 7_969_996_800, 32),
    "WRN-50-2": Case(68_883_240, 11_398_021_120, 32),
    "SqueezeNet-1.0": Case(1_248_424, 861_339_936, 67),
    "SqueezeNet-1.1": Case(1_235_496, 387_747_520, 67),
    "MobileNet-v1": Case(4_231_976, 568_740_352, 32),
    "MobileNet-v2": Case(3_504_872, 300_774_272, 32),
    "DenseNet-121": Case(7_978_856, 2_834_161_664, 32),
    "Highway-50": Case(289_660, 284_700, 28, 1),
    "Inception-v3": Case(23_834_568, 5_713_216_096, 75),
    "Inception-v4": Case(42_679_816, 12_253_974_624, 75),
    "Inception-ResNet-v2": Case(55_843_464, 13_155_794_016, 75),
    "DCGAN-generator": Case(12_658_432, 410_583_040, shapes={"noise": (1, 100, 1, 1)}, train={}, more=17_232_768),
    "DCGAN-discriminator": Case(17_232_768, 638_992_384, 64, train={"data": (2, 3, 64, 64)}, more=12_658_432),
    "FCN-8s": Case(
        134_489_759, 181_529_034_048, 16, train={"data": (1, 3, 16, 16), "label": (1, 1, 16, 16)}, more=-120_960
    ),
    "Captioning-CNN": Case(60_965_224, 724_406_816, 67),
    "Captioning-LSTM": Case(
        37_618_801, 28_801_000, shapes=dict(LINE), train=dict([*LINE, ("target_sentence", (3, 2))])
    ),
    "Spatial-Transformer": Case(85_048, 9_483_788, 42, 1),
    "R-CNN": Case(57_687_624, 721_130_016, 67, more=-733_363),
    "Fast-R-CNN-VGG-16": Case(
        134_690_729,
        219_859_587_072,
        shapes={"data": (1, 3, 64, 96), "rois": (3, 5)},
        train={
            "data": (1, 3, 64, 96),
            "rois": (3, 5),
            "labels": (3,),
            "bbox_targets": (3, 84),
            "bbox_loss_weights": (3, 84),
        },
    ),
    "Faster-R-CNN-VGG-16": Case(137_078_239, 225_573_931_008, shapes=BOXES, train={**BOXES, "gt_boxes": (1, 5)}),
    "Faster-R-CNN-ResNet-50": Case(28_470_047, 268_786_732_032, shapes=BOXES, train={**BOXES, "gt_boxes": (1, 5)}),
    "SSD300": Case(26_285_486, 31_373_537_792, 260, train={"data": (1, 3, 260, 260), "label": (1, 1, 2, 8)}),
}
PHASES = ("TRAIN", "TEST")
FIXED = ("Data", "WindowData", "AnnotatedData", "Python", "DummyData")  # data layers that tell their sizes


def fed(name, shape):
    """Numbers that an input of this name can take."""
    rng = np.random.default_rng(len(shape))
    boxes = {
        "rois": [0, 8, 8, 40, 60],
        "im_info": [64, 96, 1],
        "gt_boxes": [8, 8, 60, 50, 3],
    }
    if name in boxes:
        return np.tile(np.array(boxes[name], np.float32), (shape[0], 1))
    if shape[-1:] == (8,):  # SSD's ground truth: image, class, object, x1, y1, x2, y2, whether it is difficult
        return np.tile(np.array([0, 2, 0, 0.2, 0.2, 0.7, 0.8, 0], np.float32), (*shape[:3], 1))
    if "label" in name or "sentence" in name:
        return (np.arange(math.prod(shape)).reshape(shape) % 2).astype(np.float32)
    scale = {"image_features": 1, "noise": 1}.get(name, 60)
    return (rng.standard_normal(shape) * scale).astype(np.float32)


def quietly(source, weights=None, **settings):
    """A compiled net on the CPU; that layers are filled at random is no news here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", netcompiler.NetWarning)
        return netcompiler.compile(source, weights, device="cpu", **settings)


def test_the_table_has_every_net():
    assert list(CASES) == sorted(CASES, key=list(zoo.MODELS).index) and set(CASES) == set(zoo.MODELS)


def test_files_are_those_of_the_functions():
    texts = runpy.run_path(str(FOLDER / "generate.py"))["texts"]()
    on_disk = {p.name: p.read_text(encoding="utf-8") for p in FOLDER.glob("*.prototxt")}
    assert sorted(on_disk) == sorted(texts), "run python model_zoo/generate.py"
    assert [name for name in texts if on_disk[name] != texts[name]] == [], "run python model_zoo/generate.py"
    solvers = [name for name in texts if name.endswith("-solver.prototxt")]
    assert all((ROOT / zoo.files()[name].net).is_file() for name in solvers)
    shown = texts["ResNet-50-solver.prototxt"].splitlines()[:3]
    assert shown[1].endswith("change netcompiler/zoo/resnet.py and run it again.") and "8 x 32 = 256" in shown[2]


@pytest.mark.parametrize("name", [n for n in zoo.files() if n.startswith(("SSD", "ZFNet", "ResNet-50", "LeNet"))])
def test_files_read_back(name):
    kind = "SolverParameter" if name.endswith("solver.prototxt") else "NetParameter"
    text = (FOLDER / name).read_text(encoding="utf-8")
    assert parse_message(text, kind=kind) == zoo.files()[name]


@EVERY
def test_figures(name):
    """Parameters and MACs of deploy; train_val has the same parameters, in both phases."""
    case, model = CASES[name], zoo.find(name)
    graph = netcompiler.build(model.write())
    totals = stats.totals(graph)
    assert (totals.params, totals.macs, totals.unknown) == (case.params, case.macs, 0)
    if "train_val" not in model.parts:
        return
    msg = model.write("train_val")
    told = all(m.type in FIXED for m in msg.layer if not m.bottom)
    for phase in PHASES if name not in ("CIFAR-ResNet-1202", "CIFAR-PreResNet-1001") else ("TRAIN",):
        try:
            built = netcompiler.build(msg, phase)
        except NetError as e:
            assert "the net does not tell the shape" in e.what
            assert name in ("FCN-8s", "Captioning-LSTM")
            built = netcompiler.build(msg, phase, inputs=case.training)
        else:
            assert told
        assert stats.totals(built).params == case.params + case.more
        assert any(any(n.loss_weights) for n in built) == ("loss" in str([v.blob for v in built.outputs]))
        shared = {n.name for n in graph if n.params} - ({"fc-rcnn"} if name == "R-CNN" else set())
        assert {n.name for n in built} >= shared


@EVERY
def test_figures_as_published(name):
    """All digits of the literature's count, or the few that it gives, to 2 %."""
    published = zoo.find(name).parameters
    exact = [int(n.replace(",", "")) for n in re.findall(r"\d[\d,]{6,}", published)]
    if exact:
        extra = 64 if name == "ResNet-50" else 0  # conv1's bias
        assert exact[0] == CASES[name].params - extra and exact[1:] in ([], [CASES[name].params + CASES[name].more])
    elif published:
        number, unit = published.split()
        assert abs(float(number) * {"k": 1e3, "M": 1e6}[unit] / CASES[name].params - 1) < 0.02
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    (row,) = (line for line in readme.splitlines() if line.startswith(f"| {name} |"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[2:5] == [f"{CASES[name].params:,}", published or "-", f"{CASES[name].macs:,}"]


def test_rows_of_the_readme():
    made = runpy.run_path(str(FOLDER / "generate.py"))
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    for name in ("LeNet", "SqueezeNet-1.1"):
        assert f"| {' | '.join(made['row'](zoo.find(name)))} |\n" in readme
    rows = readme.split(made["BEGIN"])[1].split(made["END"])[0].splitlines()
    assert [row.split(" | ")[0].strip("| ") for row in rows[2:]] == list(zoo.MODELS)


@EVERY
def test_it_runs_and_learns(name):
    """train_val forward and backward, and deploy with its weights, which it finds by their names; small pictures."""
    case, model = CASES[name], zoo.find(name)
    deploy = netcompiler.build(model.write(), inputs=case.inputs)
    if "train_val" in model.parts and case.train != ():
        options = {"batch": 2} if name.startswith("DCGAN") else {}
        train = netcompiler.build(model.write("train_val", **options), "TRAIN", inputs=case.training)
        still = {n.name for n in train if n.layer.kind == "BatchNorm" and n.layer.use_global_stats}
        given = {k: v for k, v in recipe.weights(train).items() if k in still} if still else None
        net = quietly(train, given, seed=3)
        out = net(**{k: fed(k, s) for k, s in case.training.items()})
        loss = net.loss(out)
        loss.backward()
        assert math.isfinite(loss.item()) and loss.item() > 0
        sizes = [float(p.grad.norm()) for p in net.parameters() if p.requires_grad and p.grad is not None]
        assert sizes and all(map(math.isfinite, sizes))
        assert sum(size > 0 for size in sizes) > len(sizes) // 2
        weights = net.caffe_params()
        # The training nets of these two have other shapes, and another last layer.
        other = ("upscore2", "upscore_pool4", "upscore8", "fc-rcnn") if name in ("FCN-8s", "R-CNN") else ()
        weights = {n.name: weights[n.name] for n in deploy if n.params and n.name not in other}
    else:
        weights = recipe.weights(deploy)
    out = quietly(deploy, weights)(**{k: fed(k, s) for k, s in case.inputs.items()})
    for blob, value in out.items():
        assert bool(value.isfinite().all()), blob
        if "prob" in blob and name != "DCGAN-discriminator":
            count = value.shape[0] if blob != "probs" else value[..., 0].numel()
            assert abs(float(value.sum()) / count - 1) < 1e-4


@EVERY
def test_it_draws(name):
    text = netcompiler.draw(zoo.find(name).write()).svg
    assert text.startswith("<svg") and text.count("<text") > 8


# --- residual nets ---


@pytest.mark.parametrize(
    ("depth", "shortcut", "params"),
    [(18, "C", 12_043_816), (34, "A", 21_623_848), (34, "C", 22_716_840), (50, "A", 22_780_520), (50, "C", 40_128_616)],
)
def test_shortcuts(depth, shortcut, params):
    graph = netcompiler.build(zoo.resnet.deploy(depth, shortcut=shortcut))
    assert stats.totals(graph).params == params
    projections = [n.name for n in graph if n.name.endswith("branch1") and n.layer.kind == "Convolution"]
    assert len(projections) == {"A": 0, "C": sum(zoo.resnet.BLOCKS[depth])}[shortcut]
    train = zoo.resnet.train_val(depth, shortcut=shortcut)
    assert {stats.totals(netcompiler.build(train, phase)).params for phase in PHASES} == {params}


@pytest.mark.parametrize(
    ("msg", "short", "inner"),
    [
        (zoo.cifar.deploy(20), "Shortcut4_pad", "Eltwise3"),
        (zoo.preact.deploy(20), "res4_match_pad", "res3_eletwise"),
        (zoo.resnet.deploy(18, shortcut="A"), "res3a_branch1_pad", "res2b"),
        (zoo.resnet.deploy(50, shortcut="A"), "res2a_branch1_pad", "pool1"),
    ],
)
def test_option_a_takes_every_other_pixel_and_adds_zeros(msg, short, inner):
    size = (2, 3, 64, 64) if "224" in str(msg.layer[0]) else (2, 3, 32, 32)
    graph = netcompiler.build(msg).reaching([short, inner])
    net = quietly(graph, recipe.weights(graph), optimize=False)
    out = net(data=fed("data", size))
    x, y = out[inner], out[short]
    stride = x.shape[2] // y.shape[2]
    assert stride == (1 if inner == "pool1" else 2) and y.shape[1] == x.shape[1] * (4 if stride == 1 else 2)
    assert bool((y[:, : x.shape[1]] == x[:, :, ::stride, ::stride]).all()) and bool(x.any())
    assert not bool(y[:, x.shape[1] :].any())


def test_plain_nets_lack_the_shortcuts_only():
    for depth in (18, 34):
        plain, whole = (netcompiler.build(zoo.resnet.deploy(depth, plain=p)) for p in (True, False))
        lacking = {n.name for n in whole} - {n.name for n in plain}
        blocks = {f"res{s}{chr(97 + i)}" for s, k in enumerate(zoo.resnet.BLOCKS[depth], 2) for i in range(k)}
        kept = {f"{kind}{s}a_branch1" for s in (3, 4, 5) for kind in ("res", "bn", "scale")}
        assert lacking == blocks | {f"{b}_relu" for b in blocks} | kept
        assert {n.name for n in plain} - {n.name for n in whole} == {f"{b}_branch2b_relu" for b in blocks}


@DEPTHS
@pytest.mark.skipif(not CORPUS, reason="NETCOMPILER_CORPUS names no folder with the published prototxts")
def test_deploy_is_the_published_net(depth):
    """The folder may hold them as published, and as Caffe's own tool upgraded them."""
    published = sorted(Path(CORPUS).rglob(f"*deep-residual-networks*ResNet-{depth}-deploy.prototxt"))
    assert published, f"{CORPUS} holds no ResNet-{depth}-deploy.prototxt of the authors"
    ours = netcompiler.build(zoo.resnet.deploy(depth))
    for path in published:
        theirs = netcompiler.build(netcompiler.load(path))
        assert len(ours.nodes) == len(theirs.nodes)
        for a, b in zip(ours, theirs, strict=True):
            assert a == b  # name, layer, bottoms, tops, shapes, params
        assert (ours.name, ours.outputs) == (theirs.name, theirs.outputs)


@DEPTHS
def test_shapes_and_strides(depth):
    graph = netcompiler.build(zoo.resnet.deploy(depth))
    weighted = [n.name for n in graph if n.layer.counted and "branch1" not in n.name]
    assert len(weighted) == depth
    ends = {2: "c", 3: {50: "d", 101: "b3", 152: "b7"}[depth], 4: {50: "f", 101: "b22", 152: "b35"}[depth], 5: "c"}
    for stage, end in ends.items():
        top = graph.last(f"res{stage}{end}")
        assert top.shape == (1, 64 << stage, 224 >> stage, 224 >> stage)
    assert graph.last("pool5").shape == (1, 2048, 1, 1)
    assert [(v.blob, v.shape) for v in graph.outputs] == [("prob", (1, 1000))]
    nodes = {n.name: n.layer for n in graph}
    strided = {name for name, layer in nodes.items() if layer.kind == "Convolution" and layer.stride == (2, 2)}
    assert strided == {"conv1", *(f"res{s}a_branch{b}" for s in (3, 4, 5) for b in ("1", "2a"))}
    biased = [name for name, layer in nodes.items() if layer.kind == "Convolution" and layer.bias_term]
    assert biased == (["conv1"] if depth == 50 else [])


@DEPTHS
def test_train_val(depth):
    msg = zoo.resnet.train_val(depth)
    train, test = (netcompiler.build(msg, phase) for phase in PHASES)
    deploy = netcompiler.build(zoo.resnet.deploy(depth))
    shared = {n.name for n in deploy} - {"input", "prob"}
    for graph in (train, test):
        assert {n.name for n in graph} >= shared
        for node in graph:
            if node.layer.kind in ("Convolution", "InnerProduct"):
                assert node.layer.weight_filler.type == "msra"
    assert [v.blob for v in train.outputs] == ["loss"]
    assert [v.blob for v in test.outputs] == ["loss", "top1", "top5"]
    assert [v.shape for v in train.inputs()] == [(32, 3, 224, 224), (32,)]
    assert [v.shape for v in test.inputs()] == [(50, 3, 224, 224), (50,)]
    norms = {
        g.phase: {n.layer.use_global_stats for n in g if n.layer.kind == "BatchNorm"} for g in (train, test, deploy)
    }
    assert norms == {"TRAIN": {False}, "TEST": {True}}
    data = [m for m in msg.layer if m.type == "Data"]
    assert [m.transform_param.mirror for m in data] == [True, False]
    assert [list(m.transform_param.mean_value) for m in data] == [[104, 117, 123]] * 2


@DEPTHS
def test_solver_is_the_papers(depth):
    solver = zoo.files()[f"ResNet-{depth}-solver.prototxt"]
    msg = netcompiler.load(ROOT / solver.net)
    batches = {m.include[0].enum("phase"): m.data_param.batch_size for m in msg.layer if m.type == "Data"}
    assert solver.iter_size * batches["TRAIN"] == 256
    assert solver.test_iter[0] * batches["TEST"] == 50_000
    assert math.isclose(solver.base_lr, 0.1, rel_tol=1e-6) and math.isclose(solver.gamma, 0.1, rel_tol=1e-6)
    assert math.isclose(solver.momentum, 0.9, rel_tol=1e-6) and math.isclose(solver.weight_decay, 1e-4, rel_tol=1e-6)
    assert (solver.type, solver.lr_policy, solver.max_iter) == ("SGD", "multistep", 600_000)
    assert [round(step * 256 / 1_281_167) for step in solver.stepvalue] == [30, 60]  # passes over ImageNet


# --- names, so that published weights load ---

NAMES = {  # net, options -> some layers with weights, as published
    ("LeNet", ""): "conv1 conv2 ip1 ip2",
    ("AlexNet", ""): "conv1 conv5 fc6 fc8",
    ("VGG-16", ""): "conv1_1 conv5_3 fc6 fc8",
    ("GoogLeNet", ""): "conv1/7x7_s2 conv2/3x3_reduce inception_4d/5x5_reduce inception_5b/pool_proj loss3/classifier",
    ("ResNet-18", ""): "conv1 bn_conv1 scale_conv1 res2a_branch2a bn3a_branch1 scale5b_branch2b fc1000",
    ("ResNet-101", ""): "res4b22_branch2c bn3b1_branch2a res5c_branch2a",
    ("CIFAR-ResNet-20", "B"): "Convolution1 BatchNorm21 Scale8 InnerProduct1",
    ("PreResNet-200", ""): "res1_match_conv res2_bn res4_conv2_scale res66_eletwise_bn classifier",
    ("ResNeXt-50-32x4d", ""): "conv1_bn resx1_match_conv resx16_conv2_scale resx4_match_conv_bn classifier",
    ("WRN-50-2", ""): "conv1_scale res1_conv1 res16_conv3_bn res8_match_conv_scale classifier",
    ("SqueezeNet-1.1", ""): "conv1 fire2/squeeze1x1 fire9/expand3x3 conv10",
    ("MobileNet-v1", ""): "conv1/bn conv2_1/dw conv5_6/sep/scale conv6/dw/bn fc7",
    ("MobileNet-v2", "early"): "conv2_1/expand conv3_2/dwise/bn conv4_7/linear conv6_3/linear/scale conv6_4 fc7",
    ("DenseNet-121", ""): "conv1/scale conv2_1/x1/bn conv4_24/x2 conv5_blk/bn conv2_blk conv5_16/x2/scale fc6",
    ("Inception-v3", ""): "conv4_3x3_reduce_bn inception_a1_pool_proj reduction_b_7x1 inception_c2_3x1_2 classifier",
    ("Inception-v4", ""): "inception_stem2_1x7_reduce reduction_a_3x3_3_bn inception_c3_1x3_3_scale",
    ("Inception-ResNet-v2", ""): "conv5_1x1_ave inception_resnet_v2_a10_up inception_resnet_v2_c10_3x1_bn conv6_1x1",
    ("FCN-8s", ""): "conv5_3 fc6 score_fr upscore2 score_pool4 upscore_pool4 score_pool3 upscore8",
    ("R-CNN", ""): "conv1 fc7 fc-rcnn",
    ("Captioning-LSTM", ""): "embedding lstm1 lstm2 predict",
    ("Fast-R-CNN-VGG-16", ""): "conv1_1 fc7 cls_score bbox_pred",
    ("Faster-R-CNN-VGG-16", ""): "rpn_conv/3x3 rpn_cls_score rpn_bbox_pred fc6 cls_score",
    ("Faster-R-CNN-ResNet-50", ""): "conv1 res4f_branch2c rpn_cls_score res5a_branch1 bbox_pred",
    ("SSD300", ""): "conv5_3 fc7 conv9_2 conv4_3_norm conv4_3_norm_mbox_conf fc7_mbox_loc conv9_2_mbox_loc",
}
OPTIONS = {"": {}, "B": {"shortcut": "B", "bias": True}, "early": {"early": True}}


@pytest.mark.parametrize(("name", "options"), NAMES)
def test_names(name, options):
    graph = netcompiler.build(zoo.find(name).write(**OPTIONS[options]))
    assert {n.name for n in graph if n.params} >= set(NAMES[name, options].split())


PUBLISHED = {  # in the folder -> the net whose layers with weights it has, with their shapes
    "BVLC--caffe__models__bvlc_alexnet__deploy": ("AlexNet", {}),
    "BVLC--caffe__models__bvlc_reference_caffenet__deploy": ("CaffeNet", {}),
    "BVLC--caffe__models__bvlc_googlenet__deploy": ("GoogLeNet", {}),
    "BVLC--caffe__models__bvlc_reference_rcnn_ilsvrc13__deploy": ("R-CNN", {}),
    "BVLC--caffe__examples__mnist__lenet": ("LeNet", {}),
    "*vgg_ilsvrc_19__VGG_ILSVRC_19_layers_deploy": ("VGG-19", {}),
    "soeaver--caffe-model__cls__resnet__deploy_resnet18-priv": ("ResNet-18", {}),
    "soeaver--caffe-model__cls__inception__deploy_inception-v3": ("Inception-v3", {}),
    "forresti--SqueezeNet__SqueezeNet_v1.0__deploy": ("SqueezeNet-1.0", {}),
    "forresti--SqueezeNet__SqueezeNet_v1.1__deploy": ("SqueezeNet-1.1", {}),
    "*__data_augmentation__20__res20_cifar_train_test": ("CIFAR-ResNet-20", {"shortcut": "B", "bias": True}),
    "*__data_augmentation__110__res110_cifar_train_test": ("CIFAR-ResNet-110", {"shortcut": "B", "bias": True}),
    "*__PlainNet__56__plain56_cifar_train_test": ("CIFAR-Plain-56", {"bias": True}),
    "shelhamer--fcn.berkeleyvision.org__voc-fcn8s__deploy": ("FCN-8s", {}),
    "rbgirshick--fast-rcnn__models__VGG16__no_bbox_reg__test": ("Fast-R-CNN-VGG-16", {}),
    "*py-faster-rcnn__models__pascal_voc__VGG16__faster_rcnn_end2end__test": ("Faster-R-CNN-VGG-16", {}),
    "intel*__ssd__VGGNet__VOC0712__SSD_300x300__test": ("SSD300", {}),
    "ethereon*__vgg-16": ("VGG-16", {}),
    "rbgirshick--rcnn__finetuning__voc_2007_prototxt__pascal_finetune_train": ("R-CNN", {"part": "train_val"}),
    "rbgirshick--fast-rcnn__models__VGG16__train": ("Fast-R-CNN-VGG-16", {"part": "train_val"}),
    "*py-faster-rcnn__models__pascal_voc__VGG16__faster_rcnn_end2end__train": (
        "Faster-R-CNN-VGG-16",
        {"part": "train_val"},
    ),
    "intel*__ssd__VGGNet__coco__SSD_300x300__train": ("SSD300", {"part": "train_val", "classes": 81}),
}


@pytest.mark.filterwarnings("ignore::netcompiler.NetWarning")  # files that a layer names are not here
@pytest.mark.parametrize("pattern", PUBLISHED)
@pytest.mark.skipif(not CORPUS, reason="NETCOMPILER_CORPUS names no folder with the published prototxts")
def test_layers_are_the_published(pattern):
    name, options = PUBLISHED[pattern]
    found = sorted(Path(CORPUS).rglob(f"{pattern}.prototxt"))
    assert found, f"{CORPUS} holds no {pattern}.prototxt"
    phase = "TRAIN" if "part" in options else "TEST"
    ours = netcompiler.build(zoo.find(name).write(**options), phase)
    inputs = {"Data1": (1, 3, 32, 32), "Data2": (1,)} if "cifar" in pattern else None
    theirs = netcompiler.build(netcompiler.load(found[0]), phase, inputs=inputs)

    def shapes(graph):
        layers = {n.name: [b.shape for b in n.layer.blobs(n.bottom_shapes).values()] for n in graph if n.params}
        return {k: v for k, v in layers.items() if k != "bbox_pred" or "no_bbox_reg" not in pattern}

    assert shapes(ours) == shapes(theirs)


BACKBONES = {  # detectors, batch normalisation folded away -> the net whose convolutions they stand on
    "resnet18__deploy_*": ("ResNet-18", {}),
    "wrn50-2__deploy_*": ("WRN-50-2", {}),
    "resnext50-32x4d__deploy_*": ("ResNeXt-50-32x4d", {}),
    "resnext101-32x4d__deploy_*": ("ResNeXt-101-32x4d", {}),
    "resnet101-v2__deploy_*": ("PreResNet-200", {"depth": 101}),
    "inception-v3__deploy_*": ("Inception-v3", {}),
    "inception-v4__deploy_*": ("Inception-v4", {}),
    "inception-resnet-v2__deploy_*": ("Inception-ResNet-v2", {}),
    "mobilenet__deploy_*": ("MobileNet-v1", {}),
}


@pytest.mark.parametrize("pattern", BACKBONES)
@pytest.mark.skipif(not CORPUS, reason="NETCOMPILER_CORPUS names no folder with the published prototxts")
def test_convolutions_are_the_published(pattern):
    name, options = BACKBONES[pattern]
    found = sorted(Path(CORPUS).rglob(f"soeaver--caffe-model__det__*__pascal_voc__{pattern}.prototxt"))
    assert found, f"{CORPUS} holds no {pattern}.prototxt of soeaver/caffe-model"

    def convolutions(msg):
        kinds = ("Convolution", "ConvolutionDepthwise", "DepthwiseConvolution")
        layers = {m.name: m.convolution_param for m in msg.layer if m.type in kinds}
        return {k: (p.num_output, *p.kernel_size, p.kernel_h, p.kernel_w, p.group) for k, p in layers.items()}

    ours, theirs = convolutions(zoo.find(name).write(**options)), convolutions(netcompiler.load(found[0]))
    last = {"fc7"} if name == "MobileNet-v1" else set()  # the classifier
    assert set(ours) - set(theirs) == last and len(ours) > 15
    assert {k: v for k, v in ours.items() if k not in last} == {k: v for k, v in theirs.items() if k in ours}


TRAINED = {  # folder of weights -> our net, their prototxt, its input and output
    "lenet_v2_ethereon": (zoo.lenet.deploy(), "lenet", "data", "prob"),
    "lenet_v1_everpeace": (zoo.lenet.deploy(), "lenet", "data", "prob"),
    "resnet20_cifar10_junyuseu": (
        zoo.cifar.deploy(20, shortcut="B", bias=True),
        "res20_cifar_train_test",
        "Data1",
        "InnerProduct1",
    ),
    "plainnet20_cifar10_junyuseu": (
        zoo.cifar.deploy(20, plain=True, bias=True),
        "plain20_cifar_train_test",
        "Data1",
        "InnerProduct1",
    ),
}


@pytest.mark.parametrize("folder", TRAINED)
@pytest.mark.skipif(not CORPUS, reason="NETCOMPILER_CORPUS names no folder with trained weights")
def test_trained_weights(folder):
    """Ours with other people's weights says what theirs does."""
    msg, prototxt, data, scores = TRAINED[folder]
    where = Path(CORPUS) / "weights" / folder
    (weights,) = where.glob("*.caffemodel")
    shape = tuple(msg.layer[0].input_param.shape[0].dim)
    inputs = {data: shape, **({"Data2": (1,)} if data == "Data1" else {})}
    ours = quietly(msg, weights, outputs=["prob"])
    theirs = quietly(where / f"{prototxt}.prototxt", weights, inputs=inputs, outputs=[scores])
    image = fed("data", shape) / (200 if folder.startswith("lenet") else 1)
    told = theirs(**{data: image})[scores]
    expected = told if scores == "prob" else told.softmax(1)
    assert float(expected.max()) > 0.2
    assert float((ours(data=image)["prob"] - expected).abs().max()) < 1e-5


# --- others ---


def test_deconvnet():
    """Against PyTorch's own unpooling, from the chosen activations of the third convolution."""
    import torch
    from torch.nn import functional as f

    graph = netcompiler.build(zoo.zfnet.deconvnet(3))
    net = quietly(graph, {k: v for k, v in recipe.weights(graph).items() if k.startswith("conv")})
    image, chosen = torch.from_numpy(fed("data", (1, 3, 225, 225))), torch.zeros(1, 384, 13, 13)
    chosen[0, 4:24, 4:6, 3:9] = 1
    w = {k: [torch.from_numpy(a) for a in v] for k, v in net.caffe_params().items()}
    x, places = image, {}
    for i, (stride, pad) in {1: (2, 0), 2: (2, 0), 3: (1, 1)}.items():
        x = f.relu(f.conv2d(x, *w[f"conv{i}"], stride=stride, padding=pad))
        if i < 3:
            size = x.shape
            x, index = f.max_pool2d(x, 3, 2, ceil_mode=True, return_indices=True)
            places[i] = index, size
            x = f.local_response_norm(x, 5, 1e-4, 0.75, 1.0)
    x = f.conv_transpose2d(f.relu(x * chosen), w["conv3"][0], padding=1)
    for i in (2, 1):
        index, size = places[i]
        flat = torch.zeros(*size[:2], size[2] * size[3])
        x = flat.scatter_(2, index.flatten(2), x.flatten(2)).view(size)  # of several at one place the last stays
        x = f.conv_transpose2d(f.relu(x), w[f"conv{i}"][0], stride=2)
    found = net(data=image, chosen=chosen)["reconstruction"]
    assert found.shape == (1, 3, 225, 225) and float(x.abs().max()) > 0
    assert float((found - x).abs().max()) < 1e-4 * float(x.abs().max())


def test_the_transformer_starts_by_looking_straight_on():
    net = quietly(zoo.spatial_transformer.train_val(train_batch=2), phase="TRAIN", outputs=["st", "theta"])
    image = np.random.default_rng(1).random((2, 1, 42, 42), np.float32)
    out = net(data=image, label=np.zeros(2, np.float32))
    assert out["theta"].tolist() == [[1, 0, 0, 0, 1, 0]] * 2
    assert np.allclose(out["st"].detach().numpy(), image, atol=1e-5)


@pytest.mark.parametrize(("part", "learns"), [("generator", "g_"), ("discriminator", "d_")])
def test_only_one_half_of_a_gan_learns(part, learns):
    """In either half's training net; a real and a made picture go through one discriminator, by shared weights."""
    import torch

    model = zoo.find(f"DCGAN-{part}")
    net = quietly(model.write("train_val", width=4, batch=2), phase="TRAIN", seed=2)
    net.loss(net(**({"data": fed("data", (2, 3, 64, 64)) / 99} if part == "discriminator" else {}))).backward()
    grads = {k: any(bool(np.any(a)) for a in arrays) for k, arrays in net.caffe_grads().items() if "bn" not in k}
    assert {k for k, any_ in grads.items() if any_} == {k for k in grads if k.startswith(learns)}
    if part == "discriminator":
        blobs = net.caffe_params()
        twins = {k: k + "_made" for k in blobs if f"{k}_made" in blobs and "bn" not in k}
        assert len(twins) == 8 and all(
            np.array_equal(a, b) for k, t in twins.items() for a, b in zip(blobs[k], blobs[t])
        )
        out = quietly(
            model.write("train_val", width=4, batch=2), phase="TRAIN", outputs=["score", "score_made"], seed=2
        )
        scores = out(data=torch.zeros(2, 3, 64, 64))
        assert not torch.equal(scores["score"], scores["score_made"])


def test_captioning_learns_a_sentence(tmp_path):
    """From HDF5 files as `train_val` says, by its solver: with two pictures, the second word tells which one it is."""
    import h5py

    from netcompiler.train.solver import Solver

    steps, sentences = 20, 4
    which = np.arange(sentences) % 2
    cont, given, target = np.ones((steps, sentences)), np.zeros((steps, sentences)), np.full((steps, sentences), -1)
    cont[::2] = 0
    given[1::2] = target[::2] = 3
    target[1::2] = 1 + which
    sets = {"sentences": {"cont_sentence": cont, "input_sentence": given, "target_sentence": target}}
    sets["features"] = {"image_features": np.eye(2)[which] * 3}
    for name, data in sets.items():
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            for key, values in data.items():
                file[key] = values.astype(np.float32)
        (tmp_path / f"{name}.txt").write_text(str(tmp_path / f"{name}.h5"))
    source, features = (str(tmp_path / f"{name}.txt") for name in sets)
    files = {"train_source": source, "val_source": source, "train_features": features, "val_features": features}
    path = tmp_path / "net.prototxt"
    path.write_text(str(zoo.captioning.train_val(words=5, units=8, sentences=sentences, **files)))
    solver = zoo.captioning.solver(net=str(path))
    solver.raw.test_iter[:] = [1]
    solver.raw.max_iter = solver.raw.test_interval = 40
    solver.raw.snapshot_after_train = False
    solver.raw.solver_mode = 0  # CPU
    events = []
    with Solver(solver, seed=1) as training:
        training.solve(events.append)
    *_, told = (e["outputs"] for e in events if e["kind"] == "test")
    assert told["accuracy"] == 1 and told["cross_entropy_loss"] < 0.6


def test_other_classes_and_sources():
    msg = zoo.resnet.train_val(50, classes=20, train_source="a", val_source="b", train_batch=4, val_batch=5)
    fc = next(m for m in msg.layer if m.type == "InnerProduct")
    assert (fc.name, fc.inner_product_param.num_output) == ("fc20", 20)
    assert [(m.data_param.source, m.data_param.batch_size) for m in msg.layer if m.type == "Data"] == [
        ("a", 4),
        ("b", 5),
    ]
    assert zoo.resnet.solver(50, net="x.prototxt").net == "x.prototxt"


@pytest.mark.parametrize("write", [zoo.resnet.deploy, zoo.resnet.train_val, zoo.resnet.solver])
def test_unknown_depth(write):
    with pytest.raises(NetError, match="no ResNet of this depth") as caught:
        write(33)
    assert caught.value.expected == "one of 18, 34, 50, 101, 152"


@pytest.mark.parametrize(
    ("call", "what"),
    [
        (lambda: zoo.find("ResNet-51"), 'no net "ResNet-51"'),
        (lambda: zoo.find("LeNet").write("test"), 'no part "test"'),
        (lambda: zoo.find("LeNet").write(depth=3), 'no option "depth"'),
        (lambda: zoo.resnet.deploy(50, plain=True), "no plain net"),
        (lambda: zoo.resnet.deploy(50, shortcut="D"), "no such shortcut"),
        (lambda: zoo.cifar.deploy(21), "no residual net for CIFAR"),
        (lambda: zoo.cifar.deploy(20, width=0), "so narrow"),
        (lambda: zoo.preact.deploy(111), "no pre-activation net"),
        (lambda: zoo.preact.deploy(164, shortcut="A"), None),
        (lambda: zoo.preact.deploy(28, wide=3, shortcut="A"), None),
        (lambda: zoo.resnext.deploy(18), "no ResNeXt"),
        (lambda: zoo.resnext.deploy(cardinality=0), "no such groups"),
        (lambda: zoo.vgg.deploy(12), "no VGG net"),
        (lambda: zoo.alexnet.solver("X"), "no such variant"),
        (lambda: zoo.mobilenet.deploy("v3"), "no such version of MobileNet"),
        (lambda: zoo.mobilenet.deploy("v1", early=True), "early tells"),
        (lambda: zoo.mobilenet.deploy(multiplier=0), "no such multiplier"),
        (lambda: zoo.squeezenet.deploy("2"), "no such version of SqueezeNet"),
        (lambda: zoo.densenet.solver(3), "no DenseNet"),
        (lambda: zoo.inception.deploy("v5"), "no such version of Inception"),
        (lambda: zoo.highway.deploy(1), "no such highway"),
        (lambda: zoo.dcgan.generator(width=0), "no such DCGAN"),
        (lambda: zoo.captioning.deploy(words=0), "no such decoder"),
        (lambda: zoo.zfnet.deconvnet(6), "no such layer"),
        (lambda: zoo.faster_rcnn.deploy("AlexNet"), "no such backbone"),
        (lambda: zoo.lenet.train_val(train_sorce="x"), 'no option "train_sorce"'),
    ],
)
def test_refusals(call, what):
    if what is None:  # zeros pad these shortcuts as well
        assert netcompiler.build(call()).outputs
        return
    with pytest.raises(NetError) as caught:
        call()
    assert what in caught.value.what


# --- netcompile zoo ---


def command(capsys, *words):
    code = cli.main(["zoo", *words])
    return code, *capsys.readouterr()


def test_zoo_lists_and_tells(capsys):
    code, out, _ = command(capsys)
    assert code == 0 and [line.split()[0] for line in out.splitlines()] == list(zoo.MODELS)
    code, out, _ = command(capsys, "resnet-34")
    assert code == 0 and "21,797,672" in out and "shortcut=B" in out and "Deep Residual Learning" in out


def test_zoo_writes(capsys, tmp_path):
    target = tmp_path / "net.prototxt"
    code, out, _ = command(capsys, "ResNet-34", "shortcut=A", "plain=false", "classes=20", "-o", str(target))
    assert code == 0 and out == f"wrote {target}\n"
    assert netcompiler.load(target) == zoo.resnet.deploy(34, 20, shortcut="A")
    code, out, _ = command(capsys, "mobilenet-v2", "multiplier=0.5", "train_batch=3", "--part", "train_val")
    assert code == 0 and netcompiler.parse(out) == zoo.mobilenet.train_val("v2", multiplier=0.5, train_batch=3)
    code, out, _ = command(capsys, "LeNet", "net=mine.prototxt", "--part", "solver")
    assert code == 0 and parse_message(out, kind="SolverParameter") == zoo.lenet.solver(net="mine.prototxt")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["ResNet"], "the zoo has no net"),
        (["LeNet", "--part", "test"], 'no part "test"'),
        (["LeNet", "classes"], "this is no option"),
        (["LeNet", "classes=ten"], "classes does not fit"),
        (["LeNet", "classes=3", "classes=4"], "given twice"),
        (["LeNet", "clases=3"], 'did you mean "classes"?'),
        (["WRN-28-10", "bottleneck=maybe"], "true or false"),
        (["MobileNet-v1", "multiplier=x"], "a number"),
        (["LeNet", "-o", "net.svg"], ".prototxt"),
        (["-o", "net.prototxt"], "no net is named"),
    ],
)
def test_zoo_refuses(words, told, capsys):
    code, out, err = command(capsys, *words)
    assert (code, out) == (2, "") and told in err
