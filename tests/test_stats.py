"""Figures against sums done by hand."""

import netcompiler
from netcompiler import stats

NET = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 dim: 7 dim: 5 } } }
layer { name: "a" type: "Convolution" bottom: "x" top: "a" convolution_param { num_output: 11 kernel_size: 3 } }
layer { name: "r" type: "ReLU" bottom: "a" top: "a" }
layer { name: "b" type: "Convolution" bottom: "x" top: "b" param { name: "w" }
        convolution_param { num_output: 13 kernel_size: 1 bias_term: false } }
layer { name: "c" type: "Convolution" bottom: "x" top: "c" param { name: "w" }
        convolution_param { num_output: 13 kernel_size: 1 bias_term: false } }
"""


def figures(text=NET):
    graph = netcompiler.build(netcompiler.parse(text))
    return graph, {n.name: f for n, f in zip(graph.nodes, stats.figures(graph), strict=True)}


def test_each_layer():
    _, by_name = figures()
    weight = 11 * 3 * 9 + 11
    top = 2 * 11 * 5 * 3
    assert by_name["a"] == stats.Figures(weight, top * 27, 4 * weight, 4 * top)
    assert by_name["r"] == stats.Figures(0, 0, 0, 0)  # in place
    assert by_name["b"].params == 39
    assert by_name["c"].params == 0  # the same array
    assert by_name["c"].macs == by_name["b"].macs == 2 * 13 * 35 * 3


def test_totals():
    graph, by_name = figures()
    found = stats.totals(graph)
    x, a, b = 2 * 3 * 35, 2 * 11 * 15, 2 * 13 * 35
    assert found.layers == 5
    assert found.params == 11 * 28 + 39
    assert found.macs == sum(f.macs for f in by_name.values())
    assert found.activation_bytes == 4 * (x + a + 2 * b)
    assert found.peak_activation_bytes == 4 * (x + a + 2 * b)  # x is read to the end, the others are outputs


def test_peak_frees_what_is_read():
    names = "xabc"
    text = 'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 7 } } }'
    text += "".join(
        f'layer {{ name: "{t}" type: "ReLU" bottom: "{b}" top: "{t}" }}' for b, t in zip(names, names[1:], strict=False)
    )
    assert stats.totals(netcompiler.build(netcompiler.parse(text))).peak_activation_bytes == 4 * 2 * 7


def test_statistics_are_held_but_not_learned():
    text = NET + 'layer { name: "n" type: "BatchNorm" bottom: "b" top: "b" }'
    _, by_name = figures(text)
    assert by_name["n"].params == 0
    assert by_name["n"].weight_bytes == 4 * (13 + 13 + 1)
