"""Writes to data sets, each in one transaction; audio is inspected and exports are stored outside of it."""

from __future__ import annotations

from collections.abc import Sequence

from control_plane.datasets import comparison_store, freeze, store, version_store
from control_plane.datasets.model import Dataset, DatasetVersion, NewComparison, NewSample, form_of
from control_plane.db import requests
from control_plane.db.pool import Database
from control_plane.db.requests import Request
from control_plane.errors import ComparisonInvalid, DatasetVersionInUse, NameTaken, SampleInvalid
from control_plane.ids import new_id
from control_plane.ports import AudioFacts, AudioInspector, Blobs
from tunesmith.errors import FieldProblem, InvalidField
from tunesmith.v1 import dataset_pb2

USERS_NAMED = 20  # in the message; the metadata counts them all


async def create_dataset(db: Database, *, name: str, description: str = "", request: Request | None = None) -> Dataset:
    """Create an empty data set. Raises NameTaken, RequestIdReused."""
    async with db.transaction() as conn:
        if made := await requests.replay(conn, request):
            return await store.get(conn, made)
        dataset_id = new_id("dst")
        if not await store.insert(conn, dataset_id=dataset_id, name=name, description=description):
            raise NameTaken(f"there is a data set {name} already; choose another name, or use that one", name=name)
        await requests.remember(conn, request, dataset_id)
        return await store.get(conn, dataset_id)


async def add_samples(
    db: Database, inspector: AudioInspector, *, dataset_id: str, samples: Sequence[NewSample]
) -> tuple[int, int]:
    """Add all of `samples` or none; (added, duplicates). A duplicate has the audio and the prompt of another sample.

    Only audio that the data set does not have yet is inspected. Raises DatasetNotFound, and SampleInvalid naming every
    refused row as `samples[3].audio_digest: …`.
    """
    async with db.connection() as conn:
        await store.get(conn, dataset_id)
        digests = sorted({sample.audio_digest for sample in samples})
        known = await store.known_samples(conn, dataset_id=dataset_id, digests=digests)
    new = [(row, each) for row, each in enumerate(samples) if (each.audio_digest, each.prompt) not in known]
    wanted = list(dict.fromkeys(sample.audio_digest for _, sample in new))
    inspected = dict(zip(wanted, await inspector.inspect(wanted), strict=True)) if wanted else {}
    accepted: list[tuple[NewSample, AudioFacts]] = []
    problems: list[FieldProblem] = []
    for row, sample in new:
        facts = inspected[sample.audio_digest]
        if isinstance(facts, str):
            problems.append(FieldProblem(f"samples[{row}].audio_digest", facts))
        else:
            accepted.append((sample, facts))
    if problems:
        raise SampleInvalid(_refused(problems, len(samples), "samples"), fields=problems, refused=len(problems))
    if not accepted:
        return 0, len(samples)
    async with db.transaction() as conn:
        await store.lock(conn, dataset_id)
        added = await store.insert_samples(conn, dataset_id=dataset_id, samples=accepted)
    return added, len(samples) - added


async def add_comparisons(
    db: Database, inspector: AudioInspector, *, dataset_id: str, comparisons: Sequence[NewComparison]
) -> tuple[int, int]:
    """Add all of `comparisons` or none; (added, duplicates). A duplicate says of its prompt what another one says.

    Only audio that the data set has in no sample and no comparison yet is inspected. Raises DatasetNotFound, and
    ComparisonInvalid naming every refused clip as `comparisons[3].clips[1].audio_digest: …`.
    """
    async with db.connection() as conn:
        await store.get(conn, dataset_id)
        digests = [comparison.digest for comparison in comparisons]
        known = await comparison_store.known(conn, dataset_id=dataset_id, digests=digests)
        new = [row for row, digest in enumerate(digests) if digest not in known]
        wanted = list(dict.fromkeys(clip for row in new for clip, _ in comparisons[row].clips))
        durations_s = await comparison_store.known_audio(conn, dataset_id=dataset_id, digests=wanted)
    unheard = [clip for clip in wanted if clip not in durations_s]
    refused: dict[str, str] = {}
    for clip, found in zip(unheard, await inspector.inspect(unheard) if unheard else [], strict=True):
        if isinstance(found, str):
            refused[clip] = found
        else:
            durations_s[clip] = found.duration_s
    if refused:
        problems = [
            FieldProblem(f"comparisons[{row}].clips[{place}].audio_digest", refused[clip])
            for row in new
            for place, (clip, _) in enumerate(comparisons[row].clips)
            if clip in refused
        ]
        text = _refused(problems, sum(len(comparison.clips) for comparison in comparisons), "clips of comparisons")
        raise ComparisonInvalid(text, fields=problems, refused=len(problems))
    if not new:
        return 0, len(comparisons)
    async with db.transaction() as conn:
        await store.lock(conn, dataset_id)
        kept = [comparisons[row] for row in new]
        added = await comparison_store.insert(conn, dataset_id=dataset_id, comparisons=kept, durations_s=durations_s)
    return added, len(comparisons) - added


def _refused(problems: Sequence[FieldProblem], rows: int, what: str) -> str:
    shown = "; ".join(str(problem) for problem in problems[:3])
    more = f"; and {len(problems) - 3} more" if len(problems) > 3 else ""
    return f"{len(problems)} of {rows} {what} were refused and none was stored: {shown}{more}"


async def create_version(
    db: Database,
    blobs: Blobs,
    *,
    dataset_id: str,
    min_rating: float | None = None,
    wanted: dataset_pb2.Derivation | None = None,
    validate_only: bool = False,
    request: Request | None = None,
) -> DatasetVersion:
    """Freeze the samples rated `min_rating` or better, or all of them, or the pairs or lists that follow from the data
    set; with validate_only show it, without ids, and store nothing.

    wanted: the settings of pairs or lists, which may be open. Raises InvalidField, DatasetNotFound, DatasetEmpty,
    RequestIdReused.
    """
    if wanted is not None and min_rating is not None:
        what = f"not with {form_of(wanted)}, which need the clips that are not liked, too; leave it out"
        raise InvalidField.of([FieldProblem("min_rating", what)])
    request = None if validate_only else request
    async with db.connection() as conn:
        if made := await requests.find(conn, request):
            return await store.get_version(conn, made)
    if wanted is None:
        selection = await freeze.select(db, dataset_id=dataset_id, min_rating=min_rating)
    else:
        selection = await freeze.select_derived(db, dataset_id=dataset_id, wanted=wanted)
    if validate_only:
        return freeze.rehearsed(selection)
    stored = await freeze.store_bytes(blobs, selection)
    async with db.transaction() as conn:
        if made := await requests.replay(conn, request):
            return await store.get_version(conn, made)
        version = await freeze.insert(conn, stored)
        await requests.remember(conn, request, version.dataset_version_id)
        return version


async def delete_version(db: Database, *, dataset_version_id: str) -> None:
    """Delete a version that nothing uses; its samples and its blob stay.

    Raises DatasetVersionNotFound, and DatasetVersionInUse naming the runs and adapters that use it.
    """
    async with db.transaction() as conn:
        await version_store.lock(conn, dataset_version_id)
        users = await version_store.users(conn, dataset_version_id)
        if users:
            shown = ", ".join(users[:USERS_NAMED])
            more = f" and {len(users) - USERS_NAMED} more" if len(users) > USERS_NAMED else ""
            raise DatasetVersionInUse(
                f"{shown}{more} use{'s' if len(users) == 1 else ''} this version, so it stays",
                dataset_version_id=dataset_version_id,
                users=shown,
                user_count=len(users),
            )
        await version_store.delete(conn, dataset_version_id)
