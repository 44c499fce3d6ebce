"""`tunesmith dataset import`: a file of rated clips, in whole or not at all."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from services.cli.commands import ClientCommand, session_of
from services.cli.completion import DATASETS
from services.cli.terminal import is_interactive

if TYPE_CHECKING:
    from services.cli.import_file import PreparedImport, PreparedRow
    from tunesmith.client.client import Client
    from tunesmith.client.errors import ApiError
    from tunesmith.errors import FieldProblem
    from tunesmith.v1.dataset_pb2 import AddSamplesResponse


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

    A row has audio, prompt, rating and, if wanted, tags. Every row and every clip is checked before anything is sent;
    problems are told as file:line, all at once (exit code 2). Importing a file again adds only what is new; an
    interrupted upload goes on where it stopped.
    """
    from services.cli.import_file import prepare_import
    from tunesmith.client.transfer import upload_missing

    session = session_of(ctx)
    prepared = prepare_import(file, audio_folder=audio_folder, on_audio=_counter("checking"))
    megabytes = prepared.size_bytes / 1e6
    session.out.note(f"{len(prepared.rows)} rows are right, {len(prepared.audio_files)} clips, {megabytes:.1f} MB")
    if dry_run:
        session.out.note("nothing was sent (--dry-run)")
        return
    uploading = _counter("uploading")
    with session.client() as client:
        dataset_id, created = find_or_create(client, dataset)
        upload_missing(client, prepared.audio_files, on_file=lambda _, done, total: uploading(done + 1, total))
        total = add_samples(client, dataset_id, prepared)
    if session.out.format == "table":
        session.out.pairs(
            [("dataset_id", dataset_id), ("added", total.added_count), ("duplicates", total.duplicate_count)]
        )
    else:
        session.out.response(total)
    session.out.note(f"{'created data set' if created else 'added to data set'} {dataset}")
    session.out.note(f"next: tunesmith experiment create NAME --dataset {dataset}")


def _counter(verb: str) -> _Counter:
    return _Counter(verb)


class _Counter:
    """One line on a terminal's stderr that counts; silence elsewhere."""

    def __init__(self, verb: str) -> None:
        import sys

        self._verb = verb
        self._stream = sys.stderr if is_interactive(sys.stderr) else None

    def __call__(self, done: int, total: int) -> None:
        if self._stream:
            end = "\n" if done >= total else ""
            print(f"\r{self._verb} clip {done} of {total} ", end=end, file=self._stream, flush=True)


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
    """Send the rows. What the server refuses is told by file and line."""
    from tunesmith.client.errors import ApiError
    from tunesmith.v1 import dataset_pb2

    total = dataset_pb2.AddSamplesResponse()
    for batch in prepared.batches():
        request = dataset_pb2.AddSamplesRequest(dataset_id=dataset_id, samples=[row.sample() for row in batch])
        try:
            answer = client.datasets.AddSamples(request, timeout=600)
        except ApiError as error:
            error.fields = tuple(_by_line(prepared, batch, error))
            raise
        total.added_count += answer.added_count
        total.duplicate_count += answer.duplicate_count
    return total


def _by_line(prepared: PreparedImport, batch: tuple[PreparedRow, ...], error: ApiError) -> Iterator[FieldProblem]:
    """The server's fields, `samples[3]…`, as `file:line`."""
    from tunesmith.errors import FieldProblem

    for field in error.fields:
        match = re.match(r"samples\[(\d+)\]", field.path)
        if match and int(match[1]) < len(batch):
            problem = prepared.problem(batch[int(match[1])], field.what)
            yield FieldProblem(f"{problem.file}:{problem.line}", problem.what)
        else:
            yield field
