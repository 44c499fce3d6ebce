"""Runs that play clips on the control plane of the tests, from their prompts to their previews."""

from __future__ import annotations

from control_plane.telemetry.commands import apply_events
from tests.support.control_plane import Plane, fresh
from tunesmith.v1 import blob_pb2, job_event_pb2, job_spec_pb2, node_pb2, run_pb2


def playing(*prompts: str, base_model: str = "tiny", adapter_id: str = "", clips: int = 1) -> job_spec_pb2.JobSpec:
    """The spec of a run that plays so many clips of each prompt."""
    player = job_spec_pb2.PlayerSettings(base_model=base_model, adapter_id=adapter_id)
    generation = job_spec_pb2.GenerationSettings(prompts=prompts, clips_per_prompt=clips)
    return job_spec_pb2.JobSpec(generate=job_spec_pb2.GenerateSpec(player=player, generation=generation))


async def player(plane: Plane) -> str:
    """A node that plays clips beside all trainings of music; its id."""
    kinds = ["supervised", "dpo", "ranking", "generate"]
    node = node_pb2.Node(name=fresh("player"), address="127.0.0.1:1", kinds=kinds, slots=64)
    return str((await plane.nodes.RegisterNode(node_pb2.RegisterNodeRequest(node=node))).node.node_id)


async def new_run(plane: Plane, experiment_id: str = "", **fields: object) -> run_pb2.Run:
    """A queued run of clips, by default of an experiment of its own."""
    await player(plane)
    return await plane.new_run(experiment_id, **{"spec": playing("a song"), **fields})


async def play(plane: Plane, run: run_pb2.Run) -> None:
    """Let this run play its clips, each a blob of its own, and succeed."""
    job = await plane.dispatch(run.run_id, await player(plane))
    generation = run.spec.generate.generation
    saved = [
        job_event_pb2.PreviewSaved(prompt_index=place, prompt=prompt, seed=generation.seed + clip, duration_s=2)
        for place, prompt in enumerate(generation.prompts)
        for clip in range(generation.clips_per_prompt)
    ]
    for one in saved:
        data = f"RIFF {one.prompt} {one.seed}".encode()
        digest = await plane.blobs.put_bytes(data)
        one.file.CopyFrom(blob_pb2.File(path=f"{one.seed}.wav", digest=digest, size_bytes=len(data)))
    done = job_event_pb2.JobFinished(succeeded=job_event_pb2.JobSucceeded(clip_count=len(saved)))
    events = [job_event_pb2.JobEvent(seq=seq, preview_saved=one) for seq, one in enumerate(saved, start=1)]
    events.append(job_event_pb2.JobEvent(seq=len(saved) + 1, finished=done))
    await apply_events(plane.db, plane.blobs, job, events, lease_s=60)
