"""What Intel Caffe's nets say in one place and mean in another; done before the layers are read."""

from __future__ import annotations

from collections.abc import Sequence

from .text import Msg

FILLERS = ("filler", "bias_filler")


def settle(net: Msg, layers: Sequence[Msg]) -> None:
    """Write into the layers of a net, in one state, what they are told elsewhere.

    bn_stats_batch_size is the stats_batch_size of all BatchNorm layers. The fillers of a BatchNorm layer whose top goes
    to a Scale layer are that one's, since Intel Caffe runs the two as one layer.
    Source: Intel Caffe, src/caffe/util/apply_bn_stats_batch_size.cpp, and net.cpp, CompilationRuleOne.
    """
    size = net.bn_stats_batch_size if net.has("bn_stats_batch_size") else None
    for i, m in enumerate(layers):
        if m.type != "BatchNorm":
            continue
        if size is not None:
            m.batch_norm_param.stats_batch_size = size
        if _leaves_weight_to_scale(m):
            reader = next((k for k in layers[i + 1 :] if m.raw.top[0] in k.raw.bottom), None)
            if reader is not None and reader.type == "Scale" and len(reader.raw.bottom) == 1:
                _move_fillers(m.batch_norm_param, reader.scale_param)


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
