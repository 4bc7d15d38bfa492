"""Decode, AccuracyDecode and AccuracyEncoding, of MyCaffe: classes by the nearest mean of the encodings seen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..graph import Shapes, dims
from ..text import Msg
from ..windows import Windows
from .base import BlobSpec, Layer, at_least, layer, refuse_gradient

if TYPE_CHECKING:
    from torch import Tensor

LABELS = 2  # room at first
CACHE = 100
ITERATION = 300  # from when on the means are put out


@layer("Decode")
@dataclass(frozen=True, slots=True)
class Decode(Layer):
    """The squared distance of each encoding to the mean of each class.

    bottom[0]: N x D..      bottom[1], which TRAIN needs: labels N x K, the first of each item's counts
    top[0]: N x L x 1 x 1      top[1], if named: the means, L x D x 1 x 1, 0 before the forward centroid_output_iteration and
    until all are ready
    In TRAIN each item first changes the mean of its class (not with enable_centroid_update false): see `averaged`. A class
    is ready once it has more than N cache_size items. target KNN and PREGEN are refused.
    blobs: centroids L x D x 1 x 1, status L (1: ready), counts L; not learned. L is pregen_label_count, or 2 where it is
    not given; a larger label makes room, and all starts again from 0. No gradient.
    Source: MyCaffe, MyCaffe.layers.beta/DecodeLayer.cs.
    """

    category = "other"
    n_bottom = (1, 2)
    n_top = (1, 2)
    no_gradient = (0, 1)
    remembers = ("forwards",)
    ignored = frozenset({"engine", "output_centroids", "k", "pregen_alpha"})

    labels: int = LABELS
    cache_size: int = CACHE
    update: bool = True
    iteration: int = ITERATION
    train: bool = False
    means: bool = False

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.decode_param
        if p.has("target") and p.enum("target") != "CENTROID":
            raise NetError("this target is not supported", at=p.at("target"), expected="CENTROID", got=p.enum("target"))
        train = msg.enum("phase") == "TRAIN"
        if train and len(bottoms) < 2:
            raise NetError("TRAIN needs the labels", at=msg.at("bottom"), expected="encodings and labels")
        return cls(
            max(p.pregen_label_count, LABELS),
            cache_size(p),
            not p.has("enable_centroid_update") or p.enable_centroid_update,
            p.centroid_output_iteration if p.has("centroid_output_iteration") else ITERATION,
            train,
            len(msg.top) > 1,
        )

    def tops(self, bottoms: Shapes) -> Shapes:
        at_least(2, bottoms)
        if len(bottoms) > 1:
            labels_fit(bottoms)
        n, d = bottoms[0][0], prod(bottoms[0][1:])
        return ((n, self.labels, 1, 1), (self.labels, d, 1, 1))[: 1 + self.means]

    def blobs(self, bottoms: Shapes) -> dict[str, BlobSpec]:
        d, count = prod(bottoms[0][1:]), (self.labels, 1, 1, 1)
        kept = {"centroids": (self.labels, d, 1, 1), "status": count, "counts": count}
        return {name: BlobSpec(shape, learned=False) for name, shape in kept.items()}

    def windows(self, bottoms: Shapes, tops: Shapes, bottom: int, top: int) -> Windows | None:
        return None

    def forward(self, m: Any, *bottoms: Tensor) -> tuple[Tensor, ...]:
        import torch

        x = bottoms[0].detach().flatten(1)
        if not self.train:
            distances = _distances(x, m.centroids.flatten(1).to(x.dtype))
        else:
            labels = first_labels(bottoms[1], len(x))
            most = int(labels.max()) + 1
            if most > len(m.centroids):
                kept = {"centroids": (most, x.shape[1]), "status": (most, 1), "counts": (most, 1)}
                for name, (rows, columns) in kept.items():
                    setattr(m, name, getattr(m, name).new_zeros(rows, columns, 1, 1))
            centroids = m.centroids.flatten(1).to(x.dtype)
            counts = m.counts.flatten().long()
            if self.update and not m.again:
                limit = len(x) * self.cache_size
                moved = [means for _, means in averaged(x, labels, centroids, counts, limit)]
                distances = torch.cat([_distances(x[i : i + 1], means) for i, means in enumerate(moved)])
                counts = counts + torch.bincount(labels, minlength=len(counts))
                with torch.no_grad():
                    m.centroids.copy_(moved[-1].reshape(m.centroids.shape))
                    m.counts.copy_(counts.reshape(m.counts.shape))
                    m.status.copy_((counts > limit).reshape(m.status.shape))
            else:
                distances = _distances(x, centroids)
                if not self.update:
                    m.status.fill_(1)
        done = getattr(m, "forwards", 0)
        m.forwards = done + (not m.again)
        tops = [distances[:, :, None, None]]
        if self.means:
            ready = done >= self.iteration and bool((m.status != 0).all())
            tops.append(m.centroids * ready)
        return tuple(refuse_gradient(t.to(x.dtype), bottoms[0], f"{self.kind} has no gradient") for t in tops)


def averaged(x: Tensor, labels: Tensor, centroids: Tensor, counts: Tensor, limit: int) -> Iterator[tuple[int, Tensor]]:
    """Each label of a batch in turn, with the means (a new tensor each) that it leaves.

    The first item of a class is its mean, times `share`; the item after c others moves it by share = 1 / (c + 1), which stays
    as it was from `limit` items on; at first share is 1 / limit.  counts: how many each class has had.
    """
    share, counts = 1 / limit, counts.clone()
    for row, label in zip(x, labels.tolist(), strict=True):
        count, centroids = int(counts[label]), centroids.clone()
        if count == 0:
            centroids[label] = share * row
        else:
            share = 1 / (count + 1) if count < limit else share
            centroids[label] = share * row + (1 - share) * centroids[label]
        counts[label] += 1
        yield label, centroids


def cache_size(p: Msg) -> int:
    """How many items of a class count fully, in batches. Raises: NetError for none."""
    if p.has("cache_size") and p.cache_size < 1:
        raise NetError("cache_size must be positive", at=p.at("cache_size"), got=p.cache_size)
    return int(p.cache_size) if p.has("cache_size") else CACHE


def labels_fit(bottoms: Shapes) -> None:
    """Raises: NetError unless bottom 1 has labels for each item."""
    if not bottoms[1] or bottoms[1][0] != bottoms[0][0]:
        raise NetError(
            "bottom 1 has the wrong shape", expected=f"labels of {bottoms[0][0]} items", got=dims(bottoms[1])
        )


def first_labels(labels: Tensor, n: int) -> Tensor:
    """The first label of each item. Raises: NetError for one below 0."""
    found = labels.detach().reshape(n, -1)[:, 0].long()
    if n and int(found.min()) < 0:
        raise NetError("a label is out of range", expected="0 or more", got=int(found.min()))
    return found


def _distances(x: Tensor, centroids: Tensor) -> Tensor:
    return (x[:, None] - centroids).square().sum(2)


def plain_accuracy(p: Msg) -> None:
    """Raises: NetError for the settings of an AccuracyParameter that these layers have not."""
    for name in ("top_k", "axis"):
        if getattr(p, name) != 1:
            raise NetError(f"{name} must be 1", at=p.at(name), got=getattr(p, name))


@layer("AccuracyDecode")
@dataclass(frozen=True, slots=True)
class AccuracyDecode(Layer):
    """How often the class of the smallest distance is the label.

    bottom[0]: distances, N x C x 1 x 1      bottom[1]: labels N x K, the first of each item's counts
    top[0]: a scalar, 0 where there is no label to count
    Items labelled ignore_label do not count. No gradient.
    Source: MyCaffe, MyCaffe.layers.beta/AccuracyDecodeLayer.cs.
    """

    category = "loss"
    n_bottom = (2, 2)
    no_gradient = (0, 1)

    ignore_label: int | None = None

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.accuracy_param
        plain_accuracy(p)
        return cls(p.ignore_label if p.has("ignore_label") else None)

    def tops(self, bottoms: Shapes) -> Shapes:
        at_least(2, bottoms)
        labels_fit(bottoms)
        return ((),)

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        import torch

        distances = bottoms[0].detach().flatten(1)
        labels = bottoms[1].detach().reshape(len(distances), -1)[:, 0].long()
        counts = torch.ones_like(labels) if self.ignore_label is None else (labels != self.ignore_label).long()
        right = (distances.argmin(1) == labels).long() * counts
        return (right.sum() / counts.sum().clamp(min=1)).to(torch.promote_types(distances.dtype, torch.float32))


@layer("AccuracyEncoding")
@dataclass(frozen=True, slots=True)
class AccuracyEncoding(Layer):
    """How often the mean nearest to an encoding is that of its own class, the means being of all encodings seen.

    bottom[0]: N x D..      bottom[1]: labels N x K, the first of each item's counts      top[0]: a scalar
    Each item changes the mean of its class before it is compared: see `averaged`, with a limit of N cache_size. The means
    stay for the next forward; a label larger than all before makes room, and all starts again from 0.
    blobs: centroids 2 x D x 1 x 1 at first; not learned, and what a file has does not count. No gradient.
    Source: MyCaffe, MyCaffe.layers.beta/AccuracyEncodingLayer.cs.
    """

    category = "loss"
    n_bottom = (2, 2)
    no_gradient = (0, 1)
    remembers = ("seen",)

    cache_size: int = CACHE

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.accuracy_param
        plain_accuracy(p)
        p.has("ignore_label")  # looked at, and without effect
        return cls(cache_size(msg.decode_param))

    def tops(self, bottoms: Shapes) -> Shapes:
        at_least(2, bottoms)
        labels_fit(bottoms)
        return ((),)

    def blobs(self, bottoms: Shapes) -> dict[str, BlobSpec]:
        return {"centroids": BlobSpec((LABELS, prod(bottoms[0][1:]), 1, 1), learned=False)}

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        import torch

        x = bottoms[0].detach().flatten(1)
        labels = first_labels(bottoms[1], len(x))
        most = int(labels.max()) + 1
        held = getattr(m, "seen", None)
        if held is None or most > len(held[1]):
            held = x.new_zeros(most, x.shape[1]), torch.zeros(most, dtype=torch.long, device=x.device)
        centroids, counts = held[0].to(x), held[1].to(x.device)
        right = 0
        for i, (label, means) in enumerate(averaged(x, labels, centroids, counts, len(x) * self.cache_size)):
            right += int(_distances(x[i : i + 1], means).argmin()) == label
            centroids = means
        if not m.again:
            m.seen = centroids, counts + torch.bincount(labels, minlength=len(counts))
        return x.new_tensor(right / len(x), dtype=torch.promote_types(x.dtype, torch.float32))
