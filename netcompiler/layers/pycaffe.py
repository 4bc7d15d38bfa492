"""What a Python layer finds of pycaffe: blobs, the base class, and the way to its module."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import PathFinder
from math import prod
from pathlib import Path
from types import ModuleType
from typing import Any, Self

import numpy as np

from ..errors import NetError, Span, nearest
from ..graph import Array, Shape, dims


class Blob:
    """An array and its gradient, as a Python layer sees them in pycaffe: numpy arrays to be read and written in place.

    float32, or float64 in a net of that type. Memory is kept when the shape gets smaller, and with it the values.
    """

    __slots__ = ("_data", "_diff", "shape")

    shape: Shape

    def __init__(self, shape: Shape = (), dtype: Any = np.float32) -> None:
        self._data = np.zeros(0, dtype)
        self._diff = np.zeros(0, dtype)
        self.reshape(*shape)

    def __repr__(self) -> str:
        return f"<Blob {dims(self.shape)}>"

    def reshape(self, *shape: int) -> None:
        """Give the blob another shape: `reshape(2, 3)`."""
        sizes = tuple(int(d) for d in shape)
        if any(d < 0 for d in sizes):
            raise ValueError(f"a blob cannot have the shape {sizes}")
        if prod(sizes) > self._data.size:
            self._data = np.zeros(prod(sizes), self._data.dtype)
            self._diff = np.zeros(prod(sizes), self._diff.dtype)
        self.shape = sizes

    @property
    def data(self) -> Array:
        """The values, in the blob's shape."""
        return self._data[: self.count].reshape(self.shape)

    @property
    def diff(self) -> Array:
        """The gradient, in the blob's shape."""
        return self._diff[: self.count].reshape(self.shape)

    @property
    def count(self) -> int:
        """The number of elements."""
        return prod(self.shape)

    @property
    def num(self) -> int:
        """N of N x C x H x W; 1 where there is no such axis, as for the three that follow."""
        return self._side(0)

    @property
    def channels(self) -> int:
        """C of N x C x H x W."""
        return self._side(1)

    @property
    def height(self) -> int:
        """H of N x C x H x W."""
        return self._side(2)

    @property
    def width(self) -> int:
        """W of N x C x H x W."""
        return self._side(3)

    def _side(self, index: int) -> int:
        if len(self.shape) > 4:
            raise ValueError(f"a blob of {len(self.shape)} axes has no num, channels, height and width: use shape")
        return self.shape[index] if index < len(self.shape) else 1

    def take(self, values: Array) -> None:
        """Become a copy of an array, in its type and shape; the gradient is 0."""
        self._data = values.reshape(-1).copy()
        self._diff = np.zeros_like(self._data)
        self.shape = values.shape

    def cast(self, dtype: Any) -> None:
        """Hold values of another type."""
        self._data, self._diff = self._data.astype(dtype, copy=False), self._diff.astype(dtype, copy=False)


class BlobList(list[Blob]):
    """The learned blobs of a Python layer."""

    def add_blob(self, *shape: int) -> None:
        """Append a blob; what `setup` writes into its data is where learning starts."""
        self.append(Blob(shape))


Blobs = Sequence[Blob]


class PythonLayer:
    """A layer of your own, with pycaffe's interface: derive from it and name module and class in `python_param`.

    Methods are given lists of `Blob`s. setup runs once; reshape follows, before each forward as well, and gives the tops
    their shapes: `top[0].reshape(2, 3)`. forward writes `top[i].data`, and may reshape tops too. backward writes
    `bottom[i].diff` where propagate_down[i], from `top[i].diff`. What it keeps in `self` is that of the last forward.
    param_str: the net's text for the layer.  phase: 0 in TRAIN, 1 in TEST.
    blobs: arrays to learn, which setup adds with `self.blobs.add_blob(5, 3)`; backward writes their diff.
    """

    param_str: str = ""
    phase: int = 1
    blobs: BlobList

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        made = super().__new__(cls)
        made.blobs = BlobList()
        return made

    def __init__(self, param: Any = None) -> None:
        """`param`: the layer's message, as pycaffe hands it over."""

    def setup(self, bottom: Blobs, top: Blobs) -> None:
        """Read param_str, check the bottoms. Does nothing unless overridden."""

    def reshape(self, bottom: Blobs, top: Blobs) -> None:
        """Shape the tops by the bottoms. Does nothing unless overridden: right where setup has shaped them for good."""

    def forward(self, bottom: Blobs, top: Blobs) -> None:
        """Compute the tops from the bottoms."""
        raise NotImplementedError("the class has no forward")

    def backward(self, top: Blobs, propagate_down: Sequence[bool], bottom: Blobs) -> None:
        """Compute the gradients of the bottoms from those of the tops."""
        raise NotImplementedError("the class has no backward")


def told(e: BaseException) -> str:
    """An exception in one line."""
    return f"{type(e).__name__}: {e}" if str(e) else type(e).__name__


def _folders(at: Span | None) -> list[str]:
    """Where a Python layer's module is looked for first: beside the net, and in the working directory."""
    here = Path(at.file).parent if at is not None and Path(at.file).is_file() else None
    folders = [str(here.resolve())] if here is not None else []
    return folders + [folder for folder in (os.getcwd(),) if folder not in folders]


def is_found(module: str, at: Span | None) -> bool:
    """Whether there is a module of the name, or a package that may hold it. Runs no code."""
    root = module.partition(".")[0]
    with _path(_folders(at)):
        return root in sys.modules or importlib.util.find_spec(root) is not None


def find_class(module: str, name: str, at: Span | None) -> type:
    """The class that a Python layer names. Runs the module's code.

    Raises: NetError where it cannot be imported, and where it has no such layer class.
    """
    folders = _folders(at)
    importlib.invalidate_caches()
    _check_loaded(module.partition(".")[0], folders)
    with _path(folders), _caffe():
        try:
            found = importlib.import_module(module)
        except Exception as e:
            what = f'the Python module "{module}" cannot be imported: {told(e)}'
            looked = ", ".join(folders) + ", then as Python finds modules"
            raise NetError(what, at="module", expected=f"a module in {looked}", hint="PYTHONPATH adds folders") from e
        cls = getattr(found, name, None)
        if cls is None:
            near = nearest(name, vars(found))
            hint = f'did you mean "{near[0]}"?' if near else None
            raise NetError(f'the module "{module}" has no class "{name}"', at="layer", hint=hint)
        bases = (PythonLayer, getattr(sys.modules.get("caffe"), "Layer", PythonLayer))
        if not isinstance(cls, type) or not issubclass(cls, bases):
            raise NetError(
                f"{name} is no layer class", at="layer", expected="a class derived from caffe.Layer or PythonLayer"
            )
    return cls


def _check_loaded(root: str, folders: list[str]) -> None:
    """Raises: NetError where another module of the name is loaded already: its code would run in place of the net's."""
    loaded = sys.modules.get(root)
    spec = PathFinder.find_spec(root, folders) if root and loaded is not None else None
    have = getattr(loaded, "__file__", None)
    if spec is None or spec.origin is None or have is None or Path(spec.origin).resolve() == Path(have).resolve():
        return
    hint = "rename one of the two, or use this net in a process of its own"
    raise NetError(f'another module "{root}" is loaded already', at="module", expected=spec.origin, got=have, hint=hint)


@contextmanager
def _path(folders: list[str]) -> Iterator[None]:
    """Modules are looked for in these folders first."""
    before = list(sys.path)
    sys.path[:0] = folders
    try:
        yield
    finally:
        sys.path[:] = before


@contextmanager
def _caffe() -> Iterator[None]:
    """`import caffe` finds something: pycaffe where there is one, else a stand-in for as long as this lasts."""
    spec = None if "caffe" in sys.modules else importlib.util.find_spec("caffe")
    if "caffe" in sys.modules or (spec is not None and spec.origin is not None):  # a mere folder has no origin
        yield
        return
    stand_in: Any = ModuleType("caffe", "What a Python layer needs of pycaffe.")
    stand_in.Layer, stand_in.TRAIN, stand_in.TEST = PythonLayer, 0, 1
    sys.modules["caffe"] = stand_in
    try:
        yield
    finally:
        sys.modules.pop("caffe", None)
