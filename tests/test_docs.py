"""The printed pages are up to date."""

import runpy
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"


def test_table_of_layers():
    page = runpy.run_path(str(DOCS / "layers.py"))
    assert page["TARGET"].read_text() == page["table"](), "run python docs/layers.py"
