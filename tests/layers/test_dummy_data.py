import numpy as np
import pytest
import torch

import netcompiler

from .table import Bad, Row, suite


def dummy(fields):
    return f'type: "DummyData" dummy_data_param {{ {fields} }}'


ONE = "shape { dim: 2 dim: 3 dim: 5 }"
OLD = "num: 2 channels: 3 height: 5 width: 7"
ROWS = [
    Row("zeros", dummy(ONE), [], [(2, 3, 5)], lambda: np.zeros((2, 3, 5)), gradient=False),
    Row("a scalar", dummy("shape { } data_filler { value: 2 }"), [], [()], lambda: np.array(2.0), gradient=False),
    Row(
        "one for both",
        dummy(f"{ONE} data_filler {{ value: 1.5 }}"),
        [],
        [(2, 3, 5)] * 2,
        lambda: [np.full((2, 3, 5), 1.5)] * 2,
        gradient=False,
    ),
    Row(
        "one each",
        dummy(f"{ONE} shape {{ dim: 7 }} data_filler {{ value: 1.5 }} data_filler {{ value: -2 }}"),
        [],
        [(2, 3, 5), (7,)],
        lambda: [np.full((2, 3, 5), 1.5), np.full(7, -2.0)],
        gradient=False,
    ),
    Row("older fields", dummy(OLD), [], [(2, 3, 5, 7)], lambda: np.zeros((2, 3, 5, 7)), gradient=False),
    Row(
        "older fields, some twice",
        dummy("num: 2 num: 3 channels: 3 height: 5 height: 1 width: 7"),
        [],
        [(2, 3, 5, 7), (3, 3, 1, 7)],
        lambda: [np.zeros((2, 3, 5, 7)), np.zeros((3, 3, 1, 7))],
        gradient=False,
    ),
]
THREE = f"{ONE} {ONE} {ONE}"
BAD = [
    Bad("no shape", dummy(""), [], "the wrong number of shape"),
    Bad("too many shapes", dummy(THREE), [], "expected: 1 or 2", tops=2, at="shape"),
    Bad("both kinds", dummy(f"{ONE} num: 2"), [], "both given", at="shape"),
    Bad("no width", dummy("num: 2 channels: 3 height: 5"), [], "the wrong number of width"),
    Bad(
        "fillers", dummy(ONE + " data_filler { }" * 3), [], "the wrong number of data_filler", tops=2, at="data_filler"
    ),
    Bad("filler", dummy(f'{ONE} data_filler {{ type: "gausian" }}'), [], '"gaussian"?', at="type"),
    Bad("bilinear", dummy(f'{ONE} data_filler {{ type: "bilinear" }}'), [], "square", at="data_filler"),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)


def compiled(filler, shape=(50, 40), dtype="float32"):
    dims = " ".join(f"dim: {d}" for d in shape)
    text = f'layer {{ name: "d" top: "x" {dummy(f"shape {{ {dims} }} data_filler {{ {filler} }}")} }}'
    return netcompiler.compile(netcompiler.parse(text), device="cpu", dtype=dtype)


def test_a_caller_may_feed_instead_and_in_another_shape():
    text = f'layer {{ name: "d" top: "x" top: "y" {dummy(f"{ONE} data_filler {{ value: 3 }}")} }}'
    net = netcompiler.compile(netcompiler.parse(text), device="cpu", dtype="float64")
    outputs = net(y=torch.ones(7, 3))
    assert torch.equal(outputs["x"], torch.full((2, 3, 5), 3.0, dtype=torch.float64))
    assert torch.equal(outputs["y"], torch.ones(7, 3, dtype=torch.float64))


SPREADS = [  # filler, mean, standard deviation, least, most
    ('type: "uniform" min: -1 max: 3', 1, 4 / np.sqrt(12), -1, 3),
    ('type: "gaussian" mean: 2 std: 0.5', 2, 0.5, -1, 5),
    ('type: "gaussian" std: 1 sparse: 25', 0, np.sqrt(0.5), -6, 6),
    ('type: "xavier"', 0, np.sqrt(1 / 40), -np.sqrt(3 / 40), np.sqrt(3 / 40)),
    ('type: "xavier" variance_norm: FAN_OUT', 0, np.sqrt(1 / 50), -np.sqrt(3 / 50), np.sqrt(3 / 50)),
    ('type: "msra" variance_norm: AVERAGE', 0, np.sqrt(2 / 45), -2, 2),
    ('type: "positive_unitball"', 1 / 40, 1 / 40 / np.sqrt(3), 0, 0.1),
    ('type: "gaussian_unitball"', 0, np.sqrt(1 / 40), -1, 1),
]


@pytest.mark.parametrize(("filler", "mean", "std", "least", "most"), SPREADS)
def test_random_fillers_draw_anew_from_torchs_generator(filler, mean, std, least, most):
    net = compiled(filler)
    torch.manual_seed(5)
    first, second = net()["x"], net()["x"]
    assert not torch.equal(first, second)
    torch.manual_seed(5)
    assert torch.equal(net()["x"], first)
    values = torch.stack([net()["x"] for _ in range(20)]).double()
    assert values.mean().item() == pytest.approx(mean, abs=0.05 * std)
    assert values.std().item() == pytest.approx(std, rel=0.05)
    assert values.min() >= least - 1e-6
    assert values.max() <= most + 1e-6


def test_sparse_leaves_zeros_and_unitball_sums_to_1():
    torch.manual_seed(0)
    share = (compiled('type: "gaussian" sparse: 5')()["x"] == 0).double().mean().item()
    assert share == pytest.approx(0.9, abs=0.03)
    rows = compiled('type: "positive_unitball"', (3, 5, 7))()["x"].sum((1, 2))
    torch.testing.assert_close(rows, torch.ones(3))


def test_bilinear_and_the_nets_type():
    made = compiled('type: "bilinear"', (2, 1, 4, 4), "bfloat16")()["x"]
    line = [0.25, 0.75, 0.75, 0.25]
    assert made.dtype == torch.bfloat16
    np.testing.assert_allclose(made.float()[1, 0], np.outer(line, line), atol=1e-2)
