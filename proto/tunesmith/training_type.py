"""The flat form of a JobSpec: `training_type: preference` with the settings beside it, for `dpo:` with them below it.

The contract has one form, that of the kinds. A file may be flat where it holds a single training.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunesmith.errors import FieldProblem, InvalidField
from tunesmith.v1 import job_spec_pb2

KEY = "training_type"
# training_type → field of JobSpec
KINDS = {
    "supervised": "supervised",
    "preference": "dpo",
    "ranking": "ranking",
    "tiny_lm": "tiny_lm",
    "generate": "generate",
}


def below_its_kind(mapping: Mapping[str, Any]) -> Mapping[str, Any]:
    """`mapping` with its settings below their kind; as it is where it has no training_type.

    Raises InvalidField for an unknown training_type, and where one stands beside a kind.
    """
    if KEY not in mapping:
        return mapping
    given = str(mapping[KEY])
    if given not in KINDS:
        also = f"; dpo is trained by {KEY}: preference" if given == "dpo" else ""
        raise InvalidField.of([FieldProblem(KEY, f"{given!r} is not one of {', '.join(KINDS)}{also}")])
    kind = KINDS[given]
    beside = [key for key in job_spec_pb2.JobSpec.DESCRIPTOR.fields_by_name if key in mapping]
    if beside:
        what = f"does not go with `{beside[0]}:`; write `{kind}:` with the settings below it, or them beside {KEY}"
        raise InvalidField.of([FieldProblem(KEY, what)])
    return {kind: {key: value for key, value in mapping.items() if key != KEY}}
