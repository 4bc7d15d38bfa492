"""Knn, of MyCaffe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..graph import Shapes, dims
from ..text import Msg
from ..windows import Windows
from .base import Layer, at_least, layer, not_in_place, traced

if TYPE_CHECKING:
    from torch import Tensor

OUTPUTS, NEIGHBOURS, BATCHES = 10, 100, 1000  # the defaults


@layer("Knn")
@dataclass(frozen=True, slots=True)
class Knn(Layer):
    """How near each item is to the classes that were seen: 1 - (d - min d) / (max d - min d), with d the mean distance of a
    class's k nearest items.

    bottom[0]: N x D..      bottom[1]: N labels      top[0]: N x num_output x 1 x 1, classes by their labels from the smallest
    In TRAIN the batch is kept, the last max_stored_batches of them, and the top is 0. In TEST those kept count (0 where
    there are none), which are lost with the module: they are in no weight file here. No gradient.
    Quirk: where only one class was seen, it is 0 / 0.
    Source: MyCaffe, MyCaffe.layers.beta/KnnLayer.cs.
    """

    category = "other"
    n_bottom = (1, 2)
    no_gradient = (0, 1)
    remembers = ("stored",)

    num_output: int = OUTPUTS
    k: int = NEIGHBOURS
    max_stored_batches: int = BATCHES
    train: bool = False

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        not_in_place(msg)
        p = msg.knn_param
        usual = {"num_output": OUTPUTS, "k": NEIGHBOURS, "max_stored_batches": BATCHES}
        given = {name: getattr(p, name) if p.has(name) else value for name, value in usual.items()}
        for name in ("num_output", "max_stored_batches"):
            if given[name] < 1:
                raise NetError(f"{name} must be positive", at=p.at(name), got=given[name])
        if len(bottoms) < 2:
            raise NetError("the labels are missing", at=msg.at("bottom"), expected="data and labels")
        return cls(**given, train=msg.enum("phase") == "TRAIN")

    def tops(self, bottoms: Shapes) -> Shapes:
        at_least(2, bottoms)
        n = bottoms[0][0]
        if bottoms[1][:1] != (n,):
            raise NetError("bottom 1 has the wrong shape", expected=f"{n} labels", got=dims(bottoms[1]))
        return ((n, self.num_output, 1, 1),)

    def windows(self, bottoms: Shapes, tops: Shapes, bottom: int, top: int) -> Windows | None:
        return None

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        import torch

        x, labels = bottoms[0].detach().flatten(1), bottoms[1].detach().reshape(len(bottoms[0]), -1)[:, 0].long()
        top = x.new_zeros(len(x), self.num_output)
        stored = getattr(m, "stored", None) or []
        if self.train and not traced(x):
            if not m.again:
                m.stored = [*stored, (x.clone(), labels.clone())][-self.max_stored_batches :]
        elif stored:
            known = torch.cat([s.to(x) for s, _ in stored])
            truth = torch.cat([t.to(labels.device) for _, t in stored])
            distance = torch.cdist(x, known)
            means = []
            for label in torch.unique(truth):
                own = distance[:, truth == label]
                count = own.shape[1]
                k = count if self.k <= 0 or self.k > count else self.k
                means.append(own.topk(k, largest=False).values.mean(1))
            d = torch.stack(means, 1)
            if d.shape[1] > self.num_output:
                expected, got = f"num_output, {self.num_output}, classes at most", d.shape[1]
                raise NetError("more classes were seen than there are outputs", expected=expected, got=got)
            low, high = d.amin(1, keepdim=True), d.amax(1, keepdim=True)
            top[:, : d.shape[1]] = 1 - (d - low) / (high - low)
        return top[:, :, None, None]
