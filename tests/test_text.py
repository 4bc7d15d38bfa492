"""prototxt in, message and places out: the grammar, the places of fields, and every fault with its position.

Texts of faults have a `^` where the position must be; it is taken out before they are read. `$NETCOMPILER_CORPUS` names
a folder of other people's nets (nets/ with an INDEX.tsv) that are read too.
"""

import copy
import csv
import os
import pickle
import re
import time
from pathlib import Path

import pytest
from google.protobuf import text_format
from hypothesis import given, settings, strategies as st

from netcompiler import schema
from netcompiler.errors import NetError, NetWarning, Span
from netcompiler.text import Marks, Msg, format_message, parse_message, read_text
from netcompiler.upgrade import load, parse, parse_solver

CORPUS = os.environ.get("NETCOMPILER_CORPUS")


def net(text):
    return parse_message(text, file="n.prototxt")


def fault(text, kind="NetParameter"):
    """The error for a text, whose first fault must stand where the text has a `^`."""
    offset = text.index("^")
    text = text[:offset] + text[offset + 1 :]
    with pytest.raises(NetError) as caught:
        parse_message(text, kind=kind, file="n.prototxt")
    span = caught.value.at
    lines = text[:offset].split("\n")
    assert (span.line, span.column) == (len(lines), len(lines[-1]) + 1), str(caught.value)
    assert span.excerpt == text.split("\n")[len(lines) - 1].rstrip("\r")
    return caught.value


# --- the grammar ---

LAYER = """
layer {
  name: "conv"
  type: "Convolution"
  convolution_param { num_output: 3 kernel_size: 5 kernel_size: 7 weight_filler { std: 0.5 } }
}
"""


@pytest.mark.parametrize(
    "text",
    {
        "one line": LAYER.replace("\n", " "),
        "no blanks": re.sub(r"\s", "", LAYER)
        .replace("5kernel", "5 kernel")
        .replace("7weight", "7 weight")
        .replace("3ker", "3 ker"),
        "angle brackets": LAYER.replace("{", "<").replace("}", ">"),
        "both brackets": LAYER.replace("weight_filler { std: 0.5 }", "weight_filler < std: 0.5 >"),
        "colons before messages": LAYER.replace(" {", ": {"),
        "comments": LAYER.replace("\n", " # a comment } with { marks\n"),
        "comment in between": LAYER.replace(": ", ": # so it is\n  "),
        "last line is a comment": LAYER + "# the end",
        "adjacent strings": LAYER.replace('"Convolution"', '"Con" \'vol\' # and\n\n "ution"'),
        "single quotes": LAYER.replace('"', "'"),
        "a list of values": LAYER.replace("kernel_size: 5 kernel_size: 7", "kernel_size: [ 5 , 7 ]"),
        "list and values": LAYER.replace(
            "kernel_size: 5 kernel_size: 7", "kernel_size: [5] kernel_size: [] kernel_size: 7"
        ),
        "a list of messages": LAYER.replace("layer {", "layer [{") + "]",
        "commas": LAYER.replace("3", "3,").replace('"\n', '",\n'),
        "semicolons": LAYER.replace("3", "3;").replace('"\n', '";\n').replace("}\n", "};\n"),
        "CRLF": LAYER.replace("\n", "\r\n"),
        "form feeds and tabs": LAYER.replace(" ", "\t\f"),
        "byte order mark": "\ufeff" + LAYER,
        "hexadecimal": LAYER.replace("3", "0x3").replace("7", "0X7"),
        "octal": LAYER.replace("7", "07").replace("3", "003"),
        "plain float": LAYER.replace("0.5", ".5"),
        "float with f": LAYER.replace("0.5", "0.5f"),
        "float with an exponent": LAYER.replace("0.5", "5.e-1"),
        "escapes": LAYER.replace('"conv"', r'"\143\x6f\u006e\U00000076"'),
    }.items(),
    ids=lambda case: case[0],
)
def test_grammar(text):
    assert net(text[1]) == text_format.Parse(LAYER, schema.NetParameter())


def value(text, field, kind="NetParameter"):
    found = parse_message(f"{field}: {text}", kind=kind).raw
    return getattr(found, field)


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("3", 3),
        ("0.5", 0.5),
        (".5", 0.5),
        ("5.", 5),
        ("-.5", -0.5),
        ("- 2", -2),
        ("+2", 2),
        ("1e3", 1000),
        ("1.5E-3", 0.0015),
    ]
    + [
        ("2f", 2),
        ("2.F", 2),
        ("inf", float("inf")),
        ("-inf", -float("inf")),
        ("INF", float("inf")),
        ("0", 0),
        ("-0.0", 0),
    ]
    + [("infinity", float("inf")), ("1e400", float("inf")), ("1e39", float("inf"))],
)
def test_floats(text, want):
    assert value(text, "base_lr", "SolverParameter") == pytest.approx(want)


def test_nan():
    found = value("nan", "base_lr", "SolverParameter")
    assert found != found


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("0", 0),
        ("00", 0),
        ("-0", 0),
        ("12", 12),
        ("-12", -12),
        ("-\n# minus\n12", -12),
        ("010", 8),
        ("0x1F", 31),
        ("-0xf", -15),
    ]
    + [("2147483647", 2147483647), ("-2147483648", -2147483648)],
)
def test_whole_numbers(text, want):
    assert value(text, "max_iter", "SolverParameter") == want


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("true", True),
        ("True", True),
        ("t", True),
        ("1", True),
        ("false", False),
        ("False", False),
        ("f", False),
        ("0", False),
    ],
)
def test_bools(text, want):
    assert value(text, "force_backward") is want


@pytest.mark.parametrize("text", ["GPU", "1", "0x1", "01"])
def test_enum_by_name_or_number(text):
    assert value(text, "solver_mode", "SolverParameter") == 1


@pytest.mark.parametrize(
    ("text", "want"),
    [
        (r'"\a\b\f\n\r\t\v\\\?\'\""', "\a\b\f\n\r\t\v\\?'\""),
        (r'"\101\7\60x"', "A\a0x"),
        (r'"\x41\x7"', "A\a"),
        (r'"\303\251"', "é"),
        (r'"\u00e9\U0001F600"', "é😀"),
        ('"é # { no comment"', "é # { no comment"),
        ("'\"'", '"'),
        ('""', ""),
    ],
)
def test_strings(text, want):
    assert value(text, "name") == want


def test_bytes_need_not_be_utf8():
    blob = net(r'layer { blobs { raw_data: "\377\001" "\xfe" } }').layer[0].blobs[0]
    assert blob.raw_data == b"\xff\x01\xfe"


def test_an_empty_text_is_an_empty_message():
    for text in ("", " \n", "# nothing", "\ufeff"):
        assert net(text) == schema.NetParameter()


def test_an_empty_message_is_set():
    m = net("state {} layer {} layer <>")
    assert m.has("state") and len(m.layer) == 2
    assert not net('name: "x"').has("state")


# --- places ---

PLACES = """# one
name: "n"
input: "a" input: "b"
  input: ["c",
    "d"]
layer {
  top: "t"
  convolution_param: <
    kernel_size: [3,  5], kernel_size: 7
\tweight_filler { type: "xavier" }
  >
  param { lr_mult: 1 } param { decay_mult: 0 }
}
layer { name: "é" type: "ReLU" }
layer [{ name: "x" }, { name: "y" }]
"""


def test_places():
    m = net(PLACES)

    def at(place):
        return place.line, place.column

    assert m.at() == Span("n.prototxt", 1, 1, "# one")
    assert m.at("name") == Span("n.prototxt", 2, 1, 'name: "n"')
    assert [at(m.at("input", i)) for i in range(4)] == [(3, 1), (3, 12), (4, 11), (5, 5)]
    conv = m.layer[0].convolution_param
    assert at(m.layer[0].at()) == (6, 1)
    assert at(m.layer[0].at("top")) == (7, 3)
    assert at(conv.at()) == (8, 3)
    assert [at(conv.at("kernel_size", i)) for i in range(3)] == [(9, 19), (9, 23), (9, 27)]
    assert at(conv.weight_filler.at("type")) == (10, 18)
    assert [at(p.at()) for p in m.layer[0].param] == [(12, 3), (12, 24)]
    assert at(m.layer[0].param[1].at("decay_mult")) == (12, 32)
    assert at(m.layer[1].at("type")) == (14, 19)
    assert [at(m.layer[i].at()) for i in (2, 3)] == [(15, 8), (15, 23)]
    assert at(m.layer[3].at("name")) == (15, 25)


def test_a_field_that_was_not_written_is_placed_at_its_message():
    m = net(PLACES)
    assert m.layer[0].convolution_param.at("group").line == 8
    assert m.layer[1].relu_param.at("negative_slope").line == 14
    assert m.layer[0].at("param", 5).line == 6
    assert m.at("force_backward").line == 1


def test_places_in_files_with_crlf_and_byte_order_mark():
    m = net("\ufeff" + PLACES.replace("\n", "\r\n"))
    assert m.at("name") == Span("n.prototxt", 2, 1, 'name: "n"')
    assert m.layer[0].convolution_param.at("kernel_size", 1) == net(PLACES).layer[0].convolution_param.at(
        "kernel_size", 1
    )
    assert net('\ufeffname: "x"').at("name").column == 1


def test_a_copy_has_marks_of_its_own():
    m = net(PLACES)
    twin = m.copy()
    twin.name = "other"
    twin.layer[0].convolution_param.group = 2
    twin.layer[0].convolution_param.weight_filler.type = "msra"
    del twin.layer[1]
    assert m == net(PLACES) and m.marks == net(PLACES).marks
    assert twin.at("name").line == 1 and m.at("name").line == 2


def test_marks_of_a_bare_message():
    m = Msg(schema.NetParameter(name="x"))
    assert m.at("name") is None and m.marks == Marks()


# --- faults: of structure ---


def test_unclosed_brace():
    e = fault('layer {\n  name: "a"\n  relu_param ^{\n')
    assert e.what == '"{" is never closed' and e.expected == '"}" before the end of the file'
    assert fault("layer ^<").expected == '">" before the end of the file'


def test_unclosed_brace_before_the_next_layer():
    e = fault('layer {\n  name: "a"\n}\nlayer ^{\n  name: "b"\nlayer {\n  name: "c"\n}\nlayer { }\n')
    assert e.what == '"{" is never closed' and e.expected == '"}" before "layer" in line 6'
    assert len(e.all) == 1  # that a layer has no field "layer" is no news


def test_unclosed_brace_inside_a_layer():
    e = fault(
        'layer {\n  convolution_param ^{\n    num_output: 3\n  top: "x"\n  bias_term: 7 }\nlayer {\n  nome: "y" }'
    )
    assert e.expected == '"}" before "top" in line 4'
    assert len(e.all) == 1


def test_one_brace_too_many():
    assert fault('layer { name: "x" } ^}').what == '"}" closes nothing'
    assert fault("^]").what == '"]" closes nothing'
    assert fault('name: "x" ^>').what == '">" closes nothing'


def test_a_layer_closed_too_early():
    e = fault('layer { name: "x" }\n  ^bottom: "y"\n}\nlayer { }')
    assert e.what == 'NetParameter has no field "bottom"'
    assert e.hint == '"bottom" goes into layer { }: is a "}" above it too early?'
    assert [str(f.at) for f in e.all] == ["n.prototxt:2:3", "n.prototxt:3:1"]


def test_wrong_closing_mark():
    e = fault('layer {\n name: "x" ^> }')
    assert e.what == "the wrong closing mark" and e.expected == '"}" for the "{" in line 1' and e.got == '">"'
    assert fault("layer < name: 'x' ^}").expected == '">" for the "<" in line 1'


def test_lists():
    assert fault("input_dim: ^[1, 2").what == '"[" is never closed'
    assert fault("input_dim: [1 ^2]").what == '"," or "]" is missing in a list'
    assert fault("input_dim: [1; 2]".replace(";", "^;")).got == '";"'
    assert fault("input_dim: [1, ^]").what == 'a value is missing for "input_dim"'
    assert fault("input_dim: [^[1]]").what == "a list inside a list"
    e = fault('name: ^["x"] force_backward: 3')
    assert e.what == '"name" takes one value, not a list' and len(e.all) == 2
    assert fault("state ^[{ }]").what == '"state" takes one value, not a list'


assert [str(f.at) for f in fault("^foo: [[1]]").all] == ["n.prototxt:1:1", "n.prototxt:1:7"]


def test_nested_too_deep():
    e = fault("^foo { " + "a { " * 63 + "a { " * 5000)
    assert e.all[1].what == "messages are nested more than 64 deep"
    assert e.all[1].at.column == len("foo { ") + 63 * len("a { ") + len("a ") + 1
    assert len(fault("^foo { " + "a { " * 63 + "}" * 64).all) == 1


def test_nested_too_deep_in_lists():
    with pytest.raises(NetError, match="nested more than 64 deep"):
        net("layer [{ foo: [{ " * 5000)


def test_no_field_name():
    for text in (
        "^1: 2",
        '^"name": "x"',
        "^= 3",
        "^[a.b]: 1",
        'name: "x" ^: 3',
        "^;",
        'name: "x";^;',
        "^é: 1",
        "^\x00",
    ):
        assert fault(text).what == "a field name is missing", text
    assert fault("input_dim: 1,^2").hint == "the comma ends the value of the field before it"


def test_no_value():
    e = fault("layer { name: ^}")
    assert e.what == 'a value is missing for "name"' and e.expected == "a string in quotes" and e.got == '"}"'
    assert fault("name:^").got == "the end of the file"
    assert fault("name^").got == "the end of the file"
    assert fault("input_dim: ^-").got == '"-"'
    assert fault('name ^= "x"').hint == "a name and its value are joined by a colon"
    assert fault("layer ^= { }").expected == "layer { ... }"
    assert fault("input_dim: ^$#batch#$").expected == "a whole number from -2147483648 to 2147483647"
    assert fault("name:^: 'x'").what == 'a value is missing for "name"'
    assert fault("^foo: }").all[-1].what == "a value is missing"


def test_missing_colon():
    e = fault('name ^"x" input_dim ^3'.replace("^3", "3"))
    assert e.what == '":" is missing after "name"' and len(e.all) == 2


def test_unclosed_string():
    for text in (
        'name: ^"x',
        'name: ^"x\ninput: "y"',
        "name: ^'x\"",
        'name: "a" ^"b',
        'name: ^"x\\"',
        'name: ^"x\\\ny"',
    ):
        assert text.count("^") == 1
        e = fault(text)
        assert e.what in ("the string is not closed on its line", "a field name is missing"), text


# --- faults: of fields and values ---


def test_misspelt_field():
    e = fault("layer {\n  convolution_param { kernel_size: 3 ^kernal_size: 5 }\n}")
    assert e.what == 'ConvolutionParameter has no field "kernal_size"'
    assert e.hint == 'did you mean "kernel_size"?'
    assert str(e).splitlines()[-2:] == [
        "    2 |   convolution_param { kernel_size: 3 kernal_size: 5 }",
        "      |" + " " * 38 + "^",
    ]


KEEP = 'a field of your own fork? unknown="keep" (--unknown keep) passes over it, and writes it back out'


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("layer { ^kernel_size: 3 }", '"kernel_size" goes into convolution_param or pooling_param { }'),
        ("layer { ^num_outputs: 3 }", 'did you mean "num_output" of convolution_param?'),
        ("layer { ^blobs_lr: 1 }", 'a layer of today has param { lr_mult: ... } in place of "blobs_lr"'),
        ("layer { ^weight_decay: 1 }", 'a layer of today has param { decay_mult: ... } in place of "weight_decay"'),
        ("layer { ^pooling_params { } }", 'did you mean "pooling_param"?'),
        ("layer { ^poolin_param { } }", 'did you mean "pooling_param"?'),
        ("layer { ^wizardry_param { } }", KEEP),
        ("layer { ^pooled_h: 7 }", '"pooled_h" goes into roi_pooling_param, roi_warping_param or roi_align_param { }'),
        ("layer { ^qqq: 1 }", KEEP),
        (
            "layer {\nrelu_param { ^top: 'x' } }",
            '"top" belongs further out: should the "{" of line 2 be closed before it?',
        ),
        (
            "layers { ^elu_param { } }",
            '"layers" is the old form of "layer": write layer, and its type as a string, to use elu_param',
        ),
        ("^Name: 'x'", 'did you mean "name"?'),
        ("^base_lr: 0.1", '"base_lr" is a field of a solver: is this the right file?'),
    ],
)  # fmt: skip
def test_advice_on_unknown_fields(text, hint):
    assert fault(text).hint == hint


# --- unknown fields that are kept ---

STRANGE = """name: "n"
wizard: 3
layer {
  name: "d"
  spell: FIRE
  data_param {
    source: "s"
    wand { length: 2e3 wood: "oak" 'en' core < x: [1, -2.5]; y: - inf > core { } }
  }
}
wizard: 4
"""
KEPT = """name: "n"
layer {
  name: "d"
  data_param {
    source: "s"
    wand { length: 2e3 wood: "oak" 'en' core { x: 1 x: -2.5 y: - inf } core {} }
  }
  spell: FIRE
}
wizard: 3
wizard: 4
"""


def kept(text, **options):
    with pytest.warns(NetWarning) as caught:
        msg = parse_message(text, file="f.prototxt", unknown="keep", **options)
    return msg, [str(w.message) for w in caught]


def test_unknown_fields_are_kept_and_written_back():
    msg, told = kept(STRANGE)
    assert format_message(msg) == KEPT
    assert told == [
        'f.prototxt:2:1: NetParameter has no field "wizard": kept, without effect; 2 of them, also in line 11',
        'f.prototxt:5:3: LayerParameter has no field "spell": kept, without effect',
        'f.prototxt:8:5: DataParameter has no field "wand": kept, without effect',
    ]
    assert format_message(kept(KEPT)[0]) == KEPT
    assert format_message(pickle.loads(pickle.dumps(msg.copy()))) == KEPT
    with pytest.raises(NetError) as e:
        parse_message(STRANGE)
    assert [f.hint for f in e.value.all] == [KEEP] * 3


def test_a_typo_is_told_beside_what_it_may_stand_for():
    _, told = kept("layer { convolution_param { kernal_size: 5 } }")
    assert told == [
        'f.prototxt:1:29: ConvolutionParameter has no field "kernal_size": kept, without effect; did you mean "kernel_size"?'
    ]


def test_what_is_set_while_building_is_no_field_of_files():
    assert fault('layer { ^dialect: "ssd" }').what == 'LayerParameter has no field "dialect"'


def test_other_faults_stay_faults():
    for text in ("wizard: 3 name: 5", "wizard { a: 1", "wizard: ", "wizard: 1 }"):
        with pytest.warns(NetWarning), pytest.raises(NetError):
            parse_message(text, unknown="keep")
    with pytest.raises(NetError, match="refuse or keep"):
        parse_message("", unknown="drop")


def test_passed_over_by_a_lenient_reader():
    """As ever: what is only looked at does not keep them."""
    faults = []
    assert "wizard" not in format_message(parse_message(STRANGE, faults=faults))
    assert len(faults) == 3


def test_a_net_where_a_solver_should_be():
    assert fault("^layer { }", "SolverParameter").hint == '"layer" is a field of a net: is this the right file?'


def test_unknown_fields_are_reported_together():
    text = 'name: "n"\nlayer { ^nane: "a" pad: 1 typ: "b" }\nlayer { nane: "c" }\nlayer { nane: "d" inner { nane: 1 } }\nfoo: 1'
    e = fault(text)
    assert [f.what for f in e.all] == [
        'LayerParameter has no field "nane"',
        'LayerParameter has no field "pad"',
        'LayerParameter has no field "typ"',
        'LayerParameter has no field "inner"',
        'NetParameter has no field "foo"',
    ]
    assert e.all[0].got == "3 of them, also in line 3, 4"
    assert [f.at.line for f in e.all] == [2, 2, 2, 4, 5]
    assert str(e).count("has no field") == 5


def test_what_an_unknown_field_holds_is_stepped_over():
    text = "layer { ^foo: 3 bar { a: 'x' 'y' b: -1 c: - inf d: [1, {e: 2}] f < > g: [] } baz: NAME name: 3 }"
    e = fault(text)
    assert [f.what for f in e.all] == [f'LayerParameter has no field "{n}"' for n in ("foo", "bar", "baz")] + [
        'a bad value for "name"'
    ]


@pytest.mark.parametrize(
    ("text", "expected", "got", "hint"),
    [
        ("layer { pooling_param { pool: ^MXA } }", "one of MAX, AVE, STOCHASTIC", "MXA", "did you mean MAX?"),
        ("layer { pooling_param { pool: ^max } }", "one of MAX, AVE, STOCHASTIC", "max", "did you mean MAX?"),
        (
            'layer { pooling_param { pool: ^"MAX" } }',
            "one of MAX, AVE, STOCHASTIC",
            '"MAX"',
            "did you mean MAX, without quotes?",
        ),
        ("layer { pooling_param { pool: ^3 } }", "one of MAX, AVE, STOCHASTIC", "3", None),
        ("layer { pooling_param { pool: ^-1 } }", "one of MAX, AVE, STOCHASTIC", "-1", None),
        ("layer { pooling_param { pad: ^1.5 } }", "a whole number from 0 to 4294967295", "1.5", None),
        ("layer { pooling_param { pad: ^-1 } }", "a whole number from 0 to 4294967295", "-1", None),
        ("layer { pooling_param { pad: ^4294967296 } }", "a whole number from 0 to 4294967295", "4294967296", None),
        ("layer { pooling_param { pad: ^08 } }", "a whole number from 0 to 4294967295", "08", None),
        ("layer { pooling_param { pad: ^0x } }", "a whole number from 0 to 4294967295", "0x", None),
        ("layer { pooling_param { pad: ^1_0 } }", "a whole number from 0 to 4294967295", "1_0", None),
        ("layer { pooling_param { pad: ^0b1 } }", "a whole number from 0 to 4294967295", "0b1", None),
        ("layer { pooling_param { pad: ^'1' } }", "a whole number from 0 to 4294967295", "'1'", None),
        ("layer { pooling_param { pad: ^one } }", "a whole number from 0 to 4294967295", "one", None),
        ("layer { pooling_param { pad: ^1stride: 2 } }", "a whole number from 0 to 4294967295", "1stride", None),
        ("layer { pooling_param { global_pooling: ^yes } }", "true or false", "yes", None),
        ("layer { pooling_param { global_pooling: ^2 } }", "true or false", "2", None),
        ("layer { relu_param { negative_slope: ^0x10 } }", "a number", "0x10", None),
        ("layer { relu_param { negative_slope: ^1.5.2 } }", "a number", "1.5.2", None),
        ("layer { relu_param { negative_slope: ^1e } }", "a number", "1e", None),
        ("layer { relu_param { negative_slope: ^--1 } }", "a number", "--1", None),
        ("layer { relu_param { negative_slope: ^'1' } }", "a number", "'1'", None),
        ("layer { type: ^ReLU }", "a string in quotes", "ReLU", 'put it in quotes: "ReLU"'),
        ("name: ^3", "a string in quotes", "3", 'put it in quotes: "3"'),
        ("name: ^/a/b-1.txt}", "a string in quotes", "/a/b-1.txt", 'put it in quotes: "/a/b-1.txt"'),
        (
            "input_dim: ^99999999999999999999",
            "a whole number from -2147483648 to 2147483647",
            "99999999999999999999",
            None,
        ),
        ("input_dim: ^" + "9" * 9999, "a whole number from -2147483648 to 2147483647", "9" * 57 + "...", None),
    ],
)
def test_bad_values(text, expected, got, hint):
    e = fault(text)
    assert e.what.startswith("a bad value for"), str(e)
    assert (e.expected, e.got, e.hint) == (expected, got, hint)


def test_a_long_list_of_names_is_cut_short():
    e = fault('layers { type: ^"Softmax" }')
    assert e.expected.startswith("one of NONE, ACCURACY, BNLL,") and e.expected.endswith(", ...")
    assert e.hint == "did you mean SOFTMAX, without quotes?"


def test_faults_of_values_are_reported_together():
    e = fault("layer { type: ^ReLU\n pooling_param { pool: MXA pad: -1 kernel_sise: 2 } }\n name: 3")
    assert [str(f.at) for f in e.all] == [f"n.prototxt:{p}" for p in ("1:15", "2:24", "2:33", "2:36", "3:8")]


@pytest.mark.parametrize(
    ("text", "hint"), [(r'"a^\q"', r"\q"), (r'"^\x"', r"\x"), (r'"^\400"', r"\400"), (r'"^\ud800"', r"\ud800")]
)
def test_bad_escapes(text, hint):
    e = fault(f"name: 'x' {text}")
    assert e.what == 'an escape that stands for nothing in "name"' and e.got == hint


def test_strings_that_are_not_utf8():
    assert fault(r'name: ^"\377"').what == '"name" is not in UTF-8'
    assert fault('name: ^"\ud800"').what == '"name" is not in UTF-8'


def test_a_field_given_twice():
    e = fault('name: "a"\nlayer { name: "b" top: "x" top: "y" }\n^name: "c"')
    assert e.what == '"name" is given twice' and e.expected == "one value; the first is in line 1"
    assert fault("state { } ^state { level: 1 }").what == '"state" is given twice'
    assert fault("layer { relu_param { }\n^relu_param { } }").expected == "one value; the first is in line 1"


def test_a_string_where_a_message_is_expected():
    e = fault('layer { convolution_param: ^"x" name: 3 }')
    assert e.what == '"convolution_param" is a message' and e.expected == "convolution_param { ... }" and e.got == '"x"'
    assert len(e.all) == 2
    assert fault("layer: ^-3").got == "-3"
    assert fault("state: [^1]".replace("[^1", "^[1")).what == '"state" takes one value, not a list'


def test_a_message_where_a_value_is_expected():
    e = fault("name ^{ x: 1 } force_backward: 7")
    assert e.what == '"name" is not a message' and e.expected == "a string in quotes" and len(e.all) == 2


def test_required_fields():
    e = fault("layer {\n clip_param ^{ min: 1 } }")
    assert e.what == '"max" is missing' and e.expected == "a number"


def test_a_fault_on_a_very_long_line_shows_its_neighbourhood():
    e = fault('layer { name: "x" } ' * 5000 + "^foo: 1 " + 'layer { name: "x" } ' * 5000)
    shown = str(e).splitlines()
    assert max(map(len, shown)) < 200
    assert shown[-2][shown[-1].index("^") :].startswith("foo: 1")


# --- files ---


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "the file is empty"),
        (b" \r\n\t", "the file is empty"),
        (b"\xef\xbb\xbf\n", "the file is empty"),
        (b"# nothing\n  # here", "the file is empty but for comments"),
        (b"\x0a\x04conv\x00\x01", "a binary file, where a prototxt (text) was expected"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file, where a prototxt (text) was expected"),
        ('name: "x"'.encode("utf-16"), "the text is in UTF-16"),
    ],
)
def test_files_that_are_no_prototxt(tmp_path, data, what):
    path = tmp_path / "net.prototxt"
    path.write_bytes(data)
    with pytest.raises(NetError) as caught:
        load(path)
    assert caught.value.what == what and caught.value.at == str(path)


def test_directory(tmp_path):
    with pytest.raises(NetError, match="cannot be read: Is a directory"):
        load(tmp_path)


def test_missing_file(tmp_path):
    (tmp_path / "deploy.prototxt").write_text('name: "x"')
    with pytest.raises(NetError, match="cannot be read: No such file") as caught:
        load(tmp_path / "depoly.prototxt")
    assert caught.value.at == str(tmp_path / "depoly.prototxt")
    assert caught.value.hint == f"did you mean {tmp_path / 'deploy.prototxt'}?"
    for path in (tmp_path / "none" / "x", "a\0b"):
        with pytest.raises(NetError, match="cannot be read"):
            load(path)


def test_comments_in_any_encoding(tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_bytes(b"# caf\xe9 \xb5\nname: \"\xc3\xa9\" # \xff\nlayer { name: 'x' } foo: 1")
    assert read_text(path) == "# café µ\nname: \"é\" # ÿ\nlayer { name: 'x' } foo: 1"
    with pytest.raises(NetError) as caught:
        load(path)
    assert str(caught.value.at) == f"{path}:3:21"


def test_byte_order_mark(tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_bytes(b'\xef\xbb\xbfname: "x"')
    assert load(path).at("name").column == 1


# --- against protobuf's own reader ---

SEED = """
name: "seed"  # a comment
force_backward: true
input: "in" input_dim: 1 input_dim: 3 input_dim: 0x8 input_dim: 010
layer {
  name: 'conv\\t\\x31' "a" type: "Convolution"
  bottom: "in", top: "out";
  param { lr_mult: 1.5e-1 decay_mult: -.5 } param { name: "w" share_mode: PERMISSIVE }
  include: { phase: TRAIN stage: ["a", "b"] }
  loss_weight: [1, 2.f, inf]
  convolution_param < num_output: 4294967295 bias_term: f kernel_size: [3, 5] engine: 1 weight_filler { type: "msra" } >
  blobs { shape { dim: 1 dim: -2 } data: [0.1, 2, 3e2] raw_data: "\\377" }
}
layers { layer { type: "conv" num_output: 3 } top: "v0" }
layers { type: RELU bottom: "v0" top: "v1" blobs_lr: 1 }
"""
PIECES = re.findall(r"\s+|\w+|.", SEED)
# What protobuf for Python reads in a more lenient way than Caffe does, or than we do.
LENIENT = re.compile(r"""\\[^abfnrtvxuU0-7\\'"?]|\d_\d|0[bBoO]\d|[fF]{2}|[^\x00-\x7f]""")
# What Caffe reads, and protobuf for Python does not.
STRICT = re.compile(r"-\s")


@st.composite
def mutated(draw):
    """The seed with some of its pieces dropped, doubled, swapped or replaced."""
    pieces = list(PIECES)
    for _ in range(draw(st.integers(1, 4))):
        i, j = draw(st.integers(0, len(pieces) - 1)), draw(st.integers(0, len(pieces) - 1))
        change = draw(st.sampled_from(("drop", "double", "swap", "copy", "put")))
        if change == "drop":
            del pieces[i]
        elif change == "double":
            pieces.insert(i, pieces[i])
        elif change == "swap":
            pieces[i], pieces[j] = pieces[j], pieces[i]
        elif change == "copy":
            pieces[i] = pieces[j]
        else:
            pieces[i] = draw(st.text(max_size=3))
    return "".join(pieces)


@pytest.mark.filterwarnings("ignore::netcompiler.errors.NetWarning", "ignore:invalid escape:DeprecationWarning")
@settings(max_examples=600, derandomize=True, deadline=None, database=None)
@given(mutated())
def test_fuzz(text):
    """Success or NetError, as protobuf's reader says; never another exception."""
    try:
        theirs = text_format.Parse(text, schema.NetParameter())
    except (text_format.ParseError, ValueError):
        theirs = None
    try:
        ours = parse_message(text, file="n").raw
    except NetError as e:
        ours = None
        assert all(isinstance(f.at, Span) for f in e.all) and str(e)
    for read in (parse, parse_solver):
        try:
            read(text)
        except NetError as e:
            assert str(e)
    if theirs is not None and not LENIENT.search(text):
        assert ours is not None
    if ours is not None and not STRICT.search(text):
        assert theirs is not None
    if ours is not None and theirs is not None:
        assert ours.SerializeToString() == theirs.SerializeToString()


@settings(max_examples=300, derandomize=True, deadline=None, database=None)
@given(st.text(alphabet=st.sampled_from("{}<>[]:;,\"'\\#\n -+.0x19efan_$é\ud800\x00")))
def test_fuzz_of_marks(text):
    try:
        parse(text)
    except NetError as e:
        assert str(e)


# --- other people's nets ---


@pytest.mark.skipif(not CORPUS, reason="NETCOMPILER_CORPUS is not set")
def test_corpus_against_protobuf():
    """What protobuf reads we read, to equal messages; what it does not gives faults with a place."""
    with open(Path(CORPUS or "") / "INDEX.tsv", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert len(rows) > 1000
    for row in rows:
        kind = "SolverParameter" if row["kind"] == "solver" else "NetParameter"
        text = read_text(Path(CORPUS or "") / row["path"])
        try:
            theirs = text_format.Parse(text, schema.message(kind)())
        except text_format.ParseError:
            with pytest.raises(NetError) as caught:
                parse_message(text, kind=kind)
            assert all(isinstance(f.at, Span) for f in caught.value.all), row["path"]
        else:
            assert parse_message(text, kind=kind) == theirs, row["path"]


def test_speed():
    """A net of 1000 layers in well under a second: the walk is linear."""
    text = LAYER * 1000
    start = time.perf_counter()
    net(text)
    assert time.perf_counter() - start < 2


@pytest.mark.parametrize("twin", [copy.copy, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_keep_their_places(twin):
    net = parse_message('name: "n"\nlayer { name: "x" input_param { shape { dim: 2 } } }')
    for message in (net, net.layer[0], net.layer[0].input_param):
        other = twin(message)
        assert type(other) is Msg and other == message and other.marks == message.marks
    twin(net).layer[0].name = "y"
    assert net.layer[0].name == "x" and net.layer[0].at("name").line == 2
