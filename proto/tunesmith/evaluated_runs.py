"""The runs that an evaluation rests on: both play the same questions, that of after with the adapter, the other not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tunesmith import spec as specs
from tunesmith.errors import FieldProblem
from tunesmith.v1 import run_pb2


@dataclass(frozen=True, kw_only=True)
class EvaluatedRun:
    """What an evaluation has to know of a run. player: the adapter that plays, None for the base model alone;
    generation: what it plays, in a form that can be compared."""

    run_id: str
    kind: str
    base_model: str
    player: str | None
    generation: Any

    @classmethod
    def of(cls, run: run_pb2.Run) -> EvaluatedRun:
        """What a client knows of it."""
        playing = run.spec.generate
        return cls(
            run_id=run.run_id,
            kind=specs.kind_of(run.spec),
            base_model=playing.player.base_model,
            player=playing.player.adapter_id or None,
            generation=playing.generation,
        )


def problems(adapter_id: str, before: EvaluatedRun | None, after: EvaluatedRun | None) -> Iterator[FieldProblem]:
    """Why these two cannot be what is measured of an adapter; None is a run elsewhere, of which nothing is known."""
    idle = [
        FieldProblem(f"evaluation.{side}_run_id", f"{run.run_id} is {run.kind} and plays nothing; give one of generate")
        for side, run in (("before", before), ("after", after))
        if run and run.kind != "generate"
    ]
    if idle:
        yield from idle
        return
    if after and after.player != adapter_id:
        what = f"{after.run_id} plays {after.player or 'the base model'}; give a run that plays {adapter_id}"
        yield FieldProblem("evaluation.after_run_id", what)
    if before and before.player == adapter_id:
        what = f"{before.run_id} plays {adapter_id} itself; give a run of what that is compared with"
        yield FieldProblem("evaluation.before_run_id", what)
    if before and after and before.player is None and before.base_model != after.base_model:
        what = f"{before.run_id} plays {before.base_model}, {after.run_id} an adapter of {after.base_model}"
        yield FieldProblem("evaluation.before_run_id", f"{what}; give a run of the same base model")
    if before and after and before.generation != after.generation:
        what = f"{after.run_id} plays other clips than {before.run_id}; give runs of the same generation settings"
        yield FieldProblem("evaluation.after_run_id", what)
