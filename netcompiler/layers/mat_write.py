"""MatWrite, and FlowNet's writers of files."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetWarning
from ..graph import Shapes
from ..text import Msg
from .base import ANY, Layer, layer

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Sink(Layer):
    """The end of blobs that a fork writes to files. No file is written here: building a net with it warns (NetWarning)."""

    n_bottom = (1, ANY)
    n_top = (0, 0)

    file: str = ""

    @classmethod
    def path(cls, msg: Msg) -> str:
        """The name of the files, or what they have in common."""
        raise NotImplementedError(cls)

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        name = cls.path(msg)
        blobs = " and ".join(f'"{b}"' for b in msg.bottom)
        told = f'layer "{msg.name}" ({cls.kind}): {name or "its file"} is not written; to have {blobs} name them in outputs='
        warnings.warn(told, NetWarning, stacklevel=2)
        return cls(name)

    def tops(self, bottoms: Shapes) -> Shapes:
        return ()

    def forward(self, m: Any, *bottoms: Tensor) -> tuple[Tensor, ...]:
        return ()


@layer("MatWrite")
@dataclass(frozen=True, slots=True)
class MatWrite(Sink):
    """The end of blobs that DeepLab writes to files of Matlab. No file is written here.

    bottom[i]: any shape      no top
    Source: TheLegendAli/DeepLab-Context, src/caffe/layers/mat_write_layer.cpp.
    """

    ignored = frozenset({"source", "strip", "period"})

    @classmethod
    def path(cls, msg: Msg) -> str:
        return str(msg.mat_write_param.prefix)


@dataclass(frozen=True, slots=True)
class FlowWriter(Sink):
    """What FlowNet's writers share: a WriterParameter."""

    ignored = frozenset({"normalize", "scale"})

    @classmethod
    def path(cls, msg: Msg) -> str:
        p = msg.writer_param
        parts = p.folder, p.prefix, p.suffix
        return str(p.file or "".join(parts))


@layer("PFMWriter")
@dataclass(frozen=True, slots=True)
class PFMWriter(FlowWriter):
    """The end of blobs that iResNet writes to PFM files. No file is written here.

    bottom[i]: any shape      no top
    Source: leonzfa/iResNet, src/caffe/layers/pfmwriter_layer.cpp.
    """


@layer("FLOWriter")
@dataclass(frozen=True, slots=True)
class FLOWriter(FlowWriter):
    """The end of flows that FlowNet2 writes to FLO files. No file is written here.

    bottom[i]: any shape      no top
    Source: lmb-freiburg/flownet2, src/caffe/layers/flowriter_layer.cpp.
    """


@layer("IMGWriter")
@dataclass(frozen=True, slots=True)
class IMGWriter(FlowWriter):
    """The end of blobs that FlowNet2 writes to picture files. No file is written here.

    bottom[i]: any shape      no top
    Source: lmb-freiburg/flownet2, src/caffe/layers/imgwriter_layer.cpp.
    """


@layer("FLOATWriter")
@dataclass(frozen=True, slots=True)
class FLOATWriter(FlowWriter):
    """The end of blobs that FlowNet2 writes to files of numbers. No file is written here.

    bottom[i]: any shape      no top
    Source: lmb-freiburg/flownet2, src/caffe/layers/floatwriter_layer.cpp.
    """
