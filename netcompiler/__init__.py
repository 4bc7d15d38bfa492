"""Caffe nets on PyTorch: read, check, compile, run.

>>> import netcompiler
>>> net = netcompiler.parse('layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 2 } } }')
>>> print(netcompiler.build(net))
x = Input()  # x: 1 x 2
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .builder import build as build
    from .drawing import draw as draw
    from .errors import NetError as NetError, NetWarning as NetWarning, Span as Span
    from .graph import Graph as Graph, Node as Node, Value as Value
    from .layers import Layer as Layer, layer as layer
    from .layers.pycaffe import PythonLayer as PythonLayer
    from .module import CompiledNet as CompiledNet, compile as compile
    from .quantization import quantize as quantize
    from .spec import NetSpec as NetSpec
    from .train.solver import Solver as Solver
    from .upgrade import load as load, parse as parse
    from .weights import read_weights as read_weights

__version__ = "0.1.0"

# Each public name and its module; imported when first used, since torch alone takes more than a second.
_HOME = {
    "CompiledNet": "module",
    "Graph": "graph",
    "Layer": "layers",
    "NetError": "errors",
    "NetSpec": "spec",
    "NetWarning": "errors",
    "Node": "graph",
    "PythonLayer": "layers.pycaffe",
    "Solver": "train.solver",
    "Span": "errors",
    "Value": "graph",
    "build": "builder",
    "compile": "module",
    "draw": "drawing",
    "layer": "layers",
    "load": "upgrade",
    "parse": "upgrade",
    "quantize": "quantization",
    "read_weights": "weights",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return [*globals(), *__all__]
