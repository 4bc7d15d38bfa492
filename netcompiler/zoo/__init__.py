"""Published nets, written by functions: net definitions and solvers as messages, layers named as in the published
weights.

`netcompiler.compile(zoo.resnet.deploy(50), weights)` needs no prototxt; `zoo.find("ResNet-50").write("train_val")` is
the same by name, and `netcompile zoo` at the command line. Each family is a module of this package; `catalogue` lists
them, and what their papers tell. `model_zoo/` holds the nets as files.
"""

from collections.abc import Mapping

from ..text import Msg
from .catalogue import MODELS, Files, Model, find

__all__ = ["MODELS", "Files", "Model", "files", "find"]


def files() -> Mapping[str, Msg]:
    """Every file of `model_zoo/`: its name and its message, made when it is asked for.

    >>> list(files())[:3]
    ['LeNet-deploy.prototxt', 'LeNet-train_val.prototxt', 'LeNet-solver.prototxt']
    """
    return Files()
