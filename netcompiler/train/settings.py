"""solver.prototxt -> Settings: every field honoured, or refused by its name and place."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from .. import schema
from ..errors import NetError, NetWarning, nearest
from ..text import Msg, parse_message, read_text
from ..upgrade import load, upgrade_solver

RULES = ("SGD", "Nesterov", "AdaGrad", "RMSProp", "AdaDelta", "Adam")
POLICIES = {  # and the fields that each looks at
    "fixed": (),
    "step": ("gamma", "stepsize"),
    "exp": ("gamma",),
    "inv": ("gamma", "power"),
    "multistep": ("gamma", "stepvalue"),
    "poly": ("power",),
    "sigmoid": ("gamma", "stepsize"),
}
_OF_RULES = {  # fields that only some rules look at
    "momentum": ("SGD", "Nesterov", "AdaDelta", "Adam"),
    "momentum2": ("Adam",),
    "rms_decay": ("RMSProp",),
    "delta": ("AdaGrad", "RMSProp", "AdaDelta", "Adam"),
}
_SHARES = {"RMSProp": ("rms_decay",), "AdaDelta": ("momentum",), "Adam": ("momentum", "momentum2")}  # 0 to below 1
_FINITE = ("base_lr", "power", "weight_decay", "clip_gradients", *_OF_RULES)
_NETS = ("net", "net_param", "train_net", "train_net_param")
_WITHOUT_EFFECT = ("layer_wise_reduce",)  # on the numbers
LARGEST = (1 << 31) - 1


@dataclass(frozen=True, slots=True)
class NetSource:
    """Where a solver's net comes from: a file or a message, and the NetState that the solver adds to the net's own."""

    phase: str
    path: str = ""
    msg: Msg | None = None
    state: Msg | None = None
    at: Any = None

    def load(self, folder: Path) -> tuple[Msg, str, int, tuple[str, ...]]:
        """The net without a `state`, then the phase, level and stages that its layers' rules see.

        As in Caffe the solver's state counts before the net's own, and that before the phase TRAIN or TEST; stages of
        both add up. A path is taken from the working directory, or else from `folder`.
        Source: Caffe, src/caffe/solver.cpp, InitTrainNet and InitTestNets.
        """
        net = load(located(self.path, folder)) if self.msg is None else self.msg.copy()
        phase, level, stages = self.phase, 0, dict[str, None]()
        for state in (net.state, self.state):
            if state is None:
                continue
            phase = state.enum("phase") if state.has("phase") else phase
            level = state.level if state.has("level") else level
            stages |= dict.fromkeys(state.stage)
        net.raw.ClearField("state")
        return net, phase, level, tuple(stages)


@dataclass(frozen=True, slots=True)
class Settings:
    """A solver's settings, resolved. The names are those of SolverParameter; what is not set has Caffe's default."""

    train: NetSource
    tests: tuple[NetSource, ...]
    base_lr: float
    type: str = "SGD"
    lr_policy: str = "fixed"
    gamma: float = 0.0
    power: float = 0.0
    stepsize: int = 0
    stepvalue: tuple[int, ...] = ()
    max_iter: int = 0
    momentum: float = 0.0
    momentum2: float = 0.999
    rms_decay: float = 0.99
    delta: float = 1e-8
    weight_decay: float = 0.0
    regularization_type: str = "L2"
    clip_gradients: float = -1.0
    iter_size: int = 1
    display: int = 0
    average_loss: int = 1
    debug_info: bool = False
    test_iter: tuple[int, ...] = ()
    test_interval: int = 0
    test_initialization: bool = True
    test_compute_loss: bool = False
    snapshot: int = 0
    snapshot_prefix: str = ""
    snapshot_format: str = "BINARYPROTO"
    snapshot_after_train: bool = True
    snapshot_diff: bool = False
    random_seed: int = -1
    solver_mode: str = ""  # CPU or GPU where the file says so
    device_id: int = 0
    weights: tuple[str, ...] = ()
    folder: Path = Path()  # of the solver's file


def load_settings(source: str | os.PathLike[str] | Msg, overrides: Mapping[str, str] | None = None) -> Settings:
    """The settings in a solver's prototxt, or in a SolverParameter, with some fields set anew: `{"base_lr": "0.01"}`.

    Raises: NetError for every field that Caffe does not have or that cannot be honoured, with its place.
    """
    if isinstance(source, Msg):
        msg, file = source.copy(), ""
    else:
        file = str(source)
        msg = parse_message(read_text(source), kind="SolverParameter", file=file)
    for name, value in (overrides or {}).items():
        _override(msg, name, value)
    return read_settings(upgrade_solver(msg), file)


def read_settings(msg: Msg, file: str = "") -> Settings:
    """What a SolverParameter in today's form says. `file`: where it was read, for default names of snapshots.

    Raises: NetError for the fields that cannot be honoured, all together; a NetWarning tells those without effect.
    """
    if not isinstance(Msg.of(msg).raw, schema.SolverParameter):
        raise NetError("no solver's settings", expected="a SolverParameter", got=type(Msg.of(msg).raw).__name__)
    msg = Msg.of(msg)
    reader = _Reader(msg)
    settings = reader.settings(Path(file))
    if reader.faults:
        raise NetError.join(reader.faults)
    assert settings is not None
    return settings


def located(path: str, folder: Path) -> Path:
    """A path as Caffe takes it, from the working directory; where nothing is there, from `folder`."""
    beside = folder / path
    return beside if not Path(path).exists() and beside.exists() else Path(path)


class _Reader:
    """One reading of a SolverParameter: what is wrong so far."""

    def __init__(self, msg: Msg) -> None:
        self.msg = msg
        self.faults: list[NetError] = []

    def fault(self, what: str, field: str = "", index: int = 0, **told: Any) -> None:
        """Note a fault of a field."""
        at = self.msg.at(field, index) if field and self.msg.has(field) else self.msg.at()
        self.faults.append(NetError(what, at=at, **told))

    def number(self, field: str, least: float, below: float = float("inf")) -> Any:
        """The value of a field, which must be at least `least`, and below `below`."""
        value = getattr(self.msg, field)
        if not least <= value < below:
            expected = f"at least {least:g}" + (f", below {below:g}" if below < LARGEST else "")
            self.fault(f"{field} is out of range", field, expected=expected, got=f"{value:g}")
        return value

    def name(self, field: str, known: Iterable[str]) -> str:
        """The value of a text field, which must be one of those known."""
        value = str(getattr(self.msg, field))
        if value not in known:
            near = nearest(value, known)
            hint = f'did you mean "{near[0]}"?' if near else None
            got = f'"{value}"' if self.msg.has(field) else "nothing"
            self.fault(f"no such {field}", field, expected=", ".join(known), got=got, hint=hint)
        return value

    def settings(self, file: Path) -> Settings | None:
        """The settings; None where they have faults too grave to go on."""
        m = self.msg
        tests = self.tests()
        rule, policy = self.name("type", RULES), self.name("lr_policy", POLICIES)
        self.check_rule(rule)
        self.check_policy(policy)
        if not m.has("base_lr"):
            self.fault("base_lr is missing", expected="the learning rate to start from")
        given = {
            "base_lr": m.base_lr,
            "type": rule,
            "lr_policy": policy,
            "gamma": m.gamma,
            "power": m.power,
            "stepsize": m.stepsize,
            "stepvalue": tuple(m.stepvalue),
            "max_iter": self.number("max_iter", 0),
            "momentum": m.momentum,
            "momentum2": m.momentum2,
            "rms_decay": m.rms_decay,
            "delta": m.delta,
            "weight_decay": m.weight_decay,
            "regularization_type": self.name("regularization_type", ("L1", "L2")),
            "clip_gradients": m.clip_gradients,
            "iter_size": self.number("iter_size", 1),
            "display": self.number("display", 0),
            "average_loss": self.number("average_loss", 1),
            "debug_info": m.debug_info,
            "test_iter": tuple(m.test_iter),
            "test_interval": self.number("test_interval", 0),
            "test_initialization": m.test_initialization,
            "test_compute_loss": m.test_compute_loss,
            "snapshot": self.number("snapshot", 0),
            "snapshot_prefix": _prefix(m.snapshot_prefix, file),
            "snapshot_format": m.enum("snapshot_format"),
            "snapshot_after_train": m.snapshot_after_train,
            "snapshot_diff": m.snapshot_diff,
            "random_seed": self.number("random_seed", -1),
            "solver_mode": m.enum("solver_mode") if m.has("solver_mode") else "",
            "device_id": self.number("device_id", 0),
            "weights": tuple(path.strip() for text in m.weights for path in text.split(",") if path.strip()),
            "folder": file.parent,
        }
        if given["snapshot"] and not given["snapshot_prefix"]:
            self.fault("snapshot needs a snapshot_prefix", "snapshot", hint='such as snapshot_prefix: "net"')
        if policy == "poly" and not m.max_iter:
            self.fault("the policy poly needs max_iter", "lr_policy")
        train = self.train()
        self.check_unread()
        return Settings(train=train, tests=tests, **given) if train else None

    def check_rule(self, rule: str) -> None:
        """Numbers that no step can be made with, and fields that the rule has no use for.

        Caffe stops at a momentum without use, and passes over the other fields.
        """
        for field in _FINITE:
            if field in _SHARES.get(rule, ()):
                self.number(field, 0, 1)
            elif not isfinite(getattr(self.msg, field)):
                got = f"{getattr(self.msg, field):g}"
                self.fault(f"{field} is out of range", field, expected="a finite number", got=got)
        for field, rules in _OF_RULES.items():
            value = getattr(self.msg, field)
            if self.msg.has(field) and rule in RULES and rule not in rules and not (field == "momentum" and not value):
                what = f"{field} has no use with the type {rule}"
                hint = "remove the field" + (", or set it to 0" if field == "momentum" else "")
                self.fault(what, field, expected=f"the type {' or '.join(rules)}", hint=hint)

    def check_policy(self, policy: str) -> None:
        if policy not in POLICIES:
            return
        used = POLICIES[policy]
        for field in ("gamma", "power", "stepsize", "stepvalue"):
            if field in used and not self.msg.has(field) and field != "stepvalue":
                self.fault(f"the policy {policy} needs {field}", "lr_policy")
            elif self.msg.has(field) and field not in used:
                at = self.msg.at(field)
                what = f"{field} has no effect with lr_policy {policy}, as in Caffe"
                warnings.warn(f"{at}: {what}" if at else what, NetWarning, stacklevel=5)
        if "gamma" in used and self.msg.has("gamma"):
            self.number("gamma", 0)
        if "stepsize" in used and self.msg.has("stepsize"):
            self.number("stepsize", 1)

    def train(self) -> NetSource | None:
        """The net to train: one of four fields."""
        given = [name for name in _NETS if self.msg.has(name)]
        if len(given) != 1:
            got = ", ".join(given) or "none"
            what = "the solver names no net to train" if not given else "the solver names several nets to train"
            self.fault(what, given[1] if given else "", expected=f"one of {', '.join(_NETS)}", got=got)
            return None
        state = self.msg.train_state if self.msg.has("train_state") else None
        return self.source("TRAIN", given[0], 0, state)

    def source(self, phase: str, field: str, index: int, state: Msg | None) -> NetSource:
        value: Any = getattr(self.msg, field)
        at = self.msg.at(field, index)
        if field.startswith("test_"):
            value = value[index]
        if isinstance(value, Msg):
            return NetSource(phase, msg=value, state=state, at=at)
        return NetSource(phase, path=value, state=state, at=at)

    def tests(self) -> tuple[NetSource, ...]:
        """The test nets, in Caffe's order: test_net_param, test_net, and the net that is both for what is left.

        Source: Caffe, src/caffe/solver.cpp, InitTestNets.
        """
        m = self.msg
        own = [("test_net_param", i) for i in range(len(m.test_net_param))]
        own += [("test_net", i) for i in range(len(m.test_net))]
        both = [name for name in ("net_param", "net") if m.has(name)]
        count = len(m.test_iter)
        for i, batches in enumerate(m.test_iter):
            if batches < 1:
                self.fault("test_iter is out of range", "test_iter", i, expected="at least 1", got=batches)
        if count < len(own) or (count > len(own) and not both):
            expected = f"{'at least ' if both else ''}{len(own)}, one for each test net"
            self.fault("the wrong number of test_iter", "test_iter", expected=expected, got=count)
            return ()
        places = own + [(name, 0) for name in both[:1]] * (count - len(own))
        states = list(m.test_state)
        if states and len(states) != len(places):
            expected = f"none, or {len(places)}: one for each test net"
            self.fault("the wrong number of test_state", "test_state", expected=expected, got=len(states))
            return ()
        if places and m.test_interval < 1:
            self.fault("there is a test net, and no test_interval", "test_iter", expected="test_interval: at least 1")
        each = states or [None] * len(places)
        return tuple(self.source("TEST", field, i, state) for (field, i), state in zip(places, each, strict=True))

    def check_unread(self) -> None:
        """Every field that nobody looked at: forks' own."""
        for field, value in self.msg.raw.ListFields():
            name = field.name
            if name in self.msg.read or name in _WITHOUT_EFFECT:
                continue
            if not schema.is_repeated(field) and value == field.default_value:  # which changes nothing
                continue
            hint = "it is a fork's field; remove it if it is not needed"
            self.fault(f"{name} is not supported here", name, hint=hint)


def _prefix(prefix: str, file: Path) -> str:
    """The start of snapshots' names. Unset, it is the solver file's path without suffix; in a folder, its name there.

    Source: Caffe, src/caffe/util/upgrade_proto.cpp, UpgradeSnapshotPrefixProperty.
    """
    if not prefix:
        return str(file.with_suffix("")) if file.name else ""
    return str(Path(prefix) / file.stem) if Path(prefix).is_dir() and file.name else prefix


def _override(msg: Msg, name: str, value: str) -> None:
    """Set a field of a SolverParameter, or one of its train_state, from text; a repeated one takes several, with commas.

    Raises: NetError for a field that there is not, one that is a message, and a value that it cannot have.
    """
    holder, _, own = name.rpartition(".")
    raw = msg.raw.train_state if holder == "train_state" else msg.raw
    fields = raw.DESCRIPTOR.fields_by_name if holder in ("", "train_state") else {}
    field = fields.get(own)
    if field is None or field.message_type is not None:
        near = nearest(own, (n for n, f in fields.items() if f.message_type is None))
        what = f'a solver has no field "{name}"' if field is None else f"{name} cannot be set in this way"
        raise NetError(what, at="--set", hint=f"did you mean {near[0]}?" if near and field is None else None)
    if schema.is_repeated(field):
        parts = [part.strip() for part in value.split(",")]
    else:
        parts = [value.strip()]
    if field.type == field.TYPE_STRING:
        parts = [part if part[:1] in ("'", '"') else f'"{part}"' for part in parts]
    text = "".join(f"{own}: {part}\n" for part in parts)
    fresh = parse_message(f"{holder} {{\n{text}}}" if holder else text, kind="SolverParameter", file="--set")
    inner = fresh.raw.train_state if holder else fresh.raw
    if [f.name for m in (fresh.raw, inner) for f, _ in m.ListFields()] not in ([holder or own, own], [holder], []):
        raise NetError(f"this sets more than {name}", at="--set", got=value)
    alike = {"type": ("solver_type",), "solver_type": ("type",)}.get(name, _NETS if name in _NETS else ())
    for other in alike:
        msg.raw.ClearField(other)
        msg.marks.fields.pop(other, None)
    raw.ClearField(own)
    msg.raw.MergeFrom(fresh.raw)
    msg.marks.fields[holder or own] = fresh.marks.fields.get(holder or own, [])
