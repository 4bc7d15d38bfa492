"""A whole net as one program of oneDNN's graph compiler, which PyTorch holds behind TorchScript, for each shape of its inputs.

Between layers such a program keeps activations in the blocks that the processor's convolutions work on, and it looks up each
primitive once, not at each call.
"""

from __future__ import annotations

import io
import platform
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from math import inf
from types import NoneType, SimpleNamespace
from typing import Any, Self

import torch
from torch import Tensor, nn

from ..builder import reshape
from ..codegen import fills_itself, forward_source
from ..graph import Graph, Node, Shape, Value
from ..layer_module import LayerModule
from ..layers.batch_norm import BatchNorm
from ..layers.bn import BN
from ..layers.convolution import Convolution
from ..layers.cudnn_batch_norm import CuDNNBatchNorm
from ..layers.input import Input
from ..layers.lrn import LRN
from ..layers.pooling import Pooling
from ..layers.upsample import Upsample
from . import cuda, footprint
from .lrn import FastLRN, normalised
from .onednn import PackedConvolution, Product, fits, takes

BOUNDS = {
    torch.float32: 5e-5,
    torch.bfloat16: 2e-2,
    torch.float16: 2e-3,
}  # how far a program may be from the layers' own forwards
MOST = 4  # programs of a net: each keeps the weights in an order of its own
TRIES, ENOUGH = 3, 1.0  # runs of a new program and of the layers, in turn; seconds after which no further one is made
MARGIN = 1.05  # how much slower than the layers a program may seem: clocks are noisy
FORGETS = 1000  # shapes met once that are remembered, at most
CHANGES = 8  # of weights; each program leaves some text with TorchScript, so a net that changes on and on gets no more
HEAVY = 256 << 20  # bytes of weights from which on there is one program only
# Layers whose forward is a function of their bottoms and blobs alone, with no word about the values in them.
PURE = frozenset(
    {
        *("AbsVal", "Axpy", "BN", "BNLL", "BatchNorm", "Bias", "Clip", "Concat", "Convolution", "ConvolutionDepthwise"),
        *(
            "Crop",
            "CuDNNBatchNorm",
            "Deconvolution",
            "DepthwiseConvolution",
            "Dropout",
            "ELU",
            "Eltwise",
            "Exp",
            "Flatten",
        ),
        *("InnerProduct", "Input", "Interp", "LRN", "Log", "Mish", "Normalize", "PReLU", "Permute", "Pooling", "Power"),
        *("ReLU", "ReLU6", "Reorg", "Reshape", "Scale", "SeLu", "ShuffleChannel", "Sigmoid", "Slice"),
        *("Softmax", "Split", "Swish", "TanH", "Tile", "Upsample"),
    }
)
COMPILER = platform.system() == "Linux" and platform.machine() in ("x86_64", "AMD64")  # where PyTorch holds it
_building = threading.Lock()  # what the compiler is told holds for the whole process


class Programs:
    """The programs of a net, by the shapes of its inputs. A shape that comes a second time gets one, up to MOST of them.

    From the first layers on that depend on values or are not PURE otherwise (losses, detections), layers run one by one
    behind the program. A shape has none where the program is slower than the layers, or is not what they give, or where the
    compiler found nothing to do. Where weights change, programs go; where they do so again and again, none comes any more.
    """

    def __init__(self, graph: Graph, children: Mapping[str, Any]) -> None:
        """children: the net's modules by attribute, one for each node, in their order."""
        modules: list[LayerModule] = list(children.values())
        self.graph, self.modules, self.children = graph, modules, children
        self.met: set[tuple[Shape, ...]] = set()
        self.by_shapes: dict[tuple[Shape, ...], _Program | None] = {}
        self.part = Part.of(graph, children)
        self.on = self.part is not None
        self.changes = 0
        weights = sum(t.numel() * t.element_size() for m in modules for t in (*m.parameters(), *m.buffers()))
        self.most = 1 if weights > HEAVY else MOST
        # Looked at in each call, so they are at hand: what may have been changed, and hooks, which a program does not call.
        self.holders = [d for m in modules for d in (m._parameters, m._buffers) if d]
        self.hooks = [d for m in modules for d in (m._forward_hooks, m._forward_pre_hooks)]

    def of(self, fed: Sequence[Tensor | None], shapes: tuple[Shape, ...]) -> _Program | None:
        """The program for these inputs; None where the layers are to run one by one."""
        if (
            not self.on
            or torch.is_grad_enabled()
            and any(t.requires_grad for t in (*self.tensors(), *fed) if t is not None)
        ):
            return None
        if torch._C._is_tracing() or any(type(x) not in (Tensor, NoneType) for x in fed):  # fakes, say
            return None
        if any(self.hooks) or list(self.children.values()) != self.modules:
            return None
        if shapes not in self.met:
            if len(self.met) == FORGETS:  # ever new shapes
                self.met.clear()
            self.met.add(shapes)
            return None
        found = self.by_shapes.get(shapes)
        if found is not None and found.state != self.state():
            self.by_shapes.clear()
            self.met = {shapes}
            self.changes += 1
            self.on = self.changes < CHANGES
            return None
        if found is None and shapes not in self.by_shapes and len(self.by_shapes) < self.most:
            with _building:
                if shapes in self.by_shapes:  # another thread has been here
                    return self.by_shapes.get(shapes)
                found = self.by_shapes[shapes] = self.built(fed)
        return found

    @property
    def able(self) -> bool:
        """Whether the net, or a part of it, may be a program."""
        return self.part is not None

    @property
    def running(self) -> bool:
        """Whether any shape has a program."""
        return self.on and any(self.by_shapes.values())

    def state(self) -> list[tuple[int, int]]:
        """What changes when a weight does."""
        return [(t.data_ptr(), 0 if t.is_inference() else t._version) for t in self.tensors()]

    def tensors(self) -> Iterator[Tensor]:
        """The weights, as they are now."""
        return (t for held in self.holders for t in held.values() if t is not None)

    def built(self, fed: Sequence[Tensor | None]) -> _Program | None:
        """A program, proved on these inputs; None where there can be none."""
        part = self.part
        assert part is not None
        sources = [x for x in (fed[i] for i in part.sources) if x is not None]
        tensors = [t for m in part.modules for t in (*m.parameters(), *m.buffers())]
        kinds = {(t.device, t.dtype) for t in (*tensors, *sources)}
        if len(kinds) != 1 or len(sources) < len(part.sources) or not all(x.numel() for x in sources):
            return None
        (device, dtype) = kinds.pop()
        if dtype not in BOUNDS or device.type not in ("cpu", "cuda"):
            return None
        shapes = {v.blob: tuple(x.shape) for v, x in zip(self.graph.inputs(), fed, strict=True) if x is not None}
        graph = reshape(self.graph, shapes)
        if not all(
            fits(n.layer, n.bottom_shapes[0][2:]) for n in graph.nodes if takes(n) and isinstance(n.layer, Convolution)
        ):
            return None
        state, by_layer = self.state(), partial(part.by_layer, SimpleNamespace(**self.children))
        on_cpu = device.type == "cpu"
        try:
            with torch.inference_mode(False), torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # TorchScript tells of its age
                examples = [x.contiguous().clone() for x in sources]
                run = (
                    _compiled(part, examples, by_layer(*fed))
                    if on_cpu
                    else self.recorded(graph, by_layer, examples, fed)
                )
        except Exception:  # whatever it is that the compiler cannot do: the layers can
            return None
        if run is None or not _worth_it(run, by_layer, sources, fed):
            return None
        for module in part.modules:
            if on_cpu and isinstance(module, PackedConvolution):
                module.packed = None  # the program has the weights in its own order
        return _Program(run, part, self.children, state)

    def recorded(
        self, graph: Graph, by_layer: Callable[..., Any], sources: Sequence[Tensor], fed: Sequence[Tensor | None]
    ) -> cuda.Recorded | None:
        """The part's layers as a CUDA graph; None where it would hold much memory, or is not what they give.

        graph: the net in the shapes of `fed`.
        """
        part = self.part
        assert part is not None
        if footprint.planned(graph, self.modules, sources[0].element_size()) > cuda.GRAPH_BYTES:
            return None

        def run(*inputs: Tensor) -> tuple[Tensor, ...]:
            given = list(fed)
            for i, x in zip(part.sources, inputs, strict=True):
                given[i] = x
            tops: tuple[Tensor, ...] = by_layer(*given)
            return tops

        want = run(*sources)
        found = cuda.Recorded(run, sources)
        found.holds = [m.packed[1] for m in part.modules if isinstance(m, PackedConvolution) and m.packed]
        bound = BOUNDS[sources[0].dtype]
        return found if all(_agree(x, y, bound) for x, y in zip(want, found(*sources), strict=True)) else None


@dataclass(frozen=True, slots=True)
class _Program:
    """run: the program of a net's part.  children: the net's modules, for the layers behind it.  state: that of its weights."""

    run: Any
    part: Part
    children: Mapping[str, Any]
    state: list[tuple[int, int]]

    def __call__(self, *fed: Any) -> tuple[Tensor, ...]:
        with torch.no_grad():
            made: tuple[Tensor, ...] = self.run(*[fed[i].contiguous() for i in self.part.sources])
            if self.part.behind is None:
                return made
            outputs: tuple[Tensor, ...] = self.part.behind(SimpleNamespace(**self.children), *fed, *made)
            return outputs


@dataclass(frozen=True, slots=True)
class Part:
    """The part of a net that can be one program: what descends from its inputs by nothing but PURE layers.

    sources: places of the inputs that it reads.  tops: what is read of it elsewhere.  by_layer: runs its layers one by one,
    from the net's inputs.  behind: runs the other layers, from the net's inputs and the part's tops; None where there are none,
    and the part's tops are the net's outputs.
    """

    nodes: tuple[Node, ...]
    modules: tuple[LayerModule, ...]
    inputs: tuple[Value, ...]
    sources: tuple[int, ...]
    tops: tuple[Value, ...]
    by_layer: Callable[..., Any]
    behind: Callable[..., Any] | None

    @classmethod
    def of(cls, graph: Graph, children: Mapping[str, Any]) -> Self | None:
        """The part of this net; None where there is none that would be worth it, and on machines without the compiler.

        children: the modules of the graph's nodes by attribute, in their order.
        """
        if not COMPILER and not torch.cuda.is_available():
            return None
        fed, names = graph.inputs(), dict(zip(graph.nodes, children, strict=True))
        made = {v for n in graph.nodes if n.layer.is_input and not fills_itself(n.layer) for v in n.tops}
        inside = []
        for node, module in zip(graph.nodes, children.values(), strict=True):
            if node.bottoms and made.issuperset(node.bottoms) and _pure(node, module):
                made.update(node.tops)
                inside.append((node, module))
        if not any(node.layer.counted for node, _ in inside):
            return None
        nodes, held = zip(*inside, strict=True)
        left = [n for n in graph.nodes if not n.layer.is_input and n not in nodes]
        own = {v for n in nodes for v in n.tops}
        wanted = {v for n in left for v in n.bottoms}.union(graph.outputs)
        read = {v for n in nodes for v in n.bottoms}
        sources = tuple(i for i, v in enumerate(fed) if v in read)
        inputs = tuple(fed[i] for i in sources)
        if not left and own.issuperset(graph.outputs):
            by_layer = _by_layer(graph, inputs, nodes, graph.outputs, names)
            return cls(nodes, held, inputs, sources, graph.outputs, by_layer, None)
        tops = tuple(v for n in nodes for v in n.tops if v in wanted)
        blobs = [v.blob for v in (*fed, *tops)]
        if len(set(blobs)) < len(blobs):  # versions of one blob, which the code behind could not tell apart
            return None
        by_layer = _by_layer(graph, inputs, nodes, tops, names)
        return cls(nodes, held, inputs, sources, tops, by_layer, _by_layer(graph, tops, left, graph.outputs, names))


def _pure(node: Node, module: LayerModule) -> bool:
    layer = node.layer
    if isinstance(layer, Pooling) and (layer.pool == "STOCHASTIC" or layer.mask):
        return False
    if isinstance(layer, BatchNorm) and not layer.use_global_stats or isinstance(layer, Upsample) and layer.by_mask:
        return False
    if isinstance(layer, BN) and not (layer.inference or layer.stored):
        return False
    if isinstance(layer, CuDNNBatchNorm) and not layer.stored:
        return False
    ours = type(layer).__module__.startswith(f"{__name__.split('.')[0]}.layers.")  # and not a user's own of that kind
    return ours and layer.kind in PURE and type(module) in (LayerModule, PackedConvolution, Product, FastLRN)


def _by_layer(
    graph: Graph, given: tuple[Value, ...], nodes: Iterable[Node], outputs: tuple[Value, ...], names: Mapping[Node, str]
) -> Callable[..., Any]:
    """What runs some layers of a net one by one, as its method: from the net's inputs and given values to others."""
    fed = [n for n in graph.nodes if n.layer.is_input]
    own = {v for n in fed for v in n.tops}
    more = tuple(v for v in given if v not in own)
    cut = [Node("", Input(tuple(v.shape for v in more)), (), more)] if more else []
    part = replace(graph, nodes=(*fed, *cut, *nodes), outputs=outputs)
    scope: dict[str, Any] = {}
    exec(forward_source(part, [names.get(n, "") for n in part.nodes]), scope)
    found: Callable[..., Any] = scope["forward"]
    return found


def _worth_it(
    run: Callable[..., Any], by_layer: Callable[..., Any], sources: Sequence[Any], fed: Sequence[Any]
) -> bool:
    """Whether a program is no slower than its layers one by one: the best of a few runs of each, in turn.

    What lies behind them is not run: it may matter how often that is.
    """
    best = [inf, inf]
    begun = time.perf_counter()
    with torch.no_grad():
        for _ in range(TRIES):
            for i, (call, given) in enumerate(((run, [x.contiguous() for x in sources]), (by_layer, fed))):
                start = time.perf_counter()
                call(*given)
                if sources and sources[0].is_cuda:
                    torch.cuda.synchronize(sources[0].device)
                best[i] = min(best[i], time.perf_counter() - start)
            if time.perf_counter() - begun > ENOUGH:
                break
    return best[0] <= MARGIN * best[1]


class _Straight(nn.Module):
    """The layers' own forwards, one after the other, with all blobs as attributes of one module."""

    def __init__(self, part: Part) -> None:
        super().__init__()
        self.part = part
        self.names: list[dict[str, str]] = []
        self.last = {v: node for node in part.nodes for v in node.bottoms}
        for i, (node, module) in enumerate(zip(part.nodes, part.modules, strict=True)):
            names = {name: f"b{i}_{name}" for name in node.layer.blobs(node.bottom_shapes)}
            self.names.append(names)
            for name, attribute in names.items():
                self.register_buffer(attribute, getattr(module, name).detach())

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        values: dict[Any, Tensor] = dict(zip(self.part.inputs, inputs, strict=True))
        for node, names in zip(self.part.nodes, self.names, strict=True):
            blobs = SimpleNamespace(**{name: getattr(self, attribute) for name, attribute in names.items()})
            tops = _forward(node, blobs, [values[v] for v in node.bottoms])
            values.update(zip(node.tops, tops, strict=True))
            for value in {v for v in node.bottoms if self.last[v] is node}.difference(self.part.tops):
                del values[value]
        return tuple(values[v] for v in self.part.tops)


def _forward(node: Node, blobs: Any, bottoms: list[Tensor]) -> tuple[Tensor, ...]:
    if FastLRN.takes(node):
        assert isinstance(node.layer, LRN)
        return (normalised(node.layer, bottoms[0]),)
    tops = node.layer.forward(blobs, *bottoms)
    return tops if isinstance(tops, tuple) else (tops,)


def _compiled(part: Part, inputs: Sequence[Tensor], want: Sequence[Tensor]) -> Any:
    """The program; None where there is no compiler, or nothing for it to do, or where it does not give what is wanted.

    One picture is enough to see what the layers do, in less memory. Where that is not what they do to several, all are taken.
    """
    dtype = inputs[0].dtype
    bfloat16 = dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    if not COMPILER or not (dtype == torch.float32 or bfloat16):
        return None
    if {len(x) for x in inputs if x.dim()} == {len(want[0])} != {1}:
        with suppress(Exception):  # a shape is written into the code, say
            run = _proven(_traced(part, [x[:1] if x.dim() else x for x in inputs]), inputs, want)
            if run is not None:
                return run
    return _proven(_traced(part, inputs), inputs, want)


def _traced(part: Part, inputs: Sequence[Tensor]) -> Any:
    """What a part does to these inputs, as a program that is compiled when it runs.

    What torch.jit traces lives as long as the process; what it loads does not. So it is written without its weights, read
    back, and given them again.
    """
    script: Any = torch.jit
    straight = _Straight(part).eval()
    traced = script.trace(straight, tuple(x.clone() for x in inputs), check_trace=False)
    blobs = dict(straight.named_buffers())
    for name, blob in blobs.items():
        setattr(traced, name, blob.new_zeros((1,) * blob.dim()).expand(blob.shape))
    file = io.BytesIO()
    script.save(traced, file)
    file.seek(0)
    loaded = script.load(file)
    for name, blob in blobs.items():
        setattr(loaded, name, blob)
    return loaded.eval()


def _proven(traced: Any, inputs: Sequence[Tensor], want: Sequence[Tensor]) -> Any:
    """The program, compiled; None unless it has parts of the graph compiler, gives what is wanted, and leaves its inputs."""
    examples = [x.clone() for x in inputs]
    before = torch._C._jit_llga_enabled()
    torch._C._jit_set_llga_enabled(True)
    try:
        script: Any = torch.jit
        run = script.freeze(traced)
        for _ in range(3):  # the first looks at shapes, the second compiles
            got = run(*examples)
        if "prim::oneDNNFusionGroup" not in str(script.last_executed_optimized_graph()):
            return None
    finally:
        torch._C._jit_set_llga_enabled(before)
    touched = any(not torch.equal(x, y) for x, y in zip(inputs, examples, strict=True) if not x.isnan().any())
    bound = BOUNDS[inputs[0].dtype]
    return None if touched or not all(_agree(x, y, bound) for x, y in zip(want, got, strict=True)) else run


def _agree(want: Tensor, got: Tensor, bound: float) -> bool:
    if want.shape != got.shape or want.dtype != got.dtype:
        return False
    scale = float(want.abs().nan_to_num(0, 0, 0).max()) if want.numel() else 0.0
    return torch.allclose(got, want, rtol=bound, atol=bound * scale, equal_nan=True)
