import netcompiler

from .table import Bad, Row, suite


def product(fields):
    return f'type: "SparseInnerProduct" inner_product_param {{ {fields} }}'


ROWS = [
    Row(
        "rows",
        product("num_output: 3"),
        [(4, 5)],
        [(4, 3)],
        lambda x, weight, bias: x @ weight.T + bias,
        {"weight": (3, 5), "bias": (3,)},
        60,
    ),
]
BAD = [Bad("none", product(""), [(4, 5)], "num_output must be positive")]
test_row, test_gradient, test_bad = suite(ROWS, BAD)


def test_data_is_given():
    text = 'layer { name: "d" type: "SparseData" top: "x" top: "y" data_param { source: "s" batch_size: 4 } }'
    graph = netcompiler.build(netcompiler.parse(text), "TRAIN", inputs={"x": (6, 100)})
    assert [v.shape for v in graph.nodes[0].tops] == [(6, 100), (6,)]
