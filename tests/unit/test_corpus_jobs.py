"""The corpus of a language model on its way to a training: fetched as blobs, laid out as files, checked."""

from __future__ import annotations

from pathlib import Path

from tests.support.node_jobs import MemorySource, end_of, events_of, fake_jobs, lines, node_config, ulid
from trainer_node.blob_folder import BlobFolder
from tunesmith.v1 import job_spec_pb2, trainer_pb2

TEXTS = {
    "es/quijote.txt": b"En un lugar de la Mancha",
    "en.txt": b"Call me Ishmael.",
    "copy.txt": b"Call me Ishmael.",
}


def text_job(texts: dict[str, str], *, attempt: int = 1) -> trainer_pb2.Job:
    """A language model of these texts, digests by name."""
    files = [job_spec_pb2.CorpusFile(name=name, digest=digest) for name, digest in texts.items()]
    corpus = job_spec_pb2.CorpusSettings(corpus_files=files)
    return trainer_pb2.Job(
        job_id=f"job_{ulid(str(attempt))}",
        run_id=f"run_{ulid('text')}",
        attempt=attempt,
        spec=job_spec_pb2.JobSpec(tiny_lm=job_spec_pb2.TinyLmSpec(corpus=corpus)),
    )


async def test_a_corpus_is_laid_out_under_its_names_and_each_text_is_fetched_once(tmp_path: Path) -> None:
    source = MemorySource()
    job = text_job({name: source.add(text) for name, text in TEXTS.items()})

    async with fake_jobs(node_config(tmp_path), source) as jobs:
        await jobs.start(job)
        said = lines(await events_of(jobs, job.job_id))

    assert said == ["folders=1", f"corpus={sorted(TEXTS.items())}"]
    assert len(source.fetched) == 2, "equal texts are one blob"


async def test_a_built_in_corpus_needs_no_files(tmp_path: Path) -> None:
    job = text_job({})

    async with fake_jobs(node_config(tmp_path)) as jobs:
        await jobs.start(job)
        said = lines(await events_of(jobs, job.job_id))

    assert said == ["folders=0"]


async def test_a_text_that_the_control_plane_has_lost_is_told_with_what_to_do(tmp_path: Path) -> None:
    source = MemorySource()
    lost = text_job({"en.txt": "0" * 64})

    async with fake_jobs(node_config(tmp_path), source) as jobs:
        await jobs.start(lost)
        failed = end_of(await events_of(jobs, lost.job_id)).failed

    assert failed.reason == "INPUTS_UNAVAILABLE"
    assert "upload the text with UploadBlob again, then resume the run or create a new one" in failed.message


async def test_a_text_that_was_damaged_on_the_disk_is_fetched_again_by_a_resume(tmp_path: Path) -> None:
    source, config = MemorySource(), node_config(tmp_path)
    texts = {"en.txt": source.add(b"Call me Ishmael.")}
    blobs = BlobFolder(config.blobs_dir)
    blobs.path(blobs.put_bytes(b"Call me Ishmael.")).write_bytes(b"Call me Isabelle")

    async with fake_jobs(config, source) as jobs:
        ends = []
        for job in (text_job(texts, attempt=attempt) for attempt in (1, 2)):
            await jobs.start(job)
            ends.append(await events_of(jobs, job.job_id))
        failed, resumed = ends

    assert end_of(failed).failed.reason == "INPUTS_UNAVAILABLE"
    assert "en.txt of the corpus was damaged on the disk of this node" in end_of(failed).failed.message
    assert "corpus=[('en.txt', b'Call me Ishmael.')]" in lines(resumed)
