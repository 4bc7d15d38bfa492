"""Split insertion: message in, message out. Each result, done again, is itself."""

import os
from pathlib import Path

import pytest

from netcompiler import NetError
from netcompiler.splits import insert_splits, without_splits
from netcompiler.text import parse_message

CORPUS = os.environ.get("NETCOMPILER_CORPUS")
PAIRS = sorted(Path(CORPUS, "nets", "bvlc_unit_pairs").glob("split_insert__*input_proto.prototxt")) if CORPUS else []


def check(text, want):
    net = parse_message(text)
    before = str(net)
    got = insert_splits(net)
    assert str(got) == str(parse_message(want))
    assert insert_splits(got) == got
    assert str(net) == before
    if "Split" not in text:
        back = without_splits(got)
        assert "Split" not in str(back) and without_splits(back) == back
        assert insert_splits(back) == got


@pytest.mark.skipif(not PAIRS, reason="NETCOMPILER_CORPUS is not set")
@pytest.mark.parametrize("path", PAIRS, ids=lambda p: p.name.split("__")[1])
def test_pairs_of_caffes_own_tests(path):
    want = Path(str(path).replace("input_proto", "expected_output_proto"))
    check(path.read_text(), (want if want.exists() else path).read_text())


def test_two_readers():
    check(
        """
        layer { name: "in" type: "Input" top: "x" top: "y" }
        layer { name: "a" type: "ReLU" bottom: "y" top: "a" }
        layer { name: "b" type: "Eltwise" bottom: "y" bottom: "x" bottom: "y" top: "b" }
        """,
        """
        layer { name: "in" type: "Input" top: "x" top: "y" }
        layer { name: "y_in_1_split" type: "Split" bottom: "y"
                top: "y_in_1_split_0" top: "y_in_1_split_1" top: "y_in_1_split_2" }
        layer { name: "a" type: "ReLU" bottom: "y_in_1_split_0" top: "a" }
        layer { name: "b" type: "Eltwise" bottom: "y_in_1_split_1" bottom: "x" bottom: "y_in_1_split_2" top: "b" }
        """,
    )


def test_an_in_place_layer_is_one_reader_and_makes_a_new_top():
    check(
        """
        layer { name: "in" type: "Input" top: "x" }
        layer { name: "r" type: "ReLU" bottom: "x" top: "x" }
        layer { name: "a" type: "ReLU" bottom: "x" top: "a" }
        layer { name: "b" type: "ReLU" bottom: "x" top: "b" }
        """,
        """
        layer { name: "in" type: "Input" top: "x" }
        layer { name: "r" type: "ReLU" bottom: "x" top: "x" }
        layer { name: "x_r_0_split" type: "Split" bottom: "x" top: "x_r_0_split_0" top: "x_r_0_split_1" }
        layer { name: "a" type: "ReLU" bottom: "x_r_0_split_0" top: "a" }
        layer { name: "b" type: "ReLU" bottom: "x_r_0_split_1" top: "b" }
        """,
    )


def test_a_loss_that_is_read_gives_its_weight_to_the_split():
    check(
        """
        layer { name: "in" type: "Input" top: "x" }
        layer { name: "l" type: "Loss" bottom: "x" top: "l" top: "m" loss_weight: 0.5 loss_weight: 2 }
        layer { name: "s" type: "Silence" bottom: "l" }
        """,
        """
        layer { name: "in" type: "Input" top: "x" }
        layer { name: "l" type: "Loss" bottom: "x" top: "l" top: "m" }
        layer { name: "l_l_0_split" type: "Split" bottom: "l" top: "l_l_0_split_0" top: "l_l_0_split_1"
                loss_weight: 0.5 loss_weight: 0 }
        layer { name: "s" type: "Silence" bottom: "l_l_0_split_1" }
        """,
    )


def test_net_inputs():
    check(
        """
        input: "x" input_dim: 1 input_dim: 1 input_dim: 1 input_dim: 1
        layer { name: "a" type: "ReLU" bottom: "x" top: "a" }
        layer { name: "b" type: "ReLU" bottom: "x" top: "b" }
        """,
        """
        input: "x" input_dim: 1 input_dim: 1 input_dim: 1 input_dim: 1
        layer { name: "x_input_0_split" type: "Split" bottom: "x" top: "x_input_0_split_0" top: "x_input_0_split_1" }
        layer { name: "a" type: "ReLU" bottom: "x_input_0_split_0" top: "a" }
        layer { name: "b" type: "ReLU" bottom: "x_input_0_split_1" top: "b" }
        """,
    )


def test_places_follow_their_layers():
    text = 'layer { name: "in" type: "Input" top: "x" }\n'
    text += (
        'layer { name: "a" type: "ReLU" bottom: "x" top: "a" }\nlayer { name: "b" type: "ReLU" bottom: "x" top: "b" }'
    )
    net = insert_splits(parse_message(text, file="n"))
    assert [str(m.at()) for m in net.layer] == ["n:1:1", "n:1:1", "n:2:1", "n:3:1"]
    assert str(net.layer[3].at("bottom")) == "n:3:32"


def test_an_unknown_bottom():
    with pytest.raises(NetError, match='unknown bottom "y"') as e:
        insert_splits(parse_message('layer { name: "a" type: "ReLU" bottom: "y" }'))
    assert str(e.value.at) == "<text>:1:32"


def test_a_net_without_its_splits():
    net = parse_message("""
        layer { name: "in" type: "Input" top: "x" }
        layer { name: "s" type: "Slice" bottom: "x" top: "a" top: "b" loss_weight: 0 loss_weight: 2 }
        layer { name: "e" type: "Eltwise" bottom: "x" bottom: "b" top: "e" }
    """)
    assert str(without_splits(insert_splits(net))) == str(net)


def test_splits_that_stay():
    """One that a net has by itself, and one whose bottom is overwritten before its readers come."""
    texts = (
        """
        layer { name: "in" type: "Input" top: "x" }
        layer { name: "mine" type: "Split" bottom: "x" top: "a" top: "b" }
        layer { name: "r" type: "ReLU" bottom: "a" top: "c" }
        """,
        """
        layer { name: "in" type: "Input" top: "x" }
        layer { name: "x_in_0_split" type: "Split" bottom: "x" top: "x_in_0_split_0" top: "x_in_0_split_1" }
        layer { name: "r" type: "ReLU" bottom: "x_in_0_split_0" top: "x" }
        layer { name: "s" type: "ReLU" bottom: "x_in_0_split_1" top: "s" }
        """,
    )
    for text in texts:
        assert without_splits(parse_message(text)) == parse_message(text)


def test_splits_of_old_files():
    """Caffe of 2013 left the first of a split's tops its old name."""
    text = """
        layer { name: "in" type: "Input" top: "x" }
        layer { name: "x_split" type: "Split" bottom: "x" top: "x" top: "x_split_1" }
        layer { name: "a" type: "ReLU" bottom: "x" top: "a" }
        layer { name: "b" type: "ReLU" bottom: "x_split_1" top: "b" }
    """
    assert [list(m.bottom) for m in without_splits(parse_message(text)).layer] == [[], ["x"], ["x"]]
