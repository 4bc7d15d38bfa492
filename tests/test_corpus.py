"""Other people's nets and trained weights, from the folder NETCOMPILER_CORPUS; what real Caffe made of them is beside."""

import csv
import os
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import netcompiler
from netcompiler.kernels import memory
from netcompiler.module import rewriting_error

from . import recipe
from .test_nets import sampled

FOLDER = os.environ.get("NETCOMPILER_CORPUS", "")
CORPUS = Path(FOLDER)
pytestmark = pytest.mark.skipif(not FOLDER, reason="NETCOMPILER_CORPUS is not set")
if FOLDER:
    memory.keep()  # net after net: asking the system for the same pages again is a third of the time
TOLERANCE = 1e-3  # of the blob's largest value


def rows(name):
    with open(CORPUS / name, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


RUN = [r["path"] for r in rows("INDEX.tsv") if r["caffe"] == "runs"] if FOLDER else []
WEIGHTS = sorted(p.stem for p in (CORPUS / "goldens" / "weights").glob("*.npz")) if FOLDER else []


def golden_of(path):
    family, file = Path(path).parts[1:]
    return np.load(CORPUS / "goldens" / "nets" / f"{family}@{file}.npz", allow_pickle=False)


def random_blobs(graph, blobs):
    """Blobs that depend on a layer which the weight file leaves to a random filler: Caffe's draw is not ours."""
    tainted = set()
    for node in graph.nodes:
        specs = node.layer.blobs(node.bottom_shapes).values()
        drawn = node.name not in blobs and any(s.filler.type != "constant" for s in specs)
        if drawn or tainted.intersection(node.bottoms):
            tainted.update(node.tops)
    return {v.blob for v in tainted}


def compare(graph, blobs, feeds, golden):
    """Every blob that Caffe kept, against ours."""
    ours = set(graph.blobs())
    names = [str(n) for n in golden["blobs"]]
    split = [n for n in names if n not in ours]
    assert all("_split_" in n for n in split), f"blobs that we do not have: {split}"
    names = [n for n in names if n in ours - random_blobs(graph, blobs)]
    assert len(names) > 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", netcompiler.NetWarning)
        net = netcompiler.compile(graph, blobs, outputs=names, optimize=False, device="cpu")
    feeds = {k: v for k, v in feeds.items() if k in {v.blob for v in net.graph.inputs()}}
    with torch.inference_mode():
        outputs = net(**feeds)
    places = {str(n): i for i, n in enumerate(golden["blobs"])}
    for name in names:
        got, i = outputs[name].float().numpy(), places[name]
        want = golden["at"][i]
        largest = golden["stat"][i][2]
        error = np.abs(sampled(got, len(want)) - want).max(initial=0)
        assert error <= TOLERANCE * max(largest, 1e-6), f"{name}: {error / max(largest, 1e-6):.2g} of its largest value"


@pytest.mark.parametrize("path", RUN, ids=[r.removeprefix("nets/").removesuffix(".prototxt") for r in RUN])
def test_net(path):
    graph = netcompiler.build(netcompiler.load(CORPUS / path))
    feeds = {v.blob: recipe.image_batch(v.shape, 42 + k) for k, v in enumerate(graph.inputs())}
    compare(graph, recipe.weights(graph), feeds, golden_of(path))


@pytest.mark.parametrize("case", WEIGHTS, ids=WEIGHTS)
def test_trained_net(case):
    folder, prototxt, weights = case.split("@")
    home = CORPUS / "weights" / folder
    golden = np.load(CORPUS / "goldens" / "weights" / f"{case}.npz", allow_pickle=False)
    graph = netcompiler.build(netcompiler.load(home / prototxt))
    scale = np.float32(golden["in_scale"])
    feeds = {v.blob: recipe.image_batch(v.shape, 42 + k) * scale for k, v in enumerate(graph.inputs())}
    compare(graph, netcompiler.read_weights(home / weights), feeds, golden)
    optimised_alike(graph, netcompiler.read_weights(home / weights), feeds)


def optimised_alike(graph, blobs, feeds):
    """The optimised net's outputs against the plain one's, as shares of their largest values."""
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore", netcompiler.NetWarning)
        net = netcompiler.compile(graph, blobs, device="cpu")
        fed = {k: v for k, v in feeds.items() if k in {v.blob for v in net.graph.inputs()}}
        assert max(rewriting_error(net, fed).values()) <= 1e-4


FAMILIES = {r.split("/")[1]: r for r in RUN}  # one net of each


@pytest.mark.parametrize("path", FAMILIES.values(), ids=FAMILIES)
def test_optimised_net(path):
    graph = netcompiler.build(netcompiler.load(CORPUS / path))
    feeds = {v.blob: recipe.image_batch(v.shape, 42 + k) for k, v in enumerate(graph.inputs())}
    # Faint pictures: on full ones stand-in weights give a softmax logits of hundreds, whose rounding shows beyond the bound.
    feeds = {k: (x > 0).astype(np.float32) if k == "clip_markers" else x / 16 for k, x in feeds.items()}
    optimised_alike(graph, recipe.weights(graph), feeds)
