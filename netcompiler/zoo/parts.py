"""What the families share: the usual parts of nets, training nets around them, and solvers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict, TypeVar, Unpack

from ..errors import NetError, nearest
from ..fields import message
from ..spec import NetSpec, Top
from ..text import Msg

T = TypeVar("T")
Filler = dict[str, Any]
Size = int | tuple[int, int]

MEAN_BGR = (104, 117, 123)  # ImageNet's mean colour, 0 to 255
MSRA: Filler = {"type": "msra"}
XAVIER: Filler = {"type": "xavier"}
# The habit of the time before batch normalisation: biases learn twice as fast as weights, and do not decay.
TWO_RATES = ({"lr_mult": 1, "decay_mult": 1}, {"lr_mult": 2, "decay_mult": 0})
FROZEN = ({"lr_mult": 0, "decay_mult": 0}, {"lr_mult": 0, "decay_mult": 0})


class Sources(TypedDict, total=False):
    """Options of every training net that reads sets of pictures: the sets' paths, and images to a batch."""

    train_source: str
    val_source: str
    train_batch: int
    val_batch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pictures:
    """How a net takes its pictures; `sources` of a call go before those given here."""

    crop: int
    mean: Sequence[float] = MEAN_BGR
    scale: float | None = None
    gray: bool = False
    mirror: bool = True
    train_source: str = "examples/imagenet/ilsvrc12_train_lmdb"
    val_source: str = "examples/imagenet/ilsvrc12_val_lmdb"
    train_batch: int = 32
    val_batch: int = 50


def mnist(**more: Any) -> Pictures:
    """Handwritten digits, 28 x 28, 0 to 1."""
    sets = {"train_source": "examples/mnist/mnist_train_lmdb", "val_source": "examples/mnist/mnist_test_lmdb"}
    settings = {"crop": 28, "mean": (), "scale": 1 / 256, "gray": True, "mirror": False, **sets}
    return Pictures(**{**settings, "train_batch": 64, "val_batch": 100, **more})


def cifar(**more: Any) -> Pictures:
    """CIFAR-10: 32 x 32 out of training pictures that were padded with 4 zeros on each side; R, G, B as its files
    lie.
    """
    sets = {
        "train_source": "examples/cifar10/cifar10_pad4_train_lmdb",
        "val_source": "examples/cifar10/cifar10_test_lmdb",
    }
    settings = {"crop": 32, "mean": (125.3, 123.0, 113.9), **sets}
    return Pictures(**{**settings, "train_batch": 128, "val_batch": 100, **more})


class Net(NetSpec):
    """A NetSpec with the parts that published nets are made of.

    train: fillers for the weights, and BatchNorm by the phase; else no fillers, and BatchNorm by its stored statistics.
    filler, bias_value: of layers that are given none.  rates: ParamSpecs of layers with weights and bias.
    eps: BatchNorm's.  still: its statistics, and the Scale behind it, do not change in training either.
    """

    filler: Filler = MSRA
    bias_value: float | None = None
    rates: Sequence[Mapping[str, Any]] = ()
    eps: float | None = None
    still = False

    def __init__(self, name: str, *, train: bool, **fields: Any) -> None:
        super().__init__(name, **fields)
        self.train = train

    def learned(self, filler: Filler | None, bias: bool, bias_value: float | None) -> dict[str, Any]:
        """The settings of a layer with weights: its bias_term, and where it is to train its fillers and rates."""
        found: dict[str, Any] = {} if bias else {"bias_term": False}
        if self.train:
            found["weight_filler"] = self.filler if filler is None else filler
            value = self.bias_value if bias_value is None else bias_value
            if bias and value is not None:
                found["bias_filler"] = {"type": "constant", "value": value}
            found["param"] = list(self.rates[: 1 + bias]) or None
        return found

    def conv(
        self,
        x: Top,
        name: str,
        num_output: int,
        kernel: Size = 1,
        stride: int = 1,
        pad: Size | None = None,
        *,
        bias: bool = True,
        group: int = 1,
        dilation: int = 1,
        filler: Filler | None = None,
        bias_value: float | None = None,
        top: str | None = None,
        kind: str = "Convolution",
        param: Sequence[Mapping[str, Any]] | None = None,
    ) -> Top:
        """A convolution; without `pad` one that keeps the size, but for the stride. kernel and pad: of both sides, or
        H, W.
        """
        if pad is None:
            sides = [(k - 1) * dilation // 2 for k in ((kernel, kernel) if isinstance(kernel, int) else kernel)]
            pad = sides[0] if isinstance(kernel, int) else (sides[0], sides[1])
        sizes: dict[str, Any] = {}
        for word, size in (("kernel", kernel), ("pad", pad)):
            if isinstance(size, int):
                sizes["kernel_size" if word == "kernel" else "pad"] = size or None
            else:
                sizes[f"{word}_h"], sizes[f"{word}_w"] = size
        settings = self.learned(filler, bias, bias_value)
        if param is not None:
            settings["param"] = list(param)
        made: Top = self.layer(
            kind,
            x,
            name=name,
            top=top,
            num_output=num_output,
            stride=stride if stride > 1 else None,
            group=group if group > 1 else None,
            dilation=dilation if dilation > 1 else None,
            **sizes,
            **settings,
        )
        return made

    def fc(
        self,
        x: Top,
        name: str,
        num_output: int,
        *,
        bias: bool = True,
        filler: Filler | None = None,
        bias_value: float | None = None,
        **fields: Any,
    ) -> Top:
        """A fully connected layer."""
        settings = self.learned(filler, bias, bias_value) | fields
        top: Top = self.InnerProduct(x, name=name, num_output=num_output, **settings)
        return top

    def relu(self, x: Top, name: str, **fields: Any) -> Top:
        """A ReLU in place."""
        top: Top = self.ReLU(x, name=name, in_place=True, **fields)
        return top

    def conv_relu(self, x: Top, name: str, relu: str, num_output: int, kernel: Size = 1, **settings: Any) -> Top:
        """A convolution and its ReLU in place."""
        return self.relu(self.conv(x, name, num_output, kernel, **settings), relu)

    def norm(
        self, x: Top, bn: str, scale: str, *, in_place: bool = True, param: Sequence[Mapping[str, Any]] | None = None
    ) -> Top:
        """BatchNorm, and Scale that learns gamma and beta. param: of the Scale."""
        stats = True if self.still or not self.train else None
        param = FROZEN if self.still and self.train else param
        x = self.BatchNorm(x, name=bn, in_place=in_place, use_global_stats=stats, eps=self.eps)
        top: Top = self.Scale(x, name=scale, in_place=True, bias_term=True, param=param and list(param))
        return top

    def pool(
        self, x: Top, name: str, kernel: int, stride: int = 1, pad: int = 0, *, kind: str = "MAX", **fields: Any
    ) -> Top:
        """Pooling over kernel x kernel; over everything with a kernel of 0."""
        size: dict[str, Any] = {"kernel_size": kernel, "stride": stride} if kernel else {"global_pooling": True}
        top: Top = self.Pooling(x, name=name, pool=kind, pad=pad or None, **size, **fields)
        return top

    def drop(self, x: Top, name: str, ratio: float = 0.5) -> Top:
        """Dropout in place."""
        top: Top = self.Dropout(x, name=name, in_place=True, dropout_ratio=ratio)
        return top

    def image(self, channels: int, height: int, width: int | None = None, *, batch: int = 1) -> Top:
        """The input `data`."""
        dims = [batch, channels, height, width or height]
        top: Top = self.Input(name="input", top="data", shape={"dim": dims})
        return top

    def pictures(self, how: Pictures, sources: Sources) -> tuple[Top, Top]:
        """Data layers: pictures and labels of TRAIN, and of TEST."""
        for key in sources:
            if key not in Sources.__annotations__:
                near = nearest(key, Sources.__annotations__)
                raise NetError(f'no option "{key}"', hint=f'did you mean "{near[0]}"?' if near else None)
        for phase, word in (("TRAIN", "train"), ("TEST", "val")):
            own = {k: sources.get(k, getattr(how, k)) for k in (f"{word}_source", f"{word}_batch")}
            transform = {
                "scale": how.scale,
                "mirror": (phase == "TRAIN") if how.mirror else None,
                "crop_size": how.crop,
                "mean_value": list(how.mean) or None,
                "force_gray": how.gray or None,
            }
            data, label = self.Data(
                name="data",
                top=("data", "label"),
                include={"phase": phase},
                transform_param=transform,
                data_param={"source": own[f"{word}_source"], "batch_size": own[f"{word}_batch"], "backend": "LMDB"},
            )
        return data, label

    def judge(self, scores: Top, label: Top, top5: bool = True) -> Msg:
        """The loss, and in TEST how often the first (and one of the first five) is right. The whole net."""
        self.SoftmaxWithLoss(scores, label, name="loss")
        self.Accuracy(scores, label, name="top1", include={"phase": "TEST"})
        if top5:
            self.Accuracy(scores, label, name="top5", top_k=5, include={"phase": "TEST"})
        return self.message()


class Classifier(Net):
    """A Net whose `scores` makes data into one number for each class."""

    def scores(self, data: Top, classes: int) -> Top:
        raise NotImplementedError

    def deployed(self, side: int, classes: int, channels: int = 3) -> Msg:
        """data 1 x channels x side x side to prob."""
        self.Softmax(self.scores(self.image(channels, side), classes), name="prob")
        return self.message()

    def trained(self, how: Pictures, classes: int, top5: bool = True, **sources: Unpack[Sources]) -> Msg:
        """Pictures to loss."""
        data, label = self.pictures(how, sources)
        return self.judge(self.scores(data, classes), label, top5)


def solving(name: str, net: str, **fields: Any) -> Msg:
    """A SolverParameter for the net `name`; net: path of its train_val prototxt, unset that of `model_zoo/`."""
    usual = {
        "test_iter": 1000,
        "test_interval": 5000,
        "test_initialization": False,
        "momentum": 0.9,
        "display": 100,
        "average_loss": 100,
        "snapshot": 10_000,
    }
    given = {**usual, "net": net or f"model_zoo/{name}-train_val.prototxt", "snapshot_prefix": name, **fields}
    return message("SolverParameter", **given)


def chosen(table: Mapping[Any, T], got: Any, what: str) -> T:
    """An entry of a table. Raises: NetError that names the entries."""
    if got not in table:
        raise NetError(what, expected="one of " + ", ".join(map(str, table)), got=got)
    return table[got]
