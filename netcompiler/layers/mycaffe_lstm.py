"""Lstm as MyCaffe runs it with cuDNN: several layers, and all of their weights in one blob."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ..errors import NetError
from ..fillers import Filler
from ..graph import Array, Shape, Shapes, dims
from ..text import Msg
from ..windows import Windows
from .base import BlobSpec, Layer, at_least, check_count, exactly, refuse_gradient, traced

if TYPE_CHECKING:
    from torch import Tensor

Part = tuple[Shape, bool]  # of the one blob: a weight, or a bias


@dataclass(frozen=True, slots=True)
class Parts(Filler):
    """A filler for each part of a blob."""

    parts: tuple[Part, ...] = ()
    bias: Filler = Filler()

    def fill(self, shape: Shape, rng: np.random.Generator) -> Array:
        weight = replace(Filler(), **{name: getattr(self, name) for name in Filler.__dataclass_fields__})
        arrays = [(self.bias if bias else weight).fill((1, prod(of)), rng).reshape(-1) for of, bias in self.parts]
        return np.concatenate(arrays).reshape(shape)


@dataclass(frozen=True, slots=True)
class PackedLstm(Layer):
    """cuDNN's long short-term memory: num_layers, each over what the one before it gave.

    bottom, top, blob: see caffe_lstm.Lstm
    """

    kind = "Lstm"
    category = "dense"
    n_bottom = (2, 4)
    n_top = (1, 3)
    no_gradient = (1,)
    remembers = ("state",)
    counted = True

    num_output: int
    num_layers: int = 1
    dropout_ratio: float = 0.0
    given: bool = False
    shown: bool = False
    repeated: bool = False
    forgets: bool = False
    weight_filler: Filler = Filler()
    bias_filler: Filler = Filler()
    train: bool = False

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.recurrent_param
        for name in ("batch_first", "bidirectional"):
            if getattr(p, name):
                raise NetError(f"{name} is not supported", at=p.at(name), expected=f"{name}: false")
        for name in ("num_output", "num_layers"):
            if getattr(p, name) < 1:
                raise NetError(f"{name} must be positive", at=p.at(name), got=getattr(p, name))
        if not 0 <= p.dropout_ratio < 1:
            at, expected = p.at("dropout_ratio"), "0 <= dropout_ratio < 1"
            raise NetError("dropout_ratio is out of range", at=at, expected=expected, got=p.dropout_ratio)
        given, shown = p.expose_hidden_input, p.expose_hidden_output
        check_count(msg, "bottom", (4, 4) if given else (2, 2))
        check_count(msg, "top", (3, 3) if shown else (1, 1))
        return cls(
            p.num_output,
            p.num_layers,
            p.dropout_ratio,
            given,
            shown,
            p.auto_repeat_hidden_states_across_layers,
            p.use_cudnn_rnn8_if_supported,
            Filler.read(p.weight_filler),
            Filler.read(p.bias_filler),
            msg.enum("phase") == "TRAIN",
        )

    def tops(self, bottoms: Shapes) -> Shapes:
        at_least(3, bottoms)
        exactly(2, bottoms, 1)
        x, cont, *states = bottoms
        if not prod(x):
            raise NetError("there is no time step, or nothing in it", expected="positive dims", got=dims(x))
        if cont != x[:2]:
            expected = f"{dims(x[:2])}, the first axes of bottom 0"
            raise NetError("cont has the wrong shape", expected=expected, got=dims(cont))
        one = x[1] * self.num_output
        for i, state in enumerate(states):
            if prod(state) != one * self.num_layers and not (self.repeated and prod(state) == one):
                expected = f"{one * self.num_layers} values"
                raise NetError(f"bottom {2 + i} has the wrong shape", expected=expected, got=dims(state))
        after = (self.num_layers, x[1], self.num_output, 1)
        return ((*x[:2], self.num_output, 1), *((after,) * 2 if self.shown else ()))

    def layout(self, inputs: int) -> tuple[Part, ...]:
        """The parts of the blob, in cuDNN's order, which is PyTorch's too: weights of all layers, then biases."""
        rows = 4 * self.num_output
        weights: list[Part] = []
        for i in range(self.num_layers):
            weights += [((rows, self.num_output if i else inputs), False), ((rows, self.num_output), False)]
        return (*weights, *(((rows,), True),) * (2 * self.num_layers))

    def blobs(self, bottoms: Shapes) -> dict[str, BlobSpec]:
        parts = self.layout(prod(bottoms[0][2:]))
        own = {name: getattr(self.weight_filler, name) for name in Filler.__dataclass_fields__}
        filler = Parts(**own, parts=parts, bias=self.bias_filler)
        return {"weights": BlobSpec((sum(prod(of) for of, _ in parts), 1, 1), filler)}

    def macs(self, bottoms: Shapes, tops: Shapes) -> int:
        parts = self.layout(prod(bottoms[0][2:]))
        return prod(bottoms[0][:2]) * sum(prod(of) for of, bias in parts if not bias)

    def windows(self, bottoms: Shapes, tops: Shapes, bottom: int, top: int) -> Windows | None:
        return None

    def brief(self) -> str:
        return f"{self.num_output}, {self.num_layers} layers" if self.num_layers > 1 else str(self.num_output)

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor | tuple[Tensor, ...]:
        import torch

        x = bottoms[0].flatten(2)
        parts = [of for of, _ in self.layout(x.shape[2])]
        pieces = torch.split(m.weights.flatten(), [prod(of) for of in parts])
        flat = [piece.view(of) for piece, of in zip(pieces, parts, strict=True)]
        by_layer = [a for i in range(self.num_layers) for a in (*flat[2 * i : 2 * i + 2], *self.biases(flat, i))]
        shape = (self.num_layers, x.shape[1], self.num_output)
        before = self.before(m, bottoms[1], shape, x) if not self.given else self.handed(bottoms[2:], shape)
        settings = (True, self.num_layers, self.dropout_ratio, self.train, False, False)
        hidden, *after = torch.lstm(x, before, by_layer, *settings)
        if not (self.given or self.forgets or traced(x)):
            m.state = tuple(s.detach() for s in (*before, *after))
        top = refuse_gradient(hidden[..., None], bottoms[1], "Lstm passes no gradient to cont")
        return (top, *(s[..., None] for s in after)) if self.shown else top

    def biases(self, flat: list[Tensor], i: int) -> list[Tensor]:
        """Those of a layer."""
        first = 2 * (self.num_layers + i)
        return flat[first : first + 2]

    def handed(self, states: tuple[Tensor, ...], shape: Shape) -> tuple[Tensor, ...]:
        """The state that the bottoms give."""
        once = (1, *shape[1:])
        return tuple(s.reshape(shape if s.numel() == prod(shape) else once).expand(shape).contiguous() for s in states)

    def before(self, m: Any, cont: Tensor, shape: Shape, x: Tensor) -> tuple[Tensor, ...]:
        """The state before the first step, where no bottom gives it."""
        zeros = (x.new_zeros(shape),) * 2
        state = None if traced(x) or self.forgets else getattr(m, "state", None)
        if state is None or (state[0].shape, state[0].dtype, state[0].device) != (shape, x.dtype, x.device):
            return zeros
        chosen = state[2:] if float(cont.detach().reshape(-1)[0]) > 0 else state[:2]
        return tuple(s.clone() for s in chosen)
