"""Graph -> CompiledNet: an nn.Module with one submodule per layer, run by generated straight-line code."""

from __future__ import annotations

import linecache
import os
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from math import inf
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from . import kernels, passes, rows, weights as weights_
from .binary import merge
from .builder import Inputs, build, reshape
from .codegen import fills_itself, forward_source, identifiers
from .errors import NetError
from .graph import Array, Graph, Node, Shape, Value, dims
from .kernels import cuda, footprint, memory as memory_, tuning
from .kernels.program import Programs
from .layer_module import LayerModule, owned
from .text import Msg
from .upgrade import load

Source = str | os.PathLike[str] | Msg | Graph
Weights = str | os.PathLike[str] | Mapping[str, Sequence[Array]]  # one file, or what a file holds
Progress = Callable[[str, int, int], None]  # what, done, of how many


@dataclass(frozen=True, slots=True)
class _Slot:
    """One input.  layer: whose top it is.  label: its type stays, as bfloat16 cannot tell class 999 from 1000.
    optional: it need not be given, where its layer fills it or, say, no chosen output reads the labels.
    """

    value: Value
    layer: str
    label: bool
    optional: bool


class CompiledNet(nn.Module):
    """A Caffe net that runs on PyTorch.

    `net(x)` or `net(data=x)` returns `{blob: tensor}`. `code` is the program that it runs, `graph` its graph. An optimised
    net also keeps the graph before optimisation, `source`, with the weights as Caffe holds them; else the module alone
    holds the weights, and `source` is `graph`.
    tf32: whether CUDA may multiply float32 as TensorFloat-32, with 10 bits of fraction; PyTorch would. Same numbers want no.
    """

    tf32 = False

    _run: Callable[..., tuple[Tensor, ...]]
    _slots: list[_Slot]  # the inputs, in order
    _programs: Programs | None  # what runs an optimised net as a whole, where that can be
    _like: Tensor  # tells where the net is and in what type, also for a net without weights

    def __init__(
        self,
        source: Graph,
        *,
        device: torch.device | None = None,
        dtype: torch.dtype = torch.float32,
        optimize: bool = False,
        choices: tuning.Choices = tuning.USUAL,
        progress: Progress | None = None,
    ) -> None:
        """`source` has its weights bound.  choices: what --tune found, for an optimised net."""
        super().__init__()
        device = device or torch.device("cpu")
        self.register_buffer("_like", torch.empty(0, device=device, dtype=dtype), persistent=False)
        self.source = source
        self.optimized = optimize and source.phase == "TEST"
        self.choices = choices
        pipeline = passes.WITH_SIBLINGS if choices.siblings else passes.PIPELINE
        self.graph = passes.run(source, pipeline) if self.optimized else source
        self._seen = {tuple(v.shape for v in self.graph.inputs())}
        taken = set(dir(self)) | {"_run", "_programs", "_slots", "attributes", "code"}
        self.attributes = identifiers([n.name or n.layer.kind for n in self.graph.nodes], taken)
        bound = list(reversed(self.graph.nodes))  # taken one by one, so that arrays which passes made are let go of
        self.graph = self.graph.with_nodes(replace(n, blobs=()) for n in bound[::-1])
        if not self.optimized:
            self.source = self.graph
        owners = self.graph.owners()
        learning = {p.name for n in self.graph.nodes for p in n.params if p.name and p.gradient}
        over = kernels.overwritable(self.graph)
        for i, (node, attribute) in enumerate(zip(self.graph.nodes, self.attributes, strict=True)):
            kind = (kernels.chosen(node) if self.optimized else None) or LayerModule
            module = kind(bound.pop(), device, dtype)
            module.overwrites = node in over
            self.add_module(attribute, module)
            self._share(node, module, owners, learning)
            if progress:
                progress("weights", i + 1, len(self.graph.nodes))
        if self.optimized:
            self.requires_grad_(False)
            memory_.settle()
        self.code = forward_source(self.graph, self.attributes)
        self._load_code()
        self.train(source.phase == "TRAIN")

    def _share(
        self, node: Node, module: LayerModule, owners: Mapping[str, tuple[Node, int]], learning: Set[str]
    ) -> None:
        """Give a module the arrays that earlier nodes own.

        learning: the names of those that some layer computes a gradient for. As in Caffe, a layer that says lr_mult 0
        adds nothing to it.
        """
        for i, (name, param) in enumerate(zip(node.layer.blobs(node.bottom_shapes), node.params, strict=True)):
            owner, index = owners.get(param.name, (node, i))
            if (owner, index) != (node, i):
                theirs = list(owner.layer.blobs(owner.bottom_shapes))[index]
                module.borrow(name, getattr(self, self.attributes[self.graph.nodes.index(owner)]), theirs)
            shared = module.held(name)[0]
            if not param.gradient and param.name in learning and isinstance(shared, nn.Parameter):
                shared.requires_grad_()
                module.fixed.add(name)

    def _load_code(self) -> None:
        """Turn `code` into the method that runs; registered with linecache, so that tracebacks show its lines."""
        file = f"<net {self.graph.name} {id(self):x}>"
        linecache.cache[file] = (len(self.code), None, self.code.splitlines(True), file)
        scope: dict[str, Any] = {}
        exec(compile_text(self.code, file, "exec"), scope)
        weakref.finalize(self, linecache.cache.pop, file, None)
        self.__dict__["_run"] = scope["forward"]
        programs = Programs(self.graph, self._modules) if self.optimized and self.choices.program else None
        self.__dict__["_programs"] = programs
        needed = {v for n in self.graph.nodes for v in n.bottoms}.union(self.graph.outputs)
        self.__dict__["_slots"] = [
            _Slot(v, n.title, self.is_label(v), fills_itself(n.layer) or v not in needed)
            for n in self.graph.nodes
            if n.layer.is_input
            for v in n.tops
        ]

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in ("_run", "_programs", "_slots")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._load_code()

    @property
    def device(self) -> torch.device:
        """Where the net's arrays are."""
        return self._like.device

    @property
    def dtype(self) -> torch.dtype:
        """The type of the net's arrays."""
        return self._like.dtype

    @property
    def one_program(self) -> bool:
        """Whether the net runs as one program, in some shape at least, and not layer by layer."""
        return self._programs is not None and self._programs.running

    def planned_bytes(self) -> int:
        """The most bytes of activations that are alive at once in a forward of the shapes that the net was compiled for."""
        modules: Any = [self.get_submodule(attribute) for attribute in self.attributes]
        item = self._like.element_size()
        by_layer = footprint.planned(self.graph, modules, item)
        if self._programs and self._programs.on:  # the first run of a shape is layer by layer
            return max(by_layer, footprint.planned(self.graph, modules, item, whole=True))
        return by_layer

    def forward(self, /, *feeds: Any, **named: Any) -> dict[str, Tensor]:
        """Run the net. Inputs in the net's order, or by blob name: tensors or numpy arrays, N x C x H x W for images.

        Returns: the outputs by blob name. An input may have another shape than at compile time. An output to which no
        layer has done anything may stand in the memory of the input, or of the parameter, that it is.
        Raises: NetError for a missing or unknown input, and for a shape that a layer cannot take.
        """
        fed = self._feeds(feeds, named)
        if torch.compiler.is_compiling():
            return self._named(self._run(self, *fed))
        shapes = self._check_shapes(fed)
        with self.precision():
            program = self._programs.of(fed, shapes) if self._programs else None
            return self._named(program(*fed) if program else self._run(self, *fed))

    def _named(self, outputs: tuple[Tensor, ...]) -> dict[str, Tensor]:
        return {v.blob: t for v, t in zip(self.graph.outputs, outputs, strict=True)}

    def precision(self) -> AbstractContextManager[None]:
        """In this block float32 on CUDA is multiplied as the net says (see `tf32`); a backward pass should stand in it."""
        exact = self.device.type != "cuda" or self.dtype != torch.float32
        return nullcontext() if exact else cuda.precision(self.tf32)

    def _feeds(self, feeds: tuple[Any, ...], named: dict[str, Any]) -> list[Tensor | None]:
        slots = self._slots
        if len(feeds) > len(slots):
            names = ", ".join(s.value.blob for s in slots) or "none"
            raise NetError("too many inputs", expected=f"at most {len(slots)} ({names})", got=len(feeds))
        given: dict[str, Any] = {s.value.blob: x for s, x in zip(slots, feeds, strict=False)}
        for name, x in named.items():
            if name in given or not any(s.value.blob == name for s in slots):
                what = f'input "{name}" is given twice' if name in given else f'the net has no input "{name}"'
                raise NetError(what, expected=", ".join(s.value.blob for s in slots) or "no input")
            given[name] = x
        fed: list[Tensor | None] = []
        for slot in slots:
            blob = slot.value.blob
            if blob in given:
                x = given[blob]
                tensor = x if isinstance(x, Tensor) else _fed(x, slot.value)
                fed.append(tensor.to(self.device) if slot.label else tensor.to(self.device, self.dtype))
            elif slot.optional:
                fed.append(None)
            else:
                raise NetError(f'input "{blob}" is missing', layer=slot.layer, expected=dims(slot.value.shape))
        return fed

    def is_label(self, value: Value) -> bool:
        """Whether a value is read only where no gradient goes: as labels, indices and the like."""

        def takes_gradient(node: Node) -> bool:
            silent = node.layer.silent(len(node.bottoms))
            return any(v == value and i not in silent for i, v in enumerate(node.bottoms))

        readers = self.graph.readers(value)
        return bool(readers) and not any(map(takes_gradient, readers))

    def _check_shapes(self, fed: Sequence[Tensor | None]) -> tuple[Shape, ...]:
        """The shapes of the inputs. Raises: NetError for those that a layer cannot take."""
        inputs = [slot.value for slot in self._slots]
        shapes = tuple(v.shape if x is None else tuple(x.shape) for v, x in zip(inputs, fed, strict=True))
        if shapes not in self._seen:
            reshape(self.graph, {v.blob: s for v, s in zip(inputs, shapes, strict=True)})
            self._seen.add(shapes)
        return shapes

    @contextmanager
    def afresh(self) -> Iterator[None]:
        """In this block layers know nothing of the runs before it, and behind it nothing of those in it.

        That is what they keep from one forward for the next: states of recurrent layers, statistics of batches.
        """
        layers = [m for m in self.modules() if isinstance(m, LayerModule)]
        held = [{k: vars(m).pop(k) for k in m.layer.remembers if k in vars(m)} for m in layers]
        buffers = [(b, b.clone()) for m in layers for b in m.buffers(recurse=False)]
        try:
            yield
        finally:
            for module, kept in zip(layers, held, strict=True):
                for name in module.layer.remembers:
                    vars(module).pop(name, None)
                vars(module).update(kept)
            for buffer, before in buffers:
                if not torch.equal(buffer, before):
                    with torch.inference_mode(buffer.is_inference()), torch.no_grad():
                        buffer.copy_(before)

    def loss(self, outputs: Mapping[str, Tensor]) -> Tensor:
        """The sum of loss_weight x top over all tops that carry one, from what a call of the net returned.

        Raises: NetError when such a top is not among the outputs, and when the net has no loss.
        """
        weighted = [(v, w) for n in self.graph.nodes for v, w in zip(n.tops, n.loss_weights, strict=True) if w]
        if not weighted:
            raise NetError("the net has no loss", hint="compile the train_val net, or give a top a loss_weight")
        missing = [v.blob for v, _ in weighted if v.blob not in outputs]
        if missing:
            raise NetError(f"the loss {missing[0]} is not among the outputs", hint="name it in outputs=")
        return torch.stack([w * outputs[v.blob].sum() for v, w in weighted]).sum()

    def caffe_params(self) -> dict[str, list[Array]]:
        """The learned blobs of each layer that has any, in Caffe's order and shapes, as numpy arrays.

        Of an optimised net: those that it was compiled with, or that `load_caffe_params` gave; no state_dict changes them.
        """
        if self.optimized:
            return {n.name: [a.copy() for a in n.blobs] for n in self.source.nodes if n.blobs}
        return {n.name: [_numpy(t).reshape(s) for t, s in held] for n, held in self._held()}

    def caffe_grads(self) -> dict[str, list[Array]]:
        """The gradients of the blobs, as `caffe_params` lists them; zeros where there is none.

        Raises: NetError for an optimised net, whose weights are no longer Caffe's.
        """
        if self.optimized:
            raise NetError("an optimised net has no gradients by Caffe layer", hint="compile with optimize=False")
        grads = {}
        for node, held in self._held():
            grads[node.name] = [_numpy(torch.zeros_like(t) if t.grad is None else t.grad).reshape(s) for t, s in held]
        return grads

    def with_weights(self) -> Graph:
        """The graph before optimisation, with the weights of `caffe_params` in its nodes."""
        if self.optimized:
            return self.source
        held = {id(n): tuple(_numpy(t).reshape(s) for t, s in blobs) for n, blobs in self._held()}
        return self.source.with_nodes(replace(n, blobs=held.get(id(n), ())) for n in self.source.nodes)

    def load_caffe_params(self, params: Mapping[str, Sequence[Array]]) -> None:
        """Take blobs as `caffe_params` gives them; layers that are not named keep theirs.

        Those of layers that the net does not have are told in a NetWarning.
        Raises: NetError that lists every blob that does not fit.
        """
        bound = weights_.bind(self.with_weights(), params)
        if self.optimized:
            fresh = CompiledNet(bound, device=self.device, dtype=self.dtype, optimize=True, choices=self.choices)
            self.source = bound
            self.load_state_dict(fresh.state_dict())
            return
        arrays = [n.blobs for n in bound.nodes if n.blobs]
        with torch.no_grad():
            for (_, held), blobs in zip(self._held(), arrays, strict=True):
                for (tensor, _), array in zip(held, blobs, strict=True):
                    tensor.copy_(owned(array).view(tensor.shape))

    def _held(self) -> Iterator[tuple[Node, list[tuple[Tensor, Shape]]]]:
        """Each node that has blobs, with the tensors that hold them and their shapes."""
        for node, attribute in zip(self.graph.nodes, self.attributes, strict=True):
            names = node.layer.blobs(node.bottom_shapes)
            if names:
                yield node, [getattr(self, attribute).held(name) for name in names]


def _fed(x: Any, value: Value) -> Tensor:
    """What a caller feeds, other than a tensor. Copied where torch cannot look at it in place: a view that runs
    backwards (RGB to BGR), memory that may not be written, another byte order."""
    try:
        array = np.asarray(x)
        return torch.from_numpy(np.require(array, array.dtype.newbyteorder("="), ["C", "W"]))
    except (TypeError, ValueError):
        got = f"{type(x).__name__} {x!r:.40}"
        raise NetError(f'input "{value.blob}" is no array of numbers', expected=dims(value.shape), got=got) from None


compile_text = compile  # the builtin, before our own function takes its name


def _numpy(tensor: Tensor) -> Array:
    tensor = tensor.detach().cpu()
    array: Array = (tensor if tensor.dtype == torch.float64 else tensor.float()).numpy().copy()
    return array


def compile(
    source: Source,
    weights: Weights | Sequence[Weights] | None = None,
    *,
    phase: str = "TEST",
    level: int = 0,
    stages: Iterable[str] = (),
    inputs: Inputs | None = None,
    outputs: Iterable[str] | None = None,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    optimize: bool = True,
    tune: bool = False,
    weights_policy: str = "strict",
    seed: int = 0,
    allow_python: bool = False,
    dialect: str | None = None,
    progress: Progress | None = None,
) -> CompiledNet:
    """A Caffe net as a PyTorch module.

    source: path of a prototxt, a NetParameter from `load` or `parse`, or a Graph from `build`.
    weights: path of a .caffemodel, or `{layer: [arrays]}`, or several of these, of which the last that has a layer counts;
    layers without are filled as their fillers say, by `seed`.  weights_policy: what to do with weights that do not fit:
    "strict" refuses them; "reshape" takes those with as many values; "skip" fills such layers, "skip:fc7,fc8" these.
    phase, level, stages, inputs, allow_python, dialect: as `build` takes them; a Graph has them settled.
    outputs: blobs to return in place of the net's own; layers that none of them needs are left out.
    device: CUDA when there is one.  dtype: float32.
    optimize: rewrite a TEST net for speed, for inference only; False keeps one module per Caffe layer, with gradients.
    tune: on the CPU, measure which kernels are fastest here, for these shapes; what is found is kept on disk for the next time,
    in $NETCOMPILER_CACHE, $XDG_CACHE_HOME/netcompiler or ~/.cache/netcompiler.
    progress: called with (what, done, of how many).
    Raises: NetError for whatever is wrong in the files or the arguments.
    """
    whole = _graph(source, phase, level, stages, inputs, allow_python, dialect)
    if whole.faults:
        raise NetError.join(whole.faults)
    graph = _selected(whole, outputs)
    where, type_ = _device(device), _dtype(dtype)
    if dtype == "tf32" and where.type != "cuda":
        raise NetError("tf32 is for CUDA devices", got=f"the device {where}", hint="leave --dtype out")
    _check_memory(graph, where)
    blobs = None if weights is None else _read(weights)
    if not any(n.blobs for n in graph.nodes) or blobs is not None:
        held = _with_lenders(graph, whole)
        if blobs and len(held.nodes) < len(whole.nodes):  # weights of layers left out are not told of as unknown
            left_out = {n.name for n in whole.nodes} - {n.name for n in held.nodes}
            blobs = {name: arrays for name, arrays in blobs.items() if name not in left_out}
        bound = weights_.bind(held, blobs or {}, policy=weights_policy, seed=seed, warn=blobs is not None)
        kept = set(map(id, graph.nodes))
        graph = graph.with_nodes(b for b, n in zip(bound.nodes, held.nodes, strict=True) if id(n) in kept)

    def made(choices: tuning.Choices) -> CompiledNet:
        told = None if tune else progress  # who tunes tells of that
        net = CompiledNet(graph, device=where, dtype=type_, optimize=optimize, choices=choices, progress=told)
        net.tf32 = dtype == "tf32"
        return net

    found: CompiledNet = tuning.tuned(made, progress) if tune else made(tuning.USUAL)
    return found


@rows.unwritten()
def rewriting_error(
    net: CompiledNet, feeds: Mapping[str, Any], outputs: Mapping[str, Tensor] | None = None
) -> dict[str, float]:
    """What optimising and a small type cost: for each output, its largest difference from that of the plain float32 net.

    As a share of the output's largest value; 0 for outputs without values, and infinite for one of another shape, or that
    is not finite where the plain net's is. Both nets start without a state, and draw the same random numbers.
    feeds: the inputs by blob name.  outputs: what they gave; computed unless given.
    """
    plain = CompiledNet(net.with_weights(), device=net.device)
    with torch.inference_mode(), torch.random.fork_rng([net.device] if net.device.type == "cuda" else []):
        torch.manual_seed(0)
        want = plain.forward(**feeds)
        if outputs is None:
            torch.manual_seed(0)
            with net.afresh():
                outputs = net.forward(**feeds)
        return {name: apart(outputs[name].to(right.device, right.dtype), right) for name, right in want.items()}


def apart(got: Tensor, want: Tensor) -> float:
    """The largest difference of two tensors, as a share of the second one's largest number; see `rewriting_error`.

    >>> apart(torch.tensor([1.0, 5.0, inf]), torch.tensor([1.0, 4.0, inf])), apart(torch.tensor([inf]), torch.ones(1))
    (0.25, inf)
    """
    if got.shape != want.shape:
        return inf
    if not want.numel():
        return 0.0
    got, want = got.detach(), want.detach()
    same = (got == want) | (got.isnan() & want.isnan())
    off = float(torch.where(same, 0, got - want).abs().nan_to_num(inf, inf).max())
    largest = float(torch.where(want.isfinite(), want, 0).abs().max())
    return off / largest if largest else off


def _graph(
    source: Source,
    phase: str,
    level: int,
    stages: Iterable[str],
    inputs: Inputs | None,
    allow_python: bool,
    dialect: str | None,
) -> Graph:
    """The graph of what `compile` is given. Raises: NetError where a Graph comes with what only building can use."""
    if isinstance(source, Graph):
        if level or tuple(stages) or inputs or allow_python or dialect or phase not in ("TEST", source.phase):
            hint = "give phase, level, stages, inputs, allow_python and dialect to build, or give compile the message"
            raise NetError("this Graph is built already", at=source.name, hint=hint)
        return source
    msg = load(source) if isinstance(source, str | os.PathLike) else source
    return build(msg, phase, level, stages, inputs, allow_python, dialect=dialect)


def _read(weights: Weights | Sequence[Weights]) -> Mapping[str, Sequence[Array]]:
    if isinstance(weights, Mapping):
        return weights
    several = [weights] if isinstance(weights, str | os.PathLike) else weights
    if not isinstance(several, Sequence) or not all(isinstance(w, str | os.PathLike | Mapping) for w in several):
        expected = "a path, a dict {layer: [arrays]}, or a list of these"
        raise NetError("no weights to read", expected=expected, got=f"{weights!r:.60}")
    return merge(weights_.read_weights(w) if isinstance(w, str | os.PathLike) else w for w in several)


def _selected(graph: Graph, outputs: Iterable[str] | None) -> Graph:
    """The graph with other outputs. By default Caffe's, and every top that carries a loss weight."""
    if outputs is None:
        losses = (v for n in graph.nodes for v, w in zip(n.tops, n.loss_weights, strict=True) if w)
        return replace(graph, outputs=tuple(dict.fromkeys((*graph.outputs, *losses))))
    return graph.reaching((outputs,) if isinstance(outputs, str) else outputs)


def _with_lenders(graph: Graph, whole: Graph) -> Graph:
    """The graph with those of the whole one's nodes that share an array with its own: a file may have it there alone."""
    kept = set(map(id, graph.nodes))
    names = {p.name for n in graph.nodes for p in n.params if p.name}
    return whole.with_nodes(n for n in whole.nodes if id(n) in kept or any(p.name in names for p in n.params))


def _device(device: str | torch.device | None) -> torch.device:
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
        torch.empty(0, device=found).cpu()  # to the CPU, since torch.device("meta") takes anything and gives nothing
    except (RuntimeError, AssertionError, TypeError) as e:
        got = f"{str(e).splitlines()[0]:.160}"  # torch may list all that it has
        raise NetError(f"device {device} cannot be used", got=got, hint="cpu always works") from None
    return found


DTYPES = {
    "float32": torch.float32,
    "tf32": torch.float32,
    "float64": torch.float64,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


def _dtype(dtype: str | torch.dtype | None) -> torch.dtype:
    if isinstance(dtype, torch.dtype) and dtype in DTYPES.values():
        return dtype
    if dtype is not None and dtype not in DTYPES:
        hint = "compile it in float32, and give it to netcompiler.quantize" if dtype == "int8" else None
        raise NetError("unknown dtype", expected=", ".join(DTYPES), got=dtype, hint=hint)
    return DTYPES[str(dtype or "float32")]


def _check_memory(graph: Graph, device: torch.device) -> None:
    """Raises: NetError when weights and the largest activation cannot fit: better than to be killed half-way."""
    limit = memory(device)
    learned = 4 * sum(s.count for n in graph.nodes for s in n.layer.blobs(n.bottom_shapes).values())
    largest = 4 * max((_count(v.shape) for n in graph.nodes for v in n.tops), default=0)
    if learned + largest > limit:
        got = f"{learned / 1e9:,.1f} GB of weights and {largest / 1e9:,.1f} GB for the largest blob"
        raise NetError("the net does not fit into memory", at=graph.name, expected=f"{limit / 1e9:,.1f} GB", got=got)


def memory(device: torch.device) -> float:
    """The bytes of memory that a device has in all; infinite where it does not tell."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[1]
    if not hasattr(os, "sysconf"):  # Windows does not tell in this way
        return inf
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _count(shape: Shape) -> int:
    return int(np.prod(shape, dtype=object)) if shape else 1
