"""caffe.proto -> what ships of it: the descriptor set, the comments, and the numbers of forks. Run it after an edit.

Needs grpcio-tools.
"""

import json
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2
from grpc_tools import protoc

HERE = Path(__file__).parent
PACKAGE = HERE.parent / "netcompiler"


def build(target: Path, *options: str) -> None:
    """Write the descriptor set of caffe.proto to `target`."""
    if protoc.main(["protoc", f"-I{HERE}", f"--descriptor_set_out={target}", *options, "caffe.proto"]):
        sys.exit("caffe.proto does not compile")


def comments() -> dict[str, str]:
    """What caffe.proto says of each message, field and enum value, by full name, for the editor to show."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "caffe.binpb"
        build(target, "--include_source_info")
        file = descriptor_pb2.FileDescriptorSet.FromString(target.read_bytes()).file[0]
    names = dict(_names(file))
    found = {}
    for place in file.source_code_info.location:
        text = " ".join(f"{place.leading_comments} {place.trailing_comments}".split())
        if text and tuple(place.path) in names:
            found[names[tuple(place.path)]] = text
    return dict(sorted(found.items()))


def _names(holder: Any, path: tuple[int, ...] = (), name: str = "") -> Iterator[tuple[tuple[int, ...], str]]:
    """The full names of all that a file or a message declares, by their paths in the descriptor."""
    for part in ("message_type", "nested_type", "enum_type", "field", "value"):
        number = holder.DESCRIPTOR.fields_by_name.get(part)
        for i, inner in enumerate(getattr(holder, part)) if number is not None else ():
            place, full = (*path, number.number, i), f"{name}.{inner.name}".lstrip(".")
            yield place, full
            yield from _names(inner, place, full)


# Fields of NVCaffe and Intel Caffe that lost their number: ours less this is theirs.
_BASES = {40_000: "nvcaffe", 41_000: "nvcaffe/0.16", 50_000: "intel"}
_NUMBER = re.compile(r"(?<![\w/-])([a-z][a-z0-9-]*(?:/[a-z0-9.]+)?): (\d+)")
_WORDS = ("unset", "pooling")  # before a colon and a number, and no dialects


def numbers() -> dict[str, dict[str, dict[str, int]]]:
    """The numbers of forks, as the comments tell them: numbering -> message or enum -> field or value -> number."""
    file = descriptor_pb2.FileDescriptorSet.FromString((PACKAGE / "caffe.binpb").read_bytes()).file[0]
    ours = {full: getattr(_at(file, place), "number", 0) for place, full in _names(file)}
    told = [(full, _BASES[n // 1000 * 1000], n % 1000) for full, n in ours.items() if n // 1000 * 1000 in _BASES]
    told += [(full, name, int(n)) for full, text in comments().items() for name, n in _NUMBER.findall(text)]
    found: dict[str, dict[str, dict[str, int]]] = {}
    for full, numbering, number in told:
        if numbering not in _WORDS:
            holder, _, name = full.rpartition(".")
            held = found.setdefault(numbering, {}).setdefault(holder, {})
            twins = [other for other, n in held.items() if n == number and other != name]
            if twins:
                sys.exit(
                    f"{numbering}: {number} of {holder} is both {twins[0]} and {name}; one fork may be {numbering}/x"
                )
            held[name] = number
    return dict(sorted(found.items()))


def _at(holder: Any, path: tuple[int, ...]) -> Any:
    """What stands at a path of a descriptor."""
    for number, index in zip(path[::2], path[1::2], strict=True):
        holder = getattr(holder, holder.DESCRIPTOR.fields_by_number[number].name)[index]
    return holder


if __name__ == "__main__":
    build(PACKAGE / "caffe.binpb")
    (PACKAGE / "numbers.json").write_text(json.dumps(numbers(), indent=0) + "\n")
    (PACKAGE / "serve" / "comments.json").write_text(json.dumps(comments(), indent=0) + "\n")
