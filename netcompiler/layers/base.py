"""What a layer is: one class that answers every stage's question about one layer type."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from math import prod
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

from ..errors import NetError, ShapeUnknown
from ..fillers import Filler
from ..graph import Array, Shape, Shapes, dims
from ..schema import is_repeated
from ..text import Msg
from ..windows import SAME, Window, Windows

if TYPE_CHECKING:
    from torch import Tensor

ANY = 1 << 30  # "any number" as the upper end of a range of bottoms or tops
MAX_COUNT = (1 << 31) - 1  # Caffe refuses a blob with more elements
CATEGORIES = tuple(
    "data convolution pooling activation normalisation dense combine shape loss other".split()  # noqa: SIM905
)


@dataclass(frozen=True, slots=True)
class BlobSpec:
    """One blob that a layer keeps: its shape, how it starts, and whether training changes it by gradient."""

    shape: Shape
    filler: Filler = Filler()
    learned: bool = True

    @property
    def count(self) -> int:
        return prod(self.shape)


class Layer:
    """A layer's resolved parameters: kernels as tuples, axes counted from 0, defaults applied.

    Subclasses are frozen dataclasses registered with `@layer("Type")`. `read`, `tops` and `forward` are required (a
    layer that is only fed needs no `forward`). Raw messages are read in `read` and nowhere else.
    """

    __slots__ = ()
    kind: ClassVar[str]
    n_bottom: ClassVar[tuple[int, int]] = (1, 1)  # fewest and most
    n_top: ClassVar[tuple[int, int]] = (1, 1)
    is_input: ClassVar[bool] = False  # its tops are fed by the caller
    acts: ClassVar[bool] = False  # it does something beside making its tops
    remembers: ClassVar[tuple[str, ...]] = ()  # attributes of its module that a forward leaves for the next one
    is_loss: ClassVar[bool] = False  # its first top has loss weight 1 unless the net says otherwise
    anonymous_tops: ClassVar[bool] = False  # tops that the net does not name are added, as losses' are
    no_gradient: ClassVar[tuple[int, ...]] = ()  # bottoms that never take a gradient, such as labels; -1 is the last
    counted: ClassVar[bool] = False  # whether its multiply-accumulates count in a net's total
    category: ClassVar[str] = "other"  # one of CATEGORIES: the colour that pictures give it
    views: ClassVar[bool] = False  # its tops stand in the memory of its bottom
    ignored: ClassVar[frozenset[str]] = frozenset({"engine"})  # fields without effect on the numbers

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        """The layer that a LayerParameter describes, over bottoms of these shapes. `msg.phase` is resolved.

        Raises: NetError; its `at` may be a Span, or the name of the field at fault.
        """
        raise NotImplementedError(cls)

    def tops(self, bottoms: Shapes) -> Shapes:
        """The shape rule. Must not rely on the bottoms that `read` saw: inputs change shape from call to call."""
        raise NotImplementedError(type(self))

    def blobs(self, bottoms: Shapes) -> dict[str, BlobSpec]:
        """The learned arrays in Caffe's order and shapes, under the names that the running module gives them."""
        return {}

    def adopted(self, arrays: Sequence[Array]) -> Sequence[Array]:
        """A weight file's arrays in the order and the shapes of `blobs`, where some writer has others.

        Raises: NetError where the file does not tell which is which.
        """
        return arrays

    def misfit_hint(self, count: int) -> str | None:
        """What to do about a weight file that has `count` arrays for this layer, which has another number of blobs."""
        return None

    @classmethod
    def silent(cls, count: int) -> set[int]:
        """Which of so many bottoms never take a gradient."""
        return {i % count for i in cls.no_gradient if -count <= i < count}

    def loss_weight(self) -> float:
        """The weight in the loss that the first top has where the net gives none."""
        return float(self.is_loss)

    def macs(self, bottoms: Shapes, tops: Shapes) -> int:
        """Multiply-accumulates of one forward over these shapes."""
        return 0

    def windows(self, bottoms: Shapes, tops: Shapes, bottom: int, top: int) -> Windows | None:
        """Along each axis of a bottom from the third on, which of its pixels one pixel of a top is made of; None: all.

        NOTHING where the top is made of other bottoms alone; of those in `no_gradient` nobody asks. A pixel of a blob is
        all channels of one place. Unless a layer says otherwise, a top of the bottom's height and width is made pixel by
        pixel.
        """
        image = bottoms[bottom][2:]
        return (SAME,) * len(image) if image == tops[top][2:] else None

    def is_identity(self) -> bool:
        """Whether every top is the bottom itself, so that an optimiser may take the layer out."""
        return False

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Run, in PyTorch. `m` is the module that holds the blobs, as attributes named by `blobs`.

        Returns one tensor, or a tuple where there are several tops. Sizes come from the tensors, not from `read`.
        """
        raise NotImplementedError(type(self))

    def settings(self) -> dict[str, str]:
        """The parameters that differ from their defaults, as short text; fields with repr=False are left out."""
        shown = {}
        for f in fields(self):  # type: ignore[arg-type]
            value = getattr(self, f.name)
            if f.repr and value != f.default and not isinstance(value, Filler):
                shown[f.name] = "x".join(map(str, value)) if isinstance(value, tuple) else str(value)
        return shown

    def brief(self) -> str:
        """The settings that matter most, as short as a picture wants them: `3x3, s2, p1, 256`."""
        return settings_line(self.settings())


@dataclass(frozen=True, slots=True)
class InputLayer(Layer):
    """A layer whose tops the caller feeds: no bottom, tops of the given shapes; None where the net does not tell one."""

    category = "data"
    n_bottom = (0, 0)
    n_top = (1, ANY)
    is_input = True

    shapes: tuple[Shape | None, ...]

    def tops(self, bottoms: Shapes) -> Shapes:
        for i, shape in enumerate(self.shapes):
            if shape is None:
                what = f"the net does not tell the shape of top {i}"
                fault = ShapeUnknown(what, hint="give it: inputs={name: shape}, or --input NAME=DIMS")
                fault.top = i
                raise fault
        return tuple(shape for shape in self.shapes if shape is not None)

    def settings(self) -> dict[str, str]:
        """Without the shapes: they are printed as those of the tops."""
        return {k: v for k, v in Layer.settings(self).items() if k != "shapes"}

    def given(self, shapes: Mapping[int, Shape]) -> Self:
        """The same layer with other shapes for some of its tops, by index."""
        return replace(self, shapes=tuple(shapes.get(i, old) for i, old in enumerate(self.shapes)))


def settings_line(settings: Mapping[str, str]) -> str:
    """Settings in a line: those that are on by their name alone, numbers to four digits.

    >>> settings_line({"axis": "2", "eps": "9.999999747378752e-06", "bias_term": "False", "across": "True"})
    'axis 2, eps 1e-05, no bias_term, across'
    """

    def word(name: str, value: str) -> str:
        if value in ("True", "False"):
            return name if value == "True" else f"no {name}"
        return f"{name} {short_number(value)}"

    return ", ".join(word(name, value) for name, value in settings.items())


def short_number(text: str) -> str:
    """A number as people write it, four digits behind the point at most; any other text as it is."""
    try:
        return f"{float(text):.4g}" if "." in text or "e" in text else text
    except ValueError:
        return text


def window_words(kernel: Shape, stride: Shape, pad: Shape, dilation: Shape = (), group: int = 1) -> list[str]:
    """How pictures write a sliding window, what is usual left out: 3x3, s2, p1, d2, g32."""

    def side(sizes: Shape, usual: int) -> str:
        sizes = sizes[:1] if len(set(sizes)) == 1 else sizes
        return "" if sizes == (usual,) else "x".join(map(str, sizes))

    parts = (("s", side(stride, 1)), ("p", side(pad, 0)), ("d", side(dilation or (1,), 1)), ("g", side((group,), 1)))
    return ["x".join(map(str, kernel)), *(letter + text for letter, text in parts if text)]


L = TypeVar("L", bound=type[Layer])
registry: dict[str, type[Layer]] = {}


def layer(kind: str) -> Callable[[L], L]:
    """Register a class as the layer type `kind` of LayerParameter. Raises: TypeError when the type is taken."""

    def register(cls: L) -> L:
        taken = registry.get(kind)
        if taken is not None and (taken.__module__, taken.__qualname__) != (cls.__module__, cls.__qualname__):
            names = f"{taken.__module__}.{taken.__name__} and {cls.__module__}.{cls.__name__}"
            raise TypeError(f"two classes for layer type {kind}: {names}")
        cls.kind = kind
        registry[kind] = cls
        return cls

    return register


def axis(msg: Msg, name: str, rank: int, *, end: bool = False) -> int:
    """An axis field counted from the front; negative values count from the back. With `end`, `rank` itself is allowed.

    Raises: NetError when the bottom has no such axis.
    """
    value = int(getattr(msg, name))
    if not -rank <= value < rank + end:
        got = f"{value}, and the bottom has {rank} axes"
        raise NetError(f"{name} is out of range", at=msg.at(name), expected=f"{-rank} to {rank - 1 + end}", got=got)
    return value + rank if value < 0 else value


def spatial(msg: Msg, name: str, rank: int, default: int | None = None, *, least: int = 0) -> Shape:
    """One of kernel_size, stride, pad, dilation over `rank` spatial axes: the one place that knows their spellings.

    A repeated field holds none (the default), one (for all axes) or `rank` values; 2-D nets may write `stem_h` and
    `stem_w` instead. Pooling's fields hold one value, and there either both sides are written or neither.
    Source: Caffe, src/caffe/layers/base_conv_layer.cpp, pooling_layer.cpp.
    """
    stem = name.removesuffix("_size")
    known = msg.raw.DESCRIPTOR.fields_by_name
    single = not is_repeated(known[name])
    values = [getattr(msg, name)] * msg.has(name) if single else list(getattr(msg, name))
    sides = [s for s in (f"{stem}_h", f"{stem}_w") if s in known and msg.has(s)]
    at = msg.at(sides[0] if sides else name)
    if sides and values:
        raise NetError(f"{name} and {sides[0]} are both given", at=at, hint="keep one of the two")
    if single and len(sides) == 1:
        raise NetError(f"{sides[0]} is given alone", at=at, expected=f"{stem}_h and {stem}_w, or {name}")
    if sides and rank != 2:
        raise NetError(f"{sides[0]} is for 2-D nets only", at=at, got=f"{rank} spatial axes", hint=f"use {name}")
    if sides:
        values = [int(getattr(msg, f"{stem}_h")), int(getattr(msg, f"{stem}_w"))]
    elif not values:
        if default is None and rank:
            raise NetError(f"{name} is missing", expected=f"{name}, or {stem}_h and {stem}_w")
        values = [least if default is None else default]
    if len(values) not in (1, rank):
        raise NetError(f"{name} has the wrong number of values", at=at, expected=f"1 or {rank}", got=len(values))
    if min(values) < least:
        raise NetError(f"{name} is too small", at=at, expected=f"at least {least}", got=" x ".join(map(str, values)))
    return tuple(values) * (rank if len(values) == 1 else 1)


def whole_from(axis: int, shape: Shape, end: int | None = None) -> Windows:
    """The windows of a layer that works pixel by pixel, but makes each of all that lies along the axes from `axis` on.

    end: the first axis behind them; None: there is none.
    """
    held = range(axis, len(shape) if end is None else end)
    return tuple(Window.whole(shape[k]) if k in held else SAME for k in range(2, len(shape)))


def same_shapes(bottoms: Shapes) -> None:
    """Raises: NetError unless all bottoms have one shape."""
    for i, shape in enumerate(bottoms):
        if shape != bottoms[0]:
            raise NetError(
                "the bottoms must have the same shape",
                expected=f"{dims(bottoms[0])}, as bottom 0",
                got=f"{dims(shape)} at bottom {i}",
            )


def at_least(rank: int, bottoms: Shapes, which: int = 0) -> None:
    """Raises: NetError when a bottom has fewer axes than `rank`."""
    if len(bottoms[which]) < rank:
        got = f"{len(bottoms[which])} ({dims(bottoms[which])})"
        raise NetError(f"bottom {which} has too few axes", expected=f"at least {rank}", got=got)


def exactly(rank: int, bottoms: Shapes, which: int = 0) -> None:
    """Raises: NetError when a bottom has another number of axes than `rank`."""
    if len(bottoms[which]) != rank:
        got = f"{len(bottoms[which])} ({dims(bottoms[which])})"
        raise NetError(f"bottom {which} has the wrong number of axes", expected=rank, got=got)


def not_empty(bottoms: Shapes, first: int = 1) -> None:
    """Raises: NetError when bottom 0 has no place along an axis from `first` on; there are no windows then."""
    if 0 in bottoms[0][first:]:
        raise NetError("the bottom is empty", expected="positive dims behind the batch", got=dims(bottoms[0]))


def one_label_each(bottoms: Shapes, axis: int) -> None:
    """Raises: NetError unless bottom 1 has one label for each position of bottom 0, whose classes lie along `axis`."""
    scores, labels = bottoms[:2]
    want = prod(scores[:axis]) * prod(scores[axis + 1 :])
    if prod(labels) != want:
        expected = f"{want}, as bottom 0 is {dims(scores)} with classes along axis {axis}"
        raise NetError(
            "the number of labels must match the scores", expected=expected, got=f"{prod(labels)} ({dims(labels)})"
        )


def traced(x: Tensor) -> bool:
    """Whether a graph is compiled, exported or captured now: no value can be looked at, none kept for the next call."""
    import torch

    return torch.compiler.is_compiling() or (x.is_cuda and torch.cuda.is_current_stream_capturing())


def whole_numbers(values: Tensor, count: int, ignored: int | None = None) -> tuple[Tensor, Tensor | None]:
    """Labels or indices as integers, with 0 for the ignored ones; and which are not ignored (None: all of them).

    Raises: NetError for one outside 0 .. count - 1, except while the graph is traced.
    """
    import torch

    numbers = values.detach().long()  # towards 0, as Caffe does
    kept = None if ignored is None else numbers != ignored
    if kept is not None:
        numbers = numbers * kept
    if not traced(numbers) and numbers.numel():
        low, high = (int(v) for v in torch.stack(numbers.aminmax()).tolist())
        if low < 0 or high >= count:
            got = low if low < 0 else high
            raise NetError("a label or index is out of range", expected=f"0 to {count - 1}", got=got)
    return numbers, kept


def normalization(msg: Msg, default: str = "VALID") -> str | float:
    """What a loss divides by, from its LossParameter: a mode, or the number itself for Intel Caffe's PRE_FIXED."""
    mode = msg.enum("normalization")
    if not msg.has("normalization"):
        mode = default if not msg.has("normalize") else "VALID" if msg.normalize else "BATCH_SIZE"
    msg.has("normalize")  # superseded: looked at, and without effect beside `normalization`
    return float(msg.pre_fixed_normalizer) if mode == "PRE_FIXED" else mode


def normalizer(mode: str | float, outer: int, inner: int, kept: Tensor | None) -> Tensor | float:
    """What a loss over outer x inner positions is divided by, at least 1; `kept` tells which are not ignored."""
    if mode == "VALID" and kept is not None:
        return kept.sum().clamp(min=1)
    if isinstance(mode, str):
        mode = {"FULL": outer * inner, "VALID": outer * inner, "BATCH_SIZE": outer, "NONE": 1}[mode]
    return max(mode, 1)


def check_count(msg: Msg, name: str, allowed: tuple[int, int]) -> None:
    """Raises: NetError unless a layer has as many bottoms or tops (`name`) as its type takes."""
    count, (least, most) = len(getattr(msg, name)), allowed
    if not least <= count <= most:
        expected = str(least) if least == most else f"at least {least}" if most == ANY else f"{least} to {most}"
        at = msg.at(name, most if count > most else 0)
        raise NetError(f"the wrong number of {name}s", at=at, expected=expected, got=count)


def not_in_place(msg: Msg) -> None:
    """Raises: NetError where a top has the name of its bottom, for layers that would overwrite what they still read."""
    for i, (bottom, top) in enumerate(zip(msg.bottom, msg.top, strict=False)):
        if bottom == top:
            what = f"{msg.type} cannot work in place"
            raise NetError(
                what, at=msg.at("top", i), got=f'"{top}" as bottom and top', hint="give the top another name"
            )


def refuse_gradient(top: Tensor, bottom: Tensor, what: str) -> Tensor:
    """`top`, whose gradient raises NetError(what) where `bottom` asks for one: Caffe stops with an error there.

    A bottom that wants no gradient leaves `top` as it is.
    """
    import torch

    if not bottom.requires_grad or torch.compiler.is_compiling():
        return top

    class Refuse(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, top: Tensor, bottom: Tensor) -> Tensor:
            return top.clone()

        @staticmethod
        def backward(ctx: Any, *grads: Tensor) -> Any:
            raise NetError(what, hint="propagate_down: false stops the gradient before this layer")

    refused: Tensor = Refuse.apply(top, bottom)  # type: ignore[no-untyped-call]
    return refused
