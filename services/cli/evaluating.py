"""The course of an evaluation: two runs play, what they have played is heard, what was heard is stored.

The runs stay, so what they have played can be heard again, by other ears or after a mishap.
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from services.cli.clip_audio import ClipUnusable
from services.cli.playing import RunCancelled, RunFailed, followed, require_success, submit, waves
from tunesmith.errors import InvalidField
from tunesmith.evaluated_runs import EvaluatedRun, problems
from tunesmith.v1 import adapter_pb2, job_spec_pb2, run_pb2

if TYPE_CHECKING:
    from services.cli.ears import Ears
    from services.cli.session import Session
    from tunesmith.client.client import Client

H = TypeVar("H")

BEFORE, AFTER = "before", "after"


@dataclass(kw_only=True)
class Evaluation:
    """What is evaluated, and how.

    before: the adapter that it is compared with; None for the base model alone. runs: those that play, by side; empty
    until they are submitted.
    """

    adapter: adapter_pb2.Adapter
    ears: Ears[Any]
    generation: job_spec_pb2.GenerationSettings
    before: adapter_pb2.Adapter | None = None
    runs: dict[str, str] = field(default_factory=dict)

    def carry_out(self, session: Session, client: Client) -> adapter_pb2.CreateAdapterEvaluationResponse:
        """Play where no run has, hear, store. Raises RunFailed, RunCancelled, ClipUnusable, ScorerFailed, InvalidField.

        Whatever ends it, Ctrl-C too, leaves alone what still plays, and says how to go on where one can.
        """
        ended: list[str] = []
        try:
            if not self.runs:
                self._submit(session, client)
            for side, run_id in self.runs.items():
                run = followed(session, client, run_id)
                ended.append(run_id)
                require_success(run, what=f"the run that plays {side}", again="evaluate again to play anew")
            return self._measure(client)
        except BaseException as error:
            if self.runs:
                alone = [_left_alone(run_id) for run_id in self.runs.values() if run_id not in ended]
                session.out.note("\n".join([*alone, self._next_step(error)]))
            raise

    def _submit(self, session: Session, client: Client) -> None:
        """Queue a run for each side."""
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
            self.runs[side] = run.run_id
            session.out.note(f"{run.run_id} plays {count} clips {side}, by {player.adapter_id or player.base_model}")

    def _measure(self, client: Client) -> adapter_pb2.CreateAdapterEvaluationResponse:
        """Listen to what both runs have played, and store what is heard."""
        before, after = (
            hear(client, run_id, self.ears, self.generation, side=side) for side, run_id in self.runs.items()
        )
        runs = {f"{side}_run_id": run_id for side, run_id in self.runs.items()}
        return store(client, self.adapter, self.ears, self.ears.compare(before, after), **runs)

    def _next_step(self, error: BaseException) -> str:
        """What to type after an error, so that what was played is not played again."""
        if len(self.runs) < len((BEFORE, AFTER)) or isinstance(error, RunFailed | RunCancelled | ClipUnusable):
            return "nothing was measured; evaluate again to play anew"
        by = [f"--wish {name}={value}" for name, value in self.ears.wish.items()] or [f"--scorer {self.ears.scorer}"]
        if self.ears.wish and isinstance(error, InvalidField):
            by = ["--scorer MODULE:FUNCTION"]  # the listener cannot hear these clips
        runs = f"--runs {self.runs[BEFORE]} {self.runs[AFTER]}"
        command = f"tunesmith adapter evaluate {shlex.quote(self.adapter.name)}@{self.adapter.version}"
        return f"nothing was stored; go on with what they play: {command} {' '.join(by)} {runs}"


def generation_of(
    adapter: adapter_pb2.Adapter, before: run_pb2.Run, after: run_pb2.Run
) -> job_spec_pb2.GenerationSettings:
    """What both of these runs play, the second with the adapter. Raises InvalidField where they do not."""
    if found := list(problems(adapter.adapter_id, EvaluatedRun.of(before), EvaluatedRun.of(after))):
        raise InvalidField.of(found)
    return after.spec.generate.generation


def hear(
    client: Client, run_id: str, ears: Ears[H], generation: job_spec_pb2.GenerationSettings, *, side: str
) -> list[H]:
    """What is heard of a run's clips, by prompt and then by seed. side: of the evaluation, in words."""
    with closing(waves(client, run_id, generation, side=side)) as clips:
        return [ears.hear(*clip) for clip in clips]


def store(
    client: Client,
    adapter: adapter_pb2.Adapter,
    ears: Ears[Any],
    measures: Iterable[adapter_pb2.Measure],
    *,
    before_run_id: str,
    after_run_id: str,
) -> adapter_pb2.CreateAdapterEvaluationResponse:
    """Store what was measured. It names its request itself: within a day the same measures of the same runs are stored
    once."""
    evaluation = adapter_pb2.AdapterEvaluation(
        adapter_id=adapter.adapter_id,
        scorer=ears.scorer,
        wish=ears.wish,
        before_run_id=before_run_id,
        after_run_id=after_run_id,
        measures=measures,
    )
    named = hashlib.sha256(evaluation.SerializeToString(deterministic=True)).hexdigest()[:32]
    request = adapter_pb2.CreateAdapterEvaluationRequest(evaluation=evaluation, request_id=named)
    return client.adapters.CreateAdapterEvaluation(request)


def player_of(adapter: adapter_pb2.Adapter) -> job_spec_pb2.PlayerSettings:
    """Who plays with an adapter."""
    return job_spec_pb2.PlayerSettings(base_model=adapter.base_model, adapter_id=adapter.adapter_id)


def _left_alone(run_id: str) -> str:
    """What to type about a run that nobody follows any more."""
    return (
        f"{run_id} is left alone. Watch it: tunesmith run watch {run_id}\n"
        f"                                              Stop it:  tunesmith run cancel {run_id}"
    )
