"""Whole nets against real Caffe: every blob, sampled, with and without optimisation."""

from pathlib import Path

import numpy as np
import pytest
import torch

import netcompiler
from netcompiler.kernels import program

from . import recipe

HERE = Path(__file__).parent
ZOO = HERE.parent / "model_zoo"
TOLERANCE = 1e-4  # of the blob's largest value


def sampled(array, count):
    flat = array.ravel()
    return flat[[(k * 7919) % flat.size for k in range(count)]]


@pytest.fixture(autouse=True)
def _any_program_will_do(monkeypatch):
    """On a busy machine a program may seem slower than its layers."""
    monkeypatch.setattr(program, "MARGIN", 1e9)


def compare(name, optimize, device="cpu"):
    golden = np.load(HERE / "golden" / "nets" / f"{name}.npz")
    graph = netcompiler.build(netcompiler.load(ZOO / f"{name}-deploy.prototxt"))
    blobs = [f.split(".")[1] for f in golden.files if f.endswith(".at") and f.startswith("blob.")]
    # All blobs would hinder the optimiser: ask for those it can keep, and for all when it is off.
    outputs = ["res2c", "res3b3" if name != "ResNet-50" else "res3d", "pool5", "fc1000", "prob"] if optimize else blobs
    net = netcompiler.compile(graph, recipe.weights(graph), outputs=outputs, optimize=optimize, device=device)
    with torch.inference_mode():
        for _ in range(2 if optimize else 1):  # the second time as one program
            results = net(recipe.image_batch((1, 3, 224, 224)))
    assert not optimize or device != "cpu" or not net._programs.able or net.one_program
    assert len(blobs) > 70
    for blob in outputs:
        got, want = results[blob].float().cpu().numpy(), golden[f"blob.{blob}.at"]
        assert got.shape == tuple(golden[f"blob.{blob}.shape"])
        largest = golden[f"blob.{blob}.stat"][2]
        assert np.abs(sampled(got, len(want)) - want).max() <= TOLERANCE * largest, blob
    np.testing.assert_allclose(results["prob"].float().cpu().numpy().ravel(), golden["full.prob"].ravel(), atol=1e-4)


@pytest.mark.parametrize("optimize", [False, True], ids=["plain", "optimised"])
@pytest.mark.parametrize("name", ["ResNet-50", "ResNet-101", "ResNet-152"])
def test_resnet(name, optimize):
    compare(name, optimize)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("optimize", [False, True], ids=["plain", "optimised"])
@pytest.mark.parametrize("name", ["ResNet-50", "ResNet-101", "ResNet-152"])
def test_resnet_on_cuda(name, optimize):
    compare(name, optimize, "cuda")
