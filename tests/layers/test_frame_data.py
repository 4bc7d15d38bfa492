import pytest

import netcompiler
from netcompiler import NetError


def build(name, **inputs):
    tops = 'top: "data" top: "label" top: "clip_markers"'
    body = f'type: "Python" python_param {{ module: "sequence_input_layer" layer: "{name}" }}'
    return netcompiler.build(netcompiler.parse(f'layer {{ name: "data" {tops} {body} }}'), inputs=inputs)


@pytest.mark.parametrize(
    ("name", "count"),
    [("videoReadTrain_RGB", 384), ("videoReadTrain_flow", 384), ("videoReadTest_RGB", 48), ("videoReadTest_flow", 48)],
)
def test_clips_of_16_frames(name, count):
    assert [v.shape for v in build(name).inputs()] == [(count, 3, 227, 227), (count,), (count,)]


def test_labels_and_marks_follow_the_frames():
    graph = build("videoReadTest_RGB", data=(32, 3, 11, 13))
    assert [v.shape for v in graph.inputs()] == [(32, 3, 11, 13), (32,), (32,)]
    graph = build("videoReadTest_RGB", data=(32, 3, 11, 13), clip_markers=(32, 1))
    assert [v.shape for v in graph.inputs()] == [(32, 3, 11, 13), (32,), (32, 1)]


def test_another_class_of_the_module_is_not_known():
    with pytest.raises(NetError, match="runs code named by the net"):
        build("videoRead")
