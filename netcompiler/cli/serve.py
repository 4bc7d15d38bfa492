"""`netcompile serve`: the editor, in the browser, served to this machine alone."""

from __future__ import annotations

import argparse
import os
import sys
import threading
import webbrowser

from .. import dialects
from ..serve.analysis import State
from ..serve.folder import Folder
from ..serve.server import Editor
from . import dialect_options
from .run import input_shapes

EXAMPLES = """\
examples:
  netcompile serve
      edit the prototxts of this folder, or start from a published net
  netcompile serve train_val.prototxt --phase TRAIN --input data=8,3,224,224
      this file alone, with the shape that its data layer does not tell
  netcompile serve models/ --no-browser --port 8800
      print the address only; on another machine: ssh -L 8800:127.0.0.1:8800 there, then open it here

The page shows syntax colours, faults at their places, the diagram and the figures while you type. It saves to the files
of NET_OR_DIR only, never over a file that another program has changed meanwhile. Nobody without the printed address can
use it: it listens on 127.0.0.1 and asks for the token in the address. The code of Python layers is not run.
Ctrl-C stops it.
"""


def parser() -> argparse.ArgumentParser:
    """The options of `netcompile serve`."""
    p = argparse.ArgumentParser(
        prog="netcompile serve",
        description="Edit Caffe nets in the browser, with the diagram beside the text.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("path", metavar="NET_OR_DIR", nargs="?", default=".", help="default: the current folder")
    p.add_argument("--port", metavar="N", type=int, default=0, help="listen here (default: any free port)")
    p.add_argument("--no-browser", action="store_true", help="do not open a browser")
    p.add_argument("--phase", choices=("TRAIN", "TEST"), default="TEST", type=str.upper, help="at the start: TEST")
    p.add_argument("--stage", metavar="S", action="append", default=[], help="a stage that is on (repeatable)")
    p.add_argument("--level", metavar="N", type=int, default=0, help="the level (default: 0)")
    p.add_argument("--input", metavar="NAME=DIMS", action="append", default=[], help="its shape: data=1,3,224,224")
    dialect_options(p, unknown=False)
    return p


def main(arguments: list[str]) -> int:
    """Run `netcompile serve` until Ctrl-C. Returns the exit code."""
    options = parser().parse_args(arguments)
    inputs = tuple(input_shapes(options.input).items())
    dialect = dialects.checked(options.dialect) if options.dialect else None
    state = State(options.phase, options.level, tuple(options.stage), inputs, dialect)
    folder = Folder(options.path)
    if folder.only:
        folder.read(folder.only)  # what is no text is told here, not in the browser
    editor = Editor(folder, state, options.port)
    what = folder.root / folder.only if folder.only else folder.root
    print(f"editing {what} at\n\n    {editor.url}\n\nCtrl-C stops.", flush=True)
    if not options.no_browser and _has_screen():
        threading.Thread(target=webbrowser.open, args=(editor.visit_url,), daemon=True).start()
    try:
        editor.serve_forever()
    except KeyboardInterrupt:
        print("\nstopped")
    finally:
        editor.close()
    return 0


def _has_screen() -> bool:
    """Whether a browser would have a window; one in the terminal would only be in the way."""
    return sys.platform in ("win32", "darwin") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
