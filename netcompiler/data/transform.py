"""TransformationParameter: crop, mirror, subtract the mean, scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import NetError
from ..graph import Array, Shape, dims
from ..layers.data import forced_color
from ..text import Msg
from .draws import Numbers, below, key_of, numbers
from .source import Setting, settings

FORCED = ("force_color", "force_gray")  # of encoded records only
_KNOWN = ("scale", "mirror", "crop_size", "mean_file", "mean_value", *FORCED, "crop_h", "crop_w")
# Of NVCaffe, without effect on the numbers.
_IDLE = ("use_gpu_transform", "forward_packing", "display", "num_labels", "random_seed")
_DRAWS = 3  # numbers for each record: the crop's row and column, and whether it is mirrored
_EACH = np.arange(_DRAWS, dtype=np.uint64)


class Transform:
    """(record - mean) * scale over a part of the record, which may be mirrored.

    The part is cut out at a random place in TRAIN, in the centre in TEST. A mean image has the record's own shape, and is
    cut like it.
    Source: Caffe, src/caffe/data_transformer.cpp.
    """

    def __init__(self, msg: Msg, index: int, setting: Setting) -> None:
        t = settings(msg, "transform_param", _KNOWN, _IDLE)
        self.scale = np.float32(t.scale)
        self.mirror = bool(t.mirror)
        self.crop = (int(t.crop_h or t.crop_size), int(t.crop_w or t.crop_size))
        if (self.crop[0] == 0) != (self.crop[1] == 0):
            name = "crop_h" if self.crop[0] else "crop_w"
            raise NetError("crop_h and crop_w go together", at=t.at(name), expected="both or none")
        self.random = setting.train and any(self.crop)
        self.color = forced_color(t)
        self.index = index
        self.at_crop, self.at_mean = t.at("crop_h" if t.crop_h else "crop_size"), t.at("mean_value")
        self.mean: Array | None = None
        self.mean_values: Array | None = None
        self.mean_file = ""
        if t.has("mean_file") and len(t.mean_value):
            raise NetError("mean_file and mean_value are both given", at=t.at("mean_value"), hint="keep one of the two")
        if t.has("mean_file"):
            self.mean_file, self.at_mean = setting.find(str(t.mean_file)), t.at("mean_file")
            self.mean = read_mean(self.mean_file)
        elif len(t.mean_value):
            self.mean_values = np.array(list(t.mean_value), np.float32).reshape(-1, 1, 1)
        self.seed(setting.seed)

    def seed(self, seed: int) -> None:
        self.key = key_of(seed, self.index, 1)

    def draws(self, positions: Sequence[int]) -> Numbers | None:
        """The random numbers for the records at these positions; None where nothing is drawn."""
        if not (self.mirror or self.random):
            return None
        places: Numbers = np.add.outer(np.asarray(positions, np.uint64) * np.uint64(_DRAWS), _EACH)
        return numbers(self.key, places)

    def shape(self, record: Shape, name: str) -> Shape:
        """The shape that a record of C x H x W becomes, by its name. Raises: NetError when crop or mean do not fit it."""
        c, *image = record
        if self.crop[0] and (image[0] < self.crop[0] or image[1] < self.crop[1]):
            expected, got = f"at least {dims(self.crop)}", f"{dims(tuple(image))} in {name}"
            raise NetError("the crop is larger than the picture", at=self.at_crop, expected=expected, got=got)
        if self.mean is not None and self.mean.shape != record:
            expected, got = f"{dims(record)}, as {name}", f"{dims(self.mean.shape)} in {self.mean_file}"
            raise NetError("the mean has another shape than the records", at=self.at_mean, expected=expected, got=got)
        if self.mean_values is not None and len(self.mean_values) not in (1, c):
            expected, got = "1" if c == 1 else f"1 or {c}, the channels", str(len(self.mean_values))
            raise NetError("the wrong number of mean_values", at=self.at_mean, expected=expected, got=got)
        return (c, *self.crop) if self.crop[0] else record

    def __call__(self, record: NDArray[Any], drawn: Numbers | None, out: Array) -> None:
        """Fill `out`, which has the shape that `shape` told of the record."""
        mean = self.mean if self.mean is not None else self.mean_values
        _, height, width = out.shape
        if self.crop[0]:
            rows, columns = record.shape[1] - height, record.shape[2] - width
            if self.random and drawn is not None:
                y, x = below(int(drawn[0]), rows + 1), below(int(drawn[1]), columns + 1)
            else:
                y, x = rows // 2, columns // 2
            record = record[:, y : y + height, x : x + width]
            if self.mean is not None:
                mean = self.mean[:, y : y + height, x : x + width]
        if self.mirror and drawn is not None and below(int(drawn[2]), 2):
            out = out[:, :, ::-1]
        if mean is not None:
            np.subtract(record, mean, out=out, dtype=np.float32)
            if self.scale != 1:
                out *= self.scale
        elif self.scale != 1:
            np.multiply(record, self.scale, out=out, dtype=np.float32)
        else:
            out[...] = record


def read_mean(path: str) -> Array:
    """A mean image, C x H x W. Raises: NetError for what is none."""
    from ..binary import read_blobproto

    mean = np.asarray(read_blobproto(path), np.float32)
    if mean.ndim != 3:
        raise NetError("a mean image is C x H x W", at=path, got=dims(mean.shape))
    return mean
