"""Published nets, written by functions: net definitions and solvers as messages, layers named as in the published
weights.

`netcompiler.compile(zoo.resnet.deploy(50), weights)` needs no prototxt; `zoo.find("ResNet-50").write("train_val")` is
the same by name, and `netcompile zoo` at the command line. `model_zoo/` holds them as files.
"""

from collections.abc import Mapping

from ..text import Msg
from . import (
    alexnet,
    captioning,
    cifar,
    dcgan,
    densenet,
    faster_rcnn,
    fcn,
    googlenet,
    highway,
    inception,
    lenet,
    mobilenet,
    preact,
    rcnn,
    resnet,
    resnext,
    spatial_transformer,
    squeezenet,
    ssd,
    vgg,
    zfnet,
)
from .catalogue import MODELS, Files, Model, find

__all__ = [
    "MODELS",
    "Files",
    "Model",
    "alexnet",
    "captioning",
    "cifar",
    "dcgan",
    "densenet",
    "faster_rcnn",
    "fcn",
    "files",
    "find",
    "googlenet",
    "highway",
    "inception",
    "lenet",
    "mobilenet",
    "preact",
    "rcnn",
    "resnet",
    "resnext",
    "spatial_transformer",
    "squeezenet",
    "ssd",
    "vgg",
    "zfnet",
]


def files() -> Mapping[str, Msg]:
    """Every file of `model_zoo/`: its name and its message, made when it is asked for.

    >>> list(files())[:3]
    ['LeNet-deploy.prototxt', 'LeNet-train_val.prototxt', 'LeNet-solver.prototxt']
    """
    return Files()
