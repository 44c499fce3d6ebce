"""`tunesmith dataset import`: a file of rated and compared clips, checked in whole before the first is sent."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from services.cli.commands import ClientCommand, session_of
from services.cli.completion import DATASETS
from services.cli.counting import Counting

if TYPE_CHECKING:
    from services.cli.import_file import PreparedComparison, PreparedImport, PreparedRow
    from tunesmith.client.client import Client
    from tunesmith.errors import FieldProblem
    from tunesmith.v1.dataset_pb2 import AddComparisonsResponse, AddSamplesResponse


@click.command("import", cls=ClientCommand)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--to", "dataset", required=True, shell_complete=DATASETS, help="Data set; a new name creates it.")
@click.option(
    "--audio-folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=None,
    help="Where the audio lies; the file's folder where not given.",
)
@click.option("--dry-run", is_flag=True, help="Check everything and send nothing.")
@click.pass_context
def import_(ctx: click.Context, file: Path, dataset: str, audio_folder: Path | None, dry_run: bool) -> None:
    """Check, upload and add the rows of a JSONL or CSV file.

    A row is a rated clip (audio, prompt, rating and, if wanted, tags), a preference pair (prompt, chosen, rejected) or
    a ranked list (prompt, ranked). Every row and every clip is checked before anything is sent; problems are told as
    file:line, all at once (exit code 2). Importing a file again adds only what is new; an interrupted upload goes on
    where it stopped.
    """
    from services.cli.import_file import prepare_import
    from tunesmith.client.transfer import upload_missing

    session = session_of(ctx)
    prepared = prepare_import(file, audio_folder=audio_folder, on_audio=Counting("checking", "clip"))
    session.out.note(_checked(prepared))
    if dry_run:
        session.out.note("nothing was sent (--dry-run)")
        return
    uploading = Counting("uploading", "clip")
    with session.client() as client:
        dataset_id, created = find_or_create(client, dataset)
        upload_missing(client, prepared.audio_files, on_file=lambda _, done, total: uploading(done + 1, total))
        samples = add_samples(client, dataset_id, prepared)
        comparisons = add_comparisons(client, dataset_id, prepared)
    if session.out.format == "table":
        facts = [("dataset_id", dataset_id), ("added", samples.added_count), ("duplicates", samples.duplicate_count)]
        if prepared.comparisons:
            facts += [
                ("added_comparisons", comparisons.added_count),
                ("duplicate_comparisons", comparisons.duplicate_count),
            ]
        session.out.pairs(facts)
    else:
        session.out.document({"dataset_id": dataset_id, "samples": samples, "comparisons": comparisons})
    session.out.note(f"{'created data set' if created else 'added to data set'} {dataset}")
    if prepared.comparisons:
        session.out.note(f"next: tunesmith dataset version create {dataset} --pairs --dry-run")
    session.out.note(f"next: tunesmith experiment create NAME --dataset {dataset}")


def _checked(prepared: PreparedImport) -> str:
    """What was found in a file that is right: `24 rows and 3 comparisons are right, 30 clips, 1.2 MB`."""
    from tunesmith.preferences import counted

    rows, comparisons = len(prepared.rows), len(prepared.comparisons)
    found = [counted(rows, "row")] if rows or not comparisons else []
    found += [counted(comparisons, "comparison")] if comparisons else []
    clips = f"{counted(len(prepared.audio_files), 'clip')}, {prepared.size_bytes / 1e6:.1f} MB"
    return f"{' and '.join(found)} {'is' if rows + comparisons == 1 else 'are'} right, {clips}"


def find_or_create(client: Client, name: str) -> tuple[str, bool]:
    """The id of the data set; one that is not there yet is created, unless an id was given."""
    from tunesmith.client.errors import ApiError
    from tunesmith.client.names import looks_like_id, resolve_dataset
    from tunesmith.v1 import dataset_pb2

    try:
        return resolve_dataset(client, name), False
    except ApiError as error:
        if error.reason != "DATASET_NOT_FOUND" or looks_like_id(name, "dst"):
            raise
    request = dataset_pb2.CreateDatasetRequest(dataset=dataset_pb2.Dataset(name=name))
    return client.datasets.CreateDataset(request).dataset.dataset_id, True


def add_samples(client: Client, dataset_id: str, prepared: PreparedImport) -> AddSamplesResponse:
    """Send the rated rows. What the server refuses is told by file and line."""
    from tunesmith.v1 import dataset_pb2

    total = dataset_pb2.AddSamplesResponse()
    for batch in prepared.batches():
        request = dataset_pb2.AddSamplesRequest(dataset_id=dataset_id, samples=[row.sample() for row in batch])
        with _refusals_by_line(prepared, batch):
            answer = client.datasets.AddSamples(request, timeout=600)
        total.added_count += answer.added_count
        total.duplicate_count += answer.duplicate_count
    return total


def add_comparisons(client: Client, dataset_id: str, prepared: PreparedImport) -> AddComparisonsResponse:
    """Send the rows that compare clips. What the server refuses is told by file and line."""
    from tunesmith.v1 import dataset_pb2

    total = dataset_pb2.AddComparisonsResponse()
    for batch in prepared.comparison_batches():
        comparisons = [row.comparison() for row in batch]
        request = dataset_pb2.AddComparisonsRequest(dataset_id=dataset_id, comparisons=comparisons)
        with _refusals_by_line(prepared, batch):
            answer = client.datasets.AddComparisons(request, timeout=600)
        total.added_count += answer.added_count
        total.duplicate_count += answer.duplicate_count
    return total


@contextmanager
def _refusals_by_line(
    prepared: PreparedImport, batch: Sequence[PreparedRow] | Sequence[PreparedComparison]
) -> Iterator[None]:
    """Tell the server's fields, such as `samples[3]…`, as `file:line` of the rows of `batch`."""
    from tunesmith.client.errors import ApiError

    try:
        yield
    except ApiError as error:
        error.fields = tuple(_by_line(prepared, batch, field) for field in error.fields)
        raise


def _by_line(
    prepared: PreparedImport, batch: Sequence[PreparedRow] | Sequence[PreparedComparison], field: FieldProblem
) -> FieldProblem:
    from services.cli.import_file import PreparedComparison
    from tunesmith.errors import FieldProblem

    match = re.match(r"(?:samples|comparisons)\[(\d+)\](?:\.clips\[(\d+)\])?", field.path)
    if not match or int(match[1]) >= len(batch):
        return field
    refused = batch[int(match[1])]
    what = field.what
    if match[2] and isinstance(refused, PreparedComparison):
        audio_path, _ = refused.row.clips[int(match[2])]
        what = f"{audio_path.name}: {what}"
    problem = prepared.problem(refused, what)
    return FieldProblem(f"{problem.file}:{problem.line}", problem.what)
