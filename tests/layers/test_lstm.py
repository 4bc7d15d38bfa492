from dataclasses import replace

import numpy as np
import pytest
import torch

import netcompiler
from netcompiler.errors import NetError
from netcompiler.layers.lstm import Recurrent

from .table import Bad, Row, prototxt, suite

T, N, D, H, S = 5, 3, 7, 2, 4


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm(x, cont, *rest, weight_x, bias, weight_h, weight_static=None):
    """One sequence, one step, one cell at a time."""
    rest = list(rest)
    static = rest.pop(0) if weight_static is not None else None
    steps, n = cont.shape
    size = weight_h.shape[1]
    h, c = (r[0].copy() for r in rest) if rest else (np.zeros((n, size)), np.zeros((n, size)))
    y = np.zeros((steps, n, size))
    for t in range(steps):
        for b in range(n):
            before = cont[t, b] * h[b]
            gates = weight_x @ x[t, b].ravel() + bias + weight_h @ before
            if static is not None:
                gates = gates + weight_static @ static[b].ravel()
            for k in range(size):
                i, f, o, g = gates[k], gates[size + k], gates[2 * size + k], gates[3 * size + k]
                c[b, k] = cont[t, b] * sigmoid(f) * c[b, k] + sigmoid(i) * np.tanh(g)
                h[b, k] = sigmoid(o) * np.tanh(c[b, k])
        y[t] = h
    return [y, h[None], c[None]] if rest else y


def rnn(x, cont, *rest, weight_x, bias, weight_h, weight_o, bias_o, weight_static=None):
    rest = list(rest)
    static = rest.pop(0) if weight_static is not None else None
    h = rest[0][0].copy() if rest else np.zeros((cont.shape[1], len(bias)))
    y = np.zeros((*cont.shape, len(bias)))
    for t, b in np.ndindex(cont.shape):
        inputs = weight_x @ x[t, b].ravel() + bias + weight_h @ (cont[t, b] * h[b])
        if static is not None:
            inputs = inputs + weight_static @ static[b].ravel()
        h[b] = np.tanh(inputs)
        y[t, b] = np.tanh(weight_o @ h[b] + bias_o)
    return [y, h[None]] if rest else y


def flags(rng, shape):
    """0 at the first step of all, and here and there: what came before does not count."""
    cont = rng.integers(0, 2, shape).astype(np.float64)
    cont[0] = 0
    return cont


def going_on(rng, shape):
    return rng.integers(0, 3, shape) / 2


def unbroken(rng, shape):
    """Every sequence begins at the first step, and none later: all steps can run at once."""
    return np.repeat([[0.0], [1.0]], [1, shape[0] - 1], axis=0) * np.ones(shape)


def half(rng, shape):
    """Half of the state before the first step counts."""
    return np.maximum(unbroken(rng, shape), 0.5)


def layer(kind, more=""):
    return f'type: "{kind}" recurrent_param {{ num_output: {H} {more} }}'


X, CONT, STATIC, STATE = (T, N, D), (T, N), (N, S), (1, N, H)
LSTM_BLOBS = {"weight_x": (4 * H, D), "bias": (4 * H,), "weight_h": (4 * H, H)}
RNN_BLOBS = {"weight_x": (H, D), "bias": (H,), "weight_h": (H, H), "weight_o": (H, H), "bias_o": (H,)}
LSTM_MACS, RNN_MACS = T * N * 4 * H * (D + H), T * N * H * (D + 2 * H)


def with_static(blobs):
    """The static weights stand between the bias and the recurrent ones."""
    rows = blobs["bias"][0]
    items = list(blobs.items())
    return dict([*items[:2], ("weight_static", (rows, S)), *items[2:]])


ROWS = [
    Row("lstm", layer("LSTM"), [X, CONT], [(T, N, H)], lstm, LSTM_BLOBS, LSTM_MACS, feed={1: flags}),
    Row(
        "lstm, static",
        layer("LSTM"),
        [X, CONT, STATIC],
        [(T, N, H)],
        lstm,
        with_static(LSTM_BLOBS),
        LSTM_MACS + N * 4 * H * S,
        feed={1: flags},
    ),  # fmt: skip
    Row(
        "lstm, x of four axes, cont other than 0 and 1",
        layer("LSTM"),
        [(T, N, 1, D), CONT],
        [(T, N, H)],
        lstm,
        LSTM_BLOBS,
        LSTM_MACS,
        feed={1: going_on},
        gradient=False,
    ),  # fmt: skip
    Row(
        "lstm, exposed",
        layer("LSTM", "expose_hidden: true"),
        [X, CONT, STATE, STATE],
        [(T, N, H), STATE, STATE],
        lstm,
        LSTM_BLOBS,
        LSTM_MACS,
        feed={1: going_on},
        gradient=False,
    ),  # fmt: skip
    Row(
        "lstm, exposed, static",
        layer("LSTM", "expose_hidden: true"),
        [X, CONT, (N, 2, 2), STATE, STATE],
        [(T, N, H), STATE, STATE],
        lstm,
        with_static(LSTM_BLOBS),
        LSTM_MACS + N * 4 * H * S,
        feed={1: going_on},
        gradient=False,
    ),  # fmt: skip
    Row("rnn", layer("RNN", "debug_info: true"), [X, CONT], [(T, N, H)], rnn, RNN_BLOBS, RNN_MACS, feed={1: flags}),
    Row(
        "rnn, static",
        layer("RNN"),
        [X, CONT, STATIC],
        [(T, N, H)],
        rnn,
        with_static(RNN_BLOBS),
        RNN_MACS + N * H * S,
        feed={1: flags},
    ),  # fmt: skip
    Row(
        "rnn, exposed",
        layer("RNN", "expose_hidden: true"),
        [X, CONT, STATE],
        [(T, N, H), STATE],
        rnn,
        RNN_BLOBS,
        RNN_MACS,
        feed={1: going_on},
        gradient=False,
    ),  # fmt: skip
]
ROWS += [replace(row, name=f"{row.name}, at once", feed={1: unbroken if row.gradient else half}) for row in ROWS]
EXPOSED = layer("LSTM", "expose_hidden: true")
BAD = [
    Bad("no num_output", 'type: "LSTM"', [X, CONT], "num_output must be positive"),
    Bad("two axes", layer("LSTM"), [(T, N), CONT], "too few axes"),
    Bad("no time", layer("LSTM"), [(0, N, D), (0, N)], "there is no time step"),
    Bad("cont", layer("RNN"), [X, (N, T)], "cont has the wrong shape"),
    Bad("static", layer("LSTM"), [X, CONT, (T, S)], "x_static has the wrong first axis"),
    Bad("static of one axis", layer("LSTM"), [X, CONT, (N,)], "too few axes"),
    Bad("states missing", EXPOSED, [X, CONT, STATE], "wrong number of bottoms", tops=3),
    Bad("states not exposed", layer("LSTM"), [X, CONT, STATIC, STATE], "wrong number of bottoms"),
    Bad("top of the states missing", EXPOSED, [X, CONT, STATE, STATE], "expected: 3 (the output, h, c", tops=1),
    Bad("c", EXPOSED, [X, CONT, STATE, (1, N, D)], "c has the wrong shape", tops=3),
    Bad("one bottom", layer("RNN"), [X], "wrong number of bottoms"),
    Bad(
        "rnn has no cell",
        layer("RNN", "expose_hidden: true"),
        [X, CONT, STATIC, STATE, STATE],
        "number of bottoms",
        tops=2,
    ),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)


def net(kind, bottoms=(X, CONT), tops=1, more=""):
    fillers = " ".join(f'{f}_filler {{ type: "uniform" min: -1 max: 1 }}' for f in ("weight", "bias"))
    text = prototxt(layer(kind, f"{fillers} {more}"), bottoms, tops)
    return netcompiler.compile(netcompiler.parse(text), optimize=False, device="cpu")


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float16"])
@pytest.mark.parametrize("kind", ["LSTM", "RNN"])
def test_at_once_is_one_by_one(kind, dtype, monkeypatch):
    """In values, states and gradients; and where cont is broken, no step is run with others."""
    found = []
    cont = torch.ones(CONT)
    cont[0, 1:] = 0
    x, static = torch.randn(X), torch.randn(STATIC)
    for way in ("at_once", "one_by_one"):
        it = net(kind, [X, CONT, STATIC]).to(getattr(torch, dtype))
        if way == "one_by_one":
            monkeypatch.setattr(Recurrent, "at_once", Recurrent.one_by_one)
        top = [it(x, cont, static)["t0"], it(x, cont, static)["t0"]]
        sum(t.square().sum() for t in top).backward()
        found.append([*top, *it.it.state, *(p.grad for p in it.parameters())])
    scale = {"float32": 1e-5, "float64": 1e-12, "bfloat16": 0.1, "float16": 0.02}[dtype]
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=scale, atol=scale)
    monkeypatch.setattr(Recurrent, "at_once", None)
    cont[2, 1] = 0
    net(kind)(x, cont)


@pytest.mark.parametrize("kind", ["LSTM", "RNN"])
def test_the_state_is_carried_from_batch_to_batch(kind):
    """Two batches give what one of twice the length gives, where cont goes on; a 0 in cont begins afresh."""
    two = net(kind)
    x, cont = torch.randn(2 * T, N, D), torch.ones(2 * T, N)
    cont[T, 1] = 0
    halves = [two(x[:T], cont[:T])["t0"], two(x[T:], cont[T:])["t0"]]
    whole = net(kind, [(2 * T, N, D), (2 * T, N)])(x, cont)["t0"]
    torch.testing.assert_close(torch.cat(halves), whole)
    two.it.state = None
    torch.testing.assert_close(two(x[:T], cont[:T])["t0"], halves[0])  # forgotten, hence as at first
    assert not torch.allclose(two(x[:T], cont[:T])["t0"], halves[0])
    one = two(x[:T, :1], cont[:T, :1])["t0"]  # another number of sequences: from zeros
    torch.testing.assert_close(one, halves[0][:, :1])


def test_no_gradient_flows_into_the_batch_before():
    whole = net("LSTM")
    first = torch.randn(T, N, D, requires_grad=True)
    whole(first, torch.ones(T, N))
    whole(torch.randn(T, N, D), torch.ones(T, N))["t0"].sum().backward()
    assert first.grad is None


def test_training_after_inference_mode():
    whole = net("LSTM")
    with torch.inference_mode():
        whole(torch.randn(T, N, D), torch.ones(T, N))
    whole(torch.randn(T, N, D), torch.ones(T, N))["t0"].sum().backward()
    assert whole.it.weight_h.grad.abs().sum() > 0


def test_exposed_states_have_no_gradient():
    """As in Caffe: none into the states given, none from those returned."""
    whole = net("LSTM", [X, CONT, STATE, STATE], 3, "expose_hidden: true")
    h, c = torch.randn(STATE, requires_grad=True), torch.randn(STATE, requires_grad=True)
    tops = whole(torch.randn(X, requires_grad=True), torch.ones(CONT), h, c)
    assert tops["t0"].requires_grad and not tops["t1"].requires_grad and not tops["t2"].requires_grad
    tops["t0"].sum().backward()
    assert h.grad is None and c.grad is None
    torch.testing.assert_close(tops["t1"][0], tops["t0"][-1])


def test_cont_takes_no_gradient():
    with pytest.raises(NetError, match="LSTM passes no gradient to cont"):
        net("LSTM")(torch.randn(X), torch.ones(CONT, requires_grad=True))["t0"].sum().backward()
