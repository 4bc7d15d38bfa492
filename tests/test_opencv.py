"""OpenCV's dnn as a second oracle: it reads Caffe's nets with code of its own, many layers of forks included.

Where OpenCV is known to be wrong, or to mean something else, there is no row, and the goldens count: it passes over the
k of LRN, and refuses an Axpy over a pooled blob.
"""

import numpy as np
import pytest

import netcompiler
from netcompiler.binary.write import write_caffemodel

cv2 = pytest.importorskip("cv2", reason="OpenCV's dnn is the oracle")
pytestmark = pytest.mark.skipif(not hasattr(cv2.dnn, "readNetFromCaffe"), reason="OpenCV 5 reads no Caffe nets")

CONV = 'layer { name: "c" type: "Convolution" bottom: "data" top: "c" convolution_param { num_output: 8 kernel_size: 3 %s } }'
FILL = 'weight_filler { type: "gaussian" std: 0.3 } bias_filler { type: "gaussian" std: 0.3 }'


def one(kind, more="", bottom="data"):
    return f'layer {{ name: "y" type: "{kind}" bottom: "{bottom}" top: "y" {more} }}'


def conv(more="", kind="Convolution"):
    return one(kind, f"convolution_param {{ {FILL} {more} }}")


# name: (shape of data, layers)
LAYERS = {
    "convolution": ((2, 6, 9, 11), conv("num_output: 4 kernel_size: 3 stride: 2 pad: 1")),
    "convolution dilated": ((1, 6, 12, 11), conv("num_output: 4 kernel_size: 3 dilation: 2 pad: 2")),
    "convolution in groups": ((2, 6, 9, 7), conv("num_output: 12 kernel_h: 3 kernel_w: 2 group: 3")),
    "deconvolution": ((2, 6, 5, 4), conv("num_output: 4 kernel_size: 4 stride: 2 pad: 1", "Deconvolution")),
    "deconvolution in groups": ((1, 4, 5, 4), conv("num_output: 4 group: 4 kernel_size: 4 stride: 2", "Deconvolution")),
    "inner product": ((3, 4, 2, 2), one("InnerProduct", f"inner_product_param {{ num_output: 5 {FILL} }}")),
    "pooling max": ((2, 3, 10, 9), one("Pooling", "pooling_param { kernel_size: 3 stride: 2 }")),
    "pooling ave padded": ((2, 3, 10, 9), one("Pooling", "pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 }")),
    "pooling global": ((2, 3, 10, 9), one("Pooling", "pooling_param { pool: AVE global_pooling: true }")),
    "lrn across": ((2, 7, 5, 5), one("LRN", "lrn_param { local_size: 5 alpha: 0.5 beta: 0.75 }")),
    "lrn within": ((1, 3, 8, 8), one("LRN", "lrn_param { local_size: 3 alpha: 2 norm_region: WITHIN_CHANNEL }")),
    "batch norm and scale": (
        (2, 5, 6, 6),
        'layer { name: "b" type: "BatchNorm" bottom: "data" top: "b" }'
        + one("Scale", 'scale_param { bias_term: true filler { type: "gaussian" std: 1 } }', "b"),
    ),
    "prelu": ((2, 5, 4, 4), one("PReLU", 'prelu_param { filler { type: "gaussian" std: 0.5 } }')),
    "relu": ((2, 5, 4, 4), one("ReLU", "relu_param { negative_slope: 0.1 }")),
    "elu": ((2, 5, 4, 4), one("ELU", "elu_param { alpha: 0.7 }")),
    "sigmoid": ((2, 5, 4, 4), one("Sigmoid")),
    "tanh": ((2, 5, 4, 4), one("TanH")),
    "absval": ((2, 5, 4, 4), one("AbsVal")),
    "power": ((2, 5, 4, 4), one("Power", "power_param { power: 2 scale: 0.5 shift: 1 }")),
    "softmax": ((2, 5, 4, 4), one("Softmax", "softmax_param { axis: 1 }")),
    "mvn": ((2, 5, 4, 4), one("MVN", "mvn_param { across_channels: false }")),
    "flatten": ((2, 5, 4, 3), one("Flatten", "flatten_param { axis: 1 }")),
    "reshape": ((2, 6, 4, 3), one("Reshape", "reshape_param { shape { dim: 0 dim: -1 dim: 12 } }")),
    "eltwise sum": (
        (2, 6, 9, 9),
        CONV.replace("%s", f"pad: 1 {FILL}")
        + CONV.replace("%s", f"pad: 1 {FILL}").replace('"c"', '"d"')
        + 'layer { name: "y" type: "Eltwise" bottom: "c" bottom: "d" top: "y" eltwise_param { coeff: 0.5 coeff: -2 } }',
    ),
    "concat": (
        (2, 6, 9, 9),
        CONV.replace("%s", f"pad: 1 {FILL}") + 'layer { name: "y" type: "Concat" bottom: "c" bottom: "data" top: "y" }',
    ),
    "permute": ((2, 5, 4, 3), one("Permute", "permute_param { order: 0 order: 2 order: 3 order: 1 }")),
    "normalize": (
        (2, 5, 4, 3),
        one("Normalize", 'norm_param { across_spatial: false channel_shared: false scale_filler { value: 20 } }'),
    ),
    "shuffle channel": ((2, 6, 4, 3), one("ShuffleChannel", "shuffle_channel_param { group: 3 }")),
    "interp": ((2, 3, 5, 4), one("Interp", "interp_param { height: 9 width: 13 }")),
    "relu6": ((2, 5, 4, 4), one("ReLU6")),
    "reorg": ((2, 8, 6, 4), one("Reorg", "reorg_param { stride: 2 }")),
    "depthwise": ((2, 6, 8, 7), conv("num_output: 6 group: 6 kernel_size: 3 stride: 2 pad: 1", "ConvolutionDepthwise")),
    "prior box": (
        (1, 3, 64, 64),
        'layer { name: "f" type: "Pooling" bottom: "data" top: "f" pooling_param { pool: AVE kernel_size: 8 stride: 8 } }'
        'layer { name: "y" type: "PriorBox" bottom: "f" bottom: "data" top: "y" prior_box_param { min_size: 10 max_size: 20'
        " aspect_ratio: 2 aspect_ratio: 3 flip: true clip: false variance: 0.1 variance: 0.1 variance: 0.2 variance: 0.2 } }",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
def test_layers(name, tmp_path):
    shape, layers = LAYERS[name]
    dims = " ".join(f"dim: {n}" for n in shape)
    text = (
        f'name: "net" layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ {dims} }} }} }} {layers}'
    )
    x = np.random.default_rng(3).normal(size=shape).astype(np.float32)
    if name == "relu6":
        x *= 6
    ours = run_ours(text, x, tmp_path)
    theirs = run_theirs(tmp_path, x, "y")
    assert ours.size == theirs.size, (ours.shape, theirs.shape)
    np.testing.assert_allclose(ours.reshape(theirs.shape), theirs, rtol=1e-4, atol=1e-4 * np.abs(theirs).max())


def run_ours(text, x, folder, blob="y"):
    """What our net makes of x; its prototxt and its weights are left in the folder, with statistics that say something."""
    msg = netcompiler.parse(text)
    net = netcompiler.compile(msg, seed=5, device="cpu", optimize=False)
    params, draw = net.caffe_params(), np.random.default_rng(4)
    for node in net.graph:
        if node.layer.kind == "BatchNorm":
            mean, variance, factor = params[node.name]
            params[node.name] = [
                draw.normal(size=mean.shape),
                draw.uniform(0.5, 2, variance.shape),
                np.ones(factor.shape),
            ]
    params = {layer: [np.asarray(a, np.float32) for a in blobs] for layer, blobs in params.items()}
    (folder / "net.prototxt").write_text(text)
    write_caffemodel(folder / "net.caffemodel", msg, params)
    return netcompiler.compile(msg, params, device="cpu")(x)[blob].numpy()


def run_theirs(folder, x, blob):
    """What OpenCV's dnn makes of it, by the same two files."""
    net = cv2.dnn.readNetFromCaffe(str(folder / "net.prototxt"), str(folder / "net.caffemodel"))
    net.setInput(x, "data")
    return net.forward(blob)


def test_ssd(tmp_path):
    """A net like SSD, from a picture to its detections; OpenCV fills up with rows of 0 and puts the best first."""
    heads = []
    for name, low, high in (("c1", 20, 40), ("c2", 40, 70)):
        heads.append(f"""
            layer {{ name: "{name}_loc" type: "Convolution" bottom: "{name}" top: "{name}_loc"
              convolution_param {{ num_output: 16 kernel_size: 3 pad: 1 {FILL} }} }}
            layer {{ name: "{name}_conf" type: "Convolution" bottom: "{name}" top: "{name}_conf"
              convolution_param {{ num_output: 20 kernel_size: 3 pad: 1 {FILL} }} }}
            layer {{ name: "{name}_prior" type: "PriorBox" bottom: "{name}" bottom: "data" top: "{name}_prior"
              prior_box_param {{ min_size: {low} max_size: {high} aspect_ratio: 2 flip: true clip: false
                variance: 0.1 variance: 0.1 variance: 0.2 variance: 0.2 offset: 0.5 }} }}""")
        for part in ("loc", "conf"):
            heads.append(f"""
                layer {{ name: "{name}_{part}_p" type: "Permute" bottom: "{name}_{part}" top: "{name}_{part}_p"
                  permute_param {{ order: 0 order: 2 order: 3 order: 1 }} }}
                layer {{ name: "{name}_{part}_f" type: "Flatten" bottom: "{name}_{part}_p" top: "{name}_{part}_f" }}""")
    text = f"""
        layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ dim: 1 dim: 3 dim: 64 dim: 80 }} }} }}
        layer {{ name: "c0" type: "Convolution" bottom: "data" top: "c0"
          convolution_param {{ num_output: 8 kernel_size: 5 stride: 8 {FILL} }} }}
        layer {{ name: "c1" type: "Normalize" bottom: "c0" top: "c1"
          norm_param {{ across_spatial: false channel_shared: false scale_filler {{ value: 2 }} }} }}
        layer {{ name: "c2" type: "Convolution" bottom: "c1" top: "c2"
          convolution_param {{ num_output: 8 kernel_size: 3 stride: 2 pad: 1 {FILL} }} }}
        {" ".join(heads)}
        layer {{ name: "loc" type: "Concat" bottom: "c1_loc_f" bottom: "c2_loc_f" top: "loc" concat_param {{ axis: 1 }} }}
        layer {{ name: "conf" type: "Concat" bottom: "c1_conf_f" bottom: "c2_conf_f" top: "conf" concat_param {{ axis: 1 }} }}
        layer {{ name: "prior" type: "Concat" bottom: "c1_prior" bottom: "c2_prior" top: "prior" concat_param {{ axis: 2 }} }}
        layer {{ name: "rows" type: "Reshape" bottom: "conf" top: "rows"
          reshape_param {{ shape {{ dim: 0 dim: -1 dim: 5 }} }} }}
        layer {{ name: "soft" type: "Softmax" bottom: "rows" top: "soft" softmax_param {{ axis: 2 }} }}
        layer {{ name: "flat" type: "Flatten" bottom: "soft" top: "flat" flatten_param {{ axis: 1 }} }}
        layer {{ name: "y" type: "DetectionOutput" bottom: "loc" bottom: "flat" bottom: "prior" top: "y"
          detection_output_param {{ num_classes: 5 share_location: true background_label_id: 0 code_type: CENTER_SIZE
            keep_top_k: 50 confidence_threshold: 0.3
            nms_param {{ nms_threshold: 0.45 top_k: 40 }} }} }}"""
    x = np.random.default_rng(3).normal(size=(1, 3, 64, 80)).astype(np.float32)
    ours = run_ours(text, x, tmp_path).reshape(-1, 7)
    theirs = run_theirs(tmp_path, x, "y").reshape(-1, 7)
    theirs = theirs[theirs[:, 1] > 0]
    assert 10 < len(ours) <= 50

    def ordered(rows):
        return rows[np.lexsort((-rows[:, 2], rows[:, 1]))]

    np.testing.assert_allclose(ordered(ours), ordered(theirs), rtol=1e-3, atol=1e-4)
