"""Receptive fields against what a net really reads: the gradient of one pixel, through the compiled net."""

import numpy as np
import pytest
import torch

import netcompiler
from netcompiler import stats, zoo


def data(height, width, channels=2):
    shape = f"dim: 1 dim: {channels} dim: {height} dim: {width}"
    return f'layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ {shape} }} }} }}\n'


def layer(kind, bottoms, top, settings=""):
    named = "".join(f' bottom: "{b}"' for b in bottoms.split())
    return f'layer {{ name: "{top}/{kind}" type: "{kind}"{named} top: "{top}" {settings} }}\n'


def conv(bottom, top, settings, kind="Convolution"):
    return layer(kind, bottom, top, f"convolution_param {{ num_output: 2 bias_term: false {settings} }}")


def deconv(bottom, top, settings):
    return conv(bottom, top, settings, "Deconvolution")


def pool(bottom, top, settings):
    return layer("Pooling", bottom, top, f"pooling_param {{ pool: AVE {settings} }}")


def residual(bottom, name, stride):
    """A bottleneck with a projection, as ResNet's first of a stage."""
    return (
        conv(bottom, f"{name}_1", f"kernel_size: 1 stride: {stride}")
        + conv(bottom, f"{name}_2a", f"kernel_size: 1 stride: {stride}")
        + layer("BatchNorm", f"{name}_2a", f"{name}_2a")
        + layer("ReLU", f"{name}_2a", f"{name}_2a")
        + conv(f"{name}_2a", f"{name}_2b", "kernel_size: 3 pad: 1")
        + layer("Eltwise", f"{name}_1 {name}_2b", name)
    )


def inception(bottom, name):
    """Four branches of unlike windows, as GoogLeNet's."""
    return (
        conv(bottom, f"{name}_1", "kernel_size: 1")
        + conv(bottom, f"{name}_3r", "kernel_size: 1")
        + conv(f"{name}_3r", f"{name}_3", "kernel_size: 3 pad: 1")
        + conv(bottom, f"{name}_5", "kernel_size: 5 pad: 2")
        + pool(bottom, f"{name}_p", "kernel_size: 3 stride: 1 pad: 1")
        + conv(f"{name}_p", f"{name}_pp", "kernel_size: 1")
        + layer("Concat", f"{name}_1 {name}_3 {name}_5 {name}_pp", name)
    )


SQUEEZE = (
    pool("c", "g", "global_pooling: true")
    + layer("Flatten", "g", "f")
    + layer("InnerProduct", "f", "i", "inner_product_param { num_output: 2 }")
    + layer("Scale", "c i", "y", "scale_param { axis: 0 }")
)
SKIP = (
    conv("data", "a", "kernel_size: 3 stride: 2 pad: 1")
    + conv("a", "b", "kernel_size: 3 stride: 2")
    + deconv("b", "up", "kernel_size: 4 stride: 2 pad: 1")
    + layer("Crop", "a up", "cut", "crop_param { offset: 1 }")
    + layer("Eltwise", "cut up", "sum")
    + deconv("sum", "y", "kernel_size: 5 stride: 3 pad: 1")
)
LRN = layer("LRN", "c", "y", "lrn_param { local_size: 3 norm_region: WITHIN_CHANNEL alpha: 0.1 }")

NETS = {  # name: layers over `data`, which make `y`; and what the field of `y` is: size, stride, centre
    "1 x 1": (conv("data", "y", "kernel_size: 1"), (1, 1), (1, 1), (0, 0)),
    "3 x 3": (conv("data", "y", "kernel_size: 3 pad: 1"), (3, 3), (1, 1), (0, 0)),
    "unlike axes": (
        conv("data", "y", "kernel_h: 5 kernel_w: 2 stride_h: 1 stride_w: 3 pad_h: 0 pad_w: 1"),
        (5, 2),
        (1, 3),
        (2, -0.5),
    ),
    "dilated": (conv("data", "y", "kernel_size: 3 dilation: 3 stride: 2 pad: 3"), (7, 7), (2, 2), (0, 0)),
    "grouped": (conv("data", "y", "kernel_size: 3 group: 2"), (3, 3), (1, 1), (1, 1)),
    "gaps": (
        conv("data", "a", "kernel_size: 1 stride: 3") + conv("a", "y", "kernel_size: 2"),
        (4, 4),
        (3, 3),
        (1.5, 1.5),
    ),
    "three": (
        conv("data", "a", "kernel_size: 5 stride: 2 pad: 2")
        + pool("a", "b", "kernel_size: 3 stride: 2")
        + conv("b", "y", "kernel_size: 3 dilation: 2 pad: 2"),
        (5 + 2 * 2 + 4 * 4,) * 2,
        (4, 4),
        (2, 2),
    ),
    "last window cut": (pool("data", "y", "kernel_size: 4 stride: 3 pad: 1"), (4, 4), (3, 3), (0.5, 0.5)),
    "bilinear": (deconv("data", "y", "kernel_size: 4 stride: 2 pad: 1"), (2, 2), (0.5, 0.5), (-0.25, -0.25)),
    "uneven deconvolution": (deconv("data", "y", "kernel_size: 3 stride: 2"), (2, 2), (0.5, 0.5), (-0.5, -0.5)),
    "deconvolution with holes": (
        deconv("data", "y", "kernel_size: 2 stride: 3"),
        (1, 1),
        (1 / 3, 1 / 3),
        (-1 / 6, -1 / 6),
    ),
    "dilated deconvolution": (
        deconv("data", "y", "kernel_size: 3 stride: 2 dilation: 2 pad: 1"),
        (3, 3),
        (0.5, 0.5),
        (-0.5, -0.5),
    ),
    "down and up": (
        conv("data", "a", "kernel_size: 3 stride: 2 pad: 1")
        + deconv("a", "b", "kernel_size: 4 stride: 2 pad: 1")
        + conv("b", "y", "kernel_size: 3 pad: 1"),
        (7, 7),
        (1, 1),
        (-0.5, -0.5),
    ),
    "up and down": (
        deconv("data", "a", "kernel_size: 3 stride: 2 pad: 1") + conv("a", "y", "kernel_size: 3 stride: 2 pad: 1"),
        (3, 3),
        (1, 1),
        (0, 0),
    ),
    "residual": (
        conv("data", "a", "kernel_size: 3 pad: 1") + residual("a", "b", 2) + residual("b", "y", 1),
        (3 + 2 * 2 + 2 * 2, 3 + 2 * 2 + 2 * 2),
        (2, 2),
        (0, 0),
    ),
    "inception": (
        conv("data", "a", "kernel_size: 3 stride: 2") + inception("a", "b") + inception("b", "y"),
        (3 + 2 * 4 + 2 * 4,) * 2,
        (2, 2),
        (1, 1),
    ),
    "skip": (SKIP, (15, 15), (2 / 3, 2 / 3), None),
    "within channels": (conv("data", "c", "kernel_size: 2") + LRN, (4, 4), (1, 1), (0.5, 0.5)),
    "im2col": (
        layer("Im2col", "data", "y", "convolution_param { kernel_size: 3 dilation: 2 }"),
        (5, 5),
        (1, 1),
        (2, 2),
    ),
    "slice of rows": (
        conv("data", "a", "kernel_size: 3")
        + 'layer { name: "s" type: "Slice" bottom: "a" top: "no" top: "y" slice_param { axis: 2 slice_point: 4 } }',
        (3, 3),
        (1, 1),
        (5, 1),
    ),
    "softmax of rows": (layer("Softmax", "data", "y", "softmax_param { axis: 2 }"), (31, 1), (None, 1), (15, 0)),
    "mean and variance": (layer("MVN", "data", "y"), (31, 37), (None, None), (15, 18)),
    "squeeze": (conv("data", "c", "kernel_size: 3 stride: 2") + SQUEEZE, (31, 37), (None, None), (15, 18)),
    "flat": (layer("Flatten", "data", "y"), (31, 37), (None, None), (15, 18)),
    "sum of columns": (layer("Reduction", "data", "y", "reduction_param { axis: 3 }"), (1, 37), (1, None), (0, 18)),
    "split and scale": (
        'layer { name: "s" type: "Split" bottom: "data" top: "a" top: "b" }'
        + conv("a", "c", "kernel_size: 3 pad: 1")
        + layer("Scale", "b", "d", "scale_param { bias_term: true }")
        + layer("Eltwise", "c d", "y", "eltwise_param { operation: PROD }"),
        (3, 3),
        (1, 1),
        (0, 0),
    ),
}


def positive(graph, rng):
    """Blobs by which nothing cancels out and nothing dies: positive ones, and statistics that change nothing."""
    still, blobs = {"mean": 0.0, "variance": 1.0, "scale_factor": 1.0}, {}
    for node in graph.nodes:
        specs = node.layer.blobs(node.bottom_shapes)
        if specs:
            blobs[node.name] = [
                np.full(s.shape, still[k]) if k in still else rng.uniform(0.5, 1.5, s.shape) for k, s in specs.items()
            ]
    return blobs


def probe(graph, blob, pixels):
    """For each pixel of a blob, the first and last row and column of `data` that it has a gradient for; None: none."""
    rng = np.random.default_rng(7)
    net = netcompiler.compile(
        graph, positive(graph, rng), outputs=[blob], optimize=False, device="cpu", dtype="float64"
    )
    (value,) = [v for v in graph.inputs() if v.blob == "data"]
    x = torch.from_numpy(rng.uniform(0.5, 1.5, value.shape)).requires_grad_()
    y = net(data=x)[blob]
    found = {}
    for pixel in pixels:
        part = y[(slice(None), slice(None), *pixel)]
        weights = torch.from_numpy(rng.uniform(0.5, 1.5, tuple(part.shape)))
        (grad,) = torch.autograd.grad((part * weights).sum(), x, retain_graph=True)
        touched = grad.abs().amax((0, 1)) > 0
        rows, columns = (touched.any(k).nonzero().flatten().tolist() for k in (1, 0))
        found[pixel] = ((rows[0], rows[-1]), (columns[0], columns[-1])) if rows else None
    return found


def predicted(windows, pixel):
    """The extents that `windows` tell of one pixel; an axis that the blob does not have is at 0."""
    at = (*pixel, 0, 0)
    return tuple(w.at(at[k]) for k, w in enumerate(windows))


def compare(graph, blob, pixels):
    """Inside the image the two agree; near its border the windows also tell of padding. Returns how many agreed."""
    value = graph.last(blob)
    ((source, windows),) = stats.reaches(graph)[value].items()
    inside = 0
    for pixel, read in probe(graph, blob, pixels).items():
        told = predicted(windows, pixel)
        if any(a > b for a, b in told):
            assert read is None, pixel
            continue
        if all(a >= 0 and b < size for (a, b), size in zip(told, source.shape[2:])) and central(pixel, value.shape[2:]):
            assert read == told, pixel
            inside += 1
        elif read is not None:
            assert all(a <= first and last <= b for (first, last), (a, b) in zip(read, told)), pixel
    return inside


def central(pixel, sizes):
    """Whether no padding comes in between: for the nets here, in the middle half of a blob."""
    return all(size // 4 <= i < max(size - size // 4, 1) for i, size in zip(pixel, sizes))


@pytest.mark.parametrize("name", NETS)
def test_probe(name):
    text, size, stride, centre = NETS[name]
    graph = netcompiler.build(netcompiler.parse(data(31, 37) + text))
    value = graph.last("y")
    pixels = list(np.ndindex(*value.shape[2:]))
    pixels = pixels[:: len(pixels) // 61 + 1]
    assert compare(graph, "y", pixels) > 0
    field = stats.fields(graph)[value]
    assert (field.input, field.size) == ("data", size)
    assert field.stride == pytest.approx(stride)
    if centre is not None:
        assert field.centre == pytest.approx(centre)


def test_an_image_in_the_place_of_a_label():
    """Interp's second bottom is for its size only; of one bottom, it is the image."""
    text = layer("Interp", "data", "a", "interp_param { zoom_factor: 2 }") + conv("a", "y", "kernel_size: 1")
    graph = netcompiler.build(netcompiler.parse(data(31, 37) + text))
    field = stats.fields(graph)[graph.last("y")]
    assert field.input == "data" and field.size is not None and max(field.size) < 31


PUBLISHED = {50: 483, 101: 1027, 152: 1507}  # Araujo, Norris & Sim 2019, "Computing receptive fields", table of nets


@pytest.mark.parametrize("depth", PUBLISHED)
def test_published(depth):
    graph = netcompiler.build(zoo.resnet.deploy(depth))
    field = stats.fields(graph)[graph.last("res5c")]
    assert (field.size, field.stride) == ((PUBLISHED[depth],) * 2, (32, 32))


def test_resnet():
    """The zoo's own net, its largest pooling taken as a mean: the gradient of a maximum is that of one pixel."""
    msg = zoo.resnet.deploy(50)
    for m in msg.layer:
        if m.type == "Pooling":
            m.pooling_param.pool = 1
    graph = netcompiler.build(msg, inputs={"data": (1, 3, 224, 224)})
    found = stats.fields(graph)
    for blob, size, stride in (("conv1", 7, 2), ("res2c", 35, 4), ("res3a", 51, 8), ("res4a", 131, 16)):
        value = graph.last(blob)
        assert (found[value].size, found[value].stride) == ((size,) * 2, (stride,) * 2)
        middle = value.shape[2] // 2
        assert compare(graph.wanted([value]), blob, [(middle, middle)]) == 1
