"""Every case that real Caffe, or the fork that has the layer, computed, forward and backward, layer by layer."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import netcompiler

HERE = Path(__file__).parent / "golden"
CASES = sorted(
    p.relative_to(HERE).with_suffix("").as_posix() for room in ("layers", "forks") for p in HERE.glob(f"{room}/*/*.npz")
)
TOLERANCE = 1e-4  # of the blob's largest value


def close(got, want, what):
    want = np.asarray(want)
    got = np.asarray(got).reshape(want.shape)
    scale = float(np.abs(want).max(initial=0)) or 1.0
    np.testing.assert_allclose(got, want, rtol=0, atol=TOLERANCE * scale, err_msg=what)


@pytest.mark.parametrize("case", CASES)
def test_layer(case, tmp_path):
    golden = np.load(HERE / f"{case}.npz")
    meta = json.loads(str(golden["meta"]))
    (tmp_path / "w.caffemodel").write_bytes(golden["caffemodel"].tobytes())
    net_parameter = netcompiler.parse(str(golden["prototxt"]))
    blobs = [n.removeprefix("out.") for n in golden.files if n.startswith("out.")]
    inner = [n.removeprefix("dblob.") for n in golden.files if n.startswith("dblob.")]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", netcompiler.NetWarning)
        net = netcompiler.compile(
            net_parameter,
            netcompiler.read_weights(tmp_path / "w.caffemodel"),
            phase=meta["phase"],
            outputs=list(dict.fromkeys((*blobs, *inner))) or None,
            optimize=False,
            device="cpu",
            dialect=meta.get("fork"),
        )
    if not blobs:  # a net of sinks: there is nothing to compare but that it runs
        net(**{n.removeprefix("in."): golden[n] for n in golden.files if n.startswith("in.")})
        return
    feeds = {n.removeprefix("in."): torch.from_numpy(golden[n]) for n in golden.files if n.startswith("in.")}
    used = {v.blob for v in net.graph.inputs()}
    feeds = {name: x.requires_grad_(f"din.{name}" in golden.files) for name, x in feeds.items() if name in used}
    outputs = net(**feeds)
    for blob in inner:
        outputs[blob].retain_grad()
    for blob in blobs:
        if blob in meta.get("skip", ()):
            continue
        close(outputs[blob].detach().float(), golden[f"out.{blob}"], f"blob {blob}")
    for name in golden.files:
        if name.startswith("w_after."):
            _, layer, index = name.split(".")
            close(net.caffe_params()[layer][int(index)], golden[name], name)
    if meta["nobackward"]:
        return
    starts = [n.removeprefix("topdiff.") for n in golden.files if n.startswith("topdiff.")]
    total = sum((outputs[b] * torch.from_numpy(golden[f"topdiff.{b}"])).sum() for b in starts)
    if meta["loss"]:
        total = total + net.loss(outputs)
    total.backward()
    for name, x in feeds.items():
        if x.requires_grad:
            close(x.grad, golden[f"din.{name}"], f"gradient of input {name}")
    for blob in inner:
        close(outputs[blob].grad, golden[f"dblob.{blob}"], f"gradient of blob {blob}")
    grads = net.caffe_grads()
    for name in golden.files:
        if name.startswith("dw."):
            _, layer, index = name.split(".")
            close(grads[layer][int(index)], golden[name], name)
