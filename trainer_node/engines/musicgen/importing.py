"""audiocraft's checkpoints as base models: folders like any other that a training starts from."""

from __future__ import annotations

from pathlib import Path

from trainer_node import preflight
from trainer_node.engines.musicgen import model_card, model_folder, quiet
from trainer_node.engines.musicgen.interop import reading


def import_checkpoint(checkpoint: Path, folder: Path, *, like: str, models_dir: Path) -> str:
    """Write the base model of a checkpoint into a folder that is new or empty; see reading.read.

    Returns the name of the model whose T5, EnCodec and tokenizer it got.
    """
    with quiet.quietly(), model_folder.written_whole(folder) as beside:
        base, like = reading.read(checkpoint, like=like, models_dir=models_dir)
        model_folder.write(base, beside)
        licence = model_card.licence_of(like, preflight.find_base_model(models_dir, like))
        card = model_card.of_import(checkpoint.name, like=like, licence=licence)
        (beside / model_card.FILE).write_text(card, encoding="utf-8")
    return like
