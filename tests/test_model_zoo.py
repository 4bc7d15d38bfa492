"""The model zoo: files equal what the functions write, graphs equal the published ones, figures equal the literature's."""

import math
import os
import re
import runpy
import warnings
from pathlib import Path

import numpy as np
import pytest

import netcompiler
from netcompiler import NetError, stats, zoo
from netcompiler.text import parse_message

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "model_zoo"
CORPUS = os.environ.get("NETCOMPILER_CORPUS", "")
FIGURES = {  # depth -> learned parameters, multiply-accumulates of one 224 x 224 image
    50: (25_557_096, 3_857_973_248),
    101: (44_549_160, 7_570_194_432),
    152: (60_192_808, 11_282_415_616),
}
DEPTHS = pytest.mark.parametrize("depth", FIGURES)


def test_files_are_those_of_the_functions():
    texts = runpy.run_path(str(FOLDER / "generate.py"))["texts"]()
    assert len(texts) == 9
    on_disk = {p.name: p.read_text(encoding="utf-8") for p in FOLDER.glob("*.prototxt")}
    assert on_disk == texts, "run python model_zoo/generate.py"


@pytest.mark.parametrize("name", zoo.files())
def test_files_read_back(name):
    kind = "SolverParameter" if name.endswith("solver.prototxt") else "NetParameter"
    text = (FOLDER / name).read_text(encoding="utf-8")
    assert parse_message(text, kind=kind) == zoo.files()[name]


@DEPTHS
def test_figures(depth):
    params, macs = FIGURES[depth]
    totals = stats.totals(netcompiler.build(zoo.resnet.deploy(depth)))
    assert (totals.params, totals.macs) == (params, macs)
    for phase in ("TRAIN", "TEST"):
        assert stats.totals(netcompiler.build(zoo.resnet.train_val(depth), phase)).params == params


@DEPTHS
def test_figures_in_the_readme(depth):
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    row = next(line for line in readme.splitlines() if line.startswith(f"| ResNet-{depth} |"))
    assert tuple(int(n.replace(",", "")) for n in re.findall(r"\d[\d,]{6,}", row)) == FIGURES[depth]
    graph = netcompiler.build(zoo.resnet.deploy(depth))
    weighted = [n.name for n in graph if n.layer.counted and "branch1" not in n.name]
    assert f"| {len(weighted)} |" in row and len(weighted) == depth


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
    train, test = (netcompiler.build(msg, phase) for phase in ("TRAIN", "TEST"))
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
        write(34)
    assert caught.value.expected == "one of 50, 101, 152"


@pytest.mark.slow
def test_it_runs_and_learns():
    rng = np.random.default_rng(3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", netcompiler.NetWarning)  # random weights
        net = netcompiler.compile(zoo.resnet.deploy(50), device="cpu")
        images = rng.standard_normal((1, 3, 224, 224)).astype(np.float32)
        prob = net(images)["prob"]
        assert tuple(prob.shape) == (1, 1000) and abs(float(prob.sum()) - 1) < 1e-4

        train = netcompiler.compile(zoo.resnet.train_val(50, classes=7, train_batch=2), phase="TRAIN", device="cpu")
    pair = rng.standard_normal((2, 3, 224, 224)).astype(np.float32)
    train.loss(train(data=pair, label=np.array([1, 5], np.float32))).backward()
    learned = [p for p in train.parameters() if p.requires_grad]
    assert sum(p.numel() for p in learned) == FIGURES[50][0] - 2049 * (1000 - 7)
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in learned)
