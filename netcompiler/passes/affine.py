"""Layers that do y = k x + b to each channel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..graph import Node
from ..layers.batch_norm import BatchNorm
from ..layers.bias import Bias
from ..layers.bn import BN
from ..layers.cudnn_batch_norm import CuDNNBatchNorm
from ..layers.power import Power
from ..layers.scale import Scale

Exact = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Affine:
    """y = k x + b, with k and b for each channel, or one of each for all."""

    k: Exact | np.float64
    b: Exact | np.float64


def private(node: Node) -> bool:
    """Whether a node's blobs are bound, and shared with no other."""
    return bool(node.blobs) and not any(p.name for p in node.params)


def affine(node: Node) -> Affine | None:
    """What a node does to each channel, or None where it is not such a layer."""
    if len(node.bottoms) != 1 or len(node.tops) != 1 or not all(node.propagate) or any(p.name for p in node.params):
        return None
    if not isinstance(node.layer, Power) and not node.blobs:
        return None
    rule: Callable[[Any, list[Exact]], Affine | None] | None = _RULES.get(type(node.layer))
    return rule(node.layer, [np.asarray(a, np.float64) for a in node.blobs]) if rule else None


def _batch_norm(layer: BatchNorm, blobs: list[Exact]) -> Affine | None:
    if not layer.use_global_stats or layer.relu:
        return None
    mean, variance, factor, *learned = blobs
    share = float(layer.averages) if factor[0] == 0 else 1.0 / factor[0]
    k = 1.0 / np.sqrt(variance * share + layer.eps)
    if layer.scale:
        k = k * learned[0]
    b = -mean * share * k
    return Affine(k, b + learned[1] if layer.bias_term else b)


def _bn(layer: BN, blobs: list[Exact]) -> Affine | None:
    """The forks' BN, where it does not take the batch's statistics."""
    k, b = (blob.reshape(-1) for blob in blobs[:2])
    if layer.axis != 1 or not (layer.inference or layer.stored):
        return None
    return Affine(k, b) if layer.inference else _normalised(k, b, blobs, layer.eps)


def _cudnn_batch_norm(layer: CuDNNBatchNorm, blobs: list[Exact]) -> Affine | None:
    k, b = (blob.reshape(-1) for blob in blobs[:2])
    return _normalised(k, b, blobs, layer.eps) if layer.stored else None


def _normalised(weight: Exact, bias: Exact, blobs: list[Exact], eps: float) -> Affine:
    """weight (x - mean) / sqrt(variance + eps) + bias, the third and fourth blob being the statistics."""
    mean, variance = (blob.reshape(-1) for blob in blobs[2:4])
    k = weight / np.sqrt(variance + eps)
    return Affine(k, bias - mean * k)


def _scale(layer: Scale, blobs: list[Exact]) -> Affine | None:
    if (layer.axis, layer.num_axes) != (1, 1):
        return None
    return Affine(blobs[0], blobs[1] if layer.bias_term else np.zeros_like(blobs[0]))


def _bias(layer: Bias, blobs: list[Exact]) -> Affine | None:
    return Affine(np.ones_like(blobs[0]), blobs[0]) if (layer.axis, layer.num_axes) == (1, 1) else None


def _power(layer: Power, blobs: list[Exact]) -> Affine | None:
    if layer.power != 1 or layer.scale == 0:  # with scale 0, a NaN in x leaves no trace in y
        return None
    return Affine(np.float64(layer.scale), np.float64(layer.shift))


_RULES: dict[type, Callable[[Any, list[Exact]], Affine | None]] = {
    BN: _bn,
    BatchNorm: _batch_norm,
    CuDNNBatchNorm: _cudnn_batch_norm,
    Scale: _scale,
    Bias: _bias,
    Power: _power,
}
