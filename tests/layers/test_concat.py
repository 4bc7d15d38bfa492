import numpy as np
import pytest

import netcompiler

from .table import Bad, Row, prototxt, suite


def joined(axis):
    return lambda *bottoms: np.concatenate(bottoms, axis)


def concat(fields: str = "") -> str:
    return f'type: "Concat" concat_param {{ {fields} }}'


THREE = [(2, 3, 5), (2, 7, 5), (2, 1, 5)]
ROWS = [
    Row("channels", concat(), THREE, [(2, 11, 5)], joined(1)),
    Row("axis 0", concat("axis: 0"), [(2, 3), (5, 3)], [(7, 3)], joined(0)),
    Row("from the back", concat("axis: -2"), THREE, [(2, 11, 5)], joined(1)),
    Row("concat_dim", concat("concat_dim: 2"), [(2, 3, 5), (2, 3, 7)], [(2, 3, 12)], joined(2)),
    Row("one bottom", concat(), [(2, 3)], [(2, 3)], lambda x: x),
    Row(
        "Intel's permute and flatten",
        concat("per_fla_fuse: true"),
        [(2, 3, 5, 2), (2, 4, 1, 1)],
        [(2, 34, 1, 1)],
        lambda *bottoms: np.concatenate([b.transpose(0, 2, 3, 1).reshape(2, -1) for b in bottoms], 1)[..., None, None],
    ),
    Row("along another axis", concat("per_fla_fuse: true axis: 0"), [(2, 3), (5, 3)], [(7, 3)], joined(0)),
    Row("engine", concat("engine: MKLDNN"), THREE, [(2, 11, 5)], joined(1)),
]
BAD = [
    Bad("other dims", concat(), [(2, 3, 5), (2, 3, 7)], "do not fit together"),
    Bad("other axes", concat(), [(2, 3, 5), (2, 3)], "do not fit together"),
    Bad("axis", concat("axis: 3"), THREE, "axis is out of range", at="axis"),
    Bad("concat_dim", concat("concat_dim: 3"), THREE, "concat_dim is out of range", at="concat_dim"),
    Bad("both", concat("axis: 1 concat_dim: 1"), THREE, "both given", at="concat_dim"),
    Bad("fused batches", concat("per_fla_fuse: true"), [(2, 3, 5), (3, 3, 5)], "the first of 2, as bottom 0"),
    Bad("fused axes", concat("per_fla_fuse: true"), [(2, 3, 5), (2, 3)], "3 axes"),
]
test_row, test_gradient, test_bad = suite(ROWS, BAD)


def test_in_place_is_refused():
    text = prototxt(concat(), THREE, 1).replace('"t0"', '"b0"')
    with pytest.raises(netcompiler.NetError, match="Concat cannot work in place"):
        netcompiler.build(netcompiler.parse(text))
