"""How a learned blob starts: Caffe's fillers, in numpy."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod, sqrt
from typing import Self

import numpy as np

from .errors import NetError, nearest
from .gabor import SIZES as GABOR_SIZES, filters as gabor_filters
from .graph import Array, Shape, dims
from .text import Msg


@dataclass(frozen=True, slots=True)
class Filler:
    """A FillerParameter, resolved.

    constant: value.  uniform: [min, max).  gaussian: mean, std; with sparse >= 0 each of an output's inputs is kept with
    probability sparse / fan-out axis length.  xavier: uniform of variance 1 / n.  msra: normal of variance 2 / n; n is
    fan in, fan out or their average by variance_norm.  positive_unitball: uniform [0, 1), each row scaled to sum 1.
    gaussian_unitball (happynear): gaussian of mean 0, std 1, each row divided by sqrt(sum of squares + 1e-12).
    bilinear, which ParseNet calls bilinear_upsampling: the kernel that upsamples by linear interpolation.
    gabor (Intel Caffe): fixed first filters, see gabor.py.
    Source: Caffe, include/caffe/filler.hpp; Glorot & Bengio 2010; He et al. 2015, eq. 10.
    """

    type: str = "constant"
    value: float = 0.0
    min: float = 0.0
    max: float = 1.0
    mean: float = 0.0
    std: float = 1.0
    sparse: int = -1
    variance_norm: str = "FAN_IN"

    @classmethod
    def read(cls, msg: Msg) -> Self:
        """Raises: NetError for a type that Caffe does not have."""
        if msg.type not in _FILL:
            near = nearest(msg.type, _FILL)
            raise NetError(
                f'unknown filler type "{msg.type}"',
                at=msg.at("type"),
                expected=", ".join(_FILL),
                hint=f'did you mean "{near[0]}"?' if near else None,
            )
        if msg.sparse != -1 and msg.type != "gaussian":
            raise NetError(f'sparse is not supported for the filler "{msg.type}"', at=msg.at("sparse"))
        if msg.scale != 1:
            raise NetError("scale, Intel Caffe's, is not supported", at=msg.at("scale"), expected="1", got=msg.scale)
        if msg.sparse < -1:
            raise NetError("sparse cannot be negative", at=msg.at("sparse"), got=msg.sparse)
        if msg.type == "gaussian" and msg.std < 0:
            raise NetError("a standard deviation cannot be negative", at=msg.at("std"), got=msg.std)
        return cls(msg.type, msg.value, msg.min, msg.max, msg.mean, msg.std, msg.sparse, msg.enum("variance_norm"))

    def fill(self, shape: Shape, rng: np.random.Generator) -> Array:
        """A new float32 array. Raises: NetError where the filler cannot make this shape."""
        return np.asarray(_FILL[self.type](self, shape, rng), np.float32)

    def fan(self, shape: Shape) -> float:
        """n of xavier and msra. Caffe: fan in = count / shape[0], fan out = count / shape[1] (1-D: the count)."""
        count = prod(shape)
        fan_in = count / max(shape[0], 1) if shape else count
        fan_out = count / max(shape[1], 1) if len(shape) > 1 else count
        n = {"FAN_IN": fan_in, "FAN_OUT": fan_out}.get(self.variance_norm, (fan_in + fan_out) / 2)
        return n or 1.0  # a blob without values has no fan


def _constant(f: Filler, shape: Shape, rng: np.random.Generator) -> Array:
    return np.full(shape, f.value, np.float32)


def _moved(values: Array, scale: float, by: float) -> Array:
    """scale x values + by, in place, since blobs may be large."""
    values *= scale
    values += by
    return values


def _uniform(f: Filler, shape: Shape, rng: np.random.Generator) -> Array:
    return _moved(rng.random(shape, np.float32), f.max - f.min, f.min)


def _gaussian(f: Filler, shape: Shape, rng: np.random.Generator) -> Array:
    values = _moved(rng.standard_normal(shape, np.float32), f.std, f.mean)
    if f.sparse >= 0:
        # Caffe's quirk: the chance is sparse / num_output, num_output being the first axis.
        values *= rng.random(shape, np.float32) < f.sparse / max(shape[0] if shape else 1, 1)
    return values


def _xavier(f: Filler, shape: Shape, rng: np.random.Generator) -> Array:
    scale = sqrt(3.0 / f.fan(shape))
    return _moved(_moved(rng.random(shape, np.float32), 2, -1), scale, 0)


def _msra(f: Filler, shape: Shape, rng: np.random.Generator) -> Array:
    return _moved(rng.standard_normal(shape, np.float32), sqrt(2.0 / f.fan(shape)), 0)


def _positive_unitball(f: Filler, shape: Shape, rng: np.random.Generator) -> Array:
    values = rng.random(shape, np.float32)
    rows = values.reshape(shape[0] if shape else 1, prod(shape[1:]))
    rows /= rows.sum(1, keepdims=True)
    return values


def _gaussian_unitball(f: Filler, shape: Shape, rng: np.random.Generator) -> Array:
    values = rng.standard_normal(shape, np.float32)
    rows = values.reshape(shape[0] if shape else 1, prod(shape[1:]))
    rows /= np.sqrt((rows**2).sum(1, keepdims=True) + 1e-12)
    return values


def _bilinear(f: Filler, shape: Shape, rng: np.random.Generator) -> Array:
    if len(shape) != 4 or shape[2] != shape[3]:
        raise NetError("the bilinear filler makes square 2-D kernels", expected="n x n", got=f"blob of shape {shape}")
    k = shape[3]
    half = (k + 1) // 2
    centre = (k - 1) / (2.0 * half)
    line = 1 - np.abs(np.arange(k) / half - centre)
    return np.broadcast_to(np.outer(line, line), shape).astype(np.float32)


def _gabor(f: Filler, shape: Shape, rng: np.random.Generator) -> Array:
    made = gabor_filters(shape[0], shape[3]) if len(shape) == 4 and shape[1] == 3 and shape[2] == shape[3] else None
    if made is None:
        raise NetError(
            "the gabor filler does not make this shape", expected=GABOR_SIZES, got=f"blob of shape {dims(shape)}"
        )
    return made


_FILL = {
    "constant": _constant,
    "uniform": _uniform,
    "gaussian": _gaussian,
    "xavier": _xavier,
    "msra": _msra,
    "positive_unitball": _positive_unitball,
    "gaussian_unitball": _gaussian_unitball,
    "bilinear": _bilinear,
    "bilinear_upsampling": _bilinear,
    "gabor": _gabor,
}
TYPES = tuple(_FILL)
