import numpy as np
import pytest
import torch

import netcompiler
from netcompiler import NetError, schema

from .table import Bad, Row, labels, prototxt, suite


def infogain(axis=1, mode="VALID", ignore=None, softmax=False):
    def loss(x, label, h):
        k = x.shape[axis]
        h = h.reshape(k, k)
        p = np.exp(x) / np.exp(x).sum(axis, keepdims=True)
        rows = np.moveaxis(p, axis, -1).reshape(-1, k)
        total, counted = 0.0, 0
        for row, name in zip(rows, label.ravel(), strict=True):
            if ignore is not None and int(name) == ignore:
                continue
            total -= sum(h[int(name), j] * np.log(max(row[j], 1e-20)) for j in range(k))
            counted += 1
        batch = int(np.prod(x.shape[:axis]))
        divisor = {"VALID": counted, "FULL": len(rows), "BATCH_SIZE": batch, "NONE": 1}[mode]
        return [total / max(divisor, 1)] + [p] * softmax

    return loss


def far(rng, shape):
    return rng.choice([-60.0, 0.0, 2.0], shape)


def gain(fields="", loss=""):
    return f'type: "InfogainLoss" infogain_loss_param {{ {fields} }} loss_param {{ {loss} }}'


THREE = [(5, 3), (5,), (1, 1, 3, 3)]
IMAGE = [(2, 3, 5, 7), (2, 1, 5, 7), (3, 3)]
FEED = {1: labels(3)}
ROWS = [
    Row("third bottom", gain(), THREE, [()], infogain(), feed=FEED),
    Row("softmax as a second top", gain(), THREE, [(), (5, 3)], infogain(softmax=True), feed=FEED),
    Row("positions", gain(), IMAGE, [()], infogain(), feed=FEED),
    Row("batch", gain("", "normalization: BATCH_SIZE"), IMAGE, [()], infogain(mode="BATCH_SIZE"), feed=FEED),
    Row("last axis", gain("axis: -1"), [(2, 5, 3), (10,), (9,)], [()], infogain(2), feed=FEED),
    Row(
        "last axis, batch",
        gain("axis: 2", "normalization: BATCH_SIZE"),
        [(2, 5, 3), (2, 5), (9,)],
        [()],
        infogain(2, "BATCH_SIZE"),
        feed=FEED,
    ),
    Row("ignored", gain("", "ignore_label: 2"), IMAGE, [()], infogain(ignore=2), feed=FEED),
    Row(
        "ignored, full",
        gain("", "ignore_label: 3 normalization: FULL"),
        IMAGE,
        [()],
        infogain(ignore=3, mode="FULL"),
        feed={1: labels(4)},
    ),
    Row("none", gain("", "normalization: NONE"), THREE, [()], infogain(mode="NONE"), feed=FEED),
    Row("held at 1e-20", gain(), THREE, [()], infogain(), feed={0: far, **FEED}, gradient=False),
]
BAD = [
    Bad("no matrix", 'type: "InfogainLoss"', THREE[:2], "the matrix is missing"),
    Bad("matrix", gain(), [(5, 3), (5,), (3, 4)], "does not fit the classes"),
    Bad("labels", gain(), [(5, 3), (5, 2), (3, 3)], "the number of labels"),
    Bad("normalize", gain("", "normalize: true"), THREE, "normalize is not for", at="normalize"),
    Bad("axis", gain("axis: 2"), THREE, "axis is out of range", at="axis"),
    Bad("no name", gain(r'source: "a\000b"'), THREE[:2], "cannot be read", at="source"),
    Bad("a device", gain('source: "/dev/zero"'), THREE[:2], "not a regular file", at="source"),
    Bad("no file", gain('source: "/no/such.binaryproto"'), THREE[:2], "cannot be read", at="source"),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)
H = np.array([[1, 0.5, -2], [0, 3, 0.25], [0.125, 1, 1]])


def blobproto(**fields):
    return schema.BlobProto(**fields).SerializeToString()


@pytest.mark.parametrize("name", ["data", "double_data"])
def test_the_matrix_comes_from_a_file(tmp_path, name):
    path = tmp_path / "h.binaryproto"
    path.write_bytes(blobproto(num=1, channels=1, height=3, width=3, **{name: H.ravel()}))
    msg = netcompiler.parse(prototxt(gain(f'source: "{path}"'), THREE[:2], 1))
    net = netcompiler.compile(msg, optimize=False, device="cpu", dtype="float64")
    path.unlink()  # it was read when the net was built
    rng = np.random.default_rng(1)
    x, label = rng.standard_normal((5, 3)), labels(3)(rng, (5,))
    assert net(x, label)["t0"].item() == pytest.approx(infogain()(x, label, H)[0])
    assert net.graph.nodes[-1].layer.settings() == {"source": str(path)}


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", "no square matrix"),
        (blobproto(data=[1, 2, 3]), "no square matrix"),
        (blobproto(data=[1] * 4), "does not fit the classes"),
        (b"\xff\xff not a message", "cannot be read"),
    ],
)
def test_wrong_files(tmp_path, content, error):
    path = tmp_path / "h.binaryproto"
    path.write_bytes(content)
    with pytest.raises(NetError, match=error) as caught:
        netcompiler.build(netcompiler.parse(prototxt(gain(f'source: "{path}"'), THREE[:2], 1)))
    span = caught.value.at
    assert span.excerpt[span.column - 1 :].startswith("source")


def test_the_gradient_goes_on_below_1e_20():
    net = netcompiler.compile(netcompiler.parse(prototxt(gain(), THREE, 1)), optimize=False, device="cpu")
    x = torch.tensor([[0, -60, 1.0]] * 5, requires_grad=True)
    label = torch.tensor([0, 1, 2, 1, 0])
    net(x, label, torch.from_numpy(H))["t0"].backward()
    p = np.exp([0, -60, 1.0]) / np.exp([0, -60, 1.0]).sum()
    want = [(p * H[int(n)].sum() - H[int(n)]) / 5 for n in label]
    np.testing.assert_allclose(x.grad, want, atol=1e-6)
