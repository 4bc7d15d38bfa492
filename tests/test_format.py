"""Messages as prototxt: what is written reads back equal, and is short."""

import math
import struct

import pytest
from hypothesis import assume, given, settings, strategies as st

from netcompiler import schema
from netcompiler.text import Msg, format_message, parse_message

NAN = float("nan")
MESSAGES = ["NetParameter", "SolverParameter", "LayerParameter", "BlobProto", "Datum", "SolverState"]


def text_of(kind, text):
    return format_message(parse_message(text, kind=kind))


def test_order_and_layout():
    assert text_of(
        "NetParameter",
        """layer { convolution_param { stride: 2 weight_filler { type: "xavier" } num_output: 8 kernel_size: 3 } top: "c"
             include { phase: TEST } bottom: "a" bottom: "b" type: "Convolution" name: "c" param { lr_mult: 1 } param {} }
           state { stage: "s" } input: "a" force_backward: true name: "net"
           layer { name: "s" type: "Scale" scale_param { filler { type: "uniform" min: -0.5 max: 0.5 } axis: -1
             bias_term: true num_axes: 3 bias_filler { value: 1e-7 } } }""",
    ) == (
        """\
name: "net"
input: "a"
force_backward: true
state {
  stage: "s"
}
layer {
  name: "c"
  type: "Convolution"
  bottom: "a"
  bottom: "b"
  top: "c"
  param { lr_mult: 1 }
  param {}
  include { phase: TEST }
  convolution_param {
    num_output: 8
    kernel_size: 3
    stride: 2
    weight_filler { type: "xavier" }
  }
}
layer {
  name: "s"
  type: "Scale"
  scale_param {
    axis: -1
    num_axes: 3
    filler { type: "uniform" min: -0.5 max: 0.5 }
    bias_term: true
    bias_filler { value: 1e-07 }
  }
}
"""
    )


def test_solver_starts_with_its_net():
    assert text_of("SolverParameter", 'base_lr: 0.01 solver_mode: CPU net: "a.prototxt" test_iter: 3') == (
        'net: "a.prototxt"\ntest_iter: 3\nbase_lr: 0.01\nsolver_mode: CPU\n'
    )


def test_v1_layer():
    written = text_of("NetParameter", 'layers { bottom: "x" top: "y" name: "n" type: RELU blobs_lr: 1 }')
    assert written == 'layers {\n  name: "n"\n  type: RELU\n  bottom: "x"\n  top: "y"\n  blobs_lr: 1\n}\n'


@pytest.mark.parametrize("width", [79, 80, 81])
def test_one_line_up_to_80_columns(width):
    name = "x" * (width - len('  data_param { source: "" }'))
    lines = text_of("NetParameter", f'layer {{ data_param {{ source: "{name}" }} }}').splitlines()
    assert len(lines) == (3 if width <= 80 else 5)
    if width <= 80:
        assert len(lines[1]) == width


def test_empty_message():
    assert format_message(schema.NetParameter()) == ""
    assert text_of("NetParameter", "layer {}") == "layer {}\n"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1, "0.1"),
        (1e-4, "0.0001"),
        (0.0, "0"),
        (-0.0, "-0"),
        (256.0, "256"),
        (16777217.0, "16777216"),
        (1e6, "1e+06"),
        (1 / 3, "0.33333334"),
        (3.4028234663852886e38, "3.4028235e+38"),
        (1e-45, "1.4013e-45"),
        (float("inf"), "inf"),
        (-float("inf"), "-inf"),
        (NAN, "nan"),
    ],
)
def test_float(value, text):
    raw = schema.SolverParameter(base_lr=value)
    assert format_message(raw) == f"base_lr: {text}\n"
    back = parse_message(format_message(raw), kind="SolverParameter").base_lr
    assert back == raw.base_lr or (math.isnan(back) and math.isnan(value))
    assert math.isnan(value) or math.copysign(1, back) == math.copysign(1, value)


def test_float_that_two_roundings_would_miss():
    """7.038531e-26 names the float32 nearest to it; read as a double first, it rounds to the neighbour."""
    bits = 0x15AE43FD
    raw = schema.SolverParameter(base_lr=struct.unpack("f", struct.pack("I", bits))[0])
    back = parse_message(format_message(raw), kind="SolverParameter")
    assert struct.unpack("I", struct.pack("f", back.base_lr))[0] == bits
    assert format_message(raw) != "base_lr: 7.038531e-26\n"


def test_string_and_bytes():
    raw = schema.LayerParameter(name='a "b" \\ c\n\t\r\0 \x7f é 漢 \u2028 \U0001f600')
    written = format_message(raw)
    assert written.startswith('name: "a \\"b\\" \\\\ c\\n\\t\\r\\000 \\177 é 漢 \\342\\200\\250 ')
    assert len(written.splitlines()) == 1
    assert parse_message(written, kind="LayerParameter") == raw
    datum = schema.message("Datum")(data=bytes(range(256)))
    assert parse_message(format_message(datum), kind="Datum") == datum


def test_unknown_fields_are_told():
    raw = schema.NetParameter.FromString(schema.NetParameter(name="n").SerializeToString() + b"\xf2\xfa\x3f\x03abc")
    assert format_message(raw) == '# left out: 7 bytes of fields that the schema does not know\nname: "n"\n'
    assert parse_message(format_message(raw)).name == "n"


def test_message_prints_as_prototxt():
    raw = schema.LayerParameter(name="x")
    assert str(Msg(raw)) == format_message(raw) == format_message(Msg(raw)) == 'name: "x"\n'


def values(field, depth):
    """A strategy for one value of a field."""
    kinds = {
        field.CPPTYPE_INT32: st.integers(-(2**31), 2**31 - 1),
        field.CPPTYPE_INT64: st.integers(-(2**63), 2**63 - 1),
        field.CPPTYPE_UINT32: st.integers(0, 2**32 - 1),
        field.CPPTYPE_UINT64: st.integers(0, 2**64 - 1),
        field.CPPTYPE_FLOAT: st.floats(width=32, allow_nan=False),
        field.CPPTYPE_DOUBLE: st.floats(allow_nan=False),
        field.CPPTYPE_BOOL: st.booleans(),
    }
    if field.message_type is not None:
        return messages(field.message_type, depth + 1)
    if field.enum_type is not None:
        return st.sampled_from([v.number for v in field.enum_type.values])
    if field.type == field.TYPE_BYTES:
        return st.binary(max_size=5)
    return kinds.get(field.cpp_type, st.text(max_size=5))


def messages(descriptor, depth=0):
    """A strategy for messages of a type: a few of its fields, a few values each."""
    fields = [f for f in descriptor.fields if f.message_type is None or depth < 4]
    fields = [f for f in fields if f.full_name != "caffe.LayerParameter.dialect"]  # set while building, never in a text

    @st.composite
    def draw_message(draw):
        raw = schema.message(descriptor.full_name.removeprefix("caffe."))()
        for field in draw(st.lists(st.sampled_from(fields), max_size=4, unique_by=lambda f: f.name)) if fields else ():
            held = getattr(raw, field.name)
            if not schema.is_repeated(field):
                value = draw(values(field, depth))
                held.CopyFrom(value) if field.message_type is not None else setattr(raw, field.name, value)
                if field.message_type is not None:
                    held.SetInParent()
            else:
                held.extend(draw(st.lists(values(field, depth), max_size=3)))
        return raw

    return draw_message()


@pytest.mark.parametrize("kind", MESSAGES)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_reads_back_equal(kind, data):
    raw = data.draw(messages(schema.message(kind).DESCRIPTOR))
    assume(raw.IsInitialized())  # a message without a field that it requires is not read
    written = format_message(raw)
    assert parse_message(written, kind=kind) == raw
    assert format_message(parse_message(written, kind=kind)) == written
