"""prototxt in, printed graph out; and every fault that building finds."""

import pytest

import netcompiler
from netcompiler.builder import reshape
from netcompiler.errors import NetError
from netcompiler.graph import UNKNOWN

X = 'layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 dim: 7 dim: 5 } } }\n'
CONV = 'type: "Convolution" convolution_param { num_output: 5 kernel_size: 3 }'


def graph(text, **options):
    return netcompiler.build(netcompiler.parse(text, file="net.prototxt"), **options)


def names(text, **options):
    return [n.name for n in graph(text, **options)]


def fault(text, **options):
    with pytest.raises(NetError) as caught:
        graph(text, **options)
    return str(caught.value)


def test_in_place_layers_are_versions():
    text = (
        X
        + f"""
layer {{ name: "c" bottom: "x" top: "y" {CONV} }}
layer {{ name: "r" type: "ReLU" bottom: "y" top: "y" }}
layer {{ name: "s" type: "ReLU" bottom: "y" top: "z" relu_param {{ negative_slope: 0.5 }} }}
"""
    )
    assert str(graph(text)) == "\n".join(
        [
            "x = Input()  # in: 2 x 3 x 7 x 5",
            "y = Convolution(x) num_output=5 kernel=3x3 stride=1x1 pad=0x0 dilation=1x1  # c: 2 x 5 x 5 x 3",
            "y' = ReLU(y)  # r: 2 x 5 x 5 x 3",
            "z = ReLU(y') negative_slope=0.5  # s: 2 x 5 x 5 x 3",
        ]
    )


def test_outputs_are_what_nobody_reads():
    text = X + 'layer { name: "a" type: "ReLU" bottom: "x" top: "a" }'
    text += 'layer { name: "b" type: "ReLU" bottom: "x" top: "x" }'
    assert [str(v) for v in graph(text).outputs] == ["x'", "a"]


RULES = [
    ("include TEST", "include { phase: TEST }", {}, True),
    ("include TRAIN", "include { phase: TRAIN }", {}, False),
    ("exclude TEST", "exclude { phase: TEST }", {}, False),
    ("exclude TRAIN", "exclude { phase: TRAIN }", {}, True),
    ("one of two includes", "include { phase: TRAIN } include { stage: 'a' }", {"stages": ["a"]}, True),
    ("all of one rule", "include { phase: TEST stage: 'a' }", {}, False),
    ("min_level", "include { min_level: 2 }", {"level": 1}, False),
    ("min_level met", "include { min_level: 2 }", {"level": 2}, True),
    ("max_level", "include { max_level: 2 }", {"level": 3}, False),
    ("both stages", "include { stage: 'a' stage: 'b' }", {"stages": ["a"]}, False),
    ("both stages met", "include { stage: 'a' stage: 'b' }", {"stages": ["b", "a"]}, True),
    ("not_stage", "include { not_stage: 'a' }", {"stages": ["a"]}, False),
    ("not_stage met", "include { not_stage: 'a' }", {"stages": ["b"]}, True),
    ("exclude by stage", "exclude { stage: 'a' }", {"stages": ["a"]}, False),
    ("empty rule", "include { }", {}, True),
]


@pytest.mark.parametrize(("rule", "options", "there"), [r[1:] for r in RULES], ids=[r[0] for r in RULES])
def test_rule(rule, options, there):
    text = X + f'layer {{ name: "r" type: "ReLU" bottom: "x" top: "y" {rule} }}'
    assert names(text, **options) == (["in", "r"] if there else ["in"])


def test_the_nets_own_state_counts():
    text = 'state { level: 3 stage: "a" }\n' + X
    text += 'layer { name: "r" type: "ReLU" bottom: "x" top: "y" include { min_level: 3 stage: "a" stage: "b" } }'
    assert names(text, stages=["b"]) == ["in", "r"]


def test_inputs_override_shapes():
    assert graph(X, inputs={"x": (1, 3, 9, 9)}).outputs[0].shape == (1, 3, 9, 9)
    assert 'no input is called "y"' in fault(X, inputs={"y": (1,)})
    assert "positive dims" in fault(X, inputs={"x": (1, 0)})


@pytest.mark.parametrize(
    "legacy",
    [
        'input: "x" input_dim: 2 input_dim: 3 input_dim: 7 input_dim: 5',
        'input: "x" input_shape { dim: 2 dim: 3 dim: 7 dim: 5 }',
    ],
    ids=["input_dim", "input_shape"],
)
def test_legacy_inputs(legacy):
    assert [(v.blob, v.shape) for v in graph(legacy).inputs()] == [("x", (2, 3, 7, 5))]


SHARED = """layer {{ name: "{0}" bottom: "x" top: "{0}" type: "Convolution" {1}
         convolution_param {{ num_output: {2} kernel_size: {3} }} }}
"""


def shared(second, outputs=5, kernel=3):
    return X + SHARED.format("a", 'param { name: "w" lr_mult: 2 }', 5, 3) + SHARED.format("b", second, outputs, kernel)


def test_shared_params():
    a, b = graph(shared('param { name: "w" }')).nodes[1:]
    assert a.params[0] == b.params[0] and b.params[0].lr_mult == 2
    assert "another shape here" in fault(shared('param { name: "w" }', 6))
    assert "another lr_mult here" in fault(shared('param { name: "w" lr_mult: 3 }'))
    assert "another count here" in fault(shared('param { name: "w" share_mode: PERMISSIVE }', 6))


def test_any_layer_may_give_the_multipliers_of_a_shared_param():
    text = X + "".join(
        SHARED.format(name, f'param {{ name: "w" {given} }}', 5, 3)
        for name, given in (("a", ""), ("b", "lr_mult: 3"), ("c", "decay_mult: 0"), ("d", "lr_mult: 3"))
    )
    assert {(n.params[0].lr_mult, n.params[0].decay_mult) for n in graph(text).nodes[1:]} == {(3, 0)}
    text += SHARED.format("e", 'param { name: "w" lr_mult: 1 }', 5, 3)
    message = fault(text)
    assert "another lr_mult here" in message and 'expected: 3, as in "b" (Convolution)' in message


def test_a_top_without_a_name_leaves_names_to_others():
    text = (
        X
        + """layer { name: "l" type: "Input" top: "l" input_param { shape { dim: 2 dim: 7 dim: 5 } } }
                  layer { name: "loss" type: "SoftmaxWithLoss" bottom: "x" bottom: "l" }
                  layer { name: "other" type: "ReLU" bottom: "x" top: "loss" }"""
    )
    assert [v.blob for n in graph(text).nodes[2:] for v in n.tops] == ["loss_", "loss"]


def test_a_lone_stage_may_be_a_string():
    assert names(X + 'layer { name: "r" type: "ReLU" bottom: "x" top: "y" include { stage: "ab" } }', stages="ab")[1:]


def test_loss_weights_and_propagation():
    text = X + 'layer { name: "r" type: "ReLU" bottom: "x" top: "y" loss_weight: 0.5 propagate_down: false }'
    node = graph(text).nodes[-1]
    assert node.loss_weights == (0.5,) and node.propagate == (False,)
    (node,) = graph("force_backward: true\n" + text).nodes[1:]
    assert node.propagate == (True,)


LAYER = 'layer {{ name: "c" bottom: "x" top: "y" {} }}'
FAULTS = [
    ("unknown type", LAYER.format('type: "Relu"'), 'net.prototxt:2:40: layer "c" (Relu): unknown layer type "Relu"'),
    ("near type", LAYER.format('type: "Relu"'), 'did you mean "ReLU"?'),
    ("no type", LAYER.format(""), "the layer has no type"),
    ("unknown bottom", 'layer { name: "r" type: "ReLU" bottom: "xx" top: "y" }', 'unknown bottom "xx"'),
    ("near bottom", 'layer { name: "r" type: "ReLU" bottom: "xx" top: "y" }', 'did you mean "x"?'),
    (
        "two makers",
        'layer { name: "r" type: "ReLU" bottom: "x" top: "y" }\nlayer { name: "s" type: "ReLU" bottom: "x" top: "y" }',
        'got:      also made by "r" (ReLU) at line 2',
    ),
    ("top named twice", f'layer {{ name: "c" bottom: "x" bottom: "x" top: "y" top: "y" {CONV} }}', "named twice"),
    (
        "two tops in place",
        'layer { name: "c" type: "Convolution" bottom: "x" bottom: "x" top: "x" top: "x" '
        "convolution_param { num_output: 3 kernel_size: 1 } }",
        'top "x" is named twice',
    ),
    (
        "over a loss",
        'layer { name: "t" type: "TanH" bottom: "x" top: "y" loss_weight: 1 }\n'
        'layer { name: "r" type: "ReLU" bottom: "y" top: "y" }',
        'net.prototxt:3:44: layer "r" (ReLU): "y" carries a loss weight',
    ),
    ("kernel too large", LAYER.format(CONV.replace("3", "9")), "the kernel is larger than the padded image"),
    ("too many params", LAYER.format(CONV + "param {} param {} param {}"), "more params than learned blobs"),
    ("loss weights", LAYER.format(CONV + "loss_weight: 1 loss_weight: 2"), "loss_weight needs one value per top"),
    ("propagate", LAYER.format(CONV + "propagate_down: true propagate_down: true"), "one value per bottom"),
    ("both rules", LAYER.format(CONV + "include {} exclude {}"), "include and exclude are both given"),
    ("too large", LAYER.format(CONV.replace("5", "2000000000")), "at most 2,147,483,647 elements, as in Caffe"),
]


@pytest.mark.parametrize(("text", "message"), [f[1:] for f in FAULTS], ids=[f[0] for f in FAULTS])
def test_fault(text, message):
    assert message in fault(X + text)


def test_every_unknown_type_is_told_once():
    text = X + "".join(f'layer {{ name: "l{i}" type: "{t}" bottom: "x" top: "t{i}" }}' for i, t in enumerate("PPQ"))
    message = fault(text)
    assert 'unknown layer type "P", as 1 more of the net\'s layers have' in message
    assert 'unknown layer type "Q"' in message


def test_reshape_checks_what_weights_fix():
    built = graph(X + LAYER.format(CONV))
    assert reshape(built, {"x": (1, 3, 9, 9)}).outputs[0].shape == (1, 5, 7, 7)
    with pytest.raises(NetError, match="does not fit"):
        reshape(built, {"x": (1, 4, 9, 9)})


def test_settings_for_another_type_are_told():
    text = X + 'layer { name: "r" type: "ReLU" bottom: "x" top: "y" pooling_param { kernel_size: 2 } }'
    with pytest.warns(netcompiler.NetWarning, match="pooling_param has no effect on ReLU layers: r"):
        graph(text)


def test_partial_graphs_go_on_elsewhere():
    text = (
        X
        + f"""
layer {{ name: "p" type: "Wizardry" bottom: "x" top: "p" }}
layer {{ name: "c" bottom: "x" top: "c" {CONV} }}
layer {{ name: "r" type: "ReLU" bottom: "p" top: "p" }}
layer {{ name: "k" bottom: "x" top: "k" {CONV.replace("3", "9")} }}
layer {{ name: "s" type: "ReLU" bottom: "nothing" top: "s" }}
"""
    )
    built = graph(text, partial=True)
    assert [v.shape for n in built.nodes for v in n.tops] == [
        (2, 3, 7, 5),
        UNKNOWN,
        (2, 5, 5, 3),
        UNKNOWN,
        UNKNOWN,
        UNKNOWN,
    ]
    assert str(built.nodes[1]) == "p = Wizardry(x)  # p: ?" and str(built.nodes[3]).startswith("p' = ReLU(p)")
    assert [f.what.split('"')[0] for f in built.faults] == [
        "unknown layer type ",
        "the kernel is larger than the padded image",
        "unknown bottom ",
    ]
    with pytest.raises(NetError, match="unknown layer type"):
        netcompiler.compile(built)


INPUT = 'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }'


@pytest.mark.parametrize("given", ["", "param { lr_mult: 2 }", 'param { lr_mult: 2 } param { name: "b" }'])
def test_a_frozen_layer_does_not_train(given):
    """MyCaffe's freeze_learning, with and without params of its own."""
    body = f'type: "InnerProduct" bottom: "x" top: "y" inner_product_param {{ num_output: 2 }} {given} %s'
    frozen, free = (
        netcompiler.build(netcompiler.parse(INPUT + f'layer {{ name: "ip" {body % more} }}')).nodes[-1].params
        for more in ("freeze_learning: true", "freeze_learning: false")
    )
    assert [(p.lr_mult, p.gradient) for p in frozen] == [(0, False)] * 2
    assert all(p.lr_mult > 0 and p.gradient for p in free)
    assert [p.name for p in frozen] == [p.name for p in free]


def test_codes_of_numbers_are_told_to_have_no_effect():
    body = 'type: "InnerProduct" bottom: "x" top: "y" inner_product_param { num_output: 2 } weights_compress: "Ternary"'
    with pytest.warns(netcompiler.NetWarning, match="weights_compress has no effect on InnerProduct layers: ip"):
        netcompiler.build(netcompiler.parse(f'{INPUT} layer {{ name: "ip" {body} }}'))


def test_a_setting_that_comes_several_times_and_has_no_effect():
    text = """
        layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 } } }
        layer { name: "r" type: "ReLU" bottom: "x" top: "r"
                weights_compress_param { maxbits: 4 } weights_compress_param { maxbits: 2 } }
    """
    with pytest.warns(netcompiler.NetWarning, match="weights_compress_param has no effect on ReLU"):
        netcompiler.build(netcompiler.parse(text))
