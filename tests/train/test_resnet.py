"""A ResNet-20 as for CIFAR, trained for some dozens of iterations from an LMDB that our own tool made: its loss falls."""

import numpy as np
import pytest

from netcompiler import NetSpec
from netcompiler.data.convert import Options, convert
from netcompiler.train.solver import Solver

pytest.importorskip("lmdb")
datasets = pytest.importorskip("sklearn.datasets")
Image = pytest.importorskip("PIL.Image")

BATCH, SIDE, STAGES, BLOCKS = 16, 32, (16, 32, 64), 3
SOLVER = """
net: "resnet20.prototxt" base_lr: 0.05 momentum: 0.9 weight_decay: 0.0001 lr_policy: "multistep" gamma: 0.1 stepvalue: 36
test_iter: 4 test_interval: 44 test_initialization: false
display: 1 max_iter: 44 snapshot_prefix: "resnet20" random_seed: 1 solver_mode: CPU
"""


def unit(net, x, name, channels, stride=1, kernel=3):
    """Convolution, BatchNorm and Scale."""
    conv = net.Convolution(
        x, name=name, num_output=channels, kernel_size=kernel, pad=kernel // 2, stride=stride, bias_term=False,
        weight_filler={"type": "msra"},
    )  # fmt: skip
    normed = net.BatchNorm(conv, name=f"{name}_bn", moving_average_fraction=0.8, in_place=True)  # few iterations
    return net.Scale(normed, name=f"{name}_scale", bias_term=True, in_place=True)


def resnet20():
    """Source: He et al., CVPR 2016, section 4.2: 6 n + 2 = 20 weighted layers; projections where the shape changes."""
    net = NetSpec("ResNet-20")
    for phase in ("TRAIN", "TEST"):
        data, label = net.Data(
            name="data", top=("data", "label"), include={"phase": phase},
            transform_param={"scale": 1 / 128, "mean_value": [64, 64, 64], "crop_size": SIDE, "mirror": False},
            data_param={"source": f"{phase.lower()}_lmdb", "batch_size": BATCH, "backend": "LMDB"},
        )  # fmt: skip
    x = net.ReLU(unit(net, data, "conv1", STAGES[0]), name="relu1", in_place=True)
    for stage, channels in enumerate(STAGES, 2):
        for block in range(BLOCKS):
            name, stride = f"res{stage}{'abc'[block]}", 2 if stage > 2 and not block else 1
            way = unit(net, x, f"{name}_shortcut", channels, stride, kernel=1) if stride > 1 else x
            y = net.ReLU(unit(net, x, f"{name}_1", channels, stride), name=f"{name}_relu1", in_place=True)
            y = net.Eltwise(way, unit(net, y, f"{name}_2", channels), name=name)
            x = net.ReLU(y, name=f"{name}_relu", in_place=True)
    x = net.Pooling(x, name="pool", pool="AVE", global_pooling=True)
    scores = net.InnerProduct(x, name="fc10", num_output=10, weight_filler={"type": "msra"})
    net.SoftmaxWithLoss(scores, label, name="loss")
    net.Accuracy(scores, label, name="accuracy", include={"phase": "TEST"})
    return net.message()


def make_set(folder, name, images, labels):
    """Digits of 8 x 8 as colour pictures of 32 x 32, in PNG files and then in an LMDB."""
    (folder / name).mkdir()
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        grey = Image.fromarray(np.uint8(np.minimum(image * 16, 255)))
        grey.convert("RGB").save(folder / name / f"{i:04d}.png")
        with open(folder / f"{name}.txt", "a") as file:
            file.write(f"{i:04d}.png {label}\n")
    count, faults, _ = convert(f"{name}.txt", f"{name}_lmdb", Options(size=(SIDE, SIDE)), root=f"{name}/", workers=0)
    assert count == len(images) and not faults


@pytest.mark.slow
def test_loss_falls(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    digits = datasets.load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))[:600]
    make_set(tmp_path, "train", digits.images[order[:500]], digits.target[order[:500]])
    make_set(tmp_path, "test", digits.images[order[500:]], digits.target[order[500:]])
    (tmp_path / "resnet20.prototxt").write_text(str(resnet20()))
    (tmp_path / "solver.prototxt").write_text(SOLVER)
    events = []
    with Solver("solver.prototxt") as solver:
        assert sum(n.layer.kind in ("Convolution", "InnerProduct") for n in solver.net.graph.nodes) == 20 + 2
        solver.solve(events.append)
    losses = [e["loss"] for e in events if e["kind"] == "display"]
    assert len(losses) == 45 and losses[0] > 1.5
    assert np.mean(losses[-6:]) < 0.6 * np.mean(losses[:6]), losses
    (score,) = (e["outputs"]["accuracy"] for e in events if e["kind"] == "test")
    assert score > 0.2, score  # of ten classes
