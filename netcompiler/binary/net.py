"""The net that a .caffemodel holds -> message; its weights stay where they are."""

from __future__ import annotations

import os
import warnings
from typing import Any

from google.protobuf.message import DecodeError

from .. import dialects, schema
from ..errors import NetError, NetWarning
from ..numbers import NUMBERINGS, PLAIN, message, numberings, renumbered
from ..text import Msg
from .wire import BYTES, Wire, field_numbers, head

WANTED = "a net with its weights (.caffemodel)"


def read_net(path: str | os.PathLike[str], dialect: str | None = None) -> Msg:
    """The net inside a .caffemodel as it was saved, of whatever generation, without blobs: they are not even looked at.

    dialect: the fork that saved it, as netcompiler.dialects names them, since forks use one number for different fields.
    For None, the one under whose numbers the layers have the settings that belong to their types.
    Raises: NetError for a file that is damaged or cut short, and for one that holds no net.
    """
    tried = numberings(dialects.checked(dialect)) if dialect else ()
    wire = Wire.open(path, WANTED)
    if wire is None:
        hint = "the .caffemodel of the same snapshot has both"
        raise NetError("a .caffemodel.h5 holds weights only", at=str(path), expected=WANTED, hint=hint)
    seen = {(n, w) for n, w, _, _ in wire.fields(0, wire.size)}
    if (field_numbers("NetParameter")["layer"], BYTES) not in seen:  # no other file has that field
        wire.expect("NetParameter", seen)
    return Msg(_of_dialect(_without_blobs(wire, "NetParameter", 0, wire.size), tried, wire.file))


# The messages on the way to the blobs: no fork has given these fields other numbers.
_INNER = {
    "NetParameter": {"layer": "LayerParameter", "layers": "V1LayerParameter"},
    "V1LayerParameter": {"layer": "V0LayerParameter"},
}


def _without_blobs(wire: Wire, kind: str, start: int, stop: int) -> bytes:
    """The bytes of a message, but for the blobs of layers: those are cut out, and what stays is a message as well."""
    numbers = field_numbers(kind)
    inner = {numbers[name]: message for name, message in _INNER.get(kind, {}).items()}
    blobs = numbers.get("blobs") if kind != "NetParameter" else None
    kept, pos = [], start
    for n, w, a, b in wire.fields(start, stop):
        if n in inner and w == BYTES:
            part = _without_blobs(wire, inner[n], a, b)
            kept += [head(n, len(part)), part]
        elif n != blobs:
            kept.append(wire.data[pos:b])
        pos = b
    return b"".join(kept)


# The settings of types that are not named after them; those of all others are.
_SETTINGS = {
    "BoxGroupOutput": "box_group_output_param bbox_reg_param",
    "BoxOutput": "box_output_param bbox_reg_param",
    "CONVOLUTION3D": "convolution_param",
    "CPMData": "data_param cpm_transform_param",
    "CTCGreedyDecoder": "ctc_decoder_param",
    "ConvolutionDepthwise": "convolution_param",
    "CustomData": "data_param",
    "DataAugmentation": "augmentation_param coeff_schedule_param",
    "DecodeBBox": "bbox_reg_param decode_bbox_param",
    "Deconvolution": "convolution_param",
    "DepthwiseConvolution": "convolution_param",
    "DetectNetTransformation": "detectnet_augmentation_param detectnet_groundtruth_param",
    "EvalDetection": "eval_detection_param",
    "FlowAugmentation": "augmentation_param",
    "GeneralContrastiveLoss": "general_contrastive_loss_param",
    "GeneralTripletLoss": "general_triplet_loss_param",
    "GenerateAugmentationParameters": "augmentation_param coeff_schedule_param",
    "IMAGE_SEG_DATA": "image_data_param",
    "Im2col": "convolution_param",
    "ImageLabelmapData": "image_data_param",
    "ImageSegData": "image_data_param",
    "LOCAL": "local_param",
    "LSTM": "recurrent_param",
    "Lstm": "lstm_param",
    "MarginInnerProduct": "margin_inner_product_param",
    "MultiLabelImageData": "image_data_param",
    "NdConvolution": "convolution_param",
    "NdPooling": "pooling_param",
    "NegReLU": "relu_param",
    "Normalize": "norm_param normalize_param",
    "POOLING3D": "pooling_param",
    "PriorBoxClustered": "prior_box_param",
    "RNN": "recurrent_param",
    "ROIAlign": "roi_pooling_param roi_align_param",
    "RankHardLoss": "rank_param",
    "ReLU6": "relu_param relu6_param",
    "SoftmaxCrossEntropy2Loss": "softmax_param",
    "SoftmaxCrossEntropyLoss": "softmax_param",
    "SoftmaxWithLoss": "softmax_param",
    "SoftmaxWithLossOHEM": "softmax_param",
    "SparseData": "data_param",
    "SparseInnerProduct": "inner_product_param",
    "SpatialTransformer": "st_param",
    "VIDEO_DATA": "video_data_param image_data_param",
}
_COMMON = ("transform_param", "loss_param", "quantization_param")


def _of_dialect(data: bytes, tried: tuple[str, ...], file: str) -> Any:
    """The net under our numbers, read by those of the first numbering that fits best; by all that there are for ()."""
    plain = _parsed(data, PLAIN)
    if plain is not None and not tried:
        if _fit(plain)[:2] == (0, 0):
            return plain
        likely = numberings(dialects.detect(Msg(plain))[0])
        tried = (*likely, *(n for n in NUMBERINGS if n not in likely))
    nets = ((numbering, plain if numbering == PLAIN else _parsed(data, numbering)) for numbering in tried or NUMBERINGS)
    rated = [(_fit(net), i, numbering, net) for i, (numbering, net) in enumerate(nets) if net is not None]
    if not rated:
        raise NetError("the file is damaged: a setting of a layer cannot be read", at=file)
    (_, unknown, _), _, numbering, net = min(rated, key=lambda r: r[:2])
    if unknown and numbering != PLAIN:
        what = f"{unknown} bytes of the net's settings are of fields that no fork is known to have"
        warnings.warn(f"{file}: {what}: they are passed over", NetWarning, stacklevel=4)
    return net if numbering == PLAIN else renumbered(net, "NetParameter", None)


def _parsed(data: bytes, numbering: str) -> Any:
    """The net under the numbers of a fork; None where they make no sense of the bytes."""
    try:
        net = (schema.NetParameter if numbering == PLAIN else message("NetParameter", numbering)).FromString(data)
    except DecodeError:
        return None
    _mend(net)
    return net


def _fit(net: Any) -> tuple[int, int, int]:
    """How badly a net is read: settings that are strange to the types of their layers, and bytes that are not known at
    all; and of the others, how many there are, less than 0."""
    strange = known = 0
    for layer in (*net.layer, *net.layers):
        kind = layer.type if isinstance(layer.type, str) else _v1_type(layer)
        own = {f"{kind.lower().replace('_', '')}param", *_SETTINGS.get(kind, "").replace("_", "").split()}
        for field, _ in layer.ListFields():
            if field.name.endswith("_param") and field.name not in _COMMON:
                belongs = field.name.replace("_", "") in own
                known, strange = known + belongs, strange + (not belongs)
    return strange, _unknown(net), -known


def _v1_type(layer: Any) -> str:
    return str(layer.DESCRIPTOR.fields_by_name["type"].enum_type.values_by_number[layer.type].name)


def _unknown(net: Any) -> int:
    """The size of the fields that the schema of a message does not have."""
    known = type(net)()
    known.CopyFrom(net)
    known.DiscardUnknownFields()
    return len(net.SerializePartialToString()) - len(known.SerializePartialToString())


def _mend(raw: Any) -> None:
    """Strings that are not UTF-8, which protobuf hands over as bytes, are read as Latin-1, as in a prototxt."""
    for field, value in raw.ListFields():
        values = value if schema.is_repeated(field) else (value,)
        if field.message_type is not None:
            for part in values:
                _mend(part)
        elif field.type == field.TYPE_STRING and any(isinstance(v, bytes) for v in values):
            texts = [v.decode("latin-1") if isinstance(v, bytes) else v for v in values]
            if schema.is_repeated(field):
                value[:] = texts
            else:
                setattr(raw, field.name, texts[0])
