"""Other engines for a compiled net, for those who have them: the same call, another library's work."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .errors import NetError
from .graph import Array, dims
from .module import CompiledNet

Feeds = Mapping[str, Any]
Run = Callable[[Feeds], dict[str, Tensor]]


class Engine:
    """A net that another library runs, for inference on inputs of the shapes that it was built for.

    `engine(data=x)` returns `{blob: tensor}`, as the net itself does.
    """

    def __init__(self, net: CompiledNet, name: str) -> None:
        """`net` is a plain one: `optimize=False`. Raises: NetError for an engine that is unknown, not installed, or fails."""
        if name not in ENGINES:
            raise NetError("unknown engine", expected=", ".join(ENGINES), got=name)
        if not available(name):
            raise NetError(f"the engine {name} is not installed", hint=f"pip install 'netcompiler[{name}]'")
        self.name, self.net = name, net
        try:
            self._run = ENGINES[name](net)
        except NetError:
            raise
        except Exception as e:  # of a library: whatever it may be, the user's net is at fault or the library is
            raise NetError(f"the engine {name} cannot take this net", at=net.graph.name, got=_first_line(e)) from e

    def __call__(self, **feeds: Any) -> dict[str, Tensor]:
        for value in self.net.graph.inputs():
            if value.blob in feeds and tuple(feeds[value.blob].shape) != value.shape:
                got = dims(tuple(feeds[value.blob].shape))
                what = f'the engine {self.name} was built for another shape of "{value.blob}"'
                raise NetError(what, expected=dims(value.shape), got=got)
        return self._run(feeds)


def available(name: str) -> bool:
    """Whether the libraries of an engine are installed."""
    return all(importlib.util.find_spec(module.replace("-", "_")) for module in _NEEDS[name])


def onnx(net: CompiledNet) -> bytes:
    """The net as an ONNX file, its weights inside, for inputs of the shapes that it was built for.

    Raises: NetError where the exporter is missing or an operator has no form in ONNX.
    """
    for module in ("onnx", "onnxscript"):
        if importlib.util.find_spec(module) is None:
            raise NetError("writing ONNX needs a library", hint="pip install 'netcompiler[onnx]'")
    net = net.eval()
    examples = tuple(_example(net, v.blob, v.shape) for v in net.graph.inputs())
    inputs = [v.blob for v in net.graph.inputs()]
    outputs = [v.blob for v in net.graph.outputs]
    try:
        with torch.no_grad():
            program = torch.onnx.export(
                _Flat(net).eval(), examples, input_names=inputs, output_names=outputs, dynamo=True, verbose=False
            )
        assert program is not None
        file = io.BytesIO()
        program.save(file)  # type: ignore[arg-type]
    except Exception as e:  # the exporter's own faults are of any class
        raise NetError("the net has no form in ONNX", at=net.graph.name, got=_first_line(e)) from e
    return file.getvalue()


class _Flat(nn.Module):
    """A net with a tuple for its outputs, as exporters want it."""

    def __init__(self, net: CompiledNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.net(*inputs).values())


def _example(net: CompiledNet, blob: str, shape: tuple[int, ...]) -> Tensor:
    return torch.zeros(shape, dtype=net.dtype, device=net.device)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"


def _torch(net: CompiledNet) -> Run:
    ours = CompiledNet(net.with_weights(), device=net.device, dtype=net.dtype, optimize=True)

    def run(feeds: Feeds) -> dict[str, Tensor]:
        with torch.inference_mode():
            return ours.forward(**feeds)

    return run


def _eager(net: CompiledNet) -> Run:
    def run(feeds: Feeds) -> dict[str, Tensor]:
        with torch.inference_mode():
            return net.forward(**feeds)

    return run


def _through_torch_compile(backend: str, **options: Any) -> Callable[[CompiledNet], Run]:
    def build(net: CompiledNet) -> Run:
        import torch._inductor.config

        compiled = torch.compile(net, backend=backend, **options)

        def run(feeds: Feeds) -> dict[str, Tensor]:
            with torch.no_grad(), torch._inductor.config.patch(freezing=True):
                found: dict[str, Tensor] = compiled(**feeds)
                return found

        run({v.blob: _example(net, v.blob, v.shape) for v in net.graph.inputs()})  # compiles, or fails, now
        return run

    return build


def _onnxruntime(net: CompiledNet) -> Run:
    import onnxruntime  # type: ignore[import-not-found,unused-ignore]

    providers = ["CPUExecutionProvider"]
    if net.device.type == "cuda":
        providers = ["CUDAExecutionProvider", *providers]
    session = onnxruntime.InferenceSession(onnx(net), providers=providers)
    names = [v.blob for v in net.graph.outputs]
    taken = {i.name for i in session.get_inputs()}

    def run(feeds: Feeds) -> dict[str, Tensor]:
        arrays = session.run(names, {k: _array(x) for k, x in feeds.items() if k in taken})
        return {name: torch.from_numpy(np.asarray(a)) for name, a in zip(names, arrays, strict=True)}

    return run


def _openvino(net: CompiledNet) -> Run:
    precisions = {torch.float32: "f32", torch.bfloat16: "bf16", torch.float16: "f16"}
    if net.dtype not in precisions:
        expected = ", ".join(str(t).removeprefix("torch.") for t in precisions)
        raise NetError("the engine openvino does not run this type", expected=expected, got=str(net.dtype)[6:])
    import openvino  # type: ignore[import-not-found,unused-ignore]

    core = openvino.Core()
    precision = precisions[net.dtype]
    plain = net if net.dtype == torch.float32 else CompiledNet(net.with_weights())
    hints = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
    request = core.compile_model(core.read_model(io.BytesIO(onnx(plain))), "CPU", hints).create_infer_request()
    names = [v.blob for v in net.graph.outputs]
    inputs = [v.blob for v in net.graph.inputs()]

    def run(feeds: Feeds) -> dict[str, Tensor]:
        found = request.infer([_array(feeds[name]) for name in inputs])
        return {name: torch.from_numpy(np.array(found[i])) for i, name in enumerate(names)}

    return run


def _array(x: Any) -> Array:
    tensor = torch.as_tensor(x).detach().cpu()
    array: Array = (tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor).numpy()
    return array


ENGINES: dict[str, Callable[[CompiledNet], Run]] = {
    "torch": _torch,
    "eager": _eager,
    "inductor": _through_torch_compile("inductor"),
    "openvino": _openvino,
    "onnxruntime": _onnxruntime,
    "tensorrt": _through_torch_compile("torch_tensorrt"),
}
_NEEDS: dict[str, tuple[str, ...]] = {
    "torch": (),
    "eager": (),
    "inductor": (),
    "openvino": ("openvino", "onnx", "onnxscript"),
    "onnxruntime": ("onnxruntime", "onnx", "onnxscript"),
    "tensorrt": ("torch-tensorrt",),
}
