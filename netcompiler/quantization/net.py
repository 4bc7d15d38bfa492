"""A compiled net whose convolutions and inner products run in int8, as far as they can and may."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import torch
from torch import nn

from .. import kernels
from ..errors import NetError
from ..graph import Array, Graph, Value
from ..kernels import int8
from ..kernels.int8 import Format, Int8Module, Weights
from ..module import CompiledNet
from .plan import Plan
from .report import Report


class QuantizedNet(CompiledNet):
    """What `quantize` makes: runs like any CompiledNet, on the CPU; inputs and outputs are float32.

    `report` tells what runs in int8 and what it cost. The weights as Caffe holds them are in `source`.
    """

    report: Report

    def __init__(self, source: Graph, *, progress: Callable[[str, int, int], None] | None = None) -> None:
        super().__init__(source, optimize=True, progress=progress)
        self.plain: dict[str, nn.Module] | None = dict(self.named_children())  # by attribute; not registered

    def _load_code(self) -> None:
        super()._load_code()
        self.__dict__["_programs"] = None  # they know nothing of u8

    def arrange(self, weights: Mapping[int, Weights], formats: Mapping[Value, Format]) -> None:
        """Let the nodes at these places run in int8, and all others in float32. formats: by value."""
        assert self.plain is not None, "arranged for good"
        plan = Plan.of(self.graph, weights)
        for place, (node, attribute) in enumerate(zip(self.graph.nodes, self.attributes, strict=True)):
            plain = self.plain[attribute]
            reads = [formats[v] if v in plan.wanted else None for v in node.bottoms]
            writes = formats[node.tops[0]] if node.tops and node.tops[0] in plan.packed else None
            module: Any = plain
            if place in weights:
                module = int8.module(node, reads, writes, weights[place])
                module.may_overwrite = node in self._overwritable
            elif place in plan.moving:
                module = int8.Int8Move(node.layer, reads, writes)
            elif writes or any(v in plan.packed for v in node.bottoms):
                module = int8.Around(plain, node.layer, reads, writes)
            setattr(self, attribute, module)

    @property
    def _overwritable(self) -> set[Any]:
        found: set[Any] | None = self.__dict__.get("_over")
        if found is None:
            found = self.__dict__["_over"] = kernels.overwritable(self.graph)
        return found

    def settle(self, report: Report) -> None:
        """Keep the arrangement for good; the float32 modules that it does not need go."""
        self.report = report
        self.plain = None
        self.__dict__.pop("_over", None)
        self.requires_grad_(False)

    @property
    def modules_in_int8(self) -> dict[str, Int8Module]:
        """By attribute, the modules that take or give u8."""
        return {name: m for name, m in self.named_children() if isinstance(m, Int8Module)}

    def load_caffe_params(self, params: Mapping[str, Sequence[Array]]) -> NoReturn:
        """Refused: other weights want another calibration."""
        raise NetError("a quantised net keeps its weights", hint="compile with the new weights, and quantize that")

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Any:
        moved = fn(torch.empty(0))
        if moved.device.type != "cpu" or moved.dtype != torch.float32:
            got = f"{moved.device}, {str(moved.dtype).removeprefix('torch.')}"
            raise NetError("a quantised net stays where it is", expected="cpu, float32 around the int8", got=got)
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
