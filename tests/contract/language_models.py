"""Runs of a language model on the control plane of the tests, from their texts to the model that they leave."""

from __future__ import annotations

from control_plane.runs import commands
from control_plane.runs.model import Artefacts, Job
from tests.support.control_plane import Plane, fresh
from tunesmith.v1 import blob_pb2, job_event_pb2, job_spec_pb2, model_pb2_grpc, node_pb2, run_pb2


def models(plane: Plane) -> model_pb2_grpc.ModelServiceStub:
    """The service of what they leave."""
    return model_pb2_grpc.ModelServiceStub(plane.channel)


def learning_from(*files: tuple[str, str]) -> job_spec_pb2.JobSpec:
    """The spec of a language model on these files, each a name and a digest; on a built-in corpus without any."""
    named = [job_spec_pb2.CorpusFile(name=name, digest=digest) for name, digest in files]
    return job_spec_pb2.JobSpec(tiny_lm=job_spec_pb2.TinyLmSpec(corpus={"corpus_files": named}))


async def learner(plane: Plane) -> str:
    """A node that trains language models beside all else, so that no other run is refused for want of it; its id."""
    kinds = ["supervised", "dpo", "ranking", "tiny_lm"]
    node = node_pb2.Node(name=fresh("learner"), address="127.0.0.1:1", kinds=kinds, slots=64)
    return str((await plane.nodes.RegisterNode(node_pb2.RegisterNodeRequest(node=node))).node.node_id)


async def new_run(plane: Plane, experiment_id: str = "", **fields: object) -> run_pb2.Run:
    """A queued run of a language model, by default of an experiment of its own."""
    await learner(plane)
    return await plane.new_run(experiment_id, **{"spec": learning_from(), **fields})


async def dispatch(plane: Plane, run_id: str) -> Job:
    """Give this run, before all others, to a node of its own."""
    return await plane.dispatch(run_id, await learner(plane))


async def finish(plane: Plane, run_id: str, files: dict[str, bytes]) -> str:
    """Let this run succeed with these files of a model; the model's id."""
    job = await dispatch(plane, run_id)
    kept = [
        blob_pb2.File(path=path, digest=await plane.blobs.put_bytes(data), size_bytes=len(data))
        for path, data in files.items()
    ]
    run = (await plane.runs.GetRun(run_pb2.GetRunRequest(run_id=run_id))).run
    artefacts = Artefacts(
        training_config=job_event_pb2.TrainingConfig(run_id=run_id, spec=run.spec, device="cpu fp32"),
        report=job_event_pb2.TrainingReport(final_loss=4.5, best_loss=4.75, best_step=8, steps=10),
        report_markdown="# Report\n",
    )
    finished = job_event_pb2.JobFinished(succeeded=job_event_pb2.JobSucceeded(model_files=kept))
    async with plane.db.transaction() as conn:
        return str((await commands.finish_run(conn, job, finished, artefacts, "ingest")).model_id)


async def new_model(plane: Plane, experiment_id: str = "", files: dict[str, bytes] | None = None) -> str:
    """A model, by default of an experiment of its own; its id."""
    run = await new_run(plane, experiment_id)
    return await finish(plane, run.run_id, files or {"best_model.pt": b"weights"})
