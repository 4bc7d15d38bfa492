import numpy as np
import torch

import netcompiler

from .table import Bad, Row, prototxt, suite


def lstm(fields):
    return f'type: "Lstm" recurrent_param {{ engine: CUDNN {fields} }}'


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def run(x, states, weights, layers, n):
    """cuDNN's gates i, f, g, o, with two biases."""
    flat, place = weights.ravel(), 0
    arrays = []
    for count in range(layers):
        for columns in (n if count else x.shape[2], n):
            arrays.append(flat[place : place + 4 * n * columns].reshape(4 * n, columns))
            place += 4 * n * columns
    biases = flat[place:].reshape(layers, 2, 4 * n).sum(1)
    last = []
    for i in range(layers):
        (h, c), out = (s[i] for s in states), []
        for step in x:
            gates = step @ arrays[2 * i].T + h @ arrays[2 * i + 1].T + biases[i]
            i_, f, g, o = np.split(gates, 4, 1)
            c = sigmoid(f) * c + sigmoid(i_) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
            out.append(h)
        x = np.stack(out)
        last.append((h, c))
    return x, np.stack([h for h, _ in last]), np.stack([c for _, c in last])


def plain(layers, n=3):
    def want(x, cont, *, weights):
        x = x.reshape(*x.shape[:2], -1)
        zeros = [np.zeros((layers, x.shape[1], n))] * 2
        return run(x, zeros, weights, layers, n)[0][..., None]

    return want


def handed(x, cont, h, c, *, weights):
    states = [s.reshape(-1, 2, 3) for s in (h, c)]
    states = [np.repeat(s, 2, 0) if len(s) == 1 else s for s in states]
    return [t[..., None] for t in run(x, states, weights, 2, 3)]


X = [(4, 2, 5), (4, 2)]
ONE, TWO = 12 * (5 + 3 + 2), 12 * (5 + 3 + 3 + 3 + 4)
STATE = (2, 2, 3, 1)
EXPOSED = "expose_hidden_input: true expose_hidden_output: true"
ROWS = [
    Row("one layer", lstm("num_output: 3"), X, [(4, 2, 3, 1)], plain(1), {"weights": (ONE, 1, 1)}, 768),
    Row(
        "two layers",
        lstm("num_output: 3 num_layers: 2 dropout_ratio: 0.5 use_cudnn_rnn8_if_supported: true"),
        [(4, 2, 5, 1), (4, 2)],
        [(4, 2, 3, 1)],
        plain(2),
        {"weights": (TWO, 1, 1)},
        1344,
    ),
    Row(
        "states",
        lstm(f"num_output: 3 num_layers: 2 {EXPOSED}"),
        [*X, (2, 2, 3), (2, 2, 3)],
        [(4, 2, 3, 1), STATE, STATE],
        handed,
        {"weights": (TWO, 1, 1)},
        1344,
    ),
    Row(
        "a state for both",
        lstm(f"num_output: 3 num_layers: 2 {EXPOSED} auto_repeat_hidden_states_across_layers: true"),
        [*X, (2, 3), (2, 3)],
        [(4, 2, 3, 1), STATE, STATE],
        handed,
        {"weights": (TWO, 1, 1)},
        1344,
    ),
]
BAD = [
    Bad("order", lstm("num_output: 3 batch_first: true"), X, "batch_first is not supported", at="batch_first"),
    Bad("both", lstm("num_output: 3 bidirectional: true"), X, "bidirectional is not supported", at="bidirectional"),
    Bad("none", lstm("num_layers: 2"), X, "num_output must be positive"),
    Bad("layers", lstm("num_output: 3 num_layers: 0"), X, "num_layers must be positive", at="num_layers"),
    Bad("dropout", lstm("num_output: 3 dropout_ratio: 1"), X, "dropout_ratio is out of range", at="dropout_ratio"),
    Bad("states", lstm("num_output: 3 expose_hidden_input: true"), X, "the wrong number of bottoms"),
    Bad("tops", lstm("num_output: 3 expose_hidden_output: true"), X, "the wrong number of tops"),
    Bad("cont", lstm("num_output: 3"), [(4, 2, 5), (2, 4)], "cont has the wrong shape"),
    Bad("nothing", lstm("num_output: 3"), [(4, 2, 0), (4, 2)], "there is no time step, or nothing in it"),
    Bad(
        "state",
        lstm("num_output: 3 num_layers: 2 expose_hidden_input: true"),
        [*X, (2, 3), (2, 3)],
        "bottom 2 has the wrong shape",
    ),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)


def test_state_is_kept():
    text = prototxt(lstm("num_output: 3 weight_filler { type: 'gaussian' }"), X, 1)
    net = netcompiler.compile(netcompiler.parse(text), device="cpu", dtype="float64")
    x = torch.randn(X[0], dtype=torch.float64)
    go_on, begin = torch.ones(X[1]), torch.zeros(X[1])
    first, second = (net(x, go_on)["t0"] for _ in range(2))
    whole = netcompiler.compile(
        netcompiler.parse(prototxt(lstm("num_output: 3"), [(8, 2, 5), (8, 2)], 1)), device="cpu", dtype="float64"
    )
    whole.load_caffe_params(net.caffe_params())
    both = whole(torch.cat((x, x)), torch.cat((go_on, go_on)))["t0"]
    torch.testing.assert_close(torch.cat((first, second)), both)
    torch.testing.assert_close(net(x, begin)["t0"], second)  # what the last batch began with


def test_each_part_is_filled():
    fields = "num_output: 30 weight_filler { type: 'xavier' } bias_filler { type: 'constant' value: 0.1 }"
    text = prototxt(lstm(fields), X, 1)
    (weights,) = netcompiler.compile(netcompiler.parse(text), device="cpu").caffe_params()["it"]
    values = weights.ravel()
    assert (values[-240:] == np.float32(0.1)).all()
    x, h = values[: 120 * 5], values[120 * 5 : -240]
    for part in (x, h):
        assert 0.8 < np.abs(part).max() / np.sqrt(3 / part.size) <= 1


def test_else_it_is_lstm():
    for fields in ("", "engine: CAFFE"):
        text = prototxt(f'type: "Lstm" recurrent_param {{ num_output: 3 {fields} }}', X, 1)
        assert netcompiler.build(netcompiler.parse(text)).nodes[-1].layer.kind == "LSTM"
