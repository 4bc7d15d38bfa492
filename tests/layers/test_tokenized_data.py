import pytest

import netcompiler
from netcompiler.errors import NetError


def text(fields):
    return f'layer {{ name: "d" type: "TokenizedData" top: "x" top: "at" top: "next" tokenized_data_param {{ {fields} }} }}'


def shapes(fields, **more):
    graph = netcompiler.build(netcompiler.parse(text(fields)), "TRAIN", **more)
    return [v.shape for v in graph.nodes[0].tops]


def test_shapes():
    fields = 'input_type: TEXT_FILE source: "a.txt" batch_size: 4 block_size: 8 seed: 1701 debug_index_file: "i"'
    assert shapes(fields) == [(4, 8), (1, 8), (4, 8)]
    assert shapes("block_size: 8", inputs={"x": (2, 8), "next": (2, 8)}) == [(2, 8), (1, 8), (2, 8)]


def test_bad():
    with pytest.raises(NetError, match="block_size must be positive"):
        shapes("batch_size: 4")
    with pytest.raises(NetError, match="does not tell the shape of top 0"):
        shapes("block_size: 4")
