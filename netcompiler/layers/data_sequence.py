"""DataSequence, of MyCaffe."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..graph import Shapes, dims
from ..text import Msg
from ..windows import Windows
from .base import ANY, Layer, at_least, layer

if TYPE_CHECKING:
    from torch import Tensor

CACHE = 256


@layer("DataSequence")
@dataclass(frozen=True, slots=True)
class DataSequence(Layer):
    """For each item others drawn of those seen: with k above 0 one of its class and k of other classes, with k 0 one.

    bottom[0]: N x C x H x W      bottom[1]: N labels      top[0]: bottom[0]
    top[1], with k above 0: one of the same class      top[2], .. top[1 + k]: of other classes, each as bottom[0]
    top[1], with k 0: of another class, with balance_matches of the same one for every second item
    the last top, with output_labels: the labels of all of them, N x (2 + k) x 1 x 1
    Of each class the last cache_size items are kept, those of this batch among them, which stay for the next forward; there
    must be two classes. label_count and label_start have no effect: labels are found as they come. No gradient.
    The random numbers are torch's. Which item is drawn is this program's: MyCaffe's kernel for it was not to be had.
    Source: MyCaffe, MyCaffe.layers.beta/DataSequenceLayer.cs.
    """

    category = "data"
    n_bottom = (2, 2)
    n_top = (2, ANY)
    no_gradient = (0, 1)
    remembers = ("cache",)
    ignored = frozenset({"engine", "label_count", "label_start"})

    k: int = 0
    cache_size: int = CACHE
    output_labels: bool = False
    balance_matches: bool = False

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.data_sequence_param
        size = p.cache_size if p.has("cache_size") else CACHE
        if size < 1:
            raise NetError("cache_size must be positive", at=p.at("cache_size"), got=size)
        wanted = 2 + p.k + p.output_labels
        if len(msg.top) != wanted:
            raise NetError("the wrong number of tops", at=msg.at("top"), expected=wanted, got=len(msg.top))
        return cls(p.k, size, p.output_labels, p.balance_matches)

    def tops(self, bottoms: Shapes) -> Shapes:
        at_least(1, bottoms)
        n = bottoms[0][0]
        if prod(bottoms[1]) != n:
            raise NetError("bottom 1 has the wrong shape", expected=f"{n} labels", got=dims(bottoms[1]))
        count = 2 + self.k
        return (bottoms[0],) * count + ((n, count, 1, 1),) * self.output_labels

    def windows(self, bottoms: Shapes, tops: Shapes, bottom: int, top: int) -> Windows | None:
        return None

    def forward(self, m: Any, *bottoms: Tensor) -> tuple[Tensor, ...]:
        import torch

        x, labels = bottoms[0].detach(), bottoms[1].detach().reshape(-1).long()
        seen = dict(getattr(m, "cache", None) or {})
        for label in torch.unique(labels).tolist():
            own = x[labels == label]
            old = seen.get(label)
            seen[label] = (own if old is None or m.again else torch.cat((old.to(x), own)))[-self.cache_size :]
        if len(seen) < 2:
            raise NetError("there is one class only", expected="items of two classes at least", got=len(seen))
        m.cache = seen
        made = [[x], *([] for _ in range(1 + self.k))]
        named = [labels.tolist(), *([] for _ in range(1 + self.k))]
        for i, label in enumerate(named[0]):
            for j in range(1, 2 + self.k):
                same = j == 1 and (self.k > 0 or (self.balance_matches and i % 2 == 0))
                of = label if same else _drawn([other for other in seen if other != label])
                made[j].append(seen[of][int(torch.randint(len(seen[of]), ()))])
                named[j].append(of)
        tops = [x.clone(), *(torch.stack(items) for items in made[1:])]
        if self.output_labels:
            tops.append(x.new_tensor(named).t()[:, :, None, None].contiguous())
        return tuple(tops)


def _drawn(values: list[int]) -> int:
    """One of them."""
    import torch

    return values[int(torch.randint(len(values), ()))]
