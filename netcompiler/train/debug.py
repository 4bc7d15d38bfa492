"""debug_info: the mean magnitude of every blob and gradient that a pass makes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from ..layer_module import LayerModule
from ..module import CompiledNet
from .rules import CaffeOptimizer


class Watch:
    """While it is entered, notes what passes through a net, in Caffe's words.

    A gradient is that of one layer's bottom: of a blob that several layers read, each layer's share.
    Source: Caffe, src/caffe/net.cpp, ForwardDebugInfo, BackwardDebugInfo and UpdateDebugInfo.
    """

    def __init__(self, net: CompiledNet) -> None:
        self.net = net
        self.forward: list[str] = []
        self.backward: list[tuple[int, str]] = []
        self.handles: list[Any] = []

    def __enter__(self) -> None:
        for i, (node, attribute) in enumerate(zip(self.net.graph.nodes, self.net.attributes, strict=True)):
            module: LayerModule = getattr(self.net, attribute)

            def before(module: Any, bottoms: tuple[Any, ...], i: int = i, node: Any = node) -> tuple[Any, ...]:
                seen = []
                for k, x in enumerate(bottoms):
                    if isinstance(x, Tensor) and x.requires_grad:
                        x = x.view_as(x)
                        blob = node.bottoms[k].blob if k < len(node.bottoms) else ""
                        note: Any = partial(self.gradient, i, node.name, f"bottom blob {blob}")
                        x.register_hook(note)  # type: ignore[no-untyped-call]
                    seen.append(x)
                return tuple(seen)

            def after(module: Any, bottoms: Any, tops: Any, node: Any = node) -> None:
                for value, top in zip(node.tops, tops if isinstance(tops, tuple) else (tops,), strict=False):
                    self.forward.append(f"[Forward] Layer {node.name}, top blob {value.blob} data: {_size(top)}")
                for k, name in enumerate(node.layer.blobs(node.bottom_shapes)):
                    shown = node.params[k].name or str(k)
                    size = _size(module.held(name)[0])
                    self.forward.append(f"[Forward] Layer {node.name}, param blob {shown} data: {size}")

            self.handles += [module.register_forward_pre_hook(before), module.register_forward_hook(after)]

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, trace: TracebackType | None) -> None:
        for handle in self.handles:
            handle.remove()
        self.handles.clear()

    def fed(self, batch: Mapping[str, Tensor]) -> None:
        """Note what the data layers give to the pass that comes next."""
        for node in self.net.graph.nodes:
            tops = [v.blob for v in node.tops if node.layer.is_input and v.blob in batch]
            self.forward += [f"[Forward] Layer {node.name}, top blob {b} data: {_size(batch[b])}" for b in tops]

    def gradient(self, layer: int, name: str, what: str, g: Tensor) -> None:
        """Note the gradient of a layer's bottom."""
        self.backward.append((layer, f"[Backward] Layer {name}, {what} diff: {_size(g)}"))

    def lines(self, optimizer: CaffeOptimizer | None) -> list[str]:
        """What was seen; with the gradients of the parameters and their norms where an update was made."""
        found = list(self.forward)
        if optimizer is None:
            return found
        back = list(self.backward)
        tensors: dict[int, Tensor] = {}
        updates = []
        for i, (node, attribute) in enumerate(zip(self.net.graph.nodes, self.net.attributes, strict=True)):
            module: LayerModule = getattr(self.net, attribute)
            for k, name in enumerate(node.layer.blobs(node.bottom_shapes)):
                tensor = module.held(name)[0]
                if tensor.grad is not None:
                    back.append((i, f"[Backward] Layer {node.name}, param blob {k} diff: {_size(tensor.grad)}"))
                tensors[id(tensor)] = tensor
                updates.append(f"[Update] Layer {node.name}, param {node.params[k].name or k} data: {_size(tensor)}")
        back.sort(key=lambda pair: -pair[0])  # stable: within a layer as they came
        found += [line for _, line in back]
        data, diff = list(tensors.values()), [t.grad for t in tensors.values() if t.grad is not None]
        told = ", ".join(f"({_norm(data, p):g}, {_norm(diff, p):g})" for p in (1, 2))
        found.append(f"[Backward] All net params (data, diff): L1 norm, L2 norm = {told}")
        return found + updates


def _size(x: Any) -> str:
    """The mean magnitude of a blob."""
    return f"{float(x.detach().abs().double().mean()):g}" if isinstance(x, Tensor) and x.numel() else "0"


def _norm(tensors: list[Tensor], p: int) -> float:
    if not tensors:
        return 0.0
    with torch.no_grad():
        norms = torch.stack([torch.linalg.vector_norm(t.double(), p) for t in tensors])
        return float(torch.linalg.vector_norm(norms, p))
