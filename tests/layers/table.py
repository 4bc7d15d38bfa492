"""One runner asks every question of each row of a layer's table.

A row is asked: does the shape rule give the row's tops; does the running module; are its values those of `want`, a naive
numpy version; are the module's parameters those of `blobs()`; does the printed net read back as the same layer; does
torch's gradcheck agree in double precision; and does no pixel depend on more than `windows` tells of.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch

import netcompiler
from netcompiler.errors import NetError
from netcompiler.windows import NOTHING

Shape = tuple[int, ...]


@dataclass
class Row:
    """A layer over bottoms of some shapes, and what must come out.

    layer: the body of its prototxt without name, bottoms and tops.  want: (bottoms..., **blobs) -> one array per top.
    feed: for a bottom, by index, a function (rng, shape) -> array in place of normal noise; labels, say.
    gradient: False where the layer passes none.  macs: expected multiply-accumulates.
    """

    name: str
    layer: str
    bottoms: Sequence[Shape]
    tops: Sequence[Shape]
    want: Callable[..., Any] | None = None
    blobs: dict[str, Shape] = field(default_factory=dict)
    macs: int = 0
    phase: str = "TEST"
    feed: dict[int, Callable[[np.random.Generator, Shape], np.ndarray]] = field(default_factory=dict)
    gradient: bool = True
    tolerance: float = 1e-5


@dataclass
class Bad:
    """A layer that must be refused: `error` is in the message, and it points at the text `at` where that is given."""

    name: str
    layer: str
    bottoms: Sequence[Shape]
    error: str
    tops: int = 1
    at: str = ""


def prototxt(layer: str, bottoms: Sequence[Shape], tops: int) -> str:
    inputs = [
        f'layer {{ name: "b{i}" type: "Input" top: "b{i}" input_param {{ shape {{ {" ".join(f"dim: {d}" for d in s)} }} }} }}'
        for i, s in enumerate(bottoms)
    ]
    names = [f'bottom: "b{i}"' for i in range(len(bottoms))] + [f'top: "t{i}"' for i in range(tops)]
    return "\n".join([*inputs, f'layer {{ name: "it" {" ".join(names)} {layer} }}'])


def labels(classes: int) -> Callable[[np.random.Generator, Shape], np.ndarray]:
    """Feed whole numbers 0 .. classes - 1."""
    return lambda rng, shape: rng.integers(0, classes, shape).astype(np.float64)


def suite(rows: Sequence[Row], bad: Sequence[Bad] = ()) -> tuple[Any, Any, Any]:
    """The test functions of a table: assign them to `test_row, test_gradient, test_bad`."""

    def each(cases: Sequence[Any], check: Callable[[Any], None]) -> Any:
        def test(case: Any) -> None:
            check(case)

        return pytest.mark.parametrize("case", cases, ids=lambda c: c.name)(test) if cases else None

    return each(rows, _row), each([r for r in rows if r.gradient], _gradient), each(bad, _bad)


def _arrays(row: Row) -> list[np.ndarray]:
    rng = np.random.default_rng(zlib.crc32(row.name.encode()))
    return [row.feed.get(i, lambda g, s: g.standard_normal(s))(rng, s) for i, s in enumerate(row.bottoms)]


def _net(row: Row) -> netcompiler.CompiledNet:
    """The row's net in double precision, its blobs filled with noise (Caffe's zero defaults would hide faults)."""
    msg = netcompiler.parse(prototxt(row.layer, row.bottoms, len(row.tops)))
    net = netcompiler.compile(msg, phase=row.phase, optimize=False, device="cpu", dtype="float64")
    rng = np.random.default_rng(7)
    blobs = {k: [0.5 + rng.random(a.shape) for a in v] for k, v in net.caffe_params().items()}
    net.load_caffe_params(blobs)
    return net


def _row(row: Row) -> None:
    text = prototxt(row.layer, row.bottoms, len(row.tops))
    msg = netcompiler.parse(text)
    graph = netcompiler.build(msg, row.phase)
    node = graph.nodes[-1]
    assert [v.shape for v in node.tops] == list(row.tops)
    assert {k: s.shape for k, s in node.layer.blobs(node.bottom_shapes).items()} == row.blobs
    assert node.layer.macs(node.bottom_shapes, node.top_shapes) == row.macs
    assert netcompiler.build(netcompiler.parse(str(msg)), row.phase).nodes[-1].layer == node.layer

    net = _net(row)
    module = net.get_submodule(net.attributes[-1])
    held = {k: tuple(t.shape) for k, t in module.state_dict().items()}
    assert held == row.blobs
    blobs = {k: getattr(module, k).detach().numpy().copy() for k in row.blobs}
    bottoms = _arrays(row)
    tops = [t.detach().numpy() for t in net(*bottoms).values()]
    assert [t.shape for t in tops] == list(row.tops)
    if row.want is not None:
        wanted = row.want(*bottoms, **blobs)
        wanted = wanted if isinstance(wanted, list | tuple) else [wanted]
        assert len(wanted) == len(tops)
        for top, want in zip(tops, wanted, strict=True):
            np.testing.assert_allclose(top, want, rtol=row.tolerance, atol=row.tolerance)


def _gradient(row: Row) -> None:
    net = _net(row)
    fixed = {i % len(row.bottoms) for i in net.graph.nodes[-1].layer.no_gradient if i < len(row.bottoms)}
    bottoms = [torch.from_numpy(a).requires_grad_(i not in fixed) for i, a in enumerate(_arrays(row))]
    params = [p for p in net.parameters() if p.requires_grad]

    def run(*arguments: torch.Tensor) -> tuple[torch.Tensor, ...]:
        tops = net(*arguments[: len(bottoms)]).values()
        return tuple(t for t in tops if t.requires_grad)

    assert torch.autograd.gradcheck(run, (*bottoms, *params), atol=1e-5, rtol=1e-3)
    _windows(net, bottoms)


def _windows(net: netcompiler.CompiledNet, bottoms: Sequence[torch.Tensor]) -> None:
    """What a pixel of a top has a gradient for lies within the windows that the layer tells of."""
    node, tops = net.graph.nodes[-1], net(*bottoms)
    if node.layer.category == "normalisation" and node.layer.brief() == "of the batch":
        return  # the batch's statistics do not count: see docs/figures.md
    fed = [i for i, x in enumerate(bottoms) if x.requires_grad]
    for j, value in enumerate(node.tops):
        top = tops[value.blob]
        pixels = list(np.ndindex(*top.shape[2:])) if top.requires_grad and fed else []
        for pixel in pixels[:: len(pixels) // 7 + 1]:
            part = top[(*(slice(None),) * min(top.dim(), 2), *pixel)]
            scalar = (part * torch.rand_like(part)).sum()
            grads = torch.autograd.grad(scalar, [bottoms[i] for i in fed], retain_graph=True, allow_unused=True)
            for i, grad in zip(fed, grads, strict=True):
                windows = node.layer.windows(node.bottom_shapes, node.top_shapes, i, j)
                if windows == NOTHING:
                    assert grad is None or not grad.any()
                elif windows is not None and grad is not None:
                    assert len(windows) == max(grad.dim() - 2, 0)
                    for k, window in enumerate(windows):
                        read = grad.ne(0).movedim(k + 2, 0).flatten(1).any(1).nonzero().flatten().tolist()
                        first, last = window.at(pixel[k] if k < len(pixel) else 0)
                        assert not read or (first <= read[0] and read[-1] <= last), f"bottom {i}, {pixel}: {window}"


def _bad(row: Bad) -> None:
    text = prototxt(row.layer, row.bottoms, row.tops)
    with pytest.raises(NetError) as caught:
        netcompiler.build(netcompiler.parse(text))
    message = str(caught.value)
    assert row.error in message, message
    assert caught.value.at is not None
    if row.at:
        span: Any = caught.value.at
        assert span.excerpt[span.column - 1 :].startswith(row.at), message
