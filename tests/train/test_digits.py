"""Something real: a LeNet on scikit-learn's digits, from an LMDB that our own tool made, to above 98 % on held-out ones."""

import time

import numpy as np
import pytest

from netcompiler.data.convert import Options, convert
from netcompiler.train.solver import Solver

pytest.importorskip("lmdb")
datasets = pytest.importorskip("sklearn.datasets")
Image = pytest.importorskip("PIL.Image")

NET = """
name: "LeNet"
layer { name: "digits" type: "Data" top: "data" top: "label" include { phase: TRAIN }
  data_param { source: "train_lmdb" backend: LMDB batch_size: 64 } transform_param { scale: 0.00390625 } }
layer { name: "digits" type: "Data" top: "data" top: "label" include { phase: TEST }
  data_param { source: "test_lmdb" backend: LMDB batch_size: 72 } transform_param { scale: 0.00390625 } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1" param { lr_mult: 1 } param { lr_mult: 2 }
  convolution_param { num_output: 20 kernel_size: 3 pad: 1 weight_filler { type: "xavier" } } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1" pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
layer { name: "conv2" type: "Convolution" bottom: "pool1" top: "conv2" param { lr_mult: 1 } param { lr_mult: 2 }
  convolution_param { num_output: 50 kernel_size: 3 pad: 1 weight_filler { type: "xavier" } } }
layer { name: "relu2" type: "ReLU" bottom: "conv2" top: "conv2" }
layer { name: "pool2" type: "Pooling" bottom: "conv2" top: "pool2" pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
layer { name: "ip1" type: "InnerProduct" bottom: "pool2" top: "ip1" param { lr_mult: 1 } param { lr_mult: 2 }
  inner_product_param { num_output: 200 weight_filler { type: "xavier" } } }
layer { name: "relu3" type: "ReLU" bottom: "ip1" top: "ip1" }
layer { name: "drop" type: "Dropout" bottom: "ip1" top: "ip1" }
layer { name: "ip2" type: "InnerProduct" bottom: "ip1" top: "ip2" param { lr_mult: 1 } param { lr_mult: 2 }
  inner_product_param { num_output: 10 weight_filler { type: "xavier" } } }
layer { name: "accuracy" type: "Accuracy" bottom: "ip2" bottom: "label" top: "accuracy" include { phase: TEST } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip2" bottom: "label" top: "loss" }
"""
SOLVER = """
net: "lenet.prototxt" test_iter: 5 test_interval: 200 base_lr: 0.05 momentum: 0.9 weight_decay: 0.0005
lr_policy: "inv" gamma: 0.001 power: 0.75 display: 100 max_iter: 600 snapshot: 300 snapshot_prefix: "lenet"
random_seed: 1 average_loss: 20 solver_mode: CPU
"""


def make_set(folder, name, images, labels):
    """Pictures as PNG files, and then an LMDB of them."""
    (folder / name).mkdir()
    lines = []
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        Image.fromarray(np.uint8(np.minimum(image * 16, 255))).save(folder / name / f"{i:04d}.png")
        lines.append(f"{i:04d}.png {label}\n")
    (folder / f"{name}.txt").write_text("".join(lines))
    options = Options(color=False)
    count, faults, _ = convert(f"{name}.txt", f"{name}_lmdb", options, root=f"{name}/", workers=0)
    assert count == len(lines) and not faults


@pytest.mark.slow
def test_digits(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    digits = datasets.load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    images, labels = digits.images[order], digits.target[order]
    make_set(tmp_path, "train", images[360:], labels[360:])
    make_set(tmp_path, "test", images[:360], labels[:360])
    (tmp_path / "lenet.prototxt").write_text(NET)
    (tmp_path / "solver.prototxt").write_text(SOLVER)
    events, start = [], time.monotonic()
    with Solver("solver.prototxt") as solver:
        solver.solve(events.append)
    seconds = time.monotonic() - start
    tests = [e["outputs"] for e in events if e["kind"] == "test"]
    losses = [e["loss"] for e in events if e["kind"] == "display"]
    assert [e["iter"] for e in events if e["kind"] == "test"] == [0, 200, 400, 600]
    assert tests[0]["accuracy"] < 0.4 and tests[-1]["accuracy"] > 0.98, tests
    assert losses[-1] < losses[0] / 20
    assert seconds < 120
    assert (tmp_path / "lenet_iter_600.caffemodel").exists() and (tmp_path / "lenet_iter_300.solverstate").exists()
