"""MemoryData: arrays that the caller gives."""

import numpy as np
import pytest

import netcompiler
from netcompiler.data.feeds import open_feeds
from netcompiler.errors import NetError
from netcompiler.train.solver import Solver
from netcompiler.upgrade import parse_solver

from .sets import batches

NET = """layer { name: "in" type: "MemoryData" top: "data" top: "label" include { phase: TRAIN }
  memory_data_param { batch_size: 4 channels: 2 height: 3 width: 5 } }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc" inner_product_param { num_output: 2
  weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
"""


def arrays(count=6):
    data = np.random.default_rng(0).normal(size=(count, 2, 3, 5)).astype(np.float32)
    return {"data": data, "label": (data.sum((1, 2, 3)) > 0).astype(np.int64)}


def test_rows_in_order_and_round():
    given = arrays()
    got = batches(netcompiler.parse(NET), 3, "TRAIN", arrays=given, workers=2)  # no process has more to do here
    order = np.arange(12) % 6
    np.testing.assert_array_equal(np.concatenate([b["data"] for b in got]), given["data"][order])
    np.testing.assert_array_equal(np.concatenate([b["label"] for b in got]), given["label"][order])
    assert all(a.dtype == np.float32 for b in got for a in b.values())


def test_ranks_states_and_writing():
    given, msg = arrays(), netcompiler.parse(NET)
    for rank in range(2):
        (got,) = batches(msg, 1, "TRAIN", arrays=given, rank=rank, ranks=2)
        np.testing.assert_array_equal(got["data"], given["data"][[(2 * i + rank) % 6 for i in range(4)]])
    with open_feeds(msg, "TRAIN", arrays=given) as feeds:
        feeds.next()
        state = feeds.state()
        want = feeds.next()["data"].copy()
        feeds.restore(state)
        np.testing.assert_array_equal(feeds.next()["data"], want)
        given["data"][2:6] = 7  # what comes next
        assert (feeds.next()["data"] == 7).all()


def test_labels_as_pycaffe_takes_them():
    given = arrays()
    got = batches(netcompiler.parse(NET), 1, "TRAIN", arrays={**given, "label": given["label"].reshape(6, 1, 1, 1)})
    np.testing.assert_array_equal(got[0]["label"], given["label"][:4])


def test_without_arrays_the_caller_feeds():
    with open_feeds(netcompiler.parse(NET), "TRAIN") as feeds:
        assert feeds.shapes == {} and feeds.next() == {}


BAD = [
    ({}, 'no array is given for "label"'),
    ({"data": np.zeros((6, 2, 3, 4))}, 'the array for "data" has another shape'),
    ({"data": np.float32(3)}, 'the array for "data" has another shape'),
    ({"label": np.zeros((6, 2))}, 'the array for "label" has another shape'),
    ({"label": np.zeros(5)}, "different numbers of rows, or none"),
    ({"data": np.zeros((0, 2, 3, 5)), "label": []}, "different numbers of rows, or none"),
    ({"label": ["a"] * 6}, "no array of numbers"),
    ({"label": [1j] * 6}, "no array of numbers"),
    ({"date": np.zeros(6)}, 'no MemoryData layer makes "date" in TRAIN'),
]


@pytest.mark.parametrize("wrong, match", BAD, ids=[match for _, match in BAD])
def test_refused(wrong, match):
    given = arrays() | wrong if wrong else {"data": arrays()["data"]}
    with pytest.raises(NetError, match=match) as caught:
        open_feeds(netcompiler.parse(NET), "TRAIN", arrays=given)
    assert "date" in wrong or caught.value.layer == '"in" (MemoryData)'


def test_forks_settings_are_refused():
    msg = netcompiler.parse(NET.replace("width: 5", "width: 5 dim: 3"))
    with pytest.raises(NetError, match="dim is a fork's setting"):
        open_feeds(msg, "TRAIN", arrays=arrays())


def test_a_solver_trains_on_them(tmp_path):
    settings = f'base_lr: 0.1 lr_policy: "fixed" random_seed: 1 snapshot_prefix: "{tmp_path}/s" net_param {{ {NET} }}'

    def solver():
        return Solver(parse_solver(settings), feeds=open_feeds(netcompiler.parse(NET), "TRAIN", arrays=arrays(10)))

    whole = solver()
    first = whole.step()
    _, state = whole.snapshot()
    losses = [whole.step() for _ in range(60)]
    assert losses[-1] < first / 2
    again = solver()
    again.restore(state)
    assert [again.step() for _ in range(60)] == losses
