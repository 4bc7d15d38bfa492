"""Gradient checkpointing: the same trajectory bit for bit, with less memory in between."""

import weakref

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import netcompiler
from netcompiler import NetError, NetSpec
from netcompiler.train.checkpoint import Checkpointed, cuts
from netcompiler.train.fuse import fuse
from netcompiler.train.solver import Solver
from netcompiler.upgrade import parse_solver

HEAD = """
layer { name: "in" type: "Input" top: "x" top: "label"
  input_param { shape { dim: 4 dim: 3 dim: 12 dim: 12 } shape { dim: 4 } } }
"""


def conv(name, bottom, top, outputs=8):
    return (
        f'layer {{ name: "{name}" type: "Convolution" bottom: "{bottom}" top: "{top}" convolution_param {{'
        f' num_output: {outputs} kernel_size: 3 pad: 1 weight_filler {{ type: "msra" }} }} }}\n'
    )


def norm(blob):
    return (
        f'layer {{ name: "bn_{blob}" type: "BatchNorm" bottom: "{blob}" top: "{blob}" }}\n'
        f'layer {{ name: "scale_{blob}" type: "Scale" bottom: "{blob}" top: "{blob}" scale_param {{ bias_term: true }} }}\n'
    )


def relu(blob):
    return f'layer {{ name: "relu_{blob}" type: "ReLU" bottom: "{blob}" top: "{blob}" }}\n'


def tail(bottom):
    return (
        f'layer {{ name: "fc" type: "InnerProduct" bottom: "{bottom}" top: "fc" inner_product_param {{ num_output: 3'
        ' weight_filler { type: "xavier" } } }\n'
        'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }\n'
    )


def residual(blocks):
    """Blocks with a convolution on either way, so that sums write over what they add."""
    text, at = conv("c0", "x", "b0") + norm("b0") + relu("b0"), "b0"
    for i in range(1, blocks + 1):
        text += conv(f"s{i}", at, f"s{i}") + norm(f"s{i}") + conv(f"c{i}", at, f"c{i}") + norm(f"c{i}")
        text += f'layer {{ name: "b{i}" type: "Eltwise" bottom: "s{i}" bottom: "c{i}" top: "b{i}" }}\n' + relu(f"b{i}")
        at = f"b{i}"
    return text + tail(at)


DROP = 'layer {{ name: "drop{0}" type: "Dropout" bottom: "{0}" top: "{0}" }}\n'
STOCHASTIC = """layer { name: "pool" type: "Pooling" bottom: "c1" top: "pool" pooling_param { pool: STOCHASTIC
  kernel_size: 2 stride: 2 } }\n"""
NOISE = """layer { name: "noise" type: "DummyData" top: "noise" dummy_data_param { data_filler { type: "gaussian" }
  shape { dim: 4 dim: 8 dim: 12 dim: 12 } } }
layer { name: "times" type: "Eltwise" bottom: "c1" bottom: "noise" top: "c2" eltwise_param { operation: PROD } }\n"""
AUX = """layer { name: "aux" type: "InnerProduct" bottom: "c1" top: "aux" inner_product_param { num_output: 3
  weight_filler { type: "xavier" } } }
layer { name: "loss1" type: "SoftmaxWithLoss" bottom: "aux" bottom: "label" top: "loss1" loss_weight: 0.3 }\n"""
NETS = {
    "residual": residual(4),
    "dropout": conv("c1", "x", "c1") + DROP.format("c1") + conv("c2", "c1", "c2") + DROP.format("c2") + tail("c2"),
    "stochastic pooling": conv("c1", "x", "c1") + STOCHASTIC + conv("c2", "pool", "c2") + norm("c2") + tail("c2"),
    "noise": conv("c1", "x", "c1") + NOISE + conv("c3", "c2", "c3") + relu("c3") + tail("c3"),
    "a loss on the way": conv("c1", "x", "c1") + AUX + conv("c2", "c1", "c2") + norm("c2") + relu("c2") + tail("c2"),
    "shared weights": conv("c1", "x", "c1")
    + conv("c2", "c1", "c2").replace("convolution_param", 'param { name: "w" } convolution_param')
    + conv("c3", "c2", "c3").replace("convolution_param", 'param { name: "w" } convolution_param')
    + tail("c3"),
    "a gradient stopped": conv("c1", "x", "c1")
    + conv("c2", "c1", "c2").replace('top: "c2"', 'top: "c2" propagate_down: false')
    + tail("c2"),
    "a state from batch to batch": """
layer { name: "steps" type: "Reshape" bottom: "x" top: "steps" reshape_param { shape { dim: 4 dim: 1 dim: -1 } } }
layer { name: "flags" type: "DummyData" top: "cont" dummy_data_param { shape { dim: 4 dim: 1 }
  data_filler { type: "constant" value: 1 } } }
layer { name: "f0" type: "InnerProduct" bottom: "steps" top: "f0" inner_product_param { num_output: 9 axis: 2
  weight_filler { type: "xavier" } } }
layer { name: "lstm" type: "LSTM" bottom: "f0" bottom: "cont" top: "h" recurrent_param { num_output: 6
  weight_filler { type: "xavier" } } }
layer { name: "f1" type: "InnerProduct" bottom: "h" top: "f1" inner_product_param { num_output: 9 axis: 2
  weight_filler { type: "xavier" } } }
"""
    + relu("f1")
    + 'layer { name: "flat" type: "Reshape" bottom: "f1" top: "flat" reshape_param { shape { dim: 4 dim: 9 } } }\n'
    + tail("flat"),
    "nothing but the loss": tail("x"),
}


class Batches:
    """Random batches by position."""

    shapes = {"x": (4, 3, 12, 12), "label": (4,)}

    def __init__(self):
        self.position = 0

    def next(self):
        draw = np.random.default_rng(self.position)
        self.position += 1
        return {
            "x": draw.normal(size=self.shapes["x"]).astype(np.float32),
            "label": draw.integers(0, 3, 4) * np.float32(1),
        }

    def state(self):
        return {"position": self.position}

    def close(self):
        pass


def solver(net, **given):
    text = f"base_lr: 0.05 momentum: 0.9 lr_policy: 'fixed' random_seed: 5 iter_size: 2 net_param {{ {HEAD} {net} }}"
    return Solver(parse_solver(text), feeds=Batches(), device="cpu", **given)


@pytest.mark.parametrize("count", [0, 1, 3, 1000])
@pytest.mark.parametrize("net", NETS)
def test_same_trajectory(net, count):
    """Losses, weights, statistics and the random numbers of later, bit for bit."""
    whole, parts = solver(NETS[net]), solver(NETS[net], checkpoint=count)
    for _ in range(3):
        assert whole.step() == parts.step()
    for name, blobs in whole.net.caffe_params().items():
        for a, b in zip(blobs, parts.net.caffe_params()[name], strict=True):
            np.testing.assert_array_equal(a, b, err_msg=name)
    assert whole._random.state() == parts._random.state()


def test_segments_are_run_again():
    """A test of the test above: with several segments, inner layers run twice, the last ones once."""
    s = solver(NETS["residual"], checkpoint=3)
    runs = dict.fromkeys(("c0", "c2", "fc"), 0)
    for name in runs:

        def count(*_, name=name):
            runs[name] += 1

        getattr(s.net, name).register_forward_hook(count)
    s.step()
    assert runs == {"c0": 4, "c2": 4, "fc": 2}  # of iter_size 2


class Peak(TorchDispatchMode):
    """The most bytes of tensors that live at one time, of those made while it is entered."""

    def __init__(self):
        super().__init__()
        self.now = self.most = 0
        self.known = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for x in torch.utils._pytree.tree_leaves(out):
            if isinstance(x, torch.Tensor):
                storage = x.untyped_storage()
                if storage._cdata not in self.known:
                    self.known.add(storage._cdata)
                    self.now += storage.nbytes()
                    weakref.finalize(storage, self.gone, storage._cdata, storage.nbytes())
        self.most = max(self.most, self.now)
        return out

    def gone(self, key, size):
        self.known.discard(key)
        self.now -= size


def peak(run, net, batch):
    with Peak() as mode:
        net.loss(run(**batch)).backward()
    return mode.most


@pytest.mark.parametrize("fused", [False, True])
def test_less_memory(fused):
    """Activations of a deep net: with the square root of its layers, well below half."""
    text = HEAD.replace("dim: 12 dim: 12", "dim: 48 dim: 48") + residual(12)
    taken = {}
    for count in (None, 0):
        net = netcompiler.compile(netcompiler.parse(text), phase="TRAIN", optimize=False, device="cpu", seed=1)
        pairs = fuse(net) if fused else []
        run = net if count is None else Checkpointed(net, count, pairs)
        batch = {"x": torch.ones(4, 3, 48, 48), "label": torch.zeros(4)}
        taken[count] = peak(run, net, batch)
    assert taken[0] < 0.45 * taken[None], taken


def test_cuts_go_where_least_is_kept():
    """A chain of blobs of 100 and 1 values in turn is cut behind the small ones; what belongs together is left whole."""
    spec = NetSpec("chain")
    x = spec.Input(name="in", top="x", shape={"dim": [1, 100]})
    for i in range(12):
        x = spec.InnerProduct(x, name=f"f{i}", num_output=1 if i % 2 else 100, weight_filler={"type": "xavier"})
    graph = netcompiler.build(spec.message())
    places = cuts(graph, 3)
    assert places[0] == 0 and len(places) == 3 and all(graph.nodes[p - 1].top_shapes == ((1, 1),) for p in places[1:])
    moved = cuts(graph, 3, [(places[1] - 1, places[1])])
    assert places[1] not in moved and len(moved) == 3
    assert cuts(graph, 1) == [0] and cuts(graph, 3, [(0, 12)]) == [0]


def test_what_acts_is_not_run_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "counting.py").write_text(
        "import caffe\nseen = []\nclass Count(caffe.Layer):\n"
        "    def setup(self, bottom, top): pass\n"
        "    def reshape(self, bottom, top): top[0].reshape(*bottom[0].data.shape)\n"
        "    def forward(self, bottom, top):\n        seen.append(1)\n        top[0].data[...] = bottom[0].data\n"
        "    def backward(self, top, propagate_down, bottom): bottom[0].diff[...] = top[0].diff\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    python = (
        'layer { name: "p" type: "Python" bottom: "c1" top: "p" python_param { module: "counting" layer: "Count" } }\n'
    )
    net = (
        conv("c1", "x", "c1")
        + relu("c1")
        + python
        + conv("c2", "p", "c2")
        + relu("c2")
        + conv("c3", "c2", "c3")
        + tail("c3")
    )
    import sys

    ends = []
    for count in (None, 4):
        sys.modules.pop("counting", None)
        s = solver(net, checkpoint=count, allow_python=True)
        seen = sys.modules["counting"].seen
        seen.clear()
        s.step(2)
        assert len(seen) == 4
        ends.append(s.net.caffe_params()["c1"][0])
    np.testing.assert_array_equal(*ends)


def test_refused():
    with pytest.raises(NetError, match="a negative number of segments"):
        solver(NETS["residual"], checkpoint=-1)


def test_debug_info_runs_the_whole_net():
    net = NETS["residual"]
    events = []
    text = f"base_lr: 0.05 lr_policy: 'fixed' random_seed: 5 debug_info: true display: 1 net_param {{ {HEAD} {net} }}"
    s = Solver(parse_solver(text), feeds=Batches(), device="cpu", checkpoint=3)
    s._callback = events.append
    s.step()
    lines = [line for e in events if e["kind"] == "debug" for line in e["lines"]]
    assert sum(line.startswith("[Forward] Layer c1, top blob c1 data") for line in lines) == 1
