"""ConvolutionDepthwise and DepthwiseConvolution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from ..graph import Shapes
from ..text import Msg
from .base import exactly, layer
from .convolution import Convolution


@layer("ConvolutionDepthwise")
@dataclass(frozen=True, slots=True)
class ConvolutionDepthwise(Convolution):
    """Convolution of each channel by itself.

    bottom: N x C x H x W      top: N x C x H' x W', of Convolution's sizes
    num_output and group have no effect: both are C.
    blobs: weight C x 1 x KH x KW;  bias C (none when bias_term is false).
    MACs: N H' W' C KH KW; bias not counted.
    Source: jolibrain/caffe, src/caffe/layers/conv_dw_layer.cpp (of farmingyard/ShuffleNet).
    """

    n_bottom = (1, 1)
    n_top = (1, 1)

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        exactly(4, bottoms)
        p = msg.convolution_param
        for name, value in (("num_output", bottoms[0][1]), ("group", bottoms[0][1]), ("axis", 1)):
            setattr(p, name, value)
        return super(ConvolutionDepthwise, cls).read(msg, bottoms)


@layer("DepthwiseConvolution")
@dataclass(frozen=True, slots=True)
class DepthwiseConvolution(Convolution):
    """Convolution, by a faster kernel where group is num_output. Quirk: without `group` it is dense, as Convolution is.

    bottom[i], top[i], blobs, MACs: see Convolution.
    Source: yonghenglh6/DepthwiseConvolution, caffe/src/caffe/layers/depthwise_conv_layer.cpp.
    """
