"""What rewriting does to the numbers: how it is measured, and random nets of all that passes look at, rewritten and plain."""

import random
import warnings
from math import inf, nan

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

import netcompiler
from netcompiler import NetError, weights
from netcompiler.kernels import program
from netcompiler.kernels.tuning import Choices
from netcompiler.module import apart, rewriting_error

from .test_fuse import compiled, conv
from .test_passes import X, bound

APART = [
    ([1.0, 2.0], [1.0, 4.0], 0.5),
    ([3.0], [0.0], 3.0),
    ([0.0], [0.0], 0.0),
    ([nan, inf, 2.0], [nan, inf, 2.0], 0.0),
    ([nan, 1.0], [1.0, 1.0], inf),
    ([1.0, 1.0], [nan, 1.0], inf),
    ([inf, 1.0], [1.0, 1.0], inf),
    ([-inf, 1.0], [inf, 1.0], inf),
    ([1.0, 2.0], [1.0, 2.0, 3.0], inf),
    ([], [], 0.0),
]


@pytest.mark.parametrize(("got", "want", "off"), APART, ids=str)
def test_apart(got, want, off):
    assert apart(torch.tensor(got), torch.tensor(want)) == off


def test_what_only_the_rewritten_net_loses_is_told():
    net = compiled(
        bound(X + conv("c") + 'layer { name: "e" type: "Exp" bottom: "x" top: "e" exp_param { scale: 300 } }')
    )
    x = torch.ones(2, 3, 7, 5)
    assert max(rewriting_error(net, {"x": x}).values()) < 1e-5, "an infinity in both nets is no difference"
    outputs = {k: y.clone() for k, y in net(x).items()}
    outputs["c"][0, 0, 0, 0] = nan
    assert rewriting_error(net, {"x": x}, outputs) == {"c": inf, "e": 0.0}


DRAWN = """layer { name: "d" type: "DummyData" top: "d"
         dummy_data_param { shape { dim: 2 dim: 3 dim: 7 dim: 5 } data_filler { type: "gaussian" std: 1 } } }
layer { name: "y" type: "Concat" bottom: "c" bottom: "d" top: "y" }
"""


def test_random_numbers_are_the_same_for_both():
    net = compiled(bound(X + conv("c") + DRAWN))
    state = torch.random.get_rng_state()
    assert rewriting_error(net, {"x": torch.ones(2, 3, 7, 5)})["y"] < 1e-5
    assert torch.equal(state, torch.random.get_rng_state()), "the caller's numbers go on as they would have"


RECURRENT = """layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 4 dim: 2 dim: 3 } } }
layer { name: "k" type: "Input" top: "k" input_param { shape { dim: 4 dim: 2 } } }
layer { name: "l" type: "LSTM" bottom: "x" bottom: "k" top: "l"
        recurrent_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "y" type: "InnerProduct" bottom: "l" top: "y"
        inner_product_param { num_output: 2 axis: 2 weight_filler { type: "xavier" } } }
"""
SEQUENCE = {"x": torch.linspace(-1, 1, 24).view(4, 2, 3), "k": torch.ones(4, 2)}
MEASURED = [
    ("rewriting_error", lambda net: rewriting_error(net, SEQUENCE)),
    ("layer_times", lambda net: netcompiler.timing.layer_times(net, SEQUENCE, 2)),
    ("net_times", lambda net: netcompiler.timing.net_times(net, SEQUENCE, 2)),
]


@pytest.mark.parametrize("measure", [m[1] for m in MEASURED], ids=[m[0] for m in MEASURED])
def test_measuring_leaves_states_as_they_were(measure):
    """A sequence that goes on after the net was measured goes on from where it stood."""
    import netcompiler.timing  # noqa: F401

    nets = [netcompiler.compile(netcompiler.parse(RECURRENT), device="cpu", optimize=False) for _ in range(2)]
    for net in nets:
        net(**SEQUENCE)
    measure(nets[0])
    one, two = (net(**SEQUENCE)["y"] for net in nets)
    assert torch.equal(one, two)
    assert rewriting_error(nets[0], SEQUENCE) == {"y": 0.0}


def test_nothing_is_left_of_a_search(tmp_path, monkeypatch):
    """compile(tune=True) runs the net on noise: no state of that stays, and nothing is written."""
    pytest.importorskip("h5py")
    monkeypatch.setenv("NETCOMPILER_CACHE", str(tmp_path))
    out = f'layer {{ name: "o" type: "HDF5Output" bottom: "y" bottom: "k" hdf5_output_param {{ file_name: "{tmp_path}/o" }} }}'
    graph = netcompiler.build(netcompiler.parse(RECURRENT + out), inputs={"k": (4, 2)})
    graph = netcompiler.weights.bind(graph, {}, warn=False)
    net = netcompiler.compile(graph, device="cpu", tune=True, outputs=["y"])
    torch.testing.assert_close(net(**SEQUENCE), netcompiler.compile(graph, device="cpu", outputs=["y"])(**SEQUENCE))
    netcompiler.compile(graph, device="cpu", tune=True)
    assert not (tmp_path / "o").exists()


def test_quantising_starts_each_pass_without_a_state():
    net = netcompiler.compile(netcompiler.parse(RECURRENT), device="cpu")
    want = netcompiler.compile(net.with_weights(), device="cpu")(**SEQUENCE)["y"]
    small = netcompiler.quantize(net, [dict(SEQUENCE) for _ in range(4)])
    assert small.report.error < 0.05
    assert float((small(**SEQUENCE)["y"] - want).abs().max()) < 0.05 * float(want.abs().max())


# --- random nets ---


def layer(kind, name, bottoms, tops, more=""):
    words = " ".join([f'bottom: "{b}"' for b in bottoms] + [f'top: "{t}"' for t in tops])
    return f'layer {{ name: "{name}" type: "{kind}" {words} {more} }}\n'


FILL = 'weight_filler { type: "xavier" }'


def convolution(r, channels):
    group = r.choice([g for g in (1, 1, 2, 3, channels) if channels % g == 0])
    size = r.choice(["kernel_size: 1", "kernel_size: 3 pad: 1", "kernel_size: 3", "kernel_h: 2 kernel_w: 3"])
    outputs = channels if r.random() < 0.6 else group * r.choice([1, 2, 3])
    more = [w for w in ("stride: 2", "dilation: 2", "bias_term: false") if r.random() < 0.2]
    more += ["relu: true negative_slope: 0.2"] if r.random() < 0.1 else []
    return f"convolution_param {{ num_output: {outputs} group: {group} {size} {' '.join(more)} {FILL} }}"


# What a layer may say for itself, beside its bottoms and tops.
SETTINGS = {
    "BatchNorm": [
        "",
        *(f"batch_norm_param {{ {t} }}" for t in ("eps: 0.01", "scale_bias: true", "use_weight_bias: true relu: true")),
        *(f"batch_norm_param {{ {t} }}" for t in ("use_weight_bias: true bias_term: false", "use_global_stats: false")),
    ],
    "BN": [
        f"bn_param {{ {t} }}" for t in ("bn_mode: INFERENCE", "frozen: true", "momentum: 0.9", "moving_average: true")
    ],
    "Scale": [
        f"scale_param {{ {t} bias_term: {b} }}" for t in ("", "", "axis: 2", "num_axes: -1") for b in ("true", "false")
    ],
    "Bias": ["", "", "bias_param { axis: -1 }", "bias_param { num_axes: 0 }"],
    "Power": [
        f"power_param {{ {t} }}"
        for t in ("scale: -2 shift: 0.5", "scale: 0.5", "shift: -1", "power: 2", "scale: 0 shift: 2", "")
    ],
    "ReLU": ["", "", "relu_param { negative_slope: 0.3 }"],
    "TanH": [""],
    "Sigmoid": [""],
    "ELU": [""],
    "AbsVal": [""],
    "PReLU": [""],
    "Dropout": ["", "dropout_param { scale_train: false }"],
    "LRN": ["lrn_param { local_size: 3 alpha: 0.5 }", "lrn_param { norm_region: WITHIN_CHANNEL local_size: 3 }"],
    "MVN": ["", "mvn_param { normalize_variance: false across_channels: true }"],
    "Softmax": ["", "softmax_param { axis: -1 }"],
    "Pooling": [
        f"pooling_param {{ pool: {p} {t} }}" for p in ("MAX", "AVE") for t in ("kernel_size: 2", "global_pooling: true")
    ],
    "Flatten": ["", "flatten_param { axis: 2 }"],
    "Reshape": ["reshape_param { shape { dim: 0 dim: -1 dim: 1 dim: 1 } }"],
    "Permute": [f"permute_param {{ order: 0 order: {t} }}" for t in ("2 order: 3 order: 1", "1 order: 2 order: 3")],
    "InnerProduct": [
        f"inner_product_param {{ num_output: 4 {t} {FILL} }}"
        for t in ("", "transpose: true", "axis: 2 bias_term: false", "normalize: true")
    ],
    "Eltwise": [
        f"eltwise_param {{ {t} }}"
        for t in ("", "", "coeff: 2 coeff: 1", "coeff: 1 coeff: -1", "operation: PROD", "operation: MAX")
    ],
    "Concat": ["", "", "concat_param { axis: 0 }", "concat_param { axis: 2 }"],
    "Slice": ["slice_param { slice_point: 1 }", "slice_param { axis: 2 slice_point: 2 }"],
    "Split": [""],
    "Silence": [""],
    "Parameter": ["parameter_param { shape { dim: 4 } }", "parameter_param { shape { dim: 2 dim: 4 dim: 7 dim: 6 } }"],
}
MANY = ("Convolution", "ConvolutionDepthwise", "Deconvolution")
LIKELY = (
    *["Residual"] * 9,
    *["Convolution"] * 6,
    *["BatchNorm", "Scale", "Power", "ReLU", "Eltwise"] * 3,
    *MANY,
    *SETTINGS,
)
IN_PLACE = ("BatchNorm", "Scale", "Bias", "Power", "ReLU", "TanH", "Sigmoid", "ELU", "Dropout", "PReLU")


def random_layer(r, name, shapes):
    """Some layer over some of the blobs, as text; it may not fit them."""
    kind, blobs = r.choice(LIKELY), list(shapes)
    one = blobs[-1] if r.random() < 0.7 else r.choice(blobs)
    two = r.choice([b for b in blobs if shapes[b] == shapes[one] and b != one] or [one])
    if kind == "Residual":  # a convolution and a sum, in either order of bottoms
        kind = r.choice(MANY[:2])
        settings = f"convolution_param {{ num_output: {shapes[one][1]} kernel_size: 3 pad: 1 {FILL} }}"
        sides = r.sample([f"{name}c", r.choice([one, two])], 2)
        both = layer(kind, f"{name}c", [one], [f"{name}c"], settings + r.choice(["", ' param { name: "w" }']))
        return both + layer("Eltwise", name, sides, [name], r.choice(SETTINGS["Eltwise"]))
    bottoms = {"Eltwise": [one, two], "Concat": [one, two], "Parameter": []}.get(kind, [one])
    if kind in ("Scale", "Bias") and r.random() < 0.25:
        bottoms = [one, r.choice(blobs)]
    tops = {"Slice": [name, f"{name}_2"], "Split": [name, f"{name}_2"], "Silence": []}.get(kind, [name])
    if kind in IN_PLACE and r.random() < 0.6:
        tops = [one]
    more = convolution(r, shapes[one][1]) if kind in MANY else r.choice(SETTINGS[kind])
    if len(bottoms) == 2 and kind in ("Scale", "Bias"):
        more = f"{kind.lower()}_param {{ axis: {r.choice([0, 1])} }}"
    for word, share in (('param { name: "w" }', 0.08), ("propagate_down: false", 0.04), ("loss_weight: 1", 0.03)):
        if len(bottoms) == len(tops) == 1 and r.random() < share:
            more += " " + word
    return layer(kind, name, bottoms, tops, more)


def random_net(r):
    """The text of a net and its graph; layers that do not fit are left out."""
    text = X.replace("dim: 3", "dim: 4").replace("dim: 5", "dim: 6")
    graph = netcompiler.build(netcompiler.parse(text))
    for i in range(r.randint(2, 9)):
        last = {v.blob: v.shape for n in graph.nodes for v in n.tops}
        try:
            more = random_layer(r, f"b{i}", {blob: shape for blob, shape in last.items() if len(shape) > 1})
            graph = netcompiler.build(netcompiler.parse(text + more))
            text += more
        except NetError:
            graph = netcompiler.build(netcompiler.parse(text))
    rng = np.random.default_rng(r.randint(0, 999))
    arrays = {}
    for node in graph.nodes:
        for name, spec in node.layer.blobs(node.bottom_shapes).items():
            fan = np.prod(spec.shape[1:]) ** 0.5 if len(spec.shape) > 1 else 1.5
            drawn = (
                0.3 + rng.random(spec.shape)
                if name in ("variance", "scale_factor")
                else rng.standard_normal(spec.shape) / fan
            )
            arrays.setdefault(node.name, []).append(drawn.astype(np.float32))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return text, weights.bind(graph, arrays)


TOLERANCE = {torch.float32: (1e-5, 30), torch.float64: (1e-6, 10), torch.bfloat16: (3e-2, 8)}


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.integers(0, 1 << 32), st.sampled_from(list(TOLERANCE)), st.booleans(), st.integers(0, 9))
def test_random_nets(seed, dtype, siblings, as_program):
    """Rewritten nets against the plain one in float64, within what rounding does to the plain one in their own type."""
    r = random.Random(seed)
    text, graph = random_net(r)
    blobs = graph.blobs()
    if r.random() < 0.5:
        graph = graph.reaching(r.sample(blobs, min(len(blobs), 3)))
    exact, plain, single = (
        netcompiler.CompiledNet(graph, dtype=t).eval() for t in (torch.float64, dtype, torch.float32)
    )
    net = compiled(graph, dtype=dtype, choices=Choices(program=as_program == 0, siblings=siblings))
    for batch in (2, 2, 3):
        feeds = {
            v.blob: torch.randn(batch, *v.shape[1:], generator=torch.Generator().manual_seed(batch))
            for v in graph.inputs()
        }
        kept = {k: x.clone() for k, x in feeds.items()}
        with torch.no_grad():
            try:
                want, rough, other = (n(**feeds) for n in (exact, plain, single))
            except NetError as e:  # a shape that some layer cannot take
                with pytest.raises(NetError) as found:
                    net(**feeds)
                assert str(found.value) == str(e)
                continue
            got = net(**feeds)
        assert all(torch.equal(feeds[k], x) for k, x in kept.items()), f"an input was overwritten\n{text}"
        assert list(got) == list(want)
        for name, right in want.items():
            largest = float(right.detach().abs().max()) if right.isfinite().all() else inf
            if not 1e-6 < largest < 1e5:
                continue
            share, times = TOLERANCE[dtype]
            rounding = max(
                apart(y[name].double(), right) for y in ((rough, other) if dtype != torch.float64 else (other,))
            )
            assert apart(got[name].double(), right) <= share + times * rounding, f"{name}\n{text}"


@pytest.fixture(autouse=True)
def _any_program_will_do(monkeypatch):
    monkeypatch.setattr(program, "MARGIN", 1e9)
