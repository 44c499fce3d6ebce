"""`tunesmith dataset version`: what is frozen of a data set to train on: rated clips, pairs or ranked lists."""

from __future__ import annotations

from typing import Any

import click

from services.cli.commands import LazyGroup, session_of
from services.cli.completion import DATASETS
from services.cli.confirm import confirm
from services.cli.derivation_flags import PAIRS, RANKED_LISTS, derivation_flags, wanted_derivation
from services.cli.listing import limit_options, show_list
from services.cli.output import Column
from services.cli.version_words import count, form, holding

COLUMNS = (
    Column("dataset_version_id", lambda one: one.dataset_version_id),
    Column("dataset_id", lambda one: one.dataset_id),
    Column("number", lambda one: one.number),
    Column("form", form),
    Column("count", count),
    Column("holds", holding),
    Column("create_time", lambda one: one.create_time),
    Column("min_rating", lambda one: one.min_rating if one.HasField("min_rating") else "", wide=True),
    Column("samples", lambda one: one.sample_count, wide=True),
    Column("digest", lambda one: one.digest, wide=True),
)
TRAINED_BY = {PAIRS: " --training-type preference", RANKED_LISTS: " --training-type ranking"}


@click.group(cls=LazyGroup)
def version() -> None:
    """Freeze clips, pairs or ranked lists of a data set; runs train on those. Named by dsv_… or NAME@NUMBER."""


@version.command("create")
@click.argument("dataset", shell_complete=DATASETS)
@click.option("--min-rating", type=float, default=None, help="Lowest rating to let in, 1 to 5; for rated clips.")
@click.option("--pairs", is_flag=True, help="Freeze the preference pairs that follow from ratings and comparisons.")
@click.option("--ranked-lists", is_flag=True, help="Freeze the ranked lists that follow from them.")
@derivation_flags(PAIRS, RANKED_LISTS)
@click.option("--dry-run", is_flag=True, help="Only show what it would hold, and store nothing.")
@click.pass_context
def create_version(
    ctx: click.Context,
    /,
    dataset: str,
    min_rating: float | None,
    pairs: bool,
    ranked_lists: bool,
    dry_run: bool,
    **keywords: Any,
) -> None:
    """Freeze the rated clips that pass the filter, or the pairs or ranked lists that follow from all of them.

    Pairs are what training from preferences takes, ranked lists (or pairs) what ranking takes. Exit code 4: nothing
    passes or follows.
    """
    from tunesmith.client.names import resolve_dataset
    from tunesmith.v1 import dataset_pb2

    session = session_of(ctx)
    request = dataset_pb2.CreateDatasetVersionRequest(min_rating=min_rating, validate_only=dry_run)
    derived = _form(pairs, ranked_lists, keywords)
    if derived:
        getattr(request, derived).CopyFrom(getattr(wanted_derivation(derived, keywords), derived))
    with session.client() as client:
        request.dataset_id = resolve_dataset(client, dataset)
        response = client.datasets.CreateDatasetVersion(request)
    made = response.dataset_version
    session.out.response(response, made)
    session.out.note(f"{'would freeze' if dry_run else 'froze'} {holding(made)}")
    if dry_run:
        session.out.note("nothing was stored (--dry-run)")
        return
    options = f"{TRAINED_BY.get(derived, '')} --dataset-version {made.dataset_version_id}"
    session.out.note(f"next: tunesmith run submit --experiment NAME{options}")


def _form(pairs: bool, ranked_lists: bool, keywords: dict[str, Any]) -> str:
    """What to derive, as a field of Derivation; empty for rated clips."""
    if pairs and ranked_lists:
        raise click.UsageError("--pairs and --ranked-lists do not go together; freeze a version of each")
    given = [name for name, value in keywords.items() if value is not None]
    if given and not (pairs or ranked_lists):
        raise click.UsageError(f"--{given[0].replace('_', '-')} needs --pairs or --ranked-lists")
    return PAIRS if pairs else RANKED_LISTS if ranked_lists else ""


@version.command("list")
@click.argument("dataset", required=False, shell_complete=DATASETS)
@limit_options
@click.pass_context
def list_versions(ctx: click.Context, dataset: str | None, limit: int, every: bool) -> None:
    """List the versions of a data set, or of all, newest first."""
    from tunesmith.client.names import resolve_dataset
    from tunesmith.v1 import dataset_pb2

    session = session_of(ctx)
    with session.client() as client:
        request = dataset_pb2.ListDatasetVersionsRequest()
        if dataset:
            request.dataset_id = resolve_dataset(client, dataset)
        show_list(session, client.datasets.ListDatasetVersions, request, COLUMNS, limit=limit, every=every)


@version.command("get")
@click.argument("version", metavar="VERSION")
@click.pass_context
def get_version(ctx: click.Context, version: str) -> None:
    """Show one version."""
    from tunesmith.client.names import resolve_dataset_version
    from tunesmith.v1 import dataset_pb2

    session = session_of(ctx)
    with session.client() as client:
        request = dataset_pb2.GetDatasetVersionRequest(dataset_version_id=resolve_dataset_version(client, version))
        response = client.datasets.GetDatasetVersion(request)
    session.out.response(response, response.dataset_version)
    session.out.note(f"holds {holding(response.dataset_version)}")


@version.command("delete")
@click.argument("version", metavar="VERSION")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.pass_context
def delete_version(ctx: click.Context, version: str, yes: bool) -> None:
    """Delete a version that nothing uses. Exit code 4: runs or adapters use it; the message names them."""
    from tunesmith.client.names import resolve_dataset_version
    from tunesmith.v1 import dataset_pb2

    session = session_of(ctx)
    with session.client() as client:
        version_id = resolve_dataset_version(client, version)
        confirm("delete the data set version", version_id, yes=yes)
        request = dataset_pb2.DeleteDatasetVersionRequest(dataset_version_id=version_id)
        response = client.datasets.DeleteDatasetVersion(request)
    session.out.response(response)
    session.out.note(f"{version_id} is deleted; its samples are still in the data set")
