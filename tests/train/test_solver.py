"""The solver's loop: what it does when, test nets, freezing, fine-tuning, and what it refuses."""

import warnings

import numpy as np
import pytest
import torch

from netcompiler import NetError, NetWarning
from netcompiler.binary import write_caffemodel
from netcompiler.train.solver import Solver
from netcompiler.upgrade import parse, parse_solver

NET = """
name: "small"
layer { name: "in" type: "Input" top: "x" top: "label" input_param { shape { dim: 4 dim: 3 } shape { dim: 4 } } }
layer { name: "a" type: "InnerProduct" bottom: "x" top: "a" inner_product_param { num_output: 5
  weight_filler { type: "xavier" } } }
layer { name: "r" type: "ReLU" bottom: "a" top: "a" }
layer { name: "b" type: "InnerProduct" bottom: "a" top: "b" inner_product_param { num_output: 2
  weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "b" bottom: "label" top: "loss" include { phase: TRAIN } }
layer { name: "accuracy" type: "Accuracy" bottom: "b" bottom: "label" top: "accuracy" include { phase: TEST } }
layer { name: "scores" type: "Softmax" bottom: "b" top: "scores" include { phase: TEST stage: "scores" } }
"""


class Numbers:
    """A feed of random numbers by position: `netcompiler.train.solver.Feed` at its smallest."""

    def __init__(self, batch=4, start=0):
        self.batch, self.position, self.closed = batch, start, False
        self.shapes = {"x": (batch, 3), "label": (batch,)}

    def next(self):
        rng = np.random.default_rng(self.position)
        self.position += 1
        x = rng.normal(size=(self.batch, 3)).astype(np.float32)
        return {"x": x, "label": (x.sum(1) > 0).astype(np.float32)}

    def skip(self, batches):
        self.position += batches

    def state(self):
        return {"position": self.position}

    def restore(self, state):
        self.position = state["position"]

    def close(self):
        self.closed = True


def solver(text="", net=NET, **given):
    base = f"net_param {{ {net} }} base_lr: 0.1 lr_policy: 'fixed' random_seed: 5 "
    given = {"feeds": Numbers(), "device": "cpu", **given}
    return Solver(parse_solver(base + text), **given)


def told(s, **given):
    """What a run tells: kind and iteration of each event but the plain iterations."""
    events = []
    s.solve(events.append, **given)
    return [(e["kind"], e["iter"]) for e in events if e["kind"] != "iteration"], events


def test_loss_falls():
    s = solver()
    first = s.step()
    s.step(200)
    assert s.iter == 201 and s.step() < first / 2


def test_order_of_things(tmp_path, monkeypatch):
    """Caffe's: test, display, update, snapshot; at the end snapshot, display, test."""
    monkeypatch.chdir(tmp_path)
    text = "max_iter: 4 display: 2 test_iter: 2 test_interval: 2 snapshot: 3 snapshot_prefix: 'p'"
    order, events = told(solver(text, test_feeds=[Numbers()]))
    assert order == [
        ("start", 0),
        ("test", 0),
        ("display", 0),
        ("test", 2),
        ("display", 2),
        ("snapshot", 3),
        ("snapshot", 4),
        ("display", 4),
        ("test", 4),
        ("done", 4),
    ]
    display = next(e for e in events if e["kind"] == "display" and e["iter"] == 2)
    assert display["lr"] == pytest.approx(0.1) and display["images"] == 8 and display["seconds"] > 0
    assert set(display["outputs"]) == {"loss"} and display["loss_weights"] == {"loss": 1.0}
    test = next(e for e in events if e["kind"] == "test")
    assert 0 <= test["outputs"]["accuracy"] <= 1 and test["images"] == 8 and test["net"] == 0 and "loss" not in test
    assert sum(e["images"] for e in events if e["kind"] == "iteration") == 16


def test_without_tests_at_the_start(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = "max_iter: 2 test_initialization: false test_iter: 1 test_interval: 1 snapshot_after_train: false"
    order, _ = told(solver(text, test_feeds=[Numbers()]))
    assert order == [("start", 0), ("test", 1), ("test", 2), ("done", 2)]


def test_stop_and_snapshot_on_request(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    wishes = iter([None, "snapshot", None, "stop"])
    order, events = told(solver("max_iter: 9 snapshot_prefix: 'p'"), stop=lambda: next(wishes))
    assert order == [("start", 0), ("snapshot", 2), ("snapshot", 4), ("done", 4)] and events[-1]["stopped"]
    assert sorted(p.name for p in tmp_path.glob("p_iter_*.solverstate")) == [
        "p_iter_2.solverstate",
        "p_iter_4.solverstate",
    ]


def test_stop_in_a_test(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    wishes = iter([None, "stop"])
    text = "max_iter: 9 test_iter: 5 test_interval: 1 snapshot_prefix: 'p'"
    order, _ = told(solver(text, test_feeds=[Numbers()]), stop=lambda: next(wishes))
    assert order == [("start", 0), ("snapshot", 0), ("done", 0)]


def test_average_loss():
    s = solver("average_loss: 3")
    plain = solver()
    losses = [plain.step() for _ in range(7)]
    seen = [s.step() for _ in range(7)]
    assert seen == pytest.approx([np.mean(losses[max(0, i - 2) : i + 1]) for i in range(7)])


def test_iter_size_is_one_large_batch():
    class Halves(Numbers):
        """The batches of Numbers, in two parts each."""

        def __init__(self):
            super().__init__()
            self.shapes = {"x": (2, 3), "label": (2,)}
            self.rest = None

        def next(self):
            whole = {name: a[2:] for name, a in self.rest.items()} if self.rest else None
            if whole:
                self.rest = None
                return whole
            self.rest = super().next()
            return {name: a[:2] for name, a in self.rest.items()}

    text = "momentum: 0.9 weight_decay: 0.1 type: 'Nesterov'"
    whole, parts = solver(text), solver(text + " iter_size: 2", feeds=Halves())
    for _ in range(5):
        assert whole.step() == pytest.approx(parts.step(), rel=1e-5)
    for layer, blobs in whole.net.caffe_params().items():
        for a, b in zip(blobs, parts.net.caffe_params()[layer], strict=True):
            np.testing.assert_allclose(a, b, atol=1e-6)


def test_test_nets_use_the_arrays_in_training():
    s = solver("test_iter: 3 test_interval: 1000", test_feeds=[Numbers()])
    assert s.test_nets[0].a.weight is s.net.a.weight
    s.step(300)
    accuracy = s.test()["accuracy"]
    assert accuracy > 0.9
    assert s.test() != {}  # goes on with other batches


def test_several_test_nets_and_states():
    text = """test_iter: 2 test_iter: 1 test_interval: 1000 test_compute_loss: true
              test_state { } test_state { stage: "scores" } """
    with pytest.raises(NetError, match="no loss"):
        solver(text, test_feeds=[Numbers(), Numbers()]).test()
    s = solver(text.replace("test_compute_loss: true", ""), test_feeds=[Numbers(), Numbers()])
    assert set(s.test(0)) == {"accuracy"} and set(s.test(1)) == {"accuracy", "scores"}
    assert len(s.test(1)["scores"]) == 8
    with pytest.raises(NetError, match="no such test net"):
        s.test(2)


def test_a_wrong_label_names_the_layer():
    """Both in training and in a test, with the place in the file."""

    class Wrong(Numbers):
        def next(self):
            return {**super().next(), "label": np.full(4, 7, np.float32)}

    for given, layer in (
        ({"feeds": Wrong()}, '"loss" (SoftmaxWithLoss)'),
        ({"test_feeds": [Wrong()]}, '"accuracy" (Accuracy)'),
    ):
        s = solver("test_iter: 1 test_interval: 1", **{"test_feeds": [Numbers()], **given})
        with pytest.raises(NetError, match="label or index is out of range") as e:
            s.step()
        assert e.value.layer == layer and e.value.at.line > 1


def test_an_output_that_changes_its_shape_has_no_mean():
    class Growing(Numbers):
        def next(self):
            self.batch += 1
            return super().next()

    text = 'test_iter: 2 test_interval: 1000 test_state { stage: "scores" }'
    with pytest.raises(NetError, match='"scores" changes its shape') as e:
        solver(text, test_feeds=[Growing()]).test()
    assert e.value.got == "6 x 2 after 5 x 2"


def test_test_compute_loss():
    net = NET.replace(' top: "loss" include { phase: TRAIN }', ' top: "loss" loss_weight: 3')
    s = solver("test_iter: 2 test_interval: 1000 test_compute_loss: true", net=net, test_feeds=[Numbers()])
    events = []
    s._callback = events.append
    scores = s.test()
    assert events[-1]["loss"] == pytest.approx(3 * scores["loss"])


def test_statistics_are_shared_too():
    norm = 'layer { name: "n" type: "BatchNorm" bottom: "a" top: "a" }\nlayer { name: "r"'
    s = solver("test_iter: 1 test_interval: 1000", net=NET.replace('layer { name: "r"', norm), test_feeds=[Numbers()])
    s.step(3)
    mean = s.net.n.mean
    assert mean.abs().sum() > 0 and s.test_nets[0].n.mean.data_ptr() == mean.data_ptr()


def test_layers_of_the_test_net_alone_are_filled():
    own = """layer { name: "own" type: "InnerProduct" bottom: "b" top: "own" include { phase: TEST }
             inner_product_param { num_output: 2 weight_filler { type: "constant" value: 7 } } }"""
    s = solver("test_iter: 1 test_interval: 1000", net=NET + own, test_feeds=[Numbers()])
    assert float(s.test_nets[0].own.weight.detach()[0, 0]) == 7 and "own" not in s.net.caffe_params()


def test_frozen_layers_take_no_gradient():
    frozen = NET.replace(
        'top: "a" inner_product_param', 'top: "a" param { lr_mult: 0 } param { lr_mult: 0 } inner_product_param', 1
    )
    s = solver("momentum: 0.9 weight_decay: 0.1", net=frozen)
    before = s.net.caffe_params()
    s.step(3)
    after = s.net.caffe_params()
    assert all((x == y).all() for x, y in zip(before["a"], after["a"], strict=True))
    assert not (before["b"][0] == after["b"][0]).all()
    assert s.net.a.weight.grad is None and not s.net.a.weight.requires_grad
    watched = []
    s.net.b.register_forward_hook(lambda m, bottoms, tops: watched.append(bottoms[0].requires_grad))
    s.step()
    assert watched == [False]  # nothing flows back below the first layer that learns


def test_multipliers():
    """A rate of 0.1 with lr_mult 2 is one of 0.2; the same for decay."""
    param = 'top: "a" param { lr_mult: 2 decay_mult: 3 } param { lr_mult: 2 decay_mult: 0 } inner_product_param'
    s = solver("weight_decay: 0.5", net=NET.replace('top: "a" inner_product_param', param, 1))
    before = s.net.caffe_params()["a"]
    s.step()
    # the gradient is still there, with the decay added to it: 0.5 * 3 of the weights, none of the bias
    after, grads = s.net.caffe_params()["a"], s.net.caffe_grads()["a"]
    for x, y, g in zip(before, after, grads, strict=True):
        np.testing.assert_allclose(y, x - 0.2 * g, atol=1e-6)
    plain = solver("", net=NET)
    plain.step()
    np.testing.assert_allclose(grads[0] - plain.net.caffe_grads()["a"][0], 1.5 * before[0], atol=1e-6)
    np.testing.assert_allclose(grads[1], plain.net.caffe_grads()["a"][1], atol=1e-6)


def test_shared_params_are_learned_once():
    shared = NET.replace('bottom: "a" top: "b"', 'bottom: "c" top: "b"')
    shared = shared.replace(
        'layer { name: "r"',
        """layer { name: "c" type: "InnerProduct" bottom: "a" top: "c" param { name: "w" } param { name: "v" }
           inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
           layer { name: "d" type: "InnerProduct" bottom: "c" top: "d" param { name: "w" } param { name: "v" }
           inner_product_param { num_output: 5 } } layer { name: "r" """,
    ).replace('bottom: "c" top: "b"', 'bottom: "d" top: "b"')
    s = solver("", net=shared)
    assert len(s.learned) == 6  # of 8 blobs
    s.step(2)
    params = s.net.caffe_params()
    assert (params["c"][0] == params["d"][0]).all()


def test_fine_tuning_tells_which_layers_start_afresh(tmp_path):
    first = solver("")
    first.step()
    blobs = first.net.caffe_params()
    write_caffemodel(tmp_path / "w.caffemodel", parse(NET), {"a": blobs["a"]}, phase="TRAIN")
    with pytest.warns(NetWarning, match="start from their fillers: b"):
        second = solver("", weights=tmp_path / "w.caffemodel")
    assert (second.net.caffe_params()["a"][0] == blobs["a"][0]).all()
    write_caffemodel(tmp_path / "v.caffemodel", parse(NET), {"b": blobs["b"]}, phase="TRAIN")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        third = solver("", weights=f"{tmp_path}/w.caffemodel,{tmp_path}/v.caffemodel")
        fourth = solver(f'weights: "{tmp_path}/w.caffemodel,{tmp_path}/v.caffemodel"')
    for s in (third, fourth):
        assert (s.net.caffe_params()["b"][0] == blobs["b"][0]).all()


def test_same_seed_same_run():
    dropout = NET.replace(
        'layer { name: "r"', 'layer { name: "d" type: "Dropout" bottom: "a" top: "a" }\nlayer { name: "r"'
    )
    runs = []
    for seed, noise in ((5, 0), (5, 3), (6, 0)):
        s = solver("", net=dropout, seed=seed)
        for _ in range(4):
            torch.rand(noise)  # others may draw in between
            s.step()
        runs.append(s.net.caffe_params()["a"][0])
    assert (runs[0] == runs[1]).all() and not (runs[0] == runs[2]).all()


def test_draws_of_others_are_left_alone():
    torch.manual_seed(3)
    want = torch.rand(2)
    torch.manual_seed(3)
    solver("").step(2)
    assert torch.equal(torch.rand(2), want)


def test_called_before_the_update():
    seen = []
    s = solver("")
    s.before_update = lambda: seen.append(s.net.a.weight.grad.abs().sum().item())
    s.step(2)
    assert len(seen) == 2 and all(seen)


def test_bfloat16_keeps_float32_weights():
    s = solver("momentum: 0.9", dtype="bfloat16")
    tops = []
    s.net.a.register_forward_hook(lambda m, bottoms, top: tops.append(top.dtype))
    first = s.step()
    s.step(100)
    assert s.net.a.weight.dtype == torch.float32 and tops[0] == torch.bfloat16 and s.step() < first


def test_float64():
    s = solver("type: 'Adam' momentum: 0.9", dtype="float64")
    s.step(2)
    assert s.net.a.weight.dtype == torch.float64 and s.optimizer.history(s.learned)[0].dtype == torch.float64


def test_debug_info():
    events = []
    s = solver("debug_info: true display: 2")
    s._callback = events.append
    s.step(2)
    lines = [line for e in events if e["kind"] == "debug" for line in e["lines"]]
    for start in (
        "[Forward] Layer in, top blob x data: ",
        "[Forward] Layer in, top blob label data: ",
        "[Forward] Layer a, top blob a data: ",
        "[Forward] Layer b, param blob 1 data: ",
        "[Backward] Layer loss, bottom blob b diff: ",
        "[Backward] Layer b, bottom blob a diff: ",
        "[Backward] Layer a, param blob 0 diff: ",
        "[Backward] All net params (data, diff): ",
        "[Update] Layer a, param 0 data: ",
    ):
        assert sum(line.startswith(start) for line in lines) == 1, start
    back = [line for line in lines if line.startswith("[Backward] Layer")]
    assert back[0].startswith("[Backward] Layer loss") and back[-1].startswith("[Backward] Layer a")


def test_debug_info_does_not_change_the_run():
    ends = []
    for text in ("", "debug_info: true display: 1"):
        s = solver(text)
        s._callback = lambda event: None
        s.step(5)
        ends.append(s.net.caffe_params())
    assert all((x == y).all() for name in ends[0] for x, y in zip(ends[0][name], ends[1][name], strict=True))


BAD = [
    ({"text": "snapshot: 5"}, "snapshot needs a snapshot_prefix"),
    ({"text": "snapshot: 5 snapshot_prefix: '/nowhere/at/all'"}, "No such file or directory"),
    ({"text": "snapshot: 5 snapshot_prefix: 'nowhere/'"}, "No such file or directory"),
    ({"feeds": None}, "nothing feeds this input"),
    (
        {
            "feeds": None,
            "net": NET.replace('"Input"', '"MemoryData"').replace(
                "input_param { shape { dim: 4 dim: 3 } shape { dim: 4 } }",
                "memory_data_param { batch_size: 4 channels: 3 height: 1 width: 1 }",
            ),
        },
        "nothing feeds this input",
    ),
    ({"dtype": "float16"}, "no dtype to train in"),
    ({"net": NET[: NET.index('layer { name: "loss"')]}, "has no loss"),
    ({"text": "test_iter: 1 test_interval: 1", "test_feeds": []}, "the wrong number of test_feeds"),
    ({"weights": "/nowhere.caffemodel"}, "cannot be read"),
    ({"device": "nothing"}, "cannot be used"),
]


@pytest.mark.parametrize("given, fault", BAD, ids=[fault for _, fault in BAD])
def test_refused(given, fault):
    with pytest.raises(NetError, match=fault):
        solver(**given)


def test_solve_needs_max_iter_and_a_prefix():
    with pytest.raises(NetError, match="max_iter is missing"):
        solver("").solve()
    with pytest.raises(NetError, match="needs a snapshot_prefix"):
        solver("max_iter: 1").solve()
    with pytest.raises(NetError, match="needs a snapshot_prefix"):
        solver("").snapshot()


def test_only_rank_0_needs_a_place_for_snapshots():
    """Others may run on machines that do not have it."""
    s = solver("snapshot: 1 snapshot_prefix: '/nowhere/at/all' max_iter: 1", rank=1, ranks=2)
    s.solve()
    assert s.iter == 1


def test_feeds_are_closed():
    with solver("test_iter: 1 test_interval: 9", test_feeds=[Numbers()]) as s:
        feeds = [built.feed for built in (s._train, *s._tests)]
    assert all(feed.closed for feed in feeds)


def test_loss_that_is_nan_goes_on_as_in_caffe():
    s = solver("", overrides={"base_lr": "1e30"})
    s.step(5)
    assert np.isnan(s.step()) and s.iter == 6


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_as_cpu():
    ends = []
    for device in ("cpu", "cuda"):
        s = solver("momentum: 0.9 weight_decay: 0.01 clip_gradients: 0.5", device=device)
        ends.append((s.step(20), s.net.caffe_params()["a"][0]))
    assert ends[0][0] == pytest.approx(ends[1][0], rel=1e-3)
    np.testing.assert_allclose(ends[0][1], ends[1][1], atol=1e-3)
