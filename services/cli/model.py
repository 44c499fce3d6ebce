"""`tunesmith model`: language models that runs have made, and base models to train from.

The latter are made here, or taken over from audiocraft; they are folders of this machine and ask no control plane.
"""

from __future__ import annotations

from pathlib import Path

import click

from services.cli.base_models import models_dir_and_name
from services.cli.commands import LazyGroup, LocalCommand, session_of
from services.cli.train_extra import require_train_extra
from tunesmith.errors import TunesmithError


class FolderNotEmpty(TunesmithError):
    """A folder to write to holds something already."""

    reason = "FOLDER_NOT_EMPTY"


def require_empty(folder: Path) -> None:
    """Raises FolderNotEmpty."""
    if folder.exists() and any(folder.iterdir()):
        raise FolderNotEmpty(f"{folder} is not empty; name a new folder", folder=folder)


@click.group(
    cls=LazyGroup,
    members={
        "list": ("services.cli.model_registry:list_", "List language models, newest first."),
        "get": ("services.cli.model_registry:get", "Show one language model."),
        "report": ("services.cli.model_registry:report", "Print the report of the run that made a language model."),
        "label": ("services.cli.model_registry:label", "Set labels of a language model."),
        "download": ("services.cli.model_registry:download", "Read a language model with its tokenizer."),
        "train-micro": ("services.cli.model_micro:train_micro", "Train the base model that comes with Tunesmith."),
    },
)
def model() -> None:
    """List, label and download language models that runs have made; make and import base models of music.

    MODEL is a language model's id, a prefix, `name@version` or a name. A base model is a folder on this machine.
    """


@model.command("make-tiny", cls=LocalCommand)
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option("--stereo", is_flag=True, help="Two channels instead of one.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="The same seed, the same weights.")
@click.pass_context
def make_tiny(ctx: click.Context, folder: Path, stereo: bool, seed: int) -> None:
    """Write a complete MusicGen folder with small random weights to DIR, in seconds.

    It is loaded like facebook/musicgen-small, trains on a laptop and sounds like noise. Exit code 4: DIR is not empty.
    """
    require_train_extra()
    from trainer_node.engines.musicgen.tiny import make_tiny as write

    session = session_of(ctx)
    require_empty(folder)
    write(folder, stereo=stereo, seed=seed)
    session.out.facts([("base_model", folder), ("stereo", stereo), ("seed", seed)])
    session.out.note(f"next: tunesmith train supervised --base-model {folder} --dataset rated.jsonl --output out")


@model.command("import-audiocraft", cls=LocalCommand)
@click.argument("checkpoint", metavar="FILE", type=click.Path(exists=True, path_type=Path))
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--like",
    default="",
    metavar="DIR|HF_ID",
    help="MusicGen model with the same T5, EnCodec and tokenizer; Meta's of the same size where not given.",
)
@click.pass_context
def import_audiocraft(ctx: click.Context, checkpoint: Path, folder: Path, like: str) -> None:
    """Make a base model in DIR of an audiocraft checkpoint.

    FILE is an exported state_dict.bin, or the folder that holds it; a compression_state_dict.bin beside it is taken,
    too. Nothing in it is run: only tensors and text are read. DIR is written whole or not at all.

    Exit codes: 2 FILE is no such checkpoint, 4 DIR is not empty, 9 the model to be like is missing.
    """
    session = session_of(ctx)
    require_empty(folder)
    models_dir, name = models_dir_and_name(like, option="--like")
    require_train_extra()
    session.out.note("loading PyTorch …")
    from trainer_node.engines.musicgen.importing import import_checkpoint

    like = import_checkpoint(checkpoint, folder, like=name, models_dir=models_dir)
    session.out.facts([("base_model", folder), ("like", like)])
    session.out.note(f"next: tunesmith train supervised --base-model {folder} --dataset rated.jsonl --output out")
