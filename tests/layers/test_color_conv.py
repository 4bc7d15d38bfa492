import numpy as np

from .table import Bad, Row, suite


def conv(start, end):
    return f'type: "ColorConv" color_conv_param {{ input: {start} output: {end} }}'


def linear(v):
    return v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4


def gamma(v):
    return 12.92 * v if v <= 0.0031308 else 1.055 * v ** (1 / 2.4) - 0.055


MATRIX = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
WHITE = np.array([0.95074, 1.0, 1.08883])


def xyz_of(rgb):
    return MATRIX @ [linear(v / 255) for v in rgb]


def rgb_of(xyz):
    return np.array([255 * gamma(v) for v in np.linalg.inv(MATRIX) @ xyz])


def lab_of(xyz):
    f = [v ** (1 / 3) if v > 0.008867 else (903.3 * v + 16) / 116 for v in xyz / WHITE]
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def xyz_of_lab(lab):
    y = (lab[0] + 16) / 116
    f = [y + lab[1] / 500, y, y - lab[2] / 200]
    return np.array([v**3 if v > 0.206896 else (116 * v - 16) / 903.3 for v in f]) * WHITE


def each(change, swap=""):
    def want(x):
        out = []
        for item in x:
            pixels = item.reshape(len(item), -1).T
            made = [np.atleast_1d(change(p[::-1] if "i" in swap else p)) for p in pixels]
            out.append(np.stack([p[::-1] if "o" in swap else p for p in made], 1).reshape(-1, *item.shape[1:]))
        return np.stack(out)

    return want


def between(low, high):
    return lambda rng, shape: rng.uniform(low, high, shape)


X, GRAY = (2, 3, 4, 5), (2, 1, 4, 5)
RGB, XYZ = between(0, 255), between(0, 0.9)


def lab(rng, shape):
    return rng.uniform(np.array([5, -40, -40])[:, None, None], np.array([95, 40, 40])[:, None, None], shape)


def row(name, start, end, want, feed, bottom=X, top=X):
    return Row(name, conv(start, end), [bottom], [top], want, feed={0: feed}, gradient=False, tolerance=1e-4)


ROWS = [
    row("same", "RGB", "RGB", lambda x: x, RGB),
    row("swap", "BGR", "RGB", lambda x: x[:, ::-1], RGB),
    row("RGB to XYZ", "RGB", "XYZ", each(xyz_of), RGB),
    row("XYZ to RGB", "XYZ", "RGB", each(rgb_of), lambda rng, s: each(xyz_of)(rng.uniform(0, 255, s))),
    row("BGR to Lab", "BGR", "Lab", each(lambda p: lab_of(xyz_of(p)), "i"), RGB),
    row(
        "Lab to BGR",
        "Lab",
        "BGR",
        each(lambda p: rgb_of(xyz_of_lab(p)), "o"),
        lambda rng, s: each(lambda p: lab_of(xyz_of(p)))(rng.uniform(0, 255, s)),
    ),
    row("XYZ to Lab", "XYZ", "Lab", each(lab_of), XYZ),
    row("Lab to XYZ", "Lab", "XYZ", each(xyz_of_lab), lab),
    row("BGR to gray", "BGR", "Gray", each(lambda p: MATRIX[1] @ p, "i"), RGB, top=GRAY),
    row("gray to RGB", "Gray", "RGB", lambda x: np.repeat(x, 3, 1), RGB, bottom=GRAY),
]
BAD = [
    Bad("no way", conv("Lab", "Gray"), [X], "there is no way from Lab to Gray", at="output"),
    Bad("channels", conv("BGR", "Lab"), [GRAY], "BGR pictures have 3 channels"),
    Bad("axes", conv("BGR", "Lab"), [(2, 3)], "bottom 0 has the wrong number of axes"),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)
