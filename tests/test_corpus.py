"""Other people's nets and trained weights, from the folder NETCOMPILER_CORPUS; what real Caffe made of them is beside."""

import csv
import gc
import os
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import netcompiler
from benchmarks import corpus
from netcompiler.errors import Span
from netcompiler.kernels import memory
from netcompiler.module import rewriting_error

from . import recipe
from .test_nets import sampled

FOLDER = os.environ.get("NETCOMPILER_CORPUS", "")
CORPUS = Path(FOLDER)
pytestmark = pytest.mark.skipif(not FOLDER, reason="NETCOMPILER_CORPUS is not set")
if FOLDER:
    memory.keep(1 << 27)  # net after net: asking the system for the same pages again is a third of the time
TOLERANCE = 1e-3  # of the blob's largest value
MUCH = 1 << 29  # bytes that a worker may hold between two tests


@pytest.fixture(autouse=True)
def _no_more_memory_than_a_test_needs():
    """What is kept for the next net falls to pieces that no large blob fits into, net after net."""
    yield
    if memory.resident() > MUCH:
        gc.collect()
        memory.give_back()


ROWS_IN_NO_ORDER = ("DetectionOutput", "Yolov3DetectionOutput", "YoloDetectionOutput")


def rows(name):
    with open(CORPUS / name, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def distinct(paths):
    """Without those whose text an earlier one has: what is computed is the same."""
    return list({(CORPUS / path).read_bytes(): path for path in reversed(paths)}.values())[::-1]


RUN = distinct([r["path"] for r in rows("INDEX.tsv") if r["caffe"] == "runs"]) if FOLDER else []
FORKS = sorted(p.stem for p in (CORPUS / "goldens" / "forks").glob("*.npz")) if FOLDER else []
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
    rows = {v.blob for n in graph.nodes for v in n.tops if n.layer.kind in ROWS_IN_NO_ORDER}
    needed = replace(graph.reaching(names), outputs=())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", netcompiler.NetWarning)
        net = netcompiler.compile(needed, blobs, optimize=False, device="cpu")
    at, stat, places = golden["at"], golden["stat"], {str(n): i for i, n in enumerate(golden["blobs"])}
    unpooled = any(n.layer.kind == "Upsample" for n in graph.nodes)
    whole = set(names) if unpooled else rows
    outputs = run(net, feeds, names, lambda name, x: x.copy() if name in whole else sampled(x, len(at[places[name]])))
    tied = after_ties(graph, outputs) if unpooled else set()
    for name in names:
        got, i = outputs[name], places[name]
        if name in tied:
            error = np.abs(np.array([got.mean(), got.std()]) - stat[i][:2]).max()
            assert error <= TOLERANCE * stat[i][2], f"{name}: its mean or deviation is off by {error:.2g}"
            continue
        if name in rows and f"full.{name}" in golden.files:
            same_rows(got, golden[f"full.{name}"], name)
            continue
        largest = stat[i][2]
        error = np.abs((sampled(got, len(at[i])) if name in whole else got) - at[i]).max(initial=0)
        assert error <= TOLERANCE * max(largest, 1e-6), f"{name}: {error / max(largest, 1e-6):.2g} of its largest value"


def run(net, feeds, names, keep):
    """What `keep(name, array)` makes of each of these blobs, in its last version.

    The blobs themselves are let go of on the way: all of a net at once may take gigabytes.
    """
    feeds = {k: v for k, v in feeds.items() if k in {v.blob for v in net.graph.inputs()}}
    found = {name: keep(name, x) for name, x in feeds.items() if name in names}

    def hook(node):
        def behind(module, bottoms, tops):
            for value, top in zip(node.tops, tops if isinstance(tops, tuple) else (tops,), strict=True):
                if value.blob in names:
                    found[value.blob] = keep(value.blob, top.float().numpy())

        return behind

    for node, attribute in zip(net.graph.nodes, net.attributes, strict=True):
        net.get_submodule(attribute).register_forward_hook(hook(node))
    with torch.inference_mode():
        net(**feeds)
    return found


def after_ties(graph, outputs):
    """The masks of poolings over windows that have their largest value twice, to a millionth, and the blobs behind them.

    There rounding decides which place goes into the mask, and so where an unpooling puts the value.
    """
    found = set()
    for node in graph.nodes:
        if node.layer.kind == "Pooling" and len(node.tops) == 2:
            x = torch.from_numpy(outputs[node.bottoms[0].blob])
            windows = torch.nn.functional.unfold(x, node.layer.kernel, stride=node.layer.stride)
            windows = windows.view(*x.shape[:2], -1, windows.shape[-1])
            first, second = windows.topk(2, dim=2).values.unbind(2)
            if ((first - second <= 1e-6 * first.abs()) & (first > 0)).any():
                found.add(node.tops[1])
        if found.intersection(node.bottoms):
            found.update(node.tops)
    return {v.blob for v in found}


def test_share_of_files_that_are_read_and_built():
    """19 of 20 at the least, and every refusal says where. `python benchmarks/corpus.py` tells of each."""
    gc.disable()  # which else looks through the messages again and again, a fifth of the time
    verdicts = [corpus.judge(CORPUS, row) for row in corpus.rows(CORPUS)]
    gc.enable()
    for verdict in verdicts:
        if verdict.fault is not None:
            assert isinstance(verdict.fault.at, Span) and verdict.fault.at.file == str(CORPUS / verdict.path)
    nets = [v for v in verdicts if not v.is_snippet]
    assert len(nets) > 1
    assert sum(v.fault is None for v in nets) >= 0.95 * len(nets)
    assert all(v.fault is None or v.caffe_stops for v in verdicts if v.is_snippet)


@pytest.mark.parametrize("path", RUN, ids=[r.removeprefix("nets/").removesuffix(".prototxt") for r in RUN])
def test_net(path):
    graph = netcompiler.build(netcompiler.load(CORPUS / path))
    feeds = {v.blob: recipe.image_batch(v.shape, 42 + k) for k, v in enumerate(graph.inputs())}
    compare(graph, recipe.weights(graph), feeds, golden_of(path))


def same_rows(got, want, name):
    """Rows of detections, which come in no certain order where scores are nearly equal."""
    got, want = (rows.reshape(-1, rows.shape[-1]) for rows in (got, want))
    assert got.shape == want.shape, f"{name}: {len(got)} detections, {len(want)} in Caffe"
    scale = np.abs(want).max(0, initial=1e-6)
    apart = np.abs((got[:, None] - want[None]) / scale).max(2, initial=0)
    assert max(apart.min(0).max(initial=0), apart.min(1).max(initial=0)) <= TOLERANCE, name


@pytest.mark.parametrize("case", FORKS, ids=[c.removesuffix(".prototxt") for c in FORKS])
def test_net_of_a_fork(case):
    golden = np.load(CORPUS / "goldens" / "forks" / f"{case}.npz", allow_pickle=False)
    graph = netcompiler.build(netcompiler.load(CORPUS / "nets" / case.replace("@", "/", 1)))
    scale = np.float32(golden["in_scale"]) if "in_scale" in golden.files else 1
    feeds = {v.blob: recipe.image_batch(v.shape, 42 + k) * scale for k, v in enumerate(graph.inputs())}
    feeds |= {name: golden[f"in.{name}"] for name in feeds if f"in.{name}" in golden.files}
    compare(graph, recipe.weights(graph), feeds, golden)


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


SMALL = 2e9  # multiply-accumulates; larger nets run once, layer by layer, since a program takes long to make


def optimised_alike(graph, blobs, feeds):
    """The optimised net's outputs against the plain one's, as shares of their largest values."""
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore", netcompiler.NetWarning)
        net = netcompiler.compile(graph, blobs, device="cpu")
        fed = {k: v for k, v in feeds.items() if k in {v.blob for v in net.graph.inputs()}}
        work = sum(n.layer.macs(n.bottom_shapes, n.top_shapes) for n in net.graph)
        for _ in range(3 if work < SMALL else 1):  # layer by layer, then as one program
            for module in net.children():
                vars(module).pop("state", None)  # what recurrent layers keep from call to call
            assert max(rewriting_error(net, fed).values()) <= 1e-4


FAMILIES = {r.split("/")[1]: r for r in RUN}  # one net of each


@pytest.mark.parametrize("path", FAMILIES.values(), ids=FAMILIES)
def test_optimised_net(path):
    graph = netcompiler.build(netcompiler.load(CORPUS / path))
    feeds = {v.blob: recipe.image_batch(v.shape, 42 + k) for k, v in enumerate(graph.inputs())}
    # Faint pictures: on full ones stand-in weights give a softmax logits of hundreds, whose rounding shows beyond the bound.
    feeds = {k: (x > 0).astype(np.float32) if k == "clip_markers" else x / 16 for k, x in feeds.items()}
    optimised_alike(graph, recipe.weights(graph), feeds)
