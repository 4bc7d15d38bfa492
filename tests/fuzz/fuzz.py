"""Throw mutated files at the readers: each must give a result or a NetError, and soon.

    python tests/fuzz/fuzz.py FOLDER [-n 100000] [--seed 0] [--build] [--keep FOLDER]

FOLDER holds the seeds, in folders of any depth: .prototxt, .caffemodel, .caffemodel.h5, .binaryproto. Mutants of a
prototxt are read and upgraded as a net and as a solver; with --build the net is built as well. What goes wrong is told
once for each place in the code, its first mutant is kept in --keep (default: fuzz-failures), and the exit code is 1.
The mutants depend on the seeds, -n and --seed only.
"""

from __future__ import annotations

import argparse
import random
import re
import resource
import signal
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from netcompiler.binary import read_blobproto, read_caffemodel
from netcompiler.builder import build
from netcompiler.errors import NetError, NetWarning
from netcompiler.text import Msg
from netcompiler.upgrade import load, load_solver, upgrade

READERS = {
    ".prototxt": (load, load_solver),
    ".caffemodel": (read_caffemodel,),
    ".h5": (read_caffemodel,),
    ".binaryproto": (read_blobproto,),
}
SECONDS = 10  # that one reader may take
MEMORY = 16 << 30  # bytes of address space
LONGEST = 1 << 20  # bytes of a seed; longer files are left out
WORDS = (
    b"layer layers layer{ { } < > [ ] : , ; # \" ' \\ - . 0 1 -1 1e9 1e400 nan inf 0x7fffffffffffffff 99999999999999999999 "
    b"true type: name: input: input_dim: input_shape{dim: bottom: top: param{ blobs{ include{ kernel_size: pad: num_output: "
    b'convolution_param{ relu_param< "Convolution" CONVOLUTION "conv" "padding" "data" \xff\xfe \xef\xbb\xbf \x00'
).split(b" ")
VALUES = (
    b"0",
    b"1",
    b"2",
    b"3",
    b"7",
    b"-1",
    b"0.5",
    b"1000000",
    b"2147483647",
    b"4294967295",
    b"9223372036854775807",
    b"nan",
)
NUMBERS = (
    b"\xff" * 10,
    b"\x80" * 12,
    b"\xff\xff\xff\xff\x07",
    b"\x00",
    b"\x0b",
    b"\x0c",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
)


class TooSlow(Exception):
    """A reader took longer than SECONDS."""


def mutate(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """A seed after one to six changes; `other` is a seed to take pieces from."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 1, 2, 4))):
        at = rng.randrange(len(out) + 1)
        size = min(rng.choice((1, 1, 2, 4, 16, 200)), len(out) - at)
        change = rng.randrange(15)
        if change == 0 and out:
            out[at % len(out)] ^= 1 << rng.randrange(8)
        elif change == 1 and out:
            out[at % len(out)] = rng.randrange(256)
        elif change == 2:
            del out[at : at + size]
        elif change == 3:
            out[at:at] = out[at : at + size] * rng.choice((1, 2, 300))
        elif change == 4:
            del out[at:]
        elif change == 5:
            out[at:at] = rng.choice(WORDS)
        elif change == 6:
            out[at : at + size] = rng.choice(NUMBERS)
        elif change == 7 and other:
            start = rng.randrange(len(other))
            out[at:at] = other[start : start + rng.choice((4, 40, 400))]
        elif change <= 10:  # words or lines change places
            mark = b"\n" if change == 10 else b" "
            parts = bytes(out).split(mark)
            i, j = rng.randrange(len(parts)), rng.randrange(len(parts))
            parts[i], parts[j] = parts[j], parts[i]
            out = bytearray(mark.join(parts))
        elif change <= 12:  # a line goes, or stands twice
            lines = bytes(out).split(b"\n")
            i = rng.randrange(len(lines))
            lines[i : i + 1] = lines[i : i + 1] * rng.choice((0, 2))
            out = bytearray(b"\n".join(lines))
        elif change >= 13 and (numbers := list(re.finditer(rb"(?<=: )[0-9.]+", out))):  # another value
            start, stop = rng.choice(numbers).span()
            out[start:stop] = rng.choice(VALUES)
    return bytes(out)


def mutants(seeds: list[Path], count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """(suffix, bytes) of each mutant."""
    rng = random.Random(seed)
    kinds: dict[str, list[bytes]] = {}
    for path in seeds:
        kinds.setdefault(path.suffix, []).append(path.read_bytes())
    shares = [kind for kind in sorted(kinds) for _ in range(4 if kind == ".prototxt" else 1)]
    for _ in range(count):
        kind = rng.choice(shares)
        yield kind, mutate(rng.choice(kinds[kind]), rng.choice(kinds[kind]), rng)


def attempt(read: Any, path: Path, then_build: bool) -> str:
    """Read a file. Returns "refused", "read" or "built"; raises whatever else happens."""
    outcome = "refused"
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        got = read(path)
        outcome = "read"
        if isinstance(got, Msg):
            str(got)
            if read is load:
                assert upgrade(got) == got
                if then_build:
                    build(got)
                    outcome = "built"
    except NetError as e:
        assert str(e)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return outcome


def fuzz(
    folder: Path, count: int, seed: int = 0, *, then_build: bool = False, keep: Path | None = None
) -> Counter[str]:
    """Run the mutants of a folder's seeds. Returns how often each outcome came; a failure's name is where it arose."""
    seeds = sorted(
        p for p in folder.rglob("*") if p.suffix in READERS and p.is_file() and 0 < p.stat().st_size <= LONGEST
    )
    if not seeds:
        raise SystemExit(f"{folder} holds no seeds: {', '.join(READERS)} of at most {LONGEST} bytes")
    outcomes: Counter[str] = Counter()

    def stop(*_: Any) -> None:
        raise TooSlow

    before = signal.signal(signal.SIGALRM, stop)
    with tempfile.TemporaryDirectory() as place, warnings.catch_warnings():
        warnings.simplefilter("ignore", NetWarning)
        for i, (kind, data) in enumerate(mutants(seeds, count, seed)):
            path = Path(place) / f"mutant{kind}"
            path.write_bytes(data)
            for read in READERS[kind]:
                try:
                    outcome = f"{kind}: {attempt(read, path, then_build)}"
                except Exception as e:
                    frame = traceback.extract_tb(e.__traceback__)[-1]
                    outcome = f"FAILED {type(e).__name__} at {Path(frame.filename).name}:{frame.lineno}"
                    if outcome not in outcomes:
                        print(f"{outcome}: {str(e)[:200]}", file=sys.stderr)
                        if keep:
                            keep.mkdir(parents=True, exist_ok=True)
                            (keep / f"{len(outcomes)}-{type(e).__name__}{kind}").write_bytes(data)
                outcomes[outcome] += 1
            if sys.stderr.isatty() and i % 1000 == 0:
                print(f"\r{i} of {count}", end="", file=sys.stderr)
    signal.signal(signal.SIGALRM, before)
    return outcomes


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("-n", type=int, default=100_000, help="number of mutants (100000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--build", action="store_true", help="build the nets that can be read")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-failures"))
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    outcomes = fuzz(options.folder, options.n, options.seed, then_build=options.build, keep=options.keep)
    for name, times in sorted(outcomes.items()):
        print(f"{times:8} {name}")
    return int(any(name.startswith("FAILED") for name in outcomes))


if __name__ == "__main__":
    sys.exit(main())
