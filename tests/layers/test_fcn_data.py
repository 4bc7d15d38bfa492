import pytest

import netcompiler
from netcompiler import NetError


def net(tops, module="voc_layers", name="SBDDSegDataLayer", text="{'split': 'train', 'mean': (104.0, 116.7)}"):
    named = " ".join(f'top: "{t}"' for t in tops)
    body = f'type: "Python" python_param {{ module: "{module}" layer: "{name}" param_str: "{text}" }}'
    return netcompiler.parse(f'layer {{ name: "data" {named} {body} }}')


@pytest.mark.parametrize(
    ("source", "shapes"),
    [
        (net(["data", "label"]), [(1, 3, 40, 50), (1, 1, 40, 50)]),
        (
            net(["data", "sem", "geo"], "siftflow_layers", "SIFTFlowSegDataLayer"),
            [(1, 3, 40, 50), (1, 1, 40, 50), (1, 1, 40, 50)],
        ),
        (
            net(
                ["color", "depth", "label"], "nyud_layers", "NYUDSegDataLayer", "{'tops': ['color', 'depth', 'label']}"
            ),
            [(1, 3, 40, 50), (1, 1, 40, 50), (1, 1, 40, 50)],
        ),
        (
            net(["data", "label"], "nyud_layers", "NYUDSegDataLayer", "{'tops': ['hha', 'label']}"),
            [(1, 3, 40, 50), (1, 1, 40, 50)],
        ),
    ],
    ids=["voc", "siftflow", "nyud", "nyud renamed"],
)
def test_shapes_follow_the_first(source, shapes):
    name = source.layer[0].top[0]
    graph = netcompiler.build(source, inputs={name: (1, 3, 40, 50)})
    assert [v.shape for v in graph.inputs()] == shapes
    with pytest.raises(NetError, match="the net does not tell the shape of top 0"):
        netcompiler.build(source)


def test_another_class_of_the_module_is_not_known():
    with pytest.raises(NetError, match="runs code named by the net"):
        netcompiler.build(net(["data"], name="Other"))
