"""Draw docs/pictures/ again, of nets of the model zoo: `python docs/pictures.py`. A test fails when they are stale."""

from pathlib import Path
from typing import Any

import netcompiler

HERE = Path(__file__).parent
TARGET = HERE / "pictures"
ZOO = HERE.parent / "model_zoo"
PICTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "resnet-50.svg": ("ResNet-50-deploy.prototxt", {}),
    "resnet-152.svg": ("ResNet-152-deploy.prototxt", {}),
    "resnet-50-train_val.svg": ("ResNet-50-train_val.prototxt", {"phase": "BOTH"}),
    "resnet-50-start.svg": ("ResNet-50-deploy.prototxt", {"outputs": ["res2c"]}),  # small enough to be read in a page
}


def picture(name: str) -> str:
    """The text of one picture."""
    net, options = PICTURES[name]
    if "outputs" in options:
        return netcompiler.draw(netcompiler.build(netcompiler.load(ZOO / net)).reaching(options["outputs"])).svg
    return netcompiler.draw(ZOO / net, **options).svg


if __name__ == "__main__":
    TARGET.mkdir(exist_ok=True)
    for name in PICTURES:
        (TARGET / name).write_text(picture(name), encoding="utf-8")
