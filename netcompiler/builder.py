"""NetParameter -> Graph: rules of inclusion, in-place layers as versions, shapes, shared params, loss weights."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from math import prod
from operator import index
from typing import Any

from . import dialects
from .errors import NetError, NetWarning, Span, nearest
from .forks import settle
from .graph import UNKNOWN, Graph, Node, ParamSpec, Shape, Shapes, Value, dims
from .layers import Layer, registry
from .layers.base import MAX_COUNT, InputLayer, check_count
from .layers.opaque import Opaque
from .layers.python import allow_python as python_allowed
from .schema import NetParameter, is_repeated
from .text import Msg
from .upgrade import upgrade

Inputs = Mapping[str, Iterable[int]]


def build(
    msg: Msg,
    phase: str = "TEST",
    level: int = 0,
    stages: Iterable[str] = (),
    inputs: Inputs | None = None,
    allow_python: bool = False,
    partial: bool = False,
    dialect: str | None = None,
) -> Graph:
    """The checked graph of a net in one NetState.

    phase: TRAIN or TEST.  level, stages: as in include and exclude rules; those of the net's own `state` count too.
    inputs: shapes of input blobs, by name, in place of those that the net gives.
    allow_python: run the code that Python layers name; else a net with one is refused.
    partial: go on after a fault, for a graph to look at: a layer that is wrong, or reads what such a layer makes, becomes
    Opaque with tops of UNKNOWN shape, and the graph's `faults` tell why.
    dialect: the fork that the net is written for, as netcompiler.dialects names them; detected if None.
    Raises: NetError for the first layer that is wrong, or for all layers of an unknown type together.
    """
    if phase not in ("TRAIN", "TEST"):
        raise NetError("unknown phase", expected="TRAIN or TEST", got=phase)
    if not isinstance(Msg.of(msg).raw, NetParameter):
        raise NetError("no net to build", expected="a NetParameter, as load and parse give it", got=type(msg).__name__)
    msg = upgrade(msg)  # a copy, so that it may be written to
    given = _checked_inputs(inputs or {})
    dialect, why = (dialects.checked(dialect), "") if dialect else dialects.detect(msg)
    state = net_state(msg, phase, level, stages)
    layers, absent = [], {}
    for m in msg.layer:
        if included(m, *state):
            layers.append(m)
        else:
            absent.update(dict.fromkeys(m.top, m))
    settle(msg, layers)
    builder = _Builder(given, layers, absent, msg.force_backward)
    if builder.faults and not partial:
        raise NetError.join(builder.faults)
    for m in layers:
        m.raw.dialect = dialect
        if not m.has("phase"):
            m.raw.phase = 0 if phase == "TRAIN" else 1
        if builder.is_opaque(m):
            builder.add_opaque(m)
            continue
        try:
            with _Placed(m), python_allowed(allow_python):
                builder.add(m)
        except NetError as e:
            if not partial:
                raise
            builder.faults.append(e)
            builder.add_opaque(m)
    unused = [name for name in given if name not in builder.fed]
    if unused:
        got = ", ".join(builder.fed) or "none"
        raise NetError(f'no input is called "{unused[0]}"', at=msg.at(), expected=f"one of the net's inputs: {got}")
    for (settings, kind), users in builder.idle.items():
        shown = ", ".join(users[:4]) + (f" and {len(users) - 4} more" if len(users) > 4 else "")
        warnings.warn(f"{settings} has no effect on {kind} layers: {shown}", NetWarning, stacklevel=2)
    outputs = tuple(v for v in builder.values.values() if v in builder.unread)
    return Graph(msg.name, tuple(builder.settled()), outputs, phase, tuple(builder.faults), dialect, why).check()


def reshape(graph: Graph, inputs: Mapping[str, Shape]) -> Graph:
    """The same graph over other input shapes. Learned blobs keep their shapes.

    Raises: NetError where a layer cannot take the new shape.
    """
    fresh: dict[Value, Value] = {}
    nodes = []
    for node in graph.nodes:
        layer = node.layer
        if isinstance(layer, InputLayer):
            layer = layer.given({i: tuple(inputs[v.blob]) for i, v in enumerate(node.tops) if v.blob in inputs})
        bottoms = tuple(fresh[v] for v in node.bottoms)
        shapes = tuple(v.shape for v in bottoms)
        with _Placed(node):
            before = [s.shape for s in node.layer.blobs(node.bottom_shapes).values()]
            tops = _checked_tops(layer, shapes)
            after = [s.shape for s in layer.blobs(shapes).values()]
            if before != after:
                wrong = next((a, b) for a, b in zip(before, after, strict=True) if a != b)
                what = "the new input shape does not fit the weights"
                hint = "keep the input's shape, or compile for the new one"
                raise NetError(what, expected=dims(wrong[0]), got=dims(wrong[1]), hint=hint)
        values = tuple(replace(v, shape=s) for v, s in zip(node.tops, tops, strict=True))
        fresh.update(zip(node.tops, values, strict=True))
        nodes.append(replace(node, layer=layer, bottoms=bottoms, tops=values))
    return replace(graph, nodes=tuple(nodes), outputs=tuple(fresh[v] for v in graph.outputs))


def _checked_inputs(inputs: Inputs) -> dict[str, Shape]:
    given = {}
    for name, shape in inputs.items():
        try:
            given[name] = tuple(index(d) for d in shape)
        except TypeError:
            given[name] = ()
        if not given[name] or min(given[name]) < 1:
            got = dims(given[name]) if given[name] else f"{shape!r:.60}"
            raise NetError(f'the shape given for "{name}" is not usable', expected="positive dims", got=got)
    return given


def net_state(net: Msg, phase: str, level: int, stages: Iterable[str]) -> tuple[str, int, frozenset[str]]:
    """Phase, level and stages that the layers' rules see: those given, and those of the net's own `state`."""
    stages = (stages,) if isinstance(stages, str) else stages
    return phase, level or net.state.level, frozenset((*net.state.stage, *stages))


def included(m: Msg, phase: str, level: int, stages: frozenset[str]) -> bool:
    """Whether a layer is in the net of this state. Source: Caffe, src/caffe/net.cpp, FilterNet and StateMeetsRule."""
    if m.has("include") and m.has("exclude"):
        raise NetError("include and exclude are both given", at=m.at("exclude"), layer=_title(m), hint="keep one kind")

    def met(rule: Msg) -> bool:
        return (
            not (rule.has("phase") and rule.enum("phase") != phase)
            and not (rule.has("min_level") and level < rule.min_level)
            and not (rule.has("max_level") and level > rule.max_level)
            and stages.issuperset(rule.stage)
            and stages.isdisjoint(rule.not_stage)
        )

    if m.has("include"):
        return any(met(rule) for rule in m.include)
    return not any(met(rule) for rule in m.exclude)


def _unknown_types(layers: list[Msg]) -> list[NetError]:
    """A fault for each unknown type, at its first layer."""
    unknown: dict[str, list[Msg]] = {}
    for m in layers:
        if m.type not in registry:
            unknown.setdefault(m.type, []).append(m)
    faults = []
    for kind, users in unknown.items():
        near = nearest(kind, registry)
        what = f'unknown layer type "{kind}"' if kind else "the layer has no type"
        more = f", as {len(users) - 1} more of the net's layers have" if len(users) > 1 else ""
        hint = f'did you mean "{near[0]}"?' if near else "a layer of your own can be added: see CONTRIBUTING.md"
        faults.append(NetError(what + more, at=users[0].at("type"), layer=_title(users[0]), hint=hint))
    return faults


def _title(m: Msg) -> str:
    return f'"{m.name}" ({m.type})'


class _Placed:
    """Give a NetError that leaves the block the layer it came from, and its place: a field's name becomes its Span."""

    def __init__(self, source: Msg | Node) -> None:
        self.source = source

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, e: BaseException | None, trace: Any) -> None:
        if not isinstance(e, NetError):
            return
        source = self.source
        if isinstance(source, Node):
            e.layer, e.at = e.layer or source.title, e.at if isinstance(e.at, Span) else source.at
            return
        e.layer = e.layer or _title(source)
        if not isinstance(e.at, Span):
            e.at = (_find(source, e.at) if e.at else None) or source.at("type") or source.at()


def _find(m: Msg, name: str) -> Span | None:
    """Where a field, or one of its spellings with _h and _w, was written in a layer or in the messages that it read."""
    stem = name.removesuffix("_size")
    for part in (*m.parts(), m):
        for spelling in (name, f"{stem}_h", f"{stem}_w"):
            if part.marks.fields.get(spelling):
                return part.at(spelling)
    return None


class _Builder:
    """The nodes so far, and the last version of each blob."""

    def __init__(
        self, given: Mapping[str, Shape], layers: list[Msg], absent: Mapping[str, Msg], force_backward: bool
    ) -> None:
        self.given = given
        self.faults = _unknown_types(layers)
        self.named = {name for m in layers for name in (*m.bottom, *m.top)}
        self.force_backward = force_backward
        self.absent = absent  # blobs that layers of other states make
        self.fed: list[str] = []
        self.idle: dict[tuple[str, str], list[str]] = {}  # (settings, layer type that has no use for them): layers
        self.nodes: list[Node] = []
        self.values: dict[str, Value] = {}
        self.makers: dict[Value, Node] = {}
        self.unread: set[Value] = set()
        self.shared: dict[str, tuple[Shape, str]] = {}  # by param name: the shape, and the first layer that has it
        self.multipliers: dict[tuple[str, str], tuple[float, str]] = {}  # those of shared params, and who gives them

    def add(self, m: Msg) -> None:
        cls = registry[m.type]
        check_count(m, "bottom", cls.n_bottom)
        if not (cls.anonymous_tops and len(m.top) < cls.n_top[0]):
            check_count(m, "top", cls.n_top)
        bottoms = tuple(self.bottom(m, i) for i in range(len(m.bottom)))
        shapes = tuple(v.shape for v in bottoms)
        layer = cls.read(m, shapes)
        if isinstance(layer, InputLayer):
            layer = layer.given({i: self.given[t] for i, t in enumerate(m.top) if t in self.given})
            self.fed += m.top
        _all_settings_read(m, cls)
        for name in _idle(m, cls):
            self.idle.setdefault((name, m.type), []).append(m.name)
        top_shapes = _checked_tops(layer, shapes)
        tops = tuple(self.top(m, i, shape) for i, shape in enumerate(top_shapes))
        node = Node(
            m.name,
            layer,
            bottoms,
            tops,
            self.params(m, layer, shapes),
            loss_weights=_loss_weights(m, layer, len(tops)),
            propagate=_propagate(m, layer, len(bottoms), self.force_backward),
            at=m.at(),
        )
        self.place(node)

    def is_opaque(self, m: Msg) -> bool:
        """Whether a layer cannot be understood before it is read: for its type, or for what it reads."""
        sources = (self.values.get(name) for name in m.bottom)
        return m.type not in registry or any(v is not None and v.shape == UNKNOWN for v in sources)

    def add_opaque(self, m: Msg) -> None:
        """Place a layer as Opaque, with those of its bottoms that exist."""
        bottoms = tuple(self.values[name] for name in m.bottom if name in self.values)
        tops = []
        for name in dict.fromkeys(m.top):
            old = self.values.get(name)
            tops.append(Value(name, old.version + 1 if old else 0, UNKNOWN))
        self.place(Node(m.name, Opaque.read(m, ()), bottoms, tuple(tops), at=m.at()))

    def place(self, node: Node) -> None:
        """Put a node after those so far."""
        self.nodes.append(node)
        self.unread.difference_update(node.bottoms)
        for value in node.tops:
            self.values[value.blob] = value
            self.makers[value] = node
            self.unread.add(value)

    def bottom(self, m: Msg, i: int) -> Value:
        name = m.bottom[i]
        if name not in self.values:
            near = nearest(name, self.values)
            so_far = list(self.values)
            listed = ", ".join(so_far[-8:])
            hint = f'did you mean "{near[0]}"?' if near else None
            if name in self.absent:
                hint = f"{_title(self.absent[name])} makes it, but its rules leave it out here: see --phase, --stage, --level"
            more = "..., " if len(so_far) > 8 else ""
            raise NetError(
                f'unknown bottom "{name}"',
                at=m.at("bottom", i),
                expected=f"a blob that a layer above makes: {more}{listed or 'none yet'}",
                hint=hint,
            )
        return self.values[name]

    def top(self, m: Msg, i: int, shape: Shape) -> Value:
        """The i-th top. In place only where bottom and top of one index have one name, as in Caffe."""
        if i >= len(m.top):
            return Value(self.anonymous(m), 0, shape)
        name = m.top[i]
        old = self.values.get(name)
        if name in m.top[:i]:
            raise NetError(f'top "{name}" is named twice', at=m.at("top", i))
        if old is None:
            return Value(name, 0, shape)
        first = self.makers[old]
        if i < len(m.bottom) and m.bottom[i] == name:
            if any(w for v, w in zip(first.tops, first.loss_weights) if v == old):
                what = f'"{name}" carries a loss weight, and this layer writes over it'
                raise NetError(
                    what, at=m.at("top", i), got=f"the loss of {first.title}", hint="give the top another name"
                )
            return Value(name, old.version + 1, shape)
        raise NetError(
            f'top "{name}" is made by two layers',
            at=m.at("top", i),
            expected="one maker for each blob, or a layer in place (bottom and top of one index alike)",
            got=f"also made by {first.title}" + (f" at line {first.at.line}" if first.at else ""),
        )

    def anonymous(self, m: Msg) -> str:
        """The name for a top that the net leaves unnamed: the layer's, made unique."""
        name = m.name or m.type
        while name in self.values or name in self.named:
            name += "_"
        return str(name)

    def params(self, m: Msg, layer: Layer, bottoms: Shapes) -> tuple[ParamSpec, ...]:
        """Those of a layer that MyCaffe's freeze_learning holds do not train. Source: Caffe, src/caffe/net.cpp, AppendParam."""
        specs = layer.blobs(bottoms)
        frozen = m.freeze_learning
        if len(m.param) > len(specs):
            raise NetError(
                "more params than learned blobs",
                at=m.at("param", len(specs)),
                expected=f"at most {len(specs)}" + (f" ({', '.join(specs)})" if specs else ""),
                got=len(m.param),
            )
        found = []
        for i, spec in enumerate(specs.values()):
            if spec.count > MAX_COUNT:
                raise _too_large(f"learned blob {i}", spec.shape)
            p = m.param[i] if i < len(m.param) else None
            if p is None:
                found.append(ParamSpec(lr_mult=0.0, gradient=self.force_backward) if frozen else ParamSpec())
                continue
            lr_mult = 0.0 if frozen else p.lr_mult
            gradient = lr_mult != 0 or self.force_backward
            param = ParamSpec(p.name, lr_mult, p.decay_mult, p.enum("share_mode") == "PERMISSIVE", gradient)
            if param.name:
                self.share(p, param, spec.shape, _title(m))
            found.append(param)
        return tuple(found)

    def share(self, p: Msg, param: ParamSpec, shape: Shape, title: str) -> None:
        """A named param: the first layer that names it owns the array; multipliers must agree where several give them."""
        first, maker = self.shared.setdefault(param.name, (shape, title))
        fits = prod(shape) == prod(first) if param.permissive else shape == first
        if not fits:
            raise NetError(
                f'shared param "{param.name}" has another {"count" if param.permissive else "shape"} here',
                at=p.at("name"),
                expected=f"{dims(first)}, as in {maker}",
                got=dims(shape),
                hint=None if param.permissive else "share_mode: PERMISSIVE asks for equal counts only",
            )
        for field in ("lr_mult", "decay_mult"):
            if not p.has(field):
                continue
            value = getattr(param, field)
            given, maker = self.multipliers.setdefault((param.name, field), (value, title))
            if given != value:
                what = f'shared param "{param.name}" has another {field} here'
                raise NetError(what, at=p.at(field), expected=f"{given:g}, as in {maker}", got=f"{value:g}")

    def settled(self) -> Iterator[Node]:
        """The nodes; their shared params have the multipliers that one of the layers gives."""
        for node in self.nodes:
            params = []
            for param in node.params:
                lr, _ = self.multipliers.get((param.name, "lr_mult"), (param.lr_mult, ""))
                decay, _ = self.multipliers.get((param.name, "decay_mult"), (param.decay_mult, ""))
                params.append(replace(param, lr_mult=lr, decay_mult=decay))
            yield replace(node, params=tuple(params))


def _checked_tops(layer: Layer, bottoms: Shapes) -> Shapes:
    tops = layer.tops(bottoms)
    for i, shape in enumerate(tops):
        if any(d < 0 for d in shape):
            raise NetError(f"top {i} has a negative dim", got=dims(shape))
        if prod(shape) > MAX_COUNT:
            raise _too_large(f"top {i}", shape)
    return tops


def _too_large(what: str, shape: Shape) -> NetError:
    got = f"{dims(shape)} = {prod(shape):,} elements"
    return NetError(f"{what} is too large", expected=f"at most {MAX_COUNT:,} elements, as in Caffe", got=got)


def _loss_weights(m: Msg, layer: Layer, n_tops: int) -> tuple[float, ...]:
    given = list(m.loss_weight)
    if given and len(given) != n_tops:
        raise NetError("loss_weight needs one value per top", at=m.at("loss_weight"), expected=n_tops, got=len(given))
    if given:
        return tuple(given)
    return (layer.loss_weight(),)[:n_tops] + (0.0,) * (n_tops - 1)


def _propagate(m: Msg, layer: Layer, n_bottoms: int, forced: bool) -> tuple[bool, ...]:
    """Into which bottoms gradient flows. `force_backward` overrides the layer's own word, except on labels and the like."""
    given = list(m.propagate_down)
    if given and len(given) != n_bottoms:
        at, got = m.at("propagate_down"), len(given)
        raise NetError("propagate_down needs one value per bottom", at=at, expected=n_bottoms, got=got)
    silent = layer.silent(n_bottoms)
    return tuple(bool(flows) or (forced and i not in silent) for i, flows in enumerate(given)) or (True,) * n_bottoms


def _all_settings_read(m: Msg, cls: type[Layer]) -> None:
    """Raises: NetError for fields that were set in a message that the layer read, and that it did not look at."""
    faults = []
    for part in m.parts():
        for field in _unread(part, cls):
            what = f"{part.raw.DESCRIPTOR.name}.{field} is not supported here"
            hint = "remove the field, or set it to its default"
            faults.append(NetError(what, at=part.at(field), layer=_title(m), hint=hint))
    if faults:
        raise NetError.join(faults)


# Settings of a layer that say how its numbers are coded in some fork.
_CODES = ("compress", "weights_compress", "activations_compress", "evaluation_method")


def _idle(m: Msg, cls: type[Layer]) -> list[str]:
    """The settings meant for other layer types, which Caffe passes over as well, and those that only some fork heeds."""
    if cls.is_input:
        return []
    found = []
    for d, value in m.raw.ListFields():
        if d.name in _CODES:
            found.append(d.name)
        if not d.name.endswith("_param") or d.name in m.read or d.name in cls.ignored:
            continue
        parts = value if is_repeated(d) else (value,)
        if any(f.name not in cls.ignored for part in parts for f, _ in part.ListFields()):
            found.append(d.name)
    return found


def _unread(part: Msg, cls: type[Layer]) -> Iterator[str]:
    for descriptor, _ in part.raw.ListFields():
        if descriptor.name not in part.read and descriptor.name not in cls.ignored:
            yield descriptor.name
