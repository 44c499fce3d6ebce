"""`tunesmith lm`: a small language model, from text to samples."""

from __future__ import annotations

import click

from services.cli.commands import LazyGroup


@click.group(
    cls=LazyGroup,
    members={
        "train": (
            "services.cli.lm_train:train",
            "Make a language model: corpus, tokenizer, training, samples, report.",
        ),
        "sample": ("services.cli.lm_use:sample", "Let a model go on with a text."),
        "eval": ("services.cli.lm_use:evaluate", "Measure how well a model tells a text."),
        "tokenizer": ("services.cli.lm_tokenizer:tokenizer", "Look at how text is cut into pieces."),
    },
)
def lm() -> None:
    """Make a small language model from text, and try it."""
