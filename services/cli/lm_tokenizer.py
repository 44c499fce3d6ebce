"""`tunesmith lm tokenizer inspect|encode`: how text is cut into pieces."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from services.cli.commands import LocalCommand, session_of
from services.cli.train_extra import NEEDED_FOR_TEXT, require_train_extra
from trainer_node.engines.tinylm import layout

if TYPE_CHECKING:
    from trainer_node.engines.tinylm.tokenizer import Tokenizer

_PATH = click.argument("path", type=click.Path(path_type=Path))


@click.group()
def tokenizer() -> None:
    """Look at how text is cut into pieces."""


@tokenizer.command(cls=LocalCommand)
@_PATH
@click.option("--first", type=click.IntRange(0), default=20, show_default=True, help="How many pieces to list.")
@click.pass_context
def inspect(ctx: click.Context, path: Path, first: int) -> None:
    """Show what a tokenizer holds, and how well it covers the corpus that lies beside it.

    PATH: what `tunesmith lm train` wrote or `tunesmith model download` read, its tokenizer folder, or a
    tokenizer.model.
    """
    out = session_of(ctx).out
    opened = _open(path)
    from trainer_node.engines.tinylm import corpus, inspection

    facts = {"pieces": opened.vocab_size, "byte_fallback": opened.byte_fallback, "fingerprint": opened.fingerprint}
    listed = inspection.pieces(opened)[:first]
    covered = []
    if (path / layout.CORPUS / corpus.MANIFEST).is_file():
        covered = inspection.coverage(opened, corpus.load(path / layout.CORPUS))
    rows = [
        {
            "language": one.language,
            "characters_per_token": one.characters_per_token,
            "unknown_rate": one.unknown_rate,
            "byte_rate": one.byte_rate,
        }
        for one in covered
    ]
    if out.format != "table":
        shown = [{"id": piece.id, "piece": piece.text, "score": piece.score} for piece in listed]
        out.document({**facts, "coverage": rows, "first": shown})
        return
    out.pairs(facts.items())
    for row in rows:
        out.pairs(row.items())
    for piece in listed:
        out.pairs([("id", piece.id), ("piece", piece.text), ("score", piece.score)])


@tokenizer.command(cls=LocalCommand)
@_PATH
@click.argument("text")
@click.pass_context
def encode(ctx: click.Context, path: Path, text: str) -> None:
    """Cut TEXT into pieces: one line each, with its id. `▁` stands for a space, <0x41> for a byte."""
    out = session_of(ctx).out
    opened = _open(path)
    from trainer_node.engines.tinylm import inspection

    cut = inspection.encoded(opened, text)
    if out.format != "table":
        out.document({"ids": [piece.id for piece in cut], "pieces": [piece.text for piece in cut]})
        return
    for piece in cut:
        out.pairs([("id", piece.id), ("piece", piece.text)])


def _open(path: Path) -> Tokenizer:
    """The tokenizer at a path, however it is given."""
    require_train_extra(NEEDED_FOR_TEXT)
    from trainer_node.engines.tinylm import tokenizer as tokenizers

    inside = path / layout.TOKENIZER
    return tokenizers.load(inside if inside.is_dir() else path)
