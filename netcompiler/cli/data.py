"""`netcompile data`: make sets for data layers, compute their means, and look inside them."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from .. import export
from ..data import convert as converting
from ..data.feeds import open_feeds
from ..data.sets import Set, Summary, summary
from ..data.sheet import Cell, draw_sheet
from ..data.source import Unreadable
from ..errors import NetError, NetWarning
from ..graph import dims
from ..upgrade import load
from .run import Progress, read_labels

EXAMPLES = """\
examples:
  netcompile data convert photos/ train_lmdb --resize 256,256 --shuffle
      an LMDB of a folder that has one folder for each class, in a random order
  netcompile data convert train.txt train_lmdb --root images/ --resize 256,256 --shuffle
      of a list with lines `FILE LABEL`, as convert_imageset does it
  netcompile data mean train_lmdb mean.binaryproto
      the mean image, for mean_file
  netcompile data info train_lmdb
      how many records of which kind, size and label, and what is damaged
  netcompile data show train_lmdb -o sheet.png
      a contact sheet of the first records
  netcompile data show train_val.prototxt --phase TRAIN -o batch.png
      the first batch as the net sees it: cropped, mirrored, the mean subtracted

SET is an LMDB or LevelDB, a list of picture files, a folder of pictures, an HDF5 file, a mean (.binaryproto) or an R-CNN
window file. Nothing that is read is ever changed, and what is written appears when it is whole.
"""
RESIZE = "resize to this height and width, as OpenCV does"


def parser() -> argparse.ArgumentParser:
    """The options of `netcompile data`."""
    form = argparse.RawDescriptionHelpFormatter
    p = argparse.ArgumentParser(
        prog="netcompile data",
        description="Make sets of pictures for data layers, and look inside them.",
        epilog=EXAMPLES,
        formatter_class=form,
    )
    words = p.add_subparsers(dest="word", metavar="convert | mean | info | show", required=True)

    c = words.add_parser("convert", help="make an LMDB or LevelDB", description="Make an LMDB or LevelDB of pictures.")
    c.add_argument("source", metavar="SET", help="a list of files with labels, a folder with one folder a class, a set")
    c.add_argument("target", metavar="OUT", help="the database to make")
    c.add_argument("--root", metavar="DIR", default="", help="the folder that the names of a list are in")
    c.add_argument("--resize", metavar="H,W", help=RESIZE)
    c.add_argument("--gray", action="store_true", help="one channel")
    c.add_argument(
        "--encode", metavar="KIND", default="", help="store files of this kind: png, jpg (default: raw bytes)"
    )
    c.add_argument("--backend", choices=("lmdb", "leveldb"), default="lmdb", help="default: lmdb")
    c.add_argument("--shuffle", action="store_true", help="in a random order")
    c.add_argument("--seed", metavar="N", type=int, default=0, help="of the order (default: 0)")
    c.add_argument("--skip", action="store_true", help="leave out what cannot be read, and tell it")
    c.add_argument("--check-size", action="store_true", help="refuse pictures of different sizes")
    c.add_argument("--workers", metavar="N", type=int, help="processes that decode (default: one a core)")
    c.add_argument("--force", action="store_true", help="write over what is there")

    m = words.add_parser("mean", help="the mean image", description="Compute the mean image of a set.")
    m.add_argument("source", metavar="SET")
    m.add_argument("target", metavar="OUT", help=".binaryproto, as Caffe reads it, or .npy")
    m.add_argument("--root", metavar="DIR", default="", help="the folder that the names of a list are in")
    m.add_argument("--resize", metavar="H,W", help=RESIZE)
    m.add_argument("--gray", action="store_true", help="one channel")

    i = words.add_parser("info", help="what is in a set", description="Count what is in a set, and what is damaged.")
    i.add_argument("source", metavar="SET")
    i.add_argument("--root", metavar="DIR", default="", help="the folder that the names of a list are in")
    i.add_argument("--first", metavar="N", type=int, help="look at so many records only")
    i.add_argument("--json", action="store_true", help="as JSON")

    s = words.add_parser("show", help="a contact sheet", description="Draw the pictures of a set side by side.")
    s.add_argument("source", metavar="SET", help="a set, or a net (.prototxt): what its data layers feed first")
    s.add_argument("-o", "--output", metavar="OUT.png", required=True)
    s.add_argument("--root", metavar="DIR", default="", help="the folder that the names of a list are in")
    s.add_argument("--from", dest="start", metavar="K", type=int, default=0, help="begin with this record (default: 0)")
    s.add_argument("--count", metavar="N", type=int, default=48, help="how many (default: 48)")
    s.add_argument("--labels", metavar="FILE", help="names of the classes, one a line")
    s.add_argument("--side", metavar="P", type=int, default=112, help="pixels a picture is fitted into (default: 112)")
    s.add_argument("--phase", choices=("TRAIN", "TEST"), default="TRAIN", type=str.upper, help="of a net: TRAIN")
    s.add_argument("--seed", metavar="N", type=int, default=0, help="of a net's random crops (default: 0)")
    for one in (c, m, i, s):
        one.formatter_class, one.epilog = form, EXAMPLES
    return p


LEAST = {"workers": 0, "first": 1, "start": 0, "count": 1, "side": 8}  # of the options that are numbers


def main(arguments: list[str]) -> int:
    """Run `netcompile data`. Returns the exit code."""
    options = parser().parse_args(arguments)
    for name, least in LEAST.items():
        value = getattr(options, name, None)
        if value is not None and value < least:
            word = "from" if name == "start" else name
            raise NetError(f"--{word} is too small", expected=f"at least {least}", got=value)
    return {"convert": _convert, "mean": _mean, "info": _info, "show": _show}[str(options.word)](options)


class _Count(Progress):
    def __call__(self, text: str | int, total: int = 0) -> None:
        if isinstance(text, int):
            if text % 64 and text != total:
                return
            text = f"{text:,} of {total:,} records" if total else f"{text:,} records"
        super().__call__(text)


def _convert(options: argparse.Namespace) -> int:
    say = _Count(quiet=False)
    how = converting.Options(
        _size(options.resize), not options.gray, options.encode.lower(), options.skip, options.check_size
    )
    count, faults, classes = converting.convert(
        options.source,
        options.target,
        how,
        root=options.root,
        backend=options.backend.upper(),
        shuffle=options.seed if options.shuffle else None,
        workers=options.workers,
        force=options.force,
        progress=say,
    )
    say.clear()
    for fault in faults:
        print(f"netcompile: warning: left out: {fault}", file=sys.stderr)
    left = f", {len(faults):,} left out" if faults else ""
    print(f"wrote {options.target}: {count:,} records{left}")
    for label, name in enumerate(classes):
        print(f"  {label:5d}  {name}")
    if len(classes) > 1 and not options.shuffle:
        told = "the records lie class by class, and a Data layer reads them so: to train on them, add --shuffle"
        warnings.warn(f"{options.target}: {told}", NetWarning, stacklevel=2)
    return 0


def _mean(options: argparse.Namespace) -> int:
    if Path(options.target).suffix not in (".binaryproto", ".npy"):
        raise NetError("a mean has another suffix", at=options.target, expected=".binaryproto or .npy")
    export.check_targets([options.target], (".binaryproto", ".npy"))
    say = _Count(quiet=False)
    pictures = Set(options.source, options.root, False if options.gray else None)
    try:
        mean = converting.mean_of(pictures, _size(options.resize), say)
    finally:
        pictures.close()
    say.clear()
    converting.write_mean(options.target, mean)
    channels = ", ".join(f"{v:.6g}" for v in mean.mean((1, 2)))
    print(f"wrote {options.target}: {dims(mean.shape)}, by channel {channels}")
    return 0


def _info(options: argparse.Namespace) -> int:
    say = _Count(quiet=options.json)
    pictures = Set(options.source, options.root)
    try:
        found = summary(pictures, options.first, say)
    finally:
        pictures.close()
    say.clear()
    if options.json:
        report: dict[str, Any] = asdict(found)
        if not found.shapes:
            report["low"] = report["high"] = None
        print(export.as_json(report))
    else:
        _print(options.source, found, options.first)
    return 0


_MOST_ROWS = 12


def _print(path: str, found: Summary, first: int | None) -> None:
    looked = f" (the first {found.count:,})" if first is not None else ""
    print(f"{path}: {found.kind}, {found.count:,} records{looked}, {found.bytes:,} bytes")
    for title, counts in (("form", found.forms), ("shape", found.shapes), ("label", found.labels)):
        rows = sorted(counts.items(), key=lambda row: -row[1])
        if title == "label":
            rows = sorted(counts.items(), key=lambda row: float(row[0]))
            most, least = max(counts.values(), default=0), min(counts.values(), default=0)
            print(f"labels   {len(rows):,} different, {least:,} to {most:,} records each" if rows else "labels   none")
        for name, count in rows[:_MOST_ROWS]:
            print(f"  {title:6} {name:>16}  {count:,}")
        if len(rows) > _MOST_ROWS:
            print(f"  ... and {len(rows) - _MOST_ROWS:,} more")
    if found.shapes:
        print(f"values   {found.low:g} to {found.high:g}")
    print(f"first    {', '.join(found.first)}")
    if found.fault_count:
        print(f"faults   {found.fault_count:,} records cannot be read")
        for fault in found.faults:
            print("  " + fault.replace("\n", "\n  "))


def _show(options: argparse.Namespace) -> int:
    if Path(options.output).suffix != ".png":
        raise NetError("a contact sheet is a PNG", at=options.output, expected=".png")
    export.check_targets([options.output], (".png",))
    names = read_labels(options.labels)
    cells = _batch_cells(options, names) if _is_net(options.source) else _set_cells(options, names)
    if not cells:
        raise NetError("there is nothing to show", at=options.source, hint="--from begins behind the end, perhaps")
    draw_sheet(cells, options.output, options.side)
    print(f"wrote {options.output}: {len(cells)} pictures")
    return 0


def _is_net(path: str) -> bool:
    return Path(path).suffix == ".prototxt"


def _set_cells(options: argparse.Namespace, names: list[str]) -> list[Cell]:
    pictures = Set(options.source, options.root)
    cells = []
    try:
        for item in islice(pictures, options.start, options.start + options.count):
            words = [_label(item.label, names), item.key]
            try:
                planes = item.read()
            except Unreadable as e:
                cells.append(Cell(None, [e.what, item.key]))
                continue
            if planes.ndim != 3:
                got = dims(planes.shape)
                raise NetError("the records are no pictures", at=options.source, expected="C x H x W", got=got)
            cells.append(Cell(planes, [word for word in words if word]))
    finally:
        pictures.close()
    return cells


def _batch_cells(options: argparse.Namespace, names: list[str]) -> list[Cell]:
    """The first pictures that the data layers of a net feed."""
    folder = os.path.dirname(options.source) or "."
    cells: list[Cell] = []
    with open_feeds(load(options.source), options.phase, root=folder, seed=options.seed, workers=0) as feeds:
        pictures = next((top for top, shape in feeds.shapes.items() if len(shape) == 4), None)
        if pictures is None:
            got = ", ".join(f"{top}: {dims(shape)}" for top, shape in feeds.shapes.items()) or "no data layer"
            raise NetError("no data layer feeds pictures", at=options.source, expected="N x C x H x W", got=got)
        labels = next((top for top, s in feeds.shapes.items() if len(s) == 1 and s[0] == feeds.shapes[pictures][0]), "")
        while len(cells) < options.start + options.count:
            batch = feeds.next()
            for i, planes in enumerate(batch[pictures].copy()):
                label = float(batch[labels][i]) if labels else None
                cells.append(Cell(planes, [word for word in (_label(label, names),) if word]))
    return cells[options.start : options.start + options.count]


def _label(label: float | None, names: list[str]) -> str:
    if label is None:
        return ""
    return names[int(label)] if 0 <= label < len(names) else f"{label:g}"


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    try:
        height, width = (int(v) for v in text.split(","))
    except ValueError:
        height = width = 0
    if not (0 < height <= 1 << 14 and 0 < width <= 1 << 14):
        raise NetError("--resize is not H,W", expected="such as 256,256", got=text)
    return height, width
