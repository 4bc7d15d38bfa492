"""caffe.proto -> what ships of it: the descriptor set, and the comments. Run it after an edit. Needs grpcio-tools."""

import json
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


if __name__ == "__main__":
    build(PACKAGE / "caffe.binpb")
    (PACKAGE / "serve" / "comments.json").write_text(json.dumps(comments(), indent=0) + "\n")
