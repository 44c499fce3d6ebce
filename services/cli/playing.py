"""Clips that runs of generate play: asked for, followed to their end, and read as waves."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from services.cli.attach import follow, get_run
from services.cli.clip_audio import ClipUnusable, read_wave
from services.cli.counting import Counting
from services.cli.previews import latest
from tunesmith.client.lists import read_list
from tunesmith.client.watch import watch_run
from tunesmith.errors import TunesmithError
from tunesmith.v1 import job_spec_pb2, run_pb2

if TYPE_CHECKING:
    from services.cli.session import Session
    from tunesmith.client.client import Client


class RunFailed(TunesmithError):
    """A run that was waited for has failed."""

    reason = "RUN_FAILED"


class RunCancelled(TunesmithError):
    """A run that was waited for was cancelled."""

    reason = "RUN_CANCELLED"


def submit(
    client: Client,
    player: job_spec_pb2.PlayerSettings,
    generation: job_spec_pb2.GenerationSettings,
    *,
    experiment_id: str,
    display_name: str,
) -> run_pb2.Run:
    """Queue a run that plays."""
    spec = job_spec_pb2.JobSpec(generate=job_spec_pb2.GenerateSpec(player=player, generation=generation))
    request = run_pb2.CreateRunRequest(experiment_id=experiment_id, display_name=display_name, spec=spec)
    return client.runs.CreateRun(request).run


def followed(session: Session, client: Client, run_id: str) -> run_pb2.Run:
    """Follow a run until it has ended; on stderr, for the answer is what is heard."""
    if session.out.format == "table":
        aside = replace(session, out=replace(session.out, stdout=session.out.notes))
        return follow(aside, client, run_id)
    for _ in watch_run(client, run_id, on_gap=session.gap):
        pass
    return get_run(client, run_id)


def require_success(run: run_pb2.Run, *, what: str, again: str) -> None:
    """Raises RunFailed, RunCancelled. what: the run in words; again: what to do where it was cancelled."""
    if run.state == run_pb2.RUN_STATE_CANCELLED:
        raise RunCancelled(f"{what}, {run.run_id}, was cancelled; {again}")
    if run.state != run_pb2.RUN_STATE_SUCCEEDED:
        why = f"{run.failure.reason}: {run.failure.message}"
        raise RunFailed(f"{what}, {run.run_id}, failed with {why}; see `tunesmith run logs {run.run_id}`")


def waves(
    client: Client, run_id: str, generation: job_spec_pb2.GenerationSettings, *, side: str
) -> Generator[tuple[NDArray[np.float32], int, str]]:
    """The clips of a run as ([N] samples of one channel, rate in Hz, prompt), by prompt and then by seed.

    Raises ClipUnusable.
    """
    clips = _clips(client, run_id, generation)
    with closing(Counting(f"{side}: listening to", "clip")) as tell:
        for number, clip in enumerate(clips, 1):
            tell(number, len(clips))
            what = f"the clip of {clip.prompt!r} with seed {clip.seed} of {run_id}"
            yield *read_wave(client, clip.file.digest, what=what), generation.prompts[clip.prompt_index]


def _clips(client: Client, run_id: str, generation: job_spec_pb2.GenerationSettings) -> list[run_pb2.Preview]:
    """The clip of each prompt and seed; where several attempts have played it, that of the last."""
    found = read_list(client.runs.ListPreviews, run_pb2.ListPreviewsRequest(run_id=run_id)).previews
    newest = {(one.prompt_index, one.seed): one for one in latest(found)}
    seeds = range(generation.seed, generation.seed + generation.clips_per_prompt)
    wanted = [(place, seed) for place in range(len(generation.prompts)) for seed in seeds]
    if missing := [one for one in wanted if one not in newest]:
        place, seed = missing[0]
        what = f"{run_id} lacks {len(missing)} of {len(wanted)} clips, first that of {generation.prompts[place]!r}"
        raise ClipUnusable(f"{what} with seed {seed}; see `tunesmith run previews {run_id}`, and evaluate again")
    return [newest[one] for one in wanted]
