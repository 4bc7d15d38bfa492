"""Dialects: which fork a net is written for, and the numbers that fields have in the forks' own files."""

import json
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

import netcompiler
from netcompiler import NetError, dialects, numbers, schema
from netcompiler.binary import read_net, write_caffemodel
from netcompiler.cli import main
from netcompiler.errors import NetWarning
from netcompiler.text import parse_message
from netcompiler.upgrade import upgrade

HERE = Path(__file__).parent
GOLDENS = sorted((HERE / "golden" / "forks").glob("*/*.npz"))


def settings(net):
    """What layers are told in their own messages; Input is left out, which older forks do not have."""
    found = {}
    for layer in net.layer:
        held = [(f.name, str(v)) for f, v in layer.raw.ListFields() if f.name.endswith("_param")]
        found[layer.name] = (layer.type, [h for h in held if h[0] != "input_param"])
    return found


def read(net, path):
    """The settings of the layers of a net in a file that this net also has, and those of the net."""
    saved = settings(net)
    return {name: found for name, found in settings(read_net(path)).items() if name in saved}, saved


@pytest.mark.parametrize("golden", GOLDENS, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_forks_files_say_what_their_prototxts_say(golden, tmp_path):
    case = np.load(golden)
    path = tmp_path / "net.caffemodel"
    path.write_bytes(case["caffemodel"].tobytes())
    net = netcompiler.parse(str(case["prototxt"]))
    with warnings.catch_warnings():
        warnings.simplefilter("error", NetWarning)
        got, want = read(net, path)
    if json.loads(str(case["meta"]))["fork"] == "junhyukoh/caffe-lstm":  # from before there was a Scale layer
        got.pop("pre_x", None)
        want.pop("pre_x", None)
    assert got == want


def test_goldens_are_there():
    assert len(GOLDENS) == 100


# For each dialect a layer that its own numbers tell from those of all others, and the numbers from the fork's schema.
WRITTEN = [
    ("ssd", 'type: "PriorBox" prior_box_param { min_size: 3 }', 203),
    ("ssd", 'type: "Normalize" norm_param { eps: 1 }', 206),
    ("fast-rcnn", 'type: "ROIPooling" roi_pooling_param { pooled_h: 3 }', 8266711),
    ("rfcn", 'type: "PSROIPooling" psroi_pooling_param { group_size: 3 }', 10001),
    ("segnet", 'type: "DenseImageData" dense_image_data_param { source: "x" }', 46),
    ("pspnet", 'type: "BN" bn_param { slope_filler { value: 2 } frozen: true }', 152),
    ("jolibrain", 'type: "SeLu" selu_param { alpha: 2 }', 149),
    ("happynear", 'type: "InnerDistance" inner_distance_param { num_output: 3 }', 213),
    ("cascade-rcnn", 'type: "BoxGroupOutput" box_group_output_param { fg_thr: 2 }', 158),
    ("mscnn", 'type: "BoxOutput" box_output_param { fg_thr: 2 }', 151),
    ("yolo", 'type: "Yolov3DetectionOutput" yolov3_detection_output_param { num_box: 2 }', 602),
    ("ctpn", 'type: "Transpose" transpose_param { dim: 1 }', 142),
    ("caffe-face", 'type: "CenterLoss" center_loss_param { num_output: 3 }', 147),
    ("sphereface", 'type: "MarginInnerProduct" margin_inner_product_param { num_output: 3 }', 147),
    ("iresnet", 'type: "Resample" resample_param { width: 3 }', 155),
    ("c3d", 'type: "Convolution3D" convolution3d_param { num_output: 3 }', 6661),
    ("spatial-transformer", 'type: "SpatialTransformer" st_param { output_H: 3 }', 148),
    ("video-caffe", 'type: "VideoData" video_data_param { new_length: 3 }', 7777),
    ("intel", 'type: "Split" engine: "MKLDNN"', 149),
    ("nvcaffe", 'type: "Split" forward_type: FLOAT16', 145),
]


@pytest.mark.parametrize(("dialect", "layer", "number"), WRITTEN)
def test_files_are_written_in_the_dialects_numbers(dialect, layer, number, tmp_path):
    net = netcompiler.parse(f'layer {{ name: "x" {layer} }}')
    with warnings.catch_warnings():
        warnings.simplefilter("error", NetWarning)
        write_caffemodel(tmp_path / "out", net, {"x": [np.ones(3, np.float32)]}, dialect=dialect)
        back = read_net(tmp_path / "out", dialect)
    plain = schema.NetParameter.FromString((tmp_path / "out").read_bytes()).layer[0]
    assert plain.blobs[0].data == [1, 1, 1]
    assert number in _numbers(plain)
    assert settings(back) == settings(net)
    assert netcompiler.read_weights(tmp_path / "out")["x"][0].tolist() == [1, 1, 1]


def _numbers(raw):
    """The numbers of the fields in a message's bytes, unknown ones too."""
    from google.protobuf.unknown_fields import UnknownFieldSet

    return {f.number for f, _ in raw.ListFields()} | {f.field_number for f in UnknownFieldSet(raw)}


def test_the_dialect_is_detected_where_a_file_is_written(tmp_path):
    net = netcompiler.parse('layer { name: "p" type: "PriorBox" prior_box_param { min_size: 3 } }')
    write_caffemodel(tmp_path / "out", net, {})
    assert settings(read_net(tmp_path / "out", "ssd")) == settings(net)


def test_of_several_forks_of_a_dialect_the_one_that_knows_most(tmp_path):
    """SegNet's and ENet's number of the same field."""
    for name, number in (("segnet", 137), ("segnet/enet", 147)):
        raw = numbers.message("NetParameter", name)()
        layer = raw.layer.add(name="up", type="Upsample")
        layer.upsample_param.upsample_h = 5
        assert layer.DESCRIPTOR.fields_by_name["upsample_param"].number == number
        (tmp_path / "in").write_bytes(raw.SerializeToString())
        for dialect in (None, "segnet"):
            assert read_net(tmp_path / "in", dialect).layer[0].upsample_param.upsample_h == 5


def test_values_of_enums_have_numbers_of_their_own(tmp_path):
    """NONE is 3 in BVLC's files; in R-FCN's that is PRE_FIXED."""
    text = 'layer { name: "a" type: "BoxAnnotatorOHEM" box_annotator_ohem_param { roi_per_img: 1 } loss_param { %s } }'
    for value in ("normalization: PRE_FIXED pre_fixed_normalizer: 8", "normalization: NONE"):
        net = netcompiler.parse(text % value)
        write_caffemodel(tmp_path / "out", net, {})
        assert settings(read_net(tmp_path / "out")) == settings(net)
    raw = schema.NetParameter.FromString((tmp_path / "out").read_bytes()).layer[0].loss_param
    assert _numbers(raw) == {3} and not raw.HasField("normalization")  # 4 is no value of BVLC's


def test_v1_types_of_forks(tmp_path):
    """Types are numbers there: DeepLab's 41 is INTERP, 39 is IMAGE_SEG_DATA where BVLC has DECONVOLUTION."""
    text = """
      layers { name: "d" type: IMAGE_SEG_DATA top: "d" image_data_param { source: "l" has_label: false } }
      layers { name: "c" type: CONVOLUTION bottom: "d" top: "c" convolution_param { num_output: 2 hole: 2 } }
      layers { name: "i" type: INTERP bottom: "c" top: "i" interp_param { zoom_factor: 8 } strict_dim: false }"""
    net = parse_message(text)
    raw = numbers.renumbered(net.raw, "NetParameter", "deeplab/v1")
    assert raw.layers[0].type == 39 and raw.layers[2].type == 41
    (tmp_path / "in").write_bytes(raw.SerializeToString())
    assert read_net(tmp_path / "in") == net
    assert [m.type for m in upgrade(read_net(tmp_path / "in")).layer] == ["ImageSegData", "Convolution", "Interp"]


def test_what_no_fork_knows_is_told(tmp_path):
    raw = numbers.message("NetParameter", "ssd")()
    raw.layer.add(name="p", type="PriorBox").prior_box_param.min_size.append(3)
    raw.layer[0].prior_box_param.MergeFromString(b"\xf8\x0a\x01")
    (tmp_path / "in").write_bytes(raw.SerializeToString())
    with pytest.warns(NetWarning, match="3 bytes of the net's settings are of fields that no fork is known to have"):
        assert read_net(tmp_path / "in").layer[0].prior_box_param.min_size[:] == [3]


def test_bytes_that_a_dialect_cannot_read_as_its_own(tmp_path):
    """A message where the fork has none: another fork's file. It is read as far as it goes."""
    raw = numbers.message("NetParameter", "yolo")()
    raw.layer.add(name="u", type="Upsample").upsample_param.scale = 2
    (tmp_path / "in").write_bytes(raw.SerializeToString())
    assert read_net(tmp_path / "in").layer[0].upsample_param.scale == 2
    with pytest.warns(NetWarning, match="bytes of the net's settings"):
        read_net(tmp_path / "in", "ssd")
    with pytest.raises(NetError, match='unknown dialect "sdd"') as e:
        read_net(tmp_path / "in", "sdd")
    assert "ssd" in e.value.hint and "pspnet" in str(e.value.expected)


# --- the table ---


def test_every_numbering_is_of_a_dialect():
    assert {n.split("/")[0] for n in numbers.NUMBERINGS} <= set(dialects.NAMES)
    for numbering in numbers.NUMBERINGS:
        assert numbers.message("LayerParameter", numbering)  # no number is given twice
    for dialect in dialects.NAMES:
        assert set(numbers.numberings(dialect)) <= set(numbers.NUMBERINGS)


FIXED = {"NetParameter": "name layer layers", "LayerParameter": "name type blobs", "BlobProto": "data shape"}


def test_numbers_of_blobs_are_the_same_everywhere():
    for numbering in numbers.NUMBERINGS:
        for kind, fields in FIXED.items():
            own, ours = numbers.message(kind, numbering).DESCRIPTOR, schema.message(kind).DESCRIPTOR
            for field in fields.split():
                assert own.fields_by_name[field].number == ours.fields_by_name[field].number


def test_no_number_of_ours_stands_in_a_file():
    table = json.loads((HERE.parent / "netcompiler" / "numbers.json").read_text())
    for numbering in numbers.NUMBERINGS:
        told = {n for part in table.get(numbering, {}).values() for n in part.values()}
        told |= {n for part in table.get(numbering.split("/")[0], {}).values() for n in part.values()}
        for kind in ("LayerParameter", "PoolingParameter", "LossParameter", "BNParameter"):
            for field in numbers.message(kind, numbering).DESCRIPTOR.fields:
                assert field.number < numbers.OF_TEXT or field.number in told


def test_the_table_is_that_of_the_comments():
    pytest.importorskip("grpc_tools")
    code = "import build, json, sys; json.dump([build.numbers(), build.comments()], sys.stdout)"
    out = subprocess.run(
        [sys.executable, "-c", code], cwd=HERE.parent / "proto", capture_output=True, text=True, check=True
    )
    told, comments = json.loads(out.stdout)
    package = HERE.parent / "netcompiler"
    assert told == json.loads((package / "numbers.json").read_text())
    assert comments == json.loads((package / "serve" / "comments.json").read_text())


# --- detection ---

DETECTED = [
    ("bvlc", 'type: "Convolution" convolution_param { num_output: 3 }'),
    ("bvlc", 'type: "Normalize" bottom: "x"'),
    ("bvlc", 'type: "SmoothL1Loss"'),
    ("nvcaffe", 'type: "BatchNorm" batch_norm_param { scale_bias: true }'),
    ("nvcaffe", 'type: "ReLU" forward_type: FLOAT16'),
    ("intel", 'type: "ReLU" relu_param { engine: MKL2017 }'),
    ("intel", 'type: "Convolution" convolution_param { relu: true }'),
    ("ssd", 'type: "PriorBox"'),
    ("ssd", 'type: "Normalize" norm_param {}'),
    ("fast-rcnn", 'type: "ROIPooling"'),
    ("fast-rcnn", 'type: "Dropout" dropout_param { scale_train: false }'),
    ("rfcn", 'type: "SmoothL1LossOHEM" loss_param { normalization: PRE_FIXED }'),
    ("mini-caffe", 'type: "Proposal"'),
    ("mscnn", 'type: "BoxOutput"'),
    ("cascade-rcnn", 'type: "DecodeBBox"'),
    ("segnet", 'type: "BN" bn_param { bn_mode: INFERENCE }'),
    ("segnet", 'type: "Upsample" bottom: "x" bottom: "mask" upsample_param { scale: 2 }'),
    ("yolo", 'type: "Upsample" bottom: "x" upsample_param { scale: 2 }'),
    ("yolo", 'type: "Reorg"'),
    ("deconvnet", 'type: "UnPooling"'),
    ("pspnet", 'type: "BN" bn_param { frozen: true }'),
    ("pspnet", 'type: "Interp"'),
    ("pspnet", 'type: "VideoData" video_data_param { name_pattern: "x" }'),
    ("jolibrain", 'type: "Interp" interp_param { mode: NEAREST }'),
    ("deeplab", 'type: "Convolution" convolution_param { hole: 2 }'),
    ("happynear", 'type: "Normalize" normalize_param {}'),
    ("happynear", 'type: "Flip"'),
    ("ctpn", 'type: "BN" bn_param { var_eps: 1 }'),
    ("ctpn", 'type: "Transpose"'),
    ("crnn", 'type: "ContinuationIndicator" continuation_indicator_param { batch_size: 2 }'),
    ("caffe-lstm", 'type: "Lstm"'),
    ("shufflenet", 'type: "ShuffleChannel"'),
    ("depthwise", 'type: "DepthwiseConvolution"'),
    ("senet", 'type: "CuDNNBatchNorm" cudnn_batch_norm_param { frozen: true momentum: 1 eps: 1 }'),
    ("sphereface", 'type: "MarginInnerProduct"'),
    ("caffe-face", 'type: "CenterLoss"'),
    ("spatial-transformer", 'type: "SpatialTransformer"'),
    ("iresnet", 'type: "FlowWarp"'),
    ("c3d", 'type: "Pooling" pooling_param { kernel_depth: 2 }'),
    ("video-caffe", 'type: "NdPooling"'),
    ("crfasrnn", 'type: "MultiStageMeanfield"'),
    ("greentea", 'type: "MergeCrop"'),
    ("colorization", 'type: "ColorConv"'),
    ("openvino", 'type: "PriorBoxClustered"'),
    ("caffe-hrt", 'type: "LOCAL"'),
    ("openpose", 'type: "CPMData"'),
    ("exp-caffe", 'type: "ColinearConvolution"'),
    ("video-triplet", 'type: "RankHardLoss"'),
    ("parsenet", 'type: "ParseOutput"'),
    ("squeezedet", 'type: "SqueezeDetLoss"'),
    ("waifu2x", 'type: "CropCenter"'),
    ("ternary", 'type: "Convolution" weights_compress: "Ternary" weights_compress_param { maxbits: 8 }'),
    ("mycaffe", 'type: "Data" include { phase: RUN }'),
    ("mycaffe", 'type: "Data" data_param { backend: IMAGEDB }'),
]


@pytest.mark.parametrize(("dialect", "layer"), DETECTED)
def test_detection(dialect, layer):
    found, sign = dialects.detect(netcompiler.parse(f'layer {{ name: "x" {layer} }}'))
    assert found == dialect
    assert sign.endswith('in layer "x"') if dialect != "bvlc" else not sign


def test_every_dialect_is_detected():
    assert {name for name, _ in DETECTED} == set(dialects.NAMES)


def test_signs_of_the_net_and_the_most_signs():
    net = netcompiler.parse('default_forward_type: FLOAT16 layer { type: "ReLU" }')
    assert dialects.detect(net) == ("nvcaffe", "default_forward_type of the net")
    text = 'layer { name: "p" type: "PSROIPooling" } layer { type: "PriorBox" } layer { type: "DetectionOutput" }'
    assert dialects.detect(netcompiler.parse(text))[0] == "ssd"


def test_dialects_have_names_and_forks_of_their_own():
    assert len(set(dialects.NAMES)) == len(dialects.NAMES)
    forks = [fork for d in dialects.DIALECTS for fork in d.forks]
    assert len(set(forks)) == len(forks)
    signs = [sign for d in dialects.DIALECTS for sign in d.signs]
    assert len(set(signs)) == len(signs)


def test_what_the_caller_says_counts():
    net = netcompiler.parse('layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }')
    graph = netcompiler.build(net, dialect="hszhao/PSPNet")
    assert (graph.dialect, graph.dialect_sign) == ("pspnet", "")
    assert netcompiler.build(net).dialect == "bvlc"
    with pytest.raises(NetError) as e:
        netcompiler.build(net, dialect="cafe")
    assert e.value.at == "--dialect" and "pspnet" in str(e.value.expected)


# --- the command ---

INPUT = 'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 3 dim: 2 dim: 2 } } }'
NET = f"""{INPUT}
layer {{ name: "n" type: "Normalize" bottom: "x" top: "y" norm_param {{ across_spatial: false }} }}
"""


@pytest.fixture
def command(tmp_path, capsys):
    """Runs `netcompile`; the exit code, what it says, and what it complains of."""

    def run(*words, text=NET):
        (tmp_path / "net.prototxt").write_text(text)
        code = main([str(tmp_path / w[1:]) if w.startswith("@") else w for w in words])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def test_the_report_tells_the_dialect(command):
    assert 'dialect      ssd (norm_param in layer "n")' in command("@net.prototxt", "-q")[1]
    assert "dialect      happynear (as told)" in command("@net.prototxt", "-q", "--dialect", "happynear")[1]
    assert 'dialect      ssd (norm_param in layer "n")' in command("@net.prototxt", "--figures")[1]
    assert "dialect" not in command("@net.prototxt", "-q", text=INPUT)[1]
    report = json.loads(command("@net.prototxt", "--json")[1])
    assert (report["dialect"], report["dialect_sign"]) == ("ssd", 'norm_param in layer "n"')


@pytest.mark.parametrize(
    "words",
    [
        ["@net.prototxt"],
        ["@net.prototxt", "--figures"],
        ["@net.prototxt", "-o", "@net.svg"],
        ["check", "@net.prototxt"],
        ["diff", "@net.prototxt", "@net.prototxt"],
        ["time", "@net.prototxt", "--iters", "1"],
    ],
)
def test_commands_take_a_dialect(command, words):
    code, _, told = command(*words, "--dialect", "caffe-ssd")
    assert code == 2 and 'unknown dialect "caffe-ssd"' in told and "pspnet" in told
    assert command(*words, "--dialect", "ssd")[0] == 0


def test_commands_for_data_take_a_dialect(command, tmp_path):
    text = """
      layer { name: "d" type: "DummyData" top: "x" dummy_data_param { shape { dim: 2 dim: 3 } } }
      layer { name: "ip" type: "InnerProduct" bottom: "x" top: "y" inner_product_param { num_output: 2 } }
      layer { name: "l" type: "Reduction" bottom: "y" top: "l" loss_weight: 1 }"""
    solver = "base_lr: 0.1 lr_policy: 'fixed' max_iter: 1 net: 'net.prototxt' solver_mode: CPU snapshot_prefix: 'w'"
    (tmp_path / "solver.prototxt").write_text(solver.replace("'w'", f"'{tmp_path}/w'"))
    assert command("train", "@solver.prototxt", "-q", "--dialect", "ssd", text=text)[0] == 0
    weights = str(tmp_path / "w_iter_1.caffemodel")
    for dialect, code in (("ssd", 0), ("caffe-ssd", 2)):
        assert command("train", "@solver.prototxt", "-q", "--dialect", dialect, text=text)[0] == code
        words = ("test", "@net.prototxt", "-w", weights, "--iterations", "1", "--device", "cpu")
        assert command(*words, "--dialect", dialect, text=text)[0] == code


def test_a_file_is_written_for_the_dialect(command, tmp_path):
    assert command("@net.prototxt", "-q", "-o", "@net.caffemodel")[0] == 0
    assert settings(read_net(tmp_path / "net.caffemodel", "ssd"))["n"][1] == [("norm_param", "across_spatial: false\n")]
    code, out, _ = command("diff", "@net.prototxt", "@net.caffemodel")
    assert code == 0 and "no differences" in out
    told = command("@net.prototxt", "-q", "-o", "@net.caffemodel", "--dialect", "rfcn")[2]
    assert "left out: norm_param, which have no number in files of rfcn" in told


def test_unknown_fields_by_the_command(command, tmp_path):
    text = NET.replace("across_spatial: false", "across_spatial: false wizard: 3")
    code, _, told = command("@net.prototxt", "-q", text=text)
    assert code == 2 and "--unknown keep" in told
    code, _, told = command("@net.prototxt", "-q", "--unknown", "keep", "-o", "@new.prototxt", text=text)
    assert code == 0 and 'net.prototxt:2:93: NormalizeParameter has no field "wizard": kept, without effect' in told
    assert "norm_param { across_spatial: false wizard: 3 }" in (tmp_path / "new.prototxt").read_text()
    code, _, told = command("@net.prototxt", "--unknown", "keep", "-o", "@new.svg", text=text)
    assert code == 0 and "kept, without effect" in told
    assert command("check", "@net.prototxt", text=text)[0] == 2
    code, out, _ = command("check", "@net.prototxt", "--unknown", "keep", text=text)
    assert code == 0 and '2:93: NormalizeParameter has no field "wizard": kept, without effect' in out
    report = json.loads(command("check", "@net.prototxt", "--unknown", "keep", "--json", text=text)[1])
    assert len(report["files"][0]["kept"]) == 1
