"""Nets written in Python: the messages that calls make, and the calls that are refused."""

import copy
import inspect

import numpy as np
import pytest

import netcompiler
from netcompiler import NetError, NetSpec, schema
from netcompiler.fields import message
from netcompiler.spec import TYPES, settings_field


def fault(call, *arguments, **keywords):
    with pytest.raises(NetError) as caught:
        call(*arguments, **keywords)
    return caught.value


@pytest.fixture
def net():
    return NetSpec("n")


@pytest.fixture
def x(net):
    return net.Input(name="x", shape={"dim": [2, 3, 5, 7]})


def same(net, text):
    """The spec's message is that of the prototxt."""
    assert net.message() == netcompiler.parse(text), str(net)
    assert netcompiler.parse(str(net)) == net.message()


def test_every_way_of_writing(net, x):
    a = net.Convolution(
        x,
        name="a",
        num_output=11,
        kernel_size=[3, 1],
        pad=1,
        bias_term=False,
        weight_filler={"type": "gaussian", "std": 0.01},
        param=[{"name": "w", "lr_mult": 1}, {"lr_mult": 2, "decay_mult": 0}],
        engine="CAFFE",
        group=None,
    )
    a = net.ReLU(a, name="r", in_place=True, negative_slope=0.1)
    one, two = net.Slice(a, name="s", top=2, slice_param={"axis": 1, "slice_point": [4]})
    net.Concat(one, two, top="c", exclude=[{"stage": "small"}, {"phase": "TEST", "min_level": 1}])
    net.Silence(net["c"], loss_weight=[], propagate_down=np.bool_(True))
    same(
        net,
        """
        name: "n"
        layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 dim: 5 dim: 7 } } }
        layer { name: "a" type: "Convolution" bottom: "x" top: "a" param { name: "w" lr_mult: 1 }
          param { lr_mult: 2 decay_mult: 0 } convolution_param { num_output: 11 kernel_size: 3 kernel_size: 1 pad: 1
          bias_term: false weight_filler { type: "gaussian" std: 0.01 } engine: CAFFE } }
        layer { name: "r" type: "ReLU" bottom: "a" top: "a" relu_param { negative_slope: 0.1 } }
        layer { name: "s" type: "Slice" bottom: "a" top: "s_1" top: "s_2" slice_param { axis: 1 slice_point: 4 } }
        layer { name: "concat1" type: "Concat" bottom: "s_1" bottom: "s_2" top: "c" exclude { stage: "small" }
          exclude { phase: TEST min_level: 1 } }
        layer { name: "silence1" type: "Silence" bottom: "c" propagate_down: true }
        """,
    )


def test_what_a_call_returns(net, x):
    assert net.ReLU(x) == net["relu1"]
    assert net.ReLU(x, top="t").blob == "t"
    assert net.Slice(x, top=["u"]) == (net["u"],)
    assert net.Silence(x) == () == net.Silence(x, top=0)
    assert [t.blob for t in net.Slice(x, top=(n for n in "vw"))] == ["v", "w"]


def test_automatic_names(net):
    net.Input(name="relu2", shape={"dim": 1})
    for _ in range(3):
        net.ReLU(net["relu2"])
    assert [m.name for m in net.message().layer] == ["relu2", "relu1", "relu3", "relu4"]


def test_fields_of_the_net():
    spec = NetSpec("n", force_backward=True, state={"phase": "TRAIN", "stage": ["a", "b"]})
    same(spec, 'name: "n" force_backward: true state { phase: TRAIN stage: "a" stage: "b" }')
    assert str(NetSpec()) == ""
    assert 'no field "layer"' in fault(NetSpec, layer=[]).what
    assert "force_backward" in fault(NetSpec, forcebackward=True).hint


def test_messages_as_values(net, x):
    filler = message("FillerParameter", type="xavier")
    net.InnerProduct(x, num_output=3, weight_filler=filler, bias_filler=filler.raw)
    param = net.message().layer[1].inner_product_param
    assert param.weight_filler.type == param.bias_filler.type == "xavier"
    assert "FillerParameter" in fault(net.InnerProduct, x, weight_filler=message("ParamSpec")).expected


def test_empty_message_is_set(net, x):
    net.ReLU(x, name="r", relu_param={})
    assert net.message().layer[1].has("relu_param")
    net.ReLU(x, name="s", negative_slope=None)
    assert not net.message().layer[2].has("relu_param")


def test_types():
    """Every message of settings is reached by some type, but for those that several share or forks keep to themselves."""
    every = schema.LayerParameter.DESCRIPTOR.fields
    all_fields = {f.name for f in every if f.name.endswith("_param") and f.number < 60_000}
    reached = {settings_field(kind) for kind in TYPES} - {None}
    assert all_fields - reached == {
        "transform_param",
        "loss_param",
        "trt_param",
        "mn_grad_compress_param",
        "mn_activation_param",
        "quantization_param",
        "detectnet_groundtruth_param",
        "detectnet_augmentation_param",
    }
    reserved = set(inspect.signature(NetSpec.layer).parameters) - {"fields", "kind", "bottoms"}
    for field in reached:
        assert not reserved & set(schema.LayerParameter.DESCRIPTOR.fields_by_name[field].message_type.fields_by_name)


@pytest.mark.parametrize("kind", sorted(TYPES))
def test_each_type_is_a_method(net, x, kind):
    tops = getattr(net, kind)(x, name="it")
    assert net.message().layer[1].type == kind
    assert tops == (() if kind in ("Silence", "HDF5Output") else net["it"])
    assert kind in dir(net)


def test_type_of_a_users_own(net, x):
    @netcompiler.layer("OnlyInThisTest")
    class Own(netcompiler.Layer):
        """Nothing."""

    try:
        assert net.OnlyInThisTest(x, name="own").blob == "own"
    finally:
        del netcompiler.layers.registry["OnlyInThisTest"]
    assert net.layer("Anything", x, top="any", power_param={"power": 2}).blob == "any"
    assert net.message().layer[2].power_param.power == 2


@pytest.mark.parametrize(
    ("kind", "fields", "what", "hint"),
    [
        ("Convolution", {"kernal_size": 3}, 'Convolution has no field "kernal_size"', "kernel_size"),
        ("Convolution", {"weight_filler": {"tpye": "msra"}}, 'FillerParameter has no field "tpye"', '"type"'),
        ("Convolution", {"convolution_prm": {}}, "convolution_prm", '"convolution_param"'),
        ("Pooling", {"includ": {}}, "includ", '"include"'),
        ("AbsVal", {"num_output": 3}, 'AbsVal has no field "num_output"', None),
        ("SoftmaxWithLoss", {"ignore_label": 255}, "ignore_label", 'loss_param={"ignore_label": ...}'),
        ("Data", {"mean_value": 3}, "mean_value", 'transform_param={"mean_value": ...}'),
        ("Pooling", {"pool": "MAXX"}, "pool has no such value", '"MAX"'),
        ("Pooling", {"pool": 77}, "pool has no such value", None),
        ("Pooling", {"pool": True}, "pool has no such value", None),
        ("Pooling", {"kernel_size": 3, "pooling_param": {"stride": 2}}, "pooling_param is given", "one way"),
        ("ReLU", {"type": "TanH"}, "type is not given by keyword", "method's name"),
        ("ReLU", {"bottom": "x"}, "bottom is not given by keyword", "come first"),
        ("ReLU", {"in_place": True, "top": "y"}, "writes over its first bottom", None),
        ("ReLU", {"top": "x", "name": "y", "include": 3}, "does not fit include", None),
        ("Slice", {"top": ["a", "a"]}, 'top "a" is named twice', None),
        ("Slice", {"top": -1}, "top does not fit", None),
        ("Slice", {"top": ["a", 3]}, "top does not fit", None),
        ("Slice", {"top": ""}, "top does not fit", None),
        ("ReLU", {"name": 3}, "does not fit name", None),
        ("ReLU", {"name": "x"}, "the layer's name is taken", "rules"),
        ("ReLU", {"name": "y", "top": ["z", "x"]}, 'top "x" is made by two layers', "rules"),
    ],
)
def test_refused(net, x, kind, fields, what, hint):
    before = str(net)
    e = fault(getattr(net, kind), x, **fields)
    assert what in e.what
    assert hint is None or hint in e.hint, str(e)
    assert str(net) == before
    assert e.at.file == __file__
    assert e.layer is None or kind in e.layer


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        ("SolverParameter", "max_iter", 1.0),
        ("SolverParameter", "max_iter", "1"),
        ("SolverParameter", "max_iter", True),
        ("SolverParameter", "max_iter", 2**31),
        ("SolverParameter", "max_iter", [1, 2]),
        ("SolverParameter", "random_seed", 2**63),
        ("SolverParameter", "base_lr", "0.1"),
        ("SolverParameter", "base_lr", True),
        ("SolverParameter", "base_lr", 1e39),
        ("SolverParameter", "base_lr", 10**400),
        ("SolverParameter", "debug_info", 1),
        ("SolverParameter", "net", b"x"),
        ("SolverParameter", "net", "\ud800"),
        ("SolverParameter", "net", 3),
        ("SolverParameter", "stepvalue", [1, "2"]),
        ("SolverParameter", "net_param", "x"),
        ("SolverParameter", "net_param", [{}]),
        ("ConvolutionParameter", "num_output", -1),
        ("BlobProto", "double_data", 10**400),
        ("BlobProto", "double_data", "1"),
        ("Datum", "data", "text"),
    ],
)
def test_value_that_does_not_fit(kind, field, value):
    e = fault(message, kind, **{field: value})
    assert field in e.what
    assert e.got == repr(value) or e.got == repr("2")
    assert e.at.file == __file__


def test_values_that_fit():
    solver = message(
        "SolverParameter",
        max_iter=np.int64(3),
        base_lr=np.float32(0.1),
        gamma=2,
        momentum=float("inf"),
        stepvalue=np.array([1, 2]),
        test_iter=(i for i in (4, 5)),
        debug_info=np.bool_(True),
        solver_mode=0,
        test_state={"stage": "a"},
        net=None,
    )
    assert str(solver) == (
        "test_iter: 4\ntest_iter: 5\nbase_lr: 0.1\nmax_iter: 3\ngamma: 2\nmomentum: inf\nsolver_mode: CPU\n"
        'debug_info: true\ntest_state {\n  stage: "a"\n}\nstepvalue: 1\nstepvalue: 2\n'
    )
    assert message("Datum", data=b"\0").data == b"\0"


def test_all_unknown_fields_together(net, x):
    assert len(fault(net.Convolution, x, kernal_size=3, strid=1, num_outputs=1).all) == 3
    assert len(fault(message, "SolverParameter", lr=3, momentun=1).all) == 2
    assert "no message" in fault(message, "Solver").what


def test_unknown_type(net):
    e = fault(lambda: net.Convolutoin)
    assert e.hint == 'did you mean "Convolution"?'
    assert e.at.file == __file__
    assert 'net.layer("Zzz", ...)' in fault(lambda: net.Zzz).hint
    assert "type" in fault(net.layer, 3).what
    with pytest.raises(AttributeError):
        _ = net._nothing
    assert str(copy.deepcopy(net)) == str(net)


def test_bottoms(net, x):
    assert "unpack" in fault(net.ReLU, (x, x)).hint
    assert "a top that a layer call returned" in fault(net.ReLU, "x").expected
    other = NetSpec()
    assert "another net" in fault(other.ReLU, x).what
    assert "writes over its first bottom" in fault(net.ReLU, in_place=True).what
    assert fault(lambda: net["y"]).what == 'no layer has made a blob "y"'
    net.ReLU(x, name="score")
    assert '"score"' in fault(lambda: net["scores"]).hint


def test_stale_top(net, x):
    y = net.ReLU(x, name="r", in_place=True)
    e = fault(net.Sigmoid, x)
    assert 'bottom "x" is stale: layer "r" (ReLU) has written over it in place' in e.what
    z = net.Sigmoid(y, top="x")  # in place by name
    assert "Sigmoid" in fault(net.Sigmoid, y).what
    assert net["x"] == z != y


def test_rules_tell_layers_apart(net):
    for phase in ("TRAIN", "TEST"):
        x, label = net.Data(name="data", top=("x", "label"), include={"phase": phase})
    net.Softmax(x, label, name="s", include={"phase": "TEST"})
    assert "name is taken" in fault(net.Softmax, x, name="s", include={"phase": "TEST"}).what
    assert "name is taken" in fault(net.Softmax, x, name="s").what
    assert "two layers" in fault(net.Data, name="d", top="x", include={"phase": "TRAIN"}).what
    net.Softmax(x, name="s", exclude={"phase": "TEST"})
    x = net.BatchNorm(x, name="bn", in_place=True, include={"phase": "TRAIN"})
    x = net.BatchNorm(x, name="bn", in_place=True, include={"phase": "TEST"})
    assert x.version == 2


def test_fault_in_build_points_at_python(net, x):
    net.Convolution(x, name="c", num_output=3, kernel_size=99); line = inspect.currentframe().f_lineno  # noqa: E702  # fmt: skip
    e = fault(netcompiler.build, net.message())
    assert (e.at.file, e.at.line) == (__file__, line)
    assert "net.Convolution(x" in str(e)


def test_message_is_a_copy(net, x):
    held = net.message()
    net.ReLU(x)
    held.raw.name = "other"
    assert len(held.layer) == 1
    assert str(net).startswith('name: "n"')
    assert repr(net) == '<NetSpec "n": 2 layers>'


def test_it_builds_and_runs(net, x):
    y = net.Convolution(x, name="c", num_output=2, kernel_size=1, bias_term=False)
    net.ReLU(y, in_place=True)
    graph = netcompiler.build(net.message())
    assert str(graph.nodes[-1]) == "c' = ReLU(c)  # relu1: 2 x 2 x 5 x 7"
    run = netcompiler.compile(net.message(), device="cpu")
    assert tuple(run(np.zeros((2, 3, 5, 7), np.float32))["c"].shape) == (2, 2, 5, 7)
