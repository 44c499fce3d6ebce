"""`tunesmith train`: the same training as a run's, in the foreground, with no control plane."""

from __future__ import annotations

import click

from services.cli.commands import LazyGroup


@click.group(
    cls=LazyGroup,
    members={
        "supervised": ("services.cli.train_kinds:supervised", "Train a LoRA adapter on rated clips."),
        "dpo": ("services.cli.train_kinds:dpo", "Train a LoRA adapter on preference pairs."),
        "ranking": ("services.cli.train_kinds:ranking", "Train a LoRA adapter on ranked lists."),
    },
)
def train() -> None:
    """Train in the foreground, without a control plane."""
