"""The `netcompile` command: arguments in, one call, text out. NetError is caught here, and only here."""

from __future__ import annotations

import argparse
import io
import os
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence

from .. import __version__
from ..errors import NetError, NetWarning

# The command of each word; imported when it is called, so that --help starts at once. Any other first word is a net.
COMMANDS = {
    "check": "check",
    "time": "timed",
    "serve": "serve",
    "diff": "diff",
    "train": "train",
    "test": "test_net",
    "plot": "plot",
    "data": "data",
    "zoo": "zoo",
}
CLEAR = "\r\033[K"  # takes back what stands on the terminal's line


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit code: 0, 2 for a fault of the user's, 130 after Ctrl-C."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names in files may hold what the terminal cannot show
    with warnings.catch_warnings():
        warnings.simplefilter("always", NetWarning)
        warnings.showwarning = lambda message, *_, **__: _tell(f"warning: {message}")
        try:
            code = _command(arguments)
            sys.stdout.flush()
            return code
        except NetError as e:
            _tell(f"error: {e}")
            return 2
        except KeyboardInterrupt:
            _tell("stopped")
            return 130
        except BrokenPipeError:  # the reader of our output has gone, as `| head` does
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except OSError as e:  # our output cannot be written, on a full disk say; all else is a NetError by now
            _tell(f"error: {e}")
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 2


def _tell(text: str) -> None:
    """Say something on stderr, in place of the line of progress that may stand on a terminal."""
    print(f"{CLEAR if sys.stderr.isatty() else ''}netcompile: {text}", file=sys.stderr)


def _command(arguments: list[str]) -> int:
    if arguments and arguments[0] in COMMANDS:
        from importlib import import_module

        module = import_module(f".{COMMANDS[arguments[0]]}", __package__)
        run: Callable[[list[str]], int] = module.main
        return run(arguments[1:])
    options = parser().parse_args(arguments)
    from .run import run_net

    return run_net(options)


EXAMPLES = """\
examples:
  netcompile model_zoo/ResNet-50-deploy.prototxt
      check the net, compile it, run it once with random weights, and report
  netcompile net.prototxt -w net.caffemodel --image cat.jpg --labels names.txt
      classify a picture
  netcompile train_val.prototxt --phase TRAIN --input data=8,3,224,224 --input label=8
      the training net, its data layers fed with the given shapes
  netcompile net.prototxt -w net.caffemodel --outputs fc7 -o fc7.npz -o net.json
      keep some layers only; write their weights, and the graph with its figures
  netcompile net.prototxt -o net.svg
      a picture of the net (also .png, .pdf, .dot); nothing is run
  netcompile net.prototxt -w net.caffemodel -o net.html
      a page to look around in, with the weights' statistics; nothing is run
  netcompile net.prototxt -w net.caffemodel --dtype int8 --calibrate pictures/ --max-error 0.05
      in 8-bit integers, calibrated on your pictures; reports the error of each layer and of the whole
  netcompile old.prototxt -o new.prototxt
      bring an old file to today's form

commands of their own (each has a --help):
  netcompile check FILE_OR_DIR...     what becomes of any number of nets, without running them
  netcompile diff A B                 two nets, or two trained nets, side by side by structure
  netcompile time NET                 how long it takes, by layer, beside other engines, and against the machine's ceilings
  netcompile serve [NET_OR_DIR]       an editor in the browser, with the diagram beside the text
  netcompile train SOLVER             train as Caffe's solver.prototxt says, from its beginning or a snapshot
  netcompile test NET -w W            the mean of every output over batches of the net's own data
  netcompile plot LOG... -o OUT       curves of trainings, from our logs or Caffe's
  netcompile data WORD ...            make sets for data layers (convert), their means, and look inside them (info, show)
  netcompile zoo [NAME]               published nets, listed or written, with other depths, widths and shortcuts

weights that do not fit the net (--weights-policy):
  strict        refuse them, and list them all (the default)
  reshape       take a blob of another shape that has as many values
  skip          leave such layers to their fillers; skip:fc7,fc8 these layers only, fitting or not

files that -o writes, by suffix:
  .prototxt     the upgraded net, as text
  .caffemodel   the net with its weights, as Caffe saves it
  .h5           the weights alone, as Caffe's .caffemodel.h5
  .safetensors, .npz   the weights, as `layer.blob`
  .json         the graph with shapes and figures
  .csv          the figures, a row for each layer
  .svg, .png, .pdf   a picture; also of a net that does not build
  .html         a page with the diagram, the source and the figures, to look around in
  .dot          the graph for other tools
  .onnx         the net with its weights, for other engines
"""


PHASE = "default: TEST; BOTH, for drawing: TRAIN beside TEST"
WEIGHTS = "weights: .caffemodel or .caffemodel.h5; several (A,B or -w A -w B): the last that has a layer counts"


ENGINES = ("torch", "eager", "inductor", "openvino", "onnxruntime", "tensorrt")
ENGINE = "what runs the net: torch (default: ours), " + ", ".join(ENGINES[1:]) + ", as far as installed"
CHECK = "exit code 1 where rewriting changed an output by more than E of its largest value (default: 1e-4; 2e-2 below 32 bits)"


CALIBRATE = (
    "pictures like those that the net is to see: files, folders, lists of files (.txt); or the word synthetic: noise"
)
MAX_ERROR = "the most that int8 may change an output, as a share of its largest value; layers go back to float32 for it"


DIALECT = "the fork that the net is written for, such as ssd or pspnet, or owner/repository (default: detected)"
UNKNOWN = "a field that no fork has: refuse (default), or keep it: no effect, but told, and written to -o out.prototxt"


def dialect_options(p: argparse.ArgumentParser, unknown: bool = True) -> None:
    """Add what tells of which fork a net is."""
    p.add_argument("--dialect", metavar="NAME", help=DIALECT)
    if unknown:
        p.add_argument("--unknown", choices=("refuse", "keep"), default="refuse", help=UNKNOWN)


def int8_options(p: argparse.ArgumentParser) -> None:
    """Add what belongs to --dtype int8."""
    g = p.add_argument_group("--dtype int8, on the CPU (docs/speed.md)")
    g.add_argument("--calibrate", metavar="PATH", nargs="+", default=[], help=CALIBRATE)
    g.add_argument("--max-error", metavar="E", type=share, help=MAX_ERROR)


def share(text: str) -> float:
    """A bound for --max-error."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"a bound is a number, such as 0.05, and not {text!r}") from None
    if not value >= 0:
        raise argparse.ArgumentTypeError(f"a bound is not negative, as {text} is")
    return value


TUNE = "measure which kernels are fastest here, and keep that for the next time (docs/speed.md)"


def error_bound(text: str) -> float | str:
    """A bound for --check; argparse passes the default through here as well."""
    return text if text == "" else share(text)


def alone(flag: str, others: Mapping[str, bool], hint: str) -> None:
    """Raises: NetError for an option that is given beside `flag`, and would not have its effect. others: by option."""
    for name, given in others.items():
        if given:
            raise NetError(f"{name} does not go with {flag}", hint=hint)


def parser() -> argparse.ArgumentParser:
    """The options of the main command."""
    p = argparse.ArgumentParser(
        prog="netcompile",
        description="Check, compile and run a Caffe net on PyTorch, and report.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("net", metavar="NET", help="the net definition, a prototxt of any generation")
    p.add_argument("-w", "--weights", metavar="FILE", action="append", default=[], help=WEIGHTS)
    p.add_argument("--weights-policy", metavar="P", default="strict", help="strict, reshape, skip or skip:LAYER,...")
    p.add_argument("-o", "--output", metavar="OUT", action="append", default=[], help="write this file (repeatable)")
    p.add_argument("--phase", choices=("TRAIN", "TEST", "BOTH"), default="TEST", type=str.upper, help=PHASE)
    p.add_argument("--stage", metavar="S", action="append", default=[], help="a stage that is on (repeatable)")
    p.add_argument("--level", metavar="N", type=int, default=0, help="the level (default: 0)")
    p.add_argument("--input", metavar="NAME=DIMS", action="append", default=[], help="its shape: data=1,3,224,224")
    p.add_argument("--outputs", metavar="B,...", help="blobs to compute, in place of the net's own outputs")
    p.add_argument("--device", metavar="D", help="cpu, cuda, cuda:1, ... (default: CUDA when there is one)")
    p.add_argument("--dtype", metavar="T", help="float32 (default), tf32 (CUDA), bfloat16, float16, float64 or int8")
    p.add_argument("--no-optimize", action="store_true", help="keep one module per Caffe layer")
    p.add_argument("--tune", action="store_true", help=TUNE)
    p.add_argument("--allow-python", action="store_true", help="run the code that Python layers name")
    dialect_options(p)
    p.add_argument("--seed", metavar="N", type=int, default=0, help="of random weights and inputs (default: 0)")
    p.add_argument("--code", action="store_true", help="print the PyTorch code that the net runs")
    p.add_argument("--figures", action="store_true", help="tell each layer's figures (docs/figures.md), run nothing")
    p.add_argument("--times", action="store_true", help="measure each layer, with --no-optimize; -o net.html shows it")
    p.add_argument("--engine", metavar="E", default="torch", choices=ENGINES, help=ENGINE)
    p.add_argument("--check", metavar="E", nargs="?", const="", type=error_bound, help=CHECK)
    p.add_argument("-q", "--quiet", action="store_true", help="no table of layers")
    p.add_argument("--json", action="store_true", help="the report as JSON")
    p.add_argument("--version", action="version", version=f"netcompile {__version__}")
    d = p.add_argument_group("drawing: -o net.svg, .png, .pdf, .dot, .html")
    d.add_argument("--direction", choices=("TB", "LR"), default="TB", type=str.upper, help="TB: down; LR: to the right")
    d.add_argument("--theme", choices=("auto", "light", "dark"), default="auto", help="auto: as the reader prefers")
    d.add_argument(
        "--fold", metavar="N", type=int, help="what repeats N times is shown once (default: 3; large blocks: 2)"
    )
    d.add_argument("--expand", action="store_true", help="show everything")
    g = p.add_argument_group("pictures")
    g.add_argument("--image", metavar="FILE", nargs="+", default=[], help="classify these, as Caffe's classifier does")
    g.add_argument("--mean", metavar="M", help="B,G,R values, or a .binaryproto or .npy (default: ImageNet's)")
    g.add_argument(
        "--resize", metavar="H,W", help="warp to this, then cut the centre (default: 256,256 for ImageNet crops)"
    )
    g.add_argument("--scale", metavar="X", type=float, default=1.0, help="multiply after the mean is subtracted")
    g.add_argument("--labels", metavar="FILE", help="names of the classes, one a line")
    int8_options(p)
    return p
