"""Ways to what a test starts from, on the real control plane and on the fake one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from control_plane.db.notify import run_topic
from control_plane.telemetry.commands import apply_events
from tests.cli.plane import FakePlane
from tests.cli.plane_state import id_of
from tests.contract import clips, language_models
from tests.support.control_plane import Plane
from tests.support.fakes import InMemoryBlobs
from tests.support.telemetry_load import end_run, logs_event, make_job, metrics_event
from tunesmith.v1 import blob_pb2, experiment_pb2, job_event_pb2

CLIP = b"a clip"
FILES = {"config.json": b"{}", "empty.txt": b"", "model.safetensors": b"weights!"}


class Setting(Protocol):
    """Ways to what a test starts from. address: where the control plane answers."""

    address: str

    async def experiment(self, dataset_id: str = "") -> str: ...
    async def run(self, experiment_id: str = "", *, lines: Sequence[str] = (), losses: Sequence[float] = ()) -> str:
        """A run that trains and has told this."""
        ...

    async def run_with_clips(self, *prompts: str, clip: bytes = CLIP) -> str:
        """A run that trains and has generated the same clip for each prompt."""
        ...

    async def end(self, run_id: str) -> None:
        """Let a run end as cancelled."""
        ...

    async def adapter(self) -> str:
        """An adapter of FILES."""
        ...

    async def model(self) -> str:
        """A language model of FILES."""
        ...

    async def learner(self) -> None:
        """Let there be a node that trains language models."""
        ...

    async def player(self) -> None:
        """Let there be a node that plays clips."""
        ...

    async def refuse(self, digest: str, why: str) -> None:
        """Let a clip be refused where it is looked into."""
        ...


class RealSetting:
    def __init__(self, plane: Plane) -> None:
        self.plane, self.address = plane, plane.address

    async def experiment(self, dataset_id: str = "") -> str:
        return (await self.plane.new_experiment(dataset_id=dataset_id or None)).experiment_id

    async def run(self, experiment_id: str = "", *, lines: Sequence[str] = (), losses: Sequence[float] = ()) -> str:
        job = await make_job(self.plane.db)
        events = [logs_event(1, lines), metrics_event(2, {"loss": losses}, range(1, len(losses) + 1))]
        told = [event for event, any_of in zip(events, (lines, losses), strict=True) if any_of]
        for seq, event in enumerate(told, 1):
            event.seq = seq
        await apply_events(self.plane.db, InMemoryBlobs(), job, told, lease_s=15)
        if experiment_id:
            async with self.plane.db.transaction() as conn:
                moved = "UPDATE runs SET experiment_id = %s WHERE run_id = %s"
                await conn.execute(moved, [experiment_id, job.run_id])
        return job.run_id

    async def run_with_clips(self, *prompts: str, clip: bytes = CLIP) -> str:
        job, blobs = await make_job(self.plane.db), self.plane.blobs
        file = blob_pb2.File(path="clip.wav", digest=await blobs.put_bytes(clip), size_bytes=len(clip))
        told = [
            job_event_pb2.JobEvent(
                seq=place + 1,
                preview_saved={"prompt_index": place, "prompt": prompt, "seed": 7, "duration_s": 2, "file": file},
            )
            for place, prompt in enumerate(prompts)
        ]
        await apply_events(self.plane.db, blobs, job, told, lease_s=15)
        return job.run_id

    async def end(self, run_id: str) -> None:
        await end_run(self.plane.db, run_id)
        self.plane.db.hub.wake(run_topic(run_id))

    async def adapter(self) -> str:
        return await self.plane.finish((await self.plane.new_run()).run_id, FILES)

    async def model(self) -> str:
        return await language_models.new_model(self.plane, files=FILES)

    async def learner(self) -> None:
        await language_models.learner(self.plane)

    async def player(self) -> None:
        await clips.player(self.plane)

    async def refuse(self, digest: str, why: str) -> None:
        self.plane.inspector.refused[digest] = why


class FakeSetting:
    def __init__(self, fake: FakePlane) -> None:
        self.fake, self.address = fake, fake.address

    async def experiment(self, dataset_id: str = "") -> str:
        known = self.fake.state.experiments
        found = experiment_pb2.Experiment(experiment_id=id_of("exp", len(known) + 1), name=f"trial-{len(known)}")
        found.dataset_id = dataset_id
        known.append(found)
        return found.experiment_id

    async def run(self, experiment_id: str = "", *, lines: Sequence[str] = (), losses: Sequence[float] = ()) -> str:
        run_id = id_of("run", len(self.fake.state.runs) + 1)
        self.fake.state.log_lines, self.fake.state.losses = list(lines), list(losses)
        self.fake.add_run("RUNNING", run_id, experiment_id=experiment_id)
        return run_id

    async def run_with_clips(self, *prompts: str, clip: bytes = CLIP) -> str:
        run_id = await self.run()
        for place, prompt in enumerate(prompts):
            self.fake.add_clip(run_id, prompt, clip, prompt_index=place, duration_s=2)
        return run_id

    async def end(self, run_id: str) -> None:
        self.fake.add_run("CANCELLED", run_id)

    async def adapter(self) -> str:
        return self.fake.add_adapter(len(self.fake.state.adapters) + 1, **FILES).adapter_id

    async def model(self) -> str:
        return self.fake.add_model(files=FILES).model_id

    async def learner(self) -> None:
        """The fake asks for none."""

    async def player(self) -> None:
        """The fake asks for none."""

    async def refuse(self, digest: str, why: str) -> None:
        self.fake.state.refused[digest] = why
