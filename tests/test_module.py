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


INTERP = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 3 dim: 5 dim: 7 } } }
layer { name: "i" type: "Interp" bottom: "x" top: "i" interp_param { zoom_factor: 2 } }
layer { name: "c" type: "Convolution" bottom: "i" top: "c" convolution_param { num_output: 5 kernel_size: 3 } }
"""


def test_the_only_bottom_is_no_label():
    """Interp's second bottom takes no gradient, and what it alone reads stays as it is fed. But its first one does."""
    net = compiled(INTERP, dtype="bfloat16")
    assert not net.is_label(net.graph.inputs()[0])
    assert net(feeds()[0])["c"].dtype == torch.bfloat16


WRONG_FEEDS = [
    ("missing", lambda net, x: net(x), 'input "other" is missing'),
    ("unknown", lambda net, x: net(x, y=x), 'the net has no input "y"'),
    ("twice", lambda net, x: net(x, x=x), 'input "x" is given twice'),
    ("too many", lambda net, x: net(x, x, x), "too many inputs"),
    ("wrong channels", lambda net, x: net(x[:, :2], x), "does not fit"),
    ("too small", lambda net, x: net(x[:, :, :2], x), "the kernel is larger than the padded image"),
    ("too few axes", lambda net, x: net(x[0], x), "too few axes"),
    ("nothing", lambda net, x: net(x, None), 'input "other" is no array of numbers'),
    ("words", lambda net, x: net(x, np.array(["a"])), "no array of numbers"),
    ("ragged", lambda net, x: net([[1], [2, 3]], x), 'input "x" is no array of numbers'),
]


@pytest.mark.parametrize(("call", "message"), [w[1:] for w in WRONG_FEEDS], ids=[w[0] for w in WRONG_FEEDS])
def test_wrong_feeds(call, message):
    with pytest.raises(NetError) as caught:
        call(compiled(), feeds()[0])
    assert message in str(caught.value)


VIEWS = [
    ("reversed channels", lambda x: x[:, ::-1], lambda x: x[:, ::-1]),
    ("read only", lambda x: np.frombuffer(x.tobytes(), np.float32).reshape(x.shape), lambda x: x),
    ("big endian", lambda x: x.astype(">f4"), lambda x: x),
    ("doubles", lambda x: x.astype(np.float64), lambda x: x),
    ("lists", lambda x: x.tolist(), lambda x: x),
    ("axes moved", lambda x: np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2), lambda x: x),
]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("view", "same"), [v[1:] for v in VIEWS], ids=[v[0] for v in VIEWS])
def test_any_array_feeds(view, same):
    net, (x, other) = compiled(), feeds()
    want = net(np.ascontiguousarray(same(x)), other)["a"]
    assert torch.equal(net(view(x), other)["a"], want)


def test_input_shapes_may_change():
    net, (x, other) = compiled(), feeds()
    assert net(np.repeat(x, 2, 0), other[:, :, :4])["a"].shape == (4, 5, 3, 5)


@pytest.mark.parametrize("layer", ["ArgMax", "HingeLoss", "MultinomialLogisticLoss", "ContrastiveLoss", "Reduction"])
def test_an_empty_batch_runs(layer):
    count = {"ArgMax": 1, "Reduction": 1, "ContrastiveLoss": 3}.get(layer, 2)
    shapes = "shape { dim: 2 dim: 3 } " * (2 if count == 3 else 1) + "shape { dim: 2 } " * (count > 1)
    names = [f'"x{i}"' for i in range(count)]
    mean = "reduction_param { operation: MEAN }" if layer == "Reduction" else ""
    net = compiled(
        f"""layer {{ type: "Input" {" ".join(f"top: {n}" for n in names)} input_param {{ {shapes} }} }}
        layer {{ type: "{layer}" {" ".join(f"bottom: {n}" for n in names)} top: "y" {mean} }}"""
    )
    (y,) = net(*(np.zeros((0, *v.shape[1:])) for v in net.graph.inputs())).values()
    assert y.shape[:1] == (0,) or torch.isnan(y)


def test_outputs_choose_blobs_and_drop_the_rest():
    net = compiled(outputs=["a"])
    assert [n.name for n in net.graph.nodes] == ["in", "conv/a", "relu"]
    full = compiled()(*feeds())
    assert torch.equal(net(*feeds())["a"], full["a"])
    assert list(compiled(outputs="a")(*feeds())) == ["a"]
    for wrong in (["aa"], "aa", [3]):
        with pytest.raises(NetError, match="the net has no blob"):
            compiled(outputs=wrong)


@pytest.mark.filterwarnings("error")
def test_weights_of_layers_left_out_are_not_unknown():
    compiled(weights=compiled().caffe_params(), outputs=["a"])


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


OWN_NAMES = sorted(set(vars(compiled())) | {"forward", "code", "_run", "caffe_params", "self", "class", ""})


@pytest.mark.parametrize("name", OWN_NAMES)
def test_a_layer_may_have_the_name_of_anything(name):
    net = compiled(NET.replace('"conv/a"', f'"{name}"'))
    assert net(*feeds())["a"].shape == (2, 5, 3, 5)
    assert net.caffe_params().keys() == {name, "conv/b"}


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


def test_params_of_unknown_layers_are_told_of():
    net = compiled()
    with pytest.warns(netcompiler.NetWarning, match="layers that the net does not have: conv/c"):
        net.load_caffe_params({"conv/c": [np.zeros(5)]})


def test_layers_of_one_name_keep_their_own_weights():
    text = NET.replace('"conv/b"', '"conv/a"').replace(
        '"other" top: "b"\n        convolution_param { num_output: 5',
        '"other" top: "b"\n        convolution_param { num_output: 7',
    )
    with pytest.warns(netcompiler.NetWarning, match="several layers have the same name"):
        net = compiled(text)
    graph = net.with_weights().check()
    assert [n.blobs[0].shape[0] for n in graph.nodes if n.blobs] == [5, 7]
    again = netcompiler.compile(graph, device="cpu", optimize=False)
    assert all(torch.equal(a, b) for a, b in zip(net(*feeds()).values(), again(*feeds()).values()))


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
    assert np.all(grads["p"][1] == 2 * 3 * 7)  # as in Caffe, p with its lr_mult 0 adds none, and r does
    assert np.array_equal(grads["r"][1], grads["p"][1])
    net.p.weight.data.zero_()
    twin = copy.deepcopy(net)
    assert torch.all(twin(feeds()[0])["q"] == 0)


def test_a_shared_param_takes_no_gradient_from_a_layer_with_lr_mult_0():
    for first, second in (("", " lr_mult: 0"), (" lr_mult: 0", ""), (" lr_mult: 0", " lr_mult: 0")):
        text = SHARED.replace('{ name: "v" }', f'{{ name: "v"{second} }}', 1).replace(
            '"v" lr_mult: 0', f'"v"{first}', 1
        )
        net = compiled(text)
        for twin in (net, copy.deepcopy(net).double()):
            twin.zero_grad()
            sum(t.sum() for t in twin(feeds()[0]).values()).backward()
            assert all(g[1][0] == (42 if first != second else 0) for k, g in twin.caffe_grads().items() if k != "q")
        assert net.state_dict().keys() == compiled(SHARED).state_dict().keys()


def test_shared_params_of_one_layer():
    text = SHARED.split('layer { name: "p"')[0].replace("dim: 3", "dim: 1")
    text += """layer { name: "c" type: "Convolution" bottom: "x" top: "c" param { name: "w" }
               param { name: "w" share_mode: PERMISSIVE } convolution_param { num_output: 5 kernel_size: 1
               weight_filler { type: "gaussian" } } }"""
    net = compiled(text)
    assert [name for name, _ in net.named_parameters()] == ["c.weight"]
    assert torch.equal(net.c.bias, net.c.weight.flatten())
    net(feeds()[0][:, :1])["c"].sum().backward()
    weight, bias = net.caffe_grads()["c"]
    assert np.array_equal(weight.ravel(), bias) and bias.any()


def test_shared_statistics_stay_one_when_the_net_moves():
    norm = """layer {{ name: "{0}" type: "BatchNorm" bottom: "x" top: "{0}" param {{ name: "m" }} param {{ name: "v" }}
              param {{ name: "f" }} }}"""
    text = SHARED.split('layer { name: "p"')[0] + norm.format("a") + norm.format("b")
    net = compiled(text, phase="TRAIN").double()
    net(feeds()[0])
    a, b = net.caffe_params().values()
    assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True)) and abs(a[2] - 1.999) < 1e-6
    twin = compiled(text, phase="TRAIN").double()
    twin.load_state_dict(net.state_dict())
    assert all(np.array_equal(x, y) for x, y in zip(a, twin.caffe_params()["b"], strict=True))


@pytest.mark.parametrize("optimize", [False, True])
def test_loading_a_shared_array_from_one_of_its_layers(optimize):
    net = compiled(SHARED, optimize=optimize)
    given = [np.full((5, 3, 3, 1), 7.0), np.ones(5)]
    for name in ("p", "r"):
        given[0] += 1
        net.load_caffe_params({name: given})
        assert all(np.all(arrays[0] == given[0][0, 0, 0, 0]) for arrays in net.caffe_params().values()), name


def test_propagate_down_stops_the_gradient():
    text = NET.replace('name: "relu"', 'name: "relu" propagate_down: false')
    x, other = (torch.from_numpy(a).requires_grad_() for a in feeds())
    net = compiled(text)
    outputs = net(x, other)
    (net.loss(outputs) + outputs["a"].sum()).backward()
    assert x.grad is None and other.grad is not None


def test_force_backward_overrides_propagate_down_and_lr_mult_0():
    text = """layer { name: "in" type: "Input" top: "x" top: "t" input_param { shape { dim: 3 dim: 2 } shape { dim: 3 } } }
    layer { name: "a" type: "InnerProduct" bottom: "x" top: "a" param { lr_mult: 0 } propagate_down: false
            inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }
    layer { name: "l" type: "SoftmaxWithLoss" bottom: "a" bottom: "t" top: "l" propagate_down: true propagate_down: false }
    """
    for forced in (False, True):
        net = compiled(f"force_backward: {str(forced).lower()} {text}", phase="TRAIN")
        x = torch.from_numpy(np.random.default_rng(3).standard_normal((3, 2)).astype(np.float32)).requires_grad_()
        net.loss(net(x, np.arange(3.0))).backward()
        weight, bias = net.caffe_grads()["a"]
        assert weight.any() == forced and (x.grad is not None) == forced and bias.any()


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
    ("whole numbers", {"dtype": torch.int32}, "unknown dtype"),
    ("no device", {"device": object()}, "cannot be used"),
    ("meta", {"device": "meta"}, "device meta cannot be used"),
    ("seed", {"seed": -1}, "a seed cannot be negative"),
    ("weights", {"weights": 3}, "no weights to read"),
    ("a list of weights", {"weights": [3]}, "no weights to read"),
    ("inputs", {"inputs": {"x": 5}}, 'the shape given for "x" is not usable'),
    ("fractions", {"inputs": {"x": (1.5, 3, 5, 7)}}, 'the shape given for "x" is not usable'),
    ("a string", {"inputs": {"x": "2,3,5,7"}}, 'the shape given for "x" is not usable'),
]


@pytest.mark.parametrize(("options", "message"), [w[1:] for w in WRONG_OPTIONS], ids=[w[0] for w in WRONG_OPTIONS])
def test_wrong_options(options, message):
    with pytest.raises(NetError, match=message):
        compiled(**options)


def test_what_is_no_net():
    for source in (None, 3, {}, netcompiler.parse(NET).layer[0], NetError("x")):
        with pytest.raises(NetError, match="no net to build"):
            netcompiler.compile(source)


@pytest.mark.parametrize("options", [{"phase": "TRAIN"}, {"level": 1}, {"stages": ["a"]}, {"inputs": {"x": (1,)}}])
def test_a_graph_is_built_already(options):
    graph = netcompiler.build(netcompiler.parse(NET))
    assert netcompiler.compile(graph, device="cpu").graph.phase == "TEST"
    with pytest.raises(NetError, match="built already"):
        netcompiler.compile(graph, device="cpu", **options)
    train = netcompiler.build(netcompiler.parse(NET), "TRAIN")
    assert netcompiler.compile(train, phase="TRAIN", device="cpu").graph.phase == "TRAIN"


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
