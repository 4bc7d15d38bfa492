import numpy as np
import pytest

import netcompiler
from netcompiler.layers.data_augmentation import EFFECTS, EIGEN, NAMES, USUAL

from .table import Bad, Row, prototxt, suite

VECTORS = np.array([[0.51, 0.56, 0.65], [0.79, 0.01, -0.62], [0.35, -0.83, 0.44]])
CROP = "crop_height: 4 crop_width: 5"
EIGVEC = " ".join(f"chromatic_eigvec: {v}" for v in VECTORS.ravel())
X, C = (2, 3, 8, 9), (2, 42, 1, 1)


def augmentation(fields="", kind="DataAugmentation"):
    return f'type: "{kind}" augmentation_param {{ {fields} }}'


def coefficients(*items):
    """An array of coefficients, by name, for each item."""
    rows = [[np.log(c.get(n, 1.0)) if USUAL[n] else c.get(n, 0.0) for n in NAMES] for c in items]
    return np.array(rows)[:, :, None, None]


def of(row):
    """The coefficients by name; what is nearly usual counts as usual."""
    plain = {n: np.exp(v) if USUAL[n] else v for n, v in zip(NAMES, row.ravel(), strict=True)}
    return {n: USUAL[n] if abs(v - USUAL[n]) < 1e-3 else v for n, v in plain.items()}


def place(c, x, y, crop, size):
    """Where pixel x, y of a crop is in its picture: step by step."""
    (h, w), (high, wide) = crop, size
    x, y = (w / 2 - x if c["mirror"] else x - w / 2), y - h / 2
    x, y = x * np.cos(c["angle"]) - y * np.sin(c["angle"]), x * np.sin(c["angle"]) + y * np.cos(c["angle"])
    x, y = (x + c["dx"] * w) / c["zoom_x"], (y + c["dy"] * h) / c["zoom_y"]
    return x + wide / 2, y + high / 2


def moved(x, rows, crop):
    n, c, high, wide = x.shape
    top = np.zeros((n, c, *crop))
    for i, row in enumerate(rows):
        for h, w in np.ndindex(*crop):
            a, b = place(of(row), w, h, crop, (high, wide))
            a, b = np.clip(a, 0, wide - 1.05), np.clip(b, 0, high - 1.05)
            left, up = int(a), int(b)
            for j in (0, 1):
                for k in (0, 1):
                    share = (1 - abs(a - left - j)) * (1 - abs(b - up - k))
                    top[i, :, h, w] += share * x[i, :, up + k, left + j]
    return top


def recoloured(x, y, rows, most):
    """The crops y of pictures x, pixel by pixel."""
    y = y.copy()
    kinds = [
        names
        for names in (EIGEN, NAMES[6:12], EFFECTS)
        if any(abs(of(r)[n] - USUAL[n]) > 1e-3 for r in rows for n in names)
    ]
    pixels = x.transpose(0, 2, 3, 1).reshape(-1, 3)
    mean, largest = pixels.mean(0), abs(pixels @ VECTORS.T).max(0)
    length = np.sqrt((largest**2).sum())
    for i, h, w in np.ndindex(y.shape[0], *y.shape[2:]):
        c, rgb = of(rows[i]), y[i, :, h, w]
        if EIGEN in kinds:
            e = VECTORS @ (rgb - mean) / largest
            for k in range(3):
                e[k] = np.copysign(abs(e[k]) ** c[f"pow_nomean{k}"], e[k])
                e[k] = (e[k] + c[f"add_nomean{k}"]) * c[f"mult_nomean{k}"]
            e += VECTORS @ mean / largest
            e[0] = (np.copysign(abs(e[0]) ** c["pow_withmean0"], e[0]) + c["add_withmean0"]) * c["mult_withmean0"]
            strong = np.hypot(e[1], e[2])
            wanted = max(strong ** c["pow_withmean1"] + c["add_withmean1"], 0) * c["mult_withmean1"]
            turn = np.array(
                [[np.cos(c["col_angle"]), -np.sin(c["col_angle"])], [np.sin(c["col_angle"]), np.cos(c["col_angle"])]]
            )
            e[1:] = turn @ e[1:]
            e *= largest
            light = np.sqrt((e**2).sum()) / length
            e[1:] *= wanted / strong
            light = max(light ** c["lmult_pow"] + c["lmult_add"], 0) * c["lmult_mult"] * length
            e = np.minimum(e / np.sqrt((e**2).sum()) * light, largest)
            rgb = np.clip(VECTORS.T @ e, 0, most)
        if NAMES[6:12] in kinds:
            changed = rgb * [c["color1"], c["color2"], c["color3"]]
            changed = np.clip(changed * rgb.sum() / (changed.sum() + 0.01), 0, 1) ** c["gamma"] + c["brightness"]
            rgb = np.clip(0.5 + (changed - 0.5) * c["contrast"], 0, most)
        if EFFECTS in kinds:
            side = (w - y.shape[3] // 2) * np.cos(c["shadow_angle"]) + (h - y.shape[2] // 2) * np.sin(c["shadow_angle"])
            rgb = np.clip(rgb - c["shadow_strength"] * (side > c["shadow_distance"]), 0, most)
        y[i, :, h, w] = rgb
    return y


def all_of_it(most=1.0):
    return lambda x, rows, **blobs: recoloured(x, moved(x, rows, (4, 5)), rows, most)


SPACE = coefficients({"angle": 0.4, "dx": 0.1, "dy": -0.05, "zoom_x": 1.3, "zoom_y": 0.9}, {"mirror": 1, "angle": -2})
LIGHT = coefficients({"gamma": 0.7, "contrast": 1.2, "color1": 0.8}, {"brightness": 0.1, "color3": 1.4, "mirror": 1})
SHADE = coefficients({"shadow_angle": 1, "shadow_strength": 0.3}, {"shadow_distance": -1, "shadow_strength": 0.2})
rng = np.random.default_rng(4)
SPREAD = [{n: np.exp(rng.normal(0, 0.1)) if USUAL[n] else rng.normal(0, 0.05) for n in EIGEN} for _ in range(2)]
FOG = coefficients({"fog_amount": 1, "fog_size": 2}, {"motion_blur_size": 3})


def unit(rng, shape):
    return rng.random(shape)


def row(name, given, fields=""):
    layer = augmentation(f"{CROP} max_multiplier: 1 {fields}")
    tops, one = [(2, 3, 4, 5)], {"iterations": (1, 1, 1, 1)}
    return Row(name, layer, [X, C], tops, all_of_it(), one, feed={0: unit, 1: lambda rng, s: given}, gradient=False)


def middle(x, **blobs):
    return moved(x, coefficients({}, {}), (4, 5))


MEANS = {"iterations": (1, 1, 1, 1), "mean": (1, 3, 4, 5), "channel_mean": (1, 3, 1, 1)}
ROWS = [
    row("places", SPACE),
    row("colours", LIGHT),
    row("shadows", SHADE),
    row("vectors", coefficients(*SPREAD), EIGVEC),
    row("vectors and places", coefficients({**SPREAD[0], "angle": 1}, {"mirror": 1}), EIGVEC),
    row("fog is nothing", FOG),
    Row("middle", augmentation(CROP), [X], [(2, 3, 4, 5)], middle, {"iterations": (1, 1, 1, 1)}, gradient=False),
    Row(
        "a mean that the net tells",
        augmentation("mean: 1 mean: 2 mean: 3 mean_per_pixel: false"),
        [X],
        [X],
        lambda x, **blobs: x - np.array([1, 2, 3])[:, None, None],
        {"iterations": (1, 1, 1, 1)},
        gradient=False,
    ),
    Row(
        "a mean of the channels",
        augmentation(f"{CROP} recompute_mean: 1 mean_per_pixel: false"),
        [X],
        [(2, 3, 4, 5)],
        lambda x, channel_mean, **blobs: middle(x) - channel_mean,
        MEANS,
        gradient=False,
    ),
    Row(
        "a mean of the pixels",
        augmentation(f"{CROP} recompute_mean: 1"),
        [X],
        [(2, 3, 4, 5)],
        lambda x, mean, **blobs: middle(x) - mean,
        MEANS,
        gradient=False,
    ),
]
GENERATE, FLOW = "GenerateAugmentationParameters", "FlowAugmentation"
BAD = [
    Bad("large", augmentation("crop_height: 9 crop_width: 9"), [X], "the crop is larger than the picture"),
    Bad("empty", augmentation("crop_height: 0 crop_width: 9"), [X], "the crop is empty", at="crop_height"),
    Bad("coefficients", augmentation(CROP), [X, (2, 41, 1, 1)], "bottom 1 has the wrong shape"),
    Bad("vectors", augmentation("chromatic_eigvec: 1"), [X], "wrong number of values", at="chromatic_eigvec"),
    Bad("kind", augmentation('zoom { rand_type: "cauchy" }'), [X], "unknown rand_type", at="rand_type"),
    Bad(
        "half life", augmentation() + " coeff_schedule_param { half_life: 0 }", [X], "half_life must be", at="half_life"
    ),
    Bad("two", augmentation(CROP, GENERATE), [C, X], "there are one or three bottoms", at="bottom"),
    Bad("mode", augmentation('mode: "sub"', GENERATE), [C], "unknown mode", at="mode"),
    Bad("sizes", augmentation("augment_during_test: true zoom { }", GENERATE), [C], "are not told"),
    Bad("flow", augmentation(CROP, FLOW), [X, C, C], "a flow has two channels"),
    Bad("no crop", augmentation("", FLOW), [(2, 2, 8, 9), C, C], "crop_height is missing"),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)


def compiled(layer, shapes, tops=1, phase="TEST"):
    text = prototxt(layer, shapes, tops)
    return netcompiler.compile(netcompiler.parse(text), phase=phase, optimize=False, device="cpu", dtype="float64")


def test_the_mean_is_made_in_the_first_forwards():
    net = compiled(augmentation(f"{CROP} recompute_mean: 2"), [X])
    net.load_caffe_params({"it": [np.zeros(s) for s in MEANS.values()]})
    batches = np.random.default_rng(1).random((3, *X))
    for i, x in enumerate(batches, 1):
        found = net(x)["t0"].numpy()
        mean = np.mean([middle(b).mean(0) for b in batches[: min(i, 2)]], axis=0)
        np.testing.assert_allclose(found, middle(x) - mean)
        held = net.caffe_params()["it"]
        assert float(held[0].ravel()[0]) == i
        np.testing.assert_allclose(held[2].ravel(), mean.mean((1, 2)))


def test_a_mean_of_another_size():
    net = compiled(augmentation(f"{CROP} recompute_mean: 1 mean_per_pixel: false"), [X])
    channels = np.array([1.0, 2, 3]).reshape(1, 3, 1, 1)
    net.load_caffe_params({"it": [np.full((1, 1, 1, 1), 9.0), np.ones((1, 3, 7, 7)), channels]})
    x = np.random.default_rng(1).random(X)
    np.testing.assert_allclose(net(x)["t0"], middle(x) - channels)


RANDOM = """rotate { mean: 0.2 spread: 0.3 } zoom { rand_type: "uniform" exp: true mean: 0.6 spread: 0.1 }
    mirror { rand_type: "bernoulli" prob: 0.5 } translate { rand_type: "gaussian_bernoulli" spread: 0.02 prob: 0.5 }
    gamma { exp: true spread: 0.2 } color { exp: true rand_type: "gaussian" spread: 0.1 } squeeze { exp: true spread: 0.1 }
    lmult_pow { exp: true spread: 0.2 } sat_mult { exp: true mean: 0.1 } shadow_strength { mean: 0.2 }"""


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
def test_drawn_coefficients(phase):
    net = compiled(augmentation(f"{CROP} {RANDOM} {EIGVEC} max_multiplier: 1"), [X], 2, phase)
    plain = compiled(augmentation(f"{CROP} {EIGVEC} max_multiplier: 1"), [X, C])
    x, seen = np.random.default_rng(1).random(X), []
    for _ in range(20):
        top, rows = (t.numpy() for t in net(x).values())
        np.testing.assert_allclose(plain(x, rows)["t0"], top, atol=1e-12)
        seen += [of(r) for r in rows]
    if phase == "TEST":
        assert all(np.isclose(c[n], USUAL[n]) for c in seen for n in NAMES)
        return
    assert {c["mirror"] for c in seen} == {0, 1}
    assert all(-0.1 <= c["angle"] <= 0.5 for c in seen) and len({c["angle"] for c in seen}) == 40
    assert all(np.exp(0.5) <= np.sqrt(c["zoom_x"] * c["zoom_y"]) <= np.exp(0.7) for c in seen)
    assert 5 < sum(c["dx"] == 0 for c in seen) < 35
    assert all(np.isclose(c["mult_withmean1"], np.exp(0.1)) and np.isclose(c["shadow_strength"], 0.2) for c in seen)
    for c in seen:
        for x_, y_ in ((0, 0), (4, 0), (0, 3), (4, 3)):
            a, b = place(c, x_, y_, (4, 5), (8, 9))
            assert 0 <= a < 8 and 0 <= b < 7


def test_the_spread_grows_with_time():
    schedule = "coeff_schedule_param { half_life: 2 initial_coeff: 0 final_coeff: 1 }"
    fields = 'gamma { rand_type: "gaussian" spread: 1 exp: true }'
    net = compiled(
        f"{augmentation(f'{CROP} augment_during_test: true {fields}', GENERATE)} {schedule}", [(99, 1, 8, 9)]
    )
    spreads = []
    for _ in range(3):
        rows = net(np.zeros((99, 1, 8, 9)))["t0"].numpy()[:, :, 0, 0]
        spreads.append(rows[:, NAMES.index("gamma")].std())
    want = [2 / (1 + np.exp(-1.0986 * n / 2)) - 1 for n in (1, 2, 3)]
    np.testing.assert_allclose(spreads, want, rtol=0.3)
    assert spreads[0] < spreads[1] < spreads[2]


@pytest.mark.parametrize("mode", ["add", "replace", "regenerate"])
def test_modes(mode):
    fields = f'mode: "{mode}" augment_during_test: true rotate {{ mean: 0.1 }} contrast {{ exp: true mean: 0.2 }}'
    net = compiled(augmentation(fields, GENERATE), [C, (2, 3, 20, 20), (2, 3, 4, 5)])
    given = coefficients({"angle": 0.3, "dx": 0.1, "contrast": 1.5, "gamma": 2}, {})
    rows = net(given, np.zeros((2, 3, 20, 20)), np.zeros((2, 3, 4, 5)))["t0"].numpy()
    found = of(rows[0])
    want = {
        "add": {"angle": 0.4, "dx": 0.1, "contrast": 1.5 * np.exp(0.2), "gamma": 2},
        "replace": {"angle": 0.1, "dx": 0, "contrast": np.exp(0.2), "gamma": 2},
        "regenerate": {"angle": 0.1, "dx": 0, "contrast": np.exp(0.2), "gamma": 1},
    }[mode]
    assert all(np.isclose(found[n], v) for n, v in want.items())


def test_flow():
    net = compiled(augmentation(CROP, FLOW), [(2, 2, 8, 9), C, C])
    flow = np.random.default_rng(2).uniform(-1, 1, (2, 2, 8, 9))
    a, b = coefficients({"dx": 0.2, "zoom_x": 1.1}, {"mirror": 1}), SPACE
    found = net(flow, a, b)["t0"].numpy()
    for i, h, w in np.ndindex(2, 4, 5):
        x, y = place(of(a[i]), w, h, (4, 5), (8, 9))
        column, line = min(max(int(x + 0.5), 0), 8), min(max(int(y + 0.5), 0), 7)
        there = np.array([x, y]) + flow[i, :, line, column]
        back = np.array([w, h]) + found[i, :, h, w]
        np.testing.assert_allclose(place(of(b[i]), *back, (4, 5), (8, 9)), there)
