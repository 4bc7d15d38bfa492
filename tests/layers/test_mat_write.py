import numpy as np
import pytest

import netcompiler

INPUT = 'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }'
CASES = {
    "MatWrite": ('mat_write_param { prefix: "out/fc8" strip: 4 }', "out/fc8"),
    "PFMWriter": ('writer_param { folder: "out" prefix: "disp" scale: 2 }', "outdisp"),
    "FLOWriter": ('writer_param { file: "a.flo" }', "a.flo"),
    "IMGWriter": ("", "its file"),
    "FLOATWriter": ("", "its file"),
}


@pytest.mark.parametrize("kind", CASES)
def test_it_warns_and_writes_nothing(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fields, name = CASES[kind]
    msg = netcompiler.parse(f'{INPUT} layer {{ name: "w" type: "{kind}" bottom: "x" {fields} }}')
    with pytest.warns(netcompiler.NetWarning, match=rf"\({kind}\): {name} is not written; to have \"x\""):
        net = netcompiler.compile(msg, device="cpu", optimize=False)
    assert net(np.ones((2, 3))) == {}
    assert not list(tmp_path.iterdir())
