"""`tunesmith adapter export` and `lineage`: an adapter for other programs, and where it comes from."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from services.cli.base_models import models_dir_and_name
from services.cli.commands import ClientCommand, session_of
from services.cli.completion import ADAPTERS
from services.cli.model import require_empty
from services.cli.output import Column
from services.cli.train_extra import require_train_extra
from trainer_node import peft_folder

if TYPE_CHECKING:
    from services.cli.session import Session
    from trainer_node.engines.musicgen.export import Adapter

FORMATS = ("peft", "merged", "audiocraft")
NEXT = {
    "peft": "README.md in it shows how to load it",
    "merged": "README.md in it shows how to load it; `--base-model` takes it, too",
    "audiocraft": "load it with audiocraft.models.MusicGen.get_pretrained",
}
LINEAGE = (
    Column("kind", lambda one: one.kind),
    Column("name", lambda one: f"{one.name}@{one.version}" if one.version else one.name),
    Column("adapter_id", lambda one: one.adapter_id),
    Column("dataset_version_id", lambda one: one.dataset_version_id),
)


@click.command(cls=ClientCommand)
@click.argument("adapter", shell_complete=ADAPTERS)
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--format",
    "form",
    required=True,
    type=click.Choice(FORMATS),
    help="peft: the matrices alone; merged: one whole model for transformers; audiocraft: for MusicGen.get_pretrained.",
)
@click.option(
    "--base-model",
    default="",
    metavar="DIR|HF_ID",
    help="What the adapter was trained on; found by the name that the adapter has for it where not given.",
)
@click.option(
    "--text-encoder",
    default="",
    metavar="NAME",
    help="audiocraft's name of the base model's T5, where its shape does not tell.",
)
@click.pass_context
def export(ctx: click.Context, adapter: str, folder: Path, form: str, base_model: str, text_encoder: str) -> None:
    """Write an adapter to DIR in a form that other programs load, with a model card.

    ADAPTER is registered (id, prefix, `name@version` or name) or a PEFT folder. The base model is checked: merged into
    another one than it was trained on, an adapter would sound wrong. DIR is written whole or not at all.

    Exit codes: 2 the format cannot say what the model is, 4 DIR is not empty, or the base model is another one, 9 the
    base model is missing.
    """
    session = session_of(ctx)
    require_empty(folder)
    models_dir, name = models_dir_and_name(base_model)
    require_train_extra()
    session.out.note("loading PyTorch …")
    from trainer_node.engines.musicgen import export as exports
    from trainer_node.engines.musicgen.model_card import Format

    with _adapter(session, adapter) as found:
        exports.export(found, folder, Format(form), models_dir=models_dir, base_model=name, text_encoder=text_encoder)
        session.out.facts([("folder", folder), ("format", form), ("base_model", found.base_model)])
    session.out.note(NEXT[form])


@contextmanager
def _adapter(session: Session, text: str) -> Iterator[Adapter]:
    """The adapter in a folder of its own: the one that `text` names, or one that is pulled from the registry."""
    from trainer_node.engines.musicgen import export as exports

    local = Path(text).expanduser()
    if "/" in text or (local / peft_folder.CONFIG).is_file():  # no name has a slash in it
        yield exports.local_adapter(local)
        return
    from tunesmith.client.names import resolve_adapter
    from tunesmith.client.transfer import pull_adapter
    from tunesmith.v1 import adapter_pb2

    with tempfile.TemporaryDirectory(prefix="tunesmith-") as pulled, session.client() as client:
        adapter_id = resolve_adapter(client, text)
        one = client.adapters.GetAdapter(adapter_pb2.GetAdapterRequest(adapter_id=adapter_id)).adapter
        report = client.adapters.GetAdapterReport(adapter_pb2.GetAdapterReportRequest(adapter_id=adapter_id)).report
        pull_adapter(client, one, Path(pulled))
        yield exports.Adapter(
            folder=Path(pulled), config=one.training_config, outcome=report, name=f"{one.name}@{one.version}"
        )


@click.command(cls=ClientCommand)
@click.argument("adapter", shell_complete=ADAPTERS)
@click.pass_context
def lineage(ctx: click.Context, adapter: str) -> None:
    """Show the adapters that one was trained from, oldest first, and itself."""
    from tunesmith import spec as specs
    from tunesmith.client.names import resolve_adapter
    from tunesmith.v1 import adapter_pb2, job_event_pb2

    session = session_of(ctx)
    with session.client() as client:
        request = adapter_pb2.GetAdapterRequest(adapter_id=resolve_adapter(client, adapter))
        response = client.adapters.GetAdapter(request)
    found = response.adapter
    itself = job_event_pb2.AdapterOrigin(
        adapter_id=found.adapter_id,
        name=found.name,
        version=found.version,
        kind=specs.kind_of(found.training_config.spec),
        dataset_version_id=found.dataset_version_id,
    )
    chain = [*found.training_config.lineage, itself]
    session.out.entries(response, chain, LINEAGE)
