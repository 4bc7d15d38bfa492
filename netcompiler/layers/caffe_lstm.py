"""Lstm, of caffe-lstm, and of MyCaffe."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Self

from ..errors import NetError
from ..fillers import Filler
from ..graph import Shapes, dims
from ..text import Msg
from ..windows import Windows
from .base import BlobSpec, Layer, at_least, check_count, layer, refuse_gradient, traced
from .mycaffe_lstm import PackedLstm

if TYPE_CHECKING:
    from torch import Tensor


@layer("Lstm")
@dataclass(frozen=True, slots=True)
class Lstm(Layer):
    """Long short-term memory over N = batch_size sequences: c = f c' + i g,  h = o tanh(c),  with ' for the step before.

    i, f, o = sigmoid, g = tanh of W_x x + W_h h' + b, four gates in this order.
    bottom[0]: T N x D..., the steps first      bottom[1], if there is one: clip, T N, 0 where a sequence begins, else 1
    top[0]: T N x num_output
    In CTPN's nets T x N x D... and T x N x num_output; there batch_size is not written.
    Where clip is 0, h' and c' do not count. Without clip the first step has none; with it the state after a batch is the
    state before the next one (zeros at first, or when N changes); no gradient flows from batch to batch. A traced or
    exported graph starts from zeros.
    Quirks of the CPU code, kept: of N sequences, the flag of sequence n at step t is clip[t + n], and W_h h' is sequence
    0's for all. The gradient of W_h is that of h' of each sequence itself, whatever clip is; before the first step only
    that of sequence 0.
    clipping_threshold, above 0: the gradient of each gate before its sigmoid or tanh is clamped to that, at each step.
    blobs: weight_x 4 num_output x D;  weight_h 4 num_output x num_output;  bias 4 num_output.
    MACs: T N 4 num_output (D + num_output); bias and gates not counted.
    With recurrent_param it is MyCaffe's: LSTM, but where the engine is CUDNN or num_layers above 1, cuDNN's, and then:
    bottom[0]: x T x N x ..      bottom[1]: cont T x N      bottom[2], [3], with expose_hidden_input: the state before the
    first step, num_layers x N x num_output, or one for all layers with auto_repeat_hidden_states_across_layers
    top[0]: T x N x num_output x 1      top[1], [2], with expose_hidden_output: the state after the last step
    num_layers of it, one behind the other, with dropout_ratio between them in TRAIN. Of cont the first value counts alone:
    above 0 the batch begins with the state after the last batch, else with what that one began with, zeros at first; with
    use_cudnn_rnn8_if_supported always with zeros. blob: weights, all of them in cuDNN's order. batch_first and bidirectional
    are refused.
    Source: junhyukoh/caffe-lstm, tianzhi0549/CTPN: src/caffe/layers/lstm_layer.cpp; MyCaffe, RecurrentLayer.cs.
    """

    category = "dense"
    n_bottom = (1, 5)
    n_top = (1, 3)
    no_gradient = (1,)
    remembers = ("state",)
    counted = True
    ignored = frozenset({"engine", "debug_info", "dropout_seed", "cudnn_enable_tensor_cores"})

    num_output: int
    batch_size: int | None = 1  # None: bottom 0 has an axis for it
    clipping_threshold: float = 0.0
    weight_filler: Filler = Filler()
    bias_filler: Filler = Filler()

    @classmethod
    def read(cls, msg: Msg, bottoms: Shapes) -> Self | Layer:  # type: ignore[override]
        if msg.has("recurrent_param"):
            return PackedLstm.read(msg, bottoms)
        check_count(msg, "bottom", (1, 2))
        check_count(msg, "top", (1, 1))
        p = msg.lstm_param
        if p.num_output < 1:
            raise NetError("num_output must be positive", at=p.at("num_output"), got=p.num_output)
        if p.batch_size < 1:
            raise NetError("batch_size must be positive", at=p.at("batch_size"), got=p.batch_size)
        batch = None if msg.dialect == "ctpn" and not p.has("batch_size") else p.batch_size
        fillers = Filler.read(p.weight_filler), Filler.read(p.bias_filler)
        return cls(p.num_output, batch, max(p.clipping_threshold, 0.0), *fillers)

    def tops(self, bottoms: Shapes) -> Shapes:
        at_least(2, bottoms)
        x = bottoms[0]
        if self.batch_size is not None and x[0] % self.batch_size:
            expected = f"a divisor of {x[0]}, the first dim of bottom 0"
            raise NetError("batch_size does not fit", at="batch_size", expected=expected, got=self.batch_size)
        steps = x[:1] if self.batch_size is not None else x[:2]
        if not prod(x):
            raise NetError("there is no time step, or nothing in it", expected="positive dims", got=dims(x))
        if len(bottoms) > 1 and prod(bottoms[1]) != prod(steps):
            raise NetError("clip has the wrong shape", expected=f"{prod(steps)} values", got=dims(bottoms[1]))
        return ((*steps, self.num_output),)

    def blobs(self, bottoms: Shapes) -> dict[str, BlobSpec]:
        rows, inputs = 4 * self.num_output, prod(bottoms[0][1 if self.batch_size is not None else 2 :])
        return {
            "weight_x": BlobSpec((rows, inputs), self.weight_filler),
            "weight_h": BlobSpec((rows, self.num_output), self.weight_filler),
            "bias": BlobSpec((rows,), self.bias_filler),
        }

    def macs(self, bottoms: Shapes, tops: Shapes) -> int:
        specs = self.blobs(bottoms)
        return prod(tops[0][:-1]) * (specs["weight_x"].count + specs["weight_h"].count)

    def windows(self, bottoms: Shapes, tops: Shapes, bottom: int, top: int) -> Windows | None:
        return None

    def brief(self) -> str:
        return str(self.num_output)

    def forward(self, m: Any, *bottoms: Tensor) -> Tensor:
        import torch
        import torch.nn.functional as F

        x = bottoms[0]
        n = x.shape[1] if self.batch_size is None else self.batch_size
        inputs = F.linear(x.reshape(-1, m.weight_x.shape[1]), m.weight_x, m.bias).reshape(-1, n, m.bias.shape[0])
        steps = len(inputs)
        if len(bottoms) > 1:
            clip = bottoms[1].detach().reshape(-1).to(x.dtype)
            flags = torch.stack([clip[t : t + n] for t in range(steps)])[:, :, None] != 0
            h, c = self.carried(m, x, n)
        else:
            flags = torch.ones((steps, n, 1), dtype=torch.bool, device=x.device)
            flags[0] = False
            h = c = x.new_zeros((n, self.num_output))
        fixed, learns = m.weight_h.detach().t(), torch.is_grad_enabled() and m.weight_h.requires_grad
        hidden: list[Tensor] = []
        for step, flag in zip(inputs.unbind(), flags.unbind(), strict=True):
            gates = step + (h[:1] @ fixed) * flag
            if learns:
                own = h.detach() if hidden else torch.cat((h[:1], torch.zeros_like(h[1:])))
                product = own @ m.weight_h.t()
                gates = gates + product - product.detach()
            if self.clipping_threshold and gates.requires_grad:
                gates = _clamped(gates, self.clipping_threshold)
            i, f, o, g = gates.chunk(4, 1)
            c = flag * f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            hidden.append(h)
        if len(bottoms) > 1 and not traced(x):
            m.state = h.detach(), c.detach()
        top = torch.stack(hidden).reshape(*x.shape[: 1 if self.batch_size is not None else 2], self.num_output)
        return refuse_gradient(top, bottoms[1], "Lstm passes no gradient to clip") if len(bottoms) > 1 else top

    def carried(self, m: Any, x: Tensor, n: int) -> tuple[Tensor, Tensor]:
        """The state after the last batch; zeros where there is none that fits. `m.state = None` forgets it."""
        shape = (n, self.num_output)
        state = None if traced(x) else getattr(m, "state", None)
        if state is None or (state[0].shape, state[0].dtype, state[0].device) != (shape, x.dtype, x.device):
            zeros = x.new_zeros(shape)
            return zeros, zeros
        return state[0].clone(), state[1].clone()  # one from inference mode could not be trained on


def _clamped(x: Tensor, most: float) -> Tensor:
    """x, whose gradient is clamped."""
    import torch

    class Clamped(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, *grads: Tensor) -> Any:
            return grads[0].clamp(-most, most)

    if torch.compiler.is_compiling():
        return x
    same: Tensor = Clamped.apply(x)  # type: ignore[no-untyped-call]
    return same
