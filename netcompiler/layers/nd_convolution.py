"""NdConvolution, Convolution3D and Deconvolution3D."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from ..errors import NetError
from ..graph import Array, Shape, Shapes
from ..text import Msg
from .base import exactly, layer
from .convolution import Convolution
from .deconvolution import Deconvolution

AXES = ("kernel", "stride", "pad")
VOLUME = 5  # axes of a batch of volumes
LEAST = {"kernel": 1, "stride": 1, "pad": 0}


def _shapes(p: Msg) -> dict[str, Shape]:
    """What kernel_shape, stride_shape and pad_shape say."""
    if not p.kernel_shape.dim:
        raise NetError("kernel_shape is missing", at=p.at("kernel_shape"))
    kernel = tuple(p.kernel_shape.dim)
    found = {"kernel": kernel}
    for name in AXES[1:]:
        given = tuple(getattr(p, f"{name}_shape").dim)
        found[name] = given or (LEAST[name],) * len(kernel)
        if len(found[name]) != len(kernel):
            at = p.at(f"{name}_shape")
            raise NetError(f"{name}_shape does not fit kernel_shape", at=at, expected=len(kernel), got=len(given))
    for name, sizes in found.items():
        if min(sizes) < LEAST[name]:
            raise NetError(f"{name}_shape is too small", at=p.at(f"{name}_shape"), expected=f"at least {LEAST[name]}")
    return found


def _volume(p: Msg) -> dict[str, Shape]:
    """What the fields of C3D say: kernel_size for rows and columns, kernel_depth for steps in time, and the like."""
    found: dict[str, Shape] = {}
    for name, plain, depth, usual in (
        ("kernel", "kernel_size", "kernel_depth", None),
        ("stride", "stride", "temporal_stride", 1),
        ("pad", "pad", "temporal_pad", 0),
    ):
        values = getattr(p, plain)
        sides = [values] * p.has(plain) if isinstance(values, int) else list(values)
        if len(sides) > 1:
            raise NetError(f"{plain} has too many values", at=p.at(plain, 1), expected=1, got=len(sides))
        deep = depth in p.raw.DESCRIPTOR.fields_by_name and (usual is None or p.has(depth))
        if usual is None and not (sides and p.has(depth)):
            missing = depth if sides else plain
            raise NetError(f"{missing} is missing", at=p.at(missing))
        side = int(sides[0] if sides else usual or 0)
        found[name] = (int(getattr(p, depth) if deep else usual or 0), side, side)
        if min(found[name]) < LEAST[name]:
            raise NetError(f"{plain} is too small", at=p.at(plain), expected=f"at least {LEAST[name]}")
    return found


def _written(msg: Msg, found: dict[str, Shape], **others: Any) -> Msg:
    """The message with these sizes in the fields that Convolution reads."""
    p = msg.convolution_param
    for name, field in zip(AXES, ("kernel_size", "stride", "pad"), strict=True):
        getattr(p.raw, field)[:] = found[name]
    for name, value in others.items():
        setattr(p.raw, name, value)
    return msg


@layer("NdConvolution")
@dataclass(frozen=True, slots=True)
class NdConvolution(Convolution):
    """Convolution over as many spatial axes as kernel_shape has.

    bottom[i], top[i], MACs: see Convolution; kernel_shape, stride_shape and pad_shape have one dim for each spatial axis.
    blobs: weight num_output x C/group x kernel_shape;  bias num_output (none when bias_term is false).
    Source: chuckcho/video-caffe, src/caffe/layers/cudnn_ndconv_layer.cpp.
    """

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        found = _shapes(msg.convolution_param)
        exactly(2 + len(found["kernel"]), bottoms)
        return super(NdConvolution, cls).read(_written(msg, found, axis=1), bottoms)

    def adopted(self, arrays: Sequence[Array]) -> Sequence[Array]:
        return _flat_bias(arrays)


@layer("Convolution3D")
@dataclass(frozen=True, slots=True)
class Convolution3D(Convolution):
    """Convolution of volumes: pictures over time.

    bottom: N x C x L x H x W      top: N x num_output x L' x H' x W', of Convolution's sizes
    kernel_depth, temporal_stride and temporal_pad are for L; kernel_size, stride and pad for H and W.
    group and filter_group have no effect: every filter reads all channels.
    blobs: weight num_output x C x KL x KH x KW;  bias num_output (none when bias_term is false).
    MACs: N L' H' W' num_output C KL KH KW; bias not counted.
    The fields are in convolution_param (C3D 1.0) or in convolution3d_param (C3D 1.1).
    Source: facebookarchive/C3D, src/caffe/layers/convolution3d_layer.cpp.
    """

    n_bottom = (1, 1)
    n_top = (1, 1)

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        return super(Convolution3D, cls).read(_of_c3d(msg, bottoms), bottoms)

    def adopted(self, arrays: Sequence[Array]) -> Sequence[Array]:
        return _flat_bias(arrays)


@layer("Deconvolution3D")
@dataclass(frozen=True, slots=True)
class Deconvolution3D(Deconvolution):
    """Convolution3D the other way round, with its fields.

    bottom: N x C x L x H x W      top: N x num_output x L' x H' x W', of Deconvolution's sizes
    blobs: weight C x num_output x KL x KH x KW;  bias num_output (none when bias_term is false).
    MACs: N L H W C num_output KL KH KW; bias not counted.
    Source: of facebook/C3D 1.0, whose code for it is not public; sizes and blobs are those of Caffe's Deconvolution.
    """

    n_bottom = (1, 1)
    n_top = (1, 1)

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        return super(Deconvolution3D, cls).read(_of_c3d(msg, bottoms), bottoms)

    def adopted(self, arrays: Sequence[Array]) -> Sequence[Array]:
        return _flat_bias(arrays)


def _of_c3d(msg: Msg, bottoms: Shapes) -> Msg:
    """The message of a layer over volumes, with what it says where Convolution reads it."""
    exactly(VOLUME, bottoms)
    if not msg.has("convolution3d_param"):
        p = msg.convolution_param
        p.has("group")
        return _written(msg, _volume(p), axis=1, group=1)
    if msg.has("convolution_param"):
        what, at = "convolution_param and convolution3d_param are both given", msg.at("convolution3d_param")
        raise NetError(what, at=at, hint="keep one of the two")
    p = msg.convolution3d_param
    for name in ("group", "filter_group"):
        p.has(name)
    found = _volume(p)
    raw = msg.convolution_param.raw
    raw.weight_filler.CopyFrom(p.weight_filler.raw)
    raw.bias_filler.CopyFrom(p.bias_filler.raw)
    for filler in (p.weight_filler, p.bias_filler):
        for field, _ in filler.raw.ListFields():
            filler.has(field.name)
    if p.num_output < 1:
        raise NetError("num_output must be positive", at=p.at("num_output"), got=p.num_output)
    return _written(msg, found, num_output=p.num_output, bias_term=p.bias_term)


def _flat_bias(arrays: Sequence[Array]) -> Sequence[Array]:
    """The bias, which the forks write with more axes, with one."""
    return [*arrays[:1], *(a.reshape(-1) for a in arrays[1:])]
