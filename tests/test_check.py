"""`netcompile check`: verdicts, places, and totals that count what is not known."""

import json

import pytest

from netcompiler.cli import main

GOOD = 'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 3 dim: 5 dim: 7 } } }\n'
RELU = 'layer { name: "r" type: "ReLU" bottom: "x" top: "y" }\n'
DATA = 'layer { name: "d" type: "Data" top: "x" top: "label" include { phase: TRAIN } }\n'
FORK = 'layer { name: "p" type: "Wizardry" bottom: "x" top: "y" permute_parameter { order: 0 } }\n'


@pytest.fixture
def run(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def go(files, *options):
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(text)
        code = main(["check", *(options or ["."])])
        return code, *capsys.readouterr()

    return go


def verdict(run, text, *options):
    code, out, _ = run({"net.prototxt": text}, "net.prototxt", "--json", *options)
    (file,) = json.loads(out)["files"]
    assert code == (2 if file["result"] == "refused" else 0)
    return file


VERDICTS = [
    ("builds", GOOD + RELU, "builds", {}),
    (
        "one phase",
        GOOD.replace('top: "x"', 'top: "x" include { phase: TEST }') + RELU,
        "builds",
        {"what": 'unknown bottom "x"'},
    ),
    ("shapes", DATA.replace("include { phase: TRAIN }", "") + RELU, "shapes needed", {"line": 1}),
    ("layer", GOOD + RELU.replace("ReLU", "Wizardry"), "refused", {"what": 'unknown layer type "Wizardry"', "line": 2}),
    ("field", GOOD + FORK, "refused", {"what": 'LayerParameter has no field "permute_parameter"', "line": 2}),
    ("solver", 'net: "net.prototxt" base_lr: 0.1 lr_policy: "fixed"', "solver", {}),
    (
        "bad solver",
        'net: "net.prototxt" base_ir: 0.1 lr_policy: "fixed"',
        "refused",
        {"hint": 'did you mean "base_lr"?'},
    ),
    ("syntax", GOOD + "layer {", "refused", {"line": 2, "column": 7}),
    ("empty", "", "refused", {"what": "the file is empty"}),
]


@pytest.mark.parametrize(("text", "result", "fault"), [v[1:] for v in VERDICTS], ids=[v[0] for v in VERDICTS])
def test_verdict(run, text, result, fault):
    file = verdict(run, text)
    assert file["result"] == result
    if fault:
        assert fault.items() <= file["faults"][0].items()
    else:
        assert file["faults"] == []


def test_given_shapes_are_used_where_they_fit(run):
    text = DATA.replace("include { phase: TRAIN }", "") + RELU
    assert verdict(run, text, "--input", "x=2,3,5,7", "--input", "other=1,2")["result"] == "builds"


def test_given_shapes_are_for_inputs_of_the_phase(run):
    text = GOOD.replace('top: "x"', 'top: "x" include { phase: TRAIN }') + GOOD.replace(
        'top: "x"', 'top: "z" include { phase: TEST }'
    )
    for option in ("x=2,3,5,7", "z=2,3,5,7", "y=1,2"):
        file = verdict(run, text, "--input", option)
        assert (file["phases"], file["faults"]) == ({"TEST": "builds", "TRAIN": "builds"}, [])
    assert verdict(run, GOOD + RELU, "--input", "y=1,2")["result"] == "builds"


def test_left_out_layers_are_named(run):
    fault = verdict(run, DATA + RELU, "--phase", "TEST")["faults"][0]
    assert fault["hint"].startswith('"d" (Data) makes it, but its rules leave it out here')


def test_totals_count_every_file(run):
    old = 'input: "x" input_dim: 1 input_dim: 3 input_dim: 5 input_dim: 7 layers { name: "r" type: RELU bottom: "x" top: "y" }'
    files = {
        "a/good.prototxt": GOOD + RELU,
        "b/fork.prototxt": GOOD + RELU + FORK,
        "b/old.prototxt": old,
        "c.txt": "no",
    }
    code, out, err = run(files)
    assert code == 2 and err == ""
    assert "3 files: 2 builds, 1 refused" in out
    table = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line.startswith(("ReLU", "Wizardry"))}
    assert table == {"ReLU": ["3", "3"], "Wizardry": ["1", "1", "unknown"]}
    assert '    3:57: LayerParameter has no field "permute_parameter"' in out


def test_nothing_to_check(run):
    code, _, err = run({}, ".")
    assert code == 2 and "no prototxt found" in err
