"""Sets -> databases and means, as Caffe's convert_imageset and compute_image_mean make them."""

from __future__ import annotations

import io
import multiprocessing
import os
import secrets
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from .. import schema
from ..errors import NetError
from ..files import atomic
from ..graph import Array, Shape, dims
from .ahead import METHOD, cores
from .draws import key_of, permutation
from .image import Pixels, resize_planes
from .pictures import decode
from .records import Datum, Planes
from .sets import Item, Set, picture_shape
from .source import Unreadable, library

_BLOCK = 256  # records that are made, then written, at once
_FORMATS = {"png": "PNG", "jpg": "JPEG", "jpeg": "JPEG", "bmp": "BMP", "webp": "WEBP"}
Progress = Callable[[int, int], None]
Record = tuple[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Options:
    """How pictures become records.

    size: height and width that they are resized to.  encode: "" for raw bytes, or a kind of file: png, jpg, ...
    skip: leave out what cannot be read; `faults` then tells of it.  same_size: all must have one size.
    """

    size: tuple[int, int] | None = None
    color: bool = True
    encode: str = ""
    skip: bool = False
    same_size: bool = False


def convert(
    source: str,
    target: str,
    options: Options,
    *,
    root: str = "",
    backend: str = "LMDB",
    shuffle: int | None = None,
    workers: int | None = None,
    force: bool = False,
    progress: Progress = lambda *_: None,
) -> tuple[int, list[NetError], list[str]]:
    """Write a list of pictures, a folder with one folder a class, or another set as an LMDB or LevelDB.

    The database appears at `target` when it is whole. Keys are those of convert_imageset: a number of eight digits and
    the name. shuffle: the seed of a random order; None keeps the order.
    Returns how many records were written, the faults that were passed over, and the names of a folder's classes.
    Raises: NetError for what cannot be read or written, and where `target` is there already, unless `force` is given.
    """
    if options.encode and options.encode not in _FORMATS:
        raise NetError("unknown kind of file", at="--encode", expected=", ".join(_FORMATS), got=options.encode)
    if os.path.lexists(target) and not force:
        raise NetError("this is there already", at=target, hint="another name, or --force to write over it")
    pictures = Set(source, root, options.color)
    if pictures.kind in ("mean", "windows"):
        raise NetError(f"this is a {pictures.kind} file", at=source, expected="a list, a folder or a database")
    if shuffle is not None:
        if not pictures.lines:
            raise NetError("only lists and folders can be shuffled", at=source)
        pictures.lines = [pictures.lines[i] for i in permutation(key_of(shuffle), len(pictures.lines))]
    faults: list[NetError] = []
    count, total = 0, len(pictures)
    shape: Shape | None = None
    try:
        with _written(target, backend) as put, _pool(workers, pictures) as mapped:
            for done, made in enumerate(mapped(_jobs(pictures, options)), 1):
                if isinstance(made, Made):
                    if options.same_size and shape not in (None, made.shape):
                        what, hint = "the pictures differ in size", "resize them: --resize H,W"
                        raise NetError(what, at=made.key, expected=dims(shape), got=dims(made.shape), hint=hint)
                    shape = made.shape
                    put((made.key.encode("utf-8", "surrogateescape"), made.value))
                    count += 1
                elif options.skip and isinstance(made, Unreadable):
                    faults.append(made)
                else:
                    raise made
                progress(done, total)
            if not count:
                raise NetError("no picture could be read", at=source, more=faults)
    finally:
        pictures.close()
    return count, faults, pictures.classes


@dataclass(frozen=True, slots=True)
class Made:
    """A record, ready to be written."""

    key: str
    value: bytes
    shape: Shape


@dataclass(frozen=True, slots=True)
class Job:
    """What it takes to make a record: a picture file, or the planes themselves."""

    key: str
    told: str
    label: int
    file: str | Planes
    options: Options


def _jobs(pictures: Set, options: Options) -> Iterator[Job | NetError]:
    """The records to make, in order; or why there is none."""
    for i, (where, name, label) in enumerate(pictures.lines):
        path = pictures.root + name
        told = path if where == pictures.path else f"{where}: {path}"
        yield Job(f"{i:08d}_{name}", told, label or 0, path, options)
    for i, item in enumerate(() if pictures.lines else pictures):
        key = item.key if pictures.store else f"{i:08d}"
        try:
            yield Job(key, f"{pictures.path}, record {item.key}", int(item.label or 0), item.read(), options)
        except Unreadable as e:
            yield e


def _make(job: Job | NetError) -> Made | NetError:
    """Make a record. Faults are returned, since this runs in other processes."""
    if isinstance(job, NetError):
        return job
    options = job.options
    datum = Datum(label=job.label)
    try:
        planes = decode(job.file, options.color, job.told) if isinstance(job.file, str) else job.file
        if isinstance(job.file, str) and _is_wanted(job.file, options):
            datum.data, datum.encoded = Path(job.file).read_bytes(), True
            return Made(job.key, datum.SerializeToString(), planes.shape)
        if planes.dtype != np.uint8 and (options.size or options.encode):
            raise NetError("records of floats are no pictures to resize or encode", at=job.told)
        if options.size:
            planes = resize_planes(planes, *options.size)
        datum.channels, datum.height, datum.width = planes.shape
        if options.encode:
            datum.data, datum.encoded = encode(planes, options.encode), True
        elif planes.dtype == np.uint8:
            datum.data = planes.tobytes()
        else:
            datum.float_data.extend(np.asarray(planes, np.float32).reshape(-1))
        return Made(job.key, datum.SerializeToString(), planes.shape)
    except NetError as e:
        return e
    except OSError as e:
        return Unreadable(f"cannot be read: {e.strerror or e}", at=job.told)


def _is_wanted(path: str, options: Options) -> bool:
    """Whether a file is stored as it is: then nothing is lost by encoding it again."""
    kind = _FORMATS.get(Path(path).suffix.lower().lstrip("."))
    return bool(options.encode) and kind == _FORMATS[options.encode] and not options.size and options.color


def encode(planes: Pixels, kind: str) -> bytes:
    """Planes in B, G, R order, or a single one, as a picture file; JPEG with OpenCV's usual quality, 95."""
    if len(planes) not in (1, 3):
        raise NetError("only pictures of 1 or 3 channels can be encoded", got=dims(planes.shape))
    image: Any = library("PIL.Image", "writing pictures", kind)
    pixels = np.ascontiguousarray(planes[::-1].transpose(1, 2, 0)) if len(planes) == 3 else planes[0]
    file = io.BytesIO()
    image.fromarray(pixels).save(file, _FORMATS[kind], **({"quality": 95} if _FORMATS[kind] == "JPEG" else {}))
    return file.getvalue()


@contextmanager
def _pool(
    workers: int | None, pictures: Set
) -> Iterator[Callable[[Iterator[Job | NetError]], Iterator[Made | NetError]]]:
    """Something like `map` that works in several processes, a block at a time."""
    count = (cores() if METHOD == "fork" else 0) if workers is None else workers
    if count < 2 or not pictures.lines:
        yield lambda jobs: map(_make, jobs)
        return
    with multiprocessing.get_context(METHOD).Pool(count, _deaf) as pool:

        def mapped(jobs: Iterator[Job | NetError]) -> Iterator[Made | NetError]:
            while block := list(islice(jobs, _BLOCK)):
                yield from pool.imap(_make, block, 8)

        yield mapped


def _deaf() -> None:
    """Ctrl-C is the main process's affair."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def _written(target: str, backend: str) -> Iterator[Callable[[Record], None]]:
    """A new database, written beside `target`, that takes its place when the block ends well."""
    if backend not in ("LMDB", "LEVELDB"):
        raise NetError("unknown database", at="--backend", expected="lmdb or leveldb", got=backend.lower())
    final = os.path.abspath(target)
    part = os.path.join(os.path.dirname(final), f".{os.path.basename(final)}.{secrets.token_hex(4)}.part")
    library("lmdb" if backend == "LMDB" else "plyvel", f"writing {backend}", target)
    try:
        os.mkdir(part)
        with (_lmdb if backend == "LMDB" else _leveldb)(part) as put:
            yield put
        old = f"{part}.old"
        if os.path.lexists(final):
            os.rename(final, old)
        os.rename(part, final)
        if os.path.isdir(old):
            shutil.rmtree(old, ignore_errors=True)
        else:
            Path(old).unlink(missing_ok=True)
    except OSError as e:
        raise NetError(f"cannot be written: {e.strerror or e}", at=target) from None
    finally:
        shutil.rmtree(part, ignore_errors=True)


@contextmanager
def _lmdb(path: str) -> Iterator[Callable[[Record], None]]:
    import lmdb

    waiting: list[Record] = []

    def flush() -> None:
        while waiting:
            try:
                with env.begin(write=True) as txn:
                    for key, value in waiting:
                        txn.put(key, value)
                waiting.clear()
            except lmdb.MapFullError:
                env.set_mapsize(2 * env.info()["map_size"])

    def put(record: Record) -> None:
        waiting.append(record)
        if len(waiting) >= _BLOCK:
            flush()

    try:
        with lmdb.open(path, map_size=1 << 26, lock=False, sync=False) as env:
            yield put
            flush()
            env.sync(True)
    except lmdb.Error as e:
        raise OSError(str(e)) from None


@contextmanager
def _leveldb(path: str) -> Iterator[Callable[[Record], None]]:
    import plyvel  # type: ignore[import-untyped]

    try:
        with plyvel.DB(path, create_if_missing=True, error_if_exists=False, max_open_files=100) as db:
            yield lambda record: db.put(*record)
            db.compact_range()
    except plyvel.Error as e:
        raise OSError(str(e)) from None


def mean_of(pictures: Set, size: tuple[int, int] | None = None, progress: Progress = lambda *_: None) -> Array:
    """The mean of all records, C x H x W. Raises: NetError when they differ in size, and for what cannot be read."""
    total: Array | None = None
    shape: Shape | None = None
    count = 0
    for count, item in enumerate(pictures, 1):
        planes = _sized(item, size)
        shape = picture_shape(item, planes, shape)
        total = np.zeros(shape) if total is None else total
        total += planes
        progress(count, 0)
    assert total is not None
    return total.astype(np.float32) / np.float32(count)


def _sized(item: Item, size: tuple[int, int] | None) -> Any:
    planes = item.read()
    if size and planes.dtype != np.uint8:
        raise NetError("records of floats are no pictures to resize", at=item.key)
    return resize_planes(planes, *size) if size else planes


def write_mean(path: str, mean: Array) -> None:
    """Write a mean image as a .binaryproto, as Caffe does it, or as a .npy. Raises: NetError when it cannot be written."""
    with atomic(path) as file:
        if Path(path).suffix == ".npy":
            np.save(file, mean)
            return
        c, h, w = mean.shape
        file.write(
            schema.BlobProto(num=1, channels=c, height=h, width=w, data=mean.reshape(-1).tolist()).SerializeToString()
        )
