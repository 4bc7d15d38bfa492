import warnings

import numpy as np
import pytest

import netcompiler
from netcompiler import NetWarning

from .table import Bad, prototxt, suite

OUTPUT = 'type: "HDF5Output" hdf5_output_param { file_name: "out.h5" }'
BAD = [
    Bad("no name", 'type: "HDF5Output"', [(2, 3), (2,)], "file_name is missing", tops=0),
    Bad("one bottom", OUTPUT, [(2, 3)], "the wrong number of bottoms", tops=0),
    Bad("a top", OUTPUT, [(2, 3), (2,)], "the wrong number of tops"),
]
_, _, test_bad = suite([], BAD)


def test_it_is_a_sink_that_warns():
    msg = netcompiler.parse(prototxt(OUTPUT, [(2, 3), (2,)], 0))
    with pytest.warns(NetWarning, match='out.h5 is not written; for its blobs "b0" and "b1" name them in outputs='):
        graph = netcompiler.build(msg)
    assert (graph.nodes[-1].tops, graph.outputs) == ((), ())
    assert netcompiler.compile(graph, device="cpu")(np.zeros((2, 3)), np.zeros(2)) == {}


@pytest.mark.parametrize(("other", "error"), [((3,), "the same first axis"), ((), "too few axes")])
def test_the_bottoms_have_one_batch(other, error):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NetWarning)
        with pytest.raises(netcompiler.NetError, match=error):
            netcompiler.build(netcompiler.parse(prototxt(OUTPUT, [(2, 3), other], 0)))
