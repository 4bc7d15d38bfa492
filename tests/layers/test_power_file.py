import numpy as np
import pytest

import netcompiler
from netcompiler import NetError

from .table import Row, prototxt, suite

ROWS = [Row("no file", 'type: "PowerFile"', [(2, 3, 4)], [(2, 3, 4)], lambda x: x)]
test_row, test_gradient, _ = suite(ROWS)


def net(path, folder):
    text = prototxt(f'type: "PowerFile" power_file_param {{ shift_file: "{path}" }}', [(2, 3, 2)], 1)
    (folder / "net.prototxt").write_text(text)
    return netcompiler.compile(netcompiler.load(folder / "net.prototxt"), optimize=False, device="cpu")


@pytest.mark.parametrize("numbers", ["1 2 3\n4 5 6", "1 2 3\n4", "1 2 3 4 5 6 7 8"])
def test_shifts(tmp_path, numbers):
    (tmp_path / "shift.txt").write_text(numbers)
    x = np.random.default_rng(0).standard_normal((2, 3, 2)).astype(np.float32)
    shift = ([float(n) for n in numbers.split()] + [0] * 6)[:6]
    for path in (tmp_path / "shift.txt", "shift.txt"):
        np.testing.assert_allclose(net(path, tmp_path)(x)["t0"], x + np.reshape(shift, (3, 2)), rtol=1e-6)


@pytest.mark.parametrize(("numbers", "error"), [("1 two", "cannot be read"), (None, "no such file")])
def test_a_file_that_is_wrong(tmp_path, numbers, error):
    if numbers is not None:
        (tmp_path / "shift.txt").write_text(numbers)
    with pytest.raises(NetError, match=error):
        net("shift.txt", tmp_path)(np.zeros((2, 3, 2), np.float32))
