"""Old generations of files -> today's: message -> message, idempotent.

What Caffe's own upgrade does: V0 (`layers { layer { } }`) to V1 (`layers { type: RELU }`) to V2 (`layer { type: "ReLU" }`),
`input` fields to an Input layer, BatchNorm's params to lr_mult 0, `solver_type` to `type`.
"""

from __future__ import annotations

import os

from .errors import NetError
from .text import Marks, Msg, parse_message, read_text


def parse(text: str, *, file: str = "<text>") -> Msg:
    """The net that a prototxt text defines, as a NetParameter in today's form.

    Raises: NetError with file:line:column for every unknown field, a syntax fault, or a bad value.

    >>> net = parse('layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 5 } } }')
    >>> net.layer[0].type, str(net.layer[0].at("top"))
    ('Input', '<text>:1:34')
    """
    return upgrade(parse_message(text, file=file))


def load(path: str | os.PathLike[str]) -> Msg:
    """The net that a prototxt file defines, as a NetParameter in today's form.

    Raises: NetError for a file that cannot be read or is none, and as `parse` does.
    """
    return parse(read_text(path), file=str(path))


def upgrade(msg: Msg) -> Msg:
    """The same net in today's form; the argument stays as it is."""
    net = msg.copy()
    if net.has("layers"):
        raise NetError("V1 files are not read yet", at=net.at("layers"))
    _inputs(net)
    return net


def _inputs(net: Msg) -> None:
    """`input` with `input_dim` or `input_shape` becomes an Input layer in front of the others.

    Source: Caffe, src/caffe/util/upgrade_proto.cpp, UpgradeNetInput.
    """
    if not net.has("input"):
        return
    names, old, marks = list(net.input), list(net.raw.layer), net.marks.fields.get("layer", [])
    shapes = [list(s.dim) for s in net.raw.input_shape]
    dims = list(net.raw.input_dim)
    if not shapes and dims:
        if len(dims) != 4 * len(names):
            expected = f"4 for each of the {len(names)} inputs"
            raise NetError("the wrong number of input_dim", at=net.at("input_dim"), expected=expected, got=len(dims))
        shapes = [dims[i : i + 4] for i in range(0, len(dims), 4)]
    if shapes and len(shapes) != len(names):
        raise NetError("input_shape needs one for each input", at=net.at("input_shape"), expected=len(names), got=len(shapes))
    first = type(net.raw)().layer.add(name="input", type="Input", top=names)
    for shape in shapes:
        first.input_param.shape.add(dim=shape)
    kept = [type(first).FromString(m.SerializeToString()) for m in old]
    del net.raw.layer[:]
    net.raw.layer.extend([first, *kept])
    at = net.marks.fields.pop("input", [])
    net.marks.fields["layer"] = [Marks(net.at("input_shape") if shapes else None, {"top": at}), *marks]
    for name in ("input", "input_dim", "input_shape"):
        net.raw.ClearField(name)
        net.marks.fields.pop(name, None)
