"""What nets of Intel Caffe, greentea and MyCaffe say in one place and mean in another; done before the layers are read."""

from __future__ import annotations

from .schema import LayerParameter
from .text import Msg

FILLERS = ("filler", "bias_filler")


def settle(net: Msg, layers: list[Msg]) -> None:
    """Write into the layers of a net, in one state, what they are told elsewhere; layers that fuse two become the two.

    bn_stats_batch_size is the stats_batch_size of all BatchNorm layers. The fillers of a BatchNorm layer whose top goes
    to a Scale layer are that one's, since Intel Caffe runs the two as one layer. MyCaffe's Lstm with recurrent_param is
    Caffe's LSTM, but for what cuDNN alone does.
    Source: Intel Caffe, src/caffe/util/apply_bn_stats_batch_size.cpp, and net.cpp, CompilationRuleOne.
    """
    _unfuse(layers)
    size = net.bn_stats_batch_size if net.has("bn_stats_batch_size") else None
    for i, m in enumerate(layers):
        if m.type == "Lstm" and m.has("recurrent_param") and not _of_cudnn(m):
            m.type = "LSTM"
        if m.type != "BatchNorm":
            continue
        if size is not None:
            m.batch_norm_param.stats_batch_size = size
        if _leaves_weight_to_scale(m):
            reader = next((k for k in layers[i + 1 :] if m.raw.top[0] in k.raw.bottom), None)
            if reader is not None and reader.type == "Scale" and len(reader.raw.bottom) == 1:
                _move_fillers(m.batch_norm_param, reader.scale_param)


def _of_cudnn(m: Msg) -> bool:
    """Whether MyCaffe runs a recurrent layer with cuDNN, so that its weights are one blob; by default it is Caffe's here."""
    p = m.raw.recurrent_param
    return not p.expose_hidden and (p.engine == p.CUDNN or p.num_layers > 1)


def _unfuse(layers: list[Msg]) -> None:
    """greentea's fuse_type: a Convolution with a ReLU, and an LRN layer with a MAX Pooling layer behind it.

    Other fusions stay as they are, for the layer to refuse them.
    Source: naibaf7/caffe, models/inference_optimize; 01org/caffe, include/caffe/layers/conv_spatial_layer.hpp.
    """
    for i in reversed(range(len(layers))):
        m, conv, lrn = layers[i], layers[i].raw.convolution_param, layers[i].raw.lrn_param
        if m.type == "Convolution" and conv.fuse_type == conv.FUSED_CONV_RELU:
            m.convolution_param.relu, m.convolution_param.negative_slope = True, m.relu_param.negative_slope
            conv.ClearField("fuse_type")
        elif m.type == "LRN" and lrn.fuse_type == conv.FUSED_POOL_MAX and lrn.pooling_param.pool == 0 and m.raw.top:
            layers.insert(i + 1, _pool_behind(m))


def _pool_behind(m: Msg) -> Msg:
    """The Pooling layer that an LRN layer is fused with, taken out of it."""
    p = m.lrn_param
    pool = Msg(LayerParameter(name=f"{m.name}/pool", type="Pooling", top=m.raw.top, pooling_param=p.raw.pooling_param))
    pool.marks.at = m.at()
    pool.marks.fields["pooling_param"] = p.marks.fields.pop("pooling_param", [])
    m.raw.top[0] = pool.raw.name  # a blob of its own between the two
    pool.raw.bottom.append(pool.raw.name)
    for name in ("fuse_type", "pooling_param"):
        p.raw.ClearField(name)
    return pool


def _leaves_weight_to_scale(m: Msg) -> bool:
    """Whether a BatchNorm layer has a filler, and no weight of its own."""
    raw = m.raw.batch_norm_param
    own = any(raw.HasField(name) for name in ("use_weight_bias", "bias_term"))
    return bool(raw.HasField("filler") and not own and m.raw.top)


def _move_fillers(old: Msg, new: Msg) -> None:
    for name in FILLERS:
        if old.raw.HasField(name):
            getattr(new.raw, name).CopyFrom(getattr(old.raw, name))
            new.marks.fields[name] = old.marks.fields.pop(name, [])
            old.raw.ClearField(name)
