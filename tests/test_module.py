"""The running module: feeding it, its outputs, its parameters, and what PyTorch's users expect of a module."""

import copy
import pickle

import numpy as np
import pytest
import torch

import netcompiler
from netcompiler.errors import NetError

NET = """
name: "small"
layer { name: "in" type: "Input" top: "x" top: "other" input_param { shape { dim: 2 dim: 3 dim: 5 dim: 7 } } }
layer { name: "conv/a" type: "Convolution" bottom: "x" top: "a"
        convolution_param { num_output: 5 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "conv/b" type: "Convolution" bottom: "other" top: "b"
        convolution_param { num_output: 5 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "relu" type: "ReLU" bottom: "a" top: "a" }
layer { name: "lambda" type: "ReLU" bottom: "b" top: "c" relu_param { negative_slope: 0.1 } loss_weight: 2 }
"""
SHARED = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 dim: 5 dim: 7 } } }
layer { name: "p" type: "Convolution" bottom: "x" top: "p" param { name: "w" } param { name: "v" lr_mult: 0 }
        convolution_param { num_output: 5 kernel_h: 3 kernel_w: 1 weight_filler { type: "gaussian" } } }
layer { name: "q" type: "Convolution" bottom: "x" top: "q" param { name: "w" share_mode: PERMISSIVE }
        convolution_param { num_output: 5 kernel_h: 1 kernel_w: 3 bias_term: false } }
layer { name: "r" type: "Convolution" bottom: "x" top: "r" param { name: "w" } param { name: "v" }
        convolution_param { num_output: 5 kernel_h: 3 kernel_w: 1 } }
"""


def compiled(text=NET, **options):
    options = {"device": "cpu", "optimize": False, **options}
    return netcompiler.compile(netcompiler.parse(text), **options)


def feeds(seed=0):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((2, 3, 5, 7)).astype(np.float32) for _ in range(2)]


def test_feeding_by_place_and_by_name():
    net, (x, other) = compiled(), feeds()
    by_place = net(x, torch.from_numpy(other))
    by_name = net(other=other, x=x)
    assert list(by_place) == ["a", "c"]
    assert all(torch.equal(by_place[k], by_name[k]) for k in by_place)


WRONG_FEEDS = [
    ("missing", lambda net, x: net(x), 'input "other" is missing'),
    ("unknown", lambda net, x: net(x, y=x), 'the net has no input "y"'),
    ("twice", lambda net, x: net(x, x=x), 'input "x" is given twice'),
    ("too many", lambda net, x: net(x, x, x), "too many inputs"),
    ("wrong channels", lambda net, x: net(x[:, :2], x), "does not fit"),
    ("too small", lambda net, x: net(x[:, :, :2], x), "the kernel is larger than the padded image"),
    ("too few axes", lambda net, x: net(x[0], x), "too few axes"),
]


@pytest.mark.parametrize(("call", "message"), [w[1:] for w in WRONG_FEEDS], ids=[w[0] for w in WRONG_FEEDS])
def test_wrong_feeds(call, message):
    with pytest.raises(NetError) as caught:
        call(compiled(), feeds()[0])
    assert message in str(caught.value)


def test_input_shapes_may_change():
    net, (x, other) = compiled(), feeds()
    assert net(np.repeat(x, 2, 0), other[:, :, :4])["a"].shape == (4, 5, 3, 5)


def test_outputs_choose_blobs_and_drop_the_rest():
    net = compiled(outputs=["a"])
    assert [n.name for n in net.graph.nodes] == ["in", "conv/a", "relu"]
    full = compiled()(*feeds())
    assert torch.equal(net(*feeds())["a"], full["a"])
    with pytest.raises(NetError, match='no blob "aa"'):
        compiled(outputs=["aa"])


def test_loss_is_weighted_tops():
    net = compiled()
    outputs = net(*feeds())
    assert torch.isclose(net.loss(outputs), 2 * outputs["c"].sum())
    with pytest.raises(NetError, match="the net has no loss"):
        compiled(outputs=["a"]).loss(outputs)


def test_names_are_attributes():
    net = compiled()
    assert [name for name, _ in net.named_parameters()] == [
        "conv_a.weight",
        "conv_a.bias",
        "conv_b.weight",
        "conv_b.bias",
    ]
    assert "def forward(self, x, other):" in net.code
    assert "a = self.relu(a)" in net.code and "c = self._lambda(b)" in net.code


def test_names_cannot_escape_into_code():
    evil = "x'); import os\n#"
    text = NET.replace('"conv/a"', f'"{evil}"'.replace("\n", "\\n")).replace('"a"', '"self"')
    net = compiled(text)
    assert "import os" not in net.code
    assert net(*feeds())["self"].shape == (2, 5, 3, 5)


def test_caffe_params_round_trip():
    net, other = compiled(seed=1), compiled(seed=2)
    params = net.caffe_params()
    assert {k: [a.shape for a in v] for k, v in params.items()} == {
        k: [(5, 3, 3, 3), (5,)] for k in ("conv/a", "conv/b")
    }
    assert not np.array_equal(params["conv/a"][0], other.caffe_params()["conv/a"][0])
    other.load_caffe_params(params)
    assert all(torch.equal(a, b) for a, b in zip(net(*feeds()).values(), other(*feeds()).values()))
    with pytest.raises(NetError, match="another shape for weight"):
        other.load_caffe_params({"conv/a": [np.zeros((5, 3, 2, 2)), np.zeros(5)]})


def test_random_weights_come_from_the_seed():
    assert np.array_equal(compiled(seed=3).caffe_params()["conv/a"][0], compiled(seed=3).caffe_params()["conv/a"][0])


@pytest.mark.parametrize(
    "twin",
    [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))],
    ids=["deepcopy", "pickle"],
)
def test_copies_run(twin):
    net = compiled()
    assert all(torch.equal(a, b) for a, b in zip(net(*feeds()).values(), twin(net)(*feeds()).values()))


def test_state_dict_round_trip():
    net, other = compiled(seed=1), compiled(seed=2)
    other.load_state_dict(net.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(net(*feeds()).values(), other(*feeds()).values()))


def test_export():
    net = compiled()
    inputs = tuple(map(torch.from_numpy, feeds()))
    program = torch.export.export(net, inputs)
    ours, theirs = net(*inputs), program.module()(*inputs)
    assert all(torch.allclose(ours[k], theirs[k], atol=1e-6) for k in ours)


def test_shared_params_are_one_array():
    net = compiled(SHARED)
    assert net.r.weight is net.p.weight
    assert {name for name, _ in net.named_parameters()} == {"p.weight", "p.bias"}
    outputs = net(feeds()[0])
    sum(t.sum() for t in outputs.values()).backward()
    grads = net.caffe_grads()
    alone = compiled(SHARED, outputs=["p"])
    alone(feeds()[0])["p"].sum().backward()
    assert np.allclose(grads["p"][0], grads["r"][0])
    assert np.allclose(grads["p"][0].ravel(), grads["q"][0].ravel())
    assert not np.allclose(grads["p"][0], alone.caffe_grads()["p"][0])  # three layers' gradients, not one's
    assert np.all(grads["p"][1] == 0)  # lr_mult 0: no gradient is computed
    net.p.weight.data.zero_()
    twin = copy.deepcopy(net)
    assert torch.all(twin(feeds()[0])["q"] == 0)


def test_propagate_down_stops_the_gradient():
    text = NET.replace('name: "relu"', 'name: "relu" propagate_down: false')
    x, other = (torch.from_numpy(a).requires_grad_() for a in feeds())
    net = compiled(text)
    outputs = net(x, other)
    (net.loss(outputs) + outputs["a"].sum()).backward()
    assert x.grad is None and other.grad is not None


@pytest.mark.parametrize("dtype", ["float64", "bfloat16", "float16"])
def test_dtype(dtype):
    net = compiled(dtype=dtype)
    want = compiled()(*feeds())["a"]
    got = net(*feeds())["a"]
    assert str(got.dtype) == f"torch.{dtype}"
    assert torch.allclose(got.float(), want, atol=0.1)


WRONG_OPTIONS = [
    ("dtype", {"dtype": "float8"}, "unknown dtype"),
    ("device", {"device": "quantum"}, "device quantum cannot be used"),
    ("phase", {"phase": "train"}, "unknown phase"),
]


@pytest.mark.parametrize(("options", "message"), [w[1:] for w in WRONG_OPTIONS], ids=[w[0] for w in WRONG_OPTIONS])
def test_wrong_options(options, message):
    with pytest.raises(NetError, match=message):
        compiled(**options)


def test_a_terabyte_is_refused_at_once():
    layer = """layer { name: "c%d" type: "Convolution" bottom: "x" top: "c%d"
               convolution_param { num_output: 200000000 kernel_size: 1 } }"""
    text = """layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 10 dim: 1 dim: 1 } } }"""
    text += "".join(layer % (i, i) for i in range(300))
    with pytest.raises(NetError, match="does not fit into memory"):
        compiled(text)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_gives_the_same_numbers():
    want, got = compiled()(*feeds()), compiled(device="cuda")(*feeds())
    assert got["a"].device.type == "cuda"
    torch.testing.assert_close(got["a"].cpu(), want["a"], rtol=1e-3, atol=1e-3)
