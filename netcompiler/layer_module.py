"""Node -> LayerModule: one layer as an nn.Module, with its blobs as parameters and buffers."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from . import weights as weights_
from .codegen import fills_itself
from .graph import Array, Node, Shape


class LayerModule(nn.Module):
    """One Caffe layer as a module: its blobs as parameters and buffers, its own `forward` run on them.

    overwrites: whether a kernel may write its top over its second bottom.
    again: whether a forward is done once more, for a backward pass that did not keep its values: it stores nothing.
    """

    overwrites = False
    again = False

    def __init__(self, node: Node, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__()
        self.layer = node.layer
        self.borrowed: dict[str, tuple[LayerModule, str, Shape]] = {}
        self.fixed: set[str] = set()  # blobs that take a gradient from other layers, and none from this one
        specs = node.layer.blobs(node.bottom_shapes)
        for (name, spec), array, param in zip(specs.items(), node.blobs, node.params, strict=True):
            tensor = owned(array).to(device, dtype)
            if spec.learned:
                self.register_parameter(name, nn.Parameter(tensor, requires_grad=param.gradient))
            else:
                self.register_buffer(name, tensor)
        if fills_itself(node.layer):
            self.register_buffer("like", torch.empty(0, device=device, dtype=dtype), persistent=False)

    def forward(self, *bottoms: Tensor) -> Tensor | tuple[Tensor, ...]:
        tops = self.layer.forward(self, *bottoms)
        return tops[0] if isinstance(tops, tuple) and len(tops) == 1 else tops

    def borrow(self, name: str, owner: LayerModule, theirs: str) -> None:
        """Use a blob of another module in place of an own one, in the own one's shape.

        A parameter of the same shape stands in both modules. A buffer does not: `net.to(...)` would make two of it.
        """
        shape, shared = tuple(getattr(self, name).shape), owner.held(theirs)[0]
        if shape == tuple(shared.shape) and isinstance(shared, nn.Parameter):
            setattr(self, name, shared)
        else:
            delattr(self, name)
            self.borrowed[name] = (owner, theirs, shape)

    def held(self, name: str) -> tuple[Tensor, Shape]:
        """The tensor that holds a blob, and the shape in which this layer uses it."""
        if name in self.borrowed:
            owner, theirs, shape = self.borrowed[name]
            return owner.held(theirs)[0], shape
        tensor: Any = super().__getattr__(name)
        return tensor, tuple(tensor.shape)

    def __getattr__(self, name: str) -> Any:
        fixed = name in self.__dict__.get("fixed", ())
        if not fixed and name not in self.__dict__.get("borrowed", ()):
            return super().__getattr__(name)
        tensor, shape = self.held(name)
        return (tensor.detach() if fixed else tensor).view(shape)

    def _get_name(self) -> str:
        return self.layer.kind

    def extra_repr(self) -> str:
        return ", ".join(f"{k}={v}" for k, v in self.layer.settings().items())


def owned(array: Array) -> Tensor:
    """A tensor with its own memory; pages of a mapped weight file are let go once copied."""
    tensor = torch.empty(array.shape, dtype=torch.float64 if array.dtype == np.float64 else torch.float32)
    weights_.take(array, tensor.numpy())
    return tensor
