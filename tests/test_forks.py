"""Whole nets and weight files as NVCaffe and Intel Caffe write them."""

import struct
import warnings

import numpy as np
import pytest
import torch

import netcompiler
from netcompiler.errors import NetWarning

NVCAFFES_NET = """
default_forward_type: FLOAT16
default_backward_type: FLOAT16
default_forward_math: FLOAT
default_backward_math: FLOAT
default_conv_algos_override: "1,1,1"
default_cudnn_math_override: 0
global_grad_scale: 1000
global_grad_scale_adaptive: true
reduce_buckets: 8
eltwise_mem_sharing: false
"""
NVCAFFE = """
layer { name: "data" type: "Input" top: "data" forward_type: FLOAT input_param { shape { dim: 2 dim: 3 dim: 7 dim: 5 } } }
layer {
  name: "conv" type: "Convolution" bottom: "data" top: "conv" forward_math: FLOAT16 backward_math: FLOAT16 debug: true
  convolution_param {
    num_output: 4 kernel_size: 3 bias_term: false weight_filler { type: "msra" }
    cudnn_convolution_algo_seeker: GET conv_algos_override: "0,0,0" cudnn_worspace_allow_on_groups: true engine: CUDNN
  }
}
layer {
  name: "bn" type: "BatchNorm" bottom: "conv" top: "bn" cudnn_math_override: 1 backward_type: FLOAT
  batch_norm_param { moving_average_fraction: 0.9 eps: 0.0001 scale_bias: true engine: CUDNN }
}
layer { name: "relu" type: "ReLU" bottom: "bn" top: "bn" relu_param { engine: CUDNN } }
layer { name: "drop" type: "Dropout" bottom: "bn" top: "bn" dropout_param { engine: CUDNN random_seed: 3 } }
layer { name: "pool" type: "Pooling" bottom: "bn" top: "pool" pooling_param { kernel_size: 2 stride: 2 engine: CAFFE } }
"""
NO_EFFECT = (
    "forward_type: FLOAT",
    "forward_math: FLOAT16 backward_math: FLOAT16 debug: true",
    'cudnn_convolution_algo_seeker: GET conv_algos_override: "0,0,0" cudnn_worspace_allow_on_groups: true',
    "cudnn_math_override: 1 backward_type: FLOAT",
    "random_seed: 3",
)

# One net in two ways: with what Intel Caffe fuses, and with a layer for each.
DATA = 'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 7 dim: 5 } } }\n'
FUSED = """engine: "MKLDNN"
layer {
  name: "conv" type: "Convolution" bottom: "data" top: "conv" engine: "MKLDNN:CPU"
  convolution_param { num_output: 4 kernel_size: 3 relu: true negative_slope: 0.5 conv_algorithm: "winograd" }
}
layer { name: "split" type: "Split" bottom: "conv" top: "a" top: "b" split_param { engine: MKLDNN } }
layer {
  name: "bn" type: "BatchNorm" bottom: "a" top: "a" param { lr_mult: 0 } param { lr_mult: 0 } param { lr_mult: 0 }
  batch_norm_param { use_weight_bias: true relu: true engine: MKLDNN }
}
layer { name: "relu" type: "ReLU" bottom: "a" top: "a" relu_param { fuse: true engine: MKLDNN } }
layer {
  name: "last" type: "Convolution" bottom: "b" bottom: "a" top: "last"
  convolution_param { num_output: 4 kernel_size: 1 fusion_type: SUM_FUSION relu: true engine: MKLDNN }
}
"""
PLAIN = """
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param { num_output: 4 kernel_size: 3 } }
layer { name: "leaky" type: "ReLU" bottom: "conv" top: "conv" relu_param { negative_slope: 0.5 } }
layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "a" }
layer { name: "scale" type: "Scale" bottom: "a" top: "a" scale_param { bias_term: true } }
layer { name: "relu" type: "ReLU" bottom: "a" top: "a" }
layer { name: "last" type: "Convolution" bottom: "conv" top: "c" convolution_param { num_output: 4 kernel_size: 1 } }
layer { name: "sum" type: "Eltwise" bottom: "c" bottom: "a" top: "last" }
layer { name: "relu2" type: "ReLU" bottom: "last" top: "last" }
"""


def noise(graph):
    """A weight file's worth of noise."""
    rng = np.random.default_rng(3)
    found = {}
    for node in graph.nodes:
        specs = node.layer.blobs(node.bottom_shapes).values()
        if specs:
            found[node.name] = [(0.5 + rng.random(s.shape)).astype(np.float32) for s in specs]
    return found


def compiled(text, weights, phase="TEST", **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NetWarning)
        return netcompiler.compile(netcompiler.parse(text), weights, phase=phase, device="cpu", **options)


X = np.random.default_rng(5).standard_normal((2, 3, 7, 5)).astype(np.float32)


@pytest.mark.parametrize("phase", ["TEST", "TRAIN"])
def test_nvcaffes_fields_without_effect(phase):
    """Precision, algorithms and memory: the graph is that of the net without these fields."""
    bare = NVCAFFE.replace("engine: CUDNN", "").replace("engine: CAFFE", "")
    for field in NO_EFFECT:
        assert bare.count(field) == 1
        bare = bare.replace(field, "")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one, two = (netcompiler.build(netcompiler.parse(t), phase) for t in (NVCAFFES_NET + NVCAFFE, bare))
    assert one == two
    assert "scale=True bias_term=True averages=True" in str(one.nodes[2])


def raw_halves(blobs):
    """The bytes of a caffemodel as NVCaffe writes it in half precision: raw_data_type 2, and raw_data."""

    def sized(number, data):
        length = len(data)
        head = [number << 3 | 2] if number < 16 else [number << 3 & 127 | 2 | 128, number >> 4]
        while length > 127:
            head.append(length & 127 | 128)
            length >>= 7
        return bytes([*head, length]) + data

    def blob(array):
        dims = b"".join(b"\x08" + bytes([d]) for d in array.shape)
        return sized(7, dims) + b"\x50\x02" + sized(12, struct.pack(f"<{array.size}e", *array.ravel()))

    layers = (sized(1, name.encode()) + b"".join(sized(7, blob(a)) for a in arrays) for name, arrays in blobs.items())
    return b"".join(sized(100, layer) for layer in layers)


def test_nvcaffes_net_runs_on_its_half_precision_file(tmp_path):
    blobs = noise(netcompiler.build(netcompiler.parse(NVCAFFE)))
    blobs["bn"][2][:] = 1
    halves = {k: [a.astype(np.float16).astype(np.float32) for a in v] for k, v in blobs.items()}
    (tmp_path / "w.caffemodel").write_bytes(raw_halves(blobs))
    folded = compiled(NVCAFFES_NET + NVCAFFE, tmp_path / "w.caffemodel")
    whole = compiled(NVCAFFES_NET + NVCAFFE, tmp_path / "w.caffemodel", optimize=False, outputs=["pool"])
    assert [n.layer.kind for n in folded.graph.nodes] == ["Input", "Convolution", "Pooling"]
    (weight,), (mean, variance, _, scale, bias) = halves["conv"], halves["bn"]
    y = torch.nn.functional.conv2d(torch.from_numpy(X), torch.from_numpy(weight)).numpy()
    for c in range(4):
        y[:, c] = (y[:, c] - mean[c]) / np.sqrt(variance[c] + 1e-4) * scale[c] + bias[c]
    y = np.maximum(y, 0)
    want = np.stack([y[:, :, i : i + 2, j : j + 2].max((2, 3)) for i in (0, 2, 4) for j in (0, 2)], -1)
    want = want.reshape(2, 4, 3, 2)  # the last row of windows has one row only
    np.testing.assert_allclose(whole(X)["pool"].detach().numpy(), want, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(folded(X)["pool"].numpy(), want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("phase", ["TEST", "TRAIN"])
def test_intels_fusions_are_the_layers_that_they_stand_for(phase):
    blobs = noise(netcompiler.build(netcompiler.parse(DATA + PLAIN)))
    for arrays in blobs.values():
        for array in arrays:
            array -= 0.8  # so that every ReLU has something to do
    blobs["bn"] = [abs(a) + 0.5 for a in blobs["bn"]]
    theirs = {k: v for k, v in blobs.items() if k != "scale"} | {"bn": blobs["bn"] + blobs["scale"]}
    plain = compiled(DATA + PLAIN, blobs, phase, optimize=False, dtype="float64")
    fused = compiled(DATA + FUSED, theirs, phase, optimize=False, dtype="float64")
    results = []
    for net in (plain, fused):
        x = torch.from_numpy(X).double().requires_grad_()
        y = net(x)["last"]
        (y * y).sum().backward()
        grads = net.caffe_grads()
        assert (y == 0).any() and (y > 0).any()
        results.append([y, x.grad, *map(torch.from_numpy, (*grads["conv"], *grads["last"]))])
    for one, two in zip(*results, strict=True):
        torch.testing.assert_close(one, two)
    folded = compiled(DATA + FUSED, theirs)
    if phase == "TEST":
        torch.testing.assert_close(folded(X)["last"].double(), results[0][0].detach(), rtol=1e-4, atol=1e-4)


MERGED = (
    DATA
    + """
layer { name: "bn" type: "BatchNorm" bottom: "data" top: "data" param { lr_mult: 0 } param { lr_mult: 0 } param { lr_mult: 0 }
  batch_norm_param { filler { value: 0 } bias_filler { value: 3 } } }
layer { name: "scale" type: "Scale" bottom: "data" top: "data" scale_param { bias_term: true filler { value: 2 } } }
"""
)


def test_fillers_of_a_norm_are_those_of_the_scale_behind():
    """Intel Caffe's ResNets start some branches at 0 that way."""
    net = compiled(MERGED, None)
    bn, scale = (net.caffe_params()[name] for name in ("bn", "scale"))
    assert not any(a.any() for a in bn) and len(bn) == 3
    assert [set(a.tolist()) for a in scale] == [{0}, {3}]
    other = MERGED.replace('"Scale" bottom: "data"', '"Scale" bottom: "data" bottom: "data"').replace(
        "scale_param {", "scale_param { axis: 0"
    )
    with pytest.raises(netcompiler.NetError, match="filler is of a weight that this layer does not have"):
        compiled(other, None)
    typo = MERGED.replace("filler { value: 0 }", 'filler { type: "xaver" }')
    with pytest.raises(netcompiler.NetError) as caught:
        compiled(typo, None)
    assert caught.value.layer == '"scale" (Scale)' and caught.value.at.line == 4


GREENTEA = """
layer {
  name: "conv" type: "Convolution" bottom: "data" top: "conv" relu_param { negative_slope: 0.25 }
  convolution_param { fuse_type: FUSED_CONV_RELU num_output: 6 kernel_size: 1 }
}
layer {
  name: "norm" type: "LRN" bottom: "conv" top: "pool"
  lrn_param { fuse_type: FUSED_POOL_MAX local_size: 3 alpha: 0.5 pooling_param { pool: MAX kernel_size: 3 stride: 2 } }
}
"""
APART = """
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param { num_output: 6 kernel_size: 1 } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" relu_param { negative_slope: 0.25 } }
layer { name: "norm" type: "LRN" bottom: "conv" top: "norm" lrn_param { local_size: 3 alpha: 0.5 } }
layer { name: "max" type: "Pooling" bottom: "norm" top: "pool" pooling_param { pool: MAX kernel_size: 3 stride: 2 } }
"""


def test_greenteas_fusions_are_the_layers_that_they_stand_for():
    weights = {"conv": [a - 0.9 for a in noise(netcompiler.build(netcompiler.parse(DATA + APART)))["conv"]]}
    fused, apart = (compiled(DATA + text, weights, optimize=False)(X)["pool"] for text in (GREENTEA, APART))
    assert (fused < 0).any() and fused.shape == (2, 6, 3, 2)
    torch.testing.assert_close(fused, apart)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        graph = netcompiler.build(netcompiler.parse(DATA + GREENTEA))
    assert graph.dialect == "greentea"
    assert [n.name for n in graph.nodes] == ["data", "conv", "norm", "norm/pool"]


@pytest.mark.parametrize(
    "text",
    [
        GREENTEA.replace("FUSED_CONV_RELU", "FUSED_CONV_ELTWISE"),
        GREENTEA.replace("FUSED_POOL_MAX", "FUSED_CONV_POOL"),
        GREENTEA.replace("pool: MAX", "pool: AVE"),
    ],
    ids=["convolution", "norm", "mean"],
)
def test_other_fusions_are_refused(text):
    with pytest.raises(netcompiler.NetError, match=r"Parameter.fuse_type is not supported here"):
        netcompiler.build(netcompiler.parse(DATA + text))


def test_mycaffes_lstm():
    """Its Lstm with recurrent_param is Caffe's LSTM, and with lstm_param that of caffe-lstm."""
    inputs = "".join(f'input: "{k}" input_shape {{ dim: 5 dim: 2 {d} }}' for k, d in (("x", "dim: 3"), ("cont", "")))
    layer = inputs + 'layer { name: "l" type: "Lstm" bottom: "x" bottom: "cont" top: "h" %s { num_output: 4 } }'
    graph = netcompiler.build(netcompiler.parse(layer % "recurrent_param"))
    assert type(graph.nodes[-1].layer).__name__ == "LSTM" and graph.nodes[-1].top_shapes == ((5, 2, 4),)
    with pytest.raises(netcompiler.NetError, match="clip has the wrong shape"):
        netcompiler.build(netcompiler.parse(layer % "lstm_param"))


def test_eight_bit_settings_are_told_to_have_no_effect():
    text = FUSED.replace(
        'engine: "MKLDNN:CPU"', "quantization_param { bw_layer_in: 8 scale_in: 9 is_negative_input: true }"
    )
    with pytest.warns(NetWarning, match="quantization_param has no effect on Convolution layers: conv"):
        netcompiler.build(netcompiler.parse(DATA + text))


def test_merged_nets_tell_where_weight_and_bias_are():
    """Intel Caffe saves BatchNorm and the Scale layer behind it as one: five blobs, under the name of the first."""
    blobs = noise(netcompiler.build(netcompiler.parse(DATA + PLAIN)))
    merged = {k: v for k, v in blobs.items() if k != "scale"} | {"bn": blobs["bn"] + blobs["scale"]}
    with pytest.raises(netcompiler.NetError, match=r"use_weight_bias: true \(Intel Caffe\) takes them"):
        compiled(DATA + PLAIN, merged)
    as_told = PLAIN.replace('top: "a" }', 'top: "a" batch_norm_param { use_weight_bias: true } }', 1)
    assert "use_weight_bias" in as_told
    one = compiled(DATA + as_told.replace('layer { name: "scale"', 'layer { name: "unused"'), merged)
    torch.testing.assert_close(one(X)["last"], compiled(DATA + PLAIN, blobs)(X)["last"], rtol=1e-4, atol=1e-4)
