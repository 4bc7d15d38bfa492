"""proto/caffe.proto -> message classes, in a descriptor pool of our own.

The private pool keeps us clear of any other `caffe_pb2` in the process, and the compiled descriptor set loads on every
protobuf runtime from 4.22 on. `python proto/build.py` rebuilds it after an edit.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import FieldDescriptor


def file() -> Any:
    """What describes the schema to protobuf, as a message of its own."""
    return descriptor_pb2.FileDescriptorSet.FromString(Path(__file__).with_name("caffe.binpb").read_bytes()).file[0]


_pool = descriptor_pool.DescriptorPool()
_pool.Add(file())


def message(name: str) -> Any:
    """The class of one message of the schema, such as `message("NetParameter")`."""
    return message_factory.GetMessageClass(_pool.FindMessageTypeByName(f"caffe.{name}"))


def enum(name: str) -> dict[str, int]:
    """The names and numbers of one enum of the schema, such as `enum("Phase")`."""
    return {v.name: v.number for v in _pool.FindEnumTypeByName(f"caffe.{name}").values}


def is_repeated(field: FieldDescriptor) -> bool:
    """Whether a field holds several values (protobuf 7 dropped `label`, 4 lacks `is_repeated`)."""
    repeated = getattr(field, "is_repeated", None)
    return bool(getattr(field, "label", None) == FieldDescriptor.LABEL_REPEATED if repeated is None else repeated)


NetParameter = message("NetParameter")
LayerParameter = message("LayerParameter")
SolverParameter = message("SolverParameter")
BlobProto = message("BlobProto")
