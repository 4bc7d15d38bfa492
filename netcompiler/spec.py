"""Python calls -> NetParameter: a net written as code, every name and field checked where it is written.

A layer is a method of the net, called with the tops that it reads; it returns the tops that it makes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from . import schema
from .errors import NetError, Span, nearest
from .fields import caller, fill, message, unknown
from .text import Marks, Msg, format_message

# Caffe's layer types. The settings of one are those of the message that has its name (PReLU: prelu_param), if any has.
TYPES = frozenset(
    """
    AbsVal Accuracy ArgMax BatchNorm BatchReindex Bias BNLL Clip Concat ContrastiveLoss Convolution Crop Data
    Deconvolution Dropout DummyData Eltwise ELU Embed EuclideanLoss Exp Filter Flatten HDF5Data HDF5Output HingeLoss
    Im2col ImageData InfogainLoss InnerProduct Input Log LRN LSTM MemoryData MultinomialLogisticLoss MVN Parameter
    Pooling Power PReLU Python Reduction ReLU Reshape RNN Scale Sigmoid SigmoidCrossEntropyLoss Silence Slice Softmax
    SoftmaxWithLoss SpatialDropout Split SPP Swish TanH Threshold Tile WindowData
    """.split()  # noqa: SIM905  (as a list of strings it takes a line for each)
)
_BORROWED = {  # types that read the message of another type
    "Deconvolution": "convolution_param",
    "Im2col": "convolution_param",
    "LSTM": "recurrent_param",
    "RNN": "recurrent_param",
    "SoftmaxWithLoss": "softmax_param",
}
_NO_TOP = frozenset({"HDF5Output", "Silence"})
_COMMON = ("transform_param", "loss_param")  # messages that several types read; given as a dict
_LAYER_FIELDS = schema.LayerParameter.DESCRIPTOR.fields_by_name
_RULES_HINT = 'two layers may share a name when rules tell them apart: include={"phase": "TRAIN"} and "TEST"'


@dataclass(frozen=True, slots=True)
class Top:
    """What a layer wrote: a blob of one net, as it stands after that layer."""

    blob: str
    version: int = 0
    net: NetSpec | None = field(default=None, repr=False, compare=False)


class NetSpec:
    """A net under construction.

    `net.Convolution(x, num_output=64, kernel_size=3)` adds a layer of that type and returns its top; see `layer` for
    what every call takes. `str(net)` is its prototxt, `net.message()` what `build` and `compile` take. A fault in a
    call raises NetError and leaves the net as it was. A fault that shows later, in `build`, still points at the line
    of Python that added the layer.

    >>> net = NetSpec("tiny")
    >>> data, label = net.Data(top=("data", "label"), data_param={"source": "train_lmdb", "batch_size": 8})
    >>> x = net.InnerProduct(data, name="ip1", num_output=10, weight_filler={"type": "xavier"})
    >>> x = net.ReLU(x, in_place=True)
    >>> loss = net.SoftmaxWithLoss(x, label, name="loss", include={"phase": "TRAIN"})
    >>> print(net)
    name: "tiny"
    layer {
      name: "data1"
      type: "Data"
      top: "data"
      top: "label"
      data_param { source: "train_lmdb" batch_size: 8 }
    }
    layer {
      name: "ip1"
      type: "InnerProduct"
      bottom: "data"
      top: "ip1"
      inner_product_param { num_output: 10 weight_filler { type: "xavier" } }
    }
    layer {
      name: "relu1"
      type: "ReLU"
      bottom: "ip1"
      top: "ip1"
    }
    layer {
      name: "loss"
      type: "SoftmaxWithLoss"
      bottom: "ip1"
      bottom: "label"
      top: "loss"
      include { phase: TRAIN }
    }
    <BLANKLINE>
    >>> try:
    ...     net.Pooling(x, pool="MAX", kernal_size=2)
    ... except NetError as e:
    ...     print(e.layer, e.what, e.hint, sep="; ")
    "pooling1" (Pooling); Pooling has no field "kernal_size"; did you mean "kernel_size"?
    """

    def __init__(self, name: str = "", **fields: Any) -> None:
        """name: the net's.  fields: further fields of NetParameter, such as `force_backward=True`.

        Raises: NetError as `layer` does, and for fields that hold layers or inputs.
        """
        for taken in ("layer", "layers", "input", "input_dim", "input_shape"):
            if taken in fields:
                hint = "layers, Input too, are added by calls: net.Input(top=..., shape={...})"
                raise NetError(f'a NetSpec takes no field "{taken}"', at=caller(), hint=hint)
        self._net = message("NetParameter", name=name or None, **fields).raw
        self._spans: list[Span] = []  # one per layer
        self._named: dict[str, list[int]] = {}  # layer's name -> indices of layers
        self._makers: dict[str, list[int]] = {}  # blob -> indices of the layers that write it
        self._versions: dict[str, int] = {}  # blob -> how often it was written over in place

    def layer(
        self,
        kind: str,
        /,
        *bottoms: Top,
        name: str | None = None,
        top: str | int | Iterable[str] | None = None,
        in_place: bool = False,
        **fields: Any,
    ) -> Any:
        """Add a layer of any type, one of your own too; `net.ReLU(x)` is short for `net.layer("ReLU", x)`.

        bottoms: tops that earlier calls returned, or `net["blob"]`.
        name: the layer's; unset, the type in small letters and the next free number.
        top: one name; several; or how many, to be named after the layer. Unset: one, of the layer's name.
        in_place: write over the first bottom's blob. The old top is stale from then on: go on with the returned one.
        fields: what the type's own message holds (`num_output=64`), and fields of LayerParameter (`include=`, `param=`,
        `loss_weight=`, `transform_param=`). A message is a dict, an enum its name, a repeated field one value or
        several; None leaves a field unset.

        Returns one Top; a tuple of them where `top` is a number or several names, or the type has no tops.
        Raises: NetError for an unknown field, naming the nearest, a value that does not fit it, a stale bottom or one
        of another net, and a name that is taken.

        >>> net = NetSpec()
        >>> x = net.Input(top="x", shape={"dim": [1, 6]})
        >>> net.Slice(x, name="cut", top=2, axis=1)
        (Top(blob='cut_1', version=0), Top(blob='cut_2', version=0))
        """
        at, raw = caller(), schema.LayerParameter()
        try:
            fill(raw, {"name": name or self._free_name(kind), "type": kind})
            raw.bottom.extend([self._readable(b) for b in bottoms])
            if in_place and (top is not None or not bottoms):
                raise NetError(
                    "a layer in place writes over its first bottom", expected="a bottom, and no names for tops"
                )
            raw.top.extend([bottoms[0].blob] if in_place else _top_names(raw, top))
            _fill_layer(raw, fields)
            self._check_names(raw)
        except NetError as e:
            e.at, e.layer = at, f'"{raw.name}" ({raw.type})' if raw.type else None
            raise
        index = len(self._spans)
        self._net.layer.append(raw)
        self._spans.append(at)
        self._named.setdefault(raw.name, []).append(index)
        for i, blob in enumerate(raw.top):
            self._makers.setdefault(blob, []).append(index)
            self._versions[blob] = self._versions.get(blob, 0) + _is_in_place(raw, i)
        tops = tuple(self[blob] for blob in raw.top)
        return tops[0] if len(tops) == 1 and (top is None or isinstance(top, str)) else tops

    def __getattr__(self, kind: str) -> Callable[..., Any]:
        if kind.startswith("_"):
            raise AttributeError(f"NetSpec has no attribute {kind!r}")
        known = _types(kind)
        if kind not in known:
            near = nearest(kind, known)
            hint = f'did you mean "{near[0]}"?' if near else f'for a type of your own: net.layer("{kind}", ...)'
            raise NetError(f'unknown layer type "{kind}"', at=caller(), hint=hint)
        return partial(self.layer, kind)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *TYPES})

    def __getitem__(self, blob: str) -> Top:
        """A blob by name, as it stands now. Raises: NetError when no layer has made it."""
        if blob not in self._versions:
            near = nearest(blob, self._versions)
            hint = f'did you mean "{near[0]}"?' if near else None
            raise NetError(f'no layer has made a blob "{blob}"', at=caller(), hint=hint)
        return Top(blob, self._versions[blob], self)

    def message(self) -> Msg:
        """The net so far, as a NetParameter of its own; each layer is placed at the line of Python that added it."""
        places = Marks(self._spans[0] if self._spans else None, {"layer": [Marks(at) for at in self._spans]})
        return Msg(self._net, places).copy()

    def __str__(self) -> str:
        return format_message(self._net)

    def __repr__(self) -> str:
        return f'<NetSpec "{self._net.name}": {len(self._net.layer)} layers>'

    def _readable(self, bottom: Any) -> str:
        """The name of a bottom. Raises: NetError when it is no top of this net, or was written over."""
        if not isinstance(bottom, Top):
            hint = "unpack it: *tops" if isinstance(bottom, tuple | list) else 'net["name"] is a blob by its name'
            expected = "a top that a layer call returned"
            raise NetError("a bottom is no top", expected=expected, got=f"{bottom!r}", hint=hint)
        if bottom.net is not self or bottom.blob not in self._versions:
            raise NetError(f'bottom "{bottom.blob}" belongs to another net')
        if bottom.version != self._versions[bottom.blob]:
            last = self._net.layer[self._makers[bottom.blob][-1]]
            raise NetError(
                f'bottom "{bottom.blob}" is stale: layer "{last.name}" ({last.type}) has written over it in place',
                hint="read the top that it returned, or do not run it in place",
            )
        return bottom.blob

    def _free_name(self, kind: Any) -> str:
        stem = str(kind).lower()
        return next(name for i in range(1, len(self._named) + 2) if (name := f"{stem}{i}") not in self._named)

    def _check_names(self, raw: Any) -> None:
        """Raises: NetError for a layer's or a blob's second maker, unless rules of inclusion tell the two apart."""
        for index in self._named.get(raw.name, ()):
            if not _told_apart(raw, self._net.layer[index]):
                expected = "a name of its own: weights are matched by it"
                raise NetError("the layer's name is taken", expected=expected, hint=_RULES_HINT)
        for i, blob in enumerate(raw.top):
            if blob in raw.top[:i]:
                raise NetError(f'top "{blob}" is named twice')
            for index in () if _is_in_place(raw, i) else self._makers.get(blob, ()):
                other = self._net.layer[index]
                if not _told_apart(raw, other):
                    got = f'also made by "{other.name}" ({other.type})'
                    raise NetError(f'top "{blob}" is made by two layers', got=got, hint=_RULES_HINT)


def _is_in_place(raw: Any, i: int) -> bool:
    return i < len(raw.bottom) and raw.bottom[i] == raw.top[i]


def _told_apart(one: Any, two: Any) -> bool:
    """Whether both layers have rules of inclusion, and not the same ones."""
    rules = [(list(m.include), list(m.exclude)) for m in (one, two)]
    return all(any(r) for r in rules) and rules[0] != rules[1]


def _types(kind: str) -> Iterable[str]:
    """The types to choose from: Caffe's; where `kind` is none of them, also those that users have registered."""
    if kind in TYPES:
        return TYPES
    from .layers import registry

    return TYPES.union(registry)


def settings_field(kind: str) -> str | None:
    """The field of LayerParameter that holds a type's own settings; None when it has none.

    >>> settings_field("InnerProduct"), settings_field("Deconvolution"), settings_field("AbsVal")
    ('inner_product_param', 'convolution_param', None)
    """
    if kind in _BORROWED:
        return _BORROWED[kind]
    folded = kind.lower() + "param"
    return next((name for name in _LAYER_FIELDS if name.replace("_", "") == folded and name not in _COMMON), None)


def _top_names(raw: Any, top: Any) -> list[str]:
    if top is None:
        return [] if raw.type in _NO_TOP else [raw.name]
    if isinstance(top, int) and not isinstance(top, bool) and top >= 0:
        return [f"{raw.name}_{i + 1}" for i in range(top)]
    names = list(top) if isinstance(top, Iterable) and not isinstance(top, str) else [top]
    if not all(isinstance(name, str) and name for name in names):
        raise NetError("top does not fit", expected="a name, several names, or a number of tops", got=f"{top!r}")
    return names


def _fill_layer(raw: Any, fields: Mapping[str, Any]) -> None:
    """Set keyword arguments: those of the type's own message there, the others on the layer."""
    own = settings_field(raw.type)
    own_fields = _LAYER_FIELDS[own].message_type.fields_by_name if own else {}
    mine = {k: v for k, v in fields.items() if k in own_fields}
    rest = {k: v for k, v in fields.items() if k not in own_fields}
    for key in ("bottom", "type"):
        if key in rest:
            raise NetError(f"{key} is not given by keyword", hint="the type is the method's name; bottoms come first")
    if mine and rest.get(own or "") is not None:
        raise NetError(f"{own} is given, and its field {next(iter(mine))} too", hint="keep one way of writing them")
    faults = []
    for key in rest:
        if key not in _LAYER_FIELDS:
            fault = unknown(raw.type, key, [*own_fields, *_LAYER_FIELDS])
            for common in _COMMON:
                if key in _LAYER_FIELDS[common].message_type.fields_by_name:
                    fault.hint = f'it is a field of {common}: {common}={{"{key}": ...}}'
            faults.append(fault)
    if faults:
        raise NetError.join(faults)
    fill(raw, rest)
    if own and any(v is not None for v in mine.values()):
        fill(getattr(raw, own), mine)
