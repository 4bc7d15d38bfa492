"""Python: layers whose code the net names."""

from __future__ import annotations

import ast
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np

from ..errors import NetError
from ..fillers import Filler
from ..graph import Array, Shape, Shapes
from ..text import Msg
from ..windows import Windows
from .base import ANY, BlobSpec, InputLayer, Layer, check_count, layer
from .pycaffe import Blob, BlobList, PythonLayer, find_class, is_found, told

if TYPE_CHECKING:
    from torch import Tensor

_allowed: ContextVar[bool] = ContextVar("allow_python", default=False)
_natives: dict[tuple[str, str], type[Layer]] = {}  # by module and class: the layer that does the same
N = TypeVar("N", bound=type[Layer])


def native(*names: tuple[str, str]) -> Callable[[N], N]:
    """Register a class as what Python layers of these modules and classes compute, so that no code of a net need run.

    Its `read` finds the settings in `python_param.param_str`: see `settings_of`. Where Python layers are allowed and the
    module is there, its code runs all the same.
    """

    def register(cls: N) -> N:
        cls.kind = "Python"
        _natives.update(dict.fromkeys(names, cls))
        return cls

    return register


def settings_of(msg: Msg, known: Mapping[str, Any]) -> dict[str, Any]:
    """The settings in a Python layer's param_str, a YAML mapping of plain values, over those `known` with their defaults.

    `known` holds a type in place of a default where a setting must be given.
    Raises: NetError for text that is no such mapping, for settings that are not known, and for missing ones.
    """
    p = msg.python_param
    text = re.sub(r"!!python/\w+", "", str(p.param_str)).strip()
    pairs = text[1:-1] if text.startswith("{") and text.endswith("}") else re.sub(r"\s*\n\s*", ", ", text)
    pairs = re.sub(r"([{,]\s*|^)([A-Za-z_]\w*)\s*:", r"\1'\2':", pairs)  # keys without quotes
    try:
        given = ast.literal_eval("{" + pairs + "}")
    except (ValueError, SyntaxError) as e:
        got = f"{text!r:.80}"
        raise NetError("param_str cannot be read", at="param_str", expected="'name': value", got=got) from e
    for name in given:
        if name not in known:
            expected = ", ".join(known)
            raise NetError(f'unknown setting "{name}" in param_str', at="param_str", expected=expected, got=name)
    found = {**known, **given}
    for name, value in found.items():
        if isinstance(value, type):
            raise NetError(f"{name} is missing in param_str", at="param_str" if text else "python_param")
        wanted = known[name] if isinstance(known[name], type) else type(known[name])
        if wanted is tuple and isinstance(value, list):
            found[name] = value = tuple(value)
        if isinstance(value, bool) or not isinstance(value, wanted) or (wanted is int and value < 0):
            got = f"{value!r:.40}"
            raise NetError(f"{name} in param_str has a wrong value", at="param_str", expected=wanted.__name__, got=got)
    return found


@contextmanager
def allow_python(allowed: bool = True) -> Iterator[None]:
    """Nets built inside may run the code that their Python layers name. With False nothing changes."""
    token = _allowed.set(allowed or _allowed.get())
    try:
        yield
    finally:
        _allowed.reset(token)


class Instance:
    """One object of a user's class in a net. What its methods raise becomes a NetError that tells where."""

    def __init__(self, cls: type, msg: Msg, bottoms: Shapes) -> None:
        self.title, self.at = f'"{msg.name}" ({msg.type})', msg.python_param.at("layer")
        self.name, self.file = cls.__name__, getattr(sys.modules.get(cls.__module__), "__file__", None)
        # In place, as pycaffe has it: bottom and top are one blob.
        pairs = enumerate(zip(msg.bottom, msg.top, strict=False))
        self.in_place = frozenset(i for i, (bottom, top) in pairs if bottom == top)
        with self.telling("__init__"):
            self.object = _made(cls, msg)
            self.object.param_str = str(msg.python_param.param_str)
            self.object.phase = int(msg.raw.phase)
        self.blobs: BlobList = self.object.blobs if isinstance(self.object, PythonLayer) else BlobList()
        bottom = [Blob(shape) for shape in bottoms]
        self.top = self.with_in_place([Blob() for _ in msg.top], bottom)
        self.call("setup", bottom, self.top)
        self.start = tuple(blob.shape for blob in self.top)  # the tops' shapes, where reshape leaves them alone
        learned = ((blob.shape, Given(start=tuple(blob.data.ravel().tolist()))) for blob in self.blobs)
        self.specs = {f"blob{i}": BlobSpec(shape, filler) for i, (shape, filler) in enumerate(learned)}

    def with_in_place(self, top: list[Blob], bottom: list[Blob]) -> list[Blob]:
        """The tops, those in place being the bottoms themselves."""
        return [bottom[i] if i in self.in_place else blob for i, blob in enumerate(top)]

    @contextmanager
    def telling(self, method: str) -> Iterator[None]:
        """Turn what goes wrong inside into a NetError with the place in the user's file."""
        try:
            yield
        except NetError:
            raise
        except Exception as e:
            frames = traceback.extract_tb(e.__traceback__)
            frame = ([f for f in frames if f.filename == self.file] or frames)[-1]
            what = f"{self.name}.{method} failed: {told(e)}"
            got = f"{frame.filename}:{frame.lineno}: {frame.line}"
            raise NetError(what, at=self.at, layer=self.title, got=got) from e

    def call(self, method: str, *arguments: Any) -> None:
        """Run a method of the object."""
        with self.telling(method):
            getattr(self.object, method)(*arguments)

    def shapes(self, bottoms: Shapes) -> Shapes:
        """What `reshape` makes of bottoms of these shapes."""
        bottom = [Blob(shape) for shape in bottoms]
        top = self.with_in_place([Blob(shape) for shape in self.start], bottom)
        self.call("reshape", bottom, top)
        return tuple(blob.shape for blob in top)

    def load(self, bottoms: Sequence[Array], blobs: Sequence[Array]) -> list[Blob]:
        """Blobs that hold the bottoms; those that learn take their values."""
        bottom = []
        for values in bottoms:
            bottom.append(Blob())
            bottom[-1].take(values)
        for blob, values in zip(self.blobs, blobs, strict=True):
            blob.take(values)
        return bottom

    def forward(self, bottoms: Sequence[Array], blobs: Sequence[Array], dtype: Any) -> list[Array]:
        """The tops' values."""
        bottom = self.load(bottoms, blobs)
        top = self.with_in_place(self.top, bottom)
        for blob in top:
            blob.cast(dtype)
        self.call("reshape", bottom, top)
        self.call("forward", bottom, top)
        return [blob.data.copy() for blob in top]

    def backward(
        self,
        bottoms: Sequence[Array],
        blobs: Sequence[Array],
        tops: Sequence[Array],
        diffs: Sequence[Array],
        propagate_down: Sequence[bool],
    ) -> list[Array]:
        """The gradients of the bottoms, then those of the blobs."""
        bottom = self.load(bottoms, blobs)
        top = self.with_in_place([Blob() for _ in tops], bottom)
        for blob, values, diff in zip(top, tops, diffs, strict=True):
            blob.take(values)
            blob.diff[...] = diff
        self.call("backward", top, list(propagate_down), bottom)
        return [blob.diff.copy() for blob in (*bottom, *self.blobs)]


def _made(cls: type, msg: Msg) -> Any:
    """An object of a layer class. pycaffe's own base cannot be set up without Caffe, nor is it needed."""
    return cls(msg.raw) if issubclass(cls, PythonLayer) else cls.__new__(cls)


@dataclass(frozen=True, slots=True)
class Given(Filler):
    """Values that a Python layer's setup wrote."""

    start: tuple[float, ...] = ()

    def fill(self, shape: Shape, rng: np.random.Generator) -> Array:
        return np.array(self.start, np.float32).reshape(shape)


@layer("Python")
@dataclass(frozen=True, slots=True)
class Python(Layer):
    """Run the code of a class written for pycaffe, or of a PythonLayer.

    bottoms, tops: any number; the shapes are those that the class's setup and reshape give the tops.
    blobs: blob0, blob1, ... as setup adds them.
    The code is a stranger's until you say otherwise: a net with a Python layer is refused, and nothing of it imported,
    unless it is built with allow_python. Then the module is looked for beside the prototxt, in the working directory,
    and as Python finds modules (PYTHONPATH). Where there is no pycaffe, `import caffe` in it finds a stand-in with
    Layer (PythonLayer), TRAIN and TEST. Some classes that many nets name are built in and need no permission, such as
    those of py-faster-rcnn; see `native`. One object of the class serves the built graph and every net compiled from it.
    A layer without bottoms and blobs is an input: the caller may feed its tops, and the code runs for the others.
    Its values are numpy's: it runs on the CPU, and cannot be traced or exported.
    Source: Caffe, include/caffe/layers/python_layer.hpp, python/caffe/_caffe.cpp.
    """

    n_bottom = (0, ANY)
    acts = True
    n_top = (0, ANY)
    ignored = frozenset({"share_in_parallel"})

    module: str
    layer: str
    instance: Instance = field(repr=False, compare=False)
    param_str: str = ""

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Any:
        p = msg.python_param
        same = _natives.get((p.module, p.layer))
        if same is not None and not (_allowed.get() and is_found(p.module, msg.at())):
            check_count(msg, "bottom", same.n_bottom)
            check_count(msg, "top", same.n_top)
            return same.read(msg, bottoms)
        if not _allowed.get():
            what, got = "a Python layer runs code named by the net", f"{p.layer} of the module {p.module}"
            raise NetError(what, at="python_param", got=got, hint="allow it with allow_python=True (--allow-python)")
        for name in ("module", "layer"):
            if not getattr(p, name):
                raise NetError(f"{name} is missing", at="python_param", expected='module: "..." layer: "..."')
        instance = Instance(find_class(p.module, p.layer, msg.at()), msg, bottoms)
        if not bottoms and not instance.blobs:
            return PythonData(instance.shapes(()), p.module, p.layer, instance, p.param_str)
        return cls(p.module, p.layer, instance, p.param_str)

    def tops(self, bottoms: Shapes) -> Shapes:
        return self.instance.shapes(bottoms)

    def blobs(self, bottoms: Shapes) -> dict[str, BlobSpec]:
        return dict(self.instance.specs)

    def windows(self, bottoms: Shapes, tops: Shapes, bottom: int, top: int) -> Windows | None:
        return None

    def forward(self, m: Any, *bottoms: Tensor) -> tuple[Tensor, ...]:
        _refuse_tracing()
        blobs = [getattr(m, name) for name in self.instance.specs]
        tops: tuple[Tensor, ...] = _call().apply(self.instance, len(bottoms), *bottoms, *blobs)
        return tops


@dataclass(frozen=True, slots=True)
class PythonData(InputLayer):
    """A Python layer without bottoms: it makes what the caller does not feed."""

    kind: ClassVar[str] = "Python"

    module: str
    layer: str
    instance: Instance = field(repr=False, compare=False)
    param_str: str = ""

    def forward(self, m: Any, *fed: Tensor | None) -> tuple[Tensor, ...]:
        import torch

        if all(x is not None for x in fed):
            return tuple(x for x in fed if x is not None)
        _refuse_tracing()
        made = self.instance.forward((), (), _numpy_type(m.like))
        return tuple(torch.from_numpy(y).to(m.like) if x is None else x for x, y in zip(fed, made, strict=True))


def _refuse_tracing() -> None:
    import torch

    if torch.compiler.is_compiling():
        raise NetError("a Python layer cannot be traced: its code is not PyTorch's", hint="leave it out with outputs=")


def _numpy_type(tensor: Tensor) -> Any:
    return np.float64 if tensor.element_size() == 8 else np.float32


def _array(tensor: Tensor) -> Array:
    """A copy in numpy: float64 where the tensor has that, else float32."""
    import torch

    exact = torch.float64 if tensor.dtype == torch.float64 else torch.float32
    values: Array = tensor.detach().to("cpu", exact).numpy().copy()
    return values


@cache
def _call() -> Any:
    """The torch.autograd.Function that runs an Instance."""
    import torch
    from torch.autograd.function import once_differentiable

    class Call(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, instance: Instance, n: int, *tensors: Tensor) -> tuple[Tensor, ...]:
            arrays = [_array(t) for t in tensors]
            made = instance.forward(arrays[:n], arrays[n:], _numpy_type(tensors[0]))
            tops = tuple(torch.from_numpy(y).to(tensors[0]) for y in made)
            ctx.instance, ctx.n = instance, n
            ctx.save_for_backward(*tensors, *tops)
            return tops

        @staticmethod
        @once_differentiable
        def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
            saved, needs = ctx.saved_tensors, ctx.needs_input_grad[2:]
            tensors, n = saved[: len(needs)], ctx.n
            arrays, tops = [_array(t) for t in tensors], [_array(t) for t in saved[len(needs) :]]
            diffs = [_array(g) for g in grads]
            found = ctx.instance.backward(arrays[:n], arrays[n:], tops, diffs, needs[:n])
            wanted = zip(found, tensors, needs, strict=True)
            return (None, None, *(torch.from_numpy(d).to(t) if need else None for d, t, need in wanted))

    return Call
