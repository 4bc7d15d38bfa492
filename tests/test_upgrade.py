"""Old prototxt in, today's prototxt out; the place of every field that moved; and what is refused.

`$NETCOMPILER_CORPUS` names a folder with other people's old nets (nets/) and what Caffe's own tools made of them (upgraded/).
"""

import csv
import os
import warnings
from pathlib import Path

import pytest

from netcompiler import schema
from netcompiler.errors import NetError, NetWarning
from netcompiler.text import Msg, format_message, parse_message, read_text
from netcompiler.upgrade import load, load_solver, parse, parse_solver, upgrade, upgrade_solver

CORPUS = os.environ.get("NETCOMPILER_CORPUS")


def check(old, new, kind="NetParameter"):
    """`old` becomes `new`, is left as it was, and today's form stays as it is. Returns the message."""
    run = upgrade if kind == "NetParameter" else upgrade_solver
    given = parse_message(old, kind=kind, file="old.prototxt")
    before = given.copy()
    made = run(given)
    assert format_message(made) == format_message(parse_message(new, kind=kind))
    assert made == parse_message(new, kind=kind)
    assert given == before and given.marks == before.marks
    assert run(made) == made
    assert run(Msg(given.raw)) == made  # a message without places, as from a binary file
    return made


def quiet(old, new):
    """`check` where no warning is due."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", NetWarning)
        return check(old, new)


def warned(old, new, *texts):
    """`check` where these warnings are due."""
    with pytest.warns(NetWarning) as caught:
        made = check(old, new)
    told = [str(w.message) for w in caught if "old.prototxt" in str(w.message)]
    assert len(told) == len(texts), told
    for text in texts:
        assert any(text in t for t in told), told
    return made


def refused(old, what, place, read=parse):
    with pytest.raises(NetError) as caught:
        read(old, file="old.prototxt")
    assert caught.value.what == what
    assert f"{caught.value.at.line}:{caught.value.at.column}" == place
    return caught.value


def place(span):
    return span.line, span.column


# --- V1 to V2 ---

V2_TYPES = {
    "NONE": "",
    "ABSVAL": "AbsVal",
    "ACCURACY": "Accuracy",
    "ARGMAX": "ArgMax",
    "BNLL": "BNLL",
    "CONCAT": "Concat",
    "CONTRASTIVE_LOSS": "ContrastiveLoss",
    "CONVOLUTION": "Convolution",
    "DATA": "Data",
    "DECONVOLUTION": "Deconvolution",
    "DROPOUT": "Dropout",
    "DUMMY_DATA": "DummyData",
    "ELTWISE": "Eltwise",
    "EUCLIDEAN_LOSS": "EuclideanLoss",
    "EXP": "Exp",
    "FLATTEN": "Flatten",
    "HDF5_DATA": "HDF5Data",
    "HDF5_OUTPUT": "HDF5Output",
    "HINGE_LOSS": "HingeLoss",
    "IM2COL": "Im2col",
    "IMAGE_DATA": "ImageData",
    "INFOGAIN_LOSS": "InfogainLoss",
    "INNER_PRODUCT": "InnerProduct",
    "LRN": "LRN",
    "MEMORY_DATA": "MemoryData",
    "MULTINOMIAL_LOGISTIC_LOSS": "MultinomialLogisticLoss",
    "MVN": "MVN",
    "POOLING": "Pooling",
    "POWER": "Power",
    "RELU": "ReLU",
    "SIGMOID": "Sigmoid",
    "SIGMOID_CROSS_ENTROPY_LOSS": "SigmoidCrossEntropyLoss",
    "SILENCE": "Silence",
    "SLICE": "Slice",
    "SOFTMAX": "Softmax",
    "SOFTMAX_LOSS": "SoftmaxWithLoss",
    "SPLIT": "Split",
    "TANH": "TanH",
    "THRESHOLD": "Threshold",
    "WINDOW_DATA": "WindowData",
    # of forks
    "BIAS_CHANNEL": "BiasChannel",
    "BN": "BN",
    "COLINEAR_CONVOLUTION": "ColinearConvolution",
    "CONVOLUTION3D": "Convolution3D",
    "CROP": "Crop",
    "DECONVOLUTION3D": "Deconvolution3D",
    "DENSE_CRF": "DenseCRF",
    "DOMINANT_CHANNEL": "DominantChannel",
    "ELTWISE_ACCURACY": "EltwiseAccuracy",
    "IMAGE_SEG_DATA": "ImageSegData",
    "INTERP": "Interp",
    "LOCAL": "LOCAL",
    "MAT_READ": "MatRead",
    "MAT_WRITE": "MatWrite",
    "MULTI_STAGE_MEANFIELD": "MultiStageMeanfield",
    "PADDING": "Padding",
    "POOLING3D": "Pooling3D",
    "SEG_ACCURACY": "SegAccuracy",
    "UNPOOLING": "UnPooling",
    "VIDEO_DATA": "VideoData",
    "VIDEO_SEGMENTATION_DATA": "VideoSegmentationData",
    "VIDEO_WITH_VOXEL_TRUTH_DATA": "VideoWithVoxelTruthData",
    "VOXEL_SOFTMAX": "VoxelSoftmax",
    "VOXEL_SOFTMAX_LOSS": "VoxelSoftmaxWithLoss",
    "WINDOW_SEG_DATA": "WindowSegData",
}


def test_all_v1_types():
    assert set(V2_TYPES) == set(schema.enum("V1LayerParameter.LayerType"))
    for old, new in V2_TYPES.items():
        quiet(f"layers {{ type: {old} }}", f'layer {{ type: "{new}" }}')


FORK_FIELDS = """
    bn_param { bn_mode: INFERENCE scale_filler { type: "constant" } }
    interp_param { zoom_factor: 8 }
    mat_write_param { prefix: "out/" }
    seg_accuracy_param { metric: PixelIOU ignore_label: 255 }
    colinear_convolution_param { num_output: 2 }
    unpooling_param { kernel_size: 2 unpool_size: 14 }
    eltwise_accuracy_param { top_k: 2 }
    padding_param { pad_beg: -1 }
    dense_crf_param { max_iter: 5 pos_w: 3 }
    bias_channel_param { bg_bias: 1 }
    local_param { num_output: 3 kernel_size: 3 }
    multi_stage_meanfield_param { num_iterations: 5 }
    video_data_param { source: "list" }
    strict_dim: false
    softmaxloss_param { ignore_label: 255 }
    mat_read_param { prefix: "in/" }
    dominant_channel_param { top_k: 1 }
    convolution_param { hole: 2 kernel_depth: 3 }
    image_data_param { label_type: PIXEL }
"""


def test_fields_of_forks_pass_over():
    quiet(f'layers {{ name: "x" {FORK_FIELDS} }}', f'layer {{ name: "x" {FORK_FIELDS} }}')
    every = schema.message("V1LayerParameter").DESCRIPTOR.fields
    told = {line.split()[0].rstrip(":") for line in FORK_FIELDS.strip().splitlines()}
    assert {d.name for d in every if d.number > 60_000} <= told


def test_a_v1_layer_without_a_type():
    quiet('layers { name: "x" }', 'layer { name: "x" }')


def test_v1_layer():
    made = quiet(
        """name: "net"
force_backward: true
layers {
  top: "t" bottom: "a" bottom: "b"
  name: "conv"
  type: CONVOLUTION
  convolution_param { num_output: 3 pad: 1
    weight_filler { type: "xavier" } }
  include { phase: TRAIN } include { stage: "x" }
  exclude { min_level: 2 }
  loss_weight: 2 loss_weight: 3
  loss_param { normalize: false }
  transform_param { mirror: true }
}
debug_info: true
layers { type: POOLING pooling_param { pool: AVE } }
state { level: 3 }""",
        """name: "net" force_backward: true debug_info: true state { level: 3 }
layer {
  name: "conv" type: "Convolution" bottom: "a" bottom: "b" top: "t"
  loss_weight: [2, 3] include { phase: TRAIN } include { stage: "x" } exclude { min_level: 2 }
  transform_param { mirror: true } loss_param { normalize: false }
  convolution_param { num_output: 3 pad: 1 weight_filler { type: "xavier" } }
}
layer { type: "Pooling" pooling_param { pool: AVE } }""",
    )
    conv, pool = made.layer
    assert place(conv.at()) == (3, 1) and place(pool.at()) == (16, 1)
    assert place(conv.at("type")) == (6, 3)
    assert place(conv.at("bottom", 1)) == (4, 24)
    assert place(conv.at("loss_weight", 1)) == (11, 18)
    assert place(conv.convolution_param.at("pad")) == (7, 37)
    assert place(conv.convolution_param.weight_filler.at("type")) == (8, 21)
    assert place(conv.include[1].at("stage")) == (9, 38)
    assert place(pool.pooling_param.at("pool")) == (16, 40)
    assert place(made.at("debug_info")) == (15, 1)
    assert made.at("layers") == made.at()


def test_every_field_of_v1_goes_somewhere():
    now = schema.LayerParameter.DESCRIPTOR.fields_by_name
    for field in schema.message("V1LayerParameter").DESCRIPTOR.fields:
        if field.name in ("layer", "type", "param", "blob_share_mode", "blobs_lr", "weight_decay"):
            continue  # V0 inside, and those that change
        assert now[field.name].message_type is field.message_type, field.name
        if field.message_type is not None and field.name not in ("blobs", "include", "exclude"):
            quiet(f"layers {{ {field.name} {{ }} }}", f"layer {{ {field.name} {{ }} }}")


def test_v1_params():
    made = quiet(
        """layers {
  blobs_lr: 1 blobs_lr: 2
  weight_decay: [0.5, 0, 3]
  param: "w"
  blob_share_mode: PERMISSIVE blob_share_mode: STRICT
}""",
        """layer {
  param { name: "w" share_mode: PERMISSIVE lr_mult: 1 decay_mult: 0.5 }
  param { share_mode: STRICT lr_mult: 2 decay_mult: 0 }
  param { decay_mult: 3 }
}""",
    )
    params = made.layer[0].param
    assert [place(params[0].at(n)) for n in ("name", "share_mode", "lr_mult", "decay_mult")] == [
        (4, 3),
        (5, 3),
        (2, 3),
        (3, 18),
    ]
    assert place(params[1].at("lr_mult")) == (2, 15)
    assert place(params[2].at("decay_mult")) == place(params[2].at()) == (3, 26)


@pytest.mark.parametrize("kind", ["DATA", "IMAGE_DATA", "WINDOW_DATA"])
def test_preprocessing_moves_to_transform_param(kind):
    param, new = f"{kind.lower()}_param", V2_TYPES[kind]
    made = quiet(
        f'layers {{ type: {kind}\n {param} {{ source: "s"\n scale: 0.5\n mean_file: "m"\n crop_size: 7\n mirror: true }} }}',
        f"""layer {{ type: "{new}" {param} {{ source: "s" }}
        transform_param {{ scale: 0.5 mean_file: "m" crop_size: 7 mirror: true }} }}""",
    )
    transform = made.layer[0].transform_param
    assert [transform.at(n).line for n in ("scale", "mean_file", "crop_size", "mirror")] == [3, 4, 5, 6]
    assert getattr(made.layer[0], param).at("source").line == 2


def test_preprocessing_goes_over_what_transform_param_has():
    quiet(
        "layers { type: DATA transform_param { scale: 2 crop_size: 3 } data_param { scale: 0.5 } }",
        'layer { type: "Data" transform_param { scale: 0.5 crop_size: 3 } data_param { } }',
    )


def test_preprocessing_gives_all_data_layers_both_messages():
    """As in Caffe, though only the first one has something to move."""
    quiet(
        "layers { type: DATA data_param { scale: 2 } } layers { type: IMAGE_DATA } layers { type: RELU }",
        """layer { type: "Data" data_param { } transform_param { scale: 2 } }
        layer { type: "ImageData" image_data_param { } transform_param { } } layer { type: "ReLU" }""",
    )


def test_preprocessing_stays_where_the_type_is_another():
    quiet(
        "layers { type: MEMORY_DATA data_param { scale: 2 } }", 'layer { type: "MemoryData" data_param { scale: 2 } }'
    )
    quiet('layer { type: "Data" data_param { scale: 2 } }', 'layer { type: "Data" data_param { scale: 2 } }')
    quiet("layers { type: DATA data_param { batch_size: 2 } }", 'layer { type: "Data" data_param { batch_size: 2 } }')


def test_layer_beside_layers_is_dropped():
    warned(
        'name: "n"\nlayer { name: "a" }\nlayers { name: "b" }\nlayer { name: "c" }',
        'name: "n" layer { name: "b" }',
        "old.prototxt:2:1: the net has both layers (V1) and layer: as in Caffe, the 2 written as layer are dropped",
    )


def test_v1_type_names_in_quotes_are_refused():
    refused('layers {\n type: "Softmax" }', 'a bad value for "type"', "2:8")


# --- V0 to V1 ---


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('type: "accuracy"', 'type: "Accuracy"'),
        ('type: "bnll"', 'type: "BNLL"'),
        ('type: "concat" concat_dim: 2', 'type: "Concat" concat_param { concat_dim: 2 }'),
        (
            """type: "conv" num_output: 3 biasterm: false weight_filler { std: 2 } bias_filler { value: 3 } pad: 1
            kernelsize: 5 group: 3 stride: 2""",
            """type: "Convolution" convolution_param { num_output: 3 bias_term: false weight_filler { std: 2 }
            bias_filler { value: 3 } pad: 1 kernel_size: 5 group: 3 stride: 2 }""",
        ),
        (
            'type: "data" source: "s" batchsize: 5 rand_skip: 7 scale: 2 meanfile: "m" cropsize: 3 mirror: true',
            """type: "Data" data_param { source: "s" batch_size: 5 rand_skip: 7 }
            transform_param { scale: 2 mean_file: "m" crop_size: 3 mirror: true }""",
        ),
        ('type: "dropout" dropout_ratio: 0.25', 'type: "Dropout" dropout_param { dropout_ratio: 0.25 }'),
        ('type: "euclidean_loss"', 'type: "EuclideanLoss"'),
        ('type: "flatten"', 'type: "Flatten"'),
        (
            'type: "hdf5_data" source: "s" batchsize: 5',
            'type: "HDF5Data" hdf5_data_param { source: "s" batch_size: 5 }',
        ),
        (
            'type: "hdf5_output" hdf5_output_param { file_name: "f" }',
            'type: "HDF5Output" hdf5_output_param { file_name: "f" }',
        ),
        ('type: "im2col"', 'type: "Im2col"'),
        (
            """type: "images" source: "s" batchsize: 5 rand_skip: 7 shuffle_images: true new_height: 3 new_width: 2
            mirror: false""",
            """type: "ImageData" transform_param { mirror: false }
            image_data_param { source: "s" batch_size: 5 rand_skip: 7 shuffle: true new_height: 3 new_width: 2 }""",
        ),
        ('type: "infogain_loss" source: "s"', 'type: "InfogainLoss" infogain_loss_param { source: "s" }'),
        (
            'type: "innerproduct" num_output: 3 biasterm: true weight_filler { std: 2 } bias_filler { }',
            """type: "InnerProduct"
            inner_product_param { num_output: 3 bias_term: true weight_filler { std: 2 } bias_filler { } }""",
        ),
        (
            'type: "lrn" local_size: 3 alpha: 2 beta: 4 k: 5',
            'type: "LRN" lrn_param { local_size: 3 alpha: 2 beta: 4 k: 5 }',
        ),
        ('type: "multinomial_logistic_loss"', 'type: "MultinomialLogisticLoss"'),
        (
            'type: "pool" pool: AVE kernelsize: 3 stride: 2 pad: 1',
            'type: "Pooling" pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 }',
        ),
        ('type: "pool" pool: STOCHASTIC', 'type: "Pooling" pooling_param { pool: STOCHASTIC }'),
        ('type: "relu"', 'type: "ReLU"'),
        ('type: "sigmoid"', 'type: "Sigmoid"'),
        ('type: "softmax"', 'type: "Softmax"'),
        ('type: "softmax_loss"', 'type: "SoftmaxWithLoss"'),
        ('type: "split"', 'type: "Split"'),
        ('type: "tanh"', 'type: "TanH"'),
        (
            """type: "window_data" source: "s" batchsize: 5 det_fg_threshold: 0.1 det_bg_threshold: 0.2 det_fg_fraction: 0.3
            det_context_pad: 4 det_crop_mode: "square" cropsize: 7""",
            """type: "WindowData" transform_param { crop_size: 7 } window_data_param { source: "s" batch_size: 5
            fg_threshold: 0.1 bg_threshold: 0.2 fg_fraction: 0.3 context_pad: 4 crop_mode: "square" }""",
        ),
        (
            'name: "n" blobs_lr: [2, 3] weight_decay: 0',
            'name: "n" param { lr_mult: 2 decay_mult: 0 } param { lr_mult: 3 }',
        ),
        ('type: "relu" scale: 2', 'type: "ReLU" transform_param { scale: 2 }'),  # whatever the type
        ("", ""),
    ],
)
def test_v0_layer(old, new):
    quiet(f"layers {{ layer {{ {old} }} }}", f"layer {{ {new} }}")


def test_v0_net():
    made = quiet(
        """name: "net"
input: "x" input_dim: 2 input_dim: 3
  input_dim: 5 input_dim: 7
layers {
  bottom: "x" top: "c"
  layer {
    name: "conv"
    type: "conv"
    blobs_lr: 1
    pad: 2 kernelsize: 3
    weight_filler { type: "xavier" }
  }
}
force_backward: true
""",
        """name: "net" force_backward: true
layer { name: "input" type: "Input" top: "x" input_param { shape { dim: [2, 3, 5, 7] } } }
layer {
  name: "conv" type: "Convolution" bottom: "x" top: "c" param { lr_mult: 1 }
  convolution_param { pad: 2 kernel_size: 3 weight_filler { type: "xavier" } }
}""",
    )
    first, conv = made.layer
    assert place(first.at()) == place(first.at("top")) == (2, 1)
    shape = first.input_param.shape[0]
    assert [place(shape.at("dim", i)) for i in range(4)] == [(2, 12), (2, 25), (3, 3), (3, 16)]
    assert place(conv.at()) == (4, 1)
    assert place(conv.at("bottom")) == (5, 3) and place(conv.at("name")) == (7, 5) and place(conv.at("type")) == (8, 5)
    assert place(conv.param[0].at("lr_mult")) == (9, 5)
    assert place(conv.convolution_param.at("pad")) == (10, 5)
    assert place(conv.convolution_param.at("kernel_size")) == (10, 12)
    assert place(conv.convolution_param.weight_filler.at("type")) == (11, 21)
    assert place(conv.convolution_param.at("group")) == (4, 1)
    assert place(made.at("force_backward")) == (14, 1)


PADDING = """input: "x" input_dim: [1, 2, 3, 3]
layers { layer { name: "p" type: "padding" pad: 2 } bottom: "x" top: "padded" }
layers { layer { name: "c" type: "KIND" kernelsize: 3 }
  bottom: "padded" top: "y" }
"""
PADDED = """layer { name: "input" type: "Input" top: "x" input_param { shape { dim: [1, 2, 3, 3] } } }
layer { name: "c" type: "Convolution" bottom: "x" top: "y" convolution_param { pad: 2 kernel_size: 3 } }
"""


def test_padding_layer():
    made = quiet(PADDING.replace("KIND", "conv"), PADDED)
    assert place(made.layer[1].convolution_param.at("pad")) == (2, 44)
    assert place(made.layer[1].at("bottom")) == (2, 53)
    assert place(made.layer[1].at("top")) == (4, 20)
    quiet(PADDING.replace("KIND", "pool"), PADDED.replace("Convolution", "Pooling").replace("convolution", "pooling"))


def test_padding_layer_with_two_readers():
    reader = 'layers { layer { name: "d" type: "conv" kernelsize: 3 } bottom: "padded" top: "z" }'
    quiet(
        PADDING.replace("KIND", "conv") + reader,
        PADDED + PADDED.splitlines()[1].replace('"c"', '"d"').replace('"y"', '"z"'),
    )


def test_padding_layer_without_pad():
    quiet(PADDING.replace("KIND", "conv").replace("pad: 2", ""), PADDED.replace("pad: 2", "pad: 0"))


def test_padding_goes_over_the_readers_own_pad():
    old = PADDING.replace("KIND", "conv").replace("kernelsize: 3", "kernelsize: 3 pad: 1")
    warned(
        old,
        PADDED,
        'old.prototxt:3:55: layer "c" (conv): the pad of the padding layer "p" (padding) takes the place of this one',
    )


def test_a_blob_that_is_padded_in_place():
    quiet(PADDING.replace("KIND", "conv").replace("padded", "x"), PADDED)


def test_padding_layers_that_caffe_refuses():
    e = refused(PADDING.replace("KIND", "relu"), "a padding layer cannot be read here", "4:3")
    assert e.expected == 'a reader of type "conv" or "pool"' and e.got == "relu" and e.layer == '"c" (relu)'
    refused(PADDING.replace("KIND", "padding"), "a padding layer cannot be read here", "4:3")
    two = PADDING.replace("KIND", "conv").replace('bottom: "padded"', 'bottom: "padded" bottom: "x"')
    refused(two, "padding takes one bottom", "4:20")
    two = PADDING.replace("KIND", "conv").replace('bottom: "x"', 'bottom: "x" bottom: "x"')
    refused(two, "padding takes one bottom", "2:65")
    refused(
        PADDING.replace("KIND", "conv").replace('top: "padded"', 'top: "padded" top: "q"'),
        "padding takes one top",
        "2:79",
    )


def test_v0_nets_that_caffe_refuses():
    e = refused('layers { layer {\n name: "a" type: "relo" } }', 'unknown V0 layer type "relo"', "2:12")
    assert e.layer == '"a" (relo)' and e.hint == 'did you mean "relu"?'
    old = 'layers { layer { name: "a" type: "relu" } top: "blob" }\nlayers { layer { name: "b" type: "relu" } bottom: "blub" }'
    e = refused(old, 'unknown bottom "blub"', "2:43")
    assert e.hint == 'did you mean "blob"?'


def test_a_v1_layer_in_a_v0_net():
    """Caffe strips it of all but its bottoms and tops, and then refuses a layer without a type."""
    refused(
        'layers { layer { type: "relu" } }\nlayers { type: RELU }',
        "a layer of the V1 form in a net of the V0 form",
        "2:1",
    )


def test_v0_settings_that_have_no_meaning_are_dropped():
    warned(
        'layers { layer { name: "a" type: "relu"\n pad: 2 num_output: 3 } }',
        'layer { name: "a" type: "ReLU" }',
        'old.prototxt:2:2: layer "a" (relu): pad is dropped: it has no meaning for the type "relu"',
        'old.prototxt:2:9: layer "a" (relu): num_output is dropped',
    )
    warned(
        'layers { layer { type: "images" new_num: 3 new_channels: 2 } }',
        'layer { type: "ImageData" }',
        "1:33: ",
        "1:44: ",
    )
    warned("layers { layer { num_output: 3 } }", "layer { }", "num_output is dropped")


def test_v0_nets_lose_what_came_later():
    warned(
        'state { level: 1 }\nlayers { layer { type: "relu" } name: "a"\n include { } }\nlayer { }',
        'layer { type: "ReLU" }',
        "old.prototxt:1:1: state is dropped, as in Caffe: V0 nets have no such field",
        "old.prototxt:4:1: layer is dropped, as in Caffe",
        "old.prototxt:2:33: name is dropped, as in Caffe: V0 layers have their settings inside layer { }",
        "old.prototxt:3:2: include is dropped, as in Caffe",
    )


def test_v0_preprocessing_and_the_transform_quirk():
    """V0's own settings are in transform_param by then: no other data layer is touched."""
    quiet(
        'layers { layer { type: "data" scale: 2 } } layers { layer { type: "images" } }',
        'layer { type: "Data" transform_param { scale: 2 } } layer { type: "ImageData" }',
    )


# --- inputs ---

RELU = 'layer { name: "r" type: "ReLU" bottom: "b" top: "y" }'


def test_input_shapes():
    made = quiet(
        f'{RELU}\ninput: "a"\ninput_shape {{ dim: 1\n dim: 2 }} input: "b"\ninput_shape {{ }}',
        f"""layer {{ name: "input" type: "Input" top: "a" top: "b" input_param {{ shape {{ dim: [1, 2] }} shape {{ }} }} }}
        {RELU}""",
    )
    first = made.layer[0]
    assert [first.at("top", i).line for i in (0, 1)] == [2, 4]
    shapes = first.input_param.shape
    assert [s.at().line for s in shapes] == [3, 5]
    assert [place(shapes[0].at("dim", i)) for i in (0, 1)] == [(3, 15), (4, 2)]
    assert made.layer[1].at("bottom").line == 1


def test_input_dims():
    quiet(
        'input: "a" input: "b" input_dim: [1, 2, 3, 4, 5, 6, 7, 8]',
        """layer { name: "input" type: "Input" top: "a" top: "b"
        input_param { shape { dim: [1, 2, 3, 4] } shape { dim: [5, 6, 7, 8] } } }""",
    )


def test_inputs_of_a_v1_net():
    quiet(
        'input: "b" input_shape { dim: 2 } layers { name: "r" type: RELU bottom: "b" top: "y" }',
        f'layer {{ name: "input" type: "Input" top: "b" input_param {{ shape {{ dim: 2 }} }} }} {RELU}',
    )


def test_inputs_beside_an_input_layer():
    other = 'layer { name: "input" type: "Input" top: "c" }'
    quiet(
        f'{other} input: "b" input_shape {{ dim: 2 }}',
        f'layer {{ name: "input" type: "Input" top: "b" input_param {{ shape {{ dim: 2 }} }} }} {other}',
    )


def test_more_shapes_than_inputs():
    new = 'layer { name: "input" type: "Input" top: "b" input_param { shape { dim: [1, 2, 3, 4] } } }'
    warned(
        'input: "b"\ninput_dim: [1, 2, 3, 4, 5]',
        new,
        "old.prototxt:2:25: 1 more input_dim than the 1 inputs need: not used",
    )
    old = 'input: "b"\ninput_shape { dim: [1, 2, 3, 4] }\ninput_shape { }'
    warned(old, new, "old.prototxt:3:1: 1 more input_shape than the 1 inputs need: not used")


def test_both_kinds_of_shape():
    warned(
        'input: "b" input_shape { dim: 2 } input_dim: 1',
        'layer { name: "input" type: "Input" top: "b" input_param { shape { dim: 2 } } }',
        "old.prototxt:1:35: input_dim is not used beside input_shape, as in Caffe",
    )


def test_fewer_shapes_than_inputs():
    e = refused('input: "a" input: "b"\ninput_dim: [1, 2, 3, 4]', "too few input_dim", "2:13")
    assert e.expected == "4 for each of the 2 inputs" and e.got == 4
    e = refused('input: "a" input: "b"\ninput_shape { }', "too few input_shape", "2:1")
    assert e.expected == "1 for each of the 2 inputs" and e.got == 1


def test_inputs_without_shapes():
    """Caffe drops them all, and cannot run what reads them; here the caller may give the shapes."""
    quiet(f'input: "a" input: "b" {RELU}', f'layer {{ name: "input" type: "Input" top: "b" }} {RELU}')
    quiet(f'input: "y" {RELU}', RELU)  # a caffemodel may name inputs that its layers make
    quiet(f'{RELU} input: "q"', RELU)
    reader = 'layer { name: "s" type: "ReLU" bottom: "y" top: "z" }'
    quiet(f'input: "y" {RELU} {reader}', f"{RELU} {reader}")
    quiet('input: "x"', "")


def test_dims_without_inputs_stay():
    quiet("input_dim: 3", "input_dim: 3")


# --- BatchNorm ---


def test_three_params_of_batch_norm():
    made = quiet(
        """layer { type: "BatchNorm" param { name: "a" lr_mult: 1 }
 param { } param { lr_mult: 2 decay_mult: 3 share_mode: STRICT } }""",
        """layer { type: "BatchNorm" param { name: "a" lr_mult: 0 decay_mult: 0 } param { lr_mult: 0 decay_mult: 0 }
        param { lr_mult: 0 decay_mult: 0 share_mode: STRICT } }""",
    )
    assert place(made.layer[0].param[2].at("lr_mult")) == place(made.layer[0].param[2].at()) == (2, 12)


def test_other_params_stay():
    for text in (
        'layer { type: "BatchNorm" param { lr_mult: 1 } param { lr_mult: 1 } }',
        'layer { type: "BatchNorm" param { lr_mult: 1 } param { } param { } param { } }',
        'layer { type: "Scale" param { lr_mult: 1 } param { } param { } }',
        'layer { type: "BatchNorm" }',
    ):
        quiet(text, text)


# --- solvers ---


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("SGD", "SGD"),
        ("NESTEROV", "Nesterov"),
        ("ADAGRAD", "AdaGrad"),
        ("RMSPROP", "RMSProp"),
        ("ADADELTA", "AdaDelta"),
        ("ADAM", "Adam"),
        ("2", "AdaGrad"),
    ],
)
def test_solver_types(old, new):
    made = check(f"base_lr: 1\nsolver_type: {old}", f'base_lr: 1 type: "{new}"', "SolverParameter")
    assert place(made.at("type")) == (2, 1)


def test_solvers_of_today_stay():
    for text in ('type: "Adam" net: "n"', "base_lr: 0.1", ""):
        check(text, text, "SolverParameter")


def test_solvers_that_caffe_refuses():
    old = 'type: "SGD"\nsolver_type: SGD'
    e = refused(old, "type and solver_type are both given", "2:1", parse_solver)
    assert e.hint == "keep type: solver_type is its old form"
    refused("\nsolver_type: SAG", "Caffe has no such solver", "2:1", parse_solver)


def test_nets_inside_a_solver():
    made = check(
        """net_param { layers { type: RELU } }
train_net_param { layers {
    type: TANH } }
test_net_param { }
test_net_param {
  layers { layer { type: "bnll" } } }
""",
        """net_param { layer { type: "ReLU" } } train_net_param { layer { type: "TanH" } }
        test_net_param { } test_net_param { layer { type: "BNLL" } }""",
        "SolverParameter",
    )
    assert place(made.train_net_param.layer[0].at("type")) == (3, 5)
    assert place(made.test_net_param[1].layer[0].at("type")) == (6, 20)


def test_load_solver(tmp_path):
    path = tmp_path / "solver.prototxt"
    path.write_text("solver_type: ADAM")
    assert load_solver(path).type == "Adam" and load_solver(path).at("type").file == str(path)
    with pytest.raises(NetError, match=r'"solver_type" is a field of a solver'):
        load(path)


# --- weights ---


BLOBS = "blobs { num: 1 channels: 1 height: 1 width: 2 data: [1, 2] } blobs { data: 3 }"


@pytest.mark.parametrize(
    "text",
    [
        f'layers {{ layer {{ name: "c" type: "conv" {BLOBS} }} }}',
        f'layers {{ name: "c" type: CONVOLUTION {BLOBS} }}',
        f'layer {{ name: "c" type: "Convolution" {BLOBS} }}',
    ],
    ids=["V0", "V1", "V2"],
)
def test_blobs_survive(text):
    binary = schema.NetParameter.FromString(parse_message(text).raw.SerializeToString())
    (layer,) = upgrade(Msg(binary)).layer
    assert (layer.name, layer.type) == ("c", "Convolution")
    first, second = layer.blobs
    assert list(first.data) == [1, 2] and first.width == 2 and list(second.data) == [3]
    assert first.at() is None


def test_a_bare_message_is_taken():
    net = schema.NetParameter()
    net.layers.add(type=18)
    assert upgrade(net).layer[0].type == "ReLU"
    assert len(net.layers) == 1


# --- Caffe's own results ---

# Their `input` has no shape: Caffe's tool drops it and leaves a net that does not run.
BARE = {"simple_conv.prototxt", "reshape_and_slice_routines.prototxt"}


def rows():
    with open(Path(CORPUS or "") / "INDEX.tsv", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def read(row):
    path = Path(CORPUS or "") / row["path"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NetWarning)
        return (load_solver if row["kind"] == "solver" else load)(path)


@pytest.mark.skipif(not CORPUS, reason="NETCOMPILER_CORPUS is not set")
def test_as_caffes_tools_do():
    count = 0
    for row in rows():
        want = Path(CORPUS or "") / row["path"].replace("nets/", "upgraded/", 1)
        if not want.exists():
            continue
        kind = "SolverParameter" if row["kind"] == "solver" else "NetParameter"
        expected, made = parse_message(read_text(want), kind=kind), read(row)
        if row["path"].rpartition("__")[2] in BARE:
            first = made.layer[0]
            assert (first.type, len(first.top), first.has("input_param")) == ("Input", 1, False)
            del made.layer[0]
        assert made == expected, row["path"]
        count += 1
    assert count > 250


@pytest.mark.skipif(not CORPUS, reason="NETCOMPILER_CORPUS is not set")
def test_what_caffe_reads_loads_and_stays():
    """Every net and solver that Caffe's schema takes; upgrading twice is upgrading once; every layer has a place."""
    count = 0
    for row in rows():
        if row["strict_parse"] != "ok" or row["template"] != "n":
            continue
        made = read(row)
        if row["kind"] == "solver":
            assert upgrade_solver(made) == made, row["path"]
        else:
            assert upgrade(made) == made, row["path"]
            for layer in made.layer:
                field = "type" if layer.has("type") else "name"
                assert layer.at().excerpt and layer.at(field).excerpt, row["path"]
        count += 1
    assert count > 700


@pytest.mark.skipif(not CORPUS, reason="NETCOMPILER_CORPUS is not set")
def test_caffes_unit_pairs():
    """V0 to V1, V1 to V2, and padding layers: all texts of one test of Caffe's become the same net."""
    folder = Path(CORPUS or "") / "nets" / "bvlc_unit_pairs"
    tests: dict[str, list[Path]] = {}
    for path in folder.glob("upgrade__*.prototxt"):
        tests.setdefault(path.name.split("__")[1], []).append(path)
    assert len(tests) == 6
    for name, paths in tests.items():
        first, *others = [load(p) for p in paths]
        assert others and all(other == first for other in others), name
