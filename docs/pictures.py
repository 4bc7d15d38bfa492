"""Draw docs/pictures/ again: python docs/pictures.py"""

from pathlib import Path
from typing import Any

import netcompiler

HERE = Path(__file__).parent
ZOO = HERE.parent / "model_zoo"
PICTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "resnet-50.svg": ("ResNet-50-deploy.prototxt", {}),
    "resnet-152.svg": ("ResNet-152-deploy.prototxt", {}),
    "resnet-50-train_val.svg": ("ResNet-50-train_val.prototxt", {"phase": "BOTH"}),
}


def picture(name: str) -> str:
    """The text of one picture."""
    net, options = PICTURES[name]
    return netcompiler.draw(ZOO / net, **options).svg


if __name__ == "__main__":
    for name in PICTURES:
        (HERE / "pictures" / name).write_text(picture(name))
