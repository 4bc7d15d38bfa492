"""`python -m netcompiler`: the `netcompile` command from a bare checkout."""

from .cli import main

if __name__ == "__main__":
    raise SystemExit(main())
