"""Runs that bring a corpus: its files are uploaded before, and become one folder on the node."""

from __future__ import annotations

import pytest

from control_plane.config import DispatchConfig
from control_plane.errors import BlobNotFound
from control_plane.experiments.commands import create_experiment
from control_plane.loops.dispatch import Dispatch
from tests.support.fakes import FakeTrainer
from tests.support.registry import Registry, digest_of, tiny_lm
from tunesmith.errors import InvalidField
from tunesmith.v1 import job_spec_pb2


async def corpus(registry: Registry, *names: str) -> list[dict[str, str]]:
    """Corpus files with these names, each uploaded."""
    return [{"name": name, "digest": await registry.blobs.put_bytes(name.encode())} for name in names]


async def test_a_node_is_told_the_files_of_a_corpus_that_is_uploaded(registry: Registry):
    files = await corpus(registry, "en.txt", "es/quijote.txt", "es/novelas/gitanilla.txt")
    trainer = FakeTrainer()

    await registry.queued(spec=tiny_lm(corpus_files=files))
    await registry.node(kinds=("tiny_lm",))
    await Dispatch(registry.db, trainer, DispatchConfig()).tick()

    job = trainer.started[0]
    assert [file.name for file in job.spec.tiny_lm.corpus.corpus_files] == [file["name"] for file in files]


async def test_one_text_may_stand_under_two_names(registry: Registry):
    digest = await registry.blobs.put_bytes(b"text")

    run = await registry.queued(
        spec=tiny_lm(corpus_files=[{"name": "a.txt", "digest": digest}, {"name": "b.txt", "digest": digest}])
    )

    assert len(run.spec.tiny_lm.corpus.corpus_files) == 2


@pytest.mark.parametrize(
    ("lacking", "said"),
    [
        (("es/quijote.txt",), "es/quijote.txt is not uploaded; upload it"),
        (
            ("es/quijote.txt", "es/b.txt", "es/c.txt"),
            "es/quijote.txt and 2 more of the corpus are not uploaded; upload them",
        ),
    ],
)
@pytest.mark.parametrize("validate_only", [False, True])
async def test_a_corpus_that_is_not_uploaded_is_refused_with_the_first_file_that_is_not(
    registry: Registry, lacking: tuple[str, ...], said: str, validate_only: bool
):
    files = await corpus(registry, "en.txt")
    files += [{"name": name, "digest": digest_of(name + " elsewhere")} for name in lacking]

    with pytest.raises(BlobNotFound, match=f"^{said}.* with UploadBlob, then create the run again$") as refused:
        await registry.queued(spec=tiny_lm(corpus_files=files), validate_only=validate_only)

    assert refused.value.metadata == {"digest": files[1]["digest"], "name": "es/quijote.txt"}
    assert await registry.count("runs") == 0


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("a.txt", "A.txt"), r"[1].name: A.txt is the name of corpus_files[0], too; rename one of them"),
        (("a.txt", "a.txt"), r"[1].name: a.txt is the name of corpus_files[0], too; rename one of them"),
        (("a.txt", "a.txt/b.txt"), r"[1].name: a.txt/b.txt lies in a.txt, which is a file: corpus_files[0]; rename"),
        (
            ("x/a.txt/b/c.txt", "x/a.txt"),
            r"[0].name: x/a.txt/b/c.txt lies in x/a.txt, which is a file: corpus_files[1]",
        ),
    ],
)
async def test_names_that_cannot_become_one_folder_are_refused_by_their_path(
    registry: Registry, names: tuple[str, ...], said: str
):
    files = await corpus(registry, *names)

    with pytest.raises(InvalidField) as refused:
        await registry.queued(spec=tiny_lm(corpus_files=files))

    assert len(refused.value.fields) == 1
    assert str(refused.value).startswith(f"spec.tiny_lm.corpus.corpus_files{said}")


@pytest.mark.parametrize("name", ["../en.txt", "/en.txt", "en.text", "es//a.txt", ".txt", "a b.txt"])
async def test_a_name_that_is_no_name_of_a_text_is_refused(registry: Registry, name: str):
    files = await corpus(registry, name)

    with pytest.raises(InvalidField, match=r"spec\.tiny_lm\.corpus\.corpus_files\[0\]\.name: "):
        await registry.queued(spec=tiny_lm(corpus_files=files))


async def test_the_corpus_of_an_experiment_is_checked_when_a_run_is_created(registry: Registry):
    files = [{"name": "en.txt", "digest": digest_of("en")}]
    experiment = await create_experiment(registry.db, name="prose", default_spec=tiny_lm(corpus_files=files))

    with pytest.raises(BlobNotFound, match=r"en\.txt is not uploaded"):
        await registry.queued(experiment, spec=None)
    registry.blobs.stored[digest_of("en")] = b"en"
    run = await registry.queued(experiment, spec=job_spec_pb2.JobSpec(tiny_lm={"training": {"epochs": 3}}))

    assert [file.name for file in run.spec.tiny_lm.corpus.corpus_files] == ["en.txt"]
