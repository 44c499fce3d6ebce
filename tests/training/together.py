"""Trainings in the foreground, one after the other, in each process that torchrun starts with this module and a PLAN.

PLAN: a JSON list of what `train` takes, and of lists of arguments of the program. The first process leaves `rows.json`
in each output folder.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from tests.training.studio import metric_rows
from trainer_node.__main__ import main as program
from trainer_node.data.jsonl import read_dataset_file
from trainer_node.data.training_data import training_data
from trainer_node.foreground import run_foreground
from trainer_node.outcome import leave
from tunesmith import spec as job_spec
from tunesmith.v1 import job_event_pb2, job_spec_pb2

Rows = list[tuple[int, dict[str, float]]]


def train(
    *,
    kind: str,
    settings: dict[str, Any],
    dataset: str,
    models_dir: str,
    output: str,
    stop_after: int | None = None,
    resume: bool = False,
) -> None:
    """Train, stopped after the row of a step where `stop_after` is given, and leave the metric rows of this process."""
    data = training_data(read_dataset_file(Path(dataset)), kind)
    events: list[job_event_pb2.JobEvent] = []
    end = run_foreground(
        job_spec.parse({kind: settings}, job_spec_pb2.JobSpec()),
        data.samples,
        comparisons=data.comparisons,
        models_dir=Path(models_dir),
        output_dir=Path(output),
        on_event=events.append,
        resume=resume,
        stop=lambda: stop_after is not None and any(step >= stop_after for step, _ in metric_rows(events)),
        cache_dir=Path(output).parent / "cache",
        threads=1,
        device="cpu",
    )
    assert end.WhichOneof("outcome") == ("succeeded" if stop_after is None else "cancelled"), end
    if os.environ.get("RANK", "0") == "0":
        name = "rows-resumed.json" if resume else "rows.json"
        (Path(output) / name).write_text(json.dumps(metric_rows(events)), encoding="utf-8")


def rows_in(output: Path, name: str = "rows.json") -> Rows:
    """What `train` has left there."""
    return [(step, values) for step, values in json.loads((output / name).read_text(encoding="utf-8"))]


if __name__ == "__main__":
    for wish in json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")):
        if isinstance(wish, dict):
            train(**wish)
        elif program(wish):
            sys.exit("the program has failed")
    leave(0)
