"""Old generations of files -> today's: message -> message, idempotent, every field with its place in the old text.

What Caffe's own upgrade does, in its order: V0 (`layers { layer { type: "relu" } }`) to V1 (`layers { type: RELU }`) to
V2 (`layer { type: "ReLU" }`), `input` fields to an Input layer, BatchNorm's params to lr_mult 0; solver_type to type.
What it drops with a line in its log is told as a NetWarning, what it aborts at is a NetError.
Source: Caffe, src/caffe/util/upgrade_proto.cpp.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable

from . import schema
from .errors import NetError, NetWarning, Span, nearest
from .text import Marks, Msg, parse_message, read_text


def parse(text: str, *, file: str = "<text>", unknown: str = "refuse") -> Msg:
    """The net that a prototxt text defines, as a NetParameter in today's form.

    unknown: "refuse" fields that no fork has, or "keep" them: a NetWarning tells of each, nothing heeds them, and a
    prototxt that is written from the net has them.
    Raises: NetError with file:line:column for every unknown field, a syntax fault, or a bad value.

    >>> net = parse('layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 5 } } }')
    >>> net.layer[0].type, str(net.layer[0].at("top"))
    ('Input', '<text>:1:34')
    """
    return upgrade(parse_message(text, file=file, unknown=unknown))


def load(path: str | os.PathLike[str], *, unknown: str = "refuse") -> Msg:
    """The net that a prototxt file defines, as a NetParameter in today's form.

    unknown: what to do about fields that no fork has, as for `parse`.
    Raises: NetError for a file that cannot be read or is none, and as `parse` does.
    """
    return parse(read_text(path), file=str(path), unknown=unknown)


def parse_solver(text: str, *, file: str = "<text>", unknown: str = "refuse") -> Msg:
    """The settings in a solver's prototxt, as a SolverParameter in today's form.

    unknown: what to do about fields that no fork has, as for `parse`.
    Raises: NetError as `parse` does.

    >>> parse_solver('base_lr: 0.01 solver_type: ADAGRAD').type
    'AdaGrad'
    """
    return upgrade_solver(parse_message(text, kind="SolverParameter", file=file, unknown=unknown))


def load_solver(path: str | os.PathLike[str], *, unknown: str = "refuse") -> Msg:
    """The settings in a solver's prototxt file, as a SolverParameter in today's form.

    unknown: what to do about fields that no fork has, as for `parse`.
    Raises: NetError as `load` does.
    """
    return parse_solver(read_text(path), file=str(path), unknown=unknown)


def upgrade(msg: Msg) -> Msg:
    """The same net in today's form; the argument stays as it is.

    >>> print(upgrade(parse_message('layers { type: CONVOLUTION name: "c" blobs_lr: 2 convolution_param { pad: 1 } }')))
    layer {
      name: "c"
      type: "Convolution"
      param { lr_mult: 2 }
      convolution_param { pad: 1 }
    }
    <BLANKLINE>
    """
    net = Msg.of(msg).copy()
    if any(layer.HasField("layer") for layer in net.raw.layers):
        net = _v0_to_v1(net)
    _move_transforms(net)
    if net.has("layers"):
        _v1_to_v2(net)
    _move_inputs(net)
    _fix_batch_norms(net)
    return net


def upgrade_solver(msg: Msg) -> Msg:
    """The same solver in today's form, the nets that it holds upgraded too; the argument stays as it is."""
    solver = Msg.of(msg).copy()
    if solver.has("solver_type"):
        at, name = solver.at("solver_type"), solver.enum("solver_type")
        if solver.has("type"):
            raise NetError("type and solver_type are both given", at=at, hint="keep type: solver_type is its old form")
        if name not in SOLVER_TYPES:
            raise NetError("Caffe has no such solver", at=at, expected=f"one of {', '.join(SOLVER_TYPES)}", got=name)
        solver.raw.type = SOLVER_TYPES[name]
        _move_marks(solver, "solver_type", solver, "type")
        _drop(solver, "solver_type")
    for name in ("train_net_param", "net_param", "test_net_param"):
        held = getattr(solver, name) if solver.has(name) else ()
        for net in [held] if isinstance(held, Msg) else held:
            new = upgrade(net)
            net.raw.CopyFrom(new.raw)
            net.marks.fields = new.marks.fields
    return solver


SOLVER_TYPES = {
    "SGD": "SGD",
    "NESTEROV": "Nesterov",
    "ADAGRAD": "AdaGrad",
    "RMSPROP": "RMSProp",
    "ADADELTA": "AdaDelta",
    "ADAM": "Adam",
}

# --- V0 to V1 ---

# V0's types: V1's type, the message that takes their settings, and which fields of V0LayerParameter go there.
_V0_TYPES = {
    "accuracy": ("ACCURACY", "", ""),
    "bnll": ("BNLL", "", ""),
    "concat": ("CONCAT", "concat_param", "concat_dim"),
    "conv": (
        "CONVOLUTION",
        "convolution_param",
        "num_output biasterm weight_filler bias_filler pad kernelsize group stride",
    ),
    "data": ("DATA", "data_param", "source batchsize rand_skip"),
    "dropout": ("DROPOUT", "dropout_param", "dropout_ratio"),
    "euclidean_loss": ("EUCLIDEAN_LOSS", "", ""),
    "flatten": ("FLATTEN", "", ""),
    "hdf5_data": ("HDF5_DATA", "hdf5_data_param", "source batchsize"),
    "hdf5_output": ("HDF5_OUTPUT", "", "hdf5_output_param"),
    "im2col": ("IM2COL", "", ""),
    "images": ("IMAGE_DATA", "image_data_param", "source batchsize rand_skip shuffle_images new_height new_width"),
    "infogain_loss": ("INFOGAIN_LOSS", "infogain_loss_param", "source"),
    "innerproduct": ("INNER_PRODUCT", "inner_product_param", "num_output biasterm weight_filler bias_filler"),
    "lrn": ("LRN", "lrn_param", "local_size alpha beta k"),
    "multinomial_logistic_loss": ("MULTINOMIAL_LOGISTIC_LOSS", "", ""),
    "pool": ("POOLING", "pooling_param", "pool pad kernelsize stride"),
    "relu": ("RELU", "", ""),
    "sigmoid": ("SIGMOID", "", ""),
    "softmax": ("SOFTMAX", "", ""),
    "softmax_loss": ("SOFTMAX_LOSS", "", ""),
    "split": ("SPLIT", "", ""),
    "tanh": ("TANH", "", ""),
    "window_data": (
        "WINDOW_DATA",
        "window_data_param",
        "source batchsize det_fg_threshold det_bg_threshold det_fg_fraction det_context_pad det_crop_mode",
    ),
}
_V0_TRANSFORMS = {"scale": "scale", "meanfile": "mean_file", "cropsize": "crop_size", "mirror": "mirror"}  # any type
_V0_RENAMED = {
    "biasterm": "bias_term",
    "kernelsize": "kernel_size",
    "batchsize": "batch_size",
    "shuffle_images": "shuffle",
    "det_fg_threshold": "fg_threshold",
    "det_bg_threshold": "bg_threshold",
    "det_fg_fraction": "fg_fraction",
    "det_context_pad": "context_pad",
    "det_crop_mode": "crop_mode",
}


def _v0_to_v1(old: Msg) -> Msg:
    """Every `layers { layer { } }` as `layers { }`, padding layers folded into what reads them."""
    net = Msg(schema.NetParameter(), Marks(old.at()))
    _give_all(old, net, ("name", "input", "input_dim", "force_backward"), "V0 nets have no such field")
    _keep(old, net)
    for layer in _without_padding(old):
        _v0_layer(layer, _add(net, "layers", layer.at()))
    return net


def _without_padding(net: Msg) -> list[Msg]:
    """The layers of a V0 net but for those of type "padding", whose pad goes to the conv or pool that reads them.

    As in Caffe, a pad that the reader itself has is lost.
    """
    makers: dict[str, Msg | None] = dict.fromkeys(net.raw.input)
    kept = []
    for layer in net.layers:
        if not layer.has("layer"):
            hint = "put the settings of this layer into layer { } as well, or of none"
            raise NetError("a layer of the V1 form in a net of the V0 form", at=layer.at(), hint=hint)
        kind = layer.layer.type
        if kind != "padding":
            kept.append(layer)
        for i, blob in enumerate(layer.raw.bottom):
            if blob not in makers:
                raise NetError(
                    f'unknown bottom "{blob}"', at=layer.at("bottom", i), layer=_title(layer), hint=_like(blob, makers)
                )
            source = makers[blob]
            if source is None or source.layer.type != "padding":
                continue
            if kind not in ("conv", "pool"):
                expected, at = 'a reader of type "conv" or "pool"', layer.at("bottom", i)
                raise NetError(
                    "a padding layer cannot be read here", at=at, layer=_title(layer), expected=expected, got=kind
                )
            for one, name in ((layer, "bottom"), (source, "bottom"), (source, "top")):
                count = len(getattr(one.raw, name))
                if count != 1:
                    what = f"padding takes one {name}"
                    raise NetError(what, at=one.at(name, 1), layer=_title(one), expected=1, got=count)
            if layer.layer.has("pad"):
                _warn(
                    layer.layer.at("pad"),
                    layer,
                    f"the pad of the padding layer {_title(source)} takes the place of this one",
                )
            layer.layer.raw.pad = source.layer.raw.pad
            layer.layer.marks.fields["pad"] = [Marks(source.layer.at("pad"))]
            layer.raw.bottom[0] = source.raw.bottom[0]
            layer.marks.fields["bottom"] = [Marks(source.at("bottom"))]
        makers.update(dict.fromkeys(layer.raw.top, layer))
    return kept


def _v0_layer(old: Msg, new: Msg) -> None:
    """One layer as a V1LayerParameter."""
    _give_all(old, new, ("bottom", "top"), "V0 layers have their settings inside layer { }", known=("layer",))
    v0 = old.layer
    _keep(old, new)
    _keep(v0, new)
    kind, param, settings = v0.type, "", ""
    if v0.has("type"):
        if kind not in _V0_TYPES:
            expected, hint = f"one of {', '.join(_V0_TYPES)}", _like(kind, _V0_TYPES)
            raise NetError(
                f'unknown V0 layer type "{kind}"', at=v0.at("type"), layer=_title(old), expected=expected, hint=hint
            )
        number, param, settings = _V0_TYPES[kind]
        new.raw.type = schema.enum("V1LayerParameter.LayerType")[number]
        _move_marks(v0, "type", new, "type")
    for field, _ in v0.raw.ListFields():
        name = field.name
        if name in ("name", "blobs", "blobs_lr", "weight_decay"):
            _give(v0, name, new)
        elif name in _V0_TRANSFORMS:
            _give(v0, name, _part(new, "transform_param"), _V0_TRANSFORMS[name])
        elif name in settings.split():
            _give(v0, name, _part(new, param) if param else new, _V0_RENAMED.get(name, name))
        elif name != "type":
            _warn(v0.at(name), old, f'{name} is dropped: it has no meaning for the type "{kind}"')


# --- V1 to V2 ---

_V2_NAMES = """
    AbsVal Accuracy ArgMax BNLL Concat ContrastiveLoss Convolution Data Deconvolution Dropout DummyData Eltwise
    EuclideanLoss Exp Flatten HDF5Data HDF5Output HingeLoss Im2col ImageData InfogainLoss InnerProduct LRN MemoryData
    MultinomialLogisticLoss MVN Pooling Power ReLU Sigmoid SigmoidCrossEntropyLoss Silence Slice Softmax Split TanH
    Threshold WindowData"""
# Types that forks added to the enum of V1, by the names that their successors have.
_FORK_NAMES = """
    BiasChannel BN ColinearConvolution Convolution3D Crop Deconvolution3D DenseCRF DominantChannel EltwiseAccuracy
    ImageSegData Interp LOCAL MatRead MatWrite MultiStageMeanfield Padding Pooling3D SegAccuracy UnPooling VideoData
    VideoSegmentationData VideoWithVoxelTruthData VoxelSoftmax WindowSegData"""
# V2's type names by V1's, underscores left out.
_V2_TYPES = {name.upper(): name for name in (_V2_NAMES + _FORK_NAMES).split()}
_V2_TYPES |= {"NONE": "", "SOFTMAXLOSS": "SoftmaxWithLoss", "VOXELSOFTMAXLOSS": "VoxelSoftmaxWithLoss"}
_V1_PARAMS = {"param": "name", "blob_share_mode": "share_mode", "blobs_lr": "lr_mult", "weight_decay": "decay_mult"}
_DATA_PARAMS = {"DATA": "data_param", "IMAGE_DATA": "image_data_param", "WINDOW_DATA": "window_data_param"}
_TRANSFORMS = ("scale", "mean_file", "crop_size", "mirror")


def _move_transforms(net: Msg) -> None:
    """The preprocessing of V1 data layers goes to transform_param.

    As in Caffe, one layer in need of it gives all data layers of the net both messages, empty ones too.
    """
    layers = [(m, _DATA_PARAMS[m.enum("type")]) for m in net.layers if m.enum("type") in _DATA_PARAMS]
    if not any(getattr(m.raw, param).HasField(name) for m, param in layers for name in _TRANSFORMS):
        return
    for layer, param in layers:
        old, new = _part(layer, param), _part(layer, "transform_param")
        for name in _TRANSFORMS:
            if old.has(name):
                _give(old, name, new)
                _drop(old, name)


def _v1_to_v2(net: Msg) -> None:
    """Every `layers` as `layer`. As in Caffe, what the net has as `layer` already is lost."""
    if net.has("layer"):
        what = f"the net has both layers (V1) and layer: as in Caffe, the {len(net.layer)} written as layer are dropped"
        _warn(net.at("layer"), None, what)
        _drop(net, "layer")
    for old in net.layers:
        _v1_layer(old, _add(net, "layer", old.at()))
    _drop(net, "layers")


def _v1_layer(old: Msg, new: Msg) -> None:
    """One layer as a LayerParameter: fields of one name stay, the type becomes a string, four lists become params."""
    _keep(old, new)
    for field, _ in old.raw.ListFields():
        if field.name not in ("type", *_V1_PARAMS):
            _give(old, field.name, new)
    if old.has("type"):
        new.raw.type = _V2_TYPES[old.enum("type").replace("_", "")]
        _move_marks(old, "type", new, "type")
    for name, to in _V1_PARAMS.items():
        for i, value in enumerate(getattr(old.raw, name)):
            at = old.at(name, i)
            if i == len(new.raw.param):
                _add(new, "param", at)
            setattr(new.raw.param[i], to, value)
            new.param[i].marks.fields[to] = [Marks(at)]


# --- V2 ---


def _move_inputs(net: Msg) -> None:
    """`input` with `input_dim` or `input_shape` becomes an Input layer in front of the others.

    Where no shape is given Caffe just drops `input`, and then the net does not run. Here it becomes an Input layer
    without shapes, for the caller to give, if a layer reads it.
    """
    if not net.has("input"):
        return
    names, dims, shapes = list(net.raw.input), list(net.raw.input_dim), net.raw.input_shape
    places = dict(zip(names, net.marks.fields.get("input", ())))
    given = "input_shape" if shapes else "input_dim"
    have, need = (len(shapes), len(names)) if shapes or not dims else (len(dims), 4 * len(names))
    if (shapes or dims) and have < need:
        expected = f"{need // len(names)} for each of the {len(names)} inputs"
        raise NetError(f"too few {given}", at=net.at(given), expected=expected, got=have)
    if (shapes or dims) and have > need:
        _warn(
            net.at(given, need),
            None,
            f"{have - need} more {given} than the {len(names)} inputs need: not used, as in Caffe",
        )
    if shapes and dims:
        _warn(net.at("input_dim"), None, "input_dim is not used beside input_shape, as in Caffe")
    if not shapes and not dims:
        names = [name for name in names if name in _unmade(net)]

    layers, layer_places = list(net.raw.layer), net.marks.fields.pop("layer", [])
    fresh = Msg(schema.NetParameter())
    if names:
        layer = _add(fresh, "layer", net.at("input"))
        layer.raw.name, layer.raw.type = "input", "Input"
        layer.raw.top.extend(names)
        layer.marks.fields["top"] = [places.get(name, Marks(net.at())) for name in names]
        for i in range(len(names) if shapes or dims else 0):
            shape = _add(_part(layer, "input_param"), "shape", net.at(given, i if shapes else 4 * i))
            if shapes:
                shape.raw.CopyFrom(shapes[i])
                shape.marks.fields.update(net.marks.of("input_shape", i).fields)
            else:
                shape.raw.dim.extend(dims[4 * i : 4 * i + 4])
                shape.marks.fields["dim"] = net.marks.fields.get("input_dim", [])[4 * i : 4 * i + 4]
    fresh.raw.layer.extend(layers)
    net.raw.ClearField("layer")
    net.raw.layer.extend(fresh.raw.layer)
    net.marks.fields["layer"] = [*fresh.marks.fields.get("layer", ()), *layer_places]
    for name in ("input", "input_dim", "input_shape"):
        _drop(net, name)


def _unmade(net: Msg) -> set[str]:
    """The blobs that layers read and no layer before them makes."""
    made: set[str] = set()
    found: set[str] = set()
    for layer in net.raw.layer:
        found.update(set(layer.bottom) - made)
        made.update(layer.top)
    return found


def _fix_batch_norms(net: Msg) -> None:
    """A BatchNorm with three params comes from when they had to be told not to learn: their multipliers become 0."""
    for layer in net.layer:
        if layer.type == "BatchNorm" and len(layer.param) == 3:
            for param in layer.param:
                param.lr_mult = param.decay_mult = 0.0


# --- fields with their places ---


def _give(old: Msg, name: str, new: Msg, to: str = "") -> None:
    """Set a field of `new` to what `old` has, under another name perhaps. One value may become a list of one."""
    to = to or name
    value, field = getattr(old.raw, name), new.raw.DESCRIPTOR.fields_by_name[to]
    if schema.is_repeated(field):
        is_list = schema.is_repeated(old.raw.DESCRIPTOR.fields_by_name[name])
        getattr(new.raw, to).extend(value if is_list else [value])
    elif field.message_type is not None:
        getattr(new.raw, to).CopyFrom(value)
    else:
        setattr(new.raw, to, value)
    _move_marks(old, name, new, to)


def _give_all(old: Msg, new: Msg, names: Iterable[str], why: str, known: Iterable[str] = ("layers",)) -> None:
    """Set some fields of `new` to what `old` has; warn of all others but the `known` ones, which are left out."""
    names = tuple(names)
    for field, _ in old.raw.ListFields():
        if field.name in names:
            _give(old, field.name, new)
        elif field.name not in known:
            _warn(old.at(field.name), None, f"{field.name} is dropped, as in Caffe: {why}")


def _move_marks(old: Msg, name: str, new: Msg, to: str) -> None:
    if old.marks.fields.get(name):
        new.marks.fields[to] = old.marks.fields[name]


def _keep(old: Msg, new: Msg) -> None:
    """Take over the fields that the schema does not have."""
    for name, places in old.marks.fields.items():
        if kept := [place for place in places if place.kept is not None]:
            new.marks.fields.setdefault(name, []).extend(kept)


def _part(msg: Msg, name: str) -> Msg:
    """A message field of `msg`, set if it was not; its place is then that of `msg`."""
    places = msg.marks.fields.setdefault(name, [])
    if not places:
        places.append(Marks(msg.at()))
    raw = getattr(msg.raw, name)
    raw.SetInParent()
    return Msg(raw, places[0])


def _add(msg: Msg, name: str, at: Span | None) -> Msg:
    """One more message in a repeated field."""
    marks = Marks(at)
    msg.marks.fields.setdefault(name, []).append(marks)
    return Msg(getattr(msg.raw, name).add(), marks)


def _drop(msg: Msg, name: str) -> None:
    msg.raw.ClearField(name)
    msg.marks.fields.pop(name, None)


def _like(word: str, known: Iterable[str]) -> str | None:
    near = nearest(word, known)
    return f'did you mean "{near[0]}"?' if near else None


def _title(layer: Msg) -> str:
    """As messages name a V0 layer: `"conv1" (conv)`."""
    return f'"{layer.layer.name}" ({layer.layer.type})'


def _warn(at: Span | None, layer: Msg | None, what: str) -> None:
    where = f"{at}: " if at else ""
    warnings.warn(f"{where}{f'layer {_title(layer)}: ' if layer else ''}{what}", NetWarning, stacklevel=4)
