"""Write the prototxts of this folder: `python model_zoo/generate.py`, from the functions of `netcompiler.zoo`."""

from __future__ import annotations

from pathlib import Path

from netcompiler import zoo

HEAD = "# He et al., CVPR 2016. Written by model_zoo/generate.py: change netcompiler/zoo/resnet.py and run it again.\n"
STEP = "# A step sees iter_size x batch_size = 8 x 32 = 256 images. On 8 GPUs, set iter_size to 1.\n"


def texts() -> dict[str, str]:
    """Every file: its name and what it holds."""
    return {
        name: HEAD + (STEP if name.endswith("-solver.prototxt") else "") + str(msg) for name, msg in zoo.files().items()
    }


if __name__ == "__main__":
    for name, text in texts().items():
        Path(__file__).with_name(name).write_text(text, encoding="utf-8", newline="\n")
        print(name)
