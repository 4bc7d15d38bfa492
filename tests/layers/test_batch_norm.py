import numpy as np
import pytest
import torch

import netcompiler

from .table import Bad, Row, prototxt, suite

IMAGE = [(2, 3, 5, 7)]
BLOBS = {"mean": (3,), "variance": (3,), "scale_factor": (1,)}
LEARNED = BLOBS | {"weight": (3,), "bias": (3,)}
SCALED = BLOBS | {"weight": (3,)}


def stored(eps=1e-5):
    def norm(x, mean, variance, scale_factor):
        y = np.empty_like(x)
        for c in range(x.shape[1]):
            y[:, c] = (x[:, c] - mean[c] / scale_factor[0]) / np.sqrt(variance[c] / scale_factor[0] + eps)
        return y

    return norm


def batch(eps=1e-5):
    def norm(x, **blobs):
        y = np.empty_like(x)
        for c in range(x.shape[1]):
            centred = x[:, c] - x[:, c].mean()
            y[:, c] = centred / np.sqrt((centred**2).mean() + eps)
        return y

    return norm


def scaled(rule):
    """What the forks' own weight and bias make of it."""

    def norm(x, weight, bias=None, **blobs):
        y = rule(x, **blobs)
        for c in range(x.shape[1]):
            y[:, c] = y[:, c] * weight[c] + (0 if bias is None else bias[c])
        return y

    return norm


def by_parts(size, eps=1e-5):
    """Each `size` items of the batch with statistics of their own."""

    def norm(x, **blobs):
        return np.concatenate([batch(eps)(x[i : i + size]) for i in range(0, len(x), size)])

    return norm


def norm(fields: str = "") -> str:
    return f'type: "BatchNorm" batch_norm_param {{ {fields} }}'


ROWS = [
    Row("TEST", norm(), IMAGE, IMAGE, stored(), BLOBS, 210),
    Row("TEST, eps", norm("eps: 0.5"), IMAGE, IMAGE, stored(0.5), BLOBS, 210),
    Row("TEST by the batch", norm("use_global_stats: false"), IMAGE, IMAGE, batch(), BLOBS, 210),
    Row("TRAIN", norm(), IMAGE, IMAGE, batch(), BLOBS, 210, phase="TRAIN"),
    Row("TRAIN, eps", norm("eps: 0.5"), IMAGE, IMAGE, batch(0.5), BLOBS, 210, phase="TRAIN"),
    Row("TRAIN, stored", norm("use_global_stats: true"), IMAGE, IMAGE, stored(), BLOBS, 210, phase="TRAIN"),
    Row("two axes", norm(), [(5, 3)], [(5, 3)], batch(), BLOBS, 15, phase="TRAIN"),
    Row("one value for each channel", norm(), [(1, 3)], [(1, 3)], lambda x, **b: 0 * x, BLOBS, 3, phase="TRAIN"),
    Row("no scale", norm("scale_bias: false"), IMAGE, IMAGE, stored(), BLOBS, 210),
    Row("engine", norm("engine: CUDNN"), IMAGE, IMAGE, stored(), BLOBS, 210),
    Row("NVCaffe", norm("scale_bias: true"), IMAGE, IMAGE, scaled(stored()), LEARNED, 210),
    Row("NVCaffe, TRAIN", norm("scale_bias: true"), IMAGE, IMAGE, scaled(batch()), LEARNED, 210, phase="TRAIN"),
    Row("NVCaffe, fillers", norm("scale_filler {}"), IMAGE, IMAGE, scaled(stored()), LEARNED, 210),
    Row("NVCaffe, bias filler", norm("bias_filler {}"), IMAGE, IMAGE, scaled(stored()), LEARNED, 210),
    Row("NVCaffe, eps", norm("scale_bias: true eps: 0.5"), IMAGE, IMAGE, scaled(stored(0.5)), LEARNED, 210),
    Row(
        "NVCaffe, the phase decides",
        norm("scale_bias: true use_global_stats: false"),
        IMAGE,
        IMAGE,
        scaled(stored()),
        LEARNED,
        210,
    ),
    Row(
        "NVCaffe, the phase decides in TRAIN",
        norm("scale_bias: false use_global_stats: true"),
        IMAGE,
        IMAGE,
        batch(),
        BLOBS,
        210,
        phase="TRAIN",
    ),
    Row(
        "NVCaffe, its own multipliers",
        "param { lr_mult: 1 } param { lr_mult: 2 } param {} param { lr_mult: 0 }" + norm("scale_bias: true"),
        [(2, 3)],
        [(2, 3)],
        scaled(stored()),
        LEARNED,
        6,
    ),
    Row(
        "NVCaffe, one value for each channel",
        norm("scale_bias: true"),
        [(1, 3, 1, 1)],
        [(1, 3, 1, 1)],
        lambda x, bias, **b: 0 * x + bias[:, None, None],
        LEARNED,
        3,
        phase="TRAIN",
    ),
    Row("Intel", norm("use_weight_bias: true"), IMAGE, IMAGE, scaled(stored()), LEARNED, 210),
    Row("Intel, TRAIN", norm("bias_term: true"), IMAGE, IMAGE, scaled(batch()), LEARNED, 210, phase="TRAIN"),
    Row("Intel, no bias", norm("bias_term: false"), IMAGE, IMAGE, scaled(stored()), SCALED, 210),
    Row("Intel, no weight", norm("use_weight_bias: false filler { value: 2 }"), IMAGE, IMAGE, stored(), BLOBS, 210),
    Row(
        "Intel, global in TRAIN",
        norm("use_weight_bias: true use_global_stats: true"),
        IMAGE,
        IMAGE,
        scaled(stored()),
        LEARNED,
        210,
        phase="TRAIN",
    ),
    Row(
        "Intel, filler of the Scale behind",
        norm("filler { value: 1 } bias_filler {}"),
        IMAGE,
        IMAGE,
        stored(),
        BLOBS,
        210,
    ),
    Row("Intel, ReLU", norm("relu: true"), IMAGE, IMAGE, lambda x, **b: np.maximum(stored()(x, **b), 0), BLOBS, 210),
    Row("parts", norm("stats_batch_size: 2"), [(6, 3, 2)], [(6, 3, 2)], by_parts(2), BLOBS, 36, phase="TRAIN"),
    Row(
        "parts with weight and bias",
        norm("stats_batch_size: 3 use_weight_bias: true"),
        [(6, 3, 2, 1)],
        [(6, 3, 2, 1)],
        scaled(by_parts(3)),
        LEARNED,
        36,
        phase="TRAIN",
    ),
    Row("one part", norm("stats_batch_size: 2"), [(2, 3)], [(2, 3)], batch(), BLOBS, 6, phase="TRAIN"),
    Row("no parts of stored statistics", norm("stats_batch_size: 4"), IMAGE, IMAGE, stored(), BLOBS, 210),
]
BAD = [
    Bad("one axis", norm(), [(5,)], "bottom 0 has too few axes"),
    Bad("learned statistics", "param { lr_mult: 1 }" + norm(), IMAGE, "statistics are not learned", at="lr_mult"),
    Bad(
        "Intel's learned statistics",
        "param {} param {}" + norm("use_weight_bias: true"),
        IMAGE,
        "statistics are not learned",
    ),
    Bad("eps", norm("eps: -1"), IMAGE, "eps is negative", at="eps"),
    Bad("no channels", norm(), [(2, 0, 5, 7)], "the bottom is empty"),
    Bad("two forks", norm("scale_bias: true use_weight_bias: true"), IMAGE, "Intel Caffe's", at="use_weight_bias"),
    Bad("two forks' fillers", norm("scale_filler {} filler {}"), IMAGE, "scale_filler is NVCaffe's", at="filler {}"),
    Bad("filler of nothing", norm("filler { value: 0 }"), IMAGE, "filler is of a weight that", at="filler"),
    Bad(
        "filler of no bias",
        norm("filler { value: 1 } bias_filler { value: 1 }"),
        IMAGE,
        "bias_filler is of a bias that",
        at="bias_filler",
    ),
    Bad("filler", norm('scale_filler { type: "xaver" }'), IMAGE, 'did you mean "xavier"?', at="type"),
    Bad(
        "parts that do not fit",
        norm("stats_batch_size: 3 use_global_stats: false"),
        IMAGE,
        "stats_batch_size must divide the batch",
        at="stats_batch_size",
    ),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)

NET = 'layer {{ name: "x" type: "Input" top: "x" }} layer {{ name: "n" bottom: "x" top: "y" {} }}'


def compiled(layer: str, shape: tuple[int, ...], phase: str) -> netcompiler.CompiledNet:
    net = netcompiler.parse(NET.format(layer))
    return netcompiler.compile(net, inputs={"x": shape}, phase=phase, optimize=False, device="cpu", dtype="float64")


@pytest.mark.parametrize("shape", [(2, 3, 5, 7), (1, 3)])
def test_train_moves_the_stored_statistics(shape):
    """They are raw running sums: divided by scale_factor they are an average that forgets."""
    net = compiled(norm("moving_average_fraction: 0.75"), shape, "TRAIN")
    rng = np.random.default_rng(1)
    mean, variance, scale_factor = np.zeros(3), np.zeros(3), 0.0
    for _ in range(3):
        x = rng.standard_normal(shape)
        net(x)
        values = x.swapaxes(0, 1).reshape(3, -1)
        m = values.shape[1]
        mean = 0.75 * mean + values.mean(1)
        variance = 0.75 * variance + values.var(1) * (m / (m - 1) if m > 1 else 1)
        scale_factor = 0.75 * scale_factor + 1
    got = net.caffe_params()["n"]
    np.testing.assert_allclose(got[0], mean)
    np.testing.assert_allclose(got[1], variance)
    np.testing.assert_allclose(got[2], [scale_factor])


def test_test_leaves_the_statistics_alone():
    net = compiled(norm(), (2, 3, 5), "TEST")
    before = [np.array([1.0, 2, 3]), np.array([3.0, 4, 5]), np.array([2.0])]
    net.load_caffe_params({"n": before})
    net(np.ones((2, 3, 5)))
    for a, b in zip(before, net.caffe_params()["n"], strict=True):
        np.testing.assert_array_equal(a, b)


def test_scale_factor_0_means_no_statistics():
    net = compiled(norm("eps: 0.25"), (2, 3, 5), "TEST")
    net.load_caffe_params({"n": [np.array([1.0, 2, 3]), np.array([3.0, 4, 5]), np.array([0.0])]})
    x = np.random.default_rng(2).standard_normal((2, 3, 5))
    np.testing.assert_allclose(net(x)["y"].numpy(), x / 0.5)


def test_statistics_are_buffers():
    net = compiled(norm(), (2, 3, 5), "TRAIN")
    assert list(net.parameters()) == []
    y = net(torch.ones(2, 3, 5, dtype=torch.float64, requires_grad=True))["y"]
    y.sum().backward()
    assert all(blob.max() == 0 for blob in net.caffe_grads()["n"])


def test_bfloat16_statistics_are_exact():
    """A mean of 1000 and a deviation of 1 leave nothing when bfloat16 divides them by the scale factor."""
    net = netcompiler.parse(NET.format(norm()))
    net = netcompiler.compile(net, inputs={"x": (1, 1)}, optimize=False, device="cpu", dtype="bfloat16")
    net.load_caffe_params({"n": [np.array([1000.0]), np.array([3.0]), np.array([3.0])]})
    y = net(np.array([[334.0]]))["y"]
    assert y.dtype == torch.bfloat16
    assert abs(float(y) - 2 / 3) < 0.01


# --- forks ---


def statistics(x):
    """Mean and variance by m - 1 of each channel."""
    values = x.swapaxes(0, 1).reshape(x.shape[1], -1)
    return values.mean(1), values.var(1, ddof=1)


def test_nvcaffe_stores_averages():
    """The first forward stores the batch's own statistics; the scale factor stays 1."""
    net = compiled(norm("scale_bias: true moving_average_fraction: 0.75"), (2, 3, 5), "TRAIN")
    rng = np.random.default_rng(1)
    mean = variance = None
    for _ in range(3):
        x = rng.standard_normal((2, 3, 5))
        net(x)
        m, v = statistics(x)
        mean = m if mean is None else 0.75 * mean + 0.25 * m
        variance = v if variance is None else 0.75 * variance + 0.25 * v
    got = net.caffe_params()["n"]
    np.testing.assert_allclose(got[0], mean)
    np.testing.assert_allclose(got[1], variance)
    assert got[2] == [1]


def test_nvcaffe_without_scale_stores_averages_too():
    net = compiled(norm("scale_bias: false"), (2, 3, 5), "TRAIN")
    x = np.random.default_rng(1).standard_normal((2, 3, 5))
    net(x)
    got = net.caffe_params()["n"]
    assert len(got) == 3 and got[2] == [1]
    np.testing.assert_allclose(got[0], statistics(x)[0])


def test_nvcaffe_goes_on_in_sums():
    """Statistics of BVLC's, which are sums, stay sums of the same number of batches."""
    net = compiled(norm("scale_bias: true moving_average_fraction: 0.75"), (2, 3, 5), "TRAIN")
    mean, variance = np.array([2.0, 4, 6]), np.array([4.0, 6, 8])
    net.load_caffe_params({"n": [mean, variance, np.array([2.0]), np.ones(3), np.zeros(3)]})
    x = np.random.default_rng(1).standard_normal((2, 3, 5))
    net(x)
    got = net.caffe_params()["n"]
    np.testing.assert_allclose(got[0] / 2, 0.75 * mean / 2 + 0.25 * statistics(x)[0])
    np.testing.assert_allclose(got[1] / 2, 0.75 * variance / 2 + 0.25 * statistics(x)[1])
    assert got[2] == [2]


def test_nvcaffe_does_not_look_at_a_scale_factor_of_0():
    net = compiled(norm("scale_bias: true"), (2, 3, 5), "TEST")
    arrays = [np.array([1.0, 2, 3]), np.array([3.0, 4, 5]), np.zeros(1), np.ones(3), np.zeros(3)]
    net.load_caffe_params({"n": arrays})
    x = np.random.default_rng(2).standard_normal((2, 3, 5))
    want = stored()(x, arrays[0], arrays[1], [1])
    np.testing.assert_allclose(net(x)["y"].detach().numpy(), want)


def test_nvcaffes_smallest_eps():
    net = compiled(norm("scale_bias: true eps: 1e-10"), (2, 3, 5), "TEST")
    np.testing.assert_allclose(net(np.ones((2, 3, 5)))["y"].detach().numpy(), 1e-5**-0.5, rtol=1e-6)


STARTS = [
    ("BVLC", "", [0, 0, 0]),
    ("NVCaffe", "scale_bias: true", [0, 0, 1, 1, 0]),
    ("NVCaffe, fillers", "scale_filler { value: 3 } bias_filler { value: 2 }", [0, 0, 1, 3, 2]),
    ("NVCaffe, an empty filler", "scale_filler {}", [0, 0, 1, 0, 0]),
    ("Intel", "use_weight_bias: true", [0, 0, 0, 1, 0]),
    ("Intel, fillers", "use_weight_bias: true filler { value: 3 } bias_filler { value: 2 }", [0, 0, 0, 3, 2]),
]


@pytest.mark.parametrize(("fields", "values"), [s[1:] for s in STARTS], ids=[s[0] for s in STARTS])
def test_blobs_start_as(fields, values):
    got = compiled(norm(fields), (2, 3, 5), "TEST").caffe_params()["n"]
    assert [set(a.tolist()) for a in got] == [{v} for v in values]


@pytest.mark.parametrize("fields", ["scale_bias: true", "use_weight_bias: true"])
def test_weight_and_bias_learn_and_statistics_do_not(fields):
    net = compiled(norm(fields), (2, 3, 5), "TRAIN")
    assert len(list(net.parameters())) == 2
    x = torch.arange(30.0, dtype=torch.float64).reshape(2, 3, 5).requires_grad_()
    y = net(x)["y"]
    (y * y.detach()).sum().backward()
    grads = net.caffe_grads()["n"]
    assert not any(g.any() for g in grads[:3]) and grads[3].all()
    np.testing.assert_allclose(grads[3], 10, rtol=1e-4)  # the sum of squares of ten normed values


def test_nvcaffes_multipliers_take_the_place_of_the_nets():
    params = "param { lr_mult: 3 decay_mult: 3 } param {} param {} param { lr_mult: 0 decay_mult: 0 }"
    net = netcompiler.parse(NET.format(params + norm("scale_bias: true")))
    node = netcompiler.build(net, inputs={"x": (2, 3)}).nodes[-1]
    assert [(p.lr_mult, p.decay_mult) for p in node.params] == [(0, 0)] * 3 + [(1, 1)] * 2


def test_parts_are_stored_one_after_the_other():
    net = compiled(norm("stats_batch_size: 2 moving_average_fraction: 0.75"), (6, 3, 5), "TRAIN")
    whole = compiled(norm("moving_average_fraction: 0.75"), (2, 3, 5), "TRAIN")
    for seed in (1, 2):
        x = np.random.default_rng(seed).standard_normal((6, 3, 5))
        net(x)
        for part in x.reshape(3, 2, 3, 5):
            whole(part)
    for a, b in zip(net.caffe_params()["n"], whole.caffe_params()["n"], strict=True):
        np.testing.assert_allclose(a, b)


def test_a_net_gives_the_parts_of_all_its_layers():
    text = "bn_stats_batch_size: 2 " + NET.format(norm("stats_batch_size: 3"))
    graph = netcompiler.build(netcompiler.parse(text), "TRAIN", inputs={"x": (4, 3)})
    assert graph.nodes[-1].layer.stats_batch_size == 2
    with pytest.raises(netcompiler.NetError, match="stats_batch_size must divide the batch"):
        netcompiler.build(netcompiler.parse(text), "TRAIN", inputs={"x": (5, 3)})
    assert netcompiler.build(netcompiler.parse(text), inputs={"x": (5, 3)}).nodes[-1].layer.stats_batch_size == 0


@pytest.mark.parametrize("phase", ["TEST", "TRAIN"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("fields", ["scale_bias: true", "use_weight_bias: true stats_batch_size: 2 relu: true"])
def test_forks_in_other_types(fields, dtype, phase):
    net = netcompiler.parse(NET.format(norm(fields)))
    net = netcompiler.compile(net, inputs={"x": (4, 3, 5, 2)}, phase=phase, optimize=False, device="cpu", dtype=dtype)
    y = net(np.random.default_rng(1).standard_normal((4, 3, 5, 2)))["y"]
    assert y.dtype == getattr(torch, dtype) and bool(y.isfinite().all())


def test_forks_export():
    net = compiled(norm("scale_bias: true"), (2, 3, 5), "TRAIN").float()
    x = torch.randn(2, 3, 5)
    program = torch.export.export(net, (x,), strict=False).module()
    torch.testing.assert_close(program(x)["y"], net(x)["y"])


# --- the forks' weight files ---

MEAN, VARIANCE, WEIGHT, BIAS = (np.array(v, np.float32) for v in ([1, 2, 3], [4, 5, 6], [7, 8, 9], [10, 11, 12]))
ONE, SUMS, NOTHING = (np.array([v], np.float32) for v in (1, 2, 0))


def wide(*arrays):
    """As 1 x C x 1 x 1, as early releases held them."""
    return [a.reshape(1, -1, 1, 1) for a in arrays]


NV, INTEL = "scale_bias: true", "use_weight_bias: true"
FILES = [
    ("NVCaffe's", NV, [MEAN, VARIANCE, ONE, WEIGHT, BIAS], 1),
    ("Intel's", INTEL, [MEAN, VARIANCE, SUMS, WEIGHT, BIAS], 2),
    ("Intel's for NVCaffe", NV, [MEAN, VARIANCE, SUMS, WEIGHT, BIAS], 2),
    ("NVCaffe 0.15", NV, wide(WEIGHT, BIAS, MEAN, VARIANCE, NOTHING), 1),
    ("NVCaffe 0.15 for Intel", INTEL, wide(WEIGHT, BIAS, MEAN, VARIANCE, NOTHING), 1),
    ("NVCaffe, loaded from 0.15", NV, wide(MEAN, VARIANCE, ONE, WEIGHT, BIAS), 1),
    ("early Intel", INTEL, [WEIGHT, BIAS, MEAN, VARIANCE, SUMS], 2),
]


@pytest.mark.parametrize(("fields", "arrays", "factor"), [f[1:] for f in FILES], ids=[f[0] for f in FILES])
def test_files_of_forks(fields, arrays, factor):
    net = netcompiler.parse(NET.format(norm(fields)))
    net = netcompiler.compile(net, {"n": arrays}, inputs={"x": (2, 3, 5)}, optimize=False, device="cpu")
    x = np.random.default_rng(3).standard_normal((2, 3, 5)).astype(np.float32)
    want = scaled(stored())(x, WEIGHT, BIAS, mean=MEAN, variance=VARIANCE, scale_factor=[factor])
    np.testing.assert_allclose(net(x)["y"].detach().numpy(), want, rtol=1e-5, atol=1e-5)


MISFITS = [
    ("BVLC's for NVCaffe", NV, [MEAN, VARIANCE, ONE], "leave out scale_bias and its fillers, and write a Scale layer"),
    ("BVLC's for Intel", INTEL, [MEAN, VARIANCE, ONE], "leave out use_weight_bias, bias_term and filler"),
    (
        "a fork's for BVLC",
        "",
        [MEAN, VARIANCE, ONE, WEIGHT, BIAS],
        "scale_bias: true (NVCaffe) or use_weight_bias: true",
    ),
    (
        "no bias",
        "",
        [MEAN, VARIANCE, ONE, WEIGHT],
        "use_weight_bias: true and bias_term: false (Intel Caffe) takes them",
    ),
    ("another number", NV, [MEAN, VARIANCE], "give it another name"),
    ("unknown order", NV, wide(WEIGHT, BIAS, NOTHING, MEAN, VARIANCE), "does not tell the order of its blobs"),
    ("another shape", NV, [MEAN, VARIANCE, ONE, WEIGHT, BIAS[:2]], "another shape for bias"),
]


@pytest.mark.parametrize(("fields", "arrays", "message"), [m[1:] for m in MISFITS], ids=[m[0] for m in MISFITS])
def test_files_that_do_not_fit(fields, arrays, message):
    net = netcompiler.parse(NET.format(norm(fields)), file="net.prototxt")
    with pytest.raises(netcompiler.NetError) as caught:
        netcompiler.compile(net, {"n": arrays}, inputs={"x": (2, 3, 5)}, device="cpu")
    told = str(caught.value)
    assert message in told and 'net.prototxt:1:44: layer "n" (BatchNorm)' in told, told
    with pytest.warns(netcompiler.NetWarning, match="skipped"):
        netcompiler.compile(net, {"n": arrays}, inputs={"x": (2, 3, 5)}, device="cpu", weights_policy="skip")


def test_five_blobs_come_back_from_a_file(tmp_path):
    from netcompiler.binary import read_caffemodel, write_caffemodel

    msg = netcompiler.parse(NET.format(norm(NV)))
    write_caffemodel(tmp_path / "w.caffemodel", msg, {"n": [MEAN, VARIANCE, ONE, WEIGHT, BIAS]})
    blobs = read_caffemodel(tmp_path / "w.caffemodel")
    netcompiler.compile(msg, tmp_path / "w.caffemodel", inputs={"x": (2, 3)}, device="cpu")
    assert [a.tolist() for a in blobs["n"]] == [a.tolist() for a in (MEAN, VARIANCE, ONE, WEIGHT, BIAS)]


def test_deeplabs_update_global_stats():
    for phase, value, refused in (("TEST", "true", False), ("TRAIN", "false", False), ("TRAIN", "true", True)):
        msg = netcompiler.parse(prototxt(norm(f"update_global_stats: {value}"), [(2, 3)], 1))
        if refused:
            with pytest.raises(netcompiler.NetError, match="update_global_stats"):
                netcompiler.build(msg, phase)
        else:
            netcompiler.build(msg, phase)
