"""The course of an evaluation: two runs play, what they have played is heard, what was heard is stored."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from services.cli.playing import RunCancelled, RunFailed, played, submit, waves
from tunesmith.v1 import adapter_pb2, job_spec_pb2

if TYPE_CHECKING:
    from services.cli.ears import Ears
    from services.cli.session import Session
    from tunesmith.client.client import Client

H = TypeVar("H")

BEFORE, AFTER = "before", "after"


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What is evaluated, and how. before: the adapter that it is compared with; None for the base model alone."""

    adapter: adapter_pb2.Adapter
    before: adapter_pb2.Adapter | None
    ears: Ears[Any]
    generation: job_spec_pb2.GenerationSettings

    def carry_out(self, session: Session, client: Client) -> adapter_pb2.CreateAdapterEvaluationResponse:
        """Play, hear, store. Raises RunFailed, RunCancelled, ClipUnusable, ScorerFailed, InvalidField.

        Ctrl-C leaves the runs alone, and says so.
        """
        runs: dict[str, str] = {}
        try:
            self._submit(session, client, runs)
            measures = self._measures(session, client, runs)
        except KeyboardInterrupt:
            session.out.note(_left_alone(runs.values()))
            raise
        return store(client, self.adapter, self.ears, measures, before_run_id=runs[BEFORE], after_run_id=runs[AFTER])

    def _submit(self, session: Session, client: Client, runs: dict[str, str]) -> None:
        """Queue a run for each side; `runs` is filled with their ids as they come."""
        count = len(self.generation.prompts) * self.generation.clips_per_prompt
        base = job_spec_pb2.PlayerSettings(base_model=self.adapter.base_model)
        for side, player in (
            (BEFORE, player_of(self.before) if self.before else base),
            (AFTER, player_of(self.adapter)),
        ):
            run = submit(
                client,
                player,
                self.generation,
                experiment_id=self.adapter.experiment_id,
                display_name=f"evaluate {self.adapter.name}@{self.adapter.version}: {side}",
            )
            runs[side] = run.run_id
            session.out.note(f"{run.run_id} plays {count} clips {side}, by {player.adapter_id or player.base_model}")

    def _measures(self, session: Session, client: Client, runs: Mapping[str, str]) -> list[adapter_pb2.Measure]:
        """Follow both runs, and listen to what they have played."""
        for side, run_id in runs.items():
            try:
                played(session, client, run_id, side=side)
            except (RunFailed, RunCancelled):
                session.out.note(_left_alone([runs[AFTER]] if side == BEFORE else []))
                raise
        heard = {side: hear(client, run_id, self.ears, self.generation, side=side) for side, run_id in runs.items()}
        return self.ears.compare(heard[BEFORE], heard[AFTER])


def hear(
    client: Client, run_id: str, ears: Ears[H], generation: job_spec_pb2.GenerationSettings, *, side: str
) -> list[H]:
    """What is heard of a run's clips, by prompt and then by seed. side: of the evaluation, in words."""
    return [ears.hear(*clip) for clip in waves(client, run_id, generation, side=side)]


def store(
    client: Client,
    adapter: adapter_pb2.Adapter,
    ears: Ears[Any],
    measures: Iterable[adapter_pb2.Measure],
    *,
    before_run_id: str,
    after_run_id: str,
) -> adapter_pb2.CreateAdapterEvaluationResponse:
    """Store what was measured. The runs name the request: what they have played is stored once, however often sent."""
    evaluation = adapter_pb2.AdapterEvaluation(
        adapter_id=adapter.adapter_id,
        scorer=ears.scorer,
        wish=ears.wish,
        before_run_id=before_run_id,
        after_run_id=after_run_id,
        measures=measures,
    )
    named = " ".join((ears.scorer, before_run_id, after_run_id))
    request = adapter_pb2.CreateAdapterEvaluationRequest(
        evaluation=evaluation, request_id=hashlib.sha256(named.encode()).hexdigest()[:32]
    )
    return client.adapters.CreateAdapterEvaluation(request)


def player_of(adapter: adapter_pb2.Adapter) -> job_spec_pb2.PlayerSettings:
    """Who plays with an adapter."""
    return job_spec_pb2.PlayerSettings(base_model=adapter.base_model, adapter_id=adapter.adapter_id)


def _left_alone(run_ids: Iterable[str]) -> str:
    """What to type about runs that nobody follows any more."""
    lines = [
        f"{run_id} is left alone. Watch it: tunesmith run watch {run_id}\n"
        f"                                              Stop it:  tunesmith run cancel {run_id}"
        for run_id in run_ids
    ]
    return "\n".join([*lines, "nothing was measured; evaluate again to play anew"])
