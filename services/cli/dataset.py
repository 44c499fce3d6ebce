"""`tunesmith dataset`: rated and compared clips, and what is frozen of them."""

from __future__ import annotations

import shlex
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from services.cli.commands import LazyGroup, LocalCommand, session_of
from services.cli.completion import DATASETS
from services.cli.listing import limit_options, show_list
from services.cli.output import Column
from services.cli.version_words import holding

if TYPE_CHECKING:
    from tunesmith.v1.dataset_pb2 import Comparison

COLUMNS = (
    Column("dataset_id", lambda one: one.dataset_id),
    Column("name", lambda one: one.name),
    Column("samples", lambda one: one.sample_count),
    Column("comparisons", lambda one: one.comparison_count),
    Column("description", lambda one: one.description),
    Column("create_time", lambda one: one.create_time),
)
SAMPLE_COLUMNS = (
    Column("sample_id", lambda one: one.sample_id),
    Column("rating", lambda one: one.rating),
    Column("duration_s", lambda one: one.duration_s),
    Column("rate_hz", lambda one: one.sample_rate_hz),
    Column("channels", lambda one: one.channels),
    Column("prompt", lambda one: one.prompt),
    Column("tags", lambda one: [f"{key}={value}" for key, value in sorted(one.tags.items())]),
    Column("audio_digest", lambda one: one.audio_digest, wide=True),
)
COMPARISON_COLUMNS = (
    Column("comparison_id", lambda one: one.comparison_id),
    Column("order", lambda one: in_order(one)),
    Column("prompt", lambda one: one.prompt),
    Column("create_time", lambda one: one.create_time),
    Column("clips", lambda one: [f"{clip.audio_digest}:{clip.rank}" for clip in one.clips], wide=True),
)


@click.group(
    cls=LazyGroup,
    members={
        "import": ("services.cli.dataset_import:import_", "Check, upload and add the rows of a JSONL or CSV file."),
        "rate": ("services.cli.dataset_rate:rate", "Rate clips that runs have generated, by ear or by a listener."),
        "version": ("services.cli.dataset_version:version", "Freeze clips, pairs or ranked lists of a data set."),
    },
)
def dataset() -> None:
    """Import or rate clips and freeze versions of them. A data set is named by id, prefix or name."""


@dataset.command()
@click.argument("name")
@click.option("--description", default="", help="What it holds.")
@click.pass_context
def create(ctx: click.Context, name: str, description: str) -> None:
    """Create an empty data set. Exit code 4: the name is taken."""
    from tunesmith.v1 import dataset_pb2

    session = session_of(ctx)
    with session.client() as client:
        wanted = dataset_pb2.Dataset(name=name, description=description)
        response = client.datasets.CreateDataset(dataset_pb2.CreateDatasetRequest(dataset=wanted))
    session.out.response(response, response.dataset)
    session.out.note(f"next: tunesmith dataset import rated.jsonl --to {name}")


@dataset.command("list")
@limit_options
@click.pass_context
def list_(ctx: click.Context, limit: int, every: bool) -> None:
    """List data sets, newest first."""
    from tunesmith.v1 import dataset_pb2

    session = session_of(ctx)
    with session.client() as client:
        request = dataset_pb2.ListDatasetsRequest()
        show_list(session, client.datasets.ListDatasets, request, COLUMNS, limit=limit, every=every)


@dataset.command()
@click.argument("dataset", shell_complete=DATASETS)
@click.pass_context
def get(ctx: click.Context, dataset: str) -> None:
    """Show one data set."""
    from tunesmith.client.names import resolve_dataset
    from tunesmith.v1 import dataset_pb2

    session = session_of(ctx)
    with session.client() as client:
        request = dataset_pb2.GetDatasetRequest(dataset_id=resolve_dataset(client, dataset))
        response = client.datasets.GetDataset(request)
    session.out.response(response, response.dataset)


@dataset.command()
@click.argument("source", metavar="DATASET|VERSION", shell_complete=DATASETS)
@limit_options
@click.pass_context
def samples(ctx: click.Context, source: str, limit: int, every: bool) -> None:
    """List the samples of a data set, or of a frozen version (dsv_… or NAME@NUMBER), in the order they were added."""
    from tunesmith.client.names import looks_like_id, resolve_dataset, resolve_dataset_version
    from tunesmith.v1 import dataset_pb2

    session = session_of(ctx)
    with session.client() as client:
        if looks_like_id(source, "dsv") or "@" in source:
            request = dataset_pb2.ListSamplesRequest(dataset_version_id=resolve_dataset_version(client, source))
        else:
            request = dataset_pb2.ListSamplesRequest(dataset_id=resolve_dataset(client, source))
        show_list(session, client.datasets.ListSamples, request, SAMPLE_COLUMNS, limit=limit, every=every)


@dataset.command()
@click.argument("dataset", shell_complete=DATASETS)
@limit_options
@click.pass_context
def comparisons(ctx: click.Context, dataset: str, limit: int, every: bool) -> None:
    """List the comparisons of a data set, in the order they were added: which clip was liked better, best first."""
    from tunesmith.client.names import resolve_dataset
    from tunesmith.v1 import dataset_pb2

    session = session_of(ctx)
    with session.client() as client:
        request = dataset_pb2.ListComparisonsRequest(dataset_id=resolve_dataset(client, dataset))
        show_list(session, client.datasets.ListComparisons, request, COMPARISON_COLUMNS, limit=limit, every=every)


def in_order(comparison: Comparison) -> str:
    """`3fa2c1d0 > 11bc09ef = 77aa2b3c`: clips by the beginning of their digests, best first, `=` between tied ones."""
    text, before = "", 0
    for clip in comparison.clips:
        text += (" = " if clip.rank == before else " > ") if text else ""
        text, before = text + clip.audio_digest[:8], clip.rank
    return text


@dataset.command()
@click.argument("version", metavar="VERSION")
@click.option("--to", "file", type=click.Path(dir_okay=False, path_type=Path), help="Write to this file, not stdout.")
@click.pass_context
def export(ctx: click.Context, version: str, file: Path | None) -> None:
    """Write the JSONL of a frozen version (dsv_…, NAME@NUMBER, or NAME for the newest) to stdout or a file.

    The same version gives the same bytes for ever; they are checked by SHA-256 before the first is written.
    """
    from tunesmith.client.names import resolve_dataset_version
    from tunesmith.client.transfer import download_blob
    from tunesmith.v1 import dataset_pb2

    session = session_of(ctx)
    with session.client() as client:
        request = dataset_pb2.GetDatasetVersionRequest(dataset_version_id=resolve_dataset_version(client, version))
        found = client.datasets.GetDatasetVersion(request).dataset_version
        if file is not None:
            download_blob(client, found.digest, file)
            session.out.note(f"{holding(found)} ({found.dataset_version_id}) written to {file}")
            return
        with tempfile.TemporaryDirectory() as folder:
            whole = download_blob(client, found.digest, Path(folder) / "version.jsonl")
            sys.stdout.buffer.write(whole.read_bytes())


@dataset.command("make-demo", cls=LocalCommand)
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.pass_context
def make_demo(ctx: click.Context, folder: Path) -> None:
    """Write 24 synthesised clips and their ratings to DIR, to try things with. Exit code 4: DIR is not empty."""
    from services.cli.model import require_empty
    from services.cli.train_extra import require_train_extra

    require_empty(folder)
    require_train_extra()
    from trainer_node.data.demo import write_demo

    session = session_of(ctx)
    rated = write_demo(folder, seed=0)
    session.out.facts([("rated", rated)])
    session.out.note(f"next: tunesmith dataset import {shlex.quote(str(rated))} --to NAME")
