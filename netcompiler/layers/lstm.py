"""LSTM and RNN."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, ClassVar, Self

from ..errors import NetError
from ..fillers import Filler
from ..graph import Shapes, dims
from ..text import Msg
from ..windows import Windows
from .base import BlobSpec, Layer, at_least, exactly, layer, refuse_gradient, traced

if TYPE_CHECKING:
    from torch import Tensor

State = tuple["Tensor", ...]  # each N x num_output


@dataclass(frozen=True, slots=True)
class Recurrent(Layer):
    """What LSTM and RNN share: T time steps of N independent sequences.

    bottom[0]: x T x N x ...      bottom[1]: cont T x N, 0 where a sequence begins, else 1; multiplies the state before it
    then, if there is one more: x_static N x ..., seen at every step; with expose_hidden the state before the first step,
    each 1 x N x num_output
    top[0]: T x N x num_output; with expose_hidden then the state after the last step, each 1 x N x num_output
    Quirks: without expose_hidden the state after a batch is the state before the next one (zeros at first, or when N
    changes), so that cont decides whether it counts; no gradient flows from batch to batch, and with expose_hidden
    none into the states given and none from the states returned. A traced or exported graph starts from zeros.
    Where cont is 1 from the second step on, PyTorch's own recurrence runs all steps at once; else they run one by one.
    Source: Caffe, src/caffe/layers/recurrent_layer.cpp.
    """

    category = "dense"
    n_bottom = (2, 5)
    n_top = (1, 3)
    no_gradient = (1,)
    remembers = ("state",)
    counted = True
    ignored = frozenset({"engine", "debug_info"})
    states: ClassVar[tuple[str, ...]]
    gates: ClassVar[int] = 1

    num_output: int
    expose_hidden: bool = False
    static: bool = False
    weight_filler: Filler = Filler()
    bias_filler: Filler = Filler()

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self:
        p = msg.recurrent_param
        if p.num_output < 1:
            raise NetError("num_output must be positive", at=p.at("num_output"), got=p.num_output)
        shown = len(cls.states) if p.expose_hidden else 0
        extra = f", {', '.join(cls.states)} as expose_hidden is set" if shown else ""
        if len(bottoms) not in (2 + shown, 3 + shown):
            expected = f"{2 + shown} or {3 + shown} (x, cont, perhaps x_static{extra})"
            raise NetError("the wrong number of bottoms", at="bottom", expected=expected, got=len(bottoms))
        if len(msg.top) != 1 + shown:
            expected = f"{1 + shown} (the output{extra})"
            raise NetError("the wrong number of tops", at="top", expected=expected, got=len(msg.top))
        fillers = Filler.read(p.weight_filler), Filler.read(p.bias_filler)
        return cls(p.num_output, p.expose_hidden, len(bottoms) == 3 + shown, *fillers)

    def tops(self, bottoms: Shapes) -> Shapes:
        at_least(3, bottoms)
        exactly(2, bottoms, 1)
        steps, n = bottoms[0][:2]
        if not steps:
            raise NetError("there is no time step", expected="at least 1", got=dims(bottoms[0]))
        if bottoms[1] != (steps, n):
            expected = f"{dims((steps, n))}, the first axes of bottom 0"
            raise NetError("cont has the wrong shape", expected=expected, got=dims(bottoms[1]))
        if self.static:
            at_least(2, bottoms, 2)
            if bottoms[2][0] != n:
                got = f"{bottoms[2][0]} ({dims(bottoms[2])})"
                raise NetError("x_static has the wrong first axis", expected=f"{n}, the sequences", got=got)
        state = (1, n, self.num_output)
        given = bottoms[2 + self.static :]
        for name, shape in zip(self.states, given, strict=False):
            if shape != state:
                raise NetError(f"{name} has the wrong shape", expected=dims(state), got=dims(shape))
        return ((steps, n, self.num_output), *(state for _ in given))

    def blobs(self, bottoms: Shapes) -> dict[str, BlobSpec]:
        rows = self.gates * self.num_output
        specs = {"weight_x": self.weight(rows, prod(bottoms[0][2:])), "bias": BlobSpec((rows,), self.bias_filler)}
        if self.static:
            specs["weight_static"] = self.weight(rows, prod(bottoms[2][1:]))
        specs["weight_h"] = self.weight(rows, self.num_output)
        return specs

    def weight(self, rows: int, columns: int) -> BlobSpec:
        return BlobSpec((rows, columns), self.weight_filler)

    def macs(self, bottoms: Shapes, tops: Shapes) -> int:
        uses = {"weight_static": bottoms[0][1]}
        each = prod(bottoms[0][:2])
        specs = self.blobs(bottoms).items()
        return sum(uses.get(name, each) * spec.count for name, spec in specs if name.startswith("weight"))

    def windows(self, bottoms: Shapes, tops: Shapes, bottom: int, top: int) -> Windows | None:
        return None

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor | tuple[Tensor, ...]:
        x, cont, *rest = bottoms
        static = rest.pop(0).flatten(1) if self.static else None
        state = tuple(s[0].detach() for s in rest) or self.carried(m, x)
        flags = cont.detach().to(x.dtype).unsqueeze(2)
        unbroken = not traced(x) and bool((flags[1:] == 1).all())
        hidden, state = (self.at_once if unbroken else self.one_by_one)(m, x.flatten(2), static, flags, state)
        if not (self.expose_hidden or traced(x)):
            m.state = tuple(s.detach() for s in state)
        top = refuse_gradient(self.output(m, hidden), cont, f"{self.kind} passes no gradient to cont")
        return (top, *(s.detach()[None] for s in state)) if self.expose_hidden else top

    def one_by_one(self, m: Any, x: Tensor, static: Tensor | None, flags: Tensor, state: State) -> tuple[Tensor, State]:
        """The hidden states of all steps, and the last state."""
        import torch
        import torch.nn.functional as F

        inputs, hidden = F.linear(x, m.weight_x, m.bias), []
        if static is not None:
            inputs = inputs + F.linear(static, m.weight_static)
        for step, flag in zip(inputs.unbind(), flags.unbind(), strict=True):
            gates = torch.addmm(step, state[0] * flag, m.weight_h.t())
            state = self.step(gates, flag, state)
            hidden.append(state[0])
        return torch.stack(hidden), state

    def at_once(self, m: Any, x: Tensor, static: Tensor | None, flags: Tensor, state: State) -> tuple[Tensor, State]:
        """The same where all flags but the first are 1. x_static becomes more inputs of each step."""
        import torch

        weight = m.weight_x
        if static is not None:
            x = torch.cat((x, static.expand(len(x), *static.shape)), 2)
            weight = torch.cat((weight, m.weight_static), 1)
        arrays = [self.as_torch(a) for a in (weight, m.weight_h, m.bias, torch.zeros_like(m.bias))]
        piece = torch.cat([a.flatten() for a in arrays])  # as cuDNN wants them
        parts = torch.split(piece, [a.numel() for a in arrays])
        weights = [part.view(a.shape) for part, a in zip(parts, arrays, strict=True)]
        before = [(s * flags[0])[None] for s in state]
        settings = (True, 1, 0.0, torch.is_grad_enabled(), False, False)  # biases, layers, dropout, train, ...
        if len(before) > 1:
            hidden, *after = torch.lstm(x, before, weights, *settings)
        else:
            hidden, *after = torch.rnn_tanh(x, before[0], weights, *settings)
        return hidden, tuple(s[0] for s in after)

    def as_torch(self, rows: Tensor) -> Tensor:
        """The gates' rows of a weight or bias in PyTorch's order."""
        return rows

    def carried(self, m: Any, x: Tensor) -> State:
        """The state after the last batch; zeros where there is none that fits. `m.state = None` forgets it."""
        shape = (x.shape[1], self.num_output)
        state = None if traced(x) else getattr(m, "state", None)
        if state is None or (state[0].shape, state[0].dtype, state[0].device) != (shape, x.dtype, x.device):
            return (x.new_zeros(shape),) * len(self.states)
        return tuple(s.clone() for s in state)  # one from inference mode could not be trained on

    def step(self, gates: Tensor, flag: Tensor, state: State) -> State:
        """The state after one time step; the hidden state, which the gates read, comes first."""
        raise NotImplementedError(type(self))

    def output(self, m: Any, hidden: Tensor) -> Tensor:
        """top[0] from the hidden states of all time steps."""
        return hidden


@layer("LSTM")
@dataclass(frozen=True, slots=True)
class LSTM(Recurrent):
    """Long short-term memory: c = cont f c' + i g,  h = o tanh(c),  with ' for the step before.

    i, f, o = sigmoid, g = tanh of W_x x + b + W_h (cont h') (+ W_static x_static), four gates in this order.
    bottom, top: see Recurrent; top[0] is h, and the states are h, then c.
    blobs: weight_x 4 num_output x D;  bias 4 num_output;  weight_static 4 num_output x D' if there is x_static;
    weight_h 4 num_output x num_output. D, D' are what one step of x, and x_static, hold for one sequence.
    MACs: T N 4 num_output (D + num_output) + N 4 num_output D'; bias and gates not counted.
    Source: Caffe, src/caffe/layers/lstm_layer.cpp, lstm_unit_layer.cpp; Hochreiter & Schmidhuber 1997.
    """

    states = ("h", "c")
    gates = 4

    def as_torch(self, rows: Tensor) -> Tensor:
        import torch

        i, f, o, g = rows.chunk(4)
        return torch.cat((i, f, g, o))

    def step(self, gates: Tensor, flag: Tensor, state: State) -> State:
        i, f, o, g = gates.chunk(4, 1)
        c = flag * f.sigmoid() * state[1] + i.sigmoid() * g.tanh()
        return o.sigmoid() * c.tanh(), c


@layer("RNN")
@dataclass(frozen=True, slots=True)
class RNN(Recurrent):
    """h = tanh(W_x x + b + W_h (cont h') (+ W_static x_static)),  y = tanh(W_o h + b_o),  with ' for the step before.

    bottom, top: see Recurrent; top[0] is y, and the state is h.
    blobs: weight_x num_output x D;  bias num_output;  weight_static num_output x D' if there is x_static;
    weight_h num_output x num_output;  weight_o num_output x num_output;  bias_o num_output.
    MACs: T N num_output (D + 2 num_output) + N num_output D'; biases not counted.
    Source: Caffe, src/caffe/layers/rnn_layer.cpp.
    """

    n_bottom = (2, 4)
    n_top = (1, 2)
    states = ("h",)

    def blobs(self, bottoms: Shapes) -> dict[str, BlobSpec]:
        n = self.num_output
        return {
            **Recurrent.blobs(self, bottoms),
            "weight_o": self.weight(n, n),
            "bias_o": BlobSpec((n,), self.bias_filler),
        }

    def step(self, gates: Tensor, flag: Tensor, state: State) -> State:
        return (gates.tanh(),)

    def output(self, m: Any, hidden: Tensor) -> Tensor:
        import torch.nn.functional as F

        return F.linear(hidden, m.weight_o, m.bias_o).tanh()
