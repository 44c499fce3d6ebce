"""Generate the Python stubs of `tunesmith.v1` whenever the project is built or installed.

Stubs land beside their `.proto` files, so that the import path equals the proto path; they are not committed.
`buf/validate/validate.proto` belongs to another project and is not committed either: its descriptor is taken from the
pinned protovalidate package and handed to protoc as it is.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PROTO = Path(__file__).resolve().parent


def validate_descriptor() -> bytes:
    """The descriptor of buf/validate/validate.proto as a serialised FileDescriptorSet."""
    from google.protobuf import descriptor_pb2
    from protovalidate._gen.buf.validate import validate_pb

    file = descriptor_pb2.FileDescriptorProto.FromString(validate_pb.FieldRules.desc().file.proto.to_binary())
    return descriptor_pb2.FileDescriptorSet(file=[file]).SerializeToString()


def generate() -> None:
    """Write `*_pb2.py`, `*_pb2.pyi` and the grpc stubs beside every .proto file."""
    import grpc_tools
    from grpc_tools import protoc

    well_known = Path(grpc_tools.__file__).parent / "_proto"
    # protoc finds its plugin on PATH; an interpreter called by its path has not put its folder there
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    own = sorted(str(path) for path in PROTO.glob("tunesmith/**/*.proto"))
    with tempfile.NamedTemporaryFile(suffix=".binpb") as descriptors:
        descriptors.write(validate_descriptor())
        descriptors.flush()
        inputs = ["protoc", f"-I{PROTO}", f"-I{well_known}", f"--descriptor_set_in={descriptors.name}"]
        messages = [f"--python_out={PROTO}", f"--pyi_out={PROTO}"]
        services = [f"--grpc_python_out={PROTO}", f"--mypy_grpc_out=quiet:{PROTO}"]
        for arguments in ([*messages, "buf/validate/validate.proto"], [*messages, *services, *own]):
            if protoc.main([*inputs, *arguments]):
                raise SystemExit("protoc failed")


class StubsHook(BuildHookInterface):  # type: ignore[type-arg]  # hatchling does not say its configuration's type
    """Called by hatchling; see [tool.hatch.build.hooks.custom]."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Generate before the files are collected."""
        if self.target_name == "wheel":
            generate()


if __name__ == "__main__":
    generate()
