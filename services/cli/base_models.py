"""How a base model is named on the command line: a folder, a name in ./models, or an id, Hugging Face's or our own."""

from __future__ import annotations

from pathlib import Path

import click

from trainer_node.packaged_model import NAME

MODELS_DIR = Path("models")


def models_dir_and_name(text: str, *, option: str = "--base-model") -> tuple[Path, str]:
    """The folder in which a base model is found by its name, and that name. text: as typed. Raises UsageError."""
    if not text:
        return MODELS_DIR, ""
    folder = Path(text).expanduser()
    if folder.is_dir():
        return folder.resolve().parent, folder.resolve().name
    if text[0] in "/.~" or text.count("/") > 1:
        raise click.UsageError(f"{option} {text}: no such folder; {NAME} comes with Tunesmith, and needs none")
    return MODELS_DIR, text
