"""Which nets there are: their names, functions and options, and what their papers tell of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import NetError, nearest
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
from .parts import Sources

Write = Callable[..., Msg]
SUFFIX = ".prototxt"
RESNET = 'He, "Deep Residual Learning for Image Recognition", 2016'
PREACT = 'He, "Identity Mappings in Deep Residual Networks", 2016'
WIDE = 'Zagoruyko, "Wide Residual Networks", 2016'
RESNEXT = 'Xie, "Aggregated Residual Transformations for Deep Neural Networks", 2017'
ALEXNET = 'Krizhevsky, "ImageNet Classification with Deep Convolutional Neural Networks", 2012'
VGG = 'Simonyan, "Very Deep Convolutional Networks for Large-Scale Image Recognition", 2015'
SQUEEZENET = 'Iandola, "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters and <0.5MB model size", 2016'
V4 = 'Szegedy, "Inception-v4, Inception-ResNet and the Impact of Residual Connections on Learning", 2017'
DCGAN = 'Radford, "Unsupervised Representation Learning with Deep Convolutional Generative Adversarial Networks", 2016'
LRCN = 'Donahue, "Long-term Recurrent Convolutional Networks for Visual Recognition and Description", 2015'
FASTER = 'Ren, "Faster R-CNN: Towards Real-Time Object Detection with Region Proposal Networks", 2015'

BVLC = "BVLC/caffe"
KAIMING = "KaimingHe/deep-residual-networks"
CIFAR = "junyuseu/ResNet-on-Cifar10"
SOEAVER = "soeaver/caffe-model"
NONE = "none known"


@dataclass(frozen=True, slots=True)
class Model:
    """A published net.

    parts: what is written of it, by the last word of the file name; a function of the options each.
    options: those that make this net of its family.
    parameters: as published: all digits, or few; empty where nothing was.
    error: as the paper gives it, top-1 / top-5 on ImageNet's validation set with one crop where nothing else is said.
    input: channels x height x width.  weights: the project that has trained ones.
    stored: whether `model_zoo/` holds the files; the others are written on demand.
    """

    name: str
    parts: Mapping[str, Write]
    paper: str
    parameters: str
    error: str
    input: str
    weights: str
    options: Mapping[str, Any] = field(default_factory=dict)
    stored: bool = True

    def write(self, part: str = "deploy", **options: Any) -> Msg:
        """The net or the solver. Raises: NetError for a part or an option that this net has not.

        >>> find("ResNet-34").write("deploy", shortcut="A").name
        'ResNet-34'
        """
        if part not in self.parts:
            raise NetError(f'{self.name} has no part "{part}"', expected=" or ".join(self.parts), got=part)
        known, function = self.choices(part), self.parts[part]
        for name in options:
            if name not in known:
                near = nearest(name, known)
                hint = f'did you mean "{near[0]}"?' if near else None
                raise NetError(f'no option "{name}"', expected=", ".join(known) or "none", got=name, hint=hint)
        return function(**{k: v for k, v in {**self.options, **options}.items() if k in known})

    def choices(self, part: str = "deploy") -> dict[str, Any]:
        """The options of a part, with the values that they have in this net; a solver's path of the net is one."""
        found: dict[str, Any] = {}
        for name, p in inspect.signature(self.parts[part]).parameters.items():
            if p.kind is inspect.Parameter.VAR_KEYWORD:
                found |= dict.fromkeys(Sources.__annotations__, None)
            else:
                found[name] = self.options.get(name, p.default)
        return found


class Files(Mapping[str, Msg]):
    """The files of `model_zoo/`, each made when it is asked for."""

    def __init__(self) -> None:
        self._parts = {f"{m.name}-{part}{SUFFIX}": (m, part) for m in MODELS.values() if m.stored for part in m.parts}

    def __getitem__(self, name: str) -> Msg:
        model, part = self._parts[name]
        return model.write(part)

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)

    def model(self, name: str) -> Model:
        """The model that a file is of."""
        return self._parts[name][0]


def find(name: str) -> Model:
    """The model of a name, in any case. Raises: NetError that names the nearest."""
    known = {model.lower(): model for model in MODELS}
    if name.lower() not in known:
        near = nearest(name.lower(), known)
        hint = f'did you mean "{known[near[0]]}"?' if near else "`netcompile zoo` lists them"
        raise NetError(f'the zoo has no net "{name}"', hint=hint)
    return MODELS[known[name.lower()]]


def _usual(family: Any) -> dict[str, Write]:
    return {"deploy": family.deploy, "train_val": family.train_val, "solver": family.solver}


def _resnets() -> Iterator[Model]:
    usual, size = _usual(resnet), "3 x 224 x 224"
    ten = " (10 crops)"
    for depth, parameters, error, weights in (
        (18, "11,689,512", f"A: 27.88 % / -{ten}", f"{SOEAVER} (resnet18-priv)"),
        (34, "21,797,672", f"24.52 % / 7.46 %{ten}; A: 25.03 % / 7.76 %; C: 24.19 % / 7.40 %", NONE),
        (50, "25,557,032 without conv1's bias", "24.7 % / 7.8 %", KAIMING),
        (101, "44,549,160", "23.6 % / 7.1 %", KAIMING),
        (152, "60,192,808", "23.0 % / 6.7 %", KAIMING),
    ):
        yield Model(f"ResNet-{depth}", usual, RESNET, parameters, error, size, weights, {"depth": depth})
    for depth, error in ((18, f"27.94 % / -{ten}"), (34, f"28.54 % / 10.02 %{ten}")):
        yield Model(f"Plain-{depth}", usual, RESNET, "", error, size, NONE, {"depth": depth, "plain": True})


def _cifars() -> Iterator[Model]:
    usual, size = _usual(cifar), "3 x 32 x 32"
    for depth, parameters, error in (
        (20, "0.27 M", "8.75 %"),
        (32, "0.46 M", "7.51 %"),
        (44, "0.66 M", "7.17 %"),
        (56, "0.85 M", "6.97 %"),
        (110, "1.7 M", "6.43 %"),
        (1202, "19.4 M", "7.93 %"),
    ):
        name, weights = f"CIFAR-ResNet-{depth}", f"{CIFAR} (`shortcut=B bias=true`)" if depth in (20, 56) else NONE
        error += " (CIFAR-10)"
        yield Model(name, usual, RESNET, parameters, error, size, weights, {"depth": depth}, depth < 1202)
    for depth, told, weights in ((20, "9.90 %", f"{CIFAR} (`bias=true`)"), (56, "14.74 %", NONE)):
        error, options = f"figure 6 of the paper; {told} (junyuseu's, unaugmented)", {"depth": depth, "plain": True}
        yield Model(f"CIFAR-Plain-{depth}", usual, RESNET, "", error, size, weights, options)
    usual = _usual(preact)
    for depth, parameters, error in (
        (110, "1.7 M", "6.37 %"),
        (164, "1.7 M", "5.46 %"),
        (1001, "10.2 M", "4.92 %"),
    ):
        name, options, stored = f"CIFAR-PreResNet-{depth}", {"depth": depth}, depth < 1001
        yield Model(name, usual, PREACT, parameters, f"{error} (CIFAR-10)", size, NONE, options, stored)
    error = "20.7 % / 5.3 % (320 x 320 pixels)"
    yield Model("PreResNet-200", usual, PREACT, "64.7 M", error, "3 x 224 x 224", NONE, {"depth": 200})
    wide = {"depth": 28, "wide": 10}
    yield Model("WRN-28-10", usual, WIDE, "36.5 M", "4.00 % (CIFAR-10)", size, NONE, wide)


def _others() -> Iterator[Model]:
    large = "3 x 224 x 224"
    digits = "1 x 28 x 28"
    lenets = 'LeCun, "Gradient-Based Learning Applied to Document Recognition", 1998'
    error = "0.95 % (MNIST; the paper's LeNet-5)"
    yield Model("LeNet", _usual(lenet), lenets, "431 k", error, digits, "your own: two minutes of training")
    for variant, error in (("AlexNet", "42.9 % / 19.8 % (BVLC's)"), ("CaffeNet", "42.6 % / 19.6 % (BVLC's)")):
        options = {"variant": variant}
        yield Model(variant, _usual(alexnet), ALEXNET, "60,965,224", error, "3 x 227 x 227", BVLC, options)
    paper = 'Zeiler, "Visualizing and Understanding Convolutional Networks", 2014'
    parts = _usual(zfnet) | {"deconvnet": zfnet.deconvnet}
    yield Model("ZFNet", parts, paper, "", "38.4 % / 16.5 % (crops not told)", "3 x 225 x 225", NONE)
    weights = "the authors' page at Oxford (VGG_ILSVRC_*_layers)"
    for depth, parameters, error in ((16, "138,357,544", "25.6 % / 8.1 %"), (19, "143,667,240", "25.5 % / 8.0 %")):
        error += " (whole images)"
        yield Model(f"VGG-{depth}", _usual(vgg), VGG, parameters, error, large, weights, {"depth": depth})
    paper = 'Szegedy, "Going Deeper with Convolutions", 2015'
    error, parameters = (
        "31.3 % / 11.1 % (BVLC's); - / 10.07 % (paper)",
        "6,998,552; 13,378,280 with both auxiliary classifiers",
    )
    yield Model("GoogLeNet", _usual(googlenet), paper, parameters, error, large, BVLC)


def _newer() -> Iterator[Model]:
    large = "3 x 224 x 224"
    for depth, parameters, error in ((50, "25,028,904", "22.2 % / -"), (101, "44,177,704", "21.2 % / 5.6 %")):
        name = f"ResNeXt-{depth}-32x4d"
        yield Model(name, _usual(resnext), RESNEXT, parameters, error, large, SOEAVER, {"depth": depth})
    wide = {"depth": 50, "cardinality": 1, "width": 128}
    yield Model("WRN-50-2", _usual(resnext), WIDE, "68,883,240", "21.9 % / 6.03 %", large, SOEAVER, wide)
    for version, parameters in (("1.0", "1,248,424"), ("1.1", "1,235,496")):
        name, options, error = f"SqueezeNet-{version}", {"version": version}, "42.5 % / 19.7 %"
        weights = "forresti/SqueezeNet"
        yield Model(name, _usual(squeezenet), SQUEEZENET, parameters, error, "3 x 227 x 227", weights, options)
    paper = 'Howard, "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications", 2017'
    weights = "shicai/MobileNet-Caffe"
    yield Model("MobileNet-v1", _usual(mobilenet), paper, "4,231,976", "29.4 % / -", large, weights, {"version": "v1"})
    paper = 'Sandler, "MobileNetV2: Inverted Residuals and Linear Bottlenecks", 2018'
    options, weights = {"version": "v2"}, f"{weights} (`early=true`)"
    yield Model("MobileNet-v2", _usual(mobilenet), paper, "3,504,872", "28.0 % / -", large, weights, options)
    paper = 'Huang, "Densely Connected Convolutional Networks", 2017'
    error, weights = "25.02 % / 7.71 %", "shicai/DenseNet-Caffe"
    yield Model("DenseNet-121", _usual(densenet), paper, "7,978,856", error, large, weights, {"depth": 121})
    paper = 'Srivastava, "Highway Networks", 2015'
    error = "training curves only (figure 1)"
    yield Model("Highway-50", _usual(highway), paper, "", error, "1 x 28 x 28", NONE, {"depth": 50})
    v3 = 'Szegedy, "Rethinking the Inception Architecture for Computer Vision", 2016'
    for version, paper, parameters, error in (
        ("v3", v3, "23,834,568", "21.2 % / 5.6 %"),
        ("v4", V4, "42,679,816", "20.0 % / 5.0 %"),
        ("resnet-v2", V4, "55,843,464", "19.9 % / 4.9 %"),
    ):
        name, options = inception.NAMES[version], {"version": version}
        yield Model(name, _usual(inception), paper, parameters, error, "3 x 299 x 299", SOEAVER, options)


def _tasks() -> Iterator[Model]:
    for name, part in (("generator", dcgan.generator), ("discriminator", dcgan.discriminator)):
        makes = name == "generator"
        parts: dict[str, Write] = {
            "deploy": part,
            "train_val": dcgan.train_generator if makes else dcgan.train_discriminator,
            "solver": dcgan.solve_generator if makes else dcgan.solve_discriminator,
        }
        yield Model(f"DCGAN-{name}", parts, DCGAN, "", "-", "100 numbers" if makes else "3 x 64 x 64", NONE)
    paper = 'Long, "Fully Convolutional Networks for Semantic Segmentation", 2015'
    error, weights = (
        "62.2 % mean IU (VOC 2012 test); the published weights 67.2 %",
        "shelhamer/fcn.berkeleyvision.org (voc-fcn8s)",
    )
    yield Model("FCN-8s", _usual(fcn), paper, "134 M", error, "3 x H x W", weights)
    parts = {"deploy": captioning.cnn}
    weights = "Evolving-AI-Lab/ppgn fetches the authors' (nets/lrcn): both nets in one file"
    yield Model("Captioning-CNN", parts, LRCN, "60,965,224", "-", "3 x 227 x 227", weights)
    yield Model("Captioning-LSTM", _usual(captioning), LRCN, "", "-", "words; 1,000 features", weights)
    paper = 'Jaderberg, "Spatial Transformer Networks", 2015'
    error = "0.5 % (rotated, scaled, moved digits)"
    yield Model("Spatial-Transformer", _usual(spatial_transformer), paper, "", error, "1 x 42 x 42", NONE)
    paper = 'Girshick, "Rich feature hierarchies for accurate object detection and semantic segmentation", 2014'
    error, weights = "31.4 % mAP (ILSVRC 2013)", f"{BVLC} (bvlc_reference_rcnn_ilsvrc13)"
    yield Model("R-CNN", _usual(rcnn), paper, "", error, "3 x 227 x 227", weights)
    parts = {"deploy": rcnn.fast_deploy, "train_val": rcnn.fast_train_val, "solver": rcnn.fast_solver}
    paper, error, size = 'Girshick, "Fast R-CNN", 2015', "66.9 % mAP (VOC 2007)", "3 x 600 x 1000; regions"
    yield Model("Fast-R-CNN-VGG-16", parts, paper, "", error, size, "rbgirshick/fast-rcnn")
    for backbone, error, weights in (
        ("VGG-16", "69.9 % mAP (VOC 2007); 73.2 % trained on 2012, too", "rbgirshick/py-faster-rcnn"),
        ("ResNet-50", "-", f"{KAIMING} to start from"),
    ):
        name, options, size = f"Faster-R-CNN-{backbone}", {"backbone": backbone}, "3 x 600 x 1000"
        yield Model(name, _usual(faster_rcnn), FASTER, "", error, size, weights, options)
    paper = 'Liu, "SSD: Single Shot MultiBox Detector", 2016'
    error, weights = "77.2 % mAP (VOC 2007, trained on 2012, too)", "weiliu89/caffe, branch ssd"
    yield Model("SSD300", _usual(ssd), paper, "", error, "3 x 300 x 300", weights)


MODELS = {m.name: m for group in (_others, _resnets, _cifars, _newer, _tasks) for m in group()}
