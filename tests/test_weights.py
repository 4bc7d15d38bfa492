"""Binding: by name, shared arrays, legacy shapes, what does not fit, and the policies for it."""

import warnings

import numpy as np
import pytest

import netcompiler
from netcompiler import weights
from netcompiler.errors import NetError, NetWarning

NET = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 dim: 5 dim: 7 } } }
layer { name: "conv" type: "Convolution" bottom: "x" top: "c" convolution_param { num_output: 5 kernel_size: 3 } }
layer { name: "fc" type: "InnerProduct" bottom: "c" top: "f" inner_product_param { num_output: 7
        weight_filler { type: "xavier" } } }
"""


def blobs(**change):
    rng = np.random.default_rng(0)
    shapes = {"conv": [(5, 3, 3, 3), (5,)], "fc": [(7, 75), (7,)]} | change
    return {k: [rng.standard_normal(s).astype(np.float32) for s in v] for k, v in shapes.items() if v}


def bind(given, **options):
    graph = weights.bind(netcompiler.build(netcompiler.parse(NET, file="net.prototxt")), given, **options)
    return {n.name: n.blobs for n in graph.nodes if n.blobs}


def warned(given, **options):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = bind(given, **options)
    return found, [str(w.message) for w in caught if w.category is NetWarning]


def test_arrays_are_taken_as_they_are():
    given = blobs()
    found, told = warned(given)
    assert not told
    assert all(np.shares_memory(a, b) for k in given for a, b in zip(given[k], found[k], strict=True))


def test_legacy_shapes_have_ones_in_front():
    found, told = warned(blobs(conv=[(5, 3, 3, 3), (1, 1, 1, 5)], fc=[(1, 1, 7, 75), (1, 1, 1, 7)]))
    assert not told and found["fc"][0].shape == (7, 75) and found["conv"][1].shape == (5,)


def test_every_misfit_is_listed():
    with pytest.raises(NetError) as caught:
        bind(blobs(conv=[(5, 3, 2, 2), (6,)], fc=[(7, 75)]))
    message = str(caught.value)
    assert 'net.prototxt:3:1: layer "conv" (Convolution): the weights have another shape for weight' in message
    assert "expected: 5 x 3 x 3 x 3\n  got:      5 x 3 x 2 x 2" in message
    assert "another shape for bias" in message
    assert "another number of blobs\n  expected: 2 (weight 7 x 75, bias 7)\n  got:      1 (7 x 75)" in message
    assert "give it another name" in message


def test_layers_that_one_side_lacks_are_told():
    found, told = warned(blobs(fc=None, fc_=[(1,)]))
    assert told == [
        'layers without weights in the file start from their fillers: fc ("fc" is like "fc_")',
        "the file has weights for layers that the net does not have: fc_",
    ]
    assert found["fc"][0].std() > 0 and not found["fc"][1].any()


def test_reshape_takes_equal_counts():
    given = blobs(fc=[(75, 7), (7,)])
    found, told = warned(given, policy="reshape")
    assert told == ["the file's weights were taken in another shape for layers: fc"]
    assert np.array_equal(found["fc"][0].ravel(), given["fc"][0].ravel())
    with pytest.raises(NetError, match="another shape for weight"):
        bind(blobs(fc=[(75, 6), (7,)]), policy="reshape")


def test_skip_fills_what_does_not_fit():
    found, told = warned(blobs(fc=[(10, 75), (10,)]), policy="skip")
    assert told == ["the file's weights were skipped for layers that start from their fillers: fc"]
    assert found["fc"][0].shape == (7, 75)


def test_skip_with_a_list_skips_these_only():
    given = blobs(fc=[(10, 75), (10,)])
    found, _ = warned(given, policy="skip:fc,conv")
    assert not np.array_equal(found["conv"][0], given["conv"][0])
    with pytest.raises(NetError, match="another shape"):
        bind(given, policy="skip:conv")


FAULTS = [
    ("policy", "loose", "unknown weights policy"),
    ("list", "reshape:fc", "unknown weights policy"),
    ("no list", "skip:", "unknown weights policy"),
    ("layer", "skip:fcc", 'the policy skips "fcc"'),
]


@pytest.mark.parametrize(("policy", "message"), [f[1:] for f in FAULTS], ids=[f[0] for f in FAULTS])
def test_wrong_policy(policy, message):
    with pytest.raises(NetError, match=message):
        bind(blobs(), policy=policy)


def test_several_sources_are_merged_in_order():
    first, second = blobs(), blobs(conv=None)
    second["fc"][1] += 1
    msg = netcompiler.parse(NET)
    net = netcompiler.compile(msg, [first, second], device="cpu", optimize=False)
    assert np.array_equal(net.caffe_params()["fc"][1], second["fc"][1])
    assert np.array_equal(net.caffe_params()["conv"][0], first["conv"][0])


SHARED = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "a" type: "InnerProduct" bottom: "x" top: "a" param { name: "w" } inner_product_param { num_output: 3 } }
layer { name: "b" type: "InnerProduct" bottom: "a" top: "b" param { name: "w" } inner_product_param { num_output: 3 } }
"""


def values(given, **options):
    graph = weights.bind(netcompiler.build(netcompiler.parse(SHARED)), given, **options)
    return {n.name: float(n.blobs[0][0, 0]) for n in graph.nodes[1:]}


def test_the_last_layer_in_the_file_gives_a_shared_array():
    one, two = ([np.full((3, 3), v), np.zeros(3)] for v in (1, 2))
    assert values({"a": one, "b": two}) == {"a": 2, "b": 2}
    assert values({"b": two, "a": one}) == {"a": 1, "b": 1}


def test_the_last_file_gives_a_shared_array():
    one, two = ([np.full((3, 3), v), np.zeros(3)] for v in (1, 2))
    net = netcompiler.compile(
        netcompiler.parse(SHARED), [{"a": one, "b": one}, {"a": two}], device="cpu", optimize=False
    )
    assert [arrays[0][0, 0] for arrays in net.caffe_params().values()] == [2, 2]


@pytest.mark.parametrize("given", [None, {"a": [np.eye(3), np.zeros(3)]}], ids=["filled", "from its owner alone"])
def test_a_shared_array_comes_from_a_layer_that_is_left_out(given):
    text = SHARED.replace('bottom: "a"', 'bottom: "x"').replace('{ name: "w" }', '{ name: "w" } param { name: "v" }')
    text = text.replace("num_output: 3", 'num_output: 3 weight_filler { type: "xavier" }')
    whole, part = (
        netcompiler.compile(netcompiler.parse(text), given, outputs=outputs, device="cpu", optimize=False)
        for outputs in (["a", "b"], ["b"])
    )
    assert list(part.caffe_params()) == ["b"]
    assert np.array_equal(part.caffe_params()["b"][0], whole.caffe_params()["a"][0])
    assert given is None or np.array_equal(part.caffe_params()["b"][0], given["a"][0])


def test_a_shared_array_may_come_from_a_later_layer():
    with pytest.warns(NetWarning, match="start from their fillers: a"):  # its bias does
        assert values({"b": [np.full((3, 3), 7.0), np.zeros(3)]}) == {"a": 7, "b": 7}


def test_layers_of_one_name_are_told_of():
    text = SHARED.replace('"b" type', '"a" type').replace('param { name: "w" }', "")
    with pytest.warns(NetWarning, match="several layers have the same name, and so the same weights, in and out: a"):
        weights.bind(netcompiler.build(netcompiler.parse(text)), {}, warn=False)


NO_ARRAYS = [
    ("a number", 3),
    ("None", None),
    ("words", ["a", "b"]),
    ("complex", [np.zeros((5, 3, 3, 3), complex), np.zeros(5)]),
    ("ragged", [[[1], [2, 3]], np.zeros(5)]),
]


@pytest.mark.parametrize("arrays", [a[1] for a in NO_ARRAYS], ids=[a[0] for a in NO_ARRAYS])
def test_no_arrays(arrays):
    with pytest.raises(NetError, match="the weights are no arrays of numbers") as caught:
        netcompiler.compile(netcompiler.parse(NET, file="net.prototxt"), {"conv": arrays})
    assert caught.value.layer == '"conv" (Convolution)'


def test_whole_numbers_and_halves_become_floats():
    given = [np.ones((5, 3, 3, 3), np.int8), np.ones(5, np.float16)]
    assert [a.dtype for a in bind({"conv": given}, warn=False)["conv"]] == [np.float32, np.float32]


@pytest.mark.parametrize("second", [{}, {"b": [np.zeros(0), np.zeros(3)]}], ids=["absent", "without its array"])
def test_a_shared_array_that_does_not_fit_is_told_once_for_its_owner(second):
    with pytest.raises(NetError, match="another shape for weight") as caught:
        values({"a": [np.zeros((4, 3)), np.zeros(3)], **second})
    assert caught.value.all[0].layer == '"a" (InnerProduct)' and len(caught.value.all) == 1 + len(second)


def test_a_shared_array_is_given_once():
    graph = netcompiler.build(netcompiler.parse(SHARED))
    weight, bias = np.eye(3, dtype=np.float32), np.ones(3, np.float32)
    bound = weights.bind(graph, {"a": [weight, bias], "b": [weight, bias]})
    assert np.shares_memory(bound.nodes[1].blobs[0], bound.nodes[2].blobs[0])
    filled = weights.bind(graph, {"a": [weight, bias]}, warn=False)
    assert np.array_equal(filled.nodes[2].blobs[0], weight) and not filled.nodes[2].blobs[1].any()
