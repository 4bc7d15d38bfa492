"""MalisLoss, Affinity and ConnectedComponent, of Greentea."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ..errors import NetError
from ..graph import Shapes, dims
from ..text import Msg
from ..windows import Windows
from .base import ANY, Layer, at_least, exactly, layer, not_in_place, refuse_gradient

if TYPE_CHECKING:
    from torch import Tensor

MOST = 127  # OpenCV's signed bytes


def with_gradient(loss: Tensor, x: Tensor, gradient: Tensor) -> Tensor:
    """`loss`, whose gradient by x is this one, whatever the loss_weight is."""
    import torch

    class Fixed(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, loss: Tensor, x: Tensor) -> Tensor:
            return loss.clone()

        @staticmethod
        def backward(ctx: Any, *grads: Tensor) -> Any:
            return None, gradient

    if not x.requires_grad or torch.compiler.is_compiling():
        return loss
    made: Tensor = Fixed.apply(loss, x)  # type: ignore[no-untyped-call]
    return made


@layer("Affinity")
@dataclass(frozen=True, slots=True)
class Affinity(Layer):
    """How surely neighbours belong together: the smaller of a pixel and the one below, and of it and the one to its right.

    bottom[i]: N x C x H x W      top[i]: 1 x 2 x H x W, down and right, 0 in the last row and column
    Of each bottom the channel offset[i], 0 where there is none, of its first item counts.
    Quirk: the gradient of both goes to the pixel itself, and less it to channel (offset + 1) % 2.
    Source: naibaf7/caffe, src/caffe/layers/affinity_layer.cpp.
    """

    category = "other"
    n_bottom = (1, ANY)
    n_top = (1, ANY)

    offset: tuple[int, ...]

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        not_in_place(msg)
        p = msg.affinity_param
        offset = (*p.offset, *(0 for _ in bottoms))[: len(bottoms)]
        for i, (channel, bottom) in enumerate(zip(offset, bottoms, strict=True)):
            if len(bottom) > 1 and not 0 <= channel < bottom[1]:
                at = p.at("offset", i) if i < len(p.offset) else p.at("offset")
                raise NetError("offset is no channel", at=at, expected=f"0 to {bottom[1] - 1}", got=channel)
        if len(msg.top) != len(bottoms):
            raise NetError("the wrong number of tops", at=msg.at("top"), expected=len(bottoms), got=len(msg.top))
        return cls(offset)

    def tops(self, bottoms: Shapes) -> Shapes:
        for i in range(len(bottoms)):
            exactly(4, bottoms, i)
            if not prod(bottoms[i]):
                raise NetError(f"bottom {i} is empty", got=dims(bottoms[i]))
        return tuple((1, 2, *b[2:]) for b in bottoms)

    def windows(self, bottoms: Shapes, tops: Shapes, bottom: int, top: int) -> Windows | None:
        return None

    def forward(self, m: Any, *bottoms: Tensor) -> tuple[Tensor, ...]:
        import torch
        import torch.nn.functional as F

        tops = []
        for x, offset in zip(bottoms, self.offset, strict=True):
            own = x[0, offset]
            centre = own[:-1, :-1]
            value = torch.stack((torch.minimum(centre, own[1:, :-1]), torch.minimum(centre, own[:-1, 1:]))).detach()
            other = (offset + 1) % 2
            steered = centre - x[0, other, :-1, :-1] if other < x.shape[1] else centre
            top = F.pad(value + (steered - steered.detach()), (0, 1, 0, 1))[None]
            what = "Affinity's gradient needs a second channel"
            tops.append(top if other < x.shape[1] else refuse_gradient(top, x, what))
        return tuple(tops)


@layer("ConnectedComponent")
@dataclass(frozen=True, slots=True)
class ConnectedComponent(Layer):
    """Numbers the areas of equal labels, one after another, from one above the largest label on; 0 stays 0.

    bottom[0]: N x C x H x W, labels 0 .. 127      top[0]: the same
    Pixels are neighbours by a side; areas of each image are numbered by their first pixel. No gradient.
    Source: naibaf7/caffe, src/caffe/layers/connected_component_layer.cpp.
    """

    category = "other"
    no_gradient = (0,)

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        return cls()

    def tops(self, bottoms: Shapes) -> Shapes:
        exactly(4, bottoms)
        return bottoms

    def windows(self, bottoms: Shapes, tops: Shapes, bottom: int, top: int) -> Windows | None:
        return None

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        import torch

        labels = bottoms[0].detach().cpu().numpy().astype(np.int64)
        if labels.size and (labels.min() < 0 or labels.max() > MOST):
            raise NetError("a label is out of range", expected=f"0 to {MOST}", got=f"{labels.min()} to {labels.max()}")
        found = [numbered(image) for image in labels.reshape(-1, *labels.shape[2:])]
        return torch.from_numpy(np.array(found).reshape(labels.shape)).to(bottoms[0])


def numbered(labels: np.ndarray) -> np.ndarray:
    """The areas of an image H x W."""
    place = np.arange(labels.size).reshape(labels.shape)
    down, right = labels[1:] == labels[:-1], labels[:, 1:] == labels[:, :-1]
    first = np.concatenate([place[:-1][down], place[:, :-1][right]])
    second = np.concatenate([place[1:][down], place[:, 1:][right]])
    parent = place.reshape(-1).copy()
    while True:
        a, b = parent[first], parent[second]
        if (a == b).all():
            break
        np.minimum.at(parent, np.maximum(a, b), np.minimum(a, b))
        while (parent != parent[parent]).any():
            parent = parent[parent]
    flat = labels.reshape(-1)
    roots = np.unique(parent[flat != 0])
    numbers = np.searchsorted(roots, parent) + (flat.max() if flat.size else 0) + 1
    return np.where(flat != 0, numbers, 0).reshape(labels.shape)


@layer("MalisLoss")
@dataclass(frozen=True, slots=True)
class MalisLoss(Layer):
    """How wrong the edges are that decide whether pixels come together: the loss of Turaga et al. 2009.

    bottom[0]: affinities a that were predicted, 1 x E x Y x X, also of 1 or 3 axes in place of 2      bottom[1]: the true t
    bottom[2]: the true areas, 1 x 1 x Y x X, 0 for none      bottom[3], if there is one: E x 3, to which pixel each edge
    leads (z, y, x); else the last E of (1, 0, 0), (0, 1, 0), (0, 0, 1)
    top[0]: a scalar      top[1], if named: bottom[0]
    The pairs of pixels of two areas: each counts where the largest edges, max(a, t), join them first, by that edge's square;
    likewise those of one area, by (1 - edge)^2, of min(a, t). Both by their number of pairs, then their mean.
    Quirks: the gradient is half that of it, is a's also where t was used, and loss_weight has no effect on it.
    Source: naibaf7/caffe, src/caffe/layers/malis_loss_layer.cpp.
    """

    category = "loss"
    n_bottom = (3, 4)
    n_top = (1, 2)
    is_loss = True
    anonymous_tops = True
    no_gradient = (1, 2, 3)
    ignored = frozenset({"loss_param"})

    whole: bool = False

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        return cls(len(msg.top) > 1)

    def tops(self, bottoms: Shapes) -> Shapes:
        at_least(3, bottoms)
        a, t, areas, *edges = bottoms
        if len(a) > 5:
            raise NetError("bottom 0 has the wrong number of axes", expected="3 to 5", got=len(a))
        if a[0] != 1:
            hint = "the fork reads beyond its memory for more"
            raise NetError("bottom 0 has the wrong number of items", expected=1, got=a[0], hint=hint)
        if t != a:
            raise NetError("bottom 1 has the wrong shape", expected=dims(a), got=dims(t))
        if prod(areas) != prod(a[2:]):
            expected = f"{prod(a[2:])} values, as a channel of bottom 0"
            raise NetError("bottom 2 has the wrong shape", expected=expected, got=dims(areas))
        if edges and prod(edges[0]) != 3 * a[1]:
            raise NetError("bottom 3 has the wrong shape", expected=dims((a[1], 3)), got=dims(edges[0]))
        if not edges and a[1] > 3:
            raise NetError("bottom 3 is missing", expected="where each edge leads, or at most 3 edges", got=a[1])
        return ((), a)[: 1 + self.whole]

    def windows(self, bottoms: Shapes, tops: Shapes, bottom: int, top: int) -> Windows | None:
        return None

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor | tuple[Tensor, ...]:
        import torch

        x = bottoms[0]
        image = (1,) * (5 - x.dim()) + tuple(x.shape[2:])
        a, t = (b.detach().cpu().double().numpy().reshape(-1, *image) for b in bottoms[:2])
        areas = bottoms[2].detach().cpu().numpy().astype(np.int64).reshape(image)
        steps = (
            bottoms[3].detach().cpu().numpy().astype(np.int64)
            if len(bottoms) > 3
            else np.eye(3, dtype=int)[3 - len(a) :]
        )
        apart, apart_by = malis(np.maximum(a, t), steps.reshape(-1, 3), areas, False)
        joined, joined_by = malis(np.minimum(a, t), steps.reshape(-1, 3), areas, True)
        exact = torch.promote_types(x.dtype, torch.float32)
        loss = torch.tensor((apart + joined) / 2, dtype=exact, device=x.device)
        gradient = torch.from_numpy(-(apart_by + joined_by) / 2).to(x).reshape(x.shape)
        loss = with_gradient(loss, x, gradient)
        return (loss, x.detach().clone()) if self.whole else loss


def malis(edges: np.ndarray, steps: np.ndarray, areas: np.ndarray, same: bool) -> tuple[float, np.ndarray]:
    """The loss of edges E x Z x Y x X, and what they should be less what they are, by the pairs that they decide."""
    count, flat = areas.size, edges.reshape(-1)
    held = [Counter({int(v): 1}) if v else Counter[int]() for v in areas.reshape(-1)]
    sizes = np.unique(areas[areas != 0], return_counts=True)[1].tolist()
    pairs = sum(n * (n - 1) // 2 for n in sizes)
    pairs = pairs if same else sum(sizes) * (sum(sizes) - 1) // 2 - pairs
    place = np.arange(count).reshape(areas.shape)
    starts, ends, names = [], [], []
    for e, step in enumerate(steps):
        cut = tuple(slice(max(-s, 0), n - max(s, 0)) for s, n in zip(step, areas.shape, strict=True))
        to = tuple(slice(max(s, 0), n + min(s, 0)) for s, n in zip(step, areas.shape, strict=True))
        starts.append(place[cut].reshape(-1))
        ends.append(place[to].reshape(-1))
        names.append(e * count + starts[-1])
    first, second, name = (np.concatenate(parts) for parts in (starts, ends, names))
    parent = list(range(count))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    loss, wanted = 0.0, np.zeros(flat.size)
    for i in np.argsort(-flat[name], kind="stable").tolist():
        a, b = root(int(first[i])), root(int(second[i]))
        if a == b:
            continue
        if len(held[a]) < len(held[b]):
            a, b = b, a
        alike = sum(n * held[a][area] for area, n in held[b].items())
        decided = alike if same else held[a].total() * held[b].total() - alike
        parent[b] = a
        held[a].update(held[b])
        held[b].clear()
        off = (1.0 if same else 0.0) - float(flat[name[i]])
        loss += off * off * decided
        wanted[name[i]] += off * decided
    return (loss / pairs, wanted.reshape(edges.shape) / pairs) if pairs else (0.0, np.zeros(edges.shape))
