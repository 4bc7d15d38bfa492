"""The examples, and the story of the degradation problem, on what they are for."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import netcompiler
from netcompiler import zoo
from netcompiler.binary import write_caffemodel

ROOT = Path(__file__).parents[1]
CORPUS = os.environ.get("NETCOMPILER_CORPUS")


def script(path):
    """A script as a module."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


mtcnn, detect = script("examples/mtcnn.py"), script("examples/detect.py")
degradation = script("benchmarks/degradation.py")


def run(monkeypatch, capsys, *words, of=detect):
    """What the script prints."""
    monkeypatch.setattr(sys, "argv", [of.__name__, *map(str, words)])
    of.main()
    return capsys.readouterr().out


@pytest.mark.skipif(not CORPUS, reason="NETCOMPILER_CORPUS has the trained nets")
def test_mtcnn_finds_the_astronaut(tmp_path):
    """One face, where it is: her eyes are left and right of (225, 102), her mouth is at (223, 140), to a few pixels."""
    command = [sys.executable, str(ROOT / "examples" / "mtcnn.py"), CORPUS, "-o", str(tmp_path / "found.png")]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    [line] = done.stdout.splitlines()
    words = line.replace(",", " ").split()
    x1, y1, x2, y2 = map(float, words[3:7])
    marks = list(map(float, words[8:]))
    assert float(words[1]) > 0.9
    assert x1 < 200 < 245 < x2 and y1 < 95 < 145 < y2 and x2 - x1 < 120
    eye, other, nose = marks[0:2], marks[2:4], marks[4:6]
    assert abs((eye[0] + other[0]) / 2 - 225) < 8 and abs((eye[1] + other[1]) / 2 - 102) < 8
    assert eye[0] < nose[0] < other[0] and nose[1] > eye[1]
    assert abs((marks[6] + marks[8]) / 2 - 223) < 8 and abs((marks[7] + marks[9]) / 2 - 140) < 8
    assert (tmp_path / "found.png").stat().st_size > 100_000


def test_a_folder_without_the_nets(tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit, match=r"has no det1\.prototxt"):
        run(monkeypatch, capsys, tmp_path, of=mtcnn)


# --- detect.py ---


def tiny_ssd():
    """An SSD for 64 x 64 pixels that calls a red cell of 8 x 8 a person, a quarter of its width to the right of it and
    half as high, and nothing else anything. The net, and its weights.
    """
    net = netcompiler.NetSpec("tiny")
    data = net.Input(name="data", shape={"dim": [1, 3, 64, 64]})
    cells = net.Pooling(data, name="cells", pool="AVE", kernel_size=8, stride=8)
    parts = []
    for name, width in (("loc", 4), ("conf", 21)):
        x = net.Permute(net.Convolution(cells, name=name, num_output=width, kernel_size=1), order=[0, 2, 3, 1])
        parts.append(net.Flatten(x))
    prob = net.Flatten(net.Softmax(net.Reshape(parts[1], shape={"dim": [0, -1, 21]}), axis=2))
    prior = net.PriorBox(cells, data, min_size=8, variance=[0.1, 0.1, 0.2, 0.2])
    settings = {"num_classes": 21, "nms_param": {"nms_threshold": 0.45}, "code_type": "CENTER_SIZE", "keep_top_k": 9}
    net.DetectionOutput(parts[0], prob, prior, name="found", detection_output_param=settings)
    loc, conf = np.zeros((4, 3, 1, 1)), np.zeros((21, 3, 1, 1))
    conf[15, 2] = 0.1  # red is 255 - 123, black -123
    moved = np.array([0.25 / 0.1, 0, 0, np.log(0.5) / 0.2])
    return net.message(), {"loc": [loc, moved], "conf": [conf, np.zeros(21)]}


def tiny_faster_rcnn():
    """A Faster R-CNN that proposes squares of 129 pixels by how red they are, and calls those that are red all over a
    dog, a quarter of their width to the right and half as wide.
    """
    net = netcompiler.NetSpec("tiny")
    data = net.Input(name="data", shape={"dim": [1, 3, 600, 640]})
    info = net.Input(name="im_info", shape={"dim": [1, 3]})
    seen = net.Convolution(data, name="seen", num_output=18, kernel_size=128, stride=16, pad=56)
    deltas = net.Convolution(seen, name="deltas", num_output=36, kernel_size=1)
    prob = net.Softmax(net.Reshape(seen, shape={"dim": [0, 2, -1, 0]}))
    prob = net.Reshape(prob, shape={"dim": [0, 18, -1, 0]})
    settings = {"module": "rpn.proposal_layer", "layer": "ProposalLayer", "param_str": "'feat_stride': 16"}
    rois = net.Python(prob, deltas, info, name="proposal", top="rois", **settings)
    dark = net.Convolution(data, name="dark", num_output=1, kernel_size=1)
    darkest = net.layer("ROIPooling", dark, rois, roi_pooling_param={"pooled_h": 1, "pooled_w": 1, "spatial_scale": 1})
    net.Softmax(net.InnerProduct(darkest, name="cls", num_output=21), name="cls_prob")
    net.InnerProduct(darkest, name="bbox_pred", num_output=84)
    red, dog, box = np.zeros((18, 3, 128, 128)), np.zeros((21, 1)), np.zeros((21, 4))
    red[9 + 3, 2] = 0.02 / 128**2  # the square anchor of 128 pixels, which regions are a pixel larger than
    dog[12] = -0.05
    box[12] = 0.25, 0, np.log(0.5), 0
    weights = {
        "seen": [red, np.zeros(18)],
        "deltas": [np.zeros((36, 18, 1, 1)), np.zeros(36)],
        "dark": [np.array([0.0, 0, -1]).reshape(1, 3, 1, 1), np.zeros(1)],
        "cls": [dog, np.zeros(21)],
        "bbox_pred": [np.zeros((84, 1)), box.ravel()],
    }
    return net.message(), weights


@pytest.mark.parametrize(
    ("make", "size", "square", "told"),
    [  # width and height; the red square; name and box: x1, y1, x2, y2
        (tiny_ssd, (128, 64), (80, 24, 96, 32), ("person", [84, 26, 100, 30])),
        (tiny_faster_rcnn, (640, 600), (104, 136, 233, 265), ("dog", [168.5, 136, 233, 265])),
        (tiny_faster_rcnn, (320, 300), (51, 67, 118, 134), ("dog", [84.5, 68, 117, 133])),
    ],
)
def test_a_red_square_is_found(make, size, square, told, tmp_path, monkeypatch, capsys):
    """Where the weights say, in pixels of the picture, whatever the net's scale; drawn as SVG and as PNG."""
    from PIL import Image

    msg, weights = make()
    model, trained, picture = tmp_path / "net.prototxt", tmp_path / "net.caffemodel", tmp_path / "picture.png"
    model.write_text(str(msg))
    blobs = {name: [a.astype(np.float32) for a in arrays] for name, arrays in weights.items()}
    write_caffemodel(trained, msg, blobs)
    image = Image.new("RGB", size)
    image.paste("red", square)
    image.save(picture)
    for output in ("found.svg", "found.png"):
        [line] = run(monkeypatch, capsys, model, trained, picture, "-o", tmp_path / output).splitlines()
        name, score, _, *box = line.split()
        assert name == told[0] and 0.9 < float(score) <= 1
        assert np.abs(np.array(box, float) - told[1]).max() <= 1
    svg = (tmp_path / "found.svg").read_text()
    x, y, wide, high = (
        float(v) for v in re.search(r'<rect x="(.*?)" y="(.*?)" width="(.*?)" height="(.*?)"', svg).groups()
    )
    assert np.abs(np.array([x, y, x + wide, y + high]) - told[1]).max() < 1.1 and told[0] in svg
    drawn = np.asarray(Image.open(tmp_path / "found.png")) != np.asarray(image)
    rows, columns = np.nonzero(drawn.any(2))
    assert abs(columns.min() - told[1][0]) < 3 and abs(rows.min() - told[1][1]) < 3
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join(f"thing{i}" for i in range(1, 21)))
    assert run(monkeypatch, capsys, model, trained, picture, "--labels", labels).startswith("thing")
    assert run(monkeypatch, capsys, model, trained, picture, "--threshold", "1").startswith("nothing")
    bright = "--mean", 255, 255, 255  # nothing is red before it
    assert run(monkeypatch, capsys, model, trained, picture, *bright).startswith("nothing")
    assert not run(monkeypatch, capsys, model, trained, picture, *bright, "--scale", -1).startswith("nothing")


@pytest.mark.parametrize(("name", "shorter"), [("SSD300", 0), ("Faster-R-CNN-VGG-16", 128)])
def test_published_detectors_run_on_a_picture(name, shorter):
    """Whole nets with stand-in weights: what they find makes no sense, but is well-formed."""
    from skimage.data import astronaut

    rng, weights = np.random.default_rng(0), {}
    for n in netcompiler.build(zoo.find(name).write()):
        blobs = n.layer.blobs(n.bottom_shapes).values()
        shapes = [b.shape for b in blobs]
        if shapes:
            spread = np.float32((1 / np.prod(shapes[0][1:])) ** 0.5)
            weights[n.name] = [rng.standard_normal(s, np.float32) * spread for s in shapes]
    picture = astronaut()[60:460, :, ::-1]
    found, classes = detect.detect(name, weights, picture, 0.06, detect.Input(shorter=shorter))
    assert classes == 21 and len(found) > 20
    assert [d.score for d in found] == sorted((d.score for d in found), reverse=True)
    assert all(0.06 <= d.score <= 1 and 1 <= d.label <= 20 for d in found)
    assert len({d.label for d in found}) > 2
    x1, y1, x2, y2 = np.array([d.box for d in found]).T
    assert (
        min(x1.min(), y1.min()) >= 0 and x2.max() <= 512 and y2.max() <= 400 and (x2 >= x1).all() and (y2 >= y1).all()
    )


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["LeNet", "w.caffemodel"], "this net is no detector"),
        (["SSD301", "w.caffemodel"], "the zoo has no net"),
        (["SSD300", "missing.caffemodel"], "missing.caffemodel"),
        (["SSD300", "w.caffemodel", "missing.jpg"], "missing.jpg"),
        (["SSD300", "w.caffemodel", "--labels", "missing.txt"], "missing.txt"),
        (["SSD300", "w.caffemodel", "-o", "x.txt"], "--output ends in .png"),
        (["SSD300", "w.caffemodel", "--shorter", "0"], "--shorter is at least 1"),
    ],
)
def test_detect_refuses(words, told, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        run(monkeypatch, capsys, *words)
    assert told in f"{caught.value} {capsys.readouterr().err}"


def test_detect_helps(monkeypatch, capsys):
    with pytest.raises(SystemExit) as caught:
        run(monkeypatch, capsys, "--help")
    out = capsys.readouterr().out
    assert caught.value.code == 0 and "SSD300" in out and "--threshold" in out and "astronaut" in out


# --- benchmarks/degradation.py ---


def test_degradation_runs(tmp_path, monkeypatch, capsys):
    """Far too short to show anything; the nets differ as they should, and the curves are drawn."""
    short = {"--steps": 4, "--points": 2, "--width": 2, "--side": 8, "--batch": 8, "-o": tmp_path / "curves.svg"}
    words = [word for pair in short.items() for word in pair]
    out = run(monkeypatch, capsys, *words, "--nets", "plain-20", "ResNet-20", of=degradation)
    assert re.search(r"plain-20 +error +[\d.]+ % in training", out) and re.search(r"ResNet-20 +error", out)
    svg = (tmp_path / "curves.svg").read_text()
    assert all(word in svg for word in ("plain-20", "ResNet-20", "training error", "test error"))
    kinds = [{m.type for m in degradation.net(name, 4, 99).layer} for name in ("plain-56", "ResNet-56", "PreResNet-56")]
    assert ["Eltwise" in found for found in kinds] == [False, True, True]


def test_cifar_is_read_from_its_binary_version(tmp_path, monkeypatch):
    monkeypatch.setattr(degradation, "BATCH", 4)
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (24, 3, 32, 32), np.uint8), rng.integers(0, 10, 24, np.uint8)
    rows = np.concatenate([labels[:, None], images.reshape(24, -1)], 1)
    names = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
    for name, part in zip(names, rows.reshape(6, 4, -1), strict=True):
        (tmp_path / f"{name}.bin").write_bytes(part.tobytes())
    train, test = degradation.cifar(tmp_path)
    mean = images[:20].mean((0, 2, 3))[:, None, None]
    assert np.allclose(train.images, images[:20] - mean, atol=1e-4) and train.labels.tolist() == labels[:20].tolist()
    assert np.allclose(test.images, images[20:] - mean, atol=1e-4) and test.labels.tolist() == labels[20:].tolist()
    (tmp_path / "test_batch.bin").write_bytes(rows[:3].tobytes())
    with pytest.raises(SystemExit, match="expected 4 records"):
        degradation.cifar(tmp_path)


@pytest.mark.parametrize(
    ("name", "told"), [("data_batch_1", "pickles, which could run code"), ("x", "no data_batch_1.bin")]
)
def test_cifar_of_another_version_is_refused(name, told, tmp_path):
    (tmp_path / name).write_bytes(b"cos\nsystem\n")
    with pytest.raises(SystemExit, match=told) as caught:
        degradation.cifar(tmp_path)
    assert "cifar-10-batches-bin" in str(caught.value)
