"""The tops of data layers are those that real Caffe made: four successive batches of each case."""

from pathlib import Path

import numpy as np
import pytest

import netcompiler
from netcompiler.data.feeds import open_feeds

HERE = Path(__file__).parent.parent / "golden" / "data"
TOPS = np.load(HERE / "tops.npz")
CASES = sorted(name.removesuffix("/prototxt") for name in TOPS.files if name.endswith("/prototxt"))
LABELS = [int(line.split()[1]) for line in (HERE / "list.txt").read_text().splitlines()]


def scale_of(msg):
    return msg.layer[0].transform_param.scale


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("case", CASES)
def test_tops_are_caffes(case, workers):
    msg = netcompiler.parse(str(TOPS[f"{case}/prototxt"]))
    jpeg = case.startswith("imagedata")
    with open_feeds(msg, "TEST", root=HERE, workers=workers) as feeds:
        batch = len(TOPS[f"{case}/label0"])
        for k in range(4):
            got = feeds.next()
            want = TOPS[f"{case}/data{k}"]
            assert {top: a.shape for top, a in got.items()} == feeds.shapes
            assert got["data"].dtype == np.float32
            np.testing.assert_array_equal(got["label"], TOPS[f"{case}/label{k}"])
            for i in range(batch):
                picture = (k * batch + i) % 12
                grey_levels = 2 * scale_of(msg) if jpeg and picture % 3 == 2 else 0
                np.testing.assert_allclose(
                    got["data"][i], want[i], rtol=0, atol=grey_levels, err_msg=f"picture {picture}"
                )


def test_the_net_builds_over_the_shapes():
    msg = netcompiler.parse(str(TOPS["lmdb/plain/prototxt"]))
    with open_feeds(msg, "TEST", root=HERE) as feeds:
        graph = netcompiler.build(msg, inputs=feeds.shapes)
    assert [v.shape for v in graph.inputs()] == [(5, 3, 24, 32), (5,)]
