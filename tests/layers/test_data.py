import pytest
import torch

import netcompiler
from netcompiler import NetError, schema

from .table import Bad, suite


def data(fields="", transform="", kind="Data", param="data_param"):
    return f'type: "{kind}" {param} {{ {fields} }} transform_param {{ {transform} }}'


def net(layer, tops=2):
    names = " ".join(f'top: "{t}"' for t in ("data", "label", "third")[:tops])
    return netcompiler.parse(f'layer {{ name: "d" {names} {layer} }}')


def shapes(layer, tops=2, **inputs):
    return [v.shape for v in netcompiler.build(net(layer, tops), inputs=inputs).inputs()]


def settings(message):
    """Every field of a message set to something, as text; the messages in it empty."""
    words = {"string": '"x"', "message": "{}"}
    parts = []
    for f in schema.message(message).DESCRIPTOR.fields:
        if f.name in ("force_gray", "force_color"):
            continue  # Caffe refuses them together
        value = words.get("string") if f.type == f.TYPE_STRING else "1"
        if f.enum_type is not None:
            value = f.enum_type.values[0].name
        elif f.type == f.TYPE_BOOL:
            value = "true"
        parts.append(f"{f.name} {{}}" if f.message_type is not None else f"{f.name}: {value}")
    return " ".join(parts)


SHAPES = [
    ("batch_size: 5", "crop_size: 7", (5, 3, 7, 7)),
    ("batch_size: 5 crop_size: 7", "", (5, 3, 7, 7)),
    ("batch_size: 5 crop_size: 7", "crop_size: 11", (5, 3, 11, 11)),
    ("batch_size: 5", "crop_h: 7 crop_w: 11", (5, 3, 7, 11)),
    ("batch_size: 5", "crop_size: 7 force_gray: true", (5, 1, 7, 7)),
    ("batch_size: 5", "crop_size: 7 mean_value: 104", (5, 1, 7, 7)),
    ("batch_size: 5", "crop_size: 7 mean_value: 1 mean_value: 2 mean_value: 3 mean_value: 4", (5, 4, 7, 7)),
    ("batch_size: 5", "crop_size: 7 mean_value: 104 force_color: true", (5, 3, 7, 7)),
    ("batch_size: 5 force_encoded_color: true", "crop_size: 7 mean_value: 104", (5, 3, 7, 7)),
]


@pytest.mark.parametrize(("fields", "transform", "shape"), SHAPES)
def test_shapes(fields, transform, shape):
    assert shapes(data(fields, transform)) == [shape, (5,)]
    assert shapes(data(fields, transform), 1) == [shape]


def test_a_given_shape_wins_and_the_label_follows():
    cropped = data("batch_size: 5", "crop_size: 7")
    assert shapes(cropped, data=(2, 1, 3, 11)) == [(2, 1, 3, 11), (2,)]
    assert shapes(cropped, data=(2, 1, 3, 11), label=(2, 13)) == [(2, 1, 3, 11), (2, 13)]
    assert shapes(cropped, label=(5, 1, 1, 1)) == [(5, 3, 7, 7), (5, 1, 1, 1)]
    assert shapes(data("batch_size: 5"), data=(2, 1, 3, 11)) == [(2, 1, 3, 11), (2,)]
    assert shapes(data(), data=(2, 1, 3, 11)) == [(2, 1, 3, 11), (2,)]
    assert shapes(data(), 1, data=(2, 1, 3, 11)) == [(2, 1, 3, 11)]


def test_pairs_of_pictures():
    """MyCaffe: behind each other in the channels, with a label each where asked for."""
    pairs, crop = "batch_size: 5 images_per_blob: 2", "crop_size: 7 force_gray: true"
    assert shapes(data(pairs, crop)) == [(5, 2, 7, 7), (5,)]
    assert shapes(data(f"{pairs} output_all_labels: true", crop)) == [(5, 2, 7, 7), (5, 2)]
    assert shapes(data(f"{pairs} output_all_labels: true"), data=(3, 6, 9, 9)) == [(3, 6, 9, 9), (3, 2)]
    assert shapes(data("batch_size: 5 output_all_labels: true", crop)) == [(5, 1, 7, 7), (5,)]


@pytest.mark.parametrize(
    ("kind", "param", "message"),
    [
        ("Data", "data_param", "DataParameter"),
        ("ImageData", "image_data_param", "ImageDataParameter"),
        ("WindowData", "window_data_param", "WindowDataParameter"),
    ],
)
def test_all_settings_are_taken(kind, param, message):
    text = data(settings(message), settings("TransformationParameter"), kind, param)
    assert shapes(text, data=(2, 3, 5, 7)) == [(2, 3, 5, 7), (2,)]


def test_it_is_fed():
    compiled = netcompiler.compile(net(data("batch_size: 2", "crop_size: 3")), device="cpu")
    x, label = torch.randn(2, 3, 3, 3), torch.tensor([999, 1000])
    outputs = compiled(x, label)
    assert torch.equal(outputs["data"], x)
    assert outputs["label"].tolist() == [999, 1000]
    with pytest.raises(NetError, match='input "label" is missing'):
        compiled(x)


def test_a_label_that_nobody_reads_need_not_be_fed():
    layer = data("batch_size: 2", "crop_size: 3")
    text = f'layer {{ name: "d" top: "data" top: "label" {layer} }}'
    msg = netcompiler.parse(text + 'layer { name: "r" type: "ReLU" bottom: "data" top: "r" }')
    compiled = netcompiler.compile(msg, outputs=["r"], device="cpu")
    assert compiled(torch.ones(2, 3, 3, 3))["r"].shape == (2, 3, 3, 3)


TRANSFORM = "force_gray: true force_color: true"
BAD = [
    Bad("no crop", data("batch_size: 5"), [], "does not tell the shape of top 0"),
    Bad("no batch", data("", "crop_size: 7"), [], "does not tell the shape of top 0"),
    Bad("both colours", data("batch_size: 5", TRANSFORM), [], "both given", at="force_gray"),
    Bad("three tops", data("batch_size: 5", "crop_size: 7"), [], "the wrong number of tops", tops=3),
]
_, _, test_bad = suite([], BAD)
