"""The nets and data of the solvers' goldens, in a folder of the test's own."""

import shutil
from pathlib import Path

import pytest

HERE = Path(__file__).parents[1] / "golden" / "solvers"


@pytest.fixture
def golden_folder(tmp_path, monkeypatch):
    """The working directory, with net.prototxt, data.h5 and data.txt in it."""
    for name in ("net.prototxt", "data.h5", "data.txt"):
        shutil.copy(HERE / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path
