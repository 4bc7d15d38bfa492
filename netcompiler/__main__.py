"""`python -m netcompiler`, and what the command `netcompile` starts."""

import os
import sys

from .cli import main


def command() -> int:
    """Run the command line. Returns the exit code; as one of several ranks it ends the process itself.

    A thread of torch's process group may ask for the interpreter when that is going down, which aborts the process after
    all its work is done and written. A rank therefore leaves without taking the interpreter down.
    """
    code = main()
    if "RANK" in os.environ:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


if __name__ == "__main__":
    raise SystemExit(command())
