"""What a solver needs to know of its nets: the learned blobs in Caffe's order, the outputs, and arrays in common."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from traceback import walk_tb
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from ..errors import NetError
from ..graph import Shape, dims
from ..module import CompiledNet

K = TypeVar("K")


@dataclass(frozen=True, slots=True)
class Learned:
    """A learned blob: what it is called, what holds it, and the shape that its layer uses it in."""

    title: str
    tensor: Tensor
    shape: Shape
    lr_mult: float
    decay_mult: float


def learned_blobs(net: CompiledNet) -> Iterator[Learned]:
    """The learned blobs in Caffe's order, a shared one once, at its owner. Statistics have lr_mult 0.

    Source: Caffe, src/caffe/net.cpp, AppendParam; layers/batch_norm_layer.cpp.
    """
    owners = net.graph.owners()
    for node, attribute in zip(net.graph.nodes, net.attributes, strict=True):
        specs = node.layer.blobs(node.bottom_shapes)
        for i, ((name, spec), param) in enumerate(zip(specs.items(), node.params, strict=True)):
            owner, index = owners.get(param.name, (node, i))
            if (owner, index) == (node, i):
                tensor, shape = getattr(net, attribute).held(name)
                lr_mult = param.lr_mult if spec.learned else 0.0
                yield Learned(f"{name} of {node.title}", tensor, shape, lr_mult, param.decay_mult)


def learned_groups(net: CompiledNet) -> tuple[list[Tensor], list[dict[str, Any]]]:
    """The learned blobs in Caffe's order, and grouped by their multipliers."""
    learned, groups = list(learned_blobs(net)), dict[tuple[float, float], list[Tensor]]()
    for blob in learned:
        groups.setdefault((blob.lr_mult, blob.decay_mult), []).append(blob.tensor)
    if not learned:
        raise NetError("the net has no weights to train", at=net.graph.name)
    return [blob.tensor for blob in learned], [
        {"params": p, "lr_mult": lr, "decay_mult": decay} for (lr, decay), p in groups.items()
    ]


def share(net: CompiledNet, source: CompiledNet) -> None:
    """Let the layers of a net use the arrays of the layers with the same names in another.

    Source: Caffe, src/caffe/net.cpp, ShareTrainedLayersWith.
    """
    theirs = {n.name: (n, a) for n, a in zip(source.graph.nodes, source.attributes, strict=True) if n.params}
    for node, attribute in zip(net.graph.nodes, net.attributes, strict=True):
        if node.name not in theirs or not node.params:
            continue
        other, other_attribute = theirs[node.name]
        module, owner = getattr(net, attribute), getattr(source, other_attribute)
        pairs = zip(node.layer.blobs(node.bottom_shapes), other.layer.blobs(other.bottom_shapes), strict=True)
        for name, their_name in pairs:
            if name in module.borrowed:
                module.borrowed[name] = owner, their_name, module.held(name)[1]
            else:
                module.borrow(name, owner, their_name)


def remembered(net: CompiledNet) -> dict[str, dict[str, Any]]:
    """What layers keep from one forward for the next, such as the state of an LSTM, by attribute and as JSON can hold it."""
    found: dict[str, dict[str, Any]] = {}
    for node, attribute in zip(net.graph.nodes, net.attributes, strict=True):
        held = getattr(net, attribute).__dict__
        for name in node.layer.remembers:
            if held.get(name) is not None:
                found.setdefault(attribute, {})[name] = _packed(held[name])
    return found


def remind(net: CompiledNet, held: Mapping[str, Mapping[str, Any]]) -> None:
    """Give layers back what `remembered` told; what it does not tell is forgotten. Raises: ValueError for anything else."""
    for node, attribute in zip(net.graph.nodes, net.attributes, strict=True):
        module, ours = getattr(net, attribute), held.get(attribute, {})
        for name in node.layer.remembers:
            if name in ours:
                setattr(module, name, _unpacked(ours[name], net.device))
            else:
                module.__dict__.pop(name, None)


def _packed(value: Any) -> Any:
    """A number, a tensor, or a tuple of such."""
    if isinstance(value, tuple):
        return [_packed(part) for part in value]
    if not isinstance(value, Tensor):
        return value
    array = value.detach().cpu()
    kind = str(array.dtype).removeprefix("torch.")
    raw = array.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    return {"type": kind, "shape": list(array.shape), "values": base64.b64encode(raw).decode()}


def _unpacked(value: Any, device: torch.device) -> Any:
    if isinstance(value, list):
        return tuple(_unpacked(part, device) for part in value)
    if not isinstance(value, Mapping):
        return int(value)
    kind = getattr(torch, value["type"], None)
    if not isinstance(kind, torch.dtype):
        raise ValueError(f"no type {value['type']}")
    raw = np.frombuffer(base64.b64decode(value["values"], validate=True), np.uint8).copy()
    return torch.from_numpy(raw).view(kind).reshape(value["shape"]).to(device)


def output_names(net: CompiledNet) -> list[str]:
    """The net's outputs as Caffe lists them: the blobs that nobody reads, by name."""
    return sorted(v.blob for v in net.graph.outputs if not net.graph.readers(v))


def loss_weights(net: CompiledNet) -> dict[str, float]:
    """The loss weight of each top that has one."""
    return {v.blob: w for n in net.graph.nodes for v, w in zip(n.tops, n.loss_weights) if w}


def images(net: CompiledNet) -> int:
    """The images in a batch: the first dim of the first input."""
    inputs = net.graph.inputs()
    return inputs[0].shape[0] if inputs and inputs[0].shape else 0


@contextmanager
def named(net: CompiledNet) -> Iterator[None]:
    """Say in a NetError of a running net which layer it is about."""
    try:
        yield
    except NetError as e:
        nodes = {id(getattr(net, a)): n for n, a in zip(net.graph.nodes, net.attributes, strict=True)}
        for frame, _ in walk_tb(e.__traceback__):
            node = nodes.get(id(frame.f_locals.get("self")))
            if node:
                e.layer, e.at = e.layer or node.title, e.at or node.at
        raise


def add(sums: dict[K, Any], key: K, name: str, value: Any) -> None:
    """Add an output's values, a tensor or an array, to their sum over batches. Raises: NetError where its shape changes."""
    if key in sums and sums[key].shape != value.shape:
        got = f"{dims(tuple(value.shape))} after {dims(tuple(sums[key].shape))}"
        raise NetError(f'the output "{name}" changes its shape: there is no mean of it', got=got)
    sums[key] = sums[key] + value if key in sums else value


def plain(tensor: Tensor) -> Any:
    """A blob as a number, or as a list where it has several."""
    values = tensor.detach().float().flatten().tolist() if tensor.dtype != torch.float64 else tensor.flatten().tolist()
    return values[0] if len(values) == 1 else values
