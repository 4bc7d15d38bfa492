"""Other engines and ONNX give the net's own numbers; what cannot be is refused in words."""

import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch

import netcompiler
from netcompiler import cli
from netcompiler.engines import _NEEDS, ENGINES, Engine, available, onnx
from netcompiler.errors import NetError

NET = """name: "small"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 12 dim: 12 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
        convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "conv" }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool" pooling_param { pool: MAX kernel_size: 3 stride: 2 } }
layer { name: "lrn" type: "LRN" bottom: "pool" top: "lrn" }
layer { name: "fc" type: "InnerProduct" bottom: "lrn" top: "fc"
        inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }
"""


@pytest.fixture(scope="module")
def net():
    return netcompiler.compile(netcompiler.parse(NET), device="cpu", optimize=False)


@pytest.fixture(scope="module")
def feeds():
    return {"data": torch.from_numpy(np.random.default_rng(0).standard_normal((2, 3, 12, 12)).astype(np.float32))}


@pytest.mark.parametrize("name", ENGINES)
def test_every_engine_gives_the_same(name, net, feeds):
    if name in ("openvino", "onnxruntime", "tensorrt") and not available(name):
        pytest.skip(f"{name} is not installed")
    if name == "inductor" and not available_compiler():
        pytest.skip("torch.compile needs a C++ compiler")
    found = Engine(net, name)(**feeds)
    assert list(found) == ["prob"]
    torch.testing.assert_close(found["prob"], net(**feeds)["prob"].detach(), rtol=1e-4, atol=1e-5)


def available_compiler():
    import shutil

    return shutil.which("g++") or shutil.which("c++")


def test_onnx(net, feeds):
    pytest.importorskip("onnx")
    from onnx import checker, load_from_string
    from onnx.reference import ReferenceEvaluator

    model = load_from_string(onnx(net))
    checker.check_model(model)
    assert [i.name for i in model.graph.input] == ["data"] and [o.name for o in model.graph.output] == ["prob"]
    (got,) = ReferenceEvaluator(model).run(None, {"data": feeds["data"].numpy()})
    np.testing.assert_allclose(got, net(**feeds)["prob"].detach().numpy(), rtol=1e-4, atol=1e-5)


def test_an_engine_is_for_one_shape(net):
    with pytest.raises(NetError, match='built for another shape of "data"') as e:
        Engine(net, "eager")(data=torch.zeros(1, 3, 12, 12))
    assert e.value.expected == "2 x 3 x 12 x 12"


def test_unknown_and_missing_engines(net, monkeypatch):
    with pytest.raises(NetError, match="unknown engine"):
        Engine(net, "caffe")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert available("torch") and not available("openvino")
    with pytest.raises(NetError, match="not installed") as e:
        Engine(net, "openvino")
    assert "pip install 'netcompiler[openvino]'" in e.value.hint
    with pytest.raises(NetError, match="needs a library"):
        onnx(net)


def test_the_command_offers_all_of_them():
    """It lists them itself, since torch must not be loaded for --help."""
    assert tuple(ENGINES) == cli.ENGINES


def test_openvino_has_no_float64(net):
    with pytest.raises(NetError, match="does not run this type") as e:
        ENGINES["openvino"](netcompiler.compile(netcompiler.parse(NET), device="cpu", optimize=False, dtype="float64"))
    assert e.value.expected == "float32, bfloat16, float16" and e.value.got == "float64"


def test_pip_knows_what_engines_need():
    extras = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    for name, modules in _NEEDS.items():
        if modules:
            wanted = {re.split(r"[\[>=<]", w)[0] for extra in (name, "onnx") for w in extras[extra]}
            assert wanted.issuperset(modules), name


def test_a_fault_in_an_engine_is_told(net, monkeypatch):
    def broken(net):
        raise RuntimeError("no such operator\nand a long story")

    monkeypatch.setitem(ENGINES, "eager", broken)
    with pytest.raises(NetError, match="cannot take this net") as e:
        Engine(net, "eager")
    assert e.value.got == "RuntimeError: no such operator"
