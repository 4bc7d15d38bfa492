"""caffe.proto -> netcompiler/caffe.binpb, the descriptor set that ships: run it after an edit. Needs grpcio-tools."""

import sys
from pathlib import Path

from grpc_tools import protoc

HERE = Path(__file__).parent


def build(target: Path) -> None:
    """Write the descriptor set of caffe.proto to `target`."""
    if protoc.main(["protoc", f"-I{HERE}", f"--descriptor_set_out={target}", "caffe.proto"]):
        sys.exit("caffe.proto does not compile")


if __name__ == "__main__":
    build(HERE.parent / "netcompiler" / "caffe.binpb")
