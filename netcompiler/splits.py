"""Split layers, as Caffe puts them into a net: message -> message.

The Graph needs none: a value may have any number of readers. Files that Caffe saved hold them, so the writer does too.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from .errors import NetError
from .text import Marks, Msg

Top = tuple[int, int]  # index of the layer, -1 for a net input; index of its top


def insert_splits(net: Msg) -> Msg:
    """The net with a Split layer behind every top that several layers read; the argument stays as it is.

    Given:   a top t, number i of layer L, that k > 1 bottoms name (or k - 1 bottoms, and it carries a loss weight)
    Result:  a layer `t_L_i_split` after L with the tops `t_L_i_split_0` to `t_L_i_split_{k-1}`; each reader names the
             next one. A loss weight moves to the split's first top.
    Quirk:   all the layer's loss weights are cleared when one of its tops gives its own away.
    Raises:  NetError for a bottom that no layer above makes.
    Source:  Caffe, src/caffe/util/insert_splits.cpp.
    """
    source, uses, weights = _readers(net)
    names = {-1: "input", **{i: m.name for i, m in enumerate(net.layer)}}
    made = net.copy()
    layers: list[Any] = []
    marks: list[Marks] = []
    taken: Counter[Top] = Counter()

    def split(top: Top, blob: str, weight: float, at: Marks) -> None:
        name = f"{blob}_{names[top[0]]}_{top[1]}_split"
        raw = type(net.raw)().layer.add(name=name, type="Split", bottom=[blob])
        raw.top.extend(f"{name}_{k}" for k in range(uses[top]))
        if weight:
            raw.loss_weight.extend([weight] + [0.0] * (uses[top] - 1))
        layers.append(raw)
        marks.append(Marks(at.at))

    for j, blob in enumerate(net.input):
        if uses[-1, j] > 1:
            split((-1, j), blob, 0.0, made.marks.of("input", j))
    for i, m in enumerate(made.layer):
        raw = m.raw
        for j, blob in enumerate(m.bottom):
            top = source[i, j]
            if uses[top] > 1:
                raw.bottom[j] = f"{blob}_{names[top[0]]}_{top[1]}_split_{taken[top]}"
                taken[top] += 1
        layers.append(raw)
        marks.append(m.marks)
        for j, blob in enumerate(m.top):
            if uses[i, j] > 1:
                weight = weights.get((i, j), 0.0)
                split((i, j), blob, weight, m.marks)
                if weight:
                    raw.ClearField("loss_weight")
                    taken[i, j] += 1
    fresh = [type(raw).FromString(raw.SerializeToString()) for raw in layers]
    del made.raw.layer[:]
    made.raw.layer.extend(fresh)
    return Msg(made.raw, Marks(net.marks.at, {**net.marks.fields, "layer": marks}))


def without_splits(net: Msg) -> Msg:
    """The net without the Split layers that Caffe put in when it saved it; the argument stays as it is.

    Given:   a layer `.._split` of type Split, whose tops are named `.._split_..` (in old files the first one as its bottom)
    Result:  readers of its tops read its bottom again, and a loss weight is back at the layer that makes that
    When:    no layer in place has written that bottom again before they read it
    """
    made = net.copy()
    layers = made.raw.layer
    gone = _removable(layers)
    behind = {top: layers[i].bottom[0] for i in gone for top in layers[i].top}
    for i, raw in enumerate(layers):
        if i in gone:
            _give_back(layers, i)
        raw.bottom[:] = [behind.get(blob, blob) for blob in raw.bottom]
    kept = [i for i in range(len(layers)) if i not in gone]
    marks = [made.layer[i].marks for i in kept]
    fresh = [type(layers[i]).FromString(layers[i].SerializePartialToString()) for i in kept]
    del layers[:]
    layers.extend(fresh)
    return Msg(made.raw, Marks(net.marks.at, {**net.marks.fields, "layer": marks}))


def _removable(layers: Any) -> set[int]:
    """The indices of Split layers whose readers may as well read what they split."""
    found: dict[str, tuple[int, str, int]] = {}  # top of a split: its index, its bottom, and how often that was written
    written: Counter[str] = Counter()
    spoilt = set()
    for i, raw in enumerate(layers):
        for blob in raw.bottom:
            if blob in found and written[found[blob][1]] != found[blob][2]:
                spoilt.add(found[blob][0])
        if raw.type == "Split" and raw.name.endswith("_split") and len(raw.bottom) == 1:
            bottom = raw.bottom[0]
            if all("_split_" in top or top == bottom for top in raw.top):
                found.update((top, (i, bottom, written[bottom])) for top in raw.top if top != bottom)
                continue
        written.update(raw.top)
    return {i for i, _, _ in found.values()} - spoilt


def _give_back(layers: Any, split: int) -> None:
    """A loss weight that a split's first top carries goes to the layer that makes its bottom."""
    raw = layers[split]
    if not any(raw.loss_weight):
        return
    for maker in reversed(layers[:split]):
        tops = list(maker.top)
        if raw.bottom[0] in tops:
            weights = list(maker.loss_weight) or [0.0] * len(tops)
            weights[tops.index(raw.bottom[0])] = raw.loss_weight[0]
            maker.loss_weight[:] = weights
            return


def _readers(net: Msg) -> tuple[dict[Top, Top], Counter[Top], dict[Top, float]]:
    """The top behind each bottom; how often each top is used, as a loss too; the loss weights of tops."""
    last: dict[str, Top] = {blob: (-1, j) for j, blob in enumerate(net.input)}
    source: dict[Top, Top] = {}
    uses: Counter[Top] = Counter()
    weights: dict[Top, float] = {}
    for i, m in enumerate(net.layer):
        for j, blob in enumerate(m.bottom):
            if blob not in last:
                raise NetError(f'unknown bottom "{blob}"', at=m.at("bottom", j), layer=f'"{m.name}" ({m.type})')
            source[i, j] = last[blob]
            uses[last[blob]] += 1
        last.update({blob: (i, j) for j, blob in enumerate(m.top)})
        for j, weight in enumerate(list(m.loss_weight)[: len(m.top)]):
            weights[last[m.top[j]]] = weight
            uses[last[m.top[j]]] += bool(weight)
    return source, uses, weights
