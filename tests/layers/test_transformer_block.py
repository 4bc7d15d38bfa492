import numpy as np

import netcompiler

from .table import Bad, Row, prototxt, suite


def block(fields):
    return f'type: "TransformerBlock" transformer_block_param {{ {fields} }}'


def norm(v):
    return (v - v.mean()) / np.sqrt(((v - v.mean()) ** 2).mean() + 1e-10)


def naive(heads, act=lambda v: np.maximum(v, 0)):
    def want(x, **b):
        out = np.empty_like(x)
        size = x.shape[2] // heads
        for n, rows in enumerate(x):
            e = rows.shape[1]
            triples = [b["qkv"] @ norm(r) + b["qkv_bias"] for r in rows]
            for t, row in enumerate(rows):
                seen = np.zeros(e)
                for h in range(heads):
                    own = slice(h * size, (h + 1) * size)
                    q = triples[t][:e][own]
                    near = np.array([q @ triples[s][e : 2 * e][own] / np.sqrt(size) for s in range(t + 1)])
                    part = np.exp(near - near.max())
                    part /= part.sum()
                    seen[own] = sum(p * triples[s][2 * e :][own] for s, p in enumerate(part))
                y = row + b["attended"] @ seen + b["attended_bias"]
                wide = act(b["expand"] @ norm(y) + b["expand_bias"])
                out[n, t] = y + b["project"] @ wide + b["project_bias"]
        return out

    return want


def gelu(v):
    return v / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (v + 0.044715 * v**3)))


BLOBS = {
    "qkv": (12, 4),
    "qkv_bias": (12,),
    "attended": (4, 4),
    "attended_bias": (4,),
    "expand": (16, 4),
    "expand_bias": (16,),
    "project": (4, 16),
    "project_bias": (4,),
}
X = [(2, 3, 4)]
MACS = 2 * 3 * 4 * (48 + 6)
ROWS = [
    Row("two heads", block("embed: 4 heads: 2 layers: 6 block_size: 3"), X, X, naive(2), BLOBS, MACS),
    Row(
        "gelu",
        block("embed: 4 heads: 1 activation: GELU_BERT block_type: CAUSAL_SELF_ATTENTION"),
        X,
        X,
        naive(1, gelu),
        BLOBS,
        MACS,
    ),
    Row(
        "no dropout",
        block("embed: 4 heads: 4 attn_dropout: 0 resid_dropout: 0"),
        X,
        X,
        naive(4),
        BLOBS,
        MACS,
        phase="TRAIN",
    ),
]
BAD = [
    Bad("block", block("embed: 4 heads: 2 block_type: ENCODER"), X, "block_type is not supported", at="block_type"),
    Bad("activation", block("embed: 4 heads: 2 activation: GELU"), X, "activation is not supported", at="activation"),
    Bad("heads", block("embed: 4 heads: 3"), X, "heads do not divide embed", at="heads"),
    Bad("embed", block("heads: 2"), X, "bottom 0 has the wrong shape"),
    Bad("dropout", block("embed: 4 heads: 2 attn_dropout: 1"), X, "attn_dropout is out of range", at="attn_dropout"),
    Bad("axes", block("embed: 4 heads: 2"), [(2, 4)], "wrong number of axes"),
    Bad("none", block("embed: 0"), X, "embed must be positive", at="embed"),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)


def test_dropout_drops():
    x = np.random.default_rng(0).standard_normal(X[0]).astype(np.float32)
    text = prototxt(block("embed: 4 heads: 2 resid_dropout: 0.9"), X, 1)
    net = netcompiler.compile(netcompiler.parse(text), phase="TRAIN", device="cpu")
    first, second = (net(x)["t0"] for _ in range(2))
    assert not (first == second).all()
    assert (first == net(x)["t0"]).any()  # most of what is added is dropped
