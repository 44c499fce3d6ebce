"""`tunesmith lm sample|eval`: what a model writes, and how well it tells a text."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click

from services.cli.commands import LocalCommand, session_of
from services.cli.terminal import escape
from services.cli.train_extra import NEEDED_FOR_TEXT, require_train_extra

PROMPT = "The old man"  # with which people try a model first

_MODEL = click.argument("model_dir", type=click.Path(path_type=Path))


def command_to_try(folder: str) -> str:
    """What to type to let the model in a folder write."""
    return shlex.join(["tunesmith", "lm", "sample", folder]) + f' "{PROMPT}"'


@click.command(cls=LocalCommand)
@_MODEL
@click.argument("prompt", default="")
@click.option("--temperature", type=float, default=0.8, show_default=True, help="0 takes the likeliest piece.")
@click.option("--top-k", type=int, default=40, show_default=True, help="Draw from so many pieces; 0: from all.")
@click.option("--max-tokens", type=int, default=60, show_default=True, help="Pieces to write at most.")
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed gives the same text.")
@click.pass_context
def sample(
    ctx: click.Context, model_dir: Path, prompt: str, temperature: float, top_k: int, max_tokens: int, seed: int
) -> None:
    """Let a model go on with PROMPT, or begin a text of its own.

    MODEL_DIR: what `tunesmith lm train` wrote, or `tunesmith model download` read; its best model is taken, or the one
    .pt file that is named.
    """
    out = session_of(ctx).out
    require_train_extra(NEEDED_FOR_TEXT)
    from trainer_node.engines.tinylm import trained
    from trainer_node.engines.tinylm.settings import SamplingSettings

    settings = SamplingSettings(max_tokens=max_tokens, temperature=temperature, top_k=top_k, seed=seed)
    opened = trained.open_folder(model_dir)
    if opened.loaded.about.get("synthetic"):
        out.note("this model learned from SYNTHETIC text, which means nothing")
    parts = trained.written(opened.model, opened.tokenizer, prompt, settings)
    if out.format != "table":
        out.document({"prompt": prompt, "text": "".join(parts), "seed": seed})
        return
    for part in parts:
        click.echo(escape(part), file=out.answers, nl=False)
        out.answers.flush()
    click.echo(file=out.answers)


@click.command("eval", cls=LocalCommand)
@_MODEL
@click.argument("file", type=click.Path(path_type=Path))
@click.pass_context
def evaluate(ctx: click.Context, model_dir: Path, file: Path) -> None:
    """Measure how well a model tells the text in FILE: loss in nats a token, perplexity, bits a character.

    Bits a character compare models with different tokenizers; the loss of a token does not.
    """
    out = session_of(ctx).out
    require_train_extra(NEEDED_FOR_TEXT)
    from trainer_node.engines.tinylm import trained

    facts: dict[str, Any] = trained.score_file(trained.open_folder(model_dir), file).facts()
    if out.format != "table":
        out.document(facts)
        return
    out.pairs(facts.items())
