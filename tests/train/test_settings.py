"""Solver settings: what is honoured, what is refused and where."""

import warnings

import pytest

from netcompiler import NetError, NetWarning
from netcompiler.train.settings import load_settings

NET = 'layer { name: "x" type: "Input" top: "x" }'
LEAST = 'net: "n.prototxt" base_lr: 0.1 lr_policy: "fixed" max_iter: 9\n'


def read(text, folder, **overrides):
    (folder / "s.prototxt").write_text(text)
    return load_settings(folder / "s.prototxt", overrides)


def test_defaults_are_caffes(tmp_path):
    s = read(LEAST, tmp_path)
    assert (s.type, s.momentum, s.momentum2, s.rms_decay) == ("SGD", 0, pytest.approx(0.999), pytest.approx(0.99))
    assert (s.iter_size, s.average_loss, s.clip_gradients, s.regularization_type) == (1, 1, -1, "L2")
    assert (s.test_initialization, s.snapshot_after_train, s.snapshot_format) == (True, True, "BINARYPROTO")
    assert s.snapshot_prefix == str(tmp_path / "s") and s.random_seed == -1 and s.solver_mode == ""
    assert s.train.path == "n.prototxt" and s.train.phase == "TRAIN" and s.tests == ()


BAD = [  # text after LEAST, the fault, and the column where it is
    ("momentum: 0.9 type: 'AdaGrad'", "momentum has no use with the type AdaGrad", 1),
    ("type: 'RMSProp' momentum: 0.9", "momentum has no use with the type RMSProp", 17),
    ("momentum2: 0.9", "momentum2 has no use with the type SGD", 1),
    ("type: 'Adam' momentum: 0.9 rms_decay: 0.9", "rms_decay has no use with the type Adam", 28),
    ("delta: 0.1", "delta has no use with the type SGD", 1),
    ("type: 'sgd'", "no such type", 1),
    ("type: 'RMSProp' rms_decay: 1", "rms_decay is out of range", 17),
    ("type: 'RMSProp' rms_decay: -0.1", "rms_decay is out of range", 17),
    ("type: 'Adam' momentum: 1", "momentum is out of range", 14),
    ("type: 'Adam' momentum2: 1", "momentum2 is out of range", 14),
    ("type: 'AdaDelta' momentum: -0.5", "momentum is out of range", 18),
    ("momentum: inf", "momentum is out of range", 1),
    ("weight_decay: nan", "weight_decay is out of range", 1),
    ("clip_gradients: -inf", "clip_gradients is out of range", 1),
    ("regularization_type: 'L3'", "no such regularization_type", 1),
    ("iter_size: 0", "iter_size is out of range", 1),
    ("average_loss: 0", "average_loss is out of range", 1),
    ("display: -1", "display is out of range", 1),
    ("min_lr: 0.1", "min_lr is not supported here", 1),
    ("larc: true", "larc is not supported here", 1),
    ("warmup_iter: 5", "warmup_iter is not supported here", 1),
    ("test_iter: 3", "there is a test net, and no test_interval", 1),
    ("test_iter: 0 test_interval: 1", "test_iter is out of range", 1),
    ("test_net: 'a' test_net: 'b' test_iter: 1", "the wrong number of test_iter", 29),
    ("test_iter: 1 test_interval: 2 test_state { } test_state { }", "the wrong number of test_state", 31),
    ("train_net: 'a'", "the solver names several nets to train", 1),
    ("net_param { }", "the solver names several nets to train", 1),
]


@pytest.mark.parametrize("text, fault, column", BAD, ids=[text for text, _, _ in BAD])
def test_refused_with_its_place(text, fault, column, tmp_path):
    with pytest.raises(NetError) as e:
        read(LEAST + text, tmp_path)
    assert e.value.what == fault
    assert (e.value.at.line, e.value.at.column) == (2, column)


POLICIES = [
    ("lr_policy: 'step' gamma: 0.1", "the policy step needs stepsize"),
    ("lr_policy: 'step' gamma: 0.1 stepsize: 0", "stepsize is out of range"),
    ("lr_policy: 'inv' gamma: -1 power: 1", "gamma is out of range"),
    ("lr_policy: 'plateau'", "no such lr_policy"),
    ("lr_policy: 'Fixed'", "no such lr_policy"),
    ("", "no such lr_policy"),
    ("lr_policy: 'poly' power: 1", "the policy poly needs max_iter"),
]


@pytest.mark.parametrize("text, fault", POLICIES, ids=[text for text, _ in POLICIES])
def test_bad_policies(text, fault, tmp_path):
    with pytest.raises(NetError) as e:
        read(f'net: "n" base_lr: 0.1 {text}', tmp_path)
    assert fault in [f.what for f in e.value.all]


def test_all_faults_at_once(tmp_path):
    with pytest.raises(NetError) as e:
        read(LEAST + "min_lr: 0.1 larc: true iter_size: 0", tmp_path)
    assert len(e.value.all) == 3


def test_missing(tmp_path):
    with pytest.raises(NetError) as e:
        read('lr_policy: "fixed"', tmp_path)
    assert [f.what for f in e.value.all] == ["base_lr is missing", "the solver names no net to train"]


def test_misspelt_field(tmp_path):
    with pytest.raises(NetError) as e:
        read(LEAST + "momentun: 0.9", tmp_path)
    assert e.value.at.line == 2 and "momentum" in str(e.value)


def test_leftovers_of_another_policy_are_told(tmp_path):
    with pytest.warns(NetWarning, match="s.prototxt:2:1: stepsize has no effect with lr_policy fixed"):
        read(LEAST + "stepsize: 10", tmp_path)


def test_default_of_a_refused_field_is_taken(tmp_path):
    assert read(LEAST + "snapshot_diff: false layer_wise_reduce: false min_lr: 0", tmp_path).max_iter == 9


def test_legacy_solver_type(tmp_path):
    assert read(LEAST + "solver_type: NESTEROV momentum: 0.5", tmp_path).type == "Nesterov"
    with pytest.raises(NetError, match="both given"):
        read(LEAST + "solver_type: ADAM type: 'SGD'", tmp_path)
    assert read(LEAST + "solver_type: ADAM", tmp_path, type="SGD").type == "SGD"


def test_overrides(tmp_path):
    s = read(LEAST + "stepvalue: 3", tmp_path, base_lr="0.5", lr_policy="multistep", stepvalue="4, 7", gamma="0.1")
    assert (s.base_lr, s.lr_policy, s.stepvalue) == (0.5, "multistep", (4, 7))
    assert read(LEAST, tmp_path, train_net="other.prototxt").train.path == "other.prototxt"
    bad = {"bas_lr": "1", "net_param": "{}", "base_lr": "much", "max_iter": "3 base_lr: 7", "weight_decay": "nan",
           "train_state.stages": "a", "test_state.level": "1", "train_state.level": "1 } base_lr: 7 train_state { level: 1",
           "train_state.phase": "BOTH", "train_state": "{}", ".level": "1"}  # fmt: skip
    for name, value in bad.items():
        with pytest.raises(NetError) as e:
            read(LEAST, tmp_path, **{name: value})
        assert "--set" in str(e.value)


def test_overrides_of_the_state(tmp_path):
    """What is not named stays as it is."""
    s = read(LEAST, tmp_path, **{"train_state.stage": "a, b"})
    assert list(s.train.state.stage) == ["a", "b"] and not s.train.state.has("level")
    text = LEAST + 'train_state { stage: "x" level: 3 }'
    s = read(text, tmp_path, **{"train_state.stage": "y", "train_state.phase": "TEST"})
    assert list(s.train.state.stage) == ["y"] and (s.train.state.level, s.train.state.enum("phase")) == (3, "TEST")
    assert list(read(text, tmp_path).train.state.stage) == ["x"]


def test_test_nets_in_caffes_order(tmp_path):
    text = (
        'net_param { name: "both" } base_lr: 1 lr_policy: "fixed" test_interval: 5\n'
        'test_net: "file" test_net_param { name: "own" } test_iter: 1 test_iter: 2 test_iter: 3 test_iter: 4\n'
        'test_state { } test_state { } test_state { stage: "a" } test_state { level: 3 }'
    )
    s = read(text, tmp_path)
    assert [t.msg.name if t.msg else t.path for t in s.tests] == ["own", "file", "both", "both"]
    assert s.test_iter == (1, 2, 3, 4) and list(s.tests[2].state.stage) == ["a"]


def test_states_of_solver_and_net_meet(tmp_path):
    net = 'state { level: 2 stage: "n" }' + NET
    text = f"""base_lr: 1 lr_policy: "fixed" test_interval: 1 test_iter: 1 net_param {{ {net} }}
               train_state {{ stage: "t" }} test_state {{ level: 5 phase: TRAIN }}"""
    s = read(text, tmp_path)
    msg, *state = s.train.load(tmp_path)
    assert state == ["TRAIN", 2, ("n", "t")] and not msg.raw.HasField("state")
    assert s.tests[0].load(tmp_path)[1:] == ("TRAIN", 5, ("n",))


def test_snapshot_prefix(tmp_path):
    assert read(LEAST + "snapshot_prefix: 'a/b'", tmp_path).snapshot_prefix == "a/b"
    assert read(LEAST + f"snapshot_prefix: '{tmp_path}'", tmp_path).snapshot_prefix == str(tmp_path / "s")


def test_net_is_found_beside_the_solver(tmp_path, monkeypatch):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "n.prototxt").write_text(NET)
    s = read(LEAST, tmp_path / "sub")
    monkeypatch.chdir(tmp_path)
    assert len(s.train.load(s.folder)[0].layer) == 1


def test_no_warning_for_plain_settings(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read(LEAST + "type: 'AdaGrad' momentum: 0", tmp_path)
