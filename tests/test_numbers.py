"""How far a small type and rewriting take a residual net from its float32 layers, over a hundred batches of pictures."""

import numpy as np
import pytest
import torch

import netcompiler
from netcompiler.kernels import program

BATCHES, CLASSES = 100, 20
RIDGE = 0.03  # keeps the last layer from weighing what is small


def layer(kind, name, bottom, top=None, more=""):
    return f'layer {{ name: "{name}" type: "{kind}" bottom: "{bottom}" top: "{top or name}" {more} }}\n'


def convolution(name, bottom, count, kernel, stride=1, pad=0):
    sizes = f"num_output: {count} kernel_size: {kernel} stride: {stride} pad: {pad} bias_term: false"
    text = layer("Convolution", name, bottom, more=f'convolution_param {{ {sizes} weight_filler {{ type: "msra" }} }}')
    return (
        text
        + layer("BatchNorm", f"n_{name}", name, name)
        + layer("Scale", f"s_{name}", name, name, "scale_param { bias_term: true }")
    )


def block(name, bottom, count, stride):
    """Two convolutions beside one that takes the bottom to their size."""
    text = convolution(f"{name}_a", bottom, count, 3, stride, 1) + layer("ReLU", f"{name}_r", f"{name}_a", f"{name}_a")
    text += convolution(f"{name}_b", f"{name}_a", count, 3, 1, 1) + convolution(f"{name}_c", bottom, count, 1, stride)
    text += f'layer {{ name: "{name}" type: "Eltwise" bottom: "{name}_b" bottom: "{name}_c" top: "{name}" }}\n'
    return text + layer("ReLU", f"{name}_s", name, name)


NET = (
    'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 3 dim: 48 dim: 48 } } }\n'
    + convolution("first", "x", 32, 7, 2, 3)
    + layer("ReLU", "first_r", "first", "first")
    + layer("Pooling", "pool", "first", more="pooling_param { pool: MAX kernel_size: 3 stride: 2 }")
    + block("one", "pool", 32, 1)
    + block("two", "one", 64, 2)
    + block("three", "two", 128, 2)
    + layer("Pooling", "mean", "three", more="pooling_param { pool: AVE global_pooling: true }")
    + layer("InnerProduct", "fc", "mean", more='inner_product_param { num_output: 20 weight_filler { type: "msra" } }')
    + layer("Softmax", "prob", "fc")
)


@pytest.fixture(scope="module")
def graph():
    """Weights as fillers give them; statistics that a trained net could have."""
    built = netcompiler.weights.bind(netcompiler.build(netcompiler.parse(NET)), {}, warn=False)
    rng = np.random.default_rng(1)
    arrays = {n.name: [np.array(a) for a in n.blobs] for n in built.nodes if n.blobs}
    for name, blobs in arrays.items():
        if name.startswith("n_"):
            blobs[0], blobs[1] = rng.normal(0, 1, blobs[0].shape), rng.uniform(4, 9, blobs[1].shape)
            blobs[2] = np.ones(1)
    # The last layer tells classes apart, as a trained one would: fitted to a few pictures of each.
    net = netcompiler.compile(built.reaching(["mean"]), arrays, optimize=False, device="cpu")
    kinds = [k for k in range(CLASSES) for _ in range(8)]
    found = np.concatenate([net(image(k, rng))["mean"].detach().numpy().reshape(1, -1) for k in kinds])
    centre = found.mean(0)
    spread = (found - centre).T @ (found - centre)
    ridge = RIDGE * np.trace(spread) / len(spread) * np.eye(len(spread))
    fitted = np.linalg.solve(spread + ridge, (found - centre).T @ np.eye(CLASSES)[kinds])
    arrays["fc"] = [fitted.T, -centre @ fitted]
    return netcompiler.weights.bind(built, {k: [np.float32(a) for a in v] for k, v in arrays.items()})


def image(kind, rng):
    """A picture of a class: its own coarse pattern, and noise."""
    own = np.random.default_rng(kind)
    patches = 40 * own.standard_normal((1, 3, 6, 6)) + 60 * own.standard_normal((1, 3, 1, 1))
    return np.float32(np.kron(patches, np.ones((8, 8))) + 8 * rng.standard_normal((1, 3, 48, 48)))


@pytest.mark.parametrize(("dtype", "bound"), [("float32", 1e-4), ("bfloat16", 2e-2)])
@pytest.mark.parametrize("one_program", [True, False], ids=["one program", "by layer"])
def test_a_hundred_batches(graph, dtype, bound, one_program, monkeypatch):
    monkeypatch.setattr(program, "MARGIN", 1e9)
    net = netcompiler.compile(graph, dtype=dtype, device="cpu")
    plain = netcompiler.compile(graph, optimize=False, device="cpu")
    net._programs.on = net._programs.on and one_program
    rng = np.random.default_rng(7)
    alike, seen = 0, set()
    with torch.inference_mode():
        for _ in range(BATCHES):
            x = np.concatenate([image(rng.integers(CLASSES), rng) for _ in range(4)])
            want, got = plain(x)["prob"], net(x)["prob"].float()
            assert float((got - want).abs().max()) <= bound * float(want.abs().max())
            alike += torch.equal(got.argmax(1), want.argmax(1))
            seen.update(want.argmax(1).tolist())
    assert alike >= 0.99 * BATCHES
    assert len(seen) > CLASSES // 2, "else any net would do"
    assert net.one_program == (net._programs.able and one_program)
