"""Python layers: permission, where the code is found, and running it, forward and backward."""

import copy
import pickle
import sys

import numpy as np
import pytest
import torch

import netcompiler
from netcompiler import NetError, PythonLayer
from netcompiler.layers.pycaffe import Blob
from netcompiler.layers.python import allow_python

INPUTS = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 5 dim: 3 } } }
layer { name: "y" type: "Input" top: "y" input_param { shape { dim: 5 dim: 3 } } }
"""
EUCLIDEAN = """
import caffe
import numpy as np

class Euclidean(caffe.Layer):
    def setup(self, bottom, top):
        if len(bottom) != 2:
            raise Exception("two inputs are needed")

    def reshape(self, bottom, top):
        self.diff = np.zeros_like(bottom[0].data, dtype=np.float32)
        top[0].reshape(1)

    def forward(self, bottom, top):
        self.diff[...] = bottom[0].data - bottom[1].data
        top[0].data[...] = np.sum(self.diff ** 2) / bottom[0].num / 2.

    def backward(self, top, propagate_down, bottom):
        for i in range(2):
            if not propagate_down[i]:
                continue
            sign = 1 if i == 0 else -1
            bottom[i].diff[...] = sign * self.diff * top[0].diff / bottom[i].num
"""
POWER = """
from caffe import Layer, TEST

class Power(Layer):
    def setup(self, bottom, top):
        self.power = int(self.param_str)
        assert self.phase == TEST

    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].shape)

    def forward(self, bottom, top):
        self.x = bottom[0].data.copy()
        top[0].data[...] = bottom[0].data ** self.power

    def backward(self, top, propagate_down, bottom):
        bottom[0].diff[...] = self.power * self.x ** (self.power - 1) * top[0].diff
"""
FACTOR = """
import numpy as np
from netcompiler import PythonLayer

class Factor(PythonLayer):
    def setup(self, bottom, top):
        self.blobs.add_blob(3)
        self.blobs.add_blob(1)
        self.blobs[0].data[...] = [2, 3, 5]

    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].shape)

    def forward(self, bottom, top):
        top[0].data[...] = bottom[0].data * self.blobs[0].data + self.blobs[1].data

    def backward(self, top, propagate_down, bottom):
        bottom[0].diff[...] = top[0].diff * self.blobs[0].data
        self.blobs[0].diff[...] += (top[0].diff * bottom[0].data).sum(0)
        self.blobs[1].diff[...] += top[0].diff.sum()
"""
COUNTER = """
import caffe

class Counter(caffe.Layer):
    def setup(self, bottom, top):
        self.calls = 0
        top[0].reshape(2, 3)
        top[1].reshape(2)

    def reshape(self, bottom, top):
        pass

    def forward(self, bottom, top):
        self.calls += 1
        top[0].data[...] = self.calls
        top[1].data[...] = [7, 8]

    def backward(self, top, propagate_down, bottom):
        pass
"""


@pytest.fixture
def modules(tmp_path, monkeypatch):
    """Write a module to a folder that is the working directory; all that a test imports is forgotten again."""
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)

    def write(name, text, folder=tmp_path):
        path = folder / f"{name.replace('.', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    yield write
    for name in set(sys.modules) - before:
        module = sys.modules[name]
        if str(tmp_path) in str(getattr(module, "__file__", "")):
            del sys.modules[name]


def layer(module, name, bottoms="x", tops="z", param_str="", more=""):
    names = "".join(f' bottom: "{b}"' for b in bottoms) + "".join(f' top: "{t}"' for t in tops)
    param = f'param_str: "{param_str}"' if param_str else ""
    return f'layer {{ name: "it" type: "Python"{names} python_param {{ module: "{module}" layer: "{name}" {param} }} {more} }}'


def compiled(text, **options):
    options = {"device": "cpu", "optimize": False, "allow_python": True, **options}
    return netcompiler.compile(netcompiler.parse(INPUTS + text), **options)


def refused(text, **options):
    with pytest.raises(NetError) as caught:
        netcompiler.build(netcompiler.parse(INPUTS + text), **{"allow_python": True, **options})
    return str(caught.value)


def test_nothing_runs_unless_it_is_allowed(modules, tmp_path):
    modules("eager_a", f"open({str(tmp_path / 'ran')!r}, 'w')\n{EUCLIDEAN}")
    text = layer("eager_a", "Euclidean", "xy")
    message = refused(text, allow_python=False)
    assert "a Python layer runs code named by the net" in message
    assert "allow it with allow_python=True (--allow-python)" in message
    assert "Euclidean of the module eager_a" in message
    assert not (tmp_path / "ran").exists()
    assert "eager_a" not in sys.modules
    with allow_python():
        netcompiler.build(netcompiler.parse(INPUTS + text))
    assert (tmp_path / "ran").exists()
    with allow_python(), allow_python(False):  # which changes nothing
        netcompiler.build(netcompiler.parse(INPUTS + text))
    assert "runs code" in refused(text, allow_python=False)  # nor does what came before allow it


def test_a_loss_written_for_pycaffe(modules):
    modules("loss_a", EUCLIDEAN)
    net = compiled(layer("loss_a", "Euclidean", "xy", more="loss_weight: 0.5"))
    assert "caffe" not in sys.modules
    rng = np.random.default_rng(0)
    x, y = (torch.tensor(rng.standard_normal((5, 3)), dtype=torch.float32, requires_grad=True) for _ in "xy")
    outputs = net(x, y)
    assert outputs["z"].shape == (1,)
    assert outputs["z"].item() == pytest.approx(((x - y) ** 2).sum().item() / 10, rel=1e-5)
    net.loss(outputs).backward()
    torch.testing.assert_close(x.grad, (x - y).detach() / 10)
    torch.testing.assert_close(y.grad, (y - x).detach() / 10)
    assert net(torch.zeros(2, 3), torch.ones(2, 3))["z"].item() == 1.5  # another batch


def test_a_bottom_without_gradient_is_told_by_propagate_down(modules):
    modules(
        "told_a",
        EUCLIDEAN.replace("for i in range(2):", "self.told = list(propagate_down)\n        for i in range(2):"),
    )
    net = compiled(layer("told_a", "Euclidean", "xy"))
    net(torch.ones(5, 3, requires_grad=True), torch.zeros(5, 3))["z"].sum().backward()
    assert net.graph.nodes[-1].layer.instance.object.told == [True, False]


def test_param_str_phase_and_types(modules):
    modules("power_a", POWER)
    net = compiled(layer("power_a", "Power", param_str="3"), dtype="float64")
    x = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    assert net.graph.nodes[-1].layer.settings() == {"module": "power_a", "layer": "Power", "param_str": "3"}
    assert torch.autograd.gradcheck(lambda x: net(x, x.detach())["z"], [x])
    half = compiled(layer("power_a", "Power", param_str="2"), dtype="bfloat16")
    assert torch.equal(
        half(torch.full((5, 3), 3.0), torch.zeros(5, 3))["z"], torch.full((5, 3), 9, dtype=torch.bfloat16)
    )
    message = refused(layer("power_a", "Power", param_str="two"))
    assert "Power.setup failed: ValueError: invalid literal for int()" in message
    assert "self.power = int(self.param_str)" in message
    with pytest.raises(NetError, match=r"Power\.setup failed: AssertionError"):
        compiled(layer("power_a", "Power", param_str="2"), phase="TRAIN")


def test_in_place(modules):
    modules("power_b", POWER)
    text = layer("power_b", "Power", "x", "x", "2")
    net = compiled(
        text + 'layer { name: "p" type: "Power" bottom: "x" top: "z" power_param { scale: 3 } }', outputs=["z"]
    )
    x = torch.tensor([[1.0, 2, -3]] * 5, requires_grad=True)
    kept = x.detach().clone()
    z = net(x)["z"]
    z.sum().backward()
    assert torch.equal(x.detach(), kept)
    torch.testing.assert_close(z.detach(), 3 * kept**2)
    torch.testing.assert_close(x.grad, 6 * kept)


def test_in_place_bottom_and_top_are_one_blob(modules):
    modules(
        "double_a",
        """
import caffe

class Double(caffe.Layer):
    def setup(self, bottom, top): pass
    def reshape(self, bottom, top): pass
    def forward(self, bottom, top): top[0].data[...] *= 2
    def backward(self, top, propagate_down, bottom): bottom[0].diff[...] *= 2
""",
    )
    net = compiled(layer("double_a", "Double", "x", "x"), outputs=["x"])
    x = torch.randn(5, 3, requires_grad=True)
    y = net(x)["x"]
    torch.testing.assert_close(y, 2 * x)
    (3 * y).sum().backward()
    assert (x.grad == 6).all()


def test_learned_blobs(modules):
    modules("factor_a", FACTOR)
    net = compiled(layer("factor_a", "Factor"), dtype="float64")
    params = net.caffe_params()["it"]
    assert [p.tolist() for p in params] == [[2, 3, 5], [0]]
    x = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    names = dict(net.named_parameters())
    assert list(names) == ["it.blob0", "it.blob1"]
    assert torch.autograd.gradcheck(lambda x, *_: net(x, x.detach())["z"], [x, *names.values()])
    net.load_caffe_params({"it": [np.array([1.0, 10, 100]), np.array([0.5])]})
    torch.testing.assert_close(net(x, x)["z"], x * torch.tensor([1.0, 10, 100], dtype=torch.float64) + 0.5)
    again = compiled(layer("factor_a", "Factor"), weights=net.caffe_params())
    assert again.caffe_params()["it"][0].tolist() == [1, 10, 100]
    assert compiled(layer("factor_a", "Factor")).caffe_params()["it"][0].tolist() == [2, 3, 5]


def test_a_layer_without_bottoms_is_an_input_that_fills_itself(modules):
    modules("counter_a", COUNTER)
    net = netcompiler.compile(
        netcompiler.parse(layer("counter_a", "Counter", "", ("d", "l"))),
        device="cpu",
        allow_python=True,
        dtype="float64",
    )
    assert [(v.blob, v.shape) for v in net.graph.inputs()] == [("d", (2, 3)), ("l", (2,))]
    assert net()["d"].tolist() == [[1] * 3] * 2
    assert net()["d"].tolist() == [[2] * 3] * 2
    fed = net(d=torch.zeros(4, 3), l=torch.zeros(4))
    assert fed["d"].shape == (4, 3)
    outputs = net(l=torch.zeros(5))
    assert outputs["d"].tolist() == [[3] * 3] * 2  # the call that was fed did not run it
    assert outputs["l"].tolist() == [0] * 5
    assert outputs["d"].dtype == torch.float64


def test_a_top_whose_shape_the_data_decide(modules):
    modules(
        "positive_a",
        """
import caffe

class Positive(caffe.Layer):
    def setup(self, bottom, top):
        top[0].reshape(1, 3)

    def reshape(self, bottom, top):
        pass

    def forward(self, bottom, top):
        rows = bottom[0].data[bottom[0].data[:, 0] > 0]
        top[0].reshape(*rows.shape)
        top[0].data[...] = rows
""",
    )
    net = compiled(layer("positive_a", "Positive") + 'layer { name: "r" type: "ReLU" bottom: "z" top: "r" }')
    assert net.graph.last("r").shape == (1, 3)
    x = torch.randn(5, 3)
    x[:, 0] = torch.tensor([1.0, -1, 1, 1, -1])
    assert torch.equal(net(x, x)["r"], x[[0, 2, 3]].relu())
    net.graph.check()
    x.requires_grad_()
    with pytest.raises(NetError, match="Positive.backward failed: NotImplementedError: the class has no backward"):
        net(x, x)["r"].sum().backward()


def test_a_layer_without_tops_runs(modules):
    modules(
        "sink_a",
        """
import caffe

class Sink(caffe.Layer):
    seen = []
    def reshape(self, bottom, top): pass
    def forward(self, bottom, top):
        self.seen.append(bottom[0].data.sum())
""",
    )
    net = compiled(layer("sink_a", "Sink", tops=""))
    net(torch.ones(5, 3), torch.zeros(5, 3))
    assert sys.modules["sink_a"].Sink.seen == [15]


def test_code_is_looked_for_beside_the_prototxt_first(modules, tmp_path):
    beside = tmp_path / "nets"
    modules("package_a.power", POWER, beside)
    modules("package_a.__init__", "", beside)
    net = beside / "net.prototxt"
    net.write_text(INPUTS + layer("package_a.power", "Power", param_str="2"))
    path = list(sys.path)
    graph = netcompiler.build(netcompiler.load(net), allow_python=True)
    assert graph.nodes[-1].layer.instance.file == str(beside / "package_a" / "power.py")
    assert sys.path == path
    assert 'the Python module "package_a.powr" cannot be imported' in refused(layer("package_a.powr", "Power"))


def test_another_module_of_the_name_does_not_run_in_its_place(modules, tmp_path):
    modules("twice_a", POWER)
    refused(layer("twice_a", "Nothing"))
    other = tmp_path / "other"
    modules("twice_a", POWER, other)
    (other / "net.prototxt").write_text(INPUTS + layer("twice_a", "Power", param_str="2"))
    with pytest.raises(NetError, match='another module "twice_a" is loaded already'):
        netcompiler.build(netcompiler.load(other / "net.prototxt"), allow_python=True)


def test_a_real_pycaffe_is_left_in_place(modules):
    modules("caffe", "class Layer:\n    def __init__(self, a, b):\n        raise RuntimeError('only Caffe can')")
    modules("power_c", POWER.replace("Layer, TEST", "Layer").replace("TEST", "1"))
    net = compiled(layer("power_c", "Power", param_str="2"))
    assert net(torch.full((5, 3), 3.0), torch.zeros(5, 3))["z"].unique().tolist() == [9]
    assert sys.modules["caffe"].Layer is not PythonLayer


def test_a_mere_folder_called_caffe_is_no_pycaffe(modules, tmp_path):
    (tmp_path / "caffe" / "src").mkdir(parents=True)
    modules("power_d", POWER)
    compiled(layer("power_d", "Power", param_str="2"))
    assert "caffe" not in sys.modules


FAULTS = {
    "no module": ("", "X", "", "module is missing"),
    "no class": ("faults_a", "", "", "layer is missing"),
    "not found": ("nowhere_a", "X", "", 'the Python module "nowhere_a" cannot be imported: ModuleNotFoundError'),
    "syntax": ("faults_b", "X", "print 'two'", "cannot be imported: SyntaxError"),
    "near": ("faults_c", "Cunter", COUNTER, 'did you mean "Counter"?'),
    "a function": ("faults_d", "made", "def made(): pass", "made is no layer class"),
    "no base": ("faults_e", "X", "class X: pass", "X is no layer class"),
    "more of caffe": ("faults_f", "X", "import caffe.io", "cannot be imported: ModuleNotFoundError"),
    "init": ("faults_g", "X", "import caffe\nclass X(caffe.Layer):\n  def __init__(self): pass", "X.__init__ failed"),
    "two bottoms": ("faults_h", "Euclidean", EUCLIDEAN, "two inputs are needed"),
    "reshape": (
        "faults_i",
        "X",
        "import caffe\nclass X(caffe.Layer):\n  def reshape(self, bottom, top): top[0].reshape(-1)",
        "a blob cannot have the shape (-1,)",
    ),
}


@pytest.mark.parametrize(("module", "name", "text", "error"), FAULTS.values(), ids=FAULTS)
def test_faults_are_told(modules, module, name, text, error):
    if text:
        modules(module, text)
    message = refused(layer(module, name))
    assert error in message
    assert "<text>:" in message
    assert 'layer "it" (Python)' in message
    assert "caffe" not in sys.modules


def test_a_fault_in_forward_names_the_layer_and_the_line(modules):
    modules("late_a", POWER.replace("** self.power\n", "** self.powr\n"))
    net = compiled(layer("late_a", "Power", param_str="2"))
    with pytest.raises(NetError) as caught:
        net(torch.ones(5, 3), torch.ones(5, 3))
    message = str(caught.value)
    assert "<text>:4:" in message
    assert 'layer "it" (Python): Power.forward failed: AttributeError' in message
    assert "late_a.py:14: top[0].data[...] = bottom[0].data ** self.powr" in message
    assert isinstance(caught.value.__cause__, AttributeError)


def test_it_is_not_traced(modules):
    modules("power_e", POWER)
    net = compiled(layer("power_e", "Power", param_str="2"))
    with pytest.raises(NetError, match="cannot be traced"):
        torch.export.export(net, (torch.ones(5, 3), torch.ones(5, 3)), strict=False)


def test_copies_and_pickles_have_their_own_object(modules):
    modules("counter_b", COUNTER)
    msg = netcompiler.parse(layer("counter_b", "Counter", "", ("d", "l")))
    net = netcompiler.compile(msg, device="cpu", allow_python=True)
    net()
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert twin()["d"][0, 0] == 2
    assert net()["d"][0, 0] == 2


def test_the_layer_reads_back_from_print(modules):
    modules("power_f", POWER)
    msg = netcompiler.parse(INPUTS + layer("power_f", "Power", param_str="2", more="phase: TEST"))
    layers = [netcompiler.build(m, allow_python=True).nodes[-1].layer for m in (msg, netcompiler.parse(str(msg)))]
    assert layers[0] == layers[1]
    assert hash(layers[0]) == hash(layers[1])


def test_blob():
    blob = Blob((2, 3))
    blob.data[...] = [[1, 2, 3], [4, 5, 6]]
    blob.reshape(2, 2)
    assert blob.data.tolist() == [[1, 2], [3, 4]]
    blob.reshape(1, 5)
    assert blob.data.tolist() == [[1, 2, 3, 4, 5]]
    assert (blob.num, blob.channels, blob.height, blob.width, blob.count) == (1, 5, 1, 1, 5)
    assert (blob.shape, blob.diff.shape, blob.data.dtype) == ((1, 5), (1, 5), np.float32)
    blob.reshape(2, 1, 1, 1, 7)
    assert blob.data.shape == (2, 1, 1, 1, 7)
    with pytest.raises(ValueError, match="use shape"):
        _ = blob.num
    assert repr(blob) == "<Blob 2 x 1 x 1 x 1 x 7>"
    assert Blob().data.shape == ()


def test_the_base_class_by_itself():
    made = PythonLayer()
    assert (made.param_str, made.phase, made.blobs) == ("", 1, [])
    with pytest.raises(NotImplementedError, match="no forward"):
        made.forward([], [])
