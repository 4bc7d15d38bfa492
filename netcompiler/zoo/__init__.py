"""Published nets, written by functions: net definitions and solvers as messages, layers named as in the published weights.

`netcompiler.compile(zoo.resnet.deploy(50), weights)` needs no prototxt. `model_zoo/` holds them as files.
"""

from ..text import Msg
from . import resnet

__all__ = ["files", "resnet"]


def files() -> dict[str, Msg]:
    """Every file of `model_zoo/`: its name and its message.

    >>> list(files())[:3]
    ['ResNet-50-deploy.prototxt', 'ResNet-50-train_val.prototxt', 'ResNet-50-solver.prototxt']
    """
    found = {}
    for depth in resnet.BLOCKS:
        found[f"ResNet-{depth}-deploy.prototxt"] = resnet.deploy(depth)
        found[f"ResNet-{depth}-train_val.prototxt"] = resnet.train_val(depth)
        found[f"ResNet-{depth}-solver.prototxt"] = resnet.solver(depth)
    return found
