"""Update masks: which fields a caller changes."""

from __future__ import annotations

from google.protobuf.field_mask_pb2 import FieldMask

from services.rpc.errors import InvalidUpdateMask


def paths_of(mask: FieldMask, *, changeable: tuple[str, ...]) -> list[str]:
    """The fields that `mask` names, each once; `*` names every changeable one. Raises InvalidUpdateMask."""
    known = ", ".join(changeable)
    if not mask.paths:
        raise InvalidUpdateMask(f"update_mask names no field; name one or more of {known}")
    if list(mask.paths) == ["*"]:
        return list(changeable)
    for path in mask.paths:
        if path not in changeable:
            raise InvalidUpdateMask(f"update_mask: {path!r} cannot be changed; {known} can", path=path)
    return list(dict.fromkeys(mask.paths))
